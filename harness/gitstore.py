# SPDX-License-Identifier: GPL-2.0-only
"""One bare git repository in the cache that holds every tree the harness builds from.

Trees get into it and out of it through private index files, so that no work tree of the user's is
ever touched and a file that did not change keeps its time stamp in the folder it is built in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.command import Completed, Runner

# The same commit id for the same content, whoever imports it and whenever.
IDENTITY = {
    'GIT_AUTHOR_NAME': 'fuse-lab',
    'GIT_AUTHOR_EMAIL': 'fuse-lab@localhost',
    'GIT_AUTHOR_DATE': '1970-01-01T00:00:00+0000',
    'GIT_COMMITTER_NAME': 'fuse-lab',
    'GIT_COMMITTER_EMAIL': 'fuse-lab@localhost',
    'GIT_COMMITTER_DATE': '1970-01-01T00:00:00+0000',
}
# The user's settings (autocrlf, hooks, signing, filters) must not change content or commit ids.
ISOLATION = {
    'GIT_CONFIG_GLOBAL': os.devnull,
    'GIT_CONFIG_SYSTEM': os.devnull,
    'GIT_ATTR_NOSYSTEM': '1',
    'GIT_TERMINAL_PROMPT': '0',
}

# No garbage collection: commits are reached through our own refs or by id. Least compression:
# importing 85,000 files is what takes time, not the disk.
_SETTINGS = """\
[gc]
	auto = 0
[maintenance]
	auto = false
[core]
	looseCompression = 1
	autocrlf = false
	fileMode = true
	symlinks = true
	preloadIndex = true
[index]
	threads = true
"""


@dataclass(frozen=True)
class GitStore:
    git_dir: Path
    runner: Runner

    @property
    def exists(self) -> bool:
        return (self.git_dir / 'HEAD').is_file()

    def create(self) -> None:
        config = self.git_dir / 'config'
        if self.exists and _SETTINGS in config.read_text(encoding='utf-8'):
            return
        self.runner.run(['git', 'init', '--quiet', '--bare', self.git_dir], env=ISOLATION, stage='source')
        if not self.runner.dry_run:
            with config.open('a', encoding='utf-8') as file:
                file.write(_SETTINGS)

    def run(
        self,
        *words: str | Path,
        index: Path | None = None,
        work_tree: Path | None = None,
        stdin: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        stage: str = 'source',
    ) -> Completed:
        return self.runner.run(
            self._argv(words, work_tree), env=self._env(index, env), stdin=stdin, check=check, stage=stage, split=True
        )

    def query(self, *words: str | Path, index: Path | None = None, check: bool = True) -> str:
        return self.runner.query(self._argv(words, None), env=self._env(index, None), check=check).strip()

    def commit(
        self, tree: str, parent: str | None, message: str, env: Mapping[str, str] | None = None, stage: str = 'source'
    ) -> str:
        parents = ['-p', parent] if parent else []
        done = self.run(
            'commit-tree', *parents, '-F', '-', tree, stdin=message, env=IDENTITY | dict(env or {}), stage=stage
        )
        return done.stdout.strip()

    def tree_of(self, commit: str) -> str:
        return self.query('rev-parse', f'{commit}^{{tree}}')

    def ref(self, name: str) -> str | None:
        """The commit that a ref names, or None."""
        if not self.exists:
            return None
        return self.query('rev-parse', '--verify', '--quiet', f'{name}^{{commit}}', check=False) or None

    def show(self, commit: str, path: str) -> str:
        return self.query('show', f'{commit}:{path}')

    def checkout(self, commit: str, folder: Path, index: Path, stage: str) -> None:
        """Bring a folder to a commit, writing only the files that differ from what it holds."""
        if not self.runner.dry_run:
            folder.mkdir(parents=True, exist_ok=True)
            index.parent.mkdir(parents=True, exist_ok=True)
            # Only the holder of the folder's lock gets here: a lock file of git is from a run that was killed.
            index.with_name(index.name + '.lock').unlink(missing_ok=True)
        if index.exists():
            self.run('update-index', '-q', '--refresh', index=index, work_tree=folder, check=False, stage=stage)
        self.run('read-tree', '--reset', '-u', commit, index=index, work_tree=folder, stage=stage)

    def _argv(self, words: tuple[str | Path, ...], work_tree: Path | None) -> list[str | Path]:
        where: list[str | Path] = ['--work-tree', work_tree] if work_tree is not None else []
        return ['git', '--git-dir', self.git_dir, *where, *words]

    @staticmethod
    def _env(index: Path | None, env: Mapping[str, str] | None) -> dict[str, str]:
        settings = ISOLATION | dict(env or {})
        if index is not None:
            settings['GIT_INDEX_FILE'] = os.fspath(index)
        return settings
