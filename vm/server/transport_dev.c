// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "loop.h"
#include "ops.h"
#include "say.h"
#include "transport.h"

/*
 * A request with its buffers. A worker has one; only when a reply has to wait does
 * the worker go on with another.
 */
struct dev_request {
	struct request rq;
	struct worker *worker;
	int fd;			/* the reply goes where the request came from */
	char *in;
	char *in_map;
	char *out_map;
	struct dev_request *next_spare;
};

struct worker {
	pthread_t thread;
	struct loop loop;	/* of an asynchronous backend */
	struct awaited readable;
	struct awaited ended, unwatched;
	sem_t started;
	int error;		/* why it could not */
	const char *error_at;
	bool polling;
	bool watching;		/* for the end alone, while nothing is to be taken */
	unsigned int taken;	/* requests without reply */
	int fd;
	struct dev_request *current;
	struct stats_slot *stats;
	int pipe[2];		/* for spliced replies; -1: none */
	struct fuse_out_header *spliced_header;
};

static struct worker **workers;
static unsigned int worker_count;
static struct dev_request *spares;
static pthread_mutex_t spares_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t page;
static size_t in_size;		/* for read(2) */
static size_t in_map_size, out_map_size;

static void session_gone(int error)
{
	if (error != ENODEV && error != ECONNABORTED && error != ENOTCONN)
		session_fail("/dev/fuse", error);
	session_end();
}

/* Send the reply whose payload is in rq->out. */
static int send_reply(struct dev_request *r, int result)
{
	struct fuse_out_header *header = (struct fuse_out_header *)r->rq.out - 1;

	header->unique = r->rq.in->unique;
	header->error = result < 0 ? request_error(result) : r->rq.out_error;
	header->len = sizeof(*header) + (result < 0 ? 0 : result);
	return write(r->fd, header, header->len) < 0 ? -errno : (int)header->len;
}

static int reply(struct dev_request *r, int result)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	int n = send_reply(r, result);

	/* somebody writes to the request's pages: that ends by itself */
	while (n == -EBUSY && !session_has_ended()) {
		nanosleep(&pause, NULL);
		n = send_reply(r, result);
	}
	/* refused by the kernel, yet somebody waits for it */
	if (n < 0 && n != -ENOENT && n != -ENODEV && n != -EBUSY && result >= 0)
		n = send_reply(r, -EIO);
	/* ENOENT: the request was aborted; EBUSY: the session has ended meanwhile */
	if (n < 0 && n != -ENOENT && n != -EBUSY)
		session_gone(-n);
	return n;
}

