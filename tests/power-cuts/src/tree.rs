//! The tree that a thread's operations make: names, attributes, and the history of each file's content.

use std::collections::BTreeMap;

use crate::content::{Event, History};
use crate::operation::{Operation, WriteWay};

/// A file, directory or symbolic link, counted in the order of creation; a number is never used again.
pub(crate) type NodeNumber = usize;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, to this.
    Symlink(String),
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    /// The modification time, if it was set and nothing has changed it since.
    pub(crate) modified_s: Option<i64>,
    pub(crate) links: u32,
    /// The size of a file, in units.
    pub(crate) units: u32,
    /// The last operation that changed it, plus one: what its fsync promises.
    pub(crate) changed_by: usize,
    /// The last one that did more than set a time or an attribute, or change names: what its fdatasync promises.
    pub(crate) data_changed_by: usize,
}

/// The directory of a path.
pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    names: BTreeMap<String, NodeNumber>,
    nodes: BTreeMap<NodeNumber, Node>,
    /// By number; those of files that are gone, too.
    histories: Vec<History>,
}

/// The mode of the folder of a thread.
pub(crate) const ROOT_MODE: u32 = 0o755;

impl Tree {
    /// The empty folder of a thread.
    pub(crate) fn new() -> Self {
        let mut tree = Self { names: BTreeMap::new(), nodes: BTreeMap::new(), histories: Vec::new() };
        tree.insert(0, "", Kind::Directory, ROOT_MODE);
        tree.nodes.values_mut().for_each(|root| (root.changed_by, root.data_changed_by) = (0, 0));
        tree
    }

    /// All paths, in order.
    pub(crate) fn names(&self) -> &BTreeMap<String, NodeNumber> {
        &self.names
    }

    /// The node at a path.
    pub(crate) fn at(&self, path: &str) -> Option<&Node> {
        self.nodes.get(self.names.get(path)?)
    }

    /// The number of the node at a path.
    pub(crate) fn number_at(&self, path: &str) -> Option<NodeNumber> {
        self.names.get(path).copied()
    }

    /// What happened to a file's content, up to now; it may have lost its last name meanwhile.
    pub(crate) fn history(&self, number: NodeNumber) -> Option<&History> {
        self.histories.get(number)
    }

    /// Whether a directory has entries.
    pub(crate) fn has_entries(&self, path: &str) -> bool {
        self.names.keys().any(|other| !other.is_empty() && parent_of(other) == path)
    }

    /// Does what an operation does. The plan only makes operations that are possible.
    pub(crate) fn apply(&mut self, number: usize, operation: &Operation) {
        match operation {
            Operation::Create { path, mode } => self.insert(number, path, Kind::File, *mode),
            Operation::MakeDirectory { path, mode } => self.insert(number, path, Kind::Directory, *mode),
            Operation::MakeSymlink { path, target } => {
                self.insert(number, path, Kind::Symlink(target.clone()), 0o777);
            }
            Operation::Link { old, new } => self.link(number, old, new),
            Operation::Unlink { path, .. } | Operation::RemoveDirectory { path } => self.remove(number, path),
            Operation::Rename { old, new } => self.rename(number, old, new),
            Operation::SetMode { path, mode } => self.change(number, path, |node| node.mode = *mode),
            Operation::SetOwner { path, owner } => self.change(number, path, |node| node.owner = *owner),
            Operation::SetTime { path, seconds } => {
                self.change(number, path, |node| node.modified_s = Some(*seconds));
            }
            Operation::Write { path, units, way } => {
                let synchronous = matches!(way, WriteWay::DataSynchronous | WriteWay::Synchronous);
                if let Some(node) = self.node_mut(path) {
                    node.units = node.units.max(units.end);
                    node.modified_s = None;
                }
                self.note(number, path, Event::Write { units: units.clone(), synchronous });
            }
            Operation::Truncate { path, units } => {
                self.change(number, path, |node| {
                    (node.units, node.modified_s, node.data_changed_by) = (*units, None, number + 1);
                });
                self.note(number, path, Event::Truncate { units: *units });
            }
            Operation::Fsync { path } | Operation::Fdatasync { path } => self.note(number, path, Event::Sync),
            Operation::StartWriteback { .. } | Operation::SyncFilesystem | Operation::CloseUnlinked => {}
        }
    }

    fn node_mut(&mut self, path: &str) -> Option<&mut Node> {
        self.nodes.get_mut(self.names.get(path)?)
    }

