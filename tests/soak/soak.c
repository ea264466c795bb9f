/* The soak: many items, and workers killed at random all the while.
 *
 *     soak [items [seed]]
 *
 * 4 workers. A killer thread sends SIGKILL to a random worker every few milliseconds. Each task's last act is one write of 8 bytes, its
 * index, to a file opened with O_APPEND: the file tells what truly ran to its end. Rounds of pool_imap_unordered,
 * pool_map_results, pool_map, a generator, and results of 64 KiB and 1 MiB take turns. After each round it must be true that
 *   - every item has ended exactly once, OK or CRASHED and nothing else;
 *   - each that is OK is in the file exactly once, and its result is right;
 *   - none is in the file twice (a CRASHED one may be in it once: killed between its write and its finish);
 *   - CRASHED are no more than the kills, and each of them says SIGKILL.
 * Prints figures for each round, and last "soak: ok", or the first violation. A watchdog tells how things stand and ends the
 * program where nothing has moved for a minute. Exit status 0 or 1. */
#define _GNU_SOURCE
#include "forkpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 4, STALL = 60 };

static struct pool *pool;
static int file;                        /* what the tasks write to */
static atomic_size_t kills, ended;      /* kills sent; items that have ended, for the watchdog */
static atomic_int killing = 1, over;
static uint64_t seed = 1;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void nap(long nanoseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = nanoseconds}, NULL);
}

/* ---- When it goes wrong */

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

static void put_process(const char *pid)
{
    static const char *const names[] = {"comm", "wchan", "syscall", "stack"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/%s", pid, names[i]);
        put_file(path);
    }
}

/* This process's threads, and all processes of this program: nursery and workers. */
static void put_state(void)
{
    char self[4096] = "", other[4096];
    printf("kills %zu, items ended %zu, processes:\n", (size_t)kills, (size_t)ended);
    DIR *all = opendir("/proc");
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return;
    for (struct dirent *e; all && (e = readdir(all));) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/exe", e->d_name);
        ssize_t n = atoi(e->d_name) > 0 ? readlink(path, other, sizeof other - 1) : -1;
        if (n <= 0 || (size_t)n != strlen(self) || memcmp(self, other, (size_t)n) != 0)
            continue;
        printf("  process %s\n", e->d_name);
        put_process(e->d_name);
    }
    if (all)
        closedir(all);
    DIR *threads = opendir("/proc/self/task");
    for (struct dirent *e; threads && (e = readdir(threads));) {
        if (atoi(e->d_name) <= 0)
            continue;
        printf("  thread %s\n", e->d_name);
        put_process(e->d_name);
    }
    if (threads)
        closedir(threads);
    fflush(stdout);
}

static void violation(const char *format, ...) __attribute__((__format__(__printf__, 1, 2), __noreturn__));
static void violation(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    printf("VIOLATION (seed %llu): ", (unsigned long long)seed);
    vprintf(format, list);
    va_end(list);
    putchar('\n');
    fflush(stdout);
    _exit(1);
}

static void *watch(void *nothing)
{
    size_t before = ended;
    double since = now();
    while (!over) {
        nap(200000000);
        if (ended != before) {
            before = ended;
            since = now();
        } else if (now() - since > STALL) {
            put_state();
            violation("nothing has moved for %d seconds", STALL);
        }
    }
    return nothing;
}

static void *kill_workers(void *nothing)
{
    uint64_t state = seed * 7919;
    while (!over) {
        state = mix(state);
        nap(1000000 + (long)(state % 4000000));
        pid_t pid = killing ? pool_worker_pid(pool, (unsigned)(state >> 40) % WORKERS) : 0;
        if (pid > 0 && kill(pid, SIGKILL) == 0)
            kills++;
    }
    return nothing;
}

/* ---- The tasks */

static int note(struct pool_task *task)
{
    uint64_t index = task->index;
    return write(file, &index, sizeof index) == sizeof index ? 0 : pool_fail(task, errno, "could not write to the file");
}

static int small(struct pool_task *task)
{
    uint64_t y = mix(task->index);
    int r = pool_return(task, &y, sizeof y);
    return r ? r : note(task);
}

/* common: the size. The first and the last 8 bytes tell whose it is, and all bytes between are the index's lowest. */
static int large(struct pool_task *task)
{
    size_t size = *(const size_t *)task->common;
    uint64_t y = mix(task->index);
    unsigned char *out = pool_out(task, size);
    if (!out)
        return pool_fail(task, 1, "no memory");
    memset(out, (int)(task->index & 0xff), size);
    memcpy(out, &y, sizeof y);
    memcpy(out + size - sizeof y, &y, sizeof y);
    return note(task);
}

/* The item is what the generator made of the index. */
static int generated(struct pool_task *task)
{
    uint64_t x;
    if (task->in_size < sizeof x)
        return pool_fail(task, 2, "an item of %zu bytes", task->in_size);
    memcpy(&x, task->in, sizeof x);
    if (x != task->index || ((const unsigned char *)task->in)[task->in_size - 1] != (unsigned char)(task->in_size > 8 ? 0xa5 : x >> 56))
        return pool_fail(task, 3, "not the item's bytes");
    return small(task);
}

