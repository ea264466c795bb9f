/* Descriptors: above 2, close-on-exec, whole messages, nothing left open. */
#define _GNU_SOURCE
#include "check.h"
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- A child that may close, limit and break what it likes ---- */

static int *wrong_line;                 /* shared with the child: the NEED that failed */

#define NEED(truth) do { if (!(truth)) { *wrong_line = __LINE__; _exit(1); } } while (0)

static void in_child(void (*body)(void))
{
    int status;
    pid_t pid;

    wrong_line = mmap(NULL, sizeof *wrong_line, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(wrong_line != MAP_FAILED);
    pid = fork();
    if (pid == 0) {
        body();
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (*wrong_line)
        fail_msg("in the child, line %d", *wrong_line);
    assert_int_equal(status, 0);
    munmap(wrong_line, sizeof *wrong_line);
}

enum { LOW = 64 };                      /* what open_count sees, and the limit of limit() */

static int is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int open_count(void)
{
    int fd, count = 0;

    for (fd = 0; fd < LOW; fd++)
        count += is_open(fd);
    return count;
}

/* Leaves `free_numbers` descriptors to be had. */
static void limit(int free_numbers)
{
    struct rlimit low;
    int fd;

    NEED(getrlimit(RLIMIT_NOFILE, &low) == 0);
    low.rlim_cur = LOW;
    NEED(setrlimit(RLIMIT_NOFILE, &low) == 0);
    while (dup(0) >= 0)
        ;
    NEED(errno == EMFILE);
    for (fd = LOW - 1; free_numbers > 0; fd--, free_numbers--)
        NEED(close(fd) == 0);
}

static int flags_are(int fd, int nonblocking)
{
    return fd > 2 && (fcntl(fd, F_GETFD) & FD_CLOEXEC) && !(fcntl(fd, F_GETFL) & O_NONBLOCK) == !nonblocking;
}

/* ---- Pipes and pairs ---- */

static void pipe_flags(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(fd_pipe(ends, 0), 0);
    assert_true(flags_are(ends[0], 0));
    assert_true(flags_are(ends[1], 1));
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void pipe_with_a_nonblocking_read_end(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(fd_pipe(ends, 1), 0);
    assert_true(flags_are(ends[0], 1));
    assert_true(flags_are(ends[1], 1));
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void pipe_carries_bytes(void **state)
{
    int ends[2];
    char c = 0;

    (void)state;
    assert_int_equal(fd_pipe(ends, 0), 0);
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(read(ends[0], &c, 1), 1);
    assert_int_equal(c, 'x');
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void make_without_stdio(void)
{
    int ends[2], closed;

    for (closed = 1; closed < 8; closed++) {        /* each subset of 0, 1 and 2 */
        int fd;

        for (fd = 0; fd < 3; fd++) {
            NEED(dup2(10, fd) == fd);
            if (closed & 1 << fd)
                close(fd);
        }
        NEED(fd_pipe(ends, 1) == 0 && flags_are(ends[0], 1) && flags_are(ends[1], 1));
        fd_close(&ends[0]);
        fd_close(&ends[1]);
        NEED(fd_socketpair(ends) == 0 && flags_are(ends[0], 1) && flags_are(ends[1], 1));
        fd_close(&ends[0]);
        fd_close(&ends[1]);
        for (fd = 0; fd < 3; fd++)
            NEED(is_open(fd) == !(closed & 1 << fd));
    }
}

static void lay_10(void)
{
    NEED(dup2(0, 10) == 10);
    make_without_stdio();
}

static void all_lies_above_2_though_stdio_is_closed(void **state)
{
    (void)state;
    in_child(lay_10);
}

static void pipe_at_the_limit(void)
{
    int ends[2] = {5, 5}, before, left;

    for (left = 0; left < 2; left++) {
        limit(left);
        before = open_count();
        NEED(fd_pipe(ends, 0) == EMFILE && ends[0] == -1 && ends[1] == -1);
        NEED(open_count() == before);
        NEED(fd_socketpair(ends) == EMFILE && ends[0] == -1 && ends[1] == -1);
        NEED(open_count() == before);
    }
}

static void pipe_fails_clean_where_no_number_is_left(void **state)
{
    (void)state;
    if (check_under("valgrind"))
        skip();
    in_child(pipe_at_the_limit);
}

static void lift_at_the_limit(void)
{
    int ends[2], before;

    limit(0);
    close(0);
    close(1);
    before = open_count();
    NEED(fd_pipe(ends, 0) == EMFILE && ends[0] == -1 && ends[1] == -1);
    NEED(open_count() == before && !is_open(0) && !is_open(1));
    NEED(fd_socketpair(ends) == EMFILE && ends[0] == -1 && ends[1] == -1);
    NEED(open_count() == before && !is_open(0) && !is_open(1));
}

static void pipe_fails_clean_where_it_cannot_be_lifted(void **state)
{
    (void)state;
    in_child(lift_at_the_limit);
}

static void half_lift_at_the_limit(void)
{
    int ends[2], before;

    limit(1);                           /* the first end finds a place, the second does not */
    close(0);
    close(1);
    before = open_count();
    NEED(fd_pipe(ends, 0) == EMFILE && ends[0] == -1 && ends[1] == -1);
    NEED(open_count() == before);
}

static void pipe_fails_clean_where_half_of_it_cannot_be_lifted(void **state)
{
    (void)state;
    in_child(half_lift_at_the_limit);
}

static void pair_flags(void **state)
{
    int ends[2];

    (void)state;
    assert_int_equal(fd_socketpair(ends), 0);
    assert_true(flags_are(ends[0], 1));
    assert_true(flags_are(ends[1], 1));
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

/* ---- Closing and lifting ---- */

static void close_sets_minus_one_and_keeps_errno(void **state)
{
    int fd = dup(0), old = fd;

    (void)state;
    errno = 77;
    fd_close(&fd);
    assert_int_equal(errno, 77);
    assert_int_equal(fd, -1);
    assert_false(is_open(old));
}

static void close_of_nothing_is_fine(void **state)
{
    int fd = -1;

    (void)state;
    errno = 77;
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, 77);
}

static void close_of_what_is_closed_keeps_errno(void **state)
{
    int fd = dup(0);

    (void)state;
    close(fd);
    errno = 77;
    fd_close(&fd);
    assert_int_equal(errno, 77);
}

static void lift_leaves_alone_what_is_above_2(void **state)
{
    int fd = fcntl(0, F_DUPFD_CLOEXEC, 3), old = fd;

    (void)state;
    assert_int_equal(fd_lift(&fd), 0);
    assert_int_equal(fd, old);
    fd_close(&fd);
}

static void lift_0(void)
{
    struct fd_identity identity;
    int fd = 0;

    NEED(fd_identify(0, &identity) == 0);
    NEED(fd_lift(&fd) == 0 && fd > 2 && !is_open(0));
    NEED(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    NEED(fd_is(fd, &identity));
}

static void lift_moves_what_is_below(void **state)
{
    (void)state;
    in_child(lift_0);
}

static void lift_0_at_the_limit(void)
{
    int fd = 1;

    limit(0);
    NEED(fd_lift(&fd) == EMFILE && fd == -1 && !is_open(1));
}

static void lift_closes_what_it_cannot_move(void **state)
{
    (void)state;
    in_child(lift_0_at_the_limit);
}

static void lift_of_nothing_is_refused(void **state)
{
    int fd = -1;

    (void)state;
    assert_int_equal(fd_lift(&fd), EBADF);
    assert_int_equal(fd, -1);
}

/* ---- Messages ---- */

static int a, b;                        /* the two ends, made for each test */

static int open_pair(void **state)
{
    int ends[2];

    (void)state;
    if (fd_socketpair(ends))
        return -1;
    a = ends[0];
    b = ends[1];
    return 0;
}

static int close_pair(void **state)
{
    (void)state;
    fd_close(&a);
    fd_close(&b);
    return 0;
}

static void a_message_arrives_whole(void **state)
{
    char got[8] = "";
    int fds[FD_MAX] = {7, 7};

    (void)state;
    assert_int_equal(fd_send(a, "1234567", 8, NULL, 0), 0);
    assert_int_equal(fd_recv(b, got, 8, fds), 0);
    assert_string_equal(got, "1234567");
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], -1);
}

static void messages_keep_their_bounds_and_order(void **state)
{
    int fds[FD_MAX], i, got;

    (void)state;
    for (i = 0; i < 5; i++)
        assert_int_equal(fd_send(a, &i, sizeof i, NULL, 0), 0);
    for (i = 0; i < 5; i++) {
        assert_int_equal(fd_recv(b, &got, sizeof got, fds), 0);
        assert_int_equal(got, i);
    }
}

static void descriptors_travel(void **state)
{
    int ends[2], fds[FD_MAX];
    struct fd_identity read_end, write_end;
    char c;

    (void)state;
    assert_int_equal(fd_pipe(ends, 0), 0);
    assert_int_equal(fd_identify(ends[0], &read_end), 0);
    assert_int_equal(fd_identify(ends[1], &write_end), 0);
    assert_int_equal(fd_send(a, "m", 1, ends, 2), 0);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    assert_int_equal(fd_recv(b, &c, 1, fds), 0);
    assert_true(fd_is(fds[0], &read_end));
    assert_true(fd_is(fds[1], &write_end));
    assert_true(flags_are(fds[0], 0));
    assert_true(flags_are(fds[1], 1));
    fd_close(&fds[0]);
    fd_close(&fds[1]);
}

static void one_descriptor_leaves_the_other_place_empty(void **state)
{
    int fds[FD_MAX] = {7, 7}, fd = 0;
    char c;

    (void)state;
    assert_int_equal(fd_send(a, "m", 1, &fd, 1), 0);
    assert_int_equal(fd_recv(b, &c, 1, fds), 0);
    assert_true(fds[0] > 2);
    assert_int_equal(fds[1], -1);
    fd_close(&fds[0]);
}

static void receive_without_stdio(void)
{
    int fds[FD_MAX], send[2] = {a, b};
    char c;

    close(0);
    close(1);
    NEED(fd_send(a, "m", 1, send, 2) == 0);
    NEED(fd_recv(b, &c, 1, fds) == 0);
    NEED(fds[0] > 2 && (fcntl(fds[0], F_GETFD) & FD_CLOEXEC));
    NEED(fds[1] > 2 && (fcntl(fds[1], F_GETFD) & FD_CLOEXEC));
    NEED(!is_open(0) && !is_open(1));
}

static void received_descriptors_lie_above_2(void **state)
{
    (void)state;
    in_child(receive_without_stdio);
}

static void nothing_there_is_eagain(void **state)
{
    int fds[FD_MAX] = {7, 7};
    char c;

    (void)state;
    assert_int_equal(fd_recv(b, &c, 1, fds), EAGAIN);
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], -1);
}

static void a_full_socket_is_eagain(void **state)
{
    char message[1024] = "";
    int error, i;

    (void)state;
    for (i = 0; (error = fd_send(a, message, sizeof message, NULL, 0)) == 0; i++)
        assert_true(i < 100000);
    assert_int_equal(error, EAGAIN);
}

static void sending_to_nobody_is_epipe(void **state)
{
    (void)state;
    fd_close(&b);
    assert_int_equal(fd_send(a, "m", 1, NULL, 0), EPIPE);       /* and the default SIGPIPE has not ended this program */
}

static void receiving_from_nobody_is_epipe(void **state)
{
    int fds[FD_MAX];
    char c;

    (void)state;
    fd_close(&a);
    assert_int_equal(fd_recv(b, &c, 1, fds), EPIPE);
    assert_int_equal(fd_recv(b, &c, 1, fds), EPIPE);
}

static void last_words_are_heard(void **state)
{
    int fds[FD_MAX];
    char c = 0;

    (void)state;
    assert_int_equal(fd_send(a, "1", 1, NULL, 0), 0);
    assert_int_equal(fd_send(a, "2", 1, NULL, 0), 0);
    fd_close(&a);
    assert_int_equal(fd_recv(b, &c, 1, fds), 0);
    assert_int_equal(c, '1');
    assert_int_equal(fd_recv(b, &c, 1, fds), 0);
    assert_int_equal(c, '2');
    assert_int_equal(fd_recv(b, &c, 1, fds), EPIPE);
}

static void last_words_are_heard_of_one_that_did_not_listen(void **state)
{
    int fds[FD_MAX];
    char c = 0;

    (void)state;
    assert_int_equal(fd_send(a, "1", 1, NULL, 0), 0);
    assert_int_equal(fd_send(b, "unread", 6, NULL, 0), 0);      /* its death resets the connection */
    fd_close(&a);
    assert_int_equal(fd_recv(b, &c, 1, fds), 0);
    assert_int_equal(c, '1');
    assert_int_equal(fd_recv(b, &c, 1, fds), EPIPE);
}

static void sending_to_one_that_did_not_listen_is_epipe(void **state)
{
    (void)state;
    assert_int_equal(fd_send(b, "unread", 6, NULL, 0), 0);
    fd_close(&a);
    assert_int_equal(fd_send(b, "m", 1, NULL, 0), EPIPE);
    assert_int_equal(fd_send(b, "m", 1, NULL, 0), EPIPE);
}

static void too_short_a_message_is_bad(void **state)
{
    int fds[FD_MAX];
    char got[8];

    (void)state;
    assert_int_equal(fd_send(a, "1234567", 7, NULL, 0), 0);
    assert_int_equal(fd_recv(b, got, 8, fds), EBADMSG);
}

static void too_long_a_message_is_bad(void **state)
{
    int fds[FD_MAX];
    char got[9];

    (void)state;
    got[8] = '#';
    assert_int_equal(fd_send(a, "12345678", 9, NULL, 0), 0);
    assert_int_equal(fd_recv(b, got, 8, fds), EBADMSG);
    assert_int_equal(got[8], '#');
}

static void after_a_bad_message_comes_the_next(void **state)
{
    int fds[FD_MAX];
    char got[2];

    (void)state;
    assert_int_equal(fd_send(a, "123", 3, NULL, 0), 0);
    assert_int_equal(fd_send(a, "45", 2, NULL, 0), 0);
    assert_int_equal(fd_recv(b, got, 2, fds), EBADMSG);
    assert_int_equal(fd_recv(b, got, 2, fds), 0);
    assert_memory_equal(got, "45", 2);
}

static void a_bad_message_leaves_no_descriptor(void **state)
{
    int fds[FD_MAX] = {7, 7}, send[2] = {0, 1}, before = open_count();
    char got[8];

    (void)state;
    assert_int_equal(fd_send(a, "123", 3, send, 2), 0);
    assert_int_equal(fd_recv(b, got, 2, fds), EBADMSG);
    assert_int_equal(fd_send(a, "123", 3, send, 1), 0);
    assert_int_equal(fd_recv(b, got, 4, fds), EBADMSG);
    assert_int_equal(fds[0], -1);
    assert_int_equal(fds[1], -1);
    assert_int_equal(open_count(), before);
}

/* Around fd_send, which does not send so many. */
static void send_many(int fd, size_t count)
{
    union { struct cmsghdr header; unsigned char room[CMSG_SPACE(16 * sizeof(int))]; } control;
    struct iovec bytes = {(void *)(uintptr_t)"m", 1};
    struct msghdr header = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = &control};
    int fds[16] = {0};

    memset(&control, 0, sizeof control);
    header.msg_controllen = CMSG_SPACE(count * sizeof *fds);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(count * sizeof *fds);
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof *fds);
    assert_int_equal(sendmsg(fd, &header, 0), 1);
}

