"""Judges a run on the debug kernel as a whole: the logs of all its guests, and what the guests said of lockdep.

The runner judges the logs of its own guests while it goes; tests on the host and the power cuts boot guests of theirs, and
some of those only ever die. Here all are read once more, so that one line can speak for all of them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vmlib import kernel_log
from vmlib.environment import VmError

_HEALTH_TEST = "guest-health"
_LOCKDEP_CASE = "lockdep is alive"
_KIB = 1024


@dataclass
class Verdict:
    """What the logs and the results of a run say."""

    logs: int = 0
    splats: int = 0
    least_stack_left_bytes: int | None = None
    # Guests that were asked whether lockdep is alive, and those in which it was.
    asked: int = 0
    alive: int = 0

    @property
    def good(self) -> bool:
        """Whether the run proves what it is for."""
        return self.splats == 0 and self.asked > 0 and self.alive == self.asked and self.least_stack_left_bytes is not None

    def note_stack_left(self, left_bytes: int | None) -> None:
        """Keeps the smallest."""
        known = [each for each in (self.least_stack_left_bytes, left_bytes) if each is not None]
        self.least_stack_left_bytes = min(known, default=None)

    def __str__(self) -> str:
        lockdep = "alive" if self.asked and self.alive == self.asked else f"alive in {self.alive} of {self.asked} guests"
        left = "no measure of the" if self.least_stack_left_bytes is None else f"{self.least_stack_left_bytes // _KIB} KiB"
        return f"{self.splats} splats, lockdep {lockdep}, {left} stack left"


def judge(folder: Path, results: Path) -> Verdict:
    """Reads the guests' logs in a folder, shows what is bad in them, and adds what the results (scripts/vm test --json) say."""
    verdict = Verdict()
    for path in kernel_log.logs_in(folder):
        lines = path.read_text(errors="replace").splitlines()
        verdict.logs += 1
        for finding in kernel_log.find_splats(lines):
            verdict.splats += 1
            print(f"{path}:{finding.line_number}: {finding.message}", flush=True)
        verdict.note_stack_left(kernel_log.least_stack_left_bytes(lines))
    try:
        tests = json.loads(results.read_text())["tests"]
    except (OSError, ValueError, KeyError) as error:
        raise VmError(f"{results}: {error}") from error
    for test in tests:
        for case in test["cases"] if test["name"] == _HEALTH_TEST else ():
            if case["name"] == _LOCKDEP_CASE:
                verdict.asked += 1
                verdict.alive += case["passed"] and case["skip_reason"] is None
    return verdict
