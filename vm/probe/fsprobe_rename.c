// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: rename, alone and in races. */
#include "fsprobe.h"

#include <dirent.h>

enum what { NOTHING, REGULAR, EMPTY_DIR, FULL_DIR, LINK, FIFO, WHATS };

static const char *const names_of[WHATS] = {
	"nothing", "file", "empty dir", "full dir", "symlink", "fifo",
};

static void make(const char *name, enum what w)
{
	char below[32];

	switch (w) {
	case REGULAR:
		make_file(name, 10, 1);
		break;
	case EMPTY_DIR:
	case FULL_DIR:
		OK(mkdir(name, 0755));
		if (w == FULL_DIR) {
			snprintf(below, sizeof(below), "%s/x", name);
			make_file(below, 1, 1);
		}
		break;
	case LINK:
		OK(symlink("target", name));
		break;
	case FIFO:
		OK(mkfifo(name, 0600));
		break;
	default:
		break;
	}
}

static void clear(const char *name)
{
	char below[32];

	snprintf(below, sizeof(below), "%s/x", name);
	unlink(below);
	if (unlink(name))
		rmdir(name);
	TRUE(!exists(name));
}

static enum what look(const char *name)
{
	char below[32];
	struct stat st;

	if (!exists(name))
		return NOTHING;
	OK(lstat(name, &st));
	switch (st.st_mode & S_IFMT) {
	case S_IFDIR:
		snprintf(below, sizeof(below), "%s/x", name);
		return exists(below) ? FULL_DIR : EMPTY_DIR;
	case S_IFLNK:
		return LINK;
	case S_IFIFO:
		return FIFO;
	}
	return REGULAR;
}

/* Every kind onto every kind; what is left must fit the result. */
static void matrix(unsigned int flags)
{
	const char *result;
	enum what a, b;
	int r;

	for (a = 0; a < WHATS; a++) {
		printf("%s ->", names_of[a]);
		for (b = 0; b < WHATS; b++) {
			make("a", a);
			make("b", b);
			r = renameat2(AT_FDCWD, "a", AT_FDCWD, "b", flags);
			result = r ? errname(errno) : "ok";
			if (r) {
				EQ(look("a"), a);
				EQ(look("b"), b);
			} else {
				EQ(look("b"), a);
				EQ(look("a"), flags == RENAME_EXCHANGE ? b : NOTHING);
			}
			printf(" %s", result);
			clear("a");
			clear("b");
		}
		printf("\n");
	}
}

static void rename_matrix(int argc, char **argv)
{
	unsigned int flags = 0;

	if (argc == 2 && !strcmp(argv[1], "noreplace"))
		flags = RENAME_NOREPLACE;
	else if (argc == 2 && !strcmp(argv[1], "exchange"))
		flags = RENAME_EXCHANGE;
	else if (argc != 1)
		fail("usage: rename-matrix [noreplace | exchange]");
	printf("onto: nothing, file, empty dir, full dir, symlink, fifo\n");
	matrix(flags);
}

