# SPDX-License-Identifier: GPL-2.0-only
"""compare A B."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from makeresults import run_of

from harness import cli
from harness.formats.compare import compare
from harness.results import RunFolder, write


def two(tmp_path: Path, old: dict[str, str], new: dict[str, str], **changes: Any) -> tuple[dict[str, Any], ...]:
    """Two runs by check and verdict."""
    return tuple(
        run_of(tmp_path, name, *((check, 'dev', verdict) for check, verdict in checks.items()), **more)
        for name, checks, more in (('a', old, {}), ('b', new, changes))
    )


@pytest.mark.parametrize(
    ('old', 'new', 'where', 'status'),
    [
        ('pass', 'pass', '', 0),
        ('fail', 'fail', '', 0),
        ('pass', 'fail', 'failures', 1),
        ('notrun', 'hang', 'failures', 1),
        (None, 'crash', 'failures', 1),
        ('fail', 'crash', 'worse', 1),
        ('crash', 'fail', 'other', 0),
        ('fail', 'pass', 'fixed', 0),
        ('pass', 'notrun', 'notrun', 0),
        ('fail', 'notrun', 'notrun', 0),
        (None, 'pass', 'only_b', 0),
        ('fail', None, 'only_a', 0),
        # What is excused is no failure; what is excused no longer is one that was not there.
        ('known', 'known', '', 0),
        ('pass', 'known', 'known', 0),
        ('fail', 'known', 'known', 0),
        ('known', 'fail', 'failures', 1),
        ('known', 'crash', 'failures', 1),
        ('known', 'pass', 'fixed', 0),
        # The lab's trouble is nobody's failure, and no verdict either.
        ('pass', 'lab', 'lab', 3),
        ('lab', 'lab', '', 3),
        ('lab', 'pass', 'notrun', 0),
        ('lab', 'fail', 'failures', 1),
    ],
)
def test_verdicts(tmp_path: Path, old: str | None, new: str | None, where: str, status: int) -> None:
    a, b = two(tmp_path, {'data/001': old} if old else {}, {'data/001': new} if new else {})
    found = compare(a, b)
    kinds = ('failures', 'worse', 'fixed', 'other', 'known', 'lab', 'notrun', 'only_a', 'only_b')
    assert [kind for kind in kinds if getattr(found, kind)] == ([where] if where else [])
    assert cli.main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == status


def test_what_is_different_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two(tmp_path, {'data/001': 'pass'}, {'data/001': 'fail'}, build_id='b2', series='d2', programs='p2')
    assert cli.main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == 1
    lines = capsys.readouterr().out.splitlines()
    for line in (
        'build id: b1 -> b2',
        'series digest: d1 -> d2',
        'patches: 0002-d1.patch -> 0002-d2.patch',
        'server and programs: p1 -> p2',
        'new failures: 1',
        '  data/001[dev]: pass -> fail  fail of data/001',
    ):
        assert line in lines
    assert not any(line.startswith(('release', 'accelerator')) for line in lines)
    assert lines[-1] == 'B has 1 failures that A has not'


def test_the_same_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two(tmp_path, {'data/001': 'fail'}, {'data/001': 'fail'}, status=1)
    assert cli.main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'kernel, series, programs and guest: the same'
    assert lines[-1] == 'B has no failure that A has not'


def timed(tmp_path: Path, factors: dict[str, float], **changes: Any) -> Any:
    a, b = two(tmp_path, dict.fromkeys(factors, 'pass'), dict.fromkeys(factors, 'pass'))
    for check in a['checks']:
        check['seconds'] = 4.0
    for check in b['checks']:
        check['seconds'] = 4.0 * factors[check['name']]
    return compare(a, b | changes)


def test_times_are_compared_with_the_others(tmp_path: Path) -> None:
    # All of B is 1.5 times slower, which is the machine; one is slower than that, one faster.
    found = timed(tmp_path, {'a/001': 1.5, 'a/002': 1.5, 'a/003': 1.5, 'a/004': 6.0, 'a/005': 0.5})
    assert found.median == 1.5
    assert [(timing.key[0], timing.ratio) for timing in found.timings] == [('a/004', 4.0 * 1.5), ('a/005', 0.5)]
    assert not found.bad


def test_times_of_another_accelerator_are_not(tmp_path: Path) -> None:
    found = timed(tmp_path, {'a/001': 1.0, 'a/002': 9.0, 'a/003': 1.0}, accelerator='kvm')
    assert found.timings == ()
    assert found.median is None
    assert found.why_no_timings == 'accelerators are tcg and kvm'


def test_short_checks_have_no_times(tmp_path: Path) -> None:
    a, b = two(tmp_path, {'a/001': 'pass', 'a/002': 'pass'}, {'a/001': 'pass', 'a/002': 'pass'})
    b['checks'][0]['seconds'] = 1.4
    assert compare(a, b).timings == ()
    b['checks'][0]['seconds'] = 0.0
    assert compare(a, b).median == 1.0


def test_new_complaint_of_the_kernel_is_a_failure(tmp_path: Path) -> None:
    a, b = two(tmp_path, {'a/001': 'pass'}, {'a/001': 'pass'})
    stray = {'kind': 'WARN', 'line': 'WARNING: x', 'where': 'while booting'}
    b['stray_events'] = [stray]
    assert compare(a, b).bad
    a['stray_events'] = [stray | {'where': 'after a/001[dev]'}]
    assert not compare(a, b).bad


@pytest.mark.parametrize('status', [None, 3, 130])
def test_half_a_run_gives_no_verdict(tmp_path: Path, status: int | None, capsys: pytest.CaptureFixture[str]) -> None:
    _, b = two(tmp_path, {'a/001': 'pass', 'a/002': 'pass'}, {'a/001': 'pass'}, status=status)
    assert cli.main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == 3
    said = capsys.readouterr().out
    assert 'B (b) is no whole run' in said
    assert said.splitlines()[-1] == 'no verdict: B is no whole run'
    # What it did find counts.
    b['checks'][0]['verdict'] = 'fail'
    write(RunFolder(tmp_path / 'b'), b)
    assert cli.main(['compare', str(tmp_path / 'a'), str(tmp_path / 'b')]) == 1
    # An earlier run that is not whole is told only.
    assert cli.main(['compare', str(tmp_path / 'b'), str(tmp_path / 'a')]) == 0
