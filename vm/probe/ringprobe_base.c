// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: messages, the machine, connections, rings and entries. */
#include "ringprobe.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

/* What has to be undone when this ends early. */
static struct conn *open_conns[64];
static pid_t director;

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

int run_command(const char *usage, const struct command *const *tables, int argc, char **argv)
{
	const struct command *const *t, *cmd;
	int status;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (t = tables; argc > 1 && *t; t++)
		for (cmd = *t; cmd->name; cmd++) {
			if (strcmp(cmd->name, argv[1]))
				continue;
			status = cmd->run(argc - 1, argv + 1);
			cleanup();
			return status;
		}
	fprintf(stderr, "usage: %s\n", usage);
	for (t = tables; *t; t++)
		for (cmd = *t; cmd->name; cmd++)
			fprintf(stderr, "    %-18s %s\n", cmd->name, cmd->help);
	return 2;
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		errno = 0;	/* nothing more can be done here */
	close(fd);
}

/* Only async-signal-safe calls but for snprintf of integers: also used on SIGALRM. */
void cleanup(void)
{
	char path[64];
	size_t i;

	if (getpid() != director)
		return;
	for (i = 0; i < sizeof(open_conns) / sizeof(open_conns[0]); i++) {
		struct conn *c = open_conns[i];

		if (!c || !c->mounted)
			continue;
		snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", c->number);
		write_file(path, "1");
		umount2(c->mnt, MNT_DETACH);
		c->mounted = false;
	}
}

void die(const char *fmt, ...)
{
	va_list ap;

	printf("FAIL: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	cleanup();
	_exit(1);
}

void notrun(const char *why)
{
	char path[PATH_MAX];
	const char *dir = getenv("RUN");
	FILE *f;

	say("notrun: %s", why);
	if (dir) {
		snprintf(path, sizeof(path), "%s/notrun", dir);
		f = fopen(path, "we");
		if (f) {
			fprintf(f, "%s\n", why);
			fclose(f);
		}
	}
	cleanup();
	exit(0);
}

static void ended_early(int sig)
{
	static const char text[] = "FAIL: not done within the overall limit, or stopped\n";

	(void)sig;
	if (getpid() != director)
		_exit(1);
	if (write(STDOUT_FILENO, text, sizeof(text) - 1) < 0)
		errno = 0;
	cleanup();
	_exit(1);
}

const char *err_name(int err)
{
	const char *name;

	if (err < 0)
		err = -err;
	if (!err)
		return "ok";
	name = strerrorname_np(err);
	if (!name) {
		static char number[20];

		snprintf(number, sizeof(number), "errno %d", err);
		name = number;
	}
	return name;
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ull + t.tv_nsec / 1000000;
}

void nap_ms(int ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) && errno == EINTR)
		;
}

/* ------------------------------------------------------------ the machine */

/* A list like 0-3,8 */
static void read_cpus(const char *path, cpu_set_t *set)
{
	unsigned int a, b;
	FILE *f = fopen(path, "re");
	char sep;

	if (!f)
		die("%s: %s", path, err_name(errno));
	CPU_ZERO(set);
	while (fscanf(f, "%u", &a) == 1) {
		b = a;
		sep = fgetc(f);
		if (sep == '-') {
			if (fscanf(f, "%u", &b) != 1)
				die("cannot read %s", path);
			sep = fgetc(f);
		}
		for (; a <= b && a < CPU_SETSIZE; a++)
			CPU_SET(a, set);
		if (sep != ',')
			break;
	}
	fclose(f);
}

unsigned int possible_cpus(void)
{
	cpu_set_t set;

	read_cpus("/sys/devices/system/cpu/possible", &set);
	return CPU_COUNT(&set);
}

unsigned int online_cpus(void)
{
	cpu_set_t set;

	read_cpus("/sys/devices/system/cpu/online", &set);
	return CPU_COUNT(&set);
}

unsigned int online_cpu(unsigned int index)
{
	unsigned int cpu, n;
	cpu_set_t set;

	read_cpus("/sys/devices/system/cpu/online", &set);
	n = index % CPU_COUNT(&set);
	for (cpu = 0; !CPU_ISSET(cpu, &set) || n--; cpu++)
		;
	return cpu;
}

void pin(unsigned int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("cannot run on CPU %u: %s", cpu, err_name(errno));
}

void set_enable_uring(bool on)
{
	write_file("/sys/module/fuse/parameters/enable_uring", on ? "Y" : "N");
}

