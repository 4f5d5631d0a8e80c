# SPDX-License-Identifier: GPL-2.0-only
"""Measured values -> rows of the result. Pure functions."""

from __future__ import annotations

import enum
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.bench.rows import Goal, Measure, Side, Workload


class State(enum.StrEnum):
    MEASURED = 'measured'
    NOTRUN = 'notrun'  # what it needs is not there
    FAILED = 'failed'  # it went wrong, or the requests did not go the way they should have


@dataclass(frozen=True)
class Figure:
    """One workload on one side of one subject: the values of all its rounds."""

    workload: Workload
    side: Side
    subject: str  # a or b
    values: tuple[float, ...] = ()  # in the workload's unit
    proof: str = ''
    state: State = State.MEASURED
    reason: str = ''

    @property
    def value(self) -> float | None:
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self) -> float | None:
        return spread_of(self.values)


@dataclass(frozen=True)
class Row:
    """Two figures side by side."""

    workload: Workload
    a: Figure
    b: Figure | None
    a_what: str
    b_what: str
    goal: Goal | None
    others: tuple[Figure, ...] = ()  # further sides, only shown

    @property
    def state(self) -> State:
        states = {figure.state for figure in (self.a, self.b, *self.others) if figure is not None}
        return next((state for state in (State.FAILED, State.NOTRUN) if state in states), State.MEASURED)

    @property
    def reason(self) -> str:
        figures = [figure for figure in (self.a, self.b, *self.others) if figure is not None]
        bad = [figure for figure in figures if figure.state is self.state and figure.reason]
        return '; '.join(dict.fromkeys(f'{figure.side.label}: {figure.reason}' for figure in bad))

    @property
    def ratios(self) -> tuple[float, ...]:
        """For each round, where the two sides took turns; of the medians for what repeats exactly."""
        if self.b is None or not self.a.values or not self.b.values:
            return ()
        if self.workload.measure is Measure.COST:
            return (statistics.median(self.a.values) / statistics.median(self.b.values),)
        return tuple(a / b for a, b in zip(self.a.values, self.b.values, strict=False))

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def spread(self) -> float | None:
        """Of the ratios; of the worse of both sides for what repeats exactly."""
        if self.workload.measure is not Measure.COST:
            return spread_of(self.ratios)
        spreads = [figure.spread for figure in (self.a, self.b) if figure is not None and figure.spread is not None]
        return max(spreads, default=None)

    @property
    def met(self) -> bool | None:
        """None: nothing to say."""
        value, ratio = self.a.value, self.ratio
        if self.goal is None or value is None or (self.goal.figure == 'ratio' and ratio is None):
            return None
        return self.goal.met(value, ratio or 0.0, self.spread or 0.0)


def spread_of(values: Sequence[float]) -> float | None:
    """Distance of the largest and the smallest, as a part of the median. None below two values."""
    if len(values) < 2:
        return None
    return (max(values) - min(values)) / statistics.median(values)


def rows_of(figures: Iterable[Figure], beside: bool, kernels: bool = True) -> list[Row]:
    """Rows of the result, in the figures' order.

    beside: two kernels (`kernels`) or servers side by side.
    """
    by_workload: dict[Workload, list[Figure]] = {}
    for figure in figures:
        by_workload.setdefault(figure.workload, []).append(figure)
    rows: list[Row] = []
    for workload, mine in by_workload.items():
        if beside:
            rows += _beside(workload, mine, kernels)
        elif workload.against:
            rows += _against(workload, mine)
        else:
            rows.append(_sides(workload, mine))
    return rows


def _sides(workload: Workload, figures: Sequence[Figure]) -> Row:
    """The ring against the device: against the cheaper of its two ways."""
    by_side = {figure.side: figure for figure in figures}
    ring = by_side.get(Side.RING) or _missing(workload, Side.RING)
    devices = [by_side.get(side) or _missing(workload, side) for side in workload.sides if side is not Side.RING]
    known = [figure for figure in devices if figure.value is not None]
    best = min(known, key=lambda figure: figure.value or 0.0) if known else devices[0]
    others = tuple(figure for figure in devices if figure is not best)
    return Row(workload, ring, best, ring.side.label, best.side.label, workload.goal, others)


def _against(workload: Workload, figures: Sequence[Figure]) -> list[Row]:
    """The row's own side against each of the others."""
    by_side = {figure.side: figure for figure in figures}
    own = by_side.get(workload.own) or _missing(workload, workload.own)
    others = [(by_side.get(side) or _missing(workload, side), goal) for side, goal in workload.against]
    return [Row(workload, own, other, own.side.label, other.side.label, goal) for other, goal in others]


def _missing(workload: Workload, side: Side) -> Figure:
    """The run was ended before this."""
    return Figure(workload, side, 'a', state=State.NOTRUN, reason='the run ended before')


def _beside(workload: Workload, figures: Sequence[Figure], kernels: bool) -> list[Row]:
    rows = []
    for side in workload.sides:
        pair = {figure.subject: figure for figure in figures if figure.side is side}
        if 'a' in pair:
            # Only our kernel's ring is to be better; anything else is not to be worse.
            goal = workload.beside if side is Side.RING and kernels else _not_worse(workload.beside)
            rows.append(Row(workload, pair['a'], pair.get('b'), f'a, {side.label}', f'b, {side.label}', goal))
    return rows


def _not_worse(goal: Goal) -> Goal:
    return Goal(1.0, 'ratio', goal.at_least, within_spread=True)
