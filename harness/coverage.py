# SPDX-License-Identifier: GPL-2.0-only
"""Which of the lines that the series adds were executed: gcov's counts, mapped to the patches.

A kernel whose configuration has GCOV_KERNEL (VARIANT=gcov) counts in fs/fuse. Beside it the cache
keeps gcov's notes and the lines that each patch added, as of the build: a series edited since then
confuses nobody. Each guest's counts are taken out of it before it ends; a run adds them up.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import re
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import results
from harness.command import Runner
from harness.config import ConfigRequest
from harness.errors import HarnessError, LabError, UsageError
from harness.gitstore import GitStore
from harness.guest import Guest
from harness.image import KernelImage
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.series import PatchedTree

log = logging.getLogger(__name__)

COUNTED = 'fs/fuse'  # the folder of the tree whose lines are counted
# Without gcc's early passes: they would merge `err = -EIO; goto out` into its neighbours before
# the counters are put in, and just the lines that handle errors would not be listed at all. What
# is inlined afterwards brings its counters along. Atomic: counts that get lost on the way would
# make gcov infer wrong ones for other lines.
_FLAGS = (
    '-fprofile-arcs -ftest-coverage -fprofile-update=atomic -fno-tree-loop-im -fno-early-inlining '
    '-fdisable-tree-early_optimizations'
)
DUMP = '/lab/guest/gcov-dump'
DUMP_LIMIT = 30.0  # seconds at unit speed

_ADDED = 'added.json'
_NOTES = 'coverage-notes'  # folder of a run
_COUNTS = 'coverage'  # folder of a guest
_LOST = 'coverage.lost'  # in its place: why there are none

Place = tuple[str, int]  # file and line


@dataclass(frozen=True)
class AddedLine:
    """A line of the patched tree that came with a patch."""

    file: str
    line: int
    patch: str
    text: str


@dataclass(frozen=True)
class PatchCoverage:
    name: str
    lines: int  # that have code
    covered: int


@dataclass(frozen=True)
class Coverage:
    """What one run, or several, executed of the series."""

    patches: tuple[PatchCoverage, ...]
    uncovered: tuple[AddedLine, ...]
    guests: int = 0  # whose counts are in it
    lost: tuple[str, ...] = ()  # guests whose counts are not, and why

    @property
    def lines(self) -> int:
        return sum(patch.lines for patch in self.patches)

    @property
    def covered(self) -> int:
        return sum(patch.covered for patch in self.patches)

    def as_dict(self) -> dict[str, Any]:
        """For results.json."""
        return {
            'lines': self.lines,
            'covered': self.covered,
            'percent': percent(self.covered, self.lines),
            'patches': [
                {**asdict(patch), 'percent': percent(patch.covered, patch.lines)} for patch in self.patches
            ],
            'uncovered': [asdict(line) for line in self.uncovered],
            'guests': self.guests,
            'lost': list(self.lost),
        }  # fmt: skip

    def text(self) -> str:
        """Totals, and each line that was not executed."""
        out = [
            f'{percent(patch.covered, patch.lines):5.1f} %  {patch.covered:4} of {patch.lines:4}  {patch.name}'
            for patch in self.patches
        ]
        out.append(f'{percent(self.covered, self.lines):5.1f} %  {self.covered:4} of {self.lines:4}  all')
        out += [f'counts lost: {text}' for text in self.lost]
        patch = ''
        for line in self.uncovered:
            if line.patch != patch:
                patch = line.patch
                out += ['', f'not executed of {patch}:']
            out.append(f'{line.file}:{line.line}: {line.text.strip()}')
        return '\n'.join(out) + '\n'


def percent(part: int, whole: int) -> float:
    """Rounded down: 89.96 is not 90."""
    return part * 1000 // whole / 10 if whole else 100.0


# --- the kernel ----------------------------------------------------------------------------------


def counts(request: ConfigRequest) -> bool:
    """Whether a kernel of this configuration counts lines."""
    return any(wish.name == 'CONFIG_GCOV_KERNEL' and wish.value == 'y' for wish in request.wishes)


def make_variables(request: ConfigRequest) -> list[str]:
    """What the kernel's make is told beyond the configuration.

    Kbuild reads GCOV_PROFILE in each folder, from its Makefile as a rule; what the command line says
    overrides that, and `$(obj)` is expanded in each folder.
    """
    if not counts(request):
        return []
    return [f'GCOV_PROFILE=$(if $(filter {COUNTED},$(obj)),y)', f'CFLAGS_GCOV={_FLAGS}']


def take_notes(lab: Lab, patched: PatchedTree, build: Path, folder: Path) -> None:
    """Gather what maps counts to the series, from a build folder and the store."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notes = sorted((build / COUNTED).glob('*.gcno'))
    if not notes:
        raise LabError(f'the kernel does not count: no .gcno file in {build / COUNTED}')
    for path in notes:
        shutil.copyfile(path, folder / path.name)
    table = {
        'patches': list(patched.series.names),
        'lines': [asdict(line) for line in added_lines(GitStore(patched.base.path, lab.runner), patched)],
    }
    (folder / _ADDED).write_text(json.dumps(table, indent=0) + '\n', encoding='utf-8')


