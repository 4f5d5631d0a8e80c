# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin (-p fakeworker), or to be imported before cli.main(): real controller, workers and campaigns,
guests that are scripts.

In the environment: FAKE_ROOT, the repository to pretend; FAKE_SCRIPT, JSON of what each run of a check
does, one after the other: pass, fail, notrun, wait, killed (its guest, from outside) or die (its worker, with SIGKILL).
FAKE_NO_BOOT: numbers of the guests (1, 2, ...) that do not come up.
Every run leaves a line in FAKE_ROOT/runs: check, process, its guest's process, what it did.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from fakeguest import FakeKeeper, Script, report

import harness.campaign
import harness.cli
import harness.plugin
from harness.boot import TCG, BootError
from harness.errors import VerdictError
from harness.image import KernelImage
from harness.lab import Lab
from harness.machine import Machine
from harness.mount import Bundle

ROOT = Path(os.environ['FAKE_ROOT'])
TOLD: dict[str, list[str]] = json.loads(os.environ.get('FAKE_SCRIPT', '{}'))


def note(name: str, *words: object) -> None:
    with (ROOT / name).open('a') as file:
        file.write(' '.join(map(str, words)) + '\n')


class Keeper(FakeKeeper):
    """Its guest is a process, so that tests see what is left of it."""

    def __init__(self, plan: Any, bundle: Bundle) -> None:
        super().__init__(plan.run.path, {})
        self.scripts = self  # type: ignore[assignment]
        self.worker = plan.worker
        self.machine: Machine | None = None

    def get(self) -> Any:
        if self.machine is None:
            if str(self.boots + 1) in os.environ.get('FAKE_NO_BOOT', '').split():
                self.boots += 1
                raise BootError('the kernel panics while it boots: no')
            folder = self.plan.run.guest(f'{self.worker}checks-{self.boots + 1}')
            folder.mkdir(parents=True, exist_ok=True)
            self.machine = Machine(['/bin/sleep', '1000'], folder, folder / 'console.log', os.environ)
            note('guests', self.machine.pid)
            self.plan.run.booted.touch()
        return super().get()

    def discard(self) -> None:
        super().discard()
        if self.machine is not None:
            self.machine.stop()
            self.machine = None

    def __getitem__(self, key: str) -> Script:
        file = ROOT / 'runs'
        before = sum(line.startswith(f'{key} ') for line in file.read_text().splitlines()) if file.exists() else 0
        told = TOLD.get(key, [])
        what = told[before] if before < len(told) else 'pass'
        assert self.machine is not None
        note('runs', key, os.getpid(), self.machine.pid, what)
        if what == 'die':
            os.kill(os.getpid(), signal.SIGKILL)
        if what == 'wait':
            time.sleep(1000)
        return {
            'pass': Script(),
            'fail': Script(stdout=b'ko\n'),
            'notrun': Script(stdout=b'', stderr=report('notrun', reason='no /usr/bin/nbdkit')),
            'killed': Script(killed='QEMU was killed: SIGKILL', stderr=''),
        }[what]


class Canaries:
    started = failed = False

    def __init__(self, plan: Any) -> None:
        pass

    def start(self) -> None:
        self.started = True
        note('canaries', os.getpid())

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def as_dicts(self) -> list[dict[str, Any]]:
        return [{'name': 'warn', 'how': 'provoked', 'ok': True}]


def obtain(lab: Lab, request: object) -> KernelImage:
    note('built', os.getpid())
    if os.environ.get('FAKE_NO_KERNEL'):
        raise VerdictError('the kernel does not build')
    return KernelImage(image=ROOT / 'bzImage', directory=ROOT, release='6.12.0')


harness.cli.Lab = lambda runner, **more: Lab(runner, root=ROOT, **more)  # type: ignore[assignment,misc]
harness.plugin.Lab = lambda runner: Lab(runner, root=ROOT)  # type: ignore[assignment,misc]
harness.campaign.kernel.obtain = obtain
harness.campaign.build_bundle = lambda lab: Bundle(())
harness.campaign.accel.choose = lambda *_: TCG
harness.campaign.GuestKeeper = Keeper  # type: ignore[assignment,misc]
harness.campaign.CanaryRun = Canaries  # type: ignore[assignment,misc]
