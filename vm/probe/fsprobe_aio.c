// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: asynchronous I/O, by io_submit and by io_uring. */
#include "fsprobe.h"

#include <linux/aio_abi.h>
#include <liburing.h>
#include <sys/syscall.h>

enum { SLOTS = 16, SLOT = 8192 };

static void submit_all(aio_context_t ctx, struct iocb *cbs, int n)
{
	struct iocb *list[SLOTS];
	int i, done;

	for (i = 0; i < n; i++)
		list[i] = &cbs[i];
	for (done = 0; done < n; )
		done += OK(syscall(SYS_io_submit, ctx, n - done, list + done));
}

static void collect(aio_context_t ctx, int n, long want)
{
	struct io_event ev[SLOTS];
	bool seen[SLOTS] = { false };
	int i, got, done;

	for (done = 0; done < n; done += got) {
		got = OK(syscall(SYS_io_getevents, ctx, 1, n - done, ev, NULL));
		for (i = 0; i < got; i++) {
			if (ev[i].res != want)
				fail("slot %llu completed with %lld, expected %ld",
				     (unsigned long long)ev[i].data,
				     (long long)ev[i].res, want);
			TRUE(ev[i].data < SLOTS && !seen[ev[i].data]);
			seen[ev[i].data] = true;
		}
	}
}

static void aio_round(aio_context_t ctx, int flags, const char *what)
{
	int fd = OK(open("f", O_CREAT | O_RDWR | flags, 0644));
	char *out = pages(SLOTS * SLOT), *in = pages(SLOTS * SLOT);
	struct iocb cbs[SLOTS];
	int i;

	fill(out, SLOTS * SLOT, 0, flags ? 2 : 1);
	memset(cbs, 0, sizeof(cbs));
	for (i = 0; i < SLOTS; i++) {
		/* not in order */
		int slot = i * 7 % SLOTS;

		cbs[i].aio_data = slot;
		cbs[i].aio_lio_opcode = IOCB_CMD_PWRITE;
		cbs[i].aio_fildes = fd;
		cbs[i].aio_buf = (uintptr_t)(out + slot * SLOT);
		cbs[i].aio_nbytes = SLOT;
		cbs[i].aio_offset = slot * SLOT;
	}
	submit_all(ctx, cbs, SLOTS);
	collect(ctx, SLOTS, SLOT);
	EQ(size_of("f"), SLOTS * SLOT);
	for (i = 0; i < SLOTS; i++) {
		cbs[i].aio_lio_opcode = IOCB_CMD_PREAD;
		cbs[i].aio_buf = (uintptr_t)(in + cbs[i].aio_offset);
	}
	submit_all(ctx, cbs, SLOTS);
	collect(ctx, SLOTS, SLOT);
	same(what, 0, out, in, SLOTS * SLOT);

	/* one across the end, one beyond */
	cbs[0].aio_data = 0;
	cbs[0].aio_offset = SLOTS * SLOT - PAGE;
	submit_all(ctx, cbs, 1);
	collect(ctx, 1, PAGE);
	cbs[0].aio_offset = SLOTS * SLOT;
	submit_all(ctx, cbs, 1);
	collect(ctx, 1, 0);
	cbs[0].aio_lio_opcode = IOCB_CMD_FSYNC;
	cbs[0].aio_buf = cbs[0].aio_nbytes = cbs[0].aio_offset = 0;
	submit_all(ctx, cbs, 1);
	collect(ctx, 1, 0);
	is_backing("f", SLOTS * SLOT, flags ? 2 : 1);
	OK(close(fd));
	printf("%s: %d writes, %d reads, ends, fsync\n", what, SLOTS, SLOTS);
}

static void aio(int argc, char **argv)
{
	aio_context_t ctx = 0;

	(void)argc, (void)argv;
	OK(syscall(SYS_io_setup, SLOTS, &ctx));
	aio_round(ctx, 0, "buffered");
	aio_round(ctx, O_DIRECT, "direct");
	OK(syscall(SYS_io_destroy, ctx));
}

/* -------------------------------------------------------------- io_uring -- */

static long complete(struct io_uring *ring, uint64_t *data)
{
	struct io_uring_cqe *cqe;
	long res;
	int r;

	do
		r = io_uring_wait_cqe(ring, &cqe);
	while (r == -EINTR);
	if (r)
		fail("io_uring_wait_cqe: %s", errname(-r));
	res = cqe->res;
	*data = cqe->user_data;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static struct io_uring_sqe *new_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	TRUE(sqe);
	return sqe;
}

static void expect_all(struct io_uring *ring, int n, long want)
{
	bool seen[64] = { false };
	uint64_t data;
	long res;

	while (n--) {
		res = complete(ring, &data);
		if (res != want)
			fail("request %llu completed with %ld (%s), expected %ld",
			     (unsigned long long)data, res, errname(res < 0 ? -res : 0),
			     want);
		TRUE(data < 64 && !seen[data]);
		seen[data] = true;
	}
}

