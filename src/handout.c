/* Handing out: items to workers.
 *
 * Runs in the host, under the pool's lock, in whichever thread brought work or turns the loop. Generators are another matter: pull.c.
 *
 * How much waits at a worker is learned (settle.c): a job's depth, and never more than half of an even share of what is left of it; but all
 * of it, evenly, where that is little work or nothing is known yet. A worker is served again when it has half of its depth left. Fairness
 * does not depend on any of that: while a worker is idle and nothing is left to be handed out, what has not started elsewhere is taken back
 * for it, half at a time.
 *
 * Where each CPU has a busy worker already, that is worth something only if one of them is held up: else an idle one would take turns with
 * them, and with 64 or 256 workers of small items nearly every item came to its own wake-up (0.3 to 0.5 M items/s, now 3 to 5). So there a
 * worker is relieved once nothing has been heard of it for SLOW_TIME while it runs an item; one that has not even begun most likely waits
 * for a CPU, and is given UNBEGUN_TIME, since it may be stopped. The loop wakes up for that (even_at).
 *
 * Nor should workers share a CPU, with each other or the caller, for the sake of trifles. What is under way of a stream is light where it
 * is no more work than should wait at as many workers as have a CPU each; then only so many get any, those first that are at it already,
 * and the others sleep on, unless one is held up. Else two workers of small items took turns on one CPU, or one with the caller, woken
 * for a few items at a time: a quarter of the time with two workers, half of it with 16 or 64 on two CPUs.
 *
 * Jobs that have something to be handed out stand in a queue; whoever got something goes to its end. The walk along it ends where every
 * worker has enough calls waiting: ten thousand of them cost no more than those that fit. */
#include "scheduler.h"

#include "clock.h"

#include <errno.h>

/* ---- Handing out */

enum { POSTS_ENOUGH = 64 };             /* calls at a worker beyond which it gets no more just for being fair */
enum { LAST_PART = 4 };                 /* of the depth: as much work at each worker is the last round */
enum { DEALS = 8 };                     /* parts in which a worker gets its share of an ordered window */

#define SLOW_TIME    200000             /* nanoseconds */
#define UNBEGUN_TIME 10000000

void sched_ready(struct sched *s, struct job *j)
{
    if (!link_is_listed(&j->ready))
        link_append(&s->ready, &j->ready);
}

static struct crew_worker *hand(const struct sched *s, size_t i)
{
    return s->crew.hands[(s->next_hand + i) % s->crew.hands_count];
}

static size_t posts(const struct crew_worker *w)
{
    return w->books.post_tail - w->books.post_head;
}

/* Items to be posted at a time. In order they are dealt out like cards: if one worker had all the first of the window and another the rest,
 * the second would be done, and wait for the first before the window moves (2.5 times as long for small items). */
static size_t deal(const struct sched *s, const struct job *j)
{
    size_t share = j->window / (DEALS * (size_t)s->crew.size);
    return j->kind != JOB_ITER || !j->cells.ordered ? DEPTH_MOST : share ? share : 1;
}

/* A job that has nothing under way gets one item to any worker: it must not starve because others keep all of them busy. */
static int wants(const struct job *j, const struct crew_worker *w, size_t deal)
{
    size_t free = (j->depth + 1) / 2;
    return books_outstanding(&w->books) + (deal < free ? deal : free) <= j->depth || (!j->outstanding && posts(w) < POSTS_ENOUGH);
}

/* Should all that is left be handed out evenly? Where it is short work, since each further round costs a wake-up or two, of 50 us each;
 * and where nothing is known of it yet, if nobody else has work for the workers (whoever comes is made room for: settle.c). Instead of two
 * items at first and half of an even share each time, that made maps of 10^5 empty items three times as fast, and of 10^4 ten times. */
static int is_last_round(const struct sched *s, const struct job *j)
{
    if (j->kind == JOB_ITER || !source_known(&j->source))
        return 0;
    return j->measured ? source_left(&j->source) / s->crew.size < j->depth / LAST_PART : sched_is_alone(s, j);
}

/* When it will have been held up for so long. The claim word of one that has told something just now is left alone. What has ended at one
 * that has rung is taken in this very round, which came late. */
