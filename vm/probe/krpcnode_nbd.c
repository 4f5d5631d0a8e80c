// SPDX-License-Identifier: GPL-2.0-only
/*
 * An NBD server's greeting, and then nonsense. "list": it breaks off a list of exports after the
 * first name, which is "one". "info": about an export it has something to say without end.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "krpcnode.h"

enum { OPTION_LIST = 3, OPTION_GO = 7 };
enum { REPLY_SERVER = 2, REPLY_INFO = 3 };

struct option {
	uint64_t magic;
	uint32_t option;
	uint32_t length;
} __attribute__((packed));

struct reply {
	uint64_t magic;
	uint32_t option;
	uint32_t type;
	uint32_t length;
	char data[16];
} __attribute__((packed));

static bool say(int sock, const void *data, size_t size)
{
	return send(sock, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static bool reply(int sock, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
	struct reply r = {
		.magic = htobe64(0x3e889045565a9ULL),
		.option = htobe32(option),
		.type = htobe32(type),
		.length = htobe32(length),
	};

	memcpy(r.data, data, length);
	return say(sock, &r, offsetof(struct reply, data) + length);
}

void nbd_misbehave(int sock, const char *how)
{
	/* fixed newstyle, and no zeroes */
	static const char hello[] = "NBDMAGIC" "IHAVEOPT" "\0\3", info[12] = "";
	char data[4096];
	struct option o;

	if (!say(sock, hello, sizeof(hello) - 1) || !receive(sock, data, 4))
		return;
	while (receive(sock, &o, sizeof(o))) {
		uint32_t option = be32toh(o.option), length = be32toh(o.length);

		if (length > sizeof(data) || !receive(sock, data, length))
			return;
		if (option == OPTION_LIST && !strcmp(how, "list"))
			reply(sock, option, REPLY_SERVER, "\0\0\0\3one", 7);
		if (option != OPTION_GO || strcmp(how, "info"))
			return;
		while (reply(sock, option, REPLY_INFO, info, sizeof(info)))
			;
	}
}