def added_lines(store: GitStore, patched: PatchedTree) -> list[AddedLine]:
    """Lines of C below the counted folder that are there because of the series, and by which patch."""
    names = dict(zip(patched.commits, patched.series.names, strict=True))
    diff = ('diff', '--name-only', '--diff-filter=d', patched.base.base_commit, patched.commit, '--', COUNTED)
    found = []
    for path in store.query(*diff).splitlines():
        if path.endswith(('.c', '.h')):
            said = store.query('blame', '--porcelain', f'{patched.base.base_commit}..{patched.commit}', '--', path)
            found += parse_blame(said, path, names)
    return found


def parse_blame(said: str, path: str, names: Mapping[str, str]) -> list[AddedLine]:
    """The lines of `git blame --porcelain` that came with one of the commits named."""
    found = []
    commit, number = '', 0
    for line in said.splitlines():
        if line.startswith('\t'):
            if commit in names:
                found.append(AddedLine(path, number, names[commit], line[1:]))
        elif match := re.match(r'([0-9a-f]{40,64}) \d+ (\d+)', line):
            commit, number = match[1], int(match[2])
    return found


# --- the guest -----------------------------------------------------------------------------------


def collect(guest: Guest) -> None:
    """Take a guest's counts out of it, into its folder. Never raises: a guest may be beyond that."""
    folder = guest.booted.spec.directory
    try:
        if not guest.machine.alive:
            raise LabError('the guest had ended')
        done = guest.run(DUMP, DUMP_LIMIT * guest.booted.spec.factor)
        if done.status != 0:
            what = 'did not end in time' if done.timed_out else f'failed (exit status {done.status})'
            raise LabError(f'reading them {what}: {done.stderr.decode("utf-8", "replace").strip()}')
        unpack(done.stdout, folder / _COUNTS)
    except (HarnessError, OSError, tarfile.TarError) as error:
        log.warning('the line counts of guest %s are lost: %s', folder.name, error)
        (folder / _LOST).write_text(f'{error}\n', encoding='utf-8')


def unpack(data: bytes, folder: Path) -> None:
    """The .gcda files of a tar archive, by their names alone."""
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith('.gcda') else None
            if file is not None:
                found[Path(member.name).name] = file.read()
    if not found:
        raise LabError('there were none')
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in found.items():
        (folder / name).write_bytes(content)


# --- the run -------------------------------------------------------------------------------------


def keep_notes(run: RunFolder, kernel: KernelImage) -> None:
    """Copy what a run's counts are read with: they mean nothing without, and the cache forgets kernels."""
    if kernel.coverage is not None:
        shutil.copytree(kernel.coverage, run.path / _NOTES, dirs_exist_ok=True)


def of_run(runner: Runner, run: RunFolder) -> dict[str, Any] | None:
    """For results.json; the list of lines goes into the run's coverage.txt. None: nothing was counted."""
    if not any(run.path.glob('guests/*/coverage*')):
        return None
    try:
        made = measure(runner, [run.path])
        (run.path / 'coverage.txt').write_text(made.text(), encoding='utf-8')
    except (HarnessError, OSError) as error:
        detail = error.detail if isinstance(error, HarnessError) else ''
        log.warning('no line coverage: %s', '\n'.join((str(error), detail)).strip())
        return {'problem': str(error)}
    return made.as_dict()


