/* SPDX-License-Identifier: GPL-2.0-only */
/* exportprobe: an exported image, tried out. Judging and patterns are fsprobe's. */
#ifndef EXPORTPROBE_H
#define EXPORTPROBE_H

#include "fsprobe.h"

/* FILE MODE STEP...: single calls, told one by one. */
void probe_steps(int argc, char **argv);
/* FILE JOBS DEPTH OPERATIONS [FIRST_BLOCK]: many requests at once, verified. */
void probe_load(int argc, char **argv);
/* FILE JOURNAL [BLOCKS]: write and sync until it fails, noting what is safe. */
void probe_journal(int argc, char **argv);
/* FILE JOURNAL [BLOCKS]: is all there that was noted as safe? */
void probe_verify(int argc, char **argv);
/* TOPIC SERVER [ARGUMENT...]: what the kernel would never send. */
void probe_kernel(int argc, char **argv);
/* PID N: shut down the N'th of its sockets. */
void probe_cut(int argc, char **argv);

#endif
