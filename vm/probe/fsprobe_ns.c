// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: names, and what they stand for. */
#include "fsprobe.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static unsigned int links_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st.st_nlink;
}

static mode_t mode_of(const char *name)
{
	struct stat st;

	OK(lstat(name, &st));
	return st.st_mode;
}

static void basics(int argc, char **argv)
{
	struct stat st;
	int fd;

	(void)argc, (void)argv;
	fd = OK(open("f", O_CREAT | O_EXCL | O_RDWR, 0640));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(st.st_nlink, 1);
	EQ(st.st_size, 0);
	OK(close(fd));
	SHOW("create again, exclusively", open("f", O_CREAT | O_EXCL, 0640));
	SHOW("create below an absent directory", open("absent/f", O_CREAT, 0640));
	SHOW("create below a file", open("f/g", O_CREAT, 0640));
	SHOW("mkdir", mkdir("d", 0750));
	EQ(mode_of("d"), S_IFDIR | 0750);
	SHOW("mkdir over a directory", mkdir("d", 0750));
	SHOW("mkdir over a file", mkdir("f", 0750));
	SHOW("mkdir with slash", mkdir("e/", 0750));
	SHOW("open a directory for writing", open("d", O_WRONLY));
	SHOW("open(O_CREAT) of a directory", open("d", O_CREAT | O_RDWR, 0600));
	SHOW("O_DIRECTORY on a file", open("f", O_DIRECTORY));
	SHOW("file with slash", open("f/", O_RDONLY));
	SHOW("create with slash", open("new/", O_CREAT | O_WRONLY, 0600));
	SHOW("unlink of a directory", unlink("d"));
	SHOW("rmdir of a file", rmdir("f"));
	SHOW("unlink of nothing", unlink("absent"));
	SHOW("rmdir of nothing", rmdir("absent"));
	make_file("d/g", 10, 1);
	SHOW("rmdir, not empty", rmdir("d"));
	SHOW("rmdir of .", rmdir("d/."));
	SHOW("rmdir of ..", rmdir("d/.."));
	SHOW("unlink below", unlink("d/g"));
	SHOW("rmdir, empty", rmdir("d"));
	SHOW("unlink", unlink("f"));
	SHOW("lstat of the unlinked", lstat("f", &st));
	SHOW("create anew as a directory", mkdir("f", 0700));
	TRUE(S_ISDIR(mode_of("f")));
	OK(rmdir("f"));
}

/* Path walk: dots, slashes, what is no directory. */
static void dots(int argc, char **argv)
{
	struct stat a, b;
	int fd;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	make_file("d/e/f", 5, 1);
	OK(stat("d", &a));
	OK(stat("d/e/..", &b));
	EQ(a.st_ino, b.st_ino);
	OK(stat("d/./e/../../d//e/./..///", &b));
	EQ(a.st_ino, b.st_ino);
	is_file("./d/.//e/../e/f", 5, 1);
	SHOW("file as directory", stat("d/e/f/.", &b));
	SHOW("file, then ..", stat("d/e/f/..", &b));
	SHOW("absent, then ..", stat("d/x/../e", &b));
	SHOW("empty name", stat("", &b));
	SHOW("create .", open("d/.", O_CREAT | O_EXCL, 0600));
	SHOW("mkdir ..", mkdir("d/..", 0700));
	/* relative to a descriptor, also of a directory that was renamed */
	fd = OK(open("d/e", O_RDONLY | O_DIRECTORY));
	OK(rename("d/e", "moved"));
	OK(fstatat(fd, "f", &b, 0));
	EQ(b.st_size, 5);
	OK(fstatat(fd, "..", &b, 0));
	OK(stat(".", &a));
	EQ(a.st_ino, b.st_ino);
	OK(fstatat(fd, "", &b, AT_EMPTY_PATH));
	TRUE(S_ISDIR(b.st_mode));
	OK(close(fd));
	fd = OK(open("moved/f", O_PATH));
	SHOW("read of an O_PATH descriptor", read(fd, &b, 1));
	SHOW("file descriptor as directory", fstatat(fd, "x", &b, 0));
	OK(close(fd));
	printf("dots and slashes lead to the same files\n");
}

