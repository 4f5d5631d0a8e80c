// SPDX-License-Identifier: GPL-2.0-only
/* Counters: those of endpoints, which the kernel has, and the server's own. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "krpc.h"

static const char *const names[COUNTS] = {
	[COUNT_MSGS_SENT] = "krpc_msgs_sent",
	[COUNT_MSGS_DONE] = "krpc_msgs_done",
	[COUNT_PLACED] = "krpc_bytes_placed",
	[COUNT_COPIED] = "krpc_bytes_copied",
	[COUNT_DRAINED] = "krpc_bytes_drained",
	[COUNT_SENT] = "krpc_bytes_sent",
	[COUNT_SENT_COPIED] = "krpc_bytes_sent_copied",
	[COUNT_CONNECTS] = "node_connects",
	[COUNT_FAILED_CONNECTS] = "node_failed_connects",
	[COUNT_LOST] = "node_lost",
	[COUNT_TIMEOUTS] = "node_timeouts",
	[COUNT_REFUSED] = "node_errors",
	[COUNT_MOVED] = "node_failovers",
	[COUNT_STALE] = "node_stale",
	[COUNT_PLAIN] = "plain_bytes_received",
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int *endpoints;
static unsigned int endpoint_count;
static struct pcs_krpc_stats closed;	/* of endpoints that are no more */

void count_start(void)
{
	_Static_assert(COUNTS <= STATS_OWN, "counters");
	for (unsigned int i = 0; i < COUNTS; i++)
		strcpy(stats->own_name[i], names[i]);
}

void count_add(enum count which, uint64_t n)
{
	__atomic_fetch_add(&stats->own[which], n, __ATOMIC_RELAXED);
}

static void add(struct pcs_krpc_stats *sum, int endpoint)
{
	struct pcs_krpc_stats one;
	const uint64_t *from = (const uint64_t *)&one;
	uint64_t *to = (uint64_t *)sum;

	if (ioctl(endpoint, PCS_KRPC_IOC_STATS, &one) < 0)
		return;
	for (size_t i = 0; i < sizeof(one) / sizeof(*from); i++)
		to[i] += from[i];
}

void count_endpoint(int endpoint, bool there)
{
	unsigned int i = 0;
	int *more;

	pthread_mutex_lock(&lock);
	if (there) {
		more = realloc(endpoints, (endpoint_count + 1) * sizeof(*more));
		if (more) {
			endpoints = more;
			endpoints[endpoint_count++] = endpoint;
		}
	} else {
		while (i < endpoint_count && endpoints[i] != endpoint)
			i++;
		if (i < endpoint_count) {
			endpoints[i] = endpoints[--endpoint_count];
			add(&closed, endpoint);
		}
	}
	pthread_mutex_unlock(&lock);
	if (!there)
		count_update();
}

void count_update(void)
{
	struct pcs_krpc_stats sum;

	pthread_mutex_lock(&lock);
	sum = closed;
	for (unsigned int i = 0; i < endpoint_count; i++)
		add(&sum, endpoints[i]);
	memcpy(stats->own, &sum, sizeof(sum));
	pthread_mutex_unlock(&lock);
}