bool old_ring_kernel(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;

	uname(&u);
	sscanf(u.release, "%u.%u", &major, &minor);
	return (major == 6 && minor >= 14) || (major == 7 && minor < 3);
}

/* ------------------------------------------------------------- connection */

const char *mount_point(void)
{
	const char *mnt = getenv("MNT");

	if (!mnt)
		die("MNT is not set");
	return mnt;
}

/* A first sign of life of the process that leads: limits and clean-up. */
static void become_director(void)
{
	if (director)
		return;
	director = getpid();
	signal(SIGALRM, ended_early);
	signal(SIGTERM, ended_early);
	signal(SIGPIPE, SIG_IGN);
	alarm(10 * LIMIT);
}

void conn_open(struct conn *c)
{
	become_director();
	memset(c, 0, sizeof(*c));
	c->last = &c->first;
	c->fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (c->fd < 0)
		die("/dev/fuse: %s", err_name(errno));
	if (snprintf(c->mnt, sizeof(c->mnt), "%s", mount_point()) >= (int)sizeof(c->mnt))
		die("name of the mount point is too long");
}

/* By mountinfo: a stat of the mount point would be a request. */
static unsigned int device_minor(const char *mnt)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	unsigned int minor = 0, m;
	char line[PATH_MAX + 512], at[PATH_MAX];

	if (!f)
		die("mountinfo: %s", err_name(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*u:%u %*s %4095s", &m, at) == 2 && !strcmp(at, mnt))
			minor = m;
	fclose(f);
	if (!minor)
		die("no mount on %s", mnt);
	return minor;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

static void remember(struct conn *c)
{
	size_t i;

	c->mounted = true;
	c->number = device_minor(c->mnt);
	for (i = 0; i < sizeof(open_conns) / sizeof(open_conns[0]); i++)
		if (!open_conns[i] || open_conns[i] == c) {
			open_conns[i] = c;
			return;
		}
	die("too many connections at once");
}

void conn_mount_at(struct conn *c, const char *dir)
{
	char options[128];
	struct stat st;

	conn_open(c);
	if (dir && !realpath(dir, c->mnt))
		die("%s: %s", dir, err_name(errno));
	if (stat(c->mnt, &st))
		die("%s: %s", c->mnt, err_name(errno));
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=%o,user_id=0,group_id=0,allow_other", c->fd,
		 st.st_mode & S_IFMT);
	if (mount("ringprobe", c->mnt, "fuse.ringprobe", MS_NOSUID | MS_NODEV, options))
		die("mount: %s", err_name(errno));
	remember(c);
}

void conn_mount(struct conn *c)
{
	conn_mount_at(c, NULL);
}

void conn_adopt(struct conn *c)
{
	conn_open(c);
	close(c->fd);
	c->fd = -1;
	remember(c);
}

/* Leave an adopted mount as it is. */
void forget_conn(struct conn *c)
{
	size_t i;

	for (i = 0; i < sizeof(open_conns) / sizeof(open_conns[0]); i++)
		if (open_conns[i] == c)
			open_conns[i] = NULL;
}

void new_director(void)
{
	director = 0;
	memset(open_conns, 0, sizeof(open_conns));
}

bool init_read(struct conn *c)
{
	struct {
		struct fuse_in_header h;
		struct fuse_init_in in;
		uint8_t more[8192];
	} in;

	if (read(c->fd, &in, sizeof(in)) < (ssize_t)sizeof(in.h) + 16 ||
	    in.h.opcode != FUSE_INIT)
		return false;
	c->init = in.in;
	c->init_unique = in.h.unique;
	c->offered = (in.in.flags & FUSE_INIT_EXT) && (in.in.flags2 & RING_INIT_FLAG2);
	return true;
}

void init_answer(struct conn *c, const struct init_opts *o, struct init_reply *reply)
{
	struct fuse_init_out *out = &reply->out;

	c->max_write = o->max_write ? o->max_write : DEFAULT_PAYLOAD;
	c->max_pages = o->max_pages ? o->max_pages : 32;
	*reply = (struct init_reply){ .h.len = sizeof(*reply), .h.unique = c->init_unique };
	out->major = 7;
	/* no higher than what the ring came with */
	out->minor = c->init.minor < 42 ? c->init.minor : 42;
	out->max_readahead = c->init.max_readahead;
	out->flags = FUSE_INIT_EXT | FUSE_BIG_WRITES | FUSE_ASYNC_READ |
		     FUSE_PARALLEL_DIROPS | o->flags;
	if (o->max_pages) {
		out->flags |= FUSE_MAX_PAGES;
		out->max_pages = o->max_pages;
	}
	out->flags2 = o->flags2;
	if ((c->offered && !o->no_ring) || o->force_ring)
		out->flags2 |= RING_INIT_FLAG2;
	out->max_background = o->max_background;
	out->max_write = c->max_write;
	out->time_gran = 1;
}

void conn_init(struct conn *c, const struct init_opts *o)
{
	static const struct init_opts plain;
	struct init_reply reply;

	if (!readable(c->fd, LIMIT * 1000))
		die("waited %d s in vain for INIT", LIMIT);
	if (!init_read(c))
		die("first request is not INIT");
	init_answer(c, o ? o : &plain, &reply);
	if (write(c->fd, &reply, sizeof(reply)) != sizeof(reply))
		die("reply to INIT: %s", err_name(errno));
}

int conn_umount(struct conn *c, int flags)
{
	if (umount2(c->mnt, flags | UMOUNT_NOFOLLOW))
		return errno;
	c->mounted = false;
	return 0;
}

void conn_close(struct conn *c)
{
	size_t i;
	int err;

	if (c->mounted) {
		err = conn_umount(c, 0);
		if (err)
			die("unmount: %s", err_name(err));
	}
	close(c->fd);
	while (c->first) {
		struct req *q = c->first;

		c->first = q->next;
		put_req(q);
	}
	for (i = 0; i < c->nents; i++) {
		munmap(c->ents[i].h, sizeof(*c->ents[i].h));
		if (!c->ents[i].pool)
			munmap(c->ents[i].pay, c->ents[i].pay_len);
	}
	for (i = 0; c->pools && i < possible_cpus(); i++)
		if (c->pools[i].mem)
			munmap(c->pools[i].mem, c->pools[i].size);
	free(c->pools);
	free(c->ents);
	free(c->data);
	forget_conn(c);
}

void conn_abort(struct conn *c)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", c->number);
	write_file(path, "1");
}

