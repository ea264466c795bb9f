/* A pool's course: made, resized, closed, joined, terminated, destroyed; and its descriptor for event loops.
 *
 * Runs in the host, in any thread, but for what waits, which callbacks must not. Closing stops new calls; the crew leaves in order when
 * the last job has ended, which may be at once. Terminating cuts all jobs off and has the crew killed, and waits for nothing: whoever
 * turns the loop next buries them. Joining waits for either to be over.
 *
 * pool_destroy in order: no new calls; what waits is dropped; every deque is closed, so that idle workers leave at once and busy ones after
 * their item, running their finalizers; after the grace what is left is killed; callbacks run out; callers in other threads leave;
 * the helper's threads end; the nursery kills whatever else is below it. */
#include "submit.h"

#include "clock.h"
#include "cpu.h"
#include "cpu_place.h"
#include "forks.h"
#include "status.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { WORKERS_MOST = 4096 };
#define GRACE 1.0                       /* seconds for what runs when a pool is destroyed */

static const char destroyed[] = "the pool was destroyed";

/* ---- Making */

static unsigned workers_wanted(const struct pool_options *o)
{
    return o->serial ? 1 : o->workers ? o->workers : cpu_count_in("", cpu_affinity());
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
    if (o->max_workers > WORKERS_MOST || (o->max_workers && o->max_workers < workers_wanted(o))) {
        status_say(POOL_INVALID, "pool_options.max_workers is %u: it is to be 0, or from workers (%u) to %d", o->max_workers,
                   workers_wanted(o), WORKERS_MOST);
        return EINVAL;
    }
    return 0;
}

static int crew_is_there(void *pool)
{
    const struct crew *crew = &((struct pool *)pool)->sched.crew;
    return crew->broken || crew->hands_count == crew->size;
}

static int start_crew(struct pool *p, const struct pool_options *o, unsigned workers)
{
    struct sched *s = &p->sched;
    char text[100];
    int r = crew_open(&s->crew, o, workers, s->wake[0], pool_settle_in);
    if (r) {
        status_say(POOL_FAILED, "the pool's processes could not be started: %s", status_errno(r, text, sizeof text));
        return r;
    }
    sched_enter(s);
    sched_wait(s, crew_is_there, p, &s->waiter, NULL, CLOCK_NEVER);
    r = s->crew.broken;
    sched_leave(s);
    if (!r)
        return 0;
    status_say(POOL_FAILED, "%s", s->crew.why);
    s->crew.leaving = 1;
    crew_close(&s->crew, clock_deadline(POOL_KILL_TIME));
    sched_bury_all(s);
    crew_unmap(&s->crew);
    return r;
}

static int make(struct pool *p, const struct pool_options *o)
{
    unsigned workers = workers_wanted(o), slots = 2 * (o->max_workers > workers ? o->max_workers : workers);
    int r = forks_watch();
    p->forks = forks_count;
    p->helper.sched = &p->sched;
    p->news.ends[0] = p->news.ends[1] = -1;
    link_init(&p->handles);
    if (!r)
        r = sched_init(&p->sched, slots, o->no_spin != 0 || o->serial);
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
    pool_enlist(p);
    return p;
}

/* May this thread have the pool's course changed? Says so, where not. */
static int refuse(const struct pool *p)
{
    status_clear();
    if (!p)
        return (int)status_say(POOL_INVALID, "the pool is NULL");
    if (pool_inherited(p->forks))
        return POOL_INVALID;
    return p->serial && serial_inside(p->serial) ? (int)status_say(POOL_INVALID, "a task cannot end the pool that runs it") : 0;
}

/* ---- Closing, terminating */

void pool_close(struct pool *p)
{
    if (refuse(p))
        return;
    sched_enter(&p->sched);
    p->closing = 1;
    if (!p->serial)
        sched_finish(&p->sched);
    sched_leave(&p->sched);
}

void pool_terminate(struct pool *p)
{
    if (refuse(p))
        return;
    struct sched *s = &p->sched;
    sched_enter(s);
    p->closing = 1;
    sched_close(s, POOL_CANCELLED, 1);
    s->crew.leaving = 1;
    if (p->serial)
        serial_abandon(p->serial);
    else
        crew_condemn_all(&s->crew, POOL_CANCELLED, "the pool was terminated");
    sched_poke(s);
    waiter_wake(&s->waiter);
    sched_leave(s);
}

/* ---- Joining */

static int is_over(void *pool)
{
    const struct pool *p = pool;
    return link_is_empty(&p->sched.jobs) && !p->sched.crew.alive && helper_is_idle(&p->helper);
}

/* A serial pool's iterators are in no list of jobs. */
static int is_over_serially(const struct pool *p)
{
    for (const struct link *l = p->handles.next; l != &p->handles; l = l->next) {
        const struct job *j = LINK_OWNER(l, const struct job, handle);
        if (!j->ended && !p->sched.closed)
            return 0;
    }
    return p->destroying || p->callers == p->joining;
}

/* The user's function may ask the pool things. */
static void finish_serially(struct pool *p)
{
    sched_leave(&p->sched);
    serial_finish(p->serial);
    sched_enter(&p->sched);
}

