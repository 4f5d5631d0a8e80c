// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "krpc.h"
#include "krpc_le.h"

#define MOST_ANSWER 65536

static unsigned int header(uint8_t *at, enum operation_kind kind, uint64_t cookie,
			   uint64_t offset, uint32_t length)
{
	static const uint16_t operations[] = {
		[NODE_READ] = LE_READ, [NODE_WRITE] = LE_WRITE, [NODE_FLUSH] = LE_FLUSH,
	};
	struct le_request r = {
		.length = htole32(sizeof(r) + (kind == NODE_WRITE ? length : 0)),
		.count = htole32(kind == NODE_READ ? length : 0),
		.cookie = htole64(cookie),
		.offset = htole64(offset),
		.operation = htole16(operations[kind]),
	};

	memcpy(at, &r, sizeof(r));
	return sizeof(r);
}

static int send_padding(int sock, size_t size)
{
	static const char zeros[PCS_KRPC_MSG_ALIGNMENT];

	return node_send(sock, zeros, framing_padding(&krpc.framing->answer, size));
}

static int recv_padding(int sock, size_t size)
{
	char rest[PCS_KRPC_MSG_ALIGNMENT];

	return node_recv(sock, rest, framing_padding(&krpc.framing->answer, size));
}

/* Ask and wait for the answer's payload. 0 or an error number. */
static int ask(int sock, enum le_operation operation, const char *name, char *data,
	       size_t most, uint32_t *length)
{
	size_t name_length = strlen(name);
	struct le_request r = {
		.length = htole32(sizeof(r) + name_length), .operation = htole16(operation),
	};
	struct le_answer a;
	int error = node_send(sock, &r, sizeof(r));

	if (!error)
		error = node_send(sock, name, name_length);
	if (!error)
		error = send_padding(sock, sizeof(r) + name_length);
	if (!error)
		error = node_recv(sock, &a, sizeof(a));
	if (error)
		return error;
	*length = le32toh(a.length) - sizeof(a);
	if (le16toh(a.magic) != LE_MAGIC || *length > most)
		return EPROTO;
	error = node_recv(sock, data, *length);
	if (!error)
		error = recv_padding(sock, sizeof(a) + *length);
	return error ? error : le16toh(a.status);
}

static int le_open(int sock, const char *name, uint64_t *size, bool *read_only)
{
	struct le_opened opened;
	uint32_t length;
	int error = ask(sock, LE_OPEN, name, (char *)&opened, sizeof(opened), &length);

	if (error)
		return error;
	if (length != sizeof(opened))
		return EPROTO;
	*size = le64toh(opened.size);
	*read_only = opened.read_only;
	return 0;
}

static int le_list(int sock, void (*each)(const char *name))
{
	static char names[MOST_ANSWER];
	uint32_t length;
	int error = ask(sock, LE_LIST, "", names, sizeof(names), &length);

	if (error)
		return error;
	if (length && names[length - 1])
		return EPROTO;
	for (char *at = names; at < names + length; at += strlen(at) + 1)
		each(at);
	return 0;
}

#define LE_ANSWER(more) { \
	.flags = PCS_KRPC_LENGTH_HAS_HEADER | PCS_KRPC_STATUS_OF_MSG | (more), \
	.hdr_len = sizeof(struct le_answer), \
	.magic_value = LE_MAGIC, \
	.length = { 0, 4 }, \
	.cookie = { 4, 8 }, \
	.magic = { 12, 2 }, \
	.status = { 14, 2 }, \
}

const struct framing framing_le = {
	.name = "le", .answer = LE_ANSWER(0), .header = header, .open = le_open, .list = le_list,
};
const struct framing framing_le_padded = {
	.name = "le-padded", .answer = LE_ANSWER(PCS_KRPC_PADDED), .header = header,
	.open = le_open, .list = le_list,
};