bool conn_listed(unsigned int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u", number);
	return !access(path, F_OK);
}

long conn_file(struct conn *c, const char *name)
{
	char path[128];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/%s", c->number, name);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%ld", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

void wait_idle(struct conn *c)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	struct req *q;

	while (conn_file(c, "waiting") != 0) {
		if (now_ms() > end)
			die("waited %d s in vain for no request to be waiting (%ld are)",
			    LIMIT, conn_file(c, "waiting"));
		q = try_req(c, 2);
		if (q)
			answer(q);
	}
}

/* Until n requests are on their way, without taking in any. */
void wait_waiting(struct conn *c, long n)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	long have;

	while ((have = conn_file(c, "waiting")) != n) {
		if (now_ms() > end)
			die("waited %d s in vain for %ld waiting requests (have %ld)",
			    LIMIT, n, have);
		nap_ms(1);
	}
}

size_t payload_size(struct conn *c)
{
	size_t n = 8192;

	if (c->max_write > n)
		n = c->max_write;
	if (c->max_pages * 4096 > n)
		n = c->max_pages * 4096;
	return n;
}

/* ------------------------------------------------------- rings and entries */

void ring_open(struct ring *r, unsigned int entries, unsigned int setup)
{
	struct io_uring_params p = { .flags = setup };
	int err;

	become_director();
	memset(r, 0, sizeof(*r));
	r->setup = setup;
	r->sqe128 = setup & IORING_SETUP_SQE128;
	err = io_uring_queue_init_params(entries, &r->u, &p);
	if (err)
		die("io_uring setup: %s", err_name(err));
	/* a forked client must not keep the ring alive by mapping it */
	err = io_uring_ring_dontfork(&r->u);
	if (err)
		die("dontfork: %s", err_name(err));
}

void ring_close(struct ring *r)
{
	io_uring_queue_exit(&r->u);
}

struct io_uring_sqe *ring_cmd(struct ring *r, int fd, unsigned int op, unsigned int qid,
			      uint64_t id, void *user)
{
	struct proto_ring_command cmd = { .commit_id = id, .queue = qid };
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->u);

	if (!sqe)
		die("submission queue is full");
	memset(sqe, 0, r->sqe128 ? 128 : 64);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = fd;
	if (r->fixed_file) {
		sqe->fd = 0;
		sqe->flags |= IOSQE_FIXED_FILE;
	}
	if (r->async)
		sqe->flags |= IOSQE_ASYNC;
	sqe->cmd_op = op;
	sqe->user_data = (uintptr_t)user;
	/* an ordinary submission entry has room for 16 bytes only */
	memcpy(sqe->cmd, &cmd, r->sqe128 ? sizeof(cmd) : 16);
	return sqe;
}

