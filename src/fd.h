/* Descriptors: made close-on-exec and above 2, moved between processes, closed once.
 * Functions return 0 or an errno unless they say otherwise; EINTR is retried inside. */
#ifndef POOL_FD_H
#define POOL_FD_H

#include <stddef.h>
#include <sys/types.h>

/* A pipe, close-on-exec, both ends above 2 (a host may run with 0, 1 and 2 closed; a task may believe in them), the write end
 * non-blocking; the read end too if `nonblocking_read`. On failure both ends are -1. */
int fd_pipe(int ends[2], int nonblocking_read);

/* A SOCK_SEQPACKET pair, close-on-exec, non-blocking, above 2. */
int fd_socketpair(int ends[2]);

/* Closes and sets to -1; -1 is fine. Keeps errno. */
void fd_close(int *fd);

/* Moves a descriptor above 2, if it is not there, keeping close-on-exec set. On failure it is closed and -1. */
int fd_lift(int *fd);

/* One whole message with up to FD_MAX descriptors. EAGAIN: would block. EPIPE: the peer is gone (never SIGPIPE). */
enum { FD_MAX = 2 };
int fd_send(int socket, const void *message, size_t size, const int *fds, size_t count);

/* One whole message of exactly `size` bytes; received descriptors (close-on-exec, above 2) into fds, the unused ones -1.
 * EAGAIN: none. EPIPE: the peer is gone. EBADMSG: another size, or more descriptors than FD_MAX (closed again). */
int fd_recv(int socket, void *message, size_t size, int fds[FD_MAX]);

/* The same, but the message stays, with descriptors of its own. EBADMSG: `message` is what was there. */
int fd_peek(int socket, void *message, size_t size, int fds[FD_MAX]);

/* Wakes whoever sleeps on the other end: one byte. A full pipe is fine: there are bytes already. 0, or an errno other than EAGAIN. */
int fd_wake(int fd);

/* Reads all there is of a non-blocking pipe. 0: still open; EPIPE: its end was reached; else an errno. */
int fd_drain(int fd);

/* Is `fd` still the file that it was? A task may have closed it and opened another at its number. */
struct fd_identity { dev_t device; ino_t inode; };
int fd_identify(int fd, struct fd_identity *identity);
int fd_is(int fd, const struct fd_identity *identity);          /* nonzero: yes */

/* Closes everything above 2 but `keep` (any order). Asks the system what is open; never loops to the limit. */
void fd_close_others(const int *keep, size_t count);

/* fd 0 becomes /dev/null. */
int fd_null_stdin(void);

#endif
