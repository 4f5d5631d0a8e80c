# SPDX-License-Identifier: GPL-2.0-only
"""Sub-commands `vm-test` (the whole pipeline to a verdict) and `check` (the same without canaries)."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace

import pytest
from rich.console import Console

from harness import kernel, report
from harness.boot import TCG, Accelerator, GuestSpec, command_line
from harness.campaign import Campaign, CampaignOptions, ssh_command
from harness.check import CheckError, broken
from harness.cli import explain
from harness.clock import StageClock
from harness.command import quote
from harness.errors import EXIT_INTERRUPTED, EXIT_PASS, EXIT_VERDICT, HarnessError
from harness.execute import RUN_CHECK
from harness.lab import Lab
from harness.mount import build_bundle
from harness.plugin import (
    BROKEN,
    CAMPAIGN,
    TROUBLE,
    Recorder,
    add_check_options,
    add_guest_options,
    exit_status,
    options_of,
)
from harness.progress import Progress

log = logging.getLogger(__name__)
plan_log = logging.getLogger('harness.dry_run')


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ('vm-test', 'build the patched kernel, boot it, run checks in it: one verdict'),
        ('check', 'the same without the canaries'),
    ):
        parser = subparsers.add_parser(name, help=text)
        add_check_options(parser.add_argument)
        add_guest_options(parser.add_argument)
        kernel.add_options(parser)
        parser.set_defaults(func=_command, stage=name)


def _command(args: argparse.Namespace, lab: Lab) -> int:
    options = options_of(lab, args)
    if args.stage == 'check':
        options = replace(options, canaries=False)
    if lab.dry_run:
        return _plan(lab, options)
    errors = broken(lab.root / 'tests' / 'checks', args.check)
    if errors:
        raise CheckError(f'{len(errors)} checks cannot be used', '\n'.join(error.what for error in errors))
    console = Console(highlight=False)
    with Progress(console) as progress:
        lab = replace(lab, clock=StageClock(progress.stage_started))
        campaign = Campaign(lab, options)
        campaign.progress = progress
        status, problem = _run(campaign, args, progress)
    table = campaign.write(status, problem)
    campaign.run.publish()
    report.render(table, campaign.run.path, console)
    if status == EXIT_INTERRUPTED:
        log.warning('interrupted; logs are in %s', campaign.run.path)
    return status


def _run(campaign: Campaign, args: argparse.Namespace, progress: Progress) -> tuple[int, str]:
    """Exit status, and the problem if there is one besides failed checks. Leaves no guest."""
    session = _Session(campaign, progress)
    error: HarnessError | None = None
    code = int(pytest.ExitCode.OK)
    try:
        campaign.prepare()
        progress.timings = campaign.timings()
        code = int(pytest.main(_pytest_arguments(campaign, args), plugins=[session]))
        if code != pytest.ExitCode.INTERRUPTED:
            if campaign.failed and campaign.options.keep_guest:
                _wait_with_guest(campaign)
            campaign.stop()
            campaign.finish_canaries()
        if progress.timings is not None:
            progress.timings.save(progress.took)
    except HarnessError as caught:
        error = caught
    except KeyboardInterrupt:
        code = int(pytest.ExitCode.INTERRUPTED)
    finally:
        campaign.abort()
    error = session.trouble or error
    if error is not None:
        progress.console.print(explain(error), markup=False, soft_wrap=True)
        return error.exit_status, f'{error.kind}: {error.what}'
    for line in session.broken:
        progress.console.print(f'broken check: {line}', markup=False, soft_wrap=True)
    status = exit_status(code, None, bool(session.broken))
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        return status, 'no check fits what was asked for'
    if session.broken:
        return status, f'{len(session.broken)} broken checks'
    if status == EXIT_PASS and campaign.strays():
        return EXIT_VERDICT, 'the kernel complained outside of any check'
    return status, 'interrupted' if status == EXIT_INTERRUPTED else ''


def _pytest_arguments(campaign: Campaign, args: argparse.Namespace) -> list[str]:
    root = campaign.lab.root
    words = [
        str(root / 'tests' / 'checks'),
        f'--rootdir={root}',
        f'--confcutdir={root}',
        # Our own: options there are for people who run pytest by hand.
        '--override-ini=addopts=',
        '--capture=no',
        '-p', 'harness.plugin',
        '-p', 'no:cacheprovider',
        '-p', 'no:logging',
    ]  # fmt: skip
    if args.group:
        words.append(f'--group={args.group}')
    words += [f'--check={name}' for name in args.check or ()]
    words += [f'--section={name}' for name in args.section or ()]
    if args.keep_guest:
        words.append('--maxfail=1')
    return words


class _Session:
    """Brings the campaign into pytest and takes pytest's own terminal output away."""

    def __init__(self, campaign: Campaign, progress: Progress) -> None:
        self._campaign = campaign
        self._recorder = Recorder(campaign, progress)
        self._config: pytest.Config | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self._config = config
        config.stash[CAMPAIGN] = self._campaign
        config.pluginmanager.register(self._recorder, 'fuse-lab-recorder')
        reporter = config.pluginmanager.get_plugin('terminalreporter')
        if reporter is not None:
            config.pluginmanager.unregister(reporter)

    @property
    def trouble(self) -> HarnessError | None:
        return self._config.stash.get(TROUBLE, None) if self._config else None

    @property
    def broken(self) -> list[str]:
        return self._config.stash.get(BROKEN, []) if self._config else []


def _wait_with_guest(campaign: Campaign) -> None:
    """Leave the guest of the failure to a person."""
    guest = campaign.keeper.current if campaign.keeper else None
    if guest is None or not guest.machine.alive:
        log.warning('the guest of the failure is gone; nothing is left to look at but its console log')
        return
    log.warning('the guest is kept; in another terminal: %s', quote(ssh_command(guest)))
    log.warning('its console: %s', guest.machine.log)
    log.warning('Ctrl-C here ends it')
    try:
        while guest.machine.alive:
            guest.machine.wait(lambda: False, 3600.0)
    except KeyboardInterrupt:
        log.warning('ending the guest')


def _plan(lab: Lab, options: CampaignOptions) -> int:
    """The commands of a run, none of them carried out."""
    build_bundle(lab)
    image = kernel.obtain(lab, options.request)
    accelerator = Accelerator('kvm') if options.accel == 'kvm' else TCG
    folder = lab.root / 'results' / 'RUN' / 'guests' / 'checks-1'
    spec = GuestSpec(image, folder, accelerator, options.cpus, options.memory_mb or 1024)
    plan_log.info('%s', quote(command_line(spec)))
    check = RUN_CHECK.format(section='SECTION', name='AREA/NNN', seed=options.seed, limit='SECONDS')
    plan_log.info('in the guest: %s', check)
    return EXIT_PASS
