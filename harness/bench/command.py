# SPDX-License-Identifier: GPL-2.0-only
"""Sub-commands `bench`, `bench-gate` and `bench-compare`."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import logging
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness import accel, config, kernel, runfolder
from harness.bench import export, gate, identity, native, plot, profile, record, rows, server, table
from harness.bench.figures import Figure, State, rows_of
from harness.bench.identity import Identity
from harness.bench.measure import Campaign, GuestPlace, Place, Subject, require_fio, words_of
from harness.bench.rows import Measure, Workload
from harness.boot import TCG, Accelerator, command_line
from harness.cli import explain
from harness.command import quote
from harness.errors import EXIT_INTERRUPTED, EXIT_PASS, EXIT_VERDICT, HarnessError, LabError, UsageError
from harness.image import KernelImage
from harness.keeper import GuestKeeper, GuestPlan
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.machine import stop_all
from harness.mount import Bundle, build_bundle
from harness.plugin import add_guest_options
from harness.runfolder import RunFolder

log = logging.getLogger(__name__)
plan_log = logging.getLogger('harness.dry_run')

VARIANT = 'bench'
ROUNDS = {Measure.COST: 2, Measure.THROUGHPUT: 3, Measure.NATIVE: 3, Measure.EXPORT: 3, Measure.KRPC: 5}
MEMORY_MB = {Measure.COST: 1024, Measure.THROUGHPUT: 2048, Measure.EXPORT: 2048, Measure.KRPC: 2048}
# Wall clock in a guest: with whatever accelerator there is
TIMED = frozenset({Measure.THROUGHPUT, Measure.EXPORT, Measure.KRPC})
BUSY = 0.1  # of the CPUs, used by others: wall clock figures are then noise
RUN_BENCH = '/lab/guest/run-bench'


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('bench', help='what a request costs, and how many get through: ring and device')
    _add_options(parser)
    parser.add_argument('--kernel-b', type=Path, metavar='PATH', help='a second kernel, beside ours: bzImage or folder')
    parser.add_argument('--server-b', default='', metavar='COMMAND', help='a second server, beside ours')
    parser.add_argument('--native', action='store_true', help="also on this machine's own kernel (root, ring needed)")
    parser.add_argument(
        '--readme', action='store_true', help="put the exported images' table and picture into README.md"
    )
    parser.add_argument('--profile', default='', metavar='ROW',
                        help='only: where the instructions of this row go, by function')  # fmt: skip
    parser.set_defaults(func=_bench)
    parser = subparsers.add_parser('bench-gate', help='fail when a deterministic cost has grown by more than 1 %%')
    _add_options(parser)
    parser.add_argument('--base', type=Path, required=True, metavar='FOLDER', help='the run to compare with')
    parser.add_argument('--run', type=Path, metavar='FOLDER', help='compare this run; measure nothing')
    parser.set_defaults(func=_gate)
    parser = subparsers.add_parser('bench-compare', help='two runs of bench side by side, where they are comparable')
    parser.add_argument('new', type=Path, metavar='FOLDER')
    parser.add_argument('old', type=Path, metavar='BASE')
    parser.set_defaults(func=_compare)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_guest_options(parser.add_argument)
    kernel.add_options(parser)
    group = parser.add_argument_group('bench')
    group.add_argument('--row', action='append', default=None, metavar='PATTERN',
                       help="rows by name, such as cost/randread-4k or 'throughput/*'")  # fmt: skip
    group.add_argument('--rounds', type=int, default=0, metavar='N',
                       help='how often each figure is measured (default: cost 2, krpc 5, others 3)')  # fmt: skip
    group.add_argument('--server', default='', metavar='COMMAND',
                       help='another server: a mirrorfs, or a command with {source} and {mountpoint}')  # fmt: skip


def _bench(args: argparse.Namespace, lab: Lab) -> int | str:
    if args.profile:
        return _profile(args, lab)
    chosen = rows.select(_patterns(args), args.native)
    return Bench(args, lab, chosen).go()


def _patterns(args: argparse.Namespace) -> list[str]:
    return [word for text in args.row or () for word in text.replace(',', ' ').split()]


class Bench:
    """A run in progress."""

    def __init__(self, args: argparse.Namespace, lab: Lab, chosen: tuple[Workload, ...]) -> None:
        if args.rounds and args.rounds < 2:
            raise UsageError(f'--rounds {args.rounds}: at least 2, or there is no spread to report')
        if not 1 <= args.cpus <= 64:
            raise UsageError(f'--cpus {args.cpus}: from 1 to 64')
        if args.kernel is None and not args.variant:
            args.variant = VARIANT
        self._args = args
        self._rows = chosen
        self._request = kernel.request_of(lab, args)
        self._programs = lab.build / 'guest' / 'bin'
        self._console = _console()
        self._started = time.monotonic()
        self._when = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
        self._facts: dict[str, Any] = {}
        self._keepers: list[GuestKeeper] = []
        self._held = ExitStack()  # the kernels, so that other runs leave them in the cache
        self.lab = lab
        self.run: RunFolder | None = None
        self.subjects: tuple[Subject, ...] = ()
        self.figures: dict[tuple[str, str, str], Figure] = {}
        self.accelerator: Accelerator | None = None
        self.notes: list[str] = []

    # --- the whole run -----------------------------------------------------------------------------

    def go(self) -> int:
        """Measure, write, print. Exit status: 1 when a row could not be measured as it should be."""
        if self.lab.dry_run:
            return self._plan()
        require_fio(self._rows, shutil.which('fio'))
        self.run = self._folder()
        status, problem = EXIT_PASS, ''
        try:
            bundle = self._prepare(self.run)
            for measure in Measure:
                self._measure(measure, bundle)
        except HarnessError as error:
            self._console.print(explain(error), markup=False, soft_wrap=True)
            status, problem = error.exit_status, f'{error.kind}: {error.what}'
        except KeyboardInterrupt:
            status, problem = EXIT_INTERRUPTED, 'interrupted'
        finally:
            complaints = self._end_guests()
            stop_all()
            self._held.close()
        if status == EXIT_PASS and any(figure.state is State.FAILED for figure in self.figures.values()):
            status, problem = EXIT_VERDICT, 'not all could be measured'
        if status == EXIT_PASS and complaints:
            status, problem = EXIT_VERDICT, f'the kernel complained: {complaints[0]}'
        made = self.table(status, problem)
        record.write(self.run.path, made)
        if made['rows']:
            plot.draw(made, self.run.path)
            table.render(made, self.run.path, self._console)
            if getattr(self._args, 'readme', False):
                export.update_readme(self.lab.root, self.run.path, made)
        self.run.publish()
        return status

    def _folder(self) -> RunFolder:
        run = runfolder.create(self.lab.root / 'results')
        self.lab.runner.log_dir = self.lab.runner.log_dir or run.path / 'stages'
        return run

    def _prepare(self, run: RunFolder) -> Bundle:
        """Kernels, servers and the guest's programs."""
        bundle = build_bundle(self.lab)
        self.subjects = self._make_subjects()
        measures = {row.measure for row in self._rows}
        if measures & TIMED:
            own = self.subjects[0].kernel
            assert own is not None
            self.accelerator = accel.choose(own, self.lab.cache, run.guest('probe'), self._args.accel)
        self._facts |= identity.of_host(self.lab)
        return bundle

    def _make_subjects(self) -> tuple[Subject, ...]:
        args = self._args
        guests = any(row.measure is not Measure.NATIVE for row in self._rows)
        own = self._used(self._request) if guests else None
        subjects = [Subject('a', own, server.parse(args.server, self._programs))]
        kernel_b, server_b = getattr(args, 'kernel_b', None), getattr(args, 'server_b', '')
        if kernel_b is not None or server_b:
            other = self._used(replace(self._request, kernel=kernel_b)) if kernel_b is not None else own
            subjects.append(Subject('b', other, server.parse(server_b or args.server, self._programs)))
        return tuple(subjects)

    def _used(self, request: KernelRequest) -> KernelImage:
        return self._held.enter_context(kernel.used(self.lab, request))

    # --- measuring ---------------------------------------------------------------------------------

    def _measure(self, measure: Measure, bundle: Bundle) -> None:
        mine = tuple(row for row in self._rows if row.measure is measure)
        if not mine:
            return
        load = OthersLoad()
        with self.lab.clock.stage(str(measure)), ExitStack() as stack:
            subjects = self.subjects
            if measure is Measure.NATIVE:
                # The kernel is the machine's own: one subject for each server.
                subjects = tuple(Subject(s.name, None, s.server) for s in _by_server(self.subjects))
            places = self._places(measure, subjects, bundle, stack)
            script = RUN_BENCH if measure is not Measure.NATIVE else str(self.lab.root / 'vm' / 'guest' / 'run-bench')
            rounds = self._args.rounds or ROUNDS[measure]
            for sides in dict.fromkeys(row.sides for row in mine):
                some = tuple(row for row in mine if row.sides == sides)
                for figure in Campaign(some, subjects, places, rounds, script).measure(self._told):
                    self._keep(figure)
        self._end_guests(keep_strays=True)
        if measure is not Measure.COST and load.share() > BUSY:
            self._note([f'{measure}: other programs kept {100 * load.share():.0f} % of the CPUs busy: do not trust it'])

    def _places(
        self, measure: Measure, subjects: tuple[Subject, ...], bundle: Bundle, stack: ExitStack
    ) -> dict[str, Place]:
        assert self.run is not None
        if measure is Measure.NATIVE:
            host = stack.enter_context(native.place(self.lab, self.run.path / 'native'))
            return {subject.name: host for subject in subjects}
        places: dict[str, Place] = {}
        by_kernel: dict[Path, GuestPlace] = {}
        for subject in subjects:
            assert subject.kernel is not None
            if subject.kernel.image not in by_kernel:
                plan = self._guest_plan(measure, subject.name, subject.kernel)
                keeper = GuestKeeper(plan, bundle)
                self._keepers.append(keeper)
                by_kernel[subject.kernel.image] = GuestPlace(keeper)
            places[subject.name] = by_kernel[subject.kernel.image]
        self._ask_guests(measure, subjects, places)
        return places

    def _guest_plan(self, measure: Measure, subject: str, chosen: KernelImage) -> GuestPlan:
        assert self.run is not None
        counting = measure is Measure.COST
        return GuestPlan(
            chosen,
            TCG if counting else self.accelerator or TCG,
            1 if counting else self._args.cpus,
            self.run,
            self.lab.cache,
            self.lab.clock,
            self._args.memory or MEMORY_MB[measure],
            worker=f'{measure}-{subject}-',
            count_instructions=counting,
        )

    def _ask_guests(self, measure: Measure, subjects: tuple[Subject, ...], places: dict[str, Place]) -> None:
        """What the guests say about themselves: for the identity, and what would make them unequal."""
        assert self.run is not None
        options: dict[str, dict[str, str]] = {}
        for subject in subjects:
            place = places[subject.name]
            assert isinstance(place, GuestPlace)
            text = place.ask('[ ! -e /proc/config.gz ] || zcat /proc/config.gz')
            record.write_text(self.run.path / record.CONFIG.format(subject.name), text + '\n')
            options[subject.name] = config_options = identity.relevant_options(text)
            if subject.name == 'a':
                self._facts['config'] = identity.config_digest(text)
                if measure is Measure.COST:
                    cpu = place.ask('grep -E -m2 "^(model name|flags)" /proc/cpuinfo')
                    self._facts['guest_cpu'] = hashlib.sha256(cpu.encode()).hexdigest()
            self._note(unequal(subject.name, config_options, options['a']))

    def _note(self, notes: list[str]) -> None:
        self.notes += [note for note in notes if note not in self.notes]

    def _told(self, figure: Figure) -> None:
        self._keep(figure)
        seconds = int(time.monotonic() - self._started)
        what = f'[{seconds // 60}:{seconds % 60:02d}] {figure.workload.key}'
        if len(self.subjects) > 1:
            what += f' {figure.subject}'
        said = f'{figure.state}: {figure.reason}'
        if figure.values:
            said = f'{figure.values[-1]:.5g} {figure.workload.unit}'
        colour = '' if figure.state is State.MEASURED else 'yellow' if figure.state is State.NOTRUN else 'red'
        self._console.print(Text(f'{what} {figure.side.label}: {said}', colour), soft_wrap=True)

    def _keep(self, figure: Figure) -> None:
        self.figures[figure.workload.key, str(figure.side), figure.subject] = figure

    def _end_guests(self, keep_strays: bool = False) -> list[str]:
        """End all guests; what their kernels complained about."""
        for keeper in self._keepers:
            keeper.discard()
        complaints = [f'{event.kind}: {event.line}' for keeper in self._keepers for event in keeper.strays]
        if not keep_strays:
            self._note([f'console: {line}' for line in complaints[:5]])
        return complaints

    # --- what comes out ----------------------------------------------------------------------------

    def identity(self) -> Identity:
        empty = dict.fromkeys(Identity.__dataclass_fields__, '')
        first = self.subjects[0].kernel if self.subjects else None
        own = {
            'accelerator': self.accelerator.name if self.accelerator else TCG.name,
            'guest_cpus': self._args.cpus,
            'variant': first.variant if first else '',
        }
        return Identity(**{**empty, **self._facts, **own})

    def table(self, status: int | None, problem: str) -> dict[str, Any]:
        """What bench.json says."""
        assert self.run is not None
        figures = list(self.figures.values())
        made = [row for measure in Measure for row in self._rows_of(measure, figures)]
        return {
            'format': record.FORMAT,
            'run': self.run.name,
            'started': self._when,
            'status': status,
            'problem': problem,
            'identity': self.identity().as_dict(),
            'subjects': {subject.name: _subject_dict(subject) for subject in self.subjects},
            'rows': [record.row_dict(row) for row in made],
            'figures': [record.figure_dict(figure) for figure in figures],
            'stages': {name: round(seconds, 2) for name, seconds in self.lab.clock.seconds.items()},
            'notes': self.notes,
        }

    def _rows_of(self, measure: Measure, figures: list[Figure]) -> list[Any]:
        mine = [figure for figure in figures if figure.workload.measure is measure]
        kernels = measure is not Measure.NATIVE and len({subject.kernel for subject in self.subjects}) > 1
        return rows_of(mine, any(figure.subject == 'b' for figure in mine), kernels)

    def _plan(self) -> int:
        """The commands of a run, none of them carried out."""
        self.run = RunFolder(self.lab.root / 'results' / 'RUN')
        build_bundle(self.lab)
        self.subjects = self._make_subjects()
        for measure in Measure:
            if measure is Measure.NATIVE:
                continue
            mine = [row for row in self._rows if row.measure is measure]
            for subject in self.subjects if mine else ():
                assert subject.kernel is not None
                plan = self._guest_plan(measure, subject.name, subject.kernel)
                plan_log.info('%s', quote(command_line(plan.spec(f'{plan.worker}checks-1', 1.0))))
                place = GuestPlace(GuestKeeper(plan, Bundle(())))
                for row in mine:
                    for side in row.sides:
                        words = words_of(row, side, subject.server, place, RUN_BENCH)
                        plan_log.info('in the guest: %s', quote(words))
        return EXIT_PASS

    # --- profile -----------------------------------------------------------------------------------

    def profile(self) -> list[Path]:
        """Profiles of the rows chosen, into the run's folder."""
        self.run = self._folder()
        files: list[Path] = []
        try:
            bundle = self._prepare(self.run)
            with ExitStack() as stack:
                places = self._places(Measure.COST, self.subjects, bundle, stack)
                campaign = Campaign(self._rows, self.subjects, places, 2, RUN_BENCH)
                for figure in campaign.measure(self._told):
                    if figure.state is not State.MEASURED:
                        raise LabError(f'{figure.workload.key} {figure.side.label}: {figure.reason}')
                    self._keep(figure)
                    files.append(self._profile_one(figure, places))
        finally:
            self._end_guests()
            stop_all()
            self._held.close()
        self.run.publish()
        return files

    def _profile_one(self, figure: Figure, places: dict[str, Place]) -> Path:
        assert self.run is not None
        place = places[figure.subject]
        assert isinstance(place, GuestPlace)
        subject = next(subject for subject in self.subjects if subject.name == figure.subject)
        log.info('profiling %s %s', figure.workload.key, figure.side.label)
        lines = profile.profile(figure.workload, figure.side, subject, place, RUN_BENCH)
        path = self.run.path / 'profile' / f'{figure.workload.name}.{figure.subject}.{figure.side}.txt'
        record.write_text(path, profile.text(figure.workload, figure.side, lines, figure.value))
        return path


