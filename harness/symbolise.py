# SPDX-License-Identifier: GPL-2.0-only
"""Call traces -> file and line, from the kernel's and the modules' debug information."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

log = logging.getLogger(__name__)

_PLACE = re.compile(
    r'\b(?P<name>[A-Za-z_][\w.$]{0,150})\+0x(?P<offset>[0-9a-f]+)/0x[0-9a-f]+(?: \[(?P<module>\w+)[^\]]{0,80}\])?'
)
_TIME_LIMIT = 60.0  # seconds for one call of nm or addr2line


class Symboliser:
    """Looks places up in batches and remembers them. What cannot be looked up stays as it was."""

    def __init__(self, vmlinux: Path | None, modules: Iterable[Path] = ()) -> None:
        self._objects: dict[str, Path] = {path.stem.replace('-', '_'): path for path in modules}
        if vmlinux is not None:
            self._objects[''] = vmlinux
        self._symbols: dict[str, dict[str, list[int]]] = {}
        self._known: dict[tuple[str, str, int], str] = {}

    def lines(self, trace: Sequence[str]) -> list[str]:
        """The lines, each with `(file:line)` after its place where that is known."""
        wanted: dict[str, set[tuple[str, int]]] = {}
        for line in trace:
            for match in _PLACE.finditer(line):
                module, name, offset = match['module'] or '', match['name'], int(match['offset'], 16)
                if (module, name, offset) not in self._known:
                    wanted.setdefault(module, set()).add((name, offset))
        for module, places in wanted.items():
            self._look_up(module, places)
        return [_PLACE.sub(self._annotate, line) for line in trace]

    def _annotate(self, match: re.Match[str]) -> str:
        where = self._known.get((match['module'] or '', match['name'], int(match['offset'], 16)), '')
        return f'{match[0]} ({where})' if where else match[0]

    def _look_up(self, module: str, places: set[tuple[str, int]]) -> None:
        for name, offset in places:
            self._known[module, name, offset] = ''
        path = self._objects.get(module)
        if path is None or not path.is_file():
            return
        symbols = self._table(module, path)
        addresses = [
            # A return address is behind the call: one byte back is in the call's own line.
            (name, offset, symbols[name][0] + max(offset - 1, 0))
            for name, offset in sorted(places)
            # A name that two functions bear would be a guess.
            if len(symbols.get(name, ())) == 1
        ]
        if not addresses:
            return
        argv = ['addr2line', '-e', str(path), '-a', '-i', *(['-j', '.text'] if module else [])]
        output = _run(argv, '\n'.join(f'{address:#x}' for _, _, address in addresses) + '\n')
        for (name, offset, _), lines in zip(addresses, _groups(output), strict=False):
            good = [line for line in lines if not line.startswith('??')]
            if good:
                # The innermost inlined function first, as the kernel's own faddr2line has it.
                self._known[module, name, offset] = ' <- '.join(_short(line) for line in good)

    def _table(self, module: str, path: Path) -> dict[str, list[int]]:
        if module not in self._symbols:
            table: dict[str, list[int]] = {}
            for line in _run(['nm', str(path)]).splitlines():
                words = line.split()
                if len(words) == 3 and words[1] in 'tTwW':
                    table.setdefault(words[2], []).append(int(words[0], 16))
            self._symbols[module] = table
        return self._symbols[module]


def _run(argv: list[str], stdin: str = '') -> str:
    if shutil.which(argv[0]) is None:
        log.warning('traces stay without file and line: %s is not installed (apt-get install binutils)', argv[0])
        return ''
    try:
        return subprocess.run(
            argv, input=stdin, capture_output=True, text=True, check=False, timeout=_TIME_LIMIT, errors='replace'
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning('traces stay without file and line: %s', error)
        return ''


def _groups(output: str) -> list[list[str]]:
    """addr2line -a -i prints an address, then one line for each inlined function."""
    groups: list[list[str]] = []
    for line in output.splitlines():
        if re.fullmatch(r'0x[0-9a-f]+', line):
            groups.append([])
        elif groups:
            groups[-1].append(line)
    return groups


def _short(place: str) -> str:
    """Without the discriminator and the build folder."""
    return re.sub(r'^\./', '', place.split(' (', 1)[0])
