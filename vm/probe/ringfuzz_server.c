// SPDX-License-Identifier: GPL-2.0-only
/*
 * ringfuzz: the server of one round. Its workers each have an io_uring of their
 * own; entries and the ids of requests are everybody's. What they do to each
 * other is the point, so there are no locks, and a fault in a worker is taken as
 * it comes.
 */
#include "ringfuzz.h"

#include <pthread.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>

enum {
	NENT = 64,
	SLOT = 256 << 10,	/* of the arena: a page of headers, then payload */
	POOL = 1 << 20,		/* room for that of a queue */
	RING_SIZE = 128,
};

/* Far below where the kernel puts mappings by itself: a hole stays a hole. */
#define ARENA		((uint8_t *)0x200000000ull)
#define POOLS		((uint8_t *)0x300000000ull)
#define ASIDE		((uint8_t *)0x400000000ull)
#define HUGE		((uint8_t *)0x500000000ull)

#define MARK		0x66757a7a00000000ull	/* user_data: the command is for an entry */
#define GUESS		0x10000ull		/* on top: and if it fails, nothing has changed */
#define COMMIT		0x20000ull		/* on top: and if it fails, it holds a request */

enum fstate { F_FREE, F_IDLE, F_HELD, F_SERVED };

struct fent {
	atomic_int state;
	atomic_int worker;	/* whose ring holds its command */
	unsigned int qid;
	bool pooled;
	uint32_t opcode, offset;	/* of that, and where its payload is in the pool */
	int slice;		/* of sane rounds; -1: none */
	struct proto_ring_header *h;
	uint8_t *pay;
	size_t pay_len;
	atomic_ullong id;	/* of the request it holds */
};

struct worker {
	pthread_t thread;
	unsigned int index;
	struct rng rng;
	struct io_uring u;
	bool open, sqpoll, defer, sqe128, fixed, buffers;
	bool stuck;		/* perhaps: what it is sent may wait for ever */
	unsigned int pending;
	uint8_t *out;		/* for replies */
	sigjmp_buf fault;
	int fd;			/* /dev/fuse, or a clone of it */
	struct iovec iov[64][2];
	unsigned int next_iov;
};

static const struct plan *plan;
static struct conn conn;
static struct fent ents[NENT];
static struct worker workers[MAX_WORKERS];
static unsigned int nqueues;
static size_t payload;
static atomic_bool enough;
static atomic_ullong last_interrupt, highest_id;
static atomic_int filled;
static atomic_int hot = -1;	/* an entry whose request all should commit */
/*
 * Pools: those that are in registered buffers have their queue's number as the index of
 * the buffer, and one more index is no pool's.
 */
static bool pool_of[MAX_QUEUES], pool_fixed[MAX_QUEUES];
static bool is_child;
static atomic_bool forked;	/* two processes commit: neither knows about the other's slices */
static atomic_int slice_of[MAX_QUEUES][MAX_SLICES];	/* entry + 1 that has it, sane rounds */
static int odd_fds[6];		/* anything but this connection's /dev/fuse */
static __thread sigjmp_buf *fault_return;
static struct iovec *edge;	/* an iovec whose successor is not mapped */
static uint8_t *own_file;	/* a mapping of a file of our own mount */

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;

	if (fault_return)
		siglongjmp(*fault_return, 1);
	/* not where a fault is to be expected: a mistake of this program */
	say("server: signal %d at %#llx, address %p", sig,
	    (unsigned long long)uc->uc_mcontext.gregs[REG_RIP], info->si_addr);
	_exit(4);
}

/* --------------------------------------------------------------- memory -- */

static void map_at(uint8_t *at, size_t n)
{
	if (mmap(at, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) == MAP_FAILED)
		_exit(3);
}

static uint8_t *slot(unsigned int i)
{
	return ARENA + (size_t)i * SLOT;
}

/* The slots of the first entries stay as they are, so that some traffic goes on. */
static void play_with_memory(struct rng *r)
{
	uint8_t *s = slot(rng_below(r, NENT));
	size_t part = rng_chance(r, 500) ? 4096 : SLOT, at = rng_chance(r, 300) ? 4096 : 0;

	if (at + part > SLOT)
		part = SLOT - at;
	switch (rng_below(r, 8)) {
	case 0:
		mprotect(s + at, part, PROT_NONE);
		break;
	case 1:
		mprotect(s + at, part, PROT_READ);
		break;
	case 2:
		munmap(s + at, part);
		break;
	case 3:
		madvise(s, SLOT, MADV_DONTNEED);
		break;
	case 4:
		/* away and back */
		if (mremap(s, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, ASIDE) == MAP_FAILED)
			break;
		sched_yield();
		mremap(ASIDE, SLOT, SLOT, MREMAP_MAYMOVE | MREMAP_FIXED, s);
		break;
	case 5:
		madvise(s, SLOT, MADV_PAGEOUT);
		break;
	case 6: {
		/* pages of a file, the second half beyond its end */
		int fd = memfd_create("fuzz", MFD_CLOEXEC);

		if (fd >= 0 && !ftruncate(fd, SLOT / 2))
			mmap(s, SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
		if (fd >= 0)
			close(fd);
		break;
	}
	default:
		break;
	}
	if (rng_chance(r, 500))
		sched_yield();
	/* most of them are made good at once, or there would soon be nothing left */
	if (rng_chance(r, 800))
		map_at(s, SLOT);
}

/* ----------------------------------------------------------------- rings -- */

static void worker_ring_close(struct worker *w)
{
	unsigned int i;

	if (!w->open)
		return;
	w->open = false;
	io_uring_queue_exit(&w->u);
	for (i = 0; i < NENT; i++)
		if (atomic_load(&ents[i].worker) == (int)w->index &&
		    atomic_load(&ents[i].state) == F_IDLE)
			atomic_store(&ents[i].state, F_FREE);
}

static bool pools_wanted(void)
{
	return plan->pools && conn.init.flags2 & POOL_INIT_FLAG2;
}

static size_t pool_size(void)
{
	size_t size = plan->slices * payload;

	return size < POOL ? size : POOL;
}

static uint8_t *pool_at(unsigned int qid)
{
	return POOLS + (size_t)qid * POOL;
}

/* 0, or what the kernel says */
static int register_pools(struct io_uring *u)
{
	struct iovec reg[MAX_QUEUES + 1];
	unsigned int i;

	for (i = 0; i < nqueues; i++)
		reg[i] = (struct iovec){ pool_at(i), pool_size() };
	reg[i] = (struct iovec){ ARENA, SLOT };
	return io_uring_register_buffers(u, reg, i + 1);
}

/* false: the kernel has no more rings for us at the moment */
static bool worker_ring_open(struct worker *w)
{
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 };
	unsigned int kind = plan->sane ? rng_below(&w->rng, 3) * 4 : rng_below(&w->rng, 24);

	w->sqpoll = w->defer = w->fixed = w->buffers = false;
	switch (kind) {
	case 0:
	case 1:
		p.flags |= IORING_SETUP_SQPOLL;
		p.sq_thread_idle = 20;
		w->sqpoll = true;
		break;
	case 2:
		p.flags |= IORING_SETUP_CQE32;
		break;
	case 3:
		p.flags &= ~IORING_SETUP_SQE128;
		break;
	case 4:
	case 5:
	case 6:
		p.flags |= IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
		w->defer = true;
		break;
	case 7:
		p.flags |= IORING_SETUP_IOPOLL;
		break;
	case 9:
		p.flags |= IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
		break;
	case 10:
		p.flags |= IORING_SETUP_SUBMIT_ALL;
		break;
	}
	if (io_uring_queue_init_params(RING_SIZE, &w->u, &p))
		return false;
	w->sqe128 = p.flags & IORING_SETUP_SQE128;
	w->open = true;
	w->stuck = false;
	w->pending = 0;
	if (rng_chance(&w->rng, 300))
		w->fixed = !io_uring_register_files(&w->u, &w->fd, 1);
	/* what is not mapped at the moment cannot be registered */
	if (pools_wanted() && plan->fixed_pools ? plan->sane || rng_chance(&w->rng, 850) :
	    !plan->sane && rng_chance(&w->rng, 400))
		w->buffers = !register_pools(&w->u);
	if (plan->sane && pools_wanted() && plan->fixed_pools && !w->buffers) {
		worker_ring_close(w);
		return false;
	}
	return true;
}

