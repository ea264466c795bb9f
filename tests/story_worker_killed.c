/* A worker killed at any moment of its life costs at most the item that it was running.
 *
 * What had not started runs elsewhere, what was finished stays finished and is not run again. Moments are found by what a task notes in
 * the ledger, and the kill is a real one from outside. */
#define _GNU_SOURCE
#include "ledger.h"

#include <stdlib.h>

enum { ITEMS = 8 };

static void send(pid_t pid, int signal)
{
    assert_int_equal(kill(pid, signal), 0);
}

static char state_of(pid_t pid)
{
    char path[64], line[512] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    file = fopen(path, "re");
    if (!file)
        return 'X';
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    state = strrchr(line, ')');
    return state ? state[2] : 'X';
}

static int is_stopped(void *pid)
{
    return state_of(*(const pid_t *)pid) == 'T';
}

static void stop(pid_t pid)
{
    send(pid, SIGSTOP);
    assert_true(check_until(is_stopped, &pid, PATIENCE));
}

/* ---- Idle */

static void idle(void **state)
{
    struct pool *pool = make_pool(2);
    pid_t pid = worker_of(pool, 0);

    (void)state;
    send(pid, SIGKILL);
    await_death(pid);
    assert_works(pool);
    pool_destroy(pool);
}

static void idle_and_called_at_once(void **state)
{
    struct pool *pool = make_pool(2);
    struct end ends[ITEMS];

    (void)state;
    assert_works(pool);
    send(worker_of(pool, 0), SIGKILL);
    run(pool, good, ITEMS, ends);
    assert_cost_one_at_most(ends, ITEMS);       /* one that it may just have claimed */
    pool_destroy(pool);
}

static int tell_index(struct pool_task *task)
{
    return pool_return(task, &task->worker->index, sizeof task->worker->index);
}

static void replaced_under_its_index(void **state)
{
    struct pool *pool = make_pool(1);
    pid_t before = worker_of(pool, 0);
    unsigned index = 99;

    (void)state;
    send(before, SIGKILL);
    await_death(before);
    assert_int_equal(pool_apply(pool, tell_index, NULL, 0, &index, sizeof index, NULL), POOL_OK);
    assert_int_equal(index, 0);
    assert_true(worker_of(pool, 0) != before);
    pool_destroy(pool);
}

static void all_of_them_again_and_again(void **state)
{
    struct pool *pool = make_pool(3);
    pid_t pids[3];
    unsigned round, i;

    (void)state;
    for (round = 0; round < 10; round++) {
        for (i = 0; i < 3; i++)
            send(pids[i] = worker_of(pool, i), SIGKILL);
        for (i = 0; i < 3; i++)
            await_death(pids[i]);
        assert_works(pool);
        while (!pool_worker_pid(pool, 0) || !pool_worker_pid(pool, 1) || !pool_worker_pid(pool, 2))
            assert_works(pool);
    }
    pool_destroy(pool);
}

static void before_destroy(void **state)
{
    struct pool *pool = make_pool(2);

    (void)state;
    send(worker_of(pool, 0), SIGKILL);
    send(worker_of(pool, 1), SIGKILL);
    pool_destroy(pool);
}

/* ---- Before it claims: the items lie at a worker that stands still */

static void before_claim(void **state)
{
    struct pool *pool = make_pool(1);
    struct end ends[ITEMS] = {{0}};
    struct pool_iter *iter;
    pid_t pid = worker_of(pool, 0);
    size_t i;

    (void)state;
    stop(pid);
    iter = begin(pool, good, ITEMS, ITEMS);
    send(pid, SIGKILL);
    collect(iter, ends, ITEMS);
    for (i = 0; i < ITEMS; i++) {
        assert_good(&ends[i], i);
        assert_int_equal(ends[i].tries, 1);
        assert_int_equal(ledger->started[i], 1);
    }
    assert_works(pool);
    pool_destroy(pool);
}

/* Items that come out of one buffer, so that the copies at the worker are the only ones. */
struct source {
    unsigned char *buffer;
    size_t         size, next, count;
};

static int next_item(void *cursor, struct pool_bytes *item)
{
    struct source *source = cursor;

    if (source->next == source->count)
        return 0;
    memset(source->buffer, (int)++source->next, source->size);
    *item = (struct pool_bytes){source->buffer, source->size};
    return 1;
}

/* Its place and the sum of its bytes must fit. */
static int check_sum(struct pool_task *task)
{
    const unsigned char *bytes = task->in;
    size_t i;

    for (i = 0; i < task->in_size; i++)
        if (bytes[i] != (unsigned char)(task->index + 1))
            return pool_fail(task, 1, "byte %zu of item %zu is %d", i, task->index, bytes[i]);
    return good(task);
}

