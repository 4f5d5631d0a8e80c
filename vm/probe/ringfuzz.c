// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: the command line, and rounds until enough of them. */
#include "ringfuzz.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>

static const char usage[] =
	"usage: ringfuzz run|deaths [OPTION...]    ($MNT: mount point)\n"
	"       ringfuzz flood N   registers N entries and holds them until its input ends\n"
	"    run                hostile servers\n"
	"    deaths             good servers, which die; data and the kernel's memory are verified\n"
	"    --seed N           of the first round; each further one has the next number\n"
	"    --seeds FILE       instead: one round for each number in FILE\n"
	"    --seconds N        stop after so long (default: no limit)\n"
	"    --commands N       stop after so many commands (default: no limit)\n"
	"    --rounds N         stop after so many rounds (default: no limit)\n"
	"    --verbose          say what each round is and how many commands it took\n"
	"    --quiet            of what differs from run to run, say nothing\n";

struct limits {
	unsigned long seconds, commands, rounds;
	bool verbose, quiet;
};

static unsigned long rounds_done;
static uint64_t started;

static bool enough(const struct limits *l)
{
	return (l->seconds && now_ms() - started >= l->seconds * 1000) ||
	       (l->commands && atomic_load(&sh->commands) >= l->commands) ||
	       (l->rounds && rounds_done >= l->rounds);
}

static void one_round(const struct limits *l, uint64_t seed, bool sane)
{
	unsigned long commands = atomic_load(&sh->commands), calls = atomic_load(&sh->calls),
		      requests = atomic_load(&sh->requests);
	uint64_t at = now_ms();
	struct plan plan;

	plan_make(&plan, seed, sane);
	if (l->verbose)
		plan_say(&plan);
	round_run(&plan);
	rounds_done++;
	if (l->verbose)
		say("seed %llu: %lu commands, %lu requests, %lu calls, %llu ms",
		    (unsigned long long)seed, atomic_load(&sh->commands) - commands,
		    atomic_load(&sh->requests) - requests, atomic_load(&sh->calls) - calls,
		    (unsigned long long)(now_ms() - at));
}

static void all_rounds(const struct limits *l, const char *seeds, uint64_t seed, bool sane)
{
	unsigned long long one;
	char line[256];
	FILE *f;

	if (!seeds) {
		for (; !enough(l); seed++)
			one_round(l, seed, sane);
		return;
	}
	f = fopen(seeds, "re");
	if (!f)
		die("%s: %s", seeds, err_name(errno));
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%llu", &one) == 1)	/* the rest of a line is comment */
			one_round(l, one, sane);
	fclose(f);
}

int main(int argc, char **argv)
{
	struct limits l = {};
	struct census before, after;
	uint64_t seed = 1;
	const char *seeds = NULL;
	bool sane, same = true;
	int i, tries;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(argv[1], "sleep"))
		for (;;)
			pause();	/* what a server has become by exec */
	if (argc == 3 && !strcmp(argv[1], "flood"))
		return flood(strtoul(argv[2], NULL, 0));
	if (argc < 2 || (strcmp(argv[1], "run") && strcmp(argv[1], "deaths"))) {
		fputs(usage, stderr);
		return 2;
	}
	sane = !strcmp(argv[1], "deaths");
	for (i = 2; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (!strcmp(argv[i], "--verbose"))
			l.verbose = true;
		else if (!strcmp(argv[i], "--quiet"))
			l.quiet = true;
		else if (value && !strcmp(argv[i], "--seed"))
			seed = strtoull(value, NULL, 0), i++;
		else if (value && !strcmp(argv[i], "--seeds"))
			seeds = value, i++;
		else if (value && !strcmp(argv[i], "--seconds"))
			l.seconds = strtoul(value, NULL, 0), i++;
		else if (value && !strcmp(argv[i], "--commands"))
			l.commands = strtoul(value, NULL, 0), i++;
		else if (value && !strcmp(argv[i], "--rounds"))
			l.rounds = strtoul(value, NULL, 0), i++;
		else {
			fputs(usage, stderr);
			return 2;
		}
	}
	if (!seeds && !l.seconds && !l.commands && !l.rounds) {
		fprintf(stderr, "ringfuzz: without --seconds, --commands or --rounds it never ends\n");
		return 2;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED)
		die("out of memory");
	if (!l.quiet && !seeds)
		say("seed %llu", (unsigned long long)seed);
	started = now_ms();
	if (sane) {
		/* what is allocated once and for all */
		for (i = 0; i < ENDINGS_OF_DEATH; i++)
			one_round(&l, UINT32_MAX + (uint64_t)i, true);
		rounds_done = 0;
		census_take(&before);
	}
	all_rounds(&l, seeds, seed, sane);
	if (sane) {
		/* the last connection's memory waits for RCU and for work queues */
		for (tries = 0; tries < 20; tries++) {
			nap_ms(500);
			census_take(&after);
			same = after.small <= before.small && after.fuse_request <=
			       before.fuse_request && after.fuse_inode <= before.fuse_inode;
			if (same)
				break;
		}
		same = census_same(&before, &after, rounds_done);
		if (!l.quiet || !same) {
			census_say("before", &before);
			census_say("after", &after);
		}
	}
	same &= kmemleak_clean();
	if (!l.quiet)
		say("%lu rounds, %lu commands, %lu requests over the ring, %lu calls, %llu s",
		    rounds_done, atomic_load(&sh->commands), atomic_load(&sh->requests),
		    atomic_load(&sh->calls), (unsigned long long)(now_ms() - started) / 1000);
	if (!same)
		say("FAIL: memory is missing, seed %llu", (unsigned long long)seed);
	/* nothing at all may not look like success */
	else if (rounds_done >= 10 &&
		 (!atomic_load(&sh->requests) || !atomic_load(&sh->calls)))
		say("FAIL: no request came over the ring");
	else
		say("all calls returned, all unmounts too, nothing left%s",
		    sane ? "; data right, memory back" : "");
	return 0;
}
