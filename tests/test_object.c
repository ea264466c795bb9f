/* A function named in one process is that function in another, or none. */
#define _GNU_SOURCE
#include "check.h"
#include "object.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int id_fn(void);

static void here(void) {}

static int there(void)
{
    return 17;
}

static int variable = 1;

static int same(const struct object_ref *one, const struct object_ref *other)
{
    return one->name == other->name && one->contents == other->contents && one->offset == other->offset;
}

static object_fn *symbol(void *library, const char *name)
{
    object_fn *fn;
    void *address = dlsym(library, name);

    memcpy(&fn, &address, sizeof fn);   /* as POSIX wants it; ISO C knows no such conversion */
    return fn;
}

static void *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        fail_msg("%s", dlerror());
    return library;
}

/* ---- In one process ---- */

static void a_static_function_goes_there_and_back(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(here, &ref), 0);
    assert_true(object_find(&ref) == here);
}

static void a_function_has_one_name(void **state)
{
    struct object_ref first, again;

    (void)state;
    assert_int_equal(object_name(here, &first), 0);
    assert_int_equal(object_name(here, &again), 0);
    assert_true(same(&first, &again));
}

static void two_functions_differ_by_offset_only(void **state)
{
    struct object_ref one, other;

    (void)state;
    assert_int_equal(object_name(here, &one), 0);
    assert_int_equal(object_name((object_fn *)there, &other), 0);
    assert_true(one.name == other.name);
    assert_true(one.contents == other.contents);
    assert_true(one.offset - other.offset == (uintptr_t)here - (uintptr_t)there);
}

static void a_library_function_goes_there_and_back(void **state)
{
    object_fn *fn = symbol(RTLD_DEFAULT, "_cmocka_run_group_tests");
    struct object_ref ref, mine;

    (void)state;
    assert_non_null(fn);
    assert_int_equal(object_name(fn, &ref), 0);
    assert_true(object_find(&ref) == fn);
    assert_int_equal(object_name(here, &mine), 0);
    assert_true(ref.name != mine.name);
    assert_true(ref.contents != mine.contents);
}

static void more_functions_than_are_cached_keep_their_names(void **state)
{
    object_fn *base = symbol(RTLD_DEFAULT, "_cmocka_run_group_tests"), *fn;
    struct object_ref first, ref;
    uintptr_t i, step;

    (void)state;
    assert_int_equal(object_name(base, &first), 0);
    for (i = 0; i < 4000; i++) {
        step = i * 7 % 500;             /* any address of its code will do */
        fn = (object_fn *)((uintptr_t)base + step);
        assert_int_equal(object_name(fn, &ref), 0);
        assert_true(ref.offset == first.offset + step);
        assert_true(object_find(&ref) == fn);
    }
}

static void more_functions_than_are_cached_are_found(void **state)
{
    object_fn *base = symbol(RTLD_DEFAULT, "_cmocka_run_group_tests");
    struct object_ref first, ref;
    uintptr_t step;

    (void)state;
    assert_int_equal(object_name(base, &first), 0);
    for (step = 0; step < 500; step++) {
        ref = first;
        ref.offset += step;
        assert_true((uintptr_t)object_find(&ref) == (uintptr_t)base + step);
    }
}

/* ---- What is no function ---- */

static void null_is_no_function(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(NULL, &ref), EINVAL);
}

static void data_is_no_function(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name((object_fn *)(uintptr_t)&variable, &ref), EINVAL);
}

static void the_stack_is_no_function(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name((object_fn *)(uintptr_t)&ref, &ref), EINVAL);
}

static void mapped_code_is_no_function(void **state)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct object_ref ref;

    (void)state;
    assert_true(page != MAP_FAILED);
    assert_int_equal(object_name((object_fn *)(uintptr_t)page, &ref), EINVAL);
    munmap(page, 4096);
}

static void the_vdso_is_no_object(void **state)
{
    uintptr_t vdso = (uintptr_t)getauxval(AT_SYSINFO_EHDR);
    struct object_ref ref;

    (void)state;
    if (!vdso)
        skip();
    assert_int_equal(object_name((object_fn *)(vdso + 64), &ref), EINVAL);
}

/* ---- What is not to be found ---- */

