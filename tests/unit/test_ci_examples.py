# SPDX-License-Identifier: GPL-2.0-only
"""examples/ci: linted, and what their steps run is there and does what the comments say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import config
from harness.cache import Cache
from harness.cli import make_parser
from harness.command import Runner
from harness.formats.history import History
from harness.lab import REPOSITORY, Lab

FOLDER = REPOSITORY / 'examples' / 'ci'
GITHUB, GITLAB = FOLDER / 'github-actions.yml', FOLDER / 'gitlab-ci.yml'
# Stands for the harness: notes how it was called, and ends as told.
STUB = """#!/bin/sh
echo "$XDG_CACHE_HOME|$*" >>"$ROOT/calls"
case "$*" in *vm-test*) ;; *) echo "report of $*"; exit 0 ;; esac
number=$(grep -c vm-test "$ROOT/calls")
exit $(echo "$STATUSES" | cut -d ' ' -f "$number")
"""


def github() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(GITHUB.read_text())['jobs']['checks']
    return job


def gitlab() -> dict[str, Any]:
    job: dict[str, Any] = yaml.safe_load(GITLAB.read_text())['fuse-lab']
    return job


def step(name: str) -> dict[str, Any]:
    (found,) = [step for step in github()['steps'] if step['name'] == name]
    return found


def scripts() -> list[str]:
    """All that the examples run."""
    found = [step['run'] for step in github()['steps'] if 'run' in step]
    return found + ['\n'.join(gitlab()[name]) for name in ('before_script', 'script', 'after_script')]


def variants() -> list[str]:
    return [entry['variant'] for entry in github()['strategy']['matrix']['include']] + [
        entry['VARIANT'] for entry in gitlab()['parallel']['matrix']
    ]


@pytest.mark.parametrize(
    ('module', 'arguments'),
    [
        ('check_jsonschema', ['--builtin-schema', 'vendor.github-workflows', str(GITHUB)]),
        ('check_jsonschema', ['--builtin-schema', 'vendor.gitlab-ci', '--data-transform', 'gitlab-ci', str(GITLAB)]),
        ('yamllint', ['--strict', '-c', str(FOLDER / '.yamllint'), str(GITHUB), str(GITLAB)]),
    ],
    ids=['github', 'gitlab', 'yaml'],
)
def test_linters(module: str, arguments: list[str]) -> None:
    pytest.importorskip(module, reason='of requirements-dev.lock')
    done = subprocess.run([sys.executable, '-m', module, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_linters_do_find_what_is_wrong(tmp_path: Path) -> None:
    pytest.importorskip('check_jsonschema', reason='of requirements-dev.lock')
    bad = tmp_path / 'bad.yml'
    bad.write_text(GITHUB.read_text().replace('runs-on:', 'run-on:'))
    words = ['check_jsonschema', '--builtin-schema', 'vendor.github-workflows', str(bad)]
    assert subprocess.run([sys.executable, '-m', *words], capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize('number', range(len(scripts())))
def test_shell_can_read_it(number: int) -> None:
    done = subprocess.run(['bash', '-n'], input=scripts()[number], text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')


def test_targets_of_make_exist() -> None:
    targets = [match[1] for text in scripts() for match in re.finditer(r'\bmake -C fuse-lab (\S+)', text)]
    assert targets == ['setup', 'setup']
    for target in targets:
        done = subprocess.run(
            ['make', '-n', '-C', str(REPOSITORY), target], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_options_of_the_harness_exist() -> None:
    calls = []
    for text in scripts():
        for match in re.finditer(r'python -m harness ([^|;>\n]*)', text):
            for variant in variants():
                line = match[1].replace('${VARIANT:+--variant "$VARIANT"}', f'--variant {variant}' if variant else '')
                calls.append(make_parser().parse_args(shlex.split(line)))
    assert {call.func.__module__ for call in calls} == {'harness.vmtest', 'harness.report'}
    lab = Lab(Runner())
    for call in calls:
        if hasattr(call, 'variant'):
            assert config.request_of(lab, call).variant in ('', 'kasan,lockdep')


def test_what_is_cached_is_what_the_cache_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    cache = Cache.default()
    there = {str(path.relative_to(tmp_path)) for path in (cache.kernel('x').parent, cache.root / 'memo', cache.store)}
    history = str(History(Path('fuse-lab/results')).path)
    assert set(gitlab()['cache']['paths']) == there | {history}
    assert gitlab()['cache']['when'] == 'always'
    taken, kept = step('History'), step('Keep the history')
    assert taken['with']['path'] == kept['with']['path'] == history
    # A key that is there already is never written again: the history would stay as the first run left it.
    assert taken['with']['key'] == kept['with']['key']
    assert taken['with']['restore-keys'] == taken['with']['key'].partition('${{ github.run_id')[0]
    assert 'cancelled' in kept['if']
    assert set(step('Cache')['with']['path'].split()) == there
    assert gitlab()['variables']['XDG_CACHE_HOME'] == '$CI_PROJECT_DIR/cache'
    # GitHub refuses keys with a comma, which variants have.
    assert 'variant' not in step('Cache')['with']['key']


class Workspace:
    """A checkout in which the harness is a stub."""

    def __init__(self, root: Path) -> None:
        self.root = root
        stub = root / 'fuse-lab' / '.venv' / 'bin' / 'python'
        stub.parent.mkdir(parents=True)
        stub.write_text(STUB)
        stub.chmod(0o755)
        run = root / 'fuse-lab' / 'results' / '20261121T120000Z-0000'
        (run / 'guests' / 'checks-1' / 'ssh').mkdir(parents=True)
        for name in ('results.json', 'junit.xml', 'guests/checks-1/console.log', 'guests/checks-1/client_key',
                     'guests/checks-1/ssh/host_key', 'guests/checks-1/qmp.sock'):  # fmt: skip
            (run / name).write_text(name)
        (run.parent / 'latest').symlink_to(run.name)

    def run(self, script: str, where: str = '.', **environment: str) -> subprocess.CompletedProcess[str]:
        env = {
            'PATH': os.environ['PATH'], 'ROOT': str(self.root), 'GITHUB_WORKSPACE': str(self.root),
            'GITHUB_STEP_SUMMARY': str(self.root / 'summary'), **environment,
        }  # fmt: skip
        # As GitHub's `shell: bash` does.
        return subprocess.run(
            ['bash', '--noprofile', '--norc', '-eo', 'pipefail', '-c', script],
            cwd=self.root / where, env=env, text=True, capture_output=True, check=False,
        )  # fmt: skip

    @property
    def calls(self) -> list[str]:
        return (self.root / 'calls').read_text().splitlines()

    @property
    def artefacts(self) -> set[str]:
        folder = self.root / 'fuse-lab' / 'artefacts'
        return {str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


KEPT = {'results.json', 'junit.xml', 'guests/checks-1/console.log'}


@pytest.mark.parametrize(
    ('statuses', 'status', 'runs'), [('0', 0, 1), ('1', 1, 1), ('3 0', 0, 2), ('3 1', 1, 2), ('3 3', 3, 2)]
)
def test_trouble_in_the_lab_is_tried_again(workspace: Workspace, statuses: str, status: int, runs: int) -> None:
    one = step('Build, boot, check')
    done = workspace.run(one['run'], one['working-directory'], STATUSES=statuses, VARIANT='kasan,lockdep')
    assert done.returncode == status
    call = f'{workspace.root}/cache|-m harness vm-test -n auto --series ../patches --variant kasan,lockdep'
    assert workspace.calls == [call] * runs
    assert done.stdout.count('::warning') == statuses.count('3')


def test_steps_of_github_after_a_run(workspace: Workspace) -> None:
    for name in ('Report', 'Collect'):
        done = workspace.run(step(name)['run'], step(name)['working-directory'])
        assert done.returncode == 0, done.stderr
    assert [call.split('|')[1] for call in workspace.calls] == [
        '-m harness report --format github',
        '-m harness report',
    ]
    assert (workspace.root / 'summary').read_text() == '```\nreport of -m harness report\n```\n'
    assert workspace.artefacts == KEPT
    assert step('Keep what came out')['with']['path'] == 'fuse-lab/artefacts'


@pytest.mark.parametrize('name', ['Report', 'Collect'])
def test_steps_of_github_without_results(workspace: Workspace, name: str) -> None:
    (workspace.root / 'fuse-lab' / 'results' / 'latest').unlink()
    assert workspace.run(step(name)['run'], step(name)['working-directory']).returncode == 0


def test_scripts_of_gitlab(workspace: Workspace) -> None:
    job = gitlab()
    done = workspace.run('\n'.join(job['script']), STATUSES='3', VARIANT='')
    assert done.returncode == job['retry']['exit_codes'] == 3
    assert workspace.calls == ['|-m harness vm-test -n auto --series ../patches']
    assert workspace.run('\n'.join(job['after_script'])).returncode == 0
    assert workspace.artefacts == KEPT
    assert job['artifacts']['paths'] == ['fuse-lab/artefacts']
    assert job['artifacts']['reports']['junit'] == 'fuse-lab/artefacts/junit.xml'
    (workspace.root / 'fuse-lab' / 'results' / 'latest').unlink()
    assert workspace.run('\n'.join(job['after_script'])).returncode == 0
