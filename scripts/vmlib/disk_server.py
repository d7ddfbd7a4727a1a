"""The project's own disk for guests: a running `cairnfs-disk` (docs/disk.md), with a volatile cache that can be cut.

    with DiskServer(environment, ["disk0=mem:64M"]) as server:
        config = MachineConfig(disks=(server.virtio_disk("disk0"),))      # through QEMU's driver, without FUA
        config = MachineConfig(network=True)                              # or by the guest's own client, with FUA:
        guest.run(["cairnfs-nbd-attach", "attach", server.address_in_guest, "disk0", "0"], timeout_s=30, check=True)
        server.command("cut seed=1")

A power cut of a whole machine is `power held`, a `cut` (the disk forgets what it may), `Guest.kill` and `power on`: QEMU
connects anew by itself, and its guest would go on writing. Crash states are offered to one running guest by
`offer state=N`, which hangs up, and another `attach`.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vmlib import programs
from vmlib.disks import Disk
from vmlib.environment import Environment, VmError

# QEMU's user network shows the host's loopback address to the guest as this one.
_HOST_IN_GUEST = "10.0.2.2"
_READY = re.compile(r"ready tcp=127\.0\.0\.1:(\d+)")
_END_TIMEOUT_S = 20.0


class DiskServer:
    """One server process; it ends with this object, and with this process whatever happens (it reads our pipe)."""

    def __init__(self, environment: Environment, disks: Sequence[str], options: Sequence[str] = ()) -> None:
        program = programs.build_for_host(environment, "cairnfs-disk")
        self._folder = Path(tempfile.mkdtemp(prefix="cairnfs-disk-"))
        self.socket = self._folder / "nbd"
        self._control = self._folder / "control"
        command = [str(program), "serve", "--socket", str(self.socket), "--control-socket", str(self._control)]
        command += ["--tcp", "127.0.0.1:0", *options]
        command += [word for disk in disks for word in ("--disk", disk)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        ready = self._process.stdout.readline().strip()
        match = _READY.fullmatch(ready)
        if not match:
            self.close()
            raise VmError(f"cairnfs-disk did not start: '{ready}'")
        self.address_in_guest = f"{_HOST_IN_GUEST}:{match[1]}"

    def __enter__(self) -> DiskServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def virtio_disk(self, export: str) -> Disk:
        """An export as a virtio disk of a guest."""
        return Disk.nbd_unix(self.socket, export)

    def command(self, line: str) -> Any:
        """Gives a command and returns the answer; `VmError` if it is refused."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(str(self._control))
            connection.sendall(line.encode() + b"\n")
            reply = json.loads(connection.makefile().readline())
        if not reply["ok"]:
            raise VmError(f"cairnfs-disk: '{line}': {reply['error']}")
        answer = reply["answer"]
        return answer.get("result", answer)

    def close(self) -> None:
        """Ends the server."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
