/* What a person at a terminal does to a host is what happens to it, as without us: Ctrl-C, Ctrl-\, Ctrl-Z and fg, a pipeline whose
 * reader has left, a terminal that is closed. The workers go when it goes, without a word; they are not hit when it is not, nor stopped
 * when it is.
 *
 * The terminal is a pty: keys are bytes written to its master. As at a real one a shell leads its session, and the host is that
 * shell's foreground job: a process group of its own. When it stops, the shell takes the terminal back; what becomes of it, the shell
 * reports to the test. Nothing but the host and its workers would write on that terminal (it does not echo): what comes out of the
 * master is their noise, and its end proves that nobody holds the terminal any more.
 *
 * The test is a child subreaper: whatever were left of a host would become its child.
 * Processes tell where they are on a board in shared memory. */
#define _GNU_SOURCE
#include "child.h"
#include "clock.h"
#include "forkpool.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <termios.h>

#define CTRL_C  '\003'
#define CTRL_BS '\034'
#define CTRL_Z  '\032'

#define SECOND 1e9
enum { WORKERS = 2, N = 20 };

static struct board {
    atomic_int   host;                  /* its pid */
    atomic_int   count;                 /* of those enrolled: the nursery, and each worker ever born */
    atomic_int   pids[64];
    atomic_int   ready;                 /* the host is where the test wants it */
    atomic_int   begun, finished;       /* tasks */
    _Atomic int64_t first;              /* when the first task began; 0: none has */
    atomic_int   open;                  /* the gate that tasks wait at */
    atomic_int   heard;                 /* signals, by the host's handler */
} *board;

static int    piped;                    /* the next host's stdout goes to a reader that leaves after a line */
static int    tostop;                   /* the next terminal stops what writes in the background */
static double time_limit;               /* of the next host's items */

/* ---- In workers ---- */

static int gate_is_open(void *unused)
{
    (void)unused;
    return atomic_load(&board->open);
}

static void enrol(pid_t pid)
{
    int at = atomic_fetch_add(&board->count, 1);

    if (at < 64)
        atomic_store(&board->pids[at], pid);
}

static int join_in(struct pool_worker *worker)
{
    if (worker->index == 0)
        enrol(getppid());               /* the nursery */
    enrol(getpid());
    return 0;
}

static int join_in_and_wait(struct pool_worker *worker)
{
    join_in(worker);
    return check_until(gate_is_open, NULL, PATIENCE) ? 0 : pool_init_fail(worker, 1, "the gate stays shut");
}

static int block_all(struct pool_worker *worker)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    return join_in(worker);
}

static void begin_task(void)
{
    int64_t none = 0;

    atomic_compare_exchange_strong(&board->first, &none, clock_now());
    atomic_fetch_add(&board->begun, 1);
}

static int square(struct pool_task *task)
{
    int x = (int)task->index, y = x * x;

    return pool_return(task, &y, sizeof y);
}

static int square_at_gate(struct pool_task *task)
{
    begin_task();
    if (!check_until(gate_is_open, NULL, PATIENCE))
        return pool_fail(task, 1, "the gate stays shut");
    atomic_fetch_add(&board->finished, 1);
    return square(task);
}

static int say_at_gate(struct pool_task *task)
{
    begin_task();
    if (!check_until(gate_is_open, NULL, PATIENCE))
        return pool_fail(task, 1, "the gate stays shut");
    if (dprintf(1, "w") != 1)
        return pool_fail(task, 1, "cannot write");
    atomic_fetch_add(&board->finished, 1);
    return square(task);
}

/* One sleeps, its neighbour does not. */
static int never_end(struct pool_task *task)
{
    begin_task();
    for (;;)
        if (task->index % 2 == 0)
            pause();
    return 0;
}

static int first_at_gate(struct pool_task *task)
{
    if (task->index == 0)
        return square_at_gate(task);
    begin_task();
    for (;;)
        pause();
    return 0;
}

/* ---- Hosts ---- */

static struct pool *make_pool(pool_initializer *initializer)
{
    struct pool *pool = pool_create(&(struct pool_options){.workers = WORKERS, .initializer = initializer});

    WANT(pool != NULL);
    return pool;
}

static void are_squares(const int *values, int count)
{
    int i;

    for (i = 0; i < count; i++)
        WANT(values[i] == i * i);
}

