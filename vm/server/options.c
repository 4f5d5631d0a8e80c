// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "opcodes.h"
#include "options.h"

static const char help[] =
"usage: mirrorfs [options] SOURCE MOUNTPOINT\n"
"       mirrorfs --print-stats FILE [NAME]\n"
"  --transport=dev|uring   how requests travel (default dev)\n"
"  --require-ring          exit status 3 when the ring is refused\n"
"  --depth=N               entries of each ring queue (default 8)\n"
"  --queues=N              ring queues, where the kernel can do with fewer than CPUs\n"
"  --pool=registered|plain|none\n"
"                          memory that a queue's entries share for payloads, where the\n"
"                          kernel can do that (default registered); none: a buffer each\n"
"  --threads=N             threads serving /dev/fuse (default: number of CPUs)\n"
"  --no-clone-fd           these threads share one descriptor\n"
"  --cache=none|auto|always\n"
"  --writeback             let the kernel gather writes\n"
"  --max-write=BYTES --max-background=N --max-readahead=BYTES\n"
"  --no-splice --no-readdirplus --no-locks --no-xattr --read-only\n"
"  -o OPTION,...           as mount(8) has them: ro, nosuid, noatime, ...; and\n"
"                          fsname=NAME, subtype=NAME (default mirrorfs; may be empty)\n"
"  --stats=FILE            keep counters in FILE\n"
"  --pidfile=FILE          write the server's process id there\n"
"  --foreground            stay in the foreground\n"
"  --debug                 every request on stderr (and --foreground)\n"
"  --delay=OPCODE:MSEC     test aid: hold replies of OPCODE (GETATTR, ...)\n"
"  --fault=OPCODE:ERRNO[:EVERY]\n"
"                          test aid: answer (each EVERY'th) OPCODE with ERRNO\n";

static void __attribute__((noreturn)) wrong(const char *what, const char *value)
{
	fprintf(stderr, "mirrorfs: %s%s%s\n", what, value ? ": " : "", value ? value : "");
	fputs("Try mirrorfs --help\n", stderr);
	exit(2);
}

static unsigned int number(const char *name, const char *text, unsigned int least)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (end == text || *end || errno || *text == '-' || value < least || value > INT_MAX) {
		fprintf(stderr, "mirrorfs: --%s: not a number from %u: %s\n", name, least, text);
		exit(2);
	}
	return value;
}

static unsigned int opcode_of(const char *text)
{
	int opcode = opcode_by_name(text);

	if (opcode < 0)
		wrong("unknown opcode", text);
	return opcode;
}

/* Splits TEXT at its next colon; NULL when there is none. */
static char *next_part(char *text)
{
	char *colon = strchr(text, ':');

	if (colon)
		*colon++ = 0;
	return colon;
}

static void delay(struct options *o, char *text)
{
	char *msec = next_part(text);

	if (!msec)
		wrong("--delay wants OPCODE:MSEC", text);
	o->delay_msec[opcode_of(text)] = number("delay", msec, 0);
	o->test_aids = true;
}

static int error_of(const char *text)
{
	for (int e = 1; e < 512; e++) {
		const char *name = strerrorname_np(e);

		if (name && !strcmp(name, text))
			return e;
	}
	if (*text >= '1' && *text <= '9')
		return number("fault", text, 1);
	wrong("unknown error", text);
}

static void fault(struct options *o, char *text)
{
	char *error = next_part(text);
	char *every = error ? next_part(error) : NULL;
	unsigned int opcode;

	if (!error)
		wrong("--fault wants OPCODE:ERRNO[:EVERY]", text);
	opcode = opcode_of(text);
	o->fault_error[opcode] = error_of(error);
	if (o->fault_error[opcode] > 511)
		wrong("no such error", error);
	o->fault_every[opcode] = every ? number("fault", every, 1) : 1;
	o->test_aids = true;
}

