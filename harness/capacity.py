# SPDX-License-Identifier: GPL-2.0-only
"""How many guests this machine carries at once."""

from __future__ import annotations

import os
from pathlib import Path

# MiB that a guest takes on the host besides its own memory: QEMU with its translations, and the
# process of the harness that watches it.
BESIDES = 900
_CGROUP = Path('/sys/fs/cgroup')


def guests(cpus: int, memory_mb: int) -> int:
    """Guests of this size: one virtual CPU for each real one, and all their memory at once; at least one."""
    return max(1, min(host_cpus() // cpus, available_mb() // (memory_mb + BESIDES)))


def host_cpus() -> int:
    """CPUs that this process may use; a container may have part of them only."""
    cpus = len(os.sched_getaffinity(0))
    words = _read(_CGROUP / 'cpu.max').split()
    if len(words) == 2 and words[0].isdigit() and int(words[1]):
        cpus = min(cpus, max(1, int(words[0]) // int(words[1])))
    return cpus


def available_mb() -> int:
    """Memory that can be had without swapping, MiB."""
    found = 0
    for line in _read(Path('/proc/meminfo')).splitlines():
        if line.startswith('MemAvailable:'):
            found = int(line.split()[1]) >> 10
    limit, used = _read(_CGROUP / 'memory.max').strip(), _read(_CGROUP / 'memory.current').strip()
    if limit.isdigit() and used.isdigit():
        found = min(found, max(0, int(limit) - int(used)) >> 20)
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding='ascii')
    except OSError:
        return ''
