"""Power cuts of a filesystem on the project's own disk: series of cuts and of crash states, each judged and counted.

The guest's half is `cairnfs-power-cuts` (tests/power-cuts): it runs a seeded load into a cut, marks on the disk what was
promised, and in a later boot mounts and judges what was left. Here it is started, its lines are read, and the images
that the disk kept, of each state before its mount and after its unmount, are given to the filesystem's own checker.

    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(environment, FILESYSTEMS["cairnfs"], Path(folder), verbose=False)
        problems = runner.run(Series("names", load="names", cuts=10))
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmlib import kernel_log, machines, programs
from vmlib.disk_server import DiskServer
from vmlib.disks import Disk
from vmlib.environment import Environment, VmError
from vmlib.guest import Guest, GuestError
from vmlib.machines import MachineConfig

GUEST_PROGRAM = "/bin/cairnfs-power-cuts"
_MEMORY_MIB = 512
_TIMEOUT_S = 400.0
_MODULE_TIMEOUT_S = 60.0
# Of a check by the filesystem's own program.
_CHECK_TIMEOUT_S = 120.0


# Filesystems ----------------------------------------------------------------------------------------------------------


def _make_ext4(_environment: Environment, image: Path, size_bytes: int, _journal_bytes: int) -> None:
    """An empty ext4, with nothing left for its kernel thread to initialise.

    Without checksums: its superblock has two of the disk's sectors and is written in place, so that one cut in a hundred
    tears it, and with a checksum it then does not mount.
    """
    with image.open("wb") as file:
        file.truncate(size_bytes)
    features = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    words = ["-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-E", features, str(image)]
    subprocess.run(["/sbin/mke2fs", *words], check=True)


def _make_cairnfs(environment: Environment, image: Path, size_bytes: int, journal_bytes: int) -> None:
    mkfs = programs.build_for_host(environment, "mkfs-cairnfs")
    journal = ["-J", f"size={journal_bytes >> 10}k"] if journal_bytes else []
    # The disk's sectors are its blocks: that is what it tears, and what the guest's client says.
    options = ["-q", "--physical-block", "512", *journal]
    subprocess.run([str(mkfs), *options, str(image), f"{size_bytes >> 10}k"], check=True)


def _check(command: Sequence[str], good_codes: Iterable[int]) -> str | None:
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=_CHECK_TIMEOUT_S
    )
    if result.returncode in good_codes:
        return None
    return f"{Path(command[0]).name} ended with {result.returncode}: {result.stdout.strip()}"


def _check_ext4(_environment: Environment, image: Path, is_clean: bool) -> str | None:
    # e2fsck does not look behind a journal that it may not replay, so it replays (into a copy that nobody needs).
    return _check(["/sbin/e2fsck", "-f", "-n" if is_clean else "-p", str(image)], (0,) if is_clean else (0, 1))


def _check_cairnfs(environment: Environment, image: Path, is_clean: bool) -> str | None:
    try:
        words = ("fsck-cairnfs", "-nf", "--json", str(image))
        report = json.loads(programs.run_for_host(environment, *words, timeout_s=_CHECK_TIMEOUT_S))
    except VmError as error:
        return str(error)
    is_left = is_clean and report["replayed"]
    return "the unmount has left something in the journal" if is_left else None


@dataclass(frozen=True)
class Filesystem:
    """A filesystem that loses power."""

    name: str
    options: str
    # What keeps it from writing anything that nobody asked for, for as long as an hour.
    quiet_options: str
    needs_module: bool
    # (environment, image, bytes, bytes of the journal or 0)
    make: Callable[[Environment, Path, int, int], None]
    # What its checker finds in an image, after an unmount or after a cut.
    check: Callable[[Environment, Path, bool], str | None]
    # How it zeroes what a truncate cuts off of a block: what the oracle then lets pass.
    zeroing: str = "with-size"


FILESYSTEMS = {
    "cairnfs": Filesystem(
        # A checkpoint a second: what it writes home is what a disk may lose, also where every commit is forced.
        "cairnfs",
        "checkpoint_interval_s=1",
        "commit_interval_s=3600,checkpoint_interval_s=3600",
        True,
        _make_cairnfs,
        _check_cairnfs,
    ),
    "ext4": Filesystem(
        # Otherwise the size of a file that was renamed over another may be durable before its blocks are more than
        # unwritten ones: it reads as zeroes.
        "ext4",
        "errors=remount-ro,dioread_lock",
        "commit=3600",
        False,
        _make_ext4,
        _check_ext4,
        "in-place",
    ),
}


# Series ---------------------------------------------------------------------------------------------------------------


@dataclass
class Series:
    """A series of cuts, and what must come of it."""

    name: str
    load: str
    cuts: int
    lie: str = "off"
    fua: str = "alternate"
    must_lose: bool = False
    # Added to the filesystem's.
    options: str = ""
    threads: int = 2
    # Whether forced writes of the guest arrive as such; None where little depends on them.
    sees_forced_writes: bool | None = None
    rounds: list[dict[str, int]] = field(default_factory=list)
    states: list[dict[str, int]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)
    # How many crash states there were to choose from, where no cut was made.
    recorded_states: int = 0
    time_s: float = 0.0

    @property
    def losing(self) -> int:
        """States in which something was wrong."""
        return sum(state["broken"] > 0 for state in self.states)

    @property
    def promises(self) -> int:
        """Promises in all states together."""
        return sum(state["promises"] for state in self.states)

    def problems(self) -> list[str]:
        """What is wrong with the series, as lines."""
        problems = []
        if len(self.states) != self.cuts:
            problems.append(f"{len(self.states)} verified states instead of {self.cuts}")
        if not self.recorded_states and len(self.rounds) != self.cuts:
            problems.append(f"{len(self.rounds)} cuts instead of {self.cuts}")
        for made in self.rounds:
            if made["lost_sectors"] == 0:
                problems.append(f"the cut of seed {made['seed']} lost nothing")
        if self.promises == 0:
            problems.append("nothing was promised")
        if not self.must_lose:
            problems += self.findings
        elif self.losing == 0:
            problems.append(f"none of {len(self.states)} cuts lost a promise")
        forced = self.counters.get("fua_writes", 0)
        if self.sees_forced_writes not in (None, forced > 0):
            problems.append(f"{forced} forced writes arrived")
        return problems

    def line(self) -> str:
        """What came of it, in one line."""
        words = f"{self.name}: {self.losing} of {len(self.states)} states are wrong, {self.promises} promises"
        if self.recorded_states:
            words += f", {self.recorded_states} states recorded"
        else:
            words += f", {sum(made['lost_sectors'] for made in self.rounds)} sectors lost"
        return f"{words}, {self.time_s:.0f} s"


def _values(words: str) -> dict[str, int]:
    return {name: int(value) for name, value in (word.split("=") for word in words.split())}


class Runner:
    """Runs series on one kernel."""

    def __init__(
        self,
        environment: Environment,
        filesystem: Filesystem,
        folder: Path,
        verbose: bool,
        size_bytes: int = 96 << 20,
        journal_bytes: int = 4 << 20,
    ) -> None:
        self.environment = environment
        self.filesystem = filesystem
        self._folder = folder
        self._verbose = verbose
        self._image = folder / f"{filesystem.name}.img"
        filesystem.make(environment, self._image, size_bytes, journal_bytes)

    # Guests -----------------------------------------------------------------------------------------------------

    def server(self) -> DiskServer:
        """The disk, with an empty filesystem on it."""
        return DiskServer(self.environment, [f"disk0={self._image},cow"])

    def config(self, disks: tuple[Disk, ...] = (), network: bool = True) -> MachineConfig:
        """A guest for the filesystem."""
        module = self.filesystem.needs_module
        return MachineConfig(disks=disks, memory_mib=_MEMORY_MIB, cpus=2, network=network, cairnfs_module=module)

    @contextlib.contextmanager
    def guest(self, config: MachineConfig) -> Iterator[Guest]:
        """A running guest that knows the filesystem."""
        with machines.make_guest(self.environment, config) as guest:
            if self.filesystem.needs_module:
                timeout_s = _MODULE_TIMEOUT_S * self.environment.slowness
                guest.run(["modprobe", self.filesystem.name], timeout_s, check=True)
            yield guest

    def filesystem_words(self, options: str = "") -> list[str]:
        """The options of the guest's program that say what to mount."""
        joined = ",".join(filter(None, (self.filesystem.options, options)))
        return ["--kind", self.filesystem.name, *(["--options", joined] if joined else [])]

    def verify_words(self, where: Sequence[str]) -> list[str]:
        """The words of the guest's program that judges what is at `where`."""
        return [*where, "verify", "--zeroing", self.filesystem.zeroing]

    def run_in_guest(self, config: MachineConfig, arguments: Sequence[str], series: Series) -> None:
        """Boots a guest, runs the program, takes its lines in, and kills the guest without a word of warning."""
        with self.guest(config) as guest:
            self.run_program(guest, arguments, series)

    def run_program(self, guest: Guest, arguments: Sequence[str], series: Series) -> None:
        """Runs the program in a guest, and takes in its lines and the kernel's."""
        completed = guest.run([GUEST_PROGRAM, *arguments], _TIMEOUT_S * self.environment.slowness, check=True)
        for line in completed.text.splitlines():
            kind, _, words = line.partition(" ")
            if kind == "round":
                series.rounds.append(_values(words))
            elif kind == "verified":
                series.states.append(_values(words))
            elif kind == "state":
                series.findings.append(line)
            if self._verbose:
                print(f"# {series.name}: {line}", flush=True)
        for finding in kernel_log.find_splats(guest.log_lines()):
            series.findings += [f"the kernel said: {finding.message}", *finding.context]
            raise GuestError(f"{series.name}: the kernel said: {finding.message}", finding.context)

    # Series -----------------------------------------------------------------------------------------------------

    def run(self, series: Series, seed: int = 1) -> list[str]:
        """Cuts in one boot, one state kept for each; a second boot verifies them all. Returns what is wrong."""
        return self._timed(series, lambda: self._run_cuts(series, seed))

    def _timed(self, series: Series, run: Callable[[], None]) -> list[str]:
        began = time.monotonic()
        try:
            run()
            problems = series.problems()
        except (GuestError, VmError, subprocess.SubprocessError) as error:
            problems = [str(error), *getattr(error, "console_tail", ())]
        series.time_s = time.monotonic() - began
        return problems

    def _run_cuts(self, series: Series, seed: int) -> None:
        with self.server() as server:
            where = ["--server", server.address_in_guest]
            load = [*where, "load", series.load, "--rounds", str(series.cuts), "--seed", str(seed)]
            load += ["--lie", series.lie, "--fua", series.fua, "--threads", str(series.threads)]
            self.run_in_guest(self.config(), [*load, *self.filesystem_words(series.options)], series)
            series.counters = server.command("counters")
            verify = [*self.verify_words(where), "--kept", str(series.cuts)]
            self.run_in_guest(self.config(), [*verify, *self.filesystem_words(series.options)], series)
            if not series.must_lose:
                self._check_kept(server, series)

    def run_whole_machines(self, series: Series, seed: int = 1) -> list[str]:
        """Each cut takes the whole machine with it; the next boot finds what the disk holds."""
        return self._timed(series, lambda: self._run_machines(series, seed))

    def _run_machines(self, series: Series, seed: int) -> None:
        with self.server() as server:
            config = self.config((server.virtio_disk("disk0"), server.virtio_disk("control")), network=False)
            devices = ["--device", "/dev/vda", "--control", "/dev/vdb"]
            words = self.filesystem_words(series.options)
            for index in range(series.cuts):
                server.command("reset")
                server.command("power held")
                load = [*devices, "load", series.load, "--seed", str(seed + index), "--lie", series.lie]
                self.run_in_guest(config, [*load, "--threads", str(series.threads), *words], series)
                server.command("power on")
                self.run_in_guest(config, [*self.verify_words(devices), *words], series)
            series.counters = server.command("counters")

    def run_states(self, series: Series, operations: int, seed: int = 1) -> list[str]:
        """Records a load, and verifies `series.cuts` of the crash states that its recording has, in one boot."""
        return self._timed(series, lambda: self._run_states(series, operations, seed))

    def _run_states(self, series: Series, operations: int, seed: int) -> None:
        with self.server() as server, self.guest(self.config()) as guest:
            where = ["--server", server.address_in_guest]
            words = self.filesystem_words(series.options)
            load = [*where, "load", series.load, "--seed", str(seed), "--operations", str(operations)]
            load += ["--fua", series.fua, "--threads", str(series.threads), *words]
            self.run_program(guest, load, series)
            recorded = server.command("states")
            series.recorded_states = recorded["states"]
            states = choose_states(recorded["epoch"], series.cuts, seed)
            verify = [*self.verify_words(where), "--states", ",".join(map(str, states))]
            self.run_program(guest, [*verify, *words], series)
            self._check_kept(server, series)

    def _check_kept(self, server: DiskServer, series: Series) -> None:
        """Gives what the disk kept of each state to the filesystem's checker."""
        image = self._folder / "kept.img"
        for state in series.states:
            for when, is_clean in (("before", False), ("after", True)):
                server.command(f"offer kept={state[when]}")
                server.command(f"image {image}")
                problem = self.filesystem.check(self.environment, image, is_clean)
                image.unlink()
                if problem:
                    state["broken"] += 1
                    series.findings.append(f"state {state['state']}, {when} mount and unmount: {problem}")


def choose_states(epochs: Sequence[dict[str, int]], count: int, seed: int) -> list[int]:
    """Numbers of different crash states, in order: each epoch as often as another, however many states it has."""
    draw = random.Random(seed)
    chosen: set[int] = set()
    count = min(count, sum(epoch["states"] for epoch in epochs))
    while len(chosen) < count:
        epoch = draw.choice(epochs)
        chosen.add(epoch["first_state"] + draw.randrange(epoch["states"]))
    return sorted(chosen)
