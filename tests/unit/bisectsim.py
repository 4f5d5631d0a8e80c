# SPDX-License-Identifier: GPL-2.0-only
"""Simulated kernels for bisections: random histories, a guilty one, failures by chance. The search is the real one."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import config
from harness.bisect.engine import Problem
from harness.bisect.judgement import FailsThisWay
from harness.bisect.report import Answer
from harness.bisect.search import Search, find
from harness.bisect.signature import Signature
from harness.bisect.state import Observation, digest
from harness.bisect.state import Outcome as Ended
from harness.bisect.subjects import Range, Subject
from harness.kernel import KernelRequest
from harness.series import Patch, PatchSeries
from harness.source import SourceRequest

THIS = Signature('a/001[dev]', 'fail', ('-right', '+wrong'))
REQUEST = KernelRequest(SourceRequest(), config.ConfigRequest((), ''))


def line(count: int) -> Problem:
    """A series: kernel k has the first k patches."""
    return Problem.of(np.tri(count + 1, count, -1, dtype=bool))


def history(chance: random.Random, count: int) -> Problem:
    """Commits with side branches and merges; kernel 0 is the one known to be good."""
    reach = [0]
    heads = [0]
    for number in range(1, count + 1):
        last = number == count
        draw = chance.random()
        parents = [heads.pop(chance.randrange(len(heads)))]
        if last:
            parents += heads
            heads = []
        elif draw < 0.25 and heads:
            parents.append(heads.pop(chance.randrange(len(heads))))
        elif draw > 0.8:
            heads.append(parents[0])
        mask = 1 << (number - 1)
        for parent in parents:
            mask |= reach[parent]
        reach.append(mask)
        heads.append(number)
    return Problem.of_masks(reach, count)


@dataclass(frozen=True)
class World:
    """What is really so."""

    problem: Problem
    guilty: int  # problem.suspects: older than all of them
    share: float
    spread: float = 0.0  # shares of kernels differ by as much
    untestable: frozenset[int] = frozenset()
    false_alarm: float = 0.0
    series: bool = True  # nobody has said that the first kernel is good


@dataclass(frozen=True)
class Outcome:
    answer: Answer
    seen: tuple[int, ...]  # the kernels of all runs, in order

    @property
    def suspects(self) -> set[int]:
        return {int(name) for name in self.answer.suspects}

    @property
    def runs(self) -> int:
        return len(self.seen)

    @property
    def kernels(self) -> int:
        return len(set(self.seen))


class Memory:
    """A state without a file."""

    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def add(self, observation: Observation) -> None:
        self.observations.append(observation)


class _Runs:
    """A Trial. A kernel takes a minute to make, ten seconds to boot, five for each run."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self._world, self._chance = world, chance
        self._has = world.problem.columns([world.guilty])[:, 0]
        self._shares = [
            min(1.0, max(0.02, world.share + chance.uniform(-world.spread, world.spread)))
            for _ in range(world.problem.kernels)
        ]
        self._built: set[int] = set()
        self._up: Subject | None = None

    def run(self, subject: Subject) -> Observation:
        kernel = int(subject.key)
        seconds = {'build': 60.0 * (kernel not in self._built), 'boot': 10.0 * (subject != self._up), 'check': 5.0}
        self._built.add(kernel)
        self._up = subject
        if kernel in self._world.untestable:
            return Observation(subject.key, Ended.BUILD, (), 'error', seconds=seconds)
        rate = self._shares[kernel] if self._has[kernel] else self._world.false_alarm
        if self._chance.random() < rate:
            return Observation(subject.key, Ended.FAIL, (THIS,), 'wrong', seconds=seconds)
        return Observation(subject.key, Ended.PASS, seconds=seconds)

    def up(self) -> Subject | None:
        return self._up

    def close(self) -> None:
        self._up = None


def bisect(world: World, chance: random.Random, confidence: float = 0.95) -> Outcome:
    problem = world.problem
    asked = Range(
        tuple(Subject(str(number), f'kernel {number}', REQUEST) for number in range(problem.kernels)),
        tuple(map(str, range(problem.suspects))),
        problem,
        np.linspace(0.0, 1.0, problem.kernels),
        world.series,
    )
    search = Search(asked, _Runs(world, chance), Memory(), confidence)  # type: ignore[arg-type]
    answer = find(search, FailsThisWay())
    return Outcome(answer, tuple(int(one.kernel) for one in search.seen))


def patches(folder: Path, names: Iterable[str], text: str = '') -> PatchSeries:
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name in names:
        (folder / name).write_text(text + name)
        made.append(Patch(name, folder / name, digest({name: text})))
    (folder / 'series').write_text(''.join(f'{one.name}\n' for one in made))
    return PatchSeries(folder, tuple(made))
