# SPDX-License-Identifier: GPL-2.0-only
"""A guest made of a script: what each command answers and what the console says meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.boot import TCG, Booted, GuestSpec
from harness.cache import Cache
from harness.clock import StageClock
from harness.console import Event, Kind, Parser
from harness.guest import GuestLostError, Output
from harness.image import KernelImage
from harness.keeper import GuestPlan
from harness.runfolder import RunFolder
from harness.speed import Speed


def report(status: str = 'done', **changes: Any) -> str:
    """run-check's last line."""
    values = {
        'status': status, 'exit': 0, 'reason': '', 'proof': 'ok', 'proof_detail': '', 'requests_dev': 3,
        'requests_uring': 0, 'kernel_requests_dev': None, 'kernel_requests_uring': None, 'uring_exempt_dev': 0,
        'seconds': 0.1,
    }  # fmt: skip
    return json.dumps({**values, **changes})


@dataclass
class Script:
    """How one run of a check goes."""

    stdout: bytes = b'ok\n'
    stderr: str = field(default_factory=report)
    status: int | None = 0  # None: still running
    console: bytes = b''  # said while it runs
    lost: str = ''
    killed: str = ''  # from outside, while it runs
    ends_after_abort: bool = True


class FakeMachine:
    def __init__(self, log: Path) -> None:
        self.log = log
        self.alive = True
        self.parser = Parser()
        self.events: list[Event] = []
        self.breaks = ''
        self.killed = ''

    @property
    def offset(self) -> int:
        return self.parser.offset

    def say(self, data: bytes) -> None:
        self.events += self.parser.feed(data)

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        return condition()

    def drain(self, quiet: float = 0.0, limit: float = 0.0) -> None:
        self.events += self.parser.flush()

    def events_since(self, number: int) -> list[Event]:
        return self.events[number:]

    def send_break(self, key: str, begin: float, limit: float) -> None:
        self.breaks += key

    def said(self, offset: int) -> str:
        return ''

    def stop(self) -> None:
        self.alive = False


class FakeRunning:
    def __init__(self, guest: FakeGuest, script: Script, check: str, section: str) -> None:
        self._guest, self._script = guest, script
        machine = guest.machine
        machine.say(f'fuse-lab: check {check} section {section} begin\n'.encode() + script.console)
        if script.status is not None and not script.lost and not script.killed:
            machine.say(f'fuse-lab: check {check} section {section} end\n'.encode())
        self._waited = 0

    def wait(self, timeout: float, until: Callable[[], bool] | None = None) -> Output:
        self._waited += 1
        if self._script.lost or self._script.killed:
            machine = self._guest.machine
            machine.alive = False
            machine.killed = self._script.killed
            machine.events += machine.parser.close(Kind.GONE, 'the guest is gone')
            raise GuestLostError(self._script.lost)
        if self._waited > 1 and self._script.ends_after_abort:
            return Output(self._script.stdout, b'', 0, 0.1)
        return self.so_far()

    def so_far(self) -> Output:
        return Output(self._script.stdout, self._script.stderr.encode(), self._script.status, 0.1)

    def close(self) -> None:
        pass


class FakeGuest:
    def __init__(self, booted: Booted, scripts: dict[str, Script]) -> None:
        self.booted = booted
        self.machine: Any = booted.machine
        self.commands: list[str] = []
        self._scripts = scripts

    def start(self, command: str) -> FakeRunning:
        words = command.split()
        check, section = words[words.index('--check') + 1], words[words.index('--section') + 1]
        return FakeRunning(self, self._scripts[f'{check}[{section}]'], check, section)

    def run(self, command: str, timeout: float) -> Output:
        self.commands.append(command)
        return Output(b'connection 40 waiting 1\n', b'', 0, 0.1)

    def close(self) -> None:
        self.machine.stop()


class FakeKeeper:
    """Gives out guests that follow the scripts; counts them."""

    def __init__(self, folder: Path, scripts: dict[str, Script]) -> None:
        run = RunFolder(folder)
        kernel = KernelImage(image=folder / 'bzImage', directory=folder, release='6.12.0-fl-0123456789ab')
        self.plan = GuestPlan(kernel, TCG, 2, run, Cache(folder / 'cache'), StageClock())
        self.speed = Speed(2.0, 0.1, 0.1)
        self.scripts = scripts
        self.boots = 0
        self.boot_seconds: list[float] = []
        self.keep = False
        self.strays: list[Event] = []
        self.failed_boots: list[str] = []
        self.guest: FakeGuest | None = None
        self._taken = 0

    def get(self) -> FakeGuest:
        if self.guest is None:
            self.boots += 1
            self._taken = 0
            name = f'checks-{self.boots}'
            machine: Any = FakeMachine(self.plan.run.guest(name) / 'console.log')
            spec = GuestSpec(self.plan.kernel, self.plan.run.guest(name), TCG)
            self.guest = FakeGuest(Booted(spec, machine, 0, Path(), Path(), 0.1, 0.2), self.scripts)
        return self.guest

    def take_events(self, guest: FakeGuest, name: str, section: str) -> tuple[Event, ...]:
        events = guest.machine.events_since(self._taken)
        self._taken += len(events)
        return tuple(events)

    def discard(self) -> None:
        if self.guest is not None:
            self.guest.close()
            self.guest = None
