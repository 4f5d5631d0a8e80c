# SPDX-License-Identifier: GPL-2.0-only
"""results.json -> one HTML file that needs nothing else: no network, no other file.

Whatever comes from a guest is escaped, and should that ever fail, the page's policy lets no script
run but its own.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.formats import evidence
from harness.formats.evidence import Excerpt
from harness.formats.history import Flake, History, Past
from harness.formats.summary import adjudged, by_area, counted, sections, state
from harness.formats.transports import unexplained
from harness.verdict import BAD, WORST_FIRST, State

MAX_LINES = 250  # of one file
MAX_EVIDENCE = 16 << 20  # characters of all files; a browser has to hold the page
SLOWEST = 15
_HERE = Path(__file__).resolve().parent
_FRAME = re.compile(r'\w\+0x[0-9a-f]+/0x[0-9a-f]+')
_OURS = re.compile(r'\bfuse_\w+|\bfs/fuse/')


@dataclass(frozen=True)
class Evidence:
    """A file of a bad check: lines, each with how it is shown."""

    what: str
    lines: list[tuple[str, str]]
    note: str


@dataclass(frozen=True)
class Row:
    """One check in the table."""

    name: str
    section: str
    verdict: str
    looks: str  # like which verdict: what does not count is not shown as bad
    seconds: float
    reason: str
    repeat: str
    flake: Flake | None
    share: float  # of bad runs; for sorting
    past: list[Past]
    evidence: list[Evidence]


def render(table: dict[str, Any], folder: Path) -> str:
    """The whole page."""
    from harness.report import closing  # noqa: PLC0415 - which loads us

    script = (_HERE / 'page.js').read_text(encoding='utf-8')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False
    )
    return environment.get_template('page.html.j2').render(
        table={'stale_known': [], **table, 'canaries': [{'detail': '', **canary} for canary in table['canaries']]},
        closing=closing(table),
        facts=_facts(table),
        sections=list(sections(table)),
        summary=by_area(table).items(),
        verdicts=[verdict for verdict, _ in reversed(counted(table['counts']))],
        rows=_rows(table, folder),
        stages=_shares([(name, seconds) for name, seconds in table['stages'].items()]),
        slowest=_slowest(table),
        unexplained=unexplained(table['checks']),
        coverage=(table.get('coverage') or {}).get('patches', []),
        # Ours, from files beside this one.
        style=Markup((_HERE / 'page.css').read_text(encoding='utf-8')),
        script=Markup(script),
        script_hash=f'sha256-{digest}',
    )


def _facts(table: dict[str, Any]) -> list[tuple[str, str]]:
    kernel, speed = table['kernel'], table['guest_speed'] or {}
    facts = [
        ('started', table['started']),
        ('command', table['command']),
        ('kernel', kernel['release']),
        ('build id', kernel['build_id']),
        ('series', kernel['series_digest']),
        ('source', kernel['source']),
        ('variant', kernel['variant']),
        ('compiler', kernel['compiler']),
        ('programs', (table.get('programs') or {}).get('digest')),
        ('accelerator', ' '.join(filter(None, [table['accelerator'], table['accelerator_reason']]))),
        ('speed factor', f'{speed["factor"]:g}{"" if speed["measured"] else " (a guess)"}' if speed else None),
        ('guest', f'{table["cpus"]} CPUs, {table["memory_mb"]} MiB' if table['memory_mb'] else None),
        ('boots', ', '.join(f'{seconds:g} s' for seconds in table['boot_seconds'][:20])),
        ('seed', table['seed']),
        ('host', f'{table["host"]["kernel"]}, {table["host"]["cpus"]} CPUs, Python {table["host"]["python"]}'),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, '')]


def _rows(table: dict[str, Any], folder: Path) -> list[Row]:
    """Bad ones first."""
    history = History(folder.parent)
    past, flakes = history.past(table), history.flakes(table)
    left = MAX_EVIDENCE
    rows = []
    for check in sorted(table['checks'], key=lambda c: (WORST_FIRST.index(c['verdict']), c['name'], c['section'])):
        key = check['name'], check['section']
        shown = _evidence(check, folder, left) if check['verdict'] in BAD else []
        left -= sum(len(line) + 1 for item in shown for _, line in item.lines)
        flake = flakes.get(key)
        rows.append(
            Row(
                check['name'],
                check['section'],
                check['verdict'],
                'notrun' if state(check) in (State.KNOWN, State.LAB) else check['verdict'],
                check['seconds'],
                evidence.printable(_reason(check)),
                check['repeat'],
                flake,
                (flake.bad / flake.runs if flake.runs else 0.0) + flake.elsewhere if flake and flake.flaky else 0.0,
                past.get(key, []),
                shown,
            )
        )
    return rows


def _reason(check: dict[str, Any]) -> str:
    reason = str(check['reason'])
    if check.get('known'):
        reason = f'known failure: {check["known"]} ({reason})'
    if adjudged(check):
        reason = f'{reason} [{adjudged(check)}]'
    before = '; '.join(f'{attempt["reason"]} ({attempt["guest"]})' for attempt in check.get('attempts') or [])
    return f'{reason} attempts before: {before}'.lstrip() if before else reason


def _evidence(check: dict[str, Any], folder: Path, left: int) -> list[Evidence]:
    found: list[tuple[str, Excerpt]] = []
    for what in ('diff', 'console', 'hang', 'stderr'):
        excerpt = evidence.of_check(folder, check, what, MAX_LINES)
        if excerpt is not None:
            found.append((what, excerpt))
    if 'console' not in check['files'] and check['verdict'] != 'fail' and check['guest']:
        # No excerpt was made: the guest went without a word, or the run's folder is not whole.
        log = evidence.inside(folder, f'guests/{check["guest"]}/console.log')
        if log is not None:
            line = check['events'][0]['line'] if check['events'] else ''
            found.append(('console of the guest', evidence.around(log, line, 100)))
    heads = [evidence.printable(event['line']) for event in check['events']]
    shown = []
    for what, excerpt in found:
        if left <= 0:
            shown.append(Evidence(what, [], 'the page is full; it is in the run folder'))
            continue
        lines = _diff(excerpt.lines) if what == 'diff' else _splat(excerpt.lines, heads)
        shown.append(Evidence(what, lines, excerpt.note))
        left -= sum(len(line) + 1 for line in excerpt.lines)
    return shown


def _diff(lines: tuple[str, ...]) -> list[tuple[str, str]]:
    kinds = {'+': 'added', '-': 'removed', '@': 'place'}
    return [('' if line[:3] in ('+++', '---') else kinds.get(line[:1], ''), line) for line in lines]


def _splat(lines: tuple[str, ...], heads: list[str]) -> list[tuple[str, str]]:
    """Where the complaint begins, its frames, and those of FUSE."""
    shown = []
    for line in lines:
        kind = ''
        if any(head and head in line for head in heads):
            kind = 'head'
        elif _FRAME.search(line):
            kind = 'ours' if _OURS.search(line) else 'frame'
        shown.append((kind, line))
    return shown


def _shares(values: list[tuple[str, float]]) -> list[tuple[str, float, int]]:
    most = max((seconds for _, seconds in values), default=0.0) or 1.0
    return [(name, seconds, max(0, round(100 * seconds / most))) for name, seconds in values]


def _slowest(table: dict[str, Any]) -> list[tuple[dict[str, Any], int]]:
    checks = sorted(table['checks'], key=lambda check: -check['seconds'])[:SLOWEST]
    most = max((check['seconds'] for check in checks), default=0.0) or 1.0
    return [(check, max(0, round(100 * check['seconds'] / most))) for check in checks]
