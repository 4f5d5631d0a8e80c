# SPDX-License-Identifier: GPL-2.0-only
"""Stage `build`: a kernel from a patched tree and a configuration, out of tree.

Two caches stand behind it. A finished kernel is found by a key over everything that went into it.
A build folder is kept for each line of sources and variant, so that make builds only what an edit
touches: the checkout there rewrites only files that differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness import config, coverage, series, source
from harness.command import Completed, disk_full
from harness.config import ConfigRequest, KernelConfig
from harness.errors import BuildError, LabError
from harness.gitstore import GitStore
from harness.image import KernelImage, build_id_of, load
from harness.lab import Lab
from harness.series import PatchedTree

log = logging.getLogger(__name__)

# Raised when the way of building changes so that a kernel in the cache is no longer what we'd make.
_FORMAT = 1
_NEEDED_BYTES = 3 * 2**30  # checkout and objects of a first build
_FIXED = ('KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970', 'KBUILD_BUILD_USER=fuse-lab',
          'KBUILD_BUILD_HOST=fuse-lab', 'KBUILD_BUILD_VERSION=1')  # fmt: skip
_ERROR_LINE = re.compile(
    r'(?:^|: )(?:fatal )?error: |undefined reference to|multiple definition of|ERROR: modpost|^\*\*\* '
    r'|No rule to make target'
)
_LOCATION = re.compile(r'^(\S+?\.(?:c|h|S|rs|rst|lds))[:(](\d+)')


@dataclass(frozen=True)
class WorkFolder:
    """Where a kernel is built; belongs to whoever holds its lock."""

    root: Path

    @property
    def src(self) -> Path:
        return self.root / 'src'

    @property
    def build(self) -> Path:
        return self.root / 'build'

    @property
    def canary(self) -> Path:
        return self.root / 'canary'

    @property
    def notes(self) -> Path:
        return self.root / 'coverage'

    @property
    def index(self) -> Path:
        return self.root / 'index'


def local_version(patched: PatchedTree) -> str:
    """What `uname -r` ends with, so that a guest can tell which series it runs."""
    return f'-fl-{patched.series.digest[:12]}'


def work_key(patched: PatchedTree, wanted: ConfigRequest) -> str:
    line = hashlib.sha256(patched.base.line.encode()).hexdigest()[:10]
    return f'{patched.base.series_version}-{line}' + (f'-{wanted.variant.replace(",", "+")}' if wanted.variant else '')


def compiler(lab: Lab) -> str:
    """Compiler and linker, as far as they change what comes out."""
    return ', '.join(lab.runner.query([tool, '--version']).splitlines()[0] for tool in ('gcc', 'ld'))


def kernel_key(lab: Lab, patched: PatchedTree, wanted: ConfigRequest) -> str:
    parts: dict[str, object] = {
        'format': _FORMAT,
        'tree': GitStore(patched.base.path, lab.runner).tree_of(patched.commit) if not lab.dry_run else patched.commit,
        'series': patched.series.digest,
        'config': wanted.digest,
        'compiler': compiler(lab),
        'canary': _canary_digest(lab),
    }
    if extra := coverage.make_variables(wanted):
        parts['variables'] = extra  # not always: that would give all kernels of the cache another key
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]


def build(lab: Lab, patched: PatchedTree, wanted: ConfigRequest) -> KernelImage:
    """The kernel of a patched tree: from the cache, or built now."""
    key = kernel_key(lab, patched, wanted)
    finished = lab.cache.kernel(key)
    if not lab.dry_run and (known := _cached(lab, finished)) is not None:
        return known
    name = work_key(patched, wanted)
    work = WorkFolder(lab.cache.work(name))
    if lab.dry_run:
        return _build(lab, patched, wanted, work, key)
    with lab.cache.lock(f'work-{name}', f'building {patched.base.version}{local_version(patched)}'):
        # Another run may have built the very same while we waited.
        if (known := _cached(lab, finished)) is not None:
            return known
        _room_for(work)
        lab.cache.touch(work.root)
        image = _build(lab, patched, wanted, work, key)
        lab.cache.touch(work.root)
    for gone in lab.cache.prune():
        log.info('removed from the cache: %s', gone)
    return image


def configure(lab: Lab, patched: PatchedTree, wanted: ConfigRequest) -> KernelConfig:
    """Only check out and configure."""
    name = work_key(patched, wanted)
    work = WorkFolder(lab.cache.work(name))
    if lab.dry_run:
        return _configured(lab, patched, wanted, work)
    with lab.cache.lock(f'work-{name}', f'configuring {patched.base.version}'):
        _room_for(work)
        return _configured(lab, patched, wanted, work)


def _configured(lab: Lab, patched: PatchedTree, wanted: ConfigRequest, work: WorkFolder) -> KernelConfig:
    with lab.clock.stage('checkout'):
        GitStore(patched.base.path, lab.runner).checkout(patched.commit, work.src, work.index, stage='checkout')
    return config.configure(lab, wanted, work.src, work.build)


def _build(lab: Lab, patched: PatchedTree, wanted: ConfigRequest, work: WorkFolder, key: str) -> KernelImage:
    made = _configured(lab, patched, wanted, work)
    with lab.clock.stage('build'):
        log.info('building %s%s', patched.base.version, local_version(patched))
        _make(lab, patched, wanted, work)
        canary = _build_canary(lab, work)
        if lab.dry_run:
            return KernelImage(image=work.build / 'arch/x86/boot/bzImage', directory=work.build, key=key)
        notes = _build_notes(lab, patched, wanted, work)
        return _publish(lab, patched, made, work, key, canary, notes)


def _cached(lab: Lab, folder: Path) -> KernelImage | None:
    if not folder.is_dir():
        return None
    lab.cache.touch(folder)
    image = load(folder)
    log.info('kernel %s is in the cache', image.release)
    return image


def _room_for(work: WorkFolder) -> None:
    if work.src.is_dir():
        return
    work.root.mkdir(parents=True, exist_ok=True)
    stat = os.statvfs(work.root)
    if stat.f_bavail * stat.f_frsize < _NEEDED_BYTES:
        raise disk_full([work.root], f'a first build needs {_NEEDED_BYTES / 2**30:.0f} GiB')


# --- make ----------------------------------------------------------------------------------------


def _variables(patched: PatchedTree, work: WorkFolder) -> list[str]:
    # Names in the debug information are relative to the source tree, so that traces read
    # `fs/fuse/dev.c:1` and not the path of somebody's cache.
    flags = f'-fdebug-prefix-map={work.src}/=./ -fdebug-prefix-map={work.build}=.'
    return [f'LOCALVERSION={local_version(patched)}', *_FIXED, f'KCFLAGS={flags}', f'KAFLAGS={flags}']


def _make(lab: Lab, patched: PatchedTree, wanted: ConfigRequest, work: WorkFolder) -> None:
    quiet = [] if lab.runner.verbose else ['-s']
    variables = (*_variables(patched, work), *coverage.make_variables(wanted))
    argv = config.make_argv(work.src, work.build, *quiet, f'-j{lab.jobs}', *variables, 'bzImage', 'modules')
    done = lab.runner.run(argv, stage='build', check=False)
    warnings = [line for line in done.output.splitlines() if ': warning: ' in line]
    for line in warnings[:10]:
        log.warning('%s', _short(line, work))
    if done.status != 0:
        raise _judge(lab, patched, work, done)


def _judge(lab: Lab, patched: PatchedTree, work: WorkFolder, done: Completed) -> BuildError | LabError:
    lab.runner.require_tools(done)
    if re.search(r'Killed signal terminated program|virtual memory exhausted|Cannot allocate memory', done.output):
        return LabError('not enough memory to build', done.tail(5), 'build with fewer jobs: --jobs 1')
    lines = [_short(line, work) for line in done.output.splitlines()]
    errors = [line for line in lines if _ERROR_LINE.search(line)][:8]
    places = {(match[1], int(match[2])) for line in errors if (match := _LOCATION.match(line))}
    blame = [_blame(lab, patched, path, line) for path, line in sorted(places)]
    where = f'the whole output is in {done.log}' if done.log else 'run with -v to see all of the output'
    first = errors[0] if errors else 'make failed'
    return BuildError(f'does not build: {first}', '\n'.join([*(errors or [done.tail()]), *blame]), where)


def _blame(lab: Lab, patched: PatchedTree, path: str, line: int) -> str:
    patch = series.introducing(lab, patched, path, line)
    if patch is not None:
        return f'{path}:{line} came with {patch}'
    patches = series.touching(lab, patched, path)
    touched = f'the file is touched by {", ".join(patches)}' if patches else 'no patch touches the file'
    return f"{path}:{line} is the base tree's; {touched}"


def _short(line: str, work: WorkFolder) -> str:
    return line.replace(f'{work.src}/', '').replace(f'{work.build}/', '')


# --- the canary module ---------------------------------------------------------------------------


def _canary_files(lab: Lab) -> list[Path]:
    folder = lab.root / 'vm' / 'canary'
    if not (folder / 'Kbuild').is_file() and not (folder / 'Makefile').is_file():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix in ('.c', '.h') or path.name in ('Kbuild', 'Makefile')
    )


def _canary_digest(lab: Lab) -> str:
    text = hashlib.sha256()
    for path in _canary_files(lab):
        text.update(path.name.encode() + b'\0' + path.read_bytes())
    return text.hexdigest()


def _build_canary(lab: Lab, work: WorkFolder) -> Path | None:
    """Built from a copy: kbuild writes beside a module's sources."""
    files = _canary_files(lab)
    if not files:
        return None
    if not lab.dry_run:
        work.canary.mkdir(parents=True, exist_ok=True)
        for path in files:
            target = work.canary / path.name
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                shutil.copyfile(path, target)
    flags = f'-fdebug-prefix-map={work.canary}/=./ -fdebug-prefix-map={work.build}=.'
    argv = config.make_argv(
        work.src, work.build, '-s', f'-j{lab.jobs}', f'M={work.canary}', f'KCFLAGS={flags}', 'modules'
    )  # fmt: skip
    done = lab.runner.run(argv, stage='build', check=False)
    module = work.canary / 'canary.ko'
    if done.status != 0 or (not lab.dry_run and not module.is_file()):
        lab.runner.require_tools(done)
        # The kernel itself did build: the harness's module does not fit it.
        raise LabError('the canary module does not build against this kernel', done.tail())
    return module


