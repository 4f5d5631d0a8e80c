// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: reading and writing. */
#include "fsprobe.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

static char *some_buffer(size_t len, uint64_t off, unsigned int tag)
{
	char *p = pages(len);

	fill(p, len, off, tag);
	return p;
}

/* Short reads and none at the end of file. */
static void eof(int argc, char **argv)
{
	static const size_t sizes[] = { 0, 1, 511, 4095, 4096, 4097, 8191, 12288, 70001 };
	char *buf = pages(1 << 17);
	size_t i, size;
	ssize_t n;
	int fd;

	(void)argc, (void)argv;
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size = sizes[i];
		make_file("f", size, i);
		fd = OK(open("f", O_RDONLY));
		EQ(pread(fd, buf, 1 << 17, 0), size);
		is_pattern("whole", 0, buf, size, i);
		if (size) {
			memset(buf, 0, 2);
			EQ(pread(fd, buf, 100, size - 1), 1);
			is_pattern("last byte", size - 1, buf, 1, i);
		}
		EQ(pread(fd, buf, 100, size), 0);
		EQ(pread(fd, buf, 100, size + 1), 0);
		EQ(pread(fd, buf, PAGE, size + (1 << 20)), 0);
		EQ(pread(fd, buf, 0, 0), 0);
		/* read() up to the end, in pieces that do not fit */
		for (n = 0; ;) {
			ssize_t got = OK(read(fd, buf + n, 1000 + n % 3000));

			if (!got)
				break;
			n += got;
		}
		EQ(n, size);
		is_pattern("pieces", 0, buf, size, i);
		/* the end moves: it is seen at once */
		OK(truncate("f", size + 5));
		EQ(pread(fd, buf, 100, size), 5);
		is_zero("new end", size, buf, 5);
		OK(close(fd));
	}
	printf("%zu sizes read to the end and beyond\n", i);
}

/* All ways to set, share and keep a file position. */
static void position(int argc, char **argv)
{
	char buf[64];
	int fd, fd2;
	pid_t pid;

	(void)argc, (void)argv;
	make_file("f", 10000, 1);
	fd = OK(open("f", O_RDWR));
	EQ(lseek(fd, 4090, SEEK_SET), 4090);
	EQ(read(fd, buf, 10), 10);
	is_pattern("after SEEK_SET", 4090, buf, 10, 1);
	EQ(lseek(fd, 0, SEEK_CUR), 4100);
	EQ(pread(fd, buf, 10, 77), 10);
	is_pattern("pread", 77, buf, 10, 1);
	EQ(lseek(fd, -100, SEEK_CUR), 4000);
	EQ(lseek(fd, -1, SEEK_END), 9999);
	EQ(read(fd, buf, 10), 1);
	EQ(read(fd, buf, 10), 0);
	EQ(lseek(fd, 20000, SEEK_END), 30000);
	EQ(size_of("f"), 10000);
	ERR(EINVAL, lseek(fd, -1, SEEK_SET));
	ERR(EINVAL, lseek(fd, -10001, SEEK_END));
	ERR(EINVAL, lseek(fd, 0, 99));
	EQ(lseek(fd, 0, SEEK_CUR), 30000);
	ERR(EINVAL, pread(fd, buf, 1, -1));
	/* SEEK_END follows growth made through another descriptor */
	fd2 = OK(open("f", O_WRONLY));
	full_pwrite(fd2, "x", 1, 10999);
	EQ(lseek(fd, 0, SEEK_END), 11000);
	OK(close(fd2));
	/* duplicates and children share the position, a second open does not */
	fd2 = OK(dup(fd));
	EQ(lseek(fd2, 123, SEEK_SET), 123);
	EQ(lseek(fd, 0, SEEK_CUR), 123);
	fflush(stdout);
	pid = OK(fork());
	if (!pid) {
		EQ(read(fd, buf, 7), 7);
		_exit(0);
	}
	reap(pid);
	EQ(lseek(fd, 0, SEEK_CUR), 130);
	OK(close(fd2));
	fd2 = OK(open("f", O_RDONLY));
	EQ(lseek(fd2, 0, SEEK_CUR), 0);
	ERR(EBADF, write(fd2, "x", 1));
	OK(close(fd2));
	fd2 = OK(open("f", O_WRONLY));
	ERR(EBADF, read(fd2, buf, 1));
	OK(close(fd2));
	OK(close(fd));
	printf("positions: set, kept, shared\n");
}

