# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from faketree import FIRST, SECOND, change, git, make_series

from harness import series, series_edit, source
from harness.errors import UsageError, VerdictError
from harness.lab import REPOSITORY, Lab
from harness.series import PatchedTree
from harness.source import KernelTree, SourceRequest


@pytest.fixture
def tree(lab: Lab, kdir: Path) -> KernelTree:
    return source.prepare(lab, SourceRequest(kdir=kdir))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_series(tmp_path / 'patches', FIRST, SECOND)


def applied(lab: Lab, tree: KernelTree, folder: Path) -> PatchedTree:
    return series.apply(lab, tree, series.load(folder))


def dev_c(lab: Lab, commit: str) -> str:
    return git(lab.cache.store, 'show', f'{commit}:fs/fuse/dev.c')


def test_one_commit_for_each_patch(lab: Lab, tree: KernelTree, folder: Path) -> None:
    patched = applied(lab, tree, folder)
    log = git(
        lab.cache.store, 'log', '--reverse', '--format=%an|%ae|%ad|%s|%b', f'{tree.base_commit}..{patched.commit}'
    )
    assert log == (
        'Jürgen|j@example.org|Tue Jun 3 10:01:00 2025 +0200|fuse: change 1|'
        'The reason.\n\nSigned-off-by: J <j@example.org>\n\n'
        'Jürgen|j@example.org|Tue Jun 3 10:02:00 2025 +0200|fuse: change 2|'
        'The reason.\n\nSigned-off-by: J <j@example.org>\n\n'
    )
    assert 'return 10;' in dev_c(lab, patched.commits[0])
    assert 'return 20;' not in dev_c(lab, patched.commits[0])
    assert 'return 20;' in dev_c(lab, patched.commit)


def test_commits_are_the_same_every_time(lab: Lab, tree: KernelTree, folder: Path, tmp_path: Path, kdir: Path) -> None:
    elsewhere = replace(lab, cache=type(lab.cache)(tmp_path / 'other-cache'))
    again = source.prepare(elsewhere, SourceRequest(kdir=kdir))
    assert applied(elsewhere, again, folder).commits == applied(lab, tree, folder).commits


def test_known_prefix_is_not_applied_again(
    lab: Lab, tree: KernelTree, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = applied(lab, tree, folder)
    seen = []
    original = series._apply_one
    monkeypatch.setattr(series, '_apply_one', lambda *args: (seen.append(args[1].name), original(*args))[1])
    assert applied(lab, tree, folder) == first
    assert seen == []
    patch = folder / '0002-change-2.patch'
    patch.write_text(patch.read_text().replace('return 20;', 'return 21;'))
    second = applied(lab, tree, folder)
    assert seen == ['0002-change-2.patch']
    assert second.commits[0] == first.commits[0]
    assert 'return 21;' in dev_c(lab, second.commit)


def test_what_a_series_promises(folder: Path) -> None:
    assert series.load(folder).provides == frozenset()
    (folder / 'provides').write_text('# why\nring  # FUSE over io_uring\nkrpc\n')
    loaded = series.load(folder)
    assert loaded.provides == {'ring', 'krpc'}
    assert [loaded.prefix(count).provides for count in (1, 2)] == [frozenset(), loaded.provides]
    (folder / 'provides').write_text('rings\n')
    with pytest.raises(UsageError, match='no such feature: rings') as caught:
        series.load(folder)
    assert caught.value.hint == 'there are ring, series, krpc'


def test_ours_promises_all_and_run_check_says_it_so(lab: Lab) -> None:
    assert series.load(REPOSITORY / 'kernel-patches' / '6.12').provides == set(series.FEATURES)
    run_check = (REPOSITORY / 'vm' / 'guest' / 'run-check').read_text()
    assert all(f'notrun "{series.FEATURES[name]}"' in run_check for name in ('ring', 'series'))
    assert 'notrun "no ${need#*:}"' in run_check
    assert series.FEATURES['krpc'] == 'no /dev/fuse-krpc'


def test_prefix(lab: Lab, tree: KernelTree, folder: Path) -> None:
    whole = series.load(folder)
    one = whole.prefix(1)
    assert one.names == ('0001-change-1.patch',)
    assert one.digest != whole.digest
    assert series.apply(lab, tree, one).commits == series.apply(lab, tree, whole).commits[:1]
    assert whole.prefix(0).digest == 'stock'
    assert series.apply(lab, tree, whole.prefix(0)).commit == tree.base_commit
    with pytest.raises(UsageError):
        whole.prefix(3)


def test_digest_is_of_content_and_order(folder: Path, tmp_path: Path) -> None:
    digest = series.load(folder).digest
    renamed = make_series(tmp_path / 'renamed', FIRST, SECOND)
    (renamed / '0001-change-1.patch').rename(renamed / 'a.patch')
    (renamed / 'series').write_text('a.patch\n0002-change-2.patch\n')
    assert series.load(renamed).digest == digest
    (renamed / 'series').write_text('0002-change-2.patch\na.patch\n')
    assert series.load(renamed).digest != digest


def test_bare_diff_is_taken(lab: Lab, tree: KernelTree, tmp_path: Path) -> None:
    folder = tmp_path / 'quilt'
    folder.mkdir()
    (folder / 'fix.diff').write_text('Makes first return ten.\n\n' + FIRST)
    (folder / 'series').write_text('fix.diff -p1 # a comment\n\n')
    patched = applied(lab, tree, folder)
    assert git(lab.cache.store, 'log', '-1', '--format=%s', patched.commit) == 'Makes first return ten.\n'


def test_default_series_is_that_of_the_version(lab: Lab, tree: KernelTree) -> None:
    assert series.choose(lab, tree, None).digest == 'stock'
    make_series(lab.patches / '6.12', FIRST)
    assert series.choose(lab, tree, None).names == ('0001-change-1.patch',)
    assert series.choose(lab, tree, 'none').digest == 'stock'


@pytest.mark.parametrize(
    ('listing', 'words'),
    [
        ('missing.patch\n', 'series:1: no such patch: missing.patch'),
        ('0001-change-1.patch\n0001-change-1.patch\n', 'series:2: .* named twice'),
        ('0001-change-1.patch -p0\n', 'series:1: only patches with -p1'),
    ],
)
def test_bad_listing(folder: Path, listing: str, words: str) -> None:
    (folder / 'series').write_text(listing)
    with pytest.raises(VerdictError, match=words):
        series.load(folder)


def test_folder_without_series_is_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='no series file'):
        series.load(tmp_path)


