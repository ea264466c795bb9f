/* Limits of workers, as tasks meet them: memory that is refused, CPU time that runs out, niceness and pinning; each costs its own item
 * only, and what is not permitted fails pool_create in words.
 *
 * Limits of address space mean nothing under sanitizers and valgrind, which map terabytes for themselves: skipped there, aloud. */
#define _GNU_SOURCE
#include "child.h"
#include "ledger.h"

#include <limits.h>
#include <math.h>
#include <sched.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define STRANGER 65534

static struct pool *make(struct pool_options options)
{
    struct pool *pool = pool_create(&options);

    if (!pool)
        fail_msg("no pool: %s", pool_error());
    return pool;
}

static int cannot_limit_memory(void)
{
    if (!check_under(""))
        return 0;
    print_message("skipped: under a tool the address space cannot be limited\n");
    return 1;
}

/* ---- Memory */

/* A task that asks for as many MiB as its item says, and tells where it gets none. */
static int takes_memory(struct pool_task *task)
{
    size_t size = *(const size_t *)task->in * MIB;
    volatile char *at = malloc(size);
    int code = at ? 0 : pool_fail(task, 12, "no %zu bytes", size);

    if (at)
        at[0] = at[size - 1] = 1;
    free((char *)(uintptr_t)at);
    return code;
}

/* One that does not look. */
static int does_not_look(struct pool_task *task)
{
    volatile char *at = malloc(*(const size_t *)task->in * MIB);

    at[0] = 1;
    free((char *)(uintptr_t)at);
    return 0;
}

static void memory_beyond_the_limit_fails_in_the_task(void **state)
{
    struct pool *pool;
    size_t sizes[] = {8, 400, 16, 400, 8};
    struct pool_results *list;

    (void)state;
    if (cannot_limit_memory())
        skip();
    pool = make((struct pool_options){.workers = 1, .memory_limit = 100 * MIB});
    list = pool_map_results(pool, takes_memory, pool_array(sizes, 5, sizeof *sizes), NULL);
    assert_non_null(list);
    for (size_t i = 0; i < 5; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        assert_int_equal(r->status, sizes[i] == 400 ? POOL_FAILED : POOL_OK);
        if (r->status) {
            assert_int_equal(r->code, 12);
            assert_non_null(strstr(r->message, "419430400"));
        }
    }
    pool_results_free(list);
    pool_destroy(pool);
}

static void a_task_that_ignores_it_crashes(void **state)
{
    struct pool *pool;
    size_t sizes[] = {8, 400, 8};
    struct pool_results *list;

    (void)state;
    if (cannot_limit_memory())
        skip();
    pool = make((struct pool_options){.workers = 1, .memory_limit = 100 * MIB});
    list = pool_map_results(pool, does_not_look, pool_array(sizes, 3, sizeof *sizes), NULL);
    assert_non_null(list);
    assert_int_equal(pool_results_at(list, 0)->status, POOL_OK);
    assert_int_equal(pool_results_at(list, 1)->status, POOL_CRASHED);
    assert_int_equal(pool_results_at(list, 1)->signal, SIGSEGV);
    assert_int_equal(pool_results_at(list, 2)->status, POOL_OK);
    pool_results_free(list);
    pool_destroy(pool);
}

static void a_replacement_has_the_limit_too(void **state)
{
    struct pool *pool;
    size_t size = 400;

    (void)state;
    if (cannot_limit_memory())
        skip();
    pool = make((struct pool_options){.workers = 1, .memory_limit = 100 * MIB});
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pool_apply(pool, takes_memory, &size, sizeof size, NULL, 0, NULL), POOL_FAILED);
        assert_int_equal(pool_apply(pool, does_not_look, &size, sizeof size, NULL, 0, NULL), POOL_CRASHED);
    }
    pool_destroy(pool);
}

static void what_the_host_had_does_not_count(void **state)
{
    struct pool *pool;
    size_t size = 60, beyond = 400;
    char *had;

    (void)state;
    if (cannot_limit_memory())
        skip();
    had = mmap(NULL, 300 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(had != MAP_FAILED);
    pool = make((struct pool_options){.workers = 1, .memory_limit = 100 * MIB});
    assert_int_equal(pool_apply(pool, takes_memory, &size, sizeof size, NULL, 0, NULL), POOL_OK);
    assert_int_equal(pool_apply(pool, takes_memory, &beyond, sizeof beyond, NULL, 0, NULL), POOL_FAILED);
    pool_destroy(pool);
    munmap(had, 300 * MIB);
}

/* The library itself asks for memory: an item's payload, a result. */
static int big_result(struct pool_task *task)
{
    return pool_out(task, 400 * MIB) ? 0 : pool_fail(task, 5, "no room");
}

static void a_result_beyond_the_limit_fails(void **state)
{
    struct pool *pool;

    (void)state;
    if (cannot_limit_memory())
        skip();
    pool = make((struct pool_options){.workers = 1, .memory_limit = 100 * MIB});
    assert_int_equal(pool_apply(pool, big_result, NULL, 0, NULL, 0, NULL), POOL_FAILED);
    assert_int_equal(pool_failure()->code, 5);
    assert_works(pool);
    pool_destroy(pool);
}

static void a_limit_beyond_all_memory_is_none(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .memory_limit = SIZE_MAX});

    (void)state;
    assert_works(pool);
    pool_destroy(pool);
}

