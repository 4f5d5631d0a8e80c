# SPDX-License-Identifier: GPL-2.0-only
"""Run folders, results.json, the report made from it, and what is remembered between runs."""

from __future__ import annotations

import json
import threading
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import report, results, runfolder, speed
from harness.boot import TCG
from harness.cache import Cache
from harness.errors import UsageError
from harness.image import KernelImage
from harness.memo import Memo
from harness.progress import Progress, Timings
from harness.results import RunFacts
from harness.speed import Speed
from harness.verdict import CheckResult, Verdict


def result(name: str, section: str, verdict: Verdict, **changes: Any) -> CheckResult:
    return CheckResult(name, section, verdict, 0.5, **changes)


def table(tmp_path: Path, *checks: CheckResult, **changes: Any) -> dict[str, Any]:
    run = runfolder.create(tmp_path / 'results')
    kernel = KernelImage(
        image=tmp_path / 'bzImage', directory=tmp_path, release='6.12.0-fl-abc', build_id='a1b2', series_digest='d' * 64
    )
    facts = RunFacts(kernel, TCG, Speed(3.0, 0.3, 0.1), 2, 1024, 1, (2.5,)).as_dict()
    entries = [results.check_dict(check, {}, f'make vm-test CHECK={check.name}') for check in checks]
    values: dict[str, Any] = {'status': 0, **changes}
    made = results.assemble(run, facts, entries, {'build': 31.234, 'checks': 4.0}, **values)
    results.write(run, made)
    return made


def test_results_hold_what_is_promised(tmp_path: Path) -> None:
    table(tmp_path, result('uring/007', 'uring', Verdict.PASS))
    read = json.loads((tmp_path / 'results' / 'latest' / 'results.json').read_text())
    (check,) = read['checks']
    assert {name: check[name] for name in ('name', 'section', 'verdict', 'seconds')} == {
        'name': 'uring/007', 'section': 'uring', 'verdict': 'pass', 'seconds': 0.5,
    }  # fmt: skip
    assert read['stages'] == {'build': 31.23, 'checks': 4.0}
    assert read['kernel']['release'] == '6.12.0-fl-abc'
    assert read['kernel']['build_id'] == 'a1b2'
    assert read['kernel']['series_digest'] == 'd' * 64
    assert read['accelerator'] == 'tcg'
    assert read['counts'] == {'pass': 1}


def test_report_of_a_bad_run(tmp_path: Path) -> None:
    made = table(
        tmp_path,
        result('data/001', 'dev', Verdict.PASS),
        result('data/001', 'uring', Verdict.FAIL, reason='output differs'),
        result('uring/002', 'uring', Verdict.NOTRUN, reason='2 CPUs, needs 4'),
        result('uring/003', 'uring', Verdict.CRASH, reason='KASAN: use-after-free'),
        status=1,
        canaries=[{'name': 'warn', 'how': 'provoked', 'ok': True}, {'name': 'kasan', 'how': 'replayed', 'ok': True}],
        strays=[{'kind': 'WARN', 'line': 'WARNING: x', 'where': 'while booting'}],
    )
    text = report.render_plain(made, tmp_path)
    for words in (
        'FAIL data/001 section uring: output differs',
        'CRASH uring/003 section uring: KASAN: use-after-free',
        'repeat: make vm-test CHECK=data/001',
        'notrun, 2 CPUs, needs 4: uring/002[uring]',
        'canaries: 2 of 2 detected; provoked: warn; replayed: kasan',
        'console, outside of any check (while booting): WARN: WARNING: x',
        '31.2',
    ):
        assert words in text
    assert text.rstrip().endswith('1 pass, 1 notrun, 1 fail, 1 crash')


