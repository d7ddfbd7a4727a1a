"""One running guest: started from a command line, talked to over the channel, ended by power off or by a kill.

    with Guest(launch, console=path) as guest:
        result = guest.run(["/bin/true"], timeout_s=10)
        guest.power_off()

A guest that dies, hangs or says nonsense raises a `GuestError`; nothing here waits without a limit. `kill` is what a
power cut is for the guest: QEMU is gone between two instructions. (What the disk loses then is the disk's affair.)
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from vmlib import kernel_log
from vmlib.channel import VERSION, Channel, Frame, Kind, ProtocolError, run_payload

# (folder of the guest, socket of the channel, file of the console) -> command line
Launch = Callable[[Path, Path, Path], list[str]]
OutputSink = Callable[[bytes], None]

_OWN_BREAKPOINT = "Oops: int3: 0000"
_REPEATED_BOOTS_MAX = 3
_TAIL_LINES = 30


class GuestError(Exception):
    """The guest is of no use any more."""

    def __init__(self, message: str, console_tail: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.console_tail = tuple(console_tail)


class GuestDied(GuestError):
    """The guest ended by itself."""


class GuestTimeout(GuestError):
    """Something took longer than it may."""


class RequestRefused(Exception):
    """The guest could not start a program; the guest itself is well."""


@dataclass(frozen=True)
class Completed:
    """A program that ended in the guest. Killed by signal N, its code is 128 + N."""

    exit_code: int
    output: bytes
    error_output: bytes

    @property
    def text(self) -> str:
        """What it printed on standard output."""
        return self.output.decode(errors="replace")


@dataclass
class Program:
    """A program that was started in a guest."""

    guest: Guest
    request: int
    arguments: tuple[str, ...]
    on_output: OutputSink | None
    on_error_output: OutputSink | None
    _output: list[bytes] = field(default_factory=list)
    _error_output: list[bytes] = field(default_factory=list)
    _exit_code: int | None = None
    _refusal: str | None = None

    def take(self, frame: Frame) -> None:
        """Takes in what the guest says about this program; called by the thread that reads the channel."""
        if frame.kind is Kind.OUTPUT:
            self._output.append(frame.payload)
            if self.on_output:
                self.on_output(frame.payload)
        elif frame.kind is Kind.ERROR_OUTPUT:
            self._error_output.append(frame.payload)
            if self.on_error_output:
                self.on_error_output(frame.payload)
        elif frame.kind is Kind.EXIT:
            self._exit_code = frame.exit_code()
        elif frame.kind is Kind.REFUSED:
            self._refusal = frame.payload.decode(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the guest has reported the end."""
        return self._exit_code is not None or self._refusal is not None

    @property
    def output_so_far(self) -> bytes:
        """What has arrived of standard output; also right after the guest was killed."""
        return b"".join(self._output)

    def wait(self, timeout_s: float) -> Completed:
        """Waits for the end. Raises `GuestTimeout`, `GuestDied` or `RequestRefused`."""
        self.guest.wait_until(lambda: self.ended, timeout_s, " ".join(self.arguments))
        if self._refusal is not None:
            raise RequestRefused(self._refusal)
        assert self._exit_code is not None
        return Completed(self._exit_code, b"".join(self._output), b"".join(self._error_output))


