// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "say.h"

void say(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* one call, so that lines of several threads stay whole */
	fprintf(stderr, "%s: %s\n", program_invocation_short_name, text);
}

int complain(const char *what)
{
	say("%s: %s", what, strerror(errno));
	return 1;
}