static void *map(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void dev_reply(struct request *rq, int result);

/* Offset in the input at which the data of a WRITE starts. */
#define WRITE_DATA (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))

static struct dev_request *new_request(void)
{
	struct dev_request *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->in_map = map(in_map_size);
	r->out_map = map(out_map_size);
	if (!r->in_map || !r->out_map) {
		if (r->in_map)
			munmap(r->in_map, in_map_size);
		free(r);
		return NULL;
	}
	/* data of both directions on a page boundary: cheaper to copy */
	r->in = r->in_map + page - WRITE_DATA;
	r->rq.out = r->out_map + page;
	r->rq.out_max = out_map_size - page;
	r->rq.payload_memory = (struct iovec){ r->in_map, in_map_size };
	r->rq.out_memory = (struct iovec){ r->out_map, out_map_size };
	r->rq.in = (struct fuse_in_header *)r->in;
	r->rq.path = PATH_DEV;
	r->rq.reply = dev_reply;
	return r;
}

static void free_request(struct dev_request *r)
{
	munmap(r->in_map, in_map_size);
	munmap(r->out_map, out_map_size);
	free(r);
}

static struct dev_request *take_request(struct worker *w)
{
	struct dev_request *r;

	pthread_mutex_lock(&spares_lock);
	r = spares;
	if (r)
		spares = r->next_spare;
	pthread_mutex_unlock(&spares_lock);
	if (!r)
		r = new_request();
	if (r) {
		r->worker = w;
		r->fd = w->fd;
		r->rq.stats = w->stats;
		r->rq.loop = w->loop.made ? &w->loop : NULL;
	}
	return r;
}

/* A reply that had to wait; any thread. */
static void dev_reply(struct request *rq, int result)
{
	struct dev_request *r = (struct dev_request *)rq;
	struct stats_slot *slot = &stats->slot[0];
	struct loop *l = rq->loop;
	bool full = __atomic_fetch_sub(&r->worker->taken, 1, __ATOMIC_RELAXED) >=
		    session.opt->depth;

	__atomic_fetch_add(&slot->replies[PATH_DEV], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&slot->bytes_out[PATH_DEV],
			   sizeof(struct fuse_out_header) + (result < 0 ? 0 : result),
			   __ATOMIC_RELAXED);
	reply(r, result);
	pthread_mutex_lock(&spares_lock);
	r->next_spare = spares;
	spares = r;
	pthread_mutex_unlock(&spares_lock);
	/* it may take more again, and waits for nothing of that kind */
	if (full && l && l != loop_current())
		loop_wake(l);
}

/* ------------------------------------------------------------ spliced replies */

static void close_pipe(struct worker *w)
{
	if (w->pipe[0] >= 0) {
		close(w->pipe[0]);
		close(w->pipe[1]);
	}
	w->pipe[0] = w->pipe[1] = -1;
}

static void open_pipe(struct worker *w)
{
	int size = session.payload_max + 2 * page;

	if (pipe2(w->pipe, O_CLOEXEC) < 0)
		w->pipe[0] = w->pipe[1] = -1;
	else if (fcntl(w->pipe[0], F_SETPIPE_SZ, size) < size)
		close_pipe(w);
}

/*
 * Move the file's pages instead of copying them to a buffer first. The header lies
 * in a page of its own, of which the pipe holds a reference, not a copy: so the
 * length can be put in once it is known.
 */
static int dev_send_file(struct request *rq, int fd, uint64_t offset, uint32_t size)
{
	struct dev_request *r = (struct dev_request *)rq;
	struct worker *w = r->worker;
	struct fuse_out_header *header = w->spliced_header;
	struct iovec vec = { header, sizeof(*header) };
	loff_t at = offset;
	uint32_t done = 0;
	ssize_t n;

	if (vmsplice(w->pipe[1], &vec, 1, 0) != sizeof(*header))
		goto fallback;
	/* a short reply means the end of the file, so do not stop before */
	do {
		n = splice(fd, &at, w->pipe[1], NULL, size - done, 0);
		if (n > 0)
			done += n;
	} while (done < size && (n > 0 || (n < 0 && errno == EINTR)));
	if (n < 0)
		goto fallback;
	*header = (struct fuse_out_header){
		.len = sizeof(*header) + done, .unique = rq->in->unique,
	};
	stats_add(&w->stats->replies[PATH_DEV], 1);
	stats_add(&w->stats->bytes_out[PATH_DEV], header->len);
	if (splice(w->pipe[0], NULL, r->fd, NULL, header->len, 0) != (ssize_t)header->len) {
		/* refused before the request was found or after: it finds none twice */
		if (errno == ENODEV)
			session_gone(ENODEV);
		else if (errno != ENOENT)
			reply(r, -EIO);
		/* the rest of an aborted reply must not start the next one */
		close_pipe(w);
		open_pipe(w);
	}
	if (w->pipe[0] < 0)
		r->rq.send_file = NULL;
	return REPLY_NONE;
fallback:
	close_pipe(w);
	open_pipe(w);
	if (w->pipe[0] < 0)
		r->rq.send_file = NULL;
	return session.backend->read(rq, fd, rq->out, size, offset);
}

/* ----------------------------------------------------------------- the worker */

static void count_special(struct worker *w, uint32_t opcode)
{
	struct stats_slot *s = w->stats;

	switch (opcode) {
	case FUSE_INIT:
		stats_add(&s->dev_init, 1);
		break;
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		stats_add(&s->dev_forget, 1);
		break;
	case FUSE_INTERRUPT:
		stats_add(&s->dev_interrupt, 1);
		break;
	case FUSE_DESTROY:
		stats_add(&s->dev_destroy, 1);
		break;
	default:
		if (__atomic_load_n(&session.ring_starting, __ATOMIC_ACQUIRE))
			stats_add(&s->dev_before_ready, 1);
	}
}

/* Split what was read into the opcode's header and the rest. */
static void parse(struct dev_request *r, size_t n)
{
	uint32_t left = n - sizeof(struct fuse_in_header);
	uint32_t arg = request_arg_size(r->rq.in->opcode);

	if (arg > left)
		arg = left;
	r->rq.arg = r->rq.in + 1;
	r->rq.arg_size = arg;
	r->rq.payload = (char *)r->rq.arg + arg;
	r->rq.payload_size = left - arg;
}

/* False: go no further. */
static bool handle(struct worker *w, size_t n)
{
	struct dev_request *r = w->current;
	int result;

	if (n < sizeof(struct fuse_in_header)) {
		session_fail("a request without header", EIO);
		return false;
	}
	parse(r, n);
	count_special(w, r->rq.in->opcode);
	result = r->rq.in->len == n ? request_run(&r->rq) : request_refuse(&r->rq, -EINVAL);
	if (result == REPLY_LATER || result == REPLY_SOON) {
		__atomic_fetch_add(&w->taken, 1, __ATOMIC_RELAXED);
		w->current = take_request(w);
		if (!w->current) {
			session_fail("buffers", ENOMEM);
			return false;
		}
		w->current->rq.send_file =
			w->pipe[0] >= 0 && !session.opt->test_aids ? dev_send_file : NULL;
	} else if (result != REPLY_NONE) {
		stats_add(&w->stats->replies[PATH_DEV], 1);
		stats_add(&w->stats->bytes_out[PATH_DEV],
			  sizeof(struct fuse_out_header) + (result < 0 ? 0 : result));
		reply(r, result);
	}
	return true;
}

/* False: go no further. */
static bool take(struct worker *w, bool *nothing)
{
	ssize_t n = read(w->fd, w->current->in, in_size);

	if (n > 0)
		return handle(w, n);
	/* the end of what is no /dev/fuse (--help: /dev/fd/N) */
	if (n == 0)
		errno = ENODEV;
	*nothing = errno == EAGAIN;
	/* ENOENT: the request was aborted while it was read */
	if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
		return true;
	session_gone(errno);
	return false;
}

static void serve_blocking(struct worker *w)
{
	bool nothing;

	while (!session_has_ended() && take(w, &nothing))
		;
}

static void became_readable(struct awaited *a, int result)
{
	struct worker *w = AWAITED_IN(struct worker, readable, a);

	w->polling = false;
	/* nobody reads that while there is a pause */
	if (result > 0 && !(result & POLLIN))
		session_gone(ENODEV);
}

static void has_ended(struct awaited *a, int result)
{
	struct worker *w = AWAITED_IN(struct worker, ended, a);

	w->watching = false;
	if (result > 0)
		session_gone(ENODEV);
}

static void is_unwatched(struct awaited *a, int result)
{
	(void)a, (void)result;
}

/* Polled for no event: only errors are told, and the connection's end is one. */
static void watch(struct worker *w)
{
	w->watching = true;
	loop_poll(&w->loop, w->fd, 0, &w->ended);
}

/* It would wake this thread for each request that comes, as well as the one that takes it. */
static void unwatch(struct worker *w)
{
	struct io_uring_sqe *sqe = loop_sqe(&w->loop, &w->unwatched);

	if (sqe)
		io_uring_prep_poll_remove(sqe, (uintptr_t)&w->ended);
}

static bool may_take(struct worker *w)
{
	return !w->polling && !w->loop.paused &&
	       __atomic_load_n(&w->taken, __ATOMIC_RELAXED) < session.opt->depth;
}

/*
 * For a backend that answers later: requests are taken while there are any, then all
 * that they have led to is submitted at once. Not without end, where it answers at once:
 * of a pause, for one, the thread hears by its loop.
 */
static void serve_with_loop(struct worker *w)
{
	bool on = true;

	while (on && !session_has_ended()) {
		unsigned int most = session.opt->depth;
		bool nothing = false;

		while (on && !nothing && most-- && may_take(w))
			on = take(w, &nothing);
		if (nothing) {
			w->polling = true;
			/* each request wakes one thread, not all */
			loop_poll(&w->loop, w->fd, POLLIN | EPOLLEXCLUSIVE, &w->readable);
		}
		if (w->watching && w->polling)
			unwatch(w);
		else if (!w->watching && !w->polling && !may_take(w))
			watch(w);
		if (on)
			on = loop_turn(&w->loop, !may_take(w));
	}
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	loop_be_patient();
	if (!session.backend->asynchronous) {
		serve_blocking(w);
		return NULL;
	}
	w->error = loop_make(&w->loop, 2 * session.opt->depth + 4, 0, &w->error_at);
	sem_post(&w->started);
	if (w->error)
		return NULL;
	w->current->rq.loop = &w->loop;
	w->readable.done = became_readable;
	w->ended.done = has_ended;
	w->unwatched.done = is_unwatched;
	if (session.backend->thread_start)
		session.backend->thread_start(&w->loop);
	serve_with_loop(w);
	while (w->loop.busy && loop_turn(&w->loop, true))
		;
	if (session.backend->thread_stop)
		session.backend->thread_stop(&w->loop);
	return NULL;
}

/* A descriptor with a queue of its own for requests being processed. */
static int clone_fd(void)
{
	uint32_t mounted = session.fd;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, FUSE_DEV_IOC_CLONE, &mounted) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static void free_worker(struct worker *w)
{
	loop_end(&w->loop);
	loop_free(&w->loop);
	close_pipe(w);
	if (w->current)
		free_request(w->current);
	if (w->spliced_header)
		munmap(w->spliced_header, page);
	if (w->fd != session.fd && w->fd >= 0)
		close(w->fd);
	free(w);
}

static struct worker *new_worker(unsigned int number)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	sem_init(&w->started, 0, 0);
	w->pipe[0] = w->pipe[1] = -1;
	w->fd = session.fd;
	/* the first one takes the original */
	if (session.opt->clone_fd && number > 0) {
		int fd = clone_fd();

		if (fd >= 0)
			w->fd = fd;
	}
	if (session.backend->asynchronous && fcntl(w->fd, F_SETFL, O_NONBLOCK) < 0)
		say("/dev/fuse: %s", strerror(errno));
	w->stats = &stats->slot[FIRST_DEV_SLOT + number];
	w->current = take_request(w);
	w->spliced_header = map(page);
	if (!w->current || !w->spliced_header) {
		free_worker(w);
		return NULL;
	}
	/* a page of its own, now: what was never written is the zero page to vmsplice */
	*(volatile uint32_t *)&w->spliced_header->len = 0;
	if (session.opt->splice && !session.opt->test_aids) {
		open_pipe(w);
		if (w->pipe[0] >= 0)
			w->current->rq.send_file = dev_send_file;
	}
	return w;
}

