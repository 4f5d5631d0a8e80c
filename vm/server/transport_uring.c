// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring: one queue for each possible CPU, spread over threads, each of which has an
 * io_uring of its own (loop.h) and handles requests in place, in the buffers the kernel
 * filled. Only that thread submits there; others that have a reply hand it over.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "loop.h"
#include "say.h"
#include "session.h"
#include "request.h"
#include "transport.h"

enum entry_state { REGISTERING, WITH_KERNEL, PARKED, HANDLED, GONE };

struct entry {
	struct request rq;
	struct queue *queue;
	struct proto_ring_header *header;
	struct iovec vec[2];
	struct awaited command;		/* the kernel has it until there is a request */
	struct awaited answer;		/* of another thread */
	enum entry_state state;
	bool held;			/* the reply waits for who knows what */
	unsigned int tries;
	size_t map_size;
};

struct queue {
	struct ring_thread *thread;
	unsigned int id;
	unsigned int buffer;		/* of its pool, among those registered with the thread's ring */
	enum pool_kind pool_kind;
	char *pool;			/* payloads of all entries, or NULL */
	size_t pool_size;
	struct entry **entries;
	unsigned int count;		/* of all entries */
	unsigned int live;		/* not GONE */
	unsigned int held;
	struct stats_slot *stats;
};

/* Serves the queues whose number is its own, modulo the number of threads. */
struct ring_thread {
	pthread_t thread;
	bool started;
	unsigned int number;
	struct loop loop;
	unsigned int live;		/* of all its queues */
	bool registered;
	bool again;			/* a REGISTER was refused, for now */
	int error;
	const char *error_at;
};

/* How far all are, and how far they may go. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned int prepared;
	unsigned int registered;
	bool go;
	bool stop;
} all = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct queue *queues;
static unsigned int queue_count;
static struct ring_thread *threads;
static unsigned int thread_count;

#define FOR_QUEUES_OF(q, t) \
	for (struct queue *q = &queues[(t)->number]; q < queues + queue_count; q += thread_count)

/* An entry may be refused for a while (EAGAIN); then this often, a millisecond apart. */
#define REGISTER_TRIES 2000
/* Entries a queue may have at most, with those added while others wait. */
#define MOST_ENTRIES 8192

