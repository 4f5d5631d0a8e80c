/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * fsload: a load on a filesystem, the same instructions each time. It warms up,
 * measures between two looks at the clock and checks the data outside of them.
 */
#ifndef FSLOAD_H
#define FSLOAD_H

#define _GNU_SOURCE
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load {
	const char *kind;
	const char *path;
	size_t size;		/* bytes of an operation */
	unsigned long count;	/* operations that are measured */
	unsigned int depth;	/* requests under way at once */
	unsigned int jobs;	/* processes */
	bool direct;
	bool write;
	bool random;
};

/* Print a message and end with status 1. */
void fail(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

uint64_t now_ns(void);

/* Operations that warm up before `count` are measured. */
unsigned long warm_up(const struct load *l);

/* One line for programs; `verified` counts bytes or files whose content was compared. */
void say(const struct load *l, uint64_t ns, uint64_t verified);

/* The file's content: what it is prepared with, or what a load writes. */
enum generation { PREPARED, WRITTEN };
void fill(void *data, size_t size, uint64_t offset, enum generation generation);
void compare(const void *data, size_t size, uint64_t offset, enum generation generation);

void run_prepare(const char *path, uint64_t bytes);
void run_data(const struct load *l);
void run_meta(const struct load *l);

#endif
