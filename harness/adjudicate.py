# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `adjudicate`: is a failure the patches' doing? Failing checks run again on both kernels.

Each failing check runs in turn on the kernel of the run and on a baseline (by default the same tree
without the series), until it is decided or the time is up. The run's own failure, for which a check
was chosen, is not counted: of many checks that fail once in a hundred some fail today.

The probability is that of a higher rate of failure with the patches than without, given the counts:
both rates unknown, with Jeffreys' prior, Beta(1/2, 1/2).
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harness import formats, results, series, source, xfstests
from harness.campaign import Campaign, CampaignOptions
from harness.check import Check, parse
from harness.config import request_of as config_request
from harness.errors import EXIT_PASS, EXIT_VERDICT, UsageError, VerdictError
from harness.formats.summary import state
from harness.kernel import KernelRequest
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.source import SourceRequest
from harness.verdict import State, Verdict

log = logging.getLogger(__name__)

BUDGET = 10.0  # minutes
LEAST, MOST = 3, 20  # runs of a check on each kernel
CERTAIN, LIKELY = 0.99, 0.95

REGRESSION = 'regression'
BASELINE_TOO = 'fails on the baseline too'
GONE = 'not seen again'
UNKNOWN = 'cannot tell'
NO_BASELINE = 'the baseline cannot run it'


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

    @property
    def probability(self) -> float | None:
        """That it fails more often with the patches; None: nothing to compare with."""
        if self.baseline is None or not self.baseline.runs or not self.patched.runs:
            return None
        return more_often(self.patched, self.baseline)

    @property
    def judgement(self) -> str:
        probability = self.probability
        if self.baseline is None:
            return NO_BASELINE
        if self.patched.runs and not self.patched.fails:
            return GONE
        if probability is not None and probability >= LIKELY:
            return REGRESSION
        return BASELINE_TOO if self.baseline.fails else UNKNOWN

    @property
    def decided(self) -> bool:
        if self.patched.runs >= MOST:
            return True
        if self.patched.runs < LEAST:
            return False
        if self.baseline is None:
            # How often is all there is to learn.
            return self.patched.runs >= 2 * LEAST
        probability = self.probability
        return probability is not None and (probability >= CERTAIN or probability <= 1 - CERTAIN)

    def __str__(self) -> str:
        chance = f', probability of a regression {self.probability:.3f}' if self.probability is not None else ''
        beside = f'baseline {self.baseline}' if self.baseline is not None else f'baseline: {self.why_not}'
        return f'{self.judgement}: fails {self.patched} with the patches, {beside}{chance}'

    def as_dict(self) -> dict[str, Any]:
        return {
            'judgement': self.judgement,
            'probability': self.probability,
            'patched': asdict(self.patched),
            'baseline': asdict(self.baseline) if self.baseline is not None else None,
            'text': str(self),
        }


def more_often(a: Tally, b: Tally) -> float:
    """Probability that a's rate of failure is higher than b's."""
    # Both densities have poles at 0 and 1: substitute x = sin^2 t, which makes them smooth.
    t = (np.arange(20_000) + 0.5) / 20_000 * np.pi / 2
    sine, cosine = np.log(np.sin(t)), np.log(np.cos(t))

    def density(tally: Tally) -> Any:
        logarithm = 2 * tally.fails * sine + 2 * (tally.runs - tally.fails) * cosine
        values = np.exp(logarithm - logarithm.max())
        return values / values.sum()

    above, below = density(a), density(b)
    return float((above * (np.cumsum(below) - below / 2)).sum())


class Bench(Protocol):
    """What runs a check once on a kernel."""

    def run(self, name: str, section: str) -> tuple[str, str]:
        """Verdict and reason."""


def adjudicate(
    failing: Iterable[tuple[str, str]],
    patched: Bench,
    baseline: Bench,
    budget: float,
    now: Callable[[], float] = time.monotonic,
) -> list[Finding]:
    """Rounds over the checks that are not decided, within so many seconds."""
    findings = [Finding(name, section) for name, section in failing]
    end = now() + budget
    while now() < end and not all(finding.decided for finding in findings):
        for number, finding in enumerate(findings):
            if finding.decided or (now() >= end and finding.patched.runs):
                continue
            findings[number] = _round(finding, patched, baseline)
            log.info('%s[%s]: %s', finding.name, finding.section, findings[number])
    return findings