/* One mebibyte at once, and sizes that fit nothing. */
static void large(int argc, char **argv)
{
	static const size_t sizes[] = { 1 << 20, (1 << 20) + 1, 131073, 300007, 4097, 1 };
	size_t i, off = 0;
	char *buf = pages(1 << 21), *got = pages(1 << 21);
	int fd = OK(open("f", O_CREAT | O_RDWR, 0644));

	(void)argc, (void)argv;
	for (i = 0; i < 6; i++) {
		fill(buf, sizes[i], off, 3);
		full_pwrite(fd, buf, sizes[i], off);
		off += sizes[i];
	}
	EQ(size_of("f"), off);
	/* drop what is cached: the reads are to travel */
	OK(fsync(fd));
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
	full_pread(fd, got, 1 << 20, 1);
	is_pattern("1 MiB", 1, got, 1 << 20, 3);
	full_pread(fd, got, off - (1 << 20) - 1, (1 << 20) + 1);
	is_pattern("rest", (1 << 20) + 1, got, off - (1 << 20) - 1, 3);
	OK(close(fd));
	printf("%zu bytes in %zu writes and 2 reads\n", off, i);
}

/* Writes that begin and end on either side of page boundaries. */
static void pagecross(int argc, char **argv)
{
	static const int edges[] = { 0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 12287 };
	enum { N = 9, SIZE = 16384 };
	char *model = pages(SIZE), *got = pages(SIZE);
	int fd, i, j, writes = 0;

	(void)argc, (void)argv;
	fill(model, SIZE, 0, 0);
	make_file("f", SIZE, 0);
	fd = OK(open("f", O_RDWR));
	for (i = 0; i < N; i++) {
		for (j = i + 1; j < N; j++) {
			size_t len = edges[j] - edges[i];

			writes++;
			fill(model + edges[i], len, edges[i], writes);
			full_pwrite(fd, model + edges[i], len, edges[i]);
			full_pread(fd, got, SIZE, 0);
			same("after a write", 0, model, got, SIZE);
		}
	}
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	full_pread(fd, got, SIZE, 0);
	same("backing file", 0, model, got, SIZE);
	OK(close(fd));
	printf("%d writes across page boundaries\n", writes);
}

/* Growth leaves zeros, whatever was cached before. */
static void extend(int argc, char **argv)
{
	static const size_t tails[] = { 1, 100, 4095, 4096, 4097, 6000 };
	static const size_t gaps[] = { 1, 3000, 4096, 9000 };
	char *buf = pages(1 << 16);
	int fd, fd2, count = 0;
	size_t i, j, tail, end;

	(void)argc, (void)argv;
	for (i = 0; i < 6; i++) {
		for (j = 0; j < 4; j++) {
			tail = tails[i];
			make_file("f", 10000, 9);
			fd = OK(open("f", O_RDWR));
			fd2 = OK(open("f", O_RDWR));
			/* cached whole, then cut: the cut-off part must not come back */
			full_pread(fd2, buf, 10000, 0);
			OK(ftruncate(fd, tail));
			EQ(pread(fd2, buf, 10000, 0), tail);
			end = tail + gaps[j];
			if (j % 2) {
				OK(ftruncate(fd, end + 10));
			} else {
				memset(buf, 0x77, 10);
				full_pwrite(fd, buf, 10, end);
			}
			EQ(pread(fd2, buf, 1 << 16, 0), end + 10);
			is_pattern("kept", 0, buf, tail, 9);
			is_zero("gap", tail, buf + tail, gaps[j]);
			EQ(buf[end], j % 2 ? 0 : 0x77);
			EQ(buf[end + 9], j % 2 ? 0 : 0x77);
			OK(close(fd));
			OK(close(fd2));
			count++;
		}
	}
	printf("%d files cut and extended\n", count);
}

/* What one process writes another reads, step by step. */
static void other_side(int fd, void *arg)
{
	char *buf = pages(20000);
	int f, i;

	(void)arg;
	f = OK(open("f", O_RDWR));
	for (i = 0; i < 12; i++) {
		hear(fd, 'w');
		EQ(pread(f, buf, 20000, 0), i % 3 ? 10000 + i * 100 : 10000);
		is_pattern("seen by the other process", i * 300, buf + i * 300, 5000, i);
		fill(buf, 1000, 9000, 100 + i);
		full_pwrite(f, buf, 1000, 9000);
		tell(fd, 'r');
	}
	OK(close(f));
}

static void coherent(int argc, char **argv)
{
	char *buf = pages(20000);
	struct peer p;
	int fd, i;

	(void)argc, (void)argv;
	make_file("f", 10000, 200);
	fd = OK(open("f", O_RDWR));
	peer_start(&p, other_side, NULL);
	for (i = 0; i < 12; i++) {
		OK(ftruncate(fd, i % 3 ? 10000 + i * 100 : 10000));
		fill(buf, 5000, i * 300, i);
		full_pwrite(fd, buf, 5000, i * 300);
		tell(p.fd, 'w');
		hear(p.fd, 'r');
		full_pread(fd, buf, 1000, 9000);
		is_pattern("seen by the first process", 9000, buf, 1000, 100 + i);
	}
	peer_end(&p);
	OK(close(fd));
	printf("%d steps, each side saw the other's\n", i);
}

