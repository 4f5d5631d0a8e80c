/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * krpcfs: files that lie on storage nodes.
 *
 * A file is striped over columns; a column has replicas, each an export of its name on a
 * node. A thread has a connection of its own (krpc_link.c) to each replica that it uses.
 * A request becomes messages (krpc_work.c), which go to a node and come to an end either
 * with the kernel's help (krpc_kernel.c) or through the socket (krpc_plain.c). What of
 * that fails goes to another replica, or again to the same one (krpc_retry.c); replicas that
 * missed something are not used any more (krpc_stale.c).
 */
#ifndef KRPC_H
#define KRPC_H

#include <limits.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "backend.h"
#include "krpc_proto.h"
#include "loop.h"
#include "request.h"

#define MOST_COLUMNS 16
#define MOST_REPLICAS 8
#define MOST_FILES 256

enum krpc_mode { MODE_OFF, MODE_UMEM, MODE_MR, MODE_ZC, MODE_MIXED };
enum krpc_submit { SUBMIT_IOCTL, SUBMIT_URING };

struct krpc_options {
	enum krpc_mode mode;
	enum krpc_submit submit;
	const struct framing *framing;
	uint64_t stripe;		/* bytes; matters with more than one column */
	uint32_t max_message;		/* bytes of payload */
	unsigned int timeout;		/* for an answer, in ms */
	unsigned int patience;		/* with a message that fails, in ms */
	bool hasty;			/* test aid: reply before the data is there */
};

struct place {
	char *host;
	char *port;
};

struct column {
	unsigned int replicas;
	struct place place[MOST_REPLICAS];
};

struct file {
	char name[NAME_MAX + 1];
	char export[NAME_MAX + 1];
	uint64_t size;
	uint64_t column_size[MOST_COLUMNS];
	bool read_only;
	/* krpc_stale.c's; any thread */
	bool stale[MOST_COLUMNS][MOST_REPLICAS];
	unsigned int doubtful[MOST_COLUMNS];	/* replicas, as bits */
	bool unlike[MOST_COLUMNS][MOST_REPLICAS];	/* it was said */
	uint64_t changed;		/* nanoseconds since 1970; any thread */
};

extern struct krpc_options krpc;
extern struct column columns[MOST_COLUMNS];
extern unsigned int column_count;
extern struct file *files;
extern unsigned int file_count;

/* ------------------------------------------------------------------ messages */

enum operation_kind { NODE_READ, NODE_WRITE, NODE_FLUSH };

/* What differs between kinds of nodes (krpc_nbd.c, krpc_le.c). */
struct framing {
	const char *name;
	struct pcs_krpc_framing answer;
	/* Write a message's header; returns its length. */
	unsigned int (*header)(uint8_t *at, enum operation_kind kind, uint64_t cookie,
			       uint64_t offset, uint32_t length);
	/*
	 * With a fresh connection: agree on the export NAME. 0 or an error number.
	 * LIST: call it for each name the node has, instead.
	 */
	int (*open)(int sock, const char *name, uint64_t *size, bool *read_only);
	int (*list)(int sock, void (*each)(const char *name));
};

extern const struct framing framing_nbd, framing_le, framing_le_padded;

/* Numbers of an answer's header. */
struct answer {
	bool wrong;
	uint64_t cookie;
	uint64_t status;
	bool has_length;
	uint32_t length;	/* without the header */
};
void framing_parse(const struct pcs_krpc_framing *f, const uint8_t *header, struct answer *a);
/* Bytes after a message of LENGTH. */
uint32_t framing_padding(const struct pcs_krpc_framing *f, uint32_t length);

/* A part of a request that lies in one piece, there and at the node. */
struct piece {
	uint32_t offset;	/* in the request */
	uint32_t length;
};

