// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "krpc.h"
#include "say.h"
#include "server.h"

struct krpc_options krpc = {
	.mode = MODE_ZC,
	.submit = SUBMIT_URING,
	.framing = &framing_nbd,
	.stripe = 64 << 10,
	.timeout = 2000,
	.patience = 10000,
};
struct column columns[MOST_COLUMNS];
unsigned int column_count;
struct file *files;
unsigned int file_count;

enum { KRPC = OWN_OPTION, SUBMIT, FRAMING, STRIPE, TIMEOUT, PATIENCE, MAX_MESSAGE, HASTY };

static const struct option own_options[] = {
	{ "krpc", 1, NULL, KRPC },
	{ "submit", 1, NULL, SUBMIT },
	{ "framing", 1, NULL, FRAMING },
	{ "stripe", 1, NULL, STRIPE },
	{ "timeout", 1, NULL, TIMEOUT },
	{ "patience", 1, NULL, PATIENCE },
	{ "max-message", 1, NULL, MAX_MESSAGE },
	{ "hasty", 0, NULL, HASTY },
	{ NULL, 0, NULL, 0 },
};

static void own_option(struct options *o, int number, char *value)
{
	static const char *const modes[] = { "off", "umem", "mr", "zc", "mixed", NULL };
	static const char *const submits[] = { "ioctl", "uring", NULL };
	static const char *const framings[] = { "nbd", "le", "le-padded", NULL };
	static const struct framing *const framing[] = {
		&framing_nbd, &framing_le, &framing_le_padded,
	};

	(void)o;
	switch (number) {
	case KRPC: krpc.mode = options_word("krpc", value, modes); break;
	case SUBMIT: krpc.submit = options_word("submit", value, submits); break;
	case FRAMING: krpc.framing = framing[options_word("framing", value, framings)]; break;
	case STRIPE: krpc.stripe = options_number("stripe", value, 512); break;
	case TIMEOUT: krpc.timeout = options_number("timeout", value, 1); break;
	case PATIENCE: krpc.patience = options_number("patience", value, 1); break;
	case MAX_MESSAGE: krpc.max_message = options_number("max-message", value, 512); break;
	case HASTY: krpc.hasty = true; break;
	}
}

/* HOST:PORT,HOST:PORT/HOST:PORT: commas between replicas, slashes between columns */
static void parse_nodes(char *text)
{
	char *in_columns, *in_replicas;

	for (char *c = strtok_r(text, "/", &in_columns); c;
	     c = strtok_r(NULL, "/", &in_columns)) {
		struct column *column = &columns[column_count++];

		if (column_count > MOST_COLUMNS)
			options_wrong("too many columns", NULL);
		for (char *r = strtok_r(c, ",", &in_replicas); r;
		     r = strtok_r(NULL, ",", &in_replicas)) {
			char *colon = strrchr(r, ':');

			if (!colon || colon == r || !colon[1])
				options_wrong("not HOST:PORT", r);
			if (column->replicas == MOST_REPLICAS)
				options_wrong("too many replicas", NULL);
			*colon = 0;
			column->place[column->replicas++] = (struct place){ r, colon + 1 };
		}
	}
	if (!column_count)
		options_wrong("no node", NULL);
}

static void arguments(struct options *o, int count, char **words)
{
	if (count != 2)
		options_wrong("NODES and MOUNTPOINT are wanted", NULL);
	o->source = strdup(words[0]);
	parse_nodes(words[0]);
	o->mountpoint = words[1];
	if (krpc.max_message > 8 << 20)
		options_wrong("--max-message is too large", NULL);
	/* odd, so that sections of both kinds begin and end anywhere */
	if (!krpc.max_message)
		krpc.max_message = krpc.mode == MODE_MIXED ? 20011 : 8 << 20;
}

static int start(const struct options *o)
{
	struct timespec now;

	(void)o;
	count_start();
	if (krpc.mode != MODE_OFF && access(KRPC_DEVICE, R_OK | W_OK) < 0)
		return complain(KRPC_DEVICE);
	files = calloc(MOST_FILES, sizeof(*files));
	if (!files)
		return complain("files");
	if (node_start() || node_find_files())
		return 1;
	clock_gettime(CLOCK_REALTIME, &now);
	for (unsigned int i = 0; i < file_count; i++)
		files[i].changed = now.tv_sec * 1000000000ULL + now.tv_nsec;
	return 0;
}

static int stop(void)
{
	count_update();
	node_stop();
	free(files);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct program krpcfs = {
		.usage = "NODES MOUNTPOINT\n"
"  NODES: HOST:PORT (numbers), commas between replicas, slashes between columns of stripes",
		.help =
"  --krpc=off|umem|mr|zc|mixed\n"
"                          who receives: the server itself; the kernel into the server's\n"
"                          memory, or into registered memory; into the pages of the read\n"
"                          (default); mixed: parts into those, parts into memory\n"
"  --submit=uring|ioctl    how messages are handed to the kernel (default uring)\n"
"  --framing=nbd|le|le-padded\n"
"                          what the nodes speak: NBD (default), or krpcnode's own\n"
"  --stripe=BYTES          of files on several columns (default 65536)\n"
"  --max-message=BYTES     payload of a message\n"
"  --timeout=MSEC          for an answer (default 2000)\n"
"  --patience=MSEC         until what fails again and again is an error (default 10000)\n"
"  --hasty                 test aid: reply before the data is there\n",
		.options = own_options,
		.option = own_option,
		.arguments = arguments,
		.backend = &krpc_backend,
		.start = start,
		.stop = stop,
	};

	return server_main(&krpcfs, argc, argv);
}
