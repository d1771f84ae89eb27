/* The client: waits until the text in the segment is complete, and displays it. */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/shm.h>
#include <unistd.h>

struct message { _Atomic uint32_t state; uint32_t length; char text[]; };

static void need(int holds, const char *what) {
    if (!holds) { perror(what); exit(1); }
}

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: client KEYFILE\n"); return 2; }
    int id;
    key_t key = ftok(argv[1], 'T');
    need(key != -1, argv[1]);
    while ((id = shmget(key, 0, 0)) == -1 && errno == ENOENT) usleep(1000);
    need(id != -1, "shmget");
    struct message *message = shmat(id, NULL, SHM_RDONLY);
    need(message != (void *)-1, "shmat");
    /* Acquire: with the mark come the length and the text. */
    while (atomic_load_explicit(&message->state, memory_order_acquire) != 1) usleep(1000);
    struct shmid_ds status;
    need(shmctl(id, IPC_STAT, &status) == 0, "shmctl");
    uint32_t length = message->length;
    errno = EPROTO;
    need(sizeof *message + length <= status.shm_segsz, "length"); /* not what a server writes */
    need(fwrite(message->text, 1, length, stdout) == length, "stdout");
    return shmdt(message) == 0 ? 0 : 1;
}
