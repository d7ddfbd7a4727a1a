// SPDX-License-Identifier: GPL-2.0

//! The journal's header pair and the superblock pair: what says whether a mount was ended well.
//!
//! Beginning to write: the superblock says "mounted", then both journal headers lose their clean flag (both, because with one still
//! clean, damage to the other would pass for a clean journal). Ending: everything goes home, a clean header, then the
//! superblock with the totals. A crash between any two of these leaves a journal that is replayed, if need be with nothing in it.
//!
//! Locks: `superblock` is held while its pair is written, `flusher` while a header is (a device without FUA is flushed behind it); the
//! journal mutex for a moment, before and behind.

#![forbid(unsafe_code)]

use crate::memory::insist;
use crate::mounted::Mounted;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::superblock::{Superblock, PRIMARY, SECONDARY, STATE_MOUNTED};
use cairnfs_core::memory::Buffer;
use cairnfs_core::platform::Platform as _;
use cairnfs_core::units::BLOCK_BYTES;
use cairnfs_linux::platform::Kernel;

/// How often everything goes home again because somebody has gone on writing.
const END_ROUNDS: usize = 20;

impl Mounted {
    /// Writes a journal header; a clean one only when nothing is left to replay ([`Error::WouldBlock`]).
    pub(crate) fn write_header(&self, clean: bool) -> Result {
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        let written = self.journaling.locked(|state| state.journal.begin_header(clean))?;
        let filesystem_id = self.metadata.layout().filesystem_id;
        let outcome = written
            .header
            .write(&Kernel, &mut bytes, filesystem_id, written.block)
            .and_then(|()| self.flushing(|| self.device().write_durably(written.block, &bytes)));
        let ended = self.journaling.locked(|state| state.journal.end_header(&written, outcome));
        ended.inspect_err(|error| self.shut_down(*error))
    }

    /// The filesystem is about to be written to.
    pub(crate) fn begin_writing(&self) -> Result {
        let recovery = self.recovery;
        self.update_superblock(&|superblock| {
            superblock.state |= STATE_MOUNTED;
            superblock.mount_count = superblock.mount_count.saturating_add(1);
            superblock.mounted_ns = Kernel.now_ns();
            if recovery.time_ns != 0 {
                superblock.recovery = recovery;
            }
        })?;
        self.journaling.locked(|state| state.journal.reopen());
        self.write_header(false)?;
        self.write_header(false)
    }

    /// Nothing is to be written any more: everything goes home. Handles are opened no more once the clean header is on its way; whoever
    /// still works until then (a remount may be forced) delays it, and after a few rounds the end is given up.
    pub(crate) fn end_writing(&self) -> Result {
        let mut rounds = 0..END_ROUNDS;
        loop {
            // VFS takes no error of an unmount: for want of memory nothing is given up.
            insist(&mut || self.checkpoint())?;
            match insist(&mut || self.write_header(true)) {
                Err(Error::WouldBlock) if rounds.next().is_some() => {}
                outcome => break outcome?,
            }
        }
        // A clean header stands: whatever goes wrong now, nothing more may be logged.
        self.journaling.room.signal();
        insist(&mut || self.note_end()).inspect_err(|error| self.shut_down(*error))
    }

    fn note_end(&self) -> Result {
        let totals = self.journaling.locked(|state| *state.journal.totals());
        self.update_superblock(&|superblock| {
            superblock.state &= !STATE_MOUNTED;
            superblock.free_blocks = totals.free_blocks;
            superblock.free_inodes = totals.free_inodes;
            superblock.initialised_groups = totals.initialised_groups;
            superblock.unmounted_ns = Kernel.now_ns();
        })
    }

    /// Changes the superblock and writes both copies, one after the other, so that one is always whole.
    fn update_superblock(&self, change: &dyn Fn(&mut Superblock)) -> Result {
        let mut bytes = Buffer::zeroed(BLOCK_BYTES)?;
        let mut superblock = self.superblock.lock();
        change(&mut superblock);
        superblock.update_counter = superblock.update_counter.saturating_add(1);
        for block in [PRIMARY, SECONDARY] {
            superblock.write_copy(&Kernel, &mut bytes, block)?;
            self.device().write_durably(block, &bytes)?;
        }
        Ok(())
    }
}
