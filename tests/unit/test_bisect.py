# SPDX-License-Identifier: GPL-2.0-only
"""Bisection but for its engine and what it looks through: signatures, how runs are judged, the search, resuming."""

from __future__ import annotations

import json
import random
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bisectsim import REQUEST, Memory, patches
from fakecampaign import FakeCampaign, event, failed, fake_campaigns

from harness.bisect import signature, subjects
from harness.bisect.engine import Tally
from harness.bisect.judgement import CostsMore, FailsThisWay, Word
from harness.bisect.report import Answer, steps, write
from harness.bisect.search import Search, find, find_healing
from harness.bisect.signature import Signature
from harness.bisect.state import Observation, Outcome, State
from harness.bisect.subjects import Range, Subject
from harness.bisect.trial import CheckTrial, Item, judge
from harness.boot import BootError
from harness.campaign import CampaignOptions
from harness.errors import ApplyError, BuildError, LabError, VerdictError
from harness.guest import GuestLostError
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.series import PatchSeries
from harness.verdict import LAB, CheckResult, Verdict

THIS = Signature('uring/007[uring]', 'fail', ('-right', '+wrong'))
OTHER = Signature('uring/007[uring]', 'fail', ('-right', '+something else'))


# --- signatures ----------------------------------------------------------------------------------


def test_the_same_failure_at_another_time_has_the_same_signature() -> None:
    head = '--- 007.out\n+++ 007.out.bad\n@@ -1 +1 @@\n'
    one = f'{head}-pid 12 at 0xffff888001 read 4096\n+pid 12 at 0xffff888001 read 0\n x'
    two = f'{head}-pid 991 at 0x12 read 1\n+pid 991   at 0x12 read 77\n y'
    three = f'{head}-pid 991 at 0x12 read 1\n+killed\n y'
    signs = [signature.of_check(failed(diff=diff)) for diff in (one, two, three)]
    assert signs[0] == signs[1]
    assert not signs[0].same(signs[2])


def test_a_splat_is_known_by_its_fingerprint_wherever_it_shows() -> None:
    crash = signature.of_check(failed(Verdict.CRASH, 'WARN: ...', '-a\n+b', events=(event(),)))
    again = signature.of_check(failed(Verdict.CRASH, 'WARN: ...', '-a\n+c', events=(event(), event('def456'))))
    (stray,) = signature.of_events([event()])
    assert crash.same(again)
    assert crash.same(stray)
    assert not crash.same(signature.of_check(failed(Verdict.CRASH, events=(event('def456'),))))
    assert not crash.same(signature.of_check(failed(diff='-a\n+b')))


def test_how_far_a_hang_got_does_not_matter() -> None:
    one, two = (failed(Verdict.HANG, 'did not end in time', diff) for diff in ('-a', '-b'))
    assert signature.of_check(one).same(signature.of_check(two))


def test_a_run_that_fails_says_how_and_one_with_strays_too() -> None:
    good, bad = failed(Verdict.PASS, ''), failed(diff='-a\n+b')
    assert judge('k', [good], []).outcome is Outcome.PASS
    assert judge('k', [good], [event()]).outcome is Outcome.SPLAT
    assert judge('k', [good, failed(Verdict.NOTRUN, 'no ring')], []).outcome is Outcome.NOTRUN
    assert judge('k', [replace(bad, known='an old bug')], []).outcome is Outcome.FAIL
    made = judge('k', [bad, failed(Verdict.NOTRUN, 'no ring')], [event()])
    assert made.outcome is Outcome.FAIL
    assert [sign.kind for sign in made.signatures] == ['fail', 'WARN']


# --- judgement -----------------------------------------------------------------------------------


def seen(kernel: str, outcome: Outcome, *signs: Signature, values: tuple[float, ...] = ()) -> Observation:
    return Observation(kernel, outcome, signs, 'why', values, {'build': 60.0, 'boot': 10.0, 'check': 5.0})


