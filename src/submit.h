/* What all calls check and prepare alike. */
#ifndef POOL_SUBMIT_H
#define POOL_SUBMIT_H

#include "pool.h"

/* Those that return before they have ended keep a copy of the context. */
enum submit_how { SUBMIT_WAITED_FOR, SUBMIT_ITERATED, SUBMIT_ASYNC };

/* Makes a job ready to be started: checks the call and the items, fills in the definition. POOL_OK, or the reason said and nothing left
 * to be freed. */
enum pool_status submit_prepare(struct pool *pool, struct job *job, enum job_kind kind, pool_fn *fn, struct pool_items items,
                                const struct pool_call *call, enum submit_how how);

/* The call's progress bar, where it asks for one and there is memory for it; else NULL. */
struct pool_progress *submit_bar(const struct job *job, const struct pool_call *call);

/* Gives it to the scheduler. Not for serial pools. */
void submit_start(struct pool *pool, struct job *job);

/* Runs one more item of a job of a serial pool, with the lock given up meanwhile. Nonzero: there was one. */
int submit_run_serially(struct pool *pool, struct job *job);

/* The sentence for a status that a whole call ended with, where no item says more. */
void submit_explain(const struct pool *pool, enum pool_status status);

/* errno for calls that return NULL. */
int submit_errno(enum pool_status status);

#endif
