// SPDX-License-Identifier: GPL-2.0

//! What a mounted filesystem holds, and whether it hangs together.
//!
//! [`Survey::take`] walks everything from the root and the orphan index: names, inodes, attributes, targets, extents and the
//! blocks of trees. On the way each block and each inode is claimed once. Then the claims must be exactly the bitmaps, the
//! link counts exactly the names, and the totals exactly what is free. The digest covers the inodes' bytes, block numbers
//! and times included: two surveys with one digest are of one state.

use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::extent::Extent;
use cairnfs_core::format::group::BitmapKind;
use cairnfs_core::format::inode::{file_type, MapKind, FIRST_FREE, INODE_BYTES, ORPHAN_INDEX, ROOT};
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::Inode;
use cairnfs_core::journal::object::BitmapKey;
use cairnfs_core::space::choose::Groups as _;
use cairnfs_core::units::{BlockNo, GroupNo, InodeNo, BLOCK_BYTES};
use cairnfs_core::{attributes, bitmap, directory, extent_map, symlink};
use cairnfs_volume::Volume;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::Xxh3;

/// What is wrong, in words.
pub type Finding = String;

/// An inode as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
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
    /// Attributes in the user's namespace.
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What is mapped.
    pub extents: Vec<Extent>,
}

/// Everything.
pub struct Survey {
    /// The same for equal states.
    pub digest: u128,
    /// What has a name, by number.
    pub inodes: BTreeMap<u64, Found>,
    /// What has none: kind and number.
    pub orphans: BTreeSet<(u8, u64)>,
}

struct Walk<'v, 'd> {
    volume: &'v Volume<'d>,
    hasher: Xxh3,
    claimed: Vec<u64>,
    claimed_inodes: BTreeSet<u64>,
    inodes: BTreeMap<u64, Found>,
    names: BTreeMap<u64, u32>,
}

fn told<T>(what: &str, result: cairnfs_core::error::Result<T>) -> Result<T, Finding> {
    result.map_err(|error| format!("{what}: {error:?}"))
}

impl Survey {
    /// Walks the filesystem and checks it.
    pub fn take(volume: &Volume<'_>) -> Result<Self, Finding> {
        let words = (volume.layout().device_blocks as usize).div_ceil(64);
        let mut walk = Walk {
            volume,
            hasher: Xxh3::new(),
            claimed: vec![0; words],
            claimed_inodes: BTreeSet::new(),
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        walk.tree()?;
        let orphans = walk.orphans()?;
        walk.links()?;
        walk.bitmaps()?;
        Ok(Self { digest: walk.hasher.digest128(), inodes: walk.inodes, orphans })
    }
}

impl Walk<'_, '_> {
    fn claim(&mut self, block: BlockNo, blocks: u64, whose: InodeNo) -> Result<(), Finding> {
        if !self.volume.layout().is_data_run(block, blocks) {
            return Err(format!("inode {whose}: blocks {block} + {blocks} are no data blocks"));
        }
        for block in block.0..block.0 + blocks {
            let (word, mask) = (&mut self.claimed[block as usize / 64], 1 << (block % 64));
            if *word & mask != 0 {
                return Err(format!("inode {whose}: block {block} is claimed twice"));
            }
            *word |= mask;
        }
        Ok(())
    }

    fn tree(&mut self) -> Result<(), Finding> {
        let mut queue = vec![(ROOT, ROOT)];
        while let Some((number, parent)) = queue.pop() {
            let found = self.inode(number)?;
            if found.mode & 0o170_000 == 0o040_000 {
                if found.parent != parent.0 {
                    return Err(format!(
                        "directory {number}: parent is {} and should be {parent}",
                        found.parent
                    ));
                }
                for child in found.entries.values() {
                    *self.names.entry(*child).or_default() += 1;
                    let is_new =
                        !self.inodes.contains_key(child) && !queue.iter().any(|(known, _)| known.0 == *child);
                    if is_new {
                        queue.push((InodeNo(*child), number));
                    }
                }
            }
            self.inodes.insert(number.0, found);
        }
        Ok(())
    }

