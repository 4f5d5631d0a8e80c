// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: the connection, the server or the request goes away with a transfer half done. */
#include "krpcprobe.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { LEN = 16 * PAGE, HALF = LEN / 2 };

static uint8_t junk[LEN], data[LEN];

static void show_gone(struct conn *c)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	while (conn_listed(c->number) && now_ms() < end)
		nap_ms(2);
	say("connection listed under fusectl: %s", yes(conn_listed(c->number)));
}

/* What memory is free now is ours, and is looked at when the node has sent the rest */
struct reused {
	uint8_t *mem;
	size_t size;
};

static void reuse(struct reused *u)
{
	u->size = 16 << 20;
	u->mem = mmap(NULL, u->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (u->mem == MAP_FAILED)
		die("out of memory");
	memset(u->mem, POISON, u->size);
	poison();
}

static bool untouched(struct reused *u)
{
	/* its first page is looked at, and each byte compared with the one a page before */
	bool same = poisoned(0, APP_SIZE) && !memcmp(u->mem, app, PAGE) &&
		    !memcmp(u->mem, u->mem + PAGE, u->size - PAGE);

	munmap(u->mem, u->size);
	return same;
}

/* An application's read of which half has come; of the node, only junk */
struct half {
	struct stage s;
	struct node n;
	struct req *q;
};

static void half_begin(struct half *h, bool direct, bool zero_copy)
{
	uint8_t head[PCS_KRPC_MAX_HEADER];
	union desc d;

	memset(junk, 0xdd, LEN);
	fill_pattern(data, LEN, 0);
	stage_open(&h->s, 2, NULL);
	node_open(&h->n, &h->s.c, &full_framing, 0);
	app_read(&h->s, 0, "f1", 0, direct, "0:65536");
	h->q = next_read(&h->s);
	if (read_in(h->q)->size != LEN)
		die("a read of %u bytes", read_in(h->q)->size);
	d = zero_copy ? zc(&h->n, h->q, 0, LEN) : umem(data, LEN);
	if (ep_send(&h->n, 1, &d, 0, 1))
		die("the message is refused");
	node_take(&h->n);
	node_write(&h->n, head, node_head(&h->n, head, 1, STATUS_OK, LEN));
	node_write(&h->n, junk, HALF);
	wait_bytes(&h->n, HALF);
}

static void half_close(struct half *h)
{
	unsigned int i;

	put_req(h->q);
	for (i = 0; i < h->s.ncl; i++)
		client_stop(&h->s.cl[i]);
	if (h->s.c.mounted) {
		int err = conn_umount(&h->s.c, 0);

		if (err)
			say("unmount: %s", err_name(err));
	}
	close(h->s.c.fd);
	h->s.c.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);	/* for conn_close() to close */
	if (h->s.ring)
		ring_close(&h->s.r);
	show_gone(&h->s.c);
	conn_close(&h->s.c);
}

/* The rest of the answer, when nobody wants it */
static void send_rest(struct half *h, struct reused *u)
{
	struct pcs_krpc_recv r;

	node_write(&h->n, junk, HALF);
	wait_bytes(&h->n, LEN);
	say("the rest of it: drained %llu bytes, memory untouched: %s",
	    (unsigned long long)ep_stats(&h->n).bytes_drained, yes(untouched(u)));
	end_say(&h->n, "the transfer");
	say("another completion: %s", err_name(ep_recv(&h->n, &r)));
	/* the endpoint is not to blame */
	say("a claim: %s", err_name(ep_send_zc(&h->n, 2, h->q, 0, PAGE)));
	say("a message: %s", err_name(ep_send(&h->n, 3, NULL, 0, 0)));
	node_data(&h->n, node_take(&h->n), 0, 0);
	end_say(&h->n, "it");
}

/* fusectl's abort, or a forced unmount; both with direct and buffered readers */
static void end_aborted(bool direct, bool force)
{
	struct reused u;
	struct half h;
	int err;

	say("%s, %s:", force ? "forced unmount" : "abort", direct ? "direct" : "buffered");
	half_begin(&h, direct, true);
	if (force) {
		err = umount2(h.s.c.mnt, MNT_FORCE);
		/* the application may have closed its file by then, or not */
		if (err && errno != EBUSY)
			die("unmount by force: %s", err_name(errno));
		if (!err)
			h.s.c.mounted = false;
	} else {
		conn_abort(&h.s.c);
	}
	client_wait(&h.s.cl[0], "the application");
	say("the application got %s", err_name(h.s.cl[0].err));
	reuse(&u);
	err = try_reply(h.q, 0, data, LEN);
	say("a reply is refused: %s", yes(err));
	send_rest(&h, &u);
	node_close(&h.n);
	half_close(&h);
}

