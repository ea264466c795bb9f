/* The mask, the CPU a thread is on, and moving to another. Each case works on a forked child's mask, or puts it back. */
#define _GNU_SOURCE
#include "child.h"
#include "cpu_place.h"

#include <sched.h>

static cpu_set_t mask(void)
{
    cpu_set_t set;
    WANT(!sched_getaffinity(0, sizeof set, &set));
    return set;
}

static void stay_on(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    WANT(!sched_setaffinity(0, sizeof set, &set));
}

static unsigned lowest_beyond(int last)
{
    cpu_set_t set = mask();
    unsigned cpu = (unsigned)(last + 1);
    while (!CPU_ISSET(cpu, &set))
        WANT(++cpu < CPU_SETSIZE);
    return cpu;
}

static void stay_on_one(void)
{
    unsigned only = lowest_beyond(-1);
    stay_on(only);
    WANT(cpu_affinity() == 1);
    WANT(cpu_here() == only);
    cpu_leave();                        /* nowhere to go */
    WANT(cpu_here() == only);
    WANT(cpu_affinity() == 1);
    _exit(0);
}

static void with_a_mask_of_one_cpu_one_stays_there(void **state)
{
    (void)state;
    in_child(stay_on_one);
}

static void walk(void)
{
    cpu_set_t all = mask();
    for (int round = 0; round < 100; round++) {
        unsigned cpu = lowest_beyond(-1);
        if (round % 2)
            cpu = lowest_beyond((int)cpu);
        stay_on(cpu);
        WANT(cpu_here() == cpu);
        WANT(!sched_setaffinity(0, sizeof all, &all));
    }
    _exit(0);
}

static void one_knows_where_one_is(void **state)
{
    (void)state;
    if (cpu_affinity() < 2)
        skip();
    in_child(walk);
}

/* The kernel may bring it back at once: so not where it is counts, but that it has been elsewhere, which only the kernel's own count of
 * moves would tell. What can be held against it: it ends, where it has been put often enough, on another CPU, and with the mask it had. */
static void leave_often(void)
{
    cpu_set_t all = mask(), after;
    unsigned first = lowest_beyond(-1);
    int left = 0;
    for (int round = 0; round < 100; round++) {
        stay_on(first);
        WANT(!sched_setaffinity(0, sizeof all, &all));
        cpu_leave();
        left += cpu_here() != first;
        after = mask();
        WANT(CPU_EQUAL(&all, &after));
    }
    WANT(left > 0);
    _exit(0);
}

static void leaving_leads_elsewhere_and_keeps_the_mask(void **state)
{
    (void)state;
    if (cpu_affinity() < 2)
        skip();
    in_child(leave_often);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_a_mask_of_one_cpu_one_stays_there),
        cmocka_unit_test(one_knows_where_one_is),
        cmocka_unit_test(leaving_leads_elsewhere_and_keeps_the_mask),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
