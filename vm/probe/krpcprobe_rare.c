// SPDX-License-Identifier: GPL-2.0-only
/*
 * krpcprobe: what long connections, many endpoints, impatient servers and sockets in use
 * elsewhere meet, and most others don't.
 */
#include "krpcprobe.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* --------------------------------------------------------------- long-lived messages -- */

/* The node reads so many bytes, but does not look at them */
static void node_ignore(struct node *n, size_t len)
{
	while (len) {
		/* nothing is copied */
		ssize_t got = recv(n->peer, NULL, len, MSG_TRUNC);

		if (got <= 0)
			die("the node got %zd bytes of %zu", got, len);
		len -= got;
	}
}

/*
 * Sequence numbers of TCP are of 32 bits, and the later of two is told by which is less than
 * 2^31 behind: one message waits while more than that goes to the node.
 */
static int answer_late(int argc, char **argv)
{
	enum { LEN = PCS_KRPC_MAX_PAYLOAD };
	uint64_t xid = 2, want = (1ull << 31) + (64 << 20), done = 0;
	uint8_t *mem = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t small[100];
	union desc d = umem(small, sizeof(small));
	struct stage s;
	struct node n;
	uint32_t id;
	int res = 0;

	(void)argc, (void)argv;
	if (mem == MAP_FAILED)
		die("out of memory");
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	if (ep_reg(&n, mem, LEN, &id))
		die("cannot register memory");
	say("a message: %s", err_name(ep_send(&n, 1, &d, 0, 1)));
	node_take(&n);
	d = mr(id, mem, LEN);
	for (; done < want && res >= 0; done += LEN, xid++) {
		if (ep_send(&n, xid, &d, 1, 0))
			die("message %llu is refused", (unsigned long long)xid);
		node_take(&n);
		node_ignore(&n, LEN);
		node_answer(&n, xid, STATUS_OK, NULL, 0);
		res = end_of(&n, NULL);
	}
	say("after it %llu MiB: %s", (unsigned long long)done >> 20, err_name(res));
	node_data(&n, 1, 0, 50);
	end_say(&n, "answer to the first one");
	/* and one that is not sent all the same */
	say("more than there is room for: %s", err_name(ep_send(&n, xid, &d, 1, 0)));
	node_answer(&n, xid, STATUS_OK, NULL, 0);
	end_say(&n, "answer to what the node has not read");
	node_close(&n);
	munmap(mem, LEN);
	stage_close(&s);
	return 0;
}

/* ----------------------------------------------------------------------- urgent data -- */

static int node_urgent(int argc, char **argv)
{
	uint8_t mem[100];
	union desc d = umem(mem, sizeof(mem));
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	say("a message: %s", err_name(ep_send(&n, 1, &d, 0, 1)));
	say("another: %s", err_name(ep_send(&n, 2, &d, 0, 1)));
	node_take(&n);
	node_take(&n);
	node_data(&n, 1, 0, 50);
	end_say(&n, "answer");
	/* nobody has locked the socket now, so that's seen where it comes in */
	if (send(n.peer, "!", 1, MSG_OOB) != 1)
		die("no urgent data: %s", err_name(errno));
	node_data(&n, 2, 0, 50);
	end_say(&n, "after urgent data");
	say("another message: %s", err_name(ep_send(&n, 3, &d, 0, 1)));
	say("the node sees the end: %s", yes(node_sees_end(&n)));
	node_close(&n);

	say("before ADOPT:");
	{
		int p[2];

		tcp_pair(p);
		n = (struct node){ .ep = ep_open(), .sock = p[0], .peer = p[1], .f = full_framing };
		if (send(n.peer, "!", 1, MSG_OOB) != 1)
			die("no urgent data: %s", err_name(errno));
		say("ADOPT: %s", err_name(ep_adopt(n.ep, n.sock, s.c.fd, &full_framing, 0)));
		say("poll: %s", events_name(ep_poll(&n, POLLIN, LIMIT * 1000)));
		say("a message: %s", err_name(ep_send(&n, 1, &d, 0, 1)));
	}
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* -------------------------------------------------------------------- many endpoints -- */

/* Threads that the kernel keeps for workqueues which must go on when memory is short */
static int rescuers(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *e;
	int nr = 0;

	if (!dir)
		die("/proc: %s", err_name(errno));
	while ((e = readdir(dir))) {
		char path[300], name[64] = "";
		FILE *f;

		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f))
			nr += !strncmp(name, "kworker/R-", 10);
		fclose(f);
	}
	closedir(dir);
	return nr;
}

