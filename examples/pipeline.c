/* pipeline: three stages of processes, joined by queues. One finds the files below a directory, three read them and add them up as sum(1)
 * does, and this program writes the lines. Each stage ends by itself when the queue before it does, however its own processes end: with a
 * second argument, the process that comes to the file of that name is killed there, and its one item is reported missing. */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <forkpool.h>
#include <ftw.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HASHERS = 3, AT_ONCE = 20 };

/* What goes through the queues: a file that was found; the same with its line, or why there is none. */
struct item { uint32_t number, sum; int error, done; char path[4096]; };

static struct pool_queue *files, *lines;
static const char *root, *poison;

static int put(struct pool_queue *queue, const struct item *item)
{
    return pool_queue_put(queue, item, offsetof(struct item, path) + strlen(item->path) + 1, -1) != POOL_OK;
}

/* ---- The first stage: tells the last one, too, so that it knows what to expect */

static int found(const char *path, const struct stat *stat, int type, struct FTW *where)
{
    static struct item item;
    (void)stat, (void)where;
    if (type != FTW_F || strlen(path) >= sizeof item.path)
        return 0;
    strcpy(item.path, path);
    if (put(lines, &item) || put(files, &item))
        return -1;
    item.number++;
    return 0;
}

static int find(void *unused)
{
    (void)unused;
    return nftw(root, found, AT_ONCE, FTW_PHYS) != 0;
}

/* ---- The second */

static uint32_t add_up(const char *path, int *error)
{
    uint32_t sum = 0;
    FILE *file = fopen(path, "rb");
    errno = file ? 0 : errno;
    for (int c; file && (c = getc(file)) != EOF;)
        sum = ((sum >> 1 | sum << 15) + (uint32_t)c) & 0xffff;
    *error = !file || ferror(file) ? errno : 0;
    if (file)
        fclose(file);
    return sum;
}

static int hash(void *unused)
{
    struct pool_bytes got;
    struct item item;
    (void)unused;
    pool_queue_close(files);
    while (pool_queue_get(files, &got, -1) == POOL_OK) {
        memcpy(&item, got.data, got.size);
        item.sum = add_up(item.path, &item.error);
        if (poison && strcmp(item.path, poison) == 0)
            raise(SIGKILL);
        item.done = 1;
        if (put(lines, &item))
            return 1;
    }
    return 0;
}

/* ---- The third, here */

struct found { char *path; int done; };
static struct found *all;
static size_t count, room;

static void expect(const struct item *item)
{
    if (item->number >= room) {
        room = 2 * (room + item->number) + 100;
        all = realloc(all, room * sizeof *all);
        if (!all)
            exit(EXIT_FAILURE);
        memset(all + count, 0, (room - count) * sizeof *all);
    }
    if (item->number >= count)
        count = item->number + 1;
    if (!all[item->number].path)
        all[item->number].path = strdup(item->path);
}

static int write_lines(void)
{
    struct pool_bytes got;
    struct item item;
    int status = EXIT_SUCCESS;
    while (pool_queue_get(lines, &got, -1) == POOL_OK) {
        memcpy(&item, got.data, got.size);
        expect(&item);
        all[item.number].done |= item.done;
        if (item.done && item.error)
            fprintf(stderr, "pipeline: %s: %s\n", item.path, strerror(item.error));
        else if (item.done)
            printf("%05u %s\n", (unsigned)item.sum, item.path);
        status |= item.error != 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (!all[i].done) {
            fprintf(stderr, "pipeline: missing: %s\n", all[i].path);
            status = EXIT_FAILURE;
        }
        free(all[i].path);
    }
    free(all);
    return status;
}

int main(int argc, char **argv)
{
    struct pool_process *stages[1 + HASHERS];
    if (argc < 2) {
        fprintf(stderr, "usage: pipeline DIRECTORY [FILE-TO-BE-KILLED-AT]\n");
        return 2;
    }
    root = argv[1];
    poison = argv[2];
    files = pool_queue_create(0);
    lines = pool_queue_create(0);
    for (int i = 0; i < 1 + HASHERS; i++) {
        stages[i] = files && lines ? pool_process_start(i ? hash : find, NULL) : NULL;
        if (!stages[i]) {
            fprintf(stderr, "pipeline: %s\n", pool_error());
            return EXIT_FAILURE;
        }
    }
    pool_queue_free(files);             /* nothing for this one there */
    pool_queue_close(lines);
    int status = write_lines();
    for (int i = 0; i < 1 + HASHERS; i++) {
        pool_process_join(stages[i], -1);
        if (pool_process_exitcode(stages[i]) > 0)
            status = EXIT_FAILURE;
        else if (pool_process_exitcode(stages[i]) < 0)
            fprintf(stderr, "pipeline: a process was killed by signal %d\n", -pool_process_exitcode(stages[i]));
        pool_process_free(stages[i]);
    }
    pool_queue_free(lines);
    return status;
}
