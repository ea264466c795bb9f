/* How a forked child that runs functions of the user's leaves: without the host's buffers and exit handlers. */
#ifndef POOL_LEAVE_H
#define POOL_LEAVE_H

#include <stdnoreturn.h>

/* Flushes stdout and stderr and ends the process by _exit. */
noreturn void leave(int status);

/* From now on exit() ends in leave(), before any handler that was registered earlier. Only glibc tells handlers the status; elsewhere
 * it is lost and reported as 1. */
void leave_at_exit(void);

#endif
