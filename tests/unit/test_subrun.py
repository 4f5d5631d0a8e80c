# SPDX-License-Identifier: GPL-2.0-only
"""A run in another process: its results are found, trouble is no result."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from makeresults import run_of

from harness.command import Completed
from harness.errors import LabError
from harness.subrun import run_checks


def lab_that_says(status: int, stdout: str) -> Any:
    done = Completed(('check',), status, stdout, '', 0.0, None)
    return SimpleNamespace(root=Path(), dry_run=False, runner=SimpleNamespace(run=lambda *_, **__: done))


def test_verdicts_come_from_the_run_that_was_made(tmp_path: Path) -> None:
    run_of(tmp_path, 'A', ('uring/024', 'uring', 'hang'), status=1)
    folder, table = run_checks(lab_that_says(1, f'...\nresults: {tmp_path / "A"}\n1 hang\n'), [], 'x')
    assert folder == tmp_path / 'A'
    assert [check['verdict'] for check in table['checks']] == ['hang']


def test_trouble_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(LabError, match='status 3'):
        run_checks(lab_that_says(3, 'lab trouble: no QEMU'), [], 'x')
    run_of(tmp_path, 'A', status=1, problem='verdict: patch 23 of 23 does not apply')
    with pytest.raises(LabError, match='came to no check: verdict: patch 23 of 23'):
        run_checks(lab_that_says(1, f'results: {tmp_path / "A"}\n'), [], 'x')
