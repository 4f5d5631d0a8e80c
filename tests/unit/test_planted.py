# SPDX-License-Identifier: GPL-2.0-only
"""What tests/planted edits is still there, once, in the series as it is today.

Files that the series makes are put together from its patches alone; the others need the kernel's
source, and are left out where the cache does not have it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.cache import Cache
from harness.gitstore import ISOLATION
from harness.lab import REPOSITORY
from harness.series import PatchSeries, load
from tests.planted.make import FORK
from tests.planted.plants import COMMITS, PLANTS, Edit, Plant

STORE = Cache.default().store  # the user's: no test has begun yet
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


def base(path: str) -> str | None:
    """A file of the default kernel, if the cache has that."""
    env = {**ISOLATION, 'PATH': '/usr/bin:/bin'}
    refs = subprocess.run(
        ['git', '-C', STORE, 'for-each-ref', '--format=%(objectname)', 'refs/tarball'],
        env=env, capture_output=True, text=True, check=False,
    ).stdout.split() if STORE.is_dir() else []  # fmt: skip
    for ref in reversed(refs):
        done = subprocess.run(
            ['git', '-C', STORE, 'show', f'{ref}:{path}'], env=env, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout
    return None


@pytest.fixture(scope='module')
def prefixes(tmp_path_factory: pytest.TempPathFactory) -> list[Texts]:
    """The files of interest after each patch, before the first one first; without those that are not known."""
    folder = tmp_path_factory.mktemp('linux')
    new = made_by(SERIES)
    known = PATHS & new
    for path in PATHS - new:
        text = base(path)
        if text is not None:
            known.add(path)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    found = [_read(folder, known)]
    for patch in SERIES.patches:
        words = [f'--include={path}' for path in sorted(known)]
        subprocess.run(['git', 'apply', *words, patch.path], cwd=folder, check=True, capture_output=True)
        found.append(_read(folder, known))
    return found


def _read(folder: Path, known: Iterable[str]) -> Texts:
    return {path: (folder / path).read_text() for path in known if (folder / path).is_file()}


def edited(texts: Texts, edits: Iterable[Edit]) -> Texts:
    """With some edits, each of which must fit exactly once; what is not known is left out."""
    found = dict(texts)
    for edit in edits:
        if edit.path in found:
            assert found[edit.path].count(edit.old) == 1, f'{edit.path}: {edit.old!r}'
            found[edit.path] = found[edit.path].replace(edit.old, edit.new)
    return found


@pytest.mark.parametrize('plant', [plant for plant in PLANTS if plant.patch], ids=lambda plant: plant.name)
def test_plants_of_the_series_fit(prefixes: list[Texts], plant: Plant) -> None:
    known = prefixes[-1]
    needed = [edit for edit in plant.edits if edit.path in known]
    for number in range(plant.patch, len(prefixes)):
        edited(prefixes[number], plant.edits)
    if plant.broken is not None:
        edited(prefixes[plant.broken[0]], [plant.broken[1]])
    if len(needed) < len(plant.edits):
        pytest.skip('the kernel is not in the cache')


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
    if len(prefixes[-1]) < len(PATHS):
        pytest.skip('the kernel is not in the cache')


def test_checks_that_notice_are_there() -> None:
    assert {plant.commit for plant in PLANTS if plant.commit} <= {commit.subject for commit in COMMITS}
    for plant in PLANTS:
        words = dict(zip(plant.words[::2], plant.words[1::2], strict=True))
        assert '--row' in words or (REPOSITORY / 'tests' / 'checks' / words['--check']).is_file()
        assert plant.patch <= len(SERIES.patches)
