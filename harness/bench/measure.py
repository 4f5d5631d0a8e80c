# SPDX-License-Identifier: GPL-2.0-only
"""One measured run after the other: a server is started, loaded and asked what went through it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from harness.bench import export, krpc
from harness.bench.figures import Figure, State
from harness.bench.proof import Proof, judge, judge_payload
from harness.bench.rows import Load, Measure, Side, Workload
from harness.bench.server import Server
from harness.errors import LabError
from harness.guest import GuestLostError
from harness.image import KernelImage
from harness.keeper import GuestKeeper

LIMIT = 150.0  # seconds at unit speed for one measured run
NO_RING = 'the kernel has no FUSE over io_uring'
NO_KRPC = 'the kernel has no krpc'
_PARAMETER = '/sys/module/fuse/parameters/enable_uring'


@dataclass(frozen=True)
class Subject:
    """What is measured: a server on a kernel."""

    name: str  # a or b
    kernel: KernelImage | None  # None: the host's own
    server: Server


@dataclass(frozen=True)
class Said:
    """What run-bench has printed."""

    stdout: str
    stderr: str
    status: int | None  # None: not done in time


class Place(Protocol):
    """Where a measured run takes place."""

    work: str  # folder for run-bench, as seen there
    in_guest: bool

    def run(self, words: Sequence[str]) -> Said: ...

    def has_ring(self) -> bool: ...

    def has_krpc(self) -> bool: ...


class GuestPlace:
    """In a guest, which is replaced when it is lost."""

    work = '/lab/work/bench'
    in_guest = True

    def __init__(self, keeper: GuestKeeper) -> None:
        self.keeper = keeper

    def run(self, words: Sequence[str]) -> Said:
        guest = self.keeper.get()
        limit = LIMIT * self.keeper.speed.factor
        try:
            done = guest.run(shlex.join(words), limit)
        except GuestLostError as error:
            guest.machine.wait(lambda: not guest.machine.alive, 2.0)
            guest.machine.drain(quiet=0.3, limit=3.0)
            last = guest.machine.events[-1].line if guest.machine.events else error.what
            self.keeper.discard()
            return Said('', f'trouble: the guest is lost: {last}', 1)
        if done.status is None:
            self.keeper.discard()
        text = [part.decode('utf-8', 'replace') for part in (done.stdout, done.stderr)]
        return Said(text[0], text[1], done.status)

    def has_ring(self) -> bool:
        return self.ask(f'[ ! -e {_PARAMETER} ] || echo yes') != ''

    def has_krpc(self) -> bool:
        return self.ask(f'[ ! -e {krpc.DEVICE} ] || echo yes') != ''

    def ask(self, command: str) -> str:
        return self.keeper.get().ask(command).strip()


@dataclass(frozen=True)
class Reading:
    """One round."""

    value: float  # in the row's unit
    operations: float  # at least so many were made
    proof: str = ''


class UnmeasuredError(Exception):
    """This run gives no figure; the message says why."""


def lacking(row: Workload, side: Side, place: Place) -> str:
    """What this side needs and the place has not; empty when it has all."""
    if row.over_ring(side) and not place.has_ring():
        return NO_RING
    return NO_KRPC if side.needs_krpc and not place.has_krpc() else ''


def words_of(row: Workload, side: Side, server: Server, place: Place, run_bench: str) -> list[str]:
    """The command of one measured run."""
    words = [run_bench, '--transport', 'ring' if row.over_ring(side) else 'dev', '--work', place.work]
    for name, size in row.files:
        words += ['--file', f'{name}:{size}']
    if side.has_node:
        words += ['--node', str(krpc.PORT), *krpc.command(row, side, place.work)]
    elif row.against:
        words += ['--on-file', *export.command(side, place.work, row.buffered)]
    else:
        words += server.command(row, side, place.work, place.in_guest)
    return [*words, '--', *load_words(row, place)]


def load_words(row: Workload, place: Place) -> list[str]:
    return [str(row.load), *(word.replace('{mountpoint}', f'{place.work}/mnt') for word in row.words)]


def read(row: Workload, side: Side, said: Said) -> Reading:
    """UnmeasuredError when it went wrong, or the requests went another way."""
    if said.status is None:
        raise UnmeasuredError('not done in time')
    if said.status != 0:
        lines = [line for line in said.stderr.splitlines() if line.strip()]
        reason = next((line.removeprefix('trouble: ') for line in lines if line.startswith('trouble: ')), '')
        others = [line for line in lines if not line.startswith('trouble: ')]
        raise UnmeasuredError(' | '.join([reason or f'run-bench ended with status {said.status}', *others[-2:]]))
    evidence, output = parse(said.stdout)
    reading = read_fio(row, output) if row.load is Load.FIO else read_fsload(row, output)
    proof = judge(side, evidence, reading.operations * row.requests, row.over_ring(side))
    if proof.wrong:
        raise UnmeasuredError(f'the requests went another way: {proof.wrong}')
    payload = Proof('')
    if side.has_node:
        payload = judge_payload(side, evidence, int(reading.operations) * row.payload)
    if payload.wrong:
        raise UnmeasuredError(f'the data went another way: {payload.wrong}')
    return replace(reading, proof=', '.join(filter(None, (proof.shown, payload.shown))))


def parse(text: str) -> tuple[dict[str, tuple[int, int]], str]:
    """run-bench's output: counters by name, before and after; what the load has printed."""
    evidence: dict[str, tuple[int, int]] = {}
    head, mark, output = text.partition('\nload ')
    try:
        for line in head.splitlines():
            word, name, before, after = line.split()
            if word != 'evidence':
                raise ValueError(line)
            evidence[name] = (int(before), int(after))
    except ValueError as error:
        raise UnmeasuredError(f'run-bench printed something else: {text[:200]!r}') from error
    if not mark:
        raise UnmeasuredError(f'run-bench has not finished: {text[:200]!r}')
    return evidence, output.partition('\n')[2]


