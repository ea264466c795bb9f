/* The claim word: whatever the order in which worker and caller act on it, each position goes to exactly one of them, once; and what
 * neither can have done is not believed. */
#define _GNU_SOURCE
#include "check.h"
#include "claims.h"
#include "fence.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static claim_word word;
static const struct claim_offer no_offer;

static void set(struct claim c)
{
    atomic_store(&word, claim_encode(c));
}

/* ---- The word itself */

static void a_claim_is_decoded_as_it_was_encoded(void **state)
{
    (void)state;
    const uint32_t positions[] = {0, 1, 2, 0x3ffffff, CLAIM_MASK - 1, CLAIM_MASK}, held[] = {0, 1, CLAIM_BATCH / 2, CLAIM_BATCH - 1};
    for (unsigned i = 0; i < 6 * 6 * 4 * 16; i++) {
        struct claim c = {positions[i % 6], positions[i / 6 % 6], i / 36 % 2, i / 72 % 2, i / 144 % 2, held[i / 288 % 4], i / 1152};
        struct claim d = claim_decode(claim_encode(c));
        assert_int_equal(c.front, d.front);
        assert_int_equal(c.back, d.back);
        assert_int_equal(c.running, d.running);
        assert_int_equal(c.closed, d.closed);
        assert_int_equal(c.turn, d.turn);
        assert_int_equal(c.held, d.held);
        assert_int_equal(c.held, claim_held(claim_encode(c)));
        assert_int_equal(c.recalled, d.recalled);
    }
}

static void positions_run_over(void **state)
{
    (void)state;
    assert_int_equal(claim_add(CLAIM_MASK, 1), 0);
    assert_int_equal(claim_distance(CLAIM_MASK, 2), 3);
    assert_int_equal(claim_finished((struct claim){.front = 0, .running = 1}), CLAIM_MASK);
    assert_int_equal(claim_end(&(struct claim_books){.seen.back = CLAIM_MASK, .offered = 4}), 3);
}

static void a_new_word_has_nothing(void **state)
{
    (void)state;
    struct claim mine = {0};
    set((struct claim){7, 9, 1, 1, 1, 2, 1});
    claim_reset(&word);
    assert_int_equal(claims_next(&word, &no_offer, &mine), CLAIM_EMPTY);
}

static void the_last_item_is_finished_though_nothing_waits(void **state)
{
    (void)state;
    struct claim mine = {.front = 5, .running = 1};
    set((struct claim){.front = 5, .back = 5, .running = 1});
    assert_int_equal(claims_next(&word, &no_offer, &mine), CLAIM_EMPTY);
    assert_int_equal(claim_load(&word).running, 0);
    assert_int_equal(claim_finished(claim_load(&word)), 5);
}

static void a_closed_word_gives_nothing_but_finishes(void **state)
{
    (void)state;
    struct claim mine = {.front = 5, .running = 1};
    set((struct claim){.front = 5, .back = 8, .running = 1, .closed = 1});
    assert_int_equal(claims_next(&word, &no_offer, &mine), CLAIM_CLOSED);
    assert_int_equal(claim_finished(claim_load(&word)), 5);
    assert_int_equal(claim_load(&word).back, 8);
}

/* ---- All orders of whole steps, against a plain deque of numbered items */

enum { DEPTH = 7, AT_FIRST = 4, ITEMS = AT_FIRST + 2 * DEPTH };

struct play {
    uint64_t     word;
    struct claim mine;
    struct claim_books books;
    uint32_t     offered, first;                /* the open span; 0: there is none */
    int          deque[ITEMS], count;           /* items that wait */
    int          items, running, closed;        /* how many were made; which one runs, or -1 */
    uint32_t     begun, held, into;             /* the word beside; of a batch, how many are to be begun and how many were */
    int          asked, given_back;             /* for what is held; and it is */
    char         claimed[ITEMS], back[ITEMS];
};

static unsigned long schedules, grown, lost_to_the_caller;

static _Atomic uint32_t offered, begun;

