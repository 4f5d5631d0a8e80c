# SPDX-License-Identifier: GPL-2.0-only
"""A running guest as the host sees it: run a command, copy files, prove which kernel it is."""

from __future__ import annotations

import base64
import io
import logging
import select
import shlex
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import paramiko

from harness.boot import Booted, GuestUnfitError
from harness.errors import LabError
from harness.image import KernelImage
from harness.machine import Machine

# Its threads log what they then raise as well.
logging.getLogger('paramiko').addHandler(logging.NullHandler())
logging.getLogger('paramiko').propagate = False

_UNSEEN = 66  # our own exit status: the guest does not see the host's file
# Bytes kept of what a command prints. Of stderr the end: run-check's report is its last line.
MAX_STDOUT = 64 << 20
MAX_STDERR = 1 << 20
CONNECT_LIMIT = 20.0  # seconds at unit speed for the ssh handshake
# By how much a guest's clock may be off, and the unit in which /proc/uptime counts (seconds).
CLOCK_RATIO = 1.1
CLOCK_UNIT = 0.01


class GuestLostError(LabError):
    """The guest does not answer any more. What that means is for the check that was running."""


@dataclass(frozen=True)
class Output:
    """What a command in the guest did."""

    stdout: bytes
    stderr: bytes
    status: int | None  # None: it did not end in time and was left alone
    seconds: float

    @property
    def timed_out(self) -> bool:
        return self.status is None


@dataclass(frozen=True)
class ClockReading:
    """What the guest's clock showed, and the host's before and after it was asked; seconds."""

    before: float
    guest: float
    after: float


class Running:
    """A command in the guest that has been started."""

    def __init__(self, machine: Machine, channel: paramiko.Channel, command: str, stdin: bytes) -> None:
        self._machine = machine
        self._channel = channel
        self._command = command
        self._started = time.monotonic()
        self._out, self._err = bytearray(), bytearray()
        self._status: int | None = None
        # Beside the reading: a command that prints while it is fed would block both sides.
        threading.Thread(target=_feed, args=(channel, stdin), daemon=True).start()

    def wait(self, timeout: float, until: Callable[[], bool] | None = None) -> Output:
        """Wait for its end; `until` may end the waiting early (the kernel has oopsed)."""
        deadline = time.monotonic() + timeout
        try:
            while not _finished(self._channel, self._out, self._err):
                if time.monotonic() > deadline or (until is not None and until()):
                    return self.so_far()
                if not self._machine.alive or not self._channel.get_transport().is_active():
                    raise GuestLostError('the guest is gone', self._command)
                # A channel is readable for select() when data, the end or the status have arrived.
                select.select([self._channel], [], [], 0.2)
        except OSError as error:
            raise GuestLostError('the guest is gone', f'{self._command}: {error}') from error
        self._status = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        if self._status < 0:
            raise GuestLostError('the guest ended the connection', self._command)
        return self.so_far()

    def so_far(self) -> Output:
        return Output(bytes(self._out), bytes(self._err), self._status, time.monotonic() - self._started)

    def close(self) -> None:
        self._channel.close()