class OthersLoad:
    """How much of the machine's CPUs other programs use from now on."""

    def __init__(self) -> None:
        self._cpus = len(os.sched_getaffinity(0))
        self._start = self._seconds()

    def share(self) -> float:
        """From 0 to 1. Our own guests count as others while they run: ask when they have ended."""
        busy, own, now = (new - old for new, old in zip(self._seconds(), self._start, strict=True))
        return max(0.0, busy - own) / (now * self._cpus) if now else 0.0

    @staticmethod
    def _seconds() -> tuple[float, float, float]:
        words = Path('/proc/stat').read_text(encoding='ascii').split('\n', 1)[0].split()
        # user, nice, system, then idle and iowait, irq, softirq, steal
        busy = sum(int(word) for word in (*words[1:4], *words[6:9])) / os.sysconf('SC_CLK_TCK')
        return busy, sum(os.times()[:4]), time.monotonic()


def _console() -> Console:
    console = Console(highlight=False)
    # A file or a pipe is not as narrow as rich takes it to be.
    return console if console.is_terminal else Console(highlight=False, width=130)


def _by_server(subjects: tuple[Subject, ...]) -> tuple[Subject, ...]:
    """Subjects that differ in their server."""
    return subjects if len({subject.server.template for subject in subjects}) > 1 else subjects[:1]