/* A message: part of a request, to one column. */
struct message {
	struct awaited done;	/* submitted by io_uring */
	struct work *work;
	struct link *link;
	struct message *next;	/* of a list: waiting, under way, to be tried again */
	struct message *next_unsent;
	bool is_sent;		/* by krpc_plain.c: all of it, nothing refers to it any more */
	uint64_t cookie;
	uint64_t begun;		/* microseconds, as are all such */
	uint64_t sent_at;
	uint64_t position;	/* in the column */
	uint32_t length;
	uint32_t got;
	unsigned int column;
	int replica;		/* -1: any */
	unsigned int refused_by;	/* replicas that answered with an error, as bits */
	unsigned int refusals;
	bool submitted;		/* at least once: a node may have seen it */
	bool copied;		/* into our memory, though others are placed */
	bool aside;		/* was last told to go to the work's side */
	int error;
	unsigned int pieces;
	struct piece *piece;
	struct pcs_krpc_buf_desc *buffer;	/* for each piece */
	struct iovec *vec;	/* the same for sockets: header, pieces, padding */
	struct msghdr msg;
	unsigned int header_length;
	uint8_t header[PCS_KRPC_MAX_HEADER];
	struct pcs_krpc_send send;
	struct pcs_krpc_recv recv;
};

/* A request that waits for messages. */
struct work {
	struct request *rq;	/* NULL: replied already */
	uint64_t unique;
	struct file *file;
	enum operation_kind kind;
	char *data;
	struct iovec memory;	/* the pages that data is in */
	uint32_t size;
	uint64_t offset;	/* in the file, of a write */
	bool in_chunks;		/* the reply is an array of sections */
	bool then_flush;	/* a write that is to be safe before the reply */
	unsigned int open;	/* messages that have not ended */
	unsigned int messages, most_messages;
	struct message *message;
	unsigned int pieces, most_pieces, most_buffers, most_vecs;
	struct piece *piece;
	struct pcs_krpc_buf_desc *buffer;
	struct iovec *vec;
	char *side;		/* for copied sections, as large as the largest request */
	struct awaited over;
	struct work *next;
};

/* krpc_work.c: methods; the end of a message, with bytes or a negative error number */
int krpc_read(struct request *rq, uint64_t fh, void *data, size_t size, uint64_t offset);
int krpc_write(struct request *rq, uint64_t fh, const void *data, size_t size, uint64_t offset,
	       int rwf, bool kill_suid);
int krpc_fsync(struct request *rq, uint64_t fh, bool data_only);
void message_is_over(struct message *m, int result);
/* Where the payload at OFFSET of the request is, for messages that do not place it. */
char *message_memory(const struct message *m, uint32_t offset);
/* The kernel places its payload in the request. */
bool message_is_placed(const struct message *m);
void work_free_all(void);

/* krpc_stale.c: replicas that have missed a write, so that nobody may read from them */
bool replica_is_stale(const struct file *f, unsigned int column, unsigned int replica);
void replica_leave_behind(struct file *f, unsigned int column, unsigned int replica);
/* A write has failed on all in MASK, but may have come to some: the first that answers counts. */
void replicas_doubt(struct file *f, unsigned int column, unsigned int mask);
/* It has answered. */
void replica_answered(struct file *f, unsigned int column, unsigned int replica);

/* krpc_retry.c */
void message_launch(struct message *m);
/* It was submitted and came to RESULT; STATUS is the node's. */
void message_ended(struct message *m, int result, uint64_t status);
/* Its connection failed before it was submitted. */
void message_retry(struct message *m, int error);
uint64_t now_usec(void);

/* --------------------------------------------------------------- connections */

struct region {
	struct iovec memory;
	uint32_t id;
};

struct link {
	struct thread *thread;
	struct file *file;
	unsigned int column, replica;
	enum { LINK_DOWN, LINK_CONNECTING, LINK_UP, LINK_BROKEN } state;
	uint64_t retry_at;
	unsigned int back_off;	/* ms */
	struct awaited connected;
	int sock;		/* what the connecting thread brings, too */
	struct message *waiting;	/* until it is up */
	/* submitted, in order; it may be closed when there are none */
	struct message *first, **last;
	uint64_t cookie;
	struct link *next_up;	/* of all threads' */