/* A directory that goes away below somebody. */
static void orphan_dir(int argc, char **argv)
{
	char buf[PATH_MAX];
	struct stat st;
	DIR *d;
	int fd;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	fd = OK(open("d", O_RDONLY | O_DIRECTORY));
	OK(chdir("d"));
	OK(rmdir("../d"));
	SHOW("create in a removed directory", open("f", O_CREAT | O_WRONLY, 0644));
	SHOW("mkdir in it", mkdir("e", 0755));
	SHOW("lookup in it", lstat("f", &st));
	SHOW("symlink in it", symlink("x", "s"));
	SHOW("getcwd in it", getcwd(buf, sizeof(buf)) ? 0 : -1);
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	d = fdopendir(fd);
	TRUE(d);
	errno = 0;
	while (readdir(d))
		;
	EQ(errno, 0);
	OK(closedir(d));
	printf("no links, no entries\n");
}

static void special(int argc, char **argv)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "bound" };
	struct stat st;
	char buf[8];
	int r, w, s;

	(void)argc, (void)argv;
	umask(0);
	OK(mkfifo("fifo", 0640));
	EQ(mode_of("fifo"), S_IFIFO | 0640);
	r = OK(open("fifo", O_RDONLY | O_NONBLOCK));
	w = OK(open("fifo", O_WRONLY | O_NONBLOCK));
	EQ(write(w, "hello", 5), 5);
	EQ(read(r, buf, 8), 5);
	same("through the fifo", 0, "hello", buf, 5);
	EQ(size_of("fifo"), 0);
	OK(close(r));
	OK(close(w));
	SHOW("write-only open of a fifo nobody reads", open("fifo", O_WRONLY | O_NONBLOCK));
	printf("fifo carries data\n");
	OK(mknod("socket", S_IFSOCK | 0600, 0));
	EQ(mode_of("socket"), S_IFSOCK | 0600);
	SHOW("open of a socket", open("socket", O_RDONLY));
	s = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	OK(bind(s, (void *)&sa, sizeof(sa)));
	EQ(mode_of("bound") & S_IFMT, S_IFSOCK);
	OK(listen(s, 1));
	w = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	OK(connect(w, (void *)&sa, sizeof(sa)));
	OK(close(w));
	OK(close(s));
	printf("socket takes connections\n");
	OK(mknod("null", S_IFCHR | 0666, makedev(1, 3)));
	OK(lstat("null", &st));
	EQ(st.st_mode, S_IFCHR | 0666);
	EQ(major(st.st_rdev), 1);
	EQ(minor(st.st_rdev), 3);
	OK(mknod("block", S_IFBLK | 0600, makedev(259, 70000)));
	OK(lstat("block", &st));
	EQ(st.st_mode, S_IFBLK | 0600);
	EQ(major(st.st_rdev), 259);
	EQ(minor(st.st_rdev), 70000);
	OK(mknod("regular", S_IFREG | 0604, 0));
	EQ(mode_of("regular"), S_IFREG | 0604);
	OK(mknod("untyped", 0600, 0));
	EQ(mode_of("untyped"), S_IFREG | 0600);
	printf("device numbers and types kept\n");
	SHOW("mknod of a directory", mknod("dir", S_IFDIR | 0700, 0));
	SHOW("mknod over a file", mknod("regular", S_IFIFO | 0600, 0));
	OK(rename("fifo", "fifo2"));
	EQ(mode_of("fifo2") & S_IFMT, S_IFIFO);
	OK(link("socket", "socket2"));
	EQ(mode_of("socket2") & S_IFMT, S_IFSOCK);
	OK(unlink("null"));
	OK(unlink("fifo2"));
}

