# SPDX-License-Identifier: GPL-2.0-only
"""Against a program compiled here: the tools are the same as for a vmlinux."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.symbolise import Symboliser

SOURCE = """\
int deeper(int x);
int fuse_one(int x)
{
    return deeper(x) + 1;
}
int deeper(int x)
{
    return x * 2;
}
int main(void)
{
    return fuse_one(1);
}
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / 'x.c').write_text(SOURCE)
    flags = ['-g', '-O0', '-no-pie', f'-fdebug-prefix-map={tmp_path}=.']
    subprocess.run(['gcc', *flags, '-o', 'vmlinux', 'x.c'], cwd=tmp_path, check=True)
    subprocess.run(['gcc', *flags, '-c', '-o', 'canary.ko', 'x.c'], cwd=tmp_path, check=True)
    return tmp_path


def test_file_and_line(program: Path) -> None:
    one = Symboliser(program / 'vmlinux', [program / 'canary.ko'])
    trace = [' fuse_one+0x1/0x20', ' ? deeper+0x1/0x10', 'RIP: 0010:main+0x1/0x10', ' fuse_one+0x1/0x20 [canary]']
    lines = one.lines(trace)
    assert re.search(r'fuse_one\+0x1/0x20 \(.*x\.c:3\)', lines[0])
    assert re.search(r'deeper\+0x1/0x10 \(.*x\.c:7\)', lines[1])
    assert re.search(r'main\+0x1/0x10 \(.*x\.c:11\)', lines[2])
    assert re.search(r'fuse_one\+0x1/0x20 \[canary\] \(.*x\.c:3\)', lines[3])


def test_what_is_unknown_stays_as_it_was(program: Path) -> None:
    trace = [' nowhere+0x1/0x2', ' fuse_one+0x1/0x20 [other]', 'Call Trace:', '']
    assert Symboliser(program / 'vmlinux').lines(trace) == trace
    assert Symboliser(None).lines(trace) == trace
    assert Symboliser(program / 'missing').lines(trace) == trace


def test_looked_up_once(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = Symboliser(program / 'vmlinux')
    first = one.lines([' fuse_one+0x1/0x20'])
    monkeypatch.setattr('harness.symbolise._run', lambda *_: pytest.fail('asked again'))
    assert one.lines([' fuse_one+0x1/0x20']) == first
