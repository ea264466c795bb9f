/* What a task forks is not a second worker, delays nobody, and is gone with the pool, wherever it went.
 *
 * Grandchildren note their pid in the ledger. Those that are to be found gone hold everything open that they have inherited, for ever. */
#define _GNU_SOURCE
#include "ledger.h"

#include <signal.h>
#include <stdlib.h>

enum { ITEMS = 24, BAD = 7 };

static void note_pid(unsigned which)
{
    atomic_store(&ledger->pid[which], (int)getpid());
}

static int is_noted(void *which)
{
    return atomic_load(&ledger->pid[*(const unsigned *)which]) != 0;
}

static pid_t noted(unsigned which)
{
    assert_true(check_until(is_noted, &which, PATIENCE));
    return atomic_load(&ledger->pid[which]);
}

/* In a task: waits for what its child does, so that the order of things is sure. */
static void await_note(unsigned which)
{
    while (!atomic_load(&ledger->pid[which]))
        nap();
}

/* ---- The child returns from the task function */

static int returns_twice(struct pool_task *task)
{
    if (task->index == BAD && fork() == 0) {
        long wrong = -1;

        note_pid(0);
        return pool_return(task, &wrong, sizeof wrong);
    }
    if (task->index == BAD)
        await_note(0);
    return good(task);
}

static void a_child_that_returns_is_no_worker(void **state)
{
    struct pool *pool = make_pool(2);
    struct end end = end_of_bad(pool, returns_twice, ITEMS, BAD);

    (void)state;
    assert_good(&end, BAD);
    await_death(noted(0));
    assert_works(pool);
    pool_destroy(pool);
}

/* The parent waits for it in the task, as fork's manual has it. */
static int returns_while_parent_pauses(struct pool_task *task)
{
    if (task->index == BAD && fork() == 0) {
        note_pid(0);
        return good(task);
    }
    if (task->index == BAD) {
        note_start(task);
        pause_for_ever();
    }
    return good(task);
}

/* Nothing that the child does may end the item which its parent still runs. */
static void a_child_that_returns_does_not_end_the_item(void **state)
{
    struct pool *pool = make_pool(1);
    struct pool_iter *iter = begin(pool, returns_while_parent_pauses, BAD + 1, 0);
    struct end ends[BAD + 1] = {{0}};
    unsigned i;

    (void)state;
    for (i = 0; i < BAD; i++)
        assert_int_equal(collect_one(iter, ends, BAD + 1), 1);
    assert_null(pool_next_timeout(iter, 0));
    await_death(noted(0));
    assert_null(pool_next_timeout(iter, 0));
    assert_int_equal(pool_iter_status(iter), POOL_PENDING);
    assert_int_equal(kill(worker_of(pool, 0), SIGKILL), 0);
    collect(iter, ends, BAD + 1);
    assert_crashed(&ends[BAD], 0, SIGKILL);
    pool_destroy(pool);
}

/* ---- It stays for ever */

enum escape { STAYS, LEAVES_GROUP, LEAVES_SESSION, LEAVES_BY_TWO_FORKS, GOES_DEAF };

static void escape(enum escape how)
{
    int sig;

    if (how == LEAVES_GROUP)
        setpgid(0, 0);
    if (how == LEAVES_SESSION || how == LEAVES_BY_TWO_FORKS)
        setsid();
    if (how == LEAVES_BY_TWO_FORKS && fork() > 0)
        _exit(0);
    for (sig = 1; how == GOES_DEAF && sig <= SIGRTMAX; sig++)
        signal(sig, SIG_IGN);
    note_pid(0);
    pause_for_ever();
}

static int leaves_one_behind(struct pool_task *task, enum escape how)
{
    if (task->index == BAD) {
        if (fork() == 0)
            escape(how);
        await_note(0);
    }
    return good(task);
}

#define LEAVER(name, how)                    \
    static int name(struct pool_task *task)  \
    {                                        \
        return leaves_one_behind(task, how); \
    }

LEAVER(in_its_group, STAYS)
LEAVER(in_another_group, LEAVES_GROUP)
LEAVER(in_another_session, LEAVES_SESSION)
LEAVER(as_a_daemon, LEAVES_BY_TWO_FORKS)
LEAVER(deaf, GOES_DEAF)

