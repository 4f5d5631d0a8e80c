// SPDX-License-Identifier: GPL-2.0-only
/* Messages without krpc: sent and received by the thread's io_uring, in the order they come. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "krpc.h"

static const char zeros[PCS_KRPC_MSG_ALIGNMENT];

/* What is under way ends with the connection; then its messages do. */
void plain_break(struct link *l)
{
	struct message *m;

	if (l->state != LINK_BROKEN || l->sending || l->receiving)
		return;
	l->unsent = NULL;
	l->unsent_last = &l->unsent;
	while ((m = l->first))
		message_ended(m, -ECONNRESET, 0);
	link_idle(l);
}

/* ------------------------------------------------------------------- sending */

/* Header, payload of a WRITE, padding. Returns the bytes. */
static size_t gather(struct link *l, struct message *m)
{
	unsigned int count = 0;
	size_t size = 0;

	m->vec[count++] = (struct iovec){ m->header, m->header_length };
	for (unsigned int i = 0; m->work->kind == NODE_WRITE && i < m->pieces; i++)
		m->vec[count++] = (struct iovec){
			message_memory(m, m->piece[i].offset), m->piece[i].length,
		};
	for (unsigned int i = 0; i < count; i++)
		size += m->vec[i].iov_len;
	if (framing_padding(&krpc.framing->answer, size)) {
		size_t padding = framing_padding(&krpc.framing->answer, size);

		m->vec[count++] = (struct iovec){ (void *)zeros, padding };
		size += padding;
	}
	m->msg = (struct msghdr){ .msg_iov = m->vec, .msg_iovlen = count };
	l->tx_size = size;
	return size;
}

/*
 * As much of it as there is room for: for all of it, io_uring might come to wait in another
 * thread, and tell of the end later than of the node's answer.
 */
static void send_some(struct link *l)
{
	struct io_uring_sqe *sqe = loop_sqe(l->thread->loop, &l->sent);

	if (!sqe)
		return;
	io_uring_prep_sendmsg(sqe, l->sock, &l->sending_one->msg, MSG_NOSIGNAL);
	l->sending = true;
}

static void send_next(struct link *l)
{
	struct message *m = l->unsent;

	if (!m)
		return;
	l->unsent = m->next_unsent;
	if (!l->unsent)
		l->unsent_last = &l->unsent;
	gather(l, m);
	l->sending_one = m;
	send_some(l);
}

static void skip(struct msghdr *msg, size_t size)
{
	for (; size >= msg->msg_iov->iov_len; msg->msg_iovlen--)
		size -= msg->msg_iov++->iov_len;
	msg->msg_iov->iov_base = (char *)msg->msg_iov->iov_base + size;
	msg->msg_iov->iov_len -= size;
}

static void sent(struct awaited *a, int result)
{
	struct link *l = AWAITED_IN(struct link, sent, a);

	l->sending = false;
	if (l->state == LINK_BROKEN) {
		plain_break(l);
		return;
	}
	if (result <= 0) {
		link_break(l, result < 0 ? -result : ECONNRESET);
		return;
	}
	l->tx_size -= result;
	if (l->tx_size) {
		skip(&l->sending_one->msg, result);
		send_some(l);
		return;
	}
	l->sending_one->is_sent = true;
	send_next(l);
}

void plain_submit(struct link *l, struct message *m)
{
	m->is_sent = false;
	m->next_unsent = NULL;
	*l->unsent_last = m;
	l->unsent_last = &m->next_unsent;
	if (!l->sending)
		send_next(l);
}

/* ----------------------------------------------------------------- receiving */

static void receive(struct link *l, struct iovec *vec, unsigned int count, uint32_t size)
{
	struct io_uring_sqe *sqe = loop_sqe(l->thread->loop, &l->received);

	if (!sqe)
		return;
	l->rx_msg = (struct msghdr){ .msg_iov = vec, .msg_iovlen = count };
	l->rx_size = size;
	io_uring_prep_recvmsg(sqe, l->sock, &l->rx_msg, MSG_WAITALL);
	l->receiving = true;
}

