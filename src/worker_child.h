/* A worker process: from its birth in the nursery to its _exit. */
#ifndef POOL_WORKER_CHILD_H
#define POOL_WORKER_CHILD_H

#include "channel.h"
#include "worker_limits.h"

#include <forkpool.h>

/* All that a worker is told. Made in the host before the nursery is forked, and read in the workers as it was then. */
struct worker_plan {
    pool_initializer *initializer;
    pool_finalizer   *finalizer;
    void             *initarg;
    struct worker_limits limits;
    int               no_spin;
    int64_t           first_spin;   /* nanoseconds of a worker's first spin; 0: as any other */
    unsigned          slots;
    unsigned char    *desks;        /* `slots` desks of desk_size, one mapping */
    size_t            desk_size;
    unsigned char    *regions;      /* `slots` regions of region_size, one mapping */
    size_t            region_size;
    size_t            slot_size;
};

/* How a worker says by its exit status that its channel was written over or its pipe is gone. */
enum { WORKER_DAMAGED = 113 };

/* In the nursery, before any worker: what has to be done once for all of them. Hangs where another thread of the host held one of libc's
 * locks at the moment of the fork (the loader's, or that of exit handlers), for which fork() does not care: call it under a time limit. */
void worker_prepare(void);

/* A nursery_birth_fn: context is a struct worker_plan. Called with all signals blocked and their dispositions the default;
 * opens the mask. Never returns. */
void worker_child(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe);

#endif
