// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: queues, readiness, background requests, interrupts, ways to submit. */
#include "ringprobe.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/stat.h>

/* Answer a LOOKUP with a file of the given size, which the caller's stat shows. */
static void answer_size(struct req *q, uint64_t size)
{
	struct fuse_entry_out out;
	size_t len;
	int err = fs_answer(q->c, q, &out, sizeof(out), &len);

	out.attr.size = size;
	out.attr_valid = 3600;	/* no GETATTR after it */
	reply(q, err, &out, len);
}

/* ------------------------------------------------ several entries, queues */

static int depth(int argc, char **argv)
{
	enum { DEPTH = 4, MORE = 2 };
	unsigned int cpus = online_cpus(), entries = cpus * DEPTH, callers = entries + MORE;
	struct client *cl = calloc(callers, sizeof(*cl));
	struct req **q = calloc(entries, sizeof(struct req *)), *more;
	unsigned int i, k, let_in = 0, good = 0;
	bool distinct = true;
	char name[16];
	struct conn c;
	struct ring r;
	int which;

	(void)argc, (void)argv;
	if (!cl || !q)
		die("out of memory");
	/* all entries of all queues: a kernel may let any of them take any request */
	for (i = 0; i < callers; i++)
		client_start(&cl[i], i < entries ? i / DEPTH : 0);
	serve_setup(&c, &r, NULL, DEPTH);
	for (i = 0; i < callers; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
	}
	wait_waiting(&c, callers);
	for (i = 0; i < entries; i++) {
		q[i] = next_req(&c, "one request per entry");
		for (k = 0; k < i; k++)
			distinct &= q[k]->e != q[i]->e && q[k]->h.unique != q[i]->h.unique;
	}
	say("%d entries per queue hold a request each, of their own: %s", DEPTH,
	    distinct ? "yes" : "no");
	more = try_req(&c, QUIET_MS);
	say("a further one is delivered: %s", more ? "yes" : "no");

	/* last come, first served: each commit to the first queue lets a waiting one in */
	for (i = entries; i-- > 0;) {
		bool first = q[i]->e->qid == 0;

		which = atoi((const char *)q[i]->pay + 1);
		answer_size(q[i], 1000 + which);
		if (first && let_in < MORE) {
			more = next_req(&c, "the request that waited for an entry");
			which = atoi((const char *)more->pay + 1);
			answer_size(more, 1000 + which);
			let_in++;
		}
	}
	for (i = 0; i < callers; i++) {
		client_serve(&cl[i], &c, "a caller");
		good += !cl[i].err && cl[i].done.ret == 1000 + i;
		client_stop(&cl[i]);
	}
	say("callers with their own answer: %s", good == callers ? "all" : "not all");
	wait_idle(&c);
	conn_close(&c);
	ring_close(&r);
	free(cl);
	free(q);
	return 0;
}

static int queues(int argc, char **argv)
{
	unsigned int n = online_cpus(), i, right = 0;
	struct client *cl = calloc(n, sizeof(*cl));
	struct req **q = calloc(n, sizeof(struct req *));
	struct conn c;
	struct ring r;
	char name[16];

	(void)argc, (void)argv;
	for (i = 0; i < n; i++)
		client_start(&cl[i], i);
	serve_setup(&c, &r, NULL, 1);
	for (i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
	}
	for (i = 0; i < n; i++) {
		q[i] = next_req(&c, "a request from each CPU");
		right += q[i]->e->qid == (unsigned int)atoi((const char *)q[i]->pay + 1);
	}
	say("all CPUs' requests in flight at once");
	say("each came by the queue of its CPU: %s", right == n ? "yes" : "no");
	for (i = 0; i < n; i++)
		answer(q[i]);
	for (i = right = 0; i < n; i++) {
		client_serve(&cl[i], &c, "a caller");
		right += !cl[i].err;
		client_stop(&cl[i]);
	}
	say("all answered: %s", right == n ? "yes" : "no");
	conn_close(&c);
	ring_close(&r);
	free(cl);
	free(q);
	return 0;
}

