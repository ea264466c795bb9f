/* Why a call failed, in words: one text per thread. */
#ifndef POOL_STATUS_H
#define POOL_STATUS_H

#include <forkpool.h>

enum { STATUS_TEXT = 1000 };            /* bytes of a message from a worker, at most */

/* Starts a public call: no failure so far. */
void status_clear(void);

/* Notes the sentence for pool_error() and returns `status`. Leaves errno alone. */
enum pool_status status_say(enum pool_status status, const char *format, ...) POOL_PRINTF(2, 3);

/* The same for calls that return NULL: sets errno to `error` and returns NULL. */
void *status_null(int error, const char *format, ...) POOL_PRINTF(2, 3);

/* A system error in words, into the caller's buffer, thread-safe with any libc; returns it. */
const char *status_errno(int error, char *text, size_t size);

/* The sentence so far, to be moved elsewhere. */
const char *status_text(void);

#endif
