/* The stress: random calls of the whole interface from 6 threads, checked against a model (operations.h, model.h).
 *
 *     stress [seconds [seed [round]]]
 *
 * A round makes one or two pools of random options, lets 6 threads do random operations on them, each with handles of its own that it
 * keeps from one operation to the next, and ends the pools in a random way: while calls run, after close, after terminate. In some
 * rounds a killer sends SIGKILL to random workers meanwhile. Every ending, status, callback and count must be one that the model allows;
 * afterwards the same descriptors and threads must be there, no child, and no process that holds what workers inherited.
 *
 * All that is done follows from seed, round, thread and number of the operation: a seed replays its calls, timing aside. The first
 * violation is printed with these four and ends the program, and so does a minute in which nothing moves. Exit status 0, and last
 * "stress: ok"; or 1.
 *
 * When a pool is destroyed while other threads use it, the caller has to see to it that no call begins on what is gone: the pool is
 * retired first. No operation on it begins any more, and we wait until each thread is outside or in a call of which
 * an item was seen to run, so that it is surely in the library, and ends CANCELLED there. */
#define _GNU_SOURCE
#include "operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { STALL = 60 };                    /* seconds */
enum { KILLS_MOST = 60 };               /* of a pool: a hundred idle workers killed in a row may break it */

/* ---- The threads */

static const struct operation { const char *name; void (*run)(struct actor *, struct dice *); unsigned weight; } operations[] = {
    {"map", op_map, 8},
    {"map in place", op_map_in_place, 4},
    {"map for effect", op_map_for_effect, 6},
    {"apply", op_apply, 6},
    {"map_results", op_map_results, 8},
    {"imap", op_open, 12},
    {"next", op_take, 16},
    {"iter_cancel", op_cancel, 3},
    {"poll", op_poll, 3},
    {"async", op_async, 16},
    {"job_wait", op_wait, 10},
    {"job_cancel", op_cancel_job, 4},
    {"job_free", op_free_job, 3},
    {"shared job_wait", op_wait_shared, 2},
    {"resize", op_resize, 3},
    {"stats", op_stats, 4},
    {"mistake", op_mistake, 2},
};

static const struct operation *choose_operation(struct dice *d)
{
    const struct operation *o = operations;
    unsigned total = 0;
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
        total += operations[i].weight;
    for (uint64_t r = roll(d, total); r >= o->weight; o++)
        r -= o->weight;
    return o;
}

/* Whatever has become of the pools: the handles can still be read to their ends, and must be freed. */
static void settle(struct actor *a, struct dice *d)
{
    for (size_t i = 0; i < HELD; i++) {
        struct stream *t = a->streams[i];
        struct promise **p = &a->promises[i];
        while (t && (ask_of(t->request)->subject->calm || chance(d, 95)) && take(t, -1) >= 0)
            ;
        if (t)
            close_stream(t);
        a->streams[i] = NULL;
        if (*p && (*p)->job && chance(d, 70))
            wait_for(*p, -1);
        let_go(p);
    }
}

static void *act(void *arg)
{
    struct actor *a = arg;
    struct round *r = a->round;
    for (a->operation = 0; a->operation < r->operations; a->operation++) {
        struct dice d = dice_for(r->number, a->number, a->operation);
        const struct operation *o = choose_operation(&d);
        a->name = o->name;
        o->run(a, &d);
        atomic_fetch_add(&progress, 1);
    }
    struct dice d = dice_for(r->number, a->number, a->operation);
    a->name = "the end";
    settle(a, &d);
    atomic_store(&a->done, 1);
    return NULL;
}

/* Kills a worker, and nobody else: a pid that is still its worker's when we already hold the process is the worker's. */
static void kill_worker(struct subject *s, unsigned index)
{
    pid_t pid = pool_worker_pid(s->pool, index);
    int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    if (fd < 0)
        return;
    if (pool_worker_pid(s->pool, index) == pid && !syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0))
        atomic_fetch_add(&kills_sent, 1);
    close(fd);
}

static void *kill_workers(void *arg)
{
    struct actor *a = arg;
    struct round *r = a->round;
    struct dice d = dice_for(r->number, a->number, 0);
    a->name = "kills";
    for (unsigned n = 0; n < KILLS_MOST && !r->over; n++) {
        struct subject *s = pick(a, &d);
        unsigned index = (unsigned)roll(&d, s->most);
        nap((double)(2000 + roll(&d, 30000)) / 1e6);
        if (!s->kills || !enter(a, s, NULL))
            continue;
        kill_worker(s, index);
        atomic_store(&a->inside, NULL);
    }
    return NULL;
}

