// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "drain.h"
#include "loop.h"
#include "session.h"

static __thread struct loop *current;
static pthread_mutex_t all_lock = PTHREAD_MUTEX_INITIALIZER;
static struct loop *all;

struct loop *loop_current(void)
{
	return current;
}

static void watch_event(struct loop *l)
{
	struct io_uring_sqe *sqe = loop_sqe(l, &l->event_read);

	if (sqe)
		io_uring_prep_read(sqe, l->event, &l->event_value, sizeof(l->event_value), 0);
}

static void take_posted(struct loop *l)
{
	struct awaited *a;

	pthread_mutex_lock(&l->posted_lock);
	a = l->posted;
	l->posted = NULL;
	pthread_mutex_unlock(&l->posted_lock);
	while (a) {
		struct awaited *next = a->next;

		a->done(a, a->result);
		a = next;
	}
}

static void on_event(struct awaited *a, int result)
{
	struct loop *l = AWAITED_IN(struct loop, event_read, a);
	bool pause = drain_is_wanted();

	/* the ring is being taken down */
	if (result == -ECANCELED)
		return;
	watch_event(l);
	take_posted(l);
	if (l->paused == pause)
		return;
	__atomic_store_n(&l->paused, pause, __ATOMIC_RELEASE);
	if (!pause && l->resumed)
		l->resumed(l);
}

void loop_be_patient(void)
{
	struct sched_param none = { 0 };

	sched_setscheduler(0, SCHED_BATCH, &none);
}

int loop_make(struct loop *l, unsigned int entries, unsigned int in_flight, const char **what)
{
	struct io_uring_params p = {
		/*
		 * One thread submits and waits: work for it need not interrupt it, and
		 * system calls of handlers do not end with EINTR because of it.
		 */
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
			 IORING_SETUP_CLAMP,	/* what does not fit waits in the kernel */
		.cq_entries = in_flight,
	};
	int rc;

	if (entries > 4096)
		entries = 4096;
	if (p.cq_entries < 2 * entries)
		p.cq_entries = 2 * entries;
	pthread_mutex_init(&l->posted_lock, NULL);
	l->event_read.done = on_event;
	*what = "eventfd";
	l->event = eventfd(0, EFD_CLOEXEC);
	if (l->event < 0)
		return errno;
	*what = "io_uring_setup";
	rc = io_uring_queue_init_params(entries, &l->ring, &p);
	if (rc < 0) {
		close(l->event);
		return -rc;
	}
	/* saves looking the ring up with each system call; older kernels do without */
	io_uring_register_ring_fd(&l->ring);
	l->made = true;
	l->paused = drain_is_wanted();
	current = l;
	pthread_mutex_lock(&all_lock);
	l->next = all;
	all = l;
	pthread_mutex_unlock(&all_lock);
	watch_event(l);
	return 0;
}

void loop_end(struct loop *l)
{
	struct loop **at = &all;

	if (!l->made)
		return;
	pthread_mutex_lock(&all_lock);
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	pthread_mutex_unlock(&all_lock);
	current = NULL;
	io_uring_queue_exit(&l->ring);
}

void loop_free(struct loop *l)
{
	if (l->made)
		close(l->event);
	l->made = false;
}

void loop_each(void (*call)(struct loop *l, void *arg), void *arg)
{
	pthread_mutex_lock(&all_lock);
	for (struct loop *l = all; l; l = l->next)
		call(l, arg);
	pthread_mutex_unlock(&all_lock);
}

struct io_uring_sqe *loop_sqe_when_full(struct loop *l)
{
	struct io_uring_sqe *sqe = NULL;
	int rc = 0;

	/* what is in there goes first */
	for (int tries = 0; !sqe && tries < 1000; tries++) {
		rc = io_uring_submit(&l->ring);
		if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY)
			break;
		sqe = io_uring_get_sqe(&l->ring);
	}
	if (!sqe)
		session_fail("no room in the submission queue", rc < 0 ? -rc : EBUSY);
	return sqe;
}

void loop_poll(struct loop *l, int fd, unsigned int events, struct awaited *a)
{
	struct io_uring_sqe *sqe = loop_sqe(l, a);

	if (sqe)
		io_uring_prep_poll_add(sqe, fd, events);
}

bool loop_turn(struct loop *l, bool wait)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	int rc = wait ? io_uring_submit_and_wait(&l->ring, 1) :
			io_uring_submit_and_get_events(&l->ring);

	if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) {
		session_fail("io_uring_enter", -rc);
		return false;
	}
	io_uring_for_each_cqe(&l->ring, head, cqe) {
		struct awaited *a = (struct awaited *)(uintptr_t)cqe->user_data;

		a->done(a, cqe->res);
		n++;
	}
	io_uring_cq_advance(&l->ring, n);
	return true;
}

void loop_wake(struct loop *l)
{
	uint64_t one = 1;

	if (write(l->event, &one, sizeof(one)) < 0)
		session_fail("eventfd", errno);
}

void loop_post(struct loop *l, struct awaited *a, int result)
{
	a->result = result;
	pthread_mutex_lock(&l->posted_lock);
	a->next = l->posted;
	l->posted = a;
	pthread_mutex_unlock(&l->posted_lock);
	loop_wake(l);
}

static void wake(struct loop *l, void *unused)
{
	(void)unused;
	loop_wake(l);
}

void loop_wake_all(void)
{
	loop_each(wake, NULL);
}
