# SPDX-License-Identifier: GPL-2.0-only
"""Which patch or commit broke a check, or made it cost more.

engine     what the runs so far say, and which kernel to try next: only numbers
signature  whether two failures are the same
subjects   the kernels there are: prefixes of a series, the series without one patch, commits
trial      one kernel, one run: what came of it
judgement  runs -> the engine's numbers
state      the runs so far, for going on after an interruption
command    sub-commands `bisect-series` and `bisect`
"""
