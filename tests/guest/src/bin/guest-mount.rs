//! Mounts and remounts cairnfs for tests on the host, and says the exact error number, 0 for none: `mount(8)` has words only.
//!
//! * `mount DEVICE ro|rw [OPTIONS]`, at /mnt.
//! * `remount ro|rw [OPTIONS]`.
//! * `compare home|recovered|without-last`: what is mounted is a tree of `cairnfs_guest::dirty`, in that view.

use std::ffi::CString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, Result};
use cairnfs_guest::dirty::{self, View};
use rustix::mount::{mount, mount_remount, MountFlags};

const TARGET: &str = "/mnt";

fn flags_of(word: &str) -> Result<MountFlags> {
    match word {
        "ro" => Ok(MountFlags::RDONLY),
        "rw" => Ok(MountFlags::empty()),
        _ => bail!("{word} is neither ro nor rw"),
    }
}

fn say(outcome: rustix::io::Result<()>) {
    println!("{}", outcome.err().map_or(0, rustix::io::Errno::raw_os_error));
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["mount", device, how, ref options @ ..] => {
            let options = CString::new(options.join(","))?;
            say(mount(device, TARGET, "cairnfs", flags_of(how)?, options.as_c_str()));
        }
        ["remount", how, ref options @ ..] => {
            let options = CString::new(options.join(","))?;
            say(mount_remount(TARGET, flags_of(how)?, options.as_c_str()));
        }
        ["compare", view] => dirty::compare(Path::new(TARGET), View::parse(view)?)?,
        _ => {
            bail!("usage: guest-mount mount DEVICE ro|rw [OPTIONS] | remount ro|rw [OPTIONS] | compare VIEW")
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("guest-mount: {error:#}");
            ExitCode::FAILURE
        }
    }
}
