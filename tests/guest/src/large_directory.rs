//! A directory of a million names: made on the host ([`fill`], by `make-test-image`), walked and changed in a guest.
//!
//! The names are hard links to a few files, name n to file n modulo their number, so what a lookup finds can be told from what it
//! should find. A walk by getdents must show each name once, also while others add and remove names: what is there from the
//! beginning of the walk to its end comes exactly once, what comes or goes meanwhile once at most.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{anyhow, ensure, Context as _, Result};
use cairnfs_core::error::Error;
use cairnfs_core::format::inode::ROOT;
use cairnfs_core::inode::NewInode;
use cairnfs_volume::Volume;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rustix::fs::RawDir;
use rustix::io::Errno;

use crate::status::open_directory;

/// The directory, from the root.
pub const FOLDER: &str = "many";
/// Where its files have another name each.
const FILES_FOLDER: &str = "files";
const FILES: usize = 1000;
/// As large as glibc's.
const BUFFER_BYTES: usize = 32 << 10;
/// A name that begins so was not there from the beginning.
const NEW: char = '+';
/// Every so many names are removed.
const REMOVED_EVERY: usize = 50;
/// Of new names so many are links, one is a file of its own.
const NEW_LINKS: usize = 9;

/// A name: its number, and some more bytes, so that leaves are filled unevenly.
fn name_of(number: usize) -> String {
    format!("{number:x}.{}", &"................"[..number * 7 % 17])
}

fn number_of(name: &str) -> Option<usize> {
    usize::from_str_radix(name.split_once('.')?.0, 16).ok()
}

/// Makes the directory in a new filesystem.
///
/// # Errors
/// Those of the operations.
pub fn fill(volume: &Volume<'_>, names: usize) -> Result<(), Error> {
    let create = |parent, name: &str, mode| -> Result<_, Error> {
        let new = NewInode { mode, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 1 };
        Ok(volume.create(parent, name.as_bytes(), &new, None)?.0)
    };
    let files_folder = create(ROOT, FILES_FOLDER, 0o040_755)?;
    let folder = create(ROOT, FOLDER, 0o040_755)?;
    let files: Vec<_> = (0..FILES)
        .map(|number| create(files_folder, &number.to_string(), 0o100_644))
        .collect::<Result<_, _>>()?;
    for number in 0..names {
        volume.link(files[number % FILES], folder, name_of(number).as_bytes())?;
    }
    Ok(())
}

/// The inode of each file.
fn files_of(root: &Path) -> Result<Vec<u64>> {
    let folder = root.join(FILES_FOLDER);
    (0..FILES).map(|number| Ok(fs::metadata(folder.join(number.to_string()))?.ino())).collect()
}

/// What a walk has shown.
#[derive(Default)]
struct Walk {
    /// By number: whether the name came.
    seen: Vec<bool>,
    /// Numbers of names that are new.
    new: BTreeSet<usize>,
}

impl Walk {
    /// Walks the directory; a name that comes twice, one that nobody made, or one with another inode is an error.
    fn take(root: &Path, names: usize, files: &[u64]) -> Result<Self> {
        let mut walk = Self { seen: vec![false; names], new: BTreeSet::new() };
        let folder = open_directory(&root.join(FOLDER))?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut reader = RawDir::new(&folder, buffer.spare_capacity_mut());
        while let Some(entry) = reader.next() {
            let entry = entry?;
            match entry.file_name().to_str()? {
                "." | ".." => {}
                name => walk.add(name, entry.ino(), files).with_context(|| name.to_owned())?,
            }
        }
        Ok(walk)
    }

    fn add(&mut self, name: &str, inode: u64, files: &[u64]) -> Result<()> {
        if let Some(number) = name.strip_prefix(NEW) {
            ensure!(self.new.insert(number.parse()?), "it comes twice");
            return Ok(());
        }
        let number = number_of(name).filter(|number| name_of(*number) == name);
        let number = number.context("nobody has made this name")?;
        let seen = self.seen.get_mut(number).context("nobody has made this name")?;
        ensure!(!std::mem::replace(seen, true), "it comes twice");
        ensure!(files[number % FILES] == inode, "inode {inode}, not {}", files[number % FILES]);
        Ok(())
    }