/* As workers do: the short way where that is open. */
static enum claim_step next(claim_word *at, const struct claim_offer *offer, struct claim *mine)
{
    uint64_t left = claim_encode(*mine);
    if (!claim_ahead(left) || !claim_go_on(at, &left))
        return claims_next(at, offer, mine);
    *mine = claim_decode(left);
    return CLAIM_GOT;
}

/* A worker sees the offer of the span that it has come to. */
static struct claim_offer offer_to(const struct play *p)
{
    int came = p->offered && claim_distance(p->first, claim_add(p->mine.front, CLAIM_MASK)) < ITEMS;
    return came ? (struct claim_offer){&offered, p->first, ITEMS} : no_offer;
}

static void begins_first(struct play *p)
{
    p->running = p->deque[0];
    p->claimed[p->running]++;
    memmove(p->deque, p->deque + 1, (size_t)--p->count * sizeof *p->deque);
}

/* Holds nothing any more. */
static enum claim_step settles(struct play *p, uint32_t position)
{
    uint64_t left = claim_encode(p->mine);
    enum claim_step step = claim_settle(&word, position, &left);
    p->mine = claim_decode(left);
    assert_int_equal(p->mine.held, 0);
    p->held = p->into = 0;
    p->asked = p->given_back = 0;
    return step;
}

/* From one item that it holds to the next. */
static void worker_goes_on(struct play *p)
{
    uint32_t position = claim_claimed((struct claim){.front = p->mine.front, .held = p->mine.held - p->held});
    int given_back = p->given_back;
    if (claim_begin(&word, &begun, claim_encode(p->mine), position)) {
        assert_false(given_back || p->asked);
        begins_first(p);
        p->held--;
        p->into++;
        return;
    }
    assert_int_equal(settles(p, position), given_back ? CLAIM_EMPTY : CLAIM_GOT);
    lost_to_the_caller += (unsigned long)given_back;
    if (!given_back)
        begins_first(p);
}

static void worker_lets_go(struct play *p)
{
    if (p->mine.held)
        assert_int_equal(settles(p, claim_add(p->mine.front, p->mine.held + CLAIM_MASK)), CLAIM_GOT);
}

static void worker_steps(struct play *p)
{
    if (p->held) {
        worker_goes_on(p);
        return;
    }
    worker_lets_go(p);
    struct claim_offer offer = offer_to(p);
    int news = claim_has_news(&word, &offer);
    enum claim_step step = next(&word, &offer, &p->mine);
    assert_int_equal(step, p->closed ? CLAIM_CLOSED : p->count ? CLAIM_GOT : CLAIM_EMPTY);
    assert_int_equal(news, step != CLAIM_EMPTY);
    p->running = -1;
    if (step == CLAIM_GOT)
        begins_first(p);
}

/* Up to three at once, as long as nothing has changed. */
static void worker_claims_more(struct play *p)
{
    uint64_t left = claim_encode(p->mine);
    uint32_t ahead = claim_ahead(left), n = ahead < 3 ? ahead : 3;
    if (p->held || !n)
        return;
    int changed = atomic_load(&word) != left;
    assert_int_equal(claim_go_on_together(&word, &begun, &left, n), !changed);
    if (changed)
        return;
    p->mine = claim_decode(left);
    begins_first(p);
    p->held = n - 1;
    p->into = 0;
}

static void caller_asks(struct play *p)
{
    uint32_t none = 77;
    assert_int_equal(claim_take_back(&word, &p->books, 0, &none), 0);
    assert_int_equal(none, 0);
    p->asked = p->mine.held && !p->given_back;
    assert_int_equal(p->books.seen.recalled, p->asked);
}

static void caller_gives_back(struct play *p)
{
    assert_int_equal(claim_give_back(&word, &p->books, atomic_load(&begun)), 0);
    if (!p->asked)
        return;
    p->asked = 0;
    p->given_back = 1;
    p->into = 0;
}

