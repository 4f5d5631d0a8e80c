# SPDX-License-Identifier: GPL-2.0-only
"""The console's holder on real processes that are not QEMU, and boot's judgement of their ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.boot import (
    TCG,
    BootError,
    GuestKilledError,
    GuestSpec,
    _await_guest,
    command_line,
    kernel_command_line,
    make_keys,
)
from harness.console import Kind
from harness.errors import LabError
from harness.image import KernelImage
from harness.machine import KERNEL, UP, Machine, qemu_processes

BANNER = 'echo "[    0.000000] Linux version 6.12.0 (a@b)"; '


def spec(tmp_path: Path, factor: float = 0.1) -> GuestSpec:
    kernel = KernelImage(image=tmp_path / 'bzImage', directory=tmp_path)
    return GuestSpec(kernel, tmp_path / 'guest', TCG, factor=factor)


def machine(tmp_path: Path, script: str) -> Machine:
    return Machine(['/bin/sh', '-c', script], tmp_path, tmp_path / 'console.log', os.environ)


def test_console_is_kept_and_judged(tmp_path: Path) -> None:
    one = machine(
        tmp_path,
        BANNER + 'echo "[    1.000000] WARNING: CPU: 0 at x.c:1"; echo "[    1.100000] fuse-lab: guest up"; sleep 60',
    )
    try:
        assert one.wait(lambda: UP in one.milestones, 10)
        one.drain(quiet=0.1)
        assert [event.kind for event in one.events] == [Kind.WARN]
        assert KERNEL in one.milestones
        assert b'fuse-lab: guest up' in one.log.read_bytes()
        assert 'guest up' in one.tail(1)
    finally:
        one.stop()
    assert not one.alive
    # ended because we said so: no event
    assert [event.kind for event in one.events] == [Kind.WARN]


def test_end_that_nobody_asked_for(tmp_path: Path) -> None:
    one = machine(tmp_path, BANNER)
    assert one.wait(lambda: not one.alive, 10)
    assert [event.kind for event in one.events] == [Kind.GONE]
    one.stop()


def test_stop_takes_the_children_too(tmp_path: Path) -> None:
    one = machine(tmp_path, 'trap "" TERM HUP; sleep 1000 & echo $!; wait; sleep 1000')
    assert one.wait(lambda: bool(one.tail().strip()) and bool(qemu_processes(one.pid)), 10)
    child = int(one.tail().split()[0])
    one.stop()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and Path(f'/proc/{child}/stat').exists():
        if Path(f'/proc/{child}/stat').read_text().split()[2] == 'Z':
            break
        time.sleep(0.01)
    else:
        assert not Path(f'/proc/{child}').exists()


def test_nothing_survives_a_killed_harness(tmp_path: Path) -> None:
    program = (
        'import os, sys, time; from pathlib import Path; from harness.machine import Machine\n'
        f'm = Machine(["/bin/sh", "-c", "echo ready; exec sleep 1000"], Path({str(tmp_path)!r}), '
        f'Path({str(tmp_path)!r}) / "log", os.environ)\n'
        'm.wait(lambda: "ready" in m.tail(), 10); print(m.pid, flush=True); time.sleep(1000)\n'
    )
    process = subprocess.Popen([sys.executable, '-c', program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    guest = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 10
    stat = Path(f'/proc/{guest}/stat')
    while time.monotonic() < deadline and stat.exists() and ') Z ' not in stat.read_text():
        time.sleep(0.01)
    assert not stat.exists() or ') Z ' in stat.read_text()


@pytest.mark.parametrize(
    ('script', 'words', 'kernel_ran'),
    [
        (
            BANNER + 'echo "[    1.000000] Kernel panic - not syncing: No working init found."',
            'panics while it boots',
            True,
        ),
        (BANNER + 'echo "[    1.000000] Run /init"; sleep 60', 'hangs while it boots: no line on its console', True),
        ('sleep 60', 'hangs before its first line', False),
        (
            BANNER + 'while :; do echo "[    1.000000] busy"; sleep 0.05; done',
            'hangs while it boots: no sshd after',
            True,
        ),
    ],
    ids=['panic', 'silence', 'no line', 'no end'],
)
def test_kernel_that_does_not_boot(tmp_path: Path, script: str, words: str, kernel_ran: bool) -> None:
    one = machine(tmp_path, script)
    try:
        with pytest.raises(BootError, match=words) as caught:
            _await_guest(one, spec(tmp_path, 0.03))
        assert caught.value.kernel_ran is kernel_ran
        assert caught.value.exit_status == 1
        assert 'console log: ' in caught.value.hint
    finally:
        one.stop()


@pytest.mark.parametrize(
    ('script', 'words'),
    [
        ('echo "qemu-system-x86_64: cannot set up guest memory"; exit 1', 'QEMU does not start'),
        (BANNER + 'exit 0', 'the guest is gone while it boots'),
        (BANNER + 'echo "fuse-lab: guest start-up failed: no network device"; sleep 60', 'cannot start: no network'),
    ],
)
def test_lab_that_does_not_work(tmp_path: Path, script: str, words: str) -> None:
    one = machine(tmp_path, script)
    try:
        with pytest.raises(LabError, match=words):
            _await_guest(one, spec(tmp_path))
    finally:
        one.stop()


def test_command_line_keeps_to_loopback_and_9p(tmp_path: Path) -> None:
    words = command_line(spec(tmp_path))
    assert '--force-9p' in words
    assert '--disable-kvm' in words
    forward = next(word for word in words if 'hostfwd' in word)
    assert 'hostfwd=tcp:127.0.0.1:0-:22' in forward
    assert 'restrict=on' in forward
    assert '--qemu-opt=-no-reboot' in words
    assert not any('virtiofs' in word for word in words)


def test_kernel_arguments(tmp_path: Path) -> None:
    line = kernel_command_line(spec(tmp_path))
    assert 'panic=-1' in line
    assert 'printk.devkmsg=on' in line
    assert f'fuselab_ssh={tmp_path}/guest/ssh' in line


def test_keys_are_private_and_new_each_time(tmp_path: Path) -> None:
    public, private = make_keys(tmp_path / 'a')
    other, _ = make_keys(tmp_path / 'b')
    assert private.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / 'a' / 'ssh' / 'host_key').stat().st_mode & 0o777 == 0o600
    assert public.read_text().startswith('ssh-ed25519 ')
    assert public.read_text() != other.read_text()


@pytest.mark.parametrize(
    ('end', 'killed', 'words'),
    [
        ('kill -KILL $$', 'QEMU was killed: SIGKILL', 'QEMU was killed'),
        ('exit 9', 'QEMU was killed: SIGKILL', 'QEMU was killed'),  # as virtme-run says it of QEMU
        ('exit 1', 'QEMU was killed: SIGTERM', 'QEMU was killed'),  # virtme-run got it
        ('exit 134', 'QEMU crashed: SIGABRT', 'QEMU crashed'),
        ('exit 11', 'QEMU crashed: SIGSEGV', 'QEMU crashed'),
        ('exit 0', '', 'QEMU ended without a word'),
    ],
)
def test_who_ended_the_guest(tmp_path: Path, end: str, killed: str, words: str) -> None:
    one = machine(tmp_path, BANNER + end)
    try:
        assert one.wait(lambda: not one.alive, 10)
        assert one.killed == killed
        assert [event.kind for event in one.events] == [Kind.GONE]
        assert words in one.events[0].line
    finally:
        one.stop()


def test_a_kill_while_it_boots_is_not_the_kernels_fault(tmp_path: Path) -> None:
    one = machine(tmp_path, BANNER + 'kill -KILL $$')
    try:
        with pytest.raises(GuestKilledError, match='killed while it booted: QEMU was killed: SIGKILL'):
            _await_guest(one, spec(tmp_path))
    finally:
        one.stop()


def test_a_guest_without_a_cpu_is_no_kernel_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = BANNER + 'sleep 1.5; echo "[    1.100000] fuse-lab: guest up"; sleep 60'
    one = machine(tmp_path, script)
    try:
        # As if the host had been busy with other things all the time.
        monkeypatch.setattr(one, 'starved', lambda: time.monotonic() - one.started)
        _await_guest(one, spec(tmp_path, 0.03))
        assert UP in one.milestones
    finally:
        one.stop()


def test_time_without_a_cpu_is_counted(tmp_path: Path) -> None:
    # Two that spin, on one CPU.
    cpu = min(os.sched_getaffinity(0))
    one = machine(tmp_path, f'for i in 1 2; do taskset -c {cpu} sh -c "while :; do :; done" & done; wait')
    try:
        assert one.wait(lambda: False, 0.1) is False
        deadline = time.monotonic() + 60
        while one.starved() < 0.3:
            assert time.monotonic() < deadline
            one.wait(lambda: False, 0.05)
        assert one.starved() <= 2 * (time.monotonic() - one.started)
    finally:
        one.stop()
