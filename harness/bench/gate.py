# SPDX-License-Identifier: GPL-2.0-only
"""Two runs compared: has a cost grown? Figures that cannot be compared are refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.bench import identity, record
from harness.bench.rows import Measure
from harness.errors import LabError

LIMIT = 0.01  # growth of a cost that fails the gate


@dataclass(frozen=True)
class Pair:
    """The same figure of two runs."""

    measure: Measure
    workload: str
    side: str
    new: float
    old: float

    @property
    def name(self) -> str:
        return f'{self.measure}/{self.workload} {self.side}'

    @property
    def change(self) -> float:
        return self.new / self.old - 1.0

    @property
    def grown(self) -> bool:
        return self.measure is Measure.COST and self.new > self.old * (1 + LIMIT)


def measures_of(table: Mapping[str, Any]) -> list[Measure]:
    present = {figure['measure'] for figure in table['figures']}
    return [measure for measure in Measure if measure in present]


def refuse_incomparable(
    new: Mapping[str, Any],
    old: Mapping[str, Any],
    measures: Sequence[Measure],
    folders: tuple[Path, Path] | None = None,
) -> None:
    """LabError when figures of one of these measures mean different things in the two runs."""
    here, there = identity.from_dict(new['identity']), identity.from_dict(old['identity'])
    for measure in measures:
        found = identity.differences(measure, here, there)
        if not found:
            continue
        if here.config != there.config and folders is not None:
            texts = [record.config_of(folder) for folder in folders]
            if all(texts):
                found += identity.config_differences(*texts)[:8]
        raise LabError(
            f'figures of {measure} cannot be compared with those of run {old["run"]}',
            '\n'.join(found),
            'measure both here and now (KERNEL_B=, SERVER_B=), or take another base',
        )


def pairs(new: Mapping[str, Any], old: Mapping[str, Any], measures: Sequence[Measure]) -> list[Pair]:
    """Figures of subject a that both runs have. LabError where a workload is not the same any more."""
    before = {_key(figure): figure for figure in old['figures']}
    found: list[Pair] = []
    for figure in new['figures']:
        if figure['subject'] != 'a' or figure['measure'] not in measures or figure['value'] is None:
            continue
        base = before.get(_key(figure))
        if base is None or base['value'] is None:
            continue
        if base['load'] != figure['load']:
            raise LabError(
                f'{figure["measure"]}/{figure["workload"]} is another load than in run {old["run"]}',
                f'here  {figure["load"]}\nthere {base["load"]}',
                'take a base made with this version of the harness',
            )
        found.append(
            Pair(Measure(figure['measure']), figure['workload'], figure['side'], figure['value'], base['value'])
        )
    return found


def lost(new: Mapping[str, Any], old: Mapping[str, Any], measures: Sequence[Measure]) -> list[str]:
    """Figures that the base has and this run wanted but could not measure, with the reason."""
    wanted = {_key(figure): figure for figure in new['figures'] if figure['subject'] == 'a'}
    names = []
    for figure in old['figures']:
        mine = wanted.get(_key(figure))
        if figure['measure'] in measures and figure['value'] is not None and mine is not None and mine['value'] is None:
            names.append(f'{figure["measure"]}/{figure["workload"]} {figure["side"]}: {mine["reason"]}')
    return names


def _key(figure: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return (figure['measure'], figure['workload'], figure['subject'], figure['side'])
