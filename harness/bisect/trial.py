# SPDX-License-Identifier: GPL-2.0-only
"""One run of one kernel: it is made and booted unless it is up already, and checked or measured once."""

from __future__ import annotations

import logging
import shutil
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from harness.bench import server
from harness.bench.command import MEMORY_MB, RUN_BENCH
from harness.bench.measure import GuestPlace, UnmeasuredError, lacking, read, require_fio, words_of
from harness.bench.rows import Measure, Side, Workload
from harness.bisect import signature
from harness.bisect.signature import Signature
from harness.bisect.state import Observation, Outcome
from harness.bisect.subjects import Subject
from harness.boot import TCG, BootError
from harness.campaign import Campaign, CampaignOptions
from harness.check import Check
from harness.console import Event
from harness.errors import ApplyError, BuildError, LabError, VerdictError
from harness.guest import GuestLostError
from harness.keeper import GuestKeeper
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.speed import HIGHEST, Speed
from harness.verdict import CheckResult, State, Verdict

log = logging.getLogger(__name__)

ROUNDS = 2  # of a measurement
BOOTS = 3  # so many boots have to fail
PATIENCE = 3.0  # times as much time with each
# Stages by what a step's time is reported as.
_STAGES = {'boot': ('accelerator', 'boot', 'mount'), 'check': ('checks', 'cost', 'coverage')}


class Trial(Protocol):
    """What runs kernels."""

    def run(self, subject: Subject) -> Observation:
        """One run. LabError when it is not the kernel's fault."""

    def up(self) -> Subject | None:
        """The kernel that can be run again without another boot."""

    def close(self) -> None:
        """No guest is left."""


@dataclass(frozen=True)
class Item:
    """A check in one section."""

    check: Check
    section: str

    @property
    def key(self) -> str:
        return f'{self.check.name}[{self.section}]'


class _Kernels:
    """One kernel after the other, one guest at a time."""

    def __init__(self, lab: Lab, options: CampaignOptions, run: RunFolder) -> None:
        self.lab = lab
        self.options = options
        self.run_folder = run
        self._campaign: Campaign | None = None
        self._subject: Subject | None = None
        self._number = 0
        self._patience = 1.0  # times as long as usual
        self._strays = 0  # of the present kernel's, already told

    def up(self) -> Subject | None:
        keeper = self._own_keeper()
        return self._subject if keeper is not None and keeper.current is not None else None

    def _own_keeper(self) -> GuestKeeper | None:
        return self._campaign.keeper if self._campaign is not None else None

    def close(self) -> None:
        campaign, self._campaign, self._subject = self._campaign, None, None
        if campaign is not None:
            campaign.stop()  # not other trials' guests

    def run(self, subject: Subject) -> Observation:
        before = dict(self.lab.clock.seconds)
        if self._subject != subject:
            self.close()
        try:
            made = self._patiently(subject)
        except ApplyError as error:
            made = self._not_so_far(subject, Outcome.APPLY, error, signature.APPLY)
        except BuildError as error:
            made = self._not_so_far(subject, Outcome.BUILD, error, signature.BUILD)
        except (BootError, GuestLostError) as error:
            made = self._not_so_far(subject, Outcome.BOOT, error, signature.BOOT)
        except VerdictError as error:
            # Such as a tree that is no kernel, or one without FUSE.
            made = self._not_so_far(subject, Outcome.NOTRUN, error, signature.BOOT)
        except BaseException:
            self.close()
            raise
        folder = str(self._campaign.run.path) if self._campaign is not None else ''
        return replace(made, seconds=self._seconds(before), folder=folder)

    def _run(self, subject: Subject) -> Observation:
        raise NotImplementedError

    def _patiently(self, subject: Subject) -> Observation:
        """On a busy machine a good kernel may fail to boot: it is tried again, with more time."""
        self._patience = 1.0
        for _ in range(BOOTS - 1):
            try:
                return self._run(subject)
            except (BootError, GuestLostError) as error:
                log.info('%s: %s; once more', subject.name, error)
                self.close()
                self._patience *= PATIENCE
        return self._run(subject)

    def _not_so_far(self, subject: Subject, outcome: Outcome, error: Exception, where: str) -> Observation:
        self.close()
        return Observation(subject.key, outcome, (signature.of_stage(where, str(error)),), str(error))

    def _seconds(self, before: Mapping[str, float]) -> dict[str, float]:
        seconds = {'build': 0.0, 'boot': 0.0, 'check': 0.0}
        for stage, total in self.lab.clock.seconds.items():
            kind = next((kind for kind, stages in _STAGES.items() if stage in stages), 'build')
            seconds[kind] += total - before.get(stage, 0.0)
        return {kind: round(value, 1) for kind, value in seconds.items()}

    def _prepared(self, subject: Subject) -> Campaign:
        """The campaign of this kernel, made and ready to boot."""
        if self._campaign is None:
            self._number += 1
            folder = self.run_folder.path / 'kernels' / f'{self._number:03d}-{subject.key[:12]}'
            folder.mkdir(parents=True)
            options = replace(self.options, request=subject.request, canaries=False)
            campaign = Campaign(self.lab, options, RunFolder(folder))
            keeper = campaign.prepare()
            # Here a failure is looked for, whether it is known or not, and on kernels that the lists are not about.
            campaign.known = {}
            keeper.speed = self._patient(keeper.speed)
            self._campaign, self._subject, self._strays = campaign, subject, 0
        return self._campaign

    def _patient(self, usual: Speed) -> Speed:
        return replace(usual, factor=min(HIGHEST, self._patience * usual.factor))

    def _new_strays(self, campaign: Campaign, keeper: GuestKeeper) -> list[Event]:
        """Complaints outside of any check since the last run."""
        new = keeper.strays[self._strays :]
        self._strays = len(keeper.strays)
        return [event for event in new if campaign.allow.excuse(event) is None]