    fn note(&mut self, number: usize, path: &str, event: Event) {
        if let Some(history) = self.number_at(path).and_then(|node| self.histories.get_mut(node)) {
            history.push(number, event);
        }
    }

    fn change(&mut self, number: usize, path: &str, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.node_mut(path) {
            node.changed_by = number + 1;
            change(node);
        }
    }

    /// The entries of a directory change, and the number of its subdirectories perhaps.
    fn change_parent(&mut self, number: usize, path: &str, more_links: u32, fewer_links: u32) {
        let parent = parent_of(path).to_owned();
        self.change(number, &parent, |node| {
            node.links = node.links + more_links - fewer_links;
            (node.modified_s, node.data_changed_by) = (None, number + 1);
        });
    }

    fn insert(&mut self, number: usize, path: &str, kind: Kind, mode: u32) {
        let links = if kind == Kind::Directory { 2 } else { 1 };
        if !path.is_empty() {
            self.change_parent(number, path, links - 1, 0);
        }
        let node = self.histories.len();
        self.histories.push(History::default());
        self.names.insert(path.to_owned(), node);
        let made = Node {
            kind,
            mode,
            owner: 0,
            modified_s: None,
            links,
            units: 0,
            changed_by: number + 1,
            data_changed_by: number + 1,
        };
        self.nodes.insert(node, made);
    }

    fn link(&mut self, number: usize, old: &str, new: &str) {
        let Some(node) = self.number_at(old) else { return };
        self.change_parent(number, new, 0, 0);
        self.change(number, old, |node| node.links += 1);
        self.names.insert(new.to_owned(), node);
    }

    fn remove(&mut self, number: usize, path: &str) {
        let Some(node) = self.names.get(path).copied() else { return };
        let is_directory = self.at(path).is_some_and(|node| node.kind == Kind::Directory);
        self.change_parent(number, path, 0, u32::from(is_directory));
        self.change(number, path, |node| node.links -= 1);
        self.names.remove(path);
        let left = self.nodes.get(&node).map_or(0, |node| node.links);
        if left == 0 || is_directory {
            self.nodes.remove(&node);
        }
    }

    fn rename(&mut self, number: usize, old: &str, new: &str) {
        let Some(kind) = self.at(old).map(|node| node.kind.clone()) else { return };
        let replaces = self.names.contains_key(new);
        if replaces {
            let replaced_file = self.at(new).is_some_and(|node| node.kind == Kind::File);
            self.remove(number, new);
            if kind == Kind::File && replaced_file {
                self.note(number, old, Event::RenamedOver);
            }
        }
        let subdirectories = u32::from(kind == Kind::Directory);
        self.change_parent(number, old, 0, subdirectories);
        self.change_parent(number, new, subdirectories, 0);
        self.change(number, old, |_| {});
        let below = format!("{old}/");
        let moved: Vec<String> =
            self.names.keys().filter(|path| *path == old || path.starts_with(&below)).cloned().collect();
        for path in moved {
            if let Some(node) = self.names.remove(&path) {
                self.names.insert(format!("{new}{}", &path[old.len()..]), node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str) -> Operation {
        Operation::Create { path: path.to_owned(), mode: 0o600 }
    }

    fn rename(old: &str, new: &str) -> Operation {
        Operation::Rename { old: old.to_owned(), new: new.to_owned() }
    }

    #[test]
    fn links_of_files_and_directories_are_counted() {
        let mut tree = Tree::new();
        let directory = |path: &str| Operation::MakeDirectory { path: path.to_owned(), mode: 0o700 };
        let operations = [
            directory("a"),
            directory("a/b"),
            create("a/b/f"),
            Operation::Link { old: "a/b/f".to_owned(), new: "g".to_owned() },
            rename("a/b", "c"),
            create("h"),
            rename("h", "g"),
        ];
        for (number, operation) in operations.iter().enumerate() {
            tree.apply(number, operation);
        }
        assert_eq!(tree.names().keys().collect::<Vec<_>>(), ["", "a", "c", "c/f", "g"]);
        assert_eq!([tree.at("").unwrap().links, tree.at("a").unwrap().links], [4, 2]);
        assert_eq!([tree.at("c/f").unwrap().links, tree.at("g").unwrap().links], [1, 1]);
        assert_eq!(tree.at("c/f").unwrap().changed_by, 7);
        assert!(!tree.has_entries("a") && tree.has_entries("c"));
    }
}
