# SPDX-License-Identifier: GPL-2.0-only
"""Lets a plain `pytest` run collect guest checks too; pytest allows this line only at the top."""

pytest_plugins = ['harness.plugin']
