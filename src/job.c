/* A job: what was asked, and what came of it so far.
 *
 * Runs in the host, under the pool's lock. One mechanism settles map, apply, lists and iterators: they differ in where a result goes (the
 * caller's array, a list, a cell of the window) and in how much may be under way at once. A job knows items, results and
 * its own end; it knows nothing of workers: that is the crew's, and the scheduler brings the two together.
 *
 * An item counts as outstanding from its handing over to its one ending. The job has ended when its source has no more to give
 * (or was cut off) and nothing is outstanding; afterwards nothing of it changes but by its consumer. */
#include "job.h"

#include "copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_BYTES = 64 << 20 };       /* of items and results under way, where the caller gave no window */
enum { DEPTH_FIRST = 2 };               /* items at a worker before anything is known of their cost */

void job_blank(struct job *j)
{
    memset(j, 0, offsetof(struct job, failure_text));
    j->failure_text[0] = '\0';
}

int job_init(struct job *j, enum job_kind kind, const struct pool_call *call)
{
    j->kind = kind;
    j->chunk = call->chunk;
    j->fail_fast = call->fail_fast;
    j->depth = DEPTH_FIRST;
    j->leisurely = 1;
    return waiter_init(&j->waiter);
}

void job_fini(struct job *j)
{
    source_fini(&j->source);
    free(j->own_common);
    free(j->own_item);
    if (j->kind == JOB_ITER)
        cells_fini(&j->cells);
    waiter_fini(&j->waiter);
}

/* ---- Sending */

/* Items handed over whose result the consumer has not got yet. Acquire: the cells of what it has are filled anew for what is sent now. */
static size_t in_window(const struct job *j)
{
    size_t delivered = atomic_load_explicit(&j->cells.delivered, memory_order_acquire);
    if (j->cells.ordered)
        return j->source.next - delivered;
    return j->outstanding + (j->cells.filled - delivered);
}

size_t job_may_send(const struct job *j, size_t count, size_t size, size_t workers)
{
    if (j->cut || j->kind != JOB_ITER)
        return j->cut ? 0 : count;
    size_t used = in_window(j);
    if (j->source.returned_count)
        return count;                   /* they were in the window already */
    if (used >= j->window)
        return 0;
    size_t most = j->window - used < count ? j->window - used : count;
    if (j->window_given)
        return most;
    size_t bytes = j->bytes + cells_bytes(&j->cells) + j->outstanding * j->result_size;
    size_t each = size + j->result_size + 1, left = bytes < WINDOW_BYTES ? WINDOW_BYTES - bytes : 0;
    if (most == 1 && each <= left)
        return 1;                       /* whether there is room at all is asked most often: not worth a division */
    size_t fit = left / each, least = used < workers ? workers - used : 0;
    if (fit < least)
        fit = least;
    return most < fit ? most : fit;
}

void job_unsent(struct job *j, size_t count, size_t size)
{
    j->outstanding -= count;
    j->bytes -= count * size;
    if (j->cut)
        j->tally[POOL_CANCELLED] += count;
}

static void ended(struct job *j, size_t count, size_t size)
{
    j->outstanding -= count;
    j->bytes -= count * size;
    j->ended_items += count;
}

/* ---- Ends */

void job_drop(struct job *j, const struct piece *piece)
{
    struct ending e = {.status = j->cut == POOL_BROKEN ? POOL_BROKEN : POOL_CANCELLED, .tries = piece->tries, .slot = -1,
                       .text = "it was to be started again when the call ended"};
    for (size_t i = 0; j->list && piece->tries && i < piece->count; i++) {
        e.index = piece->index + i;
        list_put(j->list, &e);          /* without memory for it: list_close tells less of it */
    }
}

void job_cut(struct job *j, enum pool_status why, int kill)
{
    if (kill && !j->kill) {
        j->kill = 1;
        j->recalled = 0;
    }
    if (j->cut)
        return;
    j->cut = why;
    j->tally[POOL_CANCELLED] += source_left(&j->source);
    for (size_t i = 0; i < j->source.returned_count; i++)
        job_drop(j, &j->source.returned[i]);
    source_drop(&j->source);
}

/* In order, what comes behind a missing result is none yet, but that a generator may be pulled is. */
static int is_news(struct job *j)
{
    return !j->told && (j->kind != JOB_ITER || j->ended || j->source.pull || cells_front(&j->cells));
}

void job_tell(struct job *j)
{
    waiter_wake(&j->waiter);
    if (j->news && is_news(j))
        news_set(j->news, &j->has_news, 1);
}