/* ---- Ends */

static void retire(struct round *r, struct subject *s)
{
    atomic_store(&s->retired, 1);
    for (unsigned i = 0; i <= ACTORS; i++)
        while (!is_safe(i < ACTORS ? &r->actors[i] : &r->killer, s))
            nap(0.0002);
}

static void destroy(struct round *r, struct subject *s)
{
    retire(r, s);
    atomic_store(&s->refusing, 1);
    atomic_store(&s->cutting, 1);
    atomic_store(&s->destroying, 1);
    pool_destroy(s->pool);
    if (pool_error()[0])
        violation("destroy", "round %u: %s", r->number, pool_error());
    s->pool = NULL;
}

static void close_pool(struct subject *s)
{
    atomic_store(&s->refusing, 1);
    pool_close(s->pool);
    atomic_store(&s->refused, 1);
}

static void terminate(struct subject *s)
{
    atomic_store(&s->refusing, 1);
    atomic_store(&s->cutting, 1);
    pool_terminate(s->pool);
    atomic_store(&s->refused, 1);
}

static void join(struct round *r, struct subject *s, double each)
{
    enum pool_status status;
    while ((status = pool_join(s->pool, each)) == POOL_PENDING)
        nap(each > 0 ? 0 : 0.001);
    if (status)
        violation("join", "round %u: %s: %s", r->number, pool_status_text(status), pool_error());
    for (unsigned i = 0; i < s->most; i++)
        if (pool_worker_pid(s->pool, i))
            violation("join", "round %u: it returned, and worker %u is there", r->number, i);
}

static void wait_for_actors(struct round *r)
{
    for (unsigned i = 0; i < ACTORS; i++)
        while (!r->actors[i].done)
            nap(0.0005);
}

/* After a join, with all threads done: what the pool says that it did, against what we asked for and were told. */
static void check_counts(struct round *r, struct subject *s)
{
    struct pool_stats t;
    if (pool_stats(s->pool, &t))
        violation("stats", "round %u: %s", r->number, pool_error());
    size_t total = t.ok + t.failed + t.crashed + t.timed_out + t.cancelled, asked = s->submitted;
    if (total > asked || total + s->loose < asked)
        violation("stats", "round %u: %zu ended of %zu items, %zu of which may be missing (ok %zu, failed %zu, crashed %zu, timed out %zu, "
                  "cancelled %zu)", r->number, total, asked, (size_t)s->loose, (size_t)t.ok, (size_t)t.failed, (size_t)t.crashed,
                  (size_t)t.timed_out, (size_t)t.cancelled);
    if (t.ok < s->ended[POOL_OK] || t.failed < s->ended[POOL_FAILED] || t.crashed < s->ended[POOL_CRASHED] ||
        t.timed_out < s->ended[POOL_TIMED_OUT] || t.retried < s->retried)
        violation("stats", "round %u: it counts less than we were told: %zu of %zu ok, %zu of %zu failed, %zu of %zu crashed, %zu of %zu "
                  "timed out, %zu of %zu retried", r->number, (size_t)t.ok, (size_t)s->ended[POOL_OK], (size_t)t.failed,
                  (size_t)s->ended[POOL_FAILED], (size_t)t.crashed, (size_t)s->ended[POOL_CRASHED], (size_t)t.timed_out,
                  (size_t)s->ended[POOL_TIMED_OUT], (size_t)t.retried, (size_t)s->retried);
}

/* Every initializer was followed by its finalizer, where nothing was killed; but for replacements that were just being started. */
static void check_finalizers(const struct round *r, const struct subject *s)
{
    unsigned begun = s->tally->begun, ended = s->tally->ended, unfinished = s->options.max_tasks || s->options.max_memory ? s->most : 0;
    if (ended > begun || (s->calm && !s->cutting && ended + unfinished < begun))
        violation("finalizers", "round %u: %u of %u ran", r->number, ended, begun);
}

