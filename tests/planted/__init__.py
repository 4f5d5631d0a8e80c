# SPDX-License-Identifier: GPL-2.0-only
"""Twelve regressions planted on purpose, to show that bisect finds them; `python -m tests.planted` runs it."""
