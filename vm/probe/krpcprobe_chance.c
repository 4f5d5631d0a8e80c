// SPDX-License-Identifier: GPL-2.0-only
/*
 * krpcprobe: a good server, applications that verify what they read, and nodes that go wrong
 * at chance moments; every few of them the connection goes away too. All that is drawn
 * follows from a seed; round N of seed S is round 0 of seed S + N.
 */
#include "krpcprobe.h"
#include "ringfuzz_rng.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

enum {
	APPS = 3,
	NODES = 3,
	ROOM = APP_SIZE / APPS / PAGE * PAGE,	/* of an application */
	MOST = 100000,		/* bytes of a read */
	PARTS = 8,		/* of a request */
	TRIES = 3,
	SLOTS = 256,		/* messages of which the nodes know what they are about */
	GARBAGE_LEN = 4096,
	ROUND = 60,		/* seconds for a round */
};

/* What a node does instead of answering on */
enum trouble {
	FINE, CLOSE, RESET, HALF_CLOSE, STALL, GARBAGE, WRONG_MAGIC, WRONG_COOKIE, TOO_LONG, SHORT,
	ERROR, TROUBLES,
};

static const char *const trouble_names[TROUBLES] = {
	[CLOSE] = "close", [RESET] = "reset", [HALF_CLOSE] = "half-close", [STALL] = "stall",
	[GARBAGE] = "garbage", [WRONG_MAGIC] = "wrong magic", [WRONG_COOKIE] = "unknown cookie",
	[TOO_LONG] = "too long", [SHORT] = "too short", [ERROR] = "error status",
};

static atomic_ulong instants[TROUBLES], aborts, closes, rings_closed, commands, ends[4];
static uint64_t seed;
static const char *command;

/* What the applications are told, and how many reads they have done */
static struct {
	atomic_int stop;
	atomic_ulong reads;
} *told;

static void failed(const char *what, const char *more)
{
	die("%s: %s; seed %llu; again: krpcprobe %s 1 --seed %llu", what, more,
	    (unsigned long long)seed, command, (unsigned long long)seed);
}

static unsigned long all_instants(void)
{
	unsigned long n = atomic_load(&aborts) + atomic_load(&closes) + atomic_load(&rings_closed);
	unsigned int i;

	for (i = CLOSE; i < TROUBLES; i++)
		n += atomic_load(&instants[i]);
	for (i = 0; i < 4; i++)
		n += atomic_load(&ends[i]);
	return n;
}

/* -------------------------------------------------------------------- applications -- */

/* a: which one, b: seed. EBADMSG: data that nobody wrote */
static int do_verify_reads(struct job *j)
{
	uint8_t *mem = app + j->a * ROOM, *want = malloc(MOST);
	struct rng r = rng_fork(j->b, 100 + j->a);
	int err = 0;

	if (!want)
		return ENOMEM;
	for (j->ret = 0; !err && !atomic_load(&told->stop); j->ret++) {
		bool direct = rng_chance(&r, 700);
		uint64_t offset = rng_below(&r, FILE_SIZE - MOST);
		size_t len = 1 + rng_below(&r, rng_chance(&r, 500) ? MOST : 5000);
		size_t at = rng_below(&r, ROOM - MOST), i;
		int fd = open(j->path, O_RDONLY | (direct ? O_DIRECT : 0));
		ssize_t n;

		if (fd < 0) {
			err = errno;
			break;
		}
		/* what is in the cache is not asked for */
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		if (rng_chance(&r, 500))
			posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
		n = pread(fd, mem + at, len, offset);
		err = n < 0 ? errno : 0;
		close(fd);
		if (err)
			break;
		fill_pattern(want, len, offset);
		for (i = 0; i < len && mem[at + i] == want[i]; i++)
			;
		if (n != (ssize_t)len || i < len) {
			snprintf(j->text, sizeof(j->text),
				 "%s read of %zu bytes at %llu: %zd bytes, wrong at %zu: %#x",
				 direct ? "direct" : "buffered", len, (unsigned long long)offset, n,
				 i, i < len ? mem[at + i] : 0);
			err = EBADMSG;
		}
		atomic_fetch_add(&told->reads, 1);
	}
	free(want);
	return err;
}

/* --------------------------------------------------------------------------- nodes -- */

/* Of a message, by its xid: what is asked for */
struct slot {
	atomic_ulong xid;
	uint64_t offset;
	uint32_t len;
};

