// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: making endpoints, and what is refused. */
#include "krpcprobe.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* A mount without applications: only its connection is of interest. */
static void mount_only(struct conn *c)
{
	static const struct init_opts dev = { .no_ring = true };

	conn_mount(c);
	conn_init(c, &dev);
}

static void try_sock(struct conn *c, const char *what, int sock)
{
	int ep = ep_open();

	say("%s: %s", what, err_name(ep_adopt(ep, sock, c->fd, &full_framing, 0)));
	close(ep);
}

static void try_dev(int sock, const char *what, int devfd)
{
	int ep = ep_open();

	say("%s: %s", what, err_name(ep_adopt(ep, sock, devfd, &full_framing, 0)));
	close(ep);
}

static int adopt_fds(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int s[2], t[2], pipes[2], file, udp, fresh, listening, lone, ep, unixes[2];
	struct conn c;
	struct node n;

	(void)argc, (void)argv;
	mount_only(&c);
	tcp_pair(s);
	tcp_pair(t);
	file = open("file", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	lone = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fresh = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (file < 0 || udp < 0 || lone < 0 || fresh < 0 || pipe(pipes) ||
	    bind(listening, (struct sockaddr *)&a, sizeof(a)) || listen(listening, 1) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, unixes))
		die("cannot prepare: %s", err_name(errno));

	try_sock(&c, "socket is closed", 999);
	try_sock(&c, "socket is -1", -1);
	try_sock(&c, "socket is a pipe", pipes[0]);
	try_sock(&c, "socket is a file", file);
	try_sock(&c, "socket is /dev/fuse", c.fd);
	try_sock(&c, "socket is UDP", udp);
	try_sock(&c, "socket is of the local kind", unixes[0]);
	try_sock(&c, "socket is not connected", lone);
	try_sock(&c, "socket listens", listening);
	close(t[1]);
	try_sock(&c, "socket whose other end is closed", t[0]);
	try_dev(s[0], "device is closed", 999);
	try_dev(s[0], "device is -1", -1);
	try_dev(s[0], "device is a pipe", pipes[0]);
	try_dev(s[0], "device is a file", file);
	try_dev(s[0], "device is a socket", s[1]);
	ep = ep_open();
	try_dev(s[0], "device is /dev/fuse-krpc", ep);
	close(ep);
	try_dev(s[0], "device was never mounted", fresh);
	/* none of that has done anything to the socket */
	node_open(&n, &c, &full_framing, 0);
	try_sock(&c, "socket of another endpoint", n.sock);
	ep = ep_open();
	say("the good one: %s", err_name(ep_adopt(ep, s[0], c.fd, &full_framing, 0)));
	say("the same socket again: %s", err_name(ep_adopt(ep_open(), s[0], c.fd, &full_framing, 0)));
	say("the other end, by an endpoint of its own: %s",
	    err_name(ep_adopt(ep_open(), s[1], c.fd, &full_framing, 0)));
	node_close(&n);
	conn_close(&c);
	return 0;
}

static void try_framing(struct conn *c, const char *what, const struct pcs_krpc_framing *f)
{
	int s[2], ep = ep_open();

	tcp_pair(s);
	say("%s: %s", what, err_name(ep_adopt(ep, s[0], c->fd, f, 0)));
	close(ep);
	close(s[0]);
	close(s[1]);
}

static int adopt_framing(int argc, char **argv)
{
	const struct pcs_krpc_framing good = full_framing;
	static const struct {
		const char *name;
		size_t at;
	} fields[] = {
		{ "magic", offsetof(struct pcs_krpc_framing, magic) },
		{ "cookie", offsetof(struct pcs_krpc_framing, cookie) },
		{ "status", offsetof(struct pcs_krpc_framing, status) },
		{ "length", offsetof(struct pcs_krpc_framing, length) },
	};
	static const struct pcs_krpc_field bad[] = {
		{ 0, 3 }, { 0, 5 }, { 0, 16 }, { 0, 65535 }, { 24, 1 }, { 23, 2 }, { 17, 8 },
		{ 65535, 1 }, { 65535, 65535 }, { 65528, 8 }, { 1, 0 },
	};
	struct pcs_krpc_framing f;
	unsigned int i, k;
	struct conn c;
	char what[64];

	(void)argc, (void)argv;
	mount_only(&c);
	try_framing(&c, "good", &good);
	for (i = 4; i < 32; i += 9) {
		f = good, f.flags |= 1u << i;
		snprintf(what, sizeof(what), "flag %u", i);
		try_framing(&c, what, &f);
	}
	f = good, f.flags = ~0u;
	try_framing(&c, "all flags", &f);
	f = good, f.hdr_len = 0;
	try_framing(&c, "header of 0 bytes", &f);
	f = good, f.hdr_len = PCS_KRPC_MAX_HEADER + 1;
	try_framing(&c, "header too long", &f);
	f = good, f.hdr_len = ~0u;
	try_framing(&c, "header of 4 GiB", &f);
	f = good, f.hdr_len = PCS_KRPC_MAX_HEADER;
	try_framing(&c, "longest header", &f);
	for (i = 0; i < 4; i++)
		for (k = 0; k < sizeof(bad) / sizeof(bad[0]); k++) {
			f = good;
			memcpy((uint8_t *)&f + fields[i].at, &bad[k], sizeof(bad[k]));
			snprintf(what, sizeof(what), "%s at %u of %u bytes", fields[i].name,
				 bad[k].offset, bad[k].size);
			try_framing(&c, what, &f);
		}
	f = good, f.cookie = (struct pcs_krpc_field){};
	try_framing(&c, "no cookie", &f);
	f = (struct pcs_krpc_framing){ .hdr_len = 1, .cookie = { 0, 1 } };
	try_framing(&c, "a header that is a cookie of one byte", &f);
	f = good, f.cookie = f.magic = f.status = f.length;
	try_framing(&c, "all fields in the same place", &f);
	f = good, f.length.offset = 17, f.length.size = 4;
	try_framing(&c, "a field that is not aligned", &f);
	conn_close(&c);
	return 0;
}

