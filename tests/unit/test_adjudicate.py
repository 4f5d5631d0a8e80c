# SPDX-License-Identifier: GPL-2.0-only
"""Adjudication: the probability against simulation, when it stops, what it says, and what it survives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakecampaign import FakeCampaign, event, failed, fake_campaigns
from makeresults import run_of

from harness import adjudicate as module
from harness import cli, config, results
from harness.adjudicate import CannotRunError, Finding, Tally, adjudicate, more_often, regression, status_of
from harness.boot import BootError
from harness.errors import BuildError, LabError, UsageError
from harness.formats.schema import problems
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.report import render_plain
from harness.source import SourceRequest
from harness.verdict import LAB, Verdict


@pytest.mark.parametrize(
    ('a', 'b'), [((3, 3), (0, 3)), ((1, 10), (0, 10)), ((5, 10), (5, 10)), ((2, 8), (6, 9)), ((20, 20), (0, 20))]
)
def test_which_rate_is_higher_is_that_of_a_simulation(a: tuple[int, int], b: tuple[int, int]) -> None:
    chance = random.Random(1)
    draws = 40_000

    def rate(fails: int, runs: int) -> float:
        return chance.betavariate(fails + 0.5, runs - fails + 0.5)

    simulated = sum(rate(*a) > rate(*b) for _ in range(draws)) / draws
    assert more_often(Tally(*a), Tally(*b)) == pytest.approx(simulated, abs=0.01)


@pytest.mark.parametrize('counts', [(3, 0), (2, 0), (1, 0), (2, 1), (3, 3), (0, 1)])
def test_a_regression_is_as_likely_as_among_kernels_drawn_at_random(counts: tuple[int, int]) -> None:
    """Half of the pairs have the same rate; of those that show these counts so many are regressions."""
    draw = np.random.default_rng(1)
    total, runs = 1_000_000, 3
    patched = draw.beta(0.5, 0.5, total)
    baseline = np.where(draw.random(total) < 0.5, patched, draw.beta(0.5, 0.5, total))
    like = (draw.binomial(runs, patched) == counts[0]) & (draw.binomial(runs, baseline) == counts[1])
    simulated = (patched > baseline)[like].mean()
    assert regression(Tally(counts[0], runs), Tally(counts[1], runs)) == pytest.approx(simulated, abs=0.01)


class Coin:
    """A Bench. Fails at a rate, or raises what is given, from some run on."""

    def __init__(self, rate: float, seed: int = 1, trouble: BaseException | None = None, after: int = 0) -> None:
        self.rate, self.trouble, self.after, self.runs = rate, trouble, after, 0
        self._chance = random.Random(seed)

    def fails(self, name: str, section: str) -> bool:
        Clock.now += 1.0
        if self.trouble is not None and self.runs >= self.after:
            raise self.trouble
        self.runs += 1
        return self._chance.random() < self.rate


class Clock:
    now = 0.0


def judge(patched: Coin, baseline: Coin, budget: float = 1000.0) -> Finding:
    Clock.now = 0.0
    (finding,) = adjudicate([Finding('a/1', 'dev')], patched, baseline, budget, lambda _: None, lambda: Clock.now)
    return finding


def test_a_plain_regression_is_soon_decided() -> None:
    finding = judge(Coin(1.0), Coin(0.0))
    assert finding.judgement == 'regression'
    assert finding.probability is not None
    assert finding.probability >= 0.99
    assert finding.patched.runs <= 5
    assert str(finding).startswith('regression: fails 5 of 5 with the patches, baseline 0 of 5, probability')


def test_what_fails_without_the_patches_too() -> None:
    finding = judge(Coin(1.0), Coin(1.0))
    assert (finding.judgement, finding.patched) == ('fails on the baseline too', Tally(20, 20))


def test_what_fails_more_often_but_on_the_baseline_too_is_open() -> None:
    finding = Finding('a/1', 'dev', Tally(9, 20), Tally(2, 20))
    assert finding.probability is not None
    assert 0.5 < finding.probability < 0.95
    assert finding.judgement == 'cannot tell'


def test_a_flake_that_is_not_seen_again() -> None:
    finding = judge(Coin(0.0), Coin(0.0))
    assert (finding.judgement, finding.patched, finding.baseline) == ('not seen again', Tally(0, 20), Tally(0, 20))
    # A few passes mean little for a failure that comes and goes.
    assert judge(Coin(0.0), Coin(0.0), budget=26).judgement == 'cannot tell'
    assert judge(Coin(0.0), Coin(0.0), budget=28).judgement == 'not seen again'


def test_the_baseline_may_not_be_able_to() -> None:
    baseline = Coin(0.0, trouble=CannotRunError('kernel has no FUSE over io_uring'))
    finding = judge(Coin(1.0), baseline)
    assert (finding.judgement, finding.probability) == ('the baseline cannot run it', None)
    assert 'kernel has no FUSE over io_uring' in str(finding)
    assert (finding.patched, finding.trouble) == (Tally(6, 6), '')
    assert status_of([finding]) == 1
    # What does not fail any more needs no baseline.
    assert judge(Coin(0.0), baseline).judgement == 'not seen again'


def test_time_is_up() -> None:
    finding = judge(Coin(0.5), Coin(0.5), budget=7.0)
    assert finding.patched.runs == 4
    assert not finding.decided
    Clock.now = 0.0
    two = [Finding('a/001', 'dev'), Finding('a/002', 'dev')]
    found = adjudicate(two, Coin(0.0), Coin(0.0), 1.0, lambda _: None, lambda: Clock.now)
    # Each has had its turn: no check is left without a word.
    assert [finding.patched.runs for finding in found] == [1, 1]
    assert status_of(found) == 1


RATES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def test_blames_are_as_rare_as_they_say() -> None:
    """`regression` is said at .95: of kernels that fail equally often one in twenty may be blamed, at any rate."""
    seeds = range(300)
    blamed = [
        sum(judge(Coin(rate, seed), Coin(rate, seed + 1000)).judgement == 'regression' for seed in seeds)
        for rate in RATES
    ]
    assert blamed == [0, 0, 1, 1, 1, 0, 0]
    found = [judge(Coin(0.6, seed), Coin(0.02, seed + 1000)).judgement for seed in seeds]
    assert found.count('regression') == 293


def test_one_check_in_trouble_leaves_the_others_alone() -> None:
    class Bench(Coin):
        def fails(self, name: str, section: str) -> bool:
            if name == 'a/1':
                raise CannotRunError('no such file')
            if name == 'a/2' and self.runs >= 2:
                raise LabError(f'{LAB}its guest was killed 3 times')
            return super().fails(name, section)

    three = [Finding(f'a/{number}', 'dev') for number in (1, 2, 3)]
    found = adjudicate(three, Bench(1.0), Coin(0.0), 1000.0, lambda _: None, lambda: 0.0)
    assert [one.judgement for one in found] == ['cannot tell', 'cannot tell', 'regression']
    assert str(found[0]) == 'cannot tell: it does not run any more: no such file'
    assert 'then lab trouble: its guest was killed' in str(found[1])
    assert [status_of(found[:1]), status_of(found[1:2]), status_of(found)] == [1, 3, 1]
    assert status_of([Finding('a', 'dev', Tally(0, 20), Tally(0, 20))]) == 0


def test_rounds_are_kept_whatever_comes() -> None:
    kept: list[list[Tally]] = []

    def keep(found: Sequence[Finding]) -> None:
        kept.append([finding.patched for finding in found])

    interrupted = Coin(1.0, trouble=KeyboardInterrupt(), after=2)
    with pytest.raises(KeyboardInterrupt):
        adjudicate([Finding('a/1', 'dev')], interrupted, Coin(0.0), 1000.0, keep, lambda: 0.0)
    assert kept == [[Tally(1, 1)], [Tally(2, 2)], [Tally(2, 2)]]


# --- of a run ------------------------------------------------------------------------------------

GOOD, BAD = failed(Verdict.PASS, ''), failed()
KILLED = failed(Verdict.CRASH, f'{LAB}its guest was killed 3 times: SIGKILL', killed='SIGKILL')


@pytest.fixture
def run(tmp_path: Path, lab: Lab) -> Path:
    """In which two checks fail."""
    for number in ('001', '002'):
        check = lab.root / 'tests' / 'checks' / 'data' / number
        check.parent.mkdir(parents=True, exist_ok=True)
        check.write_text('#!/bin/bash\n# check: x\n# groups: auto\n')
        check.chmod(0o755)
        check.with_name(f'{number}.out').write_text('')
    checks = (('data/001', 'dev', 'fail'), ('data/002', 'dev', 'crash'), ('data/003', 'dev', 'pass'))
    run_of(tmp_path, 'A', *checks, status=1)
    (tmp_path / 'bzImage').write_text('')
    return tmp_path / 'A'


def of_run(
    lab: Lab, run: Path, monkeypatch: pytest.MonkeyPatch, patched: Iterable[object], baseline: Iterable[object]
) -> dict[str, dict[str, Any]]:
    """What results.json says afterwards, by check."""
    fake_campaigns(monkeypatch, {'patched': patched, 'baseline': baseline})
    request = KernelRequest(SourceRequest(), config.ConfigRequest((), ''), 'none')
    module.of_run(lab, results.read(run), run, request, 1.0)
    table = results.read(run)
    assert not problems(table)
    return {check['name']: check.get('adjudication') for check in table['checks']}


def test_what_is_found_is_in_the_results(run: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # A complaint outside of the check is not its failure.
    found = of_run(lab, run, monkeypatch, itertools.repeat(BAD), itertools.cycle([GOOD, event()]))
    assert found['data/001']['patched'] == {'fails': 5, 'runs': 5}
    assert found['data/001']['baseline'] == {'fails': 0, 'runs': 5}
    assert found['data/003'] is None
    assert 'regression: fails 5 of 5 with the patches' in render_plain(results.read(run), run)
    assert 'regression: fails 5 of 5 with the patches' in (run / 'report.html').read_text()
    # And once more.
    assert (
        of_run(lab, run, monkeypatch, itertools.repeat(GOOD), itertools.repeat(GOOD))['data/001']['patched']['fails']
        == 0
    )


def test_kernels_and_guests_in_trouble(run: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [BootError('hangs')] * 3
    both = [f'data/00{number}' for number in (1, 2)]
    found = of_run(lab, run, monkeypatch, silent, ())
    # It is not tried anew for each check; nobody says that the baseline is wrong.
    assert {found[name]['text'] for name in both} == {
        'cannot tell: it does not run any more: the kernel does not boot: hangs'
    }
    found = of_run(lab, run, monkeypatch, itertools.repeat(BAD), [BuildError('error: x')])
    assert {found[name]['judgement'] for name in both} == {'the baseline cannot run it'}
    assert 'baseline: the kernel does not build: error: x' in found['data/002']['text']
    found = of_run(lab, run, monkeypatch, [KILLED, *[BAD] * 9], itertools.repeat(GOOD))
    assert 'its guest was killed' in found['data/001']['text']
    assert found['data/002']['judgement'] == 'regression'
    found = of_run(lab, run, monkeypatch, itertools.repeat(BAD), itertools.repeat(failed(Verdict.NOTRUN, 'no ring')))
    assert 'baseline: no ring' in found['data/001']['text']
    assert FakeCampaign.stopped == 2


def test_an_interruption_loses_nothing(run: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        of_run(lab, run, monkeypatch, [*[BAD] * 5, KeyboardInterrupt()], itertools.repeat(GOOD))
    found = [check.get('adjudication') for check in results.read(run)['checks']]
    assert [one and one['patched']['runs'] for one in found] == [3, 2, None]


def test_checks_that_are_gone_do_not_stop_the_others(run: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    table = results.read(run)
    table['checks'][0]['name'] = 'generic/075'
    results.write(module.RunFolder(run), table)
    found = of_run(lab, run, monkeypatch, itertools.repeat(BAD), itertools.repeat(GOOD))
    assert found['generic/075']['text'] == 'cannot tell: it is a test of xfstests: XFSTESTS= names the tree'
    assert found['data/002']['judgement'] == 'regression'


def test_runs_without_failures_or_kernel_are_refused(run: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    run_of(run.parent, 'B', ('a/001', 'dev', 'pass'))
    with pytest.raises(UsageError, match='nothing fails there'):
        of_run(lab, run.parent / 'B', monkeypatch, (), ())
    (run.parent / 'bzImage').unlink()
    with pytest.raises(UsageError, match='the kernel of the run is gone'):
        of_run(lab, run, monkeypatch, (), ())


def test_the_command_says_what_was_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    open_ = Finding('a/001', 'uring', Tally(1, 1), None, 'no ring')
    monkeypatch.setattr(module, 'of_run', lambda *_: [open_])
    monkeypatch.setattr(module, 'baseline_of', lambda *_: None)
    assert cli.main(['adjudicate', str(run)]) == 1
    said = capsys.readouterr().err
    assert 'time was up before 1 of 1 were decided' in said
    assert 'names a baseline that can' in said
