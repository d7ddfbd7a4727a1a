// SPDX-License-Identifier: GPL-2.0

//! Actions on attributes, ordinary and extended.

use super::{pick, told, Run, Told};
use cairnfs_core::attributes::SetMode;
use cairnfs_core::error::Error;
use cairnfs_core::format::attribute::Namespace;
use cairnfs_core::operation::attributes::Changes;
use cairnfs_core::units::InodeNo;

impl Run<'_> {
    pub(super) fn set_attribute(&mut self, choice: u32, name: u32, length: usize) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        let name = format!("attribute{}", name % 4).into_bytes();
        let value = vec![b'v'; length];
        let set = self.volume.set_extended(
            InodeNo(number),
            (Namespace::User, &name),
            Some(&value),
            SetMode::Either,
        );
        match set {
            Ok(_) => {
                self.tree.node_mut(number).attributes.insert(name, value);
                self.step()?;
            }
            Err(Error::NoAttributeSpace) => {}
            Err(Error::NoSpace) if self.is_nearly_full() => {}
            Err(error) => return Err(format!("{error:?}")),
        }
        Ok(true)
    }

    pub(super) fn remove_attribute(&mut self, choice: u32, name: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|node| !node.attributes.is_empty()), choice) else {
            return Ok(false);
        };
        let name = format!("attribute{}", name % 4).into_bytes();
        let is_there = self.tree.node(number).is_some_and(|node| node.attributes.contains_key(&name));
        let removed =
            self.volume.set_extended(InodeNo(number), (Namespace::User, &name), None, SetMode::Either);
        if self.expect(removed, (!is_there).then_some(Error::NoAttribute))?.is_some() {
            self.tree.node_mut(number).attributes.remove(&name);
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn set_attributes(&mut self, choice: u32, permissions: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        let permissions = (permissions & 0o777) as u16;
        let changes = Changes { permissions: Some(permissions), ..Changes::default() };
        told(self.volume.set_attributes(InodeNo(number), &changes))?;
        let node = self.tree.node_mut(number);
        node.mode = node.mode & 0o170_000 | permissions;
        self.step()?;
        Ok(true)
    }
}