static int end_abort(int argc, char **argv)
{
	(void)argc, (void)argv;
	end_aborted(true, false);
	end_aborted(false, false);
	return 0;
}

static int end_force(int argc, char **argv)
{
	(void)argc, (void)argv;
	end_aborted(true, true);
	end_aborted(false, true);
	return 0;
}

/* Out of sight, but in use: all goes on until the last file is closed */
static int end_lazy(int argc, char **argv)
{
	struct pcs_krpczc_chunk ch = { .len = LEN };
	struct half h;

	(void)argc, (void)argv;
	half_begin(&h, true, true);
	say("lazy unmount: %s", err_name(conn_umount(&h.s.c, MNT_DETACH)));
	say("the application waits: %s", yes(!client_done(&h.s.cl[0])));
	node_write(&h.n, junk, HALF);
	end_say(&h.n, "the transfer");
	say("reply: %s", err_name(try_chunks(h.q, &ch, 1)));
	app_say(&h.s, 0, "read");
	say("what the node has sent: %s", yes(!memcmp(app, junk, LEN)));
	/* the endpoint does not keep the connection */
	half_close(&h);
	say("a message: %s", err_name(ep_send(&h.n, 3, NULL, 0, 0)));
	node_data(&h.n, node_take(&h.n), 0, 0);
	end_say(&h.n, "it");
	node_close(&h.n);
	return 0;
}

/* The server in a process of its own; the node and the application are not in it */
static void end_killed(int sig, bool keep_endpoint)
{
	int s[2], fds[2], ep = -1, status, number;
	struct client cl;
	struct reused u;
	struct half h;
	struct conn c;
	pid_t pid;

	say("%s, the endpoint is %s:", sig ? "killed" : "exit", keep_endpoint ? "kept open" : "too");
	memset(junk, 0xdd, LEN);
	app_make();
	poison();
	client_start(&cl, -1);
	tcp_pair(s);
	if (pipe(fds))
		die("pipe: %s", err_name(errno));
	if (keep_endpoint)
		ep = ep_open();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		struct stage *st = &h.s;

		/* no application of its own: it's the director's */
		new_director();
		close(s[1]);
		close(cl.sock);
		stage_open(st, 0, NULL);
		h.n = (struct node){ .ep = keep_endpoint ? ep : ep_open(), .sock = s[0],
				     .peer = -1, .devfd = st->c.fd, .f = full_framing };
		if (ep_adopt(h.n.ep, s[0], st->c.fd, &full_framing, 0))
			die("ADOPT is refused");
		number = st->c.number;
		if (write(fds[1], &number, sizeof(number)) != sizeof(number))
			_exit(1);
		h.q = next_read(st);
		if (ep_send_zc(&h.n, 1, h.q, 0, LEN))
			die("the message is refused");
		if (!sig) {
			wait_bytes(&h.n, HALF);
			_exit(0);
		}
		for (;;)
			pause();
	}
	close(s[0]);
	close(fds[1]);
	if (read(fds[0], &number, sizeof(number)) != sizeof(number))
		die("the server is gone");
	h.n = (struct node){ .ep = ep, .sock = -1, .peer = s[1], .f = full_framing };
	{
		uint8_t head[PCS_KRPC_MAX_HEADER];

		memset(&h.s, 0, sizeof(h.s));
		snprintf(h.s.c.mnt, sizeof(h.s.c.mnt), "%s", mount_point());
		h.s.cl[0] = cl;
		app_read(&h.s, 0, "f1", 0, true, "0:65536");
		node_take(&h.n);
		node_write(&h.n, head, node_head(&h.n, head, 1, STATUS_OK, LEN));
		node_write(&h.n, junk, HALF);
		while (app[HALF - 1] != 0xdd)	/* it's the application's own memory */
			nap_ms(1);
	}
	if (sig)
		kill(pid, sig);
	if (waitpid(pid, &status, 0) != pid)
		die("the server is not there");
	client_wait(&h.s.cl[0], "the application");
	say("the application got an error: %s", yes(h.s.cl[0].err));
	reuse(&u);
	node_write(&h.n, junk, HALF);
	if (keep_endpoint) {
		wait_bytes(&h.n, LEN);
		say("the rest of it: drained %llu bytes",
		    (unsigned long long)ep_stats(&h.n).bytes_drained);
		end_say(&h.n, "the transfer");
	} else {
		say("the node sees the end: %s", yes(node_sees_end(&h.n)));
	}
	say("memory untouched: %s", yes(untouched(&u)));
	memset(&c, 0, sizeof(c));
	c.number = number;
	client_stop(&h.s.cl[0]);
	say("unmount: %s", err_name(umount2(mount_point(), 0) ? errno : 0));
	show_gone(&c);
	close(fds[0]);
	node_close(&h.n);
}

