// SPDX-License-Identifier: GPL-2.0

//! How trees and attributes reach their metadata blocks.
//!
//! Readers get the present content of a block, verified when it came from the device. Who changes gets a private copy: what a
//! handle has changed nobody else sees before it closes, and a handle that is dropped has changed nothing. Implemented
//! by `journal::Handle` over the filesystem's cache, and by a plain map in tests.
//!
//! Locks: a tree's blocks are read under the lock of the inode that owns them and changed under the same lock, held for
//! writing until the handle has closed; so the two traits need none of their own.

use crate::error::Result;
use crate::format::group::Geometry;
use crate::format::BlockKind;
use crate::memory::{Buffer, Shared};
use crate::units::{BlockNo, BlockRun, InodeNo};
use core::ops::Deref;

/// The content of a block for as long as somebody looks at it.
pub enum BlockGuard<'a> {
    /// The cached content; stays as it is although the cache may move on.
    Cached(Shared<Buffer>),
    /// The reader's own changed copy.
    Private(&'a [u8]),
}

impl Deref for BlockGuard<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Cached(buffer) => buffer,
            Self::Private(bytes) => bytes,
        }
    }
}

/// Reading metadata blocks.
pub trait ReadBlocks {
    /// Where everything is.
    fn geometry(&self) -> &Geometry;

    /// The block's content, of [`crate::units::BLOCK_BYTES`] bytes. Its header has been verified against `kind`, `owner`
    /// and `block` when it was read from the device and is checked against them again here, so that a block that two
    /// owners claim is found out. What stands behind the header is the caller's to check.
    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>>;
}

/// Changing them.
pub trait ChangeBlocks: ReadBlocks {
    /// The block's private copy, made when it is first asked for.
    fn change(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<&mut [u8]>;

    /// A new block as near behind `goal` as there is one ([`BlockNo`] 0: anywhere): its header is stamped, all else is zero;
    /// [`ChangeBlocks::change`] gives its content. The caller counts it in the inode's `blocks`.
    fn allocate(&mut self, kind: BlockKind, owner: InodeNo, goal: BlockNo) -> Result<BlockNo>;

    /// Gives a metadata block back. It is revoked, and not used again before the transaction is durable.
    fn free(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result;

    /// Gives blocks of file contents back; not used again before the transaction is durable.
    fn free_data(&mut self, run: BlockRun) -> Result;
}

#[cfg(test)]
pub(crate) mod testing;
