# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator works here, proved by a guest that gets somewhere.

That /dev/kvm is there and opens proves nothing: there are hosts on which a guest then stops
after the BIOS without a word (nested, or with the instructions filtered).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import platform
import subprocess
from pathlib import Path

from harness.boot import TCG, Accelerator, BootError, GuestSpec, boot
from harness.cache import Cache
from harness.command import missing_program
from harness.errors import LabError, UsageError
from harness.image import KernelImage
from harness.memo import Memo

log = logging.getLogger(__name__)

KVM = Accelerator('kvm')
DEVICE = Path('/dev/kvm')
# With KVM the first line comes after half a second. Scales boot's limit of silence to 7 s.
PROBE_FACTOR = 1.0


def choose(kernel: KernelImage, cache: Cache, directory: Path, wanted: str = 'auto') -> Accelerator:
    """The accelerator to use; boots a guest to find out, unless that is remembered."""
    if wanted == 'tcg':
        return Accelerator('tcg', 'asked for')
    if wanted not in ('auto', 'kvm'):
        raise UsageError(f'unknown accelerator {wanted!r}: auto, kvm or tcg')
    found = _find(kernel, cache, directory)
    if found.name != 'kvm':
        if wanted == 'kvm':
            raise LabError(f'KVM was asked for and does not work here: {found.reason}')
        log.warning('guests are emulated (TCG): %s', found.reason)
    return found


def _find(kernel: KernelImage, cache: Cache, directory: Path) -> Accelerator:
    if not DEVICE.exists():
        return Accelerator('tcg', f'there is no {DEVICE}')
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Accelerator('tcg', f'{DEVICE} does not open: {error.strerror}')
    memo = Memo(cache, 'accelerator')
    key = host_key()
    known = memo.get(key)
    if isinstance(known, dict) and known.get('name') in ('kvm', 'tcg'):
        return Accelerator(known['name'], str(known.get('reason', '')))
    log.info('accelerator: probing %s with a guest', DEVICE)
    found, sure = probe(kernel, directory)
    if sure:
        memo.put({key: {'name': found.name, 'reason': found.reason}})
    return found


def probe(kernel: KernelImage, directory: Path) -> tuple[Accelerator, bool]:
    """Boot with KVM and see. The second value says whether the answer is about the host alone."""
    spec = GuestSpec(kernel, directory, KVM, cpus=2, factor=PROBE_FACTOR)
    try:
        boot(spec).machine.stop()
    except BootError as error:
        if error.kernel_ran:
            # Got as far as the kernel's own lines: whatever ails it, it is not the accelerator.
            return KVM, False
        reason = f'{DEVICE} opens, but a guest hangs with it before its first line'
        if confirm(kernel, directory):
            return Accelerator('tcg', reason), True
        return Accelerator('tcg', 'this kernel does not start with KVM nor without'), False
    except LabError as error:
        line = (error.detail.strip().splitlines() or [''])[-1]
        return Accelerator('tcg', f'QEMU does not start with {DEVICE}: {line}'), True
    return KVM, True


def confirm(kernel: KernelImage, directory: Path) -> bool:
    """Whether the same guest says anything without KVM; if not, the kernel is to blame."""
    try:
        boot(GuestSpec(kernel, directory / 'without', TCG, cpus=2, factor=5.0)).machine.stop()
    except BootError as error:
        return error.kernel_ran
    except LabError:
        return False
    return True


def host_key() -> str:
    """Changes when the answer may: other kernel, QEMU, device or boot of the host."""
    try:
        qemu = subprocess.run(
            ['qemu-system-x86_64', '--version'], capture_output=True, text=True, check=False, timeout=20
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise missing_program('qemu-system-x86_64') from error
    stat = DEVICE.stat()
    boot_id = Path('/proc/sys/kernel/random/boot_id')
    facts = [
        platform.release(),
        platform.version(),
        qemu.split('\n')[0],
        [stat.st_rdev, stat.st_ino, stat.st_dev, stat.st_mode],
        boot_id.read_text(encoding='ascii').strip() if boot_id.exists() else '',
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option that every stage with a guest has."""
    parser.add_argument(
        '--accel', choices=('auto', 'kvm', 'tcg'), default='auto', help='default: what a probe boot proves'
    )