static int join_serially(struct pool *p, int64_t deadline)
{
    int over;
    p->joining++;
    while (!(over = is_over_serially(p)) && clock_now() < deadline)
        sched_sleep(&p->sched, &p->sched.waiter, NULL, deadline);
    p->joining--;
    if (over && !p->destroying)
        finish_serially(p);
    return over;
}

enum pool_status pool_join(struct pool *p, double seconds)
{
    if (refuse(p) || pool_must_not_wait(p))
        return POOL_INVALID;
    if (isnan(seconds))
        return status_say(POOL_INVALID, "the time to wait is not a number");
    sched_enter(&p->sched);
    int may = p->closing && !p->destroying;
    p->callers++;
    int over = may && (p->serial ? join_serially(p, clock_deadline(seconds))
                                 : sched_wait(&p->sched, is_over, p, &p->sched.waiter, NULL, clock_deadline(seconds)));
    pool_leave(p);
    return !may ? status_say(POOL_INVALID, "pool_join comes after pool_close or pool_terminate, and before pool_destroy")
         : over ? POOL_OK : POOL_PENDING;
}

/* ---- Destroying */

static int is_gone(void *pool)
{
    return ((struct pool *)pool)->sched.crew.alive == 0;
}

static int is_alone(void *pool)
{
    const struct pool *p = pool;
    return p->callers == 1 && helper_is_idle(&p->helper);
}

static void end_crew(struct pool *p)
{
    struct sched *s = &p->sched;
    sched_turn(s, NULL);                /* what is finished is still delivered */
    sched_close(s, POOL_CANCELLED, 0);
    crew_dismiss_all(&s->crew);
    crew_retire(&s->crew);
    sched_poke(s);
    if (!sched_wait(s, is_gone, p, &s->waiter, NULL, clock_deadline(GRACE))) {
        crew_condemn_all(&s->crew, POOL_CANCELLED, destroyed);
        sched_poke(s);
        sched_wait(s, is_gone, p, &s->waiter, NULL, clock_deadline(POOL_KILL_TIME));
    }
    sched_bury_all(s);
    sched_wait(s, is_alone, p, &s->waiter, NULL, CLOCK_NEVER);
    helper_stop(&p->helper);
    if (link_is_empty(&p->handles))
        crew_unmap(&s->crew);           /* nothing is lent: while the nursery ends */
    crew_close(&s->crew, clock_deadline(POOL_KILL_TIME));
}

static void end_serially(struct pool *p)
{
    sched_close(&p->sched, POOL_CANCELLED, 0);
    waiter_wake(&p->sched.waiter);
    while (!is_alone(p))
        sched_sleep(&p->sched, &p->sched.waiter, NULL, CLOCK_NEVER);
    finish_serially(p);
    serial_close(p->serial);
}

/* In a child of the host: what it inherited goes, and nothing else. */
static void forget(struct pool *p)
{
    pool_strike_off(p);
    pool_let_go(p);
    free(p->sched.spun);
    free(p);
}

void pool_destroy(struct pool *p)
{
    status_clear();
    if (!p)
        return;
    if (p->forks != forks_count && !forks_in_worker) {
        forget(p);
        return;
    }
    if (refuse(p) || pool_must_not_wait(p))
        return;
    sched_enter(&p->sched);
    p->callers++;
    p->destroying = 1;
    if (p->serial)
        end_serially(p);
    else
        end_crew(p);
    news_close(&p->news);
    pool_strike_off(p);
    p->callers--;
    p->destroyed = 1;
    pool_unlock(p);
}

/* ---- Resizing */

enum pool_status pool_resize(struct pool *p, unsigned workers)
{
    status_clear();
    enum pool_status status = pool_enter(p);
    if (status)
        return status;
    if (p->serial)
        status = status_say(POOL_INVALID, "a serial pool has one worker");
    else if (!workers || workers > p->sched.crew.most)
        status = status_say(POOL_INVALID, "%u workers: from 1 to pool_options.max_workers (%u) are possible", workers, p->sched.crew.most);
    else
        sched_resize(&p->sched, workers);
    if (!status)
        sched_turn(&p->sched, NULL);
    pool_leave(p);
    return status;
}

/* ---- The descriptor */

/* What goes on already is attended from now on, and looked at once by whoever polls. */
static void watch_handles(struct pool *p)
{
    for (struct link *l = p->handles.next; l != &p->handles; l = l->next) {
        struct job *j = LINK_OWNER(l, struct job, handle);
        if (!j->ended && !j->unattended) {
            j->unattended = 1;
            p->sched.unattended++;
        }
        job_tell(j);
    }
}

static int open_news(struct pool *p)
{
    int r = p->serial ? ENOTSUP : helper_attend(&p->helper);
    if (!r && p->news.ends[0] < 0 && !(r = news_open(&p->news))) {
        atomic_store(&p->watched, 1);
        watch_handles(p);
        waiter_wake(&p->sched.attendant);
    }
    return r;
}

int pool_fd(struct pool *p)
{
    char text[100];
    status_clear();
    enum pool_status status = pool_enter(p);
    if (status) {
        errno = submit_errno(status);
        return -1;
    }
    int r = open_news(p), fd = r ? -1 : p->news.ends[0];
    if (r)
        status_say(POOL_FAILED, "a descriptor for this pool could not be had: %s",
                   p->serial ? "a serial pool has nothing to wait for" : status_errno(r, text, sizeof text));
    pool_leave(p);
    if (r)
        errno = r;
    return fd;
}
