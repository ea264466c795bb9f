/* Where a thread runs, and where it may.
 *
 * Runs in any process and thread. Keeps no state: masks are changed from outside at any time, and the number of the CPU is out of date when
 * it has been read.
 *
 * That number libc reads in memory of the thread's own, where the kernel keeps it (rseq), and so do allocators with a cache for each CPU,
 * which rely on more than the number. The kernel forgets about it in a vfork, since that child runs on its parent's memory, and
 * children of that child get what is left: nothing is kept any more, and what stood there when the nursery was forked is what all its
 * workers would read for ever. cpu_track makes it good, once, in the nursery; forks inherit it. */
#define _GNU_SOURCE
#include "cpu_place.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <unistd.h>
#if defined(__has_include)
#if __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#include <sys/syscall.h>
#endif
#endif

/* This thread's mask, to be freed with CPU_FREE, or NULL. The kernel's may be larger than cpu_set_t; EINVAL says that it is larger than
 * what was offered. */
static cpu_set_t *get_mask(size_t *size)
{
    for (size_t cpus = CPU_SETSIZE; cpus <= 1u << 22; cpus *= 2) {
        *size = CPU_ALLOC_SIZE(cpus);
        cpu_set_t *mask = CPU_ALLOC(cpus);
        if (!mask)
            return NULL;
        if (!sched_getaffinity(0, *size, mask))
            return mask;
        CPU_FREE(mask);
        if (errno != EINVAL)
            return NULL;
    }
    return NULL;
}

unsigned cpu_affinity(void)
{
    size_t size;
    cpu_set_t *mask = get_mask(&size);
    int count = mask ? CPU_COUNT_S(size, mask) : 0;
    if (mask)
        CPU_FREE(mask);
    if (count > 0)
        return (unsigned)count;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < INT_MAX ? (unsigned)online : 1;
}

int cpu_pin(unsigned n)
{
    size_t size;
    cpu_set_t *mask = get_mask(&size);
    if (!mask)
        return errno;
    int count = CPU_COUNT_S(size, mask), left = count ? (int)(n % (unsigned)count) : -1;
    for (size_t cpu = 0; cpu < size * CHAR_BIT; cpu++)
        if (CPU_ISSET_S(cpu, size, mask) && left-- != 0)
            CPU_CLR_S(cpu, size, mask);
    int r = sched_setaffinity(0, size, mask) ? errno : 0;
    CPU_FREE(mask);
    return r;
}

void cpu_track(void)
{
#ifdef RSEQ_SIG
    enum { SIZE = 32 };                 /* of the first version, with which all later ones begin */
    if (!__rseq_size)
        return;
    struct rseq *area = (struct rseq *)(void *)((char *)__builtin_thread_pointer() + __rseq_offset);
    int error = errno;
    if (syscall(SYS_rseq, area, SIZE, 0, RSEQ_SIG) && errno != EBUSY)
        area->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;       /* then libc asks the kernel each time */
    errno = error;
#endif
}

uint32_t cpu_here(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? CPU_UNKNOWN : (uint32_t)cpu;
}

void cpu_leave(void)
{
    size_t size;
    uint32_t here = cpu_here();
    cpu_set_t *mask = get_mask(&size);
    if (!mask)
        return;
    if (CPU_ISSET_S(here, size, mask) && CPU_COUNT_S(size, mask) > 1) {
        CPU_CLR_S(here, size, mask);
        int left = !sched_setaffinity(0, size, mask);
        CPU_SET_S(here, size, mask);
        if (left)
            sched_setaffinity(0, size, mask);
    }
    CPU_FREE(mask);
}
