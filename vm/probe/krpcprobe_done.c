// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: how the server gets to know that a message has ended, and ending it early. */
#include "krpcprobe.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

/* --------------------------------------------------------------------------- ioctl -- */

struct receiver {
	struct node *n;
	unsigned int got[400];
	atomic_uint total;
	int err;
};

static void *receive_all(void *arg)
{
	struct receiver *rc = arg;
	struct pcs_krpc_recv r;

	while (!ioctl(rc->n->ep, PCS_KRPC_IOC_RECV_MSG, &r)) {
		if (r.xid < 400)
			rc->got[r.xid]++;
		atomic_fetch_add(&rc->total, 1);
	}
	rc->err = errno;
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;
}

static int done_ioctl(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	struct receiver rc[2] = {};
	struct pcs_krpc_recv r;
	unsigned int i, once = 0;
	pthread_t thread[2];
	struct stage s;
	struct node n;
	uint8_t mem[100];
	union desc d = umem(mem, sizeof(mem));
	uint64_t end;
	int status;
	pid_t pid;

	(void)argc, (void)argv;
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	say("nothing sent: poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("RECV_MSG that does not block: %s", err_name(ep_recv(&n, &r)));
	ep_send(&n, 1, &d, 0, 1);
	say("sent: poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("RECV_MSG: %s", err_name(ep_recv(&n, &r)));
	node_take(&n);
	node_data(&n, 1, 0, 60);
	say("poll for an answer: %s", events_name(ep_poll(&n, POLLIN, LIMIT * 1000)));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("RECV_MSG to nowhere: %s",
	    err_name(ioctl(n.ep, PCS_KRPC_IOC_RECV_MSG, NULL) ? errno : 0));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	ep_wait(&n, &r);
	say("RECV_MSG: message %llu, %d bytes, status %llu, header of %u bytes",
	    (unsigned long long)r.xid, r.res, (unsigned long long)r.status, r.hdr_len);
	for (i = 24; i < sizeof(r.hdr) && !r.hdr[i]; i++)
		;
	say("nothing behind the header: %s", yes(i == sizeof(r.hdr)));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("once only: %s", err_name(ep_recv(&n, &r)));

	/* who blocks can be interrupted */
	sigaction(SIGUSR1, &sa, NULL);
	fflush(stdout);
	pid = fork();
	if (!pid) {
		i = ioctl(n.ep, PCS_KRPC_IOC_RECV_MSG, &r) ? errno : 0;
		_exit(i == EINTR ? 0 : 1);
	}
	end = now_ms() + LIMIT * 1000;
	while (!waitpid(pid, &status, WNOHANG) && now_ms() < end) {
		kill(pid, SIGUSR1);
		nap_ms(20);
	}
	say("a blocking RECV_MSG ends by a signal: %s", yes(WIFEXITED(status) && !status));

	/* two who block, and messages that end meanwhile */
	for (i = 0; i < 2; i++) {
		rc[i].n = &n;
		if (pthread_create(&thread[i], NULL, receive_all, &rc[i]))
			die("no thread");
	}
	for (i = 0; i < 400; i++) {
		if (ep_send(&n, i, &d, 0, 1))
			die("message %u is refused", i);
		node_take(&n);
		node_data(&n, i, 0, i % 100);
	}
	while (rc[0].total + rc[1].total < 400 && now_ms() < end)
		nap_ms(1);
	for (i = 0; i < 2; i++)
		ep_send(&n, 1000 + i, NULL, 0, 0);
	node_reset(&n);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	for (i = 0; i < 400; i++)
		once += rc[0].got[i] + rc[1].got[i] == 1;
	say("two threads were told of %u messages, of %u once", rc[0].total + rc[1].total, once);
	say("after the end of the connection: %s, %s", err_name(rc[0].err), err_name(rc[1].err));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	node_close(&n);

	/* what has ended before the connection is told before its end is */
	node_open(&n, &s.c, &full_framing, 0);
	ep_send(&n, 1, NULL, 0, 0);
	ep_send(&n, 2, NULL, 0, 0);
	node_take(&n);
	node_data(&n, 1, 0, 0);
	node_half_close(&n);
	end = now_ms() + LIMIT * 1000;
	while (ep_stats(&n).msgs_done < 2 && now_ms() < end)
		nap_ms(1);
	/* all is told before the end is */
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	end_say(&n, "one");
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	end_say(&n, "another");
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("RECV_MSG: %s, SEND_MSG: %s", err_name(ep_recv(&n, &r)),
	    err_name(ep_send(&n, 3, NULL, 0, 0)));
	say("ABORT: %s", err_name(ep_abort(&n, 1)));
	say("messages sent: %llu, ended: %llu", (unsigned long long)ep_stats(&n).msgs_sent,
	    (unsigned long long)ep_stats(&n).msgs_done);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------------ io_uring -- */

static void try_cmd(struct ring *r, const char *what, struct io_uring_sqe *sqe)
{
	sqe->user_data = 1;
	ring_submit(r);
	say("%s: %s", what, err_name(ring_wait_one(r, (void *)1, LIMIT * 1000)));
}

static int done_uring(int argc, char **argv)
{
	struct pcs_krpc_recv got[4], r;
	struct pcs_krpc_send m[4], bad;
	uint8_t hdr[4][ASK], mem[100], want[100];
	union desc d = umem(mem, sizeof(mem));
	struct io_uring_sqe *sqe;
	struct node n, none = {};
	struct stage s;
	struct ring u;
	unsigned int i, way;
	int fds[1], res;

	(void)argc, (void)argv;
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	ring_open(&u, 16, 0);
	fill_pattern(want, sizeof(want), 0);
	none.ep = ep_open();

	make_send(&m[0], hdr[0], 1, &d, 0, 1);
	try_cmd(&u, "before ADOPT", cmd_send(&u, &none, &m[0], NULL));
	try_cmd(&u, "from nowhere", cmd_send(&u, &n, NULL, NULL));
	sqe = cmd_send(&u, &n, &m[0], NULL);
	sqe->cmd_op = 11;
	try_cmd(&u, "another command", sqe);
	sqe = cmd_send(&u, &n, &m[0], NULL);
	sqe->cmd[8] = 1;
	try_cmd(&u, "with what is reserved", sqe);
	if (io_uring_register_buffers(&u.u, &(struct iovec){ mem, sizeof(mem) }, 1))
		die("cannot register a buffer");
	sqe = cmd_send(&u, &n, &m[0], NULL);
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	try_cmd(&u, "with a registered buffer", sqe);
	bad = m[0], bad.hdr.len = 0;
	try_cmd(&u, "a message that cannot be", cmd_send(&u, &n, &bad, NULL));
	bad = m[0], bad.nr_recv = 1000;
	try_cmd(&u, "another", cmd_send(&u, &n, &bad, NULL));
	say("messages sent: %llu", (unsigned long long)ep_stats(&n).msgs_sent);

	fds[0] = n.ep;
	if (io_uring_register_files(&u.u, fds, 1))
		die("cannot register a file");
	for (way = 0; way < 4; way++) {
		static const char *const ways[] = { "plain", "told how it ended", "by a worker",
						    "a registered file" };

		memset(mem, POISON, sizeof(mem));
		memset(&got[0], POISON, sizeof(got[0]));
		make_send(&m[0], hdr[0], 10 + way, &d, 0, 1);
		m[0].recv = way == 1 ? (uintptr_t)&got[0] : 0;
		sqe = cmd_send(&u, &n, &m[0], &m[0]);
		if (way == 2)
			sqe->flags |= IOSQE_ASYNC;
		if (way == 3)
			sqe->flags |= IOSQE_FIXED_FILE, sqe->fd = 0;
		ring_submit(&u);
		if (node_take(&n) != 10 + way)
			die("another message");
		if (ring_wait_one(&u, &m[0], 0) != 1)
			die("ended before the answer");
		node_data(&n, 10 + way, 0, 70);
		res = ring_wait_one(&u, &m[0], LIMIT * 1000);
		say("%s: %d bytes, right: %s, once: %s", ways[way], res,
		    yes(!memcmp(mem, want, 70) && mem[70] == POISON),
		    yes(ring_wait_one(&u, &m[0], QUIET_MS) == 1 && ep_recv(&n, &r) == EAGAIN));
		if (way == 1)
			say("told: message %llu, user data %s, %d bytes, header of %u bytes",
			    (unsigned long long)got[0].xid, yes(got[0].user_data == ~11ull),
			    got[0].res, got[0].hdr_len);
	}
	make_send(&m[0], hdr[0], 20, &d, 0, 1);
	m[0].recv = 1;
	cmd_send(&u, &n, &m[0], &m[0]);
	ring_submit(&u);
	node_data(&n, node_take(&n), 0, 70);
	say("told to nowhere: %s", err_name(ring_wait_one(&u, &m[0], LIMIT * 1000)));

	/* names, and ends */
	for (i = 0; i < 4; i++) {
		make_send(&m[i], hdr[i], 30 + (i == 3 ? 0 : i), NULL, 0, 0);
		m[i].recv = (uintptr_t)&got[i];
		memset(&got[i], 0, sizeof(got[i]));
		cmd_send(&u, &n, &m[i], &m[i]);
		ring_submit(&u);
	}
	say("a name for the second time: %s", err_name(ring_wait_one(&u, &m[3], LIMIT * 1000)));
	say("by the ioctl: %s", err_name(ep_send(&n, 30, NULL, 0, 0)));
	for (i = 0; i < 3; i++)
		node_take(&n);
	node_answer(&n, 31, 77, NULL, 0);
	res = ring_wait_one(&u, &m[1], LIMIT * 1000);
	say("status: %s, told: %s, status %llu", err_name(res), err_name(got[1].res),
	    (unsigned long long)got[1].status);
	say("abort: %s", err_name(ep_abort(&n, 32)));
	res = ring_wait_one(&u, &m[2], LIMIT * 1000);
	say("aborted: %s, told: %s, header of %u bytes", err_name(res), err_name(got[2].res),
	    got[2].hdr_len);
	node_reset(&n);
	res = ring_wait_one(&u, &m[0], LIMIT * 1000);
	say("connection reset: %s, told: %s", err_name(res), err_name(got[0].res));
	say("none of them by the ioctl: %s", err_name(ep_recv(&n, &r)));
	make_send(&m[0], hdr[0], 40, NULL, 0, 0);
	try_cmd(&u, "after that", cmd_send(&u, &n, &m[0], NULL));
	say("messages sent: %llu, ended: %llu", (unsigned long long)ep_stats(&n).msgs_sent,
	    (unsigned long long)ep_stats(&n).msgs_done);
	ring_close(&u);
	close(none.ep);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/*
 * The ring goes away, or the process with it, with messages under way: half of one has come in.
 * What comes then goes nowhere, and the read is as good as before.
 */
static void exit_round(struct stage *s, const char *what, bool process)
{
	enum { NR = 8, LEN = 4 * PAGE };
	struct pcs_krpc_send m[NR];
	uint8_t hdr[NR][ASK], head[PCS_KRPC_MAX_HEADER], *data = malloc(LEN);
	uint64_t end = now_ms() + LIMIT * 1000;
	struct pcs_krpc_recv r;
	union desc d[NR];
	struct node n;
	struct ring u;
	struct req *q;
	unsigned int i;
	int err, fds[2];
	pid_t pid = 0;
	char byte = 0;

	poison();
	node_open(&n, &s->c, &full_framing, 0);
	q = claimable(s, 0, NR * LEN);
	if (pipe(fds))
		die("pipe: %s", err_name(errno));
	fflush(stdout);
	if (process)
		pid = fork();
	if (!pid) {
		ring_open(&u, 16, 0);
		for (i = 0; i < NR; i++) {
			d[i] = zc(&n, q, i * LEN, LEN);
			make_send(&m[i], hdr[i], i, &d[i], 0, 1);
			cmd_send(&u, &n, &m[i], &m[i]);
		}
		ring_submit(&u);
		if (process) {
			if (write(fds[1], &byte, 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
	} else if (read(fds[0], &byte, 1) != 1) {
		die("the process is gone");
	}
	for (i = 0; i < NR; i++)
		node_take(&n);
	memset(data, 0xdd, LEN);
	node_write(&n, head, node_head(&n, head, 3, STATUS_OK, LEN));
	node_write(&n, data, LEN / 2);
	wait_bytes(&n, LEN / 2);
	if (process) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	} else {
		ring_close(&u);
	}
	while (ep_stats(&n).msgs_done < NR && now_ms() < end)
		nap_ms(1);
	say("%s: messages sent: %llu, ended: %llu", what, (unsigned long long)ep_stats(&n).msgs_sent,
	    (unsigned long long)ep_stats(&n).msgs_done);
	say("%s: told by the ioctl: %s", what, err_name(ep_recv(&n, &r)));
	/* nothing is written to any more: the read may be answered, and its memory used */
	err = try_reply(q, 0, data, 100);
	put_req(q);
	app_end(s, 0);
	say("%s: reply: %s, the application read %ld bytes", what, err_name(err),
	    s->cl[0].done.ret);
	poison();
	node_write(&n, data, LEN / 2);
	for (i = 0; i < NR; i++)
		if (i != 3)
			node_answer(&n, i, STATUS_OK, data, LEN);
	wait_bytes(&n, NR * LEN);
	say("%s: drained %llu bytes, memory untouched: %s", what,
	    (unsigned long long)ep_stats(&n).bytes_drained, yes(poisoned(0, APP_SIZE)));
	say("%s: the endpoint goes on: %s", what, err_name(ep_send(&n, 3, NULL, 0, 0)));
	node_data(&n, node_take(&n), 0, 0);
	end_say(&n, what);
	close(fds[0]);
	close(fds[1]);
	free(data);
	node_close(&n);
}

static int done_exit(int argc, char **argv)
{
	struct stage s;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	/* a short read is one then */
	s.c.open_flags = FOPEN_DIRECT_IO;
	exit_round(&s, "ring closed", false);
	exit_round(&s, "process killed", true);
	stage_close(&s);
	return 0;
}

/* --------------------------------------------------------------------------- abort -- */

enum { BIG = 8 << 20 };

/* Messages wait behind one that is larger than there is room for on the way */
static void begin_sending(struct node *n, struct stage *s, uint8_t *big, uint8_t *got)
{
	union desc d = umem(big, BIG), in = umem(got, 100);
	unsigned int i;

	fill_pattern(big, BIG, 0);
	node_open(n, &s->c, &full_framing, 0);
	say("a large message: %s", err_name(ep_send(n, 1, &d, 1, 0)));
	for (i = 2; i <= 4; i++)
		say("another: %s", err_name(ep_send(n, i, &in, 0, 1)));
	say("abort of one that waits to be sent: %s", err_name(ep_abort(n, 3)));
	end_say(n, "it");
	say("that name again: %s", err_name(ep_send(n, 3, &in, 0, 1)));
	say("abort of that: %s", err_name(ep_abort(n, 3)));
	end_say(n, "it");
}

/* The next completions by name: that of a message whose memory the socket has comes later */
static void ends_say(struct node *n, unsigned int nr)
{
	struct pcs_krpc_recv r[8] = {};
	uint64_t xid;
	unsigned int i;

	for (i = 0; i < nr; i++)
		ep_wait(n, &r[i]);
	for (xid = 1; xid < 8; xid++)
		for (i = 0; i < nr; i++)
			if (r[i].xid == xid)
				say("it or another: message %llu ended with %s",
				    (unsigned long long)xid, err_name(r[i].res));
}

static int abort_sending(int argc, char **argv)
{
	uint8_t *big = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *got = malloc(BIG), *want = malloc(BIG);
	struct stage s;
	struct node n;
	size_t have;
	ssize_t part;
	uint64_t xid;

	(void)argc, (void)argv;
	if (big == MAP_FAILED || !got || !want)
		die("out of memory");
	fill_pattern(want, BIG, 0);
	stage_plain(&s);

	begin_sending(&n, &s, big, got);
	xid = node_take(&n);
	part = recv(n.peer, got, BIG, MSG_WAITALL);
	say("the node gets message %llu, %zd bytes, right: %s", (unsigned long long)xid, part,
	    yes(!memcmp(got, want, BIG)));
	say("the next is %llu", (unsigned long long)node_take(&n));
	say("the next is %llu", (unsigned long long)node_take(&n));
	say("one more: %s", err_name(ep_send(&n, 5, NULL, 0, 0)));
	say("the next is %llu", (unsigned long long)node_take(&n));
	node_data(&n, 1, 0, 0);
	end_say(&n, "answer");
	node_data(&n, 4, 0, 50);
	end_say(&n, "answer");
	node_data(&n, 5, 0, 0);
	end_say(&n, "answer");
	node_data(&n, 2, 0, 100);
	end_say(&n, "answer");
	say("sent: %llu messages, %llu bytes", (unsigned long long)ep_stats(&n).msgs_sent,
	    (unsigned long long)ep_stats(&n).bytes_sent);
	node_close(&n);

	/* one that is half sent: nothing of its memory leaves when it has ended */
	begin_sending(&n, &s, big, got);
	say("abort of the large one: %s", err_name(ep_abort(&n, 1)));
	ends_say(&n, 3);
	memset(big, POISON, BIG);
	say("one more: %s", err_name(ep_send(&n, 5, NULL, 0, 0)));
	for (have = 0; have < BIG; have += part) {
		part = recv(n.peer, got + have, BIG - have, 0);
		if (part <= 0)
			break;
	}
	say("the node gets less than all: %s, what it gets is right: %s", yes(have < BIG),
	    yes(have < ASK || !memcmp(got + ASK, want, have - ASK)));
	node_close(&n);
	free(got);
	free(want);
	munmap(big, BIG);
	stage_close(&s);
	return 0;
}

/* Data that comes when nobody waits for it any more, for a read and for memory */
static void late_round(struct stage *s, struct node *n, struct node *other, bool direct, bool again)
{
	enum { LEN = 16 * PAGE };
	uint8_t head[PCS_KRPC_MAX_HEADER], *junk = malloc(LEN), *data = malloc(LEN);
	struct pcs_krpczc_chunk ch = { .len = LEN };
	struct pcs_krpc_stats before, after;
	const char *what = direct ? again ? "direct, by another node" : "direct" :
				    again ? "buffered, by another node" : "buffered";
	struct pcs_krpc_recv r;
	struct req *q;
	uint64_t xid = 100 + 2 * direct + again;
	int err;

	poison();
	memset(junk, 0xdd, LEN);
	fill_pattern(data, LEN, 0);
	app_read(s, 0, direct ? "f1" : again ? "f2" : "f3", 0, direct, "0:65536");
	q = next_read(s);
	if (read_in(q)->size != LEN)
		die("a read of %u bytes", read_in(q)->size);
	before = ep_stats(n);
	if (ep_send_zc(n, xid, q, 0, LEN))
		die("cannot claim");
	node_take(n);
	node_write(n, head, node_head(n, head, xid, STATUS_OK, LEN));
	node_write(n, junk, LEN / 2);
	wait_bytes(n, before.bytes_placed + before.bytes_drained + LEN / 2);
	err = ep_abort(n, xid);
	if (err || ep_recv(n, &r) || r.res != -ECANCELED || ep_recv(n, &r) != EAGAIN)
		say("%s: abort: %s, then %s", what, err_name(err), err_name(r.res));
	if (again) {
		/* good data from elsewhere, and the rest of the old among it */
		err = ep_send_zc(other, xid, q, 0, LEN);
		if (err)
			die("claimed anew: %s", err_name(err));
		node_take(other);
		node_write(other, head, node_head(other, head, xid, STATUS_OK, LEN));
		node_write(other, data, LEN / 2 + PAGE);
		node_write(n, junk, LEN / 4);
		node_write(other, data + LEN / 2 + PAGE, LEN / 2 - PAGE);
		node_write(n, junk, LEN / 4);
		if (end_of(other, NULL) != LEN)
			say("%s: not all of it came", what);
		err = try_chunks(q, &ch, 1);
		if (err)
			say("%s: reply: %s", what, err_name(err));
		put_req(q);
		app_end(s, 0);
		if (s->cl[0].err || !right(0, LEN, 0))
			say("%s: wrong data", what);
		wait_bytes(n, before.bytes_placed + before.bytes_drained + LEN);
	} else {
		end_read(q);
		app_end(s, 0);
		if (s->cl[0].err || !right(0, LEN, 0))
			say("%s: wrong data", what);
		/* over: the memory is used for something else */
		if (direct)
			poison();
		node_write(n, junk, LEN / 2);
		wait_bytes(n, before.bytes_placed + before.bytes_drained + LEN);
		if (!direct) {
			/* what is in the page cache now */
			poison();
			app_read(s, 0, "f3", 0, false, "0:65536");
			app_end(s, 0);
		}
	}
	after = ep_stats(n);
	say("%s: placed %llu, drained %llu, %s", what,
	    (unsigned long long)(after.bytes_placed - before.bytes_placed),
	    (unsigned long long)(after.bytes_drained - before.bytes_drained),
	    again || !direct ? right(0, LEN, 0) ? "data right" : "data wrong" :
	    poisoned(0, APP_SIZE) ? "memory untouched" : "memory written to");
	if (ep_recv(n, &r) != EAGAIN)
		say("%s: a second completion: %s", what, err_name(r.res));
	free(junk);
	free(data);
}

static int abort_late(int argc, char **argv)
{
	enum { LEN = 8 * PAGE };
	uint8_t head[PCS_KRPC_MAX_HEADER], *junk = malloc(LEN), *mem = malloc(LEN);
	union desc d = umem(mem, LEN);
	struct node n, other;
	struct stage s;
	unsigned int i, bad = 0;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	s.c.open_flags = FOPEN_KEEP_CACHE;
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&other, &s.c, &full_framing, 0);
	late_round(&s, &n, &other, true, false);
	late_round(&s, &n, &other, false, false);
	late_round(&s, &n, &other, true, true);
	late_round(&s, &n, &other, false, true);
	/* the server's own memory */
	memset(junk, 0xdd, LEN);
	memset(mem, POISON, LEN);
	if (ep_send(&n, 1, &d, 0, 1))
		die("refused");
	node_take(&n);
	node_write(&n, head, node_head(&n, head, 1, STATUS_OK, LEN));
	node_write(&n, junk, 1000);
	wait_bytes(&n, ep_stats(&n).bytes_placed + ep_stats(&n).bytes_drained + 1000);
	say("memory: abort: %s", err_name(ep_abort(&n, 1)));
	say("memory: abort again: %s", err_name(ep_abort(&n, 1)));
	end_say(&n, "memory");
	memset(mem, POISON, LEN);
	i = ep_stats(&n).bytes_drained;
	node_write(&n, junk, LEN - 1000);
	wait_bytes(&n, ep_stats(&n).bytes_placed + ep_stats(&n).bytes_copied + i + LEN - 1000);
	for (i = 0; i < LEN; i++)
		bad += mem[i] != POISON;
	say("memory: bytes written to after that: %u", bad);
	free(junk);
	free(mem);
	node_close(&n);
	node_close(&other);
	stage_close(&s);
	return 0;
}

/* ---------------------------------------------------------------- abort, at any time -- */

enum { RACE_LEN = 32 * PAGE, LEARN = 16 };

struct racer {
	struct node *n;
	atomic_ulong turn, done;
	bool stop;
	uint8_t *data;
};

static void *answer_turns(void *arg)
{
	struct racer *rc = arg;
	unsigned long turn = 0;

	for (;;) {
		while (atomic_load(&rc->turn) == turn)
			if (rc->stop)
				return NULL;
		turn = atomic_load(&rc->turn);
		node_answer(rc->n, turn, STATUS_OK, rc->data, RACE_LEN);
		atomic_store(&rc->done, turn);
	}
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}

static int abort_race(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 300, turn;
	unsigned int aborted = 0, ended = 0, wrong = 0, state = 1;
	uint64_t whole = 0;
	uint8_t *mem = malloc(RACE_LEN), *copy = malloc(RACE_LEN);
	struct racer rc = { .data = malloc(RACE_LEN) };
	union desc d = umem(mem, RACE_LEN);
	struct pcs_krpc_recv r;
	pthread_t thread;
	struct stage s;
	struct node n;

	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	rc.n = &n;
	fill_pattern(rc.data, RACE_LEN, 0);
	if (pthread_create(&thread, NULL, answer_turns, &rc))
		die("no thread");
	for (turn = 1; turn <= rounds; turn++) {
		uint64_t begun;
		int err;

		memset(mem, POISON, RACE_LEN);
		if (ep_send(&n, turn, &d, 0, 1))
			die("message %lu is refused", turn);
		node_take(&n);
		begun = now_us();
		atomic_store(&rc.turn, turn);
		if (turn <= LEARN) {
			/* how long does an answer take? */
			ep_wait(&n, &r);
			whole += (now_us() - begun) * 5 / 4 / LEARN;
			while (atomic_load(&rc.done) != turn)
				;
			continue;
		}
		state = state * 1103515245 + 12345;
		while (now_us() - begun < state / 65536 % 1024 * whole / 1024)
			;
		err = ep_abort(&n, turn);
		/* from here on nobody writes there */
		memcpy(copy, mem, RACE_LEN);
		ep_wait(&n, &r);
		if (r.xid != turn || (err != 0) != (r.res != -ECANCELED) ||
		    (err && (err != ENOENT || r.res != RACE_LEN ||
			     memcmp(mem, rc.data, RACE_LEN)))) {
			say("abort: %s, message %llu ended with %d", err_name(err),
			    (unsigned long long)r.xid, r.res);
			wrong++;
		}
		aborted += !err;
		ended += !!err;
		while (atomic_load(&rc.done) != turn)
			;
		wait_bytes(&n, turn * RACE_LEN);
		if (!err && memcmp(mem, copy, RACE_LEN)) {
			say("message %lu: written to after the abort", turn);
			wrong++;
		}
		if (ep_recv(&n, &r) != EAGAIN) {
			say("message %lu: two completions", turn);
			wrong++;
		}
	}
	rc.stop = true;
	pthread_join(thread, NULL);
	if (rounds >= 300 && (!aborted || !ended))
		say("no race: %u aborted, %u ended", aborted, ended);
	say("%lu messages aborted while they are answered, wrong: %u", rounds, wrong);
	node_close(&n);
	stage_close(&s);
	return 0;
}

const struct command done_commands[] = {
	{ "done-ioctl", done_ioctl, "RECV_MSG and poll()" },
	{ "done-uring", done_uring, "commands of io_uring" },
	{ "done-exit", done_exit, "a ring that goes away" },
	{ "abort-sending", abort_sending, "ABORT of what is not sent yet" },
	{ "abort-late", abort_late, "data that comes after ABORT" },
	{ "abort-race", abort_race, "ABORT while the answer comes in ([ROUNDS])" },
	{}
};
