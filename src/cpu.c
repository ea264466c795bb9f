/* How many CPUs this process may use.
 *
 * Runs in the host, any thread, when a pool is created or the caller asks; may allocate. Keeps no state: masks and quotas
 * are changed from outside at any time.
 *
 * Invariants: the answer is at least 1 and never more than the affinity mask; whatever cannot be read, or makes no sense, is
 * no limit, since a wrong guess upwards costs a little speed, and one downwards leaves CPUs idle.
 *
 * The affinity mask alone would be wrong in most containers: they are limited by a quota of CPU time, and a worker more than
 * the quota allows makes all of them be stopped together in each period. Nor is the quota simply in /sys/fs/cgroup: which
 * group the process is in, where the hierarchy is mounted, and which part of it the mount shows must be asked of /proc. A
 * quota holds for all groups beneath, hence the way up. */
#define _GNU_SOURCE
#include "cpu.h"

#include "cpu_place.h"
#include "status.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_SIZE = 3 * PATH_MAX };      /* root, mount point and group, one behind the other */

#define NO_LIMIT UINT_MAX

/* ---- One group's quota ---- */

/* The first line of <dir>/<name>; 0: there is none. */
static int peek(const char *dir, const char *name, char *line, int size)
{
    char path[PATH_SIZE + 32];
    FILE *file;
    int good;

    if (snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return 0;
    file = fopen(path, "re");
    if (!file)
        return 0;
    good = fgets(line, size, file) != NULL;
    fclose(file);
    return good;
}

/* A positive number, and past it; -1 for anything else ("max", "-1", garbage, too large to be meant). */
static long long positive(char **at)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(*at, &end, 10);
    if (end == *at || errno || value <= 0 || (*end && *end != ' ' && *end != '\n'))
        return -1;
    *at = end;
    return value;
}

static unsigned quota_at(const char *dir, int v2)
{
    char first[64], second[64], *at = first, *behind = second;
    long long quota, period, cpus;

    if (!peek(dir, v2 ? "cpu.max" : "cpu.cfs_quota_us", first, sizeof first))
        return NO_LIMIT;
    quota = positive(&at);
    if (v2)
        behind = at;
    else if (!peek(dir, "cpu.cfs_period_us", second, sizeof second))
        return NO_LIMIT;
    period = quota > 0 ? positive(&behind) : -1;
    if (period <= 0)
        return NO_LIMIT;
    cpus = (quota - 1) / period + 1;    /* rounded up: half a CPU more is better used than left */
    return cpus < NO_LIMIT ? (unsigned)cpus : NO_LIMIT;
}

/* The smallest quota of `dir` and those above it, up to its first `top` characters; `dir` is used up. */
static unsigned climb(char *dir, size_t top, int v2)
{
    unsigned least = NO_LIMIT, quota;
    char *cut;

    for (;;) {
        quota = quota_at(dir, v2);
        if (quota < least)
            least = quota;
        cut = strrchr(dir, '/');
        if (!cut || (size_t)(cut - dir) < top)
            return least;
        *cut = '\0';
    }
}

/* ---- Where the groups are ---- */

/* Is `word` in the comma-separated list? */
static int listed(const char *list, const char *word)
{
    size_t length = strlen(word);

    while (list) {
        if (strncmp(list, word, length) == 0 && (list[length] == ',' || !list[length]))
            return 1;
        list = strchr(list, ',');
        if (list)
            list++;
    }
    return 0;
}

/* Undoes the octal escapes of mountinfo (\040 is a space), in place. */
static void unescape(char *text)
{
    char *to = text;

    for (; *text; text++) {
        if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7'
            && text[3] >= '0' && text[3] <= '7') {
            *to++ = (char)((text[1] - '0') * 64 + (text[2] - '0') * 8 + (text[3] - '0'));
            text += 3;
        } else {
            *to++ = *text;
        }
    }
    *to = '\0';
}

