// SPDX-License-Identifier: GPL-2.0-only
/*
 * twin [--ops=N] [--seed=N] [--threads=N] [--max=BYTES] KIND[,KIND...] FILE TWIN
 *
 * Random operations on a file of fixed size and on a twin of it, which is on another file
 * system: what is read must be the same, by count and by byte, and after what is written
 * too. Kinds: read, direct (O_DIRECT), map, write, directwrite, mapwrite, sync, drop (what
 * the page cache has). Threads: for reads only.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind { READ, DIRECT, MAP, WRITE, DIRECT_WRITE, MAP_WRITE, SYNC, DROP, KINDS };
static const char *const names[KINDS] = {
	"read", "direct", "map", "write", "directwrite", "mapwrite", "sync", "drop",
};

static const char *path, *twin_path;
static enum kind kinds[32];
static unsigned int kind_count, ops = 200, seed = 1, threads = 1;
static size_t most = 1200000;
static off_t size;
static bool writes;

struct actor {
	pthread_t thread;
	uint64_t chance;
	int fd, direct, twin;
	char *map;
	char *buffer, *other;
	unsigned int number, op;
	enum kind kind;
	off_t offset;
	size_t length;
};

static uint64_t draw(struct actor *a, uint64_t below)
{
	/* xorshift64* */
	a->chance ^= a->chance >> 12;
	a->chance ^= a->chance << 25;
	a->chance ^= a->chance >> 27;
	return (a->chance * 2685821657736338717ULL >> 16) % below;
}

static void __attribute__((noreturn)) fail(const struct actor *a, const char *what)
{
	printf("twin: seed %u thread %u operation %u: %s of %zu bytes at %jd: %s\n", seed,
	       a->number, a->op, names[a->kind], a->length, (intmax_t)a->offset, what);
	exit(1);
}

static void compare(struct actor *a, ssize_t n)
{
	ssize_t m = pread(a->twin, a->other, a->length, a->offset);
	char text[80];

	if (n < 0)
		fail(a, strerror(errno));
	if (n != m) {
		snprintf(text, sizeof(text), "%zd bytes, the twin has %zd", n, m);
		fail(a, text);
	}
	for (ssize_t i = 0; i < n; i++) {
		if (a->buffer[i] == a->other[i])
			continue;
		snprintf(text, sizeof(text), "byte %zd is %02x, the twin's is %02x", i,
			 (unsigned char)a->buffer[i], (unsigned char)a->other[i]);
		fail(a, text);
	}
}

static void put(struct actor *a, int fd, const char *data)
{
	ssize_t n = pwrite(fd, data, a->length, a->offset);

	if (n != (ssize_t)a->length)
		fail(a, n < 0 ? strerror(errno) : "short");
}

static void make_data(struct actor *a)
{
	uint64_t value = draw(a, UINT64_MAX);

	for (size_t i = 0; i < a->length; i++, value = value * 6364136223846793005ULL + 1)
		a->buffer[i] = value >> 56;
}

static void choose_place(struct actor *a)
{
	bool may_exceed = a->kind == READ || a->kind == DIRECT;
	size_t limit = draw(a, 4) ? 20000 : most;

	a->offset = draw(a, size + (may_exceed ? 5000 : 0));
	a->length = 1 + draw(a, limit);
	/* half of them at boundaries of something */
	if (draw(a, 2))
		a->offset &= ~(off_t)4095;
	if (draw(a, 2))
		a->length = (a->length + 4095) & ~(size_t)4095;
	if (!may_exceed && a->length > (size_t)(size - a->offset))
		a->length = size - a->offset;
}

static void act(struct actor *a)
{
	a->kind = kinds[draw(a, kind_count)];
	choose_place(a);
	switch (a->kind) {
	case READ:
		compare(a, pread(a->fd, a->buffer, a->length, a->offset));
		break;
	case DIRECT:
		compare(a, pread(a->direct, a->buffer, a->length, a->offset));
		break;
	case MAP:
		memcpy(a->buffer, a->map + a->offset, a->length);
		compare(a, a->length);
		break;
	case WRITE:
	case DIRECT_WRITE:
		make_data(a);
		put(a, a->kind == WRITE ? a->fd : a->direct, a->buffer);
		put(a, a->twin, a->buffer);
		break;
	case MAP_WRITE:
		make_data(a);
		memcpy(a->map + a->offset, a->buffer, a->length);
		put(a, a->twin, a->buffer);
		break;
	case SYNC:
		if (fsync(a->fd) < 0)
			fail(a, strerror(errno));
		break;
	case DROP:
		posix_fadvise(a->fd, 0, 0, POSIX_FADV_DONTNEED);
		break;
	default:
		break;
	}
}

static void *act_all(void *arg)
{
	struct actor *a = arg;

	for (a->op = 0; a->op < ops; a->op++)
		act(a);
	return NULL;
}

static int open_or_die(const char *name, int flags)
{
	int fd = open(name, flags | O_CLOEXEC);

	if (fd >= 0)
		return fd;
	printf("twin: %s: %s\n", name, strerror(errno));
	exit(1);
}

static void start(struct actor *a, unsigned int number)
{
	int flags = writes ? O_RDWR : O_RDONLY;
	struct stat st;

	a->number = number;
	a->chance = (seed * 1000003ULL + number + 1) * 0x9e3779b97f4a7c15ULL;
	a->fd = open_or_die(path, flags);
	a->direct = open_or_die(path, flags | O_DIRECT);
	a->twin = open_or_die(twin_path, flags);
	if (fstat(a->fd, &st) < 0)
		fail(a, strerror(errno));
	size = st.st_size;
	a->map = mmap(NULL, size, PROT_READ | (writes ? PROT_WRITE : 0), MAP_SHARED, a->fd, 0);
	if (a->map == MAP_FAILED) {
		printf("twin: %s: mmap: %s\n", path, strerror(errno));
		exit(1);
	}
	/* an odd place, as users have it */
	a->buffer = (char *)malloc(most + 8192) + 24;
	a->other = malloc(most + 8192);
}

static void parse_kinds(char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ",")) {
		enum kind k = 0;

		while (k < KINDS && strcmp(names[k], word))
			k++;
		if (k == KINDS || kind_count == 32) {
			printf("twin: no such kind: %s\n", word);
			exit(2);
		}
		writes |= k == WRITE || k == DIRECT_WRITE || k == MAP_WRITE;
		kinds[kind_count++] = k;
	}
}

int main(int argc, char **argv)
{
	static struct actor actors[64];

	for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++)
		if (sscanf(argv[1], "--ops=%u", &ops) != 1 &&
		    sscanf(argv[1], "--seed=%u", &seed) != 1 &&
		    sscanf(argv[1], "--threads=%u", &threads) != 1 &&
		    sscanf(argv[1], "--max=%zu", &most) != 1)
			argc = 0;
	if (argc != 4 || !threads || threads > 64) {
		fprintf(stderr, "usage: twin [--ops=N] [--seed=N] [--threads=N] [--max=BYTES] KINDS FILE TWIN\n");
		return 2;
	}
	parse_kinds(argv[1]);
	path = argv[2];
	twin_path = argv[3];
	for (unsigned int i = 0; i < threads; i++)
		start(&actors[i], i);
	for (unsigned int i = 0; i < threads; i++)
		if (pthread_create(&actors[i].thread, NULL, act_all, &actors[i]))
			return 1;
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(actors[i].thread, NULL);
	printf("%u operations by %u, all the same\n", ops * threads, threads);
	return 0;
}
