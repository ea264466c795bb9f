/* A call with a label draws its progress on stderr, and nothing else does: a map what has ended, an iterator what was delivered.
 *
 * stderr is a file, on which a bar is drawn once, at its end, or a terminal, on which it is drawn from the start. */
#define _GNU_SOURCE
#include "child.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <termios.h>

static char text[1 << 16];              /* what was drawn */
static int  output, own_stderr;

static void catch_stderr(int fd)
{
    output = fd;
    own_stderr = dup(STDERR_FILENO);
    assert_true(fd >= 0 && own_stderr >= 0);
    assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
}

static int file(void)
{
    char name[] = "/tmp/forkpool-progress-XXXXXX";
    int fd = mkstemp(name);

    unlink(name);
    return fd;
}

static void give_back_stderr(void)
{
    dup2(own_stderr, STDERR_FILENO);
    close(own_stderr);
}

/* How often `what` is in the text. */
static int count(const char *what)
{
    int n = 0;

    for (const char *at = text; (at = strstr(at, what)); at += strlen(what))
        n++;
    return n;
}

static void read_file(void)
{
    give_back_stderr();
    ssize_t n = pread(output, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = '\0';
    close(output);
}

static int odd_ones_fail(struct pool_task *task)
{
    return task->index % 2 ? pool_fail(task, 1, "odd") : 0;
}

static int next(void *left, struct pool_bytes *item)
{
    *item = (struct pool_bytes){"", 0};
    return (*(int *)left)-- > 0;
}

static struct pool *pool;

static int make(void **state)
{
    (void)state;
    pool = pool_create(&(struct pool_options){.workers = 2});
    return pool ? 0 : -1;
}

static int make_serial(void **state)
{
    (void)state;
    pool = pool_create(&(struct pool_options){.serial = 1});
    return pool ? 0 : -1;
}

static int destroy(void **state)
{
    (void)state;
    pool_destroy(pool);
    return 0;
}

static const struct pool_call labelled = {.progress = "halving"};

static void one_line_with_count_and_failures(const char *counted)
{
    assert_int_equal(count("halving"), 1);
    assert_int_equal(count("\n"), 1);
    assert_int_equal(count(counted), 1);
    assert_int_equal(count("50 failed"), 1);
}

static void a_map_tells_what_has_ended(void **state)
{
    (void)state;
    catch_stderr(file());
    assert_int_equal(pool_map(pool, odd_ones_fail, pool_range(100), NULL, 0, &labelled), POOL_FAILED);
    read_file();
    one_line_with_count_and_failures("100/100");
}

static void a_list_does(void **state)
{
    (void)state;
    catch_stderr(file());
    pool_results_free(pool_map_results(pool, odd_ones_fail, pool_range(100), &labelled));
    read_file();
    one_line_with_count_and_failures("100/100");
}

static void a_map_of_unknown_length_counts(void **state)
{
    int left = 100;

    (void)state;
    catch_stderr(file());
    assert_int_equal(pool_map(pool, odd_ones_fail, pool_generator(next, &left), NULL, 0, &labelled), POOL_FAILED);
    read_file();
    one_line_with_count_and_failures(": 100 it [");
    assert_int_equal(count("100/"), 0);
}

static void an_iterator_tells_what_was_delivered(void **state)
{
    struct pool_iter *it;

    (void)state;
    catch_stderr(file());
    it = pool_imap(pool, odd_ones_fail, pool_range(100), &labelled);
    while (pool_next(it))
        ;
    pool_iter_free(it);
    read_file();
    one_line_with_count_and_failures("100/100");
}

static void one_that_is_freed_half_way_tells_half(void **state)
{
    struct pool_iter *it;

    (void)state;
    catch_stderr(file());
    it = pool_imap(pool, odd_ones_fail, pool_range(200), &labelled);
    for (int i = 0; i < 100; i++)
        assert_non_null(pool_next(it));
    pool_iter_free(it);
    read_file();
    one_line_with_count_and_failures("100/200");
}

static void without_a_label_nothing_is_drawn(void **state)
{
    (void)state;
    catch_stderr(file());
    assert_int_equal(pool_map(pool, odd_ones_fail, pool_range(100), NULL, 0, NULL), POOL_FAILED);
    read_file();
    assert_string_equal(text, "");
}

static void a_refused_call_draws_nothing(void **state)
{
    (void)state;
    catch_stderr(file());
    assert_int_equal(pool_map(pool, NULL, pool_range(100), NULL, 0, &labelled), POOL_INVALID);
    assert_null(pool_map_async(pool, odd_ones_fail, pool_range(100), &labelled));
    assert_non_null(strstr(pool_error(), "progress"));
    read_file();
    assert_string_equal(text, "");
}

/* The text so far; nonzero: a whole line is there. */
static int has_line(void *master)
{
    size_t length = strlen(text);
    ssize_t n = read(*(int *)master, text + length, sizeof text - 1 - length);

    text[length + (n > 0 ? (size_t)n : 0)] = '\0';
    return strchr(text, '\n') != NULL;
}

static void on_a_terminal_it_is_drawn_from_the_start(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), slave;

    (void)state;
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    setenv("TERM", "xterm", 1);
    text[0] = '\0';
    catch_stderr(slave);
    assert_int_equal(pool_map(pool, odd_ones_fail, pool_range(100), NULL, 0, &labelled), POOL_FAILED);
    assert_true(check_until(has_line, &master, 30));
    give_back_stderr();
    assert_true(count("halving") >= 2);
    assert_true(count("0/100") >= 1);
    assert_int_equal(count("\n"), 1);
    close(slave);
    close(master);
}

