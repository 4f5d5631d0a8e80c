# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `adjudicate`: is a failure the patches' doing? Failing checks run again on both kernels.

Each failing check runs in turn on the kernel of the run and on a baseline (by default the same tree
without the series), until it is decided or the time is up. The run's own failure, for which a check
was chosen, is not counted: of many checks that fail once in a hundred some fail today.

Beforehand it is as likely as not that both kernels fail equally often: a flake, or an old bug. If not,
their rates of failure have nothing to do with each other. No rate is known (Jeffreys' prior,
Beta(1/2, 1/2)). The probability of a regression is, given the counts, that of two rates, the higher
one with the patches.

Exit status: 0 each failure is not seen again, or there without the patches too; 1 a regression, or
cannot tell; 3 the lab was in trouble.
"""

from __future__ import annotations

import argparse
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness import formats, results, series, source, xfstests
from harness.bisect.engine import runs_to_see
from harness.bisect.state import Outcome
from harness.bisect.subjects import Subject
from harness.bisect.trial import CheckTrial, Item
from harness.campaign import CampaignOptions
from harness.check import parse
from harness.config import request_of as config_request
from harness.errors import EXIT_LAB, EXIT_PASS, EXIT_VERDICT, LabError, UsageError
from harness.formats.summary import state
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.machine import stop_all
from harness.runfolder import RunFolder
from harness.source import SourceRequest
from harness.verdict import State

log = logging.getLogger(__name__)

BUDGET = 10.0  # minutes
LEAST, MOST = 3, 20  # runs of a check on each kernel
CERTAIN, LIKELY = 0.99, 0.95
UNLIKELY = 0.5  # what is less likely a regression than this, and fails on the baseline, is no news
SAME = 0.5  # that both kernels fail equally often, beforehand
ENOUGH = runs_to_see(LIKELY)  # passes, after which a failure counts as gone

REGRESSION = 'regression'
BASELINE_TOO = 'fails on the baseline too'
GONE = 'not seen again'
UNKNOWN = 'cannot tell'
NO_BASELINE = 'the baseline cannot run it'
SETTLED = (GONE, BASELINE_TOO)


@dataclass(frozen=True)
class Tally:
    """Runs of one check on one kernel."""

    fails: int = 0
    runs: int = 0

    def plus(self, bad: bool) -> Tally:
        return Tally(self.fails + bad, self.runs + 1)

    def __str__(self) -> str:
        return f'{self.fails} of {self.runs}'


@dataclass(frozen=True)
class Finding:
    """What is known of one failing check."""

    name: str
    section: str
    patched: Tally = Tally()
    baseline: Tally | None = Tally()  # None: it does not run there
    why_not: str = ''
    trouble: str = ''  # why it was not run again
    lab: bool = False  # which is the lab's fault

    @property
    def probability(self) -> float | None:
        """That it fails more often with the patches; None: nothing to compare with."""
        if self.baseline is None or not self.baseline.runs or not self.patched.runs:
            return None
        return regression(self.patched, self.baseline)

    @property
    def judgement(self) -> str:
        probability = self.probability
        if not self.patched.fails and self.patched.runs >= ENOUGH:
            return GONE
        if self.baseline is None:
            return NO_BASELINE
        if probability is not None and probability >= LIKELY:
            return REGRESSION
        if self.baseline.fails and probability is not None and probability <= UNLIKELY:
            return BASELINE_TOO
        return UNKNOWN

    @property
    def decided(self) -> bool:
        if self.trouble or self.patched.runs >= MOST:
            return True
        if self.patched.runs < LEAST:
            return False
        if self.baseline is None:
            # How often is all there is to learn.
            return self.patched.fails > 0 and self.patched.runs >= 2 * LEAST
        probability = self.probability
        return probability is not None and (probability >= CERTAIN or probability <= 1 - CERTAIN)

    def __str__(self) -> str:
        if self.trouble and not self.patched.runs:
            return f'{UNKNOWN}: {self.trouble}'
        chance = f', probability of a regression {self.probability:.3f}' if self.probability is not None else ''
        beside = f'baseline {self.baseline}' if self.baseline is not None else f'baseline: {self.why_not}'
        then = f'; then {self.trouble}' if self.trouble else ''
        return f'{self.judgement}: fails {self.patched} with the patches, {beside}{chance}{then}'

    def as_dict(self) -> dict[str, Any]:
        return {
            'judgement': self.judgement,
            'probability': self.probability,
            'patched': asdict(self.patched),
            'baseline': asdict(self.baseline) if self.baseline is not None else None,
            'text': str(self),
        }


@lru_cache(maxsize=4096)
def regression(patched: Tally, baseline: Tally) -> float:
    """Probability that the patched kernel fails more often."""
    together = Tally(patched.fails + baseline.fails, patched.runs + baseline.runs)
    odds = (1 - SAME) / SAME * math.exp(_log_likely(patched) + _log_likely(baseline) - _log_likely(together))
    return odds / (1 + odds) * more_often(patched, baseline)


def _log_likely(tally: Tally) -> float:
    """Of such runs, in this order, when the rate is not known."""

    def log_beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    return log_beta(tally.fails + 0.5, tally.runs - tally.fails + 0.5) - log_beta(0.5, 0.5)


def more_often(a: Tally, b: Tally) -> float:
    """Probability that a's rate of failure is higher than b's, if they have nothing to do with each other."""
    # Both densities have poles at 0 and 1: substitute x = sin^2 t, which makes them smooth.
    t = (np.arange(20_000) + 0.5) / 20_000 * np.pi / 2
    sine, cosine = np.log(np.sin(t)), np.log(np.cos(t))

    def density(tally: Tally) -> Any:
        logarithm = 2 * tally.fails * sine + 2 * (tally.runs - tally.fails) * cosine
        values = np.exp(logarithm - logarithm.max())
        return values / values.sum()

    above, below = density(a), density(b)
    return float((above * (np.cumsum(below) - below / 2)).sum())


# --- rounds --------------------------------------------------------------------------------------


class CannotRunError(Exception):
    """This kernel does not run this check, now or later."""


class Bench(Protocol):
    """What runs a check once on a kernel."""

    def fails(self, name: str, section: str) -> bool:
        """Whether it fails this time. CannotRunError; LabError."""


def adjudicate(
    findings: Sequence[Finding],
    patched: Bench,
    baseline: Bench,
    end: float,
    keep: Callable[[Sequence[Finding]], None],
    now: Callable[[], float] = time.monotonic,
) -> list[Finding]:
    """Rounds over the checks that are not decided, until `end`; but each check has one.

    keep: called after each round, and however this ends, with what is known.
    """
    found = list(findings)
    try:
        while not all(finding.decided for finding in found):
            for number, finding in enumerate(found):
                if finding.decided or (now() >= end and finding.patched.runs):
                    continue
                found[number] = _round(finding, patched, baseline)
                log.info('%s[%s]: %s', finding.name, finding.section, found[number])
            if now() >= end:
                break
            keep(found)
    finally:
        keep(found)
    return found


def _round(finding: Finding, patched: Bench, baseline: Bench) -> Finding:
    try:
        finding = replace(finding, patched=finding.patched.plus(patched.fails(finding.name, finding.section)))
        if finding.baseline is not None:
            finding = _beside(finding, finding.baseline, baseline)
    except CannotRunError as error:
        return replace(finding, trouble=f'it does not run any more: {error}')
    except LabError as error:
        return replace(finding, trouble=str(error), lab=True)
    return finding


def _beside(finding: Finding, tally: Tally, baseline: Bench) -> Finding:
    try:
        return replace(finding, baseline=tally.plus(baseline.fails(finding.name, finding.section)))
    except CannotRunError as error:
        if tally.runs:
            raise
        return replace(finding, baseline=None, why_not=str(error))


class GuestBench:
    """A kernel in a guest that stays up between the runs."""

    def __init__(self, trial: CheckTrial, request: KernelRequest, items: Mapping[tuple[str, str], Item]) -> None:
        self._trial = trial
        self._subject = Subject('kernel', trial.run_folder.path.name, request)
        self._items = items
        self._unfit = ''  # what is wrong with the kernel, whatever the check

    def fails(self, name: str, section: str) -> bool:
        if self._unfit:
            raise CannotRunError(self._unfit)
        self._trial.items = (self._items[name, section],)
        made = self._trial.run(self._subject)
        if made.outcome in (Outcome.APPLY, Outcome.BUILD, Outcome.BOOT):
            self._unfit = f'the kernel {made.outcome}: {made.detail}'
            raise CannotRunError(self._unfit)
        if made.outcome is Outcome.NOTRUN:
            raise CannotRunError(made.detail)
        # What the kernel complains of before or after the check is not the check's failure.
        return made.outcome is Outcome.FAIL

    def close(self) -> None:
        self._trial.close()


# --- a run's failures ----------------------------------------------------------------------------


def of_run(
    lab: Lab, table: dict[str, Any], folder: Path, baseline: KernelRequest, minutes: float, tree: Path | None = None
) -> list[Finding]:
    """Adjudicate a run's failures; what is found goes into its results.json after each round."""
    end = time.monotonic() + minutes * 60
    failing = [(check['name'], check['section']) for check in table['checks'] if state(check) is State.BAD]
    if not failing:
        raise UsageError(f'{folder}: nothing fails there')
    image = table['kernel']['image']
    if image is None or not Path(image).is_file():
        raise UsageError(f'the kernel of the run is gone: {image}', hint='make the run again')
    # An image's own folder has its vmlinux and configuration beside it.
    own = Path(image).parent if (Path(image).parent / 'vmlinux').is_file() else Path(image)
    options = CampaignOptions(
        replace(baseline, kernel=own, series=None), table['cpus'], table['memory_mb'], seed=table['seed'], xfstests=tree
    )
    findings, items = [], {}
    for name, section in failing:
        finding = Finding(name, section)
        try:
            items[name, section] = _item(lab, tree, name, section)
        except UsageError as error:
            finding = replace(finding, trouble=error.what)
        findings.append(finding)
    shutil.rmtree(folder / 'adjudication', ignore_errors=True)

    def bench(name: str, request: KernelRequest) -> GuestBench:
        return GuestBench(CheckTrial(lab, options, RunFolder(folder / 'adjudication' / name), ()), request, items)

    patched, beside = bench('patched', options.request), bench('baseline', baseline)
    try:
        return adjudicate(findings, patched, beside, end, lambda found: _keep(table, folder, found))
    finally:
        patched.close()
        beside.close()
        stop_all()


