/* The server: puts the text of a file into a segment, and marks it complete. */
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/shm.h>
#include <sys/stat.h>

struct message { _Atomic uint32_t state; uint32_t length; char text[]; };

static void need(int holds, const char *what) {
    if (!holds) { perror(what); exit(1); }
}

int main(int argc, char **argv) {
    if (argc != 3) { fprintf(stderr, "usage: server KEYFILE INPUT\n"); return 2; }
    struct stat info;
    FILE *input = fopen(argv[2], "rb");
    need(input && fstat(fileno(input), &info) == 0, argv[2]);
    key_t key = ftok(argv[1], 'T');
    need(key != -1, argv[1]);
    int id = shmget(key, sizeof(struct message) + info.st_size, IPC_CREAT | IPC_EXCL | 0644);
    need(id != -1, "shmget");
    struct message *message = shmat(id, NULL, 0);
    need(message != (void *)-1, "shmat");
    message->length = fread(message->text, 1, info.st_size, input);
    /* Release: whoever sees the mark sees the length and the text. */
    atomic_store_explicit(&message->state, 1, memory_order_release);
    printf("segment %d: %u bytes\n", id, message->length);
    return shmdt(message) == 0 ? 0 : 1; /* the segment stays */
}
