/* Iterators: imap and imap_unordered.
 *
 * Runs in the iterator's thread. A result that is there already is handed over without the lock (cells.h). But somebody has to keep the
 * workers busy meanwhile: every so many results the consumer makes a turn of the loop in passing. How many is learned by the clock,
 * which is read only then: a consumer that takes long for each makes a turn each time, one that races through makes few; and one that
 * has slowed down is found out by the coarse clock, which costs next to nothing.
 *
 * An iterator is its job. Freed before the job has ended, it is abandoned: the scheduler frees it with the last item that runs. */
#include "clock.h"
#include "forks.h"
#include "progress.h"
#include "status.h"
#include "submit.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* Items. The least is what two workers need to have enough to do for as long as the system may run one of them, or a stranger, instead of
 * the consumer: with 1,024 they ran dry then, slept, and took its CPU again when they were woken, so that small items took up to 220 ns
 * instead of 80 in one of two runs. With two more cells (cells.c) it fills a ring of 4,096, and WINDOW_FULL one of 16,384. */
enum { WINDOW_LEAST = 4094, WINDOW_PER_WORKER = 256, WINDOW_FULL = (16 << 10) - 2, WINDOW_SHARE = 16, WINDOW_MOST = 1 << 20 };
enum { CREDIT_MOST = 256 };             /* results between two turns in passing, */
enum { LOOKS = 4 };                     /*   and between two looks at the coarse clock, which take a tenth of the time of a small result */
#define TURN_TIME 20000                 /* nanoseconds that should lie between them */

struct pool_iter {
    struct job   job;                   /* first: the scheduler frees it as a job */
    struct pool *pool;
    unsigned     forks;
    int          busy;                  /* a call on it is under way: a generator must not ask its own iterator */
    int          over;                  /* the end was delivered */
    struct cell *current;               /* the result that the consumer holds */
    struct pool_progress *bar;          /* or NULL: counts what was delivered, */
    size_t       failed;                /*   and how much of that badly */
    unsigned     credit, credit_full;
    int64_t      turned;                /* when the loop was last turned in passing, */
    int64_t      ticks;                 /*   by the coarse clock, too */
};

/* ---- Making one */

/* 256 items a worker, but beyond WINDOW_FULL only 16: the cells of 65,000 are 16 MiB, to be cleared at the beginning of each call and to go
 * through the cache again and again. A stream of 200,000 items with 256 workers took 36 ms instead of 103. */
static size_t default_window(size_t workers)
{
    size_t window = WINDOW_PER_WORKER * workers;
    window = window < WINDOW_FULL ? window : WINDOW_FULL;
    window = window > WINDOW_SHARE * workers ? window : WINDOW_SHARE * workers;
    return window > WINDOW_LEAST ? window : WINDOW_LEAST;
}

static size_t window_for(const struct pool *pool, const struct job *job, const struct pool_call *call)
{
    size_t window = call ? call->window : 0;
    if (!window)
        window = default_window(pool->serial ? 1 : pool->sched.crew.size);
    if (source_known(&job->source) && job->source.count < window)
        window = job->source.count;
    return window < WINDOW_MOST ? window : WINDOW_MOST;
}

static enum pool_status prepare(struct pool *pool, struct pool_iter *it, int ordered, pool_fn *fn, struct pool_items items,
                                const struct pool_call *call)
{
    struct job *job = &it->job;
    enum pool_status status = submit_prepare(pool, job, JOB_ITER, fn, items, call, SUBMIT_ITERATED);
    if (status)
        return status;
    job->window_given = call && call->window;
    job->window = window_for(pool, job, call);
    if (!cells_init(&job->cells, job->window, ordered))
        return POOL_OK;
    job_fini(job);
    return status_say(POOL_NO_MEMORY, "no memory for a window of %zu results", job->window);
}

/* The last item of one that was freed has ended. */
static void on_end(struct job *job)
{
    if (!job->abandoned)
        return;
    job_fini(job);
    free(job);
}

