#include <sys/msg.h>
int queue_of(int key) { return msgget(key, 0); }
