/* Threads that are cancelled in calls. Exits with the line that failed, or 0. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <unistd.h>

#define CHECK(c) do { if (!(c)) { printf("line %d: %s\n", __LINE__, strerror(errno)); exit(1); } } while (0)

struct message { long type; char text[4096]; };
static int queue, set;
static volatile pid_t thread;
static volatile int ready;

static void *receives(void *unused)
{
    struct message m;
    thread = gettid();
    msgrcv(queue, &m, sizeof m.text, 0, 0);
    return unused;
}

static void *sends(void *unused)
{
    static struct message m = {1, ""};
    thread = gettid();
    msgsnd(queue, &m, sizeof m.text, 0);
    return unused;
}

static void *receives_all_the_same(void *unused)
{
    struct message m;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
    thread = gettid();
    return msgrcv(queue, &m, sizeof m.text, 7, 0) == 5 ? &queue : unused;
}

static void *takes(void *unused)
{
    struct sembuf take = {0, -1, 0};
    thread = gettid();
    if (semop(set, &take, 1) != 0)
        return unused;
    ready = 1;
    pthread_testcancel();
    return unused;
}

static pthread_t start(void *(*body)(void *))
{
    pthread_t started;
    char path[64], state = 0;
    thread = 0;
    CHECK(pthread_create(&started, NULL, body, NULL) == 0);
    while (!thread)
        usleep(100);
    /* Until it sleeps. */
    sprintf(path, "/proc/self/task/%d/stat", thread);
    for (int i = 0; state != 'S' && i < 100000; i++) {
        FILE *stat = fopen(path, "r");
        CHECK(stat && fscanf(stat, "%*d (%*[^)]) %c", &state) == 1);
        fclose(stat);
        usleep(100);
    }
    CHECK(state == 'S');
    return started;
}

int main(void)
{
    struct message m = {1, "abcd"};
    struct msqid_ds status;
    void *result;
    pthread_t t;
    queue = msgget(IPC_PRIVATE, 0600);
    set = semget(IPC_PRIVATE, 1, 0600);
    CHECK(queue >= 0 && set >= 0);

    t = start(receives);
    CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    /* Nothing is handed to who is no more. */
    CHECK(msgsnd(queue, &m, 4, 0) == 0);
    CHECK(msgrcv(queue, &m, 4, 0, IPC_NOWAIT) == 4);

    /* Two who sleep; one of them is meant. */
    t = start(receives_all_the_same);
    pthread_t other = start(receives);
    CHECK(pthread_cancel(t) == 0 && pthread_cancel(other) == 0);
    CHECK(pthread_join(other, &result) == 0 && result == PTHREAD_CANCELED);
    m.type = 7;
    CHECK(msgsnd(queue, &m, 5, 0) == 0);
    CHECK(pthread_join(t, &result) == 0 && result == &queue);

    while (msgsnd(queue, &m, 4096, IPC_NOWAIT) == 0)
        ;
    CHECK(errno == EAGAIN && msgctl(queue, IPC_STAT, &status) == 0);
    unsigned long before = status.msg_qnum;
    t = start(sends);
    CHECK(pthread_cancel(t) == 0 && pthread_join(t, &result) == 0);
    CHECK(result == PTHREAD_CANCELED);
    CHECK(msgrcv(queue, &m, 4096, 0, 0) == 4096 && msgctl(queue, IPC_STAT, &status) == 0);
    CHECK(status.msg_qnum == before - 1);

    /* semop is none. */
    t = start(takes);
    CHECK(pthread_cancel(t) == 0);
    struct sembuf give = {0, 1, 0};
    CHECK(semop(set, &give, 1) == 0);
    CHECK(pthread_join(t, &result) == 0 && ready == 1 && result == PTHREAD_CANCELED);
    errno = 0;
    CHECK(msgctl(queue, IPC_RMID, NULL) == 0 && semctl(set, 0, IPC_RMID) == 0 && errno == 0);
    return 0;
}
