/* What all test programs share: nothing is left behind, and waiting that ends.
 *
 * Whole groups are watched by cmocka_run_group_tests(tests, check_setup, check_teardown). */
#ifndef CHECK_H
#define CHECK_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/types.h>

/* How this process stood at one moment. */
struct check_state {
    int      fds[1024];                 /* what was open */
    size_t   count;
    sigset_t mask;                      /* of the calling thread */
};

/* Notes how things stand. */
void check_begin(struct check_state *state);

/* Asserts that the same descriptors are open as then, that the signal mask is the same, and that there is no child. */
void check_end(const struct check_state *state);

/* The same around a group of tests. *state is left alone. */
int check_setup(void **state);
int check_teardown(void **state);

/* Waits until condition(arg) is true, for so many seconds at most: whether it is, 1 or 0. Tests sleep nowhere else. */
int check_until(int (*condition)(void *), void *arg, double seconds);

/* Does the test run under that tool (address, thread, valgrind ...; "": under any), which has ideas of its own of memory and time? */
int check_under(const char *tool);

/* Asserts that pool_error() says that. */
void check_says(const char *part);

/* Is there such a process, and not as a zombie? */
int check_alive(pid_t pid);

#endif
