/* Starts itself again, by the way that its argument names, with an environment of one entry, and
   says as what id the queue of a key is known there. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEY 0x74000001
static char *one[] = {"ONE=1", NULL};
extern char **environ;

static int is(const char *way, const char *name) { return strcmp(way, name) == 0; }

static void start(const char *way, char *me)
{
    char *arguments[] = {me, "-", NULL};
    pid_t pid;
    if (is(way, "execve")) execve(me, arguments, one);
    if (is(way, "execle")) execle(me, me, "-", NULL, one);
    if (is(way, "execvpe")) execvpe(me, arguments, one);
    if (is(way, "fexecve")) fexecve(open(me, O_RDONLY | O_CLOEXEC), arguments, one);
    if (is(way, "execveat")) execveat(AT_FDCWD, me, arguments, one, 0);
    if (is(way, "posix_spawn") || is(way, "posix_spawnp")) {
        int (*spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                     const posix_spawnattr_t *, char *const[], char *const[]);
        spawn = is(way, "posix_spawn") ? posix_spawn : posix_spawnp;
        if (spawn(&pid, me, NULL, NULL, arguments, one) == 0) waitpid(pid, NULL, 0);
        exit(0);
    }
    environ = one;
    if (is(way, "number")) syscall(SYS_execve, me, arguments, one);
    if (is(way, "numberat")) syscall(SYS_execveat, AT_FDCWD, me, arguments, one, 0);
    if (is(way, "system") || is(way, "popen")) {
        char command[4096], byte;
        snprintf(command, sizeof command, "%s -; exit 3", me);
        if (is(way, "system")) exit(WEXITSTATUS(system(command)) != 3 || !system(NULL));
        FILE *pipe = popen(command, "r");
        while (fread(&byte, 1, 1, pipe) == 1) putchar(byte);
        exit(WEXITSTATUS(pclose(pipe)) != 3);
    }
    if (is(way, "execv")) execv(me, arguments);
    if (is(way, "execvp")) execvp(me, arguments);
    if (is(way, "execl")) execl(me, me, "-", "2", "3", "4", "5", "6", "7", NULL);
    if (is(way, "execlp")) execlp(me, me, "-", NULL);
    if (is(way, "vfork")) {
        if ((pid = vfork()) == 0) {
            execve(me, arguments, one);
            _exit(1);
        }
        waitpid(pid, NULL, 0);
        exit(0);
    }
    perror(way);
    exit(1);
}

int main(int count, char **arguments)
{
    if (is(arguments[1], "-")) {
        printf("%d arguments, ONE=%s, queue %d\n", count, getenv("ONE"), msgget(KEY, 0));
        return 0;
    }
    msgget(IPC_PRIVATE, 0600);
    printf("queue %d\n", msgget(KEY, IPC_CREAT | 0600));
    fflush(stdout);
    if (count > 2) {
        /* More entries than there is room for on the stack. */
        for (int i = 0; i < 2000; i++) {
            char entry[32];
            sprintf(entry, "MANY%d", i);
            setenv(entry, "x", 1);
        }
        unsetenv("TOMBOLO_SPACE");
        setenv("LD_PRELOAD", "", 1);
        setenv("ONE", "1", 1);
        execl(arguments[0], arguments[0], "-", NULL);
    }
    start(arguments[1], arguments[0]);
}
