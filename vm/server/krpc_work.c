// SPDX-License-Identifier: GPL-2.0-only
/* From a request to messages, and from their ends to the reply. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "krpc.h"
#include "session.h"

/* An array of COUNT, if it is to be larger; what is in there is of no concern. */
static bool grow(void **array, unsigned int *most, unsigned int count, size_t size)
{
	if (count <= *most)
		return true;
	free(*array);
	*array = calloc(count, size);
	*most = *array ? count : 0;
	return *array;
}

static bool make_room(struct work *w, unsigned int messages, unsigned int pieces)
{
	/* the kernel needs no vectors; header and padding have one each */
	unsigned int vecs = krpc.mode == MODE_OFF ? pieces + 2 * messages : 0;

	return grow((void **)&w->message, &w->most_messages, messages, sizeof(*w->message)) &&
	       grow((void **)&w->piece, &w->most_pieces, pieces, sizeof(*w->piece)) &&
	       grow((void **)&w->buffer, &w->most_buffers, pieces, sizeof(*w->buffer)) &&
	       grow((void **)&w->vec, &w->most_vecs, vecs, sizeof(*w->vec));
}

static void free_work(struct work *w)
{
	if (w->side)
		munmap(w->side, session.payload_max);
	free(w->message);
	free(w->piece);
	free(w->buffer);
	free(w->vec);
	free(w);
}

void work_free_all(void)
{
	struct thread *t = krpc_thread();

	while (t->spare) {
		struct work *w = t->spare;

		t->spare = w->next;
		free_work(w);
	}
}

static struct work *take_work(struct thread *t)
{
	struct work *w = t->spare;

	if (!w)
		return calloc(1, sizeof(*w));
	t->spare = w->next;
	/* the last reply, which refers to that memory, must have been sent before */
	if (w->side)
		io_uring_submit(&t->loop->ring);
	return w;
}

static void put_work(struct thread *t, struct work *w)
{
	w->next = t->spare;
	t->spare = w;
}

static struct work *new_work(struct request *rq, struct file *f, enum operation_kind kind,
			     uint32_t size)
{
	struct thread *t = krpc_thread();
	unsigned int n = column_count, pieces = 0, copies = 1;
	struct work *w = take_work(t);

	if (!w)
		return NULL;
	for (unsigned int c = 0; kind != NODE_READ && c < n; c++)
		if (columns[c].replicas > copies)
			copies = columns[c].replicas;
	if (size)
		pieces = size / krpc.max_message + n + (n > 1 ? size / krpc.stripe + 2 : 1);
	w->rq = rq;
	w->unique = rq->in->unique;
	w->file = f;
	w->kind = kind;
	w->size = size;
	w->messages = w->pieces = 0;
	w->in_chunks = w->then_flush = false;
	if (make_room(w, copies * (pieces ? pieces : n), copies * pieces))
		return w;
	put_work(t, w);
	return NULL;
}

static struct message *new_message(struct work *w, unsigned int column, int replica,
				   uint64_t position)
{
	struct message *m = &w->message[w->messages];

	*m = (struct message){
		.work = w,
		.column = column,
		.replica = replica,
		.position = position,
		.piece = w->piece + w->pieces,
		.buffer = w->buffer + w->pieces,
		.vec = w->vec ? w->vec + w->pieces + 2 * w->messages : NULL,
		/* of those that are alike, every other one */
		.copied = krpc.mode == MODE_MIXED && w->messages % 2,
	};
	w->messages++;
	return m;
}

/* LENGTH bytes at OFFSET of the request, which are at POSITION of the column. */
static struct message *add_piece(struct work *w, struct message *m, unsigned int column,
				 int replica, uint64_t position, uint32_t offset,
				 uint32_t length)
{
	while (length) {
		uint32_t part = length;

		if (!m || m->length == krpc.max_message || m->pieces == PCS_KRPC_MAX_CHUNKS)
			m = new_message(w, column, replica, position);
		if (part > krpc.max_message - m->length)
			part = krpc.max_message - m->length;
		m->piece[m->pieces++] = (struct piece){ offset, part };
		m->length += part;
		w->pieces++;
		position += part;
		offset += part;
		length -= part;
	}
	return m;
}

/*
 * What of the request lies in a column: stripes that follow each other there, and so a
 * single message if that is not too long.
 */
static void add_column(struct work *w, uint64_t from, unsigned int column, int replica)
{
	uint64_t end = from + w->size, at = from;
	struct message *m = NULL;

	if (column_count == 1) {
		add_piece(w, NULL, 0, replica, from, 0, w->size);
		return;
	}
	while (at < end) {
		uint64_t stripe = at / krpc.stripe, within = at % krpc.stripe;
		uint64_t length = krpc.stripe - within;

		if (length > end - at)
			length = end - at;
		if (stripe % column_count == column)
			m = add_piece(w, m, column, replica,
				      stripe / column_count * krpc.stripe + within, at - from,
				      length);
		at += length;
	}
}

