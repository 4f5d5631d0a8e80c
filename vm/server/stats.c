// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "opcodes.h"
#include "say.h"
#include "stats.h"

static const char magic[16] = "mirrorfs stats1";

struct stats_file *stats;
static size_t stats_size;

void stats_open(const char *file, unsigned int slots)
{
	int fd = -1;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	stats_size = sizeof(*stats) + slots * sizeof(struct stats_slot);
	if (file) {
		fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0 || ftruncate(fd, stats_size) < 0) {
			say("%s: %s", file, strerror(errno));
			exit(1);
		}
		flags = MAP_SHARED;
	}
	stats = mmap(NULL, stats_size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (stats == MAP_FAILED) {
		say("counters: %s", strerror(errno));
		exit(1);
	}
	if (file)
		close(fd);
	stats->slot_size = sizeof(struct stats_slot);
	stats->slots = slots;
	memcpy(stats->magic, magic, sizeof(magic));
}

void stats_close(void)
{
	munmap(stats, stats_size);
	stats = NULL;
}

static void add_slot(struct stats_slot *sum, const struct stats_slot *slot)
{
	const uint64_t *from = (const uint64_t *)slot;
	uint64_t *to = (uint64_t *)sum;

	for (size_t i = 0; i < sizeof(*slot) / sizeof(*from); i++)
		to[i] += __atomic_load_n(from + i, __ATOMIC_RELAXED);
}

static struct stats_slot add_all(const struct stats_file *f)
{
	struct stats_slot sum = { 0 };

	for (uint32_t i = 0; i < f->slots; i++)
		add_slot(&sum, &f->slot[i]);
	return sum;
}

static uint64_t in_flight(const struct stats_slot *sum)
{
	uint64_t replies = sum->replies[PATH_DEV] + sum->replies[PATH_RING] + sum->dev_forget +
			   sum->dev_interrupt + sum->op[PATH_DEV][FUSE_NOTIFY_REPLY];
	uint64_t requests = sum->requests[PATH_DEV] + sum->requests[PATH_RING];

	/* they are not read at one moment */
	return requests > replies ? requests - replies : 0;
}

void stats_enter(enum serving_state state)
{
	uint64_t old = __atomic_load_n(&stats->state, __ATOMIC_RELAXED);

	while (old != STATE_HALTED &&
	       !__atomic_compare_exchange_n(&stats->state, &old, state, false,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
}

uint64_t stats_in_flight(const struct stats_file *f)
{
	struct stats_slot sum = add_all(f);

	return in_flight(&sum);
}

int stats_print(const char *file, const char *wanted)
{
	const struct stats_file *f = MAP_FAILED;
	struct stats_slot sum;
	struct stat st;
	bool found = false;
	int fd;

	errno = 0;
	fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_size >= (off_t)sizeof(*f))
		f = mmap(NULL, st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || (f == MAP_FAILED && errno)) {
		say("%s: %s", file, strerror(errno));
		return 1;
	}
	if (f == MAP_FAILED || memcmp(f->magic, magic, sizeof(magic)) ||
	    f->slot_size != sizeof(sum) ||
	    (uint64_t)st.st_size < sizeof(*f) + (uint64_t)f->slots * f->slot_size) {
		say("%s: not a file of counters", file);
		return 1;
	}
	sum = add_all(f);

	const struct { const char *name; uint64_t value; } all[] = {
		{ "requests_dev", sum.requests[PATH_DEV] },
		{ "requests_uring", sum.requests[PATH_RING] },
		{ "dev_init", sum.dev_init },
		{ "dev_forget", sum.dev_forget },
		{ "dev_interrupt", sum.dev_interrupt },
		{ "dev_destroy", sum.dev_destroy },
		{ "dev_before_ready", sum.dev_before_ready },
		{ "replies_dev", sum.replies[PATH_DEV] },
		{ "replies_uring", sum.replies[PATH_RING] },
		{ "bytes_in_dev", sum.bytes_in[PATH_DEV] },
		{ "bytes_in_uring", sum.bytes_in[PATH_RING] },
		{ "bytes_out_dev", sum.bytes_out[PATH_DEV] },
		{ "bytes_out_uring", sum.bytes_out[PATH_RING] },
		{ "queues", f->queues },
		{ "entries", f->entries },
		{ "ring", f->ring },
		{ "exit_status", f->exit_status },
		{ "state", f->state },
		{ "in_flight", in_flight(&sum) },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		if (!wanted)
			printf("%s %" PRIu64 "\n", all[i].name, all[i].value);
		else if (!strcmp(wanted, all[i].name)) {
			printf("%" PRIu64 "\n", all[i].value);
			found = true;
		}
	}
	for (int i = 0; i < STATS_OWN; i++) {
		if (!f->own_name[i][0])
			continue;
		if (!wanted) {
			printf("%s %" PRIu64 "\n", f->own_name[i], f->own[i]);
		} else if (!strcmp(wanted, f->own_name[i])) {
			printf("%" PRIu64 "\n", f->own[i]);
			found = true;
		}
	}
	for (unsigned int op = 0; op < PROTO_OPCODES; op++) {
		for (int path = 0; path < PATHS; path++) {
			const char *suffix = path == PATH_DEV ? "dev" : "uring";
			char name[64];

			if (!opcode_name(op))
				continue;
			snprintf(name, sizeof(name), "op_%s_%s", opcode_name(op), suffix);
			/* in the list of all only what happened: it is long enough */
			if (!wanted && sum.op[path][op])
				printf("%s %" PRIu64 "\n", name, sum.op[path][op]);
			else if (wanted && !strcmp(wanted, name)) {
				printf("%" PRIu64 "\n", sum.op[path][op]);
				found = true;
			}
		}
	}
	if (wanted && !found) {
		say("no counter %s", wanted);
		return 1;
	}
	return fflush(stdout) ? 1 : 0;
}
