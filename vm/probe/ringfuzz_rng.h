/* SPDX-License-Identifier: GPL-2.0-only */
/* Numbers from a seed: everything random follows from one number. */
#ifndef RINGFUZZ_RNG_H
#define RINGFUZZ_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);		/* 0 .. n - 1 */
bool rng_chance(struct rng *r, unsigned int permille);
void rng_bytes(struct rng *r, void *p, size_t n);
struct rng rng_fork(uint64_t seed, unsigned int stream);

#endif
