// SPDX-License-Identifier: GPL-2.0-only
/*
 * ringprobe: callers of somebody else's server (mirrorfs), over either transport.
 * $MNT is its mount, $SRC the directory behind it, $SERVER its process.
 */
#include "ringprobe.h"

#include <dirent.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { BLOCK = 4096, MAX_CALLERS = 16 };

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	if (!value)
		die("%s is not set", name);
	return value;
}

static void make_data(void)
{
	static uint8_t data[MAX_CALLERS * BLOCK];
	char path[PATH_MAX];
	int fd;

	fill_pattern(data, sizeof(data), 0);
	snprintf(path, sizeof(path), "%s/data", variable("SRC"));
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
		die("%s: %s", path, err_name(errno));
	close(fd);
}

/* A RELEASE may still be on its way when the callers have gone on. */
static void show_waiting(struct conn *c)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	while (conn_file(c, "waiting") && now_ms() < end)
		nap_ms(2);
	say("requests left waiting: %ld", conn_file(c, "waiting"));
}

static void show_umount(struct conn *c)
{
	uint64_t end = now_ms() + LIMIT * 1000;
	int err;

	/* a caller that has just ended may not have let go yet */
	do
		err = conn_umount(c, 0);
	while (err == EBUSY && now_ms() < end);
	say("unmount: %s", err_name(err));
}

static bool all_stopped(pid_t pid)
{
	char path[64], state;
	struct dirent *d;
	bool all = true;
	DIR *dir;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	if (!dir)
		die("%s: %s", path, err_name(errno));
	while (all && (d = readdir(dir))) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/stat", pid, d->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		all = fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && state == 'T';
		fclose(f);
	}
	closedir(dir);
	return all;
}

/* The signal only begins it: until they notice, threads go on serving. */
static void stop(pid_t pid)
{
	uint64_t end = now_ms() + LIMIT * 1000;

	kill(pid, SIGSTOP);
	while (!all_stopped(pid)) {
		if (now_ms() > end)
			die("waited %d s in vain for the server to stop", LIMIT);
		nap_ms(1);
	}
}

/*
 * N callers, each reading its own block of a file whose READs the server holds
 * back. When all are on their way, something happens to them.
 */
