# SPDX-License-Identifier: GPL-2.0-only
"""bench.json as a picture: bench.png and bench.svg beside it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.bench.rows import Measure
from harness.errors import LabError

_COLOURS = {True: '#2a9d5c', False: '#d1495b', None: '#8d99ae'}
_TITLES = {
    Measure.COST: 'instructions per operation: less is better',
    Measure.THROUGHPUT: 'throughput in a guest: more is better',
    Measure.NATIVE: 'throughput on the machine itself: more is better',
    Measure.EXPORT: 'one image as one file, in a guest: blockfs over the ring / the others; more is better',
    Measure.KRPC: 'files on a storage node, in a guest: krpc zero-copy / the others; more is better',
}


def draw(table: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the picture in both formats; returns the files. Nothing to draw: none."""
    panels = [(measure, _drawable(table, measure)) for measure in Measure]
    panels = [(measure, rows) for measure, rows in panels if rows]
    if not panels:
        return []
    # Its caches belong into no home, and there is no screen.
    os.environ.setdefault('MPLCONFIGDIR', str(folder))
    os.environ['MPLBACKEND'] = 'Agg'
    try:
        from matplotlib import rcParams  # noqa: PLC0415 # costs a second, needed only here
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        hint = 'python -m pip install -r requirements.lock'
        raise LabError('matplotlib is not installed', str(error), hint) from error
    # The same figures give the same file.
    rcParams['svg.hashsalt'] = 'fuse-lab'
    heights = [len(rows) * 0.42 + 1.2 for _, rows in panels]
    figure = Figure(figsize=(10, sum(heights)), layout='constrained')
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axis, (measure, rows) in zip(axes, panels, strict=True):
        _panel(axis, measure, rows)
    figure.suptitle(_heading(table))
    files = [folder / 'bench.png', folder / 'bench.svg']
    try:
        for file in files:
            figure.savefig(file, metadata={'Date': None} if file.suffix == '.svg' else None)
    except OSError as error:
        raise LabError(f'cannot write {files[0]}', str(error)) from error
    finally:
        for left in folder.glob('fontlist-*.json*'):
            left.unlink()
    return files


def _drawable(table: Mapping[str, Any], measure: Measure) -> list[Mapping[str, Any]]:
    return [row for row in table['rows'] if row['measure'] == measure and row['ratio'] is not None]


def _heading(table: Mapping[str, Any]) -> str:
    subjects = table['subjects']
    release = subjects['a']['kernel']['release'] or table['identity']['host_kernel']
    if 'b' not in subjects:
        what = ' and '.join(dict.fromkeys(_pair(row) for row in table['rows']))
        return f'{what} (black: the goal), {release}'
    b = subjects['b']
    return f'a / b (black: the goal): {release} and {b["kernel"]["release"] or release}, {b["server"]["program"]}'


def _panel(axis: Any, measure: Measure, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars of a/b with their spread, the goal as a mark, the figures themselves as text."""
    places = list(range(len(rows)))
    ratios = [row['ratio'] for row in rows]
    errors = [(row['spread'] or 0.0) * row['ratio'] / 2 for row in rows]
    axis.barh(places, ratios, xerr=errors, color=[_COLOURS[row['met']] for row in rows], height=0.62,
              error_kw={'elinewidth': 1.0, 'capsize': 2})  # fmt: skip
    for place, row in zip(places, rows, strict=True):
        goal = goal_ratio(row)
        if goal is not None:
            axis.plot([goal, goal], [place - 0.42, place + 0.42], color='black', linewidth=1.6)
        text = f'{row["a"]:g} : {row["b"]:g}'
        axis.text(0.01, place, text, va='center', fontsize=7, color='white', transform=axis.get_yaxis_transform())
    axis.axvline(1.0, color='grey', linewidth=0.8, linestyle='--')
    axis.set_yticks(places, _names(rows), fontsize=8)
    axis.invert_yaxis()
    axis.set_title(_TITLES[measure], fontsize=9)
    axis.set_xlim(left=0)


def _pair(row: Mapping[str, Any]) -> str:
    return f'{row["a_what"]} / others' if row['several'] else 'ring / device'


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [f'{row["title"]} : {row["b_what"]}' if row['several'] else row['title'] for row in rows]
    # with two subjects
    if len(set(names)) < len(names):
        return [f'{row["title"]} [{row["side"]}]' for row in rows]
    return names


def goal_ratio(row: Mapping[str, Any]) -> float | None:
    """Where the goal lies on the axis of ratios; a goal for `a` itself is one of a/b, too."""
    if row['goal'] is None:
        return None
    limit: float = row['goal_limit']
    return limit if row['goal_of'] == 'ratio' else limit / float(row['b'])
