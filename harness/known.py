# SPDX-License-Identifier: GPL-2.0-only
"""Tests known to fail on a base in a section, and tests left out there: tests/known-failures/BASE/SECTION.toml.

Who uses this lab as it is has a folder of the same kind beside (`--known DIR`): it comes first, and only
what is in it has to be up to date then.

[[fails]]
test = 'generic/123'        # AREA/NNN, or a pattern
reason = 'tmpfs below has no such attribute'
evidence = 'fails the same over /dev/fuse of 6.12 without the series'   # or a link
expires = 2027-06-30        # the last day on which it holds
flaky = true                # optional: passes now and then

[[exclude]]                 # not run at all: what would take the guest down, or an hour
test = 'generic/456'
...

A known failure fails (verdict `fail`, no crash, no hang) without failing the run. An entry that has
expired holds no longer; one whose test passes is out of date. Both are reported and fail in CI.
"""

from __future__ import annotations

import datetime
import fnmatch
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.image import KernelImage
from harness.verdict import Verdict

FOLDER = Path('tests') / 'known-failures'
EXCLUDED = 'excluded: '  # begins the reason of a test that was left out

_KEYS = {'test', 'reason', 'evidence', 'expires'}


@dataclass(frozen=True)
class Entry:
    """One test, or several of a pattern."""

    test: str
    reason: str
    evidence: str
    expires: datetime.date
    flaky: bool = False

    def holds(self, today: datetime.date) -> bool:
        return today <= self.expires

    def covers(self, name: str) -> bool:
        return fnmatch.fnmatchcase(name, self.test)


@dataclass(frozen=True)
class Known:
    """One file. Nothing is known of a base without one."""

    fails: tuple[Entry, ...] = ()
    excluded: tuple[Entry, ...] = ()
    today: datetime.date = datetime.date.max
    behind: Known | None = None  # asked after this one; others keep it

    def exclusion(self, name: str) -> Entry | None:
        """Why a test is not to be run."""
        return self._find(self.excluded, name) or (self.behind.exclusion(name) if self.behind else None)

    def excuse(self, name: str, verdict: str) -> Entry | None:
        """Why a test that fails does not fail the run."""
        if verdict != Verdict.FAIL:
            return None
        return self._find(self.fails, name) or (self.behind.excuse(name, verdict) if self.behind else None)

    def stale(self, verdicts: Mapping[str, str]) -> list[str]:
        """What to mend in the file, given how the tests of the run ended, by name."""
        found = [
            f'{entry.test}: expired on {entry.expires} ({entry.reason})'
            for entry in (*self.fails, *self.excluded)
            if not entry.holds(self.today) and any(entry.covers(name) for name in verdicts)
        ]
        for entry in self.fails:
            mine = [verdict for name, verdict in verdicts.items() if entry.covers(name)]
            ran = [verdict for verdict in mine if verdict != Verdict.NOTRUN]
            if ran and not entry.flaky and entry.holds(self.today) and all(each == Verdict.PASS for each in ran):
                found.append(f'{entry.test}: fails no longer ({entry.reason})')
        return found

    def _find(self, entries: Iterable[Entry], name: str) -> Entry | None:
        return next((entry for entry in entries if entry.holds(self.today) and entry.covers(name)), None)


def base_of(kernel: KernelImage) -> str:
    """6.12 of 6.12.117-fl-0123; empty when the release is not known."""
    match = re.match(r'\d+\.\d+', kernel.release or '')
    return match[0] if match else ''


def of(root: Path, own: Path | None, base: str, section: str) -> Known:
    """What is known of a section; `own` is the user's folder. UsageError when that is none."""
    ours = load(root / FOLDER / base / f'{section}.toml')
    if own is None:
        return ours
    if not own.is_dir():
        raise UsageError(f'{own}: no such folder', hint='KNOWN= takes a folder with BASE/SECTION.toml: 6.12/uring.toml')
    return replace(load(own / base / f'{section}.toml'), behind=ours)


def load(path: Path, today: datetime.date | None = None) -> Known:
    """Read one file; UsageError says which entry is wrong and how."""
    today = today or datetime.datetime.now(datetime.UTC).date()
    if not path.exists():
        return Known(today=today)
    try:
        table = tomllib.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UsageError(f'{path}: cannot be read: {error}') from error
    unknown = set(table) - {'fails', 'exclude'}
    if unknown:
        raise UsageError(f'{path}: [[{min(unknown)}]]: only [[fails]] and [[exclude]] are known')
    return Known(_entries(path, table, 'fails', {'flaky'}), _entries(path, table, 'exclude', set()), today)


def _entries(path: Path, table: dict[str, Any], kind: str, more: set[str]) -> tuple[Entry, ...]:
    raw = table.get(kind, [])
    if not isinstance(raw, list):
        raise UsageError(f'{path}: {kind}: entries begin with [[{kind}]]')
    return tuple(_entry(f'{path}: [[{kind}]] {number}', each, more) for number, each in enumerate(raw, 1))


def _entry(where: str, raw: dict[str, Any], more: set[str]) -> Entry:
    missing, unknown = _KEYS - set(raw), set(raw) - _KEYS - more
    if missing or unknown:
        wrong = [f'{name} is missing' for name in sorted(missing)] + [f'unknown key {name}' for name in sorted(unknown)]
        raise UsageError(f'{where}: {", ".join(wrong)}')
    for name in ('test', 'reason', 'evidence'):
        if not isinstance(raw[name], str) or not raw[name].strip():
            raise UsageError(f'{where}: {name} is empty')
    if not re.fullmatch(r'[a-z]+/[0-9*?\[\]-]+', raw['test']):
        raise UsageError(f'{where}: {raw["test"]!r} names no tests (AREA/NNN, or a pattern as data/*)')
    if not isinstance(raw['expires'], datetime.date) or isinstance(raw['expires'], datetime.datetime):
        raise UsageError(f'{where}: needs a date in `expires` (such as 2027-06-30)')
    if not isinstance(raw.get('flaky', False), bool):
        raise UsageError(f'{where}: flaky is true or false')
    return Entry(**{name: value for name, value in raw.items() if name in _KEYS | {'flaky'}})
