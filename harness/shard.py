# SPDX-License-Identifier: GPL-2.0-only
"""Several guests at once: pytest-xdist's workers have one each, its controller has all else.

The controller makes the kernel and the guest programs, before the first check is given out, and runs
the canaries. Checks go to the guests longest first. A worker that dies loses nothing: what it had
is queued again, and its guest dies with it.

Controller and workers meet in a temporary folder: each worker writes there what it has collected,
the controller what all of them work with.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScheduling

from harness.campaign import Campaign, CampaignOptions, Prepared, repeat_command
from harness.errors import HarnessError, LabError
from harness.keeper import TRIES
from harness.lab import Lab
from harness.machine import die_with_parent
from harness.results import check_dict
from harness.runfolder import RunFolder
from harness.verdict import LAB, CheckResult, Verdict

log = logging.getLogger(__name__)

PLACE = 'fuselab_place'  # in xdist's workerinput
AHEAD = 2  # a worker begins an item only when it has the next one too
OTHER_SECONDS = 0.1  # for what is no check

_ITEMS = 'items.json'
_HANDED = 'campaign'


@dataclass(frozen=True)
class Handed:
    """What a worker makes its campaign of."""

    options: CampaignOptions
    run: Path
    made: Prepared


class Worker:
    """pytest plugin of a worker process."""

    def __init__(self, workerinput: Mapping[str, Any]) -> None:
        self.name = str(workerinput['workerid'])
        self._place = Path(workerinput[PLACE])
        # And the guests with it: a controller that is killed leaves nothing behind.
        die_with_parent()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        items = {
            item.nodeid: [item.key, 'dangerous' in item.check.groups]
            for item in session.items
            if hasattr(item, 'key') and hasattr(item, 'check')
        }
        if items:
            _publish(self._place / _ITEMS, json.dumps(items).encode())

    def campaign(self, lab: Lab) -> Campaign:
        """A campaign with what the controller has made; raises what kept the controller from it."""
        handed = pickle.loads((self._place / _HANDED).read_bytes())
        if isinstance(handed, HarnessError):
            raise handed
        campaign = Campaign(lab, handed.options, RunFolder(handed.run), self.name)
        # A worker's words would go through the controller's live line.
        talk = logging.FileHandler(campaign.run.path / f'{self.name}.log', encoding='utf-8', delay=True)
        talk.setFormatter(logging.Formatter('%(asctime)s %(message)s'))
        top = logging.getLogger('harness')
        top.addHandler(talk)
        top.setLevel(logging.INFO)
        top.propagate = False
        campaign.use(handed.made)
        return campaign


class Controller:
    """pytest plugin of the controlling process."""

    def __init__(self, config: pytest.Config, campaign: Callable[[], Campaign]) -> None:
        self.items: dict[str, tuple[str, bool]] = {}  # by node id: key of the check, whether it is dangerous
        self.trouble: HarnessError | None = None
        self.broken: list[str] = []  # what could not be collected
        self.on_plan: Callable[[list[str]], None] | None = None
        self.done: set[str] = set()  # node ids of what need not be run again
        self.began: set[str] = set()
        self._judged: set[str] = set()  # node ids of checks with a verdict
        self._config = config
        self._make = campaign
        self._campaign: Campaign | None = None
        self._attempts: dict[str, list[dict[str, Any]]] = {}  # by key
        self._place = Path(tempfile.mkdtemp(prefix='fuse-lab-'))

    @property
    def campaign(self) -> Campaign | None:
        """None: there are no checks."""
        return self._campaign

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput[PLACE] = str(self._place)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> LoadScheduling | None:
        return GuestScheduling(config, self, log) if config.getoption('dist') == 'load' else None

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """Here the controller learns what there is to run. Nothing is given out before this returns."""
        file = self._place / _ITEMS
        if self.items or not file.exists():
            return
        self.items = {nodeid: (key, dangerous) for nodeid, (key, dangerous) in json.loads(file.read_bytes()).items()}
        if self.on_plan is not None:
            self.on_plan([key for key, _ in self.items.values()])
        try:
            campaign = self._campaign = self._make()
            made = campaign.made or campaign.make()
            handed: Handed | HarnessError = Handed(campaign.options, campaign.run.path, made)
        except HarnessError as error:
            # The first check ends with it, as it does without workers.
            handed = error
        _publish(self._place / _HANDED, pickle.dumps(handed))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A check that is broken ends the session before it begins, as it does without workers."""
        if report.failed:
            self.broken += report.longreprtext.splitlines()[:1]
            _distributed(self._config).shouldstop = 'errors while collecting'

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.began.add(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        trouble = getattr(report, 'fuselab_trouble', None)
        if trouble is not None:
            self.trouble = self.trouble or pickle.loads(trouble)
        if report.when == 'teardown':
            self.done.add(report.nodeid)
        entry = getattr(report, 'fuselab', None)
        if entry is None or self._campaign is None:
            return
        self.done.add(report.nodeid)
        self._judged.add(report.nodeid)
        earlier = self._attempts.pop(self.items[report.nodeid][0], [])
        if earlier:
            entry['attempts'] = [*earlier, *entry.get('attempts', [])]
        share = getattr(report, 'fuselab_share', None)
        if share is not None:
            self._campaign.shares[share['worker']] = share
        try:
            # A guest is up and measured now.
            self._campaign.canaries_beside()
        except HarnessError as error:
            self.trouble = error
            _distributed(self._config).shouldstop = error.what

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        share = getattr(node, 'workeroutput', {}).get('fuselab')
        if share is not None and self._campaign is not None:
            self._campaign.shares[share['worker']] = share

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport, sched: Any) -> None:
        """A check that has taken so many workers along gets its verdict here."""
        if crashitem not in self.items or self._campaign is None:
            return
        key = self.items[crashitem][0]
        name, _, section = key.rstrip(']').partition('[')
        seconds = sum(attempt['seconds'] for attempt in self._attempts.get(key, []))
        reason = f'{LAB}the process of the harness that ran it died {TRIES} times'
        result = CheckResult(name, section, Verdict.CRASH, seconds, reason)
        repeat = repeat_command(self._campaign.options, name, section)
        report.fuselab = check_dict(result, {}, repeat)  # type: ignore[attr-defined]

    def estimates(self) -> dict[str, float]:
        """Seconds of each check, by node id."""
        campaign = self._campaign
        if campaign is None or campaign.made is None:
            return {}
        timings = campaign.timings()
        return {nodeid: timings.estimate([key]) for nodeid, (key, _) in self.items.items()}

    def died(self, nodeid: str, worker: str, seconds: float) -> None:
        """A worker died in the midst of this item."""
        self.began.discard(nodeid)
        if nodeid not in self.items or self._campaign is None:
            return
        guests = sorted((self._campaign.run.path / 'guests').glob(f'{worker}checks-*'), key=os.path.getmtime)
        attempt = {
            'reason': f'the process of the harness that ran it died ({worker})',
            'guest': guests[-1].name if guests else '',
            'seconds': round(seconds, 3),
        }
        log.warning('%s: %s', self.items[nodeid][0], attempt['reason'])
        self._attempts.setdefault(self.items[nodeid][0], []).append(attempt)

    def missing(self) -> list[str]:
        """Checks that have no verdict."""
        return [key for nodeid, (key, _) in self.items.items() if nodeid not in self._judged]


