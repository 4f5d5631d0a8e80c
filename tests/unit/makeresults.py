# SPDX-License-Identifier: GPL-2.0-only
"""Runs that never were, for tests of what is made of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import results
from harness.boot import TCG
from harness.image import KernelImage
from harness.results import RunFacts
from harness.runfolder import RunFolder
from harness.speed import Speed
from harness.verdict import LAB, CheckResult, Verdict


def run_of(
    root: Path,
    name: str,
    *checks: tuple[str, str, str],
    build_id: str = 'b1',
    series: str = 'd1',
    programs: str = 'p1',
    seconds: float = 0.5,
    **changes: Any,
) -> dict[str, Any]:
    """The folder of a run with these checks (name, section, verdict), and what is in its results.json.

    Besides verdicts: `known`, a failure that is known; `lab`, a check that lost its guest again and again.
    """
    run = RunFolder(root / name)
    run.path.mkdir(parents=True, exist_ok=True)
    kernel = KernelImage(
        image=root / 'bzImage', directory=root, release='6.12.0-x', build_id=build_id, series_digest=series,
        series_patches=('0001-a.patch', f'0002-{series}.patch'), source_origin='linux-6.12.tar.xz', compiler='gcc 12',
    )  # fmt: skip
    facts = RunFacts(kernel, TCG, Speed(3.0, 0.3, 0.1), 2, 1024, 1, (2.5,), programs).as_dict()
    entries = []
    for check, section, verdict in checks:
        known = 'tmpfs has no such thing' if verdict == 'known' else ''
        reason = {'pass': '', 'notrun': 'why', 'lab': f'{LAB}its guest was killed 3 times'}.get(
            verdict, f'{verdict} of {check}'
        )
        word = Verdict({'known': 'fail', 'lab': 'crash'}.get(verdict, verdict))
        result = CheckResult(
            check, section, word, seconds, reason, counters={'requests_dev': 7, 'x': None}, known=known
        )  # fmt: skip
        entries.append(results.check_dict(result, {}, f'make vm-test CHECK={check}', 'c1'))
    values: dict[str, Any] = {'status': 0, 'started': '2026-11-21T12:00:00+00:00', **changes}
    canaries = [{'name': 'warn', 'kind': 'WARN', 'how': 'provoked', 'ok': True, 'seconds': 1.0, 'detail': ''}]
    table = results.assemble(run, facts, entries, {'build': 31.2, 'checks': 4.0}, canaries=canaries, **values)
    results.write(run, table)
    return table


def event(kind: str, line: str) -> dict[str, Any]:
    return {'kind': kind, 'line': line, 'fingerprint': 'f', 'after': False}
