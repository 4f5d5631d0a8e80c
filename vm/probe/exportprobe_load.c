// SPDX-License-Identifier: GPL-2.0-only
/* exportprobe: many requests at once; and what is safe after fsync. */
#include "exportprobe.h"

#include <linux/aio_abi.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

enum { BLOCK = 4096, MOST_DEPTH = 256 };

struct slot {
	struct iocb cb;
	char *buf;
	long block;
	unsigned int tag;	/* written or expected; 0: zeroes or what was there */
};

struct load {
	const char *file;
	int jobs, depth;
	long operations;
	long blocks;		/* of each job */
	long first;		/* what lies before is others' */
};

static uint64_t place(const struct load *l, int job, long block)
{
	return (l->first + block * l->jobs + job) * BLOCK;
}

/*
 * Each job has every jobs'th block for itself and knows what it has written there; blocks
 * under way are left alone, so each read has one right answer. 7 in 10 are reads.
 */
static void load_job(int job, void *arg)
{
	struct load *l = arg;
	struct slot slots[MOST_DEPTH];
	struct io_event events[MOST_DEPTH];
	unsigned int *tags = calloc(l->blocks, sizeof(*tags));
	bool *busy = calloc(l->blocks, sizeof(*busy));
	aio_context_t ctx = 0;
	struct rng rng;
	long begun = 0, ended = 0;
	int fd = OK(open(l->file, O_RDWR | O_DIRECT)), got;

	rng_init(&rng, 100 + job);
	OK(syscall(SYS_io_setup, l->depth, &ctx));
	memset(slots, 0, sizeof(slots));
	for (int i = 0; i < l->depth; i++) {
		slots[i].buf = pages(BLOCK);
		slots[i].block = -1;
	}
	while (ended < l->operations) {
		for (int i = 0; i < l->depth && begun < l->operations; i++) {
			struct slot *s = &slots[i];
			struct iocb *cb = &s->cb;

			if (s->block >= 0)
				continue;
			do
				s->block = rng_below(&rng, l->blocks);
			while (busy[s->block]);
			*cb = (struct iocb){
				.aio_data = i, .aio_fildes = fd, .aio_nbytes = BLOCK,
				.aio_buf = (uintptr_t)s->buf,
				.aio_offset = place(l, job, s->block),
			};
			/* what was never written is left unread: it may hold anything */
			if (rng_below(&rng, 10) < 7 && tags[s->block]) {
				cb->aio_lio_opcode = IOCB_CMD_PREAD;
				s->tag = tags[s->block];
				memset(s->buf, 0, BLOCK);
			} else {
				cb->aio_lio_opcode = IOCB_CMD_PWRITE;
				s->tag = tags[s->block] = ++begun * l->jobs + job;
				begun--;
				fill(s->buf, BLOCK, cb->aio_offset, s->tag);
			}
			busy[s->block] = true;
			begun++;
			OK(syscall(SYS_io_submit, ctx, 1, (struct iocb *[]){ cb }));
		}
		got = OK(syscall(SYS_io_getevents, ctx, 1, l->depth, events, NULL));
		for (int i = 0; i < got; i++) {
			struct slot *s = &slots[events[i].data];

			if (events[i].res != BLOCK)
				fail("%s of block %ld gave %lld",
				     s->cb.aio_lio_opcode == IOCB_CMD_PREAD ? "read" : "write",
				     s->block, (long long)events[i].res);
			if (s->cb.aio_lio_opcode == IOCB_CMD_PREAD)
				is_pattern("block", s->cb.aio_offset, s->buf, BLOCK, s->tag);
			busy[s->block] = false;
			s->block = -1;
			ended++;
		}
	}
	/* all of it once more, in order */
	for (long b = 0; b < l->blocks; b++) {
		uint64_t off = place(l, job, b);

		if (!tags[b])
			continue;
		full_pread(fd, slots[0].buf, BLOCK, off);
		is_pattern("in the end, block", off, slots[0].buf, BLOCK, tags[b]);
	}
	OK(fsync(fd));
	OK(close(fd));
	OK(syscall(SYS_io_destroy, ctx));
}

