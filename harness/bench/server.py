# SPDX-License-Identifier: GPL-2.0-only
"""A server to be measured, as a template of its command line (SERVER=).

A template has {source} and {mountpoint}, may have {stats} (mirrorfs's file of counters), and
{WORD:TEXT}, which stands for TEXT when WORD is what is being measured and for nothing otherwise:
dev, nosplice, device (both), ring; direct, buffered; deep (many requests at once). The server
has to stay in the foreground:

    passthrough_hp --foreground --nopassthrough {direct:--nocache} {nosplice:--nosplice}
        {ring:-o io_uring} {source} {mountpoint}

A command without {mountpoint} is a mirrorfs, with further options if it has any; they win over ours.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.bench.rows import DEEP_ENTRIES, Side, Workload
from harness.errors import UsageError

_WORD = re.compile(r'\{(\w+)(?::([^{}]*))?\}')
_PLACES = ('source', 'mountpoint', 'stats')
_CONDITIONS = ('dev', 'nosplice', 'device', 'ring', 'direct', 'buffered', 'deep')
_MIRRORFS = (
    '--foreground {device:--transport=dev} {nosplice:--no-splice} {ring:--transport=uring --require-ring} '
    f'{{direct:--cache=none}} {{buffered:--cache=auto}} {{deep:--depth={DEEP_ENTRIES}}} --stats={{stats}}'
)
DEFAULT = 'mirrorfs'
# Where the guest has the host's own files under the same names
_SHARED = ('/usr/', '/bin/', '/sbin/', '/lib')
HOST = '/host'  # and all others


@dataclass(frozen=True)
class Server:
    """A server program and how it is called."""

    template: str
    program: Path | None  # on the host; None: not a file known here
    digest: str  # of the program

    @property
    def name(self) -> str:
        return self.template

    def command(self, row: Workload, side: Side, work: str, in_guest: bool) -> list[str]:
        """Words of the command. `work` is run-bench's folder."""
        now = {side.value, 'buffered' if row.buffered else 'direct'}
        if side is not Side.RING:
            now.add('device')
        if row.deep:
            now.add('deep')
        places = {'source': f'{work}/src', 'mountpoint': f'{work}/mnt', 'stats': f'{work}/stats'}

        def fill(match: re.Match[str]) -> str:
            if match[1] in places:
                return shlex.quote(places[match[1]])
            return match[2] if match[1] in now else ''

        first, *rest = shlex.split(_WORD.sub(fill, self.template))
        if '/' in first and self.program is not None:
            path = str(self.program)
            first = HOST + path if in_guest and not path.startswith(_SHARED) else path
        return [first, *rest]


def parse(text: str, programs: Path) -> Server:
    """A template from the command line. `programs`: the folder of the guest's own programs."""
    template = text.strip() or DEFAULT
    for match in _WORD.finditer(template):
        known = _PLACES if match[2] is None else _CONDITIONS
        if match[1] not in known:
            raise UsageError(f'SERVER: {match[0]} means nothing', hint=__doc__ or '')
    if '{mountpoint}' not in template:
        command, _, more = template.partition(' ')
        template = f'{command} {_MIRRORFS} {more} {{source}} {{mountpoint}}'
    try:
        first = shlex.split(_WORD.sub('x', template))[0]
    except ValueError as error:
        raise UsageError(f'SERVER: {error}: {text}') from error
    program: Path | None
    if '/' in first:
        program = Path(first).expanduser().resolve()
        if not program.is_file():
            raise UsageError(f'SERVER: {program}: no such program')
    else:
        found = shutil.which(first)
        own = programs / first
        program = own if own.is_file() else Path(found) if found else None
    digest = hashlib.sha256(program.read_bytes()).hexdigest() if program is not None else ''
    return Server(template, program, digest)
