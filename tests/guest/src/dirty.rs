//! A filesystem whose journal is not clean: how it comes to be, and what must be seen of it.
//!
//! [`fill`] runs on the host (`make-test-image`), by the tools' own binding of core. It works in three parts. What the first one
//! did is home; what the second one did is in the journal only, acknowledged, in many records; the third part was never
//! committed. Then the volume is dropped, as by a power cut behind the last commit. In a guest (`guest-mount`) [`compare`] looks
//! at the mount: with a recovery it shows parts one and two, whole; without one, part one.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{bail, ensure, Context as _, Result};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::inode::ROOT;
use cairnfs_core::inode::NewInode;
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::units::{InodeNo, BLOCK_BYTES};
use cairnfs_volume::Volume;

const FILES: usize = 160;
const NEW_FILES: usize = 90;
/// Removed while nobody has removed what they hold.
const DOOMED: usize = 5;
const DOOMED_BYTES: usize = 1 << 20;
/// Pieces of the file whose truncation is not finished: more than one step takes.
const PIECES: u64 = 60;
const CUT_BYTES: u64 = 5_000;
const COMMIT_EVERY: usize = 25;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What [`fill`] has left in the index of orphans.
pub const ORPHANS: u32 = DOOMED as u32 + 1;

/// Which part of the work must be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What was home: the journal is left alone.
    Home,
    /// All that was acknowledged.
    Recovered,
    /// The same, but for the last record, which was torn.
    WithoutLast,
}

impl View {
    /// By the word for it.
    ///
    /// # Errors
    /// For other words.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "home" => Self::Home,
            "recovered" => Self::Recovered,
            "without-last" => Self::WithoutLast,
            _ => bail!("no view {word}: home, recovered or without-last"),
        })
    }
}

/// Where records stand in the ring, from its start.
#[derive(Clone, Copy, Debug)]
pub struct Positions {
    /// The first one that is needed.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

fn content(number: usize) -> Vec<u8> {
    (0..number * 53 % 9_000).map(|place| (place + number) as u8).collect()
}

fn target() -> Vec<u8> {
    vec![b't'; 3_000]
}

struct Work<'v, 'd> {
    volume: &'v Volume<'d>,
    done: usize,
}

impl Work<'_, '_> {
    fn create(
        &self,
        parent: InodeNo,
        name: &str,
        mode: u16,
        target: Option<&[u8]>,
    ) -> Result<InodeNo, Error> {
        let new = NewInode { mode, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 1 };
        Ok(self.volume.create(parent, name.as_bytes(), &new, target)?.0)
    }

    fn file(&self, parent: InodeNo, name: &str, content: &[u8]) -> Result<InodeNo, Error> {
        let inode = self.create(parent, name, 0o100_644, None)?;
        self.volume.write_at(inode, 0, content)?;
        Ok(inode)
    }

    fn directory(&self, parent: InodeNo, name: &str) -> Result<InodeNo, Error> {
        self.create(parent, name, 0o040_755, None)
    }

    /// An operation has ended; many of them are a transaction.
    fn step(&mut self) -> Result<(), Error> {
        self.done += 1;
        if self.done.is_multiple_of(COMMIT_EVERY) {
            self.volume.commit()?;
        }
        Ok(())
    }

    fn rename(&self, from: (InodeNo, &str), to: (InodeNo, &str)) -> Result<(), Error> {
        let from = Place { parent: from.0, name: from.1.as_bytes() };
        let to = Place { parent: to.0, name: to.1.as_bytes() };
        self.volume.rename(from, to, Mode::Replace, None)?;
        Ok(())
    }
}

/// Fills a new filesystem, and leaves it as if the power had been cut.
///
/// # Errors
/// Those of the operations.
pub fn fill(volume: &Volume<'_>) -> Result<Positions, Error> {
    let mut work = Work { volume, done: 0 };
    let home = work.directory(ROOT, "home")?;
    work.directory(home, "empty")?;
    let mut files = Vec::new();
    for number in 0..FILES {
        files.push(work.file(home, &number.to_string(), &content(number))?);
    }
    for number in 0..DOOMED {
        work.file(home, &format!("doomed {number}"), &vec![number as u8; DOOMED_BYTES])?;
    }
    let cut = work.create(home, "cut", 0o100_644, None)?;
    for piece in 0..PIECES {
        volume.write_at(cut, piece * 2 * BLOCK, &[7; BLOCK_BYTES])?;
    }
    volume.checkpoint()?;
    let first = volume.journal().ring().head().tail.position.0;

    let log = work.directory(ROOT, "log")?;
    // Before anything is freed: what is home shall still lead to its old contents.
    for number in 0..NEW_FILES {
        work.file(log, &format!("new {number}"), &content(number + 1_000))?;
        work.step()?;
    }
    for (number, inode) in files.iter().enumerate() {
        let name = number.to_string();
        match number % 4 {
            0 => drop(volume.unlink(home, name.as_bytes())?),
            1 => work.rename((home, &name), (log, &name))?,
            2 => drop(volume.link(*inode, log, name.as_bytes())?),
            _ => continue,
        }
        work.step()?;
    }
    volume.remove_orphans()?;
    work.create(log, "link", 0o120_777, Some(&target()))?;
    volume.set_extended(files[3], (Namespace::User, b"logged"), Some(b"value"), SetMode::Create)?;
    volume.remove_directory(home, b"empty")?;
    volume.remove_orphans()?;
    for number in 0..DOOMED {
        volume.unlink(home, format!("doomed {number}").as_bytes())?;
    }
    // One step of several.
    volume.start_truncate(cut, CUT_BYTES)?;
    volume.commit()?;

    let last = volume.journal().ring().head().tail.position.0;
    work.file(log, "last", b"")?;
    volume.commit()?;

    work.file(log, "lost", b"")?;
    work.rename((log, "new 0"), (log, "lost as well"))?;
    Ok(Positions { first, last })
}

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File { content: Vec<u8>, links: u64 },
    Link(Vec<u8>),
}