class CheckTrial(_Kernels):
    """Runs checks. `items` may be narrowed to those that have failed."""

    def __init__(self, lab: Lab, options: CampaignOptions, run: RunFolder, items: tuple[Item, ...]) -> None:
        super().__init__(lab, options, run)
        self.items = items

    def _run(self, subject: Subject) -> Observation:
        campaign = self._prepared(subject)
        results = [self._check(campaign, item) for item in self.items]
        keeper = campaign.keeper
        assert keeper is not None
        if any(result.events or result.excused for result in results) or len(keeper.strays) > self._strays:
            # The next run is to find a kernel that has not warned once already.
            keeper.discard()
        strays = self._new_strays(campaign, keeper)
        return judge(subject.key, results, strays)

    def _check(self, campaign: Campaign, item: Item) -> CheckResult:
        result, _ = campaign.run_check(item.check, item.section)
        if result.state is State.LAB:
            raise LabError(f'{item.key}: {result.reason}')
        return result


def judge(key: str, results: list[CheckResult], strays: list[Event]) -> Observation:
    """What one run of all checks has shown."""
    bad = [result for result in results if result.state in (State.BAD, State.KNOWN)]
    elsewhere = signature.of_events(strays)
    signatures: tuple[Signature, ...] = (*(signature.of_check(result) for result in bad), *elsewhere)
    if bad:
        text = '; '.join(f'{result.name}[{result.section}] {result.verdict}: {result.reason}' for result in bad)
        return Observation(key, Outcome.FAIL, signatures, text)
    missing = [result for result in results if result.verdict is Verdict.NOTRUN]
    if missing:
        return Observation(key, Outcome.NOTRUN, elsewhere, missing[0].reason)
    if strays:
        return Observation(key, Outcome.SPLAT, elsewhere, f'{strays[0].kind}: {strays[0].line}')
    return Observation(key, Outcome.PASS)


class CostTrial(_Kernels):
    """Measures one row's deterministic cost on one side."""

    def __init__(self, lab: Lab, options: CampaignOptions, run: RunFolder, row: Workload, side: Side) -> None:
        super().__init__(lab, options, run)
        require_fio((row,), shutil.which('fio'))
        self._row = row
        self._side = side
        self._keeper: GuestKeeper | None = None

    def close(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.discard()
        super().close()

    def _own_keeper(self) -> GuestKeeper | None:
        return self._keeper

    def _run(self, subject: Subject) -> Observation:
        campaign = self._prepared(subject)
        if self._keeper is None:
            assert campaign.keeper is not None
            plan = replace(
                campaign.plan(),
                accelerator=TCG,
                cpus=1,
                memory_mb=self.options.memory_mb or MEMORY_MB[Measure.COST],
                worker='cost-',
                count_instructions=True,
            )
            self._keeper = GuestKeeper(plan, campaign.keeper.bundle)
            self._keeper.speed = self._patient(self._keeper.speed)
        self._keeper.get()  # boots: not part of the measuring's time
        with self.lab.clock.stage('cost'):
            made = self._measure(subject, GuestPlace(self._keeper))
        strays = self._new_strays(campaign, self._keeper)
        if strays:
            made = replace(made, signatures=(*made.signatures, *signature.of_events(strays)))
        return made

    def _measure(self, subject: Subject, place: GuestPlace) -> Observation:
        missing = lacking(self._row, self._side, place)
        if missing:
            return Observation(subject.key, Outcome.NOTRUN, (), missing)
        chosen = server.parse('', self.lab.build / 'guest' / 'bin')
        values = []
        try:
            for _ in range(ROUNDS):
                said = place.run(words_of(self._row, self._side, chosen, place, RUN_BENCH))
                values.append(read(self._row, self._side, said).value)
        except UnmeasuredError as error:
            where = f'{self._row.key}[{self._side}]'
            made = Signature(where, 'fail', (signature.normalise(str(error)),))
            return Observation(subject.key, Outcome.FAIL, (made,), str(error))
        text = f'{statistics.fmean(values):.5g} {self._row.unit}'
        return Observation(subject.key, Outcome.COST, (), text, tuple(values))