/* The last of them begins a span that may grow. */
static void caller_appends(struct play *p, int n)
{
    p->first = claim_add(claim_end(&p->books), (uint32_t)n - 1);
    p->offered = 1;
    assert_int_equal(claim_append(&word, &p->books, (uint32_t)n), 0);
    while (n--)
        p->deque[p->count++] = p->items++;
}

static void caller_offers(struct play *p)
{
    if (!p->offered || p->books.barred)
        return;
    p->deque[p->count++] = p->items++;
    p->offered++;
    p->books.offered++;
    p->books.exposed = 1;
    grown++;
}

static void caller_takes_back(struct play *p, int want)
{
    uint32_t taken = 77;
    assert_int_equal(claim_end_offers(&word, &p->books), 0);
    p->offered = 0;
    assert_int_equal(claim_take_back(&word, &p->books, (uint32_t)want, &taken), 0);
    int free = p->count - (p->given_back ? 0 : (int)p->held);
    assert_int_equal(taken, want < free ? want : free);
    if (!taken)
        p->asked = p->mine.held && !p->given_back;
    while (taken--)
        p->back[p->deque[--p->count]]++;
}

static void caller_closes(struct play *p)
{
    assert_int_equal(claim_close(&word, &p->books), 0);
    p->closed = 1;
}

static void look(struct play *p, uint32_t start)
{
    struct claim now = claim_load(&word);
    int claimed = 0;
    for (int i = 0; i < p->items; i++)
        claimed += p->claimed[i];
    assert_true(claim_plausible(&p->books, now));
    assert_int_equal(claim_distance(now.front, claim_end(&p->books)), p->count + (int)p->into);
    assert_int_equal(claim_distance(start, now.front), claimed - (int)p->into);
    assert_int_equal(now.held, p->given_back ? 0 : p->held + p->into);
    assert_int_equal(now.recalled, p->asked);
    assert_int_equal(now.running, p->running >= 0);
    assert_int_equal(now.closed, p->closed);
}

static void end_of_schedule(struct play p)
{
    schedules++;
    caller_asks(&p);
    caller_gives_back(&p);
    caller_takes_back(&p, ITEMS);
    for (int i = 0; i < p.items; i++)
        if (p.claimed[i] + p.back[i] != 1)
            fail_msg("item %d was claimed %d times and taken back %d times", i, p.claimed[i], p.back[i]);
}

static void play_all(const struct play *before, unsigned depth, uint32_t start)
{
    enum { WORKER, CLAIM_MORE, APPEND_1, APPEND_2, OFFER, TAKE_1, TAKE_2, CLOSE, LOOK, ASK, GIVE_BACK, STEPS };
    for (int step = 0; step < STEPS; step++) {
        struct play p = *before;
        atomic_store(&word, p.word);
        atomic_store(&offered, p.offered);
        atomic_store(&begun, p.begun);
        switch (step) {
        case WORKER: worker_steps(&p); break;
        case CLAIM_MORE: worker_claims_more(&p); break;
        case APPEND_1: caller_appends(&p, 1); break;
        case APPEND_2: caller_appends(&p, 2); break;
        case OFFER: caller_offers(&p); break;
        case TAKE_1: caller_takes_back(&p, 1); break;
        case TAKE_2: caller_takes_back(&p, 2); break;
        case CLOSE: caller_closes(&p); break;
        case ASK: caller_asks(&p); break;
        case GIVE_BACK: caller_gives_back(&p); break;
        default: claim_see(&p.books, claim_load(&word)); break;
        }
        look(&p, start);
        p.word = atomic_load(&word);
        p.begun = atomic_load(&begun);
        if (depth > 1)
            play_all(&p, depth - 1, start);
        else
            end_of_schedule(p);
    }
}

static void each_item_goes_one_way_in_every_order(uint32_t start, unsigned depth)
{
    struct claim fresh = {.front = start, .back = start};
    struct play p = {.mine = fresh, .books.seen = fresh, .running = -1};
    set(fresh);
    caller_appends(&p, AT_FIRST);
    p.word = atomic_load(&word);
    schedules = grown = lost_to_the_caller = 0;
    play_all(&p, depth, start);
    unsigned long expected = 1;
    for (unsigned i = 0; i < depth; i++)
        expected *= 11;
    assert_int_equal(schedules, expected);
    assert_true(grown > expected / 200);
    assert_true(depth < 5 || lost_to_the_caller);
}

