"""What the tests said: as TAP on the terminal while they run, as JSON at the end, and as the closing line."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from vmlib.tap import Case


@dataclass
class TestResult:
    """One test. `problems` are failures that no case stands for: a dead guest, a bad kernel log, a missing plan."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    problems: list[str] = field(default_factory=list)
    skip_reason: str | None = None
    time_s: float = 0.0
    cases: list[Case] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing at all was wrong."""
        return self.failed == 0 and not self.problems


@dataclass
class RunResult:
    """A whole run."""

    kernel: str
    accelerator: str
    tests: list[TestResult] = field(default_factory=list)
    boots: int = 0
    boot_time_s: float = 0.0
    least_stack_left_bytes: int | None = None
    kernel_log_splats: int = 0
    time_s: float = 0.0

    @property
    def passed(self) -> int:
        """Good cases."""
        return sum(test.passed for test in self.tests)

    @property
    def failed(self) -> int:
        """Bad cases, and one for each test with problems of another kind."""
        return sum(test.failed + bool(test.problems) for test in self.tests)

    @property
    def skipped(self) -> int:
        """Cases and whole tests that were skipped."""
        return sum(test.skipped + (test.skip_reason is not None) for test in self.tests)

    def note_stack_left(self, left_bytes: int | None) -> None:
        """Keeps the smallest."""
        if left_bytes is not None:
            self.least_stack_left_bytes = min(left_bytes, self.least_stack_left_bytes or left_bytes)

    def write_json(self, path: Path) -> None:
        """Writes everything to a file."""
        totals = {"passed": self.passed, "failed": self.failed, "skipped": self.skipped}
        path.write_text(json.dumps({**totals, **dataclasses.asdict(self)}, indent=2) + "\n")

    def closing_line(self) -> str:
        """The line that scripts/test reads."""
        tests = len(self.tests)
        tried = f"{self.passed + self.failed} cases in {tests} test{'s' * (tests != 1)}, {self.skipped} skipped"
        tried += f", {self.boots} boot{'s' * (self.boots != 1)} of the {self.kernel} kernel ({self.accelerator})"
        return f"tier: {self.passed} passed, {self.failed} failed: {tried}"


class TapPrinter:
    """Prints TAP: each test is a subtest of the run."""

    def __init__(self, output: TextIO = sys.stdout) -> None:
        self._output = output
        self._reported = 0

    def _print(self, line: str) -> None:
        print(line, file=self._output, flush=True)

    def print_all_of(self, text: str) -> None:
        """What another printer has printed."""
        self._output.write(text)
        self._output.flush()

    def begin_run(self) -> None:
        """The version line."""
        self._print("TAP version 14")

    def begin_test(self, name: str) -> None:
        """Announces a subtest."""
        self._print(f"# Subtest: {name}")

    def line_of_test(self, line: str) -> None:
        """A line that the test printed."""
        if not line.startswith("TAP version"):
            self._print(f"    {line}")

    def comment(self, text: str) -> None:
        """Something for people."""
        for line in text.splitlines() or [""]:
            self._print(f"# {line}".rstrip())

    def comments_of_test(self, lines: Sequence[str]) -> None:
        """Something for people about the test that is running."""
        for line in lines:
            self._print(f"    # {line}".rstrip())

    def end_test(self, result: TestResult) -> None:
        """The line of a whole test, and its problems."""
        self._reported += 1
        for problem in result.problems:
            self.comments_of_test([f"{result.name}: {problem}"])
        word = "ok" if result.good else "not ok"
        if result.skip_reason is not None and result.good:
            self._print(f"{word} {self._reported} - {result.name} # SKIP {result.skip_reason}")
            return
        counts = f"{result.passed} passed, {result.failed} failed"
        if result.skipped:
            counts += f", {result.skipped} skipped"
        self._print(f"{word} {self._reported} - {result.name} ({counts}, {result.time_s:.1f} s)")

    def end_run(self) -> None:
        """The plan, known only now."""
        self._print(f"1..{self._reported}")
