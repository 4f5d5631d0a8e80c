/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * blockfs: one image as one file. block.c knows what the file may do and how long it
 * is; an image (block_raw.c, block_nbd.c) moves the bytes.
 */
#ifndef BLOCK_H
#define BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "request.h"

struct block_options {
	bool writable;
	bool growable;
	bool direct;
	unsigned int connections;	/* 0: one for each thread, where the server can do that */
};

extern struct block_options block_options;

/*
 * Offsets and sizes lie within the image, but for what makes it longer. Methods with a
 * request return what was done (bytes, 0) or a negative error number, or REPLY_SOON and
 * give it to block_complete() later. NULL: it cannot be done.
 */
struct image {
	/* 0 or exit status; the length in *LENGTH. */
	int (*open)(const char *name, uint64_t *length);
	/* 0 or exit status */
	int (*close)(void);
	void (*thread_start)(struct loop *l);
	void (*thread_stop)(struct loop *l);
	void (*abandon)(void);
	int (*read)(struct request *rq, void *data, uint32_t size, uint64_t offset);
	/* RWF: RWF_DSYNC or RWF_SYNC: it is to be safe before the reply */
	int (*write)(struct request *rq, const void *data, uint32_t size, uint64_t offset,
		     int rwf);
	int (*sync)(struct request *rq, bool data_only);
	/* MODE: as fallocate's, of those that block.c knows. */
	int (*allocate)(struct request *rq, int mode, uint64_t offset, uint64_t length);
	int (*seek)(struct request *rq, uint64_t offset, int whence, uint64_t *result);
	int (*resize)(uint64_t length);
	/* what its length is now; for those that can be made longer */
	int (*measure)(uint64_t *length);
	/* blocks and times, where it knows better */
	void (*attr)(struct fuse_attr *attr);
};

extern const struct image raw_image, nbd_image;

void block_complete(struct request *rq, int result);
uint64_t block_length(void);

#endif