static void receive_header(struct link *l)
{
	l->rx = RX_HEADER;
	l->rx_vec = (struct iovec){ l->rx_header, krpc.framing->answer.hdr_len };
	receive(l, &l->rx_vec, 1, l->rx_vec.iov_len);
}

static void receive_payload(struct link *l, uint32_t length)
{
	struct message *m = l->receiving_one;
	unsigned int count = 0;

	l->rx = RX_PAYLOAD;
	for (uint32_t left = length; left; count++) {
		uint32_t part = m->piece[count].length;

		if (part > left)
			part = left;
		m->vec[count] = (struct iovec){
			message_memory(m, m->piece[count].offset), part,
		};
		left -= part;
	}
	receive(l, m->vec, count, length);
}

/* What nobody wants, a buffer at a time. */
static void receive_rest(struct link *l)
{
	uint32_t part = l->rx_rest < sizeof(l->rx_nowhere) ? l->rx_rest : sizeof(l->rx_nowhere);

	l->rx = RX_REST;
	l->rx_vec = (struct iovec){ l->rx_nowhere, part };
	receive(l, &l->rx_vec, 1, part);
}

static struct message *find(struct link *l, uint64_t cookie)
{
	struct message *m = l->first;

	while (m && m->cookie != cookie)
		m = m->next;
	return m;
}

/* 0 or an error number: the node is not to be trusted any more */
static int begin_answer(struct link *l)
{
	const struct pcs_krpc_framing *f = &krpc.framing->answer;
	struct answer a;
	struct message *m;
	uint32_t length;

	framing_parse(f, l->rx_header, &a);
	if (a.wrong)
		return EPROTO;
	m = find(l, a.cookie);
	/* cookies can be guessed; and what is still to be sent must not end */
	if (!m || !m->is_sent)
		return EBADMSG;
	l->rx_status = a.status;
	length = m->work->kind == NODE_READ ? m->length : 0;
	if (a.has_length && a.status == f->status_ok && a.length > length)
		return EMSGSIZE;
	if (a.has_length)
		length = a.length;
	else if (a.status != f->status_ok)
		length = 0;
	l->rx_rest = framing_padding(f, f->hdr_len + length);
	l->receiving_one = m;
	l->rx_length = length;
	if (a.status != f->status_ok) {
		l->rx_rest += length;
		l->rx_length = 0;
	}
	return 0;
}

/* Go on with what comes next. */
static void go_on(struct link *l)
{
	const struct pcs_krpc_framing *f = &krpc.framing->answer;
	struct message *m = l->receiving_one;

	if (l->rx == RX_HEADER && l->rx_length) {
		receive_payload(l, l->rx_length);
		return;
	}
	if (l->rx_rest) {
		receive_rest(l);
		return;
	}
	l->receiving_one = NULL;
	receive_header(l);
	count_add(COUNT_PLAIN, l->rx_length);
	message_ended(m, l->rx_status == f->status_ok ? (int)l->rx_length : -EREMOTEIO,
		      l->rx_status);
}

static void received(struct awaited *a, int result)
{
	struct link *l = AWAITED_IN(struct link, received, a);
	int error = 0;

	l->receiving = false;
	if (l->state == LINK_BROKEN) {
		plain_break(l);
		return;
	}
	if (result < 0 || (uint32_t)result < l->rx_size)
		error = result < 0 ? -result : ECONNRESET;
	else if (l->rx == RX_HEADER)
		error = begin_answer(l);
	else if (l->rx == RX_REST)
		l->rx_rest -= result;
	if (error)
		link_break(l, error);
	else
		go_on(l);
}

void plain_start(struct link *l)
{
	l->sent.done = sent;
	l->received.done = received;
	l->unsent = NULL;
	l->unsent_last = &l->unsent;
	receive_header(l);
}

void plain_look(struct link *l)
{
	/* the clock is read here: messages may have been submitted a moment ago */
	if (now_usec() - l->first->sent_at > krpc.timeout * 1000ULL)
		link_break(l, ETIMEDOUT);
}
