# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's machine protocol over a unix socket: what QEMU knows and the console does not."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import LabError

_FORWARD = re.compile(r'HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b')


@dataclass(frozen=True)
class Shutdown:
    """Why QEMU ended, from its SHUTDOWN event."""

    reason: str  # guest-reset, guest-shutdown, guest-panic, host-signal, host-qmp-quit, ...
    guest: bool


class Monitor:
    """One connection. Commands are answered in order; events are kept as they come."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._file = connection.makefile('rb')
        self._lock = threading.Lock()  # one command at a time
        self._changed = threading.Condition()
        self._answers: list[dict[str, Any]] = []
        self._closed = False
        self.shutdown: Shutdown | None = None
        self._reader = threading.Thread(target=self._read, name='qmp', daemon=True)
        self._reader.start()

    def execute(self, command: str, arguments: dict[str, Any] | None = None, timeout: float = 10.0) -> Any:
        """Result of one command."""
        message: dict[str, Any] = {'execute': command}
        if arguments:
            message['arguments'] = arguments
        with self._lock:
            try:
                self._socket.sendall(json.dumps(message).encode() + b'\n')
            except OSError as error:
                raise LabError(f'QEMU does not take the command {command}', str(error)) from error
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._answers) or self._closed, timeout):
                    raise LabError(f'QEMU does not answer the command {command} within {timeout:.0f} s')
                if not self._answers:
                    raise LabError(f'QEMU ended during the command {command}')
                answer = self._answers.pop(0)
        if 'error' in answer:
            raise LabError(f'QEMU refuses the command {command}', str(answer['error'].get('desc', answer)))
        return answer['return']

    def forwarded_port(self) -> int:
        """Port on the host's loopback that leads to the guest's ssh; QEMU took a free one."""
        table = str(self.execute('human-monitor-command', {'command-line': 'info usernet'}))
        match = _FORWARD.search(table)
        if match is None:
            raise LabError('QEMU forwards no port to the guest', table)
        return int(match.group(1))

    def wait_closed(self, timeout: float) -> bool:
        """Wait until QEMU has closed the connection, so that its last event has been seen."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, timeout)

    def close(self) -> None:
        with suppress(OSError):  # QEMU may have been first
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(2.0)
        self._file.close()
        self._socket.close()

    def _read(self) -> None:
        try:
            for line in self._file:
                message = json.loads(line)
                with self._changed:
                    if 'event' in message:
                        if message['event'] == 'SHUTDOWN':
                            data = message.get('data', {})
                            self.shutdown = Shutdown(str(data.get('reason', '')), bool(data.get('guest')))
                    elif 'return' in message or 'error' in message:
                        self._answers.append(message)
                    self._changed.notify_all()
        except (OSError, ValueError):
            pass  # the connection or QEMU has ended; waiters learn it below
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def connect(path: Path, alive: Callable[[], bool], timeout: float = 20.0) -> Monitor | None:
    """Monitor of a QEMU that is just starting; None when it ended before it could listen."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            monitor = Monitor(_connect(path))
            break
        except OSError as error:
            if not alive():
                return None
            if time.monotonic() > deadline:
                raise LabError(f'QEMU opens no monitor within {timeout:.0f} s', f'{path}: {error}') from error
            time.sleep(0.01)
    try:
        monitor.execute('qmp_capabilities', timeout=timeout)
    except LabError:
        # QEMU says why on its terminal, if it has ended.
        while alive():
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        return None
    return monitor


def _connect(path: Path) -> socket.socket:
    # A socket's path holds 107 bytes at most; the folder's descriptor makes any path short.
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(f'/proc/self/fd/{folder}/{path.name}')
        except OSError:
            connection.close()
            raise
        return connection
    finally:
        os.close(folder)
