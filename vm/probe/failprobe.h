/* SPDX-License-Identifier: GPL-2.0-only */
/* failprobe: the kernel's fault injection. */
#ifndef FAILPROBE_H
#define FAILPROBE_H

#include "ringprobe.h"

#define SWITCHES "/sys/kernel/debug/"

void set_switch(const char *fault, const char *name, unsigned long value);

/* Those of one kind only, and, unless it is NULL, below functions whose names begin with code. */
void choose_faults(const char *kind, const char *code);

void arm(unsigned int n);	/* this task's N-th fault from now on happens */
bool disarm(void);		/* none any more; whether it has happened */

#endif
