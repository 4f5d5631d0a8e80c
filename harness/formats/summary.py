# SPDX-License-Identifier: GPL-2.0-only
"""What all formats ask of a run's table."""

from __future__ import annotations

from typing import Any

BAD = ('fail', 'hang', 'crash')  # the worst last
INCOMPLETE = {None: 'it is not over', 2: 'it was not used rightly', 3: 'the lab was in trouble', 130: 'interrupted'}


def is_bad(check: dict[str, Any]) -> bool:
    """Fails the run: not so what is known to fail."""
    return check['verdict'] in BAD and not check.get('known')


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
