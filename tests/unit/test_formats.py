# SPDX-License-Identifier: GPL-2.0-only
"""What is made of results.json: the schema, JUnit, KTAP, KCIDB, the page; and files that are no results."""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import kcidb_io
import pytest
from makeresults import event, run_of

from harness import cli, formats, report, results
from harness.errors import LabError, UsageError
from harness.formats import evidence, kcidb, schema
from harness.lab import REPOSITORY

JUNK = bytes(range(256)) * 40


def mixed(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """A run with one of each verdict, and a hostile name of a file."""
    splat = event('KASAN', 'BUG: KASAN: slab-use-after-free in fuse_uring_x+0x1/0x2')
    table = run_of(
        tmp_path / 'results', 'run-1',
        ('data/001', 'dev', 'pass'), ('data/001', 'uring', 'fail'), ('uring/002', 'uring', 'notrun'),
        ('uring/003', 'uring', 'crash'), ('uring/004', 'uring', 'hang'), status=1, **changes,
    )  # fmt: skip
    folder = tmp_path / 'results' / 'run-1'
    checks = {(check['name'], check['section']): check for check in table['checks']}
    (folder / 'x.diff').write_bytes(b'--- a\n+++ b\n-wanted\n+<script>alert("x")</script>]]>\x00\x1b[31m&\xff\n')
    (folder / 'x.console').write_text(
        f'{splat["line"]}\nCall Trace:\n kasan_report+0x5d/0x80\n fuse_uring_x+0x1/0x2 (fs/fuse/dev_uring.c:1)\n'
    )
    checks['data/001', 'uring']['files'] = {'diff': 'x.diff'}
    checks['uring/003', 'uring'] |= {'files': {'console': 'x.console'}, 'events': [splat]}
    checks['uring/004', 'uring']['files'] = {'hang': '../../secret'}
    checks['uring/004', 'uring']['reason'] = '<b>"\'&\x01 # SKIP'
    (tmp_path / 'secret').write_text('password')
    results.write(results.RunFolder(folder), table)
    return results.read(folder)


def test_what_the_harness_writes_is_the_schema(tmp_path: Path) -> None:
    """And nothing besides: a key that is added has to be described."""
    table = mixed(tmp_path)
    assert schema.problems(table) == []
    strict = schema.json_schema()
    for part in (strict, *strict['$defs'].values()):
        part['additionalProperties'] = False
    jsonschema.Draft202012Validator.check_schema(strict)
    jsonschema.validate(table, strict)


@pytest.mark.parametrize(
    ('place', 'value', 'words'),
    [
        (('status',), '0', "status: '0' where a whole number or null is expected"),
        (('checks',), {}, 'checks: {} where a list is expected'),
        (('checks', 0, 'verdict'), 'good', "checks[0].verdict: 'good' where one of pass, fail"),
        (('checks', 1, 'seconds'), True, 'checks[1].seconds: True where a number is expected'),
        (('checks', 0, 'files'), {'diff': 1}, 'checks[0].files.diff: 1 where text is expected'),
        (('kernel', 'series'), [None], 'kernel.series[0]: None where text'),
        (('guest_speed',), {'factor': 1}, 'guest_speed.measured: missing'),
        (('cpus',), True, 'cpus: True where a whole number'),
    ],
)
def test_the_schema_is_demanded(tmp_path: Path, place: tuple[Any, ...], value: Any, words: str) -> None:
    table = mixed(tmp_path)
    at = table
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    assert words in '\n'.join(schema.problems(table))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(table, schema.json_schema())
    (tmp_path / 'results.json').write_text(json.dumps(table))
    with pytest.raises(UsageError) as caught:
        results.read(tmp_path)
    assert words in caught.value.detail


def test_a_check_twice_is_no_result(tmp_path: Path) -> None:
    table = mixed(tmp_path)
    table['checks'].append(table['checks'][0])
    assert schema.problems(table) == ['checks[5]: data/001[dev] a second time']


def test_keys_of_later_harnesses_are_ignored(tmp_path: Path) -> None:
    table = mixed(tmp_path)
    table['later'] = table['checks'][0]['later'] = 1
    assert schema.problems(table) == []


@pytest.mark.parametrize(
    ('data', 'words'),
    [
        (b'', 'is empty'),
        (b'\0' * 4096, 'is empty'),
        (b'{"format": 1, "checks": [{"name": "uring/0', 'ends in the middle'),
        (b'{"format": 1,', 'ends in the middle'),
        (b'{"format": 1, "cpus": NaN}', 'damaged: NaN'),
        (b'{"format": 1]', 'damaged'),
        (JUNK, 'damaged'),
        (b'[' * 200000, 'results.json'),
        (b'{"format": 1}', 'not as results of this harness are'),
        (b'7', 'not results of this harness'),
    ],
)
def test_damaged_results_are_told_apart(
    tmp_path: Path, data: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'results.json').write_bytes(data)
    with pytest.raises(UsageError, match=re.escape(words)):
        results.read(tmp_path)
    for command in (['report', '--format', 'html'], ['compare', str(tmp_path)]):
        assert cli.main([*command, str(tmp_path)]) == 2
        assert words in capsys.readouterr().err


def test_every_truncation_is_a_message(tmp_path: Path) -> None:
    """Cut anywhere, it is a message; never a traceback, never half a run taken for a whole one."""
    mixed(tmp_path)
    data = (tmp_path / 'results' / 'run-1' / 'results.json').read_bytes()
    file = tmp_path / 'results.json'
    for end in range(0, len(data.rstrip()), 7):
        file.write_bytes(data[:end])
        with pytest.raises(UsageError, match=r'is empty|ends in the middle'):
            results.read(file)


def test_pipes_folders_and_giants_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / 'results.json')
    with pytest.raises(UsageError, match='not a regular file'):
        results.read(tmp_path)
    with (tmp_path / 'big').open('wb') as file:
        file.truncate(1 << 30)
    with pytest.raises(UsageError, match='1024 MiB are no results'):
        results.read(tmp_path / 'big')


