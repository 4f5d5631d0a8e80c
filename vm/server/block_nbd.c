// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image that an NBD server has (qemu-nbd, nbdkit), through libnbd.
 *
 * Connections are driven by serving threads: each has one, where the server promises that
 * they see each other's writes, or the first thread has it and the others send through it.
 * A connection that breaks is not made again: what was under way may or may not have been
 * written, so all that comes is EIO, until somebody who knows better starts anew.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <libnbd.h>
#include <linux/falloc.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block.h"
#include "say.h"
#include "session.h"

/* A command's length has 32 bits, and some servers sign them. */
#define MOST (1u << 30)
/* For servers that accept some connections and let others wait, or that stall at the end. */
#define PATIENCE 2000	/* ms */
/* For the first sign of life, and each one after that, until there is a connection. */
#define FIRST_PATIENCE 10000

struct connection {
	pthread_mutex_t lock;
	struct nbd_handle *nbd;		/* NULL: given up */
	struct loop *loop;		/* of the thread that drives it; NULL: none */
	bool broken;
	bool polling_out;
	int fd;
	struct awaited readable, writable, poked;
	bool poke_pending;
	struct request *finished;	/* replies to be sent outside the lock */
};

/* One request's work, in its scratch. */
struct work {
	struct connection *connection;
	uint64_t *result;	/* of a search */
	uint64_t offset;
	uint64_t size;		/* left */
	uint64_t begun;		/* of it, with this command */
	uint32_t flags;
	int whence;
	int answer;
	bool found;
	bool then_flush;	/* a write that is to be safe, and cannot be by itself */
	bool flushing;
};
_Static_assert(sizeof(struct work) <= sizeof(((struct request *)0)->scratch), "scratch");

static struct connection *connections;
static unsigned int connection_count, connection_next;
static bool can_flush, can_fua, can_zero, has_extents;
/* A connection broke: the others may live, but what a file answers must not hang on the caller's CPU. */
static bool given_up;

static __thread struct connection *mine;

static struct work *work_of(struct request *rq)
{
	return (struct work *)rq->scratch;
}

static int nbd_problem(const char *what)
{
	say("%s: %s", what, nbd_get_error());
	return 1;
}

/* ---------------------------------------------------------- driving a connection */

/* With the lock held. */
static void look_after(struct connection *c)
{
	unsigned int direction;

	if (c->broken || !c->nbd)
		return;
	if (nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd)) {
		c->broken = true;
		if (!__atomic_exchange_n(&given_up, true, __ATOMIC_ACQ_REL))
			say("the NBD server is gone: all requests fail with EIO from now on");
		return;
	}
	direction = nbd_aio_get_direction(c->nbd);
	if (!(direction & LIBNBD_AIO_DIRECTION_WRITE) || c->polling_out)
		return;
	if (c->loop == loop_current()) {
		c->polling_out = true;
		loop_poll(c->loop, c->fd, POLLOUT, &c->writable);
	}
}

/*
 * With the lock held. Data may have been read before the wake-up that it caused: the sender queues
 * it first and wakes then. libnbd (1.14) finds nothing, goes on waiting for a reply, and sends no
 * command before that has come. Told again it notices, and is ready for commands.
 */
static void notify_read(struct connection *c)
{
	nbd_aio_notify_read(c->nbd);
	if (nbd_aio_get_direction(c->nbd) == LIBNBD_AIO_DIRECTION_READ &&
	    !nbd_aio_is_ready(c->nbd))
		nbd_aio_notify_read(c->nbd);
}

/* Is there something for the connection's own thread to do? With the lock held. */
static void poke(struct connection *c)
{
	bool writes = c->nbd && !c->broken && !c->polling_out &&
		      (nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_WRITE);

	/* a command that has failed already has its reply from there, too */
	if ((writes || c->finished) && c->loop && !c->poke_pending) {
		c->poke_pending = true;
		loop_post(c->loop, &c->poked, 0);
	}
}

static bool goes_on(struct request *rq);

/* Replies, now that the lock is not held. */
static void send_finished(struct connection *c)
{
	struct request *rq;

	pthread_mutex_lock(&c->lock);
	rq = c->finished;
	c->finished = NULL;
	pthread_mutex_unlock(&c->lock);
	while (rq) {
		struct request *next = rq->next;

		if (!goes_on(rq))
			block_complete(rq, work_of(rq)->answer);
		rq = next;
	}
}

