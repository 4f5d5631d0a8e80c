// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: the plan of a round. */
#include "ringfuzz.h"

#include <linux/fuse.h>

const char *const ending_names[ENDINGS] = {
	[END_KILL] = "kill", [END_STOP_ABORT] = "stop-abort", [END_THREADS] = "threads",
	[END_CLOSE] = "close", [END_MUNMAP] = "munmap", [END_EXEC] = "exec",
	[END_FORK] = "fork", [END_ABORT] = "abort", [END_FORCE] = "force",
	[END_LAZY] = "lazy", [END_EXIT] = "exit",
};

/* Drawn last: what else a seed stands for is as it was before there were pools. */
static void plan_pools(struct plan *p, struct rng *r)
{
	if (p->sane)
		p->pools = rng_chance(r, 650);
	p->pools_first = p->sane || rng_chance(r, 700);
	p->fixed_pools = rng_chance(r, 600);
	p->slices = rng_chance(r, 700) ? 1 + rng_below(r, p->depth) : 1 + rng_below(r, MAX_SLICES);
}

void plan_make(struct plan *p, uint64_t seed, bool sane)
{
	static const uint32_t max_writes[] = { 4096, 5000, 16384, 65536, 131072 };
	static const unsigned int bad[] = { 10, 100, 500, 950 };
	struct rng r = rng_fork(seed, 0);

	memset(p, 0, sizeof(*p));
	p->seed = seed;
	p->sane = sane;
	p->workers = 1 + rng_below(&r, sane ? 2 : MAX_WORKERS);
	p->callers = 2 + rng_below(&r, MAX_CALLERS - 1);
	p->depth = 1 + rng_below(&r, 6);
	p->init.max_background = 1 + rng_below(&r, 16);
	p->init.flags = FUSE_ASYNC_DIO | FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS |
			FUSE_ATOMIC_O_TRUNC;
	if (sane) {
		p->init.max_write = DEFAULT_PAYLOAD;
		p->slow = rng_chance(&r, 300);
		/* each way of dying as often as any other */
		p->ending = seed % ENDINGS_OF_DEATH;
		p->after_calls = rng_below(&r, 120);
		p->after_ms = rng_below(&r, 400);
		plan_pools(p, &r);
		return;
	}
	p->bad = bad[rng_below(&r, 4)];
	/* some hide others: with REGISTER at random there are soon entries nobody serves */
	do
		p->kinds = rng_next(&r) & ((1u << BAD_KINDS) - 1);
	while (!p->kinds);
	p->early = rng_chance(&r, 200);
	p->mute = rng_chance(&r, 30);
	p->init_error = rng_chance(&r, 30);
	p->init.no_ring = !rng_chance(&r, 950);
	p->pools = rng_chance(&r, 300);
	p->may_deadlock = rng_chance(&r, 150);
	p->slow = rng_chance(&r, 200);
	p->clone = rng_chance(&r, 300);
	p->init.max_write = max_writes[rng_below(&r, 5)];
	if (rng_chance(&r, 500))
		p->init.max_pages = 1 + rng_below(&r, 32);
	if (rng_chance(&r, 300))
		p->init.flags |= FUSE_WRITEBACK_CACHE;
	if (rng_chance(&r, 500))
		p->init.flags |= FUSE_DO_READDIRPLUS;
	if (rng_chance(&r, 300))
		p->init.flags |= FUSE_POSIX_ACL;
	if (rng_chance(&r, 300))
		p->init.flags |= FUSE_SETXATTR_EXT;
	if (rng_chance(&r, 300))
		p->init.flags2 |= SUPP_GROUP_FLAG2;
	p->ending = rng_below(&r, ENDINGS);
	p->after_commands = rng_below(&r, 8) ? 500 + rng_below(&r, 8000) : rng_below(&r, 500);
	p->after_calls = UINT_MAX;
	p->after_ms = 20 + rng_below(&r, 3000);
	plan_pools(p, &r);
}

void plan_say(const struct plan *p)
{
	char pools[64] = "";

	if (p->pools)
		snprintf(pools, sizeof(pools), " %s%s pools of %u,", p->pools_first ? "" : "late ",
			 p->fixed_pools ? "registered" : "plain", p->slices);
	say("seed %llu: %s, %u workers, %u callers, depth %u, bad %u/1000 of %#x,%s%s%s%s%s%s%s%s "
	    "max_write %u, max_pages %u, max_background %u, flags %#x; ends by %s",
	    (unsigned long long)p->seed, p->sane ? "sane" : "hostile", p->workers, p->callers,
	    p->depth, p->bad, p->kinds, p->early ? " early," : "", p->mute ? " mute," : "",
	    p->init_error ? " init-error," : "", p->init.no_ring ? " no ring," : "",
	    pools, p->may_deadlock ? " may deadlock," : "",
	    p->slow ? " slow," : "", p->clone ? " clone," : "", p->init.max_write,
	    p->init.max_pages, p->init.max_background, p->init.flags,
	    ending_names[p->ending]);
}
