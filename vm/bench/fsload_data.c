// SPDX-License-Identifier: GPL-2.0-only
/* fsload: reading and writing a file. */
#include "fsload.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As much of what was written is read again. */
enum { VERIFY_BYTES = 4 << 20 };

/* Where the operations go, the same places each time it is begun. */
struct walk {
	uint64_t blocks;
	uint64_t next;
	uint64_t random;
};

struct file {
	const struct load *l;
	int fd;
	uint64_t blocks;
	void **buffers;		/* one for each request under way */

	/* for several at once */
	aio_context_t context;
	struct iocb *cbs;
	struct iocb **batch;
	struct io_event *events;
};

static struct walk begin_walk(const struct file *f)
{
	return (struct walk){ .blocks = f->blocks, .random = 88172645463325252ull };
}

static uint64_t next_offset(struct walk *w, const struct load *l)
{
	uint64_t block;

	if (l->random) {
		/* xorshift: a handful of instructions, so that the load itself costs little */
		w->random ^= w->random << 13;
		w->random ^= w->random >> 7;
		w->random ^= w->random << 17;
		block = w->random % w->blocks;
	} else {
		block = w->next;
		w->next = block + 1 < w->blocks ? block + 1 : 0;
	}
	return block * l->size;
}

static void *aligned(size_t size)
{
	void *buffer;

	if (posix_memalign(&buffer, 4096, size))
		fail("no memory for %zu bytes", size);
	memset(buffer, 0, size);
	return buffer;
}

void run_prepare(const char *path, uint64_t bytes)
{
	enum { CHUNK = 1 << 20 };
	void *data = aligned(CHUNK);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	for (uint64_t offset = 0; offset < bytes; offset += CHUNK) {
		size_t size = bytes - offset < CHUNK ? bytes - offset : CHUNK;

		fill(data, size, offset, PREPARED);
		if (write(fd, data, size) != (ssize_t)size)
			fail("%s: %s", path, strerror(errno ? errno : ENOSPC));
	}
	if (close(fd))
		fail("%s: %s", path, strerror(errno));
	free(data);
}

static void check_result(const struct file *f, long long result, uint64_t offset)
{
	if (result < 0)
		fail("%s at offset %llu: %s", f->l->kind, (unsigned long long)offset,
		     strerror(-result));
	if (result != (long long)f->l->size)
		fail("%s at offset %llu: %lld bytes of %zu", f->l->kind,
		     (unsigned long long)offset, result, f->l->size);
}

static void one(const struct file *f, bool write, uint64_t offset)
{
	size_t size = f->l->size;
	ssize_t n = write ? pwrite(f->fd, f->buffers[0], size, offset) :
			    pread(f->fd, f->buffers[0], size, offset);

	check_result(f, n < 0 ? -errno : n, offset);
}

static void one_after_the_other(const struct file *f, struct walk *w, unsigned long count)
{
	for (unsigned long i = 0; i < count; i++)
		one(f, f->l->write, next_offset(w, f->l));
}

/* Made once: to destroy a context is to wait for the kernel's next ticks. */
static void begin_aio(struct file *f)
{
	unsigned int depth = f->l->depth;

	f->cbs = calloc(depth, sizeof(*f->cbs));
	f->batch = calloc(depth, sizeof(*f->batch));
	f->events = calloc(depth, sizeof(*f->events));
	if (!f->cbs || !f->batch || !f->events)
		fail("no memory");
	if (syscall(SYS_io_setup, depth, &f->context))
		fail("io_setup: %s", strerror(errno));
}

static void end_aio(struct file *f)
{
	syscall(SYS_io_destroy, f->context);
	free(f->events);
	free(f->batch);
	free(f->cbs);
}

static void submit(const struct file *f, struct walk *w, unsigned int n)
{
	const struct load *l = f->l;
	long got;

	for (unsigned int i = 0; i < n; i++) {
		*f->batch[i] = (struct iocb){
			.aio_lio_opcode = l->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = f->fd,
			.aio_buf = (uintptr_t)f->buffers[f->batch[i] - f->cbs],
			.aio_nbytes = l->size,
			.aio_offset = next_offset(w, l),
		};
	}
	for (unsigned int i = 0; i < n; i += got) {
		got = syscall(SYS_io_submit, f->context, n - i, f->batch + i);
		if (got <= 0)
			fail("io_submit: %s", strerror(got ? errno : EAGAIN));
	}
}