static const char *ioctl_name(int ep, unsigned long cmd, void *arg)
{
	return err_name(ioctl(ep, cmd, arg) ? errno : 0);
}

static int adopt_state(int argc, char **argv)
{
	struct pcs_krpc_adopt a = { .framing = full_framing };
	static uint8_t zero[256];
	int s[2], t[2], ep;
	struct node n = {};
	struct conn c, d;

	(void)argc, (void)argv;
	mount_only(&c);
	tcp_pair(s);
	tcp_pair(t);
	ep = ep_open();
	n.ep = ep;
	say("before ADOPT:");
	say("SEND_MSG: %s", ioctl_name(ep, PCS_KRPC_IOC_SEND_MSG, zero));
	say("RECV_MSG: %s", ioctl_name(ep, PCS_KRPC_IOC_RECV_MSG, zero));
	say("ABORT: %s", ioctl_name(ep, PCS_KRPC_IOC_ABORT, zero));
	say("REG_MR: %s", ioctl_name(ep, PCS_KRPC_IOC_REG_MR, zero));
	say("UNREG_MR: %s", ioctl_name(ep, PCS_KRPC_IOC_UNREG_MR, zero));
	say("STATS: %s", ioctl_name(ep, PCS_KRPC_IOC_STATS, zero));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("ADOPT from nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_ADOPT, NULL));
	a.sockfd = s[0], a.devfd = c.fd, a.rsvd = 1;
	say("ADOPT with what is reserved: %s", ioctl_name(ep, PCS_KRPC_IOC_ADOPT, &a));
	a.rsvd = 0;
	say("ADOPT: %s", ioctl_name(ep, PCS_KRPC_IOC_ADOPT, &a));
	say("after it:");
	say("the same: %s", ioctl_name(ep, PCS_KRPC_IOC_ADOPT, &a));
	a.sockfd = t[0];
	say("another socket: %s", ioctl_name(ep, PCS_KRPC_IOC_ADOPT, &a));
	say("poll: %s", events_name(ep_poll(&n, POLLIN | POLLOUT, 0)));
	say("SEND_MSG of nothing: %s", ioctl_name(ep, PCS_KRPC_IOC_SEND_MSG, zero));
	say("SEND_MSG from nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_SEND_MSG, NULL));
	say("ABORT of nothing: %s", ioctl_name(ep, PCS_KRPC_IOC_ABORT, zero));
	say("ABORT from nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_ABORT, NULL));
	say("REG_MR from nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_REG_MR, NULL));
	say("UNREG_MR from nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_UNREG_MR, NULL));
	say("STATS to nowhere: %s", ioctl_name(ep, PCS_KRPC_IOC_STATS, NULL));
	say("STATS: %s", ioctl_name(ep, PCS_KRPC_IOC_STATS, zero));
	/* the origin's commands had no size */
	say("RECV_MSG without a size: %s",
	    ioctl_name(ep, _IO(PCS_KRPC_IOC_MAGIC, 11), zero));
	say("ABORT without a size: %s", ioctl_name(ep, _IO(PCS_KRPC_IOC_MAGIC, 12), zero));
	say("unknown command: %s", ioctl_name(ep, _IO(PCS_KRPC_IOC_MAGIC, 99), zero));
	say("read: %s", err_name(read(ep, zero, 1) < 0 ? errno : 0));
	say("write: %s", err_name(write(ep, zero, 1) < 0 ? errno : 0));
	say("mmap: %s", mmap(NULL, PAGE, PROT_READ, MAP_SHARED, ep, 0) == MAP_FAILED ?
				err_name(errno) : "ok");
	close(ep);
	/* a connection that is gone has no requests any more */
	if (mkdir("other", 0700))
		die("mkdir: %s", err_name(errno));
	conn_mount_at(&d, "other");
	conn_init(&d, &(struct init_opts){ .no_ring = true });
	conn_umount(&d, 0);
	ep = ep_open();
	say("ADOPT for what is not mounted any more: %s",
	    err_name(ep_adopt(ep, t[0], d.fd, &full_framing, 0)));
	close(ep);
	conn_close(&d);
	conn_close(&c);
	return 0;
}

const struct command adopt_commands[] = {
	{ "adopt-fds", adopt_fds, "ADOPT with file descriptors of all kinds" },
	{ "adopt-framing", adopt_framing, "ADOPT with framings that cannot be" },
	{ "adopt-state", adopt_state, "what can be done before and after ADOPT" },
	{}
};