class Guest:
    """A guest from boot to its end. Not to be reused."""

    def __init__(
        self,
        launch: Launch,
        console: Path | None = None,
        boot_timeout_s: float = 60.0,
        before_the_end: Callable[[Guest], None] | None = None,
    ) -> None:
        self._launch = launch
        self._before_the_end = before_the_end
        self._boot_timeout_s = boot_timeout_s
        self.folder = Path(tempfile.mkdtemp(prefix="cairnfs-vm-"))
        self.console = console or self.folder / "console.log"
        self.kernel_release = ""
        self.boot_time_s = 0.0
        self.repeated_boots = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._changed = threading.Condition()
        self._programs: dict[int, Program] = {}
        self._hello: tuple[int, str] | None = None
        self._closed_because: str | None = None

    # Beginning and end ------------------------------------------------------------------------------------------

    def __enter__(self) -> Guest:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def start(self) -> None:
        """Boots the guest and waits until it answers. A boot that the emulator broke is repeated, a few times at most."""
        try:
            while not self._boots():
                self.repeated_boots += 1
                self.kill()
                self.console.replace(self.broken_console)
        except BaseException:
            self.close()
            raise

    def _boots(self) -> bool:
        try:
            self._boot()
        except GuestDied:
            if self.repeated_boots == _REPEATED_BOOTS_MAX or not self._emulator_broke_the_boot():
                raise
            return False
        return True

    @property
    def broken_console(self) -> Path:
        """The console of the last boot that was repeated."""
        return self.console.with_suffix(kernel_log.BROKEN_BOOT_SUFFIX)

    def _boot(self) -> None:
        began = time.monotonic()
        self._channel, self._closed_because = None, None
        path = self.folder / "channel"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(1)
            self.console.touch()
            self._process = self._spawn(path)
            connection = self._accept(listener, began + self._boot_timeout_s)
        self._channel = Channel(connection)
        threading.Thread(target=self._read_channel, args=(self._channel,), daemon=True).start()
        self.wait_until(lambda: self._hello is not None, began + self._boot_timeout_s - time.monotonic(), "boot")
        version, self.kernel_release = self._hello or (0, "")
        if version != VERSION:
            raise GuestError(f"the guest speaks version {version} of the channel's protocol, not {VERSION}")
        self.boot_time_s = time.monotonic() - began

    def _emulator_broke_the_boot(self) -> bool:
        """Whether the kernel died of a breakpoint of its own before its first program ran: QEMU before 8.1 may go on with a
        stale translation of code that another processor of the guest has just patched (accel/tcg, "Always lock pages before
        translation"). No module of ours is loaded by then."""
        return self._hello is None and _OWN_BREAKPOINT in self.console.read_text(errors="replace")

    def _spawn(self, channel: Path) -> subprocess.Popen[bytes]:
        command = self._launch(self.folder, channel, self.console)
        with (self.folder / "qemu.log").open("wb") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def _accept(self, listener: socket.socket, deadline: float) -> socket.socket:
        listener.settimeout(0.1)
        while True:
            try:
                connection, _ = listener.accept()
                connection.settimeout(None)
                return connection
            except TimeoutError:
                if not self.running:
                    raise GuestDied(f"QEMU did not start: {self._qemu_words()}", self.console_tail()) from None
                if time.monotonic() > deadline:
                    raise GuestTimeout("QEMU did not open the channel in time") from None

    def _qemu_words(self) -> str:
        words = (self.folder / "qemu.log").read_text(errors="replace").strip()
        code = self._process.poll() if self._process else None
        return words or ("it still runs" if code is None else f"it ended with {code} and said nothing")

    @property
    def running(self) -> bool:
        """Whether QEMU lives."""
        return self._process is not None and self._process.poll() is None

    def power_off(self, timeout_s: float = 30.0) -> None:
        """Ends the guest in good order; `GuestError` if it does not get as far as switching the power off, or is not well."""
        assert self._channel and self._process
        if self._before_the_end:
            self._before_the_end(self)
        try:
            self._channel.send(Kind.POWER_OFF)
        except OSError:
            raise GuestDied("the guest was gone before it was asked to power off", self.console_tail()) from None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise GuestTimeout(f"the guest did not power off within {timeout_s:.0f} s", self.console_tail()) from None
        if code != 0 or not kernel_log.has_powered_off(self.log_lines()):
            raise GuestDied(f"the guest ended without powering off (QEMU: {code})", self.console_tail())

    def kill(self) -> None:
        """Ends QEMU at once, with every process that belongs to it."""
        if self._process is None:
            return
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def close(self) -> None:
        """Kills the guest if it still runs and removes its folder (not a console that was put elsewhere)."""
        self.kill()
        if self._channel:
            self._channel.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # Requests ---------------------------------------------------------------------------------------------------

    def start_program(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        standard_input: bytes = b"",
        on_output: OutputSink | None = None,
        on_error_output: OutputSink | None = None,
    ) -> Program:
        """Starts a program and returns at once; several may run at a time."""
        assert self._channel
        with self._changed:
            request = len(self._programs) + 1
            program = Program(self, request, tuple(arguments), on_output, on_error_output)
            self._programs[request] = program
        payload = run_payload(arguments, environment or {}, standard_input)
        try:
            self._channel.send(Kind.RUN, request, payload)
        except OSError:
            raise GuestDied("the guest is gone", self.console_tail()) from None
        return program

    def run(
        self,
        arguments: Sequence[str],
        timeout_s: float,
        environment: Mapping[str, str] | None = None,
        standard_input: bytes = b"",
        check: bool = False,
    ) -> Completed:
        """Runs a program to its end. With `check`, an exit code other than 0 is a `GuestError`."""
        completed = self.start_program(arguments, environment, standard_input).wait(timeout_s)
        if check and completed.exit_code != 0:
            words = completed.error_output.decode(errors="replace").strip() or completed.text.strip()
            raise GuestError(f"{' '.join(arguments)} ended with {completed.exit_code}: {words}", self.console_tail())
        return completed

    def list_blocked_tasks(self) -> None:
        """Has a guest that hangs write to its log who waits for what, if it still can."""
        if self._channel and self.running:
            try:
                self._channel.send(Kind.SYSRQ, payload=b"w")
            except OSError:
                return
            time.sleep(1.0)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Waits for something that the reading thread brings about."""
        with self._changed:
            reached = self._changed.wait_for(lambda: condition() or self._closed_because is not None, max(timeout_s, 0))
            if condition():
                return
            reason = self._closed_because
        if reached:
            tail = self._tail_after_death()
            raise GuestDied(f"the guest died during: {what} ({reason}; QEMU: {self._qemu_words()})", tail)
        raise GuestTimeout(f"not done after {timeout_s:.0f} s: {what}", self.console_tail())

    def _read_channel(self, channel: Channel) -> None:
        reason = "it closed the channel"
        try:
            while (frame := channel.read_frame()) is not None:
                with self._changed:
                    if frame.kind is Kind.HELLO:
                        self._hello = frame.hello()
                    elif program := self._programs.get(frame.request):
                        program.take(frame)
                    self._changed.notify_all()
        except ProtocolError as error:
            reason = str(error)
        with self._changed:
            if self._channel is channel:
                self._closed_because = reason
            self._changed.notify_all()

    # The kernel's log -------------------------------------------------------------------------------------------

    def log_lines(self) -> list[str]:
        """The kernel's log so far."""
        return self.console.read_text(errors="replace").splitlines()

    def log_through(self, program: Program, timeout_s: float = 5.0) -> list[str]:
        """The log up to the end of a program, once that has got through the serial port; all of it if it does not."""
        deadline = time.monotonic() + timeout_s
        while True:
            lines = self.log_lines()
            end = kernel_log.line_after_request(lines, program.request)
            if end is not None:
                return lines[:end]
            if not self.running or time.monotonic() > deadline:
                return lines
            time.sleep(0.01)

    def console_tail(self) -> list[str]:
        """The last lines of the log, for a person to read."""
        return self.log_lines()[-_TAIL_LINES:]

    def _tail_after_death(self) -> list[str]:
        # QEMU closes the channel before it has written the last of the console.
        if self._process:
            try:
                self._process.wait(2.0)
            except subprocess.TimeoutExpired:
                pass
        return self.console_tail()
