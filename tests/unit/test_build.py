# SPDX-License-Identifier: GPL-2.0-only
"""The pipeline from a tree to an image, on a tree of a few lines with real make and gcc."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from faketree import FIRST, FRAGMENT, SECOND, make_series

from harness import build, config, series, source
from harness.command import DiskFullError, Runner
from harness.errors import LabError, UsageError, VerdictError
from harness.image import KernelImage, load, wrap
from harness.kernel import KernelRequest, obtain
from harness.lab import Lab
from harness.source import SourceRequest

Obtain = Callable[..., KernelImage]


@pytest.fixture
def kernel(lab: Lab, kdir: Path) -> Obtain:
    def get(patches: Path | None = None, prefix: int | None = None, variant: str = '') -> KernelImage:
        wanted = config.request(lab.root / 'Kconfig.fragment', variant)
        return obtain(lab, KernelRequest(SourceRequest(kdir=kdir), wanted, str(patches) if patches else None, prefix))

    return get


def compiled(lab: Lab) -> int:
    (record,) = lab.cache.root.glob('work/*/build/compiled')
    return len(record.read_text().splitlines())


def test_image_says_what_it_is(lab: Lab, kernel: Obtain, tmp_path: Path) -> None:
    made = kernel(make_series(tmp_path / 'p', FIRST, SECOND))
    digest = series.load(tmp_path / 'p').digest
    assert made.release == f'6.12.7-fl-{digest[:12]}'
    assert made.series_digest == digest
    assert made.series_patches == ('0001-change-1.patch', '0002-change-2.patch')
    assert made.build_id is not None
    assert len(made.build_id) == 40
    assert made.vmlinux is not None
    assert made.image.is_file()
    assert made.vmlinux.is_file()
    assert load(made.directory) == made
    assert lab.build.exists() is False, 'a good series leaves nothing behind'


def test_nothing_changed_builds_nothing(
    lab: Lab, kernel: Obtain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = make_series(tmp_path / 'p', FIRST)
    first = kernel(patches)
    monkeypatch.setattr(build, '_build', lambda *_: pytest.fail('built again'))
    assert kernel(patches) == first
    # Nor does a promise, which is not the kernel's.
    (patches / 'provides').write_text('ring\n')
    assert kernel(patches) == replace(first, provides=frozenset({'ring'}))


def test_edit_builds_what_it_touches(lab: Lab, kernel: Obtain, tmp_path: Path) -> None:
    patches = make_series(tmp_path / 'p', FIRST)
    first = kernel(patches)
    (patches / '0001-change-1.patch').write_text(
        (patches / '0001-change-1.patch').read_text().replace('reason', 'cause')
    )
    reworded = kernel(patches)
    assert reworded.release != first.release
    assert compiled(lab) == 1, 'only the changelog differs: nothing to compile'
    make_series(patches, FIRST, SECOND)
    assert kernel(patches).key != reworded.key
    assert compiled(lab) == 2
    assert len(list((lab.cache.root / 'work').iterdir())) == 1


def test_prefix_is_a_kernel_of_its_own(kernel: Obtain, tmp_path: Path) -> None:
    patches = make_series(tmp_path / 'p', FIRST, SECOND)
    releases = {kernel(patches, prefix).release for prefix in (0, 1, 2)}
    assert len(releases) == 3
    assert '6.12.7-fl-stock' in releases


def test_key_changes_with_everything_that_goes_in(
    lab: Lab, kdir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(patches: Path | None = None) -> str:
        tree = source.prepare(lab, SourceRequest(kdir=kdir))
        chosen = series.choose(lab, tree, str(patches) if patches else None)
        return build.kernel_key(lab, series.apply(lab, tree, chosen), config.request(lab.root / 'Kconfig.fragment'))

    keys = [key()]
    assert key() == keys[0]
    keys.append(key(make_series(tmp_path / 'p', FIRST)))
    (lab.root / 'Kconfig.fragment').write_text(FRAGMENT + 'CONFIG_NET=y # why\n')
    keys.append(key())
    (kdir / 'fs/other.c').write_text('int x;\n')
    keys.append(key())
    (lab.root / 'vm/canary').mkdir(parents=True)
    (lab.root / 'vm/canary/Kbuild').write_text('obj-m := canary.o\n')
    keys.append(key())
    (lab.root / 'vm/canary/canary.c').write_text('int x;\n')
    keys.append(key())
    monkeypatch.setattr(build, 'compiler', lambda _: 'gcc 99')
    keys.append(key())
    assert len(set(keys)) == len(keys)


def test_compile_error_names_line_and_patch(kernel: Obtain, tmp_path: Path) -> None:
    bad = SECOND.replace('+\treturn 20;', '+\treturn undeclared;')
    with pytest.raises(VerdictError) as caught:
        kernel(make_series(tmp_path / 'p', FIRST, bad))
    error = caught.value
    assert error.what.startswith("does not build: fs/fuse/dev.c:13:16: error: 'undeclared' undeclared")
    assert 'fs/fuse/dev.c:13 came with 0002-change-2.patch' in error.detail
    assert 'build.log' in error.hint


def test_compile_error_in_a_line_of_the_base(kdir: Path, kernel: Obtain, tmp_path: Path) -> None:
    path = kdir / 'fs/fuse/dev.c'
    path.write_text(path.read_text() + 'int third(void) { return undeclared; }\n')
    with pytest.raises(VerdictError) as caught:
        kernel(make_series(tmp_path / 'p', FIRST))
    line = len(path.read_text().splitlines())
    assert f"dev.c:{line} is the base tree's; the file is touched by 0001-change-1.patch" in caught.value.detail


def test_build_after_a_failed_one(kernel: Obtain, tmp_path: Path) -> None:
    with pytest.raises(VerdictError):
        kernel(make_series(tmp_path / 'bad', FIRST.replace('+\treturn 10;', '+\treturn undeclared;')))
    assert kernel(make_series(tmp_path / 'good', FIRST)).release


def test_full_disk_during_a_build_is_lab_trouble(lab: Lab, kdir: Path, kernel: Obtain) -> None:
    makefile = kdir / 'Makefile'
    makefile.write_text(
        makefile.read_text().replace('gcc -c', 'echo "as: dev.o: No space left on device"; exit 1; gcc -c')
    )
    with pytest.raises(DiskFullError) as caught:
        kernel()
    assert 'MiB free' in caught.value.detail
    assert not list(lab.cache.root.glob('kernels/*'))


@pytest.mark.parametrize(
    'said', ['/bin/sh: 1: lz4: not found', 'gcc: fatal error: Killed signal terminated program cc1']
)
def test_trouble_of_the_machine_is_no_verdict(kdir: Path, kernel: Obtain, said: str) -> None:
    makefile = kdir / 'Makefile'
    makefile.write_text(makefile.read_text().replace('gcc -c', f'echo "{said}"; exit 1; gcc -c'))
    with pytest.raises(LabError):
        kernel()


def test_no_room_is_said_before_a_first_build(kernel: Obtain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, '_NEEDED_BYTES', 2**60)
    with pytest.raises(DiskFullError, match='a first build needs'):
        kernel()


def test_canary_is_built_beside_the_kernel(lab: Lab, kernel: Obtain) -> None:
    canary = lab.root / 'vm/canary'
    canary.mkdir(parents=True)
    (canary / 'Kbuild').write_text('obj-m := canary.o\n')
    (canary / 'canary.c').write_text('int canary;\n')
    made = kernel()
    assert [path.name for path in made.modules] == ['canary.ko']
    assert made.modules[0].is_file()
    assert sorted(path.name for path in canary.iterdir()) == ['Kbuild', 'canary.c']


def test_damaged_cache_entry_says_what_to_do(kernel: Obtain) -> None:
    made = kernel()
    made.image.unlink()
    with pytest.raises(LabError) as caught:
        kernel()
    assert f'rm -r {made.directory}' in caught.value.hint


def test_dry_run_touches_nothing(lab: Lab, kdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    dry = replace(lab, runner=Runner(dry_run=True))
    with caplog.at_level('INFO', 'harness.dry_run'):
        obtain(dry, KernelRequest(SourceRequest(kdir=kdir), config.request(lab.root / 'Kconfig.fragment')))
    assert not lab.cache.root.exists()
    assert any('bzImage modules' in message for message in caplog.messages)


# --- a kernel that was brought -------------------------------------------------------------------


def bzimage(path: Path, release: str) -> Path:
    data = bytearray(0x1000)
    data[0x202:0x206] = b'HdrS'
    data[0x20E:0x210] = (0x600).to_bytes(2, 'little')
    text = f'{release} (me@here) #1 SMP\0'.encode()
    data[0x800 : 0x800 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_wrap_a_file(tmp_path: Path) -> None:
    made = wrap(Runner(), bzimage(tmp_path / 'vmlinuz-x', '6.14.2-mine'))
    assert made.release == '6.14.2-mine'
    assert (made.vmlinux, made.config, made.build_id, made.series_digest, made.modules) == (None, None, None, None, ())


def test_wrap_a_build_folder(tmp_path: Path, kernel: Obtain) -> None:
    made = kernel()
    assert made.vmlinux is not None
    shutil.copy(made.vmlinux, tmp_path / 'vmlinux')
    (tmp_path / '.config').write_text('CONFIG_FUSE_FS=y\n')
    bzimage(tmp_path / 'arch/x86/boot/bzImage', '6.14.2')
    wrapped = wrap(Runner(), tmp_path)
    assert wrapped.release == '6.14.2'
    assert wrapped.config == tmp_path / '.config'
    assert wrapped.build_id == made.build_id


def test_wrap_a_kernel_of_the_cache(kernel: Obtain) -> None:
    made = kernel()
    assert wrap(Runner(), made.directory) == made


@pytest.mark.parametrize(
    ('name', 'words'), [('gone', 'no such file'), ('.', 'no bzImage'), ('text', 'not an x86 bzImage')]
)
def test_wrap_refuses(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / 'text').write_text('x')
    with pytest.raises(UsageError, match=words):
        wrap(Runner(), tmp_path / name)