def measure(runner: Runner, runs: Sequence[Path]) -> Coverage:
    """Add up the counts of all guests of some runs of one kernel."""
    notes = runs[0] / _NOTES
    guests = [guest for run in runs for guest in sorted((run / 'guests').glob('*'))]
    folders = [guest / _COUNTS for guest in guests if (guest / _COUNTS).is_dir()]
    lost = []
    for guest in guests:
        if (guest / _LOST).is_file():
            lost.append(f'{guest.name}: {(guest / _LOST).read_text(encoding="utf-8").strip()}')
    if not folders:
        raise LabError('no guest has left its line counts', '\n'.join(lost))
    if not (notes / _ADDED).is_file():
        raise LabError(f'{notes} is missing, without which the counts mean nothing')
    total: dict[Place, int] = {}
    for folder in folders:
        add(total, read_counts(runner, notes, folder))
    table = json.loads((notes / _ADDED).read_text(encoding='utf-8'))
    lines = [AddedLine(**line) for line in table['lines']]
    return judge(table['patches'], lines, total, len(folders), tuple(lost))


def read_counts(runner: Runner, notes: Path, data: Path) -> dict[Place, int]:
    """What gcov makes of the notes of a kernel and the data of a guest."""
    with tempfile.TemporaryDirectory(prefix='fuse-lab-gcov-') as temporary:
        folder = Path(temporary)
        names = []
        for path in sorted(notes.glob('*.gcno')):
            (folder / path.name).symlink_to(path.resolve())
            names.append(path.name)
            counted = data / path.with_suffix('.gcda').name
            if not counted.is_file():
                raise LabError(f'{data} lacks {counted.name}')
            (folder / counted.name).symlink_to(counted.resolve())
        done = runner.run(
            ['gcov', '--json-format', '--stdout', *names], cwd=folder, stage='coverage', check=False, split=True
        )
    # Of data that another build made, or another version of gcc, it says so and counts zeros.
    trouble = [line for line in done.stderr.splitlines() if 'gcda' in line or 'gcno' in line]
    documents = [line for line in done.stdout.splitlines() if line.startswith('{')]
    if done.status != 0 or trouble or len(documents) != len(names):
        raise LabError('gcov cannot read the counts', '\n'.join(trouble) or done.tail())
    total: dict[Place, int] = {}
    for document in documents:
        add(total, parse_gcov(document))
    return total


def parse_gcov(document: str) -> dict[Place, int]:
    """Counts by line from one of gcov's JSON documents: those of the counted folder."""
    found: dict[Place, int] = {}
    for file in json.loads(document)['files']:
        match = re.search(rf'(?:^|/)({re.escape(COUNTED)}/[^/]+)$', file['file'])
        if match is None:
            continue  # a header from elsewhere, inlined
        for line in file['lines']:
            place = (match[1], int(line['line_number']))
            # A line is there once for each function that it is part of.
            found[place] = found.get(place, 0) + int(line['count'])
    return found


def add(total: dict[Place, int], more: Mapping[Place, int]) -> None:
    for place, count in more.items():
        total[place] = total.get(place, 0) + count


def judge(
    patches: Sequence[str],
    lines: Sequence[AddedLine],
    total: Mapping[Place, int],
    guests: int = 0,
    lost: tuple[str, ...] = (),
) -> Coverage:
    """Set the added lines that have code against the counts."""
    executable = [line for line in lines if (line.file, line.line) in total]
    missed = [line for line in executable if not total[line.file, line.line]]
    order = {name: number for number, name in enumerate(patches)}
    missed.sort(key=lambda line: (order[line.patch], line.file, line.line))
    each = []
    for name in patches:
        mine = sum(line.patch == name for line in executable)
        if mine:
            each.append(PatchCoverage(name, mine, mine - sum(line.patch == name for line in missed)))
    return Coverage(tuple(each), tuple(missed), guests, lost)


# --- sub-command ---------------------------------------------------------------------------------


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        'coverage',
        help='what runs with VARIANT=gcov executed of the series',
        description='Adds up the counts of several runs of one kernel, and lists the lines none of them executed.',
    )
    parser.add_argument('run', nargs='*', type=Path, metavar='FOLDER', help='results folders (default: results/latest)')
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    runs = [path.resolve() for path in args.run] or [(lab.root / 'results' / 'latest').resolve()]
    kernels = set()
    for path in runs:
        facts = results.read(path)['kernel']
        if 'gcov' not in facts['variant'].split(','):
            raise UsageError(f'{path}: this kernel did not count lines', hint='make vm-test VARIANT=gcov')
        kernels.add(facts['build_id'])
    if len(kernels) > 1:
        raise UsageError('these are runs of different kernels: their counts cannot be added')
    return measure(lab.runner, runs).text().rstrip('\n')
