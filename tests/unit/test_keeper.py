# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of a guest that does not come up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakeguest import FakeKeeper, FakeMachine

from harness import keeper as module
from harness.boot import Booted, BootError, GuestKilledError, GuestSpec
from harness.guest import GuestLostError
from harness.keeper import TRIES, GuestKeeper
from harness.mount import Bundle
from harness.speed import Speed

PANIC = BootError('the kernel panics while it boots')
KILLED = GuestKilledError('the guest was killed while it booted')
LOST = GuestLostError('the guest does not answer')


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GuestKeeper:
    """Its boots end as its list `ends` says: None is well."""
    made: Any = GuestKeeper(FakeKeeper(tmp_path, {}).plan, Bundle(()))
    made.ends = []

    def boot(spec: GuestSpec) -> Booted:
        spec.directory.mkdir(parents=True)
        end = made.ends.pop(0)
        if isinstance(end, (BootError, GuestKilledError)):
            raise end
        return Booted(spec, FakeMachine(tmp_path / 'log'), 0, Path(), Path(), 0.1, 0.2)  # type: ignore[arg-type]

    monkeypatch.setattr(module, 'boot', boot)
    monkeypatch.setattr(module, 'Guest', lambda booted: SimpleNamespace(booted=booted, machine=booted.machine,
                                                                         close=booted.machine.stop))  # fmt: skip
    monkeypatch.setattr(module, 'mount', lambda *_: None)
    monkeypatch.setattr(module.speed, 'measure', lambda *_: Speed(1.0, 0.1, 0.1))
    return made  # type: ignore[no-any-return]


def fresh(keeper: Any, *ends: Exception | None) -> None:
    keeper.ends[:] = ends
    keeper.discard()
    keeper.get()


def test_a_kernel_that_does_not_boot_is_not_tried_again(keeper: GuestKeeper) -> None:
    with pytest.raises(BootError):
        fresh(keeper, PANIC, None)
    assert keeper.boots == 1


def test_one_that_has_booted_is_and_the_failure_is_told(keeper: GuestKeeper) -> None:
    fresh(keeper, None)
    fresh(keeper, PANIC, None)
    assert keeper.failed_boots == ['the kernel panics while it boots']
    fresh(keeper, KILLED, PANIC, None)
    assert keeper.failed_boots == ['the kernel panics while it boots'] * 2
    with pytest.raises(BootError):
        fresh(keeper, *[PANIC] * TRIES, None)
    assert len(keeper.ends) == 1  # type: ignore[attr-defined]


def test_a_boot_in_another_process_counts(keeper: GuestKeeper) -> None:
    keeper.plan.run.booted.parent.mkdir(parents=True, exist_ok=True)
    keeper.plan.run.booted.touch()
    fresh(keeper, PANIC, None)
    assert keeper.failed_boots


def test_so_is_one_that_is_lost_while_it_is_set_up(keeper: GuestKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh(keeper, None)
    ends = [LOST, None]

    def mount(*_: object) -> None:
        if (end := ends.pop(0)) is not None:
            raise end

    monkeypatch.setattr(module, 'mount', mount)
    fresh(keeper, None, None)
    assert keeper.failed_boots == ['the guest does not answer']
