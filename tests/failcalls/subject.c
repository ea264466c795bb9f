/* Fails every call: one run of the library with one call failing, and the driver that makes all these runs.
 *
 *     subject SO [--long]                                  all of them; prints "ok" or "FAIL" for each kind of call
 *     subject SO [--long] KIND SIDE FIRST LAST ERROR       one of them, to be looked at: "malloc host 17 17 ENOMEM"
 *
 * Each run is a process of its own with the interposer SO loaded and a mark in its environment, which all that it forks inherit: by
 * that the driver finds what was left behind. A run makes a pool of 2 workers and each kind of call, one crash among them, and checks
 * what it was told. The side "later" is another kind of run, of what is beyond the core: the pool is there already, and the host's
 * calls fail from then on, in asynchronous calls, callbacks, time limits, retries, resizing, pool_fd, close and join. The sides "apart"
 * (the host's) and "child" are a third kind: processes and queues, see apart.c. With a call
 * failing, nothing may hang, leak, be lost, be run twice or be wrong: whatever did not end well was reported, with words, and nothing
 * was printed. Without one, all must be well.
 *
 * Exit status of a run: 0: as it should be, and a call failed; 3: as it should be, no call failed (there are no more such
 * calls); 1: not as it should be, and stdout says what. */
#define _GNU_SOURCE
#include "interpose.h"
#include "subject.h"

#include "forkpool.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MARK "FAILCALLS_MARK"
enum { STRUCK = 0, WRONG = 1, UNTOUCHED = 3 };
enum { DEADLINE = 20 };                 /* seconds that one run may take */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- Which processes carry the mark. Own means are used, no heap: it may be the heap that fails. */

static int carries(const char *pid, const char *mark)
{
    static char environment[1 << 16];
    char path[300];
    snprintf(path, sizeof path, "/proc/%s/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, environment, sizeof environment - 1);
    if (fd >= 0)
        close(fd);
    environment[n > 0 ? n : 0] = '\0';
    for (const char *at = environment; at < environment + n; at += strlen(at) + 1)
        if (strcmp(at, mark) == 0)
            return 1;
    return 0;
}

static pid_t run_pid;                   /* of the run that is looked at */

/* Calls `each` for every process with that mark but this one; returns how many there are. Of a busy machine's processes only those
 * are looked at that are younger than the run, by their numbers: should these begin anew meanwhile, a leak may be missed. */
static int marked(const char *mark, void (*each)(pid_t))
{
    DIR *all = opendir("/proc");
    int count = 0;
    for (struct dirent *entry; all && (entry = readdir(all));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid < run_pid || pid <= 0 || pid == getpid() || !carries(entry->d_name, mark))
            continue;
        count++;
        if (each)
            each(pid);
    }
    if (all)
        closedir(all);
    return count;
}

/* Waits until there is none; returns how many are left. */
static int marked_in_the_end(const char *mark, int seconds)
{
    int64_t until = now_ms() + seconds * 1000;
    int left;
    while ((left = marked(mark, NULL)) && now_ms() < until)
        poll(NULL, 0, 5);
    return left;
}

/* ======== One run */

enum { MAPPED = 100, STREAMED = 40, CRASHING = 6, LISTED = 12, ITEMS = 200 };

static int wrongs;

void wrong(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    wrongs++;
}

/* How often each item of each call was started: in memory that host and workers share. */
static atomic_int (*starts)[ITEMS];
enum { CALL_MAP, CALL_IMAP, CALL_APPLY, CALL_CRASH, CALL_LIST, CALL_AFTER, CALL_JOB, CALL_DETACHED, CALL_RETRIED, CALLS };

int strict, long_mode;
#define LONG "FAILCALLS_LONG"
#define SHOW "FAILCALLS_SHOW"

/* Sizes of generated items and of listed results: inline, in the lane, and (the last of the list) larger than a lane slot. */
static const size_t sizes[] = {8, 0, 100, 5000, 20000, 70000, 16384, 16385};

static size_t size_of(size_t index)
{
    return index == LISTED - 1 && (long_mode || strict) ? ((size_t)8 << 20) + 12345 : sizes[index % (sizeof sizes / sizeof *sizes)];
}

static int tick(struct pool_task *task)
{
    int call = *(const int *)task->common;
    atomic_fetch_add(&starts[call][task->index], 1);
    return 0;
}

static int square(struct pool_task *task)
{
    long x = *(const long *)task->in, y = x * x;
    tick(task);
    return pool_return(task, &y, sizeof y);
}