/* ---- A round and its judgement */

struct round {
    const char    *name;
    size_t         count, crashed, killed_before;
    double         begun;
    unsigned char *status;              /* of each item: 0 not ended, 1 OK, 2 CRASHED */
};

static void begin(struct round *r, const char *name, size_t count)
{
    *r = (struct round){.name = name, .count = count, .killed_before = kills, .begun = now(), .status = calloc(count + 1, 1)};
    if (!r->status || ftruncate(file, 0))
        violation("cannot begin: %s", strerror(errno));
}

static void end_item(struct round *r, const struct pool_result *result, size_t size)
{
    size_t i = result->index;
    ended++;
    if (i >= r->count)
        violation("%s: item %zu of %zu", r->name, i, r->count);
    if (r->status[i])
        violation("%s: item %zu ended twice", r->name, i);
    if (result->status == POOL_CRASHED) {
        if (result->signal != SIGKILL || result->tries != 1 || result->pid <= 0)
            violation("%s: item %zu crashed by signal %d, tries %u: %s", r->name, i, result->signal, result->tries, result->message);
        r->status[i] = 2;
        r->crashed++;
        return;
    }
    if (result->status != POOL_OK)
        violation("%s: item %zu: %s, code %d: %s", r->name, i, pool_status_text(result->status), result->code, result->message);
    r->status[i] = 1;
    uint64_t y = mix(i), got[2];
    const unsigned char *data = result->data;
    if (result->size != size)
        violation("%s: item %zu has %zu bytes", r->name, i, result->size);
    memcpy(got, data, sizeof y);
    memcpy(got + 1, data + size - sizeof y, sizeof y);
    if (got[0] != y || got[1] != y)
        violation("%s: item %zu has a wrong result", r->name, i);
    for (size_t at = 8; at + 8 < size; at += 509)
        if (data[at] != (i & 0xff))
            violation("%s: item %zu is wrong at byte %zu", r->name, i, at);
}

static void judge(struct round *r)
{
    static uint64_t indexes[8192];
    unsigned char *written = calloc(r->count + 1, 1);
    size_t killed = kills - r->killed_before;
    ssize_t n;
    if (!written || lseek(file, 0, SEEK_SET))
        violation("%s: cannot read the file", r->name);
    while ((n = read(file, indexes, sizeof indexes)) > 0) {
        if (n % 8)
            violation("%s: the file has a part of a number", r->name);
        for (ssize_t i = 0; i < n / 8; i++) {
            if (indexes[i] >= r->count)
                violation("%s: the file has a number that nobody wrote", r->name);
            if (written[indexes[i]]++)
                violation("%s: item %zu ran twice", r->name, (size_t)indexes[i]);
        }
    }
    for (size_t i = 0; i < r->count; i++) {
        if (!r->status[i])
            violation("%s: item %zu never ended", r->name, i);
        if (r->status[i] == 1 && !written[i])
            violation("%s: item %zu is OK and did not run", r->name, i);
    }
    if (r->crashed > killed)
        violation("%s: %zu crashed by %zu kills", r->name, r->crashed, killed);
    printf("%-24s %8zu items %6zu kills %6zu crashed %8.2f s\n", r->name, r->count, killed, r->crashed, now() - r->begun);
    fflush(stdout);
    free(written);
    free(r->status);
}

static void take_all(struct round *r, struct pool_iter *iter, size_t size, int ordered)
{
    if (!iter)
        violation("%s: %s", r->name, pool_error());
    size_t next = 0;
    for (const struct pool_result *result; (result = pool_next(iter)); next++) {
        if (ordered && result->index != next)
            violation("%s: item %zu came where %zu should", r->name, result->index, next);
        end_item(r, result, size);
    }
    if (pool_iter_status(iter) != POOL_OK)
        violation("%s: it ended as %s: %s", r->name, pool_status_text(pool_iter_status(iter)), pool_error());
    pool_iter_free(iter);
}

static void stream_range(const char *name, size_t count, int ordered)
{
    struct round r;
    begin(&r, name, count);
    take_all(&r, (ordered ? pool_imap : pool_imap_unordered)(pool, small, pool_range(count), NULL), 8, ordered);
    judge(&r);
}

static void stream_large(const char *name, size_t count, size_t size)
{
    struct round r;
    struct pool_call call = {.common = &size, .common_size = sizeof size};
    begin(&r, name, count);
    take_all(&r, pool_imap_unordered(pool, large, pool_range(count), &call), size, 0);
    judge(&r);
}

