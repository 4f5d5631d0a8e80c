# SPDX-License-Identifier: GPL-2.0-only
"""What every stage works with: the repository, the cache, a runner of commands, a clock."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from harness.cache import Cache
from harness.clock import StageClock
from harness.command import Runner
from harness.errors import UsageError

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Lab:
    runner: Runner
    cache: Cache = field(default_factory=Cache.default)
    root: Path = REPOSITORY
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    clock: StageClock = field(default_factory=StageClock)

    def __post_init__(self) -> None:
        # The guest's init is named by its path on the kernel's command line, and kbuild takes no blanks either:
        # better now than a panic that looks like a verdict.
        for what, path in (('this folder', self.root), ('the cache', self.cache.root)):
            if re.search(r'[\s"\'\\]', str(path)):
                raise UsageError(
                    f'{what} has a blank or a quote in its path: {path}',
                    hint='move it' if path == self.root else 'XDG_CACHE_HOME= names another place',
                )

    @property
    def dry_run(self) -> bool:
        return self.runner.dry_run

    @property
    def patches(self) -> Path:
        return self.root / 'kernel-patches'

    @property
    def build(self) -> Path:
        """Trees left for the user to work in; ignored by git."""
        return self.root / 'build'
