/* A worker's way out.
 *
 * Runs in the worker. A result is written by the task straight into the place from which the caller takes it: its span (results of
 * one known size), the result ring (small), a lane slot (large), or the heap, from where it goes through the stream in pieces
 * (larger than a slot). A second pool_out gives up the first place: nothing was published, so nothing is to be taken back.
 *
 * Frames that come before the item's finish (a result, a failure) and frames that the caller must answer (a need) go into the same ring;
 * the caller leaves a frame of an unfinished position where it is, unless it is one to be answered. */
#define _GNU_SOURCE
#include "worker_result.h"

#include "forks.h"
#include "worker_child.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROOM_RING = TASK_ELSEWHERE, ROOM_LANE, ROOM_HEAP };
enum { HEAP_KEEP = 1 << 20 };           /* bytes of heap that stay for the next result */
enum { LOOK_MOST = 1000 };              /* milliseconds between two looks of its own at a hasty span */

void worker_damaged(void)
{
    _exit(WORKER_DAMAGED);
}

/* ---- Waiting */

void worker_ring(struct worker *w)
{
    if (!fd_is(w->result_pipe, &w->result_identity) || fd_wake(w->result_pipe))
        worker_damaged();
}

/* Until something comes, or for so many milliseconds; -1: however long it takes. 0: nothing came. */
static int sleep_once(struct worker *w, int ms)
{
    char bytes[64];
    if (!fd_is(w->task_pipe, &w->task_identity))
        worker_damaged();
    if (ms >= 0 && poll(&(struct pollfd){.fd = w->task_pipe, .events = POLLIN}, 1, ms) <= 0)
        return 0;
    ssize_t n = read(w->task_pipe, bytes, sizeof bytes);
    if (n == 0)
        _exit(0);                       /* nobody is left who could want anything */
    if (n < 0 && errno != EINTR && errno != EAGAIN)
        worker_damaged();
    return 1;
}

/* The first time longer, where there is a CPU for each worker: the host most likely waits for this one to give it an item. It may have to
 * run on this very CPU to do so, and so may the birth of the next worker: the CPU is theirs whenever they want it. A pool of 2 workers on 2
 * CPUs that are called once each lives for 1.2 ms instead of 1.37; without giving the CPU away, for 1.52. */
static int spin_until(struct worker *w, worker_news *news)
{
    struct spin_round round;
    int first = w->spin.time != 0, found = 0;
    for (spin_begin(&w->spin, &round); !found && spin_on(&w->spin, &round);) {
        found = news(w);
        if (first && !found)
            sched_yield();
    }
    if (found)
        spin_paid(&w->spin);
    return found;
}

static void wait_until(struct worker *w, worker_news *news)
{
    struct desk *desk = w->channel.desk;
    if (channel_must_wake_caller_now(desk))
        worker_ring(w);
    int found = !atomic_load_explicit(&desk->crowded, memory_order_relaxed) && spin_until(w, news);
    w->spin.time = 0;
    if (found)
        return;
    while (!news(w)) {
        int ms = 1, over = 0;
        atomic_store(&desk->worker_state, news == worker_news_claim || news == worker_news_closed ? CHANNEL_ASLEEP : CHANNEL_STUCK);
        while (!over) {
            int hasty = w->span && atomic_load(&w->span->hasty);
            over = news(w) || sleep_once(w, hasty ? ms : -1);
            ms += ms < LOOK_MOST ? ms : 0;
        }
        atomic_store(&desk->worker_state, CHANNEL_AWAKE);
    }
}

/* What an item waits for the caller does not count as its running. */
void worker_wait(struct worker *w, worker_news *news)
{
    _Atomic uint64_t *started = &w->channel.desk->started_at;
    int64_t before = w->timed ? clock_now() : 0;
    wait_until(w, news);
    if (w->timed)
        atomic_store(started, atomic_load(started) + (uint64_t)(clock_now() - before));
}

int worker_news_claim(struct worker *w)
{
    return claim_has_news(&w->channel.desk->claim, &w->offer);
}

int worker_news_closed(struct worker *w)
{
    return (int)claim_load(&w->channel.desk->claim).closed;
}

int worker_news_stream(struct worker *w)
{
    return atomic_load(&w->channel.desk->item_stream_tail) != w->item_read;
}

static int news_result_stream(struct worker *w)
{
    return w->result_written - atomic_load(&w->channel.desk->result_stream_head) < CHANNEL_STREAM;
}

static int news_lane(struct worker *w)
{
    return atomic_load(&w->channel.desk->lane_free) != 0;
}

static void *reserve(struct worker *w, size_t size)
{
    uint64_t head = atomic_load_explicit(&w->channel.desk->result_head, memory_order_acquire);
    if (w->result_tail - head > CHANNEL_RESULTS)
        worker_damaged();
    frame_turn_early(&w->channel.results, head, &w->result_tail, CHANNEL_HOT, 2 * CHANNEL_INLINE + 1024);     /* any may follow */
    return frame_reserve(&w->channel.results, head, &w->result_tail, size);
}

static int news_ring(struct worker *w)
{
    return reserve(w, w->need) != NULL;
}

/* ---- Telling */

static void *reserve_waiting(struct worker *w, size_t size)
{
    void *at = reserve(w, size);
    if (at)
        return at;
    w->need = size;
    worker_wait(w, news_ring);
    return reserve(w, size);
}

static void commit(struct worker *w, uint32_t kind, uint32_t tag, size_t size)
{
    w->result_tail = frame_commit(&w->channel.results, w->result_tail, kind, tag, size);
    atomic_store_explicit(&w->channel.desk->result_tail, w->result_tail, memory_order_release);
}

