// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ring: one queue for each possible CPU, served by a thread that has an io_uring
 * of its own and handles requests in place, in the buffers the kernel filled.
 *
 * Only a queue's thread submits on its io_uring. Other threads that complete a request
 * put it on the queue's list and write its eventfd, on which a read is always pending.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "session.h"
#include "request.h"
#include "transport.h"

enum entry_state { REGISTERING, WITH_KERNEL, HANDLED, GONE };

struct entry {
	struct request rq;
	struct queue *queue;
	struct proto_ring_header *header;
	struct iovec vec[2];
	enum entry_state state;
	unsigned int tries;
	size_t map_size;
};

struct queue {
	pthread_t thread;
	unsigned int id;
	struct io_uring ring;
	bool ring_made;
	enum pool_kind pool_kind;
	char *pool;			/* payloads of all entries, or NULL */
	size_t pool_size;
	bool registered;
	struct entry **entries;
	unsigned int count;		/* of all entries */
	unsigned int live;		/* not GONE */
	unsigned int held;		/* whose reply has to wait */
	struct stats_slot *stats;
	int event;
	uint64_t event_value;
	pthread_mutex_t done_lock;
	struct request *done;		/* replies of other threads */
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

/* An entry may be refused for a while (EAGAIN); then this often, a millisecond apart. */
#define REGISTER_TRIES 2000
/* Entries a queue may have at most, with those added while others wait. */
#define MOST_ENTRIES 8192

static bool must_stop(void)
{
	return __atomic_load_n(&all.stop, __ATOMIC_ACQUIRE);
}

/* ------------------------------------------------------------------- entries */

static struct io_uring_sqe *get_sqe(struct queue *q)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	if (!sqe) {
		io_uring_submit(&q->ring);
		sqe = io_uring_get_sqe(&q->ring);
	}
	if (!sqe)
		session_fail("no room in the submission queue", EBUSY);
	return sqe;
}

static void send_command(struct entry *e, uint32_t command, uint64_t commit_id)
{
	struct io_uring_sqe *sqe = get_sqe(e->queue);
	struct proto_ring_command *c;

	if (!sqe)
		return;
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, 0, NULL, 0, 0);
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->cmd_op = command;
	sqe->user_data = (uintptr_t)e;
	/* the command's own part lies behind that of ordinary entries */
	c = (struct proto_ring_command *)sqe->cmd;
	*c = (struct proto_ring_command){ .commit_id = commit_id, .queue = e->queue->id };
	if (e->queue->pool_kind == POOL_REGISTERED)
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	if (command == PROTO_RING_REGISTER) {
		sqe->addr = (uintptr_t)e->vec;
		sqe->len = 2;
		e->state = REGISTERING;
	} else {
		e->state = WITH_KERNEL;
	}
}

static void watch_event(struct queue *q)
{
	struct io_uring_sqe *sqe = get_sqe(q);

	if (!sqe)
		return;
	*sqe = (struct io_uring_sqe){};
	io_uring_prep_read(sqe, q->event, &q->event_value, sizeof(q->event_value), 0);
	sqe->user_data = 0;
}

static void wake(struct queue *q)
{
	uint64_t one = 1;

	if (write(q->event, &one, sizeof(one)) < 0)
		session_fail("eventfd", errno);
}

/* A reply that had to wait; any thread. */
static void ring_complete(struct request *rq, int result)
{
	struct queue *q = ((struct entry *)rq)->queue;

	rq->result = result;
	pthread_mutex_lock(&q->done_lock);
	rq->next = q->done;
	q->done = rq;
	pthread_mutex_unlock(&q->done_lock);
	wake(q);
}

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
	e->header = (struct proto_ring_header *)map;
	e->vec[0] = (struct iovec){ e->header, sizeof(*e->header) };
	if (!q->pool) {
		e->vec[1] = (struct iovec){ map + page, session.payload_max };
		e->rq.payload = e->rq.out = map + page;
	}
	e->rq.in = (struct fuse_in_header *)e->header->in_out;
	e->rq.arg = e->header->op_in;
	e->rq.out_max = session.payload_max;
	e->rq.path = PATH_RING;
	e->rq.stats = q->stats;
	e->rq.complete = ring_complete;
	q->entries[q->count++] = e;
	q->live++;
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
	if (--q->live == 0 && q->registered && !ended && !must_stop())
		session_fail("a queue has no entry left", error);
}

