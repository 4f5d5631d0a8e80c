// SPDX-License-Identifier: GPL-2.0-only
/* fsprobe: record locks and whole-file locks that are refused or granted at once. */
#include "fsprobe.h"

#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>

static struct flock range(short type, off_t start, off_t len)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET,
			       .l_start = start, .l_len = len };
}

static int lock(int fd, short type, off_t start, off_t len)
{
	struct flock fl = range(type, start, len);

	return fcntl(fd, F_SETLK, &fl);
}

static int ofd_lock(int fd, short type, off_t start, off_t len)
{
	struct flock fl = range(type, start, len);

	return fcntl(fd, F_OFD_SETLK, &fl);
}

/*
 * What another process may lock: one letter for each of the first 24 bytes:
 * '.' free, 'r' somebody has a read lock, 'w' a write lock.
 */
static void map_of_locks(void *arg)
{
	char text[25];
	int i, fd = OK(open(arg, O_RDWR));

	for (i = 0; i < 24; i++) {
		struct flock fl = range(F_WRLCK, i, 1);

		OK(fcntl(fd, F_GETLK, &fl));
		text[i] = fl.l_type == F_UNLCK ? '.' : fl.l_type == F_RDLCK ? 'r' : 'w';
		if (fl.l_type != F_UNLCK)
			EQ(fl.l_pid, getppid());
	}
	text[24] = 0;
	printf("%s\n", text);
	OK(close(fd));
}

static void show_locks(const char *what)
{
	printf("%-28s", what);
	reap(spawn(map_of_locks, "f"));
}

/* Ranges that split, merge and change their type. */
static void ranges(int argc, char **argv)
{
	struct flock fl;
	int fd;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	fd = OK(open("f", O_RDWR));
	OK(lock(fd, F_WRLCK, 0, 20));
	show_locks("write 0+20");
	OK(lock(fd, F_UNLCK, 5, 5));
	show_locks("free 5+5");
	OK(lock(fd, F_RDLCK, 12, 4));
	show_locks("read 12+4");
	OK(lock(fd, F_WRLCK, 5, 9));
	show_locks("write 5+9");
	OK(lock(fd, F_RDLCK, 0, 24));
	show_locks("read 0+24");
	OK(lock(fd, F_UNLCK, 23, 100));
	show_locks("free 23+100");
	OK(lock(fd, F_UNLCK, 0, 1));
	show_locks("free 0+1");
	OK(lock(fd, F_WRLCK, 22, 0));
	show_locks("write 22 to the end");
	OK(lock(fd, F_UNLCK, 3, 17));
	show_locks("free 3+17");
	OK(lock(fd, F_UNLCK, 0, 0));
	show_locks("free all");
	/* counted from the position and from the end */
	OK(lseek(fd, 10, SEEK_SET));
	fl = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = 2, .l_len = 3 };
	OK(fcntl(fd, F_SETLK, &fl));
	show_locks("write position+2, 3");
	fl = (struct flock){ .l_type = F_RDLCK, .l_whence = SEEK_END, .l_start = -99, .l_len = 2 };
	OK(fcntl(fd, F_SETLK, &fl));
	show_locks("read end-99, 2");
	fl = range(F_WRLCK, 20, -4);
	OK(fcntl(fd, F_SETLK, &fl));
	show_locks("write 20-4");
	OK(close(fd));
	show_locks("closed");
}

/* What F_GETLK tells about the lock that is in the way. */
static void ask(int fd, void *arg)
{
	struct flock fl;
	int f = OK(open("f", O_RDWR));

	(void)arg;
	hear(fd, 'a');
	fl = range(F_WRLCK, 0, 0);
	OK(fcntl(f, F_GETLK, &fl));
	printf("first in the way: %s %lld+%lld of the right process: %s\n",
	       fl.l_type == F_RDLCK ? "read" : "write", (long long)fl.l_start,
	       (long long)fl.l_len, fl.l_pid == getppid() ? "yes" : "no");
	EQ(fl.l_whence, SEEK_SET);
	fl = range(F_RDLCK, 0, 0);
	OK(fcntl(f, F_GETLK, &fl));
	printf("in the way of reading: %s %lld+%lld\n",
	       fl.l_type == F_RDLCK ? "read" : "write", (long long)fl.l_start,
	       (long long)fl.l_len);
	fl = range(F_WRLCK, 60, 10);
	fl.l_pid = 77;
	OK(fcntl(f, F_GETLK, &fl));
	EQ(fl.l_type, F_UNLCK);
	EQ(fl.l_start, 60);
	EQ(fl.l_len, 10);
	printf("nothing in the way of 60+10\n");
	SHOW("read lock beside a read lock", lock(f, F_RDLCK, 10, 5));
	SHOW("write lock over a read lock", lock(f, F_WRLCK, 12, 1));
	SHOW("read lock over a write lock", lock(f, F_RDLCK, 59, 1));
	SHOW("write lock on free bytes", lock(f, F_WRLCK, 60, 10));
	SHOW("write lock up to a taken byte", lock(f, F_WRLCK, 60, 1000));
	tell(fd, 'b');
	hear(fd, 'c');
	SHOW("write lock where it was freed", lock(f, F_WRLCK, 40, 20));
	tell(fd, 'd');
	hear(fd, 'e');
	OK(close(f));
}

