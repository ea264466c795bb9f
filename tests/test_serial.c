/* A serial pool: the same calls with the same results and statuses as with processes, in the calling thread.
 *
 * One table of calls is run on both kinds; what each came to is written down as text, and the texts are compared. */
#define _GNU_SOURCE
#include "check.h"
#include "pool.h"

#include <forkpool.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- What a call came to */

struct account { char text[200000]; size_t size; };

static void note(struct account *a, const char *format, ...) POOL_PRINTF(2, 3);

static void note(struct account *a, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int size = vsnprintf(a->text + a->size, sizeof a->text - a->size, format, args);
    va_end(args);
    assert_true(size >= 0 && (size_t)size < sizeof a->text - a->size);
    a->size += (size_t)size;
}

static void note_result(struct account *a, const struct pool_result *r)
{
    unsigned long sum = 5381;
    for (size_t i = 0; r && r->data && i < r->size; i++)
        sum = sum * 33 + ((const unsigned char *)r->data)[i];
    if (r)
        note(a, "#%zu %s code %d signal %d tries %u pid %d %zu bytes %lu null %d: %s\n", r->index,
             pool_status_text(r->status), r->code, r->signal, r->tries, r->pid != 0, r->size, sum, r->data == NULL, r->message);
    else
        note(a, "none\n");
}

static void note_list(struct account *a, struct pool_results *list)
{
    note(a, "%zu results, %s\n", pool_results_count(list), pool_status_text(pool_results_status(list)));
    for (size_t i = 0; i < pool_results_count(list); i++)
        note_result(a, pool_results_at(list, i));
    pool_results_free(list);
}

static void note_iter(struct account *a, struct pool_iter *it)
{
    const struct pool_result *r;
    note(a, "%s at first\n", pool_status_text(pool_iter_status(it)));
    while ((r = pool_next(it)))
        note_result(a, r);
    note(a, "%s, %s\n", pool_status_text(pool_iter_status(it)), pool_error());
    pool_iter_free(it);
}

static void note_map(struct account *a, enum pool_status status, const void *out, size_t size)
{
    note(a, "%s, %s\n", pool_status_text(status), pool_error());
    note_result(a, pool_failure());
    note_result(a, &(struct pool_result){.data = out, .size = size, .message = ""});
}

/* ---- Tasks */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;
    return pool_return(task, &y, sizeof y);
}

static int various(struct pool_task *task)
{
    char bytes[300], *room;
    switch (task->index % 8) {
    case 0: return 0;
    case 1: return pool_fail(task, 0, "item %zu", task->index);
    case 2: return pool_fail(task, (int)task->index, "with words");
    case 3: return 7;
    case 4: return pool_return(task, NULL, 3);
    case 5:
        if (pool_out(task, SIZE_MAX / 4))
            return 9;
        return 0;                       /* all the same */
    case 6:
        room = memset(pool_out(task, 200), (int)task->index, 200);
        return pool_return(task, room, 100);
    default:
        memset(bytes, (int)task->index, sizeof bytes);
        pool_return(task, "replaced", 8);
        return pool_return(task, bytes, task->index % sizeof bytes);
    }
}

static int use_common(struct pool_task *task)
{
    return pool_return(task, task->common, task->common_size);
}

static int fail_last(struct pool_task *task)
{
    return task->index == *(const size_t *)task->common ? pool_fail(task, 3, "the last") : 0;
}

static int give_long_words(struct pool_task *task)
{
    char text[1500];
    memset(text, 'w', sizeof text);
    text[sizeof text - 1] = '\0';
    return pool_fail(task, 2, "%s", text);
}

struct counter { size_t next, count; int code; };

static int pull(void *cursor, struct pool_bytes *item)
{
    struct counter *c = cursor;
    if (c->next == c->count)
        return c->code;
    c->next++;
    *item = (struct pool_bytes){&c->next, sizeof c->next};
    return 1;
}

static int pull_null(void *cursor, struct pool_bytes *item)
{
    (void)cursor;
    *item = (struct pool_bytes){NULL, 3};
    return 1;
}

