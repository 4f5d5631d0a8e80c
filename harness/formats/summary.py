# SPDX-License-Identifier: GPL-2.0-only
"""What all formats ask of a run's table."""

from __future__ import annotations

from typing import Any

LAB = 'lab trouble: '  # before the reason of a bad verdict that says nothing of the kernel
BAD = ('fail', 'hang', 'crash')  # the worst last
INCOMPLETE = {None: 'it is not over', 2: 'it was not used rightly', 3: 'the lab was in trouble', 130: 'interrupted'}


def is_bad(check: dict[str, Any]) -> bool:
    """Fails the run: not so what is known to fail."""
    return check['verdict'] in BAD and not check.get('known')


def again(table: dict[str, Any]) -> list[str]:
    """Checks that had to be run more than once, and why."""
    found = []
    for check in table['checks']:
        attempts = check.get('attempts') or []
        times = len(attempts) + (not check['reason'].startswith(LAB))
        if attempts:
            found.append(f'{check["name"]}[{check["section"]}] was run {times} times: {attempts[-1]["reason"]}')
    return found


def sections(table: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Checks by section, in order of their names."""
    found: dict[str, list[dict[str, Any]]] = {}
    for check in sorted(table['checks'], key=lambda check: (check['section'], check['name'])):
        found.setdefault(check['section'], []).append(check)
    return found


def trouble(table: dict[str, Any]) -> str | None:
    """Why the run is not good although no check says so; None: checks say all there is to say."""
    if table['problem']:
        return str(table['problem'])
    if table['stray_events']:
        return 'the kernel complained outside of any check'
    if table['status'] == 0 or (table['status'] == 1 and any(map(is_bad, table['checks']))):
        return None
    return INCOMPLETE.get(table['status'], f'exit status {table["status"]}')
