/* A program that makes System V calls, for `tombolo run`: a word says which. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

struct message {
    long type;
    char text[1 << 20];
};

static int failed(const char *call)
{
    printf("%s: %s\n", call, strerror(errno));
    return 1;
}

/* Says by a file that it has come so far. */
static void mark(const char *path)
{
    char draft[4096];
    snprintf(draft, sizeof draft, "%s.draft", path);
    FILE *file = fopen(draft, "w");
    fprintf(file, "%d", (int)getpid());
    fclose(file);
    rename(draft, path);
}

/* new KEY: a set that nobody has yet. */
static int new(char **words)
{
    int id = semget(atoi(words[0]), 1, IPC_CREAT | IPC_EXCL | 0600);
    if (id < 0)
        return failed("semget");
    printf("%d\n", id);
    return 0;
}

/* hold KEY FILE: makes a set and an attached segment, says so, and stays. */
static int hold(char **words)
{
    int set = semget(atoi(words[0]), 1, IPC_CREAT | 0600);
    int segment = shmget(atoi(words[0]), 10000, IPC_CREAT | 0600);
    if (set < 0 || segment < 0 || shmat(segment, NULL, 0) == (void *)-1)
        return failed("hold");
    mark(words[1]);
    pause();
    return 0;
}

/* stay FILE: makes no call at all. */
static int stay(char **words)
{
    mark(words[0]);
    pause();
    return 0;
}

/* send KEY LENGTH */
static int send(char **words)
{
    static struct message message = {1, "hello"};
    int queue = msgget(atoi(words[0]), IPC_CREAT | 0600);
    if (queue < 0 || msgsnd(queue, &message, atoi(words[1]), IPC_NOWAIT) != 0)
        return failed("msgsnd");
    return 0;
}

/* receive KEY: waits for a message and writes its text. */
static int receive(char **words)
{
    static struct message message;
    int queue = msgget(atoi(words[0]), IPC_CREAT | 0600);
    ssize_t length = msgrcv(queue, &message, sizeof message.text, 0, 0);
    if (length < 0)
        return failed("msgrcv");
    printf("%zd %s\n", length, message.text);
    return 0;
}

/* rounds COUNT: a child and its parent take turns. */
static int rounds(char **words)
{
    int set = semget(IPC_PRIVATE, 2, 0600);
    int count = atoi(words[0]);
    pid_t child = fork();
    for (int i = 0; i < count; i++) {
        struct sembuf give = {child == 0, 1, 0}, take = {child != 0, -1, 0};
        if (semop(set, &give, 1) != 0 || semop(set, &take, 1) != 0)
            return failed("semop");
    }
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    semctl(set, 0, IPC_RMID);
    printf("done\n");
    return 0;
}

/* busy FILE: makes calls without end, and says so once. */
static int busy(char **words)
{
    int set = semget(IPC_PRIVATE, 1, 0600);
    for (int i = 0;; i++) {
        struct sembuf give = {0, 1, 0}, take = {0, -1, 0};
        if (semop(set, &give, 1) != 0 || semop(set, &take, 1) != 0)
            return failed("semop");
        if (i == 1000)
            mark(words[0]);
    }
}

int main(int count, char **words)
{
    static const struct {
        const char *word;
        int (*act)(char **);
    } acts[] = {
        {"new", new},         {"hold", hold},     {"stay", stay}, {"send", send},
        {"receive", receive}, {"rounds", rounds}, {"busy", busy},
    };
    for (size_t i = 0; count > 2 && i < sizeof acts / sizeof *acts; i++)
        if (strcmp(words[1], acts[i].word) == 0)
            return acts[i].act(words + 2);
    return 2;
}