static int callers(int argc, char **argv)
{
	int i, n = argc > 1 ? atoi(argv[1]) : 4, failed = 0, killed = 0, right = 0;
	const char *what = argc > 2 ? argv[2] : "";
	struct client cl[MAX_CALLERS];
	uint8_t want[BLOCK];
	struct conn c;
	pid_t server = atoi(variable("SERVER"));

	if (n < 1 || n > MAX_CALLERS)
		die("1 to %d callers", MAX_CALLERS);
	make_data();
	for (i = 0; i < n; i++)
		client_start(&cl[i], -1);
	conn_adopt(&c);
	/* one request surely served: those below may be ended while queued */
	client_do(&cl[0], do_stat, c.mnt, "first", 0, 0);
	client_wait(&cl[0], "a first caller");
	if (cl[0].err != ENOENT)
		die("stat of what is not there: %s", err_name(cl[0].err));
	/* what comes then waits for work that the server's tasks don't do: */
	if (!strcmp(what, "stop-abort"))
		stop(server);
	for (i = 0; i < n; i++) {
		/* ... lookups, of different names, or they would wait for each other */
		char name[16];

		snprintf(name, sizeof(name), "name%d", i);
		if (!strcmp(what, "stop-abort"))
			client_do(&cl[i], do_stat, c.mnt, name, 0, 0);
		else
			client_do(&cl[i], do_direct_read, c.mnt, "data", i * BLOCK, BLOCK);
	}
	wait_waiting(&c, n);
	say("%d callers inside", n);
	if (!strcmp(what, "kill-server")) {
		kill(server, SIGKILL);
	} else if (!strcmp(what, "abort") || !strcmp(what, "stop-abort")) {
		conn_abort(&c);
	} else if (!strcmp(what, "force")) {
		uint64_t end = now_ms() + LIMIT * 1000;
		int err;

		do
			err = conn_umount(&c, MNT_FORCE);
		while (err == EBUSY && now_ms() < end);
		say("unmount by force: %s", err_name(err));
	} else if (!strcmp(what, "kill-callers")) {
		for (i = 0; i < n; i++)
			kill(cl[i].pid, i % 2 ? SIGKILL : SIGINT);
	} else if (strcmp(what, "wait")) {
		die("what should happen to the callers?");
	}
	for (i = 0; i < n; i++) {
		client_wait(&cl[i], "a caller");
		fill_pattern(want, sizeof(want), i * BLOCK);
		if (cl[i].err == -1)
			killed++;
		else if (cl[i].err)
			failed++;
		else
			right += cl[i].done.ret == BLOCK &&
				 cl[i].done.sum == checksum(want, BLOCK);
	}
	if (!strcmp(what, "kill-callers"))
		/* the interrupted ones may get an error or their data */
		say("callers killed: %d, others ended: %s", killed,
		    failed + right == n - killed ? "all" : "not all");
	else
		say("callers ended: %d with right data, %d with an error", right, failed);
	if (!strcmp(what, "kill-callers") || !strcmp(what, "wait")) {
		show_waiting(&c);
		client_start(&cl[0], -1);
		client_do(&cl[0], do_stat, c.mnt, "data", 0, 0);
		client_wait(&cl[0], "another caller");
		say("another caller: %s", err_name(cl[0].err));
		client_stop(&cl[0]);
		forget_conn(&c);
		return 0;
	}
	if (c.mounted && strcmp(what, "force")) {
		/* of "data" the attributes may still be known */
		client_do(&cl[0], do_stat, c.mnt, "other", 0, 0);
		client_wait(&cl[0], "a new caller");
		say("new caller: %s", err_name(cl[0].err));
		show_umount(&c);
	}
	if (!strcmp(what, "stop-abort"))
		kill(server, SIGKILL);
	for (i = 0; i < n; i++)
		client_stop(&cl[i]);
	return 0;
}

/*
 * a: rounds at least, b: size; path2 is the mount, entered before the first round.
 * Goes on until the file "stop" appears in the director's directory.
 */
static int do_verify(struct job *j)
{
	int dir = open(j->path2, O_RDONLY | O_DIRECTORY), fd, err = 0;
	const char *name = strrchr(j->path, '/') + 1;
	uint8_t *want = malloc(j->b), *got = malloc(j->b);
	long round;

	if (dir < 0 || !want || !got)
		return errno;
	for (round = 0; !err && (round < j->a || access("stop", F_OK)); round++) {
		off_t at = round % 100 * 100;

		fd = openat(dir, name, O_CREAT | O_RDWR, 0644);
		if (fd < 0)
			return errno;
		fill_pattern(want, j->b, round * 31 + name[1]);
		if (pwrite(fd, want, j->b, at) != j->b || pread(fd, got, j->b, at) != j->b)
			err = errno ? errno : EIO;
		else if (memcmp(got, want, j->b))
			err = EBADMSG;
		close(fd);
		j->ret = round + 1;
	}
	close(dir);
	free(want);
	free(got);
	return err;
}

