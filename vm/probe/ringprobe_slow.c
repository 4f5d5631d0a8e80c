// SPDX-License-Identifier: GPL-2.0-only
/*
 * ringprobe: memory that takes its time. A page of it is there when a file system of its
 * own, which is served here too, has answered: a copy stands still until then, and meanwhile
 * anything can be done.
 */
#include "ringprobe.h"

#include <sys/mman.h>
#include <sys/stat.h>

enum { PAGE = 4096 };

static void *slow_main(void *arg)
{
	struct slow *s = arg;
	bool done = false;
	struct req *q;

	while (!s->stop) {
		q = try_req(&s->c, 20);
		if (!q)
			continue;
		if (q->h.opcode == FUSE_READ && !done) {
			done = true;
			s->meanwhile(s->arg);
		}
		answer(q);
	}
	return NULL;
}

void slow_start(struct slow *s, void (*meanwhile)(void *arg), void *arg)
{
	memset(s, 0, sizeof(*s));
	if (mkdir("slow", 0755) && errno != EEXIST)
		die("mkdir: %s", err_name(errno));
	conn_mount_at(&s->c, "slow");
	conn_init(&s->c, &(struct init_opts){ .no_ring = true });
	s->c.data = calloc(1, FILE_SIZE);
	if (!s->c.data)
		die("out of memory");
	s->meanwhile = meanwhile;
	s->arg = arg;
	if (pthread_create(&s->thread, NULL, slow_main, s))
		die("thread");
	s->fd = open("slow/f1", O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		die("slow/f1: %s", err_name(errno));
}

void slow_page(struct slow *s, void *at, size_t len)
{
	memcpy(s->c.data, at, len);
	slow_map(s, at, PAGE);
}

void slow_map(struct slow *s, void *at, size_t len)
{
	if (mmap(at, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, s->fd, 0) == MAP_FAILED)
		die("mmap: %s", err_name(errno));
	s->at = at;
	s->len = len;
}

void slow_end(struct slow *s)
{
	/* a mapping keeps the file, and so the mount, busy */
	if (mmap(s->at, s->len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		 -1, 0) == MAP_FAILED)
		die("mmap: %s", err_name(errno));
	close(s->fd);
	s->stop = true;
	pthread_join(s->thread, NULL);
	/* nobody serves any more: RELEASE is not waited for */
	conn_abort(&s->c);
	conn_close(&s->c);
}
