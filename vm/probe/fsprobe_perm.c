// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: who may do what. */
#include "fsprobe.h"

#include <grp.h>

enum { OTHER = 1001 };

static mode_t mode_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st.st_mode & 07777;
}

/* ------------------------------------------------------------ rwx matrix -- */

struct view {
	const char *who;
	uid_t uid, file_uid;
	gid_t gid, file_gid;
};

static void try_all(void *arg)
{
	char name[8];
	int m, fd;

	(void)arg;
	for (m = 0; m < 8; m++) {
		snprintf(name, sizeof(name), "f%d", m);
		fd = open(name, O_RDONLY);
		putchar(fd >= 0 ? 'r' : errno == EACCES ? '-' : '?');
		if (fd >= 0)
			close(fd);
		fd = open(name, O_WRONLY);
		putchar(fd >= 0 ? 'w' : errno == EACCES ? '-' : '?');
		if (fd >= 0)
			close(fd);
		putchar(!access(name, X_OK) ? 'x' : errno == EACCES ? '-' : '?');
		/* what access(2) says must be what open did */
		TRUE(!access(name, R_OK) == !!(fd = open(name, O_RDONLY), fd >= 0 ?
					       (close(fd), 1) : 0));
		putchar(m == 7 ? '\n' : ' ');
	}
}

/* Each of owner, group and others with each of the eight modes. */
static void access_matrix(int argc, char **argv)
{
	static const struct view views[] = {
		{ "owner", PEOPLE, PEOPLE, PEOPLE, PEOPLE },
		{ "group", PEOPLE, OTHER, PEOPLE, PEOPLE },
		{ "others", PEOPLE, OTHER, PEOPLE, OTHER },
		{ "root", 0, OTHER, 0, OTHER },
	};
	size_t v;
	char name[8];
	int m;

	(void)argc, (void)argv;
	for (m = 0; m < 8; m++) {
		snprintf(name, sizeof(name), "f%d", m);
		make_file(name, 10, 1);
	}
	for (v = 0; v < 4; v++) {
		for (m = 0; m < 8; m++) {
			snprintf(name, sizeof(name), "f%d", m);
			OK(chown(name, views[v].file_uid, views[v].file_gid));
			/* the others' bits say the opposite */
			OK(chmod(name, v == 0 ? m << 6 | (7 - m) * 011 :
				 v == 1 ? m << 3 | (7 - m) * 0101 : m | (7 - m) * 0110));
		}
		printf("%-7s", views[v].who);
		fflush(stdout);
		as_user(views[v].uid, views[v].gid, try_all, NULL);
	}
}

/* --------------------------------------------------------- directories --- */

static void in_dirs(void *arg)
{
	static const char *const dirs[] = { "r", "w", "x", "rw", "rx", "wx", "rwx" };
	char path[32];
	struct stat st;
	size_t i;
	int fd, list, look, make, drop;

	(void)arg;
	for (i = 0; i < 7; i++) {
		fd = open(dirs[i], O_RDONLY | O_DIRECTORY);
		list = fd < 0 ? errno : 0;
		if (fd >= 0)
			close(fd);
		snprintf(path, sizeof(path), "%s/f", dirs[i]);
		look = stat(path, &st) ? errno : 0;
		snprintf(path, sizeof(path), "%s/new", dirs[i]);
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
		make = fd < 0 ? errno : 0;
		if (fd >= 0)
			close(fd);
		snprintf(path, sizeof(path), "%s/f", dirs[i]);
		drop = unlink(path) ? errno : 0;
		printf("%-3s: list %s, look up %s, create %s, remove %s\n", dirs[i],
		       errname(list), errname(look), errname(make), errname(drop));
	}
}

static void dir_access(int argc, char **argv)
{
	static const char *const dirs[] = { "r", "w", "x", "rw", "rx", "wx", "rwx" };
	char path[32];
	size_t i;

	(void)argc, (void)argv;
	for (i = 0; i < 7; i++) {
		OK(mkdir(dirs[i], 0755));
		snprintf(path, sizeof(path), "%s/f", dirs[i]);
		make_file(path, 10, 1);
		OK(chmod(dirs[i], (strchr(dirs[i], 'r') ? 4 : 0) |
			 (strchr(dirs[i], 'w') ? 2 : 0) | (strchr(dirs[i], 'x') ? 1 : 0)));
	}
	as_user(PEOPLE, PEOPLE, in_dirs, NULL);
}

/* ------------------------------------------------ what only owners may --- */

