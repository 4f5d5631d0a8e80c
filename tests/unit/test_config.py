# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path

import pytest
from faketree import make_tree

from harness import config
from harness.errors import UsageError, VerdictError
from harness.kconfig import why_lost
from harness.lab import REPOSITORY, Lab


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def configure(lab: Lab, kdir: Path, text: str) -> config.KernelConfig:
    wanted = config.request(write(lab.root / 'Kconfig.fragment', text))
    return config.configure(lab, wanted, kdir, lab.root / 'out')


def test_lines_of_a_fragment(tmp_path: Path) -> None:
    wishes = config.read_fragment(
        write(
            tmp_path / 'f',
            '# heading\n\nCONFIG_A=y   # why a\nCONFIG_S="x # y"\nCONFIG_N=-1 # optional: n\n'
            '# CONFIG_B is not set # why b\n',
        )
    )
    assert [(wish.name, wish.value, wish.reason, wish.optional) for wish in wishes] == [
        ('CONFIG_A', 'y', 'why a', False),
        ('CONFIG_S', '"x # y"', '', False),
        ('CONFIG_N', '-1', 'optional: n', True),
        ('CONFIG_B', 'n', 'why b', False),
    ]
    assert wishes[3].line == '# CONFIG_B is not set'


@pytest.mark.parametrize('line', ['CONFIG_A', 'FUSE_FS=y', '# CONFIG_A=y', 'CONFIG_A=y z', 'CONFIG_A ='])
def test_line_not_understood_is_named(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match='f:2: not understood'):
        config.read_fragment(write(tmp_path / 'f', f'CONFIG_X=y\n{line}\n'))


def test_option_asked_for_twice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='f:2: CONFIG_A is also in f:1'):
        config.request(write(tmp_path / 'f', 'CONFIG_A=y\n# CONFIG_A is not set\n'))


def test_all_survive(lab: Lab, kdir: Path) -> None:
    made = configure(lab, kdir, 'CONFIG_FUSE_FS=y\nCONFIG_NR_CPUS=8\n# CONFIG_CUSE is not set\n')
    assert config.read_dot_config(made.path) == {'CONFIG_FUSE_FS': 'y', 'CONFIG_NR_CPUS': '8'}


def test_lost_options_are_a_verdict_with_causes(lab: Lab, kdir: Path) -> None:
    with pytest.raises(VerdictError) as caught:
        configure(lab, kdir, 'CONFIG_FUSE_FS=y\nCONFIG_TYPO=y\nCONFIG_HIDDEN=y\n')
    assert caught.value.what == '2 requested options do not survive olddefconfig'
    assert caught.value.detail.splitlines() == [
        'Kconfig.fragment:2: CONFIG_TYPO=y came out as n: no Kconfig file of this tree defines it',
        'Kconfig.fragment:3: CONFIG_HIDDEN=y came out as n: '
        'cannot be set by hand, only selected by others (Kconfig:16)',
    ]


def test_unset_wish_that_comes_out_set_is_lost(tmp_path: Path) -> None:
    wishes = config.read_fragment(write(tmp_path / 'f', '# CONFIG_A is not set\nCONFIG_B=8\n'))
    assert [wish.name for wish in config.lost(wishes, {'CONFIG_A': 'y', 'CONFIG_B': '64'})] == ['CONFIG_A', 'CONFIG_B']
    assert config.lost(wishes, {'CONFIG_B': '8'}) == []


def test_optional_and_unknown_goes_on_and_says_so(lab: Lab, kdir: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level('INFO', 'harness.config'):
        configure(lab, kdir, 'CONFIG_FUSE_FS=y\nCONFIG_FUSE_IO_URING=y # optional: the ring\n')
    assert caplog.messages == ['CONFIG_FUSE_IO_URING is not known to this tree: left out (Kconfig.fragment:2)']


def test_optional_but_known_must_survive(lab: Lab, kdir: Path) -> None:
    with pytest.raises(VerdictError, match='1 requested option does'):
        configure(lab, kdir, 'CONFIG_HIDDEN=y # optional: x\n')


def test_cause_unmet_dependency(kdir: Path) -> None:
    losses = why_lost(kdir, ['CONFIG_NR_CPUS', 'CONFIG_NOT_AN_OPTION'], {'CONFIG_UP': 'y'})
    assert losses['CONFIG_NR_CPUS'].text == 'depends on NET [=n] and on SMP [=n] && !UP [=y] (Kconfig:10)'
    assert not losses['CONFIG_NOT_AN_OPTION'].known
    met = why_lost(kdir, ['CONFIG_NR_CPUS'], {'CONFIG_NET': 'y', 'CONFIG_SMP': 'y'})
    assert met['CONFIG_NR_CPUS'].text == 'a choice or another option overrides it (Kconfig:10)'


def test_failing_kconfig_is_a_verdict(lab: Lab, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / 'broken')
    (tree / 'Makefile').write_text('allnoconfig:\n\t@echo Kconfig:3: syntax error; exit 1\n')
    with pytest.raises(VerdictError) as caught:
        configure(lab, tree, 'CONFIG_FUSE_FS=y\n')
    assert 'syntax error' in caught.value.detail


# --- what the repository ships -------------------------------------------------------------------


def test_every_shipped_line_has_a_reason() -> None:
    for path in (REPOSITORY / 'Kconfig.fragment', *config.VARIANTS.glob('*.config')):
        for wish in config.read_fragment(path):
            assert wish.reason, f'{wish.where}: {wish.name} has no reason'


def test_variants_combine_in_any_order() -> None:
    fragment = REPOSITORY / 'Kconfig.fragment'
    one, other = config.request(fragment, 'lockdep,kasan'), config.request(fragment, 'kasan, lockdep')
    assert (one.variant, one.digest) == ('kasan,lockdep', other.digest)
    assert 'CONFIG_KASAN=y\n' in one.text
    assert 'CONFIG_PROVE_LOCKING=y\n' in one.text
    assert one.digest != config.request(fragment).digest


def test_unknown_variant_is_usage() -> None:
    with pytest.raises(UsageError) as caught:
        config.request(REPOSITORY / 'Kconfig.fragment', 'kasan,nope')
    assert 'nope' in caught.value.what
    assert 'lockdep' in caught.value.hint