def test_halves_of_surrogates_can_be_printed(tmp_path: Path) -> None:
    table = mixed(tmp_path)
    table['checks'][1]['reason'] = '\ud800 x'
    (tmp_path / 'results.json').write_text(json.dumps(table))
    assert results.read(tmp_path)['checks'][1]['reason'] == '\\ud800 x'


def test_junit(tmp_path: Path) -> None:
    table = mixed(tmp_path)
    root = ElementTree.fromstring(formats.render('junit', table, tmp_path / 'results' / 'run-1'))
    assert {name: root.get(name) for name in ('tests', 'failures', 'errors', 'skipped')} == {
        'tests': '5', 'failures': '3', 'errors': '0', 'skipped': '1',
    }  # fmt: skip
    cases = {case.get('name'): case for case in root.iter('testcase')}
    failure = cases['data/001[uring]'].find('failure')
    assert failure is not None
    assert '<script>alert("x")</script>]]>\\x00&' in (failure.text or '')
    assert {p.get('name'): p.get('value') for p in cases['data/001[dev]'].iter('property')}['verdict'] == 'pass'
    assert cases['data/001[dev]'].get('classname') == 'tests.checks.data'
    crash = cases['uring/003[uring]'].find('failure')
    assert crash is not None
    assert crash.get('type') == 'crash'


@pytest.mark.parametrize('status', [2, 3, 130])
def test_a_run_without_checks_is_not_good(tmp_path: Path, status: int) -> None:
    table = run_of(tmp_path / 'results', 'run-1', status=status, problem='lab trouble: disk full')
    folder = tmp_path / 'results' / 'run-1'
    (error,) = ElementTree.fromstring(formats.render('junit', table, folder)).iter('error')
    assert error.get('message') == 'lab trouble: disk full'
    text = formats.render('ktap', table, folder)
    assert text.endswith('1..1\n# kernel 6.12.0-x series d1\n# lab trouble: disk full\nnot ok 1 run\n')
    (test,) = kcidb.convert(table, folder)['tests']
    assert test['status'] == 'MISS'
    assert 'No check was run.' in formats.render('html', table, folder)


def test_ktap(tmp_path: Path) -> None:
    table = mixed(tmp_path)
    text = formats.render('ktap', table, tmp_path / 'results' / 'run-1')
    lines = text.splitlines()
    assert lines[:2] == ['KTAP version 1', '1..2']
    assert [line for line in lines if re.match(r'\s*(?:ok|not ok|\d+\.\.|KTAP)', line)][2:] == [
        '  KTAP version 1',
        '  1..1',
        '  ok 1 data/001',
        'ok 1 dev',
        '  KTAP version 1',
        '  1..4',
        '  not ok 1 data/001',
        '  ok 2 uring/002 # SKIP why',
        '  not ok 3 uring/003',
        '  not ok 4 uring/004 # TIMEOUT',
        'not ok 2 uring',
    ]
    # What a guest printed cannot pass for a result.
    assert all(line.lstrip().startswith(('#', 'ok', 'not ok', '1..', 'KTAP')) for line in lines)
    assert '  # +<script>alert("x")</script>]]>\\x00&\ufffd' in lines


