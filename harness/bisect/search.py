# SPDX-License-Identifier: GPL-2.0-only
"""The search itself: both ends first, then whatever kernel tells most, until the answer is sure enough."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness.bisect import engine
from harness.bisect.engine import Belief, Costs, Suspicion, Tally
from harness.bisect.judgement import CostsMore, Criterion, FailsThisWay, Word
from harness.bisect.report import Answer
from harness.bisect.state import Observation, Outcome, State
from harness.bisect.subjects import Range, Subject, without_each
from harness.bisect.trial import CheckTrial, Item, Trial
from harness.series import load

log = logging.getLogger(__name__)

MAX_RUNS = 400
FEW = 3  # failures of the bad end before anything else
FLAKY_FEW = 6  # the same, if it passes in between: how often it fails is what passes elsewhere are judged by
FLAKY_MOST = 40  # runs of the bad end for these
FIRST = {'build': 60.0, 'boot': 10.0, 'check': 5.0}  # seconds, before anything has been timed
CERTAIN_COST = 0.98  # a cost is counted, not subject to chance


@dataclass
class Search:
    """What there is to look into, and what has been seen."""

    range: Range
    trial: Trial
    state: State
    confidence: float
    names: dict[str, str] = field(init=False)  # of all kernels, by key
    resumed: int = field(init=False)

    def __post_init__(self) -> None:
        self.names = {}
        for subject in self.range.subjects:
            if subject.reference is not None:
                self.names[subject.reference.key] = f'reference: {subject.reference.name}'
        self.names |= {subject.key: subject.name for subject in self.range.subjects}
        self._try_again()
        self.resumed = len(self.seen)

    def _try_again(self) -> None:
        """A kernel that did not boot, or could not be tested, when this was interrupted may do so today."""
        again = {Outcome.BOOT, Outcome.NOTRUN}
        if all(one.outcome is Outcome.BOOT for one in self.of(self.range.subjects[-1])):
            again.discard(Outcome.BOOT)  # is what is looked for
        self.state.observations = [one for one in self.seen if one.outcome not in again]

    @property
    def seen(self) -> list[Observation]:
        return self.state.observations

    def of(self, subject: Subject) -> list[Observation]:
        return [one for one in self.seen if one.kernel == subject.key]

    def run(self, subject: Subject) -> Observation:
        made = self.trial.run(subject)
        self.state.add(made)
        return made

    def seconds(self, kind: str) -> float:
        """What a step takes, judging by those so far."""
        known = [one.seconds.get(kind, 0.0) for one in self.seen]
        known = [value for value in known if value > 0.5]
        return statistics.fmean(known) if known else FIRST[kind]

    def costs(self) -> Costs:
        built = {one.kernel for one in self.seen if one.outcome not in (Outcome.APPLY, Outcome.BUILD)}
        up = self.trial.up()
        boot, build = self.seconds('boot'), self.seconds('build')
        ready = []
        for subject in self.range.subjects:
            seconds = 0.0
            if up is None or subject.key != up.key:
                seconds = boot + (1.0 if subject.key in built else build)
            ready.append(seconds)
        return Costs(np.array(ready), self.seconds('check'))


# --- forwards ------------------------------------------------------------------------------------


def find(search: Search, criterion: Criterion) -> Answer:
    """The first patch or commit that has the failure."""
    criterion, trouble = _ends(search, criterion)
    if trouble:
        return Answer(False, trouble, criterion)
    certain = CERTAIN_COST if isinstance(criterion, CostsMore) else engine.P_CERTAIN
    while True:
        criterion = _informed(search, criterion)
        tallies = _tallies(search, criterion)
        belief = Belief(search.range.problem, tallies, certain)
        best = belief.suspicions()[0]
        among = None
        if best.probability >= search.confidence:
            among = belief.untold(best)
            if not among.any():
                return _conclude(search, criterion, tallies, best, True)
        number = None
        if len(search.seen) < MAX_RUNS:
            number = belief.choose(search.costs(), search.range.places, among)
        if number is None:
            return _conclude(search, criterion, tallies, best, False)
        subject = search.range.subjects[number]
        made = _step(search, criterion, subject)
        _tell(search, criterion, subject, made, _guess(search, best))


def _step(search: Search, criterion: Criterion, subject: Subject) -> Observation:
    """One run; of its reference first, if it is compared with one."""
    if isinstance(criterion, CostsMore) and subject.reference is not None and not search.of(subject.reference):
        reference = search.run(subject.reference)
        _tell(search, criterion, subject.reference, reference, 'the reference')
        if reference.outcome is not Outcome.COST:
            return reference
    return search.run(subject)


def _ends(search: Search, criterion: Criterion) -> tuple[Criterion, str]:
    """The bad end must fail, and the good one pass. What to look for; why it makes no sense to go on."""
    if isinstance(criterion, CostsMore):
        return _ends_of_cost(search, criterion)
    assert isinstance(criterion, FailsThisWay)
    criterion, trouble = _bad_end(search, criterion)
    if trouble or search.range.series:
        return criterion, trouble
    good = search.range.subjects[0]
    while not search.of(good):
        made = search.run(good)
        _tell(search, criterion, good, made, 'the good end')
    criterion = criterion.learn(search.of(search.range.subjects[-1]), search.of(good))
    if not criterion.known:
        return criterion, f'GOOD shows the same: {search.of(good)[0].detail}'
    tally = criterion.tally(good.key, search.seen)
    while not tally.runs and not tally.blocked:
        made = search.run(good)
        _tell(search, criterion, good, made, 'the good end')
        tally = criterion.tally(good.key, search.seen)
    if not tally.runs:
        return criterion, f'GOOD {search.of(good)[0].outcome}: {search.of(good)[0].detail}'
    return criterion, ''


def _bad_end(search: Search, criterion: FailsThisWay) -> tuple[FailsThisWay, str]:
    bad = search.range.subjects[-1]
    most = engine.runs_to_see(search.confidence)
    while not _enough(search.of(bad), most):
        made = search.run(bad)
        _tell(search, criterion, bad, made, 'the bad end')
    seen = search.of(bad)
    failed = [one for one in seen if one.outcome not in (Outcome.PASS, Outcome.NOTRUN, Outcome.APPLY)]
    if not failed:
        never = seen[-1]
        if never.outcome is Outcome.PASS:
            return criterion, f'the bad end passes: {len(seen)} of {len(seen)} runs'
        hint = ''
        if never.outcome is Outcome.APPLY and not search.range.series:
            hint = ' (SERIES=none leaves the series out)'
        return criterion, f'the bad end {never.outcome}: {never.detail}{hint}'
    if isinstance(search.trial, CheckTrial):
        search.trial.items, criterion = _one_item(search.trial.items, failed, criterion)
    if all(one.outcome in (Outcome.PASS, Outcome.BOOT) for one in seen) and len(failed) < len(seen):
        return criterion, f'the bad end passes whenever it boots: {len(seen) - len(failed)} of {len(seen)} runs'
    return criterion.learn(failed, ()), ''


def _one_item(
    items: tuple[Item, ...], failed: Sequence[Observation], criterion: FailsThisWay
) -> tuple[tuple[Item, ...], FailsThisWay]:
    """The one check in one section that is looked at from now on; all, if none of them fails by itself.

    What else fails need not be the same patch's doing, and may need what only later patches bring: the ring.
    """
    fails = [{sign.where for sign in one.signatures} for one in failed]
    times = {item.key: sum(item.key in places for places in fails) for item in items}
    most = max(times.values())
    if not most:
        return items, criterion
    often = [item for item in items if 2 * times[item.key] >= most]
    chosen = next((item for item in often if item.section == 'dev'), max(often, key=lambda item: times[item.key]))
    if len(items) > 1:
        log.info('from now on only %s', chosen.key)
    return (chosen,), replace(criterion, item=chosen.key)


def _enough(seen: Sequence[Observation], most: int) -> bool:
    """Whether the bad end has shown how it fails, and how often."""
    if any(one.outcome in (Outcome.APPLY, Outcome.BUILD, Outcome.BOOT, Outcome.NOTRUN) for one in seen):
        return True
    failed = [one for one in seen if one.outcome is not Outcome.PASS]
    if not failed:
        return len(seen) >= most
    alike = len({one.signatures for one in failed}) == 1 and len(failed) == len(seen)
    return len(failed) >= (FEW if alike else FLAKY_FEW) or len(seen) >= FLAKY_MOST


def _ends_of_cost(search: Search, criterion: CostsMore) -> tuple[CostsMore, str]:
    """Measures both ends; chooses what each kernel is compared with."""
    subjects = search.range.subjects
    bad = subjects[-1]
    own = bad.reference or _reference(search, criterion)
    if own is None:
        return criterion, 'there is no kernel to compare with: none but the bad end can be measured'
    if bad.reference is None:
        references = {subject.key: own.key for subject in subjects}
    else:
        references = {subject.key: subject.reference.key for subject in subjects if subject.reference is not None}
    criterion = replace(criterion, references=references)
    for subject in (own, bad):
        if not search.of(subject):
            made = search.run(subject)
            _tell(search, criterion, subject, made, 'an end')
        last = search.of(subject)[-1]
        if last.outcome is not Outcome.COST:
            return criterion, f'{subject.name} cannot be measured: {last.detail}'
    criterion = replace(criterion, observations=tuple(search.seen))
    growth = criterion.growth(bad.key)
    assert growth is not None
    if growth[0] < criterion.limit:
        return criterion, f'the bad end is not dearer by {100 * criterion.limit:g} %: {100 * growth[0]:+.2f} %'
    return criterion, ''


def _reference(search: Search, criterion: CostsMore) -> Subject | None:
    """The good end; of a series the lowest prefix that can be measured at all."""
    subjects = search.range.subjects
    if not search.range.series:
        return subjects[0]
    low, high = 0, len(subjects) - 1  # what a prefix can do, longer ones can
    while low < high:
        middle = (low + high) // 2
        subject = subjects[middle]
        if not search.of(subject):
            made = search.run(subject)
            _tell(search, criterion, subject, made, 'the lowest that can be measured?')
        if search.of(subject)[-1].outcome is Outcome.COST:
            high = middle
        else:
            low = middle + 1
    return subjects[low] if low < len(subjects) - 1 else None


def _informed(search: Search, criterion: Criterion) -> Criterion:
    """With all that is known by now."""
    if isinstance(criterion, CostsMore):
        return replace(criterion, observations=tuple(search.seen))
    return criterion


def _tallies(search: Search, criterion: Criterion) -> list[Tally]:
    subjects = search.range.subjects
    tallies = [criterion.tally(subject.key, search.seen) for subject in subjects]
    if search.range.series:
        # What a prefix lacks, shorter ones lack too.
        lacking = [
            number
            for number, subject in enumerate(subjects)
            if any(one.outcome is Outcome.NOTRUN for one in search.of(subject))
        ]
        for number in range(max(lacking, default=0)):
            if not tallies[number].runs:
                tallies[number] = replace(tallies[number], blocked=True)
    return tallies


def _conclude(search: Search, criterion: Criterion, tallies: Sequence[Tally], best: Suspicion, sure: bool) -> Answer:
    names = tuple(search.range.suspects[number] for number in best.suspects)
    trouble = ''
    if not sure:
        trouble = f'not sure enough: the most likely is {_guess(search, best)}'
    elif best.older:
        trouble = _older(search, names)
    elif len(names) > 1:
        trouble = f'it is one of {len(names)}, which nothing that can be tested tells apart'
    elif isinstance(criterion, CostsMore):
        trouble = _gradual(search, criterion, best.suspects[0])
    notes = [f'{search.range.subjects[number].name}: {why}' for number, why in _between(search, tallies, best)]
    shown = _shown(search, tallies, best) if isinstance(criterion, FailsThisWay) and sure else None
    return Answer(not trouble, trouble, criterion, names, best.probability, shown, tuple(notes))


def _shown(search: Search, tallies: Sequence[Tally], best: Suspicion) -> tuple[int, int]:
    """Runs that showed the failure, and all runs, of the kernels that have it."""
    hypothesis = best.suspects[-1] if best.suspects else search.range.problem.suspects
    mine = [tally for tally, (has,) in zip(tallies, search.range.problem.columns([hypothesis]), strict=True) if has]
    return sum(tally.fails for tally in mine), sum(tally.runs for tally in mine)


def _older(search: Search, names: Sequence[str]) -> str:
    if not search.range.series:
        return 'GOOD fails this way too' if not names else 'GOOD, or what comes right after it, fails this way'
    if not names:
        return 'it fails without any of the patches'
    return f'as far back as it can be tested it fails: one of the first {len(names)} patches, or older'


def _between(search: Search, tallies: Sequence[Tally], best: Suspicion) -> list[tuple[int, str]]:
    """The kernels that would tell the suspects apart, and why they do not."""
    if len(best.suspects) + best.older < 2:
        return []
    columns = [*best.suspects, *([search.range.problem.suspects] if best.older else [])]
    telling = search.range.problem.columns(columns)
    found = []
    for number in np.flatnonzero(telling.min(axis=1) != telling.max(axis=1)):
        seen = search.of(search.range.subjects[int(number)])
        others = sorted({str(one.outcome) for one in seen})
        found.append((int(number), f'{", ".join(others)}: {seen[-1].detail}' if seen else 'cannot be tested either'))
    return found


def _gradual(search: Search, criterion: CostsMore, suspect: int) -> str:
    """A limit can be crossed in small steps, none of which is to blame for all of it."""
    problem = search.range.problem
    with_it = problem.columns([suspect])[:, 0]
    index = int(with_it.argmax())
    own = criterion.growth(search.range.subjects[index].key)
    growths = {number: criterion.growth(subject.key) for number, subject in enumerate(search.range.subjects)}
    measured = [number for number, growth in growths.items() if growth is not None and not with_it[number]]
    beside = (problem.rows(measured) & ~problem.rows([index])).any(axis=1)
    inside = {measured[place] for place in np.flatnonzero(~beside)}
    below = [growth[0] for number, growth in growths.items() if growth is not None and number in inside]
    if own is None or not below or own[0] - max(below) >= criterion.limit - own[1]:
        return ''
    return (
        f'no single one: it crosses the limit with {search.range.suspects[suspect]}, '
        f'which alone adds only {100 * (own[0] - max(below)):.2f} %'
    )


def _guess(search: Search, best: Suspicion) -> str:
    names = [search.range.suspects[number] for number in best.suspects]
    what = 'older than all of them' if not names else names[0] if len(names) == 1 else f'one of {len(names)}'
    return f'{what} ({100 * best.probability:.0f} %)'


def _tell(search: Search, criterion: Criterion, subject: Subject, made: Observation, why: str) -> None:
    took = ', '.join(f'{kind} {value:.0f} s' for kind, value in made.seconds.items() if value >= 0.5)
    word = _informed(search, criterion).word(made)
    said = str(word) if word is not Word.NOTHING else f'{made.outcome}'
    if made.outcome is Outcome.COST:
        said = made.detail
    log.info('[%d] %s: %s (%s)  %s', len(search.seen), subject.name, said, took or 'no time', why)
    if word is Word.NOTHING and made.detail:
        log.info('      %s', made.detail.splitlines()[0])


# --- backwards -----------------------------------------------------------------------------------


def find_healing(search: Search, criterion: FailsThisWay, folder: Path) -> Answer:
    """Which patches, dropped alone from the series, take the failure away."""
    criterion, trouble = _bad_end(search, criterion)
    if trouble:
        return Answer(False, trouble, criterion)
    whole = search.range.subjects[-1]
    request = whole.request
    assert request.series is not None
    chosen = load(Path(request.series)).prefix(request.prefix or 0)
    healing: list[tuple[str, float]] = []
    notes = []
    blocked = 0
    doubtful: list[tuple[float, str]] = []
    dropped = without_each(request, chosen, folder)
    search.names |= {subject.key: subject.name for subject in dropped}
    # One of them, or none: each is as likely. Of many, some have passes enough by chance.
    prior = 1 / (len(dropped) + 1)
    not_it = prior * (1 - search.confidence)
    for subject in dropped:
        reference = criterion.tally(whole.key, search.seen)
        tally = criterion.tally(subject.key, search.seen)
        sure = 0.5
        while not tally.blocked:
            sure = engine.healed(reference, tally, prior)
            if (tally.runs and not not_it < sure < search.confidence) or tally.runs >= MAX_RUNS // 5:
                break
            made = search.run(subject)
            tally = criterion.tally(subject.key, search.seen)
            _tell(search, criterion, subject, made, '')
        if tally.blocked:
            last = search.of(subject)[-1]
            notes.append(f'{subject.name}: {last.outcome}')
            blocked += 1
        elif sure >= search.confidence:
            healing.append((subject.name, sure))
        elif sure > not_it:
            notes.append(f'{subject.name}: not sure ({100 * sure:.0f} % that it is healed)')
            doubtful.append((sure, subject.name))
    names = tuple(name.removeprefix('without ') for name, _ in healing)
    if len(names) > 1:
        trouble = f'dropping any one of {len(names)} patches heals it'
    elif not names and doubtful:
        sure, name = max(doubtful)
        trouble = f'not sure enough: the most likely to heal it is {name} ({100 * sure:.0f} %)'
    elif not names and blocked:
        trouble = (
            f'none of the {len(dropped) - blocked} patches that can be dropped alone heals it; {blocked} cannot be'
        )
    elif not names:
        trouble = 'no single patch explains it: dropping one does not heal it'
    probability = min((sure for _, sure in healing), default=0.0)
    return Answer(len(names) == 1, trouble, criterion, names, probability, None, tuple(notes), reverse=True)
