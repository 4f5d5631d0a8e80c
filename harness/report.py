# SPDX-License-Identifier: GPL-2.0-only
"""Stage `report`: results.json -> what a person reads at the end of a run."""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import formats, results
from harness.errors import LabError, UsageError
from harness.formats import evidence, schema
from harness.formats.summary import adjudged, again, by_area, counted, known_failures, sections, state
from harness.formats.transports import unexplained
from harness.lab import Lab
from harness.verdict import State

COLOURS = {'pass': 'green', 'fail': 'red', 'crash': 'bold red', 'hang': 'bold magenta', 'notrun': 'yellow'}
MAX_LINES = 25  # of one diff or console excerpt


def render(table: dict[str, Any], folder: Path, console: Console) -> None:
    """Print the report."""
    checks: list[dict[str, Any]] = table['checks']
    if checks:
        console.print(_summary(table))
    for check in checks:
        if state(check) in (State.BAD, State.LAB):
            _failure(check, folder, console)
    _notrun(checks, console)
    _known(table, console)
    for split in unexplained(checks):
        _say(console, Text(f'differs between transports, and no known failure says why: {split.text}', 'red'))
    for text in again(table):
        _say(console, Text(text, 'yellow'))
    for event in table.get('stray_events', []):
        text = f'console, outside of any check ({event["where"]}): {event["kind"]}: {event["line"]}'
        _say(console, Text(text, 'red'))
    for text in table.get('expired_allowances', []):
        _say(console, Text(f'expired entry of the allow-list: {text}', 'yellow'))
    _canaries(table.get('canaries', []), console)
    if table.get('coverage'):
        _coverage(table['coverage'], folder, console)
    if table['stages']:
        console.print(_stages(table))
    kernel = table['kernel']
    speed = table.get('guest_speed') or {}
    if kernel['release']:
        _say(
            console,
            Text(
                f'kernel {kernel["release"]}  build id {(kernel["build_id"] or "unknown")[:16]}  '
                f'series {kernel["series_digest"] or "none"}'
            ),
        )
    if table.get('accelerator'):
        _say(
            console,
            Text(f'guest: {table["accelerator"]}, {table["cpus"]} CPUs, speed factor {speed.get("factor", "unknown")}'),
        )
    _say(console, Text(f'results: {folder}'))
    _say(console, Text(closing(table), 'bold'))


def _say(console: Console, text: Text) -> None:
    # Paths and traces are for copying: the terminal may wrap them, rich must not.
    console.print(text, soft_wrap=True)


def closing(table: dict[str, Any]) -> str:
    """The last line."""
    counts = table['counts']
    if not counts:
        return table['problem'] or 'no check was run'
    text = ', '.join(f'{number} {verdict}' for verdict, number in counted(counts))
    states = [state(check) for check in table['checks']]
    for which, what in ((State.KNOWN, 'known to fail'), (State.LAB, 'lab trouble')):
        text += f', {states.count(which)} of these {what}' if which in states else ''
    if table['status'] == 130:
        text += ' (interrupted)'
    elif table['problem']:
        text += f' ({table["problem"]})'
    return text


def _summary(results_table: dict[str, Any]) -> Table:
    table = Table(title='checks', title_justify='left')
    table.add_column('area')
    groups = sections(results_table)
    for section in groups:
        table.add_column(section, justify='right')
    for area, cells in by_area(results_table).items():
        table.add_row(Text(area), *map(_counts, cells))
    table.add_section()
    verdicts = ([check['verdict'] for check in checks] for checks in groups.values())
    table.add_row(Text('all'), *(_counts(counted(Counter(each))) for each in verdicts))
    return table


def _counts(numbers: Sequence[tuple[str, int]]) -> Text:
    text = Text()
    for verdict, number in numbers:
        text.append(f'{", " if text else ""}{number} {verdict}', COLOURS[verdict])
    return text or Text('-')


def _failure(check: dict[str, Any], folder: Path, console: Console) -> None:
    verdict = check['verdict']
    console.print()
    title = f'{verdict.upper()} {check["name"]} section {check["section"]}: {check["reason"]}'
    _say(console, Text(title, COLOURS[verdict]))
    for what in ('diff', 'console', 'hang', 'stderr'):
        if what == 'stderr' and check['files'].get('diff'):
            continue
        excerpt = evidence.of_check(folder, check, what, MAX_LINES)
        for line in excerpt.text.splitlines() if excerpt else ():
            _say(console, Text(f'    {line}'))
    if adjudged(check):
        _say(console, Text(f'  {adjudged(check)}', 'bold'))
    _say(console, Text(f'  repeat: {check["repeat"]}'))


