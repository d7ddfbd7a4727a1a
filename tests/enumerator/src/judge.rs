// SPDX-License-Identifier: GPL-2.0

//! The oracle: whether a recovered filesystem keeps what was promised.
//!
//! After recovery the filesystem must be exactly the state after some handle, not before the last one that was promised. Each
//! block of each file must be what was written to it: not older than what the state depends on or `fsync` promised, nothing that
//! had not been submitted, and never anything else; by sectors, because a write in place may be torn.

use crate::disk::{Image, SimulatedDisk};
use crate::model::Tree;
use crate::platform::RepeatablePlatform;
use crate::run::Record;
use crate::states::Choice;
use crate::survey::Survey;
use cairnfs_core::device::Device as _;
use cairnfs_core::error::Error;
use cairnfs_core::inode::NewInode;
use cairnfs_core::journal::replay::chain::Stop;
use cairnfs_core::units::{BlockNo, InodeNo, BLOCK_BYTES, SECTOR_BYTES};
use cairnfs_volume::Volume;
use std::collections::{BTreeMap, HashMap};

const BLOCK: u64 = BLOCK_BYTES as u64;

/// How much is done with a state beyond recovering, checking and comparing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thoroughness {
    /// Cut recovery at each of its writes, and recover again.
    pub cut_recovery: bool,
    /// Go on working, unmount, mount and check again.
    pub go_on: bool,
}

/// What was seen while judging.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How chains ended.
    pub stops: BTreeMap<&'static str, u64>,
    /// Recoveries that had records to discard.
    pub discarding: u64,
    /// Recoveries that had something to replay.
    pub replaying: u64,
    /// States with orphans.
    pub orphans: u64,
    /// States made by cutting a recovery.
    pub recovery_cuts: u64,
    /// States that were worked on afterwards.
    pub gone_on: u64,
}

/// A record and what makes judging by it quick.
pub struct Judge<'r> {
    record: &'r Record,
    by_digest: HashMap<u128, Vec<usize>>,
    force_unit_access: bool,
}

impl<'r> Judge<'r> {
    /// The judge of a record.
    pub fn new(record: &'r Record, force_unit_access: bool) -> Self {
        let mut by_digest: HashMap<u128, Vec<usize>> = HashMap::new();
        for (index, step) in record.steps.iter().enumerate() {
            by_digest.entry(step.digest).or_default().push(index);
        }
        Self { record, by_digest, force_unit_access }
    }

    /// How many promises had been made at a cut: two cuts with one medium and as many promises are one case. A write that is
    /// torn had not completed, and nothing can have been promised by it.
    pub fn promises_at(&self, choice: &Choice) -> usize {
        let last = choice.kept.len().saturating_sub(1);
        let is_torn = choice.torn.iter().any(|(index, _)| *index == last);
        let completed = choice.events - usize::from(is_torn);
        self.record.promises.partition_point(|promise| promise.events <= completed)
    }

    /// Judges a state.
    pub fn judge(
        &self,
        image: &Image,
        choice: &Choice,
        thoroughness: Thoroughness,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let disk = SimulatedDisk::new(image.clone(), thoroughness.cut_recovery, self.force_unit_access);
        let platform = RepeatablePlatform::new(99);
        let volume = Volume::mount(&disk, &platform).map_err(|error| format!("mount: {error:?}"))?;
        let report = *volume.recovery();
        let stop = match report.stop {
            stop if stop == Stop::Clean as u32 => "clean",
            stop if stop == Stop::Torn as u32 => "torn",
            _ => "end",
        };
        *seen.stops.entry(stop).or_default() += 1;
        seen.discarding += u64::from(report.discarded_records > 0);
        seen.replaying += u64::from(report.transactions > 0);
        let survey = Survey::take(&volume)?;
        seen.orphans += u64::from(!survey.orphans.is_empty());
        let step = self.find_step(&survey, choice)?;
        self.check_contents(&disk, &survey, step, choice)?;
        if thoroughness.go_on {
            seen.gone_on += 1;
            self.go_on(&volume, &self.record.steps[step].tree)
                .map_err(|what| format!("after recovery: {what}"))?;
            volume.unmount().map_err(|error| format!("unmount after recovery: {error:?}"))?;
            let volume =
                Volume::mount(&disk, &platform).map_err(|error| format!("mount after unmount: {error:?}"))?;
            if volume.recovery().transactions != 0 {
                return Err("the journal was not clean after unmount".into());
            }
            Survey::take(&volume).map_err(|what| format!("after unmount: {what}"))?;
            return Ok(());
        }
        drop(volume);
        if thoroughness.cut_recovery {
            self.cut_recovery(image, disk, survey.digest, seen)?;
        }
        Ok(())
    }

    fn find_step(&self, survey: &Survey, choice: &Choice) -> Result<usize, String> {
        let promised =
            self.record.promises[..self.promises_at(choice)].iter().map(|promise| promise.step).max();
        let promised = promised.unwrap_or(0);
        let candidates = self.by_digest.get(&survey.digest);
        match candidates.and_then(|steps| steps.last()) {
            Some(step) if *step >= promised => Ok(*step),
            Some(step) => Err(format!("state {step} was recovered, and state {promised} had been promised")),
            None => {
                let named = self.record.steps.iter().position(|step| step.tree.compare(survey).is_ok());
                let nearest = self.record.steps[promised].tree.compare(survey);
                Err(format!(
                    "no state was like this; names as in {named:?}; against the promised one: {nearest:?}"
                ))
            }
        }
    }

