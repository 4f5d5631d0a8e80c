# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from faketree import FRAGMENT, make_tree

from harness.cache import Cache
from harness.command import Runner
from harness.lab import Lab


@pytest.fixture(autouse=True)
def isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the user's home, cache or git settings, or leaves anything there."""
    home = tmp_path_factory.mktemp('home')
    monkeypatch.setenv('HOME', str(home))
    monkeypatch.setenv('XDG_CACHE_HOME', str(home / 'cache'))
    monkeypatch.setenv('XDG_CONFIG_HOME', str(home / 'config'))
    monkeypatch.setenv('GIT_CONFIG_NOSYSTEM', '1')


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab with a repository of its own."""
    root = tmp_path / 'repository'
    root.mkdir()
    (root / 'Kconfig.fragment').write_text(FRAGMENT)
    return Lab(Runner(log_dir=tmp_path / 'logs'), cache=Cache(tmp_path / 'cache'), root=root, jobs=1)


@pytest.fixture
def kdir(tmp_path: Path) -> Path:
    return make_tree(tmp_path / 'linux')


@pytest.fixture
def tarball(tmp_path: Path) -> Path:
    make_tree(tmp_path / 'packed' / 'linux-source-6.12')
    path = tmp_path / 'linux.tar.xz'
    subprocess.run(['tar', '-cJf', path, '-C', tmp_path / 'packed', 'linux-source-6.12'], check=True)
    return path


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C reaches tests and their children even where a shell's background job ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
