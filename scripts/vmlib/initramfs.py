"""The first root of a lean guest: busybox, the static test programs, modules and test scripts in one archive.

An archive is named by the hash of everything in it and kept in the cache, so it is built once for each set of
contents. It is not compressed: unpacking under emulation costs more than reading.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlib.cpio import Entry, write_archive
from vmlib.environment import REPOSITORY, Environment, VmError

BUSYBOX = Path("/bin/busybox")
TESTS_FOLDER = REPOSITORY / "tests/vm"
GUEST_TESTS = "/tests"
_KEPT_ARCHIVES = 12

_ACCOUNTS = {
    "etc/passwd": b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}


@dataclass(frozen=True)
class Contents:
    """What a guest boots with, besides busybox and the tests."""

    static_programs: tuple[Path, ...]
    modules: tuple[Path, ...] = ()
    host_programs: tuple[Path, ...] = ()
    tests_folder: Path = TESTS_FOLDER


def _busybox_entries() -> list[Entry]:
    if not BUSYBOX.exists():
        raise VmError(f"{BUSYBOX} is missing: run make setup")
    listing = subprocess.run([BUSYBOX, "--list-full"], stdout=subprocess.PIPE, text=True, check=True).stdout
    entries = [Entry.file("bin/busybox", BUSYBOX.read_bytes(), executable=True)]
    entries += [Entry.link(path, "/bin/busybox") for path in listing.split() if path != "bin/busybox"]
    return entries


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def _test_entries(folder: Path) -> list[Entry]:
    """The scripts of the tests and their library; what runs on the host stays there."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix == ".sh"]
    files += [path for path in (TESTS_FOLDER / "lib").rglob("*.sh") if folder != TESTS_FOLDER]
    entries = {}
    for path in sorted(files):
        root = TESTS_FOLDER if path.is_relative_to(TESTS_FOLDER / "lib") else folder
        name = f"{GUEST_TESTS.strip('/')}/{path.relative_to(root)}"
        entries[name] = Entry.file(name, path.read_bytes(), _is_executable(path))
    return list(entries.values())


def _shared_libraries(program: Path) -> list[Path]:
    """What the dynamic linker loads for a program; nothing for a static one."""
    result = subprocess.run(["ldd", program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        return []
    return [Path(match) for match in re.findall(r"(?:=>\s+|^\s+)(/\S+)", result.stdout, re.MULTILINE)]


def _host_program_entries(programs: Iterable[Path]) -> list[Entry]:
    """Programs of the host, in /bin. The shell of busybox prefers its own applet of the same name wherever that lies:
    a script has to call such a program by its path."""
    entries = []
    for program in programs:
        entries.append(Entry.file(f"bin/{program.name}", program.read_bytes(), executable=True))
        entries += [
            Entry.file(str(library), library.read_bytes(), executable=True) for library in _shared_libraries(program)
        ]
    return entries


def _module_entries(release: str, modules: Sequence[Path]) -> list[Entry]:
    """The modules with the tables that modprobe reads, so that mount can load a filesystem by itself."""
    if not modules:
        return []
    with tempfile.TemporaryDirectory(prefix="cairnfs-modules-") as folder:
        root = Path(folder) / "lib/modules" / release
        root.mkdir(parents=True)
        for module in modules:
            shutil.copy(module, root / module.name)
        for table in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            (root / table).touch()
        subprocess.run(["/sbin/depmod", "-b", folder, release], check=True)
        entries = [Entry.link("lib/modules/current", release)]
        entries += [
            Entry.file(str(path.relative_to(folder)), path.read_bytes(), executable=False)
            for path in sorted(root.rglob("*"))
            if not path.name.endswith(".bin")
        ]
        return entries


def find_kernel_modules(environment: Environment, names: Sequence[str]) -> list[Path]:
    """Modules of the kernel's own by name, each after the ones it needs."""
    order = (environment.kernel_build / "modules.order").read_text().split()
    by_name = {Path(line).stem.replace("-", "_"): environment.kernel_build / line for line in order}
    found: dict[str, Path] = {}

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in found:
            return
        path = by_name.get(name)
        if path is None:
            return
        path = path.with_suffix(".ko")
        needs = subprocess.run(["/sbin/modinfo", "-F", "depends", path], stdout=subprocess.PIPE, text=True, check=True)
        for need in filter(None, needs.stdout.strip().split(",")):
            add(need)
        found[name] = path

    for name in names:
        add(name)
    return list(found.values())


def _entries(environment: Environment, contents: Contents) -> list[Entry]:
    entries = [Entry.folder(name) for name in ("dev", "proc", "sys", "tmp", "mnt", "root", "run", "var")]
    entries.append(Entry.character_device("dev/console"))
    entries.append(Entry.link("etc/mtab", "/proc/mounts"))
    entries += [Entry.file(path, text, executable=False) for path, text in _ACCOUNTS.items()]
    entries += _busybox_entries()
    for program in contents.static_programs:
        entries.append(Entry.file(f"bin/{program.name}", program.read_bytes(), executable=True))
    entries.append(Entry.link("init", "/bin/cairnfs-guest-init"))
    entries += _host_program_entries(contents.host_programs)
    entries += _module_entries(environment.kernel_release, contents.modules)
    entries += _test_entries(contents.tests_folder)
    return _without_repeats(entries)


def _without_repeats(entries: list[Entry]) -> list[Entry]:
    """A later entry of the same path takes the place of an earlier one: a real mke2fs, that of busybox."""
    return list({entry.path.strip("/"): entry for entry in entries}.values())


def _hash_of(entries: Iterable[Entry]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(f"{entry.path}\0{entry.mode:o}\0{len(entry.contents)}\0".encode())
        digest.update(entry.contents)
    return digest.hexdigest()[:20]


def _prune(folder: Path) -> None:
    archives = sorted(folder.glob("*.cpio"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in archives[_KEPT_ARCHIVES:]:
        path.unlink(missing_ok=True)


def build(environment: Environment, contents: Contents) -> Path:
    """The archive with these contents, from the cache or new."""
    entries = _entries(environment, contents)
    folder = environment.cache_folder("initramfs")
    path = folder / f"{_hash_of(entries)}.cpio"
    if path.exists():
        os.utime(path)
        return path
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as output:
        write_archive(output.file, entries)
    os.rename(output.name, path)
    _prune(folder)
    return path
