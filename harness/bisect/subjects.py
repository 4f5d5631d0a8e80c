# SPDX-License-Identifier: GPL-2.0-only
"""The kernels that can be tried, and what each contains: prefixes of a series, commits between two others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.bisect.engine import Floats, Problem
from harness.command import CommandFailedError
from harness.errors import UsageError
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.series import Patch, PatchSeries
from harness.source import SourceRequest


@dataclass(frozen=True)
class Subject:
    """A kernel."""

    key: str  # the same for the same kernel, whenever and whoever asks
    name: str  # for people
    request: KernelRequest
    reference: Subject | None = None  # the kernel whose cost is what this one's is compared with


@dataclass(frozen=True)
class Range:
    """Kernels from the good one (first) to the bad one (last), and the suspects between them."""

    subjects: tuple[Subject, ...]
    suspects: tuple[str, ...]
    problem: Problem
    places: Floats  # of the kernels, from 0 to 1; see Belief.choose
    series: bool  # kernels are prefixes of a series: nobody has said that the first one is good


# --- a series ------------------------------------------------------------------------------------


def of_series(request: KernelRequest, whole: PatchSeries, good: PatchSeries | None = None) -> Range:
    """All prefixes of a series. `good`: another version of it, whose prefixes are the references."""
    count = len(whole.patches)
    if not count:
        raise UsageError('there is no series to look into')
    subjects = []
    for number in range(count + 1):
        reference = None
        if good is not None:
            reference = _counterpart(request, whole, good, number)
        subjects.append(_prefix(request, whole, number, reference))
    return Range(
        tuple(subjects),
        whole.names,
        Problem.of(np.tri(count + 1, count, -1, dtype=bool)),
        np.linspace(0.0, 1.0, count + 1),
        True,
    )


def _prefix(request: KernelRequest, whole: PatchSeries, number: int, reference: Subject | None = None) -> Subject:
    name = f'up to {number:>2} {whole.patches[number - 1].name}' if number else 'no patch'
    folder = str(whole.directory) if whole.directory is not None else None
    return Subject(whole.prefix(number).digest, name, replace(request, series=folder, prefix=number), reference)


def _counterpart(request: KernelRequest, whole: PatchSeries, good: PatchSeries, number: int) -> Subject | None:
    """The prefix of the other version that ends with the patch of the same name, or the same number."""
    if number:
        name = whole.patches[number - 1].name
        number = good.names.index(name) + 1 if name in good.names else number
    return _prefix(request, good, number) if number <= len(good.patches) else None


def without_each(request: KernelRequest, whole: PatchSeries, folder: Path) -> list[Subject]:
    """The series without one patch, for each of them, the last first; `folder` is for these series."""
    found = []
    for number in reversed(range(len(whole.patches))):
        left = (*whole.patches[:number], *whole.patches[number + 1 :])
        directory = folder / f'without-{number + 1:04d}'
        found.append(_made(request, PatchSeries(directory, left), f'without {whole.patches[number].name}'))
    return found


def _made(request: KernelRequest, chosen: PatchSeries, name: str) -> Subject:
    assert chosen.directory is not None
    chosen.directory.mkdir(parents=True)
    for patch in chosen.patches:
        _link(patch, chosen.directory)
    (chosen.directory / 'series').write_text(''.join(f'{name}\n' for name in chosen.names), encoding='utf-8')
    return Subject(chosen.digest, name, replace(request, series=str(chosen.directory), prefix=None))


def _link(patch: Patch, directory: Path) -> None:
    target = directory / patch.name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(patch.path.resolve())


# --- commits -------------------------------------------------------------------------------------


def of_commits(lab: Lab, request: KernelRequest, good: str, bad: str) -> Range:
    """All commits that BAD has and GOOD has not, with their merges."""
    repository = request.source.kdir
    if repository is None:
        raise UsageError('which git tree?', hint='KDIR=~/linux')
    repository = repository.expanduser().resolve()
    first, last = _commit(lab, repository, good), _commit(lab, repository, bad)
    if first == last:
        raise UsageError(f'GOOD={good} and BAD={bad} are the same commit')
    base = _git(lab, repository, 'merge-base', first, last)
    if base != first:
        swapped = base == last
        raise UsageError(
            f'GOOD={good} is not an ancestor of BAD={bad}',
            hint='GOOD and BAD are the wrong way round' if swapped else f'their common ancestor is GOOD={base}',
        )
    listed = _git(lab, repository, 'rev-list', '--topo-order', '--reverse', '--parents', f'{first}..{last}')
    titles = dict(
        line.split(' ', 1)
        for line in _git(lab, repository, 'log', '--format=%H %s', f'{first}..{last}', '-1000000').splitlines()
    )
    commits = [line.split() for line in listed.splitlines()]
    keys = [words[0] for words in commits]
    masks = [0, *_reach(commits)]
    names = [f'{key[:12]} {titles.get(key, "")}' for key in keys]

    def subject(key: str, name: str) -> Subject:
        return Subject(key, name, replace(request, source=SourceRequest(source=f'{repository}#{key}')))

    return Range(
        (subject(first, f'{first[:12]} (GOOD)'), *(subject(key, name) for key, name in zip(keys, names, strict=True))),
        tuple(names),
        Problem.of_masks(masks, len(keys)),
        np.array([mask.bit_count() / len(keys) for mask in masks]),
        False,
    )


def _reach(commits: Sequence[Sequence[str]]) -> list[int]:
    """What each commit contains, itself included: a bit for each. Given are commits and their parents, oldest first."""
    found: dict[str, int] = {}
    for number, (key, *parents) in enumerate(commits):
        mask = 1 << number
        for parent in parents:
            mask |= found.get(parent, 0)
        found[key] = mask
    return list(found.values())


def _commit(lab: Lab, repository: Path, name: str) -> str:
    if name.startswith('-'):
        raise UsageError(f'{name} is no commit')
    try:
        return _git(lab, repository, 'rev-parse', '--verify', '--quiet', f'{name}^{{commit}}')
    except CommandFailedError as error:
        raise UsageError(f'{repository} has no commit {name}', error.detail) from error


def _git(lab: Lab, repository: Path, *words: str) -> str:
    # The user's repository is only read: no lock files, no refreshed index.
    env = {
        'GIT_OPTIONAL_LOCKS': '0',
        'GIT_TERMINAL_PROMPT': '0',
        'GIT_CONFIG_COUNT': '1',
        'GIT_CONFIG_KEY_0': 'safe.directory',
        'GIT_CONFIG_VALUE_0': os.fspath(repository),
    }
    return lab.runner.query(['git', '-C', repository, *words], env=env).strip()
