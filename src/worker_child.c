/* A worker process.
 *
 * Runs in a child of the nursery, single-threaded until a task or an initializer starts threads. It claims an item, runs the task
 * function on it, publishes the result, and looks for the caller only where that sleeps. What it believes of its channel it
 * checks against private memory: a task may have written anywhere. Where that shows damage, or the pipe is no longer its
 * pipe, it leaves at once, and the caller learns it as a death.
 *
 * Order of things: write the result (worker_result.c); then, in one step, finish the item and claim the next; then wake the caller if it
 * sleeps and wanted to know; then run. A kill at any point leaves each item finished, running or waiting, and nothing between. Of small
 * items several are claimed in one step (worker_plain.c).
 *
 * It leaves by _exit, so that nothing of the host's runs at its end: a task that calls exit() gets our handler first (registered in
 * the nursery, after all of the host's, so run before them), which ends the process there with the task's status. */
#define _GNU_SOURCE
#include "worker_child.h"

#include "clock.h"
#include "fd.h"
#include "fence.h"
#include "leave.h"
#include "worker_plain.h"
#include "worker_result.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEASURE_EVERY 1000000           /* nanoseconds between two looks at its own memory */

/* ---- Birth */

void worker_prepare(void)
{
    object_find(&(struct object_ref){0});
    leave_at_exit();
}

/* A sibling's channel must not be within reach of what a task does here. */
static void unmap_siblings(const struct worker_plan *plan, unsigned slot)
{
    size_t after = plan->slots - slot - 1;
    if (slot) {
        munmap(plan->desks, slot * plan->desk_size);
        munmap(plan->regions, slot * plan->region_size);
    }
    if (after) {
        munmap(plan->desks + (slot + 1) * plan->desk_size, after * plan->desk_size);
        munmap(plan->regions + (slot + 1) * plan->region_size, after * plan->region_size);
    }
}

/* Their dispositions are the default already: the nursery's. */
static void open_signals(void)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void settle_in(struct worker *w, const struct worker_plan *plan, unsigned slot, int task_pipe, int result_pipe)
{
    *w = (struct worker){.task_pipe = task_pipe, .result_pipe = result_pipe};
    if (fd_identify(task_pipe, &w->task_identity) || fd_identify(result_pipe, &w->result_identity))
        _exit(WORKER_DAMAGED);
    channel_lay(&w->channel, plan->desks + slot * plan->desk_size, plan->regions + slot * plan->region_size, plan->slot_size);
    w->left = atomic_load(&w->channel.desk->claim);
    w->may_hold = fence_accept();
    w->spin.off = plan->no_spin != 0;
    w->spin.time = plan->first_spin;
    w->max_memory = plan->limits.max_memory;
    w->run.worker = (struct pool_worker){.index = atomic_load(&w->channel.desk->index), .arg = plan->initarg};
    task_prepare(&w->run);
    worker_result_init(w);
}

/* ---- Reading what is to be done */

static void learn_call(struct worker *w, const struct frame *frame)
{
    struct task_call head;
    if (frame->tag >= CHANNEL_CALLS || frame->size < sizeof head)
        worker_damaged();
    memcpy(&head, frame->payload, sizeof head);
    struct worker_call *call = &w->calls[frame->tag];
    free(call->common);
    *call = (struct worker_call){
        .fn = (pool_fn *)object_find(&(struct object_ref){head.name, head.contents, head.offset}),
        .common_size = (size_t)head.common_size,
        .out_size = (size_t)head.out_size,
        .mode = head.mode,
        .timed = head.timed,
        .unread = head.common_size && head.place == PLACE_STREAM,
    };
    if (!head.common_size)
        return;
    call->common = malloc(call->common_size);
    if (!call->common || call->unread)
        return;
    if (head.common_size > frame->size - sizeof head)
        worker_damaged();
    memcpy(call->common, (const char *)frame->payload + sizeof head, call->common_size);
}

/* Do its items need nothing but to be run? */
static int is_plain(const struct worker *w)
{
    const struct worker_call *call = w->call;
    int has_context = (call->common && !call->unread) || !call->common_size;
    return w->head.place == PLACE_INLINE && call->fn && has_context && !call->timed && !w->max_memory;
}

/* Where its items and results lie: all of them within it, so that no item has to be asked again. */
static void lay_out_span(struct worker *w, size_t size)
{
    const struct worker_span *head = &w->head;
    unsigned char *body = (unsigned char *)(uintptr_t)(w->span + 1);
    uint64_t out_size = w->call->out_size;
    if (head->place == PLACE_INLINE && head->item_size && head->count > size / head->item_size)
        worker_damaged();
    w->items = body;
    w->results = NULL;
    w->plain = is_plain(w);
    if (w->call->mode != RESULT_PACKED)
        return;
    if (head->results > size || (out_size && head->count > (size - head->results) / out_size))
        worker_damaged();
    w->results = body + head->results;
    w->run.prepared.size = (size_t)out_size;
}

