# SPDX-License-Identifier: GPL-2.0-only
"""What is measured, and what is to be reached. Data; the numbers of the goals are from issues 3 and 5.

Names are MEASURE/WORKLOAD, such as cost/randread-4k; BENCH= takes patterns of them.
"""

from __future__ import annotations

import enum
import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

from harness.errors import UsageError

MIB = 1 << 20
DEEP_ENTRIES = 32  # of each ring queue of mirrorfs, for a load with many requests at once; 8 by itself


class Measure(enum.StrEnum):
    """How a figure comes about."""

    COST = 'cost'  # instructions of the whole system, counted by the emulator: repeats exactly
    THROUGHPUT = 'throughput'  # wall clock in a guest with several CPUs
    NATIVE = 'native'  # wall clock on this very machine, with its own kernel
    EXPORT = 'export'  # wall clock in a guest: blockfs beside other servers of one image
    KRPC = 'krpc'  # wall clock in a guest: files on a storage node, with krpc and without


class Side(enum.StrEnum):
    """How requests travel; for files on storage nodes, who receives what the node sends."""

    DEV = 'dev'
    NOSPLICE = 'nosplice'
    RING = 'ring'
    # Others' servers of one image, which know /dev/fuse only
    QSD = 'qsd'
    NBDFUSE = 'nbdfuse'
    # krpcfs: the kernel, into the pages of the read or into the server's memory; or the server itself
    ZC = 'zc'
    UMEM = 'umem'
    SOCKET = 'socket'

    @property
    def label(self) -> str:
        names = {
            'dev': 'device',
            'nosplice': 'device, no splice',
            'qsd': 'qemu-storage-daemon',
            'zc': 'krpc zero-copy',
            'umem': 'krpc into memory',
            'socket': 'ordinary server',
        }
        return names.get(self.value, self.value)

    @property
    def is_peer(self) -> bool:
        return self in (Side.QSD, Side.NBDFUSE)

    @property
    def has_node(self) -> bool:
        """The file is on a storage node."""
        return self in (Side.ZC, Side.UMEM, Side.SOCKET)

    @property
    def needs_krpc(self) -> bool:
        return self in (Side.ZC, Side.UMEM)


class Load(enum.StrEnum):
    """The program that makes the load."""

    FSLOAD = 'fsload'
    FIO = 'fio'


@dataclass(frozen=True)
class Goal:
    """A limit for the row's own figure (`a`) or for its ratio to the other side's."""

    limit: float
    figure: str = 'a'  # or ratio
    at_least: bool = False
    # Two kernels or servers side by side: what differs by less than the noise is not worse.
    within_spread: bool = False

    @property
    def text(self) -> str:
        sign = '≥' if self.at_least else '≤'
        noise = ' (± spread)' if self.within_spread else ''
        return f'{"" if self.figure == "a" else "ratio "}{sign} {self.limit:g}{noise}'

    def met(self, a: float, ratio: float, spread: float) -> bool:
        value = a if self.figure == 'a' else ratio
        slack = spread / 2 if self.within_spread else 0.0
        return value >= self.limit - slack if self.at_least else value <= self.limit + slack


@dataclass(frozen=True)
class Workload:
    """One row."""

    measure: Measure
    name: str
    title: str
    load: Load
    words: tuple[str, ...]  # of the load's command line; {mountpoint} is the mount
    files: tuple[tuple[str, int], ...]  # prepared in the source: name and bytes
    buffered: bool  # through the page cache
    bandwidth: bool  # bytes count, not operations (throughput only)
    requests: float  # FUSE requests that an operation needs at the very least: for the proof
    goal: Goal
    # The ring against the same of another kernel or server
    beside: Goal
    # Several others: which sides `own` is compared with, and its goal there, if any
    against: tuple[tuple[Side, Goal | None], ...] = ()
    own: Side = Side.RING
    # Files on a storage node: bytes that an operation reads from there; the requests come over /dev/fuse
    payload: int = 0
    by_device: bool = False
    # Many requests are under way at once: mirrorfs's ring gets entries for them
    deep: bool = False

    @property
    def key(self) -> str:
        return f'{self.measure}/{self.name}'

    @property
    def sides(self) -> tuple[Side, ...]:
        if self.against:
            return (*(side for side, _ in self.against), self.own)
        if self.measure is Measure.COST:
            return (Side.DEV, Side.NOSPLICE, Side.RING)
        return (Side.DEV, Side.RING)

    def over_ring(self, side: Side) -> bool:
        """How the requests of this side travel."""
        return side is Side.RING or (side.has_node and not self.by_device)

    @property
    def unit(self) -> str:
        if self.measure is Measure.COST:
            return 'thousands of instructions per operation'
        return 'MB/s' if self.bandwidth else 'operations/s'

    @property
    def definition(self) -> str:
        """Figures of one row are comparable while this stays the same."""
        files = ' '.join(f'{name}:{size}' for name, size in self.files)
        return f'{self.load} {" ".join(self.words)}; files {files}'


