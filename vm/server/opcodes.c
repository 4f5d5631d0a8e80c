// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <stddef.h>
#include <string.h>

#include "fuse_proto.h"
#include "opcodes.h"

#define NAME(opcode) [FUSE_##opcode] = #opcode

static const char *const names[PROTO_OPCODES] = {
	NAME(LOOKUP), NAME(FORGET), NAME(GETATTR), NAME(SETATTR), NAME(READLINK),
	NAME(SYMLINK), NAME(MKNOD), NAME(MKDIR), NAME(UNLINK), NAME(RMDIR), NAME(RENAME),
	NAME(LINK), NAME(OPEN), NAME(READ), NAME(WRITE), NAME(STATFS), NAME(RELEASE),
	NAME(FSYNC), NAME(SETXATTR), NAME(GETXATTR), NAME(LISTXATTR), NAME(REMOVEXATTR),
	NAME(FLUSH), NAME(INIT), NAME(OPENDIR), NAME(READDIR), NAME(RELEASEDIR),
	NAME(FSYNCDIR), NAME(GETLK), NAME(SETLK), NAME(SETLKW), NAME(ACCESS), NAME(CREATE),
	NAME(INTERRUPT), NAME(BMAP), NAME(DESTROY), NAME(IOCTL), NAME(POLL),
	NAME(NOTIFY_REPLY), NAME(BATCH_FORGET), NAME(FALLOCATE), NAME(READDIRPLUS),
	NAME(RENAME2), NAME(LSEEK), NAME(COPY_FILE_RANGE), NAME(SETUPMAPPING),
	NAME(REMOVEMAPPING), NAME(SYNCFS), NAME(TMPFILE),
	[PROTO_STATX] = "STATX",
	[PROTO_COPY_FILE_RANGE_64] = "COPY_FILE_RANGE_64",
};

const char *opcode_name(unsigned int opcode)
{
	return opcode < PROTO_OPCODES ? names[opcode] : NULL;
}

int opcode_by_name(const char *name)
{
	for (unsigned int i = 0; i < PROTO_OPCODES; i++)
		if (names[i] && !strcmp(names[i], name))
			return i;
	return -1;
}
