# SPDX-License-Identifier: GPL-2.0-only
"""Live progress of a run: stage, check, counts, time gone and time to go."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from harness.cache import Cache
from harness.formats.summary import counted
from harness.memo import Memo
from harness.report import COLOURS

GUESS = 1.0  # seconds for a check that was never timed


class Timings:
    """How long things took last time on this kind of guest."""

    def __init__(self, cache: Cache, kind: str) -> None:
        self._memo = Memo(cache, 'timings')
        self._kind = kind
        known = self._memo.get(kind)
        self.known: dict[str, float] = dict(known) if isinstance(known, dict) else {}

    def estimate(self, keys: Iterable[str]) -> float:
        """Seconds for what is still to do."""
        values = [value for value in self.known.values() if isinstance(value, (int, float))]
        guess = sum(values) / len(values) if values else GUESS
        return sum(self.known.get(key, guess) for key in keys)

    def save(self, new: Mapping[str, float]) -> None:
        self._memo.put({self._kind: {**self.known, **{key: round(value, 2) for key, value in new.items()}}})


class Progress:
    """Tells the user what goes on: one live line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stage = ''
        self.running: dict[str, None] = {}  # as many as there are guests
        self.guests = 1
        self.counts: dict[str, int] = {}
        self.remaining: dict[str, None] = {}
        self.total = 0
        self.timings: Timings | None = None
        self._started = time.monotonic()
        self._stage_started = self._started
        self._live: Live | None = None
        self._handlers: list[tuple[logging.StreamHandler[IO[str]], IO[str]]] = []

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=4, transient=True)
            self._live.start()
            # Log lines go above the live line, not through it.
            for handler in logging.getLogger('harness').handlers:
                if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                    self._handlers.append((handler, handler.stream))
                    handler.setStream(_Above(self.console))
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            with suppress(Exception):
                self._live.stop()
            self._live = None
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()

    def stage_started(self, name: str) -> None:
        """For StageClock's on_start."""
        self.stage, self._stage_started = name, time.monotonic()
        if self._live is None and name != 'checks':
            self.console.print(f'[{self._elapsed()}] {name}', markup=False, highlight=False)

    def plan(self, keys: Iterable[str]) -> None:
        """The checks that will run, as NAME[SECTION]."""
        self.remaining = dict.fromkeys(keys)
        self.total = len(self.remaining)

    def check_started(self, key: str) -> None:
        self.stage = 'checks'
        self.running[key] = None

    def check_done(self, key: str, verdict: str, seconds: float, reason: str) -> None:
        self.counts[verdict] = self.counts.get(verdict, 0) + 1
        self.remaining.pop(key, None)
        self.running.pop(key, None)
        if self._live is None or verdict not in ('pass', 'notrun'):
            line = Text(f'[{self._elapsed()}] {self._position()} {key} ')
            line.append(verdict, COLOURS.get(verdict, ''))
            line.append(f' {seconds:.1f} s' + (f'  {reason}' if reason else ''))
            self.console.print(line, soft_wrap=True)

    def __rich__(self) -> Text:
        text = Text(f'{self._elapsed()}  {self.stage}')
        if self.running:
            text.append(f' {" ".join(self.running)}', 'bold')
        elif self.stage:
            text.append(f' {time.monotonic() - self._stage_started:.0f} s')
        if self.total:
            text.append(f'  {self._position()}')
            for verdict, number in counted(self.counts):
                text.append(f'  {number} {verdict}', COLOURS[verdict])
            if self.timings is not None:
                text.append(f'  about {_clock(self.timings.estimate(self.remaining) / self.guests)} to go')
        return text

    def _position(self) -> str:
        return f'{self.total - len(self.remaining)}/{self.total}'

    def _elapsed(self) -> str:
        return _clock(time.monotonic() - self._started)


class _Above:
    """A stream for log lines while the live line is up."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def write(self, text: str) -> int:
        if text.strip():
            self._console.print(text.rstrip('\n'), markup=False, highlight=False)
        return len(text)

    def flush(self) -> None:
        pass


def _clock(seconds: float) -> str:
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'