static int echo(struct pool_task *task)
{
    tick(task);
    return pool_return(task, task->in, task->in_size);
}

static int pattern(struct pool_task *task)
{
    tick(task);
    size_t size = size_of(task->index);
    unsigned char *out = pool_out(task, size);
    if (!out)
        return pool_fail(task, 7, "no room");
    memset(out, (int)task->index + 1, size);
    return 0;
}

static int crash_third(struct pool_task *task)
{
    tick(task);
    if (task->index == 3)
        raise(SIGKILL);
    long y = (long)task->index * 10;
    return pool_return(task, &y, sizeof y);
}

static int prepare(struct pool_worker *worker)
{
    worker->state = malloc(100);
    return worker->state ? 0 : pool_init_fail(worker, 5, "no memory for its state");
}

void check_words(const char *where)
{
    if (!pool_error()[0])
        wrong("%s failed without a word", where);
}

/* A call that failed: that is only right where something was made to fail, and never without words. */
static void check_status(const char *where, enum pool_status status)
{
    if (status == POOL_OK)
        return;
    if (strict)
        wrong("%s: %s: %s", where, pool_status_text(status), pool_error());
    if (status == POOL_INVALID || status == POOL_PENDING || status == POOL_TIMED_OUT || status > POOL_PENDING)
        wrong("%s: not a truthful status: %s", where, pool_status_text(status));
    check_words(where);
}

static void check_starts(const char *where, int call, size_t index, enum pool_status status, int tries)
{
    int n = atomic_load(&starts[call][index]);
    if (n > 1)
        wrong("%s: item %zu was started %d times", where, index, n);
    if (status == POOL_OK && n != 1)
        wrong("%s: item %zu is OK and was started %d times", where, index, n);
    if (tries == 0 && n != 0)
        wrong("%s: item %zu was started, and is told to have been not", where, index);
    if (tries > 1)
        wrong("%s: item %zu has %d tries", where, index, tries);
}

static void check_result(const char *where, int call, const struct pool_result *r)
{
    check_starts(where, call, r->index, r->status, (int)r->tries);
    if (r->status == POOL_OK)
        return;
    if (strict)
        wrong("%s: item %zu: %s: %s", where, r->index, pool_status_text(r->status), r->message);
    if (r->data || (!r->message[0] && r->status != POOL_FAILED))
        wrong("%s: failed item %zu has data, or no message", where, r->index);
    if (r->status == POOL_FAILED && !r->code)
        wrong("%s: item %zu failed with code 0", where, r->index);
}

/* An array of results, each set to -1 before: right where its item ended well. */
static void check_array(const char *where, int call, enum pool_status status, const long *out, size_t count, long (*should)(size_t))
{
    const struct pool_result *f = pool_failure();
    if (status == POOL_FAILED || status == POOL_CRASHED) {
        if (!f || f->status != status)
            wrong("%s: pool_failure does not fit its status", where);
        else if (out[f->index] != -1)
            wrong("%s: the failed item %zu has a result", where, f->index);
    }
    for (size_t i = 0; i < count; i++) {
        int well = out[i] != -1;
        check_starts(where, call, i, well ? POOL_OK : POOL_FAILED, -1);
        if (well && out[i] != should(i))
            wrong("%s: item %zu is %ld", where, i, out[i]);
        if (!well && status == POOL_OK)
            wrong("%s: item %zu has no result, and the call is OK", where, i);
        if (!well && f && i < f->index && status == f->status)
            wrong("%s: item %zu failed, and %zu is told to be the first", where, i, f->index);
    }
}

static long as_square(size_t i) { return (long)(i * i); }
static long as_tens(size_t i) { return (long)i * 10; }

static void do_map(struct pool *pool, const char *where, int call)
{
    static long in[MAPPED], out[MAPPED];
    for (long i = 0; i < MAPPED; i++) {
        in[i] = i;
        out[i] = -1;
    }
    struct pool_call options = {.common = &call, .common_size = sizeof call};
    enum pool_status status = pool_map(pool, square, pool_array(in, MAPPED, sizeof *in), out, sizeof *out, &options);
    check_status(where, status);
    check_array(where, call, status, out, MAPPED, as_square);
}

struct cursor { size_t next; unsigned char bytes[70000]; };

static int generate(void *arg, struct pool_bytes *item)
{
    struct cursor *cursor = arg;
    if (cursor->next == STREAMED)
        return 0;
    item->size = size_of(cursor->next % 8);
    item->data = cursor->bytes;
    memset(cursor->bytes, (int)cursor->next + 1, sizeof cursor->bytes);
    cursor->next++;
    return 1;
}

