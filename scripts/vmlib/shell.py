"""An interactive guest: the host's programs (virtme-ng), the module loaded, and a scratch disk."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from pathlib import Path

from vmlib import machines, qemu, virtme
from vmlib.disks import Disk
from vmlib.environment import Environment
from vmlib.machines import MachineConfig

_SCRATCH_BYTES = 4 << 30

# What the guest runs in place of a login: the module, a word of welcome, and a shell.
_WELCOME = f"""#!/bin/bash
export PATH={virtme.SHARE}/bin:$PATH
export CAIRNFS_MODULES={virtme.SHARE}/modules
if insmod "$CAIRNFS_MODULES/cairnfs.ko"; then
	echo "cairnfs is loaded (rmmod cairnfs; insmod \\$CAIRNFS_MODULES/cairnfs.ko)."
fi
echo "Disks: $(cd /dev && echo vd*). What is written to them and elsewhere is gone at the end: exit, or Ctrl-D."
exec bash --norc -i
"""


def run(environment: Environment, config: MachineConfig) -> int:
    """Boots the guest on this terminal and waits for its end."""
    if not config.disks:
        config = dataclasses.replace(config, disks=(Disk.blank(_SCRATCH_BYTES),))
    config = dataclasses.replace(config, host_userland=True)
    chosen = machines.choose_accelerator(environment)
    with tempfile.TemporaryDirectory(prefix="cairnfs-vm-") as name:
        folder = Path(name)
        share = folder / "share"
        programs, modules = machines.static_programs(environment), machines.modules_of(environment, config)
        virtme.fill_share(share, config, programs, modules)
        welcome = share / "bin/shell"
        welcome.write_text(_WELCOME)
        welcome.chmod(0o755)
        machines.empty_blank_disks(config, folder)
        command = virtme.vng_command(environment, config, chosen, share)
        command += ["--shell", f"{virtme.SHARE}/bin/shell"]
        extra = qemu.disk_arguments(config.disks, folder)
        if config.network:
            extra += qemu.network_arguments()
        return subprocess.run(command + virtme.qemu_options(extra), check=False).returncode
