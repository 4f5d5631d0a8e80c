# SPDX-License-Identifier: GPL-2.0-only
"""Keeps one good guest at hand: boots it when first needed, replaces it when a check broke it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from harness import coverage, speed
from harness.boot import Accelerator, Booted, BootError, GuestKilledError, GuestSpec, GuestUnfitError, boot
from harness.cache import Cache
from harness.clock import StageClock
from harness.console import Event, Kind
from harness.errors import LabError
from harness.guest import Guest, GuestLostError
from harness.image import KernelImage
from harness.mount import Bundle, mount
from harness.runfolder import RunFolder
from harness.speed import Speed

log = logging.getLogger(__name__)

# Checkers that look at every memory access also need memory to note it down.
MEMORY_MB = {'': 1024, 'kasan': 2048, 'kcsan': 2048, 'kmemleak': 1536}
KILLED_LIMIT = 2.0  # seconds from the end of the connection to that of QEMU
MAX_STRAYS = 200  # kept of a run; one is enough to fail it
TRIES = 3  # of a guest, and of a check, that something but the kernel ends


def memory_for(variant: str) -> int:
    """MiB that a guest has unless it is said otherwise."""
    return max(MEMORY_MB.get(name, 1024) for name in variant.split(','))


@dataclass(frozen=True)
class GuestPlan:
    """What every guest of a run has in common."""

    kernel: KernelImage
    accelerator: Accelerator
    cpus: int
    run: RunFolder
    cache: Cache
    clock: StageClock
    memory_mb: int = 0  # 0: by variant
    gdb: bool = False
    kernel_args: tuple[str, ...] = ()
    worker: str = ''  # of pytest-xdist; part of the guests' names
    count_instructions: bool = False  # see GuestSpec
    crowd: float = 1.0  # virtual CPUs of all guests at once for each of the host's

    @property
    def memory(self) -> int:
        return self.memory_mb or memory_for(self.kernel.variant)

    def spec(self, name: str, factor: float) -> GuestSpec:
        return GuestSpec(
            self.kernel,
            self.run.guest(name),
            self.accelerator,
            self.cpus,
            self.memory,
            factor,
            self.kernel_args,
            self.gdb,
            count_instructions=self.count_instructions,
        )

    def expected_speed(self) -> Speed:
        """Measured by an earlier run, or a guess."""
        if self.count_instructions:
            return speed.guess_counting()
        known = speed.remembered(self.cache, self.accelerator, self.kernel.variant, self.cpus)
        found = known or speed.guess(self.accelerator, self.kernel.variant)
        return replace(found, factor=found.factor * self.crowd)


class GuestKeeper:
    """One guest at a time, with the bundle in place."""

    def __init__(self, plan: GuestPlan, bundle: Bundle) -> None:
        self.plan = plan
        self.bundle = bundle
        self.speed = plan.expected_speed()
        self.boots = 0
        self.boot_seconds: list[float] = []
        self.keep = False  # a person wants to look at the guest in which a check failed
        self.strays: list[Event] = []  # console events of no check
        self.failed_boots: list[str] = []  # why, of a kernel that has booted before; another guest took its place
        self._guest: Guest | None = None
        self._taken = 0  # events of the present guest already given to a check or to the strays

    @property
    def current(self) -> Guest | None:
        return self._guest

    def get(self) -> Guest:
        """The guest, alive when last heard of."""
        if self._guest is not None and not self._guest.machine.alive:
            self.discard()
        if self._guest is None:
            self._guest = self._survivor()
        return self._guest

    def discard(self) -> None:
        """End the guest; the next one asked for is fresh."""
        if self._guest is None or (self.keep and self._guest.machine.alive):
            return
        guest, self._guest = self._guest, None
        if self.plan.kernel.coverage is not None:
            with self.plan.clock.stage('coverage'):
                coverage.collect(guest)
        guest.machine.drain(quiet=0.05, limit=1.0)
        guest.close()
        self._sort(guest, '', '')

    def take_events(self, guest: Guest, name: str, section: str) -> tuple[Event, ...]:
        """Events since the last call that belong to this check; the others are strays."""
        return self._sort(guest, name, section)

    def _sort(self, guest: Guest, name: str, section: str) -> tuple[Event, ...]:
        events = guest.machine.events_since(self._taken)
        self._taken += len(events)
        mine = []
        for event in events:
            # The guest's end and whatever came before the first mark belong to whoever ran.
            if name and ((event.check, event.section) == (name, section) or not event.check):
                mine.append(event)
            elif event.kind is Kind.GONE and guest.machine.killed:
                log.warning('guest %s: %s', guest.booted.spec.directory.name, event.line)
            elif len(self.strays) < MAX_STRAYS:
                self.strays.append(replace(event, trace=()))
        return tuple(mine)

    def _survivor(self) -> Guest:
        """A fresh guest; another one if it is killed before it is ready, or its clock is wrong.

        Also if a kernel that has booted before does not now. That is the kernel's fault, and told as such,
        but no reason to leave all other checks without a verdict.
        """
        left = TRIES
        while True:
            left -= 1
            try:
                return self._fresh()
            except (GuestUnfitError, BootError, GuestLostError) as error:
                if not left or not (isinstance(error, GuestUnfitError) or self.plan.run.booted.exists()):
                    raise
                if not isinstance(error, GuestUnfitError):
                    self.failed_boots.append(error.what)
                log.warning('%s; another one is booted', error.what)

    def _fresh(self) -> Guest:
        self.boots += 1
        name = f'{self.plan.worker}checks-{self.boots}'
        self._taken = 0
        with self.plan.clock.stage('boot'):
            booted = boot(self.plan.spec(name, self.speed.factor))
            try:
                guest = Guest(booted)
            except LabError as error:
                raise _killed(booted, error) from error
            except BaseException:
                booted.machine.stop()
                raise
        self.boot_seconds.append(booted.seconds)
        try:
            # What the kernel complained about before any check is nobody's but its own.
            self._sort(guest, '', '')
            with self.plan.clock.stage('mount'):
                mount(guest, self.bundle, self.speed.factor)
                if not self.plan.count_instructions:
                    self.speed = speed.measure(guest, self.plan.cache, self.plan.crowd)
        except LabError as error:
            found = _killed(booted, error)
            guest.close()
            raise found from error
        except BaseException:
            guest.close()
            raise
        self.plan.run.booted.touch()
        return guest


def _killed(booted: Booted, error: LabError) -> LabError:
    """What it was that went wrong, if the guest is gone because somebody killed it."""
    machine = booted.machine
    machine.wait(lambda: not machine.alive, KILLED_LIMIT)
    machine.stop()
    if not machine.killed:
        return error
    what = f'the guest was killed while it was set up: {machine.killed}'
    return GuestKilledError(what, error.detail, f'console log: {machine.log}')
