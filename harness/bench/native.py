# SPDX-License-Identifier: GPL-2.0-only
"""Measured runs on this very machine, with its own kernel. Nothing outside the run's folder is
written but the kernel's switch for the ring, which is put back."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.bench.krpc import DEVICE
from harness.bench.measure import Said
from harness.command import CommandTimeoutError
from harness.errors import LabError
from harness.lab import Lab

log = logging.getLogger(__name__)

PARAMETER = Path('/sys/module/fuse/parameters/enable_uring')
LIMIT = 300.0  # seconds for one measured run
_SIZE = '3g'  # of the memory that files are in


class HostPlace:
    """On the host, in a folder of the run's."""

    in_guest = False

    def __init__(self, lab: Lab, folder: Path) -> None:
        self._lab = lab
        self.work = str(folder)

    def run(self, words: Sequence[str]) -> Said:
        env = {'LAB': str(self._lab.build / 'guest')}
        try:
            done = self._lab.runner.run(words, env=env, timeout=LIMIT, check=False, split=True, stage='native')
        except CommandTimeoutError as error:
            return Said('', error.output, None)
        finally:
            unmount_below(Path(self.work))
        return Said(done.stdout, done.stderr, done.status)

    def has_ring(self) -> bool:
        return PARAMETER.exists()

    def has_krpc(self) -> bool:
        return Path(DEVICE).exists()


@contextmanager
def place(lab: Lab, folder: Path) -> Iterator[HostPlace]:
    """A place to measure in; afterwards the machine is as it was. LabError where that cannot be."""
    if os.geteuid() != 0:
        raise LabError('native figures need root', hint='they mount; leave NATIVE= out, or run as root')
    if not PARAMETER.exists():
        raise LabError(f"this machine's kernel has no FUSE over io_uring ({PARAMETER})", hint='leave NATIVE= out')
    for program in ('mount', 'umount'):
        if shutil.which(program) is None:
            raise LabError(f'{program} is not installed', hint='apt-get install mount')
    work = folder.resolve()
    work.mkdir(parents=True, exist_ok=True)
    with _switched_on():
        try:
            lab.runner.run(['mount', '-t', 'tmpfs', '-o', f'size={_SIZE},mode=700', 'fuse-lab', work], stage='native')
            yield HostPlace(lab, work / 'bench')
        finally:
            unmount_below(work)
            with suppress(OSError):
                work.rmdir()


@contextmanager
def _switched_on() -> Iterator[None]:
    before = PARAMETER.read_text(encoding='ascii').strip()
    try:
        if before != 'Y':
            _switch('Y')
        yield
    finally:
        if before != 'Y':
            _switch(before)


def _switch(value: str) -> None:
    try:
        PARAMETER.write_text(f'{value}\n', encoding='ascii')
    except OSError as error:
        raise LabError(f'cannot write {value} to {PARAMETER}', str(error)) from error


def unmount_below(folder: Path) -> None:
    """Nothing stays mounted on the folder or below it, whatever has happened."""
    for target in reversed(mounts_below(folder, _mountinfo())):
        done = subprocess.run(['umount', '-l', target], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            log.warning('cannot unmount %s: %s', target, done.stderr.strip())


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points in the order in which they were made."""
    targets = [line.split()[4] for line in mountinfo.splitlines() if len(line.split()) > 4]
    return [target for target in targets if target == str(folder) or target.startswith(f'{folder}/')]


def _mountinfo() -> str:
    return Path('/proc/self/mountinfo').read_text(encoding='utf-8', errors='surrogateescape')
