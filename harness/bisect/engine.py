# SPDX-License-Identifier: GPL-2.0-only
"""Noisy bisection: what runs that may fail by chance say about who is guilty, and where to look next.

Each suspect (a patch, a commit) is a hypothesis: every kernel that contains it has the failure, and
no other has. One more hypothesis is that the failure is older than all of them. A kernel that has the
failure shows it in some share of the runs. That share is not known and is integrated out: it is
either (nearly) always or anything. From kernel to kernel it may differ
a little (a beta-binomial), since a few patches more or less change the timing of everything. Kernels
without the failure seem to have it once in a long while.

What is thought beforehand never decides alone: the guilty one is told apart from each rival, `older`
among them, by a run at least (see Belief.untold).

The next kernel is the one that is expected to tell most per second: another run in a guest that is up
costs seconds, another kernel has to be built. No guests, no files here: numbers only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Bits = NDArray[np.uint8]

CERTAIN = 0.995  # share of runs in which a failure that is always there shows
P_CERTAIN = 0.3  # how likely a failure is of that kind, beforehand; more would be rash with flaky ones
P_OLDER = 0.05  # that it is older than all suspects, beforehand; with few of them it is as likely as each is
FALSE_ALARM = 0.005  # share of runs in which a kernel without the failure seems to have it
ALIKE = 20.0  # how alike the shares of two kernels are: as if known from so many runs
_SHARES = np.arange(0.025, 1.0, 0.05)
_BATCHES = (1, 4, 16)  # numbers of runs thought of together; then one is made, and all is thought anew
_TOO_LITTLE = 1e-4  # bits: not worth a run
_BLOCK = 2**21  # numbers unpacked at once
_RIVALS = 64  # looked at together; the others have their turn when these are done with


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
    """Which kernel has which suspects in it, and so, by hypothesis, the failure.

    The last hypothesis is `older than all`, which every kernel has. Kept as bits, and unpacked in parts:
    between two releases there are 15 000 commits, and as many kernels.
    """

    bits: Bits  # kernel x byte: a bit for each hypothesis, the lowest first
    suspects: int

    @staticmethod
    def of(contains: Bools) -> Problem:
        """contains[kernel, suspect]"""
        older = np.ones((len(contains), 1), dtype=bool)
        return Problem(np.packbits(np.hstack([contains, older]), axis=1, bitorder='little'), contains.shape[1])

    @staticmethod
    def of_masks(masks: Sequence[int], suspects: int) -> Problem:
        """A number for each kernel: bit n is set if it has suspect n."""
        width, older = suspects // 8 + 1, 1 << suspects
        rows = b''.join((mask | older).to_bytes(width, 'little') for mask in masks)
        return Problem(np.frombuffer(rows, dtype=np.uint8).reshape(len(masks), width), suspects)

    @property
    def kernels(self) -> int:
        return int(self.bits.shape[0])

    @property
    def hypotheses(self) -> int:
        return self.suspects + 1

    def rows(self, kernels: Sequence[int] | slice) -> Bools:
        """Some kernels x all hypotheses."""
        return np.unpackbits(self.bits[kernels], axis=1, count=self.hypotheses, bitorder='little').astype(bool)

    def columns(self, hypotheses: Sequence[int] | NDArray[np.intp]) -> Bools:
        """All kernels x some hypotheses."""
        chosen = np.asarray(hypotheses, dtype=np.intp)
        return (self.bits[:, chosen >> 3] >> (chosen & 7).astype(np.uint8) & 1).astype(bool)

    def alike(self, kernels: Sequence[int]) -> list[list[int]]:
        """Hypotheses in groups that these kernels do not tell apart."""
        chosen = self.bits[kernels]
        groups: dict[bytes, list[int]] = {}
        step = max(1, _BLOCK // 8 // self.kernels)
        for start in range(0, chosen.shape[1], step):
            block = np.unpackbits(chosen[:, start : start + step], axis=1, bitorder='little')
            packed = np.packbits(np.ascontiguousarray(block.T), axis=1)
            for hypothesis, column in enumerate(packed[: self.hypotheses - 8 * start], 8 * start):
                groups.setdefault(column.tobytes(), []).append(hypothesis)
        return list(groups.values())

    def sums(self, values: Floats) -> Floats:
        """kernel x column: of values[hypothesis, column] over the hypotheses by which the kernel has the failure."""
        step = max(1, _BLOCK // self.hypotheses)
        starts = range(0, self.kernels, step)
        return np.concatenate([self.rows(slice(start, start + step)).astype(np.float64) @ values for start in starts])


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
        older = max(P_OLDER, 1 / problem.hypotheses)
        prior = np.full(problem.hypotheses, (1 - older) / max(1, problem.suspects))
        prior[-1] = older
        log = np.log(prior)[:, None] + np.log(_share_prior(certain))[None, :]
        if tested:
            bad = np.array([_log_runs(tallies[k].fails, tallies[k].passes) for k in tested])
            good = np.array([_log_good_runs(tallies[k].fails, tallies[k].passes) for k in tested])
            log = log + problem.rows(tested).T.astype(np.float64) @ (bad - good[:, None])
        self._certain = certain
        joint = np.exp(log - log.max())
        self._joint: Floats = joint / joint.sum()  # hypothesis x share
        self.weights: Floats = self._joint.sum(axis=1)

    def suspicions(self) -> list[Suspicion]:
        """The most likely first."""
        open_ = [number for number, tally in enumerate(self.tallies) if not tally.blocked]
        found = []
        for members in self.problem.alike(open_):
            suspects = tuple(member for member in members if member < self.problem.suspects)
            probability = float(self.weights[members].sum())
            found.append(Suspicion(suspects, len(suspects) < len(members), probability))
        return sorted(found, key=lambda suspicion: -suspicion.probability)

    def untold(self, suspicion: Suspicion) -> Bools:
        """Kernels that can tell a suspicion from a rival that no run speaks against so far. None: it is shown."""
        members = [*suspicion.suspects, *([self.problem.suspects] if suspicion.older else [])]
        own = members[0]
        tested = [number for number, tally in enumerate(self.tallies) if tally.runs]
        has = self.problem.rows(tested)
        fits = has[:, own] == np.array([self._seems_faulty(self.tallies[number]) for number in tested], dtype=bool)
        refuted = (has[fits] != has[fits][:, [own]]).any(axis=0)
        refuted[members] = True
        rivals = np.flatnonzero(~refuted)
        rivals = rivals[np.argsort(-self.weights[rivals])][:_RIVALS]
        telling = (self.problem.columns(rivals) != self.problem.columns([own])).any(axis=1)
        telling[[number for number, tally in enumerate(self.tallies) if tally.blocked]] = False
        return np.asarray(telling)

    def _seems_faulty(self, tally: Tally) -> bool:
        """What the runs of one kernel say by themselves."""
        shares = np.log(_share_prior(self._certain)) + _log_runs(tally.fails, tally.passes)
        return float(np.logaddexp.reduce(shares)) > _log_good_runs(tally.fails, tally.passes)

    def choose(self, costs: Costs, places: Floats | None = None, among: Bools | None = None) -> int | None:
        """The kernel to run next; None when none would tell anything.

        places: where each kernel is on the way from the good end (0) to the bad one (1). Those near one that
        could not be tested are tried later. among: one of these it has to be, however little it tells.
        """
        bits = self._bits()
        seconds = costs.ready[:, None] + np.array(_BATCHES)[None, :] * costs.run
        best = (bits / seconds).max(axis=1) * self._testable(places)
        if among is not None:
            best = np.where(among, best + 1e-9 / seconds[:, 0], 0.0)
        else:
            best[bits.max(axis=1) < _TOO_LITTLE] = 0.0
        best[[number for number, tally in enumerate(self.tallies) if tally.blocked]] = 0.0
        return int(best.argmax()) if best.max() > 0 else None

    def _bits(self) -> Floats:
        """kernel x batch: what so many runs are expected to say, namely whether there is a failure among them."""
        tested = [number for number, tally in enumerate(self.tallies) if tally.runs and not tally.blocked]
        weights = self.weights
        # Of all kernels that were not run yet it is the same, but for what they contain
        quiet = np.hstack([self._quiet([Tally()], runs) for runs in _BATCHES])
        columns = [weights[:, None], weights[:, None] * quiet, weights[:, None] * _entropy(quiet)]
        faulty, silent, noise = np.split(self.problem.sums(np.hstack(columns)), [1, 1 + len(_BATCHES)], axis=1)
        good = (1 - FALSE_ALARM) ** np.array(_BATCHES)
        bits = _entropy(silent + (1 - faulty) * good) - noise - (1 - faulty) * _entropy(good)
        if tested:
            has = self.problem.rows(tested).T
            for number, runs in enumerate(_BATCHES):
                own = np.where(has, self._quiet([self.tallies[kernel] for kernel in tested], runs), good[number])
                bits[tested, number] = _entropy(weights @ own) - weights @ _entropy(own)
        return np.asarray(bits)

    def _quiet(self, tallies: Sequence[Tally], runs: int) -> Floats:
        """hypothesis x tally: chance that a faulty kernel with such a tally shows nothing in so many more runs."""
        silent = [
            np.exp(_log_runs(tally.fails, tally.passes + runs) - _log_runs(tally.fails, tally.passes))
            for tally in tallies
        ]
        return np.asarray(self._joint @ np.array(silent).T / np.maximum(self.weights, 1e-300)[:, None])

    def _testable(self, places: Floats | None) -> Floats:
        """How likely each kernel can be tested, judging by those around it."""
        blocked = [number for number, tally in enumerate(self.tallies) if tally.blocked]
        if places is None or not blocked:
            return np.ones(self.problem.kernels)
        tested = [number for number, tally in enumerate(self.tallies) if tally.runs and not tally.blocked]

        def near(kernels: Sequence[int]) -> Floats:
            total = np.zeros(self.problem.kernels)
            for kernel in kernels:
                total += np.exp(-8 * np.abs(places - places[kernel]))
            return total

        fine = 0.3 + near(tested)
        return np.asarray(fine / (fine + near(blocked)), dtype=np.float64)


def healed(reference: Tally, tally: Tally, prior: float) -> float:
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
