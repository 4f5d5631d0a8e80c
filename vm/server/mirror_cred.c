// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who acts. Threads have ids and capabilities of their own, by the system calls
 * (libc's wrappers change all threads). They stay as they are until a request wants
 * them otherwise, so that a run of requests of one user costs nothing.
 *
 * Permissions were checked by the kernel (default_permissions) with all the caller's
 * groups, which the server does not know; all capabilities are kept, and the ids only
 * say whose a new file is.
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mirror.h"

static __thread struct {
	uint32_t uid;
	uint32_t gid;
	bool lost_suid;		/* without CAP_FSETID */
} now;

void mirror_cred_keep_suid(bool keep)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	if (keep != now.lost_suid)
		return;
	if (syscall(SYS_capget, &header, data) < 0)
		return;
	if (keep)
		data[CAP_TO_INDEX(CAP_FSETID)].effective |= CAP_TO_MASK(CAP_FSETID);
	else
		data[CAP_TO_INDEX(CAP_FSETID)].effective &= ~CAP_TO_MASK(CAP_FSETID);
	if (syscall(SYS_capset, &header, data) == 0)
		now.lost_suid = !keep;
}

void mirror_cred_caller(const struct request *rq)
{
	if (rq->in->gid != now.gid) {
		syscall(SYS_setfsgid, rq->in->gid);
		now.gid = rq->in->gid;
	}
	if (rq->in->uid != now.uid) {
		syscall(SYS_setfsuid, rq->in->uid);
		now.uid = rq->in->uid;
	}
	mirror_cred_keep_suid(true);
}