static enum pool_status start(struct pool *pool, struct pool_iter *it, const struct pool_call *call)
{
    struct sched *s = &pool->sched;
    struct job *job = &it->job;
    int r = job->timeout ? helper_attend(&pool->helper) : 0;
    if (r) {
        char text[100];
        job_fini(job);
        errno = r;
        return status_say(POOL_FAILED, "a thread that looks after time limits could not be started: %s",
                          status_errno(r, text, sizeof text));
    }
    it->pool = pool;
    it->forks = pool->forks;
    it->credit_full = 1;
    it->bar = submit_bar(job, call);
    job->on_end = on_end;
    job->news = &pool->news;
    job->unattended = atomic_load(&pool->watched);
    pool_handle_enter(pool, job);
    if (pool->serial) {
        job_check_end(job);
        return POOL_OK;
    }
    size_t share = (job->window + s->crew.size - 1) / s->crew.size;
    if (share > job->depth)
        job->depth = share < DEPTH_MOST ? share : DEPTH_MOST;   /* the caller may be elsewhere for a while: a window's worth is sent */
    it->busy = 1;
    submit_start(pool, job);
    sched_turn(s, job);
    sched_end(s, job);
    it->busy = 0;
    return POOL_OK;
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
    errno = 0;
    if (it && !status)
        status = start(pool, it, call);
    int error = errno ? errno : submit_errno(status);
    if (status) {
        free(it);
        it = NULL;
    }
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
        sched_enter(&it->pool->sched);
        sched_give_up(cell->lender, cell->slot);
        sched_leave(&it->pool->sched);
    }
    cells_clear(&it->job.cells, cell);
}

static const struct pool_result *deliver(struct pool_iter *it, struct cell *cell)
{
    const struct pool_result *result = &cell->result;
    it->current = cell;
    cells_deliver(&it->job.cells, cell);
    if (result->status) {
        it->failed++;
        it->over |= it->job.fail_fast && result->status != POOL_CANCELLED;
    }
    return result;
}

/* As many as fit between two turns at the pace of those before this one, which has begun at that time. */
static void learn_credit(struct pool_iter *it, int64_t begin)
{
    int64_t spent = begin - it->turned, taken = it->credit_full - it->credit + 1;
    if (spent > TURN_TIME)
        it->credit_full = 1 + (unsigned)(taken * TURN_TIME / spent);
    else if (!it->credit && it->credit_full < CREDIT_MOST)
        it->credit_full *= 2;
    it->credit = it->credit_full;
    it->turned = clock_now();
    it->ticks = clock_ticks();
}

/* May the next result be taken without a turn? Not if the consumer has slowed down since: credit from faster times is void then, but for
 * that of LOOKS - 1 results at most. */
static int may_take(struct pool_iter *it)
{
    int look = it->credit % LOOKS == 0 || it->credit_full < LOOKS;
    if (!it->credit || (look && clock_ticks() != it->ticks))
        return 0;
    it->credit--;
    return 1;
}

/* Turns the loop: in passing where a result is there, else until one is. */
static struct cell *turn(struct pool_iter *it, double seconds)
{
    struct sched *s = &it->pool->sched;
    int64_t begin = clock_now();
    sched_enter(s);
    it->pool->callers++;
    if (!it->job.ended && (seconds == 0 || isnan(seconds) || cells_front(&it->job.cells)))
        sched_turn(s, &it->job);
    else if (!it->job.ended)
        sched_wait(s, is_ready, it, &it->job.waiter, &it->job, clock_deadline(seconds));
    struct cell *cell = front(it);
    pool_leave(it->pool);
    learn_credit(it, begin);
    return cell;
}

static struct cell *run_serially(struct pool_iter *it)
{
    struct pool *pool = it->pool;
    struct cell *cell;
    sched_enter(&pool->sched);
    pool->callers++;
    while (!(cell = cells_front(&it->job.cells)) && !it->job.ended)
        submit_run_serially(pool, &it->job);
    pool_leave(pool);
    return cell;
}

