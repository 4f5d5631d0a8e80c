// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: taking in requests, replying, and a small filesystem to reply with. */
#include "ringprobe.h"

#include <poll.h>
#include <sys/stat.h>

/* Size of the per-opcode header, and the name, for splitting what /dev/fuse gives. */
static const struct {
	const char *name;
	uint16_t op_len;
} ops[] = {
	[FUSE_LOOKUP] = { "LOOKUP", 0 },
	[FUSE_FORGET] = { "FORGET", sizeof(struct fuse_forget_in) },
	[FUSE_GETATTR] = { "GETATTR", sizeof(struct fuse_getattr_in) },
	[FUSE_SETATTR] = { "SETATTR", sizeof(struct fuse_setattr_in) },
	[FUSE_READLINK] = { "READLINK", 0 },
	[FUSE_SYMLINK] = { "SYMLINK", 0 },
	[FUSE_MKNOD] = { "MKNOD", sizeof(struct fuse_mknod_in) },
	[FUSE_MKDIR] = { "MKDIR", sizeof(struct fuse_mkdir_in) },
	[FUSE_UNLINK] = { "UNLINK", 0 },
	[FUSE_RMDIR] = { "RMDIR", 0 },
	[FUSE_RENAME] = { "RENAME", sizeof(struct fuse_rename_in) },
	[FUSE_LINK] = { "LINK", sizeof(struct fuse_link_in) },
	[FUSE_OPEN] = { "OPEN", sizeof(struct fuse_open_in) },
	[FUSE_READ] = { "READ", sizeof(struct fuse_read_in) },
	[FUSE_WRITE] = { "WRITE", sizeof(struct fuse_write_in) },
	[FUSE_STATFS] = { "STATFS", 0 },
	[FUSE_RELEASE] = { "RELEASE", sizeof(struct fuse_release_in) },
	[FUSE_FSYNC] = { "FSYNC", sizeof(struct fuse_fsync_in) },
	[FUSE_SETXATTR] = { "SETXATTR", FUSE_COMPAT_SETXATTR_IN_SIZE },
	[FUSE_GETXATTR] = { "GETXATTR", sizeof(struct fuse_getxattr_in) },
	[FUSE_LISTXATTR] = { "LISTXATTR", sizeof(struct fuse_getxattr_in) },
	[FUSE_REMOVEXATTR] = { "REMOVEXATTR", 0 },
	[FUSE_FLUSH] = { "FLUSH", sizeof(struct fuse_flush_in) },
	[FUSE_INIT] = { "INIT", sizeof(struct fuse_init_in) },
	[FUSE_OPENDIR] = { "OPENDIR", sizeof(struct fuse_open_in) },
	[FUSE_READDIR] = { "READDIR", sizeof(struct fuse_read_in) },
	[FUSE_RELEASEDIR] = { "RELEASEDIR", sizeof(struct fuse_release_in) },
	[FUSE_FSYNCDIR] = { "FSYNCDIR", sizeof(struct fuse_fsync_in) },
	[FUSE_GETLK] = { "GETLK", sizeof(struct fuse_lk_in) },
	[FUSE_SETLK] = { "SETLK", sizeof(struct fuse_lk_in) },
	[FUSE_SETLKW] = { "SETLKW", sizeof(struct fuse_lk_in) },
	[FUSE_ACCESS] = { "ACCESS", sizeof(struct fuse_access_in) },
	[FUSE_CREATE] = { "CREATE", sizeof(struct fuse_create_in) },
	[FUSE_INTERRUPT] = { "INTERRUPT", sizeof(struct fuse_interrupt_in) },
	[FUSE_DESTROY] = { "DESTROY", 0 },
	[FUSE_IOCTL] = { "IOCTL", sizeof(struct fuse_ioctl_in) },
	[FUSE_POLL] = { "POLL", sizeof(struct fuse_poll_in) },
	[FUSE_NOTIFY_REPLY] = { "NOTIFY_REPLY", 0 },
	[FUSE_BATCH_FORGET] = { "BATCH_FORGET", sizeof(struct fuse_batch_forget_in) },
	[FUSE_FALLOCATE] = { "FALLOCATE", sizeof(struct fuse_fallocate_in) },
	[FUSE_READDIRPLUS] = { "READDIRPLUS", sizeof(struct fuse_read_in) },
	[FUSE_RENAME2] = { "RENAME2", sizeof(struct fuse_rename2_in) },
	[FUSE_LSEEK] = { "LSEEK", sizeof(struct fuse_lseek_in) },
	[FUSE_COPY_FILE_RANGE] = { "COPY_FILE_RANGE", sizeof(struct fuse_copy_file_range_in) },
	[FUSE_TMPFILE] = { "TMPFILE", sizeof(struct fuse_create_in) },
};

