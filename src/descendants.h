/* Killing all that is below a process which is a child subreaper. */
#ifndef POOL_DESCENDANTS_H
#define POOL_DESCENDANTS_H

/* SIGKILLs each child of this process, and the process group of each that is not in this process's own. Returns how many
 * could be signalled, dead ones that wait to be reaped among them; -1: the system does not tell who they are (no /proc).
 * Does not wait. To be repeated after each death: what the dead leave behind comes to a subreaper as new children. */
int descendants_kill(void);

#endif
