"""Runs the tests of the runner itself (tests/runner), and ends as a tier does."""

from __future__ import annotations

import unittest

from vmlib.environment import REPOSITORY


def main(pattern: str = "test_*.py") -> int:
    """Runs the files that match; 0 when all is good."""
    suite = unittest.TestLoader().discover(str(REPOSITORY / "tests/runner"), pattern=pattern)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = len(result.failures) + len(result.errors) + len(result.unexpectedSuccesses)
    passed = result.testsRun - failed - len(result.skipped)
    print(f"tier: {passed} passed, {failed} failed: {result.testsRun} tests of the VM runner", flush=True)
    return 0 if result.wasSuccessful() and result.testsRun else 1
