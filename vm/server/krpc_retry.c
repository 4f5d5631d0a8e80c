// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where a message goes, and where else when that fails. A replica that can not be reached,
 * does not answer or breaks off is left alone for a while, and one that answers with an
 * error is passed over; the message goes to another one, or waits. A message ends when
 * REFUSALS times as many as there are replicas have answered with an error, or when
 * krpc.patience is over.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "krpc.h"
#include "session.h"

#define REFUSALS 3
#define TICK_MSEC 10

uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

/* Replicas that the message may go to, as bits. */
static unsigned int candidates(const struct message *m)
{
	unsigned int mask = 0;

	if (m->replica >= 0)
		return 1U << m->replica;
	for (unsigned int r = 0; r < columns[m->column].replicas; r++)
		if (!replica_is_stale(m->work->file, m->column, r))
			mask |= 1U << r;
	return mask;
}

/* The best one there is now, of those in MASK; NULL: none. */
static struct link *choose(struct thread *t, const struct message *m, unsigned int mask)
{
	struct link *best = NULL;
	uint64_t now = 0;

	for (unsigned int r = 0; r < columns[m->column].replicas; r++) {
		struct link *l;

		if (!(mask & 1U << r))
			continue;
		l = link_of(t, m->work->file, m->column, r);
		if (!l)
			continue;
		if (l->state == LINK_UP)
			return l;
		/* to connect may take long: another one may be there before */
		if (l->state == LINK_DOWN && (!best || best->state == LINK_CONNECTING)) {
			if (!now)
				now = now_usec();
			if (now >= l->retry_at)
				best = l;
		} else if (l->state == LINK_CONNECTING && !best) {
			best = l;
		}
	}
	return best;
}

static void on_tick(struct awaited *a, int result);

static void arm(struct thread *t)
{
	struct io_uring_sqe *sqe;

	if (t->ticking)
		return;
	t->tick.done = on_tick;
	sqe = loop_sqe(t->loop, &t->tick);
	if (!sqe)
		return;
	t->period = (struct __kernel_timespec){ .tv_nsec = TICK_MSEC * 1000000 };
	io_uring_prep_timeout(sqe, &t->period, 0, 0);
	t->ticking = true;
}

static void wait_a_while(struct message *m)
{
	struct thread *t = krpc_thread();

	m->next = t->later;
	t->later = m;
	arm(t);
}

void message_launch(struct message *m)
{
	struct thread *t = krpc_thread();
	unsigned int mask;
	struct link *l;

	if (session_has_ended()) {
		message_is_over(m, -ENOTCONN);
		return;
	}
	mask = candidates(m);
	if (!mask) {
		message_is_over(m, -EIO);
		return;
	}
	l = choose(t, m, mask & ~m->refused_by);
	if (!l) {
		wait_a_while(m);
		return;
	}
	/* for messages that wait, and the clock of a socket that we read ourselves */
	if (l->state != LINK_UP || krpc.mode == MODE_OFF)
		arm(t);
	/* it was there, or was to go there */
	if (m->link && m->link != l && (m->submitted || m->error))
		count_add(COUNT_MOVED, 1);
	m->link = l;
	if (l->state == LINK_UP) {
		link_submit(l, m);
		return;
	}
	m->next = l->waiting;
	l->waiting = m;
	if (l->state == LINK_DOWN)
		link_connect(l);
}

void message_retry(struct message *m, int error)
{
	m->error = error;
	wait_a_while(m);
}

/*
 * All that wait: for a while, or for a connection. There may be a better one by now, or patience
 * may be at its end.
 */
static struct message *take_waiting(struct thread *t)
{
	struct message *all = t->later, *m;

	t->later = NULL;
	for (unsigned int i = 0; i < file_count * column_count * MOST_REPLICAS; i++) {
		struct link *l = t->links[i];

		while (l && (m = l->waiting)) {
			l->waiting = m->next;
			m->next = all;
			all = m;
		}
	}
	return all;
}

static void on_tick(struct awaited *a, int result)
{
	struct thread *t = AWAITED_IN(struct thread, tick, a);
	struct message *m = take_waiting(t);
	uint64_t now = now_usec();
	bool again = false;

	(void)result;
	t->ticking = false;
	while (m) {
		struct message *next = m->next;

		if (now - m->begun > krpc.patience * 1000ULL)
			message_is_over(m, -EIO);
		else
			message_launch(m);
		m = next;
	}
	if (krpc.mode != MODE_OFF)
		return;
	for (unsigned int i = 0; i < file_count * column_count * MOST_REPLICAS; i++) {
		struct link *l = t->links[i];

		if (!l || !l->first)
			continue;
		plain_look(l);
		again = true;
	}
	if (again)
		arm(t);
}

/* The node's error number, as far as that is one of those it may name. */
static int error_of(uint64_t status)
{
	switch (status) {
	case EPERM:
	case ENOSPC:
	case EROFS:
		return status;
	default:
		return EIO;
	}
}

static void refused(struct message *m, uint64_t status)
{
	unsigned int all = candidates(m);

	count_add(COUNT_REFUSED, 1);
	m->refused_by |= 1U << m->link->replica;
	if (++m->refusals >= REFUSALS * (unsigned int)__builtin_popcount(all)) {
		message_is_over(m, -error_of(status));
		return;
	}
	if (all & ~m->refused_by) {
		message_launch(m);
		return;
	}
	m->refused_by = 0;
	message_retry(m, EIO);
}

void message_ended(struct message *m, int result, uint64_t status)
{
	struct link *l = m->link;

	link_take(l, m);
	if (result >= 0) {
		l->back_off = 0;
		replica_answered(l->file, l->column, l->replica);
		message_is_over(m, result);
		return;
	}
	switch (-result) {
	case EREMOTEIO:
		refused(m, status);
		break;
	case ENOENT:
	case ENOTCONN:
		/* the request has gone */
		message_is_over(m, result);
		break;
	case EOPNOTSUPP:
		/* it reads into memory of the kernel, not into pages */
		m->work->in_chunks = false;
		message_launch(m);
		break;
	case E2BIG:
		/* so many messages can not be placed in one request: the others are copied */
		if (message_is_placed(m)) {
			m->copied = true;
			message_launch(m);
		} else {
			message_is_over(m, -EIO);
		}
		break;
	case EAGAIN:
	case EBUSY:
	case ENOMEM:
		message_retry(m, -result);
		break;
	default:
		link_break(l, -result);
		message_retry(m, -result);
	}
}
