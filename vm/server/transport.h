/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * How requests come and replies go. /dev/fuse is always served, the ring when it was
 * agreed on. Both hand requests to request_run() and know nothing of what they mean.
 */
#ifndef TRANSPORT_H
#define TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Slots of counters: 0 is for all who are not threads of a transport, then come those
 * of /dev/fuse (opt->threads, at least one), then those of the ring.
 */
#define FIRST_DEV_SLOT 1

/* Serve /dev/fuse by THREADS more threads. 0 or exit status. */
int dev_start(unsigned int threads);
/*
 * After the end of the session. Each waits for its threads first; only then, since requests
 * of one are answered by threads of the other, is what they used freed.
 */
void dev_join(void);
void dev_free(void);

unsigned int ring_queues(void);
/* Before the reply to INIT: threads, rings, buffers. False: "why" says the reason. */
bool ring_prepare(char *why, size_t size);
/* After the reply to INIT: offer the entries to the kernel, start to serve. */
bool ring_register(char *why, size_t size);
void ring_join(void);
void ring_free(void);

#endif