    /// Reads one inode whole, claims what it has, and hashes it.
    fn inode(&mut self, number: InodeNo) -> Result<Found, Finding> {
        let what = |part: &str| format!("inode {number}: {part}");
        let mut inode = told(&what("read"), self.volume.read_inode(number))?;
        inode.core.crc = 0;
        if inode.core.is_free() {
            return Err(what("is free, but has a name"));
        }
        if !self.claimed_inodes.insert(number.0) {
            return Err(what("is reached twice"));
        }
        told(&what("parts"), cairnfs_core::verify::parts(self.volume.layout(), &inode, BlockNo(0)))?;
        let mut image = [0; INODE_BYTES];
        told(&what("image"), inode.encode_unsealed(&mut image))?;
        self.hasher.update(&image);
        let mut found = Found {
            mode: inode.core.mode,
            links: inode.core.links,
            size_bytes: inode.core.size_bytes,
            parent: inode.core.parent.0,
            entries: BTreeMap::new(),
            target: Vec::new(),
            attributes: BTreeMap::new(),
            extents: Vec::new(),
        };
        match inode.map_kind() {
            MapKind::InlineDirectory | MapKind::DirectoryTree => self.directory(&inode, &mut found)?,
            MapKind::Extents => self.extents(&inode, &mut found)?,
            MapKind::Symlink | MapKind::SymlinkBlock => {
                if let Some(block) = told(&what("target"), symlink::target_block(&inode))? {
                    self.claim(block, 1, number)?;
                }
                found.target = told(&what("target"), self.volume.read_link(number))?;
                self.hasher.update(&found.target);
            }
            MapKind::InlineData => return Err(what("has inline data")),
            MapKind::None => {}
        }
        self.attributes(&inode, &mut found)?;
        Ok(found)
    }

    fn directory(&mut self, inode: &Inode, found: &mut Found) -> Result<(), Finding> {
        let number = inode.number();
        let mut blocks = Vec::new();
        let visited = directory::visit_blocks(self.volume, inode, &mut |_, block, _| {
            blocks.push(block);
            Ok(())
        });
        told(&format!("directory {number}"), visited)?;
        for block in blocks {
            self.claim(block, 1, number)?;
        }
        for (name, child, kind) in told(&format!("directory {number}"), self.volume.entries(number))? {
            let entry = told("lookup", directory::lookup(self.volume, self.volume.hash_key(), inode, &name))?;
            let child_inode = told(&format!("entry of directory {number}"), self.volume.read_inode(child))?;
            if entry.is_none_or(|entry| entry.inode != child)
                || file_type(child_inode.core.mode) != Some(kind)
            {
                return Err(format!(
                    "directory {number}: an entry for {child} is not found by its name, or of another type"
                ));
            }
            self.hasher.update(&name);
            self.hasher.update(&child.0.to_le_bytes());
            if found.entries.insert(name, child.0).is_some() {
                return Err(format!("directory {number}: a name is there twice"));
            }
        }
        Ok(())
    }

    fn extents(&mut self, inode: &Inode, found: &mut Found) -> Result<(), Finding> {
        let number = inode.number();
        let what = format!("extents of inode {number}");
        told(&what, extent_map::check(self.volume, inode))?;
        let mut blocks = Vec::new();
        told(
            &what,
            extent_map::visit_blocks(self.volume, inode, &mut |block, _| {
                blocks.push(block);
                Ok(())
            }),
        )?;
        for block in blocks {
            self.claim(block, 1, number)?;
        }
        let mut extents = Vec::new();
        told(
            &what,
            extent_map::visit(self.volume, inode, &mut |extent| {
                extents.push(*extent);
                Ok(())
            }),
        )?;
        for extent in &extents {
            self.claim(extent.block, u64::from(extent.blocks), number)?;
            for part in [extent.file_block.0, extent.block.0, u64::from(extent.blocks)] {
                self.hasher.update(&part.to_le_bytes());
            }
        }
        found.extents = extents;
        Ok(())
    }

    fn attributes(&mut self, inode: &Inode, found: &mut Found) -> Result<(), Finding> {
        let number = inode.number();
        if inode.core.attribute_block.0 != 0 {
            self.claim(inode.core.attribute_block, 1, number)?;
        }
        let mut names = Vec::new();
        let listed = attributes::list(self.volume, inode, &mut |_, name, _| {
            names.push(name.to_vec());
            Ok(())
        });
        told(&format!("attributes of inode {number}"), listed)?;
        for name in names {
            let value = told("attribute", self.volume.extended(number, Namespace::User, &name))?;
            self.hasher.update(&name);
            self.hasher.update(&value);
            if found.attributes.insert(name, value).is_some() {
                return Err(format!("inode {number}: an attribute is there twice"));
            }
        }
        Ok(())
    }

