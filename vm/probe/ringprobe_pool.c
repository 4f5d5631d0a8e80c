// SPDX-License-Identifier: GPL-2.0-only
/*
 * ringprobe: pools, memory that the entries of a queue share for their payloads.
 * That a payload is in a slice of its own, and that there is none for a request
 * that needs none, is looked at as requests come in: see find_slice().
 */
#include "ringprobe.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <sys/xattr.h>

enum {
	REST = 1000,		/* bytes of a pool that make no slice */
	OTHER_BUFFER = 0,	/* a registered one that is no pool */
	FIRST_POOL,		/* queue 0's, if it is registered; the others follow */
	BLOCK = 4096,
};

static const char *const kinds[] = { "plain", "registered" };

/* Registered, because it has to be something */
static uint8_t no_pool[BLOCK] __attribute__((aligned(BLOCK)));

/* ---------------------------------------------------------------- commands */

static int at_once(struct ring *r)
{
	int res;

	ring_submit(r);
	res = ring_wait_one(r, r, LIMIT * 1000);
	if (res == 1)
		die("waited %d s in vain for the end of a command", LIMIT);
	return res;
}

static struct proto_ring_command *args(struct io_uring_sqe *sqe)
{
	return (struct proto_ring_command *)sqe->cmd;
}

static int add_queue(struct conn *c, struct ring *r, unsigned int qid, uint64_t flags)
{
	args(ring_cmd(r, c->fd, PROTO_RING_ADD_QUEUE, qid, 0, r))->flags = flags;
	return at_once(r);
}

/* A pool as it should be; what is wrong with it comes then. */
static struct proto_ring_command *pool_cmd(struct conn *c, struct ring *r, unsigned int qid,
					   const struct pool *p)
{
	struct io_uring_sqe *sqe = ring_cmd(r, c->fd, PROTO_RING_ADD_POOL, qid, 0, r);

	args(sqe)->pool_address = (uintptr_t)p->mem;
	args(sqe)->pool_size = p->size;
	if (p->registered)
		with_buffer(sqe, p->index);
	return args(sqe);
}

static int add_pool(struct conn *c, struct ring *r, unsigned int qid, const struct pool *p)
{
	pool_cmd(c, r, qid, p);
	return at_once(r);
}

/* Only our series has the counters, and some other things too. */
static bool is_series(struct conn *c)
{
	return conn_file(c, "requests_uring") >= 0;
}

/* --------------------------------------------------------------- the scene */

static void begin(struct conn *c, struct ring *r, const struct init_opts *o)
{
	conn_mount(c);
	conn_init(c, o);
	if (!c->offered)
		die("the kernel does not offer the ring");
	if (!(c->init.flags2 & POOL_INIT_FLAG2))
		notrun("the kernel has no pools for the ring");
	ring_open(r, 64, IORING_SETUP_SQE128);
}

static void end(struct conn *c, struct ring *r)
{
	wait_idle(c);
	conn_close(c);
	ring_close(r);
}

static struct pool *make_pool(struct conn *c, unsigned int qid, unsigned int slices,
			      bool registered)
{
	struct pool *p;

	if (!c->pools) {
		c->pools = calloc(possible_cpus(), sizeof(*c->pools));
		if (!c->pools)
			die("out of memory");
	}
	p = &c->pools[qid];
	p->slice = payload_size(c);
	p->size = slices * p->slice + REST;
	p->registered = registered;
	p->index = FIRST_POOL + qid;
	p->mem = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		die("out of memory");
	memset(p->mem, FILL, p->size);
	return p;
}

/* All pools there are, with the index that each has in all rings */
static void register_buffers(struct conn *c, struct ring *r)
{
	unsigned int i, n = possible_cpus();
	struct iovec *vec = calloc(FIRST_POOL + n, sizeof(*vec));
	int err;

	if (!vec)
		die("out of memory");
	vec[OTHER_BUFFER] = (struct iovec){ no_pool, sizeof(no_pool) };
	for (i = 0; i < n && c->pools[i].mem; i++)
		vec[FIRST_POOL + i] = (struct iovec){ c->pools[i].mem, c->pools[i].size };
	err = io_uring_register_buffers(&r->u, vec, FIRST_POOL + i);
	if (err)
		die("register buffers: %s", err_name(err));
	free(vec);
}

/* Pools for the first n queues, and no entries yet */
static void add_pools(struct conn *c, struct ring *r, unsigned int n, unsigned int slices,
		      bool registered)
{
	unsigned int qid;
	int err;

	for (qid = 0; qid < n; qid++)
		make_pool(c, qid, slices, registered);
	if (registered)
		register_buffers(c, r);
	for (qid = 0; qid < n; qid++) {
		err = add_queue(c, r, qid, 0);
		if (!err)
			err = add_pool(c, r, qid, &c->pools[qid]);
		if (err)
			die("pool of queue %u: %s", qid, err_name(err));
	}
}

static void start(struct conn *c, struct ring *r)
{
	int err;

	ring_cmd(r, c->fd, PROTO_RING_START, 0, 0, r);
	err = at_once(r);
	if (err)
		die("START: %s", err_name(err));
}

/* A server with the first queue alone, or the first few. Files are read past the cache. */
static void begin_few(struct conn *c, struct ring *r, unsigned int queues, unsigned int slices,
		      unsigned int depth, bool registered)
{
	begin(c, r, NULL);
	/* with room for more */
	c->ents = calloc(2 * queues * depth, sizeof(*c->ents));
	if (!c->ents)
		die("out of memory");
	add_pools(c, r, queues, slices, registered);
	conn_register(c, r, depth, 0, 0, queues);
	start(c, r);
	c->open_flags = FOPEN_DIRECT_IO;
}

/* Whether the kernel has kept to the slices */
static bool rest_untouched(struct conn *c)
{
	unsigned int qid, i;

	for (qid = 0; qid < possible_cpus(); qid++)
		for (i = 0; i < REST && c->pools[qid].mem; i++)
			if (c->pools[qid].mem[c->pools[qid].size - REST + i] != FILL)
				return false;
	return true;
}

static unsigned int most_slices(struct conn *c)
{
	unsigned int qid, n = 0;

	for (qid = 0; qid < possible_cpus(); qid++)
		n += c->pools[qid].most;
	return n;
}

/* Callers that have a file open: what they do next is one request. */
static void open_files(struct client *cl, unsigned int n, struct conn *c)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		client_do(&cl[i], do_hold_open, c->mnt, "f1", 0, 0);
		client_serve(&cl[i], c, "open");
		if (cl[i].err)
			die("open: %s", err_name(cl[i].err));
	}
	wait_idle(c);
}

static void close_files(struct client *cl, unsigned int n, struct conn *c)
{
	unsigned int i;

	for (i = 0; i < n; i++) {
		client_do(&cl[i], do_close, c->mnt, "f1", 0, 0);
		client_serve(&cl[i], c, "close");
	}
	wait_idle(c);
}

