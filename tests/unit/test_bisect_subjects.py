# SPDX-License-Identifier: GPL-2.0-only
"""What bisection looks through: commits, prefixes of a series, one without a patch; and its command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bisectsim import REQUEST
from faketree import git, make_series, make_tree

from harness import cli, series
from harness.bisect import command, subjects
from harness.errors import UsageError
from harness.lab import Lab
from harness.source import SourceRequest

# --- subjects ------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """first - a - merge - last, with b beside a."""
    folder = make_tree(tmp_path / 'linux')
    git(folder, 'init', '-q', '-b', 'main')
    git(folder, 'add', '--all')
    git(folder, 'commit', '-q', '-m', 'first')
    git(folder, 'branch', 'side')
    git(folder, 'commit', '-q', '--allow-empty', '-m', 'a')
    git(folder, 'checkout', '-q', 'side')
    git(folder, 'commit', '-q', '--allow-empty', '-m', 'b')
    git(folder, 'checkout', '-q', 'main')
    git(folder, 'merge', '-q', '--no-edit', 'side')
    git(folder, 'commit', '-q', '--allow-empty', '-m', 'last')
    return folder


def test_commits_and_what_they_contain(lab: Lab, repository: Path) -> None:
    asked = replace(REQUEST, source=SourceRequest(kdir=repository))
    found = subjects.of_commits(lab, asked, 'main~2^', 'main')
    titles = [name.split(' ', 1)[1] for name in found.suspects]
    assert sorted(titles) == ["Merge branch 'side'", 'a', 'b', 'last']
    contained = {
        subject.name.split(' ', 1)[1]: {title for title, there in zip(titles, row, strict=True) if there}
        for subject, row in zip(found.subjects, found.problem.rows(slice(None))[:, :-1], strict=True)
    }
    assert contained['(GOOD)'] == set()
    assert contained['a'] == {'a'}
    assert contained['b'] == {'b'}
    assert contained['last'] == set(titles)
    assert found.subjects[-1].request.source.source == f'{repository}#{git(repository, "rev-parse", "main").strip()}'


def test_ends_that_make_no_sense_are_refused(lab: Lab, repository: Path) -> None:
    asked = replace(REQUEST, source=SourceRequest(kdir=repository))
    with pytest.raises(UsageError, match='not an ancestor') as caught:
        subjects.of_commits(lab, asked, 'main', 'main~1')
    assert 'wrong way round' in caught.value.hint
    with pytest.raises(UsageError, match='not an ancestor') as caught:
        subjects.of_commits(lab, asked, 'side', 'main~2')
    assert 'common ancestor' in caught.value.hint
    with pytest.raises(UsageError, match='no commit'):
        subjects.of_commits(lab, asked, 'nowhere', 'main')
    with pytest.raises(UsageError, match='same commit'):
        subjects.of_commits(lab, asked, 'main', 'main~0')


def test_a_series_without_one_patch(tmp_path: Path) -> None:
    chosen = series.load(make_series(tmp_path / 'patches', 'one', 'two', 'three'))
    # The bad end is a prefix; what is left of it is shorter.
    whole = subjects.of_series(REQUEST, chosen).subjects[-1].request
    found = subjects.without_each(whole, chosen, tmp_path / 'without')
    assert [len(series.load(Path(str(subject.request.series))).patches) for subject in found] == [2, 2, 2]
    assert {subject.request.prefix for subject in found} == {None}
    assert found[0].name == f'without {chosen.names[2]}'
    assert series.load(Path(str(found[0].request.series))).names == chosen.names[:2]


# --- command line --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['bisect-series'], 'what is broken?'),
        (['bisect-series', '--check', 'uring/007', '--row', 'cost/meta'], 'what is broken?'),
        (['bisect-series', '--check', 'uring/007', '--worse', '1%'], 'for a cost'),
        (['bisect-series', '--row', 'cost/meta', '--reverse'], 'for checks'),
        (['bisect-series', '--row', 'throughput/meta-4'], 'one row of cost/'),
        (['bisect-series', '--check', 'uring/999'], 'no check fits'),
        (['bisect', '--good', 'a', '--bad', 'b', '--check', 'uring/007'], 'which git tree?'),
    ],
)
def test_questions_without_sense_are_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 2
    assert said in capsys.readouterr().err


def test_percentages() -> None:
    assert command._share('1%') == command._share('1') == pytest.approx(0.01)
    assert command._share_or_percent('99%') == command._share_or_percent('0.99') == pytest.approx(0.99)
