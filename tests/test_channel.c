/* A channel: its parts, its streams, and the handshake by which no side sleeps through the other's news. */
#define _GNU_SOURCE
#include "channel.h"
#include "check.h"
#include "claims.h"
#include "fd.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SLOT = 64 << 10 };

static struct desk *new_desk(void)
{
    struct desk *desk = aligned_alloc(64, sizeof *desk);
    struct channel channel = {.desk = desk};
    assert_non_null(desk);
    memset(desk, 0x77, sizeof *desk);
    channel_reset(&channel, CHANNEL_LANE_ALL);
    return desk;
}

/* ---- Parts */

static void the_parts_fill_the_region_without_overlap(void **state)
{
    (void)state;
    struct channel c;
    size_t size = channel_region(SLOT);
    unsigned char *region = aligned_alloc(64, size);
    assert_non_null(region);
    channel_lay(&c, NULL, region, SLOT);
    const struct { unsigned char *at; size_t size; } parts[] = {
        {c.tasks.bytes, CHANNEL_TASKS}, {c.results.bytes, CHANNEL_RESULTS},
        {c.item_stream, CHANNEL_STREAM}, {c.result_stream, CHANNEL_STREAM},
        {c.item_slots, SLOT * CHANNEL_LANE_SLOTS}, {c.result_slots, SLOT * CHANNEL_LANE_SLOTS},
        {c.item_slots - CHANNEL_LANE_SHIFT, CHANNEL_LANE_SHIFT},
    };
    memset(region, 0, size);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        for (size_t k = 0; k < parts[i].size; k++)
            parts[i].at[k]++;
    for (size_t k = 0; k < size; k++)
        if (region[k] != 1)
            fail_msg("byte %zu belongs to %d parts", k, region[k]);
    free(region);
}

static void every_part_is_aligned_for_items(void **state)
{
    (void)state;
    struct channel c;
    channel_lay(&c, NULL, (void *)4096, SLOT);
    assert_int_equal((uintptr_t)c.tasks.bytes % 64, 0);
    assert_int_equal((uintptr_t)c.results.bytes % 16, 0);
    assert_int_equal((uintptr_t)c.item_slots % 4096, CHANNEL_LANE_SHIFT);
    assert_int_equal((uintptr_t)c.result_slots % 4096, CHANNEL_LANE_SHIFT);
    assert_int_equal(CHANNEL_LANE_SHIFT % 64, 0);
}

static void a_span_of_items_begins_at_a_cache_line(void **state)
{
    (void)state;
    assert_int_equal((FRAME_HEAD + sizeof(struct task_span)) % 64, 0);
}

static void each_writer_has_lines_of_its_own(void **state)
{
    (void)state;
    const size_t at[] = {offsetof(struct desk, claim), offsetof(struct desk, result_head), offsetof(struct desk, result_tail),
                         offsetof(struct desk, lane_free), offsetof(struct desk, caller_state), offsetof(struct desk, worker_state)};
    for (size_t i = 1; i < 6; i++)
        assert_true(at[i] / 64 > at[i - 1] / 64);
    assert_true(sizeof(struct desk) <= 4096);
}

static void a_reset_desk_is_empty(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    struct channel c = {.desk = d};
    memset(d, 0x77, sizeof *d);
    channel_reset(&c, 5);
    assert_true(d->claim == 0 && d->result_head == 0 && d->result_tail == 0);
    assert_true(d->item_stream_head == 0 && d->item_stream_tail == 0 && d->result_stream_head == 0 && d->result_stream_tail == 0);
    assert_true(d->lane_free == 5);
    assert_true(d->caller_state == CHANNEL_AWAKE && d->worker_state == CHANNEL_AWAKE);
    free(d);
}

/* ---- Sleep words */

static void a_worker_awake_is_not_woken(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    assert_false(channel_must_wake_worker(d));
    assert_false(channel_must_wake_stuck_worker(d));
    free(d);
}

static void a_sleeping_worker_is_woken_once(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    d->worker_state = CHANNEL_ASLEEP;
    assert_true(channel_must_wake_worker(d));
    assert_false(channel_must_wake_worker(d));
    free(d);
}

static void a_worker_without_work_sleeps_through_room(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    d->worker_state = CHANNEL_ASLEEP;
    assert_false(channel_must_wake_stuck_worker(d));
    assert_true(channel_must_wake_worker(d));
    free(d);
}

static void a_stuck_worker_is_woken_by_either(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    d->worker_state = CHANNEL_STUCK;
    assert_true(channel_must_wake_stuck_worker(d));
    d->worker_state = CHANNEL_STUCK;
    assert_true(channel_must_wake_worker(d));
    free(d);
}

