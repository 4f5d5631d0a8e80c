// SPDX-License-Identifier: GPL-2.0-only
/* fsload: files that come and go. */
#include "fsload.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SMALL = 128 };	/* bytes of a file */

/* Shared by the processes. */
struct race {
	unsigned int ready;
	unsigned int started;
	struct { uint64_t start, end; } job[];
};

/* Create, write, look, remove. `verify`: also that nothing is wrong about it. */
static void one(int dir, bool verify)
{
	static const char name[] = "small";
	char data[SMALL], back[SMALL];
	struct stat st;
	int fd;

	fill(data, sizeof(data), 0, WRITTEN);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		fail("create: %s", strerror(errno));
	if (write(fd, data, sizeof(data)) != sizeof(data))
		fail("write: %s", strerror(errno));
	if (verify && (pread(fd, back, sizeof(back), 0) != sizeof(back) ||
		       memcmp(data, back, sizeof(data))))
		fail("a small file reads back otherwise than written");
	if (close(fd))
		fail("close: %s", strerror(errno));
	if (fstatat(dir, name, &st, 0))
		fail("stat: %s", strerror(errno));
	if (st.st_size != SMALL)
		fail("stat: %lld bytes of %d", (long long)st.st_size, SMALL);
	if (unlinkat(dir, name, 0))
		fail("unlink: %s", strerror(errno));
	if (verify && (!fstatat(dir, name, &st, 0) || errno != ENOENT))
		fail("a file is still there after unlink");
}

static void wait_for(const unsigned int *what, unsigned int value)
{
	while (__atomic_load_n(what, __ATOMIC_ACQUIRE) < value)
		usleep(1000);
}

/* In one process: in a directory of its own, so that they do not wait for each other there. */
static void job(const struct load *l, struct race *race, unsigned int number)
{
	char name[32];
	int parent = open(l->path, O_RDONLY | O_DIRECTORY);
	int dir;

	snprintf(name, sizeof(name), "job%u", number);
	if (parent < 0 || mkdirat(parent, name, 0755))
		fail("%s: %s", l->path, strerror(errno));
	dir = openat(parent, name, O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		fail("%s/%s: %s", l->path, name, strerror(errno));
	for (unsigned long i = 0; i < warm_up(l); i++)
		one(dir, false);
	__atomic_add_fetch(&race->ready, 1, __ATOMIC_RELEASE);
	wait_for(&race->started, 1);
	race->job[number].start = now_ns();
	for (unsigned long i = 0; i < l->count; i++)
		one(dir, false);
	race->job[number].end = now_ns();
	one(dir, true);
	if (close(dir) || unlinkat(parent, name, AT_REMOVEDIR))
		fail("%s/%s: %s", l->path, name, strerror(errno));
	close(parent);
}

/* Ends with the processes that are still there. */
static void one_failed(const pid_t *children, unsigned int jobs)
{
	for (unsigned int i = 0; i < jobs; i++)
		kill(children[i], SIGKILL);
	fail("a process failed");
}

static void reap(const pid_t *children, unsigned int jobs)
{
	int status;

	for (unsigned int i = 0; i < jobs; i++) {
		if (wait(&status) < 0 || status)
			one_failed(children, jobs);
	}
}

void run_meta(const struct load *l)
{
	struct race *race;
	size_t size = sizeof(*race) + l->jobs * sizeof(race->job[0]);
	pid_t *children = calloc(l->jobs, sizeof(*children));
	uint64_t start = UINT64_MAX, end = 0;
	int status;

	race = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (race == MAP_FAILED || !children)
		fail("no memory");
	for (unsigned int i = 0; i < l->jobs; i++) {
		children[i] = fork();
		if (children[i] < 0) {
			perror("fsload: fork");
			one_failed(children, i);
		}
		if (!children[i]) {
			job(l, race, i);
			exit(0);
		}
	}
	while (__atomic_load_n(&race->ready, __ATOMIC_ACQUIRE) < l->jobs) {
		if (waitpid(-1, &status, WNOHANG) > 0)
			one_failed(children, l->jobs);
		usleep(1000);
	}
	__atomic_store_n(&race->started, 1, __ATOMIC_RELEASE);
	reap(children, l->jobs);
	for (unsigned int i = 0; i < l->jobs; i++) {
		start = race->job[i].start < start ? race->job[i].start : start;
		end = race->job[i].end > end ? race->job[i].end : end;
	}
	free(children);
	say(l, end - start, l->jobs);
	munmap(race, size);
}
