# SPDX-License-Identifier: GPL-2.0-only
"""The xfstests stage on the stand-in tree, in a real guest: pass, notrun and fail, in both sections."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.plugin import kernel_words

ROOT = Path(__file__).parents[2]


def test_standin(pytestconfig: pytest.Config) -> None:
    words = [sys.executable, '-m', 'harness', 'xfstests', 'tests/standin', '--check', 'generic/*', '--no-canaries']
    done = subprocess.run(
        words + kernel_words(pytestconfig.option), cwd=ROOT, capture_output=True, text=True, check=False, timeout=1800
    )
    where = re.search(r'^results: (.+)$', done.stdout, re.MULTILINE)
    assert where, done.stdout + done.stderr
    table = json.loads((Path(where[1]) / 'results.json').read_text(encoding='utf-8'))
    assert done.returncode == 1, done.stdout
    found = {(check['name'], check['section']): check for check in table['checks']}
    assert len(found) == 8
    for section in ('dev', 'uring'):
        assert found['generic/001', section]['verdict'] == 'pass', done.stdout
        assert found['generic/002', section]['verdict'] == 'pass', done.stdout
        notrun = found['generic/003', section]
        assert (notrun['verdict'], notrun['reason']) == ('notrun', 'no reflinks on fuse')
        failed = found['generic/004', section]
        assert (failed['verdict'], failed['reason']) == ('fail', 'exit status 1; output differs')
        folder = Path(where[1])
        assert '-what is expected\n+not what is expected' in (folder / failed['files']['diff']).read_text()
        assert 'more about it' in (folder / failed['files']['stderr']).read_text()
        # Both mounts took the way of the section.
        passed = found['generic/002', section]['counters']
        assert (passed['requests_uring'] > 10) is (section == 'uring')
        assert (passed['requests_dev'] > 10) is (section == 'dev')
