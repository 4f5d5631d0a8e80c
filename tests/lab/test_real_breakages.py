# SPDX-License-Identifier: GPL-2.0-only
"""Each breakage still applies on top of the series: one that does not shows nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness import series, source
from harness.breakages import load
from harness.command import Runner
from harness.lab import Lab
from harness.source import SourceRequest

BREAKAGES = load(Path(__file__).parents[2] / 'tests' / 'breakages', [])


@pytest.mark.parametrize('breakage', BREAKAGES, ids=lambda breakage: breakage.name)
def test_applies(breakage: object, tmp_path: Path) -> None:
    lab = Lab(Runner())
    tree = source.prepare(lab, SourceRequest())
    whole = series.choose(lab, tree, None)
    for path in (*(patch.path for patch in whole.patches), breakage.path):  # type: ignore[attr-defined]
        shutil.copy(path, tmp_path)
    names = (*whole.names, breakage.path.name)  # type: ignore[attr-defined]
    (tmp_path / 'series').write_text('\n'.join(names) + '\n')
    patched = series.apply(lab, tree, series.choose(lab, tree, str(tmp_path)))
    assert len(patched.commits) == len(names)
