// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: replies to reads that transfers write to, and replies in sections. */
#include "krpcprobe.h"

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static uint64_t next_xid = 1;

/* Have part of a read filled, by one message, and wait until that is done */
static void place(struct node *n, struct req *q, uint32_t offset, uint32_t len)
{
	struct pcs_krpc_recv r;
	uint64_t xid = next_xid++;
	int err = ep_send_zc(n, xid, q, offset, len);

	if (err)
		die("claim of %u bytes at %u: %s", len, offset, err_name(err));
	node_data(n, node_take(n), read_in(q)->offset + offset, len);
	ep_wait(n, &r);
	if (r.res != (int)len)
		die("message %llu ended with %d", (unsigned long long)xid, r.res);
}

static struct pcs_krpczc_chunk in_place(uint32_t offset, uint32_t len)
{
	return (struct pcs_krpczc_chunk){ .offset = offset, .len = len };
}

static struct pcs_krpczc_chunk copied(const void *p, uint32_t offset, uint32_t len)
{
	return (struct pcs_krpczc_chunk){ .addr = (uintptr_t)p, .offset = offset, .len = len };
}

/* ------------------------------------------------------------- reply while claimed -- */

static int reply_busy(int argc, char **argv)
{
	enum { TOTAL = 16 * PAGE };
	struct pcs_krpczc_chunk all = in_place(0, TOTAL);
	uint8_t head[PCS_KRPC_MAX_HEADER], *data = malloc(TOTAL);
	struct stage s;
	struct node n, m;
	struct req *q;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	node_open(&m, &s.c, &full_framing, 0);
	q = claimable(&s, 0, TOTAL);
	fill_pattern(data, TOTAL, 0);

	say("claim: %s", err_name(ep_send_zc(&n, 1, q, 0, TOTAL)));
	say("ordinary reply: %s", err_name(try_reply(q, 0, data, TOTAL)));
	say("error: %s", err_name(try_reply(q, -EIO, NULL, 0)));
	say("sections: %s", err_name(try_chunks(q, &all, 1)));
	node_take(&n);
	node_write(&n, head, node_head(&n, head, 1, 0, TOTAL));
	node_write(&n, data, TOTAL / 2);
	wait_bytes(&n, TOTAL / 2);
	say("half of it there: sections: %s", err_name(try_chunks(q, &all, 1)));
	say("half of it there: error: %s", err_name(try_reply(q, -EIO, NULL, 0)));
	say("the application waits: %s", yes(!client_done(&s.cl[0])));
	node_write(&n, data + TOTAL / 2, TOTAL / 2);
	end_say(&n, "all there");
	say("sections: %s", err_name(try_chunks(q, &all, 1)));
	put_req(q);
	app_say(&s, 0, "read");
	say("data right: %s", yes(right(0, TOTAL, 0)));

	poison();
	q = claimable(&s, 0, TOTAL);
	say("claim by one endpoint: %s", err_name(ep_send_zc(&n, 2, q, 0, PAGE)));
	say("claim by another: %s", err_name(ep_send_zc(&m, 3, q, PAGE, PAGE)));
	node_data(&n, node_take(&n), 0, PAGE);
	end_say(&n, "the first");
	say("reply: %s", err_name(try_reply(q, 0, data, TOTAL)));
	say("abort of the other: %s", err_name(ep_abort(&m, 3)));
	end_say(&m, "it");
	say("reply: %s", err_name(try_reply(q, 0, data, TOTAL)));
	put_req(q);
	app_say(&s, 0, "read");
	say("data right: %s", yes(right(0, TOTAL, 0)));
	/* what is answered after that has no place */
	node_data(&m, node_take(&m), 100, PAGE);
	wait_bytes(&m, PAGE);
	say("drained: %llu", (unsigned long long)ep_stats(&m).bytes_drained);
	say("data right: %s", yes(right(0, TOTAL, 0)));
	free(data);
	node_close(&n);
	node_close(&m);
	stage_close(&s);
	return 0;
}

/* -------------------------------------------------------------------- bad sections -- */

