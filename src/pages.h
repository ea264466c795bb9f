/* Pages of memory that is about to be filled or read from end to end: brought in together instead of fault by fault. */
#ifndef POOL_PAGES_H
#define POOL_PAGES_H

#include <stddef.h>

/* Memory of our own of which nothing is known. Small or present already: nothing is done. */
void pages_prepare(void *at, size_t size);

/* The same in steps, for memory of `size` bytes that is filled as its bytes arrive: up to `upto`, and some more. *ready grows from 0. Of a
 * size that somebody else has said, not much more becomes memory than arrives. */
void pages_prepare_ahead(void *base, size_t size, size_t upto, size_t *ready);

/* Memory that is used again and again, from `base` on: its first `upto` bytes are brought in, unless *reached, which grows, says that this
 * process has them. base is the begin of a page. */
enum pages_use { PAGES_READ, PAGES_WRITE };
void pages_reach(void *base, size_t upto, size_t *reached, enum pages_use use);

#endif
