/* Who is given what: the scheduler's handing out and pulling on workers that are no processes, each a channel on plain memory whose claim
 * word the test moves, with a clock that stands still until the test moves it, too. So what a worker has, has done and has not heard of
 * is exactly as the test says, however slow the machine is. */
#define _GNU_SOURCE
#include "check.h"
#include "claims.h"
#include "fd.h"
#include "places.h"
#include "scheduler.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { WORKERS = 4, SLOT = 32 << 10, DEPTH = 1000, WINDOW = 10000 };
#define HELD_UP 1000000                 /* nanoseconds: longer than a worker has time for one item where others are idle */

struct bench {
    struct sched sched;
    struct crew_worker workers[WORKERS], *watched[WORKERS], *hands[WORKERS];
    struct job job;
    int pipe[2];
};

static struct timespec the_time = {.tv_sec = 3600};

/* In place of libc's: for the library, which is linked into this program, too. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    (void)clock;
    *now = the_time;
    return 0;
}

static void lay_channel(struct books *b, int pipe)
{
    size_t size = sizeof(struct desk) + channel_region(SLOT);
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(books_init(b), 0);
    channel_lay(&b->channel, memory, memory + sizeof(struct desk), SLOT);
    books_reset(b, pipe);
}

static int open_bench(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct sched *s;
    assert_non_null(b);
    s = &b->sched;
    assert_int_equal(sched_init(s, WORKERS, 0), 0);
    assert_int_equal(fd_pipe(b->pipe, 1), 0);
    s->cpus = 2;
    s->crew.size = s->crew.most = s->crew.slots = WORKERS;
    s->crew.workers = b->workers;
    s->crew.watched = b->watched;
    s->crew.hands = b->hands;
    s->crew.max_tasks = SIZE_MAX;
    for (unsigned i = 0; i < WORKERS; i++) {
        struct crew_worker *w = &b->workers[i];
        *w = (struct crew_worker){.slot = i, .index = i, .state = WORKER_READY, .judge_at = CLOCK_NEVER};
        lay_channel(&w->books, b->pipe[1]);
        places_add_hand(&s->crew, w);
    }
    *state = b;
    return 0;
}

static int close_bench(void **state)
{
    struct bench *b = *state;
    for (unsigned i = 0; i < WORKERS; i++) {
        munmap(b->workers[i].books.channel.desk, sizeof(struct desk) + channel_region(SLOT));
        books_fini(&b->workers[i].books);
    }
    link_remove(&b->job.open);
    link_remove(&b->job.ready);
    job_fini(&b->job);
    fd_close(&b->pipe[0]);
    fd_close(&b->pipe[1]);
    sched_fini(&b->sched);
    free(b);
    return 0;
}

/* A stream of which so much is known that `depth` items should wait at a worker. */
static void begin(struct bench *b, struct pool_items items, size_t depth)
{
    struct job *j = &b->job;
    struct pool_call call = {0};
    job_blank(j);
    assert_int_equal(job_init(j, JOB_ITER, &call), 0);
    assert_int_equal(source_init(&j->source, items), 0);
    assert_int_equal(cells_init(&j->cells, WINDOW, 0), 0);
    j->tally = b->sched.tally;
    j->window = WINDOW;
    j->window_given = 1;
    j->call.mode = RESULT_DROPPED;
    j->depth = j->fit = depth;
    j->measured = 1;
    sched_add(&b->sched, j);
}

static size_t at(const struct bench *b, unsigned i)
{
    return books_outstanding(&b->workers[i].books);
}

/* The worker claims up to its nth item from now, and runs it. */
static void claims(struct bench *b, unsigned i, unsigned n)
{
    struct books *books = &b->workers[i].books;
    struct post *last = &books->posts[(books->post_tail - 1) % BOOKS_POSTS];
    struct claim_offer offer = {books->open ? &books->open->offered : NULL, last->span_first, books->grow.most};
    struct claim mine = claim_load(&books->channel.desk->claim);
    while (n--)
        assert_int_equal(claims_next(&books->channel.desk->claim, &offer, &mine), CLAIM_GOT);
}

static void finishes(struct bench *b, unsigned i)
{
    claim_word *word = &b->workers[i].books.channel.desk->claim;
    uint64_t left = atomic_load(word);
    assert_int_equal(claim_finish(word, &left), CLAIM_EMPTY);
}

/* Nothing is heard of any worker for long. */
static void all_are_silent(void)
{
    the_time.tv_nsec = (the_time.tv_nsec + HELD_UP) % 1000000000;
    the_time.tv_sec += the_time.tv_nsec < HELD_UP;
}