static void set_sizes(void)
{
	size_t payload = session.payload_max;

	page = sysconf(_SC_PAGESIZE);
	in_size = WRITE_DATA + payload;
	in_map_size = page + payload;
	out_map_size = page + payload;
}

int dev_start(unsigned int threads)
{
	unsigned int end = worker_count + threads;

	set_sizes();
	workers = realloc(workers, end * sizeof(*workers));
	for (; workers && worker_count < end; worker_count++) {
		struct worker *w = new_worker(worker_count);
		int rc = w ? pthread_create(&w->thread, NULL, worker_main, w) : ENOMEM;

		if (rc) {
			say("thread for /dev/fuse: %s", strerror(rc));
			if (w)
				free_worker(w);
			return 1;
		}
		workers[worker_count] = w;
		if (session.backend->asynchronous) {
			while (sem_wait(&w->started) < 0)
				;
			if (w->error) {
				worker_count++;
				say("%s: %s", w->error_at, strerror(w->error));
				return 1;
			}
		}
	}
	return workers ? 0 : 1;
}

void dev_join(void)
{
	/* those that wait in their loop */
	loop_wake_all();
	for (unsigned int i = 0; i < worker_count; i++)
		pthread_join(workers[i]->thread, NULL);
}

void dev_free(void)
{
	for (unsigned int i = 0; i < worker_count; i++)
		free_worker(workers[i]);
	free(workers);
	while (spares) {
		struct dev_request *r = spares;

		spares = r->next_spare;
		free_request(r);
	}
}
