# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: guest checks are test items, tests/checks/AREA/NNN[SECTION].

Loaded by `-p harness.plugin`. `vm-test` brings a prepared campaign; a plain `pytest` run makes its
own when the first check is about to run, so that collecting and unit tests need no kernel.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import capacity, kernel, known, shard, xfstests
from harness.boot import BootError
from harness.campaign import Campaign, CampaignOptions
from harness.check import GROUPS, SECTIONS, Check, CheckError, is_check, named, parse
from harness.cli import explain
from harness.command import Runner
from harness.errors import EXIT_INTERRUPTED, EXIT_LAB, EXIT_PASS, EXIT_VERDICT, HarnessError, UsageError
from harness.formats import evidence
from harness.formats.summary import state
from harness.formats.transports import unexplained
from harness.guest import GuestLostError
from harness.image import KernelImage
from harness.keeper import memory_for
from harness.lab import Lab
from harness.progress import Progress
from harness.series import FEATURES
from harness.shard import Controller, Worker
from harness.verdict import LAB, CheckResult, State

CAMPAIGN = pytest.StashKey[Campaign]()
TROUBLE = pytest.StashKey[HarnessError]()
BROKEN = pytest.StashKey[list[str]]()
CHECKS = 'tests/checks/'  # before a check's key in a node id
_TREE = pytest.StashKey[xfstests.Tree | None]()
_TREE_GROUPS = pytest.StashKey[dict[str, frozenset[str]]]()
_NARROWED = pytest.StashKey[dict[Path, set[str]]]()
_LEDGER = pytest.StashKey['Ledger']()
_CONTROLLER = pytest.StashKey[Controller]()
_WORKER = pytest.StashKey[Worker]()

# What a CI machine cannot bring along. Anything else that is not run there is a failure, unless it is for want
# of a feature that the series does not promise: nobody looks at a list of skipped checks that grows.
CI_NOTRUN = tuple(
    re.compile(pattern)
    for pattern in (
        r'^\d+ CPUs, needs \d+$',
        r'^kernel \S+, needs \d+\.\d+$',
        r'^not for section ',
        f'^{known.EXCLUDED}',
    )
)


class CheckFailedError(Exception):
    """A check that fails, crashes or hangs, as pytest's exception."""

    def __init__(self, result: CheckResult, entry: dict[str, Any], folder: Path) -> None:
        super().__init__(f'{result.verdict}: {result.reason}')
        self.result = result
        self.entry = entry
        self.folder = folder


def add_check_options(add: Any) -> None:
    """Options that vm-test and pytest share; `add` is add_argument or pytest's addoption."""
    groups = ', '.join(GROUPS)
    add('--group', default=None, metavar='NAME', help=f'default quick; one of {groups}')
    add('--check', action='append', default=None, metavar='AREA/NNN', help='checks by name or pattern, any group')
    add('--section', action='append', choices=SECTIONS, default=None, metavar='NAME', help='dev or uring')
    add('--seed', type=int, default=1, metavar='N', help='for the random parts of checks (default 1)')
    add('--known', type=Path, default=None, metavar='DIR', help='known failures of yours, as tests/known-failures')
    add('--keep-guest', action='store_true', help='stop at the first failure and leave its guest running')
    add('--no-canaries', action='store_true', help='do not prove first that console events would be noticed')


def add_guest_options(add: Any) -> None:
    add('--cpus', type=int, default=2, metavar='N', help='virtual CPUs of a guest (default 2)')
    add('--memory', type=int, default=0, metavar='MIB', help='memory of a guest (default: by variant)')
    add('--accel', choices=('auto', 'kvm', 'tcg'), default='auto', help='default: what a probe boot proves')


def judge_group(name: str | None, tree: xfstests.Tree | None) -> None:
    """UsageError for a group that no check can be in."""
    known = set(GROUPS) if tree is None else set().union(*xfstests.groups(tree).values())
    if name is not None and name not in known:
        raise UsageError(f'no such group: {name}', hint=f'there are {", ".join(sorted(known))}')


