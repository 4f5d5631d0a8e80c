# SPDX-License-Identifier: GPL-2.0-only
"""A running QEMU: its console read all the time, its end noticed, its processes never left behind."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import pexpect

from harness.console import Event, Kind, Parser
from harness.errors import LabError
from harness.qmp import Monitor

log = logging.getLogger(__name__)

# What the reader looks for in the raw bytes; the time of each is kept.
KERNEL = b'Linux version '
UP = b'fuse-lab: guest up'
FAILED = b'fuse-lab: guest start-up failed: '
_MILESTONES = (KERNEL, UP, FAILED)
_CARRY = max(len(text) for text in _MILESTONES) - 1

MAX_LOG = 64 << 20  # bytes of console kept on disk; a kernel that prints without end is parsed on
KEPT_TAIL = 32 << 10  # bytes at the console's end, which a log that was cut ends with too
MAX_EVENTS = 2000
MAX_TRACES = 8 << 20  # characters of all events' traces; later events come without
REAP_LIMIT = 2.0  # seconds from the console's end to that of virtme-run
# What QEMU does not send itself: the OOM killer, a time limit of the CI, a person.
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running: weakref.WeakSet[Machine] = weakref.WeakSet()


class Machine:
    """virtme-run and the QEMU it started, in a session of their own on a pty."""

    def __init__(self, argv: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str]) -> None:
        self.log = log
        self.monitor: Monitor | None = None
        self.started = time.monotonic()
        self.milestones: dict[bytes, float] = {}
        self.events: list[Event] = []
        self.parser = Parser()
        self.last_output = self.started
        self.killed = ''  # by what, if neither the guest nor this harness ended it
        self._stopping = False
        self._over = False
        self._tail = b''
        self._traces = 0
        self._changed = threading.Condition()
        try:
            self._log: IO[bytes] | None = log.open('wb')
        except OSError as error:
            raise LabError(f'cannot write the console log {log}', str(error)) from error
        try:
            # dimensions: the kernel's lines must not be wrapped by a terminal width
            self._child: pexpect.spawn[bytes] = pexpect.spawn(
                argv[0],
                list(argv[1:]),
                cwd=str(cwd),
                env=dict(env),
                encoding=None,
                echo=False,
                timeout=None,
                dimensions=(50, 500),
                preexec_fn=die_with_parent,
            )
        except (pexpect.ExceptionPexpect, OSError) as error:
            self._log.close()
            raise LabError(f'cannot start {argv[0]}', str(error)) from error
        self.pid = int(self._child.pid or 0)  # process group of virtme-run and QEMU
        _running.add(self)
        self._reader = threading.Thread(target=self._read, name=f'console {log.parent.name}', daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return not self._over

    @property
    def offset(self) -> int:
        """Bytes of console so far."""
        return self.parser.offset

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Wait until the condition holds; it is looked at whenever the console says something."""
        with self._changed:
            return self._changed.wait_for(lambda: condition() or self._over, timeout) and condition()

    def starved(self) -> float:
        """Seconds in which QEMU, or virtme-run before it, could have run and the host had no CPU for it."""
        return sum(_most_waited(pid) for pid in (self.pid, *qemu_processes(self.pid)))

    def drain(self, quiet: float = 0.15, limit: float = 3.0) -> None:
        """Wait until the console has been silent for a moment: a report is complete then."""
        deadline = time.monotonic() + limit
        with self._changed:
            while not self._over and time.monotonic() < deadline:
                if time.monotonic() - self.last_output >= quiet:
                    break
                self._changed.wait(quiet)
            if not self._over:
                self._keep(self.parser.flush())

    def tail(self, lines: int = 30) -> str:
        """The console's last lines, for an error."""
        text = self._tail.decode('utf-8', 'replace').replace('\r', '')
        return '\n'.join(''.join(c for c in line if c.isprintable()) for line in text.rstrip().split('\n')[-lines:])

    def said(self, offset: int, limit: int = 64 << 10) -> str:
        """The console from this byte of its log on, at most so many bytes of it."""
        try:
            with self.log.open('rb') as file:
                file.seek(offset)
                data = file.read(limit)
        except OSError as error:
            return f'(the console log cannot be read: {error})'
        return data.decode('utf-8', 'replace').replace('\r', '')

    def events_since(self, number: int) -> list[Event]:
        with self._changed:
            return self.events[number:]

    def send_break(self, key: str, begin: float, limit: float) -> None:
        """A sysrq over the serial line: works when no program in the guest runs any more.

        Waits for the answer, which is on the console: `begin` seconds for its first line, `limit` for its end.
        """
        if self.monitor is None:
            return
        before = self.offset
        self.monitor.execute('chardev-send-break', {'id': 'console'})
        os.write(self._child.child_fd, key.encode())
        # The console may have been silent for long: only what it says now tells that it was asked.
        self.wait(lambda: self.offset > before, begin)
        self.drain(quiet=0.5, limit=limit)

    def stop(self) -> None:
        """End it and everything it started; no harm if it has ended already."""
        self._stopping = True
        self._kill()
        self._reader.join(10.0)
        if self.monitor is not None:
            self.monitor.close()
        if not self._child.closed:
            self._child.close(force=True)
        _running.discard(self)

    def _kill(self) -> None:
        # QEMU first: its parent then reaps it. Killed together they would leave a zombie where
        # process 1 does not reap, as in many containers.
        for child in qemu_processes(self.pid):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline and qemu_processes(self.pid):
            time.sleep(0.005)
        # It may have ended, and been reaped, already.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _read(self) -> None:
        carry = b''
        while True:
            try:
                data = self._child.read_nonblocking(65536, timeout=None)
            except (pexpect.EOF, OSError):
                break
            now = time.monotonic()
            window = carry + data
            carry = window[-_CARRY:]
            with self._changed:
                for text in _MILESTONES:
                    if text not in self.milestones and text in window:
                        self.milestones[text] = now
                self._tail = (self._tail + data)[-KEPT_TAIL:]
                self.last_output = now
                self._write(data)
                self._keep(self.parser.feed(data))
                self._changed.notify_all()
        # QEMU's last event says how it ended; the console only that it did.
        if self.monitor is not None:
            self.monitor.wait_closed(2.0)
        status = self._reaped()
        with self._changed:
            kind, line = (None, '') if self._stopping else self._ending(status)
            self._keep(self.parser.close(kind, line))
            if self.parser.offset > MAX_LOG + KEPT_TAIL:
                left_out = (self.parser.offset - MAX_LOG - KEPT_TAIL) / 2**20
                self._append(b'\n... %.1f MiB left out; the end:\n' % left_out + self._tail)
            if self._log is not None:
                self._log.close()
            self._over = True
            self._changed.notify_all()
        # virtme-run reaps QEMU; whatever else is in the group goes too.
        self._kill()

    def _reaped(self) -> int | None:
        """The signal that ended QEMU, or virtme-run before it; 0: none did; None: it has not ended."""
        deadline = time.monotonic() + REAP_LIMIT
        try:
            while self._child.isalive():
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.005)
        except pexpect.ExceptionPexpect:
            return None  # somebody else has reaped it
        if self._child.signalstatus:
            return int(self._child.signalstatus)
        # virtme-run exits with what wait() said of QEMU: the low seven bits are the signal, and 0 there means
        # that it exited by itself. 1 is virtme-run's own: it could not start QEMU, or got SIGTERM.
        number = int(self._child.exitstatus or 0) & 0x7F
        if number == 1:
            return int(signal.SIGTERM) if KERNEL in self.milestones else 0
        return number

    def _ending(self, number: int | None) -> tuple[Kind | None, str]:
        """What to say of the end that nobody here asked for."""
        shutdown = self.monitor.shutdown if self.monitor is not None else None
        if shutdown is not None and shutdown.reason in ('host-signal', 'host-qmp-quit'):
            self.killed = f'QEMU was told to end: {shutdown.reason}'
        elif shutdown is None and number in FROM_OUTSIDE:
            self.killed = f'QEMU was killed: {_signal_name(number)}'
        elif shutdown is None and number:
            # A bug of its own, SIGABRT or SIGSEGV. It may be a guest that provokes it, but then it does so again.
            self.killed = f'QEMU crashed: {_signal_name(number)}'
        if self.killed:
            return Kind.GONE, self.killed
        if any(event.kind is Kind.PANIC for event in self.events) or Kind.PANIC in self.parser.open_kinds:
            return None, ''
        if shutdown is not None and shutdown.reason in ('guest-reset', 'subsystem-reset'):
            return Kind.REBOOT, 'the guest reset itself without a word'
        if shutdown is not None and shutdown.reason == 'guest-shutdown':
            return Kind.GONE, 'the guest switched itself off'
        if shutdown is not None:
            return Kind.GONE, f'QEMU ended ({shutdown.reason})'
        return Kind.GONE, 'QEMU ended without a word'

    def _write(self, data: bytes) -> None:
        """To the log, as long as that is not too long."""
        room = MAX_LOG - self.parser.offset
        if room > 0:
            self._append(data[:room])
            if room <= len(data):
                what = f'console log cut after {MAX_LOG / 2**20:g} MiB; events are still read'
                self._append(f'\n... {what}\n'.encode())
                log.warning('%s: %s', self.log, what)

    def _append(self, data: bytes) -> None:
        if self._log is None:
            return
        try:
            self._log.write(data)
            self._log.flush()
        except OSError as error:
            log.warning('%s is not complete: %s; events are still read', self.log, error)
            with suppress(OSError):
                self._log.close()  # it may want to write what is left
            self._log = None

    def _keep(self, events: list[Event]) -> None:
        for event in events[: max(0, MAX_EVENTS - len(self.events))]:
            self._traces += sum(map(len, event.trace))
            self.events.append(event if self._traces <= MAX_TRACES else replace(event, trace=()))


def stop_all() -> None:
    """End every machine of this process."""
    for machine in list(_running):
        machine.stop()


def qemu_processes(pid: int) -> list[int]:
    """What virtme-run has started: QEMU."""
    try:
        return [int(word) for word in Path(f'/proc/{pid}/task/{pid}/children').read_text(encoding='ascii').split()]
    except OSError:
        return []


def _most_waited(pid: int) -> float:
    """Of the process's threads, seconds in the queue for a CPU; those of a guest wait at the same time."""
    most = 0
    with suppress(OSError, ValueError, IndexError):  # it may end, and the host's kernel may not count
        for task in Path(f'/proc/{pid}/task').iterdir():
            most = max(most, int((task / 'schedstat').read_text(encoding='ascii').split()[1]))
    return most / 1e9


def _signal_name(number: int | None) -> str:
    try:
        return signal.Signals(number or 0).name
    except ValueError:
        return f'signal {number}'


def die_with_parent() -> None:
    """Of this process, from now on."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


atexit.register(stop_all)