static const size_t nops = sizeof(ops) / sizeof(ops[0]);

const char *op_name(unsigned int opcode)
{
	return opcode < nops && ops[opcode].name ? ops[opcode].name : "unknown request";
}

/* -------------------------------------------------------------- taking in */

static void append(struct conn *c, struct req *q)
{
	q->next = NULL;
	*c->last = q;
	c->last = &q->next;
}

static struct req *new_req(struct conn *c)
{
	struct req *q = calloc(1, sizeof(*q));

	if (!q)
		die("out of memory");
	q->c = c;
	return q;
}

void put_req(struct req *q)
{
	free(q->buf);
	free(q);
}

/* Neither request nor reply have anything beyond the structure of the operation */
bool is_bare(unsigned int opcode)
{
	switch (opcode) {
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SETLK:
	case FUSE_SETLKW:
	case FUSE_ACCESS:
	case FUSE_FALLOCATE:
	case FUSE_DESTROY:
		return true;
	}
	return false;
}

/* Where in its pool the payload is: a slice of its own, and none for a bare request. */
static void find_slice(struct conn *c, struct ent *e, const struct fuse_in_header *h)
{
	const struct proto_ring_part *part = &e->h->part;
	struct pool *p = e->pool;
	unsigned int i, used = 0;

	e->pay = NULL;
	e->pay_len = 0;
	if (is_bare(h->opcode)) {
		if (part->offset || part->payload_size)
			die("%s with a payload of %u bytes at %u", op_name(h->opcode),
			    part->payload_size, part->offset);
		return;
	}
	if (part->offset % p->slice || part->offset + p->slice > p->size)
		die("a payload at %u, which is no slice", part->offset);
	e->pay = p->mem + part->offset;
	e->pay_len = p->slice;
	for (i = 0; i < c->nents; i++) {
		const struct ent *other = &c->ents[i];

		if (other->state != ENT_BUSY || other->pool != p || !other->pay_len)
			continue;
		used++;
		if (other != e && other->pay == e->pay)
			die("two requests with their payload at %u", part->offset);
	}
	if (used > p->most)
		p->most = used;
}

/* One completion of an entry: a request, or its end. */
static void take_completion(struct conn *c, struct ring *r, struct io_uring_cqe *cqe)
{
	struct ent *e = (struct ent *)(uintptr_t)cqe->user_data;
	struct req *q;

	(void)r;
	if (e < c->ents || e >= c->ents + c->nents)
		die("a completion (%s) nobody waits for", err_name(cqe->res));
	if (cqe->res < 0) {
		e->state = ENT_DEAD;
		e->res = cqe->res;
		c->ended++;
		return;
	}
	if (e->state != ENT_IDLE)
		die("a request came to an entry that holds one");
	e->state = ENT_BUSY;
	c->ring_requests++;
	q = new_req(c);
	q->e = e;
	memcpy(&q->h, e->h->in_out, sizeof(q->h));
	if (e->pool)
		find_slice(c, e, &q->h);
	q->op = e->h->op_in;
	q->pay = e->pay;
	q->pay_len = e->h->part.payload_size;
	q->op_len = q->h.len - sizeof(q->h) - q->pay_len;
	append(c, q);
}

static bool take_ring(struct conn *c, struct ring *r)
{
	struct io_uring_cqe *cqe;
	unsigned int head, n = 0;

	if (r->setup & IORING_SETUP_DEFER_TASKRUN)
		io_uring_get_events(&r->u);
	io_uring_for_each_cqe(&r->u, head, cqe) {
		take_completion(c, r, cqe);
		n++;
	}
	io_uring_cq_advance(&r->u, n);
	return n;
}

