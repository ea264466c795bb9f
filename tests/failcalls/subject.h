/* What the runs have in common. */
#ifndef SUBJECT_H
#define SUBJECT_H

/* Something was not as it should be: says what. */
void wrong(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

/* A call on the library that failed has said why. A handle that was refused: with errno, and not without need. */
void check_words(const char *where);
void check_refusal(const char *where);

extern int strict;                      /* no call fails: everything has to go well */
extern int long_mode;                   /* each n, and items that take most of a run's time */

/* The run of processes and queues (apart.c): the memory that its processes share, what runs while calls fail, and what is left to be done
 * when none fails any more. */
void apart_prepare(void);
void apart_run(void);
void apart_end(void);

#endif
