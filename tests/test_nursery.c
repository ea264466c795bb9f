/* The nursery: what is born, what dies, what is killed, and that nothing is left whoever goes first.
 *
 * Nearly all is seen through one pipe that is made before the nursery: whoever is below it has inherited the write end and
 * says its name there, and the end of the pipe proves that all of them are gone. So nothing here sleeps; what must
 * happen is waited for under a deadline. The worker's part is one of the functions named `births` below.
 *
 * ctest: timeout 120 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>

#include "check.h"
#include "clock.h"
#include "fd.h"
#include "nursery.h"
#include "nursery_wire.h"

#define PATIENCE 20.0                   /* seconds until something that must happen counts as never happening */

struct word { char who; pid_t pid, parent; };

static int witness[2] = {-1, -1};     /* read: the test; write: all below the nursery */
static int usual_fds;
static sigset_t usual_mask;

/* ---- Looking around ---- */

static int count_fds(void)
{
    int fd, n = 0;

    for (fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static double promised(void)            /* "within a second", and more under a tool that slows all down */
{
    return check_under("") ? 10.0 : 1.0;
}

/* How long what is over when nursery_close returns may still be seen: not at all, where it can wait for the nursery itself. */
static double at_once(void)
{
    int fd = (int)syscall(434, getpid(), 0);    /* pidfd_open */
    double seconds = fd < 0 ? PATIENCE : 0;

    fd_close(&fd);
    return seconds;
}

static int many_times(int n)            /* and fewer under a tool */
{
    return check_under("") ? n / 10 : n;
}

static int has_child(void)
{
    return waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD;
}

static void assert_nothing_left(void)
{
    sigset_t mask;
    int signal;

    assert_false(has_child());
    assert_int_equal(count_fds(), usual_fds);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    for (signal = 1; signal < NSIG; signal++)
        assert_int_equal(sigismember(&mask, signal), sigismember(&usual_mask, signal));
}

/* ---- The witness ---- */

static void say(char who)
{
    struct word word;

    memset(&word, 0, sizeof word);
    word.who = who;
    word.pid = getpid();
    word.parent = getppid();
    if (write(witness[1], &word, sizeof word) != sizeof word)
        _exit(99);
}

/* The next word, or who = 0: the end, all who could speak are gone. who = '?': neither in time. */
static struct word hear(double seconds)
{
    struct pollfd watch = {.fd = witness[0], .events = POLLIN};
    struct word word = {.who = '?'};
    int64_t deadline = clock_deadline(seconds);
    ssize_t got;

    while (poll(&watch, 1, clock_poll_ms(deadline)) <= 0)
        if (clock_now() >= deadline)
            return word;
    got = read(witness[0], &word, sizeof word);
    if (got == 0)
        word.who = 0;
    return word;
}

static pid_t hear_of(char who)
{
    struct word word = hear(PATIENCE);

    assert_int_equal(word.who, who);
    return word.pid;
}

/* Only now, since a nursery opened before would hold it. */
static void assert_all_gone_within(double seconds)
{
    fd_close(&witness[1]);
    assert_int_equal(hear(seconds).who, 0);
}

static int begin_test(void **state)
{
    (void)state;
    return pipe2(witness, O_CLOEXEC);
}

static int end_test(void **state)
{
    (void)state;
    fd_close(&witness[0]);
    fd_close(&witness[1]);
    assert_nothing_left();
    return 0;
}

/* ---- births: what a worker does ---- */

static void listen_to_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void live(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    (void)context, (void)slot, (void)generation, (void)task_pipe, (void)result_pipe;
    say('w');
    listen_to_signals();
    for (;;)
        pause();
}

/* Exits with its generation; above 255, dies by that signal. */
static void end_as_told(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    (void)context, (void)slot, (void)task_pipe, (void)result_pipe;
    if (generation < 256)
        _exit((int)generation);
    listen_to_signals();
    raise((int)generation - 256);
}

static void stop(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    (void)context, (void)slot, (void)generation, (void)task_pipe, (void)result_pipe;
    say('w');
    raise(SIGSTOP);
}

/* With a child in its group. */
static void live_with_child(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    if (fork() == 0) {
        say('c');
        for (;;)
            pause();
    }
    live(context, slot, generation, task_pipe, result_pipe);
}

/* With a grandchild in a session of its own, and one below that, both deaf. */
static void live_with_runaway(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    if (fork() == 0) {
        setsid();
        if (fork() == 0) {
            setsid();
            say('d');
            for (;;)
                pause();
        }
        say('c');
        for (;;)
            pause();
    }
    live(context, slot, generation, task_pipe, result_pipe);
}

/* Never the same process for long: each forks the next and leaves. */
static void run_away_by_forking(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    if (fork() == 0) {
        setsid();
        say('c');
        for (;;)
            if (fork() != 0)
                _exit(0);
    }
    live(context, slot, generation, task_pipe, result_pipe);
}

/* Writes out what is buffered, as a task's exit() would. */
static void flush(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    (void)context, (void)slot, (void)generation, (void)task_pipe, (void)result_pipe;
    _exit(fflush(stdout));
}

static int (*question)(void);

static void answer(void *context, unsigned slot, uint32_t generation, int task_pipe, int result_pipe)
{
    (void)context, (void)slot, (void)generation, (void)task_pipe, (void)result_pipe;
    _exit(question());
}

/* ---- Driving a nursery ---- */

static int dev_null(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    fd_lift(&fd);
    return fd;
}

static int open_nursery(struct nursery **nursery, const struct nursery_setup *setup)
{
    int error = nursery_open(nursery, setup);

    return error ? error : nursery_greet(nursery);
}

static struct nursery *open_slots(nursery_birth_fn *birth, unsigned slots)
{
    struct nursery_setup setup = {.slots = slots, .birth = birth};
    struct nursery *nursery = NULL;

    return open_nursery(&nursery, &setup) == 0 ? nursery : NULL;
}

static struct nursery *open_one(nursery_birth_fn *birth)
{
    struct nursery *nursery = open_slots(birth, 1);

    assert_non_null(nursery);
    return nursery;
}

static void bear(struct nursery *nursery, unsigned slot, uint32_t generation)
{
    nursery_bear(nursery, slot, generation, dev_null(), dev_null());
}

/* The next report; state 0 and status the errno if there is none. Asserts nothing, so a forked host may use it. */
static struct nursery_report next(struct nursery *nursery)
{
    struct nursery_report report = {.state = 0};
    struct pollfd watch = {.fd = nursery_fd(nursery)};
    int64_t deadline = clock_deadline(PATIENCE);
    int error;

    for (;;) {
        error = nursery_flush(nursery);
        if (error == 0 || error == EPIPE)
            error = nursery_next(nursery, &report);
        if (error == 0)
            return report;
        report.status = error;
        if (error != EAGAIN || clock_now() >= deadline)
            return report;
        watch.events = nursery_events(nursery);
        poll(&watch, 1, clock_poll_ms(deadline));
    }
}

static struct nursery_report assert_next(struct nursery *nursery, enum nursery_state state, unsigned slot, uint32_t generation)
{
    struct nursery_report report = next(nursery);

    assert_int_equal(report.state, state);
    assert_int_equal(report.slot, slot);
    assert_int_equal(report.generation, generation);
    return report;
}

/* Death, whether the birth was reported before or went under with it. */
static int wait_dead(struct nursery *nursery)
{
    struct nursery_report report = next(nursery);

    if (report.state == NURSERY_BORN)
        report = next(nursery);
    assert_int_equal(report.state, NURSERY_DEAD);
    assert_true(report.pid > 0);
    return report.status;
}

static void end(struct nursery *nursery, int64_t deadline)
{
    nursery_close(nursery, deadline);
    nursery_forget(nursery);
}

static void finish(struct nursery *nursery)
{
    int64_t start = clock_now();

    end(nursery, clock_deadline(PATIENCE));
    assert_true(clock_now() - start < (int64_t)(promised() * 1e9));
}

static int ask(int (*what)(void))
{
    struct nursery *nursery;
    int status;

    question = what;
    nursery = open_one(answer);
    bear(nursery, 0, 1);
    status = wait_dead(nursery);
    finish(nursery);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* ---- Births and deaths ---- */

static void test_reports_birth_and_death(void **state)
{
    struct nursery *nursery = open_one(live);
    struct nursery_report born, dead;

    (void)state;
    bear(nursery, 0, 7);
    born = assert_next(nursery, NURSERY_BORN, 0, 7);
    assert_int_equal(hear_of('w'), born.pid);
    nursery_kill(nursery, 0, 7);
    dead = assert_next(nursery, NURSERY_DEAD, 0, 7);
    assert_int_equal(dead.pid, born.pid);
    assert_true(WIFSIGNALED(dead.status) && WTERMSIG(dead.status) == SIGKILL);
    finish(nursery);
}

static void test_reports_exit_status(void **state)
{
    struct nursery *nursery = open_one(end_as_told);
    int status;

    (void)state;
    bear(nursery, 0, 42);
    status = wait_dead(nursery);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    finish(nursery);
}

static void test_reports_signal(void **state)
{
    struct nursery *nursery = open_one(end_as_told);
    int status;

    (void)state;
    bear(nursery, 0, 256 + SIGTERM);
    status = wait_dead(nursery);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    finish(nursery);
}

static void test_slot_is_used_again(void **state)
{
    struct nursery *nursery = open_slots(end_as_told, 3);
    uint32_t generation;

    (void)state;
    for (generation = 0; generation < 20; generation++) {
        bear(nursery, 2, generation);
        assert_int_equal(WEXITSTATUS(wait_dead(nursery)), (int)generation);
    }
    finish(nursery);
}

/* The child of that nursery that is not `other`; 0: none. */
static pid_t child_but(pid_t nursery, pid_t other)
{
    char path[64];
    long pid = 0;
    FILE *children;

    snprintf(path, sizeof path, "/proc/%ld/task/%ld/children", (long)nursery, (long)nursery);
    children = fopen(path, "re");
    assert_non_null(children);
    while (fscanf(children, "%ld", &pid) == 1 && pid == other)
        pid = 0;
    fclose(children);
    return (pid_t)pid;
}

/* Kernels may be built without lists of children. */
static void need_lists_of_children(void)
{
    if (access("/proc/thread-self/children", R_OK))
        skip();
}

struct look { pid_t nursery, other; };

static int has_spare(void *look)
{
    const struct look *l = look;

    return child_but(l->nursery, l->other) != 0;
}

static int has_none(void *look)
{
    return !has_spare(look);
}

/* Kills that worker and has the next one born in its slot: its pid. */
static pid_t renew(struct nursery *nursery, uint32_t generation)
{
    nursery_kill(nursery, 0, generation);
    assert_next(nursery, NURSERY_DEAD, 0, generation);
    bear(nursery, 0, generation + 1);
    return assert_next(nursery, NURSERY_BORN, 0, generation + 1).pid;
}

static void test_replacement_leaves_a_spare_that_is_the_next(void **state)
{
    struct nursery *nursery;
    struct look look;
    struct word word;
    pid_t spare, worker;

    (void)state;
    need_lists_of_children();
    nursery = open_one(live);
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    word = hear(PATIENCE);
    look.nursery = word.parent;
    look.other = word.pid;
    assert_true(has_none(&look));       /* who loses nobody has none */
    look.other = renew(nursery, 1);
    assert_int_equal(hear_of('w'), look.other);
    assert_true(check_until(has_spare, &look, PATIENCE));
    spare = child_but(look.nursery, look.other);
    worker = renew(nursery, 2);
    assert_int_equal(worker, spare);
    assert_int_equal(hear_of('w'), worker);
    assert_int_equal(getpgid(worker), worker);
    finish(nursery);
    assert_all_gone_within(at_once());
}

static void test_killed_spare_is_done_without(void **state)
{
    struct nursery *nursery;
    struct look look;
    pid_t worker;

    (void)state;
    need_lists_of_children();
    nursery = open_one(live);
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    look.nursery = hear(PATIENCE).parent;
    look.other = renew(nursery, 1);
    assert_int_equal(hear_of('w'), look.other);
    assert_true(check_until(has_spare, &look, PATIENCE));
    kill(child_but(look.nursery, look.other), SIGKILL);
    assert_true(check_until(has_none, &look, PATIENCE));
    worker = renew(nursery, 2);
    assert_int_equal(hear_of('w'), worker);
    finish(nursery);
    assert_all_gone_within(at_once());
}

/* The first of them forked when it was asked for, the others spares. */
static void test_replacement_has_only_its_own_descriptors(void **state)
{
    struct nursery *nursery;
    uint32_t generation;
    int first = 0, status;

    (void)state;
    question = count_fds;
    nursery = open_one(answer);
    for (generation = 1; generation <= 4; generation++) {
        bear(nursery, 0, generation);
        status = wait_dead(nursery);
        assert_true(WIFEXITED(status));
        if (generation == 1)
            first = WEXITSTATUS(status);
        assert_int_equal(WEXITSTATUS(status), first);
    }
    finish(nursery);
}

static void test_result_pipe_ends_with_worker(void **state)
{
    struct nursery *nursery = open_one(live);
    struct pollfd watch = {.events = POLLIN};
    int pipe[2];

    (void)state;
    assert_int_equal(fd_pipe(pipe, 1), 0);
    watch.fd = pipe[0];
    nursery_bear(nursery, 0, 1, dev_null(), pipe[1]);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    assert_int_equal(poll(&watch, 1, 0), 0);
    nursery_kill(nursery, 0, 1);
    assert_next(nursery, NURSERY_DEAD, 0, 1);
    assert_int_equal(poll(&watch, 1, 0), 1);
    assert_int_equal(fd_drain(pipe[0]), EPIPE);
    fd_close(&pipe[0]);
    finish(nursery);
}

/* More workers than the socket holds reports, nobody listening until all were asked for: each death is told once, all the same. */
static void test_no_death_is_lost_in_a_flood(void **state)
{
    enum { MOST = 600 };
    unsigned slots = (unsigned)many_times(MOST);
    struct nursery *nursery = open_slots(end_as_told, slots);
    static unsigned char dead[MOST];
    struct nursery_report report;
    unsigned slot, left = slots;

    (void)state;
    memset(dead, 0, sizeof dead);
    for (slot = 0; slot < slots; slot++) {
        bear(nursery, slot, slot % 256);
        while (nursery_events(nursery) & POLLOUT) {
            struct pollfd watch = {.fd = nursery_fd(nursery), .events = POLLOUT};

            assert_int_equal(poll(&watch, 1, 20000), 1);
            assert_int_equal(nursery_flush(nursery), 0);
        }
    }
    while (left > 0) {
        report = next(nursery);
        assert_false(dead[report.slot]);
        assert_int_equal(report.generation, report.slot % 256);
        if (report.state == NURSERY_BORN)
            continue;
        assert_int_equal(report.state, NURSERY_DEAD);
        assert_int_equal(WEXITSTATUS(report.status), (int)(report.slot % 256));
        dead[report.slot] = 1;
        left--;
    }
    finish(nursery);
}

static void test_all_killed_are_accounted_for(void **state)
{
    enum { SLOTS = 64 };
    const unsigned rounds = (unsigned)many_times(20);
    struct nursery *nursery = open_slots(end_as_told, SLOTS);
    unsigned generation[SLOTS] = {0}, slot, left = SLOTS * rounds;
    struct nursery_report report;

    (void)state;
    for (slot = 0; slot < SLOTS; slot++)
        bear(nursery, slot, 0);
    while (left > 0) {
        report = next(nursery);
        assert_int_equal(report.generation, generation[report.slot]);
        if (report.state == NURSERY_BORN) {
            nursery_kill(nursery, report.slot, report.generation);
            continue;
        }
        assert_int_equal(report.state, NURSERY_DEAD);
        left--;
        if (++generation[report.slot] < rounds)
            bear(nursery, report.slot, generation[report.slot]);
    }
    finish(nursery);
}

/* ---- The worker as it is born ---- */

static int leads_group(void)
{
    return getpgrp() == getpid() && getsid(0) == getppid();
}

static void test_worker_leads_a_group_in_the_nurserys_session(void **state)
{
    (void)state;
    assert_true(ask(leads_group));
}

static int all_blocked(void)
{
    sigset_t mask;
    int signal;

    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP && !sigismember(&mask, signal))
            return 0;
    return 1;
}

static void test_worker_is_born_with_signals_blocked(void **state)
{
    (void)state;
    assert_true(ask(all_blocked));
}

static int all_default(void)
{
    struct sigaction action;
    int signal;

    for (signal = 1; signal < 32; signal++)
        if (sigaction(signal, NULL, &action) == 0 && action.sa_handler != SIG_DFL)
            return 0;
    return 1;
}

static void test_worker_is_born_with_default_dispositions(void **state)
{
    void (*before)(int) = signal(SIGPIPE, SIG_IGN);

    (void)state;
    assert_true(ask(all_default));
    signal(SIGPIPE, before);
}

static int stdin_is_null(void)
{
    struct stat in, null;

    return fstat(0, &in) == 0 && stat("/dev/null", &null) == 0 && in.st_rdev == null.st_rdev;
}

static void test_worker_reads_nothing_from_stdin(void **state)
{
    (void)state;
    assert_true(ask(stdin_is_null));
}

/* What it inherited, less two descriptors that the nursery opened for itself, plus its two pipes. */
static void test_worker_has_only_its_own_descriptors(void **state)
{
    (void)state;
    assert_int_equal(ask(count_fds), usual_fds + 2 + 2);        /* + the witness, + its pipes */
}

static void test_worker_leaves_when_birth_returns(void **state)
{
    struct nursery *nursery = open_one(end_as_told);
    int status;

    (void)state;
    bear(nursery, 0, 256);              /* raise(0): nothing, and returns */
    status = wait_dead(nursery);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    finish(nursery);
}

static void settle_in(void *context)
{
    (void)context;
    say(getsid(0) == getpid() ? 's' : 'x');
}

static void test_settles_in_once_in_the_nursery(void **state)
{
    struct nursery_setup setup = {.slots = 1, .birth = live, .settle_in = settle_in};
    struct nursery *nursery;
    pid_t settled;
    struct word worker;

    (void)state;
    assert_int_equal(open_nursery(&nursery, &setup), 0);
    settled = hear_of('s');
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    worker = hear(PATIENCE);
    assert_int_equal(worker.who, 'w');
    assert_int_equal(worker.parent, settled);
    finish(nursery);
    assert_all_gone_within(PATIENCE);
}

static int many[2];

static int sees_only_passed(void)
{
    return fcntl(many[0], F_GETFD) < 0 && fcntl(many[1], F_GETFD) >= 0;
}

static void test_close_fds_keeps_what_is_passed(void **state)
{
    struct nursery_setup setup = {.slots = 1, .birth = answer, .close_fds = 1, .pass_fds = &many[1], .pass_fds_count = 1};
    struct nursery *nursery;
    int status;

    (void)state;
    many[0] = dev_null();
    many[1] = dev_null();
    question = sees_only_passed;
    assert_int_equal(open_nursery(&nursery, &setup), 0);
    bear(nursery, 0, 1);
    status = wait_dead(nursery);
    assert_int_equal(WEXITSTATUS(status), 1);
    finish(nursery);
    fd_close(&many[0]);
    fd_close(&many[1]);
}

/* ---- What is asked of it before it has said hello, and for the last time ---- */

static void test_whom_it_was_asked_for_before_its_hello_is_born(void **state)
{
    struct nursery_setup setup = {.slots = 1, .birth = live};
    struct nursery *nursery;

    (void)state;
    assert_int_equal(nursery_open(&nursery, &setup), 0);
    bear(nursery, 0, 4);
    assert_int_equal(nursery_flush(nursery), 0);
    assert_int_equal(nursery_greet(&nursery), 0);
    assert_int_equal(hear_of('w'), assert_next(nursery, NURSERY_BORN, 0, 4).pid);
    finish(nursery);
}

static void test_retired_it_leaves_with_its_last_worker_and_takes_all_along(void **state)
{
    struct nursery *nursery = open_slots(live_with_runaway, 2);

    (void)state;
    bear(nursery, 0, 1);
    bear(nursery, 1, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    assert_next(nursery, NURSERY_BORN, 1, 1);
    nursery_retire(nursery);
    nursery_kill(nursery, 0, 1);
    assert_next(nursery, NURSERY_DEAD, 0, 1);
    nursery_kill(nursery, 1, 1);
    assert_next(nursery, NURSERY_DEAD, 1, 1);
    assert_int_equal(next(nursery).status, EPIPE);
    fd_close(&witness[1]);
    struct word word;
    while ((word = hear(PATIENCE)).who) /* the first words of all, then their end */
        assert_int_not_equal(word.who, '?');
    finish(nursery);
}

/* ---- Kills ---- */

/* Past the host's own check, as an order that crossed a death would. */
static void order(struct nursery *nursery, uint32_t kind, uint32_t slot, uint32_t generation)
{
    struct nursery_order message = {.kind = kind, .slot = slot, .generation = generation};

    assert_int_equal(fd_send(nursery_fd(nursery), &message, sizeof message, NULL, 0), 0);
}

static void test_kill_of_another_generation_does_nothing(void **state)
{
    struct nursery *nursery = open_slots(live, 2);
    struct nursery_report first;

    (void)state;
    bear(nursery, 0, 5);
    first = assert_next(nursery, NURSERY_BORN, 0, 5);
    nursery_kill(nursery, 0, 4);
    assert_int_equal(nursery_flush(nursery), 0);
    order(nursery, ORDER_KILL, 0, 4);
    order(nursery, ORDER_KILL, 0, 6);
    bear(nursery, 1, 1);                /* orders are obeyed in turn: once this one is born, those were */
    assert_next(nursery, NURSERY_BORN, 1, 1);
    nursery_kill(nursery, 1, 1);
    assert_next(nursery, NURSERY_DEAD, 1, 1);
    assert_int_equal(kill(first.pid, 0), 0);
    finish(nursery);
}

static void test_kill_of_the_unborn_follows_the_birth(void **state)
{
    struct nursery *nursery = open_one(live);

    (void)state;
    bear(nursery, 0, 3);
    nursery_kill(nursery, 0, 3);
    assert_int_equal(WTERMSIG(wait_dead(nursery)), SIGKILL);
    finish(nursery);
}

static void test_senseless_orders_are_ignored(void **state)
{
    struct nursery *nursery = open_one(live);
    struct nursery_report born;

    (void)state;
    bear(nursery, 0, 1);
    born = assert_next(nursery, NURSERY_BORN, 0, 1);
    order(nursery, ORDER_KILL, 99, 1);
    order(nursery, ORDER_BIRTH, 99, 1);
    order(nursery, ORDER_BIRTH, 0, 2);
    order(nursery, 77, 0, 1);
    assert_int_equal(fd_send(nursery_fd(nursery), "x", 1, NULL, 0), 0);
    nursery_kill(nursery, 0, 1);
    assert_int_equal(assert_next(nursery, NURSERY_DEAD, 0, 1).pid, born.pid);
    finish(nursery);
}

/* The nursery reaps what has come to it, so a number that is free again is a process that is gone. */
static int goes(pid_t pid)
{
    int64_t deadline = clock_deadline(PATIENCE);

    while (kill(pid, 0) == 0 && clock_now() < deadline)
        poll(NULL, 0, 1);
    return kill(pid, 0) < 0 && errno == ESRCH;
}

/* A worker and its child. */
static void bear_family(struct nursery *nursery, pid_t *worker, pid_t *child)
{
    struct word word;
    int i;

    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    for (i = 0; i < 2; i++) {
        word = hear(PATIENCE);
        assert_true(word.who == 'w' || word.who == 'c');
        *(word.who == 'w' ? worker : child) = word.pid;
    }
}

static void test_kill_takes_the_group_along(void **state)
{
    struct nursery *nursery = open_one(live_with_child);
    pid_t worker = 0, child = 0;

    (void)state;
    bear_family(nursery, &worker, &child);
    nursery_kill(nursery, 0, 1);
    assert_next(nursery, NURSERY_DEAD, 0, 1);
    assert_true(goes(child));
    finish(nursery);
}

static void test_death_takes_the_group_along(void **state)
{
    struct nursery *nursery = open_one(live_with_child);
    pid_t worker = 0, child = 0;

    (void)state;
    bear_family(nursery, &worker, &child);
    kill(worker, SIGTERM);              /* that one alone */
    assert_next(nursery, NURSERY_DEAD, 0, 1);
    assert_true(goes(child));
    finish(nursery);
}

static void test_kills_a_stopped_worker(void **state)
{
    struct nursery *nursery = open_one(stop);

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    hear_of('w');
    nursery_kill(nursery, 0, 1);
    assert_int_equal(WTERMSIG(wait_dead(nursery)), SIGKILL);
    finish(nursery);
}

/* ---- The end by nursery_close ---- */

static void test_close_ends_all_workers(void **state)
{
    struct nursery *nursery = open_slots(live, 8);
    unsigned slot;

    (void)state;
    for (slot = 0; slot < 8; slot++)
        bear(nursery, slot, 1);
    for (slot = 0; slot < 8; slot++)
        assert_int_equal(next(nursery).state, NURSERY_BORN);
    finish(nursery);
    fd_close(&witness[1]);
    while (hear(at_once()).who == 'w')
        ;
    assert_int_equal(hear(at_once()).who, 0);   /* not "soon": when it returns they are gone */
}

static void close_with(nursery_birth_fn *birth, int words)
{
    struct nursery *nursery = open_one(birth);

    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    while (words-- > 0)
        assert_true(hear(PATIENCE).who != '?');
    finish(nursery);
    assert_all_gone_within(PATIENCE);
}

static void test_close_ends_runaways_in_other_sessions(void **state)
{
    (void)state;
    close_with(live_with_runaway, 3);
}

static void test_close_ends_orphans_in_other_sessions(void **state)
{
    struct nursery *nursery = open_one(live_with_runaway);
    int words;

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    for (words = 0; words < 3; words++)
        assert_true(hear(PATIENCE).who != '?');
    nursery_kill(nursery, 0, 1);
    assert_next(nursery, NURSERY_DEAD, 0, 1);
    finish(nursery);
    assert_all_gone_within(PATIENCE);
}

static void test_close_ends_those_who_never_stop_forking(void **state)
{
    (void)state;
    close_with(run_away_by_forking, 2);
}

static void test_close_drops_what_is_unsent(void **state)
{
    struct nursery *nursery = open_one(live);

    (void)state;
    bear(nursery, 0, 1);
    nursery_kill(nursery, 0, 1);
    finish(nursery);
}

static void test_close_gives_up_at_the_deadline(void **state)
{
    struct nursery *nursery = open_one(live);
    pid_t pid;

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    pid = hear(PATIENCE).parent;
    kill(pid, SIGSTOP);
    end(nursery, clock_deadline(0.01));
    kill(pid, SIGCONT);                 /* and it goes on by itself */
    assert_all_gone_within(PATIENCE);
}

static void test_many_rounds_leave_nothing(void **state)
{
    int round;

    (void)state;
    for (round = 0; round < many_times(300); round++) {
        struct nursery *nursery = open_one(live);

        bear(nursery, 0, 1);
        nursery_flush(nursery);
        finish(nursery);
    }
    assert_int_equal(count_fds(), usual_fds + 2);
    fd_close(&witness[1]);
    while (hear(at_once()).who == 'w')
        ;
    assert_int_equal(hear(at_once()).who, 0);
}

static void test_close_and_forget_take_null(void **state)
{
    (void)state;
    end(NULL, CLOCK_NEVER);
    nursery_forget(NULL);
}

/* ---- Leaving the host alone ---- */

static void test_host_has_no_child(void **state)
{
    struct nursery *nursery = open_one(live);

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    assert_false(has_child());
    finish(nursery);
    assert_false(has_child());
}

static void test_works_where_the_host_ignores_sigchld(void **state)
{
    void (*before)(int) = signal(SIGCHLD, SIG_IGN);
    struct nursery *nursery = open_one(end_as_told);

    (void)state;
    bear(nursery, 0, 9);
    assert_int_equal(WEXITSTATUS(wait_dead(nursery)), 9);
    finish(nursery);
    assert_ptr_equal(signal(SIGCHLD, before), SIG_IGN);
}

static void test_output_is_written_once(void **state)
{
    char path[] = "/tmp/forkpool-test-XXXXXX", text[16] = "";
    int file = mkstemp(path), saved = dup(1);
    struct nursery *nursery;

    (void)state;
    unlink(path);
    fflush(stdout);
    dup2(file, 1);
    fputs("once", stdout);
    nursery = open_slots(flush, 1);
    bear(nursery, 0, 1);
    while (next(nursery).state == NURSERY_BORN)
        ;
    end(nursery, clock_deadline(PATIENCE));
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    assert_int_equal(pread(file, text, sizeof text - 1, 0), 4);
    close(file);
    assert_string_equal(text, "once");
}

static void test_forgotten_by_a_fork_it_goes_on(void **state)
{
    struct nursery *nursery = open_one(end_as_told);
    pid_t fork_of_host = fork();

    (void)state;
    if (fork_of_host == 0) {
        nursery_forget(nursery);
        _exit(0);
    }
    waitpid(fork_of_host, NULL, 0);
    bear(nursery, 0, 4);
    assert_int_equal(WEXITSTATUS(wait_dead(nursery)), 4);
    finish(nursery);
}

/* ---- Who goes first ---- */

static void test_nursery_is_deaf(void **state)
{
    struct nursery *nursery = open_slots(live, 2);
    pid_t pid;

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    pid = hear(PATIENCE).parent;
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    kill(pid, SIGPIPE);
    bear(nursery, 1, 1);
    assert_next(nursery, NURSERY_BORN, 1, 1);
    finish(nursery);
}

static void test_killed_nursery_shows_and_takes_workers_along(void **state)
{
    struct nursery *nursery = open_one(live);
    struct nursery_report report;

    (void)state;
    bear(nursery, 0, 1);
    assert_next(nursery, NURSERY_BORN, 0, 1);
    kill(hear(PATIENCE).parent, SIGKILL);
    report = next(nursery);
    assert_int_equal(report.state, 0);
    assert_int_equal(report.status, EPIPE);
    bear(nursery, 0, 2);
    assert_int_equal(nursery_flush(nursery), EPIPE);
    assert_int_equal(nursery_events(nursery), POLLIN);
    finish(nursery);
    assert_all_gone_within(PATIENCE);
}

/* A host that opens a nursery with runaways in it and is killed; `before` prepares it (NULL: nothing) and says whether it could.
 * With a friend: a fork of the host that goes on and holds all that the host held, but for the witness. */
static void kill_host(int (*before)(void), int with_friend)
{
    int leash[2];
    pid_t host;
    int i;

    assert_int_equal(pipe2(leash, O_CLOEXEC), 0);
    host = fork();
    if (host == 0) {
        struct nursery *nursery;
        char byte;

        fd_close(&leash[1]);
        if (before && !before()) {
            say('-');
            _exit(0);
        }
        nursery = open_slots(live_with_runaway, 1);
        if (!nursery)
            _exit(1);
        bear(nursery, 0, 1);
        nursery_flush(nursery);
        if (next(nursery).state != NURSERY_BORN)
            _exit(1);
        say('h');
        fd_close(&witness[1]);
        if (with_friend && fork() == 0) {
            while (read(leash[0], &byte, 1) > 0)        /* until the test is over */
                ;
            _exit(0);
        }
        for (;;)
            pause();
    }
    fd_close(&leash[0]);
    fd_close(&witness[1]);
    for (i = 0; i < 4; i++) {
        struct word word = hear(PATIENCE);

        if (word.who == '-') {
            fd_close(&leash[1]);
            waitpid(host, NULL, 0);
            skip();
        }
        assert_true(word.who != '?' && word.who != 0);
    }
    kill(host, SIGKILL);
    waitpid(host, NULL, 0);
    assert_all_gone_within(promised());
    fd_close(&leash[1]);
}

static void test_all_go_with_the_host(void **state)
{
    (void)state;
    kill_host(NULL, 0);
}

static void test_all_go_with_the_host_though_a_fork_lives_on(void **state)
{
    (void)state;
    kill_host(NULL, 1);
}

static int be_without_pidfd(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),  /* the call's number is the first field */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 434, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1L, 0L, 0L, 0L) == 0
        && prctl(PR_SET_SECCOMP, (long)SECCOMP_MODE_FILTER, &program) == 0
        && syscall(434, getpid(), 0) < 0 && errno == ENOSYS;
}

static void test_all_go_with_the_host_without_pidfd(void **state)
{
    (void)state;
    kill_host(be_without_pidfd, 0);
}

static void test_all_go_with_the_host_without_pidfd_though_a_fork_lives_on(void **state)
{
    (void)state;
    kill_host(be_without_pidfd, 1);
}

static int be_subreaper(void)
{
    return prctl(PR_SET_CHILD_SUBREAPER, 1L, 0L, 0L, 0L) == 0;
}

static void test_all_go_with_a_subreaper_as_host(void **state)
{
    (void)state;
    kill_host(be_subreaper, 1);
}

/* ---- Hosts of another kind: each is played by a fork, which says by its exit status whether all was well ---- */

static void play(int (*host)(void))
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        _exit(host());
    waitpid(pid, &status, 0);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int subreaper(void)
{
    struct nursery *nursery;

    if (!be_subreaper())
        return 77;
    nursery = open_slots(live_with_runaway, 1);
    if (!nursery)
        return 1;
    bear(nursery, 0, 1);
    if (next(nursery).state != NURSERY_BORN)
        return 2;
    end(nursery, clock_deadline(PATIENCE));
    return has_child() ? 3 : 0;
}

static void test_subreaper_host_has_its_nursery_reaped(void **state)
{
    (void)state;
    play(subreaper);
}

/* Without /proc nobody can be found by it; workers and their groups are killed and nothing hangs. */
static int without_proc(void)
{
    struct nursery *nursery;
    int64_t start;

    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0
        || mount("none", "/proc", "tmpfs", 0, NULL) < 0)
        return 77;
    nursery = open_slots(live_with_child, 1);
    if (!nursery)
        return 1;
    bear(nursery, 0, 1);
    if (next(nursery).state != NURSERY_BORN)
        return 2;
    if (hear(PATIENCE).who == '?' || hear(PATIENCE).who == '?')
        return 3;
    start = clock_now();
    end(nursery, clock_deadline(PATIENCE));
    if (clock_now() - start > (int64_t)(promised() * 1e9))
        return 4;
    fd_close(&witness[1]);
    return 0;
}

