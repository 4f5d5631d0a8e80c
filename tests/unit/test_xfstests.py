# SPDX-License-Identifier: GPL-2.0-only
"""xfstests trees: what is missing is named, tests are read as they stand, the guest gets what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from fakeguest import FakeKeeper, Script, report

from harness import xfstests
from harness.allowlist import AllowList
from harness.check import CheckError
from harness.errors import LabError, UsageError
from harness.execute import run_check
from harness.mount import Bundle
from harness.plugin import judge_group
from harness.verdict import Verdict

STANDIN = Path(__file__).parents[1] / 'standin'


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STANDIN, tmp_path / 'tree'))


def test_no_tree(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        xfstests.find(tmp_path)
    assert 'is no xfstests tree' in caught.value.what
    assert caught.value.detail == 'missing: check common/rc common/config tests/generic'


def test_what_is_not_built_is_named(tree: Path) -> None:
    (tree / 'ltp' / 'fsx').unlink()
    (tree / 'tests' / 'generic' / 'group.list').unlink()
    with pytest.raises(UsageError) as caught:
        xfstests.find(tree)
    assert 'is not built' in caught.value.what
    assert caught.value.detail == 'missing: tests/generic/group.list ltp/fsx'


def test_programs_that_are_missing_are_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = xfstests._program
    monkeypatch.setattr(xfstests, '_program', lambda name: None if name in ('xfs_io', 'perl') else real(name))
    with pytest.raises(LabError) as caught:
        xfstests.find(tree)
    assert caught.value.what.endswith(': perl xfs_io')
    assert caught.value.hint == 'apt-get install perl xfsprogs'


def test_tests_and_their_groups(tree: Path) -> None:
    found = xfstests.find(tree)
    names = [path.name for path in sorted(found.tests.iterdir()) if xfstests.is_test(found, path)]
    assert names == ['001', '002', '003', '004']
    assert not xfstests.is_test(found, found.tests / '001.out')
    assert xfstests.groups(found)['004'] == {'failing'}
    check = xfstests.parse(found.tests / '001', xfstests.groups(found)['001'])
    assert (check.name, check.sections, check.suite) == ('generic/001', ('dev', 'uring'), 'xfstests')
    assert check.digest()


def test_a_test_without_golden_output_is_broken(tree: Path) -> None:
    (tree / 'tests' / 'generic' / '001.out').unlink()
    with pytest.raises(CheckError):
        xfstests.parse(tree / 'tests' / 'generic' / '001', frozenset())


def test_groups_are_those_of_the_tree(tree: Path) -> None:
    found = xfstests.find(tree)
    judge_group('quick', found)
    judge_group('rw', None)
    with pytest.raises(UsageError, match='no such group: rw'):
        judge_group('rw', found)
    with pytest.raises(UsageError, match='no such group: nonsense'):
        judge_group('nonsense', None)


def test_bundle_has_tree_tools_and_libraries(tree: Path) -> None:
    (tree / '.git').mkdir()
    (tree / '.git' / 'config').write_text('no')
    (tree / 'src' / 'thing.c').write_text('no')
    (tree / 'src' / 'thing.o').write_text('no')
    made = xfstests.bundle(xfstests.find(tree), Bundle(((STANDIN / 'README', 'guest/README'),)))
    names = {name for _, name in made.sources}
    assert {
        'guest/README',
        'xfstests/check',
        'xfstests/tests/generic/001',
        'tools/bin/perl',
        'tools/sbin/xfs_io',
    } <= names
    assert 'tools/lib/libc.so.6' in names
    assert not [name for name in names if '.git' in name or 'thing' in name]
    assert made.setup == ('guest/setup', 'guest/xfstests-setup')
    assert all(path.is_file() for path, _ in made.sources)


@pytest.mark.parametrize(
    ('script', 'verdict', 'reason'),
    [
        (Script(stdout=b'', stderr=report()), Verdict.PASS, ''),
        (
            Script(stdout=b'-what is\n+what is not\n', stderr=report(exit=1)),
            Verdict.FAIL,
            'exit status 1; output differs',
        ),
        (Script(stdout=b'', stderr=report(status='notrun', reason='no reflinks')), Verdict.NOTRUN, 'no reflinks'),
    ],
)
def test_verdicts(tmp_path: Path, tree: Path, script: Script, verdict: Verdict, reason: str) -> None:
    keeper = FakeKeeper(tmp_path, {'generic/001[dev]': script})
    check = xfstests.parse(tree / 'tests' / 'generic' / '001', frozenset({'quick'}))
    result = run_check(keeper, check, 'dev', AllowList())  # type: ignore[arg-type]
    assert (result.verdict, result.reason) == (verdict, reason)
    assert result.diff == script.stdout.decode().strip()
