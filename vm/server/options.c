// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "opcodes.h"
#include "options.h"
#include "say.h"
#include "server.h"

static const char help[] =
"  --transport=dev|uring   how requests travel (default dev); --io-uring=off|on says the same\n"
"  --require-ring          exit status 3 when the ring is refused\n"
"  --depth=N               entries of each ring queue; --entries=N says the same\n"
"  --queues=N              ring queues, where the kernel can do with fewer than CPUs\n"
"  --pool=registered|plain|none\n"
"                          memory that a queue's entries share for payloads, where the\n"
"                          kernel can do that (default registered); none: a buffer each\n"
"  --threads=N             threads serving /dev/fuse (default: number of CPUs), or among\n"
"                          which the ring's queues are spread (default: one for each)\n"
"  --no-clone-fd           threads of /dev/fuse share one descriptor\n"
"  --cache=none|auto|always\n"
"                          of the kernel: nothing; for a second, and pages until the file\n"
"                          has changed or, where nothing tells, is opened again; for a day\n"
"  --max-write=BYTES --max-background=N --max-readahead=BYTES\n"
"  -o OPTION,...           as mount(8) has them: ro, nosuid, noatime, ...; and\n"
"                          fsname=NAME, subtype=NAME (default the server's; may be empty)\n"
"  --stats=FILE            keep counters in FILE; --print-stats FILE [NAME] prints them\n"
"  --pidfile=FILE          write the server's process id there\n"
"  --foreground            stay in the foreground\n"
"  --debug                 every request on stderr (and --foreground)\n"
"  --delay=OPCODE:MSEC     test aid: hold replies of OPCODE (GETATTR, ...)\n"
"  --fault=OPCODE:ERRNO[:EVERY]\n"
"                          test aid: answer (each EVERY'th) OPCODE with ERRNO\n"
"  --zero-commit=N         test aid: take the N'th request on the ring to have no commit id\n"
"  --refuse-register       test aid: offer the ring's entries so that the kernel refuses them\n"
"  --undone=N[:ERRNO]      test aid: each N'th command of the ring ends undone, with EAGAIN and\n"
"                          EINTR in turn, or with that\n"
"The mount point /dev/fd/N stands for a connection that is mounted already.\n";

static void __attribute__((noreturn)) try_help(void)
{
	fprintf(stderr, "Try %s --help\n", program_invocation_short_name);
	exit(2);
}

void __attribute__((noreturn)) options_wrong(const char *what, const char *value)
{
	say("%s%s%s", what, value ? ": " : "", value ? value : "");
	try_help();
}

unsigned int options_number(const char *name, const char *text, unsigned int least)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (end == text || *end || errno || *text == '-' || value < least || value > INT_MAX) {
		say("--%s: not a number from %u: %s", name, least, text);
		exit(2);
	}
	return value;
}

int options_word(const char *name, const char *value, const char *const *words)
{
	char all[128] = "";

	for (int i = 0; words[i]; i++) {
		if (!strcmp(value, words[i]))
			return i;
		if (i)
			strcat(all, words[i + 1] ? ", " : " or ");
		strcat(all, words[i]);
	}
	say("--%s is %s, not: %s", name, all, value);
	try_help();
}

static unsigned int opcode_of(const char *text)
{
	int opcode = opcode_by_name(text);

	if (opcode < 0)
		options_wrong("unknown opcode", text);
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
		options_wrong("--delay wants OPCODE:MSEC", text);
	o->delay_msec[opcode_of(text)] = options_number("delay", msec, 0);
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
		return options_number("fault", text, 1);
	options_wrong("unknown error", text);
}

static void fault(struct options *o, char *text)
{
	char *error = next_part(text);
	char *every = error ? next_part(error) : NULL;
	unsigned int opcode;

	if (!error)
		options_wrong("--fault wants OPCODE:ERRNO[:EVERY]", text);
	opcode = opcode_of(text);
	o->fault_error[opcode] = error_of(error);
	if (o->fault_error[opcode] > 4095)
		options_wrong("no such error", error);
	o->fault_every[opcode] = every ? options_number("fault", every, 1) : 1;
	o->test_aids = true;
}

static void undone(struct options *o, char *text)
{
	char *error = next_part(text);

	/* not each of them, or none is ever done */
	o->undone = options_number("undone", text, 2);
	o->undone_error = error ? error_of(error) : 0;
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
	options_wrong("unknown word after -o", word);
}

static void mount_options(struct options *o, char *list)
{
	for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
		mount_option(o, word);
}

/* The shared options and the program's own in one list. */
static void join_options(struct option *all, const struct option *shared, const struct option *own)
{
	while (shared->name)
		*all++ = *shared++;
	while (own && own->name)
		*all++ = *own++;
	*all = *shared;
}

