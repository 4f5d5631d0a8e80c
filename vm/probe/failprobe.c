// SPDX-License-Identifier: GPL-2.0-only
/*
 * failprobe: an operation again and again, and each time the next of its allocations fails, or of
 * its copies from and to user space, until it comes to its end without. Every failure has to show
 * as an error that says so, or not at all, and the connection must be good afterwards.
 *
 * What fails is chosen by the kernel's fault injection: the N-th fault that a task could have
 * since it wrote N to its fail-nth. failprobe_paths.c has what is had in other ways.
 */
#include "failprobe.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum {
	MOST = 3000,	/* faults of one operation; it has to end before */
	AGAIN = 40,	/* times that a fault without consequence is tried again */
};

/* Which faults: of all code below the system call, or of the ring's functions only. */
enum scope { EVERYWHERE, IN_RING };

/* ---------------------------------------------------------------- faults */

void set_switch(const char *fault, const char *name, unsigned long value)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), SWITCHES "%s/%s", fault, name);
	f = fopen(path, "we");
	if (!f)
		die("%s: %s", path, err_name(errno));
	if (fprintf(f, "%lu", value) < 0 || fclose(f))
		die("cannot set %s: %s", path, err_name(errno));
}

static void set_flag(const char *name, bool on)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), SWITCHES "%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, on ? "Y" : "N", 1) != 1)
		die("%s: %s", path, err_name(errno));
	close(fd);
}

/* The code of functions whose names begin so, if no other lies between. */
static void code_of(const char *prefix, unsigned long *start, unsigned long *end)
{
	unsigned long address, last = 0;
	char type, name[512];
	FILE *f = fopen("/proc/kallsyms", "re");

	*start = *end = 0;
	if (!f)
		die("kallsyms: %s", err_name(errno));
	while (fscanf(f, "%lx %c %511s%*[^\n]", &address, &type, name) == 3) {
		/* what the compiler has split off lies elsewhere: NAME.cold */
		if ((type == 't' || type == 'T') && !strncmp(name, prefix, strlen(prefix)) &&
		    !strchr(name, '.')) {
			if (!*start || address < *start)
				*start = address;
			if (address > last) {
				last = address;
				*end = 0;
			}
		} else if (last && address > last && (!*end || address < *end)) {
			*end = address;
		}
	}
	fclose(f);
	if (!*start || !*end)
		die("kallsyms does not tell where %s... is", prefix);
}

void choose_faults(const char *kind, const char *code)
{
	static const char *const kinds[] = { "failslab", "fail_page_alloc", "fail_usercopy" };
	unsigned long start, end;
	size_t i;

	for (i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		/* what cannot be on any stack is required of the other kinds */
		start = end = 1;
		if (!strcmp(kinds[i], kind)) {
			start = 0;
			end = ~0ul;
			if (code)
				code_of(code, &start, &end);
		}
		set_switch(kinds[i], "require-start", start);
		set_switch(kinds[i], "require-end", end);
		/* by themselves they print a stack */
		set_switch(kinds[i], "verbose", 0);
	}
	/* by themselves they spare those that may wait, which are nearly all, and users' pages */
	set_flag("failslab/ignore-gfp-wait", false);
	set_flag("fail_page_alloc/ignore-gfp-wait", false);
	set_flag("fail_page_alloc/ignore-gfp-highmem", false);
	set_switch("fail_page_alloc", "min-order", 0);
}

static __thread int nth = -1;

static void set_nth(unsigned int n)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", n);

	if (pwrite(nth, text, len, 0) != len)
		die("fail-nth: %s", err_name(errno));
}

void arm(unsigned int n)
{
	if (nth < 0)
		nth = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	if (nth < 0)
		die("fail-nth: %s", err_name(errno));
	set_nth(n);
}

bool disarm(void)
{
	char text[16] = "";

	if (pread(nth, text, sizeof(text) - 1, 0) <= 0)
		die("fail-nth: %s", err_name(errno));
	set_nth(0);
	return atoi(text) == 0;
}

/* ----------------------------------------------------------- an operation */

struct tally {
	unsigned int faults, errors, unharmed;
	unsigned int fallbacks;		/* connections that went on with /dev/fuse */
	int wanted;			/* the only error there may be */
};

static struct client caller;

/* Is an operation with this result, in which a fault happened or not, as it may be? */
static void count(struct tally *t, bool fired, int err)
{
	err = abs(err);
	if (!fired && err)
		die("without a fault: %s", err_name(err));
	if (!fired)
		return;
	t->faults++;
	if (!err)
		t->unharmed++;
	else if (err == t->wanted)
		t->errors++;
	else
		die("fault %u: %s", t->faults, err_name(err));
}

