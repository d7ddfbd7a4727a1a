# vm: timeout_s=600
"""Journals that are not clean, made on the host by the tools' own binding of core, and mounted by the module.

`make-test-image` leaves a tree (tests/guest/src/dirty.rs) of which one part is home, one is in the journal only, and one was
never committed. What a mount makes of a copy of it is looked at from three sides: what it shows, what sysfs and the log
say, and what has become of the image, byte by byte, for the checker, and against a copy that the tools recovered.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmlib import machines, programs
from vmlib.cases import run_cases
from vmlib.disks import Disk
from vmlib.environment import Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
tool = functools.partial(programs.run_for_host, ENVIRONMENT)
LIMIT_S = 30.0 * ENVIRONMENT.slowness
SIZE = "64M"
# One group for all, and room for the whole of the work: nothing of it goes home by itself.
JOURNAL = "size=8M"
BLOCK_BYTES = 4096
# What stands behind a record's header: within the first of its items.
INSIDE_RECORD_BYTES = 200
EACCES, EINVAL, EROFS, EBADMSG, EUCLEAN = 13, 22, 30, 74, 117
# Why a replay ended (docs/format.md, recovery report).
STOP_CLEAN, STOP_END, STOP_TORN = 1, 2, 3
# Of each, one copy.
COPIES = (
    "rw", "ro", "no-recovery", "toggled", "hardware", "orphans", "damaged", "torn", "headers", "clean",
)  # fmt: skip
READ_ONLY_COPIES = ("hardware",)


def information(image: Path) -> dict[str, Any]:
    return json.loads(tool("cairnfs", "info", "--json", str(image)))


def digest(image: Path) -> str:
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def invert_byte(image: Path, offset: int) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


@dataclass(frozen=True)
class Images:
    """The copies of the image, by name, and what is known of it."""

    folder: Path
    orphans: int
    # What a recovery in user space counts: transactions, items, and what is free when the orphans are gone.
    report: dict[str, int]
    free: tuple[int, int]

    @staticmethod
    def make(folder: Path) -> Images:
        origin = folder / "origin.img"
        tool("mkfs-cairnfs", "-q", "-J", JOURNAL, str(origin), SIZE)
        words = dict(word.split("=") for word in tool("make-test-image", "dirty", str(origin)).split())
        for name in COPIES:
            shutil.copy(origin, folder / f"{name}.img")
        tool("make-test-image", "recover", str(folder / "clean.img"))
        for name, record in (("damaged", "first"), ("torn", "last")):
            invert_byte(folder / f"{name}.img", int(words[f"{record}_record_byte"]) + INSIDE_RECORD_BYTES)
        start = information(origin)["superblock"]["journal_start"]
        for block in (start, start + 1):
            invert_byte(folder / "headers.img", block * BLOCK_BYTES + 100)
        clean = information(folder / "clean.img")
        return Images(folder, int(words["orphans"]), clean["superblock"]["recovery"], Images.free_of(clean))

    @staticmethod
    def free_of(found: dict[str, Any]) -> tuple[int, int]:
        return found["superblock"]["free_blocks"], found["superblock"]["free_inodes"]

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.img"

    def check(self, name: str) -> None:
        """After an unmount of a mount for writing: sound, clean, and as much is free as if the tools had recovered it."""
        tool("fsck-cairnfs", "-n", "-f", str(self.path(name)))
        found = information(self.path(name))
        assert found["journal"]["clean"], "the journal is not clean"
        assert found["journal"]["orphans"] == 0, f"{found['journal']['orphans']} orphans are left"
        assert self.free_of(found) == self.free, f"free are {self.free_of(found)} blocks and inodes, not {self.free}"


class Cases:
    """The cases, in order, with one guest for all."""

    def __init__(self, guest: Guest, devices: dict[str, str], images: Images) -> None:
        self.guest = guest
        self.devices = devices
        self.images = images

    def shell(self, script: str) -> str:
        return self.guest.run(["/bin/sh", "-c", f"set -e; {script}"], LIMIT_S, check=True).text.strip()

    def program(self, *words: str) -> str:
        return self.guest.run(["/bin/guest-mount", *words], LIMIT_S, check=True).text.strip()

    def log(self) -> str:
        """The kernel's log since it was emptied, without the notes of the channel: they have the words of commands."""
        lines = self.shell("dmesg").splitlines()
        return "\n".join(line for line in lines if "cairnfs-guest:" not in line)

    def mount(self, name: str, how: str, options: str = "", wanted: int = 0) -> str:
        """Mounts, which must end with the error number wanted; what the log says of it."""
        # Messages are limited in number.
        self.shell("sleep 0.3; dmesg -c > /dev/null")
        found = int(self.program("mount", self.devices[name], how, *([options] if options else [])))
        log = self.log()
        if found == 0 != wanted:
            self.unmount()
        assert found == wanted, f"mount {how} {options}: error {found}, wanted {wanted}; the log says: {log}"
        return log

    def unmount(self) -> None:
        self.shell("umount /mnt")

    def remount(self, how: str, wanted: int = 0) -> None:
        found = int(self.program("remount", how))
        assert found == wanted, f"remount {how}: error {found}, wanted {wanted}"

    def statistics(self, name: str) -> dict[str, int]:
        folder = f"/sys/fs/cairnfs/{Path(self.devices[name]).name}"
        lines = self.shell(f"cd {folder}; grep -H . recovery/* orphans orphan_steps").splitlines()
        return {key: int(value) for key, _, value in (line.partition(":") for line in lines)}

    def clean_mount(self, name: str) -> None:
        """The next mount has nothing to recover."""
        log = self.mount(name, "rw")
        assert "recovered" not in log, f"there was a second recovery: {log}"
        found = self.statistics(name)
        assert (found["recovery/stop_reason"], found["recovery/transactions"]) == (STOP_CLEAN, 0), f"{found}"
        self.unmount()

    def unchanged(self, name: str, action: Callable[[], object]) -> None:
        """Not a byte of the image is written meanwhile."""
        before = digest(self.images.path(name))
        action()
        self.shell("sync")
        assert digest(self.images.path(name)) == before, "the image has been written to"

    def all(self) -> list[tuple[str, Callable[[], object]]]:
        return [
            ("for writing: recovered, with a report, and clean afterwards", self.for_writing),
            ("orphans are removed, and their space comes back", self.orphans),
            ("read-only, the device writable: recovered as well, orphans stay", self.read_only),
            ("norecovery: nothing is replayed, nothing written, and it stays so", self.without_recovery),
            ("norecovery without ro: EINVAL", self.norecovery_needs_ro),
            ("a device that is read-only: EROFS, and why; norecovery mounts", self.read_only_device),
            ("a device that is set read-only, and writable again", self.toggled_device),
            ("a clean journal on a device that is read-only", self.clean_on_read_only_device),
            ("a damaged record that was acknowledged: EUCLEAN, and why", self.damaged_record),
            ("a last record that is torn: the ones before count", self.torn_record),
            ("both journal headers damaged: EBADMSG", self.damaged_headers),
            ("unload", lambda: self.shell("rmmod cairnfs")),
        ]

    def for_writing(self) -> None:
        log = self.mount("rw", "rw")
        report = self.images.report
        words = re.search(r"recovered (\d+) transactions, (\d+) items", log)
        assert words, f"the log does not tell of a recovery: {log}"
        counts = (report["transactions"], report["items"])
        assert tuple(map(int, words.groups())) == counts, f"{words[0]}, but the tools: {counts}"
        found = self.statistics("rw")
        for name in ("transactions", "items", "first_sequence", "end_sequence", "discarded_records", "orphans"):
            key = f"recovery/{name}"
            assert found[key] == report[name], f"{key} is {found[key]}, of the tools {report[name]}"
        assert found["recovery/stop_reason"] == STOP_END, f"the replay ended with {found['recovery/stop_reason']}"
        assert found["recovery/time_ns"] > 0 and found["recovery/duration_ns"] > 0, f"no times: {found}"
        self.program("compare", "recovered")
        self.shell("echo more > /mnt/more; rm /mnt/more; echo 3 > /proc/sys/vm/drop_caches")
        self.program("compare", "recovered")
        self.unmount()
        self.images.check("rw")
        kept = information(self.images.path("rw"))["superblock"]["recovery"]
        assert kept["transactions"] == report["transactions"], f"the superblock keeps {kept}"
        self.clean_mount("rw")

    def orphans(self) -> None:
        self.mount("orphans", "rw")
        found = self.statistics("orphans")
        assert found["recovery/orphans"] == self.images.orphans, f"{found['recovery/orphans']} orphans were found"
        assert found["orphans"] == 0, f"{found['orphans']} orphans are left"
        assert found["orphan_steps"] >= self.images.orphans, f"they took {found['orphan_steps']} steps"
        free = tuple(map(int, self.shell("stat -f -c '%f %d' /mnt").split()))
        assert free == self.images.free, f"free are {free} blocks and inodes, not {self.images.free}"
        self.unmount()
        self.images.check("orphans")

    def read_only(self) -> None:
        log = self.mount("ro", "ro")
        assert "recovered" in log, f"the log does not tell of a recovery: {log}"
        self.program("compare", "recovered")
        self.unmount()
        found = information(self.images.path("ro"))
        assert found["journal"]["clean"], "the journal is not clean"
        assert found["journal"]["orphans"] == self.images.orphans, f"{found['journal']['orphans']} orphans are left"
        self.unchanged("ro", lambda: (self.mount("ro", "ro"), self.program("compare", "recovered"), self.unmount()))
        self.mount("ro", "ro")
        self.remount("rw")
        self.shell("echo more > /mnt/more; rm /mnt/more")
        self.program("compare", "recovered")
        self.unmount()
        self.images.check("ro")

    def without_recovery(self) -> None:
        def look() -> None:
            log = self.mount("no-recovery", "ro", "norecovery")
            assert "is left as it is" in log, f"the log does not warn: {log}"
            assert ",norecovery" in self.shell("grep ' /mnt ' /proc/mounts")
            found = self.statistics("no-recovery")
            assert (found["recovery/transactions"], found["orphan_steps"]) == (0, 0), f"something was done: {found}"
            self.program("compare", "home")
            self.remount("rw", EROFS)
            assert "stays read-only" in self.log()
            self.shell("! touch /mnt/new 2> /dev/null")
            self.remount("ro")
            self.program("compare", "home")
            self.unmount()

        self.unchanged("no-recovery", look)
        # It has taken nothing away from who recovers later.
        self.mount("no-recovery", "rw")
        self.program("compare", "recovered")
        self.unmount()
        self.images.check("no-recovery")

    def norecovery_needs_ro(self) -> None:
        def refused() -> None:
            log = self.mount("toggled", "rw", "norecovery", EINVAL)
            assert "norecovery needs ro" in log, f"the log does not say why: {log}"
            log = self.mount("clean", "rw", "norecovery", EINVAL)
            assert "norecovery needs ro" in log, f"the log does not say why: {log}"

        self.unchanged("toggled", refused)

    def read_only_device_is_refused(self, name: str) -> None:
        log = self.mount(name, "ro", wanted=EROFS)
        assert "the device is read-only" in log and "norecovery" in log, f"the log does not say what to do: {log}"
        self.mount(name, "rw", wanted=EACCES)
        self.mount(name, "ro", "norecovery")
        self.program("compare", "home")
        self.remount("rw", EACCES)
        self.unmount()

    def read_only_device(self) -> None:
        self.unchanged("hardware", lambda: self.read_only_device_is_refused("hardware"))

    def toggled_device(self) -> None:
        self.shell(f"blockdev --setro {self.devices['toggled']}")
        self.unchanged("toggled", lambda: self.read_only_device_is_refused("toggled"))
        self.shell(f"blockdev --setrw {self.devices['toggled']}")
        self.mount("toggled", "ro")
        self.program("compare", "recovered")
        self.unmount()
        self.clean_mount("toggled")
        self.images.check("toggled")

    def clean_on_read_only_device(self) -> None:
        def look() -> None:
            self.mount("clean", "ro")
            self.program("compare", "recovered")
            self.remount("rw", EACCES)
            self.unmount()
            self.mount("clean", "ro", "norecovery")
            self.unmount()

        self.shell(f"blockdev --setro {self.devices['clean']}")
        self.unchanged("clean", look)

    def damaged_record(self) -> None:
        def refused() -> None:
            for how in ("rw", "ro"):
                log = self.mount("damaged", how, wanted=EUCLEAN)
                assert "journal-damage" in log, f"the log does not say why: {log}"
            # What is left to who wants to save something.
            self.mount("damaged", "ro", "norecovery")
            self.program("compare", "home")
            self.unmount()

        self.unchanged("damaged", refused)

    def torn_record(self) -> None:
        self.mount("torn", "rw")
        found = self.statistics("torn")
        assert found["recovery/stop_reason"] == STOP_TORN, f"the replay ended with {found['recovery/stop_reason']}"
        transactions = self.images.report["transactions"] - 1
        assert found["recovery/transactions"] == transactions, f"{found['recovery/transactions']} transactions"
        self.program("compare", "without-last")
        self.unmount()
        tool("fsck-cairnfs", "-n", "-f", str(self.images.path("torn")))
        self.clean_mount("torn")

    def damaged_headers(self) -> None:
        def refused() -> None:
            for options in ("", "norecovery"):
                log = self.mount("headers", "ro", options, EBADMSG)
                assert "crc" in log, f"the log does not say why: {log}"

        self.unchanged("headers", refused)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cairnfs-recovery-") as name:
        images = Images.make(Path(name))
        disks = [Disk.image(images.path(copy), read_only=copy in READ_ONLY_COPIES) for copy in COPIES]
        devices = {copy: f"/dev/vd{chr(ord('a') + number)}" for number, copy in enumerate(COPIES)}
        with machines.make_guest(ENVIRONMENT, MachineConfig(disks=tuple(disks), leaks=True)) as guest:
            guest.run(["/bin/sh", "-c", "insmod /lib/modules/current/cairnfs.ko"], LIMIT_S, check=True)
            cases = Cases(guest, devices, images).all()
            status = run_cases(cases, lambda: guest.run(["/bin/umount", "/mnt"], LIMIT_S))
            guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
