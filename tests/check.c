/* What all test programs share. Runs in the test process; forked children of tests do not come here, but for the last two.
 *
 * Descriptors are compared by number, as the system lists them: a leak shows whoever made it. A child is asked for with
 * waitpid(-1), which would also take one that a test forgot; it has failed by then anyway. */
#define _GNU_SOURCE
#include "check.h"
#include "clock.h"

#include <forkpool.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct check_state group;

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    return (x > y) - (x < y);
}

static void look(struct check_state *state)
{
    const size_t room = sizeof state->fds / sizeof *state->fds;
    DIR *list = opendir("/proc/self/fd");
    struct dirent *entry;
    int fd;

    assert_non_null(list);
    state->count = 0;
    while ((entry = readdir(list))) {
        fd = (int)strtol(entry->d_name, NULL, 10);
        if (entry->d_name[0] == '.' || fd == dirfd(list))
            continue;
        assert_true(state->count < room);
        state->fds[state->count++] = fd;
    }
    closedir(list);
    qsort(state->fds, state->count, sizeof *state->fds, ascending);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, NULL, &state->mask), 0);
}

static int has(const struct check_state *state, int fd)
{
    return bsearch(&fd, state->fds, state->count, sizeof fd, ascending) != NULL;
}

/* Names what is in one and not in the other; how many there are. */
static int tell(const struct check_state *one, const struct check_state *other, const char *what)
{
    char link[64], file[256];
    int told = 0;
    ssize_t n;
    size_t i;

    for (i = 0; i < one->count; i++) {
        if (has(other, one->fds[i]))
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", one->fds[i]);
        n = readlink(link, file, sizeof file - 1);
        file[n > 0 ? n : 0] = '\0';
        print_error("descriptor %d %s: %s\n", one->fds[i], what, file);
        told++;
    }
    return told;
}

void check_begin(struct check_state *state)
{
    look(state);
}

void check_end(const struct check_state *state)
{
    struct check_state now;
    int wrong, status, sig;
    pid_t child;

    look(&now);
    wrong = tell(&now, state, "was left open");
    wrong += tell(state, &now, "was closed");
    assert_int_equal(wrong, 0);

    for (sig = 1; sig < NSIG; sig++)
        if (sigismember(&now.mask, sig) != sigismember(&state->mask, sig))
            fail_msg("signal %d is now %s", sig, sigismember(&now.mask, sig) == 1 ? "blocked" : "open");

    child = waitpid(-1, &status, WNOHANG);
    if (child >= 0)
        fail_msg("a child was left: %s", child ? "a dead one" : "it runs");
    assert_int_equal(errno, ECHILD);
}

int check_setup(void **state)
{
    (void)state;
    check_begin(&group);
    return 0;
}

int check_teardown(void **state)
{
    (void)state;
    check_end(&group);
    return 0;
}

int check_until(int (*condition)(void *), void *arg, double seconds)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    int64_t deadline = clock_deadline(seconds);

    while (!condition(arg)) {
        if (clock_now() >= deadline)
            return condition(arg) != 0;
        nanosleep(&pause, NULL);
    }
    return 1;
}

int check_alive(pid_t pid)
{
    char path[64], line[512] = "";
    const char *state;
    FILE *file;

    if (pid <= 0 || (kill(pid, 0) < 0 && errno != EPERM))
        return 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;                       /* gone meanwhile */
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    state = strrchr(line, ')');         /* behind the name, which may contain anything */
    return state && state[1] == ' ' && state[2] != 'Z' && state[2] != 'X';
}

int check_under(const char *tool)
{
    const char *all = getenv("FORKPOOL_TOOL");

    return all && *all && strstr(all, tool);
}

void check_says(const char *part)
{
    if (!strstr(pool_error(), part))
        fail_msg("\"%s\" does not say \"%s\"", pool_error(), part);
}