/* A file is closed, by a killed caller perhaps: what comes of that needs no slice. */
static void take_close(struct conn *c)
{
	unsigned int opcode;
	struct req *q;

	do {
		q = next_req(c, "FLUSH and RELEASE");
		opcode = q->h.opcode;
		if (opcode != FUSE_FLUSH && opcode != FUSE_RELEASE)
			die("%s instead", op_name(opcode));
		answer(q);
	} while (opcode != FUSE_RELEASE);
}

/* The nth block by the nth caller; the request is not taken in. */
static void send_read(struct client *cl, unsigned int n, struct conn *c)
{
	client_do(&cl[n], do_held_read, c->mnt, "f1", n * BLOCK, BLOCK);
}

static struct req *next_read(struct conn *c, unsigned int n, const char *what)
{
	struct req *q = next_req(c, what);

	if (q->h.opcode != FUSE_READ || !q->e)
		die("%s: %s over %s", what, op_name(q->h.opcode), q->e ? "the ring" : "/dev/fuse");
	if (((const struct fuse_read_in *)q->op)->offset != n * BLOCK)
		die("%s: another one, at %llu", what,
		    (unsigned long long)((const struct fuse_read_in *)q->op)->offset);
	return q;
}

static bool read_right(struct client *cl, unsigned int n, struct conn *c)
{
	uint8_t want[BLOCK];

	client_serve(&cl[n], c, "a reader");
	fill_pattern(want, sizeof(want), n * BLOCK);
	return !cl[n].err && cl[n].done.ret == BLOCK &&
	       cl[n].done.sum == checksum(want, BLOCK);
}

static const char *waits(struct conn *c)
{
	struct req *q = try_req(c, QUIET_MS);

	return q ? op_name(q->h.opcode) : "nothing comes";
}

/* That there is one slice, neither more nor less: callers 0 and 1 read at once. */
static void show_one_slice(struct client *cl, struct conn *c)
{
	struct req *q;
	bool right;

	wait_idle(c);
	send_read(cl, 0, c);
	q = next_read(c, 0, "a READ, with the slice back");
	send_read(cl, 1, c);
	wait_waiting(c, 2);
	say("    a READ comes, and while it is held another one: %s", waits(c));
	answer(q);
	answer(next_read(c, 1, "the other READ"));
	right = read_right(cl, 0, c);
	say("    data right: %s", read_right(cl, 1, c) && right ? "yes" : "no");
}