static uint8_t *server_mem;	/* two pages, then one that is not there */

/* A read of 16 KiB of which the first half is in place; the reply, as bytes */
static void bad_reply(struct stage *s, struct node *n, const char *what, const void *reply,
		      size_t len)
{
	enum { TOTAL = 4 * PAGE };
	struct req *q;
	int err;

	poison();
	q = claimable(s, 0, TOTAL);
	place(n, q, 0, PAGE);
	place(n, q, PAGE, PAGE);
	err = try_reply(q, FUSE_OUT_KRPCZC, reply, len);
	put_req(q);
	app_end(s, 0);
	/* the ring has no other way to tell */
	if (s->ring)
		err = err ? -err : s->cl[0].err;
	else if (err && s->cl[0].err != EIO)
		say("%s: the application got %s", what, err_name(s->cl[0].err));
	say("%s: %s", what, err_name(err));
	if (!poisoned(2 * PAGE, APP_SIZE - 2 * PAGE))
		say("%s: something was written where nothing was claimed", what);
}

#define BAD(what, ...) do { \
		struct pcs_krpczc_chunk ch[] = { __VA_ARGS__ }; \
		bad_reply(&s, &n, what, ch, sizeof(ch)); \
	} while (0)

static int reply_bad(int argc, char **argv)
{
	struct pcs_krpczc_chunk half = in_place(0, 2 * PAGE);
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	server_mem = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			  0);
	if (server_mem == MAP_FAILED)
		die("out of memory");
	memset(server_mem, POISON, 2 * PAGE);
	munmap(server_mem + 2 * PAGE, PAGE);

	bad_reply(&s, &n, "no sections", &half, 0);
	bad_reply(&s, &n, "a byte less than a section", &half, sizeof(half) - 1);
	bad_reply(&s, &n, "one byte", &half, 1);
	BAD("a section of nothing", in_place(0, 0));
	BAD("a section of nothing from memory", copied(server_mem, 0, 0));
	BAD("one of nothing after a good one", in_place(0, PAGE), in_place(PAGE, 0));
	BAD("gap before the first", in_place(1, PAGE));
	BAD("gap before the second", in_place(0, PAGE), in_place(PAGE + 1, 10));
	BAD("overlap", in_place(0, PAGE), in_place(PAGE - 1, 10));
	BAD("the same again", in_place(0, PAGE), in_place(0, PAGE));
	BAD("not in order", in_place(PAGE, PAGE), in_place(0, PAGE));
	BAD("offset 2^32 - 1", in_place(~0u, PAGE));
	BAD("in place, a byte longer than the read", in_place(0, 4 * PAGE + 1));
	BAD("from memory, a byte longer than the read", copied(server_mem, 0, 4 * PAGE + 1));
	BAD("together a byte longer than the read", in_place(0, 2 * PAGE),
	    copied(server_mem, 2 * PAGE, 2 * PAGE), copied(server_mem, 4 * PAGE, 1));
	BAD("2^32 - 1 bytes", copied(server_mem, 0, ~0u));
	BAD("2^31 bytes", copied(server_mem, 0, 1u << 31));
	BAD("2^32 - 1 bytes after a good one", in_place(0, PAGE), copied(server_mem, PAGE, ~0u));
	BAD("in place, but only half of it", in_place(0, 4 * PAGE));
	BAD("in place, but for the last byte", in_place(0, 2 * PAGE + 1));
	BAD("the second is not in place", in_place(0, 2 * PAGE), in_place(2 * PAGE, 1));
	BAD("a copied one does not make it in place", copied(server_mem, 0, PAGE),
	    in_place(PAGE, PAGE + 1));
	BAD("at address 1", copied((void *)1, 0, PAGE));
	BAD("at no memory", copied(server_mem + 2 * PAGE, 0, PAGE));
	BAD("in the kernel", copied((void *)0xffff888000000000ull, 0, PAGE));
	BAD("at the end of everything", copied((void *)~0ull, 0, PAGE));
	BAD("memory that ends too early, first", copied(server_mem + PAGE, 0, PAGE + 1));
	BAD("memory that ends too early, second", in_place(0, PAGE),
	    copied(server_mem + PAGE, PAGE, PAGE + 1));
	{
		/* more sections than bytes */
		static struct pcs_krpczc_chunk many[4096];
		unsigned int i;

		for (i = 0; i < 4096; i++)
			many[i] = in_place(i * 3, i == 4095 ? 10000 : 3);
		bad_reply(&s, &n, "thousands of them, of which the later ones are not in place",
			  many, sizeof(many));
	}
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------- good sections -- */

