/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KRPCNODE_H
#define KRPCNODE_H

#include <stdbool.h>
#include <stddef.h>

bool receive(int sock, void *data, size_t size);
void nbd_misbehave(int sock, const char *how);

#endif