static void more_descriptors_than_agreed_are_bad_and_closed(void **state)
{
    int fds[FD_MAX], before = open_count();
    size_t count;
    char c;

    (void)state;
    for (count = FD_MAX + 1; count <= 16; count++) {
        send_many(a, count);
        assert_int_equal(fd_recv(b, &c, 1, fds), EBADMSG);
        assert_int_equal(fds[0], -1);
        assert_int_equal(fds[1], -1);
        assert_int_equal(open_count(), before);
    }
}

static void receive_at_the_limit(void)
{
    int fds[FD_MAX] = {7, 7}, send[2] = {0, 1}, left, before;
    char c;

    for (left = 0; left < 2; left++) {
        limit(left);
        before = open_count();
        NEED(fd_send(a, "m", 1, send, 2) == 0);
        NEED(fd_recv(b, &c, 1, fds) == EBADMSG && fds[0] == -1 && fds[1] == -1);
        NEED(open_count() == before);
    }
    limit(2);
    NEED(fd_send(a, "m", 1, send, 2) == 0);
    NEED(fd_recv(b, &c, 1, fds) == 0 && fds[0] > 2 && fds[1] > 2);
}

static void receiving_fails_clean_where_no_number_is_left(void **state)
{
    (void)state;
    if (check_under("valgrind"))
        skip();
    in_child(receive_at_the_limit);
}

