// SPDX-License-Identifier: GPL-2.0-only
/* ringprobe: where the parts of requests and replies are, and buffers of odd shape. */
#include "ringprobe.h"

#include <dirent.h>
#include <grp.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

/* ------------------------------------------------- one job per operation */

static int at(struct job *j, const char *name)
{
	size_t n = strlen(j->path2);

	snprintf(j->path, sizeof(j->path), "%.*s/%s", (int)n, j->path2, name);
	return 0;
}

static int result(bool good)
{
	return good ? 0 : errno;
}

/* Open f1 (or d1), do something with it, close it. */
#define WITH_FILE(name, flags, what) do {		\
	int fd, err = 0;				\
	at(j, name);					\
	fd = open(j->path, flags, 0600);		\
	if (fd < 0)					\
		return errno;				\
	if (!(what))					\
		err = errno;				\
	close(fd);					\
	return err;					\
} while (0)

static int op_getattr(struct job *j)
{
	struct stat st;

	WITH_FILE("f1", O_RDONLY, !fstat(fd, &st));
}

static int op_setattr(struct job *j)
{
	at(j, "f1");
	return result(!truncate(j->path, 1234));
}

static int op_readlink(struct job *j)
{
	char text[16] = "";

	at(j, "l1");
	if (readlink(j->path, text, sizeof(text) - 1) < 0)
		return errno;
	return strcmp(text, "target") ? EBADMSG : 0;
}

static int op_symlink(struct job *j)
{
	at(j, "xs");
	return result(!symlink("where", j->path));
}

static int op_mknod(struct job *j)
{
	at(j, "xn");
	return result(!mknod(j->path, S_IFREG | 0600, 0));
}

static int op_mkdir(struct job *j)
{
	at(j, "xd");
	return result(!mkdir(j->path, 0750));
}

static int op_unlink(struct job *j)
{
	at(j, "f9");
	return result(!unlink(j->path));
}

static int op_rmdir(struct job *j)
{
	at(j, "d9");
	return result(!rmdir(j->path));
}

static int op_rename(struct job *j)
{
	char to[512];

	at(j, "f8");
	snprintf(to, sizeof(to), "%s/xto", j->path2);
	return result(!rename(j->path, to));
}

static int op_rename2(struct job *j)
{
	char to[512];

	at(j, "f7");
	snprintf(to, sizeof(to), "%s/xto2", j->path2);
	return result(!renameat2(AT_FDCWD, j->path, AT_FDCWD, to, RENAME_NOREPLACE));
}

static int op_link(struct job *j)
{
	char to[512];

	at(j, "f6");
	snprintf(to, sizeof(to), "%s/xlink", j->path2);
	return result(!link(j->path, to));
}

static int op_open(struct job *j)
{
	WITH_FILE("f1", O_RDONLY, true);
}

static int op_read(struct job *j)
{
	uint8_t got[5000], want[5000];

	fill_pattern(want, sizeof(want), 4096);
	WITH_FILE("f1", O_RDONLY | O_DIRECT,
		  pread(fd, got, 4096, 4096) == 4096 &&
		  (!memcmp(got, want, 4096) || (errno = EBADMSG, false)));
}

static int op_write(struct job *j)
{
	WITH_FILE("f1", O_WRONLY, pwrite(fd, "some data", 9, 100) == 9);
}

static int op_statfs(struct job *j)
{
	struct statfs st;

	if (statfs(j->path2, &st))
		return errno;
	return st.f_blocks == 1000 && st.f_namelen == 255 ? 0 : EBADMSG;
}

static int op_fsync(struct job *j)
{
	WITH_FILE("f1", O_WRONLY, !fdatasync(fd));
}

static int op_setxattr(struct job *j)
{
	at(j, "f1");
	return result(!setxattr(j->path, "user.name", "value", 5, XATTR_CREATE));
}

static int op_getxattr_size(struct job *j)
{
	at(j, "f1");
	return result(getxattr(j->path, "user.name", NULL, 0) == 5);
}

static int op_getxattr(struct job *j)
{
	char value[100];

	at(j, "f1");
	if (getxattr(j->path, "user.name", value, sizeof(value)) != 5)
		return errno;
	return memcmp(value, "value", 5) ? EBADMSG : 0;
}

