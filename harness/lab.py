# SPDX-License-Identifier: GPL-2.0-only
"""What every stage works with: the repository, the cache, a runner of commands, a clock."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from harness.cache import Cache
from harness.clock import StageClock
from harness.command import Runner

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Lab:
    runner: Runner
    cache: Cache = field(default_factory=Cache.default)
    root: Path = REPOSITORY
    jobs: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    clock: StageClock = field(default_factory=StageClock)

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
