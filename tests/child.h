/* Stories whose host is a forked child of the test: it does its part, and ends well or says what was not so. */
#ifndef CHILD_H
#define CHILD_H

#include "check.h"

#include <forkpool.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 30.0                   /* seconds; only a hang makes it expire */

/* In the child: what cmocka's assertions are in the test. */
static inline void want(int what, const char *file, int line)
{
    if (!what) {
        dprintf(2, "%s:%d: not so; pool_error: %s; errno %d\n", file, line, pool_error(), errno);
        _exit(1);
    }
}
#define WANT(what) want(what, __FILE__, __LINE__)

struct child {
    pid_t pid;
    int   status;
};

static inline int has_ended(void *child)
{
    struct child *c = child;

    return waitpid(c->pid, &c->status, WNOHANG) == c->pid;
}

/* Runs it in a forked child, which has to end, and well. */
static inline void in_child(void (*act)(void))
{
    struct child child;

    fflush(NULL);
    child.pid = fork();
    if (child.pid == 0) {
        signal(SIGSEGV, SIG_DFL);       /* cmocka's handler would go on with the next test here */
        act();
        _exit(0);
    }
    assert_true(child.pid > 0);
    if (!check_until(has_ended, &child, PATIENCE)) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, NULL, 0);
        fail_msg("the child hangs");
    }
    assert_true(WIFEXITED(child.status));
    assert_int_equal(WEXITSTATUS(child.status), 0);
}

#endif
