/* The loop over plain items: what a map of numbers spends its time in. Going through the steps of any item for each of them took 320
 * instructions instead of 80.
 *
 * Runs in the worker. Items that need no word to the caller are claimed several at a time, once they have shown to be small: the swap of
 * the claim word alone takes longer than all the rest (claim.h: how the caller gets back what is held behind one that turns out to be
 * slow). With a swap for each item a map of a million numbers takes 6.9 ns an item instead of 4.3, and of a range without results 5.5
 * instead of 2.2 (an Intel Xeon of 2023, 2 workers). */
#include "worker_plain.h"

#include "clock.h"

#define PACE_TIME 4000                  /* nanoseconds of work that are claimed at a time */
enum { PACE_FIRST = 32, PACE_LATER = 256 };     /* items after which their time is looked at; and where they are small already */

/* How long they take: learned anew in each span, since what comes after a span may be of another kind. */
struct pace {
    int64_t  since;
    uint32_t items;
    uint32_t batch;                     /* so many are to be claimed at a time */
};

static void learn_pace(const struct worker *w, struct pace *pace)
{
    int64_t now = clock_now(), each = (now - pace->since) / pace->items;
    int64_t batch = each < 1 ? CLAIM_BATCH : PACE_TIME / each;
    int held_for_good = atomic_load_explicit(&w->channel.desk->unfenced, memory_order_relaxed) != 0;
    batch = batch < 1 || held_for_good ? 1 : batch < CLAIM_BATCH ? batch : CLAIM_BATCH;
    *pace = (struct pace){.since = now, .batch = (uint32_t)batch};
}

/* How many to claim behind the nth item of the span, where there are some: no more than it has, but for the one that begins the next. */
static uint32_t batch_behind(const struct worker *w, uint32_t nth, uint32_t ahead, uint32_t batch)
{
    if (batch == 1)
        return 1;
    uint32_t count = worker_span_count(w), left = count > nth + 1 ? count - nth - 1 : 1;
    batch = batch < left ? batch : left;
    return batch < ahead ? batch : ahead;
}

/* Nonzero: the nth item of the span, which is held, is begun; 0: the caller was quicker. Whatever that wanted of the word, nothing else is
 * held then; if it was what is held, these items are not small any more. */
static int begin_held(struct worker *w, uint32_t nth, struct pace *pace)
{
    struct desk *desk = w->channel.desk;
    uint32_t position = claim_add(w->span_first, nth);
    if (claim_begin(&desk->claim, &desk->begun, w->left, position))
        return 1;
    struct claim now = claim_load(&desk->claim);
    if (now.recalled || !now.held)
        pace->batch = 1;
    enum claim_step step = claim_settle(&desk->claim, position, &w->left);
    if (step == CLAIM_DAMAGED)
        worker_damaged();
    return step == CLAIM_GOT;
}

/* What is held behind the nth item of the span, which has been run, is the caller's again. */
static void let_go(struct worker *w, uint32_t nth)
{
    if (claim_held(w->left) && claim_settle(&w->channel.desk->claim, claim_add(w->span_first, nth), &w->left) != CLAIM_GOT)
        worker_damaged();
}

/* An item that has failed, or whose result lies elsewhere. Nothing is held behind it while the caller is told, since that hears only of
 * what the claim word says has ended, or runs. */
static void tell(struct worker *w, uint32_t nth, int code)
{
    w->position = claim_add(w->span_first, nth);
    if (code || w->results)
        let_go(w, nth);
    worker_publish(w, code);
}

static void ring_if_it_waits(struct worker *w)
{
    struct desk *desk = w->channel.desk;
    if (channel_must_wake_caller(desk, claim_running(w->left)))
        worker_ring(w);
}

/* Claims what is to be run behind the nth item. How many; 0: it is still to be done, or *over: the next one lies in another span. */
static uint32_t claim_behind(struct worker *w, uint32_t nth, uint32_t batch, int *over)
{
    struct desk *desk = w->channel.desk;
    uint32_t ahead = claim_ahead(w->left), much = ahead ? batch_behind(w, nth, ahead, batch) : 0;
    if (!much || !claim_go_on_together(&desk->claim, &desk->begun, &w->left, much)) {
        let_go(w, nth);
        return 0;
    }
    ring_if_it_waits(w);
    uint32_t count = worker_span_count(w);      /* now that they are claimed: what it loses, was given back */
    if (nth + much >= count) {
        let_go(w, nth + 1);
        much = 1;
    }
    *over = nth + 1 >= count;
    return *over ? 0 : much;
}

/* Results lie where the caller looks for them, or nobody wants them. By itself and aligned, since else any change elsewhere moves the
 * loop to where it is 5 to 9 % slower (gcc 12, Zen 3). */
__attribute__((noinline, aligned(64))) static int run_silent_items(struct worker *w, int place)
{
    uint32_t nth = claim_distance(w->span_first, claim_running(w->left)), held = 0;
    size_t item_step = (size_t)w->head.item_size, result_step = w->results ? w->run.prepared.size : 0;
    const unsigned char *item = w->items + nth * item_step;
    uintptr_t result = (uintptr_t)worker_place_of_result(w, nth);       /* or 0, which is no pointer to be moved */
    int over = 0, paced = w->may_hold && claim_ahead(w->left) >= PACE_FIRST;
    struct pace pace = {.since = paced ? clock_now() : 0, .batch = 1};
    for (;; nth++, item += item_step, result += result_step) {
        task_begin(&w->run);
        w->run.prepared.at = (void *)result;
        int code = worker_run_item(w, item, nth);
        if (__builtin_expect(code || w->run.room.place != place, 0)) {
            tell(w, nth, code);
            if (w->urgent)
                return 0;
            held = claim_held(w->left) ? held : 0;
        }
        if (held) {
            if (!begin_held(w, nth + 1, &pace))
                return 0;
            held = claim_held(w->left) ? held - 1 : 0;
            continue;
        }
        held = claim_behind(w, nth, pace.batch, &over);
        if (!held)
            return over;
        if (paced && (pace.items += held) >= (pace.batch > 1 ? PACE_LATER : PACE_FIRST))
            learn_pace(w, &pace);
        held--;
    }
}

/* The caller is told of each. */
static int run_told_items(struct worker *w)
{
    uint32_t nth = claim_distance(w->span_first, claim_running(w->left)), ahead = claim_ahead(w->left);
    const unsigned char *item = w->items + nth * w->head.item_size;
    w->run.prepared.at = NULL;
    do {
        task_begin(&w->run);
        int code = worker_run_item(w, item, nth);
        w->position = claim_running(w->left);
        worker_publish(w, code);
        if (w->urgent || !ahead-- || !claim_go_on(&w->channel.desk->claim, &w->left))
            return 0;
        ring_if_it_waits(w);
        item += w->head.item_size;
    } while (++nth < worker_span_count(w));
    return 1;
}

int worker_do_plain_items(struct worker *w)
{
    if (w->results)
        return run_silent_items(w, w->run.prepared.size ? TASK_PREPARED : TASK_NO_ROOM);
    return w->call->mode == RESULT_DROPPED ? run_silent_items(w, TASK_NO_ROOM) : run_told_items(w);
}
