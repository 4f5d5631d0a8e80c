# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection has found, for people and as bisect.json and bisect.txt in the run's folder."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from harness.bisect.judgement import CostsMore, Criterion, Word
from harness.bisect.state import Observation, Outcome
from harness.runfolder import RunFolder

if TYPE_CHECKING:
    from harness.bisect.search import Search

FORMAT = 1


@dataclass(frozen=True)
class Answer:
    """found: exactly one is named. Otherwise `trouble` says why not."""

    found: bool
    trouble: str
    criterion: Criterion
    suspects: tuple[str, ...] = ()  # the guilty one, or those that cannot be told apart
    probability: float = 0.0
    shown: tuple[int, int] | None = None  # runs that showed it, of all those of kernels that have it
    notes: tuple[str, ...] = ()
    reverse: bool = False


@dataclass(frozen=True)
class Step:
    """Runs of one kernel, one after the other."""

    name: str
    said: str
    seconds: dict[str, float]
    resumed: bool  # by an earlier command


def steps(search: Search, answer: Answer) -> list[Step]:
    found = []
    numbered = list(enumerate(search.seen))
    for key, group in itertools.groupby(numbered, lambda pair: pair[1].kernel):
        runs = list(group)
        kinds = ('build', 'boot', 'check')
        seconds = {kind: round(sum(one.seconds.get(kind, 0.0) for _, one in runs), 1) for kind in kinds}
        said = _said(answer.criterion, [one for _, one in runs])
        found.append(Step(search.names.get(key, key[:12]), said, seconds, runs[0][0] < search.resumed))
    return found


def _said(criterion: Criterion, runs: list[Observation]) -> str:
    words: dict[str, int] = {}
    for one in runs:
        word = criterion.word(one)
        text = str(word)
        if word is Word.NOTHING:
            text = 'fails otherwise' if one.outcome is Outcome.FAIL else str(one.outcome)
        if one.outcome is Outcome.COST:
            growth = criterion.growth(one.kernel) if isinstance(criterion, CostsMore) else None
            text = one.detail + (f' ({100 * growth[0]:+.2f} %)' if growth else '')
        words[text] = words.get(text, 0) + 1
    return ', '.join(text if count == 1 else f'{text} {count} x' for text, count in words.items())


def text(answer: Answer) -> str:
    """The answer."""
    lines = []
    if answer.found:
        lines.append(f'{"dropping it heals" if answer.reverse else "first bad"}: {answer.suspects[0]}')
    else:
        lines.append(f'cannot tell: {answer.trouble}')
        lines += [f'    {name}' for name in answer.suspects]
    if answer.suspects:
        lines.append(f'confidence: {answer.probability:.3f}')
    if answer.criterion.text:
        lines.append(f'looked for: {answer.criterion.text}')
    if answer.shown is not None:
        lines.append(f'shown in {answer.shown[0]} of {answer.shown[1]} runs of kernels that have it')
    lines += [f'note: {line}' for line in answer.notes]
    lines.append(f'assumed: {_assumed(answer)}')
    return '\n'.join(lines)


def _assumed(answer: Answer) -> str:
    if answer.reverse:
        return 'one patch alone is to blame, and the series still means something without it'
    if isinstance(answer.criterion, CostsMore):
        return 'every kernel with the guilty one costs more than its reference by the limit, and none before it does'
    return 'every kernel with the guilty one can fail this way, and none without it does'


def write(run: RunFolder, search: Search, answer: Answer, seconds: float, console: Console) -> None:
    """Print it, and keep it."""
    made = steps(search, answer)
    table = Table(box=None, pad_edge=False)
    table.add_column('step', justify='right')
    for name in ('kernel', 'outcome'):
        table.add_column(name, overflow='fold')
    for name in ('build s', 'boot s', 'check s'):
        table.add_column(name, justify='right')
    for number, step in enumerate(made, 1):
        times = [f'{step.seconds[kind]:.1f}' for kind in ('build', 'boot', 'check')]
        table.add_row(str(number), step.name, step.said + (' (before)' if step.resumed else ''), *times)
    total = sum(sum(step.seconds.values()) for step in made)
    each = total / max(1, len(made))
    took = f'{len(search.seen)} runs in {len(made)} steps, {each:.0f} s each; this time {seconds:.0f} s in all'
    file = io.StringIO()
    for out in (console, Console(file=file, width=140)):
        out.print(table)
        out.print(text(answer), markup=False, highlight=False, soft_wrap=True)
        out.print(took, markup=False, highlight=False)
    console.print(f'report: {run.path}/bisect.txt', markup=False, highlight=False, soft_wrap=True)
    (run.path / 'bisect.txt').write_text(file.getvalue(), encoding='utf-8')
    raw = as_dict(search, answer, made, seconds)
    (run.path / 'bisect.json').write_text(json.dumps(raw, indent=1) + '\n', encoding='utf-8')


def as_dict(search: Search, answer: Answer, made: list[Step], seconds: float) -> dict[str, Any]:
    """bisect.json."""
    return {
        'format': FORMAT,
        'found': answer.found,
        'suspects': list(answer.suspects),
        'probability': round(answer.probability, 4),
        'confidence': search.confidence,
        'trouble': answer.trouble,
        'looked_for': answer.criterion.text,
        'shown': answer.shown,
        'notes': list(answer.notes),
        'assumed': _assumed(answer),
        'steps': [
            {'kernel': step.name, 'outcome': step.said, 'seconds': step.seconds, 'resumed': step.resumed}
            for step in made
        ],
        'runs': [one.as_dict() for one in search.seen],
        'seconds': round(seconds, 1),
    }