static void lift_received_at_the_limit(void)
{
    int fds[FD_MAX] = {7, 7}, send[2] = {5, 5}, before;
    char c;

    limit(0);
    close(0);
    close(1);
    before = open_count();
    NEED(fd_send(a, "m", 1, send, 2) == 0);
    NEED(fd_recv(b, &c, 1, fds) == EMFILE && fds[0] == -1 && fds[1] == -1);
    NEED(open_count() == before);
}

static void receiving_fails_clean_where_it_cannot_be_lifted(void **state)
{
    (void)state;
    in_child(lift_received_at_the_limit);
}

static void senseless_messages_are_refused(void **state)
{
    int three[3] = {0, 0, 0}, bad = -1;

    (void)state;
    assert_int_equal(fd_send(a, "m", 0, NULL, 0), EINVAL);
    assert_int_equal(fd_send(a, "m", 1, three, 3), EINVAL);
    assert_int_equal(fd_send(a, "m", 1, &bad, 1), EBADF);
    assert_int_equal(fd_send(-1, "m", 1, NULL, 0), EBADF);
}

static void any_mixture_of_messages_leaves_nothing_open(void **state)
{
    int fds[FD_MAX], send[2] = {0, 1}, before = open_count(), i, error;
    char message[64] = "", got[64];
    size_t size, want, count;

    (void)state;
    srand(1);
    for (i = 0; i < 20000; i++) {
        size = 1 + (size_t)rand() % sizeof message;
        want = rand() % 2 ? size : 1 + (size_t)rand() % sizeof message;
        count = (size_t)rand() % 5;
        if (count > FD_MAX) {
            size = 1;
            send_many(a, count);
        } else {
            assert_int_equal(fd_send(a, message, size, send, count), 0);
        }
        error = fd_recv(b, got, want, fds);
        assert_int_equal(error, size == want && count <= FD_MAX ? 0 : EBADMSG);
        assert_int_equal((fds[0] >= 0) + (fds[1] >= 0), error ? 0 : count);
        fd_close(&fds[0]);
        fd_close(&fds[1]);
    }
    assert_int_equal(open_count(), before);
}

