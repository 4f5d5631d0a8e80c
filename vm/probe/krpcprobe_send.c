// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: what can be sent and claimed, and what is refused. */
#include "krpcprobe.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static uint64_t next_xid = 1;

/* ------------------------------------------------------------- buffers in memory -- */

static void try_desc(struct node *n, const char *what, union desc d, bool send)
{
	int err = ep_send(n, next_xid++, &d, send, !send);

	say("%s %s: %s", send ? "send" : "receive", what, err_name(err));
	if (!err)
		node_take(n);
}

static void try_msg(struct node *n, const char *what, struct pcs_krpc_send *m)
{
	int err = ioctl(n->ep, PCS_KRPC_IOC_SEND_MSG, m) ? errno : 0;

	say("%s: %s", what, err_name(err));
	if (!err)
		node_take(n);
}

static int send_bad(int argc, char **argv)
{
	static const uint32_t lens[] = { 0, PCS_KRPC_MAX_PAYLOAD + 1, 1u << 31, ~0u };
	struct pcs_krpc_send m;
	uint8_t hdr[128], *mem, *readonly;
	struct pcs_krpc_stats st;
	union desc d, two[2];
	struct stage s;
	struct node n;
	unsigned int i;
	char what[64];
	void *wild = (void *)0x100000, *kernel = (void *)0xffff888000000000ull;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	client_serve(&s.cl[0], &s.c, "a first application");
	mem = mmap(NULL, PCS_KRPC_MAX_PAYLOAD + PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || readonly == MAP_FAILED)
		die("out of memory");

#define HEADER(what, ...) do { \
		make_send(&m, hdr, next_xid++, NULL, 0, 0); \
		__VA_ARGS__; \
		try_msg(&n, "header " what, &m); \
	} while (0)
	HEADER("good", (void)0);
	HEADER("of 0 bytes", m.hdr.len = 0);
	HEADER("too long", m.hdr.len = PCS_KRPC_MAX_HEADER + 1);
	HEADER("of 4 GiB", m.hdr.len = ~0u);
	HEADER("of an unknown type", m.hdr.type = 3);
	HEADER("in a request", m.hdr.type = PCS_KRPC_BUF_TYPE_ZC);
	HEADER("with a region it is not in", m.hdr.mr_id = 1);
	HEADER("with what is reserved", m.hdr.rsvd = 1);
	HEADER("nowhere", m.hdr.addr = 0);
	HEADER("in the kernel", m.hdr.addr = (uintptr_t)kernel);
	HEADER("at the end of everything", m.hdr.addr = ~0ull - 3);
	HEADER("in an unknown region", m.hdr.type = PCS_KRPC_BUF_TYPE_MR, m.hdr.mr_id = 77);
	HEADER("in region 0", m.hdr.type = PCS_KRPC_BUF_TYPE_MR);
	make_send(&m, hdr, next_xid++, NULL, 0, 0), m.recv = (uintptr_t)hdr;
	try_msg(&n, "a place for the completion", &m);
	make_send(&m, hdr, next_xid++, NULL, 0, 1);
	try_msg(&n, "buffers nowhere", &m);
	make_send(&m, hdr, next_xid++, kernel, 0, 1);
	m.chunks = (uintptr_t)kernel;
	try_msg(&n, "buffers in the kernel", &m);
	for (i = 0; i < 3; i++) {
		static const uint32_t numbers[] = { PCS_KRPC_MAX_CHUNKS + 1, 1u << 31, ~0u };

		make_send(&m, hdr, next_xid++, NULL, 0, 0), m.nr_send = numbers[i];
		snprintf(what, sizeof(what), "send %u buffers", numbers[i]);
		try_msg(&n, what, &m);
		make_send(&m, hdr, next_xid++, NULL, 0, 0), m.nr_recv = numbers[i];
		snprintf(what, sizeof(what), "receive %u buffers", numbers[i]);
		try_msg(&n, what, &m);
	}
	for (i = 0; i < 2; i++) {
		unsigned int k;

		for (k = 0; k < 4; k++) {
			snprintf(what, sizeof(what), "%u bytes", lens[k]);
			try_desc(&n, what, umem(mem, lens[k]), !i);
			snprintf(what, sizeof(what), "%u bytes of a region", lens[k]);
			try_desc(&n, what, mr(1, mem, lens[k]), !i);
		}
		d = umem(mem, 100), d.mem.type = 3;
		try_desc(&n, "of an unknown type", d, !i);
		d.mem.type = ~0u;
		try_desc(&n, "of type 2^32 - 1", d, !i);
		d = umem(mem, 100), d.mem.rsvd = 1;
		try_desc(&n, "with what is reserved", d, !i);
		d = umem(mem, 100), d.mem.mr_id = 1;
		try_desc(&n, "with a region it is not in", d, !i);
		try_desc(&n, "of an unknown region", mr(77, mem, 100), !i);
		try_desc(&n, "of region 0", mr(0, mem, 100), !i);
		try_desc(&n, "nowhere", umem(NULL, 100), !i);
		try_desc(&n, "where nothing is", umem(wild, 100), !i);
		try_desc(&n, "in the kernel", umem(kernel, 100), !i);
		try_desc(&n, "at the end of everything", umem((void *)~0ull, 100), !i);
	}
	try_desc(&n, "to a request", zc(&n, &(struct req){}, 0, 100), true);
	try_desc(&n, "into what is not to be written", umem(readonly, 100), false);
	two[0] = umem(mem, PCS_KRPC_MAX_PAYLOAD);
	two[1] = umem(mem, 1);
	say("one byte too much to receive: %s", err_name(ep_send(&n, next_xid++, two, 0, 2)));
	say("one byte too much to send: %s", err_name(ep_send(&n, next_xid++, two, 2, 0)));
	say("as much as can be to receive: %s", err_name(ep_send(&n, next_xid++, two, 0, 1)));
	node_take(&n);
	st = ep_stats(&n);
	say("messages sent: %llu, ended: %llu", (unsigned long long)st.msgs_sent,
	    (unsigned long long)st.msgs_done);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------------ claims -- */

