# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `differential`: {stock, patched} x {dev, uring}, the same checks; only what differs, and by what.

A check is compared where it ran: a stock kernel without the ring has nothing in section uring, and
what is notrun says nothing. Two runs are compared only if checks, seed and programs were the same.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from harness import results
from harness.errors import EXIT_LAB, EXIT_PASS, EXIT_VERDICT, UsageError
from harness.formats.evidence import printable
from harness.formats.summary import state, worse
from harness.lab import Lab
from harness.subrun import run_checks
from harness.verdict import State

log = logging.getLogger(__name__)

KERNELS = ('stock', 'patched')
SECTIONS = ('dev', 'uring')
Cell = tuple[str, str]  # kernel, section
# Options of `check` that both runs get, and those that make the patched kernel
_SHARED = ('group', 'check', 'seed', 'guests', 'known', 'xfstests')
_TREE = ('kdir', 'source', 'series', 'variant')
_FOLDERS = ('known', 'xfstests', 'kdir')

# What makes the difference
KERNEL = 'kernel'
TRANSPORT = 'transport'
BOTH = 'kernel and transport together'
UNCLEAR = 'no single axis'


@dataclass(frozen=True)
class Difference:
    """One check whose verdict depends on where it ran."""

    name: str
    verdicts: Mapping[Cell, str]  # where it ran
    axis: str
    text: str
    worse: bool  # by the patches
    reason: str = ''  # of the verdict that counts most


def differences(stock: dict[str, Any], patched: dict[str, Any]) -> list[Difference]:
    """Of two runs' tables. UsageError when they are not of the same checks and seed."""
    _comparable(stock, patched)
    checks: dict[str, dict[Cell, dict[str, Any]]] = {}
    for kernel, table in zip(KERNELS, (stock, patched), strict=True):
        for check in table['checks']:
            if state(check) not in (State.NOTRUN, State.LAB):
                checks.setdefault(check['name'], {})[kernel, check['section']] = check
    found = []
    for name, cells in sorted(checks.items()):
        verdicts = {cell: check['verdict'] for cell, check in cells.items()}
        if len(set(verdicts.values())) > 1:
            axis, text = explain(verdicts)
            found.append(Difference(name, verdicts, axis, text, _made_worse(cells), _reason(cells)))
    return found


def _made_worse(cells: Mapping[Cell, dict[str, Any]]) -> bool:
    """Whether the patches do it: beside the same section of stock; where stock has none, beside the other section."""
    for (kernel, section), check in cells.items():
        beside = cells.get(('stock', section))
        if beside is None:
            beside = next((other for (k, s), other in cells.items() if k == kernel and s != section), None)
        if kernel == 'patched' and beside is not None and worse(beside, check):
            return True
    return False


def _reason(cells: Mapping[Cell, dict[str, Any]]) -> str:
    """Of a failure that counts, if there is one; the patched kernel's first."""
    bad = sorted((check for check in cells.values() if check['verdict'] != 'pass'), key=lambda c: bool(c.get('known')))
    if not bad:
        return ''
    mine = next((c for (kernel, _), c in cells.items() if kernel == 'patched' and state(c) is State.BAD), bad[0])
    return printable(f'known failure: {mine["known"]}' if mine.get('known') else mine['reason'])


def explain(cells: Mapping[Cell, str]) -> tuple[str, str]:
    """The axis along which verdicts differ, and the same in words."""
    by_kernel = {kernel: {v for (k, _), v in cells.items() if k == kernel} for kernel in KERNELS}
    by_section = {section: {v for (_, s), v in cells.items() if s == section} for section in SECTIONS}
    if all(len(values) <= 1 for values in by_kernel.values()):
        sections = ' and '.join(s for s in SECTIONS if len([1 for _, section in cells if section == s]) == 2)
        if sections:
            return KERNEL, f'{_said(by_kernel)}, over {sections}'
        return UNCLEAR, _cells(cells)
    if all(len(values) <= 1 for values in by_section.values()):
        kernels = ' and '.join(k for k in KERNELS if len([1 for kernel, _ in cells if kernel == k]) == 2)
        return TRANSPORT, f'{_said(by_section)}, on {kernels}'
    odd = [cell for cell in cells if len({v for other, v in cells.items() if other != cell}) == 1]
    if len(cells) > 2 and len(odd) == 1:
        (kernel, section) = odd[0]
        others = next(verdict for cell, verdict in cells.items() if cell != odd[0])
        return BOTH, f'only {kernel} over {section}: {cells[odd[0]]}; elsewhere {others}'
    return UNCLEAR, _cells(cells)


