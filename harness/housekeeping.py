# SPDX-License-Identifier: GPL-2.0-only
"""Sub-command `cache`: what the cache holds, and making it smaller."""

from __future__ import annotations

import argparse

from harness.lab import Lab


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser('cache', help='show the cache, or make it smaller')
    parser.add_argument('--prune', action='store_true', help='remove all kernels and build folders but the newest')
    parser.set_defaults(func=_command)


def _command(args: argparse.Namespace, lab: Lab) -> str:
    if args.prune and not lab.dry_run:
        removed = lab.cache.prune(keep_kernels=1, keep_work=1)
        return '\n'.join(f'removed  {path}' for path in removed) or 'nothing to remove'
    lines = [f'{lab.cache.size(path) / 2**20:8.0f} MiB  {path}' for path in lab.cache.entries()]
    return '\n'.join(lines) or f'{lab.cache.root} is empty'
