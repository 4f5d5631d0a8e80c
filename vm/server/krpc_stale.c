// SPDX-License-Identifier: GPL-2.0-only
/*
 * Replicas that are not like the others any more. Known as long as the server runs: nodes have
 * no place to note it.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "krpc.h"
#include "say.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool replica_is_stale(const struct file *f, unsigned int column, unsigned int replica)
{
	return __atomic_load_n(&f->stale[column][replica], __ATOMIC_ACQUIRE);
}

static void leave_behind(struct file *f, unsigned int column, unsigned int replica,
			 const char *why)
{
	const struct place *p = &columns[column].place[replica];

	if (__atomic_exchange_n(&f->stale[column][replica], true, __ATOMIC_ACQ_REL))
		return;
	count_add(COUNT_STALE, 1);
	say("%s: %s:%s %s and is not used any more", f->name, p->host, p->port, why);
}

void replica_leave_behind(struct file *f, unsigned int column, unsigned int replica)
{
	leave_behind(f, column, replica, "has missed a write");
}

void replicas_doubt(struct file *f, unsigned int column, unsigned int mask)
{
	/* one is always like itself */
	if (!(mask & (mask - 1)))
		return;
	pthread_mutex_lock(&lock);
	__atomic_fetch_or(&f->doubtful[column], mask, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}

void replica_answered(struct file *f, unsigned int column, unsigned int replica)
{
	unsigned int mask;

	if (!__atomic_load_n(&f->doubtful[column], __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&lock);
	mask = f->doubtful[column];
	if (mask & 1U << replica && !replica_is_stale(f, column, replica)) {
		for (unsigned int r = 0; r < columns[column].replicas; r++)
			if (r != replica && mask & 1U << r)
				leave_behind(f, column, r, "may differ after a failed write");
		__atomic_store_n(&f->doubtful[column], 0, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&lock);
}
