# SPDX-License-Identifier: GPL-2.0-only
"""Stage `series`: a folder of patches, applied to a base tree as one commit per patch.

Applying goes through a private index and never through a work tree, and gives the same commit ids
every time: what a build folder is brought to differs from what it held only in the files a changed
patch touches.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from harness import series_edit, source
from harness.command import Completed
from harness.errors import UsageError, VerdictError
from harness.gitstore import IDENTITY, ISOLATION, GitStore
from harness.lab import Lab
from harness.source import KernelTree

log = logging.getLogger(__name__)

NO_SERIES = 'none'
STOCK = 'stock'  # what stands for the digest of an empty series

# What a series may say in its file `provides` that its kernel has, and how a check says that a kernel has it
# not. In CI, a check may be left out for want of what the series has not promised.
PROVIDES = 'provides'
FEATURES = {
    'ring': 'kernel has no FUSE over io_uring',
    'series': 'only our series has what this tests',
    'krpc': 'no /dev/fuse-krpc',
}


@dataclass(frozen=True)
class Patch:
    name: str
    path: Path
    digest: str  # sha256 of the file


@dataclass(frozen=True)
class PatchSeries:
    directory: Path | None  # None: no series
    patches: tuple[Patch, ...]
    provides: frozenset[str] = frozenset()  # of FEATURES

    @property
    def digest(self) -> str:
        """Of the patches' content in order; names don't matter. `stock` when there are none."""
        if not self.patches:
            return STOCK
        return hashlib.sha256(''.join(patch.digest for patch in self.patches).encode()).hexdigest()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(patch.name for patch in self.patches)

    def prefix(self, count: int) -> PatchSeries:
        """The first `count` patches."""
        if not 0 <= count <= len(self.patches):
            raise UsageError(f'the series has {len(self.patches)} patches; no prefix of {count}')
        # What a part of the series provides nobody has said.
        whole = count == len(self.patches)
        return replace(self, patches=self.patches[:count], provides=self.provides if whole else frozenset())


@dataclass(frozen=True)
class PatchedTree:
    """A base tree with a series on it, in the store."""

    base: KernelTree
    series: PatchSeries
    commits: tuple[str, ...]  # one per patch

    @property
    def commit(self) -> str:
        return self.commits[-1] if self.commits else self.base.base_commit


def choose(lab: Lab, tree: KernelTree, wanted: str | None) -> PatchSeries:
    """The series asked for: a folder, `none`, or (not said) the one kept for the tree's version."""
    if wanted == NO_SERIES:
        return PatchSeries(None, ())
    if wanted:
        return load(Path(wanted).expanduser().absolute())
    directory = lab.patches / tree.series_version
    if not (directory / 'series').is_file():
        log.info('no series for %s in %s: building it as it is', tree.series_version, lab.patches)
        return PatchSeries(None, ())
    return load(directory)


def load(directory: Path) -> PatchSeries:
    """Read a quilt-style folder: `series` names the patches, one a line, # starts a comment."""
    listing = directory / 'series'
    if not listing.is_file():
        raise UsageError(f'no series file in {directory}', hint='SERIES= takes a folder with a file `series`, or none')
    patches: list[Patch] = []
    for number, line in enumerate(listing.read_text(encoding='utf-8', errors='replace').splitlines(), 1):
        words = line.split('#', 1)[0].split()
        if not words:
            continue
        where = f'{listing}:{number}'
        if len(words) > 1 and words[1:] != ['-p1']:
            raise VerdictError(f'{where}: only patches with -p1 are taken, not {" ".join(words[1:])}')
        name = words[0]
        if name in (patch.name for patch in patches):
            raise VerdictError(f'{where}: {name} is named twice')
        path = directory / name
        if not path.is_file():
            raise VerdictError(f'{where}: no such patch: {name}')
        patches.append(Patch(name, path, hashlib.sha256(path.read_bytes()).hexdigest()))
    unlisted = sorted(path.name for path in directory.glob('*.patch') if path.name not in {p.name for p in patches})
    if unlisted:
        log.warning('not in %s, so not applied: %s', listing, ', '.join(unlisted))
    return PatchSeries(directory, tuple(patches), _provides(directory / PROVIDES))