static int op_listxattr_size(struct job *j)
{
	at(j, "f1");
	return result(listxattr(j->path, NULL, 0) == 14);
}

static int op_listxattr(struct job *j)
{
	char list[100];

	at(j, "f1");
	if (listxattr(j->path, list, sizeof(list)) != 14)
		return errno;
	return memcmp(list, "user.a\0user.b", 14) ? EBADMSG : 0;
}

static int op_removexattr(struct job *j)
{
	at(j, "f1");
	return result(!removexattr(j->path, "user.name"));
}

static int op_readdir(struct job *j)
{
	DIR *d = opendir(j->path2);
	struct dirent *e;
	bool found = false;

	if (!d)
		return errno;
	errno = 0;
	while ((e = readdir(d)))
		found |= !strcmp(e->d_name, "f1");
	if (!errno && !found)
		errno = EBADMSG;
	closedir(d);
	return found ? 0 : errno;
}

static int op_fsyncdir(struct job *j)
{
	WITH_FILE("d1", O_RDONLY | O_DIRECTORY, !fsync(fd));
}

static int op_getlk(struct job *j)
{
	struct flock l = { .l_type = F_WRLCK, .l_start = 10, .l_len = 20 };

	WITH_FILE("f1", O_RDWR, !fcntl(fd, F_GETLK, &l) && l.l_type == F_UNLCK);
}

static int op_setlk(struct job *j)
{
	struct flock l = { .l_type = F_WRLCK, .l_start = 10, .l_len = 20 };

	WITH_FILE("f1", O_RDWR, !fcntl(fd, F_SETLK, &l));
}

static int op_access(struct job *j)
{
	at(j, "f1");
	return result(!access(j->path, R_OK));
}

static int op_create(struct job *j)
{
	WITH_FILE("xc", O_CREAT | O_EXCL | O_WRONLY, true);
}

static int op_tmpfile(struct job *j)
{
	WITH_FILE("", O_TMPFILE | O_RDWR, true);
}

static int op_ioctl(struct job *j)
{
	char b[16] = "abcdefghijklmno";

	WITH_FILE("f1", O_RDONLY,
		  !ioctl(fd, _IOWR('r', 1, char[16]), b) &&
		  (!memcmp(b, "bcdefghijklmnop", 15) || (errno = EBADMSG, false)));
}

static int op_fallocate(struct job *j)
{
	WITH_FILE("f1", O_WRONLY, !fallocate(fd, FALLOC_FL_KEEP_SIZE, 8192, 4096));
}

static int op_lseek(struct job *j)
{
	WITH_FILE("f1", O_RDONLY, lseek(fd, 1000, SEEK_DATA) == 1000);
}

static int op_copy_range(struct job *j)
{
	loff_t from = 0, to = 8192;

	WITH_FILE("f1", O_RDWR, copy_file_range(fd, &from, fd, &to, 4096, 0) == 4096);
}

static int op_poll(struct job *j)
{
	struct pollfd p = { .events = POLLIN };

	WITH_FILE("f1", O_RDONLY, (p.fd = fd, poll(&p, 1, 0) == 1));
}

/* ------------------------------------------------------------ the table */

struct place {
	const char *name;
	uint32_t opcode;
	int (*run)(struct job *j);
	/* a field of the per-op header and what must be in it */
	size_t off, size;
	uint64_t want;
};

#define FIELD(type, member) offsetof(struct type, member), \
	sizeof(((struct type *)NULL)->member)

