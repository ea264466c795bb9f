/* Limits so low that a birth fails, at every possible point: pool_create gives NULL, errno and a sentence, with nothing left behind, or
 * a pool that works.
 *
 * The host is a forked child of the test with the limit set. The test is a child subreaper: what the host were to leave while it lives
 * becomes the test's child, and the host looks for that. Limits on memory mean nothing under sanitizers and valgrind. */
#define _GNU_SOURCE
#include "check.h"
#include "forkpool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 60.0                   /* seconds; only a hang makes it expire */
#define STRANGER 64123                  /* a user who has no other processes */
enum { N = 20, MANY = 200 };

#ifdef __GLIBC__
typedef enum __rlimit_resource resource_name;
#else
typedef resource_name resource_name;
#endif

static pid_t test;

static void want(int what, long limit, int line)
{
    if (!what) {
        dprintf(2, "%s:%d: not so at limit %ld; pool_error: %s; errno %d\n", __FILE__, line, limit, pool_error(), errno);
        _exit(1);
    }
}
#define WANT(what) want(what, limit, __LINE__)

struct child {
    pid_t pid;
    int   status;
};

static int has_ended(void *child)
{
    struct child *c = child;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == c->pid) {
            c->status = status;
            return 1;
        }
    }
    return 0;
}

static int no_child(void *unused)
{
    pid_t pid;

    (void)unused;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        ;
    return pid < 0 && errno == ECHILD;
}

static void in_child(void (*host)(void))
{
    struct child child;

    fflush(NULL);
    child.pid = fork();
    if (child.pid == 0) {
        signal(SIGSEGV, SIG_DFL);       /* cmocka's handler would go on with the next test here */
        host();
        _exit(0);
    }
    assert_true(child.pid > 0);
    if (!check_until(has_ended, &child, PATIENCE)) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        fail_msg("the host hangs");
    }
    assert_true(check_until(no_child, NULL, PATIENCE));
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), 0);
}

/* ---- What is left */

static pid_t parent_of(long pid)
{
    char path[64], line[512];
    ssize_t n;
    int fd, parent = 0;

    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    fd = open(path, O_RDONLY);
    if (fd < 0)
        return 0;
    n = read(fd, line, sizeof line - 1);
    close(fd);
    line[n > 0 ? n : 0] = '\0';
    if (!strrchr(line, ')') || sscanf(strrchr(line, ')') + 1, " %*c %d", &parent) != 1)
        return 0;
    return parent;
}

/* Children of the test, other than its host, which this is. Dead ones too until the test has reaped them: they count as processes. */
static int orphans(void)
{
    DIR *list = opendir("/proc");
    struct dirent *entry;
    int count = 0;
    long pid;

    while (list && (entry = readdir(list))) {
        pid = strtol(entry->d_name, NULL, 10);
        count += pid > 0 && pid != getpid() && parent_of(pid) == test;
    }
    if (list)
        closedir(list);
    return count;
}

static int no_orphans(void *unused)
{
    (void)unused;
    return orphans() == 0;
}

struct open {
    char fd[MANY];
};

static struct open look(void)
{
    struct open seen;
    int fd;

    for (fd = 0; fd < MANY; fd++)
        seen.fd[fd] = fcntl(fd, F_GETFD) >= 0;
    return seen;
}

/* ---- Trying */

