# vm: timeout_s=600 alone
"""Mount options, and the flags of inodes that ask for the same: what each does, seen from outside.

By the project's own disk (docs/disk.md), attached by the guest's own client: what it holds durably is what a power cut would
leave, its counters say what was asked of it, and it is as slow as it is told to be. By the counts in sysfs, by /proc/mounts, by
the error number and the log's words where a value is refused, and by a damaged inode for `errors=`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from vmlib import machines, programs
from vmlib.cases import run_cases
from vmlib.disk_server import DiskServer
from vmlib.environment import Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
LIMIT_S = 60.0 * ENVIRONMENT.slowness
DEVICE = "/dev/nbd0"
STATISTICS = "/sys/fs/cairnfs/nbd0"
SIZE, JOURNAL = "64M", "size=4M"
EINVAL, EROFS = 22, 30
# docs/format.md
BLOCK_BYTES, INODE_BYTES, BITMAP_BITS = 4096, 512, 32768

NEVER_S = 3600
# For as long nothing may happen, and what is to happen each second has happened.
QUIET_S = 4
# So long what is to happen each second is waited for.
PATIENCE_S = 20.0 * ENVIRONMENT.slowness
QUIET = f"commit_interval_s={NEVER_S},checkpoint_interval_s={NEVER_S}"

# One of each call that changes names, and what `ls -R` shows then.
CHANGES = (
    "echo content > file; mkdir folder removed; mv file folder/moved; ln folder/moved hard; ln -s hard soft; "
    "mkfifo pipe; rmdir removed; echo gone > gone; rm gone"
)
CHANGED = [".:", "folder", "hard", "pipe", "soft", "./folder:", "moved"]

# So long a commit takes: the other threads come meanwhile, also in a slow guest.
FLUSH_NS = 25_000_000 * (8 if ENVIRONMENT.flavour == "debug" else 1)
THREADS = 8
FILES = 8 if ENVIRONMENT.flavour == "debug" else 40

# Beside those of the ring that were just below the mark, what is in use when the checkpoint begins, in thousandths.
FILL_BELOW, FILL_ABOVE = 30, 150

# What is out of range: the log must name option and value.
OUT_OF_RANGE = (
    "commit_interval_s=0", "commit_interval_s=3601", "checkpoint_interval_s=0", "checkpoint_interval_s=4294967295",
    "group_delay_us=100001", "group_max_ops=0", "journal_high_water_pct=4", "journal_high_water_pct=91",
)  # fmt: skip
# What is no value of the option at all, which VFS' own parser finds: option, value or none.
NO_VALUES = (
    ("commit_interval_s", "-1"), ("commit_interval_s", "1.5"), ("commit_interval_s", "soon"), ("commit_interval_s", ""),
    ("commit_interval_s", None), ("group_max_ops", "4294967296"), ("journal_high_water_pct", "50%"),
    ("errors", "panic"), ("errors", ""), ("errors", None), ("norecovery", "1"),
)  # fmt: skip
# The last one is a word of VFS, which takes it for every filesystem.
UNKNOWN = ("commit=5", "data=ordered", "Errors=continue", "nobarrier", "lazytime")

ALL_OPTIONS = {
    "commit_interval_s": "7", "checkpoint_interval_s": "8", "group_delay_us": "9", "group_max_ops": "10",
    "journal_high_water_pct": "11", "errors": "remount-ro",
}  # fmt: skip


def joined(options: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())


class Cases:
    """The cases, with one guest and one disk for all."""

    def __init__(self, guest: Guest, server: DiskServer, folder: Path) -> None:
        self.guest = guest
        self.server = server
        self.folder = folder

    # The guest ------------------------------------------------------------------------------------------------------

    def shell(self, script: str) -> str:
        return self.guest.run(["/bin/sh", "-c", f"set -e; {script}"], LIMIT_S, check=True).text.strip()

    def log(self) -> str:
        """The kernel's log since it was emptied, without the notes of the channel: they have the words of commands."""
        lines = self.shell("dmesg").splitlines()
        return "\n".join(line for line in lines if "cairnfs-guest:" not in line)

    def mount_error(self, how: str, options: str) -> int:
        """Mounts, or remounts what is mounted; the error number. The log is empty before."""
        self.shell("dmesg -c > /dev/null")
        is_mounted = "/mnt" in self.shell("cut -d ' ' -f 2 /proc/mounts").splitlines()
        words = ["remount"] if is_mounted else ["mount", DEVICE]
        result = self.guest.run(["/bin/guest-mount", *words, how, *([options] if options else [])], LIMIT_S, check=True)
        return int(result.text)

    def mount(self, options: str, how: str = "rw") -> None:
        error = self.mount_error(how, options)
        assert error == 0, f"mount with {options}: error {error}; the log says: {self.log()}"

    @contextlib.contextmanager
    def attached(self, reset: bool = True, disk: str = "disk0") -> Iterator[None]:
        """The disk, with a new filesystem or as it is."""
        if reset:
            self.server.command(f"reset disk={disk}")
        self.shell(f"/bin/cairnfs-nbd-attach attach {self.server.address_in_guest} {disk} 0")
        try:
            yield
        finally:
            # A disk without power is not attached any more.
            self.shell("umount /mnt 2> /dev/null || true; /bin/cairnfs-nbd-attach detach 0 2> /dev/null || true")

    @contextlib.contextmanager
    def mounted(self, options: str) -> Iterator[None]:
        """A new filesystem, mounted."""
        with self.attached():
            self.mount(options)
            yield
            self.shell("if grep -q ' /mnt ' /proc/mounts; then umount /mnt; fi")

    def statistic(self, name: str) -> int:
        return int(self.shell(f"cat {STATISTICS}/{name}"))

    def wait_for_more(self, name: str, than: int) -> None:
        """Until a count is higher."""
        script = f"""
            for round in $(seq {10 * int(PATIENCE_S)}); do
                [ $(cat {STATISTICS}/{name}) -gt {than} ] && exit 0
                sleep 0.1
            done
            echo "{name} is still $(cat {STATISTICS}/{name})" >&2; exit 1
        """
        done = self.guest.run(["/bin/sh", "-c", script], LIMIT_S + 2 * PATIENCE_S)
        assert done.exit_code == 0, done.error_output.decode().strip()

    # The disk -------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Cuts the power of the disk; the mount has nothing more to say, and the device is let go of by itself."""
        self.server.command("cut seed=1")
        self.shell("umount /mnt")

    def names_after_the_cut(self) -> list[str]:
        """What the next mount finds."""
        with self.attached(reset=False):
            self.mount("")
            return self.shell("ls /mnt").split()

    def medium(self) -> dict[str, Any]:
        """What `cairnfs info` says of what the disk holds durably."""
        image = self.folder / "medium.img"
        self.server.command(f"image {image}")
        found = programs.run_for_host(ENVIRONMENT, "cairnfs", "info", "--json", str(image))
        image.unlink()
        return json.loads(found)

    def journal_on_the_disk(self) -> dict[str, Any]:
        """The newest journal header that is durable."""
        return self.medium()["journal"]

    # The cases ------------------------------------------------------------------------------------------------------

    def all(self) -> list[tuple[str, Callable[[], object]]]:
        return [
            ("commit_interval_s: a new name is durable after a second, unasked", self.commit_interval),
            ("commit_interval_s: with a long interval it is not", self.long_commit_interval),
            ("sync: names, attributes and contents are durable when a call returns", self.synchronous),
            ("dirsync: names are durable when a call returns, contents are not", self.synchronous_directories),
            ("flags of inodes: +S and +D are durable at once, +A keeps no times, +i and +a refuse", self.inode_flags),
            ("checkpoint_interval_s: what is committed goes home unasked, and the tail moves", self.checkpoint_interval),
            ("checkpoint_interval_s: with a long interval nothing is written", self.long_checkpoint_interval),
            ("intervals that a remount makes short hold at once", self.remounted_intervals),
            ("group_delay_us, group_max_ops: those who fsync at once share commits", self.gathering),
            ("who is alone commits for each fsync, and waits for nobody", self.alone),
            ("journal_high_water_pct: a checkpoint begins at that level", self.high_water),
            ("errors=continue: a damaged inode is refused, all else goes on", lambda: self.errors("errors=continue")),
            ("errors: the default is continue", lambda: self.errors("")),
            ("errors=remount-ro: nothing is written any more", self.errors_remount_ro),
            ("values out of range: EINVAL, the log names option and value", self.out_of_range),
            ("what is no value: EINVAL, the log names the option", self.no_values),
            ("unknown options: EINVAL, the log names them", self.unknown),
            ("a remount that is refused changes nothing", self.refused_remount),
            ("/proc/mounts shows what differs from the default, and it survives remounts", self.shown),
            ("the last one counts, and numbers have any base", self.spelling),
            ("a device with larger sectors than the records: read-only, and the log says why", self.larger_sectors),
            ("unload", lambda: self.shell("rmmod cairnfs")),
        ]

    def commit_interval(self) -> None:
        with self.mounted(f"commit_interval_s=1,checkpoint_interval_s={NEVER_S}"):
            self.shell("sync")
            before = self.statistic("journal/commits")
            self.shell("touch /mnt/unasked")
            self.wait_for_more("journal/commits", before)
            self.cut()
        names = self.names_after_the_cut()
        assert names == ["unasked"], f"after a cut there is {names}"

    def long_commit_interval(self) -> None:
        with self.mounted(QUIET):
            self.shell(f"touch /mnt/asked; sync; touch /mnt/unasked; sleep {QUIET_S}")
            self.cut()
        names = self.names_after_the_cut()
        assert names == ["asked"], f"after a cut there is {names}"

    def synchronous(self) -> None:
        found = self.after_a_cut("sync", f"{CHANGES}; chmod 640 folder/moved", "ls -R; stat -c %a folder/moved; cat folder/moved")
        assert found.split() == [*CHANGED, "640", "content"], f"after a cut there is {found}"

    def synchronous_directories(self) -> None:
        found = self.after_a_cut("dirsync", CHANGES, "ls -R; cat folder/moved")
        assert found.split() == CHANGED, f"after a cut there is {found}"

    def inode_flags(self) -> None:
        self.flagged(self.flags_that_need_no_cut, reset=True)
        found = self.flagged(lambda: self.shell("cd /mnt; cat plain; ls plain-folder; echo content > synchronous"))
        assert not found, f"what nobody asked to be durable was so: {found}"
        found = self.flagged(lambda: self.shell("cd /mnt; cat synchronous; mkdir synchronous-folder/name"))
        assert found == "content", f"in a file that was written synchronously there is '{found}'"
        found = self.flagged(lambda: self.shell("ls /mnt/synchronous-folder"))
        assert found == "name", f"in a directory that is changed synchronously there is '{found}'"

    def flagged(self, action: Callable[[], str], reset: bool = False) -> str:
        """What an action says on the disk with flagged inodes, behind which the power is cut at once."""
        with self.attached(reset, "disk1"):
            self.mount(QUIET)
            found = action()
            self.cut()
        return found

    def flags_that_need_no_cut(self) -> str:
        self.shell("cd /mnt; cat plain access-times-not-kept")
        plain, not_kept = map(int, self.shell("cd /mnt; stat -c %X plain access-times-not-kept").split())
        assert plain > 0, "an access time does not move when it should"
        assert not_kept == 0, f"an access time that is not kept has moved to {not_kept}"
        for refused in ("echo > immutable", "rm immutable", "ln immutable hard", "echo > append-only", "rm append-only"):
            words = self.shell(f"cd /mnt; ({refused}) 2>&1 && echo done || true")
            assert "not permitted" in words, f"{refused}: {words}"
        return self.shell("cd /mnt; echo more >> append-only; echo content > plain; mkdir plain-folder/name")

    def after_a_cut(self, option: str, script: str, look: str) -> str:
        """What a look shows when the power was cut at once behind a script."""
        with self.mounted(f"{QUIET},{option}"):
            self.shell(f"cd /mnt; {script}; cd /")
            self.cut()
        with self.attached(reset=False):
            self.mount("")
            return self.shell(f"cd /mnt; {look}")

    def checkpoint_interval(self) -> None:
        with self.mounted(f"commit_interval_s={NEVER_S},checkpoint_interval_s=1"):
            self.goes_home("/mnt/new")

    def goes_home(self, path: str) -> None:
        before = self.journal_on_the_disk()
        home = self.statistic("home_blocks_written")
        self.shell(f"touch {path}; sync")
        self.wait_for_more("home_blocks_written", home)
        # The one that this belongs to has ended.
        self.wait_for_more("checkpoints", self.statistic("checkpoints"))
        after = self.journal_on_the_disk()
        assert after["tail_sequence"] > before["tail_sequence"], f"the tail on the disk was {before}, and is {after}"
        used = self.statistic("journal/used_bytes")
        assert used == 0, f"{used} bytes of the ring are still in use"

    def long_checkpoint_interval(self) -> None:
        with self.mounted(QUIET):
            self.shell("touch /mnt/new; sync")
            self.server.command("counters reset")
            before = self.journal_on_the_disk()
            self.shell(f"sleep {QUIET_S}")
            counters = self.server.command("counters")
            after = self.journal_on_the_disk()
            assert (counters["writes"], counters["flushes"]) == (0, 0), f"the disk was asked for {counters}"
            assert after == before, f"the journal's header was {before}, and is {after}"
            assert self.statistic("home_blocks_written") == 0, "blocks have gone home"

    def remounted_intervals(self) -> None:
        with self.mounted(QUIET):
            self.mount("commit_interval_s=1")
            # What the remount itself has set off is done. Nothing is asked for: that would wake the threads.
            self.shell(f"sleep {QUIET_S / 2}")
            before = self.statistic("journal/commits")
            self.shell("touch /mnt/unasked")
            self.wait_for_more("journal/commits", before)
        with self.mounted(QUIET):
            self.mount("checkpoint_interval_s=1")
            self.shell(f"sleep {QUIET_S / 2}")
            self.goes_home("/mnt/home")

    def commits(self, options: str, threads: int) -> tuple[int, int]:
        """How many commits it takes until each of the threads has made and fsynced its files, and how many milliseconds."""
        with self.mounted(f"{QUIET}{options}"):
            self.server.command("counters reset")
            self.server.command(f"price flush_ns={FLUSH_NS}")
            try:
                words = self.shell(f"/bin/guest-options sync /mnt {STATISTICS} {threads} {FILES}").split()
            finally:
                self.server.command("price flush_ns=0")
            forced = self.server.command("counters")["fua_writes"]
        commits, took_ms = map(int, words)
        # One write is one commit; at the end of the ring it is two.
        assert commits <= forced <= commits + 2, f"{commits} commits were {forced} forced writes"
        return commits, took_ms

    def gathering(self) -> None:
        options = {
            "without": ",group_delay_us=0",
            "of one": ",group_delay_us=100000,group_max_ops=1",
            "of all": ",group_delay_us=100000",
        }
        found = {name: self.commits(words, THREADS)[0] for name, words in options.items()}
        fsyncs = THREADS * FILES
        print(f"# {fsyncs} fsyncs by {THREADS} threads, commits by gathering: {found}")
        assert fsyncs > 2 * found["without"], "threads do not even share the commit that they all wait for"
        # On a kernel with checkers the threads need longer from one fsync to the next than the longest time of gathering.
        for name in ("without", "of one") if ENVIRONMENT.flavour == "fast" else ():
            assert found["of all"] * 5 < found[name] * 4, f"gathering is of no use: {found}, of {fsyncs} fsyncs"

    def alone(self) -> None:
        # The better of two runs: whatever else the machine does only makes one slower.
        without_ms = min(self.commits(",group_delay_us=0", 1)[1] for _ in range(2))
        runs = [self.commits(",group_delay_us=100000", 1) for _ in range(2)]
        found, took_ms = max(commits for commits, _ in runs), min(ms for _, ms in runs)
        print(f"# {FILES} fsyncs of one thread took {took_ms} ms, {without_ms} ms where it may not wait")
        assert found == FILES, f"{found} commits for {FILES} fsyncs of one thread"
        # Waiting, it would do so as long again as each commit takes.
        assert took_ms * 5 < without_ms * 8, f"one thread waits for others: {took_ms} ms, not {without_ms}"

    def high_water(self) -> None:
        for percent in (10, 50):
            with self.mounted(f"{QUIET},journal_high_water_pct={percent}"):
                found = int(self.shell(f"/bin/guest-options fill /mnt {STATISTICS}"))
            print(f"# at {percent} %: a checkpoint began when {found / 10} % were in use")
            is_near = percent * 10 - FILL_BELOW <= found <= percent * 10 + FILL_ABOVE
            assert is_near, f"with {percent} % a checkpoint began when {found / 10} % of the ring were in use"

    # errors= --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def damaged(self, options: str) -> Iterator[None]:
        """A filesystem with a file whose inode is damaged, mounted; somebody has looked for it."""
        with self.attached():
            self.mount("")
            self.shell("echo content > /mnt/good; touch /mnt/damaged; sync")
            inode = int(self.shell("stat -c %i /mnt/damaged"))
            self.shell("umount /mnt")
            offset = self.offset_of_inode(inode) + 100
            self.shell(f"printf '\\125' | dd of={DEVICE} bs=1 seek={offset} conv=notrunc 2> /dev/null; sync")
            self.mount(options)
            words = self.shell("stat /mnt/damaged 2>&1 || true")
            assert "Bad message" in words, f"the damaged inode: {words}"
            log = self.log()
            assert "nbd0: corrupt: crc" in log, f"the log does not name the check: {log}"
            yield
            self.shell("umount /mnt")
            # What the option has left is sound but for the inode.
            self.mount("")
            assert self.shell("cat /mnt/good") == "content"
            self.shell("touch /mnt/later; umount /mnt")

    def offset_of_inode(self, number: int) -> int:
        """Where an inode of the only group stands (docs/format.md, a group)."""
        found = self.medium()["superblock"]
        bitmaps = found["group_blocks"] // BITMAP_BITS + -(-found["inodes_per_group"] // BITMAP_BITS)
        return (found["first_group_block"] + 2 + bitmaps) * BLOCK_BYTES + number * INODE_BYTES

    def errors(self, options: str) -> None:
        with self.damaged(options):
            self.shell("echo more > /mnt/more; sync; rm /mnt/more")
            error = self.shell(f"cat {STATISTICS}/error")
            assert error == "none", f"the journal has failed: {error}"
            assert "errors" not in self.shell("grep ' /mnt ' /proc/mounts")

    def errors_remount_ro(self) -> None:
        with self.damaged("errors=remount-ro"):
            words = self.shell("touch /mnt/more 2>&1 || true")
            assert "Input/output error" in words, f"a new file: {words}"
            assert self.shell("cat /mnt/good") == "content"
            error = self.shell(f"cat {STATISTICS}/error")
            assert "crc" in error, f"the journal's error is {error}"
            shown = self.shell("grep ' /mnt ' /proc/mounts")
            assert ",errors=remount-ro,emergency_ro" in shown, f"/proc/mounts: {shown}"
            log = self.log()
            assert "shut down, nothing is written any more" in log, f"the log does not say so: {log}"
            before = self.server.command("counters")["writes"]
            self.shell("sync || true")
            after = self.server.command("counters")["writes"]
            assert before == after, f"{after - before} writes behind the error"

    # Values ---------------------------------------------------------------------------------------------------------

    def refused(self, options: str, *words: str) -> None:
        """EINVAL, by a mount and by a remount, and the log has the words."""
        found = self.mount_error("rw", options)
        log = self.log()
        if found == 0:
            self.shell("umount /mnt")
        assert found == EINVAL, f"{options}: error {found}"
        missing = [word for word in words if word not in log]
        assert not missing, f"{options}: the log has not {missing}: {log}"

    def out_of_range(self) -> None:
        with self.attached():
            for option in OUT_OF_RANGE:
                self.refused(option, option)
            self.mount("")
            for option in OUT_OF_RANGE:
                self.refused(option, option)

    def no_values(self) -> None:
        with self.attached():
            for name, value in NO_VALUES:
                self.refused(name if value is None else f"{name}={value}", f"'{name}'")

    def unknown(self) -> None:
        with self.attached():
            for option in UNKNOWN:
                self.refused(option, f"Unknown parameter '{option.partition('=')[0]}'")
            self.mount("")
            for option in UNKNOWN:
                self.refused(option, f"Unknown parameter '{option.partition('=')[0]}'")
            self.refused("norecovery", "norecovery")

    def options_shown(self) -> list[str]:
        return self.shell("grep ' /mnt ' /proc/mounts").split()[3].split(",")

    def refused_remount(self) -> None:
        with self.mounted("group_max_ops=5"):
            before = self.options_shown()
            for options in ("group_max_ops=6,commit_interval_s=0", "errors=remount-ro,nothing=1", "group_delay_us=1,norecovery"):
                error = self.mount_error("rw", options)
                assert error == EINVAL, f"remount with {options}: error {error}"
                assert self.options_shown() == before, f"after {options}: {self.options_shown()}, before it {before}"

    def shown(self) -> None:
        wanted = joined(ALL_OPTIONS).split(",")
        with self.mounted(""):
            assert self.options_shown() == ["rw", "relatime"], f"by default {self.options_shown()}"
            # What holds by default is nothing to be shown, given or not.
            self.mount("commit_interval_s=5,checkpoint_interval_s=30,group_max_ops=64,errors=continue")
            assert self.options_shown() == ["rw", "relatime"], f"with defaults {self.options_shown()}"
        with self.mounted(joined(ALL_OPTIONS)):
            assert self.options_shown() == ["rw", "relatime", *wanted], f"{self.options_shown()}"
            for how in ("ro", "rw"):
                self.mount("", how)
                assert self.options_shown() == [how, "relatime", *wanted], f"after a remount {self.options_shown()}"
            changed = {**ALL_OPTIONS, "group_max_ops": "12", "commit_interval_s": "13"}
            self.mount("group_max_ops=12,commit_interval_s=13")
            shown = self.options_shown()
            assert shown == ["rw", "relatime", *joined(changed).split(",")], f"after a change {shown}"
            # What is shown can be given.
            self.shell("umount /mnt")
            self.mount(",".join(shown[2:]))
            assert self.options_shown() == shown, f"given as shown, {self.options_shown()}"

    def larger_sectors(self) -> None:
        image = self.folder / "sectors.img"
        programs.run_for_host(ENVIRONMENT, "mkfs-cairnfs", "-q", "--physical-block", "512", str(image), SIZE)
        with DiskServer(ENVIRONMENT, [f"disk0={image},cow"], ["--block-bytes", str(BLOCK_BYTES)]) as server:
            other = Cases(self.guest, server, self.folder)
            with other.attached():
                sectors = self.shell("cat /sys/block/nbd0/queue/logical_block_size")
                assert sectors == str(BLOCK_BYTES), f"the device has sectors of {sectors} bytes"
                error = self.mount_error("rw", "")
                assert error == EROFS, f"mount: error {error}"
                assert "records are padded to 512 bytes" in self.log(), f"the log does not say so: {self.log()}"
                self.mount("", "ro")
                error = self.mount_error("rw", "")
                assert error == EROFS, f"remount: error {error}"
                self.shell("ls /mnt; umount /mnt")

    def spelling(self) -> None:
        with self.mounted("group_max_ops=3,commit_interval_s=0x10,group_max_ops=4"):
            assert self.options_shown()[2:] == ["commit_interval_s=16", "group_max_ops=4"], f"{self.options_shown()}"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cairnfs-options-") as name:
        folder = Path(name)
        image = folder / "new.img"
        programs.run_for_host(ENVIRONMENT, "mkfs-cairnfs", "-q", "-J", JOURNAL, str(image), SIZE)
        config = MachineConfig(network=True, cpus=2)
        flagged = folder / "flagged.img"
        shutil.copy(image, flagged)
        programs.run_for_host(ENVIRONMENT, "make-test-image", "flags", str(flagged))
        disks = [f"disk0={image},cow", f"disk1={flagged},cow"]
        with DiskServer(ENVIRONMENT, disks) as server, machines.make_guest(ENVIRONMENT, config) as guest:
            guest.run(["/bin/sh", "-c", "insmod /lib/modules/current/cairnfs.ko"], LIMIT_S, check=True)
            cases = Cases(guest, server, folder).all()
            status = run_cases(cases)
            guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
