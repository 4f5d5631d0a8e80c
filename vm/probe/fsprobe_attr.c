// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: attributes. */
#include "fsprobe.h"

#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>

static struct stat stat_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st;
}

static struct stat below(const char *name)
{
	char *path = backing_path(name);
	struct stat st = stat_of(path);

	free(path);
	return st;
}

static bool later(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void modes(int argc, char **argv)
{
	static const char *const names[] = { "f", "d", "fifo" };
	unsigned int mode, count = 0;
	struct stat st;
	mode_t type;
	size_t i;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(mkdir("d", 0755));
	OK(mkfifo("fifo", 0644));
	for (i = 0; i < 3; i++) {
		type = stat_of(names[i]).st_mode & S_IFMT;
		for (mode = 0; mode <= 07777; mode = mode * 3 + 1, count++) {
			OK(chmod(names[i], mode));
			EQ(stat_of(names[i]).st_mode, type | mode);
			EQ(below(names[i]).st_mode, type | mode);
		}
		OK(chmod(names[i], 07777));
		EQ(stat_of(names[i]).st_mode, type | 07777);
	}
	printf("%u modes set and kept\n", count);
	/* by descriptor, through a link, of an open file */
	fd = OK(open("f", O_RDONLY));
	OK(fchmod(fd, 0604));
	EQ(stat_of("f").st_mode, S_IFREG | 0604);
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0604);
	OK(symlink("f", "s"));
	OK(chmod("s", 0640));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(stat_of("s").st_mode, S_IFLNK | 0777);
	OK(unlink("f"));
	OK(fchmod(fd, 0400));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0400);
	OK(close(fd));
	SHOW("chmod of nothing", chmod("f", 0600));
	fd = OK(open("d", O_RDONLY));
	OK(fchmod(fd, 01777));
	OK(close(fd));
	EQ(stat_of("d").st_mode, S_IFDIR | 01777);
	printf("by descriptor, through a link, unlinked\n");
}

static void umasks(int argc, char **argv)
{
	static const mode_t masks[] = { 0, 022, 027, 077, 0777, 0111 };
	char name[16];
	size_t i;
	int fd;

	(void)argc, (void)argv;
	for (i = 0; i < 6; i++) {
		umask(masks[i]);
		snprintf(name, sizeof(name), "f%zu", i);
		OK(close(OK(open(name, O_CREAT | O_EXCL | O_WRONLY, 06777))));
		EQ(stat_of(name).st_mode, S_IFREG | (06777 & ~masks[i]));
		EQ(below(name).st_mode, S_IFREG | (06777 & ~masks[i]));
		name[0] = 'd';
		OK(mkdir(name, 01777));
		EQ(stat_of(name).st_mode, S_IFDIR | (01777 & ~masks[i]));
		name[0] = 'p';
		OK(mkfifo(name, 0666));
		EQ(stat_of(name).st_mode, S_IFIFO | (0666 & ~masks[i]));
		name[0] = 's';
		OK(symlink("x", name));
		EQ(stat_of(name).st_mode, S_IFLNK | 0777);
		fd = OK(open(".", O_TMPFILE | O_RDWR, 0666));
		struct stat st;

		OK(fstat(fd, &st));
		EQ(st.st_mode, S_IFREG | (0666 & ~masks[i]));
		OK(close(fd));
		/* chmod knows no mask */
		name[0] = 'f';
		OK(chmod(name, 0666));
		EQ(stat_of(name).st_mode, S_IFREG | 0666);
	}
	printf("%zu masks\n", i);
}

static void owners(int argc, char **argv)
{
	static const uid_t ids[] = { 0, 1, 1000, 65534, 65535, 65536, 0x7fffffff, 0xfffffffe };
	struct stat st;
	size_t i;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(symlink("f", "s"));
	for (i = 0; i < 8; i++) {
		OK(chown("f", ids[i], ids[7 - i]));
		st = stat_of("f");
		EQ(st.st_uid, ids[i]);
		EQ(st.st_gid, ids[7 - i]);
		st = below("f");
		EQ(st.st_uid, ids[i]);
		EQ(st.st_gid, ids[7 - i]);
	}
	printf("%zu owners and groups, up to 32 bits\n", i);
	OK(chown("f", 5, -1));
	OK(chown("f", -1, 6));
	OK(chown("f", -1, -1));
	st = stat_of("f");
	EQ(st.st_uid, 5);
	EQ(st.st_gid, 6);
	OK(chown("s", 7, 8));
	EQ(stat_of("f").st_uid, 7);
	OK(lchown("s", 9, 10));
	st = stat_of("s");
	EQ(st.st_uid, 9);
	EQ(st.st_gid, 10);
	EQ(stat_of("f").st_uid, 7);
	fd = OK(open("f", O_RDONLY));
	OK(unlink("f"));
	OK(fchown(fd, 11, 12));
	OK(fstat(fd, &st));
	EQ(st.st_uid, 11);
	EQ(st.st_gid, 12);
	OK(close(fd));
	OK(mkdir("d", 0755));
	OK(chown("d", 1, 2));
	EQ(stat_of("d").st_gid, 2);
	printf("one of them, links, unlinked, directories\n");
}