/* O_TRUNC and replacement while somebody reads. */
static void open_trunc(int argc, char **argv)
{
	char *buf = pages(1 << 16);
	int fd, fd2, i;

	(void)argc, (void)argv;
	for (i = 0; i < 5; i++) {
		make_file("f", 20000, i);
		fd = OK(open("f", O_RDONLY));
		full_pread(fd, buf, 20000, 0);
		fd2 = OK(open("f", O_WRONLY | O_TRUNC));
		EQ(size_of("f"), 0);
		EQ(pread(fd, buf, 100, 0), 0);
		fill(buf, 50, 5000, i);
		full_pwrite(fd2, buf, 50, 5000);
		EQ(pread(fd, buf, 1 << 16, 0), 5050);
		is_zero("hole", 0, buf, 5000);
		is_pattern("new", 5000, buf + 5000, 50, i);
		OK(close(fd2));
		OK(close(fd));
	}
	ERR(ENOENT, open("absent", O_WRONLY | O_TRUNC));
	printf("truncated on open %d times\n", i);
}

/* --------------------------------------------------------- many writers --- */

enum { RECORD = 64 };

struct append_job {
	int records;
};

static void append_worker(int i, void *arg)
{
	struct append_job *job = arg;
	int fd = OK(open("f", O_WRONLY | O_APPEND));
	char rec[RECORD];
	int k;

	for (k = 0; k < job->records; k++) {
		memset(rec, 'a' + i, sizeof(rec));
		snprintf(rec, sizeof(rec), "%d %d", i, k);
		EQ(write(fd, rec, sizeof(rec)), sizeof(rec));
	}
	OK(close(fd));
}

static void append(int argc, char **argv)
{
	struct append_job job;
	int n, i, who, nr, *next;
	char rec[RECORD];
	FILE *f;

	if (argc != 3)
		fail("usage: append WRITERS RECORDS");
	n = number(argv[1]);
	job.records = number(argv[2]);
	next = calloc(n, sizeof(*next));
	/* records shall straddle pages */
	make_file("f", 30, 0);
	crowd(n, append_worker, &job);
	EQ(size_of("f"), 30 + (long)n * job.records * RECORD);
	f = fopen("f", "r");
	TRUE(f);
	EQ(fread(rec, 1, 30, f), 30);
	for (i = 0; i < n * job.records; i++) {
		size_t k;

		EQ(fread(rec, 1, RECORD, f), RECORD);
		if (sscanf(rec, "%d %d", &who, &nr) != 2 || who < 0 || who >= n)
			fail("record %d is torn: %.20s", i, rec);
		for (k = strlen(rec) + 1; k < RECORD; k++)
			if (rec[k] != 'a' + who)
				fail("record %d (%s) is torn at byte %zu", i, rec, k);
		EQ(nr, next[who]++);
	}
	fclose(f);
	printf("%d writers appended %d records each: none torn, lost or out of order\n",
	       n, job.records);
}

struct write_job {
	int writers, rounds, blocks;
	size_t block;
	bool blind;		/* nobody reads before all have written */
};

static void disjoint_worker(int i, void *arg)
{
	struct write_job *job = arg;
	int fd = OK(open("f", O_RDWR));
	char *buf = pages(job->block), *got = pages(job->block);
	uint64_t off;
	int k;

	for (k = i; k < job->blocks; k += job->writers) {
		off = k * job->block;
		fill(buf, job->block, off, i);
		full_pwrite(fd, buf, job->block, off);
		if (job->blind)
			continue;
		full_pread(fd, got, job->block, off);
		same("own block, just written", off, buf, got, job->block);
	}
	OK(close(fd));
}

static void disjoint(int argc, char **argv)
{
	struct write_job job;
	char *buf;
	int fd, k;

	if (argc != 4 && (argc != 5 || strcmp(argv[4], "blind")))
		fail("usage: disjoint WRITERS BLOCKS SIZE [blind]");
	job = (struct write_job){
		.writers = number(argv[1]), .blocks = number(argv[2]),
		.block = number(argv[3]), .blind = argc == 5,
	};
	make_file("f", 0, 0);
	crowd(job.writers, disjoint_worker, &job);
	EQ(size_of("f"), job.blocks * job.block);
	buf = pages(job.block);
	fd = OK(open("f", O_RDONLY));
	for (k = 0; k < job.blocks; k++) {
		full_pread(fd, buf, job.block, k * job.block);
		is_pattern("block", k * job.block, buf, job.block, k % job.writers);
	}
	OK(close(fd));
	fd = OK(open("f", O_WRONLY));
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	for (k = 0; k < job.blocks; k++) {
		full_pread(fd, buf, job.block, k * job.block);
		is_pattern("block below", k * job.block, buf, job.block, k % job.writers);
	}
	OK(close(fd));
	printf("%d writers, %d blocks of %zu bytes: all as written\n", job.writers,
	       job.blocks, job.block);
}

