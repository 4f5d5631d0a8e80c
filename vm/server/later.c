// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "later.h"
#include "request.h"
#include "say.h"

/* A request in a blocking call, in its thread. */
struct blocked {
	struct request *rq;
	uint64_t unique;
	int (*call)(void *arg);
	void (*done)(void *arg);
	void *arg;
	pthread_t thread;
	bool interrupted;
	struct blocked *next;
};

/*
 * An INTERRUPT is read by another thread than its request and may overtake it.
 * The last ones that matched nothing are remembered for the request to find.
 */
#define EARLY 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_t timer_thread;
static struct request *delayed;		/* earliest first */
static struct blocked *blocked;
static uint64_t early[EARLY];
static unsigned int early_next;
static bool interrupting;		/* some blocked one is interrupted */
static bool stopping;

static uint64_t now_usec(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000ULL + ts.tv_nsec / 1000;
}

static void wait_until(uint64_t usec)
{
	struct timespec ts = {
		.tv_sec = usec / 1000000, .tv_nsec = usec % 1000000 * 1000,
	};

	pthread_cond_timedwait(&changed, &lock, &ts);
}

/*
 * A signal that arrives just before the thread enters its call is lost, hence
 * again and again until the thread has noticed.
 */
static void signal_interrupted(void)
{
	interrupting = false;
	for (struct blocked *b = blocked; b; b = b->next) {
		if (!b->interrupted)
			continue;
		pthread_kill(b->thread, SIGUSR1);
		interrupting = true;
	}
}

static void *timer_main(void *unused)
{
	(void)unused;
	pthread_mutex_lock(&lock);
	while (!stopping || delayed || blocked) {
		struct request *rq = delayed;

		if (rq && (stopping || rq->due <= now_usec())) {
			delayed = rq->next;
			pthread_mutex_unlock(&lock);
			rq->reply(rq, rq->result);
			pthread_mutex_lock(&lock);
			continue;
		}
		signal_interrupted();
		if (interrupting)
			wait_until(now_usec() + 2000);
		else if (rq)
			wait_until(rq->due);
		else
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

static void on_signal(int sig)
{
	(void)sig;	/* only to interrupt a system call */
}

void later_start(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	pthread_condattr_t attr;
	int rc;

	sigaction(SIGUSR1, &action, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attr);
	pthread_condattr_destroy(&attr);
	rc = pthread_create(&timer_thread, NULL, timer_main, NULL);
	if (rc) {
		say("thread: %s", strerror(rc));
		exit(1);
	}
}

void later_stop(void)
{
	pthread_mutex_lock(&lock);
	stopping = true;
	for (struct blocked *b = blocked; b; b = b->next)
		__atomic_store_n(&b->interrupted, true, __ATOMIC_RELEASE);
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	pthread_join(timer_thread, NULL);
}

void later_reply(struct request *rq, int result, unsigned int msec)
{
	struct request **at = &delayed;

	rq->result = result;
	rq->due = now_usec() + msec * 1000ULL;
	pthread_mutex_lock(&lock);
	while (*at && (*at)->due <= rq->due)
		at = &(*at)->next;
	rq->next = *at;
	*at = rq;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

static bool is_interrupted(struct blocked *b)
{
	return __atomic_load_n(&b->interrupted, __ATOMIC_ACQUIRE);
}

static void *blocked_main(void *arg)
{
	struct blocked **at, *b = arg;
	sigset_t set;
	int result;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	do
		result = is_interrupted(b) ? -EINTR : b->call(b->arg);
	while (result == -EINTR && !is_interrupted(b));
	b->done(b->arg);

	request_complete(b->rq, result);
	/* last, since later_stop() waits for the list to become empty */
	pthread_mutex_lock(&lock);
	for (at = &blocked; *at != b; at = &(*at)->next)
		;
	*at = b->next;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
	free(b);
	return NULL;
}

static bool was_interrupted_early(uint64_t unique)
{
	for (int i = 0; i < EARLY; i++)
		if (early[i] == unique)
			return true;
	return false;
}

int later_block(struct request *rq, int (*call)(void *arg), void (*done)(void *arg), void *arg)
{
	/* not the per-request allocation to avoid: this is about to sleep */
	struct blocked *b = malloc(sizeof(*b));
	pthread_attr_t attr;
	int rc;

	if (!b)
		return -ENOLCK;
	*b = (struct blocked){
		.rq = rq, .unique = rq->in->unique, .call = call, .done = done, .arg = arg,
	};
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 256 << 10);
	pthread_mutex_lock(&lock);
	if (stopping || was_interrupted_early(b->unique))
		rc = EINTR;
	else
		rc = pthread_create(&b->thread, &attr, blocked_main, b);
	if (rc == 0) {
		b->next = blocked;
		blocked = b;
	}
	pthread_mutex_unlock(&lock);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		return REPLY_LATER;
	free(b);
	return rc == EINTR ? -EINTR : -ENOLCK;
}

void later_interrupt(uint64_t unique)
{
	struct blocked *b;

	pthread_mutex_lock(&lock);
	for (b = blocked; b && b->unique != unique; b = b->next)
		;
	if (b) {
		__atomic_store_n(&b->interrupted, true, __ATOMIC_RELEASE);
		pthread_cond_broadcast(&changed);
	} else {
		early[early_next++ % EARLY] = unique;
	}
	pthread_mutex_unlock(&lock);
}