static int64_t held_up_at(const struct crew_worker *w, int64_t now)
{
    int64_t at = w->since + SLOW_TIME;
    if (at > now)
        return at;
    struct claim claim = claim_load(&w->books.channel.desk->claim);
    if (!claim.running)
        return w->since + UNBEGUN_TIME;
    return claim_finished(claim) != w->books.taken && books_rang(&w->books) ? now + SLOW_TIME : at;
}

int sched_is_held_up(const struct crew_worker *w, int64_t now)
{
    return held_up_at(w, now) <= now;
}

/* Workers that have a CPU each, beside the caller. */
static size_t comfortable(const struct sched *s)
{
    return s->cpus > 1 ? s->cpus - 1 : 1;
}

int sched_is_light(const struct sched *s, const struct job *j, size_t more)
{
    return j->kind == JOB_ITER && j->measured && sched_is_alone(s, j) && j->outstanding + more <= comfortable(s) * j->fit;
}

size_t sched_room_for(const struct sched *s, const struct job *j, struct crew_worker *w, size_t size)
{
    size_t room = books_room(&w->books, &j->call, size), left = crew_left(&s->crew, w);
    return room < left ? room : left;
}

/* Who gets something: so many, first those that are at it, then the idle, then the rest. */
struct choice { size_t places, brisk, idle; };

/* It looks at each worker once: what it counted is what is_chosen goes by, so that nobody is waited for who has been held up meanwhile. */
static struct choice choice_of(const struct sched *s, const struct job *j, size_t places, size_t size)
{
    struct choice c = {.places = places, .idle = s->crew.hands_count - s->crew.busy_hands};
    int64_t now = clock_now();
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        w->brisk = w->hand && !sched_is_held_up(w, now) && sched_room_for(s, j, w, size);
        c.brisk += (size_t)w->brisk;
    }
    return c;
}

/* able: it has room. */
static int is_chosen(struct choice *c, const struct crew_worker *w, int able)
{
    int brisk = w->watched && w->brisk;
    c->brisk -= (size_t)brisk;
    c->idle -= !w->watched;
    size_t before = brisk ? 0 : w->watched ? c->brisk + c->idle : c->brisk;
    int chosen = able && c->places > before;
    c->places -= (size_t)chosen;
    return chosen;
}

/* How many more items should wait at one of the `workers` that get some, where `has` do: never more than half of an even share of what is
 * left, so that the end of a call stays even, until the last round. An iterator's caller may be elsewhere then: all that is left is
 * handed out. */
static size_t fill_of(const struct sched *s, const struct job *j, size_t has, size_t workers)
{
    int last = is_last_round(s, j);
    size_t depth = j->chunk > j->depth ? j->chunk : j->depth, left = source_left(&j->source);
    size_t share = last ? (left + j->outstanding + workers - 1) / workers : j->kind == JOB_ITER ? left / workers : left / (2 * workers);
    share = share && source_known(&j->source) ? share : 1;
    share += workers < s->crew.size ? has : 0;          /* of those that get none now, nobody shares */
    depth = last || depth > DEPTH_MOST ? DEPTH_MOST : depth;
    depth = depth < share ? depth : share;
    return depth > has ? depth - has : !j->outstanding;
}

/* Tells a worker whether it may spin when it runs dry. Where the caller and the busy workers have no CPU each, a spinning worker most
 * likely sits on the one that another needs to give it something: ordered results of small items took nearly twice as long. What it was
 * told grows stale until the next post; then it sleeps, or spins, once too often. */
static void tell_crowd(const struct sched *s, struct crew_worker *w)
{
    _Atomic uint32_t *told = &w->books.channel.desk->crowded;
    uint32_t crowded = (uint32_t)sched_is_crowded(s, s->crew.watched_count + !w->watched);
    if (atomic_load_explicit(told, memory_order_relaxed) != crowded)
        atomic_store_explicit(told, crowded, memory_order_relaxed);
}

/* An idle worker has nothing to tell until then, so that is where we say that we want to hear of it: by its pipe where the loop sleeps.
 * What it need not wait for comes after the post: a single item is there and back in 0.7 us, and the clock takes 25 ns of that. */