static void another_name_is_not_found(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(here, &ref), 0);
    assert_non_null(object_find(&ref));
    ref.name ^= UINT64_C(1) << 63;      /* the cache looks for it in the same place */
    assert_null(object_find(&ref));
}

static void other_contents_are_not_found(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(here, &ref), 0);
    assert_non_null(object_find(&ref));
    ref.contents ^= UINT64_C(1) << 63;
    assert_null(object_find(&ref));
}

static void an_offset_outside_of_code_is_not_found(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(here, &ref), 0);
    ref.offset += (uintptr_t)&variable - (uintptr_t)here;       /* our data */
    assert_null(object_find(&ref));
}

static void an_absurd_offset_is_not_found(void **state)
{
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(here, &ref), 0);
    ref.offset = UINT64_MAX;
    assert_null(object_find(&ref));
    ref.offset = UINT64_C(1) << 63;
    assert_null(object_find(&ref));
}

static void all_zero_is_not_found(void **state)
{
    const struct object_ref zero = {0, 0, 0};

    (void)state;
    assert_null(object_find(&zero));
    assert_null(object_find(&zero));
}

/* ---- Libraries that come and go ---- */

static void a_loaded_function_goes_there_and_back(void **state)
{
    void *library = load(PLUGIN_A);
    object_fn *fn = symbol(library, "plugin_id");
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(fn, &ref), 0);
    assert_true(object_find(&ref) == fn);
    assert_int_equal(((id_fn *)object_find(&ref))(), 1);
    dlclose(library);
}

static void the_same_function_of_two_libraries_is_two(void **state)
{
    void *one = load(PLUGIN_A), *other = load(PLUGIN_B);
    struct object_ref a, b;

    (void)state;
    assert_int_equal(object_name(symbol(one, "plugin_id"), &a), 0);
    assert_int_equal(object_name(symbol(other, "plugin_id"), &b), 0);
    assert_true(a.name != b.name);
    assert_int_equal(((id_fn *)object_find(&a))(), 1);
    assert_int_equal(((id_fn *)object_find(&b))(), 2);
    dlclose(one);
    dlclose(other);
}

static void what_was_unloaded_is_not_found(void **state)
{
    void *library = load(PLUGIN_A);
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(symbol(library, "plugin_id"), &ref), 0);
    assert_non_null(object_find(&ref));
    dlclose(library);
    assert_null(object_find(&ref));
}

static void what_was_unloaded_has_no_name(void **state)
{
    void *library = load(PLUGIN_A);
    object_fn *fn = symbol(library, "plugin_id");
    struct object_ref ref;

    (void)state;
    assert_int_equal(object_name(fn, &ref), 0);
    dlclose(library);
    assert_int_equal(object_name(fn, &ref), EINVAL);
}

static void another_library_at_its_address_is_another(void **state)
{
    void *library = load(PLUGIN_A);
    object_fn *fn = symbol(library, "plugin_id"), *other;
    struct object_ref a, b;

    (void)state;
    assert_int_equal(object_name(fn, &a), 0);
    dlclose(library);
    library = load(PLUGIN_B);
    other = symbol(library, "plugin_id");
    assert_int_equal(object_name(other, &b), 0);
    assert_null(object_find(&a));
    assert_int_equal(((id_fn *)object_find(&b))(), 2);
    assert_false(same(&a, &b));
    dlclose(library);
    if (other != fn)
        skip();                         /* it went elsewhere: not what this is about */
}

static void what_is_loaded_again_is_found_again(void **state)
{
    void *library = load(PLUGIN_A);
    struct object_ref ref;
    int i;

    (void)state;
    assert_int_equal(object_name(symbol(library, "plugin_id"), &ref), 0);
    dlclose(library);
    for (i = 0; i < 3; i++) {
        assert_null(object_find(&ref));
        library = load(PLUGIN_A);
        assert_true(object_find(&ref) == symbol(library, "plugin_id"));
        dlclose(library);
    }
}

/* ---- The same name, other contents ---- */

static char copy[64];                   /* a copy of PLUGIN_A, to be altered */

static int copy_plugin(void **state)
{
    char bytes[4096];
    FILE *from = fopen(PLUGIN_A, "re"), *to;
    size_t n;
    int fd;

    (void)state;
    strcpy(copy, "/tmp/test_object.XXXXXX");
    fd = mkstemp(copy);
    to = fd < 0 ? NULL : fdopen(fd, "w");
    if (!from || !to)
        return -1;
    while ((n = fread(bytes, 1, sizeof bytes, from)) > 0)
        fwrite(bytes, 1, n, to);
    fclose(from);
    return fclose(to);
}

