/* Where a thread runs: the CPUs it may use, and the one it is on. */
#ifndef POOL_CPU_PLACE_H
#define POOL_CPU_PLACE_H

#include <stdint.h>

/* CPUs of this thread's affinity mask, any number of them, at least 1. */
unsigned cpu_affinity(void);

/* Pins this thread to the n-th CPU of its mask, modulo their number. 0 or an errno. */
int cpu_pin(unsigned n);

/* The CPU on which this thread runs, or did an instant ago. */
#define CPU_UNKNOWN UINT32_MAX
uint32_t cpu_here(void);

/* In a child of a process that ran on its parent's memory (vfork), before anything that could ask: makes cpu_here true again. */
void cpu_track(void);

/* Moves this thread to another CPU of its mask, any, where there is one. */
void cpu_leave(void);

#endif
