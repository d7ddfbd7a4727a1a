"""The host's end of the channel to a guest: frames over a stream socket.

tests/guest/src/channel.rs is the other half and says what each frame means; both ends check the version.
"""

from __future__ import annotations

import enum
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VERSION = 1
PORT_NAME = "cairnfs.guest"
PAYLOAD_MAX_BYTES = 64 << 20

_MAGIC = 0xCA12
_HEADER = struct.Struct("<HBBII")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")


class Kind(enum.IntEnum):
    """What a frame means."""

    HELLO = 1
    RUN = 2
    OUTPUT = 3
    ERROR_OUTPUT = 4
    EXIT = 5
    SYSRQ = 6
    POWER_OFF = 7
    REFUSED = 8


class ProtocolError(Exception):
    """The guest sent what is no frame."""


@dataclass(frozen=True)
class Frame:
    """One message."""

    kind: Kind
    request: int
    payload: bytes

    def exit_code(self) -> int:
        """The code in an EXIT frame."""
        return int(_I32.unpack(self.payload)[0])

    def hello(self) -> tuple[int, str]:
        """Version of the protocol and release of the kernel in a HELLO frame."""
        return int(_U32.unpack_from(self.payload)[0]), self.payload[_U32.size :].decode()


def run_payload(arguments: Sequence[str], environment: Mapping[str, str], standard_input: bytes) -> bytes:
    """The payload of a RUN frame."""
    return b"".join(
        (
            _strings(arguments),
            _strings([f"{name}={value}" for name, value in environment.items()]),
            standard_input,
        )
    )


def _strings(entries: Sequence[str]) -> bytes:
    parts = [_U32.pack(len(entries))]
    for entry in entries:
        data = entry.encode()
        parts += [_U32.pack(len(data)), data]
    return b"".join(parts)


class Channel:
    """Frames over a connected socket. Any thread may send; one thread reads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()

    def send(self, kind: Kind, request: int = 0, payload: bytes = b"") -> None:
        """Sends one frame; OSError when the guest is gone."""
        if len(payload) > PAYLOAD_MAX_BYTES:
            raise ValueError(f"a payload of {len(payload)} bytes is too long")
        with self._send_lock:
            self._connection.sendall(_HEADER.pack(_MAGIC, kind, 0, request, len(payload)) + payload)

    def read_frame(self) -> Frame | None:
        """The next frame; None when the guest has closed the stream, in the middle of a frame too."""
        header = self._read_exactly(_HEADER.size)
        if header is None:
            return None
        magic, kind, _, request, length = _HEADER.unpack(header)
        if magic != _MAGIC or length > PAYLOAD_MAX_BYTES:
            raise ProtocolError(f"not a frame: {header.hex()}")
        payload = self._read_exactly(length)
        if payload is None:
            return None
        try:
            return Frame(Kind(kind), request, payload)
        except ValueError as error:
            raise ProtocolError(str(error)) from error

    def _read_exactly(self, count: int) -> bytes | None:
        parts = []
        while count > 0:
            try:
                data = self._connection.recv(min(count, 1 << 20))
            except OSError:
                return None
            if not data:
                return None
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Wakes a reader and ends the channel."""
        try:
            self._connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._connection.close()