static void send_reply(struct entry *e, int result)
{
	struct fuse_out_header *out = (struct fuse_out_header *)e->header->in_out;
	uint64_t unique = e->rq.in->unique;
	uint32_t size = result < 0 ? 0 : result;

	*out = (struct fuse_out_header){
		.len = sizeof(*out) + size,
		.error = result < 0 ? result : 0,
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
		fprintf(stderr, "mirrorfs: queue %u has too many waiting requests\n", q->id);
		return;
	}
	e = new_entry(q);
	if (!e)
		return;
	__atomic_fetch_add(&stats->entries, 1, __ATOMIC_RELAXED);
	send_command(e, PROTO_RING_REGISTER, 0);
}

static void handle_request(struct entry *e)
{
	const struct proto_ring_part *part = &e->header->part;
	const struct fuse_in_header *in = e->rq.in;
	uint32_t payload = part->payload_size;
	int result;

	e->state = HANDLED;
	if (!part->commit_id) {
		/* it could never be answered */
		session_fail("a request without commit id on the ring", EPROTO);
		return;
	}
	if (payload > session.payload_max || in->len < sizeof(*in) + payload) {
		send_reply(e, -EIO);
		return;
	}
	if (e->queue->pool) {
		if (part->offset > e->queue->pool_size - session.payload_max) {
			send_reply(e, -EIO);
			return;
		}
		/* what has no payload, neither way, has no place there and touches none */
		e->rq.payload = e->rq.out = e->queue->pool + part->offset;
	}
	e->rq.payload_size = payload;
	e->rq.arg_size = in->len - sizeof(*in) - payload;
	if (e->rq.arg_size > sizeof(e->header->op_in))
		e->rq.arg_size = 0;
	result = request_run(&e->rq);
	if (result == REPLY_LATER) {
		e->queue->held++;
		replace_held(e->queue);
	} else {
		/* nothing on the ring goes without reply */
		send_reply(e, result == REPLY_NONE ? 0 : result);
	}
}

/* ---------------------------------------------------------------------- pools */

/* Run a command that completes at once. Its result: 0 or a negative error number. */
static int run_command(struct io_uring *ring, uint32_t command,
		       const struct proto_ring_command *c, bool fixed_buffer)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int rc;

	if (!sqe)
		return -EBUSY;
	*sqe = (struct io_uring_sqe){
		.opcode = IORING_OP_URING_CMD,
		.fd = session.fd,
		.cmd_op = command,
		.uring_cmd_flags = fixed_buffer ? IORING_URING_CMD_FIXED : 0,
	};
	memcpy(sqe->cmd, c, sizeof(*c));
	do
		rc = io_uring_submit_and_wait(ring, 1);
	while (rc == -EINTR);
	if (rc >= 0)
		rc = io_uring_peek_cqe(ring, &cqe);
	if (rc < 0)
		return rc;
	rc = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return rc;
}

/* Memory for all payloads of the queue; without it, entries have buffers of their own. */
static void make_pool(struct queue *q)
{
	size_t size = (size_t)session.opt->depth * session.payload_max;
	struct iovec vec = { .iov_len = size };

	q->pool_kind = session.ring_pools ? session.opt->pool : POOL_NONE;
	/* the size is told as 32 bits */
	if (q->pool_kind == POOL_NONE || size > UINT32_MAX)
		return;
	vec.iov_base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
	if (vec.iov_base == MAP_FAILED)
		return;
	q->pool = vec.iov_base;
	q->pool_size = size;
	/* for lack of RLIMIT_MEMLOCK, for one */
	if (q->pool_kind == POOL_REGISTERED && io_uring_register_buffers(&q->ring, &vec, 1))
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
	int rc = run_command(&q->ring, PROTO_RING_ADD_QUEUE, &c, false);

	if (rc)
		return rc;
	c.pool_address = (uintptr_t)q->pool;
	c.pool_size = q->pool_size;
	return run_command(&q->ring, PROTO_RING_ADD_POOL, &c,
			   q->pool_kind == POOL_REGISTERED);
}

