/* Iterators: imap and imap_unordered.
 *
 * Runs in the iterator's thread. A result that is there already is handed over without the lock (cells.h). But somebody has to keep the
 * workers busy meanwhile: every so many results the consumer makes a turn of the loop in passing. How many is learned by the clock,
 * which is read only then: a consumer that takes long for each makes a turn each time, one that races through makes few.
 *
 * An iterator is its job. Freed before the job has ended, it is abandoned: the scheduler frees it with the last item that runs. */
#include "clock.h"
#include "forks.h"
#include "status.h"
#include "submit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { WINDOW_LEAST = 1024, WINDOW_PER_WORKER = 64, WINDOW_MOST = 1 << 20 };    /* items */
enum { CREDIT_MOST = 64 };              /* results between two turns in passing */
#define TURN_TIME 20000                 /* nanoseconds that should lie between them */

struct pool_iter {
    struct job   job;                   /* first: the scheduler frees it as a job */
    struct pool *pool;
    unsigned     forks;
    int          busy;                  /* a call on it is under way: a generator must not ask its own iterator */
    int          over;                  /* the end was delivered */
    struct cell *current;               /* the result that the consumer holds */
    unsigned     credit, credit_full;
    int64_t      turned;                /* when the loop was last turned in passing */
};

/* ---- Making one */

static size_t window_for(const struct pool *pool, const struct job *job, const struct pool_call *call)
{
    size_t window = call ? call->window : 0;
    if (!window) {
        window = WINDOW_PER_WORKER * (size_t)pool_size(pool);
        window = window > WINDOW_LEAST ? window : WINDOW_LEAST;
    }
    if (source_known(&job->source) && job->source.count < window)
        window = job->source.count;
    return window < WINDOW_MOST ? window : WINDOW_MOST;
}

static enum pool_status prepare(struct pool *pool, struct pool_iter *it, int ordered, pool_fn *fn, struct pool_items items,
                                const struct pool_call *call)
{
    struct job *job = &it->job;
    enum pool_status status = submit_prepare(pool, job, JOB_ITER, fn, items, call, 1);
    if (status)
        return status;
    job->window_given = call && call->window;
    job->window = window_for(pool, job, call);
    if (!cells_init(&job->cells, job->window, ordered))
        return POOL_OK;
    job_fini(job);
    return status_say(POOL_NO_MEMORY, "no memory for a window of %zu results", job->window);
}

static void start(struct pool *pool, struct pool_iter *it)
{
    struct sched *s = &pool->sched;
    it->pool = pool;
    it->forks = pool->forks;
    it->credit_full = 1;
    pool->handles++;
    if (pool->serial) {
        job_check_end(&it->job);
        return;
    }
    if (it->job.call.common_size)
        it->job.call.common_id = ++s->next_common_id;
    it->busy = 1;
    sched_add(s, &it->job);
    sched_turn(s, &it->job);
    job_check_end(&it->job);
    it->busy = 0;
}

static struct pool_iter *imap(struct pool *pool, int ordered, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    status_clear();
    enum pool_status status = pool_enter(pool);
    if (status) {
        errno = submit_errno(status);
        return NULL;
    }
    struct pool_iter *it = calloc(1, sizeof *it);
    status = it ? prepare(pool, it, ordered, fn, items, call) : status_say(POOL_NO_MEMORY, "no memory for an iterator");
    if (it && !status) {
        start(pool, it);
    } else {
        free(it);
        it = NULL;
    }
    int error = status ? submit_errno(status) : 0;
    pool_leave(pool);
    if (status)
        errno = error;
    return it;
}

struct pool_iter *pool_imap(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    return imap(pool, 1, fn, items, call);
}

struct pool_iter *pool_imap_unordered(struct pool *pool, pool_fn *fn, struct pool_items items, const struct pool_call *call)
{
    return imap(pool, 0, fn, items, call);
}

/* ---- Delivering */

/* Index one past the last item that was ever handed over, a generator's failure included. */
static size_t end_of(const struct job *job)
{
    return job->source.next + (job->source_failed ? 1 : 0);
}

static struct cell *front(struct pool_iter *it)
{
    struct job *job = &it->job;
    return job->ended && job->cells.ordered ? cells_front_over_holes(&job->cells, end_of(job)) : cells_front(&job->cells);
}

static int is_ready(void *iter)
{
    struct pool_iter *it = iter;
    return cells_front(&it->job.cells) || it->job.ended;
}

static void let_go(struct pool_iter *it)
{
    struct cell *cell = it->current;
    it->current = NULL;
    if (!cell)
        return;
    if (cell->lender) {
        pthread_mutex_lock(&it->pool->sched.lock);
        sched_give_up(cell->lender, cell->slot);
        pthread_mutex_unlock(&it->pool->sched.lock);
    }
    cells_clear(&it->job.cells, cell);
}