/* Endpoints that are adopted, one after the other; -1 or how many came before @error */
static int adopt_many(struct stage *s, int *eps, int *peers, int max, int *error)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int i, sock, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 16) ||
	    getsockname(l, (struct sockaddr *)&a, &len))
		die("loopback: %s", err_name(errno));
	for (i = 0; i < max; i++) {
		sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (sock < 0 || connect(sock, (struct sockaddr *)&a, sizeof(a)))
			die("connection %d: %s", i, err_name(errno));
		peers[i] = accept4(l, NULL, NULL, SOCK_CLOEXEC);
		eps[i] = ep_open();
		*error = ep_adopt(eps[i], sock, s->c.fd, &full_framing, 0);
		close(sock);
		if (*error) {
			close(eps[i]);
			close(peers[i]);
			break;
		}
	}
	close(l);
	return i;
}

static int many_endpoints(int argc, char **argv)
{
	enum { MANY = 100, EPS = 4096, MAX = EPS + 10 };
	static int eps[MAX], peers[MAX];
	struct rlimit rl = { 3 * MAX, 3 * MAX };
	/* what that knows of locks has no room for so many workqueues */
	bool lockdep = !access("/proc/lockdep", F_OK);
	int before, i, nr, err = 0, last = 0, max = lockdep ? 1000 : MAX;
	struct stage s;
	struct node n;
	uint64_t end;

	(void)argc, (void)argv;
	stage_plain(&s);
	if (setrlimit(RLIMIT_NOFILE, &rl))
		die("setrlimit: %s", err_name(errno));
	before = rescuers();
	for (i = 0; i < MANY; i++)
		eps[i] = ep_open();
	say("opened %d times: threads more: %d", MANY, rescuers() - before);
	for (i = 0; i < MANY; i++)
		close(eps[i]);
	nr = adopt_many(&s, eps, peers, MANY, &err);
	say("adopted %d times: threads more: %d", nr, rescuers() - before);
	nr += adopt_many(&s, eps + nr, peers + nr, max - nr, &err);
	say("as many of one connection as there can be: %s",
	    yes(lockdep ? nr == max && !err : nr == EPS && err == EMFILE));
	/* the last of them is as good as the first */
	for (i = 0; i < nr; i += nr - 1) {
		n = (struct node){ .ep = eps[i], .peer = peers[i], .f = full_framing };
		if (ep_send(&n, 7, NULL, 0, 0))
			die("message refused");
		node_answer(&n, node_take(&n), STATUS_OK, NULL, 0);
		end_say(&n, i ? "the last" : "the first");
	}
	close(eps[--nr]);
	close(peers[nr]);
	/* a worker takes it away */
	end = now_ms() + LIMIT * 1000;
	while (!last && now_ms() < end) {
		last = adopt_many(&s, eps + nr, peers + nr, 1, &err);
		if (!last)
			nap_ms(5);
	}
	nr += last;
	say("when one is closed: %s", err_name(err));
	for (i = 0; i < nr; i++) {
		close(eps[i]);
		close(peers[i]);
	}
	stage_close(&s);
	return 0;
}

/* --------------------------------------------------- completions that can't be written -- */

/* A message as a command; all of it must stay until it is issued */
struct command_msg {
	struct pcs_krpc_send m;
	union desc d;
	uint8_t hdr[ASK];
};