static struct slot slots[SLOTS];

struct server_node {
	struct node n;
	bool open;
	pthread_t thread;
	struct rng rng;
	unsigned int trouble;	/* per mille of answers */
	atomic_bool stop;
};

static void send_some(struct server_node *sn, const uint8_t *p, size_t len)
{
	while (len && !atomic_load(&sn->stop)) {
		size_t part = len;
		ssize_t done;

		if (rng_chance(&sn->rng, 300) && part > 1)
			part = 1 + rng_below(&sn->rng, part - 1);
		done = send(sn->n.peer, p, part, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (done < 0 && errno == EAGAIN) {
			struct pollfd pf = { .fd = sn->n.peer, .events = POLLOUT };

			poll(&pf, 1, 5);
			continue;
		}
		if (done < 0)
			return;
		p += done;
		len -= done;
	}
}

/* Waits for the endpoint to have enough of it */
static void until_closed(struct server_node *sn)
{
	uint8_t buf[1024];

	while (!atomic_load(&sn->stop)) {
		struct pollfd pf = { .fd = sn->n.peer, .events = POLLIN };
		ssize_t n;

		if (poll(&pf, 1, 5) != 1)
			continue;
		n = recv(sn->n.peer, buf, sizeof(buf), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN))
			return;
	}
}