static int echo(struct pool_task *task)
{
    return pool_return(task, task->in, task->in_size);
}

/* ---- The table */

static const int xs[] = {3, 1, 4, 1, 5, 9, 2, 6};
static const struct pool_bytes list[] = {{"one", 3}, {NULL, 0}, {"three", 5}};
static int out[8];

static void map_array(struct pool *p, struct account *a)
{
    memset(out, 0, sizeof out);
    note_map(a, pool_map(p, square, pool_array(xs, 8, sizeof *xs), out, sizeof *out, NULL), out, sizeof out);
}

static void map_wrong_size(struct pool *p, struct account *a)
{
    unsigned char small[8 * 3];
    memset(small, 0xee, sizeof small);
    note_map(a, pool_map(p, square, pool_array(xs, 8, sizeof *xs), small, 3, NULL), small, sizeof small);
}

static void map_failures(struct pool *p, struct account *a)
{
    note_map(a, pool_map(p, various, pool_range(50), NULL, 0, NULL), NULL, 0);
}

static void map_failures_into_places(struct pool *p, struct account *a)
{
    memset(out, 0x77, sizeof out);
    note_map(a, pool_map(p, various, pool_range(8), out, 4, NULL), out, sizeof out);
}

static void map_nothing(struct pool *p, struct account *a)
{
    note_map(a, pool_map(p, square, pool_range(0), NULL, 0, NULL), NULL, 0);
}

static void map_fail_fast(struct pool *p, struct account *a)
{
    size_t last = 99;
    struct pool_call call = {.common = &last, .common_size = sizeof last, .fail_fast = 1};
    note_map(a, pool_map(p, fail_last, pool_range(100), NULL, 0, &call), NULL, 0);
}

static void map_long_words(struct pool *p, struct account *a)
{
    note_map(a, pool_map(p, give_long_words, pool_range(2), NULL, 0, NULL), NULL, 0);
}

static void map_generator(struct pool *p, struct account *a)
{
    struct counter fine = {.count = 30}, fails = {.count = 30, .code = -6};
    note_map(a, pool_map(p, echo, pool_generator(pull, &fine), NULL, 0, NULL), NULL, 0);
    note_map(a, pool_map(p, echo, pool_generator(pull, &fails), NULL, 0, NULL), NULL, 0);
    note_map(a, pool_map(p, echo, pool_generator(pull_null, NULL), NULL, 0, NULL), NULL, 0);
}

static void map_generator_and_failures(struct pool *p, struct account *a)
{
    struct counter fails = {.count = 30, .code = -6};
    note_map(a, pool_map(p, various, pool_generator(pull, &fails), NULL, 0, NULL), NULL, 0);
}

static void apply(struct pool *p, struct account *a)
{
    note_map(a, pool_apply(p, square, &xs[2], sizeof *xs, out, sizeof *out, NULL), out, sizeof *out);
    note_map(a, pool_apply(p, echo, NULL, 0, NULL, 0, NULL), NULL, 0);
    note_map(a, pool_apply(p, give_long_words, NULL, 0, NULL, 0, NULL), NULL, 0);
}

static void list_results(struct pool *p, struct account *a)
{
    struct counter fails = {.count = 9, .code = -6};
    note_list(a, pool_map_results(p, various, pool_range(60), NULL));
    note_list(a, pool_map_results(p, echo, pool_buffers(list, 3), NULL));
    note_list(a, pool_map_results(p, echo, pool_generator(pull, &fails), NULL));
    note_list(a, pool_map_results(p, echo, pool_range(0), NULL));
}

static void iterate(struct pool *p, struct account *a)
{
    struct counter fails = {.count = 9, .code = -6};
    note_iter(a, pool_imap(p, various, pool_range(60), NULL));
    note_iter(a, pool_imap(p, various, pool_range(60), &(struct pool_call){.window = 2, .chunk = 5}));
    note_iter(a, pool_imap(p, echo, pool_buffers(list, 3), NULL));
    note_iter(a, pool_imap(p, echo, pool_generator(pull, &fails), NULL));
    note_iter(a, pool_imap(p, echo, pool_range(0), NULL));
}

