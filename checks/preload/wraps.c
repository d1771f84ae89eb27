/* A preload that wraps what libfakeroot wraps, and counts who comes while the program is in a call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#define open open_of_the_header
#define open64 open64_of_the_header
#define openat openat_of_the_header
#define openat64 openat64_of_the_header
#include <fcntl.h>
#undef open
#undef open64
#undef openat
#undef openat64
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

int in_a_call, entered;

#define WRAP(answer, name, parameters, arguments)                      \
    answer name parameters                                             \
    {                                                                  \
        answer (*next) parameters = (answer (*) parameters)dlsym(RTLD_NEXT, #name); \
        entered += in_a_call;                                          \
        return next arguments;                                         \
    }

WRAP(int, stat, (const char *p, struct stat *s), (p, s))
WRAP(int, lstat, (const char *p, struct stat *s), (p, s))
WRAP(int, fstat, (int d, struct stat *s), (d, s))
WRAP(int, fstatat, (int d, const char *p, struct stat *s, int f), (d, p, s, f))
WRAP(int, stat64, (const char *p, struct stat64 *s), (p, s))
WRAP(int, fstat64, (int d, struct stat64 *s), (d, s))
WRAP(int, fstatat64, (int d, const char *p, struct stat64 *s, int f), (d, p, s, f))
WRAP(int, statx, (int d, const char *p, int f, unsigned m, struct statx *s), (d, p, f, m, s))
WRAP(int, chown, (const char *p, uid_t u, gid_t g), (p, u, g))
WRAP(int, fchown, (int d, uid_t u, gid_t g), (d, u, g))
WRAP(int, chmod, (const char *p, mode_t m), (p, m))
WRAP(int, fchmod, (int d, mode_t m), (d, m))
WRAP(int, unlink, (const char *p), (p))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m))
WRAP(uid_t, getuid, (void), ())
WRAP(uid_t, geteuid, (void), ())
WRAP(gid_t, getgid, (void), ())
WRAP(gid_t, getegid, (void), ())
WRAP(pid_t, getpid, (void), ())
WRAP(int, open, (const char *p, int f, mode_t m), (p, f, m))
WRAP(int, open64, (const char *p, int f, mode_t m), (p, f, m))
WRAP(int, openat, (int d, const char *p, int f, mode_t m), (d, p, f, m))
WRAP(int, openat64, (int d, const char *p, int f, mode_t m), (d, p, f, m))
WRAP(ssize_t, read, (int d, void *b, size_t n), (d, b, n))
WRAP(ssize_t, write, (int d, const void *b, size_t n), (d, b, n))
