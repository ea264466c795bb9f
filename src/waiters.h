/* Who waits while another thread turns the loop. */
#ifndef POOL_WAITERS_H
#define POOL_WAITERS_H

#include <pthread.h>
#include <stdint.h>

struct waiter {
    pthread_cond_t changed;
    int            asleep;      /* threads that sleep on it; under the pool's lock */
};

/* 0 or an errno. */
int  waiter_init(struct waiter *waiter);
void waiter_fini(struct waiter *waiter);

/* Sleeps with the lock given up, until woken or `deadline` (clock.h). */
void waiter_sleep(struct waiter *waiter, pthread_mutex_t *lock, int64_t deadline);
void waiter_wake(struct waiter *waiter);

#endif
