# SPDX-License-Identifier: GPL-2.0-only
"""Stage `source`: the base tree, as one commit in the cache's git store.

It comes from Debian's linux-source-6.12 package, a tarball, a git ref (REPOSITORY#REF), or a tree
of the user's (KDIR), which is only read.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.command import CommandFailedError
from harness.errors import HarnessError, LabError, UsageError, VerdictError
from harness.gitstore import ISOLATION, GitStore
from harness.lab import Lab

log = logging.getLogger(__name__)

DEFAULT_TARBALL = Path('/usr/src/linux-source-6.12.tar.xz')
DEFAULT_PACKAGE = 'linux-source-6.12'
_DRY_COMMIT = 'BASE'  # stands for a commit that a dry run does not make


@dataclass(frozen=True)
class SourceRequest:
    """What the user asked for; nothing at all means the package."""

    kdir: Path | None = None
    source: str | None = None  # a tarball, or REPOSITORY#REF

    def __post_init__(self) -> None:
        if self.kdir is not None and self.source is not None:
            raise UsageError('KDIR and SOURCE exclude each other', hint='give one of them')


@dataclass(frozen=True)
class KernelTree:
    """A base tree in the store."""

    path: Path  # the store's git directory
    base_commit: str
    version: str  # 6.12.117
    source_id: str  # of the content: the same whichever way it came
    origin: str  # for messages and reports
    line: str  # trees of one line (a package's versions, a repository's refs) share a build folder

    @property
    def series_version(self) -> str:
        """The folder of kernel-patches/ that fits: 6.12."""
        return '.'.join(self.version.split('.')[:2])


def prepare(lab: Lab, request: SourceRequest) -> KernelTree:
    """Import the base tree unless it is in the store already."""
    store = GitStore(lab.cache.store, lab.runner)
    with lab.clock.stage('source'):
        if lab.dry_run:
            return _prepare(lab, store, request)
        with lab.cache.lock('source', 'importing kernel source'):
            return _prepare(lab, store, request)


def _prepare(lab: Lab, store: GitStore, request: SourceRequest) -> KernelTree:
    store.create()
    if request.kdir is not None:
        return _from_folder(lab, store, request.kdir)
    if request.source is not None and '#' in request.source:
        repository, ref = request.source.rsplit('#', 1)
        return _from_ref(store, repository, ref)
    if request.source is not None:
        path = Path(request.source).expanduser().absolute()
        if path.is_dir():
            raise UsageError(f'{path} is a folder', hint=f'for a kernel tree of yours: KDIR={path}')
        if not path.is_file():
            raise UsageError(f'no such tarball: {path}', hint='SOURCE= takes a tarball or REPOSITORY#REF')
        return _from_tarball(lab, store, path)
    if not DEFAULT_TARBALL.is_file():
        raise LabError(
            f'{DEFAULT_TARBALL} is not there',
            hint=f'apt-get install --no-install-recommends {DEFAULT_PACKAGE}   (or give KDIR= or SOURCE=)',
        )
    return _from_tarball(lab, store, DEFAULT_TARBALL)


# --- tarball -------------------------------------------------------------------------------------


def _from_tarball(lab: Lab, store: GitStore, tarball: Path) -> KernelTree:
    with tarball.open('rb') as file:
        digest = hashlib.file_digest(file, 'sha256').hexdigest()
    known = store.ref(f'refs/tarball/{digest}')
    if known is None:
        log.info('importing %s into the cache', tarball)
        known = _unpack(lab, store, tarball)
        store.run('update-ref', f'refs/tarball/{digest}', known)
    return _tree(store, known, str(tarball), 'tarball')


def _unpack(lab: Lab, store: GitStore, tarball: Path) -> str:
    if lab.dry_run:
        return _unpack_to(lab, store, tarball, lab.cache.root / 'unpack')
    lab.cache.root.mkdir(parents=True, exist_ok=True)
    # Removed at the end, whether the import succeeds or is interrupted.
    with tempfile.TemporaryDirectory(prefix='unpack.', dir=lab.cache.root) as temporary:
        return _unpack_to(lab, store, tarball, Path(temporary))


def _unpack_to(lab: Lab, store: GitStore, tarball: Path, folder: Path) -> str:
    try:
        lab.runner.run(['mkdir', '-p', folder / 'tree'], stage='source')
        lab.runner.run(['tar', '-xf', tarball, '-C', folder / 'tree'], stage='source')
    except CommandFailedError as error:
        raise VerdictError(f'cannot unpack {tarball}', error.detail) from error
    top = folder / 'tree' if lab.dry_run else _top(folder / 'tree', tarball)
    index = folder / 'index'
    # -f: some files of a release are named in its own .gitignore.
    store.run('add', '--all', '--force', '.', index=index, work_tree=top)
    return _commit(store, index)


def _top(folder: Path, tarball: Path) -> Path:
    """The tree in an unpacked tarball: one folder down, as a rule."""
    for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if (candidate / 'Makefile').is_file() and (candidate / 'Kconfig').is_file():
            return candidate
    raise VerdictError(f'{tarball} holds no kernel source', hint='a Makefile and a Kconfig are expected at its top')


# --- a tree of the user's ------------------------------------------------------------------------


def _from_folder(lab: Lab, store: GitStore, kdir: Path) -> KernelTree:
    kdir = kdir.expanduser().resolve()
    if not (kdir / 'Makefile').is_file() or not (kdir / 'Kconfig').is_file():
        raise UsageError(f'KDIR={kdir} is not a kernel source tree', hint='a Makefile and a Kconfig are expected there')
    index = lab.cache.index('kdir-' + hashlib.sha256(os.fsencode(kdir)).hexdigest()[:16])
    if not lab.dry_run:
        index.parent.mkdir(parents=True, exist_ok=True)
        index.with_name(index.name + '.lock').unlink(missing_ok=True)  # of a run that was killed
    wanted = _files_of(lab, store, kdir)
    had = set(store.query('ls-files', '-z', index=index).split('\0')) - {''} if index.exists() else set()
    log.info('importing %s (%d files; the tree itself is only read)', kdir, len(wanted))
    gone = had - set(wanted)
    if gone:
        store.run('update-index', '-z', '--force-remove', '--stdin', index=index, work_tree=kdir, stdin=_list(gone))
    # The index keeps each file's size and times, so that a second import reads only what changed.
    store.run('update-index', '-z', '--add', '--remove', '--stdin', index=index, work_tree=kdir, stdin=_list(wanted))
    return _tree(store, _commit(store, index), str(kdir), str(kdir))


def _files_of(lab: Lab, store: GitStore, kdir: Path) -> list[str]:
    """What belongs to a tree, without what a build left in it.

    In a git work tree: tracked files and new ones that are not ignored. Else: all files that the
    tree's own .gitignore does not name.
    """
    # git must not refresh the user's index: that would be a write.
    env = {'GIT_OPTIONAL_LOCKS': '0', 'GIT_TERMINAL_PROMPT': '0', **_trust(kdir)}
    if (kdir / '.git').exists():
        listed = lab.runner.query(
            ['git', '-C', kdir, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], env=env
        )
    else:
        with tempfile.TemporaryDirectory() as temporary:
            empty = Path(temporary)
            if not store.exists:  # a dry run on an empty cache
                lab.runner.query(['git', 'init', '--quiet', '--bare', empty / 'git'], env=ISOLATION)
            git_dir = store.git_dir if store.exists else empty / 'git'
            listed = lab.runner.query(
                ['git', '--git-dir', git_dir, '--work-tree', kdir, 'ls-files', '-z', '--others', '--exclude-standard'],
                cwd=kdir,
                env=ISOLATION | {'GIT_INDEX_FILE': os.fspath(empty / 'index')},
            )
    # A folder (ends with /) is a repository inside the tree: not part of it.
    return sorted({name for name in listed.split('\0') if name and not name.endswith('/')})


def _trust(kdir: Path) -> dict[str, str]:
    """git refuses a repository of another user's unless told; we only read."""
    return {'GIT_CONFIG_COUNT': '1', 'GIT_CONFIG_KEY_0': 'safe.directory', 'GIT_CONFIG_VALUE_0': os.fspath(kdir)}


