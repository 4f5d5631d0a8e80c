# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.command import CommandFailedError, CommandTimeoutError, DiskFullError, Runner, clean_environment, lab_cause
from harness.errors import LabError


def gone(pid: int) -> bool:
    """Whether a process has ended; waits for it a little."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == 'Z':
            return True
        time.sleep(0.02)
    return False


def test_output_and_log(tmp_path: Path) -> None:
    done = Runner(log_dir=tmp_path).run(['sh', '-c', 'echo out; echo err >&2; cat'], stdin='in\n', stage='build')
    assert done.stdout == 'out\nerr\nin\n'
    assert done.log == tmp_path / 'build.log'
    assert done.log.read_text() == "+ sh -c 'echo out; echo err >&2; cat'\nout\nerr\nin\n"


def test_split_keeps_stderr_apart() -> None:
    done = Runner().run(['sh', '-c', 'echo out; echo err >&2'], split=True)
    assert (done.stdout, done.stderr) == ('out\n', 'err\n')


def test_failure_carries_the_end_of_the_output() -> None:
    with pytest.raises(CommandFailedError) as caught:
        Runner().run(['sh', '-c', 'seq 100; exit 7'], stage='build')
    assert 'exit status 7' in caught.value.what
    assert caught.value.detail.splitlines()[-1] == '100'
    assert caught.value.completed is not None
    assert caught.value.completed.status == 7


def test_failure_may_be_asked_for() -> None:
    assert Runner().run(['false'], check=False).status == 1


def test_dry_run_prints_and_runs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    marker = tmp_path / 'a file'
    with caplog.at_level(logging.INFO, 'harness.dry_run'):
        Runner(dry_run=True).run(['touch', marker], cwd=tmp_path, env={'A': 'b c'})
    assert not marker.exists()
    assert caplog.messages == [f"cd {tmp_path} && A='b c' touch '{marker}'"]


def test_dry_run_answers_queries() -> None:
    assert Runner(dry_run=True).query(['echo', 'yes']) == 'yes\n'


def test_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('PATH', '/nowhere')
    with pytest.raises(LabError) as caught:
        Runner().run(['flex', '--version'])
    assert caught.value.hint == 'apt-get install flex'


@pytest.mark.parametrize(
    ('output', 'package'),
    [
        ('/bin/sh: 1: lz4: not found\nmake: *** [x] Error 127', 'lz4'),
        ('sh: line 1: bison: command not found', 'bison'),
        ('x.c:1:10: fatal error: gelf.h: No such file or directory', 'libelf-dev'),
        ('x.c:1:10: fatal error: openssl/evp.h: No such file or directory', 'libssl-dev'),
    ],
)
def test_missing_tool_of_a_build_is_lab_trouble(output: str, package: str) -> None:
    cause = lab_cause(output)
    assert cause is not None
    assert cause.hint == f'apt-get install {package}'


@pytest.mark.parametrize(
    'output', ['fs/fuse/dev.c:1:10: fatal error: fuse_x.h: No such file or directory', 'key: not found']
)
def test_error_of_the_kernel_is_no_lab_trouble(output: str) -> None:
    assert lab_cause(output) is None


@pytest.mark.parametrize('text', ['cc1: error: No space left on device', 'tar: x: Cannot write: Disk quota exceeded'])
def test_full_disk_is_lab_trouble_even_when_failure_may_be(tmp_path: Path, text: str) -> None:
    with pytest.raises(DiskFullError) as caught:
        Runner().run(['sh', '-c', f'echo "{text}"; exit 1'], cwd=tmp_path, check=False)
    assert 'MiB free' in caught.value.detail
    assert text in caught.value.detail


def test_full_disk_names_the_file_system_of_the_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    free = {Path('/'): 500, Path('/proc'): 2}  # /proc stands for a file system that is nearly full
    sizes = {path: os.statvfs_result((2**20, 2**20, 0, 0, mib, 0, 0, 0, 0, 255)) for path, mib in free.items()}
    monkeypatch.setattr(os, 'statvfs', lambda path: sizes.get(path, sizes[Path('/')]))
    with pytest.raises(DiskFullError) as caught:
        Runner().run(
            ['sh', '-c', 'echo No space left on device; exit 1', 'x', '--output=/proc/self/gone'], cwd=tmp_path
        )
    assert 'file system /proc: 2 MiB free' in caught.value.detail


def test_full_disk_of_a_real_command() -> None:
    with pytest.raises(DiskFullError):
        Runner().run(['sh', '-c', 'cat /etc/passwd >/dev/full'], check=False)


def test_words_about_disks_in_a_success_are_no_trouble() -> None:
    assert Runner().run(['echo', 'No space left on device']).status == 0


def test_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    # The child ignores SIGTERM, and the shell would leave it behind.
    script = f'(trap "" TERM; echo $$ > {tmp_path}/unused; exec sleep 300) & echo $! > {tmp_path}/pid; echo said; wait'
    with pytest.raises(CommandTimeoutError) as caught:
        Runner().run(['sh', '-c', script], timeout=0.5)
    assert 'said' in caught.value.output
    assert gone(int((tmp_path / 'pid').read_text()))


def test_interrupt_ends_the_whole_group(tmp_path: Path) -> None:
    pid = tmp_path / 'pid'

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while not (pid.exists() and pid.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        Runner().run(['sh', '-c', f'sleep 300 & echo $! > {pid}; wait'])
    thread.join()
    assert gone(int(pid.read_text()))


def test_variables_of_make_do_not_reach_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ('MAKEFLAGS', 'CHECK', 'KERNEL', 'GIT_DIR', 'ARCH', 'KBUILD_OUTPUT'):
        monkeypatch.setenv(name, 'x')
    env = clean_environment({'MINE': '1'})
    assert not {'MAKEFLAGS', 'CHECK', 'KERNEL', 'GIT_DIR', 'ARCH', 'KBUILD_OUTPUT'} & set(env)
    assert (env['MINE'], env['LC_ALL']) == ('1', 'C')
