/* When a worker holds that it sits on its caller's CPU, and when it moves. The desk is ours, and so is the caller's word in it: it says
 * whatever CPU this process is on, or another one. */
#define _GNU_SOURCE
#include "child.h"
#include "cpu_place.h"
#include "seat.h"

#include <sched.h>

#define BRIEF 100000                    /* nanoseconds: wake-ups further apart do not count */

static struct desk desk;
static struct seat seat;

static void be_where(uint32_t caller, uint32_t worker)
{
    atomic_store(&desk.caller_cpu, caller);
    atomic_store(&desk.worker_cpu, worker);
}

static int begin(void **state)
{
    (void)state;
    seat = (struct seat){0};
    be_where(CPU_UNKNOWN, CPU_UNKNOWN);
    return 0;
}

/* Wakes it again and again beside its caller, until it moves or `most` times. Returns how often it had to. */
static unsigned woken_until_it_moves(unsigned most)
{
    for (unsigned i = 1; i <= most; i++) {
        be_where(cpu_here(), CPU_UNKNOWN);
        unsigned before = seat.extra;
        seat_woken(&seat, &desk);
        if (seat.extra != before)
            return i;
    }
    return 0;
}

static void nobody_knows_where_nobody_is(void **state)
{
    (void)state;
    assert_false(seat_holds_worker(&desk, CPU_UNKNOWN));
    assert_false(seat_is_shared(&desk));
}

/* This process may be moved by the kernel in between, so that a comparison fails once; not each time. */
static void a_seat_is_shared_where_both_are(void **state)
{
    (void)state;
    int shared = 0;
    for (int i = 0; i < 1000 && !shared; i++) {
        be_where(cpu_here(), CPU_UNKNOWN);
        shared = seat_is_shared(&desk) && seat_holds_worker(&desk, cpu_here());
    }
    assert_true(shared);
    be_where(cpu_here() + 4096, CPU_UNKNOWN);
    assert_false(seat_is_shared(&desk));
    assert_false(seat_holds_worker(&desk, cpu_here() + 4096));
}

static void who_is_woken_beside_its_caller_moves_in_the_end(void **state)
{
    (void)state;
    unsigned first = woken_until_it_moves(1000000);
    assert_true(first > 1);
    unsigned second = woken_until_it_moves(1000000);
    assert_true(second > first);
}

static void who_is_woken_elsewhere_stays(void **state)
{
    (void)state;
    for (int i = 0; i < 10000; i++) {
        be_where(cpu_here() + 4096, CPU_UNKNOWN);
        assert_false(seat_woken(&seat, &desk));
    }
    assert_int_equal(seat.extra, 0);
}

static void who_is_woken_seldom_stays(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        be_where(cpu_here(), CPU_UNKNOWN);
        seat.woken_at -= 2 * BRIEF;
        assert_false(seat_woken(&seat, &desk));
    }
    assert_int_equal(seat.extra, 0);
}

static void what_pays_makes_it_forget(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        woken_until_it_moves(1000000);
    assert_true(seat.extra > 0);
    unsigned most = seat.extra;
    woken_until_it_moves(1000000);
    assert_int_equal(seat.extra, most);         /* its patience has an end */
    unsigned spins = 0;
    for (; seat.extra; spins++)
        seat_paid(&seat);
    assert_in_range(spins, 100, 1000);
    seat_paid(&seat);
    assert_int_equal(seat.extra, 0);
}

/* Moving itself: test_cpu_place.c. Here, that it happens, and what the caller reads meanwhile. */
static void move(void)
{
    int moved = 0;
    for (int i = 0; i < 100 && !moved; i++) {
        seat = (struct seat){0};
        while (!moved && !seat.extra) {
            be_where(cpu_here(), CPU_UNKNOWN);
            moved = seat_woken(&seat, &desk);
        }
    }
    WANT(moved);
    WANT(atomic_load(&desk.worker_cpu) != atomic_load(&desk.caller_cpu));
    _exit(0);
}

static void it_moves(void **state)
{
    (void)state;
    if (cpu_affinity() < 2)
        skip();
    in_child(move);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(nobody_knows_where_nobody_is, begin),
        cmocka_unit_test_setup(a_seat_is_shared_where_both_are, begin),
        cmocka_unit_test_setup(who_is_woken_beside_its_caller_moves_in_the_end, begin),
        cmocka_unit_test_setup(who_is_woken_elsewhere_stays, begin),
        cmocka_unit_test_setup(who_is_woken_seldom_stays, begin),
        cmocka_unit_test_setup(what_pays_makes_it_forget, begin),
        cmocka_unit_test_setup(it_moves, begin),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