static bool must_stop(void)
{
	return __atomic_load_n(&all.stop, __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------- entries */

/* --undone: it ends at once, and the kernel has not seen it. */
static bool stays_undone(struct entry *e)
{
	static unsigned int count;
	unsigned int every = session.opt->undone;
	unsigned int n = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);

	int error = session.opt->undone_error;

	if (!every || n % every)
		return false;
	if (!error)
		error = n / every % 2 ? EAGAIN : EINTR;
	loop_post(&e->queue->thread->loop, &e->command, -error);
	return true;
}

static void send_command(struct entry *e, uint32_t command, uint64_t commit_id)
{
	struct queue *q = e->queue;
	bool aids = __builtin_expect(session.opt->test_aids, false);
	struct proto_ring_command *c;
	struct io_uring_sqe *sqe;

	e->state = command == PROTO_RING_REGISTER ? REGISTERING : WITH_KERNEL;
	if (aids && stays_undone(e))
		return;
	sqe = loop_sqe(&q->thread->loop, &e->command);
	if (!sqe)
		return;
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->cmd_op = command;
	/* the command's own part lies behind that of ordinary entries */
	c = (struct proto_ring_command *)sqe->cmd;
	*c = (struct proto_ring_command){ .commit_id = commit_id, .queue = q->id };
	if (aids && session.opt->refuse_register && command == PROTO_RING_REGISTER)
		c->queue = UINT16_MAX;
	if (q->pool_kind == POOL_REGISTERED) {
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
		sqe->buf_index = q->buffer;
	}
	if (command == PROTO_RING_REGISTER) {
		sqe->addr = (uintptr_t)e->vec;
		sqe->len = 2;
	}
}

static void entry_done(struct awaited *a, int result);
static void answered(struct awaited *a, int result);
static void ring_reply(struct request *rq, int result);

static struct entry *new_entry(struct queue *q)
{
	size_t page = sysconf(_SC_PAGESIZE);
	size_t payload = q->pool ? 0 : (session.payload_max + page - 1) & ~(page - 1);
	struct entry **entries = realloc(q->entries, (q->count + 1) * sizeof(*entries));
	struct entry *e;
	char *map;

	if (!entries)
		return NULL;
	q->entries = entries;
	e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->map_size = page + payload;
	/* the header alone in a page, so that both parts are aligned to pages */
	map = mmap(NULL, e->map_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0);
	if (map == MAP_FAILED) {
		free(e);
		return NULL;
	}
	e->queue = q;
	e->command.done = entry_done;
	e->answer.done = answered;
	e->header = (struct proto_ring_header *)map;
	e->vec[0] = (struct iovec){ e->header, sizeof(*e->header) };
	if (!q->pool) {
		e->vec[1] = (struct iovec){ map + page, session.payload_max };
		e->rq.payload = e->rq.out = map + page;
		e->rq.payload_memory = (struct iovec){ map, e->map_size };
	} else {
		e->rq.payload_memory = (struct iovec){ q->pool, q->pool_size };
	}
	e->rq.in = (struct fuse_in_header *)e->header->in_out;
	e->rq.arg = e->header->op_in;
	e->rq.out_max = session.payload_max;
	e->rq.out_memory = e->rq.payload_memory;
	e->rq.path = PATH_RING;
	e->rq.stats = q->stats;
	e->rq.loop = &q->thread->loop;
	e->rq.reply = ring_reply;
	q->entries[q->count++] = e;
	q->live++;
	q->thread->live++;
	return e;
}

/*
 * The connection ending takes the entries away as well, and perhaps before a thread
 * that reads /dev/fuse hears of it. That one says what kind of end it is.
 */
static void entry_is_gone(struct entry *e, int error)
{
	struct queue *q = e->queue;
	bool ended = error == ENOTCONN || error == ECONNABORTED || session_has_ended();

	e->state = GONE;
	q->thread->live--;
	if (--q->live == 0 && q->thread->registered && !ended && !must_stop())
		session_fail("a queue has no entry left", error);
}

static void send_reply(struct entry *e, int result)
{
	struct fuse_out_header *out = (struct fuse_out_header *)e->header->in_out;
	uint64_t unique = e->rq.in->unique;
	uint32_t size = result < 0 ? 0 : result;

	*out = (struct fuse_out_header){
		.len = sizeof(*out) + size,
		.error = result < 0 ? request_error(result) : e->rq.out_error,
		.unique = unique,
	};
	e->header->part.payload_size = size;
	stats_add(&e->queue->stats->replies[PATH_RING], 1);
	stats_add(&e->queue->stats->bytes_out[PATH_RING], out->len);
	send_command(e, PROTO_RING_COMMIT_AND_FETCH, e->header->part.commit_id);
}

/*
 * A queue all of whose entries wait for a lock could not take the request that
 * releases it: so there are always as many entries as asked for besides those.
 */
static void replace_held(struct queue *q)
{
	struct entry *e;

	if (q->live - q->held >= session.opt->depth)
		return;
	if (q->count >= MOST_ENTRIES) {
		say("queue %u has too many waiting requests", q->id);
		return;
	}
	e = new_entry(q);
	if (!e)
		return;
	__atomic_fetch_add(&stats->entries, 1, __ATOMIC_RELAXED);
	send_command(e, PROTO_RING_REGISTER, 0);
}

/* --zero-commit */
static bool lacks_commit_id(void)
{
	static unsigned int count;
	unsigned int which = session.opt->zero_commit;

	return which && __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED) == which;
}