def _provides(path: Path) -> frozenset[str]:
    """Words of FEATURES, # starts a comment. Nothing is promised without the file."""
    if not path.is_file():
        return frozenset()
    lines = path.read_text(encoding='utf-8', errors='replace').splitlines()
    words = frozenset(word for line in lines for word in line.split('#', 1)[0].split())
    if unknown := words - set(FEATURES):
        raise UsageError(f'{path}: no such feature: {min(unknown)}', hint=f'there are {", ".join(FEATURES)}')
    return words


# --- applying ------------------------------------------------------------------------------------


def apply(lab: Lab, tree: KernelTree, series: PatchSeries, mend: bool = True) -> PatchedTree:
    """One commit per patch on top of the base. Prefixes applied before are taken from the store.

    mend: leave a tree to go on in when a patch does not apply.
    """
    store = GitStore(tree.path, lab.runner)
    with lab.clock.stage('series'):
        commits = _known(store, tree, series)
        if len(commits) == len(series.patches):
            return PatchedTree(tree, series, tuple(commits))
        with tempfile.TemporaryDirectory(prefix='fuse-lab-series-') as temporary:
            index = Path(temporary) / 'index'
            store.run('read-tree', commits[-1] if commits else tree.base_commit, index=index, stage='series')
            for number in range(len(commits), len(series.patches)):
                patch = series.patches[number]
                parent = commits[-1] if commits else tree.base_commit
                failed = _apply_one(store, patch, index, Path(temporary))
                if failed is not None:
                    good = PatchedTree(tree, series.prefix(number), tuple(commits))
                    raise series_edit.rejected(lab, good, series, failed.stderr, mend)
                written = store.run('write-tree', index=index, stage='series').stdout.strip() or 'TREE'
                commits.append(_commit(store, written, parent, patch, Path(temporary)))
                store.run('update-ref', _ref(tree, series.prefix(number + 1)), commits[-1], stage='series')
    return PatchedTree(tree, series, tuple(commits))


def _ref(tree: KernelTree, series: PatchSeries) -> str:
    return f'refs/applied/{tree.base_commit}/{series.digest}'


def _known(store: GitStore, tree: KernelTree, series: PatchSeries) -> list[str]:
    """Commits of the longest prefix that was applied before."""
    if not store.exists:
        return []
    listed = store.query('for-each-ref', '--format=%(refname) %(objectname)', f'refs/applied/{tree.base_commit}/')
    refs = dict(line.split() for line in listed.splitlines())
    commits: list[str] = []
    for count in range(1, len(series.patches) + 1):
        commit = refs.get(_ref(tree, series.prefix(count)))
        if commit is None:
            break
        commits.append(commit)
    return commits


def _apply_one(store: GitStore, patch: Patch, index: Path, scratch: Path) -> Completed | None:
    """Apply a patch to the index; what git said if it does not apply."""
    # mailinfo undoes mail encodings (quoted-printable, base64); a bare diff goes through as it is.
    # It says what the patch was about in scratch/info and scratch/message.
    source_file = patch.path
    if not store.runner.dry_run:
        text = patch.path.read_text(encoding='utf-8', errors='surrogateescape')
        info = ''
        if _is_mail(text):
            done = store.runner.run(
                ['git', 'mailinfo', '--encoding=UTF-8', scratch / 'message', scratch / 'diff'],
                env=ISOLATION,
                stdin=patch.path.read_bytes(),
                stage='series',
            )
            info = done.stdout
            source_file = scratch / 'diff'
        else:
            head = re.split(r'^(?:diff |--- |Index: )', text, maxsplit=1, flags=re.MULTILINE)[0]
            (scratch / 'message').write_text(head, encoding='utf-8', errors='surrogateescape')
        (scratch / 'info').write_text(info, encoding='utf-8')
    done = store.run(
        'apply', '--cached', '--whitespace=nowarn', source_file, index=index, check=False, stage='series'
    )  # fmt: skip
    return done if done.status != 0 else None