static void work_is_over(struct work *w);

static void nothing_left(struct awaited *a, int result)
{
	(void)result;
	work_is_over(AWAITED_IN(struct work, over, a));
}

static void reply_early(struct awaited *a, int result);

static int start(struct work *w)
{
	struct loop *l = krpc_thread()->loop;
	uint64_t now = now_usec();

	l->busy++;
	/* the last one to be done with: what follows is not to end it before we return */
	w->open = w->messages + 1;
	for (unsigned int i = 0; i < w->messages; i++) {
		w->message[i].begun = now;
		message_launch(&w->message[i]);
	}
	w->over.done = nothing_left;
	if (--w->open == 0) {
		loop_post(l, &w->over, 0);
	} else if (krpc.hasty && w->in_chunks) {
		w->over.done = reply_early;
		w->open++;
		loop_post(l, &w->over, 0);
	}
	return REPLY_SOON;
}

/* ------------------------------------------------------------------- methods */

int krpc_read(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset)
{
	struct file *f = &files[fh];
	struct work *w;

	if (offset >= f->size)
		return 0;
	if (size > f->size - offset)
		size = f->size - offset;
	w = size ? new_work(rq, f, NODE_READ, size) : NULL;
	if (!w)
		return size ? -ENOMEM : 0;
	w->data = data;
	w->memory = rq->out_memory;
	w->in_chunks = krpc.mode == MODE_ZC || krpc.mode == MODE_MIXED;
	for (unsigned int c = 0; c < column_count; c++)
		add_column(w, offset, c, -1);
	return start(w);
}

/* There is room: a write has at least a piece for each column, a flush has a message. */
static void add_flushes(struct work *w)
{
	for (unsigned int c = 0; c < column_count; c++)
		for (unsigned int r = 0; r < columns[c].replicas; r++)
			if (!replica_is_stale(w->file, c, r))
				new_message(w, c, r, 0);
}

int krpc_write(struct request *rq, uint64_t fh, const void *data, size_t size, uint64_t offset,
	       int rwf, bool kill_suid)
{
	struct file *f = &files[fh];
	struct work *w;

	(void)kill_suid;
	if (offset > f->size || size > f->size - offset)
		return -ENOSPC;
	if (!size)
		return 0;
	w = new_work(rq, f, NODE_WRITE, size);
	if (!w)
		return -ENOMEM;
	w->data = (char *)data;
	w->memory = rq->payload_memory;
	w->offset = offset;
	w->then_flush = rwf & (RWF_DSYNC | RWF_SYNC);
	for (unsigned int c = 0; c < column_count; c++)
		for (unsigned int r = 0; r < columns[c].replicas; r++)
			if (!replica_is_stale(f, c, r))
				add_column(w, offset, c, r);
	return start(w);
}

int krpc_fsync(struct request *rq, uint64_t fh, bool data_only)
{
	struct file *f = &files[fh];
	struct work *w;

	(void)data_only;
	if (f->read_only)
		return 0;
	w = new_work(rq, f, NODE_FLUSH, 0);
	if (!w)
		return -ENOMEM;
	add_flushes(w);
	return start(w);
}

/* ------------------------------------------------------------------ messages */

bool message_is_placed(const struct message *m)
{
	return m->work->in_chunks && !m->copied;
}