def _item(lab: Lab, tree: Path | None, name: str, section: str) -> Item:
    """UsageError when the check is not there."""
    if not name.startswith(f'{xfstests.AREA}/'):
        return Item(parse(lab.root / 'tests' / 'checks' / name), section)
    if tree is None:
        raise UsageError('it is a test of xfstests: XFSTESTS= names the tree')
    return Item(xfstests.parse(xfstests.find(tree).path / 'tests' / name, frozenset()), section)


def _keep(table: dict[str, Any], folder: Path, findings: Sequence[Finding]) -> None:
    known = {(one.name, one.section): one.as_dict() for one in findings if one.patched.runs or one.trouble}
    for check in table['checks']:
        if (check['name'], check['section']) in known:
            check['adjudication'] = known[check['name'], check['section']]
    results.write(RunFolder(folder), table)
    formats.publish(table, folder, results.read)


# --- command line --------------------------------------------------------------------------------


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('adjudicate', help='failing checks again, on both kernels: regression or flake?')
    parser.add_argument(
        'run', nargs='?', type=Path, metavar='FOLDER', help='results folder of the run (default: results/latest)'
    )
    parser.add_argument(
        '--budget', type=float, default=BUDGET, metavar='MINUTES',
        help=f'for all, once each check has run on both kernels (default {BUDGET:.0f})',
    )  # fmt: skip
    parser.add_argument('--baseline', type=Path, metavar='PATH', help='a kernel that is built; default: SERIES=none')
    parser.add_argument('--xfstests', type=Path, metavar='TREE', help='where the tests of the run are from')
    source.add_options(parser)
    series.add_options(parser)
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> int:
    if args.budget <= 0:
        raise UsageError(f'--budget {args.budget}: minutes, more than 0')
    folder: Path = (args.run or lab.root / 'results' / 'latest').resolve()
    table = results.read(folder)
    request = baseline_of(lab, table, args)
    findings = of_run(lab, table, folder, request, args.budget, args.xfstests)
    for finding in findings:
        log.warning('%s[%s]: %s', finding.name, finding.section, finding)
    left = sum(not finding.decided for finding in findings)
    if left:
        log.warning('time was up before %d of %d were decided: BUDGET=%g', left, len(findings), args.budget)
    if any(finding.judgement == NO_BASELINE for finding in findings):
        log.warning('BASELINE=bzImage or SERIES=FOLDER (an older version) names a baseline that can')
    log.warning('results: %s', folder)
    return status_of(findings)


def status_of(findings: Sequence[Finding]) -> int:
    open_ = [finding for finding in findings if finding.judgement not in SETTLED]
    if any(not finding.lab or finding.judgement == REGRESSION for finding in open_):
        return EXIT_VERDICT
    return EXIT_LAB if open_ else EXIT_PASS


def baseline_of(lab: Lab, table: dict[str, Any], args: argparse.Namespace) -> KernelRequest:
    """The kernel to compare with: named, or the tree without the series, or with another version of it."""
    variant = argparse.Namespace(variant=table['kernel']['variant'], fragment=None)
    config = config_request(lab, variant)
    if args.baseline is not None:
        return KernelRequest(SourceRequest(), config, kernel=args.baseline)
    return KernelRequest(source.request_of(args), config, args.series or 'none', args.prefix)
