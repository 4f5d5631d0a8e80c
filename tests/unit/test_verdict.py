# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
from fakeguest import report

from harness.allowlist import Allowance, AllowList
from harness.check import Check
from harness.console import Event, Kind
from harness.verdict import CheckResult, Evidence, State, Verdict, compare, judge, read_report, state_of

CHECK = Check(Path('tests/checks/data/001'), 'data', '001', 't', frozenset({'auto'}), ('dev', 'uring'), (), 20.0)
WARN = Event(Kind.WARN, 'WARNING: at fs/fuse/dev.c', ('WARNING: at fs/fuse/dev.c',), 0, 10, 'abc')
HUNG = Event(Kind.HUNG_TASK, 'INFO: task x blocked', (), 0, 10, 'abd')


def verdict(allow: AllowList | None = None, section: str = 'dev', **evidence: Any) -> CheckResult:
    evidence = {'output': b'ok\n', 'stderr': report(), **evidence}
    return judge(CHECK, section, b'ok\n', Evidence(**evidence), allow or AllowList())


@pytest.mark.parametrize(
    ('verdict', 'reason', 'known', 'state'),
    [
        ('pass', '', '', State.GOOD),
        ('notrun', 'lab trouble: none', 'x', State.NOTRUN),
        ('fail', 'output differs', '', State.BAD),
        ('hang', '', '', State.BAD),
        ('crash', 'KASAN', '', State.BAD),
        ('fail', 'output differs', 'tmpfs', State.KNOWN),
        ('crash', 'lab trouble: its guest was killed 3 times', '', State.LAB),
    ],
)
def test_five_states(verdict: str, reason: str, known: str, state: State) -> None:
    assert state_of(verdict, reason, known) is state


def test_pass() -> None:
    result = verdict()
    assert (result.verdict, result.reason, result.state) == (Verdict.PASS, '', State.GOOD)
    assert result.counters['requests_dev'] == 3
    assert result.proof == 'ok'


@pytest.mark.parametrize(
    ('stderr', 'reason'),
    [
        (report(exit=3), 'exit status 3'),
        (report(proof='failed', proof_detail='no request came'), 'wrong path for section dev: no request came'),
        (report(proof='none'), 'no proof that the requests of section dev took its path'),
        (report('broken', reason='server does not start'), 'cannot be run properly: server does not start'),
        ('', 'run-check ended without its report'),
        ('{"status": "done"}', 'run-check ended without its report'),
        ('{not json', 'run-check ended without its report'),
        (report('perhaps'), 'run-check ended without its report'),
    ],
)
def test_fail(stderr: str, reason: str) -> None:
    result = verdict(stderr=stderr)
    assert result.verdict is Verdict.FAIL
    assert reason in result.reason


def test_own_proof_is_enough() -> None:
    assert verdict(stderr=report(proof='own')).verdict is Verdict.PASS


def test_output_differs() -> None:
    result = verdict(output=b'ko\n')
    assert (result.verdict, result.reason) == (Verdict.FAIL, 'output differs')
    assert '-ok\n+ko' in result.diff


def test_status_and_output() -> None:
    result = verdict(output=b'', stderr=report(exit=1))
    assert result.reason == 'exit status 1; output differs'


def test_notrun_has_a_reason_and_no_diff() -> None:
    result = verdict(output=b'', stderr=report('notrun', reason='kernel 6.12, needs 7.0'))
    assert (result.verdict, result.reason, result.diff) == (Verdict.NOTRUN, 'kernel 6.12, needs 7.0', '')


def test_hang() -> None:
    result = verdict(stderr='', timed_out=True, output=b'begun\n')
    assert (result.verdict, result.reason) == (Verdict.HANG, 'did not end in time')


def test_hang_that_ran_on_after_the_abort_stays_a_hang() -> None:
    assert verdict(timed_out=True).verdict is Verdict.HANG


def test_hang_noticed_by_the_runner() -> None:
    result = verdict(stderr=report(exit=124, reason='check not done after 30 s'), output=b'')
    assert result.verdict is Verdict.HANG


def test_exit_124_of_the_check_itself_is_a_failure() -> None:
    assert verdict(stderr=report(exit=124)).verdict is Verdict.FAIL


def test_hung_task_in_a_hang_is_a_hang() -> None:
    result = verdict(stderr='', timed_out=True, events=(HUNG,))
    assert result.verdict is Verdict.HANG
    assert 'hung task' in result.reason


def test_crash_beats_all() -> None:
    for evidence in ({}, {'timed_out': True, 'stderr': ''}, {'output': b'bad\n'}, {'stderr': report('notrun')}):
        result = verdict(events=(WARN,), **evidence)
        assert result.verdict is Verdict.CRASH
        assert result.reason.startswith('WARN: WARNING: at fs/fuse/dev.c')


def test_guest_lost_without_a_word() -> None:
    result = verdict(stderr='', lost='the guest is gone')
    assert (result.verdict, result.reason) == (Verdict.CRASH, 'the guest was lost: the guest is gone')


TODAY = datetime.date(2026, 6, 1)


def allowance(**changes: Any) -> Allowance:
    values = {'pattern': re.compile('fuse/dev.c'), 'reason': 'known', 'expires': TODAY, **changes}
    return Allowance(**values)


def test_excused() -> None:
    result = verdict(AllowList((allowance(),), TODAY), events=(WARN,))
    assert result.verdict is Verdict.PASS
    assert result.excused == (WARN,)


@pytest.mark.parametrize(
    'entry',
    [allowance(expires=datetime.date(2026, 5, 31)), allowance(kind=Kind.KASAN), allowance(pattern=re.compile('xfs'))],
    ids=['expired', 'other kind', 'other pattern'],
)
def test_not_excused(entry: Allowance) -> None:
    assert verdict(AllowList((entry,), TODAY), events=(WARN,)).verdict is Verdict.CRASH


def test_report_is_the_last_json_line() -> None:
    text = f'noise\n{report(exit=1)}\nmore\n{report(exit=2)}\nand more\n'
    found = read_report(text)
    assert found is not None
    assert found.exit == 2


def test_diff_of_a_missing_newline() -> None:
    assert compare('001', b'ok\n', b'ok\n') == ''
    assert 'only the end of the last line' in compare('001', b'ok\n', b'ok')


def test_diff_is_limited_and_survives_binary() -> None:
    text = compare('001', b'', bytes(range(256)) * 10 + b'\n' * 1000)
    assert len(text.splitlines()) <= 201
