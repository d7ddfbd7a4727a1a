// SPDX-License-Identifier: GPL-2.0

//! How much of the journal each operation may need, at worst: one function an operation.
//!
//! Items are unions, so a block counts whole, whatever is changed in it. A block that is allocated or freed may stand in
//! a bitmap block of its own. Trees are counted at the height that they have when the handle is opened; the caller holds their
//! locks from before that until the handle has closed, so they do not grow meanwhile.
//!
//! None of them may need more than a handle can get, [`HANDLE_SHARE`] of the ring, whatever the geometry and the level
//! of a tree. All but removals need the same in every geometry; [`step`] cuts those to what the ring has room for.

use crate::attributes;
use crate::directory::{self, Limits};
use crate::extent_map::{self, Limit};
use crate::format::group::Geometry;
use crate::format::tree::LEVEL_MAX;
use crate::inode::Inode;
use crate::journal::encode::{BITMAP_BYTES_MAX, BLOCK_BYTES_MAX, GROUP_BYTES, REVOKE_BYTES};
use crate::journal::reservation::{Worst, HANDLE_SHARE, NOTE_BYTES_MAX};
use crate::journal::Journal;

const NOTE: Worst =
    Worst { inodes: 0, blocks: 0, freed_blocks: 0, bitmaps: 0, slots: 0, note_bytes: NOTE_BYTES_MAX };

fn plus(a: Worst, b: Worst) -> Worst {
    Worst {
        inodes: a.inodes.saturating_add(b.inodes),
        blocks: a.blocks.saturating_add(b.blocks),
        freed_blocks: a.freed_blocks.saturating_add(b.freed_blocks),
        bitmaps: a.bitmaps.saturating_add(b.bitmaps),
        slots: a.slots.saturating_add(b.slots),
        note_bytes: a.note_bytes.saturating_add(b.note_bytes),
    }
}

fn of_limits(limits: Limits) -> Worst {
    let (changed, allocated, freed) = (limits.changed as u64, limits.allocated as u64, limits.freed as u64);
    Worst {
        blocks: changed,
        freed_blocks: freed,
        bitmaps: allocated.saturating_add(freed),
        ..Worst::default()
    }
}

/// An entry comes into a directory, which is logged.
fn entry_comes(parent: &Inode) -> Worst {
    plus(of_limits(directory::insert_limits(parent)), Worst { inodes: 1, ..Worst::default() })
}

/// An entry leaves a directory, which is logged.
fn entry_goes(parent: &Inode) -> Worst {
    plus(of_limits(directory::remove_limits(parent)), Worst { inodes: 1, ..Worst::default() })
}

/// A new inode: its bit, its image, and the block of a long symbolic link with its bit.
const NEW_INODE: Worst = Worst { inodes: 1, blocks: 1, freed_blocks: 0, bitmaps: 2, slots: 0, note_bytes: 0 };

/// The inode that a rename leaves behind: its bit and its image.
const WHITEOUT: Worst = Worst { blocks: 0, bitmaps: 1, ..NEW_INODE };

/// A known inode is logged, and may become an orphan.
const LOSES_NAME: Worst =
    Worst { inodes: 1, blocks: 0, freed_blocks: 0, bitmaps: 0, slots: 1, note_bytes: 0 };

/// `create::create`.
pub fn create(parent: &Inode) -> Worst {
    plus(NOTE, plus(entry_comes(parent), NEW_INODE))
}

/// `link::link`.
pub fn link(parent: &Inode) -> Worst {
    plus(NOTE, plus(entry_comes(parent), Worst { inodes: 1, slots: 1, ..Worst::default() }))
}

/// `link::unlink` and `link::remove_directory`.
pub fn unlink(parent: &Inode) -> Worst {
    plus(NOTE, plus(entry_goes(parent), LOSES_NAME))
}

/// `rename::rename`, any mode, whiteout included: a name comes into one directory and goes from the other, or an entry of each
/// is changed, which is less. When both are the same, the name goes after the one that came may have raised the tree by a level,
/// or have made one of the inline form.
pub fn rename(old_parent: &Inode, new_parent: &Inode) -> Worst {
    let raised = Limits { changed: 1, allocated: 0, freed: 2 };
    let names = plus(plus(entry_comes(new_parent), entry_goes(old_parent)), of_limits(raised));
    let moved = Worst { inodes: 1, ..Worst::default() };
    plus(NOTE, plus(names, plus(moved, plus(WHITEOUT, LOSES_NAME))))
}

/// `attributes::set_attributes`.
pub const fn set_attributes() -> Worst {
    Worst { inodes: 1, note_bytes: NOTE_BYTES_MAX, ..NOTE }
}