static void worker_submit(struct worker *w)
{
	if (!w->pending)
		return;
	/* an error here is the kernel's right; it shows in what comes next */
	io_uring_submit(&w->u);
	w->pending = 0;
}

/* A command; NULL when the ring has no room even after a submission */
static struct io_uring_sqe *worker_cmd(struct worker *w, unsigned int op, unsigned int qid,
				       uint64_t id, uint64_t user)
{
	struct proto_ring_command cmd = { .commit_id = id, .queue = qid };
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->u);

	if (!sqe) {
		worker_submit(w);
		sqe = io_uring_get_sqe(&w->u);
		if (!sqe)
			return NULL;
	}
	memset(sqe, 0, w->sqe128 ? 128 : 64);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = w->fd;
	if (w->fixed) {
		sqe->fd = 0;
		sqe->flags = IOSQE_FIXED_FILE;
	}
	sqe->cmd_op = op;
	sqe->user_data = user;
	memcpy(sqe->cmd, &cmd, w->sqe128 ? sizeof(cmd) : 16);
	w->pending++;
	atomic_fetch_add(&sh->commands, 1);
	return sqe;
}

static struct proto_ring_command *cmd_of(struct io_uring_sqe *sqe)
{
	return (struct proto_ring_command *)sqe->cmd;
}

/* With the registered buffer of that index */
static void fix(struct io_uring_sqe *sqe, unsigned int index)
{
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = index;
}

/* ---------------------------------------------------------- good commands -- */

static void arrange(struct fent *e, unsigned int i)
{
	e->h = (struct proto_ring_header *)slot(i);
	e->pay = slot(i) + 4096;
	e->pay_len = payload;
	e->pooled = false;
}

static bool is_fixed(const struct fent *e)
{
	/* a hostile round's others may change it just now */
	unsigned int qid = *(const volatile unsigned int *)&e->qid;

	return e->pooled && qid < MAX_QUEUES && pool_fixed[qid];
}

static struct io_uring_sqe *good_register(struct worker *w, unsigned int i, unsigned int qid)
{
	struct iovec *iov = w->iov[w->next_iov++ % 64];
	struct fent *e = &ents[i];
	struct io_uring_sqe *sqe;

	arrange(e, i);
	e->qid = qid;
	e->pooled = qid < MAX_QUEUES && pool_of[qid];
	atomic_store(&e->worker, w->index);
	atomic_store(&e->state, F_IDLE);
	iov[0] = (struct iovec){ e->h, sizeof(*e->h) };
	iov[1] = e->pooled ? (struct iovec){} : (struct iovec){ e->pay, e->pay_len };
	sqe = worker_cmd(w, PROTO_RING_REGISTER, qid, 0, MARK + i);
	if (!sqe)
		return NULL;
	sqe->addr = (uintptr_t)iov;
	sqe->len = 2;
	if (is_fixed(e))
		fix(sqe, qid);
	return sqe;
}

static struct io_uring_sqe *good_commit(struct worker *w, unsigned int i)
{
	struct fent *e = &ents[i];
	struct io_uring_sqe *sqe;

	/* the kernel may give it to another entry at once */
	if (plan->sane && e->slice >= 0)
		atomic_store(&slice_of[e->qid][e->slice], 0);
	atomic_store(&e->worker, w->index);
	atomic_store(&e->state, F_IDLE);
	sqe = worker_cmd(w, PROTO_RING_COMMIT_AND_FETCH, e->qid, atomic_load(&e->id),
			 MARK + COMMIT + i);
	if (sqe && is_fixed(e))
		fix(sqe, e->qid);
	return sqe;
}

/* What entry i may have, or have had: no matter what happens to it */
static struct io_uring_sqe *blind_commit(struct worker *w, unsigned int i)
{
	struct io_uring_sqe *sqe = worker_cmd(w, PROTO_RING_COMMIT_AND_FETCH, ents[i].qid,
					      atomic_load(&ents[i].id), MARK + GUESS + i);

