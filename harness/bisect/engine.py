# SPDX-License-Identifier: GPL-2.0-only
"""Noisy bisection: what runs that may fail by chance say about who is guilty, and where to look next.

Each suspect (a patch, a commit) is a hypothesis: every kernel that contains it has the failure, and
no other has. One more hypothesis is that the failure is older than all of them. A kernel that has the
failure shows it in some share of the runs. That share is not known and is integrated out: it is
either (nearly) always or anything. From kernel to kernel it may differ
a little (a beta-binomial), since a few patches more or less change the timing of everything. Kernels
without the failure seem to have it once in a long while.

The next kernel is the one that is expected to tell most per second: another run in a guest that is up
costs seconds, another kernel has to be built. No guests, no files here: numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

CERTAIN = 0.995  # share of runs in which a failure that is always there shows
P_CERTAIN = 0.3  # how likely a failure is of that kind, beforehand; more would be rash with flaky ones
P_OLDER = 0.05  # that it is older than all suspects, beforehand
FALSE_ALARM = 0.005  # share of runs in which a kernel without the failure seems to have it
ALIKE = 20.0  # how alike the shares of two kernels are: as if known from so many runs
_SHARES = np.arange(0.025, 1.0, 0.05)
_BATCHES = (1, 4, 16)  # numbers of runs thought of together; then one is made, and all is thought anew
_TOO_LITTLE = 1e-4  # bits: not worth a run


@dataclass(frozen=True)
class Tally:
    """The runs of one kernel."""

    fails: int = 0  # in the way that is looked for
    passes: int = 0
    blocked: bool = False  # it cannot be tested: does not build, fails in another way, ...

    @property
    def runs(self) -> int:
        return self.fails + self.passes


@dataclass(frozen=True)
class Costs:
    """Seconds."""

    ready: Floats  # until each kernel can be run
    run: float  # each run


@dataclass(frozen=True)
class Problem:
    """contains[kernel, suspect]: which suspects each kernel has in it."""

    contains: Bools

    @property
    def kernels(self) -> int:
        return int(self.contains.shape[0])

    @property
    def suspects(self) -> int:
        return int(self.contains.shape[1])

    @cached_property
    def has(self) -> Floats:
        """kernel x hypothesis, the last of which is `older than all`: whether the kernel has the failure."""
        older = np.ones((self.kernels, 1))
        return np.hstack([self.contains.astype(np.float64), older])


@dataclass(frozen=True)
class Suspicion:
    """Suspects that nothing testable tells apart, and how likely one of them is guilty."""

    suspects: tuple[int, ...]
    older: bool  # or the failure is older than all of them
    probability: float


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@lru_cache(maxsize=4096)
def _log_runs(fails: int, passes: int) -> Floats:
    """Log likelihood of a faulty kernel's runs for each share, the certain one last."""
    logs = []
    for share in _SHARES:
        a, b = float(share) * ALIKE, float(1 - share) * ALIKE
        logs.append(_log_beta(a + fails, b + passes) - _log_beta(a, b))
    logs.append(fails * math.log(CERTAIN) + passes * math.log(1 - CERTAIN))
    return np.array(logs)


def _log_good_runs(fails: int, passes: int) -> float:
    return fails * math.log(FALSE_ALARM) + passes * math.log(1 - FALSE_ALARM)


def _share_prior(certain: float) -> Floats:
    return np.append(np.full(len(_SHARES), (1 - certain) / len(_SHARES)), certain)


def _entropy(p: Floats) -> Floats:
    """Bits of a coin."""
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(-q * np.log2(q) - (1 - q) * np.log2(1 - q), dtype=np.float64)


