/* The pool's lock.
 *
 * While the program has one thread nobody else can want it, and libc's word for that takes the place of the mutex: a generator is asked
 * without the lock, so it is given back and taken again for each item, which took 7 % of the time of a small one. Functions of the user's,
 * which may start threads, are called without the lock; whoever starts one under it, or waits there, has it shared before. */
#ifndef POOL_LOCK_H
#define POOL_LOCK_H

#include <pthread.h>

#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 32)
#include <sys/single_threaded.h>
#define HAVE_SINGLE_THREADED 1
#endif
#endif

static inline int lock_is_alone(void)
{
#ifdef HAVE_SINGLE_THREADED
    return __libc_single_threaded;
#else
    return 0;
#endif
}

struct lock {
    pthread_mutex_t mutex;
    int             bare;       /* held without the mutex */
};

static inline int lock_init(struct lock *l)     /* 0 or an errno */
{
    l->bare = 0;
    return pthread_mutex_init(&l->mutex, NULL);
}

static inline void lock_fini(struct lock *l)
{
    pthread_mutex_destroy(&l->mutex);
}

static inline void lock_enter(struct lock *l)
{
    if (lock_is_alone())
        l->bare = 1;
    else
        pthread_mutex_lock(&l->mutex);
}

static inline void lock_leave(struct lock *l)
{
    if (l->bare)
        l->bare = 0;
    else
        pthread_mutex_unlock(&l->mutex);
}

/* By whoever holds it: from now on other threads respect it. */
static inline void lock_share(struct lock *l)
{
    if (!l->bare)
        return;
    pthread_mutex_lock(&l->mutex);
    l->bare = 0;
}

#endif
