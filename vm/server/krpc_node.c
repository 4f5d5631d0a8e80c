// SPDX-License-Identifier: GPL-2.0-only
/* Connections to nodes as they are made, and what there is on the nodes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "krpc.h"
#include "say.h"

/*
 * From now on a connection that fails is cut off: nothing of an old message may come late. Not
 * before there are messages: nbdkit (1.32) ends itself when a client is gone that it greets.
 */
void node_cut_in_the_end(int sock)
{
	struct linger cut = { .l_onoff = 1 };

	setsockopt(sock, SOL_SOCKET, SO_LINGER, &cut, sizeof(cut));
}

/*
 * By when all of a handshake is over, however little of it comes at a time: a thread has but
 * one at once.
 */
static __thread uint64_t deadline;
/* Nobody wants any connection any more. */
static int abandoned = -1;

int node_start(void)
{
	abandoned = eventfd(0, EFD_CLOEXEC);
	return abandoned < 0 ? complain("eventfd") : 0;
}

void node_abandon(void)
{
	eventfd_write(abandoned, 1);
}

void node_stop(void)
{
	close(abandoned);
}

/* 0 when the socket is ready for EVENTS, or an error number. */
static int wait_for(int sock, short events)
{
	struct pollfd fds[] = {
		{ .fd = sock, .events = events }, { .fd = abandoned, .events = POLLIN },
	};
	int n;

	do {
		uint64_t now = now_usec();

		if (now >= deadline)
			return ETIMEDOUT;
		n = poll(fds, 2, (deadline - now) / 1000 + 1);
		if (n < 0 && errno != EINTR)
			return errno;
	} while (n <= 0);
	return fds[1].revents ? ECANCELED : 0;
}

/* Addresses in numbers: to look names up is beyond a static program. */
static socklen_t address_of(const struct place *p, struct sockaddr_storage *at)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)at;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)at;
	in_port_t port = htons(atoi(p->port));

	memset(at, 0, sizeof(*at));
	if (inet_pton(AF_INET, p->host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = port;
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, p->host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = port;
		return sizeof(*v6);
	}
	return 0;
}

/* 0 or an error number */
static int finish_connect(int sock)
{
	int error = wait_for(sock, POLLOUT), failed = 0;
	socklen_t length = sizeof(failed);

	if (error)
		return error;
	getsockopt(sock, SOL_SOCKET, SO_ERROR, &failed, &length);
	return failed;
}

int node_connect(const struct place *p)
{
	struct sockaddr_storage address;
	socklen_t length = address_of(p, &address);
	int sock, error = 0, one = 1;

	if (!length)
		return -EADDRNOTAVAIL;
	sock = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -errno;
	deadline = now_usec() + krpc.timeout * 1000ULL;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(sock, (struct sockaddr *)&address, length) < 0)
		error = errno == EINPROGRESS ? finish_connect(sock) : errno;
	/* io_uring does not wait for a socket that says that nobody wants to */
	if (!error && fcntl(sock, F_SETFL, 0) < 0)
		error = errno;
	if (!error)
		return sock;
	close(sock);
	return -error;
}

int node_send(int sock, const void *data, size_t size)
{
	while (size) {
		int error = wait_for(sock, POLLOUT);
		ssize_t n;

		if (error)
			return error;
		n = send(sock, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n < 0)
			return errno;
		size -= n;
		data = (const char *)data + n;
	}
	return 0;
}

int node_recv(int sock, void *data, size_t size)
{
	while (size) {
		int error = wait_for(sock, POLLIN);
		ssize_t n;

		if (error)
			return error;
		n = recv(sock, data, size, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return n ? errno : ECONNRESET;
		size -= n;
		data = (char *)data + n;
	}
	return 0;
}

/* ---------------------------------------------------------------- what there is */

static void add_file(const char *name)
{
	struct file *f = &files[file_count];

	if (file_count == MOST_FILES || strlen(name) > NAME_MAX || strchr(name, '/') ||
	    !strcmp(name, ".") || !strcmp(name, "..")) {
		say("left out: %s", name);
		return;
	}
	strcpy(f->export, name);
	/* the export without name is the usual one when there is but one */
	strcpy(f->name, *name ? name : "data");
	file_count++;
}

/* From the first replica that answers. */
static int list_files(void)
{
	int error = 0;

	for (unsigned int r = 0; r < columns[0].replicas; r++) {
		int sock = node_connect(&columns[0].place[r]);

		/* the one before may have begun */
		file_count = 0;
		error = sock < 0 ? -sock : krpc.framing->list(sock, add_file);
		if (sock >= 0)
			close(sock);
		if (!error)
			return 0;
	}
	say("%s:%s: %s", columns[0].place[0].host, columns[0].place[0].port, strerror(error));
	return 1;
}

static int look_at_column(struct file *f, unsigned int c)
{
	int error = 0;

	for (unsigned int r = 0; r < columns[c].replicas; r++) {
		int sock = node_connect(&columns[c].place[r]);
		bool read_only = false;

		error = sock < 0 ? -sock : krpc.framing->open(sock, f->export,
							      &f->column_size[c], &read_only);
		if (sock >= 0)
			close(sock);
		if (!error) {
			f->read_only |= read_only;
			return 0;
		}
	}
	say("%s on %s:%s: %s", f->name, columns[c].place[0].host, columns[c].place[0].port,
	    strerror(error));
	return 1;
}

/* A file ends where the first of its columns does. */
static void find_size(struct file *f)
{
	f->size = UINT64_MAX;
	for (unsigned int c = 0; c < column_count; c++) {
		uint64_t size = f->column_size[c];
		uint64_t end = size;

		if (column_count > 1)
			end = (size / krpc.stripe * column_count + c) * krpc.stripe +
			      size % krpc.stripe;
		if (end < f->size)
			f->size = end;
	}
}

int node_find_files(void)
{
	if (list_files())
		return 1;
	for (unsigned int i = 0; i < file_count; i++) {
		for (unsigned int c = 0; c < column_count; c++)
			if (look_at_column(&files[i], c))
				return 1;
		find_size(&files[i]);
	}
	return 0;
}
