/* What all calls check and prepare alike. */
#ifndef POOL_SUBMIT_H
#define POOL_SUBMIT_H

#include "pool.h"

/* Makes a job ready to be added: checks the call and the items, fills in the definition. keep: the context is copied, since the call
 * outlives its caller's memory. POOL_OK, or the reason said and nothing left to be freed. */
enum pool_status submit_prepare(struct pool *pool, struct job *job, enum job_kind kind, pool_fn *fn, struct pool_items items,
                                const struct pool_call *call, int keep);

/* Runs one more item of a job of a serial pool, with the lock given up meanwhile. Nonzero: there was one. */
int submit_run_serially(struct pool *pool, struct job *job);

/* The sentence for a status that a whole call ended with, where no item says more. */
void submit_explain(const struct pool *pool, enum pool_status status);

/* errno for calls that return NULL. */
int submit_errno(enum pool_status status);

#endif
