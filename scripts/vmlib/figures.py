"""What calls cost: the disk's exact counters around many of them, with limits.

The guest's kernel attaches the disk with its own NBD client, which sends nothing of its own; without FUA means that the
server does not know forced writes. A figure is the mean over all calls until the last has returned; what a filesystem does at
intervals lies outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from vmlib.power_cuts import GUEST_PROGRAM, Runner

CALLS = 500
# Room for what all calls log: a checkpoint in between would be counted.
JOURNAL_BYTES = 32 << 20
_TIMEOUT_S = 300.0
_KIB = 1024

_TITLES = {
    "create": "create 4 KiB + fsync",
    "append": "append 4 KiB + fdatasync",
    "overwrite": "overwrite 4 KiB + fdatasync",
}
# Writes, KiB and flushes of a call at most: without FUA, and with it.
_LIMITS = {
    ("create", False): (2, 8, 2),
    ("create", True): (2, 8, 1),
    ("append", False): (2, 8, 2),
    ("append", True): (2, 8, 1),
    ("overwrite", False): (1, 4, 1),
    ("overwrite", True): (1, 4, 1),
}


@dataclass(frozen=True)
class Figure:
    """The cost of one kind of call."""

    name: str
    with_fua: bool
    calls: int
    counters: dict[str, int]

    @property
    def means(self) -> tuple[float, float, float]:
        """Writes, KiB and flushes of one call."""
        counts = self.counters
        writes = counts["writes"] + counts["write_zeroes"]
        return writes / self.calls, counts["write_bytes"] / _KIB / self.calls, counts["flushes"] / self.calls

    @property
    def cost(self) -> str:
        """The means in words."""
        writes, kib, flushes = self.means
        return f"{writes:.2f} writes, {kib:.2f} KiB, {flushes:.2f} flushes"

    def __str__(self) -> str:
        return f"{_TITLES[self.name]}, {'with' if self.with_fua else 'without'} FUA: {self.cost}"

    def problem(self) -> str | None:
        """Which limits it exceeds."""
        limits = _LIMITS[self.name, self.with_fua]
        if all(mean <= limit for mean, limit in zip(self.means, limits, strict=True)):
            return None
        return "at most {} writes, {} KiB and {} flushes are allowed".format(*limits)


def parse(text: str) -> list[Figure]:
    """The figures in the output of the guest's program."""
    found = []
    for line in text.splitlines():
        kind, _, words = line.partition(" ")
        if kind == "figure":
            values = dict(word.split("=") for word in words.split())
            name, fua, calls = values.pop("name"), values.pop("fua"), int(values.pop("calls"))
            found.append(Figure(name, fua == "1", calls, {key: int(value) for key, value in values.items()}))
    return found


def measure(runner: Runner) -> list[Figure]:
    """All figures, without FUA and with it."""
    with runner.server() as server, runner.guest(runner.config()) as guest:
        command = [GUEST_PROGRAM, "--server", server.address_in_guest, "figures", "--calls", str(CALLS)]
        command += runner.filesystem_words(runner.filesystem.quiet_options)
        text = guest.run(command, _TIMEOUT_S * runner.environment.slowness, check=True).text
        guest.power_off()
    return parse(text)


def line(figures: list[Figure], name: str) -> str:
    """Both figures of one kind in one line."""
    cost = {figure.with_fua: figure.cost for figure in figures if figure.name == name}
    return f"{_TITLES[name]}: {cost[False]}; with FUA: {cost[True]}"
