/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ringfuzz: a hostile FUSE server, round after round, with callers that go on
 * meanwhile. Everything random follows from one number, the seed; round N of
 * seed S is round 0 of seed S + N, so that one round can be repeated alone.
 *
 * The director forks callers and a server for each round, ends the server in one
 * of many ways at a random moment and then demands that nothing is left: every
 * call returned, the unmount too, no task blocked, the connection gone.
 */
#ifndef RINGFUZZ_H
#define RINGFUZZ_H

#include "ringprobe.h"
#include "ringfuzz_rng.h"

#include <stdatomic.h>

enum {
	PATIENCE = 60,		/* seconds for whatever must come to an end */
	MAX_WORKERS = 4,
	MAX_CALLERS = 6,
	MAX_QUEUES = 64,
	BAD_KINDS = 12,		/* and those with pools */
	MAX_SLICES = 8,
};

/* ----------------------------------------------------------------- a round */

/* How a server comes to its end */
enum ending {
	END_KILL,		/* SIGKILL */
	END_STOP_ABORT,		/* SIGSTOP, then fusectl's abort: nobody waits for SIGCONT */
	END_THREADS,		/* the threads exit, then the process */
	END_CLOSE,		/* descriptors of the rings are closed, then exit */
	END_MUNMAP,		/* the buffers are unmapped, then exit */
	END_EXEC,		/* another program in the same process */
	END_FORK,		/* a child goes on with the rings, the parent is killed */
	ENDINGS_OF_DEATH,
	/* a living server */
	END_ABORT = ENDINGS_OF_DEATH,
	END_FORCE,		/* forced unmount */
	END_LAZY,		/* lazy unmount, then SIGKILL */
	END_EXIT,		/* the process exits */
	ENDINGS,
};

struct plan {
	uint64_t seed;
	bool sane;		/* server and callers do nothing wrong: data is verified */
	unsigned int workers, callers, depth;
	unsigned int bad;	/* per mille of commands and replies */
	unsigned int kinds;	/* of bad commands: a bit each, see bad_command() */
	bool early;		/* bad commands from before INIT on */
	bool mute;		/* INIT is never answered */
	bool init_error;
	bool pools;		/* where the kernel has them */
	bool pools_first;	/* before anything else, else while entries are registered */
	bool fixed_pools;	/* in registered buffers */
	unsigned int slices;	/* of each pool: mostly fewer than entries */
	bool may_deadlock;	/* the server needs itself: only an abort helps */
	bool slow;		/* replies are held back */
	bool clone;		/* commands by cloned descriptors too */
	struct init_opts init;
	enum ending ending;
	unsigned int after_commands, after_calls, after_ms;
};

/* What director, server and callers tell each other */
struct shared {
	atomic_ulong commands;		/* issued to /dev/fuse by io_uring */
	atomic_ulong requests;		/* that came over the ring */
	atomic_ulong calls;		/* that callers have ended */
	atomic_ulong wrong;		/* data read that nobody wrote (sane rounds) */
	char wrong_text[256];		/* the first of it */
	atomic_int event;		/* enum ending + 1, for the server to see to */
	atomic_int stop;		/* for callers */
	atomic_int running;		/* the server's set-up is done */
	atomic_int mounted;
	struct {
		atomic_int op;
		atomic_ulong since;	/* ms */
	} caller[MAX_CALLERS];
};

extern struct shared *sh;
extern const char *const ending_names[ENDINGS];

void plan_make(struct plan *p, uint64_t seed, bool sane);
void plan_say(const struct plan *p);
void round_run(const struct plan *p);		/* fails by failed() */
void failed(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* server and callers: processes of their own, these do not return */
void server_main(const struct plan *p) __attribute__((noreturn));
void caller_main(const struct plan *p, unsigned int index) __attribute__((noreturn));
const char *caller_op_name(int op);

/* Answers a request as a filesystem would; see ringprobe's fs_answer() */
int fuzz_answer(struct conn *c, const struct req *q, void *out, size_t room, size_t *len);
/* Spoils a good reply */
void spoil_reply(struct rng *r, struct fuse_out_header *h, uint32_t *size, uint8_t *pay,
		 size_t room);

int flood(unsigned long entries);	/* exit status */

/* memory of the kernel's, to compare */
struct census {
	long fuse_request, fuse_inode, small;	/* objects */
	long connections;
};

void census_take(struct census *c);
/* true: what has grown, if anything, is less than one object a round */
bool census_same(const struct census *before, const struct census *after, unsigned int rounds);
void census_say(const char *what, const struct census *c);
bool kmemleak_clean(void);	/* true too where the kernel has none */

#endif