static void handle_request(struct entry *e)
{
	const struct proto_ring_part *part = &e->header->part;
	const struct fuse_in_header *in = e->rq.in;
	uint32_t payload = part->payload_size;
	int result;

	e->state = HANDLED;
	if (!part->commit_id || (__builtin_expect(session.opt->test_aids, false) && lacks_commit_id())) {
		/* it could never be answered */
		session_fail("a request without commit id on the ring", EPROTO);
		return;
	}
	if (payload > session.payload_max || in->len < sizeof(*in) + payload ||
	    (e->queue->pool && part->offset > e->queue->pool_size - session.payload_max)) {
		request_refuse(&e->rq, -EINVAL);
		send_reply(e, -EINVAL);
		return;
	}
	/* what has no payload, neither way, has no place there and touches none */
	if (e->queue->pool)
		e->rq.payload = e->rq.out = e->queue->pool + part->offset;
	e->rq.payload_size = payload;
	e->rq.arg_size = in->len - sizeof(*in) - payload;
	if (e->rq.arg_size > sizeof(e->header->op_in))
		e->rq.arg_size = 0;
	result = request_run(&e->rq);
	if (result == REPLY_LATER) {
		e->held = true;
		e->queue->held++;
		replace_held(e->queue);
	} else if (result != REPLY_SOON) {
		/* nothing on the ring goes without reply */
		send_reply(e, result == REPLY_NONE ? 0 : result);
	}
}

/* ---------------------------------------------------------------------- pools */

struct waiter {
	struct awaited awaited;
	bool done;
	int result;
};

static void waiter_done(struct awaited *a, int result)
{
	struct waiter *w = AWAITED_IN(struct waiter, awaited, a);

	w->done = true;
	w->result = result;
}

/* Run a command that completes at once. Its result: 0 or a negative error number. */
static int run_command(struct loop *l, uint32_t command, const struct proto_ring_command *c,
		       int fixed_buffer)
{
	struct waiter w = { .awaited.done = waiter_done };
	struct io_uring_sqe *sqe = loop_sqe(l, &w.awaited);

	if (!sqe)
		return -EBUSY;
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = session.fd;
	sqe->cmd_op = command;
	if (fixed_buffer >= 0) {
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
		sqe->buf_index = fixed_buffer;
	}
	memcpy(sqe->cmd, c, sizeof(*c));
	while (!w.done)
		if (!loop_turn(l, true))
			return -EIO;
	return w.result;
}

/* Memory for all payloads of the queue; without it, entries have buffers of their own. */
static void make_pool(struct queue *q)
{
	size_t size = (size_t)session.opt->depth * session.payload_max;

	q->pool_kind = session.ring_pools ? session.opt->pool : POOL_NONE;
	/* the size is told as 32 bits */
	if (q->pool_kind == POOL_NONE || size > UINT32_MAX)
		return;
	q->pool = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (q->pool == MAP_FAILED)
		q->pool = NULL;
	q->pool_size = size;
}

/* All of a thread's pools, which need not be registered when it cannot be. */
static void register_pools(struct ring_thread *t)
{
	struct iovec vecs[UIO_MAXIOV];
	unsigned int count = 0;

	FOR_QUEUES_OF(q, t) {
		if (!q->pool || q->pool_kind != POOL_REGISTERED || count == UIO_MAXIOV)
			continue;
		q->buffer = count;
		vecs[count++] = (struct iovec){ q->pool, q->pool_size };
	}
	/* for lack of RLIMIT_MEMLOCK, for one */
	if (!count || io_uring_register_buffers(&t->loop.ring, vecs, count) == 0)
		return;
	FOR_QUEUES_OF(q, t)
		if (q->pool_kind == POOL_REGISTERED)
			q->pool_kind = POOL_PLAIN;
}

static void drop_pool(struct queue *q)
{
	if (q->pool)
		munmap(q->pool, q->pool_size);
	q->pool = NULL;
	q->pool_kind = POOL_NONE;
}

