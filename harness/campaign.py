# SPDX-License-Identifier: GPL-2.0-only
"""One run: kernel and guest programs made ready, checks run in guests, canaries beside them.

Used by `vm-test` and, through the plugin, by a plain `pytest tests/checks`.
"""

from __future__ import annotations

import datetime
import logging
import os
import shlex
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness import accel, allowlist, capacity, coverage, formats, kernel, known, results, runfolder, xfstests
from harness.allowlist import AllowList
from harness.boot import Accelerator
from harness.canary import CanaryRun
from harness.check import SECTIONS, Check
from harness.console import Event
from harness.errors import HarnessError, LabError
from harness.execute import assignments, excerpt, run_check
from harness.guest import Guest
from harness.image import KernelImage
from harness.keeper import TRIES, GuestKeeper, GuestPlan
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.machine import stop_all
from harness.mount import Bundle, build_bundle
from harness.progress import Progress, Timings
from harness.results import RunFacts
from harness.runfolder import RunFolder
from harness.speed import Speed
from harness.symbolise import Symboliser
from harness.verdict import BAD, LAB, CheckResult, State, Verdict

log = logging.getLogger(__name__)

SHOWN_EVENTS = 20  # of a check, with their traces; the console log has all
ALLOW_LIST = Path('tests') / 'console-allow.toml'


@dataclass(frozen=True)
class CampaignOptions:
    """What a run is about; the same however it was started."""

    request: KernelRequest
    cpus: int = 2
    memory_mb: int = 0
    accel: str = 'auto'
    seed: int = 1
    keep_guest: bool = False
    canaries: bool = True
    guests: int = 0  # at once; 0: one, in this process
    xfstests: Path | None = None  # tests of this tree instead of ours
    known: Path | None = None  # folder with the user's own known failures


@dataclass(frozen=True)
class Prepared:
    """What is made once, however many guests there are."""

    kernel: KernelImage
    accelerator: Accelerator
    bundle: Bundle