    fn check_contents(
        &self,
        disk: &SimulatedDisk,
        survey: &Survey,
        step: usize,
        choice: &Choice,
    ) -> Result<(), String> {
        let tree: &Tree = &self.record.steps[step].tree;
        let mut promised: HashMap<(u64, u64), usize> = HashMap::new();
        for promise in &self.record.promises[..self.promises_at(choice)] {
            for (mapping, block, floor) in &promise.data {
                let known = promised.entry((*mapping, *block)).or_default();
                *known = (*known).max(*floor);
            }
        }
        let mut content = [0; BLOCK_BYTES];
        for (number, found) in &survey.inodes {
            let Some(node) = tree.node(*number) else { continue };
            for extent in &found.extents {
                for index in 0..u64::from(extent.blocks) {
                    let block = extent.file_block.0 + index;
                    let Some(mapped) = node.blocks.get(&block) else { continue };
                    let device_block = BlockNo(extent.block.0 + index);
                    disk.read(device_block, &mut content).map_err(|error| format!("{error:?}"))?;
                    let key = (mapped.mapping, block);
                    let floor = mapped.floor.max(promised.get(&key).copied().unwrap_or(0));
                    let versions = self.record.history.of(mapped.mapping, block);
                    let submitted = versions.partition_point(|(event, _)| *event < choice.events);
                    let allowed = &versions[floor.min(submitted)..submitted];
                    let in_file = (found.size_bytes.saturating_sub(block * BLOCK)).min(BLOCK) as usize;
                    for (sector, bytes) in content[..in_file].chunks(SECTOR_BYTES).enumerate() {
                        let start = sector * SECTOR_BYTES;
                        let is_one = |(_, version): &(usize, crate::model::Content)| {
                            version[start..start + bytes.len()] == *bytes
                        };
                        if !allowed.iter().any(is_one) {
                            let other = versions.iter().position(is_one);
                            return Err(format!(
                                "inode {number}, block {block} (device block {device_block}), sector {sector}: content is \
                                 version {other:?}, allowed are {floor}..{submitted}; state {step}"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Works with the recovered filesystem.
    fn go_on(&self, volume: &Volume<'_>, tree: &Tree) -> Result<(), String> {
        let told = |what: &str, error: Error| format!("{what}: {error:?}");
        volume.remove_orphans().map_err(|error| told("orphans", error))?;
        let survey = Survey::take(volume)?;
        if !survey.orphans.is_empty() {
            return Err("orphans are left".into());
        }
        tree.compare(&survey)?;
        let new = NewInode { mode: 0o100_600, uid: 0, gid: 0, device: 0, flags: 0, project: 0, now_ns: 1 };
        let root = InodeNo(crate::model::ROOT);
        let totals = *volume.journal().totals();
        let is_nearly_full = totals.free_blocks < 120 || totals.free_inodes < 3;
        match volume.create(root, b"after recovery", &new, None) {
            Ok((file, _)) => {
                match volume.write_at(file, 100, &[5; 9000]) {
                    Ok(()) => {}
                    Err(Error::NoSpace) if is_nearly_full => return Survey::take(volume).map(|_| ()),
                    Err(error) => return Err(told("write", error)),
                }
                volume.fsync(file).map_err(|error| told("fsync", error))?;
                volume.link(file, root, b"again").map_err(|error| told("link", error))?;
                volume.unlink(root, b"after recovery").map_err(|error| told("unlink", error))?;
                let content = volume.read_all(file).map_err(|error| told("read", error))?;
                if content.len() != 9100 || content[..100] != [0; 100] || content[100..] != [5; 9000] {
                    return Err("what was written is not what is read".into());
                }
            }
            Err(Error::NoInodes | Error::NoSpace) if is_nearly_full => {}
            Err(error) => return Err(told("create", error)),
        }
        for (parent, name, _) in tree.names(|node| !node.is_directory()).into_iter().take(3) {
            volume.unlink(InodeNo(parent), &name).map_err(|error| told("unlink", error))?;
        }
        Survey::take(volume).map(|_| ())
    }

    /// Cuts the recovery behind each of its writes; what then is recovered must be the same.
    fn cut_recovery(
        &self,
        image: &Image,
        disk: SimulatedDisk,
        digest: u128,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let log = disk.into_log();
        let mut epoch = crate::states::Epoch { base: image.clone(), writes: Vec::new() };
        for (index, event) in log.iter().enumerate() {
            crate::states::advance(&mut epoch, event);
            let choices = crate::states::choices(&epoch, index + 1, index as u64);
            let stride = choices.len() / 3 + 1;
            for choice in choices.iter().skip(index % stride).step_by(stride) {
                seen.recovery_cuts += 1;
                let again = SimulatedDisk::new(epoch.image(choice), false, self.force_unit_access);
                let platform = RepeatablePlatform::new(98);
                let outcome = Volume::mount(&again, &platform).map_err(|error| format!("{error:?}"));
                let outcome = outcome.and_then(|volume| Survey::take(&volume));
                match outcome {
                    Ok(survey) if survey.digest == digest => {}
                    Ok(_) => {
                        return Err(format!("recovery cut behind event {index}, {choice:?}: another state"))
                    }
                    Err(what) => {
                        return Err(format!("recovery cut behind event {index}, {choice:?}: {what}"))
                    }
                }
            }
        }
        Ok(())
    }
}
