/* Pages: what is brought in, what is left as it is, and how far the books say it went. */
#define _GNU_SOURCE
#include "check.h"
#include "pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MUCH = 6 << 20 };

static unsigned char *map(int sharing)
{
    void *at = mmap(NULL, MUCH, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    assert_true(at != MAP_FAILED);
    return at;
}

static int is_there(unsigned char *at)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    unsigned char there = 0;
    assert_int_equal(mincore(at - ((uintptr_t)at & (page - 1)), 1, &there), 0);
    return there & 1;
}

/* Old kernels, and some sandboxes, do not do it: then there is nothing to be seen here. */
static void need_populate(void)
{
    unsigned char *at = map(MAP_PRIVATE);
    int r = madvise(at, 1, 23);
    munmap(at, MUCH);
    if (r)
        skip();
}

static void what_is_prepared_is_there(void **state)
{
    (void)state;
    need_populate();
    unsigned char *at = map(MAP_PRIVATE);
    pages_prepare(at + 100, MUCH - 200);
    assert_true(is_there(at) && is_there(at + MUCH / 2) && is_there(at + MUCH - 1));
    munmap(at, MUCH);
}

static void what_was_written_before_stays(void **state)
{
    (void)state;
    unsigned char *at = map(MAP_PRIVATE);
    memset(at, 7, 5000);
    pages_prepare(at + 1000, MUCH - 1000);
    size_t ready = 0;
    pages_prepare_ahead(at + 1000, MUCH - 1000, MUCH - 1000, &ready);
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(at[i], 7);
    munmap(at, MUCH);
}

static void small_memory_is_left_alone(void **state)
{
    (void)state;
    unsigned char *at = map(MAP_PRIVATE);
    size_t ready = 0;
    pages_prepare(at, 4096);
    pages_prepare_ahead(at, 4096, 4096, &ready);
    assert_false(is_there(at));
    munmap(at, MUCH);
}

static void ahead_goes_on_with_what_arrives(void **state)
{
    (void)state;
    need_populate();
    unsigned char *at = map(MAP_PRIVATE);
    size_t ready = 0;
    pages_prepare_ahead(at, MUCH, 1, &ready);
    assert_true(ready >= 1 && ready <= 4 << 20);
    assert_true(is_there(at));
    pages_prepare_ahead(at, MUCH, MUCH + 1000, &ready);
    assert_int_equal(ready, MUCH);
    assert_true(is_there(at + MUCH - 1));
    munmap(at, MUCH);
}

/* A size that a worker has only claimed must not become memory. */
static void ahead_of_a_large_size_little_is_taken(void **state)
{
    (void)state;
    size_t ready = 0, huge = (size_t)1 << 40;
    unsigned char *at = mmap(NULL, huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        skip();
    pages_prepare_ahead(at, huge, 1 << 20, &ready);
    assert_true(ready <= 8 << 20);
    assert_false(is_there(at + (16 << 20)));
    munmap(at, huge);
}

static void reach_grows_and_is_not_asked_again(void **state)
{
    (void)state;
    need_populate();
    unsigned char *at = map(MAP_SHARED);
    size_t reached = 0;
    pages_reach(at, 1, &reached, PAGES_WRITE);
    assert_true(reached >= 1);
    assert_true(is_there(at));
    size_t before = reached;
    pages_reach(at, 1, &reached, PAGES_WRITE);
    assert_int_equal(reached, before);
    pages_reach(at, MUCH, &reached, PAGES_READ);
    assert_int_equal(reached, MUCH);
    munmap(at, MUCH);
}

static void it_leaves_errno_alone_where_it_fails(void **state)
{
    (void)state;
    unsigned char *at = map(MAP_PRIVATE);
    munmap(at, MUCH);
    size_t reached = 0;
    errno = 77;
    pages_reach(at, MUCH, &reached, PAGES_WRITE);
    pages_prepare(at, MUCH);
    assert_int_equal(errno, 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_prepared_is_there),
        cmocka_unit_test(what_was_written_before_stays),
        cmocka_unit_test(small_memory_is_left_alone),
        cmocka_unit_test(ahead_goes_on_with_what_arrives),
        cmocka_unit_test(ahead_of_a_large_size_little_is_taken),
        cmocka_unit_test(reach_grows_and_is_not_asked_again),
        cmocka_unit_test(it_leaves_errno_alone_where_it_fails),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