class Campaign:
    """A run in progress."""

    def __init__(self, lab: Lab, options: CampaignOptions, run: RunFolder | None = None, worker: str = '') -> None:
        self.options = options
        self.run = run or runfolder.create(lab.root / 'results')
        # Each stage's commands and their output are kept with the results.
        lab.runner.log_dir = lab.runner.log_dir or self.run.path / 'stages'
        self.lab = lab
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
        self.progress: Progress | None = None
        self.kernel: KernelImage | None = None
        self.accelerator: Accelerator | None = None
        self.keeper: GuestKeeper | None = None
        self.canaries: CanaryRun | None = None
        self.allow: AllowList = allowlist.load(lab.root / ALLOW_LIST)
        self.known: dict[str, known.Known] = {}  # by section
        self.checks: list[dict[str, Any]] = []
        self.failed = False
        self._in_vain = 0  # checks in a row for which no guest came up
        self.worker = worker  # of pytest-xdist
        self.made: Prepared | None = None
        self.shares: dict[str, dict[str, Any]] = {}  # of the workers, by name; see share()
        self.programs = ''  # digest of what is copied into guests
        self._symboliser: Symboliser | None = None
        self._held = ExitStack()  # its kernel, so that other runs leave it in the cache

    def prepare(self) -> GuestKeeper:
        """Everything up to the first guest; boots none but the accelerator's probe."""
        self.make()
        assert self.keeper is not None
        return self.keeper

    def make(self) -> Prepared:
        """The same, for workers."""
        for entry in self.allow.expired():
            log.warning('expired in %s: %s (%s)', ALLOW_LIST, entry.pattern.pattern, entry.reason)
        bundle = _InBackground(self._bundle)
        try:
            self.kernel = self._held.enter_context(kernel.used(self.lab, self.options.request))
        finally:
            programs = bundle.join()
        coverage.keep_notes(self.run, self.kernel)
        with self.lab.clock.stage('accelerator'):
            accelerator = accel.choose(self.kernel, self.lab.cache, self.run.guest('probe'), self.options.accel)
        made = Prepared(self.kernel, accelerator, programs)
        self.use(made)
        if self.options.canaries:
            self.canaries = CanaryRun(self.plan())
        return made

    def use(self, made: Prepared) -> None:
        """Go on with what is made."""
        base = known.base_of(made.kernel)
        self.known = {section: known.of(self.lab.root, self.options.known, base, section) for section in SECTIONS}
        self.made, self.kernel, self.accelerator = made, made.kernel, made.accelerator
        self._symboliser = Symboliser(self.kernel.vmlinux, self.kernel.modules)
        self.keeper = GuestKeeper(self.plan(), made.bundle)
        self.programs = made.bundle.digest()

    def _bundle(self) -> Bundle:
        own = build_bundle(self.lab)
        return own if self.options.xfstests is None else xfstests.bundle(xfstests.find(self.options.xfstests), own)

    def plan(self) -> GuestPlan:
        assert self.kernel is not None
        assert self.accelerator is not None
        return GuestPlan(
            self.kernel,
            self.accelerator,
            self.options.cpus,
            self.run,
            self.lab.cache,
            self.lab.clock,
            self.options.memory_mb or (xfstests.MEMORY_MB if self.options.xfstests else 0),
            worker=self.worker,
            crowd=max(1.0, self.options.guests * self.options.cpus / capacity.host_cpus()),
        )

    def timings(self) -> Timings:
        variant = self.kernel.variant if self.kernel else ''
        name = self.accelerator.name if self.accelerator else ''
        return Timings(self.lab.cache, f'{name} {variant or "default"} cpus={self.options.cpus}')

    def run_check(self, check: Check, section: str) -> tuple[CheckResult, dict[str, Any]]:
        """One check; what it left behind is written to the run's folder."""
        keeper = self.keeper or self.prepare()
        entries = self.known.get(section, known.Known())
        left_out = entries.exclusion(check.name)
        if left_out is not None:
            result = CheckResult(check.name, section, Verdict.NOTRUN, 0.0, f'{known.EXCLUDED}{left_out.reason}')
            return result, self._record(check, result)
        keeper.keep = self.options.keep_guest
        attempts: list[dict[str, Any]] = []
        while True:
            keeper.get()
            self._in_vain = 0
            self.canaries_beside()
            result = run_check(keeper, check, section, self.allow, self.options.seed)
            if not result.killed:
                break
            attempts.append({'reason': result.killed, 'guest': result.guest, 'seconds': result.seconds})
            if len(attempts) == TRIES:
                reason = f'{LAB}its guest was killed {TRIES} times: {result.killed}'
                result = replace(result, reason=reason)
                break
            log.warning('%s[%s]: %s; it is run again in a fresh guest', check.name, section, result.killed)
        excuse = None if result.killed else entries.excuse(check.name, result.verdict)
        result = replace(result, known=excuse.reason if excuse else '')
        self.failed = self.failed or result.state is State.BAD
        entry = self._record(check, result)
        if attempts:
            entry['attempts'] = attempts
        return result, entry

    def without_guest(
        self, check: Check, section: str, error: HarnessError, seconds: float
    ) -> tuple[CheckResult, dict[str, Any]]:
        """The verdict of a check for which no guest came up. Raises the error when none seems to come up any more."""
        self._in_vain += 1
        if self._in_vain > TRIES or not self.run.booted.exists():
            raise error
        reason = f'no guest came up for it: {error.what}'
        result = CheckResult(check.name, section, Verdict.CRASH, round(seconds, 3), reason, stderr=error.detail)
        self.failed = True
        return result, self._record(check, result)

    def canaries_beside(self) -> None:
        """Started when the first guest is up and measured: three CPU-bound guests at once help nobody."""
        if self.canaries is None:
            return
        if not self.canaries.started:
            self.canaries.start()
        elif self.canaries.failed:
            # No use in going on.
            self.canaries.finish()

    def _record(self, check: Check, result: CheckResult) -> dict[str, Any]:
        files: dict[str, str] = {}

        def keep(what: str, suffix: str, data: bytes | str) -> None:
            if not data:
                return
            path = self.run.check_file(check.name, result.section, suffix)
            path.write_bytes(data if isinstance(data, bytes) else data.encode('utf-8', 'surrogateescape'))
            files[what] = str(path.relative_to(self.run.path))

        if result.verdict in BAD:
            keep('output', 'out.bad', result.output)
            keep('diff', 'diff', result.diff and result.diff + '\n')
            keep('stderr', 'stderr', result.stderr)
            keep('hang', 'hang', result.forensics)
            keep('console', 'console', excerpt(self.symbolised(result.events[:SHOWN_EVENTS]), 400))
        repeat = repeat_command(self.options, check.name, result.section)
        return results.check_dict(result, files, repeat, check.digest())

    def symbolised(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        """The same events with files and lines in their traces."""
        if self._symboliser is None:
            return events
        lines = self._symboliser.lines
        return tuple(replace(event, trace=tuple(lines(event.trace))) for event in events)

    def facts(self) -> dict[str, Any]:
        keeper = self.keeper
        measured = [Speed(**share['speed']) for share in self.shares.values()]
        return RunFacts(
            self.kernel,
            self.accelerator,
            max(measured, key=lambda speed: speed.factor) if measured else keeper.speed if keeper else None,
            self.options.cpus,
            keeper.plan.memory if keeper else 0,
            self.options.seed,
            tuple(self._boot_seconds()),
            self.programs,
        ).as_dict()

    def strays(self) -> list[dict[str, Any]]:
        """Console events that no check answers for; each of them fails the run."""
        found = []
        for event in self.keeper.strays if self.keeper else ():
            if self.allow.excuse(event) is None:
                where = f'after {event.check}[{event.section}]' if event.check else 'while booting'
                found.append({'kind': str(event.kind), 'line': event.line, 'where': where})
        boots = self.keeper.failed_boots if self.keeper else []
        found += [{'kind': 'boot', 'line': what, 'where': 'while booting'} for what in boots]
        return [*found, *(event for share in self.shares.values() for event in share['strays'])]

    def stale_known(self) -> list[str]:
        """What to mend in the files of known failures, by this run's results."""
        found = []
        for section, entries in self.known.items():
            verdicts = {check['name']: check['verdict'] for check in self.checks if check['section'] == section}
            found += [f'{section}: {text}' for text in entries.stale(verdicts)]
        return found

    def share(self) -> dict[str, Any]:
        """What a worker has besides its checks, so far; plain values, for the way to the controller."""
        assert self.keeper is not None
        return {
            'worker': self.worker,
            'boots': self._boot_seconds(),
            'speed': asdict(self.keeper.speed),
            'stages': dict(self.lab.clock.seconds),
            'strays': self.strays(),
        }

    def _boot_seconds(self) -> list[float]:
        mine = list(self.keeper.boot_seconds) if self.keeper else []
        return [*mine, *(seconds for share in self.shares.values() for seconds in share['boots'])]

    def _stages(self) -> dict[str, float]:
        """Those of workers go on at the same time."""
        stages = dict(self.lab.clock.seconds)
        for share in self.shares.values():
            for name, seconds in share['stages'].items():
                stages[name] = max(seconds, stages.get(name, 0.0))
        return stages

    def stop(self) -> None:
        """End the checks' guest; the canaries go on."""
        if self.keeper is not None:
            self.keeper.keep = False
            self.keeper.discard()

    def abort(self) -> None:
        """Give the run up: no guest is left."""
        if self.canaries is not None:
            self.canaries.abort()
        self.stop()
        stop_all()
        self._held.close()

    def finish_canaries(self) -> None:
        """Wait for them; LabError when one was not noticed."""
        if self.canaries is not None and self.canaries.started:
            with self.lab.clock.stage('canaries (rest)'):
                self.canaries.finish()

    def write(self, status: int | None, problem: str = '') -> dict[str, Any]:
        """Write results.json as things stand."""
        table = self.table(status, problem)
        table['coverage'] = coverage.of_run(self.lab.runner, self.run)
        if self.shares:
            table['workers'] = len(self.shares)
        if self.made is not None:
            self.timings().save({f'{check["name"]}[{check["section"]}]': check['seconds'] for check in self.checks})
        results.write(self.run, table)
        formats.publish(table, self.run.path, results.read)
        return table

    def table(self, status: int | None, problem: str = '') -> dict[str, Any]:
        """What results.json says."""
        return results.assemble(
            self.run,
            self.facts(),
            self.checks,
            self._stages(),
            status=status,
            problem=problem,
            canaries=self.canaries.as_dicts() if self.canaries else (),
            strays=self.strays(),
            expired=[entry.pattern.pattern for entry in self.allow.expired()],
            stale=self.stale_known(),
            started=self.started,
        )


def repeat_command(options: CampaignOptions, name: str, section: str) -> str:
    """The one command that runs a check again as it ran here."""
    request = options.request
    words = ['vm-test', f'CHECK={name}']
    if options.xfstests and name.startswith(f'{xfstests.AREA}/'):
        words = ['xfstests', f'XFSTESTS={shlex.quote(str(options.xfstests))}', f'TESTS={name}']
    words += [f'SECTION={section}', f'CPUS={options.cpus}']
    usual = CampaignOptions(request)
    for variable, value, default in (
        ('SEED', options.seed, usual.seed),
        ('MEMORY', options.memory_mb, usual.memory_mb),
        ('ACCEL', options.accel, usual.accel),
        ('VARIANT', request.config.variant, ''),
        ('FRAGMENT', request.config.fragment, None),
        ('KERNEL', request.kernel, None),
        ('KDIR', request.source.kdir, None),
        ('SOURCE', request.source.source, None),
        ('SERIES', request.series, None),
        ('PREFIX', request.prefix, None),
        ('KNOWN', options.known, None),
    ):
        if value not in (default, None):
            words.append(f'{variable}={shlex.quote(str(value))}')
    return ' '.join([*assignments(os.environ), 'make', *words])


def ssh_command(guest: Guest) -> list[str]:
    """The command by which a person gets into this guest."""
    booted = guest.booted
    known = booted.spec.directory / 'known_hosts'
    known.write_text(f'[127.0.0.1]:{booted.port} {booted.host_key.read_text(encoding="ascii")}', encoding='ascii')
    return [
        'ssh', '-F', 'none', '-i', str(booted.client_key), '-o', 'IdentitiesOnly=yes',
        '-o', f'UserKnownHostsFile={known}', '-p', str(booted.port), 'root@127.0.0.1',
    ]  # fmt: skip


class _InBackground:
    """A function in a thread; join() gives its value or its exception."""

    def __init__(self, function: Callable[[], Bundle]) -> None:
        self._value: Bundle | None = None
        self._error: BaseException | None = None
        self._function = function
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> Bundle:
        self._thread.join()
        if isinstance(self._error, HarnessError):
            raise self._error
        if self._error is not None or self._value is None:
            raise LabError('the guest programs could not be built', repr(self._error)) from self._error
        return self._value

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:
            self._error = error