static void enter_span(struct worker *w, const struct frame *frame)
{
    const struct task_span *span = frame->payload;
    if (frame->size < sizeof *span)
        worker_damaged();
    w->head = (struct worker_span){atomic_load_explicit(&span->count, memory_order_relaxed), span->call, span->place, span->index,
                                   span->item_size, span->at, span->results};
    if (w->head.call >= CHANNEL_CALLS)
        worker_damaged();
    w->span = span;
    w->span_first = frame->tag;
    w->offer = (struct claim_offer){&span->offered, frame->tag, w->head.count};
    w->call = &w->calls[w->head.call];
    lay_out_span(w, (size_t)frame->size - sizeof *span);
}

static int in_current_span(const struct worker *w, uint32_t position)
{
    return w->span && claim_distance(w->span_first, position) < worker_span_count(w);
}

/* Goes on in the task ring to the span that has the claimed position. The caller writes no further frame into what was not
 * claimed yet, and lowers a count only before it publishes positions beyond it, so what is read here stands still. */
static void find_span(struct worker *w, uint32_t position)
{
    while (!in_current_span(w, position)) {
        struct frame frame;
        if (frame_peek(&w->channel.tasks, &w->cursor, w->cursor + CHANNEL_TASKS, &frame) != FRAME_WHOLE)
            worker_damaged();
        w->cursor += frame_extent(&w->channel.tasks, frame.size);
        if (frame.kind == TASK_CALL)
            learn_call(w, &frame);
        else if (frame.kind == TASK_SPAN)
            enter_span(w, &frame);
        else
            worker_damaged();
    }
}

/* Reads `size` bytes that the caller sends once it was told that they are needed. */
static void read_stream(struct worker *w, enum tell_kind need, uint32_t tag, void *to, size_t size)
{
    struct desk *desk = w->channel.desk;
    worker_tell(w, need, tag, NULL, 0, NULL, 0);
    stream_reach(w->channel.item_stream, w->item_read, size, &w->channel.reach.item_stream, PAGES_READ);
    for (size_t done = 0, ready = 0; done < size;) {
        pages_prepare_ahead(to, size, done + CHANNEL_STREAM, &ready);
        worker_wait(w, worker_news_stream);
        size_t much = stream_read(w->channel.item_stream, &desk->item_stream_tail, &desk->item_stream_head, &w->item_read,
                                  (char *)to + done, size - done);
        if (much == SIZE_MAX)
            worker_damaged();
        done += much;
    }
}

static const void *find_item(struct worker *w, uint32_t position, uint32_t nth, size_t size)
{
    switch (w->head.place) {
    case PLACE_INLINE:
        return w->items + nth * size;
    case PLACE_LANE:
        if (w->head.at >= CHANNEL_LANE_SLOTS || size > w->channel.slot_size)
            worker_damaged();
        return channel_item_slot(&w->channel, (size_t)w->head.at, size, PAGES_READ);
    case PLACE_STREAM:
        w->item = size < SIZE_MAX - 64 ? aligned_alloc(64, (size + 63) & ~(size_t)63) : NULL;      /* as array items are promised to be */
        if (w->item)
            read_stream(w, TELL_NEED_ITEM, position, w->item, size);
        return w->item;
    default:
        worker_damaged();
    }
}

/* ---- One item */

/* What an item may still have to wait for, or fail for, before its function runs. */
static int fetch_item(struct worker *w, uint32_t position, uint32_t nth)
{
    struct pool_task *task = &w->run.task;
    struct worker_call *call = w->call;
    if (!call->fn)
        return pool_fail(task, -1, "the worker does not have this function's library loaded as the host has it: load it before "
                                   "pool_create, or in the initializer from the same file");
    if (call->unread && call->common) {
        read_stream(w, TELL_NEED_CONTEXT, (uint32_t)(call - w->calls), call->common, call->common_size);
        call->unread = 0;
    }
    if (call->common_size && !call->common)
        return pool_fail(task, -1, "the worker has no memory for the call's common context of %zu bytes", call->common_size);
    size_t size = (size_t)w->head.item_size;
    task->in = find_item(w, position, nth, size);
    if (!task->in)
        return pool_fail(task, -1, "the worker has no memory for an item of %zu bytes", size);
    return 0;
}

