/* A call of whatever shape ends, with each of its items run once and each result in its place.
 *
 * Shapes are drawn from a seed (FORKPOOL_SEED, or always the same): kind of call and of source, numbers and sizes, window and chunk, time
 * limit and retries, items, sources and consumers that take their time now and then, iterators that are left early, generators that
 * use the pool themselves; by one thread or two at a time, on pools of 1 to 4 workers, with and without spinning and recycling. What
 * stands still is named. FORKPOOL_LONG=1: 5,000 pools instead of 32. */
#define _GNU_SOURCE
#include "check.h"

#include "clock.h"

#include <forkpool.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { THREADS = 2, POOLS = 32, POOLS_LONG = 5000, SHAPES = 12, ITEMS_MOST = 3000, BYTES_MOST = 2 << 20, ITEM_MOST = 300000 };
#define PATIENCE 40.0               /* seconds for what two threads do with one pool */
#define PAUSE    100000             /* nanoseconds that are taken now and then */

enum call   { MAP, RESULTS, IN_ORDER, AS_THEY_COME, CALLS };
enum source { ARRAY, RANGE, BUFFERS, GENERATOR, SOURCES };

static const char *const call_names[] = {"pool_map", "pool_map_results", "pool_imap", "pool_imap_unordered"};
static const char *const source_names[] = {"an array", "a range", "buffers", "a generator"};

struct shape {
    enum call   call;
    enum source source;
    size_t      count, size, out_size, window, chunk;
    size_t      left_at;                /* an iterator's: so many results are enough */
    unsigned    uneven, slow_items, slow_source, slow_consumer, asks_pool, timed, retries;
};

/* As its tasks see a call. */
struct context { size_t thread, out_size; unsigned slow, uneven; };

struct caller {
    pthread_t     thread;
    struct pool  *pool;
    size_t        number, made;         /* of this thread; items that its generator made */
    uint64_t      random;
    struct shape  shape;
    unsigned char *bytes;               /* what items are made of */
    struct pool_bytes *buffers;
    unsigned char *in, *out;            /* an array; what a map writes, over an array of the same size */
    char          wrong[200];           /* what was found, or "" */
    _Atomic int   over;
};

static _Atomic unsigned (*ran)[ITEMS_MOST];     /* of each thread's call, how often each item ran */
static struct caller callers[THREADS];

static size_t draw(struct caller *c, size_t below)
{
    c->random ^= c->random << 13;
    c->random ^= c->random >> 7;
    c->random ^= c->random << 17;
    return (size_t)(c->random % below);
}

static size_t one_of(struct caller *c, const size_t *values, size_t count)
{
    return values[draw(c, count)];
}

static void take_time(void)
{
    for (int64_t until = clock_now() + PAUSE; clock_now() < until;)
        ;
}

/* ---- Items: byte k of item i is i + k, so one line of bytes holds all of them */

static size_t size_of(const struct shape *s, size_t index)
{
    return s->uneven ? s->size + index % 3 : s->size;
}

static unsigned char *item_of(struct caller *c, size_t index)
{
    return c->bytes + index % 256;
}

static int run_one(struct pool_task *task)
{
    const struct context *context = task->common;
    const unsigned char *in = task->in;
    size_t size = context->out_size + (context->uneven ? task->index % 5 : 0);
    unsigned char *out = size || context->uneven ? pool_out(task, size) : NULL;
    atomic_fetch_add(&ran[context->thread][task->index], 1);
    for (size_t k = 0; k < task->in_size; k++)
        if (in[k] != (unsigned char)(task->index + k))
            return 7;
    if (context->slow && task->index % 97 == 5)
        take_time();
    if (out)
        memset(out, (int)(task->index % 251), size);
    return 0;
}

static int nothing(struct pool_task *task)
{
    (void)task;
    return 0;
}

static int make_one(void *caller, struct pool_bytes *item)
{
    struct caller *c = caller;
    if (c->shape.slow_source && c->made % 50 == 20)
        take_time();
    if (c->shape.asks_pool && c->made % 40 == 10 && pool_apply(c->pool, nothing, NULL, 0, NULL, 0, NULL))
        snprintf(c->wrong, sizeof c->wrong, "pool_apply in the generator: %s", pool_error());
    if (c->made == c->shape.count)
        return 0;
    size_t size = size_of(&c->shape, c->made);
    *item = (struct pool_bytes){size ? item_of(c, c->made) : NULL, size};
    c->made++;
    return 1;
}

static struct pool_items items_of(struct caller *c)
{
    const struct shape *s = &c->shape;
    unsigned char *array;
    switch (s->source) {
    case ARRAY:
        array = s->size == s->out_size ? c->out : c->in;
        for (size_t i = 0; i < s->count; i++)
            memcpy(array + i * s->size, item_of(c, i), s->size);
        return pool_array(array, s->count, s->size);
    case RANGE:
        return pool_range(s->count);
    case BUFFERS:
        for (size_t i = 0; i < s->count; i++)
            c->buffers[i] = (struct pool_bytes){item_of(c, i), size_of(s, i)};
        return pool_buffers(c->buffers, s->count);
    default:
        c->made = 0;
        return pool_generator(make_one, c);
    }
}

