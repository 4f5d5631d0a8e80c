// SPDX-License-Identifier: GPL-2.0-only
/*
 * NBD: fixed newstyle negotiation, simple replies
 * (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "krpc.h"

#define NBD_MAGIC 0x4e42444d41474943ULL
#define OPTION_MAGIC 0x49484156454f5054ULL
#define OPTION_REPLY_MAGIC 0x3e889045565a9ULL
#define REQUEST_MAGIC 0x25609513U
#define REPLY_MAGIC 0x67446698U

enum { FLAG_FIXED_NEWSTYLE = 1 << 0, FLAG_NO_ZEROES = 1 << 1 };
enum { OPTION_ABORT = 2, OPTION_LIST = 3, OPTION_GO = 7 };
enum { REPLY_ACK = 1, REPLY_SERVER = 2, REPLY_INFO = 3 };
#define REPLY_ERROR 0x80000000U
enum { INFO_EXPORT = 0 };
enum { EXPORT_READ_ONLY = 1 << 1, EXPORT_FLUSH = 1 << 2, EXPORT_MULTI_CONN = 1 << 8 };

/* Far more than any node says in one answer, and than are said of one export. */
#define MOST_ANSWER 8192
#define MOST_INFOS 64

struct option_request {
	uint64_t magic;
	uint32_t option;
	uint32_t length;
} __attribute__((packed));

struct option_reply {
	uint64_t magic;
	uint32_t option;
	uint32_t type;
	uint32_t length;
} __attribute__((packed));

struct nbd_request {
	uint32_t magic;
	uint16_t flags;
	uint16_t type;
	uint64_t cookie;
	uint64_t offset;
	uint32_t length;
} __attribute__((packed));

static unsigned int header(uint8_t *at, enum operation_kind kind, uint64_t cookie,
			   uint64_t offset, uint32_t length)
{
	static const uint16_t types[] = {
		[NODE_READ] = 0, [NODE_WRITE] = 1, [NODE_FLUSH] = 3,
	};
	struct nbd_request r = {
		.magic = htobe32(REQUEST_MAGIC),
		.type = htobe16(types[kind]),
		.cookie = htobe64(cookie),
		.offset = htobe64(offset),
		.length = htobe32(length),
	};

	memcpy(at, &r, sizeof(r));
	return sizeof(r);
}

static int greet(int sock)
{
	struct {
		uint64_t magic, option_magic;
		uint16_t flags;
	} __attribute__((packed)) hello;
	uint32_t flags = htobe32(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
	int error = node_recv(sock, &hello, sizeof(hello));

	if (error)
		return error;
	if (be64toh(hello.magic) != NBD_MAGIC || be64toh(hello.option_magic) != OPTION_MAGIC ||
	    !(be16toh(hello.flags) & FLAG_FIXED_NEWSTYLE))
		return EPROTO;
	return node_send(sock, &flags, sizeof(flags));
}

static int send_option(int sock, uint32_t option, const void *data, uint32_t length)
{
	struct option_request r = {
		.magic = htobe64(OPTION_MAGIC),
		.option = htobe32(option),
		.length = htobe32(length),
	};
	int error = node_send(sock, &r, sizeof(r));

	return error ? error : node_send(sock, data, length);
}

/* One of perhaps several answers; ended by a NUL. */
static int recv_option(int sock, uint32_t option, uint32_t *type, char data[MOST_ANSWER + 1],
		       uint32_t *length)
{
	struct option_reply r;
	int error = node_recv(sock, &r, sizeof(r));

	if (error)
		return error;
	*type = be32toh(r.type);
	*length = be32toh(r.length);
	if (be64toh(r.magic) != OPTION_REPLY_MAGIC || be32toh(r.option) != option ||
	    *length > MOST_ANSWER)
		return EPROTO;
	data[*length] = 0;
	error = node_recv(sock, data, *length);
	/* there is no such export, for one */
	if (!error && (*type & REPLY_ERROR))
		error = ENXIO;
	return error;
}

static int go(int sock, const char *name, uint64_t *size, uint16_t *flags)
{
	uint32_t length = strlen(name);
	char data[MOST_ANSWER + 1];
	uint32_t type;
	int error;

	/* length and name, and no kinds of information beside the necessary */
	*(uint32_t *)data = htobe32(length);
	memcpy(data + 4, name, length);
	memset(data + 4 + length, 0, 2);
	error = send_option(sock, OPTION_GO, data, 4 + length + 2);
	*flags = 0;
	for (unsigned int i = 0; !error; i++) {
		error = i > MOST_INFOS ? EPROTO :
			recv_option(sock, OPTION_GO, &type, data, &length);
		if (error || type == REPLY_ACK)
			break;
		if (type == REPLY_INFO && length >= 12 && !data[0] && data[1] == INFO_EXPORT) {
			memcpy(size, data + 2, sizeof(*size));
			memcpy(flags, data + 10, sizeof(*flags));
			*size = be64toh(*size);
			*flags = be16toh(*flags);
		}
	}
	return error;
}

static int nbd_open(int sock, const char *name, uint64_t *size, bool *read_only)
{
	uint16_t flags = 0;
	int error = greet(sock);

	if (!error)
		error = go(sock, name, size, &flags);
	/*
	 * Each thread has a connection, and the FLUSH of one must hold for what went
	 * through the others.
	 */
	*read_only = (flags & EXPORT_READ_ONLY) || !(flags & EXPORT_FLUSH) ||
		     !(flags & EXPORT_MULTI_CONN);
	return error;
}

static int nbd_list(int sock, void (*each)(const char *name))
{
	char data[MOST_ANSWER + 1];
	uint32_t type, length;
	int error = greet(sock);

	if (!error)
		error = send_option(sock, OPTION_LIST, "", 0);
	while (!error) {
		uint32_t name;

		error = recv_option(sock, OPTION_LIST, &type, data, &length);
		if (error || type == REPLY_ACK)
			break;
		if (type != REPLY_SERVER || length < 4)
			return EPROTO;
		name = be32toh(*(uint32_t *)data);
		if (name > length - 4)
			return EPROTO;
		/* what else is said of it may follow */
		data[4 + name] = 0;
		each(data + 4);
	}
	if (!error)
		send_option(sock, OPTION_ABORT, "", 0);
	return error;
}

const struct framing framing_nbd = {
	.name = "nbd",
	.answer = {
		.flags = PCS_KRPC_BIG_ENDIAN | PCS_KRPC_STATUS_OF_MSG,
		.hdr_len = 16,
		.magic_value = REPLY_MAGIC,
		.magic = { 0, 4 },
		.status = { 4, 4 },
		.cookie = { 8, 8 },
	},
	.header = header,
	.open = nbd_open,
	.list = nbd_list,
};