	if (sqe && is_fixed(&ents[i]))
		fix(sqe, ents[i].qid);
	return sqe;
}

/* One command at once: its result, or 1 when it is held. Before the workers run. */
static int at_once(struct worker *w)
{
	struct io_uring_cqe *cqe;
	int res = 1;

	worker_submit(w);
	if (w->sqpoll)
		nap_ms(2);
	io_uring_get_events(&w->u);
	if (!io_uring_peek_cqe(&w->u, &cqe)) {
		res = cqe->res;
		io_uring_cqe_seen(&w->u, cqe);
	}
	return res;
}

/* Returns whether the queue has a pool now */
static bool try_pool(struct worker *w, unsigned int qid)
{
	bool fixed = plan->fixed_pools && w->buffers;
	struct io_uring_sqe *sqe;

	if (!w->sqe128 || qid >= MAX_QUEUES || !worker_cmd(w, PROTO_RING_ADD_QUEUE, qid, 0, 0) ||
	    at_once(w))
		return false;
	sqe = worker_cmd(w, PROTO_RING_ADD_POOL, qid, 0, 0);
	if (!sqe)
		return false;
	cmd_of(sqe)->pool_address = (uintptr_t)pool_at(qid);
	cmd_of(sqe)->pool_size = pool_size();
	if (fixed)
		fix(sqe, qid);
	/* entries that are registered meanwhile look at it */
	pool_fixed[qid] = fixed;
	pool_of[qid] = !at_once(w);
	return pool_of[qid];
}

/* By a ring of its own, before there are entries; some queues do without. */
static void pools_first(void)
{
	static struct worker w;
	unsigned int qid;

	w.rng = rng_fork(plan->seed, 60);
	w.fd = conn.fd;
	w.index = MAX_WORKERS;
	if (io_uring_queue_init(8, &w.u, IORING_SETUP_SQE128))
		_exit(3);
	w.sqe128 = true;
	if (plan->fixed_pools)
		w.buffers = !register_pools(&w.u);
	for (qid = 0; qid < nqueues; qid++)
		if (rng_chance(&w.rng, 850) && !try_pool(&w, qid) && plan->sane) {
			say("server: no pool for queue %u", qid);
			_exit(3);
		}
	io_uring_queue_exit(&w.u);
}

/* --------------------------------------------------------------- requests -- */

/* Where a request's payload is */
static uint8_t *payload_of(struct fent *e)
{
	size_t offset;

	if (!e->pooled)
		return e->pay;
	/* what is there may be anything in a hostile round */
	offset = e->h->part.offset;
	return pool_at(e->qid) + (offset <= POOL - payload ? offset : 0);
}

/* In a sane round nobody else has the slice, and who needs none has none. */
static void take_slice(unsigned int i)
{
	struct fent *e = &ents[i];
	int other = 0;

	e->slice = -1;
	/* 0: not known, the buffers have gone. That is a way to end. */
	if (!e->pooled || !e->opcode)
		return;
	if (is_bare(e->opcode)) {
		other = e->offset ? -1 : 0;
	} else if (e->offset % payload || e->offset + payload > pool_size()) {
		other = -1;
	} else {
		e->slice = e->offset / payload;
		other = atomic_exchange(&slice_of[e->qid][e->slice], i + 1);
	}
	if (!other || atomic_fetch_add(&sh->wrong, 1))
		return;
	snprintf(sh->wrong_text, sizeof(sh->wrong_text),
		 "a slice of queue %u for %s at %u, with entry %u%s", e->qid, op_name(e->opcode),
		 e->offset, i, other > 0 ? ", which another one has" : "");
}

/* Put a reply into the buffers of entry i. May fault. */
static void prepare_reply(struct worker *w, unsigned int i)
{
	struct fent *e = &ents[i];
	struct fuse_out_header h = {};
	struct proto_ring_header head;
	struct req q = { .c = &conn };
	size_t len = 0, room;
	uint32_t size;
	int err;

	memcpy(&head, e->h, sizeof(head));
	memcpy(&q.h, head.in_out, sizeof(q.h));
	q.op = head.op_in;
	q.pay = payload_of(e);
	q.pay_len = head.part.payload_size;
	room = e->pay_len < payload ? e->pay_len : payload;
	/* a second delivery into the same buffers may have spoilt this one */
	if (q.pay_len > room || q.h.nodeid == 0)
		err = EIO;
	/* what has been registered are the pages of the process that has forked us */
	else if (is_child && is_fixed(e))
		err = EIO;
	else
		err = fuzz_answer(&conn, &q, w->out, room, &len);
	h.unique = q.h.unique;
	h.error = -err;
	size = err ? 0 : len;
	h.len = sizeof(h) + size;
	if (!plan->sane && rng_chance(&w->rng, plan->bad / 2))
		spoil_reply(&w->rng, &h, &size, w->out, room);
	len = size < room ? size : room;
	if (len)
		memcpy(payload_of(e), w->out, len);
	memcpy(e->h->in_out, &h, sizeof(h));
	e->h->part.payload_size = size;
}

/*
 * Answer the request in entry i, after which another one may come. Only one worker
 * may: another's late writing would spoil the next request, or its reply.
 */
static void serve(struct worker *w, unsigned int i)
{
	struct fent *e = &ents[i];
	int expected = F_HELD;

	if (!atomic_compare_exchange_strong(&e->state, &expected, F_SERVED))
		return;
	fault_return = &w->fault;
	if (!sigsetjmp(w->fault, 0))
		prepare_reply(w, i);
	fault_return = NULL;
	good_commit(w, i);
}

static void learn_id(struct worker *w, unsigned int i)
{
	struct fent *e = &ents[i];

	e->opcode = 0;
	fault_return = &w->fault;
	if (!sigsetjmp(w->fault, 0)) {
		atomic_store(&e->id, e->h->part.commit_id);
		e->offset = e->h->part.offset;
		e->opcode = ((struct fuse_in_header *)e->h->in_out)->opcode;
	}
	fault_return = NULL;
	if (atomic_load(&e->id) > atomic_load(&highest_id))
		atomic_store(&highest_id, atomic_load(&e->id));
}

