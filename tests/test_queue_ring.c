/* The shared part of a queue: what is left by those who die in it, and what makes no sense in it.
 *
 * A child that leaves by _exit with the lock held is one that was killed there: it writes what the code would have written until then. */
#define _GNU_SOURCE
#include "child.h"

#include "clock.h"
#include "fd.h"
#include "queue_beside.h"
#include "queue_ring.h"
#include "robust.h"

#include <string.h>

static struct ring *ring;

static struct ring *made(size_t capacity)
{
    struct ring *fresh = NULL;

    assert_int_equal(ring_create(capacity, &fresh), 0);
    return fresh;
}

static int put(const void *data, size_t size)
{
    int error = ring_lock(&ring->put, clock_deadline(PATIENCE));

    if (error)
        return error;
    error = ring_find_room(ring);
    if (!error)
        ring_put(ring, RING_ITEM, data, size, size);
    ring_unlock(&ring->put);
    return error;
}

/* The size of what was got, or -1. */
static int got(void)
{
    uint64_t after;
    int error, size = -1;

    assert_int_equal(ring_lock(&ring->get, clock_deadline(PATIENCE)), 0);
    const struct ring_record *record = ring_next(ring, &after, &error);
    if (record) {
        size = (int)record->size;
        ring_pop(ring, after, record->size);
    }
    ring_unlock(&ring->get);
    return size;
}

static void records_go_round(void **state)
{
    static const unsigned char data[8192];

    (void)state;
    ring = made(16384);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(put(data, (size_t)(i * 37 % 8192)), 0);
        assert_int_equal(put(data, (size_t)(i % 9)), 0);
        assert_int_equal(got(), i * 37 % 8192);
        assert_int_equal(got(), i % 9);
        assert_true(ring_is_empty(ring));
    }
    ring_unmap(ring);
}

/* Whatever sizes are put, room is a question of capacity alone. */
static void the_ring_holds_its_capacity_in_any_sizes(void **state)
{
    static const unsigned char data[8192];

    (void)state;
    for (size_t shift = 0; shift < 60; shift += 7) {
        ring = made(16384);
        for (size_t i = 0; i < shift; i++) {    /* to begin somewhere else */
            assert_int_equal(put(data, 1000), 0);
            assert_int_equal(got(), 1000);
        }
        for (size_t size = 1; size <= 8192; size = size * 2 + 1) {
            size_t counts = (size + 7) / 8 * 8, n = 0;
            while (put(data, size) == 0)
                n++;
            assert_int_equal(n, (16384 + counts - 1) / counts);
            assert_true(ring_is_full(ring));
            while (n--)
                assert_int_equal(got(), size);
        }
        ring_unmap(ring);
    }
}

/* ---- Deaths */

static void die_with_the_lock(void)
{
    WANT(ring_lock(&ring->put, CLOCK_NEVER) == 0);
    memset(ring->bytes, 0xee, 100);     /* an item half written */
    _exit(0);
}

static void a_dead_putters_half_item_is_not_there(void **state)
{
    (void)state;
    ring = made(100);
    in_child(die_with_the_lock);
    assert_true(ring_is_empty(ring));
    assert_int_equal(put("abc", 3), 0);
    assert_int_equal(got(), 3);
    assert_int_equal(got(), -1);
    ring_unmap(ring);
}

static int steps;                       /* of a commit before it dies */

static void die_in_commit(struct ring_side *side, uint64_t position, uint64_t bytes)
{
    WANT(ring_lock(side, CLOCK_NEVER) == 0);
    if (steps > 0)
        atomic_store(&side->intended_position, position);
    if (steps > 1)
        atomic_store(&side->intended_bytes, bytes);
    if (steps > 2)
        atomic_store(&side->position, position);
    if (steps > 3)
        atomic_store(&side->bytes, bytes);
    _exit(0);
}

static void die_in_put(void)
{
    *(struct ring_record *)(void *)(ring->bytes + 16) = (struct ring_record){RING_ITEM, 5};
    die_in_commit(&ring->put, 32, 16);
}

static void die_in_get(void)
{
    die_in_commit(&ring->get, 16, 8);
}

/* After each step of a commit: the item counts, or it does not, with its bytes. */
static void a_putter_dies_in_its_commit(void **state)
{
    (void)state;
    for (steps = 0; steps <= 4; steps++) {
        ring = made(24);
        assert_int_equal(put("abc", 3), 0);
        in_child(die_in_put);
        int there = steps > 2;
        assert_int_equal(put("x", 1), 0);
        assert_int_equal(put("y", 1), there ? EAGAIN : 0);
        assert_int_equal(got(), 3);
        if (there)
            assert_int_equal(got(), 5);
        assert_int_equal(got(), 1);
        assert_int_equal(got(), there ? -1 : 1);
        assert_int_equal(atomic_load(&ring->put.bytes), atomic_load(&ring->get.bytes));
        ring_unmap(ring);
    }
}

