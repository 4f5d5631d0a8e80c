# SPDX-License-Identifier: GPL-2.0-only
"""How fast the guest is, measured in it; every time-out is multiplied by the result.

Unit speed is that of a guest whose shell counts to 20000 in 0.10 s and starts 50 programs in
0.05 s: a current CPU with KVM and a debugging kernel, or an emulated one that is three times
slower than that and so has the factor 3. Faster guests count as 1: time-outs are for hangs,
nothing is gained by tight ones.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

from harness.boot import Accelerator
from harness.cache import Cache
from harness.guest import Guest
from harness.memo import Memo

log = logging.getLogger(__name__)

UNIT_LOOP = 0.10
UNIT_FORK = 0.05
# Before anything was measured: plain kernels here, and variants that check every memory access.
GUESS = {'kvm': 1.0, 'tcg': 3.0}
GUESS_VARIANT = 4.0
# A guest whose clock counts instructions, which cannot be measured: its clock tells nothing.
GUESS_COUNTING = 12.0
HIGHEST = 60.0
LOAD = 2.0  # by how much a busy host may slow a guest down


@dataclass(frozen=True)
class Speed:
    """Measured speed of one kind of guest."""

    factor: float
    loop: float  # seconds
    fork: float
    measured: bool = True


def guess(accelerator: Accelerator, variant: str) -> Speed:
    """For the first boot, before anything was measured."""
    factor = GUESS.get(accelerator.name, 3.0) * (1.0 if variant in ('', 'default') else GUESS_VARIANT)
    return Speed(factor, 0.0, 0.0, measured=False)


def guess_counting() -> Speed:
    """For a guest whose clock counts instructions."""
    return Speed(GUESS_COUNTING, 0.0, 0.0, measured=False)


def remembered(cache: Cache, accelerator: Accelerator, variant: str, cpus: int) -> Speed | None:
    """What an earlier run measured for this kind of guest on this CPU."""
    known = Memo(cache, 'speed').get(_key(accelerator, variant, cpus))
    if not isinstance(known, dict):
        return None
    try:
        return Speed(float(known['factor']), float(known['loop']), float(known['fork']))
    except (KeyError, TypeError, ValueError):
        return None


def measure(guest: Guest, cache: Cache, crowd: float = 1.0) -> Speed:
    """Measure this guest, and remember the best that its kind has shown.

    A busy host makes it slower: that counts for this guest, but not for ever, and a moment's
    hiccup must not make a hang last for hours. The other guests of a crowd (virtual CPUs for each
    real one) may have been idle at this moment, and will not be.
    """
    spec = guest.booted.spec
    start, middle, end = (float(word) for word in guest.ask('/lab/guest/speed', timeout=60).split())
    loop, fork = middle - start, end - middle
    now = factor_of(loop, fork)
    known = remembered(cache, spec.accelerator, spec.kernel.variant, spec.cpus)
    best = min(now, known.factor) if known is not None else now
    key = _key(spec.accelerator, spec.kernel.variant, spec.cpus)
    Memo(cache, 'speed').put({key: {'factor': best, 'loop': loop, 'fork': fork}})
    factor = round(max(min(now, LOAD * best), crowd * best), 2)
    log.info('guest speed: factor %.1f (loop %.2f s, 50 forks %.2f s)', factor, loop, fork)
    return Speed(factor, loop, fork)


def factor_of(loop: float, fork: float) -> float:
    """By how much the slower of the two is slower than unit speed."""
    return round(min(HIGHEST, max(1.0, loop / UNIT_LOOP, fork / UNIT_FORK)), 2)


def _key(accelerator: Accelerator, variant: str, cpus: int) -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text(encoding='utf-8', errors='replace').splitlines() if info.exists() else []
    cpu = next((line for line in lines if 'model name' in line), '')
    return f'{accelerator.name} {variant or "default"} cpus={cpus} {hashlib.sha256(cpu.encode()).hexdigest()[:8]}'
