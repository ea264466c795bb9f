/* What a worker may use, and what it has.
 *
 * Runs in the worker. Limits are the kernel's (setrlimit), relative to what the process has at birth: it is a fork of the host, with all of
 * the host's address space. They are never raised: where the host's own hard limit is lower, that one stays. Memory is asked for where
 * it costs least, in /proc/self/statm; opened anew each time, since a task may have closed any descriptor. */
#define _XOPEN_SOURCE 700
#include "worker_limits.h"

#include "cpu_place.h"
#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

struct memory { size_t total, own; };   /* bytes */

static struct memory look(void)
{
    char text[200];
    size_t total, resident, shared, page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    fd_close(&fd);
    text[n > 0 ? n : 0] = '\0';
    if (sscanf(text, "%zu %zu %zu", &total, &resident, &shared) != 3 || shared > resident)
        return (struct memory){0, 0};
    return (struct memory){total * page, (resident - shared) * page};
}

size_t worker_memory(void)
{
    return look().own;
}

static int lower(int resource, rlim_t soft, rlim_t hard)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit))
        return errno;
    if (limit.rlim_max == RLIM_INFINITY || hard < limit.rlim_max)
        limit.rlim_max = hard;
    if (limit.rlim_cur == RLIM_INFINITY || soft < limit.rlim_cur)
        limit.rlim_cur = soft;
    return setrlimit(resource, &limit) ? errno : 0;
}

static int limit_memory(size_t more)
{
    size_t total = look().total;
    if (!total)
        return ENOTSUP;
    rlim_t limit = more < SIZE_MAX / 2 ? (rlim_t)total + more : RLIM_INFINITY;
    return limit == RLIM_INFINITY ? 0 : lower(RLIMIT_AS, limit, limit);
}

/* SIGXCPU at the limit, which says what it was; SIGKILL a second later for a task that has caught it. */
static int limit_cpu(double seconds)
{
    if (seconds >= 1e9)
        return 0;
    rlim_t whole = (rlim_t)seconds;
    whole += (double)whole < seconds;
    return lower(RLIMIT_CPU, whole, whole + 1);
}

static int be_nice(int more)
{
    errno = 0;
    int now = getpriority(PRIO_PROCESS, 0);
    if (errno)
        return errno;
    if (setpriority(PRIO_PROCESS, 0, more > 40 ? 40 : more < -40 ? -40 : now + more))
        return errno == EACCES ? EPERM : errno;
    return 0;
}

int worker_limit(const struct worker_limits *l, unsigned index, const char **what)
{
    int r = 0;
    if (l->pin) {
        *what = "it could not be pinned to a CPU";
        r = cpu_pin(index);
    }
    if (!r && l->nice) {
        *what = "its niceness could not be changed";
        r = be_nice(l->nice);
    }
    if (!r && l->cpu_limit > 0) {
        *what = "its CPU time could not be limited";
        r = limit_cpu(l->cpu_limit);
    }
    if (!r && l->memory_limit) {
        *what = "its memory could not be limited";
        r = limit_memory(l->memory_limit);
    }
    return r;
}
