"""The command line of a lean guest.

Two streams leave the guest: the kernel's log on the serial port, into a file, and the channel on a virtio port, into a
socket. `panic=-1` with `-no-reboot` turns a panic into the end of QEMU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlib.accelerator import QEMU, Accelerator
from vmlib.channel import PORT_NAME
from vmlib.disks import Disk

# A process that is killed takes its guest with it, even where it had no time to clean up.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

_KERNEL_PARAMETERS = (
    "console=ttyS0",
    "ignore_loglevel",
    "panic=-1",
    "oops=panic",
    # Notes and test messages in the log are never dropped.
    "printk.devkmsg=on",
    # Clock checks against another clock fail on a busy, emulated machine, and say so in the log.
    "tsc=reliable",
    "no_timer_check",
    "random.trust_cpu=on",
)


@dataclass(frozen=True)
class Machine:
    """What a guest is made of."""

    kernel_image: Path
    initramfs: Path
    accelerator: Accelerator
    cpus: int
    memory_mib: int
    network: bool
    disks: Sequence[Disk]
    kernel_parameters: Sequence[str]


def channel_arguments(socket: Path) -> list[str]:
    """The virtio port of the channel; QEMU connects to a socket on which the host listens already."""
    return [
        "-device", "virtio-serial-pci",
        "-chardev", f"socket,id=channel,path={socket},server=off",
        "-device", f"virtserialport,chardev=channel,name={PORT_NAME}",
    ]  # fmt: skip


def disk_arguments(disks: Sequence[Disk], folder: Path) -> list[str]:
    """All virtio disks, in order: the first is vda."""
    return [argument for index, disk in enumerate(disks) for argument in disk.qemu_arguments(folder, index)]


def network_arguments() -> list[str]:
    """QEMU's user network: the guest is 10.0.2.15, and reaches the host's loopback address as 10.0.2.2. The card's
    boot ROM is left out, it would cost time at start."""
    return ["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]


def command_line(machine: Machine, folder: Path, socket: Path, console: Path) -> list[str]:
    """The whole command."""
    parameters = " ".join((*_KERNEL_PARAMETERS, *machine.kernel_parameters))
    command = [*_DIE_WITH_PARENT, QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    command += ["-machine", "q35", *machine.accelerator.qemu_arguments]
    command += ["-smp", str(machine.cpus), "-m", f"{machine.memory_mib}M"]
    command += ["-kernel", str(machine.kernel_image), "-initrd", str(machine.initramfs), "-append", parameters]
    command += ["-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"]
    command += ["-device", "virtio-rng-pci"]
    command += channel_arguments(socket)
    if machine.network:
        command += network_arguments()
    return command + disk_arguments(machine.disks, folder)
