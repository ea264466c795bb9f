/* gzip_stream: a parallel gzip of standard input, of any length in constant memory. A generator cuts the input into blocks
 * and is never read further ahead than the pool's window; the workers compress them; pool_imap brings them back in order.
 * Each block is sent with the 32 KiB before it, which deflate may refer back to, and ends on a byte boundary, so that
 * the pieces put together are one plain gzip member, as pigz makes them. zlib is loaded in each worker's initializer.
 * -v: throughput and peak memory on standard error. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <errno.h>
#include <forkpool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 128 * 1024, DICTIONARY = 32 * 1024, SKIP = 77 };

/* ---- The little of zlib that is needed: declared here, found by dlopen ---- */

struct stream {                             /* its z_stream, member for member */
    const unsigned char *in;  unsigned in_left;  unsigned long in_total;
    unsigned char *out;       unsigned out_left; unsigned long out_total;
    const char *message;
    void *state, *allocate, *release, *opaque;
    int data_type;
    unsigned long check, reserved;
};

enum { OK = 0, SYNC_FLUSH = 2, LEVEL = 6, DEFLATED = 8, RAW = -15, MEMORY = 8, STRATEGY = 0 };

struct zlib {
    int (*deflateInit2_)(struct stream *, int, int, int, int, int, const char *version, int size);
    int (*deflateReset)(struct stream *);
    int (*deflateSetDictionary)(struct stream *, const unsigned char *, unsigned);
    int (*deflate)(struct stream *, int flush);
    unsigned long (*crc32)(unsigned long, const unsigned char *, unsigned);
    unsigned long (*crc32_combine)(unsigned long, unsigned long, long);
};

static int find(void *library, const char *name, void *function)
{
    void *address = dlsym(library, name);
    memcpy(function, &address, sizeof address);
    return address != NULL;
}

static int load_zlib(struct zlib *z)
{
    void *library = dlopen("libz.so.1", RTLD_NOW);
    return library
        && find(library, "deflateInit2_", &z->deflateInit2_) && find(library, "deflateReset", &z->deflateReset)
        && find(library, "deflateSetDictionary", &z->deflateSetDictionary) && find(library, "deflate", &z->deflate)
        && find(library, "crc32", &z->crc32) && find(library, "crc32_combine", &z->crc32_combine);
}

/* ---- In the workers ---- */

struct block { unsigned long crc; unsigned raw; unsigned char deflated[BLOCK + BLOCK / 4]; };
struct compressor { struct zlib zlib; struct stream stream; struct block block; };

static int start(struct pool_worker *worker)
{
    struct compressor *c = worker->state = calloc(1, sizeof *c);
    if (!c)
        return pool_init_fail(worker, 1, "no memory");
    if (!load_zlib(&c->zlib))
        return pool_init_fail(worker, SKIP, "libz.so.1 not found");
    if (c->zlib.deflateInit2_(&c->stream, LEVEL, DEFLATED, RAW, MEMORY, STRATEGY, "1", (int)sizeof c->stream) != OK)
        return pool_init_fail(worker, 1, "deflateInit2 failed");
    return 0;
}

static int compress_block(struct pool_task *task)
{
    struct compressor *c = task->worker->state;
    const struct zlib *z = &c->zlib;
    struct stream *s = &c->stream;
    struct block *b = &c->block;
    unsigned before = task->index ? DICTIONARY : 0;     /* only the first block has nothing before it */
    const unsigned char *data = (const unsigned char *)task->in + before;

    b->raw = (unsigned)task->in_size - before;
    b->crc = z->crc32(0, data, b->raw);
    s->in = data;
    s->in_left = b->raw;
    s->out = b->deflated;
    s->out_left = sizeof b->deflated;
    if (z->deflateReset(s) != OK || (before && z->deflateSetDictionary(s, task->in, before) != OK)
        || z->deflate(s, SYNC_FLUSH) != OK || s->in_left || !s->out_left)
        return pool_fail(task, 1, "deflate failed");
    return pool_return(task, b, offsetof(struct block, deflated) + sizeof b->deflated - s->out_left);
}

