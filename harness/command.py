# SPDX-License-Identifier: GPL-2.0-only
"""Runs other programs: announced, logged, limited in time, and never left behind."""

from __future__ import annotations

import errno
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.errors import LabError

# Three loggers, because the CLI sends them to different places: commands of a dry run are its
# result (stdout), commands and output of a verbose run are talk (stderr).
log = logging.getLogger(__name__)
dry_run_log = logging.getLogger('harness.dry_run')
output_log = logging.getLogger('harness.output')

# Debian package of each program the harness or a kernel build calls.
PACKAGE_OF = {
    'ar': 'binutils',
    'as': 'binutils',
    'bash': 'bash',
    'bc': 'bc',
    'bison': 'bison',
    'busybox': 'busybox-static',
    'cpio': 'cpio',
    'dpkg-query': 'dpkg',
    'fio': 'fio',
    'flex': 'flex',
    'gcc': 'gcc',
    'gdb': 'gdb',
    'gcov': 'gcc',
    'git': 'git',
    'ld': 'binutils',
    'lz4': 'lz4',
    'make': 'make',
    'perf': 'linux-perf',
    'perl': 'perl',
    'qemu-img': 'qemu-utils',
    'qemu-system-x86_64': 'qemu-system-x86',
    'readelf': 'binutils',
    'sshd': 'openssh-server',
    'tar': 'tar',
    'xz': 'xz-utils',
    'zstd': 'zstd',
    'addr2line': 'binutils',
    'objdump': 'binutils',
    'virtiofsd': 'qemu-system-common',
}

# Variables of the `make` that started us, or of a git hook: they would change what the commands do
# (kbuild takes CHECK as the name of the static checker, git takes GIT_DIR as the repository).
_FOREIGN_VARIABLES = (
    'MAKEFLAGS', 'MFLAGS', 'MAKELEVEL', 'MAKEOVERRIDES', 'GNUMAKEFLAGS', 'MAKE_TERMOUT', 'MAKE_TERMERR',
    'GROUP', 'CHECK', 'SECTION', 'VARIANT', 'CPUS', 'KERNEL', 'KDIR', 'SERIES', 'SOURCE', 'V', 'C', 'W', 'O',
    'BASE', 'BENCH', 'N', 'KERNEL_B', 'SERVER', 'SERVER_B', 'ROUNDS', 'NATIVE', 'PROFILE', 'RUN',
    'SEED', 'MEMORY', 'ACCEL', 'PREFIX', 'FRAGMENT', 'KNOWN', 'XFSTESTS', 'TESTS', 'STOCK', 'BUDGET', 'BASELINE',
    'GOOD', 'BAD', 'GOOD_SERIES', 'WORSE', 'ANY', 'CONFIDENCE', 'REVERSE', 'RESTART',
    'KBUILD_OUTPUT', 'KCONFIG_CONFIG', 'KCONFIG_ALLCONFIG', 'KCFLAGS', 'ARCH', 'SUBARCH', 'CROSS_COMPILE',
    'LLVM', 'LOCALVERSION', 'KBUILD_EXTRA_SYMBOLS',
    'GIT_DIR', 'GIT_WORK_TREE', 'GIT_INDEX_FILE', 'GIT_OBJECT_DIRECTORY', 'GIT_ALTERNATE_OBJECT_DIRECTORIES',
    'GIT_COMMON_DIR', 'GIT_NAMESPACE', 'GIT_PREFIX', 'GIT_CEILING_DIRECTORIES',
)  # fmt: skip

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL = re.compile(r'No space left on device|Disk quota exceeded')
_NOT_FOUND = re.compile(r'(?:^|[\s:/])([\w.+-]+): (?:command )?not found', re.MULTILINE)
# Headers that a kernel build wants from the host, and the packages that have them.
_HEADERS = {
    'gelf.h': 'libelf-dev',
    'libelf.h': 'libelf-dev',
    'openssl/': 'libssl-dev',
    'stdio.h': 'libc6-dev',
    'sys/types.h': 'libc6-dev',
}
_GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL
TAIL_LINES = 40  # of a failed command's output shown in an error


@dataclass(frozen=True)
class Completed:
    """A command that has ended."""

    argv: tuple[str, ...]
    status: int  # negative: killed by that signal
    stdout: str  # with stderr mixed in, unless the two were split
    stderr: str
    seconds: float
    log: Path | None

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def tail(self, lines: int = TAIL_LINES) -> str:
        return '\n'.join(self.output.rstrip().splitlines()[-lines:])


class CommandFailedError(LabError):
    """A command that had to succeed did not."""

    completed: Completed | None = None


