"""Where set-up put the kernels, the tools and the cache: asked of scripts/setup, which alone knows.

Importing this module does nothing; `Environment.load` asks once for each kernel flavour and process.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
KERNEL_FLAVOURS = ("fast", "debug")


class VmError(Exception):
    """Something that the user of scripts/vm is told in one line, without a traceback."""


def positive_float(name: str, default: float) -> float:
    """A number from the process environment."""
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError as error:
        raise VmError(f"{name}={text} is not a number") from error
    if value <= 0:
        raise VmError(f"{name}={text} is not above zero")
    return value


@dataclass(frozen=True)
class Environment:
    """What a finished set-up offers for one kernel flavour."""

    flavour: str
    cache: Path
    kernel_build: Path
    kernel_image: Path
    vng: Path
    cargo: Path
    variables: dict[str, str] = field(compare=False)

    @property
    def kernel_release(self) -> str:
        """The release string of the kernel, as `uname -r` says it in the guest."""
        return (self.kernel_build / "include/config/kernel.release").read_text().strip()

    @property
    def cairnfs_module(self) -> Path:
        """The module as the last build for this kernel left it."""
        return Path(self.variables["CAIRNFS_MODULE"])

    def cache_folder(self, name: str) -> Path:
        """A folder of the runner's own below the cache."""
        folder = self.cache / "vm" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def slowness(self) -> float:
        """By how much time limits are stretched: they are written for the fast kernel, emulated, on an idle machine."""
        debug = 12.0 if self.flavour == "debug" else 1.0
        return debug * positive_float("CAIRNFS_VM_TIMEOUT_SCALE", 1.0)

    @property
    def cpus(self) -> int:
        """Processors of a guest that does not ask for a number. On the debug kernel, emulated, two that wait for each other cost more
        than they bring, all the more beside another guest."""
        return 1 if self.flavour == "debug" else 2

    @property
    def load_divisor(self) -> int:
        """How much less of a heavy load is done: on the debug kernel a tenth."""
        return 10 if self.flavour == "debug" else 1

    @staticmethod
    @functools.cache
    def load(flavour: str) -> Environment:
        """Asks scripts/setup for the environment of `flavour`."""
        if flavour not in KERNEL_FLAVOURS:
            raise VmError(f"there is no kernel flavour '{flavour}', only {', '.join(KERNEL_FLAVOURS)}")
        variables = _variables_of_setup(flavour)
        environment = Environment(
            flavour=flavour,
            cache=Path(variables["CAIRNFS_CACHE"]),
            kernel_build=Path(variables["KDIR"]),
            kernel_image=Path(variables["KERNEL_IMAGE"]),
            vng=Path(variables["VNG"]),
            cargo=Path(variables["CARGO"]),
            variables=variables,
        )
        if not environment.kernel_image.exists():
            raise VmError(f"the {flavour} kernel is not built: run make setup (missing: {environment.kernel_image})")
        return environment


def _variables_of_setup(flavour: str) -> dict[str, str]:
    command = [str(REPOSITORY / "scripts/setup"), "--print-env", f"--kernel={flavour}"]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        raise VmError(f"{shlex.join(command)} ended with {result.returncode}")
    variables = {}
    for word in shlex.split(result.stdout):
        name, equals, value = word.partition("=")
        if equals:
            variables[name] = value
    return variables
