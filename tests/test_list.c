/* A list of results: each at its index, kept with its data and message until freed. */
#define _GNU_SOURCE
#include "check.h"
#include "list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct pool_results *list, size_t index, const void *data, size_t size)
{
    struct ending e = {.index = index, .data = data, .size = size, .slot = -1, .text = ""};
    assert_int_equal(list_put(list, &e), 0);
}

static void put_failure(struct pool_results *list, size_t index, int code, const char *text)
{
    struct ending e = {.index = index, .status = POOL_FAILED, .code = code, .slot = -1, .text = text};
    assert_int_equal(list_put(list, &e), 0);
}

static void no_list_is_an_empty_one(void **state)
{
    (void)state;
    assert_int_equal(pool_results_count(NULL), 0);
    assert_null(pool_results_at(NULL, 0));
    assert_int_equal(pool_results_status(NULL), POOL_INVALID);
    pool_results_free(NULL);
}

static void an_empty_call_has_an_empty_list(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    list_close(list, 0, POOL_OK);
    assert_int_equal(pool_results_count(list), 0);
    assert_null(pool_results_at(list, 0));
    assert_int_equal(pool_results_status(list), POOL_OK);
    pool_results_free(list);
}

static void each_result_is_at_its_index_whatever_the_order(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    for (size_t i = 0; i < 1000; i++) {
        size_t index = i * 7919 % 1000;
        put(list, index, &index, sizeof index);
    }
    list_close(list, 1000, POOL_OK);
    assert_int_equal(pool_results_count(list), 1000);
    for (size_t i = 0; i < 1000; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        assert_int_equal(r->index, i);
        assert_int_equal(*(const size_t *)r->data, i);
    }
    assert_null(pool_results_at(list, 1000));
    pool_results_free(list);
}

static void results_of_all_sizes_are_kept_aligned(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    unsigned char *data = malloc(200000);
    size_t count = 0;
    assert_non_null(data);
    for (size_t size = 0; size < 200000; size = size < 64 ? size + 1 : size * 3 / 2, count++) {
        memset(data, (int)size & 0xff, size);
        put(list, count, data, size);
        if (count % 3 == 0)
            put_failure(list, ++count, 1, "between");
    }
    list_close(list, count, POOL_OK);
    for (size_t i = 0; i < count; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        assert_int_equal((uintptr_t)r->data % 16, 0);
        for (size_t k = 0; k < r->size; k++)
            if (((const unsigned char *)r->data)[k] != (r->size & 0xff))
                fail_msg("byte %zu of %zu is wrong", k, r->size);
        if (r->status == POOL_FAILED)
            assert_string_equal(r->message, "between");
        else
            assert_non_null(r->data);
    }
    free(data);
    pool_results_free(list);
}

static void an_owned_result_is_freed_with_the_list(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    char *own = strdup("owned");
    struct ending e = {.data = own, .owned = own, .size = 6, .slot = -1, .text = ""};
    put(list, 1, "small", 6);
    assert_int_equal(list_put(list, &e), 0);
    put(list, 2, "other", 6);
    assert_ptr_equal(pool_results_at(list, 0)->data, own);
    assert_string_equal(pool_results_at(list, 1)->data, "small");
    assert_string_equal(pool_results_at(list, 2)->data, "other");
    pool_results_free(list);
}

static void what_never_started_is_cancelled(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    put(list, 3, "d", 1);
    list_close(list, 6, POOL_CANCELLED);
    assert_int_equal(pool_results_count(list), 6);
    for (size_t i = 0; i < 6; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        assert_int_equal(r->index, i);
        assert_int_equal(r->status, i == 3 ? POOL_OK : POOL_CANCELLED);
        assert_int_equal(r->tries, 0);
        assert_true((r->message[0] == '\0') == (i == 3));
    }
    pool_results_free(list);
}

static void a_failure_keeps_its_text_and_has_no_data(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    char text[32];
    for (size_t i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "failure %zu", i);
        put_failure(list, i, (int)i, text);
    }
    list_close(list, 100, POOL_FAILED);
    for (size_t i = 0; i < 100; i++) {
        const struct pool_result *r = pool_results_at(list, i);
        snprintf(text, sizeof text, "failure %zu", i);
        assert_string_equal(r->message, text);
        assert_int_equal(r->code, i);
        assert_null(r->data);
        assert_int_equal(r->size, 0);
    }
    assert_int_equal(pool_results_status(list), POOL_FAILED);
    pool_results_free(list);
}

static void an_entry_beyond_the_count_is_kept(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    struct ending e = {.index = 1, .status = POOL_SOURCE_FAILED, .code = -4, .slot = -1, .text = "the generator failed"};
    put(list, 0, "a", 1);
    list_put(list, &e);
    list_close(list, 1, POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_count(list), 2);
    assert_int_equal(pool_results_at(list, 1)->status, POOL_SOURCE_FAILED);
    assert_int_equal(pool_results_at(list, 1)->code, -4);
    pool_results_free(list);
}

static void an_index_beyond_memory_is_refused_and_its_data_freed(void **state)
{
    (void)state;
    struct pool_results *list = list_create();
    void *own = malloc(10);
    struct ending e = {.index = SIZE_MAX, .data = own, .owned = own, .size = 10, .slot = -1, .text = ""};
    assert_true(list_put(list, &e) != 0);
    e.index = SIZE_MAX / 2;
    e.data = e.owned = malloc(10);
    assert_true(list_put(list, &e) != 0);
    assert_int_equal(pool_results_count(list), 0);
    pool_results_free(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_list_is_an_empty_one),
        cmocka_unit_test(an_empty_call_has_an_empty_list),
        cmocka_unit_test(each_result_is_at_its_index_whatever_the_order),
        cmocka_unit_test(results_of_all_sizes_are_kept_aligned),
        cmocka_unit_test(an_owned_result_is_freed_with_the_list),
        cmocka_unit_test(what_never_started_is_cancelled),
        cmocka_unit_test(a_failure_keeps_its_text_and_has_no_data),
        cmocka_unit_test(an_entry_beyond_the_count_is_kept),
        cmocka_unit_test(an_index_beyond_memory_is_refused_and_its_data_freed),
    };
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
