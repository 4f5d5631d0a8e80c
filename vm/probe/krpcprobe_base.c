// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: the mount, applications, endpoints and the node that they are connected with. */
#include "krpcprobe.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

uint8_t *app;

const struct pcs_krpc_framing full_framing = {
	.flags = PCS_KRPC_BIG_ENDIAN | PCS_KRPC_STATUS_OF_MSG,
	.hdr_len = 24,
	.magic_value = MAGIC,
	.status_ok = STATUS_OK,
	.magic = { 0, 4 },
	.status = { 4, 4 },
	.cookie = { 8, 8 },
	.length = { 16, 4 },
};

const struct pcs_krpc_framing short_framing = {
	.flags = PCS_KRPC_BIG_ENDIAN,
	.hdr_len = 16,
	.magic_value = MAGIC,
	.status_ok = STATUS_OK,
	.magic = { 0, 4 },
	.status = { 4, 4 },
	.cookie = { 8, 8 },
};

/* ------------------------------------------------------- mount and applications -- */

bool over_ring(void)
{
	const char *section = getenv("SECTION");

	return section && !strcmp(section, "uring");
}

void poison(void)
{
	memset(app, POISON, APP_SIZE);
}

bool poisoned(size_t at, size_t len)
{
	return !len || (app[at] == POISON && !memcmp(app + at, app + at + 1, len - 1));
}

bool right(size_t at, size_t len, uint64_t offset)
{
	uint8_t *want = malloc(len);
	bool same;

	if (!want)
		die("out of memory");
	fill_pattern(want, len, offset);
	same = !memcmp(app + at, want, len);
	free(want);
	return same;
}

void app_make(void)
{
	if (!app)
		app = mmap(NULL, APP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			   0);
	if (app == MAP_FAILED)
		die("out of memory");
}

void stage_open(struct stage *s, unsigned int clients, const struct init_opts *o)
{
	struct init_opts opts = o ? *o : (struct init_opts){};
	unsigned int i;

	memset(s, 0, sizeof(*s));
	app_make();
	poison();
	s->ring = over_ring();
	s->ncl = clients;
	for (i = 0; i < clients; i++)
		client_start(&s->cl[i], -1);
	opts.no_ring = !s->ring;
	/* as is, this would be 12 requests at a time in the background */
	if (!opts.max_background)
		opts.max_background = 64;
	if (s->ring) {
		serve_setup(&s->c, &s->r, &opts, 8);
	} else {
		conn_mount(&s->c);
		conn_init(&s->c, &opts);
	}
}

void stage_close(struct stage *s)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	unsigned int i, number = s->c.number;

	wait_idle(&s->c);
	for (i = 0; i < s->ncl; i++)
		client_stop(&s->cl[i]);
	if (!s->mixed && !s->c.dev_ordinary == !s->ring)
		die("requests came the wrong way");
	conn_close(&s->c);
	if (s->ring)
		ring_close(&s->r);
	while (conn_listed(number)) {
		if (now_ms() > end)
			die("the connection is still there");
		nap_ms(2);
	}
}

/* a: offset, b: direct, text: parts of app */
static int do_app_read(struct job *j)
{
	struct iovec v[64];
	int fd, n = 0, err;
	size_t at, len;
	char *s = j->text;

	for (; *s && n < 64; n++) {
		at = strtoul(s, &s, 0);
		len = strtoul(s + 1, &s, 0);
		v[n] = (struct iovec){ app + at, len };
		if (*s)
			s++;
	}
	fd = open(j->path, O_RDONLY | (j->b ? O_DIRECT : 0));
	if (fd < 0)
		return errno;
	/* one request is enough where it's about one */
	if (!j->b)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	j->ret = preadv(fd, v, n, j->a);
	err = j->ret < 0 ? errno : 0;
	close(fd);
	return err;
}

void app_read(struct stage *s, unsigned int i, const char *name, uint64_t offset, bool direct,
	      const char *parts)
{
	struct job j = { .run = do_app_read, .a = offset, .b = direct };

	if (snprintf(j.path, sizeof(j.path), "%s/%s", s->c.mnt, name) >= (int)sizeof(j.path) ||
	    snprintf(j.text, sizeof(j.text), "%s", parts) >= (int)sizeof(j.text))
		die("the name or the parts are too long");
	client_send(&s->cl[i], &j);
}

void app_end(struct stage *s, unsigned int i)
{
	client_serve(&s->cl[i], &s->c, "an application");
}

void stage_plain(struct stage *s)
{
	stage_open(s, 1, NULL);
	client_do(&s->cl[0], do_stat, s->c.mnt, "f1", 0, 0);
	app_end(s, 0);
}

void app_say(struct stage *s, unsigned int i, const char *what)
{
	app_end(s, i);
	if (s->cl[i].err)
		say("%s: the application got %s", what, err_name(s->cl[i].err));
	else
		say("%s: the application read %ld bytes", what, s->cl[i].done.ret);
}

