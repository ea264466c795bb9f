/* The calls that wait for all: map, apply, map_results; and what all calls check and prepare alike.
 *
 * Runs in the calling thread. A job of these lies on the caller's stack: the call returns only when nothing of it is left anywhere.
 * Mistakes are told before anything is handed out, each in one sentence that says what to change. */
#include "submit.h"

#include "progress.h"
#include "result.h"
#include "status.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct pool_call no_options;

/* ---- Checking */

static enum pool_status check_call(const struct pool *pool, const struct pool_call *call, enum submit_how how)
{
    for (size_t i = 0; i < sizeof call->reserved / sizeof *call->reserved; i++)
        if (call->reserved[i])
            return status_say(POOL_INVALID, "pool_call.reserved must be zero: initialize the struct with {0}");
    if (!call->common && call->common_size)
        return status_say(POOL_INVALID, "pool_call.common is NULL but common_size is %zu", call->common_size);
    if (isnan(call->timeout) || call->timeout < 0)
        return status_say(POOL_INVALID, "pool_call.timeout must not be negative or NaN");
    if (pool->serial && call->timeout > 0 && !isinf(call->timeout))
        return status_say(POOL_INVALID, "a serial pool has no time limits: the task runs in the calling thread");
    if (how == SUBMIT_ASYNC && call->progress)
        return status_say(POOL_INVALID, "pool_call.progress is for calls that are waited for: leave it NULL");
    if (how != SUBMIT_ASYNC && (call->done || call->done_arg))
        return status_say(POOL_INVALID, "pool_call.done is for asynchronous calls only: leave it NULL");
    return POOL_OK;
}

/* In nanoseconds; one that is longer than the clock can tell is none. */
static int64_t time_limit(double seconds)
{
    if (!(seconds > 0) || seconds >= 9e9)
        return 0;
    return (int64_t)(seconds * 1e9) + 1;
}

static enum pool_status name_function(struct job *job, pool_fn *fn)
{
    if (!object_name((object_fn *)fn, &job->call.fn))
        return POOL_OK;
    return status_say(POOL_INVALID, "the task function lies in no loaded object (a trampoline or generated code?): pass a plain function "
                                    "of the program or of a library");
}

static enum pool_status copy_common(struct job *job, const struct pool_call *call, enum submit_how how)
{
    job->call.common = call->common;
    job->call.common_size = call->common_size;
    if (how == SUBMIT_WAITED_FOR || !call->common_size)
        return POOL_OK;
    void *copy = malloc(call->common_size);
    if (!copy)
        return status_say(POOL_NO_MEMORY, "no memory for a copy of the common context of %zu bytes", call->common_size);
    memcpy(copy, call->common, call->common_size);
    job->call.common = job->own_common = copy;
    return POOL_OK;
}

enum pool_status submit_prepare(struct pool *pool, struct job *job, enum job_kind kind, pool_fn *fn, struct pool_items items,
                                const struct pool_call *call, enum submit_how how)
{
    call = call ? call : &no_options;
    job->kind = kind;
    job->fn = fn;
    job->call.mode = RESULT_FRAMED;
    job->tally = pool->sched.tally;
    job->retries = call->retries;
    job->timeout = time_limit(call->timeout);
    job->call.timed = job->timeout > 0;
    if (!fn)
        return status_say(POOL_INVALID, "the task function is NULL");
    enum pool_status status = check_call(pool, call, how);
    if (!status && source_init(&job->source, items))
        status = POOL_INVALID;
    if (!status && !pool->serial)
        status = name_function(job, fn);
    if (!status)
        status = copy_common(job, call, how);
    if (status)
        return status;
    if (job_init(job, kind, call)) {
        free(job->own_common);
        return status_say(POOL_NO_MEMORY, "no memory for a call");
    }
    return POOL_OK;
}

void submit_explain(const struct pool *pool, enum pool_status status)
{
    if (status == POOL_BROKEN)
        status_say(status, "the pool is broken: %s", pool->sched.crew.why);
    else if (status == POOL_CANCELLED)
        status_say(status, pool->closing || pool->destroying ? "the pool was ended before the call had" : "the call was cancelled");
    else if (status == POOL_NO_MEMORY)
        status_say(status, "no memory left for the results");
}

int submit_errno(enum pool_status status)
{
    return status == POOL_BROKEN ? EPIPE : status == POOL_NO_MEMORY ? ENOMEM : status == POOL_CLOSED ? ESHUTDOWN : EINVAL;
}

/* ---- Running to the end */

static int has_ended(void *job)
{
    return ((struct job *)job)->ended;
}

int submit_run_serially(struct pool *pool, struct job *job)
{
    struct sched *s = &pool->sched;
    if (s->closed)
        job_cut(job, s->closed, 1);     /* what is left when the pool is destroyed is not run */
    return serial_run_next(pool->serial, job, &s->lock);
}

