// SPDX-License-Identifier: GPL-2.0

//! How much of the journal each operation may need, at worst: one function an operation.
//!
//! Items are unions, so a block counts whole, whatever is changed in it. A block that is allocated or freed may stand in
//! a bitmap block of its own. Trees are counted at the height that they have when the handle is opened; the caller holds their
//! locks from before that until the handle has closed, so they do not grow meanwhile.

use crate::attributes;
use crate::directory::{self, Limits};
use crate::extent_map::{self, Limit};
use crate::format::group::Geometry;
use crate::format::tree::LEVEL_MAX;
use crate::inode::Inode;
use crate::journal::reservation::{Worst, NOTE_BYTES_MAX};

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

/// `rename::rename`, any mode, whiteout included.
pub fn rename(old_parent: &Inode, new_parent: &Inode) -> Worst {
    let names = plus(plus(entry_comes(new_parent), entry_goes(old_parent)), entry_comes(old_parent));
    plus(NOTE, plus(names, plus(NEW_INODE, plus(LOSES_NAME, LOSES_NAME))))
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
/// whatever it needs; and in the last step attributes, symlink block, inode bit and orphan slots. An extent lies in one
/// group.
pub fn remove(geometry: &Geometry, inode: &Inode, limit: Limit) -> Worst {
    let least = extent_map::level(inode).map_or(0, extent_map::remove_blocks_min);
    let (blocks, extents) = (u64::from(limit.blocks.max(least)), u64::from(limit.extents.max(1)));
    Worst {
        inodes: 1,
        blocks,
        freed_blocks: blocks.saturating_add(2),
        bitmaps: blocks
            .saturating_add(extents.saturating_mul(u64::from(geometry.block_bitmaps())))
            .saturating_add(3),
        slots: 2,
        note_bytes: NOTE_BYTES_MAX,
    }
}
