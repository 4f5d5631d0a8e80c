// SPDX-License-Identifier: GPL-2.0-only
/* failprobe: messages to storage nodes, for which there is no memory. */
#include "failprobe.h"
#include "krpcprobe.h"

enum {
	LEN = 100,
	FAULTS = 1000000,	/* more than happen */
	SECOND = 1000,
	MOST = 3000,		/* of one message */
	HURRY = 1000,		/* tries in a second; in each of them one fault at least */
};

static uint64_t next_xid = 1;

static unsigned long get_switch(const char *fault, const char *name)
{
	unsigned long value;
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), SWITCHES "%s/%s", fault, name);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%lu", &value) != 1)
		die("%s: %s", path, err_name(errno));
	fclose(f);
	return value;
}

/* Every one of them, of all tasks; not of those that have been armed */
static void fail_all(bool on)
{
	set_switch("failslab", "interval", 1);
	set_switch("failslab", "times", FAULTS);
	set_switch("failslab", "probability", on ? 100 : 0);
}

/* A message with a payload each way. What the node gets to know is up to the caller. */
static int send_one(struct node *n, const uint8_t *from, uint8_t *to)
{
	union desc d[2] = { umem((void *)from, LEN), umem(to, LEN) };

	return ep_send(n, next_xid++, d, 1, 1);
}

/*
 * Nothing can be sent for a while. Nobody but the endpoint itself comes back to the message then:
 * nothing is on its way whose arrival could tell.
 */
static void nothing_for_a_while(struct node *n, const uint8_t *from, uint8_t *to)
{
	struct pcs_krpc_recv r;
	unsigned long tries;

	choose_faults("failslab", "krpc_send_msg");
	fail_all(true);
	say("a message, and nothing to send it with: %s", err_name(send_one(n, from, to)));
	nap_ms(SECOND);
	set_switch("failslab", "probability", 0);
	tries = FAULTS - get_switch("failslab", "times");
	if (getenv("FAILPROBE_VERBOSE"))
		say("%lu faults", tries);
	say("tried again: %s, without hurry: %s", yes(tries > 2), yes(tries < HURRY));
	node_take(n);
	node_skip(n, LEN);
	node_data(n, next_xid - 1, 0, LEN);
	say("when there is memory: %d bytes", end_of(n, NULL));
	say("told of another: %s", err_name(ep_recv(n, &r)));
}

/* Each allocation fails once: a message is refused, or is as good as any other. */
static void each_once(struct node *n, const char *code, const uint8_t *from, uint8_t *to)
{
	unsigned int nth, refused = 0, good = 0;
	struct pcs_krpc_recv r;
	bool fired;
	int err;

	choose_faults("failslab", code);
	for (nth = 1, fired = true; fired && nth < MOST; nth++) {
		memset(to, POISON, LEN);
		arm(nth);
		err = send_one(n, from, to);
		fired = disarm();
		if (err && (err != ENOMEM || !fired))
			die("fault %u: %s", nth, err_name(err));
		refused += !!err;
		if (err)
			continue;
		if (node_take(n) != next_xid - 1)
			die("fault %u: another message", nth);
		node_skip(n, LEN);
		node_data(n, next_xid - 1, 0, LEN);
		ep_wait(n, &r);
		if (r.res != LEN || memcmp(to, from, LEN))
			die("fault %u: %d, or wrong data", nth, r.res);
		good++;
	}
	if (fired)
		die("no end after %d faults", MOST);
	if (getenv("FAILPROBE_VERBOSE"))
		say("%s: %u refused, %u good", code ? code : "", refused, good);
	/* the last one of them met none */
	if (good + refused < 2)
		die("nothing can fail");
	say("each allocation fails once%s: %sgood", code ? ", in sending" : "",
	    refused ? "refused, or " : "");
}

static int krpc_send(int argc, char **argv)
{
	uint8_t from[LEN], to[LEN];
	struct stage s;
	struct node n;

	(void)argc, (void)argv;
	fill_pattern(from, LEN, 0);
	stage_plain(&s);
	node_open(&n, &s.c, &full_framing, 0);
	each_once(&n, "krpc_send_msg", from, to);
	each_once(&n, NULL, from, to);
	nothing_for_a_while(&n, from, to);
	node_close(&n);
	stage_close(&s);
	return 0;
}

const struct command krpc_commands[] = {
	{ "krpc-send", krpc_send, "messages for which there is no memory" },
	{}
};