def _subject_dict(subject: Subject) -> dict[str, Any]:
    chosen = subject.kernel
    return {
        'kernel': {
            'release': chosen.release if chosen else None,
            'build_id': chosen.build_id if chosen else None,
            'series': chosen.series_digest if chosen else None,
            'variant': chosen.variant if chosen else '',
            'image': str(chosen.image) if chosen else None,
        },
        'server': {
            'command': subject.server.template,
            'program': str(subject.server.program or subject.server.template.split()[0]),
            'digest': subject.server.digest,
        },
    }


def unequal(name: str, options: dict[str, str], first: dict[str, str]) -> list[str]:
    """Notes on options that cost instructions: those that the variant for measuring turns off."""
    costly = config.read_fragment(config.VARIANTS / f'{VARIANT}.config')
    if not options:
        return [f'kernel {name} does not say how it is configured: whether it is built to debug is unknown']
    on = [wish.name for wish in costly if options.get(wish.name, 'n') != wish.value]
    notes = []
    if on:
        notes.append(f'kernel {name} is built to debug, which costs instructions: {", ".join(on)}')
    if any((options.get(wish.name, 'n')) != first.get(wish.name, 'n') for wish in costly):
        notes.append(f'kernels a and {name} are not configured alike: their figures say little about their code')
    return notes


