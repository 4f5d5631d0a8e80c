# SPDX-License-Identifier: GPL-2.0-only
"""results.json -> annotations of a GitHub workflow: one line for each failure, on the step's output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.formats import evidence
from harness.formats.summary import adjudged, again, known_failures, state, trouble
from harness.verdict import State

MAX_LINES = 20  # of the diff or the console
MAX_TEXT = 4000  # characters of one annotation
SHOWN = 10  # of each kind; GitHub takes no more of one step
_CHECKS = Path(__file__).resolve().parent.parent.parent / 'tests' / 'checks'


def render(table: dict[str, Any], folder: Path) -> str:
    """The lines; none for a run that is good."""
    bad = [check for check in table['checks'] if state(check) is State.BAD]
    problem = trouble(table)
    room = SHOWN - (problem is not None)
    lines = [_failure(check, folder) for check in bad[: room if len(bad) <= room else room - 1]]
    if len(bad) > room:
        left_out = bad[room - 1 :]
        names = ' '.join(f'{check["name"]}[{check["section"]}]' for check in left_out)
        lines.append(_line('error', f'{len(left_out)} more failures', names))
    if problem is not None:
        lines.append(_line('error', 'fuse-lab', evidence.printable(problem)))
    lines += [_line('warning', 'fuse-lab', evidence.printable(text)) for text in again(table)[:SHOWN]]
    known = list(known_failures(table).items())[:SHOWN]
    lines += [_line('notice', 'known to fail', evidence.printable(f'{why}: {" ".join(names)}')) for why, names in known]
    return ''.join(f'{line}\n' for line in lines)


def _failure(check: dict[str, Any], folder: Path) -> str:
    excerpts = [evidence.of_check(folder, check, what, MAX_LINES) for what in ('diff', 'console', 'hang', 'stderr')]
    first = next((excerpt.text for excerpt in excerpts if excerpt), '')
    text = [
        evidence.printable(check['reason']),
        evidence.printable(adjudged(check)),
        first,
        f'repeat: {evidence.printable(check["repeat"])}',
    ]
    title = f'{check["verdict"]}: {check["name"]}[{check["section"]}]'
    return _line('error', title, evidence.join([*filter(None, text)], MAX_TEXT), _place(check['name']))


def _place(name: str) -> str:
    """The check, if it is in the workspace: GitHub knows only what is below it."""
    try:
        workspace = Path(os.environ['GITHUB_WORKSPACE']).resolve()
        return str((_CHECKS / name).relative_to(workspace))
    except (KeyError, ValueError, OSError):
        return ''


def _line(kind: str, title: str, text: str, file: str = '') -> str:
    place = f'file={_property(file)},line=1,' if file else ''
    return f'::{kind} {place}title={_property(title)}::{_escaped(text)}'


def _escaped(text: str) -> str:
    return text.replace('%', '%25').replace('\r', '%0D').replace('\n', '%0A')


def _property(text: str) -> str:
    return _escaped(evidence.printable(text)).replace(':', '%3A').replace(',', '%2C')