static void a_word_written_over_wakes(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    d->worker_state = 0;
    assert_true(channel_must_wake_worker(d));
    d->worker_state = 0xffffffff;
    assert_true(channel_must_wake_stuck_worker(d));
    d->caller_state = 0;
    assert_true(channel_must_wake_caller_now(d));
    channel_caller_waits(d, CHANNEL_WATCHING, 1);
    d->caller_state = 0;
    assert_true(channel_caller_was_woken(d));
    free(d);
}

static void a_caller_is_woken_from_its_position_on(void **state)
{
    (void)state;
    const struct { uint32_t wake_at, finished; int wakes; } cases[] = {
        {5, 4, 0}, {5, 5, 1}, {5, 6, 1}, {1, 0, 0}, {0, CLAIM_MASK, 0}, {CLAIM_MASK, CLAIM_MASK, 1}, {CLAIM_MASK, 0, 1}, {CLAIM_MASK, 3, 1},
    };
    struct desk *d = new_desk();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        channel_caller_waits(d, CHANNEL_ASLEEP, cases[i].wake_at);
        assert_int_equal(channel_must_wake_caller(d, cases[i].finished), cases[i].wakes);
    }
    free(d);
}

static void a_caller_is_woken_once(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    channel_caller_waits(d, CHANNEL_ASLEEP, 1);
    assert_true(channel_must_wake_caller_now(d));
    assert_false(channel_must_wake_caller_now(d));
    assert_false(channel_must_wake_caller(d, 1));
    free(d);
}

static void a_caller_that_woke_by_itself_is_left_alone(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    channel_caller_waits(d, CHANNEL_ASLEEP, 1);
    channel_caller_wakes(d);
    assert_false(channel_must_wake_caller(d, 9));
    assert_false(channel_must_wake_caller_now(d));
    free(d);
}

static void a_watching_caller_needs_no_ring(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    channel_caller_waits(d, CHANNEL_WATCHING, 1);
    assert_false(channel_caller_was_woken(d));
    assert_false(channel_must_wake_caller(d, 1));
    assert_true(channel_caller_was_woken(d));
    channel_caller_waits(d, CHANNEL_WATCHING, 1);
    assert_false(channel_must_wake_caller_now(d));
    assert_true(channel_caller_was_woken(d));
    free(d);
}

static void a_watching_caller_is_woken_from_its_position_on(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    channel_caller_waits(d, CHANNEL_WATCHING, 3);
    channel_must_wake_caller(d, 2);
    assert_false(channel_caller_was_woken(d));
    channel_must_wake_caller(d, 3);
    assert_true(channel_caller_was_woken(d));
    free(d);
}

static void a_caller_that_goes_to_sleep_watches_no_more(void **state)
{
    (void)state;
    struct desk *d = new_desk();
    channel_caller_waits(d, CHANNEL_WATCHING, 1);
    channel_caller_waits(d, CHANNEL_ASLEEP, 1);
    assert_true(channel_must_wake_caller(d, 1));
    free(d);
}

/* ---- Streams */

struct stream {
    unsigned char *window;
    _Atomic uint64_t tail, head;
    uint64_t written, read;
};

static void open_stream(struct stream *s, uint64_t at)
{
    *s = (struct stream){.window = malloc(CHANNEL_STREAM), .written = at, .read = at};
    s->tail = s->head = at;
    assert_non_null(s->window);
}

static size_t put(struct stream *s, const void *data, size_t size)
{
    return stream_write(s->window, &s->tail, &s->head, &s->written, data, size);
}

static size_t get(struct stream *s, void *data, size_t size)
{
    return stream_read(s->window, &s->tail, &s->head, &s->read, data, size);
}

static unsigned char *pattern(size_t size)
{
    unsigned char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(i * 2654435761u >> 13);
    return bytes;
}

/* Sends `size` bytes through in pieces of all sizes; what comes out is what went in. */
static void send_through(uint64_t at, size_t size)
{
    struct stream s;
    unsigned char *in = pattern(size), *out = calloc(1, size);
    size_t written = 0, read = 0;
    unsigned random = 7;
    assert_non_null(out);
    open_stream(&s, at);
    while (read < size) {
        random = random * 1664525u + 1013904223u;
        size_t want = (random >> 8) % 100000, left = random & 128 ? size - written : size - read;
        want = want < left ? want : left;
        if (random & 128)
            written += put(&s, in + written, want);
        else
            read += get(&s, out + read, want);
        assert_true(written - read <= CHANNEL_STREAM);
    }
    assert_memory_equal(in, out, size);
    free(in);
    free(out);
    free(s.window);
}

static void a_stream_carries_more_than_its_window(void **state)
{
    (void)state;
    send_through(0, 10 << 20);
}

