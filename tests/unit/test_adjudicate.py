# SPDX-License-Identifier: GPL-2.0-only
"""Adjudication: the probability against simulation, when it stops, and what it says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from makeresults import run_of

from harness import adjudicate as module
from harness import results
from harness.adjudicate import Finding, Tally, adjudicate, more_often
from harness.errors import UsageError
from harness.formats.schema import problems
from harness.kernel import KernelRequest
from harness.report import render_plain


@pytest.mark.parametrize(
    ('a', 'b'), [((3, 3), (0, 3)), ((1, 10), (0, 10)), ((5, 10), (5, 10)), ((2, 8), (6, 9)), ((20, 20), (0, 20))]
)
def test_probability_is_that_of_a_simulation(a: tuple[int, int], b: tuple[int, int]) -> None:
    chance = random.Random(1)
    draws = 40_000

    def rate(fails: int, runs: int) -> float:
        return chance.betavariate(fails + 0.5, runs - fails + 0.5)

    simulated = sum(rate(*a) > rate(*b) for _ in range(draws)) / draws
    assert more_often(Tally(*a), Tally(*b)) == pytest.approx(simulated, abs=0.01)


class Coin:
    """Fails at a rate, or says why it does not run."""

    def __init__(self, rate: float, seed: int = 1, notrun: str = '', seconds: float = 1.0) -> None:
        self.rate, self.notrun, self.runs, self.seconds = rate, notrun, 0, seconds
        self._chance = random.Random(seed)

    def run(self, name: str, section: str) -> tuple[str, str]:
        self.runs += 1
        Clock.now += self.seconds
        if self.notrun:
            return 'notrun', self.notrun
        return ('fail', 'output differs') if self._chance.random() < self.rate else ('pass', '')


class Clock:
    now = 0.0


def judge(patched: Coin, baseline: Coin, budget: float = 1000.0) -> Finding:
    Clock.now = 0.0
    (finding,) = adjudicate([('data/001', 'dev')], patched, baseline, budget, lambda: Clock.now)
    return finding


def test_a_plain_regression_is_soon_decided() -> None:
    finding = judge(Coin(1.0), Coin(0.0))
    assert finding.judgement == 'regression'
    assert finding.probability is not None
    assert finding.probability >= 0.99
    assert finding.patched.runs <= 4
    assert str(finding).startswith('regression: fails 3 of 3 with the patches, baseline 0 of 3, probability')


def test_what_fails_without_the_patches_too() -> None:
    finding = judge(Coin(1.0), Coin(1.0))
    assert (finding.judgement, finding.patched) == ('fails on the baseline too', Tally(20, 20))


def test_a_flake_that_is_not_seen_again() -> None:
    finding = judge(Coin(0.0), Coin(0.0))
    assert (finding.judgement, finding.patched, finding.baseline) == ('not seen again', Tally(0, 20), Tally(0, 20))


def test_the_baseline_may_not_be_able_to() -> None:
    baseline = Coin(0.0, notrun='kernel has no FUSE over io_uring')
    finding = judge(Coin(1.0), baseline)
    assert (finding.judgement, finding.probability) == ('the baseline cannot run it', None)
    assert 'kernel has no FUSE over io_uring' in str(finding)
    assert (finding.patched, baseline.runs) == (Tally(6, 6), 1)


def test_budget() -> None:
    finding = judge(Coin(0.5), Coin(0.5), budget=7.0)
    assert finding.patched.runs == 4
    Clock.now = 0.0
    found = adjudicate([('a/001', 'dev'), ('a/002', 'dev')], Coin(0.0), Coin(0.0), 1.0, lambda: Clock.now)
    # Each has had its turn: no check is left without a word.
    assert [finding.patched.runs for finding in found] == [1, 1]


def test_blames_are_as_rare_as_they_say() -> None:
    """Flaky on both kernels alike: `regression` is said in few cases only."""
    blamed = sum(judge(Coin(0.3, seed), Coin(0.3, seed + 1000)).judgement == 'regression' for seed in range(300))
    assert blamed <= 300 * 0.08
    found = sum(judge(Coin(0.6, seed), Coin(0.02, seed + 1000)).judgement == 'regression' for seed in range(300))
    assert found >= 300 * 0.9


def test_what_does_not_run_any_more_is_told() -> None:
    with pytest.raises(UsageError, match=r'data/001\[dev\] does not run any more: gone'):
        judge(Coin(0.0, notrun='gone'), Coin(0.0))


def test_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = run_of(tmp_path, 'A', ('data/001', 'dev', 'fail'), ('data/002', 'dev', 'pass'), status=1)
    (tmp_path / 'bzImage').write_text('')
    made: list[Any] = []

    class Bench(Coin):
        def __init__(self, lab: object, options: Any, folder: Path) -> None:
            super().__init__(1.0 if folder.name == 'patched' else 0.0)
            made.append((options.request.kernel, self))

        def prepare(self) -> None:
            self.closed = False

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr(module, 'GuestBench', Bench)
    request: Any = KernelRequest(None, None, 'none')  # type: ignore[arg-type]
    (finding,) = module.of_run(None, table, tmp_path / 'A', request, 1.0)  # type: ignore[arg-type]
    assert finding.judgement == 'regression'
    assert [path for path, _ in made] == [tmp_path / 'bzImage', None]
    assert all(bench.closed for _, bench in made)
    again = results.read(tmp_path / 'A')
    assert not problems(again)
    assert again['checks'][0]['adjudication']['patched'] == {'fails': 3, 'runs': 3}
    assert 'regression: fails 3 of 3 with the patches' in render_plain(again, tmp_path / 'A')
    assert 'regression: fails 3 of 3 with the patches' in (tmp_path / 'A' / 'report.html').read_text()
    with pytest.raises(UsageError, match='nothing fails there'):
        module.of_run(None, run_of(tmp_path, 'B', ('a/001', 'dev', 'pass')), tmp_path / 'B', request, 1.0)  # type: ignore[arg-type]
    (tmp_path / 'bzImage').unlink()
    with pytest.raises(UsageError, match='the kernel of the run is gone'):
        module.of_run(None, table, tmp_path / 'A', request, 1.0)  # type: ignore[arg-type]
