/* The scheduler's loop.
 *
 * Runs in the host, under the pool's lock. There is no service thread: any thread that waits for something turns the loop for all,
 * and the others sleep until their job has changed or the turn is theirs. Where jobs have nobody who waits for them (asynchronous calls,
 * say), the pool's helper is one more waiter, which turns while no caller does. A round is: hand out (handout.c), take (settle.c);
 * and if neither did anything, wait: spinning a moment without the lock, then in poll. The nursery is minded, the dead are buried and
 * replaced, and items that run too long are judged, whenever poll was left, and every so many rounds that found work.
 *
 * Why no wake-up is lost. Workers: the sleeper marks each watched channel, then looks at it once more (channel.h). A thread that posts to a
 * worker while another sleeps marks that channel itself before it posts. Reports of the nursery and ends of pipes are
 * descriptors in the poll. Anything else that the sleeper should know of writes to the wake pipe. A thread that stops turning wakes one
 * of those that wait, which takes over. */
#define _GNU_SOURCE
#include "scheduler.h"

#include "cpu_place.h"
#include "fd.h"

#include <errno.h>
#include <stdlib.h>

#define ROUNDS    64                    /* between two looks at the nursery and the pipes, where there is no rest */
#define CALM_TIME 100000                /* nanoseconds from one wake-up to the next for each single result */

int sched_init(struct sched *s, unsigned workers, int no_spin)
{
    s->wake[0] = s->wake[1] = -1;
    s->cpus = cpu_affinity();
    s->spin.off = no_spin || s->cpus < 2;
    s->spun = calloc(workers ? workers : 1, sizeof *s->spun);
    if (!s->spun)
        return ENOMEM;
    int r = lock_init(&s->lock);
    if (!r && (r = waiter_init(&s->waiter)))
        lock_fini(&s->lock);
    if (!r && (r = waiter_init(&s->attendant))) {
        waiter_fini(&s->waiter);
        lock_fini(&s->lock);
    }
    link_init(&s->jobs);
    link_init(&s->ready);
    link_init(&s->sleepers);
    s->even_at = s->judge_at = s->attendant_until = CLOCK_NEVER;
    if (r) {
        free(s->spun);
        s->spun = NULL;
    }
    return r ? r : fd_pipe(s->wake, 1);
}

void sched_fini(struct sched *s)
{
    if (!s->spun)
        return;
    fd_close(&s->wake[0]);
    fd_close(&s->wake[1]);
    waiter_fini(&s->attendant);
    waiter_fini(&s->waiter);
    lock_fini(&s->lock);
    free(s->spun);
}

void sched_add(struct sched *s, struct job *j)
{
    sched_make_room(s);
    link_append(&s->jobs, &j->open);
    s->unattended += j->unattended != 0;
    sched_ready(s, j);
}

int sched_end(struct sched *s, struct job *j)
{
    if (j->ended || !job_check_end(j))
        return j->ended;
    link_remove(&j->open);
    link_remove(&j->ready);
    s->unattended -= j->unattended != 0;
    if (s->finishing)
        sched_finish(s);
    if (j->on_end)
        j->on_end(j);
    return 1;
}

void sched_poke(struct sched *s)
{
    atomic_store(&s->poked, 1);
    if (s->asleep)
        fd_wake(s->wake[1]);
}

void sched_give_up(void *lender, int slot)
{
    struct crew_worker *w = lender;
    books_give_up(&w->books, slot);
}

/* ---- The loop */

static int mind(struct sched *s)
{
    int done = 0, more;
    int64_t now;
    do {                /* until nothing is heard: a death that came with the look for replacements would wake nobody any more */
        more = crew_mind(&s->crew, now = clock_now());
        more |= sched_bury_dead(s);
        done |= more;
    } while (more);
    sched_break_off(s);
    if (s->judge_at <= now)
        done |= sched_judge(s, now);
    if (s->lapsed)
        done |= sched_sweep(s);
    s->rounds = 0;
    return done;
}

static void hear(struct sched *s)
{
    struct pollfd *polls = s->crew.polls;
    if (polls[CREW_POLL_WAKE].revents)
        fd_drain(s->wake[0]);
    for (unsigned i = 0; i < s->crew.slots; i++)
        if (polls[CREW_POLL_WORKERS + i].revents && polls[CREW_POLL_WORKERS + i].fd >= 0)
            crew_heard(&s->crew, &s->crew.workers[i]);
}

