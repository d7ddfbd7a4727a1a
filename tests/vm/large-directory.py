# vm: timeout_s=600
"""A directory of a million names, made on the host by the tools' own binding of core, walked and changed by the module.

The names are hard links to a thousand files (tests/guest/src/large_directory.rs). Walks show each name once, also while
20,000 are added and 20,000 removed; lookups find what is there and nothing else; and the checker has nothing against what is
left. On the debug kernel all numbers are a tenth.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vmlib import machines, programs
from vmlib.cases import run_cases
from vmlib.disks import Disk
from vmlib.environment import Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
tool = functools.partial(programs.run_for_host, ENVIRONMENT)
LIMIT_S = 120.0 * ENVIRONMENT.slowness
NAMES = 1_000_000 // ENVIRONMENT.load_divisor
CHANGES = 20_000 // ENVIRONMENT.load_divisor
LOOKUPS = 5_000 // ENVIRONMENT.load_divisor
# The thousand files, in a directory of their own.
FILES = 1000
# Of a sparse image: enough inodes for the files that are added, and blocks for the leaves.
SIZE = "1G"


class Cases:
    """The cases, in order, with one guest for all."""

    def __init__(self, guest: Guest, image: Path) -> None:
        self.guest = guest
        self.image = image

    def shell(self, script: str) -> str:
        return self.guest.run(["/bin/sh", "-c", f"set -e; {script}"], LIMIT_S, check=True).text.strip()

    def program(self, case: str, *numbers: int) -> str:
        words = ["/bin/guest-large-directory", case, "/mnt", *map(str, numbers)]
        return self.guest.run(words, LIMIT_S, check=True).text.strip()

    def all(self) -> list[tuple[str, Callable[[], object]]]:
        return [
            ("mount", lambda: self.shell("insmod /lib/modules/current/cairnfs.ko; mount -t cairnfs /dev/vda /mnt")),
            (f"a walk shows each of {NAMES} names once", lambda: self.program("walk", NAMES)),
            (f"{LOOKUPS} lookups of names that are there, and of as many twice that are not", self.look_up),
            (f"walks while {CHANGES} names are added and as many removed", self.churn),
            ("a walk after a remount, from the disk", self.walk_again),
            ("it unmounts, and is sound", self.check),
        ]

    def look_up(self) -> None:
        # What is in memory already would be found there.
        self.shell("echo 3 > /proc/sys/vm/drop_caches")
        self.program("look-up", NAMES, LOOKUPS)

    def churn(self) -> None:
        print(f"# {self.program('churn', NAMES, CHANGES)}")

    def walk_again(self) -> None:
        self.shell("umount /mnt; mount -t cairnfs /dev/vda /mnt")
        self.program("walk-changed", NAMES, CHANGES)

    def check(self) -> None:
        self.shell("umount /mnt; rmmod cairnfs")
        found = json.loads(tool("fsck-cairnfs", "-n", "-f", "--json", str(self.image)))
        assert found["findings"] == [], f"{found['findings']}"
        names = found["summary"]["names"]
        assert names == NAMES + FILES + 2, f"{names} names in all, and not {NAMES} and {FILES} and two directories"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cairnfs-large-directory-") as name:
        image = Path(name) / "large.img"
        tool("mkfs-cairnfs", "-q", str(image), SIZE)
        programs.build_for_host(ENVIRONMENT, "make-test-image")
        began = time.monotonic()
        tool("make-test-image", "directory", str(image), str(NAMES))
        made_s = time.monotonic() - began
        with machines.make_guest(ENVIRONMENT, MachineConfig(disks=(Disk.image(image),))) as guest:
            cases = Cases(guest, image).all()
            print(f"# {NAMES} names made in {made_s:.0f} s, the image has {image.stat().st_blocks >> 11} MiB", flush=True)
            status = run_cases(cases)
            guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
