# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from harness.boot import GuestUnfitError
from harness.errors import LabError
from harness.guest import ClockReading, build_id, compare_clocks, compare_identity
from harness.image import KernelImage

DIGEST = '0123456789abcdef' * 4


def note(name: bytes, kind: int, data: bytes) -> bytes:
    def pad(text: bytes) -> bytes:
        return text + b'\0' * (-len(text) % 4)

    return struct.pack('<III', len(name), len(data), kind) + pad(name) + pad(data)


def test_build_id_among_other_notes() -> None:
    notes = note(b'Linux\0', 257, b'\0') + note(b'Xen\0', 3, b'1234567') + note(b'GNU\0', 3, b'\xab\xcd\xef')
    assert build_id(notes) == 'abcdef'


@pytest.mark.parametrize('notes', [b'', b'abc', note(b'GNU\0', 1, b'1234'), note(b'GNU\0', 3, b'')])
def test_no_build_id(notes: bytes) -> None:
    assert build_id(notes) == ''


def kernel(**changes: Any) -> KernelImage:
    values = {'release': f'6.12.0-fl-{DIGEST[:12]}', 'build_id': 'abcdef', 'series_digest': DIGEST, **changes}
    return KernelImage(image=Path('bzImage'), directory=Path(), **values)


def test_the_kernel_that_was_built() -> None:
    compare_identity(kernel(), f'6.12.0-fl-{DIGEST[:12]}', 'abcdef')


def test_what_is_unknown_cannot_differ() -> None:
    compare_identity(kernel(release=None, build_id=None, series_digest=None), '6.18.0', '')


@pytest.mark.parametrize(
    ('release', 'build', 'what'),
    [
        (f'6.12.1-fl-{DIGEST[:12]}', 'abcdef', 'release'),
        (f'6.12.0-fl-{DIGEST[:12]}', 'abcdee', 'build id'),
        (f'6.12.0-fl-{DIGEST[:12]}', '', 'build id'),
        ('6.12.0-fl-fedcba987654', 'abcdef', 'series'),
    ],
)
def test_another_kernel(release: str, build: str, what: str) -> None:
    with pytest.raises(LabError) as caught:
        compare_identity(kernel(), release, build)
    assert what in caught.value.detail


@pytest.mark.parametrize('passed', [1.0, 1.2, 1.4])
def test_a_clock_that_may_be_right(passed: float) -> None:
    compare_clocks(ClockReading(100.0, 7.0, 100.2), ClockReading(101.2, 7.0 + passed, 101.4))


@pytest.mark.parametrize('passed', [0.0, 0.5, 3.0, 25.0])
def test_a_clock_that_is_wrong(passed: float) -> None:
    with pytest.raises(GuestUnfitError, match=rf'counted {passed:.2f} s in 1.00 to 1.40 s'):
        compare_clocks(ClockReading(100.0, 7.0, 100.2), ClockReading(101.2, 7.0 + passed, 101.4))