/* Listens to all descriptors, until `deadline`. */
static void listen(struct sched *s, int64_t deadline)
{
    struct timespec left;
    crew_listen(&s->crew);
    int64_t due = crew_deadline(&s->crew);
    nfds_t count = s->crew.slots + CREW_POLL_WORKERS;
    due = due < s->judge_at ? due : s->judge_at;
    due = due < s->even_at ? due : s->even_at;
    s->asleep_until = due < deadline ? due : deadline;
    sched_leave(s);
    int n = ppoll(s->crew.polls, count, clock_left(s->asleep_until, &left), NULL);
    sched_enter(s);
    if (n > 0)
        hear(s);
}

static int one_round(struct sched *s)
{
    int done = sched_hand_out(s);
    done |= sched_take(s);
    if (++s->rounds >= ROUNDS) {
        listen(s, 0);
        mind(s);
    }
    return done;
}

/* The stream that is all there is to do, and of which something is known; or NULL. */
static const struct job *only_stream(const struct sched *s)
{
    const struct job *j = link_is_empty(&s->jobs) ? NULL : LINK_OWNER(s->jobs.next, struct job, open);
    return j && sched_is_alone(s, j) && j->kind == JOB_ITER && j->measured ? j : NULL;
}

/* Have the workers enough to do, so that a CPU that they do not get is lost? With items of 10 us one of two was, as long as the caller went
 * on to spin for each result: with calm_until, 7 us an item instead of 10, and 20 instead of 27 for one of 30 us. */
static int keeps_all_busy(const struct sched *s)
{
    const struct job *j = only_stream(s);
    return j && !sched_is_light(s, j, 0);
}

/* Spins without the lock, on words that workers write when they have something. Nonzero: there is news. Not before all workers are there:
 * those that are being born need the CPUs, and one that has just been may need this very one, where a pool of 2 workers on 2 CPUs that are
 * called once each lived a twentieth longer. */
static int spin(struct sched *s)
{
    struct spin_round round;
    size_t count = s->crew.watched_count;
    int news = 0, eager = 0;
    spin_begin(&s->spin, &round);
    s->complete = s->complete || crew_is_settled(&s->crew);
    if (!count || !s->complete || !spin_on(&s->spin, &round))
        return 0;
    for (size_t i = 0; i < count; i++) {
        s->spun[i] = s->crew.watched[i]->books.channel.desk;
        eager |= s->crew.watched[i]->books.eager != 0;
    }
    if (sched_is_crowded(s, count) && (!eager || keeps_all_busy(s)))
        return 0;               /* it would only take a CPU from a worker */
    sched_leave(s);
    while (!news && spin_on(&s->spin, &round)) {
        news = atomic_load_explicit(&s->poked, memory_order_relaxed);
        for (size_t i = 0; i < count && !news; i++)
            news = channel_caller_was_woken(s->spun[i]);
    }
    sched_enter(s);
    if (news)
        spin_paid(&s->spin);
    return news;
}

/* Until when single results of a stream wake nobody: where CPUs are short, the caller takes one from a worker each time, and where the
 * items are small, goes to sleep again with one result or two. Soon after it was woken they wait, therefore, until there are more, or
 * CALM_TIME has passed. */
static int64_t calm_until(const struct sched *s)
{
    const struct job *j = only_stream(s);
    return j && j->fit > DEPTH_LEAST && sched_is_crowded(s, s->crew.watched_count) ? s->woken_at + CALM_TIME : 0;
}

/* Sleeps until something happens or `deadline`. */
static void rest(struct sched *s, int64_t deadline)
{
    int news = atomic_load(&s->poked);
    int64_t calm = calm_until(s);
    enum books_when when = link_is_empty(&s->ready) ? BOOKS_AT_THE_END : BOOKS_IN_TIME;
    if (calm && clock_now() < calm) {
        when = BOOKS_HALF_WAY;
        deadline = calm < deadline ? calm : deadline;
    }
    s->asleep = 1;
    for (size_t i = 0; i < s->crew.watched_count; i++)
        news |= books_wait(&s->crew.watched[i]->books, CHANNEL_ASLEEP, when);
    if (!news) {
        listen(s, deadline);
        if (when != BOOKS_HALF_WAY)     /* else it may just have run out */
            s->woken_at = clock_now();
    }
    s->asleep = 0;
    for (size_t i = 0; i < s->crew.watched_count; i++)
        books_awake(&s->crew.watched[i]->books);
    atomic_store(&s->poked, 0);
    mind(s);
}

