# SPDX-License-Identifier: GPL-2.0-only
"""A run of checks of its own, by this harness in another process; for loops over runs."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from harness import results
from harness.errors import EXIT_PASS, EXIT_VERDICT, LabError
from harness.lab import Lab


def run_checks(lab: Lab, words: list[str], stage: str) -> tuple[Path, dict[str, Any]]:
    """`python -m harness check WORDS`: its folder, and what results.json says. LabError without a verdict."""
    argv = [sys.executable, '-m', 'harness', 'check', *words]
    done = lab.runner.run(argv, cwd=lab.root, check=False, stage=stage)
    if lab.dry_run:
        return Path(), {'checks': []}
    where = re.search(r'^results: (.+)$', done.stdout, re.MULTILINE)
    if done.status not in (EXIT_PASS, EXIT_VERDICT) or not where:
        raise LabError(f'the run ended with status {done.status}', detail=done.tail())
    table = results.read(Path(where[1]))
    if not table['checks']:
        # Such as a series that does not apply, or a kernel that does not build.
        raise LabError(f'the run came to no check: {table["problem"]}', detail=done.tail())
    return Path(where[1]), table