static bool is_ours(uint64_t user)
{
	user &= ~(GUESS | COMMIT);
	return user >= MARK && user < MARK + NENT;
}

/* Take in what is there. Returns how much. */
static unsigned int reap(struct worker *w)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0, i, held[RING_SIZE], nheld = 0;

	if (w->defer && (plan->sane || rng_chance(&w->rng, 700)))
		io_uring_get_events(&w->u);
	io_uring_for_each_cqe(&w->u, head, cqe) {
		n++;
		if (!is_ours(cqe->user_data))
			continue;
		i = (cqe->user_data & ~(GUESS | COMMIT)) - MARK;
		if (cqe->res < 0) {
			/* ENOENT: another worker has committed it */
			if (!(cqe->user_data & GUESS) && cqe->res != -ENOENT)
				atomic_store(&ents[i].state,
					     cqe->user_data & COMMIT ? F_HELD : F_FREE);
			continue;
		}
		if (nheld < RING_SIZE)
			held[nheld++] = i;
		if (nheld == RING_SIZE)
			break;
	}
	io_uring_cq_advance(&w->u, n);
	for (i = 0; i < nheld; i++) {
		struct fent *e = &ents[held[i]];

		atomic_fetch_add(&sh->requests, 1);
		learn_id(w, held[i]);
		if (plan->sane && !atomic_load(&forked))
			take_slice(held[i]);
		atomic_store(&e->state, F_HELD);
		if (plan->slow && rng_chance(&w->rng, plan->sane ? 100 : 300))
			continue;	/* later, see look_after() */
		if (!plan->sane && rng_chance(&w->rng, 150)) {
			/* all at once, and not only us */
			atomic_store(&hot, held[i]);
			continue;
		}
		serve(w, held[i]);
	}
	return n;
}

/* Requests that were held back */
static void look_after(struct worker *w)
{
	unsigned int i, first = rng_below(&w->rng, NENT);
	int want = atomic_load(&hot);

	if (want >= 0) {
		/* whoever comes first: of all these commits only one may count */
		fault_return = &w->fault;
		if (!sigsetjmp(w->fault, 0) && rng_chance(&w->rng, 500))
			prepare_reply(w, want);
		fault_return = NULL;
		blind_commit(w, want);
		worker_submit(w);
		if (rng_chance(&w->rng, 500))
			atomic_store(&hot, -1);
	}
	for (i = 0; i < NENT; i++)
		if (atomic_load(&ents[(first + i) % NENT].state) == F_HELD &&
		    rng_chance(&w->rng, plan->slow ? 100 : 500))
			serve(w, (first + i) % NENT);
}

/* ----------------------------------------------------------- bad commands -- */

/* Mostly that of an entry, perhaps i */
static uint64_t some_id(struct worker *w, unsigned int i)
{
	struct rng *r = &w->rng;

	switch (rng_below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return atomic_load(&highest_id) + 2 * rng_below(r, 4);	/* to come */
	case 2:
		return atomic_load(&highest_id) - 2 * rng_below(r, 8);	/* gone, or elsewhere */
	case 3:
		return atomic_load(&last_interrupt) | 1;
	case 4:
		return rng_next(r);
	case 5:
		return conn.init_unique;
	default:
		return atomic_load(&ents[i].id) ^ (rng_chance(r, 200) ? 1 : 0);
	}
}

static unsigned int some_queue(struct worker *w)
{
	switch (rng_below(&w->rng, 6)) {
	case 0:
		return nqueues;
	case 1:
		return rng_below(&w->rng, 65536);
	default:
		return rng_below(&w->rng, nqueues);
	}
}

static void *some_address(struct worker *w, unsigned int i)
{
	struct rng *r = &w->rng;

	switch (rng_below(r, 12)) {
	case 0:
		return NULL;
	case 1:
		return (void *)1;
	case 2:
		return (void *)0xffff888000000000ull;
	case 3:
		return (void *)0x00007ffffffff000ull;	/* the last page, which is never there */
	case 4:
		return (void *)rng_next(r);
	case 5:
		return slot(i) + rng_below(r, 4096);
	case 6:
		return slot(i) + SLOT - rng_below(r, 300);	/* into the next slot */
	case 7:
		return HUGE;				/* in a huge page */
	case 8:
		return (void *)(uintptr_t)server_main;	/* code: read-only */
	case 9:
		return own_file ? own_file : slot(i);
	default:
		return slot(rng_below(r, NENT)) + (rng_chance(r, 500) ? 4096 : 0);
	}
}

static size_t some_length(struct worker *w)
{
	static const size_t sizes[] = { 0, 1, 287, 288, 289, 4096, 1ul << 31, 1ul << 32,
					1ul << 47, SIZE_MAX, (size_t)1 << 63, 1ul << 62 };

	switch (rng_below(&w->rng, 3)) {
	case 0:
		return sizes[rng_below(&w->rng, 12)];
	case 1:
		return payload + rng_below(&w->rng, 3) - 1;
	default:
		return rng_next(&w->rng) >> rng_below(&w->rng, 64);
	}
}

/* One thing wrong with the buffers of a REGISTER, which may well be accepted */
static void spoil_buffers(struct worker *w, struct io_uring_sqe *sqe, unsigned int i)
{
	struct iovec *iov = (struct iovec *)(uintptr_t)sqe->addr;
	struct fent *e = &ents[i];
	struct rng *r = &w->rng;
	unsigned int which = rng_below(r, 2);

	switch (rng_below(r, 9)) {
	case 0:
		sqe->addr = (uintptr_t)some_address(w, i);
		return;
	case 1:
		sqe->addr = (uintptr_t)edge;
		edge[0] = iov[0];
		return;
	case 2:
		sqe->len = rng_chance(r, 500) ? rng_below(r, 5) : rng_next(r);
		return;
	case 3:
		iov[which].iov_base = some_address(w, i);
		break;
	case 4:
		iov[which].iov_len = some_length(w);
		break;
	case 5:
		iov[1].iov_base = iov[0].iov_base;	/* both the same */
		break;
	case 6:
		iov[1].iov_base = (uint8_t *)iov[0].iov_base + rng_below(r, 400);
		break;
	case 7:
		/* half of it is not there */
		munmap(slot(i) + 4096 + payload / 8192 * 4096, 4096);
		break;
	default:
		/* the headers across two pages, of which one cannot be written */
		iov[0].iov_base = slot(i) + 4096 - rng_below(r, 288);
		mprotect(slot(i) + (rng_chance(r, 500) ? 4096 : 0), 4096,
			 rng_chance(r, 500) ? PROT_READ : PROT_NONE);
	}
	e->h = iov[0].iov_base;
	e->pay = iov[1].iov_base;
	e->pay_len = iov[1].iov_len;
}

