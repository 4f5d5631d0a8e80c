/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The protocol of krpcnode, which is as unlike NBD as can be: little-endian, lengths
 * first, the cookie elsewhere, answers may be short, and all may be padded to
 * PCS_KRPC_MSG_ALIGNMENT. Said by the one who connects, each message is answered.
 */
#ifndef KRPC_LE_H
#define KRPC_LE_H

#include <stdint.h>

#define LE_MAGIC 0x6b6e

enum le_operation {
	LE_LIST = 1,	/* answer: names, each with its NUL */
	LE_OPEN,	/* payload: a name; answer: struct le_opened */
	LE_READ,	/* of what was opened; answer: as much as there is of it */
	LE_WRITE,
	LE_FLUSH,
};

struct le_request {
	uint32_t length;	/* of header and payload, without padding */
	uint32_t count;		/* READ: bytes that are wanted */
	uint64_t cookie;
	uint64_t offset;
	uint16_t operation;
	uint16_t reserved[3];
} __attribute__((packed));

struct le_answer {
	uint32_t length;	/* likewise */
	uint64_t cookie;
	uint16_t magic;
	uint16_t status;	/* error number, 0: none */
} __attribute__((packed));

struct le_opened {
	uint64_t size;
	uint32_t read_only;
} __attribute__((packed));

_Static_assert(sizeof(struct le_request) == 32 && sizeof(struct le_answer) == 16 &&
	       sizeof(struct le_opened) == 12, "messages");

#endif
