# SPDX-License-Identifier: GPL-2.0-only
"""Checks as pytest items, with a campaign whose guest is a script."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakeguest import FakeKeeper, Script, report
from test_check import HEADER, make

from harness.allowlist import AllowList
from harness.check import Check
from harness.errors import LabError, VerdictError
from harness.execute import run_check
from harness.image import KernelImage
from harness.plugin import CAMPAIGN, TROUBLE, exit_status, may_be_notrun
from harness.results import check_dict
from harness.runfolder import RunFolder
from harness.series import FEATURES
from harness.verdict import CheckResult


class FakeCampaign:
    """What the plugin needs of a campaign."""

    def __init__(self, folder: Path, scripts: dict[str, Script], error: Exception | None = None) -> None:
        self.keeper = FakeKeeper(folder, scripts)
        self.run = RunFolder(folder)
        self.kernel = self.keeper.plan.kernel
        self.progress = object()  # as vm-test: the session's end is not the plugin's affair
        self.checks: list[dict[str, Any]] = []
        self.ran: list[str] = []
        self.error = error

    def run_check(self, check: Check, section: str) -> tuple[CheckResult, dict[str, Any]]:
        if self.error is not None:
            raise self.error
        self.ran.append(f'{check.name}[{section}]')
        result = run_check(self.keeper, check, section, AllowList())  # type: ignore[arg-type]
        return result, check_dict(result, {}, 'make vm-test CHECK=...')


class Outcome:
    def __init__(self, code: int, campaign: FakeCampaign, output: str, trouble: object) -> None:
        self.code, self.campaign, self.output, self.trouble = code, campaign, output, trouble


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run pytest on checks; all sections pass but those scripted otherwise."""

    def go(*arguments: str, scripts: dict[str, Script] | None = None, error: Exception | None = None) -> Outcome:
        table: dict[str, Script] = {}
        for path in (tmp_path / 'tests' / 'checks').glob('*/???'):
            for section in ('dev', 'uring'):
                table[f'{path.parent.name}/{path.name}[{section}]'] = Script()
        campaign = FakeCampaign(tmp_path / 'results', {**table, **(scripts or {})}, error)
        seen = SimpleNamespace(config=None)

        class Bring:
            @pytest.hookimpl(trylast=True)
            def pytest_configure(self, config: pytest.Config) -> None:
                config.stash[CAMPAIGN] = campaign  # type: ignore[assignment]
                seen.config = config

        words = [f'--rootdir={tmp_path}', f'--confcutdir={tmp_path}', '-p', 'harness.plugin', '-p', 'no:cacheprovider']
        places = [word for word in arguments if word.startswith(str(tmp_path))] or [str(tmp_path / 'tests')]
        options = [word for word in arguments if not word.startswith(str(tmp_path))]
        code = pytest.main([*places, *words, '-v', *options], plugins=[Bring()])
        trouble = seen.config.stash.get(TROUBLE, None) if seen.config else None
        return Outcome(int(code), campaign, capfd.readouterr().out, trouble)

    return go


def test_sections_are_items(tmp_path: Path, run: Any) -> None:
    make(tmp_path)
    outcome = run()
    assert outcome.code == 0
    assert outcome.campaign.ran == ['data/001[dev]', 'data/001[uring]']
    assert 'tests/checks/data/001[uring] PASSED' in outcome.output
    assert [check['verdict'] for check in outcome.campaign.checks] == ['pass', 'pass']


def test_choice(tmp_path: Path, run: Any) -> None:
    make(tmp_path)
    make(tmp_path, HEADER.replace('quick ', ''), 'data/002')
    make(tmp_path, HEADER + '# sections: uring\n', 'uring/001')
    both = ['data/001[dev]', 'data/001[uring]']
    assert run().campaign.ran == [*both, 'uring/001[uring]']
    assert run('--group=auto').campaign.ran == [*both, 'data/002[dev]', 'data/002[uring]', 'uring/001[uring]']
    assert run('--section=dev').campaign.ran == ['data/001[dev]']
    assert run('--check=data/002', '--section=uring').campaign.ran == ['data/002[uring]']
    assert run('--check=data/001 uring/*').campaign.ran == [*both, 'uring/001[uring]']
    assert run('-m', 'auto and not quick').campaign.ran == ['data/002[dev]', 'data/002[uring]']
    place = tmp_path / 'tests' / 'checks' / 'data' / '002'
    assert run(f'{place}[uring]').campaign.ran == ['data/002[uring]']