static void list_of(const char *name, size_t count, size_t size)
{
    struct round r;
    struct pool_call call = {.common = &size, .common_size = sizeof size};
    begin(&r, name, count);
    struct pool_results *list = pool_map_results(pool, size == 8 ? small : large, pool_range(count), &call);
    if (!list)
        violation("%s: %s", name, pool_error());
    if (pool_results_count(list) != count)
        violation("%s: the list has %zu of %zu", name, pool_results_count(list), count);
    for (size_t i = 0; i < count; i++) {
        if (pool_results_at(list, i)->index != i)
            violation("%s: another index at %zu", name, i);
        end_item(&r, pool_results_at(list, i), size);
    }
    pool_results_free(list);
    judge(&r);
}

/* An array says of its failed items only which is the first: the others are those left as they were. */
static void map_array(const char *name, size_t count)
{
    struct round r;
    uint64_t *out = calloc(count + 1, sizeof *out);
    begin(&r, name, count);
    if (!out)
        violation("no memory");
    enum pool_status status = pool_map(pool, small, pool_range(count), out, sizeof *out, NULL);
    const struct pool_result *f = pool_failure();
    if (status != POOL_OK && status != POOL_CRASHED)
        violation("%s: %s: %s", name, pool_status_text(status), pool_error());
    if ((status == POOL_CRASHED) != (f != NULL))
        violation("%s: it is %s, and there is %s failure", name, pool_status_text(status), f ? "a" : "no");
    for (size_t i = 0; i < count; i++) {
        struct pool_result one = {.index = i, .status = POOL_OK, .data = &out[i], .size = 8};
        if (!out[i])                    /* no index mixes to 0 */
            one = (struct pool_result){.index = i, .status = POOL_CRASHED, .signal = SIGKILL, .tries = 1, .pid = 1};
        if (!out[i] && (!f || i < f->index))
            violation("%s: item %zu has no result, and the first failure is told to be another", name, i);
        end_item(&r, &one, 8);
    }
    if (f && out[f->index])
        violation("%s: item %zu has a result, and is told to have failed", name, f->index);
    free(out);
    judge(&r);
}

struct cursor { size_t next, count; unsigned char bytes[40000]; };

static int generate(void *arg, struct pool_bytes *item)
{
    struct cursor *c = arg;
    uint64_t index = c->next;
    if (c->next == c->count)
        return 0;
    c->next++;
    size_t size = index % 50 == 7 ? sizeof c->bytes : index % 3 ? 8 : 8 + (size_t)(mix(index) % 2000);
    memset(c->bytes, 0xa5, size);
    memcpy(c->bytes, &index, sizeof index);
    *item = (struct pool_bytes){c->bytes, size};
    return 1;
}

static void stream_generated(const char *name, size_t count)
{
    static struct cursor cursor;
    struct round r;
    cursor.next = 0;
    cursor.count = count;
    begin(&r, name, count);
    take_all(&r, pool_imap(pool, generated, pool_generator(generate, &cursor), NULL), 8, 1);
    judge(&r);
}

static void soak(size_t items)
{
    stream_range("imap_unordered", items / 4, 0);
    list_of("map_results", items / 4, 8);
    map_array("map", items / 8);
    stream_range("imap", items / 8, 1);
    stream_generated("generator", items - items / 4 * 2 - items / 8 * 2 - items / 50 * 2 - items / 500 * 2);
    stream_large("imap_unordered, 64 KiB", items / 50, (size_t)64 << 10);
    list_of("map_results, 64 KiB", items / 50 < 2000 ? items / 50 : 2000, (size_t)64 << 10);
    stream_large("imap_unordered, 1 MiB", items / 500, (size_t)1 << 20);
    list_of("map_results, 1 MiB", items / 500 < 200 ? items / 500 : 200, (size_t)1 << 20);
    stream_large("imap_unordered, 9 MiB", items / 20000 < 20 ? items / 20000 : 20, (size_t)9 << 20);
}

int main(int count, char **words)
{
    size_t items = count > 1 ? strtoull(words[1], NULL, 10) : 1000000;
    seed = count > 2 ? strtoull(words[2], NULL, 10) : (uint64_t)time(NULL);
    const char *directory = getenv("TMPDIR");
    char path[4096];
    pthread_t killer, watchdog;
    double begun = now();
    snprintf(path, sizeof path, "%s/soak.XXXXXX", directory && directory[0] ? directory : "/tmp");
    file = mkostemp(path, O_APPEND | O_CLOEXEC);
    if (file < 0) {
        perror(path);
        return 1;
    }
    unlink(path);
    struct pool_options options = {.workers = WORKERS};
    pool = pool_create(&options);
    if (!pool)
        violation("no pool: %s", pool_error());
    printf("soak: %zu items, %d workers, seed %llu\n", items, WORKERS, (unsigned long long)seed);
    if (pthread_create(&watchdog, NULL, watch, NULL) || pthread_create(&killer, NULL, kill_workers, NULL))
        violation("no threads");
    soak(items);
    over = 1;
    pthread_join(killer, NULL);
    pthread_join(watchdog, NULL);
    pool_destroy(pool);
    printf("soak: %zu items ended, %zu kills, %.1f s\nsoak: ok\n", (size_t)ended, (size_t)kills, now() - begun);
    return 0;
}
