/* Which function a pointer means, in words that another process understands.
 *
 * Runs in the host, where a function is named once per call, and in the workers, where it is found again; any thread.
 *
 * Invariants: an answer is a pure function of the objects loaded at that moment. A cached answer is used only while the
 * loader's counters of loads and unloads are what they were when it was made; where they are not to be had, nothing is
 * cached. The caches are thread-local: no lock that a fork could catch in a bad moment, and nothing shared to get wrong.
 *
 * Not the bare address, though the processes are forks of one another: an object loaded after the fork lies wherever each
 * process had room. Not dladdr and a symbol's name either: most task functions are static and have none. And the name of a
 * file says nothing of what it held when it was loaded, hence its headers and build id as well. */
#define _GNU_SOURCE
#include "object.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>

/* ---- What an object is ---- */

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *byte = data;

    for (; size; size--, byte++)
        hash = (hash ^ *byte) * 0x100000001b3u;         /* FNV-1a */
    return hash;
}

static uint64_t mix_number(uint64_t hash, uint64_t number)
{
    return mix(hash, &number, sizeof number);
}

#define EMPTY_HASH 0xcbf29ce484222325u

static uint64_t hash_name(const struct dl_phdr_info *info)
{
    const char *name = info->dlpi_name ? info->dlpi_name : "";

    return mix(EMPTY_HASH, name, strlen(name));
}

/* Is [address, address + size) of the object, counted from its base, in one loaded segment with these rights? */
static int covers(const struct dl_phdr_info *info, uint64_t address, uint64_t size, ElfW(Word) rights)
{
    const ElfW(Phdr) *part = info->dlpi_phdr, *end = part + info->dlpi_phnum;

    for (; part < end; part++)
        if (part->p_type == PT_LOAD && (part->p_flags & rights) == rights && address >= part->p_vaddr
            && address - part->p_vaddr < part->p_memsz && size <= part->p_memsz - (address - part->p_vaddr))
            return 1;
    return 0;
}

/* The kernel's own object: other kernels, other contents, and no place for a task. */
static int is_vdso(const struct dl_phdr_info *info)
{
    uintptr_t header = (uintptr_t)getauxval(AT_SYSINFO_EHDR);

    return header && covers(info, header - info->dlpi_addr, 1, 0);
}

/* Adds the build id, if it is among these notes: each is three words (size of name, size of contents, type), the name and the
 * contents, both padded. */
static uint64_t mix_build_id(uint64_t hash, const unsigned char *at, size_t left, size_t align)
{
    uint32_t head[3];
    size_t body, next;

    while (left >= sizeof head) {
        memcpy(head, at, sizeof head);
        body = (sizeof head + (size_t)head[0] + align - 1) / align * align;
        if (head[0] > left || head[1] > left || body > left || head[1] > left - body)
            break;
        if (head[2] == NT_GNU_BUILD_ID && head[0] == 4 && memcmp(at + sizeof head, "GNU", 4) == 0)
            hash = mix(hash, at + body, head[1]);
        next = body + ((size_t)head[1] + align - 1) / align * align;
        if (next > left)
            break;
        at += next;
        left -= next;
    }
    return hash;
}

static uint64_t hash_contents(const struct dl_phdr_info *info)
{
    const ElfW(Phdr) *part = info->dlpi_phdr, *end = part + info->dlpi_phnum;
    uint64_t hash = EMPTY_HASH;

    for (; part < end; part++) {
        hash = mix_number(hash, part->p_type);
        hash = mix_number(hash, part->p_flags);
        hash = mix_number(hash, part->p_vaddr);
        hash = mix_number(hash, part->p_memsz);
        hash = mix_number(hash, part->p_filesz);
        if (part->p_type == PT_NOTE && covers(info, part->p_vaddr, part->p_filesz, PF_R))
            hash = mix_build_id(hash, (const unsigned char *)(uintptr_t)(info->dlpi_addr + part->p_vaddr),
                                (size_t)part->p_filesz, part->p_align == 8 ? 8 : 4);
    }
    return hash;
}

