// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: negotiation, and what REGISTER and COMMIT_AND_FETCH refuse. */
#include "ringprobe.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

static const char *said(int res)
{
	return res ? err_name(res) : "held";
}

/* REGISTER of a fresh entry on qid; 0 = held. */
static int try_register(struct conn *c, struct ring *r, unsigned int qid)
{
	struct ent *e = calloc(1, sizeof(*e));

	if (!e)
		die("out of memory");
	ent_setup(e, c, r, qid, payload_size(c));
	ent_register(e);
	return ring_submit_one(r, e);
}

static void start_mounted(struct conn *c, struct ring *r, const struct init_opts *o)
{
	conn_mount(c);
	conn_init(c, o);
	ring_open(r, 64, IORING_SETUP_SQE128);
}

static void end(struct conn *c, struct ring *r)
{
	conn_close(c);
	ring_close(r);
}

static int handshake(int argc, char **argv)
{
	struct conn c;
	struct ring r;
	struct client cl;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 1);
	say("parameter on: bit %soffered", c.offered ? "" : "not ");
	say("init: flags2 has no bit without INIT_EXT: %s",
	    c.init.flags & FUSE_INIT_EXT ? "ok" : "INIT_EXT missing");
	show_path(&c, &cl, "echoed and registered");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

static int parameter_off(int argc, char **argv)
{
	struct conn c;
	struct ring r;
	struct client cl;
	struct init_opts force = { .force_ring = true };

	(void)argc, (void)argv;
	client_start(&cl, 0);
	set_enable_uring(false);
	start_mounted(&c, &r, NULL);
	say("parameter off: bit %soffered", c.offered ? "" : "not ");
	say("REGISTER: %s", said(try_register(&c, &r, 0)));
	show_path(&c, &cl, "afterwards");
	end(&c, &r);

	/* a server that echoes what was not offered gets no ring either */
	start_mounted(&c, &r, &force);
	say("echoed all the same: REGISTER: %s", said(try_register(&c, &r, 0)));
	show_path(&c, &cl, "afterwards");
	end(&c, &r);

	/* turned off between offer and echo */
	set_enable_uring(true);
	conn_mount(&c);
	set_enable_uring(false);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	conn_init(&c, NULL);
	say("turned off before the echo: bit %s", c.offered ? "offered" : "not offered");
	say("REGISTER: %s", said(try_register(&c, &r, 0)));
	set_enable_uring(true);
	show_path(&c, &cl, "afterwards");
	end(&c, &r);
	client_stop(&cl);
	return 0;
}

