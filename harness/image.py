# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that can be booted: built here, or brought by the user (KERNEL=)."""

from __future__ import annotations

import json
import re
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.command import Runner
from harness.errors import LabError, UsageError

_RECORD = 'image.json'


@dataclass(frozen=True)
class KernelImage:
    """What is unknown of a kernel brought from outside is None."""

    image: Path  # bzImage
    directory: Path
    key: str | None = None  # in the cache
    vmlinux: Path | None = None
    config: Path | None = None
    modules: tuple[Path, ...] = ()  # canary.ko
    release: str | None = None  # what uname -r must say
    build_id: str | None = None  # what /sys/kernel/notes must say
    series_digest: str | None = None  # `stock`: built here without a series
    series_patches: tuple[str, ...] = ()
    source_id: str | None = None
    source_origin: str | None = None
    variant: str = ''
    compiler: str | None = None
    coverage: Path | None = None  # folder with what maps its line counts to the series, if it counts lines
    provides: frozenset[str] = frozenset()  # what its series promises; series.FEATURES

    def save(self) -> None:
        """Record it beside the image. Paths are kept as names: the folder is renamed when finished."""
        record = asdict(self)
        for name in ('image', 'vmlinux', 'config', 'coverage'):
            record[name] = record[name] and record[name].name
        if record['coverage'] is None:
            # Another checkout, which knows nothing of this, may use the same cache.
            del record['coverage']
        record['modules'] = [path.name for path in self.modules]
        # Promises are the series folder's, not the image's: they may change while the patches do not.
        del record['directory'], record['provides']
        (self.directory / _RECORD).write_text(json.dumps(record, indent=1) + '\n', encoding='utf-8')

    def describe(self) -> str:
        lines = [f'image     {self.image}']
        for name in ('vmlinux', 'release', 'build_id', 'series_digest', 'variant'):
            if value := getattr(self, name):
                lines.append(f'{name:9} {value}')
        return '\n'.join(lines)


def load(folder: Path) -> KernelImage:
    """A kernel recorded by `save`."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding='utf-8'))
        for name in ('image', 'vmlinux', 'config', 'coverage'):
            record[name] = folder / record[name] if record.get(name) else None
        record['modules'] = tuple(folder / name for name in record['modules'])
        record['series_patches'] = tuple(record['series_patches'])
        kernel = KernelImage(directory=folder, **record)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LabError(f'{folder} is damaged', str(error), f'remove it and build again: rm -r {folder}') from error
    missing = [
        path for path in (kernel.image, kernel.vmlinux, kernel.config, *kernel.modules) if path and not path.is_file()
    ]
    if kernel.coverage and not kernel.coverage.is_dir():
        missing.append(kernel.coverage)
    if missing:
        raise LabError(f'{folder} is damaged', f'missing: {missing[0]}', f'remove it and build again: rm -r {folder}')
    return kernel


def wrap(runner: Runner, path: Path) -> KernelImage:
    """A kernel of the user's: a bzImage, or a folder with one (a build folder will do)."""
    path = path.expanduser().absolute()
    if not path.exists():
        raise UsageError(f'KERNEL={path}: no such file', hint='KERNEL= takes a bzImage or a folder that holds one')
    if path.is_file():
        return KernelImage(image=path, directory=path.parent, release=release_of(path))
    if (path / _RECORD).is_file():
        return load(path)
    image = _first(path, 'bzImage', 'arch/x86/boot/bzImage', 'vmlinuz')
    if image is None:
        raise UsageError(f'KERNEL={path}: no bzImage in this folder', hint='neither bzImage nor arch/x86/boot/bzImage')
    vmlinux = _first(path, 'vmlinux')
    canary = _first(path, 'canary.ko')
    return KernelImage(
        image=image,
        directory=path,
        vmlinux=vmlinux,
        config=_first(path, '.config', 'config'),
        modules=(canary,) if canary else (),
        release=release_of(image),
        build_id=build_id_of(runner, vmlinux) if vmlinux else None,
    )


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def release_of(image: Path) -> str:
    """The release that an x86 bzImage names in its header (Documentation/arch/x86/boot.rst)."""
    with image.open('rb') as file:
        data = file.read(0x10000)
    if len(data) < 0x210 or data[0x202:0x206] != b'HdrS':
        raise UsageError(f'{image} is not an x86 bzImage')
    (offset,) = struct.unpack_from('<H', data, 0x20E)
    text = data[offset + 0x200 :].split(b'\0', 1)[0].decode('ascii', 'replace')
    return text.split(' ', 1)[0]


def build_id_of(runner: Runner, vmlinux: Path) -> str | None:
    match = re.search(r'Build ID: ([0-9a-f]+)', runner.query(['readelf', '-n', vmlinux], check=False))
    return match[1] if match else None
