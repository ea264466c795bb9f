/* Has this process been forked since? And a lock that forks respect. */
#ifndef POOL_FORKS_H
#define POOL_FORKS_H

/* Counts the forks between this process and the one that first called forks_watch: what was made under another count was inherited
 * from a parent. Kept by an atfork handler, so that asking costs no system call; a fork by a bare clone() goes unseen. */
extern unsigned forks_count;

/* Nonzero in the nurseries and workers of this library and in what they fork. */
extern int forks_in_worker;

/* Installs the handlers, once for all. 0 or an errno. Any thread. */
int forks_watch(void);

/* For what a forked child must find whole (the list of pools): fork() waits for it, and the child gets it unlocked. */
void forks_lock(void);
void forks_unlock(void);

#endif
