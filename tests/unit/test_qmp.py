# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LabError
from harness.qmp import Shutdown, connect

USERNET = """\
Hub -1 (ssh):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[HOST_FORWARD]  12       127.0.0.1 43821       10.0.2.15    22     0     0
"""


class FakeQemu:
    """Answers as QEMU does; `answers` by command, None: say nothing, an exception: end."""

    def __init__(self, folder: Path) -> None:
        # deeper than a unix socket's name may be long
        self.path = folder / ('x' * 120) / 'qmp.sock'
        self.path.parent.mkdir()
        self.answers: dict[str, Any] = {'qmp_capabilities': {}}
        self.server = socket.socket(socket.AF_UNIX)
        descriptor = os.open(self.path.parent, os.O_PATH)
        self.server.bind(f'/proc/self/fd/{descriptor}/qmp.sock')
        os.close(descriptor)
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        connection, _ = self.server.accept()
        file = connection.makefile('rwb', buffering=0)
        file.write(b'{"QMP": {}}\n')
        for line in file:
            command = json.loads(line)['execute']
            answer = self.answers.get(command, {'error': {'desc': 'no such command'}})
            if answer == 'end':
                file.write(b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\n')
                break
            reply = answer if 'error' in answer else {'return': answer}
            file.write(b'{"event": "RESUME"}\n' + json.dumps(reply).encode() + b'\n')
        file.close()
        connection.close()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[FakeQemu]:
    fake = FakeQemu(tmp_path)
    yield fake
    fake.server.close()


def test_port_that_qemu_took(qemu: FakeQemu) -> None:
    qemu.answers['human-monitor-command'] = USERNET
    monitor = connect(qemu.path, lambda: True)
    assert monitor is not None
    assert monitor.forwarded_port() == 43821
    monitor.close()


def test_refused_command(qemu: FakeQemu) -> None:
    monitor = connect(qemu.path, lambda: True)
    assert monitor is not None
    with pytest.raises(LabError, match='refuses the command nonsense'):
        monitor.execute('nonsense')
    monitor.close()


def test_how_the_guest_ended(qemu: FakeQemu) -> None:
    qemu.answers['quit'] = 'end'
    monitor = connect(qemu.path, lambda: True)
    assert monitor is not None
    with pytest.raises(LabError, match='ended during the command'):
        monitor.execute('quit')
    assert monitor.wait_closed(5)
    assert monitor.shutdown == Shutdown('guest-reset', True)
    monitor.close()


def test_qemu_that_ended_before_it_listened(tmp_path: Path) -> None:
    assert connect(tmp_path / 'qmp.sock', lambda: False) is None


def test_qemu_that_never_listens(tmp_path: Path) -> None:
    with pytest.raises(LabError, match='opens no monitor'):
        connect(tmp_path / 'qmp.sock', lambda: True, timeout=0.1)
