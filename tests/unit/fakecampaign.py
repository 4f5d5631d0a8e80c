# SPDX-License-Identifier: GPL-2.0-only
"""Campaigns without guests: what happens is written down beforehand."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from harness.allowlist import AllowList
from harness.bisect import trial
from harness.campaign import CampaignOptions
from harness.console import Event, Kind
from harness.known import Entry, Known
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.speed import Speed
from harness.verdict import CheckResult, Verdict


def failed(verdict: Verdict = Verdict.FAIL, reason: str = 'output differs', diff: str = '', **more: Any) -> CheckResult:
    return CheckResult('uring/007', 'uring', verdict, 1.0, reason, diff=diff, **more)


def event(fingerprint: str = 'abc123', kind: Kind = Kind.WARN) -> Event:
    return Event(kind, 'WARNING: CPU: 1 PID: 77 at fs/fuse/dev.c:12 f+0x1/0x2', (), 0, 0, fingerprint)


class FakeGuests:
    """Stands for GuestKeeper."""

    def __init__(self) -> None:
        self.current: object | None = None
        self.speed = Speed(2.0, 0.1, 0.1)
        self.strays: list[Event] = []

    def discard(self) -> None:
        self.current = None


class FakeCampaign:
    """Stands for Campaign. `scripts`: what happens one after the other, by a part of the run folder's path.

    A result; an exception; an event, which comes outside of a check that passes.
    """

    scripts: ClassVar[dict[str, Iterator[object]]] = {}
    factors: ClassVar[list[float]] = []
    stopped: ClassVar[int] = 0
    allow = AllowList(())

    def __init__(self, lab: Lab, options: CampaignOptions, run: RunFolder) -> None:
        self.run = run
        self.options = options
        self.keeper = FakeGuests()
        self.known = {'uring': Known(excluded=(Entry('uring/007', 'hangs', 'x', datetime.date.max),))}

    def prepare(self) -> FakeGuests:
        return self.keeper

    def run_check(self, check: Any, section: str) -> tuple[CheckResult, dict[str, object]]:
        if section in self.known and self.known[section].exclusion(check.name):
            return failed(Verdict.NOTRUN, 'excluded: hangs'), {}
        FakeCampaign.factors.append(self.keeper.speed.factor)
        self.keeper.current = self
        happens = next(script for name, script in self.scripts.items() if not name or name in self.run.path.parts)
        one = next(happens)
        if isinstance(one, BaseException):
            raise one
        if isinstance(one, Event):
            self.keeper.strays.append(one)
            one = failed(Verdict.PASS, '')
        assert isinstance(one, CheckResult)
        return one, {}

    def stop(self) -> None:
        FakeCampaign.stopped += 1


def fake_campaigns(monkeypatch: pytest.MonkeyPatch, scripts: Mapping[str, Iterable[object]]) -> None:
    """In place of those of CheckTrial."""
    monkeypatch.setattr(trial, 'Campaign', FakeCampaign)
    monkeypatch.setattr(FakeCampaign, 'scripts', {name: iter(script) for name, script in scripts.items()})
    monkeypatch.setattr(FakeCampaign, 'factors', [])
    monkeypatch.setattr(FakeCampaign, 'stopped', 0)
