"""Builds the programs that run inside a guest: static, so that an archive without libraries holds them.

They come from the cargo workspace of the tools. The target is named explicitly: only then does the flag for static
linking spare build scripts and procedural macros, which cannot be linked so. The target directory is one of their own:
cargo locks it, and a test should not wait for a build that has nothing to do with it.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

from vmlib.environment import REPOSITORY, Environment, VmError

INIT_PROGRAM = "cairnfs-guest-init"

# Which packages of the workspace have programs for the guest; empty: all of the package's.
_GUEST_PROGRAMS: dict[str, frozenset[str]] = {
    "cairnfs-guest": frozenset(),
    "cairnfs-disk": frozenset({"cairnfs-nbd-attach"}),
    "cairnfs-power-cuts": frozenset(),
}
_MANIFEST = REPOSITORY / "tools/Cargo.toml"
_TARGET = "x86_64-unknown-linux-gnu"
_SETTINGS = (f'target.{_TARGET}.rustflags=["-Ctarget-feature=+crt-static"]', 'profile.release.strip="symbols"')


def _cargo(environment: Environment, subcommand: str, *arguments: str, capture: bool = False) -> str:
    command = [str(environment.cargo), subcommand, "--locked", "--manifest-path", str(_MANIFEST), *arguments]
    result = subprocess.run(
        command,
        env={**os.environ, **environment.variables},
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise VmError(f"cargo {subcommand} for the programs of the tests ended with {result.returncode}")
    return result.stdout or ""


def _program_names(environment: Environment) -> list[str]:
    metadata = json.loads(_cargo(environment, "metadata", "--no-deps", "--format-version=1", capture=True))
    names = []
    for package in metadata["packages"]:
        if package["name"] in _GUEST_PROGRAMS:
            chosen = _GUEST_PROGRAMS[package["name"]]
            binaries = [target["name"] for target in package["targets"] if "bin" in target["kind"]]
            names += [name for name in binaries if not chosen or name in chosen]
    if INIT_PROGRAM not in names:
        raise VmError(f"{_MANIFEST} has no member with the program {INIT_PROGRAM}")
    return sorted(names)


def build(environment: Environment) -> list[Path]:
    """Builds all programs for the guest and returns their paths; quick when nothing has changed."""
    folder = Path(environment.variables["CARGO_TARGET_DIR"]) / "guest"
    names = _program_names(environment)
    arguments = ["--release", "--target", _TARGET, "--target-dir", str(folder)]
    arguments += [argument for setting in _SETTINGS for argument in ("--config", setting)]
    arguments += [argument for name in names for argument in ("--bin", name)]
    if not sys.stderr.isatty():
        arguments.append("--quiet")
    _cargo(environment, "build", *arguments)
    return [folder / _TARGET / "release" / name for name in names]


@functools.cache
def build_for_host(environment: Environment, name: str) -> Path:
    """Builds one program of the workspace for this machine and returns its path."""
    arguments = ["--release", "--bin", name]
    if not sys.stderr.isatty():
        arguments.append("--quiet")
    _cargo(environment, "build", *arguments)
    return Path(environment.variables["CARGO_TARGET_DIR"]) / "release" / name


def run_for_host(environment: Environment, name: str, *arguments: str, timeout_s: float | None = None) -> str:
    """Runs a program of the workspace on this machine, which must succeed; what it printed."""
    command = [str(build_for_host(environment, name)), *arguments]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=timeout_s
    )
    if result.returncode != 0:
        raise VmError(f"{name} {' '.join(arguments)} ended with {result.returncode}: {result.stdout}")
    return result.stdout
