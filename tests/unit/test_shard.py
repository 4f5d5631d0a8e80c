# SPDX-License-Identifier: GPL-2.0-only
"""Several guests at once: who gets which check, and what becomes of the checks of the dead."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_check import HEADER, make

from harness import capacity
from harness.formats.schema import problems
from harness.shard import GuestScheduling

UNIT = Path(__file__).resolve().parent
ROOT = UNIT.parent.parent


class Node:
    """A worker as the scheduler sees it: runs an item once it has the next one, or is told that there is none."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, numbers: list[int]) -> None:
        assert not self.shutting_down
        self.queue += numbers

    def shutdown(self) -> None:
        self.shutting_down = True

    @property
    def running(self) -> int | None:
        return self.queue[0] if len(self.queue) > 1 or (self.queue and self.shutting_down) else None


class Controller:
    def __init__(self, seconds: dict[str, float], dangerous: set[str] | None = None) -> None:
        self.items = {name: (name, name in (dangerous or set())) for name in seconds}
        self.seconds = seconds
        self.began: set[str] = set()
        self.done: set[str] = set()
        self.deaths: list[str] = []

    def estimates(self) -> dict[str, float]:
        return self.seconds

    def died(self, nodeid: str, worker: str, seconds: float) -> None:
        self.began.discard(nodeid)
        self.deaths.append(nodeid)


