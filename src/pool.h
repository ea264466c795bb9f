/* A pool, as its public calls share it. */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "scheduler.h"
#include "serial.h"

#include <forkpool.h>

struct pool {
    struct sched   sched;
    struct serial *serial;          /* NULL: a pool of processes */
    unsigned       forks;           /* forks_count when it was made */
    unsigned       callers;         /* threads inside a call; under the lock */
    unsigned       handles;         /* iterators not freed */
    int            destroyed;       /* goes with its last handle */
    struct pool   *next, *before;   /* among this process's pools; under forks_lock */
};

/* Begins a public call: the pool is usable by this process and still open, and cannot go away before pool_leave; its lock is held.
 * POOL_OK, or the status to be returned, said in words. */
enum pool_status pool_enter(struct pool *pool);
void             pool_leave(struct pool *pool);

/* Was this made by a parent of this process? Says so. */
int pool_inherited(unsigned forks);

/* A handle came or went, with the lock held; the last one of a destroyed pool frees it, and the lock with it. */
void pool_handle_leave(struct pool *pool);

#endif
