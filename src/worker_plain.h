/* Plain items: they lie in their span, and need nothing but to be run. What any other item shares with them is here, too. */
#ifndef POOL_WORKER_PLAIN_H
#define POOL_WORKER_PLAIN_H

#include "forks.h"
#include "leave.h"
#include "worker_result.h"

/* The claimed item of a plain span, and those that follow, as long as nothing out of the ordinary happens. Nonzero: the next one is
 * claimed, and lies in another span; 0: it is still to be claimed. Nothing is held afterwards. */
int worker_do_plain_items(struct worker *w);

static inline int worker_run_item(struct worker *w, const void *in, uint32_t nth)
{
    struct pool_task *task = &w->run.task;
    const struct worker_call *call = w->call;
    task->in = in;
    task->in_size = (size_t)w->head.item_size;
    task->index = (size_t)w->head.index + nth;
    task->common = call->common;
    task->common_size = call->common_size;
    int code = call->fn(task);
    if (forks_count != w->run.forks)
        leave(0);               /* a child that the task forked came back here: it is no worker */
    return code;
}

static inline unsigned char *worker_place_of_result(const struct worker *w, uint32_t nth)
{
    return w->results ? w->results + nth * w->run.prepared.size : NULL;
}

/* The caller lowers it where it takes some of its items back. */
static inline uint32_t worker_span_count(const struct worker *w)
{
    uint32_t count = atomic_load_explicit(&w->span->count, memory_order_relaxed);
    if (count > w->head.count)
        worker_damaged();
    return count;
}

#endif
