# SPDX-License-Identifier: GPL-2.0-only
"""The user's cache: kernel sources, build folders, finished kernels.

    $XDG_CACHE_HOME/fuse-lab (default ~/.cache/fuse-lab)
      source.git/     every base tree and applied series, as git commits
      index/          git indexes that remember what of a tree is imported already
      work/KEY/       a kernel being built: src/ build/ canary/; kept and built on
      kernels/KEY/    a finished kernel; never changed once there
      locks/          one file per entry, held while the entry is made; a kernel's, shared, while it is used

Two runs at once share all of it: who comes second waits for the lock and says so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.command import disk_full
from harness.errors import LabError

log = logging.getLogger(__name__)

KEEP_KERNELS = 8  # a vmlinux with debug information is about 150 MiB
KEEP_WORK = 3  # source and objects of one build are about 3 GiB


@dataclass(frozen=True)
class Cache:
    root: Path

    @staticmethod
    def default() -> Cache:
        base = os.environ.get('XDG_CACHE_HOME') or ''
        # The XDG specification has relative paths ignored.
        home = Path(base) if base.startswith('/') else Path.home() / '.cache'
        return Cache(home / 'fuse-lab')

    @property
    def store(self) -> Path:
        return self.root / 'source.git'

    def index(self, name: str) -> Path:
        return self.root / 'index' / name

    def work(self, key: str) -> Path:
        return self.root / 'work' / key

    def kernel(self, key: str) -> Path:
        return self.root / 'kernels' / key

    @contextmanager
    def lock(self, name: str, purpose: str) -> Iterator[None]:
        """Hold the lock of one entry. Waits for another run that has it, and says so."""
        path = self.root / 'locks' / f'{name}.lock'
        with _open_lock(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.warning('waiting for another run (%s) that is busy with %s', _holder(file), purpose)
                fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            json.dump({'pid': os.getpid(), 'purpose': purpose}, file)
            file.flush()
            try:
                yield
            finally:
                # The file stays: removing it would let a third run lock a file that the second
                # one, already waiting on the old inode, does not see.
                fcntl.flock(file, fcntl.LOCK_UN)

    def publish(self, final: Path, fill: Callable[[Path], None]) -> Path:
        """Make the folder `final` in one step: `fill` writes a temporary one, which is then renamed.

        If `final` is there already, what was filled is dropped: equal keys mean equal content.
        """
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f'.{final.name}.', dir=final.parent))
        except OSError as error:
            raise LabError(f'cannot write the cache {self.root}', str(error)) from error
        try:
            fill(temporary)
            temporary.chmod(0o755)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _classify(error, final) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        try:
            temporary.rename(final)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if not final.is_dir():
                raise _classify(error, final) from error
        return final

    def touch(self, entry: Path) -> None:
        """Mark an entry as used now, which is what `prune` goes by."""
        with suppress(OSError):
            os.utime(entry)

    @contextmanager
    def used(self, key: str) -> Iterator[None]:
        """Keep a kernel, whatever other runs build meanwhile. Waits for one that is removing it."""
        with _open_lock(self._lock_of('kernel', key)) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def _lock_of(self, kind: str, key: str) -> Path:
        return self.root / 'locks' / f'{kind}-{key}.lock'

    def prune(self, keep_kernels: int = KEEP_KERNELS, keep_work: int = KEEP_WORK) -> list[Path]:
        """Remove the entries unused for longest, beyond what is to be kept. Entries in use stay."""
        removed: list[Path] = []
        for folder, kind, keep in (('kernels', 'kernel', keep_kernels), ('work', 'work', keep_work)):
            entries = self._entries(folder)
            for entry in entries[keep:]:
                with _open_lock(self._lock_of(kind, entry.name)) as file:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        continue
                    shutil.rmtree(entry, ignore_errors=True)
                    removed.append(entry)
        return removed

    def _entries(self, folder: str) -> list[Path]:
        """Entries, the one used last first."""
        found: list[tuple[float, Path]] = []
        with suppress(FileNotFoundError):
            for entry in (self.root / folder).iterdir():
                with suppress(FileNotFoundError):
                    if not entry.name.startswith('.'):
                        found.append((entry.stat().st_mtime, entry))
        return [entry for _, entry in sorted(found, reverse=True)]

    def entries(self) -> list[Path]:
        """Everything of any size that the cache holds."""
        store = [self.store] if self.store.is_dir() else []
        return [*store, *self._entries('work'), *self._entries('kernels')]

    def size(self, entry: Path) -> int:
        """Bytes on disk below an entry."""
        total = 0
        for folder, _, files in os.walk(entry):
            for name in files:
                with suppress(OSError):
                    total += (Path(folder) / name).lstat().st_blocks * 512
        return total


def _classify(error: OSError, path: Path) -> LabError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_full([path], f'writing {path}', str(error))
    return LabError(f'cannot write {path}', str(error))


def _open_lock(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), 'r+')
    except OSError as error:
        raise _classify(error, path) from error


def _holder(file: IO[str]) -> str:
    try:
        file.seek(0)
        return f'process {json.load(file)["pid"]}'
    except (ValueError, KeyError):
        return 'just started'
