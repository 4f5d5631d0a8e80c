// SPDX-License-Identifier: GPL-2.0-only
/*
 * exportprobe: the other end of a server's connection, in place of the kernel. A socket
 * that keeps messages apart stands for /dev/fuse; the server is told to serve it by the
 * mount point /dev/fd/N.
 */
#include "exportprobe.h"

#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

static int side;		/* our end */
static pid_t server;
static uint64_t unique = 1;
static char reply[2 << 20];

static void start(char **argv, int argc)
{
	int ends[2], size = 8 << 20;
	char **args = calloc(argc + 2, sizeof(*args)), name[32];

	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends));
	for (int i = 0; i < 2; i++) {
		OK(setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)));
		OK(setsockopt(ends[i], SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)));
	}
	for (int i = 0; i < argc; i++)
		args[i] = argv[i];
	sprintf(name, "/dev/fd/%d", ends[1]);
	args[argc] = name;
	server = OK(fork());
	if (!server) {
		close(ends[0]);
		execvp(args[0], args);
		fail("%s: %s", args[0], errname(errno));
	}
	close(ends[1]);
	side = ends[0];
}

static void send_bytes(const void *bytes, size_t size)
{
	EQ(send(side, bytes, size, 0), size);
}

/* A request whose header says LEN, of which SIZE bytes are sent. */
static void send_request(uint32_t opcode, const void *body, size_t body_size, uint32_t len,
			 size_t size)
{
	static char message[2 << 20];
	struct fuse_in_header *in = (struct fuse_in_header *)message;

	memset(message, 0, sizeof(*in) + body_size);
	*in = (struct fuse_in_header){
		.len = len, .opcode = opcode, .unique = unique, .nodeid = FUSE_ROOT_ID,
	};
	memcpy(in + 1, body, body_size);
	send_bytes(message, size);
}

static void request(uint32_t opcode, const void *body, size_t size)
{
	uint32_t len = sizeof(struct fuse_in_header) + size;

	send_request(opcode, body, size, len, len);
}

/* The reply to the last request; its header. NULL: none within MSEC. */
static struct fuse_out_header *receive(int msec)
{
	struct fuse_out_header *out = (struct fuse_out_header *)reply;
	struct pollfd p = { .fd = side, .events = POLLIN };
	ssize_t n;

	if (poll(&p, 1, msec) == 0)
		return NULL;
	n = OK(recv(side, reply, sizeof(reply), 0));
	TRUE(n >= (ssize_t)sizeof(*out));
	EQ(out->len, n);
	if (out->unique != unique)
		fail("a reply to %llx, not to %llx", (unsigned long long)out->unique,
		     (unsigned long long)unique);
	return out;
}

/* Print what the server answers. */
static void answer(const char *what)
{
	struct fuse_out_header *out = receive(20000);

	if (!out)
		fail("%s: no reply", what);
	if (out->error)
		printf("%s: %s%s\n", what, errname(-out->error),
		       out->len == sizeof(*out) ? "" : ", with a payload");
	else
		printf("%s: %zu bytes\n", what, out->len - sizeof(*out));
	/* far beyond 32 bits, where an id that is cut would be another's */
	unique += 0x100000000ull + 2;
}

static void init_with(uint32_t flags)
{
	struct fuse_init_in in = {
		.major = FUSE_KERNEL_VERSION, .minor = 41, .max_readahead = 131072,
		.flags = flags,
	};
	struct fuse_init_out *got = (struct fuse_init_out *)(reply + sizeof(struct fuse_out_header));

	request(FUSE_INIT, &in, sizeof(in));
	answer("INIT");
	if (got->max_write > 32u * PAGE && !(flags & FUSE_MAX_PAGES))
		fail("max_write %u without MAX_PAGES", got->max_write);
}