/* ------------------------------------------------- before the ring is ready */

/*
 * All queues but one have an entry (with one CPU: none has). Ordinary requests
 * wait then; how the wait ends is the argument.
 */
static int not_ready(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	enum { CALLERS = 3 };
	struct client cl[CALLERS];
	unsigned int n = possible_cpus();
	struct conn c;
	struct ring r;
	struct req *q;
	int i;

	for (i = 0; i < CALLERS; i++)
		client_start(&cl[i], 0);
	conn_mount(&c);
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	conn_register(&c, &r, 1, payload_size(&c), 0, n - 1);
	for (i = 0; i < CALLERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
		client_blocked(&cl[i]);
	}
	q = try_req(&c, QUIET_MS);
	say("one queue has no entry: %d callers wait, %s", CALLERS,
	    q ? "one was delivered" : "none was delivered");

	if (!strcmp(how, "ready")) {
		conn_register(&c, &r, 1, payload_size(&c), n - 1, n);
		for (i = 0; i < CALLERS; i++) {
			client_serve(&cl[i], &c, "a caller after the last queue");
			say("last queue registered: caller %d: %s", i, err_name(cl[i].err));
		}
		say("all over the ring: %s", c.ring_requests && !c.dev_ordinary ? "yes" : "no");
	} else if (!strcmp(how, "abort")) {
		conn_abort(&c);
		for (i = 0; i < CALLERS; i++) {
			client_wait(&cl[i], "a caller after the abort");
			say("aborted: caller %d: %s", i, err_name(cl[i].err));
		}
	} else if (!strcmp(how, "kill")) {
		for (i = 0; i < CALLERS; i++) {
			kill(cl[i].pid, SIGKILL);
			client_wait(&cl[i], "a killed caller");
			say("caller %d: %s", i, cl[i].err == -1 ? "killed" : err_name(cl[i].err));
		}
		wait_idle(&c);
	} else {
		die("how should the wait end?");
	}
	say("unmount: %s", err_name(conn_umount(&c, 0)));
	for (i = 0; i < CALLERS; i++)
		client_stop(&cl[i]);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* --------------------------------------------------- background requests */

/*
 * Collect what is in flight without answering: count of the opcode, "want" at
 * least, and then what still comes for a while. Others are answered, they only
 * prepare the scene.
 */
static int in_flight(struct conn *c, uint32_t opcode, int want, int quiet_ms,
		     struct req **held, int have)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	struct req *q;

	while (now_ms() < end) {
		q = try_req(c, have < want ? 100 : quiet_ms);
		if (!q && have >= want)
			break;
		if (!q)
			continue;
		if (q->h.opcode == opcode)
			held[have++] = q;
		else
			answer(q);
	}
	return have;
}

/*
 * Requests of three pages, and not many of them: a writer of more would be
 * helped by the flusher, from whichever CPU that runs on.
 */
enum { SMALL = 3 * 4096 };

/* Hold requests of the opcode; without any request answer the oldest that is held. */
static void hold_or_answer(struct req *q, uint32_t opcode, struct req **held, int *have)
{
	if (q && q->h.opcode == opcode) {
		held[(*have)++] = q;
	} else if (q) {
		answer(q);
	} else if (*have) {
		answer(held[0]);
		memmove(held, held + 1, --*have * sizeof(held[0]));
	}
}