/* Each step less is an eleventh of the time. */
static unsigned depth(void)
{
    return check_under("valgrind") ? DEPTH - 2 : check_under("") ? DEPTH - 1 : DEPTH;
}

static void all_orders_from_zero(void **state)
{
    (void)state;
    each_item_goes_one_way_in_every_order(0, depth());
}

static void all_orders_over_the_end_of_positions(void **state)
{
    (void)state;
    each_item_goes_one_way_in_every_order(CLAIM_MASK - 4, depth() - 1);
}

/* ---- What cannot be */

static void plausible_is_what_a_worker_can_have_done(void **state)
{
    (void)state;
    enum { N = 9 };
    const uint32_t bases[] = {0, CLAIM_MASK - 3};
    for (unsigned i = 0; i < 2u * N * N * 2 * N * N * 4 * 3; i++) {
        unsigned n = i;
        uint32_t base = bases[n % 2], front = (n /= 2) % N, back = (n /= N) % N, running = (n /= N) % 2;
        uint32_t seen_front = (n /= 2) % N, seen_back = (n /= N) % N, seen_running = (n /= N) % 2, closed = (n /= 2) % 2,
                 offer = n / 2;
        if (front < running || front > back)
            continue;
        struct claim_books books = {.seen = {claim_add(base, front), claim_add(base, back), running, 0, i % 2, 0, i / 7 % 2},
                                    .offered = offer};
        struct claim seen = {claim_add(base, seen_front), claim_add(base, seen_back), seen_running, closed, i % 2, i / 5 % 3, i / 11 % 2};
        int possible = seen.recalled <= books.seen.recalled && seen_front + seen.held <= seen_back &&
                       !closed && seen_back >= back && seen_back <= back + offer && seen_front >= front && seen_front <= seen_back &&
                       (int)seen_front - (int)seen_running >= (int)front - (int)running;
        assert_int_equal(claim_plausible(&books, seen), possible);
        seen.turn = !seen.turn;
        assert_false(claim_plausible(&books, seen));
    }
}

static void a_worker_believes_no_other_front(void **state)
{
    (void)state;
    for (unsigned bit = CLAIM_AT_FRONT; bit < CLAIM_AT_CLOSED; bit++) {
        if (bit == CLAIM_AT_TURN || bit == CLAIM_AT_RECALLED)
            continue;                   /* the caller's */
        struct claim mine = {.front = 5, .back = 9, .running = 1}, before = mine;
        atomic_store(&word, claim_encode(mine) ^ 1ull << bit);
        assert_int_equal(next(&word, &no_offer, &mine), CLAIM_DAMAGED);
        assert_memory_equal(&mine, &before, sizeof mine);
        assert_true(atomic_load(&word) == (claim_encode(mine) ^ 1ull << bit));
    }
}

/* Only for a word that is as it was left, and then it is the same as the long way. */
static void the_short_way_leads_where_the_long_one_does(void **state)
{
    (void)state;
    const uint32_t positions[] = {0, 1, 5, CLAIM_MASK - 1, CLAIM_MASK};
    unsigned went = 0;
    for (unsigned i = 0; i < 5 * 5 * 8; i++) {
        struct claim c = {positions[i % 5], positions[i / 5 % 5], i / 25 % 2, i / 50 % 2, i / 100, 0, 0}, mine = c;
        uint64_t left = claim_encode(c);
        set(c);
        int gone = claim_ahead(left) && claim_go_on(&word, &left);
        uint64_t there = atomic_load(&word);
        assert_true(there == left);
        set(c);
        assert_int_equal(gone ? CLAIM_GOT : 0, gone ? claims_next(&word, &no_offer, &mine) : 0);
        assert_true(!gone || atomic_load(&word) == there);
        went += gone != 0;
        set((struct claim){c.front, claim_add(c.back, 1), c.running, c.closed, c.turn, 0, 0});
        left = claim_encode(c);
        assert_false(claim_ahead(left) && claim_go_on(&word, &left));
    }
    assert_true(went > 5);
}

