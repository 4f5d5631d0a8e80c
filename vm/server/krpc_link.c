// SPDX-License-Identifier: GPL-2.0-only
/* Connections of a thread: made by a thread of their own, used, given up. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "krpc.h"
#include "say.h"
#include "session.h"

/* How long a node is left alone after a failure, in ms; doubled each time. */
#define FIRST_BACK_OFF 10
#define MOST_BACK_OFF 1000

static __thread struct thread here;
static pthread_mutex_t up_lock = PTHREAD_MUTEX_INITIALIZER;
static struct link *up;

struct thread *krpc_thread(void)
{
	return &here;
}

void link_each_up(void (*call)(struct link *l, void *arg), void *arg)
{
	pthread_mutex_lock(&up_lock);
	for (struct link *l = up; l; l = l->next_up)
		call(l, arg);
	pthread_mutex_unlock(&up_lock);
}

static void is_up(struct link *l)
{
	pthread_mutex_lock(&up_lock);
	l->next_up = up;
	up = l;
	pthread_mutex_unlock(&up_lock);
}

static void is_down(struct link *l)
{
	struct link **at = &up;

	pthread_mutex_lock(&up_lock);
	while (*at != l)
		at = &(*at)->next_up;
	*at = l->next_up;
	pthread_mutex_unlock(&up_lock);
}

/* Leave the node alone for a while. */
static void go_down(struct link *l)
{
	l->back_off = l->back_off ? 2 * l->back_off : FIRST_BACK_OFF;
	if (l->back_off > MOST_BACK_OFF)
		l->back_off = MOST_BACK_OFF;
	l->retry_at = now_usec() + l->back_off * 1000ULL;
	l->state = LINK_DOWN;
}

void link_idle(struct link *l)
{
	if (l->state != LINK_BROKEN || l->first || l->sending || l->receiving || l->polling)
		return;
	is_down(l);
	if (l->endpoint >= 0)
		kernel_close(l);
	close(l->sock);
	go_down(l);
}

void link_break(struct link *l, int error)
{
	if (l->state != LINK_UP)
		return;
	l->state = LINK_BROKEN;
	count_add(error == ETIMEDOUT ? COUNT_TIMEOUTS : COUNT_LOST, 1);
	/* what waits for it learns that */
	shutdown(l->sock, SHUT_RDWR);
	if (l->endpoint < 0)
		plain_break(l);
	link_idle(l);
}

void link_take(struct link *l, struct message *m)
{
	struct message **at = &l->first;

	while (*at != m)
		at = &(*at)->next;
	*at = m->next;
	if (l->last == &m->next)
		l->last = at;
	link_idle(l);
}

void link_submit(struct link *l, struct message *m)
{
	m->link = l;
	m->submitted = true;
	m->cookie = ++l->cookie;
	/* the kernel has a clock of its own */
	m->sent_at = l->endpoint >= 0 ? m->begun : now_usec();
	m->next = NULL;
	*l->last = m;
	l->last = &m->next;
	m->header_length = krpc.framing->header(m->header, m->work->kind, m->cookie, m->position,
						m->length);
	if (l->endpoint >= 0)
		kernel_submit(l, m);
	else
		plain_submit(l, m);
}

/* Perhaps more than a moment, and so not in a thread that serves. */
static void *connect_main(void *arg)
{
	struct link *l = arg;
	uint64_t size = 0;
	bool read_only = false;
	int error;

	l->sock = node_connect(&columns[l->column].place[l->replica]);
	error = l->sock < 0 ? -l->sock :
		krpc.framing->open(l->sock, l->file->export, &size, &read_only);
	if (!error && (size < l->file->column_size[l->column] ||
		       (read_only && !l->file->read_only)))
		error = ESTALE;
	if (!error)
		node_cut_in_the_end(l->sock);
	else if (l->sock >= 0)
		close(l->sock);
	loop_post(l->thread->loop, &l->connected, error);
	return NULL;
}

/*
 * The file is not there as it is on the others: shorter, or where a FLUSH is not to be had that
 * holds for what all threads have written.
 */
static void say_unlike(struct link *l)
{
	const struct place *p = &columns[l->column].place[l->replica];

	if (!__atomic_exchange_n(&l->file->unlike[l->column][l->replica], true,
				 __ATOMIC_RELAXED))
		say("%s: %s:%s is shorter than the others or can not be written like them",
		    l->file->name, p->host, p->port);
}

static void connected(struct awaited *a, int error)
{
	struct link *l = AWAITED_IN(struct link, connected, a);
	struct message *m = l->waiting;

	l->thread->loop->busy--;
	l->waiting = NULL;
	if (!error && krpc.mode != MODE_OFF) {
		error = kernel_adopt(l);
		if (error)
			close(l->sock);
	}
	if (error) {
		count_add(COUNT_FAILED_CONNECTS, 1);
		if (error == ESTALE)
			say_unlike(l);
		go_down(l);
	} else {
		count_add(COUNT_CONNECTS, 1);
		l->state = LINK_UP;
		is_up(l);
		if (l->endpoint < 0)
			plain_start(l);
		/* krpc_abandon() may have looked before */
		if (session_has_ended())
			link_break(l, ENOTCONN);
	}
	while (m) {
		struct message *next = m->next;

		if (l->state == LINK_UP)
			link_submit(l, m);
		else if (error == ESTALE && m->replica >= 0)
			/* it is for this one only, which will not become another by waiting */
			message_is_over(m, -EIO);
		else
			message_retry(m, error ? error : ECONNRESET);
		m = next;
	}
}

void link_connect(struct link *l)
{
	pthread_attr_t attr;
	pthread_t thread;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	l->state = LINK_CONNECTING;
	l->thread->loop->busy++;
	rc = pthread_create(&thread, &attr, connect_main, l);
	pthread_attr_destroy(&attr);
	if (rc)
		loop_post(l->thread->loop, &l->connected, rc);
}

static unsigned int most_links(void)
{
	return file_count * column_count * MOST_REPLICAS;
}

struct link *link_of(struct thread *t, const struct file *f, unsigned int column,
		     unsigned int replica)
{
	struct link **at = &t->links[((f - files) * column_count + column) * MOST_REPLICAS +
				     replica];
	struct link *l = *at;

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	*l = (struct link){
		.thread = t, .file = &files[f - files], .column = column, .replica = replica,
		.connected.done = connected, .endpoint = -1,
	};
	l->last = &l->first;
	l->unsent_last = &l->unsent;
	*at = l;
	return l;
}

void krpc_thread_start(struct loop *l)
{
	here.loop = l;
	here.links = calloc(most_links(), sizeof(*here.links));
	if (!here.links)
		session_fail("connections", ENOMEM);
}

void krpc_thread_stop(struct loop *loop)
{
	for (unsigned int i = 0; here.links && i < most_links(); i++) {
		struct link *l = here.links[i];

		if (!l)
			continue;
		link_break(l, ECONNABORTED);
		while (l->state == LINK_BROKEN && loop_turn(loop, true))
			;
		/* the next one's turns may see a tick */
		here.links[i] = NULL;
		free(l->regions);
		free(l);
	}
	free(here.links);
	here.links = NULL;
	work_free_all();
}

static void cut(struct link *l, void *unused)
{
	(void)unused;
	shutdown(l->sock, SHUT_RDWR);
}

/* Nobody waits for a node any longer: the threads then find out by themselves. */
void krpc_abandon(void)
{
	count_update();
	node_abandon();
	link_each_up(cut, NULL);
}
