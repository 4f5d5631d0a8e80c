# SPDX-License-Identifier: GPL-2.0-only
"""results.json -> KCIDB (KernelCI's common reports): one checkout, one build, its tests."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
import re
from pathlib import Path
from typing import Any

from harness.errors import LabError
from harness.formats import evidence
from harness.formats.summary import state, trouble
from harness.verdict import BAD, State

log = logging.getLogger(__name__)

ORIGIN = 'fuse_lab'
VERSION = (5, 3)
MAX_EXCERPT = 16384  # characters, by KCIDB's schema
# MISS: the harness could not do it, and nothing is said of the kernel.
_STATUS = {State.GOOD: 'PASS', State.NOTRUN: 'SKIP', State.KNOWN: 'FAIL', State.BAD: 'FAIL', State.LAB: 'MISS'}


def render(table: dict[str, Any], folder: Path, origin: str = ORIGIN) -> str:
    """The document as text; LabError when the library does not take it."""
    document = convert(table, folder, origin)
    validate(document)
    return json.dumps(document, indent=1) + '\n'


def validate(document: dict[str, Any]) -> None:
    """By kcidb-io, if that is installed."""
    try:
        import kcidb_io  # noqa: PLC0415 - loading it takes longer than most commands
    except ImportError:
        log.warning('not validated: kcidb-io is not installed')
        return
    try:
        kcidb_io.schema.V5_3.validate(document)
    except Exception as error:
        raise LabError('KCIDB does not take these results', str(error).split('\n\n', maxsplit=1)[0]) from error


def convert(table: dict[str, Any], folder: Path, origin: str = ORIGIN) -> dict[str, Any]:
    """The document. What KCIDB has no field for is under `misc`."""
    kernel = table['kernel']
    run = _text(table['run'])
    base = [kernel['source'], kernel['series_digest'], *kernel['series']]
    known = kernel['source'] or kernel['series_digest']
    checkout_id = f'{origin}:{_digest(base) if known else run}'
    build = [kernel['build_id'] or kernel['release'], kernel['variant'], '' if known else run]
    build_id = f'{origin}:{_digest(build)}'
    start = _time(table['started'])
    checkout = {
        'id': checkout_id,
        'origin': origin,
        'comment': _text(f'{kernel["source"] or "kernel brought by the user"}, {len(kernel["series"])} patches'),
        'valid': True,
        **({'start_time': start} if start else {}),
        # patchset_hash is another digest over the patches than ours.
        'misc': _clean({'series_digest': kernel['series_digest'], 'series': kernel['series']}),
    }
    built = {
        'id': build_id,
        'checkout_id': checkout_id,
        'origin': origin,
        'architecture': 'x86_64',
        'config_name': _text(kernel['variant'] or 'default'),
        **({'start_time': start} if start else {}),
        **({'compiler': _text(kernel['compiler'])} if kernel['compiler'] else {}),
        **({'duration': table['stages']['build']} if 'build' in table['stages'] else {}),
        'status': 'PASS' if kernel['release'] else 'FAIL' if table['status'] == 1 else 'MISS',
        **({'comment': _text(table['problem'])} if not kernel['release'] and table['problem'] else {}),
        'misc': _clean({'release': kernel['release'], 'build_id': kernel['build_id']}),
    }
    tests = [_run(table, build_id, origin)]
    tests += [_test(table, check, build_id, origin, folder) for check in table['checks']]
    major, minor = VERSION
    return {
        'version': {'major': major, 'minor': minor},
        'checkouts': [checkout],
        'builds': [built],
        'tests': tests,
        **_known(table, origin),
    }


def _known(table: dict[str, Any], origin: str) -> dict[str, Any]:
    """An issue for each reason why failures are known, and where it was met."""
    checks = [check for check in table['checks'] if state(check) is State.KNOWN]
    if not checks:
        return {}
    ids = {check['known']: f'{origin}:{_digest([check["known"]])}' for check in checks}
    return {
        'issues': [
            {'id': issue, 'version': 1, 'origin': origin, 'comment': _text(reason)} for reason, issue in ids.items()
        ],
        'incidents': [
            {
                'id': f'{_test_id(table, check, origin)}.known',
                'origin': origin,
                'issue_id': ids[check['known']],
                'issue_version': 1,
                'test_id': _test_id(table, check, origin),
                'present': True,
            }
            for check in checks
        ],
    }


def _test_id(table: dict[str, Any], check: dict[str, Any], origin: str) -> str:
    return f'{origin}:{_text(table["run"])}.{_text(check["name"])}.{_text(check["section"])}'


def _run(table: dict[str, Any], build_id: str, origin: str) -> dict[str, Any]:
    """All checks together, and what is wrong outside of them."""
    problem = trouble(table)
    return {
        'id': f'{origin}:{_text(table["run"])}',
        'origin': origin,
        'build_id': build_id,
        'path': 'fuse',
        'status': {0: 'PASS', 1: 'FAIL'}.get(table['status'], 'MISS'),
        'environment': _environment(table),
        **({'comment': _text(problem)} if problem else {}),
        'misc': _clean({'counts': table['counts'], 'stray_events': table['stray_events'], 'command': table['command']}),
    }


def _test(table: dict[str, Any], check: dict[str, Any], build_id: str, origin: str, folder: Path) -> dict[str, Any]:
    excerpts = []
    if check['verdict'] in BAD:
        for what in ('diff', 'console', 'hang', 'stderr'):
            excerpt = evidence.of_check(folder, check, what, 200)
            excerpts += [excerpt.text] if excerpt else []
    text = evidence.join(excerpts, MAX_EXCERPT)
    names = [*check['name'].split('/'), check['section']]
    return {
        'id': _test_id(table, check, origin),
        'origin': origin,
        'build_id': build_id,
        'path': '.'.join(['fuse', *(re.sub(r'[^a-zA-Z0-9_-]', '_', name) or '_' for name in names)]),
        'status': _STATUS[state(check)],
        'duration': check['seconds'],
        'environment': _environment(table),
        **({'comment': _text(check['reason'])} if check['reason'] else {}),
        **({'log_excerpt': text} if text else {}),
        'misc': _clean(
            {
                name: check[name]
                for name in ('verdict', 'proof', 'counters', 'events', 'repeat', 'known', 'adjudication')
                if name in check
            }
        ),
    }


def _environment(table: dict[str, Any]) -> dict[str, Any]:
    return {
        'comment': _text(f'QEMU, {table["accelerator"] or "not booted"}, {table["cpus"]} CPUs'),
        'misc': _clean({name: table[name] for name in ('cpus', 'memory_mb', 'seed', 'guest_speed', 'host')}),
    }


def _text(value: object) -> str:
    return evidence.printable(str(value))


def _clean(value: Any) -> Any:
    """Without null, which KCIDB forbids, and without what its strings must not hold."""
    if isinstance(value, dict):
        return {_text(name): _clean(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_clean(item) for item in value if item is not None]
    return _text(value) if isinstance(value, str) else value


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:32]


def _time(text: str) -> str | None:
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return when.isoformat() if when.tzinfo else when.replace(tzinfo=datetime.UTC).isoformat()