/* ---- Waking ---- */

static int reader, writer;              /* a pipe, made for each test; both ends non-blocking */

static int open_pipe(void **state)
{
    int ends[2];

    (void)state;
    if (fd_pipe(ends, 1))
        return -1;
    reader = ends[0];
    writer = ends[1];
    return 0;
}

static int close_pipe(void **state)
{
    (void)state;
    fd_close(&reader);
    fd_close(&writer);
    return 0;
}

static void fill(int fd)
{
    char bytes[4096] = "";

    while (write(fd, bytes, sizeof bytes) > 0)
        ;
    while (write(fd, bytes, 1) > 0)
        ;
}

static void wake_makes_the_other_end_readable(void **state)
{
    struct pollfd look = {.fd = reader, .events = POLLIN};

    (void)state;
    assert_int_equal(poll(&look, 1, 0), 0);
    assert_int_equal(fd_wake(writer), 0);
    assert_int_equal(poll(&look, 1, 0), 1);
}

static void wake_sends_one_byte(void **state)
{
    char bytes[8];

    (void)state;
    assert_int_equal(fd_wake(writer), 0);
    assert_int_equal(read(reader, bytes, sizeof bytes), 1);
}

static void wake_of_a_full_pipe_is_fine(void **state)
{
    (void)state;
    fill(writer);
    assert_int_equal(fd_wake(writer), 0);
}

