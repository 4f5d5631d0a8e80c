# SPDX-License-Identifier: GPL-2.0-only
"""Console log -> events: what the kernel complained about, and during which check.

A pure, incremental parser: bytes go in as they come from the guest, events come out. It knows
nothing of QEMU, pexpect or files, so that a recorded log gives the same events as a live one.
Memory is bounded whatever comes in: a guest can print gigabytes.
"""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_LINE = 2048  # longer lines are cut: binary junk has no newlines
MAX_TRACE = 220  # lines kept of one report; an all-CPU backtrace is longer, its head is enough
MAX_OPEN = 16  # reports collected at the same time; more CPUs than that do not fail at once
MAX_SAME = 20  # events passed on per fingerprint; a WARN in a loop must not fill the memory
MAX_FINGERPRINTS = 1000
QUIET_LINES = 6  # this many lines that belong to no report end one


class Kind(enum.StrEnum):
    """What a report is. The value is what users read."""

    OOPS = 'oops'
    BUG = 'BUG'
    WARN = 'WARN'
    KASAN = 'KASAN'
    KCSAN = 'KCSAN'
    UBSAN = 'UBSAN'
    LOCKDEP = 'lockdep'
    HUNG_TASK = 'hung task'
    RCU_STALL = 'RCU stall'
    SOFT_LOCKUP = 'soft lockup'
    HARD_LOCKUP = 'hard lockup'
    WORKQUEUE = 'workqueue stall'
    LIST = 'list corruption'
    REFCOUNT = 'refcount'
    SLAB = 'slab corruption'
    BAD_PAGE = 'bad page'
    LEAK = 'leak'
    PANIC = 'panic'
    REBOOT = 'silent reboot'
    GONE = 'guest gone'


# After one of these the guest's kernel cannot be trusted any more: the next check gets a fresh one.
FATAL = frozenset(
    {
        Kind.OOPS,
        Kind.BUG,
        Kind.KASAN,
        Kind.HUNG_TASK,
        Kind.RCU_STALL,
        Kind.SOFT_LOCKUP,
        Kind.HARD_LOCKUP,
        Kind.LIST,
        Kind.REFCOUNT,
        Kind.SLAB,
        Kind.BAD_PAGE,
        Kind.PANIC,
        Kind.REBOOT,
        Kind.GONE,
    }
)


@dataclass(frozen=True)
class Event:
    """One report of the guest's kernel, or its end."""

    kind: Kind
    line: str  # the line that gave it its kind, without prefixes
    trace: tuple[str, ...]  # every line of the report, without prefixes
    start: int  # byte offsets into the log
    end: int
    fingerprint: str  # the same for the same fault at another time, address or process
    check: str = ''  # AREA/NNN that was running; empty during boot
    section: str = ''
    after: bool = False  # the check had ended, and no other had begun
    truncated: bool = False  # the log ended inside the report
    time: float | None = None  # kernel's clock, seconds