def _notrun(checks: Sequence[dict[str, Any]], console: Console) -> None:
    reasons: dict[str, list[str]] = {}
    for check in checks:
        if check['verdict'] == 'notrun':
            reasons.setdefault(check['reason'], []).append(f'{check["name"]}[{check["section"]}]')
    for reason, names in sorted(reasons.items()):
        _say(console, Text(f'notrun, {reason}: {" ".join(names)}', 'yellow'))


def _known(table: dict[str, Any], console: Console) -> None:
    for reason, names in known_failures(table).items():
        _say(console, Text(f'known to fail, {reason}: {" ".join(names)}', 'yellow'))
    for text in table.get('stale_known', []):
        _say(console, Text(f'known failures out of date: {text}', 'red'))


def _canaries(canaries: Sequence[dict[str, Any]], console: Console) -> None:
    if not canaries:
        return
    good = [c for c in canaries if c['ok']]
    provoked = [c['name'] for c in good if c['how'] == 'provoked']
    replayed = [c['name'] for c in good if c['how'] == 'replayed']
    text = f'canaries: {len(good)} of {len(canaries)} detected; provoked: {", ".join(provoked)}'
    _say(console, Text(text + (f'; replayed: {", ".join(replayed)}' if replayed else '')))
    for canary in canaries:
        if not canary['ok']:
            _say(console, Text(f'canary {canary["name"]} ({canary["how"]}): {canary["detail"]}', 'red'))


def _coverage(coverage: dict[str, Any], folder: Path, console: Console) -> None:
    if 'problem' in coverage:
        _say(console, Text(f'no line coverage: {coverage["problem"]}', 'red'))
        return
    lines = Table(title='lines of the series executed', title_justify='left')
    lines.add_column('patch')
    for name in ('lines', 'executed', '%'):
        lines.add_column(name, justify='right')
    for patch in coverage['patches']:
        lines.add_row(Text(patch['name']), str(patch['lines']), str(patch['covered']), f'{patch["percent"]:.1f}')
    lines.add_section()
    lines.add_row('all', str(coverage['lines']), str(coverage['covered']), f'{coverage["percent"]:.1f}')
    console.print(lines)
    for text in coverage['lost']:
        _say(console, Text(f'line counts lost of guest {text}', 'yellow'))
    _say(console, Text(f'the {len(coverage["uncovered"])} others: {folder / "coverage.txt"}'))


def _stages(table: dict[str, Any]) -> Table:
    stages = Table(title='where the time went', title_justify='left')
    stages.add_column('stage')
    stages.add_column('seconds', justify='right')
    for name, seconds in table['stages'].items():
        stages.add_row(name, f'{seconds:.1f}')
    return stages


def render_plain(table: dict[str, Any], folder: Path) -> str:
    """The same as text, for files and pipes."""
    console = Console(width=200, no_color=True, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        render(table, folder, console)
    return captured.get()


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('report', help='print the report of an earlier run again')
    parser.add_argument(
        'run', nargs='?', type=Path, metavar='FOLDER', help='results folder of the run (default: results/latest)'
    )
    parser.add_argument(
        '--format', choices=('text', 'html', 'junit', 'ktap', 'kcidb', 'github'), default='text', help='default: text'
    )
    parser.add_argument('--output', type=Path, metavar='FILE', help='write it there instead of printing it')
    parser.add_argument('--origin', metavar='NAME', help='of KCIDB: who submits (default fuse_lab)')
    parser.add_argument('--schema', action='store_true', help='print the JSON schema of results.json')
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    if args.schema:
        return json.dumps(schema.json_schema(), indent=1)
    folder: Path = args.run or lab.root / 'results' / 'latest'
    if args.origin and (args.format != 'kcidb' or not re.fullmatch(r'[a-z0-9_]+', args.origin)):
        raise UsageError(f'--origin {args.origin}: of --format kcidb; small letters, digits and _ only')
    table = results.read(folder)
    folder = (folder if folder.is_dir() else folder.parent).resolve()
    if args.format == 'text':
        text = render_plain(table, folder)
    else:
        text = formats.render(args.format, table, folder, **({'origin': args.origin} if args.origin else {}))
    if args.output is None:
        return text.rstrip('\n')
    try:
        args.output.write_text(text, encoding='utf-8')
    except OSError as error:
        raise LabError(f'cannot write {args.output}', str(error)) from error
    return str(args.output)