static void a_caller_believes_no_other_back(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        if (bit >= CLAIM_AT_FRONT && bit < CLAIM_AT_CLOSED && bit != CLAIM_AT_TURN && bit != CLAIM_AT_RECALLED)
            continue;
        struct claim_books books = {.seen = {.front = 5, .back = 9, .running = 1}, .exposed = 1}, before = books;
        uint64_t damaged = claim_encode(books.seen) ^ 1ull << bit;
        uint32_t taken = 7;
        atomic_store(&word, damaged);
        assert_int_equal(claim_append(&word, &books, 1), -1);
        assert_int_equal(claim_take_back(&word, &books, 1, &taken), -1);
        assert_int_equal(claim_end_offers(&word, &books), -1);
        assert_int_equal(claim_close(&word, &books), -1);
        assert_int_equal(claim_give_back(&word, &books, 5), -1);
        assert_int_equal(taken, 0);
        assert_memory_equal(&books, &before, sizeof books);
        assert_true(atomic_load(&word) == damaged);
    }
}

static void a_caller_believes_no_front_out_of_reach(void **state)
{
    (void)state;
    const uint32_t fronts[] = {0, 3, 4, 10, 4000, CLAIM_MASK};
    for (unsigned i = 0; i < 6; i++) {
        struct claim_books books = {.seen = {.front = 5, .back = 9, .running = 1}};
        set((struct claim){.front = fronts[i], .back = 9, .running = 1});
        assert_int_equal(claim_append(&word, &books, 1), -1);
    }
}

/* ---- Offers */

static void an_offer_that_cannot_be_is_not_believed(void **state)
{
    (void)state;
    const uint32_t bad[] = {9, 1000, UINT32_MAX, 1};    /* more than fit; an end before the front */
    for (unsigned i = 0; i < 4; i++) {
        struct claim mine = {.front = 7, .back = 7, .running = 1};
        struct claim_offer offer = {&offered, 4, 8};
        set(mine);
        atomic_store(&offered, bad[i]);
        assert_int_equal(claims_next(&word, &offer, &mine), CLAIM_DAMAGED);
        assert_true(claim_has_news(&word, &offer));
        assert_true(atomic_load(&word) == claim_encode(mine));
    }
}

/* A worker that stands between its look at the offer and its swap: the word must not be what it was, whatever the caller does meanwhile. */
static void a_stale_offer_is_never_appended(void **state)
{
    (void)state;
    enum { APPEND, OFFER, TAKE_BACK, SEE, STEPS, LONG = 8 };
    unsigned long all = 1, stale = 0;
    for (unsigned i = 0; i < LONG; i++)
        all *= STEPS;
    for (unsigned long n = 0; n < all; n++) {
        struct claim before = {.front = 5, .back = 5};
        struct claim_books books = {.seen = before, .offered = 2, .exposed = 1};
        unsigned open = 1, taken_back = 0;
        unsigned long steps = n;
        uint32_t taken;
        set(before);
        for (unsigned i = 0; i < LONG; i++, steps /= STEPS) {
            switch (steps % STEPS) {
            case APPEND: claim_append(&word, &books, 1); open = 1; break;
            case TAKE_BACK:
                claim_end_offers(&word, &books);
                claim_take_back(&word, &books, 100, &taken);
                open = 0;
                taken_back = 1;
                break;
            case SEE: claim_see(&books, claim_load(&word)); break;
            default:
                books.offered += open && !books.barred;
                books.exposed |= (int)open && !books.barred;
            }
            stale += taken_back;
            if (taken_back)
                assert_true(atomic_load(&word) != claim_encode(before));
        }
    }
    assert_true(stale > all);
}

/* ---- Two threads at once */

enum { TOTAL = 300000, PLACES = 256, SPAN = 12 };