static void test_ends_workers_without_proc(void **state)
{
    (void)state;
    play(without_proc);
    assert_all_gone_within(PATIENCE);
}

/* As a user who may have so many processes: some opens fail, at the first fork and at the second, then some births. */
static int short_of_processes(void)
{
    struct nursery_setup setup = {.slots = 2, .birth = live};
    int fds = count_fds(), unopened = 0, unborn = 0, n, error, i;
    struct nursery *nursery;
    struct nursery_report report;

    if (geteuid() != 0 || setuid((uid_t)(100000 + getpid())) < 0)      /* a user that nobody else runs processes of */
        return 77;
    for (n = 1; n <= 8; n++) {
        struct rlimit limit = {(rlim_t)n, (rlim_t)8};

        if (setrlimit(RLIMIT_NPROC, &limit) < 0)
            return 1;
        error = open_nursery(&nursery, &setup);
        unopened += error == EAGAIN;
        if (error) {
            if (error != EAGAIN || nursery || has_child() || count_fds() != fds)
                return 2;
            continue;
        }
        bear(nursery, 0, 1);
        bear(nursery, 1, 1);
        for (i = 0; i < 2; i++) {
            report = next(nursery);
            if (report.state == NURSERY_UNBORN && report.status == EAGAIN)
                unborn++;
            else if (report.state != NURSERY_BORN)
                return 3;
        }
        end(nursery, clock_deadline(PATIENCE));
    }
    return unopened >= 2 && unborn >= 1 ? 0 : 4;
}

