// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: random file operations against a copy of the file kept in memory. */
#include "fsprobe.h"

#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

enum kind {
	READ, WRITE, VECTOR, APPEND, TRUNCATE, REOPEN, SYNC,	/* always in the mix */
	DREAD, DWRITE,						/* "direct" */
	MAPREAD, MAPWRITE,					/* "mmap" */
	PUNCH, ZERO, RESERVE, COLLAPSE,				/* "falloc" */
	COPY, SPLICE,						/* "copy" */
	KINDS
};

static const char *const kind_names[KINDS] = {
	"read", "write", "writev", "append", "truncate", "reopen", "fsync",
	"direct-read", "direct-write", "map-read", "map-write",
	"punch-hole", "zero-range", "fallocate", "collapse-range",
	"copy-range", "sendfile",
};

static const struct {
	const char *name;
	unsigned int kinds;
} groups[] = {
	{ "direct", 1u << DREAD | 1u << DWRITE },
	{ "mmap", 1u << MAPREAD | 1u << MAPWRITE },
	{ "falloc", 1u << PUNCH | 1u << ZERO | 1u << RESERVE | 1u << COLLAPSE },
	{ "copy", 1u << COPY | 1u << SPLICE },
};

enum { MAX_SIZE = 160 * 1024, MAX_IO = 48 * 1024, LOG = 4096 };

struct entry {
	long nr;
	enum kind kind;
	size_t off, len, from;
	size_t size;			/* of the file, afterwards */
	bool refused;
};

static struct {
	const char *name;
	int fd, dfd, afd;		/* ordinary, O_DIRECT, O_APPEND */
	size_t size;
	unsigned char *model;		/* MAX_SIZE bytes, zero beyond size */
	unsigned char *io;		/* MAX_SIZE bytes */
	struct rng rng;
	long nr;
	unsigned long did[KINDS];
	struct entry log[LOG];
	int other;			/* where sendfile goes */
	bool given;			/* a file that was there before */
	bool fixed;			/* and has a size that cannot change */
} x;

static void print_entry(const struct entry *e, size_t at)
{
	bool hit = e->kind == TRUNCATE ? at >= e->off :
		   e->kind != REOPEN && e->kind != SYNC && at >= e->off &&
		   at < e->off + e->len;

	printf("  %c %5ld %-14s", hit ? '*' : ' ', e->nr, kind_names[e->kind]);
	if (e->kind != REOPEN && e->kind != SYNC && e->kind != TRUNCATE)
		printf(" 0x%05zx..0x%05zx (%zu bytes)", e->off, e->off + e->len, e->len);
	if (e->kind == TRUNCATE)
		printf(" from 0x%05zx", e->from);
	if (e->kind == COPY)
		printf(" from 0x%05zx", e->from);
	printf(" size 0x%05zx%s\n", e->size, e->refused ? " not supported" : "");
}

/* The way that led here: what touched this offset, and the last few. */
static void print_log(size_t at)
{
	long first = x.nr > LOG ? x.nr - LOG : 0;
	long i;

	printf("fsx: seed %llu, operation %ld; * covers offset 0x%zx\n",
	       (unsigned long long)seed, x.nr, at);
	for (i = first; i < x.nr; i++) {
		const struct entry *e = &x.log[i % LOG];
		bool near_end = i >= x.nr - 12;
		bool hit = at < e->off + e->len && at >= e->off;

		if (near_end || (hit && i >= x.nr - 400))
			print_entry(e, at);
	}
}

static void compare(const char *what, size_t off, const unsigned char *got, size_t len)
{
	size_t i;

	if (!memcmp(x.model + off, got, len))
		return;
	for (i = 0; x.model[off + i] == got[i]; i++)
		;
	print_log(off + i);
	same(what, off, x.model + off, got, len);
}

static void trouble(const char *what, long long got, long long want)
{
	int err = errno;

	print_log(x.size);
	fail("%s gave %lld (%s), expected %lld", what, got,
	     got < 0 ? errname(err) : "short", want);
}

static void open_all(void)
{
	x.fd = OK(open(x.name, O_RDWR));
	x.dfd = OK(open(x.name, O_RDWR | O_DIRECT));
	x.afd = OK(open(x.name, O_WRONLY | O_APPEND));
}

static void close_all(void)
{
	OK(close(x.fd));
	OK(close(x.dfd));
	OK(close(x.afd));
}