def test_report_shows_the_head_of_long_evidence(tmp_path: Path) -> None:
    made = table(tmp_path, result('data/001', 'dev', Verdict.FAIL, reason='output differs'), status=1)
    made['checks'][0]['files'] = {'diff': 'x.diff'}
    (tmp_path / 'x.diff').write_text(''.join(f'line {number}\n' for number in range(100)))
    text = report.render_plain(made, tmp_path)
    assert 'line 0\n' in text
    assert 'line 99' not in text
    assert f'75 lines more in {tmp_path}/x.diff' in text


def test_interrupted_says_so(tmp_path: Path) -> None:
    made = table(tmp_path, result('data/001', 'dev', Verdict.PASS), status=130)
    assert report.closing(made) == '1 pass (interrupted)'


@pytest.mark.parametrize('text', ['', 'not json', '[]', '{"format": 99}'])
def test_what_is_no_result_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / 'results.json').write_text(text)
    with pytest.raises(UsageError, match=r'results\.json'):
        results.read(tmp_path)


def test_no_result_at_all(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='there is no such file'):
        results.read(tmp_path / 'none' / 'results.json')


def test_runs_at_once_never_share_a_folder(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(runfolder.create(tmp_path / 'results').name)) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 20
    assert (tmp_path / 'results' / 'latest').resolve().name in found
    assert not list((tmp_path / 'results').glob('.latest*'))


def test_memo_survives_damage_and_forgets_the_oldest(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    memo = Memo(cache, 'x')
    memo.put({'a': 1})
    assert Memo(cache, 'x').get('a') == 1
    (tmp_path / 'memo' / 'x.json').write_text('{')
    assert memo.get('a') is None
    memo.put({str(number): number for number in range(600)})
    assert memo.get('0') is None
    assert memo.get('599') == 599


@pytest.mark.parametrize(
    ('loop', 'fork', 'factor'), [(0.01, 0.01, 1.0), (0.3, 0.05, 3.0), (0.1, 0.2, 4.0), (1000.0, 1.0, 60.0)]
)
def test_factor_is_that_of_the_slower(loop: float, fork: float, factor: float) -> None:
    assert speed.factor_of(loop, fork) == factor


def test_guess_is_higher_for_emulation_and_checkers(tmp_path: Path) -> None:
    plain, kasan = speed.guess(TCG, ''), speed.guess(TCG, 'kasan')
    assert 1.0 < plain.factor < kasan.factor
    assert not plain.measured
    assert speed.remembered(Cache(tmp_path), TCG, '', 2) is None


def test_timings_estimate_what_was_never_timed_by_the_mean(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    Timings(cache, 'tcg').save({'a': 1.0, 'b': 3.0})
    again = Timings(cache, 'tcg')
    assert again.estimate(['a', 'b', 'new']) == 6.0
    assert Timings(cache, 'kvm').estimate(['a']) == 1.0


def test_progress_in_plain_lines() -> None:
    stream = StringIO()
    with Progress(Console(file=stream, width=60)) as progress:
        progress.stage_started('boot')
        progress.plan(['data/001[dev]', 'data/001[uring]'])
        progress.check_started('data/001[dev]')
        progress.check_done('data/001[dev]', 'pass', 0.4, '')
        progress.check_done('data/001[uring]', 'crash', 1.0, 'a reason that is longer than the terminal is wide')
    lines = stream.getvalue().splitlines()
    assert lines[0].endswith('] boot')
    assert lines[1].endswith('1/2 data/001[dev] pass 0.4 s')
    assert lines[2].endswith('2/2 data/001[uring] crash 1.0 s  a reason that is longer than the terminal is wide')


def test_progress_on_a_terminal_shows_counts_and_time_to_go(tmp_path: Path) -> None:
    progress = Progress(Console(file=StringIO(), force_terminal=True, width=200))
    progress.timings = Timings(Cache(tmp_path), 'tcg')
    progress.plan(['a', 'b', 'c'])
    progress.check_started('a')
    progress.check_done('a', 'pass', 1.0, '')
    progress.check_started('b')
    text = progress.__rich__().plain
    assert 'checks b' in text
    assert '1/3' in text
    assert '1 pass' in text
    assert 'about 0:02 to go' in text
