# SPDX-License-Identifier: GPL-2.0-only
"""KernelImage -> running guest: virtme-ng makes the machine, ours is only the first program.

The root is the host's over 9p, never virtiofs: virtiofs runs through the fs/fuse that is under
test. vm/guest/init makes a writable root of tmpfs from it and starts sshd.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.command import clean_environment, missing_program
from harness.console import Kind
from harness.errors import HarnessError, LabError, VerdictError
from harness.image import KernelImage
from harness.machine import FAILED, KERNEL, UP, Machine
from harness.qmp import connect

ROOT = Path(__file__).resolve().parent.parent
INIT = ROOT / 'vm' / 'guest' / 'init'

# At unit speed (see speed.py); both are multiplied by the guest's factor.
BOOT_SILENCE = 7.0  # seconds without a line
BOOT_LIMIT = 40.0  # seconds in all
MOST_STARVED = 4.0  # of these limits may be added for want of CPU
QEMU_START = 30.0  # seconds until QEMU's monitor answers; host work only, not scaled

_SSHD_CONFIG = """\
HostKey /run/ssh/host_key
AuthorizedKeysFile /run/ssh/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
PrintLastLog no
MaxSessions 64
PidFile none
AcceptEnv LANG
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Accelerator:
    """What executes the guest's instructions."""

    name: str  # kvm or tcg
    reason: str = ''  # why not kvm


TCG = Accelerator('tcg')


class BootError(VerdictError):
    """The kernel does not boot. kernel_ran: it printed something, so the machine itself works."""

    kernel_ran: bool = False


class GuestUnfitError(LabError):
    """This guest is of no use, by chance: it says nothing of the kernel, and the next may be better."""


class GuestKilledError(GuestUnfitError):
    """Somebody killed the guest's QEMU, or that crashed."""


def _boot_error(machine: Machine, what: str) -> BootError:
    error = BootError(what, machine.tail(), f'console log: {machine.log}')
    error.kernel_ran = KERNEL in machine.milestones
    return error


@dataclass(frozen=True)
class GuestSpec:
    """Everything that decides how a guest is started."""

    kernel: KernelImage
    directory: Path  # console log, keys, sockets
    accelerator: Accelerator
    cpus: int = 2
    memory_mb: int = 1024
    factor: float = 1.0  # how much slower than unit speed; scales the limits
    kernel_args: tuple[str, ...] = ()
    gdb: bool = False  # gdb stub on a socket in the directory
    reboot_ends: bool = True
    # The guest's clock counts instructions, a nanosecond each: the same work takes the same
    # time, whatever else the host does. Only with TCG, and with one CPU: more of them hang.
    count_instructions: bool = False


@dataclass(frozen=True)
class Booted:
    """A guest that has come up."""

    spec: GuestSpec
    machine: Machine
    port: int  # of its ssh, on the host's loopback
    host_key: Path  # public; the guest's, made for it alone
    client_key: Path
    seconds_kernel: float  # from QEMU's start to the kernel's first line
    seconds: float  # from QEMU's start to sshd listening


def make_keys(directory: Path) -> tuple[Path, Path]:
    """Keys for one guest, in its own folder; returns the guest's public key and the client's private one."""
    ssh = directory / 'ssh'
    ssh.mkdir(parents=True, exist_ok=True)
    host, client = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    public = directory / 'host_key.pub'
    private = directory / 'client_key'
    _write_private(ssh / 'host_key', _private(host))
    _write_private(private, _private(client))
    public.write_bytes(_public(host) + b'\n')
    (ssh / 'authorized_keys').write_bytes(_public(client) + b'\n')
    (ssh / 'sshd_config').write_text(_SSHD_CONFIG, encoding='utf-8')
    return public, private


def _private(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )


def _public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def _write_private(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, 'wb') as file:
        file.write(data)


def command_line(spec: GuestSpec) -> list[str]:
    """The virtme-run command; it is the back end of vng, whose own options reach less far."""
    virtme = Path(sys.executable).parent / 'virtme-run'
    program = str(virtme) if virtme.exists() else shutil.which('virtme-run')
    if program is None:
        raise LabError('virtme-ng is not installed', hint='python -m pip install -r requirements.lock')
    # All CPUs at once, and room for the translations of a whole kernel
    threads = 'single' if spec.count_instructions else 'multi'
    extra = [] if spec.accelerator.name == 'kvm' else ['-accel', f'tcg,thread={threads},tb-size=512']
    if spec.count_instructions:
        extra += ['-icount', 'shift=0,sleep=off']
    words = [
        program,
        '--kimg', str(spec.kernel.image),
        '--mods', 'none',
        '--force-9p',
        '--disable-microvm',
        '--disable-monitor',
        '--memory', f'{spec.memory_mb}M',
        '--cpus', str(spec.cpus),
        '--qemu-bin', str(ROOT / 'harness' / 'tied-qemu'),
    ]  # fmt: skip
    if spec.accelerator.name != 'kvm':
        words.append('--disable-kvm')
    # virtme-run's own kernel arguments send the kernel's console to a second, later device and
    # start its own init, which waits for udev and DHCP; QEMU takes the last -append.
    extra += ['-append', kernel_command_line(spec)]
    extra += ['-netdev', 'user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:0-:22']
    extra += ['-device', 'virtio-net-pci,netdev=ssh,romfile=']
    # Sockets are relative to QEMU's folder: a unix socket's whole path has 107 bytes at most.
    extra += ['-qmp', 'unix:qmp.sock,server=on,wait=off']
    if spec.gdb:
        extra += ['-chardev', 'socket,id=gdb0,path=gdb.sock,server=on,wait=off', '-gdb', 'chardev:gdb0']
    if spec.reboot_ends:
        extra.append('-no-reboot')
    return words + [f'--qemu-opt={word}' for word in extra]


