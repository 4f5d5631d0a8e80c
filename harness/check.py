# SPDX-License-Identifier: GPL-2.0-only
"""A check: an executable with a header and a golden output, under tests/checks/AREA/NNN."""

from __future__ import annotations

import fnmatch
import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError

SECTIONS = ('dev', 'uring')
GROUPS = {
    'auto': 'meant to pass',
    'quick': 'part of the quick run',
    'rw': 'reads and writes',
    'aio': 'asynchronous I/O',
    'mmap': 'mapped files',
    'stress': 'many operations at once',
    'attr': 'attributes',
    'xattr': 'extended attributes',
    'lock': 'file locks',
    'dir': 'directories',
    'meta': 'names and inodes',
    'ring': 'the ring itself',
    'daemon': 'life and death of the server',
    'fault': 'errors on purpose',
    'export': 'an image as a file',
    'krpc': 'storage nodes, krpc',
    'dangerous': 'may take the kernel down',
    'long': 'takes minutes',
}
DEFAULT_TIMEOUT = 20.0
MAX_HEADER = 30  # lines; run-check in the guest reads no more either

_FIELD = re.compile(r'^#\s*(check|groups|sections|needs|mount|proof|timeout):\s*(.*?)\s*$')
NEEDS = 'ring series cpus>=N kernel>=X.Y config:CONFIG_X file:/path'
_NEED = re.compile(r'^(?:ring|series|cpus>=\d+|kernel>=\d+\.\d+|config:CONFIG_\w+|file:/\S+)$')
_NUMBER = re.compile(r'^\d{3}$')
_AREA = re.compile(r'^[a-z][a-z0-9]*$')


class CheckError(UsageError):
    """A check that cannot be used; says which file and line."""


@dataclass(frozen=True)
class Check:
    """What the header of a check says."""

    path: Path
    area: str
    number: str
    title: str
    groups: frozenset[str]
    sections: tuple[str, ...]
    needs: tuple[str, ...]
    timeout: float  # seconds at unit guest speed
    suite: str = ''  # whose it is: ours, or xfstests

    @property
    def name(self) -> str:
        return f'{self.area}/{self.number}'

    @property
    def golden(self) -> Path:
        return self.path.with_name(f'{self.number}.out')

    def digest(self) -> str:
        """Of the check and its golden output: whether two runs ran the same."""
        try:
            return hashlib.sha256(self.path.read_bytes() + b'\0' + self.golden.read_bytes()).hexdigest()
        except OSError:
            return ''  # removed while it ran


def is_check(path: Path) -> bool:
    """By place and name alone: AREA/NNN without suffix."""
    return bool(_NUMBER.match(path.name) and _AREA.match(path.parent.name)) and path.is_file()


def discover(root: Path) -> Iterator[Path]:
    """Check files below tests/checks, in order."""
    for area in sorted(root.iterdir()) if root.is_dir() else ():
        if area.is_dir():
            yield from sorted(path for path in area.iterdir() if is_check(path))


def named(path: Path, patterns: list[str] | None) -> bool:
    """Whether a check is one of those asked for by name; several may stand in one word."""
    if not patterns:
        return True
    name = f'{path.parent.name}/{path.name}'
    return any(fnmatch.fnmatchcase(name, word) for text in patterns for word in text.split())


def broken(root: Path, patterns: list[str] | None) -> list[CheckError]:
    """What is wrong with the checks asked for, before anything is built for them."""
    found = []
    for path in discover(root):
        if named(path, patterns):
            try:
                parse(path)
            except CheckError as error:
                found.append(error)
    return found


def parse(path: Path) -> Check:
    """Read and judge a check; CheckError for anything that makes its result doubtful."""
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckError(f'{path}:1: cannot be read: {error}') from error
    fields: dict[str, tuple[str, int]] = {}
    for number, line in enumerate(lines[:MAX_HEADER], 1):
        if not line.startswith('#'):
            break
        match = _FIELD.match(line)
        if match is None:
            continue
        if match.group(1) in fields:
            raise CheckError(f'{path}:{number}: a second `{match.group(1)}:` line')
        if not match.group(2):
            raise CheckError(f'{path}:{number}: `{match.group(1)}:` is empty')
        fields[match.group(1)] = (match.group(2), number)
    if not lines or not lines[0].startswith('#!'):
        raise CheckError(f'{path}:1: the first line is not #!/bin/bash or another interpreter')
    for name in ('check', 'groups'):
        if name not in fields:
            raise CheckError(f'{path}:1: the header has no `# {name}:` line')
    check = Check(
        path,
        path.parent.name,
        path.name,
        fields['check'][0],
        frozenset(_words(path, fields, 'groups', GROUPS.__contains__, f'known groups: {" ".join(GROUPS)}')),
        _words(path, fields, 'sections', SECTIONS.__contains__, f'known sections: {" ".join(SECTIONS)}') or SECTIONS,
        _words(path, fields, 'needs', lambda word: bool(_NEED.match(word)), f'known needs: {NEEDS}'),
        _timeout(path, fields),
    )
    if not path.stat().st_mode & 0o111:
        raise CheckError(f'{path}:1: not executable', hint=f'chmod +x {path}')
    if not check.golden.is_file():
        raise CheckError(f'{path}:1: no golden output {check.golden.name} beside it')
    _syntax(path, lines[0])
    return check


def _words(
    path: Path, fields: dict[str, tuple[str, int]], name: str, known: Callable[[str], bool], hint: str
) -> tuple[str, ...]:
    text, number = fields.get(name, ('', 0))
    words = tuple(text.split())
    for word in words:
        if not known(word):
            raise CheckError(f'{path}:{number}: unknown word {word!r} in `{name}:`', hint=hint)
    return words


def _timeout(path: Path, fields: dict[str, tuple[str, int]]) -> float:
    text, number = fields.get('timeout', (str(DEFAULT_TIMEOUT), 0))
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise CheckError(f'{path}:{number}: `timeout:` is not a number of seconds: {text!r}')
    return value


def _syntax(path: Path, first: str) -> None:
    """Let the shell read the script; only it knows its syntax."""
    if not re.search(r'\b(?:ba)?sh\b', first):
        return
    try:
        done = subprocess.run(
            ['bash', '-n', str(path)], capture_output=True, text=True, check=False, timeout=20, env={'LC_ALL': 'C'}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CheckError(f'{path}:1: bash cannot read it: {error}') from error
    if done.returncode == 0:
        return
    text = done.stderr.strip().splitlines() or ['syntax error']
    match = re.search(r': line (\d+): (.*)', text[0])
    number, what = (match.group(1), match.group(2)) if match else ('1', text[0])
    raise CheckError(f'{path}:{number}: {what}', done.stderr.strip())
