// SPDX-License-Identifier: GPL-2.0

//! The filesystem as a user thinks of it: a tree in memory, with what was written to each block of each file.
//!
//! Nodes are shared between snapshots, so the state after each operation is kept whole.

use crate::survey::Survey;
use cairnfs_core::units::{TransactionId, BLOCK_BYTES};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The root's number.
pub const ROOT: u64 = 2;

/// A block's content.
pub type Content = Arc<[u8; BLOCK_BYTES]>;

/// A mapped block. What was written there, see [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// Which mapping: a block that is cut off and written again has another.
    pub mapping: u64,
    /// The oldest version that may be seen, because the transaction that made this state depends on it.
    pub floor: usize,
}

/// An inode.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its identity: a number that is used again is another file.
    pub file: u64,
    /// Type and permissions.
    pub mode: u16,
    /// Links.
    pub links: u32,
    /// Bytes.
    pub size_bytes: u64,
    /// A directory's parent.
    pub parent: u64,
    /// A directory's entries.
    pub entries: BTreeMap<Vec<u8>, u64>,
    /// A symbolic link's target.
    pub target: Vec<u8>,
    /// Attributes.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Mapped blocks.
    pub blocks: BTreeMap<u64, Mapped>,
    /// When its contents or its size last changed, beside overwrites in place: the step, and its transaction.
    pub contents_changed: (usize, TransactionId),
}

impl Node {
    /// A new one.
    pub fn new(file: u64, mode: u16, parent: u64) -> Self {
        let is_directory = mode & 0o170_000 == 0o040_000;
        Self {
            file,
            mode,
            links: if is_directory { 2 } else { 1 },
            size_bytes: 0,
            parent: if is_directory { parent } else { 0 },
            entries: BTreeMap::new(),
            target: Vec::new(),
            attributes: BTreeMap::new(),
            blocks: BTreeMap::new(),
            contents_changed: (0, TransactionId(0)),
        }
    }

    /// Whether it is a directory.
    pub const fn is_directory(&self) -> bool {
        self.mode & 0o170_000 == 0o040_000
    }

    /// Whether it is a regular file.
    pub const fn is_regular(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// A state of the tree. Inodes without links are kept until they are removed.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Nodes by number.
    pub nodes: BTreeMap<u64, Arc<Node>>,
}

impl Tree {
    /// An empty filesystem.
    pub fn new() -> Self {
        let mut nodes = BTreeMap::new();
        nodes.insert(ROOT, Arc::new(Node::new(0, 0o040_755, ROOT)));
        Self { nodes }
    }

    /// A node.
    pub fn node(&self, number: u64) -> Option<&Node> {
        self.nodes.get(&number).map(Arc::as_ref)
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, number: u64) -> &mut Node {
        Arc::make_mut(self.nodes.get_mut(&number).expect("a node of the model"))
    }

    /// Numbers of what has a name and is as `wanted`.
    pub fn select(&self, wanted: impl Fn(&Node) -> bool) -> Vec<u64> {
        self.nodes
            .iter()
            .filter(|(_, node)| node.links > 0 && wanted(node))
            .map(|(number, _)| *number)
            .collect()
    }

    /// All names: directory, name, inode.
    pub fn names(&self, wanted: impl Fn(&Node) -> bool) -> Vec<(u64, Vec<u8>, u64)> {
        let mut names = Vec::new();
        for (number, node) in &self.nodes {
            for (name, child) in &node.entries {
                if self.node(*child).is_some_and(&wanted) {
                    names.push((*number, name.clone(), *child));
                }
            }
        }
        names
    }

    /// Whether `number` is `ancestor` or lies below it.
    pub fn is_below(&self, number: u64, ancestor: u64) -> bool {
        let mut at = number;
        loop {
            if at == ancestor {
                return true;
            }
            match self.node(at) {
                Some(node) if at != ROOT => at = node.parent,
                _ => return false,
            }
        }
    }

    /// One name less.
    pub fn drop_name(&mut self, number: u64) {
        let node = self.node_mut(number);
        node.links = if node.is_directory() { 0 } else { node.links - 1 };
    }

    /// Whether the filesystem holds this tree; else what differs first.
    pub fn compare(&self, survey: &Survey) -> Result<(), String> {
        let named = self.nodes.iter().filter(|(_, node)| node.links > 0);
        for (number, node) in named.clone() {
            let Some(found) = survey.inodes.get(number) else {
                return Err(format!("inode {number} is missing"));
            };
            // A directory's size is what core makes it; the digest has it.
            let size_bytes = if node.is_directory() { found.size_bytes } else { node.size_bytes };
            let wanted = (node.mode, node.links, size_bytes, node.parent);
            if (found.mode, found.links, found.size_bytes, found.parent) != wanted {
                let found = (found.mode, found.links, found.size_bytes, found.parent);
                return Err(format!(
                    "inode {number}: mode, links, size, parent are {found:?} and should be {wanted:?}"
                ));
            }
            if found.entries != node.entries {
                return Err(format!("directory {number} has other entries"));
            }
            if found.target != node.target || found.attributes != node.attributes {
                return Err(format!("inode {number}: another target, or other attributes"));
            }
            let mapped: Vec<u64> = found
                .extents
                .iter()
                .flat_map(|extent| extent.file_block.0..extent.file_block.0 + u64::from(extent.blocks))
                .filter(|block| block * (BLOCK_BYTES as u64) < node.size_bytes)
                .collect();
            if !mapped.iter().eq(node.blocks.keys()) {
                return Err(format!(
                    "inode {number}: mapped are {mapped:?} and should be {:?}",
                    node.blocks.keys()
                ));
            }
        }
        if named.count() != survey.inodes.len() {
            return Err("there are inodes that should not be".into());
        }
        Ok(())
    }
}

/// What was written to blocks of files, and when.
#[derive(Default)]
pub struct History {
    versions: BTreeMap<(u64, u64), Vec<(usize, Content)>>,
    next: u64,
}

impl History {
    /// A new identity of a file or mapping.
    pub fn identity(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// `content` was written to a block of mapping `mapping` of a file, when the disk had seen `event` events.
    pub fn wrote(&mut self, mapping: u64, block: u64, event: usize, content: Content) {
        self.versions.entry((mapping, block)).or_default().push((event, content));
    }

    /// What was written, oldest first.
    pub fn of(&self, mapping: u64, block: u64) -> &[(usize, Content)] {
        self.versions.get(&(mapping, block)).map_or(&[], Vec::as_slice)
    }

    /// Which of them was written last.
    pub fn newest(&self, mapping: u64, block: u64) -> usize {
        self.of(mapping, block).len().saturating_sub(1)
    }
}
