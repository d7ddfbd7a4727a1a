"""The verdict on what a test says."""

import unittest

from vmlib.tap import TapReader


def read(text: str) -> TapReader:
    reader = TapReader()
    for line in text.splitlines():
        reader.feed(line)
    return reader


class Tap(unittest.TestCase):
    def assert_problem(self, text: str, part: str) -> None:
        problems = read(text).problems()
        self.assertTrue(any(part in problem for problem in problems), f"{part!r} is not in {problems}")

    def test_good(self) -> None:
        text = "TAP version 14\n1..3\nok 1 - a\n# note\nok 2 - b # SKIP no disk\n    not ok 1 - of a subtest\nok 3"
        reader = read(text)
        self.assertEqual((reader.passed, reader.failed, reader.skipped, reader.problems()), (2, 0, 1, []))
        self.assertEqual(reader.cases[1].skip_reason, "no disk")

    def test_plan_at_the_end(self) -> None:
        self.assertEqual(read("ok\nok\n1..2").problems(), [])

    def test_bad_case(self) -> None:
        reader = read("1..2\nnot ok 1 - a # SKIP a failure is none\nok 2")
        self.assertEqual((reader.passed, reader.failed, reader.skipped), (1, 1, 0))

    def test_no_plan(self) -> None:
        self.assert_problem("ok 1", "no plan")
        self.assert_problem("", "no plan")

    def test_too_few_and_too_many(self) -> None:
        self.assert_problem("1..3\nok 1\nok 2", "3 cases were planned, 2 were reported")
        self.assert_problem("1..1\nok 1\nok 2", "1 cases were planned, 2 were reported")

    def test_numbers_in_order(self) -> None:
        self.assert_problem("1..2\nok 1\nok 3", "case 3 was reported where 2 was due")
        self.assert_problem("1..2\nok 1\nok 1", "case 1 was reported where 2 was due")

    def test_two_plans(self) -> None:
        self.assert_problem("1..1\n1..1\nok 1", "two plans")

    def test_nothing_planned(self) -> None:
        self.assert_problem("1..0", "gave no reason")
        self.assertEqual(read("1..0 # SKIP no lockdep").problems(), [])
        self.assertEqual(read("1..0 # SKIP no lockdep").skip_all_reason, "no lockdep")

    def test_bail_out(self) -> None:
        self.assert_problem("1..1\nok 1\nBail out! the disk is gone", "the disk is gone")

    def test_skip_wants_a_reason_and_todo_is_refused(self) -> None:
        self.assert_problem("1..1\nok 1 - a # SKIP", "skipped without a reason")
        self.assert_problem("1..1\nnot ok 1 - a # TODO later", "not accepted")

    def test_escaped_hash_is_no_directive(self) -> None:
        self.assertIsNone(read(r"ok 1 - a \# SKIP b").cases[0].skip_reason)
