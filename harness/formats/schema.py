# SPDX-License-Identifier: GPL-2.0-only
"""The shape of results.json: the one place that says what each key holds and in which unit.

Programs may rely on it: keys are added and never change their meaning; should one have to, FORMAT
changes. A reader ignores keys it does not know. `python -m harness report --schema` prints the
same as a JSON schema.
"""

from __future__ import annotations

import functools
import math
import types
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    TypedDict,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from typing import is_typeddict as _is_table

FORMAT = 1
MAX_NUMBER = 1 << 63  # what SQLite and other programs can hold
MAX_PROBLEMS = 5  # told of one file; the first says enough

VerdictName = Literal['pass', 'fail', 'notrun', 'crash', 'hang']


class Kernel(TypedDict):
    release: Annotated[str | None, '`uname -r` in the guest; null: no kernel came about']
    build_id: Annotated[str | None, 'GNU build-id, hexadecimal; null: brought without its vmlinux']
    series_digest: Annotated[str | None, 'of the patches applied; `stock`: built here without any']
    series: Annotated[list[str], 'file names of the patches, in order']
    source: Annotated[str | None, 'where the base tree is from']
    variant: Annotated[str, 'debug variants, joined by commas; empty: none']
    compiler: str | None
    image: Annotated[str | None, 'path of the bzImage']


class Programs(TypedDict):
    digest: Annotated[str, 'SHA-256 of the server and all else that is copied into the guest, but the checks']


class Speed(TypedDict):
    factor: Annotated[float, 'how much slower than a KVM guest of today; time limits are multiplied by it']
    measured: Annotated[bool, 'false: a guess']
    loop_seconds: float
    fork_seconds: float


class Event(TypedDict):
    kind: Annotated[str, 'oops, WARN, KASAN, lockdep, hung task, ... (harness/console.py)']
    line: Annotated[str, 'of the console, without time and caller']
    fingerprint: Annotated[str, 'the same for the same fault at another time or address']
    after: Annotated[bool, 'came when the check had ended and no other had begun']


class Stray(TypedDict):
    kind: Annotated[str, 'as of an event; boot: a guest did not come up, another took its place']
    line: str
    where: Annotated[str, 'while booting, or after which check']


class Attempt(TypedDict):
    reason: Annotated[str, 'what ended it: who killed the guest, or that the process of the harness died']
    guest: Annotated[str, 'as in the check; empty: unknown']
    seconds: float


class Tally(TypedDict):
    fails: int
    runs: int


class Adjudication(TypedDict):
    judgement: Annotated[str, 'regression, fails on the baseline too, not seen again, cannot tell, ...']
    probability: Annotated[float | None, 'of a regression (see adjudicate.py); null: nothing to compare with']
    patched: Tally
    baseline: Annotated[Tally | None, 'null: it does not run there']
    text: Annotated[str, 'all of this in one line']


class Check(TypedDict):
    name: Annotated[str, 'AREA/NNN']
    section: Annotated[str, 'transport: dev or uring']
    verdict: Annotated[VerdictName, 'crash: the kernel complained or the guest is gone; hang: no end in time']
    seconds: Annotated[float, 'on the host, all included']
    guest_seconds: Annotated[float, 'in the guest, by its clock']
    reason: Annotated[str, 'one line; empty for pass; after `lab trouble: ` a bad verdict says nothing of the kernel']
    proof: Annotated[str, 'that requests took the path under test: ok, failed, own (by the check itself), none']
    counters: Annotated[dict[str, int | None], 'requests by path, as server and kernel count them']
    guest: Annotated[str, 'its console: guests/NAME/console.log in the run folder']
    events: Annotated[list[Event], 'complaints of the kernel that belong to the check']
    excused: Annotated[list[str], 'lines of complaints that tests/console-allow.toml excuses']
    files: Annotated[dict[str, str], 'output, diff, stderr, hang, console: paths in the run folder, of bad checks']
    repeat: Annotated[str, 'the command that runs it again']
    digest: NotRequired[Annotated[str, 'SHA-256 of the check and its golden output']]
    adjudication: NotRequired[Annotated[Adjudication, 'of a failure that was run again on both kernels']]
    known: NotRequired[Annotated[str, 'why its failure does not count: tests/known-failures, or a folder of the user']]
    attempts: NotRequired[Annotated[list[Attempt], 'earlier ones that ended without a verdict']]


