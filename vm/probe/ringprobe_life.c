// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: abort, unmount, death of server, thread or ring; races between them. */
#include "ringprobe.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void collect_ends(struct conn *c, unsigned int want)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	while (c->ended < want && now_ms() < end)
		pump(c, 50);
}

static unsigned int ended_with(struct conn *c, int res)
{
	unsigned int i, n = 0;

	for (i = 0; i < c->nents; i++)
		n += c->ents[i].state == ENT_DEAD && c->ents[i].res == res;
	return n;
}

static void show_gone(struct conn *c)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	while (conn_listed(c->number) && now_ms() < end)
		nap_ms(5);
	say("connection listed under fusectl: %s", conn_listed(c->number) ? "yes" : "no");
}

static void show_umount(struct conn *c, int flags)
{
	say("unmount: %s", err_name(conn_umount(c, flags)));
}

/*
 * A request the abort finds in a queue or with the server ends with ECONNABORTED;
 * one that is just on its way there gets ENOTCONN.
 */
static const char *abort_name(int err)
{
	return err == ECONNABORTED || err == ENOTCONN ? "aborted" : err_name(err);
}

/* ------------------------------------------------------------------ abort */

static int abort_busy(int argc, char **argv)
{
	enum { DEPTH = 4 };
	struct init_opts o = { .max_background = 2, .flags = FUSE_ASYNC_DIO };
	unsigned int n = possible_cpus(), entries = DEPTH * n, callers = entries - 1;
	unsigned int i, have = 0, with_server = 0, aborted = 0;
	struct client *cl = calloc(callers, sizeof(*cl)), bg;
	struct req **held = calloc(entries, sizeof(struct req *)), *q;
	char name[16];
	uint64_t id;
	struct conn c;
	struct ring r;
	int tag, err;

	(void)argc, (void)argv;
	if (!cl || !held)
		die("out of memory");
	for (i = 0; i < callers; i++)
		client_start(&cl[i], 0);
	client_start(&bg, 0);
	serve_setup(&c, &r, &o, DEPTH);
	/*
	 * Two background requests with the server, and of the foreground as many as all
	 * queues have room for and one more: in the first queue or in all of them, as
	 * the kernel likes, some are with the server and some wait.
	 */
	client_do(&bg, do_aio_read, c.mnt, "f1", 0, 8 * DEFAULT_PAYLOAD);
	while (have < 2) {
		q = next_req(&c, "READ");
		if (q->h.opcode == FUSE_READ)
			held[have++] = q;
		else
			answer(q);
	}
	for (i = 0; i < callers; i++) {
		snprintf(name, sizeof(name), "f%u", i + 5);
		client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
	}
	while (have < DEPTH)
		held[have++] = next_req(&c, "LOOKUP");
	while (have < entries && (q = try_req(&c, QUIET_MS)))
		held[have++] = q;
	say("2 READ and LOOKUPs with the server, more queued");
	id = held[3]->e->h->part.commit_id;
	conn_abort(&c);
	for (i = 0; i < callers; i++) {
		client_wait(&cl[i], "a caller after the abort");
		aborted += !strcmp(abort_name(cl[i].err), "aborted");
		with_server += cl[i].err == ECONNABORTED;
	}
	say("callers aborted: %s", aborted == callers ? "all" : "not all");
	say("those with the server got ECONNABORTED: %s",
	    with_server >= have - 2 ? "yes" : "no");
	client_wait(&bg, "the asynchronous reader after the abort");
	say("asynchronous reader: %s", bg.err ? "an error" : "ok");
	collect_ends(&c, entries - have);
	say("idle entries ended with ENOTCONN: %s",
	    ended_with(&c, -ENOTCONN) == entries - have ? "all" : "not all");
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, held[3]->e->qid, id, &tag);
	err = ring_submit_one(&r, &tag);
	say("commit after the abort: %s", err ? err_name(err) : "held");
	client_do(&cl[0], do_stat, c.mnt, "f9", 0, 0);
	client_wait(&cl[0], "a new caller");
	say("new caller: %s", err_name(cl[0].err));
	show_umount(&c, 0);
	show_gone(&c);
	for (i = 0; i < callers; i++)
		client_stop(&cl[i]);
	client_stop(&bg);
	conn_close(&c);
	ring_close(&r);
	free(cl);
	free(held);
	return 0;
}

/* ---------------------------------------------------------------- unmount */

