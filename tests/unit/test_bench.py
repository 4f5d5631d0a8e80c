# SPDX-License-Identifier: GPL-2.0-only
"""bench: rows and goals, servers, what run-bench and the loads print, the proof, statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakebench import FakePlace, figure, fsload

from harness.bench import measure, native, profile, rows, server
from harness.bench.figures import Figure, State, rows_of, spread_of
from harness.bench.measure import Campaign, Said, Subject, UnmeasuredError
from harness.bench.proof import judge
from harness.bench.rows import Goal, Measure, Side
from harness.errors import UsageError

COST = {row.name: row for row in rows.COSTS}
PARALLEL = {row.name: row for row in rows.THROUGHPUTS}
EVIDENCE = """\
evidence kernel_dev 4 9
evidence kernel_ring 10 5011
evidence server_dev 3 8
evidence server_ring 10 5011
evidence server_exempt 3 8
evidence waits_dev 1 2
evidence waits_ring 1 5000
load 0
"""


def fio(**changes: Any) -> str:
    way = {'io_bytes': 400 << 20, 'total_ios': 3200, 'runtime': 2000}
    idle = {'io_bytes': 0, 'total_ios': 0, 'runtime': 0}
    job = {'error': 0, 'read': {**way, **changes}, 'write': idle}
    return 'note: a warning\n' + json.dumps({'jobs': [job]}) + '\nanother\n'


# --- rows ------------------------------------------------------------------------------------------


def test_rows_have_names_of_their_own() -> None:
    every = (*rows.COSTS, *rows.THROUGHPUTS, *rows.NATIVES, *rows.EXPORT_COSTS, *rows.EXPORTS,
             *rows.KRPC_COSTS, *rows.KRPCS)  # fmt: skip
    assert len({row.key for row in every}) == len(every)
    assert all('{mountpoint}' in ' '.join(row.words) for row in every)


def test_goals_of_the_issue() -> None:
    assert {name: row.goal.text for name, row in COST.items()} == {
        'randread-4k': '≤ 18',
        'randwrite-4k': '≤ 19',
        'randread-4k-qd32': '≤ 15',
        'read-1m': '≤ 1900',
        'write-1m': '≤ 1850',
        'read-128k-buffered': '≤ 400',
        'meta': 'ratio ≤ 0.75',
    }
    assert {row.goal.text for row in PARALLEL.values()} == {f'ratio ≥ {x}' for x in (1.2, 1.4, 1.5, 1.6)}


def test_select() -> None:
    assert [row.key for row in rows.select(['cost/meta', 'throughput/meta*'])] == ['cost/meta', 'throughput/meta-4']
    assert len(rows.select([])) == len(rows.COSTS) + len(rows.THROUGHPUTS)
    assert {row.measure for row in rows.select([], native=True)} == set(Measure) - {Measure.EXPORT, Measure.KRPC}
    assert rows.select(['export']) == rows.EXPORTS
    assert rows.select(['krpc']) == (*rows.KRPC_COSTS, *rows.KRPCS)
    assert {row.measure for row in rows.select(['export', 'cost/meta'])} == {Measure.EXPORT, Measure.COST}
    with pytest.raises(UsageError, match='no row fits cost/nothing') as caught:
        rows.select(['cost/nothing'])
    assert 'cost/randread-4k' in caught.value.hint
    with pytest.raises(UsageError) as caught:
        rows.select(['native/*'])
    assert 'NATIVE=1' in caught.value.hint


@pytest.mark.parametrize(
    ('goal', 'a', 'ratio', 'spread', 'met'),
    [
        (Goal(18), 18.0, 2.0, 0.0, True),
        (Goal(18), 18.1, 0.1, 0.5, False),
        (Goal(0.75, 'ratio'), 999.0, 0.75, 0.1, True),
        (Goal(0.75, 'ratio'), 1.0, 0.76, 0.1, False),
        (Goal(1.6, 'ratio', at_least=True), 1.0, 1.6, 0.0, True),
        (Goal(1.6, 'ratio', at_least=True), 9.0, 1.59, 0.5, False),
        (Goal(1.0, 'ratio', within_spread=True), 1.0, 1.04, 0.1, True),
        (Goal(1.0, 'ratio', within_spread=True), 1.0, 1.06, 0.1, False),
        (Goal(1.0, 'ratio', at_least=True, within_spread=True), 1.0, 0.96, 0.1, True),
        (Goal(1.0, 'ratio', at_least=True, within_spread=True), 1.0, 0.94, 0.1, False),
    ],
)
def test_goal(goal: Goal, a: float, ratio: float, spread: float, met: bool) -> None:
    assert goal.met(a, ratio, spread) is met


# --- servers ---------------------------------------------------------------------------------------


def test_mirrorfs_by_side(tmp_path: Path) -> None:
    program = tmp_path / 'mirrorfs'
    program.write_bytes(b'x')
    plain = server.parse('', tmp_path)
    assert plain.program == program
    assert plain.digest
    command = plain.command(COST['randread-4k'], Side.NOSPLICE, '/w', True)
    assert command == [
        'mirrorfs', '--foreground', '--transport=dev', '--no-splice', '--cache=none', '--stats=/w/stats',
        '/w/src', '/w/mnt',
    ]  # fmt: skip
    ring = plain.command(COST['read-128k-buffered'], Side.RING, '/w', True)
    assert {'--transport=uring', '--require-ring', '--cache=auto'} <= set(ring)
    assert not {'--transport=dev', '--no-splice', '--cache=none'} & set(ring)
    assert not any(word.startswith('--depth') for word in ring)
    deep = plain.command(COST['randread-4k-qd32'], Side.RING, '/w', True)
    assert f'--depth={rows.DEEP_ENTRIES}' in deep
    more = server.parse(f'{program} --depth=16', tmp_path)
    words = more.command(COST['randread-4k-qd32'], Side.RING, '/w', True)
    assert words[0] == f'/host{program}'
    # the last one counts
    assert [word for word in words if word.startswith('--depth')][-1] == '--depth=16'
    assert more.command(COST['meta'], Side.DEV, '/w', False)[0] == str(program)


def test_another_server(tmp_path: Path) -> None:
    program = tmp_path / 'passthrough'
    program.write_bytes(b'x')
    text = f'{program} -f {{direct:--nocache}} {{nosplice:--nosplice}} {{ring:-o io_uring}} {{source}} {{mountpoint}}'
    other = server.parse(text, tmp_path)
    assert other.command(COST['meta'], Side.DEV, '/w', False) == [
        str(program), '-f', '--nocache', '/w/src', '/w/mnt',
    ]  # fmt: skip
    assert other.command(COST['read-128k-buffered'], Side.RING, '/w', False)[1:4] == ['-f', '-o', 'io_uring']


@pytest.mark.parametrize(
    ('text', 'what'),
    [
        ('x {rnig:-o io_uring} {source} {mountpoint}', 'rnig'),
        ('x {source} {mountpint}', 'mountpint'),
        ('/nowhere/server', 'no such program'),
        ("mirrorfs --x='", 'quotation'),
    ],
)
def test_bad_server(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=what):
        server.parse(text, tmp_path)


# --- what is printed -------------------------------------------------------------------------------


def test_a_reading_of_cost() -> None:
    reading = measure.read(
        COST['randread-4k'], Side.RING, Said(EVIDENCE + fsload('randread', 4000, 72_000_000), '', 0)
    )  # fmt: skip
    assert reading.value == pytest.approx(18.0)
    assert 'kernel: 5001' in reading.proof


def test_readings_of_throughput() -> None:
    bandwidth = measure.read(PARALLEL['read-buffered-1'], Side.RING, Said(EVIDENCE + fio(), '', 0))
    assert bandwidth.value == pytest.approx((400 << 20) / 2e6)
    operations = measure.read(PARALLEL['randread-4k-qd32'], Side.RING, Said(EVIDENCE + fio(), '', 0))
    assert operations.value == pytest.approx(1600)
    meta = Said(EVIDENCE + fsload('meta', 1000, 2_000_000_000), '', 0)
    assert measure.read(PARALLEL['meta-4'], Side.RING, meta).value == pytest.approx(500)


@pytest.mark.parametrize(
    ('said', 'why'),
    [
        (Said('', '', None), 'not done in time'),
        (Said('', 'server: no\ntrouble: the server has ended\n', 1), 'the server has ended | server: no'),
        (Said('', 'x\n', 2), 'status 2'),
        (Said('evidence kernel_dev 4\nload 0\n', '', 0), 'something else'),
        (Said('evidence waits_dev 1 2\n', '', 0), 'has not finished'),
        (Said(EVIDENCE + 'randread ops=12\n', '', 0), 'fsload printed something else'),
        (Said(EVIDENCE + fsload('randwrite', 4000, 1), '', 0), 'fsload printed something else'),
        (Said(EVIDENCE + fsload('randread', 6000, 1), '', 0), 'at least 6000 were made'),
    ],
)
def test_no_reading(said: Said, why: str) -> None:
    with pytest.raises(UnmeasuredError) as caught:
        measure.read(COST['randread-4k'], Side.RING, said)
    assert why in str(caught.value)


@pytest.mark.parametrize('output', ['', 'fio: cannot\n', '{"jobs": []}', fio(total_ios=0), fio(runtime=0)])
def test_fio_without_a_result(output: str) -> None:
    with pytest.raises(UnmeasuredError):
        measure.read_fio(PARALLEL['randread-4k-qd32'], output)


# --- the proof -------------------------------------------------------------------------------------


def grown(**counts: int) -> dict[str, tuple[int, int]]:
    return {name: (7, 7 + count) for name, count in counts.items()}


@pytest.mark.parametrize(
    ('side', 'evidence', 'wrong'),
    [
        (Side.RING, grown(kernel_dev=9, kernel_ring=100), ''),
        (Side.RING, grown(kernel_dev=100, kernel_ring=99), 'kernel counts 99 requests over the ring'),
        (Side.RING, grown(server_dev=5, server_ring=100, server_exempt=5), ''),
        (Side.RING, grown(server_dev=6, server_ring=100, server_exempt=5), '1 ordinary requests came over the device'),
        (Side.DEV, grown(server_dev=100, server_ring=0, server_exempt=0), ''),
        (Side.DEV, grown(server_dev=100, server_ring=1, server_exempt=0), '1 requests over the ring'),
        (Side.NOSPLICE, grown(kernel_dev=0, kernel_ring=100), 'kernel counts 0 requests over the device'),
        (Side.RING, grown(waits_dev=3, waits_ring=50), ''),
        (Side.RING, grown(waits_dev=50, waits_ring=0), 'slept 0 times in io_uring_enter'),
        (Side.DEV, grown(waits_dev=50, waits_ring=0), ''),
        (Side.DEV, grown(waits_dev=50, waits_ring=1), '1 times in io_uring_enter'),
        (Side.DEV, {}, 'slept 0 times on the device'),
        # Sleeping proves nothing against what is counted.
        (Side.RING, grown(kernel_dev=0, kernel_ring=100, waits_dev=9, waits_ring=0), ''),
    ],
)
def test_proof(side: Side, evidence: dict[str, tuple[int, int]], wrong: str) -> None:
    proof = judge(side, evidence, 100, side is Side.RING)
    assert wrong in proof.wrong
    assert bool(proof.wrong) is bool(wrong)
    assert bool(proof.shown) is not bool(proof.wrong)


# --- statistics ------------------------------------------------------------------------------------


def test_spread() -> None:
    assert spread_of([10.0, 11.0, 9.0]) == pytest.approx(0.2)
    assert spread_of([10.0]) is None


def test_a_row_of_cost() -> None:
    row = COST['randread-4k']
    (made,) = rows_of(
        [figure(row, Side.DEV, 20, 20), figure(row, Side.NOSPLICE, 18, 19.8), figure(row, Side.RING, 9, 9)], False
    )
    # Against the cheaper of the device's ways
    assert (made.a.value, made.b_what, made.ratio) == (9, 'device, no splice', pytest.approx(9 / 18.9))
    assert made.spread == pytest.approx(1.8 / 18.9)
    assert made.met is True


def test_a_row_of_throughput_has_its_ratio_from_the_rounds() -> None:
    row = PARALLEL['meta-4']
    (made,) = rows_of([figure(row, Side.DEV, 10, 20, 40), figure(row, Side.RING, 16, 32, 60)], False)
    assert made.ratio == pytest.approx(1.6)
    assert made.spread == pytest.approx(0.1 / 1.6)
    assert made.met is True


def test_side_by_side() -> None:
    row = COST['randread-4k-qd32']
    figures = [
        figure(row, side, value, value, subject=subject)
        for side, a, b in ((Side.DEV, 20, 20), (Side.NOSPLICE, 20, 19), (Side.RING, 15, 15))
        for subject, value in (('a', a), ('b', b))
    ]
    made = rows_of(figures, True)
    assert [(line.a.side, line.met) for line in made] == [
        (Side.DEV, True), (Side.NOSPLICE, False), (Side.RING, False),
    ]  # fmt: skip


def test_another_server_need_only_be_no_better() -> None:
    row = COST['randread-4k-qd32']
    figures = [figure(row, Side.RING, 15, 15), figure(row, Side.RING, 15, 15, subject='b')]
    assert rows_of(figures, True, kernels=False)[0].met is True
    assert rows_of(figures, True, kernels=True)[0].met is False


def test_a_row_that_was_not_measured() -> None:
    row = COST['randread-4k']
    (made,) = rows_of(
        [
            figure(row, Side.DEV, 20, 20),
            figure(row, Side.NOSPLICE, state=State.FAILED, reason='died'),
            figure(row, Side.RING, state=State.NOTRUN, reason='no ring'),
        ],
        False,
    )
    assert made.state is State.FAILED
    assert made.reason == 'device, no splice: died'
    assert (made.ratio, made.met, made.a.value) == (None, None, None)


def test_a_row_that_was_interrupted() -> None:
    (made,) = rows_of([figure(COST['meta'], Side.DEV, 20)], False)
    assert (made.state, made.met, made.b and made.b.value) == (State.NOTRUN, None, 20)
    assert rows_of([figure(COST['meta'], Side.DEV, 20)], True)[0].ratio is None


# --- a campaign ------------------------------------------------------------------------------------


def campaign(tmp_path: Path, place: FakePlace) -> list[Figure]:
    subject = Subject('a', None, server.parse('mirrorfs', tmp_path))
    told: list[Figure] = []
    found = list(Campaign((COST['randread-4k'],), (subject,), {'a': place}, 2, 'run-bench').measure(told.append))
    assert len(told) >= len(found)
    return found


def test_sides_take_turns(tmp_path: Path) -> None:
    place = FakePlace()
    figures = campaign(tmp_path, place)
    assert place.runs == [Side.DEV, Side.NOSPLICE, Side.RING] * 2
    assert [figure.values for figure in figures] == [(10.0, 10.0)] * 3


def test_without_a_ring(tmp_path: Path) -> None:
    place = FakePlace(ring=False)
    figures = campaign(tmp_path, place)
    assert Side.RING not in place.runs
    assert [figure.state for figure in figures] == [State.MEASURED, State.MEASURED, State.NOTRUN]


def test_what_fails_is_not_tried_again(tmp_path: Path) -> None:
    place = FakePlace(broken=Side.DEV)
    figures = campaign(tmp_path, place)
    assert place.runs.count(Side.DEV) == 1
    assert figures[0].state is State.FAILED
    assert figures[0].reason == 'it died'
    assert figures[2].values == (10.0, 10.0)


# --- the rest --------------------------------------------------------------------------------------

PERF = """\
# Overhead  |Command        |Shared Object    |Symbol                                |IPC   [IPC Coverage]
    20.50%  |fsload         |[kernel.kallsyms]|[k] fuse_dev_do_read                  |-      -
     9.50%  |mirrorfs       |[kernel.kallsyms]|[k] fuse_dev_do_read                  |-      -
    10.00%  |mirrorfs       |mirrorfs         |[.] serve                             |-      -

# (Tip: Profiling branch (mis)predictions with: perf record -b / perf report)
"""


def test_profile() -> None:
    lines = profile.read(PERF)
    assert [(line.who, line.function, line.share) for line in lines] == [
        ('fsload', 'fuse_dev_do_read', pytest.approx(0.205)),
        ('mirrorfs', 'fuse_dev_do_read', pytest.approx(0.095)),
        ('mirrorfs', 'serve', pytest.approx(0.1)),
    ]
    text = profile.text(COST['randread-4k'], Side.RING, lines, 20.0)
    by_function = text.split('by function')[1].splitlines()
    assert by_function[1].split() == ['30.00', '%', '6000', 'fuse_dev_do_read']


def test_mounts_of_a_native_run() -> None:
    mountinfo = """\
22 1 0:20 / / rw - ext4 /dev/a rw
30 22 0:40 / /r/native rw - tmpfs t rw
31 30 0:41 / /r/native/bench/mnt rw - fuse f rw
32 22 0:42 / /r/nativeness rw - tmpfs t rw
"""
    assert native.mounts_below(Path('/r/native'), mountinfo) == ['/r/native', '/r/native/bench/mnt']
