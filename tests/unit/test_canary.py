# SPDX-License-Identifier: GPL-2.0-only
"""Canaries whose guest somebody kills: run again, but not what they themselves find missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakeguest import FakeKeeper

from harness.boot import GuestKilledError, GuestUnfitError
from harness.canary import Canary, CanaryRun
from harness.console import Kind
from harness.errors import LabError
from harness.guest import GuestLostError
from harness.keeper import TRIES


class Machine:
    def __init__(self, killed: str) -> None:
        self.killed = killed

    def wait(self, condition: Any, timeout: float) -> bool:
        return bool(condition())

    def stop(self) -> None:
        pass


def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *ends: Exception | None) -> tuple[CanaryRun, list[int]]:
    """A run of which each try ends so; None: well."""
    run = CanaryRun(FakeKeeper(tmp_path, {}).plan)
    tries: list[int] = []

    def in_one_guest() -> None:
        tries.append(len(tries))
        run._done.append(Canary('warn', Kind.WARN, 'provoked', ok=True))
        end = ends[len(tries) - 1]
        run._machines.append(Machine('QEMU was killed: SIGKILL' if isinstance(end, GuestLostError) else ''))  # type: ignore[arg-type]
        if end is not None:
            raise end

    monkeypatch.setattr(run, '_in_one_guest', in_one_guest)
    monkeypatch.setattr(run, '_reboot_and_panic', lambda: None)
    run.start()
    return run, tries


@pytest.mark.parametrize(
    'end',
    [
        GuestKilledError('killed while it booted'),
        GuestUnfitError("the guest's clock is wrong"),
        GuestLostError('the guest is gone'),
    ],
)
def test_a_killed_guest_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: Exception) -> None:
    run, tries = canaries(tmp_path, monkeypatch, end, end, None)
    run.finish()
    assert len(tries) == 3
    assert [canary['name'] for canary in run.as_dicts()] == ['warn']


def test_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tries = canaries(tmp_path, monkeypatch, *[GuestKilledError('killed')] * TRIES)
    with pytest.raises(LabError, match='the canaries could not be run: killed'):
        run.finish()
    assert len(tries) == TRIES


def test_other_trouble_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, tries = canaries(tmp_path, monkeypatch, LabError('the canary module cannot be loaded'), None)
    with pytest.raises(LabError, match='module cannot be loaded'):
        run.finish()
    assert len(tries) == 1