static int umount_idle(int argc, char **argv)
{
	unsigned int n = possible_cpus();
	struct client cl;
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 3);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_serve(&cl, &c, "stat");
	show_umount(&c, 0);
	show_gone(&c);
	collect_ends(&c, 3 * n);
	say("entries ended with ENOTCONN: %s",
	    ended_with(&c, -ENOTCONN) == 3 * n ? "all" : "not all");
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

static int umount_busy(int argc, char **argv)
{
	unsigned int n = possible_cpus();
	struct client cl, other;
	struct conn c;
	struct ring r;
	uint64_t end;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	client_start(&other, 0);
	serve_setup(&c, &r, NULL, 2);
	client_do(&cl, do_hold_open, c.mnt, "f1", 0, 0);
	client_serve(&cl, &c, "open");
	say("a file is open: unmount: %s", err_name(conn_umount(&c, 0)));
	client_do(&other, do_stat, c.mnt, "f2", 0, 0);
	client_serve(&other, &c, "stat");
	say("served on: %s", err_name(other.err));
	say("lazy unmount: %s", err_name(conn_umount(&c, MNT_DETACH)));
	client_do(&cl, do_held_read, c.mnt, "", 4096, 4096);
	client_serve(&cl, &c, "read of the open file");
	say("open file still read: %s", err_name(cl.err));
	say("entries ended: %u", c.ended);
	client_do(&cl, do_close, c.mnt, "", 0, 0);
	client_serve(&cl, &c, "close");
	/* RELEASE is still to be served, then nothing holds the mount */
	end = now_ms() + LIMIT * 1000;
	while (c.ended < 2 * n && now_ms() < end) {
		struct req *q = try_req(&c, 50);

		if (q)
			answer(q);
	}
	say("file closed: entries ended with ENOTCONN: %s",
	    ended_with(&c, -ENOTCONN) == 2 * n ? "all" : "not all");
	show_gone(&c);
	client_stop(&cl);
	client_stop(&other);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

static int umount_force(int argc, char **argv)
{
	struct client cl[2];
	struct conn c;
	struct ring r;
	uint64_t end;
	int i, err;

	(void)argc, (void)argv;
	client_start(&cl[0], 0);
	client_start(&cl[1], 0);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl[0], do_stat, c.mnt, "f1", 0, 0);
	put_req(next_req(&c, "LOOKUP"));
	client_do(&cl[1], do_stat, c.mnt, "f2", 0, 0);
	wait_waiting(&c, 2);
	say("one request with the server, one queued");
	/* refused as long as the callers are inside, but it aborts */
	end = now_ms() + LIMIT * 1000;
	do
		err = conn_umount(&c, MNT_FORCE);
	while (err == EBUSY && now_ms() < end);
	say("unmount by force: %s", err_name(err));
	for (i = 0; i < 2; i++) {
		client_wait(&cl[i], "a caller after the unmount by force");
		say("caller %d: %s", i, abort_name(cl[i].err));
		client_stop(&cl[i]);
	}
	show_gone(&c);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

static int mounts(int argc, char **argv)
{
	int i, rounds = argc > 1 ? atoi(argv[1]) : 10, leaked = 0;
	struct client cl;
	struct conn c;
	struct ring r;

	client_start(&cl, 0);
	for (i = 0; i < rounds; i++) {
		serve_setup(&c, &r, NULL, 1 + i % 3);
		client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
		client_serve(&cl, &c, "stat");
		if (cl.err || !c.ring_requests)
			die("round %d: stat: %s", i, err_name(cl.err));
		/* by turns: ring goes first, mount goes first */
		if (i % 2)
			ring_close(&r);
		conn_close(&c);
		if (!(i % 2))
			ring_close(&r);
		leaked += conn_listed(c.number);
	}
	say("%d times mounted, used, unmounted; connections left: %d", rounds, leaked);
	client_stop(&cl);
	return 0;
}

/* ------------------------------------------------------- death of a server */

/* A server in a process of its own; the parent only knows the mount. */
struct server {
	pid_t pid;
	int sock;
};

static void server_start(struct server *s, struct conn *c, void (*run)(struct conn *c, int sock))
{
	int pair[2];
	char byte;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		die("socketpair: %s", err_name(errno));
	fflush(stdout);
	s->pid = fork();
	if (s->pid < 0)
		die("fork: %s", err_name(errno));
	if (!s->pid) {
		struct conn own;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		new_director();
		run(&own, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	s->sock = pair[0];
	if (read(s->sock, &byte, 1) != 1)
		die("the server did not start");
	conn_adopt(c);
}

static void server_ready(int sock)
{
	if (write(sock, "r", 1) != 1)
		_exit(1);
}

static void server_kill(struct server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

/* Ready but for one queue; then nothing. */
static void run_unready(struct conn *c, int sock)
{
	struct ring r;

	conn_mount(c);
	conn_init(c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	conn_register(c, &r, 1, payload_size(c), 0, possible_cpus() - 1);
	server_ready(sock);
	for (;;)
		pause();
}

/* Takes requests in, and never answers those that read or look up. */
static void run_holding(struct conn *c, int sock)
{
	struct ring r;

	serve_setup(c, &r, NULL, 2);
	server_ready(sock);
	for (;;)
		pump(c, 1000);
}

static int death(int argc, char **argv)
{
	bool unready = argc > 1 && !strcmp(argv[1], "unready");
	enum { CALLERS = 4 };
	struct client cl[CALLERS];
	struct server s;
	struct conn c;
	int i;

	for (i = 0; i < CALLERS; i++)
		client_start(&cl[i], 0);
	server_start(&s, &c, unready ? run_unready : run_holding);
	for (i = 0; i < CALLERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "f%d", i);
		client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
		if (unready)
			client_blocked(&cl[i]);
	}
	if (!unready)
		wait_waiting(&c, CALLERS);
	say(unready ? "%d callers wait for the ring" :
	    "%d callers, 2 requests with the server, 2 queued", CALLERS);
	server_kill(&s);
	for (i = 0; i < CALLERS; i++) {
		client_wait(&cl[i], "a caller after the server's death");
		say("server killed: caller %d: %s", i, cl[i].err ? "an error" : "ok");
	}
	client_do(&cl[0], do_stat, c.mnt, "f9", 0, 0);
	client_wait(&cl[0], "a new caller");
	say("new caller: %s", err_name(cl[0].err));
	show_umount(&c, 0);
	show_gone(&c);
	for (i = 0; i < CALLERS; i++)
		client_stop(&cl[i]);
	return 0;
}

/* Killed and unmounted at once, with requests on their way; many rounds. */
static void run_serving(struct conn *c, int sock)
{
	struct ring r;
	struct req *q;

	serve_setup(c, &r, NULL, 2);
	server_ready(sock);
	for (;;) {
		q = try_req(c, 1000);
		if (q)
			answer(q);
	}
}

/* Without traffic only a cancellation gives the held commands back. */
static int death_idle(int argc, char **argv)
{
	struct client cl;
	struct server s;
	struct conn c;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	server_start(&s, &c, run_serving);
	server_kill(&s);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_wait(&cl, "a caller after an idle server's death");
	say("idle server killed: a caller gets %s", abort_name(cl.err));
	show_umount(&c, 0);
	show_gone(&c);
	client_stop(&cl);
	return 0;
}

static int do_stat_loop(struct job *j)
{
	struct job one = *j;

	while (!do_stat(&one))
		;
	return errno;
}

static int death_race(int argc, char **argv)
{
	int i, k, err, rounds = argc > 1 ? atoi(argv[1]) : 5;
	enum { CALLERS = 3 };

	for (i = 0; i < rounds; i++) {
		struct client cl[CALLERS];
		struct server s;
		struct conn c;
		uint64_t end;

		for (k = 0; k < CALLERS; k++)
			client_start(&cl[k], online_cpu(k));
		server_start(&s, &c, run_serving);
		for (k = 0; k < CALLERS; k++)
			client_do(&cl[k], do_stat_loop, c.mnt, k ? "f1" : "f2", 0, 0);
		nap_ms(1 + i % 7);
		kill(s.pid, SIGKILL);
		end = now_ms() + LIMIT * 1000;
		do
			err = conn_umount(&c, i % 2 ? MNT_FORCE : 0);
		while (err == EBUSY && now_ms() < end);
		if (err)
			die("round %d: unmount: %s", i, err_name(err));
		waitpid(s.pid, NULL, 0);
		for (k = 0; k < CALLERS; k++) {
			/* outside, the names do not exist */
			client_wait(&cl[k], "a caller after the server's death");
			client_stop(&cl[k]);
		}
		while (conn_listed(c.number)) {
			if (now_ms() > end)
				die("round %d: connection is left", i);
			nap_ms(2);
		}
		close(s.sock);
	}
	say("%d times killed and unmounted under load: callers, unmount and connection ended",
	    rounds);
	return 0;
}

/* ------------------------------------------------- entries that lose their task */

struct registrar {
	struct conn *c;
	struct ring r;
};

static void *register_and_exit(void *arg)
{
	struct registrar *g = arg;

	ring_open(&g->r, 64, IORING_SETUP_SQE128);
	conn_register(g->c, &g->r, 2, payload_size(g->c), 0, possible_cpus());
	return NULL;
}

/* Callers may wait or fail, but nothing may hang beyond an abort. */
static void show_orphaned(struct conn *c, struct client *cl)
{
	client_do(cl, do_stat, c->mnt, "f1", 0, 0);
	if (!client_done(cl))
		nap_ms(QUIET_MS);
	conn_abort(c);
	client_wait(cl, "a caller of a ring without entries, after the abort");
	say("a caller ends, at the latest by an abort: %s", cl->err ? "with an error" : "ok");
	show_umount(c, 0);
	show_gone(c);
}

static int thread_exit(int argc, char **argv)
{
	unsigned int n = possible_cpus();
	struct registrar g = {};
	struct client cl;
	struct conn c;
	pthread_t t;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	conn_mount(&c);
	conn_init(&c, NULL);
	g.c = &c;
	if (pthread_create(&t, NULL, register_and_exit, &g))
		die("thread");
	pthread_join(t, NULL);
	say("thread with all entries has ended");
	show_orphaned(&c, &cl);
	collect_ends(&c, 2 * n);
	say("entries ended: %s", c.ended == 2 * n ? "all" : "not all");
	client_stop(&cl);
	conn_close(&c);
	ring_close(&g.r);
	return 0;
}

static int ring_closed(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 2);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_serve(&cl, &c, "stat");
	say("stat: %s", err_name(cl.err));
	ring_close(&r);
	c.nrings = 0;
	say("ring closed with idle entries");
	show_orphaned(&c, &cl);
	client_stop(&cl);
	conn_close(&c);
	return 0;
}

/* A child of the server that comes and goes does not concern the ring. */
static int fork_server(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	pid_t pid;
	int status;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 2);
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, &status, 0);
	pump(&c, QUIET_MS);
	say("child of the server ended: entries ended: %u", c.ended);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	client_serve(&cl, &c, "stat after the fork");
	say("stat: %s", err_name(cl.err));
	/* a child that stays holds the descriptors: unmount works all the same */
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	client_do(&cl, do_stat, c.mnt, "f2", 0, 0);
	client_serve(&cl, &c, "stat beside a child");
	say("beside a child that stays: stat: %s", err_name(cl.err));
	show_umount(&c, 0);
	show_gone(&c);
	collect_ends(&c, c.nents);
	say("entries ended with ENOTCONN: %s",
	    ended_with(&c, -ENOTCONN) == c.nents ? "all" : "not all");
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* ------------------------------------------------------------------ races */

struct racer {
	struct conn *c;
	struct ring r;
	struct ent *e;
	pthread_barrier_t *start;
	unsigned int qid;
	int n;
};

static void *race_register(void *arg)
{
	struct racer *x = arg;
	int i;

	ring_open(&x->r, 64, IORING_SETUP_SQE128);
	for (i = 0; i < x->n; i++)
		ent_setup(&x->e[i], x->c, &x->r, x->qid, payload_size(x->c));
	pthread_barrier_wait(x->start);
	for (i = 0; i < x->n; i++) {
		ent_register(&x->e[i]);
		ring_submit(&x->r);
	}
	/* registered; ends, and with it the commands, when told so */
	pthread_barrier_wait(x->start);
	pthread_barrier_wait(x->start);
	return NULL;
}

/* Results of a racer so far: requests delivered are counted, errors judged. */
static int racer_results(struct racer *x, bool aborted, int *delivered)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;
	int odd = 0;

	io_uring_for_each_cqe(&x->r.u, head, cqe) {
		n++;
		if (!cqe->res)
			++*delivered;
		else if (!aborted || (cqe->res != -ENOTCONN && cqe->res != -ECONNABORTED))
			odd++;
	}
	io_uring_cq_advance(&x->r.u, n);
	return odd;
}

/*
 * Many threads send the first REGISTER at once, each by a ring of its own. One
 * ring object must come of it: ready, and gone with the mount. With "abort", the
 * connection is aborted in the middle.
 */
static int race_first(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 5, odd = 0, ready = 0, i, k;
	bool aborting = argc > 2 && !strcmp(argv[2], "abort");
	unsigned int cpus = possible_cpus();
	const int each = aborting ? 4 : 1, threads = cpus > 16 ? cpus : 16;
	struct racer *x = calloc(threads, sizeof(*x));
	pthread_t *t = calloc(threads, sizeof(*t));
	struct client cl;

	client_start(&cl, 0);
	for (i = 0; i < rounds; i++) {
		pthread_barrier_t start;
		int delivered = 0;
		struct conn c;
		uint64_t end;

		conn_mount(&c);
		conn_init(&c, NULL);
		c.nents = threads * each;
		c.ents = calloc(c.nents, sizeof(*c.ents));
		pthread_barrier_init(&start, NULL, threads + 1);
		for (k = 0; k < threads; k++) {
			x[k].c = &c;
			x[k].e = &c.ents[k * each];
			x[k].n = each;
			x[k].qid = k % cpus;
			x[k].start = &start;
			if (pthread_create(&t[k], NULL, race_register, &x[k]))
				die("thread");
		}
		pthread_barrier_wait(&start);
		if (aborting) {
			usleep(i % 3 * 30);
			conn_abort(&c);
		}
		pthread_barrier_wait(&start);
		if (!aborting) {
			client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
			end = now_ms() + LIMIT * 1000;
			while (!delivered && now_ms() < end) {
				nap_ms(1);
				for (k = 0; k < threads; k++)
					odd += racer_results(&x[k], false, &delivered);
			}
			ready += delivered == 1;
			conn_abort(&c);
			client_wait(&cl, "a caller, after the abort");
		}
		pthread_barrier_wait(&start);
		for (k = 0; k < threads; k++) {
			pthread_join(t[k], NULL);
			odd += racer_results(&x[k], true, &delivered);
			ring_close(&x[k].r);
		}
		if (conn_umount(&c, 0))
			die("round %d: unmount fails", i);
		if (conn_listed(c.number))
			die("round %d: connection is left", i);
		conn_close(&c);
		pthread_barrier_destroy(&start);
	}
	if (aborting)
		say("%d rounds against an abort: unexpected results: %d", rounds, odd);
	else
		say("%d rounds: %d ready, unexpected results: %d", rounds, ready, odd);
	client_stop(&cl);
	free(x);
	free(t);
	return 0;
}

/* A second thread commits ids it guesses, while requests come and go. */
struct guesser {
	struct conn *c;
	struct ring r;
	volatile uint64_t next;
	volatile bool stop;
	long tries, odd;
};

static void *guess_ids(void *arg)
{
	struct guesser *g = arg;
	uint64_t id = 0;
	int tag, i, res;

	ring_open(&g->r, 64, IORING_SETUP_SQE128);
	while (!g->stop) {
		if (g->next == id) {
			usleep(50);
			continue;
		}
		id = g->next;
		/* ids to come that are not given out before the next reply */
		for (i = 1; i <= 4; i++) {
			ring_cmd(&g->r, g->c->fd, PROTO_RING_COMMIT_AND_FETCH, 0, id + 64 + 2 * i, &tag);
			ring_submit(&g->r);
			res = ring_wait_one(&g->r, &tag, 0);
			g->tries++;
			g->odd += res != -ENOENT && res != -ENOTCONN;
		}
	}
	return NULL;
}

static int guess(int argc, char **argv)
{
	int i, n = argc > 1 ? atoi(argv[1]) : 200, errors = 0;
	struct guesser g = {};
	struct client cl;
	struct conn c;
	struct ring r;
	pthread_t t;

	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 1);
	g.c = &c;
	if (pthread_create(&t, NULL, guess_ids, &g))
		die("thread");
	for (i = 0; i < n; i++) {
		struct req *q;

		client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
		watch_client(&cl);
		while (!client_done(&cl)) {
			q = try_req(&c, 1000);
			if (!q)
				continue;
			g.next = q->h.unique;
			answer(q);
		}
		watch_client(NULL);
		errors += cl.err != 0;
	}
	g.stop = true;
	pthread_join(t, NULL);
	say("%d stats beside a thread committing guessed ids: %d failed", n, errors);
	say("guesses refused: %s", g.tries && !g.odd ? "all" : "not all");
	ring_close(&g.r);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/*
 * Callers look up from before the INIT reply until the ring is ready: no request
 * may be lost on the way.
 */
static int race_ready(int argc, char **argv)
{
	int i, k, rounds = argc > 1 ? atoi(argv[1]) : 10;
	enum { CALLERS = 3 };
	struct client cl[CALLERS];

	for (k = 0; k < CALLERS; k++)
		client_start(&cl[k], online_cpu(k));
	for (i = 0; i < rounds; i++) {
		struct conn c;
		struct ring r;

		conn_mount(&c);
		for (k = 0; k < CALLERS; k++)
			client_do(&cl[k], do_stat, c.mnt, k ? "f1" : "f2", 0, 0);
		ring_open(&r, 64, IORING_SETUP_SQE128);
		conn_init(&c, NULL);
		conn_register(&c, &r, 2, payload_size(&c), 0, possible_cpus());
		for (k = 0; k < CALLERS; k++) {
			client_serve(&cl[k], &c, "a caller from before INIT");
			if (cl[k].err)
				die("round %d: caller: %s", i, err_name(cl[k].err));
		}
		wait_idle(&c);
		conn_close(&c);
		ring_close(&r);
	}
	for (k = 0; k < CALLERS; k++)
		client_stop(&cl[k]);
	say("%d mounts with callers from before INIT: all served", rounds);
	return 0;
}

/* Random kills of callers while the server commits slowly. */
static int kill_callers(int argc, char **argv)
{
	int i, rounds = argc > 1 ? atoi(argv[1]) : 20;
	enum { CALLERS = 6 };
	struct client cl[CALLERS], watch;
	unsigned int seed = 1;
	const char *s = getenv("SEED");
	struct conn c;
	struct ring r;
	struct req *q;

	if (s)
		seed = atoi(s);
	/* clients forked after the ring exists must not hold it: see client_start */
	client_start(&watch, 0);
	for (i = 0; i < CALLERS; i++)
		client_start(&cl[i], online_cpu(i));
	serve_setup(&c, &r, NULL, 1);
	for (i = 0; i < CALLERS; i++)
		client_do(&cl[i], do_stat_loop, c.mnt, "f1", 0, 0);
	for (i = 0; i < rounds; i++) {
		int k = rand_r(&seed) % CALLERS, served = rand_r(&seed) % 4;

		while (served--) {
			q = try_req(&c, 100);
			if (q)
				answer(q);
		}
		kill(cl[k].pid, SIGKILL);
		client_serve(&cl[k], &c, "a killed caller");
		if (cl[k].err != -1)
			die("caller ended by itself: %s", err_name(cl[k].err));
		client_stop(&cl[k]);
		client_start(&cl[k], online_cpu(k));
		client_do(&cl[k], do_stat_loop, c.mnt, "f1", 0, 0);
	}
	for (i = 0; i < CALLERS; i++) {
		kill(cl[i].pid, SIGKILL);
		client_serve(&cl[i], &c, "a killed caller");
		client_stop(&cl[i]);
	}
	wait_idle(&c);
	client_do(&watch, do_stat, c.mnt, "f2", 0, 0);
	client_serve(&watch, &c, "a caller after all the kills");
	say("%d callers killed at random moments; another one: %s", rounds + CALLERS,
	    err_name(watch.err));
	client_stop(&watch);
	show_umount(&c, 0);
	show_gone(&c);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

const struct command life_commands[] = {
	{ "abort", abort_busy, "abort with requests everywhere" },
	{ "umount-idle", umount_idle, "unmount with idle entries" },
	{ "umount-busy", umount_busy, "unmount with an open file, then lazily" },
	{ "umount-force", umount_force, "unmount by force with requests in flight" },
	{ "mounts", mounts, "mount and unmount again and again ([rounds])" },
	{ "death-idle", death_idle, "an idle server killed" },
	{ "death", death, "server killed with callers inside ([unready])" },
	{ "death-race", death_race, "server killed and unmounted at once ([rounds])" },
	{ "thread-exit", thread_exit, "thread with all entries ends" },
	{ "ring-closed", ring_closed, "ring closed under idle entries" },
	{ "fork", fork_server, "server forks" },
	{ "race-first", race_first, "many first REGISTERs at once ([rounds [abort]])" },
	{ "race-ready", race_ready, "callers from before INIT until ready ([rounds])" },
	{ "guess", guess, "guessed commit ids beside traffic ([stats])" },
	{ "kill-callers", kill_callers, "callers killed at random ([rounds])" },
	{}
};
