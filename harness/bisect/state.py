# SPDX-License-Identifier: GPL-2.0-only
"""The runs so far, in a file of the cache: the same command goes on where it was interrupted.

One line of JSON for each run, appended when it has ended. The file's name is a digest of everything
the runs depend on; how they are judged (confidence, ANY=1) is not part of it.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.bisect.signature import Signature
from harness.errors import LabError

_FORMAT = 1


class Outcome(enum.StrEnum):
    """How far a kernel got."""

    APPLY = 'does not apply'
    BUILD = 'does not build'
    BOOT = 'does not boot'
    NOTRUN = 'cannot be tested'  # lacks what the check needs
    SPLAT = 'splats elsewhere'  # the check passes
    FAIL = 'fails'
    PASS = 'passes'
    COST = 'measured'


@dataclass(frozen=True)
class Observation:
    """One run of one kernel."""

    kernel: str  # key of the subject
    outcome: Outcome
    signatures: tuple[Signature, ...] = ()
    detail: str = ''
    values: tuple[float, ...] = ()  # of a measurement
    seconds: Mapping[str, float] = field(default_factory=dict)  # build, boot, check
    folder: str = ''  # where its evidence is

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def of_dict(raw: Mapping[str, Any]) -> Observation:
        return Observation(
            str(raw['kernel']),
            Outcome(raw['outcome']),
            tuple(
                Signature(one['where'], one['kind'], tuple(one['lines']), tuple(one['splats']))
                for one in raw['signatures']
            ),
            str(raw['detail']),
            tuple(float(value) for value in raw['values']),
            {str(name): float(value) for name, value in raw['seconds'].items()},
            str(raw['folder']),
        )


def digest(inputs: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:20]


class State:
    """The file. `observations` has all runs, also those of earlier commands."""

    def __init__(self, path: Path, inputs: Mapping[str, Any], forget: bool = False) -> None:
        self.path = path
        self.observations: list[Observation] = []
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if forget:
                path.unlink(missing_ok=True)
            good = self._load() if path.is_file() else 0
            if good:
                os.truncate(path, good)  # a line that was cut off when a run was killed
            else:
                path.write_text(_line({'format': _FORMAT, 'inputs': inputs}), encoding='utf-8')
        except OSError as error:
            raise LabError(f'cannot keep the state of the bisection in {path}', str(error)) from error

    def add(self, observation: Observation) -> None:
        self.observations.append(observation)
        try:
            with self.path.open('a', encoding='utf-8') as file:
                file.write(_line(observation.as_dict()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise LabError(f'cannot keep the state of the bisection in {self.path}', str(error)) from error

    def _load(self) -> int:
        """Bytes of the file that are good."""
        good = 0
        data = self.path.read_bytes()
        for number, line in enumerate(data.splitlines(keepends=True)):
            try:
                if not line.endswith(b'\n'):
                    break
                raw = json.loads(line)
                if number == 0 and raw['format'] != _FORMAT:
                    return 0
                if number:
                    self.observations.append(Observation.of_dict(raw))
            except (ValueError, KeyError, TypeError):
                break
            good += len(line)
        return good


def _line(raw: Mapping[str, Any]) -> str:
    return json.dumps(raw) + '\n'