static void conflicts(int argc, char **argv)
{
	struct peer p;
	int fd, fd2;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	fd = OK(open("f", O_RDWR));
	OK(lock(fd, F_RDLCK, 10, 20));
	OK(lock(fd, F_WRLCK, 40, 20));
	OK(lock(fd, F_WRLCK, 1000, 0));
	peer_start(&p, ask, NULL);
	tell(p.fd, 'a');
	hear(p.fd, 'b');
	SHOW("my read lock, the other reads too", lock(fd, F_WRLCK, 12, 1));
	OK(lock(fd, F_UNLCK, 40, 20));
	tell(p.fd, 'c');
	hear(p.fd, 'd');
	SHOW("what the other has now", lock(fd, F_RDLCK, 45, 1));
	/* closing any descriptor of the file drops all of the process's locks */
	fd2 = OK(open("f", O_RDONLY));
	OK(close(fd2));
	tell(p.fd, 'e');
	peer_end(&p);
	show_locks("after closing another one");
	SHOW("after the other's end", lock(fd, F_WRLCK, 0, 0));
	OK(close(fd));
	fd = OK(open("f", O_RDONLY));
	SHOW("write lock, descriptor read-only", lock(fd, F_WRLCK, 0, 1));
	SHOW("read lock, descriptor read-only", lock(fd, F_RDLCK, 0, 1));
	OK(close(fd));
	fd = OK(open("f", O_WRONLY));
	SHOW("read lock, descriptor write-only", lock(fd, F_RDLCK, 0, 1));
	SHOW("before the beginning", lock(fd, F_WRLCK, -1, 1));
	SHOW("unknown type", lock(fd, 17, 0, 1));
	OK(close(fd));
	SHOW("closed descriptor", lock(fd, F_WRLCK, 0, 1));
}

/* Fork, exit and close: who keeps what. */
static void inherit_child(void *arg)
{
	int fd = *(int *)arg;

	SHOW("inherited descriptor, parent's record lock", lock(fd, F_WRLCK, 0, 1));
	SHOW("own record lock", lock(fd, F_WRLCK, 50, 1));
}

static void inherit(int argc, char **argv)
{
	int fd, fd2, status;
	pid_t pid;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	fd = OK(open("f", O_RDWR));
	OK(lock(fd, F_WRLCK, 0, 10));
	reap(spawn(inherit_child, &fd));
	SHOW("the child's lock after its exit", lock(fd, F_WRLCK, 50, 1));
	/* the child's close must not drop the parent's */
	show_locks("parent's after the child");
	fflush(stdout);
	/* killed instead of ended */
	pid = OK(fork());
	if (!pid) {
		OK(lock(fd, F_WRLCK, 70, 1));
		raise(SIGKILL);
	}
	EQ(waitpid(pid, &status, 0), pid);
	EQ(WTERMSIG(status), SIGKILL);
	SHOW("a killed child's lock", lock(fd, F_WRLCK, 70, 1));
	/* a duplicate is the same file for record locks too */
	fd2 = OK(dup(fd));
	OK(close(fd2));
	show_locks("after closing a duplicate");
	OK(lock(fd, F_WRLCK, 0, 10));
	OK(unlink("f"));
	make_file("f", 100, 1);
	show_locks("another file of that name");
	OK(close(fd));
}

/* ------------------------------------------------ of the open file -------- */

static void ofd_child(void *arg)
{
	int fd = *(int *)arg, fd2;

	SHOW("child, inherited descriptor", ofd_lock(fd, F_WRLCK, 0, 10));
	fd2 = OK(open("f", O_RDWR));
	SHOW("child, its own descriptor", ofd_lock(fd2, F_WRLCK, 0, 10));
	SHOW("child, record lock", lock(fd2, F_WRLCK, 0, 10));
	OK(close(fd2));
}

