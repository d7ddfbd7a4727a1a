"""Judges a run on the debug kernel as a whole, by the logs of all its guests.

The runner judges the logs of its own guests while it goes; tests on the host and the power cuts boot guests of theirs, and
some of those only ever die. Here all are read once more, so that one line can speak for all of them. Whoever gets as far as
powering off has been asked for its health before (tests/vm/lib/health.sh), and has said there whether lockdep is alive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vmlib import kernel_log

_ALIVE = "cairnfs-health: lockdep is alive"
_KIB = 1024


@dataclass
class Verdict:
    """What the logs and the results of a run say."""

    logs: int = 0
    splats: int = 0
    least_stack_left_bytes: int | None = None
    # Guests that powered off, and those of them in which lockdep was alive.
    ended: int = 0
    alive: int = 0

    @property
    def good(self) -> bool:
        """Whether the run proves what it is for."""
        return self.splats == 0 and self.ended > 0 and self.alive == self.ended and self.least_stack_left_bytes is not None

    def note_stack_left(self, left_bytes: int | None) -> None:
        """Keeps the smallest."""
        known = [each for each in (self.least_stack_left_bytes, left_bytes) if each is not None]
        self.least_stack_left_bytes = min(known, default=None)

    def __str__(self) -> str:
        lockdep = "alive" if self.ended and self.alive == self.ended else f"alive in {self.alive} of {self.ended} guests"
        left = "no measure of the" if self.least_stack_left_bytes is None else f"{self.least_stack_left_bytes // _KIB} KiB"
        return f"{self.splats} splats, lockdep {lockdep}, {left} stack left"


def judge(folder: Path) -> Verdict:
    """Reads the guests' logs in a folder, and shows what is bad in them."""
    verdict = Verdict()
    for path in kernel_log.logs_in(folder):
        lines = path.read_text(errors="replace").splitlines()
        verdict.logs += 1
        for finding in kernel_log.find_splats(lines):
            verdict.splats += 1
            print(f"{path}:{finding.line_number}: {finding.message}", flush=True)
        verdict.note_stack_left(kernel_log.least_stack_left_bytes(lines))
        if kernel_log.has_powered_off(lines):
            verdict.ended += 1
            verdict.alive += any(_ALIVE in line for line in lines)
    return verdict
