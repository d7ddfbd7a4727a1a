// SPDX-License-Identifier: GPL-2.0

//! Every block of a tree, for checks.

use super::{node, place_of, Kinds, Path};
use crate::blocks::ReadBlocks;
use crate::error::Result;
use crate::format::tree::{HEADER_OFFSET, LEVEL_MAX};
use crate::format::BlockKind;
use crate::inode::Inode;
use crate::units::BlockNo;

/// Takes a block's kind, number and level, and the way to the first leaf below it, or to itself: so a leaf's keys must lie between
/// the path's bounds.
pub type BlockVisitor<'a> = dyn FnMut(BlockKind, BlockNo, u16, &Path) -> Result + 'a;

/// Shows every block of the tree to `visit`, parents before their children and in key order. Nodes are checked in full before,
/// leaves are the visitor's to check; the first contradiction ends the walk.
///
/// Goes from leaf to leaf by keys, not by a stack: the nodes that are new on the way are those to be shown.
pub fn visit(blocks: &dyn ReadBlocks, kinds: Kinds, inode: &Inode, visit: &mut BlockVisitor<'_>) -> Result {
    node::verify_root(inode.map(), place_of(blocks.geometry(), inode), blocks.geometry())?;
    // Level n's is at n; no tree has block 0.
    let mut shown = [BlockNo(0); LEVEL_MAX as usize];
    let mut path = Path::nowhere();
    path.seek(blocks, kinds, inode, 0)?;
    loop {
        for level in (1..path.root_level).rev() {
            let (Some(step), Some(shown)) = (path.step(level), shown.get_mut(usize::from(level))) else {
                break;
            };
            if step.block == *shown {
                continue;
            }
            let bytes = blocks.read(kinds.node, inode.number(), step.block)?;
            node::check(bytes.get(HEADER_OFFSET..).unwrap_or(&[]), level, step.block, blocks.geometry())?;
            visit(kinds.node, step.block, level, &path)?;
            *shown = step.block;
        }
        visit(kinds.leaf, path.leaf(), 0, &path)?;
        if path.is_last() {
            return Ok(());
        }
        path.seek(blocks, kinds, inode, path.end())?;
    }
}
