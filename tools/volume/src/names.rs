// SPDX-License-Identifier: GPL-2.0

//! The operations on names and attributes, each in a handle of its own.

use crate::Volume;
use cairnfs_core::attributes::SetMode;
use cairnfs_core::directory::{self, Entry};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::format::orphan::OrphanKind;
use cairnfs_core::handle::Environment as _;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::ring::Class;
use cairnfs_core::operation::attributes::{self, Changes};
use cairnfs_core::operation::data;
use cairnfs_core::operation::rename::{self, Mode, Place};
use cairnfs_core::operation::{create, link, remove, reservation};
use cairnfs_core::orphans::OrphanKey;
use cairnfs_core::symlink;
use cairnfs_core::units::{DirectoryKey, InodeNo, TransactionId};

impl Volume<'_> {
    /// Makes an inode with a name; `target` is a symbolic link's.
    pub fn create(
        &self,
        parent: InodeNo,
        name: &[u8],
        new: &NewInode,
        target: Option<&[u8]>,
    ) -> Result<(InodeNo, TransactionId)> {
        let worst = reservation::create(&*self.read_inode(parent)?);
        self.run(worst, Class::Normal, &mut |handle| create::create(handle, parent, name, new, target))
    }

    /// Gives an inode another name.
    pub fn link(&self, number: InodeNo, parent: InodeNo, name: &[u8]) -> Result<TransactionId> {
        let worst = reservation::link(&*self.read_inode(parent)?);
        let ((), transaction) =
            self.run(worst, Class::Normal, &mut |handle| link::link(handle, number, parent, name))?;
        Ok(transaction)
    }

    /// Takes a name away. What has none left is an orphan, until [`Volume::remove_orphans`].
    pub fn unlink(&self, parent: InodeNo, name: &[u8]) -> Result<(InodeNo, TransactionId)> {
        let worst = reservation::unlink(&*self.read_inode(parent)?);
        self.run(worst, Class::Normal, &mut |handle| link::unlink(handle, parent, name))
    }

    /// Takes an empty directory's name away.
    pub fn remove_directory(&self, parent: InodeNo, name: &[u8]) -> Result<(InodeNo, TransactionId)> {
        let worst = reservation::unlink(&*self.read_inode(parent)?);
        self.run(worst, Class::Normal, &mut |handle| link::remove_directory(handle, parent, name))
    }

    /// Moves a name. Over a file that takes the moved one's contents along, as in the kernel: they are durable no later than the name.
    pub fn rename(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        mode: Mode,
        whiteout: Option<&NewInode>,
    ) -> Result<(Option<InodeNo>, TransactionId)> {
        let worst = reservation::rename(&*self.read_inode(from.parent)?, &*self.read_inode(to.parent)?);
        let moved = self.lookup(from.parent, from.name)?;
        let mark = moved.and_then(|entry| self.data_mark(entry.inode));
        self.run(worst, Class::Normal, &mut |handle| {
            let replaced = rename::rename(handle, from, to, mode, whiteout)?;
            if replaced.is_some() {
                handle.note_data(mark);
            }
            Ok(replaced)
        })
    }

    /// Changes attributes.
    pub fn set_attributes(&self, number: InodeNo, changes: &Changes) -> Result<TransactionId> {
        let worst = reservation::set_attributes();
        let ((), transaction) = self
            .run(worst, Class::Normal, &mut |handle| attributes::set_attributes(handle, number, changes))?;
        Ok(transaction)
    }

    /// Sets an extended attribute, or removes it.
    pub fn set_extended(
        &self,
        number: InodeNo,
        name: (Namespace, &[u8]),
        value: Option<&[u8]>,
        mode: SetMode,
    ) -> Result<TransactionId> {
        let worst = reservation::set_extended();
        let ((), transaction) = self.run(worst, Class::Normal, &mut |handle| {
            attributes::set_extended(handle, number, name, value, mode)
        })?;
        Ok(transaction)
    }

    /// Looks a name up.
    pub fn lookup(&self, parent: InodeNo, name: &[u8]) -> Result<Option<Entry>> {
        let directory = self.read_inode(parent)?;
        if !directory.core.is_directory() {
            return Err(Error::NotADirectory);
        }
        directory::lookup(self, &self.hash_key, &directory, name)
    }

    /// All entries of a directory, in the order of their keys.
    pub fn entries(&self, number: InodeNo) -> Result<Vec<(Vec<u8>, InodeNo, u8)>> {
        let directory = self.read_inode(number)?;
        let mut entries = Vec::new();
        directory::read_from(self, &directory, DirectoryKey(0), &mut |_, inode, file_type, name| {
            entries.push((name.to_vec(), inode, file_type));
            Ok(true)
        })?;
        Ok(entries)
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, number: InodeNo) -> Result<Vec<u8>> {
        let inode = self.read_inode(number)?;
        let mut target = Vec::new();
        symlink::target(self, &inode, &mut |piece| {
            target.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(target)
    }

    /// An extended attribute's value.
    pub fn extended(&self, number: InodeNo, namespace: Namespace, name: &[u8]) -> Result<Vec<u8>> {
        let inode = self.read_inode(number)?;
        let mut value = Vec::new();
        cairnfs_core::attributes::get(self, &inode, namespace, name, &mut |bytes| {
            value.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(value)
    }

    /// Removes one orphan, or takes one step in that; `false` when there is none.
    pub fn remove_orphan_step(&self) -> Result<bool> {
        let Some(key) = self.next_orphan(None)? else {
            return Ok(false);
        };
        self.remove_step_of(key)?;
        Ok(true)
    }

    /// Removes all orphans: nobody has any of them open. One that cannot be removed stays in the index, for the checker, and
    /// does not keep the others; the first such failure is returned in the end.
    pub fn remove_orphans(&self) -> Result {
        let mut after = None;
        let mut outcome = Ok(());
        while let Some(key) = self.next_orphan(after)? {
            match self.remove_step_of(key) {
                Ok(()) => {}
                Err(error) => {
                    after = Some(key);
                    outcome = outcome.and(Err(error));
                    self.with_orphans(&mut |orphans| {
                        orphans.count_attempt(key);
                        Ok(())
                    })?;
                }
            }
        }
        outcome
    }

    fn next_orphan(&self, after: Option<OrphanKey>) -> Result<Option<OrphanKey>> {
        let mut next = None;
        self.with_orphans(&mut |orphans| {
            next = orphans.next(after).map(|(key, _)| key);
            Ok(())
        })?;
        Ok(next)
    }

    fn remove_step_of(&self, key: OrphanKey) -> Result {
        let step = reservation::step(&self.geometry);
        let worst = reservation::remove(&self.geometry, &*self.read_inode(key.inode)?, step);
        self.run(worst, Class::Reserved, &mut |handle| match key.kind {
            OrphanKind::Inode => remove::remove_step(handle, key.inode, step),
            OrphanKind::Truncate => data::truncate_step(handle, key.inode, step),
        })?;
        Ok(())
    }
}
