# SPDX-License-Identifier: GPL-2.0-only
"""What came of a check, and how that is decided. No guest, no files: everything comes as arguments."""

from __future__ import annotations

import difflib
import enum
import json
import re
from dataclasses import dataclass, field
from typing import Any

from harness.allowlist import AllowList
from harness.check import Check
from harness.console import Event, Kind

MAX_DIFF = 200  # lines kept of a diff
MAX_COMPARED = 20_000  # lines of output looked at for it
MAX_WIDTH = 2000  # characters of one of them


class Verdict(enum.StrEnum):
    """How a check ended."""

    PASS = 'pass'
    FAIL = 'fail'
    NOTRUN = 'notrun'
    CRASH = 'crash'
    HANG = 'hang'


BAD = (Verdict.CRASH, Verdict.HANG, Verdict.FAIL)  # the worst first
WORST_FIRST = (*BAD, Verdict.NOTRUN, Verdict.PASS)
LAB = 'lab trouble: '  # begins the reason of a bad verdict that says nothing of the kernel


class State(enum.StrEnum):
    """What the end of a check means for its run. All who count, compare or pass on verdicts go by this."""

    GOOD = 'good'
    NOTRUN = 'notrun'
    KNOWN = 'known'  # it fails, as known.py says it does
    BAD = 'bad'
    LAB = 'lab'  # no verdict: its guest or its process was lost again and again


def state_of(verdict: str, reason: str = '', known: str = '') -> State:
    """Of a check with this verdict and reason; `known`: why its failure does not count."""
    if verdict == Verdict.PASS:
        return State.GOOD
    if verdict == Verdict.NOTRUN:
        return State.NOTRUN
    if reason.startswith(LAB):
        return State.LAB
    return State.KNOWN if known else State.BAD


@dataclass(frozen=True)
class RunnerReport:
    """Last line of run-check's stderr."""

    status: str  # done, notrun, broken
    exit: int
    reason: str
    proof: str  # ok, failed, own, none
    proof_detail: str
    counters: dict[str, int | None]
    seconds: float


@dataclass(frozen=True)
class CheckResult:
    """One check in one section."""

    name: str
    section: str
    verdict: Verdict
    seconds: float  # on the host, all included
    reason: str = ''
    guest_seconds: float = 0.0  # what run-check says
    diff: str = ''
    output: bytes = b''
    stderr: str = ''
    events: tuple[Event, ...] = ()
    excused: tuple[Event, ...] = ()
    proof: str = ''
    counters: dict[str, int | None] = field(default_factory=dict)
    guest: str = ''  # name of the guest, for its console log
    forensics: str = ''  # what was collected from a hang
    killed: str = ''  # by what but itself its guest was ended: no verdict, it is to be run again
    known: str = ''  # why its failure does not count (known.py)

    @property
    def state(self) -> State:
        return state_of(self.verdict, self.reason, self.known)


_COUNTERS = ('requests_dev', 'requests_uring', 'kernel_requests_dev', 'kernel_requests_uring', 'uring_exempt_dev')
_CHECK_TIMED_OUT = re.compile(r'^check not done after')


def read_report(stderr: str) -> RunnerReport | None:
    """run-check's line of JSON; None when it did not get to print one."""
    for line in reversed(stderr.strip().splitlines()):
        if not line.startswith('{'):
            continue
        try:
            raw: dict[str, Any] = json.loads(line)
            status = str(raw['status'])
            if status not in ('done', 'notrun', 'broken'):
                return None
            counters = {name: None if raw.get(name) is None else int(raw[name]) for name in _COUNTERS}
            return RunnerReport(
                status,
                int(raw['exit']),
                str(raw.get('reason', '')),
                str(raw['proof']),
                str(raw.get('proof_detail', '')),
                counters,
                float(raw.get('seconds', 0.0)),
            )
        except (ValueError, KeyError, TypeError):
            return None
    return None