void sched_post(struct sched *s, struct job *j, struct crew_worker *w, struct piece *piece, size_t most)
{
    if (s->asleep)
        channel_caller_waits(w->books.channel.desk, CHANNEL_ASLEEP, claim_add(w->books.taken, 1));
    else if (!w->watched)
        channel_caller_will_wait(w->books.channel.desk, claim_add(w->books.taken, 1));
    int idle = !books_outstanding(&w->books);
    if (j->timeout)
        sched_judge_by(s, w, clock_now() + j->timeout);
    tell_crowd(s, w);
    piece->owner = j;
    job_sent(j, piece->count, piece->size);
    if (books_post(&w->books, &j->call, piece, j->kind == JOB_ITER, most)) {
        crew_condemn(&s->crew, w, POOL_CRASHED, "its channel was written over");
        sched_give_back(s, piece);
        return;
    }
    if (idle) {
        w->since = clock_now();
        w->roused = 1;
    }
    crew_watch(&s->crew, w);
}

/* Gives one of `workers` what it should have of one job, at most `deal` items. Nonzero: it got something. */
static int serve(struct sched *s, struct job *j, struct crew_worker *w, size_t deal, size_t workers)
{
    struct piece piece;
    size_t size = 0, ready = source_ready(&j->source, &size);
    if (!ready)
        return 0;
    size_t most = fill_of(s, j, books_outstanding(&w->books), workers), room = sched_room_for(s, j, w, size);
    most = most < deal ? most : deal;
    most = most < room ? most : room;
    most = job_may_send(j, most < ready ? most : ready, size, s->crew.size);
    if (!most)
        return 0;
    source_take(&j->source, most, &piece);
    sched_post(s, j, w, &piece, 0);
    return 1;
}

/* One deal to each worker that wants it, of light work to some of them. Nonzero: somebody got something. *full: no worker takes any more of
 * whatever job. */
static int deal_out(struct sched *s, struct job *j, size_t much, int *full)
{
    size_t size = 0, workers = s->crew.size, left = source_ready(&j->source, &size) ? source_left(&j->source) : 0;
    int done = 0, may = 1, few = comfortable(s) < workers && sched_is_light(s, j, job_may_send(j, left, size, workers));
    workers = few ? comfortable(s) : workers;
    struct choice choice = few ? choice_of(s, j, workers, size) : (struct choice){0};
    *full = 1;
    for (size_t i = 0; i < s->crew.hands_count && source_ready(&j->source, &size) && (may || *full); i++) {
        struct crew_worker *w = hand(s, i);
        may = may && (!few || choice.places) && job_may_send(j, 1, size, s->crew.size);
        int may_have = may && (!few || is_chosen(&choice, w, sched_room_for(s, j, w, size) > 0));
        if (may_have && wants(j, w, much) && serve(s, j, w, much, workers))
            done = 1;
        if (posts(w) < POSTS_ENOUGH)
            *full = 0;
    }
    return done;
}

/* Nonzero: somebody got something. */
static int offer(struct sched *s, struct job *j, int *full)
{
    size_t size, much = deal(s, j);
    int done = deal_out(s, j, much, full);
    while (done && much < j->depth / 2 && deal_out(s, j, much, full))
        ;
    if (!source_ready(&j->source, &size)) {
        *full = 0;
        link_remove(&j->ready);
    }
    return done;
}

static struct crew_worker *idle_worker(struct sched *s)
{
    for (size_t i = 0; i < s->crew.hands_count; i++)
        if (!books_outstanding(&s->crew.hands[i]->books) && crew_left(&s->crew, s->crew.hands[i]))
            return s->crew.hands[i];
    return NULL;
}

/* How many a worker should give away: half of what waits. The last one only where another runs: a worker that is just about to claim it
 * would lose it, and win it back from the next, and so on as long as none of them is quick enough. What it holds comes last: small
 * items, which are over before they were moved, unless it is held up. */
static uint32_t movable(const struct crew_worker *w)
{
    const struct books *b = &w->books;
    struct claim now = claim_load(&b->channel.desk->claim);
    uint32_t waiting = books_waiting(b, now), held = now.held < waiting ? now.held : waiting;
    return ((waiting > held ? waiting - held : held) + now.running) / 2;
}

/* Is what it holds all that waits there? */
static int only_holds(const struct crew_worker *w)
{
    struct claim now = claim_load(&w->books.channel.desk->claim);
    return now.held && books_waiting(&w->books, now) == now.held;
}

