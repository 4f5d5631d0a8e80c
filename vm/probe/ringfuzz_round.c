// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: one round, and what must be true after it. */
#include "ringfuzz.h"

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

struct shared *sh;

static const struct plan *plan;
static pid_t server, callers[MAX_CALLERS];
static unsigned int number;	/* the connection, 0: not known */

static void show_blocked(void);

void failed(const char *fmt, ...)
{
	va_list ap;
	unsigned int i;

	printf("FAIL: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	if (plan) {
		plan_say(plan);
		for (i = 0; i < plan->callers; i++)
			if (callers[i])
				say("caller %u: %s since %llu ms", i,
				    caller_op_name(atomic_load(&sh->caller[i].op)),
				    (unsigned long long)(now_ms() -
							 atomic_load(&sh->caller[i].since)));
		show_blocked();
		say("again: ringfuzz %s --seed %llu --rounds 1", plan->sane ? "deaths" : "run",
		    (unsigned long long)plan->seed);
	}
	fflush(stdout);
	_exit(1);
}

/* ------------------------------------------------------- blocked tasks -- */

static char task_state(const char *pid, const char *tid, char comm[32])
{
	char path[600], state = '?';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", pid, tid);
	f = fopen(path, "re");
	if (!f)
		return '?';
	if (fscanf(f, "%*d (%31[^)]) %c", comm, &state) != 2)
		state = '?';
	fclose(f);
	return state;
}

/* Number of tasks that sleep beyond signals; tells about them if asked. */
static unsigned int blocked_tasks(bool tell)
{
	unsigned int n = 0;
	struct dirent *d, *t;
	char path[600], line[200];
	DIR *proc = opendir("/proc"), *tasks;

	while (proc && (d = readdir(proc))) {
		if (d->d_name[0] < '1' || d->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/task", d->d_name);
		tasks = opendir(path);
		while (tasks && (t = readdir(tasks))) {
			char comm[32] = "";
			FILE *f;

			if (t->d_name[0] == '.' || task_state(d->d_name, t->d_name, comm) != 'D')
				continue;
			n++;
			if (!tell)
				continue;
			say("task %s (%s) is blocked:", t->d_name, comm);
			snprintf(path, sizeof(path), "/proc/%s/task/%s/stack", d->d_name,
				 t->d_name);
			f = fopen(path, "re");
			while (f && fgets(line, sizeof(line), f))
				printf("    %s", line);
			if (f)
				fclose(f);
		}
		if (tasks)
			closedir(tasks);
	}
	if (proc)
		closedir(proc);
	return n;
}

static void show_blocked(void)
{
	blocked_tasks(true);
}

/* ------------------------------------------------------------- waiting -- */

static int last_status;		/* of a process that has ended */

static bool gone(pid_t *pid)
{
	if (*pid && waitpid(*pid, &last_status, WNOHANG) == *pid)
		*pid = 0;
	return !*pid;
}

static bool callers_gone(void)
{
	bool all = true;
	unsigned int i;

	for (i = 0; i < plan->callers; i++)
		all &= gone(&callers[i]);
	return all;
}

static bool server_gone(void)
{
	return gone(&server);
}

static bool nothing_blocked(void)
{
	return !blocked_tasks(false);
}

static bool connection_gone(void)
{
	return !number || !conn_listed(number);
}

static bool await(bool (*done)(void), unsigned int seconds)
{
	uint64_t end = now_ms() + seconds * 1000ull;

	while (!done()) {
		if (now_ms() > end)
			return false;
		nap_ms(1);
	}
	return true;
}

/* By mountinfo: anything else would be a request. 0: not mounted. */
static unsigned int mounted_minor(void)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[PATH_MAX + 512], at[PATH_MAX];
	unsigned int minor = 0, m;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*u:%u %*s %4095s", &m, at) == 2 &&
		    !strcmp(at, mount_point()))
			minor = m;
	if (f)
		fclose(f);
	return minor;
}

static void abort_connection(void)
{
	char path[64];
	int fd;

	if (!number)
		number = mounted_minor();
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", number);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		errno = 0;
	close(fd);
}

static pid_t unmounter;

static bool unmounter_gone(void)
{
	return gone(&unmounter);
}

/* In a process of its own, because it may never return. EBUSY is left to the caller. */
static int unmount(int flags)
{
	int fds[2], err = -1;

	if (pipe2(fds, O_CLOEXEC))
		failed("pipe: %s", err_name(errno));
	fflush(stdout);
	unmounter = fork();
	if (!unmounter) {
		err = umount2(mount_point(), flags | UMOUNT_NOFOLLOW) ? errno : 0;
		if (write(fds[1], &err, sizeof(err)) < 0)
			errno = 0;
		_exit(0);
	}
	close(fds[1]);
	if (!await(unmounter_gone, PATIENCE))
		failed("unmount does not return");
	if (read(fds[0], &err, sizeof(err)) != sizeof(err))
		err = EIO;
	close(fds[0]);
	return err;
}

/* --------------------------------------------------------------- the round */

static void start_caller(unsigned int i, unsigned int stream)
{
	fflush(stdout);
	callers[i] = fork();
	if (callers[i] < 0)
		failed("fork: %s", err_name(errno));
	if (!callers[i]) {
		struct plan *p = malloc(sizeof(*p));

		if (!p)
			_exit(1);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		*p = *plan;
		/* one that takes another's place does other things */
		p->seed += (uint64_t)stream << 32;
		caller_main(p, i);
	}
}

