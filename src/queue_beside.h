/* Items too large for the ring: memory that travels by descriptor. */
#ifndef POOL_QUEUE_BESIDE_H
#define POOL_QUEUE_BESIDE_H

#include <stddef.h>
#include <stdint.h>

/* Memory with a copy of the item in it. 0 or an errno: ENOMEM, EMFILE, ENOSYS (Linux before 3.17). */
int beside_make(const void *data, size_t size, int *fd);

/* Copies it out and gives it back as it goes. 0 or EBADMSG: it is gone. */
int beside_read(int fd, void *data, size_t size);

/* 0; EAGAIN: there are too many under way; else an errno. Under put.lock. */
int beside_send(int socket, uint64_t serial, int fd);

/* The one of that number, which stays until it is dropped; others that come before it are their dead putters' and are thrown away. 0;
 * EAGAIN: it is not there; EMFILE; else an errno. Under get.lock. */
int  beside_find(int socket, uint64_t serial, int *fd);
void beside_drop(int socket);

/* Throws away whatever is under way: where the ring is empty, all of it is dead putters'. Under both locks. */
void beside_sweep(int socket);

#endif
