/* Killing all that is below the nursery, whatever sessions and process groups it has spread into.
 *
 * Runs in the nursery, which is single-threaded, reaps every child itself and is a child subreaper; allocates nothing.
 *
 * Invariants: only direct children are signalled. Since nobody but the caller reaps them, a pid that was listed is still
 * that child, dead or alive, when it is signalled; further down, a pid could be somebody else's by then. And nothing is
 * missed by that: when a child dies, its own become children of the nursery, before the nursery hears of the death. A
 * generation is thus killed per round, and a round that finds nobody proves that nobody is left.
 * The group is signalled too, since a signal to a group cannot be dodged by forking while a signal to a pid can; a group
 * other than the nursery's holds descendants only, as nobody can join one from another session.
 *
 * Not a walk of the whole tree, which races with it; not kill(-1), which means all processes of the user.
 * Holes: a child that runs as another user (setuid) cannot be signalled; on a system without subreapers what left its worker's
 * group goes to init; one that starts sessions faster than we list children runs for as long as it wins that race. */
#define _GNU_SOURCE
#include "descendants.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "fd.h"

#if defined(__linux__)

#include <sys/syscall.h>

enum { LONGEST = 64 };                  /* more than any path that is made here */

/* Nonzero if there was something to signal, which a zombie is as well. */
static int strike(pid_t pid)
{
    pid_t group = getpgid(pid);

    if (group > 0 && group != getpgrp())
        kill(-group, SIGKILL);
    return kill(pid, SIGKILL) == 0;
}

static int open_proc(const char *path, int flags)
{
    int fd;

    do
        fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* The kernel's own list of our children: numbers, each followed by a space. */
static int strike_listed(int list)
{
    char bytes[4096];
    int struck = 0;
    pid_t pid = 0;
    ssize_t got, i;

    while ((got = read(list, bytes, sizeof bytes)) > 0) {
        for (i = 0; i < got; i++) {
            if (bytes[i] >= '0' && bytes[i] <= '9') {
                pid = pid * 10 + (bytes[i] - '0');
            } else if (pid > 0) {
                struck += strike(pid);
                pid = 0;
            }
        }
    }
    return struck;
}

/* The parent in "/proc/<pid>/stat": after the name, which may itself hold any character, and the state. */
static int is_child(pid_t pid)
{
    char path[LONGEST], text[512], *after;
    int stat, parent = 0;
    ssize_t got;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    stat = open_proc(path, 0);
    if (stat < 0)
        return 0;
    got = read(stat, text, sizeof text - 1);
    fd_close(&stat);
    text[got > 0 ? got : 0] = '\0';
    after = strrchr(text, ')');
    return after && sscanf(after + 1, " %*c %d", &parent) == 1 && parent == getpid();
}

struct entry {                          /* what getdents64 writes; readdir would allocate */
    uint64_t       inode;
    int64_t        next;
    unsigned short length;
    unsigned char  type;
    char           name[];
};

static pid_t number(const char *name)
{
    pid_t n = 0;

    for (; *name >= '0' && *name <= '9'; name++)
        n = n * 10 + (*name - '0');
    return *name ? 0 : n;
}

/* All processes, for their parent: where the kernel was built without lists of children. */
static int strike_searched(int proc)
{
    _Alignas(struct entry) char room[4096];
    const struct entry *entry;
    int struck = 0, seen = 0;
    long got, at;
    pid_t pid;

    while ((got = syscall(SYS_getdents64, proc, room, sizeof room)) > 0) {
        for (at = 0; at < got; at += entry->length) {
            entry = (const struct entry *)(const void *)(room + at);
            pid = number(entry->name);
            seen |= pid > 0;
            if (pid > 0 && is_child(pid))
                struck += strike(pid);
        }
    }
    return seen ? struck : -1;          /* an empty directory is no procfs */
}

int descendants_kill(void)
{
    char path[LONGEST];
    int fd, struck;

    snprintf(path, sizeof path, "/proc/self/task/%ld/children", (long)getpid());    /* the only thread's id is the pid */
    fd = open_proc(path, 0);
    if (fd >= 0) {
        struck = strike_listed(fd);
    } else {
        fd = open_proc("/proc", O_DIRECTORY);
        if (fd < 0)
            return -1;
        struck = strike_searched(fd);
    }
    fd_close(&fd);
    return struck;
}

#else

int descendants_kill(void)
{
    return -1;
}

#endif
