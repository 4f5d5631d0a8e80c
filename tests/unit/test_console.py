# SPDX-License-Identifier: GPL-2.0-only
"""The console parser on logs recorded in guests (tests/unit/console), whole, cut and mixed."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import pytest

from harness.console import MAX_SAME, MAX_TRACE, Event, Kind, Parser, fingerprint, parse

LOGS = Path(__file__).parent / 'console'

# Recorded log -> kinds in it, in order.
RECORDED = {
    'warn': [Kind.WARN],
    'ubsan': [Kind.UBSAN],
    'refcount': [Kind.REFCOUNT],
    'atomic': [Kind.BUG],
    'list': [Kind.LIST],
    'oops': [Kind.OOPS],
    'bug': [Kind.BUG],
    'hung': [Kind.HUNG_TASK],
    'spin': [Kind.SOFT_LOCKUP, Kind.RCU_STALL],
    'slab': [Kind.SLAB, Kind.WARN],
    'kasan': [Kind.KASAN],
    'lockdep': [Kind.LOCKDEP],
    'leak': [Kind.LEAK],
    'panic': [Kind.PANIC],
    'reboot': [Kind.REBOOT],
    'two-cpus': [Kind.WARN, Kind.WARN, Kind.WARN, Kind.BUG],
}


def log(name: str) -> bytes:
    return (LOGS / f'{name}.log').read_bytes()


def kinds(events: list[Event]) -> list[Kind]:
    return [event.kind for event in events]


def test_every_log_is_expected() -> None:
    assert {path.stem for path in LOGS.glob('*.log')} == set(RECORDED)


@pytest.mark.parametrize('name', RECORDED)
def test_recorded(name: str) -> None:
    events = parse(log(name))
    assert kinds(events) == RECORDED[name]
    assert not any(event.truncated for event in events)


@pytest.mark.parametrize('name', RECORDED)
def test_bytes_one_by_one(name: str) -> None:
    whole = parse(log(name))
    parser = Parser()
    events: list[Event] = []
    for byte in log(name):
        events += parser.feed(bytes([byte]))
    assert events + parser.close() == whole


@pytest.mark.parametrize('name', [name for name in RECORDED if name not in ('leak', 'reboot', 'panic')])
def test_offsets_point_at_the_report(name: str) -> None:
    data = log(name)
    for event in parse(data):
        assert event.line.encode() in data[event.start : event.end]
        assert data[event.end - 1 : event.end] == b'\n'


@pytest.mark.parametrize('name', ['oops', 'kasan', 'lockdep', 'hung', 'spin', 'warn', 'bug', 'ubsan', 'list'])
@pytest.mark.parametrize('part', [0.3, 0.5, 0.7, 0.9])
def test_cut_off(name: str, part: float) -> None:
    data = log(name)
    first = parse(data)[0]
    begins = data.index(first.line.encode()) + len(first.line) + 1
    events = parse(data[: begins + int((first.end - begins) * part)])
    assert kinds(events)[:1] == [first.kind]
    assert events[0].line == first.line


def test_cut_off_before_the_reason_is_named() -> None:
    data = log('warn')
    cut = data[: data.index(b'WARNING: ')]
    (event,) = parse(cut)
    assert event.kind is Kind.WARN
    assert event.truncated


def test_cut_within_a_report_says_so() -> None:
    data = log('oops')
    (event,) = parse(data[: data.index(b'Call Trace')])
    assert event.kind is Kind.OOPS
    assert event.truncated


@pytest.mark.parametrize(('one', 'other'), [('oops', 'kasan'), ('warn', 'lockdep'), ('hung', 'ubsan'), ('bug', 'slab')])
def test_two_cpus_line_by_line(one: str, other: str) -> None:
    def lines(name: str, caller: bytes) -> list[bytes]:
        text = re.sub(rb'(?m)^(\[ *\d+\.\d+\])\[[^\]]*\]', rb'\1[%b]' % caller, log(name))
        return [line for line in text.splitlines(keepends=True) if b'fuse-lab:' not in line]

    first, second = lines(one, b'   T11'), lines(other, b'   T22')
    mixed = b''
    while first or second:
        mixed += first.pop(0) if first else b''
        mixed += second.pop(0) if second else b''
    events = parse(mixed)
    assert sorted(kinds(events)) == sorted(RECORDED[one] + RECORDED[other])
    # and each has its own trace, not the other's
    apart = {event.kind: event.fingerprint for name in (one, other) for event in parse(log(name))}
    assert {event.kind: event.fingerprint for event in events} == apart


def test_two_cpus_within_one_line() -> None:
    text = b'[    1.000001][   T10] nothing to see[    1.000002][   T11] BUG: KASAN: use-after-free in f+0x1/0x2\n'
    assert kinds(parse(text)) == [Kind.KASAN]


@pytest.mark.parametrize(
    'change',
    [
        lambda data: re.sub(rb'(?m)^\[[^\]]*\]\[[^\]]*\] ', b'', data),
        lambda data: re.sub(rb'(?m)^(\[[^\]]*\])\[[^\]]*\]', rb'\1', data),
        lambda data: re.sub(rb'(?m)^', b'<4>', data),
        lambda data: re.sub(rb'(?m)^(\[[^\]]*\])(\[[^\]]*\])', rb'\1 \2', data),
        lambda data: data.replace(b'\n', b'\r\n'),
        lambda data: data.replace(b'\n', b'\r\r\n'),
        lambda data: re.sub(rb'(?m)^', b'\x1b[1;31m', data).replace(b'\n', b'\x1b[0m\n'),
        lambda data: re.sub(rb'(?m)^', b'\x00\x07', data),
    ],
    ids=['bare', 'no caller', 'level', 'spaced', 'crlf', 'crcrlf', 'ansi', 'control bytes'],
)
@pytest.mark.parametrize('name', ['oops', 'kasan', 'lockdep', 'hung', 'ubsan', 'warn', 'bug', 'refcount'])
def test_prefixes(name: str, change: object) -> None:
    assert callable(change)
    events = parse(change(log(name)))
    assert kinds(events) == RECORDED[name]
    assert events[0].fingerprint == parse(log(name))[0].fingerprint


@pytest.mark.parametrize(
    ('line', 'kind'),
    [
        ('BUG: KCSAN: data-race in fuse_get_req / fuse_put_request', Kind.KCSAN),
        ('Oops: general protection fault, probably for non-canonical address 0xdead000000000122: 0000', Kind.OOPS),
        ('general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] SMP', Kind.OOPS),
        ('BUG: unable to handle page fault for address: ffffc90000a3f000', Kind.OOPS),
        ('watchdog: Watchdog detected hard LOCKUP on cpu 1', Kind.HARD_LOCKUP),
        ('BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 45s!', Kind.WORKQUEUE),
        ('BUG: Bad page state in process mirrorfs  pfn:0a1b2', Kind.BAD_PAGE),
        ('BUG: Bad rss-counter state mm:00000000a1 type:MM_ANONPAGES val:1', Kind.BAD_PAGE),
        ('BUG fuse_request (Not tainted): Objects remaining in fuse_request on __kmem_cache_shutdown()', Kind.LEAK),
        ('VFS: Busy inodes after unmount of fuse (fuse)', Kind.LEAK),
        ('BUG: scheduling while atomic: mirrorfs/120/0x00000002', Kind.BUG),
        ('list_add corruption. next->prev should be prev (ffff), but was 0000. (next=ffff).', Kind.LIST),
        ('slab: double free detected in cache', None),
        ('rcu: INFO: rcu_sched detected stalls on CPUs/tasks:', Kind.RCU_STALL),
        ('rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-...D } 21 jiffies', Kind.RCU_STALL),
        ('INFO: task fsprobe:311 blocked in I/O wait for more than 30 seconds.', Kind.HUNG_TASK),
        ('INFO: task fsprobe:311 is blocked on a mutex likely owned by task mirrorfs:300.', None),
        ('WARNING: suspicious RCU usage', Kind.LOCKDEP),
        ('WARNING: inconsistent lock state', Kind.LOCKDEP),
        ('WARNING: HARDIRQ-safe -> HARDIRQ-unsafe lock order detected', Kind.LOCKDEP),
        ('WARNING: bad unlock balance detected!', Kind.LOCKDEP),
        ('WARNING: fs/fuse/dev.c:123 at fuse_request_end+0x10/0x20, CPU#1: mirrorfs/120', Kind.WARN),
        ('kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)', Kind.LEAK),
        ('traps: fsprobe[123] general protection fault ip:401000 sp:7ffe error:0 in fsprobe', None),
        ('fsprobe[123]: segfault at 0 ip 0000000000401000 sp 00007ffe error 4 in fsprobe', None),
        ('sysrq: Show Blocked State', None),
        ('Spectre V2 : WARNING: Unprivileged eBPF is enabled', None),
        ('ACPI BIOS Warning (bug): Optional FADT field', None),
        ('fuse-lab: guest up', None),
        ('random: crng init done', None),
    ],
)
def test_one_line(line: str, kind: Kind | None) -> None:
    text = f'[    5.123456][  T120] {line}\n'.encode()
    assert kinds(parse(text)) == ([kind] if kind else [])


def mark(what: str, check: str = 'uring/007', section: str = 'uring') -> bytes:
    return f'[    1.000000][   T99] fuse-lab: check {check} section {section} {what}\n'.encode()


WARNING = b'[    2.000000][   T55] WARNING: CPU: 0 PID: 55 at fs/fuse/dev.c:1 f+0x1/0x2\n[    2.1][   T55]  f+0x1/0x2\n'


def test_belongs_to_the_running_check() -> None:
    (event,) = parse(mark('begin') + WARNING + mark('end'))
    assert (event.check, event.section, event.after) == ('uring/007', 'uring', False)


def test_before_any_check() -> None:
    (event,) = parse(WARNING + mark('begin'))
    assert (event.check, event.after) == ('', False)


def test_after_the_check() -> None:
    (event,) = parse(mark('begin') + mark('end') + WARNING)
    assert (event.check, event.section, event.after) == ('uring/007', 'uring', True)


def test_begun_in_one_check_and_ended_in_the_next() -> None:
    first, second = WARNING.splitlines(keepends=True)
    (event,) = parse(mark('begin') + first + mark('end') + mark('begin', 'data/001') + second)
    assert event.check == 'uring/007'


def test_a_check_that_runs_checks_itself() -> None:
    inner = mark('begin', 'self/001') + WARNING + mark('end', 'self/001')
    first, second = parse(mark('begin') + inner + WARNING.replace(b'f+', b'g+') + mark('end'))
    assert first.check == second.check == 'uring/007'
    assert not second.after


def test_end_mark_lost() -> None:
    parser = Parser()
    parser.feed(mark('begin'))
    parser.check_over()
    parser.feed(mark('begin', 'data/001') + WARNING)
    (event,) = parser.close()
    assert event.check == 'data/001'


def test_same_fault_same_fingerprint() -> None:
    recorded = {event.fingerprint for event in parse(log('warn'))}
    again = {event.fingerprint for event in parse(log('two-cpus')) if event.kind is Kind.WARN}
    assert recorded == again


def test_other_fault_other_fingerprint() -> None:
    names = {event.fingerprint for name in RECORDED for event in parse(log(name))[:1]}
    # the WARNs of two-cpus are the one of warn
    assert len(names) == len(RECORDED) - 1


def test_fingerprint_without_a_trace_ignores_numbers() -> None:
    one = fingerprint(Kind.LEAK, 'kmemleak: 1 new suspected memory leaks', [])
    assert one == fingerprint(Kind.LEAK, 'kmemleak: 27 new suspected memory leaks', [])
    assert one != fingerprint(Kind.LEAK, 'VFS: Busy inodes', [])


def test_guest_gone_belongs_to_the_check() -> None:
    parser = Parser()
    parser.feed(mark('begin'))
    (event,) = parser.close(Kind.GONE, 'QEMU ended')
    assert (event.kind, event.check, event.line) == (Kind.GONE, 'uring/007', 'QEMU ended')


def test_open_report_is_known_before_it_is_complete() -> None:
    parser = Parser()
    data = log('oops')
    assert parser.feed(data[: data.index(b'Call Trace')]) == []
    assert Kind.OOPS in parser.open_kinds
    (event,) = parser.flush()
    assert event.kind is Kind.OOPS
    assert parser.open_kinds == ()


def test_a_report_without_end_is_limited() -> None:
    data = log('warn').split(b'---[ end')[0] + b'[    9.0][   T90]  f+0x1/0x2\n' * 5000
    (event,) = parse(data)
    assert len(event.trace) <= MAX_TRACE


def test_the_same_without_end_is_counted_not_kept() -> None:
    parser = Parser()
    body = re.sub(rb'.*fuse-lab:.*\n', b'', log('warn'))
    events = [event for _ in range(300) for event in parser.feed(body)]
    assert len(events) == MAX_SAME
    assert parser.suppressed == 300 - MAX_SAME


def test_binary_junk() -> None:
    junk = bytes(range(256)) * 64
    events = parse(junk + b'\n' + log('kasan') + junk)
    assert Kind.KASAN in kinds(events)


def test_memory_is_bounded() -> None:
    parser = Parser()
    chunk = b'x' * 65536  # no newline at all
    tracemalloc.start()
    for _ in range(500):
        parser.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000
    assert parser.offset == 500 * 65536
    assert kinds(parser.feed(b'\n' + log('bug'))) == [Kind.BUG]


def test_many_different_faults_are_bounded() -> None:
    parser = Parser()
    for number in range(3000):
        name = ''.join(chr(ord('a') + int(digit)) for digit in str(number))
        parser.feed(f'BUG: {name} is wrong\n'.encode())
    assert len(parser._seen) <= 1000
    assert len(parser._open) <= 16


def test_second_boot_is_a_reboot_only_once_each() -> None:
    banner = b'[    0.000000][    T0] Linux version 6.12.0 (a@b)\n'
    assert kinds(parse(banner)) == []
    assert kinds(parse(banner + mark('begin') + banner)) == [Kind.REBOOT]
