/* Processes and queues while calls fail: a process takes items from one queue and puts them back into another.
 *
 * One item at a time, so that a run is much like the next: small ones, one of no bytes, and some too large for the ring. Both sides write
 * down what they were told, in memory that they share. A call that failed is tried a few times; then the item is left where it is, and an
 * item whose put was OK has to arrive in the end, when no call fails any more. Where there is no process the host plays both parts. */
#define _GNU_SOURCE
#include "subject.h"

#include "forkpool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The smallest ring: it holds 16 KiB, and items of up to 8 KiB lie in it. */
enum { CAPACITY = 1 << 14, ITEMS = 8, TRIES = 3, LARGEST = (9 << 20) + 77, RAN = 7, GAVE_UP = 8 };
static const size_t sizes[ITEMS] = {8, 9000, 0, 100, LARGEST, 8191, 20000, 8};
enum { EMPTY = 2, HUGE = 4 };           /* HUGE: so large that its memory is given back in parts */

static struct book {
    atomic_int asked[ITEMS], answered[ITEMS];   /* its put into the queue there, and back: 0: not done, 1: OK, 2: not */
    atomic_int arrived[ITEMS];          /* how often it came back */
    atomic_int damaged;                 /* gets that could not read their item, and said that it is gone */
    atomic_int silent;                  /* somebody was told no reason for a failure */
    atomic_int gave_up;                 /* somebody gets no more: who puts is not to wait for that one */
} *book;

static struct pool_queue *there, *back;
static struct pool_process *echoer;

static size_t size_of(int item)
{
    return item == HUGE && !long_mode && !strict ? 30000 : sizes[item];
}

static unsigned char *bytes_of(int item)
{
    static unsigned char bytes[LARGEST];
    memset(bytes, item + 1, size_of(item));
    return bytes;
}

/* Which item this is; -1: none. */
static int number_of_item(const struct pool_bytes *item)
{
    const unsigned char *bytes = item->data;
    int number = item->size ? bytes[0] - 1 : EMPTY;
    if (number < 0 || number >= ITEMS || item->size != size_of(number) || (item->size && bytes[item->size - 1] != bytes[0]))
        return -1;
    return number;
}

/* Nonzero: another try is worth it. A status that this machine's want of something does not explain is wrong. */
static int try_again(const char *where, enum pool_status status, int tries)
{
    if (strict)
        wrong("%s: %s: %s", where, pool_status_text(status), pool_error());
    if (status == POOL_BROKEN)
        atomic_fetch_add(&book->damaged, 1);
    else if (status != POOL_NO_MEMORY)
        wrong("%s: not a truthful status: %s", where, pool_status_text(status));
    if (!pool_error()[0])
        atomic_store(&book->silent, 1);
    return tries < TRIES;
}

static int put(const char *where, struct pool_queue *queue, int item)
{
    for (int tries = 1;; tries++) {
        enum pool_status status = pool_queue_put(queue, bytes_of(item), size_of(item), 0.2);
        if (!status)
            return 1;
        if (status == POOL_PENDING && !atomic_load(&book->gave_up))
            tries--;
        else if (status == POOL_PENDING || !try_again(where, status, tries))
            return 2;
    }
}

/* ---- The process */

static int echo_all(void *unused)
{
    (void)unused;
    pool_queue_close(there);
    int tries = 1;
    while (tries <= TRIES) {
        struct pool_bytes got;
        enum pool_status status = pool_queue_get(there, &got, -1);
        if (status == POOL_CLOSED)
            break;
        if (status) {
            tries += try_again("the process gets", status, 1);
            continue;
        }
        int item = number_of_item(&got);
        if (item < 0)
            return GAVE_UP + 1;
        atomic_store(&book->answered[item], put("the process puts", back, item));
        tries = 1;
    }
    if (tries > TRIES)
        atomic_store(&book->gave_up, 1);
    pool_queue_free(there);
    pool_queue_free(back);
    return tries > TRIES ? GAVE_UP : RAN;
}

static int wait_for_a_signal(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return 0;
}

static void do_signals(void)
{
    static const int signals[] = {SIGTERM, SIGKILL};
    for (int i = 0; i < 2; i++) {
        errno = 0;
        struct pool_process *p = pool_process_start(wait_for_a_signal, NULL);
        if (!p) {
            check_refusal("a process");
            continue;
        }
        if (pool_process_exitcode(p) != POOL_ALIVE || !pool_process_alive(p))
            wrong("a process that waits has ended: %d", pool_process_exitcode(p));
        (i ? pool_process_kill : pool_process_terminate)(p);
        enum pool_status status = pool_process_join(p, -1);
        if (status || pool_process_exitcode(p) != -signals[i])
            wrong("signal %d: %s, and its exit code is %d", signals[i], pool_status_text(status), pool_process_exitcode(p));
        pool_process_free(p);
    }
}