/* ---- Light work */

static void light_work_goes_to_one_of_two_cpus(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    size_t most = 0, all = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        most = at(b, i) > most ? at(b, i) : most;
        all += at(b, i);
    }
    assert_int_equal(all, 100);
    assert_int_equal(most, 100);
}

static void light_work_goes_to_as_many_as_have_a_cpu_each(void **state)
{
    struct bench *b = *state;
    b->sched.cpus = WORKERS;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    size_t idle = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        idle += !at(b, i);
    assert_int_equal(idle, 1);          /* the caller's CPU */
}

static void light_work_goes_to_all_where_there_are_cpus(void **state)
{
    struct bench *b = *state;
    b->sched.cpus = WORKERS + 1;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(at(b, i));
}

static void heavy_work_goes_to_all(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(2 * DEPTH), DEPTH);
    sched_hand_out(&b->sched);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(at(b, i));
}

static void work_of_unknown_cost_goes_to_all(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(100), DEPTH);
    b->job.measured = 0;
    sched_hand_out(&b->sched);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(at(b, i));
}

/* More of the same source, as if its window had moved. */
static void goes_on(struct bench *b, size_t count)
{
    b->job.source.total = b->job.source.count += count;
    sched_ready(&b->sched, &b->job);
    sched_hand_out(&b->sched);
}

static void light_work_stays_with_who_is_at_it(void **state)
{
    struct bench *b = *state;
    b->sched.next_hand = 2;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 2), 100);
    claims(b, 2, 1);
    b->sched.next_hand = 0;
    goes_on(b, 300);
    assert_int_equal(at(b, 2), 400);
}

/* What had not started there goes, too: to that one, and to the others that are idle. */
static void light_work_leaves_who_is_held_up(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(101), DEPTH);
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 0), 101);
    claims(b, 0, 1);
    all_are_silent();
    sched_hand_out(&b->sched);
    assert_in_range(at(b, 0), 1, 26);
    for (unsigned i = 1; i < WORKERS; i++)
        assert_true(at(b, i));
    size_t there = at(b, 0);
    goes_on(b, 50);
    assert_int_equal(at(b, 0), there);
}

static void light_work_is_not_moved_while_something_is_heard(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    claims(b, 0, 1);
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 0), 100);
    assert_in_range(b->sched.even_at - b->workers[0].since, 1, HELD_UP);        /* and is looked at again */
}

/* Its results are taken in the same round, which came late: it is not held up. */
static void one_that_has_results_to_be_taken_is_not_held_up(void **state)
{
    struct bench *b = *state;
    struct books *books = &b->workers[0].books;
    begin(b, pool_range(100), DEPTH);
    sched_hand_out(&b->sched);
    claims(b, 0, 3);
    channel_caller_wakes(books->channel.desk);  /* as it does when it has finished what somebody waits for */
    all_are_silent();
    assert_false(sched_is_held_up(&b->workers[0], clock_now()));
    channel_caller_waits(books->channel.desk, CHANNEL_WATCHING, 50);    /* there is something, but it will not be taken yet */
    assert_true(sched_is_held_up(&b->workers[0], clock_now()));
}

/* One item is left, and the worker that is at it has one, which it may run for ever: it gets that one, too, and loses it again later. */
static void the_last_item_is_not_left_waiting(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(1), DEPTH);
    sched_hand_out(&b->sched);
    claims(b, 0, 1);
    goes_on(b, 1);
    assert_int_equal(at(b, 0), 2);
    assert_true(b->sched.even_at != CLOCK_NEVER);
    all_are_silent();
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 0), 1);
}

/* The worker that is at it has enough to do: somebody looks again soon, since that may end. */
static void what_is_left_waiting_is_looked_at_again(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(DEPTH / 2 + 100), DEPTH);
    sched_hand_out(&b->sched);
    claims(b, 0, DEPTH / 2 + 99);
    goes_on(b, 10);
    assert_int_equal(at(b, 0) + at(b, 1) + at(b, 2) + at(b, 3), DEPTH / 2 + 100);
    assert_true(b->sched.even_at < clock_now() + HELD_UP);
    all_are_silent();
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 0) + at(b, 1) + at(b, 2) + at(b, 3), DEPTH / 2 + 110);
}

/* It may be a worker's other job that is in the way. */
static void of_two_jobs_none_is_light(void **state)
{
    struct bench *b = *state;
    struct link other;
    begin(b, pool_range(100), DEPTH);
    assert_true(sched_is_light(&b->sched, &b->job, 100));
    link_append(&b->sched.jobs, &other);
    assert_false(sched_is_light(&b->sched, &b->job, 100));
    link_remove(&other);
}