static void contested_worker(int i, void *arg)
{
	struct write_job *job = arg;
	char *buf = pages(PAGE);
	struct rng r;
	int fd, k, round;

	rng_init(&r, 100 + i);
	fd = OK(open("f", O_WRONLY | (i % 2 ? O_DIRECT : 0)));
	for (round = 0; round < job->rounds; round++) {
		k = rng_below(&r, job->blocks);
		fill(buf, PAGE, k * PAGE, i * 1000 + round);
		/* who and when, so that the reader knows what to expect */
		memcpy(buf, &(uint32_t){ i * 1000 + round }, 4);
		full_pwrite(fd, buf, PAGE, k * PAGE);
	}
	OK(close(fd));
}

/* Aligned blocks written by several at once: each is wholly one writer's. */
static void contested(int argc, char **argv)
{
	struct write_job job;
	unsigned char *buf = pages(PAGE), *want = pages(PAGE);
	uint32_t tag;
	int fd, k;

	if (argc != 4)
		fail("usage: contested WRITERS BLOCKS ROUNDS");
	job = (struct write_job){
		.writers = number(argv[1]), .blocks = number(argv[2]),
		.rounds = number(argv[3]), .block = PAGE,
	};
	make_file("f", job.blocks * PAGE, 7);
	crowd(job.writers, contested_worker, &job);
	fd = OK(open("f", O_RDONLY));
	for (k = 0; k < job.blocks; k++) {
		full_pread(fd, buf, PAGE, k * PAGE);
		memcpy(&tag, buf, 4);
		if (tag / 1000 >= (uint32_t)job.writers || tag % 1000 >= (uint32_t)job.rounds)
			tag = 7;	/* nobody's turn came here */
		fill(want, PAGE, k * PAGE, tag);
		if (tag != 7 || memcmp(want, buf, PAGE))
			memcpy(want, &tag, 4);
		same("block of one writer", k * PAGE, want, buf, PAGE);
	}
	OK(close(fd));
	EQ(size_of("f"), job.blocks * PAGE);
	printf("%d writers on the same %d blocks, %d writes each: none torn\n",
	       job.writers, job.blocks, job.rounds);
}

/* ------------------------------------------------------------- vectors ---- */

static void vectors(int argc, char **argv)
{
	enum { TOTAL = 20000 };
	static const size_t cuts[] = { 0, 1, 4095, 4097, 0, 3, 8000, 100 };
	char *out = some_buffer(TOTAL, 100, 5), *in = pages(TOTAL);
	struct iovec iov[1025];
	size_t used, i;
	int fd;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	for (i = used = 0; i < 8; used += cuts[i++])
		iov[i] = (struct iovec){ out + used, cuts[i] };
	EQ(pwritev(fd, iov, 8, 100), used);
	for (i = used = 0; i < 8; used += cuts[7 - i++])
		iov[i] = (struct iovec){ in + used, cuts[7 - i] };
	EQ(preadv(fd, iov, 8, 100), used);
	is_pattern("preadv", 100, in, used, 5);
	printf("8 parts, two of them empty: %zu bytes\n", used);

	/* as many as there may be */
	for (i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ out + 7 * i, 7 };
	EQ(lseek(fd, 100, SEEK_SET), 100);
	EQ(writev(fd, iov, 1024), 7 * 1024);
	EQ(lseek(fd, 0, SEEK_CUR), 100 + 7 * 1024);
	for (i = 0; i < 1024; i++)
		iov[i] = (struct iovec){ in + 7 * i, 7 };
	memset(in, 0, TOTAL);
	EQ(lseek(fd, 100, SEEK_SET), 100);
	EQ(readv(fd, iov, 1024), 7 * 1024);
	is_pattern("readv", 100, in, 7 * 1024, 5);
	printf("1024 parts of 7 bytes\n");

	iov[1024] = iov[0];
	EQ(pwritev(fd, iov, 0, 0), 0);
	ERR(EINVAL, pwritev(fd, iov, 1025, 0));
	ERR(EINVAL, preadv(fd, iov, 1, -1));
	/* a bad part in the middle: what is before it may be done, no more */
	OK(ftruncate(fd, 0));
	iov[0] = (struct iovec){ out, 10 };
	iov[1] = (struct iovec){ nowhere, 10 };
	i = pwritev(fd, iov, 2, 0);
	TRUE((ssize_t)i == 10 || ((ssize_t)i == -1 && errno == EFAULT));
	TRUE(size_of("f") == ((ssize_t)i == 10 ? 10 : 0));
	ERR(EFAULT, pwrite(fd, nowhere, 10, 0));
	/* read into a hole of the address space */
	full_pwrite(fd, out, 100, 0);
	ERR(EFAULT, pread(fd, nowhere, 10, 0));
	OK(close(fd));
	printf("bad vectors refused\n");
}

