// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: extended attributes. */
#include "fsprobe.h"

#include <linux/capability.h>
#include <sys/xattr.h>

static void check_value(const char *file, const char *name, const void *want, size_t len)
{
	char *buf = malloc(65536 + 1);
	ssize_t n = lgetxattr(file, name, buf, 65536);

	if (n != (ssize_t)len)
		fail("%s of %s: %zd bytes (%s), expected %zu", name, file, n,
		     errname(n < 0 ? errno : 0), len);
	same(name, 0, want, buf, len);
	EQ(lgetxattr(file, name, NULL, 0), len);
	free(buf);
}

/* Names of the namespace "user." only: others may come from elsewhere. */
static int count_user(const char *file)
{
	static char list[65536];
	ssize_t n = OK(llistxattr(file, list, sizeof(list)));
	char *p;
	int count = 0;

	EQ(llistxattr(file, NULL, 0), n);
	for (p = list; p < list + n; p += strlen(p) + 1)
		if (!strncmp(p, "user.", 5) || !strncmp(p, "trusted.", 8))
			count++;
	return count;
}

static void x_basic(int argc, char **argv)
{
	char buf[64];
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	EQ(count_user("f"), 0);
	OK(setxattr("f", "user.one", "value", 5, 0));
	check_value("f", "user.one", "value", 5);
	check_value(backing_path("f"), "user.one", "value", 5);
	OK(setxattr("f", "user.one", "longer value", 12, 0));
	check_value("f", "user.one", "longer value", 12);
	OK(setxattr("f", "user.one", "x", 1, 0));
	check_value("f", "user.one", "x", 1);
	OK(setxattr("f", "user.two", "2", 1, 0));
	EQ(count_user("f"), 2);
	OK(removexattr("f", "user.one"));
	EQ(count_user("f"), 1);
	SHOW("get of the removed", getxattr("f", "user.one", buf, sizeof(buf)));
	SHOW("remove again", removexattr("f", "user.one"));
	SHOW("create", setxattr("f", "user.c", "1", 1, XATTR_CREATE));
	SHOW("create again", setxattr("f", "user.c", "2", 1, XATTR_CREATE));
	check_value("f", "user.c", "1", 1);
	SHOW("replace", setxattr("f", "user.c", "3", 1, XATTR_REPLACE));
	check_value("f", "user.c", "3", 1);
	SHOW("replace of nothing", setxattr("f", "user.r", "1", 1, XATTR_REPLACE));
	SHOW("create and replace", setxattr("f", "user.r", "1", 1, 3));
	SHOW("unknown flag", setxattr("f", "user.r", "1", 1, 8));
	SHOW("unknown namespace", setxattr("f", "nowhere.x", "1", 1, 0));
	SHOW("no namespace", setxattr("f", "x", "1", 1, 0));
	SHOW("namespace alone", setxattr("f", "user.", "1", 1, 0));
	SHOW("absent file", setxattr("absent", "user.x", "1", 1, 0));
	SHOW("empty name", setxattr("f", "", "1", 1, 0));
	fd = OK(open("f", O_RDONLY));
	OK(fsetxattr(fd, "user.fd", "by fd", 5, 0));
	EQ(fgetxattr(fd, "user.fd", buf, sizeof(buf)), 5);
	OK(unlink("f"));
	EQ(fgetxattr(fd, "user.fd", buf, sizeof(buf)), 5);
	OK(fsetxattr(fd, "user.gone", "x", 1, 0));
	OK(fremovexattr(fd, "user.fd"));
	TRUE(flistxattr(fd, buf, sizeof(buf)) > 0);
	OK(close(fd));
	printf("by descriptor, also unlinked\n");
}

