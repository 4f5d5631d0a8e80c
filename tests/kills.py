#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A campaign in which guests are killed at random: is there one verdict for each check, and the right one?

    tests/kills.py [--share 0.05] [--workers 0.02] [--seed 1] [--base results/RUN] -- [options of vm-test]

Runs `python -m harness vm-test` and follows the consoles of its guests. With the given probability a
check that begins loses its guest (QEMU gets SIGKILL) within the time that it may take; --workers kills the
process of the harness that runs it, which has to be one of several (-n). Only descendants of that vm-test are killed.
Status 0: every check has exactly one verdict, each kill that struck a check is among its attempts, and the verdicts
are those of --base, or all of them pass or notrun.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN = re.compile(rb'fuse-lab: check (\S+) section (\S+) begin')
WITHIN = 6.0  # seconds from a check's begin


@dataclass
class Log:
    """A console log that grows."""

    path: Path
    offset: int = 0
    rest: bytes = b''

    def begun(self) -> list[str]:
        with self.path.open('rb') as file:
            file.seek(self.offset)
            data = self.rest + file.read()
            self.offset = file.tell()
        lines = data.split(b'\n')
        self.rest = lines.pop()[-4096:]
        found = [BEGIN.search(line) for line in lines]
        return [f'{m[1].decode()}[{m[2].decode()}]' for m in found if m]


@dataclass
class Killer:
    """Kills guests and workers of one vm-test."""

    pid: int
    folder: Path
    chance: random.Random
    share: float
    workers: float
    logs: dict[str, Log] = field(default_factory=dict)
    due: list[tuple[float, str, str, str]] = field(default_factory=list)  # when, what, guest, check that began
    begun: Counter[str] = field(default_factory=Counter)
    kills: list[str] = field(default_factory=list)

    def look(self) -> None:
        for path in self.folder.glob('guests/*checks-*/console.log'):
            log = self.logs.setdefault(path.parent.name, Log(path))
            for key in log.begun():
                self.begun[key] += 1
                for what, probability in (('guest', self.share), ('worker', self.workers)):
                    if self.chance.random() < probability:
                        when = time.monotonic() + self.chance.uniform(0, WITHIN)
                        self.due.append((when, what, path.parent.name, key))
        for entry in [entry for entry in self.due if entry[0] <= time.monotonic()]:
            self.due.remove(entry)
            self._kill(*entry[1:])

    def _kill(self, what: str, guest: str, key: str) -> None:
        place = f'/guests/{guest}/ssh'
        for pid, parents in descendants(self.pid):
            line = read(pid, 'cmdline')
            if place not in line or not read(pid, 'comm').startswith('qemu-system'):
                continue
            # vm-test, worker, virtme-run, QEMU
            victim = pid if what == 'guest' else parents[1] if len(parents) == 3 else 0
            if victim:
                os.kill(victim, signal.SIGKILL)
                self.kills.append(f'{what} of {guest}, since {key} began')
                print(f'kills: SIGKILL to {self.kills[-1]}', flush=True)


def descendants(pid: int, parents: tuple[int, ...] = ()) -> list[tuple[int, tuple[int, ...]]]:
    found = []
    with suppress(OSError):  # it may end meanwhile
        for task in list(Path(f'/proc/{pid}/task').iterdir()):
            for word in (task / 'children').read_text().split():
                found += [(int(word), (*parents, pid)), *descendants(int(word), (*parents, pid))]
    return found


def read(pid: int, name: str) -> str:
    try:
        return Path(f'/proc/{pid}/{name}').read_bytes().decode('utf-8', 'replace')
    except OSError:
        return ''


def verdicts(folder: Path) -> dict[str, str]:
    table = json.loads((folder / 'results.json').read_text())
    return {f'{c["name"]}[{c["section"]}]': c['verdict'] for c in table['checks']}


def judge(folder: Path, base: Path | None, killer: Killer) -> list[str]:
    """What is wrong."""
    table = json.loads((folder / 'results.json').read_text())
    keys = [f'{c["name"]}[{c["section"]}]' for c in table['checks']]
    attempts = {key: len(check.get('attempts', [])) for key, check in zip(keys, table['checks'], strict=True)}
    hit = [key for key, times in attempts.items() if times]
    print(
        f'kills: {len(killer.kills)} kills, {len(keys)} checks, {len(hit)} of them hit '
        f'({100 * len(hit) / max(1, len(keys)):.1f} %): {" ".join(hit)}'
    )
    wrong = [f'{key}: {count} verdicts' for key, count in Counter(keys).items() if count != 1]
    have = verdicts(folder)
    want = verdicts(base) if base else dict.fromkeys(have, 'pass')
    for key in sorted(set(have) | set(want)):
        one, other = have.get(key), want.get(key)
        if one != other and not (base is None and one == 'notrun'):
            wrong.append(f'{key}: {one}, without kills {other}')
    # What the consoles say began is its verdict or one of its attempts. A kill may come before the first word.
    wrong += [
        f'{key}: began {killer.begun[key]} times, with {times} attempts before its verdict'
        for key, times in attempts.items()
        if not 1 <= killer.begun[key] <= 1 + times
    ]
    if not hit:
        wrong.append('no kill struck a check')
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--share', type=float, default=0.05)
    parser.add_argument('--workers', type=float, default=0.0)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--base', type=Path)
    parser.add_argument('options', nargs='*', metavar='OPTION', help='of vm-test, after --')
    args = parser.parse_args()
    before = {path.name for path in (ROOT / 'results').glob('2*')}
    command = [sys.executable, '-m', 'harness', 'vm-test', *args.options]
    process = subprocess.Popen(command, cwd=ROOT)
    killer = None
    try:
        while process.poll() is None:
            time.sleep(0.05)
            if killer is None:
                for path in sorted((ROOT / 'results').glob('2*')):
                    # Others may use the same checkout: it is the one whose guests we have started.
                    if path.name not in before and any(
                        f'/{path.name}/guests/' in read(pid, 'cmdline') for pid, _ in descendants(process.pid)
                    ):
                        killer = Killer(process.pid, path, random.Random(args.seed), args.share, args.workers)
            else:
                killer.look()
    except KeyboardInterrupt:
        process.wait()
        return 130
    if killer is None:
        print('kills: no guest was started')
        return 3
    wrong = judge(killer.folder, args.base, killer)
    for text in wrong:
        print(f'kills: {text}')
    print(f'kills: vm-test ended with status {process.returncode}; {"FAIL" if wrong else "PASS"}')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