def test_kcidb_takes_it(tmp_path: Path) -> None:
    document = json.loads(formats.render('kcidb', mixed(tmp_path), tmp_path / 'results' / 'run-1', origin='me'))
    kcidb_io.schema.V5_3.validate(document)
    assert (kcidb_io.schema.V5_3.major, kcidb_io.schema.V5_3.minor) == kcidb.VERSION
    (checkout,), (build,) = document['checkouts'], document['builds']
    assert build['checkout_id'] == checkout['id']
    assert build['status'] == 'PASS'
    tests = {test['path']: test for test in document['tests']}
    assert {path: test['status'] for path, test in tests.items()} == {
        'fuse': 'FAIL', 'fuse.data.001.dev': 'PASS', 'fuse.data.001.uring': 'FAIL', 'fuse.uring.002.uring': 'SKIP',
        'fuse.uring.003.uring': 'FAIL', 'fuse.uring.004.uring': 'FAIL',
    }  # fmt: skip
    assert len({test['id'] for test in tests.values()}) == 6
    assert all(test['build_id'] == build['id'] and test['id'].startswith('me:') for test in tests.values())
    assert 'Call Trace' in tests['fuse.uring.003.uring']['log_excerpt']


def test_the_labs_trouble_is_no_failure(tmp_path: Path) -> None:
    checks = ('data/001', 'dev', 'pass'), ('data/002', 'dev', 'lab'), ('data/003', 'uring', 'fail')
    table = run_of(tmp_path, 'A', *checks, status=1)
    folder = tmp_path / 'A'
    root = ElementTree.fromstring(formats.render('junit', table, folder))
    assert [(root.get(name)) for name in ('failures', 'errors')] == ['1', '1']
    assert root.find('.//testcase[@name="data/002[dev]"]/error') is not None
    ktap = formats.render('ktap', table, folder).splitlines()
    assert '  not ok 2 data/002 # ERROR lab trouble' in ktap
    assert 'not ok 1 dev # ERROR lab trouble' in ktap
    assert 'not ok 2 uring' in ktap
    tests = {test['path']: test['status'] for test in kcidb.convert(table, folder)['tests']}
    assert [tests[f'fuse.data.{name}'] for name in ('002.dev', '003.uring')] == ['MISS', 'FAIL']
    errors = [line for line in formats.render('github', table, folder).splitlines() if line.startswith('::error')]
    assert len(errors) == 1
    assert 'data/003' in errors[0]
    page = formats.render('html', table, folder)
    assert '<td class="notrun">crash</td>' in page
    assert '<td class="fail">fail</td>' in page
    text = report.render_plain(table, folder)
    assert 'CRASH data/002 section dev: lab trouble: its guest was killed 3 times' in text
    assert text.rstrip().endswith('1 pass, 1 fail, 1 crash, 1 of these lab trouble')


def test_what_was_adjudged_and_what_is_known_goes_along(tmp_path: Path) -> None:
    table = run_of(
        tmp_path, 'A', ('data/001', 'dev', 'fail'), ('data/002', 'dev', 'known'), ('data/003', 'dev', 'known')
    )
    said = 'regression: fails 3 of 3 with the patches, baseline 0 of 3, probability of a regression 0.991'
    table['checks'][0]['adjudication'] = {
        'judgement': 'regression', 'probability': 0.991, 'patched': {'fails': 3, 'runs': 3},
        'baseline': {'fails': 0, 'runs': 3}, 'text': said,
    }  # fmt: skip
    folder = tmp_path / 'A'
    junit = ElementTree.fromstring(formats.render('junit', table, folder))
    assert [p.get('value') for p in junit.iter('property') if p.get('name') == 'adjudication'] == [said]
    assert said in (junit.findtext('.//failure') or '')
    assert f'  # {said}' in formats.render('ktap', table, folder).splitlines()
    error, *others = formats.render('github', table, folder).splitlines()
    assert said in error
    notice = '::notice title=known to fail::tmpfs has no such thing: data/002[dev] data/003[dev]'
    assert notice in others
    document = json.loads(formats.render('kcidb', table, folder))  # validates
    assert document['tests'][1]['misc']['adjudication']['probability'] == 0.991
    (issue,) = document['issues']
    assert issue['comment'] == 'tmpfs has no such thing'
    assert {(i['issue_id'], i['test_id']) for i in document['incidents']} == {
        (issue['id'], test['id']) for test in document['tests'][2:]
    }


