/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ringprobe: drives FUSE over io_uring by hand and prints what happened.
 *
 * One process is at once the FUSE server (raw protocol, single thread) and the
 * director of client processes, so that a sub-command can put the steps of both
 * sides into a chosen order. Nothing waits without a limit.
 */
#ifndef RINGPROBE_H
#define RINGPROBE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <liburing.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../server/fuse_proto.h"

/* ---- the ring's part of the protocol: see fuse_proto.h; and its INIT flags ---- */

#define RING_INIT_FLAG2		((uint32_t)(PROTO_OVER_IO_URING >> 32))
#define SUPP_GROUP_FLAG2	(1u << 2)	/* INIT bit 34 */
#define POOL_INIT_FLAG2		((uint32_t)(PROTO_HAS_IO_URING_BUFPOOL >> 32))

/* ------------------------------------------------------- the library ------ */

enum {
	LIMIT = 30,		/* seconds for anything that must happen */
	QUIET_MS = 60,		/* how long to look for what must not happen */
	DEFAULT_PAYLOAD = 32 * 4096,
	FILL = 0xaa,		/* what the kernel has not written */
};

struct conn;
struct req;
struct client;

/* An io_uring, and what its commands have said. */
struct ring {
	struct io_uring u;
	bool sqe128, fixed_file;
	unsigned int setup;
	int async;		/* IOSQE_ASYNC on every command */
};

/* Memory for the payloads of all entries of a queue, in slices. */
struct pool {
	uint8_t *mem;		/* NULL: the entries have buffers of their own */
	size_t size;		/* with a rest that makes no slice */
	size_t slice;
	bool registered;	/* in the rings' buffer of this index */
	unsigned int index;
	unsigned int most;	/* slices that were in use at once */
};

enum ent_state { ENT_NEW, ENT_IDLE, ENT_BUSY, ENT_DEAD };

/* A ring entry: one pair of buffers, one held command. */
struct ent {
	struct conn *c;
	struct ring *r;
	unsigned int qid;
	struct proto_ring_header *h;
	uint8_t *pay;
	size_t pay_len;
	struct pool *pool;	/* payload is where a request says, if it has any */
	struct iovec iov[2];
	enum ent_state state;
	int res;		/* of the completion that ended it */
};

/* A request as it came, by whichever way. */
struct req {
	struct req *next;
	struct conn *c;
	struct ent *e;		/* NULL: came over /dev/fuse */
	struct fuse_in_header h;
	const void *op;		/* per-op header, op_len bytes */
	size_t op_len;
	const uint8_t *pay;
	size_t pay_len;
	void *buf;		/* of a /dev/fuse request */
};

struct init_opts {
	uint32_t flags, flags2;
	uint32_t max_write;
	uint16_t max_background;
	uint16_t max_pages;
	bool no_ring;		/* do not echo the ring's bit */
	bool force_ring;	/* echo it even if it was not offered */
	unsigned int ring_setup;	/* more flags for io_uring */
};

struct conn {
	int fd;
	bool mounted;
	unsigned int number;	/* under fusectl */
	char mnt[PATH_MAX];
	struct fuse_init_in init;
	uint64_t init_unique;
	bool offered;
	uint32_t max_write, max_pages;
	struct req *first, **last;
	struct ent *ents;
	unsigned int nents;
	struct pool *pools;	/* of each queue, if any has one */
	struct ring *rings[8];	/* those with entries of this connection */
	unsigned int nrings;
	/* what came over /dev/fuse */
	unsigned int dev_forgets, dev_ordinary, interrupts;
	uint64_t interrupt_of;	/* unique the last INTERRUPT was about */
	/* all requests over the ring, delivered */
	unsigned int ring_requests;
	unsigned int ended;	/* entries ended by a negative completion */
	uint32_t open_flags;	/* handed out by OPEN */
	bool fill;		/* put FILL into header areas before each commit */
	uint32_t dir_gid;	/* group of every directory */
	uint8_t *data;		/* contents of every regular file */
};

enum { FILE_SIZE = 1 << 20 };

/* messages; die() also cleans up */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
void notrun(const char *why) __attribute__((noreturn));	/* tells run-check, exits 0 */
const char *err_name(int err);	/* 0: "ok"; sign does not matter */
const char *op_name(unsigned int opcode);
uint64_t now_ms(void);
void nap_ms(int ms);
void cleanup(void);

/* the machine */
unsigned int possible_cpus(void);
unsigned int online_cpus(void);
unsigned int online_cpu(unsigned int index);	/* of them, over and over */
void pin(unsigned int cpu);
void set_enable_uring(bool on);
bool old_ring_kernel(void);	/* 6.14 .. before 7.3: other order of entry checks */

/* connection */
const char *mount_point(void);
void conn_open(struct conn *c);		/* descriptor only */
void conn_mount(struct conn *c);	/* opens and mounts on $MNT */
void conn_mount_at(struct conn *c, const char *dir);
/* INIT as it comes, and the reply to it as the probes want it; false: it is not INIT. */
struct init_reply {
	struct fuse_out_header h;
	struct fuse_init_out out;
};
bool init_read(struct conn *c);
void init_answer(struct conn *c, const struct init_opts *o, struct init_reply *reply);
void conn_init(struct conn *c, const struct init_opts *o);
int conn_umount(struct conn *c, int flags);	/* 0 or errno; retries nothing */
void conn_close(struct conn *c);	/* unmounts if need be and lets go */
void conn_adopt(struct conn *c);	/* what another process mounted: no descriptor */
void forget_conn(struct conn *c);
void new_director(void);	/* after a fork: nothing to clean up yet */
void conn_abort(struct conn *c);
bool conn_listed(unsigned int number);
long conn_file(struct conn *c, const char *name);	/* -1: no such file */
void wait_idle(struct conn *c);		/* answers until no request is waiting */
void wait_waiting(struct conn *c, long n);
size_t payload_size(struct conn *c);