static void random_bytes(unsigned char *to, size_t len)
{
	/* never zero, and telling which operation wrote it */
	fill(to, len, rng_below(&x.rng, 1 << 20), x.nr);
}

/* Sizes and places that like page boundaries, yet are not always on them. */
static size_t some_size(size_t max)
{
	size_t n = rng_below(&x.rng, max) + 1;

	switch (rng_below(&x.rng, 4)) {
	case 0:
		n = n > PAGE ? n / PAGE * PAGE : PAGE;
		break;
	case 1:
		n = n % 64 + 1;
		break;
	}
	return n > max ? max : n;
}

static size_t some_place(size_t limit)
{
	size_t n = rng_below(&x.rng, limit);

	switch (rng_below(&x.rng, 4)) {
	case 0:
		return n / PAGE * PAGE;
	case 1:
		/* just before or after a boundary */
		n = n / PAGE * PAGE + PAGE - 3 + rng_below(&x.rng, 7);
		return n < limit ? n : limit - 1;
	}
	return n;
}

static void grow(size_t end)
{
	if (end > x.size)
		x.size = end;
}

static void set_size(size_t size)
{
	if (size < x.size)
		memset(x.model + size, 0, x.size - size);
	x.size = size;
}

static void do_read(struct entry *e, int fd, const char *what)
{
	size_t want = e->off >= x.size ? 0 : x.size - e->off;
	ssize_t n;

	if (want > e->len)
		want = e->len;
	memset(x.io, 0xa5, e->len);
	n = pread(fd, x.io, e->len, e->off);
	if (n != (ssize_t)want)
		trouble(what, n, want);
	compare(what, e->off, x.io, n);
}

static void do_write(struct entry *e, int fd, const char *what)
{
	ssize_t n;

	random_bytes(x.io, e->len);
	n = pwrite(fd, x.io, e->len, e->off);
	if (n != (ssize_t)e->len)
		trouble(what, n, e->len);
	memcpy(x.model + e->off, x.io, e->len);
	grow(e->off + e->len);
}

static void do_vector(struct entry *e)
{
	struct iovec iov[3];
	size_t a = rng_below(&x.rng, e->len + 1);
	size_t b = rng_below(&x.rng, e->len - a + 1);
	ssize_t n;

	random_bytes(x.io, e->len);
	iov[0] = (struct iovec){ x.io, a };
	iov[1] = (struct iovec){ x.io + a, b };
	iov[2] = (struct iovec){ x.io + a + b, e->len - a - b };
	n = pwritev(x.fd, iov, 3, e->off);
	if (n != (ssize_t)e->len)
		trouble("pwritev", n, e->len);
	memcpy(x.model + e->off, x.io, e->len);
	grow(e->off + e->len);
}

static void do_append(struct entry *e)
{
	ssize_t n;

	e->off = x.size;
	if (e->off + e->len > MAX_SIZE)
		e->len = MAX_SIZE - e->off;
	if (!e->len)
		return;
	random_bytes(x.io, e->len);
	n = write(x.afd, x.io, e->len);
	if (n != (ssize_t)e->len)
		trouble("append", n, e->len);
	memcpy(x.model + e->off, x.io, e->len);
	grow(e->off + e->len);
}

static unsigned char *map(size_t off, size_t len, int prot, size_t *skip)
{
	unsigned char *p;

	*skip = off % PAGE;
	p = mmap(NULL, *skip + len, prot, MAP_SHARED, x.fd, off - *skip);
	if (p == MAP_FAILED)
		trouble("mmap", -1, 0);
	return p;
}

static void do_mapread(struct entry *e)
{
	unsigned char *p;
	size_t skip;

	if (e->off >= x.size)
		e->off = x.size / 2;
	if (e->off + e->len > x.size)
		e->len = x.size - e->off;
	if (!e->len)
		return;
	p = map(e->off, e->len, PROT_READ, &skip);
	compare("map-read", e->off, p + skip, e->len);
	munmap(p, skip + e->len);
}

static void do_mapwrite(struct entry *e)
{
	unsigned char *p;
	size_t skip;

	if (e->off + e->len > x.size) {
		if (ftruncate(x.fd, e->off + e->len))
			trouble("ftruncate", -1, 0);
		set_size(e->off + e->len);
	}
	p = map(e->off, e->len, PROT_READ | PROT_WRITE, &skip);
	random_bytes(x.io, e->len);
	memcpy(p + skip, x.io, e->len);
	memcpy(x.model + e->off, x.io, e->len);
	if (!rng_below(&x.rng, 3) && msync(p, skip + e->len, MS_SYNC))
		trouble("msync", -1, 0);
	munmap(p, skip + e->len);
}

