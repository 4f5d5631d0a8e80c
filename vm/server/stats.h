/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Counters in a shared file. Each thread counts in a slot of its own, without
 * locks or shared cache lines; readers add the slots up. What was counted stays
 * readable however the server ended.
 */
#ifndef STATS_H
#define STATS_H

#include <stdint.h>

#include "fuse_proto.h"

enum path { PATH_DEV, PATH_RING, PATHS };
enum serving_state { STATE_RUNNING, STATE_DRAINING, STATE_DRAINED, STATE_HALTED };
enum ring_state { RING_NOT_ASKED, RING_IN_USE, RING_REFUSED };

struct stats_slot {
	uint64_t requests[PATHS];
	uint64_t replies[PATHS];
	uint64_t bytes_in[PATHS];
	uint64_t bytes_out[PATHS];
	uint64_t dev_init;
	uint64_t dev_forget;
	uint64_t dev_interrupt;
	uint64_t dev_destroy;
	uint64_t dev_before_ready;
	uint64_t op[PATHS][PROTO_OPCODES];
} __attribute__((aligned(128)));

#define STATS_OWN 16

struct stats_file {
	char magic[16];
	uint32_t slot_size;
	uint32_t slots;
	uint64_t queues;
	uint64_t entries;
	uint64_t ring;
	uint64_t exit_status;
	uint64_t state;
	/* A backend's own counters, for all threads; those without a name are not used. */
	uint64_t own[STATS_OWN];
	char own_name[STATS_OWN][32];
	struct stats_slot slot[] __attribute__((aligned(128)));
};

extern struct stats_file *stats;

/* Any thread. From HALTED there is no way back. */
void stats_enter(enum serving_state state);

/* Slots can be used by one thread at a time. FILE may be NULL. Exits on failure. */
void stats_open(const char *file, unsigned int slots);
void stats_close(void);
/* Requests that were taken and want a reply, but have none yet. */
uint64_t stats_in_flight(const struct stats_file *f);
/* Status for the process. */
int stats_print(const char *file, const char *name);

/* Only the owner of a slot writes, so this need not be one indivisible step. */
static inline void stats_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n,
			 __ATOMIC_RELAXED);
}

#endif
