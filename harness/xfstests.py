# SPDX-License-Identifier: GPL-2.0-only
"""A real xfstests tree, built by the user, as checks: read here, run in the guest by vm/guest/xfstest.

Each test is run by the tree's own `check`, on test and scratch mounts of our server that are fresh
for it. Nothing is written into the tree.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.check import SECTIONS, Check, CheckError
from harness.command import clean_environment
from harness.errors import LabError, UsageError
from harness.mount import Bundle

AREA = 'generic'  # the tests for every filesystem; the others are for one, never for FUSE
SUITE = 'xfstests'
TIMEOUT = 120.0  # seconds at unit speed; `quick` ones are meant to take less than 30 on real hardware
MEMORY_MB = 3072  # tests, both mounts and what they hold are in the guest's memory

# Of the tree: what has to be there, and what makes it.
_SOURCES = ('check', 'common/rc', 'common/config', f'tests/{AREA}')
_BUILT = (f'tests/{AREA}/group.list', 'ltp/fsstress', 'ltp/fsx', 'src/af_unix', 'src/feature', 'src/lstat64')
# What no test needs in the guest.
_LEFT_OUT = re.compile(r'\.(?:o|lo|a|la|c|h|dirstamp)$')
_FOLDERS = ('common', 'lib', 'ltp', 'src', 'tools', f'tests/{AREA}')

# Programs that nearly every test starts: they are copied into the guest's memory. The first ones
# are demanded; who lacks one of the others sees tests that say so.
_NEEDED = {
    'awk': 'gawk', 'bc': 'bc', 'perl': 'perl', 'xfs_io': 'xfsprogs', 'getfattr': 'attr', 'setfattr': 'attr',
    'getfacl': 'acl', 'setfacl': 'acl', 'findmnt': 'util-linux', 'hexdump': 'bsdextrautils', 'killall': 'psmisc',
}  # fmt: skip
_COPIED = (
    'attr', 'awk', 'basename', 'blkid', 'cat', 'chacl', 'chattr', 'chgrp', 'chmod', 'chown', 'cmp', 'comm',
    'cp', 'cut', 'date', 'dd', 'df', 'diff', 'dirname', 'dmesg', 'du', 'dumpe2fs', 'echo', 'egrep', 'env',
    'expr', 'fallocate', 'false', 'fgrep', 'filefrag', 'find', 'findmnt', 'flock', 'fold', 'gawk', 'getcap',
    'getconf', 'getent', 'getfacl', 'getfattr', 'getopt', 'grep', 'gzip', 'head', 'hexdump', 'hostname', 'id',
    'install', 'join', 'kill', 'killall', 'ldd', 'link', 'ln', 'logger', 'losetup', 'ls', 'lsattr', 'mawk',
    'md5sum', 'mkdir', 'mkfifo', 'mknod', 'mktemp', 'mount', 'mountpoint', 'mv', 'nl', 'nproc', 'od', 'paste',
    'perl', 'pgrep', 'pkill', 'printf', 'ps', 'pwd', 'quota', 'readlink', 'realpath', 'rename', 'rev', 'rm',
    'rmdir', 'sed', 'seq', 'setcap', 'setfacl', 'setfattr', 'setpriv', 'sha256sum', 'sleep', 'sort', 'split',
    'stat', 'stty', 'su', 'sum', 'swapoff', 'swapon', 'sync', 'tail', 'tar', 'tee', 'test', 'timeout',
    'touch', 'tr', 'true', 'truncate', 'tune2fs', 'umount', 'uname', 'uniq', 'unlink', 'unshare', 'uuidgen',
    'wc', 'which', 'xargs', 'xfs_io', 'xxd', 'yes',
)  # fmt: skip


@dataclass(frozen=True)
class Tree:
    """An xfstests checkout, found to be complete."""

    path: Path

    @property
    def tests(self) -> Path:
        return self.path / 'tests' / AREA


def find(path: Path) -> Tree:
    """UsageError that names what is missing."""
    path = path.expanduser().absolute()
    missing = [name for name in _SOURCES if not (path / name).exists()]
    if missing:
        raise UsageError(
            f'XFSTESTS={path} is no xfstests tree', f'missing: {" ".join(missing)}', 'give a checkout of xfstests-dev'
        )
    missing = [name for name in _BUILT if not (path / name).exists()]
    if missing:
        raise UsageError(f'XFSTESTS={path} is not built', f'missing: {" ".join(missing)}', f'run make in {path}')
    lacking = {tool: package for tool, package in _NEEDED.items() if _program(tool) is None}
    if lacking:
        raise LabError(
            f'xfstests needs programs that are not installed: {" ".join(lacking)}',
            hint=f'apt-get install {" ".join(sorted(set(lacking.values())))}',
        )
    return Tree(path)


def is_test(tree: Tree, path: Path) -> bool:
    return path.parent == tree.tests and re.fullmatch(r'\d{3,4}', path.name) is not None


def groups(tree: Tree) -> dict[str, frozenset[str]]:
    """Groups of each test by its number, from the list that `make` writes."""
    found: dict[str, frozenset[str]] = {}
    for line in (tree.tests / 'group.list').read_text(encoding='utf-8').splitlines():
        words = line.split('#')[0].split()
        if words:
            found[words[0]] = frozenset(words[1:])
    return found


def parse(path: Path, its_groups: frozenset[str]) -> Check:
    """A test as a check in both sections."""
    if not path.with_name(f'{path.name}.out').exists() and not list(path.parent.glob(f'{path.name}.out.*')):
        raise CheckError(f'{path}:1: no golden output beside it')
    return Check(path, AREA, path.name, f'xfstests {AREA}/{path.name}', its_groups, SECTIONS, (), TIMEOUT, SUITE)


def bundle(tree: Tree, own: Bundle) -> Bundle:
    """What the guest needs besides: the tree, the tools, and the set-up for both."""
    tools = [_program(name) for name in dict.fromkeys((*_COPIED, *_NEEDED))]
    found = [path for path in tools if path is not None]
    built = [path for path in _tree_files(tree) if os.access(path, os.X_OK) and _is_elf(path)]
    return Bundle(
        (
            *own.sources,
            *((path, f'xfstests/{path.relative_to(tree.path)}') for path in _tree_files(tree)),
            *((path.resolve(), f'tools/{path.parent.name}/{path.name}') for path in found),
            *((path, f'tools/lib/{name}') for name, path in sorted(_libraries([*found, *built]).items())),
        ),
        (*own.setup, 'guest/xfstests-setup'),
    )


def _tree_files(tree: Tree) -> Iterator[Path]:
    yield tree.path / 'check'
    for name in ('randomize.awk', 'VERSION'):
        if (tree.path / name).is_file():
            yield tree.path / name
    for folder in _FOLDERS:
        for path in sorted((tree.path / folder).rglob('*')):
            # libtool's wrappers stand before the programs proper, which are in .libs
            if path.is_file() and not _LEFT_OUT.search(path.name):
                yield path


def _program(name: str) -> Path | None:
    found = shutil.which(name, path='/usr/sbin:/usr/bin')
    return Path(found) if found else None


def _is_elf(path: Path) -> bool:
    with path.open('rb') as file:
        return file.read(4) == b'\x7fELF'


def _libraries(programs: Iterable[Path]) -> dict[str, Path]:
    """Shared libraries of programs, by name; the dynamic loader says where they are."""
    elf = [str(path) for path in programs if _is_elf(path)]
    done = subprocess.run(
        ['ldd', *elf], capture_output=True, text=True, check=False, env=clean_environment({}), timeout=120
    )  # fmt: skip
    return {name: Path(path) for name, path in re.findall(r'^\s*(\S+) => (/\S+) \(', done.stdout, re.MULTILINE)}
