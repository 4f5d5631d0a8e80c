# SPDX-License-Identifier: GPL-2.0-only
"""Known failures: what they excuse, when they stop doing so, and how a run tells."""

from __future__ import annotations

import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakeguest import FakeKeeper, Script, report
from makeresults import run_of
from test_check import make

from harness import formats, known
from harness.campaign import Campaign, CampaignOptions
from harness.check import parse
from harness.command import Runner
from harness.errors import UsageError
from harness.formats.compare import compare
from harness.image import KernelImage
from harness.known import Known
from harness.lab import Lab
from harness.plugin import BROKEN, may_be_notrun, outcome
from harness.report import closing, render_plain
from harness.runfolder import RunFolder
from harness.verdict import State, Verdict

TODAY = datetime.date(2026, 11, 21)
ENTRY = """
[[fails]]
test = 'data/001'
reason = 'tmpfs has no such thing'
evidence = 'the same without the series'
expires = 2026-12-31
"""
EXCLUDE = ENTRY.replace('fails', 'exclude').replace('tmpfs has no such thing', 'takes an hour')


def read(tmp_path: Path, text: str, today: datetime.date = TODAY) -> Known:
    path = tmp_path / 'dev.toml'
    path.write_text(text, encoding='utf-8')
    return known.load(path, today)


def test_no_file_no_excuse(tmp_path: Path) -> None:
    assert known.load(tmp_path / 'none.toml').excuse('data/001', 'fail') is None


def test_only_failures_are_excused(tmp_path: Path) -> None:
    entries = read(tmp_path, ENTRY)
    excuse = entries.excuse('data/001', 'fail')
    assert excuse is not None
    assert excuse.reason == 'tmpfs has no such thing'
    for name, verdict in (('data/001', 'crash'), ('data/001', 'hang'), ('data/002', 'fail')):
        assert entries.excuse(name, verdict) is None


def test_the_last_day_counts(tmp_path: Path) -> None:
    for text, find in ((ENTRY, lambda k: k.excuse('data/001', 'fail')), (EXCLUDE, lambda k: k.exclusion('data/001'))):
        assert find(read(tmp_path, text, datetime.date(2026, 12, 31))) is not None
        assert find(read(tmp_path, text, datetime.date(2027, 1, 1))) is None