class Canary(TypedDict, total=False):
    name: Required[str]
    how: Required[Annotated[str, 'provoked, or replayed where the kernel has no such checker']]
    ok: Required[Annotated[bool, 'it was noticed and told apart']]
    kind: str
    seconds: float
    detail: str


class PatchCoverage(TypedDict):
    name: str
    lines: int
    covered: int
    percent: float


class Coverage(TypedDict, total=False):
    """Either `problem`, or all the others."""

    problem: str
    lines: int
    covered: int
    percent: float
    patches: list[PatchCoverage]
    uncovered: Annotated[list[dict[str, Any]], 'the lines not executed']
    guests: int
    lost: Annotated[list[str], 'guests whose counts were lost']


class Host(TypedDict):
    kernel: str
    python: str
    cpus: Annotated[int, 'that the run could use']
    ci: Annotated[str, 'the variable CI; empty: none']


class Results(TypedDict):
    format: Annotated[int, 'of this file: 1']
    run: Annotated[str, 'name of its folder; sorts by time']
    started: Annotated[str, 'ISO 8601, UTC; empty: unknown']
    status: Annotated[
        int | None,
        'exit status: 0 pass, 1 verdict, 2 usage, 3 lab trouble, 130 interrupted; null: not over',
    ]
    problem: Annotated[str, 'why the status is not 0 when it is not by a check; empty: none']
    kernel: Kernel
    programs: NotRequired[Programs | None]
    accelerator: Annotated[str | None, 'kvm or tcg']
    accelerator_reason: str
    guest_speed: Speed | None
    cpus: Annotated[int, 'of a guest']
    memory_mb: Annotated[int, 'of a guest, MiB']
    seed: int
    boot_seconds: Annotated[list[float], "from QEMU's start to sshd, one for each boot"]
    stages: Annotated[dict[str, float], 'seconds, in order; stages may overlap']
    counts: Annotated[dict[str, int], 'checks by verdict']
    checks: Annotated[list[Check], 'in the order they ended; name and section are unique']
    canaries: list[Canary]
    stray_events: Annotated[list[Stray], 'complaints of the kernel outside of any check; each fails the run']
    expired_allowances: Annotated[list[str], 'patterns of tests/console-allow.toml that no longer excuse']
    stale_known: NotRequired[Annotated[list[str], 'entries of the known failures that are out of date']]
    command: str
    host: Host
    coverage: NotRequired[Annotated[Coverage | None, 'lines of the series executed; null: not counted']]
    workers: NotRequired[Annotated[int, 'of pytest-xdist']]


def problems(value: Any) -> list[str]:
    """What is wrong with a table read from results.json, with the place; the first few."""
    found: list[str] = []
    _judge(value, Results, '', found)
    if not found:
        seen: set[tuple[str, str]] = set()
        for number, check in enumerate(value['checks']):
            key = check['name'], check['section']
            if key in seen:
                found.append(f'checks[{number}]: {key[0]}[{key[1]}] a second time')
            seen.add(key)
    return found[:MAX_PROBLEMS]


def json_schema() -> dict[str, Any]:
    """The same for programs that read JSON schemas."""
    definitions: dict[str, Any] = {}
    top = _describe(Results, definitions)
    return {
        '$schema': 'https://json-schema.org/draft/2020-12/schema',
        'title': 'results.json of fuse-lab',
        **top,
        '$defs': definitions,
    }