/* Claim, tell, and give it back */
static void try_zc(struct node *n, const char *what, union desc d)
{
	uint64_t xid = next_xid++;
	int err = ep_send(n, xid, &d, 0, 1);

	say("%s: %s", what, err_name(err));
	if (!err) {
		struct pcs_krpc_recv r;

		node_take(n);
		if (ep_abort(n, xid))
			die("cannot abort a message");
		ep_wait(n, &r);
	}
}

static void try_fd(struct node *n, struct req *q, const char *what, int fd)
{
	union desc d = zc(n, q, 0, PAGE);

	d.zc.devfd = fd;
	try_zc(n, what, d);
}

static int claim_fds(int argc, char **argv)
{
	uint32_t from;
	int pipes[2], file, fresh, clone;
	struct conn d;
	struct stage s;
	struct node n, other;
	struct req *q;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	q = claimable(&s, 0, 2 * PAGE);
	if (mkdir("other", 0700) || mkdir("gone", 0700) || pipe(pipes))
		die("cannot prepare: %s", err_name(errno));
	file = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	fresh = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	conn_mount_at(&d, "other");
	conn_init(&d, &(struct init_opts){ .no_ring = true });
	clone = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	from = s.c.fd;
	if (ioctl(clone, FUSE_DEV_IOC_CLONE, &from))
		die("clone: %s", err_name(errno));

	try_fd(&n, q, "device is closed", 999);
	try_fd(&n, q, "device is -1", -1);
	try_fd(&n, q, "device is a pipe", pipes[0]);
	try_fd(&n, q, "device is a file", file);
	try_fd(&n, q, "device is a socket", n.sock);
	try_fd(&n, q, "device is the endpoint", n.ep);
	try_fd(&n, q, "device was never mounted", fresh);
	try_fd(&n, q, "device of another mount", d.fd);
	node_open(&other, &d, &full_framing, 0);
	try_fd(&other, q, "another mount's endpoint, this one's device", s.c.fd);
	try_fd(&other, q, "another mount's endpoint and device", d.fd);
	conn_umount(&d, 0);
	try_fd(&n, q, "device of what was another mount", d.fd);
	try_fd(&other, q, "device of what is not mounted any more", d.fd);
	node_close(&other);
	try_fd(&n, q, "device", s.c.fd);
	try_fd(&n, q, "clone of the device", clone);
	close(clone);
	end_read(q);
	app_say(&s, 0, "read");
	say("data right: %s", right(0, 2 * PAGE, 0) ? "yes" : "no");
	conn_close(&d);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* A file that is read into the kernel's own memory */
static int do_module(struct job *j)
{
	int fd = open(j->path, O_RDONLY);

	if (fd < 0)
		return errno;
	if (!syscall(SYS_finit_module, fd, "", 0))
		return 0;
	j->ret = errno;
	close(fd);
	return 0;
}

static struct req *next_of(struct stage *s, unsigned int opcode)
{
	struct req *q;

	for (;;) {
		q = next_req(&s->c, op_name(opcode));
		if (q->h.opcode == opcode)
			return q;
		answer(q);
	}
}

static void try_unique(struct stage *s, struct node *n, unsigned int opcode, const char *what)
{
	struct req *q = next_of(s, opcode);

	try_zc(n, what, zc(n, q, 0, 1));
	answer(q);
	app_end(s, 0);
}

static int claim_unique(int argc, char **argv)
{
	union desc d;
	struct stage s;
	struct node n;
	struct req *q;
	uint64_t unique;

	(void)argc, (void)argv;
	stage_open(&s, 2, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	try_unique(&s, &n, FUSE_LOOKUP, "LOOKUP");
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	try_unique(&s, &n, FUSE_GETATTR, "GETATTR");
	client_do(&s.cl[0], do_write, s.c.mnt, "f2", 0, 2 * PAGE);
	try_unique(&s, &n, FUSE_WRITE, "WRITE");
	client_do(&s.cl[0], do_write, s.c.mnt, "f3", 0, 2 * PAGE);
	try_unique(&s, &n, FUSE_FLUSH, "FLUSH, which has no payload");
	s.c.open_flags = FOPEN_DIRECT_IO;
	client_do(&s.cl[0], do_module, s.c.mnt, "f4", 0, 0);
	q = next_read(&s);
	try_zc(&n, "READ into memory of the kernel", zc(&n, q, 0, 1));
	fail_read(q);
	app_end(&s, 0);
	s.c.open_flags = 0;

	q = claimable(&s, 0, PAGE);
	d = zc(&n, q, 0, PAGE);
	try_zc(&n, "READ", d);
	unique = q->h.unique;
	d.zc.unique = 0;
	try_zc(&n, "0", d);
	d.zc.unique = ~0ull;
	try_zc(&n, "2^64 - 1", d);
	d.zc.unique = unique + 1;
	try_zc(&n, "its id as an interrupt has it", d);
	d.zc.unique = unique | RESENT;
	try_zc(&n, "its id as if sent again", d);
	d.zc.unique = unique + 1000;
	try_zc(&n, "one that does not exist yet", d);
	d.zc.unique = unique;
	end_read(q);
	app_end(&s, 0);
	try_zc(&n, "READ that has been answered", d);
	node_close(&n);
	stage_close(&s);
	return 0;
}

static int claim_edges(int argc, char **argv)
{
	enum { TOTAL = 5 * PAGE + 100 };
	static const struct {
		uint32_t offset, len;
	} edges[] = {
		{ 0, 1 }, { 0, PAGE - 1 }, { 0, PAGE }, { 0, PAGE + 1 }, { 0, TOTAL - 1 },
		{ 0, TOTAL }, { 0, TOTAL + 1 }, { 0, 1u << 24 }, { PAGE - 1, 1 }, { PAGE - 1, 2 },
		{ PAGE, PAGE }, { PAGE + 1, TOTAL - PAGE - 1 }, { PAGE + 1, TOTAL - PAGE },
		{ TOTAL - 1, 1 }, { TOTAL - 1, 2 }, { TOTAL, 1 }, { TOTAL + 1, 1 },
		{ 1u << 31, 1 }, { 1u << 31, 1u << 24 }, { ~0u, 1 }, { ~0u, 2 },
		{ ~0u - PAGE + 1, PAGE }, { ~0u - PAGE + 1, 2 * PAGE }, { 0, 0 }, { 0, 1u << 31 },
		{ 0, ~0u }, { 1, ~0u }, { ~0u, ~0u },
	};
	struct stage s;
	struct node n;
	struct req *q;
	unsigned int i;
	char what[64];

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	q = claimable(&s, 0, TOTAL);
	say("a read of %u bytes", read_in(q)->size);
	for (i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
		snprintf(what, sizeof(what), "%u bytes at %u", edges[i].len, edges[i].offset);
		try_zc(&n, what, zc(&n, q, edges[i].offset, edges[i].len));
	}
	end_read(q);
	app_say(&s, 0, "read");
	say("data right: %s", right(0, TOTAL, 0) ? "yes" : "no");
	node_close(&n);
	stage_close(&s);
	return 0;
}

static int claim_overlap(int argc, char **argv)
{
	enum { TOTAL = 16 * PAGE };
	union desc d[4];
	struct stage s;
	struct node n, m;
	struct req *q;
	uint64_t xid;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&m, &s.c, &full_framing, 0);
	q = claimable(&s, 0, TOTAL);

	d[0] = zc(&n, q, 0, 2 * PAGE);
	d[1] = zc(&n, q, 2 * PAGE, PAGE);
	d[2] = zc(&n, q, 3 * PAGE - 1, 2);
	say("one message, parts overlap by a byte: %s", err_name(ep_send(&n, 1, d, 0, 3)));
	d[2] = zc(&n, q, PAGE, 1);
	say("one message, a part in another: %s", err_name(ep_send(&n, 1, d, 0, 3)));
	d[2] = zc(&n, q, 8 * PAGE, PAGE);
	d[3] = zc(&n, q, 5 * PAGE, PAGE);
	say("one message, four parts: %s", err_name(ep_send(&n, 1, d, 0, 4)));
	node_take(&n);
	try_zc(&m, "another endpoint, the same part", zc(&m, q, 2 * PAGE, PAGE));
	try_zc(&m, "the last byte of one", zc(&m, q, 6 * PAGE - 1, 1));
	try_zc(&m, "the first byte of one", zc(&m, q, 8 * PAGE, 1));
	try_zc(&m, "around one", zc(&m, q, 7 * PAGE, 3 * PAGE));
	try_zc(&m, "all", zc(&m, q, 0, TOTAL));
	try_zc(&m, "between two", zc(&m, q, 3 * PAGE, 2 * PAGE));
	try_zc(&m, "between two others", zc(&m, q, 6 * PAGE, 2 * PAGE));
	try_zc(&m, "behind all", zc(&m, q, 9 * PAGE, TOTAL - 9 * PAGE));

	/* 2 + 1 + 1 pages, of which two and a half come */
	node_data(&n, 1, 0, 2 * PAGE + PAGE / 2);
	end_say(&n, "a short answer");
	try_zc(&m, "what was filled", zc(&m, q, 0, 1));
	try_zc(&m, "the last byte of it", zc(&m, q, 2 * PAGE + PAGE / 2 - 1, 1));
	try_zc(&m, "from there on", zc(&m, q, 2 * PAGE + PAGE / 2 - 1, 2));
	try_zc(&m, "what was not filled", zc(&m, q, 2 * PAGE + PAGE / 2, PAGE / 2));
	try_zc(&m, "a part to which nothing came", zc(&m, q, 8 * PAGE, PAGE));

	xid = next_xid++;
	say("claimed for another message: %s", err_name(ep_send_zc(&m, xid, q, 8 * PAGE, PAGE)));
	node_take(&m);
	try_zc(&n, "and again", zc(&n, q, 8 * PAGE, PAGE));
	say("that one is aborted: %s", err_name(ep_abort(&m, xid)));
	try_zc(&n, "and again", zc(&n, q, 8 * PAGE, PAGE));
	end_say(&m, "it");
	/* of an endpoint that is no more */
	say("claimed for another message: %s",
	    err_name(ep_send_zc(&m, next_xid++, q, 8 * PAGE, PAGE)));
	node_close(&m);
	/* a worker sees to that */
	while (ep_send_zc(&n, next_xid, q, 8 * PAGE, PAGE) == EBUSY)
		nap_ms(1);
	say("abort of what claims it after the end of that endpoint: %s",
	    err_name(ep_abort(&n, next_xid++)));
	end_say(&n, "it");
	end_read(q);
	app_say(&s, 0, "read");
	say("data right: %s", right(0, TOTAL, 0) ? "yes" : "no");
	node_close(&n);
	stage_close(&s);
	return 0;
}

/*
 * Ids are easy to guess: that of the next request is 2 more. It is nobody's to claim before the
 * server has it, since nothing says by then that there are pages, or how many.
 */
static int claim_queued(int argc, char **argv)
{
	/* deliveries over the ring wait for us to enter that */
	static const struct init_opts late = {
		.ring_setup = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	struct stage s;
	struct req *q, *r;
	struct node n;
	union desc d;

	(void)argc, (void)argv;
	stage_open(&s, 2, &late);
	node_open(&n, &s.c, &full_framing, 0);
	client_do(&s.cl[1], do_hold_open, s.c.mnt, "f2", 0, 0);
	app_end(&s, 1);
	q = claimable(&s, 0, PAGE);
	d = zc(&n, q, 0, PAGE);
	d.zc.unique += 2;
	try_zc(&n, "a read that does not exist yet", d);
	client_do(&s.cl[1], do_held_read, s.c.mnt, "f2", 0, PAGE);
	wait_waiting(&s.c, 2);
	/* what is sent to the server is under way at the very latest now */
	nap_ms(QUIET_MS);
	try_zc(&n, "one that waits for the server", d);
	r = next_read(&s);
	say("it had that id: %s", yes(r->h.unique == d.zc.unique));
	try_zc(&n, "the same when the server has it", d);
	end_read(r);
	app_end(&s, 1);
	end_read(q);
	app_end(&s, 0);
	client_do(&s.cl[1], do_close, s.c.mnt, "f2", 0, 0);
	app_end(&s, 1);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* Claims of a byte each, from @from on by @step, until one is refused */
static unsigned int claim_many(struct node *n, struct req *q, uint32_t from, int step, int *err)
{
	union desc d[PCS_KRPC_MAX_CHUNKS];
	unsigned int done = 0, want = PCS_KRPC_MAX_CHUNKS, i;

	*err = 0;
	while (done < 4000) {
		for (i = 0; i < want; i++)
			d[i] = zc(n, q, from + (done + i) * step, 1);
		*err = ep_send(n, next_xid++, d, 0, want);
		if (!*err)
			done += want;
		else if (want == 1)
			return done;
		else
			want /= 2;
	}
	return done;
}

static int claim_limit(int argc, char **argv)
{
	enum { TOTAL = 32 * PAGE };
	unsigned int done;
	struct stage s;
	struct node n;
	struct req *q;
	int err;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	q = claimable(&s, 0, TOTAL);
	node_open(&n, &s.c, &full_framing, 0);
	done = claim_many(&n, q, 0, 2, &err);
	say("every other byte, from the first on: %u, then %s", done, err_name(err));
	say("before all of them: %s", err_name(ep_send_zc(&n, next_xid++, q, TOTAL - 1, 1)));
	node_close(&n);
	node_open(&n, &s.c, &full_framing, 0);
	/* the others are given back when the endpoint's last work is done */
	while (ep_send_zc(&n, next_xid, q, 0, TOTAL) == EBUSY)
		nap_ms(1);
	if (ep_abort(&n, next_xid++))
		die("cannot abort a message");
	done = claim_many(&n, q, TOTAL - 1, -2, &err);
	say("every other byte, from the last on: %u, then %s", done, err_name(err));
	node_close(&n);
	reply_soon(q, -EIO, NULL, 0);
	put_req(q);
	app_say(&s, 0, "read");
	stage_close(&s);
	return 0;
}

/* --------------------------------------------------------------- names, and many -- */

static int send_twice(int argc, char **argv)
{
	enum { MOST = 4096 };
	struct stage s;
	struct node n, m;
	unsigned int i;
	pid_t answers;
	int err = 0;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	app_end(&s, 0);
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&m, &s.c, &full_framing, 0);
	say("a message: %s", err_name(ep_send(&n, 5, NULL, 0, 0)));
	say("another of that name: %s", err_name(ep_send(&n, 5, NULL, 0, 0)));
	say("by another endpoint: %s", err_name(ep_send(&m, 5, NULL, 0, 0)));
	say("abort: %s", err_name(ep_abort(&n, 5)));
	say("abort again: %s", err_name(ep_abort(&n, 5)));
	end_say(&n, "the first");
	/* the node may answer it still */
	say("that name, before the answer: %s", err_name(ep_send(&n, 5, NULL, 0, 0)));
	node_data(&n, node_take(&n), 0, 0);
	while ((err = ep_send(&n, 5, NULL, 0, 0)) == EEXIST)
		nap_ms(1);
	say("that name, after the answer: %s", err_name(err));
	node_data(&n, node_take(&n), 0, 0);
	end_say(&n, "it");
	say("name 0: %s", err_name(ep_send(&n, 0, NULL, 0, 0)));
	say("name 2^64 - 1: %s", err_name(ep_send(&n, ~0ull, NULL, 0, 0)));
	node_data(&n, node_take(&n), 0, 0);
	node_data(&n, node_take(&n), 0, 0);
	end_say(&n, "one");
	end_say(&n, "the other");

	for (i = 0; i < MOST + 10; i++) {
		err = ep_send(&n, 100 + i, NULL, 0, 0);
		if (err)
			break;
	}
	say("%u messages, then %s", i, err_name(err));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("the other endpoint: %s", err_name(ep_send(&m, 6, NULL, 0, 0)));
	node_data(&n, node_take(&n), 0, 0);
	if (!ep_poll(&n, POLLIN, LIMIT * 1000))
		die("the answer does not come");
	say("one is answered, not received: %s", err_name(ep_send(&n, 99, NULL, 0, 0)));
	end_say(&n, "it");
	/* all are aborted and told, but not answered; what was not sent yet is forgotten */
	for (i = 1; i < MOST; i++) {
		if (ep_abort(&n, 100 + i) || end_of(&n, NULL) != -ECANCELED)
			die("cannot abort message %u", i);
	}
	for (i = 10000; !(err = ep_send(&n, i, NULL, 0, 0)); i++)
		;
	say("all aborted, and more sent: %s, poll: %s", err_name(err),
	    events_name(ep_poll(&n, POLLOUT, 100)));
	fflush(stdout);
	answers = fork();
	if (!answers) {
		nap_ms(300);
		for (;;)
			node_data(&n, node_take(&n), 0, 0);
	}
	/* those that are not aborted are not received, so that there is room by the others only */
	say("poll for room alone, while they are answered: %s",
	    events_name(ep_poll(&n, POLLOUT, 10000)));
	kill(answers, SIGKILL);
	wait(NULL);
	node_close(&n);
	node_close(&m);
	stage_close(&s);
	return 0;
}

/* ----------------------------------------------------------------------- regions -- */

static void try_reg(struct node *n, const char *what, void *p, size_t len)
{
	uint32_t id;

	say("%s: %s", what, err_name(ep_reg(n, p, len, &id)));
}

static int regions(int argc, char **argv)
{
	enum { PAGES = 16, SIZE = PAGES * PAGE };
	uint8_t *mem, *readonly, *want;
	uint32_t id, id2, id3;
	struct pcs_krpc_mr m;
	struct node n, other;
	struct stage s;
	union desc d;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	app_end(&s, 0);
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&other, &s.c, &full_framing, 0);
	mem = mmap(NULL, SIZE + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	want = malloc(SIZE);
	if (mem == MAP_FAILED || readonly == MAP_FAILED || !want)
		die("out of memory");
	munmap(mem + SIZE, PAGE);
	fill_pattern(want, SIZE, 0);

	try_reg(&n, "region not aligned", mem + 1, PAGE);
	try_reg(&n, "region of part of a page", mem, 100);
	try_reg(&n, "region of nothing", mem, 0);
	try_reg(&n, "region at 0", NULL, PAGE);
	try_reg(&n, "region that is not all there", mem, SIZE + PAGE);
	try_reg(&n, "region that is read only", readonly, PAGE);
	try_reg(&n, "region in the kernel", (void *)0xffff888000000000ull, PAGE);
	try_reg(&n, "region of everything", NULL, ~0ull - PAGE + 1);
	try_reg(&n, "region beyond the end", (void *)(~0ull - PAGE + 1), 2 * PAGE);
	try_reg(&n, "region of 2^60 bytes", mem, 1ull << 60);
	m = (struct pcs_krpc_mr){ .addr = (uintptr_t)mem, .len = PAGE, .mr_id = 5 };
	say("with an id: %s", err_name(ioctl(n.ep, PCS_KRPC_IOC_REG_MR, &m) ? errno : 0));
	m = (struct pcs_krpc_mr){ .addr = (uintptr_t)mem, .len = PAGE, .rsvd = 5 };
	say("with what is reserved: %s",
	    err_name(ioctl(n.ep, PCS_KRPC_IOC_REG_MR, &m) ? errno : 0));

	say("good: %s", err_name(ep_reg(&n, mem + PAGE, SIZE - PAGE, &id)));
	say("the same again: %s", err_name(ep_reg(&n, mem + PAGE, SIZE - PAGE, &id2)));
	say("another id: %s", id2 != id && id && id2 ? "yes" : "no");
	say("taken back: %s", err_name(ep_unreg(&n, id2)));
	say("taken back again: %s", err_name(ep_unreg(&n, id2)));
	say("another: %s", err_name(ep_reg(&n, mem, PAGE, &id3)));
	say("the id is new: %s", id3 != id && id3 != id2 ? "yes" : "no");
	say("0 taken back: %s", err_name(ep_unreg(&n, 0)));
	say("2^32 - 1 taken back: %s", err_name(ep_unreg(&n, ~0u)));

#define TRY(what, ep, ...) do { \
		d = mr(__VA_ARGS__); \
		say(what ": %s", err_name(ep_send(ep, next_xid++, &d, 0, 1))); \
	} while (0)
	TRY("buffer before the region", &n, id, mem, 1);
	TRY("buffer that begins before it", &n, id, mem + PAGE - 1, 2);
	TRY("buffer behind it", &n, id, mem + SIZE, 1);
	TRY("buffer that ends behind it", &n, id, mem + SIZE - 1, 2);
	TRY("buffer longer than it", &n, id, mem + PAGE, SIZE);
	TRY("buffer at 2^64 - 1", &n, id, (void *)~0ull, 2);
	TRY("buffer at 0", &n, id, NULL, PAGE);
	TRY("region that was taken back", &n, id2, mem + PAGE, 1);
	TRY("region of another endpoint", &other, id, mem + PAGE, 1);

	/* all of it, by a message; taken back before the answer */
	d = mr(id, mem + PAGE, SIZE - PAGE);
	say("all of it: %s", err_name(ep_send(&n, 1000, &d, 0, 1)));
	say("taken back meanwhile: %s", err_name(ep_unreg(&n, id)));
	TRY("by another message", &n, id, mem + PAGE, 1);
	node_take(&n);
	node_data(&n, 1000, 0, SIZE - PAGE);
	end_say(&n, "answer");
	say("data right: %s", memcmp(mem + PAGE, want, SIZE - PAGE) ? "no" : "yes");

	/* its last bytes, and its memory gone before the answer */
	say("once more: %s", err_name(ep_reg(&n, mem + PAGE, SIZE - PAGE, &id)));
	d = mr(id, mem + SIZE - 5, 5);
	memset(mem, POISON, SIZE);
	say("its last bytes: %s", err_name(ep_send(&n, 1001, &d, 0, 1)));
	node_take(&n);
	node_data(&n, 1001, 0, 5);
	end_say(&n, "answer");
	say("data right: %s, before it untouched: %s", memcmp(mem + SIZE - 5, want, 5) ? "no" : "yes",
	    mem[SIZE - 6] == POISON ? "yes" : "no");
	d = mr(id, mem + PAGE, SIZE - PAGE);
	say("all of it: %s", err_name(ep_send(&n, 1002, &d, 0, 1)));
	node_take(&n);
	munmap(mem, SIZE);
	node_data(&n, 1002, 0, SIZE - PAGE);
	end_say(&n, "answer after the memory was unmapped");
	node_close(&n);
	node_close(&other);
	stage_close(&s);
	return 0;
}

/* Run by a user without privileges, in a process of its own */
static void limited(struct node *n, struct node *second)
{
	enum { PAGES = 16, SIZE = PAGES * PAGE };
	struct rlimit rl = { SIZE, SIZE };
	uint32_t ids[PAGES], id;
	unsigned int i;
	uint8_t *mem;
	union desc d;
	int err;

	if (setrlimit(RLIMIT_MEMLOCK, &rl) || setgid(65534) || setuid(65534))
		die("cannot give up privileges");
	mem = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED)
		die("out of memory");
	say("one page more than the limit: %s", err_name(ep_reg(n, mem, SIZE + PAGE, &id)));
	say("the limit: %s", err_name(ep_reg(n, mem, SIZE, &id)));
	say("one page more: %s", err_name(ep_reg(n, mem + SIZE, PAGE, ids)));
	say("by the other endpoint: %s", err_name(ep_reg(second, mem + SIZE, PAGE, ids)));
	d = umem(mem + SIZE, 1);
	say("a byte of other memory: %s", err_name(ep_send(n, 1, &d, 0, 1)));
	say("taken back: %s", err_name(ep_unreg(n, id)));
	for (i = 0; i < PAGES; i++) {
		err = ep_reg(n, mem, PAGE, &ids[i]);
		if (err)
			break;
	}
	say("the same page over and over: %u times", i);
	say("and then: %s", err_name(ep_reg(n, mem, PAGE, &id)));
	for (i = 0; i < PAGES; i++)
		ep_unreg(n, ids[i]);
	/* memory that is not registered counts while the message is under way */
	d = umem(mem + PAGE - 1, SIZE);
	say("a message that touches one page too many: %s", err_name(ep_send(n, 2, &d, 0, 1)));
	d = umem(mem + PAGE - 1, SIZE - PAGE);
	say("one that touches as many as can be: %s", err_name(ep_send(n, 3, &d, 0, 1)));
	say("meanwhile: %s", err_name(ep_reg(n, mem, PAGE, &id)));
	node_data(n, node_take(n), 0, 10);
	end_say(n, "it");
	err = ep_reg(n, mem, SIZE, &id);
	/* a worker gives it back */
	for (i = 0; err && i < 1000; i++) {
		nap_ms(2);
		err = ep_reg(n, mem, SIZE, &id);
	}
	say("after it: %s", err_name(err));
	/* what is left belongs to the endpoints */
}