/* A connection with a ring, of which no queue is there yet. */
static void begin(struct conn *c, struct ring *r, unsigned int setup)
{
	conn_mount(c);
	conn_init(c, NULL);
	if (!c->offered)
		die("the kernel does not offer the ring");
	ring_open(r, 16, IORING_SETUP_SQE128 | setup);
	c->rings[c->nrings++] = r;
	c->ents = calloc(possible_cpus() + 4, sizeof(*c->ents));
	if (!c->ents)
		die("out of memory");
}

static void end(struct conn *c, struct ring *r)
{
	wait_idle(c);
	conn_close(c);
	ring_close(r);
}

static struct ent *new_ent(struct conn *c, struct ring *r, unsigned int qid)
{
	struct ent *e = &c->ents[c->nents++];

	ent_setup(e, c, r, qid, payload_size(c));
	return e;
}

/*
 * Submit what has been prepared, with a fault in it: 0 = held or done, or the error. io_uring
 * may have no memory for a request of its own and then does not look at what was submitted.
 */
static int submit(struct ring *r, void *user, unsigned int n, bool *fired)
{
	int got;

	arm(n);
	got = io_uring_submit(&r->u);
	*fired = disarm();
	if (got < 0) {
		if (!*fired || (got != -EAGAIN && got != -ENOMEM))
			die("submit: %s", err_name(got));
		return ring_submit_one(r, user);
	}
	got = ring_wait_one(r, user, 0);
	return got == 1 ? 0 : got;
}

static void serve_stat(struct conn *c)
{
	client_do(&caller, do_stat, c->mnt, "f1", 0, 0);
	client_serve(&caller, c, "a caller");
	if (caller.err)
		die("stat: %s", err_name(caller.err));
}

/* The queues that are there have an entry. Give the others theirs, and use the ring. */
static void finish_ring(struct conn *c, struct ring *r, unsigned int from)
{
	unsigned int before = c->ring_requests;

	conn_register(c, r, 1, payload_size(c), from, possible_cpus());
	serve_stat(c);
	if (c->ring_requests == before)
		die("the ring is filled, and is not used");
}

/* Without a ring the server goes on as ever. */
static void use_device(struct conn *c)
{
	unsigned int before = c->dev_ordinary;

	serve_stat(c);
	if (c->dev_ordinary == before || c->ring_requests)
		die("the ring was given up, and is used");
}

/* ------------------------------------------------------- filling the ring */

static bool try_register(struct tally *t, unsigned int n)
{
	struct conn c;
	struct ring r;
	struct ent *e;
	bool fired;
	int err;

	begin(&c, &r, 0);
	e = new_ent(&c, &r, 0);
	ent_register(e);
	err = submit(&r, e, n, &fired);
	count(t, fired, err);
	if (err) {
		/* Did the ring fail, or has io_uring not got there? */
		ent_register(e);
		err = ring_submit_one(&r, e);
		if (err && err != -EOPNOTSUPP)
			die("REGISTER again: %s", err_name(err));
	}
	if (err) {
		t->fallbacks++;
		use_device(&c);
	} else {
		finish_ring(&c, &r, 1);
	}
	end(&c, &r);
	return fired;
}

static bool try_add_queue(struct tally *t, unsigned int n)
{
	struct conn c;
	struct ring r;
	bool fired;
	int err;

	begin(&c, &r, 0);
	ring_cmd(&r, c.fd, PROTO_RING_ADD_QUEUE, 0, 0, &c);
	err = submit(&r, &c, n, &fired);
	count(t, fired, err);
	/* it is not there, or it is there whole */
	ring_cmd(&r, c.fd, PROTO_RING_ADD_QUEUE, 0, 0, &c);
	if (ring_submit_one(&r, &c) != (err ? 0 : -EEXIST))
		die("ADD_QUEUE again after %s: %s", err_name(err), err ? "not ok" : "not EEXIST");
	finish_ring(&c, &r, 0);
	end(&c, &r);
	return fired;
}

/* Queue 0 is there, without entries; it is to have this pool. */
static void make_pool(struct conn *c, struct ring *r)
{
	struct pool *p;
	int err;

	c->pools = calloc(possible_cpus(), sizeof(*c->pools));
	if (!c->pools)
		die("out of memory");
	p = &c->pools[0];
	p->slice = payload_size(c);
	p->size = 4 * p->slice;
	p->mem = mmap(NULL, p->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->mem == MAP_FAILED)
		die("out of memory");
	ring_cmd(r, c->fd, PROTO_RING_ADD_QUEUE, 0, 0, c);
	err = ring_submit_one(r, c);
	if (err)
		die("ADD_QUEUE: %s", err_name(err));
}

