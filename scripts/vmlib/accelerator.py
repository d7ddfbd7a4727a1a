"""Decides between KVM and software emulation: by booting a guest, because a /dev/kvm that opens says little.

Some machines offer /dev/kvm although no ordinary guest runs on it. So a guest is booted with KVM once, and the answer
is kept in the cache for as long as host (boot id, QEMU) and guest kernel stay the same. CAIRNFS_VM_ACCEL=kvm or tcg
overrides it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vmlib.environment import Environment, VmError

QEMU = "qemu-system-x86_64"
_KVM_DEVICE = Path("/dev/kvm")


@dataclass(frozen=True)
class Accelerator:
    """How QEMU runs the guest's code."""

    name: str
    qemu_arguments: tuple[str, ...]


KVM = Accelerator("kvm", ("-accel", "kvm", "-cpu", "host"))
TCG = Accelerator("tcg", ("-accel", "tcg,thread=multi", "-cpu", "max"))


def _key(environment: Environment) -> str:
    version = subprocess.run([QEMU, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text()
    image = environment.kernel_image.stat()
    text = f"{boot_id}{version}{environment.kernel_image}{image.st_size} {image.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def choose(environment: Environment, boots: Callable[[Accelerator], bool]) -> Accelerator:
    """KVM where `boots` says that a guest ran with it, else emulation."""
    wish = os.environ.get("CAIRNFS_VM_ACCEL", "")
    if wish:
        try:
            return {"kvm": KVM, "tcg": TCG}[wish]
        except KeyError:
            raise VmError(f"CAIRNFS_VM_ACCEL={wish}: only kvm and tcg are known") from None
    if not os.access(_KVM_DEVICE, os.R_OK | os.W_OK):
        return TCG
    answer = environment.cache_folder("accelerator") / f"{_key(environment)}.json"
    if not answer.exists():
        works = boots(KVM)
        temporary = answer.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"kvm_boots_a_guest": works}))
        temporary.rename(answer)
    return KVM if json.loads(answer.read_text())["kvm_boots_a_guest"] else TCG
