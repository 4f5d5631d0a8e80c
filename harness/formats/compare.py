# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `compare`: what is different between two runs. Status 1: B has failures that A has not."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from harness import results
from harness.errors import EXIT_LAB, EXIT_PASS, EXIT_VERDICT
from harness.formats.evidence import printable
from harness.formats.summary import INCOMPLETE, state, worse
from harness.lab import Lab
from harness.verdict import State

OUTLIER = 2.0  # times the median ratio of all checks; a busy machine slows all of them alike
MIN_SECONDS = 1.0  # a difference below this is noise
MAX_TIMINGS = 20
Key = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """A check that ended otherwise. None: not in that run."""

    key: Key
    before: str | None
    after: str | None
    reason: str

    def __str__(self) -> str:
        text = f'{_name(self.key)}: {self.before or "not there"} -> {self.after or "not there"}'
        return f'{text}  {printable(self.reason)}' if self.reason else text


@dataclass(frozen=True)
class Timing:
    """A check whose time differs from the others'."""

    key: Key
    before: float
    after: float

    @property
    def ratio(self) -> float:
        return self.after / self.before


@dataclass(frozen=True)
class Comparison:
    facts: tuple[tuple[str, str, str], ...]  # what differs of kernel, series, programs...
    failures: tuple[Change, ...] = ()  # bad in B and counted, neither in A
    worse: tuple[Change, ...] = ()  # bad in both, worse in B: the kernel crashes now
    fixed: tuple[Change, ...] = ()
    other: tuple[Change, ...] = ()  # bad in both, in another way; no worse
    known: tuple[Change, ...] = ()  # fails in B as it is known to
    lab: tuple[Change, ...] = ()  # no verdict in B: the lab was in trouble
    notrun: tuple[Change, ...] = ()  # a verdict in one only, and none to count in B
    only_a: tuple[Change, ...] = ()
    only_b: tuple[Change, ...] = ()
    complaints: tuple[str, ...] = ()  # outside of any check, in B only
    timings: tuple[Timing, ...] = ()
    median: float | None = None  # of the ratios; None: times cannot be compared
    why_no_timings: str = ''
    incomplete: tuple[str, ...] = ()  # which runs did not come to their end, and why

    @property
    def bad(self) -> bool:
        return bool(self.failures or self.worse or self.complaints)


def compare(a: dict[str, Any], b: dict[str, Any]) -> Comparison:
    """A is the older, B the newer."""
    before, after = ({(c['name'], c['section']): c for c in table['checks']} for table in (a, b))
    sorted_into: dict[str, list[Change]] = {}
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if _end(old) != _end(new):
            last = new or old or {}
            reason = f'known failure: {last["known"]}' if last.get('known') else last['reason']
            sorted_into.setdefault(_sort(old, new), []).append(Change(key, _end(old), _end(new), reason))
    changes = {name: tuple(found) for name, found in sorted_into.items()}
    known = {(event['kind'], event['line']) for event in a['stray_events']}
    complaints = tuple(
        printable(f'{event["where"]}: {event["kind"]}: {event["line"]}')
        for event in b['stray_events']
        if (event['kind'], event['line']) not in known
    )
    timings, median, why = _timings(a, b, before, after)
    incomplete = tuple(
        f'{name} ({table["run"]}) is no whole run: {_incomplete(table)}'
        for name, table in (('A', a), ('B', b))
        if _incomplete(table)
    )
    return Comparison(
        _facts(a, b),
        complaints=complaints,
        timings=timings,
        median=median,
        why_no_timings=why,
        incomplete=incomplete,
        **changes,
    )


def _incomplete(table: dict[str, Any]) -> str:
    """Why a run says less than it was asked to; empty when it does not."""
    if table['status'] in INCOMPLETE:
        problem = f': {printable(table["problem"])}' if table['problem'] else ''
        return f'{INCOMPLETE[table["status"]]}{problem}'
    lost = sum(state(check) is State.LAB for check in table['checks'])
    return f'{lost} checks have no verdict, for trouble in the lab' if lost else ''


def _end(check: dict[str, Any] | None) -> str | None:
    """How it ended: verdict, and whether that counts."""
    if check is None:
        return None
    what = {State.KNOWN: ' (known)', State.LAB: ' (lab trouble)'}.get(state(check), '')
    return f'{check["verdict"]}{what}'


def _sort(old: dict[str, Any] | None, new: dict[str, Any] | None) -> str:
    """Into which field of Comparison a change belongs."""
    if new is None:
        return 'only_a'
    was, now = state(old) if old else None, state(new)
    if now is State.BAD:
        if was is not State.BAD or old is None:
            return 'failures'
        return 'worse' if worse(old, new) else 'other'
    if now in (State.LAB, State.KNOWN):
        return str(now)
    if was is None:
        return 'only_b'
    return 'fixed' if now is State.GOOD and was in (State.BAD, State.KNOWN) else 'notrun'


