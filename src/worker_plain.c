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

/* Nonzero: the nth item of the span, which is held, is begun; 0: the caller was quicker. */
static int begin_held(struct worker *w, uint32_t nth)
{
    struct desk *desk = w->channel.desk;
    uint32_t position = claim_add(w->span_first, nth);
    if (claim_begin(&desk->claim, &desk->begun, w->left, position))
        return 1;
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

/* Where a result lies that needs no word to the caller; -1: each does. */
static int silent_place(const struct worker *w)
{
    return w->results ? TASK_PREPARED : w->call->mode == RESULT_DROPPED ? TASK_NO_ROOM : -1;
}

/* Aligned, since else any change elsewhere moves the loop to where it is 5 to 9 % slower (gcc 12, Zen 3). */
__attribute__((aligned(64))) int worker_do_plain_items(struct worker *w)
{
    struct desk *desk = w->channel.desk;
    uint32_t nth = claim_distance(w->span_first, claim_running(w->left)), ahead = claim_ahead(w->left), held = 0;
    size_t item_step = (size_t)w->head.item_size, result_step = w->results ? w->run.prepared.size : 0;
    const unsigned char *item = w->items + nth * item_step;
    uintptr_t result = (uintptr_t)worker_place_of_result(w, nth);       /* or 0, which is no pointer to be moved */
    int silent = silent_place(w), paced = w->may_hold && silent != -1 && ahead >= PACE_FIRST;
    struct pace pace = {.since = paced ? clock_now() : 0, .batch = 1};
    for (;; nth++, item += item_step, result += result_step) {
        task_begin(&w->run);
        w->run.prepared.at = (void *)result;
        int code = worker_run_item(w, item, nth);
        if (code || w->run.room.place != silent) {
            w->position = claim_add(w->span_first, nth);
            if (code || w->results) {           /* the caller hears only of what the word says has ended, or runs */
                let_go(w, nth);
                held = 0;
                ahead = claim_ahead(w->left);
            }
            worker_publish(w, code);
            if (w->urgent)
                return 0;
        }
        if (held) {
            if (!begin_held(w, nth + 1))
                return 0;
            held--;
            if (!claim_held(w->left)) { /* the word had changed: most likely they are wanted elsewhere */
                held = 0;
                ahead = claim_ahead(w->left);
                pace.batch = 1;
            }
            continue;
        }
        uint32_t batch = batch_behind(w, nth, ahead, pace.batch);
        if (!ahead || !claim_go_on(&desk->claim, &desk->begun, &w->left, batch)) {
            let_go(w, nth);
            return 0;
        }
        ahead -= batch;
        if (channel_must_wake_caller(desk, claim_running(w->left)))
            worker_ring(w);
        uint32_t count = worker_span_count(w);  /* now that they are claimed, it stands still */
        held = batch - 1;
        if (held && nth + batch >= count) {
            let_go(w, nth + 1);
            held = 0;
            ahead = claim_ahead(w->left);
        }
        if (nth + 1 >= count)
            return 1;
        if (paced && (pace.items += batch) >= (pace.batch > 1 ? PACE_LATER : PACE_FIRST))
            learn_pace(w, &pace);
    }
}
