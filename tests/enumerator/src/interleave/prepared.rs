// SPDX-License-Identifier: GPL-2.0

//! A script's filesystem before its schedules begin, and what is in it: made once.

use super::medium::Medium;
use super::scripts::{Operation, Script};
use super::StillPlatform;
use crate::disk::{Image, SimulatedDisk};
use crate::model::{Content, History, Mapped, Node, Tree, ROOT};
use crate::run;
use crate::survey::Survey;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::Error;
use cairnfs_core::inode::NewInode;
use cairnfs_core::units::{BlockNo, FileBlock, InodeNo, BLOCK_BYTES};
use cairnfs_volume::Volume;
use std::collections::BTreeMap;
use std::sync::Arc;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Where a schedule begins.
pub(super) struct Prepared {
    /// What is done.
    pub(super) script: &'static Script,
    /// Whether the disk has FUA.
    pub(super) force_unit_access: bool,
    /// The disk before the mount.
    pub(super) image: Image,
    /// Its blocks.
    pub(super) device_blocks: u64,
    /// Of the state in which schedules begin.
    pub(super) digest: u128,
    /// That state.
    pub(super) tree: Tree,
    contents: Vec<(u64, u64, Content)>,
}

/// What a block of a file is given; `salt` tells writes apart.
pub(super) fn content(salt: u64, block: u64) -> [u8; BLOCK_BYTES] {
    let mut content = [0; BLOCK_BYTES];
    for (word, place) in content.chunks_exact_mut(8).enumerate() {
        let value = (salt << 24) ^ (block << 12) ^ (word as u64);
        place.copy_from_slice(&(value.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1).to_le_bytes());
    }
    content
}

/// What a new inode is given.
pub(super) fn new_inode(mode: u16) -> NewInode {
    NewInode { mode, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 }
}

/// The target of every long symbolic link.
pub(super) fn long_target() -> Vec<u8> {
    vec![b'l'; 3000]
}

/// The inode of a name in the root, or in a directory of it.
pub(super) fn find(volume: &Volume<'_>, name: &str) -> Result<InodeNo, String> {
    let entry = volume.lookup(InodeNo(ROOT), name.as_bytes()).map_err(|error| format!("{error:?}"))?;
    entry.map(|entry| entry.inode).ok_or_else(|| format!("{name} is not there"))
}

/// The root, or the inode of a directory in it.
pub(super) fn parent_of(volume: &Volume<'_>, parent: Option<&str>) -> Result<InodeNo, String> {
    parent.map_or(Ok(InodeNo(ROOT)), |name| find(volume, name))
}

/// Does an operation whole.
fn perform(volume: &Volume<'_>, operation: Operation) -> Result<(), String> {
    let root = InodeNo(ROOT);
    let done = match operation {
        Operation::Create(parent, name) => {
            let parent = parent_of(volume, parent)?;
            volume.create(parent, name.as_bytes(), &new_inode(0o100_644), None).map(|_| ())
        }
        Operation::MakeDirectory(name) => {
            volume.create(root, name.as_bytes(), &new_inode(0o040_755), None).map(|_| ())
        }
        Operation::LongSymlink(name) => {
            let target = long_target();
            volume.create(root, name.as_bytes(), &new_inode(0o120_777), Some(&target)).map(|_| ())
        }
        Operation::Unlink(parent, name) => {
            volume.unlink(parent_of(volume, parent)?, name.as_bytes()).map(|_| ())
        }
        Operation::RemoveOrphan => volume.remove_orphans(),
        Operation::Write(name, start, blocks) => {
            let bytes: Vec<u8> = (start..start + blocks).flat_map(|block| content(0, block)).collect();
            volume.write_at(find(volume, name)?, start * BLOCK, &bytes)
        }
        Operation::Overwrite(name, block) => {
            volume.write_at(find(volume, name)?, block * BLOCK, &content(0, block))
        }
        Operation::Truncate(name, blocks) => volume.truncate(find(volume, name)?, blocks * BLOCK).map(|_| ()),
        Operation::Fsync(name) => volume.fsync(find(volume, name)?),
    };
    done.map_err(|error| format!("{operation:?}: {error:?}"))
}

