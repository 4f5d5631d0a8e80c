// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: memory maps. */
#include "fsprobe.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

static unsigned char *map(int fd, size_t off, size_t len, int flags)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd, off);

	if (p == MAP_FAILED)
		fail("mmap of %zu at %zu: %s", len, off, errname(errno));
	return p;
}

enum { SIZE = 5 * PAGE + 100 };

static void shared_other(int fd, void *arg)
{
	int f = OK(open("f", O_RDWR));
	unsigned char *m = map(f, 0, SIZE, MAP_SHARED);

	(void)arg;
	hear(fd, 'a');
	is_pattern("other's store in my map", 0, m, SIZE, 2);
	fill(m + 3000, 3000, 3000, 3);
	tell(fd, 'b');
	hear(fd, 'c');
	is_pattern("other's write in my map", PAGE, m + PAGE, PAGE, 4);
	OK(munmap(m, SIZE) ? -1 : 0);
	OK(close(f));
}

/* Maps, reads and writes of two processes show one and the same file. */
static void map_shared(int argc, char **argv)
{
	unsigned char *m, *buf = pages(SIZE);
	struct peer p;
	int fd;

	(void)argc, (void)argv;
	make_file("f", SIZE, 1);
	fd = OK(open("f", O_RDWR));
	m = map(fd, 0, SIZE, MAP_SHARED);
	is_pattern("map", 0, m, SIZE, 1);
	peer_start(&p, shared_other, NULL);
	fill(m, SIZE, 0, 2);
	full_pread(fd, buf, SIZE, 0);
	is_pattern("read after store", 0, buf, SIZE, 2);
	tell(p.fd, 'a');
	hear(p.fd, 'b');
	is_pattern("other's store", 3000, m + 3000, 3000, 3);
	full_pread(fd, buf, SIZE, 0);
	is_pattern("read after other's store", 3000, buf + 3000, 3000, 3);
	fill(buf, PAGE, PAGE, 4);
	full_pwrite(fd, buf, PAGE, PAGE);
	is_pattern("map after write", PAGE, m + PAGE, PAGE, 4);
	tell(p.fd, 'c');
	peer_end(&p);
	printf("two maps, reads and writes agree\n");

	/* the map outlives descriptor and name */
	OK(close(fd));
	OK(unlink("f"));
	fill(m, SIZE, 0, 5);
	is_pattern("map without a name", 0, m, SIZE, 5);
	OK(msync(m, SIZE, MS_SYNC));
	OK(munmap(m, SIZE));
	printf("a map outlives its file's name\n");
}

