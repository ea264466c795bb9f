/* Where a thread may run, and that it knows where it does.
 *
 * Runs in any process and thread. Keeps no state: masks are changed from outside at any time.
 *
 * glibc from 2.35 on reads the number of its CPU in memory of the thread's own, where the kernel keeps it (rseq), and so do allocators with
 * a cache for each CPU, which rely on more than the number. The kernel forgets about it in a vfork, since that child runs on its parent's
 * memory, and children of that child get what is left: nothing is kept any more, and what stood there when the nursery was forked is what
 * all its workers would read for ever. cpu_track makes it good, once, in the nursery; forks inherit it. */
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

#ifdef RSEQ_SIG
/* Not the compiler's own where it can be avoided: for x86 GCC has it from 11 on, and clang from 14. */
static void *thread_pointer(void)
{
#if defined(__x86_64__)
    void *pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
#elif defined(__i386__)
    void *pointer;
    __asm__("mov %%gs:0, %0" : "=r"(pointer));
    return pointer;
#else
    return __builtin_thread_pointer();
#endif
}
#endif

void cpu_track(void)
{
#ifdef RSEQ_SIG
    enum { SIZE = 32 };                 /* of the first version, with which all later ones begin */
    if (!__rseq_size)
        return;
    struct rseq *area = (struct rseq *)(void *)((char *)thread_pointer() + __rseq_offset);
    int error = errno;
    if (syscall(SYS_rseq, area, SIZE, 0, RSEQ_SIG) && errno != EBUSY)
        area->cpu_id = (uint32_t)RSEQ_CPU_ID_REGISTRATION_FAILED;       /* then libc asks the kernel each time */
    errno = error;
#endif
}
