// SPDX-License-Identifier: GPL-2.0-only
/*
 * A storage node that speaks the protocol of ../server/krpc_le.h: a folder's files, a
 * thread for each connection.
 *
 *   krpcnode [--padded] [--read-only] [--short=BYTES] [--cut=BYTES] [--delay=MSEC]
 *            [--dribble=MSEC] [--early] [--nbd=list|info] PORT FOLDER
 *
 * --short: answers to READ have at most as many bytes. --cut: a connection ends, maybe in
 * the middle of an answer, when so many bytes have been sent. --delay: before each answer to
 * READ. --dribble: before each byte of an answer to OPEN. --early: it answers WRITE before it
 * takes the payload, which it throws away half a second later, and ends the connection. --nbd:
 * see krpcnode_nbd.c. Prints "ready" when it listens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../server/krpc_le.h"
#include "krpcnode.h"

#define ALIGNMENT 512
#define MOST_PAYLOAD (16U << 20)

static bool padded, read_only, early;
static const char *nbd;
static unsigned int most_answer = MOST_PAYLOAD;
static size_t cut = SIZE_MAX;
static unsigned int delay, dribble;
static int folder;

struct connection {
	int sock;
	int file;
	char *data;	/* of MOST_PAYLOAD */
	size_t sent;
	bool slowly;
};

bool receive(int sock, void *data, size_t size)
{
	/* for no bytes it would wait for some */
	return !size || recv(sock, data, size, MSG_WAITALL) == (ssize_t)size;
}

static size_t padding(size_t size)
{
	return padded ? -size & (ALIGNMENT - 1) : 0;
}

static bool skip(int sock, size_t size)
{
	char nowhere[ALIGNMENT];

	return receive(sock, nowhere, size);
}

static bool send_slowly(int sock, const struct iovec *vec, int count)
{
	for (int i = 0; i < count; i++) {
		for (size_t at = 0; at < vec[i].iov_len; at++) {
			usleep(dribble * 1000);
			if (send(sock, (char *)vec[i].iov_base + at, 1, MSG_NOSIGNAL) != 1)
				return false;
		}
	}
	return true;
}

static bool answer(struct connection *c, uint64_t cookie, int error, size_t size)
{
	static char zeros[ALIGNMENT];
	struct le_answer a = {
		.length = htole32(sizeof(a) + (error ? 0 : size)),
		.cookie = cookie,
		.magic = htole16(LE_MAGIC),
		.status = htole16(error),
	};
	struct iovec vec[] = {
		{ &a, sizeof(a) }, { c->data, error ? 0 : size },
		{ zeros, padding(sizeof(a) + (error ? 0 : size)) },
	};
	struct msghdr msg = { .msg_iov = vec, .msg_iovlen = 3 };
	ssize_t all = vec[0].iov_len + vec[1].iov_len + vec[2].iov_len;

	for (int i = 0; i < 3; i++) {
		if (vec[i].iov_len > cut - c->sent)
			vec[i].iov_len = cut - c->sent;
		c->sent += vec[i].iov_len;
	}
	if (c->slowly)
		return send_slowly(c->sock, vec, 3);
	/* it is a blocking socket: all of it goes, or nothing more ever */
	return sendmsg(c->sock, &msg, MSG_NOSIGNAL) == all;
}

/* What a file has, without a copy of ours. False: the connection is of no more use. */
static bool answer_from_file(struct connection *c, const struct le_request *r)
{
	static char zeros[ALIGNMENT];
	off_t offset = le64toh(r->offset);
	size_t size = le32toh(r->count);
	struct stat st;

	if (fstat(c->file, &st) < 0)
		return answer(c, r->cookie, errno, 0);
	if (size > most_answer)
		size = most_answer;
	if (offset < 0 || offset >= st.st_size)
		size = 0;
	else if (size > (size_t)(st.st_size - offset))
		size = st.st_size - offset;
	struct le_answer a = {
		.length = htole32(sizeof(a) + size),
		.cookie = r->cookie,
		.magic = htole16(LE_MAGIC),
	};
	size_t rest = padding(sizeof(a) + size);

	if (send(c->sock, &a, sizeof(a), MSG_NOSIGNAL | (size ? MSG_MORE : 0)) != sizeof(a))
		return false;
	while (size) {
		ssize_t n = sendfile(c->sock, c->file, &offset, size);

		/* it may have become shorter since */
		if (n <= 0)
			return false;
		size -= n;
	}
	return !rest || send(c->sock, zeros, rest, MSG_NOSIGNAL) == (ssize_t)rest;
}

static size_t list(char *data)
{
	DIR *d = fdopendir(openat(folder, ".", O_RDONLY | O_DIRECTORY));
	struct dirent *e;
	size_t size = 0;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		strcpy(data + size, e->d_name);
		size += strlen(e->d_name) + 1;
	}
	if (d)
		closedir(d);
	return size;
}