static void wake_nobody(void)
{
    int ends[2];                        /* of its own: the test's is open in the parent too */

    signal(SIGPIPE, SIG_IGN);
    NEED(fd_pipe(ends, 1) == 0);
    fd_close(&ends[0]);
    NEED(fd_wake(ends[1]) == EPIPE);
    NEED(fd_wake(-1) == EBADF);
}

static void wake_of_nobody_is_an_error(void **state)
{
    (void)state;
    in_child(wake_nobody);
}

static void drain_of_an_empty_pipe_does_not_wait(void **state)
{
    (void)state;
    assert_int_equal(fd_drain(reader), 0);
}

static void drain_takes_all(void **state)
{
    struct pollfd look = {.fd = reader, .events = POLLIN};

    (void)state;
    fill(writer);
    assert_int_equal(fd_drain(reader), 0);
    assert_int_equal(poll(&look, 1, 0), 0);
}

static void drain_takes_all_of_the_largest_pipe(void **state)
{
    struct pollfd look = {.fd = reader, .events = POLLIN};

    (void)state;
    if (fcntl(writer, F_SETPIPE_SZ, 1 << 20) < 0)
        skip();
    fill(writer);
    assert_int_equal(fd_drain(reader), 0);
    assert_int_equal(poll(&look, 1, 0), 0);
}