static void check_bytes(const char *where, const struct pool_result *r, size_t size)
{
    const unsigned char *data = r->data;
    if (r->status)
        return;
    if (r->size != size || (size && (!data || data[0] != r->index + 1 || data[size - 1] != r->index + 1)))
        wrong("%s: item %zu has a wrong result", where, r->index);
}

static void do_imap(struct pool *pool)
{
    static struct cursor cursor;
    cursor.next = 0;
    int call = CALL_IMAP;
    struct pool_call options = {.common = &call, .common_size = sizeof call, .window = 9};
    struct pool_iter *iter = pool_imap(pool, echo, pool_generator(generate, &cursor), &options);
    if (!iter) {
        if (!errno || strict)
            wrong("imap: refused without errno");
        check_words("imap");
        return;
    }
    size_t count = 0, next = 0;
    for (const struct pool_result *r; (r = pool_next(iter)); count++) {
        if (r->index < next)
            wrong("imap: item %zu came after %zu", r->index, next - 1);
        next = r->index + 1;            /* those between were dropped: then it cannot be OK at the end */
        check_result("imap", CALL_IMAP, r);
        check_bytes("imap", r, size_of(r->index % 8));
    }
    enum pool_status status = pool_iter_status(iter);
    if (status == POOL_PENDING)
        wrong("imap: it ended, and is pending");
    if (status == POOL_OK && count != STREAMED)
        wrong("imap: %zu results, and it is OK", count);
    if (status != POOL_OK && strict)
        wrong("imap: ended with %s", pool_status_text(status));
    pool_iter_free(iter);
}

static void do_apply(struct pool *pool)
{
    long in = 11, out = -1;
    int call = CALL_APPLY;
    struct pool_call options = {.common = &call, .common_size = sizeof call};
    enum pool_status status = pool_apply(pool, square, &in, sizeof in, &out, sizeof out, &options);
    check_status("apply", status);
    check_starts("apply", CALL_APPLY, 0, status, -1);
    if (status ? out != -1 : out != 121)
        wrong("apply: %s, and the result is %ld", pool_status_text(status), out);
}

static void do_crash(struct pool *pool)
{
    long out[CRASHING];
    int call = CALL_CRASH;
    struct pool_call options = {.common = &call, .common_size = sizeof call};
    for (size_t i = 0; i < CRASHING; i++)
        out[i] = -1;
    enum pool_status status = pool_map(pool, crash_third, pool_range(CRASHING), out, sizeof *out, &options);
    const struct pool_result *f = pool_failure();
    if (strict && (status != POOL_CRASHED || !f || f->index != 3 || f->signal != SIGKILL || f->tries != 1))
        wrong("crash: %s: %s", pool_status_text(status), pool_error());
    if (status == POOL_OK)
        wrong("crash: it is OK");
    check_words("crash");
    check_array("crash", CALL_CRASH, status, out, CRASHING, as_tens);
    for (size_t i = 0; strict && i < CRASHING; i++)
        if ((out[i] == -1) != (i == 3))
            wrong("crash: item %zu is %ld", i, out[i]);
}

static void do_list(struct pool *pool)
{
    int call = CALL_LIST;
    struct pool_call options = {.common = &call, .common_size = sizeof call};
    struct pool_results *list = pool_map_results(pool, pattern, pool_range(LISTED), &options);
    if (!list) {
        if (!errno || strict)
            wrong("list: refused without errno, or without need: %s", pool_error());
        check_words("list");
        return;
    }
    if (pool_results_count(list) != LISTED)
        wrong("list: %zu results", pool_results_count(list));
    enum pool_status status = POOL_OK;
    for (size_t i = 0; i < pool_results_count(list); i++) {
        const struct pool_result *r = pool_results_at(list, i);
        if (r->index != i)
            wrong("list: %zu at %zu", r->index, i);
        check_result("list", CALL_LIST, r);
        check_bytes("list", r, size_of(i));
        if (!status)
            status = r->status;
    }
    if (!status != !pool_results_status(list))
        wrong("list: a result is %s, and the list is %s", pool_status_text(status), pool_status_text(pool_results_status(list)));
    pool_results_free(list);
}

static void do_all(void)
{
    struct pool_options options = {.workers = 2, .initializer = prepare, .no_spin = 1, .close_fds = 1};
    errno = 0;
    struct pool *pool = pool_create(&options);
    if (!pool) {
        if (!errno)
            wrong("create: refused without errno");
        if (strict)
            wrong("create: %s", pool_error());
        check_words("create");
        return;
    }
    do_map(pool, "map", CALL_MAP);
    do_imap(pool);
    do_apply(pool);
    do_crash(pool);
    do_list(pool);
    do_map(pool, "map after the crash", CALL_AFTER);
    pool_destroy(pool);
}

