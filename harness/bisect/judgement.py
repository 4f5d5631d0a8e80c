# SPDX-License-Identifier: GPL-2.0-only
"""Runs -> what the engine counts: which of them show the failure, which do not, which say nothing."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from harness.bisect.engine import Tally
from harness.bisect.signature import APPLY, BOOT, BUILD, ELSEWHERE, Signature
from harness.bisect.state import Observation, Outcome

MAX_OTHERS = 2  # runs that say nothing, and a kernel that has no others is given up
MAX_MIXED = 6  # the same, for one that has
NOISE = 0.0005  # of a cost: what is nearer to the limit is measured again
_NEVER_UP = (Outcome.APPLY, Outcome.BUILD, Outcome.BOOT, Outcome.NOTRUN)  # always the same


class Word(enum.StrEnum):
    """What one run says about the failure that is looked for."""

    BAD = 'fails this way'
    GOOD = 'passes'
    NOTHING = 'says nothing'


class Criterion(Protocol):
    """How runs are judged."""

    def word(self, observation: Observation) -> Word:
        """What one run says."""

    def tally(self, key: str, observations: Sequence[Observation]) -> Tally:
        """What all runs of a kernel say."""

    @property
    def text(self) -> str:
        """What is looked for."""


@dataclass(frozen=True)
class FailsThisWay:
    """A run is bad if it fails as the bad kernel does; any other failure says nothing."""

    known: tuple[Signature, ...] = ()  # how the bad kernel fails; seen in its runs
    background: frozenset[str] = frozenset()  # fingerprints of what the good kernel splats, too
    any: bool = False
    item: str = ''  # the one that is looked at; others were run beside it at first

    def learn(self, bad: Sequence[Observation], good: Sequence[Observation]) -> FailsThisWay:
        """With what the runs of the two ends have shown."""
        background = frozenset(
            name for one in good if one.outcome is Outcome.SPLAT for sign in one.signatures for name in sign.splats
        )
        known: list[Signature] = []
        # A kernel that has booted once does boot: when it did not, that was another trouble.
        seen = [one for one in bad if one.outcome is not Outcome.BOOT] or list(bad)
        for observation in seen:
            for sign in self._signatures(observation):
                if not background.isdisjoint(sign.splats) or any(sign.same(other) for other in known):
                    continue
                known.append(sign)
        # A check may fail in two ways, one of them old: the other is what came between.
        old = [sign for one in good for sign in self._signatures(one)]
        new = [sign for sign in known if not any(sign.same(other) for other in old)]
        return replace(self, known=tuple(new or known), background=background)

    @property
    def _at(self) -> str:
        """build or boot, when the bad kernel gets no further."""
        places = {sign.where for sign in self.known}
        return next((place for place in (BUILD, BOOT) if places == {place}), '')

    def _signatures(self, observation: Observation) -> list[Signature]:
        """Without those of other checks and sections."""
        return [
            sign
            for sign in observation.signatures
            if not self.item or sign.where in (self.item, APPLY, BUILD, BOOT, ELSEWHERE)
        ]

    def word(self, observation: Observation) -> Word:
        mine = self._signatures(observation)
        signs = [sign for sign in mine if self.background.isdisjoint(sign.splats)]
        if any(sign.same(known) for sign in signs for known in self.known):
            return Word.BAD
        if observation.outcome is Outcome.PASS or (observation.outcome is Outcome.SPLAT and not signs):
            return Word.GOOD
        if observation.outcome is Outcome.FAIL and observation.signatures and not mine:
            return Word.GOOD  # only what is not looked at fails
        reached = {Outcome.APPLY: 0, Outcome.BUILD: 1, Outcome.BOOT: 2}.get(observation.outcome, 3)
        if self._at and reached > {BUILD: 1, BOOT: 2}[self._at]:
            return Word.GOOD
        if self.any and observation.outcome in (Outcome.FAIL, Outcome.SPLAT, Outcome.BOOT):
            return Word.BAD
        return Word.NOTHING

    def tally(self, key: str, observations: Sequence[Observation]) -> Tally:
        mine = [one for one in observations if one.kernel == key]
        words = [self.word(one) for one in mine]
        fails, passes = words.count(Word.BAD), words.count(Word.GOOD)
        others = len(words) - fails - passes
        if fails + passes:
            return Tally(fails, passes, others >= MAX_MIXED)
        never = any(one.outcome in _NEVER_UP for one in mine)
        return Tally(blocked=never or others >= MAX_OTHERS)

    @property
    def text(self) -> str:
        return 'fails in any way' if self.any else '; or '.join(sign.text for sign in self.known)


@dataclass(frozen=True)
class CostsMore:
    """A kernel is bad if it costs more than its reference by the limit."""

    limit: float  # 0.01: 1 %
    references: dict[str, str]  # kernel -> the one that it is compared with
    observations: tuple[Observation, ...] = ()  # all, for the references' costs
    what: str = ''

    def cost(self, key: str) -> tuple[float, float] | None:
        """Mean and spread (as a share of it) of all values of a kernel."""
        values = [value for one in self.observations if one.kernel == key for value in one.values]
        if not values:
            return None
        mean = statistics.fmean(values)
        return mean, (max(values) - min(values)) / mean

    def growth(self, key: str) -> tuple[float, float] | None:
        """By how much a kernel costs more than its reference, and how far that may be wrong."""
        mine, reference = self.cost(key), self.cost(self.references.get(key, ''))
        if mine is None or reference is None:
            return None
        return mine[0] / reference[0] - 1, max(NOISE, mine[1] + reference[1])

    def word(self, observation: Observation) -> Word:
        growth = self.growth(observation.kernel)
        if observation.outcome is not Outcome.COST or growth is None or abs(growth[0] - self.limit) < growth[1]:
            return Word.NOTHING
        return Word.BAD if growth[0] > self.limit else Word.GOOD

    def tally(self, key: str, observations: Sequence[Observation]) -> Tally:
        mine = [one for one in observations if one.kernel == key]
        measured = [one for one in mine if one.outcome is Outcome.COST]
        reference = [one for one in observations if one.kernel == self.references.get(key)]
        if not mine:
            # What cannot be compared need not be measured.
            return Tally(blocked=any(one.outcome is not Outcome.COST for one in reference))
        words = [self.word(one) for one in measured]
        fails, passes = words.count(Word.BAD), words.count(Word.GOOD)
        blocked = len(measured) < len(mine) or (not fails + passes and len(measured) >= MAX_OTHERS)
        return Tally(fails, passes, blocked)

    @property
    def text(self) -> str:
        return f'{self.what} grows by {100 * self.limit:g} % or more'