static void drain_tells_the_end(void **state)
{
    (void)state;
    fd_close(&writer);
    assert_int_equal(fd_drain(reader), EPIPE);
}

static void drain_tells_the_end_behind_what_was_left(void **state)
{
    (void)state;
    fd_wake(writer);
    fd_close(&writer);
    assert_int_equal(fd_drain(reader), EPIPE);
}

static void drain_of_what_has_no_end_ends(void **state)
{
    int endless = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    (void)state;
    assert_int_equal(fd_drain(endless), 0);
    fd_close(&endless);
}

static void drain_of_nothing_is_an_error(void **state)
{
    (void)state;
    assert_int_equal(fd_drain(-1), EBADF);
}

/* ---- Which file it is ---- */

static void a_descriptor_is_itself(void **state)
{
    struct fd_identity identity;

    (void)state;
    assert_int_equal(fd_identify(reader, &identity), 0);
    assert_true(fd_is(reader, &identity));
}

static void another_pipe_is_another(void **state)
{
    struct fd_identity identity;
    int ends[2];

    (void)state;
    assert_int_equal(fd_identify(reader, &identity), 0);
    assert_int_equal(fd_pipe(ends, 0), 0);
    assert_false(fd_is(ends[0], &identity));
    fd_close(&ends[0]);
    fd_close(&ends[1]);
}

static void another_file_at_its_number_is_another(void **state)
{
    struct fd_identity identity;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(fd_identify(writer, &identity), 0);
    assert_int_equal(dup2(null, writer), writer);
    assert_false(fd_is(writer, &identity));
    fd_close(&null);
}

static void what_is_closed_is_nothing(void **state)
{
    struct fd_identity identity;
    int old = writer;

    (void)state;
    assert_int_equal(fd_identify(writer, &identity), 0);
    fd_close(&writer);
    assert_false(fd_is(old, &identity));
    assert_false(fd_is(-1, &identity));
    assert_int_equal(fd_identify(-1, &identity), EBADF);
}

/* ---- Closing what is not ours ---- */

static void close_all_but_these(void)
{
    const int keep[] = {40, 1, 21, -1, 40, 20, 50, 3};        /* in no order, twice, not open, below 3 */
    int fd;

    for (fd = 0; fd < 48; fd++)
        if (fd != 3)
            NEED(dup2(2, fd) == fd);
    close(3);
    fd_close_others(keep, sizeof keep / sizeof *keep);
    for (fd = 0; fd < LOW; fd++)
        NEED(is_open(fd) == (fd < 3 || fd == 20 || fd == 21 || fd == 40));
}