static void on_readable(struct awaited *a, int result)
{
	struct connection *c = AWAITED_IN(struct connection, readable, a);

	if (result == -ECANCELED)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->nbd && (nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_READ))
		notify_read(c);
	look_after(c);
	/* what is broken stays readable for ever */
	if (c->nbd && !c->broken)
		loop_poll(c->loop, c->fd, POLLIN, &c->readable);
	pthread_mutex_unlock(&c->lock);
	send_finished(c);
}

static void on_writable(struct awaited *a, int result)
{
	struct connection *c = AWAITED_IN(struct connection, writable, a);

	if (result == -ECANCELED)
		return;
	pthread_mutex_lock(&c->lock);
	c->polling_out = false;
	if (c->nbd && (nbd_aio_get_direction(c->nbd) & LIBNBD_AIO_DIRECTION_WRITE))
		nbd_aio_notify_write(c->nbd);
	look_after(c);
	pthread_mutex_unlock(&c->lock);
	send_finished(c);
}

static void on_poked(struct awaited *a, int result)
{
	struct connection *c = AWAITED_IN(struct connection, poked, a);

	(void)result;
	pthread_mutex_lock(&c->lock);
	c->poke_pending = false;
	look_after(c);
	pthread_mutex_unlock(&c->lock);
	send_finished(c);
}

static void nbd_thread_start(struct loop *l)
{
	(void)l;
	mine = &connections[__atomic_fetch_add(&connection_next, 1, __ATOMIC_RELAXED) %
			    connection_count];
}

/* Whoever sends through a connection that nobody drives does it from then on. */
static void adopt(struct connection *c, struct loop *l)
{
	c->loop = l;
	c->polling_out = c->poke_pending = false;
	loop_poll(l, c->fd, POLLIN, &c->readable);
}

/* The ring may have been refused: then others take over. */
static void nbd_thread_stop(struct loop *l)
{
	for (unsigned int i = 0; i < connection_count; i++) {
		struct connection *c = &connections[i];

		pthread_mutex_lock(&c->lock);
		if (c->loop == l)
			c->loop = NULL;
		pthread_mutex_unlock(&c->lock);
	}
}

static enum { NOT_TRIED, TRIED, FAILED, FLUSHED } last_flush;

static int on_flushed(void *user_data, int *error)
{
	(void)user_data;
	last_flush = *error ? FAILED : FLUSHED;
	if (*error)
		say("the image, at the end: %s", strerror(*error));
	return 1;
}

static bool wants_flush(void)
{
	return block_options.writable && can_flush;
}

/*
 * An orderly end leaves nothing behind in a cache; but nobody waits for a server that stalls.
 * What one connection flushes, all have written.
 */
static void flush_last(struct connection *c)
{
	nbd_completion_callback callback = { .callback = on_flushed };

	if (!wants_flush() || last_flush != NOT_TRIED || c->broken ||
	    nbd_aio_flush(c->nbd, callback, 0) < 0)
		return;
	last_flush = TRIED;
	while (last_flush == TRIED && nbd_poll(c->nbd, PATIENCE) > 0)
		;
}

static void nbd_abandon(void)
{
	for (unsigned int i = 0; i < connection_count; i++) {
		struct connection *c = &connections[i];
		struct nbd_handle *nbd;

		pthread_mutex_lock(&c->lock);
		flush_last(c);
		nbd = c->nbd;
		c->nbd = NULL;
		/* what is under way is told so, but nobody waits for it any more */
		nbd_close(nbd);
		c->finished = NULL;
		pthread_mutex_unlock(&c->lock);
	}
	if (wants_flush() && (last_flush == NOT_TRIED || last_flush == TRIED))
		say("the NBD server does not flush: what was not synced may be lost");
}

/* ------------------------------------------------------------------- requests */

/* A command has ended; libnbd calls it with our lock held. */
static int on_done(void *user_data, int *error)
{
	struct request *rq = user_data;
	struct connection *c = work_of(rq)->connection;

	work_of(rq)->answer = *error ? -*error : 0;
	/* the transport's error is none of the file's */
	if (*error == ENOTCONN || *error == EPIPE || *error == ECONNRESET || *error == ESHUTDOWN)
		work_of(rq)->answer = -EIO;
	rq->next = c->finished;
	c->finished = rq;
	return 1;	/* retire the command */
}

static int on_extents(void *user_data, const char *context, uint64_t offset, uint32_t *entries,
		      size_t count, int *error)
{
	struct work *w = work_of(user_data);
	uint64_t at = offset;

	(void)context, (void)error;
	for (size_t i = 0; i + 1 < count && !w->found; i += 2) {
		/* what only reads as zeroes is as good as a hole */
		bool hole = entries[i + 1] & (LIBNBD_STATE_HOLE | LIBNBD_STATE_ZERO);

		if (hole == (w->whence == SEEK_HOLE)) {
			w->found = true;
			*w->result = at > w->offset ? at : w->offset;
		}
		at += entries[i];
	}
	w->begun = at > w->offset ? at - w->offset : 0;
	return 0;
}

