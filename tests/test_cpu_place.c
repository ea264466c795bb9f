/* The number of its own CPU, after a vfork. The rest of the file: test_cpu.c, and story_task_changes_process.c for workers. */
#define _GNU_SOURCE
#include "child.h"
#include "cpu_place.h"

#include <sched.h>

static void stay_on(size_t cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    WANT(!sched_setaffinity(0, sizeof one, &one));
}

static void walk(void)
{
    cpu_set_t all;
    WANT(!sched_getaffinity(0, sizeof all, &all));
    for (int round = 0; round < 10; round++)
        for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (!CPU_ISSET(cpu, &all))
                continue;
            stay_on(cpu);
            WANT(sched_getcpu() == (int)cpu);
        }
}

static void walk_tracked(void)
{
    cpu_track();
    cpu_track();                        /* once more does no harm */
    walk();
    _exit(0);
}

/* As in_child, but for the process in between. */
static void a_child_of_a_vfork_knows_its_cpu(void **state)
{
    (void)state;
    int status = -1;
    pid_t between = vfork();            /* NOLINT(clang-analyzer-security.insecureAPI.vfork) */
    if (between == 0) {
        static pid_t child;
        child = fork();                 /* NOLINT(clang-analyzer-unix.Vfork) */
        if (child == 0)
            walk_tracked();
        while (waitpid(child, &status, 0) < 0)  /* NOLINT(clang-analyzer-unix.Vfork) */
            ;
        _exit(status != 0);
    }
    assert_true(between > 0);
    assert_int_equal(waitpid(between, &status, 0), between);
    assert_int_equal(status, 0);
}

static void without_one_it_does_no_harm(void **state)
{
    (void)state;
    in_child(walk_tracked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_child_of_a_vfork_knows_its_cpu),
        cmocka_unit_test(without_one_it_does_no_harm),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