void sched_ask_the_silent(struct sched *s)
{
    int64_t now = clock_now();
    int asked = 0;
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        if (w->state != WORKER_READY || now - w->since < SLOW_TIME)
            continue;
        struct claim claim = claim_load(&w->books.channel.desk->claim);
        int holds = claim.held && !w->books.unfenced;
        if (!holds && claim_finished(claim) == w->books.taken)
            continue;
        if (holds)
            books_recall(&w->books, 0);
        books_awake(&w->books);
        asked = 1;
    }
    if (asked)
        sched_poke(s);
}

/* Of those that are held up; without patience of all whose work is not light, but for what they hold. */
static struct crew_worker *most_waiting(struct sched *s, int patient)
{
    struct crew_worker *most = NULL;
    uint32_t waiting = 0;
    int64_t now = 0;
    int crowded = s->crew.busy_hands >= comfortable(s);
    for (size_t i = 0; i < s->crew.watched_count; i++) {
        struct crew_worker *w = s->crew.watched[i];
        if (w->state != WORKER_READY || w->books.damaged || books_outstanding(&w->books) < 2)
            continue;               /* and its claim word is left alone: a worker about to finish needs the line */
        int holds = only_holds(w);
        if (holds && w->books.unfenced)
            continue;
        if (patient || holds || (crowded && sched_is_light(s, books_last(&w->books)->owner, 0))) {
            now = now ? now : clock_now();
            int64_t at = held_up_at(w, now);
            s->even_at = at > now && at < s->even_at ? at : s->even_at;
            if (at > now)
                continue;
        }
        uint32_t n = movable(w);
        if (n > waiting && n <= books_outstanding(&w->books)) {
            waiting = n;
            most = w;
        }
    }
    return most;
}

/* Moves half of what waits at the worker that has most of it to an idle one. Nonzero: something moved. */
static int even_out(struct sched *s, struct crew_worker *idle, int patient)
{
    struct crew_worker *from = most_waiting(s, patient);
    struct piece piece, *last = from ? books_last(&from->books) : NULL;
    if (!last)
        return 0;
    struct job *j = last->owner;
    size_t room = sched_room_for(s, j, idle, last->size), half = movable(from);
    if (books_take_back(&from->books, half < room ? half : room, &piece)) {
        if (from->books.damaged)
            crew_condemn(&s->crew, from, POOL_CRASHED, "its channel was written over");
        s->even_at = clock_now() + SLOW_TIME;   /* it has just begun the last one; another may have some */
        return 0;
    }
    job_unsent(j, piece.count, piece.size);     /* it is sent once more */
    sched_post(s, j, idle, &piece, 0);
    return 1;
}

/* To all that are idle. Whoever looks seldom, a consumer that is slow itself, say, does not leave it for the next time. */
static int even_all(struct sched *s)
{
    struct crew_worker *idle = s->crew.watched_count ? idle_worker(s) : NULL;
    int done = 0, patient = 0;
    s->even_at = CLOCK_NEVER;
    if (idle && s->crew.watched_count >= s->cpus) {
        int64_t now = clock_now();
        patient = now - s->evened_at < SLOW_TIME;
        s->evened_at = now;
    }
    for (; idle && even_out(s, idle, patient); idle = idle_worker(s))
        done = 1;
    if (s->asleep && s->even_at < s->asleep_until)
        sched_poke(s);
    return done;
}

/* Somebody did not pull because there was no worker at all: with nothing under way, nothing else would tell that there is one again. */
static void tell_pullers(struct sched *s)
{
    s->deserted = 0;
    for (struct link *l = s->jobs.next; l != &s->jobs; l = l->next) {
        struct job *j = LINK_OWNER(l, struct job, open);
        if (j->source.pull) {
            j->pull_again = 1;
            job_tell(j);
        }
    }
}

int sched_hand_out(struct sched *s)
{
    int done = 0, full = 0;
    if (s->deserted && s->crew.hands_count) {
        tell_pullers(s);
        done = 1;                       /* and the one that turns, whichever way the worker came, has to pull */
    }
    struct link *last = s->ready.before, *next;
    for (struct link *l = s->ready.next; l != &s->ready && !full; l = next) {
        struct job *j = LINK_OWNER(l, struct job, ready);
        next = l == last ? &s->ready : l->next;
        if (!offer(s, j, &full))
            continue;
        done = 1;
        if (link_is_listed(l)) {                /* to the end */
            link_remove(l);
            link_append(&s->ready, l);
        }
    }
    return done | even_all(s);
}
