# SPDX-License-Identifier: GPL-2.0-only
"""bench.json as tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.bench.rows import Measure, Side

TITLES = {
    Measure.COST: 'deterministic cost: thousands of instructions per operation, whole system',
    Measure.THROUGHPUT: 'parallel throughput, in a guest',
    Measure.NATIVE: "parallel throughput, on this machine's own kernel",
    Measure.EXPORT: 'one image as one file, in a guest: blockfs and others',
    Measure.KRPC: 'files on a storage node, in a guest: krpc and an ordinary server',
}


def render(table: Mapping[str, Any], folder: Path, console: Console) -> None:
    """Print the tables of a run."""
    for measure in Measure:
        rows = [row for row in table['rows'] if row['measure'] == measure]
        pairs = [row for row in rows if not row['several']]
        if rows and 'b' in table['subjects']:
            console.print(_beside(measure, rows))
            continue
        if pairs:
            console.print(_sides(measure, pairs, table))
        for own in dict.fromkeys(row['a_what'] for row in rows if row['several']):
            console.print(_against(measure, [row for row in rows if row['several'] and row['a_what'] == own], own))
    for row in table['rows']:
        if row['state'] != 'measured':
            colour = 'yellow' if row['state'] == 'notrun' else 'red'
            _say(console, Text(f'{row["state"]}: {row["measure"]}/{row["workload"]}: {row["reason"]}', colour))
    for note in table['notes']:
        _say(console, Text(f'note: {note}', 'yellow'))
    for name, subject in table['subjects'].items():
        _say(console, Text(f'{name}: {_kernel(subject["kernel"])}server {subject["server"]["program"]}'))
    identity, measures = table['identity'], {row['measure'] for row in table['rows']}
    if measures & {Measure.THROUGHPUT, Measure.EXPORT, Measure.KRPC}:
        _say(console, Text(f'throughput: {identity["accelerator"]}, {identity["guest_cpus"]} CPUs; {identity["cpu"]}'))
    if Measure.NATIVE in measures:
        _say(console, Text(f'native: kernel {identity["host_kernel"]}, {identity["cpus"]} CPUs; {identity["cpu"]}'))
    _say(console, Text(f'results: {folder}'))
    _say(console, Text(closing(table), 'bold'))


def _kernel(kernel: Mapping[str, Any]) -> str:
    if kernel['release'] is None:
        return ''
    return (
        f'kernel {kernel["release"]}, variant {kernel["variant"] or "none"}, '
        f'build id {(kernel["build_id"] or "unknown")[:16]}; '
    )


def closing(table: Mapping[str, Any]) -> str:
    """The last line."""
    rows = table['rows']
    judged = [row for row in rows if row['met'] is not None]
    text = f'{sum(row["met"] for row in judged)} of {len(judged)} goals met'
    for state in ('failed', 'notrun'):
        number = sum(row['state'] == state for row in rows)
        if number:
            text += f', {number} rows {state}'
    return f'{text} ({table["problem"]})' if table['problem'] else text


def _sides(measure: Measure, rows: Sequence[Mapping[str, Any]], whole: Mapping[str, Any]) -> Table:
    """One subject: its transports side by side."""
    table = _table(TITLES[measure])
    sides = (Side.DEV, Side.NOSPLICE, Side.RING) if measure is Measure.COST else (Side.DEV, Side.RING)
    for side in sides:
        table.add_column(side.label, justify='right')
    _verdict_columns(table)
    values = {(f['workload'], f['side']): f['value'] for f in whole['figures'] if f['measure'] == measure}
    for row in rows:
        unit = '' if measure is Measure.COST else f' {row["unit"]}'.replace('operations', 'op')
        cells = [_number(values.get((row['workload'], side)), unit) for side in sides]
        table.add_row(row['title'], *cells, *_verdict(row))
    return table


def _against(measure: Measure, rows: Sequence[Mapping[str, Any]], own: str) -> Table:
    """One side beside several others, a line for each."""
    table = _table(TITLES[measure])
    for name in ('beside', own, 'the other'):
        table.add_column(name, justify='left' if name == 'beside' else 'right')
    _verdict_columns(table)
    for row in rows:
        unit = ' MB/s' if row['unit'] == 'MB/s' else ''
        table.add_row(row['title'], row['b_what'], _number(row['a'], unit), _number(row['b'], unit), *_verdict(row))
    return table


def _beside(measure: Measure, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Two subjects side by side."""
    table = _table(TITLES[measure])
    for name in ('way', 'a', 'b'):
        table.add_column(name, justify='left' if name == 'way' else 'right')
    _verdict_columns(table)
    for row in rows:
        unit = '' if measure is Measure.COST else f' {row["unit"]}'.replace('operations', 'op')
        way = Side(row['side']).label
        table.add_row(row['title'], way, _number(row['a'], unit), _number(row['b'], unit), *_verdict(row))
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify='left')
    table.add_column('workload')
    return table


def _verdict_columns(table: Table) -> None:
    for name in ('ratio', 'spread', 'goal', 'met'):
        table.add_column(name, justify='right', no_wrap=True)


def _verdict(row: Mapping[str, Any]) -> list[Text | str]:
    if row['state'] != 'measured':
        met = Text(row['state'], 'yellow' if row['state'] == 'notrun' else 'bold red')
    else:
        met = {True: Text('yes', 'green'), False: Text('no', 'red'), None: Text('-')}[row['met']]
    ratio = '-' if row['ratio'] is None else f'{row["ratio"]:.3f}'
    spread = '-' if row['spread'] is None else f'{100 * row["spread"]:.1f} %'
    return [ratio, spread, row['goal'] or '-', met]


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return '-'
    return (f'{value:.2f}' if value < 100 else f'{value:.0f}') + unit


def _say(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=True)