static bool take_dev(struct conn *c)
{
	static __thread uint8_t buf[(1 << 20) + 8192];
	struct fuse_in_header *h = (struct fuse_in_header *)buf;
	struct req *q;
	ssize_t n;

	n = read(c->fd, buf, sizeof(buf));
	if (n < 0)
		return false;	/* nothing there, or no connection any more */
	if (n < (ssize_t)sizeof(*h) || h->len != n)
		die("a request of %zd bytes says it has %u", n, h->len);
	switch (h->opcode) {
	case FUSE_FORGET:
		c->dev_forgets++;
		return true;
	case FUSE_BATCH_FORGET:
		c->dev_forgets += ((struct fuse_batch_forget_in *)(h + 1))->count;
		return true;
	case FUSE_INTERRUPT:
		c->interrupts++;
		c->interrupt_of = ((struct fuse_interrupt_in *)(h + 1))->unique;
		return true;
	}
	c->dev_ordinary++;
	q = new_req(c);
	q->h = *h;
	q->buf = malloc(n);
	if (!q->buf)
		die("out of memory");
	memcpy(q->buf, buf, n);
	q->op = (uint8_t *)q->buf + sizeof(*h);
	q->op_len = h->opcode < nops ? ops[h->opcode].op_len : 0;
	q->pay = (const uint8_t *)q->op + q->op_len;
	q->pay_len = n - sizeof(*h) - q->op_len;
	append(c, q);
	return true;
}

/* A client whose end of job ends waiting for requests. */
static __thread int watched = -1;

void watch_client(struct client *cl)
{
	watched = cl ? cl->sock : -1;
}

/* Take in what is there; when there is nothing, wait for it up to ms. */
bool pump(struct conn *c, int ms)
{
	struct pollfd p[10];
	unsigned int i;
	bool any = false;

	for (i = 0; i < c->nrings; i++)
		any |= take_ring(c, c->rings[i]);
	while (take_dev(c))
		any = true;
	if (any || !ms)
		return false;
	p[0] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = watched, .events = POLLIN };
	for (i = 0; i < c->nrings; i++)
		/* deliveries run only when we enter this kind of ring, so do it often */
		if ((c->rings[i]->setup & IORING_SETUP_DEFER_TASKRUN) && ms > 2)
			ms = 2;
	for (i = 0; i < c->nrings; i++)
		p[i + 2] = (struct pollfd){ .fd = c->rings[i]->u.ring_fd, .events = POLLIN };
	if (poll(p, i + 2, ms) < 0)
		p[0].revents = p[1].revents = 0;
	/* an aborted connection is always readable: do not spin on it */
	if (p[0].revents & POLLERR)
		nap_ms(1);
	for (i = 0; i < c->nrings; i++)
		take_ring(c, c->rings[i]);
	while (take_dev(c))
		;
	return p[1].revents;
}

struct req *try_req(struct conn *c, int ms)
{
	uint64_t end = now_ms() + ms;
	struct req *q;
	int left = ms;

	pump(c, 0);
	while (!c->first && left > 0) {
		if (pump(c, left))
			break;
		left = (int)(end - now_ms());
	}
	q = c->first;
	if (q) {
		c->first = q->next;
		if (!c->first)
			c->last = &c->first;
	}
	return q;
}

struct req *next_req(struct conn *c, const char *what)
{
	struct req *q = try_req(c, LIMIT * 1000);

	if (!q)
		die("waited %d s in vain for %s", LIMIT, what);
	return q;
}

/* --------------------------------------------------------------- replying */

/* Payload is in place already; the request is used up. */
void reply_raw(struct req *q, int error, uint64_t unique, uint32_t payload_sz)
{
	struct fuse_out_header h = { .len = sizeof(h) + payload_sz, .error = error,
				     .unique = unique };
	struct ent *e = q->e;

	if (q->c->fill) {
		memset(e->h->in_out, FILL, sizeof(e->h->in_out));
		memset(e->h->op_in, FILL, sizeof(e->h->op_in));
	}
	memcpy(e->h->in_out, &h, sizeof(h));
	e->h->part.payload_size = payload_sz;
	ent_commit(e, e->qid, e->h->part.commit_id);
	put_req(q);
	ring_submit(e->r);
}