static void iterate_fail_fast(struct pool *p, struct account *a)
{
    size_t last = 40;
    struct pool_call call = {.common = &last, .common_size = sizeof last, .fail_fast = 1, .window = 1};
    note_iter(a, pool_imap(p, fail_last, pool_range(100), &call));
}

static void use_context(struct pool *p, struct account *a)
{
    struct pool_call call = {.common = "context", .common_size = 7};
    note_list(a, pool_map_results(p, use_common, pool_range(3), &call));
    note_iter(a, pool_imap(p, use_common, pool_range(3), &call));
}

static void refuse(struct pool *p, struct account *a)
{
    struct pool_call reserved = {.reserved = {1}}, null_common = {.common_size = 1}, done = {.done_arg = out};
    struct pool_call timeout = {.timeout = -1};
    struct counter fine = {.count = 3};
    note(a, "%d", pool_map(p, NULL, pool_range(1), NULL, 0, NULL) != 0);
    note_map(a, pool_map(p, square, pool_array(NULL, 1, 1), NULL, 0, NULL), NULL, 0);
    note_map(a, pool_map(p, square, pool_array(xs, SIZE_MAX, 2), NULL, 0, NULL), NULL, 0);
    note_map(a, pool_map(p, square, pool_generator(pull, &fine), out, 4, NULL), NULL, 0);
    note_map(a, pool_map(p, square, pool_range(1), NULL, 0, &reserved), NULL, 0);
    note_map(a, pool_map(p, square, pool_range(1), NULL, 0, &null_common), NULL, 0);
    note_map(a, pool_map(p, square, pool_range(1), NULL, 0, &done), NULL, 0);
    note_map(a, pool_map(p, square, pool_range(1), NULL, 0, &timeout), NULL, 0);
    errno = 0;
    note(a, "%d ", pool_imap(p, square, pool_range(1), &reserved) == NULL);
    note(a, "%d %s\n", errno, pool_error());
    errno = 0;
    note(a, "%d ", pool_map_results(p, NULL, pool_range(1), NULL) == NULL);
    note(a, "%d %s\n", errno, pool_error());
}

typedef void call_fn(struct pool *p, struct account *a);

static void on_both_kinds(call_fn *call)
{
    static struct account account[2];
    for (unsigned serial = 0; serial < 2; serial++) {
        struct pool *p = pool_create(&(struct pool_options){.workers = 2, .serial = serial});
        assert_non_null(p);
        account[serial].size = 0;
        call(p, &account[serial]);
        pool_destroy(p);
    }
    assert_true(account[0].size > 3);
    const char *a = account[0].text, *b = account[1].text;
    if (!strcmp(a, b))
        return;
    while (strcspn(a, "\n") == strcspn(b, "\n") && !strncmp(a, b, strcspn(a, "\n") + 1)) {
        a += strcspn(a, "\n") + 1;
        b += strcspn(b, "\n") + 1;
    }
    fail_msg("with processes: %.*s\nserial: %.*s", (int)strcspn(a, "\n"), a, (int)strcspn(b, "\n"), b);
}

#define BOTH(call) static void call##_is_the_same(void **state) { (void)state; on_both_kinds(call); }

BOTH(map_array)
BOTH(map_wrong_size)
BOTH(map_failures)
BOTH(map_failures_into_places)
BOTH(map_nothing)
BOTH(map_fail_fast)
BOTH(map_long_words)
BOTH(map_generator)
BOTH(map_generator_and_failures)
BOTH(apply)
BOTH(list_results)
BOTH(iterate)
BOTH(iterate_fail_fast)
BOTH(use_context)
BOTH(refuse)

/* ---- What is a serial pool's own */

static int life[3];                     /* initializers, finalizers, tasks that saw the state */

