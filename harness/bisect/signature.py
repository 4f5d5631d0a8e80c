# SPDX-License-Identifier: GPL-2.0-only
"""Whether two failures are the same: by their first differing lines, or by what the kernel complained of.

A check can fail for another reason than the one that is looked for. Such a run says nothing about
that one, and counts neither as good nor as bad.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from harness.console import Event
from harness.verdict import CheckResult, Verdict

APPLY, BUILD, BOOT, ELSEWHERE = 'apply', 'build', 'boot', 'elsewhere'
_LINES = 3  # of a diff
_WIDTH = 200
_HEX = re.compile(r'0x[0-9a-fA-F]+|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{6,}\b')
_NUMBER = re.compile(r'\d+')
_SPACE = re.compile(r'\s+')
_OUTPUT_TOO = re.compile(r';? ?output differs$')


@dataclass(frozen=True)
class Signature:
    """How something failed, without what differs from run to run."""

    where: str  # uring/007[uring], or build, boot, elsewhere
    kind: str  # a verdict
    lines: tuple[str, ...] = ()
    splats: tuple[str, ...] = ()  # fingerprints of console events

    def same(self, other: Signature) -> bool:
        """A complaint of the kernel is known by its fingerprint, wherever it shows; all else by its lines."""
        if self.splats or other.splats:
            return not set(self.splats).isdisjoint(other.splats)
        return (self.where, self.kind, self.lines) == (other.where, other.kind, other.lines)

    @property
    def text(self) -> str:
        """For people."""
        what = [*self.lines, *(f'console event {name}' for name in self.splats)]
        return f'{self.where} {self.kind}' + (f': {" | ".join(what)}' if what else '')


def normalise(line: str) -> str:
    """Without addresses, numbers and widths of columns."""
    return _SPACE.sub(' ', _NUMBER.sub('N', _HEX.sub('H', line)))[:_WIDTH].rstrip()


def of_check(result: CheckResult) -> Signature:
    """Of a check that fails, crashes or hangs."""
    where = f'{result.name}[{result.section}]'
    splats = fingerprints(result.events)
    if splats:
        return Signature(where, str(result.verdict), (normalise(result.events[0].line),), splats)
    if result.verdict is Verdict.HANG:
        return Signature(where, str(result.verdict))  # how far it got is chance
    lines = _first_differing(result.diff)
    reason = _OUTPUT_TOO.sub('', result.reason)
    if reason:
        lines = (normalise(reason), *lines)
    return Signature(where, str(result.verdict), lines)


def of_events(events: Iterable[Event]) -> tuple[Signature, ...]:
    """Of complaints that belong to no check."""
    return tuple(
        Signature(ELSEWHERE, str(event.kind), (normalise(event.line),), (event.fingerprint,)) for event in events
    )


def of_stage(where: str, what: str) -> Signature:
    """Of a kernel that does not get as far as a check."""
    return Signature(where, 'fails', (normalise(what),))


def fingerprints(events: Iterable[Event]) -> tuple[str, ...]:
    return tuple(sorted({event.fingerprint for event in events}))


def _first_differing(diff: str) -> tuple[str, ...]:
    changed = [
        normalise(line)
        for line in diff.splitlines()
        if line.startswith(('+', '-')) and not line.startswith(('+++ ', '--- '))
    ]
    return tuple(changed[:_LINES])