/* ---- What is beyond the core: with the pool already there */

enum { SIDE_LATER = SIDE_COUNT, SIDE_APART, SIDE_CHILD, SIDES };        /* the host's side in this kind of run; of the third kind both */
enum { JOB_ITEMS = 30, RETRIED = 12, FLAKY = 3 };

static int flaky(struct pool_task *task)
{
    tick(task);
    if (task->index == FLAKY && atomic_load(&starts[CALL_RETRIED][FLAKY]) == 1)
        raise(SIGKILL);
    return pool_return(task, task->in, task->in_size);
}

static int hang(struct pool_task *task)
{
    while (pause())                     /* it always returns -1 */
        ;
    return pool_return(task, NULL, 0);
}

static atomic_int called, freed;        /* callbacks that ran */

static void count_call(struct pool_job *job, void *arg)
{
    (void)arg;
    if (pool_job_status(job) == POOL_PENDING)
        wrong("callback: its job is pending");
    atomic_fetch_add(&called, 1);
}

static void free_own(struct pool_job *job, void *arg)
{
    (void)arg;
    atomic_fetch_add(&freed, 1);
    pool_job_free(job);
}

/* A call that was refused, or a descriptor that could not be had. */
void check_refusal(const char *where)
{
    if (!errno || strict)
        wrong("%s: refused without errno, or without need: %s", where, pool_error());
    check_words(where);
}

static void check_job(struct pool_job *job)
{
    enum pool_status status = pool_job_wait(job, -1);
    check_status("job", status);
    if (atomic_load(&called) != 1)
        wrong("job: its callback ran %d times before the wait was over", atomic_load(&called));
    const struct pool_results *list = pool_job_results(job);
    int whole = pool_results_count(list) == JOB_ITEMS && status != POOL_NO_MEMORY;
    if (!list || (!whole && (strict || status == POOL_OK)))
        wrong("job: %zu results", pool_results_count(list));
    for (size_t i = 0; i < pool_results_count(list); i++) {
        const struct pool_result *r = pool_results_at(list, i);
        if (whole)                      /* else an item may have ended for which there was no memory */
            check_result("job", CALL_JOB, r);
        if (!r->status && *(const long *)r->data != as_square(i))
            wrong("job: item %zu is %ld", i, *(const long *)r->data);
    }
    pool_job_free(job);
}

/* One crash: the item is OK at its second start, or not where something failed. */
static void do_retried(struct pool *pool)
{
    static struct cursor cursor;
    cursor.next = STREAMED - RETRIED;
    int call = CALL_RETRIED;
    struct pool_call options = {.common = &call, .common_size = sizeof call, .retries = 1, .timeout = 60};
    struct pool_iter *iter = pool_imap(pool, flaky, pool_generator(generate, &cursor), &options);
    if (!iter) {
        check_refusal("retried");
        return;
    }
    size_t count = 0, ok = 0;
    for (const struct pool_result *r; (r = pool_next(iter)); count++) {
        int n = atomic_load(&starts[CALL_RETRIED][r->index]);
        const unsigned char *data = r->data;
        size_t size = size_of((r->index + STREAMED - RETRIED) % 8);
        if (n > 1 + (r->index == FLAKY))
            wrong("retried: item %zu was started %d times", r->index, n);
        if (r->status && (strict || (!r->message[0] && r->status != POOL_FAILED)))
            wrong("retried: item %zu: %s: %s", r->index, pool_status_text(r->status), r->message);
        if (!r->status && (r->size != size || (size && data[size - 1] != r->index + STREAMED - RETRIED + 1)))
            wrong("retried: item %zu has a wrong result", r->index);
        if (!r->status && r->tries != (r->index == FLAKY ? 2 : 1))
            wrong("retried: item %zu has %u tries", r->index, r->tries);
        ok += !r->status;
    }
    enum pool_status status = pool_iter_status(iter);
    if (status == POOL_PENDING || (status == POOL_OK && count != RETRIED) || (strict && ok != RETRIED))
        wrong("retried: %zu results, %zu of them OK, and it is %s", count, ok, pool_status_text(status));
    pool_iter_free(iter);
}