static void show_progress(const struct pool_iter *it)
{
    const struct cells *cells = &it->job.cells;
    progress_show(it->bar, atomic_load_explicit(&cells->delivered, memory_order_relaxed) - cells->holes, it->failed);
}

/* When the loop was turned, which is once in a tick of the coarse clock at least: shown for each result the bar cost a stream 12 to 18 % of
 * its pace. */
static void update_progress(struct pool_iter *it, const struct pool_result *result)
{
    show_progress(it);
    if (result)
        return;
    sched_enter(&it->pool->sched);
    int ended = it->over || it->job.ended;
    sched_leave(&it->pool->sched);
    if (!ended)
        return;
    pool_progress_finish(it->bar);
    it->bar = NULL;
}

/* Is there something new for whoever watches pool_fd? */
static void update_news(struct pool_iter *it, int got)
{
    struct job *job = &it->job;
    sched_enter(&it->pool->sched);
    int left = it->over || job->ended || cells_front(&job->cells) || job->pull_again;     /* since we have pulled */
    job->told = !got && (it->over || (job->ended && !front(it)));
    news_set(&it->pool->news, &job->has_news, left && !job->told);
    sched_leave(&it->pool->sched);
}

const struct pool_result *pool_next_timeout(struct pool_iter *it, double seconds)
{
    status_clear();
    if (!it || pool_inherited(it->forks) || (seconds != 0 && !isnan(seconds) && pool_must_not_wait(it->pool)))
        return NULL;
    if (it->busy) {
        status_say(POOL_INVALID, "this iterator is in use: its generator must not ask it for results");
        return NULL;
    }
    let_go(it);
    int watched = atomic_load_explicit(&it->pool->watched, memory_order_relaxed);
    struct cell *cell = NULL;
    int in_passing = 0;
    it->busy = 1;
    if (!it->over) {
        cell = may_take(it) ? cells_front(&it->job.cells) : NULL;
        in_passing = cell != NULL;
        if (!cell)
            cell = it->pool->serial ? run_serially(it) : turn(it, seconds);
    }
    it->busy = 0;
    const struct pool_result *result = cell ? deliver(it, cell) : NULL;
    if (it->bar && !in_passing)
        update_progress(it, result);
    if (watched || !result)             /* an end that was told is no news for a descriptor that is made later, either */
        update_news(it, result != NULL);
    return result;
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
    sched_enter(&it->pool->sched);
    int over = it->over || (job->ended && !front(it));
    enum pool_status status = !over ? POOL_PENDING : job->cut ? job->cut : job->source_failed ? POOL_SOURCE_FAILED : POOL_OK;
    if (status == POOL_BROKEN)
        submit_explain(it->pool, status);
    sched_leave(&it->pool->sched);
    return status;
}

void pool_iter_cancel(struct pool_iter *it)
{
    status_clear();
    if (!it || pool_inherited(it->forks))
        return;
    sched_enter(&it->pool->sched);
    if (it->pool->serial)
        job_cut(&it->job, POOL_CANCELLED, 1);
    else if (!it->job.ended)
        sched_cut(&it->pool->sched, &it->job, POOL_CANCELLED, 1);
    sched_leave(&it->pool->sched);
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
    if (it->busy) {
        status_say(POOL_INVALID, "this iterator is in use: its generator must not free it");
        return;
    }
    struct pool *pool = it->pool;
    let_go(it);
    show_progress(it);
    pool_progress_finish(it->bar);
    sched_enter(&pool->sched);
    empty(it);
    pool_handle_leave(pool, &it->job);
    int running = !pool->serial && !it->job.ended;
    it->job.abandoned = 1;
    it->job.news = NULL;
    if (running)
        sched_cut(&pool->sched, &it->job, POOL_CANCELLED, 0);       /* frees it, or whoever settles its last item will */
    else
        on_end(&it->job);
    pool_unlock(pool);
}
