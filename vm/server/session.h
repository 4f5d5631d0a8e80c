/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The connection to the kernel: mount, INIT, what was agreed on, the end.
 */
#ifndef SESSION_H
#define SESSION_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "backend.h"
#include "options.h"

struct session {
	const struct options *opt;	/* these two are set first of all */
	const struct backend *backend;
	int fd;				/* /dev/fuse, the mounted one */
	uint32_t max_write;
	uint16_t max_pages;
	uint32_t payload_max;		/* largest in or out payload of a request */
	uint64_t entry_valid;		/* cache times, in seconds */
	uint64_t attr_valid;
	uint32_t open_flags;		/* FOPEN_... of every file */
	uint32_t opendir_flags;
	uint32_t setxattr_in_size;
	bool cache_negative;
	bool writeback;
	bool allow_other;
	bool ring_agreed;
	bool ring_pools;		/* the kernel knows pools */
	bool ring_starting;		/* agreed, but not ready yet */
	bool ended;
};

extern struct session session;

/* Those that session_wait() takes: to be blocked in all threads. */
void session_signals(sigset_t *set);
/* Mount and exchange INIT, except for the reply. 0 or exit status. */
int session_mount(void);
/* Send the INIT reply. 0 or exit status. */
int session_reply_init(void);
/* Take the mount away, busy or not. */
void session_unmount(void);

/* The connection is gone: tell the main thread. Any thread, any number of times. */
void session_end(void);
/* The connection can not be served any longer: say why, end it. */
void session_fail(const char *why, int error);
/* Wait for the end or for a signal. Exit status. A busy mount stays meanwhile. */
int session_wait(void);
/* Take away what stayed. FORCE: end its requests, too, so that no caller waits. */
void session_detach(bool force);

static inline bool session_has_ended(void)
{
	return __atomic_load_n(&session.ended, __ATOMIC_ACQUIRE);
}

#endif
