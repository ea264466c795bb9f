/* A lock between processes that its holder's death gives up.
 *
 * Runs in every process that shares the memory, any thread. The kernel sees to it: each thread keeps a list of the robust locks it holds,
 * and whoever is next is told when it dies, by whatever signal and at whatever instruction. So what a lock guards is made such that it can
 * be half done at any point: one store commits it, and the next holder mends the rest.
 *
 * Held for well under a microsecond as a rule, hence a few looks before it is slept for. A holder that is stopped (SIGSTOP, a debugger)
 * is what deadlines are for. A call that is not to wait still gives a holder a moment: else it would find
 * nothing where there is something, because another one was taking its own just then. */
#define _GNU_SOURCE
#include "robust.h"

#include "clock.h"
#include "cpu.h"

#include <errno.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define MOMENT (NS_PER_S / 50)
#define LOOKS 100

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)     /* does not know the function, and takes what it locked for unlocked */
#define HAVE_CLOCKLOCK 0
#endif
#endif
#if defined(HAVE_CLOCKLOCK)
#elif defined(__GLIBC__)
#define HAVE_CLOCKLOCK __GLIBC_PREREQ(2, 30)
#else
#define HAVE_CLOCKLOCK 0
#endif

int robust_init(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;
    int r = pthread_mutexattr_init(&attributes);

    if (r)
        return r;
    r = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (!r)
        r = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (!r)
        r = pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return r;
}

/* Without clocklock the wall clock it is: setting it changes a wait for one that is stopped, no other. */
static int lock_until(pthread_mutex_t *lock, int64_t deadline)
{
    int64_t now = clock_now();
    struct timespec until;

    if (deadline < now + MOMENT)
        deadline = now + MOMENT;
#if HAVE_CLOCKLOCK
    until = (struct timespec){.tv_sec = (time_t)(deadline / NS_PER_S), .tv_nsec = (long)(deadline % NS_PER_S)};
    return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
#else
    clock_gettime(CLOCK_REALTIME, &until);
    deadline += until.tv_nsec - now;
    until.tv_sec += (time_t)(deadline / NS_PER_S);
    until.tv_nsec = (long)(deadline % NS_PER_S);
    return pthread_mutex_timedlock(lock, &until);
#endif
}

int robust_lock(pthread_mutex_t *lock, int64_t deadline)
{
    int r = pthread_mutex_trylock(lock);

    for (int i = 0; r == EBUSY && i < LOOKS; i++) {
        cpu_pause();
        r = pthread_mutex_trylock(lock);
    }
    if (r == EBUSY)
        r = deadline == CLOCK_NEVER ? pthread_mutex_lock(lock) : lock_until(lock, deadline);
    if (r == EOWNERDEAD)
        pthread_mutex_consistent(lock);         /* before it is mended: whoever dies over that leaves it dead again */
    return r;
}

void robust_unlock(pthread_mutex_t *lock)
{
    pthread_mutex_unlock(lock);
}
