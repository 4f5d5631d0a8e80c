# SPDX-License-Identifier: GPL-2.0-only
"""`python -m harness`: the command line. The only place that prints or sets exit statuses."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.command import Runner
from harness.errors import EXIT_INTERRUPTED, EXIT_LAB, EXIT_PASS, HarnessError
from harness.lab import Lab

# Modules that bring sub-commands, in the order `--help` shows them. Each has
#     add_parser(subparsers)   which adds its parsers and sets `func` to a function
#     func(args, lab)          that returns text for stdout, or an exit status, or nothing
STAGES = (
    'harness.source',
    'harness.series',
    'harness.build',
    'harness.handson',
    'harness.vmtest',
    'harness.bench.command',
    'harness.bisect.command',
    'harness.breakages',
    'harness.adjudicate',
    'harness.report',
    'harness.formats.compare',
    'harness.formats.differential',
    'harness.coverage',
    'harness.housekeeping',
)


def make_parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    # SUPPRESS: a default of the sub-command's must not undo what was said before its name.
    common.add_argument('-v', '--verbose', action='count', default=argparse.SUPPRESS,
                        help='print each command and stream its output; -vv: tracebacks too')  # fmt: skip
    common.add_argument('--dry-run', action='store_true', default=argparse.SUPPRESS,
                        help='print the real commands and touch nothing')  # fmt: skip
    common.add_argument('-j', '--jobs', type=_positive, default=argparse.SUPPRESS, metavar='N',
                        help='jobs of make (default: one for each CPU)')  # fmt: skip
    common.add_argument('--log-dir', type=Path, default=argparse.SUPPRESS, metavar='DIR',
                        help='keep the commands and output of each stage in DIR/STAGE.log')  # fmt: skip
    parser = argparse.ArgumentParser(
        prog='python -m harness',
        description='Carry a kernel patch series, boot the kernel it makes, and check FUSE inside it.',
        epilog='exit status: 0 pass, 1 verdict (what you brought fails), 2 usage, 3 lab trouble, 130 interrupted',
        parents=[common],
    )
    subparsers = parser.add_subparsers(
        title='stages', metavar='STAGE', required=True, parser_class=_parser_class(common)
    )  # fmt: skip
    for name in STAGES:
        importlib.import_module(name).add_parser(subparsers)
    return parser


def _parser_class(common: argparse.ArgumentParser) -> type[argparse.ArgumentParser]:
    class SubcommandParser(argparse.ArgumentParser):
        """A parser that knows the common options without each stage's having to ask for them."""

        def __init__(self, *args: object, **kwargs: object) -> None:
            kwargs.setdefault('parents', [common])
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    return SubcommandParser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError('at least 1')
    return value


def main(argv: Sequence[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    verbose: int = getattr(args, 'verbose', 0)
    set_up_logging(verbose)
    # Both end a run in the same orderly way as Ctrl-C: no guest, mount or lock is left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    runner = Runner(verbose > 0, getattr(args, 'dry_run', False), getattr(args, 'log_dir', None))
    try:
        lab = Lab(runner, **({'jobs': args.jobs} if 'jobs' in args else {}))
        result = args.func(args, lab)
        if isinstance(result, str) and not lab.dry_run:
            print(result)
        if lab.clock.seconds and not lab.dry_run:
            logging.getLogger('harness').info('took: %s', lab.clock.breakdown())
        return result if isinstance(result, int) else EXIT_PASS
    except HarnessError as error:
        print(explain(error), file=sys.stderr)
        if verbose > 1:
            traceback.print_exc()
        return error.exit_status
    except KeyboardInterrupt:
        where = f'; logs are in {runner.log_dir}' if runner.log_dir else ''
        print(f'interrupted{where}', file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has had enough (`| head`). Keeps Python from complaining at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_PASS
    except Exception as error:
        print(f'lab trouble: the harness itself failed: {type(error).__name__}: {error}', file=sys.stderr)
        traceback.print_exc()
        return EXIT_LAB


def explain(error: HarnessError) -> str:
    """An error as the user sees it: what, evidence, what to do."""
    lines = [f'{error.kind}: {error.what}']
    lines += [f'    {line}' for line in error.detail.splitlines()]
    lines += [f'  {line}' for line in error.hint.splitlines()]
    return '\n'.join(lines)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def set_up_logging(verbose: int) -> None:
    """Talk goes to stderr. The commands of a dry run are its result, so they go to stdout."""
    talk = logging.StreamHandler(sys.stderr)
    talk.setFormatter(logging.Formatter('%(message)s'))
    top = logging.getLogger('harness')
    top.handlers[:] = [talk]
    top.setLevel(logging.INFO)
    top.propagate = False
    logging.getLogger('harness.command').setLevel(logging.INFO if verbose else logging.WARNING)
    plan = logging.StreamHandler(sys.stdout)
    plan.setFormatter(logging.Formatter('%(message)s'))
    dry_run = logging.getLogger('harness.dry_run')
    dry_run.handlers[:] = [plan]
    dry_run.propagate = False
