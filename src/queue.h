/* What putting and getting share. */
#ifndef POOL_QUEUE_H
#define POOL_QUEUE_H

#include "fd.h"
#include "queue_items.h"
#include "queue_ring.h"
#include "spin.h"

#include <forkpool.h>

/* Three pairs, the end to read from first: two bells, and what travels beside the ring. */
enum { ITEMS_OUT, ITEMS_IN, ROOM_OUT, ROOM_IN, BESIDE_OUT, BESIDE_IN, ENDS };

struct pool_queue {                     /* each process has its own copy, by the fork */
    struct ring       *ring;
    int                ends[ENDS];      /* ITEMS_IN: -1 once this process puts no more; under put.lock */
    struct fd_identity files[ENDS];     /* what they were */
    _Atomic unsigned   forks;           /* forks_count of the process in which they were last seen to be that */
    unsigned           no_spin;
    struct queue_items items;
};

/* Starts a public call: OK, or INVALID, said. */
enum pool_status queue_enter(struct pool_queue *queue, double seconds);

/* The status of an errno, and the words for it. */
enum pool_status queue_conclude(int error, const char *what);

int queue_is_over(int64_t deadline);

/* Makes sure that the bell has its byte; takes it away, also where there should be none. Both under the lock of the side that rings. */
int  queue_ring_bell(struct ring_side *side, int end);
void queue_hush_bell(struct ring_side *side, int end);

/* Takes the byte of those who get away if there is nothing: then *empty. 0 or an errno. */
int queue_hush_if_empty(const struct pool_queue *queue, int64_t deadline, int *empty);

/* Sleeps. What poll says of the bell; 0: nothing until the deadline, or a signal. */
short queue_listen(int end, int64_t deadline);

/* Nonzero: it is not so any more, after a while that was worth spinning. */
int queue_spin(struct spin *spin, const struct pool_queue *queue, int (*so)(const struct ring *));

#endif
