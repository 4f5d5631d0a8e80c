/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The io_uring of a thread that serves requests. Whatever the thread waits for comes
 * from there: a transport's requests, a backend's reads and writes, descriptors that
 * are polled, and what other threads hand over.
 *
 * A backend answers a request later like this: its method submits something with a
 * struct awaited whose done() calls request_complete(), and returns REPLY_SOON.
 */
#ifndef LOOP_H
#define LOOP_H

#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Something awaited: part of the state of the one who waits, nothing is allocated.
 * done() runs in the loop's thread and may submit again.
 */
struct awaited {
	void (*done)(struct awaited *a, int result);
	struct awaited *next;	/* while handed over: loop_post() */
	int result;
};

struct loop {
	struct io_uring ring;
	bool made;
	/* What of a backend's is under way and uses memory of requests. */
	unsigned int busy;
	/* Nothing new is to be begun (drain.h); resumed() when that ends. */
	bool paused;
	void (*resumed)(struct loop *l);
	void *owner;
	int event;
	uint64_t event_value;
	struct awaited event_read;
	pthread_mutex_t posted_lock;
	struct awaited *posted;
	struct loop *next;	/* of all loops */
};

/* An array member's address -> the array's. */
#define AWAITED_IN(type, member, pointer) \
	((type *)((char *)(pointer) - offsetof(type, member)))

/*
 * In the thread itself. ENTRIES: submitted at once; IN_FLIGHT: awaited at once, more is
 * possible but slow. WHAT: the step that failed. 0 or an error number.
 */
int loop_make(struct loop *l, unsigned int entries, unsigned int in_flight, const char **what);
/* Nothing is awaited any more. Others may still post, in vain, until it is freed. */
void loop_end(struct loop *l);
void loop_free(struct loop *l);

/*
 * An empty SQE, whatever is in the queue already; NULL after the session was ended for it.
 * Here, so that what the caller sets need not be cleared first: one for each request.
 */
struct io_uring_sqe *loop_sqe_when_full(struct loop *l);
static inline struct io_uring_sqe *loop_sqe(struct loop *l, struct awaited *a)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);

	if (__builtin_expect(!sqe, false))
		sqe = loop_sqe_when_full(l);
	if (!sqe)
		return NULL;
	/* what it held before is of no concern, in its second half neither */
	sqe[0] = sqe[1] = (struct io_uring_sqe){ 0 };
	sqe->user_data = (uintptr_t)a;
	return sqe;
}

/* Wait once until FD is ready for EVENTS (POLLIN, ...). */
void loop_poll(struct loop *l, int fd, unsigned int events, struct awaited *a);
/* Submit, wait for something if WAIT, call done() of all that has come. False: it is broken. */
bool loop_turn(struct loop *l, bool wait);

/* Any thread: let done(RESULT) run in the loop's thread. Not again before it has run. */
void loop_post(struct loop *l, struct awaited *a, int result);
/* Any thread: let it look around, for the end or a pause. */
void loop_wake(struct loop *l);

/*
 * For a thread that serves requests, by a loop or without: whoever has several is to make them all
 * before the thread, woken by the first, takes its CPU. One after the other, each costs
 * two switches. Who waits for its request gives the CPU away at once.
 */
void loop_be_patient(void);

/* The loop of this thread, or NULL. */
struct loop *loop_current(void);

/* For all loops there are. */
void loop_wake_all(void);
void loop_each(void (*call)(struct loop *l, void *arg), void *arg);

#endif
