/* The pool's lock: whether it is bare, and that nobody gets past it. The tests are in that order: with the last, the program has had a
 * second thread. */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"
#include "helper.h"

#include <errno.h>
#include <string.h>

static struct sched sched;

static int begin(void **state)
{
    (void)state;
    memset(&sched, 0, sizeof sched);
    return sched_init(&sched, 1, 0);
}

static int end(void **state)
{
    (void)state;
    sched_fini(&sched);
    return 0;
}

/* With the mutex, which another thread would wait for. */
static int is_held(void)
{
    int r = pthread_mutex_trylock(&sched.lock.mutex);
    if (!r)
        pthread_mutex_unlock(&sched.lock.mutex);
    return r == EBUSY;
}

static void need_one_thread(void)
{
    if (lock_is_alone())
        return;
    print_message("libc does not say that there is one thread\n");
    skip();
}

static void one_thread_needs_no_mutex(void **state)
{
    (void)state;
    need_one_thread();
    for (int i = 0; i < 2; i++) {
        sched_enter(&sched);
        assert_false(is_held());
        sched_leave(&sched);
    }
}

static void a_lock_that_is_shared_is_held(void **state)
{
    (void)state;
    sched_enter(&sched);
    lock_share(&sched.lock);
    lock_share(&sched.lock);
    assert_true(is_held());
    sched_leave(&sched);
    assert_false(is_held());
}

static void whoever_has_slept_holds_it(void **state)
{
    (void)state;
    sched_enter(&sched);
    sched_sleep(&sched, &sched.waiter, NULL, clock_now() - 1);
    assert_true(is_held());
    sched_leave(&sched);
    assert_false(is_held());
}

static void whoever_starts_a_thread_holds_it(void **state)
{
    struct helper helper = {.sched = &sched};
    (void)state;
    sched_enter(&sched);
    assert_int_equal(helper_attend(&helper), 0);
    assert_true(is_held());
    helper_stop(&helper);
    sched_leave(&sched);
    assert_false(is_held());
}

int main(void)
{
#define ON_SCHED(function) cmocka_unit_test_setup_teardown(function, begin, end)
    const struct CMUnitTest tests[] = {
        ON_SCHED(one_thread_needs_no_mutex),
        ON_SCHED(a_lock_that_is_shared_is_held),
        ON_SCHED(whoever_has_slept_holds_it),
        ON_SCHED(whoever_starts_a_thread_holds_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
