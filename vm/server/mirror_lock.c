// SPDX-License-Identifier: GPL-2.0-only
/*
 * POSIX locks belong to an owner (a process of the client), and the server is one
 * process: so each owner gets a descriptor of its own for each file it locks, with
 * locks that belong to the descriptor. Owners that wait for each other in a circle
 * are not detected (no EDEADLK).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "later.h"
#include "mirror.h"
#include "mirror_node.h"

struct owner {
	uint64_t node;
	uint64_t id;
	uint64_t fh;		/* by which it last asked for a lock */
	uint32_t pid;
	int fd;
	unsigned int users;	/* the table is one, as long as it is in there */
	struct owner *next;
};

/* A lock that is waited for. */
struct waiting {
	struct owner *owner;	/* NULL: flock */
	struct flock lock;
	int fd;
	int operation;
};

#define BUCKETS 256

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct owner *table[BUCKETS];
static unsigned int owners;

static struct owner **bucket_of(uint64_t node)
{
	/* by node only: GETLK looks for all owners of one */
	return &table[(node ^ node >> 8) % BUCKETS];
}

static struct owner *find(uint64_t node, uint64_t id)
{
	struct owner *o = *bucket_of(node);

	while (o && (o->node != node || o->id != id))
		o = o->next;
	return o;
}

static void put_owner(struct owner *o)
{
	if (--o->users)
		return;
	close(o->fd);
	free(o);
}

static void remove_owner(struct owner *o)
{
	struct owner **at = bucket_of(o->node);

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	__atomic_fetch_sub(&owners, 1, __ATOMIC_RELEASE);
	put_owner(o);
}

