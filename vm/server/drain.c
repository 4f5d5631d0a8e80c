// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include "drain.h"
#include "loop.h"
#include "stats.h"

static bool wanted;

bool drain_is_wanted(void)
{
	return __atomic_load_n(&wanted, __ATOMIC_ACQUIRE);
}

/* Each thread learns it in its own time, and then says so: l->paused. */
void drain(bool on)
{
	__atomic_store_n(&wanted, on, __ATOMIC_RELEASE);
	loop_wake_all();
	stats_enter(on ? STATE_DRAINING : STATE_RUNNING);
}

static void look(struct loop *l, void *arg)
{
	bool *all = arg;

	if (!__atomic_load_n(&l->paused, __ATOMIC_ACQUIRE))
		*all = false;
}

bool drain_is_done(void)
{
	bool all = true;

	loop_each(look, &all);
	return all && stats_in_flight(stats) == 0;
}
