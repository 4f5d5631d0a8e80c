# SPDX-License-Identifier: GPL-2.0-only
"""Whatever a guest prints, and how much of it: bounded memory and disk, and what matters is still seen."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakeguest import FakeKeeper, Script, report
from test_check import make
from test_machine import machine

from harness import machine as machine_module
from harness import results
from harness.allowlist import AllowList
from harness.check import parse
from harness.console import Event, Kind, Parser
from harness.execute import MAX_OUTPUT, run_check
from harness.symbolise import Symboliser
from harness.verdict import MAX_DIFF, CheckResult, Verdict, compare

ROOT = Path(__file__).resolve().parent.parent.parent
LOG = 64 << 10  # instead of 64 MiB
# In a process of its own, for its peak of memory.
PROGRAM = """
import json, os, resource, sys
from pathlib import Path
from harness import machine
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
folder, script, machine.MAX_LOG = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
before = peak()
one = machine.Machine(['/bin/sh', '-c', script], folder, folder / 'console.log', os.environ)
assert one.wait(lambda: not one.alive, 500)
one.stop()
last = [e.line for e in one.events if e.line.startswith('WARNING')][-1:]
print(json.dumps({'grown': peak() - before, 'peak': peak(), 'read': one.offset, 'events': len(one.events),
                  'last': last, 'log': (folder / 'console.log').stat().st_size}))
"""
END = 'echo; echo "[    9.000000] WARNING: CPU: 1 at the-end.c:1"; echo "[    9.000001]  the_end+0x1/0x2"'


def drown(folder: Path, script: str, limit: int = LOG) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM, str(folder), f'{script}; {END}', str(limit)],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=580,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ('script', 'size'),
    [
        ("head -c 8M /dev/zero | tr '\\0' a", 8 << 20),
        ('head -c 8M /dev/zero', 8 << 20),
        ('head -c 2M /dev/urandom', 2 << 20),
        ('yes "$(printf \'\\033[31mred\\033[0m \\033]0;title\\007\')" | head -c 2M', 2 << 20),
        ('yes "$(printf \'a%.0s\' $(seq 1900))" | head -c 2M', 2 << 20),
        ('yes "[    1.000000] fuse: this kernel prints without end" | head -c 2M', 2 << 20),
        ('yes "$(printf \'\\r\')" | head -c 128K', 128 << 10),
    ],
    ids=['endless line', 'zeros', 'binary', 'escapes', 'long lines', 'lines', 'returns'],
)
def test_junk_takes_no_memory_and_hides_nothing(tmp_path: Path, script: str, size: int) -> None:
    found = drown(tmp_path, script)
    assert found['read'] >= size
    assert found['grown'] < 24  # MiB
    assert found['last'] == ['WARNING: CPU: 1 at the-end.c:1']
    assert found['log'] < LOG + (64 << 10)
    text = (tmp_path / 'console.log').read_bytes()
    assert b'console log cut after 0.0625 MiB; events are still read' in text
    # An excerpt of the end is an excerpt of what matters.
    assert b'MiB left out; the end:' in text
    assert text.rstrip().endswith(b'the_end+0x1/0x2')


def test_complaints_without_end(tmp_path: Path) -> None:
    """Each another one: as many as a program prints, not as a kernel does."""
    script = (
        "awk 'BEGIN { for (i = 0; i < 4000; i++) printf "
        '"[    1.000000] WARNING: CPU: 0 at x.c:1\\n[    1.000000]  f%d+0x1/0x2\\n", i }\''
    )
    found = drown(tmp_path, script)
    assert found['events'] == machine_module.MAX_EVENTS
    assert found['grown'] < 32


def test_traces_are_kept_as_far_as_there_is_room(tmp_path: Path) -> None:
    one = machine(tmp_path, 'exec sleep 1000')
    try:
        trace = ('x' * 2000,) * 200
        one._keep([Event(Kind.WARN, f'WARNING {number}', trace, 0, 1, str(number)) for number in range(100)])
        assert len(one.events) == 100
        assert one.events[0].trace == trace
        assert one.events[-1].trace == ()
        assert sum(len(line) for event in one.events for line in event.trace) <= machine_module.MAX_TRACES
    finally:
        one.stop()


def test_a_log_that_fits_is_whole(tmp_path: Path) -> None:
    found = drown(tmp_path, 'echo hello')
    text = (tmp_path / 'console.log').read_bytes()
    assert len(text) == found['read'] == found['log']
    assert b'left out' not in text


@pytest.mark.parametrize('unit', ['abc_', 'hlist_', 'BUG: KASAN: ', '[    1.000000]', '\x1b[', 'f+0x', ' [a'])
def test_no_line_takes_long(unit: str) -> None:
    """The longest lines, in the midst of a report: quadratic searches would take minutes."""
    line = unit * (3000 // len(unit))
    text = f'[    1.000000] BUG: x\n{f"{line}" + chr(10)}'.encode() * 60
    parser = Parser()
    events = parser.feed(text) + parser.close()
    assert len(events) <= 60 * 220
    Symboliser(None).lines([line] * 60)


def test_output_without_end_is_a_failure_of_bounded_size(tmp_path: Path) -> None:
    script = Script(stdout=b'junk\n' * (3 * MAX_OUTPUT // 5), stderr=report())
    keeper: Any = FakeKeeper(tmp_path, {'data/001[dev]': script})
    result = run_check(keeper, parse(make(tmp_path)), 'dev', AllowList())
    assert result.verdict is Verdict.FAIL
    assert len(result.output) == MAX_OUTPUT
    assert len(result.diff.splitlines()) == MAX_DIFF + 1


def test_one_line_without_end_in_the_output() -> None:
    diff = compare('001', b'ok\n', b'a' * (4 << 20))
    assert len(diff) < 10_000


def test_results_name_so_many_complaints(tmp_path: Path) -> None:
    events = tuple(Event(Kind.WARN, f'WARNING {number}', (), 0, 1, str(number)) for number in range(2000))
    result = CheckResult('data/001', 'dev', Verdict.CRASH, 1.0, 'WARN: x', events=events, excused=events)
    entry = results.check_dict(result, {}, 'make')
    assert len(entry['events']) == len(entry['excused']) == results.MAX_EVENTS
