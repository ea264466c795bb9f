/* Asynchronous calls: apply_async and map_async, and what can be done with their jobs.
 *
 * A job is the same as that of a call which waits, with a list for its results, on the heap instead of a caller's stack. Nobody waits
 * for it, so the helper turns the loop (helper.c). At its end its callback goes to the runner; it counts as over for those who wait
 * when that has returned. Freed before its end it goes on, and is freed there.
 *
 * Runs in any thread of the host; the hooks at a job's end run under the pool's lock, in whichever thread settled its last item, and
 * after its callback in the runner's. */
#include "clock.h"
#include "forks.h"
#include "status.h"
#include "submit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef void done_fn(struct pool_job *job, void *arg);

struct pool_job {
    struct job    job;                  /* first: the scheduler knows it as a job */
    struct errand errand;
    struct pool  *pool;
    unsigned      forks;
    done_fn      *done;
    void         *done_arg;
    int           over;                 /* ended, and the callback has returned */
    unsigned      waiting;              /* threads that wait for it */
};

static struct pool_job *of_errand(struct errand *errand)
{
    return (struct pool_job *)(void *)((char *)errand - offsetof(struct pool_job, errand));
}

static void destroy(struct pool_job *j)
{
    pool_handle_leave(j->pool, &j->job);
    pool_results_free(j->job.list);
    job_fini(&j->job);
    free(j);
}

/* ---- The end of a job */

static void be_over(struct pool_job *j)
{
    j->over = 1;
    if (j->job.abandoned) {
        destroy(j);
        return;
    }
    j->job.news = &j->pool->news;       /* not earlier: until now there was nothing to be told */
    job_tell(&j->job);
    if (j->waiting)
        sched_poke(&j->pool->sched);    /* who waits may be the one that turns the loop */
}

static void on_end(struct job *job)
{
    struct pool_job *j = (struct pool_job *)(void *)job;
    if (j->done)
        helper_send(&j->pool->helper, &j->errand);
    else
        be_over(j);
}

static void call_back(struct errand *errand)
{
    struct pool_job *j = of_errand(errand);
    j->done(j, j->done_arg);
}

static void after_callback(struct errand *errand)
{
    be_over(of_errand(errand));
}

/* ---- Starting */

static enum pool_status start(struct pool *p, struct pool_job *j, const struct pool_call *call)
{
    struct sched *s = &p->sched;
    j->done = call ? call->done : NULL;
    j->done_arg = call ? call->done_arg : NULL;
    j->errand = (struct errand){.run = call_back, .after = after_callback};
    int r = helper_attend(&p->helper);
    if (!r && j->done)
        r = helper_run_errands(&p->helper);
    if (r) {
        char text[100];
        errno = r;
        return status_say(POOL_FAILED, "a thread for asynchronous calls could not be started: %s", status_errno(r, text, sizeof text));
    }
    j->pool = p;
    j->forks = p->forks;
    j->job.on_end = on_end;
    j->job.unattended = 1;
    pool_handle_enter(p, &j->job);
    submit_start(p, &j->job);
    if (!sched_end(s, &j->job))
        sched_hand_out(s);
    if (!s->turning)
        waiter_wake(&s->attendant);
    return POOL_OK;
}

static enum pool_status prepare(struct pool *p, struct pool_job *j, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    if (p->serial)
        return status_say(POOL_INVALID, "a serial pool has no asynchronous calls");
    enum pool_status status = submit_prepare(p, &j->job, JOB_LIST, fn, items, call, SUBMIT_ASYNC);
    if (status)
        return status;
    j->job.list = list_create();
    if (!j->job.list)
        status = status_say(POOL_NO_MEMORY, "no memory for the results");
    else if (j->job.source.kind == SOURCE_GENERATOR)
        status = status_say(POOL_INVALID, "an asynchronous call takes no generator, which only its caller may pull: use pool_imap");
    else
        status = start(p, j, call);
    if (status) {
        pool_results_free(j->job.list);
        job_fini(&j->job);
    }
    return status;
}

static struct pool_job *call_async(struct pool *p, pool_fn *fn, struct pool_items items, void *own_item, const struct pool_call *call)
{
    enum pool_status status = pool_enter(p);
    if (status) {
        free(own_item);
        errno = submit_errno(status);
        return NULL;
    }
    struct pool_job *j = calloc(1, sizeof *j);
    errno = 0;
    status = j ? prepare(p, j, fn, items, call) : status_say(POOL_NO_MEMORY, "no memory for a call");
    int error = errno ? errno : submit_errno(status);
    if (j && !status) {
        j->job.own_item = own_item;
    } else {
        free(own_item);
        free(j);
        j = NULL;
    }
    pool_leave(p);
    if (!j)
        errno = error;
    return j;
}

