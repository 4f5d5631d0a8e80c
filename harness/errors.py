# SPDX-License-Identifier: GPL-2.0-only
"""The two kinds of failure: what the user brought is wrong, or the lab is wrong.

They end with different exit statuses, so that a script (or `git bisect run`) never takes a full
disk for a bad patch. Library code raises; only `harness.__main__` prints and exits.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_PASS = 0
EXIT_VERDICT = 1
EXIT_USAGE = 2
EXIT_LAB = 3
EXIT_INTERRUPTED = 130


class HarnessError(Exception):
    """Something that ends the run.

    what    one line: what failed
    detail  evidence, several lines (the end of the compiler's output, a reject); may be empty
    hint    what to do now; may be empty
    """

    exit_status: ClassVar[int] = EXIT_LAB
    kind: ClassVar[str] = 'error'

    def __init__(self, what: str, detail: str = '', hint: str = '') -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail
        self.hint = hint

    def __reduce__(self) -> tuple[type[HarnessError], tuple[str, str, str]]:
        # Keeps all three parts when pytest-xdist sends the exception between processes.
        return (type(self), (self.what, self.detail, self.hint))


class VerdictError(HarnessError):
    """The kernel, the series or the configuration that was brought is wrong."""

    exit_status = EXIT_VERDICT
    kind = 'verdict'


class ApplyError(VerdictError):
    """A patch does not apply."""


class BuildError(VerdictError):
    """The tree cannot be configured or does not build."""


class UsageError(HarnessError):
    """The command line asks for something that makes no sense."""

    exit_status = EXIT_USAGE
    kind = 'usage'


class LabError(HarnessError):
    """The machine, the network or the harness is wrong: no verdict on the kernel."""

    exit_status = EXIT_LAB
    kind = 'lab trouble'