/* `depth` requests under way all the time; those done are replaced together. */
static void many_at_once(const struct file *f, struct walk *w, unsigned long count)
{
	unsigned long started = 0, done = 0;
	unsigned int ready;
	long got;

	for (ready = 0; ready < f->l->depth; ready++)
		f->batch[ready] = &f->cbs[ready];
	while (done < count) {
		unsigned int n = count - started < ready ? count - started : ready;

		submit(f, w, n);
		started += n;
		got = syscall(SYS_io_getevents, f->context, 1, f->l->depth, f->events, NULL);
		if (got < 0)
			fail("io_getevents: %s", strerror(errno));
		for (ready = 0; ready < got; ready++) {
			f->batch[ready] = (struct iocb *)(uintptr_t)f->events[ready].obj;
			check_result(f, f->events[ready].res, f->batch[ready]->aio_offset);
		}
		done += got;
	}
}

static void work(const struct file *f, struct walk *w, unsigned long count)
{
	if (f->l->depth > 1)
		many_at_once(f, w, count);
	else
		one_after_the_other(f, w, count);
}

/*
 * Outside of what is measured: blocks go the same way as before and are compared. For
 * writing each gets its own content first, all are written, then all are read.
 */
static uint64_t verify(const struct file *f)
{
	const struct load *l = f->l;
	unsigned long count = VERIFY_BYTES / l->size + 1;
	struct walk w = begin_walk(f);
	uint64_t offset;

	for (unsigned long i = 0; l->write && i < count; i++) {
		offset = next_offset(&w, l);
		fill(f->buffers[0], l->size, offset, WRITTEN);
		one(f, true, offset);
	}
	w = begin_walk(f);
	for (unsigned long i = 0; i < count; i++) {
		offset = next_offset(&w, l);
		memset(f->buffers[0], 0, l->size);
		one(f, false, offset);
		compare(f->buffers[0], l->size, offset, l->write ? WRITTEN : PREPARED);
	}
	return (uint64_t)count * l->size;
}

/* What the measured reads themselves have put into the buffers; all at once left theirs too. */
static uint64_t verify_buffers(const struct file *f, struct walk *w, unsigned long count)
{
	const struct load *l = f->l;
	uint64_t last = 0;

	if (l->write || l->depth > 1)
		return 0;
	while (count--)
		last = next_offset(w, l);
	compare(f->buffers[0], l->size, last, PREPARED);
	return l->size;
}

void run_data(const struct load *l)
{
	struct file f = { .l = l };
	struct walk w, again;
	uint64_t start, ns, verified;
	off_t bytes;

	f.fd = open(l->path, (l->write ? O_RDWR : O_RDONLY) | (l->direct ? O_DIRECT : 0));
	if (f.fd < 0)
		fail("%s: %s", l->path, strerror(errno));
	bytes = lseek(f.fd, 0, SEEK_END);
	f.blocks = bytes > 0 ? bytes / l->size : 0;
	if (!f.blocks)
		fail("%s has no %zu bytes", l->path, l->size);
	/* a second round would find everything in the page cache */
	if (!l->direct && !l->write && warm_up(l) + l->count > f.blocks)
		fail("%s is too short to be read only once", l->path);
	f.buffers = calloc(l->depth, sizeof(*f.buffers));
	if (!f.buffers)
		fail("no memory");
	for (unsigned int i = 0; i < l->depth; i++) {
		f.buffers[i] = aligned(l->size);
		if (l->write)
			fill(f.buffers[i], l->size, 0, WRITTEN);
	}
	if (l->depth > 1)
		begin_aio(&f);

	w = again = begin_walk(&f);
	work(&f, &w, warm_up(l));
	start = now_ns();
	work(&f, &w, l->count);
	ns = now_ns() - start;

	verified = verify_buffers(&f, &again, warm_up(l) + l->count);
	verified += verify(&f);
	if (l->depth > 1)
		end_aio(&f);
	if (close(f.fd))
		fail("%s: %s", l->path, strerror(errno));
	for (unsigned int i = 0; i < l->depth; i++)
		free(f.buffers[i]);
	free(f.buffers);
	say(l, ns, verified);
}
