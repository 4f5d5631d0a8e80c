// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "drain.h"
#include "ops.h"
#include "say.h"
#include "session.h"
#include "stats.h"

#define LONG_TIME (24 * 3600)
/*
 * Room for the largest xattr with its name: kernels up to 6.18 at least run into a BUG
 * when a request does not fit into the payload of a ring entry.
 */
#define LEAST_PAYLOAD (68u << 10)

struct session session;
static struct fuse_init_in init;
static uint64_t init_unique;
static int end_event = -1;
static int signals = -1;
static bool failed;
static bool stopped;		/* by a signal */
static bool busy;		/* then, and so it is still mounted */

static int mount_it(void)
{
	const struct options *opt = session.opt;
	char type[128], data[256];
	struct stat st;

	if (opt->fd >= 0) {
		session.fd = opt->fd;
		session.allow_other = opt->allow_other == ALLOW_ON;
		return fcntl(session.fd, F_SETFD, FD_CLOEXEC) < 0 ? complain(opt->mountpoint) : 0;
	}
	session.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (session.fd < 0)
		return complain("/dev/fuse");
	if (stat(opt->mountpoint, &st) < 0)
		return complain(opt->mountpoint);
	snprintf(type, sizeof(type), "fuse%s%s", *opt->subtype ? "." : "", opt->subtype);
	session.allow_other = opt->allow_other != ALLOW_OFF;
	for (;;) {
		snprintf(data, sizeof(data),
			 "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions%s",
			 session.fd, st.st_mode & S_IFMT, geteuid(), getegid(),
			 session.allow_other ? ",allow_other" : "");
		if (mount(opt->fsname, opt->mountpoint, type, opt->mount_flags, data) == 0)
			return 0;
		if (opt->allow_other != ALLOW_AUTO || !session.allow_other)
			return complain(opt->mountpoint);
		session.allow_other = false;
	}
}

/* Read INIT; with another major number in it the kernel asks again after our answer. */
static int read_init(void)
{
	static char buffer[FUSE_MIN_READ_BUFFER + 65536 * 2];
	struct fuse_in_header *in = (struct fuse_in_header *)buffer;
	ssize_t n;

	for (;;) {
		n = read(session.fd, buffer, sizeof(buffer));
		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < 0)
			return complain("INIT");
		stats_add(&stats->slot[0].requests[PATH_DEV], 1);
		stats_add(&stats->slot[0].bytes_in[PATH_DEV], n);
		stats_add(&stats->slot[0].op[PATH_DEV][FUSE_INIT], 1);
		stats_add(&stats->slot[0].dev_init, 1);
		if ((size_t)n < sizeof(*in) + 16 || in->opcode != FUSE_INIT) {
			say("the kernel did not start with INIT");
			return 1;
		}
		memset(&init, 0, sizeof(init));
		n -= sizeof(*in);
		memcpy(&init, in + 1, (size_t)n < sizeof(init) ? (size_t)n : sizeof(init));
		init_unique = in->unique;
		if (init.major <= FUSE_KERNEL_VERSION)
			break;
		struct {
			struct fuse_out_header header;
			struct fuse_init_out init;
		} answer = {
			.header = { .len = sizeof(answer), .unique = init_unique },
			.init = { .major = FUSE_KERNEL_VERSION, .minor = PROTO_MINOR },
		};
		if (write(session.fd, &answer, sizeof(answer)) < 0)
			return complain("INIT");
		stats_add(&stats->slot[0].replies[PATH_DEV], 1);
	}
	if (init.major < FUSE_KERNEL_VERSION || init.minor < PROTO_MINOR_LEAST) {
		say("the kernel speaks FUSE %u.%u, %u.%u is needed",
			init.major, init.minor, FUSE_KERNEL_VERSION, PROTO_MINOR_LEAST);
		return 1;
	}
	return 0;
}

static uint64_t offered(void)
{
	uint64_t flags = init.flags;

	if (flags & FUSE_INIT_EXT)
		flags |= (uint64_t)init.flags2 << 32;
	return flags;
}

static uint64_t wanted(void)
{
	uint64_t flags = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES |
			 FUSE_INIT_EXT | PROTO_DIRECT_IO_ALLOW_MMAP;

	if (session.opt->uring)
		flags |= PROTO_OVER_IO_URING;
	return flags | session.backend->init_flags(session.opt);
}

