# SPDX-License-Identifier: GPL-2.0-only
"""vm-test from its command line to its closing line, with guests that are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_shard import Session, checks

from harness import formats


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


@pytest.mark.parametrize(('ci', 'status'), [('', 0), ('true', 1)])
def test_ci_says_what_it_does_not_leave_out(session: Session, ci: str, status: int) -> None:
    keys = checks(session.root, 2)
    session.start_vm_test(script={key: ['notrun'] for key in keys[1:3]}, CI=ci)
    got, output = session.end()
    assert got == status, output
    table = session.results
    last = output.splitlines()[-1]
    why = 'not run, which CI does not accept: 2 checks, first data/001[uring]: no /usr/bin/nbdkit'
    assert (why in last) is bool(ci)
    assert table['problem'] == (why if ci else '')
    folder = session.root / 'results' / 'latest'
    for name in ('junit', 'github', 'ktap'):
        assert ('which CI does not accept' in formats.render(name, table, folder)) is bool(ci)
