# SPDX-License-Identifier: GPL-2.0-only
"""Small facts kept between runs in the user's cache: accelerator, guest speed, durations.

Only ever hints: a missing or damaged file means that they are found out again.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from harness.cache import Cache

MAX_ENTRIES = 500  # per file; the oldest go first


class Memo:
    """One JSON file of facts by key."""

    def __init__(self, cache: Cache, name: str) -> None:
        self._cache = cache
        self._path: Path = cache.root / 'memo' / f'{name}.json'

    def get(self, key: str) -> Any:
        return self._load().get(key)

    def put(self, facts: dict[str, Any]) -> None:
        """Add facts. Not being able to is no trouble: they are found out again."""
        try:
            with self._cache.lock(f'memo-{self._path.stem}', 'remembering durations'):
                table = self._load()
                for key, value in facts.items():
                    table.pop(key, None)
                    table[key] = value
                self._save(dict(list(table.items())[-MAX_ENTRIES:]))
        except OSError:
            pass

    def _load(self) -> dict[str, Any]:
        try:
            table = json.loads(self._path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return {}
        return table if isinstance(table, dict) else {}

    def _save(self, table: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(descriptor, 'w', encoding='utf-8') as file:
            json.dump(table, file, indent=1)
        Path(name).replace(self._path)