def options_of(lab: Lab, args: argparse.Namespace) -> CampaignOptions:
    if not 1 <= args.cpus <= 64:
        raise UsageError(f'--cpus {args.cpus}: from 1 to 64')
    return CampaignOptions(
        kernel.request_of(lab, args),
        args.cpus,
        args.memory,
        args.accel,
        getattr(args, 'seed', 1),
        getattr(args, 'keep_guest', False),
        not getattr(args, 'no_canaries', False),
        # vm-test's option, or what pytest-xdist has made of its own
        getattr(args, 'guests', 0) or len(getattr(args, 'tx', ())),
        getattr(args, 'xfstests', None),
        getattr(args, 'known', None),
    )


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('fuse-lab', 'checks in a guest')
    add_check_options(group.addoption)
    add_guest_options(group.addoption)
    group.addoption('--xfstests', type=Path, metavar='TREE', help='tests of this xfstests tree are checks too')
    # The kernel's options are the sub-commands' own; pytest only has to know their names.
    for action in _kernel_parser()._actions:
        if action.option_strings and action.dest != 'help':
            group.addoption(action.option_strings[-1], dest=action.dest, type=action.type or str,
                            default=action.default, help=action.help)  # fmt: skip


def kernel_words(option: argparse.Namespace) -> list[str]:
    """The kernel's options once more, for a sub-command with the same kernel."""
    words = []
    for action in _kernel_parser()._actions:
        value = getattr(option, action.dest, None)
        if action.option_strings and action.dest != 'help' and value not in (None, '', action.default):
            words += [action.option_strings[-1], str(value)]
    return words