static int initialize(struct pool_worker *worker)
{
    life[0]++;
    worker->state = &life[2];
    return worker->index == 0 && worker->arg == life ? 0 : 1;
}

static void finalize(struct pool_worker *worker)
{
    life[1] += worker->state == &life[2];
}

static int use_state(struct pool_task *task)
{
    ++*(int *)task->worker->state;
    return 0;
}

static int refuse_to_start(struct pool_worker *worker)
{
    return pool_init_fail(worker, 5, "no device %d", 3);
}

static void the_initializer_and_the_finalizer_run_here_once(void **state)
{
    (void)state;
    memset(life, 0, sizeof life);
    struct pool_options options = {.serial = 1, .workers = 4, .initializer = initialize, .initarg = life, .finalizer = finalize};
    struct pool *p = pool_create(&options);
    assert_non_null(p);
    assert_int_equal(life[0], 1);
    assert_int_equal(pool_map(p, use_state, pool_range(10), NULL, 0, NULL), POOL_OK);
    assert_int_equal(life[2], 10);
    assert_int_equal(life[1], 0);
    pool_destroy(p);
    assert_int_equal(life[1], 1);
}

static void a_failed_initializer_fails_the_pool_in_words(void **state)
{
    (void)state;
    assert_null(pool_create(&(struct pool_options){.serial = 1, .initializer = refuse_to_start, .finalizer = finalize}));
    assert_int_equal(errno, ECANCELED);
    assert_non_null(strstr(pool_error(), "no device 3"));
}

static void it_has_one_worker_which_is_the_caller(void **state)
{
    (void)state;
    struct pool *p = pool_create(&(struct pool_options){.serial = 1, .workers = 9});
    assert_int_equal(pool_size(p), 1);
    assert_int_equal(pool_worker_pid(p, 0), getpid());
    assert_int_equal(pool_worker_pid(p, 1), 0);
    pool_destroy(p);
}

static void what_speaks_of_processes_is_overridden(void **state)
{
    (void)state;
    struct pool_options options = {.serial = 1, .workers = 1000000, .close_fds = 1, .max_tasks = 1, .nice = 5, .pin = 1};
    struct pool *p = pool_create(&options);
    assert_non_null(p);
    pool_destroy(p);
}

static struct pool *current;

static int use_own_pool(struct pool_task *task)
{
    enum pool_status status = pool_map(current, echo, pool_range(1), NULL, 0, NULL);
    pool_destroy(current);
    return pool_return(task, &status, sizeof status);
}

static void a_task_cannot_use_its_own_pool(void **state)
{
    (void)state;
    enum pool_status status = POOL_OK;
    current = pool_create(&(struct pool_options){.serial = 1});
    assert_int_equal(pool_apply(current, use_own_pool, NULL, 0, &status, sizeof status, NULL), POOL_OK);
    assert_int_equal(status, POOL_INVALID);
    pool_destroy(current);
}

static int use_another_pool(struct pool_task *task)
{
    struct pool *p = pool_create(&(struct pool_options){.serial = 1});
    int y = 0, x = 5;
    enum pool_status status = pool_apply(p, square, &x, sizeof x, &y, sizeof y, NULL);
    pool_destroy(p);
    return status ? 1 : pool_return(task, &y, sizeof y);
}

static void a_task_can_use_another_serial_pool(void **state)
{
    (void)state;
    int y = 0;
    struct pool *p = pool_create(&(struct pool_options){.serial = 1});
    assert_int_equal(pool_apply(p, use_another_pool, NULL, 0, &y, sizeof y, NULL), POOL_OK);
    assert_int_equal(y, 25);
    pool_destroy(p);
}

static void an_iterator_runs_what_is_asked_for_and_no_more(void **state)
{
    (void)state;
    struct counter c = {.count = 1000};
    struct pool *p = pool_create(&(struct pool_options){.serial = 1});
    struct pool_iter *it = pool_imap(p, echo, pool_generator(pull, &c), NULL);
    for (size_t i = 1; i <= 5; i++) {
        assert_int_equal(*(const size_t *)pool_next(it)->data, i);
        assert_int_equal(c.next, i);
    }
    pool_iter_cancel(it);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    assert_int_equal(c.next, 5);
    pool_iter_free(it);
    pool_destroy(p);
}

