/* Signals: in words, and as a new program would have them. */
#ifndef POOL_SIGNALS_H
#define POOL_SIGNALS_H

/* "SIGSEGV, segmentation fault": a constant string for any number. strsignal() is not safe among threads. */
const char *signal_name(int signal);

/* In a forked child: every disposition becomes the default. Ignored ones too. */
void signals_default(void);

#endif
