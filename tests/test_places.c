/* Places: an index has one holder at a time, its heir takes over when the holder is done with, and only ready holders are hands. */
#define _GNU_SOURCE
#include "check.h"

#include "places.h"

#include <string.h>

enum { SLOTS = 4, MOST = 2 };

static struct crew crew;
static struct crew_worker workers[SLOTS], *hands[SLOTS];
static struct place places[MOST];

static int make(void **state)
{
    (void)state;
    memset(&crew, 0, sizeof crew);
    memset(workers, 0, sizeof workers);
    memset(places, 0, sizeof places);
    crew.size = crew.most = MOST;
    crew.slots = SLOTS;
    crew.workers = workers;
    crew.places = places;
    crew.hands = hands;
    for (unsigned i = 0; i < SLOTS; i++)
        workers[i].slot = i;
    return 0;
}

/* ---- Slots */

static void a_free_slot_is_one_without_a_place(void **state)
{
    (void)state;
    assert_ptr_equal(places_free_slot(&crew), &workers[0]);
    places_hold(&crew, &workers[0], 0);
    assert_ptr_equal(places_free_slot(&crew), &workers[1]);
    places_inherit(&crew, &workers[1], 0);
    assert_ptr_equal(places_free_slot(&crew), &workers[2]);
}

static void a_slot_with_a_process_is_not_free(void **state)
{
    (void)state;
    for (int s = WORKER_STARTING; s <= WORKER_DEAD; s++) {
        workers[0].state = (enum worker_state)s;
        assert_ptr_equal(places_free_slot(&crew), &workers[1]);
    }
}

static void no_slot_is_free(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SLOTS; i++)
        workers[i].state = WORKER_READY;
    assert_null(places_free_slot(&crew));
    workers[3].state = WORKER_UNBORN;
    assert_ptr_equal(places_free_slot(&crew), &workers[3]);
}

/* ---- Holding, inheriting */

static void a_holder_has_its_index(void **state)
{
    (void)state;
    workers[2].born_at = 77;
    places_hold(&crew, &workers[2], 1);
    assert_ptr_equal(places[1].holder, &workers[2]);
    assert_null(places[1].heir);
    assert_int_equal(workers[2].index, 1);
    assert_int_equal(workers[2].placed, 1);
    assert_true(workers[2].born_at == 0);       /* at once, whatever its slot was waiting for */
    assert_true(places_is_holder(&crew, &workers[2]));
}

static void an_heir_is_no_holder(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 1);
    workers[1].born_at = 77;
    places_inherit(&crew, &workers[1], 1);
    assert_ptr_equal(places[1].heir, &workers[1]);
    assert_ptr_equal(places[1].holder, &workers[0]);
    assert_int_equal(workers[1].index, 1);
    assert_true(workers[1].born_at == 0);
    assert_false(places_is_holder(&crew, &workers[1]));
    assert_true(places_is_holder(&crew, &workers[0]));
}

static void a_slot_of_nobodys_is_no_holder(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 0);
    assert_false(places_is_holder(&crew, &workers[3]));         /* its index is 0 as well, by chance */
}

/* ---- Succeeding */

static void the_heir_takes_the_place(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 1);
    places_inherit(&crew, &workers[1], 1);
    assert_ptr_equal(places_succeed(&crew, &workers[0]), &workers[1]);
    assert_ptr_equal(places[1].holder, &workers[1]);
    assert_null(places[1].heir);
    assert_int_equal(workers[0].placed, 0);
    assert_true(places_is_holder(&crew, &workers[1]));
    assert_false(places_is_holder(&crew, &workers[0]));
}

static void without_an_heir_the_place_is_empty(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 0);
    assert_null(places_succeed(&crew, &workers[0]));
    assert_null(places[0].holder);
    assert_int_equal(workers[0].placed, 0);
}

static void a_ready_heir_is_a_hand_at_once(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 0);
    places_inherit(&crew, &workers[1], 0);
    workers[1].state = WORKER_READY;
    places_succeed(&crew, &workers[0]);
    assert_int_equal(crew.hands_count, 1);
    assert_ptr_equal(crew.hands[0], &workers[1]);
}

static void one_that_starts_is_not_yet(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 0);
    places_inherit(&crew, &workers[1], 0);
    workers[1].state = WORKER_STARTING;
    assert_ptr_equal(places_succeed(&crew, &workers[0]), &workers[1]);
    assert_int_equal(crew.hands_count, 0);
}

static void an_heir_is_not_disturbed_by_another_index(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 0);
    places_hold(&crew, &workers[1], 1);
    places_inherit(&crew, &workers[2], 0);
    places_inherit(&crew, &workers[3], 1);
    assert_ptr_equal(places_succeed(&crew, &workers[1]), &workers[3]);
    assert_ptr_equal(places[0].holder, &workers[0]);
    assert_ptr_equal(places[0].heir, &workers[2]);
}

/* ---- Leaving */

