/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fsprobe: what a filesystem must do, tried out. One sub-command per topic.
 *
 * It works in the directory $MNT; $SRC is what lies below it (the same
 * directory, when a plain filesystem is looked at). Whatever is printed on
 * success depends on neither the kernel, the number of CPUs nor $SEED.
 */
#ifndef FSPROBE_H
#define FSPROBE_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

struct command {
	const char *name;
	void (*run)(int argc, char **argv);
	const char *help;
};

extern const struct command fsx_commands[];
extern const struct command data_commands[];
extern const struct command map_commands[];
extern const struct command move_commands[];
extern const struct command aio_commands[];
extern const struct command ns_commands[];
extern const struct command rename_commands[];
extern const struct command attr_commands[];
extern const struct command perm_commands[];
extern const struct command xattr_commands[];
extern const struct command lock_commands[];
extern const struct command lockwait_commands[];
extern const struct command dir_commands[];

enum { PAGE = 4096, PEOPLE = 1000 };	/* PEOPLE: an unprivileged uid and gid */

/* Directory below the mount, as given by $SRC. */
extern const char *backing;
extern uint64_t seed;

/* ------------------------------------------------------------ judging ----- */

/* Print "FAIL: ..." and end the process with status 1. */
void fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

const char *errname(int err);

long long want_ok(const char *file, int line, const char *text, long long got);
void want_err(const char *file, int line, const char *text, long long got, int err);
void want_eq(const char *file, int line, const char *text, long long got,
	     long long want);

/* A system call that must succeed; its value. */
#define OK(call) want_ok(__FILE__, __LINE__, #call, (errno = 0, (long long)(call)))
/*
 * A non-blocking call that must succeed before long: what a close gives back is
 * back at once on most filesystems, but FUSE sends RELEASE without waiting.
 */
#define SOON(call) \
	do { \
		int tries_; \
\
		for (tries_ = 0; (call) < 0; tries_++) { \
			if (errno != EAGAIN || tries_ > 20000) \
				fail("%s:%d: %s still gives %s", __FILE__, __LINE__, \
				     #call, errname(errno)); \
			usleep(500); \
		} \
	} while (0)
/* A system call that must fail with this errno. */
#define ERR(err, call) \
	want_err(__FILE__, __LINE__, #call, (errno = 0, (long long)(call)), err)
/* Two numbers that must be equal. */
#define EQ(expr, want) \
	want_eq(__FILE__, __LINE__, #expr, (long long)(expr), (long long)(want))
/* A condition that must hold. */
#define TRUE(expr) \
	do { \
		if (!(expr)) \
			fail("%s:%d: not so: %s", __FILE__, __LINE__, #expr); \
	} while (0)

/* Print "TEXT: ok" or "TEXT: ERRNO": for tables that the golden output judges. */
void show_result(const char *text, long long got);
#define SHOW(text, call) show_result(text, (errno = 0, (long long)(call)))

/* -------------------------------------------------------- known content --- */

/* Byte patterns that depend on place and tag: misplaced data is noticed. */
void fill(void *buf, size_t len, uint64_t off, unsigned int tag);

/* Fail, showing offset and bytes, unless the two are equal. */
void same(const char *what, uint64_t off, const void *want, const void *got,
	  size_t len);
void is_pattern(const char *what, uint64_t off, const void *got, size_t len,
		unsigned int tag);
void is_zero(const char *what, uint64_t off, const void *got, size_t len);

void full_pwrite(int fd, const void *buf, size_t len, uint64_t off);
/* Reads exactly len bytes, or fails. */
void full_pread(int fd, void *buf, size_t len, uint64_t off);

/* Make a file of len bytes of pattern, closed again. */
void make_file(const char *name, size_t len, unsigned int tag);
/* Open it and demand exactly that content. */
void is_file(const char *name, size_t len, unsigned int tag);
/* As is_file, but by the path below the mount. */
void is_backing(const char *name, size_t len, unsigned int tag);
char *backing_path(const char *name);
long long size_of(const char *name);
void make_text(const char *name, const char *text);
bool exists(const char *name);

/* An address at which nothing is. */
extern void *volatile nowhere;

/* Aligned to a page and zeroed; never freed. */
void *pages(size_t len);

/* ------------------------------------------------------------- chance ----- */

struct rng {
	uint64_t state;
};

void rng_init(struct rng *r, uint64_t salt);
uint64_t rng_next(struct rng *r);
/* 0 <= result < n */
uint64_t rng_below(struct rng *r, uint64_t n);

/* ----------------------------------------------------------- processes ---- */

pid_t spawn(void (*fn)(void *arg), void *arg);
/* The child must end with status 0. */
void reap(pid_t pid);
/* n children, let loose together; all must end with status 0. */
void crowd(int n, void (*fn)(int i, void *arg), void *arg);
/* Run fn as this user, without other groups, in a child. */
void as_user(uid_t uid, gid_t gid, void (*fn)(void *arg), void *arg);

/* A child to which single steps are dictated; fd is the child's end. */
struct peer {
	pid_t pid;
	int fd;
};

void peer_start(struct peer *p, void (*fn)(int fd, void *arg), void *arg);
void peer_end(struct peer *p);
/* Send one character; wait for just this one. */
void tell(int fd, char c);
void hear(int fd, char c);

/* Wait until the process sleeps in this system call. */
void wait_blocked(pid_t pid, long nr);
/* Memory shared with children, zeroed. */
void *shared(size_t len);
/* Wait until time stamps of files made from now on differ from earlier ones. */
void next_tick(void);
long number(const char *text);

#endif