/* For checks of other servers: ends the check if there are none. */
static int pool_offered(int argc, char **argv)
{
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	begin(&c, &r, NULL);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ------------------------------------------------------------------ errors */

static int pool_errors(int argc, char **argv)
{
	unsigned int n = possible_cpus();
	struct ring r, small;
	struct conn c;
	struct client cl;
	struct pool *p;
	int res;

	(void)argc, (void)argv;
	client_start(&cl, 0);

	/* what holds for all commands */
	begin(&c, &r, &(struct init_opts){ .no_ring = true });
	p = make_pool(&c, 0, 2, false);
	res = add_queue(&c, &r, 0, 0);
	say("ring not asked for: ADD_QUEUE: %s", err_name(res == -EINVAL ? -EOPNOTSUPP : res));
	res = add_pool(&c, &r, 0, p);
	say("ring not asked for: ADD_BUFPOOL: %s", err_name(res == -EINVAL ? -EOPNOTSUPP : res));
	end(&c, &r);
	conn_open(&c);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	p = make_pool(&c, 0, 2, false);
	res = add_queue(&c, &r, 0, 0);
	say("descriptor not mounted: ADD_QUEUE: %s", err_name(res));
	say("descriptor not mounted: ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	conn_close(&c);
	ring_close(&r);
	conn_mount(&c);
	ring_open(&r, 8, IORING_SETUP_SQE128);
	p = make_pool(&c, 0, 2, false);
	say("INIT not answered: ADD_QUEUE: %s", err_name(add_queue(&c, &r, 0, 0)));
	say("INIT not answered: ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	conn_init(&c, NULL);
	ring_open(&small, 8, 0);
	ring_cmd(&small, c.fd, PROTO_RING_ADD_QUEUE, 0, 0, &small);
	say("64-byte submission entries: ADD_QUEUE: %s", err_name(at_once(&small)));
	ring_cmd(&small, c.fd, PROTO_RING_ADD_POOL, 0, 0, &small);
	say("64-byte submission entries: ADD_BUFPOOL: %s", err_name(at_once(&small)));
	ring_close(&small);
	conn_abort(&c);
	say("aborted: ADD_QUEUE: %s", err_name(add_queue(&c, &r, 0, 0)));
	say("aborted: ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	conn_close(&c);
	ring_close(&r);

	/* in order: each with what comes later in it being wrong too, where it can be */
	begin(&c, &r, NULL);
	p = make_pool(&c, 0, 2, false);
	say("ADD_QUEUE, id = number of queues: %s", err_name(add_queue(&c, &r, n, 0)));
	say("ADD_QUEUE, id 65535: %s", err_name(add_queue(&c, &r, 65535, 0)));
	say("ADD_QUEUE, unknown flag: %s", err_name(add_queue(&c, &r, 0, 1ull << 63)));
	say("ADD_QUEUE, all flags: %s", err_name(add_queue(&c, &r, 0, ~0ull)));
	/* zero copies: newer kernels have them */
	say("ADD_QUEUE, flag 0: %s",
	    err_name(is_series(&c) ? add_queue(&c, &r, 0, 1) : -EINVAL));
	say("ADD_BUFPOOL, no such queue: %s", err_name(add_pool(&c, &r, 0, p)));
	say("ADD_QUEUE: %s", err_name(add_queue(&c, &r, 0, 0)));
	say("ADD_QUEUE again: %s", err_name(add_queue(&c, &r, 0, 0)));
	say("ADD_QUEUE again, unknown flag: %s", err_name(add_queue(&c, &r, 0, 1ull << 63)));
	say("ADD_BUFPOOL, id = number of queues: %s", err_name(add_pool(&c, &r, n, p)));
	say("ADD_BUFPOOL, id 65535: %s", err_name(add_pool(&c, &r, 65535, p)));
	pool_cmd(&c, &r, 0, p)->flags = 1;
	say("ADD_BUFPOOL, flag 0: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->flags = 1ull << 63;
	say("ADD_BUFPOOL, flag 63: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->reserved = 1;
	say("ADD_BUFPOOL, reserved word set: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->reserved = 1u << 31;
	say("ADD_BUFPOOL, its last bit set: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->pool_size = 0;
	say("ADD_BUFPOOL, no bytes: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->pool_size = p->slice - 1;
	say("ADD_BUFPOOL, a byte too small: %s", err_name(at_once(&r)));
	{
		struct proto_ring_command *cmd = pool_cmd(&c, &r, 0, p);

		cmd->pool_address = ~0ull << 47;
		cmd->pool_size = p->slice - 1;
	}
	say("ADD_BUFPOOL, a byte too small, address of the kernel: %s", err_name(at_once(&r)));
	pool_cmd(&c, &r, 0, p)->pool_address = ~0ull << 47;
	res = at_once(&r);
	/* newer kernels take it, and see what it is when they use it */
	if (!is_series(&c) && !res)
		res = -EFAULT;
	say("ADD_BUFPOOL, address of the kernel: %s", err_name(res));
	if (is_series(&c)) {
		struct proto_ring_command *cmd = pool_cmd(&c, &r, 0, p);

		cmd->pool_address = (1ull << 47) - p->slice;
		cmd->pool_size = UINT32_MAX;
		say("ADD_BUFPOOL, end beyond the process's memory: %s", err_name(at_once(&r)));
		say("ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	} else {
		/* has one now; a connection that has not */
		say("ADD_BUFPOOL, end beyond the process's memory: EFAULT");
		conn_close(&c);
		ring_close(&r);
		begin(&c, &r, NULL);
		p = make_pool(&c, 0, 2, false);
		add_queue(&c, &r, 0, 0);
		say("ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	}
	say("ADD_BUFPOOL again: %s", err_name(add_pool(&c, &r, 0, p)));
	pool_cmd(&c, &r, 0, p)->pool_address = ~0ull << 47;
	say("ADD_BUFPOOL again, address of the kernel: %s", err_name(at_once(&r)));
	say("ADD_QUEUE again: %s", err_name(add_queue(&c, &r, 0, 0)));

	/* a queue alone is no ring: it takes an entry each */
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_blocked(&cl);
	say("a caller before there are entries: %s", waits(&c));
	conn_register(&c, &r, 2, payload_size(&c), 0, n);
	client_serve(&cl, &c, "the caller that waited for the ring");
	say("entries in all queues: the caller: %s, over %s", err_name(cl.err),
	    c.ring_requests && !c.dev_ordinary ? "the ring" : "another way");
	say("ADD_BUFPOOL with entries: %s", err_name(add_pool(&c, &r, 0, p)));
	say("ADD_QUEUE with entries: %s", err_name(add_queue(&c, &r, n - 1, 0)));
	say("ADD_QUEUE, unknown flag, with entries: %s",
	    err_name(add_queue(&c, &r, n - 1, 1ull << 63)));
	show_path(&c, &cl, "then");
	end(&c, &r);

	/* REGISTER makes queues too, which are not to have a pool then */
	begin(&c, &r, NULL);
	conn_register(&c, &r, 2, payload_size(&c), 0, 1);
	p = make_pool(&c, 0, 2, false);
	say("after REGISTER: ADD_QUEUE: %s", err_name(add_queue(&c, &r, 0, 0)));
	say("after REGISTER: ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	if (n > 1)
		conn_register(&c, &r, 2, payload_size(&c), 1, n);
	show_path(&c, &cl, "then");
	say("all queues there: ADD_BUFPOOL: %s", err_name(add_pool(&c, &r, 0, p)));
	show_path(&c, &cl, "then");
	end(&c, &r);

	/* a pool that was refused: the queue takes entries with buffers */
	begin(&c, &r, NULL);
	p = make_pool(&c, 0, 2, false);
	add_queue(&c, &r, 0, 0);
	pool_cmd(&c, &r, 0, p)->reserved = 1;
	say("refused: %s", err_name(at_once(&r)));
	munmap(p->mem, p->size);
	p->mem = NULL;
	conn_register(&c, &r, 2, payload_size(&c), 0, n);
	show_path(&c, &cl, "entries with buffers of their own");
	client_stop(&cl);
	end(&c, &r);
	return 0;
}

/* ---------------------------------------------- what comes with each command */

enum reg_fault {
	PAYLOAD, PAYLOAD_ADDRESS, PAYLOAD_SIZE, PLAIN_FAULTS,
	NOT_FIXED = PLAIN_FAULTS, OTHER_INDEX, NO_INDEX, REG_FAULTS
};

static const char *const reg_names[] = {
	[PAYLOAD] = "a payload area",
	[PAYLOAD_ADDRESS] = "a payload area of no bytes",
	[PAYLOAD_SIZE] = "a payload area at no address",
	[NOT_FIXED] = "without the buffer",
	[OTHER_INDEX] = "with another buffer",
	[NO_INDEX] = "with a buffer that is not there",
};

static void spoil(struct ent *e, struct io_uring_sqe *sqe, enum reg_fault fault)
{
	switch (fault) {
	case PAYLOAD:
		e->iov[1] = (struct iovec){ e->pool->mem, e->pool->slice };
		break;
	case PAYLOAD_ADDRESS:
		e->iov[1].iov_base = e->pool->mem;
		break;
	case PAYLOAD_SIZE:
		e->iov[1].iov_len = e->pool->slice;
		break;
	case NOT_FIXED:
		sqe->uring_cmd_flags = 0;
		break;
	case OTHER_INDEX:
		sqe->buf_index = OTHER_BUFFER;
		break;
	case NO_INDEX:
		sqe->buf_index = 1000;
		break;
	case REG_FAULTS:
		break;
	}
}

/* io_uring itself looks for the buffer, when it likes */
static const char *refusal(int res, enum reg_fault fault)
{
	if (!res)
		return "held";
	return err_name(fault == NO_INDEX && res == -EFAULT ? -EINVAL : res);
}

static int bad_register(struct conn *c, struct ring *r, enum reg_fault fault)
{
	struct ent *e = calloc(1, sizeof(*e));

	if (!e)
		die("out of memory");
	ent_setup(e, c, r, 0, 0);
	spoil(e, ent_register(e), fault);
	return ring_submit_one(r, e);
}

static int pool_register(int argc, char **argv)
{
	unsigned int n = possible_cpus(), kind;
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;
	struct ent *e;
	uint64_t id;
	int fault, tag;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	for (kind = 0; kind < 2; kind++) {
		int faults = kind ? REG_FAULTS : PLAIN_FAULTS;

		/* the first one ends the ring: each on a connection of its own */
		for (fault = 0; fault < faults; fault++) {
			begin(&c, &r, NULL);
			add_pools(&c, &r, n, 2, kind);
			say("%s, first REGISTER %s: %s", kinds[kind], reg_names[fault],
			    refusal(bad_register(&c, &r, fault), fault));
			/* what io_uring has refused has never come to us */
			if (fault == NO_INDEX)
				conn_register(&c, &r, 1, 0, 0, n);
			show_path(&c, &cl, "    then");
			end(&c, &r);
		}

		begin(&c, &r, NULL);
		add_pools(&c, &r, n, 2, kind);
		conn_register(&c, &r, 2, 0, 0, n);
		client_do(&cl, do_stat, c.mnt, fresh_name(), 0, 0);
		q = next_req(&c, "LOOKUP");
		for (fault = 0; fault < faults; fault++)
			say("%s, REGISTER %s, ring ready: %s", kinds[kind], reg_names[fault],
			    refusal(bad_register(&c, &r, fault), fault));
		e = q->e;
		id = e->h->part.commit_id;
		for (fault = NOT_FIXED; fault < faults; fault++) {
			struct fuse_out_header h = { .unique = q->h.unique, .error = -EXDEV };

			/* if it were taken, the caller would get to know */
			memcpy(e->h->in_out, &h, sizeof(h));
			spoil(e, ent_commit(e, e->qid, id), fault);
			say("%s, COMMIT %s: %s", kinds[kind], reg_names[fault],
			    refusal(ring_submit_one(&r, e), fault));
		}
		e->state = ENT_BUSY;
		if (kind) {
			with_buffer(ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, e->qid,
					     id + 2, &tag), e->pool->index);
			say("%s, COMMIT of another id: %s", kinds[kind],
			    refusal(ring_submit_one(&r, &tag), REG_FAULTS));
		}
		say("%s, the caller of the request meanwhile: %s", kinds[kind],
		    client_done(&cl) ? "has an answer" : "waits");
		answer(q);
		client_serve(&cl, &c, "the reply that was due meanwhile");
		say("%s, committed as it should be: %s", kinds[kind], err_name(cl.err));
		show_path(&c, &cl, "    then");
		end(&c, &r);
	}
	client_stop(&cl);
	return 0;
}

/* -------------------------------------------------------------------- data */

static int do_setxattr(struct job *j)
{
	uint8_t *value = malloc(j->a);
	int err;

	if (!value)
		return ENOMEM;
	fill_pattern(value, j->a, j->b);
	err = setxattr(j->path, "user.name", value, j->a, 0) ? errno : 0;
	free(value);
	return err;
}

static int do_getxattr(struct job *j)
{
	uint8_t *value = malloc(j->a);
	int err;

	if (!value)
		return ENOMEM;
	j->ret = getxattr(j->path, "user.name", value, j->a);
	err = j->ret < 0 ? errno : 0;
	if (!err)
		j->sum = checksum(value, j->ret);
	free(value);
	return err;
}

/* A value goes one way or the other; names are in the payload as well. */
static bool xattr_right(struct conn *c, struct client *cl, bool set, size_t size)
{
	static const char name[] = "user.name";
	uint8_t *value = malloc(size);
	unsigned int seen = 0;
	bool right = true;
	struct req *q;

	if (!value)
		die("out of memory");
	fill_pattern(value, size, 3 + size);
	client_do(cl, set ? do_setxattr : do_getxattr, c->mnt, "f1", size, 3 + size);
	watch_client(cl);
	while (!client_done(cl)) {
		q = try_req(c, 100);
		if (!q)
			continue;
		if (q->h.opcode == FUSE_SETXATTR) {
			seen++;
			right &= q->pay_len == sizeof(name) + size &&
				 !memcmp(q->pay, name, sizeof(name)) &&
				 !memcmp(q->pay + sizeof(name), value, size);
			reply(q, 0, NULL, 0);
		} else if (q->h.opcode == FUSE_GETXATTR && !strcmp((const char *)q->pay, name)) {
			seen++;
			right &= q->pay_len == sizeof(name);
			reply(q, 0, value, size);
		} else {
			answer(q);
		}
	}
	watch_client(NULL);
	right &= seen && !cl->err;
	if (!set)
		right &= cl->done.ret == (long)size && cl->done.sum == checksum(value, size);
	free(value);
	return right;
}

static bool write_right(struct conn *c, struct client *cl, size_t at, size_t size)
{
	uint8_t *want = malloc(size);
	bool right;

	if (!want)
		die("out of memory");
	fill_pattern(want, size, at + 1);
	client_do(cl, do_write, c->mnt, "f1", at, size);
	client_serve(cl, c, "a write");
	right = !cl->err && cl->done.ret == (long)size && !memcmp(c->data + at, want, size);
	client_do(cl, do_direct_read, c->mnt, "f1", at, size);
	client_serve(cl, c, "a read");
	right &= !cl->err && cl->done.ret == (long)size &&
		 cl->done.sum == checksum(want, size);
	free(want);
	return right;
}

/*
 * As many READs at once as there are slices, answered from the last one on. Before the
 * last slice is taken a further caller closes its file, which needs none.
 */
static void all_slices(struct conn *c, struct client *cl, unsigned int n)
{
	struct client *closer = &cl[n];
	struct req **q = calloc(n, sizeof(struct req *));
	unsigned int i, right = 0;
	uint8_t want[BLOCK];

	if (!q)
		die("out of memory");
	for (i = 0; i < n - 1; i++)
		send_read(cl, i, c);
	for (i = 0; i < n; i++) {
		if (i == n - 1) {
			client_do(closer, do_close, c->mnt, "f1", 0, 0);
			take_close(c);
			client_wait(closer, "close");
			send_read(cl, i, c);
		}
		q[i] = next_req(c, "a READ for each slice");
		if (q[i]->h.opcode != FUSE_READ)
			die("%s among the READs", op_name(q[i]->h.opcode));
	}
	say("    READs held at once: as many as slices; slices in use: %s",
	    most_slices(c) == n ? "all" : "not all");
	while (i--)
		answer(q[i]);
	for (i = 0; i < n; i++) {
		client_serve(&cl[i], c, "a reader");
		/* f1 has been written by now */
		memcpy(want, c->data + i * BLOCK, BLOCK);
		right += !cl[i].err && cl[i].done.ret == BLOCK &&
			 cl[i].done.sum == checksum(want, BLOCK);
	}
	say("    each with its own data: %s", right == n ? "yes" : "no");
	free(q);
}

static void show_data(struct conn *c, struct client *cl)
{
	static const size_t sizes[] = { 1, 4096, 100000 };
	static const size_t values[] = { 1, 4000, 60000 };
	size_t i;

	/* not to be made while requests are looked at */
	client_do(cl, do_direct_read, c->mnt, "f1", 0, 1);
	client_serve(cl, c, "a read");
	for (i = 0; i < 3; i++)
		say("    written and read, %zu bytes: %s", sizes[i],
		    write_right(c, cl, 1 + i * 5000, sizes[i]) ? "right" : "wrong");
	for (i = 0; i < 3 && values[i] < payload_size(c) - 100; i++)
		say("    extended attribute set and got, %zu bytes: %s", values[i],
		    xattr_right(c, cl, true, values[i]) &&
		    xattr_right(c, cl, false, values[i]) ? "right" : "wrong");
}

static int pool_data(int argc, char **argv)
{
	enum { SLICES = 3, DEPTH = 4 };
	static const struct init_opts opts[] = {
		{},
		/* slices that begin and end anywhere in a page */
		{ .max_write = 20001, .max_pages = 2 },
	};
	unsigned int cpus = online_cpus(), n = possible_cpus(), kind, i, o;
	unsigned int clients = SLICES * cpus + 1;
	struct client *cl = calloc(clients, sizeof(*cl));
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	if (!cl)
		die("out of memory");
	/* the last one on the CPU of the one before */
	for (i = 0; i < clients; i++)
		client_start(&cl[i], online_cpu((i < clients - 1 ? i : i - 1) / SLICES));
	for (kind = 0; kind < 2; kind++)
		for (o = 0; o < 2; o++) {
			begin(&c, &r, &opts[o]);
			add_pools(&c, &r, n, SLICES, kind);
			conn_register(&c, &r, DEPTH, 0, 0, n);
			say("%s, slices of %zu bytes", kinds[kind], payload_size(&c));
			show_data(&c, cl);
			c.open_flags = FOPEN_DIRECT_IO;
			open_files(cl, clients, &c);
			all_slices(&c, cl, SLICES * cpus);
			close_files(cl, SLICES * cpus, &c);
			say("    the rest of the pools untouched: %s, all over the ring: %s",
			    rest_untouched(&c) ? "yes" : "no",
			    c.ring_requests && !c.dev_ordinary ? "yes" : "no");
			end(&c, &r);
		}
	for (i = 0; i < clients; i++)
		client_stop(&cl[i]);
	free(cl);
	return 0;
}

/* Flags of the io_uring, or of each command, under which the same must work. */
static int pool_ways(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned int setup;
		bool async, fixed_file;
	} ways[] = {
		{ "every command punted to a worker", 0, true, false },
		{ "registered file", 0, false, true },
		{ "single issuer, deferred task work", IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN, false, false },
		{ "cooperative task work", IORING_SETUP_COOP_TASKRUN, false, false },
		{ "submission polled by a kernel thread", IORING_SETUP_SQPOLL, false, false },
	};
	unsigned int n = possible_cpus(), kind;
	struct client cl;
	struct conn c;
	struct ring r;
	size_t i;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		for (kind = 0; kind < 2; kind++) {
			begin(&c, &r, NULL);
			ring_close(&r);
			ring_open(&r, 64, IORING_SETUP_SQE128 | ways[i].setup);
			r.fixed_file = ways[i].fixed_file;
			if (r.fixed_file && io_uring_register_files(&r.u, &c.fd, 1))
				die("register file");
			add_pools(&c, &r, n, 2, kind);
			r.async = ways[i].async;
			conn_register(&c, &r, 3, 0, 0, n);
			say("%s, %s", ways[i].name, kinds[kind]);
			show_data(&c, &cl);
			say("    all over the ring: %s",
			    c.ring_requests && !c.dev_ordinary ? "yes" : "no");
			end(&c, &r);
		}
	client_stop(&cl);
	return 0;
}

/* ---------------------------------------------------------------- shortage */

/* One slice and three entries */
static int pool_shortage(int argc, char **argv)
{
	enum { READERS = 3, KILLED = READERS, CLOSER = KILLED + 2, CLIENTS };
	struct client cl[CLIENTS];
	struct req *q, *first;
	unsigned int kind, i;
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	for (i = 0; i < CLIENTS; i++)
		client_start(&cl[i], -1);
	for (kind = 0; kind < 2; kind++) {
		unsigned int killed = KILLED + kind;	/* one for each time */

		begin_few(&c, &r, 1, 1, 3, kind);
		open_files(cl, READERS, &c);
		open_files(&cl[killed], 1, &c);
		open_files(&cl[CLOSER], 1, &c);
		say("%s: a slice, three entries", kinds[kind]);
		send_read(cl, 0, &c);
		first = next_read(&c, 0, "the first READ");
		send_read(cl, 1, &c);
		wait_waiting(&c, 2);
		say("    a READ is held, another one is sent: %s", waits(&c));
		send_read(cl, 2, &c);
		wait_waiting(&c, 3);
		client_do(&cl[CLOSER], do_close, c.mnt, "f1", 0, 0);
		q = next_req(&c, "what needs no slice");
		say("    what needs no slice goes by: %s over %s", op_name(q->h.opcode),
		    q->e ? "the ring" : "/dev/fuse");
		answer(q);
		client_wait(&cl[CLOSER], "close");
		q = next_req(&c, "RELEASE");
		say("    and %s", op_name(q->h.opcode));
		answer(q);
		say("    then: %s", waits(&c));
		answer(first);
		q = next_read(&c, 1, "the READ that waited longest");
		say("    the first READ is answered: the second comes, then: %s", waits(&c));
		answer(q);
		answer(next_read(&c, 2, "the last READ"));
		for (i = 0; i < READERS; i++)
			if (!read_right(cl, i, &c))
				die("reader %u got %s, or wrong data", i, err_name(cl[i].err));
		say("    all data right");

		/* what waits for a slice can be killed, and nobody misses it */
		send_read(cl, 0, &c);
		first = next_read(&c, 0, "a READ");
		client_do(&cl[killed], do_held_read, c.mnt, "f1", 77 * BLOCK, BLOCK);
		wait_waiting(&c, 2);
		send_read(cl, 1, &c);
		wait_waiting(&c, 3);
		kill(cl[killed].pid, SIGKILL);
		take_close(&c);
		client_wait(&cl[killed], "the killed caller, whose request waits for a slice");
		say("    killed while it waits for a slice: %s",
		    cl[killed].err == -1 ? "returns" : err_name(cl[killed].err));
		wait_waiting(&c, 2);
		answer(first);
		answer(next_read(&c, 1, "the READ behind the killed one"));
		say("    the next one comes: %s",
		    read_right(cl, 1, &c) && read_right(cl, 0, &c) ? "right" : "wrong");
		show_one_slice(cl, &c);
		close_files(cl, READERS, &c);
		say("    slices in use at once: %u", most_slices(&c));
		end(&c, &r);
	}
	for (i = 0; i < CLIENTS; i++)
		client_stop(&cl[i]);
	return 0;
}

static const char *abort_name(int err)
{
	return err == ECONNABORTED || err == ENOTCONN ? "aborted" : err_name(err);
}

static int pool_abort(int argc, char **argv)
{
	enum { READERS = 4 };
	struct client cl[READERS];
	unsigned int kind, i;
	struct conn c;
	struct ring r;
	uint64_t limit;

	(void)argc, (void)argv;
	for (i = 0; i < READERS; i++)
		client_start(&cl[i], -1);
	for (kind = 0; kind < 2; kind++) {
		begin_few(&c, &r, 1, 1, 3, kind);
		open_files(cl, READERS, &c);
		for (i = 0; i < READERS; i++)
			send_read(cl, i, &c);
		wait_waiting(&c, READERS);
		if (next_req(&c, "a READ")->h.opcode != FUSE_READ)
			die("not a READ");
		say("%s: a READ is held, others wait: %s", kinds[kind], waits(&c));
		conn_abort(&c);
		for (i = 0; i < READERS; i++) {
			client_wait(&cl[i], "a reader after the abort");
			say("    reader: %s", abort_name(cl[i].err));
			client_do(&cl[i], do_close, c.mnt, "f1", 0, 0);
			client_wait(&cl[i], "close after the abort");
		}
		say("    unmount: %s", err_name(conn_umount(&c, 0)));
		limit = now_ms() + LIMIT * 1000;
		while (conn_listed(c.number) && now_ms() < limit)
			nap_ms(5);
		say("    connection listed under fusectl: %s", conn_listed(c.number) ? "yes" : "no");
		conn_close(&c);
		ring_close(&r);
	}
	for (i = 0; i < READERS; i++)
		client_stop(&cl[i]);
	return 0;
}

/* ------------------------------------------------------ slices that come back */

/* A thread that has an entry and does not look at what it gets */
struct keeper {
	struct conn *c;
	unsigned int qid;
	pthread_t thread;
	pthread_barrier_t filled, leave;
};

static void *keep_entry(void *arg)
{
	struct keeper *k = arg;
	struct ring r;
	struct ent e;

	/* task work only when this thread asks for it, and it does not */
	ring_open(&r, 64, IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN);
	ent_setup(&e, k->c, &r, k->qid, 0);
	if (e.pool->registered)
		register_buffers(k->c, &r);
	ent_register(&e);
	if (ring_submit_one(&r, &e))
		die("REGISTER by a thread");
	pthread_barrier_wait(&k->filled);
	pthread_barrier_wait(&k->leave);
	ring_close(&r);
	munmap(e.h, sizeof(*e.h));
	return NULL;
}

static void keeper_start(struct keeper *k, struct conn *c, unsigned int qid)
{
	k->c = c;
	k->qid = qid;
	pthread_barrier_init(&k->filled, NULL, 2);
	pthread_barrier_init(&k->leave, NULL, 2);
	if (pthread_create(&k->thread, NULL, keep_entry, k))
		die("cannot make a thread");
	pthread_barrier_wait(&k->filled);
}

static void keeper_leave(struct keeper *k)
{
	pthread_barrier_wait(&k->leave);
	pthread_join(k->thread, NULL);
	pthread_barrier_destroy(&k->filled);
	pthread_barrier_destroy(&k->leave);
}

/* Entries that end when a request, and a slice for it, is on its way to them */
static int pool_cancel(int argc, char **argv)
{
	enum { CLIENTS = 4, CLOSER = 3 };
	struct client cl[CLIENTS];
	unsigned int kind, i;
	struct keeper k;
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	for (i = 0; i < CLIENTS; i++)
		client_start(&cl[i], -1);
	for (kind = 0; kind < 2; kind++) {
		begin_few(&c, &r, 1, 1, 2, kind);
		open_files(cl, CLIENTS, &c);
		say("%s: an idle entry ends", kinds[kind]);
		keeper_start(&k, &c, 0);
		keeper_leave(&k);
		show_one_slice(cl, &c);

		/* the entry that came last is used first */
		keeper_start(&k, &c, 0);
		send_read(cl, 0, &c);
		wait_waiting(&c, 1);
		send_read(cl, 1, &c);
		wait_waiting(&c, 2);
		say("%s: an entry has a slice and does not run: %s", kinds[kind], waits(&c));
		client_do(&cl[CLOSER], do_close, c.mnt, "f1", 0, 0);
		q = next_req(&c, "what needs no slice");
		say("    what needs none: %s", op_name(q->h.opcode));
		answer(q);
		client_wait(&cl[CLOSER], "close");
		answer(next_req(&c, "RELEASE"));
		keeper_leave(&k);
		q = next_read(&c, 0, "the READ whose entry has ended");
		say("    the entry ends: its READ comes through another, then: %s", waits(&c));
		answer(q);
		answer(next_read(&c, 1, "the other READ"));
		say("    data: %s", read_right(cl, 0, &c) && read_right(cl, 1, &c) ?
		    "right" : "wrong");
		show_one_slice(cl, &c);
		close_files(cl, CLOSER, &c);
		end(&c, &r);
	}
	for (i = 0; i < CLIENTS; i++)
		client_stop(&cl[i]);
	return 0;
}

static void stat_fails(struct conn *c, struct client *cl, const char *what)
{
	int err[3];
	size_t i;

	for (i = 0; i < 3; i++) {
		client_do(cl, do_stat, c->mnt, fresh_name(), 0, 0);
		client_wait(cl, "a request that cannot be delivered");
		err[i] = cl->err;
	}
	say("%s: %s, %s, %s", what, err_name(err[0]), err_name(err[1]), err_name(err[2]));
}

static void protect_headers(struct conn *c, int prot)
{
	unsigned int i;

	for (i = 0; i < c->nents; i++)
		if (mprotect(c->ents[i].h, sizeof(*c->ents[i].h), prot))
			die("mprotect: %s", err_name(errno));
}

/* Requests that cannot be handed over, or replies that cannot be read */
static int pool_fault(int argc, char **argv)
{
	enum { READERS = 2, CLOSER = READERS, TESTER, CLIENTS };
	struct client cl[CLIENTS];
	unsigned int kind, i;
	struct pool *p;
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	for (i = 0; i < CLIENTS; i++)
		client_start(&cl[i], -1);
	for (kind = 0; kind < 2; kind++) {
		begin_few(&c, &r, 1, 1, 2, kind);
		p = &c.pools[0];
		open_files(cl, READERS + 1, &c);
		protect_headers(&c, PROT_NONE);
		say("%s", kinds[kind]);
		stat_fails(&c, &cl[TESTER], "    headers not there: stat");
		protect_headers(&c, PROT_READ | PROT_WRITE);
		show_one_slice(cl, &c);

		/* the next one fails as it takes over the slice of the one before */
		send_read(cl, 0, &c);
		q = next_read(&c, 0, "a READ");
		client_do(&cl[TESTER], do_stat, c.mnt, fresh_name(), 0, 0);
		wait_waiting(&c, 2);
		say("    a READ is held, a LOOKUP: %s", waits(&c));
		if (kind) {
			/* not by the memory: that is known by its pages, not by its address */
			reply_raw(q, -ENXIO, q->h.unique, 0);
			answer(next_req(&c, "LOOKUP"));
		} else {
			mprotect(p->mem, p->size, PROT_NONE);
			reply_raw(q, -ENXIO, q->h.unique, 0);
		}
		client_serve(&cl[TESTER], &c, "stat");
		client_wait(&cl[0], "read");
		say("    answered: READ %s, LOOKUP %s", err_name(cl[0].err),
		    err_name(cl[TESTER].err));
		mprotect(p->mem, p->size, PROT_READ | PROT_WRITE);
		show_one_slice(cl, &c);

		/* memory that has gone */
		if (munmap(p->mem, p->size))
			die("munmap: %s", err_name(errno));
		if (!kind) {
			stat_fails(&c, &cl[TESTER], "    pool unmapped: stat");
			send_read(cl, 0, &c);
			q = next_read(&c, 0, "a READ, for which nothing is to be written");
			reply_raw(q, 0, q->h.unique, BLOCK);
			client_wait(&cl[0], "a read whose data is not there");
			say("    pool unmapped: READ: %s", err_name(cl[0].err));
		} else {
			/* pages stay, without an address: only the server can't see them */
			client_do(&cl[TESTER], do_stat, c.mnt, fresh_name(), 0, 0);
			q = next_req(&c, "LOOKUP");
			reply_raw(q, -ENXIO, q->h.unique, 0);
			client_wait(&cl[TESTER], "stat");
			say("    pool unmapped: stat: %s", err_name(cl[TESTER].err));
			send_read(cl, 0, &c);
			q = next_read(&c, 0, "a READ");
			/* what was in the slice */
			reply_raw(q, 0, q->h.unique, BLOCK);
			client_wait(&cl[0], "a read of what is in the slice");
			say("    pool unmapped: READ: %s", err_name(cl[0].err));
		}
		close_files(&cl[CLOSER], 1, &c);
		say("    what needs no slice: close: %s", err_name(cl[CLOSER].err));
		if (!kind) {
			if (mmap(p->mem, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE |
				 MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p->mem)
				die("mmap: %s", err_name(errno));
			show_path(&c, &cl[TESTER], "    mapped again");
			show_one_slice(cl, &c);
		}
		close_files(cl, READERS, &c);
		if (kind)
			p->mem = NULL;
		end(&c, &r);
	}
	for (i = 0; i < CLIENTS; i++)
		client_stop(&cl[i]);
	return 0;
}

/* The server wants all again that it has: what waits for slices gets them. */
static int pool_resend(int argc, char **argv)
{
	enum { READERS = 3 };
	struct client cl[READERS];
	unsigned int kind, i;
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	for (i = 0; i < READERS; i++)
		client_start(&cl[i], -1);
	for (kind = 0; kind < 2; kind++) {
		begin_few(&c, &r, 1, 1, 3, kind);
		open_files(cl, READERS, &c);
		send_read(cl, 0, &c);
		q = next_read(&c, 0, "a READ");
		send_read(cl, 1, &c);
		wait_waiting(&c, 2);
		send_read(cl, 2, &c);
		wait_waiting(&c, 3);
		say("%s: a READ is held, two more are sent: %s", kinds[kind], waits(&c));
		q->e->state = ENT_DEAD;
		put_req(q);
		say("    RESEND: %s", err_name(notify(&c, NOTIFY_RESEND, NULL, 0)));
		/* in any order */
		for (i = 0; i < READERS; i++) {
			q = next_req(&c, "what waited for a slice, and what is sent again");
			if (!q->e && !(q->h.unique & RESENT))
				die("%s over /dev/fuse, not marked", op_name(q->h.opcode));
			answer(q);
		}
		for (i = 0; i < READERS; i++)
			if (!read_right(cl, i, &c))
				die("reader %u got %s, or wrong data", i, err_name(cl[i].err));
		say("    over /dev/fuse: %u, all data right", c.dev_ordinary);
		show_one_slice(cl, &c);
		close_files(cl, READERS, &c);
		end(&c, &r);
	}
	for (i = 0; i < READERS; i++)
		client_stop(&cl[i]);
	return 0;
}

/* ------------------------------------------------------------------ queues */

/* Entries of one queue take what waits for a slice in another. */
static int pool_queues(int argc, char **argv)
{
	enum { READERS = 4, KILLED = 3 };
	struct client cl[READERS + 1];
	struct req *first, *second, *q;
	unsigned int kind, i;
	struct keeper k;
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	/* 0 and 2 belong to queue 0; 3, or 4, to be killed, and 1 to queue 1 */
	for (i = 0; i < READERS + 1; i++)
		client_start(&cl[i], online_cpu(i == 0 || i == 2 ? 0 : 1));
	for (kind = 0; kind < 2; kind++) {
		struct client *killed = &cl[KILLED + kind];

		begin_few(&c, &r, 2, 1, 2, kind);
		open_files(cl, KILLED, &c);
		open_files(killed, 1, &c);
		send_read(cl, 0, &c);
		first = next_read(&c, 0, "a READ from the first CPU");
		send_read(cl, 1, &c);
		second = next_read(&c, 1, "a READ from the second CPU");
		say("%s: a READ is held by either queue: %s", kinds[kind],
		    first->e->qid == 0 && second->e->qid == 1 ? "yes" : "no");
		send_read(cl, 2, &c);
		wait_waiting(&c, 3);
		say("    each queue has an entry to spare, a third READ is sent: %s", waits(&c));
		answer(second);
		q = next_read(&c, 2, "the READ that waited");
		say("    that of the second queue is answered: the third comes by that: %s",
		    q->e->qid == 1 ? "yes" : "no");
		answer(q);
		answer(first);
		for (i = 0; i < KILLED; i++)
			if (!read_right(cl, i, &c))
				die("reader %u got %s, or wrong data", i, err_name(cl[i].err));
		wait_idle(&c);

		/*
		 * A slice that comes back without anybody to look for what waits: an
		 * idle entry of that queue has to be called.
		 */
		keeper_start(&k, &c, 1);
		send_read(cl, 0, &c);
		first = next_read(&c, 0, "a READ from the first CPU");
		client_do(killed, do_held_read, c.mnt, "f1", 77 * BLOCK, BLOCK);
		wait_waiting(&c, 2);
		send_read(cl, 2, &c);
		wait_waiting(&c, 3);
		say("    one slice is held, the other on its way to an entry that does not run: %s",
		    waits(&c));
		kill(killed->pid, SIGKILL);
		take_close(&c);
		client_wait(killed, "the killed caller");
		wait_waiting(&c, 2);
		say("    the caller of that one is killed: %s", waits(&c));
		keeper_leave(&k);
		q = next_read(&c, 2, "the READ that waited for a slice");
		say("    the entry ends: the READ comes through the second queue: %s",
		    q->e->qid == 1 ? "yes" : "no");
		answer(q);
		answer(first);
		say("    data: %s", read_right(cl, 0, &c) && read_right(cl, 2, &c) ?
		    "right" : "wrong");
		close_files(cl, KILLED, &c);
		end(&c, &r);
	}
	for (i = 0; i < READERS + 1; i++)
		client_stop(&cl[i]);
	return 0;
}

/* --------------------------------------------- a buffer taken away meanwhile */

enum { DEPTH = 3, MORE = 2 };

static void replace_buffer(struct ring *r, unsigned int index, void *mem, size_t size)
{
	struct iovec vec = { mem, size };
	__u64 tag = 0;
	int n = io_uring_register_buffers_update_tag(&r->u, index, &vec, &tag, 1);

	if (n != 1)
		die("update of a buffer: %s", err_name(n));
}

/* Reads, one after the other: each with its data or with EFAULT. Returns how many had it. */
static unsigned int reads(struct conn *c, struct client *cl, unsigned int n)
{
	unsigned int i, right = 0;

	for (i = 0; i < n; i++) {
		send_read(cl, 0, c);
		if (read_right(cl, 0, c))
			right++;
		else if (cl[0].err != EFAULT)
			die("a read: %s, or wrong data", err_name(cl[0].err));
	}
	return right;
}

static void replaced(struct client *cl)
{
	enum { READS = 20 };
	unsigned int right;
	struct pool *p;
	struct conn c;
	struct ring r;
	void *other;

	begin_few(&c, &r, 1, 2, DEPTH, true);
	p = &c.pools[0];
	other = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (other == MAP_FAILED)
		die("out of memory");
	open_files(cl, 1, &c);
	replace_buffer(&r, p->index, other, p->size);
	right = reads(&c, cl, READS);
	say("another buffer in its place: %d reads are right or fail with EFAULT; all right: %s",
	    READS, right == READS ? "yes" : "no");
	replace_buffer(&r, p->index, p->mem, p->size);
	/* what is idle has come with the other one; the last to come is the first used */
	conn_register(&c, &r, MORE, 0, 0, 1);
	right = reads(&c, cl, READS);
	say("put back, and with new entries: all right: %s", right == READS ? "yes" : "no");
	replace_buffer(&r, p->index, NULL, 0);
	right = reads(&c, cl, READS);
	say("none in its place: %d reads are right or fail with EFAULT; all right: %s", READS,
	    right == READS ? "yes" : "no");
	close_files(cl, 1, &c);
	say("what needs no slice: close: %s", err_name(cl[0].err));
	end(&c, &r);
}

struct unregister {
	struct ring *r;
	pthread_t thread;
	volatile bool done;
	int res;
};

static void *unregister_main(void *arg)
{
	struct unregister *u = arg;

	/* waits for the commands that have come with the buffers, or does not */
	u->res = io_uring_unregister_buffers(&u->r->u);
	u->done = true;
	return NULL;
}

/* Returns when the ring's commands can't have its buffers any more */
static void unregister_start(struct unregister *u, struct conn *c, struct ring *r)
{
	uint64_t limit = now_ms() + LIMIT * 1000;

	u->r = r;
	u->done = false;
	if (pthread_create(&u->thread, NULL, unregister_main, u))
		die("cannot make a thread");
	for (;;) {
		/* there is that queue */
		with_buffer(ring_cmd(r, c->fd, PROTO_RING_ADD_QUEUE, 0, 0, r), FIRST_POOL);
		if (at_once(r) == -EFAULT || u->done)
			return;
		if (now_ms() > limit)
			die("waited %d s in vain for the buffers to be taken away", LIMIT);
		nap_ms(1);
	}
}

/* While two requests are held and an entry is idle. Another ring has the buffers still. */
static void unregistered(struct client *cl)
{
	struct unregister u;
	struct ring r, more;
	struct req *q[2];
	struct conn c;
	uint64_t limit;
	unsigned int i;
	int res;

	begin_few(&c, &r, 1, 2, DEPTH, true);
	open_files(cl, 2, &c);
	ring_open(&more, 16, IORING_SETUP_SQE128);
	register_buffers(&c, &more);
	c.rings[c.nrings++] = &more;
	for (i = 0; i < 2; i++) {
		send_read(cl, i, &c);
		q[i] = next_read(&c, i, "a READ");
	}
	unregister_start(&u, &c, &r);
	for (i = 0; i < 2; i++) {
		struct ent *e = q[i]->e;

		ent_commit(e, 0, e->h->part.commit_id);
		res = ring_submit_one(&r, e);
		say("buffers taken away, COMMIT by that ring: %s", res ? "refused" : "held");
		e->state = ENT_BUSY;
		e->r = &more;
		answer(q[i]);
		say("    by another ring that has them: %s", read_right(cl, i, &c) ?
		    "right" : err_name(cl[i].err));
	}
	say("    more reads: %u of 10 right", reads(&c, cl, 10));
	close_files(cl, 2, &c);
	say("    unmount: %s", err_name(conn_umount(&c, 0)));
	limit = now_ms() + LIMIT * 1000;
	while (!u.done && now_ms() < limit)
		pump(&c, 5);
	say("    with the connection, the wait for the buffers ends: %s",
	    !u.done ? "no" : u.res ? err_name(u.res) : "yes");
	pthread_join(u.thread, NULL);
	conn_close(&c);
	ring_close(&r);
	ring_close(&more);
}

/* A server to be killed while it waits like that. Tells its connection's number. */
static void to_be_killed(struct client *cl, int fd)
{
	struct unregister u;
	struct conn c;
	struct ring r;

	begin_few(&c, &r, 1, 1, DEPTH, true);
	open_files(cl, 2, &c);
	send_read(cl, 0, &c);
	next_read(&c, 0, "a READ");
	send_read(cl, 1, &c);
	wait_waiting(&c, 2);
	unregister_start(&u, &c, &r);
	if (write(fd, &c.number, sizeof(c.number)) != sizeof(c.number))
		die("pipe: %s", err_name(errno));
	for (;;)
		pause();
}

static bool wait_child(pid_t pid, int *status)
{
	uint64_t limit = now_ms() + 2 * LIMIT * 1000;

	while (waitpid(pid, status, WNOHANG) != pid) {
		if (now_ms() > limit)
			return false;
		nap_ms(2);
	}
	return true;
}

static void in_child(void (*run)(struct client *cl), struct client *cl)
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork: %s", err_name(errno));
	if (!pid) {
		new_director();
		run(cl);
		fflush(stdout);
		_exit(0);
	}
	if (!wait_child(pid, &status)) {
		kill(pid, SIGKILL);
		die("the server does not come to an end");
	}
	if (status)
		die("the server ended with status %#x", status);
}

static int pool_changed(int argc, char **argv)
{
	struct pollfd p = { .events = POLLIN };
	struct client cl[2];
	unsigned int number, i;
	int status, fds[2];
	uint64_t limit;
	pid_t pid;

	(void)argc, (void)argv;
	for (i = 0; i < 2; i++)
		client_start(&cl[i], -1);
	in_child(replaced, cl);
	in_child(unregistered, cl);

	if (pipe2(fds, O_CLOEXEC))
		die("pipe: %s", err_name(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork: %s", err_name(errno));
	if (!pid) {
		close(fds[0]);
		new_director();
		to_be_killed(cl, fds[1]);
	}
	close(fds[1]);
	p.fd = fds[0];
	if (poll(&p, 1, 2 * LIMIT * 1000) != 1 ||
	    read(fds[0], &number, sizeof(number)) != sizeof(number)) {
		kill(pid, SIGKILL);
		die("the server to be killed does not get that far");
	}
	kill(pid, SIGKILL);
	if (!wait_child(pid, &status))
		die("the killed server does not come to an end");
	say("server killed while it waits for its buffers: ends");
	for (i = 0; i < 2; i++) {
		/* what the server that is no more has sent them to do */
		cl[i].busy = true;
		client_wait(&cl[i], "a reader whose server was killed");
		say("    reader: %s", abort_name(cl[i].err));
		client_do(&cl[i], do_close, mount_point(), "f1", 0, 0);
		client_wait(&cl[i], "close");
	}
	say("    unmount: %s", err_name(umount2(mount_point(), 0) ? errno : 0));
	limit = now_ms() + LIMIT * 1000;
	while (conn_listed(number) && now_ms() < limit)
		nap_ms(5);
	say("    connection listed under fusectl: %s", conn_listed(number) ? "yes" : "no");
	for (i = 0; i < 2; i++)
		client_stop(&cl[i]);
	return 0;
}

const struct command pool_commands[] = {
	{ "pool-offered", pool_offered, "nothing, if the kernel has pools" },
	{ "pool-errors", pool_errors, "what ADD_QUEUE and ADD_BUFPOOL refuse" },
	{ "pool-register", pool_register, "what must come with commands for a pool's queue" },
	{ "pool-data", pool_data, "payloads in slices, all of them at once" },
	{ "pool-ways", pool_ways, "pools and kinds of io_uring and of submission" },
	{ "pool-shortage", pool_shortage, "requests that wait for a slice" },
	{ "pool-abort", pool_abort, "abort while requests wait for slices" },
	{ "pool-cancel", pool_cancel, "slices of entries that go away" },
	{ "pool-fault", pool_fault, "slices of requests that fail; memory that is gone" },
	{ "pool-resend", pool_resend, "slices of requests that are sent again" },
	{ "pool-queues", pool_queues, "slices of one queue for requests of another" },
	{ "pool-changed", pool_changed, "registered buffers replaced and unregistered" },
	{}
};
