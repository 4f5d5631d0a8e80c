# SPDX-License-Identifier: GPL-2.0-only
"""Console events that are known and accepted, each with a reason and a day on which that ends.

[[allow]]
pattern = 'possible circular locking .* kernfs'   # regular expression, searched in the report
kind = 'lockdep'                                   # optional
reason = 'upstream, fixed by commit 0123456789ab'
expires = 2027-06-30
"""

from __future__ import annotations

import datetime
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from harness.console import Event, Kind
from harness.errors import UsageError


@dataclass(frozen=True)
class Allowance:
    """One accepted complaint."""

    pattern: re.Pattern[str]
    reason: str
    expires: datetime.date
    kind: Kind | None = None

    def covers(self, event: Event) -> bool:
        """Whether it speaks of this event, expired or not."""
        if self.kind is not None and self.kind != event.kind:
            return False
        return bool(self.pattern.search(event.line) or self.pattern.search('\n'.join(event.trace)))


@dataclass(frozen=True)
class AllowList:
    """All of them; an expired one no longer excuses anything."""

    entries: tuple[Allowance, ...] = ()
    today: datetime.date = datetime.date.max

    def excuse(self, event: Event) -> Allowance | None:
        """The entry that excuses this event."""
        return next((e for e in self.entries if e.expires >= self.today and e.covers(event)), None)

    def expired(self) -> tuple[Allowance, ...]:
        """Entries to renew or remove."""
        return tuple(entry for entry in self.entries if entry.expires < self.today)


def load(path: Path, today: datetime.date | None = None) -> AllowList:
    """Read the file; none means nothing is excused."""
    today = today or datetime.datetime.now(datetime.UTC).date()
    if not path.exists():
        return AllowList((), today)
    try:
        table = tomllib.loads(path.read_text(encoding='utf-8'))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f'{path}: not TOML: {error}') from error
    return AllowList(tuple(_entry(path, number, raw) for number, raw in enumerate(table.get('allow', []), 1)), today)


def _entry(path: Path, number: int, raw: dict[str, object]) -> Allowance:
    where = f'{path}: entry {number}'
    pattern, reason, expires = raw.get('pattern'), raw.get('reason'), raw.get('expires')
    if not isinstance(pattern, str) or not isinstance(reason, str) or not reason.strip():
        raise UsageError(f'{where}: needs a pattern and a reason')
    if not isinstance(expires, datetime.date) or isinstance(expires, datetime.datetime):
        raise UsageError(f'{where}: needs a date in `expires` (such as 2027-06-30)')
    unknown = set(raw) - {'pattern', 'reason', 'expires', 'kind'}
    if unknown:
        raise UsageError(f'{where}: unknown key {", ".join(sorted(unknown))}')
    try:
        kind = Kind(str(raw['kind'])) if 'kind' in raw else None
        return Allowance(re.compile(pattern), reason, expires, kind)
    except (ValueError, re.error) as error:
        raise UsageError(f'{where}: {error}') from error