    /// Every name that `must_be` names came.
    fn has(&self, must_be: impl Fn(usize) -> bool) -> Result<()> {
        let missing: Vec<usize> =
            (0..self.seen.len()).filter(|number| !self.seen[*number] && must_be(*number)).collect();
        ensure!(missing.is_empty(), "{} names did not come, first {}", missing.len(), name_of(missing[0]));
        Ok(())
    }
}

/// One walk: each of `names` names comes, once.
///
/// # Errors
/// Where it does not.
pub fn walk(root: &Path, names: usize) -> Result<()> {
    let walk = Walk::take(root, names, &files_of(root)?)?;
    walk.has(|_| true)?;
    ensure!(walk.new.is_empty(), "{} names are too many", walk.new.len());
    Ok(())
}

/// Looks up `count` names that are there, and as many that are not.
///
/// # Errors
/// Where one is missing, or is too much, or leads to another file.
pub fn look_up(root: &Path, names: usize, count: usize, seed: u64) -> Result<()> {
    let files = files_of(root)?;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let path = |name: String| root.join(FOLDER).join(name);
    for _ in 0..count {
        let number = random.random_range(0..names);
        let name = name_of(number);
        let inode = fs::metadata(path(name.clone())).with_context(|| name.clone())?.ino();
        ensure!(inode == files[number % FILES], "{name} is inode {inode}, not {}", files[number % FILES]);
        for absent in [name_of(number + names), format!("{name}!")] {
            let error = fs::metadata(path(absent.clone())).err().and_then(|error| error.raw_os_error());
            ensure!(error == Some(Errno::NOENT.raw_os_error()), "{absent}: {error:?}, not ENOENT");
        }
    }
    Ok(())
}

fn is_removed(number: usize, count: usize) -> bool {
    number.is_multiple_of(REMOVED_EVERY) && number / REMOVED_EVERY < count
}

fn new_name(root: &Path, number: usize) -> PathBuf {
    root.join(FOLDER).join(format!("{NEW}{number}"))
}

fn add(root: &Path, count: usize) -> Result<()> {
    for number in 0..count {
        let name = new_name(root, number);
        if number.is_multiple_of(NEW_LINKS + 1) {
            fs::File::create_new(name)?;
        } else {
            fs::hard_link(root.join(FILES_FOLDER).join((number % FILES).to_string()), name)?;
        }
    }
    Ok(())
}

fn remove(root: &Path, count: usize) -> Result<()> {
    (0..count).try_for_each(|number| {
        let name = name_of(number * REMOVED_EVERY);
        fs::remove_file(root.join(FOLDER).join(&name)).context(name)
    })
}

/// One walk of a directory to which `count` names were added, and from which as many were removed.
///
/// # Errors
/// Where it shows others.
pub fn walk_changed(root: &Path, names: usize, count: usize) -> Result<()> {
    let walk = Walk::take(root, names, &files_of(root)?)?;
    walk.has(|number| !is_removed(number, count))?;
    let ghosts = (0..names).filter(|number| is_removed(*number, count) && walk.seen[*number]).count();
    ensure!(ghosts == 0, "{ghosts} names come that were removed");
    ensure!(walk.new == (0..count).collect(), "{} new names of {count}", walk.new.len());
    Ok(())
}

/// Walks while one thread adds `count` names and another one removes as many, until both have ended; then once more, when what
/// is there is known.
///
/// # Errors
/// Where a walk shows something else than it must.
pub fn churn(root: &Path, names: usize, count: usize) -> Result<()> {
    ensure!(count * REMOVED_EVERY <= names, "{names} names are too few to remove {count}");
    let files = files_of(root)?;
    let running = AtomicUsize::new(2);
    let during = std::thread::scope(|scope| {
        let started = |work: fn(&Path, usize) -> Result<()>| {
            let running = &running;
            scope.spawn(move || {
                let outcome = work(root, count);
                running.fetch_sub(1, Ordering::AcqRel);
                outcome
            })
        };
        let threads = [started(add), started(remove)];
        let mut walks = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() && (running.load(Ordering::Acquire) > 0 || walks == 0) {
            outcome = Walk::take(root, names, &files)
                .and_then(|walk| walk.has(|number| !is_removed(number, count)));
            walks += 1;
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a thread ended early"))??;
        }
        outcome.map(|()| walks)
    })?;
    walk_changed(root, names, count)?;
    println!("{during} walks meanwhile");
    Ok(())
}
