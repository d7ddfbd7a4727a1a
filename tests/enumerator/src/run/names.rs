// SPDX-License-Identifier: GPL-2.0

//! Actions on names: core and model do the same, and must say the same.

use super::{name, new_inode, pick, told, Run, Told};
use crate::model::{Node, ROOT};
use crate::survey::Survey;
use cairnfs_core::error::Error;
use cairnfs_core::operation::rename::{Mode, Place};
use cairnfs_core::units::InodeNo;
use std::sync::Arc;

fn fill_name(number: u32) -> Vec<u8> {
    let mut name = format!("fill{number}").into_bytes();
    name.resize(230, b'f');
    name
}

impl Run<'_> {
    pub(super) fn directory(&self, choice: u32) -> Option<u64> {
        pick(&self.tree.select(Node::is_directory), choice)
    }

    pub(super) fn create(
        &mut self,
        parent: u32,
        name_choice: u32,
        mode: u16,
        target: Option<Vec<u8>>,
    ) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some(parent) = self.directory(parent) else { return Ok(false) };
        let name = name(name_choice);
        let exists = self.tree.node(parent).is_some_and(|node| node.entries.contains_key(&name));
        let result = self.volume.create(InodeNo(parent), &name, &new_inode(mode), target.as_deref());
        let Some((number, _)) = self.expect(result, exists.then_some(Error::Exists))? else {
            return Ok(true);
        };
        self.was_created(parent, name, mode, target, number)?;
        self.step()?;
        Ok(true)
    }

    /// The model follows.
    pub(super) fn was_created(
        &mut self,
        parent: u64,
        name: Vec<u8>,
        mode: u16,
        target: Option<Vec<u8>>,
        number: InodeNo,
    ) -> Told {
        let mut node = Node::new(self.history.identity(), mode, parent);
        node.contents_changed = (self.steps.len(), self.volume.journal().newest_transaction());
        if let Some(target) = target {
            node.size_bytes = target.len() as u64;
            node.target = target;
        }
        let is_directory = node.is_directory();
        if self.tree.nodes.insert(number.0, Arc::new(node)).is_some() {
            return Err(format!("inode {number} is in use already"));
        }
        let directory = self.tree.node_mut(parent);
        directory.entries.insert(name, number.0);
        directory.links += u32::from(is_directory);
        Ok(())
    }

    pub(super) fn link(&mut self, file: u32, parent: u32, name: &[u8]) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let file = pick(&self.tree.select(|node| !node.is_directory()), file);
        let (Some(file), Some(parent)) = (file, self.directory(parent)) else { return Ok(false) };
        let exists = self.tree.node(parent).is_some_and(|node| node.entries.contains_key(name));
        let result = self.volume.link(InodeNo(file), InodeNo(parent), name);
        if self.expect(result, exists.then_some(Error::Exists))?.is_some() {
            self.tree.node_mut(file).links += 1;
            self.tree.node_mut(parent).entries.insert(name.to_vec(), file);
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn unlink(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let Some((parent, name, number)) = pick(&self.tree.names(|_| true), choice) else { return Ok(false) };
        let is_directory = self.tree.node(number).is_some_and(Node::is_directory);
        let result = self.volume.unlink(InodeNo(parent), &name);
        if self.expect(result, is_directory.then_some(Error::IsADirectory))?.is_some() {
            self.tree.node_mut(parent).entries.remove(&name);
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn remove_directory(&mut self, choice: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let names = self.tree.names(Node::is_directory);
        let Some((parent, name, number)) = pick(&names, choice) else { return Ok(false) };
        let is_full = self.tree.node(number).is_some_and(|node| !node.entries.is_empty());
        let result = self.volume.remove_directory(InodeNo(parent), &name);
        if self.expect(result, is_full.then_some(Error::NotEmpty))?.is_some() {
            let directory = self.tree.node_mut(parent);
            directory.entries.remove(&name);
            directory.links -= 1;
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn rename(
        &mut self,
        source: u32,
        to: u32,
        name_choice: u32,
        mode: Mode,
        whiteout: bool,
    ) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let from = pick(&self.tree.names(|_| true), source);
        let (Some((old, old_name, number)), Some(new)) = (from, self.directory(to)) else { return Ok(false) };
        let new_name = name(name_choice);
        // The VFS lets nothing be moved below itself, nor over a directory above it.
        let target = self.tree.node(new).and_then(|node| node.entries.get(&new_name)).copied();
        if self.tree.is_below(new, number) || target.is_some_and(|target| self.tree.is_below(old, target)) {
            return Ok(false);
        }
        let moved_is_directory = self.tree.node(number).is_some_and(Node::is_directory);
        let victim = target.filter(|target| *target != number).and_then(|target| self.tree.node(target));
        let expected = match (mode, target, victim) {
            (Mode::NoReplace, Some(_), _) => Some(Error::Exists),
            (_, _, Some(victim)) => match (moved_is_directory, victim.is_directory()) {
                (true, false) => Some(Error::NotADirectory),
                (false, true) => Some(Error::IsADirectory),
                (true, true) if !victim.entries.is_empty() => Some(Error::NotEmpty),
                _ => None,
            },
            _ => None,
        };
        let left = new_inode(0o020_000);
        let result = self.volume.rename(
            Place { parent: InodeNo(old), name: &old_name },
            Place { parent: InodeNo(new), name: &new_name },
            mode,
            whiteout.then_some(&left),
        );
        if self.expect(result, expected)?.is_none() {
            return Ok(true);
        }
        if target == Some(number) {
            // Two names of one file: nothing happens, though times of the directories may be logged.
            self.step()?;
            return Ok(true);
        }
        if let Some(target) = target {
            let is_directory = self.tree.node(target).is_some_and(Node::is_directory);
            self.tree.node_mut(new).links -= u32::from(is_directory);
            self.tree.drop_name(target);
            self.depend_on_contents(number);
        }
        self.tree.node_mut(old).entries.remove(&old_name);
        self.tree.node_mut(new).entries.insert(new_name, number);
        if moved_is_directory {
            self.tree.node_mut(old).links -= 1;
            self.tree.node_mut(new).links += 1;
            self.tree.node_mut(number).parent = new;
        }
        if whiteout {
            self.find_whiteout(old, old_name)?;
        }
        self.step()?;
        Ok(true)
    }

    /// Who replaces a file by renaming another over it gets the name with all that was written before, or not at all.
    fn depend_on_contents(&mut self, number: u64) {
        let node = self.tree.node_mut(number);
        for (block, mapped) in &mut node.blocks {
            mapped.floor = self.history.newest(mapped.mapping, *block);
        }
    }

    fn find_whiteout(&mut self, parent: u64, name: Vec<u8>) -> Told {
        let entry = told(self.volume.lookup(InodeNo(parent), &name))?.ok_or("no whiteout")?;
        let node = Node::new(self.history.identity(), 0o020_000, parent);
        if self.tree.nodes.insert(entry.inode.0, Arc::new(node)).is_some() {
            return Err(format!("inode {} is in use already", entry.inode));
        }
        self.tree.node_mut(parent).entries.insert(name, entry.inode.0);
        Ok(())
    }

    pub(super) fn exchange(&mut self, first: u32, second: u32) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let names = self.tree.names(|_| true);
        let (Some((old, old_name, one)), Some((new, new_name, other))) =
            (pick(&names, first), pick(&names, second))
        else {
            return Ok(false);
        };
        if one == other || self.tree.is_below(new, one) || self.tree.is_below(old, other) {
            return Ok(false);
        }
        let result = self.volume.rename(
            Place { parent: InodeNo(old), name: &old_name },
            Place { parent: InodeNo(new), name: &new_name },
            Mode::Exchange,
            None,
        );
        self.expect(result, None)?;
        self.tree.node_mut(old).entries.insert(old_name, other);
        self.tree.node_mut(new).entries.insert(new_name, one);
        for (number, from, to) in [(one, old, new), (other, new, old)] {
            if self.tree.node(number).is_some_and(Node::is_directory) {
                self.tree.node_mut(from).links -= 1;
                self.tree.node_mut(to).links += 1;
                self.tree.node_mut(number).parent = to;
            }
        }
        self.step()?;
        Ok(true)
    }

    pub(super) fn fill_directory(&mut self, file: u32, parent: u32, names: u32) -> Told<bool> {
        let mut acted = false;
        for number in 0..names {
            let name = fill_name(number);
            let known = self.directory(parent).and_then(|parent| self.tree.node(parent));
            if known.is_none_or(|node| node.entries.contains_key(&name)) {
                continue;
            }
            acted |= self.link(file, parent, &name)?;
        }
        Ok(acted)
    }

    pub(super) fn empty_directory(&mut self, choice: u32) -> Told<bool> {
        let Some(parent) = pick(&self.tree.select(|node| node.entries.len() > 12), choice) else {
            return Ok(false);
        };
        let names: Vec<(Vec<u8>, u64)> =
            self.tree.node(parent).into_iter().flat_map(|node| node.entries.clone()).collect();
        for (name, number) in names {
            if self.tree.node(number).is_some_and(Node::is_directory) {
                continue;
            }
            self.end_commit_if_crowded()?;
            told(self.volume.unlink(InodeNo(parent), &name))?;
            self.tree.node_mut(parent).entries.remove(&name);
            self.tree.drop_name(number);
            self.step()?;
        }
        Ok(true)
    }

    pub(super) fn remove_orphan(&mut self) -> Told<bool> {
        self.end_commit_if_crowded()?;
        let is_gone = |number: u64| self.tree.node(number).is_none_or(|node| node.links == 0);
        if self.in_flight.iter().any(|write| is_gone(write.number)) {
            // Whoever writes has it open.
            return Ok(false);
        }
        if !told(self.volume.remove_orphan_step())? {
            return Ok(false);
        }
        self.orphans_were_removed()?;
        Ok(true)
    }

    /// The model follows.
    pub(super) fn orphans_were_removed(&mut self) -> Told {
        let survey = Survey::take(&self.volume)?;
        let left = &survey.orphans;
        self.tree.nodes.retain(|number, node| {
            node.links > 0 || *number == ROOT || left.iter().any(|(_, orphan)| orphan == number)
        });
        self.step_as(&survey)
    }
}