static void end(void)
{
	int status;

	/* the session is over when nobody is at the other end */
	close(side);
	OK(waitpid(server, &status, 0));
	printf("server ended with status %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

static void getattr_works(void)
{
	struct fuse_getattr_in in = { 0 };

	request(FUSE_GETATTR, &in, sizeof(in));
	answer("GETATTR");
}

/* A WRITE of SIZE bytes that says it has CLAIMED. */
static void write_at(uint64_t offset, uint32_t claimed, size_t size)
{
	static char body[sizeof(struct fuse_write_in) + (1 << 20)];
	struct fuse_write_in *in = (struct fuse_write_in *)body;

	*in = (struct fuse_write_in){ .offset = offset, .size = claimed };
	fill(in + 1, size, offset, 7);
	request(FUSE_WRITE, body, sizeof(*in) + size);
}

static void write_claiming(uint32_t claimed, size_t size)
{
	write_at(0, claimed, size);
}

/* Lengths that disagree: each is refused, and the next request is served. */
static void lengths(void)
{
	struct fuse_read_in in = { .size = 100 };
	const size_t header = sizeof(struct fuse_in_header);

	init_with(FUSE_MAX_PAGES);
	send_request(FUSE_READ, &in, sizeof(in), header + sizeof(in) + 8, header + sizeof(in));
	answer("READ shorter than it says");
	send_request(FUSE_READ, &in, sizeof(in), header + sizeof(in) - 8, header + sizeof(in));
	answer("READ longer than it says");
	send_request(FUSE_READ, &in, sizeof(in), 0, header + sizeof(in));
	answer("READ that says 0");
	send_request(FUSE_READ, &in, sizeof(in), UINT32_MAX, header + sizeof(in));
	answer("READ that says 4 GiB");
	request(FUSE_READ, &in, 16);
	answer("READ with half a header");
	request(FUSE_READ, &in, 0);
	answer("READ without one");
	request(FUSE_SETATTR, &in, 8);
	answer("SETATTR cut short");
	request(FUSE_FALLOCATE, &in, 24);
	answer("FALLOCATE cut short");
	request(FUSE_LSEEK, &in, 16);
	answer("LSEEK cut short");
	request(FUSE_FSYNC, &in, 8);
	answer("FSYNC cut short");
	request(FUSE_OPEN, &in, 4);
	answer("OPEN cut short");
	write_claiming(4096, 100);
	answer("WRITE of 100 bytes that says 4096");
	write_claiming(100, 4096);
	answer("WRITE of 4096 bytes that says 100");
	write_claiming(UINT32_MAX, 100);
	answer("WRITE of 100 bytes that says 4 GiB");
	write_claiming(100, 0);
	answer("WRITE of nothing that says 100");
	write_claiming(100, 100);
	answer("WRITE of 100 bytes");
	in.size = 1000;
	request(FUSE_READ, &in, sizeof(in));
	answer("READ");
	is_pattern("READ", 0, reply + sizeof(struct fuse_out_header), 100, 7);
	getattr_works();
}

/* Which operations there are, and which of them say nothing. */
static void opcodes(void)
{
	static const char name[] = "name";
	struct fuse_interrupt_in interrupt = { .unique = 1 };
	char batch[sizeof(struct fuse_batch_forget_in) + 2 * sizeof(struct fuse_forget_one)] = { 2 };
	struct fuse_forget_in forget = { .nlookup = 1 };
	char body[256] = { 0 };
	char text[64];

	init_with(FUSE_MAX_PAGES);
	request(FUSE_LOOKUP, name, sizeof(name));
	answer("LOOKUP");
	request(FUSE_LOOKUP, name, 3);
	answer("LOOKUP without end");
	request(FUSE_FORGET, &forget, sizeof(forget));
	TRUE(!receive(200));
	request(FUSE_FORGET, &forget, 2);
	TRUE(!receive(200));
	request(FUSE_BATCH_FORGET, batch, sizeof(batch));
	TRUE(!receive(200));
	send_request(FUSE_BATCH_FORGET, batch, sizeof(batch), 9999,
		     sizeof(struct fuse_in_header) + sizeof(batch));
	TRUE(!receive(200));
	request(FUSE_INTERRUPT, &interrupt, sizeof(interrupt));
	TRUE(!receive(200));
	printf("FORGET, BATCH_FORGET, INTERRUPT: silence\n");
	for (uint32_t opcode = 1; opcode < 64; opcode++) {
		switch (opcode) {
		case FUSE_LOOKUP:
		case FUSE_FORGET:
		case FUSE_GETATTR:
		case FUSE_SETATTR:
		case FUSE_OPEN:
		case FUSE_READ:
		case FUSE_WRITE:
		case FUSE_RELEASE:
		case FUSE_FSYNC:
		case FUSE_FLUSH:
		case FUSE_INIT:
		case FUSE_INTERRUPT:
		case FUSE_DESTROY:
		case FUSE_NOTIFY_REPLY:
		case FUSE_BATCH_FORGET:
		case FUSE_FALLOCATE:
		case FUSE_LSEEK:
			continue;
		}
		sprintf(text, "opcode %u", opcode);
		request(opcode, body, sizeof(body));
		if (receive(20000) == NULL)
			fail("%s: no reply", text);
		if (((struct fuse_out_header *)reply)->error != -ENOSYS)
			fail("%s: error %d", text, ((struct fuse_out_header *)reply)->error);
		unique++;
	}
	printf("all others: ENOSYS\n");
	for (uint32_t opcode = 64; opcode; opcode <<= 1) {
		request(opcode, body, sizeof(body));
		TRUE(receive(20000));
		EQ(((struct fuse_out_header *)reply)->error, -ENOSYS);
		unique++;
	}
	printf("opcodes that are none: ENOSYS\n");
	getattr_works();
}

/* Sizes and places at the edge of what numbers hold. */
static void sizes(void)
{
	struct fuse_read_in in = { .size = UINT32_MAX };
	struct fuse_fallocate_in fa = { .mode = 0 };
	struct fuse_lseek_in seek = { .whence = SEEK_DATA };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = UINT64_MAX };
	struct {
		struct fuse_write_in in;
		char data[512];
	} w = { .in.size = sizeof(w.data) };

	/* without MAX_PAGES: 32 pages are the limit */
	init_with(0);
	request(FUSE_READ, &in, sizeof(in));
	answer("READ of 4 GiB");
	in.offset = UINT64_MAX - 10;
	request(FUSE_READ, &in, sizeof(in));
	answer("READ beyond all offsets");
	in = (struct fuse_read_in){ .size = 0 };
	request(FUSE_READ, &in, sizeof(in));
	answer("READ of nothing");
	w.in.offset = UINT64_MAX - 100;
	request(FUSE_WRITE, &w, sizeof(w));
	answer("WRITE beyond all offsets");
	w.in.offset = INT64_MAX - 100;
	request(FUSE_WRITE, &w, sizeof(w));
	answer("WRITE beyond the largest file");
	fa.offset = INT64_MAX - 10;
	fa.length = 100;
	request(FUSE_FALLOCATE, &fa, sizeof(fa));
	answer("FALLOCATE beyond the largest file");
	fa = (struct fuse_fallocate_in){ .offset = 0, .length = UINT64_MAX };
	request(FUSE_FALLOCATE, &fa, sizeof(fa));
	answer("FALLOCATE of everything");
	fa.length = 0;
	request(FUSE_FALLOCATE, &fa, sizeof(fa));
	answer("FALLOCATE of nothing");
	seek.offset = UINT64_MAX;
	request(FUSE_LSEEK, &seek, sizeof(seek));
	answer("LSEEK from beyond all offsets");
	seek.whence = SEEK_END;
	request(FUSE_LSEEK, &seek, sizeof(seek));
	answer("LSEEK to the end");
	request(FUSE_SETATTR, &set, sizeof(set));
	answer("SETATTR to the largest number");
	getattr_works();
}

/* An export that is not --writable, asked by a kernel that let everything through. */
static void read_only(void)
{
	struct fuse_fallocate_in fa = { .length = 4096 };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = 100 };
	struct fuse_open_in open = { .flags = O_RDWR };
	struct fuse_fsync_in sync = { .fh = 0 };

	init_with(FUSE_MAX_PAGES);
	write_claiming(100, 100);
	answer("WRITE");
	request(FUSE_FALLOCATE, &fa, sizeof(fa));
	answer("FALLOCATE");
	request(FUSE_SETATTR, &set, sizeof(set));
	answer("SETATTR");
	request(FUSE_OPEN, &open, sizeof(open));
	answer("OPEN");
	request(FUSE_FSYNC, &sync, sizeof(sync));
	answer("FSYNC");
	getattr_works();
}

