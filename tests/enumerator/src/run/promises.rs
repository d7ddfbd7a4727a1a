// SPDX-License-Identifier: GPL-2.0

//! Actions of the journal: commits, in one go or in parts, checkpoints, and what each of them promises.

use super::{pick, told, Promise, Run, Told};
use crate::model::{Mapped, Node};
use cairnfs_core::units::InodeNo;

impl Run<'_> {
    pub(super) fn promise(&mut self, data: Vec<(u64, u64, usize)>) {
        let step = self.steps.len() - 1;
        self.promise_step(step, data);
    }

    fn promise_step(&mut self, step: usize, data: Vec<(u64, u64, usize)>) {
        self.promises.push(Promise { events: self.disk.events(), step, data });
    }

    pub(super) fn fsync(&mut self, choice: u32) -> Told<bool> {
        self.end_commit()?;
        let Some(number) = pick(&self.tree.select(|_| true), choice) else { return Ok(false) };
        told(self.volume.fsync(InodeNo(number)))?;
        let data = self.newest_contents(number)?;
        self.promise(data);
        Ok(true)
    }

    pub(super) fn fdatasync(&mut self, choice: u32) -> Told<bool> {
        self.end_commit()?;
        let Some(number) = pick(&self.tree.select(Node::is_regular), choice) else { return Ok(false) };
        let (step, transaction) = self.tree.node(number).ok_or("no node")?.contents_changed;
        told(self.volume.fdatasync(InodeNo(number), transaction))?;
        let data = self.newest_contents(number)?;
        self.promise_step(step, data);
        Ok(true)
    }

    fn newest_contents(&self, number: u64) -> Told<Vec<(u64, u64, usize)>> {
        let node = self.tree.node(number).ok_or("no node")?;
        let newest = |(block, mapped): (&u64, &Mapped)| {
            (mapped.mapping, *block, self.history.newest(mapped.mapping, *block))
        };
        Ok(node.blocks.iter().map(newest).collect())
    }

    pub(super) fn sync(&mut self) -> Told<bool> {
        self.end_commit()?;
        told(self.volume.commit())?;
        self.promise(Vec::new());
        Ok(true)
    }

    pub(super) fn lazy_commit(&mut self) -> Told<bool> {
        self.end_commit()?;
        let Some(commit) = told(self.volume.begin_commit(false))? else { return Ok(false) };
        told(self.volume.write_commit(&commit))?;
        told(self.volume.end_commit(commit, Ok(())))?;
        Ok(true)
    }

    pub(super) fn begin_commit(&mut self) -> Told<bool> {
        self.end_commit()?;
        let step = self.steps.len() - 1;
        let Some(commit) = told(self.volume.begin_commit(true))? else { return Ok(false) };
        self.commit = Some((commit, step));
        Ok(true)
    }

    pub(super) fn end_commit(&mut self) -> Told<bool> {
        let Some((commit, step)) = self.commit.take() else { return Ok(false) };
        told(self.volume.write_commit(&commit))?;
        told(self.volume.end_commit(commit, Ok(())))?;
        self.promise_step(step, Vec::new());
        Ok(true)
    }

    pub(super) fn checkpoint(&mut self) -> Told<bool> {
        self.end_commit()?;
        told(self.volume.checkpoint())?;
        self.promise(Vec::new());
        Ok(true)
    }

    /// With `held` the writes are under way until [`Run::settle`].
    pub(super) fn write_home(&mut self, limit: usize, held: bool) -> Told<bool> {
        self.disk.hold(held);
        let units = self.volume.write_home(limit);
        self.disk.hold(false);
        let units = told(units)?;
        let acted = !units.is_empty();
        self.homes.extend(units);
        Ok(acted)
    }

    pub(super) fn settle(&mut self) -> Told<bool> {
        let units = std::mem::take(&mut self.homes);
        self.disk.land();
        told(self.volume.settle_home(&units))?;
        Ok(!units.is_empty())
    }
}