static void symlinks(int argc, char **argv)
{
	char target[PATH_MAX], got[PATH_MAX + 1], name[32];
	static const int lengths[] = { 1, 59, 60, 255, 256, 1000, 2048, 4095 };
	struct stat st;
	ssize_t n;
	size_t i;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	OK(symlink("f", "s"));
	OK(lstat("s", &st));
	EQ(st.st_mode, S_IFLNK | 0777);
	EQ(st.st_size, 1);
	OK(stat("s", &st));
	EQ(st.st_size, 100);
	is_file("s", 100, 1);
	OK(symlink("absent", "dangling"));
	SHOW("stat of a dangling link", stat("dangling", &st));
	SHOW("exclusive create of one", open("dangling", O_CREAT | O_EXCL | O_WRONLY, 0600));
	SHOW("create through it", open("dangling", O_CREAT | O_WRONLY, 0600));
	TRUE(exists("absent"));
	SHOW("O_NOFOLLOW", open("s", O_RDONLY | O_NOFOLLOW));
	SHOW("symlink over a name", symlink("f", "s"));
	SHOW("empty target", symlink("", "empty"));
	SHOW("readlink of a file", readlink("f", got, sizeof(got)));
	EQ(readlink("dangling", got, 3), 3);
	OK(symlink("loop", "loop"));
	SHOW("link to itself", open("loop", O_RDONLY));
	OK(symlink("b", "a"));
	OK(symlink("a", "b"));
	SHOW("two links in a circle", stat("a/x", &st));
	/* 40 links are followed, 41 are not */
	OK(symlink("f", "c0"));
	for (i = 1; i <= 40; i++) {
		snprintf(name, sizeof(name), "c%zu", i);
		snprintf(target, sizeof(target), "c%zu", i - 1);
		OK(symlink(target, name));
	}
	SHOW("40 links", stat("c39", &st));
	SHOW("41 links", stat("c40", &st));
	for (i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		fill(target, lengths[i], 0, i);
		target[lengths[i]] = 0;
		OK(symlink(target, "long"));
		n = OK(readlink("long", got, sizeof(got)));
		EQ(n, lengths[i]);
		same("target", 0, target, got, n);
		EQ(size_of("long"), n);
		OK(unlink("long"));
	}
	printf("targets of 1 to 4095 bytes kept\n");
	OK(mkdir("d", 0755));
	OK(symlink("../f", "d/up"));
	is_file("d/up", 100, 1);
	OK(symlink("d", "dd"));
	is_file("dd/up", 100, 1);
	SHOW("rmdir of a link to a directory", rmdir("dd"));
	OK(unlink("dd"));
	TRUE(exists("d"));
	OK(unlink("s"));
	TRUE(exists("f"));
	printf("links followed, removed alone\n");
}

static void links(int argc, char **argv)
{
	char name[32];
	struct stat a, b;
	int fd, i;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	OK(mkdir("d", 0755));
	EQ(links_of("d"), 2);
	OK(mkdir("d/e", 0755));
	EQ(links_of("d"), 3);
	OK(link("f", "g"));
	OK(link("g", "d/h"));
	EQ(links_of("f"), 3);
	EQ(links_of("d/h"), 3);
	OK(stat("f", &a));
	OK(stat("d/h", &b));
	EQ(a.st_ino, b.st_ino);
	/* written through one name, seen by all */
	make_file("g", 200, 2);
	is_file("f", 200, 2);
	is_file("d/h", 200, 2);
	OK(chmod("d/h", 0600));
	EQ(mode_of("f"), S_IFREG | 0600);
	OK(unlink("f"));
	EQ(links_of("g"), 2);
	OK(rename("g", "d/h"));		/* the same file: nothing happens */
	EQ(links_of("g"), 2);
	OK(unlink("g"));
	EQ(links_of("d/h"), 1);
	is_file("d/h", 200, 2);
	for (i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(link("d/h", name));
	}
	EQ(links_of("d/h"), 51);
	EQ(links_of("l49"), 51);
	for (i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "l%d", i);
		OK(unlink(name));
	}
	EQ(links_of("d/h"), 1);
	printf("links counted\n");
	OK(symlink("d/h", "s"));
	SHOW("link of a directory", link("d", "d2"));
	SHOW("link over a name", link("d/h", "s"));
	SHOW("link of nothing", link("absent", "x"));
	SHOW("link into nowhere", link("d/h", "absent/x"));
	SHOW("link to another file system", link("d/h", "/proc/self/x"));
	OK(link("s", "s2"));		/* the symbolic link itself */
	EQ(mode_of("s2") & S_IFMT, S_IFLNK);
	EQ(links_of("s"), 2);
	OK(linkat(AT_FDCWD, "s", AT_FDCWD, "h2", AT_SYMLINK_FOLLOW));
	EQ(links_of("d/h"), 2);
	fd = OK(open("h2", O_RDONLY));
	OK(unlink("h2"));
	OK(unlink("d/h"));
	OK(fstat(fd, &a));
	EQ(a.st_nlink, 0);
	OK(close(fd));
	printf("symbolic links linked themselves\n");
}