def test_what_is_out_of_date_is_told(tmp_path: Path) -> None:
    entries = read(tmp_path, ENTRY)
    assert entries.stale({'data/001': 'fail'}) == []
    assert entries.stale({'data/001': 'notrun'}) == []
    assert entries.stale({'data/002': 'pass'}) == []
    assert entries.stale({'data/001': 'pass'}) == ['data/001: fails no longer (tmpfs has no such thing)']
    assert read(tmp_path, ENTRY + 'flaky = true\n').stale({'data/001': 'pass'}) == []
    late = read(tmp_path, ENTRY, datetime.date(2027, 1, 1))
    assert late.stale({'data/001': 'fail'}) == ['data/001: expired on 2026-12-31 (tmpfs has no such thing)']
    assert late.stale({'data/002': 'fail'}) == []
    many = read(tmp_path, ENTRY.replace('data/001', 'data/*'))
    assert many.stale({'data/001': 'pass', 'data/002': 'fail'}) == []


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('[[fails', 'cannot be read'),
        ('[[fail]]\n', 'only [[fails]] and [[exclude]]'),
        ("fails = 'data/001'", 'entries begin with [[fails]]'),
        (ENTRY.replace('reason', 'why'), '[[fails]] 1: reason is missing, unknown key why'),
        (ENTRY.replace('2026-12-31', "'soon'"), 'needs a date'),
        (ENTRY.replace("'tmpfs has no such thing'", "' '"), 'reason is empty'),
        (ENTRY.replace('data/001', 'the lot'), "'the lot' names no tests"),
        (EXCLUDE + 'flaky = true\n', 'unknown key flaky'),
        (ENTRY + 'flaky = 1\n', 'flaky is true or false'),
    ],
)
def test_errors_name_file_and_entry(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.what.startswith(f'{tmp_path / "dev.toml"}: ')
    assert message in caught.value.what


def test_base() -> None:
    image = KernelImage(image=Path('x'), directory=Path(), release='6.12.117-fl-34b4fcd2c4c4')
    assert known.base_of(image) == '6.12'
    assert known.base_of(KernelImage(image=Path('x'), directory=Path())) == ''


def test_the_files_of_this_repository_are_sound() -> None:
    root = Path(__file__).parents[2]
    files = list((root / known.FOLDER).glob('*/*.toml'))
    assert {path.name for path in files} <= {'dev.toml', 'uring.toml'}
    for path in files:
        known.load(path)


def campaign_with(tmp_path: Path, text: str, script: Script) -> Campaign:
    options: Any = SimpleNamespace(kernel=None)
    campaign = Campaign(
        Lab(Runner()), CampaignOptions(options, canaries=False), RunFolder(tmp_path / 'run')
    )  # fmt: skip
    campaign.options.request.__dict__.update(
        config=SimpleNamespace(variant='', fragment=None),
        source=SimpleNamespace(kdir=None, source=None),
        series=None,
        prefix=None,
    )
    campaign.run.path.mkdir()
    campaign.keeper = FakeKeeper(tmp_path / 'guests', {'data/001[dev]': script})  # type: ignore[assignment]
    campaign.known = {'dev': read(tmp_path, text)}
    return campaign


def test_campaign_excuses_and_leaves_out(tmp_path: Path) -> None:
    check = parse(make(tmp_path))
    campaign = campaign_with(tmp_path, ENTRY, Script(stdout=b'ko\n'))
    result, entry = campaign.run_check(check, 'dev')
    assert (result.verdict, result.state, entry['known']) == (Verdict.FAIL, State.KNOWN, 'tmpfs has no such thing')
    assert entry['files']['diff']  # for those who look into it
    assert not campaign.failed
    campaign.known = {'dev': read(tmp_path, EXCLUDE)}
    result, entry = campaign.run_check(check, 'dev')
    assert (entry['verdict'], entry['reason'], entry['seconds']) == ('notrun', 'excluded: takes an hour', 0.0)
    assert may_be_notrun(entry['name'], entry['reason'], None)
    campaign.known = {'dev': read(tmp_path, '')}
    result, entry = campaign.run_check(check, 'dev')
    assert result.state is State.BAD
    assert 'known' not in entry


def test_a_users_own_come_first_and_are_his_to_mend(tmp_path: Path) -> None:
    for root, text in (
        ('lab/tests/known-failures', ENTRY + EXCLUDE.replace('001', '003')),
        ('own', ENTRY.replace('tmpfs', 'my disk') + ENTRY.replace('001', '002')),
    ):
        (tmp_path / root / '6.12').mkdir(parents=True)
        (tmp_path / root / '6.12' / 'dev.toml').write_text(text)
    both = known.of(tmp_path / 'lab', tmp_path / 'own', '6.12', 'dev')
    reasons = [entry.reason if (entry := both.excuse(f'data/{n}', 'fail')) else '' for n in ('001', '002', '003')]
    assert reasons == ['my disk has no such thing', 'tmpfs has no such thing', '']
    assert both.exclusion('data/003') is not None
    # Both are out of date, but only one of the files is the user's.
    assert both.stale({'data/001': 'pass'}) == ['data/001: fails no longer (my disk has no such thing)']
    ours = known.of(tmp_path / 'lab', None, '6.12', 'dev')
    assert ours.stale({'data/001': 'pass'}) == ['data/001: fails no longer (tmpfs has no such thing)']
    assert known.of(tmp_path / 'lab', tmp_path / 'own', '7.0', 'uring').excuse('data/001', 'fail') is None
    with pytest.raises(UsageError, match='no such folder'):
        known.of(tmp_path / 'lab', tmp_path / 'none', '6.12', 'dev')


def test_all_that_is_out_of_date_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('CI', 'true')
    campaign = campaign_with(tmp_path, ENTRY + ENTRY.replace('001', '002'), Script())
    campaign.checks[:] = run_of(tmp_path, 'A', ('data/001', 'dev', 'pass'), ('data/002', 'dev', 'pass'))['checks']
    config: Any = SimpleNamespace(stash={BROKEN: []})
    _, problem = outcome(config, campaign, 0)
    assert 'dev: data/001: fails no longer' in problem
    assert 'dev: data/002: fails no longer' in problem
    table = run_of(tmp_path, 'B', ('data/001', 'dev', 'pass'), stale=campaign.stale_known())
    assert 'dev: data/002: fails no longer' in formats.render('html', table, tmp_path / 'B')


@pytest.mark.parametrize(('ci', 'status'), [('', 0), ('true', 1)])
def test_ci_fails_for_what_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, status: int
) -> None:
    monkeypatch.setenv('CI', ci)
    campaign = campaign_with(tmp_path, ENTRY, Script(stderr=report()))
    _, entry = campaign.run_check(parse(make(tmp_path)), 'dev')
    campaign.checks.append(entry)
    campaign.keeper.strays = []  # type: ignore[union-attr]
    config: Any = SimpleNamespace(stash={BROKEN: []})
    got, problem = outcome(config, campaign, 0)
    assert got == status
    assert campaign.stale_known() == ['dev: data/001: fails no longer (tmpfs has no such thing)']
    assert ('out of date' in problem) is bool(ci)


def test_formats_say_that_it_is_known(tmp_path: Path) -> None:
    table = run_of(tmp_path, 'A', ('data/001', 'dev', 'fail'), ('data/002', 'dev', 'pass'), status=0)
    table['checks'][0]['known'] = 'tmpfs has no such thing'
    folder = tmp_path / 'A'
    assert closing(table) == '1 pass, 1 fail, 1 of these known to fail'
    text = render_plain(table, folder)
    assert 'known to fail, tmpfs has no such thing: data/001[dev]' in text
    assert 'FAIL data/001' not in text
    junit = formats.render('junit', table, folder)
    assert 'type="known"' in junit
    assert '<failure' not in junit
    ktap = formats.render('ktap', table, folder)
    assert 'not ok 1 data/001 # TODO tmpfs has no such thing' in ktap
    assert '\nok 1 dev' in ktap
    assert '"known": "tmpfs has no such thing"' in formats.render('kcidb', table, folder)
    assert 'known failure: tmpfs has no such thing' in formats.render('html', table, folder)
    before = run_of(tmp_path, 'B', ('data/001', 'dev', 'pass'), ('data/002', 'dev', 'pass'))
    assert not compare(before, table).bad