# --- measure one: deterministic cost ---------------------------------------------------------------

_NOT_MORE = Goal(1.0, 'ratio', within_spread=True)
_LESS = Goal(0.99, 'ratio')


def _cost(
    name: str, title: str, words: str, goal: Goal,
    *, mib: int = 0, requests: float = 1.0, buffered: bool = False, deep: bool = False,
) -> Workload:  # fmt: skip
    return Workload(
        Measure.COST,
        name,
        title,
        Load.FSLOAD,
        tuple(words.split()),
        (('data', mib * MIB),) if mib else (),
        buffered,
        False,
        requests,
        goal,
        _LESS if deep else _NOT_MORE,
        deep=deep,
    )


_DATA = '{mountpoint}/data'

COSTS = (
    _cost('randread-4k', '4 KiB random read, direct, QD1',
          f'randread --size=4096 --count=4000 --direct {_DATA}', Goal(18), mib=64),
    _cost('randwrite-4k', '4 KiB random write, direct, QD1',
          f'randwrite --size=4096 --count=4000 --direct {_DATA}', Goal(19), mib=64),
    _cost('randread-4k-qd32', '4 KiB random read, direct, QD32, per request',
          f'randread --size=4096 --count=8000 --depth=32 --direct {_DATA}', Goal(15), mib=64, deep=True),
    _cost('read-1m', '1 MiB sequential read, direct',
          f'read --size=1048576 --count=60 --direct {_DATA}', Goal(1900), mib=64),
    _cost('write-1m', '1 MiB sequential write, direct',
          f'write --size=1048576 --count=60 --direct {_DATA}', Goal(1850), mib=64),
    # Read once: the second time it would come from the page cache. Read-ahead joins operations.
    _cost('read-128k-buffered', '128 KiB sequential read, buffered',
          f'read --size=131072 --count=300 {_DATA}', Goal(400), mib=64, requests=1 / 16, buffered=True),
    _cost('meta', 'create + stat + unlink of a small file',
          'meta --count=800 {mountpoint}', Goal(0.75, 'ratio'), requests=3.0),
)  # fmt: skip


# --- measure two: parallel throughput --------------------------------------------------------------

_NOT_SLOWER = Goal(1.0, 'ratio', at_least=True, within_spread=True)
_FASTER = Goal(1.01, 'ratio', at_least=True)
_SECONDS = 3  # of a random load
_FIO = (
    '--output-format=json --group_reporting --name=bench --directory={mountpoint} '
    '--filename_format=data.$jobnum --overwrite=1 --randrepeat=1 --norandommap'
)


def _fio(
    measure: Measure, name: str, title: str, words: str, goal: float,
    *, jobs: int, mib: int, requests: float = 1.0, buffered: bool = False, deep: bool = False,
) -> Workload:  # fmt: skip
    return Workload(
        measure,
        name,
        title,
        Load.FIO,
        tuple(f'{_FIO} --numjobs={jobs} --size={mib}m {words}'.split()),
        tuple((f'data.{number}', mib * MIB) for number in range(jobs)),
        buffered,
        buffered,
        requests,
        Goal(goal, 'ratio', at_least=True),
        _FASTER if deep else _NOT_SLOWER,
        deep=deep,
    )


