# vm: timeout_s=120 kernels=fast
"""The project's own disk under guests, attached in both ways: what was flushed survives a cut, what was not is lost.

Cases, each against the server's exact counters or contents: QEMU's driver with a cut of the whole machine and a second
boot; the guest's own client with FUA; and several crash states offered to one running guest. What is tried is the disk: no
kernel with checkers would find more.
"""

import os
import sys
from pathlib import Path

from vmlib import machines
from vmlib.cases import run_cases
from vmlib.disk_server import DiskServer
from vmlib.environment import Environment
from vmlib.guest import Guest
from vmlib.machines import MachineConfig

ENVIRONMENT = Environment.load(os.environ["CAIRNFS_VM_KERNEL"])
LIMIT_S = 30.0 * ENVIRONMENT.slowness
BLOCK_BYTES = 4096
STATES_TO_VISIT = 6
# The dd of busybox knows no direct and no synchronous writes.
HOST_PROGRAMS = (Path("/bin/dd"),)


def shell(guest: Guest, script: str) -> str:
    return guest.run(["/bin/sh", "-c", script], LIMIT_S, check=True).text


def write_block(device: str, block: int, letter: str, flags: str) -> str:
    """A command that fills one block with a letter; `flags` are those of dd."""
    fill = f"head -c {BLOCK_BYTES} /dev/zero | tr '\\0' {letter}"
    return f"{fill} | /bin/dd of={device} bs={BLOCK_BYTES} seek={block} iflag=fullblock {flags} 2>/dev/null"


def read_block(device: str, block: int) -> str:
    """A command that prints the first letter of a block, `0` for a blank one."""
    return f"/bin/dd if={device} bs={BLOCK_BYTES} skip={block} count=1 2>/dev/null | head -c 1 | tr '\\0' 0"


def cut_of_a_whole_machine() -> None:
    with DiskServer(ENVIRONMENT, ["disk0=mem:16M"]) as server:
        config = MachineConfig(disks=(server.virtio_disk("disk0"),), cairnfs_module=False, host_programs=HOST_PROGRAMS)
        with machines.make_guest(ENVIRONMENT, config) as guest:
            shell(guest, write_block("/dev/vda", 0, "A", "conv=fsync"))
            # Direct: the write reaches the disk, no flush follows it.
            shell(guest, write_block("/dev/vda", 1, "B", "oflag=direct"))
            server.command("power held")
            answer = server.command("cut seed=1")
            # QEMU connects anew at the request that follows the one that failed.
            later = write_block("/dev/vda", 1, "C", "oflag=direct")
            written = shell(guest, f"for i in 1 2 3; do {later} && echo written; done; exit 0")
            guest.kill()
        server.command("power on")
        with machines.make_guest(ENVIRONMENT, config) as guest:
            flushed = shell(guest, read_block("/dev/vda", 0))
            loose = shell(guest, f"tail -c +{BLOCK_BYTES + 1} /dev/vda | head -c {BLOCK_BYTES} | tr -d '\\0' | wc -c")
            guest.power_off()
    assert not written, "the guest could write after the power was cut"
    assert flushed == "A", f"a flushed block reads {flushed!r}; the cut said {answer}"
    assert int(loose) < BLOCK_BYTES, f"the cut lost nothing of a block that nobody had flushed: {answer}"


def attach(guest: Guest, server: DiskServer) -> None:
    command = ["/bin/cairnfs-nbd-attach", "attach", server.address_in_guest, "disk0", "0"]
    guest.run(command, LIMIT_S, check=True)


def detach(guest: Guest) -> None:
    guest.run(["/bin/cairnfs-nbd-attach", "detach", "0"], LIMIT_S, check=True)


def forced_writes_of_the_guests_own_client() -> None:
    with DiskServer(ENVIRONMENT, ["disk0=mem:16M"]) as server:
        config = MachineConfig(network=True, cairnfs_module=False, host_programs=HOST_PROGRAMS)
        with machines.make_guest(ENVIRONMENT, config) as guest:
            attach(guest, server)
            fua = shell(guest, "cat /sys/block/nbd0/queue/fua").strip()
            server.command("counters reset")
            shell(guest, write_block("/dev/nbd0", 3, "C", "oflag=direct,dsync"))
            counters = server.command("counters")
            guest.power_off()
    assert fua == "1", f"the guest sees fua={fua}"
    # Behind a synchronous write to a block device the kernel flushes as well, so the flushes say nothing here.
    assert (counters["writes"], counters["fua_writes"]) == (1, 1), f"a forced write was counted as {counters}"


def many_states_in_one_boot() -> None:
    with DiskServer(ENVIRONMENT, ["disk0=mem:16M"]) as server:
        config = MachineConfig(network=True, cairnfs_module=False, host_programs=HOST_PROGRAMS)
        with machines.make_guest(ENVIRONMENT, config) as guest:
            attach(guest, server)
            server.command("record on")
            shell(guest, write_block("/dev/nbd0", 0, "D", "conv=fsync"))
            for block in (1, 2, 3):
                shell(guest, write_block("/dev/nbd0", block, "E", "oflag=direct"))
            server.command("record off")
            detach(guest)
            states = server.command("states")["states"]
            seen = set()
            for number in range(states)[-STATES_TO_VISIT:]:
                server.command(f"offer state={number}")
                attach(guest, server)
                seen.add(shell(guest, "; ".join(read_block("/dev/nbd0", block) for block in range(4))))
                detach(guest)
            guest.power_off()
    assert len(seen) > 1, f"{STATES_TO_VISIT} of {states} states all look like {seen}"
    assert all(state.startswith("D") for state in seen), f"a flushed block is missing from one of {seen}"


def main() -> int:
    cases = (cut_of_a_whole_machine, forced_writes_of_the_guests_own_client, many_states_in_one_boot)
    return run_cases([(case.__name__.replace("_", " "), case) for case in cases])


if __name__ == "__main__":
    sys.exit(main())
