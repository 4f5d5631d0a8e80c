# SPDX-License-Identifier: GPL-2.0-only
"""Where the instructions of a row go, by function: perf samples the counting guest.

Its clock counts instructions, so a sample each 50,000 ns of it is one each 50,000 instructions, of
kernel, server and load alike.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.bench.measure import GuestPlace, Subject, UnmeasuredError, parse, words_of
from harness.bench.rows import Measure, Side, Workload
from harness.command import missing_program
from harness.errors import LabError, UsageError

PERF = '/usr/bin/perf'  # the guest has the host's /usr
MORE = 4  # times the operations of a measurement: samples are few
_SEPARATOR = '|'


@dataclass(frozen=True)
class Line:
    """One function."""

    share: float  # of all samples, from 0 to 1
    who: str  # name of the thread
    where: str  # program, or [kernel.kallsyms]
    function: str


def require(rows: Sequence[Workload]) -> None:
    """UsageError or LabError when these rows cannot be profiled here."""
    if any(row.measure is not Measure.COST for row in rows):
        raise UsageError('--profile is for rows of cost/', hint=' '.join(row.key for row in rows))
    if shutil.which('perf') is None:
        raise missing_program('perf')


def profile(
    row: Workload, side: Side, subject: Subject, place: GuestPlace, run_bench: str, sampling: int = 20000
) -> list[Line]:
    """Functions by their share; LabError when perf gives none."""
    data = f'{place.work}.perf'
    longer = replace(row, words=tuple(_longer(row)))
    words = words_of(longer, side, subject.server, place, run_bench)
    cut = words.index('--') + 1
    perf = [PERF, 'record', '-q', '-o', data, '-a', '-e', 'cpu-clock', '-F', str(sampling), '--']
    said = place.run([*words[:cut], *perf, *words[cut:]])
    if said.status != 0:
        raise LabError(f'no profile of {row.key} {side.label}', said.stderr)
    try:
        parse(said.stdout)
    except UnmeasuredError as error:
        raise LabError(f'no profile of {row.key} {side.label}', str(error)) from error
    done = place.run(
        [PERF, 'report', '-i', data, '--stdio', '-g', 'none', '--sort', 'comm,dso,symbol', '-t', _SEPARATOR]
    )
    lines = read(done.stdout)
    if done.status != 0 or not lines:
        raise LabError(f'perf reports nothing for {row.key} {side.label}', done.stderr or done.stdout)
    return lines


def _longer(row: Workload) -> list[str]:
    """More operations, unless the file is read only once."""
    if row.buffered:
        return list(row.words)
    return [
        f'--count={int(word.partition("=")[2]) * MORE}' if word.startswith('--count=') else word for word in row.words
    ]


def read(report: str) -> list[Line]:
    """Lines of `perf report --sort comm,dso,symbol -t '|'`."""
    lines = []
    for text in report.splitlines():
        parts = [part.strip() for part in text.split(_SEPARATOR)]
        if text.startswith('#') or len(parts) < 4 or not parts[0].endswith('%'):
            continue
        # `[k] fuse_dev_read`: k is the kernel, . a program
        lines.append(Line(float(parts[0][:-1]) / 100, parts[1], parts[2], parts[3].partition('] ')[2] or parts[3]))
    return lines


def text(row: Workload, side: Side, lines: Sequence[Line], cost: float | None) -> str:
    """The table for the run's folder. cost: thousands of instructions per operation, where measured."""
    by_function: dict[str, float] = {}
    for line in lines:
        by_function[line.function] = by_function.get(line.function, 0.0) + line.share
    head = [f'{row.title}: {side.label}', f'load: {row.definition}']
    if cost is not None:
        head.append(f'{cost:.2f} thousand instructions per operation')
    parts = ['\n'.join(head), _block('by thread', _sums(lines, 'who'), cost), _block('by function', by_function, cost)]
    rows = {f'{line.who:16} {line.where:24} {line.function}': line.share for line in lines}
    return '\n\n'.join([*parts, _block('by thread and function', rows, cost)]) + '\n'


def _sums(lines: Sequence[Line], name: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for line in lines:
        key = getattr(line, name)
        sums[key] = sums.get(key, 0.0) + line.share
    return sums


def _block(title: str, shares: Mapping[str, float], cost: float | None) -> str:
    lines = [f'{title}   share' + ('   instructions per operation' if cost is not None else '')]
    for name, share in sorted(shares.items(), key=lambda item: -item[1]):
        number = f'{share * cost * 1000:10.0f}' if cost is not None else ''
        lines.append(f'{100 * share:6.2f} %{number}  {name}')
    return '\n'.join(lines)