def test_only_the_failure_that_is_looked_for_counts() -> None:
    criterion = FailsThisWay().learn([seen('bad', Outcome.FAIL, THIS)], [])
    words = {
        Word.BAD: seen('k', Outcome.FAIL, OTHER, THIS),
        Word.GOOD: seen('k', Outcome.PASS),
        Word.NOTHING: seen('k', Outcome.FAIL, OTHER),
    }
    for word, one in words.items():
        assert criterion.word(one) is word
    assert replace(criterion, any=True).word(seen('k', Outcome.FAIL, OTHER)) is Word.BAD
    assert criterion.tally('k', list(words.values())) == Tally(1, 1, False)
    assert criterion.tally('k', [seen('k', Outcome.FAIL, OTHER)] * 2).blocked
    assert criterion.tally('k', [seen('k', Outcome.BUILD, signature.of_stage('build', 'x'))]).blocked
    silent = seen('k', Outcome.BOOT, signature.of_stage('boot', 'x'))
    assert criterion.tally('k', [silent]).blocked
    assert criterion.tally('k', [silent, seen('k', Outcome.PASS)]) == Tally(0, 1, False)


def test_of_two_ways_to_fail_the_one_of_the_good_end_is_not_looked_for() -> None:
    bad = [seen('bad', Outcome.FAIL, OTHER), seen('bad', Outcome.FAIL, THIS)]
    assert FailsThisWay().learn(bad, []).known == (OTHER, THIS)
    assert FailsThisWay().learn(bad, [seen('good', Outcome.FAIL, OTHER)]).known == (THIS,)
    assert FailsThisWay().learn(bad[:1], [seen('good', Outcome.FAIL, OTHER)]).known == (OTHER,)


def test_what_the_good_end_splats_too_is_not_the_failure() -> None:
    (stray,) = signature.of_events([event()])
    criterion = FailsThisWay().learn([seen('bad', Outcome.FAIL, THIS, stray)], [seen('good', Outcome.SPLAT, stray)])
    assert criterion.known == (THIS,)
    assert criterion.word(seen('k', Outcome.SPLAT, stray)) is Word.GOOD
    (new,) = signature.of_events([event('def456')])
    assert criterion.word(seen('k', Outcome.SPLAT, new)) is Word.NOTHING


def test_a_bad_end_that_does_not_build_is_looked_for_as_such() -> None:
    broken = signature.of_stage('build', 'does not build: fs/fuse/dev.c:12: error: x')
    criterion = FailsThisWay().learn([seen('bad', Outcome.BUILD, broken)], [])
    elsewhere = signature.of_stage('build', 'does not build: fs/fuse/dev.c:99: error: x')
    assert criterion.word(seen('k', Outcome.BUILD, elsewhere)) is Word.BAD
    assert criterion.word(seen('k', Outcome.FAIL, OTHER)) is Word.GOOD
    assert criterion.tally('k', [seen('k', Outcome.APPLY, signature.of_stage('apply', 'y'))]).blocked


def test_a_kernel_that_did_boot_is_not_looked_for_as_one_that_does_not() -> None:
    silent = seen('bad', Outcome.BOOT, signature.of_stage('boot', 'the kernel hangs'))
    criterion = FailsThisWay().learn([silent, seen('bad', Outcome.FAIL, THIS)], [])
    assert criterion.known == (THIS,)
    assert criterion.word(silent) is Word.NOTHING
    assert FailsThisWay().learn([silent], []).word(silent) is Word.BAD


def test_costs_are_compared_with_the_reference_and_near_the_limit_say_nothing() -> None:
    costs = {'ref': (100.0, 100.02), 'dear': (102.0, 102.0), 'same': (100.3, 100.3), 'near': (101.02,)}
    observations = tuple(seen(key, Outcome.COST, values=values) for key, values in costs.items())
    criterion = CostsMore(0.01, dict.fromkeys(costs, 'ref'), observations)
    words = [criterion.word(one) for one in observations]
    assert words == [Word.GOOD, Word.BAD, Word.GOOD, Word.NOTHING]
    assert criterion.tally('x', [seen('x', Outcome.NOTRUN)]).blocked


