# SPDX-License-Identifier: GPL-2.0-only
"""Hundreds of bisections of simulated kernels: how often the wrong one is blamed, and what it costs."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable

import numpy as np
import pytest
from bisectsim import World, bisect, history, line

from harness.bisect.engine import Belief, Costs, Problem, Tally, healed, runs_to_see

# BISECT_CASES=20 runs twenty times as many: minutes, and figures to quote
TIMES = int(os.environ.get('BISECT_CASES', '1'))
Make = Callable[[random.Random], World]


def _flaky(chance: random.Random, problem: Problem, **more: object) -> World:
    return World(problem, chance.randrange(problem.suspects), chance.uniform(0.3, 0.5), **more)  # type: ignore[arg-type]


def _skips(chance: random.Random) -> World:
    problem = history(chance, 20)
    broken = frozenset(kernel for kernel in range(1, 20) if chance.random() < 0.2)
    return World(problem, chance.randrange(20), 1.0, untestable=broken)


def _certain(chance: random.Random) -> World:
    problem = history(chance, 40)
    return World(problem, chance.randrange(40), 1.0, false_alarm=0.005)


WORLDS: dict[str, tuple[Make, int, float]] = {
    # how many cases, and how many kernels a bisection may take on average
    'series': (lambda chance: World(line(22), chance.randrange(22), 1.0), 40, 6.5),
    'series, flaky': (lambda chance: _flaky(chance, line(16)), 8, 7.5),
    'series, flaky, unlike': (lambda chance: _flaky(chance, line(16), spread=0.15), 8, 7.5),
    'merges, false alarms': (_certain, 25, 8.0),
    'merges, flaky': (lambda chance: _flaky(chance, history(chance, 14)), 8, 8.5),
    'merges, untestable kernels': (_skips, 25, 9.5),
}


@pytest.mark.parametrize('name', WORLDS)
def test_seldom_blames_the_wrong_one(name: str) -> None:
    make, cases, most_kernels = WORLDS[name]
    cases *= TIMES
    wrong, open_, kernels, runs = 0, 0, 0, 0
    for seed in range(cases):
        chance = random.Random(f'{name} {seed}')
        world = make(chance)
        found = bisect(world, chance)
        kernels += found.kernels
        runs += found.runs
        if found.suspicion.probability < 0.95:
            open_ += 1
        elif world.guilty not in found.suspicion.suspects:
            wrong += 1
    print(f'{name}: {wrong} of {cases} wrong, {open_} not sure, {kernels / cases} kernels, {runs / cases} runs')
    # One in twenty is what a confidence of 0.95 allows: here with three standard deviations
    assert wrong <= cases / 20 + 3 * math.sqrt(cases / 20)
    assert open_ <= 1 + cases / 20
    assert kernels / cases <= most_kernels


def test_a_confidence_that_is_asked_for_is_reached() -> None:
    runs = []
    for confidence in (0.9, 0.999):
        wrong, total = 0, 0
        for seed in range(8):
            chance = random.Random(seed)
            world = World(line(12), chance.randrange(12), 0.5)
            found = bisect(world, chance, confidence)
            total += found.runs
            wrong += world.guilty not in found.suspicion.suspects
        runs.append(total)
        assert wrong <= (4 if confidence == 0.9 else 1)
    assert runs[0] < runs[1]


def test_what_cannot_be_told_apart_stays_together() -> None:
    blocked = frozenset({4, 5})
    found = bisect(World(line(10), 4, 1.0, untestable=blocked), random.Random(1)).suspicion
    assert found.suspects == (3, 4, 5)
    assert not found.older
    assert found.probability >= 0.95


def test_a_series_that_fails_as_far_back_as_it_can_be_tested() -> None:
    blocked = frozenset(range(6))
    found = bisect(World(line(10), 2, 1.0, untestable=blocked), random.Random(1)).suspicion
    assert found.suspects == (0, 1, 2, 3, 4, 5)
    assert found.older


def test_a_failure_that_is_older_than_all() -> None:
    found = bisect(World(line(10), 10, 1.0), random.Random(1)).suspicion
    assert found.suspects == ()
    assert found.older


def test_one_failure_by_mistake_does_not_decide() -> None:
    problem = line(10)
    tallies = [Tally() for _ in range(11)]
    tallies[10], tallies[5], tallies[8] = Tally(3, 0), Tally(1, 12), Tally(3, 0)
    best = Belief(problem, tallies).suspicions()
    assert sum(one.probability for one in best if one.suspects and min(one.suspects) >= 5) > 0.5


def test_the_next_kernel_is_the_one_that_tells_most_a_second() -> None:
    problem = line(16)
    tallies = [Tally() for _ in range(17)]
    tallies[16] = Tally(6, 0)
    ready = np.full(17, 60.0)
    assert Belief(problem, tallies, 0.98).choose(Costs(ready, 5.0)) in (7, 8, 9)
    # A kernel that is there already is worth a look although it halves nothing.
    ready[4] = 0.0
    assert Belief(problem, tallies, 0.98).choose(Costs(ready, 5.0)) == 4


def test_kernels_beside_one_that_does_not_build_come_later() -> None:
    problem = line(16)
    tallies = [Tally() for _ in range(17)]
    tallies[16], tallies[8] = Tally(6, 0), Tally(blocked=True)
    steps = np.arange(17) / 16
    distance = np.abs(steps[:, None] - steps[None, :])
    chosen = Belief(problem, tallies).choose(Costs(np.full(17, 60.0), 5.0), distance)
    assert chosen is not None
    assert 2 <= abs(chosen - 8) <= 6


def test_two_thousand_commits_take_no_time() -> None:
    problem = line(2000)
    tallies = [Tally() for _ in range(2001)]
    tallies[2000], tallies[1000] = Tally(2, 0), Tally(0, 2)
    chosen = Belief(problem, tallies).choose(Costs(np.full(2001, 60.0), 5.0))
    assert chosen is not None
    assert 1300 < chosen < 1700


def test_dropping_a_patch_heals_only_after_runs_enough() -> None:
    certain, flaky = Tally(6, 0), Tally(5, 7)
    assert healed(certain, Tally(0, 3)) > 0.95
    assert healed(flaky, Tally(0, 3)) < 0.6
    assert healed(flaky, Tally(0, 10)) < 0.95 < healed(flaky, Tally(0, 60))
    assert healed(flaky, Tally(1, 5)) < 0.05


def test_how_often_a_good_looking_kernel_is_run() -> None:
    assert runs_to_see(0.95) == 14
    assert runs_to_see(0.99) > 14