static void do_truncate(struct entry *e)
{
	int r;

	e->from = x.size;
	e->len = 0;
	if (rng_below(&x.rng, 2))
		r = ftruncate(x.fd, e->off);
	else
		r = truncate(x.name, e->off);
	if (r)
		trouble("truncate", r, 0);
	set_size(e->off);
}

/* fallocate in a mode that the filesystem may lack; it may never do it wrong. */
static bool do_fallocate(struct entry *e, int mode)
{
	if (!fallocate(x.fd, mode, e->off, e->len))
		return true;
	if (errno != EOPNOTSUPP || mode & FALLOC_FL_PUNCH_HOLE)
		trouble("fallocate", -1, 0);
	e->refused = true;
	return false;
}

static void wipe(size_t off, size_t len)
{
	if (off >= x.size)
		return;
	memset(x.model + off, 0, off + len > x.size ? x.size - off : len);
}

static void do_collapse(struct entry *e)
{
	e->off = e->off / PAGE * PAGE;
	e->len = e->len > PAGE ? e->len / PAGE * PAGE : PAGE;
	if (e->off + e->len >= x.size) {
		e->refused = true;
		return;
	}
	if (!do_fallocate(e, FALLOC_FL_COLLAPSE_RANGE))
		return;
	memmove(x.model + e->off, x.model + e->off + e->len, x.size - e->off - e->len);
	set_size(x.size - e->len);
}

static void do_copy(struct entry *e)
{
	off_t in, out;
	ssize_t n;

	e->from = some_place(MAX_SIZE - MAX_IO);
	if (e->from >= x.size || !x.size)
		return;
	if (e->from + e->len > x.size)
		e->len = x.size - e->from;
	/* the two must not overlap */
	if (e->off < e->from + e->len && e->from < e->off + e->len) {
		e->off = e->from + e->len;
		if (e->off + e->len > MAX_SIZE)
			return;
	}
	in = e->from;
	out = e->off;
	n = copy_file_range(x.fd, &in, x.fd, &out, e->len, 0);
	if (n != (ssize_t)e->len)
		trouble("copy_file_range", n, e->len);
	memmove(x.model + e->off, x.model + e->from, e->len);
	grow(e->off + e->len);
}

static void do_splice(struct entry *e)
{
	size_t want = e->off >= x.size ? 0 : x.size - e->off;
	off_t off = e->off;
	ssize_t n;

	if (want > e->len)
		want = e->len;
	OK(ftruncate(x.other, 0));
	OK(lseek(x.other, 0, SEEK_SET));
	n = sendfile(x.other, x.fd, &off, e->len);
	if (n != (ssize_t)want)
		trouble("sendfile", n, want);
	full_pread(x.other, x.io, want, 0);
	compare("sendfile", e->off, x.io, want);
}

/* Everything, by a way chosen by lot, and the size. */
static void check_all(void)
{
	struct entry e = { .kind = READ, .off = 0, .len = MAX_SIZE };
	struct stat st;

	OK(fstat(x.fd, &st));
	if ((size_t)st.st_size != x.size)
		trouble("st_size", st.st_size, x.size);
	do_read(&e, x.fd, "read of everything");
}