def _kernel_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    kernel.add_options(parser)
    return parser


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    for name, text in GROUPS.items():
        config.addinivalue_line('markers', f'{name}: check that is {text}')
    config.stash[BROKEN] = []
    tree = xfstests.find(config.option.xfstests) if config.option.xfstests else None
    config.stash[_TREE] = tree
    config.stash[_TREE_GROUPS] = xfstests.groups(tree) if tree else {}
    judge_group(config.option.group, tree)
    config.stash[_LEDGER] = Ledger()
    config.pluginmanager.register(config.stash[_LEDGER], 'fuse-lab-ledger')
    if hasattr(config, 'workerinput'):
        config.stash[_WORKER] = Worker(config.workerinput)
        config.pluginmanager.register(config.stash[_WORKER], 'fuse-lab-worker')
    elif getattr(config.option, 'dist', 'no') != 'no' and not config.option.collectonly:
        controller = config.stash[_CONTROLLER] = Controller(config, lambda: campaign_of(config))
        config.pluginmanager.register(controller, 'fuse-lab-controller')
    config.stash[_NARROWED] = _narrow(config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto`: as many guests as fit."""
    if not any('checks' in Path(arg).parts for arg in config.args):
        return None
    return capacity.guests(config.option.cpus, config.option.memory or memory_for(config.option.variant or ''))


def _narrow(config: pytest.Config) -> dict[Path, set[str]]:
    """tests/checks/uring/007[uring] on the command line: pytest itself knows only the path."""
    narrowed: dict[Path, set[str]] = {}
    for number, arg in enumerate(config.args):
        match = re.fullmatch(r'(.*/\d{3})\[(\w+)\]', arg)
        if match:
            config.args[number] = match[1]
            narrowed.setdefault((config.invocation_params.dir / match[1]).resolve(), set()).add(match[2])
    config.args[:] = list(dict.fromkeys(config.args))
    return narrowed


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    tree = parent.config.stash[_TREE]
    if tree is not None and xfstests.is_test(tree, file_path) and named(file_path, parent.config.option.check):
        return CheckFile.from_parent(parent, path=file_path)
    # A broken check that was not asked for is no reason to stop.
    if 'checks' in file_path.parts and is_check(file_path) and named(file_path, parent.config.option.check):
        return CheckFile.from_parent(parent, path=file_path)
    return None


class CheckFile(pytest.File):
    """One check; gives one item for each section."""

    def collect(self) -> Iterator[pytest.Item]:
        check = self._parse()
        for section in check.sections:
            # A tree of others may be anywhere.
            name = f'{CHECKS}{check.name}' if check.suite else self.nodeid
            item: CheckItem = CheckItem.from_parent(self, name=section, nodeid=f'{name}[{section}]')
            item.check = check
            # Another suite's groups are not ours; only that a test is dangerous matters here too.
            for group in sorted(check.groups if not check.suite else check.groups & {'dangerous'}):
                item.add_marker(group)
            yield item

    def _parse(self) -> Check:
        tree = self.config.stash[_TREE]
        if tree is None or self.path.parent != tree.tests:
            return parse(self.path)
        return xfstests.parse(self.path, self.config.stash[_TREE_GROUPS].get(self.path.name, frozenset()))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CheckError):
            self.config.stash[BROKEN].append(excinfo.value.what)
            return explain(excinfo.value)
        return super().repr_failure(excinfo)


class CheckItem(pytest.Item):
    """A check in one section."""

    check: Check
    entry: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        return f'{self.check.name}[{self.name}]'

    def runtest(self) -> None:
        try:
            campaign = campaign_of(self.config)
            started = time.monotonic()
            try:
                result, self.entry = campaign.run_check(self.check, self.name)
            except (BootError, GuestLostError) as error:
                seconds = time.monotonic() - started
                result, self.entry = campaign.without_guest(self.check, self.name, error, seconds)
        except HarnessError as error:
            self.config.stash[TROUBLE] = error
            # Every further check would end the same way.
            self.session.shouldfail = f'{error.kind}: {error.what}'
            raise
        self._describe(result)
        if result.state is State.NOTRUN:
            if in_ci() and not may_be_notrun(result.name, result.reason, campaign.kernel):
                pytest.fail(f'not run, which CI does not accept: {result.reason}', pytrace=False)
            pytest.skip(result.reason)
        if result.state is State.KNOWN:
            pytest.xfail(result.known)
        if result.state is not State.GOOD:
            raise CheckFailedError(result, self.entry, campaign.run.path)

    def _describe(self, result: CheckResult) -> None:
        """For junit.xml."""
        self.user_properties[:] = [
            ('section', result.section),
            ('verdict', str(result.verdict)),
            ('proof', result.proof),
            *((name, value) for name, value in result.counters.items() if value is not None),
        ]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, CheckFailedError):
            return _explain_failure(excinfo.value)
        if isinstance(excinfo.value, HarnessError):
            return explain(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, self.key


def campaign_of(config: pytest.Config) -> Campaign:
    """The campaign of this session; made now in a plain pytest run."""
    if CAMPAIGN not in config.stash:
        lab = Lab(Runner(config.option.verbose > 1))
        worker = config.stash.get(_WORKER, None)
        config.stash[CAMPAIGN] = worker.campaign(lab) if worker else Campaign(lab, options_of(lab, config.option))
    return config.stash[CAMPAIGN]


def in_ci() -> bool:
    return os.environ.get('CI', '') == 'true'


def may_be_notrun(name: str, reason: str, image: KernelImage | None) -> bool:
    """Whether CI may leave a check out for this reason."""
    for feature, words in FEATURES.items():
        if reason == words:
            return image is None or feature not in image.provides
    # What xfstests cannot do with FUSE, no machine can bring along.
    return name.startswith(f'{xfstests.AREA}/') or any(pattern.search(reason) for pattern in CI_NOTRUN)


def _explain_failure(error: CheckFailedError) -> str:
    result, entry = error.result, error.entry
    parts = [f'{result.verdict}: {result.reason}']
    if result.diff:
        parts.append(result.diff)
    for what in ('console', 'hang', 'stderr'):
        if what in entry['files']:
            path = error.folder / entry['files'][what]
            parts += [f'{what} ({path}):', *(f'    {line}' for line in evidence.head(path, 40).text.splitlines())]
    parts.append(f'repeat: {entry["repeat"]}')
    return '\n'.join(parts)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose by --check, --section and --group. What may take the kernel down comes last."""
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        (chosen if not isinstance(item, CheckItem) or _wanted(config, item) else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    chosen.sort(key=lambda item: isinstance(item, CheckItem) and 'dangerous' in item.check.groups)
    items[:] = chosen


def _wanted(config: pytest.Config, item: CheckItem) -> bool:
    option = config.option
    narrowed = config.stash[_NARROWED]
    if item.path in narrowed and item.name not in narrowed[item.path]:
        return False
    if option.section and item.name not in option.section:
        return False
    if option.check or item.path in narrowed or (option.group is None and option.markexpr):
        # Named outright, or chosen by pytest's own -m.
        return True
    return (option.group or 'quick') in item.check.groups


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if isinstance(item, CheckItem) and call.when == 'call':
        # Plain attributes travel with the report from an xdist worker.
        if item.entry is not None:
            report.fuselab = item.entry  # type: ignore[attr-defined]
        if _WORKER in item.config.stash:
            if item.entry is not None:
                report.fuselab_share = campaign_of(item.config).share()  # type: ignore[attr-defined]
            elif call.excinfo is not None and isinstance(call.excinfo.value, HarnessError):
                report.fuselab_trouble = pickle.dumps(call.excinfo.value)  # type: ignore[attr-defined]
    return report


class Ledger:
    """Collects the results of checks as their reports come in, from xdist's workers too."""

    def __init__(self) -> None:
        self.checks: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = getattr(report, 'fuselab', None)
        if entry is not None:
            # A repeated check (pytest-rerunfailures) replaces its earlier result.
            self.checks[f'{entry["name"]}[{entry["section"]}]'] = entry


class Recorder:
    """Tells the progress of a session that vm-test has started."""

    def __init__(self, campaign: Campaign, progress: Progress) -> None:
        self.campaign = campaign
        self.progress = progress

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.progress.plan(item.key for item in session.items if isinstance(item, CheckItem))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        if CHECKS in nodeid:
            self.progress.check_started(nodeid.rpartition(CHECKS)[2])

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = getattr(report, 'fuselab', None)
        if entry is not None:
            key = f'{entry["name"]}[{entry["section"]}]'
            self.progress.check_done(key, entry['verdict'], entry['seconds'], entry['reason'])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Guests gone, results written. vm-test does the rest by itself."""
    config = session.config
    campaign = config.stash.get(CAMPAIGN, None)
    if campaign is None:
        if (error := trouble_of(config)) is not None:
            session.exitstatus = error.exit_status
        return
    campaign.checks[:] = config.stash[_LEDGER].checks.values()
    if campaign.progress is not None:
        return
    problem = ''
    try:
        campaign.stop()
        if exitstatus != pytest.ExitCode.INTERRUPTED:
            campaign.finish_canaries()
        if _WORKER not in config.stash:
            session.exitstatus, problem = outcome(config, campaign, int(session.exitstatus))
    except HarnessError as error:
        problem = f'{error.kind}: {error.what}'
        session.exitstatus = error.exit_status
        _tell(config, explain(error))
    finally:
        campaign.abort()
    if _WORKER in config.stash:
        config.workeroutput['fuselab'] = campaign.share()  # type: ignore[attr-defined]
        return
    table = campaign.write(int(session.exitstatus), problem)
    _tell_end(config, campaign.run.path, table)


def outcome(config: pytest.Config, campaign: Campaign, code: int) -> tuple[int, str]:
    """Exit status of a session, and the problem if there is one besides failed checks."""
    error, broken = trouble_of(config), broken_of(config)
    status = exit_status(code, error, bool(broken))
    if code == pytest.ExitCode.INTERRUPTED and shard.stopped_by_failures(config):
        status = EXIT_VERDICT
    problem = ''
    controller = config.stash.get(_CONTROLLER, None)
    if error is not None:
        problem = f'{error.kind}: {error.what}'
    elif code == pytest.ExitCode.NO_TESTS_COLLECTED:
        problem = 'no check fits what was asked for'
    elif broken:
        problem = f'{len(broken)} broken checks'
    elif status == EXIT_INTERRUPTED:
        problem = 'interrupted'
    elif code != pytest.ExitCode.INTERRUPTED and controller and (missing := controller.missing()):
        status = EXIT_LAB
        problem = f'{len(missing)} checks have no verdict, too many processes of the harness died: {missing[0]}'
    elif status in (EXIT_PASS, EXIT_VERDICT):
        status, problem = _judged(campaign, status)
    return status, problem


def _judged(campaign: Campaign, status: int) -> tuple[int, str]:
    """The same of a session that came to its end, whose checks alone would give this status."""
    states = [state(check) for check in campaign.checks]
    problems = ['the kernel complained outside of any check'] if campaign.strays() else []
    if in_ci():
        problems += _not_for_ci(campaign)
    if problems:
        return EXIT_VERDICT, '; '.join(problems)
    if status == EXIT_VERDICT and State.LAB in states and State.BAD not in states:
        lost = states.count(State.LAB)
        return EXIT_LAB, f'{LAB}{lost} checks lost their guest or their process again and again'
    return status, ''


def _not_for_ci(campaign: Campaign) -> list[str]:
    """What fails a run only where nobody looks at it."""
    found = []
    left_out = [
        check
        for check in campaign.checks
        if state(check) is State.NOTRUN and not may_be_notrun(check['name'], check['reason'], campaign.kernel)
    ]
    if left_out:
        first = left_out[0]
        found.append(
            f'not run, which CI does not accept: {len(left_out)} checks, '
            f'first {first["name"]}[{first["section"]}]: {first["reason"]}'
        )
    if differ := [split.text for split in unexplained(campaign.checks) if not split.fails]:
        found.append(f'differ between transports, and no known failure says why: {"; ".join(differ)}')
    if stale := campaign.stale_known():
        found.append(f'known failures are out of date: {"; ".join(stale)}')
    return found


def broken_of(config: pytest.Config) -> list[str]:
    """Checks that cannot be used, seen here or by workers."""
    controller = config.stash.get(_CONTROLLER, None)
    return [*config.stash[BROKEN], *(controller.broken if controller else ())]


def trouble_of(config: pytest.Config) -> HarnessError | None:
    """What ended the session, here or in a worker."""
    controller = config.stash.get(_CONTROLLER, None)
    return config.stash.get(TROUBLE, None) or (controller.trouble if controller else None)


def _tell_end(config: pytest.Config, folder: Path, table: dict[str, Any]) -> None:
    for event in table['stray_events']:
        _tell(config, f'console, outside of any check ({event["where"]}): {event["kind"]}: {event["line"]}')
    if table['problem']:
        _tell(config, table['problem'])
    _tell(config, f'results of the checks: {folder}')


def _tell(config: pytest.Config, text: str) -> None:
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(text)


def exit_status(code: int, trouble: HarnessError | None, broken: bool) -> int:
    """pytest's exit status as the contract has it."""
    if trouble is not None:
        return trouble.exit_status
    if broken:
        return UsageError.exit_status
    return {
        int(pytest.ExitCode.OK): 0,
        int(pytest.ExitCode.TESTS_FAILED): EXIT_VERDICT,
        int(pytest.ExitCode.INTERRUPTED): EXIT_INTERRUPTED,
        int(pytest.ExitCode.USAGE_ERROR): UsageError.exit_status,
        int(pytest.ExitCode.NO_TESTS_COLLECTED): UsageError.exit_status,
    }.get(code, EXIT_LAB)