/* -------------------------------------------------------------------- queues */

static void refused(struct queue *q, int error)
{
	if (!q->error) {
		q->error = error;
		q->error_at = "REGISTER";
	}
}

static void handle_failure(struct entry *e, int error)
{
	struct queue *q = e->queue;
	struct timespec pause = { .tv_nsec = 1000000 };
	bool first = e->state == REGISTERING;

	if ((error == EAGAIN || error == EINTR) && !must_stop() && !session_has_ended()) {
		if (e->tries++ < REGISTER_TRIES) {
			if (e->tries > 2)
				nanosleep(&pause, NULL);
			send_command(e, first ? PROTO_RING_REGISTER :
				     PROTO_RING_COMMIT_AND_FETCH,
				     first ? 0 : e->header->part.commit_id);
			return;
		}
	}
	/* after the verdict a REGISTER held by the kernel can only end with the connection */
	if (first && !q->registered)
		refused(q, error);
	else if (error != ENOTCONN && error != ECONNABORTED && error != ECANCELED)
		fprintf(stderr, "mirrorfs: queue %u lost an entry: %s\n", q->id,
			strerror(error));
	entry_is_gone(e, error);
}

static void take_done(struct queue *q)
{
	struct request *rq;

	pthread_mutex_lock(&q->done_lock);
	rq = q->done;
	q->done = NULL;
	pthread_mutex_unlock(&q->done_lock);
	while (rq) {
		struct request *next = rq->next;

		q->held--;
		send_reply((struct entry *)rq, rq->result);
		rq = next;
	}
}

static void handle_completion(struct queue *q, struct io_uring_cqe *cqe)
{
	struct entry *e = (struct entry *)(uintptr_t)cqe->user_data;

	if (!e) {
		take_done(q);
		if (!must_stop())
			watch_event(q);
	} else if (cqe->res == 0) {
		e->tries = 0;
		handle_request(e);
	} else {
		handle_failure(e, cqe->res < 0 ? -cqe->res : EPROTO);
	}
}

/* False: nothing more can come. */
static bool turn(struct queue *q, unsigned int wait)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	int rc = io_uring_submit_and_wait(&q->ring, wait);

	if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) {
		session_fail("io_uring_enter", -rc);
		return false;
	}
	io_uring_for_each_cqe(&q->ring, head, cqe) {
		handle_completion(q, cqe);
		n++;
	}
	io_uring_cq_advance(&q->ring, n);
	return !must_stop() && q->live > 0;
}

