// SPDX-License-Identifier: GPL-2.0-only
/*
 * krpcprobe: a hostile server: messages, framings, answers and replies at random, by two
 * threads, while applications read. What must hold: all that is called returns, nothing is
 * written to what applications do not read into, and nothing is left in the end.
 */
#include "krpcprobe.h"
#include "ringfuzz_rng.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

enum {
	THREADS = 2,
	ENDPOINTS = 3,		/* of a thread */
	APPS = 3,
	READ = 20 * PAGE,	/* the most bytes of a read */
	HELD = 12,
	MEMORY = 64 * PAGE,
	REGIONS = 8,
	ASKED = 16,
	REFUSED = 256,		/* errnos counted */
	RECVS = 4,
	ROUND = 20000,		/* messages of one mount */
	LIMIT_ROUND = 10 * LIMIT, /* seconds for it */
};

static uint64_t seed;

/* Ids of requests that the server has, or had, for both threads */
static atomic_ulong uniques[HELD], old_uniques[HELD];
static atomic_uint sizes[HELD];

struct fuzzer {
	struct stage *s;
	struct rng r;
	struct endpoint {
		struct node n;
		bool open;
		/* what was accepted, and how much is wanted; the oldest are forgotten */
		struct asked {
			uint64_t xid;
			uint32_t len;
		} asked[ASKED];
		unsigned int next;
		bool commanded;		/* not all of its messages are told by RECV_MSG */
	} eps[ENDPOINTS];
	struct ring u;			/* u.u.ring_fd is 0: not open */
	uint64_t commands;
	struct pcs_krpc_recv *recv;	/* RECVS of them */
	uint32_t ids[REGIONS];
	uint8_t *mem;
	unsigned long messages, accepted, ended, good, placed, replies, by_ring, rings;
	unsigned long refused[REFUSED];
	unsigned long want;
	unsigned int command;	/* per mille of messages that are sent by the ring */
};

static atomic_bool fuzz_stop;

static int do_any_read(struct job *j)
{
	uint8_t *mem = app + j->a * 2 * READ;
	struct rng r = rng_fork(j->b, 100 + j->a);

	/* until the mount is gone */
	for (;;) {
		bool direct = rng_chance(&r, 700);
		size_t len = 1 + rng_below(&r, READ);
		int fd = open(j->path, O_RDONLY | (direct ? O_DIRECT : 0));

		if (fd < 0)
			return errno;
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (pread(fd, mem + rng_below(&r, READ), len, rng_below(&r, FILE_SIZE - READ)) < 0 &&
		    (errno == ENOTCONN || errno == ECONNABORTED)) {
			close(fd);
			return errno;
		}
		close(fd);
		j->ret++;
	}
}

