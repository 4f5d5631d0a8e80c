# SPDX-License-Identifier: GPL-2.0-only
"""Stage `mount`: servers, probes and checks into a running guest, and the guest set up for them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

from harness.errors import LabError, VerdictError
from harness.guest import Guest
from harness.lab import Lab

LAB_DIR = '/lab'
# Seconds at unit speed until a blocked task counts as hung; below a check's own time-out, so that
# the kernel gets to say where it hangs.
HUNG_TASK = 10


@dataclass(frozen=True)
class Bundle:
    """What is copied into the guest: files and folders with their names below /lab."""

    sources: tuple[tuple[Path, str], ...]
    setup: tuple[str, ...] = ('guest/setup',)  # programs of it that make the guest ready

    def digest(self) -> str:
        """Of the server and all else but the checks, as they are now; empty when some of it is gone."""
        total = hashlib.sha256()
        try:
            for path, name in self.sources:
                for file in sorted(path.rglob('*')) if path.is_dir() else [path]:
                    if name != 'checks' and file.is_file():
                        content = hashlib.sha256(file.read_bytes()).hexdigest()
                        total.update(f'{name} {file.relative_to(path)} {content}\n'.encode())
        except OSError:
            return ''
        return total.hexdigest()


def build_bundle(lab: Lab, checks: Path | None = None) -> Bundle:
    """Build the guest's programs and list all that the guest needs."""
    out = lab.build / 'guest' / 'bin'
    if not lab.dry_run:
        out.parent.mkdir(parents=True, exist_ok=True)
    with lab.clock.stage('guest programs'), lab.cache.lock(f'guest-bin-{_name(lab)}', 'building the guest programs'):
        lab.runner.run(
            ['make', '-s', '-C', str(lab.root / 'vm'), f'-j{lab.jobs}', f'OUT={out}'], stage='guest', timeout=900
        )
    programs = sorted(path for path in out.iterdir() if path.is_file()) if out.is_dir() else []
    # vm/guest/init has put busybox there: it is what the copying itself runs on.
    sources = [(path, f'bin/{path.name}') for path in programs if path.name != 'busybox']
    guest = lab.root / 'vm' / 'guest'
    sources += [(path, f'guest/{path.name}') for path in sorted(guest.iterdir()) if path.name != 'init']
    folder = checks or lab.root / 'tests' / 'checks'
    if folder.is_dir():
        sources.append((folder, 'checks'))
    return Bundle(tuple(sources))


def mount(guest: Guest, bundle: Bundle, factor: float) -> None:
    """Copy the bundle and run its set-up; no result counts before the guest is attested."""
    guest.put_tree(bundle.sources, LAB_DIR)
    guest.attest()
    hung = max(1, math.ceil(HUNG_TASK * factor))
    setup = ' && '.join(f'{LAB_DIR}/{name}' for name in bundle.setup)
    script = f'f=/proc/sys/kernel/hung_task_timeout_secs; [ ! -e $f ] || echo {hung} >$f; {setup}'
    done = guest.run(script, 30 * factor)
    if done.status != 0:
        text = (done.stdout + done.stderr).decode('utf-8', 'replace').strip()
        reason = text.splitlines()[-1] if text else 'no reason given'
        if 'has no FUSE' in reason:
            raise VerdictError(f'the kernel cannot be checked: {reason}', text)
        raise LabError(f'the guest cannot be set up: {reason}', text, f'console log: {guest.machine.log}')


def _name(lab: Lab) -> str:
    # One lock for each checkout of the repository, not for all of them.
    return f'{lab.root.stat().st_dev:x}-{lab.root.stat().st_ino:x}'
