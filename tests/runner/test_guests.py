"""The runner against guests that fail in every way that there is: each must be caught, and for the right reason.

The fixtures run once, together, as the tests of one run; each case here looks at the verdict on one of them.
"""

import io
import shutil
import unittest
from pathlib import Path

from vmlib.discovery import find_tests
from vmlib.environment import REPOSITORY, Environment
from vmlib.guest import Guest, GuestDied
from vmlib.report import RunResult, TapPrinter, TestResult
from vmlib.runner import Runner

FIXTURES = Path(__file__).parent / "fixtures"
LOGS = REPOSITORY / "build/runner-logs"


def run_fixtures(names: list[str]) -> tuple[RunResult, str]:
    """Runs fixtures; what they printed, and the consoles, are kept for whoever looks into a failure."""
    shutil.rmtree(LOGS, ignore_errors=True)
    LOGS.mkdir(parents=True)
    text = io.StringIO()
    try:
        result = Runner(Environment.load("fast"), TapPrinter(text), LOGS).run(find_tests(FIXTURES, names))
    finally:
        (LOGS / "output.tap").write_text(text.getvalue())
    return result, text.getvalue()


GOOD_FIXTURES = {"leaves-process", "left-process", "expected-bug", "taints", "other-kernel", "host-good"}


class Guests(unittest.TestCase):
    result: RunResult
    text: str

    @classmethod
    def setUpClass(cls) -> None:
        cls.result, cls.text = run_fixtures([])

    def verdict(self, name: str) -> TestResult:
        found = [test for test in self.result.tests if test.name == name]
        self.assertEqual(len(found), 1, f"{name} was reported {len(found)} times")
        return found[0]

    def assert_good(self, name: str) -> None:
        verdict = self.verdict(name)
        self.assertTrue(verdict.good, f"{name}: {verdict.failed} failed, {verdict.problems}; see {LOGS}")

    def assert_problem(self, name: str, part: str) -> None:
        verdict = self.verdict(name)
        self.assertFalse(verdict.good)
        found = any(part in problem for problem in verdict.problems)
        self.assertTrue(found, f"{name}: {verdict.problems}; see {LOGS}")

    def test_good(self) -> None:
        self.assert_good("leaves-process")
        verdict = self.verdict("leaves-process")
        self.assertEqual((verdict.passed, verdict.failed, verdict.skipped), (2, 0, 1))

    def test_nothing_runs_on_under_the_next_test(self) -> None:
        self.assert_good("left-process")

    def test_bad_case(self) -> None:
        verdict = self.verdict("bad-case")
        self.assertEqual((verdict.passed, verdict.failed, verdict.problems), (1, 1, []))

    def test_bad_exit_code(self) -> None:
        self.assert_problem("bad-exit", "exit code was 3")

    def test_no_plan(self) -> None:
        self.assert_problem("no-plan", "no plan")

    def test_silence(self) -> None:
        self.assert_problem("silent", "no plan")

    def test_too_few_cases(self) -> None:
        self.assert_problem("too-few", "3 cases were planned, 2 were reported")

    def test_hang(self) -> None:
        self.assert_problem("hangs", "not done after")

    def test_panic(self) -> None:
        self.assert_problem("panics", "the guest died")
        self.assert_problem("panics", "the kernel said: Kernel panic")
        self.assertIn("sysrq triggered crash", self.text)

    def test_reset(self) -> None:
        self.assert_problem("reboots", "the guest died")

    def test_power_off_that_nobody_asked_for(self) -> None:
        self.assert_problem("powers-off", "the guest died")

    def test_guest_that_does_not_boot(self) -> None:
        self.assert_problem("does-not-boot", "did not boot")

    def test_message_in_the_log(self) -> None:
        self.assert_problem("logged-bug", "the kernel said: BUG: this message was planted")

    def test_warning_of_the_kernel_itself(self) -> None:
        self.assertEqual(self.verdict("hung-task").failed, 0)
        self.assert_problem("hung-task", "the kernel said: INFO: task touch")

    def test_expected_message(self) -> None:
        self.assert_good("expected-bug")

    def test_expected_message_hides_no_other(self) -> None:
        self.assert_problem("expected-bug-and-another", "the kernel said: WARNING: this one is not")

    def test_expected_message_that_does_not_come(self) -> None:
        self.assert_problem("missing-bug", "did not say what was expected")

    def test_health(self) -> None:
        self.assert_good("taints")
        bad = [test for test in self.result.tests if test.name == "guest-health" and not test.good]
        self.assertEqual([test.failed for test in bad], [1])

    def test_other_kernel(self) -> None:
        verdict = self.verdict("other-kernel")
        self.assertEqual((verdict.passed, verdict.skip_reason), (0, "not for the fast kernel"))

    def test_on_the_host(self) -> None:
        self.assert_good("host-good")
        self.assert_problem("host-hangs", "not done after")
        self.assert_problem("host-dies", "exit code was 1")

    def test_log_of_a_guest_of_the_hosts(self) -> None:
        self.assert_problem("host-logs-bug", "the kernel said: WARNING: this message was planted")
        self.assertEqual(len(self.verdict("host-logs-bug").problems), 1)

    def test_a_mishap_costs_only_its_own_test(self) -> None:
        after_mishaps = ("left-process", "too-few", "silent", "no-plan")
        self.assertTrue(all("did not boot" not in str(self.verdict(name).problems) for name in after_mishaps))

    def test_totals(self) -> None:
        bad = {test.name for test in self.result.tests if not test.good}
        self.assertEqual(bad & GOOD_FIXTURES, set())
        self.assertGreaterEqual(self.result.failed, len(bad))
        self.assertEqual(self.text.splitlines()[-1], f"1..{len(self.result.tests)}")


class BrokenBoots(unittest.TestCase):
    """Guests whose kernel dies before its first program, played by a shell."""

    def boots_until_given_up(self, last_words: str) -> tuple[int, Guest]:
        boots = []

        def launch(_folder: Path, _channel: Path, console: Path) -> list[str]:
            boots.append(console)
            return ["/bin/sh", "-c", 'echo "$1" >>"$2"', "sh", last_words, str(console)]

        guest = Guest(launch, boot_timeout_s=10.0)
        self.assertRaises(GuestDied, guest.start)
        self.assertFalse(guest.folder.exists())
        return len(boots), guest

    def test_a_boot_that_the_emulator_broke_is_repeated_three_times(self) -> None:
        boots, guest = self.boots_until_given_up("Oops: int3: 0000 [#1] SMP")
        self.assertEqual((boots, guest.repeated_boots), (4, 3))

    def test_no_other_death_is_overlooked(self) -> None:
        boots, guest = self.boots_until_given_up("Oops: general protection fault")
        self.assertEqual((boots, guest.repeated_boots), (1, 0))