/* Give the pool to the kernel. 0, or a negative error number: it is of no use then. */
static int add_pool(struct queue *q)
{
	struct proto_ring_command c = { .queue = q->id };
	struct loop *l = &q->thread->loop;
	int rc = run_command(l, PROTO_RING_ADD_QUEUE, &c, -1);

	if (rc)
		return rc;
	c.pool_address = (uintptr_t)q->pool;
	c.pool_size = q->pool_size;
	return run_command(l, PROTO_RING_ADD_POOL, &c,
			   q->pool_kind == POOL_REGISTERED ? (int)q->buffer : -1);
}

/* -------------------------------------------------------------------- queues */

static void refused(struct ring_thread *t, int error)
{
	if (!t->error) {
		t->error = error;
		t->error_at = "REGISTER";
	}
}

static void handle_failure(struct entry *e, int error)
{
	struct ring_thread *t = e->queue->thread;
	struct timespec pause = { .tv_nsec = 1000000 };
	bool first = e->state == REGISTERING;
	/* somebody writes to the request's pages, which ends by itself */
	bool busy = error == EBUSY && !first;

	if ((error == EAGAIN || error == EINTR || busy) && !must_stop() && !session_has_ended()) {
		if (busy || e->tries++ < REGISTER_TRIES) {
			if (busy || e->tries > 2)
				nanosleep(&pause, NULL);
			t->again |= first;
			send_command(e, first ? PROTO_RING_REGISTER :
				     PROTO_RING_COMMIT_AND_FETCH,
				     first ? 0 : e->header->part.commit_id);
			return;
		}
	}
	/* after the verdict a REGISTER held by the kernel can only end with the connection */
	if (first && !t->registered)
		refused(t, error);
	else if (error != ENOTCONN && error != ECONNABORTED && !must_stop())
		session_fail("the ring", error);	/* not the connection's end */
	entry_is_gone(e, error);
}

static void entry_done(struct awaited *a, int result)
{
	struct entry *e = AWAITED_IN(struct entry, command, a);

	if (result) {
		handle_failure(e, result < 0 ? -result : EPROTO);
		return;
	}
	e->tries = 0;
	if (e->queue->thread->loop.paused || must_stop())
		e->state = PARKED;
	else
		handle_request(e);
}

/* After a pause: what has come meanwhile. */
static void handle_parked(struct loop *l)
{
	struct ring_thread *t = l->owner;

	FOR_QUEUES_OF(q, t)
		for (unsigned int i = 0; i < q->count; i++)
			if (q->entries[i]->state == PARKED)
				handle_request(q->entries[i]);
}

static void answered(struct awaited *a, int result)
{
	struct entry *e = AWAITED_IN(struct entry, answer, a);

	if (e->held) {
		e->held = false;
		e->queue->held--;
	}
	send_reply(e, result);
}

/* A reply that had to wait; any thread. */
static void ring_reply(struct request *rq, int result)
{
	struct entry *e = (struct entry *)rq;

	if (loop_current() == rq->loop)
		answered(&e->answer, result);
	else
		loop_post(rq->loop, &e->answer, result);
}

/* False: nothing more can come. */
static bool turn(struct ring_thread *t, bool wait)
{
	return loop_turn(&t->loop, wait) && !must_stop() && t->live > 0;
}

/* To the CPUs of its queues. */
static void pin(struct ring_thread *t)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	FOR_QUEUES_OF(q, t)
		if (q->id < CPU_SETSIZE)
			CPU_SET(q->id, &set);
	/* fails when none of them is online; then anywhere */
	sched_setaffinity(0, sizeof(set), &set);
}

/* 0 or an error number */
static int make_entries(struct queue *q)
{
	for (unsigned int i = 0; i < session.opt->depth; i++)
		if (!new_entry(q))
			return ENOMEM;
	return 0;
}

static void drop_entries(struct queue *q)
{
	for (unsigned int i = 0; i < q->count; i++) {
		munmap(q->entries[i]->header, q->entries[i]->map_size);
		free(q->entries[i]);
	}
	free(q->entries);
	q->entries = NULL;
	q->thread->live -= q->live;
	q->count = q->live = 0;
}

