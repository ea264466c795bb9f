/* Where a thread may run, and that it knows where it does. */
#ifndef POOL_CPU_PLACE_H
#define POOL_CPU_PLACE_H

/* CPUs of this thread's affinity mask, any number of them, at least 1. */
unsigned cpu_affinity(void);

/* Pins this thread to the n-th CPU of its mask, modulo their number. 0 or an errno. */
int cpu_pin(unsigned n);

/* In a child of a process that ran on its parent's memory (vfork), before anything that could ask: sched_getcpu() is true there again. */
void cpu_track(void);

#endif