/* Does the path lead above where it begins? So does that of a group outside of our namespace. */
static int leads_out(const char *path)
{
    const char *at = path;

    while ((at = strstr(at, "/..")) != NULL) {
        at += 3;
        if (!*at || *at == '/')
            return 1;
    }
    return 0;
}

/* The group's path as seen from a mount that shows the hierarchy from `top` on; NULL if the mount does not show the group. */
static const char *below(const char *path, const char *top)
{
    size_t length = strlen(top);

    while (length && top[length - 1] == '/')
        length--;
    if (leads_out(path) || strncmp(path, top, length) != 0 || (path[length] && path[length] != '/'))
        return NULL;
    path += length;
    return strcmp(path, "/") == 0 ? "" : path;
}

/* Quota of the group `path`, if one line of mountinfo is a mount of its hierarchy:
 *     36 35 98:0 /top /mount/point rw,noatime master:1 - cgroup2 source rw,options */
static unsigned quota_by_mount(char *line, const char *root, const char *path, int v2)
{
    char dir[PATH_SIZE], *top = NULL, *point = NULL, *field, *type, *options;
    int i;

    for (i = 0; (field = strsep(&line, " ")) != NULL && strcmp(field, "-") != 0; i++) {
        if (i == 3)
            top = field;
        else if (i == 4)
            point = field;
    }
    type = strsep(&line, " ");
    strsep(&line, " ");
    options = line;
    if (!point || !type || strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 || (!v2 && !listed(options, "cpu")))
        return NO_LIMIT;
    unescape(top);
    unescape(point);
    path = below(path, top);
    if (!path || snprintf(dir, sizeof dir, "%s%s%s", root, point, path) >= (int)sizeof dir)
        return NO_LIMIT;
    return climb(dir, strlen(root) + strlen(point), v2);
}

/* ---- The files in /proc ---- */

static FILE *open_proc(const char *root, const char *name)
{
    char path[PATH_SIZE];

    if (snprintf(path, sizeof path, "%s/proc/self/%s", root, name) >= (int)sizeof path)
        return NULL;
    return fopen(path, "re");
}

/* The next line without its end, in a buffer that grows: mount options may be long. */
static char *next_line(FILE *file, char **line, size_t *size)
{
    if (getline(line, size, file) < 0)
        return NULL;
    (*line)[strcspn(*line, "\n")] = '\0';
    return *line;
}

/* The smallest over all mounts: each shows the same groups, some perhaps less of them. */
static unsigned quota_of_group(const char *root, const char *path, int v2)
{
    unsigned least = NO_LIMIT, quota;
    FILE *file = open_proc(root, "mountinfo");
    char *line = NULL;
    size_t size = 0;

    if (!file)
        return NO_LIMIT;
    while (next_line(file, &line, &size)) {
        quota = quota_by_mount(line, root, path, v2);
        if (quota < least)
            least = quota;
    }
    free(line);
    fclose(file);
    return least;
}

/* One line of /proc/self/cgroup: "4:cpu,cpuacct:/path" is of v1, "0::/path" of v2. */
static unsigned quota_by_line(char *line, const char *root)
{
    const char *id = strsep(&line, ":"), *controllers = strsep(&line, ":");
    int v2;

    if (!controllers || !line || *line != '/')
        return NO_LIMIT;
    v2 = strcmp(id, "0") == 0 && !*controllers;
    return v2 || listed(controllers, "cpu") ? quota_of_group(root, line, v2) : NO_LIMIT;
}

unsigned cpu_count_in(const char *root, unsigned affinity)
{
    unsigned count = affinity, quota;
    FILE *file = open_proc(root, "cgroup");
    char *line = NULL;
    size_t size = 0;

    while (file && next_line(file, &line, &size)) {
        quota = quota_by_line(line, root);
        if (quota < count)
            count = quota;
    }
    free(line);
    if (file)
        fclose(file);
    return count ? count : 1;
}

unsigned pool_cpu_count(void)
{
    status_clear();
    return cpu_count_in("", cpu_affinity());
}
