"""The parts that need no guest: archives, disks, wishes of tests, the closing line."""

import io
import subprocess
import tempfile
import unittest
from pathlib import Path

from vmlib import channel
from vmlib.cpio import Entry, write_archive
from vmlib.discovery import find_tests, group_by_boot, read_test
from vmlib.disks import Disk, parse_size
from vmlib.environment import VmError
from vmlib.report import RunResult, TestResult
from vmlib.tap import Case

FIXTURES = Path(__file__).parent / "fixtures"


class Archives(unittest.TestCase):
    ENTRIES = (
        Entry.file("a/b/file", b"contents\n", executable=True),
        Entry.file("a/empty", b"", executable=False),
        Entry.link("a/link", "b/file"),
    )

    def test_another_program_unpacks_it(self) -> None:
        archive = io.BytesIO()
        write_archive(archive, self.ENTRIES)
        with tempfile.TemporaryDirectory() as name:
            unpack = ["/bin/busybox", "cpio", "-i"]
            subprocess.run(unpack, input=archive.getvalue(), cwd=name, check=True, capture_output=True)
            folder = Path(name)
            self.assertEqual((folder / "a/link").read_bytes(), b"contents\n")
            self.assertTrue((folder / "a/b/file").stat().st_mode & 0o100)
            self.assertEqual((folder / "a/empty").read_bytes(), b"")

    def test_equal_contents_give_equal_bytes(self) -> None:
        archives = [io.BytesIO(), io.BytesIO()]
        for archive in archives:
            write_archive(archive, self.ENTRIES)
        self.assertEqual(*[archive.getvalue() for archive in archives])


class Disks(unittest.TestCase):
    def test_sizes(self) -> None:
        self.assertEqual([parse_size(text) for text in ("512", "4K", "64M", "1T")], [512, 4096, 64 << 20, 1 << 40])
        for text in ("", "64m", "M", "-1", "1.5G"):
            with self.subTest(text), self.assertRaises(VmError):
                parse_size(text)

    def test_specifications(self) -> None:
        self.assertEqual(Disk.parse("blank:1M").blank_bytes, 1 << 20)
        self.assertIn("nbd:unix:/x/socket:exportname=d", Disk.parse("nbd:/x/socket,d").source)
        for text in ("blank", "blank:", "file:/missing", "scsi:1"):
            with self.subTest(text), self.assertRaises(VmError):
                Disk.parse(text)


class Channel(unittest.TestCase):
    def test_a_request_is_laid_out_as_the_guest_reads_it(self) -> None:
        payload = channel.run_payload(["ab", ""], {"N": "v"}, b"input")
        self.assertEqual(
            payload,
            b"\2\0\0\0" + b"\2\0\0\0ab" + b"\0\0\0\0" + b"\1\0\0\0" + b"\3\0\0\0N=v" + b"input",
        )

    def test_both_ends_agree(self) -> None:
        source = (Path(__file__).parents[1] / "guest/src/channel.rs").read_text()
        for kind in channel.Kind:
            name = "".join(part.capitalize() for part in kind.name.split("_"))
            self.assertIn(f"    {name} = {kind.value},", source)
        self.assertIn(f"VERSION: u32 = {channel.VERSION};", source)
        self.assertIn(f'PORT_NAME: &str = "{channel.PORT_NAME}";', source)


class Discovery(unittest.TestCase):
    def write(self, text: str) -> Path:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "x.sh"
        path.write_text(text)
        return path

    def test_wishes(self) -> None:
        wishes = "# vm: timeout_s=7 disks=blank:1M,blank:2M network\n# vm: own_boot\n"
        path = self.write(f"#!/bin/sh\n# What.\n{wishes}true\n")
        test = read_test(path, path.parent)
        self.assertEqual((test.timeout_s, test.own_boot, test.machine.network), (7.0, True, True))
        self.assertEqual([disk.blank_bytes for disk in test.machine.disks], [1 << 20, 2 << 20])

    def test_what_is_not_understood_is_an_error(self) -> None:
        for wish in ("tiemout_s=7", "timeout_s=soon", "disks=blank", "userland=guest", "kernels=slow"):
            path = self.write(f"#!/bin/sh\n# vm: {wish}\n")
            with self.subTest(wish), self.assertRaises(VmError):
                read_test(path, path.parent)

    def test_only_the_leading_comment_counts(self) -> None:
        path = self.write("#!/bin/sh\ntrue\n# vm: nonsense\n")
        self.assertFalse(read_test(path, path.parent).own_boot)

    def test_an_unknown_name_is_an_error(self) -> None:
        with self.assertRaises(VmError):
            find_tests(FIXTURES, ["no-such-test"])

    def test_equal_machines_share_a_boot(self) -> None:
        tests = find_tests(FIXTURES, ["leaves-process", "left-process", "hung-task", "taints"])
        groups = [[test.name for test in group] for group in group_by_boot(tests)]
        self.assertIn(["leaves-process", "left-process"], groups)
        self.assertIn(["taints"], groups)


class Report(unittest.TestCase):
    def test_closing_line(self) -> None:
        result = RunResult(kernel="fast", accelerator="tcg", boots=1)
        result.tests.append(TestResult("a", passed=3, failed=1, problems=["died"], cases=[Case(1, "x", True)]))
        result.tests.append(TestResult("b", skip_reason="not here"))
        self.assertEqual((result.passed, result.failed, result.skipped), (3, 2, 1))
        self.assertTrue(result.closing_line().startswith("tier: 3 passed, 2 failed: 5 cases in 2 tests"))
