/* Calls before and after main. */
#include <stdio.h>
#include <sys/msg.h>
#include <sys/shm.h>

static int id;
__attribute__((constructor)) static void begin(void) { id = shmget(0x74000003, 100, IPC_CREAT | 0600); }
__attribute__((destructor)) static void end(void)
{
    printf("%d %d\n", id, shmget(0x74000003, 0, 0));
}
int main(void) { return 0; }