void reply(struct req *q, int error, const void *data, size_t len)
{
	if (q->e) {
		if (len > q->e->pay_len)
			die("reply of %zu bytes does not fit its entry", len);
		if (len && data != q->e->pay)
			memcpy(q->e->pay, data, len);
		reply_raw(q, error ? -abs(error) : 0, q->h.unique, len);
	} else {
		struct fuse_out_header h = { .len = sizeof(h) + len, .unique = q->h.unique,
					     .error = error ? -abs(error) : 0 };
		struct iovec v[2] = { { &h, sizeof(h) }, { (void *)data, len } };

		/* ENOENT: the request was interrupted or the connection aborted */
		if (writev(q->c->fd, v, len ? 2 : 1) < 0 && errno != ENOENT && errno != ENODEV)
			die("reply to %s over /dev/fuse: %s", op_name(q->h.opcode),
			    err_name(errno));
		put_req(q);
	}
}

void answer(struct req *q)
{
	static __thread uint8_t out[(1 << 20) + 4096];
	size_t len = 0, room = q->e ? q->e->pay_len : sizeof(out);
	int err = fs_answer(q->c, q, out, room < sizeof(out) ? room : sizeof(out), &len);

	reply(q, err, out, err ? 0 : len);
}

/* --------------------------------------------------------- the filesystem */

/*
 * Names begin with what they are: f... regular files, d... directories, l...
 * symbolic links; anything else does not exist. The type is part of the node id,
 * and all files share one content.
 */
enum { NODE_FILE = 0x100000, NODE_DIR = 0x200000, NODE_LINK = 0x300000 };

static uint64_t node_of(const char *name)
{
	uint32_t hash = 5381;
	const char *s;

	for (s = name; *s; s++)
		hash = hash * 33 + (uint8_t)*s;
	hash &= 0xffff;
	switch (name[0]) {
	case 'f':
		return NODE_FILE + hash;
	case 'd':
		return NODE_DIR + hash;
	case 'l':
		return NODE_LINK + hash;
	}
	return 0;
}

static void set_attr(struct conn *c, uint64_t node, struct fuse_attr *a)
{
	memset(a, 0, sizeof(*a));
	a->ino = node;
	a->nlink = 1;
	a->blksize = 4096;
	if (node == FUSE_ROOT_ID || node / 0x100000 == 2) {
		a->mode = S_IFDIR | 0777;
		a->nlink = 2;
		a->gid = c->dir_gid;
	} else if (node / 0x100000 == 3) {
		a->mode = S_IFLNK | 0777;
		a->size = 6;
	} else {
		a->mode = S_IFREG | 0666;
		a->size = FILE_SIZE;
	}
}

static size_t put_entry(struct conn *c, uint64_t node, void *out)
{
	struct fuse_entry_out *o = out;

	memset(o, 0, sizeof(*o));
	o->nodeid = node;
	set_attr(c, node, &o->attr);
	return sizeof(*o);
}

void fill_pattern(uint8_t *p, size_t n, uint64_t offset)
{
	size_t i;

	for (i = 0; i < n; i++)
		p[i] = (uint8_t)((offset + i) ^ (offset + i) >> 7 ^ (offset + i) >> 13);
}

static uint8_t *contents(struct conn *c)
{
	if (!c->data) {
		c->data = malloc(FILE_SIZE);
		if (!c->data)
			die("out of memory");
		fill_pattern(c->data, FILE_SIZE, 0);
	}
	return c->data;
}

static size_t put_dirent(uint8_t *out, uint64_t node, uint64_t off, const char *name)
{
	struct fuse_dirent *d = (struct fuse_dirent *)out;
	size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + strlen(name));

	memset(out, 0, size);
	d->ino = node;
	d->off = off;
	d->namelen = strlen(name);
	d->type = 8;
	memcpy(d->name, name, d->namelen);
	return size;
}

