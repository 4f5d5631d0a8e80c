// SPDX-License-Identifier: GPL-2.0-only
/* Numbers from a seed (splitmix64). */
#include "ringfuzz_rng.h"

uint64_t rng_next(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
	return n ? (rng_next(r) >> 32) % n : 0;
}

bool rng_chance(struct rng *r, unsigned int permille)
{
	return rng_below(r, 1000) < permille;
}

void rng_bytes(struct rng *r, void *p, size_t n)
{
	uint8_t *s = p;

	while (n--)
		*s++ = rng_next(r) >> 56;
}

/* Each process and thread has numbers of its own: order does not matter then. */
struct rng rng_fork(uint64_t seed, unsigned int stream)
{
	struct rng r = { seed * 0x9e3779b97f4a7c15ull + stream };

	r.state = rng_next(&r);
	return r;
}