static int parameter_toggle(int argc, char **argv)
{
	unsigned int n = possible_cpus();
	struct conn c, d;
	struct ring r;
	struct client cl;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	conn_mount(&c);
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	/* one while on, the others and a second round while off */
	c.ents = calloc(3 * n, sizeof(*c.ents));
	conn_register(&c, &r, 1, payload_size(&c), 0, 1);
	set_enable_uring(false);
	conn_register(&c, &r, 1, payload_size(&c), 1, n);
	say("parameter turned off: further queues registered");
	show_path(&c, &cl, "live ring");
	conn_register(&c, &r, 1, payload_size(&c), 0, n);
	say("second entry on every queue registered");
	show_path(&c, &cl, "live ring");

	if (mkdir("other", 0755) && errno != EEXIST)
		die("mkdir: %s", err_name(errno));
	if (setenv("MNT", realpath("other", NULL), 1))
		die("setenv");
	conn_mount(&d);
	conn_init(&d, NULL);
	say("new mount: bit %soffered", d.offered ? "" : "not ");
	conn_close(&d);
	set_enable_uring(true);
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

static int refused(int argc, char **argv)
{
	struct init_opts o = { .no_ring = true };
	struct conn c;
	struct ring r;
	struct client cl;
	int res;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	start_mounted(&c, &r, &o);
	say("bit %s, not echoed", c.offered ? "offered" : "not offered");
	show_path(&c, &cl, "before");
	res = try_register(&c, &r, 0);
	if (!res && old_ring_kernel())
		res = -EOPNOTSUPP;	/* 6.14 and on took it; changed by 7.3 */
	say("REGISTER: %s", said(res));
	show_path(&c, &cl, "afterwards");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* --------------------------------------------- checks before any command */

static int entry_order(int argc, char **argv)
{
	struct conn c;
	struct ring r, small;
	struct client cl;
	struct ent e;
	int res;

	(void)argc, (void)argv;
	client_start(&cl, 0);

	conn_open(&c);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	res = try_register(&c, &r, 0);
	if (res == -ENOTCONN && old_ring_kernel())
		res = -EPERM;
	say("descriptor not mounted: REGISTER: %s", said(res));
	end(&c, &r);

	conn_mount(&c);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	c.max_write = DEFAULT_PAYLOAD;
	ent_setup(&e, &c, &r, 0, payload_size(&c));
	ent_register(&e);
	ring_submit(&r);
	/* io_uring itself tries again from a worker before it says so */
	res = ring_wait_one(&r, &e, LIMIT * 1000);
	say("INIT not answered: REGISTER: %s", res == 1 ? "nothing came" : err_name(res));
	conn_init(&c, NULL);
	conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
	say("INIT answered: REGISTER on every queue: held");
	show_path(&c, &cl, "then");
	end(&c, &r);

	start_mounted(&c, &r, NULL);
	ring_open(&small, 8, 0);
	ent_setup(&e, &c, &small, 0, payload_size(&c));
	ent_register(&e);
	say("64-byte submission entries: REGISTER: %s", said(ring_submit_one(&small, &e)));
	ring_cmd(&small, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, 2, &e);
	say("64-byte submission entries: COMMIT: %s", said(ring_submit_one(&small, &e)));
	ring_cmd(&r, c.fd, 0, 0, 0, &e);
	say("command 0: %s", said(ring_submit_one(&r, &e)));
	ring_cmd(&r, c.fd, 99, 0, 0, &e);
	say("command 99: %s", said(ring_submit_one(&r, &e)));
	ring_close(&small);

	conn_abort(&c);
	say("aborted: REGISTER: %s", said(try_register(&c, &r, 0)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, 2, &e);
	say("aborted: COMMIT: %s", said(ring_submit_one(&r, &e)));
	end(&c, &r);
	client_stop(&cl);
	return 0;
}

/* Fields of the submission entry that io_uring or the ring must refuse or ignore. */
static int entry_fields(int argc, char **argv)
{
	struct io_uring_sqe *sqe;
	struct client cl;
	struct conn c;
	struct ring r;
	struct ent *e;
	struct req *q;
	int res;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	start_mounted(&c, &r, NULL);
	c.ents = calloc(possible_cpus() + 1, sizeof(*c.ents));
	e = &c.ents[possible_cpus()];
	ent_setup(e, &c, &r, 0, payload_size(&c));

	sqe = ent_register(e);
	sqe->__pad1 = 1;
	say("word beside the command set: %s", said(ring_submit_one(&r, e)));
	sqe = ent_register(e);
	sqe->uring_cmd_flags = 1u << 20;
	say("unknown command flag: %s", said(ring_submit_one(&r, e)));

	/* reserved bytes of the command are nobody's business */
	sqe = ent_register(e);
	memset(((struct proto_ring_command *)sqe->cmd)->padding, 0xff, 6);
	((struct proto_ring_command *)sqe->cmd)->flags = ~0ull;
	((struct proto_ring_command *)sqe->cmd)->commit_id = ~0ull;
	sqe->user_data = (uintptr_t)&c.ents[0];
	c.ents[0] = *e;
	c.ents[0].state = ENT_IDLE;
	c.nents = 1;
	c.rings[c.nrings++] = &r;
	res = ring_submit_one(&r, &c.ents[0]);
	say("REGISTER with reserved fields set: %s", said(res));
	conn_register(&c, &r, 1, payload_size(&c), 1, possible_cpus());
	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	q = next_req(&c, "LOOKUP");
	e = q->e;
	{
		struct fuse_out_header h = { .error = -EXDEV, .unique = q->h.unique };
		uint64_t id = e->h->part.commit_id;

		memset(&e->h->part, 0xff, sizeof(e->h->part));
		memset(e->h->op_in, 0xff, sizeof(e->h->op_in));
		h.len = 7;
		memcpy(e->h->in_out, &h, sizeof(h));
		sqe = ent_commit(e, e->qid, id);
		memset(((struct proto_ring_command *)sqe->cmd)->padding, 0xff, 6);
		((struct proto_ring_command *)sqe->cmd)->flags = ~0ull;
		sqe->len = 77;
		sqe->addr = 77;
		ring_submit(&r);
		put_req(q);
	}
	client_serve(&cl, &c, "stat");
	say("COMMIT with reserved fields, length and addresses set: stat: %s", err_name(cl.err));
	show_path(&c, &cl, "then");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* ---------------------------------------------------------------- REGISTER */

enum reg_fault {
	QID_END, QID_MAX, LEN_0, LEN_1, LEN_3, IOV_UNMAPPED, IOV_NEGATIVE, IOV_KERNEL,
	HEADER_SHORT, HEADER_0, PAYLOAD_SHORT, PAYLOAD_0, REG_FAULTS
};

static const char *const reg_names[] = {
	[QID_END] = "queue id = number of queues",
	[QID_MAX] = "queue id 65535",
	[LEN_0] = "no iovec",
	[LEN_1] = "one iovec",
	[LEN_3] = "three iovecs",
	[IOV_UNMAPPED] = "iovecs at an unmapped address",
	[IOV_NEGATIVE] = "iovec of negative length",
	[IOV_KERNEL] = "iovec at a kernel address",
	[HEADER_SHORT] = "header area of 287 bytes",
	[HEADER_0] = "no header area",
	[PAYLOAD_SHORT] = "payload area one byte short",
	[PAYLOAD_0] = "no payload area",
};

static void spoil(struct ent *e, struct io_uring_sqe *sqe, enum reg_fault fault)
{
	struct proto_ring_command *cmd = (struct proto_ring_command *)sqe->cmd;

	switch (fault) {
	case QID_END:
		cmd->queue = possible_cpus();
		break;
	case QID_MAX:
		cmd->queue = 65535;
		break;
	case LEN_0:
		sqe->len = 0;
		break;
	case LEN_1:
		sqe->len = 1;
		break;
	case LEN_3:
		sqe->len = 3;
		break;
	case IOV_UNMAPPED:
		sqe->addr = 4096;
		break;
	case IOV_NEGATIVE:
		e->iov[1].iov_len = SIZE_MAX;
		break;
	case IOV_KERNEL:
		e->iov[1].iov_base = (void *)(~0ull << 47);
		break;
	case HEADER_SHORT:
		e->iov[0].iov_len = 287;
		break;
	case HEADER_0:
		e->iov[0].iov_len = 0;
		break;
	case PAYLOAD_SHORT:
		e->iov[1].iov_len--;
		break;
	case PAYLOAD_0:
		e->iov[1].iov_len = 0;
		break;
	case REG_FAULTS:
		break;
	}
}

/* Each row on a connection of its own: the first failure ends the ring for good. */
static int register_errors(int argc, char **argv)
{
	struct conn c;
	struct ring r;
	struct ent e;
	int fault;

	(void)argc, (void)argv;
	for (fault = 0; fault <= REG_FAULTS; fault++) {
		start_mounted(&c, &r, NULL);
		ent_setup(&e, &c, &r, 0, payload_size(&c));
		spoil(&e, ent_register(&e), fault);
		say("%s: %s", fault == REG_FAULTS ? "nothing wrong" : reg_names[fault],
		    said(ring_submit_one(&r, &e)));
		end(&c, &r);
	}
	return 0;
}

/* Requests that wait for the ring go over /dev/fuse once it is given up. */
static int register_fallback(int argc, char **argv)
{
	struct client cl[3];
	struct conn c;
	struct ring r;
	struct ent e;
	int i, res;

	(void)argc, (void)argv;
	for (i = 0; i < 3; i++)
		client_start(&cl[i], 0);
	start_mounted(&c, &r, NULL);
	for (i = 0; i < 3; i++) {
		client_do(&cl[i], do_stat, c.mnt, fresh_name(), 0, 0);
		client_blocked(&cl[i]);
	}
	say("ring negotiated, nothing registered: 3 callers wait");
	ent_setup(&e, &c, &r, 0, payload_size(&c));
	spoil(&e, ent_register(&e), PAYLOAD_SHORT);
	say("bad REGISTER: %s", said(ring_submit_one(&r, &e)));
	for (i = 0; i < 3; i++) {
		client_serve(&cl[i], &c, "a waiting caller after the fallback");
		say("caller %d: %s", i, err_name(cl[i].err));
	}
	say("requests over the ring: %u", c.ring_requests);
	res = try_register(&c, &r, 0);
	if (!res && old_ring_kernel())
		res = -EOPNOTSUPP;	/* as in refused() */
	say("good REGISTER: %s", said(res));
	show_path(&c, &cl[0], "then");
	for (i = 0; i < 3; i++)
		client_stop(&cl[i]);
	end(&c, &r);
	return 0;
}

/* A ring that works must not be harmed by one bad REGISTER. */
static int register_late(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	struct ent e;
	int fault;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 2);
	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	q = next_req(&c, "LOOKUP");
	for (fault = 0; fault < REG_FAULTS; fault++) {
		ent_setup(&e, &c, &r, 0, payload_size(&c));
		spoil(&e, ent_register(&e), fault);
		say("%s: %s", reg_names[fault], said(ring_submit_one(&r, &e)));
	}
	answer(q);
	client_serve(&cl, &c, "the reply that was due meanwhile");
	say("the reply that was due meanwhile: %s", err_name(cl.err));
	show_path(&c, &cl, "then");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* ------------------------------------------------------------------ COMMIT */

static int commit_errors(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct ent *e;
	struct req *q;
	uint64_t id;
	int tag, tag2, a, b;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	start_mounted(&c, &r, NULL);
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, 2, &tag);
	say("nothing registered yet: %s", said(ring_submit_one(&r, &tag)));
	conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());

	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, possible_cpus(), 2, &tag);
	say("queue id = number of queues: %s", said(ring_submit_one(&r, &tag)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 65535, 2, &tag);
	say("queue id 65535: %s", said(ring_submit_one(&r, &tag)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, 4242, &tag);
	say("unknown id, no request in flight: %s", said(ring_submit_one(&r, &tag)));

	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	q = next_req(&c, "LOOKUP");
	e = q->e;
	id = e->h->part.commit_id;
	say("commit id %s the request's unique, %s", id == q->h.unique ? "is" : "is not",
	    id && !(id & 1) ? "even and not 0" : "odd or 0");
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, 0, &tag);
	say("id 0: %s", said(ring_submit_one(&r, &tag)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, id + 2, &tag);
	say("next id: %s", said(ring_submit_one(&r, &tag)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, id | 1, &tag);
	say("id with the interrupt bit: %s", said(ring_submit_one(&r, &tag)));
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, id + (1ull << 32), &tag);
	say("id + 2^32: %s", said(ring_submit_one(&r, &tag)));

	/* the entry is still ours: two commits in one batch, one may win */
	{
		struct fuse_out_header h = { .error = -EXDEV, .unique = q->h.unique };
		struct io_uring_cqe *cqe;
		unsigned int head, n = 0;

		memcpy(e->h->in_out, &h, sizeof(h));
		ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, e->qid, id, &tag);
		ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, e->qid, id, &tag2);
		ring_submit(&r);
		a = b = 0;
		io_uring_for_each_cqe(&r.u, head, cqe) {
			if (cqe->user_data == (uintptr_t)&tag)
				a = cqe->res;
			else if (cqe->user_data == (uintptr_t)&tag2)
				b = cqe->res;
			n++;
		}
		io_uring_cq_advance(&r.u, n);
		say("two commits of one id: %s, %s", said(a), said(b));
	}
	client_wait(&cl, "the committed reply");
	say("caller got %s", err_name(cl.err));
	put_req(q);
	/* the held one is not in the table of entries: take its next request by hand */
	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	a = ring_wait_one(&r, &tag, LIMIT * 1000);
	say("next request came to the winner: %s", a == 1 ? "no" : err_name(a));
	id = e->h->part.commit_id;
	e->state = ENT_BUSY;
	{
		struct fuse_out_header h = { .error = -ENXIO, .unique = id };

		memcpy(e->h->in_out, &h, sizeof(h));
		ent_commit(e, e->qid, id);
		ring_submit(&r);
	}
	client_wait(&cl, "the second reply");
	say("caller got %s", err_name(cl.err));
	/* and once more what is done with */
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, id, &tag);
	say("id of an ended request: %s", said(ring_submit_one(&r, &tag)));
	show_path(&c, &cl, "then");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* A request is only found through the queue it came by. */
static int commit_other_queue(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	int tag;

	(void)argc, (void)argv;
	client_start(&cl, 1);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	q = next_req(&c, "LOOKUP");
	say("request of CPU 1 came by queue %u", q->e->qid);
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, 0, q->e->h->part.commit_id, &tag);
	say("committed on queue 0: %s", said(ring_submit_one(&r, &tag)));
	answer(q);
	client_serve(&cl, &c, "the reply on the right queue");
	say("committed on queue 1: %s", err_name(cl.err));
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* -------------------------------------------------- contents of the reply */

static void bad_reply(struct conn *c, struct client *cl, const char *what, int error,
		      uint64_t unique_xor, long payload_sz)
{
	struct req *q;

	client_do(cl, do_stat, c->mnt, fresh_name(), 0, 0);
	q = next_req(c, "LOOKUP");
	if (q->h.opcode != FUSE_LOOKUP || !q->e)
		die("expected LOOKUP over the ring, got %s", op_name(q->h.opcode));
	{
		size_t len;
		struct fuse_entry_out out;

		fs_answer(c, q, &out, sizeof(out), &len);
		memcpy(q->e->pay, &out, len);
		if (payload_sz < 0)
			payload_sz = len;
	}
	reply_raw(q, error, unique_xor == ~0ull ? 0 : q->h.unique ^ unique_xor, payload_sz);
	client_serve(cl, c, what);
	say("%s: %s", what, err_name(cl->err));
}

static int reply_table(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	size_t i;
	static const struct { const char *name; int prot; bool header; } unreadable[] = {
		{ "header area not readable", PROT_NONE, true },
		{ "payload area not readable", PROT_NONE, false },
	};

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 1);
	bad_reply(&c, &cl, "good reply", 0, 0, -1);
	bad_reply(&c, &cl, "error ENOENT", -ENOENT, 0, 0);
	bad_reply(&c, &cl, "error ENOENT, and a payload", -ENOENT, 0, 100);
	bad_reply(&c, &cl, "error ENOENT, and more payload than there is", -ENOENT, 0, 1 << 30);
	bad_reply(&c, &cl, "error -511", -511, 0, 0);
	bad_reply(&c, &cl, "error -512", -512, 0, 0);
	bad_reply(&c, &cl, "error -100000", -100000, 0, 0);
	bad_reply(&c, &cl, "error INT_MIN", INT_MIN, 0, 0);
	bad_reply(&c, &cl, "error 1", 1, 0, 0);
	bad_reply(&c, &cl, "error INT_MAX", INT_MAX, 0, 0);
	bad_reply(&c, &cl, "unique 0", 0, ~0ull, -1);
	bad_reply(&c, &cl, "another unique", 0, 1 << 10, -1);
	bad_reply(&c, &cl, "unique + 2^32", 0, 1ull << 32, -1);
	bad_reply(&c, &cl, "no payload", 0, 0, 0);
	bad_reply(&c, &cl, "payload one byte short", 0, 0, sizeof(struct fuse_entry_out) - 1);
	bad_reply(&c, &cl, "payload one byte long", 0, 0, sizeof(struct fuse_entry_out) + 1);
	bad_reply(&c, &cl, "payload 4 GiB - 1", 0, 0, 0xffffffffl);

	for (i = 0; i < 2; i++) {
		struct ent *e;
		void *area;
		size_t len;
		uint64_t id;

		client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
		q = next_req(&c, "LOOKUP");
		e = q->e;
		id = e->h->part.commit_id;
		area = unreadable[i].header ? (void *)e->h : e->pay;
		len = unreadable[i].header ? sizeof(*e->h) : e->pay_len;
		{
			struct fuse_out_header h = { .unique = q->h.unique };

			memcpy(e->h->in_out, &h, sizeof(h));
			e->h->part.payload_size = sizeof(struct fuse_entry_out);
		}
		put_req(q);
		if (mprotect(area, len, unreadable[i].prot))
			die("mprotect: %s", err_name(errno));
		ent_commit(e, e->qid, id);
		ring_submit(&r);
		client_wait(&cl, "the reply that cannot be read");
		say("%s: %s", unreadable[i].name,
		    cl.err == EFAULT || (!unreadable[i].header && cl.err == EIO) ?
		    "refused" : err_name(cl.err));
		if (mprotect(area, len, PROT_READ | PROT_WRITE))
			die("mprotect: %s", err_name(errno));
	}
	bad_reply(&c, &cl, "good reply", 0, 0, -1);
	/* a short last argument is shortened where the operation allows it */
	client_do(&cl, do_read, c.mnt, "f1", 0, 4096);
	while (!client_done(&cl)) {
		q = try_req(&c, 1);
		if (!q)
			continue;
		if (q->h.opcode == FUSE_READ) {
			memset(q->e->pay, 'x', 4096);
			reply_raw(q, 0, q->h.unique, 100);
		} else {
			answer(q);
		}
	}
	say("short READ: %s, %s", err_name(cl.err),
	    cl.done.ret == 100 ? "100 bytes" : "another length");
	/* past the page cache, which may have an error of its own for it */
	client_do(&cl, do_direct_read, c.mnt, "f1", 0, 4096);
	while (!client_done(&cl)) {
		q = try_req(&c, 1);
		if (!q)
			continue;
		if (q->h.opcode == FUSE_READ)
			reply_raw(q, 0, q->h.unique, ((struct fuse_read_in *)q->op)->size + 1);
		else
			answer(q);
	}
	say("READ with a byte too many: %s", err_name(cl.err));
	wait_idle(&c);
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* A request that cannot be handed over is the caller's loss, not the entry's. */
static int delivery_fault(int argc, char **argv)
{
	struct others others;
	struct client cl[2];
	struct conn c;
	struct ring r;
	struct ent *e;
	struct req *q;
	size_t len;
	void *area;
	int i;

	(void)argc, (void)argv;
	client_start(&cl[0], 0);
	client_start(&cl[1], 0);
	others_start(&others);
	serve_setup(&c, &r, NULL, 1);
	e = &c.ents[0];
	for (i = 0; i < 2; i++) {
		area = i ? (void *)e->h : e->pay;
		len = i ? sizeof(*e->h) : e->pay_len;
		/* directly to an idle entry */
		mprotect(area, len, PROT_NONE);
		client_do(&cl[0], do_stat, c.mnt, fresh_name(), 0, 0);
		client_wait(&cl[0], "a request that cannot be delivered");
		say("%s area not writable: stat: %s", i ? "header" : "payload",
		    err_name(cl[0].err));
		mprotect(area, len, PROT_READ | PROT_WRITE);
		client_do(&cl[0], do_stat, c.mnt, fresh_name(), 0, 0);
		client_serve(&cl[0], &c, "the next request");
		say("the next request: %s", err_name(cl[0].err));
	}
	/* as the next one after a commit */
	client_do(&cl[0], do_stat, c.mnt, fresh_name(), 0, 0);
	q = next_req(&c, "LOOKUP");
	others_hold(&others, &c);
	client_do(&cl[1], do_stat, c.mnt, fresh_name(), 0, 0);
	wait_waiting(&c, 2 + others.n);
	mprotect(e->pay, e->pay_len, PROT_NONE);
	reply_raw(q, -ENXIO, q->h.unique, 0);
	client_wait(&cl[0], "the committed reply");
	client_wait(&cl[1], "the request that cannot be delivered");
	say("queued behind a commit: first %s, second %s", err_name(cl[0].err),
	    err_name(cl[1].err));
	mprotect(e->pay, e->pay_len, PROT_READ | PROT_WRITE);
	others_release(&others, &c);
	show_path(&c, &cl[0], "then");
	wait_idle(&c);
	client_stop(&cl[0]);
	client_stop(&cl[1]);
	end(&c, &r);
	return 0;
}

/* ------------------------------------------------ not found before it is there */

struct early {
	struct conn *c;
	sem_t asked, go;
	unsigned int qid;
	uint64_t first;		/* ids from here on may be the request's */
	int guesses;
	int n, refused, odd;
};

enum { GUESSES = 20 };

/* The copy hangs until it is let go. */
static void hold(void *arg)
{
	struct early *y = arg;

	sem_post(&y->asked);
	sem_wait(&y->go);
}

/* Once it does: commit what the request's id may be. */
static void *commit_early(void *arg)
{
	struct early *y = arg;
	struct timespec limit;
	struct ring r;
	int tag, res;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += LIMIT;
	if (!sem_timedwait(&y->asked, &limit)) {
		ring_open(&r, 8, IORING_SETUP_SQE128);
		for (y->n = 0; y->n < y->guesses; y->n++) {
			ring_cmd(&r, y->c->fd, PROTO_RING_COMMIT_AND_FETCH, y->qid,
				 y->first + 2 * y->n, &tag);
			res = ring_submit_one(&r, &tag);
			y->refused += res == -ENOENT;
			if (res != -ENOENT) {
				y->odd = res;
				break;
			}
		}
	}
	sem_post(&y->go);
	return NULL;
}

static int publish(int argc, char **argv)
{
	static struct slow s;
	struct early y = { .guesses = GUESSES };
	pthread_t early_thread;
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	struct ent *e;

	(void)argc, (void)argv;
	if (old_ring_kernel())
		notrun("stock kernels before 7.3 may lack the fix of CVE-2026-64259");
	client_start(&cl, 0);
	sem_init(&y.asked, 0, 0);
	sem_init(&y.go, 0, 0);
	slow_start(&s, hold, &y);

	conn_mount(&c);
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	c.ents = calloc(possible_cpus(), sizeof(*c.ents));
	c.rings[c.nrings++] = &r;
	e = &c.ents[c.nents++];
	ent_setup(e, &c, &r, 0, payload_size(&c));
	slow_map(&s, e->pay, e->pay_len);
	ent_register(e);
	if (ring_submit_one(&r, e))
		die("REGISTER");
	conn_register(&c, &r, 1, payload_size(&c), 1, possible_cpus());

	y.c = &c;
	y.first = c.init_unique + 2;
	if (pthread_create(&early_thread, NULL, commit_early, &y))
		die("thread");
	client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
	pthread_join(early_thread, NULL);
	say("delivery held in the middle of the copy: %s", y.n || y.refused ? "yes" : "no");
	if (y.n < GUESSES)
		die("a commit before the copy was done: %s", y.odd ? err_name(y.odd) : "taken");
	q = next_req(&c, "LOOKUP, after its delivery was let go");
	say("its id was among those committed then: %s", q->h.unique >= y.first &&
	    q->h.unique < y.first + 2 * GUESSES ? "yes" : "no");
	say("commits refused with ENOENT: %s", y.refused == GUESSES ? "all" : "not all");
	answer(q);
	client_serve(&cl, &c, "stat");
	say("stat, let go: %s", err_name(cl.err));
	show_path(&c, &cl, "then");
	client_stop(&cl);
	slow_end(&s);
	end(&c, &r);
	return 0;
}

/* A second commit of a request while the first one is in the middle of its copy. */
static int commit_twice(int argc, char **argv)
{
	static struct slow s;
	struct early y = { .guesses = 1 };
	pthread_t early_thread;
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	sem_init(&y.asked, 0, 0);
	sem_init(&y.go, 0, 0);
	slow_start(&s, hold, &y);
	start_mounted(&c, &r, NULL);
	conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());

	client_do(&cl, do_direct_read, c.mnt, "f1", 0, 4096);
	while ((q = next_req(&c, "READ"))->h.opcode != FUSE_READ)
		answer(q);
	slow_map(&s, q->e->pay, 4096);
	y.c = &c;
	y.qid = q->e->qid;
	y.first = q->e->h->part.commit_id;
	if (pthread_create(&early_thread, NULL, commit_early, &y))
		die("thread");
	reply_raw(q, 0, q->h.unique, 4096);
	pthread_join(early_thread, NULL);
	say("first commit held in the middle of its copy: %s", y.n || y.odd ? "yes" : "no");
	say("second one meanwhile: %s", y.refused ? "ENOENT" : said(y.odd));
	client_serve(&cl, &c, "read");
	say("read: %s", err_name(cl.err));
	show_path(&c, &cl, "then");
	client_stop(&cl);
	slow_end(&s);
	end(&c, &r);
	return 0;
}

const struct command entry_commands[] = {
	{ "publish", publish, "commit of a request that is still being copied" },
	{ "commit-twice", commit_twice, "two commits of a request at the same time" },
	{ "handshake", handshake, "bit offered, echoed, used" },
	{ "parameter-off", parameter_off, "enable_uring off before or during INIT" },
	{ "parameter-toggle", parameter_toggle, "enable_uring off under a live ring" },
	{ "refused", refused, "bit offered but not echoed" },
	{ "entry-order", entry_order, "checks before any command is looked at" },
	{ "entry-fields", entry_fields, "fields that must be refused or ignored" },
	{ "register-errors", register_errors, "what REGISTER refuses" },
	{ "register-fallback", register_fallback, "failed REGISTER lets callers go on" },
	{ "register-late", register_late, "bad REGISTER on a ready ring" },
	{ "commit-errors", commit_errors, "what COMMIT_AND_FETCH refuses" },
	{ "commit-other-queue", commit_other_queue, "commit with another queue's id" },
	{ "reply-table", reply_table, "bad contents of replies" },
	{ "delivery-fault", delivery_fault, "buffers not writable at delivery" },
	{}
};
