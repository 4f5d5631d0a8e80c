# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.allowlist import load
from harness.console import Kind
from harness.errors import UsageError

TODAY = datetime.date(2026, 6, 1)
GOOD = "[[allow]]\npattern = 'kernfs'\nreason = 'fixed upstream'\nexpires = 2026-06-30\nkind = 'lockdep'\n"


def test_entries(tmp_path: Path) -> None:
    path = tmp_path / 'allow.toml'
    path.write_text(GOOD + GOOD.replace('2026-06-30', '2026-05-01'))
    allow = load(path, TODAY)
    assert allow.entries[0].kind is Kind.LOCKDEP
    assert [entry.expires for entry in allow.expired()] == [datetime.date(2026, 5, 1)]


def test_no_file_excuses_nothing(tmp_path: Path) -> None:
    assert load(tmp_path / 'none').entries == ()


@pytest.mark.parametrize(
    'text',
    [
        'nonsense',
        GOOD.replace("reason = 'fixed upstream'\n", ''),
        GOOD.replace("'fixed upstream'", "' '"),
        GOOD.replace('expires = 2026-06-30\n', ''),
        GOOD.replace('2026-06-30', "'never'"),
        GOOD.replace("'kernfs'", "'('"),
        GOOD.replace("'lockdep'", "'deadlock'"),
        GOOD + 'expiry = 2026-01-01\n',
    ],
)
def test_bad_entries_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'allow.toml'
    path.write_text(text)
    with pytest.raises(UsageError, match=r'allow\.toml'):
        load(path, TODAY)