static int end_kill(int argc, char **argv)
{
	(void)argc, (void)argv;
	end_killed(SIGKILL, false);
	end_killed(SIGKILL, true);
	end_killed(0, false);
	return 0;
}

/* The endpoint, or its socket, is closed */
static int end_close(int argc, char **argv)
{
	struct pcs_krpczc_chunk ch = { .len = LEN };
	struct reused u;
	struct half h;
	int how;

	(void)argc, (void)argv;
	say("the endpoint is closed:");
	half_begin(&h, true, true);
	close(h.n.ep);
	h.n.ep = -1;
	say("reply: %s", err_name(reply_soon(h.q, 0, data, LEN)));
	app_say(&h.s, 0, "read");
	say("data right: %s", yes(right(0, LEN, 0)));
	reuse(&u);
	node_write(&h.n, junk, HALF);
	say("the node sees the end: %s", yes(node_sees_end(&h.n)));
	say("memory untouched: %s", yes(untouched(&u)));
	node_close(&h.n);
	put_req(h.q);
	stage_close(&h.s);

	say("the socket is closed:");
	half_begin(&h, true, true);
	close(h.n.sock);
	h.n.sock = -1;
	node_write(&h.n, data + HALF, HALF);
	end_say(&h.n, "the transfer");
	say("reply: %s", err_name(try_chunks(h.q, &ch, 1)));
	app_say(&h.s, 0, "read");
	say("what the node has sent: %s",
	    yes(!memcmp(app, junk, HALF) && !memcmp(app + HALF, data + HALF, HALF)));
	node_close(&h.n);
	put_req(h.q);
	stage_close(&h.s);

	for (how = 0; how < 3; how++) {
		static const char *const hows[] = { "receiving", "sending", "both" };

		say("the server shuts the socket down, %s:", hows[how]);
		half_begin(&h, true, true);
		shutdown(h.n.sock, how);
		/* by that alone, sending is not over until something is to be sent */
		if (how == SHUT_WR)
			ep_send(&h.n, 2, NULL, 0, 0);
		end_say(&h.n, "the transfer");
		say("reply: %s", err_name(try_reply(h.q, 0, data, LEN)));
		app_say(&h.s, 0, "read");
		say("data right: %s", yes(right(0, LEN, 0)));
		node_close(&h.n);
		put_req(h.q);
		stage_close(&h.s);
	}
	return 0;
}

/* The request is sent to the server again: it has no claims then, and gets new ones */
static int end_resend(int argc, char **argv)
{
	struct pcs_krpczc_chunk ch = { .len = LEN };
	uint8_t head[PCS_KRPC_MAX_HEADER];
	struct node other;
	struct half h;
	struct req *q;

	(void)argc, (void)argv;
	half_begin(&h, true, true);
	/* what is sent again may come over /dev/fuse */
	h.s.mixed = true;
	node_open(&other, &h.s.c, &full_framing, 0);
	say("resend: %s", err_name(notify(&h.s.c, NOTIFY_RESEND, NULL, 0)));
	q = next_read(&h.s);
	say("the same request again: %s", yes((q->h.unique & ~RESENT) == h.q->h.unique));
	say("a claim by its old name: %s",
	    err_name(ep_send_zc(&other, 9, h.q, 0, LEN)));
	say("a claim by its new name: %s", err_name(ep_send_zc(&other, 1, q, 0, LEN)));
	node_take(&other);
	node_write(&other, head, node_head(&other, head, 1, STATUS_OK, LEN));
	node_write(&other, data, HALF + PAGE);
	wait_bytes(&other, HALF + PAGE);
	node_write(&h.n, junk, HALF);
	wait_bytes(&h.n, LEN);
	say("the old transfer: drained %llu bytes",
	    (unsigned long long)ep_stats(&h.n).bytes_drained);
	end_say(&h.n, "it");
	node_write(&other, data + HALF + PAGE, HALF - PAGE);
	end_say(&other, "the new one");
	say("reply: %s", err_name(try_chunks(q, &ch, 1)));
	app_say(&h.s, 0, "read");
	say("data right: %s", yes(right(0, LEN, 0)));
	put_req(q);
	put_req(h.q);
	node_close(&other);
	node_close(&h.n);

	/* what was in place for the old one is not for the new one */
	h.q = claimable(&h.s, 0, LEN);
	node_open(&other, &h.s.c, &full_framing, 0);
	say("another read, claimed: %s", err_name(ep_send_zc(&other, 1, h.q, 0, LEN)));
	node_take(&other);
	node_data(&other, 1, 0, LEN);
	end_say(&other, "all of it");
	say("resend: %s", err_name(notify(&h.s.c, NOTIFY_RESEND, NULL, 0)));
	q = next_read(&h.s);
	put_req(h.q);
	/* ends with an error: over the ring the application alone gets to know */
	try_chunks(q, &ch, 1);
	put_req(q);
	app_say(&h.s, 0, "in place before it was sent again");
	node_close(&other);
	stage_close(&h.s);
	return 0;
}

