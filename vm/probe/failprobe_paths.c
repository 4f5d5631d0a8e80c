// SPDX-License-Identifier: GPL-2.0-only
/*
 * failprobe: what only particular servers meet, or a server at a particular moment. Moments are
 * had by memory that takes its time: a page of it is there when another file system, which is
 * served here too, has answered; meanwhile anything can be done.
 */
#include "ringprobe.h"

#include <poll.h>
#include <sys/mman.h>

enum { PAGE = 4096, ROUNDS = 24 };

static void abort_conn(void *c)
{
	conn_abort(c);
}

/*
 * After an abort: what the kernel holds comes back. An entry whose request the abort has ended is
 * with the server and says nothing any more.
 */
static void await_end(struct conn *c)
{
	uint64_t limit = now_ms() + LIMIT * 1000;
	unsigned int i, held;

	do {
		if (now_ms() > limit)
			die("waited %d s in vain for the ring's end", LIMIT);
		pump(c, 10);
		for (i = held = 0; i < c->nents; i++)
			held += c->ents[i].state == ENT_IDLE;
	} while (held);
}

/* ------------------------------------------------------------------ replies */

static struct req *next_read(struct conn *c)
{
	struct req *q;

	while ((q = next_req(c, "READ"))->h.opcode != FUSE_READ)
		answer(q);
	if (!q->e)
		die("READ came over /dev/fuse");
	return q;
}

/* What the commit of this request says at once: 0 if it is held. The request is used up. */
static int try_reply(struct req *q, uint32_t size)
{
	struct ent *e = q->e;

	reply_raw(q, 0, q->h.unique, size);
	pump(e->c, 0);
	return e->state == ENT_DEAD ? e->res : 0;
}

