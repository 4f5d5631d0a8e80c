# SPDX-License-Identifier: GPL-2.0-only
"""bench.json: what a run of `bench` found.

format     1
run        name of the folder below results/
started    UTC
status     exit status; null while the run goes on
problem    why it ended early, or empty
identity   what has to be the same for figures to be comparable (identity.Identity): accelerator,
           host cpu, cpus, machine and host_kernel; guest_cpus, guest_cpu, qemu, compiler, fsload
           (digest), config (digest), variant
subjects   a, and b when two are side by side; each has
             kernel   release, build_id, series, variant, image
             server   command (template), program, digest (sha256)
rows       one for each comparison
             measure  cost, throughput, native, export (an exported image) or krpc (files on
                      a storage node)
             workload such as randread-4k; title for people; unit of a and b
             a, b     medians; null when not measured. With one subject a is the ring and b the
                      device (the cheaper of its two ways where both are measured). With an
                      exported image b is each of the other servers in turn; with files on a
                      storage node a is krpc zero-copy, b krpc into memory and the ordinary
                      server. With two subjects they are the subjects, and `side` is the way
             a_what, b_what   the same in words
             ratio    a/b: of the medians for cost; the median of each round's ratio otherwise
             spread   (largest - smallest) / median: of the ratios; for cost of the worse side's
                      values. null below two rounds
             several  true for a workload with several rows, which differ in b_what alone
             goal     such as `≤ 18` (for a) or `ratio ≥ 1.6`; null: none
             goal_of, goal_limit   the same for programs: a or ratio, and the number
             met      true, false, or null
             state    measured, notrun or failed; reason
figures    one for each side of each workload
             measure, workload, subject, side (dev, nosplice, ring; qsd, nbdfuse; zc, umem,
             socket)
             values   one for each round, in the row's unit; value: their median; spread
             proof    what shows that the requests took this way
             state, reason; load: what was run
stages     seconds of each stage
notes      what a reader should know before he compares
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from harness.bench.figures import Figure, Row
from harness.errors import LabError

FORMAT = 1
NAME = 'bench.json'
CONFIG = 'kernel-{}.config'


def row_dict(row: Row) -> dict[str, Any]:
    return {
        'measure': str(row.workload.measure),
        'workload': row.workload.name,
        'title': row.workload.title,
        'side': str(row.a.side),
        'several': bool(row.workload.against),
        'unit': row.workload.unit,
        'a': _rounded(row.a.value),
        'b': _rounded(row.b.value if row.b else None),
        'a_what': row.a_what,
        'b_what': row.b_what,
        'ratio': _rounded(row.ratio),
        'spread': _rounded(row.spread),
        'goal': row.goal.text if row.goal else None,
        'goal_of': row.goal.figure if row.goal else None,
        'goal_limit': row.goal.limit if row.goal else None,
        'met': row.met,
        'state': str(row.state),
        'reason': row.reason,
    }


def figure_dict(figure: Figure) -> dict[str, Any]:
    return {
        'measure': str(figure.workload.measure),
        'workload': figure.workload.name,
        'subject': figure.subject,
        'side': str(figure.side),
        'values': [_rounded(value) for value in figure.values],
        'value': _rounded(figure.value),
        'spread': _rounded(figure.spread),
        'proof': figure.proof,
        'state': str(figure.state),
        'reason': figure.reason,
        'load': figure.workload.definition,
    }


def _rounded(value: float | None) -> float | None:
    """Five significant digits: more are noise, and would only make files differ."""
    return None if value is None else float(f'{value:.5g}')


def write(folder: Path, table: dict[str, Any]) -> None:
    """Replace the file in one step."""
    target = folder / NAME
    try:
        descriptor, name = tempfile.mkstemp(dir=folder, prefix='.bench')
        with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
            json.dump(table, file, indent=1, ensure_ascii=False)
            file.write('\n')
        temporary = Path(name)
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise LabError(f'cannot write {target}', str(error)) from error


def read(path: Path) -> dict[str, Any]:
    """bench.json of a run's folder, or the file itself. LabError: there is nothing to compare with."""
    file = path / NAME if path.is_dir() else path
    try:
        table = json.loads(file.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise LabError(f'{file}: there is no such file', hint='name the folder of a run of make bench') from error
    except (OSError, ValueError) as error:
        raise LabError(f'{file}: cannot be read', str(error)) from error
    if not isinstance(table, dict) or table.get('format') != FORMAT or 'figures' not in table:
        raise LabError(f'{file}: not figures of this harness')
    return table


def write_text(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    except OSError as error:
        raise LabError(f'cannot write {path}', str(error)) from error


def config_of(folder: Path) -> str:
    """The configuration of subject a's kernel, as kept with a run; empty when it was not."""
    path = (folder if folder.is_dir() else folder.parent) / CONFIG.format('a')
    return path.read_text(encoding='utf-8') if path.is_file() else ''