static void x_sizes(int argc, char **argv)
{
	static const size_t sizes[] = { 0, 1, 255, 4095, 4096, 4097, 40000, 65535, 65536 };
	char *buf = pages(1 << 17), name[300];
	size_t i;

	(void)argc, (void)argv;
	make_file("f", 0, 0);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		fill(buf, sizes[i], 0, i);
		OK(setxattr("f", "user.v", buf, sizes[i], 0));
		check_value("f", "user.v", buf, sizes[i]);
		if (sizes[i] > 1)
			ERR(ERANGE, getxattr("f", "user.v", buf, sizes[i] - 1));
	}
	check_value(backing_path("f"), "user.v", buf, 65536);
	printf("values of 0 to 65536 bytes\n");
	SHOW("65537 bytes", setxattr("f", "user.w", buf, 65537, 0));
	OK(removexattr("f", "user.v"));
	strcpy(name, "user.");
	memset(name + 5, 'n', 250);
	name[255] = 0;
	SHOW("name of 255 bytes", setxattr("f", name, "1", 1, 0));
	check_value("f", name, "1", 1);
	ERR(ERANGE, listxattr("f", buf, 255));
	EQ(listxattr("f", buf, 256), 256);
	same("list", 0, name, buf, 256);
	name[255] = 'n', name[256] = 0;
	SHOW("name of 256 bytes", setxattr("f", name, "1", 1, 0));
	SHOW("get of it", getxattr("f", name, buf, 1));
}

static void x_binary(int argc, char **argv)
{
	unsigned char all[512];
	int i;

	(void)argc, (void)argv;
	make_file("f", 0, 0);
	for (i = 0; i < 512; i++)
		all[i] = i;
	OK(setxattr("f", "user.all", all, 512, 0));
	check_value("f", "user.all", all, 512);
	OK(setxattr("f", "user.zeros", "\0\0\0", 3, 0));
	check_value("f", "user.zeros", "\0\0\0", 3);
	OK(setxattr("f", "user.empty", "", 0, 0));
	check_value("f", "user.empty", "", 0);
	OK(setxattr("f", "user.empty", NULL, 0, XATTR_REPLACE));
	check_value("f", "user.empty", "", 0);
	/* names are bytes too */
	OK(setxattr("f", "user.\xff\xfe \n.x", "odd", 3, 0));
	check_value("f", "user.\xff\xfe \n.x", "odd", 3);
	OK(setxattr("f", "user.ALL", "upper", 5, XATTR_CREATE));
	check_value("f", "user.all", all, 512);
	EQ(count_user("f"), 5);
	printf("every byte, none at all, odd names\n");
}

static void x_many(int argc, char **argv)
{
	char name[64], value[64], list[16384];
	bool seen[1000] = { false };
	ssize_t n, len;
	int many, i;
	char *p;

	if (argc != 2)
		fail("usage: x-many NAMES");
	many = number(argv[1]);
	TRUE(many <= 1000);
	make_file("f", 0, 0);
	for (i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.name%d", i);
		len = snprintf(value, sizeof(value), "value %d", i * i);
		OK(setxattr("f", name, value, len, XATTR_CREATE));
	}
	n = OK(listxattr("f", list, sizeof(list)));
	ERR(ERANGE, listxattr("f", list, n - 1));
	for (p = list, i = 0; p < list + n; p += strlen(p) + 1, i++) {
		int k = -1;

		TRUE(sscanf(p, "user.name%d", &k) == 1 && k >= 0 && k < many && !seen[k]);
		seen[k] = true;
	}
	EQ(i, many);
	for (i = 0; i < many; i += 7) {
		snprintf(name, sizeof(name), "user.name%d", i);
		len = snprintf(value, sizeof(value), "value %d", i * i);
		check_value("f", name, value, len);
	}
	for (i = 0; i < many; i++) {
		snprintf(name, sizeof(name), "user.name%d", i);
		OK(removexattr("f", name));
	}
	EQ(count_user("f"), 0);
	printf("%d names set, listed and removed\n", many);
}

