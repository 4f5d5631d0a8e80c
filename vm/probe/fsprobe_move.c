// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: holes, fallocate, and data moved by the kernel. */
#include "fsprobe.h"

#include <sys/sendfile.h>
#include <sys/socket.h>

/* Print and check the segments that SEEK_DATA and SEEK_HOLE report. */
static void segments(const char *what, int fd)
{
	off_t size = lseek(fd, 0, SEEK_END), data, hole = 0;

	printf("%s:", what);
	while (hole < size) {
		data = lseek(fd, hole, SEEK_DATA);
		if (data < 0) {
			EQ(errno, ENXIO);
			break;
		}
		hole = OK(lseek(fd, data, SEEK_HOLE));
		TRUE(hole > data && hole <= size);
		printf(" %lld-%lld", (long long)data, (long long)hole);
	}
	printf(" of %lld\n", (long long)size);
}

static void holes(int argc, char **argv)
{
	char *buf = pages(1 << 17), *got = pages(1 << 17);
	int fd;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	segments("empty", fd);
	ERR(ENXIO, lseek(fd, 0, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 0, SEEK_HOLE));
	OK(ftruncate(fd, 1 << 20));
	segments("only a hole", fd);
	fill(buf, PAGE * 4, 0, 1);
	full_pwrite(fd, buf, PAGE, 256 << 10);
	full_pwrite(fd, buf, PAGE * 2, 512 << 10);
	full_pwrite(fd, buf, 1, (1 << 20) - 1);
	OK(fsync(fd));
	segments("three islands", fd);
	full_pread(fd, got, 1 << 17, (256 << 10) - 8192);
	is_zero("before", 0, got, 8192);
	is_pattern("island", 0, got + 8192, PAGE, 1);
	is_zero("behind", 0, got + 8192 + PAGE, (1 << 17) - 8192 - PAGE);
	EQ(lseek(fd, (256 << 10) + 5, SEEK_DATA), (256 << 10) + 5);
	EQ(lseek(fd, 300 << 10, SEEK_HOLE), 300 << 10);
	ERR(ENXIO, lseek(fd, 1 << 20, SEEK_DATA));
	ERR(ENXIO, lseek(fd, 1 << 20, SEEK_HOLE));
	ERR(ENXIO, lseek(fd, -1, SEEK_DATA));
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		     (512 << 10) + PAGE, PAGE));
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 300 << 10));
	segments("after two punches", fd);
	full_pread(fd, got, 2 * PAGE, 512 << 10);
	is_pattern("beside the punch", 0, got, PAGE, 1);
	is_zero("punched", 0, got + PAGE, PAGE);
	full_pwrite(fd, buf, PAGE * 4, 0);
	OK(ftruncate(fd, PAGE * 4));
	OK(fsync(fd));
	segments("no hole", fd);
	OK(close(fd));
}