static void a_stream_survives_the_end_of_its_count(void **state)
{
    (void)state;
    send_through(UINT64_MAX - 1000, 1 << 20);
}

static void an_empty_stream_gives_nothing(void **state)
{
    (void)state;
    struct stream s;
    char byte;
    open_stream(&s, 0);
    assert_int_equal(get(&s, &byte, 1), 0);
    free(s.window);
}

static void a_full_stream_takes_nothing(void **state)
{
    (void)state;
    struct stream s;
    unsigned char *bytes = pattern(CHANNEL_STREAM + 1);
    open_stream(&s, 12345);
    assert_int_equal(put(&s, bytes, CHANNEL_STREAM + 1), CHANNEL_STREAM);
    assert_int_equal(put(&s, bytes, 1), 0);
    free(bytes);
    free(s.window);
}

static void what_is_dropped_makes_room(void **state)
{
    (void)state;
    struct stream s;
    unsigned char *bytes = pattern(CHANNEL_STREAM);
    open_stream(&s, 99);
    put(&s, bytes, CHANNEL_STREAM);
    assert_int_equal(get(&s, NULL, SIZE_MAX - 1), CHANNEL_STREAM);
    assert_int_equal(put(&s, bytes, 10), 10);
    free(bytes);
    free(s.window);
}

static void an_impossible_reader_is_told(void **state)
{
    (void)state;
    const uint64_t heads[] = {1001, 5000, (uint64_t)1000 - CHANNEL_STREAM - 1, 1ull << 63};
    struct stream s;
    char byte = 0;
    open_stream(&s, 1000);
    for (size_t i = 0; i < 4; i++) {
        s.head = heads[i];
        assert_true(put(&s, &byte, 1) == SIZE_MAX);
        assert_true(s.written == 1000 && s.tail == 1000);
    }
    free(s.window);
}

static void an_impossible_writer_is_told(void **state)
{
    (void)state;
    const uint64_t tails[] = {999, 0, 1000 + CHANNEL_STREAM + 1, UINT64_MAX};
    struct stream s;
    char byte = 0;
    open_stream(&s, 1000);
    for (size_t i = 0; i < 4; i++) {
        s.tail = tails[i];
        assert_true(get(&s, &byte, 1) == SIZE_MAX);
        assert_true(s.read == 1000 && s.head == 1000);
    }
    free(s.window);
}

static struct stream shared_stream;
enum { SHARED = 8 << 20 };

static void *write_all(void *bytes)
{
    for (size_t done = 0; done < SHARED;)
        done += put(&shared_stream, (unsigned char *)bytes + done, SHARED - done);
    return NULL;
}

static void two_threads_stream_without_a_race(void **state)
{
    (void)state;
    pthread_t writer;
    unsigned char *in = pattern(SHARED), *out = malloc(SHARED);
    assert_non_null(out);
    open_stream(&shared_stream, 0);
    assert_int_equal(pthread_create(&writer, NULL, write_all, in), 0);
    for (size_t done = 0; done < SHARED;)
        done += get(&shared_stream, out + done, SHARED - done);
    pthread_join(writer, NULL);
    assert_memory_equal(in, out, SHARED);
    free(in);
    free(out);
    free(shared_stream.window);
}

/* ---- The handshake, both sides asleep as often as they can be, with real pipes */

enum { ROUNDS = 30000 };

static struct {
    struct desk *desk;
    int to_worker[2], to_caller[2];
    int lost;
} line;

/* Sleeps until the pipe has a byte; 0 where none came, which is a lost wake-up. */
static int sleep_on(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 30000) <= 0)
        return 0;
    fd_drain(fd);
    return 1;
}

static void *answer_all(void *arg)
{
    struct desk *d = line.desk;
    struct claim mine = {0};
    for (;;) {
        enum claim_step step = claims_next(&d->claim, &(struct claim_offer){0}, &mine);
        if (step == CLAIM_CLOSED)
            return arg;
        if (step == CLAIM_GOT) {
            if (channel_must_wake_caller(d, claim_finished(mine)))
                fd_wake(line.to_caller[1]);
            continue;
        }
        if (channel_must_wake_caller_now(d))
            fd_wake(line.to_caller[1]);
        atomic_store(&d->worker_state, CHANNEL_ASLEEP);
        struct claim now = claim_load(&d->claim);
        if (now.front == now.back && !now.closed && !sleep_on(line.to_worker[0])) {
            line.lost = 1;
            return arg;
        }
        atomic_store(&d->worker_state, CHANNEL_AWAKE);
    }
}

static int is_answered(const struct claim_books *books)
{
    return claim_finished(claim_load(&line.desk->claim)) == books->seen.back;
}