/* ---- Caches ---- */

enum { SLOTS = 16 };                    /* a program maps few functions; a power of two */

struct known { object_fn *fn; struct object_ref ref; };

/* Two tables of the same facts, since they are asked for from either side. Of one thread each; all zero is empty. */
static _Thread_local struct cache {
    unsigned long long adds, subs;      /* the loader's counters when the entries were made */
    struct known       by_fn[SLOTS], by_ref[SLOTS];
} cache;

static struct known *slot_of_fn(object_fn *fn)
{
    return &cache.by_fn[((uintptr_t)fn >> 4 ^ (uintptr_t)fn >> 10) % SLOTS];
}

static struct known *slot_of_ref(const struct object_ref *ref)
{
    return &cache.by_ref[(ref->offset >> 4 ^ ref->offset >> 10 ^ ref->name) % SLOTS];
}

struct counters { unsigned long long adds, subs; int known; };

static int count(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct counters *counters = arg;

    if (size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs) {
        counters->adds = info->dlpi_adds;
        counters->subs = info->dlpi_subs;
        counters->known = 1;
    }
    return 1;                           /* the first object has them already */
}

/* Makes the cache fit for what is loaded now; 0: it cannot be used. */
static int refresh(void)
{
    struct counters now = {0, 0, 0};

    dl_iterate_phdr(count, &now);
    if (now.known && now.adds == cache.adds && now.subs == cache.subs)
        return 1;
    memset(&cache, 0, sizeof cache);
    cache.adds = now.adds;
    cache.subs = now.subs;
    return now.known;
}

/* What was loaded while the answer was found makes the counters move, and the next refresh drops it. */
static void remember(object_fn *fn, const struct object_ref *ref)
{
    slot_of_fn(fn)->fn = slot_of_ref(ref)->fn = fn;
    slot_of_fn(fn)->ref = slot_of_ref(ref)->ref = *ref;
}

/* ---- Both directions ---- */

struct query { object_fn *fn; struct object_ref ref; };

static int describe(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct query *query = arg;
    uintptr_t offset = (uintptr_t)query->fn - info->dlpi_addr;

    (void)size;
    if (!covers(info, offset, 1, PF_X))
        return 0;
    if (is_vdso(info))
        return -1;
    query->ref = (struct object_ref){hash_name(info), hash_contents(info), offset};
    return 1;
}

int object_name(object_fn *fn, struct object_ref *ref)
{
    struct query query = {.fn = fn};
    const struct known *known;
    int cached = refresh();

    known = slot_of_fn(fn);
    if (cached && fn && known->fn == fn) {
        *ref = known->ref;
        return 0;
    }
    if (dl_iterate_phdr(describe, &query) <= 0)
        return EINVAL;
    *ref = query.ref;
    if (cached)
        remember(fn, ref);
    return 0;
}

static int look_up(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct query *query = arg;

    (void)size;
    if (hash_name(info) != query->ref.name || !covers(info, query->ref.offset, 1, PF_X) || is_vdso(info)
        || hash_contents(info) != query->ref.contents)
        return 0;
    query->fn = (object_fn *)(uintptr_t)(info->dlpi_addr + (uintptr_t)query->ref.offset);
    return 1;
}

object_fn *object_find(const struct object_ref *ref)
{
    struct query query = {.ref = *ref};
    const struct known *known;
    int cached = refresh();

    known = slot_of_ref(ref);
    if (cached && known->fn && known->ref.name == ref->name && known->ref.contents == ref->contents
        && known->ref.offset == ref->offset)
        return known->fn;
    if (dl_iterate_phdr(look_up, &query) <= 0)
        return NULL;
    if (cached)
        remember(query.fn, ref);
    return query.fn;
}