/* One thing wrong with the SQE itself */
static void spoil_sqe(struct worker *w, struct io_uring_sqe *sqe)
{
	static const unsigned int ops[] = { 0, 1, 2, 3, 4, 5, 6, 0x10000, 0xffffffff };
	struct rng *r = &w->rng;
	size_t size = w->sqe128 ? 80 : 16;

	switch (rng_below(r, 17)) {
	case 0:
		sqe->cmd_op = ops[rng_below(r, 9)];
		break;
	case 1:
		sqe->__pad1 = rng_next(r);
		break;
	case 2:
		sqe->ioprio = rng_next(r);
		break;
	case 3:
		sqe->uring_cmd_flags = rng_chance(r, 700) ? 1 : rng_next(r);
		sqe->buf_index = rng_chance(r, 700) ? rng_below(r, 4) : rng_next(r);
		break;
	case 4:
		sqe->buf_index = rng_next(r);
		break;
	case 5:
		sqe->flags |= IOSQE_ASYNC;
		break;
	case 6:
		sqe->flags |= rng_chance(r, 500) ? IOSQE_IO_LINK : IOSQE_IO_HARDLINK;
		break;
	case 7:
		sqe->flags |= IOSQE_IO_DRAIN;
		w->stuck = true;
		break;
	case 8:
		sqe->flags ^= IOSQE_FIXED_FILE;
		if (rng_chance(r, 300))
			sqe->fd = rng_next(r);
		break;
	case 9:
		sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
		break;
	case 10:
		sqe->flags = rng_next(r);
		w->stuck |= sqe->flags & IOSQE_IO_DRAIN;
		break;
	case 11:
		sqe->personality = rng_next(r);
		break;
	case 12:
		sqe->splice_fd_in = rng_next(r);
		break;
	case 13:
		sqe->flags &= ~IOSQE_FIXED_FILE;
		sqe->fd = odd_fds[rng_below(r, 6)];
		break;
	case 14:
		rng_bytes(r, sqe->cmd, size);
		break;
	case 15:
		((uint8_t *)sqe->cmd)[rng_below(r, size)] = rng_next(r);
		break;
	default:
		rng_bytes(r, (uint8_t *)sqe + 4, (w->sqe128 ? 128 : 64) - 4);
		sqe->fd = w->fd;
		sqe->cmd_op = 1 + rng_below(r, 4);
		sqe->flags = 0;
	}
}

/* A pool that is too small, or large, or elsewhere; or one too many; or as it should be */
static void bad_pool(struct worker *w)
{
	static const uint32_t sizes[] = { 0, 1, 4096, 8191, 8192, 1u << 31, UINT32_MAX, 4 << 20 };
	struct rng *r = &w->rng;
	unsigned int op = rng_chance(r, 500) ? PROTO_RING_ADD_QUEUE : PROTO_RING_ADD_POOL;
	unsigned int qid = some_queue(w);
	struct io_uring_sqe *sqe = worker_cmd(w, op, qid, 0, 0);

	if (!sqe || !w->sqe128)
		return;
	if (rng_chance(r, 300))
		cmd_of(sqe)->flags = rng_chance(r, 500) ? 1 : rng_next(r);
	if (rng_chance(r, 200))
		sqe->flags |= IOSQE_ASYNC;
	if (op == PROTO_RING_ADD_QUEUE)
		return;
	cmd_of(sqe)->pool_address = (uintptr_t)(rng_chance(r, 500) && qid < nqueues ?
						pool_at(qid) : some_address(w, 0));
	switch (rng_below(r, 4)) {
	case 0:
		cmd_of(sqe)->pool_size = sizes[rng_below(r, 8)];
		break;
	case 1:
		cmd_of(sqe)->pool_size = payload * (1 + rng_below(r, MAX_SLICES)) -
					 rng_below(r, 3) + 1;
		break;
	case 2:
		cmd_of(sqe)->pool_size = rng_next(r);
		break;
	default:
		cmd_of(sqe)->pool_size = pool_size();
	}
	if (rng_chance(r, 100))
		cmd_of(sqe)->reserved = rng_next(r);
	if (rng_chance(r, 500))
		fix(sqe, rng_chance(r, 800) ? rng_below(r, nqueues + 2) : rng_next(r));
}

/* The commands of queues with pools, with something wrong about the buffer or the payload */
static void bad_pooled(struct worker *w)
{
	struct rng *r = &w->rng;
	unsigned int i = rng_below(r, NENT);
	bool committing = rng_chance(r, 600);
	struct io_uring_sqe *sqe = committing ? blind_commit(w, i) :
				   good_register(w, i, rng_below(r, nqueues));
	struct iovec *iov;

	if (!sqe)
		return;
	if (!committing && rng_chance(r, 400)) {
		iov = (struct iovec *)(uintptr_t)sqe->addr;
		iov[1] = rng_chance(r, 300) ? (struct iovec){} :
			 (struct iovec){ rng_chance(r, 500) ? some_address(w, i) : NULL,
					 rng_chance(r, 500) ? some_length(w) : 0 };
		return;
	}
	if (rng_chance(r, 200))
		sqe->flags |= IOSQE_ASYNC;
	switch (rng_below(r, 4)) {
	case 0:
		sqe->uring_cmd_flags ^= IORING_URING_CMD_FIXED;
		break;
	case 1:
		fix(sqe, rng_below(r, nqueues + 2));
		break;
	case 2:
		fix(sqe, rng_next(r));
		break;
	default:
		fix(sqe, nqueues);
	}
}