/// `attributes::set_extended`: the block of attributes comes, changes or goes.
pub fn set_extended() -> Worst {
    let blocks = u64::from(attributes::BLOCKS_CHANGED_MAX);
    plus(NOTE, Worst { inodes: 1, blocks, freed_blocks: blocks, bitmaps: blocks, ..Worst::default() })
}

/// `index::grow`: the inode of the orphan index, and an extent of a block that has slots.
pub fn grow_index(index: &Inode) -> Worst {
    let level = extent_map::level(index).unwrap_or(LEVEL_MAX);
    let tree = extent_map::insert_blocks(level);
    let (changed, allocated, freed) =
        (u64::from(tree.changed), u64::from(tree.allocated), u64::from(tree.freed));
    let bitmaps = allocated.saturating_add(freed).saturating_add(1);
    let worst =
        Worst { inodes: 1, blocks: changed, freed_blocks: freed, bitmaps, slots: 1, ..Worst::default() };
    plus(NOTE, worst)
}

/// `data::map_written`: an extent, which lies in one group, comes into the map.
pub fn map_written(geometry: &Geometry, inode: &Inode) -> Worst {
    let level = extent_map::level(inode).unwrap_or(LEVEL_MAX);
    let tree = extent_map::insert_blocks(level);
    let (changed, allocated, freed) =
        (u64::from(tree.changed), u64::from(tree.allocated), u64::from(tree.freed));
    let bitmaps = allocated.saturating_add(freed).saturating_add(u64::from(geometry.block_bitmaps()));
    plus(NOTE, Worst { inodes: 1, blocks: changed, freed_blocks: freed, bitmaps, ..Worst::default() })
}

/// `data::set_size`, `data::truncate_step`, `remove::remove_step`: as many extents and blocks as `limit` allows, but one extent
/// whatever it needs; and in the last step attributes, symlink block, inode bit and orphan slots.
pub fn remove(geometry: &Geometry, inode: &Inode, limit: Limit) -> Worst {
    let least = extent_map::remove_blocks_min(extent_map::level(inode).unwrap_or(LEVEL_MAX));
    removal(geometry, Limit { blocks: limit.blocks.max(least), extents: limit.extents.max(1) })
}

const _: () = assert!(BITMAP_BYTES_MAX + GROUP_BYTES + REVOKE_BYTES >= BLOCK_BYTES_MAX);

/// A cut from the end allocates nothing, so each block that it touches is changed or freed in the end. Freed counts for
/// both: with its bit it has the larger items. The bits of an extent, which lies in one group, may stand in all bitmap blocks of that.
fn removal(geometry: &Geometry, limit: Limit) -> Worst {
    let (blocks, extents) = (u64::from(limit.blocks), u64::from(limit.extents));
    Worst {
        inodes: 1,
        blocks: 0,
        freed_blocks: blocks.saturating_add(2),
        bitmaps: blocks
            .saturating_add(extents.saturating_mul(u64::from(geometry.block_bitmaps())))
            .saturating_add(3),
        slots: 2,
        note_bytes: NOTE_BYTES_MAX,
    }
}

/// The most that one step of a truncation or a removal takes on, however large the ring is: others wait meanwhile.
const STEP_MAX: Limit = Limit { extents: 16, blocks: 32 };

/// How much one step of a truncation or a removal may do in this geometry: the blocks of one extent in a tree of any height, and
/// of extents as many as the rest of a handle's share of the ring has room for, which is at least one.
pub fn step(geometry: &Geometry) -> Limit {
    let share = Journal::ring_bytes(geometry) / HANDLE_SHARE;
    let blocks = extent_map::remove_blocks_min(LEVEL_MAX).max(1);
    let without = removal(geometry, Limit { extents: 0, blocks }).bytes();
    let each = removal(geometry, Limit { extents: 1, blocks }).bytes().saturating_sub(without);
    let extents = share.saturating_sub(without).checked_div(each).unwrap_or(0);
    let extents = extents.clamp(1, u64::from(STEP_MAX.extents)) as u32;
    let with = removal(geometry, Limit { extents, blocks }).bytes();
    let a_block = removal(geometry, Limit { extents, blocks: blocks.saturating_add(1) }).bytes();
    let more = share.saturating_sub(with).checked_div(a_block.saturating_sub(with)).unwrap_or(0);
    let most = u64::from(STEP_MAX.blocks.saturating_sub(blocks));
    Limit { extents, blocks: blocks.saturating_add(more.min(most) as u32) }
}

#[cfg(test)]
mod tests;
