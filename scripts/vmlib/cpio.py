"""Writes cpio archives in the `newc` format, which is what the kernel unpacks into its first root.

Everything that could differ between two runs is fixed (owner 0, time 0, numbers in order), so the same contents give
the same bytes.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

_ALIGNMENT = 4


@dataclass(frozen=True)
class Entry:
    """A file, a folder or a symbolic link (its target is the contents)."""

    path: str
    mode: int
    contents: bytes = b""

    @staticmethod
    def file(path: str, contents: bytes, executable: bool) -> Entry:
        """A regular file."""
        return Entry(path, stat.S_IFREG | (0o755 if executable else 0o644), contents)

    @staticmethod
    def folder(path: str) -> Entry:
        """A folder."""
        return Entry(path, stat.S_IFDIR | 0o755)

    @staticmethod
    def link(path: str, target: str) -> Entry:
        """A symbolic link."""
        return Entry(path, stat.S_IFLNK | 0o777, target.encode())

    @staticmethod
    def character_device(path: str) -> Entry:
        """A character device node; the only one that is needed is the console, see `write_archive`."""
        return Entry(path, stat.S_IFCHR | 0o600)


CONSOLE_DEVICE = (5, 1)


def _padding(length: int) -> bytes:
    return bytes(-length % _ALIGNMENT)


def _header(number: int, entry: Entry, name: bytes) -> bytes:
    device = CONSOLE_DEVICE if stat.S_ISCHR(entry.mode) else (0, 0)
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.contents), 0, 0, *device, len(name), 0)
    return b"070701" + b"".join(b"%08X" % field for field in fields)


def write_archive(output: IO[bytes], entries: Iterable[Entry]) -> None:
    """Writes the entries, each after the folders that hold it, and the trailer."""
    known_folders: set[str] = {""}
    number = 1
    for entry in entries:
        for folder in _missing_folders(entry, known_folders):
            _write_entry(output, number, folder)
            number += 1
        if entry.path.strip("/") in known_folders:
            continue
        if stat.S_ISDIR(entry.mode):
            known_folders.add(entry.path.strip("/"))
        _write_entry(output, number, entry)
        number += 1
    _write_entry(output, 0, Entry("TRAILER!!!", 0))


def _missing_folders(entry: Entry, known: set[str]) -> list[Entry]:
    missing = []
    parts = entry.path.strip("/").split("/")[:-1]
    for end in range(1, len(parts) + 1):
        path = "/".join(parts[:end])
        if path not in known:
            known.add(path)
            missing.append(Entry.folder(path))
    return missing


def _write_entry(output: IO[bytes], number: int, entry: Entry) -> None:
    name = entry.path.strip("/").encode() + b"\0"
    header = _header(number, entry, name)
    output.write(header + name + _padding(len(header) + len(name)))
    output.write(entry.contents + _padding(len(entry.contents)))
