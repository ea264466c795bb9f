/* event_loop: a pool in a program that waits in one place only, its poll loop. Numbers come from standard input, one a line,
 * at any pace. Each becomes an asynchronous call, and its prime factors are printed as soon as they are known, whatever the
 * order. pool_fd is readable when a job has ended; then the jobs are asked, and asking never waits. It would be the same
 * with epoll, libuv or a toolkit's loop. The end: no more input, and all jobs done. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <forkpool.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PLENTY = 1000, DIGITS = 19 };

/* ---- In the workers ---- */

static int factorise(struct pool_task *task)
{
    uint64_t n = *(const uint64_t *)task->in, factors[64];
    size_t count = 0;

    for (uint64_t p = 2; p <= n / p; p += p == 2 ? 1 : 2)
        for (; n % p == 0; n /= p)
            factors[count++] = p;
    if (n > 1)
        factors[count++] = n;
    return pool_return(task, factors, count * sizeof *factors);
}

/* ---- In the host ---- */

struct question { struct question *next; uint64_t number; struct pool_job *job; };

struct host {
    struct pool *pool;
    struct question *first;                     /* what is open */
    size_t open;
    uint64_t number;                            /* the line that is being read, */
    int digits;                                 /*   so many digits of it */
    int input_ended, status;
};

static void complain(struct host *host, const char *why)
{
    fprintf(stderr, "event_loop: %s\n", why);
    host->status = EXIT_FAILURE;
}

static void ask(struct host *host, uint64_t number)
{
    struct question *q = malloc(sizeof *q);
    if (!q) {
        complain(host, strerror(errno));
        return;
    }
    *q = (struct question){host->first, number, pool_apply_async(host->pool, factorise, &number, sizeof number, NULL)};
    if (!q->job) {
        complain(host, pool_error());
        free(q);
        return;
    }
    host->first = q;
    host->open++;
}

static void answer(struct host *host, uint64_t number, const struct pool_result *r)
{
    if (r->status != POOL_OK) {
        complain(host, r->message);
        return;
    }
    printf("%" PRIu64 ":", number);
    const uint64_t *factors = r->data;
    for (size_t i = 0; i < r->size / sizeof *factors; i++)
        printf(" %" PRIu64, factors[i]);
    putchar('\n');
}

static void end_line(struct host *host)
{
    if (host->digits > DIGITS)
        complain(host, "that number is too large");
    else if (host->digits)
        ask(host, host->number);
    host->number = 0;
    host->digits = 0;
}

/* Standard input is readable: takes what is there. */
static void read_numbers(struct host *host)
{
    char bytes[4096];
    ssize_t got = read(STDIN_FILENO, bytes, sizeof bytes);

    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got < 0)
        complain(host, strerror(errno));
    for (ssize_t i = 0; i < got; i++) {
        if (bytes[i] < '0' || bytes[i] > '9') {
            end_line(host);
        } else {
            host->number = host->number * 10 + (uint64_t)(bytes[i] - '0');
            host->digits += host->digits <= DIGITS;
        }
    }
    if (got <= 0) {
        end_line(host);
        host->input_ended = 1;
    }
}

/* The pool is readable: some job has ended, which one is found by asking all. */
static void take_answers(struct host *host)
{
    for (struct question **place = &host->first, *q; (q = *place);) {
        if (pool_job_wait(q->job, 0) == POOL_PENDING) {
            place = &q->next;
            continue;
        }
        answer(host, q->number, pool_results_at(pool_job_results(q->job), 0));
        *place = q->next;
        pool_job_free(q->job);
        free(q);
        host->open--;
    }
    fflush(stdout);
}

static void loop(struct host *host, int readable)
{
    while (!host->input_ended || host->first) {
        int input = host->input_ended || host->open >= PLENTY ? -1 : STDIN_FILENO;      /* poll passes over -1 */
        struct pollfd fds[] = {{.fd = input, .events = POLLIN}, {.fd = readable, .events = POLLIN}};
        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            perror("event_loop");
            exit(1);                    /* the pool ends with us */
        }
        if (fds[0].revents)
            read_numbers(host);
        if (fds[1].revents)
            take_answers(host);
    }
}

int main(void)
{
    struct host host = {.pool = pool_create(NULL)};
    int readable = host.pool ? pool_fd(host.pool) : -1;

    if (readable < 0)
        complain(&host, pool_error());
    else
        loop(&host, readable);

    pool_destroy(host.pool);
    return host.status;
}