static int remove_copy(void **state)
{
    (void)state;
    return unlink(copy);
}

static void name_in_copy(struct object_ref *ref)
{
    void *library = load(copy);

    assert_int_equal(object_name(symbol(library, "plugin_id"), ref), 0);
    dlclose(library);
}

/* Finds the copy's header of one type and shows it and the whole file to `alter`; 0: there is none that it wants. */
static int alter_copy(uint32_t type, int (*alter)(unsigned char *file, ElfW(Phdr) *part))
{
    FILE *file = fopen(copy, "r+e");
    static _Alignas(16) unsigned char bytes[1 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, file);
    const ElfW(Ehdr) *head = (const void *)bytes;
    ElfW(Phdr) *part = (void *)(bytes + head->e_phoff);
    int done = 0, i;

    assert_in_range(size, sizeof *head, sizeof bytes - 1);
    for (i = 0; i < head->e_phnum && !done; i++)
        if (part[i].p_type == type)
            done = alter(bytes, &part[i]);
    rewind(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    return done;
}

static int alter_build_id(unsigned char *file, ElfW(Phdr) *part)
{
    unsigned char *at = file + part->p_offset, *end = at + part->p_filesz;
    uint32_t head[3];

    for (; at + 20 <= end; at += 4) {
        memcpy(head, at, sizeof head);
        if (head[0] == 4 && head[2] == NT_GNU_BUILD_ID && memcmp(at + 12, "GNU", 4) == 0) {
            at[16 + head[1] - 1] ^= 1;  /* the very last byte */
            return 1;
        }
    }
    return 0;
}

static int alter_header(unsigned char *file, ElfW(Phdr) *part)
{
    (void)file;
    part->p_vaddr += 4096;              /* of the stack: the loader does not look at it */
    return 1;
}

static void an_equal_file_is_the_same(void **state)
{
    struct object_ref before, after;

    (void)state;
    name_in_copy(&before);
    name_in_copy(&after);
    assert_true(same(&before, &after));
}

static void another_build_id_is_another(void **state)
{
    struct object_ref before, after;

    (void)state;
    name_in_copy(&before);
    if (!alter_copy(PT_NOTE, alter_build_id))
        skip();
    name_in_copy(&after);
    assert_true(before.name == after.name);
    assert_true(before.offset == after.offset);
    assert_true(before.contents != after.contents);
}

static void other_headers_are_another(void **state)
{
    struct object_ref before, after;

    (void)state;
    name_in_copy(&before);
    if (!alter_copy(PT_GNU_STACK, alter_header))
        skip();
    name_in_copy(&after);
    assert_true(before.name == after.name);
    assert_true(before.contents != after.contents);
}

static void a_replaced_file_is_not_found(void **state)
{
    struct object_ref before;
    void *library;

    (void)state;
    name_in_copy(&before);
    assert_true(alter_copy(PT_GNU_STACK, alter_header));
    library = load(copy);
    assert_null(object_find(&before));
    dlclose(library);
}

/* ---- In another process ---- */

enum { NOT_FOUND = 99 };

/* A child that loads up to two libraries by itself, and runs what the parent then loads and names. What it returned. */
static int run_in_child(const char *first, const char *second, const char *named_library)
{
    int pipe_ends[2], status;
    struct object_ref ref;
    void *library;
    pid_t pid;

    assert_int_equal(pipe(pipe_ends), 0);
    pid = fork();
    if (pid == 0) {
        object_fn *fn;

        if ((first && !dlopen(first, RTLD_NOW)) || (second && !dlopen(second, RTLD_NOW)))
            _exit(98);
        if (read(pipe_ends[0], &ref, sizeof ref) != sizeof ref)
            _exit(97);
        fn = object_find(&ref);
        _exit(fn ? ((id_fn *)fn)() : NOT_FOUND);
    }
    assert_true(pid > 0);
    library = load(named_library);
    assert_int_equal(object_name(symbol(library, "plugin_id"), &ref), 0);
    assert_int_equal(write(pipe_ends[1], &ref, sizeof ref), sizeof ref);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    dlclose(library);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void a_function_of_the_program_is_found_in_a_child(void **state)
{
    struct object_ref ref;
    object_fn *fn;
    int status;
    pid_t pid;

    (void)state;
    assert_int_equal(object_name((object_fn *)there, &ref), 0);
    pid = fork();
    if (pid == 0) {
        fn = object_find(&ref);
        _exit(fn ? ((id_fn *)fn)() : NOT_FOUND);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 17);
}

static void a_library_loaded_by_both_is_found(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(PLUGIN_A, NULL, PLUGIN_A), 1);
    assert_int_equal(run_in_child(PLUGIN_B, NULL, PLUGIN_B), 2);
}

static void a_library_loaded_elsewhere_is_the_right_one(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(PLUGIN_B, PLUGIN_A, PLUGIN_A), 1);
    assert_int_equal(run_in_child(PLUGIN_A, PLUGIN_B, PLUGIN_B), 2);
}

