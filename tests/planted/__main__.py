# SPDX-License-Identifier: GPL-2.0-only
"""`python -m tests.planted make FOLDER`, then `python -m tests.planted run FOLDER [NAME...] [-- OPTION...]`.

`run` has each planted regression found by the command a user would give, and compares the answers.
Exit status: 0 all right; 1 a wrong blame, or more than one that could not be told; 3 trouble.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.cli import set_up_logging
from harness.command import Runner
from harness.lab import REPOSITORY, Lab

from .make import BRANCH, GOOD, make
from .plants import PLANTS, Plant


@dataclass(frozen=True)
class Answer:
    plant: Plant
    word: str  # right, WRONG, cannot tell, trouble
    said: str
    probability: float
    steps: int
    seconds: float  # a step

    @property
    def line(self) -> str:
        return (
            f'{self.plant.name:24} {self.plant.kind:6} {self.word:12} {self.probability:.3f}  '
            f'{self.steps:3} steps of {self.seconds:5.0f} s  {self.said}'
        )


def command(plant: Plant, folder: Path) -> list[str]:
    argv = [sys.executable, '-m', 'harness']
    if plant.patch:
        argv += ['bisect-series', '--series', str(folder / 'series' / plant.name)]
        if plant.kind == 'cost':
            argv += ['--good-series', str(folder / 'series' / 'as-it-was')]
    else:
        # The tree has the series already.
        argv += ['bisect', '--kdir', str(folder / 'linux'), '--series', 'none', '--good', GOOD, '--bad', BRANCH]
    return [*argv, *plant.words]


def find(plant: Plant, folder: Path, more: list[str]) -> Answer:
    argv = [*command(plant, folder), *more]
    print('+', shlex.join(argv), flush=True)
    done = subprocess.run(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    report = re.search(r'^report: (.+)\.txt$', done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or report is None:
        return Answer(plant, 'trouble', f'status {done.returncode}', 0.0, 0, 0.0)
    made = json.loads(Path(f'{report[1]}.json').read_text(encoding='utf-8'))
    guilty = plant.commit or f'{plant.patch:04d}-'
    right = made['found'] and (
        made['suspects'][0].startswith(guilty) if plant.patch else made['suspects'][0].endswith(f' {guilty}')
    )
    word = 'right' if right else 'WRONG' if made['found'] else 'cannot tell'
    steps = made['steps']
    total = sum(sum(step['seconds'].values()) for step in steps)
    said = made['suspects'][0] if made['found'] else made['trouble']
    return Answer(plant, word, said, made['probability'], len(steps), total / max(1, len(steps)))


def state_of(tree: Path) -> str:
    """Changes when anything in a git tree does."""
    env = os.environ | {'GIT_OPTIONAL_LOCKS': '0'}
    words = (['for-each-ref'], ['status', '--porcelain'], ['rev-parse', 'HEAD'])
    said = [subprocess.run(['git', '-C', tree, *one], env=env, capture_output=True, check=True).stdout for one in words]
    times = [path.lstat().st_mtime_ns for path in sorted((tree / 'fs' / 'fuse').iterdir())]
    index = (tree / '.git' / 'index').read_bytes()
    return f'{said} {times} {len(index)} {hash(index)}'


def main() -> int:
    parser = argparse.ArgumentParser(prog='python -m tests.planted', description=__doc__)
    parser.add_argument('action', choices=('make', 'run', 'list'))
    parser.add_argument('folder', type=Path)
    parser.add_argument('names', nargs='*', metavar='NAME', help='plants to find (default: all)')
    words = sys.argv[1:]
    cut = words.index('--') if '--' in words else len(words)
    args, more = parser.parse_args(words[:cut]), words[cut + 1 :]
    folder = args.folder.absolute()
    if args.action == 'make':
        set_up_logging(0)
        make(Lab(Runner()), folder)
        return 0
    unknown = set(args.names) - {plant.name for plant in PLANTS}
    if unknown:
        parser.error(f'no such plant: {" ".join(sorted(unknown))}')
    chosen = [plant for plant in PLANTS if not args.names or plant.name in args.names]
    if args.action == 'list':
        print('\n'.join(shlex.join(command(plant, folder)) for plant in chosen))
        return 0
    before = state_of(folder / 'linux')
    answers = [find(plant, folder, more) for plant in chosen]
    untouched = state_of(folder / 'linux') == before
    print('\n'.join(answer.line for answer in answers))
    print(f'the git tree is {"as it was" if untouched else "CHANGED"}')
    words = [answer.word for answer in answers]
    if 'trouble' in words:
        return 3
    return int('WRONG' in words or words.count('cannot tell') > 1 or not untouched)


if __name__ == '__main__':
    sys.exit(main())