/* ---- CPU time */

static int loops(struct pool_task *task)
{
    volatile unsigned n = 0;

    if (task->index == 1)
        signal(SIGXCPU, SIG_IGN);
    for (;;)
        n++;
    return 0;
}

static void a_task_that_loops_is_ended(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2, .cpu_limit = 0.2});
    struct end ends[2];

    (void)state;
    run(pool, loops, 2, ends);
    assert_crashed(&ends[0], 0, SIGXCPU);
    assert_non_null(strstr(ends[0].message, "SIGXCPU"));
    assert_crashed(&ends[1], 0, SIGKILL);       /* it will not hear of it: a second later */
    assert_works(pool);
    pool_destroy(pool);
}

static int tells_cpu_limit(struct pool_task *task)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_CPU, &limit))
        return 1;
    return pool_return(task, &limit, sizeof limit);
}

static struct rlimit cpu_limit_of(double seconds)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .cpu_limit = seconds});
    struct rlimit limit;

    assert_int_equal(pool_apply(pool, tells_cpu_limit, NULL, 0, &limit, sizeof limit, NULL), POOL_OK);
    pool_destroy(pool);
    return limit;
}

static void cpu_seconds_are_rounded_up(void **state)
{
    (void)state;
    assert_int_equal(cpu_limit_of(99.1).rlim_cur, 100);
    assert_int_equal(cpu_limit_of(99).rlim_cur, 99);
    assert_int_equal(cpu_limit_of(1e-9).rlim_cur, 1);
}

static void no_cpu_limit_is_the_hosts_own(void **state)
{
    struct rlimit own;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_CPU, &own), 0);
    assert_true(cpu_limit_of(0).rlim_cur == own.rlim_cur);
    assert_true(cpu_limit_of(INFINITY).rlim_cur == own.rlim_cur);
    assert_true(cpu_limit_of(1e300).rlim_cur == own.rlim_cur);
}

static void a_cpu_limit_that_makes_no_sense(void **state)
{
    const double wrong[] = {-1, -1e-9, -INFINITY, NAN};

    (void)state;
    for (int i = 0; i < 4; i++) {
        errno = 0;
        assert_null(pool_create(&(struct pool_options){.workers = 1, .cpu_limit = wrong[i]}));
        assert_int_equal(errno, EINVAL);
        assert_non_null(strstr(pool_error(), "limit"));
    }
}

/* ---- Niceness */

static int tells_niceness(struct pool_task *task)
{
    int now = getpriority(PRIO_PROCESS, 0);

    return pool_return(task, &now, sizeof now);
}

static int niceness_with(int more)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .nice = more});
    int told = -100, killed;

    assert_int_equal(pool_apply(pool, tells_niceness, NULL, 0, &told, sizeof told, NULL), POOL_OK);
    killed = worker_of(pool, 0);
    kill(killed, SIGKILL);
    await_death(killed);
    int again = -100;
    assert_int_equal(pool_apply(pool, tells_niceness, NULL, 0, &again, sizeof again, NULL), POOL_OK);
    assert_int_equal(again, told);      /* a replacement's is the same: nothing adds up */
    pool_destroy(pool);
    return told;
}

static void niceness_is_added_to_the_hosts(void **state)
{
    int own = getpriority(PRIO_PROCESS, 0);

    (void)state;
    assert_int_equal(niceness_with(0), own);
    assert_int_equal(niceness_with(4), own + 4 < 19 ? own + 4 : 19);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), own);
}

static void a_huge_niceness_is_the_most_there_is(void **state)
{
    (void)state;
    assert_int_equal(niceness_with(1000), 19);
    assert_int_equal(niceness_with(INT_MAX), 19);
}

static void without_permission(void)
{
    const struct rlimit none = {0, 0};

    setrlimit(RLIMIT_NICE, &none);
    if (geteuid() == 0)
        WANT(setresuid(STRANGER, STRANGER, STRANGER) == 0);
    if (getpriority(PRIO_PROCESS, 0) == -20)
        return;
    errno = 0;
    WANT(!pool_create(&(struct pool_options){.workers = 2, .nice = -5}));
    WANT(errno == EPERM);
    WANT(strstr(pool_error(), "niceness") != NULL);
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2, .nice = 1});
    WANT(pool != NULL);                 /* the other way is always open */
    pool_destroy(pool);
}

static void a_lower_niceness_without_permission_fails_pool_create(void **state)
{
    (void)state;
    in_child(without_permission);
}