void submit_start(struct pool *pool, struct job *job)
{
    if (job->call.common_size)
        job->call.common_id = ++pool->sched.next_common_id;
    sched_add(&pool->sched, job);
}

/* Draws, with the lock given up: a terminal may take its time. */
static void show(struct pool *pool, const struct job *job, struct pool_progress *bar)
{
    size_t ended = job->ended_items, failed = job->failed_items;
    if (!bar)
        return;
    sched_leave(&pool->sched);
    progress_show(bar, ended, failed);
    sched_enter(&pool->sched);
}

/* Called inside pool_enter ... pool_leave. */
static void run(struct pool *pool, struct job *job, const struct pool_call *call)
{
    struct sched *s = &pool->sched;
    struct pool_progress *bar = submit_bar(job, call);
    if (pool->serial) {
        while (submit_run_serially(pool, job) || !job->ended)
            show(pool, job, bar);
    } else {
        submit_start(pool, job);
        sched_end(s, job);
        while (!sched_wait(s, has_ended, job, &job->waiter, job, progress_due(bar))) {
            sched_ask_the_silent(s);
            show(pool, job, bar);
        }
    }
    show(pool, job, bar);
    if (!bar)
        return;
    sched_leave(s);
    pool_progress_finish(bar);
    sched_enter(s);
}

struct pool_progress *submit_bar(const struct job *job, const struct pool_call *call)
{
    if (!call || !call->progress)
        return NULL;
    struct pool_progress *bar = pool_progress_start(call->progress, source_known(&job->source) ? job->source.count : 0);
    if (!bar)
        status_clear();                 /* the call goes on without */
    return bar;
}

/* Leaves the call's failure for pool_failure and pool_error. */
static void report(const struct pool *pool, const struct job *job, enum pool_status status)
{
    const struct pool_result *f = job->failure.status ? &job->failure : NULL;
    result_note(f, job->failure_text);
    if (f && status == f->status && job->failure_text[0])
        status_say(status, "%s", job->failure_text);
    else if (f && status == f->status)
        status_say(status, "item %zu failed with code %d", f->index, f->code);
    else if (status)
        submit_explain(pool, status);
}

static enum pool_status map(struct pool *pool, pool_fn *fn, struct pool_items items, void *out, size_t out_size,
                            const struct pool_call *call)
{
    struct job job;
    job_blank(&job);
    status_clear();
    result_note(NULL, "");
    enum pool_status status = pool_enter_to_wait(pool);
    if (status)
        return status;
    status = submit_prepare(pool, &job, JOB_MAP, fn, items, call, SUBMIT_WAITED_FOR);
    if (!status) {
        size_t count = job.source.count;
        job.out = out;
        job.out_size = out_size;
        job.call.out_size = out ? out_size : 0;
        job.call.mode = !out ? RESULT_DROPPED : out_size <= CHANNEL_PACKED ? RESULT_PACKED : RESULT_FRAMED;
        if (out && job.source.kind == SOURCE_GENERATOR)
            status = status_say(POOL_INVALID, "a generator has no count: out must be NULL (or use pool_imap or pool_map_results)");
        else if (out && out_size && count > SIZE_MAX / out_size)
            status = status_say(POOL_INVALID, "%zu results of %zu bytes are larger than memory", count, out_size);
        else
            run(pool, &job, call);
        if (!status) {
            status = job_status(&job);
            report(pool, &job, status);
        }
        job_fini(&job);
    }
    pool_leave(pool);
    return status;
}

enum pool_status pool_map(struct pool *pool, pool_fn *fn, struct pool_items items, void *out, size_t out_size, const struct pool_call *call)
{
    return map(pool, fn, items, out, out_size, call);
}

enum pool_status pool_apply(struct pool *pool, pool_fn *fn, const void *in, size_t in_size, void *out, size_t out_size,
                            const struct pool_call *call)
{
    return map(pool, fn, pool_array(in, 1, in_size), out, out_size, call);
}

struct pool_results *pool_map_results(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    struct job job;
    job_blank(&job);
    status_clear();
    enum pool_status status = pool_enter_to_wait(pool);
    if (status) {
        errno = submit_errno(status);
        return NULL;
    }
    status = submit_prepare(pool, &job, JOB_LIST, fn, items, call, SUBMIT_WAITED_FOR);
    if (!status) {
        job.list = list_create();
        if (job.list)
            run(pool, &job, call);
        else
            status = status_say(POOL_NO_MEMORY, "no memory for the results");
        submit_explain(pool, job.cut);
        if (job.cut == POOL_NO_MEMORY) {
            status = job.cut;
            pool_results_free(job.list);
            job.list = NULL;
        }
        job_fini(&job);
    }
    int error = status ? submit_errno(status) : 0;
    pool_leave(pool);
    if (status)
        errno = error;
    return job.list;
}
