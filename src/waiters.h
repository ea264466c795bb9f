/* Who waits while another thread turns the loop. */
#ifndef POOL_WAITERS_H
#define POOL_WAITERS_H

#include "links.h"

#include <pthread.h>
#include <stdint.h>

struct waiter {
    pthread_cond_t changed;
    int            asleep;      /* threads that sleep on it; under the pool's lock */
    struct link    link;        /* among those on which somebody sleeps */
};

/* 0 or an errno. */
int  waiter_init(struct waiter *waiter);
void waiter_fini(struct waiter *waiter);

/* Sleeps with the lock given up, until woken or `deadline` (clock.h). sleepers: the list in which it is found meanwhile, so that
 * whoever wants to wake any need not look through all; or NULL. */
void waiter_sleep(struct waiter *waiter, struct link *sleepers, pthread_mutex_t *lock, int64_t deadline);
void waiter_wake(struct waiter *waiter);

#endif