def _round(finding: Finding, patched: Bench, baseline: Bench) -> Finding:
    verdict, reason = patched.run(finding.name, finding.section)
    if verdict == Verdict.NOTRUN:
        raise UsageError(f'{finding.name}[{finding.section}] does not run any more: {reason}')
    finding = replace(finding, patched=finding.patched.plus(verdict != Verdict.PASS))
    if finding.baseline is None:
        return finding
    verdict, reason = baseline.run(finding.name, finding.section)
    if verdict == Verdict.NOTRUN:
        return replace(finding, baseline=None, why_not=reason)
    return replace(finding, baseline=finding.baseline.plus(verdict != Verdict.PASS))


class GuestBench:
    """A kernel in a guest that stays up between the runs."""

    def __init__(self, lab: Lab, options: CampaignOptions, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._options = options
        self._lab = lab
        self._campaign = Campaign(lab, replace(options, canaries=False, guests=0), RunFolder(folder))

    def prepare(self) -> None:
        self._campaign.prepare()

    def run(self, name: str, section: str) -> tuple[str, str]:
        result, _ = self._campaign.run_check(self._check(name), section)
        return str(result.verdict), result.reason

    def close(self) -> None:
        self._campaign.abort()

    def _check(self, name: str) -> Check:
        tree = xfstests.find(self._options.xfstests) if self._options.xfstests else None
        if tree is not None and name.startswith(f'{xfstests.AREA}/'):
            return xfstests.parse(tree.path / 'tests' / name, frozenset())
        return parse(self._lab.root / 'tests' / 'checks' / name)


def of_run(
    lab: Lab, table: dict[str, Any], folder: Path, baseline: KernelRequest, minutes: float, tree: Path | None = None
) -> list[Finding]:
    """Adjudicate a run's failures; what is found goes into its results.json."""
    failing = [(check['name'], check['section']) for check in table['checks'] if state(check) is State.BAD]
    if not failing:
        raise UsageError(f'{folder}: nothing fails there')
    image = table['kernel']['image']
    if image is None or not Path(image).is_file():
        raise UsageError(f'the kernel of the run is gone: {image}', hint='make the run again')
    # An image's own folder has its vmlinux and configuration beside it.
    own = Path(image).parent if (Path(image).parent / 'vmlinux').is_file() else Path(image)
    tried = CampaignOptions(
        replace(baseline, kernel=own, series=None), table['cpus'], table['memory_mb'], seed=table['seed'], xfstests=tree
    )
    patched = GuestBench(lab, tried, folder / 'adjudication' / 'patched')
    beside = GuestBench(lab, replace(tried, request=baseline), folder / 'adjudication' / 'baseline')
    try:
        patched.prepare()
        beside.prepare()
        findings = adjudicate(failing, patched, beside, minutes * 60)
    except VerdictError as error:
        raise UsageError(f'the baseline cannot be used: {error.what}', error.detail, error.hint) from error
    finally:
        patched.close()
        beside.close()
    by_key = {(finding.name, finding.section): finding.as_dict() for finding in findings}
    for check in table['checks']:
        if (check['name'], check['section']) in by_key:
            check['adjudication'] = by_key[check['name'], check['section']]
    run = RunFolder(folder)
    results.write(run, table)
    formats.publish(table, folder, results.read)
    return findings


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('adjudicate', help='failing checks again, on both kernels: regression or flake?')
    parser.add_argument(
        'run', nargs='?', type=Path, metavar='FOLDER', help='results folder of the run (default: results/latest)'
    )
    parser.add_argument('--budget', type=float, default=BUDGET, metavar='MINUTES', help=f'default {BUDGET:.0f}')
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
    log.warning('results: %s', folder)
    return EXIT_VERDICT if any(finding.judgement == REGRESSION for finding in findings) else EXIT_PASS


def baseline_of(lab: Lab, table: dict[str, Any], args: argparse.Namespace) -> KernelRequest:
    """The kernel to compare with: named, or the tree without the series, or with another version of it."""
    variant = argparse.Namespace(variant=table['kernel']['variant'], fragment=None)
    config = config_request(lab, variant)
    if args.baseline is not None:
        return KernelRequest(SourceRequest(), config, kernel=args.baseline)
    return KernelRequest(source.request_of(args), config, args.series or 'none', args.prefix)
