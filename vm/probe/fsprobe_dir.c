// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: directories. */
#include "fsprobe.h"

#include <dirent.h>
#include <sys/syscall.h>

struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	unsigned short d_reclen;
	unsigned char d_type;
	char d_name[];
};

static void touch(const char *dir, const char *format, int n)
{
	char path[320], name[280];

	snprintf(name, sizeof(name), format, n);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	OK(close(OK(open(path, O_CREAT | O_EXCL | O_WRONLY, 0644))));
}

static void drop(const char *dir, const char *format, int n)
{
	char path[320], name[280];

	snprintf(name, sizeof(name), format, n);
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	OK(unlink(path));
}

/*
 * List a directory: each "FORMAT" number below count exactly once, dot and
 * dotdot once, nothing else unless others is given (then they are counted).
 */
static void list_all(DIR *d, const char *format, int count, int *others)
{
	unsigned char *seen = calloc(count + 1, 1);
	int dots = 0, found = 0, n, used;
	struct dirent *de;
	char again[280];

	errno = 0;
	while ((de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..")) {
			dots++;
			continue;
		}
		n = -1;
		used = 0;
		if (sscanf(de->d_name, format, &n) == 1 && n >= 0 && n < count) {
			snprintf(again, sizeof(again), format, n);
			used = !strcmp(again, de->d_name);
		}
		if (!used) {
			if (!others)
				fail("unexpected entry %.40s", de->d_name);
			(*others)++;
			continue;
		}
		if (seen[n]++)
			fail("entry %.40s comes twice", de->d_name);
		found++;
	}
	EQ(errno, 0);
	EQ(dots, 2);
	for (n = 0; n < count; n++)
		if (!seen[n])
			fail("entry %d of %d is missing (%d were found)", n, count, found);
	free(seen);
}

static DIR *open_dir(const char *name)
{
	DIR *d = opendir(name);

	if (!d)
		fail("opendir %s: %s", name, errname(errno));
	return d;
}

static void list_dir(const char *name, const char *format, int count)
{
	DIR *d = open_dir(name);

	list_all(d, format, count, NULL);
	OK(closedir(d));
}

static void big(int argc, char **argv)
{
	char path[64];
	struct stat st;
	int count, i;
	DIR *d;

	if (argc != 2)
		fail("usage: dir-big ENTRIES");
	count = number(argv[1]);
	OK(mkdir("d", 0755));
	/* made below: what is looked at is reading */
	for (i = 0; i < count; i++)
		touch(backing_path("d"), "some-entry-%d", i);
	list_dir("d", "some-entry-%d", count);
	/* with attributes, as ls -l */
	for (i = 0; i < count; i += 10) {
		snprintf(path, sizeof(path), "d/some-entry-%d", i);
		OK(lstat(path, &st));
		EQ(st.st_size, 0);
	}
	d = open_dir("d");
	list_all(d, "some-entry-%d", count, NULL);
	rewinddir(d);
	list_all(d, "some-entry-%d", count, NULL);
	OK(closedir(d));
	printf("%d entries, listed three times: each once\n", count);
	for (i = 0; i < count; i += 2)
		drop("d", "some-entry-%d", i);
	for (i = 0; i < count; i += 2)
		touch("d", "some-entry-%d", i);
	list_dir("d", "some-entry-%d", count);
	ERR(ENOTEMPTY, rmdir("d"));
	for (i = 0; i < count; i++)
		drop("d", "some-entry-%d", i);
	list_dir("d", "some-entry-%d", 0);
	OK(rmdir("d"));
	printf("half replaced, then all removed\n");
}

