"""Finds the tests in a folder and reads what each wants of its guest.

A test is a file: `NAME.sh` runs in the guest, `NAME.py` on the host, where it starts the guests that it needs. Lines
`# vm: ...` in its first comment say what it wants, as words:

    timeout_s=N          limit on the fast kernel, emulated (default 60); stretched for slower ones
    disks=SPEC,...       blank:SIZE each; blank again for every test
    memory_mib=N cpus=N  of the guest (default 1024; 2, on the debug kernel 1)
    network              a card on QEMU's user network
    own_boot             no other test before or after it in this guest
    alone                on the host: beside no other test (--jobs), for it depends on how long things take
    userland=host        the host's programs (virtme-ng), not busybox alone
    modules=NAME,...     modules of the kernel's own, for modprobe
    test_modules=NAME,...  modules of a test's own, built from tests/NAME
    programs=PATH,...    programs of the host, with their libraries; without a slash, of the project
    kernels=fast         the flavours that it is for; skipped elsewhere
    expect_log=REGEX     a bad message that must come, and is no failure then
    parameters=WORDS     kernel parameters
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmlib.disks import Disk
from vmlib.environment import KERNEL_FLAVOURS, VmError
from vmlib.machines import MachineConfig

_MARK = "# vm:"
_DEFAULT_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Test:
    """One file, and what its guest must have."""

    name: str
    path: Path
    machine: MachineConfig
    timeout_s: float = _DEFAULT_TIMEOUT_S
    own_boot: bool = False
    alone: bool = False
    kernels: tuple[str, ...] = KERNEL_FLAVOURS
    expected_log: re.Pattern[str] | None = field(default=None)

    @property
    def on_host(self) -> bool:
        """Whether it runs beside the guests, not in one."""
        return self.path.suffix == ".py"


def _wishes(path: Path) -> dict[str, str]:
    """The words of the marked lines in the leading comment."""
    wishes: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.strip() and not line.startswith(("#", '"""')):
            break
        if line.startswith(_MARK):
            for word in shlex.split(line[len(_MARK) :]):
                name, _, value = word.partition("=")
                wishes[name] = value
    return wishes


def _list(value: str) -> tuple[str, ...]:
    return tuple(filter(None, value.split(",")))


def read_test(path: Path, tests_folder: Path) -> Test:
    """The test in one file."""
    machine = MachineConfig(tests_folder=tests_folder)
    test = Test(path.stem, path, machine)
    for name, value in _wishes(path).items():
        try:
            test = _with_wish(test, name, value)
        except (KeyError, ValueError, VmError) as error:
            raise VmError(f"{path}: '{name}={value}' is not understood: {error}") from error
    return test


def _with_wish(test: Test, name: str, value: str) -> Test:
    machine = test.machine
    match name:
        case "timeout_s":
            return replace(test, timeout_s=float(value))
        case "own_boot":
            return replace(test, own_boot=True)
        case "alone":
            return replace(test, alone=True)
        case "kernels":
            return replace(test, kernels=tuple(KERNEL_FLAVOURS[KERNEL_FLAVOURS.index(each)] for each in _list(value)))
        case "expect_log":
            return replace(test, expected_log=re.compile(value))
        case "disks":
            machine = replace(machine, disks=tuple(Disk.parse(each) for each in _list(value)))
        case "memory_mib":
            machine = replace(machine, memory_mib=int(value))
        case "cpus":
            machine = replace(machine, cpus=int(value))
        case "network":
            machine = replace(machine, network=True)
        case "userland":
            machine = replace(machine, host_userland={"host": True, "busybox": False}[value])
        case "modules":
            machine = replace(machine, kernel_modules=_list(value))
        case "test_modules":
            machine = replace(machine, test_modules=_list(value))
        case "programs":
            machine = replace(machine, host_programs=tuple(Path(each) for each in _list(value)))
        case "leaks":
            machine = replace(machine, leaks=True)
        case "parameters":
            machine = replace(machine, kernel_parameters=tuple(value.split()))
        case _:
            raise VmError("there is no such word")
    return replace(test, machine=machine)


def find_tests(folder: Path, names: list[str]) -> list[Test]:
    """The tests of a folder, all of them or those named, in the order of their names."""
    paths = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix in (".sh", ".py")}
    unknown = [name for name in names if name not in paths]
    if unknown:
        raise VmError(f"no test {', '.join(unknown)}; there are: {', '.join(paths)}")
    return [read_test(path, folder) for name, path in paths.items() if not names or name in names]


def group_by_boot(tests: list[Test]) -> list[list[Test]]:
    """Guest tests that may share a boot, together."""
    groups: list[list[Test]] = []
    shared: dict[MachineConfig, list[Test]] = {}
    for test in tests:
        if test.own_boot:
            groups.append([test])
        elif test.machine in shared:
            shared[test.machine].append(test)
        else:
            shared[test.machine] = [test]
            groups.append(shared[test.machine])
    return groups