def read_fsload(row: Workload, output: str) -> Reading:
    try:
        kind, *words = output.split()
        values = dict(word.split('=', 1) for word in words)
        ops, ns, verified = (int(values[name]) for name in ('ops', 'ns', 'verified'))
        if kind != row.words[0] or ops < 1 or ns < 1 or verified < 1:
            raise ValueError(output)
    except (ValueError, KeyError) as error:
        raise UnmeasuredError(f'fsload printed something else: {output[:200]!r}') from error
    # A counting guest's nanosecond is an instruction.
    if row.measure is Measure.COST:
        return Reading(ns / ops / 1000, ops)
    return Reading(ops * row.payload / ns * 1e3 if row.bandwidth else ops / ns * 1e9, ops)


def read_fio(row: Workload, output: str) -> Reading:
    try:
        # fio prints warnings before and after its JSON.
        (job,) = json.loads(output[output.index('{') : output.rindex('}') + 1])['jobs']
        if job['error']:
            raise UnmeasuredError(f'fio failed with error {job["error"]}')
        ways = [job['read'], job['write']]
        operations = sum(way['total_ios'] for way in ways)
        # Milliseconds of the job that took longest; a ramp is in none of these.
        seconds = max(way['runtime'] for way in ways) / 1000
        total = sum(way['io_bytes'] for way in ways)
        value = total / 1e6 / seconds if row.bandwidth else operations / seconds
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise UnmeasuredError(f'fio printed something else: {output[:200]!r}') from error
    if not operations:
        raise UnmeasuredError('fio has done nothing')
    return Reading(value, operations)


@dataclass(frozen=True)
class Campaign:
    """All runs of one measure."""

    rows: tuple[Workload, ...]
    subjects: tuple[Subject, ...]
    places: Mapping[str, Place]  # by subject
    rounds: int
    run_bench: str  # the script, as seen from the places

    @property
    def combinations(self) -> list[tuple[Side, Subject]]:
        """In the order of one round."""
        sides = list(self.rows[0].sides) if self.rows else []
        return [(side, subject) for side in sides for subject in self.subjects]

    def measure(self, told: Callable[[Figure], None]) -> Iterable[Figure]:
        """Figures, row by row; `told` is called with each figure as it grows."""
        for row in self.rows:
            figures: dict[tuple[Side, str], Figure] = {}
            for side, subject in self.combinations:
                figure = Figure(row, side, subject.name)
                reason = lacking(row, side, self.places[subject.name])
                if reason:
                    figure = replace(figure, state=State.NOTRUN, reason=reason)
                    told(figure)
                figures[side, subject.name] = figure
            # All sides take turns: what the machine does besides meets them alike.
            for _ in range(self.rounds):
                for side, subject in self.combinations:
                    figure = figures[side, subject.name]
                    if figure.state is State.MEASURED:
                        figures[side, subject.name] = self._once(figure, subject)
                        told(figures[side, subject.name])
            yield from figures.values()

    def _once(self, figure: Figure, subject: Subject) -> Figure:
        place = self.places[subject.name]
        try:
            said = place.run(words_of(figure.workload, figure.side, subject.server, place, self.run_bench))
            reading = read(figure.workload, figure.side, said)
        except UnmeasuredError as error:
            return replace(figure, values=(), state=State.FAILED, reason=str(error))
        return replace(figure, values=(*figure.values, reading.value), proof=reading.proof)


def require_fio(rows: Sequence[Workload], found: str | None) -> None:
    if found is None and any(row.load is Load.FIO for row in rows):
        raise LabError('fio is not installed', hint='apt-get install fio')
