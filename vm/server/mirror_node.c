// SPDX-License-Identifier: GPL-2.0-only
/*
 * Node ids are indices, not pointers: a wrong one is refused, never followed. The
 * table is divided into shards by the hash of the inode; a shard has its own lock,
 * hash chains and slots, and slots come in chunks that never move. Finding a node
 * by its id takes no lock: the kernel does not use an id it has forgotten.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "mirror_node.h"

#define SHARD_BITS 6
#define SHARDS (1u << SHARD_BITS)
#define CHUNK_BITS 8
#define CHUNK (1u << CHUNK_BITS)
#define CHUNKS 4096u		/* of a shard; more nodes than there can be descriptors */

struct node {
	int fd;			/* -1: slot is free */
	uint32_t next;		/* in hash chain or list of free ones; 0 ends it */
	uint64_t lookups;
	uint64_t generation;	/* new for each use of the slot */
	uint64_t dev;
	uint64_t ino;
};

struct shard {
	pthread_mutex_t lock;
	uint32_t *heads;
	uint32_t heads_mask;
	uint32_t used;
	uint32_t free;
	uint32_t top;		/* slots from here on were never used; 0 is none's */
	struct node *chunks[CHUNKS];
} __attribute__((aligned(128)));

static struct shard shards[SHARDS];
static struct node root_node;

static uint64_t hash_of(uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ (dev << 32 | dev >> 32)) * 0x9e3779b97f4a7c15ULL;

	return h ^ h >> 29;
}

static struct node *slot_of(struct shard *s, uint32_t slot)
{
	struct node *chunk = __atomic_load_n(&s->chunks[slot >> CHUNK_BITS], __ATOMIC_ACQUIRE);

	return chunk ? &chunk[slot & (CHUNK - 1)] : NULL;
}

static struct node *node_of(uint64_t id)
{
	uint64_t slot = id >> SHARD_BITS;

	if (slot == 0 || slot >= (uint64_t)CHUNKS << CHUNK_BITS)
		return NULL;
	return slot_of(&shards[id & (SHARDS - 1)], slot);
}

void node_init(int root, const struct stat *st)
{
	root_node = (struct node){ .fd = root, .dev = st->st_dev, .ino = st->st_ino };
	for (unsigned int i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&shards[i].lock, NULL);
		shards[i].top = 1;
	}
}

void node_close_all(void)
{
	for (unsigned int i = 0; i < SHARDS; i++) {
		struct shard *s = &shards[i];

		for (uint32_t slot = 1; slot < s->top; slot++)
			if (slot_of(s, slot)->fd >= 0)
				close(slot_of(s, slot)->fd);
		for (unsigned int c = 0; c < CHUNKS; c++)
			free(s->chunks[c]);
		free(s->heads);
	}
	close(root_node.fd);
}

int node_fd(uint64_t id)
{
	struct node *n;
	int fd;

	if (id == FUSE_ROOT_ID)
		return root_node.fd;
	n = node_of(id);
	fd = n ? __atomic_load_n(&n->fd, __ATOMIC_RELAXED) : -1;
	return fd >= 0 ? fd : -ESTALE;
}

/* Slot of an inode, 0 when unknown. Under the shard's lock. */
static uint32_t find(struct shard *s, uint64_t hash, uint64_t dev, uint64_t ino)
{
	uint32_t slot = s->heads ? s->heads[hash >> SHARD_BITS & s->heads_mask] : 0;

	while (slot) {
		struct node *n = slot_of(s, slot);

		if (n->ino == ino && n->dev == dev)
			break;
		slot = n->next;
	}
	return slot;
}

static void fill(struct fuse_entry_out *entry, uint32_t slot, uint64_t hash, struct node *n)
{
	entry->nodeid = (uint64_t)slot << SHARD_BITS | (hash & (SHARDS - 1));
	entry->generation = n->generation;
}

static bool is_root(const struct stat *st, struct fuse_entry_out *entry)
{
	if (st->st_ino != root_node.ino || st->st_dev != root_node.dev)
		return false;
	entry->nodeid = FUSE_ROOT_ID;
	entry->generation = 0;
	return true;
}