/* 0 or an error number */
static int open_file(struct connection *c, size_t length)
{
	struct le_opened *o = (struct le_opened *)c->data;
	struct stat st;

	c->data[length] = 0;
	if (c->file >= 0)
		close(c->file);
	c->file = openat(folder, c->data, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (c->file < 0 || fstat(c->file, &st) < 0)
		return errno;
	*o = (struct le_opened){ htole64(st.st_size), htole32(read_only) };
	return 0;
}

/* Do what is asked for. The answer's payload is in c->data, SIZE bytes. */
static int run(struct connection *c, const struct le_request *r, size_t payload, size_t *size)
{
	uint64_t offset = le64toh(r->offset);
	uint32_t count = le32toh(r->count);
	ssize_t n;

	*size = 0;
	switch (le16toh(r->operation)) {
	case LE_LIST:
		*size = list(c->data);
		return 0;
	case LE_OPEN:
		*size = sizeof(struct le_opened);
		return open_file(c, payload);
	case LE_READ:
		if (count > MOST_PAYLOAD)
			return EINVAL;
		n = pread(c->file, c->data, count < most_answer ? count : most_answer, offset);
		*size = n > 0 ? n : 0;
		return n < 0 ? errno : 0;
	case LE_WRITE:
		n = pwrite(c->file, c->data, payload, offset);
		return n < 0 ? errno : (size_t)n < payload ? ENOSPC : 0;
	case LE_FLUSH:
		return fsync(c->file) < 0 ? errno : 0;
	default:
		return EINVAL;
	}
}

static void *serve(void *arg)
{
	struct connection *c = arg;
	struct le_request r;
	bool on = !nbd;

	if (nbd)
		nbd_misbehave(c->sock, nbd);
	while (on && receive(c->sock, &r, sizeof(r))) {
		uint32_t length = le32toh(r.length);
		size_t size = 0;
		int error;

		if (early && le16toh(r.operation) == LE_WRITE) {
			on = answer(c, r.cookie, 0, 0);
			usleep(500000);
		}
		if (length < sizeof(r) || length - sizeof(r) >= MOST_PAYLOAD ||
		    !receive(c->sock, c->data, length - sizeof(r)) ||
		    !skip(c->sock, padding(length)))
			break;
		if (early && le16toh(r.operation) == LE_WRITE)
			break;
		if (le16toh(r.operation) == LE_READ && delay)
			usleep(delay * 1000);
		if (le16toh(r.operation) == LE_READ && cut == SIZE_MAX) {
			on = answer_from_file(c, &r);
			continue;
		}
		error = run(c, &r, length - sizeof(r), &size);
		c->slowly = dribble && le16toh(r.operation) == LE_OPEN;
		on = answer(c, r.cookie, error, size);
	}
	close(c->sock);
	if (c->file >= 0)
		close(c->file);
	free(c->data);
	free(c);
	return NULL;
}

static int listen_on(unsigned int port)
{
	struct sockaddr_in at = {
		.sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int one = 1, sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (early) {
		int small = 536, less = 4096;

		/* the other side's buffer for what it sends depends on that, too */
		setsockopt(sock, IPPROTO_TCP, TCP_MAXSEG, &small, sizeof(small));
		setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &less, sizeof(less));
	}
	if (sock < 0 || bind(sock, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    listen(sock, 64) < 0) {
		perror("krpcnode");
		exit(1);
	}
	return sock;
}

static void start(int sock)
{
	struct connection *c = calloc(1, sizeof(*c));
	pthread_t thread;
	int one = 1;

	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (c)
		*c = (struct connection){ .sock = sock, .file = -1, .data = malloc(MOST_PAYLOAD) };
	if (!c || !c->data || pthread_create(&thread, NULL, serve, c)) {
		fprintf(stderr, "krpcnode: no room for a connection\n");
		exit(1);
	}
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	int sock, fd;

	for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
		if (!strcmp(argv[1], "--padded"))
			padded = true;
		else if (!strcmp(argv[1], "--read-only"))
			read_only = true;
		else if (!strncmp(argv[1], "--short=", 8))
			most_answer = atoi(argv[1] + 8);
		else if (!strncmp(argv[1], "--cut=", 6))
			cut = atoi(argv[1] + 6);
		else if (!strncmp(argv[1], "--delay=", 8))
			delay = atoi(argv[1] + 8);
		else if (!strncmp(argv[1], "--dribble=", 10))
			dribble = atoi(argv[1] + 10);
		else if (!strcmp(argv[1], "--early"))
			early = true;
		else if (!strncmp(argv[1], "--nbd=", 6))
			nbd = argv[1] + 6;
		else
			argc = 0;
	}
	if (argc != 3) {
		fprintf(stderr, "usage: krpcnode [--padded] [--read-only] [--short=BYTES] "
				"[--cut=BYTES] [--delay=MSEC] [--dribble=MSEC] [--early] "
				"[--nbd=list|info] PORT FOLDER\n");
		return 2;
	}
	folder = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0) {
		perror(argv[2]);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	sock = listen_on(atoi(argv[1]));
	puts("ready");
	fflush(stdout);
	while ((fd = accept4(sock, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		start(fd);
	perror("krpcnode");
	return 1;
}