def _parallel(measure: Measure) -> tuple[Workload, ...]:
    # A machine is about ten times faster than an emulated one, and so needs more to do.
    scale = 8 if measure is Measure.NATIVE else 1
    random = f'--direct=1 --bs=4k --time_based --runtime={_SECONDS} --ramp_time=1'
    # --invalidate: what preparing or an earlier run left in the page cache does not count
    whole = '--direct=0 --bs=128k --ioengine=psync --invalidate=1'
    rows = [
        _fio(measure, f'randread-4k-qd{depth}', f'4 KiB random read, direct, 1 job, QD{depth}',
             f'--rw=randread {random} --ioengine=libaio --iodepth={depth}', 1.6, jobs=1, mib=64, deep=True)
        for depth in (32, 64)
    ]  # fmt: skip
    rows.append(
        _fio(measure, 'randwrite-4k-4jobs', '4 KiB random write, direct, 4 jobs',
             f'--rw=randwrite {random} --ioengine=psync', 1.4, jobs=4, mib=16)
    )  # fmt: skip
    for kind in ('read', 'write'):
        for jobs, who in ((1, '1 job'), (8, '8 jobs')):
            rows.append(
                _fio(measure, f'{kind}-buffered-{jobs}', f'sequential {kind}, buffered, {who}',
                     f'--rw={kind} {whole}', 1.2, jobs=jobs, mib=192 * scale // jobs,
                     requests=1 / 16 if kind == 'read' else 1 / 8, buffered=True)
            )  # fmt: skip
    rows.append(
        Workload(
            measure,
            'meta-4',
            'create + stat + unlink, 4 processes',
            Load.FSLOAD,
            ('meta', f'--count={300 * scale}', '--jobs=4', '{mountpoint}'),
            (),
            False,
            False,
            3.0,
            Goal(1.5, 'ratio', at_least=True),
            _NOT_SLOWER,
        )
    )
    return tuple(rows)


THROUGHPUTS = _parallel(Measure.THROUGHPUT)
NATIVES = _parallel(Measure.NATIVE)


# --- an exported image: blockfs beside its peers ---------------------------------------------------

_IMAGE = 'image'
_IMAGE_MIB = 64
# How fio says it, and requests of an operation at least where the page cache answers what was read before
_MIXES = (('mix', '70/30 mix', 'randrw --rwmixread=70', 0.25), ('read', 'random read', 'randread', 0.02),
          ('write', 'random write', 'randwrite', 1.0))  # fmt: skip


def _export(measure: Measure, mix: tuple[str, str, str, float], direct: bool, jobs: int, depth: int) -> Workload:
    name, title, rw, requests = mix
    way = 'direct' if direct else 'buffered'
    # io_submit waits for what is not direct: only io_uring's workers have many of those under way
    engine = 'libaio' if direct else 'psync' if depth == 1 else 'io_uring'
    words = (
        f'--output-format=json --group_reporting --name=bench --filename={{mountpoint}} --size={_IMAGE_MIB}m '
        f'--numjobs={jobs} --rw={rw} --bs=4k --direct={int(direct)} --ioengine={engine} --iodepth={depth} '
        '--randrepeat=1 --norandommap --gtod_reduce=1 --time_based --runtime=2 --ramp_time=500ms'
    )
    device = Goal(1.6, 'ratio', at_least=True) if depth > 1 else None
    goal = Goal(1.5, 'ratio', at_least=True)
    return Workload(
        measure,
        f'{"" if measure is Measure.EXPORT else "export-"}{name}-{way}-{jobs}x{depth}',
        f'{title}, {way}, {jobs} {"job" if jobs == 1 else "jobs"}, QD{depth}',
        Load.FIO,
        tuple(words.split()),
        ((_IMAGE, _IMAGE_MIB * MIB),),
        not direct,
        False,
        1.0 if direct else requests,
        goal,
        _NOT_SLOWER,
        ((Side.DEV, device), (Side.QSD, goal), (Side.NBDFUSE, Goal(2.0, 'ratio', at_least=True))),
    )


def _exports(measure: Measure) -> tuple[Workload, ...]:
    return tuple(
        _export(measure, mix, direct, jobs, depth)
        for direct in (True, False)
        for mix in _MIXES
        for jobs in (1, 4)
        for depth in (1, 64)
    )


def _export_cost(kind: str, title: str, depth: int) -> Workload:
    """What an operation on an exported image costs: repeats on a busy machine, too."""
    words = f'{kind} --size=4096 --count=4000 --depth={depth} --direct {{mountpoint}}'
    # as of throughput: 1.6, 1.5 and 2 times as cheap
    device = Goal(0.625, 'ratio') if depth > 1 else None
    return Workload(
        Measure.COST,
        f'export-{kind}-qd{depth}',
        f'exported image, {title}, QD{depth}',
        Load.FSLOAD,
        tuple(words.split()),
        ((_IMAGE, _IMAGE_MIB * MIB),),
        False,
        False,
        1.0,
        Goal(1.0, 'ratio'),
        _NOT_MORE,
        ((Side.DEV, device), (Side.QSD, Goal(0.67, 'ratio')), (Side.NBDFUSE, Goal(0.5, 'ratio'))),
    )


