"""The accounting of power cuts, crash states and figures: what must count as a failure does."""

from __future__ import annotations

import unittest

from vmlib import figures
from vmlib.power_cuts import Series, choose_states


def series(broken: list[int], **words: object) -> Series:
    """A series with one cut for each number of faults."""
    made = Series("series", "names", len(broken), **words)  # type: ignore[arg-type]
    made.rounds = [{"seed": seed, "lost_sectors": 3} for seed in range(len(broken))]
    made.states = [{"state": state, "promises": 5, "broken": count} for state, count in enumerate(broken)]
    made.findings = [f"state {state} is wrong" for state, count in enumerate(broken) if count]
    return made


class SeriesTest(unittest.TestCase):
    """When a series is good."""

    def test_an_honest_series_may_lose_nothing(self) -> None:
        self.assertEqual(series([0, 0]).problems(), [])
        self.assertEqual(series([0, 2]).problems(), ["state 1 is wrong"])

    def test_a_lie_must_be_noticed(self) -> None:
        self.assertEqual(series([0, 1], must_lose=True).problems(), [])
        self.assertIn("none of 2 cuts", series([0, 0], must_lose=True).problems()[0])

    def test_cuts_that_tried_nothing_count_as_failures(self) -> None:
        nothing_lost = series([0])
        nothing_lost.rounds[0]["lost_sectors"] = 0
        nothing_promised = series([0])
        nothing_promised.states[0]["promises"] = 0
        not_made = series([0, 0])
        not_made.rounds.pop()
        not_verified = series([0, 0])
        not_verified.states.pop()
        no_forced_writes = series([0], sees_forced_writes=True)
        for bad in (nothing_lost, nothing_promised, not_made, not_verified, no_forced_writes):
            self.assertEqual(len(bad.problems()), 1, bad)


class StatesTest(unittest.TestCase):
    """Which crash states are tried."""

    EPOCHS = [
        {"first_state": 0, "states": 1},
        {"first_state": 1, "states": 1000},
        {"first_state": 1001, "states": 4},
    ]

    def test_states_are_different_and_of_every_epoch(self) -> None:
        chosen = choose_states(self.EPOCHS, 30, 1)
        self.assertEqual(chosen, sorted(set(chosen)))
        self.assertEqual(len(chosen), 30)
        self.assertTrue(chosen[0] == 0 and chosen[-1] > 1000)
        self.assertEqual(chosen, choose_states(self.EPOCHS, 30, 1))

    def test_no_more_are_chosen_than_there_are(self) -> None:
        self.assertEqual(choose_states(self.EPOCHS[:1], 30, 1), [0])


class FiguresTest(unittest.TestCase):
    """Means and limits."""

    @staticmethod
    def figure(writes: int, write_bytes: int, flushes: int, fua: int) -> figures.Figure:
        line = f"figure name=create fua={fua} calls=500 writes={writes} write_zeroes=0"
        return figures.parse(f"{line} write_bytes={write_bytes} flushes={flushes}\nsomething else\n")[0]

    def test_limits_are_those_of_the_means(self) -> None:
        self.assertIsNone(self.figure(1000, 500 * 8192, 1000, 0).problem())
        self.assertIsNotNone(self.figure(1001, 500 * 8192, 1000, 0).problem())
        self.assertIsNotNone(self.figure(1000, 500 * 9000, 1000, 0).problem())
        self.assertIsNotNone(self.figure(1000, 500 * 8192, 1000, 1).problem())

    def test_the_line_has_both(self) -> None:
        both = [self.figure(1000, 500 * 8192, 1000, 0), self.figure(1000, 500 * 8192, 500, 1)]
        words = "create 4 KiB + fsync: 2.00 writes, 8.00 KiB, 2.00 flushes; with FUA: 2.00 writes, 8.00 KiB, 1.00 flushes"
        self.assertEqual(figures.line(both, "create"), words)


if __name__ == "__main__":
    unittest.main()