class Belief:
    """What the runs so far say. Made anew for each question.

    certain: how likely the failure is one that always shows, beforehand.
    """

    def __init__(self, problem: Problem, tallies: Sequence[Tally], certain: float = P_CERTAIN) -> None:
        assert len(tallies) == problem.kernels
        self.problem = problem
        self.tallies = tallies
        tested = [number for number, tally in enumerate(tallies) if tally.runs]
        prior = np.full(problem.suspects + 1, (1 - P_OLDER) / max(1, problem.suspects))
        prior[-1] = P_OLDER
        log = np.log(prior)[:, None] + np.log(_share_prior(certain))[None, :]
        if tested:
            bad = np.array([_log_runs(tallies[k].fails, tallies[k].passes) for k in tested])
            good = np.array([_log_good_runs(tallies[k].fails, tallies[k].passes) for k in tested])
            log = log + problem.has[tested].T @ (bad - good[:, None])
        joint = np.exp(log - log.max())
        self._joint: Floats = joint / joint.sum()  # hypothesis x share
        self.weights: Floats = self._joint.sum(axis=1)

    def suspicions(self) -> list[Suspicion]:
        """The most likely first."""
        open_ = [number for number, tally in enumerate(self.tallies) if not tally.blocked]
        packed = np.packbits(self.problem.has[open_].astype(bool), axis=0)
        groups: dict[bytes, list[int]] = {}
        for hypothesis in range(self.problem.suspects + 1):
            groups.setdefault(packed[:, hypothesis].tobytes(), []).append(hypothesis)
        found = []
        for members in groups.values():
            suspects = tuple(member for member in members if member < self.problem.suspects)
            probability = float(self.weights[members].sum())
            found.append(Suspicion(suspects, len(suspects) < len(members), probability))
        return sorted(found, key=lambda suspicion: -suspicion.probability)

    def choose(self, costs: Costs, distance: Floats | None = None) -> int | None:
        """The kernel to run next; None when none would tell anything.

        distance[a, b]: how far two kernels are apart, from 0 to 1. Those near one that could not be
        tested are tried later.
        """
        best = np.zeros(self.problem.kernels)
        telling = np.zeros(self.problem.kernels)
        for runs in _BATCHES:
            bits = self._bits(runs)
            telling = np.maximum(telling, bits)
            best = np.maximum(best, bits / (costs.ready + runs * costs.run))
        best *= self._testable(distance)
        for number, tally in enumerate(self.tallies):
            if tally.blocked:
                best[number] = telling[number] = 0.0
        best[telling < _TOO_LITTLE] = 0.0
        return int(best.argmax()) if best.max() > 0 else None

    def _bits(self, runs: int) -> Floats:
        """What so many runs of each kernel are expected to say: whether there is a failure among them."""
        good = (1 - FALSE_ALARM) ** runs
        has, weights = self.problem.has, self.weights
        # Of all kernels that were not run yet it is the same, but for what they contain
        quiet = self._quiet([Tally()], runs)[:, 0]
        faulty = has @ weights
        mean = has @ (weights * quiet) + (1 - faulty) * good
        noise = has @ (weights * _entropy(quiet)) + (1 - faulty) * _entropy(np.array(good))
        bits = _entropy(mean) - noise
        tested = [number for number, tally in enumerate(self.tallies) if tally.runs and not tally.blocked]
        if tested:
            own = self._quiet([self.tallies[number] for number in tested], runs)
            own = np.where(has[tested].T > 0, own, good)
            bits[tested] = _entropy(weights @ own) - weights @ _entropy(own)
        return bits

    def _quiet(self, tallies: Sequence[Tally], runs: int) -> Floats:
        """hypothesis x tally: chance that a faulty kernel with such a tally shows nothing in so many more runs."""
        silent = [
            np.exp(_log_runs(tally.fails, tally.passes + runs) - _log_runs(tally.fails, tally.passes))
            for tally in tallies
        ]
        return np.asarray(self._joint @ np.array(silent).T / np.maximum(self.weights, 1e-300)[:, None])

    def _testable(self, distance: Floats | None) -> Floats:
        """How likely each kernel can be tested, judging by those around it."""
        blocked = [number for number, tally in enumerate(self.tallies) if tally.blocked]
        if distance is None or not blocked:
            return np.ones(self.problem.kernels)
        tested = [number for number, tally in enumerate(self.tallies) if tally.runs and not tally.blocked]
        near = np.exp(-distance * 8)
        bad, fine = near[:, blocked].sum(axis=1), near[:, tested].sum(axis=1)
        return np.asarray((0.3 + fine) / (0.3 + fine + bad), dtype=np.float64)


def healed(reference: Tally, tally: Tally, prior: float = 0.2) -> float:
    """How likely a kernel no longer has the failure that the reference has. For dropping single patches."""
    shares = np.log(_share_prior(P_CERTAIN)) + _log_runs(reference.fails, reference.passes)
    weights = np.exp(shares - shares.max())
    weights /= weights.sum()
    still = float(weights @ np.exp(_log_runs(tally.fails, tally.passes)))
    gone = math.exp(_log_good_runs(tally.fails, tally.passes))
    return prior * gone / (prior * gone + (1 - prior) * still)


def runs_to_see(confidence: float, share: float = 0.2) -> int:
    """So many runs show a failure that is there in this share of them."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - share))
