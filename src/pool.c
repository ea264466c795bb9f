/* Pools: made, entered, left, destroyed.
 *
 * Runs in the host. A pool belongs to the process that made it; this process's pools are in a list, so that a nursery forked for one of
 * them can close and unmap what the others own. Threads inside a call are counted: pool_destroy ends their calls, waits until they have
 * left, and only then takes the crew down. Handles may outlive their pool: its memory, with the channels in which their
 * results may still lie, goes with the last of them.
 *
 * pool_destroy in order: no new calls; what waits is dropped; every deque is closed, so that idle workers leave at once and busy ones after
 * their item, running their finalizers; after the grace what is left is killed; the nursery kills whatever else is below it. */
#define _GNU_SOURCE
#include "pool.h"

#include "clock.h"
#include "fd.h"
#include "forks.h"
#include "status.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define GRACE 1.0                       /* seconds for what runs when a pool is destroyed */
#define KILL_TIME 5.0                   /* seconds in which a kill takes effect, or never */
#define LOCK_TIME 200000                /* microseconds after which a lock of libc is taken for one that is held for ever */
enum { WORKERS_MOST = 4096 };

static const char destroyed[] = "the pool was destroyed";

static struct pool *pools;              /* of this process; under forks_lock */

static void enlist(struct pool *p)
{
    forks_lock();
    p->next = pools;
    if (pools)
        pools->before = p;
    pools = p;
    forks_unlock();
}

static void strike_off(struct pool *p)
{
    forks_lock();
    if (p->before)
        p->before->next = p->next;
    else if (pools == p)
        pools = p->next;
    if (p->next)
        p->next->before = p->before;
    forks_unlock();
}

/* In a new nursery: locks that other threads of the host held at the fork are held for ever here. fork() sees to malloc's and stdio's; for
 * the others we look whether they are free, since the workers will need them. If not, the nursery dies of the alarm, and is forked anew. */
static void prepare(void)
{
    struct itimerval limit = {.it_value.tv_usec = LOCK_TIME}, none = {{0, 0}, {0, 0}};
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    setitimer(ITIMER_REAL, &limit, NULL);
    sigprocmask(SIG_UNBLOCK, &alarm_only, NULL);        /* its disposition is the default */
    worker_prepare();
    sigprocmask(SIG_BLOCK, &alarm_only, NULL);
    setitimer(ITIMER_REAL, &none, NULL);
}

/* Lets go of what a child inherited of a pool, but for the struct. No lock: it may have been anybody's at the fork. */
static void let_go(struct pool *p)
{
    fd_close(&p->sched.wake[0]);
    fd_close(&p->sched.wake[1]);
    crew_forget(&p->sched.crew);
    crew_unmap(&p->sched.crew);
}

/* In a new nursery: lets go of what it inherited of all pools, but for the channels of its own. */
static void settle_in(void *plan)
{
    struct pool *own = (struct pool *)(void *)((char *)plan - offsetof(struct pool, sched.crew.plan));
    forks_in_worker = 1;
    for (; pools; pools = pools->next)
        let_go(pools);
    fd_close(&own->sched.wake[0]);
    fd_close(&own->sched.wake[1]);
    prepare();
}

/* ---- Making */

static int refuse(const char *option)
{
    status_say(POOL_INVALID, "pool_options.%s is not supported by this version: leave it zero", option);
    return EINVAL;
}

static int check_options(const struct pool_options *o)
{
    for (size_t i = 0; i < sizeof o->reserved / sizeof *o->reserved; i++) {
        if (o->reserved[i]) {
            status_say(POOL_INVALID, "pool_options.reserved must be zero: initialize the struct with {0}");
            return EINVAL;
        }
    }
    if (isnan(o->init_timeout) || o->init_timeout < 0 || isnan(o->cpu_limit) || o->cpu_limit < 0) {
        status_say(POOL_INVALID, "a time limit in pool_options must not be negative or NaN; 0 means no limit");
        return EINVAL;
    }
    if (o->serial)
        return 0;                       /* it overrides whatever speaks of processes */
    if (o->pass_fds_count && !o->pass_fds) {
        status_say(POOL_INVALID, "pool_options.pass_fds is NULL but pass_fds_count is %zu", o->pass_fds_count);
        return EINVAL;
    }
    if (o->workers > WORKERS_MOST) {
        status_say(POOL_INVALID, "a pool has at most %d workers; %u were asked for", WORKERS_MOST, o->workers);
        return EINVAL;
    }
    return o->max_tasks ? refuse("max_tasks") : o->max_memory ? refuse("max_memory") : o->max_workers ? refuse("max_workers")
         : o->memory_limit ? refuse("memory_limit") : o->cpu_limit > 0 && !isinf(o->cpu_limit) ? refuse("cpu_limit")
         : o->nice ? refuse("nice") : o->pin ? refuse("pin") : 0;
}

static int crew_is_there(void *pool)
{
    const struct crew *crew = &((struct pool *)pool)->sched.crew;
    return crew->broken || crew->ready == crew->size;
}

static int start_crew(struct pool *p, const struct pool_options *o, unsigned workers)
{
    struct sched *s = &p->sched;
    char text[100];
    int r = crew_open(&s->crew, o, workers, s->wake[0], settle_in);
    if (r) {
        status_say(POOL_FAILED, "the pool's processes could not be started: %s", status_errno(r, text, sizeof text));
        return r;
    }
    pthread_mutex_lock(&s->lock);
    sched_wait(s, crew_is_there, p, &s->waiter, NULL, CLOCK_NEVER);
    r = s->crew.broken;
    pthread_mutex_unlock(&s->lock);
    if (!r)
        return 0;
    status_say(POOL_FAILED, "%s", s->crew.why);
    s->crew.leaving = 1;
    crew_close(&s->crew, clock_deadline(KILL_TIME));
    sched_bury_all(s);
    crew_unmap(&s->crew);
    return r;
}

