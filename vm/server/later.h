/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Replies that have to wait: held back on purpose (--delay), or of a call that
 * blocks (a lock). Neither keeps a thread of a transport.
 */
#ifndef LATER_H
#define LATER_H

#include <stdint.h>

struct request;

void later_start(void);
/* Interrupt what still blocks, let nothing new block, return when all replied. */
void later_stop(void);

/* Reply RESULT after MSEC. The caller returns REPLY_LATER. */
void later_reply(struct request *rq, int result, unsigned int msec);

/*
 * Run CALL in a thread of its own. It must return -EINTR when a signal interrupts it;
 * it is repeated unless the request was interrupted. DONE is called once at the end.
 * Returns REPLY_LATER or a negative error number (CALL and DONE not called then).
 */
int later_block(struct request *rq, int (*call)(void *arg), void (*done)(void *arg), void *arg);

/* The kernel wants the request UNIQUE to end. */
void later_interrupt(uint64_t unique);

#endif