static int memory_limit(int argc, char **argv)
{
	struct rlimit rl = { PAGE, PAGE };
	struct node n, second;
	struct stage s;
	unsigned int i;
	uint8_t *mem;
	uint32_t id;
	int status, err;
	pid_t pid;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	app_end(&s, 0);
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&second, &s.c, &full_framing, 0);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		limited(&n, &second);
		fflush(stdout);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		die("the other user's process failed");
	/* the process is gone, its regions are not: they are the endpoint's */
	pid = fork();
	if (!pid) {
		struct rlimit same = { 16 * PAGE, 16 * PAGE };

		mem = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			   -1, 0);
		if (setrlimit(RLIMIT_MEMLOCK, &same) || setuid(65534))
			die("cannot give up privileges");
		say("another process of that user: %s", err_name(ep_reg(&second, mem, PAGE, &id)));
		close(n.ep);
		nap_ms(300);	/* the director closes it now */
		err = ENOMEM;
		for (i = 0; err && i < 1000; i++) {
			err = ep_reg(&second, mem, 16 * PAGE, &id);
			nap_ms(2);
		}
		say("when that endpoint is closed: %s", err_name(err));
		fflush(stdout);
		_exit(0);
	}
	nap_ms(100);
	node_close(&n);
	if (waitpid(pid, &status, 0) != pid || status)
		die("the other user's process failed");
	mem = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (setrlimit(RLIMIT_MEMLOCK, &rl))
		die("setrlimit: %s", err_name(errno));
	say("beyond the limit, with the privilege: %s", err_name(ep_reg(&second, mem, 16 * PAGE, &id)));
	node_close(&second);
	stage_close(&s);
	return 0;
}

const struct command send_commands[] = {
	{ "send-bad", send_bad, "messages that cannot be" },
	{ "claim-fds", claim_fds, "claims by file descriptors of all kinds" },
	{ "claim-unique", claim_unique, "claims of requests of all kinds" },
	{ "claim-queued", claim_queued, "claims of a request that the server has not got yet" },
	{ "claim-edges", claim_edges, "claims at all offsets and lengths" },
	{ "claim-overlap", claim_overlap, "claims of what is claimed or filled" },
	{ "claim-limit", claim_limit, "more claims than a request can have" },
	{ "send-twice", send_twice, "messages of one name, and too many messages" },
	{ "regions", regions, "registered memory" },
	{ "memory-limit", memory_limit, "RLIMIT_MEMLOCK" },
	{}
};
