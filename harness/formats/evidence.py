# SPDX-License-Identifier: GPL-2.0-only
"""Excerpts of logs: whatever a file holds (gigabytes, one endless line, binary junk), little memory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAX_BYTES = 256 << 10  # read of one file for an excerpt
MAX_WIDTH = 1000  # characters kept of one line
_CHUNK = 1 << 20
_ESCAPES = re.compile(r'\x1b(?:\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])')
_CONTROL = re.compile(r'[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a file, fit for a terminal, XML or HTML."""

    lines: tuple[str, ...] = ()
    note: str = ''  # what is not shown, or why nothing is; empty: this is all

    @property
    def text(self) -> str:
        return '\n'.join([*self.lines, *([f'... {self.note}'] if self.note else [])])


def printable(text: str) -> str:
    """One line without terminal colours; other control characters are spelt out."""
    return _CONTROL.sub(lambda match: f'\\x{ord(match[0]):02x}', _ESCAPES.sub('', text.rstrip('\r\n')))


def inside(folder: Path, name: str) -> Path | None:
    """The file that a results.json names, unless it lies outside of the run's folder."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) else None
    except (OSError, ValueError):
        return None


def head(path: Path, lines: int) -> Excerpt:
    """The first lines."""
    return _read(path, 0, lines)


def tail(path: Path, lines: int) -> Excerpt:
    """The last lines."""
    return _read(path, -1, lines)


def around(path: Path, needle: str, lines: int) -> Excerpt:
    """The lines from the one that contains the text on, with a few before it; the last lines if none does."""
    try:
        with _open(path) as file:
            offset = _find(file, needle.encode('utf-8', 'surrogateescape'))
    except (OSError, ValueError) as error:
        return Excerpt((), f'{path} cannot be read: {error}')
    return tail(path, lines) if offset is None else _read(path, max(0, offset - 400), lines)


def of_check(folder: Path, check: Mapping[str, object], what: str, lines: int) -> Excerpt | None:
    """A file that a check left behind; None: it left none such."""
    files = check['files']
    name = files.get(what) if isinstance(files, dict) else None
    if name is None:
        return None
    path = inside(folder, str(name))
    return head(path, lines) if path else Excerpt((), f'{printable(str(name))} lies outside of the run')


def join(parts: Iterable[str], limit: int) -> str:
    """All in one text of at most so many characters; the head counts."""
    text = '\n'.join(part for part in parts if part)
    return text if len(text) <= limit else text[: limit - 4] + '\n...'


def _open(path: Path) -> IO[bytes]:
    # Not a pipe or device, of which a read might never end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError('not a regular file')
    return os.fdopen(descriptor, 'rb', buffering=0)


def _find(file: IO[bytes], needle: bytes) -> int | None:
    if not needle:
        return None
    before, position = b'', 0
    while chunk := file.read(_CHUNK):
        data = before + chunk
        found = data.find(needle)
        if found >= 0:
            return position - len(before) + found
        position += len(chunk)
        before = data[-len(needle) + 1 :] if len(needle) > 1 else b''
    return None


def _read(path: Path, offset: int, lines: int) -> Excerpt:
    """From this offset on; -1: the end."""
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            last = offset < 0
            start = max(0, size - MAX_BYTES) if last else offset
            file.seek(start)
            data = file.read(MAX_BYTES)
    except (OSError, ValueError) as error:
        return Excerpt((), f'{path} cannot be read: {error}')
    every = data.decode('utf-8', 'replace').split('\n')
    if every[-1] == '':
        every.pop()
    if start and len(every) > 1:
        every.pop(0)  # it began somewhere in its middle
    kept = every[-lines:] if last else every[:lines]
    missing = len(every) - len(kept)
    whole = start == 0 and len(data) >= size
    note = ''
    if not whole:
        note = f'{size / 2**20:.1f} MiB in all: {path}'
    elif missing:
        note = f'{missing} lines more in {path}'
    return Excerpt(tuple(_narrow(line) for line in kept), note)


def _narrow(line: str) -> str:
    if len(line) <= MAX_WIDTH:
        return printable(line)
    return f'{printable(line[:MAX_WIDTH])} ... ({len(line)} characters)'