static const struct place places[] = {
	{ "LOOKUP", FUSE_LOOKUP, do_stat, 0, 0, 0 },
	{ "GETATTR", FUSE_GETATTR, op_getattr, 0, 0, 0 },
	{ "SETATTR", FUSE_SETATTR, op_setattr, FIELD(fuse_setattr_in, size), 1234 },
	{ "READLINK", FUSE_READLINK, op_readlink, 0, 0, 0 },
	{ "SYMLINK", FUSE_SYMLINK, op_symlink, 0, 0, 0 },
	{ "MKNOD", FUSE_MKNOD, op_mknod, FIELD(fuse_mknod_in, mode), S_IFREG | 0600 },
	{ "MKDIR", FUSE_MKDIR, op_mkdir, FIELD(fuse_mkdir_in, umask), 022 },
	{ "UNLINK", FUSE_UNLINK, op_unlink, 0, 0, 0 },
	{ "RMDIR", FUSE_RMDIR, op_rmdir, 0, 0, 0 },
	{ "RENAME", FUSE_RENAME, op_rename, FIELD(fuse_rename_in, newdir), FUSE_ROOT_ID },
	{ "RENAME2", FUSE_RENAME2, op_rename2, FIELD(fuse_rename2_in, flags), 1 },
	{ "LINK", FUSE_LINK, op_link, 0, 0, 0 },
	{ "OPEN", FUSE_OPEN, op_open, 0, 0, 0 },
	{ "READ", FUSE_READ, op_read, FIELD(fuse_read_in, size), 4096 },
	{ "WRITE", FUSE_WRITE, op_write, FIELD(fuse_write_in, offset), 100 },
	{ "STATFS", FUSE_STATFS, op_statfs, 0, 0, 0 },
	{ "RELEASE", FUSE_RELEASE, op_open, FIELD(fuse_release_in, fh), 1 },
	{ "FSYNC", FUSE_FSYNC, op_fsync, FIELD(fuse_fsync_in, fsync_flags), 1 },
	{ "SETXATTR", FUSE_SETXATTR, op_setxattr, FIELD(fuse_setxattr_in, size), 5 },
	{ "GETXATTR of size 0", FUSE_GETXATTR, op_getxattr_size,
	  FIELD(fuse_getxattr_in, size), 0 },
	{ "GETXATTR", FUSE_GETXATTR, op_getxattr, FIELD(fuse_getxattr_in, size), 100 },
	{ "LISTXATTR of size 0", FUSE_LISTXATTR, op_listxattr_size,
	  FIELD(fuse_getxattr_in, size), 0 },
	{ "LISTXATTR", FUSE_LISTXATTR, op_listxattr, FIELD(fuse_getxattr_in, size), 100 },
	{ "REMOVEXATTR", FUSE_REMOVEXATTR, op_removexattr, 0, 0, 0 },
	{ "FLUSH", FUSE_FLUSH, op_open, FIELD(fuse_flush_in, fh), 1 },
	{ "OPENDIR", FUSE_OPENDIR, op_readdir, 0, 0, 0 },
	{ "READDIR", FUSE_READDIR, op_readdir, FIELD(fuse_read_in, offset), 0 },
	{ "RELEASEDIR", FUSE_RELEASEDIR, op_readdir, FIELD(fuse_release_in, fh), 1 },
	{ "FSYNCDIR", FUSE_FSYNCDIR, op_fsyncdir, FIELD(fuse_fsync_in, fsync_flags), 0 },
	{ "GETLK", FUSE_GETLK, op_getlk, FIELD(fuse_lk_in, lk.start), 10 },
	{ "SETLK", FUSE_SETLK, op_setlk, FIELD(fuse_lk_in, lk.end), 29 },
	{ "ACCESS", FUSE_ACCESS, op_access, FIELD(fuse_access_in, mask), R_OK },
	{ "CREATE", FUSE_CREATE, op_create, FIELD(fuse_create_in, mode), S_IFREG | 0600 },
	{ "TMPFILE", FUSE_TMPFILE, op_tmpfile, FIELD(fuse_create_in, mode), S_IFREG | 0600 },
	{ "IOCTL", FUSE_IOCTL, op_ioctl, FIELD(fuse_ioctl_in, in_size), 16 },
	{ "FALLOCATE", FUSE_FALLOCATE, op_fallocate, FIELD(fuse_fallocate_in, offset), 8192 },
	{ "LSEEK", FUSE_LSEEK, op_lseek, FIELD(fuse_lseek_in, offset), 1000 },
	{ "COPY_FILE_RANGE", FUSE_COPY_FILE_RANGE, op_copy_range,
	  FIELD(fuse_copy_file_range_in, off_out), 8192 },
	{ "POLL", FUSE_POLL, op_poll, FIELD(fuse_poll_in, fh), 1 },
	{}
};

