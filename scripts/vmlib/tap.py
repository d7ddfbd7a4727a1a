"""Reads the Test Anything Protocol (version 14) as guest tests print it, line by line.

The verdict is strict: a test without a plan, with fewer or more cases than planned, with a bad case, with a bail-out
or with numbers out of order has failed. Indented lines (subtests) are passed over: their parent's line counts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PLAN = re.compile(r"1\.\.(\d+)(?:\s+#\s*SKIP\b\s*(.*))?\s*$", re.IGNORECASE)
_CASE = re.compile(r"(not )?ok\b(?:\s+(\d+))?(?:\s+-)?\s*(.*)$")
_DIRECTIVE = re.compile(r"(?<!\\)#\s*(SKIP|TODO)\b\s*(.*)$", re.IGNORECASE)
_BAIL_OUT = re.compile(r"Bail out!\s*(.*)$")


@dataclass(frozen=True)
class Case:
    """One reported result."""

    number: int
    name: str
    passed: bool
    skip_reason: str | None = None


@dataclass
class TapReader:
    """What a test has said so far. Feed it lines, then ask for `problems`."""

    planned: int | None = None
    skip_all_reason: str | None = None
    cases: list[Case] = field(default_factory=list)
    _problems: list[str] = field(default_factory=list)

    def feed(self, line: str) -> Case | None:
        """Takes in one line; returns the case if it was the result of one."""
        if match := _PLAN.match(line):
            self._take_plan(int(match[1]), match[2])
        elif match := _BAIL_OUT.match(line):
            self._problems.append(f"the test gave up: {match[1] or 'no reason given'}")
        elif match := _CASE.match(line):
            return self._take_case(match)
        return None

    def _take_plan(self, planned: int, skip_reason: str | None) -> None:
        if self.planned is not None:
            self._problems.append("the test announced two plans")
        self.planned = planned
        if planned == 0:
            if skip_reason:
                self.skip_all_reason = skip_reason
            else:
                self._problems.append("the test planned nothing and gave no reason")

    def _take_case(self, match: re.Match[str]) -> Case:
        name, skip_reason = match[3].strip(), None
        passed = match[1] is None
        if directive := _DIRECTIVE.search(name):
            name = name[: directive.start()].strip()
            if directive[1].upper() == "TODO":
                self._problems.append(f"'{name}' is marked TODO, which is not accepted here")
            elif not directive[2].strip():
                self._problems.append(f"'{name}' is skipped without a reason")
            else:
                skip_reason = directive[2].strip()
        expected = len(self.cases) + 1
        number = int(match[2]) if match[2] else expected
        if number != expected:
            self._problems.append(f"case {number} was reported where {expected} was due")
        case = Case(number, name, passed, skip_reason if passed else None)
        self.cases.append(case)
        return case

    @property
    def passed(self) -> int:
        """Good cases, without the skipped ones."""
        return sum(case.passed and case.skip_reason is None for case in self.cases)

    @property
    def failed(self) -> int:
        """Bad cases."""
        return sum(not case.passed for case in self.cases)

    @property
    def skipped(self) -> int:
        """Skipped cases."""
        return sum(case.skip_reason is not None for case in self.cases)

    def problems(self) -> list[str]:
        """What is wrong with the report as a whole, bad cases aside."""
        problems = list(self._problems)
        if self.planned is None:
            problems.append("the test announced no plan")
        elif len(self.cases) != self.planned:
            problems.append(f"{self.planned} cases were planned, {len(self.cases)} were reported")
        return problems