/*
 * On what kinds of file which namespace is allowed. Newer kernels allow user attributes
 * on sockets; argument: a folder without FUSE in between, to tell.
 */
static void x_kinds(int argc, char **argv)
{
	static const char *const kinds[] = { "file", "dir", "symlink", "fifo", "socket" };
	char text[64], native[PATH_MAX];
	int error, user;
	size_t i;

	TRUE(argc == 2);
	snprintf(native, sizeof(native), "%s/socket", argv[1]);
	OK(mknod(native, S_IFSOCK | 0600, 0));
	error = lsetxattr(native, "user.x", "u", 1, 0) ? errno : 0;
	make_file("file", 0, 0);
	OK(mkdir("dir", 0755));
	OK(symlink("file", "symlink"));
	OK(mkfifo("fifo", 0600));
	OK(mknod("socket", S_IFSOCK | 0600, 0));
	for (i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), "user. on a %s", kinds[i]);
		user = i < 2;
		if (i < 4) {
			SHOW(text, lsetxattr(kinds[i], "user.x", "u", 1, 0));
		} else {
			user = lsetxattr(kinds[i], "user.x", "u", 1, 0) == 0;
			EQ(user ? 0 : errno, error);
			printf("%s: as without FUSE\n", text);
		}
		snprintf(text, sizeof(text), "trusted. on a %s", kinds[i]);
		SHOW(text, lsetxattr(kinds[i], "trusted.x", kinds[i], 3, 0));
		check_value(kinds[i], "trusted.x", kinds[i], 3);
		EQ(count_user(kinds[i]), 1 + user);
	}
	/* through the link to the file, not to the link */
	OK(setxattr("symlink", "user.x", "through", 7, 0));
	check_value("file", "user.x", "through", 7);
	EQ(getxattr("symlink", "user.x", text, sizeof(text)), 7);
	ERR(EPERM, lsetxattr("symlink", "user.y", "x", 1, 0));
	OK(lremovexattr("symlink", "trusted.x"));
	EQ(count_user("symlink"), 0);
	EQ(count_user("file"), 2);
	printf("a link's are not its target's\n");
}

static void as_people(void *arg)
{
	char buf[16];

	(void)arg;
	SHOW("set, others may read", setxattr("readable", "user.y", "1", 1, 0));
	SHOW("get, others may read", getxattr("readable", "user.x", buf, sizeof(buf)));
	SHOW("remove, others may read", removexattr("readable", "user.x"));
	SHOW("get, others may not read", getxattr("secret", "user.x", buf, sizeof(buf)));
	SHOW("set, others may write", setxattr("writable", "user.y", "1", 1, 0));
	SHOW("set on my own", setxattr("mine", "user.y", "1", 1, 0));
	SHOW("set on my own, read-only", (chmod("mine", 0444),
					   setxattr("mine", "user.z", "1", 1, 0)));
	SHOW("trusted: set", setxattr("mine", "trusted.x", "1", 1, 0));
	SHOW("trusted: get", getxattr("mine", "trusted.t", buf, sizeof(buf)));
	SHOW("trusted: remove", removexattr("mine", "trusted.t"));
	SHOW("sticky directory of another", setxattr("sticky", "user.x", "1", 1, 0));
}

static void x_access(int argc, char **argv)
{
	static const char *const names[] = { "readable", "secret", "writable", "mine" };
	size_t i;

	(void)argc, (void)argv;
	for (i = 0; i < 4; i++) {
		make_file(names[i], 0, 0);
		OK(setxattr(names[i], "user.x", "1", 1, 0));
		OK(setxattr(names[i], "trusted.t", "1", 1, 0));
	}
	OK(chmod("secret", 0600));
	OK(chmod("writable", 0666));
	OK(chown("mine", PEOPLE, PEOPLE));
	OK(mkdir("sticky", 0777));
	OK(chmod("sticky", 01777));
	as_user(PEOPLE, PEOPLE, as_people, NULL);
	check_value("readable", "user.x", "1", 1);
	check_value("mine", "trusted.t", "1", 1);
}