static void unlink_open(int argc, char **argv)
{
	enum { SIZE = 30000 };
	char *buf = pages(SIZE), path[64];
	struct stat st;
	int fd, fd2, i;

	(void)argc, (void)argv;
	make_file("f", SIZE, 1);
	fd = OK(open("f", O_RDWR));
	OK(unlink("f"));
	TRUE(!exists("f"));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	EQ(st.st_size, SIZE);
	full_pread(fd, buf, SIZE, 0);
	is_pattern("without a name", 0, buf, SIZE, 1);
	fill(buf, SIZE, SIZE, 2);
	full_pwrite(fd, buf, SIZE, SIZE);
	OK(fsync(fd));
	OK(ftruncate(fd, SIZE + 100));
	OK(fchmod(fd, 0600));
	OK(fstat(fd, &st));
	EQ(st.st_size, SIZE + 100);
	EQ(st.st_mode, S_IFREG | 0600);
	full_pread(fd, buf, 100, SIZE);
	is_pattern("written without a name", SIZE, buf, 100, 2);
	printf("an open file lives on\n");
	/* a new file of that name is another one */
	make_file("f", 10, 3);
	full_pread(fd, buf, 100, 0);
	is_pattern("old file", 0, buf, 100, 1);
	is_file("f", 10, 3);
	/* opened again by way of /proc */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd2 = OK(open(path, O_RDONLY));
	full_pread(fd2, buf, 100, SIZE);
	is_pattern("opened again", SIZE, buf, 100, 2);
	OK(close(fd));
	full_pread(fd2, buf, 100, SIZE);
	OK(close(fd2));
	printf("even when its name is taken\n");
	/* replaced by rename while open */
	make_file("new", 20, 4);
	fd = OK(open("f", O_RDONLY));
	OK(rename("new", "f"));
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 0);
	full_pread(fd, buf, 10, 0);
	is_pattern("replaced", 0, buf, 10, 3);
	OK(close(fd));
	is_file("f", 20, 4);
	/* many, closed in another order; nothing may be left in the directory */
	for (i = 0; i < 10; i++) {
		int fds[3];

		make_file("t", 100 * i, i);
		fds[0] = OK(open("t", O_RDONLY));
		fds[1] = OK(open("t", O_RDWR));
		OK(unlink("t"));
		fds[2] = OK(dup(fds[0]));
		OK(close(fds[i % 3]));
		OK(close(fds[(i + 1) % 3]));
		full_pread(fds[(i + 2) % 3], buf, 100 * i, 0);
		is_pattern("last descriptor", 0, buf, 100 * i, i);
		OK(close(fds[(i + 2) % 3]));
	}
	OK(unlink("f"));
	/* hidden helper files would be in the way here */
	OK(mkdir("d", 0755));
	make_file("d/f", 10, 1);
	fd = OK(open("d/f", O_RDONLY));
	OK(unlink("d/f"));
	OK(rmdir("d"));
	full_pread(fd, buf, 10, 0);
	OK(close(fd));
	printf("and its directory too\n");
}

