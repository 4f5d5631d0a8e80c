/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's FUSE protocol, as far as the installed <linux/fuse.h> may be too
 * old for it (Debian 12 has 7.38). Own names, so that a newer header does no harm.
 */
#ifndef FUSE_PROTO_H
#define FUSE_PROTO_H

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/stat.h>

/*
 * The minor we speak. 7.42 is the ring; more would promise what we do not have.
 * Below 7.31 replies have other sizes and MAX_PAGES is missing.
 */
#define PROTO_MINOR 42
#define PROTO_MINOR_LEAST 31

#define PROTO_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#define PROTO_OVER_IO_URING (1ULL << 41)
#define PROTO_HAS_IO_URING_BUFPOOL (1ULL << 43)

enum {
	PROTO_STATX = 52,
	PROTO_COPY_FILE_RANGE_64 = 53,
	PROTO_OPCODES = 64,	/* all of them are below */
};

struct proto_statx_in {
	uint32_t getattr_flags;
	uint32_t reserved;
	uint64_t fh;
	uint32_t sx_flags;
	uint32_t sx_mask;
};

/* The attributes have the layout of statx(2). */
struct proto_statx_out {
	uint64_t attr_valid;
	uint32_t attr_valid_nsec;
	uint32_t flags;
	uint64_t spare[2];
	struct statx stat;
};
_Static_assert(sizeof(struct proto_statx_out) == 32 + 256, "statx reply");

struct proto_copied_out {
	uint64_t bytes;
};

/* FUSE over io_uring: what an entry's header buffer holds. */
struct proto_ring_part {
	uint64_t flags;
	uint64_t commit_id;
	uint32_t payload_size;
	uint32_t offset;
	uint64_t reserved;
};

struct proto_ring_header {
	char in_out[128];	/* fuse_in_header, then fuse_out_header */
	char op_in[128];	/* the per-opcode header */
	struct proto_ring_part part;
};
_Static_assert(sizeof(struct proto_ring_header) == 288, "ring header");

/* In the command area of a SQE. */
struct proto_ring_command {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t queue;
	uint8_t padding[6];
	uint64_t pool_address;
	uint32_t pool_size;
	uint32_t reserved;
};
_Static_assert(sizeof(struct proto_ring_command) == 40, "ring command");

enum {
	PROTO_RING_REGISTER = 1,
	PROTO_RING_COMMIT_AND_FETCH = 2,
	PROTO_RING_ADD_QUEUE = 3,
	PROTO_RING_ADD_POOL = 4,
	PROTO_RING_START = 0x80000001,	/* of our series */
};

#endif