static void test_short_of_processes_it_says_so(void **state)
{
    (void)state;
    play(short_of_processes);
}

/* It keeps numbers for itself and answers for the kernel, otherwise than that does. */
static int limits_are_valgrinds(void)
{
    return check_under("valgrind");
}

static void test_short_of_descriptors_nothing_is_left(void **state)
{
    struct nursery_setup setup = {.slots = 1, .birth = live};
    struct rlimit usual, tight;
    struct nursery *nursery;
    int more, error = 0, fds = count_fds(), failures = 0, left = 0, errors = 0;

    (void)state;
    if (limits_are_valgrinds())
        skip();
    getrlimit(RLIMIT_NOFILE, &usual);
    tight = usual;
    for (more = 0; more < 32; more++) {
        tight.rlim_cur = (rlim_t)more;
        setrlimit(RLIMIT_NOFILE, &tight);
        error = open_nursery(&nursery, &setup);
        setrlimit(RLIMIT_NOFILE, &usual);
        if (error) {
            failures++;
            errors += error != EMFILE || nursery;
        } else {
            end(nursery, clock_deadline(PATIENCE));
        }
        left += count_fds() != fds || has_child();
    }
    assert_true(failures > 0);
    assert_int_equal(error, 0);
    assert_int_equal(errors, 0);
    assert_int_equal(left, 0);
    assert_all_gone_within(PATIENCE);
}

