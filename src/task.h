/* One run of a task function: what pool_out, pool_return and pool_fail work on. */
#ifndef POOL_TASK_H
#define POOL_TASK_H

#include "channel.h"

#include <forkpool.h>

#include <stdarg.h>

/* Where the result of a run lies. */
enum task_place {
    TASK_NO_ROOM,           /* there is none so far, which is an empty one */
    TASK_PREPARED,          /* in the room that was prepared for one of its size */
    TASK_ELSEWHERE          /* from here on the runner (a worker, or a serial pool) knows the places */
};

struct task_room {
    int    place;           /* enum task_place */
    void  *at;              /* TASK_ELSEWHERE and on */
    size_t size;
};

struct task_run {
    struct pool_task task;  /* first: the user's pointer is the run's */
    struct pool_worker worker;
    struct task_room room;
    struct { void *at; size_t size; } prepared; /* set before the task runs; at NULL: make_room is to be asked for any */
    unsigned forks;             /* forks_count of the process whose rooms these are */
    void *(*make_room)(struct task_run *, size_t size);       /* sets room, forgetting the one before; NULL: no memory */
    char     text[STATUS_TEXT + 1];                           /* pool_fail's or pool_init_fail's message */
};

/* Once, before the first run. */
void task_prepare(struct task_run *run);

/* Begins a run: no result, no message. */
static inline void task_begin(struct task_run *run)
{
    run->room.place = TASK_NO_ROOM;
    run->text[0] = '\0';
}

#endif
