# SPDX-License-Identifier: GPL-2.0-only
"""bench: files on a storage node."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakebench import FakePlace, figure, fsload
from rich.console import Console

from harness.bench import export, krpc, measure, plot, record, rows, server, table
from harness.bench.figures import rows_of
from harness.bench.measure import Said, UnmeasuredError
from harness.bench.proof import judge_payload
from harness.bench.rows import Side

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
