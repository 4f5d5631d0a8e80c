/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * krpc: what our series has in <linux/fuse_krpc.h>, for programs that are built where
 * that is not installed. Documentation/filesystems/fuse-krpc.rst in the series tells
 * what all of it means.
 */
#ifndef KRPC_PROTO_H
#define KRPC_PROTO_H

#include <linux/ioctl.h>
#include <stdint.h>

#define KRPC_DEVICE "/dev/fuse-krpc"

#define PCS_KRPC_MSG_ALIGNMENT 512
#define PCS_KRPC_MAX_HEADER 64
#define PCS_KRPC_MAX_CHUNKS 256
#define PCS_KRPC_MAX_PAYLOAD (16 << 20)

enum {
	PCS_KRPC_BUF_TYPE_MR = 0,
	PCS_KRPC_BUF_TYPE_UMEM = 1,
	PCS_KRPC_BUF_TYPE_ZC = 2,
};

struct pcs_krpc_buf_desc {
	uint32_t type;
	uint32_t len;
	uint64_t addr;
	uint32_t mr_id;
	uint32_t rsvd;
};
_Static_assert(sizeof(struct pcs_krpc_buf_desc) == 24, "buffer");

struct pcs_krpc_buf_desc_zc {
	uint32_t type;
	uint32_t len;
	uint64_t unique;
	uint32_t devfd;
	uint32_t offset;
};
_Static_assert(sizeof(struct pcs_krpc_buf_desc_zc) == 24, "buffer in a request");

struct pcs_krpczc_chunk {
	uint64_t addr;
	uint32_t offset;
	uint32_t len;
};
_Static_assert(sizeof(struct pcs_krpczc_chunk) == 16, "section of a reply");

#define FUSE_OUT_SPLICES 0x40000000
#define FUSE_OUT_KRPCZC 0x40000001

struct pcs_krpc_field {
	uint16_t offset;
	uint16_t size;
};

#define PCS_KRPC_BIG_ENDIAN (1 << 0)
#define PCS_KRPC_LENGTH_HAS_HEADER (1 << 1)
#define PCS_KRPC_STATUS_OF_MSG (1 << 2)
#define PCS_KRPC_PADDED (1 << 3)

struct pcs_krpc_framing {
	uint32_t flags;
	uint32_t hdr_len;
	uint64_t magic_value;
	uint64_t status_ok;
	struct pcs_krpc_field magic;
	struct pcs_krpc_field cookie;
	struct pcs_krpc_field status;
	struct pcs_krpc_field length;
};
_Static_assert(sizeof(struct pcs_krpc_framing) == 40, "framing");

struct pcs_krpc_adopt {
	int32_t sockfd;
	int32_t devfd;
	uint32_t timeout_ms;
	uint32_t rsvd;
	struct pcs_krpc_framing framing;
};

struct pcs_krpc_mr {
	uint64_t addr;
	uint64_t len;
	uint32_t mr_id;
	uint32_t rsvd;
};

struct pcs_krpc_send {
	uint64_t xid;
	uint64_t user_data;
	struct pcs_krpc_buf_desc hdr;
	uint64_t chunks;
	uint32_t nr_send;
	uint32_t nr_recv;
	uint64_t recv;
};
_Static_assert(sizeof(struct pcs_krpc_send) == 64, "message");

struct pcs_krpc_recv {
	uint64_t xid;
	uint64_t user_data;
	uint64_t status;
	int32_t res;
	uint32_t hdr_len;
	uint8_t hdr[PCS_KRPC_MAX_HEADER];
};
_Static_assert(sizeof(struct pcs_krpc_recv) == 96, "completion");

struct pcs_krpc_stats {
	uint64_t msgs_sent;
	uint64_t msgs_done;
	uint64_t bytes_placed;
	uint64_t bytes_copied;
	uint64_t bytes_drained;
	uint64_t bytes_sent;
	uint64_t bytes_sent_copied;
};

#define PCS_KRPC_IOC_MAGIC 229
#define PCS_KRPC_IOC_SEND_MSG _IOW(PCS_KRPC_IOC_MAGIC, 10, struct pcs_krpc_send)
#define PCS_KRPC_IOC_RECV_MSG _IOR(PCS_KRPC_IOC_MAGIC, 11, struct pcs_krpc_recv)
#define PCS_KRPC_IOC_ABORT _IOW(PCS_KRPC_IOC_MAGIC, 12, uint64_t)
#define PCS_KRPC_IOC_ADOPT _IOW(PCS_KRPC_IOC_MAGIC, 13, struct pcs_krpc_adopt)
#define PCS_KRPC_IOC_REG_MR _IOWR(PCS_KRPC_IOC_MAGIC, 14, struct pcs_krpc_mr)
#define PCS_KRPC_IOC_UNREG_MR _IOW(PCS_KRPC_IOC_MAGIC, 15, uint32_t)
#define PCS_KRPC_IOC_STATS _IOR(PCS_KRPC_IOC_MAGIC, 16, struct pcs_krpc_stats)

/* In a SQE's cmd_op; the first 8 bytes of its command area lead to a struct pcs_krpc_send. */
#define PCS_KRPC_CMD_SEND_MSG 10

#endif