static void ring_round(struct io_uring *ring, int flags, unsigned int sqe_flags,
		       unsigned int tag, const char *what)
{
	int fd = OK(open("f", O_CREAT | O_RDWR | O_TRUNC | flags, 0644));
	char *out = pages(SLOTS * SLOT), *in = pages(SLOTS * SLOT);
	struct io_uring_sqe *sqe;
	int i, slot;

	fill(out, SLOTS * SLOT, 0, tag);
	for (i = 0; i < SLOTS; i++) {
		slot = i * 5 % SLOTS;
		sqe = new_sqe(ring);
		io_uring_prep_write(sqe, fd, out + slot * SLOT, SLOT, slot * SLOT);
		sqe->user_data = slot;
		sqe->flags |= sqe_flags;
	}
	EQ(io_uring_submit(ring), SLOTS);
	expect_all(ring, SLOTS, SLOT);
	is_file("f", SLOTS * SLOT, tag);
	for (i = 0; i < SLOTS; i++) {
		slot = i * 3 % SLOTS;
		sqe = new_sqe(ring);
		io_uring_prep_read(sqe, fd, in + slot * SLOT, SLOT, slot * SLOT);
		sqe->user_data = slot;
		sqe->flags |= sqe_flags;
	}
	EQ(io_uring_submit(ring), SLOTS);
	expect_all(ring, SLOTS, SLOT);
	same(what, 0, out, in, SLOTS * SLOT);
	OK(close(fd));
	printf("%s: %d writes, %d reads\n", what, SLOTS, SLOTS);
}

static void uring(int argc, char **argv)
{
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	char *buf = pages(PAGE), *in = pages(PAGE);
	struct iovec iov = { in, PAGE };
	struct statx stx;
	uint64_t data;
	long res;
	int r, fd;

	(void)argc, (void)argv;
	r = io_uring_queue_init(32, &ring, 0);
	if (r)
		fail("io_uring_queue_init: %s", errname(-r));
	ring_round(&ring, 0, 0, 1, "buffered");
	ring_round(&ring, O_DIRECT, 0, 2, "direct");
	ring_round(&ring, 0, IOSQE_ASYNC, 3, "by io_uring's workers");

	/* a chain: write, fsync, read with a registered buffer */
	fd = OK(open("f", O_RDWR | O_TRUNC));
	EQ(io_uring_register_buffers(&ring, &iov, 1), 0);
	fill(buf, PAGE, 0, 4);
	sqe = new_sqe(&ring);
	io_uring_prep_write(sqe, fd, buf, PAGE, 0);
	sqe->user_data = 0;
	sqe->flags |= IOSQE_IO_LINK;
	sqe = new_sqe(&ring);
	io_uring_prep_fsync(sqe, fd, 0);
	sqe->user_data = 1;
	sqe->flags |= IOSQE_IO_LINK;
	sqe = new_sqe(&ring);
	io_uring_prep_read_fixed(sqe, fd, in, PAGE, 0, 0);
	sqe->user_data = 2;
	EQ(io_uring_submit(&ring), 3);
	for (r = 0; r < 3; r++) {
		res = complete(&ring, &data);
		EQ(data, r);
		EQ(res, r == 1 ? 0 : PAGE);
	}
	is_pattern("chain", 0, in, PAGE, 4);
	is_backing("f", PAGE, 4);
	OK(close(fd));
	printf("chain of write, fsync, read\n");

	/* calls other than read and write */
	sqe = new_sqe(&ring);
	io_uring_prep_mkdirat(sqe, AT_FDCWD, "d", 0755);
	sqe->user_data = 0;
	sqe->flags |= IOSQE_IO_LINK;
	sqe = new_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "d/g", O_CREAT | O_RDWR, 0644);
	sqe->user_data = 1;
	EQ(io_uring_submit(&ring), 2);
	EQ(complete(&ring, &data), 0);
	fd = OK(complete(&ring, &data));
	full_pwrite(fd, buf, 123, 0);
	sqe = new_sqe(&ring);
	io_uring_prep_statx(sqe, AT_FDCWD, "d/g", 0, STATX_SIZE, &stx);
	sqe->user_data = 0;
	EQ(io_uring_submit(&ring), 1);
	EQ(complete(&ring, &data), 0);
	EQ(stx.stx_size, 123);
	sqe = new_sqe(&ring);
	io_uring_prep_renameat(sqe, AT_FDCWD, "d/g", AT_FDCWD, "h", 0);
	sqe->user_data = 0;
	sqe->flags |= IOSQE_IO_LINK;
	sqe = new_sqe(&ring);
	io_uring_prep_unlinkat(sqe, AT_FDCWD, "d", AT_REMOVEDIR);
	sqe->user_data = 1;
	EQ(io_uring_submit(&ring), 2);
	EQ(complete(&ring, &data), 0);
	EQ(complete(&ring, &data), 0);
	TRUE(exists("h") && !exists("d"));
	sqe = new_sqe(&ring);
	io_uring_prep_openat(sqe, AT_FDCWD, "absent", O_RDONLY, 0);
	sqe->user_data = 0;
	EQ(io_uring_submit(&ring), 1);
	EQ(complete(&ring, &data), -ENOENT);
	OK(close(fd));
	io_uring_queue_exit(&ring);
	printf("mkdir, open, statx, rename, rmdir\n");
}

const struct command aio_commands[] = {
	{ "aio", aio, "io_submit: reads and writes, buffered and direct" },
	{ "uring", uring, "io_uring as client: reads, writes, chains, other calls" },
	{ NULL, NULL, NULL },
};