static int reply_mixed(int argc, char **argv)
{
	/* a page less than can be: the direct one begins within a page */
	enum { TOTAL = 31 * PAGE };
	static const struct {
		uint32_t end;
		bool placed;
	} cuts[] = {
		{ 1, true }, { 2, false }, { 5000, true }, { 9000, false }, { 3 * PAGE, true },
		{ 4 * PAGE, false }, { 70001, true }, { 70002, true }, { 90000, false },
		{ 90001, false }, { 30 * PAGE - 1, true }, { TOTAL, false },
	};
	enum { CUTS = sizeof(cuts) / sizeof(cuts[0]) };
	struct pcs_krpczc_chunk ch[CUTS];
	int memory = memfd_create("sections", MFD_CLOEXEC);
	uint8_t *data = malloc(TOTAL), *map;
	unsigned int i, how;
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	if (memory < 0 || !data)
		die("out of memory");
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	for (how = 0; how < 4; how++) {
		bool direct = how % 2, end_first = how / 2;
		char what[64];
		struct req *q;
		uint32_t at = 0;

		poison();
		app_read(&s, 0, direct ? "f1" : how ? "f2" : "f3", 0, direct, "13:126976");
		q = next_read(&s);
		if (read_in(q)->size != TOTAL || read_in(q)->offset)
			die("a read of %u bytes at %llu", read_in(q)->size,
			    (unsigned long long)read_in(q)->offset);
		/*
		 * The data from an address that has nothing to do with the offset, in a mapping
		 * that has not been touched yet.
		 */
		fill_pattern(data, TOTAL, 0);
		map = mmap(NULL, TOTAL + PAGE, PROT_READ, MAP_SHARED, memory, 0);
		if (map == MAP_FAILED)
			die("out of memory");
		for (i = 0; i < CUTS; i++) {
			unsigned int k = end_first ? CUTS - 1 - i : i;
			uint32_t from = k ? cuts[k - 1].end : 0;

			if (cuts[k].placed)
				place(&n, q, from, cuts[k].end - from);
		}
		for (i = 0; i < CUTS; i++) {
			ch[i] = cuts[i].placed ? in_place(at, cuts[i].end - at) :
						 copied(map + 77 + at, at, cuts[i].end - at);
			at = cuts[i].end;
			/* what must be from the node must not be from here */
			if (cuts[i].placed)
				memset(data + ch[i].offset, POISON, ch[i].len);
		}
		if (pwrite(memory, data, TOTAL, 77) != TOTAL)
			die("out of memory");
		snprintf(what, sizeof(what), "%s, claimed %s", direct ? "direct" : "buffered",
			 end_first ? "from the end" : "in order");
		say("%s: %s", what, err_name(try_chunks(q, ch, CUTS)));
		put_req(q);
		munmap(map, TOTAL + PAGE);
		app_say(&s, 0, what);
		say("data right: %s, around it untouched: %s", yes(right(13, TOTAL, 0)),
		    yes(poisoned(0, 13) && poisoned(13 + TOTAL, PAGE)));
	}
	say("placed: %llu, copied: %llu", (unsigned long long)ep_stats(&n).bytes_placed,
	    (unsigned long long)ep_stats(&n).bytes_copied);
	node_close(&n);
	stage_close(&s);
	close(memory);
	free(data);
	return 0;
}

/*
 * a: bytes to read from the beginning, through the page cache. How many behind what there was
 * are not 0, as a mapping shows them? In b: how many were looked at.
 */