static int open_master(int *slave)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    *slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(*slave >= 0);
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C", 1);
    text[0] = '\0';
    return master;
}

static const char *awaited;

static int has_awaited(void *master)
{
    has_line(master);
    return strstr(text, awaited) != NULL;
}

static struct pool_iter *walked;

/* Goes on by one; nonzero: another count than 0 is on the screen. */
static int has_grown(void *master)
{
    assert_non_null(pool_next(walked));
    has_line(master);
    for (const char *at = text; (at = strstr(at, "/1000000")); at++) {
        if (at[-1] != '0' || at[-2] != ' ')
            return 1;
    }
    return 0;
}

static void an_iterators_bar_grows_while_it_is_walked(void **state)
{
    int slave, master = open_master(&slave);

    (void)state;
    catch_stderr(slave);
    walked = pool_imap_unordered(pool, odd_ones_fail, pool_range(1000000), &labelled);
    int grown = check_until(has_grown, &master, PATIENCE);
    pool_iter_free(walked);
    give_back_stderr();
    close(slave);
    close(master);
    assert_true(grown);
}

/* ---- One slow item among small ones, of which its worker has claimed some together */

static struct gate { _Atomic size_t at, ran; _Atomic int open, stuck, waits; } *gate;

static int is_open(void *unused)
{
    (void)unused;
    return atomic_load(&gate->open);
}

static int wait_where_the_gate_is(struct pool_task *task)
{
    if (task->index == atomic_load(&gate->at)) {
        atomic_store(&gate->stuck, 1);
        return !check_until(is_open, NULL, PATIENCE);
    }
    atomic_fetch_add(&gate->ran, 1);
    return 0;
}

/* Nobody goes on, and the bar tells of all that have ended. */
static int is_told(void *master)
{
    char counted[32];

    snprintf(counted, sizeof counted, " %zu/4000", atomic_load(&gate->ran));
    awaited = counted;
    return has_awaited(master) && atomic_load(&gate->stuck);
}

static void *watch(void *master)
{
    int seen = check_until(is_told, master, PATIENCE / 2);
    atomic_store(&gate->open, 1);
    return seen ? master : NULL;
}

static int waits(void *unused)
{
    (void)unused;
    return atomic_load(&gate->waits);
}

static int wait_beside(struct pool_task *task)
{
    (void)task;
    atomic_store(&gate->waits, 1);
    return !check_until(is_open, NULL, PATIENCE);
}

/* The first of two threads that wait does the work of both. */
static void *call_beside(void *unused)
{
    pool_apply(pool, wait_beside, NULL, 0, NULL, 0, NULL);
    return unused;
}

