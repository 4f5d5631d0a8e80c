# SPDX-License-Identifier: GPL-2.0-only
"""bench: bench.json, comparing two runs, the gate's verdict and its refusals, table and plot."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.bench import command, gate, identity, plot, record, rows, table
from harness.bench.figures import Figure, State, rows_of
from harness.bench.identity import Identity
from harness.bench.rows import Measure, Side
from harness.cli import main
from harness.errors import LabError

COST = {row.name: row for row in rows.COSTS}
PARALLEL = {row.name: row for row in rows.THROUGHPUTS}
WHO = Identity('tcg', 'CPU', 2, 'm' * 64, '6.18', 2, 'g' * 64, 'QEMU 7.2', 'gcc 12', 'f' * 64, 'c' * 64, 'bench')


def figures(cost: float = 17.0, ratio: float = 1.7) -> list[Figure]:
    made = [
        Figure(COST['randread-4k'], side, 'a', (value, value), 'kernel: 6000 requests')
        for side, value in ((Side.DEV, 20.0), (Side.NOSPLICE, 19.0), (Side.RING, cost))
    ]
    made += [
        Figure(PARALLEL['meta-4'], side, 'a', (value, value))
        for side, value in ((Side.DEV, 100.0), (Side.RING, 100.0 * ratio))
    ]
    return made


def write_run(
    folder: Path, found: Sequence[Figure] | None = None, who: Identity = WHO, status: int = 0, **subjects: Any
) -> Path:
    found = figures() if found is None else found
    folder.mkdir(parents=True)
    subject = {
        'kernel': {'release': '6.12.1', 'build_id': 'ab', 'series': 'cd', 'variant': 'bench', 'image': '/k'},
        'server': {'command': 'mirrorfs', 'program': '/p', 'digest': 'ef'},
    }
    measured = [
        row
        for measure in Measure
        for row in rows_of([figure for figure in found if figure.workload.measure is measure], bool(subjects))
    ]
    record.write(
        folder,
        {
            'format': record.FORMAT,
            'run': folder.name,
            'started': '',
            'status': status,
            'problem': '',
            'identity': who.as_dict(),
            'subjects': {'a': subject, **dict.fromkeys(subjects, subject)},
            'rows': [record.row_dict(row) for row in measured],
            'figures': [record.figure_dict(figure) for figure in found],
            'stages': {},
            'notes': ['something to know'],
        },
    )
    return folder


def run_gate(new: Path, base: Path) -> int:
    return main(['bench-gate', '--base', str(base), '--run', str(new)])


def test_rows_hold_what_is_promised(tmp_path: Path) -> None:
    made = json.loads((write_run(tmp_path / 'run') / 'bench.json').read_text())
    cost, throughput = made['rows']
    assert {name: cost[name] for name in ('measure', 'workload', 'a', 'b', 'ratio', 'spread', 'goal', 'met')} == {
        'measure': 'cost', 'workload': 'randread-4k', 'a': 17.0, 'b': 19.0, 'ratio': 0.89474, 'spread': 0.0,
        'goal': '≤ 18', 'met': True,
    }  # fmt: skip
    assert (throughput['measure'], throughput['ratio'], throughput['goal']) == ('throughput', 1.7, 'ratio ≥ 1.5')


# --- the gate --------------------------------------------------------------------------------------


@pytest.mark.parametrize(('cost', 'status'), [(17.0, 0), (17.16, 0), (17.18, 1), (10.0, 0)])
def test_gate(cost: float, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = write_run(tmp_path / 'base'), write_run(tmp_path / 'new', figures(cost))
    assert run_gate(new, base) == status
    said = capsys.readouterr().out
    assert ('cost/randread-4k ring has grown from 17 to 17.18 (+1.1 %)' in said) is bool(status)


def test_gate_looks_at_costs_only(tmp_path: Path) -> None:
    assert run_gate(write_run(tmp_path / 'new', figures(ratio=0.1)), write_run(tmp_path / 'base')) == 0


def test_gate_names_what_is_not_measured_any_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = [
        replace(figure, values=(), state=State.FAILED, reason='the server died') if figure.side is Side.RING else figure
        for figure in figures()
    ]
    assert run_gate(write_run(tmp_path / 'new', broken), write_run(tmp_path / 'base')) == 1
    assert 'not measured any more: cost/randread-4k ring: the server died' in capsys.readouterr().out


@pytest.mark.parametrize(
    'change', [{'qemu': 'QEMU 8'}, {'guest_cpu': 'x'}, {'compiler': 'gcc 13'}, {'fsload': 'x'}, {'config': 'x'}]
)
def test_gate_refuses(change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_run(tmp_path / 'base', who=replace(WHO, **change))
    assert run_gate(write_run(tmp_path / 'new'), base) == 3
    assert f'{next(iter(change)).replace("_", " ")}: ' in capsys.readouterr().err


@pytest.mark.parametrize('change', [{'cpu': 'faster'}, {'cpus': 64}, {'machine': 'x'}, {'accelerator': 'kvm'}])
def test_gate_does_not_mind_another_host(change: dict[str, Any], tmp_path: Path) -> None:
    assert run_gate(write_run(tmp_path / 'new'), write_run(tmp_path / 'base', who=replace(WHO, **change))) == 0


def test_gate_names_the_options_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, new = write_run(tmp_path / 'base', who=replace(WHO, config='x')), write_run(tmp_path / 'new')
    (base / 'kernel-a.config').write_text('CONFIG_A=y\n')
    (new / 'kernel-a.config').write_text('CONFIG_A=y\nCONFIG_KASAN=y\n')
    assert run_gate(new, base) == 3
    assert 'CONFIG_KASAN: y here, n there' in capsys.readouterr().err


def test_gate_refuses_another_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = [
        replace(figure, workload=replace(figure.workload, words=('randread', '--count=1', '{mountpoint}')))
        for figure in figures()[:3]
    ]
    assert run_gate(write_run(tmp_path / 'new', other), write_run(tmp_path / 'base')) == 3
    assert 'cost/randread-4k is another load' in capsys.readouterr().err


def test_gate_without_a_base(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = write_run(tmp_path / 'new')
    assert run_gate(new, tmp_path / 'nothing') == 3
    assert 'no such file' in capsys.readouterr().err
    no_cost = write_run(tmp_path / 'base', figures()[3:])
    assert run_gate(new, no_cost) == 3
    assert run_gate(no_cost, new) == 3
    assert 'no cost was measured in this run' in capsys.readouterr().err
    (tmp_path / 'bad.json').write_text('{"format": 1}')
    assert run_gate(new, tmp_path / 'bad.json') == 3


def test_gate_without_a_row_in_common(tmp_path: Path) -> None:
    others = [replace(figure, workload=COST['meta']) for figure in figures()[:3]]
    assert run_gate(write_run(tmp_path / 'new', others), write_run(tmp_path / 'base')) == 3


# --- any two runs ----------------------------------------------------------------------------------


def compare(new: Path, old: Path) -> int:
    return main(['bench-compare', str(new), str(old)])


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(write_run(tmp_path / 'new', figures(18.7)), write_run(tmp_path / 'old')) == 0
    said = capsys.readouterr().out
    assert 'cost/randread-4k ring' in said
    assert '+10.00 %' in said
    assert 'throughput/meta-4 ring' in said


@pytest.mark.parametrize(
    'change', [{'accelerator': 'kvm'}, {'machine': 'x'}, {'cpu': 'x'}, {'cpus': 8}, {'guest_cpus': 4}]
)
def test_compare_refuses(change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(write_run(tmp_path / 'new'), write_run(tmp_path / 'old', who=replace(WHO, **change))) == 3
    assert 'figures of throughput cannot be compared' in capsys.readouterr().err
    # What both have measured decides.
    costs = write_run(tmp_path / 'costs', figures()[:3], who=replace(WHO, **change))
    assert compare(costs, tmp_path / 'new') == 0


def test_native_figures_want_the_same_kernel() -> None:
    assert identity.differences(Measure.NATIVE, WHO, replace(WHO, qemu='x', config='x')) == []
    assert identity.differences(Measure.NATIVE, WHO, replace(WHO, host_kernel='x')) == [
        'host kernel: 6.18 here, x there'
    ]


def test_an_unknown_identity() -> None:
    raw = WHO.as_dict()
    assert identity.from_dict(raw) == WHO
    del raw['qemu']
    with pytest.raises(LabError, match='qemu'):
        identity.from_dict(raw)


def test_options_that_do_not_matter() -> None:
    ours = 'CONFIG_HZ=250\nCONFIG_FUSE_IO_URING=y\nCONFIG_CC_VERSION_TEXT="gcc"\n# CONFIG_X is not set\n'
    assert identity.config_digest(ours) == identity.config_digest('CONFIG_HZ=250\n')
    assert identity.config_digest(ours) != identity.config_digest('CONFIG_HZ=1000\n')
    assert identity.config_digest('') == ''
    assert identity.config_differences(ours, 'CONFIG_HZ=1000\n') == ['CONFIG_HZ: 250 here, 1000 there']


def test_kernels_that_are_no_match() -> None:
    good = {'CONFIG_HZ': '250'}
    bad = {'CONFIG_HZ': '250', 'CONFIG_UBSAN': 'y'}
    assert command.unequal('a', good, good) == []
    assert 'CONFIG_UBSAN' in command.unequal('a', bad, bad)[0]
    debugs, unlike = command.unequal('b', bad, good)
    assert 'kernel b is built to debug' in debugs
    assert 'a and b are not configured alike' in unlike
    assert 'unknown' in command.unequal('b', {}, good)[0]


# --- for people ------------------------------------------------------------------------------------


def printed(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=150)
    table.render(record.read(folder), folder, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_table(tmp_path: Path) -> None:
    text = printed(write_run(tmp_path / 'run'))
    for words in ('device, no splice', '17.00', '≤ 18', 'ratio ≥ 1.5', 'note: something to know', '2 of 2 goals met'):
        assert words in text


def test_table_of_what_went_wrong(tmp_path: Path) -> None:
    missing = [replace(figure, values=(), state=State.NOTRUN, reason='no ring') for figure in figures()[2:3]]
    text = printed(write_run(tmp_path / 'run', [*figures()[:2], *missing]))
    assert 'notrun: cost/randread-4k: ring: no ring' in text
    assert '0 of 0 goals met, 1 rows notrun' in text


def test_table_of_two(tmp_path: Path) -> None:
    both = figures()[:3] + [replace(figure, subject='b') for figure in figures(16.0)[:3]]
    text = printed(write_run(tmp_path / 'run', both, b=True))
    assert '1.062' in text
    assert '2 of 3 goals met' in text


def test_plot(tmp_path: Path) -> None:
    folder = write_run(tmp_path / 'run')
    png, svg = plot.draw(record.read(folder), folder)
    assert png.read_bytes().startswith(b'\x89PNG')
    text = svg.read_text()
    assert '<svg' in text
    again = text
    plot.draw(record.read(folder), folder)
    assert svg.read_text() == again
    assert plot.draw({**record.read(folder), 'rows': []}, folder) == []


def test_a_goal_on_the_axis_of_ratios() -> None:
    assert plot.goal_ratio({'goal': '≤ 18', 'goal_of': 'a', 'goal_limit': 18.0, 'b': 36.0}) == 0.5
    assert plot.goal_ratio({'goal': 'ratio ≥ 1.6', 'goal_of': 'ratio', 'goal_limit': 1.6, 'b': 9.0}) == 1.6
    assert plot.goal_ratio({'goal': None, 'goal_of': None, 'goal_limit': None, 'b': 9.0}) is None


def test_gate_decides_by_more_than_a_hundredth() -> None:
    pair = gate.Pair(Measure.COST, 'x', 'ring', 101.0, 100.0)
    assert not pair.grown
    assert replace(pair, new=101.01).grown
    assert not replace(pair, new=300.0, measure=Measure.THROUGHPUT).grown


def test_what_other_programs_use(monkeypatch: pytest.MonkeyPatch) -> None:
    busy, own, now = command.OthersLoad._seconds()
    assert busy > 0.0
    assert own > 0.0
    assert now > 0.0
    # In ten seconds two CPUs were busy for twelve; two of these were ours.
    readings = iter([(100.0, 5.0, 50.0), (112.0, 7.0, 60.0), (100.0, 9.0, 60.0)])
    monkeypatch.setattr(command.OthersLoad, '_seconds', staticmethod(lambda: next(readings)))
    monkeypatch.setattr(command.os, 'sched_getaffinity', lambda pid: {0, 1})
    load = command.OthersLoad()
    assert load.share() == 0.5
    # The kernel's counters are coarser than ours
    assert load.share() == 0.0
