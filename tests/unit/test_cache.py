# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import threading
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from harness import campaign, kernel
from harness.boot import TCG
from harness.cache import Cache
from harness.campaign import Campaign, CampaignOptions
from harness.command import DiskFullError, Runner
from harness.errors import LabError
from harness.image import KernelImage
from harness.lab import Lab
from harness.mount import Bundle


def hold(root: Path, held: Event, release: Event) -> None:
    with Cache(root).lock('work-x', 'building x'):
        held.set()
        release.wait(30)


def test_second_run_waits_and_says_for_whom(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = multiprocessing.get_context('fork')
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, release))
    other.start()
    assert held.wait(30)
    got = threading.Event()

    def wait() -> None:
        with Cache(tmp_path).lock('work-x', 'building x'):
            got.set()

    waiter = threading.Thread(target=wait)
    with caplog.at_level(logging.WARNING, 'harness.cache'):
        waiter.start()
        assert not got.wait(0.3)
        release.set()
        assert got.wait(30)
    waiter.join()
    other.join()
    assert caplog.messages == [f'waiting for another run (process {other.pid}) that is busy with building x']


def test_lock_of_a_killed_run_is_free(tmp_path: Path) -> None:
    context = multiprocessing.get_context('fork')
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, release))
    other.start()
    assert held.wait(30)
    other.kill()
    other.join()
    with Cache(tmp_path).lock('work-x', 'building x'):
        pass


def test_entries_have_locks_of_their_own(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with cache.lock('work-x', 'x'), cache.lock('work-y', 'y'):
        pass


def test_publish_is_all_or_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def broken(folder: Path) -> None:
        (folder / 'half').write_text('x')
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.publish(cache.kernel('k'), broken)
    assert list((tmp_path / 'kernels').iterdir()) == []


def test_publish_keeps_what_is_there(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for text in ('first', 'second'):
        cache.publish(cache.kernel('k'), lambda folder, text=text: (folder / 'f').write_text(text) and None)
    assert (cache.kernel('k') / 'f').read_text() == 'first'
    assert len(list((tmp_path / 'kernels').iterdir())) == 1


def test_publish_on_a_full_disk_is_lab_trouble(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(DiskFullError):
        cache.publish(cache.kernel('k'), full)
    assert list((tmp_path / 'kernels').iterdir()) == []


def test_prune_takes_the_oldest_and_nothing_in_use(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for age, name in enumerate(('newest', 'old', 'busy', 'oldest')):
        cache.work(name).mkdir(parents=True)
        os.utime(cache.work(name), (1e9 - age, 1e9 - age))
    with cache.lock('work-busy', 'busy'):
        assert {path.name for path in cache.prune(keep_work=1)} == {'old', 'oldest'}
    cache.touch(cache.work('busy'))
    assert [path.name for path in cache.prune(keep_work=1)] == ['newest']


def make_kernel(cache: Cache, name: str = 'k') -> KernelImage:
    folder = cache.kernel(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'bzImage').write_text('')
    return KernelImage(image=folder / 'bzImage', directory=folder)


def test_a_campaigns_kernel_stays_while_others_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Runner(), Cache(tmp_path / 'cache'), tmp_path)
    monkeypatch.setattr(kernel, 'obtain', lambda lab, request: make_kernel(lab.cache))
    monkeypatch.setattr(campaign, 'build_bundle', lambda lab: Bundle(()))
    monkeypatch.setattr(campaign.accel, 'choose', lambda *_: TCG)
    request: Any = None
    mine, too = (Campaign(lab, CampaignOptions(request, canaries=False)) for _ in range(2))
    mine.make()
    too.make()
    # As after nine kernels of a bisection. The lock is each run's own, so that this process stands for two.
    assert lab.cache.prune(keep_kernels=0) == []
    mine.abort()
    assert lab.cache.prune(keep_kernels=0) == []
    too.abort()
    assert [path.name for path in lab.cache.prune(keep_kernels=0)] == ['k']


def test_a_kernel_that_goes_before_it_is_held_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(Runner(), Cache(tmp_path / 'cache'), tmp_path)
    made: list[KernelImage] = []

    def obtain(lab: Lab, request: object) -> KernelImage:
        made.append(make_kernel(lab.cache))
        if len(made) <= gone:
            lab.cache.prune(keep_kernels=0)
        return made[-1]

    monkeypatch.setattr(kernel, 'obtain', obtain)
    gone = 1
    with kernel.used(lab, None) as image:  # type: ignore[arg-type]
        assert image.image.is_file()
    assert len(made) == 2
    gone = 99
    with pytest.raises(LabError, match='removed again and again'), kernel.used(lab, None):  # type: ignore[arg-type]
        pass


def test_default_is_in_the_users_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', '/somewhere')
    assert Cache.default().root == Path('/somewhere/fuse-lab')
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    monkeypatch.setenv('HOME', '/home/me')
    assert Cache.default().root == Path('/home/me/.cache/fuse-lab')
