# SPDX-License-Identifier: GPL-2.0-only
"""What differs between dev and uring wants an explanation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from makeresults import run_of

from harness import formats
from harness.formats.transports import unexplained
from harness.plugin import BROKEN, outcome
from harness.report import render_plain
from harness.series import FEATURES


@pytest.mark.parametrize(
    ('name', 'dev', 'uring', 'told', 'fails'),
    [
        ('generic/001', 'pass', 'pass', False, False),
        ('generic/001', 'fail', 'fail', False, False),
        ('generic/001', 'pass', 'fail', True, True),
        ('generic/001', 'fail', 'crash', True, True),
        # Left out over one transport only: nothing fails, and nobody would notice.
        ('generic/001', 'pass', 'notrun', True, False),
        # A known failure is an explanation, and what the lab lost says nothing.
        ('generic/001', 'pass', 'known', False, False),
        ('generic/001', 'pass', 'lab', False, False),
        # The rule for CI is about checks of ours that are not run.
        ('data/001', 'pass', 'notrun', False, False),
        ('data/001', 'pass', 'hang', True, True),
    ],
)
def test_what_is_told(tmp_path: Path, name: str, dev: str, uring: str, told: bool, fails: bool) -> None:
    table = run_of(tmp_path, 'A', (name, 'dev', dev), (name, 'uring', uring))
    found = unexplained(table['checks'])
    assert [split.fails for split in found] == [fails] * told
    words = f'differs between transports, and no known failure says why: {name}: dev {dev}'
    assert (words in render_plain(table, tmp_path / 'A')) is told
    assert ('no known failure says why' in formats.render('html', table, tmp_path / 'A')) is told


@pytest.mark.parametrize('reason', ['excluded: takes an hour', FEATURES['ring']])
def test_what_was_left_out_for_a_reason_is_none(tmp_path: Path, reason: str) -> None:
    table = run_of(tmp_path, 'A', ('generic/001', 'dev', 'pass'), ('generic/001', 'uring', 'notrun'))
    table['checks'][1]['reason'] = reason
    assert unexplained(table['checks']) == []


@pytest.mark.parametrize(('ci', 'status'), [('', 0), ('true', 1)])
def test_in_ci_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, status: int) -> None:
    monkeypatch.setenv('CI', ci)
    table = run_of(tmp_path, 'A', ('generic/001', 'dev', 'pass'), ('generic/001', 'uring', 'notrun'))
    campaign: Any = SimpleNamespace(checks=table['checks'], kernel=None, strays=list, stale_known=list)
    config: Any = SimpleNamespace(stash={BROKEN: []})
    got, problem = outcome(config, campaign, 0)
    assert got == status
    assert ('generic/001: dev pass, uring notrun (why)' in problem) is bool(ci)