static void a_library_not_loaded_is_not_found(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(NULL, NULL, PLUGIN_A), NOT_FOUND);
}

static void another_library_at_the_same_address_is_not_found(void **state)
{
    (void)state;
    assert_int_equal(run_in_child(PLUGIN_B, NULL, PLUGIN_A), NOT_FOUND);
}

/* ---- Threads ---- */

static void *name_and_find(void *arg)
{
    int *wrong = arg, i;
    struct object_ref ref;

    for (i = 0; i < 3000; i++) {
        object_fn *fn = i % 2 ? here : (object_fn *)there;

        *wrong |= object_name(fn, &ref) != 0 || object_find(&ref) != fn;
    }
    return NULL;
}

static void threads_do_not_disturb_each_other(void **state)
{
    pthread_t threads[3];
    int wrong[3] = {0, 0, 0}, i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, name_and_find, &wrong[i]), 0);
    for (i = 0; i < 200; i++)
        dlclose(load(i % 2 ? PLUGIN_A : PLUGIN_B));             /* meanwhile libraries come and go */
    for (i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(wrong[i], 0);
    }
}

#define WITH_COPY(test) cmocka_unit_test_setup_teardown(test, copy_plugin, remove_copy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_static_function_goes_there_and_back),
        cmocka_unit_test(a_function_has_one_name),
        cmocka_unit_test(two_functions_differ_by_offset_only),
        cmocka_unit_test(a_library_function_goes_there_and_back),
        cmocka_unit_test(more_functions_than_are_cached_keep_their_names),
        cmocka_unit_test(more_functions_than_are_cached_are_found),
        cmocka_unit_test(null_is_no_function),
        cmocka_unit_test(data_is_no_function),
        cmocka_unit_test(the_stack_is_no_function),
        cmocka_unit_test(mapped_code_is_no_function),
        cmocka_unit_test(the_vdso_is_no_object),
        cmocka_unit_test(another_name_is_not_found),
        cmocka_unit_test(other_contents_are_not_found),
        cmocka_unit_test(an_offset_outside_of_code_is_not_found),
        cmocka_unit_test(an_absurd_offset_is_not_found),
        cmocka_unit_test(all_zero_is_not_found),
        cmocka_unit_test(a_loaded_function_goes_there_and_back),
        cmocka_unit_test(the_same_function_of_two_libraries_is_two),
        cmocka_unit_test(what_was_unloaded_is_not_found),
        cmocka_unit_test(what_was_unloaded_has_no_name),
        cmocka_unit_test(another_library_at_its_address_is_another),
        cmocka_unit_test(what_is_loaded_again_is_found_again),
        WITH_COPY(an_equal_file_is_the_same),
        WITH_COPY(another_build_id_is_another),
        WITH_COPY(other_headers_are_another),
        WITH_COPY(a_replaced_file_is_not_found),
        cmocka_unit_test(a_function_of_the_program_is_found_in_a_child),
        cmocka_unit_test(a_library_loaded_by_both_is_found),
        cmocka_unit_test(a_library_loaded_elsewhere_is_the_right_one),
        cmocka_unit_test(a_library_not_loaded_is_not_found),
        cmocka_unit_test(another_library_at_the_same_address_is_not_found),
        cmocka_unit_test(threads_do_not_disturb_each_other),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