static int is_woken(void *desk)
{
    return channel_caller_was_woken(desk);
}

/* Watches for `looks` looks at the word, or to the end where that is 0. Nonzero: it was woken. */
static int watch(unsigned looks)
{
    for (unsigned n = looks ? looks : 100000; n; n--)
        if (channel_caller_was_woken(line.desk))
            return 1;
    return !looks && check_until(is_woken, line.desk, 30);
}

/* how: 0, it only sleeps; 1, it watches a little before, sometimes; 2, it only watches. */
static void ask_all(int how)
{
    struct claim_books books = {0};
    for (unsigned round = 0; round < ROUNDS && !line.lost; round++) {
        claim_append(&line.desk->claim, &books, 1 + round % 3);
        if (channel_must_wake_worker(line.desk))
            fd_wake(line.to_worker[1]);
        while (!is_answered(&books)) {
            if (how == 2 || (how && round % 4)) {
                channel_caller_waits(line.desk, CHANNEL_WATCHING, books.seen.back);
                if (is_answered(&books) || watch(how == 2 ? 0 : round % 97 + 1))
                    continue;
                if (how == 2)
                    fail_msg("round %u: a word was lost", round);
            }
            channel_caller_waits(line.desk, CHANNEL_ASLEEP, books.seen.back);
            if (!is_answered(&books) && !sleep_on(line.to_caller[0]))
                fail_msg("round %u: a wake-up was lost", round);
            channel_caller_wakes(line.desk);
        }
        claim_see(&books, claim_load(&line.desk->claim));
    }
    claim_close(&line.desk->claim, &books);
    if (channel_must_wake_worker(line.desk))
        fd_wake(line.to_worker[1]);
}

/* Returns how many bytes were left in the caller's pipe. */
static size_t handshake(int how)
{
    char bytes[64];
    ssize_t left;
    pthread_t worker;
    line.desk = new_desk();
    line.lost = 0;
    assert_int_equal(fd_pipe(line.to_worker, 1), 0);
    assert_int_equal(fd_pipe(line.to_caller, 1), 0);
    assert_int_equal(pthread_create(&worker, NULL, answer_all, NULL), 0);
    ask_all(how);
    pthread_join(worker, NULL);
    assert_false(line.lost);
    left = read(line.to_caller[0], bytes, sizeof bytes);
    for (int i = 0; i < 2; i++) {
        fd_close(&line.to_worker[i]);
        fd_close(&line.to_caller[i]);
    }
    free(line.desk);
    return left > 0 ? (size_t)left : 0;
}

static void no_wake_up_is_lost(void **state)
{
    (void)state;
    handshake(0);
}

static void no_wake_up_is_lost_between_watching_and_sleep(void **state)
{
    (void)state;
    handshake(1);
}

static void a_caller_that_only_watches_misses_nothing_and_is_never_rung(void **state)
{
    (void)state;
    assert_int_equal(handshake(2), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_fill_the_region_without_overlap),
        cmocka_unit_test(every_part_is_aligned_for_items),
        cmocka_unit_test(a_span_of_items_begins_at_a_cache_line),
        cmocka_unit_test(each_writer_has_lines_of_its_own),
        cmocka_unit_test(a_reset_desk_is_empty),
        cmocka_unit_test(a_worker_awake_is_not_woken),
        cmocka_unit_test(a_sleeping_worker_is_woken_once),
        cmocka_unit_test(a_worker_without_work_sleeps_through_room),
        cmocka_unit_test(a_stuck_worker_is_woken_by_either),
        cmocka_unit_test(a_word_written_over_wakes),
        cmocka_unit_test(a_caller_is_woken_from_its_position_on),
        cmocka_unit_test(a_caller_is_woken_once),
        cmocka_unit_test(a_caller_that_woke_by_itself_is_left_alone),
        cmocka_unit_test(a_watching_caller_needs_no_ring),
        cmocka_unit_test(a_watching_caller_is_woken_from_its_position_on),
        cmocka_unit_test(a_caller_that_goes_to_sleep_watches_no_more),
        cmocka_unit_test(a_stream_carries_more_than_its_window),
        cmocka_unit_test(a_stream_survives_the_end_of_its_count),
        cmocka_unit_test(an_empty_stream_gives_nothing),
        cmocka_unit_test(a_full_stream_takes_nothing),
        cmocka_unit_test(what_is_dropped_makes_room),
        cmocka_unit_test(an_impossible_reader_is_told),
        cmocka_unit_test(an_impossible_writer_is_told),
        cmocka_unit_test(two_threads_stream_without_a_race),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(no_wake_up_is_lost_between_watching_and_sleep),
        cmocka_unit_test(a_caller_that_only_watches_misses_nothing_and_is_never_rung),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