def _profile(args: argparse.Namespace, lab: Lab) -> str:
    chosen = rows.select([args.profile])
    profile.require(chosen)
    bench = Bench(args, lab, chosen)
    files = bench.profile()
    heads = ['\n'.join(path.read_text(encoding='utf-8').split('by thread and function')[0].splitlines()[:32])
             for path in files]  # fmt: skip
    return '\n\n'.join([*heads, 'whole tables: ' + ' '.join(str(path) for path in files)])


# --- two runs --------------------------------------------------------------------------------------


def _gate(args: argparse.Namespace, lab: Lab) -> int:
    base = record.read(args.base)
    if Measure.COST not in gate.measures_of(base):
        raise LabError(f'{args.base}: no cost was measured in this run')
    if args.run is None:
        chosen = tuple(row for row in rows.select(_patterns(args)) if row.measure is Measure.COST)
        if not chosen:
            raise UsageError('the gate looks at rows of cost/ only')
        bench = Bench(args, lab, chosen)
        status = bench.go()
        if lab.dry_run or bench.run is None:
            return status
        if status not in (EXIT_PASS, EXIT_VERDICT):
            return status
        args.run = bench.run.path
    new = record.read(args.run)
    measures = [Measure.COST]
    if Measure.COST not in gate.measures_of(new):
        raise LabError(f'{args.run}: no cost was measured in this run')
    gate.refuse_incomparable(new, base, measures, (args.run, args.base))
    pairs = gate.pairs(new, base, measures)
    lost = gate.lost(new, base, measures)
    if not pairs and not lost:
        raise LabError(f'no row in common with run {base["run"]}')
    console = _console()
    _print_pairs(pairs, new['run'], base['run'], console)
    grown = [pair for pair in pairs if pair.grown]
    for pair in grown:
        text = f'{pair.name} has grown from {pair.old:g} to {pair.new:g} ({100 * pair.change:+.1f} %)'
        console.print(Text(text, 'red'), soft_wrap=True)
    for line in lost:
        console.print(Text(f'not measured any more: {line}', 'red'), soft_wrap=True)
    verdict = f'{len(grown)} of {len(pairs)} costs have grown by more than {100 * gate.LIMIT:g} %'
    console.print(Text(verdict, 'bold'), soft_wrap=True)
    return EXIT_VERDICT if grown or lost or new['status'] == EXIT_VERDICT else EXIT_PASS


def _compare(args: argparse.Namespace, lab: Lab) -> int:
    new, old = record.read(args.new), record.read(args.old)
    measures = [measure for measure in gate.measures_of(new) if measure in gate.measures_of(old)]
    gate.refuse_incomparable(new, old, measures, (args.new, args.old))
    pairs = gate.pairs(new, old, measures)
    if not pairs:
        raise LabError('the two runs have no row in common')
    _print_pairs(pairs, new['run'], old['run'], _console())
    return EXIT_PASS


def _print_pairs(pairs: list[gate.Pair], new: str, old: str, console: Console) -> None:
    made = Table(title=f'{new} against {old}', title_justify='left')
    for name in ('figure', 'old', 'new', 'change'):
        made.add_column(name, justify='left' if name == 'figure' else 'right')
    for pair in pairs:
        change = Text(f'{100 * pair.change:+.2f} %', 'red' if pair.grown else '')
        made.add_row(pair.name, f'{pair.old:g}', f'{pair.new:g}', change)
    console.print(made)