def compare(name: str, golden: bytes, output: bytes) -> str:
    """Unified diff; empty when equal."""
    if golden == output:
        return ''
    want = golden.decode('utf-8', 'backslashreplace').splitlines()
    have = [line[:MAX_WIDTH] for line in output.decode('utf-8', 'backslashreplace').splitlines()[:MAX_COMPARED]]
    lines = list(difflib.unified_diff(want, have, f'{name}.out', f'{name}.out.bad', lineterm='', n=2))
    if not lines:
        return f'--- {name}.out\n+++ {name}.out.bad\nthe same lines; only the end of the last line differs'
    if len(lines) > MAX_DIFF:
        lines = [*lines[:MAX_DIFF], f'... {len(lines) - MAX_DIFF} lines more']
    return '\n'.join(lines)


@dataclass(frozen=True)
class Evidence:
    """All that is known of one run of a check."""

    output: bytes = b''
    stderr: str = ''
    seconds: float = 0.0
    timed_out: bool = False
    lost: str = ''  # why the guest is gone; empty when it is not
    killed: str = ''  # by what, if not by itself
    events: tuple[Event, ...] = ()
    guest: str = ''
    forensics: str = ''


def judge(check: Check, section: str, golden: bytes, evidence: Evidence, allow: AllowList) -> CheckResult:
    """The verdict. Crash before hang before fail: the first is the cause of the others."""
    excused = tuple(event for event in evidence.events if allow.excuse(event))
    events = tuple(event for event in evidence.events if event not in excused)
    report = read_report(evidence.stderr)
    diff = ''
    if report is None:
        verdict, reason = _without_report(evidence)
    else:
        verdict, reason = _by_report(section, report)
        if report.status == 'done':
            diff = (
                evidence.output.decode('utf-8', 'backslashreplace').strip()
                if check.suite
                else compare(check.number, golden, evidence.output)
            )
            if diff and verdict is Verdict.PASS:
                verdict, reason = Verdict.FAIL, 'output differs'
            elif diff and verdict is Verdict.FAIL:
                reason = f'{reason}; output differs'
    if evidence.timed_out:
        verdict, reason = Verdict.HANG, reason if verdict is Verdict.HANG else 'did not end in time'
    if events or evidence.lost or evidence.killed:
        verdict, reason = _by_events(events, evidence)
    # What the kernel complained of before somebody killed it counts all the same.
    killed = evidence.killed if all(event.kind is Kind.GONE for event in events) else ''
    return CheckResult(
        check.name,
        section,
        verdict,
        round(evidence.seconds, 3),
        reason,
        report.seconds if report else 0.0,
        diff,
        evidence.output,
        evidence.stderr,
        events,
        excused,
        report.proof if report else '',
        dict(report.counters) if report else {},
        evidence.guest,
        evidence.forensics,
        killed,
    )


def _by_report(section: str, report: RunnerReport) -> tuple[Verdict, str]:
    if report.status == 'notrun':
        return Verdict.NOTRUN, report.reason or 'no reason given'
    if report.exit == 124 and _CHECK_TIMED_OUT.match(report.reason):
        return Verdict.HANG, report.reason
    if report.status == 'broken':
        return Verdict.FAIL, f'cannot be run properly: {report.reason}'
    if report.exit != 0:
        return Verdict.FAIL, f'exit status {report.exit}' + (f' ({report.reason})' if report.reason else '')
    return _by_proof(section, report)


def _by_proof(section: str, report: RunnerReport) -> tuple[Verdict, str]:
    if report.proof in ('ok', 'own'):
        return Verdict.PASS, ''
    if report.proof == 'failed':
        return Verdict.FAIL, f'wrong path for section {section}: {report.proof_detail}'
    return Verdict.FAIL, f'no proof that the requests of section {section} took its path'


def _without_report(evidence: Evidence) -> tuple[Verdict, str]:
    if evidence.timed_out:
        return Verdict.HANG, 'did not end in time'
    return Verdict.FAIL, 'run-check ended without its report'


def _by_events(events: tuple[Event, ...], evidence: Evidence) -> tuple[Verdict, str]:
    if not events:
        return Verdict.CRASH, f'the guest was lost: {evidence.killed or evidence.lost}'
    # The first is the cause, except that the end of the guest is always worth naming.
    first = events[0]
    reason = f'{first.kind}: {first.line}'
    if len(events) > 1:
        reason += f' (and {len(events) - 1} more: {", ".join(sorted({str(e.kind) for e in events[1:]}))})'
    if all(event.kind is Kind.HUNG_TASK for event in events) and evidence.timed_out:
        return Verdict.HANG, reason
    return Verdict.CRASH, reason