static void *unregister(void *arg)
{
	/* for the commands that have the buffers this waits, perhaps until all ends */
	syscall(SYS_io_uring_register, (int)(intptr_t)arg, IORING_UNREGISTER_BUFFERS, NULL, 0);
	return NULL;
}

/* The buffers of this worker's ring: others, none, or what they were */
static void change_buffers(struct worker *w)
{
	struct rng *r = &w->rng;
	unsigned int index = rng_below(r, nqueues + 1);
	struct iovec vec = { pool_at(index), pool_size() };
	pthread_attr_t attr;
	__u64 tag = 0;
	pthread_t t;

	switch (rng_below(r, 12)) {
	case 0:
	case 1:
		vec = (struct iovec){ slot(rng_below(r, NENT)), SLOT };
		break;
	case 2:
		vec = (struct iovec){ HUGE, 2 << 20 };
		break;
	case 3:
		vec = (struct iovec){};
		break;
	case 4:
		vec.iov_len = 1 + rng_below(r, pool_size());
		break;
	case 5:
		pthread_attr_init(&attr);
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_create(&t, &attr, unregister, (void *)(intptr_t)w->u.ring_fd);
		pthread_attr_destroy(&attr);
		return;
	case 6:
		register_pools(&w->u);
		return;
	default:
		/* most of them are made good again */
		break;
	}
	worker_submit(w);
	io_uring_register_buffers_update_tag(&w->u, index, &vec, &tag, 1);
}

/* A pool's memory; what a ring has registered keeps its pages, which are others then. */
static void play_with_pools(struct rng *r)
{
	uint8_t *p = pool_at(rng_below(r, nqueues)) + rng_below(r, POOL / 4096) * 4096;
	size_t part = rng_chance(r, 500) ? 4096 : POOL / 4;

	switch (rng_below(r, 4)) {
	case 0:
		mprotect(p, part, rng_chance(r, 500) ? PROT_NONE : PROT_READ);
		break;
	case 1:
		munmap(p, part);
		break;
	case 2:
		madvise(p, part, MADV_DONTNEED);
		break;
	default:
		madvise(p, part, MADV_PAGEOUT);
	}
	if (rng_chance(r, 500))
		sched_yield();
	map_at(p, part);
}

static void bad_with_pools(struct worker *w)
{
	switch (rng_below(&w->rng, 8)) {
	case 0:
	case 1:
		bad_pool(w);
		break;
	case 2:
		change_buffers(w);
		break;
	case 3:
		play_with_pools(&w->rng);
		break;
	default:
		bad_pooled(w);
	}
}

static void cancel(struct worker *w)
{
	struct rng *r = &w->rng;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&w->u);

	if (!sqe)
		return;
	memset(sqe, 0, w->sqe128 ? 128 : 64);
	sqe->opcode = IORING_OP_ASYNC_CANCEL;
	sqe->addr = MARK + rng_below(r, NENT);
	sqe->cancel_flags = rng_below(r, 32);
	sqe->fd = rng_chance(r, 500) ? w->fd : -1;
	w->pending++;
}

static void bad_command(struct worker *w)
{
	struct rng *r = &w->rng;
	unsigned int any = rng_below(r, NENT), i = any, tries, kind;
	struct io_uring_sqe *sqe;

	if (plan->pools && rng_chance(r, 300)) {
		bad_with_pools(w);
		return;
	}
	/* mostly not what holds a request: nobody would answer that any more */
	for (tries = 0; tries < 8 && atomic_load(&ents[i].state) != F_FREE; tries++)
		i = rng_below(r, NENT);
	do
		kind = rng_below(r, BAD_KINDS);
	while (!(plan->kinds & 1u << kind));
	switch (kind) {
	case 0:
	case 1:
		sqe = good_register(w, i, rng_below(r, nqueues));
		if (sqe)
			spoil_buffers(w, sqe, i);
		break;
	case 2:
		sqe = good_register(w, i, some_queue(w));
		if (sqe)
			spoil_sqe(w, sqe);
		break;
	case 3:
		/* whatever the entry is doing: a second one with the same buffers */
		good_register(w, i, rng_below(r, nqueues));
		break;
	case 4:
	case 5:
		worker_cmd(w, PROTO_RING_COMMIT_AND_FETCH, some_queue(w), some_id(w, any),
			   MARK + GUESS + any);
		break;
	case 6:
	case 7:
		sqe = blind_commit(w, any);
		if (sqe)
			spoil_sqe(w, sqe);
		break;
	case 8:
		/* the same commit several times, with and without a worker of io_uring's */
		blind_commit(w, any);
		sqe = blind_commit(w, any);
		if (sqe)
			sqe->flags |= IOSQE_ASYNC;
		break;
	case 9:
		bad_pool(w);
		break;
	case 10:
		play_with_memory(r);
		break;
	default:
		cancel(w);
	}
}

/* ---------------------------------------------------------------- threads -- */

static void look_for_work(struct worker *w)
{
	struct pollfd p = { .fd = w->u.ring_fd, .events = POLLIN };

	poll(&p, 1, 1 + rng_below(&w->rng, 3));
}

/* One free entry more, for a queue that may have none left */
static void add_entry(struct worker *w)
{
	unsigned int i = rng_below(&w->rng, NENT / 2);
	int expected = F_FREE;

	if (atomic_compare_exchange_strong(&ents[i].state, &expected, F_IDLE)) {
		map_at(slot(i), SLOT);
		good_register(w, i, rng_below(&w->rng, nqueues));
	}
}