# --- the search ----------------------------------------------------------------------------------

Kernel = Callable[[Subject], Observation]


class FakeTrial:
    """Kernels that are a function."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.runs: list[str] = []
        self.subject: Subject | None = None

    def run(self, subject: Subject) -> Observation:
        self.subject = subject
        self.runs.append(subject.key)
        return self.kernel(subject)

    def up(self) -> Subject | None:
        return self.subject

    def close(self) -> None:
        self.subject = None


@pytest.fixture
def whole(tmp_path: Path) -> PatchSeries:
    return patches(tmp_path / 'patches', [f'{number:04d}-p.patch' for number in range(1, 13)])


def search(tmp_path: Path, asked: Range, kernel: Kernel, confidence: float = 0.95) -> Search:
    return Search(asked, FakeTrial(kernel), State(tmp_path / 'state.jsonl', {}), confidence)


def by_prefix(bad_from: int, outcomes: dict[int, Outcome] | None = None) -> Kernel:
    """Fails from this patch on; some prefixes end otherwise."""

    def kernel(subject: Subject) -> Observation:
        number = subject.request.prefix or 0
        outcome = (outcomes or {}).get(number)
        if outcome is not None:
            return seen(subject.key, outcome, OTHER)
        return seen(subject.key, Outcome.FAIL, THIS) if number >= bad_from else seen(subject.key, Outcome.PASS)

    return kernel


def test_finds_the_patch(tmp_path: Path, whole: PatchSeries) -> None:
    for guilty in (1, 5, 12):
        looked = search(tmp_path / str(guilty), subjects.of_series(REQUEST, whole), by_prefix(guilty))
        answer = find(looked, FailsThisWay())
        assert answer.found, answer.trouble
        assert answer.suspects == (f'{guilty:04d}-p.patch',)
        assert answer.probability >= 0.95
        assert len({one.kernel for one in looked.seen}) <= 6


def test_prefixes_that_do_not_build_are_named_when_they_hide_the_answer(tmp_path: Path, whole: PatchSeries) -> None:
    outcomes = {5: Outcome.BUILD, 6: Outcome.FAIL}
    looked = search(tmp_path, subjects.of_series(REQUEST, whole), by_prefix(6, outcomes))
    answer = find(looked, FailsThisWay())
    assert not answer.found
    assert [name[:4] for name in answer.suspects] == ['0005', '0006', '0007']
    assert 'one of 3' in answer.trouble
    assert len(answer.notes) == 2
    assert 'does not build' in answer.notes[0]


def test_prefixes_that_lack_what_the_check_needs(tmp_path: Path, whole: PatchSeries) -> None:
    lacking = dict.fromkeys(range(6), Outcome.NOTRUN)
    looked = search(tmp_path / 'late', subjects.of_series(REQUEST, whole), by_prefix(9, lacking))
    assert find(looked, FailsThisWay()).suspects == ('0009-p.patch',)
    looked = search(tmp_path / 'early', subjects.of_series(REQUEST, whole), by_prefix(3, lacking))
    answer = find(looked, FailsThisWay())
    assert not answer.found
    assert answer.trouble == 'as far back as it can be tested it fails: one of the first 6 patches, or older'


def test_a_bad_end_that_passes_blames_nobody(tmp_path: Path, whole: PatchSeries) -> None:
    looked = search(tmp_path, subjects.of_series(REQUEST, whole), by_prefix(99))
    answer = find(looked, FailsThisWay())
    assert not answer.found
    assert answer.trouble == 'the bad end passes: 14 of 14 runs'
    assert not answer.suspects


def test_how_often_a_flaky_bad_end_fails_is_found_out_first(tmp_path: Path, whole: PatchSeries) -> None:
    chance = random.Random(3)

    def kernel(subject: Subject) -> Observation:
        if (subject.request.prefix or 0) >= 8 and chance.random() < 0.5:
            return seen(subject.key, Outcome.FAIL, THIS)
        return seen(subject.key, Outcome.PASS)

    looked = search(tmp_path, subjects.of_series(REQUEST, whole), kernel)
    answer = find(looked, FailsThisWay())
    assert answer.suspects == ('0008-p.patch',)
    first = [one for one in looked.seen[:9] if one.kernel == looked.range.subjects[-1].key]
    assert len(first) == 9
    assert answer.shown is not None
    assert 0.3 < answer.shown[0] / answer.shown[1] < 0.8


class Sections(CheckTrial):
    """A check in both sections: rate of failure by section from some patch on; over the ring it needs patch 6."""

    def __init__(self, rates: dict[str, float]) -> None:
        check: Any = SimpleNamespace(name='data/001')
        self.items = tuple(Item(check, section) for section in rates)
        self._rates = rates
        self._chance = random.Random(1)
        self._subject: Subject | None = None

    def run(self, subject: Subject) -> Observation:
        number = subject.request.prefix or 0
        self._subject = subject
        results = []
        for item in self.items:
            bad = number >= 3 and self._chance.random() < self._rates[item.section]
            verdict = Verdict.NOTRUN if item.section == 'uring' and number < 6 else Verdict('fail' if bad else 'pass')
            results.append(CheckResult('data/001', item.section, verdict, 1.0, str(verdict), diff='-a' * bad))
        return judge(subject.key, results, [])

    def up(self) -> Subject | None:
        return self._subject


@pytest.mark.parametrize('rates', [{'dev': 1.0, 'uring': 1.0}, {'dev': 0.6, 'uring': 0.6}])
def test_of_two_sections_that_fail_the_one_that_needs_less_is_kept(
    tmp_path: Path, whole: PatchSeries, rates: dict[str, float]
) -> None:
    looked = Search(subjects.of_series(REQUEST, whole), Sections(rates), State(tmp_path / 'state', {}), 0.95)
    answer = find(looked, FailsThisWay())
    assert answer.suspects == ('0003-p.patch',)
    assert answer.criterion.text == 'data/001[dev] fail: fail | -a'
    # Runs in which only the other one failed count as passed ones.
    assert answer.shown is not None
    assert answer.shown[0] / answer.shown[1] == pytest.approx(rates['dev'], abs=0.2)


def test_a_section_that_alone_fails_is_kept(tmp_path: Path, whole: PatchSeries) -> None:
    trial_ = Sections({'dev': 0.05, 'uring': 1.0})
    find(Search(subjects.of_series(REQUEST, whole), trial_, State(tmp_path / 'state', {}), 0.95), FailsThisWay())
    assert [item.section for item in trial_.items] == ['uring']


def test_each_end_of_a_git_range_is_tried_first(tmp_path: Path) -> None:
    def both(outcome: Outcome) -> tuple[bool, str]:
        kernels = tuple(Subject(f'k{number}', f'k{number}', REQUEST) for number in range(5))
        line = subjects.of_series(REQUEST, patches(tmp_path / 'p', 'abcd'))
        asked = replace(line, subjects=kernels, series=False)

        def kernel(subject: Subject) -> Observation:
            if subject.key == 'k0':
                return seen('k0', outcome, *([THIS] if outcome is Outcome.FAIL else []))
            return seen(subject.key, Outcome.FAIL, THIS)

        folder = tmp_path / outcome.name
        answer = find(search(folder, asked, kernel), FailsThisWay())
        return answer.found, answer.trouble

    assert both(Outcome.FAIL) == (False, 'GOOD fails this way too')
    assert both(Outcome.NOTRUN) == (False, 'GOOD cannot be tested: why')


def test_another_failure_in_between_is_no_proof(tmp_path: Path, whole: PatchSeries) -> None:
    others = dict.fromkeys((6, 7), Outcome.FAIL)  # with another signature
    looked = search(tmp_path, subjects.of_series(REQUEST, whole), by_prefix(10, others))
    answer = find(looked, FailsThisWay())
    assert answer.suspects == ('0010-p.patch',)


def test_an_interrupted_bisection_goes_on(tmp_path: Path, whole: PatchSeries) -> None:
    class Stopped(BaseException):
        pass

    count = 0

    def stops(subject: Subject) -> Observation:
        nonlocal count
        count += 1
        if count == 4:
            raise Stopped
        return by_prefix(7)(subject)

    asked = subjects.of_series(REQUEST, whole)
    with pytest.raises(Stopped):
        find(search(tmp_path, asked, stops), FailsThisWay())
    with (tmp_path / 'state.jsonl').open('a') as file:
        file.write('{"kernel": "cut off')
    again = search(tmp_path, asked, by_prefix(7))
    assert again.resumed == 3
    answer = find(again, FailsThisWay())
    assert answer.suspects == ('0007-p.patch',)
    straight = search(tmp_path / 'straight', asked, by_prefix(7))
    find(straight, FailsThisWay())
    assert [one.kernel for one in again.seen] == [one.kernel for one in straight.seen]
    assert isinstance(again.trial, FakeTrial)
    assert len(again.trial.runs) == len(again.seen) - 3
    # Nothing is left to do for a third time.
    third = search(tmp_path, asked, stops)
    assert find(third, FailsThisWay()).suspects == ('0007-p.patch',)
    assert State(tmp_path / 'state.jsonl', {}, forget=True).observations == []


def test_what_did_not_boot_is_tried_again_when_it_goes_on(tmp_path: Path, whole: PatchSeries) -> None:
    asked = subjects.of_series(REQUEST, whole)
    trouble = {6: Outcome.BOOT, 7: Outcome.NOTRUN}
    answer = find(search(tmp_path, asked, by_prefix(7, trouble)), FailsThisWay())
    assert not answer.found
    again = search(tmp_path, asked, by_prefix(7))
    assert 0 < again.resumed < len(State(tmp_path / 'state.jsonl', {}).observations)
    assert find(again, FailsThisWay()).suspects == ('0007-p.patch',)


def test_a_bad_end_that_does_not_boot_is_not_forgotten(tmp_path: Path, whole: PatchSeries) -> None:
    asked = subjects.of_series(REQUEST, whole)
    silent = dict.fromkeys(range(7, 13), Outcome.BOOT)
    assert find(search(tmp_path, asked, by_prefix(99, silent)), FailsThisWay()).suspects == ('0007-p.patch',)
    again = search(tmp_path, asked, by_prefix(99, silent))
    assert find(again, FailsThisWay()).suspects == ('0007-p.patch',)
    assert again.resumed == len(again.seen)


def test_the_patch_that_costs_more_than_its_counterpart(tmp_path: Path, whole: PatchSeries) -> None:
    good = patches(tmp_path / 'good', whole.names, 'good')

    def kernel(subject: Subject) -> Observation:
        number = subject.request.prefix or 0
        if number < 4:
            return seen(subject.key, Outcome.NOTRUN)
        planted = subject.request.series == str(whole.directory) and number >= 8
        value = (100.0 - number) * (1.02 if planted else 1.0)  # each patch makes it cheaper
        return seen(subject.key, Outcome.COST, values=(value, value * 1.0002))

    looked = search(tmp_path, subjects.of_series(REQUEST, whole, good), kernel)
    answer = find(looked, CostsMore(0.01, {}, (), 'cost/x'))
    assert answer.suspects == ('0008-p.patch',)
    assert answer.found, answer.trouble
    # Without the counterpart what the series itself does to the cost hides it.
    alone = search(tmp_path / 'alone', subjects.of_series(REQUEST, whole), kernel)
    answer = find(alone, CostsMore(0.01, {}, (), 'cost/x'))
    assert not answer.found
    assert answer.trouble.startswith('the bad end is not dearer by 1 %')


def test_a_cost_that_grows_in_small_steps_is_nobodys_fault(tmp_path: Path, whole: PatchSeries) -> None:
    def kernel(subject: Subject) -> Observation:
        value = 100.0 + 0.3 * (subject.request.prefix or 0)
        return seen(subject.key, Outcome.COST, values=(value,))

    answer = find(search(tmp_path, subjects.of_series(REQUEST, whole), kernel), CostsMore(0.01, {}, (), 'cost/x'))
    assert not answer.found
    assert answer.trouble.startswith('no single one: it crosses the limit with 0004-p.patch')


def test_dropping_one_patch_at_a_time(tmp_path: Path, whole: PatchSeries) -> None:
    def healing(needed: set[str]) -> Kernel:
        def kernel(subject: Subject) -> Observation:
            assert subject.request.series is not None
            there = set((Path(subject.request.series) / 'series').read_text().split())
            if '0002-p.patch' not in there:
                return seen(subject.key, Outcome.APPLY, signature.of_stage('apply', 'x'))
            return seen(subject.key, Outcome.FAIL, THIS) if there & needed else seen(subject.key, Outcome.PASS)

        return kernel

    asked = subjects.of_series(REQUEST, whole)
    looked = search(tmp_path / '1', asked, healing({'0007-p.patch'}))
    one = find_healing(looked, FailsThisWay(), tmp_path / 'one')
    assert one.found
    assert one.suspects == ('0007-p.patch',)
    assert one.notes == ('without 0002-p.patch: does not apply',)
    names = [step.name for step in steps(looked, one)]
    assert names[:2] == ['up to 12 0012-p.patch', 'without 0012-p.patch']
    assert all(name.startswith(('up to', 'without')) for name in names)
    both = {'0007-p.patch', '0008-p.patch'}
    two = find_healing(search(tmp_path / '2', asked, healing(both)), FailsThisWay(), tmp_path / 'two')
    assert not two.found
    assert two.trouble == 'none of the 11 patches that can be dropped alone heals it; 1 cannot be'


def test_of_many_patches_none_of_which_heals_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = patches(tmp_path / 'patches', [f'{number:04d}-p.patch' for number in range(1, 25)])
    asked = subjects.of_series(REQUEST, many)
    dropped = subjects.without_each(asked.subjects[-1].request, many, tmp_path / 'without')
    monkeypatch.setattr('harness.bisect.search.without_each', lambda *_: dropped)

    def answer(seed: int, healing: str) -> Answer:
        chance = random.Random(seed)
        share = chance.uniform(0.3, 0.5)

        def kernel(subject: Subject) -> Observation:
            if subject.name != f'without {healing}' and chance.random() < share:
                return seen(subject.key, Outcome.FAIL, THIS)
            return seen(subject.key, Outcome.PASS)

        looked = Search(asked, FakeTrial(kernel), Memory(), 0.95)  # type: ignore[arg-type]
        return find_healing(looked, FailsThisWay(), tmp_path)

    # One in twenty is what 0.95 allows.
    found = [answer(seed, '').found for seed in range(200)].count(True)
    print(f'named {found} of 200')
    assert found == 3
    assert answer(1, '').trouble == 'no single patch explains it: dropping one does not heal it'
    # Nor is one that heals overlooked.
    healed = [answer(seed, '0007-p.patch') for seed in range(20)]
    assert {one.suspects for one in healed if one.found} == {('0007-p.patch',)}
    assert {one.trouble[:60] for one in healed if not one.found} == {
        'not sure enough: the most likely to heal it is without 0007-'
    }
    assert [one.found for one in healed].count(True) == 16


def test_the_report_has_each_step(tmp_path: Path, whole: PatchSeries) -> None:
    from rich.console import Console

    looked = search(tmp_path, subjects.of_series(REQUEST, whole), by_prefix(5))
    answer = find(looked, FailsThisWay())
    write(RunFolder(tmp_path), looked, answer, 12.0, Console(file=(tmp_path / 'out').open('w'), width=200))
    text = (tmp_path / 'bisect.txt').read_text()
    assert 'first bad: 0005-p.patch' in text
    assert re.search(r'shown in (\d+) of \1 runs', text)
    assert 'uring/007[uring] fail: -right | +wrong' in text
    raw = json.loads((tmp_path / 'bisect.json').read_text())
    assert raw['found'] is True
    assert raw['suspects'] == ['0005-p.patch']
    assert sum(step['seconds']['check'] for step in raw['steps']) == 5 * len(raw['runs'])


# --- one run -------------------------------------------------------------------------------------


@pytest.fixture
def checked(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CheckTrial]:
    def make(*happens: object) -> CheckTrial:
        fake_campaigns(monkeypatch, {'': happens})
        item = Item(SimpleNamespace(name='uring/007'), 'uring')  # type: ignore[arg-type]
        return CheckTrial(lab, CampaignOptions(REQUEST), RunFolder(Path(tempfile.mkdtemp(dir=tmp_path))), (item,))

    return make


@pytest.mark.parametrize(
    ('trouble', 'outcome'),
    [
        (ApplyError('patch 3 does not apply'), Outcome.APPLY),
        (BuildError('does not build: x'), Outcome.BUILD),
        (VerdictError('the kernel has no FUSE'), Outcome.NOTRUN),
    ],
)
def test_how_far_a_kernel_gets(checked: Callable[..., CheckTrial], trouble: Exception, outcome: Outcome) -> None:
    tried = checked(trouble)
    made = tried.run(Subject('k', 'k', REQUEST))
    assert made.outcome is outcome
    assert str(trouble) in made.detail
    assert tried.up() is None


def test_a_boot_is_tried_three_times_with_more_time(checked: Callable[..., CheckTrial]) -> None:
    tried = checked(BootError('hangs'), GuestLostError('gone'), failed(Verdict.PASS, ''))
    assert tried.run(Subject('k', 'k', REQUEST)).outcome is Outcome.PASS
    assert FakeCampaign.factors == [2.0, 6.0, 18.0]
    tried = checked(*[BootError('hangs')] * 3)
    assert tried.run(Subject('k', 'k', REQUEST)).outcome is Outcome.BOOT


def test_after_a_splat_the_next_run_has_a_fresh_guest(checked: Callable[..., CheckTrial]) -> None:
    warned = failed(Verdict.CRASH, 'WARN', events=(event(),))
    tried = checked(failed(diff='-a'), warned, event(), failed(Verdict.PASS, ''))
    subject = Subject('k', 'k', REQUEST)
    outcomes, ups = [], []
    for _ in range(4):
        outcomes.append(tried.run(subject).outcome)
        ups.append(tried.up() is not None)
    assert outcomes == [Outcome.FAIL, Outcome.FAIL, Outcome.SPLAT, Outcome.PASS]
    assert ups == [True, False, False, True]


def test_what_is_known_to_fail_or_left_out_is_looked_into(checked: Callable[..., CheckTrial]) -> None:
    made = checked(failed(diff='-a\n+b')).run(Subject('k', 'k', REQUEST))
    assert made.outcome is Outcome.FAIL


def test_guests_that_are_killed_say_nothing_of_the_kernel(checked: Callable[..., CheckTrial]) -> None:
    gone = failed(Verdict.CRASH, f'{LAB}its guest was killed 3 times: SIGKILL', killed='QEMU was killed: SIGKILL')
    tried = checked(gone)
    with pytest.raises(LabError, match=r'uring/007\[uring\]: lab trouble: its guest was killed'):
        tried.run(Subject('k', 'k', REQUEST))
    assert tried.up() is None


def test_one_guest_at_a_time_and_none_is_left(checked: Callable[..., CheckTrial]) -> None:
    tried = checked(failed(Verdict.PASS, ''), failed(Verdict.PASS, ''), KeyboardInterrupt())
    tried.run(Subject('a', 'a', REQUEST))
    tried.run(Subject('b', 'b', REQUEST))
    assert FakeCampaign.stopped == 1
    with pytest.raises(KeyboardInterrupt):
        tried.run(Subject('b', 'b', REQUEST))
    assert FakeCampaign.stopped == 2
    with pytest.raises(LabError):
        checked(LabError('no QEMU')).run(Subject('a', 'a', REQUEST))
    assert FakeCampaign.stopped == 1
