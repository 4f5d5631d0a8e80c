/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Pausing a server whose threads all have a loop: what has begun is finished, nothing
 * new is begun, until it is resumed. By signals: SIGUSR2 drains, SIGCONT resumes.
 * "state" and "in_flight" among the counters tell how far it is.
 */
#ifndef DRAIN_H
#define DRAIN_H

#include <stdbool.h>

/* By the main thread only. */
void drain(bool wanted);
/* All threads have paused and no request is without reply. */
bool drain_is_done(void);

bool drain_is_wanted(void);

#endif
