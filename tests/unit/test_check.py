# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest

from harness.check import CheckError, broken, discover, is_check, named, parse

HEADER = (
    '#!/bin/bash\n# SPDX-License-Identifier: GPL-2.0-only\n'
    '# check: files keep what is written\n# groups: auto quick rw\n'
)


def make(tmp_path: Path, text: str = HEADER, name: str = 'data/001', golden: str | None = 'ok\n') -> Path:
    path = tmp_path / 'tests' / 'checks' / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    if golden is not None:
        path.with_name(f'{path.name}.out').write_text(golden)
    return path


def test_header(tmp_path: Path) -> None:
    needs = 'ring cpus>=2 kernel>=6.14 config:CONFIG_EXT4_FS file:/dev/loop0'
    more = f'# sections: uring\n# needs: {needs}\n# timeout: 7.5\n'
    check = parse(make(tmp_path, HEADER + more + '# mount: --cache=none\necho ok\n'))
    assert check.name == 'data/001'
    assert check.title == 'files keep what is written'
    assert check.groups == {'auto', 'quick', 'rw'}
    assert check.sections == ('uring',)
    assert check.needs == ('ring', 'cpus>=2', 'kernel>=6.14', 'config:CONFIG_EXT4_FS', 'file:/dev/loop0')
    assert check.timeout == 7.5


def test_defaults(tmp_path: Path) -> None:
    check = parse(make(tmp_path))
    assert (check.sections, check.needs, check.timeout) == (('dev', 'uring'), (), 20.0)


@pytest.mark.parametrize(
    ('text', 'line', 'words'),
    [
        (HEADER + 'if true; then\n', 6, 'syntax error'),
        (HEADER + 'echo "no end\n', 5, 'unexpected EOF'),
        (HEADER.replace('quick', 'fast'), 4, "unknown word 'fast'"),
        (HEADER + '# needs: magic\n', 5, "unknown word 'magic'"),
        (HEADER + '# needs: cpus>=two\n', 5, "unknown word 'cpus>=two'"),
        (HEADER + '# sections: vhost\n', 5, "unknown word 'vhost'"),
        (HEADER + '# timeout: soon\n', 5, 'not a number'),
        (HEADER + '# timeout: -1\n', 5, 'not a number'),
        (HEADER + '# groups: rw\n', 5, 'a second `groups:`'),
        (HEADER.replace('# check: files keep what is written\n', ''), 1, 'no `# check:`'),
        (HEADER.replace('# groups: auto quick rw\n', ''), 1, 'no `# groups:`'),
        (HEADER.replace('#!/bin/bash\n', ''), 1, 'first line is not #!'),
        ('', 1, 'first line is not #!'),
    ],
)
def test_broken_says_where(tmp_path: Path, text: str, line: int, words: str) -> None:
    path = make(tmp_path, text)
    with pytest.raises(CheckError) as caught:
        parse(path)
    assert caught.value.what.startswith(f'{path}:{line}: ')
    assert words in caught.value.what
    assert caught.value.exit_status == 2


def test_no_golden_output(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match=r'data/001:1: no golden output 001.out'):
        parse(make(tmp_path, golden=None))


def test_not_executable(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.chmod(0o644)
    with pytest.raises(CheckError, match='not executable'):
        parse(path)


def test_what_is_a_check(tmp_path: Path) -> None:
    path = make(tmp_path)
    make(tmp_path, name='data/010')
    for name in ('data/README', 'data/0001', 'data/common.sh'):
        make(tmp_path, name=name, golden=None)
    root = tmp_path / 'tests' / 'checks'
    assert [str(found.relative_to(root)) for found in discover(root)] == ['data/001', 'data/010']
    assert is_check(path)
    assert not is_check(path.with_name('001.out'))


def test_named(tmp_path: Path) -> None:
    path = make(tmp_path)
    assert named(path, None)
    assert named(path, ['data/001'])
    assert named(path, ['uring/001 data/*'])
    assert not named(path, ['data/002', 'uring/*'])


def test_only_what_was_asked_for_has_to_be_whole(tmp_path: Path) -> None:
    make(tmp_path)
    make(tmp_path, golden=None, name='data/002')
    root = tmp_path / 'tests' / 'checks'
    assert broken(root, ['data/001']) == []
    (error,) = broken(root, None)
    assert 'data/002:1' in error.what