static void map_private(int argc, char **argv)
{
	unsigned char *m, *m2;
	int fd;

	(void)argc, (void)argv;
	make_file("f", SIZE, 1);
	fd = OK(open("f", O_RDONLY));
	m = map(fd, 0, SIZE, MAP_PRIVATE);
	m2 = map(fd, 0, SIZE, MAP_PRIVATE);
	fill(m, SIZE, 0, 2);
	is_file("f", SIZE, 1);
	is_pattern("the other private map", 0, m2, SIZE, 1);
	OK(munmap(m, SIZE));
	OK(munmap(m2, SIZE));
	is_backing("f", SIZE, 1);
	printf("stores into private maps stay private\n");
	ERR(EACCES, (long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	m = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	TRUE(m != MAP_FAILED);
	ERR(EACCES, mprotect(m, PAGE, PROT_READ | PROT_WRITE));
	OK(munmap(m, PAGE));
	OK(close(fd));
	fd = OK(open("f", O_WRONLY));
	ERR(EACCES, (long)mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	OK(close(fd));
	printf("maps need the matching open mode\n");
}

static sigjmp_buf escape;

static void on_sigbus(int sig)
{
	(void)sig;
	siglongjmp(escape, 1);
}

static bool faults(volatile unsigned char *p)
{
	if (sigsetjmp(escape, 1))
		return true;
	(void)*p;
	return false;
}

/* Beyond the last page of the file a map faults, as long as it is beyond. */
static void map_eof(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_sigbus };
	unsigned char *m;
	int fd;

	(void)argc, (void)argv;
	sigaction(SIGBUS, &sa, NULL);
	make_file("f", PAGE + 100, 1);
	fd = OK(open("f", O_RDWR));
	m = map(fd, 0, 4 * PAGE, MAP_SHARED);
	is_pattern("inside", 0, m, PAGE + 100, 1);
	is_zero("tail of the last page", PAGE + 100, m + PAGE + 100, PAGE - 100);
	TRUE(faults(m + 2 * PAGE));
	TRUE(faults(m + 3 * PAGE));
	printf("a page beyond the end faults\n");
	OK(ftruncate(fd, 3 * PAGE));
	TRUE(!faults(m + 2 * PAGE));
	is_zero("grown", PAGE + 100, m + PAGE + 100, 2 * PAGE - 100);
	m[2 * PAGE] = 7;
	printf("grown, it does not\n");
	OK(ftruncate(fd, 10));
	TRUE(faults(m + PAGE));
	TRUE(faults(m + 2 * PAGE));
	is_pattern("what is left", 0, m, 10, 1);
	is_zero("cut in the map", 10, m + 10, PAGE - 10);
	OK(ftruncate(fd, 3 * PAGE));
	is_zero("cut and grown", 10, m + 10, 3 * PAGE - 10);
	printf("cut, it faults again and comes back as zeros\n");
	OK(munmap(m, 4 * PAGE));
	OK(close(fd));
}

/* msync brings stores to the file below; so do munmap and fsync. */
static void map_sync(int argc, char **argv)
{
	unsigned char *m;
	int fd;

	(void)argc, (void)argv;
	make_file("f", SIZE, 1);
	fd = OK(open("f", O_RDWR));
	m = map(fd, 0, SIZE, MAP_SHARED);
	fill(m, SIZE, 0, 2);
	OK(msync(m, SIZE, MS_SYNC));
	is_backing("f", SIZE, 2);
	printf("msync\n");
	fill(m, SIZE, 0, 3);
	OK(fsync(fd));
	is_backing("f", SIZE, 3);
	printf("fsync of stores\n");
	/* clean after the sync: a new store must be noticed again */
	fill(m, SIZE, 0, 4);
	OK(msync(m, SIZE, MS_ASYNC));
	is_file("f", SIZE, 4);
	OK(fdatasync(fd));
	is_backing("f", SIZE, 4);
	printf("fdatasync of stores\n");
	/* the descriptor goes first: the map keeps the file open */
	fill(m, SIZE, 0, 5);
	OK(close(fd));
	fill(m + PAGE, PAGE, PAGE, 6);
	OK(munmap(m, SIZE));
	fd = OK(open("f", O_RDWR));
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	m = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	TRUE(m != MAP_FAILED);
	is_pattern("first page below", 0, m, PAGE, 5);
	is_pattern("second page below", PAGE, m + PAGE, PAGE, 6);
	is_pattern("rest below", 2 * PAGE, m + 2 * PAGE, SIZE - 2 * PAGE, 5);
	OK(close(fd));
	printf("munmap and fsync\n");
	ERR(EINVAL, msync(m + 1, PAGE, MS_SYNC));
	ERR(EINVAL, msync(m, PAGE, MS_SYNC | MS_ASYNC));
	OK(munmap(m, SIZE));
	ERR(ENOMEM, msync(m, PAGE, MS_SYNC));
	printf("msync's errors\n");
}

/* Many maps of one big file at once, each page through another one. */
static void map_store(int i, void *arg)
{
	int pages_of_file = *(int *)arg, fd = OK(open("f", O_RDWR)), k;
	unsigned char *m = map(fd, 0, pages_of_file * PAGE, MAP_SHARED);

	/* half a page each: neighbours share every page */
	for (k = 0; k < pages_of_file; k++)
		if (k % 2 == i / 2)
			fill(m + k * PAGE + i % 2 * 2048, 2048,
			     k * PAGE + i % 2 * 2048, i);
	OK(munmap(m, pages_of_file * PAGE));
	OK(close(fd));
}

static void map_crowd(int argc, char **argv)
{
	unsigned char *buf = pages(PAGE);
	int n, fd, k;

	if (argc != 2)
		fail("usage: map-crowd PAGES");
	n = number(argv[1]);
	make_file("f", n * PAGE, 9);
	crowd(4, map_store, &n);
	fd = OK(open("f", O_RDWR));
	OK(fsync(fd));
	OK(close(fd));
	fd = OK(open(backing_path("f"), O_RDONLY));
	for (k = 0; k < n; k++) {
		full_pread(fd, buf, PAGE, k * PAGE);
		is_pattern("first half", k * PAGE, buf, 2048, k % 2 * 2);
		is_pattern("second half", k * PAGE + 2048, buf + 2048, 2048,
			   k % 2 * 2 + 1);
	}
	OK(close(fd));
	printf("4 processes stored into %d pages, two in each\n", n);
}

/* Writing from a map of the same file into it: the kernel faults on itself. */
static void map_self(int argc, char **argv)
{
	unsigned char *m, *buf = pages(8 * PAGE);
	int fd;

	(void)argc, (void)argv;
	make_file("f", 8 * PAGE, 1);
	fd = OK(open("f", O_RDWR));
	/* nothing cached: the faults happen within write and read */
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) ? -1 : 0);
	m = map(fd, 0, 8 * PAGE, MAP_SHARED);
	memset(buf, 0, PAGE);
	fill(buf, 2 * PAGE, 0, 1);
	full_pwrite(fd, m, 2 * PAGE, 4 * PAGE);
	same("written from the map", 4 * PAGE, buf, m + 4 * PAGE, 2 * PAGE);
	full_pread(fd, m + 6 * PAGE, 2 * PAGE, PAGE);
	fill(buf, 2 * PAGE, PAGE, 1);
	same("read into the map", 6 * PAGE, buf, m + 6 * PAGE, 2 * PAGE);
	/* the same page as source and target */
	full_pwrite(fd, m + 100, 50, 100);
	is_pattern("onto itself", 100, m + 100, 50, 1);
	OK(munmap(m, 8 * PAGE));
	OK(close(fd));
	printf("a file's map as buffer for its own I/O\n");
}

const struct command map_commands[] = {
	{ "map-shared", map_shared, "shared maps of two processes, with read and write" },
	{ "map-private", map_private, "private maps, and which open mode a map needs" },
	{ "map-eof", map_eof, "maps around the end of file" },
	{ "map-sync", map_sync, "msync, fsync and munmap bring stores to the file below" },
	{ "map-crowd", map_crowd, "PAGES: four processes store into the same pages" },
	{ "map-self", map_self, "I/O with a map of the same file as buffer" },
	{ NULL, NULL, NULL },
};