static void not_owner(void *arg)
{
	const struct timespec ts[2] = { { 1, 1 }, { 1, 1 } };
	const struct timespec omit[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

	(void)arg;
	SHOW("chmod of another's file", chmod("theirs", 0600));
	SHOW("chown of another's file", chown("theirs", PEOPLE, -1));
	SHOW("set times of another's file", utimensat(AT_FDCWD, "theirs", ts, 0));
	SHOW("touch of a writable one", utimensat(AT_FDCWD, "theirs", NULL, 0));
	SHOW("touch of a read-only one", utimensat(AT_FDCWD, "readonly", NULL, 0));
	SHOW("set no time of it", utimensat(AT_FDCWD, "readonly", omit, 0));
	SHOW("truncate of a read-only one", truncate("readonly", 0));
	SHOW("O_NOATIME of it", open("readonly", O_RDONLY | O_NOATIME));
	SHOW("own: chmod", chmod("mine", 0640));
	SHOW("own: chown to another", chown("mine", OTHER, -1));
	SHOW("own: chown to myself", chown("mine", PEOPLE, -1));
	SHOW("own: chgrp to my group", chown("mine", -1, PEOPLE));
	SHOW("own: chgrp to another's", chown("mine", -1, OTHER));
	SHOW("own: set times", utimensat(AT_FDCWD, "mine", ts, 0));
	SHOW("mknod of a device", mknod("dev", S_IFCHR | 0600, 0x103));
	SHOW("mkfifo", mkfifo("pipe", 0600));
	SHOW("create in root's directory", open("closed/f", O_CREAT | O_WRONLY, 0600));
	SHOW("rename out of it", rename("closed/x", "x"));
	SHOW("link into it", link("mine", "closed/l"));
	/* setgid of a file whose group one is not in is dropped silently */
	SHOW("own, foreign group: chmod 2755", chmod("group", 02755));
}

static void ownership(int argc, char **argv)
{
	struct stat st;

	(void)argc, (void)argv;
	OK(chmod(".", 0777));
	make_file("theirs", 10, 1);
	OK(chmod("theirs", 0666));
	make_file("readonly", 10, 1);
	make_file("mine", 10, 1);
	OK(chown("mine", PEOPLE, PEOPLE));
	make_file("group", 10, 1);
	OK(chown("group", PEOPLE, OTHER));
	OK(mkdir("closed", 0755));
	make_file("closed/x", 1, 1);
	as_user(PEOPLE, PEOPLE, not_owner, NULL);
	printf("mode of the file of a foreign group: %o\n", mode_of("group"));
	OK(lstat("pipe", &st));
	printf("new files belong to %u:%u\n", st.st_uid, st.st_gid);
	EQ(size_of("readonly"), 10);
}

/* ------------------------------------------------------- set-id bits ----- */

static void write_it(void *arg)
{
	int fd = OK(open(arg, O_WRONLY));

	EQ(pwrite(fd, "x", 1, 0), 1);
	OK(close(fd));
}

static void truncate_it(void *arg)
{
	OK(truncate(arg, 3));
}

static void reserve_it(void *arg)
{
	int fd = OK(open(arg, O_WRONLY));

	OK(fallocate(fd, 0, 0, 5000));
	OK(close(fd));
}

static void chown_it(void *arg)
{
	OK(chown(arg, -1, PEOPLE));
}

static void setid(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*fn)(void *arg);
	} deeds[] = {
		{ "write", write_it }, { "truncate", truncate_it },
		{ "fallocate", reserve_it }, { "chown", chown_it },
	};
	static const mode_t modes[] = { 06777, 04777, 02777, 06751 };
	char name[] = "f";
	size_t i, m;

	(void)argc, (void)argv;
	for (i = 0; i < 4; i++) {
		printf("%s by an ordinary owner:", deeds[i].name);
		for (m = 0; m < 4; m++) {
			make_file(name, 10, 1);
			OK(chown(name, PEOPLE, PEOPLE));
			OK(chmod(name, modes[m]));
			fflush(stdout);
			as_user(PEOPLE, PEOPLE, deeds[i].fn, name);
			printf(" %o->%o", modes[m], mode_of(name));
			OK(unlink(name));
		}
		printf("\n");
	}
	for (i = 0; i < 4; i++) {
		printf("%s by root:", deeds[i].name);
		for (m = 0; m < 4; m++) {
			make_file(name, 10, 1);
			OK(chmod(name, modes[m]));
			deeds[i].fn(name);
			printf(" %o->%o", modes[m], mode_of(name));
			OK(unlink(name));
		}
		printf("\n");
	}
}

/* -------------------------------------------------------------- sticky --- */

static void in_sticky(void *arg)
{
	(void)arg;
	SHOW("remove another's file", unlink("sticky/theirs"));
	SHOW("rename another's file", rename("sticky/theirs", "sticky/x"));
	SHOW("rename over another's file", rename("sticky/mine", "sticky/theirs"));
	SHOW("remove another's directory", rmdir("sticky/dir"));
	SHOW("write another's writable file", truncate("sticky/theirs", 5));
	SHOW("rename my file", rename("sticky/mine", "sticky/renamed"));
	SHOW("remove my file", unlink("sticky/renamed"));
	SHOW("create", open("sticky/new", O_CREAT | O_EXCL | O_WRONLY, 0600));
	SHOW("my own sticky directory, another's file", unlink("own/theirs"));
	SHOW("not sticky, another's file", unlink("free/theirs"));
}

