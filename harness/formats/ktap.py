# SPDX-License-Identifier: GPL-2.0-only
"""results.json -> KTAP version 1 (Documentation/dev-tools/ktap.rst): sections, and checks in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.formats import evidence
from harness.formats.summary import adjudged, sections, state, trouble
from harness.verdict import State

MAX_LINES = 60  # of diagnostics per file of a check


def render(table: dict[str, Any], folder: Path) -> str:
    """The whole stream."""
    groups = sections(table)
    problem = trouble(table)
    kernel = table['kernel']
    lines = ['KTAP version 1', f'1..{len(groups) + (problem is not None)}']
    if kernel['release']:
        lines.append(_diagnostic(f'kernel {kernel["release"]} series {kernel["series_digest"] or "none"}'))
    for number, (section, checks) in enumerate(groups.items(), 1):
        lines += ['  KTAP version 1', f'  # Subtest: {_name(section)}', f'  1..{len(checks)}']
        for index, check in enumerate(checks, 1):
            lines += [f'  {line}' for line in _check(check, index, folder)]
        states = set(map(state, checks))
        directive = ' # SKIP no check was run' if states == {State.NOTRUN} else ''
        if State.LAB in states and State.BAD not in states:
            directive = ' # ERROR lab trouble'
        bad = states & {State.BAD, State.LAB}
        lines.append(f'{"not ok" if bad else "ok"} {number} {_name(section)}{directive}')
    if problem is not None:
        lines += [_diagnostic(problem), f'not ok {len(groups) + 1} run']
    return '\n'.join(lines) + '\n'


def _check(check: dict[str, Any], number: int, folder: Path) -> list[str]:
    name = _name(check['name'])
    its_state = state(check)
    if its_state is State.NOTRUN:
        return [f'ok {number} {name} # SKIP {evidence.printable(check["reason"])}']
    if its_state is State.GOOD:
        return [f'ok {number} {name}']
    lines = [f'{check["verdict"]}: {check["reason"]}', *filter(None, [adjudged(check)])]
    for what in ('diff', 'console', 'hang', 'stderr'):
        excerpt = evidence.of_check(folder, check, what, MAX_LINES)
        if excerpt:
            lines += excerpt.text.splitlines()
    lines.append(f'repeat: {check["repeat"]}')
    directive = ' # TIMEOUT' if check['verdict'] == 'hang' else ''
    if its_state is State.LAB:
        directive = ' # ERROR lab trouble'
    elif its_state is State.KNOWN:
        directive = f' # TODO {evidence.printable(check["known"])}'
    return [*(_diagnostic(line) for line in lines), f'not ok {number} {name}{directive}']


def _diagnostic(text: str) -> str:
    return f'# {evidence.printable(text)}'.rstrip()


def _name(text: str) -> str:
    # `#` begins a directive.
    return evidence.printable(text).replace('#', '_').strip() or '_'