static void end_pool(struct round *r, struct subject *s, struct dice *d)
{
    enum { QUIETLY, BY_DESTROY, BY_CLOSE, BY_TERMINATE, BY_BOTH, BY_CLOSE_AND_DESTROY } way = (unsigned)roll(d, 6);
    double each = chance(d, 50) ? -1 : (double)roll(d, 20) / 1000;
    int joined = way >= BY_CLOSE && way <= BY_BOTH, calmly = chance(d, 50);
    if (chance(d, 50) && pool_join(s->pool, 0) != POOL_INVALID)
        violation("join", "round %u: it was not refused before close", r->number);
    if (way == QUIETLY)
        wait_for_actors(r);
    else
        nap((double)roll(d, 400) / 1000);
    if (way == BY_CLOSE || way == BY_BOTH || way == BY_CLOSE_AND_DESTROY)
        close_pool(s);
    if (way == BY_BOTH)
        nap((double)roll(d, 20) / 1000);
    if (way == BY_TERMINATE || way == BY_BOTH)
        terminate(s);
    if (joined) {
        join(r, s, each);
        if (calmly) {
            wait_for_actors(r);
            check_counts(r, s);
        }
        check_finalizers(r, s);
    }
    destroy(r, s);
}

/* ---- A round */

static void create_pool(struct round *r, struct subject *s, struct tally *tally, struct dice *d)
{
    *s = (struct subject){.workers = 1 + (unsigned)roll(d, 4), .calm = chance(d, 25), .tally = tally, .fd = -1, .born = now()};
    s->kills = !s->calm && chance(d, 40);
    s->most = s->workers + (unsigned)roll(d, 3);
    tally->begun = tally->ended = 0;
    struct pool_options *o = &s->options;
    *o = (struct pool_options){.workers = s->workers, .initializer = begin_worker, .initarg = tally, .finalizer = end_worker};
    o->max_workers = chance(d, 80) ? s->most : 0;
    o->init_timeout = chance(d, 30) ? 60 : 0;
    o->no_spin = (unsigned)chance(d, 50);
    o->close_fds = (unsigned)chance(d, 30);
    o->pass_fds = &r->pipe[1];
    o->pass_fds_count = 1;
    o->max_tasks = chance(d, 30) ? 5 + roll(d, 60) : 0;
    o->max_memory = chance(d, 15) ? (size_t)(4 + roll(d, 30)) << 20 : 0;
    o->nice = chance(d, 5);
    o->pin = (unsigned)chance(d, 10);
    if (!o->max_workers)
        s->most = s->workers;
    s->pool = pool_create(o);
    if (!s->pool)
        violation("create", "round %u: %s", r->number, pool_error());
    if (pool_size(s->pool) != s->workers)
        violation("create", "round %u: %u workers, and %u were asked for", r->number, pool_size(s->pool), s->workers);
    s->fd = chance(d, 40) ? pool_fd(s->pool) : -1;
}

static void start_shared(struct round *r, struct dice *d)
{
    struct subject *s = &r->subjects[0];
    struct request *q = make_request(s, BANK_SHARED, "the job for which all wait", d, 0);
    snprintf(q->origin, sizeof q->origin, "round %u, the job for which all wait", r->number);
    struct promise *p = start_promise(r, s, q, d, 0, 0);
    r->shared = p->job ? p : NULL;
}

/* When all pools are gone, and all threads: each callback has come, once; and nothing is read any more. */
static void check_promises(struct round *r)
{
    if (r->shared)
        pool_job_free(r->shared->job);
    for (struct promise *p = r->promises, *next; p; p = next) {
        next = p->next;
        if (p->fired != p->has_done)
            violation(p->request->origin, "its callback came %d times", p->fired);
        free_request(p->request);
        free(p);
    }
}