static void tmpfile_link(int argc, char **argv)
{
	char path[64];
	struct stat st;
	DIR *d;
	int fd, n = 0;

	(void)argc, (void)argv;
	fd = OK(open(".", O_TMPFILE | O_RDWR, 0640));
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG | 0640);
	EQ(st.st_nlink, 0);
	EQ(write(fd, "content", 7), 7);
	d = opendir(".");
	TRUE(d);
	while (readdir(d))
		n++;
	EQ(n, 2);
	OK(closedir(d));
	printf("a file without a name\n");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	EQ(links_of("named"), 1);
	EQ(size_of("named"), 7);
	OK(fstat(fd, &st));
	EQ(st.st_nlink, 1);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "again", AT_SYMLINK_FOLLOW));
	EQ(links_of("named"), 2);
	OK(ftruncate(fd, 3));
	EQ(size_of("again"), 3);
	OK(close(fd));
	printf("gets one, then another\n");
	fd = OK(open(".", O_TMPFILE | O_WRONLY, 0600));
	SHOW("link over a name", (snprintf(path, sizeof(path), "/proc/self/fd/%d", fd),
		linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW)));
	OK(close(fd));
	fd = OK(open(".", O_TMPFILE | O_EXCL | O_WRONLY, 0600));
	SHOW("link of an exclusive one", (snprintf(path, sizeof(path), "/proc/self/fd/%d", fd),
		linkat(AT_FDCWD, path, AT_FDCWD, "other", AT_SYMLINK_FOLLOW)));
	OK(close(fd));
	SHOW("O_TMPFILE, read-only", open(".", O_TMPFILE | O_RDONLY, 0600));
	SHOW("O_TMPFILE below a file", open("named", O_TMPFILE | O_RDWR, 0600));
	SHOW("O_TMPFILE below nothing", open("absent", O_TMPFILE | O_RDWR, 0600));
}

static void long_names(int argc, char **argv)
{
	char name[300], path[PATH_MAX + 300];
	struct stat st;
	int i, n, fd;

	(void)argc, (void)argv;
	memset(name, 'n', sizeof(name));
	name[255] = 0;
	make_file(name, 10, 1);
	is_file(name, 10, 1);
	name[254] = 0;
	ERR(ENOENT, stat(name, &st));
	name[254] = 'n', name[255] = 'n', name[256] = 0;
	SHOW("create, 256 bytes", open(name, O_CREAT | O_WRONLY, 0600));
	SHOW("stat, 256 bytes", stat(name, &st));
	SHOW("mkdir, 256 bytes", mkdir(name, 0700));
	SHOW("symlink, 256 bytes", symlink("x", name));
	SHOW("unlink, 256 bytes", unlink(name));
	name[255] = 0;
	strcpy(path, name);
	path[0] = 'm';
	OK(rename(name, path));
	OK(link(path, name));
	OK(unlink(path));
	is_file(name, 10, 1);
	path[255] = 'm', path[256] = 0;
	SHOW("rename to 256 bytes", rename(name, path));
	SHOW("link to 256 bytes", link(name, path));
	is_file(name, 10, 1);
	OK(unlink(name));
	/* down as deep as one path reaches: 15 times 255 bytes */
	n = 0;
	for (i = 0; i < 15; i++) {
		memset(path + n, 'a' + i, 255);
		n += 255;
		path[n] = 0;
		OK(mkdir(path, 0755));
		path[n++] = '/';
	}
	strcpy(path + n, "f");
	make_file(path, 100, 2);
	is_file(path, 100, 2);
	memset(path + n, 'f', 300);
	path[4096] = 0;
	SHOW("path of 4096 bytes", stat(path, &st));
	strcpy(path + n, "f");
	/* and deeper, from there */
	path[n] = 0;
	fd = OK(open(path, O_RDONLY | O_DIRECTORY));
	for (i = 0; i < 20; i++) {
		int next;

		OK(mkdirat(fd, "deeper", 0755));
		next = OK(openat(fd, "deeper", O_RDONLY | O_DIRECTORY));
		OK(close(fd));
		fd = next;
	}
	OK(fstatat(fd, "../../../../..", &st, 0));
	for (i = 0; i < 20; i++) {
		int up = OK(openat(fd, "..", O_RDONLY | O_DIRECTORY));

		OK(unlinkat(up, "deeper", AT_REMOVEDIR));
		OK(close(fd));
		fd = up;
	}
	OK(unlinkat(fd, "f", 0));
	OK(close(fd));
	printf("35 levels down and up\n");
}