static bool try_add_pool(struct tally *t, unsigned int n)
{
	struct proto_ring_command *cmd;
	struct io_uring_sqe *sqe;
	struct conn c;
	struct ring r;
	bool fired;
	int err;

	begin(&c, &r, 0);
	make_pool(&c, &r);
	sqe = ring_cmd(&r, c.fd, PROTO_RING_ADD_POOL, 0, 0, &c);
	cmd = (struct proto_ring_command *)sqe->cmd;
	cmd->pool_address = (uintptr_t)c.pools[0].mem;
	cmd->pool_size = c.pools[0].size;
	err = submit(&r, &c, n, &fired);
	count(t, fired, err);
	if (err) {
		/* entries of this queue have buffers of their own then */
		munmap(c.pools[0].mem, c.pools[0].size);
		c.pools[0].mem = NULL;
	}
	finish_ring(&c, &r, 0);
	end(&c, &r);
	return fired;
}

/* The reply to INIT makes the ring. Without memory for it there is none. */
static bool try_init(struct tally *t, unsigned int n)
{
	static const struct init_opts opts = { .force_ring = true };
	struct init_reply reply;
	struct conn c;
	struct ring r;
	struct ent *e;
	ssize_t done;
	bool fired;
	int err;

	conn_mount(&c);
	/* the kernel sends it while it mounts */
	if (!init_read(&c))
		die("first request is not INIT");
	init_answer(&c, &opts, &reply);
	arm(n);
	done = write(c.fd, &reply, sizeof(reply));
	err = done < 0 ? errno : 0;
	fired = disarm();
	count(t, fired, err);
	if (err)
		die("the kernel has not understood the reply to INIT: %s", err_name(err));
	ring_open(&r, 16, IORING_SETUP_SQE128);
	c.rings[c.nrings++] = &r;
	c.ents = calloc(possible_cpus() + 4, sizeof(*c.ents));
	if (!c.ents)
		die("out of memory");
	e = new_ent(&c, &r, 0);
	ent_register(e);
	err = ring_submit_one(&r, e);
	if (err == -EOPNOTSUPP) {
		t->fallbacks++;
		use_device(&c);
	} else if (err) {
		die("REGISTER: %s", err_name(err));
	} else {
		finish_ring(&c, &r, 1);
	}
	end(&c, &r);
	return fired;
}

static bool try_mount(struct tally *t, unsigned int n)
{
	char options[128];
	struct conn c, good;
	struct ring r;
	bool fired;
	int err;

	conn_open(&c);
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", c.fd);
	arm(n);
	err = mount("failprobe", c.mnt, "fuse.failprobe", MS_NOSUID | MS_NODEV, options) ? errno : 0;
	fired = disarm();
	count(t, fired, err);
	if (!err && umount2(c.mnt, 0))
		die("unmount: %s", err_name(errno));
	close(c.fd);
	if (!err)
		return fired;
	/* nothing is in the way of another one */
	begin(&good, &r, 0);
	finish_ring(&good, &r, 0);
	end(&good, &r);
	return fired;
}

/* --------------------------------------------------- requests and replies */

static struct conn served;
static struct ring served_by;

