/* Pools: known, entered, left, asked.
 *
 * Runs in the host. A pool belongs to the process that made it; this process's pools are in a list, so that a nursery forked for one of
 * them can close and unmap what the others own. Threads inside a call are counted: pool_destroy ends their calls, waits until they have
 * left, and only then takes the crew down (lifecycle.c). Handles may outlive their pool: its memory, with the channels in which
 * their results may still lie, goes with the last of them. */
#define _GNU_SOURCE
#include "pool.h"

#include "clock.h"
#include "fd.h"
#include "forks.h"
#include "status.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#define LOCK_TIME 200000                /* microseconds after which a lock of libc is taken for one that is held for ever */

static struct link pools = {&pools, &pools};    /* of this process; under forks_lock */

void pool_enlist(struct pool *p)
{
    forks_lock();
    link_append(&pools, &p->link);
    forks_unlock();
}

void pool_strike_off(struct pool *p)
{
    forks_lock();
    link_remove(&p->link);
    forks_unlock();
}

/* In a new nursery, where an alarm ends the process unless it is set to 0 in time. */
static void set_alarm(int microseconds)
{
    struct itimerval limit = {.it_value.tv_usec = microseconds};
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    setitimer(ITIMER_REAL, &limit, NULL);
    sigprocmask(microseconds ? SIG_UNBLOCK : SIG_BLOCK, &alarm_only, NULL);     /* its disposition is the default */
}

/* Lets go of what a child inherited of a pool, but for the struct. No lock: it may have been anybody's at the fork. */
void pool_let_go(struct pool *p)
{
    fd_close(&p->sched.wake[0]);
    fd_close(&p->sched.wake[1]);
    news_close(&p->news);
    crew_forget(&p->sched.crew);
    crew_unmap(&p->sched.crew);
}

/* Locks that other threads of the host held at the fork are held for ever here. fork() sees to malloc's and stdio's, though not to those of
 * every allocator or checker; for the others we look whether they are free, since the workers will need them. If not, the nursery dies of
 * the alarm, and is forked anew. */
void pool_settle_in(void *plan)
{
    struct pool *own = (struct pool *)(void *)((char *)plan - offsetof(struct pool, sched.crew.plan));
    forks_in_worker = 1;
    set_alarm(LOCK_TIME);
    for (struct link *l = pools.next; l != &pools; l = l->next)
        pool_let_go(LINK_OWNER(l, struct pool, link));
    link_init(&pools);
    fd_close(&own->sched.wake[0]);
    fd_close(&own->sched.wake[1]);
    worker_prepare();
    set_alarm(0);
}

/* ---- Entering and leaving */

int pool_inherited(unsigned forks)
{
    if (forks == forks_count)
        return 0;
    status_say(POOL_INVALID, forks_in_worker ? "this is a worker: a task cannot use the pool that runs it; create another pool in it"
                                             : "this process is a fork of the one that made the pool: create a pool of its own in it");
    return 1;
}

static enum pool_status say_closed(const struct pool *p)
{
    if (p->sched.closed == POOL_BROKEN)
        return status_say(POOL_BROKEN, "the pool is broken: %s", p->sched.crew.why);
    if (p->destroying)
        return status_say(POOL_INVALID, "the pool is being destroyed");
    return status_say(POOL_CLOSED, "the pool was closed: it accepts no more calls");
}

enum pool_status pool_enter(struct pool *p)
{
    if (!p)
        return status_say(POOL_INVALID, "the pool is NULL: pool_create says by pool_error() why it made none");
    if (pool_inherited(p->forks))
        return POOL_INVALID;
    if (p->serial && serial_inside(p->serial))
        return status_say(POOL_INVALID, "a task cannot use the pool that runs it");
    sched_enter(&p->sched);
    if (p->sched.closed || p->closing || p->destroying) {
        enum pool_status status = say_closed(p);
        sched_leave(&p->sched);
        return status;
    }
    p->callers++;
    return POOL_OK;
}

int pool_must_not_wait(const struct pool *p)
{
    if (!helper_is_here(&p->helper))
        return 0;
    status_say(POOL_INVALID, "a callback must not wait: start an asynchronous call, or ask with 0 seconds");
    return 1;
}

enum pool_status pool_enter_to_wait(struct pool *p)
{
    return p && pool_must_not_wait(p) ? POOL_INVALID : pool_enter(p);
}

void pool_leave(struct pool *p)
{
    p->callers--;
    waiter_wake(&p->sched.waiter);
    if (p->closing || p->destroying)
        sched_poke(&p->sched);          /* who waits for this may be the one that turns the loop */
    sched_leave(&p->sched);
}