void worker_tell(struct worker *w, uint32_t kind, uint32_t tag, const void *head, size_t head_size, const void *body, size_t body_size)
{
    char *at = reserve_waiting(w, head_size + body_size);
    if (head_size)
        memcpy(at, head, head_size);
    if (body_size)
        memcpy(at + head_size, body, body_size);
    commit(w, kind, tag, head_size + body_size);
}

void worker_tell_failure(struct worker *w, uint32_t kind, uint32_t tag, int code)
{
    struct tell_failure head = {.code = code, .text_size = (uint32_t)strlen(w->run.text)};
    worker_tell(w, kind, tag, &head, sizeof head, w->run.text, head.text_size);
}

/* ---- Rooms */

static unsigned lane_slot(const struct worker *w)
{
    return (unsigned)((size_t)((unsigned char *)w->run.room.at - w->channel.result_slots) / w->channel.slot_size);
}

static void give_back_lane(struct worker *w)
{
    if (w->run.room.place == ROOM_LANE)
        atomic_fetch_or(&w->channel.desk->lane_free, 1ull << lane_slot(w));
}

static void *take_lane(struct worker *w, size_t size)
{
    uint64_t free_slots = atomic_load(&w->channel.desk->lane_free) & CHANNEL_LANE_ALL;
    if (!free_slots) {
        worker_wait(w, news_lane);
        free_slots = atomic_load(&w->channel.desk->lane_free) & CHANNEL_LANE_ALL;
        if (!free_slots)
            worker_damaged();
    }
    unsigned slot = (unsigned)__builtin_ctzll(free_slots);
    atomic_fetch_and(&w->channel.desk->lane_free, ~(1ull << slot));
    return channel_result_slot(&w->channel, slot, size, PAGES_WRITE);
}

static void *take_heap(struct worker *w, size_t size)
{
    if (w->heap && w->heap_size >= size)
        return w->heap;
    free(w->heap);
    w->heap_size = size ? size : 1;
    w->heap = malloc(w->heap_size);
    if (w->heap)
        pages_prepare(w->heap, w->heap_size);
    return w->heap;
}

static int in_span(const struct worker *w, size_t size)
{
    return w->run.prepared.at && size == w->run.prepared.size;
}

/* Does the result lie there? One elsewhere is of another size. */
static int lies_in_span(const struct worker *w)
{
    return w->run.room.place == TASK_PREPARED || (w->run.room.place == TASK_NO_ROOM && in_span(w, 0));
}

static void *make_room(struct task_run *run, size_t size)
{
    struct worker *w = (struct worker *)(void *)run;
    struct task_room *room = &run->room;
    if (forks_count != run->forks)
        return NULL;            /* a child that the task forked: the place is its parent's */
    give_back_lane(w);
    *room = (struct task_room){.size = size};
    if (in_span(w, size)) {
        room->place = TASK_PREPARED;
        return run->prepared.at;
    }
    if (w->call->mode == RESULT_DROPPED || size > w->channel.slot_size) {
        room->at = take_heap(w, size);
        room->place = ROOM_HEAP;
    } else if (size <= CHANNEL_INLINE) {
        room->at = reserve_waiting(w, size);
        room->place = ROOM_RING;
    } else {
        room->at = take_lane(w, size);
        room->place = ROOM_LANE;
    }
    if (!room->at)
        room->place = TASK_NO_ROOM;
    return room->at;
}

void worker_result_init(struct worker *w)
{
    w->run.make_room = make_room;
}

/* ---- Publishing */

static void publish_stream(struct worker *w)
{
    struct desk *desk = w->channel.desk;
    const struct task_room *room = &w->run.room;
    struct tell_stream head = {room->size};
    worker_tell(w, TELL_RESULT_STREAM, w->position, &head, sizeof head, NULL, 0);
    stream_reach(w->channel.result_stream, w->result_written, room->size, &w->channel.reach.result_stream, PAGES_WRITE);
    for (size_t done = 0; done < room->size;) {
        worker_wait(w, news_result_stream);
        size_t much = stream_write(w->channel.result_stream, &desk->result_stream_tail, &desk->result_stream_head, &w->result_written,
                                   (const char *)room->at + done, room->size - done);
        if (much == SIZE_MAX)
            worker_damaged();
        done += much;
    }
}

static void publish_result(struct worker *w)
{
    const struct task_room *room = &w->run.room;
    struct tell_lane lane = {.size = room->size};
    switch (room->place) {
    case TASK_NO_ROOM:
        if (!in_span(w, 0))
            worker_tell(w, TELL_RESULT, w->position, NULL, 0, NULL, 0);
        break;
    case ROOM_RING:
        commit(w, TELL_RESULT, w->position, room->size);
        break;
    case ROOM_LANE:
        lane.slot = lane_slot(w);
        worker_tell(w, TELL_RESULT_LANE, w->position, &lane, sizeof lane, NULL, 0);
        break;
    case ROOM_HEAP:
        publish_stream(w);
        break;
    default:
        break;                  /* in its span, where the caller looks for it */
    }
}

void worker_publish(struct worker *w, int code)
{
    if (code) {
        give_back_lane(w);
        worker_tell_failure(w, TELL_FAILED, w->position, code);
        w->urgent = 1;
    } else if (w->call->mode != RESULT_DROPPED) {
        publish_result(w);
        w->urgent = w->call->mode == RESULT_PACKED && !lies_in_span(w);   /* it will end as a failure */
    }
    if (w->heap_size > HEAP_KEEP) {
        free(w->heap);
        w->heap = NULL;
        w->heap_size = 0;
    }
}