static void note_start(struct worker *w, uint32_t position)
{
    struct desk *desk = w->channel.desk;
    atomic_store(&desk->started_at, (uint64_t)clock_now());
    atomic_store(&desk->started_position, position);
}

/* The claimed item, whatever it needs. */
static void do_item(struct worker *w)
{
    uint32_t position = claim_running(w->left), nth = claim_distance(w->span_first, position);
    w->position = position;
    w->timed = w->call->timed != 0;
    if (w->timed)
        note_start(w, position);
    task_begin(&w->run);
    w->run.prepared.at = worker_place_of_result(w, nth);
    int code = fetch_item(w, position, nth);
    if (!code)
        code = worker_run_item(w, w->run.task.in, nth);
    worker_publish(w, code);
    w->timed = 0;
    if (w->item) {
        free(w->item);
        w->item = NULL;
    }
}

/* Looks at most once a millisecond: an item that is over sooner does not get much. */
static int has_grown_too_far(struct worker *w)
{
    int64_t now = clock_now();
    if (now - w->measured < MEASURE_EVERY)
        return 0;
    w->measured = now;
    size_t own = worker_memory(), grown = own > w->memory_when_ready ? own - w->memory_when_ready : 0;
    atomic_store(&w->channel.desk->grown, grown);
    return grown > w->max_memory;
}

static enum claim_step next_claim(struct worker *w)
{
    if (w->max_memory && has_grown_too_far(w)) {
        if (claim_finish(&w->channel.desk->claim, &w->left) == CLAIM_DAMAGED)
            return CLAIM_DAMAGED;
        worker_wait(w, worker_news_closed);     /* the caller reads how far it has grown, and dismisses it */
        return CLAIM_CLOSED;
    }
    if (claim_ahead(w->left) && claim_go_on(&w->channel.desk->claim, &w->left))
        return CLAIM_GOT;
    return claim_next(&w->channel.desk->claim, &w->offer, &w->left);
}

/* The claimed item, and those that can be claimed along the way. */
static void do_items(struct worker *w)
{
    for (;;) {
        find_span(w, claim_running(w->left));
        if (!w->plain) {
            do_item(w);
            return;
        }
        if (!worker_do_plain_items(w))
            return;
    }
}

static void work(struct worker *w)
{
    struct desk *desk = w->channel.desk;
    for (;;) {
        switch (next_claim(w)) {
        case CLAIM_GOT:
            if (w->urgent ? channel_must_wake_caller_now(desk) : channel_must_wake_caller(desk, claim_running(w->left)))
                worker_ring(w);         /* all before what it has now is finished */
            w->urgent = 0;
            do_items(w);
            break;
        case CLAIM_EMPTY:
            worker_wait(w, worker_news_claim);
            break;
        case CLAIM_CLOSED:
            if (channel_must_wake_caller_now(desk))
                worker_ring(w);
            return;
        case CLAIM_DAMAGED:
            worker_damaged();
        }
    }
}

/* ---- All of its life */

/* 0, or the code that its READY is missing for, which was told. */
static int become_ready(struct worker *w, const struct worker_plan *plan, uint32_t generation)
{
    const char *what = "";
    int code = worker_limit(&plan->limits, w->run.worker.index, &what);
    if (code) {
        snprintf(w->run.text, sizeof w->run.text, "%s", what);
        worker_tell_failure(w, TELL_UNFIT, generation, code);
        return code;
    }
    code = plan->initializer ? plan->initializer(&w->run.worker) : 0;
    if (forks_count != w->run.forks)
        leave(0);
    w->memory_when_ready = w->max_memory ? worker_memory() : 0;
    if (code)
        worker_tell_failure(w, TELL_UNREADY, generation, code);
    else
        worker_tell(w, TELL_READY, generation, NULL, 0, NULL, 0);
    return code;
}

static void initialize(struct worker *w, const struct worker_plan *plan, uint32_t generation)
{
    int code = become_ready(w, plan, generation);
    if (channel_must_wake_caller_now(w->channel.desk))
        worker_ring(w);
    if (code)
        leave(EXIT_FAILURE);
}

void worker_child(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    const struct worker_plan *plan = context;
    static struct worker self;          /* not on the stack: it may be that of a small thread */
    unmap_siblings(plan, slot);
    settle_in(&self, plan, slot, task_pipe, result_pipe);
    open_signals();
    initialize(&self, plan, generation);
    work(&self);
    if (plan->finalizer && !atomic_load(&self.channel.desk->condemned))
        plan->finalizer(&self.run.worker);
    leave(0);
}
