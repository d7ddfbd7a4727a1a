//! The first process of a lean guest: mounts what programs expect, brings the network up where there is a card, and
//! serves the host from a second process.
//!
//! Serving in a process of its own leaves this one free to reap orphans; when the server is gone, whatever the reason,
//! the machine is switched off, and the host sees its channel closed.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use rustix::mount::{mount, MountFlags};
use rustix::process::{wait, WaitOptions};
use rustix::system::{reboot, RebootCommand};

/// The guest's address on QEMU's user network; the host is 10.0.2.2 there, on the same link, so no route is needed.
const GUEST_ADDRESS: &str = "10.0.2.15";
const GUEST_NETMASK: &str = "255.255.255.0";

/// Where programs are looked for.
const PATH: &str = "/bin:/sbin:/usr/bin:/usr/sbin";

/// One filesystem that the guest mounts at start.
struct Mount {
    kind: &'static str,
    target: &'static str,
    /// The guest is of no use without it.
    required: bool,
}

const MOUNTS: &[Mount] = &[
    Mount { kind: "proc", target: "/proc", required: true },
    Mount { kind: "sysfs", target: "/sys", required: true },
    Mount { kind: "devtmpfs", target: "/dev", required: true },
    Mount { kind: "devpts", target: "/dev/pts", required: false },
    Mount { kind: "tmpfs", target: "/dev/shm", required: false },
    Mount { kind: "tmpfs", target: "/tmp", required: true },
    Mount { kind: "debugfs", target: "/sys/kernel/debug", required: false },
    Mount { kind: "tracefs", target: "/sys/kernel/tracing", required: false },
    Mount { kind: "configfs", target: "/sys/kernel/config", required: false },
    Mount { kind: "cgroup2", target: "/sys/fs/cgroup", required: false },
];

fn mount_all() -> Result<()> {
    for Mount { kind, target, required } in MOUNTS {
        // sysfs holds mount points of its own, which can be neither made nor missed.
        if !target.starts_with("/sys/") {
            fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
        }
        let mounted = mount(*kind, *target, *kind, MountFlags::empty(), None);
        if *required {
            mounted.with_context(|| format!("cannot mount {kind} on {target}"))?;
        }
    }
    Ok(())
}

fn run_to_end(program: &str, arguments: &[&str]) -> Result<()> {
    let status =
        Command::new(program).args(arguments).status().with_context(|| format!("cannot run {program}"))?;
    anyhow::ensure!(status.success(), "{program} {}: {status}", arguments.join(" "));
    Ok(())
}

fn bring_network_up() -> Result<()> {
    run_to_end("/bin/busybox", &["ifconfig", "lo", "127.0.0.1", "up"])?;
    if Path::new("/sys/class/net/eth0").exists() {
        run_to_end("/bin/busybox", &["ifconfig", "eth0", GUEST_ADDRESS, "netmask", GUEST_NETMASK, "up"])?;
    }
    Ok(())
}

fn start() -> Result<u32> {
    mount_all()?;
    if Path::new("/sys/class/net/lo").exists() {
        bring_network_up()?;
    }
    let server = Command::new("/bin/cairnfs-guest-init")
        .arg("serve")
        .env("PATH", PATH)
        .spawn()
        .context("cannot start the server")?;
    Ok(server.id())
}

/// Waits for the server while reaping whatever else ends.
fn wait_for(server: u32) -> io::Result<()> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().unsigned_abs() == server => {
                if status.exit_status() != Some(0) {
                    eprintln!("cairnfs-guest-init: the server ended: {status:?}");
                }
                return Ok(());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs the guest from its first process to power off. It returns only when even that failed: the kernel then panics
/// because its first process ended, and the host sees it.
pub fn run() {
    match start() {
        Ok(server) => {
            if let Err(error) = wait_for(server) {
                eprintln!("cairnfs-guest-init: cannot wait for the server: {error}");
            }
        }
        Err(error) => eprintln!("cairnfs-guest-init: {error:#}"),
    }
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        eprintln!("cairnfs-guest-init: cannot power off: {error}");
    }
}