class GuestScheduling(LoadScheduling):  # type: ignore[misc]
    """Gives out one item at a time: the longest first, what may take the kernel down last."""

    collection: list[str] | None
    pending: list[int]  # numbers in the collection
    node2pending: dict[Any, list[int]]

    def __init__(self, config: pytest.Config, controller: Controller, log: Any = None) -> None:
        super().__init__(config, log)
        self._controller = controller
        self._seconds: list[float] = []
        self._order: list[tuple[bool, float, int]] = []  # of each item; the smallest comes first
        self._since: dict[Any, float] = {}  # when it began what it is at
        self._tries: dict[int, int] = {}

    def schedule(self) -> None:
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            ids: list[str] = next(iter(self.node2collection.values()))
            self.collection = ids
            known, items = self._controller.estimates(), self._controller.items
            self._seconds = [known.get(nodeid, OTHER_SECONDS) for nodeid in ids]
            self._order = [
                (items.get(nodeid, ('', False))[1], -self._seconds[number], number) for number, nodeid in enumerate(ids)
            ]
            self.pending[:] = sorted(range(len(ids)), key=self._order.__getitem__)
            # One for each before any gets its second.
            for node in self.nodes:
                self._fill(node, 1)
        for node in self.nodes:
            self.check_schedule(node)

    def mark_test_complete(self, node: Any, item_index: int, duration: float = 0) -> None:
        self._since[node] = time.monotonic()
        super().mark_test_complete(node, item_index, duration)

    def check_schedule(self, node: Any, duration: float = 0) -> None:
        if node.shutting_down or node not in self.node2collection:
            return
        self._fill(node, AHEAD)
        if not self.pending:
            # It begins its last one only now.
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        """Queue again what a dead node had. Its present item's id when that has been tried often enough."""
        queue = self.node2pending.pop(node)
        if not queue:
            return None
        assert self.collection is not None
        given_up = None
        controller = self._controller
        if self.collection[queue[0]] in controller.began and self.collection[queue[0]] not in controller.done:
            seconds = time.monotonic() - self._since.get(node, time.monotonic())
            controller.died(self.collection[queue[0]], node.gateway.id, seconds)
            self._tries[queue[0]] = self._tries.get(queue[0], 0) + 1
            if self._tries[queue[0]] >= TRIES:
                given_up = self.collection[queue.pop(0)]
        again = [number for number in queue if self.collection[number] not in controller.done]
        self.pending[:] = sorted([*self.pending, *again], key=self._order.__getitem__)
        for other in self.node2pending:
            self.check_schedule(other)
        return given_up

    def _fill(self, node: Any, number: int) -> None:
        queue = self.node2pending[node]
        while self.pending and len(queue) < number:
            if not queue:
                self._since[node] = time.monotonic()
            item = self._choose(node)
            self.pending.remove(item)
            queue.append(item)
            node.send_runtest_some([item])

    def _choose(self, node: Any) -> int:
        """The longest for the node that will be free first; the others get a short one to go on with."""
        mine = self._busy(node)
        if all(mine <= self._busy(other) for other in self.nodes if not other.shutting_down):
            return self.pending[0]
        same = [number for number in self.pending if self._order[number][0] == self._order[self.pending[0]][0]]
        return same[-1]

    def _busy(self, node: Any) -> float:
        """Seconds until the node has run all that it has."""
        queue = self.node2pending[node]
        if not queue:
            return 0.0
        gone = time.monotonic() - self._since.get(node, time.monotonic())
        return max(0.0, self._seconds[queue[0]] - gone) + sum(self._seconds[number] for number in queue[1:])


def stopped_by_failures(config: pytest.Config) -> bool:
    """Whether --maxfail ended the session, which pytest-xdist calls an interruption."""
    return str(getattr(_distributed(config), 'shouldstop', '')).startswith('stopping after')


def _distributed(config: pytest.Config) -> Any:
    return config.pluginmanager.get_plugin('dsession')


def _publish(file: Path, data: bytes) -> None:
    """Write it in one step: several workers write the same."""
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(descriptor, 'wb') as out:
            out.write(data)
        Path(name).replace(file)
    except OSError as error:
        raise LabError(f'cannot write {file}', str(error)) from error
