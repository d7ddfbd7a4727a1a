// SPDX-License-Identifier: GPL-2.0

//! What a power cut may leave.
//!
//! A cut comes behind some event of the log. What was flushed before is there, and every FUA write that had completed; of the
//! other writes since the last flush any subset may be, and the write that was under way may be torn at sectors, as may any that
//! was volatile. Where writes overlap, the later one wins if it was kept. With few writes since the flush all subsets are
//! tried, each at the first cut that allows it, and again where something was promised in between; with many, prefixes, suffixes,
//! omissions of one and two, and seeded random ones.

use crate::disk::{Event, Image, Write};
use cairnfs_core::units::SECTOR_BYTES;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// Up to so many volatile writes, all subsets are tried.
pub const EXHAUSTIVE_MAX: usize = 10;
/// Random subsets and tears at a cut with more.
const RANDOM_SUBSETS: u64 = 24;

/// A crash state of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Events that had been submitted.
    pub events: usize,
    /// For each write since the last flush: whether it is kept. FUA writes are, unless the last one.
    pub kept: Vec<bool>,
    /// Writes of which only some sectors are kept: which write, and the seed of which sectors.
    pub torn: Vec<(usize, u64)>,
}

/// The log up to a cut: the durable medium at the last flush, and the writes since.
pub struct Epoch<'l> {
    /// Everything that was flushed.
    pub base: Image,
    /// Writes since.
    pub writes: Vec<&'l Write>,
}

impl Epoch<'_> {
    /// The choice, in so far as a disk could make it: an id may come from another version of core, whose writes were others. A
    /// FUA write that had completed is there; only the last write may not have.
    pub fn possible(&self, choice: &Choice) -> Choice {
        let count = self.writes.len();
        let fits = choice.kept.len() == count;
        let is_sure = |index: usize| {
            let may_tear = fits && index + 1 == count;
            self.writes.get(index).is_none_or(|write| write.durable && !may_tear)
        };
        let kept = (0..count).map(|index| {
            let durable = self.writes[index].durable;
            durable || choice.kept.get(index).copied().unwrap_or(true)
        });
        let torn = choice.torn.iter().copied().filter(|(index, _)| !is_sure(*index));
        Choice { events: choice.events, kept: kept.collect(), torn: torn.collect() }
    }

    /// The medium that the choice leaves.
    pub fn image(&self, choice: &Choice) -> Image {
        let mut image = self.base.clone();
        for (index, write) in self.writes.iter().enumerate() {
            if let Some((_, seed)) = choice.torn.iter().find(|(torn, _)| *torn == index) {
                tear(&mut image, write, *seed);
            } else if choice.kept.get(index).copied().unwrap_or(false) {
                image.write(write.start_byte, &write.bytes);
            }
        }
        image
    }
}

fn tear(image: &mut Image, write: &Write, seed: u64) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Half of the tears end somewhere, the others have holes.
    let end = random.random_range(0..=write.sectors());
    let has_holes = seed & 1 != 0;
    for (sector, bytes) in write.bytes.chunks(SECTOR_BYTES).enumerate() {
        let keep = if has_holes { random.random() } else { sector < end };
        if keep {
            image.write(write.start_byte + (sector * SECTOR_BYTES) as u64, bytes);
        }
    }
}

/// The epoch of a cut behind `events` events.
pub fn epoch_at<'l>(base: &Image, log: &'l [Event], events: usize) -> Epoch<'l> {
    let mut epoch = Epoch { base: base.clone(), writes: Vec::new() };
    for event in &log[..events] {
        advance(&mut epoch, event);
    }
    epoch
}

/// Lets one more event happen.
pub fn advance<'l>(epoch: &mut Epoch<'l>, event: &'l Event) {
    match event {
        Event::Write(write) => epoch.writes.push(write),
        Event::Flush => {
            for write in epoch.writes.drain(..) {
                epoch.base.write(write.start_byte, &write.bytes);
            }
        }
    }
}

/// The choices of a cut behind `events` events, the last of which was a write.
pub fn choices(epoch: &Epoch<'_>, events: usize, seed: u64) -> Vec<Choice> {
    let Some(last) = epoch.writes.len().checked_sub(1) else { return Vec::new() };
    let mut choices = subsets(epoch, events, Some(last), seed);
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ (events as u64) << 20);
    let tears = if epoch.writes[last].sectors() > 1 { 3 } else { 0 };
    for tear in 0..tears {
        let mut choice = choices[random.random_range(0..choices.len())].clone();
        choice.torn.push((last, random.random::<u64>() & !1 | (tear & 1)));
        choices.push(choice);
    }
    let volatile: Vec<usize> = (0..last).filter(|index| !epoch.writes[*index].durable).collect();
    if !volatile.is_empty() {
        for _ in 0..2 {
            let mut choice = choices[random.random_range(0..choices.len())].clone();
            for _ in 0..random.random_range(1..=volatile.len().min(3)) {
                let index = volatile[random.random_range(0..volatile.len())];
                if epoch.writes[index].sectors() > 1 && !choice.torn.iter().any(|(torn, _)| *torn == index) {
                    choice.torn.push((index, random.random()));
                }
            }
            choices.push(choice);
        }
    }
    choices
}

/// The subsets at a cut: with `last`, those in which that write is kept; without, all.
pub fn subsets(epoch: &Epoch<'_>, events: usize, last: Option<usize>, seed: u64) -> Vec<Choice> {
    let volatile: Vec<usize> = (0..epoch.writes.len())
        .filter(|index| Some(*index) != last && !epoch.writes[*index].durable)
        .collect();
    let count = volatile.len();
    let all = Choice { events, kept: vec![true; epoch.writes.len()], torn: Vec::new() };
    let without = |dropped: &[usize]| {
        let mut choice = all.clone();
        for index in dropped {
            choice.kept[volatile[*index]] = false;
        }
        choice
    };
    if count < EXHAUSTIVE_MAX {
        return (0..1_u32 << count)
            .map(|mask| without(&(0..count).filter(|bit| mask >> bit & 1 != 0).collect::<Vec<_>>()))
            .collect();
    }
    let mut choices = vec![without(&[]), without(&(0..count).collect::<Vec<_>>())];
    for index in 0..count {
        choices.push(without(&(index..count).collect::<Vec<_>>()));
        choices.push(without(&(0..index).collect::<Vec<_>>()));
        choices.push(without(&[index]));
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ events as u64);
    for _ in 0..RANDOM_SUBSETS {
        choices.push(without(&[random.random_range(0..count), random.random_range(0..count)]));
        choices.push(without(&(0..count).filter(|_| random.random()).collect::<Vec<_>>()));
    }
    choices
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(durable: bool) -> Write {
        Write { start_byte: 0, bytes: vec![1; 2 * SECTOR_BYTES].into(), durable }
    }

    #[test]
    fn a_fua_write_that_had_completed_is_there_whatever_was_chosen() {
        let writes = [write(true), write(false), write(true)];
        let epoch = Epoch { base: Image::new(1), writes: writes.iter().collect() };
        let choice = |kept: &[bool], torn: &[(usize, u64)]| Choice {
            events: 3,
            kept: kept.to_vec(),
            torn: torn.to_vec(),
        };
        let possible = epoch.possible(&choice(&[false; 3], &[(0, 7), (1, 8), (2, 9)]));
        assert_eq!(possible, choice(&[true, false, true], &[(1, 8), (2, 9)]));
        let from_another = epoch.possible(&choice(&[false; 2], &[(1, 8), (2, 9), (5, 1)]));
        assert_eq!(from_another, choice(&[true, false, true], &[(1, 8)]));
    }
}