static void is_gone_with_the_pool(pool_fn *fn)
{
    struct pool *pool = make_pool(2);
    struct end end = end_of_bad(pool, fn, ITEMS, BAD);
    pid_t pid = noted(0);

    assert_good(&end, BAD);
    assert_true(check_alive(pid));
    assert_works(pool);
    pool_destroy(pool);
    assert_false(check_alive(pid));
}

static void one_that_stays(void **state)
{
    (void)state;
    is_gone_with_the_pool(in_its_group);
}

static void one_that_leaves_its_group(void **state)
{
    (void)state;
    is_gone_with_the_pool(in_another_group);
}

static void one_that_leaves_its_session(void **state)
{
    (void)state;
    is_gone_with_the_pool(in_another_session);
}

static void one_that_becomes_a_daemon(void **state)
{
    (void)state;
    is_gone_with_the_pool(as_a_daemon);
}

static void one_that_ignores_signals(void **state)
{
    (void)state;
    is_gone_with_the_pool(deaf);
}

/* ---- Its worker dies, while it holds the worker's pipes open */

static int leaves_one_and_dies(struct pool_task *task, enum escape how)
{
    if (task->index != BAD)
        return good(task);
    note_start(task);
    if (fork() == 0)
        escape(how);
    await_note(0);
    raise(SIGKILL);
    return 0;
}

static int dies_before_its_child(struct pool_task *task)
{
    return leaves_one_and_dies(task, STAYS);
}

static int dies_before_its_runaway(struct pool_task *task)
{
    return leaves_one_and_dies(task, LEAVES_SESSION);
}

static void a_worker_takes_its_group_along(void **state)
{
    struct pool *pool = make_pool(2);
    struct end end = end_of_bad(pool, dies_before_its_child, ITEMS, BAD);

    (void)state;
    assert_crashed(&end, 0, SIGKILL);
    await_death(noted(0));
    assert_works(pool);
    pool_destroy(pool);
}

static void an_open_pipe_does_not_hide_a_death(void **state)
{
    struct pool *pool = make_pool(2);
    struct end end = end_of_bad(pool, dies_before_its_runaway, ITEMS, BAD);
    pid_t pid = noted(0);

    (void)state;
    assert_crashed(&end, 0, SIGKILL);
    assert_true(check_alive(pid));
    assert_works(pool);
    pool_destroy(pool);
    assert_false(check_alive(pid));
}

/* ---- The initializer forks */

static int forks_a_runaway(struct pool_worker *worker)
{
    (void)worker;
    if (fork() == 0)
        escape(LEAVES_SESSION);
    await_note(0);
    return 0;
}

static int fails_after_a_runaway(struct pool_worker *worker)
{
    forks_a_runaway(worker);
    return 1;
}

static int returns_in_its_child(struct pool_worker *worker)
{
    (void)worker;
    if (fork() == 0)
        note_pid(0);
    else
        await_note(0);
    return 0;
}

static void an_initializers_runaway_is_gone_with_the_pool(void **state)
{
    struct pool_options options = {.workers = 1, .initializer = forks_a_runaway};
    struct pool *pool = pool_create(&options);
    pid_t pid = noted(0);

    (void)state;
    assert_non_null(pool);
    assert_works(pool);
    assert_true(check_alive(pid));
    pool_destroy(pool);
    assert_false(check_alive(pid));
}

static void a_failed_initializers_runaway_is_gone_as_well(void **state)
{
    struct pool_options options = {.workers = 1, .initializer = fails_after_a_runaway};

    (void)state;
    assert_null(pool_create(&options));
    assert_false(check_alive(noted(0)));
}

static void an_initializers_child_is_no_worker(void **state)
{
    struct pool_options options = {.workers = 1, .initializer = returns_in_its_child};
    struct pool *pool = pool_create(&options);

    (void)state;
    assert_non_null(pool);
    await_death(noted(0));
    assert_works(pool);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(a_child_that_returns_is_no_worker),
        STORY(a_child_that_returns_does_not_end_the_item),
        STORY(one_that_stays),
        STORY(one_that_leaves_its_group),
        STORY(one_that_leaves_its_session),
        STORY(one_that_becomes_a_daemon),
        STORY(one_that_ignores_signals),
        STORY(a_worker_takes_its_group_along),
        STORY(an_open_pipe_does_not_hide_a_death),
        STORY(an_initializers_runaway_is_gone_with_the_pool),
        STORY(a_failed_initializers_runaway_is_gone_as_well),
        STORY(an_initializers_child_is_no_worker),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
