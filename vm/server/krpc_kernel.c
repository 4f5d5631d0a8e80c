// SPDX-License-Identifier: GPL-2.0-only
/* Messages by /dev/fuse-krpc: as ioctls, or as commands of the thread's own io_uring. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "krpc.h"
#include "say.h"
#include "session.h"

static void polled(struct awaited *a, int result);

int kernel_adopt(struct link *l)
{
	struct pcs_krpc_adopt adopt = {
		.sockfd = l->sock,
		.devfd = session.fd,
		.timeout_ms = krpc.timeout,
		.framing = krpc.framing->answer,
	};
	int error;

	l->endpoint = open(KRPC_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (l->endpoint < 0)
		return errno;
	if (ioctl(l->endpoint, PCS_KRPC_IOC_ADOPT, &adopt) < 0) {
		error = errno;
		close(l->endpoint);
		l->endpoint = -1;
		return error;
	}
	l->polled.done = polled;
	count_endpoint(l->endpoint, true);
	return 0;
}

void kernel_close(struct link *l)
{
	count_endpoint(l->endpoint, false);
	close(l->endpoint);
	l->endpoint = -1;
	l->region_count = 0;
}

/* The region that the memory is in, made when it is new. 0: it can not be registered. */
static uint32_t region_of(struct link *l, const struct iovec *memory)
{
	struct pcs_krpc_mr mr = {
		.addr = (uintptr_t)memory->iov_base, .len = memory->iov_len,
	};
	struct region *r;

	for (r = l->regions; r < l->regions + l->region_count; r++)
		if (r->memory.iov_base == memory->iov_base)
			return r->id;
	r = realloc(l->regions, (l->region_count + 1) * sizeof(*r));
	if (!r)
		return 0;
	l->regions = r;
	if (ioctl(l->endpoint, PCS_KRPC_IOC_REG_MR, &mr) < 0)
		return 0;
	r[l->region_count++] = (struct region){ *memory, mr.mr_id };
	return mr.mr_id;
}

static void describe_placed(struct message *m)
{
	for (unsigned int i = 0; i < m->pieces; i++) {
		struct pcs_krpc_buf_desc_zc *d = (struct pcs_krpc_buf_desc_zc *)&m->buffer[i];

		*d = (struct pcs_krpc_buf_desc_zc){
			.type = PCS_KRPC_BUF_TYPE_ZC,
			.len = m->piece[i].length,
			.unique = m->work->unique,
			.devfd = session.fd,
			.offset = m->piece[i].offset,
		};
	}
}

static void describe_memory(struct link *l, struct message *m)
{
	const struct work *w = m->work;
	bool registered = w->kind == NODE_WRITE || (krpc.mode == MODE_MR && !w->in_chunks);
	uint32_t region = registered ? region_of(l, &w->memory) : 0;

	/* the work may come to be no reply in sections before this message has ended */
	m->aside = w->in_chunks;
	for (unsigned int i = 0; i < m->pieces; i++)
		m->buffer[i] = (struct pcs_krpc_buf_desc){
			.type = region ? PCS_KRPC_BUF_TYPE_MR : PCS_KRPC_BUF_TYPE_UMEM,
			.len = m->piece[i].length,
			.addr = (uintptr_t)message_memory(m, m->piece[i].offset),
			.mr_id = region,
		};
}

static void uring_done(struct awaited *a, int result)
{
	struct message *m = AWAITED_IN(struct message, done, a);

	message_ended(m, result, m->recv.status);
}

static void submit_uring(struct link *l, struct message *m)
{
	struct io_uring_sqe *sqe;
	uint64_t address = (uintptr_t)&m->send;

	/* that a node refuses says the result; why, matters when it has done so again */
	m->recv.status = 0;
	if (m->refusals)
		m->send.recv = (uintptr_t)&m->recv;
	m->done.done = uring_done;
	sqe = loop_sqe(l->thread->loop, &m->done);
	if (!sqe)
		return;
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = l->endpoint;
	sqe->cmd_op = PCS_KRPC_CMD_SEND_MSG;
	memcpy(sqe->cmd, &address, sizeof(address));
}

static void submit_ioctl(struct link *l, struct message *m)
{
	if (ioctl(l->endpoint, PCS_KRPC_IOC_SEND_MSG, &m->send) < 0) {
		message_ended(m, -errno, 0);
		return;
	}
	if (l->polling)
		return;
	l->polling = true;
	loop_poll(l->thread->loop, l->endpoint, POLLIN, &l->polled);
}

/* Messages have ended, and be it because the connection has. */
static void polled(struct awaited *a, int result)
{
	struct link *l = AWAITED_IN(struct link, polled, a);
	struct pcs_krpc_recv recv;

	(void)result;
	while (l->first && ioctl(l->endpoint, PCS_KRPC_IOC_RECV_MSG, &recv) == 0)
		message_ended((struct message *)(uintptr_t)recv.user_data, recv.res,
			      recv.status);
	l->polling = false;
	if (l->first) {
		l->polling = true;
		loop_poll(l->thread->loop, l->endpoint, POLLIN, &l->polled);
	} else {
		link_idle(l);
	}
}

void kernel_submit(struct link *l, struct message *m)
{
	unsigned int sent = 0, received = 0;

	if (message_is_placed(m))
		describe_placed(m);
	else
		describe_memory(l, m);
	*(m->work->kind == NODE_WRITE ? &sent : &received) = m->pieces;
	m->send = (struct pcs_krpc_send){
		.xid = m->cookie,
		.user_data = (uintptr_t)m,
		.hdr = {
			.type = PCS_KRPC_BUF_TYPE_UMEM,
			.len = m->header_length,
			.addr = (uintptr_t)m->header,
		},
		.chunks = (uintptr_t)m->buffer,
		.nr_send = sent,
		.nr_recv = received,
	};
	if (krpc.submit == SUBMIT_URING)
		submit_uring(l, m);
	else
		submit_ioctl(l, m);
}