struct req *next_read(struct stage *s)
{
	struct req *q;

	for (;;) {
		q = next_req(&s->c, "READ");
		if (q->h.opcode == FUSE_READ)
			return q;
		answer(q);
	}
}

const struct fuse_read_in *read_in(const struct req *q)
{
	return q->op;
}

struct req *claimable(struct stage *s, unsigned int i, size_t len)
{
	char parts[32];

	snprintf(parts, sizeof(parts), "0:%zu", len);
	app_read(s, i, "f1", 0, true, parts);
	return next_read(s);
}

int try_reply(struct req *q, int32_t error, const void *data, size_t len)
{
	struct fuse_out_header h = { .len = sizeof(h) + len, .error = error,
				     .unique = q->h.unique };
	struct ent *e = q->e;

	if (!e) {
		struct iovec v[2] = { { &h, sizeof(h) }, { (void *)data, len } };

		return writev(q->c->fd, v, len ? 2 : 1) < 0 ? errno : 0;
	}
	if (len > e->pay_len)
		die("reply of %zu bytes does not fit its entry", len);
	if (len && data != e->pay)
		memcpy(e->pay, data, len);
	memcpy(e->h->in_out, &h, sizeof(h));
	e->h->part.payload_size = len;
	ent_commit(e, e->qid, e->h->part.commit_id);
	ring_submit(e->r);
	/* what fails does so at once */
	pump(q->c, 0);
	if (e->state != ENT_DEAD)
		return 0;
	/* the entry has its request still */
	e->state = ENT_BUSY;
	q->c->ended--;
	return -e->res;
}

int reply_soon(struct req *q, int32_t error, const void *data, size_t len)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	int err;

	while ((err = try_reply(q, error, data, len)) == EBUSY && now_ms() < end)
		nap_ms(1);
	return err;
}

int try_chunks(struct req *q, const struct pcs_krpczc_chunk *ch, unsigned int n)
{
	return try_reply(q, FUSE_OUT_KRPCZC, ch, n * sizeof(*ch));
}

void end_read(struct req *q)
{
	static uint8_t data[1 << 20];
	const struct fuse_read_in *rd = q->op;

	fill_pattern(data, rd->size, rd->offset);
	reply(q, 0, data, rd->size);
}

void fail_read(struct req *q)
{
	reply(q, EIO, NULL, 0);
}

/* ---------------------------------------------------------------------- endpoint -- */

