# SPDX-License-Identifier: GPL-2.0-only
"""Canaries: provoke each console condition on purpose and demand that it is noticed and named.

In guests of their own, beside the checks. A harness that sees nothing is worse than none, so a
canary that goes unnoticed makes the whole run lab trouble, whatever the checks said.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.boot import Booted, BootError, GuestUnfitError, boot
from harness.console import Event, Kind
from harness.errors import HarnessError, LabError
from harness.guest import Guest, GuestLostError
from harness.keeper import KILLED_LIMIT, TRIES, GuestPlan
from harness.machine import Machine, qemu_processes

log = logging.getLogger(__name__)

REPLAY = Path(__file__).resolve().parent.parent / 'vm' / 'canary' / 'replay'
PROVOKE = '/sys/module/canary/parameters/provoke'
LOCKUP_TRIES = 2  # a lock-up is a matter of time, and the host may be busy with other things


@dataclass(frozen=True)
class Canary:
    """One condition and how it came about."""

    name: str
    kind: Kind
    how: str = ''  # provoked, or replayed where this kernel has no such checker
    ok: bool = False
    seconds: float = 0.0
    detail: str = ''


# Name in the module, kind demanded. Lockdep first: any other complaint switches it off.
MODULE = (
    ('lockdep', Kind.LOCKDEP),
    ('kasan', Kind.KASAN),
    ('warn', Kind.WARN),
    ('ubsan', Kind.UBSAN),
    ('refcount', Kind.REFCOUNT),
    ('atomic', Kind.BUG),
    ('slab', Kind.SLAB),
    ('list', Kind.LIST),
)
# Last: after an oops the kernel reports no hung task any more.
DEADLY = (('oops', Kind.OOPS), ('bug', Kind.BUG))
REPLAY_ONLY = (('leak', Kind.LEAK),)


@dataclass(frozen=True)
class Lockup:
    """Conditions that are a matter of time; those of one round are awaited together."""

    works: tuple[str, ...]  # names in the module
    kinds: tuple[Kind, ...]
    seconds: int  # that a thread spins; one that hangs does so for twice as long
    set_up: str


_SYSCTL = '/proc/sys/kernel'
# In two rounds: a stall report of RCU tells the soft lockup detector that all is well.
LOCKUPS = (
    Lockup(
        ('hung', 'spin'),
        (Kind.HUNG_TASK, Kind.SOFT_LOCKUP),
        5,
        f'echo 1 >{_SYSCTL}/hung_task_timeout_secs && echo -1 >{_SYSCTL}/hung_task_warnings && '
        f'echo 1 >{_SYSCTL}/watchdog_thresh',
    ),
    Lockup(
        ('spin',),
        (Kind.RCU_STALL,),
        5,
        # The thread of the first round may still hang: no more of its reports.
        f'echo 0 >{_SYSCTL}/hung_task_timeout_secs && echo 10 >{_SYSCTL}/watchdog_thresh && '
        'echo 3 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout',
    ),
)
# RCU waits five seconds longer when it checks its own locking.
VARIANT_SECONDS = 6


class CanaryRun:
    """All canaries of one run, in a thread."""

    def __init__(self, plan: GuestPlan) -> None:
        self._plan = plan
        self._thread = threading.Thread(target=self._run, name='canaries', daemon=True)
        self._done: list[Canary] = []
        self._error: HarnessError | None = None
        self._machines: list[Machine] = []
        self._given_up = False
        self.started = False
        self.seconds = 0.0

    def start(self) -> None:
        self.started = True
        self._thread.start()

    def abort(self) -> None:
        """The run is being given up."""
        self._given_up = True
        for machine in list(self._machines):
            machine.stop()
        if self.started:
            self._thread.join(10.0)

    @property
    def failed(self) -> bool:
        return (
            self.started
            and not self._thread.is_alive()
            and (self._error is not None or any(not canary.ok for canary in self._done))
        )

    def finish(self) -> None:
        """Wait for all of them; LabError when one was missed."""
        while self._thread.is_alive():
            # In slices, so that Ctrl-C is taken at once.
            self._thread.join(0.5)
        if self._error is not None:
            raise self._error
        missed = [canary for canary in self._done if not canary.ok]
        if missed:
            names = ', '.join(canary.name for canary in missed)
            raise LabError(
                f'canaries went unnoticed: {names}; this harness cannot be trusted to notice the real thing',
                '\n'.join(f'{canary.name} ({canary.how}): {canary.detail}' for canary in missed),
                f'console log: {self._plan.run.guest("canaries") / "console.log"}',
            )

    def as_dicts(self) -> list[dict[str, Any]]:
        return [{**asdict(canary), 'kind': str(canary.kind)} for canary in self._done]

    def _run(self) -> None:
        started = time.monotonic()
        try:
            for left in reversed(range(TRIES)):
                try:
                    self._in_one_guest()
                    self._reboot_and_panic()
                    break
                except HarnessError as error:
                    if self._given_up or not left or not self._was_chance(error):
                        raise
                    log.warning('canaries: %s; they are run again', error.what)
                    self._done.clear()
        except HarnessError as error:
            if not self._given_up:
                self._error = LabError(f'the canaries could not be run: {error.what}', error.detail, error.hint)
        except Exception as error:
            if not self._given_up:
                self._error = LabError(f'the canaries could not be run: {error!r}')
        finally:
            for machine in self._machines:
                machine.stop()
            self.seconds = time.monotonic() - started

    def _was_chance(self, error: HarnessError) -> bool:
        """Whether somebody else killed the guest that was in use, or it never was of use."""
        # The kernel can boot: canaries begin when the first guest of the checks is up.
        if isinstance(error, (GuestUnfitError, BootError)):
            return True
        machine = self._machines[-1] if self._machines else None
        return machine is not None and machine.wait(lambda: bool(machine.killed), KILLED_LIMIT)

    @property
    def _factor(self) -> float:
        # Not before it is needed: the first guest of a run measures it.
        return self._plan.expected_speed().factor

    def _boot(self, name: str) -> Booted:
        if self._given_up:
            raise LabError('given up')
        booted = boot(self._plan.spec(name, self._factor))
        self._machines.append(booted.machine)
        return booted

    def _in_one_guest(self) -> None:
        guest = Guest(self._boot('canaries'))
        modules = self._plan.kernel.modules
        sources = [(path, path.name) for path in modules]
        if REPLAY.is_dir():
            sources.append((REPLAY, 'replay'))
        guest.put_tree(sources, '/lab/canary')
        guest.attest()
        loaded = bool(modules) and guest.run('/lab/bin/busybox insmod /lab/canary/canary.ko', 30 * self._factor)
        if loaded and loaded.status != 0:
            raise LabError('the canary module cannot be loaded', loaded.stderr.decode('utf-8', 'replace'))
        for name, kind in MODULE:
            self._one(guest, name, kind, provoke=bool(loaded))
        for name, kind in REPLAY_ONLY:
            self._one(guest, name, kind, provoke=False)
        self._lockups(guest, provoke=bool(loaded))
        for name, kind in DEADLY:
            self._one(guest, name, kind, provoke=bool(loaded))
        self._killed(guest.machine)
        guest.close()

    def _one(self, guest: Guest, name: str, kind: Kind, *, provoke: bool) -> None:
        started = time.monotonic()
        how = 'provoked'
        mark = f'fuse-lab: check canary/{name} section canary'
        guest.ask(f'echo "{mark} begin" >/dev/kmsg')
        first = len(guest.machine.events)
        if not provoke or not self._provoke(guest, name):
            how = 'replayed'
            self._replay(guest, name)
        event = self._await(guest.machine, first, name, kind, 10.0)
        guest.ask(f'echo "{mark} end" >/dev/kmsg')
        self._note(name, kind, how, event, guest.machine.events_since(first), started)

    def _provoke(self, guest: Guest, name: str) -> bool:
        """False: this kernel lacks the checker."""
        done = guest.run(f'echo {name} >{PROVOKE}', 20 * self._factor)
        if done.status == 0:
            return True
        text = done.stderr.decode('utf-8', 'replace')
        if 'not supported' in text:
            return False
        raise LabError(f'canary {name} cannot be provoked', text)

    def _replay(self, guest: Guest, name: str) -> None:
        file = f'/lab/canary/replay/{name}.log'
        # One write for each line: that is one record of the kernel's log.
        guest.ask(f'while IFS= read -r line; do echo "$line" >/dev/kmsg; done <{file}')

    def _lockups(self, guest: Guest, *, provoke: bool) -> None:
        if not provoke:
            for name, kind in (('hung', Kind.HUNG_TASK), ('softlockup', Kind.SOFT_LOCKUP), ('rcu', Kind.RCU_STALL)):
                self._one(guest, name, kind, provoke=False)
            return
        for number, lockup in enumerate(LOCKUPS, 1):
            self._lockup(guest, f'lockup{number}', lockup)

    def _lockup(self, guest: Guest, name: str, lockup: Lockup) -> None:
        started = time.monotonic()
        seconds = lockup.seconds + (VARIANT_SECONDS if self._plan.kernel.variant else 0)
        guest.ask(f'{lockup.set_up} && echo {seconds} >/sys/module/canary/parameters/seconds')
        guest.ask(f'echo "fuse-lab: check canary/{name} section canary begin" >/dev/kmsg')
        first = len(guest.machine.events)
        found: dict[Kind, Event | None] = {}
        for _ in range(LOCKUP_TRIES):
            for work in lockup.works:
                self._provoke(guest, work)
            for kind in lockup.kinds:
                if not found.get(kind):
                    found[kind] = self._await(guest.machine, first, name, kind, 2.5 * seconds, scale=False)
            if all(found.values()):
                break
        guest.ask(f'echo "fuse-lab: check canary/{name} section canary end" >/dev/kmsg', timeout=60)
        for kind, event in found.items():
            self._note(str(kind), kind, 'provoked', event, guest.machine.events_since(first), started)

    def _reboot_and_panic(self) -> None:
        for name, key, kind in (('silent reboot', 'b', Kind.REBOOT), ('panic', 'c', Kind.PANIC)):
            started = time.monotonic()
            booted = self._boot(f'canaries-{kind.name.lower()}')
            machine = booted.machine
            # Not by BREAK: 7.3 may deadlock when it resets in the serial port's interrupt.
            # A moment later, so that the guest can still say that it took the command.
            Guest(booted).start(f'(sleep 0.2; echo {key} >/proc/sysrq-trigger) &')
            event = self._await(machine, 0, '', kind, 10.0)
            machine.wait(lambda machine=machine: not machine.alive, 10.0)  # type: ignore[misc]
            self._note(name, kind, 'provoked', event, machine.events, started)
            machine.stop()

    def _killed(self, machine: Machine) -> None:
        started = time.monotonic()
        first = len(machine.events)
        for pid in qemu_processes(machine.pid):
            os.kill(pid, signal.SIGKILL)
        event = self._await(machine, first, '', Kind.GONE, 10.0)
        self._note('guest gone', Kind.GONE, 'provoked', event, machine.events_since(first), started)

    def _await(
        self, machine: Machine, first: int, name: str, kind: Kind, limit: float, *, scale: bool = True
    ) -> Event | None:
        """The event, complete; None when it does not come."""

        def found() -> Event | None:
            for event in machine.events[first:]:
                if event.kind is kind and (not name or event.check == f'canary/{name}'):
                    return event
            return None

        deadline = time.monotonic() + limit * (self._factor if scale else 1.0)
        while time.monotonic() < deadline and not self._given_up:
            if machine.wait(lambda: found() is not None, 0.2):
                return found()
            if machine.alive and machine.parser.open_kinds:
                machine.drain(quiet=0.1, limit=1.0)
            elif not machine.alive:
                if machine.killed and kind is not Kind.GONE:
                    raise GuestLostError(machine.killed)
                return found()
        return found()

    def _note(self, name: str, kind: Kind, how: str, event: Event | None, events: list[Event], started: float) -> None:
        if event is not None:
            detail = event.line
        else:
            seen = ', '.join(sorted({str(other.kind) for other in events})) or 'nothing'
            detail = f'no event of kind {kind}; seen: {seen}'
        seconds = round(time.monotonic() - started, 2)
        self._done.append(Canary(name, kind, how, event is not None, seconds, detail))