static int open_for_lock(uint64_t node)
{
	int fd = node_fd(node);
	int file;

	if (fd < 0)
		return fd;
	file = open(fd_name(fd).text, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	/* read-only or being executed: shared locks are still possible */
	if (file < 0)
		file = open(fd_name(fd).text, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return file < 0 ? -errno : file;
}

static int add_owner(uint64_t node, const struct fuse_lk_in *in, struct owner **result)
{
	int fd = open_for_lock(node);
	struct owner *o, **bucket = bucket_of(node);

	if (fd < 0)
		return fd;
	o = malloc(sizeof(*o));
	if (!o) {
		close(fd);
		return -ENOLCK;
	}
	*o = (struct owner){
		.node = node, .id = in->owner, .pid = in->lk.pid, .fd = fd, .users = 1,
		.next = *bucket,
	};
	*bucket = o;
	__atomic_fetch_add(&owners, 1, __ATOMIC_RELEASE);
	*result = o;
	return 0;
}

void mirror_lock_flush(uint64_t node, uint64_t id)
{
	struct owner *o;

	/* every close comes here, few processes lock */
	if (!__atomic_load_n(&owners, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&table_lock);
	o = find(node, id);
	if (o)
		remove_owner(o);
	pthread_mutex_unlock(&table_lock);
}

/*
 * Locks of an open file description (F_OFD_SETLK) go with it, and the kernel sends
 * nothing but RELEASE then. Their owner never asks by another handle; a process that
 * asked by this one has given up all its locks on the file with FLUSH before.
 */
void mirror_lock_release(uint64_t node, uint64_t fh)
{
	struct owner *o, *next;

	if (!__atomic_load_n(&owners, __ATOMIC_ACQUIRE))
		return;
	pthread_mutex_lock(&table_lock);
	for (o = *bucket_of(node); o; o = next) {
		next = o->next;
		if (o->node == node && o->fh == fh)
			remove_owner(o);
	}
	pthread_mutex_unlock(&table_lock);
}

static struct flock to_flock(const struct fuse_file_lock *lk)
{
	return (struct flock){
		.l_type = lk->type,
		.l_whence = SEEK_SET,
		.l_start = lk->start,
		.l_len = lk->end >= INT64_MAX ? 0 : (off_t)(lk->end - lk->start + 1),
	};
}

static uint64_t end_of(const struct flock *lock)
{
	return lock->l_len ? (uint64_t)(lock->l_start + lock->l_len - 1) : INT64_MAX;
}

/* Does the owner hold a lock that overlaps LOCK? The kernel tells by descriptor. */
static bool holds(const struct owner *o, const struct flock *lock)
{
	char path[32], line[256];
	bool found = false;
	FILE *f;

	snprintf(path, sizeof(path), "../fdinfo/%d", o->fd);
	f = fopen(path, "re");
	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		char end[24];
		uint64_t from, to = INT64_MAX;

		if (sscanf(line, "lock: %*d: OFDLCK %*s %*s %*d %*s %" SCNu64 " %23s", &from,
			   end) != 2)
			continue;
		if (strcmp(end, "EOF"))
			to = strtoull(end, NULL, 10);
		found = from <= end_of(lock) && to >= (uint64_t)lock->l_start;
	}
	fclose(f);
	return found;
}

int mirror_getlk(struct request *rq, uint64_t node, const struct fuse_lk_in *in,
		 struct fuse_file_lock *result)
{
	struct flock lock = to_flock(&in->lk);
	struct owner *o;
	int fd, rc;

	(void)rq;
	pthread_mutex_lock(&table_lock);
	o = find(node, in->owner);
	fd = o ? o->fd : open_for_lock(node);
	if (fd < 0) {
		pthread_mutex_unlock(&table_lock);
		return fd;
	}
	rc = fcntl(fd, F_OFD_GETLK, &lock) < 0 ? -errno : 0;
	if (!o)
		close(fd);
	*result = (struct fuse_file_lock){ .type = F_UNLCK };
	if (rc == 0 && lock.l_type != F_UNLCK) {
		result->type = lock.l_type;
		result->start = lock.l_start;
		result->end = end_of(&lock);
		result->pid = lock.l_pid > 0 ? lock.l_pid : 0;
		for (o = *bucket_of(node); o && !result->pid; o = o->next)
			if (o->node == node && o->id != in->owner && holds(o, &lock))
				result->pid = o->pid;
	}
	pthread_mutex_unlock(&table_lock);
	return rc;
}

static int call_posix(void *arg)
{
	struct waiting *w = arg;

	return fcntl(w->fd, F_OFD_SETLKW, &w->lock) < 0 ? -errno : 0;
}

static int call_flock(void *arg)
{
	struct waiting *w = arg;

	return flock(w->fd, w->operation) < 0 ? -errno : 0;
}

static void done_waiting(void *arg)
{
	struct waiting *w = arg;

	if (w->owner) {
		pthread_mutex_lock(&table_lock);
		put_owner(w->owner);
		pthread_mutex_unlock(&table_lock);
	}
	free(w);
}

static int wait_for(struct request *rq, int (*call)(void *), const struct waiting *what)
{
	struct waiting *w = malloc(sizeof(*w));
	int rc;

	if (!w)
		return -ENOLCK;
	*w = *what;
	rc = later_block(rq, call, done_waiting, w);
	/* the owner's count is given back by the caller then */
	if (rc != REPLY_LATER)
		free(w);
	return rc;
}

static int set_flock(struct request *rq, const struct fuse_lk_in *in, bool wait)
{
	struct waiting w = { .fd = in->fh };

	w.operation = in->lk.type == F_UNLCK ? LOCK_UN :
		      in->lk.type == F_RDLCK ? LOCK_SH : LOCK_EX;
	if (flock(w.fd, w.operation | LOCK_NB) == 0)
		return 0;
	if (!wait || errno != EWOULDBLOCK)
		return -errno;
	return wait_for(rq, call_flock, &w);
}

int mirror_setlk(struct request *rq, uint64_t node, const struct fuse_lk_in *in, bool wait)
{
	struct waiting w = { .lock = to_flock(&in->lk) };
	bool unlock = in->lk.type == F_UNLCK;
	struct owner *o;
	int rc = 0;

	if (in->lk_flags & FUSE_LK_FLOCK)
		return set_flock(rq, in, wait);

	pthread_mutex_lock(&table_lock);
	o = find(node, in->owner);
	if (!o && !unlock)
		rc = add_owner(node, in, &o);
	if (!o) {
		pthread_mutex_unlock(&table_lock);
		return rc;
	}
	o->fh = in->fh;
	/* POSIX makes a waiting lock replace the old one only once it is granted */
	rc = fcntl(o->fd, F_OFD_SETLK, &w.lock) < 0 ? -errno : 0;
	if (rc == 0 && unlock && in->lk.start == 0 && in->lk.end >= INT64_MAX)
		remove_owner(o);
	if ((rc == -EAGAIN || rc == -EACCES) && wait) {
		w.owner = o;
		w.fd = o->fd;
		o->users++;
		pthread_mutex_unlock(&table_lock);
		rc = wait_for(rq, call_posix, &w);
		if (rc == REPLY_LATER)
			return rc;
		pthread_mutex_lock(&table_lock);
		put_owner(o);
	}
	pthread_mutex_unlock(&table_lock);
	return rc;
}
