/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef OPCODES_H
#define OPCODES_H

/* Name without prefix ("GETATTR"); NULL when there is no such opcode. */
const char *opcode_name(unsigned int opcode);
/* -1 when there is no such name. */
int opcode_by_name(const char *name);

#endif