/* Per-call flags of preadv2 and pwritev2. */
static void rwf(int argc, char **argv)
{
	char *buf = some_buffer(PAGE, 0, 1), got[PAGE];
	struct iovec out = { buf, 100 }, in = { got, sizeof(got) };
	int fd = OK(open("f", O_CREAT | O_RDWR, 0644)), fd2;
	ssize_t n;

	(void)argc, (void)argv;
	EQ(pwritev2(fd, &out, 1, 0, 0), 100);
	/* the offset is ignored, yet the position stays */
	EQ(pwritev2(fd, &out, 1, 0, RWF_APPEND), 100);
	EQ(size_of("f"), 200);
	EQ(lseek(fd, 0, SEEK_CUR), 0);
	EQ(preadv2(fd, &in, 1, 100, 0), 100);
	same("appended", 100, buf, got, 100);
	printf("RWF_APPEND appends\n");
	EQ(pwritev2(fd, &out, 1, 300, RWF_DSYNC), 100);
	fd2 = OK(open(backing_path("f"), O_RDONLY));
	EQ(pread(fd2, got, PAGE, 300), 100);
	same("after RWF_DSYNC, below", 300, buf, got, 100);
	EQ(pwritev2(fd, &out, 1, 400, RWF_SYNC), 100);
	EQ(pread(fd2, got, PAGE, 400), 100);
	same("after RWF_SYNC, below", 400, buf, got, 100);
	OK(close(fd2));
	printf("RWF_DSYNC and RWF_SYNC reach the file below\n");
	/* -1: at the position, which moves */
	EQ(lseek(fd, 400, SEEK_SET), 400);
	EQ(preadv2(fd, &in, 1, -1, 0), 100);
	EQ(lseek(fd, 0, SEEK_CUR), 500);
	/* may be refused or say "would block", but not be wrong */
	memset(got, 0, sizeof(got));
	n = preadv2(fd, &in, 1, 400, RWF_NOWAIT);
	if (n < 0)
		TRUE(errno == EAGAIN || errno == EOPNOTSUPP);
	else
		same("RWF_NOWAIT", 400, buf, got, n);
	n = preadv2(fd, &in, 1, 400, RWF_HIPRI);
	if (n < 0)
		TRUE(errno == EOPNOTSUPP);
	else
		EQ(n, 100);
	ERR(EOPNOTSUPP, preadv2(fd, &in, 1, 0, 1 << 30));
	ERR(EOPNOTSUPP, pwritev2(fd, &out, 1, 0, 1 << 30));
	EQ(size_of("f"), 500);
	OK(close(fd));
	printf("other flags right or refused\n");
}

/* --------------------------------------------------------------- O_DIRECT - */

