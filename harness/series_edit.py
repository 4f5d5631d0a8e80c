# SPDX-License-Identifier: GPL-2.0-only
"""Working on a series: a git tree to edit it in, the way back into patch files, and rejects.

Such a tree has a .git of its own that borrows objects from the cache. What the user commits there
is theirs: it does not sit in the cache, and no tree that holds unexported work is overwritten.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import ApplyError, UsageError
from harness.gitstore import IDENTITY, ISOLATION
from harness.lab import Lab

if TYPE_CHECKING:
    from harness.series import PatchedTree, PatchSeries

log = logging.getLogger(__name__)

BASE_REF = 'refs/fuse-lab/base'
PROGRAM = '.venv/bin/python -m harness'
_STATE = 'fuse-lab-state'  # in .git: what the tree looked like when we left it


def checkout(lab: Lab, patched: PatchedTree, folder: Path) -> None:
    """A git tree with one commit per patch on branch `series`."""
    if folder.exists() and not _untouched(lab, folder):
        raise UsageError(
            f'{folder} holds work that is not in the series',
            hint=f'`{PROGRAM} series export {folder}` turns its commits into patches; or move it away',
        )
    _make(lab, patched, folder)
    _remember(lab, folder)


def export(lab: Lab, folder: Path, directory: Path) -> str:
    """Write the commits of an edited tree as patch files, and `series` after them."""
    if not (folder / '.git').is_dir():
        raise UsageError(f'{folder} is no tree of the harness', hint=f'`{PROGRAM} series checkout` makes one')
    base = _ask(lab, folder, 'rev-parse', '--verify', '--quiet', BASE_REF)
    if not base:
        raise UsageError(f'{folder} does not say what its base is ({BASE_REF} is missing)')
    if (folder / '.git/rebase-apply').exists() or (folder / '.git/rebase-merge').exists():
        raise UsageError(f'an am or rebase is under way in {folder}', hint='finish it (git am --continue) first')
    changed = _ask(lab, folder, 'status', '--porcelain')
    if changed:
        raise UsageError(f'{folder} has changes that are not committed', changed, 'commit them, then export again')
    if _ask(lab, folder, 'rev-list', '--merges', f'{base}..HEAD'):
        raise UsageError(f'{folder} has merges; a series is one line of commits', hint='rebase them away')
    commits = _ask(lab, folder, 'rev-list', f'{base}..HEAD').split()
    if not commits:
        raise UsageError(f'{folder} has no commits on top of its base')
    with tempfile.TemporaryDirectory(prefix='fuse-lab-export-') as temporary:
        # Nothing that differs from run to run or from machine to machine: no commit ids, no git
        # version, no numbering, no width of a terminal, no settings of the user's.
        lab.runner.run(
            ['git', '-C', folder, 'format-patch', '--quiet', '--zero-commit', '--no-numbered', '--no-signature',
             '--no-base', '--no-thread', '--no-attach', '--no-renames', '--full-index', '--stat=72', '-p',
             '--diff-algorithm=myers', '--no-encode-email-headers', '--output-directory', temporary, f'{base}..HEAD'],
            env=ISOLATION,
            stage='series',
        )  # fmt: skip
        if lab.dry_run:
            return f'would write {len(commits)} patches to {directory}'
        return _install(sorted(Path(temporary).iterdir()), directory)


def _install(patches: list[Path], directory: Path) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    listing = directory / 'series'
    old = listing.read_text(encoding='utf-8').splitlines() if listing.is_file() else []
    names = {path.name for path in patches}
    lines = []
    for path in patches:
        target = directory / path.name
        if not target.is_file():
            lines.append(f'new      {path.name}')
        elif target.read_bytes() != path.read_bytes():
            lines.append(f'changed  {path.name}')
        else:
            continue  # keeps its time stamp
        shutil.copyfile(path, target)
    for name in (line.split('#', 1)[0].strip() for line in old):
        if name and name.split()[0] not in names:
            lines.append(f'removed  {name.split()[0]}')
            (directory / name.split()[0]).unlink(missing_ok=True)
    heading = []
    for line in old:  # comments before the first patch are the user's
        if line.strip() and not line.lstrip().startswith('#'):
            break
        heading.append(line)
    new = [*heading, *(path.name for path in patches)]
    if new != old:
        listing.write_text('\n'.join(new) + '\n', encoding='utf-8')
    return '\n'.join((*lines, f'{len(patches)} patches in {directory}'))


# --- a patch that does not apply -----------------------------------------------------------------


def rejected(lab: Lab, good: PatchedTree, series: PatchSeries, said: str, mend: bool = True) -> ApplyError:
    """The error for a patch that does not apply; with `mend`, a tree is left to mend it in."""
    number = len(good.commits)
    patch = series.patches[number]
    which = f'patch {number + 1} of {len(series.patches)}, {patch.name}, does not apply to {good.base.version}'
    if 'No valid patches' in said:
        return ApplyError(f'{patch.name} holds no diff', hint=f'it is {patch.path}')
    if not mend:
        return ApplyError(which, said)
    folder = _free_folder(lab, lab.build / 'reject')
    _make(lab, good, folder)
    rest = [item.path for item in series.patches[number:]]
    # git am, because every kernel developer knows how to go on from there.
    am = lab.runner.run(
        ['git', '-C', folder, 'am', '--quiet', '--reject', '--whitespace=nowarn', '--no-gpg-sign', *rest],
        env=ISOLATION,
        check=False,
        stage='series',
    )
    if (folder / '.git/rebase-apply').is_dir() and 'format detection failed' not in am.output:
        own = series.directory == lab.patches / good.base.series_version
        to = '' if own else f' --series {series.directory}'
        go_on = f'git add -u && git am --continue\n  cd {lab.root} && {PROGRAM} series export {folder}{to}'
        output = am.output
    else:  # not in mail format
        lab.runner.run(['git', '-C', folder, 'am', '--abort'], env=ISOLATION, check=False, stage='series')
        output = lab.runner.run(
            ['git', '-C', folder, 'apply', '--reject', '--verbose', '--whitespace=nowarn', patch.path],
            env=ISOLATION,
            check=False,
            stage='series',
        ).output
        go_on = f'git diff HEAD > {patch.path}'
    _remember(lab, folder)
    detail = _explain(output, said, _rejects(folder, output))
    if _already_there(lab, folder, patch.path):
        detail += '\nthe tree has this change already'
        go_on += '\n  (SERIES=none builds the tree without the series)'
    return ApplyError(
        which,
        detail,
        f'the tree before it, with what did apply and the .rej files, is in {folder}\n  cd {folder}\n'
        f'  mend the files, remove the .rej files, then\n  {go_on}',
    )


def _explain(output: str, said: str, rejects: list[Path]) -> str:
    """Which files and hunks, from what git said and the .rej files it left."""
    headers = {path.name: _hunk_headers(path) for path in rejects}
    lines: list[str] = []
    left: list[str] = []  # headers of the current file's rejected hunks
    current = ''
    for line in output.splitlines():
        if match := re.match(r'Applying patch (\S+) with \d+ reject', line):
            current = match[1]
            left = headers.get(f'{Path(current).name}.rej', [])
        elif match := re.match(r'Rejected hunk #(\d+)\.', line):
            where = f': {left.pop(0)}' if left else ''
            lines.append(f'{current}: hunk {match[1]} does not fit{where}')
        elif match := re.match(
            r'error: (\S+): (No such file or directory|does not exist in index|already exists .*)', line
        ):
            lines.append(f'{match[1]}: {match[2]}')
    if not lines:
        lines = [line for line in said.splitlines() if line.startswith('error: ')]
    return '\n'.join([*dict.fromkeys(lines), *(f'see {path}' for path in rejects)])


def _hunk_headers(reject: Path) -> list[str]:
    text = reject.read_text(encoding='utf-8', errors='replace')
    return [line for line in text.splitlines() if line.startswith('@@ ')]


def _rejects(folder: Path, output: str) -> list[Path]:
    names = re.findall(r'Applying patch (\S+) with \d+ reject', output)
    return [folder / f'{name}.rej' for name in names if (folder / f'{name}.rej').is_file()]


def _already_there(lab: Lab, folder: Path, patch: Path) -> bool:
    done = lab.runner.run(
        ['git', '-C', folder, 'apply', '--check', '--reverse', '--cached', patch],
        env=ISOLATION,
        check=False,
        stage='series',
    )
    return done.status == 0


# --- trees ---------------------------------------------------------------------------------------


def _make(lab: Lab, patched: PatchedTree, folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    log.info('checking the kernel out to %s', folder)
    if not lab.dry_run:
        folder.mkdir(parents=True)
    git = ['git', '-C', str(folder)]
    lab.runner.run([*git, 'init', '--quiet', '--initial-branch=series'], env=ISOLATION, stage='series')
    if not lab.dry_run:
        alternates = folder / '.git/objects/info/alternates'
        alternates.parent.mkdir(parents=True, exist_ok=True)
        alternates.write_text(f'{patched.base.path / "objects"}\n', encoding='utf-8')
    for name, value in (('gc.auto', '0'), ('user.name', _user(lab, 'name')), ('user.email', _user(lab, 'email'))):
        lab.runner.run([*git, 'config', name, value], env=ISOLATION, stage='series')
    lab.runner.run([*git, 'update-ref', BASE_REF, patched.base.base_commit], env=ISOLATION, stage='series')
    lab.runner.run([*git, 'reset', '--quiet', '--hard', patched.commit], env=ISOLATION, stage='series')
    _show_new_files(lab, folder)


def _show_new_files(lab: Lab, folder: Path) -> None:
    """Debian's kernel tree has git ignore all that is new at the top, and so everywhere: what a user
    adds would neither be committed nor be seen as work. The rule goes from this copy of the file only.
    """
    rules = folder / '.gitignore'
    if lab.dry_run or not rules.is_file():
        return
    lines = rules.read_text(encoding='utf-8').splitlines()
    if '/*' not in lines:
        return
    rules.write_text('\n'.join(line for line in lines if line != '/*') + '\n', encoding='utf-8')
    lab.runner.run(
        ['git', '-C', folder, 'update-index', '--assume-unchanged', '.gitignore'], env=ISOLATION, stage='series'
    )


def _user(lab: Lab, what: str) -> str:
    """The user's own name if git knows it: `git commit` and `git am` need one."""
    known = lab.runner.query(['git', 'config', f'user.{what}'], cwd=Path.home(), check=False).strip()
    return known or IDENTITY[f'GIT_COMMITTER_{what.upper()}']


