# SPDX-License-Identifier: GPL-2.0-only
"""krpcfs in front of a storage node on the guest's own address: how it is called for each side."""

from __future__ import annotations

from harness.bench.rows import Side, Workload

PORT = 10809  # of the node, which run-bench starts
DEVICE = '/dev/fuse-krpc'
# An answer may take long in a guest whose machine is busy: that is no reason to ask again.
_TIMEOUT_MS = 20000
_MODE = {Side.ZC: 'zc', Side.UMEM: 'umem', Side.SOCKET: 'off'}


def command(row: Workload, side: Side, work: str) -> list[str]:
    """Words of the server's command: one server, but for who receives. `work` is run-bench's folder."""
    transport = ['--transport=uring', '--require-ring'] if row.over_ring(side) else ['--transport=dev']
    return [
        'krpcfs',
        '--foreground',
        *transport,
        '--cache=none',
        f'--stats={work}/stats',
        f'--krpc={_MODE[side]}',
        '--framing=le',
        f'--timeout={_TIMEOUT_MS}',
        f'127.0.0.1:{PORT}',
        f'{work}/mnt',
    ]
