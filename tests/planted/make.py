# SPDX-License-Identifier: GPL-2.0-only
"""Makes the planted trees: a git tree with commits on top of the patched kernel, and series with a worse patch.

Trees are written by git plumbing through an index of their own; nothing is checked out for it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from harness import series, series_edit, source
from harness.errors import UsageError
from harness.gitstore import IDENTITY, ISOLATION
from harness.lab import Lab
from harness.source import SourceRequest

from .plants import COMMITS, PLANTS, Edit, Plant

BRANCH = 'refs/heads/planted'
GOOD = 'refs/heads/good'
FORK = 3  # the side branch starts behind so many commits


class Tree:
    """A git repository that gets commits without a work tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index = folder / '.git' / 'planting-index'

    def git(self, *words: str, text: str | None = None, env: dict[str, str] | None = None) -> str:
        settings = os.environ | IDENTITY | ISOLATION | {'GIT_INDEX_FILE': str(self._index)} | (env or {})
        return subprocess.run(
            ['git', '-C', str(self.folder), *words],
            input=text,
            env=settings,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip('\n')

    def edited(self, base: str, edits: tuple[Edit, ...]) -> str:
        """The tree of `base` with some edits, each of which must fit exactly once."""
        self.git('read-tree', base)
        texts: dict[str, str] = {}
        for edit in edits:
            text = texts.get(edit.path) or self.git('show', f'{base}:{edit.path}') + '\n'
            if text.count(edit.old) != 1:
                raise UsageError(f'{edit.path}: {edit.old!r} is there {text.count(edit.old)} times in {base}')
            texts[edit.path] = text.replace(edit.old, edit.new)
        for path, text in texts.items():
            blob = self.git('hash-object', '-w', '--stdin', text=text)
            self.git('update-index', '--cacheinfo', f'100644,{blob},{path}')
        return self.git('write-tree')

    def commit(self, tree: str, parents: list[str], message: str, like: str | None = None) -> str:
        """`like`: the commit whose author is to be kept."""
        env = {}
        if like is not None:
            names = ('AUTHOR_NAME', 'AUTHOR_EMAIL', 'AUTHOR_DATE')
            said = self.git('show', '-s', '--format=%an%n%ae%n%ad', '--date=raw', like).split('\n')
            env = {f'GIT_{name}': value for name, value in zip(names, said, strict=True)}
        words = [word for parent in parents for word in ('-p', parent)]
        return self.git('commit-tree', tree, *words, '-F', '-', text=message, env=env)


def make(lab: Lab, folder: Path) -> None:
    """FOLDER/linux, FOLDER/series/NAME, and the series as it was."""
    tree = source.prepare(lab, SourceRequest())
    patched = series.apply(lab, tree, series.choose(lab, tree, None))
    linux = Tree(folder / 'linux')
    series_edit.checkout(lab, patched, linux.folder)
    series_edit.export(lab, linux.folder, folder / 'series' / 'as-it-was')
    for plant in PLANTS:
        if plant.patch:
            _series(lab, linux, patched.base.base_commit, patched.commits, plant, folder / 'series' / plant.name)
    _commits(linux, patched.commit)


def _commits(linux: Tree, base: str) -> None:
    main = side = base
    taken: list[Edit] = []
    for number, planned in enumerate(COMMITS):
        if number == FORK:
            side = main
        if planned.merge:
            main = linux.commit(linux.edited(main, tuple(taken)), [main, side], planned.subject + '\n')
        elif planned.side:
            side = linux.commit(linux.edited(side, planned.edits), [side], planned.subject + '\n')
            taken += planned.edits
        else:
            main = linux.commit(linux.edited(main, planned.edits), [main], planned.subject + '\n')
    linux.git('update-ref', GOOD, base)
    linux.git('update-ref', BRANCH, main)
    (linux.folder / '.git' / 'HEAD').write_text(f'ref: {BRANCH}\n')
    linux.git('reset', '--quiet', '--hard', main, env={'GIT_INDEX_FILE': str(linux.folder / '.git' / 'index')})


def _series(lab: Lab, linux: Tree, base: str, commits: tuple[str, ...], plant: Plant, folder: Path) -> None:
    """The series with one patch that does more than it should; those after it carry that along."""
    parent = base
    for number, commit in enumerate(commits, 1):
        edits = plant.edits if number >= plant.patch else ()
        if plant.broken is not None and number == plant.broken[0]:
            edits = (*edits, plant.broken[1])
        if parent == base and not edits:
            base = parent = commit
            continue
        message = linux.git('show', '-s', '--format=%B', commit)
        parent = linux.commit(linux.edited(commit, edits), [parent], message + '\n', like=commit)
    linux.git('update-ref', 'refs/heads/series', parent)
    linux.git('symbolic-ref', 'HEAD', 'refs/heads/series')
    linux.git('reset', '--quiet', '--hard', parent, env={'GIT_INDEX_FILE': str(linux.folder / '.git' / 'index')})
    series_edit.export(lab, linux.folder, folder)
