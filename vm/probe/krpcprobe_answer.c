// SPDX-License-Identifier: GPL-2.0-only
/* krpcprobe: answers of storage nodes, good ones in strange pieces and bad ones. */
#include "krpcprobe.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

static uint64_t next_xid = 1;

/* ------------------------------------------------------------------- many requests -- */

/*
 * Serve an application until it has its answer: each of its reads in parts of up to @piece
 * bytes, each a message to another node; all are sent before the first is answered, and
 * answered from the last to the first. Returns the number of messages.
 */
static unsigned int serve_placed(struct stage *s, struct node *nodes, unsigned int nr_nodes,
				 unsigned int i, uint32_t piece)
{
	struct client *cl = &s->cl[i];
	unsigned int total = 0;
	struct req *q;

	watch_client(cl);
	while (!client_done(cl)) {
		const struct fuse_read_in *rd;
		struct pcs_krpczc_chunk ch;
		unsigned int nr, k;
		int err;

		q = try_req(&s->c, 1000);
		if (!q)
			continue;
		rd = read_in(q);
		if (q->h.opcode != FUSE_READ || !rd->size) {
			answer(q);
			continue;
		}
		nr = (rd->size + piece - 1) / piece;
		for (k = 0; k < nr; k++) {
			uint32_t len = k < nr - 1 ? piece : rd->size - k * piece;

			err = ep_send_zc(&nodes[k % nr_nodes], next_xid + k, q, k * piece, len);
			if (err)
				die("%u bytes at %u: %s", len, k * piece, err_name(err));
			node_take(&nodes[k % nr_nodes]);
		}
		for (k = nr; k--;) {
			uint32_t len = k < nr - 1 ? piece : rd->size - k * piece;

			node_data(&nodes[k % nr_nodes], next_xid + k, rd->offset + k * piece, len);
		}
		for (k = 0; k < nr; k++)
			if (end_of(&nodes[k % nr_nodes], NULL) <= 0)
				die("a message did not end well");
		next_xid += nr;
		total += nr;
		ch = (struct pcs_krpczc_chunk){ .len = rd->size };
		err = try_chunks(q, &ch, 1);
		if (err)
			die("reply: %s", err_name(err));
		put_req(q);
	}
	watch_client(NULL);
	return total;
}

/* Whether the file's data is in these parts, and nothing beside them is written to */
static bool parts_right(const char *parts, uint64_t offset, long n)
{
	static uint8_t part_of[APP_SIZE];
	const char *s = parts;
	size_t at, len, i;
	bool good = true;
	char *end;

	memset(part_of, 0, sizeof(part_of));
	for (; *s; s = *end ? end + 1 : end) {
		at = strtoul(s, &end, 0);
		len = strtoul(end + 1, &end, 0);
		if ((long)len > n)
			len = n;
		good &= right(at, len, offset);
		memset(part_of + at, 1, len);
		offset += len;
		n -= len;
	}
	for (i = 0; i < APP_SIZE; i++)
		good &= part_of[i] || app[i] == POISON;
	return good && !n;
}

static int place_direct(int argc, char **argv)
{
	static const char *const parts[] = {
		"0:1", "4095:1", "4095:2", "1:4095", "1:4096", "3:8192", "100:1,5000:4095,20000:8193",
		"10:1,20:1,30:1,40:1", "4090:10,12280:20,20479:2", "0:131072", "1:131071", "1:131072",
		"7:70001", "4097:300000", "0:65536,65536:65536,131072:65536", "123:1000,3000:200000",
		"0:512,1024:512,2048:512,3072:512,4096:512,5120:512,6144:512,7168:512",
	};
	static const uint64_t offsets[] = { 0, 1, PAGE - 1, 12345 };
	static const uint32_t pieces[] = { 1 << 20, PAGE, 10007 };
	unsigned int i, k, p, bad = 0, done = 0;
	struct node nodes[3];
	struct stage s;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	for (i = 0; i < 3; i++)
		node_open(&nodes[i], &s.c, i == 2 ? &short_framing : &full_framing, 0);
	for (i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		for (k = 0; k < 4; k++)
			for (p = 0; p < 3; p++) {
				poison();
				app_read(&s, 0, "f1", offsets[k], true, parts[i]);
				serve_placed(&s, nodes, 3, 0, pieces[p]);
				done++;
				if (!s.cl[0].err &&
				    parts_right(parts[i], offsets[k], s.cl[0].done.ret))
					continue;
				bad++;
				say("%s from %llu in pieces of %u: %s, %ld bytes", parts[i],
				    (unsigned long long)offsets[k], pieces[p],
				    err_name(s.cl[0].err), s.cl[0].done.ret);
			}
	say("%u direct reads, wrong: %u", done, bad);
	for (i = 0; i < 3; i++) {
		if (ep_stats(&nodes[i]).bytes_copied || ep_stats(&nodes[i]).bytes_drained)
			say("node %u: not all was placed", i);
		node_close(&nodes[i]);
	}
	stage_close(&s);
	return 0;
}

enum { HUGE = 2 << 20, HUGE_LEN = 100000 };

/* Two huge pages, poisoned */
static uint8_t *huge_pages(void)
{
	uint8_t *p = mmap(NULL, 3 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (uint8_t *)(((uintptr_t)p + HUGE - 1) / HUGE * HUGE);
	madvise(p, 2 * HUGE, MADV_HUGEPAGE);
	memset(p, POISON, 2 * HUGE);
	return p;
}

static bool are_huge(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "re");
	char line[128];
	long kb = 0;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "AnonHugePages: %ld kB", &kb);
	if (f)
		fclose(f);
	return kb * 1024 >= 2 * HUGE;
}