static void fill_up(struct bench *b, unsigned i, const void *item)
{
    while (books_room(&b->workers[i].books, &b->job.call, SLOT)) {
        struct piece piece = {.owner = &b->job, .index = 1000, .count = 1, .data = item, .size = SLOT, .source_keeps = 1};
        sched_post(&b->sched, &b->job, &b->workers[i], &piece, 0);
    }
}

static void one_that_has_no_room_is_passed_over(void **state)
{
    static const char items[8][SLOT];
    struct bench *b = *state;
    begin(b, pool_array(items, 8, SLOT), DEPTH);
    fill_up(b, 0, items);
    sched_hand_out(&b->sched);
    assert_true(at(b, 1) + at(b, 2) + at(b, 3));
}

/* The only other one is held up itself: that is no reason to give it nothing. */
static void it_does_not_take_the_turn_of_one_that_is_held_up(void **state)
{
    static const char items[8][SLOT];
    struct bench *b = *state;
    begin(b, pool_array(items, 1, SLOT), DEPTH);
    b->sched.crew.hands_count = 2;
    b->sched.next_hand = 1;
    sched_hand_out(&b->sched);
    assert_int_equal(at(b, 1), 1);
    claims(b, 1, 1);
    fill_up(b, 0, items);
    all_are_silent();
    b->sched.next_hand = 0;
    goes_on(b, 1);
    b->sched.crew.hands_count = WORKERS;
    assert_int_equal(at(b, 1), 2);
}

/* ---- Learning how much is light */

/* Each worker has finished one item, after a millisecond; the first is drained. */
static size_t fit_after_a_slow_one(struct bench *b, unsigned cpus)
{
    begin(b, pool_range(2 * DEPTH), DEPTH);
    sched_hand_out(&b->sched);
    assert_int_equal(b->sched.crew.watched_count, WORKERS);
    b->sched.cpus = cpus;
    for (unsigned i = 0; i < WORKERS; i++)
        claims(b, i, 2);
    all_are_silent();
    assert_true(sched_drain(&b->sched, &b->workers[0]));
    return b->job.fit;
}

static void a_slow_item_halves_what_is_light(void **state)
{
    assert_int_equal(fit_after_a_slow_one(*state, WORKERS), DEPTH / 2);
}

/* They may only have waited for a CPU: all of them together halve it, about. */
static void of_more_workers_than_cpus_each_lowers_it_by_its_share(void **state)
{
    assert_int_equal(fit_after_a_slow_one(*state, 2), DEPTH - DEPTH / WORKERS);
}

static void fast_items_raise_it_at_once(void **state)
{
    struct bench *b = *state;
    begin(b, pool_range(1000), DEPTH);
    sched_hand_out(&b->sched);
    claims(b, 0, 101);                  /* 100 are finished, in no time */
    assert_true(sched_drain(&b->sched, &b->workers[0]));
    assert_true(b->job.fit > DEPTH);
}

/* ---- Generators */

static size_t made;
static char thing[8];

static int next_thing(void *limit, struct pool_bytes *item)
{
    if (made == *(size_t *)limit)
        return 0;
    *item = (struct pool_bytes){thing, sizeof thing};
    made++;
    return 1;
}

static void pull(struct bench *b)
{
    sched_enter(&b->sched);
    sched_pull(&b->sched, &b->job);
    sched_leave(&b->sched);
}

static void begin_fast(struct bench *b, size_t *limit)
{
    made = 0;
    begin(b, pool_generator(next_thing, limit), DEPTH);
    b->job.leisurely = 0;
}

static void a_fast_generators_items_go_to_one_of_two_cpus(void **state)
{
    struct bench *b = *state;
    size_t limit = 30;                  /* fewer than it takes to be judged by the clock */
    begin_fast(b, &limit);
    pull(b);
    assert_int_equal(at(b, 0), 30);
}

/* After the first, room is asked for 32 items at a time: the last of those has it like the others, though 32 more would not. */
static void the_last_of_what_is_light_goes_there_too(void **state)
{
    struct bench *b = *state;
    size_t limit = 1 + DEPTH / 32 * 32;
    begin_fast(b, &limit);
    pull(b);
    assert_int_equal(at(b, 0), limit);
}

static void too_much_for_one_cpu_goes_to_others_too(void **state)
{
    struct bench *b = *state;
    size_t limit = 5000;
    begin_fast(b, &limit);
    pull(b);
    assert_true(at(b, 0) && at(b, 1) && at(b, 2) && at(b, 3));
}