static void cmd_claim(struct ring *r, struct node *n, struct command_msg *c, uint64_t xid,
		      struct req *q, uint32_t len, void *recv)
{
	c->d = zc(n, q, 0, len);
	make_send(&c->m, c->hdr, xid, &c->d, 0, 1);
	c->m.recv = (uintptr_t)recv;
	cmd_send(r, n, &c->m, c);
	ring_submit(r);
}

/* What has been claimed once more is filled now, and is the answer */
static void answered_again(struct stage *s, struct node *n, struct req *q, uint32_t len)
{
	struct pcs_krpczc_chunk ch = { .len = len };

	node_data(n, node_take(n), 0, len);
	end_say(n, "the same again");
	say("reply: %s", err_name(try_chunks(q, &ch, 1)));
	put_req(q);
	app_say(s, 0, "read");
	say("data right: %s", yes(right(0, len, 0)));
}

static int done_fault(int argc, char **argv)
{
	enum { LEN = 4 * PAGE };
	uint64_t end = now_ms() + LIMIT * 1000;
	struct pcs_krpc_recv got;
	struct command_msg c;
	struct stage s;
	struct node n;
	struct ring u;
	struct req *q;
	char byte = 0;
	int fds[2], err;
	pid_t pid;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	ring_open(&u, 8, 0);

	q = claimable(&s, 0, LEN);
	cmd_claim(&u, &n, &c, 1, q, LEN, (void *)1);
	node_data(&n, node_take(&n), PAGE, LEN);
	say("told to nowhere: %s", err_name(ring_wait_one(&u, &c, LIMIT * 1000)));
	say("claimed again: %s", err_name(ep_send_zc(&n, 2, q, 0, LEN)));
	answered_again(&s, &n, q, LEN);

	/* the task that is to be told does not come to it before it ends */
	poison();
	q = claimable(&s, 0, LEN);
	if (pipe(fds))
		die("pipe: %s", err_name(errno));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct ring own;

		ring_open(&own, 8, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
		cmd_claim(&own, &n, &c, 3, q, LEN, &got);
		if (write(fds[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (read(fds[0], &byte, 1) != 1)
		die("the process is gone");
	node_data(&n, node_take(&n), PAGE, LEN);
	while (ep_stats(&n).msgs_done < 3 && now_ms() < end)
		nap_ms(1);
	say("claimed while nobody knows: %s", err_name(ep_send_zc(&n, 4, q, 0, LEN)));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	/* a worker of the kernel takes down the ring of a process that is gone */
	end = now_ms() + LIMIT * 1000;
	while ((err = ep_send_zc(&n, 4, q, 0, LEN)) == EEXIST && now_ms() < end)
		nap_ms(1);
	say("claimed when nobody will: %s", err_name(err));
	answered_again(&s, &n, q, LEN);
	close(fds[0]);
	close(fds[1]);
	ring_close(&u);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* -------------------------------------------------------------------- room for messages -- */

enum { FULL = 4096 };

/* As a command, the message that is one too many is told so, at once and once */
static int room_uring(int argc, char **argv)
{
	struct pcs_krpc_recv got;
	struct pcs_krpc_send m;
	uint8_t hdr[ASK];
	struct io_uring_sqe *sqe;
	uint64_t xid;
	struct stage s;
	struct node n;
	struct ring u;

	(void)argc, (void)argv;
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	ring_open(&u, 8, 0);
	for (xid = 1; xid <= FULL; xid++)
		if (ep_send(&n, xid, NULL, 0, 0))
			die("message %llu is refused", (unsigned long long)xid);
	make_send(&m, hdr, xid, NULL, 0, 0);
	m.recv = (uintptr_t)&got;
	memset(&got, POISON, sizeof(got));
	cmd_send(&u, &n, &m, &m);
	ring_submit(&u);
	say("a command too many: at once: %s", err_name(ring_wait_one(&u, &m, 0)));
	say("once more: %s", ring_wait_one(&u, &m, QUIET_MS) == 1 ? "no" : "yes");
	sqe = cmd_send(&u, &n, &m, &m);
	sqe->flags |= IOSQE_ASYNC;
	ring_submit(&u);
	say("by a worker: %s", err_name(ring_wait_one(&u, &m, LIMIT * 1000)));
	say("once more: %s", ring_wait_one(&u, &m, QUIET_MS) == 1 ? "no" : "yes");
	say("told of a message: %s, messages sent: %llu",
	    yes(memchr(&got, 0, sizeof(got))), (unsigned long long)ep_stats(&n).msgs_sent);
	node_answer(&n, node_take(&n), STATUS_OK, NULL, 0);
	end_say(&n, "one is answered");
	cmd_send(&u, &n, &m, &m);
	ring_submit(&u);
	for (xid = 2; xid <= FULL; xid++)
		node_take(&n);
	node_answer(&n, node_take(&n), STATUS_OK, NULL, 0);
	say("the command then: %s", err_name(ring_wait_one(&u, &m, LIMIT * 1000)));
	say("told of message %llu", (unsigned long long)got.xid);
	ring_close(&u);
	node_close(&n);
	stage_close(&s);
	return 0;
}

struct sender {
	struct node *n;
	atomic_ulong turn, done;
	uint64_t xid;
	unsigned int delay;
	int err;
};

static void spin(unsigned int n)
{
	while (n--)
		__asm__ volatile("" ::: "memory");
}

static void *send_turns(void *arg)
{
	struct sender *t = arg;
	unsigned long turn = 0, now;

	while ((now = atomic_load(&t->turn)) != ~0ul) {
		if (now == turn)
			continue;
		turn = now;
		spin(t->delay);
		t->err = ep_send(t->n, t->xid, NULL, 0, 0);
		atomic_store(&t->done, turn);
	}
	return NULL;
}

/*
 * Who waits for room by edges is told of it, also when another's message is being refused at
 * that moment.
 */
static int room_again(int argc, char **argv)
{
	unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 6000, turn;
	unsigned int missed = 0, refused = 0, taken = 0, ended = 0, open = 0;
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET };
	struct sender t = {};
	uint64_t xid = 1, oldest = 1;
	struct pcs_krpc_recv r;
	pthread_t thread;
	struct stage s;
	struct node n;
	int epoll;

	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	for (; open < FULL; open++)
		if (ep_send(&n, xid++, NULL, 0, 0))
			die("message %llu is refused", (unsigned long long)xid - 1);
	say("one more: %s", err_name(ep_send(&n, xid, NULL, 0, 0)));
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, n.ep, &ev))
		die("epoll: %s", err_name(errno));
	t.n = &n;
	if (pthread_create(&thread, NULL, send_turns, &t))
		die("no thread");
	for (turn = 1; turn <= rounds; turn++) {
		if (!ended) {
			/* all of them are answered, and wait to be told of */
			for (; oldest < xid; oldest++, ended++)
				node_answer(&n, node_take(&n), STATUS_OK, NULL, 0);
			while (ep_stats(&n).msgs_done < oldest - 1)
				nap_ms(1);
		}
		while (epoll_wait(epoll, &ev, 1, 0))
			;
		t.xid = xid;
		t.delay = turn % 64 * 16;
		atomic_store(&t.turn, turn);
		spin(turn / 64 % 64 * 16);
		if (ioctl(n.ep, PCS_KRPC_IOC_RECV_MSG, &r))
			die("RECV_MSG: %s", err_name(errno));
		ended--;
		while (atomic_load(&t.done) != turn)
			;
		if (!t.err) {
			taken++;
			xid++;
			continue;
		}
		if (t.err != EAGAIN)
			die("message: %s", err_name(t.err));
		refused++;
		missed += epoll_wait(epoll, &ev, 1, 0) != 1;
		if (ep_send(&n, xid++, NULL, 0, 0))
			die("there is no room");
	}
	atomic_store(&t.turn, ~0ul);
	pthread_join(thread, NULL);
	if (!refused || !taken)
		fprintf(stderr, "no race: %u refused, %u taken\n", refused, taken);
	say("room that nobody was told of: %u times", missed);
	close(epoll);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* ---------------------------------------------------------- others who lock the socket -- */

/*
 * A process that holds the socket's lock: it sets an option whose value is in a file of ours,
 * so it waits for the read that this returns.
 */
static struct req *lock_socket(struct stage *s, struct node *n, pid_t *pid)
{
	char path[300];

	if (snprintf(path, sizeof(path), "%s/f2", s->c.mnt) >= (int)sizeof(path))
		die("the name is too long");
	fflush(stdout);
	*pid = fork();
	if (!*pid) {
		int fd = open(path, O_RDONLY);
		void *p = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);

		close(n->ep);
		if (fd < 0 || p == MAP_FAILED)
			_exit(1);
		setsockopt(n->sock, IPPROTO_IP, IP_OPTIONS, p, 4);
		_exit(0);
	}
	return next_read(s);
}

static void unlock_socket(struct stage *s, struct req *q, pid_t pid)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	int status = 1;

	end_read(q);
	/* it has a file of ours to close */
	while (!waitpid(pid, &status, WNOHANG) && now_ms() < end) {
		q = try_req(&s->c, 20);
		if (q)
			answer(q);
	}
	if (status)
		die("who has locked the socket failed");
}

/*
 * A message that sends and receives is aborted when a part of it is sent, and its file closed
 * before the connection can be reset: the last to let go of it is who resets that.
 */
static int closed_sending(int argc, char **argv)
{
	enum { LEN = 4 * PAGE, BIG = 8 << 20 };
	uint8_t *big = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t data[LEN];
	union desc d[2];
	struct req *q, *lock;
	struct stage s;
	struct node n;
	pid_t pid;
	int i;

	(void)argc, (void)argv;
	if (big == MAP_FAILED)
		die("out of memory");
	fill_pattern(data, LEN, 0);
	stage_open(&s, 1, NULL);
	for (i = 0; i < 2; i++) {
		poison();
		node_open(&n, &s.c, &full_framing, 0);
		q = claimable(&s, 0, LEN);
		d[0] = umem(big, BIG);
		d[1] = zc(&n, q, 0, LEN);
		say("a large message: %s", err_name(ep_send(&n, 1, d, 1, 1)));
		lock = lock_socket(&s, &n, &pid);
		if (!i)
			say("abort: %s", err_name(ep_abort(&n, 1)));
		close(n.ep);
		n.ep = -1;
		unlock_socket(&s, lock, pid);
		say("reply: %s", err_name(reply_soon(q, 0, data, LEN)));
		put_req(q);
		app_say(&s, 0, "read");
		say("data right: %s", yes(right(0, LEN, 0)));
		node_ignore(&n, ASK);
		while (recv(n.peer, NULL, BIG, MSG_TRUNC) > 0)
			;
		say("the node sees the end: %s", yes(node_sees_end(&n)));
		node_close(&n);
	}
	munmap(big, BIG);
	stage_close(&s);
	return 0;
}

/* --------------------------------------------------------- sockets that are given back -- */

static int option(int sock, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	getsockopt(sock, level, name, &value, &len);
	return value;
}

struct reader {
	int sock, err;
	ssize_t got;
	atomic_bool done;
};

static void *read_some(void *arg)
{
	struct reader *r = arg;
	char buf[16];

	r->got = recv(r->sock, buf, sizeof(buf), 0);
	r->err = errno;
	atomic_store(&r->done, true);
	return NULL;
}

static int socket_back(int argc, char **argv)
{
	struct linger l = { .l_onoff = 1, .l_linger = 3 * LIMIT };
	uint64_t end = now_ms() + LIMIT * 1000;
	struct reader rd = {};
	struct node n, other;
	char buf[16] = "";
	pthread_t thread;
	int p[2], low = 3, i;
	struct stage s;
	ssize_t got;

	(void)argc, (void)argv;
	stage_plain(&s);

	/* as it was */
	tcp_pair(p);
	setsockopt(p[0], SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	n = (struct node){ .ep = ep_open(), .sock = p[0], .peer = p[1], .f = full_framing };
	if (ep_adopt(n.ep, n.sock, s.c.fd, &full_framing, 0) || ep_send(&n, 1, NULL, 0, 0))
		die("no endpoint");
	node_answer(&n, node_take(&n), STATUS_OK, NULL, 0);
	end_say(&n, "answer");
	close(n.ep);
	n.ep = -1;
	while (option(n.sock, SOL_SOCKET, SO_RCVLOWAT) != 3 && now_ms() < end)
		nap_ms(1);
	say("given back: SO_RCVLOWAT %d, TCP_NODELAY %d", option(n.sock, SOL_SOCKET, SO_RCVLOWAT),
	    option(n.sock, IPPROTO_TCP, TCP_NODELAY));
	node_write(&n, "hello", 5);
	got = recv(n.sock, buf, 5, MSG_WAITALL);
	say("the server gets %zd bytes: %.5s", got, buf);
	node_close(&n);

	/* something has come in that is only part of an answer */
	node_open(&n, &s.c, &full_framing, 0);
	node_write(&n, "he", 2);
	nap_ms(QUIET_MS);
	close(n.ep);
	n.ep = -1;
	nap_ms(QUIET_MS);
	node_write(&n, "llo", 3);
	got = recv(n.sock, buf, 3, MSG_WAITALL);
	say("with part of an answer gone: %s", got < 0 ? err_name(errno) : "the rest");
	node_close(&n);

	/* who waits since before */
	tcp_pair(p);
	n = (struct node){ .ep = ep_open(), .sock = p[0], .peer = p[1], .f = full_framing };
	rd.sock = p[0];
	if (pthread_create(&thread, NULL, read_some, &rd))
		die("no thread");
	nap_ms(QUIET_MS);
	if (ep_adopt(n.ep, n.sock, s.c.fd, &full_framing, 0))
		die("no endpoint");
	close(n.peer);
	n.peer = -1;
	ep_poll(&n, POLLHUP, LIMIT * 1000);
	close(n.ep);
	n.ep = -1;
	end = now_ms() + LIMIT * 1000;
	while (!atomic_load(&rd.done) && now_ms() < end)
		nap_ms(1);
	if (atomic_load(&rd.done))
		pthread_join(thread, NULL);
	say("who waits for data since before gets to know: %s",
	    yes(atomic_load(&rd.done) && rd.got <= 0));
	node_close(&n);

	/* nobody waits for what one server has left unsent */
	tcp_pair(p);
	setsockopt(p[0], SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	while (send(p[0], s.c.mnt, 64, MSG_DONTWAIT) == 64)
		;
	n = (struct node){ .ep = ep_open(), .sock = p[0], .peer = p[1], .f = full_framing };
	if (ep_adopt(n.ep, n.sock, s.c.fd, &full_framing, 0))
		die("no endpoint");
	node_open(&other, &s.c, &full_framing, 0);
	close(n.sock);
	close(n.ep);
	n.sock = n.ep = -1;
	/* in the case that it does, this has begun */
	for (i = 0; i < 5; i++)
		nap_ms(QUIET_MS);
	close(other.sock);
	close(other.ep);
	other.sock = other.ep = -1;
	say("another node sees the end: %s", yes(node_sees_end(&other)));
	node_close(&other);
	while (recv(n.peer, NULL, 1 << 20, MSG_TRUNC) > 0)
		;
	say("the first one gets all, and sees the end: %s", yes(node_sees_end(&n)));
	node_close(&n);
	stage_close(&s);
	return 0;
}

const struct command rare_commands[] = {
	{ "answer-late", answer_late, "an answer after more than 2 GiB of others" },
	{ "node-urgent", node_urgent, "urgent data" },
	{ "many-endpoints", many_endpoints, "threads, and endpoints of a connection" },
	{ "done-fault", done_fault, "completions of io_uring that nobody gets" },
	{ "room-again", room_again, "EPOLLOUT while messages are refused ([ROUNDS])" },
	{ "room-uring", room_uring, "a command for which there is no room" },
	{ "closed-sending", closed_sending, "endpoints closed while a message is being sent" },
	{ "socket-back", socket_back, "sockets that are given back" },
	{}
};
