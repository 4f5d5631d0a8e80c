# SPDX-License-Identifier: GPL-2.0-only
"""The differential verdict: the axis is named, and nothing else is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from makeresults import run_of

from harness import results
from harness.cli import main, make_parser
from harness.errors import UsageError
from harness.formats import differential as module
from harness.formats.differential import BOTH, KERNEL, TRANSPORT, UNCLEAR, differences, explain


@pytest.mark.parametrize(
    ('cells', 'axis', 'text'),
    [
        ('pass pass fail fail', KERNEL, 'stock pass, patched fail, over dev and uring'),
        ('pass - fail fail', KERNEL, 'stock pass, patched fail, over dev'),
        ('fail - pass pass', KERNEL, 'stock fail, patched pass, over dev'),
        ('pass fail pass fail', TRANSPORT, 'dev pass, uring fail, on stock and patched'),
        ('- - pass fail', TRANSPORT, 'dev pass, uring fail, on patched'),
        ('pass - pass hang', TRANSPORT, 'dev pass, uring hang, on patched'),
        ('pass pass pass fail', BOTH, 'only patched over uring: fail; elsewhere pass'),
        ('pass pass crash pass', BOTH, 'only patched over dev: crash; elsewhere pass'),
        ('fail pass pass pass', BOTH, 'only stock over dev: fail; elsewhere pass'),
        ('pass fail fail pass', UNCLEAR, 'stock dev pass, stock uring fail, patched dev fail, patched uring pass'),
        ('pass - - fail', UNCLEAR, 'stock dev pass, patched uring fail'),
    ],
)
def test_axis(cells: str, axis: str, text: str) -> None:
    keys = [(kernel, section) for kernel in ('stock', 'patched') for section in ('dev', 'uring')]
    given = {key: verdict for key, verdict in zip(keys, cells.split(), strict=True) if verdict != '-'}
    assert explain(given) == (axis, text)


def test_only_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stock = run_of(
        tmp_path, 'stock', ('data/001', 'dev', 'pass'), ('data/001', 'uring', 'notrun'), ('data/002', 'dev', 'pass'),
        ('data/003', 'dev', 'fail'), build_id='b0',
    )  # fmt: skip
    patched = run_of(
        tmp_path, 'patched', ('data/001', 'dev', 'pass'), ('data/001', 'uring', 'fail'), ('data/002', 'dev', 'pass'),
        ('data/002', 'uring', 'pass'), ('data/003', 'dev', 'fail'), ('data/003', 'uring', 'fail'),
    )  # fmt: skip
    (found,) = differences(stock, patched)
    assert (found.name, found.axis, found.reason) == ('data/001', TRANSPORT, 'fail of data/001')
    assert main(['differential', str(tmp_path / 'stock'), str(tmp_path / 'patched')]) == 1
    text = capsys.readouterr().out
    assert '1 of 3 checks differ' in text
    assert 'data/002' not in text
    assert 'data/003' not in text


def test_what_the_patches_mend_is_no_failure(tmp_path: Path) -> None:
    run_of(tmp_path, 'stock', ('data/001', 'dev', 'hang'), build_id='b0')
    run_of(tmp_path, 'patched', ('data/001', 'dev', 'pass'))
    assert main(['differential', str(tmp_path / 'stock'), str(tmp_path / 'patched')]) == 0
    # Bad in two ways, and good nowhere: nothing that the patches have broken.
    run_of(tmp_path, 'patched', ('data/001', 'dev', 'fail'))
    assert main(['differential', str(tmp_path / 'stock'), str(tmp_path / 'patched')]) == 0


@pytest.mark.parametrize(
    ('cells', 'count', 'status'),
    [
        # dev and uring differ in the same way with and without the patches, which therefore do nothing to it.
        ('pass fail pass fail', 1, 0),
        ('pass fail fail pass', 1, 1),
        ('pass - pass fail', 1, 1),
        ('fail - pass fail', 1, 1),
        ('pass hang pass crash', 1, 1),
        ('fail pass pass fail', 1, 1),
        ('pass pass pass known', 1, 0),
        ('known fail known fail', 0, 0),
        # No verdict is no difference, and none to rely on.
        ('pass pass pass lab', 0, 3),
        ('pass lab fail fail', 1, 1),
    ],
)
def test_what_the_patches_make_worse(tmp_path: Path, cells: str, count: int, status: int) -> None:
    words = cells.split()
    for name, build, mine in (('stock', 'b0', words[:2]), ('patched', 'b1', words[2:])):
        checks = [('a/001', section, word) for section, word in zip(('dev', 'uring'), mine, strict=True) if word != '-']
        run_of(tmp_path, name, *checks, build_id=build)
    folders = [tmp_path / 'stock', tmp_path / 'patched']
    assert len(differences(*map(results.read, folders))) == count
    assert main(['differential', *map(str, folders)]) == status


def test_runs_that_cannot_be_compared(tmp_path: Path) -> None:
    patched = run_of(tmp_path, 'patched', ('data/001', 'dev', 'pass'))
    for changes, message in (
        ({'build_id': 'b0', 'programs': 'p2'}, 'server and programs'),
        ({'build_id': 'b1'}, 'both runs are of the same kernel'),
    ):
        with pytest.raises(UsageError) as caught:
            differences(run_of(tmp_path, 'stock', ('data/001', 'dev', 'pass'), **changes), patched)
        assert message in caught.value.what + caught.value.detail
    stock = run_of(tmp_path, 'stock', ('data/001', 'dev', 'pass'), build_id='b0')
    stock['seed'] = 7
    stock['checks'][0]['digest'] = 'c2'
    with pytest.raises(UsageError) as caught:
        differences(stock, patched)
    assert caught.value.detail == 'seed: 7 and 1\nchecks: data/001'


def test_both_runs_are_of_the_tree_that_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run_checks(lab: object, words: list[str], stage: str) -> tuple[Path, dict[str, Any]]:
        asked.append(make_parser().parse_args(['check', *words]))
        return tmp_path, run_of(tmp_path, stage, ('generic/001', 'dev', 'pass'), build_id=stage)

    monkeypatch.setattr(module, 'run_checks', run_checks)
    monkeypatch.chdir(tmp_path)
    words = ['--xfstests', 'tree', '--check', 'generic/00*', '--guests', '2', '--seed', '7', '--known', 'mine']
    assert main(['differential', *words, '--series', 'p', '--stock', 'bzImage']) == 0
    for args in asked:
        assert (args.xfstests, args.known) == (tmp_path / 'tree', tmp_path / 'mine')
        assert (args.check, args.guests, args.seed) == (['generic/00*'], 2, 7)
    assert [(args.kernel, args.series) for args in asked] == [(tmp_path / 'bzImage', None), (None, 'p')]
