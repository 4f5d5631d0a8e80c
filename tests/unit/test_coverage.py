# SPDX-License-Identifier: GPL-2.0-only
"""Line counts: which lines are the series', what gcov says of them, what a lost guest leaves."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faketree import FIRST, SECOND, make_series
from rich.console import Console

from harness import config, coverage, report, series, source
from harness.boot import TCG, Booted, GuestSpec
from harness.coverage import AddedLine
from harness.errors import LabError
from harness.gitstore import GitStore
from harness.guest import GuestLostError, Output
from harness.image import KernelImage, load
from harness.lab import Lab
from harness.runfolder import RunFolder
from harness.source import SourceRequest

BLAME = """\
1111111111111111111111111111111111111111 5 5 2
author A
summary base
filename fs/fuse/dev.c
\tint old;
1111111111111111111111111111111111111111 6 6
\t
2222222222222222222222222222222222222222 3 7 1
author B
summary fuse: change
previous 1111111111111111111111111111111111111111 fs/fuse/dev.c
filename fs/fuse/dev.c
\t\treturn 1234567890123456789012345678901234567890 7 8;
2222222222222222222222222222222222222222 9 8
\t}
"""
# As gcov 12 says it, shortened: a line in two functions, a header of the folder, one from elsewhere.
GCOV = {
    'gcc_version': '12.2.0',
    'format_version': '1',
    'data_file': 'ring.gcno',
    'files': [
        {
            'file': '/home/x/.cache/fuse-lab/work/k/src/fs/fuse/ring.c',
            'lines': [
                {'branches': [], 'count': 3, 'line_number': 10, 'unexecuted_block': False, 'function_name': 'a'},
                {'branches': [], 'count': 0, 'line_number': 11, 'unexecuted_block': True, 'function_name': 'a'},
                {'branches': [], 'count': 0, 'line_number': 20, 'unexecuted_block': True, 'function_name': 'b'},
                {'branches': [], 'count': 2, 'line_number': 20, 'unexecuted_block': False, 'function_name': 'c'},
            ],
        },
        {'file': './fs/fuse/ring_i.h', 'lines': [{'count': 1, 'line_number': 5}]},
        {'file': '/home/x/src/include/linux/list.h', 'lines': [{'count': 9, 'line_number': 5}]},
        {'file': '/home/x/src/fs/fuse/deeper/ring.c', 'lines': [{'count': 9, 'line_number': 5}]},
    ],
}
PROGRAM = """\
int chosen(int argc)
{
	int err;

	if (argc > 1)
		err = -5;
	else
		err = 0;
	return err;
}

