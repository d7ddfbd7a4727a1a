//! Mounts what cannot be mounted, with the module loaded, and looks at the exact error numbers: `mount(8)` says them in
//! words only, and its exit code is the same for all.

use std::fs;
use std::process::ExitCode;

use anyhow::{ensure, Context, Result};
use cairnfs_guest::tap::Tap;
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

const TARGET: &str = "/mnt";
const ROUNDS: usize = 100;

fn mount_error(device: &str, kind: &str, flags: MountFlags) -> Option<Errno> {
    let result = mount(device, TARGET, kind, flags, None);
    if result.is_ok() {
        // What is wrong is reported by the caller; a leftover mount would only confuse what comes next.
        let _ = unmount(TARGET, UnmountFlags::empty());
    }
    result.err()
}

fn expect_error(device: &str, kind: &str, flags: MountFlags, wanted: Errno) -> Result<()> {
    let found =
        mount_error(device, kind, flags).with_context(|| format!("{kind} on {device} was mounted"))?;
    ensure!(found == wanted, "{kind} on {device}: wanted {wanted:?}, found {found:?}");
    Ok(())
}

fn many_failures_leave_no_user(device: &str) -> Result<()> {
    for _ in 0..ROUNDS {
        ensure!(
            mount_error(device, "cairnfs", MountFlags::RDONLY).is_some(),
            "cairnfs on {device} was mounted"
        );
    }
    let users = fs::read_to_string("/sys/module/cairnfs/refcnt")?;
    ensure!(users.trim() == "0", "{ROUNDS} failed mounts left {} users of the module", users.trim());
    Ok(())
}

fn is_still_blank(device: &str) -> Result<()> {
    let contents = fs::read(device)?;
    ensure!(!contents.is_empty(), "{device} has no contents");
    let written = contents.iter().position(|byte| *byte != 0);
    ensure!(written.is_none(), "{device} was written to at byte {}", written.unwrap_or_default());
    Ok(())
}

fn run(device: &str) -> Result<ExitCode> {
    let mut tap = Tap::begin(6)?;
    let (read_only, writable) = (MountFlags::RDONLY, MountFlags::empty());
    // The two that are not ours show that the disk is there and that the error comes from where it should.
    tap.case("a blank disk is no ext4: EINVAL", expect_error(device, "ext4", writable, Errno::INVAL))?;
    tap.case(
        "a type that nobody registered: ENODEV",
        expect_error(device, "cairnfs9", writable, Errno::NODEV),
    )?;
    tap.case("a blank disk as cairnfs: EINVAL", expect_error(device, "cairnfs", read_only, Errno::INVAL))?;
    tap.case("the same for writing: EINVAL", expect_error(device, "cairnfs", writable, Errno::INVAL))?;
    tap.case("failed mounts leave nobody using the module", many_failures_leave_no_user(device))?;
    tap.case("none of them wrote to the disk", is_still_blank(device))?;
    Ok(tap.finish())
}

fn main() -> ExitCode {
    let Some(device) = std::env::args().nth(1) else {
        eprintln!("usage: guest-mount-errors DEVICE");
        return ExitCode::from(2);
    };
    run(&device).unwrap_or_else(|error| {
        eprintln!("guest-mount-errors: {error:#}");
        ExitCode::FAILURE
    })
}