def _list(names: list[str] | set[str]) -> bytes:
    return b''.join(os.fsencode(name) + b'\0' for name in sorted(names))


# --- git ref -------------------------------------------------------------------------------------


def _from_ref(store: GitStore, repository: str, ref: str) -> KernelTree:
    if not ref or ref.startswith('-') or repository.startswith('-'):
        raise UsageError(f'{repository}#{ref} names no git ref', hint='SOURCE=REPOSITORY#REF, as in ../linux#v6.12')
    # A whole id is always the same commit: need not be fetched twice.
    by_id = f'refs/imported/{ref}' if re.fullmatch(r'[0-9a-f]{40}', ref) else ''
    if by_id and (known := store.ref(by_id)) is not None:
        return _tree(store, known, f'{repository}#{ref}', repository)
    local = Path(repository).expanduser()
    url = str(local.resolve()) if local.exists() else repository
    done = store.run('fetch', '--quiet', '--depth=1', '--no-tags', '--no-write-fetch-head', url,
                     f'+{ref}:refs/fetched/last', env=_trust(Path(url)), check=False)  # fmt: skip
    if done.status != 0:
        if "couldn't find remote ref" in done.stderr or 'not our ref' in done.stderr:
            raise UsageError(f'{repository} has no ref {ref}', done.tail(5))
        if local.exists():
            raise UsageError(f'cannot read the git repository {local}', done.tail(5))
        raise LabError(f'cannot fetch from {repository}', done.tail(10), 'is the network there, and the address right?')
    if store.runner.dry_run:
        return KernelTree(store.git_dir, _DRY_COMMIT, '0.0', _DRY_COMMIT.lower(), f'{repository}#{ref}', repository)
    tree = store.tree_of('refs/fetched/last')
    commit = store.commit(tree, None, f'base tree {tree}\n')
    if by_id:
        store.run('update-ref', by_id, commit)
    return _tree(store, commit, f'{repository}#{ref}', repository)


