// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: client processes and the jobs they do on the mounted filesystem. */
#include "ringprobe.h"

#include <linux/aio_abi.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void on_interrupt(int sig)
{
	(void)sig;
}

uint32_t checksum(const void *p, size_t n)
{
	const uint8_t *s = p;
	uint32_t a = 1, b = 0;

	while (n--) {
		a += *s++;
		b += a;
	}
	return b << 16 ^ b >> 16 ^ a;
}

/*
 * A client is forked before the server opens anything: it must hold neither the
 * /dev/fuse descriptor nor the ring, or the server's death would go unnoticed.
 */
void client_start(struct client *cl, int cpu)
{
	struct sigaction sa = { .sa_handler = on_interrupt };	/* no SA_RESTART */
	int s[2];

	memset(cl, 0, sizeof(*cl));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s))
		die("socketpair: %s", err_name(errno));
	fflush(stdout);
	cl->pid = fork();
	if (cl->pid < 0)
		die("fork: %s", err_name(errno));
	if (!cl->pid) {
		struct job j;

		if (s[1] > 3)
			close_range(3, s[1] - 1, 0);
		close_range(s[1] + 1, ~0u, 0);
		sigaction(SIGINT, &sa, NULL);
		alarm(0);
		if (cpu >= 0)
			pin(cpu);
		for (;;) {
			ssize_t n = recv(s[1], &j, sizeof(j), 0);

			if (n < 0 && errno == EINTR)
				continue;
			if (n != sizeof(j))
				_exit(0);
			j.ret = 0;
			errno = j.run(&j);
			j.a = errno;
			if (send(s[1], &j, sizeof(j), MSG_NOSIGNAL) != sizeof(j))
				_exit(0);
		}
	}
	close(s[1]);
	cl->sock = s[0];
}

void client_send(struct client *cl, const struct job *j)
{
	if (cl->busy)
		die("client is busy");
	if (send(cl->sock, j, sizeof(*j), MSG_NOSIGNAL) != sizeof(*j))
		die("client is gone");
	cl->busy = true;
}

void client_do(struct client *cl, int (*run)(struct job *j), const char *mnt,
	       const char *name, long a, long b)
{
	struct job j = { .run = run, .a = a, .b = b };

	snprintf(j.path, sizeof(j.path), "%s/%s", mnt, name);
	snprintf(j.path2, sizeof(j.path2), "%s", mnt);
	client_send(cl, &j);
}

bool client_done(struct client *cl)
{
	ssize_t n;

	if (!cl->busy)
		return true;
	n = recv(cl->sock, &cl->done, sizeof(cl->done), MSG_DONTWAIT);
	if (n < 0)
		return false;
	cl->busy = false;
	cl->err = cl->done.a;
	if (n != sizeof(cl->done)) {
		cl->err = -1;	/* killed */
		waitpid(cl->pid, NULL, 0);
		cl->pid = 0;
	}
	return true;
}

void client_wait(struct client *cl, const char *what)
{
	struct pollfd p = { .fd = cl->sock, .events = POLLIN };

	if (cl->busy)
		poll(&p, 1, LIMIT * 1000);
	if (!client_done(cl))
		die("waited %d s in vain for %s", LIMIT, what);
}

void client_serve(struct client *cl, struct conn *c, const char *what)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	struct req *q;

	watch_client(cl);
	while (!client_done(cl)) {
		if (now_ms() > end)
			die("waited %d s in vain for %s", LIMIT, what);
		q = try_req(c, 1000);
		if (q)
			answer(q);
	}
	watch_client(NULL);
}

const char *fresh_name(void)
{
	static char name[16];
	static unsigned int n;

	snprintf(name, sizeof(name), "f%u", 100 + n++);
	return name;
}

void show_path(struct conn *c, struct client *cl, const char *when)
{
	unsigned int ring = c->ring_requests, dev = c->dev_ordinary;

	client_do(cl, do_stat, c->mnt, fresh_name(), 0, 0);
	client_serve(cl, c, "stat");
	ring = c->ring_requests - ring;
	dev = c->dev_ordinary - dev;
	say("%s: stat: %s, over %s", when, err_name(cl->err),
	    ring && !dev ? "the ring" : dev && !ring ? "/dev/fuse" : "both or none");
}

void client_stop(struct client *cl)
{
	if (cl->pid) {
		kill(cl->pid, SIGKILL);
		waitpid(cl->pid, NULL, 0);
	}
	close(cl->sock);
	cl->pid = 0;
}

void client_blocked(struct client *cl)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	char path[64], state = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", cl->pid);
	while (state != 'D') {
		if (now_ms() > end)
			die("waited %d s in vain for the client to block (state %c)",
			    LIMIT, state);
		f = fopen(path, "re");
		if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
			die("client is gone");
		fclose(f);
		if (state != 'D')
			nap_ms(1);
	}
}