/* The server has asked for an error of its own when the connection has been aborted. */
static int abort_error(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct ent extra;
	struct req *q;

	(void)argc, (void)argv;
	client_start(&cl, -1);
	serve_setup(&c, &r, &(struct init_opts){ .flags = FUSE_ABORT_ERROR }, 1);
	client_do(&cl, do_direct_read, c.mnt, "f1", 0, PAGE);
	q = next_read(&c);
	conn_abort(&c);
	client_wait(&cl, "the caller of an aborted connection");
	say("abort: caller %s, commit %s", err_name(cl.err), err_name(try_reply(q, PAGE)));
	/* what the abort ended is taken in before another command */
	await_end(&c);
	ent_setup(&extra, &c, &r, 0, payload_size(&c));
	ent_register(&extra);
	say("REGISTER then: %s", err_name(ring_submit_one(&r, &extra)));
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* Too little for whole pages, and not there. */
static int small_reply(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	struct ent *e;

	(void)argc, (void)argv;
	client_start(&cl, -1);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl, do_direct_read, c.mnt, "f1", 0, 100);
	q = next_read(&c);
	e = q->e;
	mprotect(e->pay, e->pay_len, PROT_NONE);
	if (try_reply(q, 100))
		die("a reply without its data is the caller's error, not the command's");
	mprotect(e->pay, e->pay_len, PROT_READ | PROT_WRITE);
	client_serve(&cl, &c, "a reader");
	say("reply of 100 bytes that are not there: %s", err_name(cl.err));
	client_do(&cl, do_direct_read, c.mnt, "f1", 0, 100);
	client_serve(&cl, &c, "another reader");
	say("then: %s", err_name(cl.err));
	wait_idle(&c);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* The connection ends while a commit waits for the page that its headers are in. */
static int commit_abort(int argc, char **argv)
{
	static struct slow s;
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	struct ent *e;

	(void)argc, (void)argv;
	client_start(&cl, -1);
	slow_start(&s, abort_conn, &c);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl, do_direct_read, c.mnt, "f1", 0, PAGE);
	q = next_read(&c);
	e = q->e;
	*(struct fuse_out_header *)e->h->in_out =
		(struct fuse_out_header){ .len = 16 + PAGE, .unique = q->h.unique };
	e->h->part.payload_size = PAGE;
	ent_commit(e, e->qid, e->h->part.commit_id);
	put_req(q);
	slow_page(&s, e->h, sizeof(*e->h));
	ring_submit(&r);
	client_wait(&cl, "the caller of an aborted connection");
	say("abort while a commit waits for a page: caller %s", err_name(cl.err));
	await_end(&c);
	say("commit: %s", err_name(e->res));
	slow_end(&s);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ----------------------------------------------------------- filling the ring */

struct pool_job {
	struct conn *c;
	void *mem;
	size_t size;
	int err;
};

static void add_pool(void *arg)
{
	struct pool_job *p = arg;
	struct proto_ring_command *cmd;
	struct io_uring_sqe *sqe;
	struct ring r;

	ring_open(&r, 4, IORING_SETUP_SQE128);
	sqe = ring_cmd(&r, p->c->fd, PROTO_RING_ADD_POOL, 0, 0, p);
	cmd = (struct proto_ring_command *)sqe->cmd;
	cmd->pool_address = (uintptr_t)p->mem;
	cmd->pool_size = p->size;
	p->err = ring_submit_one(&r, p);
	ring_close(&r);
}

/* The queue gets a pool while a REGISTER, which has buffers of its own, waits for a page. */
static int register_pool(int argc, char **argv)
{
	static struct slow s;
	struct pool_job p = { .err = 1 };
	struct client cl;
	struct iovec *iov;
	struct io_uring_sqe *sqe;
	struct conn c;
	struct ring r;
	struct ent e;

	(void)argc, (void)argv;
	client_start(&cl, -1);
	slow_start(&s, add_pool, &p);
	conn_mount(&c);
	conn_init(&c, NULL);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	p.c = &c;
	p.size = payload_size(&c);
	p.mem = mmap(NULL, p.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	iov = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p.mem == MAP_FAILED || iov == MAP_FAILED)
		die("out of memory");
	ring_cmd(&r, c.fd, PROTO_RING_ADD_QUEUE, 0, 0, &c);
	if (ring_submit_one(&r, &c))
		die("ADD_QUEUE failed");
	ent_setup(&e, &c, &r, 0, payload_size(&c));
	sqe = ent_register(&e);
	memcpy(iov, e.iov, sizeof(e.iov));
	slow_page(&s, iov, sizeof(e.iov));
	sqe->addr = (uintptr_t)iov;
	say("REGISTER, with a pool that has come meanwhile: %s",
	    err_name(ring_submit_one(&r, &e)));
	say("ADD_BUFPOOL: %s", err_name(p.err));
	slow_end(&s);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_serve(&cl, &c, "a caller");
	say("stat, over /dev/fuse: %s", err_name(cl.err));
	wait_idle(&c);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ------------------------------------------------------- moments left to chance */

struct shot {
	struct conn *c;
	unsigned int delay_us;
	volatile bool armed, ready;
};

static void *shoot(void *arg)
{
	struct shot *s = arg;
	struct timespec t, now;

	s->ready = true;
	while (!s->armed)
		;
	clock_gettime(CLOCK_MONOTONIC, &t);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - t.tv_sec) * 1000000 + (now.tv_nsec - t.tv_nsec) / 1000 < s->delay_us);
	conn_abort(s->c);
	return NULL;
}

static pthread_t aim(struct shot *s, struct conn *c, unsigned int delay_us)
{
	pthread_t t;

	*s = (struct shot){ .c = c, .delay_us = delay_us };
	if (pthread_create(&t, NULL, shoot, s))
		die("thread");
	while (!s->ready)
		nap_ms(1);
	return t;
}

