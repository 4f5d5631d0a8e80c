# SPDX-License-Identifier: GPL-2.0-only
"""Checks that end otherwise over one transport than over the other, though no entry of the known failures says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.formats.evidence import printable
from harness.formats.summary import state
from harness.known import EXCLUDED
from harness.series import FEATURES
from harness.verdict import State
from harness.xfstests import AREA


@dataclass(frozen=True)
class Split:
    """One of them."""

    text: str  # which verdict where, and why
    fails: bool  # one of its ends fails the run anyway


def unexplained(checks: list[dict[str, Any]]) -> list[Split]:
    """Among the checks of a run. Nothing is said of one that ran in one section only."""
    found: dict[str, list[dict[str, Any]]] = {}
    for check in checks:
        if _counts(check):
            found.setdefault(check['name'], []).append(check)
    splits = []
    for name, ends in sorted(found.items()):
        if len({check['verdict'] for check in ends}) > 1 and not any(map(_explained, ends)):
            said = map(_said, sorted(ends, key=lambda check: str(check['section'])))
            splits.append(Split(f'{name}: {", ".join(said)}', any(state(check) is State.BAD for check in ends)))
    return splits


def _counts(check: dict[str, Any]) -> bool:
    """Not so what the lab lost, and a check of ours that is not run: the rule for CI is about those."""
    if state(check) is State.NOTRUN:
        # A test of xfstests may leave itself out over one transport only, and that is a difference.
        return str(check['name']).startswith(f'{AREA}/') and check['reason'] != FEATURES['ring']
    return state(check) is not State.LAB


def _explained(check: dict[str, Any]) -> bool:
    return state(check) is State.KNOWN or check['reason'].startswith(EXCLUDED)


def _said(check: dict[str, Any]) -> str:
    reason = f' ({check["reason"]})' if check['reason'] else ''
    return printable(f'{check["section"]} {check["verdict"]}{reason}')