int main(int argc, char **argv)
{
	(void)argv;
	return chosen(argc) ? 1 : 0;
}
"""


def test_blame_tells_whose_lines_they_are() -> None:
    assert coverage.parse_blame(BLAME, 'fs/fuse/dev.c', {'2' * 40: '0001-change.patch'}) == [
        AddedLine('fs/fuse/dev.c', 7, '0001-change.patch', '\treturn 1234567890123456789012345678901234567890 7 8;'),
        AddedLine('fs/fuse/dev.c', 8, '0001-change.patch', '}'),
    ]


def test_added_lines_of_a_series(lab: Lab, kdir: Path, tmp_path: Path) -> None:
    tree = source.prepare(lab, SourceRequest(kdir=kdir))
    patched = series.apply(lab, tree, series.load(make_series(tmp_path / 'p', FIRST, SECOND)))
    assert coverage.added_lines(GitStore(tree.path, lab.runner), patched) == [
        AddedLine('fs/fuse/dev.c', 3, '0001-change-1.patch', '\treturn 10;'),
        AddedLine('fs/fuse/dev.c', 13, '0002-change-2.patch', '\treturn 20;'),
    ]


def test_counts_of_the_folder_only() -> None:
    assert coverage.parse_gcov(json.dumps(GCOV)) == {
        ('fs/fuse/ring.c', 10): 3,
        ('fs/fuse/ring.c', 11): 0,
        ('fs/fuse/ring.c', 20): 2,
        ('fs/fuse/ring_i.h', 5): 1,
    }


def line(number: int, patch: str, text: str = 'x();') -> AddedLine:
    return AddedLine('fs/fuse/ring.c', number, patch, text)


def test_lines_without_code_count_neither_way() -> None:
    lines = [line(10, 'b'), line(11, 'a', '\t\tgoto out;'), line(12, 'a', '/* a comment */'), line(20, 'b')]
    made = coverage.judge(['a', 'b', 'c'], lines, coverage.parse_gcov(json.dumps(GCOV)), 2, ('g3: gone',))
    assert [(patch.name, patch.lines, patch.covered) for patch in made.patches] == [('a', 1, 0), ('b', 2, 2)]
    assert made.uncovered == (lines[1],)
    table = made.as_dict()
    assert (table['lines'], table['covered'], table['percent']) == (3, 2, 66.6)
    assert table['uncovered'] == [{'file': 'fs/fuse/ring.c', 'line': 11, 'patch': 'a', 'text': '\t\tgoto out;'}]
    assert made.text().splitlines() == [
        '  0.0 %     0 of    1  a',
        '100.0 %     2 of    2  b',
        ' 66.6 %     2 of    3  all',
        'counts lost: g3: gone',
        '',
        'not executed of a:',
        'fs/fuse/ring.c:11: goto out;',
    ]


def test_percent_is_rounded_down() -> None:
    assert coverage.percent(8999, 10000) == 89.9
    assert coverage.percent(0, 0) == 100.0


# --- with the real compiler ----------------------------------------------------------------------


def build(folder: Path) -> Path:
    """A program in place of the kernel, built as kbuild would build it; returns its build folder."""
    src, out = folder / 'src' / 'fs' / 'fuse', folder / 'build' / 'fs' / 'fuse'
    src.mkdir(parents=True)
    out.mkdir(parents=True)
    (src / 'dev.c').write_text(PROGRAM)
    (variable,) = (word for word in coverage.make_variables(gcov_request(folder)) if word.startswith('CFLAGS_GCOV='))
    flags = variable.partition('=')[2].split()
    subprocess.run(
        ['gcc', '-O2', *flags, '-c', src / 'dev.c', '-o', 'fs/fuse/dev.o'],
        cwd=folder / 'build',
        check=True,
        capture_output=True,
    )
    subprocess.run(['gcc', '--coverage', 'fs/fuse/dev.o', '-o', 'program'], cwd=folder / 'build', check=True)
    return folder / 'build'


def gcov_request(folder: Path) -> config.ConfigRequest:
    fragment = folder / 'fragment'
    fragment.write_text('CONFIG_FUSE_FS=y # why\n')
    return config.request(fragment, 'gcov')


@pytest.fixture
def kernel(tmp_path: Path) -> KernelImage:
    """What the cache keeps of a kernel that counts."""
    notes = tmp_path / 'kernel' / 'coverage'
    notes.mkdir(parents=True)
    (notes / 'dev.gcno').write_bytes((build(tmp_path) / 'fs/fuse/dev.gcno').read_bytes())
    text = PROGRAM.splitlines()
    lines = [AddedLine('fs/fuse/dev.c', n, f'{1 if n < 10 else 2}.patch', text[n - 1]) for n in range(1, len(text) + 1)]
    (notes / 'added.json').write_text(
        json.dumps({'patches': ['1.patch', '2.patch'], 'lines': [asdict(line) for line in lines]})
    )
    (tmp_path / 'kernel' / 'bzImage').touch()
    image = KernelImage(tmp_path / 'kernel' / 'bzImage', tmp_path / 'kernel', coverage=notes)
    image.save()
    return load(image.directory)


@pytest.fixture
def run(tmp_path: Path, kernel: KernelImage) -> RunFolder:
    """A run of it. The cache may forget the kernel then."""
    made = RunFolder(tmp_path / 'run')
    coverage.keep_notes(made, kernel)
    shutil.rmtree(kernel.directory)
    return made


def run_guest(tmp_path: Path, run: Path, name: str, *words: str) -> None:
    data = tmp_path / 'build/fs/fuse/dev.gcda'
    data.unlink(missing_ok=True)
    subprocess.run([tmp_path / 'build/program', *words], check=False)
    (run / 'guests' / name / 'coverage').mkdir(parents=True)
    data.rename(run / 'guests' / name / 'coverage' / 'dev.gcda')


def uncovered(table: dict[str, Any]) -> list[str]:
    return [entry['text'].strip() for entry in table['uncovered']]


def test_guests_of_a_run_add_up(lab: Lab, run: RunFolder, tmp_path: Path) -> None:
    run_guest(tmp_path, run.path, 'checks-1')
    first = coverage.of_run(lab.runner, run)
    assert first is not None
    # Each branch is a line of its own, although the compiler optimises.
    assert uncovered(first) == ['err = -5;']
    assert first['patches'][0]['name'] == '1.patch'
    assert first['percent'] < 100
    run_guest(tmp_path, run.path, 'checks-2', 'an argument')
    second = coverage.of_run(lab.runner, run)
    assert second is not None
    assert second['uncovered'] == []
    assert second['percent'] == 100.0
    assert second['guests'] == 2
    assert 'not executed' not in (run.path / 'coverage.txt').read_text()


def test_a_lost_guest_is_named(lab: Lab, run: RunFolder, tmp_path: Path) -> None:
    run_guest(tmp_path, run.path, 'checks-1')
    (run.guest('checks-2')).mkdir()
    (run.guest('checks-2') / 'coverage.lost').write_text('the guest had ended\n')
    made = coverage.of_run(lab.runner, run)
    assert made is not None
    assert (made['guests'], made['lost']) == (1, ['checks-2: the guest had ended'])


def test_nothing_counted_is_said_and_hides_nothing(lab: Lab, run: RunFolder, tmp_path: Path) -> None:
    assert coverage.of_run(lab.runner, run) is None
    run.guest('checks-1').mkdir(parents=True)
    (run.guest('checks-1') / 'coverage.lost').write_text('the guest had ended\n')
    assert coverage.of_run(lab.runner, run) == {'problem': 'no guest has left its line counts'}


def test_counts_of_another_build_are_refused(lab: Lab, run: RunFolder, tmp_path: Path) -> None:
    run_guest(tmp_path, run.path, 'checks-1')
    data = run.guest('checks-1') / 'coverage' / 'dev.gcda'
    raw = bytearray(data.read_bytes())
    raw[8] ^= 0xFF  # the stamp
    data.write_bytes(raw)
    with pytest.raises(LabError, match='gcov cannot read the counts'):
        coverage.measure(lab.runner, [run.path])
    data.unlink()
    with pytest.raises(LabError, match=r'lacks dev\.gcda'):
        coverage.measure(lab.runner, [run.path])


# --- build and guest -----------------------------------------------------------------------------


def test_only_the_variant_changes_the_build(tmp_path: Path) -> None:
    wanted = gcov_request(tmp_path)
    assert coverage.counts(wanted)
    assert coverage.make_variables(wanted)[0] == 'GCOV_PROFILE=$(if $(filter fs/fuse,$(obj)),y)'
    plain = config.request(tmp_path / 'fragment', 'slub')
    assert not coverage.counts(plain)
    assert coverage.make_variables(plain) == []


def fake_guest(folder: Path, run: Any, alive: bool = True) -> Any:
    folder.mkdir()
    machine: Any = SimpleNamespace(alive=alive)
    spec = GuestSpec(KernelImage(Path('x'), Path()), folder, TCG)
    booted = Booted(spec, machine, 0, Path(), Path(), 0.0, 0.0)
    return SimpleNamespace(booted=booted, machine=machine, run=run)


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as made:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            made.addfile(member, io.BytesIO(b'adcg'))
    return buffer.getvalue()


def test_counts_are_taken_out_of_a_guest(tmp_path: Path) -> None:
    asked = []

    def run(command: str, timeout: float) -> Output:
        asked.append(command)
        return Output(archive('./dev.gcda', './ring.gcda', '../../escaped.gcda', './note'), b'', 0, 0.1)

    coverage.collect(fake_guest(tmp_path / 'checks-1', run))
    assert asked == [coverage.DUMP]
    assert sorted(path.name for path in (tmp_path / 'checks-1' / 'coverage').iterdir()) == [
        'dev.gcda', 'escaped.gcda', 'ring.gcda',
    ]  # fmt: skip
    assert not (tmp_path / 'checks-1' / 'coverage.lost').exists()


def gone(command: str, timeout: float) -> Output:
    raise GuestLostError('the guest is gone', command)


@pytest.mark.parametrize(
    ('answer', 'alive', 'why'),
    [
        (gone, True, 'the guest is gone'),
        (gone, False, 'the guest had ended'),
        (lambda *_: Output(b'', b'', None, 30.0), True, 'reading them did not end in time'),
        (lambda *_: Output(b'', b'no debugfs', 1, 0.1), True, 'failed (exit status 1): no debugfs'),
        (lambda *_: Output(archive(), b'', 0, 0.1), True, 'there were none'),
        (lambda *_: Output(b'not a tar', b'', 0, 0.1), True, ''),
    ],
)
def test_a_guest_beyond_reach_loses_its_counts_only(tmp_path: Path, answer: Any, alive: bool, why: str) -> None:
    coverage.collect(fake_guest(tmp_path / 'checks-1', answer, alive))
    assert why in (tmp_path / 'checks-1' / 'coverage.lost').read_text()


def test_report_has_a_table_and_where_the_rest_is(tmp_path: Path) -> None:
    made = coverage.judge(['a'], [line(10, 'a'), line(11, 'a')], coverage.parse_gcov(json.dumps(GCOV)), 1, ('g: gone',))
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        report._coverage(made.as_dict(), tmp_path, console)
        report._coverage({'problem': 'no gcov'}, tmp_path, console)
    text = captured.get()
    assert '50.0' in text
    assert 'line counts lost of guest g: gone' in text
    assert f'the 1 others: {tmp_path}/coverage.txt' in text
    assert 'no line coverage: no gcov' in text
