"""From a description of a guest to a guest: the lean kind, and the one with the host's userland.

The lean kind boots an archive of its own in about a second: whatever is booted by the dozen is lean. The other kind is
virtme-ng's: it shares the host's root, so every program of the host is there, and it takes several seconds.
"""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmlib import accelerator, disks, initramfs, kernel_log, programs, qemu, virtme
from vmlib.accelerator import Accelerator
from vmlib.disks import Disk
from vmlib.environment import REPOSITORY, Environment, VmError
from vmlib.guest import Guest, GuestError, Launch

_PROBE_TIMEOUT_S = 15.0
_BOOT_TIMEOUT_S = 60.0
# Of the tests, what asks a guest whether it is well.
HEALTH_TEST = "lib/health.sh"
HEALTH_TIMEOUT_S = 30.0
# How the scripts that build modules name a result.
_BUILT = "module: "

_guest_numbers = itertools.count(1)


@dataclass(frozen=True)
class MachineConfig:
    """What a guest is to have. Two tests with equal configurations may share a boot."""

    disks: tuple[Disk, ...] = ()
    memory_mib: int = 1024
    cpus: int | None = None
    network: bool = False
    host_userland: bool = False
    cairnfs_module: bool = True
    kernel_modules: tuple[str, ...] = ()
    test_modules: tuple[str, ...] = ()
    host_programs: tuple[Path, ...] = ()
    kernel_parameters: tuple[str, ...] = ()
    leaks: bool = False
    tests_folder: Path = initramfs.TESTS_FOLDER

    def processors(self, environment: Environment) -> int:
        """How many it gets: as many as it asks for, else as many as guests of this kernel have."""
        return self.cpus or environment.cpus

    def parameters(self, environment: Environment) -> tuple[str, ...]:
        """What its kernel is told. On the debug kernel SLUB's checks, but not its record of who allocated and freed: KASAN keeps one,
        and each costs a walk of the stack. kmemleak costs as much again as all else, so it looks on where it is asked for."""
        if environment.flavour != "debug":
            return self.kernel_parameters
        kmemleak = () if self.leaks else ("kmemleak=off",)
        return ("slub_debug=FZP", *kmemleak, *self.kernel_parameters)


def _build_modules(environment: Environment, script: str, *arguments: str) -> list[Path]:
    command = [str(REPOSITORY / "scripts" / script), f"--kernel={environment.flavour}", *arguments]
    # The kernel's make does not expect another beside it.
    with (environment.cache_folder("locks") / "module").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if result.returncode != 0:
        raise VmError(f"{result.stdout}{' '.join((script, *arguments))}: the module does not build")
    lines = result.stdout.splitlines()
    return [Path(line.removeprefix(_BUILT)) for line in lines if line.startswith(_BUILT)]


@functools.cache
def build_cairnfs_module(environment: Environment) -> Path:
    """The module for this kernel; building is short when nothing has changed."""
    _build_modules(environment, "build-module")
    return environment.cairnfs_module


@functools.cache
def build_test_modules(environment: Environment, name: str) -> tuple[Path, ...]:
    """The modules that a test has in tests/`name`."""
    return tuple(_build_modules(environment, "build-test-module", name))


@functools.cache
def static_programs(environment: Environment) -> tuple[Path, ...]:
    """The programs for the guest, built once in a run."""
    return tuple(programs.build(environment))


def modules_of(environment: Environment, config: MachineConfig) -> tuple[Path, ...]:
    """The modules that a guest is to have: the kernel's own that were asked for, those of its tests, then cairnfs."""
    modules = initramfs.find_kernel_modules(environment, config.kernel_modules)
    for name in config.test_modules:
        modules += build_test_modules(environment, name)
    if config.cairnfs_module:
        modules.append(build_cairnfs_module(environment))
    return tuple(modules)


def _brought_program(environment: Environment, program: Path) -> Path:
    """A path is one of the host; a name alone is a program of the project, built for the host."""
    return program if program.is_absolute() else programs.build_for_host(environment, str(program))


def _lean_launch(environment: Environment, config: MachineConfig, chosen: Accelerator) -> Launch:
    contents = initramfs.Contents(
        static_programs=static_programs(environment),
        modules=modules_of(environment, config),
        host_programs=tuple(_brought_program(environment, program) for program in config.host_programs),
        tests_folder=config.tests_folder,
    )
    machine = qemu.Machine(
        kernel_image=environment.kernel_image,
        initramfs=initramfs.build(environment, contents),
        accelerator=chosen,
        cpus=config.processors(environment),
        memory_mib=config.memory_mib,
        network=config.network,
        disks=config.disks,
        kernel_parameters=config.parameters(environment),
    )
    return functools.partial(qemu.command_line, machine)