char *message_memory(const struct message *m, uint32_t offset)
{
	struct work *w = m->work;

	if (!w->in_chunks)
		return w->data + offset;
	if (!w->side) {
		w->side = mmap(NULL, session.payload_max, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		/* what the kernel then refuses is tried again */
		if (w->side == MAP_FAILED)
			w->side = NULL;
	}
	return w->side ? w->side + offset : NULL;
}

void message_is_over(struct message *m, int result)
{
	struct work *w = m->work;

	m->error = result < 0 ? -result : 0;
	m->got = result < 0 ? 0 : result;
	if (--w->open == 0)
		work_is_over(w);
}

/* ------------------------------------------------------------------- replies */

/* Where in the request the data of a message ends. */
static uint32_t end_of(const struct message *m)
{
	uint32_t left = m->got;

	for (unsigned int i = 0; i < m->pieces; i++) {
		if (left < m->piece[i].length)
			return m->piece[i].offset + left;
		left -= m->piece[i].length;
	}
	return UINT32_MAX;
}

static int by_offset(const void *a, const void *b)
{
	const struct pcs_krpczc_chunk *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Sections as far as END. Returns the bytes of the array. */
static int put_chunks(const struct work *w, uint32_t end)
{
	struct pcs_krpczc_chunk *chunk = (struct pcs_krpczc_chunk *)w->rq->out;
	unsigned int count = 0, i, j;

	for (i = 0; i < w->messages; i++) {
		const struct message *m = &w->message[i];

		for (j = 0; j < m->pieces; j++) {
			struct piece p = m->piece[j];

			if (p.offset >= end)
				continue;
			if (p.length > end - p.offset)
				p.length = end - p.offset;
			chunk[count++] = (struct pcs_krpczc_chunk){
				.addr = m->copied ? (uintptr_t)message_memory(m, p.offset) : 0,
				.offset = p.offset,
				.len = p.length,
			};
		}
	}
	if (column_count > 1)
		qsort(chunk, count, sizeof(*chunk), by_offset);
	/* neighbours that are in place are one */
	for (i = j = 0; i < count; i++) {
		if (j && !chunk[i].addr && !chunk[j - 1].addr)
			chunk[j - 1].len += chunk[i].len;
		else
			chunk[j++] = chunk[i];
	}
	return j * sizeof(*chunk);
}

/* A plain reply is in one piece: fetch what was on its way when it was not to be one yet. */
static void bring_together(const struct message *m)
{
	const struct work *w = m->work;

	if (w->in_chunks || !m->aside)
		return;
	for (unsigned int i = 0; i < m->pieces; i++)
		memcpy(w->data + m->piece[i].offset, w->side + m->piece[i].offset,
		       m->piece[i].length);
}

static int read_result(struct work *w)
{
	uint32_t end = w->size;

	for (unsigned int i = 0; i < w->messages; i++) {
		const struct message *m = &w->message[i];
		uint32_t own = end_of(m);

		if (m->error)
			return -m->error;
		bring_together(m);
		if (own < end)
			end = own;
	}
	if (!w->in_chunks || !end)
		return end;
	w->rq->out_error = FUSE_OUT_KRPCZC;
	return put_chunks(w, end);
}

/* Part of the request belongs to the column. */
static bool has_part_in(const struct work *w, unsigned int column)
{
	uint64_t first = w->offset / krpc.stripe;
	uint64_t stripes = (w->offset + w->size - 1) / krpc.stripe - first + 1;

	return (column + column_count - first % column_count) % column_count < stripes;
}

/* 0 if what belongs to a column is on one of its replicas, and those without it are left. */
static int column_result(struct work *w, unsigned int column)
{
	unsigned int asked = 0, failed = 0;
	bool submitted = false;
	int error = EIO;

	for (unsigned int i = 0; i < w->messages; i++) {
		const struct message *m = &w->message[i];

		if (m->column != column)
			continue;
		asked |= 1U << m->replica;
		submitted |= m->submitted;
		if (!m->error)
			continue;
		failed |= 1U << m->replica;
		error = m->error;
	}
	/* nobody is left to ask */
	if (!asked)
		return w->kind == NODE_FLUSH || has_part_in(w, column) ? -EIO : 0;
	if (asked == failed) {
		/* some of them may have some of it */
		if (w->kind == NODE_WRITE && submitted)
			replicas_doubt(w->file, column, asked);
		return -error;
	}
	for (unsigned int r = 0; r < columns[column].replicas; r++)
		if (failed & 1U << r)
			replica_leave_behind(w->file, column, r);
	return 0;
}

static int write_result(struct work *w)
{
	struct timespec now;
	int error = 0;

	/* each of them: replicas of one are to be left even if another one fails */
	for (unsigned int c = 0; c < column_count; c++) {
		int own = column_result(w, c);

		if (!error)
			error = own;
	}
	if (error)
		return error;
	clock_gettime(CLOCK_REALTIME, &now);
	__atomic_store_n(&w->file->changed, now.tv_sec * 1000000000ULL + now.tv_nsec,
			 __ATOMIC_RELAXED);
	return w->size;
}

static void work_is_over(struct work *w)
{
	struct thread *t = krpc_thread();
	struct request *rq = w->rq;
	int result = 0;

	if (rq)
		result = w->kind == NODE_READ ? read_result(w) : write_result(w);
	t->loop->busy--;
	if (w->then_flush && result > 0) {
		/* what was written is to be safe before the reply, which is the same */
		w->then_flush = false;
		w->kind = NODE_FLUSH;
		w->messages = w->pieces = 0;
		add_flushes(w);
		start(w);
		return;
	}
	put_work(t, w);
	if (rq)
		request_complete(rq, result);
}

/* The kernel must refuse this as long as the data is not there: it must not be lost by that. */
static void reply_early(struct awaited *a, int result)
{
	struct work *w = AWAITED_IN(struct work, over, a);
	struct request *rq = w->rq;

	(void)result;
	if (w->open == 1) {
		w->open = 0;
		work_is_over(w);
		return;
	}
	for (unsigned int i = 0; i < w->messages; i++) {
		/* the kernel can only refuse what it knows of */
		if (!w->message[i].sent_at) {
			loop_post(krpc_thread()->loop, a, 0);
			return;
		}
	}
	io_uring_submit(&krpc_thread()->loop->ring);
	w->open--;
	w->rq = NULL;
	*(struct pcs_krpczc_chunk *)rq->out = (struct pcs_krpczc_chunk){ .len = w->size };
	rq->out_error = FUSE_OUT_KRPCZC;
	request_complete(rq, sizeof(struct pcs_krpczc_chunk));
}