    fn orphans(&mut self) -> Result<BTreeSet<(u8, u64)>, Finding> {
        let mut orphans = BTreeSet::new();
        told(
            "orphans",
            self.volume.with_orphans(&mut |tree| {
                let mut after = None;
                while let Some((key, _)) = tree.next(after) {
                    orphans.insert((key.kind as u8, key.inode.0));
                    after = Some(key);
                }
                Ok(())
            }),
        )?;
        for (kind, number) in &orphans {
            self.hasher.update(&[*kind]);
            self.hasher.update(&number.to_le_bytes());
            let has_name = self.inodes.contains_key(number);
            if *kind == cairnfs_core::format::orphan::OrphanKind::Inode as u8 {
                if has_name {
                    return Err(format!("orphan {number} has a name"));
                }
                let found = self.inode(InodeNo(*number))?;
                if found.links != 0 {
                    return Err(format!("orphan {number} has {} links", found.links));
                }
            } else if !has_name && !orphans.contains(&(1, *number)) {
                return Err(format!("truncation orphan {number} is nowhere else"));
            }
        }
        let index = told("orphan index", self.volume.read_inode(ORPHAN_INDEX))?;
        let mut found = Found {
            mode: 0,
            links: 0,
            size_bytes: 0,
            parent: 0,
            entries: BTreeMap::new(),
            target: Vec::new(),
            attributes: BTreeMap::new(),
            extents: Vec::new(),
        };
        self.extents(&index, &mut found)?;
        let stated = self.volume.journal().totals().orphans;
        if u64::try_from(orphans.len()).ok() != Some(stated.into()) {
            return Err(format!("the totals state {stated} orphans, and there are {}", orphans.len()));
        }
        Ok(orphans)
    }

    fn links(&self) -> Result<(), Finding> {
        for (number, found) in &self.inodes {
            let is_directory = found.mode & 0o170_000 == 0o040_000;
            let names = self.names.get(number).copied().unwrap_or(0);
            let expected = if is_directory {
                let children = found.entries.values();
                let is_directory = |child: &&u64| {
                    self.inodes.get(child).is_some_and(|found| found.mode & 0o170_000 == 0o040_000)
                };
                2 + children.filter(is_directory).count() as u32
            } else {
                names
            };
            if found.links != expected || (is_directory && *number != ROOT.0 && names != 1) {
                return Err(format!(
                    "inode {number}: {} links, {names} names, expected {expected}",
                    found.links
                ));
            }
        }
        Ok(())
    }

    fn bitmaps(&self) -> Result<(), Finding> {
        let geometry = *self.volume.layout();
        let (mut free_blocks, mut free_inodes) = (0_u64, 0_u64);
        let initialised = self.volume.journal().totals().initialised_groups;
        let mut expected = vec![0; BLOCK_BYTES];
        for group in (0..geometry.group_count).map(GroupNo) {
            for kind in [BitmapKind::Blocks, BitmapKind::Inodes] {
                let free = bitmap::implied(&mut expected, &geometry, group, kind, 0);
                let in_use = geometry.bits_of(group, kind, 0);
                self.expect_bits(&mut expected, group, kind, in_use);
                let now_free = in_use - bitmap::count_ones(&expected, 0, in_use);
                match kind {
                    BitmapKind::Blocks => free_blocks += u64::from(now_free),
                    BitmapKind::Inodes => free_inodes += u64::from(now_free),
                }
                if group.0 >= initialised {
                    if now_free != free {
                        return Err(format!("group {group} is not initialised, but used"));
                    }
                    continue;
                }
                told(&format!("group {group}"), self.volume.with_group(group, &mut |_| Ok(())))?;
                let journal = self.volume.journal();
                let bits = journal.bitmap(BitmapKey { group, kind, index: 0 }).ok_or("no bitmap")?;
                if bits[..] != expected[..] {
                    let byte =
                        bits.iter().zip(&expected).position(|(found, wanted)| found != wanted).unwrap_or(0);
                    return Err(format!(
                        "group {group}, {kind:?}: byte {byte} of the bitmap is {:#x}, and what is in use {:#x}",
                        bits[byte], expected[byte]
                    ));
                }
            }
        }
        let totals = *self.volume.journal().totals();
        if (totals.free_blocks, totals.free_inodes) != (free_blocks, free_inodes) {
            return Err(format!(
                "the totals state {} blocks and {} inodes free, and there are {free_blocks} and {free_inodes}",
                totals.free_blocks, totals.free_inodes
            ));
        }
        Ok(())
    }

    fn expect_bits(&self, bits: &mut [u8], group: GroupNo, kind: BitmapKind, in_use: u32) {
        let geometry = self.volume.layout();
        match kind {
            BitmapKind::Blocks => {
                let start = geometry.start_of(group).0;
                let (mut block, end) = (start, start + u64::from(in_use));
                while block < end {
                    let word = self.claimed[block as usize / 64] >> (block % 64);
                    if word == 0 {
                        block += 64 - block % 64;
                        continue;
                    }
                    block += u64::from(word.trailing_zeros());
                    if block < end {
                        let _ = bitmap::set_range(bits, (block - start) as u32, 1);
                    }
                    block += 1;
                }
            }
            BitmapKind::Inodes => {
                let first = geometry.inode_at(group, 0).0;
                for number in self.claimed_inodes.range(first.max(FIRST_FREE.0)..first + u64::from(in_use)) {
                    let _ = bitmap::set_range(bits, (number - first) as u32, 1);
                }
            }
        }
    }
}