static void tells_all_before_a_slow_item(int beside)
{
    int slave, master = open_master(&slave);

    gate = mmap(NULL, sizeof *gate, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(gate != MAP_FAILED);
    pool = pool_create(&(struct pool_options){.workers = 1 + (unsigned)beside});
    catch_stderr(slave);
    for (size_t at = 3000; at < 3005; at++) {
        pthread_t watcher, other;
        void *seen = NULL;
        atomic_store(&gate->at, at);
        atomic_store(&gate->open, 0);
        atomic_store(&gate->waits, 0);
        atomic_store(&gate->stuck, 0);
        atomic_store(&gate->ran, 0);
        text[0] = '\0';
        if (beside) {
            assert_int_equal(pthread_create(&other, NULL, call_beside, NULL), 0);
            assert_true(check_until(waits, NULL, PATIENCE));
        }
        assert_int_equal(pthread_create(&watcher, NULL, watch, &master), 0);
        enum pool_status status = pool_map(pool, wait_where_the_gate_is, pool_range(4000), NULL, 0, &labelled);
        pthread_join(watcher, &seen);
        if (beside)
            pthread_join(other, NULL);
        if (status != POOL_OK || !seen)
            give_back_stderr();
        assert_int_equal(status, POOL_OK);
        assert_non_null(seen);
    }
    give_back_stderr();
    close(slave);
    close(master);
    munmap(gate, sizeof *gate);
}

static void all_before_a_slow_item_is_told(void **state)
{
    (void)state;
    tells_all_before_a_slow_item(0);
}

static void all_before_a_slow_item_is_told_where_another_call_waits(void **state)
{
    (void)state;
    tells_all_before_a_slow_item(1);
}

/* ---- Two at a time, and Ctrl-C: on a terminal that is the host's own */

/* What was awaited has come, and the cursor is on a new line. */
static int ends_awaited_line(void *master)
{
    return has_awaited(master) && text[strlen(text) - 1] == '\n';
}

struct pair { struct pool_iter *first, *second; int master; };

/* Goes on with both; nonzero: both are on the screen, and from the lower one it went back to the upper one. */
static int are_drawn(void *arg)
{
    struct pair *pair = arg;

    assert_non_null(pool_next(pair->first));
    assert_non_null(pool_next(pair->second));
    awaited = "\033[1A";
    return has_awaited(&pair->master) && strstr(text, "second: ");
}

static void two_at_a_time_take_a_line_each(void **state)
{
    static const struct pool_call first = {.progress = "first"}, second = {.progress = "second"};
    int slave;
    struct pair pair = {.master = open_master(&slave)};

    (void)state;
    catch_stderr(slave);
    pair.first = pool_imap(pool, odd_ones_fail, pool_range(10000), &first);
    pair.second = pool_imap(pool, odd_ones_fail, pool_range(10000), &second);
    int drawn = check_until(are_drawn, &pair, 30);
    while (pool_next(pair.first) && pool_next(pair.second))
        ;
    pool_iter_free(pair.first);
    pool_iter_free(pair.second);
    awaited = "second: 100%";
    int ended = check_until(ends_awaited_line, &pair.master, 30);
    give_back_stderr();
    assert_true(drawn && ended);
    assert_non_null(strstr(text, "first: 100%"));
    assert_true(strstr(text, "first: 100%") < strstr(text, "second: 100%"));
    assert_true(count("10000/10000") >= 2);
    close(slave);
    close(pair.master);
}

static int wait_from_10_on(struct pool_task *task)
{
    while (task->index >= 10)
        pause();
    return 0;
}

/* As a program does that wants to end in order: no handler, but a thread that waits for the signal. */
static void *terminate_at_sigint(void *set)
{
    int signal;

    WANT(sigwait(set, &signal) == 0 && signal == SIGINT);
    pool_terminate(pool);
    return NULL;
}

static int terminal_of_host;

static void lead_the_terminal(void)
{
    WANT(setsid() > 0 && ioctl(terminal_of_host, TIOCSCTTY, 0) == 0 && dup2(terminal_of_host, 2) == 2);
}

static void terminates_its_map(void)
{
    sigset_t set;
    pthread_t thread;

    lead_the_terminal();
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    pool = pool_create(&(struct pool_options){.workers = 2});
    WANT(pool != NULL);
    WANT(pthread_create(&thread, NULL, terminate_at_sigint, &set) == 0);
    WANT(pool_map(pool, wait_from_10_on, pool_range(100), NULL, 0, &labelled) == POOL_CANCELLED);
    pthread_join(thread, NULL);
    pool_destroy(pool);
}

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    interrupted = signal;
}

static void leaves_its_loop(void)
{
    lead_the_terminal();
    signal(SIGINT, interrupt);
    struct pool_progress *bar = pool_progress_start("halving", 100);
    pool_progress_add(bar, 10, 0);
    while (!interrupted) {
        poll(NULL, 0, 20);
        pool_progress_add(bar, 0, 0);
    }
    pool_progress_finish(bar);
}

/* It does not need to end in order of itself: it is pressed when ten items are seen to be done. */
static void assert_new_line_after_ctrl_c(void (*act)(void))
{
    struct child child;
    int master = open_master(&terminal_of_host);

    fflush(NULL);
    child.pid = fork();
    if (child.pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        act();
        _exit(0);
    }
    close(terminal_of_host);
    awaited = "10/100";
    int drawn = check_until(has_awaited, &master, PATIENCE);
    assert_int_equal(write(master, "\003", 1), 1);
    int over = check_until(has_ended, &child, PATIENCE);
    if (!over) {
        kill(child.pid, SIGKILL);
        waitpid(child.pid, &child.status, 0);
    }
    int on_a_new_line = check_until(ends_awaited_line, &master, PATIENCE);
    assert_true(drawn && over && on_a_new_line);
    assert_true(WIFEXITED(child.status) && WEXITSTATUS(child.status) == 0);
    assert_int_equal(count("\n"), 1);
    close(master);
}

