// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include "later.h"
#include "ops.h"

static int finish_getlk(struct request *rq, int result)
{
	(void)rq;
	(void)result;
	return sizeof(struct fuse_lk_out);
}

static int run_getlk(struct request *rq)
{
	struct fuse_lk_out *out = (struct fuse_lk_out *)rq->out;

	METHOD(getlk);
	return session.backend->getlk(rq, rq->in->nodeid, rq->arg, &out->lk);
}

static int run_setlk(struct request *rq)
{
	METHOD(setlk);
	return session.backend->setlk(rq, rq->in->nodeid, rq->arg, false);
}

static int run_setlkw(struct request *rq)
{
	METHOD(setlk);
	return session.backend->setlk(rq, rq->in->nodeid, rq->arg, true);
}

/* Needs no reply: what is still to come is remembered (later.c). */
static int run_interrupt(struct request *rq)
{
	const struct fuse_interrupt_in *in = rq->arg;

	later_interrupt(in->unique);
	return REPLY_NONE;
}

const struct operation op_getlk = { run_getlk, sizeof(struct fuse_lk_in), finish_getlk };
const struct operation op_setlk = { run_setlk, sizeof(struct fuse_lk_in), NULL };
const struct operation op_setlkw = { run_setlkw, sizeof(struct fuse_lk_in), NULL };
const struct operation op_interrupt = { run_interrupt, sizeof(struct fuse_interrupt_in), NULL };