bool node_find(const struct stat *st, struct fuse_entry_out *entry)
{
	uint64_t hash = hash_of(st->st_dev, st->st_ino);
	struct shard *s = &shards[hash & (SHARDS - 1)];
	uint32_t slot;

	if (is_root(st, entry))
		return true;
	pthread_mutex_lock(&s->lock);
	slot = find(s, hash, st->st_dev, st->st_ino);
	if (slot) {
		slot_of(s, slot)->lookups++;
		fill(entry, slot, hash, slot_of(s, slot));
	}
	pthread_mutex_unlock(&s->lock);
	return slot;
}

/* More chains when there are more nodes than chains; without memory, longer ones. */
static int grow_heads(struct shard *s)
{
	uint32_t count = s->heads ? 2 * (s->heads_mask + 1) : 64;
	uint32_t *heads;

	if (s->heads && s->used <= s->heads_mask)
		return 0;
	heads = calloc(count, sizeof(*heads));
	if (!heads)
		return s->heads ? 0 : -ENOMEM;
	for (uint32_t slot = 1; slot < s->top; slot++) {
		struct node *n = slot_of(s, slot);
		uint32_t *head;

		if (n->fd < 0)
			continue;
		head = &heads[hash_of(n->dev, n->ino) >> SHARD_BITS & (count - 1)];
		n->next = *head;
		*head = slot;
	}
	free(s->heads);
	s->heads = heads;
	s->heads_mask = count - 1;
	return 0;
}

/* A free slot, 0 when there is none. */
static uint32_t take_slot(struct shard *s)
{
	uint32_t slot = s->free;
	struct node *chunk;

	if (slot) {
		s->free = slot_of(s, slot)->next;
		return slot;
	}
	slot = s->top;
	if (slot >> CHUNK_BITS >= CHUNKS)
		return 0;
	if (!slot_of(s, slot)) {
		chunk = calloc(CHUNK, sizeof(*chunk));
		if (!chunk)
			return 0;
		for (unsigned int i = 0; i < CHUNK; i++)
			chunk[i].fd = -1;
		__atomic_store_n(&s->chunks[slot >> CHUNK_BITS], chunk, __ATOMIC_RELEASE);
	}
	s->top++;
	return slot;
}

int node_add(int fd, const struct stat *st, struct fuse_entry_out *entry)
{
	uint64_t hash = hash_of(st->st_dev, st->st_ino);
	struct shard *s = &shards[hash & (SHARDS - 1)];
	struct node *n;
	uint32_t slot;

	if (is_root(st, entry)) {
		close(fd);
		return 0;
	}
	pthread_mutex_lock(&s->lock);
	slot = find(s, hash, st->st_dev, st->st_ino);
	if (slot) {
		n = slot_of(s, slot);
	} else {
		uint32_t *head;

		slot = grow_heads(s) ? 0 : take_slot(s);
		if (!slot) {
			pthread_mutex_unlock(&s->lock);
			close(fd);
			return -ENOMEM;
		}
		n = slot_of(s, slot);
		n->dev = st->st_dev;
		n->ino = st->st_ino;
		n->lookups = 0;
		n->generation++;
		head = &s->heads[hash >> SHARD_BITS & s->heads_mask];
		n->next = *head;
		*head = slot;
		s->used++;
		__atomic_store_n(&n->fd, fd, __ATOMIC_RELAXED);
		fd = -1;
	}
	n->lookups++;
	fill(entry, slot, hash, n);
	pthread_mutex_unlock(&s->lock);
	if (fd >= 0)
		close(fd);	/* another thread was faster */
	return 0;
}

void node_forget(uint64_t id, uint64_t lookups)
{
	struct shard *s = &shards[id & (SHARDS - 1)];
	struct node *n = node_of(id);
	uint32_t slot = id >> SHARD_BITS;
	uint32_t *at;
	int fd = -1;

	if (!n)
		return;
	pthread_mutex_lock(&s->lock);
	if (n->fd >= 0) {
		n->lookups -= lookups < n->lookups ? lookups : n->lookups;
		if (n->lookups == 0) {
			at = &s->heads[hash_of(n->dev, n->ino) >> SHARD_BITS & s->heads_mask];
			while (*at != slot)
				at = &slot_of(s, *at)->next;
			*at = n->next;
			n->next = s->free;
			s->free = slot;
			s->used--;
			fd = n->fd;
			__atomic_store_n(&n->fd, -1, __ATOMIC_RELAXED);
		}
	}
	pthread_mutex_unlock(&s->lock);
	if (fd >= 0)
		close(fd);
}