/* utimensat, to the nanosecond. */
static void set_times(int argc, char **argv)
{
	static const struct timespec values[][2] = {
		{ { 0, 0 }, { 0, 1 } },
		{ { 1, 999999999 }, { 1234567890, 123456789 } },
		{ { 0x7fffffff, 5 }, { 0x7fffffff, 999999999 } },
		{ { 0x80000000ll, 6 }, { 0x1ffffffffll, 7 } },
		{ { -1, 1 }, { -1000000000, 500000000 } },
	};
	const struct timespec omit = { 0, UTIME_OMIT }, now = { 0, UTIME_NOW };
	struct timespec ts[2], before, after;
	struct stat st, old;
	size_t i;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(symlink("f", "s"));
	fd = OK(open("f", O_RDONLY));
	for (i = 0; i < 5; i++) {
		OK(i % 2 ? futimens(fd, values[i]) : utimensat(AT_FDCWD, "s", values[i], 0));
		st = stat_of("f");
		TRUE(same_time(st.st_atim, values[i][0]) && same_time(st.st_mtim, values[i][1]));
		st = below("f");
		TRUE(same_time(st.st_atim, values[i][0]) && same_time(st.st_mtim, values[i][1]));
	}
	printf("%zu pairs of times, to the nanosecond\n", i);
	ts[0] = omit, ts[1] = values[1][0];
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	st = stat_of("f");
	TRUE(same_time(st.st_atim, values[4][0]) && same_time(st.st_mtim, values[1][0]));
	ts[0] = values[2][0], ts[1] = omit;
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	st = stat_of("f");
	TRUE(same_time(st.st_atim, values[2][0]) && same_time(st.st_mtim, values[1][0]));
	ts[0] = ts[1] = omit;
	old = st;
	next_tick();
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	st = stat_of("f");
	TRUE(same_time(st.st_atim, old.st_atim) && same_time(st.st_mtim, old.st_mtim) &&
	     same_time(st.st_ctim, old.st_ctim));
	printf("UTIME_OMIT\n");
	clock_gettime(CLOCK_REALTIME_COARSE, &before);
	ts[0] = omit, ts[1] = now;
	OK(utimensat(AT_FDCWD, "f", ts, 0));
	clock_gettime(CLOCK_REALTIME, &after);
	st = stat_of("f");
	TRUE(same_time(st.st_atim, values[2][0]));
	TRUE(!later(before, st.st_mtim) && !later(st.st_mtim, after));
	TRUE(!later(before, st.st_ctim) && !later(st.st_ctim, after));
	OK(utimensat(AT_FDCWD, "f", NULL, 0));
	st = stat_of("f");
	TRUE(!later(before, st.st_atim));
	printf("UTIME_NOW\n");
	OK(utimensat(AT_FDCWD, "s", values[1], AT_SYMLINK_NOFOLLOW));
	st = stat_of("s");
	TRUE(same_time(st.st_mtim, values[1][1]));
	TRUE(!same_time(stat_of("f").st_mtim, values[1][1]));
	ts[0] = (struct timespec){ 0, 1000000000 };
	ERR(EINVAL, utimensat(AT_FDCWD, "f", ts, 0));
	ERR(ENOENT, utimensat(AT_FDCWD, "absent", NULL, 0));
	OK(close(fd));
	printf("of a symbolic link; errors\n");
}

/* Which call moves which time stamp. */
static void check_moved(const char *what, const char *name, bool mtime, bool ctime,
			struct stat *old)
{
	struct stat st = stat_of(name);

	if (later(st.st_mtim, old->st_mtim) != mtime ||
	    (!mtime && !same_time(st.st_mtim, old->st_mtim)))
		fail("%s: mtime of %s %s", what, name, mtime ? "did not move" : "moved");
	if (later(st.st_ctim, old->st_ctim) != ctime ||
	    (!ctime && !same_time(st.st_ctim, old->st_ctim)))
		fail("%s: ctime of %s %s", what, name, ctime ? "did not move" : "moved");
	*old = st;
}

#define MOVES(what, call, name, mtime, ctime) \
	do { \
		struct stat old_ = stat_of(name); \
		next_tick(); \
		OK(call); \
		check_moved(what, name, mtime, ctime, &old_); \
		count++; \
	} while (0)

