# SPDX-License-Identifier: GPL-2.0-only
"""Why Kconfig dropped an option: reads a tree's Kconfig files just well enough to say."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ENTRY = re.compile(r'\s*(config|menuconfig)\s+(\w+)\s*$')
_BLOCK = re.compile(r'\s*(if|menu|choice)\b\s*(.*)')
_BLOCK_END = re.compile(r'\s*(endif|endmenu|endchoice)\b')
_DEPENDS = re.compile(r'\s*(?:depends on|visible if)\s+(.*)')
_SYMBOL = re.compile(r'\b[A-Z][A-Z0-9_]*[A-Z0-9]\b|\b[A-Z]\b')


@dataclass(frozen=True)
class Loss:
    known: bool  # some Kconfig file of the tree defines the option
    text: str


@dataclass(frozen=True)
class _Definition:
    where: str
    prompt: bool
    depends: tuple[str, ...]


def why_lost(src: Path, names: Sequence[str], values: Mapping[str, str]) -> dict[str, Loss]:
    """The likely cause for each option (names with CONFIG_), given all values that came out."""
    wanted = {name.removeprefix('CONFIG_') for name in names}
    found: dict[str, list[_Definition]] = {name: [] for name in wanted}
    for path in _files(src):
        for name, definition in _definitions(path, src, wanted):
            found[name].append(definition)
    return {name: _explain(found[name.removeprefix('CONFIG_')], values) for name in names}


def _explain(definitions: list[_Definition], values: Mapping[str, str]) -> Loss:
    if not definitions:
        return Loss(False, 'no Kconfig file of this tree defines it')
    parts = []
    for definition in definitions:
        unmet = [_show(clause, values) for clause in definition.depends if not _surely_met(clause, values)]
        if unmet:
            parts.append(f'depends on {" and on ".join(unmet)} ({definition.where})')
        elif not definition.prompt:
            parts.append(f'cannot be set by hand, only selected by others ({definition.where})')
        else:
            parts.append(f'a choice or another option overrides it ({definition.where})')
    return Loss(True, '; or '.join(parts))


def _surely_met(clause: str, values: Mapping[str, str]) -> bool:
    """Whether a dependency is met, for the plain ones: symbols joined by && or by ||, and !."""
    if re.search(r'[()=<>]', clause):
        return False
    return all(
        any(
            (values.get(f'CONFIG_{term.lstrip("! ").strip()}', 'n') == 'n') == term.strip().startswith('!')
            for term in conjunct.split('||')
        )
        for conjunct in clause.split('&&')
    )


def _show(clause: str, values: Mapping[str, str]) -> str:
    """A dependency with the value of each symbol in it."""
    return _SYMBOL.sub(lambda m: f'{m[0]} [={values.get("CONFIG_" + m[0], "n")}]', clause)


def _files(src: Path) -> Iterator[Path]:
    """The tree's Kconfig files, without those of other architectures."""
    for folder, subfolders, names in os.walk(src):
        here = Path(folder)
        if here == src / 'arch':
            subfolders[:] = [name for name in subfolders if name == 'x86']
        if here == src:
            subfolders[:] = [name for name in subfolders if name not in ('Documentation', 'tools', '.git', 'samples')]
        for name in names:
            if name.startswith('Kconfig'):
                yield here / name


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of the first, a backslash at the end having joined the next."""
    started, joined = 0, ''
    for number, line in enumerate(text.splitlines(), 1):
        started = started or number
        joined = f'{joined.rstrip()} {line.lstrip()}' if joined else line
        if joined.endswith('\\'):
            joined = joined[:-1]
            continue
        yield started, joined
        started, joined = 0, ''


def _definitions(path: Path, src: Path, wanted: set[str]) -> Iterator[tuple[str, _Definition]]:
    text = path.read_text(encoding='utf-8', errors='replace')
    if not any(re.search(rf'^\s*(?:menu)?config\s+{name}\s*$', text, re.MULTILINE) for name in wanted):
        return
    around: list[list[str]] = []  # dependencies of each enclosing if, menu and choice
    name, where, prompt = '', '', False
    depends: list[str] = []
    in_entry = False

    def finished() -> Iterator[tuple[str, _Definition]]:
        if in_entry and name in wanted:
            clauses = [clause for block in around for clause in block] + depends
            yield name, _Definition(where, prompt, tuple(clauses))

    help_indent = -1
    for number, line in _logical_lines(text):
        indent = len(line.expandtabs()) - len(line.expandtabs().lstrip())
        if help_indent >= 0:
            if not line.strip() or indent > help_indent:
                continue
            help_indent = -1
        bare = line.split('#', 1)[0].rstrip()
        if match := _ENTRY.match(bare):
            yield from finished()
            in_entry, name, where, prompt, depends = True, match[2], f'{path.relative_to(src)}:{number}', False, []
        elif match := _BLOCK.match(bare):
            yield from finished()
            in_entry = False
            around.append([match[2]] if match[1] == 'if' else [])
        elif _BLOCK_END.match(bare):
            yield from finished()
            in_entry = False
            if around:
                around.pop()
        elif re.fullmatch(r'\s*(?:help|---help---)', bare):
            help_indent = indent
        elif match := _DEPENDS.match(bare):
            (depends if in_entry or not around else around[-1]).append(match[1])
        elif in_entry and re.match(r'\s*(?:bool|tristate|string|int|hex|prompt)\s+"', bare):
            prompt = True
    yield from finished()