# --- what came in --------------------------------------------------------------------------------


def _commit(store: GitStore, index: Path) -> str:
    tree = store.run('write-tree', index=index).stdout.strip() or 'TREE'
    commit = store.commit(tree, None, f'base tree {tree}\n')
    return commit or _DRY_COMMIT


def _tree(store: GitStore, commit: str, origin: str, line: str) -> KernelTree:
    if commit == _DRY_COMMIT:
        name = re.search(r'\d+\.\d+(\.\d+)?', origin)
        return KernelTree(store.git_dir, commit, name[0] if name else '0.0', commit.lower(), origin, line)
    # A ref of its own: nothing else keeps a base alive if somebody runs git gc in the store.
    store.run('update-ref', f'refs/base/{commit}', commit)
    try:
        version = _version(store.show(commit, 'Makefile'))
    except HarnessError as error:
        raise VerdictError(f'{origin} holds no kernel source', error.detail) from error
    return KernelTree(store.git_dir, commit, version, store.tree_of(commit)[:12], origin, line)


def _version(makefile: str) -> str:
    parts = dict(re.findall(r'^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)', makefile, re.MULTILINE))
    if not parts.get('VERSION') or not parts.get('PATCHLEVEL'):
        raise VerdictError('its Makefile names no version')
    return f'{parts["VERSION"]}.{parts["PATCHLEVEL"]}.{parts.get("SUBLEVEL") or 0}{parts.get("EXTRAVERSION", "")}'


# --- sub-command ---------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('source')
    group.add_argument('--kdir', type=Path, metavar='DIR', help='kernel tree of yours; only read, never written')
    group.add_argument(
        '--source', metavar='WHAT', help='tarball, or REPOSITORY#REF (default: package linux-source-6.12)'
    )


def request_of(args: argparse.Namespace) -> SourceRequest:
    return SourceRequest(args.kdir, args.source)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('source', help='import the base kernel tree into the cache')
    add_options(parser)
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    tree = prepare(lab, request_of(args))
    return '\n'.join(
        (
            f'version  {tree.version}',
            f'source   {tree.source_id}',
            f'commit   {tree.base_commit}',
            f'origin   {tree.origin}',
        )
    )