static void rename_more(int argc, char **argv)
{
	struct stat a, b, d;
	int fd;

	(void)argc, (void)argv;
	OK(mkdir("d", 0755));
	OK(mkdir("d/e", 0755));
	OK(mkdir("d/e/g", 0755));
	OK(mkdir("h", 0755));
	make_file("f", 10, 1);
	SHOW("into itself", rename("d", "d/x"));
	SHOW("into its own child", rename("d", "d/e/x"));
	SHOW("onto its ancestor", rename("d/e/g", "d"));
	SHOW("exchange with its child", renameat2(AT_FDCWD, "d", AT_FDCWD, "d/e", RENAME_EXCHANGE));
	SHOW("onto itself", rename("d", "d"));
	SHOW("dot", rename("d/.", "x"));
	SHOW("dotdot", rename("d/e/..", "x"));
	SHOW("onto dot", rename("h", "d/."));
	SHOW("file with slash", rename("f/", "x"));
	SHOW("file onto a name with slash", rename("f", "x/"));
	SHOW("directory onto a name with slash", rename("h", "k/"));
	SHOW("below a file", rename("k", "f/x"));
	SHOW("into nowhere", rename("f", "absent/x"));
	SHOW("to another file system", rename("f", "/proc/x"));
	SHOW("unknown flag", renameat2(AT_FDCWD, "f", AT_FDCWD, "x", 1 << 20));
	SHOW("exchange and noreplace", renameat2(AT_FDCWD, "f", AT_FDCWD, "k",
						 RENAME_EXCHANGE | RENAME_NOREPLACE));
	/* a directory changes parents: link counts and dotdot follow */
	OK(stat("d", &d));
	EQ(d.st_nlink, 3);
	OK(rename("d/e", "k/e"));
	OK(stat("d", &d));
	EQ(d.st_nlink, 2);
	OK(stat("k", &a));
	EQ(a.st_nlink, 3);
	OK(stat("k/e/..", &b));
	EQ(a.st_ino, b.st_ino);
	printf("link counts and .. follow\n");
	/* the inode moves, not the data */
	OK(stat("f", &a));
	OK(rename("f", "k/e/f"));
	OK(stat("k/e/f", &b));
	EQ(a.st_ino, b.st_ino);
	is_file("k/e/f", 10, 1);
	/* exchange across directories and kinds */
	OK(symlink("nowhere", "d/s"));
	OK(renameat2(AT_FDCWD, "d/s", AT_FDCWD, "k/e", RENAME_EXCHANGE));
	is_file("d/s/f", 10, 1);
	OK(lstat("k/e", &a));
	TRUE(S_ISLNK(a.st_mode));
	OK(stat("d", &d));
	EQ(d.st_nlink, 3);
	OK(stat("k", &d));
	EQ(d.st_nlink, 2);
	printf("exchange across directories\n");
	/* onto a file that has other links, and one that is open */
	make_file("one", 100, 2);
	OK(link("one", "two"));
	make_file("new", 50, 3);
	fd = OK(open("one", O_RDONLY));
	OK(rename("new", "one"));
	OK(fstat(fd, &a));
	EQ(a.st_nlink, 1);
	EQ(a.st_size, 100);
	OK(close(fd));
	is_file("one", 50, 3);
	is_file("two", 100, 2);
	printf("replaced file keeps its other link\n");
}

/* ---------------------------------------------------------------- races --- */

enum { NAMES = 6 };

struct race {
	int rounds, files;
};

static void race_name(char *to, int d, int n)
{
	sprintf(to, "d%d/n%d", d, n);
}

/* Everybody moves everything; a name that is gone is another one's luck. */
static void race_worker(int i, void *arg)
{
	struct race *race = arg;
	char from[32], to[32];
	struct rng r;
	int k, fd;

	rng_init(&r, 40 + i);
	for (k = 0; k < race->rounds; k++) {
		race_name(from, rng_below(&r, 2), rng_below(&r, NAMES));
		race_name(to, rng_below(&r, 2), rng_below(&r, NAMES));
		switch (rng_below(&r, 4)) {
		case 0:
			/* noreplace never destroys */
			if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
				TRUE(errno == ENOENT || errno == EEXIST);
			break;
		case 1:
		case 2:
			if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE))
				TRUE(errno == ENOENT);
			break;
		default:
			fd = open(from, O_RDONLY);
			if (fd < 0) {
				TRUE(errno == ENOENT);
			} else {
				char c = 0;

				EQ(pread(fd, &c, 1, 0), 1);
				TRUE(c >= 'A' && c < 'A' + race->files);
				OK(close(fd));
			}
		}
	}
}

static void rename_race(int argc, char **argv)
{
	bool seen[26] = { false };
	struct race race;
	struct stat st;
	struct dirent *de;
	char name[300], c;
	int n, i, d, fd, found = 0;

	if (argc != 3)
		fail("usage: rename-race PROCESSES ROUNDS");
	n = number(argv[1]);
	race.rounds = number(argv[2]);
	race.files = 8;
	OK(mkdir("d0", 0755));
	OK(mkdir("d1", 0755));
	for (i = 0; i < race.files; i++) {
		race_name(name, i % 2, i / 2);
		make_text(name, (char[]){ 'A' + i, 0 });
	}
	crowd(n, race_worker, &race);
	/* nothing was replaced, so everything must still be there, once */
	for (d = 0; d < 2; d++) {
		char dir[] = { 'd', '0' + d, 0 };
		DIR *dp = opendir(dir);

		TRUE(dp);
		while ((de = readdir(dp))) {
			if (de->d_name[0] == '.')
				continue;
			snprintf(name, sizeof(name), "%s/%s", dir, de->d_name);
			fd = OK(open(name, O_RDONLY));
			EQ(read(fd, &c, 1), 1);
			OK(fstat(fd, &st));
			EQ(st.st_nlink, 1);
			OK(close(fd));
			TRUE(c >= 'A' && c < 'A' + race.files);
			if (seen[c - 'A'])
				fail("file %c is there twice", c);
			seen[c - 'A'] = true;
			found++;
		}
		OK(closedir(dp));
	}
	EQ(found, race.files);
	printf("%d processes, %d rounds: all %d files are still there, once\n", n,
	       race.rounds, found);
}

