/* Opens what the kernel shows of System V objects, in every way. Exits with 0 or says the line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <unistd.h>

#define CHECK(c) do { if (!(c)) { printf("line %d: %s\n", __LINE__, strerror(errno)); exit(1); } } while (0)
#define PATH "/proc/sysvipc/msg"

int __open_2(const char *, int);
int __open64_2(const char *, int);
int __openat_2(int, const char *, int);
int __openat64_2(int, const char *, int);

static void check(int descriptor, int flags)
{
    char text[4096], first[32];
    CHECK(descriptor >= 0);
    ssize_t length = read(descriptor, text, sizeof text - 1);
    CHECK(length > 0);
    text[length] = 0;
    sprintf(first, "%10d ", 0x74000004);
    CHECK(strstr(text, first));
    CHECK(fcntl(descriptor, F_GETFD) == flags);
    CHECK(write(descriptor, "x", 1) == -1);
    CHECK(close(descriptor) == 0);
}

int main(void)
{
    CHECK(msgget(0x74000004, IPC_CREAT | 0600) >= 0);
    int lowest = dup(0);
    CHECK(close(lowest) == 0);
    check(open(PATH, O_RDONLY), 0);
    check(open(PATH, O_RDONLY | O_CLOEXEC), FD_CLOEXEC);
    check(open64(PATH, O_RDONLY), 0);
    check(openat(AT_FDCWD, PATH, O_RDONLY), 0);
    check(openat64(-1, PATH, O_RDONLY | O_CLOEXEC), FD_CLOEXEC);
    check(__open_2(PATH, O_RDONLY), 0);
    check(__open64_2(PATH, O_RDONLY), 0);
    check(__openat_2(-1, PATH, O_RDONLY), 0);
    check(__openat64_2(-1, PATH, O_RDONLY), 0);
    FILE *stream = fopen(PATH, "r");
    CHECK(stream && fileno(stream) == lowest);
    check(dup(fileno(stream)), 0);
    CHECK(fclose(stream) == 0);
    CHECK((stream = fopen64(PATH, "re")) && fcntl(fileno(stream), F_GETFD) == FD_CLOEXEC);
    CHECK(fclose(stream) == 0);
    CHECK(fopen("/proc/sys/kernel/msgmax", "r+") == NULL && errno == EROFS);
    CHECK(open("/proc/sys/kernel/sem", O_WRONLY | O_TRUNC) == -1 && errno == EROFS);
    char number[32] = "";
    long bytes = 0;
    int limit = open("/proc/sys/kernel/msgmnb", O_RDONLY);
    CHECK(read(limit, number, 31) > 0 && atol(number) == 67108864 && close(limit) == 0);
    /* Other ways to write the same path. */
    check(open("/proc//sys/../sysvipc/./msg", O_RDONLY), 0);
    int folder = open("/proc", O_RDONLY | O_DIRECTORY);
    check(openat(folder, "sysvipc/msg", O_RDONLY), 0);
    CHECK(openat(folder, "sys/kernel/msgmax", O_RDWR) == -1 && errno == EROFS);
    CHECK(close(folder) == 0);
    char here[4096];
    CHECK(getcwd(here, sizeof here));
    CHECK(chdir("/proc/sysvipc") == 0 || chdir("/proc/sys") == 0);
    check(open("../sysvipc/msg", O_RDONLY), 0);
    CHECK(chdir("/proc/sys/kernel") == 0);
    CHECK((stream = fopen("msgmnb", "r")) && fscanf(stream, "%ld", &bytes) == 1 && bytes == 67108864);
    CHECK(fclose(stream) == 0);
    CHECK(chdir(here) == 0);
    int mine = open("msg", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(mine == lowest && write(mine, "x", 1) == 1 && close(mine) == 0);
    CHECK(openat(77, "msg", O_RDONLY) == -1 && errno == EBADF);
    /* What is none of these is as it was. */
    CHECK(open((char *)8, O_RDONLY) == -1 && errno == EFAULT);
    CHECK(open("/proc/sysvipc/none", O_RDONLY) == -1 && errno == ENOENT);
    CHECK(fopen("/proc/self/status", "x") == NULL && errno == EINVAL);
    int made = open("made", O_RDWR | O_CREAT | O_EXCL, 0640);
    CHECK(made == lowest && write(made, "x", 1) == 1);
    errno = 7;
    close(open(PATH, O_RDONLY));
    CHECK(errno == 7);
    return 0;
}