static size_t entries(const char *path)
{
    size_t n = 0;
    DIR *dir = opendir(path);
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void check_left(struct round *r, size_t descriptors, size_t threads)
{
    char byte;
    close(r->pipe[1]);
    struct pollfd polled = {.fd = r->pipe[0], .events = POLLIN};
    if (poll(&polled, 1, 5000) != 1 || read(r->pipe[0], &byte, 1) != 0)
        violation("the end", "round %u: some process of the pools is left", r->number);
    close(r->pipe[0]);
    if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
        violation("the end", "round %u: a child is left", r->number);
    if (entries("/proc/self/fd") != descriptors)
        violation("the end", "round %u: %zu descriptors, where there were %zu", r->number, entries("/proc/self/fd"), descriptors);
    for (double since = now(); entries("/proc/self/task") != threads; nap(0.001))
        if (now() - since > 10)
            violation("the end", "round %u: %zu threads, where there were %zu", r->number, entries("/proc/self/task"), threads);
}

static void start(struct actor *a, struct round *r, unsigned number, void *(*run)(void *))
{
    a->round = r;
    a->number = number;
    a->name = "nothing yet";
    if (pthread_create(&a->thread, NULL, run, a))
        violation("the stress", "no thread");
}

static void play(unsigned number)
{
    struct dice d = dice_for(number, 1000, 0);
    size_t descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    struct round *r = allocate(sizeof *r);
    r->number = number;
    r->operations = 5 + (unsigned)roll(&d, 40);
    r->pools = chance(&d, 40) ? 2 : 1;
    pthread_mutex_init(&r->lock, NULL);
    if (pipe2(r->pipe, O_CLOEXEC))
        violation("the stress", "no pipe");
    for (unsigned i = 0; i < r->pools; i++)
        create_pool(r, &r->subjects[i], &tallies[i], &d);
    current = r;
    if (chance(&d, 50))
        start_shared(r, &d);
    for (unsigned i = 0; i < ACTORS; i++)
        start(&r->actors[i], r, i, act);
    start(&r->killer, r, ACTORS, kill_workers);
    for (unsigned i = 0; i < r->pools; i++)
        end_pool(r, &r->subjects[i], &d);
    r->over = 1;
    for (unsigned i = 0; i < ACTORS; i++)
        pthread_join(r->actors[i].thread, NULL);
    pthread_join(r->killer.thread, NULL);
    check_promises(r);
    check_left(r, descriptors, threads);
    current = NULL;
    pthread_mutex_destroy(&r->lock);
    free(r);
}

/* ---- The watchdog, and main */

static void put_file(const char *path)
{
    char text[4096];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
    if (n > 0)
        printf("    %s: %.*s%s", path, (int)n, text, text[n - 1] == '\n' ? "" : "\n");
    if (fd >= 0)
        close(fd);
}

static void put_state(void)
{
    static const char *const names[] = {"comm", "wchan", "syscall", "stack"};
    for (unsigned i = 0; current && i < ACTORS; i++) {
        struct actor *a = &current->actors[i];
        printf("  thread %u: operation %u, %s%s%s\n", i, a->operation, a->name, a->inside ? ", inside" : "", a->done ? ", done" : "");
    }
    DIR *threads = opendir("/proc/self/task");
    for (struct dirent *e; threads && (e = readdir(threads));) {
        for (size_t i = 0; atoi(e->d_name) > 0 && i < sizeof names / sizeof *names; i++) {
            char path[300];
            snprintf(path, sizeof path, "/proc/self/task/%s/%s", e->d_name, names[i]);
            put_file(path);
        }
    }
    if (threads)
        closedir(threads);
    fflush(stdout);
}

static atomic_int over;

static void *watch(void *nothing)
{
    size_t before = progress;
    double since = now();
    while (!over) {
        nap(0.1);
        if (progress != before) {
            before = progress;
            since = now();
        } else if (now() - since > STALL) {
            printf("VIOLATION (seed %llu): round %u: nothing has moved for %d seconds\n", seed, current ? current->number : 0, STALL);
            put_state();
            abort();
        }
    }
    return nothing;
}

static void *share(size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        violation("the stress", "no shared memory");
    return at;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 60, begun = now();
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : mix((uint64_t)time(NULL) ^ (uint64_t)getpid() << 32) % 1000000000;
    unsigned round = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 0, first = round;
    pthread_t watchdog;
    printf("stress: seed %llu, from round %u on, for %g s\n", seed, round, seconds);
    fflush(stdout);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    runs = share(BANKS * sizeof *runs);
    tallies = share(POOLS * sizeof *tallies);
    if (pthread_create(&watchdog, NULL, watch, NULL))
        violation("the stress", "no thread");
    do
        play(round++);
    while (now() - begun < seconds);
    over = 1;
    pthread_join(watchdog, NULL);
    printf("%u rounds, %zu calls, %zu kills; items of which each ending was seen: %zu ok, %zu failed, %zu crashed, %zu timed out, "
           "%zu cancelled; %.1f s\n", round - first, (size_t)calls_made, (size_t)kills_sent, (size_t)totals[POOL_OK],
           (size_t)totals[POOL_FAILED], (size_t)totals[POOL_CRASHED], (size_t)totals[POOL_TIMED_OUT], (size_t)totals[POOL_CANCELLED],
           now() - begun);
    puts("stress: ok");
    return 0;
}