static struct {
    claim_word word;
    int  item[PLACES], result[PLACES];          /* by position; written by one side before the word, or an offer, says so to the other */
    uint32_t first[PLACES];                     /* by position: of its span, whose offer is in the place of its first position */
    _Atomic uint32_t offered[PLACES];
    unsigned char claimed[TOTAL], back[TOTAL], seen[TOTAL];
    _Atomic int bad;
    unsigned long offers, held, given_back;
    int holds;                                  /* fences can be sent */
} arena;

static void run_at(uint32_t position)
{
    uint32_t at = position % PLACES;
    arena.claimed[arena.item[at]]++;
    arena.result[at] = arena.item[at] + 1;
}

/* For about as long as the caller takes to recall something. */
static void dawdle(void)
{
    for (int i = 0; i < 20; i++)
        sched_yield();
}

/* Claims a few together and runs them, as long as they stay its own. */
static void run_some(struct claim *mine)
{
    uint64_t left = claim_encode(*mine);
    uint32_t ahead = claim_ahead(left), n = ahead < 9 ? ahead : 9, position = mine->front;
    if (n && claim_go_on_together(&arena.word, &begun, &left, n)) {
        run_at(position);
        while (--n && claim_begin(&arena.word, &begun, left, ++position)) {
            run_at(position);
            if (arena.held++ % 512 == 0)
                dawdle();
        }
        enum claim_step step = claim_held(left) ? claim_settle(&arena.word, position, &left) : CLAIM_EMPTY;
        if (step == CLAIM_DAMAGED)
            arena.bad = 7;
        if (n && step == CLAIM_GOT)
            run_at(position);
        arena.given_back += n && step == CLAIM_EMPTY;
    }
    *mine = claim_decode(left);
}

static void *claim_all(void *arg)
{
    struct claim mine = {0};
    struct claim_offer offer = {0};
    enum claim_step step;
    arena.holds = fence_accept();
    while ((step = next(&arena.word, &offer, &mine)) != CLAIM_CLOSED) {
        if (step == CLAIM_DAMAGED) {
            arena.bad = 1;
            break;
        }
        if (step != CLAIM_GOT) {
            sched_yield();
            continue;
        }
        uint32_t first = arena.first[(mine.front - 1) % PLACES];
        offer = (struct claim_offer){&arena.offered[first % PLACES], first, SPAN};
        run_at(mine.front - 1);
        if (arena.holds)
            run_some(&mine);
    }
    return arg;
}

/* Looks at what is finished: its result must be there. */
static void collect(struct claim_books *books, uint32_t *taken)
{
    struct claim now = claim_load(&arena.word);
    if (!claim_plausible(books, now))
        arena.bad = 2;
    claim_see(books, now);
    for (; *taken != claim_finished(now); *taken = claim_add(*taken, 1)) {
        int item = arena.item[*taken % PLACES];
        if (arena.result[*taken % PLACES] != item + 1)
            arena.bad = 3;
        arena.seen[item]++;
    }
}

static void put(uint32_t position, uint32_t first, int item)
{
    arena.item[position % PLACES] = item;
    arena.first[position % PLACES] = first;
}

/* All but the last are a span that does not grow. */
static void append(struct claim_books *books, uint32_t *open, uint32_t n, int item)
{
    uint32_t first = claim_end(books), last = claim_add(first, n - 1);
    for (uint32_t i = 0; i < n; i++)
        put(claim_add(first, i), i == n - 1 ? last : first, item + (int)i);
    atomic_store(&arena.offered[*open % PLACES], 0);
    atomic_store(&arena.offered[first % PLACES], 0);
    atomic_store(&arena.offered[last % PLACES], 1);
    *open = last;
    if (claim_append(&arena.word, books, n))
        arena.bad = 4;
}

/* Nonzero: it did. */
static int grow(struct claim_books *books, uint32_t open, int item)
{
    uint32_t count = atomic_load(&arena.offered[open % PLACES]);
    if (!count || count == SPAN || books->barred)
        return 0;
    put(claim_end(books), open, item);
    books->offered++;
    books->exposed = 1;
    arena.offers++;
    atomic_store(&arena.offered[open % PLACES], count + 1);
    return 1;
}

