# SPDX-License-Identifier: GPL-2.0-only
"""The table of known bugs names checks that exist, and none of its rows goes without."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = [
    line
    for line in (TESTS / 'known-bugs.md').read_text().splitlines()
    if line.startswith('| ') and not line.startswith(('| ---', '| bug |'))
]


def test_there_are_rows() -> None:
    assert len(ROWS) > 40


@pytest.mark.parametrize('row', ROWS, ids=lambda row: row.split('|')[1].strip()[:40])
def test_row(row: str) -> None:
    checks = re.findall(r'\b([a-z]+/\d{3})\b', row)
    assert checks or '| none: ' in row
    missing = [check for check in checks if not (TESTS / 'checks' / check).is_file()]
    assert not missing
