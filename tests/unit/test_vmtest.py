# SPDX-License-Identifier: GPL-2.0-only
"""vm-test from its command line to its closing line, with guests that are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_shard import Session, checks

from harness import formats
from harness.keeper import TRIES


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


def test_a_users_own_known_failures(session: Session) -> None:
    keys = checks(session.root, 1)
    folder = session.root / 'mine' / '6.12'
    folder.mkdir(parents=True)
    entry = "test = 'data/001'\nreason = 'my disk'\nevidence = 'seen'\nexpires = 2999-01-01\n"
    (folder / 'dev.toml').write_text(f'[[fails]]\n{entry}')
    session.start_vm_test('--known', str(folder.parent), script={keys[0]: ['fail']})
    status, output = session.end()
    assert status == 0, output
    assert output.splitlines()[-1] == '1 pass, 1 fail, 1 of these known to fail'


def test_plain_pytest_says_why_it_fails_too(session: Session) -> None:
    checks(session.root, 1)
    folder = session.root / 'tests' / 'known-failures' / '6.12'
    folder.mkdir(parents=True)
    entry = "test = 'data/001'\nreason = 'my disk'\nevidence = 'seen'\nexpires = 2999-01-01\n"
    (folder / 'dev.toml').write_text(f'[[fails]]\n{entry}')
    session.start(CI='true')
    status, output = session.end()
    assert status == 1, output
    assert 'known failures are out of date: dev: data/001: fails no longer (my disk)' in output


def test_a_check_without_a_guest_is_a_crash_and_the_others_go_on(session: Session) -> None:
    keys = checks(session.root, 3)
    session.start_vm_test(script={keys[2]: ['killed']}, FAKE_NO_BOOT='2')
    status, output = session.end()
    assert status == 1, output
    ends = {f'{c["name"]}[{c["section"]}]': (c['verdict'], c['reason']) for c in session.results['checks']}
    lost = ('crash', 'no guest came up for it: the kernel panics while it boots: no')
    assert ends == dict.fromkeys(keys, ('pass', '')) | {keys[2]: lost}


def test_a_kernel_that_boots_no_more_ends_the_run(session: Session) -> None:
    keys = checks(session.root, 4)
    session.start_vm_test(script={keys[1]: ['killed']}, FAKE_NO_BOOT=' '.join(map(str, range(2, 20))))
    status, output = session.end()
    assert status == 1, output
    assert [check['verdict'] for check in session.results['checks']] == ['pass', *['crash'] * TRIES]
    assert session.results['problem'] == 'verdict: the kernel panics while it boots: no'


def test_a_kernel_that_never_booted_ends_it_at_once(session: Session) -> None:
    checks(session.root, 2)
    session.start_vm_test(FAKE_NO_BOOT='1')
    status, output = session.end()
    assert status == 1, output
    assert session.results['checks'] == []