static void weird_names(int argc, char **argv)
{
	unsigned char name[8];
	char path[64];
	struct dirent *de;
	bool seen[256] = { false };
	int c, n = 0;
	DIR *d;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	for (c = 1; c < 256; c++) {
		if (c == '/')
			continue;
		memset(name, 0, sizeof(name));
		name[0] = c, name[1] = 'x', name[2] = c;
		snprintf(path, sizeof(path), "d/%s", name);
		OK(close(OK(open(path, O_CREAT | O_EXCL | O_WRONLY, 0644))));
	}
	d = opendir("d");
	TRUE(d);
	while ((de = readdir(d))) {
		c = (unsigned char)de->d_name[0];
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
			continue;
		TRUE(strlen(de->d_name) == 3 && de->d_name[1] == 'x' &&
		     (unsigned char)de->d_name[2] == c && !seen[c]);
		seen[c] = true;
		n++;
	}
	OK(closedir(d));
	EQ(n, 254);
	printf("%d names, one for each byte\n", n);
	static const char *const odd[] = {
		"...", " ", "  ", "-rf", "*", "\n", "a\nb", "\xff\xfe", "\xc3\xa4", "a\xcc\x88",
		"~", "a b", "\\", "%s%n", ".hidden", "..data", "\x7f",
	};
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		make_file(odd[i], i, i);
		is_file(odd[i], i, i);
	}
	/* no two of them are the same, whatever they look like */
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		is_file(odd[i], i, i);
		is_backing(odd[i], i, i);
		OK(unlink(odd[i]));
	}
	TRUE(!exists("A"));
	make_file("a", 1, 1);
	TRUE(!exists("A"));
	make_file("A", 2, 2);
	is_file("a", 1, 1);
	printf("odd names, all different\n");
}

/* A name that was looked up in vain and then appears, from above and below. */
static void negative(int argc, char **argv)
{
	char name[32], *path;
	int i;

	(void)argc, (void)argv;
	for (i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		path = backing_path(name);
		TRUE(!exists(name));
		TRUE(!exists(name));
		make_file(path, 100, i);
		is_file(name, 100, i);
		OK(unlink(path));
		TRUE(!exists(name));
		OK(mkdir(path, 0755));
		OK(rmdir(name));
		TRUE(!exists(path));
		make_file(name, 50, i);
		OK(rename(path, backing_path("other")));
		TRUE(!exists(name));
		is_file("other", 50, i);
		ERR(ENOENT, open(name, O_RDONLY));
		free(path);
	}
	printf("%d names come and go below, seen at once\n", i);
}

/* The same with cached answers: changes from above are seen at once anyway. */
static void negative_cached(int argc, char **argv)
{
	char name[32];
	struct stat st;
	int i;

	(void)argc, (void)argv;
	for (i = 0; i < 10; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ERR(ENOENT, stat(name, &st));
		ERR(ENOENT, stat(name, &st));
		make_file(name, 10, 1);
		OK(stat(name, &st));
		OK(unlink(name));
		ERR(ENOENT, stat(name, &st));
		OK(mkdir(name, 0755));
		OK(stat(name, &st));
		TRUE(S_ISDIR(st.st_mode));
		OK(rename(name, "x"));
		ERR(ENOENT, stat(name, &st));
		OK(symlink("x", name));
		OK(stat(name, &st));
		OK(rmdir("x"));
		ERR(ENOENT, stat(name, &st));
		OK(lstat(name, &st));
		OK(unlink(name));
		ERR(ENOENT, unlink(name));
	}
	printf("%d names come and go\n", i);
}

/* -------------------------------------------------------- exclusiveness --- */

struct race {
	int rounds;
	unsigned int *won;
};

static void excl_worker(int i, void *arg)
{
	struct race *race = arg;
	char name[32];
	int k, r, fd;

	for (k = 0; k < race->rounds; k++) {
		snprintf(name, sizeof(name), "r%d", k);
		switch (k % 4) {
		case 0:
			fd = r = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
			if (fd >= 0) {
				EQ(write(fd, &i, sizeof(i)), sizeof(i));
				OK(close(fd));
			}
			break;
		case 1:
			r = mkdir(name, 0700);
			break;
		case 2:
			r = symlink("target", name);
			break;
		default:
			r = link("common", name);
		}
		if (r >= 0)
			__atomic_fetch_add(&race->won[k], 1, __ATOMIC_RELAXED);
		else
			EQ(errno, EEXIST);
	}
}