/* ---- The host */

/* Takes an item, and tells which: or ITEMS for the end, NOTHING for now, or FAILED. */
enum { NOTHING = -1, FAILED = -2 };

static int take(struct pool_queue *queue, double seconds)
{
    struct pool_bytes got;
    enum pool_status status = pool_queue_get(queue, &got, seconds);
    if (status == POOL_CLOSED)
        return ITEMS;
    if (status == POOL_PENDING)
        return NOTHING;
    if (status) {
        try_again("get", status, 1);
        return FAILED;
    }
    int item = number_of_item(&got);
    if (item < 0)
        wrong("what was got is no item: %zu bytes", got.size);
    else if (atomic_fetch_add(&book->arrived[item], 1))
        wrong("item %d came twice", item);
    return item;
}

/* Until the item is back, or was damaged on its way, or the process could not put it, or the host could not get it a few times. */
static void await(int item, int damaged)
{
    for (int tries = 0; !atomic_load(&book->arrived[item]) && tries < TRIES;) {
        int over = atomic_load(&book->answered[item]) || !echoer || !pool_process_alive(echoer);
        if (atomic_load(&book->damaged) != damaged)
            return;
        int taken = take(back, over ? 0 : 0.02);
        if (taken == FAILED || (taken == NOTHING && over))
            tries++;
        if (taken == FAILED && tries == TRIES)
            atomic_store(&book->gave_up, 1);
    }
}

/* Where no process is: the host itself takes the item from the one queue and puts it into the other. */
static void carry(int item)
{
    struct pool_bytes got;
    enum pool_status status = POOL_NO_MEMORY;
    for (int tries = 1; status && tries <= TRIES; tries++) {
        status = pool_queue_get(there, &got, 0);
        if (status == POOL_PENDING)
            return;                     /* it took an earlier one then */
        if (status)
            try_again("get", status, tries);
    }
    item = status ? item : number_of_item(&got);
    if (item < 0)
        wrong("what was put there is no item");
    else if (!status)
        atomic_store(&book->answered[item], put("put", back, item));
}

/* What a put brought into either queue has arrived by now: in the one where the process that should have taken it gave up. */
static int lost(int item)
{
    int answered = atomic_load(&book->answered[item]);
    int expected = answered == 1 || (answered == 0 && atomic_load(&book->asked[item]) == 1);
    return expected && !atomic_load(&book->arrived[item]);
}

static void take_the_rest(struct pool_queue *queue)
{
    int end = 0;
    for (int i = 0; i <= ITEMS && !end; i++)
        end = take(queue, 0) == ITEMS;
    if (!end)
        wrong("its end is not told");
}

static struct pool_queue *make_queue(void)
{
    errno = 0;
    struct pool_queue *queue = pool_queue_create(CAPACITY);
    if (!queue)
        check_refusal("a queue");
    else if (pool_queue_capacity(queue) != CAPACITY || pool_queue_fd(queue) < 0)
        wrong("the queue holds %zu bytes, and its descriptor is %d", pool_queue_capacity(queue), pool_queue_fd(queue));
    return queue;
}

/* The queues are closed by the host, and the process ends by that; whether all went well is in its exit code. */
static void join(void)
{
    enum pool_status status = pool_process_join(echoer, -1);
    int code = pool_process_exitcode(echoer);
    if (status || (code != RAN && (strict || code != GAVE_UP)))
        wrong("join: %s, exit code %d", pool_status_text(status), code);
    pool_process_free(echoer);
    echoer = NULL;
}

void apart_prepare(void)
{
    book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bytes_of(HUGE);                     /* its pages are not to be copied in each run of a process */
}

void apart_run(void)
{
    do_signals();
    there = make_queue();
    back = make_queue();
    if (!there || !back)
        return;
    errno = 0;
    echoer = pool_process_start(echo_all, NULL);
    if (!echoer) {
        check_refusal("a process");
        atomic_store(&book->gave_up, 1);
    }
    for (int item = 0; item < ITEMS; item++) {
        int damaged = atomic_load(&book->damaged);
        atomic_store(&book->asked[item], put("put", there, item));
        if (atomic_load(&book->asked[item]) != 1)
            continue;
        if (!echoer)
            carry(item);
        await(item, damaged);
    }
    pool_queue_close(there);
    pool_queue_close(back);
    if (echoer)
        join();
}

void apart_end(void)
{
    if (there && back) {
        take_the_rest(there);
        take_the_rest(back);
        int damaged = atomic_load(&book->damaged);
        for (int item = 0; item < ITEMS; item++)
            if (lost(item) && !damaged--)
                wrong("item %d is lost", item);
    }
    if (atomic_load(&book->silent))
        wrong("a put or a get failed without a word");
    pool_queue_free(there);
    pool_queue_free(back);
}