static int make(struct pool *p, const struct pool_options *o)
{
    unsigned workers = o->serial ? 1 : o->workers ? o->workers : pool_cpu_count();
    int r = forks_watch();
    p->forks = forks_count;
    if (!r)
        r = sched_init(&p->sched, workers, o->no_spin != 0 || o->serial);
    if (r) {
        char text[100];
        status_say(POOL_FAILED, "a pool could not be made: %s", status_errno(r, text, sizeof text));
        return r;
    }
    return o->serial ? serial_open(&p->serial, o) : start_crew(p, o, workers);
}

struct pool *pool_create(const struct pool_options *options)
{
    static const struct pool_options defaults;
    const struct pool_options *o = options ? options : &defaults;
    status_clear();
    struct pool *p = NULL;
    int r = check_options(o);
    if (!r && !(p = calloc(1, sizeof *p))) {
        status_say(POOL_NO_MEMORY, "no memory for a pool");
        r = ENOMEM;
    }
    if (!r && (r = make(p, o)))
        sched_fini(&p->sched);
    if (r) {
        free(p);
        errno = r;
        return NULL;
    }
    enlist(p);
    return p;
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
    return status_say(POOL_INVALID, "the pool is being destroyed");
}

enum pool_status pool_enter(struct pool *p)
{
    if (!p)
        return status_say(POOL_INVALID, "the pool is NULL: pool_create says by pool_error() why it made none");
    if (pool_inherited(p->forks))
        return POOL_INVALID;
    if (p->serial && serial_inside(p->serial))
        return status_say(POOL_INVALID, "a task cannot use the pool that runs it");
    pthread_mutex_lock(&p->sched.lock);
    if (p->sched.closed) {
        enum pool_status status = say_closed(p);
        pthread_mutex_unlock(&p->sched.lock);
        return status;
    }
    p->callers++;
    return POOL_OK;
}

void pool_leave(struct pool *p)
{
    p->callers--;
    waiter_wake(&p->sched.waiter);
    if (p->sched.closed)
        sched_poke(&p->sched);          /* pool_destroy, which waits for this, may be the one that turns the loop */
    pthread_mutex_unlock(&p->sched.lock);
}

static void free_pool(struct pool *p)
{
    crew_unmap(&p->sched.crew);
    sched_fini(&p->sched);
    free(p);
}

void pool_handle_leave(struct pool *p)
{
    p->handles--;
    int last = p->destroyed && !p->handles;
    pthread_mutex_unlock(&p->sched.lock);
    if (last)
        free_pool(p);
}

/* ---- Destroying */

static int is_gone(void *pool)
{
    return ((struct pool *)pool)->sched.crew.alive == 0;
}

static int is_alone(void *pool)
{
    return ((struct pool *)pool)->callers == 1;
}

static void dismiss(struct crew *crew)
{
    crew->leaving = 1;
    for (unsigned i = 0; i < crew->size; i++) {
        if (crew->workers[i].state == WORKER_READY)
            books_close(&crew->workers[i].books);
        else
            crew_condemn(crew, &crew->workers[i], POOL_CANCELLED, destroyed);
    }
}

static void end_crew(struct pool *p)
{
    struct sched *s = &p->sched;
    sched_turn(s, NULL);                /* what is finished is still delivered */
    sched_close(s, POOL_CANCELLED, 0);
    dismiss(&s->crew);
    sched_poke(s);
    if (!sched_wait(s, is_gone, p, &s->waiter, NULL, clock_deadline(GRACE))) {
        crew_condemn_all(&s->crew, POOL_CANCELLED, destroyed);
        sched_poke(s);
        sched_wait(s, is_gone, p, &s->waiter, NULL, clock_deadline(KILL_TIME));
    }
    sched_bury_all(s);
    sched_wait(s, is_alone, p, &s->waiter, NULL, CLOCK_NEVER);
    crew_close(&s->crew, clock_deadline(KILL_TIME));
}

void pool_destroy(struct pool *p)
{
    status_clear();
    if (!p)
        return;
    if (pool_inherited(p->forks)) {
        if (!forks_in_worker) {
            strike_off(p);
            let_go(p);
            free(p);
        }
        return;
    }
    if (p->serial && serial_inside(p->serial)) {
        status_say(POOL_INVALID, "a task cannot destroy the pool that runs it");
        return;
    }
    pthread_mutex_lock(&p->sched.lock);
    p->callers++;
    if (p->serial) {
        sched_close(&p->sched, POOL_CANCELLED, 0);
        while (!is_alone(p))
            waiter_sleep(&p->sched.waiter, &p->sched.lock, CLOCK_NEVER);
    } else {
        end_crew(p);
    }
    strike_off(p);
    serial_close(p->serial);
    p->callers--;
    p->destroyed = 1;
    p->handles++;
    pool_handle_leave(p);
}

/* ---- Asking */

unsigned pool_size(const struct pool *p)
{
    return !p ? 0 : p->serial ? 1 : p->sched.crew.size;
}

pid_t pool_worker_pid(const struct pool *pool, unsigned index)
{
    struct pool *p = (struct pool *)(uintptr_t)pool;
    status_clear();
    if (index >= pool_size(p) || pool_inherited(p->forks))
        return 0;
    if (p->serial)
        return getpid();
    pthread_mutex_lock(&p->sched.lock);
    const struct crew_worker *w = &p->sched.crew.workers[index];
    pid_t pid = w->state == WORKER_READY ? w->pid : 0;
    pthread_mutex_unlock(&p->sched.lock);
    return pid;
}