/* Each worker brings the entries of its share, for all queues together depth ones. */
static void fill_ring(struct worker *w)
{
	unsigned int i, q;

	/* while the others register entries */
	for (q = 0; pools_wanted() && !plan->pools_first && !w->index && q < nqueues; q++)
		if (rng_chance(&w->rng, 500))
			try_pool(w, q);
	for (i = w->index; i < plan->depth * nqueues && i < NENT; i += plan->workers)
		good_register(w, i, i % nqueues);
	worker_submit(w);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct rng *r = &w->rng;
	unsigned int n;

	if (rng_chance(r, 500))
		pin(online_cpu(w->index));
	if (!plan->mute && !plan->early && worker_ring_open(w))
		fill_ring(w);
	/* one bad command, and a ring that is not complete yet is given up */
	for (n = atomic_fetch_add(&filled, 1); n < 1000 && !plan->early &&
	     atomic_load(&filled) < (int)plan->workers; n++)
		nap_ms(1);
	while (!atomic_load(&enough)) {
		if (!w->open && !worker_ring_open(w)) {
			nap_ms(5);
			continue;
		}
		n = reap(w);
		look_after(w);
		if (!plan->sane && rng_chance(r, plan->bad)) {
			unsigned int burst = 1 + rng_below(r, 32);

			while (burst--)
				bad_command(w);
		}
		if (!plan->sane && rng_chance(r, 100))
			add_entry(w);
		worker_submit(w);
		/* what is stuck, drained or linked away goes with its ring */
		if (!plan->sane && rng_chance(r, w->stuck ? 200 : 4)) {
			worker_ring_close(w);
			continue;
		}
		if (!n && !(w->defer && reap(w)))
			look_for_work(w);
	}
	return NULL;
}

/* Number of the first of the files f0, f1, ... of fs_answer() */
enum { FIRST_FILE = 0x100000 + ((5381 * 33 + 'f') * 33 + '0') % 0x10000, RESEND = 7 };

/* Notifications, with a body that is right or random */
static void send_notice(struct rng *r, int fd)
{
	struct {
		struct fuse_out_header h;
		union {
			uint8_t bytes[256];
			struct fuse_notify_retrieve_out retrieve;
			uint64_t node;
		} body;
	} m = {};
	size_t n = rng_below(r, sizeof(m.body));

	m.h.error = rng_below(r, 10);
	if (rng_chance(r, 300))
		m.h.error = RESEND;
	/* these wait for pages, which may wait for us */
	if (!plan->may_deadlock && m.h.error != FUSE_NOTIFY_POLL && m.h.error != RESEND &&
	    m.h.error != FUSE_NOTIFY_RETRIEVE)
		return;
	rng_bytes(r, &m.body, n);
	if (rng_chance(r, 800)) {
		uint64_t file = FIRST_FILE + rng_below(r, 8);

		switch (m.h.error) {
		case FUSE_NOTIFY_RETRIEVE:
			n = sizeof(m.body.retrieve);
			m.body.retrieve = (struct fuse_notify_retrieve_out){
				.notify_unique = rng_chance(r, 500) ? 0 : atomic_load(&highest_id),
				.nodeid = file, .offset = rng_below(r, FILE_SIZE),
				.size = rng_below(r, 1 << 18),
			};
			break;
		case RESEND:
			n = 0;
			break;
		default:
			m.body.node = file;
		}
	}
	m.h.len = sizeof(m.h) + n;
	if (write(fd, &m, m.h.len) < 0)
		errno = 0;
}

static void device_reply(int fd, struct fuse_out_header *h, uint8_t *data,
			 uint32_t size, size_t room)
{
	struct iovec v[2] = { { h, sizeof(*h) }, { data, size < room ? size : room } };

	h->len = sizeof(*h) + size;
	if (writev(fd, v, v[1].iov_len ? 2 : 1) < 0)
		errno = 0;
}

/* Requests by read(): those before the ring is ready, forgets, interrupts */
static void *device(void *arg)
{
	static const struct { uint32_t op, len; } names[] = {
		{ FUSE_LOOKUP, 0 }, { FUSE_READLINK, 0 }, { FUSE_SYMLINK, 0 }, { FUSE_UNLINK, 0 },
		{ FUSE_RMDIR, 0 }, { FUSE_REMOVEXATTR, 0 }, { FUSE_STATFS, 0 },
	};
	struct rng r = rng_fork(plan->seed, 50);
	size_t room = 1 << 20;
	uint8_t *in = malloc(room + 8192), *out = malloc(room + 8192);
	struct fuse_in_header *h = (struct fuse_in_header *)in;
	struct pollfd p = { .fd = conn.fd, .events = POLLIN };
	unsigned int i;

	(void)arg;
	if (!in || !out)
		return NULL;
	while (!atomic_load(&enough)) {
		struct fuse_out_header o = {};
		struct req q = { .c = &conn };
		size_t len = 0;
		uint32_t size;
		ssize_t n;

		poll(&p, 1, 5);
		if (p.revents & POLLERR)
			nap_ms(2);
		n = read(conn.fd, in, room + 8192);
		if (!plan->sane && rng_chance(&r, plan->bad / 4))
			send_notice(&r, conn.fd);
		if (n < (ssize_t)sizeof(*h))
			continue;
		if (h->opcode == FUSE_FORGET || h->opcode == FUSE_BATCH_FORGET)
			continue;
		o.unique = h->unique;
		if (h->opcode == FUSE_INTERRUPT) {
			atomic_store(&last_interrupt, ((struct fuse_interrupt_in *)(h + 1))->unique);
			if (plan->sane || rng_chance(&r, 700))
				continue;
			o.error = rng_chance(&r, 500) ? -EAGAIN : -ENOSYS;
			device_reply(conn.fd, &o, out, 0, 0);
			continue;
		}
		q.h = *h;
		q.op = h + 1;
		q.pay = (uint8_t *)(h + 1);
		q.pay_len = n - sizeof(*h);
		for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (names[i].op == h->opcode)
				break;
		if (h->opcode == FUSE_WRITE) {
			q.pay += sizeof(struct fuse_write_in);
			q.pay_len -= sizeof(struct fuse_write_in);
		} else if (h->opcode == FUSE_IOCTL) {
			q.pay += sizeof(struct fuse_ioctl_in);
			q.pay_len -= sizeof(struct fuse_ioctl_in);
		}
		o.error = -fuzz_answer(&conn, &q, out, room, &len);
		size = o.error ? 0 : len;
		if (!plan->sane && rng_chance(&r, plan->bad / 2))
			spoil_reply(&r, &o, &size, out, room);
		if (!plan->sane && rng_chance(&r, plan->bad / 8))
			o.unique = atomic_load(&highest_id);	/* one of the ring's */
		device_reply(conn.fd, &o, out, size, room);
	}
	return NULL;
}