static void free_pool(struct pool *p)
{
    crew_unmap(&p->sched.crew);
    sched_fini(&p->sched);
    free(p);
}

void pool_handle_enter(struct pool *p, struct job *j)
{
    link_append(&p->handles, &j->handle);
}

void pool_handle_leave(struct pool *p, struct job *j)
{
    link_remove(&j->handle);
    news_set(&p->news, &j->has_news, 0);
}

void pool_unlock(struct pool *p)
{
    int last = p->destroyed && link_is_empty(&p->handles);
    sched_leave(&p->sched);
    if (last)
        free_pool(p);
}

/* ---- Asking */

/* Locks it for a question; where the child of a fork asks, nobody knows who has the lock: nonzero, said in words. */
static int ask(const struct pool *pool)
{
    struct pool *p = (struct pool *)(uintptr_t)pool;
    status_clear();
    if (!p)
        status_say(POOL_INVALID, "the pool is NULL");
    if (!p || pool_inherited(p->forks))
        return 1;
    sched_enter(&p->sched);
    return 0;
}

static void answer(const struct pool *pool)
{
    sched_leave(&((struct pool *)(uintptr_t)pool)->sched);
}

unsigned pool_size(const struct pool *p)
{
    if (ask(p))
        return 0;
    unsigned size = p->serial ? 1 : p->sched.crew.size;
    answer(p);
    return size;
}

pid_t pool_worker_pid(const struct pool *p, unsigned index)
{
    pid_t pid = 0;
    if (ask(p))
        return 0;
    if (p->serial) {
        pid = index ? 0 : getpid();
    } else if (index < p->sched.crew.size) {
        if (!crew_is_settled(&p->sched.crew) && !p->destroying)
            sched_turn(&((struct pool *)(uintptr_t)p)->sched, NULL);    /* or who looks until it is there might look for ever */
        const struct crew_worker *w = p->sched.crew.places[index].holder;
        pid = w && (w->state == WORKER_READY || w->state == WORKER_LEAVING) ? w->pid : 0;
    }
    answer(p);
    return pid;
}

enum pool_status pool_stats(const struct pool *p, struct pool_stats *stats)
{
    if (ask(p))
        return POOL_INVALID;
    const uint64_t *items = p->sched.tally, *workers = p->sched.crew.replaced;
    if (stats)
        *stats = (struct pool_stats){
            .ok = items[POOL_OK], .failed = items[POOL_FAILED], .crashed = items[POOL_CRASHED], .timed_out = items[POOL_TIMED_OUT],
            .cancelled = items[POOL_CANCELLED], .retried = p->sched.retried,
            .replaced_crashed = workers[CREW_CRASHED], .replaced_timed_out = workers[CREW_TIMED_OUT],
            .replaced_cancelled = workers[CREW_CANCELLED], .replaced_max_tasks = workers[CREW_MAX_TASKS],
            .replaced_max_memory = workers[CREW_MAX_MEMORY]};
    answer(p);
    return stats ? POOL_OK : status_say(POOL_INVALID, "the place for the figures is NULL");
}

/* What goes on now is part of it. */
static struct pool_worker_stats figures(const struct place *place)
{
    const struct crew_worker *w = place->holder;
    int64_t now = clock_now(), busy = place->busy, ready = place->ready;
    if (w && w->state == WORKER_READY) {
        ready += now - w->ready_at;
        busy += books_outstanding(&w->books) ? now - w->since : 0;
    }
    return (struct pool_worker_stats){.items = place->items, .births = place->births, .busy = (double)busy * 1e-9,
                                      .idle = ready > busy ? (double)(ready - busy) * 1e-9 : 0,
                                      .startup = (double)place->startup * 1e-9};
}

enum pool_status pool_worker_stats(const struct pool *p, unsigned index, struct pool_worker_stats *stats)
{
    if (ask(p))
        return POOL_INVALID;
    unsigned most = p->serial ? 1 : p->sched.crew.most;
    if (stats && index < most && p->serial)
        *stats = (struct pool_worker_stats){.items = p->sched.tally[POOL_OK] + p->sched.tally[POOL_FAILED]};
    else if (stats && index < most)
        *stats = figures(&p->sched.crew.places[index]);
    answer(p);
    return !stats ? status_say(POOL_INVALID, "the place for the figures is NULL")
         : index >= most ? status_say(POOL_INVALID, "the pool never has a worker %u", index) : POOL_OK;
}