static void generated_items_survive(size_t size)
{
    struct pool *pool = make_pool(1);
    struct source source = {malloc(size), size, 0, 5};
    struct pool_iter *iter;
    struct end ends[5] = {{0}};
    pid_t pid = worker_of(pool, 0);
    size_t i;

    assert_non_null(source.buffer);
    stop(pid);
    iter = pool_imap(pool, check_sum, pool_generator(next_item, &source), NULL);
    assert_non_null(iter);
    send(pid, SIGKILL);
    collect(iter, ends, 5);
    for (i = 0; i < 5; i++)
        assert_good(&ends[i], i);
    pool_destroy(pool);
    free(source.buffer);
}

static void before_claim_small_generated_items(void **state)
{
    (void)state;
    generated_items_survive(100);
}

static void before_claim_generated_items_in_the_lane(void **state)
{
    (void)state;
    generated_items_survive(100000);
}

static void before_claim_generated_items_larger_than_the_lane(void **state)
{
    (void)state;
    generated_items_survive(9 << 20);
}

static void stopped_and_continued(void **state)
{
    struct pool *pool = make_pool(1);
    struct end ends[ITEMS] = {{0}};
    struct pool_iter *iter;
    pid_t pid = worker_of(pool, 0);
    size_t i;

    (void)state;
    stop(pid);
    iter = begin(pool, good, ITEMS, 0);
    assert_null(pool_next_timeout(iter, 0.05));
    send(pid, SIGCONT);
    collect(iter, ends, ITEMS);
    for (i = 0; i < ITEMS; i++)
        assert_good(&ends[i], i);
    assert_int_equal(worker_of(pool, 0), pid);
    pool_destroy(pool);
}

/* ---- In the middle of an item */

static int one_pauses(struct pool_task *task)
{
    if (task->index != 1)
        return good(task);
    note_start(task);
    pause_for_ever();
    return 0;
}

static void ends_by(int signal)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = begin(pool, one_pauses, ITEMS, 4);
    struct end ends[ITEMS] = {{0}};
    pid_t pid = worker_of(pool, 0);
    size_t i;

    await_start(1);
    send(pid, signal);
    collect(iter, ends, ITEMS);
    for (i = 0; i < ITEMS; i++) {
        if (i == 1)
            continue;
        assert_good(&ends[i], i);
        assert_int_equal(ledger->started[i], 1);
    }
    assert_crashed(&ends[1], 0, signal);
    assert_int_equal(ends[1].pid, pid);
    assert_int_equal(ledger->started[1], 1);
    assert_works(pool);
    pool_destroy(pool);
}

static void in_the_middle_by_sigkill(void **state)
{
    (void)state;
    ends_by(SIGKILL);
}

static void in_the_middle_by_sigterm(void **state)
{
    (void)state;
    ends_by(SIGTERM);
}

static void in_the_middle_by_sigint(void **state)
{
    (void)state;
    ends_by(SIGINT);
}

/* Kills itself once its host sleeps, so that nothing but the death can wake it. */
static int dies_while_host_sleeps(struct pool_task *task)
{
    pid_t host = atomic_load(&ledger->pid[0]);

    if (task->index != 1)
        return good(task);
    while (state_of(host) != 'S')
        nap();
    raise(SIGKILL);
    return 0;
}

static void in_the_middle_while_the_host_sleeps(void **state)
{
    struct pool *pool = make_pool(1);
    struct end ends[ITEMS];
    size_t i;

    (void)state;
    atomic_store(&ledger->pid[0], getpid());
    run(pool, dies_while_host_sleeps, ITEMS, ends);
    for (i = 0; i < ITEMS; i++)
        if (i != 1)
            assert_good(&ends[i], i);
    assert_crashed(&ends[1], 0, SIGKILL);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(idle),
        STORY(idle_and_called_at_once),
        STORY(replaced_under_its_index),
        STORY(all_of_them_again_and_again),
        STORY(before_destroy),
        STORY(before_claim),
        STORY(before_claim_small_generated_items),
        STORY(before_claim_generated_items_in_the_lane),
        STORY(before_claim_generated_items_larger_than_the_lane),
        STORY(stopped_and_continued),
        STORY(in_the_middle_by_sigkill),
        STORY(in_the_middle_by_sigterm),
        STORY(in_the_middle_by_sigint),
        STORY(in_the_middle_while_the_host_sleeps),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