static void do_time_limit(struct pool *pool)
{
    enum pool_status status = pool_apply(pool, hang, NULL, 0, NULL, 0, &(struct pool_call){.timeout = 0.02});
    if (status != POOL_TIMED_OUT)
        check_status("time limit", status);
    if (status == POOL_OK)
        wrong("time limit: it is OK");
    check_words("time limit");
}

static void do_resize(struct pool *pool, unsigned workers)
{
    check_status("resize", pool_resize(pool, workers));
    if (pool_size(pool) != workers && strict)
        wrong("resize: it has %u workers", pool_size(pool));
}

static void do_later(struct pool *pool)
{
    static long in[JOB_ITEMS];
    static unsigned char item[20000];
    int call = CALL_JOB, detached = CALL_DETACHED;
    for (long i = 0; i < JOB_ITEMS; i++)
        in[i] = i;
    struct pool_call options = {.common = &call, .common_size = sizeof call, .done = count_call};
    struct pool_call loose = {.common = &detached, .common_size = sizeof detached, .done = free_own};
    errno = 0;
    struct pool_job *job = pool_map_async(pool, square, pool_array(in, JOB_ITEMS, sizeof *in), &options);
    if (!job)
        check_refusal("map_async");
    errno = 0;
    struct pool_job *alone = pool_apply_async(pool, echo, item, sizeof item, &loose);
    if (!alone)
        check_refusal("apply_async");
    errno = 0;
    if (pool_fd(pool) < 0)
        check_refusal("pool_fd");
    do_resize(pool, 3);
    do_retried(pool);
    do_time_limit(pool);
    if (job)
        check_job(job);
    do_resize(pool, 1);
    do_map(pool, "map after all that", CALL_AFTER);
    pool_close(pool);
    enum pool_status status = pool_join(pool, -1);
    if (status != POOL_OK)
        wrong("join: %s: %s", pool_status_text(status), pool_error());
    if (atomic_load(&called) != (job != NULL) || atomic_load(&freed) != (alone != NULL))
        wrong("callbacks ran %d and %d times", atomic_load(&called), atomic_load(&freed));
}

/* ---- What a run must leave as it was */

