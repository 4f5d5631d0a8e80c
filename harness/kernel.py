# SPDX-License-Identifier: GPL-2.0-only
"""source -> series -> config -> build in one go: the kernel that a run is about."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness import build, config, image, series, source
from harness.config import ConfigRequest
from harness.errors import LabError, UsageError
from harness.image import KernelImage
from harness.lab import Lab
from harness.source import SourceRequest

TRIES = 3


@dataclass(frozen=True)
class KernelRequest:
    """Either a kernel that is there already, or all that is needed to make one."""

    source: SourceRequest
    config: ConfigRequest
    series: str | None = None  # folder, `none`, or None for the one that fits
    prefix: int | None = None
    kernel: Path | None = None
    mend: bool = True  # leave a tree to go on in when a patch does not apply


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--kernel', type=Path, metavar='PATH', help='boot this bzImage, or the one in this folder; build nothing'
    )
    source.add_options(parser)
    series.add_options(parser)
    config.add_options(parser)


def request_of(lab: Lab, args: argparse.Namespace) -> KernelRequest:
    made = ('kdir', 'source', 'series', 'prefix', 'fragment')
    if args.kernel is not None:
        extra = [f'--{name}' for name in (*made, 'variant') if getattr(args, name)]
        if extra:
            raise UsageError(f'--kernel builds nothing, so it excludes {", ".join(extra)}')
    return KernelRequest(
        source.request_of(args), config.request_of(lab, args), args.series, args.prefix, args.kernel
    )  # fmt: skip


def obtain(lab: Lab, request: KernelRequest) -> KernelImage:
    if request.kernel is not None:
        return image.wrap(lab.runner, request.kernel)
    tree = source.prepare(lab, request.source)
    chosen = series.choose(lab, tree, request.series)
    if request.prefix is not None:
        chosen = chosen.prefix(request.prefix)
    built = build.build(lab, series.apply(lab, tree, chosen, request.mend), request.config)
    return replace(built, provides=chosen.provides)


@contextmanager
def used(lab: Lab, request: KernelRequest) -> Iterator[KernelImage]:
    """The same, and it stays in the cache meanwhile. LabError when another run removes it again and again."""
    for _ in range(TRIES):
        kernel = obtain(lab, request)
        if lab.dry_run or kernel.directory != lab.cache.kernel(kernel.directory.name):
            yield kernel
            return
        with lab.cache.used(kernel.directory.name):
            # It may have gone before it was ours.
            if kernel.image.is_file():
                yield kernel
                return
    raise LabError(f'{kernel.directory} is removed again and again', hint='does another run prune the cache?')
