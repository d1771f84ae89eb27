/* The shared memory server and client of the textbooks: serve KEY TEXT, read KEY. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>

#define SIZE 4096

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    int serve = strcmp(argv[1], "serve") == 0;
    int id = shmget((key_t)atoi(argv[2]), serve ? SIZE : 0, serve ? IPC_CREAT | 0666 : 0);
    if (id < 0) {
        perror("shmget");
        return 1;
    }
    char *shared = shmat(id, NULL, serve ? 0 : SHM_RDONLY);
    if (shared == (char *)-1) {
        perror("shmat");
        return 1;
    }
    if (serve)
        strncpy(shared, argv[3], SIZE - 1);
    else
        printf("%.*s\n", SIZE, shared);
    return shmdt(shared) == 0 ? 0 : 1;
}