EXPORT_COSTS = tuple(
    _export_cost(kind, title, depth)
    for kind, title in (('randread', '4 KiB random read'), ('randwrite', '4 KiB random write'))
    for depth in (1, 64)
)
EXPORTS = _exports(Measure.EXPORT)
NATIVE_EXPORTS = _exports(Measure.NATIVE)


# --- files on a storage node: krpc beside an ordinary server ---------------------------------------

# What is read, as the kinds of fsload have it, and how often when it is counted and when it is timed.
_READS = (
    ('read-1m', '1 MiB sequential read', 'read', MIB, 1, (60, 160)),
    ('read-128k', '128 KiB sequential read', 'read', MIB // 8, 1, (300, 1000)),
    ('randread-4k', '4 KiB random read', 'randread', 4096, 1, (4000, 3000)),
    ('randread-4k-qd32', '4 KiB random read, QD32', 'randread', 4096, 32, (8000, 8000)),
)


def _krpc(
    measure: Measure, read: tuple[str, str, str, int, int, tuple[int, int]], goal: Goal | None, by_device: bool = False
) -> Workload:
    name, title, kind, size, depth, (counted, timed) = read
    counting = measure is Measure.COST
    words = f'{kind} --size={size} --count={counted if counting else timed} --depth={depth} --direct {_DATA}'
    return Workload(
        measure,
        f'{"krpc-" if counting else ""}{name}{"-dev" if by_device else ""}',
        f'node, {title}, {"device" if by_device else "ring"}',
        Load.FSLOAD,
        tuple(words.split()),
        (('data', 64 * MIB),),
        False,
        kind == 'read' and not counting,
        1.0,
        goal or Goal(1.0, 'ratio', at_least=not counting),
        _NOT_MORE if counting else _NOT_SLOWER,
        ((Side.UMEM, None), (Side.SOCKET, goal)),
        Side.ZC,
        size,
        by_device,
    )


def _krpc_goal(size: int, counting: bool) -> Goal | None:
    """For zero-copy beside the ordinary server. What an operation costs is to be as much less as more get through."""
    if size == 4096:
        return Goal(0.833, 'ratio') if counting else Goal(1.2, 'ratio', at_least=True)
    if counting:
        return Goal(0.5, 'ratio')
    return Goal(2.0, 'ratio', at_least=True) if size == MIB else None


KRPC_COSTS = tuple(
    _krpc(Measure.COST, read, _krpc_goal(read[3], True), by_device) for by_device in (False, True) for read in _READS
)
KRPCS = tuple(_krpc(Measure.KRPC, read, _krpc_goal(read[3], False)) for read in _READS)
# A word that is no measure's alone
_WORDS = {'krpc': ('cost/krpc-*', 'krpc/*')}


def select(patterns: Sequence[str], native: bool = False) -> tuple[Workload, ...]:
    """Rows by pattern (none: mirrorfs's alone). UsageError for a pattern that fits none.

    A pattern without a slash is a measure; krpc is that and its costs.
    """
    patterns = [
        whole
        for pattern in patterns
        for whole in ((pattern,) if '/' in pattern else _WORDS.get(pattern, (f'{pattern}/*',)))
    ]
    rows = (*COSTS, *THROUGHPUTS, *(NATIVES if native else ()))
    if patterns:
        rows += (*EXPORT_COSTS, *KRPC_COSTS, *EXPORTS, *KRPCS, *(NATIVE_EXPORTS if native else ()))
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(row.key, pattern) for row in rows):
            hint = 'there are ' + ' '.join(row.key for row in rows)
            if any(fnmatch.fnmatchcase(row.key, pattern) for row in (*NATIVES, *NATIVE_EXPORTS)):
                hint = 'rows of native/ need NATIVE=1 (--native)'
            raise UsageError(f'no row fits {pattern}', hint=hint)
    return tuple(
        row for row in rows if not patterns or any(fnmatch.fnmatchcase(row.key, pattern) for pattern in patterns)
    )