def _bare(kind: Any) -> tuple[Any, str]:
    """Without NotRequired and Annotated; and the description."""
    text = ''
    while get_origin(kind) in (NotRequired, Required, Annotated):
        if get_origin(kind) is Annotated:
            text = kind.__metadata__[0]
            kind = kind.__origin__
        else:
            (kind,) = get_args(kind)
    return kind, text


@functools.cache
def _hints(table: Any) -> dict[str, Any]:
    return get_type_hints(table, include_extras=True)


@functools.cache
def _required(table: Any) -> frozenset[str]:
    # Annotations are strings in this module (PEP 563): what Python itself counts as required is wrong then.
    hints = _hints(table)
    marked = {name for name, kind in hints.items() if get_origin(kind) is Required}
    optional = {name for name, kind in hints.items() if get_origin(kind) is NotRequired}
    return frozenset((set(hints) if table.__total__ else marked) - optional)


def _judge(value: Any, kind: Any, where: str, found: list[str]) -> None:
    if len(found) >= MAX_PROBLEMS:
        return
    kind, _ = _bare(kind)
    origin, args = get_origin(kind), get_args(kind)
    if _is_table(kind):
        if not isinstance(value, dict):
            found.append(f'{where or "the file"}: {_shown(value)} where a table is expected')
            return
        hints = _hints(kind)
        place = f'{where}.' if where else ''
        found += [f'{place}{name}: missing' for name in hints if name not in value and name in _required(kind)]
        for name in hints:
            if name in value:
                _judge(value[name], hints[name], f'{place}{name}', found)
    elif origin is list and isinstance(value, list):
        for number, item in enumerate(value):
            _judge(item, args[0], f'{where}[{number}]', found)
    elif origin is dict and isinstance(value, dict):
        for name, item in value.items():
            _judge(item, args[1], f'{where}.{name}', found)
    elif origin in (Union, types.UnionType) and _is_table(args[0]) and value is not None:
        _judge(value, args[0], where, found)
    elif not _fits(value, kind):
        found.append(f'{where}: {_shown(value)} where {_name(kind)} is expected')


def _fits(value: Any, kind: Any) -> bool:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in args)
    if origin is Literal:
        return value in args
    if kind is float:
        # A whole number first: one of hundreds of digits is no float at all.
        return _fits(value, int) or (isinstance(value, float) and math.isfinite(value))
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < MAX_NUMBER
    return kind is Any or isinstance(value, dict if _is_table(kind) else origin or kind)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f'{text[:40]}...'


def _name(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return ' or '.join(_name(each) for each in args)
    if origin is Literal:
        return f'one of {", ".join(map(str, args))}'
    names = {str: 'text', int: 'a whole number', float: 'a number', bool: 'true or false', type(None): 'null',
             list: 'a list', dict: 'a table'}  # fmt: skip
    return names.get(origin or kind, 'a table')


_SIMPLE: dict[Any, str] = {str: 'string', int: 'integer', float: 'number', bool: 'boolean', type(None): 'null'}


def _describe(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    kind, text = _bare(kind)
    origin, args = get_origin(kind), get_args(kind)
    out: dict[str, Any]
    if _is_table(kind):
        hints = _hints(kind)
        table = {
            'type': 'object',
            'properties': {name: _describe(each, definitions) for name, each in hints.items()},
            'required': sorted(_required(kind)),
        }
        if kind is Results:
            return table
        definitions[kind.__name__] = table
        out = {'$ref': f'#/$defs/{kind.__name__}'}
    elif origin in (Union, types.UnionType):
        out = {'anyOf': [_describe(each, definitions) for each in args]}
    elif origin is Literal:
        out = {'enum': list(args)}
    elif origin is list:
        out = {'type': 'array', 'items': _describe(args[0], definitions)}
    elif origin is dict:
        out = {'type': 'object', 'additionalProperties': _describe(args[1], definitions)}
    else:
        out = {} if kind is Any else {'type': _SIMPLE[kind]}
    return {**out, 'description': text} if text else out
