# SPDX-License-Identifier: GPL-2.0-only
"""Stage `config`: allnoconfig + Kconfig.fragment + variants, and whether all of it survived.

Kconfig drops an option without a word when its name is unknown or what it depends on is missing.
Here each requested option is compared with what came out, and a lost one is an error with its cause.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import BuildError, UsageError
from harness.kconfig import why_lost
from harness.lab import Lab

log = logging.getLogger(__name__)

VARIANTS = Path(__file__).resolve().parent / 'variants'

_SET = re.compile(r'(CONFIG_\w+)=("(?:[^"\\]|\\.)*"|[^#\s"]+)\s*(?:#\s*(.*))?')
_UNSET = re.compile(r'# (CONFIG_\w+) is not set\s*(?:#\s*(.*))?')


@dataclass(frozen=True)
class Wish:
    """One line of a fragment."""

    name: str  # CONFIG_FUSE_FS
    value: str  # y, m, n, a number or a quoted string
    reason: str
    where: str  # file:line

    @property
    def optional(self) -> bool:
        """May be unknown to the tree."""
        return self.reason.startswith('optional:')

    @property
    def line(self) -> str:
        return f'# {self.name} is not set' if self.value == 'n' else f'{self.name}={self.value}'


@dataclass(frozen=True)
class ConfigRequest:
    wishes: tuple[Wish, ...]
    variant: str  # sorted names joined by commas; empty: none
    fragment: Path | None = None  # the user's own

    @property
    def text(self) -> str:
        return ''.join(f'{wish.line}\n' for wish in self.wishes)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class KernelConfig:
    path: Path
    digest: str  # of the options that came out
    variant: str


def variant_names() -> list[str]:
    return sorted(path.stem for path in VARIANTS.glob('*.config'))


def request(fragment: Path, variant: str = '') -> ConfigRequest:
    """What is asked for: the fragment and the variants named (several joined by commas)."""
    names = sorted({name.strip() for name in variant.split(',')} - {''})
    unknown = [name for name in names if name not in variant_names()]
    if unknown:
        raise UsageError(f'no such variant: {", ".join(unknown)}', hint=f'there are {", ".join(variant_names())}')
    wishes: dict[str, Wish] = {}
    for wish in read_fragment(fragment):
        if wish.name in wishes:
            raise UsageError(f'{wish.where}: {wish.name} is also in {wishes[wish.name].where}')
        wishes[wish.name] = wish
    by_variant: dict[str, Wish] = {}
    for name in names:
        for wish in read_fragment(VARIANTS / f'{name}.config'):
            before = by_variant.get(wish.name)
            if before is not None and before.value != wish.value:
                raise UsageError(f'{wish.where} wants {wish.line}, {before.where} wants {before.line}')
            by_variant[wish.name] = wishes[wish.name] = wish  # a variant overrides the fragment
    return ConfigRequest(tuple(wishes.values()), ','.join(names))


def read_fragment(path: Path) -> list[Wish]:
    wishes = []
    try:
        lines = path.read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise UsageError(f'cannot read {path}', str(error)) from error
    for number, line in enumerate(lines, 1):
        where = f'{path.name}:{number}'
        text = line.strip()
        if match := _SET.fullmatch(text):
            wishes.append(Wish(match[1], match[2], match[3] or '', where))
        elif match := _UNSET.fullmatch(text):
            wishes.append(Wish(match[1], 'n', match[2] or '', where))
        elif text and (not text.startswith('#') or text.startswith(('#CONFIG_', '# CONFIG_'))):
            raise UsageError(
                f'{where}: not understood: {text}',
                hint='CONFIG_NAME=value   # reason, or # CONFIG_NAME is not set   # reason',
            )
    return wishes


def read_dot_config(path: Path) -> dict[str, str]:
    """Values that came out; an option that is not there is off."""
    values = {}
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        if match := re.fullmatch(r'(CONFIG_\w+)=(.*)', line):
            values[match[1]] = match[2]
    return values


def lost(wishes: Sequence[Wish], values: Mapping[str, str]) -> list[Wish]:
    return [wish for wish in wishes if values.get(wish.name, 'n') != wish.value]


def make_argv(src: Path, build: Path, *words: str) -> list[str]:
    return ['make', '-C', os.fspath(src), f'O={build}', *words]


def configure(lab: Lab, wanted: ConfigRequest, src: Path, build: Path) -> KernelConfig:
    """Write build/.config and demand that everything asked for is in it."""
    with lab.clock.stage('config'):
        asked = build / 'fuse-lab.fragment'
        if not lab.dry_run:
            build.mkdir(parents=True, exist_ok=True)
            asked.write_text(wanted.text, encoding='utf-8')
        for target in ('allnoconfig', 'olddefconfig'):
            env = {'KCONFIG_ALLCONFIG': os.fspath(asked)} if target == 'allnoconfig' else {}
            done = lab.runner.run(make_argv(src, build, '-s', target), env=env, stage='config', check=False)
            if done.status != 0:
                lab.runner.require_tools(done)
                raise BuildError(f'make {target} fails', done.tail(), 'the Kconfig files of the tree are at fault')
        if lab.dry_run:
            return KernelConfig(build / '.config', 'CONFIG', wanted.variant)
        values = read_dot_config(build / '.config')
        _demand(wanted, values, src)
    digest = hashlib.sha256(''.join(f'{k}={v}\n' for k, v in sorted(values.items())).encode()).hexdigest()
    return KernelConfig(build / '.config', digest, wanted.variant)


def _demand(wanted: ConfigRequest, values: Mapping[str, str], src: Path) -> None:
    missing = lost(wanted.wishes, values)
    if not missing:
        return
    reasons = why_lost(src, [wish.name for wish in missing], values)
    bad = []
    for wish in missing:
        why = reasons[wish.name]
        if wish.optional and not why.known:
            log.info('%s is not known to this tree: left out (%s)', wish.name, wish.where)
            continue
        came_out = values.get(wish.name, 'n')
        bad.append(f'{wish.where}: {wish.name}={wish.value} came out as {came_out}: {why.text}')
    if bad:
        count = 'option does' if len(bad) == 1 else 'options do'
        raise BuildError(
            f'{len(bad)} requested {count} not survive olddefconfig',
            '\n'.join(bad),
            'add what is missing to the fragment, or take the line out',
        )


# --- options shared by sub-commands --------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('config')
    group.add_argument(
        '--variant', default='', metavar='NAMES', help=f'debug variants, joined by commas: {", ".join(variant_names())}'
    )
    group.add_argument('--fragment', type=Path, metavar='FILE', help='instead of Kconfig.fragment')


def request_of(lab: Lab, args: argparse.Namespace) -> ConfigRequest:
    made = request(args.fragment or lab.root / 'Kconfig.fragment', args.variant)
    return replace(made, fragment=args.fragment)