/* ------------------------------------------------------------------- jobs */

int do_stat(struct job *j)
{
	struct stat st;

	if (lstat(j->path, &st))
		return errno;
	j->ret = st.st_size;
	return 0;
}

static int read_file(struct job *j, int flags)
{
	void *buf;
	int fd, err = 0;

	if (posix_memalign(&buf, 4096, j->b))
		return ENOMEM;
	fd = open(j->path, O_RDONLY | flags);
	if (fd < 0)
		return errno;
	j->ret = pread(fd, buf, j->b, j->a);
	if (j->ret < 0)
		err = errno;
	else
		j->sum = checksum(buf, j->ret);
	close(fd);
	free(buf);
	return err;
}

/* a: offset, b: length */
int do_read(struct job *j)
{
	return read_file(j, 0);
}

/* As do_read, past the page cache: a request of its own for each caller. */
int do_direct_read(struct job *j)
{
	return read_file(j, O_DIRECT);
}

/* a: offset, b: length; written through to the server before it returns */
int do_write(struct job *j)
{
	uint8_t *buf = malloc(j->b);
	int fd, err = 0;

	fd = open(j->path, O_WRONLY);
	if (fd < 0 || !buf)
		return errno;
	fill_pattern(buf, j->b, j->a + 1);
	j->ret = pwrite(fd, buf, j->b, j->a);
	if (j->ret < 0 || fsync(fd))
		err = errno;
	close(fd);
	free(buf);
	return err;
}

/* One direct read by kernel AIO: split into many requests, all in the background. */
int do_aio_read(struct job *j)
{
	struct iocb cb = {}, *list = &cb;
	struct io_event ev;
	aio_context_t ctx = 0;
	void *buf;
	int fd, err = 0;

	if (posix_memalign(&buf, 4096, j->b))
		return ENOMEM;
	fd = open(j->path, O_RDONLY | O_DIRECT);
	if (fd < 0)
		return errno;
	cb.aio_fildes = fd;
	cb.aio_lio_opcode = IOCB_CMD_PREAD;
	cb.aio_buf = (uintptr_t)buf;
	cb.aio_nbytes = j->b;
	cb.aio_offset = j->a;
	if (syscall(SYS_io_setup, 1, &ctx) || syscall(SYS_io_submit, ctx, 1, &list) != 1 ||
	    syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL) != 1) {
		err = errno;
	} else if (ev.res < 0) {
		err = -ev.res;
	} else {
		j->ret = ev.res;
		j->sum = checksum(buf, j->ret);
	}
	syscall(SYS_io_destroy, ctx);
	close(fd);
	free(buf);
	return err;
}

static int held = -1;

int do_hold_open(struct job *j)
{
	held = open(j->path, O_RDWR);
	return held < 0 ? errno : 0;
}

int do_close(struct job *j)
{
	(void)j;
	return close(held) ? errno : 0;
}

int do_held_read(struct job *j)
{
	void *buf = malloc(j->b);
	int err;

	if (!buf)
		return ENOMEM;
	j->ret = pread(held, buf, j->b, j->a);
	err = j->ret < 0 ? errno : 0;
	if (!err)
		j->sum = checksum(buf, j->ret);
	free(buf);
	return err;
}

void others_start(struct others *o)
{
	unsigned int i;

	o->n = online_cpus() - 1;
	o->cl = calloc(o->n + 1, sizeof(*o->cl));
	o->held = calloc(o->n + 1, sizeof(struct req *));
	if (!o->cl || !o->held)
		die("out of memory");
	for (i = 0; i < o->n; i++)
		client_start(&o->cl[i], i + 1);
}

void others_hold(struct others *o, struct conn *c)
{
	char name[16];
	unsigned int i;

	for (i = 0; i < o->n; i++) {
		snprintf(name, sizeof(name), "other%u", i);
		client_do(&o->cl[i], do_stat, c->mnt, name, 0, 0);
		o->held[i] = next_req(c, "a request from another CPU");
		if (!o->held[i]->e || o->held[i]->e->qid == 0)
			die("a request from CPU %u is not in a queue of its own", i + 1);
	}
}

void others_release(struct others *o, struct conn *c)
{
	unsigned int i;

	for (i = 0; i < o->n; i++)
		reply(o->held[i], ENXIO, NULL, 0);
	for (i = 0; i < o->n; i++) {
		client_serve(&o->cl[i], c, "a caller on another CPU");
		client_stop(&o->cl[i]);
	}
	free(o->cl);
	free(o->held);
}