static int do_read_and_look(struct job *j)
{
	int fd = open(j->path, O_RDONLY);
	uint8_t *map;
	long i, end;

	if (fd < 0)
		return errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	j->ret = pread(fd, app, j->a, 0);
	if (j->ret <= 0)
		return errno;
	/* no name is looked up meanwhile: the server would say how long the file really is */
	end = (j->ret + PAGE - 1) / PAGE * PAGE;
	map = mmap(NULL, end, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return errno;
	j->b = 0;
	for (i = j->ret; i < end; i++)
		j->b += map[i] != 0;
	munmap(map, end);
	close(fd);
	return 0;
}

/* Shorter than what was asked for, in pages that are full of other things */
static int reply_short(int argc, char **argv)
{
	enum { TOTAL = 4 * PAGE };
	static const uint32_t shorts[] = { 1, PAGE - 1, PAGE, PAGE + 1, 10000, TOTAL - 1 };
	uint8_t head[PCS_KRPC_MAX_HEADER], *junk = malloc(TOTAL);
	unsigned int i, how;
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	memset(junk, 0xdd, TOTAL);
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	for (how = 0; how < 2 * sizeof(shorts) / sizeof(shorts[0]); how++) {
		uint32_t len = shorts[how / 2];
		bool direct = how % 2;
		struct pcs_krpczc_chunk ch[2];
		struct req *q;
		char name[16];
		uint64_t xid;

		poison();
		/* else what is missing would be read another time, into the cache */
		s.c.open_flags = direct ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE;
		snprintf(name, sizeof(name), "f%u", how);
		if (direct)
			app_read(&s, 0, name, 0, true, "0:16384");
		else
			client_do(&s.cl[0], do_read_and_look, s.c.mnt, name, TOTAL, 0);
		q = next_read(&s);
		if (read_in(q)->size != TOTAL)
			die("a read of %u bytes", read_in(q)->size);
		/* all of it is filled with what is not to be seen: only the beginning is right */
		xid = next_xid++;
		if (ep_send_zc(&n, xid, q, 0, TOTAL))
			die("cannot claim the read");
		node_take(&n);
		fill_pattern(junk, len, 0);
		node_write(&n, head, node_head(&n, head, xid, 0, TOTAL));
		node_write(&n, junk, TOTAL);
		if (end_of(&n, NULL) != TOTAL)
			die("the transfer did not succeed");
		memset(junk, 0xdd, TOTAL);
		ch[0] = in_place(0, len / 2 + 1);
		ch[1] = in_place(len / 2 + 1, len - len / 2 - 1);
		i = try_chunks(q, ch, ch[1].len ? 2 : 1);
		put_req(q);
		app_end(&s, 0);
		say("%u bytes, %s: %s, the application read %ld bytes, right: %s", len,
		    direct ? "direct" : "buffered", err_name(i), s.cl[0].done.ret,
		    yes(right(0, len, 0)));
		/* a direct reader's own memory is what the transfer wrote to */
		if (direct)
			continue;
		if (!poisoned(len, APP_SIZE - len))
			say("something behind them");
		if (s.cl[0].done.b)
			say("in the page cache behind them: %ld bytes that are not 0",
			    s.cl[0].done.b);
	}
	free(junk);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------------- refused -- */

static void refused(struct stage *s, struct req *q, const char *what, int32_t error)
{
	static uint8_t data[64];
	struct pcs_krpczc_chunk ch = copied(data, 0, sizeof(data));
	/* an error has nothing behind it: one that is believed to be one would succeed */
	int err = try_reply(q, error, &ch, error == FUSE_OUT_KRPCZC ? sizeof(ch) : 0);

	/* over the ring, the request is used up */
	if (s->ring) {
		put_req(q);
		app_end(s, 0);
		say("%s: %s", what, err_name(err ? err : s->cl[0].err));
		return;
	}
	say("%s: %s", what, err_name(err));
	/* of /dev/fuse, it may still be there */
	if (try_reply(q, -EINVAL, NULL, 0) && err != EINVAL)
		say("%s: the request is gone", what);
	put_req(q);
	app_end(s, 0);
	if (!s->cl[0].err)
		say("%s: the application got no error", what);
}

static struct req *next_stat(struct stage *s)
{
	struct req *q;

	client_do(&s->cl[0], do_stat, s->c.mnt, "f1", 0, 0);
	do {
		q = next_req(&s->c, "GETATTR");
		if (q->h.opcode != FUSE_GETATTR)
			answer(q);
	} while (q->h.opcode != FUSE_GETATTR);
	return q;
}

#define INTERRUPT 1ULL	/* in the unique of a reply: to an INTERRUPT about the request */

/* What the server says of an INTERRUPT, always by /dev/fuse, about a request that it has */
static void interrupt_reply(struct stage *s, struct req *q, const char *what, int32_t error)
{
	struct fuse_out_header h = { .len = sizeof(h), .error = error,
				     .unique = q->h.unique | INTERRUPT };

	say("%s: %s", what, err_name(write(s->c.fd, &h, sizeof(h)) < 0 ? errno : 0));
}

static int reply_refused(int argc, char **argv)
{
	struct stage s;
	struct node n;
	struct req *q;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	refused(&s, claimable(&s, 0, PAGE), "sections, and no endpoint", FUSE_OUT_KRPCZC);
	refused(&s, claimable(&s, 0, PAGE), "splices, and no endpoint", FUSE_OUT_SPLICES);
	node_open(&n, &s.c, &full_framing, 0);
	refused(&s, claimable(&s, 0, PAGE), "splices", FUSE_OUT_SPLICES);
	refused(&s, claimable(&s, 0, PAGE), "one more than sections", FUSE_OUT_KRPCZC + 1);
	refused(&s, claimable(&s, 0, PAGE), "error 1", 1);
	refused(&s, claimable(&s, 0, PAGE), "the largest error", INT32_MAX);
	refused(&s, next_stat(&s), "sections for GETATTR", FUSE_OUT_KRPCZC);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f77", 0, 0);
	refused(&s, next_req(&s.c, "LOOKUP"), "sections for LOOKUP", FUSE_OUT_KRPCZC);
	s.c.open_flags = 0;
	client_do(&s.cl[0], do_write, s.c.mnt, "f2", 0, PAGE);
	do {
		q = next_req(&s.c, "WRITE");
		if (q->h.opcode != FUSE_WRITE)
			answer(q);
	} while (q->h.opcode != FUSE_WRITE);
	refused(&s, q, "sections for WRITE", FUSE_OUT_KRPCZC);
	q = claimable(&s, 0, PAGE);
	interrupt_reply(&s, q, "an interrupt, in sections", FUSE_OUT_KRPCZC);
	interrupt_reply(&s, q, "an interrupt, as there are", 0);
	end_read(q);
	app_end(&s, 0);
	/* what has been an endpoint's connection remains one */
	node_close(&n);
	q = claimable(&s, 0, 64);
	{
		static uint8_t data[64];
		struct pcs_krpczc_chunk ch = copied(data, 0, sizeof(data));

		fill_pattern(data, sizeof(data), 0);
		say("sections after the endpoint's end: %s", err_name(try_chunks(q, &ch, 1)));
	}
	put_req(q);
	app_say(&s, 0, "read");
	say("data right: %s", yes(right(0, 64, 0)));
	stage_close(&s);
	return 0;
}

/* ---------------------------------------------------------- memory on the same mount -- */

/* The file that a client holds open on the mount, as a descriptor of ours */
static int take_file(struct stage *s, struct client *cl)
{
	char path[64], at[PATH_MAX];
	int pidfd, fd = -1;
	struct dirent *d;
	ssize_t n;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", cl->pid);
	dir = opendir(path);
	pidfd = syscall(SYS_pidfd_open, cl->pid, 0);
	while (dir && fd < 0 && (d = readdir(dir))) {
		n = readlinkat(dirfd(dir), d->d_name, at, sizeof(at) - 1);
		if (n < 0)
			continue;
		at[n] = 0;
		if (!strncmp(at, s->c.mnt, strlen(s->c.mnt)))
			fd = syscall(SYS_pidfd_getfd, pidfd, atoi(d->d_name), 0);
	}
	if (dir)
		closedir(dir);
	close(pidfd);
	if (fd < 0)
		die("cannot take the application's file");
	return fd;
}

/* A file of the mount that client I is to hold open, mapped; FD is ours to close */
static uint8_t *map_own(struct stage *s, unsigned int i, int *fd)
{
	uint8_t *map;

	client_do(&s->cl[i], do_hold_open, s->c.mnt, "f9", 0, 0);
	app_end(s, i);
	*fd = take_file(s, &s->cl[i]);
	map = mmap(NULL, FILE_SIZE, PROT_READ, MAP_SHARED, *fd, 0);
	if (map == MAP_FAILED)
		die("mmap: %s", err_name(errno));
	return map;
}

static void *serve_one_read(void *arg)
{
	end_read(next_read(arg));
	return NULL;
}

/* a: number of the connection; aborts it when b requests are on their way */
static int do_abort(struct job *j)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	struct conn c = { .number = j->a };

	while (conn_file(&c, "waiting") < j->b && now_ms() < end)
		nap_ms(1);
	/* ... and wait for what cannot be seen: the server's own fault */
	nap_ms(100);
	conn_abort(&c);
	return 0;
}

/*
 * The section is in a mapping of the file system that the reply is for: of another part of it,
 * or of the very page that is being read, which is locked until then.
 */
static void self_round(bool same)
{
	enum { TOTAL = 2 * PAGE };
	struct pcs_krpczc_chunk ch;
	struct job j = {};
	struct stage s;
	struct node n;
	struct req *q;
	pthread_t thread;
	uint8_t *map;
	int fd, err;

	say("memory is %s:", same ? "the page that is read" : "of the same mount");
	stage_open(&s, 3, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	map = map_own(&s, 1, &fd);
	/* a thread of its own can serve the fault; over the ring, that one is the same task's */
	if (!s.ring && !same) {
		q = claimable(&s, 0, TOTAL);
		place(&n, q, 0, PAGE);
		ch = copied(map + 5 * PAGE, PAGE, PAGE);
		if (pthread_create(&thread, NULL, serve_one_read, &s))
			die("no thread");
		err = try_reply(q, FUSE_OUT_KRPCZC,
				(struct pcs_krpczc_chunk[]){ in_place(0, PAGE), ch },
				2 * sizeof(ch));
		pthread_join(thread, NULL);
		if (err)
			say("served by another thread: %s", err_name(err));
		put_req(q);
		app_end(&s, 0);
		if (s.cl[0].err || s.cl[0].done.ret != TOTAL || !right(0, PAGE, 0) ||
		    !right(PAGE, PAGE, 5 * PAGE))
			say("the application got %s, %ld bytes, or not the right ones",
			    err_name(s.cl[0].err), s.cl[0].done.ret);
	}
	/* nobody serves it: only an abort helps, and that must */
	poison();
	if (same)
		app_read(&s, 0, "f9", 50 * PAGE, false, "0:8192");
	else
		app_read(&s, 0, "f1", 0, true, "0:8192");
	q = next_read(&s);
	if (read_in(q)->size < TOTAL)
		die("a read of %u bytes", read_in(q)->size);
	place(&n, q, 0, PAGE);
	/* who waits for the page makes no request */
	j.run = do_abort, j.a = s.c.number, j.b = same ? 1 : 2;
	client_send(&s.cl[2], &j);
	ch = copied(map + (same ? 51 : 50) * PAGE, PAGE, PAGE);
	err = try_reply(q, FUSE_OUT_KRPCZC,
			(struct pcs_krpczc_chunk[]){ in_place(0, PAGE), ch }, 2 * sizeof(ch));
	say("nobody serves the fault, the connection is aborted: the reply returned: %s",
	    err || s.ring ? "yes" : "with success");
	put_req(q);
	client_wait(&s.cl[0], "the application");
	say("the application got an error: %s", yes(s.cl[0].err));
	client_wait(&s.cl[2], "who aborts");
	munmap(map, FILE_SIZE);
	close(fd);
	client_stop(&s.cl[0]);
	client_stop(&s.cl[1]);
	client_stop(&s.cl[2]);
	node_close(&n);
	say("unmount: %s", err_name(conn_umount(&s.c, 0)));
	conn_close(&s.c);
	if (s.ring)
		ring_close(&s.r);
	say("connection listed under fusectl: %s", yes(conn_listed(s.c.number)));
}

static int reply_self(int argc, char **argv)
{
	(void)argc, (void)argv;
	self_round(false);
	self_round(true);
	return 0;
}

struct closer {
	struct stage *s;
	struct node *n;
};

/* Brings what a section is in, but closes the endpoint before */
static void *close_and_serve(void *arg)
{
	struct closer *cr = arg;
	struct req *q = next_read(cr->s);

	node_close(cr->n);
	/* a worker forgets the messages; nothing tells when that is done */
	nap_ms(300);
	end_read(q);
	return NULL;
}

static atomic_bool file_closed;

static void *close_file(void *arg)
{
	close(*(int *)arg);
	atomic_store(&file_closed, true);
	return NULL;
}

/*
 * The endpoint is closed, with completions that nobody has been told of, just while a reply
 * makes use of what its messages have put in place.
 */
static int reply_close(int argc, char **argv)
{
	enum { TOTAL = 8 * PAGE };
	struct pcs_krpczc_chunk ch[8];
	struct closer cr;
	struct stage s;
	struct node n;
	struct req *q;
	pthread_t thread;
	uint64_t unique;
	uint8_t *map;
	int fd, err, i;

	(void)argc, (void)argv;
	stage_open(&s, 2, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	map = map_own(&s, 1, &fd);
	q = claimable(&s, 0, TOTAL);
	unique = q->h.unique;
	for (i = 0; i < 8; i++) {
		ch[i] = in_place(i * PAGE, PAGE);
		if (i == 1) {
			ch[i].addr = (uintptr_t)map + PAGE;
			continue;
		}
		if (ep_send_zc(&n, next_xid, q, i * PAGE, PAGE))
			die("cannot claim");
		node_take(&n);
		node_data(&n, next_xid++, i * PAGE, PAGE);
	}
	wait_bytes(&n, TOTAL - PAGE);
	cr = (struct closer){ &s, &n };
	if (pthread_create(&thread, NULL, close_and_serve, &cr))
		die("no thread");
	err = try_chunks(q, ch, 8);
	pthread_join(thread, NULL);
	put_req(q);
	app_end(&s, 0);
	/* either is right, as long as it's true */
	if (err ? err != EIO || s.cl[0].err != EIO : s.cl[0].err || !right(0, TOTAL, 0))
		say("reply to %llu: %s, the application got %s", (unsigned long long)unique,
		    err_name(err), err_name(s.cl[0].err));
	say("the reply and the application have ended");
	munmap(map, FILE_SIZE);
	/* that is a FLUSH, to be answered here */
	atomic_store(&file_closed, false);
	if (pthread_create(&thread, NULL, close_file, &fd))
		die("no thread");
	while (!atomic_load(&file_closed))
		if ((q = try_req(&s.c, 10)))
			answer(q);
	pthread_join(thread, NULL);
	client_do(&s.cl[1], do_close, s.c.mnt, "", 0, 0);
	app_end(&s, 1);
	stage_close(&s);
	return 0;
}

const struct command reply_commands[] = {
	{ "reply-busy", reply_busy, "replies while a transfer is under way" },
	{ "reply-bad", reply_bad, "sections that cannot be" },
	{ "reply-mixed", reply_mixed, "sections in place and in memory" },
	{ "reply-short", reply_short, "less than was asked for" },
	{ "reply-refused", reply_refused, "sections where there can be none" },
	{ "reply-close", reply_close, "the endpoint is closed during a reply" },
	{ "reply-self", reply_self, "sections in memory that the server itself has to bring" },
	{}
};