static void ofd(int argc, char **argv)
{
	struct flock fl;
	int a, b, c;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	a = OK(open("f", O_RDWR));
	b = OK(open("f", O_RDWR));
	OK(ofd_lock(a, F_WRLCK, 0, 10));
	SHOW("other descriptor, same process", ofd_lock(b, F_WRLCK, 5, 1));
	SHOW("other descriptor, other bytes", ofd_lock(b, F_WRLCK, 20, 5));
	SHOW("record lock, same process", lock(b, F_WRLCK, 0, 1));
	fl = range(F_WRLCK, 0, 0);
	OK(fcntl(b, F_OFD_GETLK, &fl));
	printf("in the way: %s %lld+%lld pid %d\n", fl.l_type == F_WRLCK ? "write" : "read",
	       (long long)fl.l_start, (long long)fl.l_len, fl.l_pid);
	reap(spawn(ofd_child, &a));
	SHOW("kept after the child's exit", ofd_lock(b, F_WRLCK, 5, 1));
	/* closing another descriptor of the file changes nothing */
	OK(close(OK(open("f", O_RDONLY))));
	SHOW("kept after closing another one", ofd_lock(b, F_WRLCK, 5, 1));
	c = OK(dup(a));
	OK(close(a));
	SHOW("kept by a duplicate", ofd_lock(b, F_WRLCK, 5, 1));
	OK(close(c));
	SOON(ofd_lock(b, F_WRLCK, 5, 1));
	printf("gone with the last descriptor\n");
	OK(ofd_lock(b, F_UNLCK, 0, 0));
	fl = range(F_WRLCK, 0, 1);
	fl.l_pid = 1;
	SHOW("pid must be zero", fcntl(b, F_OFD_SETLK, &fl));
	OK(close(b));
}

/* ---------------------------------------------------------------- flock --- */

static void flock_child(void *arg)
{
	int fd = *(int *)arg, fd2 = OK(open("f", O_RDONLY));

	SHOW("child, inherited: again", flock(fd, LOCK_EX | LOCK_NB));
	SHOW("child, its own: shared", flock(fd2, LOCK_SH | LOCK_NB));
	SHOW("child, its own: exclusive", flock(fd2, LOCK_EX | LOCK_NB));
	SHOW("child frees the inherited", flock(fd, LOCK_UN));
	SHOW("child, its own: exclusive now", flock(fd2, LOCK_EX | LOCK_NB));
}

static void whole(int argc, char **argv)
{
	int a, b, c;

	(void)argc, (void)argv;
	make_file("f", 100, 1);
	a = OK(open("f", O_RDWR));
	b = OK(open("f", O_RDONLY));
	c = OK(open("f", O_WRONLY));
	SHOW("shared", flock(a, LOCK_SH | LOCK_NB));
	SHOW("shared, second", flock(b, LOCK_SH | LOCK_NB));
	SHOW("exclusive, third", flock(c, LOCK_EX | LOCK_NB));
	SHOW("exclusive instead of shared, one of two", flock(a, LOCK_EX | LOCK_NB));
	OK(flock(b, LOCK_UN));
	SHOW("exclusive instead of shared, alone", flock(a, LOCK_EX | LOCK_NB));
	SHOW("shared beside exclusive", flock(b, LOCK_SH | LOCK_NB));
	SHOW("shared instead of exclusive", flock(a, LOCK_SH | LOCK_NB));
	SHOW("shared beside shared", flock(b, LOCK_SH | LOCK_NB));
	OK(flock(b, LOCK_UN));
	OK(flock(a, LOCK_EX));
	OK(close(OK(dup(a))));
	SHOW("kept when a duplicate closes", flock(b, LOCK_SH | LOCK_NB));
	reap(spawn(flock_child, &a));
	SOON(flock(b, LOCK_EX | LOCK_NB));
	printf("free after the child freed it and ended\n");
	OK(close(b));
	SOON(flock(c, LOCK_EX | LOCK_NB));
	printf("free after close\n");
	SHOW("record locks know nothing of it", lock(a, F_WRLCK, 0, 0));
	SHOW("no operation", flock(a, LOCK_NB));
	OK(close(c));
	OK(close(a));
	OK(mkdir("d", 0755));
	a = OK(open("d", O_RDONLY));
	b = OK(open("d", O_RDONLY));
	SHOW("of a directory", flock(a, LOCK_EX | LOCK_NB));
	SHOW("of a directory, second", flock(b, LOCK_SH | LOCK_NB));
	OK(close(a));
	SOON(flock(b, LOCK_SH | LOCK_NB));
	printf("of a directory, free after close\n");
	OK(close(b));
}

const struct command lock_commands[] = {
	{ "lock-ranges", ranges, "record locks split and merge" },
	{ "lock-conflicts", conflicts, "what is in the way of another process" },
	{ "lock-inherit", inherit, "record locks, fork, exit and close" },
	{ "lock-ofd", ofd, "locks of the open file description" },
	{ "lock-whole", whole, "flock" },
	{ NULL, NULL, NULL },
};
