/* CPUs by mask and quota, in trees of files that look like /proc and /sys. */
#define _GNU_SOURCE
#include "check.h"
#include "cpu.h"
#include "cpu_place.h"

#include <fcntl.h>
#include <ftw.h>
#include <forkpool.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- A tree ---- */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/test_cpu.XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int drop(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

static int remove_root(void **state)
{
    (void)state;
    return nftw(root, drop, 16, FTW_DEPTH | FTW_PHYS);
}

/* Writes the file below the root, with the directories that lead there. */
static void put(const char *name, const char *text)
{
    char path[2 * PATH_MAX], *slash;
    FILE *file;

    assert_true(snprintf(path, sizeof path, "%s%s", root, name) < (int)sizeof path);
    for (slash = path + strlen(root); (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    file = fopen(path, "we");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#define PROC_MOUNT "22 1 0:21 / /proc rw,relatime shared:5 - proc proc rw\n"

/* A pure v2 system whose process is in `group`. */
static void put_v2(const char *group)
{
    char line[PATH_MAX];

    snprintf(line, sizeof line, "0::%s\n", group);
    put("/proc/self/cgroup", line);
    put("/proc/self/mountinfo",
        PROC_MOUNT "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n");
}

static void put_v1(const char *group)
{
    char lines[PATH_MAX];

    snprintf(lines, sizeof lines, "9:memory:/elsewhere\n4:cpu,cpuacct:%s\n3:cpuset:/elsewhere\n1:name=systemd:/elsewhere\n", group);
    put("/proc/self/cgroup", lines);
    put("/proc/self/mountinfo",
        PROC_MOUNT "30 25 0:26 / /sys/fs/cgroup ro shared:9 - tmpfs tmpfs ro,mode=755\n"
                   "36 30 0:32 / /sys/fs/cgroup/cpuset rw shared:15 - cgroup cgroup rw,cpuset\n"
                   "37 30 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:16 - cgroup cgroup rw,cpu,cpuacct\n"
                   "38 30 0:34 / /sys/fs/cgroup/memory rw shared:17 - cgroup cgroup rw,memory\n");
}

/* ---- The mask ---- */

static void without_files_the_mask_counts(void **state)
{
    (void)state;
    assert_int_equal(cpu_count_in(root, 6), 6);
}

static void never_below_one(void **state)
{
    (void)state;
    assert_int_equal(cpu_count_in(root, 0), 1);
}

static void a_missing_root_is_no_limit(void **state)
{
    (void)state;
    assert_int_equal(cpu_count_in("/nonexistent/root", 6), 6);
}

static void too_long_a_root_is_no_limit(void **state)
{
    static char name[4 * PATH_MAX];

    (void)state;
    memset(name, '/', sizeof name - 1);
    assert_int_equal(cpu_count_in(name, 6), 6);
}

static void the_mask_of_one_cpu_is_one(void **state)
{
    cpu_set_t all, one;
    size_t cpu = 0;

    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    assert_int_equal(cpu_affinity(), 1);
    assert_int_equal(pool_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
    assert_int_equal(cpu_affinity(), CPU_COUNT(&all));
}

static void the_public_count_is_within_the_mask(void **state)
{
    (void)state;
    assert_in_range(pool_cpu_count(), 1, cpu_affinity());
    assert_int_equal(pool_cpu_count(), cpu_count_in("", cpu_affinity()));
}

/* ---- Version 2 ---- */

static void v2_quota(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void v2_period_counts(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "300000 50000\n");
    assert_int_equal(cpu_count_in(root, 8), 6);
}

static void v2_one_and_a_half_is_two(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "150000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void v2_a_little_is_one(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "1000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 1);
}

static void v2_max_is_no_limit(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "max 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v2_more_than_the_mask_is_the_mask(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "1600000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v2_smallest_on_the_way_up(void **state)
{
    (void)state;
    put_v2("/a/b/c");
    put("/sys/fs/cgroup/a/b/c/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void v2_smallest_is_the_group_itself(void **state)
{
    (void)state;
    put_v2("/a/b");
    put("/sys/fs/cgroup/a/b/cpu.max", "200000 100000\n");
    put("/sys/fs/cgroup/a/cpu.max", "max 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void v2_at_the_mount_itself(void **state)
{
    (void)state;
    put_v2("/");                        /* in a container with a namespace of its own */
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void v2_not_above_the_mount(void **state)
{
    (void)state;
    put_v2("/a");
    put("/sys/fs/cgroup/a/cpu.max", "400000 100000\n");
    put("/sys/fs/cpu.max", "100000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 4);
}

static void v2_not_a_sibling(void **state)
{
    (void)state;
    put_v2("/a");
    put("/sys/fs/cgroup/b/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/a/below/cpu.max", "100000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v2_a_missing_group_still_has_those_above(void **state)
{
    (void)state;
    put_v2("/a/gone (deleted)");
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void v2_group_with_a_colon_and_a_space(void **state)
{
    (void)state;
    put_v2("/a:b c");
    put("/sys/fs/cgroup/a:b c/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void v2_is_read_anew_each_time(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
    put("/sys/fs/cgroup/job/cpu.max", "500000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 5);
}

/* ---- Version 1 ---- */

static void v1_quota(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void v1_one_and_a_half_is_two(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "75000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "50000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void v1_a_little_is_one(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "1000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 1);
}

static void v1_minus_one_is_no_limit(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v1_smallest_on_the_way_up(void **state)
{
    (void)state;
    put_v1("/a/b");
    put("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us", "500000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "400000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 4);
}

static void v1_without_a_period_is_no_limit(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v1_another_controller_is_not_asked(void **state)
{
    (void)state;
    put_v1("/job");
    put("/sys/fs/cgroup/cpuset/job/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpuset/job/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/elsewhere/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/memory/elsewhere/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void v1_mounted_in_parts_of_a_container(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "4:cpu,cpuacct:/docker/abc/inner\n");
    put("/proc/self/mountinfo", "37 30 0:33 /docker/abc /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu,cpuacct\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/inner/cpu.cfs_quota_us", "500000\n");
    put("/sys/fs/cgroup/cpu/inner/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

/* ---- Mounts ---- */

static void a_mount_root_is_taken_off(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abc/inner\n");
    put("/proc/self/mountinfo", "37 30 0:33 /docker/abc /cg rw - cgroup2 cgroup rw\n");
    put("/cg/inner/cpu.max", "300000 100000\n");
    put("/cg/docker/abc/inner/cpu.max", "100000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void a_mount_root_may_be_the_group_itself(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abc\n");
    put("/proc/self/mountinfo", "37 30 0:33 /docker/abc /cg rw - cgroup2 cgroup rw\n");
    put("/cg/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void a_mount_root_ends_at_a_slash(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/docker/abcdef\n");
    put("/proc/self/mountinfo", "37 30 0:33 /docker/abc /cg rw - cgroup2 cgroup rw\n");
    put("/cg/cpu.max", "100000 100000\n");      /* another container's */
    put("/cgdef/cpu.max", "100000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void a_mount_that_does_not_show_the_group_is_not_asked(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/mine\n");
    put("/proc/self/mountinfo",
        "37 30 0:33 /other /other rw - cgroup2 cgroup rw\n"
        "38 30 0:33 / /cg rw - cgroup2 cgroup rw\n");
    put("/other/cpu.max", "100000 100000\n");
    put("/cg/mine/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void a_group_outside_of_the_namespace_is_not_followed(void **state)
{
    (void)state;
    put_v2("/../other");
    put("/sys/fs/other/cpu.max", "100000 100000\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void dots_in_a_name_are_a_name(void **state)
{
    (void)state;
    put_v2("/..job/x..");
    put("/sys/fs/cgroup/..job/x../cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void escapes_in_a_mount_are_undone(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/a b/c\\d/job\n");
    put("/proc/self/mountinfo", "37 30 0:33 /a\\040b/c\\134d /my\\040cg\\011x rw - cgroup2 cgroup rw\n");
    put("/my cg\tx/job/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void optional_fields_are_skipped(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", "37 30 0:33 / /cg rw shared:1 master:2 propagate_from:3 unbindable - cgroup2  rw\n");
    put("/cg/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void long_lines_are_read_whole(void **state)
{
    static char text[40000];
    size_t at;

    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    at = (size_t)snprintf(text, sizeof text, "40 1 0:50 / / rw - overlay overlay rw,lowerdir=");
    memset(text + at, 'x', 30000);
    snprintf(text + at + 30000, sizeof text - at - 30000, "\n37 30 0:33 / /cg rw - cgroup2 cgroup rw\n");
    put("/proc/self/mountinfo", text);
    put("/cg/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void a_last_line_without_an_end_is_read(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "0::/");
    put("/proc/self/mountinfo", "37 30 0:33 / /cg rw - cgroup2 cgroup rw");
    put("/cg/cpu.max", "300000 100000");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

/* ---- Hybrid ---- */

static void put_hybrid(void)
{
    put("/proc/self/cgroup", "4:cpu:/one\n0::/two\n");
    put("/proc/self/mountinfo",
        "37 30 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        "38 30 0:34 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
}

static void hybrid_with_the_quota_in_v1(void **state)
{
    (void)state;
    put_hybrid();
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_quota_us", "200000\n");
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/unified/two/cgroup.procs", "1\n");
    assert_int_equal(cpu_count_in(root, 8), 2);
}

static void hybrid_takes_the_smaller(void **state)
{
    (void)state;
    put_hybrid();
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_quota_us", "400000\n");
    put("/sys/fs/cgroup/cpu/one/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/unified/two/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void hybrid_does_not_mix_the_groups(void **state)
{
    (void)state;
    put_hybrid();
    put("/sys/fs/cgroup/cpu/two/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu/two/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/unified/one/cpu.max", "100000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

/* ---- Garbage ---- */

static void garbage_in_cpu_max_is_no_limit(void **state)
{
    static const char *const garbage[] = {
        "", "\n", " ", "100000", "100000\n", "100000 \n", "x 100000\n", "100000 x\n", "100000x 100000\n", "0 100000\n", "-5 100000\n",
        "100000 0\n", "100000 -1\n", "99999999999999999999999 100000\n", "9223372036854775807 1\n", "100000,100000\n", "\377\376\n",
    };
    size_t i;

    (void)state;
    put_v2("/job");
    for (i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        put("/sys/fs/cgroup/job/cpu.max", garbage[i]);
        assert_int_equal(cpu_count_in(root, 8), 8);
    }
}

static void garbage_in_v1_is_no_limit(void **state)
{
    static const char *const garbage[] = {"", "\n", "0\n", "x\n", "-100000\n", "99999999999999999999\n"};
    size_t i;

    (void)state;
    put_v1("/job");
    for (i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", garbage[i]);
        put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n");
        assert_int_equal(cpu_count_in(root, 8), 8);
        put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "100000\n");
        put("/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", garbage[i]);
        assert_int_equal(cpu_count_in(root, 8), 8);
    }
}

static void garbage_in_one_group_leaves_the_others(void **state)
{
    (void)state;
    put_v2("/a/b");
    put("/sys/fs/cgroup/a/b/cpu.max", "garbage\n");
    put("/sys/fs/cgroup/a/cpu.max", "300000 100000\n");
    assert_int_equal(cpu_count_in(root, 8), 3);
}

static void garbage_in_proc_is_no_limit(void **state)
{
    static const char *const garbage[] = {
        "", "\n\n\n", ":", "::", ":::::\n", "0::\n", "0::relative\n", "nothing of the kind\n", "4:cpu\n", "37 30 0:33 / \n",
        "- - -\n", "37 30 0:33 / /sys/fs/cgroup rw -\n", "37 30 0:33 / /sys/fs/cgroup rw - cgroup2\n", "- cgroup2 x rw\n",
        "1 2 3 - cgroup2 x rw\n", "37 30 0:33 / /sys/fs/cgroup rw - cgroup\n", "37 30 0:33 \\ \\0 rw - cgroup2 \\777 \\\n",
    };
    size_t i, k;

    (void)state;
    put_v2("/job");
    for (i = 0; i < sizeof garbage / sizeof *garbage; i++) {
        put("/proc/self/cgroup", garbage[i]);
        for (k = 0; k < sizeof garbage / sizeof *garbage; k++) {
            put("/proc/self/mountinfo", garbage[k]);
            assert_int_equal(cpu_count_in(root, 8), 8);
        }
        put("/proc/self/cgroup", "4:cpu:/\n0::/\n");
        for (k = 0; k < sizeof garbage / sizeof *garbage; k++) {
            put("/proc/self/mountinfo", garbage[k]);
            assert_int_equal(cpu_count_in(root, 8), 8);
        }
    }
}

static void directories_for_files_are_no_limit(void **state)
{
    (void)state;
    put_v2("/job");
    put("/sys/fs/cgroup/job/cpu.max/file", "");
    assert_int_equal(cpu_count_in(root, 8), 8);
    put("/other", "");
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void missing_mounts_are_no_limit(void **state)
{
    (void)state;
    put("/proc/self/cgroup", "4:cpu:/job\n0::/job\n");
    assert_int_equal(cpu_count_in(root, 8), 8);
    put("/proc/self/mountinfo", PROC_MOUNT);
    assert_int_equal(cpu_count_in(root, 8), 8);
}

static void too_long_a_path_is_no_limit(void **state)
{
    static char line[20000];

    (void)state;
    put_v2("/");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    memset(line, 'x', sizeof line - 1);
    memcpy(line, "0::/", 4);
    put("/proc/self/cgroup", line);
    assert_int_equal(cpu_count_in(root, 8), 8);
}

#define IN_TREE(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TREE(without_files_the_mask_counts),
        IN_TREE(never_below_one),
        cmocka_unit_test(a_missing_root_is_no_limit),
        cmocka_unit_test(too_long_a_root_is_no_limit),
        cmocka_unit_test(the_mask_of_one_cpu_is_one),
        cmocka_unit_test(the_public_count_is_within_the_mask),
        IN_TREE(v2_quota),
        IN_TREE(v2_period_counts),
        IN_TREE(v2_one_and_a_half_is_two),
        IN_TREE(v2_a_little_is_one),
        IN_TREE(v2_max_is_no_limit),
        IN_TREE(v2_more_than_the_mask_is_the_mask),
        IN_TREE(v2_smallest_on_the_way_up),
        IN_TREE(v2_smallest_is_the_group_itself),
        IN_TREE(v2_at_the_mount_itself),
        IN_TREE(v2_not_above_the_mount),
        IN_TREE(v2_not_a_sibling),
        IN_TREE(v2_a_missing_group_still_has_those_above),
        IN_TREE(v2_group_with_a_colon_and_a_space),
        IN_TREE(v2_is_read_anew_each_time),
        IN_TREE(v1_quota),
        IN_TREE(v1_one_and_a_half_is_two),
        IN_TREE(v1_a_little_is_one),
        IN_TREE(v1_minus_one_is_no_limit),
        IN_TREE(v1_smallest_on_the_way_up),
        IN_TREE(v1_without_a_period_is_no_limit),
        IN_TREE(v1_another_controller_is_not_asked),
        IN_TREE(v1_mounted_in_parts_of_a_container),
        IN_TREE(a_mount_root_is_taken_off),
        IN_TREE(a_mount_root_may_be_the_group_itself),
        IN_TREE(a_mount_root_ends_at_a_slash),
        IN_TREE(a_mount_that_does_not_show_the_group_is_not_asked),
        IN_TREE(a_group_outside_of_the_namespace_is_not_followed),
        IN_TREE(dots_in_a_name_are_a_name),
        IN_TREE(escapes_in_a_mount_are_undone),
        IN_TREE(optional_fields_are_skipped),
        IN_TREE(long_lines_are_read_whole),
        IN_TREE(a_last_line_without_an_end_is_read),
        IN_TREE(hybrid_with_the_quota_in_v1),
        IN_TREE(hybrid_takes_the_smaller),
        IN_TREE(hybrid_does_not_mix_the_groups),
        IN_TREE(garbage_in_cpu_max_is_no_limit),
        IN_TREE(garbage_in_v1_is_no_limit),
        IN_TREE(garbage_in_one_group_leaves_the_others),
        IN_TREE(garbage_in_proc_is_no_limit),
        IN_TREE(directories_for_files_are_no_limit),
        IN_TREE(missing_mounts_are_no_limit),
        IN_TREE(too_long_a_path_is_no_limit),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