def test_dangerous_comes_last(tmp_path: Path, run: Any) -> None:
    make(tmp_path, HEADER.replace('rw', 'dangerous'), 'data/001')
    make(tmp_path, name='data/002')
    assert run('--section=dev').campaign.ran == ['data/002[dev]', 'data/001[dev]']


def test_failure_shows_diff_and_command(tmp_path: Path, run: Any) -> None:
    make(tmp_path)
    outcome = run('--section=dev', scripts={'data/001[dev]': Script(stdout=b'ko\n')})
    assert outcome.code == 1
    assert '-ok' in outcome.output
    assert '+ko' in outcome.output
    assert 'repeat: make vm-test CHECK=' in outcome.output


def test_broken_check_is_an_error_that_names_file_and_line(tmp_path: Path, run: Any) -> None:
    path = make(tmp_path, HEADER + 'if\n')
    outcome = run()
    assert outcome.code == pytest.ExitCode.INTERRUPTED
    assert f'{path}:6: syntax error' in outcome.output
    assert outcome.campaign.ran == []


def test_notrun_is_skipped_with_its_reason(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path)
    scripts = {'data/001[dev]': Script(stdout=b'', stderr=report('notrun', reason='no /dev/loop0'))}
    monkeypatch.delenv('CI', raising=False)
    outcome = run('--section=dev', '-rs', scripts=scripts)
    assert outcome.code == 0
    assert re.search(r'SKIPPED \[1\] .*: no /dev/loop0', outcome.output)
    monkeypatch.setenv('CI', 'true')
    outcome = run('--section=dev', scripts=scripts)
    assert outcome.code == 1
    assert 'not run, which CI does not accept: no /dev/loop0' in outcome.output


@pytest.mark.parametrize(
    ('error', 'status'), [(LabError('QEMU does not start'), 3), (VerdictError('the kernel panics while it boots'), 1)]
)
def test_trouble_ends_the_session(tmp_path: Path, run: Any, error: Any, status: int) -> None:
    make(tmp_path)
    make(tmp_path, name='data/002')
    outcome = run(error=error)
    assert outcome.output.count(error.what) >= 1
    assert 'data/002[uring] ' not in outcome.output
    assert outcome.trouble is error
    assert exit_status(outcome.code, outcome.trouble, False) == status


def test_junit_has_section_and_proof(tmp_path: Path, run: Any) -> None:
    make(tmp_path)
    outcome = run('--section=dev', f'--junit-xml={tmp_path / "junit.xml"}')
    assert outcome.code == 0
    text = (tmp_path / 'junit.xml').read_text()
    assert '<property name="section" value="dev"' in text
    assert '<property name="requests_dev" value="3"' in text


@pytest.mark.parametrize(
    ('reason', 'provides', 'allowed'),
    [
        ('2 CPUs, needs 4', 'ring series krpc', True),
        ('kernel 6.12.1, needs 7.0', 'ring series krpc', True),
        # What the kernel has not is excused unless its series promises it.
        ('only our series has what this tests', 'ring series krpc', False),
        ('only our series has what this tests', 'ring', True),
        ('kernel has no FUSE over io_uring', '', True),
        ('kernel has no FUSE over io_uring', 'ring', False),
        ('no /dev/fuse-krpc', 'ring series', True),
        ('no /dev/fuse-krpc', 'krpc', False),
        # What the machine could bring along is not.
        ('no /usr/bin/nbdkit', '', False),
        ('kernel without CONFIG_FAILSLAB', '', False),
    ],
)
def test_what_ci_accepts(reason: str, provides: str, allowed: bool) -> None:
    image = KernelImage(image=Path('x'), directory=Path(), provides=frozenset(provides.split()))
    assert may_be_notrun('data/001', reason, image) is allowed
    # What xfstests cannot do is excused as well, but no promise that is broken.
    assert may_be_notrun('generic/001', reason, image) is (allowed or reason not in FEATURES.values())


@pytest.mark.parametrize(
    ('code', 'broken', 'status'),
    [(0, False, 0), (1, False, 1), (2, False, 130), (2, True, 2), (4, False, 2), (5, False, 2)],
)
def test_exit_statuses(code: int, broken: bool, status: int) -> None:
    assert exit_status(code, None, broken) == status