int fs_answer(struct conn *c, const struct req *q, void *out, size_t room, size_t *len)
{
	const struct fuse_read_in *rd = q->op;
	const struct fuse_write_in *wr = q->op;
	uint64_t node;

	*len = 0;
	switch (q->h.opcode) {
	case FUSE_LOOKUP:
		node = node_of((const char *)q->pay);
		if (!node)
			return ENOENT;
		*len = put_entry(c, node, out);
		return 0;
	case FUSE_GETATTR:
	case FUSE_SETATTR: {
		struct fuse_attr_out *o = out;

		memset(o, 0, sizeof(*o));
		set_attr(c, q->h.nodeid, &o->attr);
		*len = sizeof(*o);
		return 0;
	}
	case FUSE_READLINK:
		memcpy(out, "target", 6);
		*len = 6;
		return 0;
	case FUSE_SYMLINK:
		*len = put_entry(c, NODE_LINK + 0x10000, out);
		return 0;
	case FUSE_MKDIR:
		*len = put_entry(c, NODE_DIR + 0x10000, out);
		return 0;
	case FUSE_MKNOD:
		*len = put_entry(c, NODE_FILE + 0x10000, out);
		return 0;
	case FUSE_LINK:
		*len = put_entry(c, ((const struct fuse_link_in *)q->op)->oldnodeid, out);
		return 0;
	case FUSE_CREATE:
	case FUSE_TMPFILE:
	case FUSE_OPEN:
	case FUSE_OPENDIR: {
		struct fuse_open_out o = { .fh = 1 };

		if (q->h.opcode == FUSE_CREATE || q->h.opcode == FUSE_TMPFILE)
			*len = put_entry(c, NODE_FILE + 0x20000, out);
		if (q->h.opcode != FUSE_OPENDIR)
			o.open_flags = c->open_flags;
		memcpy((uint8_t *)out + *len, &o, sizeof(o));
		*len += sizeof(o);
		return 0;
	}
	case FUSE_READ: {
		size_t n = rd->size;

		if (rd->offset >= FILE_SIZE)
			return 0;
		if (n > FILE_SIZE - rd->offset)
			n = FILE_SIZE - rd->offset;
		if (n > room)
			return EIO;
		memcpy(out, contents(c) + rd->offset, n);
		*len = n;
		return 0;
	}
	case FUSE_WRITE: {
		struct fuse_write_out o = { .size = wr->size };

		if (wr->size != q->pay_len || wr->offset > FILE_SIZE ||
		    wr->size > FILE_SIZE - wr->offset)
			return EINVAL;
		memcpy(contents(c) + wr->offset, q->pay, wr->size);
		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_READDIR:
		if (rd->offset)
			return 0;
		*len = put_dirent(out, FUSE_ROOT_ID, 1, ".");
		*len += put_dirent((uint8_t *)out + *len, FUSE_ROOT_ID, 2, "..");
		*len += put_dirent((uint8_t *)out + *len, node_of("f1"), 3, "f1");
		return 0;
	case FUSE_STATFS: {
		struct fuse_statfs_out o = { .st = { .blocks = 1000, .bsize = 4096,
						     .frsize = 4096, .namelen = 255 } };

		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR: {
		static const char list[] = "user.a\0user.b", value[] = "value";
		bool all = q->h.opcode == FUSE_LISTXATTR;
		size_t n = all ? sizeof(list) : sizeof(value) - 1;
		uint32_t size = ((const struct fuse_getxattr_in *)q->op)->size;

		if (!size) {
			struct fuse_getxattr_out o = { .size = n };

			memcpy(out, &o, sizeof(o));
			*len = sizeof(o);
			return 0;
		}
		if (size < n)
			return ERANGE;
		memcpy(out, all ? list : value, n);
		*len = n;
		return 0;
	}
	case FUSE_IOCTL: {
		const struct fuse_ioctl_in *in = q->op;
		struct fuse_ioctl_out o = {};
		size_t i;

		/* hands back what it got, each byte increased by one */
		if (sizeof(o) + in->out_size > room)
			return EIO;
		for (i = 0; i < in->out_size; i++)
			((uint8_t *)out)[sizeof(o) + i] = i < q->pay_len ? q->pay[i] + 1 : 1;
		memcpy(out, &o, sizeof(o));
		*len = sizeof(o) + in->out_size;
		return 0;
	}
	case FUSE_LSEEK: {
		struct fuse_lseek_out o = { ((const struct fuse_lseek_in *)q->op)->offset };

		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_COPY_FILE_RANGE: {
		struct fuse_write_out o = {
			.size = ((const struct fuse_copy_file_range_in *)q->op)->len,
		};

		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_GETLK: {
		struct fuse_lk_out o = { .lk = { .type = F_UNLCK } };

		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_POLL: {
		struct fuse_poll_out o = { .revents = POLLIN };

		memcpy(out, &o, sizeof(o));
		*len = sizeof(o);
		return 0;
	}
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FLUSH:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
	case FUSE_SETLK:
	case FUSE_SETLKW:
	case FUSE_ACCESS:
	case FUSE_FALLOCATE:
	case FUSE_DESTROY:
		return 0;
	}
	return ENOSYS;
}
