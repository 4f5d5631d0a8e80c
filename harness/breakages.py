# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `breakages`: the series broken on purpose, to show that the checks notice.

Each patch in tests/breakages goes on top of the series. Its lines `Caught-by: AREA/NNN` name checks,
which have to fail on the kernel that comes out (fail, crash or hang; not `notrun`). A line `Section: dev`
is for checks that are of that section only.
"""

from __future__ import annotations

import argparse
import logging
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness import series, source
from harness.errors import UsageError, VerdictError
from harness.formats.summary import state
from harness.lab import Lab
from harness.subrun import run_checks
from harness.verdict import State

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Breakage:
    name: str
    path: Path
    what: str
    checks: tuple[str, ...]  # AREA/NNN that have to notice
    section: str  # in which


def load(directory: Path, wanted: list[str]) -> list[Breakage]:
    found = [_parse(path) for path in sorted(directory.glob('*.patch'))]
    unknown = set(wanted) - {breakage.name for breakage in found}
    if unknown:
        names = ', '.join(breakage.name for breakage in found)
        raise UsageError(f'no such breakage: {", ".join(sorted(unknown))}', hint=f'there are {names}')
    return [breakage for breakage in found if not wanted or breakage.name in wanted]


def _parse(path: Path) -> Breakage:
    text = path.read_text(encoding='utf-8')
    subject = re.search(r'^Subject: \[PATCH\] broken: (.+)$', text, re.MULTILINE)
    checks = tuple(re.findall(r'^Caught-by: ([a-z]+/\d{3})$', text, re.MULTILINE))
    if not subject or not checks:
        raise UsageError(f'{path}: needs a subject "[PATCH] broken: ..." and lines "Caught-by: AREA/NNN"')
    section = re.search(r'^Section: (dev|uring)$', text, re.MULTILINE)
    return Breakage(path.stem, path, subject[1], checks, section[1] if section else 'uring')


def try_one(lab: Lab, whole: series.PatchSeries, breakage: Breakage, words: list[str]) -> dict[str, tuple[str, State]]:
    """What came of each of its checks on the kernel broken in this way: verdict, and what that means."""
    with tempfile.TemporaryDirectory(prefix='fuse-lab-breakage-') as temporary:
        folder = Path(temporary)
        for patch in (*(patch.path for patch in whole.patches), breakage.path):
            shutil.copy(patch, folder)
        (folder / 'series').write_text('\n'.join((*whole.names, breakage.path.name)) + '\n', encoding='utf-8')
        named = [word for name in breakage.checks for word in ('--check', name)]
        _, table = run_checks(
            lab, ['--series', str(folder), '--section', breakage.section, *words, *named], 'breakages'
        )
    return {check['name']: (check['verdict'], state(check)) for check in table['checks']}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('breakages', help='break the series on purpose: do the checks notice?')
    parser.add_argument('names', nargs='*', metavar='NAME', help='a file of tests/breakages (default: all)')
    parser.add_argument('--cpus', type=int, default=2, metavar='N', help='virtual CPUs of a guest (default 2)')
    source.add_options(parser)
    series.add_options(parser)
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    request = source.request_of(args)
    tree = source.prepare(lab, request)
    whole = series.selected(lab, tree, args)
    if not whole.patches:
        raise UsageError('there is no series to break')
    words = ['--cpus', str(args.cpus)]
    for option in ('kdir', 'source'):
        if getattr(args, option):
            words += [f'--{option}', str(getattr(args, option))]
    lines: list[str] = []
    missed: list[str] = []
    for breakage in load(lab.root / 'tests' / 'breakages', args.names):
        log.info('%s: %s', breakage.name, breakage.what)
        found = try_one(lab, whole, breakage, words)
        said = ', '.join(f'{name} {found[name][0] if name in found else "did not run"}' for name in breakage.checks)
        log.info('    %s', said)
        lines.append(f'{breakage.name}: {said}')
        caught = {name for name, (_, its_state) in found.items() if its_state is State.BAD}
        missed += [f'{breakage.name} by {name}' for name in breakage.checks if name not in caught]
    if missed and not lab.dry_run:
        raise VerdictError(f'not caught: {", ".join(missed)}', detail='\n'.join(lines))
    return '\n'.join(lines)