def _build_notes(lab: Lab, patched: PatchedTree, wanted: ConfigRequest, work: WorkFolder) -> Path | None:
    """What maps this kernel's counts to the series; None when it does not count."""
    if lab.dry_run or not coverage.counts(wanted):
        return None
    coverage.take_notes(lab, patched, work.build, work.notes)
    return work.notes


# --- result --------------------------------------------------------------------------------------


def _publish(
    lab: Lab,
    patched: PatchedTree,
    made: KernelConfig,
    work: WorkFolder,
    key: str,
    canary: Path | None,
    notes: Path | None,
) -> KernelImage:
    final = lab.cache.kernel(key)

    def fill(folder: Path) -> None:
        for path in (work.build / 'arch/x86/boot/bzImage', work.build / 'vmlinux', work.build / '.config', canary):
            if path is not None:
                shutil.copy2(path, folder / path.name)
        if notes is not None:
            shutil.copytree(notes, folder / notes.name)
        image = KernelImage(
            image=folder / 'bzImage',
            directory=folder,
            key=key,
            vmlinux=folder / 'vmlinux',
            config=folder / '.config',
            modules=(folder / 'canary.ko',) if canary is not None else (),
            release=(work.build / 'include/config/kernel.release').read_text(encoding='utf-8').strip(),
            build_id=build_id_of(lab.runner, work.build / 'vmlinux'),
            series_digest=patched.series.digest,
            series_patches=patched.series.names,
            source_id=patched.base.source_id,
            source_origin=patched.base.origin,
            variant=made.variant,
            compiler=compiler(lab),
            coverage=folder / notes.name if notes is not None else None,
        )
        image.save()

    lab.cache.publish(final, fill)
    return load(final)


# --- sub-commands --------------------------------------------------------------------------------


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (('config', 'configure the patched tree, and check that no option was lost'),
                       ('build', 'build the patched kernel')):  # fmt: skip
        parser = subparsers.add_parser(name, help=text)
        source.add_options(parser)
        series.add_options(parser)
        config.add_options(parser)
        parser.set_defaults(func=_config_command if name == 'config' else _build_command)


def _patched(args: argparse.Namespace, lab: Lab) -> PatchedTree:
    tree = source.prepare(lab, source.request_of(args))
    return series.apply(lab, tree, series.selected(lab, tree, args))


def _config_command(args: argparse.Namespace, lab: Lab) -> str:
    wanted = config.request_of(lab, args)
    made = configure(lab, _patched(args, lab), wanted)
    return f'config   {made.path}\ndigest   {made.digest}\noptions  {len(wanted.wishes)} asked for, none lost'


def _build_command(args: argparse.Namespace, lab: Lab) -> str:
    wanted = config.request_of(lab, args)
    return build(lab, _patched(args, lab), wanted).describe()