/* 0 or an error number */
static int prepare(struct ring_thread *t)
{
	unsigned int entries = 1 + (queue_count + thread_count - 1) / thread_count *
			       session.opt->depth;
	int fd = session.fd;
	int rc;

	rc = loop_make(&t->loop, entries, 4 * entries, &t->error_at);
	if (rc)
		return rc;
	t->loop.owner = t;
	t->loop.resumed = handle_parked;
	t->error_at = "io_uring_register";
	rc = io_uring_register_files(&t->loop.ring, &fd, 1);
	if (rc < 0)
		return -rc;
	t->error_at = "buffers";
	FOR_QUEUES_OF(q, t)
		make_pool(q);
	register_pools(t);
	FOR_QUEUES_OF(q, t) {
		rc = make_entries(q);
		if (rc)
			return rc;
	}
	if (session.backend->thread_start)
		session.backend->thread_start(&t->loop);
	return 0;
}

static void finish(struct ring_thread *t)
{
	/* what a backend still does is done in the entries' memory */
	while (t->loop.busy && loop_turn(&t->loop, true))
		;
	if (t->loop.made && session.backend->thread_stop)
		session.backend->thread_stop(&t->loop);
	loop_end(&t->loop);
}

static void report(unsigned int *counter)
{
	pthread_mutex_lock(&all.lock);
	(*counter)++;
	pthread_cond_broadcast(&all.changed);
	pthread_mutex_unlock(&all.lock);
}

/* Wait for the word; false: it is to stop. */
static bool may_go(void)
{
	bool go;

	pthread_mutex_lock(&all.lock);
	while (!all.go && !all.stop)
		pthread_cond_wait(&all.changed, &all.lock);
	go = !all.stop;
	pthread_mutex_unlock(&all.lock);
	return go;
}

static void offer_pool(struct queue *q)
{
	int rc = q->pool ? add_pool(q) : 0;

	if (!rc)
		return;
	say("queue %u: the kernel refuses its pool: %s; a buffer for each entry then",
	    q->id, strerror(-rc));
	drop_entries(q);
	drop_pool(q);
	rc = make_entries(q);
	if (rc)
		q->thread->error = rc;
}

static void *thread_main(void *arg)
{
	struct ring_thread *t = arg;
	bool on = true;

	pin(t);
	loop_be_patient();
	t->error = prepare(t);
	report(&all.prepared);
	if (!may_go()) {
		finish(t);
		return NULL;
	}
	FOR_QUEUES_OF(q, t) {
		offer_pool(q);
		for (unsigned int i = 0; i < q->count; i++)
			send_command(q->entries[i], PROTO_RING_REGISTER, 0);
	}
	/* what is accepted says nothing; what is refused says so at once */
	do {
		t->again = false;
		on = turn(t, false);
	} while (on && t->again);
	t->registered = true;
	report(&all.registered);
	while (on)
		on = turn(t, true);
	finish(t);
	return NULL;
}

static unsigned int possible_cpus(void)
{
	unsigned int first, last, count = 0;
	char comma;
	FILE *f;

	f = fopen("/sys/devices/system/cpu/possible", "re");
	/* a list like 0-3,8-11; queues are numbered by CPU, so the last one counts */
	while (f && fscanf(f, "%u", &first) == 1) {
		last = first;
		if (fscanf(f, "-%u", &last) < 0)
			last = first;
		count = last + 1;
		if (fscanf(f, "%c", &comma) != 1 || comma != ',')
			break;
	}
	if (f)
		fclose(f);
	return count ? count : sysconf(_SC_NPROCESSORS_CONF);
}

unsigned int ring_queues(void)
{
	unsigned int count = possible_cpus();

	/*
	 * More would be refused, and too late: the ring is ready once each queue the
	 * kernel has got an entry, and no longer falls back to /dev/fuse then.
	 */
	if (session.opt->queues && session.opt->queues < count)
		count = session.opt->queues;
	return count;
}

