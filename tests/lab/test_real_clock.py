# SPDX-License-Identifier: GPL-2.0-only
"""A guest whose kernel took its clock's frequency for another one, as happens on a busy host."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from harness.boot import GuestSpec
from harness.campaign import Campaign
from harness.command import Runner
from harness.keeper import GuestPlan
from harness.lab import Lab
from harness.plugin import options_of
from harness.runfolder import RunFolder


def test_wrong_clock(
    pytestconfig: pytest.Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = GuestPlan.spec

    def spec(plan: GuestPlan, name: str, factor: float) -> GuestSpec:
        # Less than any CPU has: a second takes about a tenth of one.
        wrong = ('tsc_early_khz=250000',) if name.endswith('checks-1') else ()
        return replace(right(plan, name, factor), kernel_args=wrong)

    monkeypatch.setattr(GuestPlan, 'spec', spec)
    lab = Lab(Runner())
    (tmp_path / 'run').mkdir()
    campaign = Campaign(lab, options_of(lab, pytestconfig.option), RunFolder(tmp_path / 'run'))
    try:
        keeper = campaign.prepare()
        if keeper.plan.accelerator.name == 'kvm':
            pytest.skip('with KVM, the guest is told what time it is')
        with caplog.at_level(logging.WARNING):
            guest = keeper.get()
            assert guest.machine.alive
    finally:
        campaign.canaries = None
        campaign.abort()
    assert keeper.boots == 2
    assert "the guest's clock is wrong" in caplog.text
