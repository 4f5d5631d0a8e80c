// SPDX-License-Identifier: GPL-2.0-only
/* fsload: options, clock, content. */
#include "fsload.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char help[] =
"usage: fsload prepare BYTES FILE\n"
"       fsload read|write|randread|randwrite --size=BYTES --count=N [--depth=N] [--direct] FILE\n"
"       fsload meta --count=N [--jobs=N] DIRECTORY\n"
"\n"
"prepare      make FILE with the content that reading expects\n"
"read, ...    N operations of BYTES each on a prepared FILE; a fourth of N before, to warm up.\n"
"             --depth above 1: that many at once by libaio, --direct only\n"
"meta         N times create, write, stat and unlink a small file, in each of --jobs processes\n"
"\n"
"Prints one line: KIND name=value..., with ops (operations measured in all processes), ns (for all\n"
"of them) and verified (bytes or files compared, none of it in ns). Status 1: it went wrong.\n";

void fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	fputs("fsload: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

unsigned long warm_up(const struct load *l)
{
	return l->count / 4 + 1;
}

void say(const struct load *l, uint64_t ns, uint64_t verified)
{
	printf("%s size=%zu depth=%u jobs=%u direct=%d ops=%lu ns=%llu verified=%llu\n", l->kind,
	       l->size, l->depth, l->jobs, l->direct, l->count * l->jobs,
	       (unsigned long long)ns, (unsigned long long)verified);
	if (fflush(stdout))
		fail("standard output: %s", strerror(errno));
}

/* Differs for each word of the file and each generation. */
static uint64_t word(uint64_t offset, enum generation generation)
{
	return (offset + 1) * 0x9e3779b97f4a7c15ull + generation;
}

void fill(void *data, size_t size, uint64_t offset, enum generation generation)
{
	uint64_t *words = data;

	for (size_t i = 0; i < size / sizeof(*words); i++)
		words[i] = word(offset + i * sizeof(*words), generation);
}

void compare(const void *data, size_t size, uint64_t offset, enum generation generation)
{
	const uint64_t *words = data;

	for (size_t i = 0; i < size / sizeof(*words); i++) {
		uint64_t at = offset + i * sizeof(*words);

		if (words[i] != word(at, generation))
			fail("wrong data at offset %llu: %016llx, not %016llx",
			     (unsigned long long)at, (unsigned long long)words[i],
			     (unsigned long long)word(at, generation));
	}
}

static void __attribute__((noreturn)) usage(void)
{
	fputs(help, stderr);
	exit(2);
}

static unsigned long number(const char *text, unsigned long most)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (end == text || *end || errno || *text == '-' || !value || value > most) {
		fprintf(stderr, "fsload: not a number from 1 to %lu: %s\n", most, text);
		exit(2);
	}
	return value;
}

static void parse(struct load *l, int argc, char **argv)
{
	enum { SIZE = 1, COUNT, DEPTH, JOBS, DIRECT };
	static const struct option names[] = {
		{ "size", 1, NULL, SIZE },
		{ "count", 1, NULL, COUNT },
		{ "depth", 1, NULL, DEPTH },
		{ "jobs", 1, NULL, JOBS },
		{ "direct", 0, NULL, DIRECT },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case SIZE: l->size = number(optarg, 1 << 30); break;
		case COUNT: l->count = number(optarg, 1ul << 40); break;
		case DEPTH: l->depth = number(optarg, 4096); break;
		case JOBS: l->jobs = number(optarg, 1024); break;
		case DIRECT: l->direct = true; break;
		default: usage();
		}
	}
	if (argc - optind != 1 || !l->count)
		usage();
	l->path = argv[optind];
}

int main(int argc, char **argv)
{
	static const struct { const char *name; bool random, write; } kinds[] = {
		{ "read", false, false },
		{ "write", false, true },
		{ "randread", true, false },
		{ "randwrite", true, true },
	};
	struct load l = { .depth = 1, .jobs = 1 };

	if (argc == 4 && !strcmp(argv[1], "prepare")) {
		run_prepare(argv[3], number(argv[2], 1ul << 40));
		return 0;
	}
	if (argc < 2)
		usage();
	l.kind = argv[1];
	parse(&l, argc - 1, argv + 1);
	if (!strcmp(l.kind, "meta")) {
		if (l.size || l.direct || l.depth > 1)
			usage();
		run_meta(&l);
		return 0;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].name, l.kind))
			continue;
		l.random = kinds[i].random;
		l.write = kinds[i].write;
		/* requests that wait for the page cache would be one after the other again */
		if (!l.size || l.size % 512 || l.jobs > 1 || (l.depth > 1 && !l.direct))
			usage();
		run_data(&l);
		return 0;
	}
	usage();
}
