// SPDX-License-Identifier: GPL-2.0-only
/* exportprobe: single calls on a file, with what came of each. */
#include "exportprobe.h"

#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static const struct {
	const char *name;
	int mode;
} modes[] = {
	{ "plain", 0 },
	{ "keep", FALLOC_FL_KEEP_SIZE },
	{ "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
	{ "zero", FALLOC_FL_ZERO_RANGE },
	{ "zero-keep", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
	{ "collapse", FALLOC_FL_COLLAPSE_RANGE },
	{ "insert", FALLOC_FL_INSERT_RANGE },
	{ "unshare", FALLOC_FL_UNSHARE_RANGE },
};

static int mode_of(const char *name)
{
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(name, modes[i].name))
			return modes[i].mode;
	fail("no fallocate mode %s", name);
}

/* A number, with k or m behind it. */
static long long amount(const char *text)
{
	char *end;
	long long n = strtoll(text, &end, 0);

	if (*end == 'k')
		n <<= 10, end++;
	else if (*end == 'm')
		n <<= 20, end++;
	if (end == text || *end)
		fail("no number: %s", text);
	return n;
}

static void say_result(long long got)
{
	if (got < 0)
		printf("%s\n", errname(errno));
	else
		printf("%lld\n", got);
}

/* A step's words, taken apart at the colons. */
struct step {
	const char *word[5];
	int words;
};

static long long arg(const struct step *s, int i)
{
	if (i >= s->words)
		fail("%s: too few words", s->word[0]);
	return amount(s->word[i]);
}

static void run(int fd, const struct step *s)
{
	const char *what = s->word[0];
	struct stat st;
	char *buf;

	errno = 0;
	if (!strcmp(what, "read") || !strcmp(what, "zeros") || !strcmp(what, "is")) {
		long long off = arg(s, 1), len = arg(s, 2), n;

		buf = pages(len + 1);
		n = pread(fd, buf, len, off);
		printf("read %s at %s: ", s->word[2], s->word[1]);
		say_result(n);
		if (n > 0 && *what == 'z')
			is_zero("read", off, buf, n);
		if (n > 0 && *what == 'i')
			is_pattern("read", off, buf, n, arg(s, 3));
	} else if (!strcmp(what, "write") || !strcmp(what, "safe-write")) {
		long long off = arg(s, 1), len = arg(s, 2);
		struct iovec vec = { .iov_len = len };

		vec.iov_base = buf = pages(len + 1);
		fill(buf, len, off, arg(s, 3));
		printf("%s %s at %s: ", what, s->word[2], s->word[1]);
		say_result(pwritev2(fd, &vec, 1, off, *what == 's' ? RWF_DSYNC : 0));
	} else if (!strcmp(what, "append")) {
		long long len = arg(s, 1);

		OK(fstat(fd, &st));
		buf = pages(len + 1);
		fill(buf, len, st.st_size, arg(s, 2));
		printf("append %s: ", s->word[1]);
		say_result(write(fd, buf, len));
	} else if (!strcmp(what, "truncate")) {
		printf("truncate to %s: ", s->word[1]);
		say_result(ftruncate(fd, arg(s, 1)));
	} else if (!strcmp(what, "allocate")) {
		int mode = mode_of(s->word[1]);

		printf("allocate %s %s at %s: ", s->word[1], s->word[3], s->word[2]);
		say_result(fallocate(fd, mode, arg(s, 2), arg(s, 3)));
	} else if (!strcmp(what, "data") || !strcmp(what, "hole")) {
		printf("%s from %s: ", what, s->word[1]);
		say_result(lseek(fd, arg(s, 1), *what == 'd' ? SEEK_DATA : SEEK_HOLE));
	} else if (!strcmp(what, "fsync")) {
		printf("fsync: ");
		say_result(fsync(fd));
	} else if (!strcmp(what, "fdatasync")) {
		printf("fdatasync: ");
		say_result(fdatasync(fd));
	} else if (!strcmp(what, "copy")) {
		off_t from = arg(s, 1), to = arg(s, 2);

		printf("copy %s from %s to %s: ", s->word[3], s->word[1], s->word[2]);
		say_result(copy_file_range(fd, &from, fd, &to, arg(s, 3), 0));
	} else if (!strcmp(what, "same")) {
		long long a = arg(s, 1), b = arg(s, 2), len = arg(s, 3);
		char *one = pages(len), *two = pages(len);

		full_pread(fd, one, len, a);
		full_pread(fd, two, len, b);
		same("the other range", b, one, two, len);
		printf("%s and %s: the same %s\n", s->word[1], s->word[2], s->word[3]);
	} else if (!strcmp(what, "xattrs")) {
		char list[64];

		printf("setxattr: ");
		say_result(fsetxattr(fd, "user.a", "1", 1, 0));
		printf("getxattr: ");
		say_result(fgetxattr(fd, "user.a", list, sizeof(list)));
		printf("listxattr: ");
		say_result(flistxattr(fd, list, sizeof(list)));
	} else if (!strcmp(what, "ioctl")) {
		uint64_t size;

		printf("ioctl: ");
		say_result(ioctl(fd, BLKGETSIZE64, &size));
	} else if (!strcmp(what, "flock")) {
		printf("flock: ");
		say_result(flock(fd, LOCK_EX));
	} else if (!strcmp(what, "lockf")) {
		printf("lockf: ");
		say_result(lockf(fd, F_LOCK, 0));
	} else if (!strcmp(what, "statfs")) {
		struct statfs fs;

		printf("statfs: ");
		say_result(fstatfs(fd, &fs));
	} else if (!strcmp(what, "utimes")) {
		printf("utimes: ");
		say_result(futimens(fd, (struct timespec[]){ { 1, 0 }, { 2, 0 } }));
	} else if (!strcmp(what, "chown")) {
		printf("chown to %s: ", s->word[1]);
		say_result(fchown(fd, arg(s, 1), -1));
	} else if (!strcmp(what, "size")) {
		OK(fstat(fd, &st));
		printf("size %lld\n", (long long)st.st_size);
	} else {
		fail("no such step: %s", what);
	}
}

void probe_steps(int argc, char **argv)
{
	static const struct {
		const char *name;
		int flags;
	} ways[] = {
		{ "ro", O_RDONLY }, { "rw", O_RDWR }, { "wo", O_WRONLY },
		{ "direct", O_RDWR | O_DIRECT }, { "append", O_WRONLY | O_APPEND },
		{ "sync", O_RDWR | O_SYNC }, { "dsync", O_RDWR | O_DSYNC },
		{ "truncating", O_RDWR | O_TRUNC },
	};
	int flags = -1, fd;

	if (argc < 3)
		fail("usage: steps FILE WAY STEP...");
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(argv[2], ways[i].name))
			flags = ways[i].flags;
	if (flags < 0)
		fail("no way to open: %s", argv[2]);
	fd = open(argv[1], flags | O_CLOEXEC);
	if (fd < 0) {
		printf("open %s: %s\n", argv[2], errname(errno));
		return;
	}
	for (int i = 3; i < argc; i++) {
		struct step s = { .words = 0 };
		char *text = argv[i], *word;

		while (s.words < 5 && (word = strsep(&text, ":")))
			s.word[s.words++] = word;
		run(fd, &s);
	}
	/* a server's late errors, too */
	if (close(fd) < 0)
		printf("close: %s\n", errname(errno));
}