# --- rejects -------------------------------------------------------------------------------------


@pytest.fixture
def conflicting(tmp_path: Path) -> Path:
    """Patch 2's first hunk fits, its second one does not; patch 3 would fit."""
    first = change('int gap_g;', 'int gap_gg;', 7)
    misfit = ''.join(SECOND.splitlines(keepends=True)[3:]).replace('return 2;', 'return 99;')
    third = (
        'diff --git a/fs/other.c b/fs/other.c\n--- a/fs/other.c\n+++ b/fs/other.c\n'
        '@@ -1 +1 @@\n-int other;\n+int other_2;\n'
    )
    return make_series(tmp_path / 'conflict', first, FIRST + misfit, third)


def test_reject_names_patch_and_hunk_and_leaves_a_tree(lab: Lab, tree: KernelTree, conflicting: Path) -> None:
    with pytest.raises(VerdictError) as caught:
        applied(lab, tree, conflicting)
    error = caught.value
    assert error.what == 'patch 2 of 3, 0002-change-2.patch, does not apply to 6.12.7'
    assert 'fs/fuse/dev.c: hunk 2 does not fit: @@ -11,4 +11,4 @@' in error.detail
    left = lab.build / 'reject'
    assert str(left) in error.hint
    assert (left / 'fs/fuse/dev.c.rej').is_file()
    text = (left / 'fs/fuse/dev.c').read_text()
    assert 'gap_gg' in text, 'the patch before must be there'
    assert 'return 10;' in text, 'the hunk that fits must be there'
    assert 'return 2;' in text


def test_going_on_after_a_reject_as_told(lab: Lab, tree: KernelTree, conflicting: Path) -> None:
    with pytest.raises(VerdictError):
        applied(lab, tree, conflicting)
    left = lab.build / 'reject'
    path = left / 'fs/fuse/dev.c'
    path.write_text(path.read_text().replace('return 2;', 'return 20;'))
    (left / 'fs/fuse/dev.c.rej').unlink()
    git(left, 'add', '-u')
    git(left, 'am', '--continue')
    series_edit.export(lab, left, conflicting)
    patched = applied(lab, tree, conflicting)
    assert len(patched.commits) == 3
    for text in ('gap_gg', 'return 10;', 'return 20;'):
        assert text in dev_c(lab, patched.commit)
    assert git(lab.cache.store, 'show', f'{patched.commit}:fs/other.c') == 'int other_2;\n'
    assert 'Jürgen' in git(lab.cache.store, 'log', '-1', '--format=%an', patched.commits[1])


def test_work_in_a_left_tree_is_never_lost(lab: Lab, tree: KernelTree, conflicting: Path) -> None:
    with pytest.raises(VerdictError):
        applied(lab, tree, conflicting)
    left = lab.build / 'reject'
    with pytest.raises(VerdictError) as untouched:
        applied(lab, tree, conflicting)
    assert f'{left}\n' in untouched.value.hint, 'an untouched tree is used again'
    (left / 'fs/fuse/dev.c').write_text('my work\n')
    with pytest.raises(VerdictError) as caught:
        applied(lab, tree, conflicting)
    assert (left / 'fs/fuse/dev.c').read_text() == 'my work\n'
    assert f'{left}-2\n' in caught.value.hint


def test_patch_for_a_file_that_is_not_there(lab: Lab, tree: KernelTree, tmp_path: Path) -> None:
    folder = make_series(tmp_path / 'p', FIRST.replace('fs/fuse/dev.c', 'fs/fuse/gone.c'))
    with pytest.raises(VerdictError) as caught:
        applied(lab, tree, folder)
    assert 'fs/fuse/gone.c' in caught.value.detail


