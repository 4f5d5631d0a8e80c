# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import accel
from harness.boot import BootError, GuestSpec
from harness.cache import Cache
from harness.errors import LabError, UsageError
from harness.image import KernelImage


def boot_error(kernel_ran: bool) -> BootError:
    error = BootError('the kernel hangs')
    error.kernel_ran = kernel_ran
    return error


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host whose guests end as told, by accelerator."""
    device = tmp_path / 'kvm'
    device.touch()
    monkeypatch.setattr(accel, 'DEVICE', device)
    monkeypatch.setattr(accel, 'host_key', lambda: 'this host')
    ends: dict[str, Exception | None] = {'kvm': None, 'tcg': None}
    booted: list[str] = []

    def boot(spec: GuestSpec) -> Any:
        booted.append(spec.accelerator.name)
        end = ends[spec.accelerator.name]
        if end is not None:
            raise end
        return SimpleNamespace(machine=SimpleNamespace(stop=lambda: None))

    monkeypatch.setattr(accel, 'boot', boot)
    kernel = KernelImage(image=tmp_path / 'bzImage', directory=tmp_path)

    def choose(wanted: str = 'auto') -> accel.Accelerator:
        return accel.choose(kernel, Cache(tmp_path / 'cache'), tmp_path / 'probe', wanted)

    return SimpleNamespace(choose=choose, ends=ends, booted=booted, device=device)


def test_kvm_that_works_is_remembered(lab: Any) -> None:
    assert lab.choose().name == 'kvm'
    assert lab.choose().name == 'kvm'
    assert lab.booted == ['kvm']


def test_kvm_that_opens_and_hangs(lab: Any, caplog: pytest.LogCaptureFixture) -> None:
    lab.ends['kvm'] = boot_error(kernel_ran=False)
    found = lab.choose()
    assert found.name == 'tcg'
    assert 'hangs' in found.reason
    assert lab.choose() == found
    assert lab.booted == ['kvm', 'tcg']


def test_kernel_that_panics_does_not_speak_against_kvm(lab: Any) -> None:
    lab.ends['kvm'] = boot_error(kernel_ran=True)
    assert lab.choose().name == 'kvm'
    # but it proves nothing either
    lab.choose()
    assert lab.booted == ['kvm', 'kvm']


def test_kernel_that_says_nothing_anywhere_is_not_held_against_kvm(lab: Any) -> None:
    lab.ends.update(kvm=boot_error(kernel_ran=False), tcg=boot_error(kernel_ran=False))
    assert lab.choose().name == 'tcg'
    lab.ends.update(kvm=None, tcg=None)
    assert lab.choose().name == 'kvm'


def test_qemu_that_refuses(lab: Any) -> None:
    lab.ends['kvm'] = LabError('QEMU does not start', 'x\nfailed to initialize kvm: Permission denied')
    found = lab.choose()
    assert found.name == 'tcg'
    assert 'Permission denied' in found.reason


def test_no_device(lab: Any) -> None:
    lab.device.unlink()
    assert lab.choose().name == 'tcg'
    assert lab.booted == []
    with pytest.raises(LabError, match='KVM was asked for'):
        lab.choose('kvm')


def test_asked_for(lab: Any) -> None:
    assert lab.choose('tcg').name == 'tcg'
    assert lab.booted == []
    with pytest.raises(UsageError):
        lab.choose('xen')
