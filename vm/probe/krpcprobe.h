/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * krpcprobe: FUSE reads that are answered by a storage node, both by hand.
 *
 * The process is FUSE server, owner of the endpoints and storage node at once: the node is
 * the other end of a loopback connection, to which the steps of a case write byte by byte.
 * Applications are other processes (clients); what they read lands in memory that is shared
 * with them, so that it can be looked at before, while and after it is written to.
 * Transport: $SECTION.
 */
#ifndef KRPCPROBE_H
#define KRPCPROBE_H

#include "ringprobe.h"

#include "../server/krpc_proto.h"

enum {
	PAGE = 4096,
	APP_SIZE = 1 << 20,	/* of the memory shared with applications */
	POISON = 0x5e,		/* what is in it before */
	MAX_APPS = 8,
	ASK = 16,		/* length of a header that is sent to a node */
};

static inline const char *yes(bool b)
{
	return b ? "yes" : "no";
}

/* ------------------------------------------------------- mount and applications -- */

struct stage {
	struct conn c;
	struct ring r;
	bool ring;		/* requests come over it */
	bool mixed;		/* not all of them need to */
	struct client cl[MAX_APPS];
	unsigned int ncl;
};

extern uint8_t *app;		/* APP_SIZE bytes, poisoned by stage_open() */
void app_make(void);		/* for those who do without a stage */

bool over_ring(void);		/* by $SECTION */
void stage_open(struct stage *s, unsigned int clients, const struct init_opts *o);
void stage_close(struct stage *s);	/* all is over in the ordinary way */
void poison(void);
bool poisoned(size_t at, size_t len);
bool right(size_t at, size_t len, uint64_t offset);	/* the file's data from offset on */

/* parts: where in app, as "AT:LEN,AT:LEN"; direct: past the page cache */
void app_read(struct stage *s, unsigned int i, const char *name, uint64_t offset, bool direct,
	      const char *parts);
/* With one application, that has looked: so it is known which way requests take */
void stage_plain(struct stage *s);
void app_end(struct stage *s, unsigned int i);	/* serves until it has its answer */
void app_say(struct stage *s, unsigned int i, const char *what);	/* the same, told */
struct req *next_read(struct stage *s);		/* answers all else */
const struct fuse_read_in *read_in(const struct req *q);
/* the next read, of a new application process i: "f1", len bytes at 0 to app, direct */
struct req *claimable(struct stage *s, unsigned int i, size_t len);

/* 0 or errno of the reply itself; the request stays the caller's to put */
int try_reply(struct req *q, int32_t error, const void *data, size_t len);
/* the same, when what was claimed is being given back */
int reply_soon(struct req *q, int32_t error, const void *data, size_t len);
int try_chunks(struct req *q, const struct pcs_krpczc_chunk *ch, unsigned int n);
void end_read(struct req *q);	/* an ordinary reply with the right data */
void fail_read(struct req *q);	/* EIO */

/* ---------------------------------------------------------------- endpoint, node -- */

struct node {
	int ep;			/* /dev/fuse-krpc */
	int sock;		/* what it has adopted */
	int peer;		/* the node's end, -1: gone */
	int devfd;
	struct pcs_krpc_framing f;
};

union desc {
	struct pcs_krpc_buf_desc mem;
	struct pcs_krpc_buf_desc_zc zc;
};

/* magic, status, cookie and length in 24 bytes, big-endian; status is of the message only */
extern const struct pcs_krpc_framing full_framing;
/* as NBD's: no length, an error status is the end */
extern const struct pcs_krpc_framing short_framing;

enum { MAGIC = 0x67446698, STATUS_OK = 0 };

void tcp_pair(int s[2]);
int ep_open(void);
int ep_adopt(int ep, int sock, int devfd, const struct pcs_krpc_framing *f, uint32_t timeout_ms);
void node_open(struct node *n, struct conn *c, const struct pcs_krpc_framing *f,
	       uint32_t timeout_ms);
void node_close(struct node *n);

/* buffers */
union desc zc(const struct node *n, const struct req *q, uint32_t offset, uint32_t len);
union desc umem(void *p, uint32_t len);
union desc mr(uint32_t id, const void *p, uint32_t len);

/* 0 or errno */
void make_send(struct pcs_krpc_send *m, void *hdr, uint64_t xid, const union desc *d,
	       unsigned int nr_send, unsigned int nr_recv);
int ep_send(struct node *n, uint64_t xid, const union desc *d, unsigned int nr_send,
	    unsigned int nr_recv);
int ep_send_zc(struct node *n, uint64_t xid, struct req *q, uint32_t offset, uint32_t len);
/* the same as a command, to be submitted: m, and what it names, must stay until then */
struct io_uring_sqe *cmd_send(struct ring *r, struct node *n, struct pcs_krpc_send *m, void *user);
int ep_recv(struct node *n, struct pcs_krpc_recv *r);	/* at once: EAGAIN */
void ep_wait(struct node *n, struct pcs_krpc_recv *r);	/* dies after LIMIT, or of an error */
int ep_abort(struct node *n, uint64_t xid);
int ep_reg(struct node *n, void *p, size_t len, uint32_t *id);
int ep_unreg(struct node *n, uint32_t id);
struct pcs_krpc_stats ep_stats(struct node *n);
/* until so many have been placed, copied and drained, all in all */
void wait_bytes(struct node *n, uint64_t bytes);
int ep_poll(struct node *n, int events, int ms);	/* what there is */
const char *events_name(int events);
void end_say(struct node *n, const char *what);		/* the next completion, told */
int end_of(struct node *n, uint64_t *xid);		/* the next completion's res; 1: none */

/* the node's side */
uint64_t node_take(struct node *n);			/* the next message's xid */
void node_skip(struct node *n, size_t len);		/* its payload */
size_t node_head(struct node *n, uint8_t *to, uint64_t xid, uint64_t status, uint64_t len);
void node_write(struct node *n, const void *p, size_t len);
void node_answer(struct node *n, uint64_t xid, uint64_t status, const void *data, size_t len);
void node_data(struct node *n, uint64_t xid, uint64_t offset, size_t len);	/* of the file */
void node_reset(struct node *n);
void node_half_close(struct node *n);
bool node_sees_end(struct node *n);	/* what comes next is the end of the connection */

/* sub-commands */
/* "[N] [--seed N] [--verbose]" of what is left to chance */
struct chances {
	unsigned long want;
	uint64_t first;		/* seed; the following ones are those after it */
	bool verbose;
};
struct chances chances_of(int argc, char **argv, unsigned long want);

extern const struct command adopt_commands[], send_commands[], reply_commands[],
	answer_commands[], done_commands[], end_commands[], chance_commands[], fuzz_commands[],
	rare_commands[], sock_commands[];

#endif