/* Traffic until the moment comes; meanwhile signals for the callers. */
static void let_it_run(struct rng *r)
{
	uint64_t limit = now_ms() + PATIENCE * 1000, end = 0;
	unsigned long calls = 0, commands = 0;
	unsigned int stream = 1;

	for (;;) {
		uint64_t now = now_ms();

		if (!end && atomic_load(&sh->running)) {
			end = now + plan->after_ms;
			calls = atomic_load(&sh->calls) + plan->after_calls;
			commands = atomic_load(&sh->commands) + plan->after_commands;
		}
		if (end && plan->sane &&
		    (now >= end || atomic_load(&sh->calls) >= calls))
			return;
		if (end && !plan->sane &&
		    (now >= end || atomic_load(&sh->commands) >= commands))
			return;
		if (server_gone())
			return;		/* by a mistake of its own */
		if (now > limit)
			failed("the server does not get going");
		if (rng_chance(r, plan->sane ? 20 : 100)) {
			unsigned int i = rng_below(r, plan->callers);

			if (!callers[i]) {
				continue;
			} else if (rng_chance(r, 800)) {
				kill(callers[i], SIGUSR1);
			} else {
				kill(callers[i], SIGKILL);
				/* it may be beyond signals until the end */
				if (gone(&callers[i]))
					start_caller(i, stream++);
			}
		}
		nap_ms(1);
	}
}

static bool ends_by_itself(enum ending e)
{
	return e != END_ABORT && e != END_FORCE && e != END_STOP_ABORT;
}

static void bring_about(struct rng *r)
{
	int flags = 0, err;

	switch (plan->ending) {
	case END_KILL:
		kill(-server, SIGKILL);
		break;
	case END_STOP_ABORT:
		kill(-server, SIGSTOP);
		nap_ms(rng_below(r, 30));
		abort_connection();
		break;
	case END_ABORT:
		abort_connection();
		break;
	case END_FORCE:
		flags = MNT_FORCE;
		break;
	case END_LAZY:
		flags = MNT_DETACH;
		break;
	default:
		atomic_store(&sh->event, plan->ending + 1);
		nap_ms(30 + rng_below(r, 30));
	}
	if (flags) {
		/* busy: aborted all the same */
		err = unmount(flags);
		if (err && err != EBUSY)
			failed("unmount with flags %#x: %s", flags, err_name(err));
	}
	/* callers may meet a server that is no more, and go on a little */
	nap_ms(rng_below(r, 20));
	atomic_store(&sh->stop, 1);
	if (plan->ending == END_FORK || plan->ending == END_LAZY)
		kill(-server, SIGKILL);
	/* a server that was merely asked to go may need us for it */
	if (!plan->sane && ends_by_itself(plan->ending)) {
		nap_ms(20);
		kill(-server, SIGKILL);
	}
	if (plan->may_deadlock)
		abort_connection();
}

static void demand(void)
{
	uint64_t end = now_ms() + PATIENCE * 1000;
	int err;

	if (!await(callers_gone, PATIENCE))
		failed("a caller does not return after \"%s\"", ending_names[plan->ending]);
	/* a stopped server is not waited for: it must not matter, unless it uses the mount */
	if (plan->ending != END_STOP_ABORT || plan->may_deadlock) {
		if (server)
			kill(-server, SIGKILL);
		if (!await(server_gone, PATIENCE))
			failed("the server does not end after \"%s\"",
			       ending_names[plan->ending]);
	}
	while (mounted_minor()) {
		err = unmount(0);
		if (err && err != EBUSY)
			failed("unmount: %s", err_name(err));
		if (now_ms() > end)
			failed("unmount: %s, with nobody left", err_name(err));
	}
	if (!await(connection_gone, PATIENCE))
		failed("connection %u is still there", number);
	if (server) {
		kill(-server, SIGKILL);
		if (!await(server_gone, PATIENCE))
			failed("the server does not end");
	}
	if (!await(nothing_blocked, PATIENCE))
		failed("a task is still blocked");
	if (atomic_load(&sh->wrong))
		failed("%lu times wrong data, first %s", atomic_load(&sh->wrong), sh->wrong_text);
}

void round_run(const struct plan *p)
{
	struct rng r = rng_fork(p->seed, 1);
	unsigned int i;
	pid_t group;

	plan = p;
	number = 0;
	atomic_store(&sh->event, 0);
	atomic_store(&sh->stop, 0);
	atomic_store(&sh->running, 0);
	atomic_store(&sh->mounted, 0);
	for (i = 0; i < p->callers; i++)
		start_caller(i, 0);
	fflush(stdout);
	server = fork();
	if (server < 0)
		failed("fork: %s", err_name(errno));
	if (!server) {
		new_director();
		server_main(p);
	}
	/* both sides do it: whoever is first */
	setpgid(server, server);
	group = server;
	/* early, mute and init-error servers never run */
	while (!atomic_load(&sh->mounted) && !server_gone())
		nap_ms(1);
	number = mounted_minor();
	if (!number)
		failed("the server did not mount anything");
	let_it_run(&r);
	if (!server)
		failed("the server has ended by itself, status %#x", last_status);
	bring_about(&r);
	demand();
	/* what the server forked */
	kill(-group, SIGKILL);
	plan = NULL;
}