void options_parse(struct options *o, const struct program *program, int argc, char **argv)
{
	enum {
		TRANSPORT = 1, IO_URING, REQUIRE, DEPTH, QUEUES, POOL, THREADS, NO_CLONE, CACHE,
		MAX_WRITE, MAX_BACKGROUND, MAX_READAHEAD, STATS, PIDFILE, FOREGROUND, DEBUG,
		DELAY, FAULT, ZERO_COMMIT, REFUSE_REGISTER, UNDONE, HELP,
	};
	static const struct option names[] = {
		{ "transport", 1, NULL, TRANSPORT },
		{ "io-uring", 1, NULL, IO_URING },
		{ "require-ring", 0, NULL, REQUIRE },
		{ "depth", 1, NULL, DEPTH },
		{ "entries", 1, NULL, DEPTH },
		{ "queues", 1, NULL, QUEUES },
		{ "pool", 1, NULL, POOL },
		{ "threads", 1, NULL, THREADS },
		{ "no-clone-fd", 0, NULL, NO_CLONE },
		{ "cache", 1, NULL, CACHE },
		{ "max-write", 1, NULL, MAX_WRITE },
		{ "max-background", 1, NULL, MAX_BACKGROUND },
		{ "max-readahead", 1, NULL, MAX_READAHEAD },
		{ "stats", 1, NULL, STATS },
		{ "pidfile", 1, NULL, PIDFILE },
		{ "foreground", 0, NULL, FOREGROUND },
		{ "debug", 0, NULL, DEBUG },
		{ "delay", 1, NULL, DELAY },
		{ "fault", 1, NULL, FAULT },
		{ "zero-commit", 1, NULL, ZERO_COMMIT },
		{ "refuse-register", 0, NULL, REFUSE_REGISTER },
		{ "undone", 1, NULL, UNDONE },
		{ "help", 0, NULL, HELP },
		{ NULL, 0, NULL, 0 },
	};
	static const char *const transports[] = { "dev", "uring", NULL };
	static const char *const switches[] = { "off", "on", NULL };
	static const char *const pools[] = { "none", "plain", "registered", NULL };
	static const char *const caches[] = { "none", "auto", "always", NULL };
	struct option all[64];
	int c;

	*o = (struct options){
		.fd = -1,
		.clone_fd = true,
		.subtype = program_invocation_short_name,
		.cache = CACHE_AUTO,
		.pool = POOL_REGISTERED,
		.allow_other = ALLOW_ON,
		.depth = 8,
		.max_write = 1 << 20,
		.max_background = 64,
		.max_readahead = UINT_MAX,
	};
	if (program->defaults)
		program->defaults(o);
	join_options(all, names, program->options);
	while ((c = getopt_long(argc, argv, "o:", all, NULL)) != -1) {
		switch (c) {
		case TRANSPORT:
			o->uring = options_word("transport", optarg, transports);
			break;
		case IO_URING:
			o->uring = options_word("io-uring", optarg, switches);
			break;
		case REQUIRE: o->require_ring = true; break;
		case DEPTH: o->depth = options_number("depth", optarg, 1); break;
		case QUEUES: o->queues = options_number("queues", optarg, 1); break;
		case POOL: o->pool = options_word("pool", optarg, pools); break;
		case THREADS: o->threads = options_number("threads", optarg, 1); break;
		case NO_CLONE: o->clone_fd = false; break;
		case CACHE: o->cache = options_word("cache", optarg, caches); break;
		case MAX_WRITE: o->max_write = options_number("max-write", optarg, 1); break;
		case MAX_BACKGROUND:
			o->max_background = options_number("max-background", optarg, 1);
			break;
		case MAX_READAHEAD:
			o->max_readahead = options_number("max-readahead", optarg, 0);
			break;
		case 'o': mount_options(o, optarg); break;
		case STATS: o->stats = optarg; break;
		case PIDFILE: o->pidfile = optarg; break;
		case FOREGROUND: o->foreground = true; break;
		case DEBUG: o->debug = o->foreground = o->test_aids = true; break;
		case DELAY: delay(o, optarg); break;
		case FAULT: fault(o, optarg); break;
		case ZERO_COMMIT:
			o->zero_commit = options_number("zero-commit", optarg, 1);
			o->test_aids = true;
			break;
		case REFUSE_REGISTER: o->refuse_register = o->test_aids = true; break;
		case UNDONE: undone(o, optarg); break;
		case HELP:
			printf("usage: %s [options] %s\n%s%s", program_invocation_short_name,
			       program->usage, program->help, help);
			exit(0);
		default:
			if (c < OWN_OPTION)
				try_help();
			program->option(o, c, optarg);
		}
	}
	program->arguments(o, argc - optind, argv + optind);
	if (!strncmp(o->mountpoint, "/dev/fd/", 8))
		o->fd = options_number("/dev/fd", o->mountpoint + 8, 0);
	/* the kernel's own least write size, and far more than it ever sends */
	if (o->max_write < 4096)
		o->max_write = 4096;
	if (o->max_write > 64 << 20)
		options_wrong("--max-write is too large", NULL);
	if (o->depth > 4096 || o->threads > 1024 || o->queues > 4096)
		options_wrong("--depth, --threads or --queues is too large", NULL);
	if (o->max_background > UINT16_MAX)
		options_wrong("--max-background is too large", NULL);
	o->ring_threads = o->threads;
	if (!o->threads)
		o->threads = sysconf(_SC_NPROCESSORS_ONLN);
	if (!o->fsname)
		o->fsname = o->source;
}