/*
 * What can be no request at all: the connection cannot be served any longer. Before it a WRITE
 * that is synced, and many that have no reply yet.
 */
static void nonsense(void)
{
	struct fuse_fsync_in sync = { .fh = 0 };
	ssize_t n;

	init_with(FUSE_MAX_PAGES);
	write_claiming(PAGE, PAGE);
	answer("WRITE");
	request(FUSE_FSYNC, &sync, sizeof(sync));
	answer("FSYNC");
	for (int i = 1; i <= 32; i++, unique++)
		write_at(i * 2 * PAGE, PAGE, PAGE);
	send_bytes("nonsense", 8);
	do
		n = recv(side, reply, sizeof(reply), 0);
	while (n > 8);
	printf("after 32 WRITEs and 8 bytes: %s\n",
	       n == 0 ? "the end" : n < 0 ? errname(errno) : "a reply");
}

/* It breaks, which is not its end: the other side goes with a reply unread. */
static void reset(void)
{
	struct fuse_getattr_in in = { 0 };
	struct pollfd p = { .events = POLLIN };

	init_with(FUSE_MAX_PAGES);
	getattr_works();
	request(FUSE_GETATTR, &in, sizeof(in));
	p.fd = side;
	EQ(poll(&p, 1, 20000), 1);
}