/* The descriptors of a birth that the nursery has no numbers for: the host had many open when it was forked, then closed them. */
static int short_of_descriptors_in_the_nursery(void)
{
    struct rlimit limit;
    struct nursery *nursery;
    struct nursery_report report;
    int fds[64], n = 0, fd;

    if (limits_are_valgrinds())
        return 77;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 64;
    setrlimit(RLIMIT_NOFILE, &limit);
    while (n < 64 && (fd = dev_null()) >= 0)
        fds[n++] = fd;
    close(fds[--n]);                    /* three for the nursery to be: both ends of its socket, and a pidfd */
    close(fds[--n]);
    close(fds[--n]);
    nursery = open_slots(live, 1);
    if (!nursery)
        return 1;
    while (n > 0)
        close(fds[--n]);
    bear(nursery, 0, 1);
    report = next(nursery);
    end(nursery, clock_deadline(PATIENCE));
    return report.state == NURSERY_UNBORN && report.status == EMFILE ? 0 : 2;
}

static void test_birth_without_descriptors_is_reported(void **state)
{
    (void)state;
    play(short_of_descriptors_in_the_nursery);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, begin_test, end_test)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reports_birth_and_death),
        TEST(reports_exit_status),
        TEST(reports_signal),
        TEST(slot_is_used_again),
        TEST(replacement_leaves_a_spare_that_is_the_next),
        TEST(killed_spare_is_done_without),
        TEST(replacement_has_only_its_own_descriptors),
        TEST(result_pipe_ends_with_worker),
        TEST(no_death_is_lost_in_a_flood),
        TEST(all_killed_are_accounted_for),
        TEST(worker_leads_a_group_in_the_nurserys_session),
        TEST(worker_is_born_with_signals_blocked),
        TEST(worker_is_born_with_default_dispositions),
        TEST(worker_reads_nothing_from_stdin),
        TEST(worker_has_only_its_own_descriptors),
        TEST(worker_leaves_when_birth_returns),
        TEST(settles_in_once_in_the_nursery),
        TEST(close_fds_keeps_what_is_passed),
        TEST(whom_it_was_asked_for_before_its_hello_is_born),
        TEST(retired_it_leaves_with_its_last_worker_and_takes_all_along),
        TEST(kill_of_another_generation_does_nothing),
        TEST(kill_of_the_unborn_follows_the_birth),
        TEST(senseless_orders_are_ignored),
        TEST(kill_takes_the_group_along),
        TEST(death_takes_the_group_along),
        TEST(kills_a_stopped_worker),
        TEST(close_ends_all_workers),
        TEST(close_ends_runaways_in_other_sessions),
        TEST(close_ends_orphans_in_other_sessions),
        TEST(close_ends_those_who_never_stop_forking),
        TEST(close_drops_what_is_unsent),
        TEST(close_gives_up_at_the_deadline),
        TEST(many_rounds_leave_nothing),
        TEST(close_and_forget_take_null),
        TEST(host_has_no_child),
        TEST(works_where_the_host_ignores_sigchld),
        TEST(output_is_written_once),
        TEST(forgotten_by_a_fork_it_goes_on),
        TEST(nursery_is_deaf),
        TEST(killed_nursery_shows_and_takes_workers_along),
        TEST(all_go_with_the_host),
        TEST(all_go_with_the_host_though_a_fork_lives_on),
        TEST(all_go_with_the_host_without_pidfd),
        TEST(all_go_with_the_host_without_pidfd_though_a_fork_lives_on),
        TEST(all_go_with_a_subreaper_as_host),
        TEST(subreaper_host_has_its_nursery_reaped),
        TEST(ends_workers_without_proc),
        TEST(short_of_processes_it_says_so),
        TEST(short_of_descriptors_nothing_is_left),
        TEST(birth_without_descriptors_is_reported),
    };

    usual_fds = count_fds();
    pthread_sigmask(SIG_SETMASK, NULL, &usual_mask);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
