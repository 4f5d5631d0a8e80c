# SPDX-License-Identifier: GPL-2.0-only
import pickle

import pytest

from harness.cli import explain
from harness.errors import HarnessError, LabError, UsageError, VerdictError


@pytest.mark.parametrize(('kind', 'status'), [(VerdictError, 1), (UsageError, 2), (LabError, 3)])
def test_status_tells_kinds_apart(kind: type[HarnessError], status: int) -> None:
    assert kind('x').exit_status == status


def test_survives_pickling() -> None:
    copy = pickle.loads(pickle.dumps(VerdictError('what', 'detail', 'hint')))
    assert (type(copy), copy.what, copy.detail, copy.hint) == (VerdictError, 'what', 'detail', 'hint')


def test_explained_in_full() -> None:
    assert explain(LabError('no disk', 'one\ntwo', 'buy one')) == 'lab trouble: no disk\n    one\n    two\n  buy one'
