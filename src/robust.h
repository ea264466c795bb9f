/* A lock between processes that its holder's death gives up. */
#ifndef POOL_ROBUST_H
#define POOL_ROBUST_H

#include <pthread.h>
#include <stdint.h>

/* In shared memory. 0 or an errno. */
int robust_init(pthread_mutex_t *lock);

/* 0: it is ours. EOWNERDEAD: it is ours, and its last holder died with it: what it guards may be half done. Else an errno and it is not:
 * ETIMEDOUT, or that of a lock that was written over. A holder is waited for until the deadline, and for a moment if that is over. */
int robust_lock(pthread_mutex_t *lock, int64_t deadline);

void robust_unlock(pthread_mutex_t *lock);

#endif
