# SPDX-License-Identifier: GPL-2.0-only
"""bench: exported images, and where README shows them."""

from __future__ import annotations

from pathlib import Path

from fakebench import figure

from harness.bench import export, record, rows
from harness.bench.figures import State, rows_of
from harness.bench.proof import judge
from harness.bench.rows import Side

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
    words = export.command(Side.RING, '/w', False)
    assert words[0] == 'blockfs'
    assert '--image=/w/src/image' in words
    assert words[-1] == '/w/mnt'
    assert 'filename=/w/src/image' in ' '.join(export.command(Side.QSD, '/w', False))
    assert export.command(Side.NBDFUSE, '/w', False)[:2] == ['nbdfuse', '/w/mnt']


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