/* Entries that stay are seen exactly once, whatever comes and goes meanwhile. */
static void changing(int argc, char **argv)
{
	int stable, round, i, others;
	struct dirent *de;
	unsigned char *seen;
	DIR *d;

	if (argc != 2)
		fail("usage: dir-changing ENTRIES");
	stable = number(argv[1]);
	seen = malloc(stable);
	OK(mkdir("d", 0755));
	for (i = 0; i < stable; i++)
		touch("d", "stable-name-that-is-long-enough-for-several-buffers-%d", i);
	for (round = 0; round < 4; round++) {
		memset(seen, 0, stable);
		others = 0;
		d = open_dir("d");
		for (i = 0; (de = readdir(d)); i++) {
			int n = -1;

			if (sscanf(de->d_name, "stable-name-that-is-long-enough-for-several-buffers-%d", &n) == 1) {
				TRUE(n >= 0 && n < stable);
				if (seen[n]++)
					fail("round %d: entry %d comes twice", round, n);
			} else if (de->d_name[0] != '.') {
				others++;
			}
			/* one comes, an older one goes, after each step */
			if (i % 2 == 0 && i < stable) {
				touch("d", "passing-%d", round * stable + i);
				if (i >= 20)
					drop("d", "passing-%d", round * stable + i - 20);
			}
		}
		OK(closedir(d));
		for (i = 0; i < stable; i++)
			if (!seen[i])
				fail("round %d: entry %d is missing", round, i);
		/* those that have not gone yet */
		for (i = 0; i < stable; i += 2)
			if (i + 20 >= stable)
				drop("d", "passing-%d", round * stable + i);
	}
	list_dir("d", "stable-name-that-is-long-enough-for-several-buffers-%d", stable);
	printf("%d stable entries: each seen once in %d rounds of change\n", stable, round);
}

/* telldir, seekdir, rewinddir. */
static void seeking(int argc, char **argv)
{
	enum { N = 120 };
	long where[N + 3];
	char names[N + 3][256];
	struct dirent *de;
	int i, n = 0;
	DIR *d;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	for (i = 0; i < N; i++)
		touch("d", "an-entry-of-the-directory-%d", i);
	d = open_dir("d");
	for (;; n++) {
		where[n] = telldir(d);
		de = readdir(d);
		if (!de)
			break;
		TRUE(n < N + 2);
		snprintf(names[n], sizeof(names[n]), "%s", de->d_name);
	}
	EQ(n, N + 2);
	/* to each place, in a scattered order: the same entry follows */
	for (i = 0; i < n; i++) {
		int k = i * 47 % n;

		seekdir(d, where[k]);
		EQ(telldir(d), where[k]);
		de = readdir(d);
		TRUE(de);
		if (strcmp(de->d_name, names[k]))
			fail("at place %d: %.60s, expected %.60s", k, de->d_name, names[k]);
		if (k + 1 < n) {
			de = readdir(d);
			TRUE(de && !strcmp(de->d_name, names[k + 1]));
		}
	}
	seekdir(d, where[n]);
	TRUE(!readdir(d));
	printf("%d places found again\n", n);
	rewinddir(d);
	list_all(d, "an-entry-of-the-directory-%d", N, NULL);
	/* what is new shows after a rewind */
	touch("d", "an-entry-of-the-directory-%d", N);
	rewinddir(d);
	list_all(d, "an-entry-of-the-directory-%d", N + 1, NULL);
	drop("d", "an-entry-of-the-directory-%d", N);
	rewinddir(d);
	list_all(d, "an-entry-of-the-directory-%d", N, NULL);
	OK(closedir(d));
	/* two descriptors, two positions; a duplicate shares one */
	int a = OK(open("d", O_RDONLY)), b = OK(open("d", O_RDONLY)), c = OK(dup(a));
	char buf[512];

	OK(syscall(SYS_getdents64, a, buf, sizeof(buf)));
	TRUE(lseek(a, 0, SEEK_CUR) != 0);
	EQ(lseek(b, 0, SEEK_CUR), 0);
	EQ(lseek(c, 0, SEEK_CUR), lseek(a, 0, SEEK_CUR));
	EQ(lseek(c, 0, SEEK_SET), 0);
	EQ(lseek(a, 0, SEEK_CUR), 0);
	OK(close(a));
	OK(close(b));
	OK(close(c));
	printf("rewound; positions of descriptors\n");
}

