# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import cli, source
from harness.command import Runner
from harness.errors import HarnessError, LabError, UsageError, VerdictError
from harness.lab import REPOSITORY, Lab


def harness(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, '-m', 'harness', *words],
        cwd=REPOSITORY,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_each_stage_has_help() -> None:
    done = harness('--help')
    assert done.returncode == 0
    for stage in ('source', 'series', 'config', 'build'):
        assert f'    {stage} ' in done.stdout
        assert '--dry-run' in harness(stage, '--help').stdout


def test_a_path_with_a_blank_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest's init is named on the kernel's command line."""
    with pytest.raises(UsageError, match='this folder has a blank or a quote in its path: /my lab'):
        Lab(Runner(), root=Path('/my lab'))
    done = harness('vm-test', '--dry-run', XDG_CACHE_HOME=str(tmp_path / 'my cache'))
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f'usage: the cache has a blank or a quote in its path: {tmp_path}/my cache/fuse-lab',
        '  XDG_CACHE_HOME= names another place',
    ]


def test_wrong_use_is_status_2() -> None:
    assert harness('build', '--nope').returncode == 2
    done = harness('source', '--kdir', '/nowhere')
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        'usage: KDIR=/nowhere is not a kernel source tree',
        '  a Makefile and a Kconfig are expected there',
    ]


@pytest.mark.parametrize(
    ('error', 'status', 'first'),
    [
        (VerdictError('bad'), 1, 'verdict: bad'),
        (LabError('full'), 3, 'lab trouble: full'),
        (KeyError('bug'), 3, 'lab trouble: the harness'),
    ],
)
def test_errors_become_statuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, status: int, first: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(source, 'prepare', fail)
    assert cli.main(['source']) == status
    said = capsys.readouterr().err
    assert said.startswith(first)
    assert ('Traceback' in said) is not isinstance(error, HarnessError)


def test_options_may_stand_before_or_after_the_stage(kdir: Path) -> None:
    for words in (('--dry-run', 'source', '--kdir', str(kdir)), ('source', '--kdir', str(kdir), '--dry-run')):
        done = harness(*words)
        assert done.returncode == 0
        assert 'git init' in done.stdout
    assert not (Path(os.environ['XDG_CACHE_HOME']) / 'fuse-lab').exists()


def test_verbose_prints_commands_to_stderr(kdir: Path) -> None:
    done = harness('source', '--kdir', str(kdir), '-v')
    assert done.returncode == 0
    assert '+ GIT_CONFIG_GLOBAL=/dev/null' in done.stderr
    assert done.stdout.startswith('version  6.12.7\n')


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_leaves_nothing_running(kdir: Path, tmp_path: Path, number: signal.Signals) -> None:
    makefile = kdir / 'Makefile'
    makefile.write_text(makefile.read_text().replace('gcc -c', f'sleep 300 & echo $$! > {tmp_path}/pid; wait; gcc -c'))
    command = [sys.executable, '-m', 'harness', 'build', '--kdir', str(kdir), '--series', 'none',
               '--fragment', str(tmp_path / 'f'), '--log-dir', str(tmp_path / 'logs')]  # fmt: skip
    (tmp_path / 'f').write_text('CONFIG_FUSE_FS=y\n')
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as run:
        pid = tmp_path / 'pid'
        deadline = time.monotonic() + 30
        while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(number)
        _, said = run.communicate(timeout=30)
    assert run.returncode == 130
    assert said.endswith(f'interrupted; logs are in {tmp_path}/logs\n')
    stat = Path(f'/proc/{pid.read_text().strip()}/stat')
    assert not stat.exists() or stat.read_text().rsplit(')', 1)[1].split()[0] == 'Z'
    # Nothing is locked, and the half-made build goes on from where it was.
    makefile.write_text(makefile.read_text().replace('sleep 300 &', 'true;').replace('wait;', ''))
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('text', ['x', '-1', '65', '1.5', ''])
def test_so_many_guests_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(['vm-test', f'--guests={text}'])
    assert 'from 0 to 64, or auto' in capsys.readouterr().err


def test_a_guest_is_kept_only_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(['vm-test', '-n', '2', '--keep-guest']) == 2
    assert 'leave out -n' in capsys.readouterr().err
