/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "fuse_proto.h"

enum cache_policy { CACHE_NONE, CACHE_AUTO, CACHE_ALWAYS };
enum allow_other { ALLOW_AUTO, ALLOW_ON, ALLOW_OFF };

/* Payload buffers of the ring: an entry's own, or a queue's pool. */
enum pool_kind { POOL_NONE, POOL_PLAIN, POOL_REGISTERED };

struct options {
	const char *source;
	const char *mountpoint;
	int fd;				/* mounted already: the mount point is /dev/fd/N; or -1 */
	const char *fsname;		/* the mount's device: what df and /proc/mounts say */
	const char *subtype;		/* the type is fuse.SUBTYPE */
	const char *stats;
	const char *pidfile;
	bool uring;
	bool require_ring;
	bool clone_fd;
	bool splice;
	bool readdirplus;
	bool locks;
	bool xattr;
	bool writeback;
	bool foreground;
	bool debug;
	enum cache_policy cache;
	enum pool_kind pool;
	enum allow_other allow_other;	/* auto: where it is allowed */
	unsigned long mount_flags;	/* MS_* */
	unsigned int depth;
	unsigned int queues;		/* 0: all possible CPUs */
	unsigned int threads;		/* of /dev/fuse */
	unsigned int ring_threads;	/* 0: one for each queue */
	unsigned int max_write;
	unsigned int max_background;	/* 0: the kernel's choice */
	unsigned int max_readahead;

	/* test aids, by opcode */
	bool test_aids;
	unsigned int delay_msec[PROTO_OPCODES];
	int fault_error[PROTO_OPCODES];
	unsigned int fault_every[PROTO_OPCODES];
	unsigned int zero_commit;	/* this request on the ring lacks its commit id */
	unsigned int undone;		/* each such command of the ring ends undone */
	int undone_error;		/* with this; 0: with those after which it is sent again */
	bool refuse_register;
};

struct program;

/* Ends the process with status 2 on wrong usage. */
void options_parse(struct options *o, const struct program *program, int argc, char **argv);

/* For a program's own options: each of these ends the process when it does not fit. */
void __attribute__((noreturn)) options_wrong(const char *what, const char *value);
unsigned int options_number(const char *name, const char *text, unsigned int least);
/* Which of the words VALUE is; the list ends with NULL. */
int options_word(const char *name, const char *value, const char *const *words);

#endif