/* Issue the next command of a request. Called with the lock held. */
static int64_t issue(struct request *rq, struct nbd_handle *nbd)
{
	struct work *w = work_of(rq);
	nbd_completion_callback done = { .callback = on_done, .user_data = rq };
	nbd_extent_callback extents = { .callback = on_extents, .user_data = rq };

	w->begun = w->size < MOST ? w->size : MOST;
	if (w->flushing)
		return nbd_aio_flush(nbd, done, 0);
	switch (rq->in->opcode) {
	case FUSE_READ:
		return nbd_aio_pread(nbd, rq->out, w->size, w->offset, done, 0);
	case FUSE_WRITE:
		return nbd_aio_pwrite(nbd, rq->payload, w->size, w->offset, done, w->flags);
	case FUSE_FSYNC:
		return nbd_aio_flush(nbd, done, 0);
	case FUSE_FALLOCATE:
		return nbd_aio_zero(nbd, w->begun, w->offset, done, w->flags);
	default:
		return nbd_aio_block_status(nbd, w->begun, w->offset, extents, done, 0);
	}
}

static int begin(struct request *rq)
{
	struct connection *c = work_of(rq)->connection;
	int result = REPLY_SOON;

	pthread_mutex_lock(&c->lock);
	if (!c->loop)
		adopt(c, rq->loop);
	if (!c->nbd || c->broken || __atomic_load_n(&given_up, __ATOMIC_ACQUIRE)) {
		result = -EIO;
	} else if (issue(rq, c->nbd) < 0) {
		result = -nbd_get_errno();
		/* it is not in a state to take any */
		if (result == -EINVAL && (nbd_aio_is_dead(c->nbd) || nbd_aio_is_closed(c->nbd)))
			result = -EIO;
		if (result == -ENOTCONN || result == 0)
			result = -EIO;
	}
	look_after(c);
	poke(c);
	pthread_mutex_unlock(&c->lock);
	return result;
}

/* The next command of a request; false: it is over, with that as its answer. */
static bool begins_again(struct request *rq)
{
	int result = begin(rq);

	if (result != REPLY_SOON)
		work_of(rq)->answer = result;
	return result == REPLY_SOON;
}

/* Is there more to do for it? */
static bool goes_on(struct request *rq)
{
	struct work *w = work_of(rq);
	uint32_t opcode = rq->in->opcode;

	if (w->answer < 0)
		return false;
	if (w->then_flush) {
		w->then_flush = false;
		w->flushing = true;
		return begins_again(rq);
	}
	if (opcode == FUSE_READ || opcode == FUSE_WRITE) {
		w->answer = w->size;
		return false;
	}
	if (opcode == FUSE_FSYNC || w->found)
		return false;
	/* a server that knows nothing of the rest must not keep us for ever */
	w->offset += w->begun;
	w->size -= w->begun < w->size ? w->begun : w->size;
	if (w->size && w->begun)
		return begins_again(rq);
	if (opcode == FUSE_LSEEK) {
		/* all the rest is data, or a hole: behind data there is one at the end */
		*w->result = block_length();
		w->answer = w->whence == SEEK_HOLE ? 0 : -ENXIO;
	}
	return false;
}

static struct work *prepare(struct request *rq, uint64_t offset, uint64_t size)
{
	struct work *w = work_of(rq);

	*w = (struct work){ .connection = mine, .offset = offset, .size = size };
	return w;
}

static int nbd_image_read(struct request *rq, void *data, uint32_t size, uint64_t offset)
{
	(void)data;
	prepare(rq, offset, size);
	return begin(rq);
}

static int nbd_image_write(struct request *rq, const void *data, uint32_t size, uint64_t offset,
			   int rwf)
{
	struct work *w = prepare(rq, offset, size);

	(void)data;
	if (rwf && can_fua)
		w->flags = LIBNBD_CMD_FLAG_FUA;
	else if (rwf && can_flush)
		w->then_flush = true;
	return begin(rq);
}

static int nbd_image_sync(struct request *rq, bool data_only)
{
	(void)data_only;
	if (!can_flush)
		return 0;
	prepare(rq, 0, 0);
	return begin(rq);
}