/* ---- Pinning */

static int tells_cpus(struct pool_task *task)
{
    cpu_set_t cpus;

    if (sched_getaffinity(0, sizeof cpus, &cpus))
        return 1;
    atomic_store(&ledger->pid[task->worker->index], getpid());
    wait_for_gate();
    return pool_return(task, &cpus, sizeof cpus);
}

static size_t nth(const cpu_set_t *cpus, int n)
{
    for (size_t i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, cpus) && n-- == 0)
            return i;
    return CPU_SETSIZE;
}

static int all_there(void *unused)
{
    (void)unused;
    for (int i = 0; i < 3; i++)
        if (!ledger->pid[i])
            return 0;
    return 1;
}

static void each_worker_has_a_cpu_of_its_own(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 3, .pin = 1});
    struct pool_job *job = pool_map_async(pool, tells_cpus, pool_range(3), NULL);
    cpu_set_t usable, own;
    const struct pool_results *list;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof usable, &usable), 0);
    assert_true(check_until(all_there, NULL, PATIENCE));
    atomic_store(&ledger->open, 1);
    assert_int_equal(pool_job_wait(job, PATIENCE), POOL_OK);
    list = pool_job_results(job);
    for (size_t i = 0; i < 3; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        cpu_set_t told;
        int index = 0;

        memcpy(&told, r->data, sizeof told);
        while (index < 3 && ledger->pid[index] != r->pid)
            index++;
        assert_true(index < 3);
        assert_int_equal(CPU_COUNT(&told), 1);
        assert_true(CPU_ISSET(nth(&usable, index % CPU_COUNT(&usable)), &told));
    }
    assert_int_equal(sched_getaffinity(0, sizeof own, &own), 0);
    assert_true(CPU_EQUAL(&own, &usable));      /* the host's own is as it was */
    pool_job_free(job);
    pool_destroy(pool);
}

static void without_pin_they_have_the_hosts(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 2});
    cpu_set_t usable, told;

    (void)state;
    atomic_store(&ledger->open, 1);
    assert_int_equal(sched_getaffinity(0, sizeof usable, &usable), 0);
    assert_int_equal(pool_apply(pool, tells_cpus, NULL, 0, &told, sizeof told, NULL), POOL_OK);
    assert_true(CPU_EQUAL(&told, &usable));
    pool_destroy(pool);
}

/* ---- When, and where not */

static int looks_around(struct pool_worker *worker)
{
    struct rlimit limit;

    (void)worker;
    getrlimit(RLIMIT_CPU, &limit);
    atomic_store(&ledger->pid[0], getpriority(PRIO_PROCESS, 0));
    atomic_store(&ledger->pid[1], (int)limit.rlim_cur);
    return 0;
}

static void initializers_have_the_limits_already(void **state)
{
    struct pool *pool = make((struct pool_options){.workers = 1, .cpu_limit = 77, .nice = 100, .initializer = looks_around});

    (void)state;
    assert_int_equal(ledger->pid[0], 19);
    assert_int_equal(ledger->pid[1], 77);
    pool_destroy(pool);
}

static void a_serial_pool_leaves_the_host_alone(void **state)
{
    struct rlimit before, after;
    int nice_before = getpriority(PRIO_PROCESS, 0);
    struct pool *pool;

    (void)state;
    getrlimit(RLIMIT_CPU, &before);
    pool = make((struct pool_options){.serial = 1, .cpu_limit = 1, .nice = 5, .pin = 1, .memory_limit = 1, .max_tasks = 1,
                                        .max_memory = 1});
    assert_works(pool);
    getrlimit(RLIMIT_CPU, &after);
    assert_true(before.rlim_cur == after.rlim_cur && before.rlim_max == after.rlim_max);
    assert_int_equal(getpriority(PRIO_PROCESS, 0), nice_before);
    pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORY(memory_beyond_the_limit_fails_in_the_task),
        STORY(a_task_that_ignores_it_crashes),
        STORY(a_replacement_has_the_limit_too),
        STORY(what_the_host_had_does_not_count),
        STORY(a_result_beyond_the_limit_fails),
        STORY(a_limit_beyond_all_memory_is_none),
        STORY(a_task_that_loops_is_ended),
        STORY(cpu_seconds_are_rounded_up),
        STORY(no_cpu_limit_is_the_hosts_own),
        STORY(a_cpu_limit_that_makes_no_sense),
        STORY(niceness_is_added_to_the_hosts),
        STORY(a_huge_niceness_is_the_most_there_is),
        STORY(a_lower_niceness_without_permission_fails_pool_create),
        STORY(each_worker_has_a_cpu_of_its_own),
        STORY(without_pin_they_have_the_hosts),
        STORY(initializers_have_the_limits_already),
        STORY(a_serial_pool_leaves_the_host_alone),
    };

    return cmocka_run_group_tests(tests, ledger_setup, ledger_teardown);
}