static void make_stop(void)
{
	int fd = open("stop", O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

	if (fd < 0)
		die("stop: %s", err_name(errno));
	close(fd);
}

static int traffic(int argc, char **argv)
{
	int i, rounds = argc > 1 ? atoi(argv[1]) : 20, good = 0, inside = 0, err = 0;
	const char *what = argc > 2 ? argv[2] : "none";
	enum { CALLERS = 4, SIZE = 20000 };
	pid_t server = atoi(variable("SERVER"));
	struct client cl[CALLERS];
	uint64_t end;
	struct conn c;

	unlink("stop");
	for (i = 0; i < CALLERS; i++)
		client_start(&cl[i], online_cpu(i));
	conn_adopt(&c);
	for (i = 0; i < CALLERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "t%d", i);
		client_do(&cl[i], do_verify, c.mnt, name, rounds, SIZE);
	}
	/* all have entered when each has a file there */
	end = now_ms() + LIMIT * 1000;
	while (inside < CALLERS && now_ms() < end) {
		for (i = inside = 0; i < CALLERS; i++) {
			char path[PATH_MAX];

			if (client_done(&cl[i])) {
				inside = CALLERS;	/* the server may have been killed */
				break;
			}

			snprintf(path, sizeof(path), "%s/t%d", variable("SRC"), i);
			inside += !access(path, F_OK);
		}
		nap_ms(1);
	}
	if (!strcmp(what, "umount")) {
		err = conn_umount(&c, 0);
		say("unmount meanwhile: %s", err_name(err));
	} else if (!strcmp(what, "lazy")) {
		err = conn_umount(&c, MNT_DETACH);
		say("lazy unmount meanwhile: %s", err_name(err));
	} else if (!strcmp(what, "stop-server")) {
		for (i = 0; i < (rounds + 9) / 10; i++) {
			kill(server, SIGSTOP);
			nap_ms(5);
			kill(server, SIGCONT);
			nap_ms(2);
		}
		say("server stopped and continued meanwhile");
	} else if (!strcmp(what, "until-told")) {
		while (access("enough", F_OK))
			nap_ms(1);
	}
	make_stop();
	for (i = 0; i < CALLERS; i++) {
		client_wait(&cl[i], "a caller");
		if (cl[i].err)
			say("caller %d: %s", i, err_name(cl[i].err));
		good += !cl[i].err && cl[i].done.ret >= rounds;
		client_stop(&cl[i]);
	}
	say("callers with right data in all rounds: %d of %d", good, CALLERS);
	if (!strcmp(what, "umount"))
		show_umount(&c);
	else
		forget_conn(&c);
	return 0;
}

/* a: bytes; a file written in one go, flushed, dropped from the cache and read back */
static int do_bulk(struct job *j)
{
	enum { CHUNK = 1 << 20 };
	uint8_t *want = malloc(CHUNK), *got = malloc(CHUNK);
	int fd = open(j->path, O_CREAT | O_TRUNC | O_RDWR, 0644), err = 0;
	long at;

	if (fd < 0 || !want || !got)
		return errno;
	for (at = 0; at < j->a && !err; at += CHUNK) {
		fill_pattern(want, CHUNK, at);
		if (pwrite(fd, want, CHUNK, at) != CHUNK)
			err = errno ? errno : EIO;
	}
	if (!err && fsync(fd))
		err = errno;
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	for (at = 0; at < j->a && !err; at += CHUNK) {
		fill_pattern(want, CHUNK, at);
		if (pread(fd, got, CHUNK, at) != CHUNK)
			err = errno ? errno : EIO;
		else if (memcmp(got, want, CHUNK))
			err = EBADMSG;
	}
	close(fd);
	free(want);
	free(got);
	return err;
}

static int bulk(int argc, char **argv)
{
	int i, mib = argc > 1 ? atoi(argv[1]) : 4, good = 0;
	enum { CALLERS = 2 };
	struct client cl[CALLERS];
	struct conn c;

	for (i = 0; i < CALLERS; i++)
		client_start(&cl[i], online_cpu(i));
	conn_adopt(&c);
	for (i = 0; i < CALLERS; i++) {
		char name[8];

		snprintf(name, sizeof(name), "b%d", i);
		client_do(&cl[i], do_bulk, c.mnt, name, (long)mib << 20, 0);
	}
	for (i = 0; i < CALLERS; i++) {
		client_wait(&cl[i], "a bulk writer and reader");
		if (cl[i].err)
			say("caller %d: %s", i, err_name(cl[i].err));
		good += !cl[i].err;
		client_stop(&cl[i]);
	}
	say("%d callers wrote and read back %d MiB each, right: %d", CALLERS, mib, good);
	show_waiting(&c);
	forget_conn(&c);
	return 0;
}

const struct command server_commands[] = {
	{ "bulk", bulk, "files written and read back at large ([MIB])" },
	{ "callers", callers, "callers of a server that holds READ back (COUNT EVENT)" },
	{ "traffic", traffic, "callers that verify what they write ([ROUNDS [EVENT]])" },
	{}
};