static void alloc(int argc, char **argv)
{
	const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	enum { SIZE = 30000 };
	char *model = pages(SIZE * 2), *got = pages(SIZE * 2);
	static const int cuts[][2] = {
		{ 0, 1 }, { 100, 200 }, { 4000, 200 }, { 4096, 4096 }, { 9000, 9000 },
		{ 29999, 1 }, { 29990, 5000 }, { 40000, 100 },
	};
	struct stat st;
	size_t i, k;
	int fd;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	OK(fallocate(fd, 0, 0, SIZE));
	EQ(size_of("f"), SIZE);
	full_pread(fd, got, SIZE, 0);
	is_zero("reserved", 0, got, SIZE);
	OK(fallocate(fd, 0, 0, 100));
	EQ(size_of("f"), SIZE);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, SIZE, 1 << 20));
	EQ(size_of("f"), SIZE);
	OK(fstat(fd, &st));
	TRUE(st.st_blocks * 512 >= 1 << 20);
	printf("space reserved, within and beyond the size\n");
	fill(model, SIZE, 0, 1);
	full_pwrite(fd, model, SIZE, 0);
	for (i = 0; i < 8; i++) {
		OK(fallocate(fd, punch, cuts[i][0], cuts[i][1]));
		for (k = cuts[i][0]; k < (size_t)cuts[i][0] + cuts[i][1]; k++)
			model[k] = 0;
		EQ(pread(fd, got, SIZE * 2, 0), SIZE);
		same("after a punch", 0, model, got, SIZE);
	}
	printf("%zu holes punched\n", i);
	/* what tmpfs lacks must be refused without a trace, or be done right */
	if (!fallocate(fd, FALLOC_FL_ZERO_RANGE, 5000, 100))
		memset(model + 5000, 0, 100);
	else
		EQ(errno, EOPNOTSUPP);
	EQ(pread(fd, got, SIZE * 2, 0), SIZE);
	same("after zero-range", 0, model, got, SIZE);
	/* appending by reservation, with a cached partial last page */
	OK(fallocate(fd, 0, SIZE - 100, 5000));
	EQ(pread(fd, got, SIZE * 2, 0), SIZE + 4900);
	same("after growth", 0, model, got, SIZE + 4900);
	ERR(EINVAL, fallocate(fd, 0, 0, 0));
	ERR(EINVAL, fallocate(fd, 0, -1, 10));
	ERR(EINVAL, fallocate(fd, 0, 0, -10));
	ERR(EOPNOTSUPP, fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10));
	ERR(EOPNOTSUPP, fallocate(fd, 1 << 30, 0, 10));
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open("f", O_RDONLY));
	ERR(EBADF, fallocate(fd, 0, 0, 10));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	EQ(pread(fd, got, SIZE * 2, 0), SIZE + 4900);
	same("below", 0, model, got, SIZE + 4900);
	OK(close(fd));
	printf("errors refused, file below agrees\n");
}

/* ------------------------------------------------------ copy_file_range --- */

static void copy(int argc, char **argv)
{
	enum { SIZE = 50000 };
	char *buf = pages(SIZE * 2);
	off_t in, out;
	int a, b, fd;

	(void)argc, (void)argv;
	make_file("a", SIZE, 1);
	make_file("b", 1000, 2);
	a = OK(open("a", O_RDWR));
	b = OK(open("b", O_RDWR));
	full_pread(b, buf, 1000, 0);
	in = 5000, out = 500;
	EQ(copy_file_range(a, &in, b, &out, 20000, 0), 20000);
	EQ(in, 25000);
	EQ(out, 20500);
	EQ(size_of("b"), 20500);
	full_pread(b, buf, 20500, 0);
	is_pattern("kept", 0, buf, 500, 2);
	is_pattern("copied", 5000, buf + 500, 20000, 1);
	printf("part of a file into another\n");
	/* positions of the descriptors */
	EQ(lseek(a, 100, SEEK_SET), 100);
	EQ(lseek(b, 30000, SEEK_SET), 30000);
	EQ(copy_file_range(a, NULL, b, NULL, 1000, 0), 1000);
	EQ(lseek(a, 0, SEEK_CUR), 1100);
	EQ(lseek(b, 0, SEEK_CUR), 31000);
	full_pread(b, buf, 31000, 0);
	is_zero("gap", 20500, buf + 20500, 9500);
	is_pattern("at the positions", 100, buf + 30000, 1000, 1);
	printf("at the positions\n");
	/* data that is not yet below */
	fill(buf, 3000, 7000, 3);
	full_pwrite(a, buf, 3000, 7000);
	in = 6000, out = 0;
	EQ(copy_file_range(a, &in, b, &out, 5000, 0), 5000);
	full_pread(b, buf, 5000, 0);
	is_pattern("before the fresh data", 6000, buf, 1000, 1);
	is_pattern("fresh data", 7000, buf + 1000, 3000, 3);
	printf("just written\n");
	in = SIZE - 100, out = 0;
	EQ(copy_file_range(a, &in, b, &out, 5000, 0), 100);
	EQ(copy_file_range(a, &in, b, &out, 5000, 0), 0);
	in = SIZE * 2;
	EQ(copy_file_range(a, &in, b, &out, 5000, 0), 0);
	printf("at the end of file\n");
	/* within one file, without and with overlap */
	in = 0, out = 30000;
	EQ(copy_file_range(a, &in, a, &out, 5000, 0), 5000);
	full_pread(a, buf, 5000, 30000);
	is_pattern("within", 0, buf, 5000, 1);
	in = 0, out = 4000;
	ERR(EINVAL, copy_file_range(a, &in, a, &out, 5000, 0));
	ERR(EINVAL, copy_file_range(a, NULL, b, NULL, 10, 1));
	fd = OK(open("b", O_WRONLY | O_APPEND));
	ERR(EBADF, copy_file_range(a, NULL, fd, NULL, 10, 0));
	OK(close(fd));
	fd = OK(open("b", O_RDONLY));
	ERR(EBADF, copy_file_range(a, NULL, fd, NULL, 10, 0));
	OK(close(fd));
	fd = OK(open(".", O_RDONLY));
	ERR(EISDIR, copy_file_range(fd, NULL, b, NULL, 10, 0));
	OK(close(fd));
	OK(close(a));
	OK(close(b));
	printf("within one file; errors\n");
}

