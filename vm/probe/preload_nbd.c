// SPDX-License-Identifier: GPL-2.0-only
/*
 * For LD_PRELOAD: whoever tells libnbd that its socket is readable does so once too often, every
 * other time. That is what a wake-up is that comes after the data has been read: rare and up to
 * the scheduler, as the sender queues first and wakes then.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libnbd.h>

int nbd_aio_notify_read(struct nbd_handle *nbd)
{
	static int (*notify)(struct nbd_handle *nbd);
	static __thread unsigned int calls;
	int result;

	if (!notify)
		notify = (int (*)(struct nbd_handle *))dlsym(RTLD_NEXT, "nbd_aio_notify_read");
	result = notify(nbd);
	if (result == 0 && calls++ % 2 == 0)
		result = notify(nbd);
	return result;
}