static void sticky(int argc, char **argv)
{
	static const char *const dirs[] = { "sticky", "own", "free" };
	char path[32];
	size_t i;

	(void)argc, (void)argv;
	for (i = 0; i < 3; i++) {
		OK(mkdir(dirs[i], 0755));
		snprintf(path, sizeof(path), "%s/theirs", dirs[i]);
		make_file(path, 10, 1);
		OK(chown(path, OTHER, OTHER));
		OK(chmod(path, 0666));
		OK(chmod(dirs[i], i == 2 ? 0777 : 01777));
	}
	OK(chown("own", PEOPLE, PEOPLE));
	OK(mkdir("sticky/dir", 0777));
	make_file("sticky/mine", 10, 1);
	OK(chown("sticky/mine", PEOPLE, PEOPLE));
	as_user(PEOPLE, PEOPLE, in_sticky, NULL);
}

/* -------------------------------------------------- set-group-id dirs ---- */

static void in_setgid(void *arg)
{
	int fd;

	(void)arg;
	OK(close(OK(open("dir/file", O_CREAT | O_EXCL | O_WRONLY, 0644))));
	OK(mkdir("dir/sub", 0755));
	OK(mkdir("dir/sub/sub", 0700));
	OK(symlink("x", "dir/link"));
	OK(mkfifo("dir/fifo", 0600));
	OK(close(OK(open("dir/executable", O_CREAT | O_EXCL | O_WRONLY, 02775))));
	fd = OK(open("dir", O_TMPFILE | O_RDWR, 0600));
	struct stat st;

	OK(fstat(fd, &st));
	printf("O_TMPFILE: %u:%u %o\n", st.st_uid, st.st_gid, st.st_mode & 07777);
	OK(close(fd));
	OK(close(OK(open("plain/file", O_CREAT | O_EXCL | O_WRONLY, 0644))));
}

static void setgid_dir(int argc, char **argv)
{
	static const char *const names[] = {
		"dir/file", "dir/sub", "dir/sub/sub", "dir/link", "dir/fifo",
		"dir/executable", "plain/file",
	};
	struct stat st;
	size_t i;

	(void)argc, (void)argv;
	umask(0);
	OK(mkdir("dir", 0777));
	OK(chown("dir", OTHER, OTHER));
	OK(chmod("dir", 02777));
	OK(mkdir("plain", 0777));
	OK(chown("plain", OTHER, OTHER));
	as_user(PEOPLE, PEOPLE, in_setgid, NULL);
	for (i = 0; i < 7; i++) {
		OK(lstat(names[i], &st));
		printf("%s: %u:%u %o\n", names[i], st.st_uid, st.st_gid, st.st_mode & 07777);
	}
}

/* -------------------------------------------------- groups, descriptors --- */

static void in_groups(void *arg)
{
	char c;
	int fd = *(int *)arg;

	SHOW("file of a supplementary group", open("team", O_RDWR));
	SHOW("chgrp to it", chown("mine", -1, 2001));
	SHOW("chgrp to one I am not in", chown("mine", -1, 2003));
	SHOW("chmod 2755 in that group", chmod("mine", 02755));
	/* what was opened by root stays open for whoever holds it */
	SHOW("read through root's descriptor", pread(fd, &c, 1, 0));
	SHOW("write through root's descriptor", pwrite(fd, "x", 1, 0));
	SHOW("ftruncate through it", ftruncate(fd, 5));
	SHOW("fchmod through it", fchmod(fd, 0666));
	SHOW("open anew", open("secret", O_RDONLY));
	SHOW("faccessat, real ids", faccessat(AT_FDCWD, "secret", R_OK, 0));
	SHOW("faccessat, effective ids", faccessat(AT_FDCWD, "secret", R_OK, AT_EACCESS));
}

static void groups(int argc, char **argv)
{
	const gid_t list[] = { 2000, 2001, 2002 };
	pid_t pid;
	int fd;

	(void)argc, (void)argv;
	make_file("team", 10, 1);
	OK(chown("team", OTHER, 2002));
	OK(chmod("team", 0660));
	make_file("mine", 10, 1);
	OK(chown("mine", PEOPLE, PEOPLE));
	make_file("secret", 10, 1);
	OK(chmod("secret", 0600));
	fd = OK(open("secret", O_RDWR));
	fflush(stdout);
	pid = OK(fork());
	if (!pid) {
		OK(setgroups(3, list));
		OK(setresgid(PEOPLE, PEOPLE, PEOPLE));
		OK(setresuid(PEOPLE, PEOPLE, PEOPLE));
		in_groups(&fd);
		fflush(stdout);
		_exit(0);
	}
	reap(pid);
	OK(close(fd));
	printf("mode in my group: %o\n", mode_of("mine"));
}

const struct command perm_commands[] = {
	{ "access-matrix", access_matrix, "owner, group, others and root with every mode" },
	{ "dir-access", dir_access, "what each mode of a directory allows" },
	{ "ownership", ownership, "what only an owner may do" },
	{ "setid", setid, "set-id bits go on write, truncation and chown" },
	{ "sticky", sticky, "sticky directories" },
	{ "setgid-dir", setgid_dir, "group inherited from a directory" },
	{ "groups", groups, "supplementary groups, descriptors opened by root" },
	{ NULL, NULL, NULL },
};