static void moved_times(int argc, char **argv)
{
	struct stat st;
	char c;
	int fd, count = 0;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(mkdir("d", 0755));
	fd = OK(open("f", O_RDWR));
	MOVES("write", pwrite(fd, "x", 1, 3), "f", true, true);
	MOVES("append", pwrite(fd, "x", 1, 10), "f", true, true);
	MOVES("read", pread(fd, &c, 1, 0), "f", false, false);
	MOVES("ftruncate", ftruncate(fd, 5), "f", true, true);
	MOVES("truncate", truncate("f", 50), "f", true, true);
	MOVES("ftruncate to the same size", ftruncate(fd, 50), "f", true, true);
	MOVES("fallocate", fallocate(fd, 0, 0, 100), "f", true, true);
	MOVES("chmod", chmod("f", 0600), "f", false, true);
	MOVES("chown", chown("f", 1, 1), "f", false, true);
	MOVES("link", link("f", "g"), "f", false, true);
	MOVES("rename", rename("g", "h"), "d", false, false);
	MOVES("unlink of another link", unlink("h"), "f", false, true);
	MOVES("fsync", fsync(fd), "f", false, false);
	OK(close(fd));
	MOVES("O_TRUNC", close(open("f", O_WRONLY | O_TRUNC)), "f", true, true);
	printf("%d calls on a file\n", count);
	count = 0;
	MOVES("create", close(open("d/f", O_CREAT | O_WRONLY, 0600)), "d", true, true);
	MOVES("open of what exists", close(open("d/f", O_CREAT | O_WRONLY, 0600)), "d",
	      false, false);
	MOVES("write below", truncate("d/f", 5), "d", false, false);
	MOVES("mkdir", mkdir("d/d", 0700), "d", true, true);
	MOVES("symlink", symlink("x", "d/s"), "d", true, true);
	MOVES("mknod", mkfifo("d/p", 0600), "d", true, true);
	MOVES("link into", link("f", "d/l"), "d", true, true);
	MOVES("rename within", rename("d/f", "d/g"), "d", true, true);
	MOVES("unlink", unlink("d/g"), "d", true, true);
	MOVES("rename out of", rename("d/p", "p"), "d", true, true);
	MOVES("rename into", rename("p", "d/p"), "d", true, true);
	MOVES("rmdir", rmdir("d/d"), "d", true, true);
	MOVES("lookup", lstat("d/s", &st), "d", false, false);
	MOVES("failed create", open("d/s", O_CREAT | O_EXCL, 0600) < 0 ? 0 : -1, "d",
	      false, false);
	printf("%d calls on a directory\n", count);
}

static void statx_fields(int argc, char **argv)
{
	const unsigned int basic = STATX_BASIC_STATS;
	struct statx x;
	struct stat st;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 70000, 1);
	OK(chmod("f", 04751));
	OK(chown("f", 12, 34));
	OK(chmod("f", 04751));
	OK(stat("f", &st));
	OK(statx(AT_FDCWD, "f", 0, basic | STATX_BTIME, &x));
	EQ(x.stx_mask & basic, basic);
	EQ(x.stx_mode, S_IFREG | 04751);
	EQ(x.stx_nlink, 1);
	EQ(x.stx_uid, 12);
	EQ(x.stx_gid, 34);
	EQ(x.stx_size, 70000);
	EQ(x.stx_ino, st.st_ino);
	EQ(x.stx_blocks, st.st_blocks);
	EQ(x.stx_blksize, st.st_blksize);
	TRUE(x.stx_blocks * 512 >= 70000);
	EQ(makedev(x.stx_dev_major, x.stx_dev_minor), st.st_dev);
	EQ(x.stx_mtime.tv_sec, st.st_mtim.tv_sec);
	EQ(x.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	EQ(x.stx_ctime.tv_nsec, st.st_ctim.tv_nsec);
	if (x.stx_mask & STATX_BTIME)
		TRUE(x.stx_btime.tv_sec > 0);
	printf("basic fields\n");
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_SIZE, &x));
	EQ(x.stx_size, 70000);
	OK(statx(AT_FDCWD, "f", AT_STATX_DONT_SYNC, STATX_MODE, &x));
	EQ(x.stx_mode, S_IFREG | 04751);
	fd = OK(open("f", O_RDONLY));
	OK(statx(fd, "", AT_EMPTY_PATH, basic, &x));
	EQ(x.stx_ino, st.st_ino);
	OK(unlink("f"));
	OK(statx(fd, "", AT_EMPTY_PATH, basic, &x));
	EQ(x.stx_nlink, 0);
	OK(close(fd));
	OK(symlink("absent", "s"));
	OK(statx(AT_FDCWD, "s", AT_SYMLINK_NOFOLLOW, basic, &x));
	EQ(x.stx_mode & S_IFMT, S_IFLNK);
	EQ(x.stx_size, 6);
	ERR(ENOENT, statx(AT_FDCWD, "s", 0, basic, &x));
	ERR(EINVAL, statx(AT_FDCWD, "s", AT_STATX_FORCE_SYNC | AT_STATX_DONT_SYNC, 0, &x));
	printf("by descriptor, of a link; errors\n");
}

