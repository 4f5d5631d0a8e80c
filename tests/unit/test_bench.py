# SPDX-License-Identifier: GPL-2.0-only
"""bench: rows and goals, servers, what run-bench and the loads print, the proof, statistics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.bench import export, krpc, measure, native, plot, profile, record, rows, server, table
from harness.bench.figures import Figure, State, rows_of, spread_of
from harness.bench.measure import Campaign, Said, Subject, UnmeasuredError
from harness.bench.proof import judge, judge_payload
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


def fsload(kind: str, ops: int, ns: int) -> str:
    return f'{kind} size=4096 depth=1 jobs=1 direct=1 ops={ops} ns={ns} verified=4096\n'


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
    more = server.parse(f'{program} --depth=32', tmp_path)
    assert more.command(COST['meta'], Side.DEV, '/w', True)[:2] == [f'/host{program}', '--depth=32']
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


def figure(row: rows.Workload, side: Side, *values: float, subject: str = 'a', **more: Any) -> Figure:
    return Figure(row, side, subject, values, **more)


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


class FakePlace:
    """Answers each run with the next of its values."""

    work = '/w'
    in_guest = True

    def __init__(self, ring: bool = True, broken: Side | None = None, krpc: bool = True) -> None:
        self.runs: list[str] = []
        self._ring, self._broken, self._krpc = ring, broken, krpc

    def has_ring(self) -> bool:
        return self._ring

    def has_krpc(self) -> bool:
        return self._krpc

    def run(self, words: Sequence[str]) -> Said:
        side = Side.RING if 'ring' in words else Side.NOSPLICE if '--no-splice' in words else Side.DEV
        self.runs.append(side)
        if side is self._broken:
            return Said('', 'trouble: it died\n', 1)
        carried = 'ring' if side is Side.RING else 'dev'
        other = 'dev' if side is Side.RING else 'ring'
        text = f'evidence kernel_{carried} 0 9000\nevidence kernel_{other} 0 0\nload 0\n'
        return Said(text + fsload('randread', 4000, 40_000_000), '', 0)


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


# --- an exported image -----------------------------------------------------------------------------

EXPORT = {row.name: row for row in rows.EXPORTS}


def test_exports_cover_all_cells() -> None:
    assert len(EXPORT) == 24
    assert set(EXPORT['mix-direct-1x64'].sides) == {Side.RING, Side.DEV, Side.QSD, Side.NBDFUSE}
    for row in rows.EXPORTS:
        goals = dict(row.against)
        assert (goals[Side.DEV] is not None) == row.name.endswith('x64')
        assert [goal.limit for side, goal in row.against if goal and side.is_peer] == [1.5, 2.0]
    assert len({row.definition for row in rows.EXPORTS}) == 24


def test_exported_rows_stand_beside_each_other() -> None:
    row = EXPORT['mix-direct-1x64']
    figures = [figure(row, Side.RING, 100, 120), figure(row, Side.DEV, 70, 70), figure(row, Side.QSD, 50, 60)]
    made = rows_of(figures, False)
    assert [(found.b_what, found.met) for found in made] == [
        ('device', False), ('qemu-storage-daemon', True), ('nbdfuse', None)
    ]  # fmt: skip
    assert made[2].state is State.NOTRUN


def test_exported_commands() -> None:
    words = export.command(Side.RING, '/w')
    assert words[0] == 'blockfs'
    assert '--image=/w/src/image' in words
    assert words[-1] == '/w/mnt'
    assert 'filename=/w/src/image' in ' '.join(export.command(Side.QSD, '/w'))
    assert export.command(Side.NBDFUSE, '/w')[:2] == ['nbdfuse', '/w/mnt']


def test_proof_of_a_peer() -> None:
    assert judge(Side.QSD, {'waits_ring': (0, 0), 'waits_dev': (0, 0)}, 100, False).shown == 'has no other way'
    # what the kernel's cache answers makes no request
    assert not judge(Side.QSD, {'kernel_dev': (0, 5), 'kernel_ring': (0, 0)}, 100, False).wrong
    assert judge(Side.NBDFUSE, {'kernel_dev': (0, 0), 'kernel_ring': (0, 9)}, 100, False).wrong
    assert judge(Side.DEV, {'kernel_dev': (0, 5), 'kernel_ring': (0, 0)}, 100, False).wrong


def test_readme_takes_the_table(tmp_path: Path) -> None:
    row = EXPORT['read-direct-4x64']
    figures = [figure(row, side, *values) for side, values in (
        (Side.RING, (200, 220)), (Side.DEV, (150, 150)), (Side.QSD, (100, 100)), (Side.NBDFUSE, (50, 50)))]  # fmt: skip
    table = {
        'rows': [record.row_dict(found) for found in rows_of(figures, False)],
        'figures': [record.figure_dict(found) for found in figures],
        'subjects': {'a': {'kernel': {'release': '6.12'}}},
        'identity': {'accelerator': 'tcg', 'guest_cpus': 2, 'host_kernel': 'x'},
        'notes': ['the machine was busy'],
    }
    text = export.markdown(table)
    assert (
        '| random read, direct, 4 jobs, QD64 | 210 | 150 | 100 | 50 | **1.40 ± 0.07** | 2.10 ± 0.10 | 4.20 ± 0.20 |'
        in text
    )
    readme = tmp_path / 'README.md'
    readme.write_text('before\n<!-- bench:export -->\nformer\n<!-- /bench:export -->\nafter\n', encoding='utf-8')
    assert not export.update_readme(tmp_path, tmp_path, table)
    (tmp_path / 'bench.png').write_bytes(b'png')
    assert export.update_readme(tmp_path, tmp_path, table)
    changed = readme.read_text(encoding='utf-8')
    assert text in changed and 'former' not in changed and changed.endswith('after\n')
    assert 'Note of that run: the machine was busy.' in changed
    assert (tmp_path / export.PICTURE).read_bytes() == b'png'


# --- files on a storage node -----------------------------------------------------------------------

KRPC = {row.key: row for row in rows.select(['krpc'])}


def sent(placed: int = 0, copied: int = 0, plain: int = 0) -> dict[str, tuple[int, int]]:
    return {
        'krpc_bytes_placed': (0, placed),
        'krpc_bytes_copied': (0, copied),
        'plain_bytes_received': (0, plain),
    }


def test_rows_of_krpc() -> None:
    names = ['read-1m', 'read-128k', 'randread-4k', 'randread-4k-qd32']
    assert list(KRPC) == [
        *(f'cost/krpc-{name}{way}' for way in ('', '-dev') for name in names), *(f'krpc/{name}' for name in names),
    ]  # fmt: skip
    for row in KRPC.values():
        assert set(row.sides) == {Side.ZC, Side.UMEM, Side.SOCKET}
        assert f'--size={row.payload}' in row.words
        # the ordinary server is what there is a goal for
        assert dict(row.against)[Side.UMEM] is None
        assert {row.over_ring(side) for side in row.sides} == {not row.name.endswith('-dev')}


@pytest.mark.parametrize(
    ('name', 'goal'),
    [
        ('krpc/read-1m', 'ratio ≥ 2'),
        ('krpc/read-128k', None),
        ('krpc/randread-4k', 'ratio ≥ 1.2'),
        ('cost/krpc-read-1m', 'ratio ≤ 0.5'),
        ('cost/krpc-read-128k-dev', 'ratio ≤ 0.5'),
        ('cost/krpc-randread-4k', 'ratio ≤ 0.833'),
    ],
)
def test_goals_of_krpc(name: str, goal: str | None) -> None:
    found = dict(KRPC[name].against)[Side.SOCKET]
    assert (found.text if found else None) == goal


@pytest.mark.parametrize(
    ('name', 'side', 'words'),
    [
        ('cost/krpc-read-1m', Side.ZC, ['--transport=uring', '--require-ring', '--krpc=zc']),
        ('cost/krpc-read-1m', Side.UMEM, ['--transport=uring', '--require-ring', '--krpc=umem']),
        ('krpc/randread-4k', Side.SOCKET, ['--transport=uring', '--require-ring', '--krpc=off']),
        ('cost/krpc-read-1m-dev', Side.ZC, ['--transport=dev', '--krpc=zc']),
    ],
)
def test_commands_of_krpc(tmp_path: Path, name: str, side: Side, words: list[str]) -> None:
    row = KRPC[name]
    made = krpc.command(row, side, '/w')
    assert [word for word in made if word.startswith(('--transport', '--require', '--krpc'))] == words
    # the same server in all else, whatever receives
    assert [word for word in made if word not in words] == [
        word for word in krpc.command(KRPC['krpc/read-1m'], Side.SOCKET, '/w')
        if not word.startswith(('--transport', '--require', '--krpc'))
    ]  # fmt: skip
    whole = measure.words_of(row, side, server.parse('mirrorfs', tmp_path), FakePlace(), 'run-bench')
    assert whole[:3] == ['run-bench', '--transport', 'dev' if '--transport=dev' in words else 'ring']
    assert whole[whole.index('--node') + 1] == str(krpc.PORT)
    assert f'127.0.0.1:{krpc.PORT}' in whole
    assert whole[-1] == '/w/mnt/data'


@pytest.mark.parametrize(
    ('side', 'evidence', 'wrong'),
    [
        (Side.ZC, sent(placed=4096), ''),
        (Side.ZC, sent(placed=4095), '4095 bytes were placed in pages of reads, at least 4096 were read'),
        (Side.ZC, sent(placed=4096, copied=1), "1 bytes were received into the server's memory"),
        (Side.ZC, sent(placed=4096, plain=1), '1 bytes were read from the socket'),
        (Side.ZC, {}, 'nobody counts the bytes placed'),
        (Side.UMEM, sent(copied=4096), ''),
        (Side.UMEM, sent(placed=4096), '4096 bytes were placed in pages of reads'),
        (Side.SOCKET, sent(plain=4096), ''),
        (Side.SOCKET, sent(placed=4096, plain=4096), '4096 bytes were placed in pages of reads'),
    ],
)
def test_proof_of_payload(side: Side, evidence: dict[str, tuple[int, int]], wrong: str) -> None:
    proof = judge_payload(side, evidence, 4096)
    assert wrong in proof.wrong
    assert bool(proof.wrong) is bool(wrong)
    assert bool(proof.shown) is not bool(proof.wrong)


def krpc_said(ns: int, **bytes_sent: int) -> Said:
    text = 'evidence kernel_dev 3 4\nevidence kernel_ring 10 511\n'
    text += ''.join(f'evidence {name} {a} {b}\n' for name, (a, b) in sent(**bytes_sent).items())
    return Said(text + 'load 0\n' + fsload('read', 400, ns), '', 0)


def test_a_reading_of_krpc() -> None:
    whole = 400 << 20
    reading = measure.read(KRPC['krpc/read-1m'], Side.ZC, krpc_said(2_000_000_000, placed=whole))
    assert reading.value == pytest.approx(whole / 2e6)
    assert 'kernel: 501 requests' in reading.proof
    assert f'{whole} bytes placed in pages of reads, none otherwise' in reading.proof
    cost = measure.read(KRPC['cost/krpc-read-1m'], Side.SOCKET, krpc_said(400_000_000, plain=whole))
    assert cost.value == pytest.approx(1000)
    with pytest.raises(UnmeasuredError, match='the data went another way'):
        measure.read(KRPC['krpc/read-1m'], Side.ZC, krpc_said(2_000_000_000, copied=whole))
    # what came over the ring says nothing of a row that is about the device
    with pytest.raises(UnmeasuredError, match='1 requests over the device'):
        measure.read(KRPC['cost/krpc-read-1m-dev'], Side.ZC, krpc_said(2_000_000_000, placed=whole))


@pytest.mark.parametrize(
    ('name', 'place', 'missing'),
    [
        ('krpc/read-1m', FakePlace(krpc=False), {Side.ZC: measure.NO_KRPC, Side.UMEM: measure.NO_KRPC}),
        ('krpc/read-1m', FakePlace(ring=False), dict.fromkeys((Side.ZC, Side.UMEM, Side.SOCKET), measure.NO_RING)),
        ('cost/krpc-read-1m-dev', FakePlace(ring=False), {}),
    ],
)
def test_what_a_kernel_lacks(name: str, place: FakePlace, missing: dict[Side, str]) -> None:
    row = KRPC[name]
    found = {side: measure.lacking(row, side, place) for side in row.sides}
    assert {side: reason for side, reason in found.items() if reason} == missing


def test_krpc_stands_beside_both_others(tmp_path: Path) -> None:
    row = KRPC['krpc/read-1m']
    figures = [figure(row, Side.UMEM, 160, 190), figure(row, Side.SOCKET, 100, 110), figure(row, Side.ZC, 200, 209)]
    made = rows_of(figures, False)
    assert [(found.a_what, found.b_what, found.met) for found in made] == [
        ('krpc zero-copy', 'krpc into memory', None), ('krpc zero-copy', 'ordinary server', False),
    ]  # fmt: skip
    assert made[1].ratio == pytest.approx((2 + 1.9) / 2)
    whole = {
        'rows': [record.row_dict(found) for found in made],
        'figures': [record.figure_dict(found) for found in figures],
        'subjects': {'a': {'kernel': dict.fromkeys(('release', 'build_id', 'variant')), 'server': {'program': 'x'}}},
        'identity': {'accelerator': 'tcg', 'guest_cpus': 2, 'cpu': 'x', 'host_kernel': '6.12'},
        'notes': [],
        'problem': '',
    }
    # nothing of it is an exported image's
    assert export.markdown(whole) == ''
    console = Console(width=160, record=True)
    table.render(whole, tmp_path, console)
    text = console.export_text()
    assert 'ordinary server' in text and '105 MB/s' in text and '0 of 1 goals met' in text
    assert [path.name for path in plot.draw(whole, tmp_path)] == ['bench.png', 'bench.svg']
    assert 'krpc zero-copy / others' in (tmp_path / 'bench.svg').read_text(encoding='utf-8')
