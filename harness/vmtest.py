# SPDX-License-Identifier: GPL-2.0-only
"""Sub-commands `vm-test` (the whole pipeline to a verdict), `check` (the same without canaries) and `xfstests`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from harness import capacity, kernel, report, xfstests
from harness.boot import TCG, Accelerator, GuestSpec, command_line
from harness.campaign import Campaign, CampaignOptions, ssh_command
from harness.check import CheckError, broken
from harness.cli import explain
from harness.clock import StageClock
from harness.command import quote
from harness.errors import EXIT_INTERRUPTED, EXIT_PASS, HarnessError, UsageError
from harness.execute import RUN_CHECK
from harness.keeper import memory_for
from harness.lab import Lab
from harness.mount import build_bundle
from harness.plugin import (
    CAMPAIGN,
    Recorder,
    add_check_options,
    add_guest_options,
    broken_of,
    judge_group,
    options_of,
    outcome,
    trouble_of,
)
from harness.progress import Progress

log = logging.getLogger(__name__)
AUTO = -1
MAX_GUESTS = 64
plan_log = logging.getLogger('harness.dry_run')


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ('vm-test', 'build the patched kernel, boot it, run checks in it: one verdict'),
        ('check', 'the same without the canaries'),
        ('xfstests', 'the same with the tests of an xfstests tree'),
    ):
        parser = subparsers.add_parser(name, help=text)
        if name == 'xfstests':
            parser.add_argument('xfstests', type=Path, metavar='TREE', help='an xfstests checkout that is built')
        if name == 'check':
            parser.add_argument('--xfstests', type=Path, metavar='TREE', help="this tree's tests instead of ours")
        add_check_options(parser.add_argument)
        add_guest_options(parser.add_argument)
        parser.add_argument(
            '-n', '--guests', type=_guests, default=0, metavar='N',
            help='so many guests at once, each with a process of its own; auto: as many as CPUs and memory allow '
                 '(default: one, in this process)',
        )  # fmt: skip
        kernel.add_options(parser)
        parser.set_defaults(func=_command, stage=name)


def _guests(text: str) -> int:
    if text == 'auto':
        return AUTO
    if not text.isdecimal() or int(text) > MAX_GUESTS:
        raise argparse.ArgumentTypeError(f'from 0 to {MAX_GUESTS}, or auto')
    return int(text)


def _command(args: argparse.Namespace, lab: Lab) -> int:
    suite = getattr(args, 'xfstests', None)
    memory = args.memory or (xfstests.MEMORY_MB if suite else memory_for(args.variant or ''))
    if args.guests == AUTO:
        args.guests = capacity.guests(args.cpus, memory)
    elif args.guests * (memory + capacity.BESIDES) > capacity.available_mb():
        need = args.guests * (memory + capacity.BESIDES)
        log.warning('%d guests may take %d MiB, there are %d', args.guests, need, capacity.available_mb())
    if args.guests and args.keep_guest:
        raise UsageError('--keep-guest is for one guest in this process', hint='leave out -n')
    options = options_of(lab, args)
    if args.stage == 'check':
        options = replace(options, canaries=False)
    if lab.dry_run:
        return _plan(lab, options)
    tree = xfstests.find(options.xfstests) if options.xfstests else None
    judge_group(args.group, tree)
    errors = broken(lab.root / 'tests' / 'checks', args.check) if tree is None else []
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
        progress.guests = max(1, campaign.options.guests)
        code = int(pytest.main(_pytest_arguments(campaign, args), plugins=[session]))
        if code != pytest.ExitCode.INTERRUPTED:
            if campaign.failed and campaign.options.keep_guest:
                _wait_with_guest(campaign)
            campaign.stop()
            campaign.finish_canaries()
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
    if session.config is None:
        return EXIT_INTERRUPTED, 'interrupted'
    for line in broken_of(session.config):
        progress.console.print(f'broken check: {line}', markup=False, soft_wrap=True)
    return outcome(session.config, campaign, code)


def _pytest_arguments(campaign: Campaign, args: argparse.Namespace) -> list[str]:
    root = campaign.lab.root
    tree = xfstests.find(campaign.options.xfstests) if campaign.options.xfstests else None
    words = [
        str(root / 'tests' / 'checks') if tree is None else str(tree.tests),
        f'--rootdir={root}',
        f'--confcutdir={root}',
        # Our own: options there are for people who run pytest by hand.
        '--override-ini=addopts=',
        '--capture=no',
        '-p', 'harness.plugin',
        '-p', 'no:cacheprovider',
        '-p', 'no:logging',
    ]  # fmt: skip
    if tree is not None:
        words.append(f'--xfstests={tree.path}')
    if args.group:
        words.append(f'--group={args.group}')
    words += [f'--check={name}' for name in args.check or ()]
    words += [f'--section={name}' for name in args.section or ()]
    if args.keep_guest:
        words.append('--maxfail=1')
    if args.guests:
        words.append(f'--numprocesses={args.guests}')
    return words


class _Session:
    """Brings the campaign into pytest and takes pytest's own terminal output away."""

    def __init__(self, campaign: Campaign, progress: Progress) -> None:
        self._campaign = campaign
        self._recorder = Recorder(campaign, progress)
        self.config: pytest.Config | None = None

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self.config = config
        config.stash[CAMPAIGN] = self._campaign
        config.pluginmanager.register(self._recorder, 'fuse-lab-recorder')
        reporter = config.pluginmanager.get_plugin('terminalreporter')
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
        controller = config.pluginmanager.get_plugin('fuse-lab-controller')
        if controller is not None:
            controller.on_plan = self._recorder.progress.plan

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        distributed = session.config.pluginmanager.get_plugin('dsession')
        if distributed is not None:
            distributed.terminal = None
            session.config.pluginmanager.unregister(name='terminaldistreporter')

    @property
    def trouble(self) -> HarnessError | None:
        return trouble_of(self.config) if self.config else None


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
