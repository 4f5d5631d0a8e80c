# SPDX-License-Identifier: GPL-2.0-only
"""Reading tests/breakages, and what a run on a broken kernel has to say."""

from __future__ import annotations

from pathlib import Path

import pytest
from makeresults import run_of

from harness import breakages
from harness.check import is_check, parse
from harness.errors import UsageError
from harness.lab import REPOSITORY
from harness.series import PatchSeries
from harness.verdict import State

PATCH = """\
From: A <a@example.org>
Subject: [PATCH] broken: nothing is counted

Why that matters.

Caught-by: uring/024
Caught-by: daemon/014
---
"""


def test_reads_what_is_broken_and_who_notices(tmp_path: Path) -> None:
    (tmp_path / 'counting.patch').write_text(PATCH)
    (found,) = breakages.load(tmp_path, [])
    assert (found.name, found.what) == ('counting', 'nothing is counted')
    assert found.checks == ('uring/024', 'daemon/014')


@pytest.mark.parametrize('lost', ['Caught-by: ', 'Subject: '])
def test_a_breakage_that_says_too_little_is_refused(tmp_path: Path, lost: str) -> None:
    (tmp_path / 'counting.patch').write_text(PATCH.replace(lost, 'Else: '))
    with pytest.raises(UsageError, match='Caught-by'):
        breakages.load(tmp_path, [])


def test_an_unknown_name_is_refused_with_those_there_are(tmp_path: Path) -> None:
    (tmp_path / 'counting.patch').write_text(PATCH)
    with pytest.raises(UsageError, match='no such breakage: other') as caught:
        breakages.load(tmp_path, ['other'])
    assert 'counting' in caught.value.hint


def test_a_lost_guest_has_caught_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'counting.patch').write_text(PATCH)
    checks = ('uring/024', 'uring', 'fail'), ('daemon/014', 'uring', 'lab')
    monkeypatch.setattr(breakages, 'run_checks', lambda *_: (tmp_path, run_of(tmp_path, 'A', *checks)))
    (one,) = breakages.load(tmp_path, [])
    found = breakages.try_one(None, PatchSeries(tmp_path, ()), one, [])  # type: ignore[arg-type]
    assert {name: state is State.BAD for name, (_, state) in found.items()} == {'uring/024': True, 'daemon/014': False}


def test_all_of_ours_name_checks_that_exist() -> None:
    ours = breakages.load(REPOSITORY / 'tests' / 'breakages', [])
    assert len(ours) >= 5
    for breakage in ours:
        paths = [REPOSITORY / 'tests' / 'checks' / name for name in breakage.checks]
        assert all(is_check(path) for path in paths), breakage.name
        assert all(breakage.section in parse(path).sections for path in paths), breakage.name
