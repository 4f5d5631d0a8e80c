# SPDX-License-Identifier: GPL-2.0-only
"""Sub-commands that give a person a guest: `boot`, `mount`, `shell`, `gdb`."""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import accel, kernel, runfolder
from harness.boot import TCG, Booted, GuestSpec, boot, command_line
from harness.campaign import CampaignOptions, ssh_command
from harness.command import missing_program, quote
from harness.errors import LabError
from harness.guest import Guest
from harness.image import KernelImage
from harness.keeper import GuestKeeper, GuestPlan
from harness.lab import Lab
from harness.mount import Bundle, build_bundle
from harness.plugin import add_guest_options, options_of

log = logging.getLogger(__name__)
plan_log = logging.getLogger('harness.dry_run')

# What a person gets: the checks' environment, and a shell that reads no start-up file of the host.
_SHELL = (
    'export PATH=/lab/bin:/usr/sbin:/usr/bin:/sbin:/bin LAB=/lab LC_ALL=C TERM=${TERM:-linux}; '
    'cd /lab/work; exec /lab/bin/bash --norc -i'
)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, text in (
        ('boot', 'boot the kernel, see that it is the one that was built, end'),
        ('mount', 'the same, and set the guest up for checks'),
        ('shell', 'a shell in a guest with the servers at hand'),
        ('gdb', 'a guest that is set up, with gdb attached to its kernel'),
    ):
        parser = subparsers.add_parser(name, help=text)
        add_guest_options(parser.add_argument)
        kernel.add_options(parser)
        parser.set_defaults(func=_command, stage=name)


def _command(args: argparse.Namespace, lab: Lab) -> str | int | None:
    stage: str = args.stage
    options = options_of(lab, args)
    bundle = build_bundle(lab) if stage != 'boot' else None
    with kernel.used(lab, options.request) as image:
        return _with_kernel(lab, stage, options, image, bundle)


def _with_kernel(
    lab: Lab, stage: str, options: CampaignOptions, image: KernelImage, bundle: Bundle | None
) -> str | int | None:
    if lab.dry_run:
        folder = lab.root / 'results' / 'RUN' / 'guests' / stage
        chosen = accel.KVM if options.accel == 'kvm' else TCG
        spec = GuestSpec(image, folder, chosen, options.cpus, options.memory_mb or 1024, gdb=stage == 'gdb')
        plan_log.info('%s', quote(command_line(spec)))
        return None
    if stage == 'gdb' and image.vmlinux is None:
        raise LabError(f'{image.image} comes without a vmlinux, so gdb has no symbols')
    run = runfolder.create(lab.root / 'results')
    chosen = accel.choose(image, lab.cache, run.guest('probe'), options.accel)
    plan = GuestPlan(image, chosen, options.cpus, run, lab.cache, lab.clock, options.memory_mb, gdb=stage == 'gdb')
    if bundle is None:
        return _boot(plan)
    with _guest(plan, bundle) as guest:
        if stage == 'mount':
            return f'{_about(guest.booted)}\nguest set up, /lab has: {guest.ask("ls -C /lab /lab/bin").strip()}'
        log.info('another terminal gets in by: %s', quote(ssh_command(guest)))
        log.info('console: %s', guest.machine.log)
        return _shell(guest) if stage == 'shell' else _gdb(guest, image.vmlinux or Path())


def _boot(plan: GuestPlan) -> str:
    booted = boot(plan.spec('boot', plan.expected_speed().factor))
    try:
        guest = Guest(booted)
        guest.attest()
    finally:
        booted.machine.stop()
    return _about(booted)


@contextmanager
def _guest(plan: GuestPlan, bundle: Bundle) -> Iterator[Guest]:
    keeper = GuestKeeper(plan, bundle)
    try:
        yield keeper.get()
    finally:
        keeper.discard()


def _about(booted: Booted) -> str:
    kernel_image = booted.spec.kernel
    return '\n'.join(
        (
            f'release      {kernel_image.release}',
            f'build id     {kernel_image.build_id or "unknown"}',
            f'series       {kernel_image.series_digest or "unknown"}',
            f'accelerator  {booted.spec.accelerator.name}, {booted.spec.cpus} CPUs',
            f'first line   {booted.seconds_kernel:.1f} s',
            f'ssh          {booted.seconds:.1f} s',
            f'console      {booted.machine.log}',
        )
    )


def _shell(guest: Guest) -> int:
    """The person's own terminal; the shell's exit status is ours."""
    return subprocess.run([*ssh_command(guest), '-t', '-q', _SHELL], check=False).returncode


def _gdb(guest: Guest, vmlinux: Path) -> int:
    """gdb in the foreground: attaching stops the guest, `continue` lets it go on."""
    if shutil.which('gdb') is None:
        raise missing_program('gdb')
    directory = guest.booted.spec.directory
    argv = ['gdb', '-q', '-ex', 'set pagination off', '-ex', 'target remote gdb.sock', str(vmlinux.resolve())]
    log.info('+ %s', quote(argv))
    # In the guest's folder: the socket's whole path may be longer than a unix socket's name can be.
    return subprocess.run(argv, check=False, cwd=directory).returncode
