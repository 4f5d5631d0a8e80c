# SPDX-License-Identifier: GPL-2.0-only
"""Simulated kernels for the bisection's engine: random histories, a guilty one, failures by chance."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from harness.bisect.engine import Belief, Costs, Problem, Suspicion, Tally


def line(count: int) -> Problem:
    """A series: kernel k has the first k patches."""
    return Problem(np.tri(count + 1, count, -1, dtype=bool))


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
    contains = [[bool(mask >> suspect & 1) for suspect in range(count)] for mask in reach]
    return Problem(np.array(contains))


@dataclass(frozen=True)
class World:
    """What is really so."""

    problem: Problem
    guilty: int  # problem.suspects: older than all of them
    share: float
    spread: float = 0.0  # shares of kernels differ by as much
    untestable: frozenset[int] = frozenset()
    false_alarm: float = 0.0


@dataclass(frozen=True)
class Outcome:
    suspicion: Suspicion
    runs: int
    kernels: int


def bisect(world: World, chance: random.Random, confidence: float = 0.95, limit: int = 400) -> Outcome:
    problem = world.problem
    tallies = [Tally() for _ in range(problem.kernels)]
    shares = [
        min(1.0, max(0.02, world.share + chance.uniform(-world.spread, world.spread))) for _ in range(problem.kernels)
    ]
    up = -1
    seen = set()
    total = 0
    while total < limit:
        belief = Belief(problem, tallies)
        if total == 0:
            kernel: int | None = problem.kernels - 1
        else:
            best = belief.suspicions()[0]
            if tallies[-1].fails and best.probability >= confidence:
                break
            ready = np.full(problem.kernels, 60.0)
            if up >= 0:
                ready[up] = 0.0
            kernel = belief.choose(Costs(ready, 5.0)) if tallies[-1].fails else problem.kernels - 1
        if kernel is None:
            break
        seen.add(kernel)
        up = kernel
        total += 1
        if kernel in world.untestable:
            tallies[kernel] = Tally(blocked=True)
            continue
        faulty = problem.has[kernel, world.guilty] > 0
        failed = chance.random() < (shares[kernel] if faulty else world.false_alarm)
        old = tallies[kernel]
        tallies[kernel] = Tally(old.fails + failed, old.passes + (not failed))
    return Outcome(Belief(problem, tallies).suspicions()[0], total, len(seen))