# First match wins: special before general. Anchored where user space prints alike
# ("traps: prog[1] general protection fault ip:..."), searched for anywhere else, because two
# CPUs may share a line.
_STARTS: tuple[tuple[Kind, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (Kind.PANIC, r'Kernel panic - not syncing'),
        (Kind.KASAN, r'BUG: (?:KASAN|KMSAN|KFENCE): '),
        (Kind.KCSAN, r'BUG: KCSAN: '),
        (Kind.UBSAN, r'UBSAN: '),
        (Kind.SOFT_LOCKUP, r'BUG: soft lockup - CPU'),
        (Kind.HARD_LOCKUP, r'Watchdog detected hard LOCKUP'),
        (Kind.WORKQUEUE, r'BUG: workqueue lockup'),
        (Kind.HUNG_TASK, r'INFO: task .{1,80} blocked (?:in I/O wait |on an? .{1,40} )?for more than \d+ sec'),
        (Kind.RCU_STALL, r'(?:rcu: )?INFO: (?:rcu_\w+ )?(?:self-)?detected (?:expedited )?stall'),
        (Kind.RCU_STALL, r'INFO: rcu_\w+ (?:self-)?detected (?:expedited )?stall'),
        (Kind.LOCKDEP, r'WARNING: possible (?:circular|recursive|irq) lock'),
        (Kind.LOCKDEP, r'WARNING: inconsistent lock state'),
        (Kind.LOCKDEP, r'WARNING: \S+-safe -> \S+-unsafe lock order detected'),
        (Kind.LOCKDEP, r'WARNING: (?:bad unlock balance|bad contention|held lock freed|suspicious RCU usage)'),
        (Kind.LOCKDEP, r'WARNING: (?:lock held when returning to user space|[Nn]ested lock was not taken)'),
        (Kind.LOCKDEP, r'WARNING: .{0,60}still has locks held'),
        (Kind.LOCKDEP, r'BUG: (?:Invalid wait context|.{0,60}still has locks held|MAX_LOCK)'),
        (Kind.LOCKDEP, r'INFO: (?:possible recursive locking|trying to register non-static key)'),
        (Kind.LIST, r'(?:list_add|list_del|slab|hlist_\w{1,40}) corruption\b'),
        (Kind.LIST, r'corrupted list in '),
        (Kind.REFCOUNT, r'refcount_t: '),
        (Kind.BAD_PAGE, r'BUG: Bad (?:page|rss-counter)'),
        (Kind.LEAK, r'kmemleak: \d+ new suspected memory leaks'),
        (Kind.LEAK, r'BUG \S+ .{0,40}: Objects remaining'),
        (Kind.LEAK, r'Slab cache still has objects'),
        (Kind.LEAK, r'VFS: Busy inodes after unmount'),
        (Kind.SLAB, r'^BUG [\w:.-]+ (?:\(.{1,80}\))?\s*: '),
        (Kind.BUG, r'kernel BUG at '),
        (Kind.OOPS, r'BUG: (?:unable to handle|kernel NULL pointer|stack guard page)'),
        (Kind.OOPS, r'^(?:Oops: |Oops - |general protection fault|double fault|stack segment: |divide error: )'),
        (Kind.OOPS, r'^(?:invalid opcode: |int3: |traps: PANIC: |PANIC: double fault|Unable to handle kernel )'),
        (Kind.BUG, r'^BUG: '),
        (Kind.BUG, r'BUG: (?:sleeping function called|scheduling while atomic)'),
        (Kind.WARN, r'^WARNING: '),
    )
)

# A start line that goes on with a report already open: second line of the same complaint.
_CONTINUES: dict[Kind, frozenset[Kind]] = {
    Kind.OOPS: frozenset({Kind.OOPS, Kind.BUG, Kind.LIST, Kind.SLAB, Kind.HARD_LOCKUP}),
    Kind.BUG: frozenset({Kind.BUG, Kind.LIST, Kind.SLAB, Kind.REFCOUNT}),
    Kind.WARN: frozenset({Kind.LIST, Kind.REFCOUNT, Kind.LEAK, Kind.HARD_LOCKUP, Kind.WORKQUEUE}),
    Kind.LIST: frozenset({Kind.LIST}),
    Kind.KASAN: frozenset({Kind.LIST}),
    Kind.REFCOUNT: frozenset({Kind.REFCOUNT}),
    Kind.RCU_STALL: frozenset({Kind.RCU_STALL}),
    Kind.LEAK: frozenset({Kind.LEAK}),
    Kind.LOCKDEP: frozenset({Kind.LOCKDEP}),
}