def _said(groups: Mapping[str, set[str]]) -> str:
    return ', '.join(f'{name} {"/".join(sorted(values))}' for name, values in groups.items() if values)


def _cells(cells: Mapping[Cell, str]) -> str:
    return ', '.join(f'{kernel} {section} {verdict}' for (kernel, section), verdict in cells.items())


def _comparable(stock: dict[str, Any], patched: dict[str, Any]) -> None:
    wrong = [
        f'{name}: {stock[name]} and {patched[name]}'
        for name in ('seed', 'cpus', 'accelerator')
        if stock[name] != patched[name]
    ]
    if (stock.get('programs') or {}).get('digest') != (patched.get('programs') or {}).get('digest'):
        wrong.append('server and programs')
    digests = {(c['name'], c['section']): c.get('digest') for c in stock['checks']}
    changed = [
        f'{c["name"]}'
        for c in patched['checks']
        if digests.get((c['name'], c['section']), c.get('digest')) != c.get('digest')
    ]
    if changed:
        wrong.append(f'checks: {" ".join(sorted(set(changed)))}')
    if stock['kernel']['build_id'] == patched['kernel']['build_id'] is not None:
        raise UsageError('both runs are of the same kernel', hint='name the run of the stock kernel first')
    if wrong:
        raise UsageError('the two runs differ in more than the kernel', '\n'.join(wrong), 'make both runs again')


def render(found: list[Difference], stock: dict[str, Any], patched: dict[str, Any], console: Console) -> None:
    """Print what differs."""
    for kernel, table in zip(KERNELS, (stock, patched), strict=True):
        console.print(f'{kernel}: {table["kernel"]["release"]}, run {table["run"]}', highlight=False, soft_wrap=True)
    for item in found:
        # Lines, for they are read in logs as often as on a wide terminal.
        title = Text(f'{item.name}: {item.axis}: {item.text}', 'red' if item.worse else 'yellow')
        console.print(title, soft_wrap=True)
        for line in (_cells(item.verdicts), item.reason):
            if line:
                console.print(Text(f'    {line}'), soft_wrap=True)
    compared = {c['name'] for c in stock['checks']} | {c['name'] for c in patched['checks']}
    console.print(f'{len(found)} of {len(compared)} checks differ', style='bold', highlight=False)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('differential', help='two runs, of a stock and a patched kernel: what differs')
    parser.add_argument(
        'runs',
        nargs='*',
        type=Path,
        metavar='FOLDER',
        help='results of the stock and of the patched kernel; default: run both now',
    )
    parser.add_argument('--stock', type=Path, metavar='PATH', help='stock kernel that is built; default: SERIES=none')
    parser.add_argument('--cpus', type=int, default=2, metavar='N', help='virtual CPUs of a guest (default 2)')
    for name in (*_SHARED, *_TREE):
        text = "this xfstests tree's tests" if name == 'xfstests' else 'as of vm-test'
        # The runs are made in the repository, wherever this is called.
        kind = os.path.abspath if name in _FOLDERS else str
        parser.add_argument(f'--{name}', type=kind, metavar=name.upper(), help=f'{text}; for both kernels')
    parser.set_defaults(func=_command)


def _both(lab: Lab, args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    def words(*names: str) -> list[str]:
        return [word for name in names if getattr(args, name) for word in (f'--{name}', getattr(args, name))]

    common = ['--cpus', str(args.cpus), *words(*_SHARED)]
    base = words(*(name for name in _TREE if name != 'series'))
    stock = ['--kernel', str(args.stock.absolute())] if args.stock else ['--series', 'none', *base]
    patched = words(*_TREE)
    return run_checks(lab, [*common, *stock], 'stock')[1], run_checks(lab, [*common, *patched], 'patched')[1]


def _command(args: argparse.Namespace, lab: Lab) -> int:
    if len(args.runs) not in (0, 2):
        raise UsageError('differential takes two runs, or none', hint='first that of the stock kernel')
    stock, patched = map(results.read, args.runs) if args.runs else _both(lab, args)
    found = differences(stock, patched)
    render(found, stock, patched, Console(highlight=False))
    if any(item.worse for item in found):
        return EXIT_VERDICT
    lost = sum(state(check) is State.LAB for table in (stock, patched) for check in table['checks'])
    if lost:
        log.warning('%d checks have no verdict, for trouble in the lab', lost)
    return EXIT_LAB if lost else EXIT_PASS