/* A ring that the requests below go over; its commands run when it is entered, not before. */
static void set_up(void)
{
	begin(&served, &served_by, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	finish_ring(&served, &served_by, 0);
}

static void tear_down(void)
{
	serve_stat(&served);
	if (served.dev_ordinary)
		die("%u requests came over /dev/fuse", served.dev_ordinary);
	end(&served, &served_by);
}

/*
 * The next request, with a fault while it is brought, into a buffer whose pages have to be made
 * first. NULL if there is none: the caller may have its end already.
 */
static struct req *fetch(unsigned int n, bool *fired)
{
	struct pollfd p[2] = {
		{ .fd = served_by.u.ring_fd, .events = POLLIN },
		{ .fd = caller.sock, .events = POLLIN },
	};
	unsigned int i;

	/* a commit may have brought it along */
	if (served.first)
		return try_req(&served, 0);
	if (!poll(p, 2, LIMIT * 1000))
		die("waited %d s in vain for a request", LIMIT);
	if (!p[0].revents)
		return NULL;
	for (i = 0; i < served.nents; i++)
		if (madvise(served.ents[i].pay, served.ents[i].pay_len, MADV_DONTNEED))
			die("madvise: %s", err_name(errno));
	arm(n);
	io_uring_get_events(&served_by.u);
	*fired |= disarm();
	return try_req(&served, 0);
}

/* The reply to a request, with a fault in the command that it comes with. */
static void commit(struct tally *t, struct req *q, unsigned int n, bool *fired)
{
	struct fuse_out_header h = { .unique = q->h.unique };
	struct ent *e = q->e;
	uint64_t id = e->h->part.commit_id;
	bool now = false;
	size_t len = 0;
	int got;

	h.error = -fs_answer(&served, q, e->pay, e->pay_len, &len);
	if (h.error)
		len = 0;
	h.len = sizeof(h) + len;
	memcpy(e->h->in_out, &h, sizeof(h));
	e->h->part.payload_size = len;
	put_req(q);
	ent_commit(e, e->qid, id);
	if (n)
		arm(n);
	got = io_uring_submit(&served_by.u);
	if (n)
		now = disarm();
	*fired |= now;
	if (got < 0) {
		if (!now || (got != -EAGAIN && got != -ENOMEM))
			die("submit: %s", err_name(got));
		t->faults++;
		t->unharmed++;
		ring_submit(&served_by);
		return;
	}
	/* Only what has failed is there now. To enter the ring would bring the next request. */
	if (io_uring_cq_ready(&served_by.u))
		pump(&served, 0);
	if (e->state == ENT_DEAD) {
		/* io_uring had no memory: the server still has the request */
		count(t, now, e->res);
		ent_commit(e, e->qid, id);
		ring_submit(&served_by);
	} else {
		count(t, now, 0);
	}
}

static void start_caller(int (*job)(struct job *j))
{
	client_do(&caller, job, served.mnt, "f1", 0, 20000);
}

static bool try_commit(struct tally *t, unsigned int n)
{
	bool fired = false;
	struct req *q;

	start_caller(do_direct_read);
	watch_client(&caller);
	while (!client_done(&caller)) {
		q = try_req(&served, 1000);
		if (q)
			commit(t, q, n, &fired);
	}
	watch_client(NULL);
	wait_idle(&served);
	if (caller.err)
		die("a read, with a fault in a commit: %s", err_name(caller.err));
	return fired;
}

static bool try_fetch(struct tally *t, unsigned int n)
{
	bool fired = false, none;
	struct req *q;

	start_caller(do_write);
	while (!client_done(&caller)) {
		none = false;
		q = fetch(n, &none);
		fired |= none;
		if (q)
			commit(t, q, 0, &none);
	}
	/* the RELEASE that nobody waited for */
	wait_idle(&served);
	/* what could not be copied is the caller's error */
	count(t, fired, caller.err);
	return fired;
}

/* Calls of many kinds. a: the fault; the result is whether it happened. */
static int do_faulty_calls(struct job *j)
{
	static uint8_t buf[20000];
	struct stat st;
	int fd, err = 0;

	arm(j->a);
	if (stat(j->path, &st))
		err = errno;
	fd = open(j->path, O_RDWR);
	if (fd < 0) {
		err = errno;
	} else {
		if (pread(fd, buf, sizeof(buf), 0) < 0)
			err = errno;
		if (pwrite(fd, buf, sizeof(buf), 100) < 0)
			err = errno;
		if (fsync(fd))
			err = errno;
		if (close(fd))
			err = errno;
	}
	j->ret = disarm();
	return err;
}

static bool try_calls(struct tally *t, unsigned int n)
{
	client_do(&caller, do_faulty_calls, served.mnt, "f1", n, 0);
	client_serve(&caller, &served, "a caller");
	count(t, caller.done.ret, caller.err);
	wait_idle(&served);
	return caller.done.ret;
}

/* ----------------------------------------------------------------- choice */

/* How many faults the ring's own code has to have in an operation */
enum { ANY = -1, NO_FAULT = 0 };

struct operation {
	const char *name, *what;
	bool (*attempt)(struct tally *t, unsigned int n);	/* returns whether the fault happened */
	const char *kind;
	bool served;	/* on a ring that is filled already */
	int least;
	int error;	/* what a fault gives, if anything */
};

static const struct operation operations[] = {
	{ "register", "REGISTER", try_register, "failslab", false, 3, ENOMEM },
	{ "add-queue", "ADD_QUEUE", try_add_queue, "failslab", false, 2, ENOMEM },
	{ "add-pool", "ADD_BUFPOOL", try_add_pool, "failslab", false, 1, ENOMEM },
	{ "init", "reply to INIT", try_init, "failslab", false, 1, ENOMEM },
	{ "mount", "mount", try_mount, "failslab", false, ANY, ENOMEM },
	{ "commit", "COMMIT_AND_FETCH", try_commit, "failslab", true, NO_FAULT, ENOMEM },
	{ "fetch", "delivery", try_fetch, "fail_page_alloc", true, ANY, EFAULT },
	{ "calls", "calls", try_calls, "failslab", true, ANY, ENOMEM },
	{ "register-copy", "copies of REGISTER", try_register, "fail_usercopy", false, 1, EFAULT },
};

static bool verbose;

/* Every fault in the ring's functions, which do without nothing, has to show. */
static void judge_ring(const struct operation *op, const struct tally *t)
{
	unsigned int shown = t->errors;

	if (op->least == NO_FAULT) {
		if (t->faults)
			die("%s: %u faults in the ring", op->what, t->faults);
		say("%s, in the ring: nothing that could fail", op->what);
		return;
	}
	if (t->faults < (unsigned int)op->least)
		die("%s: %u faults, there should be %d", op->what, t->faults, op->least);
	/* the reply to INIT is good without a ring */
	if (op->attempt == try_init)
		shown = t->fallbacks;
	if (shown != t->faults)
		die("%s: of %u faults %u made no difference", op->what, t->faults, t->unharmed);
	if (op->attempt == try_register && t->fallbacks != t->faults)
		die("%s: of %u faults %u made the server go on with /dev/fuse", op->what, t->faults,
		    t->fallbacks);
	say("%s, each fault in the ring: %s%s%s; good afterwards", op->what,
	    t->errors ? err_name(op->error) : "", t->errors && t->fallbacks ? ", " : "",
	    t->fallbacks ? "no ring" : "");
}

static void judge_all(const struct operation *op, const struct tally *t)
{
	if (!t->errors && !t->fallbacks && op->least != NO_FAULT)
		die("%s: of %u faults none was to be seen", op->what, t->faults);
	say("%s, each fault anywhere: %s or none the worse; good afterwards", op->what,
	    err_name(op->error));
}

static void run(const struct operation *op, enum scope scope)
{
	struct tally t = { .wanted = op->error };
	unsigned int n = 1, again = 0, unharmed;
	bool fired;

	choose_faults(op->kind, scope == IN_RING ? "fuse_ring_" : NULL);
	if (op->served)
		set_up();
	do {
		if (n > MOST)
			die("%s: no end after %d faults", op->what, MOST);
		unharmed = t.unharmed;
		fired = op->attempt(&t, n);
		/*
		 * The kernel may get over a fault: a slab takes fewer pages, a page that was not to be
		 * had is asked for once more. One at least has to show.
		 */
		if (fired && t.unharmed > unharmed && !t.errors && again++ < AGAIN)
			continue;
		again = 0;
		n++;
	} while (fired);
	if (op->served)
		tear_down();
	if (verbose)
		say("%s %s: %u faults, %u errors, %u unharmed, %u fallbacks", op->name,
		    scope == IN_RING ? "in the ring" : "anywhere", t.faults, t.errors, t.unharmed,
		    t.fallbacks);
	if (scope == IN_RING)
		judge_ring(op, &t);
	else
		judge_all(op, &t);
}

extern const struct command path_commands[], krpc_commands[];

int main(int argc, char **argv)
{
	const struct command *tables[] = { path_commands, krpc_commands };
	const struct operation *op;
	const struct command *cmd;
	size_t i;
	int a;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		for (cmd = tables[i]; argc > 1 && cmd->name; cmd++)
			if (!strcmp(cmd->name, argv[1])) {
				a = cmd->run(argc - 1, argv + 1);
				cleanup();
				return a;
			}
	client_start(&caller, -1);
	verbose = getenv("FAILPROBE_VERBOSE");
	for (a = 1; a < argc; a++) {
		for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
			if (!strcmp(operations[i].name, argv[a]))
				break;
		if (i == sizeof(operations) / sizeof(operations[0]))
			die("no such operation: %s", argv[a]);
		op = &operations[i];
		if (op->least != ANY)
			run(op, IN_RING);
		/* of copies, those of procfs itself would be among them */
		if (strcmp(op->kind, "fail_usercopy"))
			run(op, EVERYWHERE);
	}
	client_stop(&caller);
	cleanup();
	return 0;
}