_PREFIX = re.compile(
    r'^(?:<\d+>|\s*\[\s*(?P<time>\d+\.\d{3,9})\]|\s*\[\s*(?P<caller>[TC]\d+)[^\]]{0,40}\]| (?=\[))+\s?'
)
# A second line that began inside this one, when two CPUs wrote at once.
_INNER = re.compile(r'(?<=\S)(?=\[\s{0,5}\d{1,9}\.\d{6}\](?:\[\s*[TC]\d+\])?\s)')
_ANSI = re.compile(rb'\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])')
_MARK = re.compile(r'fuse-lab: check (\S+) section (\S+) (begin|end)\b')
_BANNER = re.compile(r'^Linux version \d+\.\d+')
# Bounded: a search for a name of any length takes quadratic time in junk.
_FRAME = re.compile(r'(\?\s{1,8})?\b([A-Za-z_][\w.$]{0,150})\+0x[0-9a-f]{1,16}/0x[0-9a-f]{1,16}')
_CUT = '[ cut here ]'
_RULE = re.compile(r'^={20,}$')
_ENDS = re.compile(r'---\[ end (?:trace|Kernel panic)|^\s*</TASK>$|^={20,}$')
_BODY = re.compile(
    r'^\s*$|\+0x[0-9a-f]+/0x|^(?:RIP|RSP|R[A-Z0-9]{2}|E?FLAGS|CR2|CS|FS|CPU|PID|Code|Call Trace|Modules linked in'
    r'|Hardware name|Workqueue|Tainted|Sending NMI|NMI backtrace|Showing all locks|Preemption|Future hung'
    r'|Read of size|Write of size|The buggy|Memory state|Allocated by|Freed by|page|flags|raw|head|which '
    r'|but task|other info|the existing|lock|stack backtrace|irq event|hardirqs|softirqs|Reported by|value changed'
    r'|read to|write to|index|shift exponent|load of|signed integer|Object|Slab|Redzone|Padding|FIX|INFO: )'
    r'|^\s*(?:[#>]|<(?:/?TASK|/?IRQ|/?NMI|/?SOFTIRQ)>|->|\.\.\.|\d+ lock)|^\s*(?:ffff|[0-9a-f]{8})|^task:|^rcu:|^Oops'
    r'|^ [^ ]|^Modules|^\(detected|^"echo 0|^Not tainted|^CONFIG|^Call|^DR|^PKRU|^note:|^Kernel (?:Offset|panic)'
)
# Frames of the reporting itself say nothing about the fault.
_MACHINERY = re.compile(
    r'^(?:dump_stack|show_stack|print_|kasan_|__asan_|__kasan|__warn|report_bug|handle_bug|exc_|asm_|__ubsan|ubsan_'
    r'|kcsan_|__tsan|check_noncircular|__lock_acquire|lock_acquire|lockdep|nmi_|sched_show|rcu_|watchdog|panic'
    r'|__die|die|oops|page_fault|do_trap|do_error|no_context|ret_from_fork|__schedule|schedule|context_switch)'
)


def frames(trace: tuple[str, ...] | list[str]) -> Iterator[str]:
    """Function names of a call trace, innermost first, unreliable entries left out."""
    for line in trace:
        match = _FRAME.search(line)
        if match and not match.group(1):
            yield match.group(2)


def fingerprint(kind: Kind, line: str, trace: tuple[str, ...] | list[str]) -> str:
    """Name of a fault that survives other addresses, times, processes and CPUs."""
    names: list[str] = []
    for name in frames(trace):
        # gcc's clones (.isra.0, .cold) come and go with unrelated changes
        plain = name.split('.', 1)[0]
        if not _MACHINERY.match(plain) and (not names or names[-1] != plain):
            names.append(plain)
    if names:
        key = [str(kind), *names[:8]]
    else:
        words = re.sub(r'0x[0-9a-f]+|\b[0-9a-f]{8,}\b', 'H', line)
        key = [str(kind), re.sub(r'\d+', 'N', words)]
    return hashlib.sha256('\n'.join(key).encode()).hexdigest()[:12]


@dataclass
class _Report:
    """A report that is still being printed."""

    kind: Kind
    line: str
    caller: str
    start: int
    end: int
    check: str
    section: str
    after: bool
    time: float | None
    trace: list[str] = field(default_factory=list)
    quiet: int = 0
    traced: bool = False
    ended: bool = False  # an end mark was seen; what follows at once may still belong to it