class Guest:
    """One ssh transport, kept for the guest's life; every command is a channel of it."""

    def __init__(self, booted: Booted) -> None:
        self.booted = booted
        self._transport = self._connect()
        self._first_reading = self._read_clock()

    @property
    def machine(self) -> Machine:
        return self.booted.machine

    def start(self, command: str, stdin: bytes = b'', timeout: float = 30.0) -> Running:
        """Start a shell command; whoever calls closes it."""
        try:
            channel = self._transport.open_session(timeout=timeout)
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise GuestLostError('the guest takes no command', f'{command}: {error}') from error
        return Running(self.machine, channel, command, stdin)

    def run(self, command: str, timeout: float, stdin: bytes = b'') -> Output:
        """Run a shell command to its end, or until the time is up."""
        running = self.start(command, stdin)
        try:
            return running.wait(timeout)
        finally:
            running.close()

    def ask(self, command: str, timeout: float = 20.0) -> str:
        """Output of a command that has to succeed."""
        result = self.run(command, timeout * self.booted.spec.factor)
        if result.status != 0:
            detail = (result.stdout + result.stderr).decode('utf-8', 'replace')
            what = 'did not end in time' if result.timed_out else f'failed (exit status {result.status})'
            raise LabError(f'in the guest: {command[:120]} {what}', detail, f'console log: {self.machine.log}')
        return result.stdout.decode('utf-8', 'replace')

    def put_tree(self, sources: Iterable[tuple[Path, str]], target: str, timeout: float = 60.0) -> int:
        """Copy files and folders as (source, name below target), in one tar stream; returns its size."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode='w', format=tarfile.GNU_FORMAT) as archive:
            for source, name in sources:
                archive.add(source, name, filter=_plain)
        data = buffer.getvalue()
        limit = timeout * self.booted.spec.factor
        unpack = f'/lab/bin/busybox mkdir -p {target} && /lab/bin/busybox tar -x -C {target}'
        # Read from the host's tree, which the guest sees: ssh would have the emulated CPU decrypt
        # it all, which takes seconds.
        file = (self.booted.spec.directory / 'bundle.tar').resolve()
        seen = shlex.quote(f'/host{file}')
        try:
            file.write_bytes(data)
            result = self.run(f'[ -r {seen} ] || exit {_UNSEEN}; {unpack} <{seen}', limit)
            if result.status == _UNSEEN:
                result = self.run(unpack, limit, data)
        except OSError as error:
            raise LabError(f'cannot write {file}', str(error)) from error
        finally:
            file.unlink(missing_ok=True)
        if result.status != 0:
            raise LabError(f'cannot copy files to the guest: {target}', result.stderr.decode('utf-8', 'replace'))
        return len(data)

    def attest(self) -> None:
        """No result counts unless this is the kernel that was built, with a clock like the host's.

        The clock is compared over the time since the guest was connected to.
        """
        raw = self.run('uname -r; cat /sys/kernel/notes', 20 * self.booted.spec.factor)
        if raw.status != 0:
            raise LabError('the guest cannot say which kernel it runs', raw.stderr.decode('utf-8', 'replace'))
        release, _, notes = raw.stdout.partition(b'\n')
        compare_identity(self.booted.spec.kernel, release.decode('utf-8', 'replace'), build_id(notes))
        if not self.booted.spec.count_instructions:
            compare_clocks(self._first_reading, self._read_clock())

    def close(self) -> None:
        """End the guest."""
        self._transport.close()
        self.machine.stop()

    def _read_clock(self) -> ClockReading:
        before = time.monotonic()
        words = self.ask('read uptime idle </proc/uptime; echo $uptime').split()
        return ClockReading(before, float(words[0]), time.monotonic())

    def _connect(self) -> paramiko.Transport:
        limit = CONNECT_LIMIT * self.booted.spec.factor
        expected = paramiko.PKey.from_type_string('ssh-ed25519', _blob(self.booted.host_key))
        client = paramiko.Ed25519Key.from_private_key_file(str(self.booted.client_key))
        last: Exception | None = None
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self.machine.alive:
            try:
                connection = socket.create_connection(('127.0.0.1', self.booted.port), timeout=5)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                transport = paramiko.Transport(connection)
                transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = limit
                # Emulated CPUs: the cheapest of the safe ones. Nothing leaves this machine.
                options = transport.get_security_options()
                options.kex = ('curve25519-sha256@libssh.org',)
                options.ciphers = ('aes128-ctr',)
                transport.start_client(timeout=limit)
                if transport.get_remote_server_key() != expected:
                    transport.close()
                    raise LabError('another ssh server answers on the port of the guest', f'port {self.booted.port}')
                transport.auth_publickey('root', client)
                return transport
            except (OSError, EOFError, paramiko.SSHException) as error:
                last = error
        raise GuestLostError('the guest does not answer ssh', f'{last}\n{self.machine.tail(10)}')


def compare_identity(kernel: KernelImage, release: str, build: str) -> None:
    """Raise unless the running kernel is the one that was built. What is unknown cannot differ."""
    wrong = []
    if kernel.release is not None and release != kernel.release:
        wrong.append(f'release: runs {release}, built {kernel.release}')
    if kernel.build_id is not None and build != kernel.build_id:
        wrong.append(f'build id: runs {build or "none"}, built {kernel.build_id}')
    if kernel.series_digest is not None and kernel.series_digest[:12] not in release:
        wrong.append(f'series: {kernel.series_digest[:12]} is not in the release {release}')
    if wrong:
        raise LabError('the guest runs another kernel than the one that was built', '\n'.join(wrong))


def compare_clocks(first: ClockReading, second: ClockReading) -> None:
    """Raise when a second of the guest's clock is none of the host's.

    A kernel that is kept waiting by a busy host while it measures the frequency of its CPU's
    counter takes it for slower than it is: the clock runs several times too fast from then on,
    and no limit and no pause in that guest means what it says.
    """
    passed = second.guest - first.guest
    least, most = second.before - first.after, second.after - first.before
    if not least / CLOCK_RATIO - CLOCK_UNIT <= passed <= most * CLOCK_RATIO + CLOCK_UNIT:
        raise GuestUnfitError(
            f"the guest's clock is wrong: it counted {passed:.2f} s in {least:.2f} to {most:.2f} s",
            'the kernel measured the frequency of its clock wrongly while it booted, as it may on a busy host',
        )


def build_id(notes: bytes) -> str:
    """Build id from ELF notes as /sys/kernel/notes has them; empty when there is none."""
    position = 0
    while position + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from('<III', notes, position)
        name = notes[position + 12 : position + 12 + name_size]
        start = position + 12 + (name_size + 3 & ~3)
        if kind == 3 and name == b'GNU\0':
            return notes[start : start + size].hex()
        position = start + (size + 3 & ~3)
    return ''


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # The user's name and id mean nothing in the guest.
    member.uid = member.gid = 0
    member.uname = member.gname = 'root'
    return member


def _blob(public_key: Path) -> bytes:
    return base64.b64decode(public_key.read_text(encoding='ascii').split()[1])


def _finished(channel: paramiko.Channel, out: bytearray, err: bytearray) -> bool:
    moved = True
    while moved:
        moved = False
        if channel.recv_ready():
            out += channel.recv(1 << 16)[: max(0, MAX_STDOUT - len(out))]
            moved = True
        if channel.recv_stderr_ready():
            err += channel.recv_stderr(1 << 16)
            del err[: max(0, len(err) - MAX_STDERR)]
            moved = True
    ended = channel.exit_status_ready() and channel.eof_received
    return bool(ended or channel.closed) and not channel.recv_ready() and not channel.recv_stderr_ready()


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    try:
        channel.sendall(data)
        channel.shutdown_write()
    except OSError:
        pass  # the command did not want it all, or is gone; the reader learns that