fn wanted(view: View) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    let mut add = |name: String, node: Node| drop(nodes.insert(name, node));
    let file = |content: Vec<u8>, links: u64| Node::File { content, links };
    let is_home = view == View::Home;
    add("home".into(), Node::Directory);
    for number in 0..FILES {
        let links = if is_home || number % 4 != 2 { 1 } else { 2 };
        let node = file(content(number), links);
        if is_home || number % 4 >= 2 {
            add(format!("home/{number}"), node.clone());
        }
        if !is_home && matches!(number % 4, 1 | 2) {
            add(format!("log/{number}"), node);
        }
    }
    let mut pieces = vec![0; (PIECES as usize * 2 - 1) * BLOCK_BYTES];
    pieces.chunks_mut(BLOCK_BYTES).step_by(2).for_each(|piece| piece.fill(7));
    if is_home {
        add("home/empty".into(), Node::Directory);
        for number in 0..DOOMED {
            add(format!("home/doomed {number}"), file(vec![number as u8; DOOMED_BYTES], 1));
        }
    } else {
        pieces.truncate(CUT_BYTES as usize);
        add("log".into(), Node::Directory);
        for number in 0..NEW_FILES {
            add(format!("log/new {number}"), file(content(number + 1_000), 1));
        }
        add("log/link".into(), Node::Link(target()));
    }
    add("home/cut".into(), file(pieces, 1));
    if view == View::Recovered {
        add("log/last".into(), file(Vec::new(), 1));
    }
    nodes
}

fn found(root: &Path) -> Result<BTreeMap<String, Node>> {
    let mut nodes = BTreeMap::new();
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let name = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let failed = || name.clone();
            let status = entry.metadata().with_context(failed)?;
            let node = if status.is_dir() {
                pending.push(name.clone());
                Node::Directory
            } else if status.is_symlink() {
                Node::Link(fs::read_link(entry.path()).with_context(failed)?.as_os_str().as_bytes().to_vec())
            } else {
                Node::File { content: fs::read(entry.path()).with_context(failed)?, links: status.nlink() }
            };
            ensure!(nodes.insert(name.clone(), node).is_none(), "{name} comes twice");
        }
    }
    Ok(nodes)
}

/// What is mounted at `root` must be what `view` says, no less and no more.
///
/// # Errors
/// The first differences, and how many there are; and those of the calls that look.
pub fn compare(root: &Path, view: View) -> Result<()> {
    let (wanted, found) = (wanted(view), found(root)?);
    let mut differences = Vec::new();
    for (name, node) in &wanted {
        match found.get(name) {
            None => differences.push(format!("{name} is missing")),
            Some(other) if other != node => differences.push(format!("{name} is another: {}", short(other))),
            Some(_) => {}
        }
    }
    differences.extend(
        found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} is too much")),
    );
    let shown = differences.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n");
    ensure!(differences.is_empty(), "{} differences:\n{shown}", differences.len());
    let mut value = [0; 16];
    let attribute = rustix::fs::getxattr(root.join("home/3"), "user.logged", &mut value[..]);
    let attribute = attribute.map(|length| value[..length].to_vec()).ok();
    let is_there = attribute.as_deref() == Some(b"value");
    ensure!(is_there == (view != View::Home), "the attribute of home/3 is {attribute:?}");
    Ok(())
}

fn short(node: &Node) -> String {
    match node {
        Node::Directory => "a directory".into(),
        Node::File { content, links } => format!("a file of {} bytes with {links} links", content.len()),
        Node::Link(target) => format!("a link of {} bytes", target.len()),
    }
}