/* A mapping of a file that we serve ourselves, as a buffer: may wait for itself */
static void *map_own(void *arg)
{
	char path[PATH_MAX + 8];
	void *p;
	int fd;

	(void)arg;
	snprintf(path, sizeof(path), "%s/f0", conn.mnt);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	p = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED)
		own_file = p;
	close(fd);
	return NULL;
}

/* ------------------------------------------------------------------ start -- */

static bool answer_init(void)
{
	struct pollfd p = { .fd = conn.fd, .events = POLLIN };
	struct init_reply reply;

	if (poll(&p, 1, PATIENCE * 1000) != 1 || !init_read(&conn))
		return false;
	init_answer(&conn, &plan->init, &reply);
	payload = payload_size(&conn);
	if (plan->mute)
		return true;
	if (plan->init_error) {
		reply.h.error = -EIO;
		reply.h.len = sizeof(reply.h);
	}
	return write(conn.fd, &reply, reply.h.len) == (ssize_t)reply.h.len;
}

static void open_odd_fds(void)
{
	int p[2];

	odd_fds[0] = open("/dev/fuse", O_RDWR | O_CLOEXEC);	/* not mounted */
	odd_fds[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	odd_fds[2] = memfd_create("odd", MFD_CLOEXEC);
	if (pipe2(p, O_CLOEXEC))
		p[0] = -1;
	odd_fds[3] = p[0];
	odd_fds[4] = 999;	/* not open */
	odd_fds[5] = -1;
}

static void start_threads(void)
{
	pthread_attr_t attr;
	unsigned int i;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&t, &attr, device, NULL))
		_exit(3);
	for (i = 0; i < plan->workers; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			_exit(3);
	if (plan->may_deadlock)
		pthread_create(&t, &attr, map_own, NULL);
}

/* Before its INIT is answered a connection is to refuse everything. */
static void too_early(struct worker *w)
{
	unsigned int i;

	if (!w->open && !worker_ring_open(w))
		return;
	for (i = 0; i < 50; i++)
		bad_command(w);
	worker_submit(w);
	/* a ring may be for the one thread that made it */
	worker_ring_close(w);
}

/* What was asked for by the director. Returns when the rest is up to it. */
static void see_to(enum ending e)
{
	unsigned int i;
	pid_t pid;

	switch (e) {
	case END_THREADS:
		atomic_store(&enough, true);
		for (i = 0; i < plan->workers; i++)
			pthread_join(workers[i].thread, NULL);
		nap_ms(20);
		_exit(0);
	case END_CLOSE:
		/* by another file in its place: a number that is free might become a worker's own */
		for (i = 0; i < plan->workers; i++)
			if (workers[i].open)
				dup2(odd_fds[1], workers[i].u.ring_fd);
		nap_ms(20);
		_exit(0);
	case END_MUNMAP:
		munmap(ARENA, (size_t)NENT * SLOT);
		munmap(POOLS, (size_t)MAX_QUEUES * POOL);
		nap_ms(50);
		_exit(0);
	case END_EXEC:
		execl("/proc/self/exe", "ringfuzz", "sleep", NULL);
		_exit(3);
	case END_FORK:
		/* the child has the rings, and a copy of the memory */
		atomic_store(&forked, true);
		pid = fork();
		if (pid)
			return;
		/* it is the only thread here: the others' rings are his now */
		is_child = true;
		for (i = 0; i < plan->workers; i++) {
			unsigned int n;

			for (n = 0; n < 20 && workers[i].open; n++) {
				good_commit(&workers[i], rng_below(&workers[i].rng, NENT));
				worker_submit(&workers[i]);
				reap(&workers[i]);
			}
		}
		for (;;)
			pause();
	case END_EXIT:
		_exit(0);
	default:
		return;
	}
}

void server_main(const struct plan *p)
{
	struct sigaction fault = { .sa_sigaction = on_fault,
				   .sa_flags = SA_NODEFER | SA_SIGINFO };
	struct rng r = rng_fork(p->seed, 10);
	unsigned int i;
	uint8_t *two;
	int event;

	plan = p;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGBUS, &fault, NULL);
	nqueues = possible_cpus();
	if (nqueues > MAX_QUEUES)
		_exit(3);
	map_at(ARENA, (size_t)NENT * SLOT);
	/* a mapping at the pools' place, or registering buffers there fails */
	map_at(POOLS, (size_t)nqueues * POOL);
	map_at(HUGE, 4 << 20);
	madvise(HUGE, 4 << 20, MADV_HUGEPAGE);
	two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(two + 4096, 4096);
	edge = (struct iovec *)(two + 4096) - 1;
	for (i = 0; i < NENT; i++)
		arrange(&ents[i], i);

	conn_mount(&conn);
	alarm(0);
	conn.data = malloc(FILE_SIZE);
	if (!conn.data)
		_exit(3);
	fill_pattern(conn.data, FILE_SIZE, 0);
	open_odd_fds();
	for (i = 0; i < p->workers; i++) {
		workers[i].index = i;
		workers[i].rng = rng_fork(p->seed, 20 + i);
		workers[i].fd = conn.fd;
		workers[i].out = malloc(1 << 20);
		if (p->clone && rng_chance(&r, 500)) {
			uint32_t from = conn.fd;
			int fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);

			if (fd >= 0 && !ioctl(fd, FUSE_DEV_IOC_CLONE, &from))
				workers[i].fd = fd;
		}
	}
	payload = 4096 * 33;
	atomic_store(&sh->mounted, 1);
	if (p->early)
		too_early(&workers[0]);
	if (!answer_init()) {
		/* ended by the director meanwhile */
		for (;;)
			pause();
	}
	if (pools_wanted() && !p->init.no_ring && !p->mute && !p->init_error && p->pools_first)
		pools_first();
	start_threads();
	atomic_store(&sh->running, 1);
	for (;;) {
		event = atomic_exchange(&sh->event, 0);
		if (event)
			see_to(event - 1);
		nap_ms(1);
	}
}
