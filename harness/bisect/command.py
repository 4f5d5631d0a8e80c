# SPDX-License-Identifier: GPL-2.0-only
"""Sub-commands `bisect-series` and `bisect`: the patch, or the commit, that broke a check or costs more.

Exit status: 0 the guilty one is named; 1 cannot tell, and why; 2 usage; 3 lab trouble.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from harness import check, kernel, runfolder, series, source
from harness.bench import rows
from harness.bench.command import VARIANT
from harness.bench.rows import Measure, Side, Workload
from harness.bisect import state, subjects
from harness.bisect.judgement import CostsMore, FailsThisWay
from harness.bisect.report import Answer, write
from harness.bisect.search import Search, find, find_healing
from harness.bisect.subjects import Range
from harness.bisect.trial import CheckTrial, CostTrial, Item, Trial
from harness.campaign import CampaignOptions
from harness.errors import EXIT_PASS, EXIT_VERDICT, UsageError
from harness.execute import FOR_CHECKS
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.machine import stop_all
from harness.mount import build_bundle
from harness.plugin import add_guest_options, options_of
from harness.series import PatchSeries

log = logging.getLogger(__name__)

CONFIDENCE = 0.95
WORSE = 0.01


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('bisect-series', help='the first patch of the series that breaks a check')
    _add_options(parser)
    parser.add_argument('--reverse', action='store_true', help='drop one patch at a time: which drops heal it?')
    parser.add_argument(
        '--good-series',
        metavar='DIR',
        help='with --row: compare costs prefix by prefix with this version of the series',
    )
    parser.set_defaults(func=_command, good=None, bad=None)
    parser = subparsers.add_parser('bisect', help='the first git commit that breaks a check')
    _add_options(parser)
    parser.add_argument('--good', required=True, metavar='COMMIT', help='of --kdir: it passes')
    parser.add_argument('--bad', required=True, metavar='COMMIT', help='of --kdir: it fails')
    parser.set_defaults(func=_command, reverse=False, good_series=None)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--check', action='append', default=None, metavar='AREA/NNN', help='the check that is broken')
    parser.add_argument('--row', metavar='ROW', help='instead: a row of cost/ that has become dearer')
    parser.add_argument(
        '--section', action='append', choices=('dev', 'nosplice', 'uring'), default=None, metavar='NAME',
        help='dev or uring (default: the one that fails at the bad end, dev before uring; uring for a row)',
    )  # fmt: skip
    parser.add_argument(
        '--worse', type=_share, default=None, metavar='PERCENT', help='with --row: what counts as dearer (default 1%%)'
    )
    parser.add_argument('--any', action='store_true', help='any failure counts, not only one like that of the bad end')
    parser.add_argument(
        '--confidence', type=_share_or_percent, default=CONFIDENCE, metavar='P', help=f'default {CONFIDENCE}'
    )
    parser.add_argument('--restart', action='store_true', help='forget what an interrupted run has found out')
    parser.add_argument('--seed', type=int, default=1, metavar='N', help='for the random parts of checks (default 1)')
    add_guest_options(parser.add_argument)
    kernel.add_options(parser)


def _share(text: str) -> float:
    """Percent, with or without the sign."""
    value = float(text.rstrip('% ')) / 100
    if not 0 < value < 10:
        raise argparse.ArgumentTypeError(f'{text}: more than 0 %')
    return value


def _share_or_percent(text: str) -> float:
    value = float(text.rstrip('% '))
    value = value / 100 if value > 1 or '%' in text else value
    if not 0.5 < value < 1:
        raise argparse.ArgumentTypeError(f'{text}: between 0.5 and 1')
    return value


# --- what is asked for ---------------------------------------------------------------------------


def _command(args: argparse.Namespace, lab: Lab) -> int:
    if args.kernel is not None:
        raise UsageError('--kernel leaves nothing to look into')
    if (args.row is None) == (args.check is None):
        raise UsageError('what is broken?', hint='CHECK=uring/007, or BENCH=cost/randread-4k')
    if args.row is None and (args.worse is not None or args.good_series):
        raise UsageError('--worse and --good-series are for a cost', hint='BENCH=cost/randread-4k')
    if args.row is not None and (args.reverse or args.any):
        raise UsageError('--reverse and --any are for checks')
    row = _row(args.row) if args.row is not None else None
    if row is not None and not args.variant:
        args.variant = VARIANT
    options = options_of(lab, args)
    request = replace(options.request, mend=False)
    items = _items(lab, args) if row is None else ()
    with ExitStack() as stack:
        asked = _range(lab, args, request)
        if lab.dry_run:
            return _plan(lab, asked)
        inputs = _inputs(lab, args, options, asked, items, row)
        key = state.digest(inputs)
        stack.enter_context(lab.cache.lock(f'bisect-{key}', 'the same bisection'))
        run = runfolder.create(lab.root / 'results')
        lab.runner.log_dir = lab.runner.log_dir or run.path / 'stages'
        kept = state.State(lab.cache.root / 'bisect' / f'{key}.jsonl', inputs, args.restart)
        if kept.observations:
            log.info('going on after %d runs (RESTART=1 forgets them)', len(kept.observations))
        trial: Trial
        if row is not None:
            trial = CostTrial(lab, options, run, row, _side(args, row))
        else:
            trial = CheckTrial(lab, options, run, items)
        search = Search(asked, trial, kept, args.confidence)
        started = time.monotonic()
        try:
            answer = _answer(args, search, row, stack)
        except KeyboardInterrupt:
            log.warning('interrupted after %d runs; the same command goes on', len(kept.observations))
            raise
        finally:
            trial.close()
            stop_all()
        write(run, search, answer, time.monotonic() - started, Console(highlight=False))
        return EXIT_PASS if answer.found else EXIT_VERDICT


def _answer(args: argparse.Namespace, search: Search, row: Workload | None, stack: ExitStack) -> Answer:
    if row is not None:
        limit = args.worse if args.worse is not None else WORSE
        return find(search, CostsMore(limit, {}, (), f'{row.key} ({_side(args, row).label})'))
    criterion = FailsThisWay(any=args.any)
    if args.reverse:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='fuse-lab-bisect-')))
        return find_healing(search, criterion, folder)
    return find(search, criterion)


def _row(name: str) -> Workload:
    found = rows.select([name])
    if len(found) != 1 or found[0].measure is not Measure.COST:
        hint = 'there are ' + ' '.join(row.key for row in (*rows.COSTS, *rows.EXPORT_COSTS, *rows.KRPC_COSTS))
        raise UsageError(f'{name}: one row of cost/ is needed: only these repeat exactly', hint=hint)
    return found[0]


def _side(args: argparse.Namespace, row: Workload) -> Side:
    if len(args.section or ()) > 1:
        raise UsageError('one section at a time for a cost')
    if not args.section:
        return row.own
    side = {'dev': Side.DEV, 'nosplice': Side.NOSPLICE, 'uring': Side.RING}[args.section[0]]
    if side not in row.sides:
        raise UsageError(f'{row.key} is not measured with --section {args.section[0]}', hint='leave it out')
    return side


def _items(lab: Lab, args: argparse.Namespace) -> tuple[Item, ...]:
    root = lab.root / 'tests' / 'checks'
    found = [check.parse(path) for path in check.discover(root) if check.named(path, args.check)]
    items = tuple(
        Item(one, section) for one in found for section in one.sections if not args.section or section in args.section
    )
    if not items:
        raise UsageError(f'no check fits {" ".join(args.check)}' + (f' in {args.section[0]}' if args.section else ''))
    return items


def _range(lab: Lab, args: argparse.Namespace, request: KernelRequest) -> Range:
    if args.good is not None:
        return subjects.of_commits(lab, request, args.good, args.bad)
    whole, other = _versions(lab, args)
    return subjects.of_series(replace(request, prefix=None), whole, other)


def _versions(lab: Lab, args: argparse.Namespace) -> tuple[PatchSeries, PatchSeries | None]:
    """The series, and the version of it that it is compared with."""
    tree = source.prepare(lab, source.request_of(args))
    whole = series.selected(lab, tree, args)
    other = series.choose(lab, tree, args.good_series) if args.good_series else None
    return whole, other


def _inputs(
    lab: Lab,
    args: argparse.Namespace,
    options: CampaignOptions,
    asked: Range,
    items: Sequence[Item],
    row: Workload | None,
) -> dict[str, Any]:
    """Everything that the runs depend on."""
    request = options.request
    tree = source.prepare(lab, request.source) if asked.series else None
    return {
        'kernels': [subject.key for subject in asked.subjects],
        'references': [subject.reference.key for subject in asked.subjects if subject.reference is not None],
        'source': tree.source_id if tree is not None else '',
        'series': '' if asked.series else _series_digest(lab, request),
        'config': request.config.digest,
        'checks': [[item.key, item.check.digest()] for item in items],
        'row': [row.key, row.definition, str(_side(args, row))] if row is not None else [],
        'programs': build_bundle(lab).digest(),
        'guest': [options.cpus, options.memory_mb, options.accel, options.seed],
        'environment': {name: value for name, value in os.environ.items() if name.startswith(FOR_CHECKS)},
    }


def _series_digest(lab: Lab, request: KernelRequest) -> str:
    """Of what goes on top of each commit."""
    if request.series == series.NO_SERIES:
        return request.series
    if request.series:
        return series.load(Path(request.series).expanduser().absolute()).digest
    folders = sorted(path.parent for path in lab.patches.glob('*/series'))
    return ' '.join(f'{folder.name}:{series.load(folder).digest}' for folder in folders)


def _plan(lab: Lab, asked: Range) -> int:
    """What would be looked into, and how its bad end is made."""
    logging.getLogger('harness.dry_run').info(
        '# %d suspects, %d kernels; first the bad end: %s',
        len(asked.suspects),
        len(asked.subjects),
        asked.subjects[-1].name,
    )
    kernel.obtain(lab, asked.subjects[-1].request)
    return EXIT_PASS
