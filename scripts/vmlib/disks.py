"""Disks of a guest: how each is named on the command line, and what QEMU is told for it.

Three kinds are attached as virtio disks: a new blank image, an image file, and an NBD export through QEMU's own
driver. The fourth way, the guest kernel's NBD client over the user network, needs no disk here but `network` in the
guest's configuration and `cairnfs-nbd-attach` in the guest (docs/vm.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from vmlib.environment import VmError

_SIZE = re.compile(r"(\d+)([KMGT]?)$")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """A size in bytes, or with K, M, G or T behind it."""
    match = _SIZE.match(text)
    if not match:
        raise VmError(f"'{text}' is not a size: write a number, and K, M, G or T behind it")
    return int(match[1]) * _UNITS[match[2]]


@dataclass(frozen=True)
class Disk:
    """One virtio disk. `source` is what QEMU opens; a blank one gets a file when the guest starts."""

    source: str = ""
    blank_bytes: int = 0
    read_only: bool = False
    physical_block_bytes: int = 512
    extra: tuple[str, ...] = field(default=())

    @staticmethod
    def blank(size_bytes: int) -> Disk:
        """A new sparse image that is gone when the guest is."""
        return Disk(blank_bytes=size_bytes)

    @staticmethod
    def image(path: Path, read_only: bool = False) -> Disk:
        """An image file."""
        return Disk(source=str(path.resolve()), read_only=read_only)

    @staticmethod
    def nbd_unix(socket: Path, export: str = "") -> Disk:
        """An NBD export at a unix socket, through QEMU's own driver: a FUA write of the guest arrives as a write and
        a flush, and QEMU itself flushes once at open and at close."""
        source = f"nbd:unix:{socket.resolve()}"
        return Disk(source=f"{source}:exportname={export}" if export else source, extra=("cache=none",))

    @staticmethod
    def parse(text: str) -> Disk:
        """What stands behind --disk: blank:SIZE, file:PATH, read-only:PATH, or nbd:SOCKET[,EXPORT]."""
        kind, _, rest = text.partition(":")
        if rest and kind == "blank":
            return Disk.blank(parse_size(rest))
        if rest and kind in ("file", "read-only"):
            path = Path(rest)
            if not path.exists():
                raise VmError(f"there is no disk image {path}")
            return Disk.image(path, read_only=kind == "read-only")
        if rest and kind == "nbd":
            socket, _, export = rest.partition(",")
            return Disk.nbd_unix(Path(socket), export)
        raise VmError(f"'{text}' is no disk: write blank:SIZE, file:PATH, read-only:PATH or nbd:SOCKET[,EXPORT]")

    def backing_file(self, folder: Path, index: int) -> Path | None:
        """The file that a blank disk has in the guest's own folder."""
        return folder / f"disk{index}.img" if self.blank_bytes else None

    def qemu_arguments(self, folder: Path, index: int) -> list[str]:
        """The drive and the device. The serial number lets a test find a disk whatever the kernel called it."""
        blank = self.backing_file(folder, index)
        source = str(blank) if blank else self.source
        options = ["if=none", f"id=drive{index}", f"file={source.replace(',', ',,')}", "format=raw"]
        if self.read_only:
            options.append("readonly=on")
        options += self.extra if self.extra else ("discard=unmap",)
        device = f"virtio-blk-pci,drive=drive{index},serial=disk{index},logical_block_size=512"
        device += f",physical_block_size={self.physical_block_bytes}"
        return ["-drive", ",".join(options), "-device", device]


def make_blank(path: Path, size_bytes: int) -> None:
    """Makes the file of a blank disk, or empties it again. A guest that has the device closed reads zeros from then
    on: the kernel drops a block device's cache at the last close, and QEMU keeps none of its own."""
    with path.open("wb") as image:
        image.truncate(size_bytes)