class CommandTimeoutError(LabError):
    """A command did not end in time; its process group was killed."""

    output: str = ''


class DiskFullError(LabError):
    """Something could not be written for want of space."""


def quote(argv: Sequence[str | os.PathLike[str]]) -> str:
    return shlex.join(os.fspath(word) for word in argv)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would change other programs' behaviour or language."""
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    # All three: the kernel's Makefile unsets LC_ALL.
    env |= {'LC_ALL': 'C', 'LANG': 'C', 'LANGUAGE': ''}
    env.update(extra or {})
    return env


def disk_full(paths: Iterable[Path], what: str, detail: str = '') -> DiskFullError:
    """The error for a full disk, naming whichever file system of `paths` has least room."""
    found: list[tuple[int, Path]] = []
    for path in (*paths, Path(tempfile.gettempdir())):
        mount = path.resolve()
        while not mount.is_mount():
            mount = mount.parent
        stat = os.statvfs(mount)
        found.append((stat.f_bavail * stat.f_frsize, mount))
    free, mount = min(found)
    return DiskFullError(
        f'disk full: {what}',
        f'{detail}\nfile system {mount}: {free / 2**20:.0f} MiB free'.lstrip(),
        f'make room on {mount} and run again (`python -m harness cache --prune` removes old kernels of the cache)',
    )


def missing_program(name: str) -> LabError:
    package = PACKAGE_OF.get(Path(name).name)
    hint = f'apt-get install {package}' if package else f'install {Path(name).name}'
    return LabError(f'{Path(name).name} is not installed', hint=hint)


def lab_cause(output: str) -> LabError | None:
    """A lab trouble that shows only in a failed command's output, such as a tool `make` misses."""
    for match in _NOT_FOUND.finditer(output):
        if match[1] in PACKAGE_OF:
            return missing_program(match[1])
    for header, package in _HEADERS.items():
        if re.search(rf'fatal error: {re.escape(header)}\S*: No such file', output):
            return LabError(f'header {header} is not installed', hint=f'apt-get install {package}')
    return None