struct pool_job *pool_map_async(struct pool *p, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    status_clear();
    return call_async(p, fn, items, NULL, call);
}

struct pool_job *pool_apply_async(struct pool *p, pool_fn *fn, const void *in, size_t in_size, const struct pool_call *call)
{
    status_clear();
    if (!in && in_size)
        return status_null(EINVAL, "the item is NULL but has %zu bytes", in_size);
    void *copy = in_size ? malloc(in_size) : NULL;
    if (in_size && !copy)
        return status_null(ENOMEM, "no memory for a copy of the item of %zu bytes", in_size);
    if (in_size)
        memcpy(copy, in, in_size);
    return call_async(p, fn, pool_array(copy, 1, in_size), copy, call);
}

/* ---- Asking */

/* Says why not. */
static int refuse(const struct pool_job *j)
{
    status_clear();
    if (!j)
        return (int)status_say(POOL_INVALID, "the job is NULL");
    return pool_inherited(j->forks) ? POOL_INVALID : 0;
}

/* Its callback may ask for its status before it is over for the others. */
static int is_over(void *job)
{
    const struct pool_job *j = job;
    return j->over || (j->job.ended && helper_is_here(&j->pool->helper));
}

static void tell(struct pool_job *j)
{
    j->job.told = 1;
    news_set(&j->pool->news, &j->job.has_news, 0);
}

/* Why it did not end OK, in words. */
static void explain(const struct pool_job *j, enum pool_status status)
{
    const struct job *job = &j->job;
    if (status && status == job->failure.status)
        status_say(status, job->failure_text[0] ? "%s" : "item failed%s", job->failure_text);
    else
        submit_explain(j->pool, status);
}

enum pool_status pool_job_wait(struct pool_job *j, double seconds)
{
    if (refuse(j))
        return POOL_INVALID;
    if (isnan(seconds))
        return status_say(POOL_INVALID, "the time to wait is not a number");
    struct pool *p = j->pool;
    struct sched *s = &p->sched;
    enum pool_status status = POOL_PENDING;
    sched_enter(s);
    p->callers++;
    if (!is_over(j) && seconds != 0 && pool_must_not_wait(p)) {
        status = POOL_INVALID;
    } else if (!is_over(j) && seconds != 0) {
        j->waiting++;
        sched_wait(s, is_over, j, &j->job.waiter, NULL, clock_deadline(seconds));
        j->waiting--;
    }
    if (is_over(j)) {
        status = job_status(&j->job);
        explain(j, status);
        if (j->over)                    /* what a callback is told is still news for the others */
            tell(j);
    }
    pool_leave(p);
    return status;
}

enum pool_status pool_job_status(const struct pool_job *job)
{
    struct pool_job *j = (struct pool_job *)(uintptr_t)job;
    enum pool_status status = POOL_PENDING;
    if (refuse(j))
        return POOL_INVALID;
    sched_enter(&j->pool->sched);
    if (j->job.ended) {
        status = job_status(&j->job);
        explain(j, status);
    }
    if (j->over)
        tell(j);
    sched_leave(&j->pool->sched);
    return status;
}

const struct pool_results *pool_job_results(struct pool_job *j)
{
    if (refuse(j))
        return NULL;
    sched_enter(&j->pool->sched);
    const struct pool_results *results = j->job.ended ? j->job.list : NULL;
    sched_leave(&j->pool->sched);
    return results;
}

void pool_job_cancel(struct pool_job *j)
{
    if (refuse(j))
        return;
    sched_enter(&j->pool->sched);
    if (!j->job.ended)
        sched_cut(&j->pool->sched, &j->job, POOL_CANCELLED, 1);
    sched_leave(&j->pool->sched);
}

void pool_job_free(struct pool_job *j)
{
    status_clear();
    if (!j || j->forks != forks_count)
        return;
    struct pool *p = j->pool;
    sched_enter(&p->sched);
    if (j->waiting)
        status_say(POOL_INVALID, "another thread waits for this job: it was not freed");
    else if (j->over)
        destroy(j);
    else
        j->job.abandoned = 1;
    pool_unlock(p);
}