static void direct(int argc, char **argv)
{
	enum { SIZE = 65536 };
	char *buf = pages(SIZE), *got = pages(SIZE);
	int fd, dfd, afd, i;
	ssize_t n;

	(void)argc, (void)argv;
	make_file("f", SIZE, 1);
	fd = OK(open("f", O_RDWR));
	dfd = OK(open("f", O_RDWR | O_DIRECT));
	full_pread(fd, got, SIZE, 0);
	full_pread(dfd, got, SIZE, 0);
	is_pattern("direct read", 0, got, SIZE, 1);
	for (i = 1; i < 8; i++) {
		/* direct write over cached pages, and back */
		fill(buf, PAGE * 2, i * 8192, 10 + i);
		full_pwrite(dfd, buf, PAGE * 2, i * 8192);
		full_pread(fd, got, PAGE * 2, i * 8192);
		is_pattern("buffered read after direct write", i * 8192, got, PAGE * 2,
			   10 + i);
		fill(buf, 3000, i * 8192 + 1000, 20 + i);
		full_pwrite(fd, buf, 3000, i * 8192 + 1000);
		full_pread(dfd, got, PAGE, i * 8192);
		is_pattern("before the buffered write", i * 8192, got, 1000, 10 + i);
		is_pattern("direct read after buffered write", i * 8192 + 1000,
			   got + 1000, 3000, 20 + i);
	}
	printf("direct and buffered agree\n");

	/* the end of file */
	OK(ftruncate(fd, 10000));
	EQ(pread(dfd, got, 8192, 8192), 10000 - 8192);
	EQ(pread(dfd, got, 8192, 16384), 0);
	fill(buf, PAGE, 16384, 3);
	full_pwrite(dfd, buf, PAGE, 16384);
	EQ(size_of("f"), 16384 + PAGE);
	full_pread(fd, got, 16384 + PAGE, 0);
	is_zero("gap", 10000, got + 10000, 6384);
	is_pattern("direct extension", 16384, got + 16384, PAGE, 3);
	afd = OK(open("f", O_WRONLY | O_DIRECT | O_APPEND));
	fill(buf, PAGE, 20480, 4);
	EQ(write(afd, buf, PAGE), PAGE);
	full_pread(fd, got, PAGE, 20480);
	is_pattern("direct append", 20480, got, PAGE, 4);
	OK(close(afd));
	printf("direct at the end of file\n");

	/* not aligned: refused as a whole, or done right */
	for (i = 1; i < 4096; i = i * 3 + 2) {
		fill(buf, 1000 + i, 100 + i, 50 + i);
		n = pwrite(dfd, buf, 1000 + i, 100 + i);
		if (n < 0) {
			TRUE(errno == EINVAL);
			continue;
		}
		EQ(n, 1000 + i);
		full_pread(fd, got, n, 100 + i);
		is_pattern("unaligned direct write", 100 + i, got, n, 50 + i);
		memset(got, 0, n);
		full_pread(dfd, got + 1, n, 100 + i);
		is_pattern("unaligned direct read", 100 + i, got + 1, n, 50 + i);
	}
	OK(close(fd));
	OK(close(dfd));
	printf("unaligned direct I/O right or refused\n");
}

/* ------------------------------------------------------------ sequential -- */

/* The backing file is written directly, so that no page is cached yet. */
static void sequential(int argc, char **argv)
{
	static const size_t chunks[] = { 4096, 1, 65536, 3000, 131072, 4095, 20000 };
	char *buf = pages(1 << 18);
	size_t size, off, n, i;
	char *path;
	int fd;

	if (argc != 2)
		fail("usage: sequential KIB");
	size = number(argv[1]) * 1024 + 123;
	path = backing_path("f");
	make_file(path, size, 6);
	fd = OK(open("f", O_RDONLY));
	EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL), 0);
	for (off = i = 0; off < size; off += n, i++) {
		n = OK(read(fd, buf, chunks[i % 7]));
		if (n != chunks[i % 7] && off + n != size)
			fail("short read of %zu at %zu", n, off);
		is_pattern("forward", off, buf, n, 6);
	}
	EQ(read(fd, buf, 1), 0);
	OK(close(fd));

	/* from the end to the beginning, another file */
	OK(rename(path, backing_path("g")));
	fd = OK(open("g", O_RDONLY));
	for (off = size; off; off -= n) {
		n = off < 9000 ? off : 9000;
		full_pread(fd, buf, n, off - n);
		is_pattern("backward", off - n, buf, n, 6);
	}
	OK(close(fd));
	/* in strides, read ahead or not */
	fd = OK(open("g", O_RDONLY));
	EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	for (off = 1; off + 700 < size; off += 40000) {
		full_pread(fd, buf, 700, off);
		is_pattern("strided", off, buf, 700, 6);
	}
	OK(readahead(fd, 0, size));
	full_pread(fd, buf, 10000, size - 10000);
	is_pattern("read ahead", size - 10000, buf, 10000, 6);
	OK(close(fd));
	printf("%zu bytes forward, backward and in strides\n", size);
}

/* -------------------------------------------------------------- syncing --- */