static const struct place ext_places[] = {
	{ "MKDIR", FUSE_MKDIR, op_mkdir, FIELD(fuse_mkdir_in, umask), 022 },
	{ "SYMLINK", FUSE_SYMLINK, op_symlink, 0, 0, 0 },
	{ "MKNOD", FUSE_MKNOD, op_mknod, FIELD(fuse_mknod_in, mode), S_IFREG | 0600 },
	{ "CREATE", FUSE_CREATE, op_create, FIELD(fuse_create_in, mode), S_IFREG | 0600 },
	{ "TMPFILE", FUSE_TMPFILE, op_tmpfile, FIELD(fuse_create_in, mode), S_IFREG | 0600 },
	{}
};

/* In a few bytes as in a C string, otherwise the length only. */
static void show_payload(const uint8_t *p, size_t n, char *out, size_t room)
{
	size_t i, k;

	if (n > 60) {
		snprintf(out, room, "...");
		return;
	}
	for (i = k = 0; i < n && k + 6 < room; i++)
		if (p[i] >= ' ' && p[i] < 127)
			out[k++] = p[i];
		else
			k += snprintf(out + k, room - k, p[i] ? "\\x%02x" : "\\0", p[i]);
	out[k] = 0;
}

/* All header areas are filled first, so that what the kernel leaves alone shows. */
static void prepare(struct conn *c)
{
	unsigned int i;

	c->fill = true;
	for (i = 0; i < c->nents; i++)
		if (c->ents[i].state == ENT_IDLE)
			memset(c->ents[i].h, FILL, sizeof(*c->ents[i].h));
}

static void show(const struct place *p, const struct req *q)
{
	char text[300], more[200] = "";
	size_t i, untouched = 0;
	uint64_t v = 0;

	show_payload(q->pay, q->pay_len, text, sizeof(text));
	if (q->e) {
		for (i = sizeof(q->h); i < 128 && (uint8_t)q->e->h->in_out[i] == FILL; i++)
			untouched++;
		if (untouched != 128 - sizeof(q->h))
			strcat(more, ", in_out written beyond its header");
		for (i = q->op_len; i < 128 && (uint8_t)q->e->h->op_in[i] == FILL; i++)
			;
		if (i < 128)
			strcat(more, ", op_in written beyond the argument");
		if (q->e->h->part.flags)
			strcat(more, ", flags set");
		if (q->e->h->part.commit_id != q->h.unique)
			strcat(more, ", commit id is not the unique");
	}
	if (q->h.len != sizeof(q->h) + q->op_len + q->pay_len)
		strcat(more, ", length wrong");
	if (p->size && p->off + p->size <= q->op_len) {
		memcpy(&v, (const uint8_t *)q->op + p->off, p->size);
		if (v != p->want)
			strcat(more, ", argument wrong");
	} else if (p->size) {
		strcat(more, ", argument missing");
	}
	if (q->h.total_extlen)
		snprintf(more + strlen(more), sizeof(more) - strlen(more),
			 ", extensions %u", q->h.total_extlen * 8);
	say("%s: op_in %zu, payload %zu%s%s%s%s", p->name, q->op_len, q->pay_len,
	    q->pay_len ? " \"" : "", text, q->pay_len ? "\"" : "", more);
}

static void run_places(struct conn *c, struct client *cl, const struct place *p)
{
	uint64_t end;
	struct req *q;
	bool seen;

	for (; p->name; p++) {
		prepare(c);
		end = now_ms() + LIMIT * 1000;
		seen = false;
		client_do(cl, p->run, c->mnt, "f1", 0, 0);
		watch_client(cl);
		/* RELEASE may come after the caller has gone on */
		while (!client_done(cl) || !seen) {
			if (now_ms() > end)
				die("waited %d s in vain for %s", LIMIT, p->name);
			if (!cl->busy)
				watch_client(NULL);
			q = try_req(c, 1000);
			if (!q)
				continue;
			if (q->h.opcode == p->opcode && !seen) {
				show(p, q);
				seen = true;
			}
			answer(q);
		}
		watch_client(NULL);
		if (cl->err)
			say("%s: caller got %s", p->name, err_name(cl->err));
		wait_idle(c);
	}
}