static void works_well(struct pool *pool)
{
    int out[N];

    WANT(pool_map(pool, square, pool_range(N), out, sizeof *out, NULL) == POOL_OK);
    are_squares(out, N);
}

/* Those that the terminal ends: */

static void in_create(void)
{
    make_pool(join_in_and_wait);
}

static void in_idle(void)
{
    make_pool(join_in);
    atomic_store(&board->ready, 1);
    for (;;)
        pause();
}

static void in_map(void)
{
    pool_map(make_pool(join_in), never_end, pool_range(100), NULL, 0, NULL);
}

static void in_map_of_deaf_workers(void)
{
    pool_map(make_pool(block_all), never_end, pool_range(100), NULL, 0, NULL);
}

static void in_next(void)
{
    pool_next(pool_imap(make_pool(join_in), never_end, pool_range(100), NULL));
}

/* As `host | head -1`: it prints results until there is nobody to print them for. */
static void prints_results(void)
{
    struct pool_iter *it = pool_imap(make_pool(join_in), square, pool_range(2000000000), NULL);
    const struct pool_result *r;

    while ((r = pool_next(it)))
        WANT(dprintf(1, "%d\n", *(const int *)r->data) > 0);
}

static void prints_while_workers_are_busy(void)
{
    struct pool_iter *it = pool_imap(make_pool(join_in), first_at_gate, pool_range(100), NULL);

    atomic_store(&board->open, 1);
    WANT(pool_next(it) != NULL);
    for (;;)
        WANT(dprintf(1, "a line\n") > 0);
}

/* Those that keep control, or go on: */

static void hear(int signal)
{
    (void)signal;
    atomic_fetch_add(&board->heard, 1);
}

static void handle(int signal)
{
    struct sigaction action = {.sa_handler = hear};     /* no SA_RESTART */

    WANT(sigaction(signal, &action, NULL) == 0);
}

static void creates(void)
{
    struct pool *pool;

    handle(SIGINT);
    pool = make_pool(join_in_and_wait);
    works_well(pool);
    pool_destroy(pool);
}

static void applies(void)
{
    struct pool *pool;
    int out = -1;

    handle(SIGINT);
    pool = make_pool(join_in);
    WANT(pool_apply(pool, square_at_gate, NULL, 0, &out, sizeof out, NULL) == POOL_OK);
    are_squares(&out, 1);
    pool_destroy(pool);
}

static void maps(void)
{
    struct pool *pool;
    int out[N];

    handle(SIGINT);
    pool = make_pool(join_in);
    WANT(pool_map(pool, square_at_gate, pool_range(N), out, sizeof *out, NULL) == POOL_OK);
    are_squares(out, N);
    pool_destroy(pool);
}

static void nexts(void)
{
    const struct pool_result *r;
    struct pool_iter *it;
    struct pool *pool;
    int out[N], i;

    handle(SIGINT);
    pool = make_pool(join_in);
    it = pool_imap(pool, square_at_gate, pool_range(N), NULL);
    for (i = 0; i < N; i++) {
        r = pool_next(it);
        WANT(r && r->status == POOL_OK && r->index == (size_t)i && r->size == sizeof *out);
        memcpy(&out[i], r->data, sizeof *out);
    }
    WANT(!pool_next(it) && pool_iter_status(it) == POOL_OK);
    are_squares(out, N);
    pool_iter_free(it);
    pool_destroy(pool);
}

/* The two good ways out of a long call. First: a flag. */
static void looks_at_a_flag(void)
{
    const struct pool_result *r;
    struct pool_iter *it;
    struct pool *pool;

    handle(SIGINT);
    pool = make_pool(join_in);
    it = pool_imap(pool, never_end, pool_range(100), NULL);
    while (!atomic_load(&board->heard))
        WANT(!pool_next_timeout(it, 0.05) && pool_iter_status(it) == POOL_PENDING);
    pool_iter_cancel(it);
    while ((r = pool_next(it)))
        WANT(r->status == POOL_CANCELLED);
    WANT(pool_iter_status(it) == POOL_CANCELLED);
    pool_iter_free(it);
    works_well(pool);
    pool_destroy(pool);
}

