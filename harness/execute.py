# SPDX-License-Identifier: GPL-2.0-only
"""Runs one check in the guest and gathers the evidence: output, console events, and why it hangs."""

from __future__ import annotations

import math
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import replace

from harness.allowlist import AllowList
from harness.check import Check
from harness.console import FATAL, Event
from harness.guest import Guest, GuestLostError, Running
from harness.keeper import GuestKeeper
from harness.verdict import CheckResult, Evidence, Verdict, judge

# Seconds at unit speed.
AROUND = 5.0  # run-check's own work before and after the check
GRACE = 3.0  # a check may go on this long after the kernel has failed
AFTER_ABORT = 5.0  # time given to a hanging check once its connections are aborted
MARK_LIMIT = 2.0  # until the end mark is on the console; printed before run-check ends

STACK_LIMIT = 5.0  # for the user stacks of one server
SYSRQ_LIMIT = 2.0  # until the kernel begins to answer a sysrq
# What the kernel is asked to tell of a hang; the last is long, and stays in the console log.
SYSRQ = {'w': 'blocked tasks', 'l': 'what each CPU does', 't': 'all tasks'}

RUN_CHECK = '/lab/guest/run-check --section {section} --check {name} --seed {seed} --timeout {limit}'
# What the host's environment says to checks: how long those that find things by chance go on.
FOR_CHECKS = 'FUZZ_'
_WAITING = 'for f in /sys/fs/fuse/connections/*/waiting; do [ -f $f ] && echo $f: $(cat $f) requests; done; true'
MAX_OUTPUT = 4 << 20  # bytes judged and kept of a check's output
_ABORT = 'for f in /sys/fs/fuse/connections/*/abort; do [ -f $f ] && echo 1 >$f; done'


def run_check(keeper: GuestKeeper, check: Check, section: str, allow: AllowList, seed: int = 1) -> CheckResult:
    """One check in one section. A guest that may be damaged is not used again."""
    started = time.monotonic()
    guest = keeper.get()
    factor = keeper.speed.factor
    limit = check.timeout * factor
    first = len(guest.machine.events)
    with keeper.plan.clock.stage('checks'):
        evidence = _attempt(guest, check, section, seed, limit, factor, first)
    if evidence.lost:
        # The console may still be on its way, and the end itself is an event.
        guest.machine.wait(lambda: not guest.machine.alive, 2.0)
        guest.machine.drain(quiet=0.3, limit=3.0)
    else:
        _settle(guest, check.name, section, factor)
    guest.machine.parser.check_over()
    events = keeper.take_events(guest, check.name, section)
    evidence = replace(
        evidence,
        seconds=time.monotonic() - started,
        killed=guest.machine.killed,
        events=events,
        guest=guest.booted.spec.directory.name,
    )
    result = judge(check, section, golden_of(check), evidence, allow)
    if must_replace(result, evidence):
        keeper.discard()
    return result


def golden_of(check: Check) -> bytes:
    """What it has to print. A test of another suite prints how it differs from its own, at best nothing."""
    return b'' if check.suite else check.golden.read_bytes()


def must_replace(result: CheckResult, evidence: Evidence) -> bool:
    """Whether the next check needs a fresh guest."""
    if evidence.lost or evidence.killed or result.verdict is Verdict.HANG:
        return True
    if any(event.kind in FATAL for event in (*result.events, *result.excused)):
        return True
    return result.reason.startswith('cannot be run properly')


def assignments(environment: Mapping[str, str]) -> list[str]:
    """What the environment says to checks, as words of a shell."""
    return [
        f'{name}={shlex.quote(value)}' for name, value in sorted(environment.items()) if name.startswith(FOR_CHECKS)
    ]


def variables(environment: Mapping[str, str]) -> str:
    """Shell command that sets in the guest what is meant for checks; empty when nothing is."""
    words = assignments(environment)
    return f'export {" ".join(words)}; ' if words else ''


