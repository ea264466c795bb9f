/* Workers' lives, without any: workers that die as soon as they are ready are replaced ever more slowly, and not for ever; and each birth
 * counts once. */
#define _GNU_SOURCE
#include "check.h"

#include "lives.c" /* NOLINT(bugprone-suspicious-include) */

#include <stdlib.h>
#include <string.h>

static struct crew crew;
static struct crew_worker worker;
static struct pollfd polls[CREW_POLL_WORKERS + 1];
static struct crew_worker *watched[1], *hands[1];
static struct place place;

static int make(void **state)
{
    (void)state;
    memset(&crew, 0, sizeof crew);
    memset(&worker, 0, sizeof worker);
    worker.task_pipe = worker.task_pipe_far = worker.result_pipe = -1;
    memset(&place, 0, sizeof place);
    crew.size = crew.most = crew.slots = 1;
    crew.places = &place;
    crew.hands = hands;
    place.holder = &worker;
    worker.placed = 1;
    crew.workers = &worker;
    crew.polls = polls;
    crew.watched = watched;
    return 0;
}

/* One that was ready has been reaped, after it had ended so many items. */
static void die(uint32_t ended)
{
    worker.state = WORKER_DEAD;
    worker.was_ready = 1;
    worker.wait_status = SIGKILL;
    worker.books.taken = ended;
    worker.born_at = 0;
    crew.alive++;
    crew_bury(&crew, &worker);
}

static void the_first_idle_deaths_are_made_good_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        die(0);
        assert_int_equal(worker.state, WORKER_UNBORN);
        assert_true(worker.born_at == 0);
    }
}

static void more_of_them_are_made_good_ever_later(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        die(0);
    int64_t before = 0;
    for (int i = 0; i < 8; i++) {
        int64_t now = clock_now();
        die(0);
        assert_true(worker.born_at - now > before);
        assert_true(worker.born_at - clock_now() < 200000000);
        before = worker.born_at - clock_now();
    }
}

static void a_hundred_of_them_break_the_crew(void **state)
{
    (void)state;
    for (int i = 0; i < 99; i++)
        die(0);
    assert_int_equal(crew.broken, 0);
    die(0);
    assert_int_equal(crew.broken, ECANCELED);
    assert_non_null(strstr(crew.why, "as soon as they are ready"));
    assert_non_null(strstr(crew.why, "SIGKILL"));
}

static void a_worker_that_has_ended_something_begins_the_count_anew(void **state)
{
    (void)state;
    for (int i = 0; i < 99; i++)
        die(0);
    die(1);
    die(0);
    assert_int_equal(crew.broken, 0);
    assert_true(worker.born_at == 0);
}

static void a_crew_that_leaves_does_not_count(void **state)
{
    (void)state;
    crew.leaving = 1;
    for (int i = 0; i < 200; i++)
        die(0);
    assert_int_equal(crew.broken, 0);
}

static void report(enum nursery_state state)
{
    hear_of(&crew, &(struct nursery_report){.state = state, .pid = 77});
}

static void a_birth_counts_once(void **state)
{
    (void)state;
    worker.state = WORKER_STARTING;
    report(NURSERY_BORN);
    report(NURSERY_DEAD);
    assert_int_equal(place.births, 1);
    assert_int_equal(worker.state, WORKER_DEAD);
}

static void a_birth_that_its_death_overtook_counts(void **state)
{
    (void)state;
    worker.state = WORKER_STARTING;
    report(NURSERY_DEAD);
    assert_int_equal(place.births, 1);
    assert_int_equal(worker.pid, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_first_idle_deaths_are_made_good_at_once, make),
        cmocka_unit_test_setup(more_of_them_are_made_good_ever_later, make),
        cmocka_unit_test_setup(a_hundred_of_them_break_the_crew, make),
        cmocka_unit_test_setup(a_worker_that_has_ended_something_begins_the_count_anew, make),
        cmocka_unit_test_setup(a_crew_that_leaves_does_not_count, make),
        cmocka_unit_test_setup(a_birth_counts_once, make),
        cmocka_unit_test_setup(a_birth_that_its_death_overtook_counts, make),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
