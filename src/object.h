/* Functions across processes: as object plus offset, not as bare addresses. Two libraries loaded later by host and worker can land
 * on the same address, and the wrong function would run. */
#ifndef POOL_OBJECT_H
#define POOL_OBJECT_H

#include <stdint.h>

/* A function, by where it lies: in which loaded object (by name, and by what the object's own headers and build id say of its
 * contents) and how far from its base. Plain numbers: may cross a pipe. Two are equal if all three words are. */
struct object_ref { uint64_t name; uint64_t contents; uint64_t offset; };

typedef void object_fn(void);

/* 0, or EINVAL where `fn` lies in no executable segment of a loaded object (a trampoline, JIT code). Caches: the usual cost is
 * that of learning that nothing was loaded or unloaded since. Any thread. */
int object_name(object_fn *fn, struct object_ref *ref);

/* The function in this process, or NULL where no loaded object has that name and those contents, or the offset is not in an
 * executable segment of it. */
object_fn *object_find(const struct object_ref *ref);

#endif
