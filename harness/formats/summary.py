# SPDX-License-Identifier: GPL-2.0-only
"""What all formats ask of a run's table."""

from __future__ import annotations

from typing import Any

from harness.verdict import WORST_FIRST, State, state_of

INCOMPLETE = {None: 'it is not over', 2: 'it was not used rightly', 3: 'the lab was in trouble', 130: 'interrupted'}


def state(check: dict[str, Any]) -> State:
    """What this entry of `checks` means for the run."""
    return state_of(check['verdict'], check['reason'], check.get('known', ''))


def worse(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a check has become worse: it counts as bad and was good, or now takes the kernel along."""
    if state(new) is not State.BAD:
        return False
    return state(old) is State.GOOD or (
        state(old) in (State.BAD, State.KNOWN) and WORST_FIRST.index(new['verdict']) < WORST_FIRST.index(old['verdict'])
    )


def again(table: dict[str, Any]) -> list[str]:
    """Checks that had to be run more than once, and why."""
    found = []
    for check in table['checks']:
        attempts = check.get('attempts') or []
        times = len(attempts) + (state(check) is not State.LAB)
        if attempts:
            found.append(f'{check["name"]}[{check["section"]}] was run {times} times: {attempts[-1]["reason"]}')
    return found


def sections(table: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Checks by section, in order of their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    for check in sorted(table['checks'], key=lambda check: (check['section'], check['name'])):
        found.setdefault(check['section'], []).append(check)
    return found


def known_failures(table: dict[str, Any]) -> dict[str, list[str]]:
    """NAME[SECTION] of failures that are known, by reason."""
    found: dict[str, list[str]] = {}
    for check in table['checks']:
        if state(check) is State.KNOWN:
            found.setdefault(check['known'], []).append(f'{check["name"]}[{check["section"]}]')
    return dict(sorted(found.items()))


def adjudged(check: dict[str, Any]) -> str:
    """What running it again on both kernels has shown; empty when nobody has."""
    return str(check['adjudication']['text']) if check.get('adjudication') else ''


def by_area(table: dict[str, Any]) -> dict[str, list[list[tuple[str, int]]]]:
    """For each area, and in it for each of sections(table), how many of each verdict; the worst last."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for check in table['checks']:
        cell = counts.setdefault(check['name'].split('/')[0], {}).setdefault(check['section'], {})
        cell[check['verdict']] = cell.get(check['verdict'], 0) + 1
    return {
        area: [counted(cells.get(section, {})) for section in sections(table)] for area, cells in sorted(counts.items())
    }


def counted(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Those that there are, the worst last."""
    return [(str(verdict), counts[verdict]) for verdict in reversed(WORST_FIRST) if counts.get(verdict)]


def trouble(table: dict[str, Any]) -> str | None:
    """Why the run is not good although no check says so; None: checks say all there is to say."""
    if table['problem']:
        return str(table['problem'])
    if table['stray_events']:
        return 'the kernel complained outside of any check'
    if table['status'] == 0 or (table['status'] == 1 and any(state(check) is State.BAD for check in table['checks'])):
        return None
    return INCOMPLETE.get(table['status'], f'exit status {table["status"]}')