static void ctrl_c_in_a_call_leaves_the_cursor_on_a_new_line(void **state)
{
    (void)state;
    assert_new_line_after_ctrl_c(terminates_its_map);
}

static void ctrl_c_in_a_loop_leaves_the_cursor_on_a_new_line(void **state)
{
    (void)state;
    assert_new_line_after_ctrl_c(leaves_its_loop);
}

/* ---- Ctrl-C as it is unless a program says otherwise: it ends the program, and the shell goes on */

static const char *own_path;

/* What the shell runs. */
static int knows_nothing_of_signals(void)
{
    WANT((pool = pool_create(&(struct pool_options){.workers = 2})) != NULL);
    WANT(pool_map(pool, wait_from_10_on, pool_range(100), NULL, 0, &labelled) == POOL_OK);
    return 0;
}

static void becomes_a_shell(void)
{
    lead_the_terminal();
    WANT(dup2(terminal_of_host, 0) == 0 && dup2(terminal_of_host, 1) == 1);
    setenv("PS1", "ready> ", 1);
    unsetenv("ENV");
    WANT(execl("/bin/sh", "sh", "-i", (char *)NULL) == 0);
}

static void types(int master, const char *what)
{
    text[0] = '\0';
    assert_int_equal(write(master, what, strlen(what)), (ssize_t)strlen(what));
}

/* The terminal is the shell's as soon as the program has ended: it begins a line for its prompt, since the program died of SIGINT. */
static void ctrl_c_that_kills_leaves_the_prompt_on_a_new_line(void **state)
{
    struct child shell;
    char command[4096];
    int master = open_master(&terminal_of_host);

    (void)state;
    snprintf(command, sizeof command, "'%s' under-a-shell\n", own_path);
    fflush(NULL);
    shell.pid = fork();
    if (shell.pid == 0)
        becomes_a_shell();
    close(terminal_of_host);

    awaited = "ready> ";
    int ready = check_until(has_awaited, &master, PATIENCE);
    types(master, command);
    awaited = "10/100";
    int drawn = check_until(has_awaited, &master, PATIENCE);
    types(master, "\003");
    awaited = "\nready> ";
    int on_a_new_line = check_until(has_awaited, &master, PATIENCE);
    types(master, "echo code=$?\n");
    awaited = "code=130";
    int by_sigint = check_until(has_awaited, &master, PATIENCE);
    types(master, "exit\n");
    int over = check_until(has_ended, &shell, PATIENCE);
    if (!over) {
        kill(shell.pid, SIGKILL);
        waitpid(shell.pid, &shell.status, 0);
    }
    close(master);
    assert_true(ready && drawn && on_a_new_line && by_sigint && over);
}

#define WITH(setup, function) cmocka_unit_test_setup_teardown(function, setup, destroy)

int main(int argc, char **argv)
{
    own_path = argv[0];
    if (argc > 1)
        return knows_nothing_of_signals();

    const struct CMUnitTest tests[] = {
        WITH(make, a_map_tells_what_has_ended),
        WITH(make, a_list_does),
        WITH(make, a_map_of_unknown_length_counts),
        WITH(make, an_iterator_tells_what_was_delivered),
        WITH(make, one_that_is_freed_half_way_tells_half),
        WITH(make, without_a_label_nothing_is_drawn),
        WITH(make, a_refused_call_draws_nothing),
        WITH(make, on_a_terminal_it_is_drawn_from_the_start),
        WITH(make, an_iterators_bar_grows_while_it_is_walked),
        cmocka_unit_test_teardown(all_before_a_slow_item_is_told, destroy),
        cmocka_unit_test_teardown(all_before_a_slow_item_is_told_where_another_call_waits, destroy),
        WITH(make, two_at_a_time_take_a_line_each),
        cmocka_unit_test(ctrl_c_in_a_call_leaves_the_cursor_on_a_new_line),
        cmocka_unit_test(ctrl_c_in_a_loop_leaves_the_cursor_on_a_new_line),
        cmocka_unit_test(ctrl_c_that_kills_leaves_the_prompt_on_a_new_line),
        WITH(make_serial, a_map_tells_what_has_ended),
        WITH(make_serial, an_iterator_tells_what_was_delivered),
    };

    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
