# SPDX-License-Identifier: GPL-2.0-only
"""The set-up script, in a repository of its own, with stand-ins for what changes the machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.command import PACKAGE_OF
from harness.lab import REPOSITORY

REAL = ('sh', 'sed', 'dirname', 'mktemp', 'tail', 'grep', 'rm', 'touch', 'mkdir', 'cat', 'env', 'df', 'flock', 'tee')


class Machine:
    """A machine with a few programs, a user, and installed packages."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / 'clone'
        self.bin = folder / 'bin'
        self.record = folder / 'record'
        (self.root / 'harness').mkdir(parents=True)
        self.bin.mkdir()
        self.record.touch()
        shutil.copy(REPOSITORY / 'harness/bootstrap', self.root / 'harness/bootstrap')
        (self.root / 'apt-packages.txt').write_text('# heading\ngcc   # compiles\nflex  # kconfig\n\nbusybox-static\n')
        (self.root / 'requirements.lock').write_text('')
        for name in REAL:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        self.installed('gcc', 'flex', 'busybox-static')
        self.user(0)
        self.program('apt-get', '')
        self.program('systemctl', '')
        self.venv_python('exit 0')

    def venv_python(self, body: str) -> None:
        """What `python3 -m venv` makes: a folder whose bin/python does `body`."""
        template = self.bin.parent / 'venv-python'
        template.write_text(f'#!/bin/sh\n{body}\n')
        template.chmod(0o755)
        self.program('python3', f'for last; do :; done; mkdir -p $last/bin; /bin/cp {template} $last/bin/python')

    def program(self, name: str, body: str) -> None:
        path = self.bin / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.record}\n{body}\n')
        path.chmod(0o755)

    def installed(self, *packages: str) -> None:
        names = '|'.join(packages) or 'none'
        self.program('dpkg-query', f'case $4 in {names}) printf installed ;; *) exit 1 ;; esac')

    def user(self, uid: int) -> None:
        self.program('id', f'echo {uid}')

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / 'harness/bootstrap', *words],
            env={'PATH': os.fspath(self.bin)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def did(self, program: str) -> list[str]:
        return [line for line in self.record.read_text().splitlines() if line.startswith(f'{program} ')]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_nothing_missing_installs_nothing(machine: Machine) -> None:
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.did('apt-get') == []
    assert (machine.root / '.venv/.ready').exists()


def test_a_path_with_a_blank_is_refused_before_anything_is_installed(tmp_path: Path) -> None:
    machine = Machine(tmp_path / 'my lab')
    machine.installed('gcc')
    done = machine.run()
    assert done.returncode == 2
    assert f'usage: this folder has a blank or a quote in its path: {machine.root}' in done.stderr
    assert machine.did('apt-get') == []


def test_root_installs_only_what_is_missing(machine: Machine) -> None:
    machine.installed('gcc')
    done = machine.run()
    assert done.returncode == 0, done.stderr
    assert machine.did('apt-get') == [
        'apt-get update',
        'apt-get install -y --no-install-recommends flex busybox-static',
    ]


def test_sudo_is_used_where_it_needs_no_password(machine: Machine) -> None:
    machine.installed('gcc')
    machine.user(1000)
    machine.program('sudo', '[ $1 = -n ] && shift; "$@"')
    assert machine.run().returncode == 0
    assert 'sudo -n apt-get update' in machine.did('sudo')
    assert len(machine.did('apt-get')) == 2


def test_without_rights_the_one_line_is_printed(machine: Machine) -> None:
    machine.installed('gcc')
    machine.user(1000)
    machine.program('sudo', 'exit 1')
    done = machine.run()
    assert done.returncode == 3
    assert 'sudo apt-get install -y --no-install-recommends flex busybox-static' in done.stderr
    assert machine.did('apt-get') == []
    assert not (machine.root / '.venv').exists()


def test_no_network_for_packages(machine: Machine) -> None:
    machine.installed('gcc')
    machine.program('apt-get', 'echo "E: Unable to fetch some archives" >&2; exit 100')
    done = machine.run()
    assert done.returncode == 3
    assert 'Unable to fetch' in done.stderr
    assert 'lab trouble' in done.stderr
    assert 'network' in done.stderr


def test_full_disk_is_said(machine: Machine) -> None:
    machine.installed('gcc')
    machine.program('apt-get', 'echo "dpkg: error: No space left on device" >&2; exit 100')
    done = machine.run()
    assert done.returncode == 3
    assert 'disk full' in done.stderr


def test_no_network_for_libraries(machine: Machine) -> None:
    machine.venv_python('case "$*" in *install*) echo no route >&2; exit 1 ;; esac')
    done = machine.run()
    assert done.returncode == 3
    assert 'pip could not install requirements.lock' in done.stderr
    assert not (machine.root / '.venv/.ready').exists()


def test_shipped_list_has_every_package_the_runner_names() -> None:
    listed = {line.split('#')[0].strip() for line in (REPOSITORY / 'apt-packages.txt').read_text().splitlines()}
    always = {'bash', 'dpkg', 'tar', 'perl', 'cpio', 'zstd', 'qemu-utils', 'qemu-system-common', ''}
    assert set(PACKAGE_OF.values()) - always <= listed


def test_lock_pins_everything_exactly() -> None:
    for name in ('requirements.lock', 'requirements-dev.lock'):
        lines = [line for line in (REPOSITORY / name).read_text().splitlines() if not line.startswith('#')]
        assert lines
        assert all(line.count('==') == 1 for line in lines)