class Runner:
    """Runs commands for one campaign.

    dry_run  only announce what would run; queries (read-only) still run, so that the plan is real
    verbose  stream the output of commands while they run
    log_dir  keep each stage's commands and output in <log_dir>/<stage>.log
    """

    def __init__(self, verbose: bool = False, dry_run: bool = False, log_dir: Path | None = None) -> None:
        self.verbose = verbose
        self.dry_run = dry_run
        self.log_dir = log_dir

    def query(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        check: bool = True,
    ) -> str:
        """What a command that changes nothing prints. Runs in a dry run too."""
        return self._execute(argv, cwd=cwd, env=env, stdin=stdin, timeout=120, stage='', check=check, split=True).stdout

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes | None = None,
        timeout: float | None = None,
        stage: str = '',
        check: bool = True,
        split: bool = False,
    ) -> Completed:
        """Announce a command and run it to its end.

        env adds to the environment. check=False returns a failed command instead of raising
        CommandFailedError; a full disk or a missing program raises all the same. split keeps stderr
        apart from stdout.
        """
        words = tuple(os.fspath(word) for word in argv)
        shown = ''.join(f'{name}={shlex.quote(value)} ' for name, value in (env or {}).items()) + quote(words)
        if cwd is not None:
            shown = f'cd {shlex.quote(os.fspath(cwd))} && {shown}'
        if self.dry_run:
            dry_run_log.info('%s', shown)
            return Completed(words, 0, '', '', 0.0, None)
        log.info('+ %s', shown)
        return self._execute(
            words, cwd=cwd, env=env, stdin=stdin, timeout=timeout, stage=stage, check=check, split=split, shown=shown
        )

    def _execute(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        cwd: Path | None,
        env: Mapping[str, str] | None,
        stdin: str | bytes | None,
        timeout: float | None,
        stage: str,
        check: bool,
        split: bool,
        shown: str = '',
    ) -> Completed:
        words = tuple(os.fspath(word) for word in argv)
        if shutil.which(words[0]) is None:
            raise missing_program(words[0])
        log_path = self._log_path(stage)
        started = time.monotonic()
        try:
            with _open_log(log_path, shown) as log_file:
                status, out, err = self._communicate(
                    words,
                    cwd,
                    clean_environment(env),
                    stdin,
                    timeout,
                    split,
                    log_file,
                    stream=self.verbose and bool(shown),
                )
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise disk_full(self._written(cwd, words, env), quote(words)[:200], str(error)) from error
            raise LabError(f'cannot run {words[0]}', str(error)) from error
        done = Completed(words, status, out, err, time.monotonic() - started, log_path)
        if status != 0:
            self._judge(done, self._written(cwd, words, env), stage, check)
        return done

    @staticmethod
    def require_tools(done: Completed) -> None:
        """Raise if a failed command's output shows that a tool or header is missing on this machine."""
        cause = lab_cause(done.output)
        if cause is not None:
            raise cause

    def _judge(self, done: Completed, written: list[Path], stage: str, check: bool) -> None:
        if _DISK_FULL.search(done.output):
            said = [line for line in done.output.splitlines() if _DISK_FULL.search(line)]
            raise disk_full(written, f'in stage {stage}' if stage else quote(done.argv)[:200], '\n'.join(said[:5]))
        if not check:
            return
        self.require_tools(done)
        how = f'exit status {done.status}' if done.status > 0 else f'killed by signal {-done.status}'
        prefix = f'{stage}: ' if stage else ''
        where = f'the whole output is in {done.log}' if done.log else ''
        failed = CommandFailedError(f'{prefix}{quote(done.argv)[:200]} failed ({how})', done.tail(), where)
        failed.completed = done
        raise failed

    def _written(self, cwd: Path | None, words: Sequence[str], env: Mapping[str, str] | None) -> list[Path]:
        """Where a command may have written: all folders that it was told of."""
        told = [word.split('=', 1)[-1] for word in (*words, *(env or {}).values())]
        paths = [Path(word) for word in told if word.startswith('/') and '\n' not in word]
        return [*paths, *(path for path in (cwd, self.log_dir, Path.cwd()) if path is not None)]

    def _log_path(self, stage: str) -> Path | None:
        if self.log_dir is None or not stage:
            return None
        self.log_dir.mkdir(parents=True, exist_ok=True)
        return self.log_dir / f'{stage}.log'

    def _communicate(
        self,
        words: tuple[str, ...],
        cwd: Path | None,
        env: dict[str, str],
        stdin: str | bytes | None,
        timeout: float | None,
        split: bool,
        log_file: IO[str] | None,
        stream: bool,
    ) -> tuple[int, str, str]:
        # A session of its own, so that the whole tree of processes can be ended at once and a
        # Ctrl-C at the terminal reaches only us, who then end it in order.
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if split else subprocess.STDOUT,
            start_new_session=True,
        )
        data = stdin.encode() if isinstance(stdin, str) else stdin
        out: list[str] = []
        err: list[str] = []
        threads = [threading.Thread(target=self._read, args=(process.stdout, out, log_file, stream), daemon=True)]
        if split:
            threads.append(
                threading.Thread(target=self._read, args=(process.stderr, err, log_file, stream), daemon=True)
            )
        if data is not None:
            threads.append(threading.Thread(target=_feed, args=(process.stdin, data), daemon=True))
        for thread in threads:
            thread.start()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            kill_group(process)
            for thread in threads:
                thread.join(_GRACE_SECONDS)
            output = ''.join(out) + ''.join(err)
            tail = '\n'.join(output.splitlines()[-TAIL_LINES:])
            late = CommandTimeoutError(f'{quote(words)[:200]} did not end within {timeout:.0f} s', tail)
            late.output = output
            raise late from None
        except BaseException:
            kill_group(process)
            raise
        for thread in threads:
            # A daemon that the command left behind may hold the pipe open for ever.
            thread.join(_GRACE_SECONDS)
        return process.returncode, ''.join(out), ''.join(err)

    @staticmethod
    def _read(pipe: IO[bytes], lines: list[str], log_file: IO[str] | None, stream: bool) -> None:
        for raw in pipe:
            line = raw.decode('utf-8', 'replace')
            lines.append(line)
            if log_file is not None:
                try:
                    log_file.write(line)
                except (OSError, ValueError):
                    log_file = None  # full disk or log already closed: the output is still kept in memory
            if stream:
                output_log.info('%s', line.rstrip('\n'))


def kill_group(process: subprocess.Popen[bytes], grace: float = _GRACE_SECONDS) -> None:
    """End a command started in its own session, with all its children, and reap it."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            break
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            continue
        if sig == signal.SIGTERM and _group_alive(process.pid):
            continue  # the leader has gone, a child ignores SIGTERM
        break
    process.wait(grace)


def _group_alive(group: int) -> bool:
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.02)
    return True


def _feed(stream: IO[bytes], data: bytes) -> None:
    try:
        stream.write(data)
        stream.close()
    except BrokenPipeError:
        pass  # the command did not want it all; its exit status says whether that matters


def _open_log(path: Path | None, shown: str) -> AbstractContextManager[IO[str] | None]:
    if path is None:
        return nullcontext()
    file = path.open('a', encoding='utf-8', buffering=1)
    file.write(f'+ {shown}\n')
    return file