class Parser:
    """Feed it the console's bytes; close() it when no more will come."""

    def __init__(self) -> None:
        self.offset = 0  # bytes taken in so far
        self.banners = 0  # kernels that started to boot
        self.check = ''
        self.section = ''
        self.running = False
        self.ended: tuple[str, str] = ('', '')  # last check whose end mark was seen
        self.suppressed = 0  # events not passed on, because there were too many of the same
        self.last_line = ''
        self._partial = b''
        self._dropping = False
        self._line_start = 0
        self._open: list[_Report] = []
        self._pending: dict[str, tuple[int, list[str]]] = {}  # caller -> lines since a "cut here"
        self._seen: dict[str, int] = {}

    @property
    def open_kinds(self) -> tuple[Kind, ...]:
        """Reports begun but not yet complete: enough to act on."""
        return tuple(report.kind for report in self._open)

    def feed(self, data: bytes) -> list[Event]:
        """Take in the next bytes; give the events completed by them."""
        events: list[Event] = []
        position = 0
        while True:
            newline = data.find(b'\n', position)
            piece = data[position:] if newline < 0 else data[position:newline]
            if not self._dropping:
                self._partial += piece[: MAX_LINE + 1 - len(self._partial)]
                self._dropping = len(self._partial) > MAX_LINE
            if newline < 0:
                self.offset += len(data) - position
                return events
            self.offset += newline + 1 - position
            events += self._raw_line(self._partial[:MAX_LINE], self.offset)
            self._partial, self._dropping = b'', False
            self._line_start = self.offset
            position = newline + 1

    def check_over(self) -> None:
        """The running check has ended, with or without its mark on the console."""
        self.running = False

    def flush(self) -> list[Event]:
        """Complete what is open: the console has been silent, or a decision is due."""
        reports, self._open = self._open, []
        return [event for report in reports for event in self._emit(report, truncated=False)]

    def close(self, reason: Kind | None = None, line: str = '') -> list[Event]:
        """The log ends here. reason says what ended it, when that was not asked for."""
        events: list[Event] = []
        if self._partial:
            events += self._raw_line(self._partial[:MAX_LINE], self.offset)
            self._partial = b''
        for caller, (start, lines) in list(self._pending.items()):
            if any(_CUT in text for text in lines):
                # Only WARN and BUG print this line; the rest was lost.
                report = self._report(Kind.WARN, lines[-1], caller, start, self.offset, None)
                report.trace = lines
                self._open.append(report)
        self._pending.clear()
        reports, self._open = self._open, []
        for report in reports:
            # A leak is one line, all others end with a trace.
            events += self._emit(report, truncated=not report.ended and report.kind is not Kind.LEAK)
        if reason is not None:
            report = self._report(reason, line or str(reason), '', self.offset, self.offset, None)
            report.trace = [line or str(reason)]
            events += self._emit(report, truncated=False)
        return events

    def _raw_line(self, raw: bytes, end: int) -> list[Event]:
        text = _ANSI.sub(b'', raw).replace(b'\0', b'').decode('utf-8', 'replace')
        # A bare CR makes the terminal write over the line; the kernel never means that.
        events: list[Event] = []
        for piece in re.split(r'\r+', text):
            for inner in _INNER.split(piece):
                line = ''.join(c for c in inner if c.isprintable() or c in '\t ').rstrip()
                if line:
                    events += self._line(line, end)
        return events

    def _line(self, line: str, end: int) -> list[Event]:
        match = _PREFIX.match(line)
        text = line[match.end() :] if match else line
        caller = (match.group('caller') or '') if match else ''
        time = float(match.group('time')) if match and match.group('time') else None
        self.last_line = text

        mark = _MARK.search(text)
        if mark:
            return self._marker(mark.group(1), mark.group(2), mark.group(3))
        if _BANNER.match(text):
            return self._banner(text, end, time)

        kind = next((kind for kind, pattern in _STARTS if pattern.search(text)), None)
        if kind is not None:
            report = self._continued(kind, caller)
            if report is None:
                return self._begin(kind, text, caller, end, time)
            self._append(report, text, end)
            return []
        if _CUT in text or _RULE.match(text):
            return self._rule(text, caller, end)
        return self._ordinary(text, caller, end)

    def _rule(self, text: str, caller: str, end: int) -> list[Event]:
        """`cut here`, or a line of equals signs: ends one report or begins the next."""
        events: list[Event] = []
        for report in [r for r in self._open if r.caller == caller and r.ended]:
            events += self._finish(report)
        closing = next((r for r in self._open if r.caller == caller and r.traced), None)
        if closing is not None and _CUT not in text:
            self._append(closing, text, end)
            closing.ended = True
            return events
        # What it begins is known only from the lines that follow.
        self._pending[caller] = (self._line_start, [text])
        if len(self._pending) > MAX_OPEN:
            self._pending.pop(next(iter(self._pending)))
        return events

    def _ordinary(self, text: str, caller: str, end: int) -> list[Event]:
        """A line that begins nothing: part of an open report, or the sign that it is complete."""
        events: list[Event] = []
        if caller in self._pending:
            pending = self._pending[caller][1]
            pending.append(text)
            if len(pending) > 8:
                del self._pending[caller]
        owner = next((r for r in reversed(self._open) if r.caller == caller), None)
        if owner is None and self._open and not caller:
            owner = self._open[-1]
        if not self._open:
            return events
        inside = bool(_BODY.search(text))
        if owner is not None:
            events += self._body(owner, text, end, inside)
        for report in [r for r in self._open if r is not owner]:
            # Others are not waited for without end.
            report.quiet += not inside
            if report.quiet > 20 * QUIET_LINES:
                events += self._finish(report)
        return events

    def _body(self, report: _Report, text: str, end: int, inside: bool) -> list[Event]:
        report.quiet = 0 if inside else report.quiet + 1
        if report.ended and not inside:
            return self._finish(report)
        if report.quiet > (QUIET_LINES if report.traced else 3 * QUIET_LINES):
            return self._finish(report)
        self._append(report, text, end)
        report.traced = report.traced or bool(_FRAME.search(text))
        if _ENDS.search(text):
            report.ended = True
            if '---[ end trace' in text:
                return self._finish(report)
        return []

    def _append(self, report: _Report, text: str, end: int) -> None:
        report.end = end
        if len(report.trace) < MAX_TRACE:
            report.trace.append(text)

    def _continued(self, kind: Kind, caller: str) -> _Report | None:
        for report in reversed(self._open):
            if report.caller == caller and not report.ended and report.kind in _CONTINUES.get(kind, ()):
                return report
        return None

    def _begin(self, kind: Kind, text: str, caller: str, end: int, time: float | None) -> list[Event]:
        events: list[Event] = []
        # One context prints one report at a time, so the one before it is complete.
        for report in [r for r in self._open if caller and r.caller == caller]:
            events += self._finish(report)
        start, before = self._pending.pop(caller, (self._line_start, []))
        report = self._report(kind, text, caller, start, end, time)
        report.trace = [*before, text]
        self._open.append(report)
        if len(self._open) > MAX_OPEN:
            events += self._finish(self._open[0])
        return events

    def _marker(self, check: str, section: str, what: str) -> list[Event]:
        events: list[Event] = []
        if what == 'begin':
            if self.running:
                # A check may run the runner itself; what happens then is still its own affair.
                return events
            # Reports of the check before are complete when another begins.
            events = self.flush()
            self.check, self.section, self.running = check, section, True
        elif (check, section) == (self.check, self.section):
            self.running = False
            self.ended = (check, section)
        return events

    def _banner(self, text: str, end: int, time: float | None) -> list[Event]:
        self.banners += 1
        if self.banners == 1:
            return []
        events = self.flush()
        report = self._report(Kind.REBOOT, text, '', self._line_start, end, time)
        report.trace = [text]
        self._pending.clear()
        return events + self._emit(report, truncated=False)

    def _report(self, kind: Kind, line: str, caller: str, start: int, end: int, time: float | None) -> _Report:
        after = bool(self.check) and not self.running
        return _Report(kind, line, caller, start, end, self.check, self.section, after, time)

    def _finish(self, report: _Report) -> list[Event]:
        self._open.remove(report)
        return self._emit(report, truncated=False)

    def _emit(self, report: _Report, *, truncated: bool) -> list[Event]:
        name = fingerprint(report.kind, report.line, report.trace)
        key = f'{name} {report.check} {report.section}'
        if key not in self._seen and len(self._seen) >= MAX_FINGERPRINTS:
            self._seen.pop(next(iter(self._seen)))
        count = self._seen[key] = self._seen.get(key, 0) + 1
        if count > MAX_SAME:
            self.suppressed += 1
            return []
        return [
            Event(
                report.kind,
                report.line,
                tuple(report.trace),
                report.start,
                report.end,
                name,
                report.check,
                report.section,
                report.after,
                truncated,
                report.time,
            )
        ]


def parse(data: bytes) -> list[Event]:
    """Events of a whole recorded log."""
    parser = Parser()
    return parser.feed(data) + parser.close()