static int count_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 200; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static int run_one(const char *kind, int side, long first, long last, int error)
{
    union { void *object; failcalls_arm_fn *arm; failcalls_disarm_fn *disarm; failcalls_balance_fn *balance; } arm, disarm, balance;
    arm.object = dlsym(RTLD_DEFAULT, "failcalls_arm");
    disarm.object = dlsym(RTLD_DEFAULT, "failcalls_disarm");
    balance.object = dlsym(RTLD_DEFAULT, "failcalls_balance");
    const char *mark = getenv(MARK);
    if (!arm.object || !disarm.object || !balance.object || !mark) {
        printf("the interposer is not loaded\n");
        return WRONG;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("%s", "");
    static char whole[300];
    snprintf(whole, sizeof whole, MARK "=%s", mark);
    starts = mmap(NULL, CALLS * sizeof *starts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strict = first > last;
    long_mode = getenv(LONG) != NULL;
    run_pid = getpid();
    int fds = count_fds();
    struct failcalls_balance b, before = {0, 0};
    int apart = side == SIDE_APART || side == SIDE_CHILD;
    int caller = side == SIDE_CHILD ? SIDE_NURSERY : side >= SIDE_COUNT ? SIDE_HOST : side;
    struct failcalls_order order = {kind, caller, first, last, error}, none = {"none", SIDE_HOST, 1, 0, 0};
    struct pool *pool = NULL;
    if (side == SIDE_LATER) {
        arm.arm(&none);                 /* balances count from here */
        pool = pool_create(&(struct pool_options){.workers = 2, .max_workers = 3, .no_spin = 1, .close_fds = 1});
        balance.balance(&before);
    }
    if (apart)
        apart_prepare();
    arm.arm(&order);
    if (apart)
        apart_run();
    else if (pool)
        do_later(pool);
    else if (side == SIDE_LATER)
        wrong("create: %s", pool_error());
    else
        do_all();
    pool_destroy(pool);
    long failed = disarm.disarm();
    if (apart)
        apart_end();
    balance.balance(&b);
    b.blocks += before.blocks;
    b.mapped += before.mapped;
    if (count_fds() != fds)
        wrong("%d descriptors before, %d after", fds, count_fds());
    int status;
    pid_t child = waitpid(-1, &status, WNOHANG);
    if (child >= 0 || errno != ECHILD)
        wrong("a child is left");
    if (marked_in_the_end(whole, 3))
        wrong("processes are left");
    /* What libc and the library keep for good: pthread_atfork's list, a thread's words. */
    if (b.blocks > 8)
        wrong("%ld blocks of memory are left", b.blocks);
    if (b.mapped > 0)
        wrong("%ld bytes are left mapped", b.mapped);
    if (getenv(SHOW))
        printf("(%ld calls failed; %ld blocks and %ld bytes mapped are left; last words: %s)\n", failed, b.blocks, b.mapped, pool_error());
    return wrongs ? WRONG : failed ? STRUCK : UNTOUCHED;
}

/* ======== The driver */

static const char *interposer, *self;
static const char *const side_names[] = {"host", "nursery", "worker", "later", "apart", "child"};

#define E(error) {error, #error}
static const struct error_name { int error; const char *name; } error_names[] = {
    E(EINTR), E(EAGAIN), E(ENOMEM), E(EMFILE), E(ENFILE), E(ENOBUFS), E(EPIPE), E(ETOOMANYREFS), E(ECONNRESET), E(ENOSYS), E(EPERM),
    E(EBUSY), E(EINVAL), E(EIO), {FAILCALLS_SHORT, "short"},
};
enum { ERROR_NAMES = sizeof error_names / sizeof *error_names };

static const char *error_name(int error)
{
    for (int i = 0; i < ERROR_NAMES; i++)
        if (error_names[i].error == error)
            return error_names[i].name;
    return "?";
}

static void put_file(pid_t pid, const char *name)
{
    char path[64], text[4000];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n > 0)
        printf("    %s: %.*s%s", name, (int)n, text, text[n - 1] == '\n' ? "" : "\n");
}

static void show(pid_t pid)
{
    printf("  process %ld\n", (long)pid);
    put_file(pid, "comm");
    put_file(pid, "wchan");
    put_file(pid, "syscall");
    put_file(pid, "stack");
}

static void end_marked(pid_t pid)
{
    kill(pid, SIGKILL);
}

/* Runs one and returns its exit status; what it printed goes to stdout where it went wrong. */
static int launch(const char *kind, int side, long first, long last, int error)
{
    static unsigned long number;
    char mark[100], from[30], to[30], name[300];
    snprintf(mark, sizeof mark, MARK "=%ld.%lu", (long)getpid(), ++number);
    snprintf(from, sizeof from, "%ld", first);
    snprintf(to, sizeof to, "%ld", last);
    snprintf(name, sizeof name, "%s%s %s %s %s %s", long_mode ? "--long " : "", kind, side_names[side], from, to, error_name(error));
    int out[2];
    if (pipe2(out, O_CLOEXEC) < 0) {
        perror("pipe2");
        exit(2);
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        dup2(out[1], 2);
        setenv("LD_PRELOAD", interposer, 1);
        putenv(mark);
        if (long_mode)
            setenv(LONG, "1", 1);
        execl(self, self, "--one", kind, side_names[side], from, to, error_name(error), (char *)NULL);
        _exit(2);
    }
    close(out[1]);
    run_pid = pid;
    char text[4000];
    size_t have = 0;
    int64_t until = now_ms() + DEADLINE * 1000;
    int status = -1, ended = 0;
    while (!ended && now_ms() < until) {
        struct pollfd watch = {.fd = out[0], .events = POLLIN};
        if (poll(&watch, 1, (int)(until - now_ms())) <= 0)
            continue;
        ssize_t n = read(out[0], text + have, sizeof text - 1 - have);
        ended = n <= 0;                 /* its end, and the end of whatever holds its stdout */
        have += n > 0 ? (size_t)n : 0;
        if (have > sizeof text - 100)
            have = sizeof text - 100;
    }
    close(out[0]);
    if (!ended) {
        printf("hangs: %s\n", name);
        marked(mark, show);
        marked(mark, end_marked);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    int left = ended ? marked_in_the_end(mark, 3) : 0;
    if (left) {
        printf("%d processes are left by: %s\n", left, name);
        marked(mark, end_marked);
    }
    int code = !ended || left || !WIFEXITED(status) ? WRONG : WEXITSTATUS(status);
    if (have && !getenv(SHOW) && (code == STRUCK || code == UNTOUCHED))
        code = WRONG;                   /* nobody is told anything but by what is returned */
    if (code != STRUCK && code != UNTOUCHED)
        printf("%s: wait status %#x\n%.*s", name, (unsigned)status, (int)have, text);
    return code == UNTOUCHED ? UNTOUCHED : code == STRUCK ? STRUCK : WRONG;
}

/* What is made to fail, where, and how. sticky: also all such calls from the n-th on. */
static const struct plan {
    const char *kind;
    unsigned    sides;                  /* bits */
    int         sticky;
    int         errors[6];
} plans[] = {
#define H (1u << SIDE_HOST)
#define N (1u << SIDE_NURSERY)
#define W (1u << SIDE_WORKER)
#define L (1u << SIDE_LATER)
#define A (1u << SIDE_APART)
#define C (1u << SIDE_CHILD)
    {"fork", H | N, 1, {EAGAIN, ENOMEM}},
    {"mmap", H, 1, {ENOMEM}},
    {"munmap", W, 1, {ENOMEM}},
    {"pipe2", H, 1, {EMFILE, ENFILE}},
    {"pipe", H, 1, {EMFILE}},
    {"socketpair", H, 1, {EMFILE, ENOBUFS}},
    {"sendmsg", H | N, 0, {EINTR, EAGAIN, ENOBUFS, ENOMEM, ETOOMANYREFS}},
    {"recvmsg", H | N, 0, {EINTR, EAGAIN, ENOMEM, ENOBUFS, ECONNRESET}},
    {"poll", H, 0, {EINTR, EAGAIN, ENOMEM}},
    {"ppoll", N, 0, {EINTR, EAGAIN, ENOMEM}},
    {"read", H | W, 0, {EINTR, EAGAIN, FAILCALLS_SHORT}},
    {"write", H | W, 0, {EINTR, ENOMEM, FAILCALLS_SHORT}},
    {"fcntl", H | N | W, 1, {EMFILE}},
    {"open", H | N | W, 1, {EINTR, EMFILE, ENFILE, ENOMEM}},
    {"dup2", N | W, 0, {EINTR, EBUSY}},
    {"waitpid", H | N, 0, {EINTR}},
    {"waitid", N, 0, {EINTR}},
    {"sigwaitinfo", N, 0, {EINTR}},
    {"setsid", N, 0, {EPERM}},
    {"setpgid", N | W, 1, {EPERM}},
    {"fstat", W, 0, {ENOMEM, EIO}},
    {"malloc", H | N | W, 1, {ENOMEM}},
    {"calloc", H | N | W, 1, {ENOMEM}},
    {"realloc", H | N | W, 1, {ENOMEM}},
    {"aligned_alloc", H | W, 1, {ENOMEM}},
    {"posix_memalign", H | W, 1, {ENOMEM}},
    {"pidfd_open", H | N, 1, {ENOSYS, EPERM, EMFILE, ENFILE, ENOMEM}},
    {"close_range", N | W, 1, {ENOSYS, EPERM}},
    {"pthread_create", L, 1, {EAGAIN}},
    {"pthread_mutex_init", H, 1, {ENOMEM, EAGAIN}},
    {"pthread_cond_init", H | L, 1, {ENOMEM, EAGAIN}},
    {"pipe2", L, 1, {EMFILE}},
    {"fcntl", L, 1, {EMFILE}},
    {"sendmsg", L, 0, {EAGAIN, ENOBUFS}},
    {"recvmsg", L, 0, {EAGAIN}},
    {"poll", L, 0, {EINTR, ENOMEM}},
    {"read", L, 0, {EINTR, EAGAIN}},
    {"write", L, 0, {EINTR, ENOMEM}},
    {"malloc", L, 1, {ENOMEM}},
    {"calloc", L, 1, {ENOMEM}},
    {"realloc", L, 1, {ENOMEM}},
    {"fork", A, 1, {EAGAIN}},
    {"mmap", A, 1, {ENOMEM}},
    {"pipe2", A, 1, {EMFILE}},
    {"socketpair", A, 1, {EMFILE}},
    {"fstat", A, 0, {ENOMEM}},
    {"sendmsg", A | C, 0, {EINTR, ENOBUFS, ENOMEM}},
    {"recvmsg", A | C, 0, {EINTR, ENOMEM}},
    {"poll", A | C, 0, {EINTR, ENOMEM}},
    {"read", A | C, 0, {EINTR}},
    {"write", A | C, 0, {EINTR, ENOMEM, FAILCALLS_SHORT}},
    {"pread", A | C, 0, {EINTR, EIO, FAILCALLS_SHORT}},
    {"fallocate", A | C, 0, {EINTR}},
    {"memfd_create", A | C, 1, {EMFILE, ENOSYS}},
    {"waitid", A, 0, {EINTR, EINVAL}},
    {"malloc", A | C, 1, {ENOMEM}},
    {"calloc", A | C, 1, {ENOMEM}},
    {"pidfd_open", A, 1, {ENOSYS, ENOMEM}},
    {"pidfd_send_signal", A, 1, {EPERM}},
    {"pthread_mutex_init", A, 1, {ENOMEM}},
};

static struct tally { atomic_long units, runs, bad; } *tally;       /* shared by the drivers, of which there is one for each CPU */

/* One kind, side and error, for n = 1, 2, 3 ... until nothing is left to fail. Returns the number of runs that went wrong. */
static int drive(const struct plan *plan, int side, int error, int sticky, long *calls)
{
    int bad = 0;
    for (long n = 1; bad < 3; n += long_mode || n < 8 ? 1 : n / 2) {
        int r = launch(plan->kind, side, n, sticky ? LONG_MAX : n, error);
        tally->runs++;
        if (r == UNTOUCHED && long_mode) {
            /* No two runs are quite alike: only twice in a row is the end. */
            r = launch(plan->kind, side, n, sticky ? LONG_MAX : n, error);
            tally->runs++;
        }
        if (r == UNTOUCHED)
            break;
        *calls = n > *calls ? n : *calls;
        bad += r == WRONG;
    }
    return bad;
}

static void drive_kind(const struct plan *plan, int side)
{
    long calls = 0;
    int bad = 0;
    for (int e = 0; e < 6 && plan->errors[e]; e++) {
        bad += drive(plan, side, plan->errors[e], 0, &calls);
        if (plan->sticky && plan->errors[e] != EINTR)       /* EINTR for ever is no machine */
            bad += drive(plan, side, plan->errors[e], 1, &calls);
    }
    printf("%s %s in the %s (%s%ld calls)\n", bad ? "FAIL" : "ok", plan->kind, side_names[side], long_mode ? "" : "up to ", calls);
    fflush(stdout);
    tally->bad += bad;
}

/* Takes kinds and sides until all are taken. */
static void drive_units(void)
{
    enum { UNITS = sizeof plans / sizeof *plans * SIDES };
    for (long unit; (unit = atomic_fetch_add(&tally->units, 1)) < UNITS;) {
        const struct plan *plan = &plans[unit / SIDES];
        int side = (int)(unit % SIDES);
        if (plan->sides & 1u << side)
            drive_kind(plan, side);
    }
}

static int drive_all(void)
{
    int64_t begun = now_ms();
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        return 2;
    for (int i = 0; i < 3; i++) {
        tally->bad += launch("none", SIDE_HOST, 1, 0, 0) != UNTOUCHED;
        tally->bad += launch("none", SIDE_LATER, 1, 0, 0) != UNTOUCHED;
        tally->bad += launch("none", SIDE_APART, 1, 0, 0) != UNTOUCHED;
    }
    printf("%s untouched\n", tally->bad ? "FAIL" : "ok");
    fflush(stdout);
    for (long i = 1; i < cpus && i < 16; i++) {
        if (fork() == 0) {
            drive_units();
            _exit(0);
        }
    }
    drive_units();
    for (int status; wait(&status) > 0;)
        tally->bad += status != 0;
    printf("failcalls: %ld runs in %.1f s, %ld of them wrong\n", tally->runs, (double)(now_ms() - begun) / 1000, tally->bad);
    return tally->bad != 0;
}

static int number_of(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    fprintf(stderr, "what is %s?\n", name);
    exit(2);
}

static int error_of(const char *name)
{
    for (int i = 0; i < ERROR_NAMES; i++)
        if (strcmp(error_names[i].name, name) == 0)
            return error_names[i].error;
    return 0;
}

int main(int count, char **words)
{
    static char path[4096];
    if (count == 7 && strcmp(words[1], "--one") == 0)
        return run_one(words[2], number_of(side_names, SIDES, words[3]), atol(words[4]), atol(words[5]), error_of(words[6]));
    if (count < 2) {
        fprintf(stderr, "usage: subject INTERPOSER [--long] [KIND SIDE FIRST LAST ERROR]\n");
        return 2;
    }
    interposer = words[1];
    self = path;
    if (readlink("/proc/self/exe", path, sizeof path - 1) < 0)
        return 2;
    if (count > 2 && strcmp(words[2], "--long") == 0) {
        long_mode = 1;
        count--;
        words++;
    }
    if (count == 7) {
        setenv(SHOW, "1", 1);
        int r = launch(words[2], number_of(side_names, SIDES, words[3]), atol(words[4]), atol(words[5]), error_of(words[6]));
        printf("%s\n", r == WRONG ? "FAIL" : r == STRUCK ? "ok" : "ok, no call failed");
        return r == WRONG;
    }
    return drive_all();
}
