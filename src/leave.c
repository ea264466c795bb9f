/* Leaving a forked child.
 *
 * Runs in children that we forked off the host and that run its functions. Nothing of the host's may run at their end: not its exit
 * handlers, and of stdio only stdout and stderr are flushed, since fflush(NULL) hangs where another thread of the host sat in fgets
 * at the fork. A function that calls exit() gets our handler first, which is the latest registered, and leaves there. */
#define _GNU_SOURCE
#include "leave.h"

#include "buffers.h"

#include <stdlib.h>
#include <unistd.h>

noreturn void leave(int status)
{
    buffers_flush();
    _exit(status);
}

#ifdef __GLIBC__
static void end(int status, void *unused)
{
    (void)unused;
    leave(status);
}

void leave_at_exit(void)
{
    on_exit(end, NULL);
}
#else
static void end(void)
{
    leave(EXIT_FAILURE);
}

void leave_at_exit(void)
{
    atexit(end);
}
#endif