/* After a sync of any kind the file below has the data. */
static void reach(int argc, char **argv)
{
	enum { SIZE = 9000 };
	char *buf = pages(1 << 16);
	int fd, i = 0;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	fill(buf, SIZE, 0, 1);
	full_pwrite(fd, buf, SIZE, 0);
	OK(fsync(fd));
	is_backing("f", SIZE, 1);
	printf("fsync\n");
	fill(buf, SIZE, 0, 2);
	full_pwrite(fd, buf, SIZE, 0);
	OK(fdatasync(fd));
	is_backing("f", SIZE, 2);
	printf("fdatasync\n");
	fill(buf, 2 * SIZE, 0, 3);
	/* many small writes, growing */
	for (i = 0; i < 2 * SIZE; i += 1000)
		full_pwrite(fd, buf + i, 1000, i);
	OK(fsync(fd));
	is_backing("f", 2 * SIZE, 3);
	printf("fsync after growth\n");
	OK(ftruncate(fd, 5000));
	OK(fsync(fd));
	is_backing("f", 5000, 3);
	printf("fsync after truncation\n");
	fill(buf, 5000, 0, 4);
	full_pwrite(fd, buf, 5000, 0);
	OK(close(fd));
	is_backing("f", 5000, 4);
	printf("close\n");

	fd = OK(open("f", O_RDWR | O_SYNC));
	fill(buf, SIZE, 0, 5);
	full_pwrite(fd, buf, SIZE, 0);
	is_backing("f", SIZE, 5);
	OK(close(fd));
	printf("O_SYNC\n");
	fd = OK(open("f", O_RDWR | O_DSYNC));
	fill(buf, SIZE, 0, 6);
	full_pwrite(fd, buf, SIZE, 0);
	is_backing("f", SIZE, 6);
	OK(close(fd));
	printf("O_DSYNC\n");
	/* these promise less: they only must work, and harm nothing */
	fd = OK(open("f", O_RDWR));
	fill(buf, SIZE, 0, 7);
	full_pwrite(fd, buf, SIZE, 0);
	OK(sync_file_range(fd, 0, SIZE, SYNC_FILE_RANGE_WAIT_BEFORE |
			   SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
	OK(sync_file_range(fd, 4096, 0, SYNC_FILE_RANGE_WRITE));
	ERR(EINVAL, sync_file_range(fd, 0, SIZE, 0x100));
	OK(syncfs(fd));
	is_file("f", SIZE, 7);
	OK(fsync(fd));
	is_backing("f", SIZE, 7);
	OK(close(fd));
	printf("sync_file_range, syncfs\n");
	fd = OK(open("f", O_RDONLY));
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(close(fd));
	ERR(EBADF, fsync(fd));
	fd = OK(open("f", O_PATH));
	ERR(EBADF, fsync(fd));
	OK(close(fd));
	printf("fsync of a read-only descriptor\n");
}

/* Truncation of pages that are dirty: what was cut never comes back. */
static void cut_dirty(int argc, char **argv)
{
	enum { SIZE = 60000, ROUNDS = 12 };
	unsigned char *model = pages(SIZE), *got = pages(SIZE);
	size_t at, size = 0;
	struct rng r;
	int fd, i;

	(void)argc, (void)argv;
	rng_init(&r, 3);
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	for (i = 0; i < ROUNDS; i++) {
		/* dirty, cut, extend, dirty a little beyond: no sync in between */
		fill(model, SIZE, 0, i);
		full_pwrite(fd, model, SIZE, 0);
		at = rng_below(&r, SIZE - 10000) + 1;
		OK(ftruncate(fd, at));
		memset(model + at, 0, SIZE - at);
		if (i % 3 == 0) {
			OK(ftruncate(fd, SIZE));
			size = SIZE;
		} else {
			full_pwrite(fd, "z", 1, at + 5000);
			model[at + 5000] = 'z';
			size = at + 5001;
		}
		EQ(size_of("f"), size);
		full_pread(fd, got, size, 0);
		same("after the cut", 0, model, got, size);
		if (i % 2)
			OK(fsync(fd));
	}
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	EQ(pread(fd, got, SIZE, 0), size);
	same("below", 0, model, got, size);
	OK(close(fd));
	printf("%d cuts through dirty pages\n", i);
}

/* ----------------------------------------------------------------- limits - */

static void limits_child(void *arg)
{
	const struct rlimit rl = { 10000, 10000 };
	char *buf = pages(20000);
	int fd;

	(void)arg;
	OK(setrlimit(RLIMIT_FSIZE, &rl));
	signal(SIGXFSZ, SIG_IGN);
	fd = OK(open("f", O_RDWR));
	EQ(pwrite(fd, buf, 20000, 0), 10000);
	ERR(EFBIG, pwrite(fd, buf, 1, 10000));
	ERR(EFBIG, ftruncate(fd, 10001));
	ERR(EFBIG, fallocate(fd, 0, 0, 10001));
	OK(ftruncate(fd, 10000));
	OK(close(fd));
}

static void limits(int argc, char **argv)
{
	char *buf = pages(PAGE);
	int fd;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_RDWR, 0644));
	reap(spawn(limits_child, NULL));
	EQ(size_of("f"), 10000);
	printf("file size limit kept\n");
	/* far out, but nothing is there */
	full_pwrite(fd, "end", 3, 1ull << 40);
	EQ(size_of("f"), (1ll << 40) + 3);
	full_pread(fd, buf, 3, 1ull << 40);
	same("far out", 1ull << 40, "end", buf, 3);
	full_pread(fd, buf, PAGE, 1ull << 39);
	is_zero("hole", 1ull << 39, buf, PAGE);
	ERR(EINVAL, ftruncate(fd, -1));
	ERR(EINVAL, truncate("f", -1));
	OK(ftruncate(fd, 0));
	full_pread(fd, buf, 0, 0);
	EQ(pread(fd, buf, 1, 1ull << 39), 0);
	OK(close(fd));
	ERR(EBADF, ftruncate(fd, 0));
	fd = OK(open("f", O_RDONLY));
	ERR(EINVAL, ftruncate(fd, 0));
	OK(close(fd));
	ERR(EISDIR, truncate(".", 0));
	ERR(ENOENT, truncate("absent", 0));
	printf("truncate's errors\n");
}