static void background_one(bool writing, int max_background)
{
	struct init_opts o = {
		.max_background = max_background,
		.max_pages = SMALL / 4096,
		.max_write = SMALL,
		.flags = FUSE_ASYNC_DIO | (writing ? FUSE_WRITEBACK_CACHE : 0),
	};
	const long size = 8 * SMALL;
	uint32_t opcode = writing ? FUSE_WRITE : FUSE_READ;
	uint8_t *want = malloc(size);
	struct req *held[64], *q;
	int have, most;
	struct client cl;
	struct conn c;
	struct ring r;
	uint64_t end;
	bool right;

	if (!want)
		die("out of memory");
	client_start(&cl, 0);
	serve_setup(&c, &r, &o, 8);
	client_do(&cl, writing ? do_write : do_aio_read, c.mnt, "f1", 0, size);
	have = most = in_flight(&c, opcode, max_background, QUIET_MS / 2, held, 0);
	say("max_background %d: %d %s in flight", max_background, have, op_name(opcode));
	/* each answer makes room for one more, if there is one */
	end = now_ms() + LIMIT * 1000;
	watch_client(&cl);
	while (!client_done(&cl)) {
		if (now_ms() > end)
			die("waited %d s in vain for the caller", LIMIT);
		q = try_req(&c, have == max_background ? 0 : have ? 5 : 1000);
		hold_or_answer(q, opcode, held, &have);
		if (have > most)
			most = have;
	}
	watch_client(NULL);
	fill_pattern(want, size, writing);
	right = writing ? !memcmp(c.data, want, size) : cl.done.sum == checksum(want, size);
	say("    never more than %d; caller: %s, data %s", most, err_name(cl.err),
	    right && cl.done.ret == size ? "right" : "wrong");
	wait_idle(&c);
	say("    nothing left waiting");
	conn_close(&c);
	ring_close(&r);
	client_stop(&cl);
	free(want);
}

static int background(int argc, char **argv)
{
	bool writing = argc > 1 && !strcmp(argv[1], "write");
	int n;

	for (n = 1; n <= 4; n *= 2)
		background_one(writing, n);
	return 0;
}

/*
 * max_background is for the whole connection, but writers on two CPUs must both get
 * on. A kernel may let each queue have one, or keep to the limit strictly.
 */
static int background_queues(int argc, char **argv)
{
	struct init_opts o = { .max_background = 1, .flags = FUSE_WRITEBACK_CACHE,
			       .max_pages = SMALL / 4096, .max_write = SMALL };
	int i, have = 0, most = 0;
	const long size = 4 * SMALL;
	struct req *held[16], *q;
	struct client cl[2];
	struct conn c;
	struct ring r;
	uint64_t end;

	(void)argc, (void)argv;
	client_start(&cl[0], 0);
	client_start(&cl[1], 1);
	serve_setup(&c, &r, &o, 4);
	client_do(&cl[0], do_write, c.mnt, "f1", 0, size);
	have = most = in_flight(&c, FUSE_WRITE, 1, QUIET_MS, held, 0);
	say("first CPU writes back: %d in flight", have);
	client_do(&cl[1], do_write, c.mnt, "f2", 0, size);
	end = now_ms() + LIMIT * 1000;
	while (!client_done(&cl[0]) || !client_done(&cl[1])) {
		if (now_ms() > end)
			die("waited %d s in vain for both writers", LIMIT);
		watch_client(client_done(&cl[0]) ? &cl[1] : &cl[0]);
		q = try_req(&c, have ? 20 : 200);
		hold_or_answer(q, FUSE_WRITE, held, &have);
		if (have > most)
			most = have;
	}
	watch_client(NULL);
	say("second CPU writes back as well: never more than one per queue: %s",
	    most <= 2 ? "yes" : "no");
	say("both done: %s, %s", err_name(cl[0].err), err_name(cl[1].err));
	wait_idle(&c);
	for (i = 0; i < 2; i++)
		client_stop(&cl[i]);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ------------------------------------------------------ forget, interrupt */

static int do_unlink(struct job *j)
{
	return unlink(j->path) ? errno : 0;
}

static int forget(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	uint64_t end;
	int i;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 2);
	/* an unlinked inode is dropped at once, and the server told */
	for (i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		client_do(&cl, do_unlink, c.mnt, name, 0, 0);
		client_serve(&cl, &c, "unlink");
	}
	end = now_ms() + LIMIT * 1000;
	while (c.dev_forgets < 3 && now_ms() < end)
		pump(&c, 100);
	say("3 files looked up and unlinked: %u FORGET over /dev/fuse", c.dev_forgets);
	say("anything else over /dev/fuse: %s", c.dev_ordinary ? "yes" : "no");
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

static void wait_interrupt(struct conn *c, unsigned int n)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	while (c->interrupts < n) {
		if (now_ms() > end)
			die("waited %d s in vain for INTERRUPT over /dev/fuse", LIMIT);
		pump(c, 100);
	}
}