/* Returns false if that was the node's last answer */
static bool node_step(struct server_node *sn, uint64_t xid, uint8_t *buf)
{
	struct slot *slot = &slots[xid % SLOTS];
	enum trouble t = rng_chance(&sn->rng, sn->trouble) ? 1 + rng_below(&sn->rng, TROUBLES - 1) :
			 FINE;
	uint64_t status = STATUS_OK, cookie = xid;
	uint32_t len = slot->len, said = len;
	size_t total;

	if (atomic_load(&slot->xid) != xid)
		return true;	/* it was long ago */
	switch (t) {
	case WRONG_COOKIE:
		cookie = xid + 1000000;
		break;
	case TOO_LONG:
		said = rng_chance(&sn->rng, 500) ? len + 1 : ~0u;
		break;
	case SHORT:
		/* this is right: the server has to ask for the rest */
		said = len = rng_below(&sn->rng, len);
		break;
	case ERROR:
		status = 5;
		said = len = rng_below(&sn->rng, 100);
		break;
	default:
		break;
	}
	total = node_head(&sn->n, buf, cookie, status, said);
	fill_pattern(buf + total, len, slot->offset);
	if (t == ERROR)
		memset(buf + total, 0xdd, len);
	if (t == WRONG_MAGIC)
		buf[0] ^= 0x80;
	total += len;
	if (t != FINE)
		atomic_fetch_add(&instants[t], 1);
	if (t == FINE || t >= WRONG_MAGIC) {
		send_some(sn, buf, total);
		if (t == FINE || t == SHORT || t == ERROR)
			return true;
		/* and goes on as if nothing were wrong */
		memset(buf, 0xdd, MOST);
		send_some(sn, buf, MOST);
		until_closed(sn);
		return false;
	}
	/*
	 * Somewhere in the answer. Of garbage that is as long as what is missing nobody could tell
	 * that it is any: more must be missing, or a header.
	 */
	{
		size_t cut = rng_below(&sn->rng, total + 1);

		if (t == GARBAGE && cut && cut < total && total - cut <= GARBAGE_LEN)
			cut = rng_chance(&sn->rng, 500) ? 0 : total;
		send_some(sn, buf, cut);
	}
	switch (t) {
	case CLOSE:
		shutdown(sn->n.peer, SHUT_RDWR);
		break;
	case RESET: {
		struct linger l = { .l_onoff = 1 };

		setsockopt(sn->n.peer, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
		close(sn->n.peer);
		sn->n.peer = -1;
		return false;
	}
	case HALF_CLOSE:
		shutdown(sn->n.peer, SHUT_WR);
		break;
	case GARBAGE:
		rng_bytes(&sn->rng, buf, GARBAGE_LEN);
		send_some(sn, buf, GARBAGE_LEN);
		break;
	default:
		break;
	}
	until_closed(sn);
	return false;
}

static void *node_main(void *arg)
{
	struct server_node *sn = arg;
	uint8_t *buf = malloc(MOST * 2), hdr[ASK];
	uint64_t xids[4], xid;
	unsigned int n = 0, i;
	size_t have = 0;

	while (buf && !atomic_load(&sn->stop)) {
		struct pollfd pf = { .fd = sn->n.peer, .events = POLLIN };
		ssize_t got;

		/* some are taken in before any is answered, and answered in any order */
		if (n < 4 && poll(&pf, 1, n ? 0 : 5) == 1) {
			got = recv(sn->n.peer, hdr + have, ASK - have, MSG_DONTWAIT);
			if (!got || (got < 0 && errno != EAGAIN))
				break;
			if (got > 0)
				have += got;
			if (have < ASK)
				continue;
			have = 0;
			memcpy(&xids[n++], hdr + 8, 8);
			continue;
		}
		if (!n)
			continue;
		i = rng_below(&sn->rng, n);
		xid = xids[i];
		xids[i] = xids[--n];
		if (!node_step(sn, xid, buf))
			break;
	}
	free(buf);
	/* closed by the server, when it has noticed */
	return NULL;
}

/* -------------------------------------------------------------------------- server -- */

enum part_state { WANTED, ASKED, PLACED, OWN };

struct part {
	enum part_state state;
	uint32_t offset, len;
	unsigned int node, tries;
	uint64_t xid;
	bool command;		/* of a ring, which tells of its end */
};

struct held {
	struct req *q;
	unsigned int nr;
	struct part parts[PARTS * (TRIES + 2)];
};

enum { HELD = 16 };

struct server {
	struct stage s;
	struct rng rng;
	struct server_node nodes[NODES];
	struct held held[HELD];
	uint64_t next_xid;
	uint8_t *data;		/* the file's */
	unsigned int abort;	/* per mille of messages */
	unsigned int command;	/* per mille of messages that are sent by a ring */
	struct ring u;
};

static void node_start(struct server *sv, unsigned int i)
{
	struct server_node *sn = &sv->nodes[i];

	node_open(&sn->n, &sv->s.c, &full_framing, 200);
	sn->rng = rng_fork(rng_next(&sv->rng), 0);
	atomic_store(&sn->stop, false);
	sn->open = true;
	if (pthread_create(&sn->thread, NULL, node_main, sn))
		die("no thread");
}

static void node_end(struct server *sv, unsigned int i)
{
	struct server_node *sn = &sv->nodes[i];
	unsigned int k, p;

	if (!sn->open)
		return;
	close(sn->n.ep);
	sn->n.ep = -1;
	atomic_store(&sn->stop, true);
	pthread_join(sn->thread, NULL);
	node_close(&sn->n);
	sn->open = false;
	for (k = 0; k < HELD; k++)
		for (p = 0; sv->held[k].q && p < sv->held[k].nr; p++)
			/* a ring keeps the endpoint until its commands have told of their end */
			if (sv->held[k].parts[p].state == ASKED &&
			    sv->held[k].parts[p].node == i && !sv->held[k].parts[p].command)
				sv->held[k].parts[p].state = WANTED;
}

static void take_read(struct server *sv, struct req *q)
{
	unsigned int k, nr = 1 + rng_below(&sv->rng, PARTS);
	uint32_t size = read_in(q)->size, at = 0;
	struct held *h = NULL;

	for (k = 0; k < HELD && !h; k++)
		if (!sv->held[k].q)
			h = &sv->held[k];
	if (!h) {
		end_read(q);
		return;
	}
	h->q = q;
	h->nr = 0;
	while (at < size) {
		uint32_t len = size - at;

		if (h->nr < nr - 1 && len > 1)
			len = 1 + rng_below(&sv->rng, len - 1);
		h->parts[h->nr++] = (struct part){ .offset = at, .len = len };
		at += len;
	}
}

/* All that this says is said by its completion, be it that the message is refused */
static void ask_by_ring(struct server *sv, struct held *h, struct part *p)
{
	struct node *n = &sv->nodes[p->node].n;
	union desc d = zc(n, h->q, p->offset, p->len);
	struct pcs_krpc_send m;
	uint8_t hdr[ASK];

	make_send(&m, hdr, p->xid, &d, 0, 1);
	p->state = ASKED;
	p->command = true;
	atomic_fetch_add(&commands, 1);
	cmd_send(&sv->u, n, &m, (void *)(uintptr_t)(p->xid * NODES + p->node));
	ring_submit(&sv->u);
}

static void ask(struct server *sv, struct held *h, struct part *p)
{
	struct slot *slot;
	int err;

	p->node = rng_below(&sv->rng, NODES);
	p->command = false;
	if (p->tries++ >= TRIES || !sv->nodes[p->node].open || rng_chance(&sv->rng, 50)) {
		p->state = OWN;
		return;
	}
	p->xid = ++sv->next_xid;
	slot = &slots[p->xid % SLOTS];
	atomic_store(&slot->xid, 0);
	slot->offset = read_in(h->q)->offset + p->offset;
	slot->len = p->len;
	atomic_store(&slot->xid, p->xid);
	if (rng_chance(&sv->rng, sv->command)) {
		ask_by_ring(sv, h, p);
		return;
	}
	err = ep_send_zc(&sv->nodes[p->node].n, p->xid, h->q, p->offset, p->len);
	if (!err) {
		p->state = ASKED;
		return;
	}
	/* an endpoint that was closed may still be at it */
	if (err == EBUSY) {
		p->tries--;
		return;
	}
	/* the connection may have been aborted, the endpoint may have ended: EMSGSIZE is of that */
	p->state = OWN;
	if (err == EEXIST || err == EINVAL || err == E2BIG)
		failed("a claim", err_name(err));
}

static void reply_read(struct server *sv, struct held *h)
{
	struct pcs_krpczc_chunk ch[PARTS * (TRIES + 2)];
	unsigned int i, k = 0, nr = 0;
	uint32_t at = 0;
	int err;

	/* in the order of the file */
	while (at < read_in(h->q)->size) {
		for (i = 0; i < h->nr; i++)
			if (h->parts[i].offset == at && h->parts[i].len)
				break;
		if (i == h->nr)
			failed("the server", "lost a part");
		ch[nr++] = (struct pcs_krpczc_chunk){
			.addr = h->parts[i].state == OWN ?
				(uintptr_t)sv->data + read_in(h->q)->offset + at : 0,
			.offset = at, .len = h->parts[i].len };
		at += h->parts[i].len;
		k++;
	}
	err = try_chunks(h->q, ch, nr);
	/* as above */
	if (err == EBUSY)
		return;
	if (err && err != ENOENT && err != ENOTCONN && err != ECONNABORTED && err != ENODEV &&
	    err != EPERM)
		failed("a reply", err_name(err));
	put_req(h->q);
	h->q = NULL;
}

static void ended(struct server *sv, unsigned int node, const struct pcs_krpc_recv *r)
{
	unsigned int k, p;

	for (k = 0; k < HELD; k++)
		for (p = 0; sv->held[k].q && p < sv->held[k].nr; p++) {
			struct held *h = &sv->held[k];
			struct part *part = &h->parts[p];

			if (part->state != ASKED || part->xid != r->xid || part->node != node)
				continue;
			if (r->res == (int)part->len) {
				part->state = PLACED;
			} else if (r->res > (int)part->len) {
				failed("a message", "more than was asked for");
			} else if (r->res > 0) {
				/* the rest is asked for again */
				if (h->nr == sizeof(h->parts) / sizeof(h->parts[0]))
					failed("the server", "too many parts");
				h->parts[h->nr++] = (struct part){
					.offset = part->offset + r->res,
					.len = part->len - r->res, .tries = part->tries };
				part->len = r->res;
				part->state = PLACED;
			} else {
				part->state = WANTED;
			}
			return;
		}
}

static void commands_ended(struct server *sv)
{
	struct pcs_krpc_recv r = {};
	struct io_uring_cqe *cqe;
	unsigned int k, p, node;

	io_uring_get_events(&sv->u.u);
	while (!io_uring_peek_cqe(&sv->u.u, &cqe)) {
		r.xid = cqe->user_data / NODES;
		node = cqe->user_data % NODES;
		r.res = cqe->res;
		io_uring_cqe_seen(&sv->u.u, cqe);
		if (r.res == -EEXIST || r.res == -EINVAL || r.res == -E2BIG)
			failed("a claim", err_name(r.res));
		/* as in ask() */
		for (k = 0; r.res == -EBUSY && k < HELD; k++)
			for (p = 0; sv->held[k].q && p < sv->held[k].nr; p++)
				if (sv->held[k].parts[p].xid == r.xid)
					sv->held[k].parts[p].tries--;
		ended(sv, node, &r);
	}
}

/*
 * With messages under way, of which nobody will be told. Some of them may just have ended well:
 * what they have filled is no one's to claim.
 */
static void ring_again(struct server *sv)
{
	unsigned int k, p;

	ring_close(&sv->u);
	ring_open(&sv->u, 64, rng_chance(&sv->rng, 500) ? 0 :
		  IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	for (k = 0; k < HELD; k++)
		for (p = 0; sv->held[k].q && p < sv->held[k].nr; p++)
			if (sv->held[k].parts[p].state == ASKED && sv->held[k].parts[p].command)
				sv->held[k].parts[p].state = OWN;
}

/* One turn: what has come is taken, what has ended is told, what is wanted is asked for */
static void serve_step(struct server *sv, bool serving)
{
	struct pcs_krpc_recv r;
	struct req *q;
	unsigned int i, p;
	int err;

	while (serving && (q = try_req(&sv->s.c, 0))) {
		if (q->h.opcode == FUSE_READ && read_in(q)->size)
			take_read(sv, q);
		else
			answer(q);
	}
	commands_ended(sv);
	if (sv->command && rng_chance(&sv->rng, 5)) {
		atomic_fetch_add(&rings_closed, 1);
		ring_again(sv);
	}
	for (i = 0; i < NODES; i++) {
		struct server_node *sn = &sv->nodes[i];

		if (!sn->open) {
			if (serving)
				node_start(sv, i);
			continue;
		}
		while (!(err = ep_recv(&sn->n, &r)))
			ended(sv, i, &r);
		if (err != EAGAIN) {
			node_end(sv, i);
		} else if (rng_chance(&sv->rng, 2)) {
			/* with messages under way, or not */
			atomic_fetch_add(&closes, 1);
			node_end(sv, i);
		}
	}
	if (!serving)
		return;
	for (i = 0; i < HELD; i++) {
		struct held *h = &sv->held[i];
		bool all = h->q;

		for (p = 0; h->q && p < h->nr; p++) {
			struct part *part = &h->parts[p];

			if (part->state == WANTED)
				ask(sv, h, part);
			/* a command may be of one that has been closed */
			if (part->state == ASKED && sv->nodes[part->node].open &&
			    rng_chance(&sv->rng, sv->abort)) {
				err = ep_abort(&sv->nodes[part->node].n, part->xid);
				if (!err)
					atomic_fetch_add(&aborts, 1);
				else if (err != ENOENT)
					failed("ABORT", err_name(err));
			}
			all &= part->state >= PLACED;
		}
		if (all)
			reply_read(sv, h);
	}
}

static void serve_wait(struct server *sv)
{
	struct pollfd p[NODES + 3];
	unsigned int i, n = 0;

	p[n++] = (struct pollfd){ .fd = sv->s.c.fd, .events = POLLIN };
	p[n++] = (struct pollfd){ .fd = sv->u.u.ring_fd, .events = POLLIN };
	if (sv->s.ring)
		p[n++] = (struct pollfd){ .fd = sv->s.r.u.ring_fd, .events = POLLIN };
	for (i = 0; i < NODES; i++)
		if (sv->nodes[i].open)
			p[n++] = (struct pollfd){ .fd = sv->nodes[i].n.ep, .events = POLLIN };
	poll(p, n, 2);
}

static bool apps_done(struct server *sv)
{
	bool done = true;
	unsigned int i;

	for (i = 0; i < APPS; i++)
		done &= client_done(&sv->s.cl[i]);
	return done;
}

/* A mount, so many moments, and an end */
static void one_round(unsigned int moments, bool verbose)
{
	static const char *const end_names[] = { "unmount", "abort", "force", "close" };
	struct init_opts o = { .max_background = 16 };
	struct server *sv = calloc(1, sizeof(*sv));
	unsigned long before = all_instants(), reads = atomic_load(&told->reads);
	uint64_t until, start = now_ms();
	unsigned int i, end, more;
	struct rng r = rng_fork(seed, 0);
	bool gone = false;

	if (!sv)
		die("out of memory");
	alarm(2 * ROUND);
	sv->rng = rng_fork(seed, 1);
	if (rng_chance(&r, 500))
		o.flags |= FUSE_ASYNC_DIO;
	end = rng_below(&r, over_ring() ? 3 : 4);
	more = rng_below(&r, 20000);
	sv->abort = rng_chance(&r, 500) ? 0 : rng_below(&r, 100);
	/* one way, or both */
	sv->command = rng_chance(&r, 300) ? 1000 : 50 + rng_below(&r, 900);
	atomic_store(&told->stop, 0);
	atomic_store(&told->reads, reads);
	memset(slots, 0, sizeof(slots));
	stage_open(&sv->s, APPS, &o);
	sv->data = malloc(FILE_SIZE);
	if (!sv->data)
		die("out of memory");
	fill_pattern(sv->data, FILE_SIZE, 0);
	ring_open(&sv->u, 64, 0);
	for (i = 0; i < NODES; i++) {
		sv->nodes[i].trouble = 20 + rng_below(&r, 300);
		node_start(sv, i);
	}
	for (i = 0; i < APPS; i++) {
		struct job j = { .run = do_verify_reads, .a = i, .b = (long)seed };

		if (snprintf(j.path, sizeof(j.path), "%s/f%u", sv->s.c.mnt, i) >=
		    (int)sizeof(j.path))
			die("the name is too long");
		client_send(&sv->s.cl[i], &j);
	}
	until = now_ms() + ROUND * 1000;
	while (all_instants() - before < moments && !apps_done(sv)) {
		if (now_ms() > until)
			failed("a round", "does not get on");
		serve_step(sv, true);
		serve_wait(sv);
	}
	/* another chance moment for the end */
	{
		struct timespec t = { 0, more * 1000L };

		nanosleep(&t, NULL);
	}
	atomic_fetch_add(&ends[end], 1);
	atomic_store(&told->stop, 1);
	switch (end) {
	case 0:
		while (!apps_done(sv)) {
			if (now_ms() > until + ROUND * 1000)
				failed("applications", "do not end");
			serve_step(sv, true);
			serve_wait(sv);
		}
		break;
	case 1:
		conn_abort(&sv->s.c);
		gone = true;
		break;
	case 2:
		/* EBUSY: somebody is in there, it is aborted all the same */
		if (!conn_umount(&sv->s.c, MNT_FORCE))
			sv->s.c.mounted = false;
		gone = true;
		break;
	case 3:
		close(sv->s.c.fd);
		sv->s.c.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		gone = true;
		break;
	}
	for (i = 0; i < APPS; i++) {
		client_wait(&sv->s.cl[i], "an application");
		if (sv->s.cl[i].err == EBADMSG)
			failed("wrong data", sv->s.cl[i].done.text);
		if (sv->s.cl[i].err && !gone)
			failed("an application", err_name(sv->s.cl[i].err));
	}
	/* all reads are over; the nodes go on, and what they send must go nowhere */
	poison();
	start = now_ms() - start;
	until = now_ms() + 20;
	while (now_ms() < until)
		serve_step(sv, false);
	if (!poisoned(0, APP_SIZE))
		failed("memory", "written to after the reads were over");
	for (i = 0; i < NODES; i++)
		node_end(sv, i);
	ring_close(&sv->u);
	for (i = 0; i < HELD; i++)
		if (sv->held[i].q)
			put_req(sv->held[i].q);
	if (!poisoned(0, APP_SIZE))
		failed("memory", "written to after the end");
	if (verbose)
		say("seed %llu: %lu moments, %lu reads, %llu ms, ends by %s",
		    (unsigned long long)seed, all_instants() - before,
		    atomic_load(&told->reads) - reads, (unsigned long long)start, end_names[end]);
	free(sv->data);
	if (!gone) {
		stage_close(&sv->s);
	} else {
		unsigned int number = sv->s.c.number;

		for (i = 0; i < APPS; i++)
			client_stop(&sv->s.cl[i]);
		conn_close(&sv->s.c);
		if (sv->s.ring)
			ring_close(&sv->s.r);
		until = now_ms() + LIMIT * 1000;
		while (conn_listed(number)) {
			if (now_ms() > until)
				failed("the connection", "is still there");
			nap_ms(2);
		}
	}
	free(sv);
}

static void told_make(void)
{
	told = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		die("out of memory");
}

static int chance(int argc, char **argv)
{
	const struct chances o = chances_of(argc, argv, 20);
	unsigned int i;

	command = "random";
	told_make();
	for (seed = o.first; all_instants() < o.want; seed++)
		one_round(12, o.verbose);
	alarm(0);
	if (o.verbose) {
		for (i = CLOSE; i < TROUBLES; i++)
			say("%s: %lu", trouble_names[i], atomic_load(&instants[i]));
		say("aborts: %lu, endpoints closed: %lu, rings closed: %lu, reads: %lu, commands: %lu",
		    atomic_load(&aborts), atomic_load(&closes), atomic_load(&rings_closed),
		    atomic_load(&told->reads), atomic_load(&commands));
		say("unmounts: %lu, aborted: %lu, forced: %lu, device closed: %lu",
		    atomic_load(&ends[0]), atomic_load(&ends[1]), atomic_load(&ends[2]),
		    atomic_load(&ends[3]));
	}
	/* nothing at all may not look like success */
	if (atomic_load(&told->reads) < o.want / 10)
		die("hardly a read was done: %lu", atomic_load(&told->reads));
	if (!atomic_load(&commands))
		die("no message was sent by a ring");
	say("all reads ended, all data right, nothing written afterwards, nothing left");
	return 0;
}

/* ------------------------------------------------------------------ servers that die -- */

/* A message's name says what it is about: its number, and what is wanted from where */
static uint64_t name_of(uint64_t number, uint64_t offset, uint32_t len)
{
	return number << 40 | offset << 18 | (len - 1);
}

struct lone_node {
	struct node n;
	struct rng rng;
	atomic_bool stop;
};

static void *lone_node_main(void *arg)
{
	struct lone_node *ln = arg;
	struct server_node sn = { .n = ln->n, .rng = ln->rng };
	uint8_t *buf = malloc(1 << 19), hdr[ASK];
	size_t have = 0, total;
	uint64_t xid;
	ssize_t got;

	while (buf && !atomic_load(&ln->stop)) {
		struct pollfd pf = { .fd = ln->n.peer, .events = POLLIN };

		if (poll(&pf, 1, 5) != 1)
			continue;
		got = recv(ln->n.peer, hdr + have, ASK - have, MSG_DONTWAIT);
		if (!got || (got < 0 && errno != EAGAIN))
			break;
		if (got > 0)
			have += got;
		if (have < ASK)
			continue;
		have = 0;
		memcpy(&xid, hdr + 8, 8);
		total = node_head(&ln->n, buf, xid, STATUS_OK, (xid & 0x3ffff) + 1);
		fill_pattern(buf + total, (xid & 0x3ffff) + 1, xid >> 18 & 0x3fffff);
		send_some(&sn, buf, total + (xid & 0x3ffff) + 1);
	}
	free(buf);
	return NULL;
}

/* A message to its end */
static int sent_by_ring(struct ring *u, struct node *n, uint64_t xid, struct req *q)
{
	union desc d = zc(n, q, 0, read_in(q)->size);
	struct pcs_krpc_send m;
	uint8_t hdr[ASK];

	make_send(&m, hdr, xid, &d, 0, 1);
	cmd_send(u, n, &m, &m);
	ring_submit(u);
	return ring_wait_one(u, &m, LIMIT * 1000);
}

static int sent_by_ioctl(struct node *n, uint64_t xid, struct req *q)
{
	if (ep_send_zc(n, xid, q, 0, read_in(q)->size))
		die("the message is refused");
	return end_of(n, NULL);
}

/* Serves by its endpoint until it is killed */
static void serve_to_death(struct node *n, int tell, bool by_ring)
{
	struct pcs_krpczc_chunk ch = {};
	struct ring u;
	uint64_t number = 0, xid;
	struct stage s;
	struct req *q;

	new_director();
	/* the applications are the parent's */
	stage_open(&s, 0, NULL);
	n->devfd = s.c.fd;
	if (by_ring)
		ring_open(&u, 8, 0);
	if (ep_adopt(n->ep, n->sock, s.c.fd, &n->f, 0))
		die("ADOPT is refused");
	if (write(tell, &s.c.number, sizeof(s.c.number)) != sizeof(s.c.number))
		_exit(1);
	for (;;) {
		q = next_req(&s.c, "a request");
		if (q->h.opcode != FUSE_READ || !read_in(q)->size) {
			answer(q);
			continue;
		}
		xid = name_of(++number, read_in(q)->offset, read_in(q)->size);
		if ((by_ring ? sent_by_ring(&u, n, xid, q) : sent_by_ioctl(n, xid, q)) !=
		    (int)read_in(q)->size)
			die("the message did not end well");
		ch.len = read_in(q)->size;
		if (try_chunks(q, &ch, 1))
			die("the reply is refused");
		put_req(q);
	}
}

static void one_death(bool verbose)
{
	struct rng r = rng_fork(seed, 0);
	struct lone_node ln = { .rng = rng_fork(seed, 1) };
	unsigned long reads = atomic_load(&told->reads);
	bool keep = rng_chance(&r, 500), by_ring = rng_chance(&r, 500);
	struct client cl[APPS];
	unsigned int i, number;
	int s[2], fds[2], status;
	pthread_t thread;
	uint64_t until;
	pid_t pid;

	alarm(2 * ROUND);
	poison();
	atomic_store(&told->stop, 0);
	for (i = 0; i < APPS; i++)
		client_start(&cl[i], -1);
	tcp_pair(s);
	if (pipe(fds))
		die("pipe: %s", err_name(errno));
	ln.n = (struct node){ .ep = -1, .sock = s[0], .peer = s[1], .f = full_framing };
	/* an endpoint that another process has does not keep the connection */
	if (keep)
		ln.n.ep = ep_open();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		for (i = 0; i < APPS; i++)
			close(cl[i].sock);
		close(s[1]);
		if (!keep)
			ln.n.ep = ep_open();
		serve_to_death(&ln.n, fds[1], by_ring);
	}
	close(s[0]);
	close(fds[1]);
	ln.n.sock = -1;
	if (read(fds[0], &number, sizeof(number)) != sizeof(number))
		failed("the server", "is gone");
	close(fds[0]);
	if (pthread_create(&thread, NULL, lone_node_main, &ln))
		die("no thread");
	for (i = 0; i < APPS; i++) {
		struct job j = { .run = do_verify_reads, .a = i, .b = (long)seed };

		snprintf(j.path, sizeof(j.path), "%.200s/f%u", mount_point(), i);
		client_send(&cl[i], &j);
	}
	/* when the first reads are done, at any moment of another one */
	until = now_ms() + ROUND * 1000;
	while (atomic_load(&told->reads) - reads < APPS && now_ms() < until)
		nap_ms(1);
	if (atomic_load(&told->reads) - reads < APPS)
		failed("reads", "are not answered");
	{
		struct timespec t = { 0, rng_below(&r, 60000) * 1000L };

		nanosleep(&t, NULL);
	}
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		failed("the server", "ended before it was killed");
	for (i = 0; i < APPS; i++) {
		client_wait(&cl[i], "an application");
		if (cl[i].err == EBADMSG)
			failed("wrong data", cl[i].done.text);
		if (!cl[i].err)
			failed("an application", "got no error");
	}
	poison();
	nap_ms(20);
	if (!poisoned(0, APP_SIZE))
		failed("memory", "written to after the server's death");
	atomic_store(&ln.stop, true);
	/* it may be about to send */
	shutdown(s[1], SHUT_RDWR);
	pthread_join(thread, NULL);
	node_close(&ln.n);
	for (i = 0; i < APPS; i++)
		client_stop(&cl[i]);
	if (umount2(mount_point(), 0))
		failed("unmount", err_name(errno));
	until = now_ms() + LIMIT * 1000;
	while (conn_listed(number)) {
		if (now_ms() > until)
			failed("the connection", "is still there");
		nap_ms(2);
	}
	if (verbose)
		say("seed %llu: %lu reads%s%s", (unsigned long long)seed,
		    atomic_load(&told->reads) - reads, by_ring ? ", by a ring" : "",
		    keep ? ", endpoint kept" : "");
}

static int deaths(int argc, char **argv)
{
	const struct chances o = chances_of(argc, argv, 10);

	command = "deaths";
	told_make();
	app_make();
	signal(SIGPIPE, SIG_IGN);
	for (seed = o.first; seed < o.first + o.want; seed++)
		one_death(o.verbose);
	alarm(0);
	say("all reads ended, all data right, nothing written afterwards, nothing left");
	return 0;
}

const struct command chance_commands[] = {
	{ "random", chance, "nodes that go wrong at so many chance moments ([N] [--seed N] [--verbose])" },
	{ "deaths", deaths, "servers that are killed at so many chance moments ([N] [--seed N] [--verbose])" },
	{}
};