static int become_group_member(struct job *j)
{
	gid_t group = j->a;

	return result(!setgroups(1, &group));
}

/* With "dev", the same listing for /dev/fuse: the two must not differ. */
static int place_args(int argc, char **argv)
{
	bool dev = argc > 1 && !strcmp(argv[1], "dev");
	struct init_opts o = { .flags = FUSE_POSIX_LOCKS, .no_ring = dev };
	struct init_opts ext = { .flags2 = SUPP_GROUP_FLAG2, .no_ring = dev };
	struct client cl;
	struct conn c;
	struct ring r;

	umask(022);
	client_start(&cl, 0);
	conn_mount(&c);
	conn_init(&c, &o);
	ring_open(&r, 64, IORING_SETUP_SQE128);
	if (!dev)
		conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
	run_places(&c, &cl, places);
	if (!(dev ? c.dev_ordinary && !c.ring_requests : c.ring_requests && !c.dev_ordinary))
		say("%u requests over the ring, %u over /dev/fuse", c.ring_requests,
		    c.dev_ordinary);
	conn_close(&c);
	ring_close(&r);

	say("with the group of the parent directory as extension:");
	conn_mount(&c);
	c.dir_gid = 1234;
	conn_init(&c, &ext);
	if (!(c.init.flags2 & SUPP_GROUP_FLAG2))
		die("the kernel has no such extension");
	ring_open(&r, 64, IORING_SETUP_SQE128);
	if (!dev)
		conn_register(&c, &r, 1, payload_size(&c), 0, possible_cpus());
	client_do(&cl, become_group_member, c.mnt, "", 1234, 0);
	client_wait(&cl, "setgroups");
	/* the directory's group must be known before something is created in it */
	client_do(&cl, do_stat, c.mnt, ".", 0, 0);
	client_serve(&cl, &c, "stat of the root");
	run_places(&c, &cl, ext_places);
	conn_close(&c);
	ring_close(&r);
	client_stop(&cl);
	return 0;
}

/* ----------------------------------------------- more than the payload holds */

/* a: length of the value */
static int job_setxattr(struct job *j)
{
	void *value = calloc(1, j->a);

	return result(!setxattr(j->path, "user.a", value, j->a, 0));
}

static int job_listxattr(struct job *j)
{
	char *list = malloc(j->a);

	j->ret = listxattr(j->path, list, j->a);
	return result(j->ret >= 0);
}

static int job_getxattr(struct job *j)
{
	char *value = malloc(j->a);

	j->ret = getxattr(j->path, "user.a", value, j->a);
	return result(j->ret >= 0);
}

/* a: the command, which has the size in it */
static int job_ioctl(struct job *j)
{
	char *b = calloc(1, _IOC_SIZE(j->a));
	int fd = open(j->path, O_RDONLY), err;

	if (fd < 0 || !b)
		return errno;
	err = ioctl(fd, j->a, b) ? errno : 0;
	close(fd);
	return err;
}

/*
 * Serves until the caller is done; requests of an opcode are answered with a
 * payload_sz of claim bytes. How many of them came is returned.
 */
static unsigned int serve_claiming(struct conn *c, struct client *cl, uint32_t opcode,
				   uint32_t claim, const char *what)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	unsigned int n = 0;
	struct req *q;

	watch_client(cl);
	while (!client_done(cl)) {
		if (now_ms() > end)
			die("waited %d s in vain for %s", LIMIT, what);
		q = try_req(c, 1000);
		if (!q)
			continue;
		if (q->h.opcode == opcode)
			n++;
		if (q->h.opcode == opcode && claim)
			reply_raw(q, 0, q->h.unique, claim);
		else
			answer(q);
	}
	watch_client(NULL);
	return n;
}