/* getdents with buffers that hold next to nothing. */
static void small_buffers(int argc, char **argv)
{
	static const size_t sizes[] = { 24, 40, 48, 100, 300, 1000, 5000, 40000 };
	enum { N = 40 };
	unsigned int type, i;
	char *buf = pages(1 << 16);
	int fd, n;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	for (n = 0; n < N; n++)
		touch("d", "name%d", n);
	fd = OK(open("d", O_RDONLY));
	for (i = 0; i < 8; i++) {
		bool seen[N] = { false };
		int found = 0;
		long got, off;

		EQ(lseek(fd, 0, SEEK_SET), 0);
		errno = 0;
		while ((got = syscall(SYS_getdents64, fd, buf, sizes[i])) > 0) {
			TRUE(got <= (long)sizes[i]);
			for (off = 0; off < got; ) {
				struct linux_dirent64 *de = (void *)(buf + off);

				TRUE(de->d_reclen >= 24 && off + de->d_reclen <= got);
				type = de->d_type;
				if (de->d_name[0] == '.') {
					TRUE(type == DT_DIR || type == DT_UNKNOWN);
				} else {
					TRUE(type == DT_REG || type == DT_UNKNOWN);
					TRUE(sscanf(de->d_name, "name%d", &n) == 1 &&
					     n >= 0 && n < N && !seen[n]);
					seen[n] = true;
				}
				found++;
				off += de->d_reclen;
			}
		}
		if (got < 0)
			/* even one entry does not fit */
			printf("%zu bytes: %s\n", sizes[i], errname(errno));
		else
			printf("%zu bytes: %d entries\n", sizes[i], found);
	}
	OK(rename("d", "e"));
	ERR(ENOTDIR, syscall(SYS_getdents64, OK(open("e/name0", O_RDONLY)), buf, 100));
	ERR(EFAULT, (lseek(fd, 0, SEEK_SET), syscall(SYS_getdents64, fd, nowhere, 4096)));
	OK(close(fd));
	printf("errors\n");
}

/* Type and inode number of an entry are those of the file. */
static void entry_types(int argc, char **argv)
{
	static const char *const names[] = { "file", "dir", "link", "fifo", "sock", "null" };
	char path[300];
	struct dirent *de;
	struct stat st, up;
	int found = 0, round;
	DIR *d;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	OK(chdir("d"));
	make_file("file", 100, 1);
	OK(mkdir("dir", 0755));
	OK(symlink("dir", "link"));
	OK(mkfifo("fifo", 0600));
	OK(mknod("sock", S_IFSOCK | 0600, 0));
	OK(mknod("null", S_IFCHR | 0600, 0x103));
	OK(chdir(".."));
	for (round = 0; round < 2; round++) {
		d = open_dir("d");
		while ((de = readdir(d))) {
			snprintf(path, sizeof(path), "d/%s", de->d_name);
			OK(lstat(path, &st));
			TRUE(de->d_type == DT_UNKNOWN || de->d_type == IFTODT(st.st_mode));
			/* dotdot is the directory we are in */
			if (strcmp(de->d_name, ".."))
				EQ(de->d_ino, st.st_ino);
			found++;
		}
		OK(closedir(d));
	}
	EQ(found, 16);
	OK(stat("d/..", &st));
	OK(stat(".", &up));
	EQ(st.st_ino, up.st_ino);
	/* names of the greatest length fill buffers awkwardly */
	for (found = 0; found < 60; found++) {
		memset(path, 'l', 255);
		path[sprintf(path, "%03d", found)] = '-';
		path[255] = 0;
		touch("d", path, 0);
	}
	found = 0;
	d = open_dir("d");
	while ((de = readdir(d)))
		if (strlen(de->d_name) == 255)
			found++;
	OK(closedir(d));
	printf("%zu kinds, %d names of 255 bytes\n", sizeof(names) / sizeof(names[0]), found);
}

