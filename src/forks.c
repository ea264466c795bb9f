/* Has this process been forked since?
 *
 * A pool belongs to the process that made it, and a forked child that used it would talk into its parent's channels; a task's forked
 * child that returns from the task must not become a second worker. Both are told by a count that goes up in each child.
 * getpid() would say the same at the price of a system call for each item.
 *
 * The lock is taken around every fork of the process, ours and the host's, so that no child is born while another thread is half-way
 * through changing what it guards, and none inherits it locked. */
#include "forks.h"

#include <pthread.h>

unsigned forks_count;
int forks_in_worker;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int failure;

void forks_lock(void)
{
    pthread_mutex_lock(&lock);
}

void forks_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

static void count(void)
{
    forks_count++;      /* in the child of a fork, which has one thread */
    forks_unlock();
}

static void watch(void)
{
    failure = pthread_atfork(forks_lock, forks_unlock, count);
}

int forks_watch(void)
{
    int r = pthread_once(&once, watch);
    return r ? r : failure;
}
