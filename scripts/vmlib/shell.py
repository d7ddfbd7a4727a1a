"""An interactive guest: the host's programs (virtme-ng), the module loaded, the tools on PATH, a scratch disk mounted."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
from pathlib import Path

from vmlib import machines, programs, qemu, virtme
from vmlib.disks import Disk
from vmlib.environment import Environment
from vmlib.machines import MachineConfig

_SCRATCH_BYTES = 4 << 30

# The tools, by the names that mkfs(8), fsck(8) and people look for.
_TOOLS = {"mkfs-cairnfs": "mkfs.cairnfs", "fsck-cairnfs": "fsck.cairnfs", "cairnfs": "cairnfs"}

# What the guest runs in place of a login: the module, the disk, a word of welcome, and a shell.
_WELCOME = f"""#!/bin/bash
export PATH={virtme.SHARE}/bin:$PATH:/usr/sbin:/sbin
export CAIRNFS_MODULES={virtme.SHARE}/modules
if insmod "$CAIRNFS_MODULES/cairnfs.ko"; then
	echo "cairnfs is loaded (rmmod cairnfs; insmod \\$CAIRNFS_MODULES/cairnfs.ko)."
fi
%s
echo "Tools: {" ".join(_TOOLS.values())}. Disks: $(cd /dev && echo vd*)."
echo "What is written, to disks and elsewhere, is gone at the end: exit, or Ctrl-D."
exec bash --norc -i
"""
_MOUNT = """if mkfs.cairnfs -q /dev/vda && mount -t cairnfs /dev/vda /mnt; then
	echo "/dev/vda is a new cairnfs, mounted on /mnt."
	cd /mnt
fi"""


def run(environment: Environment, config: MachineConfig) -> int:
    """Boots the guest on this terminal and waits for its end."""
    is_scratch = not config.disks
    if is_scratch:
        config = dataclasses.replace(config, disks=(Disk.blank(_SCRATCH_BYTES),))
    config = dataclasses.replace(config, host_userland=True)
    chosen = machines.choose_accelerator(environment)
    with tempfile.TemporaryDirectory(prefix="cairnfs-vm-") as name:
        folder = Path(name)
        share = folder / "share"
        modules = machines.modules_of(environment, config)
        virtme.fill_share(share, config, machines.static_programs(environment), modules)
        for program, name in _TOOLS.items():
            shutil.copy(programs.build_for_host(environment, program), share / "bin" / name)
        welcome = share / "bin/shell"
        welcome.write_text(_WELCOME % (_MOUNT if is_scratch else ""))
        welcome.chmod(0o755)
        machines.empty_blank_disks(config, folder)
        command = virtme.vng_command(environment, config, chosen, share)
        command += ["--shell", f"{virtme.SHARE}/bin/shell"]
        extra = qemu.disk_arguments(config.disks, folder)
        if config.network:
            extra += qemu.network_arguments()
        return subprocess.run(command + virtme.qemu_options(extra), check=False).returncode