static void tell_server(int signal, const char *what)
{
	OK(kill(server, signal));
	/* its threads hear of it one by one, and tell only their counters */
	usleep(500000);
	printf("%s\n", what);
}

/* Replies until none has come for MSEC. */
static int count_replies(int most, int msec)
{
	struct pollfd p = { .fd = side, .events = POLLIN };
	int n = 0;

	while (n < most && poll(&p, 1, msec) > 0) {
		TRUE(OK(recv(side, reply, sizeof(reply), 0)) > 0);
		n++;
	}
	return n;
}

/* More and more requests that are answered at once, and a pause that is to come between. */
static void pause_between(void)
{
	enum { MANY = 10000 };
	struct fuse_getattr_in in = { 0 };
	pid_t sender;
	int before, status;

	init_with(FUSE_MAX_PAGES);
	sender = OK(fork());
	if (!sender) {
		for (int i = 0; i < MANY; i++, unique++)
			request(FUSE_GETATTR, &in, sizeof(in));
		_exit(0);
	}
	before = count_replies(500, 20000);
	OK(kill(server, SIGUSR2));
	before += count_replies(MANY - before, 1000);
	printf("paused: %s\n", before < MANY / 2 ? "soon" : "late");
	OK(waitpid(sender, &status, 0));
	OK(kill(server, SIGCONT));
	printf("resumed: %s answered\n",
	       before + count_replies(MANY - before, 20000) == MANY ? "all are" : "not all are");
	unique += MANY;
}

/* One thread takes a WRITE and then the SETATTR that cuts it off, and begins with the latter. */
static void shrinking(void)
{
	static char body[sizeof(struct fuse_write_in) + 4096];
	struct fuse_write_in *w = (struct fuse_write_in *)body;
	struct fuse_setattr_in set = { .valid = FATTR_SIZE };
	struct fuse_getattr_in get = { 0 };
	struct fuse_attr_out *attr = (struct fuse_attr_out *)(reply + sizeof(struct fuse_out_header));

	init_with(FUSE_MAX_PAGES);
	tell_server(SIGUSR2, "paused");
	*w = (struct fuse_write_in){ .offset = 512 << 10, .size = 4096 };
	request(FUSE_WRITE, body, sizeof(body));
	unique++;
	request(FUSE_SETATTR, &set, sizeof(set));
	unique++;
	tell_server(SIGCONT, "resumed");
	EQ(count_replies(2, 20000), 2);
	request(FUSE_GETATTR, &get, sizeof(get));
	answer("GETATTR");
	fprintf(stderr, "%llu\n", (unsigned long long)attr->attr.size);
}

void probe_kernel(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} topics[] = {
		{ "lengths", lengths }, { "opcodes", opcodes }, { "sizes", sizes },
		{ "read-only", read_only }, { "nonsense", nonsense }, { "pause", pause_between },
		{ "shrinking", shrinking }, { "reset", reset },
	};

	if (argc < 3)
		fail("usage: kernel TOPIC SERVER [ARGUMENT...]");
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		if (strcmp(argv[1], topics[i].name))
			continue;
		start(argv + 2, argc - 2);
		topics[i].run();
		end();
		return;
	}
	fail("no topic %s", argv[1]);
}
