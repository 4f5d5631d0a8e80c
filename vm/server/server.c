// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "later.h"
#include "say.h"
#include "server.h"
#include "session.h"
#include "stats.h"
#include "transport.h"

enum { STATUS_NO_RING = 3 };
#define PATIENCE 10	/* s, at the end: for requests that are under way below */

static int ready_pipe[2] = { -1, -1 };	/* the server tells its parent its status */

/* In the parent: what the server says, or what it died of. */
static int wait_for_server(pid_t child)
{
	int status = 1;
	ssize_t n;

	close(ready_pipe[1]);
	do
		n = read(ready_pipe[0], &status, sizeof(status));
	while (n < 0 && errno == EINTR);
	if (n == sizeof(status))
		return status;
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		return WEXITSTATUS(status);
	say("the server died");
	return 1;
}

static void detach(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct stat st;

	setsid();
	if (null < 0)
		return;
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	/*
	 * Later complaints belong in a log or on a terminal; but whoever reads a pipe
	 * waits for all its writers to end.
	 */
	if (fstat(STDERR_FILENO, &st) < 0 ||
	    !(S_ISREG(st.st_mode) || S_ISCHR(st.st_mode)))
		dup2(null, STDERR_FILENO);
	close(null);
}

static void say_ready(const struct options *opt, int pidfile)
{
	int status = 0;

	if (pidfile >= 0) {
		dprintf(pidfile, "%d\n", getpid());
		close(pidfile);
	}
	if (opt->foreground)
		return;
	if (write(ready_pipe[1], &status, sizeof(status)) < 0)
		say("%s", strerror(errno));
	detach();
	close(ready_pipe[1]);
}

/* 0, or exit status when there must be a ring and is none. */
static int ring_is_refused(const struct options *opt, const char *why)
{
	stats->ring = RING_REFUSED;
	if (opt->require_ring) {
		say("ring refused (%s)", why);
		return STATUS_NO_RING;
	}
	say("ring refused (%s), serving over /dev/fuse", why);
	return 0;
}

/*
 * Reply to INIT and serve. With a ring all that may fail on our side is prepared
 * before the reply, which then does not promise it in vain; the entries go to the
 * kernel after it. Meanwhile and ever after /dev/fuse is served too.
 */
static int start_serving(const struct options *opt)
{
	char why[128] = "the kernel does not offer it";
	bool ring = session.ring_agreed && ring_prepare(why, sizeof(why));
	int status = 0;

	session.ring_agreed = ring;
	session.ring_starting = ring;
	if (opt->uring && !ring && opt->require_ring) {
		session_unmount();
		return ring_is_refused(opt, why);
	}
	status = session_reply_init();
	if (status)
		return status;
	status = dev_start(ring ? 1 : opt->threads);
	if (!status && ring && !ring_register(why, sizeof(why))) {
		ring = false;
		if (!opt->require_ring)
			status = dev_start(opt->threads - 1);
	}
	if (!status && opt->uring && !ring)
		status = ring_is_refused(opt, why);
	__atomic_store_n(&session.ring_starting, false, __ATOMIC_RELEASE);
	if (ring)
		stats->ring = RING_IN_USE;
	if (status) {
		session_unmount();
		session_end();
	}
	return status;
}

static void block_signals(void)
{
	sigset_t set;

	session_signals(&set);
	sigaddset(&set, SIGUSR1);	/* for later.c's threads only */
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* the error is the caller's, and no reason to die */
	signal(SIGXFSZ, SIG_IGN);
}

/*
 * What is below does not answer. Threads that wait there may outlive the process, and their
 * descriptors the connection, so that its callers have to be told by force.
 */
static void end_without(int signal)
{
	static char text[] = ": the end: what is below does not answer; "
			     "what was not synced may be lost\n";
	/* not say(): a thread may have been interrupted there */
	const struct iovec words[] = {
		{ program_invocation_short_name, strlen(program_invocation_short_name) },
		{ text, sizeof(text) - 1 },
	};

	(void)signal;
	stats->exit_status = 1;
	(void)!writev(STDERR_FILENO, words, 2);
	session_detach(true);
	_exit(1);
}

static int serve(const struct program *program, struct options *opt)
{
	int pidfile = -1;
	int status;

	opt->mountpoint = opt->fd < 0 ? realpath(opt->mountpoint, NULL) : strdup(opt->mountpoint);
	if (!opt->mountpoint) {
		say("mount point: %s", strerror(errno));
		return 1;
	}
	session.opt = opt;
	session.backend = program->backend;
	stats_open(opt->stats, FIRST_DEV_SLOT + opt->threads + (opt->uring ? ring_queues() : 0));
	if (opt->pidfile) {
		pidfile = open(opt->pidfile, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (pidfile < 0) {
			say("%s: %s", opt->pidfile, strerror(errno));
			return 1;
		}
	}
	block_signals();
	status = program->start(opt);
	if (!status)
		status = session_mount();
	if (status)
		return status;
	later_start();
	status = start_serving(opt);
	if (status)
		return status;
	say_ready(opt, pidfile);

	status = session_wait();
	stats->exit_status = status;
	/*
	 * A busy mount has not ended. Threads with a loop can be told to, and with their
	 * descriptors it does. Others still read, and only the end of the process ends it, as it
	 * does one that can not be served any longer.
	 */
	if (!status && session.backend->asynchronous)
		session_end();
	if (status || !session_has_ended()) {
		session_detach(false);
		return status;
	}
	signal(SIGALRM, end_without);
	alarm(PATIENCE);
	later_stop();
	if (session.backend->abandon)
		session.backend->abandon();
	ring_join();
	dev_join();
	alarm(0);
	ring_free();
	dev_free();
	close(session.fd);
	/* only now: until here it could be ended by force */
	session_detach(false);
	status = program->stop();
	stats->exit_status = status;
	free((char *)opt->mountpoint);
	stats_close();
	return status;
}

int server_main(const struct program *program, int argc, char **argv)
{
	static struct options opt;
	pid_t child;

	if (argc >= 2 && !strcmp(argv[1], "--print-stats")) {
		if (argc != 3 && argc != 4) {
			fprintf(stderr, "usage: %s --print-stats FILE [NAME]\n",
				program_invocation_short_name);
			return 2;
		}
		return stats_print(argv[2], argv[3]);
	}
	options_parse(&opt, program, argc, argv);
	if (opt.foreground)
		return serve(program, &opt);

	if (pipe2(ready_pipe, O_CLOEXEC) < 0) {
		say("%s", strerror(errno));
		return 1;
	}
	child = fork();
	if (child < 0) {
		say("%s", strerror(errno));
		return 1;
	}
	if (child)
		return wait_for_server(child);
	close(ready_pipe[0]);
	return serve(program, &opt);
}