static void excl(int argc, char **argv)
{
	struct race race;
	int n, k;

	if (argc != 3)
		fail("usage: excl PROCESSES ROUNDS");
	n = number(argv[1]);
	race.rounds = number(argv[2]);
	race.won = shared(race.rounds * sizeof(*race.won));
	make_file("common", 1, 1);
	crowd(n, excl_worker, &race);
	for (k = 0; k < race.rounds; k++)
		if (race.won[k] != 1)
			fail("round %d: %u processes created it", k, race.won[k]);
	EQ(links_of("common"), 1 + race.rounds / 4);
	printf("%d processes, %d names: each made by exactly one\n", n, race.rounds);
}

/* Flags of open that concern the name. */
static void open_flags(int argc, char **argv)
{
	struct stat st;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(mkdir("d", 0755));
	OK(symlink("d", "s"));
	fd = OK(open("f", O_RDONLY | O_CREAT, 0600));
	EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_CREAT | O_EXCL), O_RDONLY);
	OK(close(fd));
	fd = OK(open("f", O_RDWR | O_APPEND | O_NONBLOCK));
	EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK),
	   O_RDWR | O_APPEND | O_NONBLOCK);
	/* append mode may be switched */
	OK(fcntl(fd, F_SETFL, 0));
	EQ(pwrite(fd, "ab", 2, 0), 2);
	EQ(size_of("f"), 10);
	OK(fcntl(fd, F_SETFL, O_APPEND));
	EQ(write(fd, "cd", 2), 2);
	EQ(size_of("f"), 12);
	OK(close(fd));
	/* a mode that forbids what this descriptor may still do */
	fd = OK(open("ro", O_CREAT | O_EXCL | O_RDWR, 0));
	EQ(write(fd, "data", 4), 4);
	OK(fstat(fd, &st));
	EQ(st.st_mode, S_IFREG);
	OK(close(fd));
	printf("status flags kept and changed\n");
	SHOW("O_DIRECTORY|O_NOFOLLOW of a link", open("s", O_DIRECTORY | O_NOFOLLOW));
	SHOW("O_PATH|O_NOFOLLOW of a link", open("s", O_PATH | O_NOFOLLOW));
	SHOW("O_DIRECTORY through a link", open("s", O_DIRECTORY));
	SHOW("O_EXCL|O_CREAT of a link", open("s", O_CREAT | O_EXCL, 0600));
	SHOW("read of a directory", read(OK(open("d", O_RDONLY)), &st, 1));
	SHOW("write to a read-only descriptor", write(OK(open("f", O_RDONLY)), "x", 1));
	SHOW("O_NOATIME", open("f", O_RDONLY | O_NOATIME));
}

const struct command ns_commands[] = {
	{ "basics", basics, "create, mkdir, unlink, rmdir and their errors" },
	{ "dots", dots, "path walk: dots, slashes, descriptors" },
	{ "orphan-dir", orphan_dir, "a removed directory that is still in use" },
	{ "special", special, "fifos, sockets, device nodes" },
	{ "symlinks", symlinks, "symbolic links, loops, long targets" },
	{ "links", links, "link counts" },
	{ "unlink-open", unlink_open, "open files without a name" },
	{ "tmpfile", tmpfile_link, "O_TMPFILE and linkat" },
	{ "long-names", long_names, "names of 255 and 256 bytes, deep paths" },
	{ "weird-names", weird_names, "any byte but slash and zero" },
	{ "negative", negative, "names that come and go below (no caching)" },
	{ "negative-cached", negative_cached, "names that come and go" },
	{ "excl", excl, "PROCESSES ROUNDS: exactly one creates each name" },
	{ "open-flags", open_flags, "flags of open" },
	{ NULL, NULL, NULL },
};
