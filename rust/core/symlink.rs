// SPDX-License-Identifier: GPL-2.0

//! The target of a symbolic link: in the inode's area, or, when it is long, in a metadata block of its own.
//!
//! Targets are metadata: logged with the inode, so that no crash shows a link without its target. A block holds 4048 bytes behind
//! its header; the longest targets have up to 47 more, which stand in the inode, in front.

use crate::blocks::{ChangeBlocks, ReadBlocks};
use crate::error::{corrupt, Check, Error, Result};
use crate::format::block_header::BlockHeader;
use crate::format::inode::{MapKind, SYMLINK_BLOCK_BYTES, SYMLINK_BYTES_MAX};
use crate::format::layout::{copy_to, get, put};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::units::BlockNo;

/// Bytes of the block's number in the map.
const NUMBER_BYTES: usize = 8;
/// The longest target that is put into the area: leaves room for attributes to come.
const INLINE_BYTES_MAX: usize = 160;

/// Gives a new symbolic link its target.
pub fn set_target(blocks: &mut dyn ChangeBlocks, inode: &mut Inode, target: &[u8], goal: BlockNo) -> Result {
    if target.is_empty() {
        return Err(Error::NotFound);
    }
    if target.len() > SYMLINK_BYTES_MAX {
        return Err(Error::NameTooLong);
    }
    inode.core.size_bytes = target.len() as u64;
    if target.len() <= INLINE_BYTES_MAX {
        inode.resize_map(target.len())?;
        return copy_to(inode.map_mut(), target);
    }
    let (front, back) =
        target.split_at_checked(target.len().saturating_sub(SYMLINK_BLOCK_BYTES)).unwrap_or((&[], target));
    let owner = inode.number();
    let block = blocks.allocate(BlockKind::SymlinkTarget, owner, goal)?;
    let bytes = blocks.change(BlockKind::SymlinkTarget, owner, block)?;
    let end = BlockHeader::SIZE.saturating_add(back.len());
    copy_to(bytes.get_mut(BlockHeader::SIZE..end).ok_or(Error::ShutDown)?, back)?;
    inode.core.map_kind = MapKind::SymlinkBlock as u8;
    inode.core.blocks = inode.core.blocks.saturating_add(1);
    inode.resize_map(NUMBER_BYTES.saturating_add(front.len()))?;
    put(inode.map_mut(), 0, block)?;
    copy_to(inode.map_mut().get_mut(NUMBER_BYTES..).ok_or(Error::ShutDown)?, front)
}

/// The block of a long target.
pub fn target_block(inode: &Inode) -> Result<Option<BlockNo>> {
    match inode.map_kind() {
        MapKind::SymlinkBlock => get(inode.map(), 0).map(Some),
        _ => Ok(None),
    }
}

/// Shows the target, in one or two pieces.
pub fn target(blocks: &dyn ReadBlocks, inode: &Inode, show: &mut dyn FnMut(&[u8]) -> Result) -> Result {
    let Some(block) = target_block(inode)? else {
        return show(inode.map());
    };
    let bytes = blocks.read(BlockKind::SymlinkTarget, inode.number(), block)?;
    let front = inode.map().get(NUMBER_BYTES..).unwrap_or(&[]);
    let length = (inode.core.size_bytes as usize).saturating_sub(front.len());
    let end = BlockHeader::SIZE.saturating_add(length);
    let Some(back) = bytes.get(BlockHeader::SIZE..end) else {
        return corrupt(Check::Size, block, SYMLINK_BLOCK_BYTES as u64, length as u64);
    };
    if !front.is_empty() {
        show(front)?;
    }
    show(back)
}

/// Gives the block back, for a link that is freed.
pub fn free_target(blocks: &mut dyn ChangeBlocks, inode: &mut Inode) -> Result {
    if let Some(block) = target_block(inode)? {
        blocks.free(BlockKind::SymlinkTarget, inode.number(), block)?;
        inode.core.blocks = inode.core.blocks.saturating_sub(1);
        inode.core.map_kind = MapKind::Symlink as u8;
    }
    inode.resize_map(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocks::testing::MapBlocks;
    use crate::inode::NewInode;
    use crate::units::{InodeGeneration, InodeNo};

    #[test]
    fn targets_of_every_length_read_back_and_leave_nothing() {
        for length in [1, 2, 159, 160, 161, 1023, 4047, 4048, 4049, 4094, 4095] {
            let new =
                NewInode { mode: 0o120_777, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
            let mut inode = Inode::new(InodeNo(30), InodeGeneration(1), &new).unwrap();
            let mut blocks = MapBlocks::new();
            let wanted: Vec<u8> = (0..length).map(|at| (at % 251 + 1) as u8).collect();
            set_target(&mut blocks, &mut inode, &wanted, BlockNo(0)).unwrap();
            inode.core.check(BlockNo(1)).unwrap();
            let mut found = Vec::new();
            target(&blocks, &inode, &mut |piece| {
                found.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            assert_eq!(found, wanted, "length {length}");
            free_target(&mut blocks, &mut inode).unwrap();
            assert_eq!((inode.core.blocks, blocks.blocks.len()), (0, 0));
        }
    }

    #[test]
    fn too_long_and_empty_targets_are_refused() {
        let new = NewInode { mode: 0o120_777, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 0 };
        let mut inode = Inode::new(InodeNo(30), InodeGeneration(1), &new).unwrap();
        let long = vec![b'x'; 4096];
        assert_eq!(set_target(&mut MapBlocks::new(), &mut inode, &long, BlockNo(0)), Err(Error::NameTooLong));
        assert_eq!(set_target(&mut MapBlocks::new(), &mut inode, b"", BlockNo(0)), Err(Error::NotFound));
    }
}
