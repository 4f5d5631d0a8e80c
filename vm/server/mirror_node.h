/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The table of inodes the kernel knows: each holds an O_PATH descriptor of the
 * mirrored inode, so that device and inode number stay unique while it is known.
 */
#ifndef NODE_H
#define NODE_H

#include <stdbool.h>
#include <sys/stat.h>

#include "fuse_proto.h"

/* Takes over ROOT. */
void node_init(int root, const struct stat *st);
void node_close_all(void);

/* Its descriptor, or -ESTALE when there is no such node. */
int node_fd(uint64_t id);

/* One more lookup of a node that is known already; false: it is not. */
bool node_find(const struct stat *st, struct fuse_entry_out *entry);
/* One lookup of a node; takes over its descriptor. 0 or negative error number. */
int node_add(int fd, const struct stat *st, struct fuse_entry_out *entry);

void node_forget(uint64_t id, uint64_t lookups);

#endif