def _attempt(guest: Guest, check: Check, section: str, seed: int, limit: float, factor: float, first: int) -> Evidence:
    # Its own limit is only a second line of defence: at ours the hang is looked at before it is ended.
    inner = math.ceil(limit + 30 * factor)
    command = RUN_CHECK.format(section=section, name=check.name, seed=seed, limit=inner)
    command = f'{variables(os.environ)}exec {command}{f" --{check.suite}" if check.suite else ""}'
    fatal_since: list[float] = []

    def failed() -> bool:
        kinds = {event.kind for event in guest.machine.events[first:]} | set(guest.machine.parser.open_kinds)
        if kinds & FATAL and not fatal_since:
            fatal_since.append(time.monotonic())
        return bool(fatal_since) and time.monotonic() - fatal_since[0] > GRACE * factor

    try:
        running = guest.start(command)
    except GuestLostError as error:
        return Evidence(lost=error.what)
    try:
        output = running.wait(limit + AROUND * factor, failed)
        forensics = ''
        if output.timed_out:
            forensics = _look(guest, factor)
            forensics += _after_abort(guest, running, factor)
            output = running.so_far()
        return Evidence(
            output.stdout[:MAX_OUTPUT],
            output.stderr.decode('utf-8', 'replace'),
            timed_out=output.timed_out or bool(forensics),
            forensics=forensics,
        )
    except GuestLostError as error:
        output = running.so_far()
        return Evidence(
            output.stdout[:MAX_OUTPUT], output.stderr.decode('utf-8', 'replace'), lost=f'{error.what}: {error.detail}'
        )
    finally:
        running.close()


def _settle(guest: Guest, name: str, section: str, factor: float) -> None:
    """The console's lines of this check have arrived, and its reports are complete."""
    parser = guest.machine.parser
    guest.machine.wait(lambda: parser.ended == (name, section) and not parser.running, MARK_LIMIT * factor)
    if parser.open_kinds:
        guest.machine.drain(quiet=0.3, limit=5.0)


def _look(guest: Guest, factor: float) -> str:
    """What hangs and where, before anything is ended. Traces go to the console log too."""
    machine = guest.machine
    parts = []
    for key, what in SYSRQ.items():
        before = machine.offset
        if machine.alive:
            machine.send_break(key, SYSRQ_LIMIT * factor, 10.0 * factor)
        parts.append(f'sysrq {key}, {what}: console log from byte {before}')
        if key != 't':
            parts.append(machine.said(before))
    try:
        state = guest.run(f'/lab/guest/hang-report {math.ceil(STACK_LIMIT * factor)}', 4 * STACK_LIMIT * factor)
        parts.append(state.stdout.decode('utf-8', 'replace'))
        if state.timed_out:
            parts.append('(the guest did not finish saying this)\n')
    except GuestLostError as error:
        parts.append(f'the guest does not answer: {error.what}\n')
    return '\n'.join(parts)


def _after_abort(guest: Guest, running: Running, factor: float) -> str:
    """Does it recover once its connections are aborted? Tells a lost request from a dead kernel."""
    try:
        guest.run(_ABORT, 5 * factor)
        output = running.wait(AFTER_ABORT * factor)
    except GuestLostError as error:
        return f'after the abort of all connections: {error.what}\n'
    text = f'after the abort of all connections the check {"still hangs" if output.timed_out else "ended"}\n'
    try:
        waiting = guest.run(_WAITING, 5 * factor).stdout.decode('utf-8', 'replace')
    except GuestLostError as error:
        return f'{text}then: {error.what}\n'
    return f'{text}connections left: {waiting.strip() or "none"}\n'


def excerpt(events: tuple[Event, ...], lines: int = 40) -> str:
    """The reports' own lines, for a failure message."""
    text: list[str] = []
    for event in events:
        text += [f'[{event.kind}] {event.line}', *(f'    {line}' for line in event.trace)]
    if len(text) > lines:
        text = [*text[:lines], f'    ... {len(text) - lines} lines more in the console log']
    return '\n'.join(text)
