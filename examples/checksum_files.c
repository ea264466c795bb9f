/* checksum_files: what cksum prints, for the files named and for all regular files below the directories named, with a
 * worker per CPU. A generator walks the trees while the workers read files, never far ahead of them, so that a tree of
 * any size takes little memory; pool_imap brings the results back in the order of the walk. A file that cannot be read
 * is a failed item: it is reported, and the others go on. */
#define _DEFAULT_SOURCE         /* fts */
#include <errno.h>
#include <fcntl.h>
#include <forkpool.h>
#include <fts.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- In the workers: the CRC of POSIX cksum, eight bytes at a time ---- */

static uint32_t table[8][256];      /* table[k][b]: byte b, then k zero bytes. Made before the pool: workers share it */

static void make_table(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t crc = b << 24;
        for (int bit = 0; bit < 8; bit++)
            crc = crc << 1 ^ (crc >> 31 ? UINT32_C(0x04C11DB7) : 0);
        table[0][b] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            table[k][b] = table[k - 1][b] << 8 ^ table[0][table[k - 1][b] >> 24];
}

static uint32_t crc_add(uint32_t crc, const unsigned char *p, size_t size)
{
    for (; size >= 8; p += 8, size -= 8)
        crc = table[7][crc >> 24 ^ p[0]]       ^ table[6][(crc >> 16 & 255) ^ p[1]]
            ^ table[5][(crc >> 8 & 255) ^ p[2]] ^ table[4][(crc & 255) ^ p[3]]
            ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    for (; size; p++, size--)
        crc = crc << 8 ^ table[0][crc >> 24 ^ *p];
    return crc;
}

struct checksum { uint64_t size; uint32_t crc; };

static int checksum(struct pool_task *task)
{
    static unsigned char buffer[128 * 1024];
    struct checksum sum = {0, 0};
    ssize_t got = -1;

    int fd = open(task->in, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && (got = read(fd, buffer, sizeof buffer)) > 0) {
        sum.crc = crc_add(sum.crc, buffer, (size_t)got);
        sum.size += (uint64_t)got;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return pool_fail(task, error, "%s", strerror(error));

    for (uint64_t rest = sum.size; rest; rest >>= 8)        /* the length is part of it, lowest byte first */
        sum.crc = crc_add(sum.crc, &(unsigned char){rest & 255}, 1);
    sum.crc = ~sum.crc;
    return pool_return(task, &sum, sizeof sum);
}

/* ---- In the host: the walk, and the names of the files whose results are still to come ---- */

struct name { struct name *next; char path[]; };
struct walk { char **roots; FTS *tree; struct name *first, **last; int errors; };

static int report(const char *name, const char *why)
{
    fprintf(stderr, "checksum_files: %s: %s\n", name, why);
    return EXIT_FAILURE;
}

static int failed(const char *why)
{
    fprintf(stderr, "checksum_files: %s\n", why);
    return EXIT_FAILURE;
}

static int hand_out(struct walk *walk, const char *path, struct pool_bytes *item)
{
    size_t size = strlen(path) + 1;
    struct name *name = malloc(sizeof *name + size);
    if (!name)
        return -ENOMEM;
    name->next = NULL;
    memcpy(name->path, path, size);
    *walk->last = name;
    walk->last = &name->next;
    *item = (struct pool_bytes){name->path, size};
    return 1;
}

static void forget_first(struct walk *walk)
{
    struct name *name = walk->first;
    walk->first = name->next;
    if (!walk->first)
        walk->last = &walk->first;
    free(name);
}

/* The byte order of whole paths, which is sort's in the C locale: a directory's name counts with its slash. */
static int by_path(const FTSENT **a, const FTSENT **b)
{
    const unsigned char *x = (const unsigned char *)(*a)->fts_name, *y = (const unsigned char *)(*b)->fts_name;
    while (*x && *x == *y)
        x++, y++;
    int last_x = (*a)->fts_info == FTS_D ? '/' : 0, last_y = (*b)->fts_info == FTS_D ? '/' : 0;
    return (*x ? *x : last_x) - (*y ? *y : last_y);
}

/* The pool's generator: the next file to read. What has no type (it vanished) goes to a worker too, which will say why. */
static int next_file(void *cursor, struct pool_bytes *item)
{
    struct walk *walk = cursor;
    for (;;) {
        if (!walk->tree) {
            char *root[] = {*walk->roots, NULL};
            if (!*root)
                return 0;
            walk->roots++;
            walk->tree = fts_open(root, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, by_path);
            if (!walk->tree)
                return hand_out(walk, *root, item);
        }
        errno = 0;
        FTSENT *entry = fts_read(walk->tree);
        if (!entry && errno)
            return -errno;
        if (!entry) {
            fts_close(walk->tree);
            walk->tree = NULL;
        } else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR) {
            walk->errors |= report(entry->fts_path, strerror(entry->fts_errno));
        } else if (entry->fts_info == FTS_F || entry->fts_info == FTS_NS
                   || (entry->fts_level == 0 && entry->fts_info != FTS_D && entry->fts_info != FTS_DP)) {
            return hand_out(walk, entry->fts_path, item);
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return failed("which files, or directories?");

    make_table();
    struct pool *pool = pool_create(NULL);
    if (!pool)
        return failed(pool_error());

    struct walk walk = {.roots = argv + 1, .last = &walk.first};
    struct pool_iter *it = pool_imap(pool, checksum, pool_generator(next_file, &walk), NULL);
    int status = it ? 0 : failed(pool_error());
    for (const struct pool_result *r; (r = pool_next(it));) {
        if (r->status == POOL_SOURCE_FAILED) {
            status = failed(strerror(-r->code));
            continue;
        }
        const struct checksum *sum = r->data;
        if (r->status == POOL_OK)
            printf("%" PRIu32 " %" PRIu64 " %s\n", sum->crc, sum->size, walk.first->path);
        else
            status = report(walk.first->path, r->message);
        forget_first(&walk);
    }
    pool_iter_free(it);
    pool_destroy(pool);

    if (fflush(stdout) || ferror(stdout))
        status = report("standard output", strerror(errno));
    return status | walk.errors;
}
