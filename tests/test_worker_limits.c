/* What a worker may use, in forked children of the test: limits are relative to what the process has, rounded up, never raised; memory of
 * its own is what it touched itself, not what it shares. */
#define _GNU_SOURCE
#include "child.h"

#include "worker_limits.h"

#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#define MIB ((size_t)1 << 20)
#define STRANGER 65534

static const char *what;

static int apply(struct worker_limits limits, unsigned index)
{
    what = "";
    return worker_limit(&limits, index, &what);
}

static struct rlimit cpu(void)
{
    struct rlimit limit;

    WANT(getrlimit(RLIMIT_CPU, &limit) == 0);
    return limit;
}

static struct rlimit space(void)
{
    struct rlimit limit;

    WANT(getrlimit(RLIMIT_AS, &limit) == 0);
    return limit;
}

static int niceness(void)
{
    return getpriority(PRIO_PROCESS, 0);
}

#define IN_CHILD(name)              \
    static void name(void **state)  \
    {                               \
        (void)state;                \
        in_child(name##_child);     \
    }

/* ---- None */

static void no_limits_change_nothing_child(void)
{
    cpu_set_t before, after;
    struct rlimit cpu_before = cpu(), space_before = space();
    int nice_before = niceness();

    WANT(sched_getaffinity(0, sizeof before, &before) == 0);
    WANT(apply((struct worker_limits){.max_memory = 1}, 3) == 0);
    WANT(sched_getaffinity(0, sizeof after, &after) == 0);
    WANT(CPU_EQUAL(&before, &after));
    WANT(cpu().rlim_cur == cpu_before.rlim_cur && cpu().rlim_max == cpu_before.rlim_max);
    WANT(space().rlim_cur == space_before.rlim_cur && space().rlim_max == space_before.rlim_max);
    WANT(niceness() == nice_before);
}
IN_CHILD(no_limits_change_nothing)

/* ---- CPU time */

static void wants_cpu(double seconds, rlim_t soft)
{
    WANT(apply((struct worker_limits){.cpu_limit = seconds}, 0) == 0);
    WANT(cpu().rlim_cur == soft);
    WANT(cpu().rlim_max == soft + 1);
}

static void cpu_seconds_are_rounded_up_child(void)
{
    wants_cpu(1000.5, 1001);            /* from the highest on: a process cannot raise its own */
    wants_cpu(1000, 1000);
    wants_cpu(7.0000001, 8);
    wants_cpu(2, 2);
    wants_cpu(0.001, 1);
}
IN_CHILD(cpu_seconds_are_rounded_up)

static void endless_cpu_seconds_are_no_limit_child(void)
{
    struct rlimit before = cpu();

    WANT(apply((struct worker_limits){.cpu_limit = INFINITY}, 0) == 0);
    WANT(apply((struct worker_limits){.cpu_limit = 1e300}, 0) == 0);
    WANT(apply((struct worker_limits){.cpu_limit = 0}, 0) == 0);
    WANT(cpu().rlim_cur == before.rlim_cur && cpu().rlim_max == before.rlim_max);
}
IN_CHILD(endless_cpu_seconds_are_no_limit)

static void a_lower_limit_of_the_hosts_stays_child(void)
{
    const struct rlimit low = {50, 60};

    WANT(setrlimit(RLIMIT_CPU, &low) == 0);
    WANT(apply((struct worker_limits){.cpu_limit = 55}, 0) == 0);
    WANT(cpu().rlim_cur == 50 && cpu().rlim_max == 56);
    WANT(apply((struct worker_limits){.cpu_limit = 1000}, 0) == 0);
    WANT(cpu().rlim_cur == 50 && cpu().rlim_max == 56);
}
IN_CHILD(a_lower_limit_of_the_hosts_stays)

/* ---- Address space */

static size_t total(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    WANT(file != NULL);
    WANT(fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void address_space_is_limited_beyond_what_there_is_child(void)
{
    const size_t more = 300 * MIB;
    size_t has = total(), limit;

    WANT(apply((struct worker_limits){.memory_limit = more}, 0) == 0);
    limit = (size_t)space().rlim_cur;
    WANT(limit >= has + more - 8 * MIB && limit <= has + more + 8 * MIB);
    WANT(space().rlim_max == space().rlim_cur);
}
IN_CHILD(address_space_is_limited_beyond_what_there_is)

static void more_address_space_than_there_can_be_is_no_limit_child(void)
{
    struct rlimit before = space();

    WANT(apply((struct worker_limits){.memory_limit = SIZE_MAX}, 0) == 0);
    WANT(apply((struct worker_limits){.memory_limit = SIZE_MAX / 2}, 0) == 0);
    WANT(space().rlim_cur == before.rlim_cur && space().rlim_max == before.rlim_max);
}
IN_CHILD(more_address_space_than_there_can_be_is_no_limit)

static void a_lower_address_space_of_the_hosts_stays_child(void)
{
    rlim_t most = (rlim_t)(total() + 500 * MIB);
    const struct rlimit low = {most, most};

    WANT(setrlimit(RLIMIT_AS, &low) == 0);
    WANT(apply((struct worker_limits){.memory_limit = 4000 * MIB}, 0) == 0);
    WANT(space().rlim_cur == most && space().rlim_max == most);
}
IN_CHILD(a_lower_address_space_of_the_hosts_stays)

/* ---- Niceness */

static void niceness_is_added_child(void)
{
    int before = niceness();

    WANT(apply((struct worker_limits){.nice = 3}, 0) == 0);
    WANT(niceness() == (before + 3 < 19 ? before + 3 : 19));
    WANT(apply((struct worker_limits){.nice = 2}, 0) == 0);
    WANT(niceness() == (before + 5 < 19 ? before + 5 : 19));
}
IN_CHILD(niceness_is_added)

static void a_huge_niceness_is_the_most_there_is_child(void)
{
    WANT(apply((struct worker_limits){.nice = 40}, 0) == 0);
    WANT(niceness() == 19);
    WANT(apply((struct worker_limits){.nice = INT_MAX}, 0) == 0);
    WANT(niceness() == 19);
}
IN_CHILD(a_huge_niceness_is_the_most_there_is)

static void become_a_stranger(void)
{
    const struct rlimit none = {0, 0};

    setrlimit(RLIMIT_NICE, &none);
    if (geteuid() == 0)
        WANT(setresuid(STRANGER, STRANGER, STRANGER) == 0);
}

static void a_lower_niceness_without_permission_is_eperm_child(void)
{
    int before = niceness();

    become_a_stranger();
    if (before > -20) {
        WANT(apply((struct worker_limits){.nice = -1}, 0) == EPERM);
        WANT(strstr(what, "niceness") != NULL);
        WANT(niceness() == before);
    }
}
IN_CHILD(a_lower_niceness_without_permission_is_eperm)

/* From a negative one too: the sum is beyond any int. */
static void the_least_niceness_of_all_child(void)
{
    if (geteuid() != 0 || setpriority(PRIO_PROCESS, 0, -5))
        return;                         /* the way there is closed */
    WANT(apply((struct worker_limits){.nice = INT_MIN}, 0) == 0);
    WANT(niceness() == -20);
}
IN_CHILD(the_least_niceness_of_all)

/* ---- CPUs */

static void each_index_has_its_cpu_child(void)
{
    cpu_set_t usable, now;
    unsigned count, index, cpus[CPU_SETSIZE], n = 0;

    WANT(sched_getaffinity(0, sizeof usable, &usable) == 0);
    count = (unsigned)CPU_COUNT(&usable);
    for (unsigned i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &usable))
            cpus[n++] = i;
    for (index = 0; index < 2 * count + 1 && index < 64; index++) {
        WANT(sched_setaffinity(0, sizeof usable, &usable) == 0);
        WANT(apply((struct worker_limits){.pin = 1}, index) == 0);
        WANT(sched_getaffinity(0, sizeof now, &now) == 0);
        WANT(CPU_COUNT(&now) == 1);
        WANT(CPU_ISSET(cpus[index % count], &now));
    }
    WANT(sched_setaffinity(0, sizeof usable, &usable) == 0);
    WANT(apply((struct worker_limits){.pin = 1}, UINT_MAX) == 0);
}
IN_CHILD(each_index_has_its_cpu)

/* ---- Memory of its own */

static char *map(int how)
{
    char *at = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS, -1, 0);

    WANT(at != MAP_FAILED);
    return at;
}

static void what_it_touches_is_its_own_child(void)
{
    size_t before = worker_memory(), after;
    char *at = map(MAP_PRIVATE);

    WANT(before > 0);
    after = worker_memory();
    WANT(after < before + 32 * MIB);    /* mapped is not touched */
    memset(at, 1, 64 * MIB);
    after = worker_memory();
    WANT(after >= before + 60 * MIB);
    WANT(check_under("") || after <= before + 72 * MIB);
    munmap(at, 64 * MIB);
    WANT(worker_memory() <= after - 60 * MIB);
}
IN_CHILD(what_it_touches_is_its_own)

static void what_it_shares_is_not_child(void)
{
    size_t before = worker_memory();

    memset(map(MAP_SHARED), 1, 64 * MIB);
    WANT(worker_memory() < before + 32 * MIB);
}

static void what_it_shares_is_not(void **state)
{
    (void)state;
    if (check_under("")) {
        print_message("skipped: a tool keeps books of its own on what is touched\n");
        skip();
    }
    in_child(what_it_shares_is_not_child);
}

static char *inherited;

static void what_it_inherited_stays_what_it_was_child(void)
{
    size_t before = worker_memory();
    long sum = 0;

    for (size_t i = 0; i < 64 * MIB; i += 512)
        sum += ((volatile char *)inherited)[i];
    WANT(sum > 0);
    WANT(worker_memory() < before + 16 * MIB);
    memset(inherited, 2, 64 * MIB);     /* written anew it is a copy, but no more than before */
    WANT(worker_memory() < before + 16 * MIB);
}

static void what_it_inherited_stays_what_it_was(void **state)
{
    (void)state;
    if (check_under("")) {
        print_message("skipped: a tool keeps books of its own on what is touched\n");
        skip();
    }
    inherited = mmap(NULL, 64 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(inherited != MAP_FAILED);
    memset(inherited, 1, 64 * MIB);
    in_child(what_it_inherited_stays_what_it_was_child);
    munmap(inherited, 64 * MIB);
}

static void it_is_told_without_any_descriptor_child(void)
{
    const struct rlimit few = {4, 4};
    int fd;

    for (fd = 3; fd < 256; fd++)
        close(fd);
    if (check_under("")) {
        print_message("skipped: a tool needs descriptors of its own\n");
        return;
    }
    WANT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    WANT(worker_memory() > 0);
    for (int i = 0; i < 20; i++)
        worker_memory();                /* it keeps none open either */
    WANT(worker_memory() > 0);
    while (open("/dev/null", O_RDONLY) >= 0)
        ;
    WANT(worker_memory() == 0);         /* cannot be told, and is not a crash */
}
IN_CHILD(it_is_told_without_any_descriptor)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_limits_change_nothing),
        cmocka_unit_test(cpu_seconds_are_rounded_up),
        cmocka_unit_test(endless_cpu_seconds_are_no_limit),
        cmocka_unit_test(a_lower_limit_of_the_hosts_stays),
        cmocka_unit_test(address_space_is_limited_beyond_what_there_is),
        cmocka_unit_test(more_address_space_than_there_can_be_is_no_limit),
        cmocka_unit_test(a_lower_address_space_of_the_hosts_stays),
        cmocka_unit_test(niceness_is_added),
        cmocka_unit_test(a_huge_niceness_is_the_most_there_is),
        cmocka_unit_test(a_lower_niceness_without_permission_is_eperm),
        cmocka_unit_test(the_least_niceness_of_all),
        cmocka_unit_test(each_index_has_its_cpu),
        cmocka_unit_test(what_it_touches_is_its_own),
        cmocka_unit_test(what_it_shares_is_not),
        cmocka_unit_test(what_it_inherited_stays_what_it_was),
        cmocka_unit_test(it_is_told_without_any_descriptor),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