/* It is too much by the books, but most of it is over: the rest can wait until that is taken. */
static void a_generator_waits_for_what_has_only_to_be_taken(void **state)
{
    struct bench *b = *state;
    size_t limit = DEPTH - 16;
    begin_fast(b, &limit);
    b->sched.crew.hands_count = 1;      /* for a moment */
    pull(b);
    b->sched.crew.hands_count = WORKERS;
    assert_int_equal(at(b, 0), limit);
    claims(b, 0, DEPTH - 100);
    b->job.source.pull = next_thing;    /* it had ended, and may have been slow */
    b->job.leisurely = 0;
    b->job.pulls = 0;
    limit = 2 * DEPTH;
    pull(b);
    assert_int_equal(made, DEPTH - 16);
    assert_int_equal(at(b, 1) + at(b, 2) + at(b, 3), 0);
}

static void a_generator_that_takes_its_time_wakes_the_idle(void **state)
{
    struct bench *b = *state;
    size_t limit = WORKERS;
    made = 0;
    begin(b, pool_generator(next_thing, &limit), DEPTH);
    pull(b);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(at(b, i), 1);
}

/* Not in the span that is open where one runs, light as they are: the other is through, though the books have not been told. */
static void it_does_not_put_an_item_behind_one_that_runs(void **state)
{
    struct bench *b = *state;
    size_t limit = 4;
    made = 0;
    begin(b, pool_generator(next_thing, &limit), DEPTH);
    b->sched.crew.hands_count = 2;
    pull(b);
    assert_int_equal(at(b, 0), 1);
    assert_int_equal(at(b, 1), 3);
    claims(b, 0, 1);
    finishes(b, 0);
    claims(b, 1, 2);
    b->sched.next_hand = 1;
    b->job.source.pull = next_thing;    /* it had ended */
    limit = 5;
    pull(b);
    b->sched.crew.hands_count = WORKERS;
    assert_int_equal(at(b, 0), 2);
    assert_int_equal(at(b, 1), 3);
}

/* Two idle ones, one of them asleep: the other is given the item. */
static void a_generators_item_goes_to_one_that_is_awake(void **state)
{
    struct bench *b = *state;
    size_t limit = 1;
    made = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        if (i != 2)
            atomic_store(&b->workers[i].books.channel.desk->worker_state, CHANNEL_ASLEEP);
    begin(b, pool_generator(next_thing, &limit), DEPTH);
    pull(b);
    assert_int_equal(at(b, 2), 1);
}

/* ---- Runs: what a fast generator gave is told to the books before anybody looks at them */

static struct bench *bench;
static void (*looks)(struct bench *b);
enum { LOOK_AT = 20 };                  /* in the middle of a run */

static int next_thing_after_a_look(void *limit, struct pool_bytes *item)
{
    if (made == LOOK_AT)
        looks(bench);
    return next_thing(limit, item);
}

static void run_and_look(struct bench *b, source_next_fn *next, void (*function)(struct bench *))
{
    size_t limit = 30;
    bench = b;
    looks = function;
    begin_fast(b, &limit);
    b->job.source.pull = next;
    pull(b);
    assert_int_equal(at(b, 0), 30);
    assert_int_equal(b->job.outstanding, 30);
    assert_int_equal(b->job.source.total, 30);
}

static void a_visitor_comes(struct bench *b)
{
    assert_true(at(b, 0) < LOOK_AT);    /* or it is no run */
    sched_enter(&b->sched);
    assert_int_equal(at(b, 0), LOOK_AT);
    assert_int_equal(b->job.outstanding, LOOK_AT);
    assert_int_equal(b->job.source.next, LOOK_AT);
    sched_leave(&b->sched);
}

static void whoever_comes_in_ends_the_run(void **state)
{
    run_and_look(*state, next_thing_after_a_look, a_visitor_comes);
}

static void a_sleeper_wakes_up(struct bench *b)
{
    lock_enter(&b->sched.lock);         /* long ago */
    sched_sleep(&b->sched, &b->sched.waiter, NULL, 1);
    assert_int_equal(at(b, 0), LOOK_AT);
    assert_int_equal(b->job.outstanding, LOOK_AT);
    sched_leave(&b->sched);
}

static void whoever_wakes_up_ends_the_run(void **state)
{
    run_and_look(*state, next_thing_after_a_look, a_sleeper_wakes_up);
}

static struct job other_job;