/* --------------------------------------------------- change from below ---- */

static void below(int argc, char **argv)
{
	char *path = backing_path("f"), *buf = pages(20000);
	int fd, i;

	(void)argc, (void)argv;
	make_file("f", 8000, 1);
	fd = OK(open("f", O_RDWR));
	full_pread(fd, buf, 8000, 0);
	for (i = 2; i < 8; i++) {
		int b = OK(open(path, O_WRONLY));
		struct stat st;

		/* same size and same time: only the content differs */
		OK(fstat(b, &st));
		fill(buf, 8000, 0, i);
		full_pwrite(b, buf, 8000, 0);
		OK(futimens(b, (struct timespec[]){ st.st_atim, st.st_mtim }));
		full_pread(fd, buf, 8000, 0);
		is_pattern("changed below", 0, buf, 8000, i);
		OK(ftruncate(b, 8000 - i));
		EQ(pread(fd, buf, 20000, 0), 8000 - i);
		EQ(size_of("f"), 8000 - i);
		OK(ftruncate(b, 8000));
		OK(close(b));
	}
	OK(close(fd));
	printf("%d changes from below seen at once\n", i - 2);
}

/* Execute a file of the mount: read by page faults, and busy meanwhile. */
static void execute(int argc, char **argv)
{
	/* Linux/x86-64: ELF header, one program header, exit_group(42) */
	static const unsigned char elf[] = {
		0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		2, 0, 62, 0, 1, 0, 0, 0, 0x78, 0, 0x40, 0, 0, 0, 0, 0,
		64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 0, 0, 0, 0, 0, 0,
		1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0, 0,
		0x84, 0, 0, 0, 0, 0, 0, 0, 0x84, 0, 0, 0, 0, 0, 0, 0,
		0, 0x10, 0, 0, 0, 0, 0, 0,
		0xbf, 42, 0, 0, 0,		/* mov $42,%edi */
		0xb8, 0xe7, 0, 0, 0,		/* mov $231,%eax */
		0x0f, 0x05,			/* syscall */
	};
	char *const args[] = { "prog", NULL };
	int fd, status, i;
	pid_t pid;

	(void)argc, (void)argv;
	fd = OK(open("prog", O_CREAT | O_WRONLY, 0755));
	full_pwrite(fd, elf, sizeof(elf), 0);
	/* still open for writing */
	ERR(ETXTBSY, execv("./prog", args));
	OK(close(fd));
	for (i = 0; i < 3; i++) {
		fflush(stdout);
		pid = OK(fork());
		if (!pid) {
			execv("./prog", args);
			fail("exec: %s", errname(errno));
		}
		EQ(waitpid(pid, &status, 0), pid);
		EQ(status, 42 << 8);
	}
	OK(chmod("prog", 0644));
	ERR(EACCES, execv("./prog", args));
	printf("executed %d times\n", i);
}

const struct command data_commands[] = {
	{ "eof", eof, "reads at and beyond the end of file" },
	{ "position", position, "lseek and shared positions" },
	{ "large", large, "1 MiB and odd sizes at once" },
	{ "pagecross", pagecross, "writes across page boundaries" },
	{ "extend", extend, "growth leaves zeros" },
	{ "coherent", coherent, "two processes see each other's writes at once" },
	{ "open-trunc", open_trunc, "O_TRUNC while another reads" },
	{ "append", append, "WRITERS RECORDS: O_APPEND by several processes" },
	{ "disjoint", disjoint, "WRITERS BLOCKS SIZE [blind]: interleaved blocks by several processes" },
	{ "contested", contested, "WRITERS BLOCKS ROUNDS: the same blocks by several processes" },
	{ "vectors", vectors, "preadv, pwritev and their errors" },
	{ "rwf", rwf, "flags of preadv2 and pwritev2" },
	{ "direct", direct, "O_DIRECT beside buffered I/O, alignment, end of file" },
	{ "sequential", sequential, "KIB: what read-ahead brings is right" },
	{ "reach", reach, "data reaches the file below by each kind of sync" },
	{ "cut-dirty", cut_dirty, "truncation of dirty pages" },
	{ "limits", limits, "file size limits, far offsets, truncate's errors" },
	{ "below", below, "changes of the file below are seen at once (no caching)" },
	{ "execute", execute, "run a program from the mount" },
	{ NULL, NULL, NULL },
};