static int write_dev_reply(struct conn *c, uint64_t unique, int error)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = error, .unique = unique };

	return write(c->fd, &h, sizeof(h)) == sizeof(h) ? 0 : errno;
}

static int interrupt(int argc, char **argv)
{
	struct others others;
	struct client a, b;
	struct conn c;
	struct ring r;
	struct req *q;
	unsigned int before;

	(void)argc, (void)argv;
	client_start(&a, 0);
	client_start(&b, 0);
	others_start(&others);
	serve_setup(&c, &r, NULL, 1);

	/* in the server's hands, a signal the caller survives */
	client_do(&a, do_stat, c.mnt, "f1", 0, 0);
	q = next_req(&c, "LOOKUP");
	kill(a.pid, SIGINT);
	wait_interrupt(&c, 1);
	say("SIGINT, request with the server: INTERRUPT over /dev/fuse, of that request: %s",
	    c.interrupt_of == q->h.unique ? "yes" : "no");
	say("reply to the request itself over /dev/fuse: %s",
	    err_name(write_dev_reply(&c, q->h.unique, -EXDEV)));
	say("caller goes on before the reply: %s", client_done(&a) ? "yes" : "no");
	reply(q, EINTR, NULL, 0);
	client_wait(&a, "the interrupted caller");
	say("caller got %s", err_name(a.err));

	/* behind it, not yet delivered: only killing ends the wait */
	client_do(&a, do_stat, c.mnt, "f2", 0, 0);
	q = next_req(&c, "LOOKUP");
	others_hold(&others, &c);
	client_do(&b, do_stat, c.mnt, "f3", 0, 0);
	wait_waiting(&c, 2 + others.n);
	nap_ms(5);
	kill(b.pid, SIGKILL);
	client_wait(&b, "the killed caller with a queued request");
	say("SIGKILL, request queued: caller killed: %s", b.err == -1 ? "yes" : "no");
	wait_waiting(&c, 1 + others.n);
	before = c.ring_requests;
	reply(q, ENXIO, NULL, 0);
	client_wait(&a, "the caller in front");
	say("the caller in front: %s", err_name(a.err));
	others_release(&others, &c);
	q = try_req(&c, QUIET_MS);
	say("the killed one's request is delivered: %s",
	    q || c.ring_requests != before ? "yes" : "no");

	/* with the server, and killed: waits for the reply */
	client_do(&a, do_stat, c.mnt, "f4", 0, 0);
	q = next_req(&c, "LOOKUP");
	before = c.interrupts;
	kill(a.pid, SIGKILL);
	wait_interrupt(&c, before + 1);
	say("SIGKILL, request with the server: INTERRUPT of that request: %s",
	    c.interrupt_of == q->h.unique ? "yes" : "no");
	say("caller gone before the reply: %s", client_done(&a) ? "yes" : "no");
	answer(q);
	client_serve(&a, &c, "the killed caller");
	say("after the reply: %s", a.err == -1 ? "killed" : "lives");
	wait_idle(&c);
	client_stop(&a);
	client_stop(&b);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ---------------------------------------------------------- ways to submit */

static void traffic(struct conn *c, struct client *cl, const char *what)
{
	const long size = 65536;
	uint8_t *want = malloc(size);
	int i, good = 0;

	if (!want)
		die("out of memory");
	for (i = 0; i < 2; i++) {
		fill_pattern(want, size, i * 512 + 1);
		client_do(cl, do_write, c->mnt, "f1", i * 512, size);
		client_serve(cl, c, what);
		if (cl->err)
			break;
		client_do(cl, do_read, c->mnt, "f1", i * 512, size);
		client_serve(cl, c, what);
		good += !cl->err && cl->done.ret == size && cl->done.sum == checksum(want, size);
	}
	say("%s: %d of 2 rounds right%s", what, good,
	    c->ring_requests && !c->dev_ordinary ? ", all over the ring" : "");
	free(want);
}

/* Flags of the io_uring, or of each entry, under which the same must work. */
static int submit_ways(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned int setup;
		bool async, fixed_file;
	} ways[] = {
		{ "plain", 0, false, false },
		{ "every command punted to a worker", 0, true, false },
		{ "registered file", 0, false, true },
		{ "single issuer, deferred task work", IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN, false, false },
		{ "cooperative task work", IORING_SETUP_COOP_TASKRUN, false, false },
		{ "submission polled by a kernel thread", IORING_SETUP_SQPOLL, false, false },
	};
	struct client cl;
	struct conn c;
	struct ring r;
	size_t i;
	int err;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		conn_mount(&c);
		conn_init(&c, NULL);
		ring_open(&r, 64, IORING_SETUP_SQE128 | ways[i].setup);
		r.async = ways[i].async;
		r.fixed_file = ways[i].fixed_file;
		if (r.fixed_file) {
			err = io_uring_register_files(&r.u, &c.fd, 1);
			if (err)
				die("register file: %s", err_name(err));
		}
		conn_register(&c, &r, 2, payload_size(&c), 0, possible_cpus());
		traffic(&c, &cl, ways[i].name);
		wait_idle(&c);
		say("    unmount: %s", err_name(conn_umount(&c, 0)));
		conn_close(&c);
		ring_close(&r);
	}
	client_stop(&cl);
	return 0;
}

