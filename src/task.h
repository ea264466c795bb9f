/* One run of a task function: what pool_out, pool_return and pool_fail work on. */
#ifndef POOL_TASK_H
#define POOL_TASK_H

#include "channel.h"

#include <forkpool.h>

#include <stdarg.h>

/* Where the result of a run lies. The runner (a worker, or a serial pool) knows the places; a task knows only `at`. */
struct task_room {
    void  *at;              /* NULL: no result so far, which is an empty one */
    size_t size;
    int    place;           /* the runner's word for where that is */
};

struct task_run {
    struct pool_task task;  /* first: the user's pointer is the run's */
    struct pool_worker worker;
    struct task_room room;
    struct task_room prepared;  /* set before the task runs: the room of a result of that size; at NULL: make_room is to be asked for any */
    unsigned forks;             /* forks_count of the process whose rooms these are */
    int (*make_room)(struct task_run *, size_t size);       /* sets room, forgetting the one before; 0, or -1: no memory */
    char     text[STATUS_TEXT + 1];                           /* pool_fail's or pool_init_fail's message */
};

/* Once, before the first run. */
void task_prepare(struct task_run *run);

/* Begins a run: no result, no message. */
static inline void task_begin(struct task_run *run)
{
    run->room.at = NULL;
    run->room.place = 0;
    run->text[0] = '\0';
}

#endif
