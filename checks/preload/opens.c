/* Opens a module that only the RUNPATH of this program leads to, with RTLD_DEEPBIND. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/msg.h>

int main(void)
{
    int (*queue_of)(int);
    int (*of_libc)(int, int);
    msgget(IPC_PRIVATE, 0600);
    int id = msgget(0x74000002, IPC_CREAT | 0600);
    void *module = dlopen("module.so", RTLD_NOW | RTLD_DEEPBIND);
    if (!module) {
        puts(dlerror());
        return 1;
    }
    queue_of = (int (*)(int))dlsym(module, "queue_of");
    of_libc = (int (*)(int, int))dlsym(dlopen("libc.so.6", RTLD_NOW), "msgget");
    printf("%d %d %d\n", id, queue_of(0x74000002), of_libc(0x74000002, 0));
    if (dlsym(module, "no such name") || !dlerror() || dlsym(RTLD_NEXT, "puts") == NULL)
        return 1;
    /* Another loader's name space has a libc of its own. */
    return dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW) == NULL;
}