/* Its item is got before anybody has mended the count: then less was put than got, and that is no fullness. */
static void what_is_not_counted_yet_is_no_fullness(void **state)
{
    (void)state;
    ring = made(8);
    assert_int_equal(put("abc", 3), 0);
    assert_int_equal(got(), 3);
    steps = 3;
    in_child(die_in_put);
    assert_int_equal(got(), 5);
    assert_false(ring_is_full(ring));
    assert_int_equal(put("x", 1), 0);
    assert_true(ring_is_full(ring));
    assert_int_equal(got(), 1);
    ring_unmap(ring);
}

static void a_getter_dies_in_its_commit(void **state)
{
    (void)state;
    for (steps = 0; steps <= 4; steps++) {
        ring = made(16);
        assert_int_equal(put("abc", 3), 0);
        assert_int_equal(put("abcd", 4), 0);
        in_child(die_in_get);
        int taken = steps > 2;
        if (!taken)
            assert_int_equal(got(), 3);
        assert_int_equal(got(), 4);
        assert_int_equal(got(), -1);
        assert_int_equal(put("x", 1), 0);
        assert_int_equal(put("y", 1), 0);
        assert_int_equal(put("z", 1), EAGAIN);
        ring_unmap(ring);
    }
}

static void die_mending(void)
{
    WANT(robust_lock(&ring->put.lock, CLOCK_NEVER) == EOWNERDEAD);
    _exit(0);
}

static void who_dies_mending_leaves_it_to_the_next(void **state)
{
    (void)state;
    ring = made(24);
    assert_int_equal(put("abc", 3), 0);
    steps = 3;
    in_child(die_in_put);
    in_child(die_mending);
    in_child(die_mending);
    assert_int_equal(put("x", 1), 0);
    assert_int_equal(put("y", 1), EAGAIN);
    ring_unmap(ring);
}

/* ---- A holder that is stopped */

static void hold_for_ever(void)
{
    ring_lock(&ring->put, CLOCK_NEVER);
    for (;;)
        pause();
}

static int is_locked(void *lock)
{
    if (pthread_mutex_trylock(lock))
        return 1;
    pthread_mutex_unlock(lock);
    return 0;
}

static void a_holder_is_waited_for_until_the_deadline(void **state)
{
    (void)state;
    ring = made(100);
    pid_t pid = fork();
    if (pid == 0)
        hold_for_ever();
    assert_true(check_until(is_locked, &ring->put.lock, PATIENCE));
    int64_t begun = clock_now();
    assert_int_equal(ring_lock(&ring->put, clock_deadline(0.1)), ETIMEDOUT);
    assert_true(clock_now() - begun >= 100000000);
    assert_int_equal(ring_lock(&ring->put, begun), ETIMEDOUT);
    kill(pid, SIGKILL);
    assert_int_equal(put("x", 1), 0);   /* whether it is gone already or not */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    ring_unmap(ring);
}

/* ---- Damage */

static void records_that_make_no_sense_are_told(void **state)
{
    const struct ring_record bad[] = {{RING_ITEM, 1u << 30}, {RING_ITEM, UINT32_MAX}, {RING_ITEM, 17}, {77, 3}, {RING_SKIP, 1u << 20}};
    uint64_t after;
    int error;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ring = made(100);
        assert_int_equal(put("abcdefgh", 8), 0);
        memcpy(ring->bytes, &bad[i], sizeof bad[i]);
        assert_null(ring_next(ring, &after, &error));
        assert_int_equal(error, EBADMSG);
        ring_unmap(ring);
    }
}

/* ---- Beside the ring */

static void the_dead_ones_messages_are_passed_over(void **state)
{
    int ends[2], fd, found;
    char read[8] = "";

    (void)state;
    assert_int_equal(fd_socketpair(ends), 0);
    for (uint64_t serial = 1; serial <= 5; serial++) {
        char text[8] = {'0', 0};
        text[0] = (char)(text[0] + (int)serial);
        assert_int_equal(beside_make(text, 8, &fd), 0);
        assert_int_equal(beside_send(ends[1], serial, fd), 0);
        fd_close(&fd);
    }
    for (int look = 0; look < 2; look++) {      /* it stays until it is dropped */
        assert_int_equal(beside_find(ends[0], 3, &found), 0);
        assert_int_equal(beside_read(found, read, 8), 0);
        assert_string_equal(read, "3");
        fd_close(&found);
    }
    beside_drop(ends[0]);
    assert_int_equal(beside_find(ends[0], 4, &found), 0);
    fd_close(&found);
    beside_sweep(ends[0]);
    assert_int_equal(beside_find(ends[0], 5, &found), EAGAIN);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_go_round),
        cmocka_unit_test(the_ring_holds_its_capacity_in_any_sizes),
        cmocka_unit_test(a_dead_putters_half_item_is_not_there),
        cmocka_unit_test(a_putter_dies_in_its_commit),
        cmocka_unit_test(what_is_not_counted_yet_is_no_fullness),
        cmocka_unit_test(a_getter_dies_in_its_commit),
        cmocka_unit_test(who_dies_mending_leaves_it_to_the_next),
        cmocka_unit_test(a_holder_is_waited_for_until_the_deadline),
        cmocka_unit_test(records_that_make_no_sense_are_told),
        cmocka_unit_test(the_dead_ones_messages_are_passed_over),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