static void a_holder_that_leaves_leaves_its_heir(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 1);
    places_inherit(&crew, &workers[1], 1);
    places_leave(&crew, &workers[0]);
    assert_null(places[1].holder);
    assert_ptr_equal(places[1].heir, &workers[1]);
    assert_int_equal(workers[0].placed, 0);
}

static void an_heir_that_leaves_leaves_the_holder(void **state)
{
    (void)state;
    places_hold(&crew, &workers[0], 1);
    places_inherit(&crew, &workers[1], 1);
    places_leave(&crew, &workers[1]);
    assert_ptr_equal(places[1].holder, &workers[0]);
    assert_null(places[1].heir);
    assert_int_equal(workers[1].placed, 0);
}

static void a_slot_can_be_used_again_and_again(void **state)
{
    struct crew_worker *holder = places_free_slot(&crew), *heir;

    (void)state;
    places_hold(&crew, holder, 1);
    for (int i = 0; i < 20; i++) {
        heir = places_free_slot(&crew);
        assert_non_null(heir);
        places_inherit(&crew, heir, 1);
        assert_ptr_equal(places_succeed(&crew, holder), heir);
        holder = heir;
    }
    assert_ptr_equal(places[1].holder, holder);
    assert_null(places[0].holder);
}

/* ---- Hands */

static void a_hand_is_added_once(void **state)
{
    (void)state;
    places_add_hand(&crew, &workers[2]);
    places_add_hand(&crew, &workers[2]);
    assert_int_equal(crew.hands_count, 1);
    assert_int_equal(workers[2].hand, 1);
}

static void the_last_hand_fills_the_gap(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++)
        places_add_hand(&crew, &workers[i]);
    places_remove_hand(&crew, &workers[0]);
    assert_int_equal(crew.hands_count, 2);
    assert_ptr_equal(crew.hands[0], &workers[2]);
    assert_ptr_equal(crew.hands[1], &workers[1]);
    assert_int_equal(workers[0].hand, 0);
    assert_int_equal(workers[2].hand, 1);
    assert_int_equal(workers[1].hand, 2);
}

static void the_last_hand_can_be_removed_itself(void **state)
{
    (void)state;
    places_add_hand(&crew, &workers[0]);
    places_add_hand(&crew, &workers[1]);
    places_remove_hand(&crew, &workers[1]);
    assert_int_equal(crew.hands_count, 1);
    assert_ptr_equal(crew.hands[0], &workers[0]);
    assert_int_equal(workers[1].hand, 0);
    places_remove_hand(&crew, &workers[0]);
    assert_int_equal(crew.hands_count, 0);
}

static void removing_what_is_no_hand_does_nothing(void **state)
{
    (void)state;
    places_add_hand(&crew, &workers[0]);
    places_remove_hand(&crew, &workers[1]);
    assert_int_equal(crew.hands_count, 1);
    assert_int_equal(workers[0].hand, 1);
}

/* Every hand knows its place, whatever came and went. */
static void hands_in_any_order(void **state)
{
    unsigned seed = 7, there = 0;

    (void)state;
    for (int round = 0; round < 2000; round++) {
        seed = seed * 1103515245u + 12345u;
        unsigned i = (seed >> 16) % SLOTS, count = 0;
        if (seed >> 31) {
            places_add_hand(&crew, &workers[i]);
            there |= 1u << i;
        } else {
            places_remove_hand(&crew, &workers[i]);
            there &= ~(1u << i);
        }
        for (unsigned k = 0; k < SLOTS; k++) {
            assert_int_equal(workers[k].hand != 0, (there >> k) & 1);
            if (workers[k].hand)
                assert_ptr_equal(crew.hands[workers[k].hand - 1], &workers[k]);
            count += (there >> k) & 1;
        }
        assert_int_equal(crew.hands_count, count);
    }
}

#define PLACES(function) cmocka_unit_test_setup(function, make)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACES(a_free_slot_is_one_without_a_place),
        PLACES(a_slot_with_a_process_is_not_free),
        PLACES(no_slot_is_free),
        PLACES(a_holder_has_its_index),
        PLACES(an_heir_is_no_holder),
        PLACES(a_slot_of_nobodys_is_no_holder),
        PLACES(the_heir_takes_the_place),
        PLACES(without_an_heir_the_place_is_empty),
        PLACES(a_ready_heir_is_a_hand_at_once),
        PLACES(one_that_starts_is_not_yet),
        PLACES(an_heir_is_not_disturbed_by_another_index),
        PLACES(a_holder_that_leaves_leaves_its_heir),
        PLACES(an_heir_that_leaves_leaves_the_holder),
        PLACES(a_slot_can_be_used_again_and_again),
        PLACES(a_hand_is_added_once),
        PLACES(the_last_hand_fills_the_gap),
        PLACES(the_last_hand_can_be_removed_itself),
        PLACES(removing_what_is_no_hand_does_nothing),
        PLACES(hands_in_any_order),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
