// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: what the socket copies of what is sent, and what a server may do with it meanwhile. */
#include "krpcprobe.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* --------------------------------------------------------------------- what is copied -- */

enum { BIG = 8 << 20, SMALL = 1 << 20 };

static void set_loopback(bool up)
{
	struct ifreq r = { .ifr_name = "lo" };
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (s < 0 || ioctl(s, SIOCGIFFLAGS, &r))
		die("the loopback device: %s", err_name(errno));
	if (up)
		r.ifr_flags |= IFF_UP;
	else
		r.ifr_flags &= ~IFF_UP;
	if (ioctl(s, SIOCSIFFLAGS, &r))
		die("the loopback device: %s", err_name(errno));
	close(s);
}

static void loopback_up(void)
{
	set_loopback(true);
}

static void say_copied(struct node *n, const char *what, uint64_t of)
{
	struct pcs_krpc_stats st = ep_stats(n);

	say("%s: sent: %s, of that copied: %s", what,
	    st.bytes_sent == of ? "all" : st.bytes_sent && st.bytes_sent < of ? "a part" : "?",
	    st.bytes_sent_copied == st.bytes_sent ? "all" : st.bytes_sent_copied ? "a part" :
	    "nothing");
}

static int sent_copied(int argc, char **argv)
{
	uint8_t *mem = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	union desc d = umem(mem, SMALL);
	struct pcs_krpc_recv r;
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	if (mem == MAP_FAILED)
		die("out of memory");
	fill_pattern(mem, BIG, 0);
	stage_plain(&s);

	/* what stays on the machine is copied where it is received */
	node_open(&n, &s.c, &full_framing, 0);
	say("a message: %s", err_name(ep_send(&n, 1, &d, 1, 0)));
	node_take(&n);
	node_skip(&n, SMALL);
	node_answer(&n, 1, STATUS_OK, NULL, 0);
	end_say(&n, "answer");
	say_copied(&n, "received here", SMALL);
	node_close(&n);

	node_open(&n, &s.c, &full_framing, 0);
	d = umem(mem, BIG);
	say("a large message: %s", err_name(ep_send(&n, 1, &d, 1, 0)));
	node_take(&n);
	node_skip(&n, PAGE);
	say("abort: %s", err_name(ep_abort(&n, 1)));
	end_say(&n, "it");
	say_copied(&n, "received here, in part", BIG);
	node_close(&n);

	/* what nobody receives is not */
	node_open(&n, &s.c, &full_framing, 0);
	atexit(loopback_up);
	set_loopback(false);
	d = umem(mem, PAGE);
	say("a message without a way to the node: %s", err_name(ep_send(&n, 1, &d, 1, 0)));
	say("before its end: told: %s", err_name(ep_recv(&n, &r)));
	say("abort: %s", err_name(ep_abort(&n, 1)));
	end_say(&n, "it");
	say_copied(&n, "received by nobody", PAGE);
	set_loopback(true);
	node_close(&n);
	stage_close(&s);
	munmap(mem, BIG);
	return 0;
}

/* -------------------------------------------------------------- the server's own calls -- */

static int socket_used(int argc, char **argv)
{
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	uint64_t end = now_ms() + LIMIT * 1000;
	struct pcs_krpc_recv r;
	char name[16] = "";
	socklen_t len = sizeof(name);
	int other = ep_open(), err;
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	if (getsockopt(n.sock, IPPROTO_TCP, TCP_ULP, name, &len))
		die("TCP_ULP: %s", err_name(errno));
	say("its protocol: %.16s", name);
	say("another one: refused: %s",
	    yes(setsockopt(n.sock, IPPROTO_TCP, TCP_ULP, "tls", 4)));
	say("another endpoint: %s", err_name(ep_adopt(other, n.sock, s.c.fd, &full_framing, 0)));
	say("listen: %s", err_name(listen(n.sock, 1) ? errno : 0));
	say("a message: %s", err_name(ep_send(&n, 1, NULL, 0, 0)));
	node_take(&n);

	/* it is nobody's then, and could be made one that others connect to */
	say("disconnect: %s", err_name(connect(n.sock, &none, sizeof(none)) ? errno : 0));
	end_say(&n, "the message");
	say("told then: %s", err_name(ep_recv(&n, &r)));
	say("the node sees the end: %s", yes(node_sees_end(&n)));
	say("listen: %s", err_name(listen(n.sock, 1) ? errno : 0));
	say("another endpoint: refused: %s",
	    yes(ep_adopt(other, n.sock, s.c.fd, &full_framing, 0)));
	close(n.ep);
	n.ep = -1;
	/* a worker gives it back */
	while ((err = listen(n.sock, 1) ? errno : 0) && now_ms() < end)
		nap_ms(1);
	say("listen when the endpoint is closed: %s", err_name(err));
	close(other);
	node_close(&n);
	stage_close(&s);
	return 0;
}

const struct command sock_commands[] = {
	{ "sent-copied", sent_copied, "what the socket copies of what is sent" },
	{ "socket-used", socket_used, "listen(), connect() and the like on the endpoint's socket" },
	{}
};