/* ---------------------------------------------------- pipes and sockets --- */

static void drain_socket(int fd, void *arg)
{
	size_t size = *(size_t *)arg, n;
	char *buf = pages(size);

	for (n = 0; n < size; )
		n += OK(read(fd, buf + n, size - n));
	is_pattern("through the socket", 0, buf, size, 1);
	tell(fd, 'k');
}

static void pipes(int argc, char **argv)
{
	enum { SIZE = 100000 };
	char *buf = pages(SIZE);
	size_t size = SIZE, n;
	loff_t off, off2;
	struct peer p;
	int a, b, fds[2];

	(void)argc, (void)argv;
	make_file("a", SIZE, 1);
	a = OK(open("a", O_RDONLY));
	b = OK(open("b", O_CREAT | O_RDWR, 0644));
	EQ(posix_fadvise(a, 0, 0, POSIX_FADV_DONTNEED), 0);
	for (n = 0; n < SIZE; )
		n += OK(sendfile(b, a, NULL, SIZE - n));
	EQ(sendfile(b, a, NULL, 100), 0);
	is_file("b", SIZE, 1);
	off = SIZE - 10;
	EQ(sendfile(b, a, &off, 100), 10);
	EQ(off, SIZE);
	EQ(size_of("b"), SIZE + 10);
	printf("sendfile, file to file\n");

	peer_start(&p, drain_socket, &size);
	for (off = 0; off < SIZE; )
		OK(sendfile(p.fd, a, &off, SIZE - off));
	hear(p.fd, 'k');
	peer_end(&p);
	printf("sendfile, file to socket\n");

	OK(ftruncate(b, 0));
	OK(pipe(fds));
	for (off = off2 = 0; off < SIZE; ) {
		size_t got = OK(splice(a, &off, fds[1], NULL, 30001, 0)), k;

		TRUE(got);
		for (k = 0; k < got; )
			k += OK(splice(fds[0], NULL, b, &off2, got - k, SPLICE_F_MOVE));
	}
	EQ(off2, SIZE);
	is_file("b", SIZE, 1);
	printf("splice, file to pipe to file\n");
	/* what is in the pipe stays what it was when it was written over later */
	off = 0;
	EQ(splice(b, &off, fds[1], NULL, PAGE, 0), PAGE);
	EQ(read(fds[0], buf, PAGE), PAGE);
	is_pattern("in the pipe", 0, buf, PAGE, 1);
	/* pipe to file at odd places */
	fill(buf, 5000, 333, 4);
	EQ(write(fds[1], buf, 5000), 5000);
	off2 = 333;
	for (n = 0; n < 5000; )
		n += OK(splice(fds[0], NULL, b, &off2, 5000 - n, 0));
	full_pread(b, buf, 5000, 333);
	is_pattern("spliced into the middle", 333, buf, 5000, 4);
	off = 333;
	ERR(ESPIPE, splice(fds[0], &off, b, NULL, 1, 0));
	ERR(EINVAL, splice(a, NULL, b, NULL, 1, 0));
	OK(close(a));
	OK(close(b));
	printf("splice into the middle; errors\n");
}

const struct command move_commands[] = {
	{ "holes", holes, "SEEK_HOLE, SEEK_DATA, punched holes" },
	{ "alloc", alloc, "modes of fallocate" },
	{ "copy", copy, "copy_file_range" },
	{ "pipes", pipes, "sendfile and splice" },
	{ NULL, NULL, NULL },
};