/* ---- Calls */

static void find_fault(struct caller *c, const struct pool_result *r, size_t index)
{
    const struct shape *s = &c->shape;
    size_t size = s->out_size + (s->uneven ? r->index % 5 : 0);
    const unsigned char *data = r->data;
    if (r->index != index || r->index >= s->count)
        snprintf(c->wrong, sizeof c->wrong, "item %zu where %zu should be", r->index, index);
    else if (r->status)
        snprintf(c->wrong, sizeof c->wrong, "item %zu: status %d, code %d, %s", index, (int)r->status, r->code, r->message);
    else if (r->size != size || (size && (data[0] != index % 251 || data[size - 1] != index % 251)))
        snprintf(c->wrong, sizeof c->wrong, "item %zu: a wrong result of %zu bytes", index, r->size);
}

static void map(struct caller *c, const struct pool_call *call)
{
    const struct shape *s = &c->shape;
    unsigned char *out = s->source == GENERATOR || !s->out_size ? NULL : c->out;
    enum pool_status status = pool_map(c->pool, run_one, items_of(c), out, out ? s->out_size : 0, call);
    if (status)
        snprintf(c->wrong, sizeof c->wrong, "status %d, %s", (int)status, pool_error());
    for (size_t i = 0; !status && out && i < s->count; i++)
        if (out[i * s->out_size] != i % 251 || out[(i + 1) * s->out_size - 1] != i % 251)
            snprintf(c->wrong, sizeof c->wrong, "item %zu has a wrong result", i);
}

static void map_results(struct caller *c, const struct pool_call *call)
{
    struct pool_results *results = pool_map_results(c->pool, run_one, items_of(c), call);
    if (pool_results_count(results) != c->shape.count || pool_results_status(results))
        snprintf(c->wrong, sizeof c->wrong, "%zu results, %s", pool_results_count(results), pool_error());
    for (size_t i = 0; !c->wrong[0] && i < c->shape.count; i++)
        find_fault(c, pool_results_at(results, i), i);
    pool_results_free(results);
}

static size_t iterate(struct caller *c, const struct pool_call *call)
{
    const struct shape *s = &c->shape;
    struct pool_iter *iter = (s->call == IN_ORDER ? pool_imap : pool_imap_unordered)(c->pool, run_one, items_of(c), call);
    size_t count = 0;
    for (const struct pool_result *r; count < s->left_at && !c->wrong[0] && (r = pool_next(iter)); count++) {
        find_fault(c, r, s->call == IN_ORDER ? count : r->index);
        if (s->slow_consumer && count % 50 == 30)
            take_time();
    }
    if (count < s->count && count < s->left_at && !c->wrong[0])
        snprintf(c->wrong, sizeof c->wrong, "%zu results, status %d, %s", count, (int)pool_iter_status(iter), pool_error());
    pool_iter_free(iter);
    return count;
}

/* Of an iterator that was left, others may have run, too, or run yet: what they count is another call's then. */
static void find_what_did_not_run(struct caller *c, size_t least)
{
    size_t once = 0, more = 0;
    for (size_t i = 0; i < c->shape.count; i++) {
        unsigned times = atomic_load(&ran[c->number][i]);
        once += times == 1;
        more += times > 1;
    }
    if (more || once < least)
        snprintf(c->wrong, sizeof c->wrong, "%zu items ran, %zu of them more than once", once + more, more);
}

static void call(struct caller *c)
{
    const struct shape *s = &c->shape;
    struct context context = {c->number, s->out_size, s->slow_items, s->uneven};
    struct pool_call how = {.common = &context, .common_size = sizeof context, .window = s->window, .chunk = s->chunk,
                            .timeout = s->timed ? PATIENCE : 0, .retries = s->retries};
    size_t least = s->count;
    for (size_t i = 0; i < s->count; i++)
        atomic_store(&ran[c->number][i], 0);
    if (s->call == MAP)
        map(c, &how);
    else if (s->call == RESULTS)
        map_results(c, &how);
    else
        least = iterate(c, &how);
    if (!c->wrong[0])
        find_what_did_not_run(c, least);
}

/* ---- Shapes */

#define ONE_OF(c, ...) one_of(c, (const size_t[]){__VA_ARGS__}, sizeof (const size_t[]){__VA_ARGS__} / sizeof(size_t))