static int square(struct pool_task *task)
{
    int x = *(const int *)task->in, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static int die(struct pool_task *task)
{
    (void)task;
    raise(SIGKILL);
    return 0;
}

static int set(resource_name resource, long limit)
{
    struct rlimit now;

    getrlimit(resource, &now);
    now.rlim_cur = (rlim_t)limit;
    return setrlimit(resource, &now);
}

static rlim_t before_limit;

static void lift(resource_name resource)
{
    struct rlimit now;

    getrlimit(resource, &now);
    now.rlim_cur = before_limit;
    setrlimit(resource, &now);
}

/* Nonzero: there was a pool, and it worked. */
static int attempt(resource_name resource, long limit, unsigned workers)
{
    int in[N], out[N], i, error, works;
    struct open before = look(), after;
    struct rlimit now;
    struct pool *pool;
    char why[1000];

    for (i = 0; i < N; i++)
        in[i] = i;
    getrlimit(resource, &now);
    before_limit = now.rlim_cur;
    WANT(set(resource, limit) == 0);
    errno = 0;
    pool = pool_create(&(struct pool_options){.workers = workers});
    error = errno;
    snprintf(why, sizeof why, "%s", pool_error());
    works = pool != NULL;
    if (pool) {
        WANT(pool_map(pool, square, pool_array(in, N, sizeof *in), out, sizeof *out, NULL) == POOL_OK);
        for (i = 0; i < N; i++)
            WANT(out[i] == i * i);
        pool_destroy(pool);
    }
    lift(resource);
    if (!works && (error == 0 || strlen(why) < 15)) {
        dprintf(2, "errno %d, pool_error: '%s'\n", error, why);
        WANT(0);
    }
    after = look();
    WANT(memcmp(&before, &after, sizeof after) == 0);
    WANT(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
    WANT(check_until(no_orphans, NULL, PATIENCE));
    return works;
}

/* ---- Descriptors */

static void few_descriptors(void)
{
    long limit = 0;
    int worked = 0;

    for (limit = 0; limit < 64; limit++)
        worked += attempt(RLIMIT_NOFILE, limit, 3);
    WANT(worked > 0 && worked < 64);
}

static void at_every_number_of_descriptors(void **state)
{
    (void)state;
    in_child(few_descriptors);
}

static void no_descriptors_later(void)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = 2});
    enum pool_status status;
    long limit = 4;
    int i;

    WANT(pool != NULL);
    WANT(set(RLIMIT_NOFILE, limit) == 0);
    for (i = 0; i < 100; i++) {
        status = pool_apply(pool, die, NULL, 0, NULL, 0, NULL);
        if (status == POOL_BROKEN)
            break;
        WANT(status == POOL_CRASHED);
    }
    WANT(i < 100 && strlen(pool_error()) > 20);
    pool_destroy(pool);
}

static void no_descriptor_for_a_replacement_breaks_the_pool(void **state)
{
    (void)state;
    in_child(no_descriptors_later);
}

/* ---- Processes */

static void become_a_stranger(void)
{
    long limit = 0;

    if (geteuid() == 0) {
        WANT(setgroups(0, NULL) == 0);
        WANT(setresgid(STRANGER, STRANGER, STRANGER) == 0);
        WANT(setresuid(STRANGER, STRANGER, STRANGER) == 0);
    }
}

static void few_processes(void)
{
    long limit = 0;
    int worked = 0;

    become_a_stranger();
    for (limit = 1; limit < 12; limit++)
        worked += attempt(RLIMIT_NPROC, limit, 4);
    WANT(worked > 0 && worked < 11);
}

static void at_every_number_of_processes(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();                         /* other processes of this user count as well */
    in_child(few_processes);
}

static void no_process_later(void)
{
    struct pool *pool;
    enum pool_status status;
    long limit = 1;
    int i;

    become_a_stranger();
    pool = pool_create(&(struct pool_options){.workers = 2});
    WANT(pool != NULL);
    /* The nursery is what forks: its limit is what it was at its birth, but a pool of the host's own is in nobody's way. */
    WANT(set(RLIMIT_NPROC, limit) == 0);
    for (i = 0; i < 10; i++) {
        status = pool_apply(pool, die, NULL, 0, NULL, 0, NULL);
        WANT(status == POOL_CRASHED);
    }
    WANT(!pool_create(&(struct pool_options){.workers = 2}) && errno == EAGAIN);
    pool_destroy(pool);
}

static void replacements_need_nothing_of_the_host(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    in_child(no_process_later);
}

/* ---- Memory */

static long address_space(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file) {
        if (fscanf(file, "%ld", &pages) != 1)
            pages = 0;
        fclose(file);
    }
    return pages * sysconf(_SC_PAGESIZE);
}

static void little_memory(void)
{
    long base = address_space(), step, limit = 0;
    int worked = 0, failed = 0, works;

    WANT(base > 0);
    for (step = 0; step < 2048 && worked < 50; step++) {
        limit = base + (step < 128 ? step * 8192 : step < 192 ? (step - 127) * 65536 + 1048576 : (step - 190) * 1048576L + 5242880);
        works = attempt(RLIMIT_AS, limit, 2);
        worked += works;
        failed += !works;
    }
    WANT(worked > 0 && failed > 0);
}

static void at_many_amounts_of_memory(void **state)
{
    (void)state;
    if (check_under(""))
        skip();
    in_child(little_memory);
}

static int setup(void **state)
{
    test = getpid();
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L), 0);
    return check_setup(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_every_number_of_descriptors),
        cmocka_unit_test(no_descriptor_for_a_replacement_breaks_the_pool),
        cmocka_unit_test(at_every_number_of_processes),
        cmocka_unit_test(replacements_need_nothing_of_the_host),
        cmocka_unit_test(at_many_amounts_of_memory),
    };

    return cmocka_run_group_tests(tests, setup, check_teardown);
}
