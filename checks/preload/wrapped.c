/* Makes every call while another preload listens. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

extern int in_a_call, entered;
#define CHECK(c) do { in_a_call = 1; int good = (c); in_a_call = 0; \
    if (!good || entered) { printf("line %d: entered %d times: %s\n", __LINE__, entered, strerror(errno)); exit(1); } } while (0)

static void calls(void)
{
    struct { long type; char text[8]; } m = {1, "x"};
    struct sembuf give = {0, 1, SEM_UNDO};
    struct shmid_ds segment;
    struct msqid_ds queue;
    struct semid_ds set;
    key_t key;
    char *at;
    int id;
    CHECK((key = ftok("/", 5)) != -1);
    CHECK((id = shmget(key, 100, IPC_CREAT | 0600)) >= 0);
    CHECK((at = shmat(id, NULL, 0)) != (char *)-1);
    CHECK(shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_nattch >= 1);
    CHECK(shmctl(id, IPC_SET, &segment) == 0);
    CHECK(shmdt(at) == 0 && shmctl(id, IPC_RMID, NULL) == 0);
    CHECK((id = msgget(key, IPC_CREAT | 0600)) >= 0);
    CHECK(msgsnd(id, &m, 2, 0) == 0 && msgrcv(id, &m, 8, 0, 0) == 2);
    CHECK(msgctl(id, IPC_STAT, &queue) == 0 && msgctl(id, IPC_SET, &queue) == 0);
    CHECK(msgctl(id, IPC_RMID, NULL) == 0);
    CHECK((id = semget(key, 1, IPC_CREAT | 0600)) >= 0);
    CHECK(semop(id, &give, 1) == 0 && semctl(id, 0, GETVAL) == 1);
    CHECK(semctl(id, 0, IPC_STAT, &set) == 0 && semctl(id, 0, IPC_RMID) == 0);
}

int main(void)
{
    int status;
    calls();
    pid_t child = fork();
    if (child == 0) {
        calls();
        _exit(0);
    }
    return waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
