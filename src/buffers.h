/* What waits in the buffers of stdout and stderr, around a fork. */
#ifndef POOL_BUFFERS_H
#define POOL_BUFFERS_H

/* Writes it out, where there is any. Waits for a thread that holds the stream, if so. */
void buffers_flush(void);

/* Drops it, where there is any: it is somebody else's to write. Takes no lock. */
void buffers_drop(void);

#endif