static void replace_worker(int i, void *arg)
{
	struct race *race = arg;
	char name[32], buf[200];
	unsigned char want[100];
	int k, w, fd;

	snprintf(name, sizeof(name), "tmp%d", i);
	for (k = 0; k < race->rounds; k++) {
		if (i == 0) {
			/* the reader: there is always a whole file */
			fd = OK(open("f", O_RDONLY));
			EQ(read(fd, buf, sizeof(buf)), 100);
			for (w = 1; w < race->files; w++) {
				fill(want, sizeof(want), 0, w);
				if (!memcmp(want, buf, sizeof(want)))
					break;
			}
			if (w == race->files)
				fail("round %d: the file is no writer's", k);
			OK(close(fd));
		} else {
			make_file(name, 100, i);
			OK(rename(name, "f"));
		}
	}
}

/* Writers replace a file by rename; a reader always sees a whole one. */
static void replace_race(int argc, char **argv)
{
	struct race race;
	struct dirent *de;
	int n, left = 0;
	DIR *d;

	if (argc != 3)
		fail("usage: replace-race PROCESSES ROUNDS");
	n = number(argv[1]);
	race.rounds = number(argv[2]);
	race.files = n;		/* writers are 1 to n - 1 */
	make_file("f", 100, 1);
	crowd(n, replace_worker, &race);
	d = opendir(".");
	TRUE(d);
	while ((de = readdir(d)))
		if (de->d_name[0] != '.')
			left++;
	OK(closedir(d));
	EQ(left, 1);
	printf("%d writers replaced it %d times each: never absent, never torn\n",
	       n - 1, race.rounds);
}

/* Directories moved across each other: no loop, no loss. */
static void dir_worker(int i, void *arg)
{
	struct race *race = arg;
	static const char *const paths[] = {
		"a", "b", "a/b", "b/a", "c", "a/c", "b/c", "a/b/c", "b/a/c",
	};
	struct rng r;
	int k;

	rng_init(&r, 70 + i);
	for (k = 0; k < race->rounds; k++)
		if (rename(paths[rng_below(&r, 9)], paths[rng_below(&r, 9)]))
			TRUE(errno == ENOENT || errno == EINVAL || errno == ENOTEMPTY ||
			     errno == ENOTDIR || errno == EEXIST);
}

/* Number of directories below, each with the right parent and link count. */
static int count_tree(const char *path, ino_t parent)
{
	char below[512];
	struct dirent *de;
	struct stat st, up;
	unsigned int subdirs = 0;
	int n = 0;
	DIR *d;

	OK(stat(path, &st));
	snprintf(below, sizeof(below), "%s/..", path);
	OK(stat(below, &up));
	if (parent)
		EQ(up.st_ino, parent);
	d = opendir(path);
	TRUE(d);
	while ((de = readdir(d))) {
		if (de->d_name[0] == '.')
			continue;
		snprintf(below, sizeof(below), "%s/%s", path, de->d_name);
		n += 1 + count_tree(below, st.st_ino);
		subdirs++;
	}
	OK(closedir(d));
	EQ(st.st_nlink, subdirs + 2);
	return n;
}

static void rename_dirs(int argc, char **argv)
{
	struct race race;
	int n, left;

	if (argc != 3)
		fail("usage: rename-dirs PROCESSES ROUNDS");
	n = number(argv[1]);
	race.rounds = number(argv[2]);
	OK(mkdir("a", 0755));
	OK(mkdir("b", 0755));
	OK(mkdir("c", 0755));
	crowd(n, dir_worker, &race);
	/* an empty directory may be replaced; one always remains */
	left = count_tree(".", 0);
	TRUE(left >= 1 && left <= 3);
	printf("%d processes, %d renames each: the tree is sound\n", n, race.rounds);
}

const struct command rename_commands[] = {
	{ "rename-matrix", rename_matrix, "[noreplace | exchange]: every kind onto every kind" },
	{ "rename-more", rename_more, "rename: loops, dots, parents, links" },
	{ "rename-race", rename_race, "PROCESSES ROUNDS: nothing is lost" },
	{ "replace-race", replace_race, "PROCESSES ROUNDS: never absent, never torn" },
	{ "rename-dirs", rename_dirs, "PROCESSES ROUNDS: directories across each other" },
	{ NULL, NULL, NULL },
};