/// Takes all blocks that there are to be had, but for `left`.
fn fill(volume: &Volume<'_>, left: u64) -> Result<(), String> {
    let told = |error: Error| format!("filling: {error:?}");
    let root = InodeNo(ROOT);
    let (gap, _) = volume.create(root, b"gap", &new_inode(0o100_600), None).map_err(told)?;
    volume.write_at(gap, 0, &vec![1; (left * BLOCK) as usize]).map_err(told)?;
    let (file, _) = volume.create(root, b"filler", &new_inode(0o100_600), None).map_err(told)?;
    let mut at = 0;
    loop {
        let free = volume.journal().totals().free_blocks;
        let bytes: Vec<u8> = (at..at + free).flat_map(|block| content(1, block)).collect();
        if bytes.is_empty() {
            break;
        }
        match volume.start_write(file, FileBlock(at), &bytes) {
            Ok(write) => {
                volume.finish_write(&write).map_err(told)?;
                at += u64::from(write.extent.blocks);
            }
            Err(Error::NoSpace) => break,
            Err(error) => return Err(told(error)),
        }
    }
    volume.unlink(root, b"gap").map_err(told)?;
    volume.remove_orphans().map_err(told)
}

impl Prepared {
    /// Makes the filesystem of a script.
    pub(super) fn new(script: &'static Script, force_unit_access: bool) -> Result<Self, String> {
        let told = |error: Error| format!("{error:?}");
        let image = run::make_image(&script.workload(force_unit_access));
        let disk = SimulatedDisk::new(image, false, force_unit_access);
        let volume = Volume::mount(&disk, &StillPlatform).map_err(told)?;
        for operation in script.base {
            perform(&volume, *operation)?;
        }
        if let Some(left) = script.left_blocks {
            fill(&volume, left)?;
        }
        volume.unmount().map_err(told)?;
        if script.blocks_before_end > 0 {
            run::move_head(&disk, script.blocks_before_end * 512);
        }
        let mut prepared = Self {
            script,
            force_unit_access,
            image: disk.image(),
            device_blocks: disk.blocks(),
            digest: 0,
            tree: Tree::default(),
            contents: Vec::new(),
        };
        let medium = Medium::new(&prepared.image, prepared.device_blocks);
        let volume = prepared.mount(&medium)?;
        let survey = Survey::take(&volume)?;
        (prepared.digest, prepared.tree, prepared.contents) = (survey.digest, Tree::default(), Vec::new());
        prepared.adopt(&survey, &medium)?;
        prepared.tree.compare(&survey)?;
        Ok(prepared)
    }

    /// Mounts the filesystem, and does what precedes the schedules: then the log holds it, and nothing of it is home.
    pub(super) fn mount<'m>(&self, medium: &'m Medium) -> Result<Volume<'m>, String> {
        let volume = Volume::mount(medium, &StillPlatform).map_err(|error| format!("mount: {error:?}"))?;
        for operation in self.script.before {
            perform(&volume, *operation)?;
        }
        volume.commit().map_err(|error| format!("commit: {error:?}"))?;
        volume.drop_cache();
        medium.begin();
        Ok(volume)
    }

    /// Makes the model of what is there.
    fn adopt(&mut self, survey: &Survey, medium: &Medium) -> Result<(), String> {
        for (number, found) in &survey.inodes {
            let mut node = Node::new(*number, found.mode, found.parent);
            node.links = found.links;
            node.size_bytes = if node.is_directory() { 0 } else { found.size_bytes };
            node.entries = found.entries.clone();
            node.target = found.target.clone();
            let mut blocks = BTreeMap::new();
            for extent in &found.extents {
                for index in 0..u64::from(extent.blocks) {
                    let mut bytes = [0; BLOCK_BYTES];
                    let home = BlockNo(extent.block.0 + index);
                    medium.read(home, &mut bytes).map_err(|error| format!("{error:?}"))?;
                    let block = extent.file_block.0 + index;
                    blocks.insert(block, Mapped { mapping: *number, floor: 0 });
                    self.contents.push((*number, block, Arc::new(bytes)));
                }
            }
            node.blocks = blocks;
            self.tree.nodes.insert(*number, Arc::new(node));
        }
        for (_, number) in &survey.orphans {
            let mut node = Node::new(*number, 0, 0);
            node.links = 0;
            self.tree.nodes.insert(*number, Arc::new(node));
        }
        Ok(())
    }

    /// What files hold in the beginning.
    pub(super) fn history(&self) -> History {
        let mut history = History::default();
        // Numbers of inodes serve as mappings here; later ones must be others.
        for _ in 0..=self.tree.nodes.keys().max().copied().unwrap_or(0) {
            history.identity();
        }
        for (mapping, block, content) in &self.contents {
            history.wrote(*mapping, *block, 0, Arc::clone(content));
        }
        history
    }
}
