/* A pool, as its public calls share it. */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "helper.h"
#include "news.h"
#include "scheduler.h"
#include "serial.h"

#include <forkpool.h>

struct pool {
    struct sched   sched;
    struct serial *serial;          /* NULL: a pool of processes */
    struct helper  helper;
    struct news    news;            /* pool_fd */
    _Atomic int    watched;         /* somebody has asked for it */
    unsigned       forks;           /* forks_count when it was made */
    unsigned       callers;         /* threads inside a call; under the lock */
    unsigned       joining;         /* those of them that wait in pool_join for a serial pool's end: not for one another */
    struct link    handles;         /* iterators and asynchronous jobs not freed: jobs, by their link of that name */
    int            closing;         /* pool_close or pool_terminate was called */
    int            destroying;      /* pool_destroy was, */
    int            destroyed;       /*   and is done but for the memory, which goes with the last handle */
    struct link    link;            /* among this process's pools; under forks_lock */
};

/* Begins a public call: the pool is usable by this process and still open, and cannot go away before pool_leave; its lock is held.
 * POOL_OK, or the status to be returned, said in words. */
enum pool_status pool_enter(struct pool *pool);
void             pool_leave(struct pool *pool);

/* The same for calls that wait until they have ended: not in a callback of that pool. */
enum pool_status pool_enter_to_wait(struct pool *pool);

/* Was this made by a parent of this process? Says so. */
int pool_inherited(unsigned forks);

/* Is this a callback of that pool, where nothing may wait? Says so. */
int pool_must_not_wait(const struct pool *pool);

/* A handle came or went, with the lock held. */
void pool_handle_enter(struct pool *pool, struct job *job);
void pool_handle_leave(struct pool *pool, struct job *job);

/* Gives up the lock after that: the last handle of a destroyed pool takes it along. */
void pool_unlock(struct pool *pool);

#define POOL_KILL_TIME 5.0          /* seconds in which a kill takes effect, or never */

/* In a child of the host, or a nursery: closes and unmaps what was inherited of it, all but the struct. */
void pool_let_go(struct pool *pool);

/* It is among this process's pools from now on; no longer. */
void pool_enlist(struct pool *pool);
void pool_strike_off(struct pool *pool);

/* In a new nursery, whose plan it is: lets go of what it inherited of all pools, but for the channels of its own. */
void pool_settle_in(void *plan);

#endif