static void pin(struct queue *q)
{
	cpu_set_t set;

	/* fails when that CPU is not online; then anywhere */
	CPU_ZERO(&set);
	if (q->id < CPU_SETSIZE) {
		CPU_SET(q->id, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
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
	q->count = q->live = 0;
}

static int make_ring(struct queue *q)
{
	unsigned int depth = session.opt->depth;
	struct io_uring_params p = {
		/*
		 * One thread submits and waits: work for it need not interrupt it, and
		 * system calls of handlers do not end with EINTR because of it.
		 */
		.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL |
			 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		.cq_entries = 4 * (depth + 1),
	};
	int fd = session.fd;
	int rc;

	q->error_at = "io_uring_setup";
	rc = io_uring_queue_init_params(depth + 1, &q->ring, &p);
	if (rc < 0)
		return -rc;
	q->ring_made = true;
	q->error_at = "io_uring_register";
	rc = io_uring_register_files(&q->ring, &fd, 1);
	if (rc < 0)
		return -rc;
	/* saves looking the ring up with each system call; older kernels do without */
	io_uring_register_ring_fd(&q->ring);
	q->error_at = "eventfd";
	q->event = eventfd(0, EFD_CLOEXEC);
	if (q->event < 0)
		return errno;
	q->error_at = "buffers";
	make_pool(q);
	return make_entries(q);
}

static void destroy(struct queue *q)
{
	if (q->ring_made)
		io_uring_queue_exit(&q->ring);
	drop_entries(q);
	drop_pool(q);
	q->ring_made = false;
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

static bool is_registering(const struct queue *q)
{
	for (unsigned int i = 0; i < q->count; i++)
		if (q->entries[i]->state == REGISTERING && q->entries[i]->tries)
			return true;
	return false;
}

static void offer_pool(struct queue *q)
{
	int rc = q->pool ? add_pool(q) : 0;

	if (!rc)
		return;
	fprintf(stderr, "mirrorfs: queue %u: the kernel refuses its pool: %s; a buffer for each entry then\n",
		q->id, strerror(-rc));
	drop_entries(q);
	drop_pool(q);
	q->error = make_entries(q);
}

static void *queue_main(void *arg)
{
	struct queue *q = arg;
	bool on = true;

	pin(q);
	q->error = make_ring(q);
	report(&all.prepared);
	if (!may_go()) {
		destroy(q);
		return NULL;
	}
	offer_pool(q);
	watch_event(q);
	for (unsigned int i = 0; i < q->count; i++)
		send_command(q->entries[i], PROTO_RING_REGISTER, 0);
	/* what is accepted says nothing; what is refused says so at once */
	do
		on = turn(q, 0);
	while (on && is_registering(q));
	q->registered = true;
	report(&all.registered);
	while (on)
		on = turn(q, 1);
	destroy(q);
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
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 };
	struct io_uring ring;
	int rc;

	rc = io_uring_queue_init_params(1, &ring, &p);
	if (rc < 0)
		return rc;
	rc = run_command(&ring, command, &c, false);
	io_uring_queue_exit(&ring);
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

/* Wait until all queues were counted; the first one with an error tells why. */
static bool all_reported(const unsigned int *counter, char *why, size_t size)
{
	bool ok = true;

	pthread_mutex_lock(&all.lock);
	while (*counter < queue_count)
		pthread_cond_wait(&all.changed, &all.lock);
	pthread_mutex_unlock(&all.lock);
	for (unsigned int i = 0; ok && i < queue_count; i++) {
		struct queue *q = &queues[i];

		if (q->error) {
			snprintf(why, size, "%s: %s", q->error_at, strerror(q->error));
			ok = false;
		}
	}
	return ok;
}

bool ring_prepare(char *why, size_t size)
{
	unsigned int wanted = ring_queues();
	int rc = 0;

	queues = calloc(wanted, sizeof(*queues));
	if (!queues) {
		snprintf(why, size, "no memory");
		return false;
	}
	while (queue_count < wanted && rc == 0) {
		struct queue *q = &queues[queue_count];

		q->id = queue_count;
		q->event = -1;
		q->stats = &stats->slot[FIRST_DEV_SLOT + session.opt->threads + queue_count];
		pthread_mutex_init(&q->done_lock, NULL);
		rc = pthread_create(&q->thread, NULL, queue_main, q);
		if (rc == 0)
			queue_count++;
	}
	if (rc)
		snprintf(why, size, "thread: %s", strerror(rc));
	if (!all_reported(&all.prepared, why, size) || rc) {
		ring_join();
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
	ring_join();
	return false;
}

void ring_join(void)
{
	pthread_mutex_lock(&all.lock);
	__atomic_store_n(&all.stop, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&all.changed);
	pthread_mutex_unlock(&all.lock);
	for (unsigned int i = 0; i < queue_count; i++)
		if (queues[i].event >= 0)
			wake(&queues[i]);
	for (unsigned int i = 0; i < queue_count; i++) {
		pthread_join(queues[i].thread, NULL);
		if (queues[i].event >= 0)
			close(queues[i].event);
	}
	free(queues);
	queues = NULL;
	queue_count = 0;
}
