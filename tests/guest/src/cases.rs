//! Cases of a guest test: each gets an empty folder of the mounted filesystem, and is reported by name.
//!
//! Each group has a new filesystem. Behind its last case that is unmounted and checked, which is a case of its own: a case
//! that left a file open, or damage that nothing has noticed yet, shows there.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::ops::Div;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use anyhow::{bail, ensure, Context, Result};
use rustix::io::Errno;

use crate::filesystem::{Filesystem, Kind};
use crate::tap::Tap;

/// One thing that is tried.
pub struct Case {
    name: &'static str,
    run: fn(&Scene<'_>) -> Result<()>,
}

impl Case {
    /// What `run` tries, in words.
    #[must_use]
    pub const fn new(name: &'static str, run: fn(&Scene<'_>) -> Result<()>) -> Self {
        Self { name, run }
    }
}

/// Cases that belong together, on a filesystem of their own.
pub struct Group {
    /// One word, by which they are chosen on the command line.
    pub name: &'static str,
    /// How large that filesystem is; all of the disk without.
    pub size_bytes: Option<u64>,
    /// In the order in which they are tried.
    pub cases: &'static [Case],
}

/// What a case has to work with.
pub struct Scene<'a> {
    /// The filesystem, mounted.
    pub filesystem: &'a Filesystem,
    /// An empty folder in it, the case's own.
    pub folder: PathBuf,
}

impl Scene<'_> {
    /// A path in the case's folder.
    #[must_use]
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }
}

/// How much of `full` a heavy load is to do: a part of it where the runner asks for less (CAIRNFS_LOAD_DIVISOR), as it does on
/// kernels that check every access. Never nothing.
#[must_use]
pub fn share<T: From<u8> + Div<Output = T> + Ord>(full: T) -> T {
    static DIVISOR: LazyLock<u8> = LazyLock::new(|| {
        let asked = std::env::var("CAIRNFS_LOAD_DIVISOR").ok();
        asked.and_then(|text| text.parse().ok()).filter(|divisor| *divisor > 0).unwrap_or(1)
    });
    (full / T::from(*DIVISOR)).max(T::from(1))
}

/// The reason why a case cannot be tried here, as its error.
#[derive(Debug)]
pub struct Skip(pub &'static str);

impl fmt::Display for Skip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl Error for Skip {}

/// Ends a case as skipped where a filesystem keeps nothing when it is unmounted.
///
/// # Errors
/// The skip.
pub fn needs_a_disk(scene: &Scene<'_>) -> Result<()> {
    if scene.filesystem.is_persistent() {
        Ok(())
    } else {
        Err(Skip("this filesystem has no disk").into())
    }
}

/// `outcome` must be the error `wanted`.
///
/// # Errors
/// Where it is another, or none.
pub fn refused<T, E: Into<io::Error>>(what: &str, wanted: Errno, outcome: Result<T, E>) -> Result<()> {
    match outcome {
        Ok(_) => bail!("{what}: it succeeded, {wanted:?} was wanted"),
        Err(error) => {
            let error: io::Error = error.into();
            ensure!(
                error.raw_os_error() == Some(wanted.raw_os_error()),
                "{what}: {error}, wanted was {wanted:?}"
            );
            Ok(())
        }
    }
}

/// The two must be equal; the words say what they are.
///
/// # Errors
/// Where they are not.
pub fn equal<T: PartialEq + fmt::Debug>(what: &str, found: T, wanted: T) -> Result<()> {
    let pair = (found, wanted);
    ensure!(pair.0 == pair.1, "{what}: found {:?}, wanted {:?}", pair.0, pair.1);
    Ok(())
}

/// The main function of a guest test: `PROGRAM DEVICE [TYPE [[-]GROUP]...]`. Groups that are named are tried, else all; but none
/// that is named with a `-`.
///
/// # Errors
/// Where the filesystem cannot be made, and those of the output.
pub fn run(groups: &[Group], arguments: &[String]) -> Result<ExitCode> {
    let [device, rest @ ..] = arguments else {
        bail!("usage: DEVICE [cairnfs|ext4|tmpfs [[-]GROUP]...]");
    };
    let kind = rest.first().map_or(Ok(Kind::Cairnfs), |name| Kind::parse(name))?;
    let (mut wanted, mut left_out) = (Vec::new(), Vec::new());
    for word in rest.get(1..).unwrap_or_default() {
        let (names, name) =
            word.strip_prefix('-').map_or((&mut wanted, &word[..]), |name| (&mut left_out, name));
        ensure!(groups.iter().any(|group| group.name == name), "no group {name}");
        names.push(name);
    }
    let chosen = groups.iter().filter(|group| wanted.is_empty() || wanted.contains(&group.name));
    let chosen: Vec<&Group> = chosen.filter(|group| !left_out.contains(&group.name)).collect();
    // Behind the cases of each group: the checker's.
    let count: usize = chosen.iter().map(|group| group.cases.len() + 1).sum();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut tap = Tap::begin(count)?;
    for group in chosen {
        run_group(&mut tap, group, kind, device)?;
    }
    Ok(tap.finish())
}

fn run_group(tap: &mut Tap<io::Stdout>, group: &Group, kind: Kind, device: &str) -> Result<()> {
    let filesystem = Filesystem::make(kind, device, group.size_bytes)?;
    for (number, case) in group.cases.iter().enumerate() {
        let began = Instant::now();
        let result = one(&filesystem, case, number);
        let name = format!("{}: {}", group.name, case.name);
        match result.as_ref().err().and_then(|error| error.downcast_ref::<Skip>()) {
            Some(Skip(reason)) => tap.skip(&name, reason)?,
            None => tap.case(&name, result.map_err(|error| format!("{error:#}")))?,
        }
        println!("# {:.1} s", began.elapsed().as_secs_f64());
    }
    let end = filesystem.unmount().and_then(|()| filesystem.check());
    Ok(tap.case(
        &format!("{}: it unmounts and is sound", group.name),
        end.map_err(|error| format!("{error:#}")),
    )?)
}

fn one(filesystem: &Filesystem, case: &Case, number: usize) -> Result<()> {
    let folder = filesystem.root().join(format!("case-{number}"));
    fs::create_dir(&folder).context("the folder of the case")?;
    (case.run)(&Scene { filesystem, folder })
}
