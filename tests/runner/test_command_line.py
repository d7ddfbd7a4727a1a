"""Exit codes and last lines of scripts/vm, as scripts/test and a person at a terminal see them."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FIXTURES = Path(__file__).parent / "fixtures"


def vm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts/vm"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class Test(unittest.TestCase):
    def run_fixture(self, name: str) -> tuple[subprocess.CompletedProcess[str], dict[str, object]]:
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder) / "results.json"
            done = vm("test", "--tests", str(FIXTURES), "--logs", folder, "--json", str(results), name)
            return done, json.loads(results.read_text())

    def test_good(self) -> None:
        done, results = self.run_fixture("leaves-process")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout.splitlines()[-1], r"^tier: \d+ passed, 0 failed: ")
        self.assertEqual((results["failed"], results["kernel"], results["boots"]), (0, "fast", 1))

    def test_bad(self) -> None:
        done, results = self.run_fixture("bad-case")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout.splitlines()[-1], r"^tier: \d+ passed, 1 failed: ")
        self.assertEqual(results["failed"], 1)

    def test_unknown_name(self) -> None:
        done = vm("test", "no-such-test")
        self.assertEqual(done.returncode, 2)
        self.assertIn("no test no-such-test", done.stderr)


class Run(unittest.TestCase):
    def test_the_exit_code_is_the_programs(self) -> None:
        done = vm("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (7, "out\n", "err\n"))

    def test_a_program_of_the_host_comes_with_its_libraries(self) -> None:
        mkfs = ["/bin/mke2fs", "-q", "-t", "ext4", "/dev/vda"]
        done = vm("run", "--program", "/sbin/mke2fs", "--disk", "blank:16M", "--", *mkfs)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_missing_program(self) -> None:
        done = vm("run", "--", "/bin/no-such-program")
        self.assertEqual(done.returncode, 2)
        self.assertIn("cannot run /bin/no-such-program", done.stderr)

    def test_time_limit(self) -> None:
        self.assertEqual(vm("run", "--timeout", "1", "--", "sleep", "100").returncode, 124)

    def test_panic(self) -> None:
        done = vm("run", "--", "sh", "-c", "echo c >/proc/sysrq-trigger")
        self.assertEqual(done.returncode, 125)
        self.assertIn("Kernel panic", done.stderr)

    def test_message_in_the_log(self) -> None:
        done = vm("run", "--", "sh", "-c", "echo BUG: planted >/dev/kmsg")
        self.assertEqual(done.returncode, 126)
        self.assertIn("the kernel said: BUG: planted", done.stderr)
