# SPDX-License-Identifier: GPL-2.0-only
"""blockfs beside other servers of one image: how each is called, and the table for the README."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.bench import record
from harness.bench.rows import Side
from harness.errors import LabError

# Each serves {image} as the file {mnt} and stays in the foreground. All have the plain file below, with its
# page cache, and for buffered loads one above; ours has the same options for both transports.
_BLOCKFS = 'blockfs --foreground --writable --image={image} --stats={stats} --cache={cache}'
_COMMANDS = {
    Side.RING: f'{_BLOCKFS} --io-uring=on --require-ring {{mnt}}',
    Side.DEV: f'{_BLOCKFS} --io-uring=off {{mnt}}',
    Side.QSD: 'qemu-storage-daemon --blockdev driver=file,node-name=image,filename={image} '
    '--export type=fuse,id=export,node-name=image,mountpoint={mnt},writable=on,allow-other=off',
    Side.NBDFUSE: 'nbdfuse {mnt} [ nbdkit --exit-with-parent file {image} ]',
}
_MARK = re.compile(r'(<!-- bench:export -->\n).*?(<!-- /bench:export -->)', re.DOTALL)
PICTURE = Path('docs') / 'bench-export.png'


def command(side: Side, work: str, buffered: bool) -> list[str]:
    """Words of the server's command. `work` is run-bench's folder."""
    values = {
        'image': f'{work}/src/image',
        'mnt': f'{work}/mnt',
        'stats': f'{work}/stats',
        'cache': 'auto' if buffered else 'none',
    }
    return [word.format(**values) for word in _COMMANDS[side].split()]


def markdown(table: Mapping[str, Any]) -> str:
    """The rows of exported images, one line for each workload; empty without any."""
    sides = (Side.RING, Side.DEV, Side.QSD, Side.NBDFUSE)
    figures = {
        (figure['measure'], figure['workload'], figure['side']): figure['value']
        for figure in table['figures']
        if figure['subject'] == 'a'
    }
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in table['rows']:
        if row['several'] and row['side'] == Side.RING:
            rows.setdefault((row['measure'], row['workload']), []).append(row)
    rows = {key: found for key, found in rows.items() if len(found) == len(sides) - 1}
    if not rows:
        return ''
    head = ['4 KiB, op/s', *(side.label for side in sides), *(f'ring / {side.label}' for side in sides[1:])]
    lines = ['| ' + ' | '.join(head) + ' |', '| --- |' + ' ---: |' * (len(head) - 1)]
    for (measure, workload), found in rows.items():
        values = [figures.get((measure, workload, side)) for side in sides]
        cells = ['-' if value is None else f'{value:.0f}' for value in values]
        lines.append('| ' + ' | '.join([found[0]['title'], *cells, *(_ratio(row) for row in found)]) + ' |')
    return '\n'.join(lines) + '\n'


def _ratio(row: Mapping[str, Any]) -> str:
    if row['ratio'] is None:
        return '-'
    text = f'{row["ratio"]:.2f}'
    if row['spread'] is not None:
        text += f' ± {row["spread"] * row["ratio"] / 2:.2f}'
    return f'**{text}**' if row['met'] is False else text


def update_readme(root: Path, folder: Path, table: Mapping[str, Any]) -> bool:
    """Put table and picture of a run between the marks in README.md. False: the run has none."""
    made = markdown(table)
    readme, picture = root / 'README.md', folder / 'bench.png'
    if not made or not picture.is_file():
        return False
    text = readme.read_text(encoding='utf-8')
    release = table['subjects']['a']['kernel']['release'] or table['identity']['host_kernel']
    where = f'{table["identity"]["accelerator"]}, {table["identity"]["guest_cpus"]} CPUs'
    about = f'Kernel {release}, {where}; medians, ± half the spread; bold: goal missed.'
    about = '\n'.join([about, *(f'Note of that run: {note}.' for note in table['notes'])])
    block = f'![ring beside the others]({PICTURE.as_posix()})\n\n{made}\n{about}\n'
    changed, count = _MARK.subn(lambda match: match[1] + block + match[2], text)
    if count != 1:
        raise LabError(f'{readme}: no place for the table', hint='it goes between <!-- bench:export --> and its end')
    record.write_text(readme, changed)
    (root / PICTURE).parent.mkdir(exist_ok=True)
    (root / PICTURE).write_bytes(picture.read_bytes())
    return True
