"""Finds in a kernel log what must not be there, and says which part of the log belongs to which request.

The guest notes the begin and the end of every request in its kernel log (tests/guest/src/serve.rs), so the log alone
tells after which test a warning came. The patterns are anchored to the beginning of a message where the word also
occurs in harmless ones (the CPU vulnerability messages say "WARNING:" in mid-sentence).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# "[    1.234567] ", with "[T1] " or "[   T12]" behind it where the kernel names the caller.
_STAMP = re.compile(r"^(?:<\d+>)?\[\s*\d+\.\d+\]\s?(?:\[\s*[TC]\d+\]\s?)?")

_BAD_MESSAGES = re.compile(
    r"""
      ^(?:BUG:|BUG\ \S+\ \(|WARNING:|Oops|UBSAN:|KASAN:|KCSAN:)
    | ^general\ protection\ fault
    | ^Kernel\ panic
    | ^kernel\ BUG\ at
    | ^Unable\ to\ handle\ kernel
    | possible\ circular\ locking | possible\ recursive\ locking | inconsistent\ lock\ state
    | INFO:\ task\ .*\ blocked\ for\ more\ than | INFO:\ task\ hung
    | INFO:\ trying\ to\ register\ non-static\ key
    | INFO:\ lockdep\ is\ turned\ off | turning\ off\ the\ locking\ correctness\ validator
    | sleeping\ function\ called
    | INFO:\ rcu_\w+\ .*\bstalls?\b
    | soft\ lockup | hard\ LOCKUP
    | kmemleak:\ \d+\ new\ suspected | kmemleak:\ (?:Cannot\ |Memory\ pool\ empty)
    | rust_kernel:\ panicked
    | refcount_t: | list_(?:add|del)\ corruption | stack-protector:
    | Objects\ remaining\ in | Slab\ cache\ still\ has\ objects
    | Out\ of\ memory:\ Killed | oom-kill:
    | segfault\ at
    # A device that fails, or was switched off by the test, can leave no other end.
    | ^cairnfs:\ .*:\ not\ unmounted\ cleanly,\ the\ next\ mount\ recovers:\ (?!input/output\ error)
    """,
    re.VERBOSE,
)

_POWER_DOWN = "reboot: Power down"
_END = re.compile(r"^cairnfs-guest: end (\d+)$")
# What the kernel says of a task that ends, and of one that lives when all are listed (sysrq t).
_STACK_LEFT = re.compile(r"used greatest stack depth: (\d+) bytes left|\bstack:(\d+) +pid:")


# Where a guest keeps the log of a boot that the emulator broke and that was repeated.
BROKEN_BOOT_SUFFIX = ".broken.log"


def kept_log(folder: Path, process: int, number: int) -> Path:
    """Where the log of a guest that is the process's own is kept."""
    return folder / f"console-{process}-{number}.log"


def logs_in(folder: Path, process: int | None = None) -> list[Path]:
    """The kept logs of guests in a folder, or of one process, but for those of boots that were repeated: they prove nothing."""
    logs = folder.glob("console-*.log" if process is None else f"console-{process}-*.log")
    return [path for path in sorted(logs) if not path.name.endswith(BROKEN_BOOT_SUFFIX)]


def message_of(line: str) -> str:
    """A line of the log without its time stamp."""
    return _STAMP.sub("", line.rstrip("\r\n"))


@dataclass(frozen=True)
class Finding:
    """A message that must not be there, and the lines after it."""

    line_number: int
    message: str
    context: tuple[str, ...]


def find_splats(lines: list[str], expected: re.Pattern[str] | None = None, context_lines: int = 40) -> list[Finding]:
    """The bad messages in `lines`, but for those that match `expected`. One report has several bad lines: those
    within the context of a finding are not counted again."""
    findings: list[Finding] = []
    covered_to = 0
    for number, line in enumerate(lines):
        message = message_of(line)
        if number < covered_to or not _BAD_MESSAGES.search(message) or (expected and expected.search(message)):
            continue
        covered_to = number + context_lines
        findings.append(Finding(number + 1, message, tuple(lines[number:covered_to])))
    return findings


def line_after_request(lines: list[str], request: int) -> int | None:
    """The number of the line after the one that notes the end of a request; None while it is not there."""
    for number, line in enumerate(lines):
        match = _END.match(message_of(line))
        if match and int(match[1]) == request:
            return number + 1
    return None


def has_powered_off(lines: Sequence[str]) -> bool:
    """Whether the kernel got as far as switching the power off."""
    return any(_POWER_DOWN in line for line in lines)


def least_stack_left_bytes(lines: list[str]) -> int | None:
    """The smallest rest of a kernel stack that a kernel with DEBUG_STACK_USAGE noted."""
    rests = [int(match[1] or match[2]) for line in lines if (match := _STACK_LEFT.search(line))]
    return min(rests, default=None)