	/* krpc_kernel.c */
	int endpoint;
	bool polling;
	struct awaited polled;
	struct region *regions;
	unsigned int region_count;

	/* krpc_plain.c */
	struct awaited sent, received;
	bool sending, receiving;
	struct message *unsent, **unsent_last, *sending_one;
	size_t tx_size;		/* what is left of that */
	struct message *receiving_one;
	enum { RX_HEADER, RX_PAYLOAD, RX_REST } rx;	/* what comes */
	uint32_t rx_size;	/* of that */
	uint64_t rx_status;
	uint32_t rx_length, rx_rest;
	struct msghdr rx_msg;
	struct iovec rx_vec;
	uint8_t rx_header[PCS_KRPC_MAX_HEADER];
	uint8_t rx_nowhere[PCS_KRPC_MSG_ALIGNMENT];
};

/* What a thread has. */
struct thread {
	struct loop *loop;
	struct link **links;
	struct message *later;	/* to be tried again */
	struct awaited tick;
	bool ticking;
	struct __kernel_timespec period;
	struct work *spare;
};

struct thread *krpc_thread(void);

/* krpc_link.c */
void krpc_thread_start(struct loop *l);
void krpc_thread_stop(struct loop *l);
void krpc_abandon(void);
struct link *link_of(struct thread *t, const struct file *f, unsigned int column,
		     unsigned int replica);
/* One that is down: in a while its waiting messages are submitted, or tried again. */
void link_connect(struct link *l);
void link_submit(struct link *l, struct message *m);
/* Of no more use: closed as soon as the last message has ended. */
void link_break(struct link *l, int error);
/* Take a message from those submitted. */
void link_take(struct link *l, struct message *m);
/* Something of it has ended: a broken one is closed after the last. */
void link_idle(struct link *l);
/* For all that are up, of all threads, none of which changes meanwhile. */
void link_each_up(void (*call)(struct link *l, void *arg), void *arg);

/* krpc_kernel.c: 0 or an error number */
int kernel_adopt(struct link *l);
void kernel_submit(struct link *l, struct message *m);
void kernel_close(struct link *l);

/* krpc_plain.c */
void plain_start(struct link *l);
void plain_submit(struct link *l, struct message *m);
/* End what is under way. */
void plain_break(struct link *l);
/* Look for an answer that does not come. */
void plain_look(struct link *l);

/* ---------------------------------------------------------------------- nodes */

/* krpc_node.c: 0 or exit status; and an end to all handshakes, in any thread */
int node_start(void);
void node_abandon(void);
void node_stop(void);
/*
 * A socket or a negative error number. What this and the two below wait for is to be there within
 * krpc.timeout from here, all of it.
 */
int node_connect(const struct place *p);
void node_cut_in_the_end(int sock);
int node_send(int sock, const void *data, size_t size);
int node_recv(int sock, void *data, size_t size);
/* Find out which files there are, and their sizes. 0 or exit status. */
int node_find_files(void);

/* ---------------------------------------------------------------- the others */

/* krpc_tree.c */
extern const struct backend krpc_backend;

/* krpc_count.c */
enum count {
	COUNT_MSGS_SENT, COUNT_MSGS_DONE, COUNT_PLACED, COUNT_COPIED, COUNT_DRAINED,
	COUNT_SENT, COUNT_SENT_COPIED,
	/* those above are of endpoints */
	COUNT_CONNECTS, COUNT_FAILED_CONNECTS, COUNT_LOST, COUNT_TIMEOUTS, COUNT_REFUSED,
	COUNT_MOVED, COUNT_STALE, COUNT_PLAIN, COUNTS
};
void count_start(void);
void count_add(enum count which, uint64_t n);
/* An endpoint is there, or is about to be closed. */
void count_endpoint(int endpoint, bool there);
/* Bring the counters of endpoints up to date. */
void count_update(void);

#endif