static int oversize(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(struct job *j);
		long a;
		uint32_t opcode, claim;
	} cases[] = {
		{ "SETXATTR, 1 byte less than fits", job_setxattr, 8192 - 7 - 1, FUSE_SETXATTR, 0 },
		{ "SETXATTR that fits exactly", job_setxattr, 8192 - 7, FUSE_SETXATTR, 0 },
		{ "SETXATTR, 1 byte more", job_setxattr, 8192 - 7 + 1, FUSE_SETXATTR, 0 },
		{ "SETXATTR of 64 KiB", job_setxattr, 65536, FUSE_SETXATTR, 0 },
		{ "IOCTL, 8192 bytes in", job_ioctl, _IOW('r', 1, char[8192]), FUSE_IOCTL, 0 },
		{ "IOCTL, 8000 bytes out", job_ioctl, _IOR('r', 1, char[8000]), FUSE_IOCTL, 0 },
		{ "IOCTL, 8192 bytes out, and their header", job_ioctl,
		  _IOR('r', 1, char[8192]), FUSE_IOCTL, 8192 + 16 },
		{ "IOCTL, 16000 bytes in", job_ioctl, _IOW('r', 1, char[16000]), FUSE_IOCTL, 0 },
		{ "GETXATTR, 64 KiB claimed", job_getxattr, 65536, FUSE_GETXATTR, 65536 },
		{ "GETXATTR, 8192 bytes", job_getxattr, 65536, FUSE_GETXATTR, 8192 },
		{ "LISTXATTR, 64 KiB claimed", job_listxattr, 65536, FUSE_LISTXATTR, 65536 },
		{ "LISTXATTR, few bytes", job_listxattr, 65536, FUSE_LISTXATTR, 0 },
	};
	struct init_opts o = { .max_write = 8192, .max_pages = 2 };
	struct client cl;
	struct conn c;
	struct ring r;
	unsigned int n;
	size_t i;

	(void)argc, (void)argv;
	if (old_ring_kernel())
		notrun("stock kernels before 7.3 may run into a BUG here");
	client_start(&cl, 0);
	serve_setup(&c, &r, &o, 2);
	say("payload area of %zu bytes", payload_size(&c));
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		client_do(&cl, cases[i].run, c.mnt, "f1", cases[i].a, 0);
		n = serve_claiming(&c, &cl, cases[i].opcode, cases[i].claim, cases[i].name);
		say("%s: %s, %s", cases[i].name, n ? "delivered" : "not delivered",
		    cl.err == E2BIG || cl.err == EIO || cl.err == EFAULT || cl.err == EINVAL ||
		    cl.err == ENOMEM ? "refused" : err_name(cl.err));
	}
	/* reads are cut to what fits */
	client_do(&cl, do_read, c.mnt, "f1", 0, 65536);
	client_serve(&cl, &c, "a read of 64 KiB");
	say("READ of 64 KiB in pieces: %s, %s", err_name(cl.err),
	    cl.done.ret == 65536 ? "all of it" : "not all");
	wait_idle(&c);
	say("over /dev/fuse: %u", c.dev_ordinary);
	client_stop(&cl);
	conn_close(&c);
	ring_close(&r);
	return 0;
}

/* Payload sized as some servers do it; the kernel needs at least 8192 and whole pages. */
static int odd_max_write(int argc, char **argv)
{
	static const uint32_t sizes[] = { 4096, 5000, 8192, 12288, 100000 };
	struct client cl;
	struct conn c;
	struct ring r;
	struct ent e;
	size_t i;

	(void)argc, (void)argv;
	client_start(&cl, 0);
	for (i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct init_opts o = { .max_write = sizes[i],
				       .max_pages = (sizes[i] + 4095) / 4096 };
		int res;

		conn_mount(&c);
		conn_init(&c, &o);
		ring_open(&r, 64, IORING_SETUP_SQE128);
		ent_setup(&e, &c, &r, 0, sizes[i]);
		ent_register(&e);
		res = ring_submit_one(&r, &e);
		say("max_write %u, payload as large: %s", sizes[i], res ? err_name(res) : "held");
		if (res) {
			client_do(&cl, do_write, c.mnt, "f1", 0, 3 * sizes[i]);
			client_serve(&cl, &c, "a write");
			say("    a write: %s, over the ring: %u", err_name(cl.err),
			    c.ring_requests);
		}
		conn_close(&c);
		ring_close(&r);
	}
	client_stop(&cl);
	return 0;
}

