# SPDX-License-Identifier: GPL-2.0-only
"""results/history.sqlite: the verdicts of all runs, for the reports of later ones.

Nothing is lost without it: it is made from the results.json files, and made again from those still
there when it is damaged.

    runs      run, started, status, problem, kernel (build-id, or release), series, variant,
              accelerator, cpus, programs (digest of what runs in the guest)
    results   run, name, section, verdict, seconds, reason, digest (of the check)
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, LabError
from harness.verdict import state_of

log = logging.getLogger(__name__)

VERSION = 1
KEEP_RUNS = 2000
SHOWN_RUNS = 20  # per check
PATIENCE = 60.0  # seconds to wait for another run that writes
_TABLES = """
CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, started TEXT, status INTEGER, problem TEXT, kernel TEXT, series TEXT, variant TEXT,
  accelerator TEXT, cpus INTEGER, programs TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS results (
  run TEXT REFERENCES runs (run) ON DELETE CASCADE, name TEXT, section TEXT, verdict TEXT, seconds REAL, reason TEXT,
  digest TEXT, PRIMARY KEY (name, section, run)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS results_run ON results (run);
"""


@dataclass(frozen=True)
class Past:
    """A check's verdict in an earlier run."""

    run: str
    verdict: str
    seconds: float
    same: bool  # the same kernel and guest programs as in the run that is looked at


@dataclass(frozen=True)
class Flake:
    """How often a check was bad with one and the same kernel, programs and check."""

    bad: int = 0
    runs: int = 0
    elsewhere: int = 0  # other builds with which it was both good and bad

    @property
    def flaky(self) -> bool:
        return 0 < self.bad < self.runs or self.elsewhere > 0


class History:
    """One file; each call opens it anew, so that runs at the same time meet only in SQLite."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / 'history.sqlite'

    def record(self, table: dict[str, Any], read: Callable[[Path], dict[str, Any]] | None = None) -> None:
        """Add a run, or replace what was there of it. `read` reads the runs with which to begin a new history."""
        with self._locked():
            for last in (False, True):
                fresh = not self.path.exists()
                try:
                    with closing(self._open()) as db:
                        self._write(db, table, read if fresh else None)
                    return
                except sqlite3.OperationalError as error:
                    raise LabError(f'cannot write {self.path}', str(error)) from error
                except sqlite3.DatabaseError as error:
                    # NotADatabase, a damaged page, or tables that are not ours.
                    if last:
                        raise LabError(f'cannot write {self.path}', str(error)) from error
                    self._set_aside(str(error))

    def past(self, table: dict[str, Any]) -> dict[tuple[str, str], list[Past]]:
        """The last runs of each check before this one, the newest last."""
        kernel, programs = _identity(table)
        rows = self._query(
            'SELECT name, section, run, verdict, seconds, kernel, programs FROM ('
            ' SELECT results.*, runs.kernel, runs.programs,'
            '  ROW_NUMBER() OVER (PARTITION BY name, section ORDER BY run DESC) AS place'
            ' FROM results JOIN runs USING (run) WHERE run < ?'
            f') WHERE place <= {SHOWN_RUNS} ORDER BY run',
            (table['run'],),
        )
        found: dict[tuple[str, str], list[Past]] = {}
        for name, section, run, verdict, seconds, its_kernel, its_programs in rows:
            same = (its_kernel, its_programs) == (kernel, programs)
            found.setdefault((name, section), []).append(Past(run, verdict, seconds, same))
        return found

    def flakes(self, table: dict[str, Any]) -> dict[tuple[str, str], Flake]:
        """Of each check, over all runs that are known."""
        mine = _identity(table)
        digests = {(check['name'], check['section']): check.get('digest', '') for check in table['checks']}
        rows = self._query(
            'SELECT name, section, kernel, programs, digest,'
            " SUM(state = 'bad'), COUNT(*)"
            ' FROM (SELECT *, state_of(verdict, reason) AS state FROM results JOIN runs USING (run))'
            " WHERE state IN ('good', 'bad')"
            ' GROUP BY name, section, kernel, programs, digest',
            (),
        )
        found: dict[tuple[str, str], Flake] = {}
        for name, section, kernel, programs, digest, bad, runs in rows:
            key = name, section
            known = found.get(key, Flake())
            if (kernel, programs) == mine and digest == digests.get(key):
                found[key] = Flake(bad, runs, known.elsewhere)
            elif 0 < bad < runs:
                found[key] = Flake(known.bad, known.runs, known.elsewhere + 1)
        return found

    def _query(self, text: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        try:
            with closing(self._open()) as db:
                return db.execute(text, values).fetchall()
        except sqlite3.OperationalError as error:
            log.warning('no history in the report: %s: %s', self.path, error)
        except sqlite3.DatabaseError as error:
            log.warning('no history in the report: %s is damaged (%s); the next run begins a new one', self.path, error)
        return []

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=PATIENCE)
        try:
            db.execute('PRAGMA foreign_keys = ON')
            # A known failure is a failure here: what is asked is whether it fails always.
            db.create_function('state_of', 2, state_of, deterministic=True)
            # Readers and a writer do not wait for each other. Where files are shared by network SQLite
            # refuses and stays with its own way.
            db.execute('PRAGMA journal_mode = WAL')
            return db
        except BaseException:
            db.close()
            raise

    def _write(
        self, db: sqlite3.Connection, table: dict[str, Any], read: Callable[[Path], dict[str, Any]] | None
    ) -> None:
        (version,) = db.execute('PRAGMA user_version').fetchone()
        if version > VERSION:
            raise LabError(f'{self.path} is of a newer harness', hint='this run is not in it')
        (state,) = db.execute('PRAGMA quick_check(1)').fetchone()
        if state != 'ok':
            raise sqlite3.DatabaseError(state)
        db.executescript(f'{_TABLES} PRAGMA user_version = {VERSION};')
        with db:
            db.execute('BEGIN IMMEDIATE')
            if read is not None:
                for earlier in self._earlier(table['run'], read):
                    _insert(db, earlier)
            _insert(db, table)
            db.execute(f'DELETE FROM runs WHERE run NOT IN (SELECT run FROM runs ORDER BY run DESC LIMIT {KEEP_RUNS})')

    def _earlier(self, run: str, read: Callable[[Path], dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """What is there of earlier runs. A file that cannot be read is no reason to stop."""
        for path in sorted(self.path.parent.glob('*/results.json'))[-KEEP_RUNS:]:
            if path.parent.name == run or path.parent.is_symlink():
                continue
            with suppress(HarnessError):
                table = read(path)
                if table['run'] == path.parent.name and table['status'] is not None:
                    yield table

    def _set_aside(self, why: str) -> None:
        name = f'{self.path.name}.damaged-{time.strftime("%Y%m%dT%H%M%S")}-{secrets.token_hex(2)}'
        for suffix in ('', '-wal', '-shm'):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).rename(self.path.with_name(name + suffix))
        log.warning('%s is damaged (%s): kept as %s, a new one is begun', self.path, why, name)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time: nobody writes into a file that another is setting aside."""
        path = self.path.with_name('.history.lock')
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise LabError(f'cannot write {path}', str(error)) from error
        try:
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise LabError(f'{path} has been locked for {PATIENCE:.0f} s') from None
                    time.sleep(0.05)
            yield
        except OSError as error:
            raise LabError(f'cannot write {self.path}', str(error)) from error
        finally:
            os.close(descriptor)


def _insert(db: sqlite3.Connection, table: dict[str, Any]) -> None:
    kernel, programs = _identity(table)
    run = table['run']
    db.execute('DELETE FROM results WHERE run = ?', (run,))
    db.execute(
        'INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
        (run, table['started'], table['status'], table['problem'], kernel, table['kernel']['series_digest'],
         table['kernel']['variant'], table['accelerator'], table['cpus'], programs),
    )  # fmt: skip
    db.executemany(
        'INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?)',
        (
            (run, check['name'], check['section'], check['verdict'], check['seconds'], check['reason'],
             check.get('digest', ''))
            for check in table['checks']
        ),
    )  # fmt: skip


def _identity(table: dict[str, Any]) -> tuple[str, str]:
    """What makes two runs alike: kernel and guest programs. Runs of before programs were recorded have ''."""
    kernel = table['kernel']
    return kernel['build_id'] or kernel['release'] or '', (table.get('programs') or {}).get('digest', '')
