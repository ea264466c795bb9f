/* Fences that one process sends to others: Linux's membarrier(2), from 4.16 on.
 *
 * A worker that had a fence of its own between a store and a load for each item would take twice or thrice as long for a small one; the
 * caller needs it a few times a second at most. It costs 2 us where a worker runs on another CPU, by an interrupt there, and 0.2 us else
 * (an Intel Xeon of 2023, a virtual machine). Processes that are not running have passed one when they were switched away. */
#define _GNU_SOURCE
#include "fence.h"

#include <sys/syscall.h>
#include <unistd.h>

#if !defined(SYS_membarrier)
#define SYS_membarrier (-1)             /* older headers: ENOSYS */
#endif

/* <linux/membarrier.h>, which not all that we are built with has. */
enum { GLOBAL_EXPEDITED = 1 << 1, REGISTER_GLOBAL_EXPEDITED = 1 << 2 };

int fence_accept(void)
{
    return syscall(SYS_membarrier, REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

int fence_send(void)
{
    return syscall(SYS_membarrier, GLOBAL_EXPEDITED, 0, 0) == 0;
}