void tcp_pair(int s[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct timeval limit = { .tv_sec = LIMIT };
	socklen_t len = sizeof(a);
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	s[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || s[0] < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&a, &len) ||
	    connect(s[0], (struct sockaddr *)&a, sizeof(a)))
		die("loopback: %s", err_name(errno));
	s[1] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
	if (s[1] < 0)
		die("accept: %s", err_name(errno));
	close(l);
	setsockopt(s[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(s[1], SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

int ep_open(void)
{
	int fd = open(KRPC_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", KRPC_DEVICE, err_name(errno));
	return fd;
}

int ep_adopt(int ep, int sock, int devfd, const struct pcs_krpc_framing *f, uint32_t timeout_ms)
{
	struct pcs_krpc_adopt a = { .sockfd = sock, .devfd = devfd, .timeout_ms = timeout_ms,
				    .framing = *f };

	return ioctl(ep, PCS_KRPC_IOC_ADOPT, &a) ? errno : 0;
}

void node_open(struct node *n, struct conn *c, const struct pcs_krpc_framing *f,
	       uint32_t timeout_ms)
{
	int s[2], err;

	tcp_pair(s);
	*n = (struct node){ .ep = ep_open(), .sock = s[0], .peer = s[1], .devfd = c->fd, .f = *f };
	err = ep_adopt(n->ep, n->sock, c->fd, f, timeout_ms);
	if (err)
		die("ADOPT: %s", err_name(err));
}

void node_close(struct node *n)
{
	if (n->ep >= 0)
		close(n->ep);
	if (n->sock >= 0)
		close(n->sock);
	if (n->peer >= 0)
		close(n->peer);
	n->ep = n->sock = n->peer = -1;
}

union desc zc(const struct node *n, const struct req *q, uint32_t offset, uint32_t len)
{
	return (union desc){ .zc = { .type = PCS_KRPC_BUF_TYPE_ZC, .len = len,
				     .unique = q->h.unique, .devfd = n->devfd,
				     .offset = offset } };
}

union desc umem(void *p, uint32_t len)
{
	return (union desc){ .mem = { .type = PCS_KRPC_BUF_TYPE_UMEM, .len = len,
				      .addr = (uintptr_t)p } };
}

union desc mr(uint32_t id, const void *p, uint32_t len)
{
	return (union desc){ .mem = { .type = PCS_KRPC_BUF_TYPE_MR, .len = len,
				      .addr = (uintptr_t)p, .mr_id = id } };
}

/* hdr: ASK bytes, to stay until the message is sent */
void make_send(struct pcs_krpc_send *m, void *hdr, uint64_t xid, const union desc *d,
	       unsigned int nr_send, unsigned int nr_recv)
{
	unsigned int i;
	uint32_t len = 0;

	for (i = 0; i < nr_send; i++)
		len += d[i].mem.len;
	memset(hdr, 'q', 4);
	memcpy((uint8_t *)hdr + 4, &len, 4);
	memcpy((uint8_t *)hdr + 8, &xid, 8);
	*m = (struct pcs_krpc_send){ .xid = xid, .user_data = ~xid, .hdr = umem(hdr, ASK).mem,
				     .chunks = (uintptr_t)d, .nr_send = nr_send,
				     .nr_recv = nr_recv };
}

int ep_send(struct node *n, uint64_t xid, const union desc *d, unsigned int nr_send,
	    unsigned int nr_recv)
{
	struct pcs_krpc_send m;
	uint8_t hdr[ASK];

	make_send(&m, hdr, xid, d, nr_send, nr_recv);
	return ioctl(n->ep, PCS_KRPC_IOC_SEND_MSG, &m) ? errno : 0;
}

int ep_send_zc(struct node *n, uint64_t xid, struct req *q, uint32_t offset, uint32_t len)
{
	union desc d = zc(n, q, offset, len);

	return ep_send(n, xid, &d, 0, 1);
}

struct io_uring_sqe *cmd_send(struct ring *r, struct node *n, struct pcs_krpc_send *m,
				     void *user)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&r->u);
	uint64_t address = (uintptr_t)m;

	if (!sqe)
		die("submission queue is full");
	memset(sqe, 0, 64);
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = n->ep;
	sqe->cmd_op = PCS_KRPC_CMD_SEND_MSG;
	sqe->user_data = (uintptr_t)user;
	memcpy(sqe->cmd, &address, 8);
	return sqe;
}

static bool ready(int fd, int events, int ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, ms) == 1;
}

int ep_recv(struct node *n, struct pcs_krpc_recv *r)
{
	int flags = fcntl(n->ep, F_GETFL), err;

	fcntl(n->ep, F_SETFL, flags | O_NONBLOCK);
	err = ioctl(n->ep, PCS_KRPC_IOC_RECV_MSG, r) ? errno : 0;
	fcntl(n->ep, F_SETFL, flags);
	return err;
}

/* poll() may tell of the endpoint's end before its messages have ended */
static int soon(struct node *n, struct pcs_krpc_recv *r)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	int err;

	while ((err = ep_recv(n, r)) == EAGAIN) {
		if (now_ms() > end)
			die("waited %d s in vain for a message to end", LIMIT);
		if (ep_poll(n, POLLIN, 100) & POLLHUP)
			nap_ms(1);
	}
	return err;
}

void ep_wait(struct node *n, struct pcs_krpc_recv *r)
{
	int err = soon(n, r);

	if (err)
		die("RECV_MSG: %s", err_name(err));
	if (r->user_data != ~r->xid)
		die("user_data is not the message's");
}

int ep_abort(struct node *n, uint64_t xid)
{
	return ioctl(n->ep, PCS_KRPC_IOC_ABORT, &xid) ? errno : 0;
}

int ep_reg(struct node *n, void *p, size_t len, uint32_t *id)
{
	struct pcs_krpc_mr m = { .addr = (uintptr_t)p, .len = len };

	if (ioctl(n->ep, PCS_KRPC_IOC_REG_MR, &m))
		return errno;
	*id = m.mr_id;
	return 0;
}

int ep_unreg(struct node *n, uint32_t id)
{
	return ioctl(n->ep, PCS_KRPC_IOC_UNREG_MR, &id) ? errno : 0;
}

struct pcs_krpc_stats ep_stats(struct node *n)
{
	struct pcs_krpc_stats st;

	if (ioctl(n->ep, PCS_KRPC_IOC_STATS, &st))
		die("STATS: %s", err_name(errno));
	return st;
}

void wait_bytes(struct node *n, uint64_t bytes)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	struct pcs_krpc_stats st;

	for (;;) {
		st = ep_stats(n);
		if (st.bytes_placed + st.bytes_copied + st.bytes_drained >= bytes)
			return;
		if (now_ms() > end)
			die("waited %d s in vain for %llu bytes to come in", LIMIT,
			    (unsigned long long)bytes);
		nap_ms(1);
	}
}

int ep_poll(struct node *n, int events, int ms)
{
	struct pollfd p = { .fd = n->ep, .events = events };

	return poll(&p, 1, ms) == 1 ? p.revents : 0;
}