/* What mount(8) hands on to a helper: flags of the mount, and words that mean nothing to the kernel. */
static void mount_option(struct options *o, const char *word)
{
	static const struct {
		const char *name;
		unsigned long set, clear;
	} flags[] = {
		{ "ro", MS_RDONLY, 0 },
		{ "rw", 0, MS_RDONLY },
		{ "nosuid", MS_NOSUID, 0 },
		{ "suid", 0, MS_NOSUID },
		{ "nodev", MS_NODEV, 0 },
		{ "dev", 0, MS_NODEV },
		{ "noexec", MS_NOEXEC, 0 },
		{ "exec", 0, MS_NOEXEC },
		{ "sync", MS_SYNCHRONOUS, 0 },
		{ "async", 0, MS_SYNCHRONOUS },
		{ "dirsync", MS_DIRSYNC, 0 },
		{ "noatime", MS_NOATIME, MS_RELATIME | MS_STRICTATIME },
		{ "atime", 0, MS_NOATIME },
		{ "relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME },
		{ "strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME },
		{ "nodiratime", MS_NODIRATIME, 0 },
		{ "diratime", 0, MS_NODIRATIME },
		{ "lazytime", MS_LAZYTIME, 0 },
		{ "defaults", 0, 0 },
		/* always in force here */
		{ "allow_other", 0, 0 },
		{ "default_permissions", 0, 0 },
	};

	if (!strncmp(word, "fsname=", 7) && word[7]) {
		o->fsname = word + 7;
		return;
	}
	if (!strncmp(word, "subtype=", 8)) {
		o->subtype = word + 8;
		return;
	}
	for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
		if (!strcmp(word, flags[i].name)) {
			o->mount_flags = (o->mount_flags & ~flags[i].clear) | flags[i].set;
			return;
		}
	}
	wrong("unknown word after -o", word);
}

static void mount_options(struct options *o, char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
		mount_option(o, word);
}

void options_parse(struct options *o, int argc, char **argv)
{
	enum {
		TRANSPORT = 1, REQUIRE, DEPTH, QUEUES, POOL, THREADS, NO_CLONE, CACHE, WRITEBACK,
		MAX_WRITE, MAX_BACKGROUND, MAX_READAHEAD, NO_SPLICE, NO_PLUS, NO_LOCKS,
		NO_XATTR, READ_ONLY, STATS, PIDFILE, FOREGROUND, DEBUG, DELAY, FAULT, HELP,
	};
	static const struct option names[] = {
		{ "transport", 1, NULL, TRANSPORT },
		{ "require-ring", 0, NULL, REQUIRE },
		{ "depth", 1, NULL, DEPTH },
		{ "queues", 1, NULL, QUEUES },
		{ "pool", 1, NULL, POOL },
		{ "threads", 1, NULL, THREADS },
		{ "no-clone-fd", 0, NULL, NO_CLONE },
		{ "cache", 1, NULL, CACHE },
		{ "writeback", 0, NULL, WRITEBACK },
		{ "max-write", 1, NULL, MAX_WRITE },
		{ "max-background", 1, NULL, MAX_BACKGROUND },
		{ "max-readahead", 1, NULL, MAX_READAHEAD },
		{ "no-splice", 0, NULL, NO_SPLICE },
		{ "no-readdirplus", 0, NULL, NO_PLUS },
		{ "no-locks", 0, NULL, NO_LOCKS },
		{ "no-xattr", 0, NULL, NO_XATTR },
		{ "read-only", 0, NULL, READ_ONLY },
		{ "stats", 1, NULL, STATS },
		{ "pidfile", 1, NULL, PIDFILE },
		{ "foreground", 0, NULL, FOREGROUND },
		{ "debug", 0, NULL, DEBUG },
		{ "delay", 1, NULL, DELAY },
		{ "fault", 1, NULL, FAULT },
		{ "help", 0, NULL, HELP },
		{ NULL, 0, NULL, 0 },
	};
	int c, which;

	*o = (struct options){
		.clone_fd = true,
		.splice = true,
		.subtype = "mirrorfs",
		.readdirplus = true,
		.locks = true,
		.xattr = true,
		.cache = CACHE_AUTO,
		.pool = POOL_REGISTERED,
		.depth = 8,
		.max_write = 1 << 20,
		.max_background = 64,
		.max_readahead = UINT_MAX,
	};
	while ((c = getopt_long(argc, argv, "o:", names, &which)) != -1) {
		switch (c) {
		case TRANSPORT:
			o->uring = !strcmp(optarg, "uring");
			if (!o->uring && strcmp(optarg, "dev"))
				wrong("--transport is dev or uring, not", optarg);
			break;
		case REQUIRE: o->require_ring = true; break;
		case DEPTH: o->depth = number("depth", optarg, 1); break;
		case QUEUES: o->queues = number("queues", optarg, 1); break;
		case POOL:
			if (!strcmp(optarg, "registered"))
				o->pool = POOL_REGISTERED;
			else if (!strcmp(optarg, "plain"))
				o->pool = POOL_PLAIN;
			else if (!strcmp(optarg, "none"))
				o->pool = POOL_NONE;
			else
				wrong("--pool is registered, plain or none, not", optarg);
			break;
		case THREADS: o->threads = number("threads", optarg, 1); break;
		case NO_CLONE: o->clone_fd = false; break;
		case CACHE:
			if (!strcmp(optarg, "none"))
				o->cache = CACHE_NONE;
			else if (!strcmp(optarg, "auto"))
				o->cache = CACHE_AUTO;
			else if (!strcmp(optarg, "always"))
				o->cache = CACHE_ALWAYS;
			else
				wrong("--cache is none, auto or always, not", optarg);
			break;
		case WRITEBACK: o->writeback = true; break;
		case MAX_WRITE: o->max_write = number("max-write", optarg, 1); break;
		case MAX_BACKGROUND:
			o->max_background = number("max-background", optarg, 1);
			break;
		case MAX_READAHEAD:
			o->max_readahead = number("max-readahead", optarg, 0);
			break;
		case NO_SPLICE: o->splice = false; break;
		case NO_PLUS: o->readdirplus = false; break;
		case NO_LOCKS: o->locks = false; break;
		case NO_XATTR: o->xattr = false; break;
		case READ_ONLY: o->mount_flags |= MS_RDONLY; break;
		case 'o': mount_options(o, optarg); break;
		case STATS: o->stats = optarg; break;
		case PIDFILE: o->pidfile = optarg; break;
		case FOREGROUND: o->foreground = true; break;
		case DEBUG: o->debug = o->foreground = o->test_aids = true; break;
		case DELAY: delay(o, optarg); break;
		case FAULT: fault(o, optarg); break;
		case HELP:
			fputs(help, stdout);
			exit(0);
		default:
			fputs("Try mirrorfs --help\n", stderr);
			exit(2);
		}
	}
	if (argc - optind != 2)
		wrong("SOURCE and MOUNTPOINT are wanted", NULL);
	/* the kernel's own least write size, and far more than it ever sends */
	if (o->max_write < 4096)
		o->max_write = 4096;
	if (o->max_write > 64 << 20)
		wrong("--max-write is too large", NULL);
	if (o->depth > 4096 || o->threads > 1024 || o->queues > 4096)
		wrong("--depth, --threads or --queues is too large", NULL);
	if (o->max_background > UINT16_MAX)
		wrong("--max-background is too large", NULL);
	if (o->writeback && o->cache == CACHE_NONE)
		wrong("--writeback needs a cache", NULL);
	if (!o->threads)
		o->threads = sysconf(_SC_NPROCESSORS_ONLN);
	o->source = argv[optind];
	if (!o->fsname)
		o->fsname = o->source;
	o->mountpoint = argv[optind + 1];
}
