# vm: timeout_s=180
"""What takes a moment on a fast disk takes seconds on this one: a file is cut while its new blocks are on their way, and what was
committed meanwhile is all that a power cut leaves. And what nobody has flushed is gone with the power: a file that was overwritten
in place and renamed over another has its contents when it has the name.

The project's own disk (docs/disk.md) charges for each KiB, so the order of things is known: the blocks are handed to the disk, the
file is cut, some of the blocks arrive, a directory is synced, the power goes.
"""

import functools
import os
import sys
import tempfile
import time
from pathlib import Path

from vmlib import machines, programs
from vmlib.cases import run_cases
from vmlib.disk_server import DiskServer
from vmlib.environment import Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
LIMIT_S = 60.0 * ENVIRONMENT.slowness
# Apart, so that each is a request of its own, and a mapping of its own when it has arrived.
PIECES = 64
PIECE_KIB = 64
# All pieces together take four seconds, and as much longer as a slow guest is in handing them to the disk.
KIB_NS = 1_000_000 * (8 if ENVIRONMENT.flavour == "debug" else 1)
# By then the disk has been written all of it, several times over.
PATIENCE_S = 60 + 3e-9 * KIB_NS * PIECES * PIECE_KIB
WRITE_TREE = f"""
    touch /mnt/file; sync
    for piece in $(seq 0 {PIECES - 1}); do
        dd if=/dev/urandom of=/mnt/file bs={PIECE_KIB}k count=1 seek=$((2 * piece)) conv=notrunc 2> /dev/null
    done
"""
# Nothing, a part of a piece that is early on its way, and a hole.
SIZES_KIB = (0, PIECE_KIB // 2 - 1, 3 * PIECE_KIB)
OPTIONS = "commit_interval_s=3600,checkpoint_interval_s=3600"
DETACH = "/bin/cairnfs-nbd-attach detach 0 2> /dev/null || true"


class Cases:
    """The cases, with one guest and one disk for all."""

    def __init__(self, guest: Guest, server: DiskServer, folder: Path) -> None:
        self.guest = guest
        self.server = server
        self.image = folder / "medium.img"

    def shell(self, script: str) -> str:
        return self.guest.run(["/bin/sh", "-c", f"set -e; {script}"], LIMIT_S, check=True).text.strip()

    def cut_under_way(self, size_kib: int) -> None:
        """A file is cut to `size_kib` while its blocks arrive."""
        self.server.command("reset")
        self.server.command("price kib_ns=0")
        self.attach_and_mount()
        self.shell(WRITE_TREE)
        self.server.command(f"price kib_ns={KIB_NS}")
        before = self.writes()
        # Nobody waits for it.
        self.shell("guest-data helper write-back /mnt/file")
        self.wait_for_writes(before + PIECES // 8)
        cutter = self.guest.start_program(["/bin/busybox", "truncate", "-s", f"{size_kib}k", "/mnt/file"])
        self.wait_for_writes(before + PIECES // 2)
        assert not cutter.ended, "the file was cut before half of its blocks had arrived"
        # What has arrived is committed with this; in memory the end of the file has moved, in the journal it has not. No contents
        # are to be written before, for they would have to wait for all blocks of the file.
        self.shell("mkdir /mnt/folder; guest-data helper sync /mnt")
        self.server.command("cut seed=1")
        self.server.command("price kib_ns=0")
        cutter.wait(LIMIT_S)
        # A disk without power is not attached any more, when the mount has let go of it.
        self.shell(f"umount /mnt; {DETACH}")
        self.judge()

    def replaced(self) -> None:
        """A file is overwritten in place and renamed over another; only the name is synced, by a forced write where that is enough."""
        self.server.command("reset")
        self.attach_and_mount()
        content = f"head -c {PIECE_KIB}k /dev/zero | tr '\\0'"
        self.shell(f"for name in new old; do {content} o > /mnt/$name; done; sync; {content} n | dd of=/mnt/new conv=notrunc 2> /dev/null")
        self.shell("mv /mnt/new /mnt/old; guest-data helper sync /mnt")
        self.server.command("cut seed=1")
        self.shell(f"umount /mnt; {DETACH}")
        self.attach_and_mount()
        found = self.shell("cd /mnt; ls; tr -d n < old | wc -c")
        self.shell(f"umount /mnt; {DETACH}")
        assert found.split() == ["old", "0"], f"names, and bytes that are not those of the new file: {found.split()}"
        self.judge()

    def attach_and_mount(self) -> None:
        attach = f"/bin/cairnfs-nbd-attach attach {self.server.address_in_guest} disk0 0"
        # The block layer is not to join pieces that lie side by side on the disk.
        self.shell(f"{attach}; echo 2 > /sys/block/nbd0/queue/nomerges; mount -t cairnfs -o {OPTIONS} /dev/nbd0 /mnt")

    def writes(self) -> int:
        return int(self.server.command("counters")["writes"])

    def wait_for_writes(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.writes() < count:
            assert time.monotonic() < deadline, f"the disk has had {self.writes()} writes, not {count}"
            time.sleep(0.02)

    def judge(self) -> None:
        """What the disk holds durably is sound, as it is and with its journal replayed."""
        self.server.command(f"image {self.image}")
        try:
            programs.run_for_host(ENVIRONMENT, "fsck-cairnfs", "-nf", str(self.image))
        finally:
            self.image.unlink()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cairnfs-slow-disk-") as name:
        image = Path(name) / "new.img"
        programs.run_for_host(ENVIRONMENT, "mkfs-cairnfs", "-q", "-J", "size=4m", str(image), "96m")
        config = MachineConfig(network=True)
        with DiskServer(ENVIRONMENT, [f"disk0={image},cow"]) as server, machines.make_guest(ENVIRONMENT, config) as guest:
            cases = Cases(guest, server, Path(name))
            cases.shell("insmod /lib/modules/current/cairnfs.ko")
            cut = [
                (f"a file is cut to {size_kib} KiB while its blocks arrive", functools.partial(cases.cut_under_way, size_kib))
                for size_kib in SIZES_KIB
            ]
            replaced = ("a file is overwritten in place and renamed over another: its contents come with the name", cases.replaced)
            status = run_cases([*cut, replaced])
            guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