static long long distance(unsigned long long a, unsigned long long b)
{
	return a > b ? a - b : b - a;
}

static void fs_stats(int argc, char **argv)
{
	struct statvfs m, b, m2;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	OK(statvfs("f", &m));
	OK(statvfs(backing, &b));
	EQ(m.f_bsize, b.f_bsize);
	EQ(m.f_frsize, b.f_frsize);
	EQ(m.f_blocks, b.f_blocks);
	EQ(m.f_files, b.f_files);
	EQ(m.f_namemax, b.f_namemax);
	EQ(m.f_namemax, 255);
	TRUE(m.f_blocks && m.f_files);
	/* others work on the same file system */
	TRUE(distance(m.f_bfree, b.f_bfree) * m.f_frsize < 64 << 20);
	TRUE(distance(m.f_ffree, b.f_ffree) < 10000);
	TRUE(m.f_bavail <= m.f_bfree && m.f_bfree <= m.f_blocks);
	printf("as below\n");
	fd = OK(open("f", O_RDWR));
	OK(fstatvfs(fd, &m2));
	EQ(m2.f_blocks, m.f_blocks);
	OK(fallocate(fd, 0, 0, 24 << 20));
	OK(fstatvfs(fd, &m2));
	TRUE(m2.f_bfree < m.f_bfree);
	OK(close(fd));
	OK(unlink("f"));
	ERR(ENOENT, statvfs("f", &m));
	printf("by descriptor; free space follows\n");
}

/* Without caching, a change below is seen at once. */
static void fresh(int argc, char **argv)
{
	char *path = backing_path("f");
	const struct timespec ts[2] = { { 5, 6 }, { 7, 8 } };
	struct stat st;
	int i;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	for (i = 0; i < 10; i++) {
		EQ(stat_of("f").st_size, i ? 99 + i : 10);
		OK(chmod(path, 0600 + i));
		EQ(stat_of("f").st_mode, S_IFREG | (0600 + i));
		OK(chown(path, 100 + i, 200 + i));
		st = stat_of("f");
		EQ(st.st_uid, 100 + i);
		EQ(st.st_gid, 200 + i);
		OK(truncate(path, 100 + i));
		EQ(stat_of("f").st_size, 100 + i);
		OK(utimensat(AT_FDCWD, path, ts, 0));
		TRUE(same_time(stat_of("f").st_mtim, ts[1]));
		OK(link(path, backing_path("g")));
		EQ(stat_of("f").st_nlink, 2);
		OK(unlink(backing_path("g")));
		EQ(stat_of("f").st_nlink, 1);
	}
	printf("%d changes of everything below seen at once\n", i);
}

/* With long time-outs it is not: until something asks the server again. */
static void stale(int argc, char **argv)
{
	char *path = backing_path("f");
	struct statx x;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	EQ(stat_of("f").st_mode, S_IFREG | 0644);
	OK(chmod(path, 0600));
	printf("mode changed below, ordinary stat: %o\n", stat_of("f").st_mode & 07777);
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &x));
	printf("mode, forced to ask: %o\n", x.stx_mode & 07777);
	printf("mode, ordinary stat again: %o\n", stat_of("f").st_mode & 07777);
	/* a change made above renews what is known */
	OK(chown(path, 5, 6));
	OK(chmod("f", 0640));
	printf("owner after a change above: %u\n", stat_of("f").st_uid);
	/* a name known to be there, and removed below */
	OK(unlink(path));
	printf("removed below, ordinary stat: %s\n",
	       faccessat(AT_FDCWD, "f", F_OK, 0) ? errname(errno) : "still there");
	OK(statx(AT_FDCWD, "f", AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &x));
	printf("its links, forced to ask: %u\n", x.stx_nlink);
}

const struct command attr_commands[] = {
	{ "modes", modes, "chmod" },
	{ "umasks", umasks, "modes of new files" },
	{ "owners", owners, "chown, large ids" },
	{ "set-times", set_times, "utimensat" },
	{ "moved-times", moved_times, "which call moves which time stamp" },
	{ "statx", statx_fields, "fields of statx" },
	{ "fs-stats", fs_stats, "statfs, compared with the file system below" },
	{ "fresh", fresh, "attributes changed below are seen at once (no caching)" },
	{ "stale", stale, "attributes changed below, with long time-outs" },
	{ NULL, NULL, NULL },
};
