# SPDX-License-Identifier: GPL-2.0-only
"""What tests/planted edits is still there, once, in the series as it is today."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness import source
from harness.command import Runner
from harness.gitstore import GitStore
from harness.lab import REPOSITORY, Lab
from harness.series import PatchSeries, load
from harness.source import SourceRequest
from tests.planted.make import FORK
from tests.planted.plants import COMMITS, PLANTS, Edit, Plant

SERIES = load(REPOSITORY / 'kernel-patches' / '6.12')
PATHS = {edit.path for plant in PLANTS for edit in plant.edits} | {
    edit.path for commit in COMMITS for edit in commit.edits
}
Texts = dict[str, str]


def made_by(series: PatchSeries) -> set[str]:
    """Files that the series makes."""
    return {
        name
        for patch in series.patches
        for name in re.findall(r'^--- /dev/null\n\+\+\+ b/(\S+)$', patch.path.read_text(), re.MULTILINE)
    }


@pytest.fixture(scope='module')
def prefixes(tmp_path_factory: pytest.TempPathFactory) -> list[Texts]:
    """The files of interest after each patch, before the first one first."""
    folder = tmp_path_factory.mktemp('linux')
    lab = Lab(Runner())
    tree = source.prepare(lab, SourceRequest())
    for path in PATHS - made_by(SERIES):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(GitStore(tree.path, lab.runner).show(tree.base_commit, path))
    found = [_read(folder)]
    words = [f'--include={path}' for path in sorted(PATHS)]
    for patch in SERIES.patches:
        subprocess.run(['git', 'apply', *words, patch.path], cwd=folder, check=True, capture_output=True)
        found.append(_read(folder))
    return found


def _read(folder: Path) -> Texts:
    return {path: (folder / path).read_text() for path in PATHS if (folder / path).is_file()}


def edited(texts: Texts, edits: Iterable[Edit]) -> Texts:
    """With some edits, each of which must fit exactly once. A file is not there before the patch that makes it."""
    found = dict(texts)
    for edit in edits:
        if edit.path in found:
            assert found[edit.path].count(edit.old) == 1, f'{edit.path}: {edit.old!r}'
            found[edit.path] = found[edit.path].replace(edit.old, edit.new)
    return found


@pytest.mark.parametrize('plant', [plant for plant in PLANTS if plant.patch], ids=lambda plant: plant.name)
def test_plants_of_the_series_fit(prefixes: list[Texts], plant: Plant) -> None:
    for number in range(plant.patch, len(prefixes)):
        edited(prefixes[number], plant.edits)
    if plant.broken is not None:
        edited(prefixes[plant.broken[0]], [plant.broken[1]])


def test_commits_fit(prefixes: list[Texts]) -> None:
    main = side = prefixes[-1]
    taken: list[Edit] = []
    for number, commit in enumerate(COMMITS):
        if number == FORK:
            side = main
        if commit.merge:
            main = edited(main, taken)
        elif commit.side:
            side = edited(side, commit.edits)
            taken += commit.edits
        else:
            main = edited(main, commit.edits)


def test_checks_that_notice_are_there() -> None:
    assert {plant.commit for plant in PLANTS if plant.commit} <= {commit.subject for commit in COMMITS}
    for plant in PLANTS:
        words = dict(zip(plant.words[::2], plant.words[1::2], strict=True))
        assert '--row' in words or (REPOSITORY / 'tests' / 'checks' / words['--check']).is_file()
        assert plant.patch <= len(SERIES.patches)