/* ----------------------------------------------------- while it is being written to -- */

enum { RACE = 1 << 20 };

static void *send_junk(void *arg)
{
	static uint8_t head[PCS_KRPC_MAX_HEADER], all[RACE];
	struct node *n = arg;

	memset(all, 0xdd, RACE);
	node_write(n, head, node_head(n, head, 1, STATUS_OK, RACE));
	node_write(n, all, RACE);
	return NULL;
}

/* Where what has been written to, from the beginning on, ends */
static size_t frontier(void)
{
	const volatile uint8_t *mem = app;
	size_t from = 0, to = RACE;

	while (from < to) {
		size_t mid = (from + to) / 2;

		if (mem[mid] == POISON)
			to = mid;
		else
			from = mid + 1;
	}
	return from;
}

/*
 * The connection is aborted just while the node's answer is copied to the application's memory.
 * Once that is done, nothing more is written there.
 */
static int end_race(int argc, char **argv)
{
	static const struct init_opts large = { .max_write = RACE, .max_pages = RACE / PAGE };
	unsigned int rounds = argc > 1 ? atoi(argv[1]) : 40, i, cut = 0, wrong = 0, state = 1;
	const volatile uint8_t *mem;
	int room = 4 * RACE;
	pthread_t thread;
	struct stage s;
	struct node n;
	struct req *q;
	uint64_t end;
	size_t at;

	for (i = 0; i < rounds; i++) {
		unsigned int number;

		stage_open(&s, 1, &large);
		mem = app;
		node_open(&n, &s.c, &full_framing, 0);
		/* else the node sends little at first, and then waits */
		if (setsockopt(n.sock, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)))
			die("SO_RCVBUFFORCE: %s", err_name(errno));
		q = claimable(&s, 0, RACE);
		if (read_in(q)->size != RACE)
			die("a read of %u bytes", read_in(q)->size);
		if (ep_send_zc(&n, 1, q, 0, RACE))
			die("the message is refused");
		node_take(&n);
		if (pthread_create(&thread, NULL, send_junk, &n))
			die("no thread");
		state = state * 1103515245 + 12345;
		at = state / 65536 % 1024 * (RACE / 2048);
		end = now_ms() + LIMIT * 1000;
		while (mem[at] == POISON && now_ms() < end)
			;
		conn_abort(&s.c);
		at = frontier();
		cut += at < RACE;
		pthread_join(thread, NULL);
		wait_bytes(&n, RACE);
		wrong += !poisoned(at, RACE - at);
		client_wait(&s.cl[0], "the application");
		if (!s.cl[0].err)
			die("the application got no error");
		put_req(q);
		node_close(&n);
		number = s.c.number;
		client_stop(&s.cl[0]);
		conn_close(&s.c);
		if (s.ring)
			ring_close(&s.r);
		while (conn_listed(number) && now_ms() < end)
			nap_ms(2);
	}
	if (cut < rounds / 3)
		die("no race: %u of %u", cut, rounds);
	say("connections aborted while a read is written to: %u, wrong: %u", rounds, wrong);
	return 0;
}

const struct command end_commands[] = {
	{ "end-abort", end_abort, "abort by fusectl" },
	{ "end-force", end_force, "forced unmount" },
	{ "end-lazy", end_lazy, "lazy unmount" },
	{ "end-kill", end_kill, "death of the server" },
	{ "end-close", end_close, "endpoint or socket closed" },
	{ "end-resend", end_resend, "NOTIFY_RESEND" },
	{ "end-race", end_race, "aborts by fusectl while a read is written to ([ROUNDS])" },
	{}
};