static void agree(void)
{
	const struct options *opt = session.opt;
	uint64_t flags = offered() & wanted();
	uint32_t page = sysconf(_SC_PAGESIZE);
	uint32_t pages;

	session.max_write = opt->max_write;
	/* without MAX_PAGES the kernel stays at 32 */
	if (!(flags & FUSE_MAX_PAGES) && session.max_write > 32 * page)
		session.max_write = 32 * page;
	/*
	 * The kernel's rule for payload buffers of the ring is the largest of max_write,
	 * max_pages and two pages; it may lower max_pages, not raise it.
	 */
	pages = (session.max_write > LEAST_PAYLOAD ? session.max_write : LEAST_PAYLOAD) + page - 1;
	session.max_pages = pages / page;
	session.payload_max = session.max_pages * page;
	session.setxattr_in_size = flags & FUSE_SETXATTR_EXT ?
		sizeof(struct fuse_setxattr_in) : FUSE_COMPAT_SETXATTR_IN_SIZE;
	session.writeback = flags & FUSE_WRITEBACK_CACHE;
	session.ring_agreed = flags & PROTO_OVER_IO_URING;
	session.ring_pools = offered() & PROTO_HAS_IO_URING_BUFPOOL;

	switch (opt->cache) {
	case CACHE_NONE:
		session.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
		break;
	case CACHE_AUTO:
		session.entry_valid = session.attr_valid = 1;
		/* pages are dropped when the modification time has changed, or else at open */
		session.open_flags = flags & FUSE_AUTO_INVAL_DATA ? FOPEN_KEEP_CACHE : 0;
		break;
	case CACHE_ALWAYS:
		session.entry_valid = session.attr_valid = LONG_TIME;
		session.cache_negative = true;
		session.open_flags = FOPEN_KEEP_CACHE;
		session.opendir_flags = FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR;
		break;
	}
}

void session_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	if (session.backend->asynchronous) {
		sigaddset(set, SIGUSR2);
		sigaddset(set, SIGCONT);
	}
}

int session_mount(void)
{
	sigset_t set;

	session.fd = -1;

	session_signals(&set);
	end_event = eventfd(0, EFD_CLOEXEC);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (end_event < 0 || signals < 0)
		return complain("eventfd");

	if (mount_it())
		return 1;
	if (read_init()) {
		session_unmount();
		return 1;
	}
	agree();
	return 0;
}

int session_reply_init(void)
{
	const struct options *opt = session.opt;
	uint64_t flags = offered() & wanted();
	uint32_t background = opt->max_background;
	struct {
		struct fuse_out_header header;
		struct fuse_init_out init;
	} answer = {
		.header = { .len = sizeof(answer), .unique = init_unique },
	};

	if (!session.ring_agreed)
		flags &= ~PROTO_OVER_IO_URING;
	answer.init = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = init.minor < PROTO_MINOR ? init.minor : PROTO_MINOR,
		.max_readahead = init.max_readahead < opt->max_readahead ?
				 init.max_readahead : opt->max_readahead,
		.flags = flags,
		.flags2 = flags >> 32,
		.max_background = background,
		.congestion_threshold = background * 3 / 4 ? background * 3 / 4 : 1,
		.max_write = session.max_write,
		.time_gran = 1,
		.max_pages = session.max_pages,
	};
	if (write(session.fd, &answer, sizeof(answer)) < 0) {
		complain("INIT");
		session_unmount();
		return 1;
	}
	stats_add(&stats->slot[0].replies[PATH_DEV], 1);
	stats_add(&stats->slot[0].bytes_out[PATH_DEV], sizeof(answer));
	return 0;
}

void session_unmount(void)
{
	if (session.opt->fd < 0)
		umount2(session.opt->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
}

void session_detach(bool force)
{
	if (busy)
		umount2(session.opt->mountpoint,
			MNT_DETACH | UMOUNT_NOFOLLOW | (force ? MNT_FORCE : 0));
}

/* Users of a busy mount have a moment to let go of it. */
static void unmount_patiently(void)
{
	const struct timespec pause = { .tv_nsec = 10000000 };

	if (session.opt->fd >= 0)
		return;
	for (int tries = 0; tries < 100; tries++) {
		busy = umount2(session.opt->mountpoint, UMOUNT_NOFOLLOW) < 0 && errno == EBUSY;
		if (!busy)
			return;
		nanosleep(&pause, NULL);
	}
}

void session_end(void)
{
	uint64_t one = 1;

	__atomic_store_n(&session.ended, true, __ATOMIC_RELEASE);
	/* its only failure would be too many ends */
	if (write(end_event, &one, sizeof(one)) < 0)
		return;
}

void session_fail(const char *why, int error)
{
	say("%s: %s; giving up", why, strerror(error));
	stats_enter(STATE_HALTED);
	__atomic_store_n(&failed, true, __ATOMIC_RELEASE);
	session_end();
}

/* Wait at most MSEC (-1: forever) for the end. */
static bool wait_for_end(int msec)
{
	struct pollfd fds = { .fd = end_event, .events = POLLIN };

	while (!session_has_ended())
		if (poll(&fds, 1, msec) == 0)
			return false;
	return true;
}

static void on_signal(void)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	switch (info.ssi_signo) {
	case SIGUSR2:
		drain(true);
		break;
	case SIGCONT:
		drain(false);
		break;
	default:
		/* if it stays busy, its users get ENOTCONN when this process ends */
		unmount_patiently();
		if (!busy)
			wait_for_end(1000);
		stopped = true;
	}
}

int session_wait(void)
{
	struct pollfd fds[] = {
		{ .fd = end_event, .events = POLLIN }, { .fd = signals, .events = POLLIN },
	};

	while (!session_has_ended() && !stopped) {
		/* the last reply wakes nobody: a drained server has no hurry to say so */
		poll(fds, 2, stats->state == STATE_DRAINING ? 1 : -1);
		if (fds[1].revents)
			on_signal();
		if (stats->state == STATE_DRAINING && drain_is_done())
			stats_enter(STATE_DRAINED);
	}
	return __atomic_load_n(&failed, __ATOMIC_ACQUIRE) ? 1 : 0;
}
