# SPDX-License-Identifier: GPL-2.0-only
"""Which way the requests of a measured run went. A figure counts only when that is shown.

What there is depends: our series counts in the kernel, mirrorfs counts by itself, and for another
server on another kernel there is what its threads sleep in while nothing comes: /dev/fuse is read
or spliced, a ring's thread is in io_uring_enter().
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.bench.rows import Side


@dataclass(frozen=True)
class Proof:
    """shown: what proves it; wrong: what contradicts it. One of the two is empty."""

    shown: str
    wrong: str = ''


def judge(side: Side, evidence: Mapping[str, tuple[int, int]], needed: float) -> Proof:
    """`evidence`: counters by name, before and after the load; `needed`: requests it takes at least."""
    grown = {name: after - before for name, (before, after) in evidence.items()}
    shown: list[str] = []
    wrong: list[str] = []
    for who in ('kernel', 'server'):
        if f'{who}_ring' not in grown:
            continue
        ring, dev = grown[f'{who}_ring'], grown[f'{who}_dev']
        carried = ring if side is Side.RING else dev
        # what a peer lets the kernel cache makes no requests
        if carried < (1 if side.is_peer else needed):
            wrong.append(f'{who} counts {carried} requests over the {side.label}, at least {needed:.0f} were made')
        if side is not Side.RING and ring:
            wrong.append(f'{who} counts {ring} requests over the ring')
        if side is Side.RING and who == 'server' and dev > grown.get('server_exempt', 0):
            wrong.append(f'{dev - grown.get("server_exempt", 0)} ordinary requests came over the device')
        shown.append(f'{who}: {carried} requests')
    if not shown and side.is_peer:
        shown.append('has no other way')
    if not shown:
        ring, dev = grown.get('waits_ring', 0), grown.get('waits_dev', 0)
        if side is Side.RING and (not ring or dev > ring):
            wrong.append(f'threads of the server slept {ring} times in io_uring_enter(), {dev} times on the device')
        elif side is not Side.RING and (not dev or ring):
            wrong.append(f'threads of the server slept {dev} times on the device, {ring} times in io_uring_enter()')
        shown.append(f'server slept {ring if side is Side.RING else dev} times on the {side.label}')
    return Proof('', '; '.join(wrong)) if wrong else Proof(', '.join(shown))