static uint32_t any_number(struct rng *r)
{
	static const uint32_t edges[] = { 0, 1, 2, 15, 16, 63, 64, 65, 511, 512, 4095, 4096, 4097,
					  8192, 65535, 65536, 1u << 24, (1u << 24) + 1, 0x7fffffff,
					  1u << 31, ~0u - 4095, ~0u - 1, ~0u };

	switch (rng_below(r, 4)) {
	case 0:
		return edges[rng_below(r, sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return rng_below(r, READ);
	case 2:
		return rng_below(r, 5000);
	}
	return rng_next(r) >> rng_below(r, 32);
}

static void any_framing(struct rng *r, struct pcs_krpc_framing *f)
{
	struct pcs_krpc_field *fields[] = { &f->magic, &f->cookie, &f->status, &f->length };
	unsigned int i;

	*f = rng_chance(r, 500) ? full_framing : short_framing;
	if (rng_chance(r, 600)) {
		f->flags = rng_below(r, 16);
		return;
	}
	if (rng_chance(r, 100)) {
		rng_bytes(r, f, sizeof(*f));
		return;
	}
	f->flags = rng_below(r, rng_chance(r, 900) ? 16 : 64);
	f->hdr_len = rng_below(r, 66);
	for (i = 0; i < 4; i++) {
		fields[i]->size = rng_chance(r, 900) ? 1u << rng_below(r, 4) : rng_below(r, 10);
		fields[i]->offset = rng_below(r, f->hdr_len + 2);
		if (i != 1 && rng_chance(r, 300))
			*fields[i] = (struct pcs_krpc_field){};
	}
	f->magic_value = rng_chance(r, 500) ? rng_below(r, 256) : MAGIC;
	f->status_ok = rng_below(r, 3);
}

static void open_endpoint(struct fuzzer *f, unsigned int i)
{
	struct node *n = &f->eps[i].n;
	int s[2], tries, err = -1;

	memset(&f->eps[i], 0, sizeof(f->eps[i]));
	tcp_pair(s);
	*n = (struct node){ .ep = ep_open(), .sock = s[0], .peer = s[1], .devfd = f->s->c.fd };
	for (tries = 0; err && tries < 50; tries++) {
		any_framing(&f->r, &n->f);
		/* nobody waits for long */
		err = ep_adopt(n->ep, n->sock,
			       rng_chance(&f->r, 20) ? (int)rng_below(&f->r, 20) : n->devfd, &n->f,
			       rng_chance(&f->r, 500) ? 1 + rng_below(&f->r, 100) : 0);
	}
	fcntl(n->peer, F_SETFL, O_NONBLOCK);
	fcntl(n->ep, F_SETFL, O_NONBLOCK);
	f->eps[i].open = true;
}

static void close_endpoint(struct fuzzer *f, unsigned int i)
{
	if (rng_chance(&f->r, 300) && f->eps[i].n.peer >= 0)
		node_reset(&f->eps[i].n);
	node_close(&f->eps[i].n);
	f->eps[i].open = false;
}

static uint64_t any_address(struct fuzzer *f)
{
	switch (rng_below(&f->r, 60)) {
	case 0:
		return 0;
	case 1:
		return rng_next(&f->r);
	case 2:
		return ~0ull - rng_below(&f->r, 10000);
	case 3:
		return (uintptr_t)f->mem + MEMORY - rng_below(&f->r, PAGE);
	}
	return (uintptr_t)f->mem + rng_below(&f->r, MEMORY - 3 * PAGE);
}

static void any_desc(struct fuzzer *f, struct node *n, union desc *d)
{
	struct rng *r = &f->r;
	unsigned int k = rng_below(r, HELD);
	uint32_t size = atomic_load(&sizes[k]);

	d->mem = (struct pcs_krpc_buf_desc){ .type = rng_below(r, 3),
					     .len = rng_chance(r, 900) ? 1 + rng_below(r, 9000) :
								       any_number(r) };
	if (rng_chance(r, 10))
		d->mem.type = any_number(r);
	if (rng_chance(r, 5)) {
		rng_bytes(r, d, sizeof(*d));
		d->mem.type = rng_below(r, 3);
		return;
	}
	if (d->mem.type != PCS_KRPC_BUF_TYPE_ZC) {
		d->mem.addr = any_address(f);
		if (d->mem.type == PCS_KRPC_BUF_TYPE_MR)
			d->mem.mr_id = rng_chance(r, 900) ? f->ids[rng_below(r, REGIONS)] :
							    any_number(r);
		if (rng_chance(r, 10))
			d->mem.rsvd = any_number(r);
		return;
	}
	d->zc.unique = rng_chance(r, 950) ? atomic_load(&uniques[k]) :
		       rng_chance(r, 800) ? atomic_load(&old_uniques[k]) : rng_next(r);
	d->zc.devfd = rng_chance(r, 980) ? (uint32_t)n->devfd : any_number(r) % 40;
	if (size && rng_chance(r, 900)) {
		d->zc.offset = rng_below(r, size);
		d->zc.len = 1 + rng_below(r, size - d->zc.offset);
	} else {
		d->zc.offset = any_number(r);
		d->zc.len = any_number(r);
	}
}

/* What commands have said: the result of the one that is asked for, or 1 */
static int any_completions(struct fuzzer *f, uint64_t command)
{
	struct io_uring_cqe *cqe;
	int res = 1;

	if (!f->u.u.ring_fd)
		return res;
	io_uring_get_events(&f->u.u);
	while (!io_uring_peek_cqe(&f->u.u, &cqe)) {
		if (cqe->res > PCS_KRPC_MAX_PAYLOAD || cqe->res < -4095)
			die("a command ended with %d; seed %llu", cqe->res,
			    (unsigned long long)seed);
		if (cqe->user_data == command)
			res = cqe->res;
		else
			f->ended++;
		f->good += cqe->res >= 0;
		io_uring_cqe_seen(&f->u.u, cqe);
	}
	return res;
}

static void close_ring(struct fuzzer *f)
{
	if (!f->u.u.ring_fd)
		return;
	ring_close(&f->u);
	f->u.u.ring_fd = 0;
	f->rings++;
}

/* 0 or errno, if that is known at once */
static int send_by_ring(struct fuzzer *f, struct endpoint *ep, struct pcs_krpc_send *m)
{
	struct io_uring_sqe *sqe;
	struct rng *r = &f->r;
	int res;

	if (!f->u.u.ring_fd)
		ring_open(&f->u, 64, rng_chance(r, 500) ? 0 :
			  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	m->recv = rng_chance(r, 900) ? (uintptr_t)&f->recv[rng_below(r, RECVS)] : any_address(f);
	sqe = cmd_send(&f->u, &ep->n, m, (void *)(uintptr_t)++f->commands);
	/* it may not see what this was about, but others */
	if (rng_chance(r, 20))
		sqe->flags |= IOSQE_ASYNC;
	if (rng_chance(r, 5))
		sqe->cmd_op = any_number(r);
	if (rng_chance(r, 5))
		sqe->uring_cmd_flags = any_number(r);
	if (rng_chance(r, 5))
		sqe->cmd[rng_below(r, 16)] = rng_next(r);
	ring_submit(&f->u);
	ep->commanded = true;
	f->by_ring++;
	res = any_completions(f, f->commands);
	if (rng_chance(r, 5))
		close_ring(f);
	return res < 0 ? -res : 0;
}

static void any_send(struct fuzzer *f, struct endpoint *ep)
{
	struct node *n = &ep->n;
	static __thread union desc d[600];
	struct rng *r = &f->r;
	struct pcs_krpc_send m;
	uint8_t hdr[128];
	unsigned int i, nr_send = rng_below(r, 3), nr_recv = rng_below(r, 5);
	uint64_t xid = rng_chance(r, 900) ? rng_next(r) >> 32 : ep->asked[rng_below(r, ASKED)].xid;
	unsigned int cookie = n->f.cookie.size;
	int err;

	if (rng_chance(r, 700))
		nr_send = 0;
	if (rng_chance(r, 5)) {
		nr_send = rng_below(r, 300);
		nr_recv = rng_below(r, 300);
	}
	for (i = 0; i < nr_send + nr_recv; i++)
		any_desc(f, n, &d[i]);
	/* mostly what the cookie has room for */
	if (cookie && cookie < 8 && rng_chance(r, 990))
		xid &= (1ull << 8 * cookie) - 1;
	make_send(&m, hdr, xid, d, nr_send, nr_recv);
	m.hdr.len = rng_chance(r, 980) ? 1 + rng_below(r, 64) : any_number(r);
	if (rng_chance(r, 10))
		any_desc(f, n, (union desc *)&m.hdr);
	if (rng_chance(r, 5))
		m.nr_recv = any_number(r);
	if (rng_chance(r, 5))
		m.chunks = any_address(f);
	if (rng_chance(r, 5))
		m.recv = any_address(f);
	f->messages++;
	if (rng_chance(r, f->command))
		err = send_by_ring(f, ep, &m);
	else
		err = ioctl(n->ep, PCS_KRPC_IOC_SEND_MSG, &m) ? errno : 0;
	if (err) {
		f->refused[err % REFUSED]++;
		return;
	}
	f->accepted++;
	if (!xid)
		return;
	ep->asked[ep->next].xid = xid;
	ep->asked[ep->next].len = 0;
	for (i = nr_send; i < nr_send + nr_recv; i++)
		ep->asked[ep->next].len += d[i].mem.len;
	ep->next = (ep->next + 1) % ASKED;
}

/* What has been sent is not looked at; answers are right, nearly right or nothing like it */
static void any_answer(struct fuzzer *f, struct endpoint *ep)
{
	enum { ROOM = 60000 };
	static __thread uint8_t buf[PCS_KRPC_MAX_HEADER + PCS_KRPC_MSG_ALIGNMENT + ROOM];
	struct rng *r = &f->r;
	struct node *n = &ep->n;
	struct pcs_krpc_framing was = n->f;
	unsigned int answers = 1 + rng_below(r, 4);
	struct asked *a;
	size_t have, len;
	uint64_t status, said;

	while (recv(n->peer, buf, sizeof(buf), 0) > 0)
		;
	if (n->f.hdr_len > PCS_KRPC_MAX_HEADER)
		return;
	if (rng_chance(r, 10)) {
		rng_bytes(r, buf, 200);
		send(n->peer, buf, rng_below(r, 200), MSG_NOSIGNAL);
		return;
	}
	while (answers--) {
		a = &ep->asked[rng_below(r, ASKED)];
		/* one that was asked for, and not answered before */
		if (!a->xid && rng_chance(r, 990))
			continue;
		if (rng_chance(r, 3))
			n->f.magic_value ^= 1ull << rng_below(r, 64);
		len = n->f.length.size && a->len && rng_chance(r, 300) ? rng_below(r, a->len) :
									a->len;
		if (len > ROOM)
			len = n->f.length.size ? rng_below(r, ROOM) : ROOM;
		status = n->f.status_ok;
		if (n->f.status.size && rng_chance(r, 50)) {
			status = any_number(r);
			if (!n->f.length.size)
				len = 0;
		}
		said = rng_chance(r, 990) ? len : any_number(r);
		have = node_head(n, buf, a->xid, status, said);
		n->f = was;
		memset(buf + have, 0xdd, len);
		have += len;
		if (n->f.flags & PCS_KRPC_PADDED) {
			len = -have & (PCS_KRPC_MSG_ALIGNMENT - 1);
			memset(buf + have, 0, len);
			have += len;
		}
		if (rng_chance(r, 10))
			have = rng_below(r, have + 1);
		if (send(n->peer, buf, have, MSG_NOSIGNAL) < 0)
			break;
		a->xid = 0;
	}
	if (rng_chance(r, 3))
		node_half_close(n);
}

static void any_region(struct fuzzer *f, struct node *n)
{
	unsigned int i = rng_below(&f->r, REGIONS);
	struct rng *r = &f->r;
	uint32_t id;

	if (f->ids[i] && rng_chance(r, 500)) {
		ep_unreg(n, f->ids[i]);
		return;
	}
	if (rng_chance(r, 900)) {
		uint32_t first = rng_below(r, MEMORY / PAGE);

		if (!ep_reg(n, f->mem + first * PAGE,
			    (1 + rng_below(r, MEMORY / PAGE - first)) * PAGE, &id))
			f->ids[i] = id;
	} else if (!ep_reg(n, (void *)(uintptr_t)any_address(f), any_number(r), &id)) {
		f->ids[i] = id;
	}
}

static void any_recv(struct fuzzer *f, unsigned int i)
{
	struct endpoint *ep = &f->eps[i];
	struct node *n = &ep->n;
	uint64_t end = now_ms() + LIMIT * 1000;
	struct pcs_krpc_recv recv;
	struct pcs_krpc_stats st;
	int k, err = 0;

	any_completions(f, 0);

	for (k = 0; k < 20 && !err; k++) {
		err = ioctl(n->ep, PCS_KRPC_IOC_RECV_MSG, &recv) ? errno : 0;
		if (err)
			break;
		f->ended++;
		f->good += recv.res >= 0;
		if (recv.res > PCS_KRPC_MAX_PAYLOAD || recv.res < -4095 ||
		    recv.hdr_len > PCS_KRPC_MAX_HEADER)
			die("a message ended with %d, header of %u bytes; seed %llu", recv.res,
			    recv.hdr_len, (unsigned long long)seed);
	}
	/* some are used on after their end */
	if (!err || err == EAGAIN || rng_chance(&f->r, 300))
		return;
	/* those that were never adopted have none */
	if (!ioctl(n->ep, PCS_KRPC_IOC_STATS, &st)) {
		f->placed += st.bytes_placed;
		/* of commands' ends this says nothing */
		while (ep->commanded && st.msgs_done != st.msgs_sent && now_ms() < end) {
			nap_ms(1);
			st = ep_stats(n);
		}
		if (st.msgs_done != st.msgs_sent)
			die("%llu messages sent, %llu ended; seed %llu",
			    (unsigned long long)st.msgs_sent, (unsigned long long)st.msgs_done,
			    (unsigned long long)seed);
	}
	close_endpoint(f, i);
}

static void fuzz_step(struct fuzzer *f)
{
	unsigned int i = rng_below(&f->r, ENDPOINTS);
	struct endpoint *ep = &f->eps[i];

	if (!ep->open) {
		open_endpoint(f, i);
		return;
	}
	switch (rng_below(&f->r, 32)) {
	case 0: case 1: case 2: case 3: case 4: case 5: case 6:
		any_answer(f, ep);
		break;
	case 7: case 8: case 9:
		any_recv(f, i);
		break;
	case 10:
		ep_abort(&ep->n, rng_chance(&f->r, 950) ?
				 ep->asked[rng_below(&f->r, ASKED)].xid : rng_next(&f->r));
		break;
	case 11:
		any_region(f, &ep->n);
		break;
	case 12:
		if (rng_chance(&f->r, 20)) {
			struct pcs_krpc_stats st;

			if (!ioctl(ep->n.ep, PCS_KRPC_IOC_STATS, &st))
				f->placed += st.bytes_placed;
			close_endpoint(f, i);
		} else if (ep_poll(&ep->n, POLLIN | POLLOUT, 0) & POLLERR) {
			any_recv(f, i);
		}
		break;
	default:
		any_send(f, ep);
		break;
	}
}

static void *fuzz_main(void *arg)
{
	struct fuzzer *f = arg;

	while (f->messages < f->want && !atomic_load(&fuzz_stop))
		fuzz_step(f);
	/* another thread goes on with a ring of its own */
	close_ring(f);
	return NULL;
}

/* ------------------------------------------------------------------ the server's part -- */

static void any_reply(struct fuzzer *f, struct req *q)
{
	static uint8_t data[READ + PAGE];
	struct pcs_krpczc_chunk ch[8];
	struct rng *r = &f->r;
	uint32_t size = read_in(q)->size, at = 0;
	unsigned int i, nr = 1 + rng_below(r, 4);
	int err;

	f->replies++;
	switch (rng_below(r, 4)) {
	case 0:
		err = try_reply(q, 0, data, rng_below(r, (size < READ ? size : READ) + 1));
		break;
	case 1:
		err = try_reply(q, -(int)rng_below(r, 600), NULL, 0);
		break;
	default:
		for (i = 0; i < nr; i++) {
			ch[i] = (struct pcs_krpczc_chunk){
				.addr = rng_chance(r, 600) ? any_address(f) : 0, .offset = at,
				.len = rng_chance(r, 950) ? 1 + rng_below(r, size / nr + 1) :
							  any_number(r),
			};
			if (rng_chance(r, 20))
				ch[i].offset = any_number(r);
			at += ch[i].len;
		}
		err = try_reply(q, rng_chance(r, 980) ? FUSE_OUT_KRPCZC : (int)any_number(r), ch,
				nr * sizeof(ch[0]) - (rng_chance(r, 20) ? rng_below(r, 17) : 0));
	}
	/* one that was refused before the request was looked at: it is answered in the end */
	if (err == EBUSY || err == EINVAL) {
		uint64_t end = now_ms() + LIMIT * 1000;

		while (try_reply(q, -EIO, NULL, 0) == EBUSY && now_ms() < end &&
		       !atomic_load(&fuzz_stop))
			fuzz_step(f);
	}
}

/*
 * Memory for one of the threads. It stays for good: what a ring's commands say is written there
 * whenever the kernel gets to it, be it after the round.
 */
static void own_memory(struct fuzzer *f, unsigned int thread)
{
	static struct pcs_krpc_recv recv[THREADS][RECVS];
	static uint8_t *mem[THREADS];

	if (!mem[thread]) {
		mem[thread] = mmap(NULL, MEMORY + PAGE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (mem[thread] == MAP_FAILED || mprotect(mem[thread] + MEMORY, PAGE, PROT_NONE))
			die("out of memory");
	}
	f->mem = mem[thread];
	f->recv = recv[thread];
}

static void fuzz_round(unsigned long messages, bool verbose, struct fuzzer *sum)
{
	struct fuzzer f[THREADS] = {};
	struct req *held[HELD] = {}, *q;
	struct stage s;
	pthread_t thread;
	unsigned int i, k, number;
	uint64_t end, start = now_ms();

	alarm(LIMIT_ROUND);
	atomic_store(&fuzz_stop, false);
	for (i = 0; i < HELD; i++) {
		atomic_store(&uniques[i], 0);
		atomic_store(&sizes[i], 0);
	}
	stage_open(&s, APPS, &(struct init_opts){ .flags = FUSE_ASYNC_DIO });
	for (i = 0; i < THREADS; i++) {
		f[i].s = &s;
		f[i].r = rng_fork(seed, i);
		f[i].want = messages / THREADS;
		/* one thread may do without rings */
		f[i].command = i ? 500 : rng_chance(&f[i].r, 300) ? 0 : rng_below(&f[i].r, 1001);
		own_memory(&f[i], i);
	}
	for (i = 0; i < APPS; i++) {
		struct job j = { .run = do_any_read, .a = i, .b = (long)seed };

		if (snprintf(j.path, sizeof(j.path), "%s/f%u", s.c.mnt, i) >= (int)sizeof(j.path))
			die("the name is too long");
		client_send(&s.cl[i], &j);
	}
	if (pthread_create(&thread, NULL, fuzz_main, &f[1]))
		die("no thread");
	while (f[0].messages < f[0].want) {
		q = try_req(&s.c, 0);
		if (q && (q->h.opcode != FUSE_READ || !read_in(q)->size)) {
			answer(q);
		} else if (q) {
			k = rng_below(&f[0].r, HELD);
			if (held[k]) {
				any_reply(&f[0], held[k]);
				atomic_store(&old_uniques[k], held[k]->h.unique);
				put_req(held[k]);
			}
			held[k] = q;
			atomic_store(&sizes[k], read_in(q)->size);
			atomic_store(&uniques[k], q->h.unique);
		} else if (rng_chance(&f[0].r, 20)) {
			k = rng_below(&f[0].r, HELD);
			if (held[k]) {
				any_reply(&f[0], held[k]);
				atomic_store(&uniques[k], 0);
				put_req(held[k]);
				held[k] = NULL;
			}
		}
		for (i = 0; i < 20; i++)
			fuzz_step(&f[0]);
	}
	/* the connection goes away, now and then before the other thread is done */
	if (rng_chance(&f[0].r, 500)) {
		pthread_join(thread, NULL);
		conn_abort(&s.c);
	} else {
		conn_abort(&s.c);
		atomic_store(&fuzz_stop, true);
		pthread_join(thread, NULL);
	}
	for (i = 0; i < APPS; i++)
		client_wait(&s.cl[i], "an application");
	if (!poisoned(APPS * 2 * READ, APP_SIZE - APPS * 2 * READ))
		die("memory beside the applications' is written to; seed %llu",
		    (unsigned long long)seed);
	poison();
	for (i = 0; i < 200; i++) {
		fuzz_step(&f[0]);
		fuzz_step(&f[1]);
	}
	for (i = 0; i < THREADS; i++) {
		for (k = 0; k < ENDPOINTS; k++)
			if (f[i].eps[k].open)
				close_endpoint(&f[i], k);
		close_ring(&f[i]);
	}
	if (!poisoned(0, APP_SIZE))
		die("memory is written to after the abort; seed %llu", (unsigned long long)seed);
	for (k = 0; k < HELD; k++)
		if (held[k])
			put_req(held[k]);
	number = s.c.number;
	for (i = 0; i < APPS; i++)
		client_stop(&s.cl[i]);
	conn_close(&s.c);
	if (s.ring)
		ring_close(&s.r);
	end = now_ms() + LIMIT * 1000;
	while (conn_listed(number)) {
		if (now_ms() > end)
			die("the connection is still there; seed %llu", (unsigned long long)seed);
		nap_ms(2);
	}
	for (i = 0; i < THREADS; i++) {
		sum->messages += f[i].messages;
		sum->accepted += f[i].accepted;
		sum->ended += f[i].ended;
		sum->good += f[i].good;
		sum->placed += f[i].placed;
		sum->replies += f[i].replies;
		sum->by_ring += f[i].by_ring;
		sum->rings += f[i].rings;
		for (k = 0; k < REFUSED; k++)
			sum->refused[k] += f[i].refused[k];
	}
	if (verbose)
		say("seed %llu: so far %lu messages, %lu accepted, %lu told of, %lu of them good, "
		    "%lu bytes placed, %lu replies, %lu messages by %lu rings; %llu ms",
		    (unsigned long long)seed, sum->messages, sum->accepted, sum->ended, sum->good,
		    sum->placed, sum->replies, sum->by_ring, sum->rings,
		    (unsigned long long)(now_ms() - start));
}

static int fuzz(int argc, char **argv)
{
	const struct chances o = chances_of(argc, argv, ROUND);
	unsigned long left;
	struct fuzzer sum = {};
	int k, kmsg = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[64];

	for (seed = o.first; sum.messages < o.want; seed++) {
		left = o.want - sum.messages;
		/* in the log of what takes the machine down, its seed is the last */
		snprintf(line, sizeof(line), "krpcprobe: fuzz seed %llu\n", (unsigned long long)seed);
		if (kmsg >= 0 && write(kmsg, line, strlen(line)) < 0)
			kmsg = -1;
		fuzz_round(left < ROUND ? left + 2 : ROUND, o.verbose, &sum);
	}
	alarm(0);
	for (k = 0; o.verbose && k < REFUSED; k++)
		if (sum.refused[k])
			say("%s: %lu", err_name(k), sum.refused[k]);
	/* nothing at all may not look like success */
	if (!sum.by_ring || sum.accepted < sum.messages / 20 || sum.good < sum.messages / 1000 || !sum.placed)
		die("hardly a message was good: %lu of %lu accepted, %lu ended well, %lu bytes",
		    sum.accepted, sum.messages, sum.good, sum.placed);
	say("all calls returned, nothing written beside, nothing left");
	return 0;
}

const struct command fuzz_commands[] = {
	{ "fuzz", fuzz, "so many chance messages ([N] [--seed N] [--verbose])" },
	{}
};
