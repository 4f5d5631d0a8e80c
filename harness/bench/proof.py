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


def judge(side: Side, evidence: Mapping[str, tuple[int, int]], needed: float, over_ring: bool) -> Proof:
    """`evidence`: counters by name, before and after the load; `needed`: requests it takes at least."""
    grown = _grown(evidence)
    way = 'ring' if over_ring else 'device'
    shown: list[str] = []
    wrong: list[str] = []
    for who in ('kernel', 'server'):
        if f'{who}_ring' not in grown:
            continue
        ring, dev = grown[f'{who}_ring'], grown[f'{who}_dev']
        carried = ring if over_ring else dev
        # what a peer lets the kernel cache makes no requests
        if carried < (1 if side.is_peer else needed):
            wrong.append(f'{who} counts {carried} requests over the {way}, at least {needed:.0f} were made')
        if not over_ring and ring:
            wrong.append(f'{who} counts {ring} requests over the ring')
        if over_ring and who == 'server' and dev > grown.get('server_exempt', 0):
            wrong.append(f'{dev - grown.get("server_exempt", 0)} ordinary requests came over the device')
        shown.append(f'{who}: {carried} requests')
    if not shown and side.is_peer:
        shown.append('has no other way')
    if not shown:
        ring, dev = grown.get('waits_ring', 0), grown.get('waits_dev', 0)
        if over_ring and (not ring or dev > ring):
            wrong.append(f'threads of the server slept {ring} times in io_uring_enter(), {dev} times on the device')
        elif not over_ring and (not dev or ring):
            wrong.append(f'threads of the server slept {dev} times on the device, {ring} times in io_uring_enter()')
        shown.append(f'server slept {ring if over_ring else dev} times on the {way}')
    return Proof('', '; '.join(wrong)) if wrong else Proof(', '.join(shown))


# Counters of krpcfs, the first two of which it has from the kernel's endpoints: where payload of answers went
_PAYLOAD = {
    Side.ZC: ('krpc_bytes_placed', 'placed in pages of reads'),
    Side.UMEM: ('krpc_bytes_copied', "received into the server's memory by the kernel"),
    Side.SOCKET: ('plain_bytes_received', 'read from the socket by the server'),
}


def judge_payload(side: Side, evidence: Mapping[str, tuple[int, int]], needed: int) -> Proof:
    """All that a storage node has sent went one way, and that was at least `needed` bytes."""
    grown = _grown(evidence)
    wrong = []
    for other, (name, what) in _PAYLOAD.items():
        count = grown.get(name)
        if count is None:
            wrong.append(f'nobody counts the bytes {what}')
        elif other is side and count < needed:
            wrong.append(f'{count} bytes were {what}, at least {needed} were read')
        elif other is not side and count:
            wrong.append(f'{count} bytes were {what}')
    name, what = _PAYLOAD[side]
    return Proof('', '; '.join(wrong)) if wrong else Proof(f'{grown[name]} bytes {what}, none otherwise')


def _grown(evidence: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    return {name: after - before for name, (before, after) in evidence.items()}
