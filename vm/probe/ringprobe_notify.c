// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: what a server writes to /dev/fuse about requests that came over the ring. */
#include "ringprobe.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int notify(struct conn *c, int code, const void *data, size_t size)
{
	struct fuse_out_header h = { .len = sizeof(h) + size, .error = code };
	struct iovec vec[] = { { &h, sizeof(h) }, { (void *)data, size } };

	return writev(c->fd, vec, 2) == (ssize_t)h.len ? 0 : errno;
}

static int reply_interrupt(struct conn *c, uint64_t unique, int error)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = error, .unique = unique | 1 };

	return write(c->fd, &h, sizeof(h)) == sizeof(h) ? 0 : errno;
}

static bool interrupted(struct conn *c, unsigned int n, int ms)
{
	uint64_t end = now_ms() + ms;

	while (c->interrupts < n && now_ms() < end)
		pump(c, 5);
	return c->interrupts >= n;
}

static int interrupt_reply(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	serve_setup(&c, &r, NULL, 1);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	q = next_req(&c, "LOOKUP");
	kill(cl.pid, SIGINT);
	if (!interrupted(&c, 1, LIMIT * 1000))
		die("no INTERRUPT");
	say("of another request: %s", err_name(reply_interrupt(&c, q->h.unique + 2, -EAGAIN)));
	say("not now: %s", err_name(reply_interrupt(&c, q->h.unique, -EAGAIN)));
	say("INTERRUPT comes again: %s", interrupted(&c, 2, LIMIT * 1000) ? "yes" : "no");
	reply(q, EINTR, NULL, 0);
	client_wait(&cl, "the interrupted caller");
	say("caller got %s", err_name(cl.err));
	say("after the reply: %s", err_name(reply_interrupt(&c, q->h.unique, -EAGAIN)));

	client_do(&cl, do_stat, c.mnt, "f2", 0, 0);
	q = next_req(&c, "LOOKUP");
	kill(cl.pid, SIGINT);
	if (!interrupted(&c, 3, LIMIT * 1000))
		die("no INTERRUPT");
	say("not supported: %s", err_name(reply_interrupt(&c, q->h.unique, -ENOSYS)));
	answer(q);
	client_serve(&cl, &c, "the caller");
	client_do(&cl, do_stat, c.mnt, "f3", 0, 0);
	q = next_req(&c, "LOOKUP");
	kill(cl.pid, SIGINT);
	say("INTERRUPT comes after that: %s", interrupted(&c, 4, QUIET_MS) ? "yes" : "no");
	answer(q);
	client_serve(&cl, &c, "the last caller");
	say("caller got %s", err_name(cl.err));
	wait_idle(&c);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

static int retrieve(int argc, char **argv)
{
	struct fuse_notify_retrieve_out out = { .notify_unique = 12346, .nodeid = 1 };
	struct conn c;
	struct ring r;
	struct req *q;

	(void)argc, (void)argv;
	/* only files have data to retrieve, and before the ring only the root is known */
	close(open("file", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
	conn_mount_at(&c, "file");
	conn_init(&c, NULL);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	/* by the thread that has the ring to fill yet: it must not wait for that */
	say("before the ring is ready: %s",
	    err_name(notify(&c, NOTIFY_RETRIEVE, &out, sizeof(out))));
	conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
	q = next_req(&c, "NOTIFY_REPLY");
	say("%s over %s, unique as given: %s", op_name(q->h.opcode), q->e ? "the ring" : "/dev/fuse",
	    q->h.unique == 12346 ? "yes" : "no");
	put_req(q);
	say("with the ring: %s", err_name(notify(&c, NOTIFY_RETRIEVE, &out, sizeof(out))));
	q = next_req(&c, "NOTIFY_REPLY");
	say("%s over %s", op_name(q->h.opcode), q->e ? "the ring" : "/dev/fuse");
	put_req(q);
	wait_idle(&c);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* All entries hold a request and one more waits; then the server wants them all again. */
static int resend(int argc, char **argv)
{
	struct others others;
	struct client a, b;
	struct conn c;
	struct ring r;
	struct req *q, *first;
	struct req **again;
	unsigned int resent = 0, fresh = 0, i, n;
	uint64_t id;
	int tag;

	(void)argc, (void)argv;
	client_start(&a, 0);
	client_start(&b, 0);
	others_start(&others);
	serve_setup(&c, &r, NULL, 1);
	client_do(&a, do_stat, c.mnt, "f1", 0, 0);
	first = next_req(&c, "LOOKUP");
	id = first->h.unique;
	others_hold(&others, &c);
	client_do(&b, do_stat, c.mnt, "f2", 0, 0);
	n = 2 + others.n;
	wait_waiting(&c, n);
	kill(a.pid, SIGINT);
	if (!interrupted(&c, 1, LIMIT * 1000))
		die("no INTERRUPT");
	again = calloc(n, sizeof(struct req *));
	if (!again)
		die("out of memory");
	say("RESEND: %s", err_name(notify(&c, NOTIFY_RESEND, NULL, 0)));
	for (i = 0; i < n; i++) {
		again[i] = next_req(&c, "a request that is sent again");
		if (again[i]->e)
			die("%s came over the ring", op_name(again[i]->h.opcode));
		resent += (again[i]->h.unique & RESENT) != 0;
		fresh += (again[i]->h.unique & RESENT) == 0;
	}
	say("over /dev/fuse, marked: %s, not marked: %u", resent == n - 1 ? "all but one" : "others",
	    fresh);
	say("anything else: %s", try_req(&c, QUIET_MS) ? "yes" : "no");
	for (i = 0; i < n; i++)
		answer(again[i]);
	free(again);
	ring_cmd(&r, c.fd, PROTO_RING_COMMIT_AND_FETCH, first->e->qid, id, &tag);
	i = ring_submit_one(&r, &tag);
	say("commit of what was sent again: %s", err_name(i));
	client_serve(&a, &c, "the first caller");
	client_serve(&b, &c, "the caller that waited");
	say("callers: %s, %s", a.err == EINTR ? "ok" : err_name(a.err), err_name(b.err));
	for (i = 0; i < others.n; i++)
		client_serve(&others.cl[i], &c, "a caller on another CPU");

	/* without entries all goes there; with new ones over the ring again */
	client_do(&b, do_stat, c.mnt, "f3", 0, 0);
	q = next_req(&c, "LOOKUP");
	say("next request over %s", q->e ? "the ring" : "/dev/fuse");
	answer(q);
	client_serve(&b, &c, "the caller without entries");
	free(c.ents);
	c.ents = NULL;
	c.nents = 0;
	conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
	client_do(&b, do_stat, c.mnt, "f4", 0, 0);
	q = next_req(&c, "LOOKUP");
	say("with new entries over %s", q->e ? "the ring" : "/dev/fuse");
	answer(q);
	client_serve(&b, &c, "the caller with new entries");
	wait_idle(&c);
	for (i = 0; i < others.n; i++)
		client_stop(&others.cl[i]);
	client_stop(&a);
	client_stop(&b);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* A thread that has all entries, and does not look at what they get. */
struct keeper {
	struct conn *c;
	pthread_barrier_t filled, leave;
};

static void *keep_entries(void *arg)
{
	struct keeper *k = arg;
	struct conn *c = k->c;
	struct ent *e;
	struct ring r;
	unsigned int qid;

	/* task work only when this thread asks for it, and it does not */
	ring_open(&r, 64, IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
		  IORING_SETUP_DEFER_TASKRUN);
	e = calloc(possible_cpus(), sizeof(*e));
	if (!e)
		die("out of memory");
	for (qid = 0; qid < possible_cpus(); qid++) {
		ent_setup(&e[qid], c, &r, qid, payload_size(c));
		ent_register(&e[qid]);
		ring_submit(&r);
	}
	pthread_barrier_wait(&k->filled);
	pthread_barrier_wait(&k->leave);
	ring_close(&r);
	return NULL;
}

/* It comes after the server's END, and is the last of the connection. */
static void serve_handed_over(struct client *cl, struct conn *c, const char *end,
			      const char *what)
{
	struct req *q = next_req(c, what);

	say("after its %s: %s over %s", end, op_name(q->h.opcode),
	    q->e ? "the ring" : "/dev/fuse");
	answer(q);
	client_serve(cl, c, "the caller");
	say("caller: %s", err_name(cl->err));
	wait_idle(c);
	client_stop(cl);
	conn_close(c);
}

static int hand_over(int argc, char **argv)
{
	struct keeper k;
	struct client cl;
	struct conn c;
	struct req *q;
	pthread_t thread;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	conn_mount(&c);
	conn_init(&c, NULL);
	k.c = &c;
	pthread_barrier_init(&k.filled, NULL, 2);
	pthread_barrier_init(&k.leave, NULL, 2);
	if (pthread_create(&thread, NULL, keep_entries, &k))
		die("cannot make a thread");
	pthread_barrier_wait(&k.filled);
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	wait_waiting(&c, 1);
	q = try_req(&c, QUIET_MS);
	say("while the thread has the entries: %s", q ? "delivered" : "waits");
	pthread_barrier_wait(&k.leave);
	pthread_join(thread, NULL);
	serve_handed_over(&cl, &c, "end", "what waited for an entry");
	return 0;
}

/*
 * An entry is told of a request while its server is where only a kill wakes it up, and
 * then that comes. On its way the server must not take what nobody would answer. We keep
 * the device open.
 */
static int hand_over_killed(int argc, char **argv)
{
	struct client cl;
	struct conn c;
	struct ring r;
	int ready[2];
	char byte;
	pid_t pid;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	conn_mount(&c);
	conn_init(&c, NULL);
	if (pipe2(ready, O_CLOEXEC))
		die("pipe: %s", err_name(errno));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork: %s", err_name(errno));
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		ring_open(&r, 64, IORING_SETUP_SQE128);
		conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
		if (!vfork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (write(ready[1], "r", 1) != 1)
				_exit(1);
			for (;;)
				pause();
		}
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("the server did not start");
	client_do(&cl, do_stat, c.mnt, "f1", 0, 0);
	wait_waiting(&c, 1);
	/* it is counted a moment before it is sent */
	nap_ms(QUIET_MS);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	serve_handed_over(&cl, &c, "death", "what was on its way to the server");
	return 0;
}

const struct command notify_commands[] = {
	{ "interrupt-reply", interrupt_reply, "replies to INTERRUPT for ring requests" },
	{ "retrieve", retrieve, "NOTIFY_RETRIEVE, also before the ring is ready" },
	{ "resend", resend, "NOTIFY_RESEND with requests on the ring" },
	{ "hand-over", hand_over, "requests of a ring that lost its entries" },
	{ "hand-over-killed", hand_over_killed, "requests on their way to a server that is killed" },
	{}
};