static void draw_shape(struct caller *c)
{
    struct shape *s = &c->shape;
    *s = (struct shape){.call = (enum call)draw(c, CALLS), .source = (enum source)draw(c, SOURCES)};
    s->count = ONE_OF(c, 0, 1, 2, 3, 5, 30, 300, 1000, ITEMS_MOST);
    s->size = s->source == RANGE ? 0 : ONE_OF(c, 0, 1, 8, 8, 12, 100, 5000, 20000, ITEM_MOST);
    s->out_size = ONE_OF(c, 0, 1, 4, 8, 8, 100, 5000, 40000);
    s->window = ONE_OF(c, 0, 0, 0, 1, 2, 7, 500);
    s->chunk = ONE_OF(c, 0, 0, 1, 1, 3, 64, 4096);
    s->left_at = SIZE_MAX;
    s->uneven = s->call != MAP && s->source != RANGE && s->source != ARRAY && draw(c, 3) == 0;
    s->slow_items = draw(c, 4) == 0;
    s->slow_source = draw(c, 4) == 0;
    s->slow_consumer = draw(c, 4) == 0;
    s->asks_pool = draw(c, 4) == 0;
    s->timed = draw(c, 4) == 0;
    s->retries = draw(c, 4) == 0;
    while (s->count * (s->size > s->out_size ? s->size : s->out_size) > BYTES_MOST)
        s->count /= 2;
}

static void *use_pool(void *caller)
{
    struct caller *c = caller;
    for (int i = 0; i < SHAPES && !c->wrong[0]; i++) {
        draw_shape(c);
        if (i == SHAPES - 1)
            c->shape.left_at = draw(c, c->shape.count + 1);     /* the last: what runs on of it is in nobody's way */
        call(c);
    }
    atomic_store(&c->over, 1);
    return NULL;
}

static int all_are_over(void *threads)
{
    int over = 1;
    for (size_t t = 0; t < *(size_t *)threads; t++)
        over &= atomic_load(&callers[t].over);
    return over;
}

static void tell(const struct caller *c, uint64_t seed)
{
    const struct shape *s = &c->shape;
    print_error("seed %llu, thread %zu: %s of %s of %zu items of %zu bytes, results of %zu%s; window %zu, chunk %zu, "
                "left at %zu%s%s%s%s%s%s\n",
                (unsigned long long)seed, c->number, call_names[s->call], source_names[s->source], s->count, s->size, s->out_size,
                s->uneven ? ", uneven" : "", s->window, s->chunk, s->left_at, s->slow_items ? ", slow items" : "",
                s->slow_source ? ", slow source" : "", s->slow_consumer ? ", slow consumer" : "", s->asks_pool ? ", asks the pool" : "",
                s->timed ? ", timed" : "", s->retries ? ", retries" : "");
}

static void use(struct pool *pool, size_t threads, uint64_t seed)
{
    for (size_t t = 0; t < threads; t++) {
        struct caller *c = &callers[t];
        c->pool = pool;
        atomic_store(&c->over, 0);
        assert_int_equal(pthread_create(&c->thread, NULL, use_pool, c), 0);
    }
    int stands = !check_until(all_are_over, &threads, PATIENCE);
    for (size_t t = 0; t < threads; t++) {
        struct caller *c = &callers[t];
        if (stands ? !atomic_load(&c->over) : c->wrong[0] != '\0')
            tell(c, seed);
        if (!stands)
            pthread_join(c->thread, NULL);
        assert_string_equal(c->wrong, "");
    }
    assert_false(stands);
}

static void calls_of_any_shape_end(void **state)
{
    const char *given = getenv("FORKPOOL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : 3;
    int pools = getenv("FORKPOOL_LONG") ? POOLS_LONG : check_under("") ? POOLS / 8 : POOLS;
    (void)state;
    ran = mmap(NULL, THREADS * sizeof *ran, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ran != MAP_FAILED);
    for (size_t t = 0; t < THREADS; t++) {
        struct caller *c = &callers[t];
        *c = (struct caller){.number = t, .random = (seed + t) * 0x9e3779b97f4a7c15u | 1, .bytes = malloc(ITEM_MOST + 300),
                             .buffers = malloc(ITEMS_MOST * sizeof *c->buffers), .in = malloc(BYTES_MOST), .out = malloc(BYTES_MOST)};
        assert_true(c->bytes && c->buffers && c->in && c->out);
        for (size_t k = 0; k < ITEM_MOST + 300; k++)
            c->bytes[k] = (unsigned char)k;
    }
    for (int i = 0; i < pools; i++) {
        struct caller *c = &callers[0];
        struct pool_options options = {.workers = 1 + (unsigned)draw(c, 4), .no_spin = draw(c, 4) == 0,
                                       .max_tasks = draw(c, 4) == 0 ? 50 : 0};
        struct pool *pool = pool_create(&options);
        assert_non_null(pool);
        use(pool, 1 + draw(c, THREADS), seed);
        pool_destroy(pool);
    }
    for (int t = 0; t < THREADS; t++) {
        free(callers[t].bytes);
        free(callers[t].buffers);
        free(callers[t].in);
        free(callers[t].out);
    }
    munmap(ran, THREADS * sizeof *ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_of_any_shape_end),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
