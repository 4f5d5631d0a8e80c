# SPDX-License-Identifier: GPL-2.0-only
"""A kernel source tree of a few lines, with a Makefile that has the real one's targets.

It compiles fs/fuse/dev.c with the real compiler, so that compile errors, time stamps and
incremental builds behave as they do with a kernel.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

MAKEFILE = """\
VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 7
EXTRAVERSION =
.PHONY: allnoconfig olddefconfig bzImage modules
# As Kconfig does: takes what it knows, drops the rest without a word.
allnoconfig:
	@mkdir -p $(O)
	@grep -E 'CONFIG_(FUSE_FS|NET|NR_CPUS)=' $(KCONFIG_ALLCONFIG) > $(O)/.config || :
olddefconfig: ;
$(O)/dev.o: fs/fuse/dev.c
	@echo compiled >> $(O)/compiled
	gcc -c -o $@ fs/fuse/dev.c
bzImage: $(O)/dev.o
	@mkdir -p $(O)/arch/x86/boot $(O)/include/config
	@echo 6.12.7$(LOCALVERSION) > $(O)/include/config/kernel.release
	@ld -r --build-id=sha1 -o $(O)/vmlinux $(O)/dev.o
	@cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
modules:
	@$(if $(M),touch $(M)/canary.ko)
"""
DEV_C = """\
int first(void)
{
	return 1;
}

int gap_a, gap_b, gap_c, gap_d, gap_e, gap_f;
int gap_g;
int gap_h;
int gap_i;

int second(void)
{
	return 2;
}
"""
KCONFIG = """\
config FUSE_FS
	bool "FUSE"

config NET
	bool "Networking"
	help
	  config NOT_AN_OPTION is only text.

if NET
config NR_CPUS
	int "CPUs"
	depends on SMP && \\
		!UP
endif

config HIDDEN
	bool
"""
FRAGMENT = """\
# A heading.
CONFIG_FUSE_FS=y       # what this is about
# CONFIG_CUSE is not set   # not looked at
CONFIG_FUSE_IO_URING=y # optional: the ring
"""


def make_tree(folder: Path) -> Path:
    files = {
        'Makefile': MAKEFILE,
        'Kconfig': KCONFIG,
        '.gitignore': '*.o\n.*\n!.gitignore\n',
        'fs/fuse/dev.c': DEV_C,
        'fs/other.c': 'int other;\n',
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ['git', '-C', str(folder), '-c', 'user.name=A Dev', '-c', 'user.email=dev@example.org', *words],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def mail(number: int, subject: str, diff: str) -> str:
    """A patch as git format-patch writes it."""
    return (
        f'From {number:040d} Mon Sep 17 00:00:00 2001\n'
        'From: =?UTF-8?q?J=C3=BCrgen?= <j@example.org>\n'
        f'Date: Tue, 3 Jun 2025 10:0{number}:00 +0200\n'
        f'Subject: [PATCH {number}/2] {subject}\n\n'
        'The reason.\n\nSigned-off-by: J <j@example.org>\n---\n'
        f'{diff}'
    )


def change(old: str, new: str, line: int, path: str = 'fs/fuse/dev.c') -> str:
    """A diff that changes one line of DEV_C, with its context."""
    lines = DEV_C.splitlines()
    assert lines[line - 1] == old
    before, after = lines[line - 3 : line - 1], lines[line : line + 2]
    count = len(before) + len(after) + 1
    body = [*(f' {text}' for text in before), f'-{old}', f'+{new}', *(f' {text}' for text in after)]
    head = f'diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n'
    return head + f'@@ -{line - 2},{count} +{line - 2},{count} @@\n' + '\n'.join(body) + '\n'


FIRST = change('\treturn 1;', '\treturn 10;', 3)
SECOND = change('\treturn 2;', '\treturn 20;', 13)


def make_series(folder: Path, *patches: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for number, diff in enumerate(patches, 1):
        names.append(f'{number:04d}-change-{number}.patch')
        (folder / names[-1]).write_text(mail(number, f'fuse: change {number}', diff))
    (folder / 'series').write_text('# what is carried\n' + ''.join(f'{name}\n' for name in names))
    return folder