static void all_but_the_kept_are_closed(void **state)
{
    (void)state;
    in_child(close_all_but_these);
}

static void close_all(void)
{
    int fd;

    NEED(dup2(0, 5) == 5 && dup2(0, 60) == 60);
    fd_close_others(NULL, 0);
    for (fd = 0; fd < LOW; fd++)
        NEED(is_open(fd) == (fd < 3));
}

static void all_are_closed_where_none_is_kept(void **state)
{
    (void)state;
    in_child(close_all);
}

static void close_far(void)
{
    struct rlimit most;
    int far;

    NEED(getrlimit(RLIMIT_NOFILE, &most) == 0);
    far = (int)(most.rlim_cur < 4000 ? most.rlim_cur : 4000) - 1;
    NEED(dup2(0, far) == far && dup2(0, far - 1) == far - 1);
    fd_close_others(&far, 1);
    NEED(is_open(far) && !is_open(far - 1));
}

static void far_descriptors_are_found(void **state)
{
    (void)state;
    in_child(close_far);
}

/* From here on the kernel says that it has no close_range. */
static int forbid_close_range(void)
{
#if defined(SYS_close_range)
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0
           && syscall(SYS_close_range, 3, 3, 0) < 0 && errno == ENOSYS;
#else
    return 1;
#endif
}

static void close_listed_ones(void)
{
    if (!forbid_close_range())
        return;                         /* a sandbox: the test with the kernel's own is all there is */
    close_all_but_these();
    close_all();
    close_far();
}

static void an_older_kernel_closes_them_too(void **state)
{
    (void)state;
    in_child(close_listed_ones);
}

static void close_many_listed(void)
{
    struct rlimit most;
    int fd, top;

    NEED(getrlimit(RLIMIT_NOFILE, &most) == 0);
    top = (int)(most.rlim_cur < 1000 ? most.rlim_cur : 1000);
    if (!forbid_close_range())
        return;
    for (fd = 3; fd < top; fd++)
        NEED(dup2(0, fd) == fd);
    close(3);                           /* where the list itself is opened: closing that would end it early */
    fd = 500;
    fd_close_others(&fd, top > 500);
    for (fd = 3; fd < top; fd++)
        NEED(is_open(fd) == (fd == 500));
}

static void a_long_list_is_read_to_its_end(void **state)
{
    (void)state;
    in_child(close_many_listed);
}

/* ---- stdin ---- */

static void read_nothing(void)
{
    int before = open_count();
    char c;

    NEED(fd_null_stdin() == 0);
    NEED(read(0, &c, 1) == 0);
    NEED(!(fcntl(0, F_GETFD) & FD_CLOEXEC));
    NEED(open_count() == before);
}

static void a_null_stdin_is_empty(void **state)
{
    (void)state;
    in_child(read_nothing);
}

static void read_nothing_from_nothing(void)
{
    int before = open_count();
    char c;

    close(0);
    NEED(fd_null_stdin() == 0);
    NEED(read(0, &c, 1) == 0);
    NEED(!(fcntl(0, F_GETFD) & FD_CLOEXEC));
    NEED(open_count() == before);
}

static void a_closed_stdin_becomes_null_too(void **state)
{
    (void)state;
    in_child(read_nothing_from_nothing);
}

static void read_nothing_without_stdout(void)
{
    close(1);
    close(2);
    NEED(fd_null_stdin() == 0);
    NEED(is_open(0) && !is_open(1) && !is_open(2));
}

static void a_null_stdin_leaves_stdout_closed(void **state)
{
    (void)state;
    in_child(read_nothing_without_stdout);
}