static const struct pool_result *deliver(struct pool_iter *it, struct cell *cell)
{
    struct cells *cells = &it->job.cells;
    const struct pool_result *result = &cell->result;
    it->current = cell;
    atomic_fetch_sub_explicit(&cells->bytes, result->size, memory_order_relaxed);
    atomic_fetch_add_explicit(&cells->delivered, 1, memory_order_release);
    if (it->job.fail_fast && result->status && result->status != POOL_CANCELLED)
        it->over = 1;
    return result;
}

static void learn_credit(struct pool_iter *it)
{
    int64_t now = clock_now();
    if (now - it->turned > TURN_TIME)
        it->credit_full = it->credit_full > 1 ? it->credit_full / 2 : 1;
    else if (it->credit_full < CREDIT_MOST)
        it->credit_full *= 2;
    it->credit = it->credit_full;
    it->turned = now;
}

/* Turns the loop: in passing where a result is there, else until one is. */
static struct cell *turn(struct pool_iter *it, double seconds)
{
    struct sched *s = &it->pool->sched;
    pthread_mutex_lock(&s->lock);
    it->pool->callers++;
    if (!it->job.ended && (seconds == 0 || isnan(seconds) || cells_front(&it->job.cells)))
        sched_turn(s, &it->job);
    else if (!it->job.ended)
        sched_wait(s, is_ready, it, &it->job.waiter, &it->job, clock_deadline(seconds));
    struct cell *cell = front(it);
    pool_leave(it->pool);
    learn_credit(it);
    return cell;
}

static struct cell *run_serially(struct pool_iter *it)
{
    struct pool *pool = it->pool;
    struct cell *cell;
    pthread_mutex_lock(&pool->sched.lock);
    pool->callers++;
    while (!(cell = cells_front(&it->job.cells)) && !it->job.ended)
        submit_run_serially(pool, &it->job);
    pool_leave(pool);
    return cell;
}

const struct pool_result *pool_next_timeout(struct pool_iter *it, double seconds)
{
    status_clear();
    if (!it || pool_inherited(it->forks))
        return NULL;
    if (it->busy) {
        status_say(POOL_INVALID, "this iterator is in use: its generator must not ask it for results");
        return NULL;
    }
    let_go(it);
    if (it->over)
        return NULL;
    it->busy = 1;
    struct cell *cell = it->credit ? cells_front(&it->job.cells) : NULL;
    if (cell)
        it->credit--;
    else
        cell = it->pool->serial ? run_serially(it) : turn(it, seconds);
    it->busy = 0;
    return cell ? deliver(it, cell) : NULL;
}

const struct pool_result *pool_next(struct pool_iter *it)
{
    return pool_next_timeout(it, -1);
}

/* ---- Ends */

enum pool_status pool_iter_status(const struct pool_iter *iter)
{
    struct pool_iter *it = (struct pool_iter *)(uintptr_t)iter;
    status_clear();
    if (!it)
        return status_say(POOL_INVALID, "the iterator is NULL");
    if (pool_inherited(it->forks))
        return POOL_INVALID;
    struct job *job = &it->job;
    pthread_mutex_lock(&it->pool->sched.lock);
    int over = it->over || (job->ended && !front(it));
    enum pool_status status = !over ? POOL_PENDING : job->cut ? job->cut : job->source_failed ? POOL_SOURCE_FAILED : POOL_OK;
    if (status == POOL_BROKEN)
        submit_explain(it->pool, status);
    pthread_mutex_unlock(&it->pool->sched.lock);
    return status;
}

void pool_iter_cancel(struct pool_iter *it)
{
    status_clear();
    if (!it || pool_inherited(it->forks))
        return;
    pthread_mutex_lock(&it->pool->sched.lock);
    if (it->pool->serial)
        job_cut(&it->job, POOL_CANCELLED, 1);
    else if (!it->job.ended)
        sched_cut(&it->pool->sched, &it->job, POOL_CANCELLED, 1);
    pthread_mutex_unlock(&it->pool->sched.lock);
}

/* Gives up what lies at workers. */
static void empty(struct pool_iter *it)
{
    struct cells *cells = &it->job.cells;
    for (size_t i = 0; i <= cells->mask; i++)
        if (atomic_load(&cells->cells[i].full) && cells->cells[i].lender)
            sched_give_up(cells->cells[i].lender, cells->cells[i].slot);
}

void pool_iter_free(struct pool_iter *it)
{
    status_clear();
    if (!it || it->forks != forks_count)
        return;
    struct pool *pool = it->pool;
    let_go(it);
    pthread_mutex_lock(&pool->sched.lock);
    empty(it);
    it->job.abandoned = 1;
    if (!pool->serial && !it->job.ended)
        sched_cut(&pool->sched, &it->job, POOL_CANCELLED, 0);
    if (it->job.ended || pool->serial) {
        if (!pool->serial)
            sched_remove(&pool->sched, &it->job);
        job_fini(&it->job);
        free(it);
    }
    pool_handle_leave(pool);
}