/* Run a command by a ring made for it. */
static int command_now(uint32_t command, unsigned int qid)
{
	struct proto_ring_command c = { .queue = qid };
	struct loop loop = { 0 };
	const char *what;
	int rc = loop_make(&loop, 4, 8, &what);

	if (rc)
		return -rc;
	rc = run_command(&loop, command, &c, -1);
	loop_end(&loop);
	loop_free(&loop);
	return rc;
}

/* The kernel waits for a queue for each CPU, unless it is told that no more will come. */
static bool start_with_fewer(char *why, size_t size)
{
	int rc = command_now(PROTO_RING_START, 0);

	if (rc == 0)
		return true;
	snprintf(why, size, "the kernel wants a queue for each CPU: START: %s", strerror(-rc));
	/* a REGISTER that fails now lets it go on with /dev/fuse instead of waiting */
	command_now(PROTO_RING_REGISTER, UINT16_MAX);
	return false;
}

/* Wait until all threads were counted; the first one with an error tells why. */
static bool all_reported(const unsigned int *counter, char *why, size_t size)
{
	bool ok = true;

	pthread_mutex_lock(&all.lock);
	while (*counter < thread_count)
		pthread_cond_wait(&all.changed, &all.lock);
	pthread_mutex_unlock(&all.lock);
	for (unsigned int i = 0; ok && i < thread_count; i++) {
		struct ring_thread *t = &threads[i];

		if (t->error) {
			snprintf(why, size, "%s: %s", t->error_at, strerror(t->error));
			ok = false;
		}
	}
	return ok;
}

void ring_join(void)
{
	pthread_mutex_lock(&all.lock);
	__atomic_store_n(&all.stop, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&all.changed);
	pthread_mutex_unlock(&all.lock);
	/* those that wait in their loop; the others look before they go there */
	loop_wake_all();
	for (unsigned int i = 0; i < thread_count && threads[i].started; i++)
		pthread_join(threads[i].thread, NULL);
}

void ring_free(void)
{
	for (unsigned int i = 0; i < queue_count; i++) {
		drop_entries(&queues[i]);
		drop_pool(&queues[i]);
	}
	for (unsigned int i = 0; i < thread_count; i++)
		loop_free(&threads[i].loop);
	free(queues);
	free(threads);
	queues = NULL;
	threads = NULL;
	queue_count = thread_count = 0;
}

static void give_up(void)
{
	ring_join();
	ring_free();
}

bool ring_prepare(char *why, size_t size)
{
	int rc = 0;

	queue_count = ring_queues();
	thread_count = session.opt->ring_threads;
	if (!thread_count || thread_count > queue_count)
		thread_count = queue_count;
	queues = calloc(queue_count, sizeof(*queues));
	threads = calloc(thread_count, sizeof(*threads));
	if (!queues || !threads) {
		snprintf(why, size, "no memory");
		return false;
	}
	for (unsigned int i = 0; i < queue_count; i++) {
		queues[i].id = i;
		queues[i].thread = &threads[i % thread_count];
		queues[i].stats = &stats->slot[FIRST_DEV_SLOT + session.opt->threads + i];
	}
	for (unsigned int i = 0; i < thread_count && !rc; i++) {
		threads[i].number = i;
		rc = pthread_create(&threads[i].thread, NULL, thread_main, &threads[i]);
		threads[i].started = !rc;
	}
	if (rc)
		snprintf(why, size, "thread: %s", strerror(rc));
	if (rc || !all_reported(&all.prepared, why, size)) {
		give_up();
		return false;
	}
	stats->queues = queue_count;
	stats->entries = (uint64_t)queue_count * session.opt->depth;
	return true;
}

bool ring_register(char *why, size_t size)
{
	pthread_mutex_lock(&all.lock);
	all.go = true;
	pthread_cond_broadcast(&all.changed);
	pthread_mutex_unlock(&all.lock);
	if (all_reported(&all.registered, why, size) &&
	    (queue_count == possible_cpus() || start_with_fewer(why, size)))
		return true;
	give_up();
	return false;
}