static void take_back(struct claim_books *books, uint32_t open, uint32_t want)
{
    uint32_t back = 0;
    if (claim_end_offers(&arena.word, books))
        arena.bad = 5;
    atomic_store(&arena.offered[open % PLACES], 0);
    if (claim_take_back(&arena.word, books, want, &back))
        arena.bad = 6;
    for (uint32_t i = 0; i < back; i++)
        arena.back[arena.item[claim_add(books->seen.back, i) % PLACES]]++;
}

static void recall(struct claim_books *books)
{
    uint32_t none;
    if (claim_take_back(&arena.word, books, 0, &none))
        arena.bad = 8;
    if (books->seen.recalled && (!fence_send() || claim_give_back(&arena.word, books, atomic_load(&begun))))
        arena.bad = 9;
}

static void give_and_take(void)
{
    struct claim_books books = {0};
    uint32_t taken = 0, open = 0, random = 1;
    int next = 0;
    while (next < TOTAL && !arena.bad) {
        random = random * 1664525u + 1013904223u;
        if (random >> 29)
            collect(&books, &taken);
        uint32_t room = PLACES - 2 * SPAN - claim_distance(taken, claim_end(&books)), n = 1 + (random >> 20) % 8;
        n = n < room ? n : room;
        if (n > (uint32_t)(TOTAL - next))
            n = (uint32_t)(TOTAL - next);
        for (; n && random & 1u << 24 && grow(&books, open, next); n--)
            next++;
        if (n && !(random & 3u << 25))
            append(&books, &open, n, next), next += (int)n;
        if (!(random & 7u << 5))
            recall(&books);
        if (!(random & 63u << 12))
            take_back(&books, open, (random >> 15) % 8);
        if (!room || books.barred) {
            sched_yield();
            collect(&books, &taken);
        }
    }
    claim_close(&arena.word, &books);
    recall(&books);
    take_back(&books, open, CLAIM_LIMIT);
}

static void two_threads_never_get_the_same_item(void **state)
{
    (void)state;
    pthread_t worker;
    claim_reset(&arena.word);
    assert_int_equal(pthread_create(&worker, NULL, claim_all, NULL), 0);
    give_and_take();
    pthread_join(worker, NULL);
    assert_int_equal(arena.bad, 0);
    unsigned claimed = 0;
    for (int i = 0; i < TOTAL; i++) {
        if (arena.claimed[i] + arena.back[i] != 1)
            fail_msg("item %d was claimed %d times and taken back %d times", i, arena.claimed[i], arena.back[i]);
        assert_true(arena.seen[i] <= arena.claimed[i]);
        claimed += arena.claimed[i];
    }
    assert_true(claimed > 0);
    if (arena.offers < 1000)
        fail_msg("only %lu offers were made", arena.offers);
    if (arena.holds && (arena.held < 1000 || !arena.given_back))
        fail_msg("only %lu items were held, and %lu times the caller was quicker", arena.held, arena.given_back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_claim_is_decoded_as_it_was_encoded),
        cmocka_unit_test(positions_run_over),
        cmocka_unit_test(a_new_word_has_nothing),
        cmocka_unit_test(the_last_item_is_finished_though_nothing_waits),
        cmocka_unit_test(a_closed_word_gives_nothing_but_finishes),
        cmocka_unit_test(all_orders_from_zero),
        cmocka_unit_test(all_orders_over_the_end_of_positions),
        cmocka_unit_test(plausible_is_what_a_worker_can_have_done),
        cmocka_unit_test(a_worker_believes_no_other_front),
        cmocka_unit_test(the_short_way_leads_where_the_long_one_does),
        cmocka_unit_test(a_caller_believes_no_other_back),
        cmocka_unit_test(a_caller_believes_no_front_out_of_reach),
        cmocka_unit_test(an_offer_that_cannot_be_is_not_believed),
        cmocka_unit_test(a_stale_offer_is_never_appended),
        cmocka_unit_test(two_threads_never_get_the_same_item),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