def test_patch_without_a_diff(lab: Lab, tree: KernelTree, tmp_path: Path) -> None:
    folder = make_series(tmp_path / 'p', '')
    with pytest.raises(VerdictError, match='holds no diff'):
        applied(lab, tree, folder)


def test_patch_that_the_tree_has_already(lab: Lab, kdir: Path, folder: Path) -> None:
    path = kdir / 'fs/fuse/dev.c'
    path.write_text(path.read_text().replace('return 1;', 'return 10;'))
    tree = source.prepare(lab, SourceRequest(kdir=kdir))
    with pytest.raises(VerdictError) as caught:
        applied(lab, tree, folder)
    assert 'has this change already' in caught.value.detail
    assert 'SERIES=none' in caught.value.hint


# --- editing -------------------------------------------------------------------------------------


def test_export_gives_back_what_was_checked_out(lab: Lab, tree: KernelTree, folder: Path, tmp_path: Path) -> None:
    patched = applied(lab, tree, folder)
    work = tmp_path / 'work'
    series_edit.checkout(lab, patched, work)
    series_edit.export(lab, work, folder)
    once = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = applied(lab, tree, folder)
    assert again.commits == patched.commits
    assert (folder / 'series').read_text() == '# what is carried\n0001-fuse-change-1.patch\n0002-fuse-change-2.patch\n'
    series_edit.checkout(lab, again, work)
    assert series_edit.export(lab, work, folder).splitlines() == [f'2 patches in {folder}']
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == once


def test_export_after_an_edit(lab: Lab, tree: KernelTree, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    series_edit.checkout(lab, applied(lab, tree, folder), work)
    series_edit.export(lab, work, folder)
    series_edit.checkout(lab, applied(lab, tree, folder), work)
    git(work, 'reset', '-q', '--hard', 'HEAD~1')
    (work / 'fs/other.c').write_text('int other_3;\n')
    git(work, 'commit', '-q', '-a', '-m', 'fs: rename other\n\nA reason.')
    said = series_edit.export(lab, work, folder).splitlines()
    assert said[:-1] == ['new      0002-fs-rename-other.patch', 'removed  0002-fuse-change-2.patch']
    assert sorted(path.name for path in folder.glob('*.patch')) == [
        '0001-fuse-change-1.patch',
        '0002-fs-rename-other.patch',
    ]
    text = (folder / '0002-fs-rename-other.patch').read_text()
    assert text.startswith('From ' + '0' * 40)
    assert not text.rstrip().splitlines()[-1].startswith('2.'), 'no git version at the end'
    assert series.apply(lab, tree, series.load(folder)).commits


def test_export_refuses_what_would_be_lost(lab: Lab, tree: KernelTree, folder: Path, tmp_path: Path) -> None:
    work = tmp_path / 'work'
    series_edit.checkout(lab, applied(lab, tree, folder), work)
    (work / 'fs/other.c').write_text('int edited;\n')
    with pytest.raises(UsageError, match='not committed'):
        series_edit.export(lab, work, folder)
    with pytest.raises(UsageError, match='holds work'):
        series_edit.checkout(lab, applied(lab, tree, folder), work)
    assert (work / 'fs/other.c').read_text() == 'int edited;\n'


def test_new_files_are_seen_though_debian_has_git_ignore_them(
    lab: Lab, kdir: Path, folder: Path, tmp_path: Path
) -> None:
    (kdir / '.gitignore').write_text('*.o\n/*\n!/debian/\n')
    tarball = tmp_path / 'linux.tar.xz'
    subprocess.run(['tar', '-cJf', tarball, '-C', kdir.parent, kdir.name], check=True)
    tree = source.prepare(lab, SourceRequest(source=str(tarball)))
    work = tmp_path / 'work'
    series_edit.checkout(lab, applied(lab, tree, folder), work)
    (work / 'fs/fuse/built.o').write_text('')
    series_edit.export(lab, work, folder)
    (work / 'fs/fuse/new.c').write_text('int new;\n')
    with pytest.raises(UsageError, match='not committed'):
        series_edit.export(lab, work, folder)
    with pytest.raises(UsageError, match='holds work'):
        series_edit.checkout(lab, applied(lab, tree, folder), work)
    git(work, 'add', '-A')
    git(work, 'commit', '-q', '-m', 'fuse: something new\n\nA reason.')
    series_edit.export(lab, work, folder)
    text = (folder / '0003-fuse-something-new.patch').read_text()
    assert 'b/fs/fuse/new.c' in text
    assert '.gitignore' not in text
    assert 'built.o' not in text


def test_export_of_something_else_is_usage(lab: Lab, kdir: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match='no tree of the harness'):
        series_edit.export(lab, kdir, folder)


def test_which_patches_touch_a_file(lab: Lab, tree: KernelTree, folder: Path) -> None:
    patched = applied(lab, tree, folder)
    assert series.touching(lab, patched, 'fs/fuse/dev.c') == ['0001-change-1.patch', '0002-change-2.patch']
    assert series.touching(lab, patched, 'fs/other.c') == []
