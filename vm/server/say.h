/* SPDX-License-Identifier: GPL-2.0-only */
/* What the server has to say, on stderr, after its own name. */
#ifndef SAY_H
#define SAY_H

void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* "WHAT: " and what errno says. Returns 1, the exit status. */
int complain(const char *what);

#endif
