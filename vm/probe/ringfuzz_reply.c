// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: replies, good ones and spoilt ones. */
#include "ringfuzz.h"

#include <sys/stat.h>

/* fs_answer() and what callers of this program need besides */
int fuzz_answer(struct conn *c, const struct req *q, void *out, size_t room, size_t *len)
{
	const struct fuse_read_in *rd = q->op;
	struct fuse_direntplus *d = out;

	if (q->h.opcode != FUSE_READDIRPLUS)
		return fs_answer(c, q, out, room, len);
	*len = 0;
	if (rd->offset || room < 256)
		return 0;
	memset(d, 0, 256);
	/* no node: only the name is given */
	d->dirent.ino = 1;
	d->dirent.off = 1;
	d->dirent.namelen = 2;
	memcpy(d->dirent.name, "f1", 2);
	*len = FUSE_DIRENTPLUS_SIZE(d);
	return 0;
}

void spoil_reply(struct rng *r, struct fuse_out_header *h, uint32_t *size, uint8_t *pay,
		 size_t room)
{
	static const int32_t errors[] = { -1, -2, -4, -11, -38, -511, -512, -513, -1000, 1, 38,
					  512, INT32_MIN, INT32_MAX };
	static const uint32_t sizes[] = { 0, 1, 15, 16, 4096, 8192, 131072, 1u << 20, 0x7fffffff,
					  0x80000000u, 0xfffffff0u, 0xffffffffu };
	size_t n, at;

	switch (rng_below(r, 10)) {
	case 0:
		h->error = errors[rng_below(r, 14)];
		break;
	case 1:
		h->error = -(int)rng_below(r, 600);
		*size = 0;
		break;
	case 2:
		*size = sizes[rng_below(r, 12)];
		break;
	case 3:
		*size += rng_chance(r, 500) ? 1 : -1;
		break;
	case 4:
		*size = rng_below(r, *size + 1);
		break;
	case 5:
		h->unique = rng_chance(r, 300) ? 0 : h->unique + rng_below(r, 5) - 2;
		break;
	case 6:
		h->unique ^= 1ull << rng_below(r, 64);
		break;
	case 7:
		h->len = rng_next(r);
		break;
	default:
		/* contents: a few bytes, or all */
		n = *size < room ? *size : room;
		if (!n)
			break;
		if (rng_chance(r, 300)) {
			rng_bytes(r, pay, n < 256 ? n : 256);
			break;
		}
		for (at = 1 + rng_below(r, 4); at; at--)
			pay[rng_below(r, n < 256 ? n : 256)] = rng_next(r);
	}
}