def test_kcidb_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    table = mixed(tmp_path)
    with pytest.raises(LabError, match='KCIDB does not take these results'):
        formats.render('kcidb', table, tmp_path, origin='No Good')
    monkeypatch.setitem(sys.modules, 'kcidb_io', None)
    monkeypatch.setattr(logging.getLogger('harness'), 'propagate', True)
    with caplog.at_level('WARNING', 'harness.formats.kcidb'):
        assert json.loads(formats.render('kcidb', table, tmp_path))
    assert 'not validated: kcidb-io is not installed' in caplog.text


def test_kernels_of_equal_build_are_one_build(tmp_path: Path) -> None:
    first, second = (run_of(tmp_path / 'results', name, ('data/001', 'dev', 'pass')) for name in ('a', 'b'))
    other = run_of(tmp_path / 'results', 'c', build_id='another')
    ids = [kcidb.convert(table, tmp_path)['builds'][0]['id'] for table in (first, second, other)]
    assert ids[0] == ids[1] != ids[2]


class Page(HTMLParser):
    """Tags of the page, its text by class, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.marked: dict[str, list[str]] = {}
        self._class = ''
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._class = dict(attrs).get('class') or ''
        self.loads += [f'{tag} {name}={value}' for name, value in attrs if name in ('src', 'href', 'onclick', 'onload')]

    def handle_endtag(self, tag: str) -> None:
        self._class = ''

    def handle_data(self, data: str) -> None:
        self.marked.setdefault(self._class, []).append(data)


def test_page(tmp_path: Path) -> None:
    text = formats.render('html', mixed(tmp_path), tmp_path / 'results' / 'run-1')
    page = Page(text)
    assert page.loads == []
    assert page.tags.count('script') == 1, 'what a guest printed has become a script'
    assert '&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;' in text
    assert 'password' not in text
    assert 'lies outside of the run' in text
    assert page.marked['head'] == ['BUG: KASAN: slab-use-after-free in fuse_uring_x+0x1/0x2']
    assert page.marked['frame'] == [' kasan_report+0x5d/0x80']
    assert page.marked['ours'] == [' fuse_uring_x+0x1/0x2 (fs/fuse/dev_uring.c:1)']
    assert page.marked['removed'] == ['-wanted']
    assert re.search(r"script-src 'sha256-[\w+/]+=*'", text)
    # Bad ones first.
    assert re.findall(r'tbody data-verdict="(\w+)"', text) == ['crash', 'hang', 'fail', 'notrun', 'pass']


def test_page_of_thousands_of_checks(tmp_path: Path) -> None:
    checks = [(f'data/{number:05}', 'dev', 'fail' if number % 2 else 'pass') for number in range(4000)]
    table = run_of(tmp_path / 'results', 'run-1', *checks, status=1)
    folder = tmp_path / 'results' / 'run-1'
    (folder / 'x').write_text('+' + 'x' * 500 + '\n' + '+y\n' * 100)
    for check in table['checks']:
        if check['verdict'] == 'fail':
            check['files'] = {'diff': 'x'}
    text = formats.render('html', table, folder)
    assert text.count('<tbody data-verdict') == 4000


def test_page_is_filled_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('harness.formats.page.MAX_EVIDENCE', 1)
    text = formats.render('html', mixed(tmp_path), tmp_path / 'results' / 'run-1')
    assert 'the page is full' in text
    assert '-wanted' not in text


def test_lost_guest_shows_the_end_of_its_console(tmp_path: Path) -> None:
    table = run_of(tmp_path / 'results', 'run-1', ('data/001', 'dev', 'crash'), status=1)
    log = tmp_path / 'results' / 'run-1' / 'guests' / 'checks-1' / 'console.log'
    log.parent.mkdir(parents=True)
    log.write_bytes(b'early\n' * 100000 + JUNK + b'\nthe last words\n')
    table['checks'][0]['guest'] = 'checks-1'
    assert 'the last words' in formats.render('html', table, tmp_path / 'results' / 'run-1')


def test_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mixed(tmp_path)
    folder = str(tmp_path / 'results' / 'run-1')
    for name, start in (('junit', '<?xml'), ('ktap', 'KTAP version 1'), ('kcidb', '{'), ('html', '<!DOCTYPE html>')):
        assert cli.main(['report', folder, '--format', name]) == 0
        assert capsys.readouterr().out.lstrip().startswith(start)
    assert cli.main(['report', folder, '--format', 'ktap', '--output', str(tmp_path / 'o')]) == 0
    assert (tmp_path / 'o').read_text().startswith('KTAP')
    assert cli.main(['report', folder, '--output', str(tmp_path / 'none' / 'o')]) == 3
    assert cli.main(['report', folder, '--origin', 'x']) == 2
    capsys.readouterr()
    assert cli.main(['report', '--schema']) == 0
    assert json.loads(capsys.readouterr().out)['title'].startswith('results.json')


def test_publish_writes_all_and_survives_a_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table, folder = mixed(tmp_path), tmp_path / 'results' / 'run-1'
    monkeypatch.setattr(logging.getLogger('harness'), 'propagate', True)
    monkeypatch.setattr('harness.formats.page.render', lambda *_: 1 / 0)
    formats.publish(table, folder, results.read)
    assert (folder / 'junit.xml').read_text().startswith('<?xml')
    assert (tmp_path / 'results' / 'history.sqlite').is_file()
    assert 'no report.html: ZeroDivisionError' in caplog.text
    monkeypatch.undo()
    formats.publish(table, folder, results.read)
    assert (folder / 'report.html').is_file()


# Excerpts


def test_excerpts_say_what_they_leave_out(tmp_path: Path) -> None:
    file = tmp_path / 'x'
    file.write_text(''.join(f'line {number}\n' for number in range(10)))
    assert evidence.head(file, 3) == evidence.Excerpt(('line 0', 'line 1', 'line 2'), f'7 lines more in {file}')
    assert evidence.tail(file, 2).lines == ('line 8', 'line 9')
    assert evidence.head(file, 10).note == ''
    assert 'line 5' in evidence.around(file, 'line 5', 20).lines
    assert evidence.around(file, 'no such', 1).lines == ('line 9',)


@pytest.mark.parametrize('name', ['none', '.', 'pipe'])
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / 'pipe')
    assert 'cannot be read' in evidence.head(tmp_path / name, 5).text
    assert 'cannot be read' in evidence.around(tmp_path / name, 'x', 5).text


def test_binary_junk_is_spelt_out(tmp_path: Path) -> None:
    (tmp_path / 'x').write_bytes(JUNK + b'\x1b[31mred\x1b[0m\n')
    excerpt = evidence.head(tmp_path / 'x', 100)
    assert all(c == '\t' or c.isprintable() for line in excerpt.lines for c in line)
    assert excerpt.lines[-1].endswith('red')
    # And each format takes it.
    table = mixed(tmp_path)
    (tmp_path / 'results' / 'run-1' / 'x.diff').write_bytes(JUNK)
    for name in ('junit', 'ktap', 'kcidb', 'html'):
        assert '\x1b' not in formats.render(name, table, tmp_path / 'results' / 'run-1')
    assert '\x1b' not in report.render_plain(table, tmp_path / 'results' / 'run-1')


_MEASURE = """
import resource, sys
from pathlib import Path
from harness import formats, report, results
folder = Path(sys.argv[1])
table = results.read(folder)
formats.render('html', table, folder)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for name in ('diff', 'console', 'hang', 'stderr'):
    for check in table['checks']:
        check['files'] = {name: 'huge'}
    for how in ('junit', 'ktap', 'html'):
        formats.render(how, table, folder)
    report.render_plain(table, folder)
