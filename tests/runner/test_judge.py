"""The verdict over all guests of a run on the debug kernel."""

import contextlib
import io
import tempfile
import unittest
from pathlib import Path

from vmlib.judge import Verdict, judge
from vmlib.kernel_log import logs_in

STACK = "[    3.000000] sh (80) used greatest stack depth: 21000 bytes left\n"
LISTED = "[    4.000000] task:kworker/0:0     state:I stack:20500 pid:7     tgid:7     ppid:2      flags:0x00004000\n"
SPLAT = "[    5.000000] BUG: KASAN: slab-use-after-free in foo+0x1/0x2\n"


ALIVE = "[    6.000000] cairnfs-health: lockdep is alive\n"
POWER_DOWN = "[    7.000000] reboot: Power down\n"


class Judge(unittest.TestCase):
    def verdict(self, *logs: str) -> tuple[Verdict, str]:
        text = io.StringIO()
        with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(text):
            for number, log in enumerate(logs):
                (Path(name) / f"console-{number}.log").write_text(log)
            return judge(Path(name)), text.getvalue()

    def test_good(self) -> None:
        # The last one lost its power, and nobody could ask it.
        verdict, _ = self.verdict(STACK + ALIVE + POWER_DOWN, ALIVE + LISTED + POWER_DOWN, STACK)
        self.assertTrue(verdict.good)
        self.assertEqual(str(verdict), "0 splats, lockdep alive, 20 KiB stack left")

    def test_a_splat_in_any_log(self) -> None:
        verdict, text = self.verdict(STACK + ALIVE + POWER_DOWN, SPLAT)
        self.assertEqual((verdict.good, verdict.splats), (False, 1))
        self.assertIn("console-1.log:1: BUG: KASAN", text)

    def test_a_boot_that_was_repeated(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            for log in ("console-1.broken.log", "console-1.log", "console-7-2.log", "other.log"):
                (Path(name) / log).write_text(SPLAT)
            self.assertEqual([path.name for path in logs_in(Path(name))], ["console-1.log", "console-7-2.log"])

    def test_lockdep_that_is_not_known_to_be_alive(self) -> None:
        for logs in ([STACK], [STACK + POWER_DOWN], [STACK + ALIVE + POWER_DOWN, POWER_DOWN]):
            with self.subTest(str(logs)):
                verdict, _ = self.verdict(*logs)
                self.assertFalse(verdict.good)
                self.assertNotIn("lockdep alive,", str(verdict))

    def test_no_measure_of_the_stack(self) -> None:
        verdict, _ = self.verdict(ALIVE + POWER_DOWN)
        self.assertFalse(verdict.good)