/* The connection ends while a large reply is copied, sooner or later. */
static int copy_abort(int argc, char **argv)
{
	static const struct init_opts large = { .max_write = FILE_SIZE, .max_pages = 256 };
	unsigned int i, n = argc > 1 ? atoi(argv[1]) : ROUNDS, whole = 0, ended = 0;
	static uint8_t want[FILE_SIZE];
	struct client cl;

	fill_pattern(want, FILE_SIZE, 0);
	client_start(&cl, -1);
	for (i = 0; i < n; i++) {
		struct shot s;
		struct conn c;
		struct ring r;
		struct req *q;
		pthread_t t;

		serve_setup(&c, &r, &large, 1);
		client_do(&cl, do_direct_read, c.mnt, "f1", 0, FILE_SIZE);
		q = next_read(&c);
		if (((const struct fuse_read_in *)q->op)->size != FILE_SIZE)
			die("READ is not of the whole file");
		memcpy(q->e->pay, want, FILE_SIZE);
		t = aim(&s, &c, i * 100);
		s.armed = true;
		reply_raw(q, 0, q->h.unique, FILE_SIZE);
		pthread_join(t, NULL);
		client_wait(&cl, "the reader");
		if (!cl.err && cl.done.ret == FILE_SIZE && cl.done.sum == checksum(want, FILE_SIZE))
			whole++;
		else if (cl.err == ECONNABORTED || cl.err == ENOTCONN || cl.err == ENOENT)
			ended++;
		else
			die("reader: %s, %ld bytes", err_name(cl.err), cl.done.ret);
		await_end(&c);
		conn_close(&c);
		ring_close(&r);
	}
	say("aborts about the time of a large reply: %s", whole + ended == n ?
	    "all readers have their data or an error" : "not all");
	client_stop(&cl);
	return 0;
}

/* The connection ends while queues are made. */
static int queue_abort(int argc, char **argv)
{
	unsigned int i, n = argc > 1 ? atoi(argv[1]) : ROUNDS, good = 0;

	for (i = 0; i < n; i++) {
		struct shot s;
		struct conn c;
		struct ring r;
		pthread_t t;
		int err;

		conn_mount(&c);
		conn_init(&c, NULL);
		ring_open(&r, 8, IORING_SETUP_SQE128);
		ring_cmd(&r, c.fd, PROTO_RING_ADD_QUEUE, i % possible_cpus(), 0, &c);
		t = aim(&s, &c, 0);
		s.armed = true;
		/* before, in the midst of, or after what the abort does by and by */
		for (err = 0; err < (int)(i * 200); err++)
			__asm__ volatile("" ::: "memory");
		err = ring_submit_one(&r, &c);
		pthread_join(t, NULL);
		if (err && err != -ENOTCONN && err != -ECONNABORTED && err != -EOPNOTSUPP)
			die("ADD_QUEUE: %s", err_name(err));
		good++;
		conn_close(&c);
		ring_close(&r);
	}
	say("aborts about the time of ADD_QUEUE: %s", good == n ? "made, or refused" : "not all");
	return 0;
}

/* ----------------------------------------------------------------- /dev/fuse */

/* A page of a reply that the kernel may have, or in two parts, which it has to copy. */
static void pipe_page(int fd, const uint8_t *data, size_t len, bool whole)
{
	size_t part = whole ? len : (len + 1) / 2;

	if (write(fd, data, part) != (ssize_t)part ||
	    (part < len && write(fd, data + part, len - part) != (ssize_t)(len - part)))
		die("write to a pipe: %s", err_name(errno));
}

static void spliced_reply(struct conn *c, int pipe_fd[2], uint64_t unique, const uint8_t *data,
			  size_t len, bool move)
{
	struct fuse_out_header h = { .len = sizeof(h) + len, .unique = unique };
	size_t at;
	ssize_t n;

	if (write(pipe_fd[1], &h, sizeof(h)) != sizeof(h))
		die("write to a pipe: %s", err_name(errno));
	for (at = 0; at < len; at += PAGE)
		pipe_page(pipe_fd[1], data + at, len - at < PAGE ? len - at : PAGE, at / PAGE % 3 != 2);
	n = splice(pipe_fd[0], NULL, c->fd, NULL, h.len, move ? SPLICE_F_MOVE : 0);
	if (n != (ssize_t)h.len)
		die("splice to /dev/fuse: %s", n < 0 ? err_name(errno) : "short");
}

