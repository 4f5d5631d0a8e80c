# SPDX-License-Identifier: GPL-2.0-only
"""Running a check in a guest that is a script."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from fakeguest import FakeKeeper, Script, report
from test_check import make

from harness.allowlist import AllowList
from harness.check import parse
from harness.console import Kind
from harness.execute import run_check, variables
from harness.verdict import CheckResult, Verdict

OOPS = (Path(__file__).parent / 'console' / 'oops.log').read_bytes()
OOPS = re.sub(rb'.*fuse-lab:.*\n', b'', OOPS)
WARN = re.sub(rb'.*fuse-lab:.*\n', b'', (Path(__file__).parent / 'console' / 'warn.log').read_bytes())


def run(tmp_path: Path, script: Script) -> tuple[CheckResult, Any]:
    keeper = FakeKeeper(tmp_path, {'data/001[dev]': script})
    keeper.get()
    guest = keeper.guest
    result = run_check(keeper, parse(make(tmp_path)), 'dev', AllowList())  # type: ignore[arg-type]
    assert guest is not None
    return result, (keeper, guest)


def test_pass_keeps_the_guest(tmp_path: Path) -> None:
    result, (keeper, guest) = run(tmp_path, Script())
    assert result.verdict is Verdict.PASS
    assert result.guest == 'checks-1'
    assert keeper.guest is guest


def test_warn_is_a_crash_but_the_guest_goes_on(tmp_path: Path) -> None:
    result, (keeper, guest) = run(tmp_path, Script(console=WARN))
    assert (result.verdict, result.events[0].kind) == (Verdict.CRASH, Kind.WARN)
    assert keeper.guest is guest


def test_after_an_oops_a_fresh_guest(tmp_path: Path) -> None:
    result, (keeper, guest) = run(tmp_path, Script(console=OOPS))
    assert result.verdict is Verdict.CRASH
    assert keeper.guest is None
    assert not guest.machine.alive


def test_oops_whose_report_is_not_complete_yet(tmp_path: Path) -> None:
    half = OOPS[: OOPS.index(b'Call Trace')]
    result, (keeper, _) = run(tmp_path, Script(console=half))
    assert result.verdict is Verdict.CRASH
    assert keeper.guest is None


def test_lost_guest(tmp_path: Path) -> None:
    result, (keeper, _) = run(tmp_path, Script(lost='the guest is gone', stderr=''))
    assert result.verdict is Verdict.CRASH
    assert keeper.guest is None


def test_hang_is_looked_at_before_it_is_ended(tmp_path: Path) -> None:
    result, (keeper, guest) = run(tmp_path, Script(status=None, stderr='', stdout=b'begun\n'))
    assert result.verdict is Verdict.HANG
    assert guest.machine.breaks == 'wlt'
    assert any('hang-report' in command for command in guest.commands)
    assert 'connection 40 waiting 1' in result.forensics
    assert 'the check ended' in result.forensics
    assert result.output == b'begun\n'
    assert keeper.guest is None


def test_hang_that_the_abort_does_not_end(tmp_path: Path) -> None:
    result, _ = run(tmp_path, Script(status=None, stderr='', ends_after_abort=False))
    assert 'still hangs' in result.forensics


def test_runner_that_cannot_clean_up_costs_the_guest(tmp_path: Path) -> None:
    script = Script(stderr=report('broken', reason='a mount was left behind'), status=1)
    result, (keeper, _) = run(tmp_path, script)
    assert result.verdict is Verdict.FAIL
    assert keeper.guest is None


@pytest.mark.parametrize('status', [1, 127])
def test_runner_that_says_nothing(tmp_path: Path, status: int) -> None:
    result, _ = run(tmp_path, Script(stderr='bash: no such file\n', status=status))
    assert result.verdict is Verdict.FAIL
    assert 'no such file' in result.stderr


def test_only_variables_for_checks_reach_the_guest_and_are_quoted() -> None:
    found = variables({'HOME': '/root', 'FUZZ_SEED': '7', 'FUZZ_COMMANDS': '1; reboot'})
    assert found == "export FUZZ_COMMANDS='1; reboot' FUZZ_SEED=7; "
    assert variables({'HOME': '/root'}) == ''


def test_a_guest_killed_from_outside_is_no_verdict(tmp_path: Path) -> None:
    result, (keeper, _) = run(tmp_path, Script(killed='QEMU was killed: SIGKILL', stderr=''))
    assert result.killed == 'QEMU was killed: SIGKILL'
    assert keeper.guest is None


def test_what_the_kernel_complained_of_before_it_was_killed_counts(tmp_path: Path) -> None:
    result, _ = run(tmp_path, Script(killed='QEMU was killed: SIGKILL', stderr='', console=WARN))
    assert (result.killed, result.verdict) == ('', Verdict.CRASH)
    assert result.events[0].kind is Kind.WARN


def test_a_guest_that_ends_by_itself_is_a_crash(tmp_path: Path) -> None:
    result, _ = run(tmp_path, Script(lost='the guest is gone', stderr=''))
    assert (result.killed, result.verdict) == ('', Verdict.CRASH)