static void an_iterator_outlives_its_pool(void **state)
{
    (void)state;
    struct pool *p = pool_create(&(struct pool_options){.serial = 1});
    struct pool_iter *it = pool_imap(p, echo, pool_array(xs, 8, sizeof *xs), NULL);
    const struct pool_result *r = pool_next(it);
    pool_destroy(p);
    assert_int_equal(*(const int *)r->data, xs[0]);
    assert_null(pool_next(it));
    assert_int_equal(pool_iter_status(it), POOL_CANCELLED);
    pool_iter_free(it);
}

#define SAME(call) cmocka_unit_test(call##_is_the_same)

/* ---- Destroyed by another thread */

static struct pool *shared_pool;
static _Atomic int inside, open_now, runs;

static int waits_to_be_let_go(struct pool_task *task)
{
    (void)task;
    atomic_fetch_add(&runs, 1);
    atomic_store(&inside, 1);
    while (!atomic_load(&open_now))
        sched_yield();
    return 0;
}

static void *maps(void *status)
{
    *(enum pool_status *)status = pool_map(shared_pool, waits_to_be_let_go, pool_range(3), NULL, 0, NULL);
    return NULL;
}

static void *destroys(void *unused)
{
    (void)unused;
    pool_destroy(shared_pool);
    return NULL;
}

static int is_inside(void *unused)
{
    (void)unused;
    return atomic_load(&inside);
}

static int is_closed(void *pool)
{
    struct sched *s = &((struct pool *)pool)->sched;
    sched_enter(s);
    int closed = s->closed != POOL_OK;
    sched_leave(s);
    return closed;
}

static void a_call_ends_with_its_item_when_another_thread_destroys_the_pool(void **state)
{
    (void)state;
    enum pool_status status = POOL_PENDING;
    pthread_t mapper, destroyer;
    shared_pool = pool_create(&(struct pool_options){.serial = 1});
    assert_non_null(shared_pool);
    assert_int_equal(pthread_create(&mapper, NULL, maps, &status), 0);
    assert_true(check_until(is_inside, NULL, 30));
    assert_int_equal(pthread_create(&destroyer, NULL, destroys, NULL), 0);
    assert_true(check_until(is_closed, shared_pool, 30));
    atomic_store(&open_now, 1);
    assert_int_equal(pthread_join(mapper, NULL), 0);
    assert_int_equal(pthread_join(destroyer, NULL), 0);
    assert_int_equal(status, POOL_CANCELLED);
    assert_int_equal(atomic_load(&runs), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SAME(map_array),
        SAME(map_wrong_size),
        SAME(map_failures),
        SAME(map_failures_into_places),
        SAME(map_nothing),
        SAME(map_fail_fast),
        SAME(map_long_words),
        SAME(map_generator),
        SAME(map_generator_and_failures),
        SAME(apply),
        SAME(list_results),
        SAME(iterate),
        SAME(iterate_fail_fast),
        SAME(use_context),
        SAME(refuse),
        cmocka_unit_test(the_initializer_and_the_finalizer_run_here_once),
        cmocka_unit_test(a_failed_initializer_fails_the_pool_in_words),
        cmocka_unit_test(it_has_one_worker_which_is_the_caller),
        cmocka_unit_test(what_speaks_of_processes_is_overridden),
        cmocka_unit_test(a_task_cannot_use_its_own_pool),
        cmocka_unit_test(a_task_can_use_another_serial_pool),
        cmocka_unit_test(an_iterator_runs_what_is_asked_for_and_no_more),
        cmocka_unit_test(an_iterator_outlives_its_pool),
        cmocka_unit_test(a_call_ends_with_its_item_when_another_thread_destroys_the_pool),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