/* A directory removed, renamed and emptied while it is read. */
static void removed(int argc, char **argv)
{
	struct dirent *de;
	struct stat st;
	int i, fd;
	DIR *d;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	for (i = 0; i < 10; i++)
		touch("d", "n%d", i);
	d = open_dir("d");
	TRUE(readdir(d));
	for (i = 0; i < 10; i++)
		drop("d", "n%d", i);
	OK(rmdir("d"));
	/* what was read ahead may still come; the end comes too */
	errno = 0;
	for (i = 0; readdir(d); i++)
		TRUE(i < 12);
	EQ(errno, 0);
	rewinddir(d);
	while ((de = readdir(d)))
		TRUE(de->d_name[0] == '.');
	OK(closedir(d));
	printf("removed while read\n");
	OK(mkdir("d", 0755));
	touch("d", "n%d", 0);
	d = open_dir("d");
	OK(rename("d", "e"));
	touch("e", "n%d", 1);
	rewinddir(d);
	list_all(d, "n%d", 2, NULL);
	EQ(unlinkat(dirfd(d), "n0", 0), 0);
	rewinddir(d);
	i = 0;
	list_all(d, "n%d", 0, &i);
	EQ(i, 1);
	OK(closedir(d));
	printf("renamed while read\n");
	fd = OK(open("e", O_RDONLY | O_DIRECTORY));
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 2);
	ERR(EINVAL, ftruncate(fd, 0));
	ERR(EISDIR, read(fd, &i, 1));
	ERR(EBADF, write(fd, &i, 1));
	OK(syncfs(fd));
	OK(close(fd));
	printf("synced; no file operations\n");
}

/* ----------------------------------------------------------- many at once - */

struct work {
	int rounds;
};

static void crowd_worker(int i, void *arg)
{
	struct work *w = arg;
	char name[64], to[64];
	int k;

	for (k = 0; k < w->rounds; k++) {
		touch("d", "%d", 1000000 + i * 10000 + k);
		snprintf(name, sizeof(name), "d/%d", 1000000 + i * 10000 + k);
		snprintf(to, sizeof(to), "d/final-%d", i * w->rounds + k);
		switch (k % 4) {
		case 0:
			OK(unlink(name));
			break;
		case 1:
			OK(rename(name, to));
			break;
		case 2:
			OK(link(name, to));
			OK(unlink(name));
			break;
		default:
			OK(unlink(name));
			OK(mkdir(name, 0755));
			OK(rename(name, to));
		}
		/* the same names for everybody: made by one, removed by one */
		snprintf(name, sizeof(name), "d/common%d", k % 3);
		if (k % 2) {
			int fd = open(name, O_CREAT | O_WRONLY, 0600);

			if (fd >= 0)
				close(fd);
			else
				EQ(errno, ENOENT);	/* removed in between */
		} else if (unlink(name)) {
			EQ(errno, ENOENT);
		}
	}
}

static void busy_dir(int argc, char **argv)
{
	struct work w;
	struct stat st;
	struct dirent *de;
	unsigned int dirs = 0;
	int n, i, files = 0, want = 0;
	DIR *d;

	if (argc != 3)
		fail("usage: dir-busy PROCESSES ROUNDS");
	n = number(argv[1]);
	w.rounds = number(argv[2]);
	OK(mkdir("d", 0755));
	crowd(n, crowd_worker, &w);
	for (i = 0; i < 3; i++) {
		char name[32];

		snprintf(name, sizeof(name), "d/common%d", i);
		if (exists(name))
			OK(unlink(name));
	}
	d = open_dir("d");
	while ((de = readdir(d))) {
		char path[300];

		if (de->d_name[0] == '.')
			continue;
		TRUE(sscanf(de->d_name, "final-%d", &i) == 1 && i % w.rounds % 4);
		snprintf(path, sizeof(path), "d/%s", de->d_name);
		OK(lstat(path, &st));
		TRUE(S_ISDIR(st.st_mode) == (i % w.rounds % 4 == 3));
		EQ(st.st_nlink, S_ISDIR(st.st_mode) ? 2 : 1);
		dirs += S_ISDIR(st.st_mode);
		files++;
	}
	OK(closedir(d));
	for (i = 0; i < w.rounds; i++)
		want += i % 4 != 0;
	EQ(files, n * want);
	OK(stat("d", &st));
	EQ(st.st_nlink, dirs + 2);
	printf("%d processes, %d rounds: %d entries, as it must be\n", n, w.rounds, files);
}