/* Requests and replies through pipes, whose pages the kernel passes on where it can. */
static void splice_serve(struct conn *c, struct client *cl, bool move)
{
	static uint8_t in[FILE_SIZE + 8192], out[FILE_SIZE + 8192];
	uint64_t limit = now_ms() + LIMIT * 1000;
	int requests[2], replies[2];

	if (pipe2(requests, O_CLOEXEC) || pipe2(replies, O_CLOEXEC | O_DIRECT) ||
	    fcntl(requests[1], F_SETPIPE_SZ, FILE_SIZE) < 0 ||
	    fcntl(replies[1], F_SETPIPE_SZ, FILE_SIZE) < 0)
		die("pipe: %s", err_name(errno));
	while (!client_done(cl) || conn_file(c, "waiting")) {
		struct pollfd p = { .fd = c->fd, .events = POLLIN };
		struct fuse_in_header *h = (struct fuse_in_header *)in;
		struct req q = { .c = c };
		ssize_t n, got = 0, part;
		size_t len = 0;
		int err;

		if (now_ms() > limit)
			die("waited %d s in vain for a caller", LIMIT);
		poll(&p, 1, 10);
		n = splice(c->fd, NULL, requests[1], NULL, sizeof(in), 0);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < (ssize_t)sizeof(*h))
			die("splice from /dev/fuse: %s", n < 0 ? err_name(errno) : "short");
		for (; got < n; got += part) {
			part = read(requests[0], in + got, n - got);
			if (part <= 0)
				die("read of a pipe: %s", err_name(errno));
		}
		if (h->len != n)
			die("a request of %zd bytes says it has %u", n, h->len);
		if (h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET)
			continue;
		q.h = *h;
		q.op = h + 1;
		q.pay = (uint8_t *)(h + 1);
		if (h->opcode == FUSE_WRITE)
			q.pay += sizeof(struct fuse_write_in);
		q.pay_len = in + n - q.pay;
		err = fs_answer(c, &q, out, sizeof(out), &len);
		if (h->opcode == FUSE_READ && !err) {
			spliced_reply(c, replies, h->unique, out, len, move);
		} else {
			struct fuse_out_header oh = { .len = sizeof(oh) + (err ? 0 : len),
						      .error = -err, .unique = h->unique };
			struct iovec v[2] = { { &oh, sizeof(oh) }, { out, err ? 0 : len } };

			if (writev(c->fd, v, 2) < 0)
				die("reply to %s: %s", op_name(h->opcode), err_name(errno));
		}
	}
	close(requests[0]), close(requests[1]), close(replies[0]), close(replies[1]);
}

static int splice_server(int argc, char **argv)
{
	enum { SIZE = 10 * PAGE };
	static uint8_t want[SIZE];
	struct client cl;
	struct conn c;
	int move;

	(void)argc, (void)argv;
	client_start(&cl, -1);
	conn_mount(&c);
	conn_init(&c, &(struct init_opts){ .no_ring = true });
	for (move = 0; move < 2; move++) {
		client_do(&cl, do_read, c.mnt, "f1", 0, SIZE);
		splice_serve(&c, &cl, move);
		fill_pattern(want, SIZE, 0);
		say("read, pages %s: %s, %s", move ? "moved" : "copied", err_name(cl.err),
		    cl.done.sum == checksum(want, SIZE) ? "right" : "wrong data");
	}
	client_do(&cl, do_write, c.mnt, "f1", 0, SIZE);
	splice_serve(&c, &cl, true);
	fill_pattern(want, SIZE, 1);
	say("write: %s, %s", err_name(cl.err), memcmp(c.data, want, SIZE) ? "wrong data" : "right");
	client_stop(&cl);
	conn_close(&c);
	return 0;
}

const struct command path_commands[] = {
	{ "abort-error", abort_error, "a connection with FUSE_ABORT_ERROR" },
	{ "small-reply", small_reply, "a short reply that cannot be read" },
	{ "commit-abort", commit_abort, "abort in the midst of a commit" },
	{ "register-pool", register_pool, "a pool in the midst of a REGISTER" },
	{ "copy-abort", copy_abort, "aborts about the time of a large reply ([ROUNDS])" },
	{ "queue-abort", queue_abort, "aborts about the time of ADD_QUEUE ([ROUNDS])" },
	{ "splice", splice_server, "requests and replies through pipes" },
	{}
};