static void waits_half_a_second(void)
{
    struct pool_iter *it;
    struct pool *pool;
    int64_t until;

    handle(SIGINT);
    pool = make_pool(join_in);
    it = pool_imap(pool, never_end, pool_range(100), NULL);
    atomic_store(&board->ready, 1);
    until = clock_deadline(0.5);
    WANT(!pool_next_timeout(it, 0.5) && pool_iter_status(it) == POOL_PENDING);
    WANT(clock_now() >= until);
    pool_iter_cancel(it);
    pool_iter_free(it);
    pool_destroy(pool);
}

/* Second: a thread to which all SIGINT go. */
static void *terminate_on_sigint(void *pool)
{
    sigset_t set;
    int signal = 0;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    WANT(sigwait(&set, &signal) == 0 && signal == SIGINT);
    atomic_fetch_add(&board->heard, 1);
    pool_terminate(pool);
    return NULL;
}

static void may_be_terminated(void (*call)(struct pool *pool))
{
    struct pool *pool;
    pthread_t thread;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    WANT(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    pool = make_pool(join_in);
    WANT(pthread_create(&thread, NULL, terminate_on_sigint, pool) == 0);
    call(pool);
    WANT(atomic_load(&board->heard) == 1);
    WANT(pthread_join(thread, NULL) == 0);
    pool_destroy(pool);
}

static void terminated_map(struct pool *pool)
{
    WANT(pool_map(pool, never_end, pool_range(100), NULL, 0, NULL) == POOL_CANCELLED);
}

static void terminated_next(struct pool *pool)
{
    struct pool_iter *it = pool_imap(pool, never_end, pool_range(100), NULL);
    const struct pool_result *r;

    while ((r = pool_next(it)))
        WANT(r->status == POOL_CANCELLED);
    WANT(pool_iter_status(it) == POOL_CANCELLED);
    pool_iter_free(it);
}

static void terminated_in_map(void)
{
    may_be_terminated(terminated_map);
}

static void terminated_in_next(void)
{
    may_be_terminated(terminated_next);
}

static void maps_what_speaks(void)
{
    struct pool *pool = make_pool(join_in);
    int out[WORKERS];

    WANT(pool_map(pool, say_at_gate, pool_range(WORKERS), out, sizeof *out, NULL) == POOL_OK);
    are_squares(out, WORKERS);
    pool_destroy(pool);
}

static void maps_deaf_to_hangup(void)
{
    signal(SIGHUP, SIG_IGN);
    maps();
}

/* As many items as workers: all have begun when it is stopped. */
static struct pool_results *map_with_limit(struct pool *pool, pool_fn *fn)
{
    struct pool_results *results = pool_map_results(pool, fn, pool_range(WORKERS), &(struct pool_call){.timeout = time_limit});

    WANT(pool_results_count(results) == WORKERS);
    return results;
}

static void all_in_time(void)
{
    struct pool *pool = make_pool(join_in);
    struct pool_results *results = map_with_limit(pool, square_at_gate);

    WANT(pool_results_status(results) == POOL_OK);
    pool_results_free(results);
    pool_destroy(pool);
}

static void nexts_in_time(void)
{
    struct pool *pool = make_pool(join_in);
    struct pool_iter *it = pool_imap(pool, square_at_gate, pool_range(WORKERS), &(struct pool_call){.timeout = time_limit});
    const struct pool_result *r;
    int i;

    WANT(it != NULL);
    for (i = 0; i < WORKERS; i++) {
        r = pool_next(it);
        WANT(r && r->status == POOL_OK);
    }
    pool_iter_free(it);
    pool_destroy(pool);
}

static void first_in_time(void)
{
    struct pool *pool = make_pool(join_in);
    struct pool_results *results = map_with_limit(pool, first_at_gate);

    WANT(pool_results_at(results, 0)->status == POOL_OK);
    WANT(pool_results_at(results, 1)->status == POOL_TIMED_OUT);
    pool_results_free(results);
    pool_destroy(pool);
}

/* ---- The terminal ---- */

static struct {
    int    master, reports, orders;     /* -1: closed */
    pid_t  shell, host;                 /* 0: has ended */
    int    status;                      /* the last that the shell reported */
    char   text[1000];                  /* what came out of the terminal */
    size_t length;
} terminal = {.master = -1, .reports = -1, .orders = -1};

static void take_defaults(void)
{
    const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGCHLD, SIGSEGV};
    sigset_t none;
    size_t i;

    for (i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* SIGTTOU is ignored here, as by a shell: a group that is not in the foreground yet may not put itself there otherwise. */
static void be_host(void (*act)(void))
{
    WANT(setpgid(0, 0) == 0);
    WANT(tcsetpgrp(0, getpid()) == 0);
    take_defaults();
    act();
    _exit(0);
}

static void read_a_line(int fd)
{
    char c;

    while (read(fd, &c, 1) == 1 && c != '\n')
        ;
    _exit(0);
}

static pid_t start_job(void (*act)(void))
{
    int ends[2] = {-1, -1};
    pid_t host;

    if (piped) {
        WANT(pipe(ends) == 0);
        if (fork() == 0) {
            close(ends[1]);
            read_a_line(ends[0]);
        }
        close(ends[0]);
    }
    host = fork();
    WANT(host >= 0);
    if (host == 0) {
        close(terminal.reports);
        close(terminal.orders);
        if (piped) {
            WANT(dup2(ends[1], 1) == 1);
            close(ends[1]);
        }
        be_host(act);
    }
    close(ends[1]);
    return host;
}

static void set_up(int tty)
{
    struct termios how;

    WANT(tcgetattr(tty, &how) == 0);
    how.c_iflag = ICRNL;
    how.c_oflag = 0;
    how.c_lflag = ISIG | ICANON | (tostop ? (tcflag_t)TOSTOP : 0);
    how.c_cc[VINTR] = CTRL_C;
    how.c_cc[VQUIT] = CTRL_BS;
    how.c_cc[VSUSP] = CTRL_Z;
    WANT(tcsetattr(tty, TCSANOW, &how) == 0);
}

static void sit_down(const char *name)
{
    int tty, fd;

    WANT(setsid() == getpid());
    tty = open(name, O_RDWR);
    WANT(tty >= 0);
    WANT(ioctl(tty, TIOCSCTTY, 0) == 0);
    set_up(tty);
    for (fd = 0; fd < 3; fd++)
        WANT(dup2(tty, fd) == fd);
    if (tty > 2)
        close(tty);
}

/* Reports how its job fares, and has it go on when told to. */
static void be_shell(const char *name, void (*act)(void))
{
    int status;
    pid_t host;
    char go_on;

    take_defaults();
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    sit_down(name);
    host = start_job(act);
    atomic_store(&board->host, host);
    for (;;) {
        WANT(waitpid(host, &status, WUNTRACED) == host);
        WANT(tcsetpgrp(0, getpgrp()) == 0);
        WANT(write(terminal.reports, &status, sizeof status) == sizeof status);
        if (!WIFSTOPPED(status))
            _exit(0);
        WANT(read(terminal.orders, &go_on, 1) == 1);
        WANT(tcsetpgrp(0, host) == 0);
        WANT(kill(-host, SIGCONT) == 0);
    }
}

static void close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* The terminal's name is asked for before the fork: the shell closes the master, or the terminal would never be closed. */
static void start(void (*act)(void))
{
    int reports[2], orders[2];
    const char *name;

    memset(board, 0, sizeof *board);
    terminal.length = 0;
    terminal.text[0] = '\0';
    terminal.master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    assert_true(terminal.master >= 0);
    assert_int_equal(grantpt(terminal.master), 0);
    assert_int_equal(unlockpt(terminal.master), 0);
    name = ptsname(terminal.master);
    assert_non_null(name);
    assert_int_equal(pipe2(reports, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
    fflush(NULL);
    terminal.shell = fork();
    if (terminal.shell == 0) {
        close(terminal.master);
        close(reports[0]);
        close(orders[1]);
        terminal.reports = reports[1];
        terminal.orders = orders[0];
        be_shell(name, act);
    }
    close(reports[1]);
    close(orders[0]);
    terminal.reports = reports[0];
    terminal.orders = orders[1];
    assert_true(terminal.shell > 0);
    terminal.host = -1;                 /* the shell will know */
}

static void press(char key)
{
    assert_int_equal(write(terminal.master, &key, 1), 1);
}

/* Takes what has come out of the terminal: whether nobody holds it any more. */
static int listen_to_end(void)
{
    size_t room;
    ssize_t n;

    if (terminal.master < 0)
        return 1;
    do {
        room = sizeof terminal.text - 1 - terminal.length;
        assert_true(room > 0);
        n = read(terminal.master, terminal.text + terminal.length, room);
        terminal.length += n > 0 ? (size_t)n : 0;
        terminal.text[terminal.length] = '\0';
    } while (n > 0);
    return n < 0 && errno == EIO;
}

static int has_report(void *unused)
{
    (void)unused;
    listen_to_end();
    if (read(terminal.reports, &terminal.status, sizeof terminal.status) != sizeof terminal.status)
        return 0;
    if (!WIFSTOPPED(terminal.status))
        terminal.host = 0;
    return 1;
}

/* ---- Where they are ---- */

static int (*place)(void);
static int arrived;                     /* they were seen there, and may have gone on since: one that sleeps wakes up */

static int is_there_or_reported(void *unused)
{
    arrived = place();
    return arrived || has_report(unused);
}

/* Waits until the host and its workers are there. If they never get there, their last words tell why. */
static void until(int (*there)(void))
{
    place = there;
    check_until(is_there_or_reported, NULL, PATIENCE);
    if (!arrived)
        fail_msg("they did not get there; status %#x; on the terminal: %s", (unsigned)terminal.status, terminal.text);
}

/* The state letter of the process; 0: there is no such one. */
static char letter_of(pid_t pid)
{
    char path[64], line[512] = "";
    const char *letter;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    file = fopen(path, "re");
    if (!file)
        return 0;
    if (!fgets(line, sizeof line, file))
        line[0] = '\0';
    fclose(file);
    letter = strrchr(line, ')');        /* behind the name, which may contain anything */
    return letter && letter[1] == ' ' ? letter[2] : '\0';
}

static int are_enrolled(void)
{
    return atomic_load(&board->count) >= 1 + WORKERS;
}

static int is_ready(void)
{
    return are_enrolled() && atomic_load(&board->ready);
}

static int one_works(void)
{
    return are_enrolled() && atomic_load(&board->begun) >= 1;
}

static int all_work(void)
{
    return are_enrolled() && atomic_load(&board->begun) >= WORKERS;
}

static int host_sleeps(void)
{
    return letter_of(atomic_load(&board->host)) == 'S';
}

static int all_alive(void)
{
    int i;

    for (i = 0; i < 1 + WORKERS; i++)
        if (!check_alive(atomic_load(&board->pids[i])))
            return 0;
    return 1;
}

/* A task does not sleep between counting itself finished and its end: a worker that sleeps then has published its result. */
static int have_finished(int count)
{
    int i;

    if (atomic_load(&board->finished) < count)
        return 0;
    for (i = 0; i < 1 + WORKERS; i++)
        if (letter_of(atomic_load(&board->pids[i])) != 'S')
            return 0;
    return 1;
}

static int all_have_finished(void)
{
    return have_finished(WORKERS);
}

/* Which of them it is, nobody knows; but the other sleeps for ever. */
static int one_has_finished(void)
{
    return have_finished(1);
}

/* ---- How it ends ---- */

static int no_child(void *unused)
{
    pid_t pid;

    (void)unused;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0) {
        if (pid == terminal.shell)
            terminal.shell = 0;
        if (pid == atomic_load(&board->host))
            terminal.host = 0;
    }
    return pid < 0 && errno == ECHILD;
}

static int nothing_is_left(void *unused)
{
    int i, closed = listen_to_end();

    for (i = 0; i < atomic_load(&board->count) && i < 64; i++)
        if (check_alive(atomic_load(&board->pids[i])))
            return 0;
    return no_child(unused) && closed;
}

static void close_terminal(void)
{
    close_one(&terminal.master);
    close_one(&terminal.reports);
    close_one(&terminal.orders);
}

static void leaves_nothing(void)
{
    assert_true(check_until(nothing_is_left, NULL, PATIENCE));
    close_terminal();
}

/* Ends what a failed test has left, so that the next one does not fail for it. */
static void force_end(void)
{
    pid_t host = atomic_load(&board->host);

    if (terminal.host && host > 0)
        kill(host, SIGKILL);
    if (terminal.shell > 0)
        kill(terminal.shell, SIGKILL);
    terminal.host = 0;
    close_one(&terminal.master);
    check_until(nothing_is_left, NULL, PATIENCE);
    close_terminal();
}

static void reports_end(void)
{
    if (!check_until(has_report, NULL, PATIENCE))
        fail_msg("it does not end; on the terminal: %s", terminal.text);
}

static void dies_of(int signal)
{
    reports_end();
    if (!WIFSIGNALED(terminal.status) || WTERMSIG(terminal.status) != signal)
        fail_msg("not signal %d but status %#x; on the terminal: %s", signal, (unsigned)terminal.status, terminal.text);
}

static void ends_saying(const char *text)
{
    reports_end();
    if (!WIFEXITED(terminal.status) || WEXITSTATUS(terminal.status) != 0)
        fail_msg("status %#x; on the terminal: %s", (unsigned)terminal.status, terminal.text);
    leaves_nothing();
    assert_string_equal(terminal.text, text);
}

static void ends_well(void)
{
    ends_saying("");
}

/* ---- Ctrl-C, Ctrl-\ ---- */

struct scene {
    void (*act)(void);
    int  (*there)(void);
    char   key;
    int    signal;
};

/* Two seconds are too much. But on a machine that is busy with other things a single measurement means little: the best of three
 * counts, and under a tool that slows the ending itself only that it ends. */
static void ends_at_once_and_silently(void **state)
{
    const struct scene *scene = *state;
    int64_t pressed, took = 0;
    int tries;

    for (tries = 0; tries < 3; tries++) {
        start(scene->act);
        until(scene->there);
        pressed = clock_now();
        press(scene->key);
        dies_of(scene->signal);
        leaves_nothing();
        took = clock_now() - pressed;
        assert_string_equal(terminal.text, "");
        if (took <= (int64_t)(2 * SECOND) || check_under(""))
            return;
    }
    fail_msg("it took %g seconds", (double)took / SECOND);
}

/* ---- A handler of the host's own ---- */

static int was_heard(void *before)
{
    return atomic_load(&board->heard) > *(int *)before;
}

static void interrupted_wait_goes_on(void **state)
{
    const struct scene *scene = *state;
    int i, before;

    start(scene->act);
    until(scene->there);
    for (i = 0; i < 5; i++) {
        until(host_sleeps);
        before = atomic_load(&board->heard);
        press(CTRL_C);
        assert_true(check_until(was_heard, &before, PATIENCE));
    }
    assert_true(all_alive());
    atomic_store(&board->open, 1);
    ends_well();
    assert_int_equal(atomic_load(&board->count), 1 + WORKERS);      /* none had to be replaced */
}

static void flag_between_waits_gets_out(void **state)
{
    (void)state;
    start(looks_at_a_flag);
    until(all_work);
    press(CTRL_C);
    ends_well();
}

static int pressed_until_reported(void *unused)
{
    press(CTRL_C);
    return has_report(unused);
}

/* A key held down, in effect: a wait that began anew at each interruption would never end. */
static void interrupted_timed_wait_ends_in_time(void **state)
{
    (void)state;
    start(waits_half_a_second);
    until(is_ready);
    if (!check_until(pressed_until_reported, NULL, PATIENCE))
        fail_msg("the wait does not end");
    if (!WIFEXITED(terminal.status) || WEXITSTATUS(terminal.status) != 0)
        fail_msg("status %#x; on the terminal: %s", (unsigned)terminal.status, terminal.text);
    leaves_nothing();
}

static void terminate_by_another_thread_gets_out(void **state)
{
    const struct scene *scene = *state;

    start(scene->act);
    until(scene->there);
    press(CTRL_C);
    ends_well();
}

/* ---- Ctrl-Z, fg ---- */

/* Under valgrind there is no stopping: it does nothing where SIGTSTP would stop the process. */
static void needs_stopping(void)
{
    if (check_under("valgrind"))
        skip();
}

static void is_stopped(void)
{
    reports_end();
    if (!WIFSTOPPED(terminal.status) || WSTOPSIG(terminal.status) != SIGTSTP)
        fail_msg("not stopped: status %#x; on the terminal: %s", (unsigned)terminal.status, terminal.text);
}

static void fg(void)
{
    assert_int_equal(write(terminal.orders, "g", 1), 1);
}

static void workers_finish_while_host_is_stopped(void **state)
{
    const struct scene *scene = *state;

    needs_stopping();
    start(scene->act);
    until(scene->there);
    press(CTRL_Z);
    is_stopped();
    atomic_store(&board->open, 1);
    until(all_have_finished);
    assert_int_equal(letter_of(atomic_load(&board->host)), 'T');    /* all the while */
    fg();
    ends_well();
}

static void stopped_again_and_again_loses_nothing(void **state)
{
    const struct scene *scene = *state;
    int i;

    needs_stopping();
    start(scene->act);
    until(scene->there);
    for (i = 0; i < 5; i++) {
        press(CTRL_Z);
        is_stopped();
        fg();
        until(host_sleeps);
    }
    atomic_store(&board->open, 1);
    ends_well();
}

/* A background process that writes on such a terminal is stopped: workers are not, being no processes of that terminal's session. */
static void workers_may_speak_while_host_is_stopped(void **state)
{
    (void)state;
    needs_stopping();
    tostop = 1;
    start(maps_what_speaks);
    tostop = 0;
    until(all_work);
    press(CTRL_Z);
    is_stopped();
    atomic_store(&board->open, 1);
    until(all_have_finished);
    fg();
    ends_saying("ww");
}

/* A shell ends its stopped jobs so. */
static void killed_while_stopped_leaves_nothing(void **state)
{
    (void)state;
    needs_stopping();
    start(in_map);
    until(all_work);
    press(CTRL_Z);
    is_stopped();
    assert_int_equal(kill(-atomic_load(&board->host), SIGTERM), 0);
    fg();                               /* it pends until then */
    dies_of(SIGTERM);
    leaves_nothing();
    assert_string_equal(terminal.text, "");
}

/* ---- Ctrl-Z, fg, and time limits ---- */

static int is_past(void *moment)
{
    return clock_now() >= *(int64_t *)moment;
}

/* Stops the host when all its items have begun, early in their time. On a busy machine that may come too late, which proves nothing:
 * then with more time. */
static void stop_in_time(void (*act)(void))
{
    int tries;

    time_limit = 0.5;
    for (tries = 0; tries < 6; tries++, time_limit *= 2) {
        start(act);
        until(all_work);
        press(CTRL_Z);
        reports_end();
        if (clock_now() < atomic_load(&board->first) + (int64_t)(time_limit / 2 * SECOND)) {
            if (!WIFSTOPPED(terminal.status))
                fail_msg("status %#x; on the terminal: %s", (unsigned)terminal.status, terminal.text);
            return;
        }
        force_end();
    }
    fail_msg("it cannot be stopped in time");
}

/* Its items finish after their time only. */
static void finished_while_stopped_is_in_time(void **state)
{
    const struct scene *scene = *state;
    int64_t deadline;

    needs_stopping();
    stop_in_time(scene->act);
    deadline = clock_deadline(time_limit);          /* not before any item's */
    assert_true(check_until(is_past, &deadline, PATIENCE));
    atomic_store(&board->open, 1);
    until(scene->there);
    fg();
    ends_well();
}

/* ---- A pipeline ---- */

static void dies_of_sigpipe_with_its_workers(void **state)
{
    const struct scene *scene = *state;

    piped = 1;
    start(scene->act);
    piped = 0;
    dies_of(SIGPIPE);
    leaves_nothing();
    assert_true(are_enrolled());
    assert_string_equal(terminal.text, "");
}

/* ---- Hangup ---- */

/* The shell dies of it, which hangs up its jobs; nobody reports: the host becomes the test's child, as the subreaper's. */
static void hang_up(void)
{
    close_one(&terminal.master);
}

static int host_has_ended(void *unused)
{
    pid_t host = atomic_load(&board->host);

    (void)unused;
    if (waitpid(host, &terminal.status, WNOHANG) != host)
        return 0;
    terminal.host = 0;
    return 1;
}

static void dies_of_hangup(void)
{
    hang_up();
    assert_true(check_until(host_has_ended, NULL, PATIENCE));
    assert_true(WIFSIGNALED(terminal.status));
    assert_int_equal(WTERMSIG(terminal.status), SIGHUP);
    leaves_nothing();
}

static void hangup_ends_host_and_workers(void **state)
{
    const struct scene *scene = *state;

    start(scene->act);
    until(scene->there);
    dies_of_hangup();
}

static void hangup_ends_stopped_host_and_workers(void **state)
{
    const struct scene *scene = *state;

    needs_stopping();
    start(scene->act);
    until(scene->there);
    press(CTRL_Z);
    is_stopped();
    dies_of_hangup();
}

static int shell_is_gone(void)
{
    return !check_alive(terminal.shell);
}

/* As under nohup. */
static void host_deaf_to_hangup_goes_on(void **state)
{
    const struct scene *scene = *state;

    start(scene->act);
    until(scene->there);
    hang_up();
    until(shell_is_gone);
    assert_true(all_alive());
    atomic_store(&board->open, 1);
    assert_true(check_until(host_has_ended, NULL, PATIENCE));
    assert_true(WIFEXITED(terminal.status));
    assert_int_equal(WEXITSTATUS(terminal.status), 0);
    leaves_nothing();
    assert_int_equal(atomic_load(&board->count), 1 + WORKERS);
}

/* ---- */

static int open_board(void **state)
{
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED || prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
        return -1;
    return check_setup(state);
}

static int close_board(void **state)
{
    munmap(board, sizeof *board);
    return check_teardown(state);
}

static int clean(void **state)
{
    (void)state;
    force_end();
    return 0;
}

#define AT_TERMINAL(test)           {#test, test, NULL, clean, NULL}
#define IN_SCENE(name, test, ...)   {#test ": " name, test, NULL, clean, &(struct scene){__VA_ARGS__}}
#define WAITS(name, test, a, t)     IN_SCENE(name, test, .act = (a), .there = (t))
#define ENDS(name, a, t, k, s)      IN_SCENE(name, ends_at_once_and_silently, .act = (a), .there = (t), .key = (k), .signal = (s))

int main(void)
{
    const struct CMUnitTest tests[] = {
        ENDS("Ctrl-C in create", in_create, are_enrolled, CTRL_C, SIGINT),
        ENDS("Ctrl-C while idle", in_idle, is_ready, CTRL_C, SIGINT),
        ENDS("Ctrl-C in map", in_map, all_work, CTRL_C, SIGINT),
        ENDS("Ctrl-C in next", in_next, all_work, CTRL_C, SIGINT),
        ENDS("Ctrl-C, deaf workers", in_map_of_deaf_workers, all_work, CTRL_C, SIGINT),
        ENDS("Ctrl-\\ while idle", in_idle, is_ready, CTRL_BS, SIGQUIT),
        ENDS("Ctrl-\\ in map", in_map, all_work, CTRL_BS, SIGQUIT),
        WAITS("create", interrupted_wait_goes_on, creates, are_enrolled),
        WAITS("apply", interrupted_wait_goes_on, applies, one_works),
        WAITS("map", interrupted_wait_goes_on, maps, all_work),
        WAITS("next", interrupted_wait_goes_on, nexts, all_work),
        AT_TERMINAL(flag_between_waits_gets_out),
        AT_TERMINAL(interrupted_timed_wait_ends_in_time),
        WAITS("map", terminate_by_another_thread_gets_out, terminated_in_map, all_work),
        WAITS("next", terminate_by_another_thread_gets_out, terminated_in_next, all_work),
        WAITS("map", workers_finish_while_host_is_stopped, maps, all_work),
        WAITS("next", workers_finish_while_host_is_stopped, nexts, all_work),
        WAITS("map", stopped_again_and_again_loses_nothing, maps, all_work),
        WAITS("next", stopped_again_and_again_loses_nothing, nexts, all_work),
        AT_TERMINAL(workers_may_speak_while_host_is_stopped),
        AT_TERMINAL(killed_while_stopped_leaves_nothing),
        WAITS("map", finished_while_stopped_is_in_time, all_in_time, all_have_finished),
        WAITS("next", finished_while_stopped_is_in_time, nexts_in_time, all_have_finished),
        WAITS("but for one", finished_while_stopped_is_in_time, first_in_time, one_has_finished),
        WAITS("stream", dies_of_sigpipe_with_its_workers, prints_results, are_enrolled),
        WAITS("busy workers", dies_of_sigpipe_with_its_workers, prints_while_workers_are_busy, all_work),
        WAITS("map", hangup_ends_host_and_workers, in_map, all_work),
        WAITS("idle", hangup_ends_host_and_workers, in_idle, is_ready),
        WAITS("map", hangup_ends_stopped_host_and_workers, in_map, all_work),
        WAITS("map", host_deaf_to_hangup_goes_on, maps_deaf_to_hangup, all_work),
    };

    return cmocka_run_group_tests(tests, open_board, close_board);
}
