# SPDX-License-Identifier: GPL-2.0-only
"""results.json -> JUnit XML, as CI systems read it: one suite for each section."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from harness.formats import evidence
from harness.formats.summary import adjudged, sections, state, trouble
from harness.verdict import State

MAX_TEXT = 64 << 10  # characters of one failure


def render(table: dict[str, Any], folder: Path) -> str:
    """The whole document."""
    suites = ElementTree.Element('testsuites', name='fuse-lab')
    for section, checks in sections(table).items():
        suite = _suite(suites, section, table)
        _properties(suite, _facts(table))
        for check in checks:
            _case(suite, check, folder)
        _count(suite)
    if (problem := trouble(table)) is not None:
        # No checks, or all of them good, must not look like a good run.
        suite = _suite(suites, 'run', table)
        case = ElementTree.SubElement(suite, 'testcase', classname='fuse-lab', name='run', time='0')
        kind = 'failure' if table['status'] == 1 else 'error'
        ElementTree.SubElement(case, kind, message=evidence.printable(problem), type=kind)
        _count(suite)
    for name in ('tests', 'failures', 'errors', 'skipped'):
        suites.set(name, str(sum(int(suite.get(name, '0')) for suite in suites)))
    ElementTree.indent(suites, ' ')
    return ElementTree.tostring(suites, encoding='unicode', xml_declaration=True) + '\n'


def _suite(suites: ElementTree.Element, name: str, table: dict[str, Any]) -> ElementTree.Element:
    suite = ElementTree.SubElement(suites, 'testsuite', name=f'fuse-lab.{evidence.printable(name)}')
    if table['started']:
        suite.set('timestamp', evidence.printable(table['started']))
    return suite


def _count(suite: ElementTree.Element) -> None:
    cases = suite.findall('testcase')
    suite.set('tests', str(len(cases)))
    for name, tag in (('failures', 'failure'), ('errors', 'error'), ('skipped', 'skipped')):
        suite.set(name, str(len(suite.findall(f'testcase/{tag}'))))
    suite.set('time', f'{sum(float(case.get("time", "0")) for case in cases):.3f}')


def _facts(table: dict[str, Any]) -> dict[str, object]:
    kernel = table['kernel']
    return {
        'run': table['run'],
        'kernel': kernel['release'],
        'build_id': kernel['build_id'],
        'series_digest': kernel['series_digest'],
        'variant': kernel['variant'],
        'accelerator': table['accelerator'],
    }


def _properties(parent: ElementTree.Element, values: dict[str, object]) -> None:
    known = {name: value for name, value in values.items() if value not in (None, '')}
    if known:
        properties = ElementTree.SubElement(parent, 'properties')
        for name, value in known.items():
            text = evidence.printable(str(value))
            ElementTree.SubElement(properties, 'property', name=evidence.printable(name), value=text)


def _case(suite: ElementTree.Element, check: dict[str, Any], folder: Path) -> None:
    name = evidence.printable(check['name'])
    case = ElementTree.SubElement(
        suite,
        'testcase',
        classname=f'tests.checks.{name.split("/")[0]}',
        name=f'{name}[{evidence.printable(check["section"])}]',
        time=f'{check["seconds"]:.3f}',
    )
    values = {'section': check['section'], 'verdict': check['verdict'], 'proof': check['proof']}
    values |= {'attempts': len(check['attempts']) + 1} if check.get('attempts') else {}
    _properties(case, {**values, **check['counters'], 'adjudication': adjudged(check)})
    reason = evidence.printable(check['reason'])
    its_state = state(check)
    if its_state is State.NOTRUN:
        ElementTree.SubElement(case, 'skipped', message=reason, type='notrun')
    elif its_state is State.KNOWN:
        message = evidence.printable(f'known failure: {check["known"]} ({check["reason"]})')
        ElementTree.SubElement(case, 'skipped', message=message, type='known')
    elif its_state is not State.GOOD:
        kind = 'error' if its_state is State.LAB else 'failure'
        failure = ElementTree.SubElement(case, kind, message=reason, type=check['verdict'])
        parts = [f'{check["verdict"]}: {reason}', evidence.printable(adjudged(check))]
        for what in ('diff', 'console', 'hang', 'stderr'):
            excerpt = evidence.of_check(folder, check, what, 200)
            parts += [f'{what}:', excerpt.text] if excerpt else []
        failure.text = evidence.join([*filter(None, parts), f'repeat: {evidence.printable(check["repeat"])}'], MAX_TEXT)
