"""Runs the cases of a test on the host, and reports them as TAP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

Case = tuple[str, Callable[[], object]]


def run_cases(cases: Sequence[Case], after_failure: Callable[[], object] = lambda: None) -> int:
    """Runs all, in order; the exit code of the test. `after_failure` makes room for the next one."""
    print(f"TAP version 14\n1..{len(cases)}", flush=True)
    failed = 0
    for number, (title, case) in enumerate(cases, start=1):
        began = time.monotonic()
        try:
            case()
            print(f"ok {number} - {title}", flush=True)
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            words = str(error).replace("\n", "\n# ")
            print(f"not ok {number} - {title}\n# {type(error).__name__}: {words}", flush=True)
            after_failure()
        print(f"# {time.monotonic() - began:.1f} s", flush=True)
    return 1 if failed else 0
