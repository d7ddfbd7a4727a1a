"""Guests by virtme-ng: the host's root, shared read-only; for the shell, and for tests that want the host's programs.

What the runner brings along (tests, static programs, modules) lies in a folder of the guest's own, which is mounted at
`SHARE`. In place of a script the guest runs the server of the channel, so everything above works as with a lean guest.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmlib import initramfs, qemu
from vmlib.accelerator import KVM, Accelerator
from vmlib.environment import Environment
from vmlib.guest import Launch
from vmlib.programs import INIT_PROGRAM

if TYPE_CHECKING:
    from vmlib.machines import MachineConfig

SHARE = "/run/cairnfs"
_KERNEL_PARAMETERS = ("panic=-1", "oops=panic", "printk.devkmsg=on")
# The whole log goes where it is judged; at a terminal it would be in the way.
_WHOLE_LOG = ("--verbose", "--append", "loglevel=8", "--append", "ignore_loglevel")


def fill_share(share: Path, config: MachineConfig, programs: Sequence[Path], modules: Sequence[Path]) -> None:
    """Copies what the guest needs into the folder that it will see as `SHARE`."""
    for name, files in (("bin", (*programs, *config.host_programs)), ("modules", modules)):
        (share / name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, share / name)
    shutil.copytree(config.tests_folder, share / "tests")
    if not (share / "tests/lib").exists():
        shutil.copytree(initramfs.TESTS_FOLDER / "lib", share / "tests/lib")


def vng_command(environment: Environment, config: MachineConfig, chosen: Accelerator, share: Path) -> list[str]:
    """What every vng begins with. Disks are not given by --disk: it leaves their format to probing, and QEMU then
    refuses writes to their first block."""
    # vng looks for its other half on PATH.
    path = f"{environment.vng.parent}:{os.environ['PATH']}"
    command = ["env", f"PATH={path}", str(environment.vng), "--run", str(environment.kernel_image)]
    command += ["--user", "root", "--disable-microvm"]
    command += ["--cpus", str(config.processors(environment)), "--memory", f"{config.memory_mib}M"]
    command.append(f"--rodir={SHARE}={share}")
    if chosen is not KVM:
        command.append("--disable-kvm")
    for parameter in (*_KERNEL_PARAMETERS, *config.parameters(environment)):
        command += ["--append", parameter]
    return command


def qemu_options(arguments: Sequence[str]) -> list[str]:
    """Arguments for QEMU, as vng takes them."""
    return ["--qemu-opts=" + shlex.join(arguments)] if arguments else []


def launch(
    environment: Environment,
    config: MachineConfig,
    chosen: Accelerator,
    programs: Sequence[Path],
    modules: Sequence[Path],
) -> Launch:
    """A guest with the host's userland that serves the channel. vng sends the kernel's log to standard error."""

    def command_line(folder: Path, socket: Path, console: Path) -> list[str]:
        share = folder / "share"
        fill_share(share, config, programs, modules)
        command = vng_command(environment, config, chosen, share) + [*_WHOLE_LOG]
        extra = qemu.channel_arguments(socket) + qemu.disk_arguments(config.disks, folder)
        if config.network:
            extra += qemu.network_arguments()
        command += qemu_options(extra)
        command += ["--", f"{SHARE}/bin/{INIT_PROGRAM}", "serve"]
        return ["/bin/sh", "-c", 'console=$1; shift; exec "$@" 2>"$console"', "sh", str(console), *command]

    return command_line
