// SPDX-License-Identifier: GPL-2.0

//! Two handles open at once: a file is made while the handle that frees an inode has not closed.
//!
//! The outer handle has done all its work, and nobody may see any of it: neither may its inode's number be given out, nor its
//! slot in the orphan index. The inner one closes first.

use super::{name, new_inode, told, Run, Told};
use crate::survey::Survey;
use cairnfs_core::error::Error;
use cairnfs_core::extent_map::Limit;
use cairnfs_core::format::orphan::OrphanKind;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::{remove, reservation};
use cairnfs_core::units::InodeNo;

/// What the outer handle removes.
const LIMIT: Limit = Limit { extents: 4, blocks: 12 };
const MODE: u16 = 0o100_600;

impl Run<'_> {
    pub(super) fn overlap(&mut self, parent: u32, name_choice: u32) -> Told<bool> {
        self.end_commit()?;
        self.end_commit_if_crowded()?;
        let Some(orphan) = self.next_inode_orphan()? else { return Ok(false) };
        let Some(parent) = self.directory(parent) else { return Ok(false) };
        let name = name(name_choice);
        let exists = self.tree.node(parent).is_some_and(|node| node.entries.contains_key(&name));
        let volume = &self.volume;
        let worst = reservation::remove(volume.layout(), &*told(volume.read_inode(orphan))?, LIMIT);
        let mut inner = None;
        let outer = volume.run(worst, Class::Reserved, &mut |handle| {
            remove::remove_step(handle, orphan, LIMIT)?;
            inner.get_or_insert_with(|| {
                let created = volume.create(InodeNo(parent), &name, &new_inode(MODE), None);
                (created, Survey::take(volume))
            });
            Ok(())
        });
        let (created, survey) = inner.ok_or("the outer handle did nothing")?;
        if let Some((number, _)) = self.expect(created, exists.then_some(Error::Exists))? {
            self.was_created(parent, name, MODE, None, number)?;
            self.step_as(&survey?)?;
        }
        told(outer)?;
        self.orphans_were_removed()?;
        Ok(true)
    }

    /// The first inode that nothing names and nobody writes to.
    fn next_inode_orphan(&self) -> Told<Option<InodeNo>> {
        let mut found = None;
        let looked = self.volume.with_orphans(&mut |orphans| {
            let mut after = None;
            while let Some((key, _)) = orphans.next(after) {
                let is_open = self.in_flight.iter().any(|write| write.number == key.inode.0);
                if key.kind == OrphanKind::Inode && !is_open {
                    found = Some(key.inode);
                    return Ok(());
                }
                after = Some(key);
            }
            Ok(())
        });
        told(looked)?;
        Ok(found)
    }
}