def _with_blank_disks(config: MachineConfig, launch: Launch) -> Launch:
    def prepare(folder: Path, socket: Path, console: Path) -> list[str]:
        empty_blank_disks(config, folder)
        return launch(folder, socket, console)

    return prepare


def empty_blank_disks(config: MachineConfig, folder: Path) -> None:
    """Makes the blank disks of a guest, or empties them again."""
    for index, disk in enumerate(config.disks):
        if path := disk.backing_file(folder, index):
            disks.make_blank(path, disk.blank_bytes)


@functools.cache
def choose_accelerator(environment: Environment, say: Callable[[str], None] = lambda _: None) -> Accelerator:
    """KVM if a guest boots with it, else emulation."""

    def boots(candidate: Accelerator) -> bool:
        say("trying whether a guest boots with KVM (once for each start of this machine)")
        launch = _lean_launch(environment, MachineConfig(cairnfs_module=False), candidate)
        try:
            with Guest(launch, boot_timeout_s=_PROBE_TIMEOUT_S) as guest:
                return guest.run(["/bin/true"], timeout_s=_PROBE_TIMEOUT_S).exit_code == 0
        except GuestError:
            return False

    return accelerator.choose(environment, boots)


def _kept_console() -> Path | None:
    """A file for the log of a guest of this process, where the logs of all guests are to be kept."""
    folder = os.environ.get("CAIRNFS_VM_LOGS")
    return kernel_log.kept_log(Path(folder), os.getpid(), next(_guest_numbers)) if folder else None


def check_health(environment: Environment, config: MachineConfig, guest: Guest) -> None:
    """Asks a guest whether it is well; `GuestError` if it is not."""
    program = [f"{tests_path(config)}/{HEALTH_TEST}"]
    result = guest.run(program, HEALTH_TIMEOUT_S * environment.slowness, test_environment(environment, config))
    if result.exit_code != 0:
        bad = [line for line in result.text.splitlines() if not line.startswith("ok ")]
        raise GuestError(f"the guest is not well: {'; '.join(bad)}", guest.console_tail())


def make_guest(environment: Environment, config: MachineConfig, console: Path | None = None) -> Guest:
    """A guest, ready to be started (use it with `with`). Its log goes into `console`; without, into the folder that
    CAIRNFS_VM_LOGS= names; else it goes away with the guest. One whose log is kept there is asked whether it is well before it
    powers off."""
    before_the_end = None
    if console is None and (console := _kept_console()):
        before_the_end = functools.partial(check_health, environment, config)
    chosen = choose_accelerator(environment)
    if config.host_userland:
        programs_and_modules = static_programs(environment), modules_of(environment, config)
        launch = virtme.launch(environment, config, chosen, *programs_and_modules)
        stretch = 3.0
    else:
        launch = _lean_launch(environment, config, chosen)
        stretch = 1.0
    timeout_s = _BOOT_TIMEOUT_S * stretch * environment.slowness
    return Guest(_with_blank_disks(config, launch), console, timeout_s, before_the_end)


def tests_path(config: MachineConfig) -> str:
    """Where the tests are in the guest."""
    return f"{virtme.SHARE}/tests" if config.host_userland else initramfs.GUEST_TESTS


def test_environment(environment: Environment, config: MachineConfig) -> dict[str, str]:
    """What a guest test finds in its environment."""
    names = [f"/dev/vd{letter}" for letter, _ in zip("abcdefghijklmnop", config.disks, strict=False)]
    found = {
        "CAIRNFS_DISKS": " ".join(names),
        "CAIRNFS_TESTS": tests_path(config),
        "CAIRNFS_LOAD_DIVISOR": str(environment.load_divisor),
    }
    if config.host_userland:
        found["PATH"] = f"{virtme.SHARE}/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        found["CAIRNFS_MODULES"] = f"{virtme.SHARE}/modules"
    else:
        found["PATH"] = "/bin:/sbin:/usr/bin:/usr/sbin"
        found["CAIRNFS_MODULES"] = "/lib/modules/current"
    return found