for check in table['checks']:
    check['files'] = {}
    check['guest'] = 'g'
text = formats.render('html', table, folder)
assert 'fuse_uring_needle' in text, text[-2000:]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize('filler', [b'\0', b'junk without an end of line '], ids=['sparse', 'one line'])
def test_console_of_a_gigabyte(tmp_path: Path, filler: bytes) -> None:
    """The splat is found in its middle; memory stays small, and the file is not on the disk either."""
    table = run_of(tmp_path / 'results', 'run-1', ('data/001', 'dev', 'crash'), status=1)
    folder = tmp_path / 'results' / 'run-1'
    table['checks'][0]['events'] = [event('oops', 'BUG: unable to handle page fault')]
    results.write(results.RunFolder(folder), table)
    with (folder / 'huge').open('wb') as file:
        file.write(filler * (100000 // len(filler)))
        file.seek(700 << 20)
        file.write(b'\nBUG: unable to handle page fault\n fuse_uring_needle+0x1/0x2\n')
        file.truncate(1 << 30)
    (folder / 'guests' / 'g').mkdir(parents=True)
    (folder / 'guests' / 'g' / 'console.log').symlink_to(folder / 'huge')
    done = subprocess.run(
        [sys.executable, '-c', _MEASURE, str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        # A read of the whole would not end in a swap storm.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 << 10, f'{done.stdout} KiB more for an excerpt'


def hit(tmp_path: Path) -> dict[str, Any]:
    """A run in which one check was run again, and one lost its guest each time."""
    table = run_of(tmp_path / 'results', 'run-1', ('data/001', 'dev', 'pass'), ('data/002', 'dev', 'crash'), status=3)
    attempt = {'reason': 'QEMU was killed: SIGKILL', 'guest': 'gw0checks-1', 'seconds': 0.5}
    table['checks'][0]['attempts'] = [attempt]
    table['checks'][1] |= {'attempts': [attempt] * 3, 'reason': 'lab trouble: its guest was killed 3 times'}
    table['problem'] = 'lab trouble: 1 checks lost their guest'
    results.write(results.RunFolder(tmp_path / 'results' / 'run-1'), table)
    return results.read(tmp_path / 'results' / 'run-1')


def test_attempts_are_shown(tmp_path: Path) -> None:
    table, folder = hit(tmp_path), tmp_path / 'results' / 'run-1'
    text = report.render_plain(table, folder)
    assert 'data/001[dev] was run 2 times: QEMU was killed: SIGKILL' in text
    assert 'data/002[dev] was run 3 times: QEMU was killed: SIGKILL' in text
    assert 'attempts before: QEMU was killed: SIGKILL (gw0checks-1)' in formats.render('html', table, folder)
    assert '<property name="attempts" value="2"' in formats.render('junit', table, folder)
    kcidb.validate(kcidb.convert(table, folder))


def test_annotations_of_github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('GITHUB_WORKSPACE', str(REPOSITORY.parent))
    table, folder = mixed(tmp_path), tmp_path / 'results' / 'run-1'
    lines = formats.render('github', table, folder).splitlines()
    place = f'file={REPOSITORY.name}/tests/checks/data/001,line=1,'
    assert lines[0].startswith(f'::error {place}title=fail%3A data/001[uring]::')
    # The whole diff in one line, and nothing of it is a command of its own.
    assert '%0A-wanted%0A+<script>' in lines[0]
    assert '%0Arepeat: make vm-test CHECK=data/001' in lines[0]
    assert len(lines) == 3
    assert all(re.match(r'::(error|warning) [^:\r\n]+::[^\r\n]*$', line) for line in lines)
    assert 'password' not in ''.join(lines)
    monkeypatch.delenv('GITHUB_WORKSPACE')
    assert 'file=' not in formats.render('github', table, folder)


def test_github_takes_ten_errors_of_a_step(tmp_path: Path) -> None:
    checks = [(f'data/{number:03}', 'dev', 'fail') for number in range(40)]
    table = run_of(tmp_path / 'results', 'run-1', *checks, status=1, problem='100 % of it')
    lines = formats.render('github', table, tmp_path / 'results' / 'run-1').splitlines()
    assert len(lines) == 10
    assert 'title=32 more failures::data/008[dev] ' in lines[-2]
    assert lines[-1] == '::error title=fuse-lab::100 %25 of it'
    assert formats.render('github', run_of(tmp_path / 'results', 'run-2', ('data/001', 'dev', 'pass')), tmp_path) == ''
    hit_lines = formats.render('github', hit(tmp_path), tmp_path).splitlines()
    assert hit_lines[-2].startswith('::warning title=fuse-lab::data/001[dev] was run 2 times')


@pytest.mark.parametrize('place', [('status',), ('cpus',), ('checks', 0, 'seconds'), ('guest_speed', 'factor')])
def test_numbers_that_no_other_program_can_hold(tmp_path: Path, place: tuple[Any, ...]) -> None:
    for value in (10**400, -(10**30), 1 << 63):
        table = at = mixed(tmp_path)
        for step in place[:-1]:
            at = at[step]
        at[place[-1]] = value
        (tmp_path / 'results.json').write_text(json.dumps(table))
        with pytest.raises(UsageError, match='not as results of this harness are'):
            results.read(tmp_path)
