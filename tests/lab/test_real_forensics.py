# SPDX-License-Identifier: GPL-2.0-only
"""A check that hangs, in a real guest: what is found out about it before the guest goes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from harness import campaign as campaigns
from harness.campaign import Campaign
from harness.check import parse
from harness.command import Runner
from harness.lab import Lab
from harness.mount import build_bundle
from harness.plugin import options_of
from harness.runfolder import RunFolder

STOPPED = """#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# check: a call to a server that is stopped
# groups: auto daemon
# timeout: 3
. "$LAB/guest/lib.sh"
_kill_server STOP
stat "$MNT/nothing"
"""


@pytest.mark.parametrize('section', ['dev', 'uring'])
def test_stopped_server(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str
) -> None:
    path = tmp_path / 'checks' / 'hang' / '001'
    path.parent.mkdir(parents=True)
    path.write_text(STOPPED, encoding='utf-8')
    path.chmod(0o755)
    path.with_name('001.out').write_text('')
    monkeypatch.setattr(campaigns, 'build_bundle', partial(build_bundle, checks=tmp_path / 'checks'))
    lab = Lab(Runner())
    (tmp_path / 'run').mkdir()
    campaign = Campaign(lab, options_of(lab, pytestconfig.option), RunFolder(tmp_path / 'run'))
    campaign.canaries = None
    try:
        campaign.prepare()
        campaign.canaries = None
        result, entry = campaign.run_check(parse(path), section)
    finally:
        campaign.abort()
    text = result.forensics
    assert (result.verdict, entry['files']['hang']) == ('hang', f'checks/hang/001.{section}.hang'), text
    # the kernel: which task waits, and for what
    assert 'Show Blocked State' in text or 'Show backtrace of all active CPUs' in text, text
    assert 'request_wait_answer' in text
    # the connection, and its one request
    assert '/waiting: 1' in text
    # the server: stacks, files, counters
    assert 'mirrorfs, state T (stopped)' in text
    assert '-> /dev/fuse' in text
    assert 'its counters:\n    requests_dev ' in text
    assert 'user stacks:' in text
    assert ('io_uring' if section == 'uring' else 'read') in text.split('user stacks:')[1]
    # an abort sets the caller free: the request was all that it waited for
    assert 'after the abort of all connections the check ended' in text
