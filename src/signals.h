/* Signals in words. */
#ifndef POOL_SIGNALS_H
#define POOL_SIGNALS_H

/* "SIGSEGV, segmentation fault": a constant string for any number. strsignal() is not safe among threads. */
const char *signal_name(int signal);

#endif
