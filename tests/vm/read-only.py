# vm: timeout_s=600
"""Read-only mounts: an image that `mkfs.cairnfs -d` made of a tree is mounted and read, and equals the tree.

Also what the tree holds beyond contents, positions in a large directory, mappings, large folios, images that cannot be mounted,
each with its error number and its line in the log, and 300 images with one structure changed and its CRC made right.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from vmlib import machines, programs
from vmlib.cases import run_cases
from vmlib.disks import Disk
from vmlib.environment import REPOSITORY, Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
LIMIT_S = 60.0 * ENVIRONMENT.slowness
MUTATED_IMAGES = 300 // ENVIRONMENT.load_divisor
MUTATIONS_SEED = 1
MOUNTS = 200 // ENVIRONMENT.load_divisor
BLOCK_BYTES = 4096
MANY_ENTRIES = 3000
# Offsets behind the superblock's block header (docs/format.md), and the header's own.
CRC_OFFSET = 4
SUPERBLOCK_OFFSET = 48
FEATURE_RO_COMPAT = SUPERBLOCK_OFFSET + 96
FEATURE_INCOMPAT = SUPERBLOCK_OFFSET + 104
GROUP_BLOCKS = SUPERBLOCK_OFFSET + 128
FORMAT_VERSION = SUPERBLOCK_OFFSET + 80
EINVAL, EROFS, EBADMSG, EUCLEAN = 22, 30, 74, 117


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def seal(block: bytearray) -> None:
    """Makes the CRC of a self-describing block right: over the block, the field itself as zero."""
    block[CRC_OFFSET : CRC_OFFSET + 4] = bytes(4)
    struct.pack_into("<I", block, CRC_OFFSET, crc32c(bytes(block)))


def make_tree(root: Path) -> None:
    """A tree with every shape that mkfs can copy."""
    numbers = random.Random(7)
    (root / "hello").write_text("hello\n")
    (root / "hello").chmod(0o640)
    os.link(root / "hello", root / "hard")
    os.setxattr(root / "hello", "user.short", b"blue")
    os.setxattr(root / "hello", "user.long", b"y" * 1500)
    os.utime(root / "hello", ns=(1_400_000_000_000_000_001, 1_500_000_000_123_456_789))
    for length in (1, 160, 161, 4048, 4095):
        (root / f"link-{length}").symlink_to("x" * length)
    (root / "link-to-hello").symlink_to("hello")
    os.mkfifo(root / "pipe")
    (root / "big").write_bytes(numbers.randbytes(9_000_001))
    with (root / "sparse").open("wb") as file:
        for piece in range(400):
            file.seek(piece * 20_000)
            file.write(numbers.randbytes(100))
        file.truncate(40_000_000)
    (root / "empty").touch()
    (root / "many").mkdir()
    for number in range(MANY_ENTRIES):
        (root / "many" / f"entry {number:x} {'n' * (number % 200)}").write_text(str(number))
    deep = root
    for number in range(40):
        deep = deep / f"level {number}"
    deep.mkdir(parents=True)
    (deep / "bottom").write_text("bottom")
    shutil.copytree(REPOSITORY / "rust", root / "tree", symlinks=True)
    # A static program, to be run from the image: that is a mapping of its pages.
    shutil.copy("/bin/busybox", root / "busybox")


def paths_of(root: Path) -> list[Path]:
    """All paths below the folder; links are not followed, their targets may be names that no system call takes."""
    return [Path(folder) / name for folder, folders, files in os.walk(root) for name in [*folders, *files]]


def contents_of(root: Path) -> str:
    """What `find | xargs sha256sum | sort` prints, hashed."""
    files = [path for path in paths_of(root) if not path.is_symlink() and path.is_file()]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(root)}\n" for path in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


CONTENTS_SCRIPT = "cd /n && find . -type f -print0 | xargs -0 sha256sum | LC_ALL=C sort | sha256sum"


def make_image(path: Path, size: str, tree: Path | None = None) -> None:
    mkfs = programs.build_for_host(ENVIRONMENT, "mkfs-cairnfs")
    source = ["-d", str(tree)] if tree else []
    subprocess.run([str(mkfs), "-q", *source, str(path), size], check=True)


class Image:
    """Changes of a copy of an image."""

    def __init__(self, original: Path, path: Path) -> None:
        shutil.copy(original, path)
        self.path = path

    def change(self, block: int, offset: int, new: bytes, sealed: bool = True) -> Image:
        with self.path.open("r+b") as file:
            file.seek(block * BLOCK_BYTES)
            content = bytearray(file.read(BLOCK_BYTES))
            content[offset : offset + len(new)] = new
            if sealed:
                seal(content)
            file.seek(block * BLOCK_BYTES)
            file.write(content)
        return self

    def superblocks(self, offset: int, new: bytes, sealed: bool = True) -> Image:
        return self.change(0, offset, new, sealed).change(1, offset, new, sealed)

    def cut(self, size_bytes: int) -> Image:
        os.truncate(self.path, size_bytes)
        return self


# What cannot be mounted, or can all the same: name, how it is made, the error number (0: it mounts), the log's words.
DAMAGES: list[tuple[str, Callable[[Image], object], int, str]] = [
    ("no magic in either superblock", lambda image: image.superblocks(0, b"NONE"), EINVAL, "no cairnfs filesystem"),
    ("a wrong CRC in both superblocks", lambda image: image.superblocks(100, b"\x55", sealed=False), EBADMSG, "crc"),
    ("the first superblock lost", lambda image: image.change(0, 0, bytes(BLOCK_BYTES), sealed=False), 0, "mounted"),
    ("the second superblock torn", lambda image: image.change(1, 512, b"\x55" * 512, sealed=False), 0, "mounted"),
    ("an unknown incompatible feature", lambda image: image.superblocks(FEATURE_INCOMPAT, b"\x80"), EINVAL, "0x80"),
    ("an unknown read-only feature", lambda image: image.superblocks(FEATURE_RO_COMPAT, b"\x80"), 0, "mounted"),
    ("an unknown version", lambda image: image.superblocks(FORMAT_VERSION, b"\x09"), EINVAL, "version"),
    ("groups of an impossible size", lambda image: image.superblocks(GROUP_BLOCKS, b"\x01"), EUCLEAN, "geometry"),
    ("a device that is too short", lambda image: image.cut(16 << 20), EUCLEAN, "device-size"),
    ("a device of three blocks", lambda image: image.cut(3 * BLOCK_BYTES), EUCLEAN, "device-size"),
]


class Cases:
    """The cases, in order, with one guest for all."""

    def __init__(self, guest: Guest, disks: dict[str, str], origin: Path) -> None:
        self.guest = guest
        self.disks = disks
        self.origin = origin

    def shell(self, script: str) -> str:
        return self.guest.run(["/bin/sh", "-c", script], LIMIT_S, check=True).text.strip()

    def check(self, case: str, path: str = "/n", *options: str) -> str:
        return self.guest.run(["/bin/guest-read-only", case, path, *options], LIMIT_S, check=True).text

    def all(self) -> list[tuple[str, Callable[[], object]]]:
        named = [
            ("mount", self.mount),
            ("contents are those of the tree", self.contents),
            ("the walk of the tree shows its names", self.names),
            ("positions in a large directory are stable", lambda: self.check("positions")),
            ("birth time", lambda: self.check("birth-time")),
            ("symbolic links", lambda: self.check("symbolic-links")),
            ("extended attributes", lambda: self.check("extended-attributes")),
            ("every shape of directory, extent tree, attribute and inode", self.shapes),
            ("owners, modes, times and links are those of the tree", self.attributes),
            ("nothing can be written", lambda: self.check("nothing-written")),
            ("a program runs from the filesystem", self.mapping),
            ("large folios are read", self.large_folios),
            ("caches are dropped and read again", self.drop_caches),
            ("statfs", self.statfs),
            (f"{MOUNTS} mounts and unmounts", self.many_mounts),
            ("an unknown option: EINVAL", self.unknown_option),
        ]
        damaged = [(damage[0], lambda damage=damage: self.damaged(*damage)) for damage in DAMAGES]
        return [*named, *damaged, (f"{MUTATED_IMAGES} images with one structure changed", self.mutated), ("unload", self.unload)]

    def mount(self) -> None:
        self.shell(f"insmod $CAIRNFS_MODULES/cairnfs.ko; mkdir -p /n /mnt; mount -t cairnfs -o ro {self.disks['tree']} /n")

    def contents(self) -> None:
        found = self.shell(CONTENTS_SCRIPT).split()[0]
        wanted = contents_of(self.origin)
        assert found == wanted, f"sha256 of all contents: {found}, of the origin {wanted}"

    def names(self) -> None:
        found = sorted(self.shell("cd /n && find . -mindepth 1").splitlines())
        wanted = sorted(f"./{path.relative_to(self.origin)}" for path in paths_of(self.origin))
        assert found == wanted, f"{len(found)} names, of the origin {len(wanted)}"

    def shapes(self) -> None:
        self.shell(f"mount -t cairnfs -o ro {self.disks['shapes']} /mnt")
        self.check("shapes", "/mnt")
        self.shell("umount /mnt")

    def attributes(self) -> None:
        wanted = sorted(
            f"./{path.relative_to(self.origin)} {found.st_mode:x} {found.st_uid} {found.st_gid} {found.st_nlink} {int(found.st_mtime)}"
            for path, found in ((path, path.lstat()) for path in paths_of(self.origin))
        )
        found = sorted(self.shell("cd /n && find . -mindepth 1 -print0 | xargs -0 stat -c '%n %f %u %g %h %Y'").splitlines())
        differences = [pair for pair in zip(found, wanted, strict=True) if pair[0] != pair[1]]
        assert not differences, f"{len(differences)} differences, the first: {differences[0]}"

    def mapping(self) -> None:
        self.shell("echo 3 > /proc/sys/vm/drop_caches; /n/busybox sha256sum /n/busybox")

    def large_folios(self) -> None:
        tracing = "/sys/kernel/tracing"
        event = f"{tracing}/events/filemap/mm_filemap_add_to_page_cache"
        script = f"""
            grep -q tracefs /proc/mounts || mount -t tracefs none {tracing}
            echo 3 > /proc/sys/vm/drop_caches
            echo 1 > {event}/enable; cat /n/big > /dev/null; echo 0 > {event}/enable
            inode=$(printf %x $(stat -c %i /n/big))
            grep -c "ino $inode .* order=[1-9]" {tracing}/trace
        """
        count = int(self.shell(script))
        assert count > 0, "no folio of more than a page was added to the page cache"

    def drop_caches(self) -> None:
        wanted = contents_of(self.origin)
        for _ in range(max(3 // ENVIRONMENT.load_divisor, 1)):
            found = self.shell(f"echo 2 > /proc/sys/vm/drop_caches; {CONTENTS_SCRIPT}").split()[0]
            assert found == wanted, f"sha256 of all contents: {found}, of the origin {wanted}"

    def statfs(self) -> None:
        blocks, free, available, inodes, inodes_free = map(int, self.shell("stat -f -c '%b %f %a %c %d' /n").split())
        assert 0 < available < free < blocks and 0 < inodes_free < inodes, f"{blocks} {free} {available} {inodes} {inodes_free}"
        used_inodes = inodes - inodes_free
        names = len(paths_of(self.origin))
        assert names <= used_inodes <= names + 32, f"{used_inodes} inodes in use for {names} names"

    def many_mounts(self) -> None:
        self.shell("umount /n")
        self.check("many-mounts", self.disks["tree"], str(MOUNTS))

    def mount_error(self, disk: str, options: str = "") -> int:
        command = ["/bin/guest-read-only", "mount-error", self.disks[disk], *([options] if options else [])]
        return int(self.guest.run(command, LIMIT_S, check=True).text)

    def unknown_option(self) -> None:
        assert self.mount_error("tree", "durability=immediate") == EINVAL
        assert "Unknown parameter 'durability'" in self.shell("dmesg | tail -n 5")
        assert self.mount_error("tree", "norecovery") == 0

    def damaged(self, name: str, _make: Callable[[Image], object], wanted: int, words: str) -> None:
        # The messages are limited in number.
        self.shell("sleep 1; dmesg -c > /dev/null")
        found = self.mount_error(name)
        log = self.shell("dmesg")
        assert found == wanted, f"error {found}, wanted {wanted}; the log says: {log}"
        assert words in log, f"the log does not say '{words}' but: {log}"

    def mutated(self) -> None:
        command = ["/bin/guest-mutated-images", self.disks["small"], self.disks["scratch"]]
        result = self.guest.run([*command, str(MUTATED_IMAGES), str(MUTATIONS_SEED)], 4 * LIMIT_S, check=True)
        print(f"# {result.text.strip()}")

    def unload(self) -> None:
        self.shell("rmmod cairnfs")


def make_disks(folder: Path) -> tuple[dict[str, Disk], Path]:
    origin = folder / "origin"
    origin.mkdir()
    make_tree(origin)
    make_image(folder / "tree.img", "160M", origin)
    small = folder / "small"
    small.mkdir()
    for number in range(60):
        (small / f"file {number}").write_bytes(b"z" * number * 100)
    (small / "folder").mkdir()
    for number in range(150):
        (small / "folder" / f"name {number} {'n' * 60}").symlink_to(f"target {number}")
    (small / "link").symlink_to("x" * 3000)
    os.setxattr(small / "file 3", "user.large", b"v" * 2000)
    with (small / "pieces").open("wb") as file:
        for piece in range(60):
            file.seek(piece * 3 * BLOCK_BYTES)
            file.write(b"p" * 100)
    make_image(folder / "small.img", "24M", small)
    make_image(folder / "shapes.img", "160M")
    programs.run_for_host(ENVIRONMENT, "make-test-image", "shapes", str(folder / "shapes.img"), timeout_s=LIMIT_S)
    disks = {name: Disk.image(folder / f"{name}.img") for name in ("tree", "shapes", "small")}
    disks |= {"scratch": Disk.blank(24 << 20)}
    for number, (name, change, _, _) in enumerate(DAMAGES):
        image = Image(folder / "small.img", folder / f"damaged-{number}.img")
        change(image)
        disks[name] = Disk.image(image.path)
    return disks, origin


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="cairnfs-read-only-") as name:
        disks, origin = make_disks(Path(name))
        config = MachineConfig(disks=tuple(disks.values()))
        devices = {name: f"/dev/vd{chr(ord('a') + number)}" for number, name in enumerate(disks)}
        with machines.make_guest(ENVIRONMENT, config) as guest:
            cases = Cases(guest, devices, origin).all()
            status = run_cases(cases)
            guest.power_off()
    return status


if __name__ == "__main__":
    sys.exit(main())