/* They belong to the file, not to its name. */
static void x_life(int argc, char **argv)
{
	struct stat before, after;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	OK(setxattr("f", "user.x", "value", 5, 0));
	OK(rename("f", "g"));
	check_value("g", "user.x", "value", 5);
	OK(link("g", "h"));
	OK(setxattr("h", "user.y", "other", 5, 0));
	check_value("g", "user.y", "other", 5);
	OK(unlink("g"));
	check_value("h", "user.x", "value", 5);
	OK(truncate("h", 0));
	fd = OK(open("h", O_WRONLY | O_TRUNC));
	EQ(write(fd, "new", 3), 3);
	OK(close(fd));
	check_value("h", "user.x", "value", 5);
	make_file("new", 10, 2);
	OK(rename("new", "h"));
	ERR(ENODATA, getxattr("h", "user.x", NULL, 0));
	OK(unlink("h"));
	make_file("h", 1, 1);
	EQ(count_user("h"), 0);
	printf("kept by rename, link and truncation; not by a name\n");
	OK(stat("h", &before));
	next_tick();
	OK(setxattr("h", "user.t", "1", 1, 0));
	OK(stat("h", &after));
	TRUE(before.st_ctim.tv_sec != after.st_ctim.tv_sec ||
	     before.st_ctim.tv_nsec != after.st_ctim.tv_nsec);
	TRUE(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
	     before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
	printf("ctime moves, mtime does not\n");
}

/* File capabilities go when the content changes. */
static void x_caps(int argc, char **argv)
{
	struct vfs_cap_data cap = {
		.magic_etc = VFS_CAP_REVISION_2,
		.data[0].permitted = 1 << CAP_NET_RAW,
	};
	char buf[64];
	int fd;

	(void)argc, (void)argv;
	make_file("f", 10, 1);
	OK(setxattr("f", "security.capability", &cap, sizeof(cap), 0));
	EQ(getxattr("f", "security.capability", buf, sizeof(buf)), sizeof(cap));
	same("capability", 0, &cap, buf, sizeof(cap));
	fd = OK(open("f", O_RDWR));
	OK(pread(fd, buf, 1, 0));
	EQ(getxattr("f", "security.capability", buf, sizeof(buf)), sizeof(cap));
	EQ(pwrite(fd, "x", 1, 0), 1);
	SHOW("capability after a write", getxattr("f", "security.capability", buf, sizeof(buf)));
	OK(close(fd));
	OK(setxattr("f", "security.capability", &cap, sizeof(cap), 0));
	OK(chown("f", PEOPLE, PEOPLE));
	SHOW("capability after chown", getxattr("f", "security.capability", buf, sizeof(buf)));
	OK(setxattr("f", "security.capability", &cap, sizeof(cap), 0));
	OK(truncate("f", 3));
	SHOW("capability after truncation", getxattr("f", "security.capability", buf, sizeof(buf)));
	OK(setxattr("f", "user.plain", "1", 1, 0));
	OK(truncate("f", 2));
	check_value("f", "user.plain", "1", 1);
	SHOW("malformed capability", setxattr("f", "security.capability", "x", 1, 0));
}

const struct command xattr_commands[] = {
	{ "x-basic", x_basic, "set, get, list, remove, create, replace" },
	{ "x-sizes", x_sizes, "sizes of values and names, small buffers" },
	{ "x-binary", x_binary, "binary and empty values, odd names" },
	{ "x-many", x_many, "NAMES: many attributes on one file" },
	{ "x-kinds", x_kinds, "on directories, links, special files" },
	{ "x-access", x_access, "who may read and change them" },
	{ "x-life", x_life, "rename, link, truncation, times" },
	{ "x-caps", x_caps, "file capabilities go on write" },
	{ NULL, NULL, NULL },
};
