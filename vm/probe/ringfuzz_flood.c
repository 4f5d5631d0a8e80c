// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: REGISTER without end, all with the same buffers. */
#include "ringfuzz.h"

#include <sys/mman.h>

/*
 * Registers up to N entries and says how many the kernel took, then waits for its
 * standard input to end: what it holds can be looked at until then.
 */
int flood(unsigned long want)
{
	static struct iovec iov[2];
	struct init_opts o = {};
	unsigned long held = 0;
	struct io_uring_cqe *cqe;
	struct conn c;
	struct ring r;
	int err = 0;
	char end;

	conn_mount(&c);
	conn_init(&c, &o);
	if (!c.offered)
		die("the kernel does not offer the ring");
	iov[0].iov_len = sizeof(struct proto_ring_header);
	iov[1].iov_len = payload_size(&c);
	iov[0].iov_base = mmap(NULL, 4096 + iov[1].iov_len, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (iov[0].iov_base == MAP_FAILED)
		die("out of memory");
	iov[1].iov_base = (uint8_t *)iov[0].iov_base + 4096;
	ring_open(&r, 256, IORING_SETUP_SQE128);
	while (held < want && !err) {
		unsigned int i, n = want - held < 128 ? want - held : 128;

		for (i = 0; i < n; i++) {
			struct io_uring_sqe *sqe = ring_cmd(&r, c.fd, PROTO_RING_REGISTER, 0, 0, iov);

			sqe->addr = (uintptr_t)iov;
			sqe->len = 2;
		}
		ring_submit(&r);
		held += n;
		while (!io_uring_peek_cqe(&r.u, &cqe)) {
			err = cqe->res;
			held--;
			io_uring_cqe_seen(&r.u, cqe);
		}
	}
	say("%lu entries held%s%s", held, err ? ", then " : "", err ? err_name(err) : "");
	if (read(STDIN_FILENO, &end, 1) < 0)
		errno = 0;
	conn_close(&c);
	ring_close(&r);
	return 0;
}
