# SPDX-License-Identifier: GPL-2.0-only
"""results/history.sqlite: complete, the same however often a run is added, and never a reason to fail."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from makeresults import run_of

from harness import formats, results
from harness.errors import LabError
from harness.formats.history import Flake, History, Past
from harness.lab import REPOSITORY

KEY = ('data/001', 'dev')


@pytest.fixture(autouse=True)
def heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger('harness'), 'propagate', True)


def add(root: Path, name: str, verdict: str, **changes: str) -> History:
    history = History(root)
    history.record(run_of(root, name, (*KEY, verdict), **changes), results.read)
    return history


def runs(root: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(root / 'history.sqlite')) as db:
        return db.execute('SELECT run, verdict FROM results ORDER BY run').fetchall()


def test_earlier_runs_in_order(tmp_path: Path) -> None:
    for name, verdict, build in (
        ('r1', 'pass', 'b0'),
        ('r3', 'pass', 'b1'),
        ('r2', 'fail', 'b1'),
        ('r4', 'pass', 'b1'),
    ):
        history = add(tmp_path, name, verdict, build_id=build)
    table = results.read(tmp_path / 'r3')
    # Not itself, none that came later.
    assert history.past(table) == {KEY: [Past('r1', 'pass', 0.5, False), Past('r2', 'fail', 0.5, True)]}


def test_only_the_last_of_many(tmp_path: Path) -> None:
    for number in range(30):
        history = add(tmp_path, f'r{number:02}', 'pass')
    past = history.past(run_of(tmp_path, 'r99', (*KEY, 'pass')))[KEY]
    assert [entry.run for entry in past] == [f'r{number:02}' for number in range(10, 30)]


def test_adding_a_run_again_changes_nothing_or_replaces_it(tmp_path: Path) -> None:
    for _ in range(3):
        add(tmp_path, 'r1', 'pass')
    assert runs(tmp_path) == [('r1', 'pass')]
    add(tmp_path, 'r1', 'fail')
    assert runs(tmp_path) == [('r1', 'fail')]
    History(tmp_path).record(run_of(tmp_path, 'r1', ('data/002', 'dev', 'pass')))
    assert runs(tmp_path) == [('r1', 'pass')]


@pytest.mark.parametrize(
    ('past', 'flake', 'flaky'),
    [
        ([('pass', {}), ('pass', {})], Flake(0, 3, 0), False),
        ([('pass', {}), ('fail', {})], Flake(1, 3, 0), True),
        # Fixed by another kernel, another server or another check: no flake.
        ([('fail', {'build_id': 'b0'})], Flake(0, 1, 0), False),
        ([('fail', {'programs': 'p0'})], Flake(0, 1, 0), False),
        # It was one before.
        ([('fail', {'build_id': 'b0'}), ('pass', {'build_id': 'b0'})], Flake(0, 1, 1), True),
        # Not run is neither.
        ([('notrun', {})], Flake(0, 1, 0), False),
        # Nor is a guest that was lost.
        ([('lab', {})], Flake(0, 1, 0), False),
        # What is known to fail now and then is a flake all the same.
        ([('known', {})], Flake(1, 2, 0), True),
    ],
)
def test_flakes(tmp_path: Path, past: list[tuple[str, dict[str, str]]], flake: Flake, flaky: bool) -> None:
    for number, (verdict, changes) in enumerate(past):
        add(tmp_path, f'r{number}', verdict, **changes)
    history = add(tmp_path, 'r9', 'pass')
    found = history.flakes(results.read(tmp_path / 'r9'))[KEY]
    assert found == flake
    assert found.flaky is flaky


def test_another_check_is_no_flake(tmp_path: Path) -> None:
    add(tmp_path, 'r1', 'fail')
    table = run_of(tmp_path, 'r2', (*KEY, 'pass'))
    table['checks'][0]['digest'] = 'c2'
    History(tmp_path).record(table)
    assert History(tmp_path).flakes(table)[KEY] == Flake(0, 1, 0)


def test_page_shows_flakes(tmp_path: Path) -> None:
    for name, verdict in (('r1', 'pass'), ('r2', 'fail'), ('r3', 'pass')):
        add(tmp_path, name, verdict)
    text = formats.render('html', results.read(tmp_path / 'r3'), tmp_path / 'r3')
    assert 'data-flaky' in text
    assert '>1/3<' in text
    assert 'title="r2: fail, 0.50 s, same kernel and programs"' in text


def test_a_new_history_begins_with_the_runs_that_are_there(tmp_path: Path) -> None:
    run_of(tmp_path, 'r1', (*KEY, 'fail'))
    run_of(tmp_path, 'r2', (*KEY, 'pass'), status=None)  # still running
    (tmp_path / 'r3').mkdir()
    (tmp_path / 'r3' / 'results.json').write_text('{')
    (tmp_path / 'latest').symlink_to('r1')
    add(tmp_path, 'r4', 'pass')
    assert runs(tmp_path) == [('r1', 'fail'), ('r4', 'pass')]


def damage(path: Path, how: str) -> None:
    if how == 'junk':
        path.write_bytes(bytes(range(256)) * 64)
    elif how == 'truncated':
        path.write_bytes(path.read_bytes()[:5000])
    elif how == 'page':
        data = bytearray(path.read_bytes())
        for at in range(8192, len(data), 4096):
            data[at : at + 2000] = b'\xa5' * 2000
        path.write_bytes(data)


@pytest.mark.parametrize('how', ['junk', 'truncated', 'page'])
def test_damaged_history_is_set_aside(tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(200):
        add(tmp_path, f'r{number:03}', 'pass') if number < 3 else run_of(tmp_path, f'r{number:03}', (*KEY, 'pass'))
    with closing(sqlite3.connect(tmp_path / 'history.sqlite')) as db:
        db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    damage(tmp_path / 'history.sqlite', how)
    table = run_of(tmp_path, 'r999', (*KEY, 'pass'))
    # To read is only to warn.
    History(tmp_path).past(table)
    assert not list(tmp_path.glob('*.damaged-*'))
    History(tmp_path).record(table, results.read)
    assert 'is damaged' in caplog.text
    assert 'a new one is begun' in caplog.text
    assert [path for path in tmp_path.glob('history.sqlite.damaged-*') if path.suffix[-4:] not in ('-wal', '-shm')]
    assert len(runs(tmp_path)) == 201


def test_empty_file_is_a_new_history(tmp_path: Path) -> None:
    (tmp_path / 'history.sqlite').touch()
    add(tmp_path, 'r1', 'pass')
    assert runs(tmp_path) == [('r1', 'pass')]


def test_history_of_a_newer_harness_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path, 'r1', 'pass')
    with closing(sqlite3.connect(tmp_path / 'history.sqlite')) as db:
        db.execute('PRAGMA user_version = 99')
    with pytest.raises(LabError, match='newer harness'):
        add(tmp_path, 'r2', 'pass')
    formats.publish(results.read(tmp_path / 'r2'), tmp_path / 'r2', results.read)
    assert 'this run is not in the history' in caplog.text
    assert (tmp_path / 'r2' / 'report.html').is_file()
    assert runs(tmp_path) == [('r1', 'pass')]


def test_no_place_for_a_history_is_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / 'history.sqlite').mkdir()
    table = run_of(tmp_path, 'r1', (*KEY, 'pass'))
    formats.publish(table, tmp_path / 'r1', results.read)
    assert 'this run is not in the history' in caplog.text
    assert (tmp_path / 'r1' / 'report.html').is_file()


def test_a_run_that_is_not_over_is_not_published(tmp_path: Path) -> None:
    formats.publish(run_of(tmp_path, 'r1', (*KEY, 'pass'), status=None), tmp_path / 'r1', results.read)
    assert not (tmp_path / 'history.sqlite').exists()


_ADD = """
import sys
import threading
from pathlib import Path
from harness import results
from harness.formats.history import History
root = Path(sys.argv[1])
sys.stdin.readline()
for name in sys.argv[2:]:
    History(root).record(results.read(root / name))