#define WITH_PAIR(test) cmocka_unit_test_setup_teardown(test, open_pair, close_pair)
#define WITH_PIPE(test) cmocka_unit_test_setup_teardown(test, open_pipe, close_pipe)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipe_flags),
        cmocka_unit_test(pipe_with_a_nonblocking_read_end),
        cmocka_unit_test(pipe_carries_bytes),
        cmocka_unit_test(all_lies_above_2_though_stdio_is_closed),
        cmocka_unit_test(pipe_fails_clean_where_no_number_is_left),
        cmocka_unit_test(pipe_fails_clean_where_it_cannot_be_lifted),
        cmocka_unit_test(pipe_fails_clean_where_half_of_it_cannot_be_lifted),
        cmocka_unit_test(pair_flags),
        cmocka_unit_test(close_sets_minus_one_and_keeps_errno),
        cmocka_unit_test(close_of_nothing_is_fine),
        cmocka_unit_test(close_of_what_is_closed_keeps_errno),
        cmocka_unit_test(lift_leaves_alone_what_is_above_2),
        cmocka_unit_test(lift_moves_what_is_below),
        cmocka_unit_test(lift_closes_what_it_cannot_move),
        cmocka_unit_test(lift_of_nothing_is_refused),
        WITH_PAIR(a_message_arrives_whole),
        WITH_PAIR(messages_keep_their_bounds_and_order),
        WITH_PAIR(descriptors_travel),
        WITH_PAIR(one_descriptor_leaves_the_other_place_empty),
        WITH_PAIR(received_descriptors_lie_above_2),
        WITH_PAIR(nothing_there_is_eagain),
        WITH_PAIR(a_full_socket_is_eagain),
        WITH_PAIR(sending_to_nobody_is_epipe),
        WITH_PAIR(receiving_from_nobody_is_epipe),
        WITH_PAIR(last_words_are_heard),
        WITH_PAIR(last_words_are_heard_of_one_that_did_not_listen),
        WITH_PAIR(sending_to_one_that_did_not_listen_is_epipe),
        WITH_PAIR(too_short_a_message_is_bad),
        WITH_PAIR(too_long_a_message_is_bad),
        WITH_PAIR(after_a_bad_message_comes_the_next),
        WITH_PAIR(a_bad_message_leaves_no_descriptor),
        WITH_PAIR(more_descriptors_than_agreed_are_bad_and_closed),
        WITH_PAIR(receiving_fails_clean_where_no_number_is_left),
        WITH_PAIR(receiving_fails_clean_where_it_cannot_be_lifted),
        WITH_PAIR(senseless_messages_are_refused),
        WITH_PAIR(any_mixture_of_messages_leaves_nothing_open),
        WITH_PIPE(wake_makes_the_other_end_readable),
        WITH_PIPE(wake_sends_one_byte),
        WITH_PIPE(wake_of_a_full_pipe_is_fine),
        cmocka_unit_test(wake_of_nobody_is_an_error),
        WITH_PIPE(drain_of_an_empty_pipe_does_not_wait),
        WITH_PIPE(drain_takes_all),
        WITH_PIPE(drain_takes_all_of_the_largest_pipe),
        WITH_PIPE(drain_tells_the_end),
        WITH_PIPE(drain_tells_the_end_behind_what_was_left),
        cmocka_unit_test(drain_of_what_has_no_end_ends),
        cmocka_unit_test(drain_of_nothing_is_an_error),
        WITH_PIPE(a_descriptor_is_itself),
        WITH_PIPE(another_pipe_is_another),
        WITH_PIPE(another_file_at_its_number_is_another),
        WITH_PIPE(what_is_closed_is_nothing),
        cmocka_unit_test(all_but_the_kept_are_closed),
        cmocka_unit_test(all_are_closed_where_none_is_kept),
        cmocka_unit_test(far_descriptors_are_found),
        cmocka_unit_test(an_older_kernel_closes_them_too),
        cmocka_unit_test(a_long_list_is_read_to_its_end),
        cmocka_unit_test(a_null_stdin_is_empty),
        cmocka_unit_test(a_closed_stdin_becomes_null_too),
        cmocka_unit_test(a_null_stdin_leaves_stdout_closed),
    };

    signal(SIGPIPE, SIG_DFL);           /* whoever started this may have ignored it, and some tests would prove nothing */
    return cmocka_run_group_tests(tests, check_setup, check_teardown);
}