class Lab:
    """Workers in a time of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nodes: int, seconds: dict[str, float], **more: Any) -> None:
        self.now = 0.0
        monkeypatch.setattr('harness.shard.time.monotonic', lambda: self.now)
        option = {'maxschedchunk': None, 'tx': ['popen'] * nodes}
        config: Any = SimpleNamespace(getvalue=option.get, getoption=option.get, hook=None)
        self.controller = Controller(seconds, **more)
        self.scheduling = GuestScheduling(config, self.controller)  # type: ignore[arg-type]
        self.names = list(seconds)
        self.ran: list[tuple[str, str]] = []
        self.ends: dict[Node, float] = {}
        self.given_up: list[str] = []
        self.number = 0
        for _ in range(nodes):
            self.join()
        self.scheduling.schedule()

    def join(self) -> None:
        node = Node(f'gw{self.number}')
        self.number += 1
        self.scheduling.add_node(node)
        self.scheduling.add_node_collection(node, self.names)
        if self.scheduling.collection is not None:
            self.scheduling.schedule()

    def step(self, dies: bool = False) -> bool:
        """Until the next item ends, or its worker does."""
        for node in self.scheduling.nodes:
            if node not in self.ends and node.running is not None:
                name = self.names[node.running]
                self.controller.began.add(name)
                self.ends[node] = self.now + self.controller.seconds[name]
        if not self.ends:
            return False
        node = min(self.ends, key=self.ends.__getitem__)
        self.now = self.ends.pop(node)
        if dies:
            given_up = self.scheduling.remove_node(node)
            if given_up:
                self.given_up.append(given_up)
            self.join()
            return True
        number = node.queue.pop(0)
        self.controller.done.add(self.names[number])
        self.ran.append((node.gateway.id, self.names[number]))
        self.scheduling.mark_test_complete(node, number, 1.0)
        return True

    def run(self) -> list[str]:
        while self.step():
            pass
        assert not self.scheduling.pending
        return [name for _, name in self.ran]


def test_longest_first_wastes_little(monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(7)
    seconds = {f'c{number}': chance.uniform(0.5, 20) for number in range(60)} | {'long': 100.0, 'longer': 110.0}
    lab = Lab(monkeypatch, 2, seconds)
    assert lab.scheduling.nodes[0].queue[0] == lab.names.index('longer')
    assert lab.scheduling.nodes[1].queue[0] == lab.names.index('long')
    assert sorted(lab.run()) == sorted(seconds)
    # No schedule is better than an equal share.
    assert lab.now <= 1.02 * sum(seconds.values()) / 2


def test_a_long_one_does_not_wait_behind_another(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, 2, {'a': 100.0, 'b': 90.0, 'c': 80.0, **{f's{number}': 5.0 for number in range(8)}})
    lab.run()
    # a + s..., and b + c: 170 is the best that there is
    assert lab.now <= 175


def test_dangerous_ones_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {'d1': 50.0, 'd2': 1.0, **{f'c{number}': 3.0 for number in range(9)}}
    lab = Lab(monkeypatch, 2, seconds, dangerous={'d1', 'd2'})
    order = lab.run()
    assert set(order[-2:]) == {'d1', 'd2'}


@pytest.mark.parametrize('count', [0, 1, 2, 3])
def test_fewer_than_there_are_guests(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    lab = Lab(monkeypatch, 3, {f'c{number}': 1.0 for number in range(count)})
    assert sorted(lab.run()) == [f'c{number}' for number in range(count)]
    assert all(node.shutting_down for node in lab.scheduling.nodes)


@pytest.mark.parametrize('seed', range(20))
def test_deaths_lose_nothing_and_repeat_nothing(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    chance = random.Random(seed)
    seconds = {f'c{number}': chance.uniform(0.1, 30) for number in range(40)}
    lab = Lab(monkeypatch, 3, seconds, dangerous={'c3', 'c17'})
    while lab.step(dies=chance.random() < 0.15):
        pass
    ended = Counter(name for _, name in lab.ran) + Counter(lab.given_up)
    assert ended == Counter(seconds.keys())
    assert set(lab.given_up) == {name for name, times in Counter(lab.controller.deaths).items() if times == 3}


def test_a_worker_that_dies_at_the_very_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, 2, {'a': 10.0, 'b': 1.0})
    assert lab.step()
    assert lab.step(dies=True)
    assert lab.run() == ['b', 'a']


def test_a_verdict_that_came_before_its_worker_died_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(monkeypatch, 1, {'a': 10.0, 'b': 1.0})
    assert lab.scheduling.nodes[0].running == 0
    lab.controller.began.add('a')
    lab.controller.done.add('a')  # its report has come, the news that it is over has not
    assert lab.scheduling.remove_node(lab.scheduling.nodes[0]) is None
    lab.join()
    assert lab.run() == ['b']


@pytest.mark.parametrize(
    ('cpus', 'memory', 'guests'), [(2, 1024, 4), (4, 1024, 2), (16, 1024, 1), (1, 4096, 2), (1, 100_000, 1)]
)
def test_as_many_as_fit(monkeypatch: pytest.MonkeyPatch, cpus: int, memory: int, guests: int) -> None:
    monkeypatch.setattr(capacity, 'host_cpus', lambda: 8)
    monkeypatch.setattr(capacity, 'available_mb', lambda: 12_000)
    assert capacity.guests(cpus, memory) == guests


def test_what_a_container_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, '_CGROUP', tmp_path)
    all_cpus, all_memory = capacity.host_cpus(), capacity.available_mb()
    assert all_cpus == len(os.sched_getaffinity(0))
    assert all_memory > 0
    (tmp_path / 'cpu.max').write_text('100000 100000\n')
    (tmp_path / 'memory.max').write_text(f'{300 << 20}\n')
    (tmp_path / 'memory.current').write_text(f'{100 << 20}\n')
    assert capacity.host_cpus() == 1
    assert capacity.available_mb() == 200
    (tmp_path / 'cpu.max').write_text('max 100000\n')
    (tmp_path / 'memory.max').write_text('max\n')
    assert (capacity.host_cpus(), capacity.available_mb() > 200) == (all_cpus, True)


class Session:
    """A whole pytest session with workers whose guests are scripts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process: subprocess.Popen[str] | None = None

        (root / 'Kconfig.fragment').write_text('')

    def start(self, *arguments: str, script: dict[str, list[str]] | None = None, **environment: str) -> None:
        words = ['-p', 'harness.plugin', '-p', 'fakeworker', '-p', 'no:cacheprovider', '--rootdir', str(self.root)]
        words = ['-m', 'pytest', *words, f'--confcutdir={self.root}', *arguments, 'tests/checks']
        self._start(words, script, environment)

    def start_vm_test(self, *arguments: str, script: dict[str, list[str]] | None = None, **environment: str) -> None:
        """`python -m harness vm-test`, in one process."""
        code = 'import sys, fakeworker; from harness.cli import main; sys.exit(main(sys.argv[1:]))'
        self._start(['-c', code, 'vm-test', *arguments], script, environment)

    def _start(self, words: list[str], script: dict[str, list[str]] | None, environment: dict[str, str]) -> None:
        env = {
            **os.environ, 'PYTHONPATH': f'{ROOT}:{UNIT}', 'FAKE_ROOT': str(self.root),
            'FAKE_SCRIPT': json.dumps(script or {}), 'PYTHONDONTWRITEBYTECODE': '1',
            # The machine's own, so that a test says what it means.
            'CI': '', **environment,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *words],
            cwd=self.root, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def end(self) -> tuple[int, str]:
        assert self.process is not None
        output, _ = self.process.communicate(timeout=240)
        return self.process.returncode, output

    def lines(self, name: str) -> list[list[str]]:
        file = self.root / name
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def await_lines(self, name: str, count: int) -> list[list[str]]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if len(found := self.lines(name)) >= count:
                return found
            time.sleep(0.02)
        raise AssertionError(f'{name} has only {self.lines(name)}')

    @property
    def results(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads((self.root / 'results' / 'latest' / 'results.json').read_text())
        assert problems(table) == []
        return table

    def guests_are_gone(self) -> bool:
        deadline = time.monotonic() + 20
        pids = [Path(f'/proc/{words[0]}/stat') for words in self.lines('guests')]
        assert pids
        while time.monotonic() < deadline:
            # Whoever adopts them may be slow to reap.
            if all(not stat.exists() or ') Z ' in stat.read_text() for stat in pids):
                return True
            time.sleep(0.02)
        return False


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def checks(root: Path, count: int) -> list[str]:
    for number in range(1, count + 1):
        make(root, HEADER, f'data/{number:03}')
    return [f'data/{number:03}[{section}]' for number in range(1, count + 1) for section in ('dev', 'uring')]


def test_a_campaign_with_killed_guests_and_workers(session: Session) -> None:
    keys = checks(session.root, 15)
    chance = random.Random(3)
    script: dict[str, list[str]] = {key: ['killed'] for key in chance.sample(keys[:20], 4)}
    script |= {key: ['die'] for key in chance.sample(keys[20:], 3)}
    failing = next(key for key in keys if key not in script)
    script[failing] = ['fail']
    session.start('-n', '2', script=script)
    status, output = session.end()
    assert status == 1, output
    table = session.results
    assert table['status'] == 1
    verdicts = {f'{check["name"]}[{check["section"]}]': check['verdict'] for check in table['checks']}
    assert verdicts == {key: 'fail' if key == failing else 'pass' for key in keys}
    assert len(table['checks']) == len(keys)
    again = {f'{check["name"]}[{check["section"]}]' for check in table['checks'] if 'attempts' in check}
    assert again == set(script) - {failing}
    # Each ran once, and those that were hit once more.
    runs = Counter(words[0] for words in session.lines('runs'))
    assert runs == Counter({key: 2 if key in again else 1 for key in keys})
    assert len({words[1] for words in session.lines('runs') if words[3] == 'die'}) == 3
    # Kernel, guest programs and canaries: once, and in the controller.
    assert session.process is not None
    assert session.lines('built') == session.lines('canaries') == [[str(session.process.pid)]]
    assert [canary['name'] for canary in table['canaries']] == ['warn']
    assert session.guests_are_gone()


def test_a_check_that_always_loses_is_lab_trouble(session: Session) -> None:
    keys = checks(session.root, 3)
    session.start('-n', '2', script={keys[0]: ['killed'] * 5, keys[3]: ['die'] * 5})
    status, output = session.end()
    assert status == 3, output
    table = session.results
    bad = {f'{c["name"]}[{c["section"]}]': c for c in table['checks'] if c['verdict'] != 'pass'}
    assert set(bad) == {keys[0], keys[3]}
    assert bad[keys[0]]['verdict'] == bad[keys[3]]['verdict'] == 'crash'
    assert bad[keys[0]]['reason'].startswith('lab trouble: its guest was killed 3 times')
    assert bad[keys[3]]['reason'] == 'lab trouble: the process of the harness that ran it died 3 times'
    assert [len(bad[key]['attempts']) for key in (keys[0], keys[3])] == [3, 3]
    assert table['problem'].startswith('lab trouble: 2 checks')
    assert Counter(words[0] for words in session.lines('runs'))[keys[0]] == 3


def test_one_guest_at_a_time_is_repeated_too(session: Session) -> None:
    keys = checks(session.root, 2)
    session.start(script={keys[1]: ['killed', 'killed']})
    status, output = session.end()
    assert status == 0, output
    assert [len(check.get('attempts', [])) for check in session.results['checks']] == [0, 2, 0, 0]


def test_a_kernel_that_does_not_build(session: Session) -> None:
    checks(session.root, 3)
    session.start('-n', '2', FAKE_NO_KERNEL='1')
    status, output = session.end()
    assert status == 1, output
    assert 1 <= output.count('\nverdict: the kernel does not build') <= 2  # both workers may be at their first check
    assert session.lines('runs') == []
    assert len(session.lines('built')) == 1


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGKILL])
def test_no_guest_is_left(session: Session, number: int) -> None:
    keys = checks(session.root, 4)
    session.start('-n', '2', script={key: ['wait'] for key in keys})
    session.await_lines('runs', 2)
    assert session.process is not None
    # Only the controller: its workers learn it from its end.
    session.process.send_signal(number)
    session.end()
    assert session.guests_are_gone()


