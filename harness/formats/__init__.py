# SPDX-License-Identifier: GPL-2.0-only
"""Everything made from results.json; its shape is in schema.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

log = logging.getLogger(__name__)


def render(name: str, table: dict[str, Any], folder: Path, **options: Any) -> str:
    """A run in another format. Each is loaded only when it is asked for: some take libraries with them."""
    from harness.formats import github, junit, kcidb, ktap, page  # noqa: PLC0415

    formats: dict[str, Callable[..., str]] = {
        'github': github.render,
        'html': page.render,
        'junit': junit.render,
        'kcidb': kcidb.render,
        'ktap': ktap.render,
    }
    return formats[name](table, folder, **options)


def publish(table: dict[str, Any], folder: Path, read: Callable[[Path], dict[str, Any]]) -> None:
    """What a run leaves behind besides results.json. Trouble with it changes no verdict, but is said."""
    from harness.formats.history import History  # noqa: PLC0415

    if table['status'] is None:
        return
    try:
        History(folder.parent).record(table, read)
    except HarnessError as error:
        log.warning('this run is not in the history: %s: %s', error.what, error.detail)
    for name, file in (('junit', 'junit.xml'), ('html', 'report.html')):
        try:
            text = render(name, table, folder)
            temporary = folder / f'.{file}'
            temporary.write_text(text, encoding='utf-8')
            temporary.replace(folder / file)
        except Exception as error:
            # The verdict is in results.json; a bug here must not turn it into lab trouble.
            log.warning('no %s: %s: %s', file, type(error).__name__, error)