/* What a ring of the second thread is asked to do. */
struct committer {
	struct conn *c;
	struct ring r;
	struct ent *e;
	uint64_t id;
	sem_t committed;	/* the entry is there, and idle */
	int res;		/* 1: held, next request came; else the error */
};

static void *commit_elsewhere(void *arg)
{
	struct committer *m = arg;

	ring_open(&m->r, 8, IORING_SETUP_SQE128);
	ring_cmd(&m->r, m->c->fd, PROTO_RING_COMMIT_AND_FETCH, m->e->qid, m->id, m->e);
	ring_submit(&m->r);
	sem_post(&m->committed);
	m->res = ring_wait_one(&m->r, m->e, LIMIT * 1000);
	if (!m->res) {
		struct fuse_out_header h = { .error = -ENXIO, .unique = m->e->h->part.commit_id };

		memcpy(m->e->h->in_out, &h, sizeof(h));
		ring_cmd(&m->r, m->c->fd, PROTO_RING_COMMIT_AND_FETCH, m->e->qid, h.unique, m->e);
		ring_submit(&m->r);
		/* held until this thread ends */
		m->res = ring_wait_one(&m->r, m->e, 0);
	}
	return NULL;
}

/* Any task may commit, on any ring; the entry's requests then go there. */
static int other_ring(int argc, char **argv)
{
	struct committer m = {};
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	pthread_t t;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	q = next_req(&c, "LOOKUP");
	{
		struct fuse_out_header h = { .error = -EXDEV, .unique = q->h.unique };

		memcpy(q->e->h->in_out, &h, sizeof(h));
		q->e->h->part.payload_size = 0;
	}
	m.c = &c;
	m.e = q->e;
	m.id = q->e->h->part.commit_id;
	sem_init(&m.committed, 0, 0);
	if (pthread_create(&t, NULL, commit_elsewhere, &m))
		die("thread");
	client_wait(&cl, "the reply committed by another thread");
	say("committed by another thread on its own ring: caller got %s", err_name(cl.err));
	/* before, another queue's entry may take what comes */
	sem_wait(&m.committed);
	client_do(&cl, do_stat, c.mnt, "f2", 0, 0);
	client_wait(&cl, "the answer of the other thread");
	say("the next request went to that thread: caller got %s", err_name(cl.err));
	pthread_join(t, NULL);
	say("its commit: %s", m.res == 1 ? "held" : err_name(m.res));
	put_req(q);
	/* the thread has ended, and its command with it */
	say("unmount: %s", err_name(conn_umount(&c, 0)));
	ring_close(&m.r);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* -------------------------------------------------------------- counters */

static int counters(int argc, char **argv)
{
	long dev0, uring0, dev1, uring1;
	struct client cl;
	struct conn c;
	struct ring r;
	int i;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	conn_mount(&c);
	if (conn_file(&c, "requests_uring") < 0) {
		conn_init(&c, NULL);
		notrun("the kernel does not count requests per transport");
	}
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	conn_register(&c, &r, 2, payload_size(&c), 0, possible_cpus());
	dev0 = conn_file(&c, "requests_dev");
	uring0 = conn_file(&c, "requests_uring");
	say("before any traffic: %ld over the ring", uring0);
	for (i = 0; i < 5; i++) {
		client_do(&cl, do_write, c.mnt, "f1", 0, 65536);
		client_serve(&cl, &c, "a write");
	}
	wait_idle(&c);
	dev1 = conn_file(&c, "requests_dev");
	uring1 = conn_file(&c, "requests_uring");
	say("ring: kernel and server agree: %s", uring1 - uring0 == c.ring_requests ? "yes" : "no");
	say("/dev/fuse: kernel counts none more: %s", dev1 == dev0 ? "yes" : "no");
	conn_close(&c);
	ring_close(&r);

	conn_mount(&c);
	conn_init(&c, &(struct init_opts){ .no_ring = true });
	dev0 = conn_file(&c, "requests_dev");
	client_do(&cl, do_write, c.mnt, "f1", 0, 65536);
	client_serve(&cl, &c, "a write");
	wait_idle(&c);
	dev1 = conn_file(&c, "requests_dev");
	say("without ring: kernel and server agree: %s",
	    dev1 - dev0 == c.dev_ordinary ? "yes" : "no");
	say("without ring: %ld over the ring", conn_file(&c, "requests_uring"));
	conn_close(&c);
	client_stop(&cl);
	return 0;
}

/*
 * Entries of one queue serve requests from other CPUs: at once where there is one to spare,
 * else whichever is free first.
 */
static int help(int argc, char **argv)
{
	struct others others;
	struct client cl[3];
	struct req *q, *first, *spare;
	struct conn c;
	struct ring r;
	int i;

	(void)argc, (void)argv;
	for (i = 0; i < 3; i++)
		client_start(&cl[i], 0);
	others_start(&others);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl[0], do_stat, c.mnt, "f0", 0, 0);
	first = next_req(&c, "LOOKUP");
	say("the first request is in its CPU's queue: %s", first->e->qid == 0 ? "yes" : "no");
	client_do(&cl[1], do_stat, c.mnt, "f1", 0, 0);
	spare = next_req(&c, "LOOKUP");
	say("the second one, from the same CPU, in another: %s", spare->e->qid ? "yes" : "no");
	answer(spare);
	client_serve(&cl[1], &c, "the second caller");

	others_hold(&others, &c);
	client_do(&cl[1], do_stat, c.mnt, "f3", 0, 0);
	client_do(&cl[2], do_stat, c.mnt, "f4", 0, 0);
	wait_waiting(&c, 3 + others.n);
	q = try_req(&c, QUIET_MS);
	say("with all entries busy, two more: %s", q ? "one comes" : "wait");
	/* the entry that is free now is the last queue's, one after the other */
	for (i = 0; i < 2; i++) {
		unsigned int qid = others.held[others.n - 1]->e->qid;

		reply(others.held[others.n - 1], ENXIO, NULL, 0);
		q = next_req(&c, "a request that waited");
		say("%s of them comes through the entry that is free: %s", i ? "the other" : "one",
		    q->e->qid == qid ? "yes" : "no");
		others.held[others.n - 1] = q;
	}
	others_release(&others, &c);
	answer(first);
	for (i = 0; i < 3; i++) {
		client_serve(&cl[i], &c, "a caller");
		client_stop(&cl[i]);
	}
	wait_idle(&c);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* A server that does with one queue, and says so. */
static int start(int argc, char **argv)
{
	struct client cl[2];
	struct conn c;
	struct ring r;
	struct req *q;
	int i, tag;

	(void)argc, (void)argv;
	for (i = 0; i < 2; i++)
		client_start(&cl[i], i);
	conn_mount(&c);
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	ring_cmd(&r, c.fd, PROTO_RING_START, 0, 0, &tag);
	ring_submit(&r);
	say("without an entry: %s", err_name(ring_wait_one(&r, &tag, LIMIT * 1000)));
	conn_register(&c, &r, 2, payload_size(&c), 0, 1);
	for (i = 0; i < 2; i++)
		client_do(&cl[i], do_stat, c.mnt, i ? "f1" : "f0", 0, 0);
	q = try_req(&c, QUIET_MS);
	say("with entries in one queue: requests %s", q ? "come" : "wait");
	ring_cmd(&r, c.fd, PROTO_RING_START, 0, 0, &tag);
	ring_submit(&r);
	say("start: %s", err_name(ring_wait_one(&r, &tag, LIMIT * 1000)));
	for (i = 0; i < 2; i++) {
		q = next_req(&c, "a request of either CPU");
		say("a request over %s", q->e && q->e->qid == 0 ? "the first queue" : "another way");
		answer(q);
	}
	for (i = 0; i < 2; i++)
		client_serve(&cl[i], &c, "a caller");
	say("callers: %s, %s", err_name(cl[0].err), err_name(cl[1].err));
	ring_cmd(&r, c.fd, PROTO_RING_START, 0, 0, &tag);
	ring_submit(&r);
	say("start again: %s", err_name(ring_wait_one(&r, &tag, LIMIT * 1000)));
	/* what is added later takes part */
	conn_register(&c, &r, 2, payload_size(&c), 1, 2);
	client_do(&cl[1], do_stat, c.mnt, "f2", 0, 0);
	q = next_req(&c, "a request after a queue was added");
	say("with a second queue: over the %s", q->e && q->e->qid == 1 ? "second" : "first");
	answer(q);
	client_serve(&cl[1], &c, "the last caller");
	wait_idle(&c);
	for (i = 0; i < 2; i++)
		client_stop(&cl[i]);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

const struct command queue_commands[] = {
	{ "depth", depth, "several entries on one queue" },
	{ "queues", queues, "a queue per CPU" },
	{ "not-ready", not_ready, "callers wait for the ring (ready|abort|kill)" },
	{ "help", help, "entries of any queue take what waits" },
	{ "start", start, "fewer queues than CPUs" },
	{ "background", background, "max_background on one queue ([write])" },
	{ "background-queues", background_queues, "max_background with two queues" },
	{ "forget", forget, "FORGET stays on /dev/fuse" },
	{ "interrupt", interrupt, "signals to callers" },
	{ "submit-ways", submit_ways, "kinds of io_uring and of submission" },
	{ "other-ring", other_ring, "commit by another thread on another ring" },
	{ "counters", counters, "the kernel's counters per transport" },
	{}
};