def _ask(lab: Lab, folder: Path, *words: str) -> str:
    return lab.runner.query(['git', '-C', folder, *words], env=ISOLATION, check=False).strip()


def _state(lab: Lab, folder: Path) -> str:
    """Changes whenever the user edits, adds or commits anything."""
    text = '\n'.join(
        (
            _ask(lab, folder, 'rev-parse', 'HEAD'),
            _ask(lab, folder, 'status', '--porcelain'),
            _ask(lab, folder, 'diff', 'HEAD'),
            _ask(lab, folder, 'for-each-ref'),
        )
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _remember(lab: Lab, folder: Path) -> None:
    if not lab.dry_run:
        (folder / '.git' / _STATE).write_text(_state(lab, folder), encoding='utf-8')


def _untouched(lab: Lab, folder: Path) -> bool:
    """Whether a tree is as we left it, so that it can be thrown away."""
    state = folder / '.git' / _STATE
    return state.is_file() and state.read_text(encoding='utf-8') == _state(lab, folder)


def _free_folder(lab: Lab, wanted: Path) -> Path:
    """`wanted`, or it with a number, if the user has work there."""
    folder, number = wanted, 1
    while folder.exists() and not _untouched(lab, folder):
        number += 1
        folder = wanted.with_name(f'{wanted.name}-{number}')
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f'{folder} is in the way')
    return folder
