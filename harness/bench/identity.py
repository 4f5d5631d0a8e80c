# SPDX-License-Identifier: GPL-2.0-only
"""What has to be the same for two figures to be comparable, and who we are."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import build
from harness.bench.rows import Measure
from harness.errors import LabError
from harness.lab import Lab

# Options that name the tools or belong to what is measured.
_NO_MATTER = re.compile(r'CONFIG_(?:CC_|GCC_|CLANG_|AS_|LD_|RUSTC_|PAHOLE_|LOCALVERSION|FUSE_|VIRTIO_FS\b)')


@dataclass(frozen=True)
class Identity:
    """Of one run. Empty: unknown."""

    accelerator: str  # of throughput: kvm or tcg; cost is always counted by tcg
    cpu: str  # of the host
    cpus: int  # of the host
    machine: str  # digest of the host's own id
    host_kernel: str
    guest_cpus: int  # of throughput; cost always has one
    guest_cpu: str  # model and digest of its flags, of the counting guest
    qemu: str
    compiler: str  # what made kernel, server and load
    fsload: str  # digest of its source
    config: str  # digest of the kernel's options, without those that do not matter
    variant: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# What counts for which measure. A deterministic cost does not know how fast the host is.
_RELEVANT = {
    Measure.COST: ('guest_cpu', 'qemu', 'compiler', 'fsload', 'config'),
    Measure.THROUGHPUT: ('accelerator', 'machine', 'cpu', 'cpus', 'guest_cpus', 'qemu', 'config'),
    Measure.EXPORT: ('accelerator', 'machine', 'cpu', 'cpus', 'guest_cpus', 'qemu', 'config'),
    Measure.KRPC: ('accelerator', 'machine', 'cpu', 'cpus', 'guest_cpus', 'qemu', 'config'),
    Measure.NATIVE: ('machine', 'cpu', 'cpus', 'host_kernel'),
}


def from_dict(raw: Mapping[str, Any]) -> Identity:
    """LabError when something is missing: a run of another format."""
    try:
        return Identity(**{name: raw[name] for name in Identity.__dataclass_fields__})
    except KeyError as error:
        raise LabError(f'the run does not say what its {error.args[0]} was') from error


def differences(measure: Measure, new: Identity, old: Identity) -> list[str]:
    """Why figures of this measure cannot be compared; empty when they can."""
    found = []
    for name in _RELEVANT[measure]:
        a, b = getattr(new, name), getattr(old, name)
        if a != b:
            found.append(f'{name.replace("_", " ")}: {_short(a)} here, {_short(b)} there')
    return found


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if re.fullmatch(r'[0-9a-f]{40,}', text) else text or 'unknown'


def relevant_options(config: str) -> dict[str, str]:
    """Options of a .config that make figures incomparable when they differ."""
    found = re.findall(r'^(CONFIG_\w+)=(.*)$', config, re.MULTILINE)
    return {name: value for name, value in found if not _NO_MATTER.match(name)}


def config_digest(config: str) -> str:
    if not config:
        return ''
    lines = ''.join(f'{name}={value}\n' for name, value in sorted(relevant_options(config).items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def config_differences(new: str, old: str) -> list[str]:
    a, b = relevant_options(new), relevant_options(old)
    names = sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))
    return [f'{name}: {a.get(name, "n")} here, {b.get(name, "n")} there' for name in names]


def of_host(lab: Lab) -> dict[str, Any]:
    """The parts that need no guest."""
    lines = _read('/proc/cpuinfo').splitlines()
    cpu = next((line.partition(':')[2].strip() for line in lines if line.startswith('model name')), '')
    own = _read('/etc/machine-id').strip() or _read('/sys/class/dmi/id/product_uuid').strip()
    return {
        'cpu': cpu,
        'cpus': len(os.sched_getaffinity(0)),
        'machine': hashlib.sha256(own.encode()).hexdigest() if own else '',
        'host_kernel': platform.release(),
        'qemu': lab.runner.query(['qemu-system-x86_64', '--version']).splitlines()[0],
        'compiler': build.compiler(lab),
        'fsload': source_digest(lab.root / 'vm' / 'bench'),
    }


def source_digest(folder: Path) -> str:
    """Of a program's source: the program itself differs by the folder that it was built in."""
    whole = hashlib.sha256()
    for path in sorted(folder.glob('*.[ch]')):
        whole.update(f'{path.name}\n'.encode() + path.read_bytes())
    return whole.hexdigest()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding='utf-8', errors='replace')
    except OSError:
        return ''