/* --------------------------------------------------------- odd buffers */

enum shape { ALIGNED, ODD_ADDRESS, ACROSS_PAGES, FILE_MAPPING, SHAPES };

static int buffers(int argc, char **argv)
{
	static const char *const names[] = { "page aligned", "at odd addresses",
		"header area across two pages", "in a file mapping" };
	const struct init_opts o = { .max_write = 8 * 4096, .max_pages = 8 };
	const size_t room = 8 * 4096 + 3 * 4096;
	int shape, fd, i, depth = 2, rounds = argc > 1 ? atoi(argv[1]) : 4;
	uint8_t *want = malloc(3 * DEFAULT_PAYLOAD);
	struct client cl;
	struct conn c;
	struct ring r;
	unsigned int q;

	client_start(&cl, 0);
	for (shape = 0; shape < SHAPES; shape++) {
		unsigned int n = possible_cpus() * depth;
		uint8_t *area;
		bool good = true;

		conn_mount(&c);
		conn_init(&c, &o);
		ring_open(&r, 64, IORING_SETUP_SQE128);
		fd = memfd_create("payload", MFD_ALLOW_SEALING);
		if (fd < 0 || ftruncate(fd, n * room))
			die("memfd: %s", err_name(errno));
		area = mmap(NULL, n * room, PROT_READ | PROT_WRITE,
			    shape == FILE_MAPPING ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS,
			    shape == FILE_MAPPING ? fd : -1, 0);
		if (area == MAP_FAILED)
			die("mmap: %s", err_name(errno));
		c.ents = calloc(n, sizeof(*c.ents));
		c.rings[c.nrings++] = &r;
		for (q = 0; q < n; q++) {
			struct ent *e = &c.ents[c.nents++];
			size_t skew = shape == ODD_ADDRESS ? 333 : 0;

			ent_setup(e, &c, &r, q / depth, payload_size(&c));
			munmap(e->pay, e->pay_len);
			munmap(e->h, sizeof(*e->h));
			e->h = (void *)(area + q * room + skew +
					(shape == ACROSS_PAGES ? 4096 - 100 : 0));
			e->pay = area + q * room + 2 * 4096 + skew;
			ent_register(e);
			if (ring_submit_one(&r, e))
				die("REGISTER with buffers %s fails", names[shape]);
		}
		for (i = 0; i < rounds; i++) {
			size_t size = 2 * payload_size(&c) + 777, off = i * 4097;

			fill_pattern(want, size, off + 1);
			client_do(&cl, do_write, c.mnt, "f1", off, size);
			client_serve(&cl, &c, "a write");
			if (cl.err)
				die("write: %s", err_name(cl.err));
			good &= !memcmp(c.data + off, want, size);
			client_do(&cl, do_read, c.mnt, "f1", off, size);
			client_serve(&cl, &c, "a read");
			good &= !cl.err && cl.done.ret == (long)size &&
				cl.done.sum == checksum(want, size);
		}
		wait_idle(&c);
		say("buffers %s: %s", names[shape], good ? "data right" : "data wrong");
		if (shape == FILE_MAPPING) {
			/*
			 * Nobody may write to a sealed file: so the seal is refused as
			 * long as a reference to one of its pages is left somewhere.
			 */
			munmap(area, n * room);
			say("no page reference left: %s",
			    err_name(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) ? errno : 0));
			c.nents = 0;
		}
		if (conn_umount(&c, 0))
			die("unmount fails");
		c.nents = 0;	/* not mapped one by one */
		conn_close(&c);
		ring_close(&r);
		if (shape != FILE_MAPPING)
			munmap(area, n * room);
		close(fd);
	}
	client_stop(&cl);
	free(want);
	return 0;
}

const struct command place_commands[] = {
	{ "place-args", place_args, "where arguments are, per opcode ([dev]: on /dev/fuse)" },
	{ "oversize", oversize, "more than the payload area holds" },
	{ "odd-max-write", odd_max_write, "payload area sized by max_write" },
	{ "buffers", buffers, "buffers of odd shape; references to pages ([rounds])" },
	{}
};