void probe_load(int argc, char **argv)
{
	struct load l;
	struct stat st;

	if (argc != 5 && argc != 6)
		fail("usage: load FILE JOBS DEPTH OPERATIONS [FIRST_BLOCK]");
	l = (struct load){
		.file = argv[1], .jobs = number(argv[2]), .depth = number(argv[3]),
		.operations = number(argv[4]), .first = argc > 5 ? number(argv[5]) : 0,
	};
	OK(stat(l.file, &st));
	l.blocks = (st.st_size / BLOCK - l.first) / l.jobs;
	if (l.depth < 1 || l.depth > MOST_DEPTH || l.blocks < 2 * l.depth)
		fail("DEPTH is from 1 to %d, and the file has twice as many blocks", MOST_DEPTH);
	crowd(l.jobs, load_job, &l);
	printf("%d jobs, depth %d: %ld operations each, all verified\n", l.jobs, l.depth,
	       l.operations);
}

/* ----------------------------------------------------------------- durability */

/*
 * Rounds of writes all over the file, then fsync, then a line in the journal (which lies
 * elsewhere): round N is safe. A block of round N has tag N, and later rounds overwrite.
 */
static long block_of(long round, int i, long blocks)
{
	return (round * 131 + i * 17) % blocks;
}

enum { IN_ROUND = 16 };

void probe_journal(int argc, char **argv)
{
	int fd, journal;
	long blocks;
	struct stat st;
	char *buf = pages(BLOCK), line[32];

	if (argc != 3 && argc != 4)
		fail("usage: journal FILE JOURNAL [BLOCKS]");
	fd = OK(open(argv[1], O_RDWR));
	journal = OK(open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644));
	OK(fstat(fd, &st));
	blocks = argc > 3 ? number(argv[3]) : st.st_size / BLOCK;
	for (long round = 1;; round++) {
		for (int i = 0; i < IN_ROUND; i++) {
			uint64_t off = block_of(round, i, blocks) * BLOCK;

			fill(buf, BLOCK, off, round);
			if (pwrite(fd, buf, BLOCK, off) != BLOCK)
				goto ended;
		}
		if (fsync(fd))
			goto ended;
		OK(write(journal, line, sprintf(line, "%ld\n", round)));
	}
ended:
	printf("ended with %s\n", errname(errno));
}

void probe_verify(int argc, char **argv)
{
	long safe = 0, blocks;
	char *buf = pages(BLOCK), *want = pages(BLOCK);
	long *last;
	struct stat st;
	FILE *f;
	int fd;

	if (argc != 3 && argc != 4)
		fail("usage: verify FILE JOURNAL [BLOCKS]");
	fd = OK(open(argv[1], O_RDONLY));
	f = fopen(argv[2], "r");
	if (!f)
		fail("%s: %s", argv[2], errname(errno));
	while (fscanf(f, "%ld", &safe) == 1)
		;
	if (safe < 1)
		fail("nothing was safe");
	OK(fstat(fd, &st));
	blocks = argc > 3 ? number(argv[3]) : st.st_size / BLOCK;
	last = calloc(blocks, sizeof(*last));
	for (long round = 1; round <= safe; round++)
		for (int i = 0; i < IN_ROUND; i++)
			last[block_of(round, i, blocks)] = round;
	for (long b = 0; b < blocks; b++) {
		bool later = false;

		if (!last[b])
			continue;
		full_pread(fd, buf, BLOCK, b * BLOCK);
		/* the round that was under way may have come that far */
		for (int i = 0; i < IN_ROUND; i++)
			later |= block_of(safe + 1, i, blocks) == b;
		fill(want, BLOCK, b * BLOCK, safe + 1);
		if (later && !memcmp(buf, want, BLOCK))
			continue;
		is_pattern("what was synced", b * BLOCK, buf, BLOCK, last[b]);
	}
	printf("all that was synced is there\n");
}
