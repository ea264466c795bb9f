/* What births and deaths of workers share; see crew.h, of which this is a part. */
#ifndef POOL_LIVES_H
#define POOL_LIVES_H

#include "crew.h"

#define LIVES_LEAVE_TIME 5000000000     /* nanoseconds for a finalizer while the slot is wanted */
#define LIVES_EXIT_TIME 50000000        /* nanoseconds for the exit of a worker that leaves, once its result pipe has ended */

/* Asks for all workers; the nursery may not have settled in yet. */
void crew_begin(struct crew *crew);

/* Births and initializers have to be looked after at that time. */
void crew_attend(struct crew *crew, int64_t at);

/* It cannot go on, and why. The first reason stays. */
void crew_break_off(struct crew *crew, int error, const char *why);

/* One birth failed: it is tried again, at `again`, or given up. */
void crew_miscarry(struct crew *crew, struct crew_worker *worker, int error, int64_t again, const char *why);

/* It is no longer ready. */
void crew_lose(struct crew *crew, struct crew_worker *worker, enum worker_state state);

int  crew_wants(const struct crew *crew, unsigned index);

#endif