/* The failure to be told is the one of the lowest index; what was cut short does not count where something failed by itself. */
static void note_failure(struct job *j, const struct ending *e)
{
    int cut_short = e->status == POOL_CANCELLED || e->status == POOL_BROKEN;
    if (cut_short || (j->failure.status && j->failure.index <= e->index))
        return;
    j->failure = (struct pool_result){.index = e->index, .status = e->status, .code = e->code, .signal = e->signal, .tries = e->tries,
                                      .pid = e->pid};
    snprintf(j->failure_text, sizeof j->failure_text, "%s", e->text);
}

static void fail(struct job *j, const struct ending *e)
{
    j->tally[e->status == POOL_BROKEN ? POOL_CANCELLED : e->status]++;
    j->failed_items++;
    note_failure(j, e);
    if (j->fail_fast && e->status != POOL_CANCELLED && e->status != POOL_BROKEN)
        job_cut(j, e->status, 1);
}

/* A result for an array has to have the size of its elements. */
static void put_in_array(struct job *j, const struct ending *e)
{
    struct ending wrong = *e;
    char text[100];
    if (e->status != POOL_OK) {
        fail(j, e);
    } else if (!j->out || e->size == j->out_size) {
        j->tally[POOL_OK]++;
        if (j->out && e->size)
            copy_bytes(j->out + e->index * j->out_size, e->data, e->size);
    } else {
        snprintf(text, sizeof text, "its result has %zu bytes where %zu are wanted", e->size, j->out_size);
        wrong.status = POOL_FAILED;
        wrong.code = 0;
        wrong.text = text;
        fail(j, &wrong);
    }
}

/* A result for which the list has no memory is a failure like others. */
static void put_in_list(struct job *j, const struct ending *e)
{
    struct ending end = *e;
    if (list_put(j->list, e)) {
        job_cut(j, POOL_NO_MEMORY, 1);
        return;
    }
    const struct pool_result *r = pool_results_at(j->list, e->index);
    if (e->status == POOL_OK && r->status != POOL_OK) {
        end.status = r->status;
        end.code = r->code;
        end.text = r->message;
    }
    if (end.status)
        fail(j, &end);
    else
        j->tally[POOL_OK]++;
}

static int put(struct job *j, const struct ending *e)
{
    if (j->abandoned && j->kind == JOB_ITER) {
        j->tally[e->status == POOL_BROKEN ? POOL_CANCELLED : e->status]++;
        free(e->owned);
        return 0;
    }
    switch (j->kind) {
    case JOB_MAP:
        put_in_array(j, e);
        free(e->owned);
        return 0;
    case JOB_LIST:
        put_in_list(j, e);
        return 0;
    case JOB_ITER:
        if (e->status)
            fail(j, e);
        else
            j->tally[POOL_OK]++;
        j->result_size = e->size > j->result_size ? e->size : j->result_size - j->result_size / 8 + e->size / 8;
        int kept = cells_fill(&j->cells, e);
        if (kept < 0 && j->fail_fast)
            job_cut(j, POOL_FAILED, 1);
        return kept > 0;
    }
    return 0;
}

int job_settle(struct job *j, const struct ending *e, size_t item_size)
{
    ended(j, 1, item_size);
    return put(j, e);
}

void job_settle_run(struct job *j, size_t index, size_t count, const void *data, size_t item_size)
{
    ended(j, count, item_size);
    j->tally[POOL_OK] += count;
    if (data && j->out && j->out_size)
        memcpy(j->out + index * j->out_size, data, count * j->out_size);
}

static void tell_source_failed(struct job *j)
{
    char text[80];
    snprintf(text, sizeof text, "the generator of the items failed with code %d", j->source_code);
    struct ending e = {.index = j->source.count, .status = POOL_SOURCE_FAILED, .code = j->source_code, .slot = -1, .text = text};
    if (j->kind != JOB_MAP) {
        put(j, &e);
        return;
    }
    note_failure(j, &e);                /* the highest index: any failed item comes before it */
    if (j->fail_fast)
        job_cut(j, POOL_SOURCE_FAILED, 1);
}

void job_source_failed(struct job *j, int code)
{
    j->source.pull = NULL;
    j->source_failed = 1;
    j->source_code = code;
    if (j->kind != JOB_ITER || j->cells.ordered)
        tell_source_failed(j);          /* else as the last of all, at the end */
    else if (j->fail_fast)
        job_cut(j, POOL_SOURCE_FAILED, 1);
}

int job_check_end(struct job *j)
{
    if (j->ended || j->outstanding || source_left(&j->source) || !source_known(&j->source))
        return j->ended;
    if (j->source_failed && j->kind == JOB_ITER && !j->cells.ordered)
        tell_source_failed(j);
    j->ended = 1;
    if (j->kind == JOB_LIST)
        list_close(j->list, j->source.total, job_status(j));
    job_tell(j);
    return 1;
}

enum pool_status job_status(const struct job *j)
{
    if (j->cut && (j->cut == POOL_BROKEN || j->cut == POOL_CANCELLED || !j->failure.status))
        return j->cut;
    return j->failure.status;
}
