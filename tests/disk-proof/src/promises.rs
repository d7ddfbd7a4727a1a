//! What a filesystem has promised, as marks on the disk, and what is left of it.
//!
//! A mark is set after the call that promises has returned, or before the call that ends an older
//! promise begins; so whatever the moment of a cut, the marks before it say what must be there:
//!
//! * `file PATH LENGTH CRC`: fsync or fdatasync of the file has returned;
//! * `change PATH`: the content is about to change, only the name is still promised;
//! * `rename OLD NEW`: either name may be there from now on, with the content;
//! * `renamed OLD NEW`: fsync of the directory has returned.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{bail, Context, Result};

/// A file's content, as far as a mark can hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    length_bytes: usize,
    crc: u32,
}

impl Fingerprint {
    /// That of some bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { length_bytes: bytes.len(), crc: crc32c::crc32c(bytes) }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:08x}", self.length_bytes, self.crc)
    }
}

/// What must be true of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Promise {
    /// It holds exactly this, or (if nothing) it is there.
    Holds(Option<Fingerprint>),
    /// This is under this name or under the other.
    HoldsHereOr { other: String, content: Option<Fingerprint> },
    /// It is not there.
    Gone,
}

/// All promises, by path.
#[derive(Debug, Default)]
pub(crate) struct Promises(BTreeMap<String, Promise>);

impl Promises {
    /// Reads marks in their order.
    pub(crate) fn from_marks<'a>(marks: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut promises = Self::default();
        for mark in marks {
            promises.take(mark).with_context(|| format!("the mark `{mark}`"))?;
        }
        Ok(promises)
    }

    fn take(&mut self, mark: &str) -> Result<()> {
        let words: Vec<&str> = mark.split(' ').collect();
        match words[..] {
            ["file", path, length, crc] => {
                let content =
                    Fingerprint { length_bytes: length.parse()?, crc: u32::from_str_radix(crc, 16)? };
                self.0.insert(path.to_owned(), Promise::Holds(Some(content)));
            }
            ["change", path] => {
                self.0.insert(path.to_owned(), Promise::Holds(None));
            }
            ["rename", old, new] => {
                let Some(Promise::Holds(content)) = self.0.remove(old) else {
                    bail!("renames what nobody promised");
                };
                let promise = Promise::HoldsHereOr { other: old.to_owned(), content };
                self.0.insert(new.to_owned(), promise);
            }
            ["renamed", old, new] => {
                let Some(Promise::HoldsHereOr { content, .. }) = self.0.remove(new) else {
                    bail!("ends a rename that did not begin");
                };
                self.0.insert(new.to_owned(), Promise::Holds(content));
                self.0.insert(old.to_owned(), Promise::Gone);
            }
            _ => bail!("is not understood"),
        }
        Ok(())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The promises that do not hold below `root`, each in words.
    pub(crate) fn broken(&self, root: &Path) -> Vec<String> {
        self.0.iter().filter_map(|(path, promise)| promise.fault(root, path)).collect()
    }
}

impl Promise {
    /// What is wrong, if anything.
    fn fault(&self, root: &Path, path: &str) -> Option<String> {
        match self {
            Self::Holds(content) => fault_of(root, path, *content),
            Self::HoldsHereOr { other, content } => {
                let here = fault_of(root, path, *content)?;
                let there = fault_of(root, other, *content)?;
                Some(format!("{here}, and {there}"))
            }
            Self::Gone => match fs::symlink_metadata(root.join(path)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(format!("{path}: {error}")),
                Ok(_) => Some(format!("{path} is there again")),
            },
        }
    }
}

fn fault_of(root: &Path, path: &str, content: Option<Fingerprint>) -> Option<String> {
    match (fs::read(root.join(path)), content) {
        (Err(error), _) => Some(format!("{path}: {error}")),
        (Ok(_), None) => None,
        (Ok(bytes), Some(content)) => {
            let found = Fingerprint::of(&bytes);
            (found != content).then(|| format!("{path} holds {found}, promised was {content}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_the_cut_decides_what_is_promised() {
        let folder = std::env::temp_dir().join(format!("cairnfs-promises-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let content = Fingerprint::of(b"content");
        let marks = [
            format!("file a {content}"),
            "rename a b".to_owned(),
            "renamed a b".to_owned(),
            "change b".to_owned(),
        ];
        let broken = |count: usize| {
            let promises = Promises::from_marks(marks[..count].iter().map(String::as_str)).unwrap();
            promises.broken(&folder).len()
        };
        assert_eq!([broken(0), broken(1), broken(2), broken(3), broken(4)], [0, 1, 1, 1, 1]);
        fs::write(folder.join("a"), b"content").unwrap();
        assert_eq!([broken(1), broken(2), broken(3)], [0, 0, 2]);
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        assert_eq!([broken(1), broken(2), broken(3), broken(4)], [1, 0, 0, 0]);
        fs::write(folder.join("b"), b"CONTENT").unwrap();
        assert_eq!([broken(2), broken(3), broken(4)], [1, 1, 0]);
        fs::remove_dir_all(&folder).unwrap();
        assert!(Promises::from_marks(["renamed x y"].into_iter()).is_err());
    }
}