/* After something was done. */
static int is_to_return(const struct job *puller, int64_t deadline)
{
    return (puller && puller->source.pull) || (deadline != CLOCK_NEVER && clock_now() >= deadline);
}

/* Turns the loop until ready or `deadline`; returns to pull where there is something to pull. */
static void turn(struct sched *s, sched_is_ready *ready, void *arg, struct job *puller, int64_t deadline)
{
    while (!ready(arg)) {
        if (one_round(s)) {
            if (is_to_return(puller, deadline))
                return;
            continue;
        }
        if (ready(arg))
            return;
        if (!atomic_load(&s->poked) && spin(s)) {       /* a poke is settled by rest() alone: it also minds the nursery */
            if (sched_take(s) && is_to_return(puller, deadline))        /* before anything is handed out: most often this is waited for */
                return;
            continue;
        }
        if (deadline != CLOCK_NEVER && clock_now() >= deadline)
            return;
        rest(s, deadline);
    }
}

void sched_sleep(struct sched *s, struct waiter *waiter, struct link *sleepers, int64_t deadline)
{
    lock_share(&s->lock);
    waiter_sleep(waiter, sleepers, &s->lock.mutex, deadline);
    if (s->run.job)
        sched_end_run(s);
}

/* Somebody else has to go on: a caller, or else the helper. */
static void pass_on(struct sched *s)
{
    if (!link_is_empty(&s->sleepers))
        waiter_wake(LINK_OWNER(s->sleepers.next, struct waiter, link));
    else if (s->unattended || !crew_is_settled(&s->crew) || s->judge_at < s->attendant_until)
        waiter_wake(&s->attendant);
}

/* Sleeps while another thread turns; has the helper leave the turning to us. */
static void sleep_beside(struct sched *s, struct waiter *waiter, int64_t deadline)
{
    s->relieved++;
    if (s->attended)
        sched_poke(s);
    sched_sleep(s, waiter, &s->sleepers, deadline);
    s->relieved--;
}

int sched_wait(struct sched *s, sched_is_ready *ready, void *arg, struct waiter *waiter, struct job *puller, int64_t deadline)
{
    for (;;) {
        int pulled = sched_pull(s, puller);
        if (ready(arg))
            break;
        if (deadline != CLOCK_NEVER && clock_now() >= deadline)
            break;
        if (s->turning) {
            if (!pulled && !sched_hand_out(s))        /* whoever turns may be asleep: new work is handed out by its bringer */
                sleep_beside(s, waiter, deadline);
            continue;
        }
        s->turning = 1;
        turn(s, ready, arg, puller, deadline);
        s->turning = 0;
    }
    if (!s->turning)
        pass_on(s);
    return ready(arg);
}

struct attendance { struct sched *sched; sched_is_ready *stop; void *arg; };

static int is_relieved(void *attendance)
{
    struct attendance *a = attendance;
    const struct sched *s = a->sched;
    return s->relieved || (!s->unattended && crew_is_settled(&s->crew)) || a->stop(a->arg);
}

void sched_attend(struct sched *s, sched_is_ready *stop, void *arg)
{
    struct attendance a = {s, stop, arg};
    while (!stop(arg)) {
        int late = s->judge_at <= clock_now();
        if (s->turning || (is_relieved(&a) && !late)) {
            s->attendant_until = s->turning ? CLOCK_NEVER : s->judge_at;        /* whoever turns judges, too */
            sched_sleep(s, &s->attendant, NULL, s->attendant_until);
            s->attendant_until = CLOCK_NEVER;
            continue;
        }
        s->turning = s->attended = 1;
        if (late)
            mind(s);
        turn(s, is_relieved, &a, NULL, CLOCK_NEVER);
        s->turning = s->attended = 0;
        pass_on(s);
    }
}

void sched_turn(struct sched *s, struct job *puller)
{
    sched_pull(s, puller);
    if (s->turning) {
        sched_hand_out(s);
        return;
    }
    s->turning = 1;
    if (!one_round(s) || atomic_load(&s->poked)) {
        atomic_store(&s->poked, 0);
        listen(s, 0);
        mind(s);
        one_round(s);
    }
    s->turning = 0;
    pass_on(s);
}