int ring_submit(struct ring *r)
{
	int n;

	do
		n = io_uring_submit(&r->u);
	while (n == -EINTR);
	if (n < 0)
		die("io_uring submit: %s", err_name(n));
	return n;
}

int ring_wait_one(struct ring *r, void *user, int limit_ms)
{
	uint64_t end = now_ms() + limit_ms;
	struct io_uring_cqe *cqe;
	unsigned int head;
	int left, res;

	for (;;) {
		io_uring_get_events(&r->u);
		io_uring_for_each_cqe(&r->u, head, cqe) {
			if (cqe->user_data != (uintptr_t)user)
				die("a completion (%s) nobody waits for", err_name(cqe->res));
			res = cqe->res;
			io_uring_cq_advance(&r->u, 1);
			return res;
		}
		left = (int)(end - now_ms());
		if (left <= 0)
			return 1;
		readable(r->u.ring_fd, left);
	}
}

/*
 * What fails does so before the submitting call returns; what is held says nothing.
 */
int ring_submit_one(struct ring *r, void *user)
{
	int res;

	ring_submit(r);
	res = ring_wait_one(r, user, 0);
	return res == 1 ? 0 : res;
}

void ent_setup(struct ent *e, struct conn *c, struct ring *r, unsigned int qid, size_t payload)
{
	memset(e, 0, sizeof(*e));
	e->c = c;
	e->r = r;
	e->qid = qid;
	e->pay_len = payload;
	e->h = mmap(NULL, sizeof(*e->h), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c->pools && qid < possible_cpus() && c->pools[qid].mem) {
		e->pool = &c->pools[qid];
		e->pay_len = 0;
		if (e->h == MAP_FAILED)
			die("out of memory");
		return;
	}
	e->pay = mmap(NULL, payload, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (e->h == MAP_FAILED || e->pay == MAP_FAILED)
		die("out of memory");
}

void with_buffer(struct io_uring_sqe *sqe, unsigned int index)
{
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = index;
}

struct io_uring_sqe *ent_register(struct ent *e)
{
	struct io_uring_sqe *sqe = ring_cmd(e->r, e->c->fd, PROTO_RING_REGISTER, e->qid, 0, e);

	e->iov[0] = (struct iovec){ e->h, sizeof(*e->h) };
	e->iov[1] = e->pool ? (struct iovec){} : (struct iovec){ e->pay, e->pay_len };
	sqe->addr = (uintptr_t)e->iov;
	sqe->len = 2;
	if (e->pool && e->pool->registered)
		with_buffer(sqe, e->pool->index);
	e->state = ENT_IDLE;
	return sqe;
}

struct io_uring_sqe *ent_commit(struct ent *e, unsigned int qid, uint64_t id)
{
	struct io_uring_sqe *sqe = ring_cmd(e->r, e->c->fd, PROTO_RING_COMMIT_AND_FETCH, qid, id,
					    e);

	if (e->pool && e->pool->registered)
		with_buffer(sqe, e->pool->index);
	e->state = ENT_IDLE;
	return sqe;
}

void conn_register(struct conn *c, struct ring *r, unsigned int depth, size_t payload,
		   unsigned int from, unsigned int to)
{
	unsigned int q, i, n = possible_cpus() * depth;

	if (!c->ents) {
		c->ents = calloc(n, sizeof(*c->ents));
		if (!c->ents)
			die("out of memory");
	}
	for (i = 0; i < c->nrings && c->rings[i] != r; i++)
		;
	if (i == c->nrings)
		c->rings[c->nrings++] = r;
	for (q = from; q < to; q++)
		for (i = 0; i < depth; i++) {
			struct ent *e = &c->ents[c->nents++];

			ent_setup(e, c, r, q, payload);
			ent_register(e);
			ring_submit(r);
			/* what is punted or polled may fail later: no request comes then */
			pump(c, 0);
			if (e->state == ENT_DEAD)
				die("REGISTER on queue %u: %s", q, err_name(e->res));
		}
}

void serve_setup(struct conn *c, struct ring *r, const struct init_opts *o, unsigned int depth)
{
	conn_mount(c);
	conn_init(c, o);
	if (!c->offered)
		die("the kernel does not offer the ring");
	ring_open(r, 64, IORING_SETUP_SQE128 | (o ? o->ring_setup : 0));
	conn_register(c, r, depth, payload_size(c), 0, possible_cpus());
}