def kernel_command_line(spec: GuestSpec) -> str:
    words = [
        'console=ttyS0',
        'earlyprintk=serial,ttyS0,115200',
        'loglevel=7',
        'panic=-1',
        # our marks and replays are many; the kernel drops user space's lines beyond ten in five seconds
        'printk.devkmsg=on',
        'rootfstype=9p',
        # cache=loose: nobody writes to the root; programs are then read over 9p only once
        'rootflags=version=9p2000.L,trans=virtio,access=any,msize=512000,cache=loose',
        'ro',
        'raid=noautodetect',
        f'init={INIT}',
        f'fuselab_ssh={(spec.directory / "ssh").resolve()}',
        *spec.kernel_args,
    ]
    return ' '.join(words)


def boot(spec: GuestSpec) -> Booted:
    """Start the guest and wait for its sshd; raises VerdictError for a kernel that does not get there."""
    for needed in ('qemu-system-x86_64', 'setpriv', 'busybox', '/usr/sbin/sshd'):
        if shutil.which(needed) is None:
            raise missing_program(needed)
    spec.directory.mkdir(parents=True, exist_ok=True)
    public, private = make_keys(spec.directory)
    # virtme-run keeps caches in the user's home otherwise
    env = clean_environment({'HOME': str(spec.directory), 'XDG_CACHE_HOME': str(spec.directory), 'TERM': 'dumb'})
    machine = Machine(command_line(spec), spec.directory, spec.directory / 'console.log', env)
    try:
        machine.monitor = connect(spec.directory / 'qmp.sock', lambda: machine.alive, QEMU_START)
        _await_guest(machine, spec)
        assert machine.monitor is not None
        port = machine.monitor.forwarded_port()
    except BaseException:
        machine.stop()
        raise
    up = machine.milestones[UP] - machine.started
    return Booted(spec, machine, port, public, private, machine.milestones[KERNEL] - machine.started, up)


def _await_guest(machine: Machine, spec: GuestSpec) -> None:
    """Return when sshd listens; raise what is the matter otherwise."""
    silence, limit = BOOT_SILENCE * spec.factor, BOOT_LIMIT * spec.factor

    def settled() -> bool:
        return UP in machine.milestones or FAILED in machine.milestones

    heard, starved_then = machine.last_output, 0.0
    while not machine.wait(settled, min(silence, limit) / 20):
        now = time.monotonic()
        if not machine.alive:
            raise _ended(machine)
        # Time in which the host gave it no CPU says nothing of the kernel.
        starved = min(machine.starved(), MOST_STARVED * limit)
        if machine.last_output != heard:
            heard, starved_then = machine.last_output, starved
        if now - heard - (starved - starved_then) > silence:
            raise _hang(machine, f'no line on its console for {silence:.0f} s', spec)
        if now - machine.started - starved > limit:
            raise _hang(machine, f'no sshd after {limit:.0f} s', spec)
    if FAILED in machine.milestones:
        machine.drain()
        reason = machine.tail(40).split(FAILED.decode())[-1].split('\n')[0]
        raise LabError(f'the guest cannot start: {reason}', machine.tail(12), f'console log: {machine.log}')


def _hang(machine: Machine, what: str, spec: GuestSpec) -> BootError:
    if machine.monitor is not None and KERNEL in machine.milestones:
        # Where every CPU is, for the log; there may be no one left to answer.
        machine.send_break('l', 2.0, 4.0)
    stage = 'hangs while it boots' if KERNEL in machine.milestones else 'hangs before its first line'
    return _boot_error(machine, f'the kernel {stage}: {what} ({spec.accelerator.name}, {spec.cpus} CPUs)')


def _ended(machine: Machine) -> HarnessError:
    """Why QEMU is gone before the guest was up."""
    hint = f'console log: {machine.log}'
    if machine.killed:
        return GuestKilledError(f'the guest was killed while it booted: {machine.killed}', machine.tail(), hint)
    if KERNEL not in machine.milestones:
        shutdown = machine.monitor.shutdown if machine.monitor is not None else None
        if shutdown is not None and shutdown.reason == 'guest-reset':
            return _boot_error(machine, 'the kernel resets the machine before its first line')
        return LabError('QEMU does not start', machine.tail(), hint)
    kinds = [event.kind for event in machine.events]
    if Kind.PANIC in kinds:
        line = next(event.line for event in machine.events if event.kind is Kind.PANIC)
        return _boot_error(machine, f'the kernel panics while it boots: {line}')
    if Kind.REBOOT in kinds:
        return _boot_error(machine, 'the kernel reboots while it boots, without a word')
    last = machine.events[-1].line if machine.events else 'no reason known'
    return LabError(f'the guest is gone while it boots: {last}', machine.tail(), hint)