/* rings and entries */
void ring_open(struct ring *r, unsigned int entries, unsigned int setup);
void ring_close(struct ring *r);
struct io_uring_sqe *ring_cmd(struct ring *r, int fd, unsigned int op, unsigned int qid,
			      uint64_t id, void *user);
int ring_submit(struct ring *r);
/* submit and say how it ended: 0 = held, or the negative result */
int ring_submit_one(struct ring *r, void *user);
int ring_wait_one(struct ring *r, void *user, int limit_ms);	/* 1 = nothing came */
void ent_setup(struct ent *e, struct conn *c, struct ring *r, unsigned int qid, size_t payload);
struct io_uring_sqe *ent_register(struct ent *e);	/* prepares */
struct io_uring_sqe *ent_commit(struct ent *e, unsigned int qid, uint64_t id);
void with_buffer(struct io_uring_sqe *sqe, unsigned int index);	/* a registered one */
void conn_register(struct conn *c, struct ring *r, unsigned int depth, size_t payload,
		   unsigned int from, unsigned int to);	/* queues from..to-1 */
void serve_setup(struct conn *c, struct ring *r, const struct init_opts *o,
		 unsigned int depth);	/* mount, init, all queues */

/* requests */
struct req *next_req(struct conn *c, const char *what);	/* dies after LIMIT */
struct req *try_req(struct conn *c, int ms);		/* NULL when none */
bool pump(struct conn *c, int ms);	/* true: the watched client has ended its job */
void watch_client(struct client *cl);	/* NULL: none any more */
void put_req(struct req *q);
bool is_bare(unsigned int opcode);	/* such requests and their replies have no payload */
void reply_raw(struct req *q, int error, uint64_t unique, uint32_t payload_sz);
void reply(struct req *q, int error, const void *data, size_t len);
void answer(struct req *q);		/* what a sane filesystem would say */
int fs_answer(struct conn *c, const struct req *q, void *out, size_t room, size_t *len);

/* client processes: one job at a time each */
struct job {
	int (*run)(struct job *j);	/* 0 or errno */
	char path[256], path2[256];
	long a, b, c;
	bool interruptible;	/* SIGINT does not kill but interrupts */
	long ret;
	uint32_t sum;
	char text[256];
};

struct client {
	pid_t pid;
	int sock;
	bool busy;
	struct job done;
	int err;		/* result of the last job; -1: killed */
};

void client_start(struct client *cl, int cpu);	/* before any ring is opened */
void client_do(struct client *cl, int (*run)(struct job *j), const char *mnt,
	       const char *name, long a, long b);
void client_send(struct client *cl, const struct job *j);
bool client_done(struct client *cl);		/* has it ended by now? */
void client_wait(struct client *cl, const char *what);	/* without serving */
void client_serve(struct client *cl, struct conn *c, const char *what);	/* answering */
/*
 * A name nobody has looked up yet: its LOOKUP is the caller's own. For a known
 * name the kernel tries once more when the first LOOKUP fails.
 */
const char *fresh_name(void);
/* One stat by a client, said WHEN: which way did its request come? */
void show_path(struct conn *c, struct client *cl, const char *when);
void client_stop(struct client *cl);
void client_blocked(struct client *cl);	/* wait until it sleeps in the kernel */
uint32_t checksum(const void *p, size_t n);

/*
 * Callers that keep all queues but the first busy, which have an entry each: a kernel may
 * let them take requests that wait for the first one.
 */
struct others {
	struct client *cl;
	struct req **held;
	unsigned int n;
};

void others_start(struct others *o);	/* as client_start() */
void others_hold(struct others *o, struct conn *c);
void others_release(struct others *o, struct conn *c);

/*
 * Memory that takes its time: it is there when a file system of its own has answered, whose
 * server calls meanwhile(arg) before it does, once. After slow_start(), one of the others.
 */
struct slow {
	struct conn c;
	pthread_t thread;
	int fd;			/* of a file there, whose contents are c.data */
	void (*meanwhile)(void *arg);
	void *arg;
	void *at;		/* where that is mapped */
	size_t len;
	volatile bool stop;
};

void slow_start(struct slow *s, void (*meanwhile)(void *arg), void *arg);
void slow_page(struct slow *s, void *at, size_t len);	/* the same bytes, in one page */
void slow_map(struct slow *s, void *at, size_t len);
void slow_end(struct slow *s);

/* what a server writes without a request: 0 or errno */
enum { NOTIFY_RETRIEVE = 5, NOTIFY_RESEND = 7 };	/* not in every machine's header */
#define RESENT (1ULL << 63)	/* in the unique of a request that is sent again */

int notify(struct conn *c, int code, const void *data, size_t size);

/* jobs */
int do_stat(struct job *j), do_read(struct job *j), do_direct_read(struct job *j),
	do_write(struct job *j),
	do_aio_read(struct job *j), do_hold_open(struct job *j), do_close(struct job *j),
	do_held_read(struct job *j);
void fill_pattern(uint8_t *p, size_t n, uint64_t offset);

/* sub-commands */
struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *help;
};

/* main() of a probe: the command that is named, of the TABLES, the last of which is NULL */
int run_command(const char *usage, const struct command *const *tables, int argc, char **argv);

extern const struct command entry_commands[], place_commands[], queue_commands[],
	life_commands[], server_commands[], notify_commands[], pool_commands[];

#endif
