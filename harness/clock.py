# SPDX-License-Identifier: GPL-2.0-only
"""How long each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager


class StageClock:
    """Adds up seconds per stage, in the order in which the stages first ran.

    on_start is told the name of each stage when it begins, for live progress.
    """

    def __init__(self, on_start: Callable[[str], None] | None = None) -> None:
        self._seconds: dict[str, float] = {}
        self._on_start = on_start

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self._on_start is not None:
            self._on_start(name)
        started = time.monotonic()
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._seconds[name] += time.monotonic() - started

    @property
    def seconds(self) -> Mapping[str, float]:
        return dict(self._seconds)

    def breakdown(self) -> str:
        """One line, such as `source 31.2 s, build 260.1 s; total 291.3 s`."""
        parts = ', '.join(f'{name} {seconds:.1f} s' for name, seconds in self._seconds.items())
        return f'{parts}; total {sum(self._seconds.values()):.1f} s' if parts else ''