const char *events_name(int events)
{
	static char text[64];

	snprintf(text, sizeof(text), "%s%s%s%s%s", events & POLLIN ? " IN" : "",
		 events & POLLOUT ? " OUT" : "", events & POLLERR ? " ERR" : "",
		 events & POLLHUP ? " HUP" : "", events ? "" : " nothing");
	return text + 1;
}

void end_say(struct node *n, const char *what)
{
	struct pcs_krpc_recv r;

	ep_wait(n, &r);
	if (r.res < 0)
		say("%s: message %llu ended with %s", what, (unsigned long long)r.xid,
		    err_name(r.res));
	else
		say("%s: message %llu ended with %d bytes", what, (unsigned long long)r.xid,
		    r.res);
}

int end_of(struct node *n, uint64_t *xid)
{
	struct pcs_krpc_recv r;

	if (soon(n, &r))
		return 1;
	if (xid)
		*xid = r.xid;
	return r.res;
}

/* -------------------------------------------------------------------------- node -- */

static void take(struct node *n, void *p, size_t len)
{
	ssize_t got = recv(n->peer, p, len, MSG_WAITALL);

	if (got != (ssize_t)len)
		die("the node got %zd bytes of %zu", got, len);
}

uint64_t node_take(struct node *n)
{
	uint8_t hdr[ASK];
	uint64_t xid;

	take(n, hdr, sizeof(hdr));
	if (memcmp(hdr, "qqqq", 4))
		die("what the node got is no message");
	memcpy(&xid, hdr + 8, 8);
	return xid;
}

void node_skip(struct node *n, size_t len)
{
	uint8_t buf[4096];

	while (len) {
		size_t part = len < sizeof(buf) ? len : sizeof(buf);

		take(n, buf, part);
		len -= part;
	}
}

static void put_field(const struct node *n, uint8_t *hdr, const struct pcs_krpc_field *f,
		      uint64_t value)
{
	unsigned int i;

	for (i = 0; i < f->size; i++)
		hdr[f->offset + (n->f.flags & PCS_KRPC_BIG_ENDIAN ? f->size - 1 - i : i)] =
			value >> 8 * i;
}

size_t node_head(struct node *n, uint8_t *to, uint64_t xid, uint64_t status, uint64_t len)
{
	memset(to, 0xee, n->f.hdr_len);
	put_field(n, to, &n->f.magic, n->f.magic_value);
	put_field(n, to, &n->f.status, status);
	put_field(n, to, &n->f.cookie, xid);
	put_field(n, to, &n->f.length,
		  len + (n->f.flags & PCS_KRPC_LENGTH_HAS_HEADER ? n->f.hdr_len : 0));
	return n->f.hdr_len;
}

void node_write(struct node *n, const void *p, size_t len)
{
	const uint8_t *s = p;

	while (len) {
		ssize_t done = send(n->peer, s, len, MSG_NOSIGNAL);

		if (done < 0) {
			/* the endpoint has ended: what the case is about will tell */
			if (errno == EPIPE || errno == ECONNRESET)
				return;
			die("the node cannot send: %s", err_name(errno));
		}
		s += done;
		len -= done;
	}
}

void node_answer(struct node *n, uint64_t xid, uint64_t status, const void *data, size_t len)
{
	uint8_t hdr[PCS_KRPC_MAX_HEADER], pad[PCS_KRPC_MSG_ALIGNMENT] = {};

	node_write(n, hdr, node_head(n, hdr, xid, status, len));
	node_write(n, data, len);
	if (n->f.flags & PCS_KRPC_PADDED)
		node_write(n, pad, -(n->f.hdr_len + len) & (PCS_KRPC_MSG_ALIGNMENT - 1));
}

void node_data(struct node *n, uint64_t xid, uint64_t offset, size_t len)
{
	uint8_t *data = malloc(len);

	if (!data)
		die("out of memory");
	fill_pattern(data, len, offset);
	node_answer(n, xid, n->f.status_ok, data, len);
	free(data);
}

void node_reset(struct node *n)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(n->peer, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(n->peer);
	n->peer = -1;
}

void node_half_close(struct node *n)
{
	shutdown(n->peer, SHUT_WR);
}

bool node_sees_end(struct node *n)
{
	uint8_t byte;

	return ready(n->peer, POLLIN, LIMIT * 1000) && recv(n->peer, &byte, 1, 0) <= 0;
}

struct chances chances_of(int argc, char **argv, unsigned long want)
{
	struct chances o = { .want = argc > 1 ? strtoul(argv[1], NULL, 0) : want, .first = 1 };
	int i;

	for (i = 2; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose"))
			o.verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			o.first = strtoull(argv[++i], NULL, 0);
		else
			die("%s: not an option", argv[i]);
	}
	return o;
}