static void reader_worker(int i, void *arg)
{
	struct work *w = arg;
	int k, others;
	DIR *d;

	for (k = 0; k < w->rounds; k++) {
		if (i == 0) {
			touch("d", "passing%d", k);
			if (k >= 5)
				drop("d", "passing%d", k - 5);
		} else {
			others = 0;
			d = open_dir("d");
			list_all(d, "stays-here-for-ever-%d", 150, &others);
			OK(closedir(d));
		}
	}
}

/* Several read what one changes. */
static void readers(int argc, char **argv)
{
	struct work w;
	int n, i;

	if (argc != 3)
		fail("usage: dir-readers PROCESSES ROUNDS");
	n = number(argv[1]);
	w.rounds = number(argv[2]);
	OK(mkdir("d", 0755));
	for (i = 0; i < 150; i++)
		touch(backing_path("d"), "stays-here-for-ever-%d", i);
	crowd(n, reader_worker, &w);
	printf("%d readers, %d rounds: the stable entries each time, once\n", n - 1, w.rounds);
}

/* Attributes that come along with entries are right, also after changes. */
static void listed_attributes(int argc, char **argv)
{
	enum { N = 50 };
	char name[32];
	struct stat st;
	int i, round;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	for (i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d/n%d", i);
		make_file(name, i * 10, i);
	}
	for (round = 0; round < 3; round++) {
		list_dir("d", "n%d", N);
		for (i = 0; i < N; i++) {
			snprintf(name, sizeof(name), "d/n%d", i);
			OK(lstat(name, &st));
			EQ(st.st_size, i * 10 + round * 3);
			EQ(st.st_mode, S_IFREG | (round ? 0600 + round : 0644));
			EQ(st.st_nlink, 1);
			OK(truncate(name, i * 10 + round * 3 + 3));
			OK(chmod(name, 0601 + round));
		}
	}
	/* a name that was listed and then stands for something else */
	for (i = 0; i < N; i += 5) {
		snprintf(name, sizeof(name), "d/n%d", i);
		OK(unlink(name));
		OK(mkdir(name, 0700));
	}
	list_dir("d", "n%d", N);
	for (i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "d/n%d", i);
		OK(lstat(name, &st));
		TRUE(S_ISDIR(st.st_mode) == (i % 5 == 0));
	}
	printf("%d entries, %d rounds: attributes right\n", N, round);
}

const struct command dir_commands[] = {
	{ "dir-big", big, "ENTRIES: a large directory" },
	{ "dir-changing", changing, "ENTRIES: reading while names come and go" },
	{ "dir-seek", seeking, "telldir, seekdir, rewinddir" },
	{ "dir-small", small_buffers, "getdents with small buffers" },
	{ "dir-types", entry_types, "types and inode numbers of entries, long names" },
	{ "dir-removed", removed, "removed or renamed while read; fsync of a directory" },
	{ "dir-busy", busy_dir, "PROCESSES ROUNDS: create, rename, link, remove in one directory" },
	{ "dir-readers", readers, "PROCESSES ROUNDS: several read what one changes" },
	{ "dir-attributes", listed_attributes, "attributes after listing" },
	{ NULL, NULL, NULL },
};
