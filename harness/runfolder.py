# SPDX-License-Identifier: GPL-2.0-only
"""results/<run>/: everything one run leaves behind; results/latest points to the newest."""

from __future__ import annotations

import datetime
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run. Its name sorts by time and is never taken twice."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def results(self) -> Path:
        return self.path / 'results.json'

    @property
    def booted(self) -> Path:
        """Is there when a guest of the run has come up: in this process or another."""
        return self.path / '.booted'

    def guest(self, name: str) -> Path:
        """Folder of one guest: console log, keys, sockets."""
        return self.path / 'guests' / name

    def check_file(self, name: str, section: str, suffix: str) -> Path:
        """Such as checks/uring/007.dev.out.bad."""
        path = self.path / 'checks' / f'{name}.{section}.{suffix}'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self) -> None:
        """Make results/latest point here, in one step: a reader never finds it missing."""
        link = self.path.parent / f'.latest.{secrets.token_hex(4)}'
        try:
            link.symlink_to(self.name)
            link.replace(self.path.parent / 'latest')
        except OSError as error:
            with suppress(OSError):
                link.unlink()
            raise LabError(f'cannot make {self.path.parent / "latest"}', str(error)) from error


def create(root: Path) -> RunFolder:
    """A new folder below `root`, normally results/."""
    now = datetime.datetime.now(datetime.UTC).strftime('%Y%m%dT%H%M%SZ')
    try:
        root.mkdir(parents=True, exist_ok=True)
        while True:
            path = root / f'{now}-{secrets.token_hex(2)}'
            with suppress(FileExistsError):
                path.mkdir()
                run = RunFolder(path)
                run.publish()
                return run
    except OSError as error:
        raise LabError(f'cannot write the results to {root}', os.strerror(error.errno or 0)) from error
