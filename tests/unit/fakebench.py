# SPDX-License-Identifier: GPL-2.0-only
"""What tests of bench measure with: figures, and a place where nothing runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.bench import rows
from harness.bench.figures import Figure
from harness.bench.measure import Said
from harness.bench.rows import Side


def fsload(kind: str, ops: int, ns: int) -> str:
    return f'{kind} size=4096 depth=1 jobs=1 direct=1 ops={ops} ns={ns} verified=4096\n'


def figure(row: rows.Workload, side: Side, *values: float, subject: str = 'a', **more: Any) -> Figure:
    return Figure(row, side, subject, values, **more)


class FakePlace:
    """Answers each run with the next of its values."""

    work = '/w'
    in_guest = True

    def __init__(self, ring: bool = True, broken: Side | None = None, krpc: bool = True) -> None:
        self.runs: list[str] = []
        self._ring, self._broken, self._krpc = ring, broken, krpc

    def has_ring(self) -> bool:
        return self._ring

    def has_krpc(self) -> bool:
        return self._krpc

    def run(self, words: Sequence[str]) -> Said:
        side = Side.RING if 'ring' in words else Side.NOSPLICE if '--no-splice' in words else Side.DEV
        self.runs.append(side)
        if side is self._broken:
            return Said('', 'trouble: it died\n', 1)
        carried = 'ring' if side is Side.RING else 'dev'
        other = 'dev' if side is Side.RING else 'ring'
        text = f'evidence kernel_{carried} 0 9000\nevidence kernel_{other} 0 0\nload 0\n'
        return Said(text + fsload('randread', 4000, 40_000_000), '', 0)