"""


@pytest.mark.parametrize('start', ['none', 'there', 'damaged'])
def test_runs_at_once_lose_nothing(tmp_path: Path, start: str) -> None:
    if start != 'none':
        add(tmp_path, 'a', 'pass')
    if start == 'damaged':
        damage(tmp_path / 'history.sqlite', 'junk')
    names = [[f'r{process}-{number}' for number in range(8)] for process in range(5)]
    children = [
        subprocess.Popen(
            [sys.executable, '-c', _ADD, str(tmp_path), *mine], cwd=REPOSITORY, stdin=subprocess.PIPE, text=True
        )
        for mine in names
    ]
    every = {name for mine in names for name in mine}
    for name in every:
        run_of(tmp_path, name, (*KEY, 'pass'))
    for child in children:
        assert child.stdin is not None
        child.stdin.write('\n')
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=100)
        assert child.returncode == 0
    assert {run for run, _ in runs(tmp_path)} >= every
    assert len(list(tmp_path.glob('history.sqlite.damaged-??????????????-????'))) <= 1
    with closing(sqlite3.connect(tmp_path / 'history.sqlite')) as db:
        assert db.execute('PRAGMA integrity_check').fetchone() == ('ok',)


def test_nobody_writes_into_what_another_sets_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / 'history.sqlite').write_bytes(b'junk' * 5000)
    tables = [run_of(tmp_path, name, (*KEY, 'pass')) for name in ('r1', 'r2')]
    second = threading.Thread(target=lambda: History(tmp_path).record(tables[1]))
    set_aside = History._set_aside

    def slowly(self: History, why: str) -> None:
        if threading.current_thread() is not second:
            second.start()
            # Without the lock it would be through by then, and its run in the file that goes away.
            second.join(1.0)
        set_aside(self, why)

    monkeypatch.setattr(History, '_set_aside', slowly)
    History(tmp_path).record(tables[0])
    second.join(60.0)
    assert runs(tmp_path) == [('r1', 'pass'), ('r2', 'pass')]