/* The file's first bytes there, and nothing beside */
static bool only_there(const uint8_t *p, size_t at, size_t len)
{
	static uint8_t want[1 << 20];
	size_t i;

	fill_pattern(want, len, 0);
	for (i = 0; i < 2 * HUGE; i++)
		if (p[i] != (i >= at && i < at + len ? want[i - at] : POISON))
			return false;
	return true;
}

/* a: where in huge pages */
static int do_huge_read(struct job *j)
{
	uint8_t *p = huge_pages();
	int fd = open(j->path, O_RDONLY | O_DIRECT);

	if (!p || fd < 0)
		return ENOMEM;
	j->ret = pread(fd, p + j->a, HUGE_LEN, 0);
	close(fd);
	if (j->ret != HUGE_LEN)
		return errno ? errno : EIO;
	j->b = are_huge();
	j->ret = only_there(p, j->a, HUGE_LEN);
	munmap(p, 2 * HUGE);
	return 0;
}

/* Memory in pages that are larger than others: all of it is reached, and nothing else */
static int huge(int argc, char **argv)
{
	static const uint32_t places[] = { 0, 1, PAGE - 1, 5 * PAGE + 123, HUGE - HUGE_LEN,
					   HUGE - 1, HUGE - 50001, 2 * HUGE - HUGE_LEN };
	struct pcs_krpczc_chunk ch;
	unsigned int i, wrong = 0;
	struct stage s;
	struct node n;
	struct req *q;
	uint8_t *mem;
	uint32_t id;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	mem = huge_pages();
	if (!mem || !are_huge())
		notrun("no huge pages");
	if (ep_reg(&n, mem, 2 * HUGE, &id))
		die("the region is refused");
	for (i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint32_t at = places[i], way;

		for (way = 0; way < 2; way++) {
			union desc d = way ? umem(mem + at, HUGE_LEN) : mr(id, mem + at, HUGE_LEN);

			memset(mem, POISON, 2 * HUGE);
			if (ep_send(&n, next_xid, &d, 0, 1))
				die("a message is refused");
			node_data(&n, node_take(&n), 0, HUGE_LEN);
			if (end_of(&n, NULL) != HUGE_LEN || !only_there(mem, at, HUGE_LEN)) {
				say("%s at %u: wrong", way ? "other memory" : "region", at);
				wrong++;
			}
			next_xid++;
		}
		/* sent from there */
		{
			union desc d = mr(id, mem + at, HUGE_LEN);
			uint8_t *got = malloc(HUGE_LEN);

			if (!got || ep_send(&n, next_xid, &d, 1, 0))
				die("a message is refused");
			node_take(&n);
			if (recv(n.peer, got, HUGE_LEN, MSG_WAITALL) != HUGE_LEN ||
			    memcmp(got, mem + at, HUGE_LEN)) {
				say("sent from %u: wrong", at);
				wrong++;
			}
			node_data(&n, next_xid++, 0, 0);
			if (end_of(&n, NULL))
				die("a message did not end well");
			free(got);
		}
		/* a section of a reply */
		poison();
		q = claimable(&s, 0, HUGE_LEN);
		ch = (struct pcs_krpczc_chunk){ .addr = (uintptr_t)mem + at, .len = HUGE_LEN };
		if (try_chunks(q, &ch, 1))
			say("section at %u: refused", at);
		put_req(q);
		app_end(&s, 0);
		if (s.cl[0].err || !right(0, HUGE_LEN, 0)) {
			say("section at %u: wrong", at);
			wrong++;
		}
		/* the reader's */
		client_do(&s.cl[0], do_huge_read, s.c.mnt, "f1", at, 0);
		serve_placed(&s, &n, 1, 0, 30011);
		if (s.cl[0].err || !s.cl[0].done.ret || !s.cl[0].done.b) {
			say("the reader's at %u: %s, right: %s, huge: %s", at, err_name(s.cl[0].err),
			    yes(s.cl[0].done.ret), yes(s.cl[0].done.b));
			wrong++;
		}
	}
	say("%u places in huge pages, wrong: %u", i, wrong);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* Reads of several applications at once, parts of each with several nodes */
static int place_many(int argc, char **argv)
{
	enum { APPS = 6, NODES = 3, LEN = 12 * PAGE, PART = 2 * PAGE, PARTS = LEN / PART };
	struct { unsigned int app, part; } order[APPS * PARTS], swap;
	uint64_t xids[APPS][PARTS];
	struct node nodes[NODES];
	struct req *q[APPS];
	struct stage s;
	unsigned int i, k, state = 12345, good = 0, round;

	(void)argc, (void)argv;
	stage_open(&s, APPS, NULL);
	for (i = 0; i < NODES; i++)
		node_open(&nodes[i], &s.c, i ? &full_framing : &short_framing, 0);
	for (round = 0; round < 10; round++) {
		poison();
		for (i = 0; i < APPS; i++) {
			char parts[32], name[16];

			snprintf(parts, sizeof(parts), "%u:%u", i * 32 * PAGE + 13 * i, LEN);
			snprintf(name, sizeof(name), "f%u", i);
			app_read(&s, i, name, i * LEN, true, parts);
		}
		for (i = 0; i < APPS; i++) {
			q[i] = next_read(&s);
			for (k = 0; k < PARTS; k++) {
				order[i * PARTS + k].app = i;
				order[i * PARTS + k].part = k;
			}
		}
		for (i = APPS * PARTS - 1; i; i--) {
			k = (state = state * 1103515245 + 12345) / 65536 % (i + 1);
			swap = order[i], order[i] = order[k], order[k] = swap;
		}
		for (i = 0; i < APPS * PARTS; i++) {
			unsigned int a = order[i].app, part = order[i].part;
			int err = ep_send_zc(&nodes[part % NODES], next_xid, q[a], part * PART, PART);

			if (err)
				die("claim: %s", err_name(err));
			xids[a][part] = next_xid++;
		}
		/* answered in another order */
		for (i = 0; i < APPS * PARTS; i++)
			node_take(&nodes[order[i].part % NODES]);
		for (i = APPS * PARTS; i--;) {
			unsigned int a = order[i].app, part = order[i].part;

			node_data(&nodes[part % NODES], xids[a][part],
				  read_in(q[a])->offset + part * PART, PART);
		}
		for (i = 0; i < APPS * PARTS; i++)
			if (end_of(&nodes[order[i].part % NODES], NULL) != PART)
				die("a message did not end well");
		for (i = 0; i < APPS; i++) {
			struct pcs_krpczc_chunk ch[PARTS];

			for (k = 0; k < PARTS; k++)
				ch[k] = (struct pcs_krpczc_chunk){ .offset = k * PART, .len = PART };
			if (try_chunks(q[i], ch, PARTS))
				die("reply is refused");
			put_req(q[i]);
		}
		for (i = 0; i < APPS; i++) {
			app_end(&s, i);
			good += !s.cl[i].err && right(i * 32 * PAGE + 13 * i, LEN, i * LEN);
		}
	}
	say("%u reads of %u applications, %u messages, in any order: %u right", 10 * APPS, APPS,
	    10 * APPS * PARTS, good);
	for (i = 0; i < NODES; i++)
		node_close(&nodes[i]);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------ pieces of answers -- */

static int answer_split(int argc, char **argv)
{
	enum { LEN = 100, TOTAL = 24 + LEN };
	uint8_t whole[TOTAL], *mem = malloc(LEN);
	unsigned int at, i, wrong = 0;
	struct pcs_krpc_recv r;
	struct stage s;
	struct node n;
	struct req *q;
	union desc d;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	node_open(&n, &s.c, &full_framing, 0);
	q = claimable(&s, 0, 2 * TOTAL * LEN);
	/* to pages and to memory in turn, the last one byte by byte */
	for (at = 1; at <= TOTAL; at++) {
		bool zero_copy = at % 2;
		uint32_t offset = at / 2 * LEN;

		d = zero_copy ? zc(&n, q, offset, LEN) : umem(mem, LEN);
		if (ep_send(&n, at, &d, 0, 1))
			die("message %u is refused", at);
		node_take(&n);
		node_head(&n, whole, at, STATUS_OK, LEN);
		fill_pattern(whole + 24, LEN, offset);
		for (i = 0; i < TOTAL; i += at < TOTAL ? (i ? TOTAL - at : at) : 1)
			node_write(&n, whole + i, at < TOTAL ? (i ? TOTAL - at : at) : 1);
		ep_wait(&n, &r);
		if (r.res != LEN || r.xid != at || r.hdr_len != 24 || memcmp(r.hdr, whole, 24) ||
		    (!zero_copy && memcmp(mem, whole + 24, LEN))) {
			say("split at %u: %d", at, r.res);
			wrong++;
		}
	}
	say("an answer of %u bytes split at every byte: wrong: %u", TOTAL, wrong);
	{
		uint32_t len = (TOTAL + 1) / 2 * LEN;
		struct pcs_krpczc_chunk ch = { .len = len };

		say("reply: %s", err_name(try_chunks(q, &ch, 1)));
		put_req(q);
		app_say(&s, 0, "read");
		say("data right: %s", yes(right(0, len, 0)));
	}
	free(mem);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* Answers of all lengths, as many as there are, in one go and in chance pieces */
static int answer_many(int argc, char **argv)
{
	enum { NR = 200, MOST = 600 };
	uint8_t *all = malloc(NR * (24 + MOST)), *mem = malloc(NR * MOST), *want = malloc(MOST);
	unsigned int i, k, round, order[NR], wrong, state = 99;
	struct pcs_krpc_recv r;
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	app_end(&s, 0);
	node_open(&n, &s.c, &full_framing, 0);
	for (round = 0; round < 3; round++) {
		size_t len = 0, at = 0;

		memset(mem, POISON, NR * MOST);
		wrong = 0;
		for (i = 0; i < NR; i++) {
			/* in two buffers, and room for more than will come */
			union desc d[2] = { umem(mem + i * MOST, i + 1),
					    umem(mem + i * MOST + i + 1, MOST - i - 1) };

			if (ep_send(&n, i, d, 0, 2))
				die("message %u is refused", i);
			node_take(&n);
			order[i] = i;
		}
		for (i = NR - 1; i; i--) {
			unsigned int swap = order[i];

			k = (state = state * 1103515245 + 12345) / 65536 % (i + 1);
			order[i] = order[k], order[k] = swap;
		}
		for (i = 0; i < NR; i++) {
			unsigned int size = order[i] * 3;

			len += node_head(&n, all + len, order[i], STATUS_OK, size);
			fill_pattern(all + len, size, order[i]);
			len += size;
		}
		while (at < len) {
			size_t part = len - at;

			state = state * 1103515245 + 12345;
			if (round && part > 1 + state / 65536 % (round == 1 ? 37 : 5000))
				part = 1 + state / 65536 % (round == 1 ? 37 : 5000);
			node_write(&n, all + at, part);
			at += part;
		}
		for (i = 0; i < NR; i++) {
			unsigned int size = order[i] * 3;

			/* they end as they were answered */
			ep_wait(&n, &r);
			fill_pattern(want, size, order[i]);
			if (r.xid != order[i] || r.res != (int)size ||
			    memcmp(mem + order[i] * MOST, want, size) ||
			    (size < MOST && mem[order[i] * MOST + size] != POISON))
				wrong++;
		}
		say("%u answers, %s: wrong: %u", NR,
		    round ? round == 1 ? "in small pieces" : "in pieces" : "in one go", wrong);
	}
	free(all);
	free(mem);
	free(want);
	node_close(&n);
	stage_close(&s);
	return 0;
}

/* -------------------------------------------------------------------------- framings -- */

static unsigned int framings_done;

/* One message to a node of this framing, there and back */
static bool framing_works(struct stage *s, const struct pcs_krpc_framing *f, uint64_t xid,
			  uint32_t len, uint64_t status)
{
	static uint8_t mem[1024], want[1024], out[100];
	bool padded = f->flags & PCS_KRPC_PADDED, good;
	struct pcs_krpc_recv r;
	struct node n;
	union desc d[2] = { umem(out, sizeof(out)), umem(mem, sizeof(mem)) };
	unsigned int i;

	framings_done++;
	node_open(&n, &s->c, f, 0);
	memset(mem, POISON, sizeof(mem));
	fill_pattern(want, len, xid);
	/* two, so that the first must end where it has to */
	good = true;
	for (i = 0; i < 2 && good; i++) {
		good = !ep_send(&n, xid, d, 1, 1) && node_take(&n) == xid;
		if (!good)
			break;
		node_skip(&n, sizeof(out));
		if (padded)
			node_skip(&n, PCS_KRPC_MSG_ALIGNMENT - ASK - sizeof(out));
		node_answer(&n, xid, status, want, len);
		ep_wait(&n, &r);
		good = r.xid == xid && r.status == status && r.hdr_len == f->hdr_len;
		if (status == f->status_ok)
			good &= r.res == (int)len && !memcmp(mem, want, len) &&
				(len == sizeof(mem) || mem[len] == POISON);
		else
			good &= r.res == -EREMOTEIO && mem[0] == POISON;
		while (good && ep_send(&n, xid, NULL, 0, 0) == EEXIST)
			nap_ms(1);
		if (good) {
			node_take(&n);
			if (padded)
				node_skip(&n, PCS_KRPC_MSG_ALIGNMENT - ASK);
			node_answer(&n, xid, f->status_ok, NULL, 0);
			ep_wait(&n, &r);
			good = !r.res;
		}
	}
	node_close(&n);
	return good;
}

static int framings(int argc, char **argv)
{
	static const uint16_t sizes[] = { 1, 2, 4, 8 };
	unsigned int flags, c, l, st, wrong = 0;
	struct stage s;

	(void)argc, (void)argv;
	stage_open(&s, 1, NULL);
	client_do(&s.cl[0], do_stat, s.c.mnt, "f1", 0, 0);
	app_end(&s, 0);
	for (flags = 0; flags < 16; flags++)
		for (c = 0; c < 4; c++)
			for (l = 0; l < 4; l++) {
				struct pcs_krpc_framing f = { .flags = flags };
				uint64_t xid = 0xf1e2d3c4b5a69788ull >> (64 - 8 * sizes[c]);
				uint64_t bad = 0x8192a3b4c5d6e7f8ull;
				unsigned int at = 1;
				uint32_t len;

				st = (c + l) % 4;
				/* everything where nothing is aligned */
				f.magic = (struct pcs_krpc_field){ at, sizes[(c + l + 1) % 4] };
				f.magic_value = 0x1122334455667788ull >>
						(64 - 8 * f.magic.size);
				at += f.magic.size + 1;
				f.length = (struct pcs_krpc_field){ at, sizes[l] };
				at += sizes[l];
				f.status = (struct pcs_krpc_field){ at, sizes[st] };
				f.status_ok = 0x0102030405060708ull >> (64 - 8 * sizes[st]);
				at += sizes[st] + 1;
				f.cookie = (struct pcs_krpc_field){ at, sizes[c] };
				f.hdr_len = at + sizes[c] + (c == 2);
				/* what its size has room for */
				len = sizes[l] == 1 ? 200 : 1000;
				bad >>= 64 - 8 * sizes[st];
				if (!framing_works(&s, &f, xid, len, f.status_ok) ||
				    ((flags & PCS_KRPC_STATUS_OF_MSG) &&
				     !framing_works(&s, &f, xid, len, bad))) {
					wrong++;
					say("flags %#x, cookie of %u, length of %u bytes: wrong",
					    flags, sizes[c], sizes[l]);
				}
			}
	say("framings tried: %u, wrong: %u", framings_done, wrong);
	/* without what is optional, all answers are good, and of the length that was asked for */
	framings_done = wrong = 0;
	for (c = 0; c < 4; c++)
		for (l = 0; l < 8; l++) {
			struct pcs_krpc_framing f = {
				.flags = c & 1 ? PCS_KRPC_PADDED : PCS_KRPC_BIG_ENDIAN,
				.hdr_len = 30, .cookie = { 3 * c, 8 },
			};

			if (l & 1)
				f.magic = (struct pcs_krpc_field){ 20, 4 }, f.magic_value = MAGIC;
			if (l & 2)
				f.status = (struct pcs_krpc_field){ 24, 1 }, f.status_ok = 9;
			if (l & 4)
				f.length = (struct pcs_krpc_field){ 25, 2 };
			/* what is asked for is 1024 bytes, and then none */
			if (!framing_works(&s, &f, ~0ull - l, l & 4 ? 1000 : 1024, f.status_ok)) {
				wrong++;
				say("magic of %u, status of %u, length of %u bytes: wrong",
				    f.magic.size, f.status.size, f.length.size);
			}
		}
	say("with and without magic, status and length: %u, wrong: %u", framings_done, wrong);
	stage_close(&s);
	return 0;
}

/* ------------------------------------------------------------------------ misbehaviour -- */

/*
 * Three messages wait, the second one for pages of a read: how do they end? The first is
 * answered well before.
 */
struct trouble {
	struct stage s;
	struct node n, other;
	struct req *q;
	uint8_t *mem;
};

enum { READ_LEN = 4 * PAGE, XIDS = 500 };

static void trouble_begin(struct trouble *t, const struct pcs_krpc_framing *f, uint32_t timeout_ms)
{
	union desc d;
	unsigned int i;

	poison();
	t->q = claimable(&t->s, 0, READ_LEN);
	node_open(&t->n, &t->s.c, f, timeout_ms);
	memset(t->mem, POISON, READ_LEN);
	for (i = 0; i < 3; i++) {
		d = i == 1 ? zc(&t->n, t->q, 0, READ_LEN) : umem(t->mem, READ_LEN);
		if (ep_send(&t->n, XIDS + i, &d, 0, 1))
			die("message %u is refused", i);
		node_take(&t->n);
	}
}

static int trouble_last;	/* so many more messages wait */

static void trouble_say(struct trouble *t, const char *what)
{
	char ends[3][32];
	unsigned int i;
	uint64_t xid;
	int err;

	for (i = 0; i < 3; i++) {
		int res = end_of(&t->n, &xid);

		snprintf(ends[i], sizeof(ends[i]), "%s", res > 0 ? res == 1 ? "none" : "data" :
			 err_name(res));
	}
	for (; trouble_last; trouble_last--)
		say("%s: one more: %s", what, err_name(end_of(&t->n, NULL)));
	err = ep_send(&t->n, 600, NULL, 0, 0);
	say("%s: %s, %s, %s; then %s; %s", what, ends[0], ends[1], ends[2], err_name(err),
	    events_name(ep_poll(&t->n, POLLIN | POLLOUT, 0)));
	if (!err)
		die("the endpoint goes on");
	{
		struct pcs_krpc_recv r;
		int again = ep_recv(&t->n, &r);

		if (again != err)
			say("%s: RECV_MSG says %s", what, err_name(again));
	}
	while (t->n.peer >= 0 && recv(t->n.peer, t->mem, READ_LEN, MSG_DONTWAIT) > 0)
		;	/* what was sent before */
	if (t->n.peer >= 0 && !node_sees_end(&t->n))
		say("%s: the connection is still there", what);
	/* the read is as it was: others may have it */
	err = ep_send_zc(&t->other, 1, t->q, 0, READ_LEN);
	if (err) {
		say("%s: the read, for another endpoint: %s", what, err_name(err));
		end_read(t->q);
	} else {
		struct pcs_krpczc_chunk ch = { .len = READ_LEN };

		node_take(&t->other);
		node_data(&t->other, 1, 0, READ_LEN);
		if (end_of(&t->other, NULL) != READ_LEN || try_chunks(t->q, &ch, 1))
			say("%s: another endpoint cannot go on", what);
		put_req(t->q);
	}
	app_end(&t->s, 0);
	if (t->s.cl[0].err || !right(0, READ_LEN, 0))
		say("%s: the application got %s, or wrong data", what, err_name(t->s.cl[0].err));
	node_close(&t->n);
}

static void trouble_open(struct trouble *t)
{
	stage_open(&t->s, 1, NULL);
	node_open(&t->other, &t->s.c, &full_framing, 0);
	t->mem = malloc(READ_LEN);
	if (!t->mem)
		die("out of memory");
}

static void trouble_close(struct trouble *t)
{
	free(t->mem);
	node_close(&t->other);
	stage_close(&t->s);
}

/* A header with these numbers, and payload behind it */
static void bad_answer(struct trouble *t, const char *what, const struct pcs_krpc_framing *f,
		       uint64_t magic, uint64_t xid, uint64_t status, uint64_t len)
{
	uint8_t hdr[PCS_KRPC_MAX_HEADER];

	trouble_begin(t, f, 0);
	t->n.f.magic_value = magic;
	node_write(&t->n, hdr, node_head(&t->n, hdr, xid, status, len));
	t->n.f = *f;
	/* payload that nobody must take for anything */
	memset(t->mem, POISON, READ_LEN);
	node_write(&t->n, t->mem, 100);
	trouble_say(t, what);
}

static int node_garbage(int argc, char **argv)
{
	struct pcs_krpc_framing has = full_framing, strict = full_framing, wide = full_framing;
	struct trouble t;
	uint8_t junk[200];

	(void)argc, (void)argv;
	has.flags |= PCS_KRPC_LENGTH_HAS_HEADER;
	strict.flags &= ~PCS_KRPC_STATUS_OF_MSG;
	wide.length = (struct pcs_krpc_field){ 16, 8 };
	trouble_open(&t);
	bad_answer(&t, "wrong magic", &full_framing, MAGIC + 1, XIDS, STATUS_OK, 100);
	bad_answer(&t, "unknown cookie", &full_framing, MAGIC, XIDS + 3, STATUS_OK, 100);
	bad_answer(&t, "cookie 0", &full_framing, MAGIC, 0, STATUS_OK, 100);
	bad_answer(&t, "unknown cookie with an error", &full_framing, MAGIC, XIDS - 1, 5, 100);
	bad_answer(&t, "a byte too much", &full_framing, MAGIC, XIDS + 1, STATUS_OK, READ_LEN + 1);
	bad_answer(&t, "2^32 - 1 bytes", &full_framing, MAGIC, XIDS + 1, STATUS_OK, ~0u);
	bad_answer(&t, "2^31 bytes", &full_framing, MAGIC, XIDS + 1, STATUS_OK, 1u << 31);
	bad_answer(&t, "2^64 - 1 bytes", &wide, MAGIC, XIDS + 1, STATUS_OK, ~0ull);
	bad_answer(&t, "2^32 bytes", &wide, MAGIC, XIDS + 1, STATUS_OK, 1ull << 32);
	bad_answer(&t, "2^32 - 1 bytes with an error", &full_framing, MAGIC, XIDS + 1, 5, ~0u);
	bad_answer(&t, "length less than the header", &has, MAGIC, XIDS + 1, STATUS_OK,
		   (uint32_t)-1);
	bad_answer(&t, "length 0, of the header", &has, MAGIC, XIDS + 1, STATUS_OK,
		   (uint32_t)-24);
	bad_answer(&t, "a byte too much, the header counted", &has, MAGIC, XIDS + 1, STATUS_OK,
		   READ_LEN + 1);
	bad_answer(&t, "an error that is the end", &strict, MAGIC, XIDS + 1, 5, 100);
	bad_answer(&t, "an error that is the end, no length", &short_framing, MAGIC, XIDS + 1, 5,
		   0);
	trouble_begin(&t, &full_framing, 0);
	memset(junk, 0xff, sizeof(junk));
	node_write(&t.n, junk, sizeof(junk));
	trouble_say(&t, "nothing but ones");
	/* answered twice */
	trouble_begin(&t, &full_framing, 0);
	node_data(&t.n, XIDS, 0, 10);
	node_data(&t.n, XIDS, 0, 10);
	trouble_say(&t, "answered twice");
	/* half of the question is still on its way */
	{
		enum { SIZE = 8 << 20 };
		uint8_t *big = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		union desc d = umem(big, SIZE);

		trouble_begin(&t, &full_framing, 0);
		if (ep_send(&t.n, 777, &d, 1, 0))
			die("the large message is refused");
		node_data(&t.n, 777, 0, 0);
		/* its own end is the fourth */
		trouble_last = 1;
		trouble_say(&t, "answered before it was asked");
		munmap(big, SIZE);
	}
	trouble_close(&t);
	return 0;
}

/* Silence and lost connections, at each stage of an answer */
static int node_gone(int argc, char **argv)
{
	static const char *const hows[] = { "silence", "half-close", "close", "reset" };
	static const struct {
		const char *what;
		size_t bytes;	/* of the answer */
	} whens[] = {
		{ "before an answer", 0 }, { "in the header", 13 }, { "after the header", 24 },
		{ "in the payload", 24 + 5000 }, { "before the last byte", 24 + READ_LEN - 1 },
		{ "after an answer", 24 + READ_LEN },
	};
	uint8_t *whole = malloc(24 + READ_LEN);
	unsigned int how, when;
	struct trouble t;
	char what[64];

	(void)argc, (void)argv;
	trouble_open(&t);
	for (how = 0; how < 4; how++)
		for (when = 0; when < 6; when++) {
			trouble_begin(&t, &full_framing, how ? 0 : 300);
			node_head(&t.n, whole, XIDS + 1, STATUS_OK, READ_LEN);
			fill_pattern(whole + 24, READ_LEN, 0);
			node_write(&t.n, whole, whens[when].bytes);
			if (whens[when].bytes > 24)
				wait_bytes(&t.n, whens[when].bytes - 24);
			if (how == 1)
				node_half_close(&t.n);
			else if (how == 2)
				close(t.n.peer), t.n.peer = -1;
			else if (how == 3)
				node_reset(&t.n);
			snprintf(what, sizeof(what), "%s %s", hows[how], whens[when].what);
			if (when < 5) {
				trouble_say(&t, what);
				continue;
			}
			/* what was answered has ended well, and stays filled */
			{
				struct pcs_krpczc_chunk ch = { .len = READ_LEN };
				int a = end_of(&t.n, NULL), b = end_of(&t.n, NULL),
				    c = end_of(&t.n, NULL);

				say("%s: %s, %s, %s; claimed again: %s", what,
				    a == READ_LEN ? "data" : err_name(a), err_name(b), err_name(c),
				    err_name(ep_send_zc(&t.other, 1, t.q, 0, 1)));
				if (try_chunks(t.q, &ch, 1))
					say("%s: the reply is refused", what);
				put_req(t.q);
				app_end(&t.s, 0);
				if (t.s.cl[0].err || !right(0, READ_LEN, 0))
					say("%s: wrong data", what);
				node_close(&t.n);
			}
		}
	free(whole);
	trouble_close(&t);
	return 0;
}

/* An error of one message is not the others' */
static int node_status(int argc, char **argv)
{
	struct pcs_krpc_recv r;
	struct trouble t;

	(void)argc, (void)argv;
	trouble_open(&t);
	trouble_begin(&t, &full_framing, 0);
	node_answer(&t.n, XIDS + 1, 0x12345678, t.mem, 1000);
	ep_wait(&t.n, &r);
	say("message %llu: %s, status %#llx, header of %u bytes", (unsigned long long)r.xid,
	    err_name(r.res), (unsigned long long)r.status, r.hdr_len);
	node_answer(&t.n, XIDS, 7, NULL, 0);
	ep_wait(&t.n, &r);
	say("message %llu: %s, status %#llx", (unsigned long long)r.xid, err_name(r.res),
	    (unsigned long long)r.status);
	node_data(&t.n, XIDS + 2, 0, READ_LEN);
	ep_wait(&t.n, &r);
	say("message %llu: %d bytes, status %#llx", (unsigned long long)r.xid, r.res,
	    (unsigned long long)r.status);
	say("nothing of the errors' payload in the read: %s", yes(poisoned(0, READ_LEN)));
	say("the read can be claimed: %s", err_name(ep_send_zc(&t.n, 700, t.q, 0, READ_LEN)));
	node_take(&t.n);
	node_data(&t.n, 700, 0, READ_LEN);
	end_say(&t.n, "answer");
	{
		struct pcs_krpczc_chunk ch = { .len = READ_LEN };

		say("reply: %s", err_name(try_chunks(t.q, &ch, 1)));
		put_req(t.q);
	}
	app_say(&t.s, 0, "read");
	say("data right: %s", yes(right(0, READ_LEN, 0)));
	/* as long as one is answered in time, the others may wait */
	node_close(&t.n);
	trouble_close(&t);
	return 0;
}

const struct command answer_commands[] = {
	{ "place-direct", place_direct, "direct reads to odd places" },
	{ "place-many", place_many, "many reads, many nodes, any order" },
	{ "huge", huge, "memory in huge pages" },
	{ "answer-split", answer_split, "answers in pieces" },
	{ "answer-many", answer_many, "many answers at once" },
	{ "framings", framings, "all kinds of framing" },
	{ "node-garbage", node_garbage, "answers that cannot be" },
	{ "node-gone", node_gone, "nodes that are silent or gone" },
	{ "node-status", node_status, "errors of one message" },
	{}
};
