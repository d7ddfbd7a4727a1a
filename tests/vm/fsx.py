# vm: timeout_s=1800
"""The file system exerciser: 100,000 random operations on one file, compared with a model; and 100,000 with mappings.

`fsx` is a program from crates.io (the Rust successor of Apple's), built once into the cache. Each run ends with a remount,
after which the file must be the same, and with the filesystem's own checker.

CAIRNFS_FSX_OPERATIONS= changes the number; on the debug kernel it is a tenth. CAIRNFS_TEST_FILESYSTEM=ext4 tests the test.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmlib import kernel_log, machines, programs
from vmlib.cases import run_cases
from vmlib.disks import Disk
from vmlib.environment import Environment, VmError
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
FILESYSTEM = os.environ.get("CAIRNFS_TEST_FILESYSTEM", "cairnfs")
OPERATIONS = int(os.environ.get("CAIRNFS_FSX_OPERATIONS", 100_000 // ENVIRONMENT.load_divisor))
SEED = 20
FSX_VERSION = "0.3.2"
LIMIT_S = 60.0 * ENVIRONMENT.slowness
RUN_LIMIT_S = 800.0 * ENVIRONMENT.slowness
TARGET = "x86_64-unknown-linux-gnu"

MAKE = {"cairnfs": "/bin/mkfs-cairnfs -q -f", "ext4": "/bin/mkfs.ext4 -q -F -b 4096 -I 256"}
CHECK = {"cairnfs": "/bin/fsck-cairnfs -n -f", "ext4": "/bin/e2fsck -f -n"}


@dataclass(frozen=True)
class Load:
    """A mixture of operations. What cairnfs has not yet (fallocate, punched holes) is in none."""

    name: str
    weights: dict[str, float]


# Weights are relative; `invalidate` is MS_INVALIDATE of a mapping, posix_fadvise drops pages among others.
BUFFERED = Load(
    "buffered",
    {
        "read": 4, "write": 4, "truncate": 2, "close_open": 0.5, "fsync": 0.1, "fdatasync": 0.2, "sendfile": 1,
        "posix_fadvise": 0.5, "copy_file_range": 1, "mapread": 0, "mapwrite": 0,
    },
)  # fmt: skip
MAPPED = Load(
    "with mappings",
    {
        "read": 3, "write": 3, "truncate": 2, "close_open": 0.5, "fsync": 0.1, "fdatasync": 0.1, "mapread": 3,
        "mapwrite": 3, "invalidate": 0.5, "posix_fadvise": 0.5,
    },
)  # fmt: skip


def fsx_program() -> Path:
    """The program, static, from the cache; built when it is not there yet."""
    root = ENVIRONMENT.cache / f"fsx-{FSX_VERSION}"
    with (ENVIRONMENT.cache / "fsx.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            # A cargo that outlives this process keeps the lock.
            environment = {**os.environ, **ENVIRONMENT.variables}
            subprocess.run(install_command(root), env=environment, pass_fds=(lock.fileno(),), check=True)
            shutil.rmtree(root / "target")
            (root / ".complete").touch()
    return root / "bin/fsx"


def install_command(root: Path) -> list[str]:
    flags = f'target.{TARGET}.rustflags=["-Ctarget-feature=+crt-static"]'
    where = ["--root", str(root), "--target-dir", str(root / "target"), "--target", TARGET, "--config", flags]
    return [str(ENVIRONMENT.cargo), "install", "--quiet", "--locked", "--version", FSX_VERSION, *where, "fsx"]


def configuration(load: Load) -> str:
    # Most operations begin and end within a block; some are large enough for large folios.
    weights = "\n".join(f"{name} = {float(weight)}" for name, weight in load.weights.items())
    # A mapping is not synced behind each store: that is for write-back to find.
    return f"flen = 300000\nnomsyncafterwrite = true\n[opsize]\nmax = 20000\n[weights]\n{weights}\n"


class Cases:
    """The cases, with one guest for all."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def shell(self, script: str, limit_s: float = LIMIT_S) -> str:
        done = self.guest.run(["/bin/sh", "-c", f"set -e; {script}"], limit_s)
        # fsx ends with its last operations, and may have printed thousands before.
        last_words = "\n".join(done.text.splitlines()[-40:])
        assert done.exit_code == 0, f"exit code {done.exit_code}: {last_words}"
        return done.text.strip()

    def all(self) -> list[tuple[str, Callable[[], None]]]:
        loads = (BUFFERED, MAPPED)
        named = [(f"{OPERATIONS} operations {load.name}", lambda load=load: self.exercise(load)) for load in loads]
        return [("mkfs and mount", self.mount), *named, ("the kernel's log has nothing bad", self.kernel_log)]

    def mount(self) -> None:
        module = "insmod /lib/modules/current/cairnfs.ko; " if FILESYSTEM == "cairnfs" else ""
        self.shell(f"{module}{MAKE[FILESYSTEM]} /dev/vda; mount -t {FILESYSTEM} /dev/vda /mnt")

    def exercise(self, load: Load) -> None:
        self.shell(f"cat > /tmp/fsx.toml <<'END'\n{configuration(load)}END\nrm -f /mnt/file")
        began = time.monotonic()
        self.shell(f"/bin/fsx -f /tmp/fsx.toml -N {OPERATIONS} -S {SEED} -P /tmp /mnt/file 2>&1", RUN_LIMIT_S)
        print(f"# {OPERATIONS} operations in {time.monotonic() - began:.0f} s")
        before = self.shell("sha256sum /mnt/file")
        self.shell(f"umount /mnt; {CHECK[FILESYSTEM]} /dev/vda; mount -t {FILESYSTEM} /dev/vda /mnt")
        after = self.shell("sha256sum /mnt/file")
        assert before == after, f"before the remount {before}, after it {after}"

    def kernel_log(self) -> None:
        self.shell("umount /mnt")
        findings = kernel_log.find_splats(self.guest.log_lines())
        assert not findings, "\n".join(findings[0].context)


def brought_programs() -> tuple[Path, ...]:
    if FILESYSTEM == "cairnfs":
        tools = tuple(programs.build_for_host(ENVIRONMENT, name) for name in ("mkfs-cairnfs", "fsck-cairnfs"))
    else:
        tools = (Path("/sbin/mkfs.ext4"), Path("/sbin/e2fsck"))
    return (*tools, fsx_program())


def main() -> int:
    if FILESYSTEM not in MAKE:
        raise VmError(f"CAIRNFS_TEST_FILESYSTEM={FILESYSTEM}: only {' and '.join(MAKE)} are known")
    config = MachineConfig(
        disks=(Disk.blank(256 << 20),), cairnfs_module=FILESYSTEM == "cairnfs", host_programs=brought_programs()
    )
    with machines.make_guest(ENVIRONMENT, config) as guest:
        status = run_cases(Cases(guest).all())
        guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
