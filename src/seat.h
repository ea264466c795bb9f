/* Where a worker sits: on its caller's CPU, or on another. */
#ifndef POOL_SEAT_H
#define POOL_SEAT_H

#include "channel.h"

struct seat {                   /* all zero to begin with */
    int64_t  woken_at;          /* clock.h */
    unsigned beside;            /* wake-ups in quick succession on the caller's CPU */
    unsigned extra;             /* how many more it puts up with than at first */
};

/* The worker, when it is about to wait. Nonzero: it is on the CPU on which the caller last waited. */
int seat_is_shared(struct desk *desk);

/* The caller: did the worker last wait on that CPU? */
int seat_holds_worker(struct desk *desk, uint32_t cpu);

/* The worker: it slept and was woken. Nonzero: it has moved. */
int seat_woken(struct seat *seat, struct desk *desk);

/* The worker: a wait was over before it had to sleep. */
void seat_paid(struct seat *seat);

#endif