def _facts(a: dict[str, Any], b: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    rows: list[tuple[str, Any, Any]] = [
        *((name.replace('_', ' '), a['kernel'][name], b['kernel'][name])
          for name in ('release', 'build_id', 'series_digest', 'source', 'variant', 'compiler')),
        ('patches', _patches(a, b), _patches(b, a)),
        ('server and programs', (a.get('programs') or {}).get('digest'), (b.get('programs') or {}).get('digest')),
        *((name, a[name], b[name]) for name in ('accelerator', 'cpus', 'memory_mb', 'seed')),
        ('speed factor', (a['guest_speed'] or {}).get('factor'), (b['guest_speed'] or {}).get('factor')),
    ]  # fmt: skip
    return tuple((name, _value(old), _value(new)) for name, old, new in rows if old != new)


def _value(value: object) -> str:
    return 'unknown' if value is None else printable(str(value)) or 'none'


def _patches(table: dict[str, Any], other: dict[str, Any]) -> str:
    """Those that the other has not."""
    known = set(other['kernel']['series'])
    return ', '.join(name for name in table['kernel']['series'] if name not in known)


def _timings(
    a: dict[str, Any], b: dict[str, Any], before: dict[Key, dict[str, Any]], after: dict[Key, dict[str, Any]]
) -> tuple[tuple[Timing, ...], float | None, str]:
    if a['accelerator'] is None or a['accelerator'] != b['accelerator']:
        return (), None, f'accelerators are {a["accelerator"] or "unknown"} and {b["accelerator"] or "unknown"}'
    common = [
        Timing(key, before[key]['seconds'], after[key]['seconds'])
        for key in sorted(set(before) & set(after))
        if before[key]['verdict'] == after[key]['verdict'] == 'pass'
        and before[key]['seconds'] > 0
        and after[key]['seconds'] > 0
    ]
    if not common:
        return (), None, 'no check passed in both'
    median = statistics.median(timing.ratio for timing in common)
    found = [
        timing
        for timing in common
        if abs(timing.after - timing.before * median) >= MIN_SECONDS
        and not 1 / OUTLIER < timing.ratio / median < OUTLIER
    ]
    return tuple(sorted(found, key=lambda timing: -timing.ratio)), median, ''


def _name(key: Key) -> str:
    return printable(f'{key[0]}[{key[1]}]')


def render(comparison: Comparison, console: Console) -> None:
    """Print it."""

    def say(text: str, style: str = '') -> None:
        console.print(Text(text, style), soft_wrap=True)

    for text in comparison.incomplete:
        say(text, 'bold yellow')
    for name, old, new in comparison.facts:
        say(f'{name}: {old} -> {new}')
    if not comparison.facts:
        say('kernel, series, programs and guest: the same')
    for title, changes, style in (
        ('new failures', comparison.failures, 'red'),
        ('worse', comparison.worse, 'bold red'),
        ('still bad, in another way', comparison.other, 'yellow'),
        ('known to fail', comparison.known, 'yellow'),
        ('no verdict, for trouble in the lab', comparison.lab, 'yellow'),
        ('fixed', comparison.fixed, 'green'),
        ('run in one only', comparison.notrun, 'yellow'),
        ('only in A', comparison.only_a, 'yellow'),
        ('only in B', comparison.only_b, ''),
    ):
        if changes:
            say(f'{title}: {len(changes)}', 'bold')
            for change in changes:
                say(f'  {change}', style)
    for text in comparison.complaints:
        say(f'new complaint of the kernel, {text}', 'red')
    if comparison.median is None:
        say(f'times not compared: {comparison.why_no_timings}')
    else:
        say(f'times: B takes {comparison.median:.2f} of A (median)')
        for timing in comparison.timings[:MAX_TIMINGS]:
            say(f'  {_name(timing.key)}: {timing.before:.1f} s -> {timing.after:.1f} s, ratio {timing.ratio:.2f}')
        if len(comparison.timings) > MAX_TIMINGS:
            say(f'  ... {len(comparison.timings) - MAX_TIMINGS} more')
    say(closing(comparison), 'bold')


def closing(comparison: Comparison) -> str:
    """The last line."""
    if comparison.bad:
        number = len(comparison.failures) + len(comparison.worse) + len(comparison.complaints)
        return f'B has {number} failures that A has not'
    if any(text.startswith('B ') for text in comparison.incomplete):
        return 'no verdict: B is no whole run'
    return 'B has no failure that A has not'


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('compare', help='what is different between two runs')
    parser.add_argument('a', type=Path, metavar='A', help='results folder of the earlier run')
    parser.add_argument('b', type=Path, metavar='B', help='results folder of the later one')
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> int:
    comparison = compare(results.read(args.a), results.read(args.b))
    render(comparison, Console(highlight=False))
    if comparison.bad:
        return EXIT_VERDICT
    return EXIT_LAB if any(text.startswith('B ') for text in comparison.incomplete) else EXIT_PASS