static int nbd_image_allocate(struct request *rq, int mode, uint64_t offset, uint64_t length)
{
	/* there is no command that makes room and leaves what is there */
	if (!can_zero || !(mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)))
		return -EOPNOTSUPP;
	prepare(rq, offset, length)->flags =
		mode & FALLOC_FL_PUNCH_HOLE ? 0 : LIBNBD_CMD_FLAG_NO_HOLE;
	return begin(rq);
}

static int nbd_image_seek(struct request *rq, uint64_t offset, int whence, uint64_t *result)
{
	struct work *w;

	if (!has_extents) {
		*result = whence == SEEK_DATA ? offset : block_length();
		return 0;
	}
	w = prepare(rq, offset, block_length() - offset);
	w->whence = whence;
	w->result = result;
	return begin(rq);
}

/* ------------------------------------------------------------------- start, end */

/* 1: it is there; 0: it does not answer; -1: an error of libnbd's */
static int connect_within(struct nbd_handle *nbd, const char *uri, int msec)
{
	int rc = 1;

	if (nbd_aio_connect_uri(nbd, uri) < 0)
		return -1;
	while (rc > 0 && !nbd_aio_is_ready(nbd)) {
		if (nbd_aio_is_dead(nbd) || nbd_aio_is_closed(nbd))
			return -1;
		rc = nbd_poll(nbd, msec);
	}
	return rc;
}

static int open_one(struct connection *c, const char *uri, bool first)
{
	int rc;

	pthread_mutex_init(&c->lock, NULL);
	c->readable.done = on_readable;
	c->writable.done = on_writable;
	c->poked.done = on_poked;
	c->nbd = nbd_create();
	/*
	 * Servers may name a least size of requests; files have none, and those servers that we
	 * know round for us. What refuses says EINVAL itself.
	 */
	if (!c->nbd || nbd_add_meta_context(c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_set_strict_mode(c->nbd, nbd_get_strict_mode(c->nbd) & ~LIBNBD_STRICT_ALIGN) < 0)
		return nbd_problem(uri);
	rc = connect_within(c->nbd, uri, first ? FIRST_PATIENCE : PATIENCE);
	if (first && rc < 0)
		return nbd_problem(uri);
	if (first && rc == 0)
		say("%s: no answer", uri);
	if (rc <= 0)
		return 1;
	c->fd = nbd_aio_get_fd(c->nbd);
	return c->fd < 0 ? nbd_problem(uri) : 0;
}

static unsigned int most_connections(void)
{
	unsigned int threads = session.opt->uring ? session.opt->ring_threads :
						    session.opt->threads;

	if (block_options.connections)
		return block_options.connections;
	return threads ? threads : (unsigned int)sysconf(_SC_NPROCESSORS_ONLN);
}

static int nbd_image_open(const char *uri, uint64_t *length)
{
	struct connection *first;
	unsigned int wanted;
	int64_t size;

	wanted = most_connections();
	connections = calloc(wanted, sizeof(*connections));
	if (!connections)
		return complain("connections");
	first = &connections[0];
	if (open_one(first, uri, true))
		return 1;
	size = nbd_get_size(first->nbd);
	if (size < 0)
		return nbd_problem(uri);
	if (block_options.writable && nbd_is_read_only(first->nbd) > 0) {
		say("%s: the server lets nobody write", uri);
		return 1;
	}
	*length = size;
	can_flush = nbd_can_flush(first->nbd) > 0;
	can_fua = nbd_can_fua(first->nbd) > 0;
	can_zero = nbd_can_zero(first->nbd) > 0;
	has_extents = nbd_can_meta_context(first->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) > 0;
	/* several connections must not hide from each other what is written */
	if (block_options.writable && nbd_can_multi_conn(first->nbd) <= 0)
		wanted = 1;
	for (connection_count = 1; connection_count < wanted; connection_count++) {
		/* the server may have a limit of its own: as many as it lets us */
		if (open_one(&connections[connection_count], uri, false)) {
			nbd_close(connections[connection_count].nbd);
			break;
		}
	}
	return 0;
}

static int nbd_image_close(void)
{
	free(connections);
	return wants_flush() && last_flush != FLUSHED ? 1 : 0;
}

const struct image nbd_image = {
	.open = nbd_image_open,
	.close = nbd_image_close,
	.thread_start = nbd_thread_start,
	.thread_stop = nbd_thread_stop,
	.abandon = nbd_abandon,
	.read = nbd_image_read,
	.write = nbd_image_write,
	.sync = nbd_image_sync,
	.allocate = nbd_image_allocate,
	.seek = nbd_image_seek,
};
