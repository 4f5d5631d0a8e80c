# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from faketree import git, make_tree

from harness import source
from harness.command import Runner
from harness.errors import LabError, UsageError, VerdictError
from harness.lab import Lab
from harness.source import SourceRequest


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything of a tree that a write would change, .git included."""
    seen = {}
    for path in sorted(folder.rglob('*')):
        stat = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ''
        seen[str(path.relative_to(folder))] = (stat.st_mtime_ns, stat.st_mode, content)
    return seen


def files(lab: Lab, commit: str) -> set[str]:
    return set(git(lab.cache.store, 'ls-tree', '-r', '--name-only', commit).splitlines())


def test_tarball(lab: Lab, tarball: Path) -> None:
    tree = source.prepare(lab, SourceRequest(source=str(tarball)))
    assert (tree.version, tree.series_version) == ('6.12.7', '6.12')
    assert files(lab, tree.base_commit) == {'Makefile', 'Kconfig', '.gitignore', 'fs/fuse/dev.c', 'fs/other.c'}
    assert [path.name for path in lab.cache.root.glob('unpack*')] == []


def test_tarball_is_unpacked_once(lab: Lab, tarball: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = source.prepare(lab, SourceRequest(source=str(tarball)))
    monkeypatch.setattr(source, '_unpack', lambda *_: pytest.fail('unpacked again'))
    assert source.prepare(lab, SourceRequest(source=str(tarball))) == first


def test_all_ways_in_give_the_same_source_id(lab: Lab, tarball: Path, kdir: Path, tmp_path: Path) -> None:
    repository = make_tree(tmp_path / 'clone')
    git(repository, 'init', '-q')
    git(repository, 'add', '-A')
    git(repository, 'commit', '-q', '-m', 'x')
    git(repository, 'tag', 'v6.12.7')
    requests = [
        SourceRequest(source=str(tarball)),
        SourceRequest(kdir=kdir),
        SourceRequest(source=f'{repository}#v6.12.7'),
    ]
    trees = [source.prepare(lab, request) for request in requests]
    assert len({tree.source_id for tree in trees}) == 1
    assert len({tree.base_commit for tree in trees}) == 1


def test_package_missing_is_lab_trouble(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(source, 'DEFAULT_TARBALL', tmp_path / 'none.tar.xz')
    with pytest.raises(LabError) as caught:
        source.prepare(lab, SourceRequest())
    assert 'apt-get install' in caught.value.hint


@pytest.mark.parametrize('with_git', [False, True])
def test_kdir_is_never_written(lab: Lab, kdir: Path, with_git: bool) -> None:
    if with_git:
        git(kdir, 'init', '-q')
        git(kdir, 'add', '-A')
        git(kdir, 'commit', '-q', '-m', 'x')
        # A time stamp that differs from the index: git status would write the index anew.
        os.utime(kdir / 'fs/other.c', (1e9, 1e9))
    before = snapshot(kdir)
    source.prepare(lab, SourceRequest(kdir=kdir))
    source.prepare(lab, SourceRequest(kdir=kdir))
    assert snapshot(kdir) == before


def test_kdir_with_git_gives_modified_new_and_not_removed_or_built(lab: Lab, kdir: Path) -> None:
    git(kdir, 'init', '-q')
    git(kdir, 'add', '-A')
    git(kdir, 'commit', '-q', '-m', 'x')
    (kdir / 'fs/fuse/dev.c').write_text('int changed;\n')
    (kdir / 'fs/fuse/new.c').write_text('int new;\n')
    (kdir / 'fs/other.c').unlink()
    (kdir / 'fs/fuse/dev.o').write_text('object')
    (kdir / '.config').write_text('CONFIG_X=y\n')
    tree = source.prepare(lab, SourceRequest(kdir=kdir))
    assert files(lab, tree.base_commit) == {'Makefile', 'Kconfig', '.gitignore', 'fs/fuse/dev.c', 'fs/fuse/new.c'}
    assert git(lab.cache.store, 'show', f'{tree.base_commit}:fs/fuse/dev.c') == 'int changed;\n'


def test_kdir_without_git_leaves_out_what_was_built(lab: Lab, kdir: Path) -> None:
    (kdir / 'fs/fuse/dev.o').write_text('object')
    (kdir / '.config').write_text('CONFIG_X=y\n')
    tree = source.prepare(lab, SourceRequest(kdir=kdir))
    assert files(lab, tree.base_commit) == {'Makefile', 'Kconfig', '.gitignore', 'fs/fuse/dev.c', 'fs/other.c'}


def test_kdir_follows_edits(lab: Lab, kdir: Path) -> None:
    first = source.prepare(lab, SourceRequest(kdir=kdir))
    (kdir / 'fs/other.c').write_text('int other_2;\n')
    (kdir / 'fs/fuse/dev.c').unlink()
    second = source.prepare(lab, SourceRequest(kdir=kdir))
    assert second.source_id != first.source_id
    assert second.line == first.line, 'an edit must not start a build folder from nothing'
    assert 'fs/fuse/dev.c' not in files(lab, second.base_commit)


@pytest.mark.parametrize(
    ('request_', 'words'),
    [
        (SourceRequest(kdir=Path('/nowhere')), 'is not a kernel source tree'),
        (SourceRequest(source='/nowhere.tar'), 'no such tarball'),
        (SourceRequest(source='/tmp'), 'is a folder'),
        (SourceRequest(source='/tmp#'), 'names no git ref'),
        (SourceRequest(source='/tmp#master'), 'cannot read the git repository'),
    ],
)
def test_wrong_request_is_usage(lab: Lab, request_: SourceRequest, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        source.prepare(lab, request_)


def test_kdir_and_source_exclude_each_other() -> None:
    with pytest.raises(UsageError):
        SourceRequest(Path('/a'), '/b')


def test_unknown_ref_is_usage(lab: Lab, kdir: Path) -> None:
    git(kdir, 'init', '-q')
    git(kdir, 'add', '-A')
    git(kdir, 'commit', '-q', '-m', 'x')
    with pytest.raises(UsageError, match='has no ref v9'):
        source.prepare(lab, SourceRequest(source=f'{kdir}#v9'))


def test_a_commit_named_by_its_whole_id_is_fetched_once(lab: Lab, kdir: Path) -> None:
    git(kdir, 'init', '-q')
    git(kdir, 'add', '-A')
    git(kdir, 'commit', '-q', '-m', 'x')
    key = git(kdir, 'rev-parse', 'HEAD').strip()
    request = SourceRequest(source=f'{kdir}#{key}')
    first = source.prepare(lab, request)
    (kdir / '.git').rename(kdir / 'gone')
    assert source.prepare(lab, request) == first
    with pytest.raises(UsageError):
        source.prepare(lab, SourceRequest(source=f'{kdir}#HEAD'))


def test_no_network_is_lab_trouble(lab: Lab) -> None:
    with pytest.raises(LabError, match='cannot fetch'):
        source.prepare(lab, SourceRequest(source='https://127.0.0.1:1/linux.git#v6.12'))


def test_damaged_tarball_is_a_verdict(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / 'bad.tar').write_text('not a tarball')
    with pytest.raises(VerdictError, match='cannot unpack'):
        source.prepare(lab, SourceRequest(source=str(tmp_path / 'bad.tar')))


def test_tree_without_version_is_a_verdict(lab: Lab, kdir: Path) -> None:
    (kdir / 'Makefile').write_text('all:\n')
    with pytest.raises(VerdictError):
        source.prepare(lab, SourceRequest(kdir=kdir))


def test_dry_run_touches_nothing(lab: Lab, tarball: Path, kdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    dry = replace(lab, runner=Runner(dry_run=True))
    with caplog.at_level('INFO', 'harness.dry_run'):
        source.prepare(dry, SourceRequest(source=str(tarball)))
        source.prepare(dry, SourceRequest(kdir=kdir))
    assert not lab.cache.root.exists()
    assert any(f'tar -xf {tarball}' in message for message in caplog.messages)