/* ---- In the host ---- */

struct input { size_t before, size; unsigned char bytes[DICTIONARY + BLOCK]; };     /* the dictionary, then the block */

static int next_block(void *cursor, struct pool_bytes *item)
{
    struct input *in = cursor;
    if (in->size) {
        if (in->size < BLOCK)
            return 0;                                   /* that was the last one */
        memmove(in->bytes, in->bytes + in->before + in->size - DICTIONARY, DICTIONARY);
        in->before = DICTIONARY;
    }
    in->size = fread(in->bytes + in->before, 1, BLOCK, stdin);
    *item = (struct pool_bytes){in->bytes, in->before + in->size};
    return ferror(stdin) ? -EIO : in->size > 0;
}

static int failed(const char *why)
{
    fprintf(stderr, "gzip_stream: %s\n", why);
    return EXIT_FAILURE;
}

static int put(const void *data, size_t size)
{
    return fwrite(data, 1, size, stdout) == size ? 0 : failed(strerror(errno));
}

static void put_le32(unsigned char *p, unsigned long long value)
{
    for (int i = 0; i < 4; i++, value >>= 8)
        p[i] = value & 255;
}

/* Writes one gzip member; returns 0 and in *total how much went in. */
static int gzip(struct pool *pool, const struct zlib *z, unsigned long long *total)
{
    static struct input input;
    static const unsigned char header[10] = {31, 139, DEFLATED, 0, 0, 0, 0, 0, 0, 3};
    unsigned char trailer[10] = {3, 0};                 /* an empty last block, crc, size */
    unsigned long crc = 0;

    struct pool_iter *it = pool_imap(pool, compress_block, pool_generator(next_block, &input), NULL);
    int status = it ? put(header, sizeof header) : failed(pool_error());
    for (const struct pool_result *r; !status && (r = pool_next(it));) {
        const struct block *b = r->data;
        if (r->status != POOL_OK) {
            status = failed(r->message);
            break;
        }
        crc = z->crc32_combine(crc, b->crc, (long)b->raw);
        *total += b->raw;
        status = put(b->deflated, r->size - offsetof(struct block, deflated));
    }
    pool_iter_free(it);

    put_le32(trailer + 2, crc);
    put_le32(trailer + 6, *total);
    status = status ? status : put(trailer, sizeof trailer);
    return status || fflush(stdout) == 0 ? status : failed(strerror(errno));
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static long peak_memory(pid_t pid)
{
    char name[64], line[128];
    long kb = 0;
    snprintf(name, sizeof name, "/proc/%ld/status", (long)pid);
    FILE *status = fopen(name, "r");
    while (status && fgets(line, sizeof line, status))
        if (sscanf(line, "VmHWM: %ld", &kb) == 1)
            break;
    if (status)
        fclose(status);
    return kb;
}

int main(int argc, char **argv)
{
    struct zlib zlib;
    struct pool *pool = pool_create(&(struct pool_options){.initializer = start});
    if (!pool && !load_zlib(&zlib)) {
        fputs("SKIP: libz.so.1 not found\n", stderr);
        return SKIP;
    }
    if (!pool || !load_zlib(&zlib))
        return failed(pool_error());

    unsigned long long total = 0;
    double started = seconds();
    int status = gzip(pool, &zlib, &total);

    if (argc > 1 && strcmp(argv[1], "-v") == 0) {
        double rate = (double)total / 1e6 / (seconds() - started);
        long peak = peak_memory(getpid());
        for (unsigned i = 0; i < pool_size(pool); i++)
            peak += peak_memory(pool_worker_pid(pool, i));
        fprintf(stderr, "%u workers, %.1f MB/s, peak memory %ld kB\n", pool_size(pool), rate, peak);
    }
    pool_destroy(pool);
    return status;
}
