/* Judging: items that run too long.
 *
 * Runs in the host, under the pool's lock, in the thread that turns the loop. An item's time counts from its start, which its worker notes
 * beside the position (only where a call has a time limit). Nothing ticks: each worker has a time at which it has to be looked at, the
 * earliest at which anything that it may start by then can be late, and the loop sleeps no longer than to the first of these.
 *
 * What is published is drained before anything is judged, and of a worker that is killed once more at its death: an item that has finished
 * is never late. What the worker notes is believed only where it makes sense, since a task may write over it. */
#include "scheduler.h"

#include "clock.h"

void sched_judge_by(struct sched *s, struct crew_worker *w, int64_t at)
{
    if (at >= w->judge_at)
        return;
    w->judge_at = at;
    if (at >= s->judge_at)
        return;
    s->judge_at = at;
    if (s->asleep && at < s->asleep_until)
        sched_poke(s);
    else if (!s->turning && at < s->attendant_until)
        waiter_wake(&s->attendant);
}

/* When the item that runs there started, as its worker says, unless that is nonsense; or else when we first saw it run. */
static int64_t started_at(struct crew_worker *w, uint32_t position)
{
    int64_t noted = books_started(&w->books, position), now = clock_now();
    if (w->run_since == CLOCK_NEVER || w->run_position != position) {
        w->run_position = position;
        w->run_since = now;
        w->run_anew = 0;
    }
    return noted <= now && !w->run_anew ? noted : w->run_since;
}

/* When the item that runs at a worker will have run too long; CLOCK_NEVER where it may run as long as it likes, or none runs. */
static int64_t due_at(struct crew_worker *w)
{
    uint32_t position;
    const struct piece *running = books_running(&w->books, &position);
    const struct job *j = running ? running->owner : NULL;
    return j && j->timeout ? started_at(w, position) + j->timeout : CLOCK_NEVER;
}

/* What starts from now on will not have run too long before that has passed. */
static int64_t shortest_limit(const struct books *b)
{
    int64_t shortest = CLOCK_NEVER;
    for (uint32_t n = b->post_head; n != b->post_tail; n++) {
        const struct job *j = b->posts[n % BOOKS_POSTS].piece.owner;
        if (j->timeout && j->timeout < shortest)
            shortest = j->timeout;
    }
    return shortest;
}

/* A worker that waits for us in the middle of an item, for room or for its payload, does not use up the item's time: that begins anew.
 * But not twice, unless something has moved meanwhile: a task may have written over the word. Should nobody turn the loop, the attendant
 * does from now on. */
static void begin_anew(struct sched *s, struct crew_worker *w, uint64_t moved)
{
    uint32_t position;
    const struct piece *running = books_running(&w->books, &position);
    if (!running || (w->run_anew && w->run_position == position && w->moved == moved))
        return;
    w->moved = moved;
    struct job *j = running->owner;
    w->run_position = position;
    w->run_since = clock_now();
    w->run_anew = 1;
    s->unattended += !j->unattended;
    j->unattended = 1;
}

/* What is published is drained before; and after the deque is closed it is seen once more whether the same item runs: the worker may
 * just have gone on to another. */
static void judge(struct sched *s, struct crew_worker *w, int64_t now)
{
    uint64_t moved;
    int waits = books_is_stuck(&w->books, &moved);
    w->judge_at = CLOCK_NEVER;
    sched_drain(s, w);
    waits |= books_is_stuck(&w->books, &moved);
    if (w->books.damaged)
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
    if (w->state != WORKER_READY && w->state != WORKER_LEAVING)
        return;
    if (waits)
        begin_anew(s, w, moved);
    int64_t due = due_at(w);
    if (due <= now) {
        sched_recall(s, w);
        books_close(&w->books);
        if (due_at(w) <= now) {
            crew_condemn(&s->crew, w, POOL_TIMED_OUT, "its item ran longer than its time limit");
            return;
        }
        crew_dismiss(&s->crew, w, CREW_NOT);
    }
    int64_t next = shortest_limit(&w->books);
    if (next != CLOCK_NEVER)
        sched_judge_by(s, w, due > now && due < now + next ? due : now + next);
}

int sched_judge(struct sched *s, int64_t now)
{
    s->judge_at = CLOCK_NEVER;
    for (unsigned i = 0; i < s->crew.slots; i++) {
        struct crew_worker *w = &s->crew.workers[i];
        if (w->judge_at <= now && books_outstanding(&w->books))
            judge(s, w, now);
        else if (w->judge_at <= now)
            w->judge_at = CLOCK_NEVER;
        if (w->judge_at < s->judge_at)
            s->judge_at = w->judge_at;
    }
    return 1;
}