static void one(unsigned int mix)
{
	struct entry e = { .nr = x.nr };

	/* each once, and then by lot */
	e.kind = x.nr;
	while (e.kind >= KINDS || !(mix >> e.kind & 1) ||
	       /* these two are costly and need no practice */
	       (x.nr >= KINDS && (e.kind == REOPEN || e.kind == SYNC) &&
		rng_below(&x.rng, 3)))
		e.kind = rng_below(&x.rng, KINDS);
	e.len = some_size(MAX_IO);
	e.off = some_place(MAX_SIZE - MAX_IO);
	if (x.fixed) {
		e.off %= x.size;
		if (e.off + e.len > x.size)
			e.len = x.size - e.off;
	}
	if (e.kind == DREAD || e.kind == DWRITE) {
		e.off &= ~511ul;
		e.len = (e.len + 511) & ~511ul;
	}
	switch (e.kind) {
	case READ:
		do_read(&e, x.fd, "read");
		break;
	case DREAD:
		do_read(&e, x.dfd, "direct-read");
		break;
	case WRITE:
		do_write(&e, x.fd, "write");
		break;
	case DWRITE:
		do_write(&e, x.dfd, "direct-write");
		break;
	case VECTOR:
		do_vector(&e);
		break;
	case APPEND:
		do_append(&e);
		break;
	case TRUNCATE:
		do_truncate(&e);
		break;
	case REOPEN:
		close_all();
		open_all();
		break;
	case SYNC:
		OK(rng_below(&x.rng, 2) ? fsync(x.fd) : fdatasync(x.fd));
		break;
	case MAPREAD:
		do_mapread(&e);
		break;
	case MAPWRITE:
		do_mapwrite(&e);
		break;
	case PUNCH:
		do_fallocate(&e, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
		wipe(e.off, e.len);
		break;
	case ZERO:
		if (do_fallocate(&e, FALLOC_FL_ZERO_RANGE)) {
			wipe(e.off, e.len);
			grow(e.off + e.len);
		}
		break;
	case RESERVE:
		if (do_fallocate(&e, 0))
			grow(e.off + e.len);
		break;
	case COLLAPSE:
		do_collapse(&e);
		break;
	case COPY:
		do_copy(&e);
		break;
	case SPLICE:
		do_splice(&e);
		break;
	case KINDS:
		break;
	}
	e.size = x.size;
	x.log[x.nr++ % LOG] = e;
	x.did[e.kind]++;
}

static void fsx(int argc, char **argv)
{
	unsigned int mix = (1u << (SYNC + 1)) - 1;
	char *path;
	long ops, i;
	size_t g;
	int arg;

	if (argc < 2)
		fail("usage: fsx OPERATIONS [on=FILE|fixed=FILE] [direct] [mmap] [falloc] [copy]");
	ops = number(argv[1]);
	printf("%ld operations: buffered", ops);
	x.name = "fsx";
	for (arg = 2; arg < argc; arg++) {
		if (!strncmp(argv[arg], "on=", 3) || !strncmp(argv[arg], "fixed=", 6)) {
			x.name = strchr(argv[arg], '=') + 1;
			x.given = true;
			x.fixed = *argv[arg] == 'f';
			continue;
		}
		for (g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
			if (!strcmp(groups[g].name, argv[arg]))
				break;
		if (g == sizeof(groups) / sizeof(groups[0]))
			fail("no group of operations \"%s\"", argv[arg]);
		mix |= groups[g].kinds;
		printf(" %s", argv[arg]);
	}
	printf("\n");

	if (x.fixed)
		mix &= ~(1u << TRUNCATE | 1u << APPEND);
	x.model = pages(MAX_SIZE);
	x.io = pages(MAX_SIZE);
	rng_init(&x.rng, 1);
	path = getenv("WORK");
	x.other = OK(open(path ? path : "/tmp", O_TMPFILE | O_RDWR, 0600));
	if (!x.given)
		OK(close(OK(open(x.name, O_CREAT | O_EXCL | O_RDWR, 0644))));
	open_all();
	if (x.fixed) {
		x.size = MAX_SIZE;
		EQ(size_of(x.name), x.size);
		full_pread(x.fd, x.model, x.size, 0);
	} else if (x.given) {
		OK(ftruncate(x.fd, 0));
	}

	for (i = 0; i < ops; i++) {
		one(mix);
		if (i % 32 == 31)
			check_all();
	}
	check_all();
	OK(fsync(x.fd));
	close_all();

	/* what lies below must be the same after a sync; a given file's path is not known here */
	path = x.given ? strdup(getenv("BELOW") && *getenv("BELOW") ? getenv("BELOW") : x.name) : backing_path(x.name);
	x.fd = OK(open(path, O_RDONLY));
	free(path);
	check_all();
	OK(close(x.fd));

	for (i = 0; i < KINDS; i++)
		if (mix >> i & 1 && !x.did[i])
			fail("%ld operations are too few: no %s", ops, kind_names[i]);
	if (!x.given)
		OK(unlink(x.name));
	printf("file, memory and backing file agree\n");
}

const struct command fsx_commands[] = {
	{ "fsx", fsx, "OPERATIONS [on=FILE|fixed=FILE] [direct] [mmap] [falloc] [copy]: random operations, verified" },
	{ NULL, NULL, NULL },
};