def _is_mail(text: str) -> bool:
    return re.match(r'(?:From [0-9a-f]{7,} .*\n)?(?:[A-Za-z-]+: .*\n|[ \t].*\n)*?From: ', text) is not None


def _commit(store: GitStore, tree: str, parent: str, patch: Patch, scratch: Path) -> str:
    if store.runner.dry_run:
        return store.commit(tree, parent, patch.name, stage='series') or patch.name
    info = dict(re.findall(r'^(Author|Email|Subject|Date): (.*)$', (scratch / 'info').read_text('utf-8'), re.MULTILINE))
    body = (scratch / 'message').read_text(encoding='utf-8', errors='surrogateescape').strip()
    message = f'{info["Subject"]}\n\n{body}' if 'Subject' in info else body or patch.name
    date = info.get('Date', IDENTITY['GIT_AUTHOR_DATE'])
    author = {
        'GIT_AUTHOR_NAME': info.get('Author') or 'unknown',
        'GIT_AUTHOR_EMAIL': info.get('Email') or 'unknown@localhost',
        'GIT_AUTHOR_DATE': date,
        'GIT_COMMITTER_DATE': date,  # fixed, so that the same patches give the same commits
    }
    return store.commit(tree, parent, message.rstrip() + '\n', env=author, stage='series')


def touching(lab: Lab, patched: PatchedTree, path: str) -> list[str]:
    """Names of the patches that touch a file."""
    store = GitStore(patched.base.path, lab.runner)
    found = []
    for patch, commit in zip(patched.series.patches, patched.commits, strict=True):
        names = store.query('diff-tree', '--no-commit-id', '--name-only', '-r', commit).splitlines()
        if path in names:
            found.append(patch.name)
    return found


def introducing(lab: Lab, patched: PatchedTree, path: str, line: int) -> str | None:
    """Name of the patch that a line of the patched tree came with; None: the base tree's, or no such line."""
    store = GitStore(patched.base.path, lab.runner)
    said = store.query('blame', '--porcelain', f'-L{line},{line}', patched.commit, '--', path, check=False)
    names = dict(zip(patched.commits, patched.series.names, strict=True))
    return names.get(said.split(' ', 1)[0])


# --- sub-command ---------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('series')
    group.add_argument('--series', metavar='DIR', help='folder of patches, or `none` (default: kernel-patches/VERSION)')
    group.add_argument('--prefix', type=int, metavar='N', help='only the first N patches')


def selected(lab: Lab, tree: KernelTree, args: argparse.Namespace) -> PatchSeries:
    chosen = choose(lab, tree, args.series)
    return chosen if args.prefix is None else chosen.prefix(args.prefix)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        'series',
        help='apply the patch series; check it out for editing; turn edited commits into patch files',
        description='apply: one commit per patch in the cache (default). checkout: a git tree to work in. '
        'export: that tree\'s commits back into patch files.',
    )  # fmt: skip
    parser.add_argument('action', nargs='?', choices=('apply', 'checkout', 'export'), default='apply')
    parser.add_argument('tree', nargs='?', type=Path, help='for checkout and export (default: build/linux-VERSION)')
    source.add_options(parser)
    add_options(parser)
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    tree = source.prepare(lab, source.request_of(args))
    folder = args.tree or lab.build / f'linux-{tree.series_version}'
    if args.action == 'export':
        target = Path(args.series).expanduser().absolute() if args.series else lab.patches / tree.series_version
        return series_edit.export(lab, folder.absolute(), target)
    patched = apply(lab, tree, selected(lab, tree, args))
    if args.action == 'checkout':
        series_edit.checkout(lab, patched, folder.absolute())
        return f'{folder}: branch series, {len(patched.commits)} commits on {tree.version}'
    lines = [f'{commit[:12]} {name}' for name, commit in zip(patched.series.names, patched.commits, strict=True)]
    return '\n'.join((*lines, f'digest {patched.series.digest}'))
