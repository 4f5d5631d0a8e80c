# SPDX-License-Identifier: GPL-2.0-only
"""The front door: what `make` hands on, and the command that repeats a check through it."""

from __future__ import annotations

import argparse
import shlex
import subprocess
from pathlib import Path

import pytest

from harness import config
from harness.campaign import CampaignOptions, repeat_command
from harness.cli import make_parser
from harness.command import Runner
from harness.kernel import KernelRequest
from harness.lab import REPOSITORY, Lab
from harness.plugin import options_of
from harness.source import SourceRequest


def told(*words: str) -> list[str]:
    """What a call of make would hand to `python -m harness`."""
    done = subprocess.run(['make', '-n', '-C', str(REPOSITORY), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.replace('\\\n', ' ').splitlines() if ' -m harness ' in line]
    return shlex.split(line.partition(' -m harness ')[2])


def parsed(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(told(*words))


def options(tmp_path: Path, **changes: object) -> CampaignOptions:
    fragment = tmp_path / 'my fragment'
    fragment.write_text('CONFIG_FUSE_FS=y\n')
    asked = config.request_of(Lab(Runner()), argparse.Namespace(fragment=fragment, variant='kasan'))
    request = KernelRequest(SourceRequest(kdir=tmp_path / 'a tree'), asked, str(tmp_path / 'patches'), 3)
    return CampaignOptions(request, cpus=4, memory_mb=2000, accel='tcg', seed=7, **changes)  # type: ignore[arg-type]


def test_the_command_repeats_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('FUZZ_SEED', '12 13')
    wanted = options(tmp_path, known=tmp_path / 'my known')
    assignment, *words = shlex.split(repeat_command(wanted, 'uring/007', 'uring'))
    assert (assignment, words[0]) == ('FUZZ_SEED=12 13', 'make')
    args = parsed(*words[1:])
    assert options_of(Lab(Runner()), args) == wanted
    assert (args.check, args.section, args.stage) == (['uring/007'], ['uring'], 'vm-test')


def test_so_it_does_with_xfstests(tmp_path: Path) -> None:
    wanted = options(tmp_path, xfstests=tmp_path / 'xfs tests')
    args = parsed(*shlex.split(repeat_command(wanted, 'generic/001', 'dev'))[1:])
    assert options_of(Lab(Runner()), args) == wanted
    assert (args.check, args.section, args.stage) == (['generic/001'], ['dev'], 'xfstests')


def test_what_is_usual_is_not_said() -> None:
    asked = config.request_of(Lab(Runner()), argparse.Namespace(fragment=None, variant=''))
    usual = CampaignOptions(KernelRequest(SourceRequest(), asked))
    assert repeat_command(usual, 'data/001', 'dev') == 'make vm-test CHECK=data/001 SECTION=dev CPUS=2'


def test_several_guests_for_xfstests_too() -> None:
    assert parsed('xfstests', 'XFSTESTS=/x', 'N=2').guests == 2


def test_a_run_in_a_folder_with_a_blank() -> None:
    assert parsed('adjudicate', 'RUN=results/my run').run == Path('results/my run')