/* As another thread that asks its generator now leaves it. */
static void another_runs(struct bench *b)
{
    struct crew_worker *w = &b->workers[1];
    struct piece piece = {.count = 1, .data = thing, .size = sizeof thing};
    struct pool_call call = {0};
    sched_enter(&b->sched);
    job_blank(&other_job);
    assert_int_equal(job_init(&other_job, JOB_ITER, &call), 0);
    assert_int_equal(source_init(&other_job.source, pool_generator(next_thing, &other_job)), 0);
    other_job.call.mode = RESULT_DROPPED;
    other_job.source.size = sizeof thing;
    assert_true(sched_room_for(&b->sched, &other_job, w, sizeof thing) >= 8);
    sched_post(&b->sched, &other_job, w, &piece, 8);
    source_pulled(&other_job.source, 1);
    books_hurry(&w->books, 1);
    assert_int_equal(books_may_run(&w->books, &other_job, 1, sizeof thing), 7);
    b->sched.run = (struct run){&other_job, w, 7};
    books_run(&w->books, thing, sizeof thing);
    books_run(&w->books, thing, sizeof thing);
    sched_leave(&b->sched);
}

static void another_pullers_run_is_ended(void **state)
{
    struct bench *b = *state;
    run_and_look(b, next_thing_after_a_look, another_runs);
    assert_int_equal(at(b, 1), 3);
    assert_int_equal(other_job.outstanding, 3);
    assert_int_equal(other_job.source.next, 3);
    job_fini(&other_job);
}

/* The worker has fallen asleep; before it is asked for more, the generator sees it awake again. */
static int next_thing_beside_a_sleeper(void *limit, struct pool_bytes *item)
{
    _Atomic uint32_t *state = &bench->workers[0].books.channel.desk->worker_state;
    if (made == LOOK_AT)
        atomic_store(state, CHANNEL_ASLEEP);
    if (made == LOOK_AT + 1)
        assert_int_equal(atomic_load(state), CHANNEL_AWAKE);
    return next_thing(limit, item);
}

static void a_run_ends_where_its_worker_sleeps(void **state)
{
    run_and_look(*state, next_thing_beside_a_sleeper, NULL);
}

static void no_span_is_hasty_when_nobody_pulls(void **state)
{
    struct bench *b = *state;
    size_t limit = 300;
    begin_fast(b, &limit);
    pull(b);
    assert_non_null(b->workers[0].books.open);
    assert_int_equal(atomic_load(&b->workers[0].books.open->hasty), 0);
}

int main(void)
{
#define ON_BENCH(function) cmocka_unit_test_setup_teardown(function, open_bench, close_bench)
    const struct CMUnitTest tests[] = {
        ON_BENCH(light_work_goes_to_one_of_two_cpus),
        ON_BENCH(light_work_goes_to_as_many_as_have_a_cpu_each),
        ON_BENCH(light_work_goes_to_all_where_there_are_cpus),
        ON_BENCH(heavy_work_goes_to_all),
        ON_BENCH(work_of_unknown_cost_goes_to_all),
        ON_BENCH(light_work_stays_with_who_is_at_it),
        ON_BENCH(light_work_leaves_who_is_held_up),
        ON_BENCH(light_work_is_not_moved_while_something_is_heard),
        ON_BENCH(one_that_has_results_to_be_taken_is_not_held_up),
        ON_BENCH(the_last_item_is_not_left_waiting),
        ON_BENCH(what_is_left_waiting_is_looked_at_again),
        ON_BENCH(of_two_jobs_none_is_light),
        ON_BENCH(one_that_has_no_room_is_passed_over),
        ON_BENCH(it_does_not_take_the_turn_of_one_that_is_held_up),
        ON_BENCH(a_slow_item_halves_what_is_light),
        ON_BENCH(of_more_workers_than_cpus_each_lowers_it_by_its_share),
        ON_BENCH(fast_items_raise_it_at_once),
        ON_BENCH(a_fast_generators_items_go_to_one_of_two_cpus),
        ON_BENCH(the_last_of_what_is_light_goes_there_too),
        ON_BENCH(too_much_for_one_cpu_goes_to_others_too),
        ON_BENCH(a_generator_waits_for_what_has_only_to_be_taken),
        ON_BENCH(a_generator_that_takes_its_time_wakes_the_idle),
        ON_BENCH(a_generators_item_goes_to_one_that_is_awake),
        ON_BENCH(it_does_not_put_an_item_behind_one_that_runs),
        ON_BENCH(whoever_comes_in_ends_the_run),
        ON_BENCH(whoever_wakes_up_ends_the_run),
        ON_BENCH(another_pullers_run_is_ended),
        ON_BENCH(a_run_ends_where_its_worker_sleeps),
        ON_BENCH(no_span_is_hasty_when_nobody_pulls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
