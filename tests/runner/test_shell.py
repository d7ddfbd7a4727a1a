"""`scripts/vm shell`: a terminal in a guest with the module loaded, a new cairnfs mounted, and the tools on PATH."""

import os
import pty
import subprocess
import sys
import time
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0
COMMANDS = "grep ' /mnt ' /proc/mounts; pwd; fsck.cairnfs -n /dev/vda | tail -n 1; echo so$((40 + 2)); exit\n"


class Shell(unittest.TestCase):
    def test_at_a_terminal(self) -> None:
        ours, theirs = pty.openpty()
        command = [sys.executable, str(REPOSITORY / "scripts/vm"), "shell"]
        with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
            os.close(theirs)
            try:
                text = self.read_until(ours, "Ctrl-D.")
                os.write(ours, COMMANDS.encode())
                text += self.read_until(ours, "so42")
                self.assertEqual(process.wait(LIMIT_S), 0)
            finally:
                process.kill()
                os.close(ours)
        self.assertIn("/dev/vda /mnt cairnfs rw", text)
        self.assertIn("\n/mnt\r", text)
        self.assertIn("/dev/vda: no errors", text)

    def read_until(self, terminal: int, wanted: str) -> str:
        text, deadline = "", time.monotonic() + LIMIT_S
        while wanted not in text:
            self.assertLess(time.monotonic(), deadline, f"no '{wanted}' in: {text}")
            try:
                text += os.read(terminal, 1 << 16).decode(errors="replace")
            except OSError:
                self.fail(f"it ended without '{wanted}': {text}")
        return text
