# SPDX-License-Identifier: GPL-2.0-only
"""results.json: what a run found, for programs and for rendering the report again.

harness/formats/schema.py says what it holds.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.boot import Accelerator
from harness.errors import LabError, UsageError
from harness.formats.evidence import printable
from harness.formats.schema import FORMAT, problems
from harness.image import KernelImage
from harness.runfolder import RunFolder
from harness.speed import Speed
from harness.verdict import CheckResult

MAX_SIZE = 256 << 20  # bytes; no run comes near it, and the whole file has to be held
MAX_EVENTS = 50  # of one check; its reason says how many there were


@dataclass(frozen=True)
class RunFacts:
    """What holds for the whole run."""

    kernel: KernelImage | None = None
    accelerator: Accelerator | None = None
    speed: Speed | None = None
    cpus: int = 0
    memory_mb: int = 0
    seed: int = 1
    boots: tuple[float, ...] = ()  # seconds from QEMU's start to sshd
    programs: str = ''  # digest of what is copied into the guest, without the checks

    def as_dict(self) -> dict[str, Any]:
        kernel = self.kernel
        return {
            'kernel': {
                'release': kernel.release if kernel else None,
                'build_id': kernel.build_id if kernel else None,
                'series_digest': kernel.series_digest if kernel else None,
                'series': list(kernel.series_patches) if kernel else [],
                'source': kernel.source_origin if kernel else None,
                'variant': kernel.variant if kernel else '',
                'compiler': kernel.compiler if kernel else None,
                'image': str(kernel.image) if kernel else None,
            },
            'programs': {'digest': self.programs} if self.programs else None,
            'accelerator': self.accelerator.name if self.accelerator else None,
            'accelerator_reason': self.accelerator.reason if self.accelerator else '',
            'guest_speed': {
                'factor': self.speed.factor,
                'measured': self.speed.measured,
                'loop_seconds': self.speed.loop,
                'fork_seconds': self.speed.fork,
            }
            if self.speed
            else None,
            'cpus': self.cpus,
            'memory_mb': self.memory_mb,
            'seed': self.seed,
            'boot_seconds': [round(seconds, 2) for seconds in self.boots],
        }


def check_dict(result: CheckResult, files: Mapping[str, str], repeat: str, digest: str = '') -> dict[str, Any]:
    """One entry of `checks`. Text from the guest may hold anything."""
    return {
        'name': result.name,
        'section': result.section,
        'verdict': str(result.verdict),
        'seconds': round(result.seconds, 3),
        'guest_seconds': result.guest_seconds,
        'reason': result.reason,
        'proof': result.proof,
        'counters': result.counters,
        'guest': result.guest,
        'events': [
            {'kind': str(event.kind), 'line': event.line, 'fingerprint': event.fingerprint, 'after': event.after}
            for event in result.events[:MAX_EVENTS]
        ],
        'excused': [event.line for event in result.excused[:MAX_EVENTS]],
        'files': dict(files),
        'repeat': repeat,
        'digest': digest,
        **({'known': result.known} if result.known else {}),
    }


def assemble(
    run: RunFolder,
    facts: dict[str, Any],
    checks: Sequence[dict[str, Any]],
    stages: Mapping[str, float],
    *,
    status: int | None,
    problem: str = '',
    canaries: Sequence[dict[str, Any]] = (),
    strays: Sequence[dict[str, Any]] = (),
    expired: Sequence[str] = (),
    stale: Sequence[str] = (),
    started: str = '',
) -> dict[str, Any]:
    """The whole of results.json. status None: the run is not over."""
    counts: dict[str, int] = {}
    for check in checks:
        counts[check['verdict']] = counts.get(check['verdict'], 0) + 1
    return {
        'format': FORMAT,
        'run': run.name,
        'started': started,
        'status': status,
        'problem': problem,
        **facts,
        'stages': {name: round(seconds, 2) for name, seconds in stages.items()},
        'counts': counts,
        'checks': list(checks),
        'canaries': list(canaries),
        'stray_events': list(strays),
        'expired_allowances': list(expired),
        'stale_known': list(stale),
        'command': shlex.join(sys.argv),
        'host': {
            'kernel': platform.release(),
            'python': platform.python_version(),
            'cpus': len(os.sched_getaffinity(0)),
            'ci': os.environ.get('CI', ''),
        },
    }


def write(run: RunFolder, table: dict[str, Any]) -> None:
    """Replace the file in one step: a reader sees the old or the new one."""
    try:
        descriptor, name = tempfile.mkstemp(dir=run.path, prefix='.results')
        with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
            json.dump(table, file, indent=1)
            file.write('\n')
        temporary = Path(name)
        temporary.chmod(0o644)
        temporary.replace(run.results)
    except OSError as error:
        raise LabError(f'cannot write {run.results}', str(error)) from error


def read(path: Path) -> dict[str, Any]:
    """results.json of a run folder, or the file itself. What it gives has the shape of the schema."""
    file = path / 'results.json' if path.is_dir() else path
    try:
        if not file.is_file():
            raise UsageError(
                f'{file}: not a regular file' if file.exists() else f'{file}: there is no such file',
                hint='name a folder below results/',
            )
        size = file.stat().st_size
        if size > MAX_SIZE:
            raise UsageError(f'{file}: {size >> 20} MiB are no results of this harness')
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise UsageError(f'{file}: cannot be read: {error}') from error
    return _parse(file, data)


def _parse(file: Path, data: bytes) -> dict[str, Any]:
    if not data.strip(b' \t\r\n\0'):
        raise UsageError(f'{file}: is empty', hint='the run was killed before its end, or the disk was full')
    try:
        table = json.loads(data.decode('utf-8'), parse_constant=_no_number)
    except json.JSONDecodeError as error:
        text = error.doc.rstrip()
        # A number that was cut behind its point is complained of before the end.
        if error.pos >= len(text) or not text.endswith('}'):
            raise UsageError(f'{file}: ends in the middle, at byte {len(data)}', str(error)) from error
        raise UsageError(f'{file}: damaged: {error}') from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f'{file}: damaged: {error}') from error
    if not isinstance(table, dict) or table.get('format') != FORMAT:
        raise UsageError(f'{file}: not results of this harness')
    wrong = problems(table)
    if wrong:
        raise UsageError(f'{file}: not as results of this harness are', '\n'.join(printable(text) for text in wrong))
    return dict(_sound(table)) if rb'\ud' in data.lower() else table


def _no_number(name: str) -> float:
    raise ValueError(f'{name} is no number of JSON')


def _sound(value: Any) -> Any:
    """Without halves of surrogate pairs, which JSON can hold but no output can take."""
    if isinstance(value, str):
        return value.encode('utf-8', 'backslashreplace').decode('utf-8')
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {_sound(name): _sound(item) for name, item in value.items()}
    return value