def test_a_repository_without_checks_needs_no_kernel(session: Session) -> None:
    (session.root / 'tests' / 'checks').mkdir(parents=True)
    (session.root / 'tests' / 'test_x.py').write_text('def test_x():\n    pass\n')
    session.start('-n', '2', 'tests')
    status, output = session.end()
    assert status == 0, output
    assert not (session.root / 'results').exists()


def test_the_first_failure_ends_it(session: Session) -> None:
    keys = checks(session.root, 10)
    session.start('-n', '2', '-x', script={keys[0]: ['fail'], keys[1]: ['fail']})
    status, output = session.end()
    assert status == 1, output
    assert session.results['status'] == 1
    assert len(session.results['checks']) < len(keys)


def test_a_broken_check(session: Session) -> None:
    checks(session.root, 2)
    make(session.root, HEADER + 'if\n', 'data/003')
    session.start('-n', '2')
    status, output = session.end()
    assert status == pytest.ExitCode.INTERRUPTED, output
    assert 'data/003:6: syntax error' in output
    assert 'INTERNALERROR' not in output
    assert session.lines('runs') == []


def test_no_check_fits(session: Session) -> None:
    checks(session.root, 2)
    session.start('-n', '2', '--check=uring/*')
    status, output = session.end()
    assert status == pytest.ExitCode.NO_TESTS_COLLECTED, output
    assert session.lines('built') == []
