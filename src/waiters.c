/* Who waits while another thread turns the loop.
 *
 * Runs in any thread of the host, under the pool's lock. A condition of its own for each thing that is waited for, on the monotonic clock:
 * setting the wall clock must not end or prolong a wait. Waking nobody costs a look at a number. */
#define _GNU_SOURCE
#include "waiters.h"

#include "clock.h"

#include <time.h>

int waiter_init(struct waiter *w)
{
    pthread_condattr_t attributes;
    w->asleep = 0;
    w->link = (struct link){0};
    int r = pthread_condattr_init(&attributes);
    if (r)
        return r;
    r = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!r)
        r = pthread_cond_init(&w->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return r;
}

void waiter_fini(struct waiter *w)
{
    pthread_cond_destroy(&w->changed);
}

void waiter_sleep(struct waiter *w, struct link *sleepers, pthread_mutex_t *lock, int64_t deadline)
{
    if (!w->asleep++ && sleepers)
        link_append(sleepers, &w->link);
    if (deadline == CLOCK_NEVER) {
        pthread_cond_wait(&w->changed, lock);
    } else {
        struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};
        pthread_cond_timedwait(&w->changed, lock, &until);
    }
    if (!--w->asleep)
        link_remove(&w->link);
}

void waiter_wake(struct waiter *w)
{
    if (w->asleep)
        pthread_cond_broadcast(&w->changed);
}
