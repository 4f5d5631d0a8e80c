// SPDX-License-Identifier: GPL-2.0-only
/* ringfuzz: whether the kernel's memory has come back. */
#include "ringfuzz.h"

#include <dirent.h>

/*
 * Only caches whose objects the ring and its requests are made of: entries, queues
 * and rings are in accounted kmalloc caches, of which little else is in use here.
 */
static bool is_small(const char *name)
{
	return !strncmp(name, "kmalloc-cg-", 11);
}

/* Else /proc/slabinfo counts what the CPUs keep at hand as in use. */
static void shrink(const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		errno = 0;
	close(fd);
}

void census_take(struct census *c)
{
	char line[512], name[64];
	struct dirent *d;
	long active;
	DIR *dir;
	FILE *f;
	int pass;

	memset(c, 0, sizeof(*c));
	dir = opendir("/sys/fs/fuse/connections");
	while (dir && (d = readdir(dir)))
		c->connections += d->d_name[0] != '.';
	if (dir)
		closedir(dir);
	f = fopen("/proc/sys/vm/drop_caches", "we");
	if (f) {
		fputs("2\n", f);
		fclose(f);
	}
	for (pass = 0; pass < 2; pass++) {
		f = fopen("/proc/slabinfo", "re");
		if (!f)
			failed("/proc/slabinfo: %s", err_name(errno));
		while (fgets(line, sizeof(line), f)) {
			if (sscanf(line, "%63s %ld", name, &active) != 2)
				continue;
			if (!is_small(name) && strncmp(name, "fuse_", 5))
				continue;
			if (!pass)
				shrink(name);
			else if (!strcmp(name, "fuse_request"))
				c->fuse_request = active;
			else if (!strcmp(name, "fuse_inode"))
				c->fuse_inode = active;
			else if (is_small(name))
				c->small += active;
		}
		fclose(f);
	}
}

static bool same(const char *what, long before, long after, long slack)
{
	if (after - before <= slack)
		return true;
	say("%s: %ld before, %ld after", what, before, after);
	return false;
}

bool census_same(const struct census *before, const struct census *after, unsigned int rounds)
{
	/* Less than one object a round has another cause. 150: what comes and goes in a guest. */
	long slack = rounds / 2 > 150 ? 150 : rounds / 2 + 10;

	return same("connections", before->connections, after->connections, 0) &
	       same("fuse_request", before->fuse_request, after->fuse_request, slack / 4) &
	       same("fuse_inode", before->fuse_inode, after->fuse_inode, slack / 4) &
	       same("kmalloc-cg-*", before->small, after->small, slack);
}

void census_say(const char *what, const struct census *c)
{
	say("%s: %ld connections, %ld requests, %ld inodes, %ld accounted objects", what,
	    c->connections, c->fuse_request, c->fuse_inode, c->small);
}

bool kmemleak_clean(void)
{
	static const char path[] = "/sys/kernel/debug/kmemleak";
	char line[256];
	bool clean = true;
	int i, fd;
	FILE *f;

	if (access(path, W_OK))
		return true;
	/* what one scan finds may be on its way; twice is a leak */
	for (i = 0; i < 2; i++) {
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, "scan", 4) != 4)
			failed("%s: %s", path, err_name(errno));
		close(fd);
		nap_ms(5500);
	}
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		printf("%s", line);
		clean = false;
	}
	if (f)
		fclose(f);
	return clean;
}
