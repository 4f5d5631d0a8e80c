// SPDX-License-Identifier: GPL-2.0-only
/*
 * memsearch PID TEXT [PASSES]: how often TEXT is in the memory of a process, whatever
 * that is and does meanwhile; of several passes the most.
 * memsearch make FILE BYTES TEXT: a file in which each 32 bytes begin with TEXT (at most
 * 15 bytes) and go on with their offset.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK (1 << 20)

static char block[BLOCK + 256];

static uint64_t count_in(const char *data, size_t size, const char *text, size_t length)
{
	const char *at = data, *end = data + size;
	uint64_t found = 0;

	while ((at = memmem(at, end - at, text, length))) {
		found++;
		at += length;
	}
	return found;
}

/* Blocks overlap by as much as TEXT could be cut. */
static uint64_t search(int mem, uint64_t from, uint64_t to, const char *text, size_t length,
		       uint64_t *looked_at)
{
	uint64_t found = 0;

	while (from < to) {
		size_t size = to - from < BLOCK ? to - from : BLOCK;
		ssize_t n = pread(mem, block, size, from);

		if (n <= 0)
			break;	/* not there any more, or not for reading */
		found += count_in(block, n, text, length);
		*looked_at += n;
		if ((size_t)n < length || from + n >= to)
			break;
		from += n - (length - 1);
	}
	return found;
}

static uint64_t pass(const char *pid, const char *text, size_t length, uint64_t *looked_at)
{
	char path[64], line[512];
	uint64_t found = 0;
	FILE *maps;
	int mem;

	snprintf(path, sizeof(path), "/proc/%s/maps", pid);
	maps = fopen(path, "re");
	snprintf(path, sizeof(path), "/proc/%s/mem", pid);
	mem = open(path, O_RDONLY | O_CLOEXEC);
	if (!maps || mem < 0) {
		perror(path);
		exit(1);
	}
	while (fgets(line, sizeof(line), maps)) {
		uint64_t from, to;
		char r;

		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %c", &from, &to, &r) == 3 && r == 'r')
			found += search(mem, from, to, text, length, looked_at);
	}
	fclose(maps);
	close(mem);
	return found;
}

static int make(const char *path, uint64_t size, const char *text)
{
	FILE *f = fopen(path, "we");
	char line[33];

	/* a million times: emulated, fprintf() would take its time */
	snprintf(line, sizeof(line), "%-15.15s%016x\n", text, 0);
	for (uint64_t at = 0; f && at < size; at += 32) {
		for (int i = 0; i < 16; i++)
			line[15 + i] = "0123456789abcdef"[at >> (60 - 4 * i) & 15];
		fwrite(line, 32, 1, f);
	}
	if (f && fflush(f) == 0 && ftruncate(fileno(f), size) == 0)
		return 0;
	perror(path);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned int passes = argc == 4 ? atoi(argv[3]) : 1;
	uint64_t most = 0, looked_at = 0;
	size_t length = argc >= 3 ? strlen(argv[2]) : 0;

	if (argc == 5 && !strcmp(argv[1], "make"))
		return make(argv[2], strtoull(argv[3], NULL, 0), argv[4]);
	if (argc < 3 || argc > 4 || !length || length > 200 || !passes) {
		fprintf(stderr, "usage: memsearch PID TEXT [PASSES] | make FILE BYTES TEXT\n");
		return 2;
	}
	while (passes--) {
		uint64_t found = pass(argv[1], argv[2], length, &looked_at);

		if (found > most)
			most = found;
	}
	if (!looked_at) {
		fprintf(stderr, "memsearch: nothing could be read\n");
		return 1;
	}
	printf("%" PRIu64 "\n", most);
	return 0;
}
