//! What a power cut leaves of the changes that no flush covered.
//!
//! Each such change survives whole, in some of its sectors, or not at all. The survivors reach the
//! medium in the order of the log: a disk's cache never puts an older write of a sector over a
//! newer one, so dropping and keeping is all the reordering there is. Changes that were forced
//! (FUA) and answered always survive, which makes them the newest content of their sectors even if
//! an older volatile write to the same sectors survives too.

use std::convert::Infallible;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::epoch_log::{Change, ChangeKind};
use crate::extent_map::{Content, ExtentMap, Segment};
use crate::units::{SectorRange, Seed};

/// A draw tears no write, a few, or most of them.
const TEAR_PROBABILITIES: [f64; 4] = [0.0, 0.02, 0.2, 0.6];

/// The fate of one change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Survival {
    /// All of it reached the medium.
    Whole,
    /// Nothing of it did.
    Lost,
    /// These sectors of it did, counted from its first, end exclusive, in order.
    Torn(Vec<(u64, u64)>),
}

impl Survival {
    /// The fate in which exactly the sectors marked true survive.
    fn of_sectors(kept: &[bool]) -> Self {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for (sector, _) in kept.iter().enumerate().filter(|(_, kept)| **kept) {
            let sector = sector as u64;
            match runs.last_mut() {
                Some((_, end)) if *end == sector => *end += 1,
                _ => runs.push((sector, sector + 1)),
            }
        }
        match runs[..] {
            [] => Self::Lost,
            [(0, end)] if end == kept.len() as u64 => Self::Whole,
            _ => Self::Torn(runs),
        }
    }

    /// The parts of `change` that survive, with their content.
    pub fn surviving_parts(&self, change: &Change) -> Vec<(SectorRange, Content)> {
        let part = |(start, end): (u64, u64)| {
            let first = change.range.start();
            SectorRange::new(first + start, first + end).map(|range| (range, change.content.skip(start)))
        };
        match self {
            Self::Whole => vec![(change.range, change.content.clone())],
            Self::Lost => Vec::new(),
            Self::Torn(runs) => runs.iter().copied().filter_map(part).collect(),
        }
    }
}

/// Ways in which one write can be torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Only its first sector survives.
    FirstSectorOnly,
    /// All but its first sector survive.
    AllButFirst,
    /// All but its last sector survive.
    AllButLast,
    /// A seeded subset survives.
    Scattered(Seed),
}

impl Tear {
    /// What is left of a write of so many sectors, at least two.
    pub fn apply(self, sectors: u64) -> Survival {
        match self {
            Self::FirstSectorOnly => Survival::Torn(vec![(0, 1)]),
            Self::AllButFirst => Survival::Torn(vec![(1, sectors)]),
            Self::AllButLast => Survival::Torn(vec![(0, sectors - 1)]),
            Self::Scattered(seed) => {
                let mut random = ChaCha8Rng::seed_from_u64(seed.0);
                let kept: Vec<bool> = (0..sectors).map(|_| random.random_bool(0.5)).collect();
                Survival::of_sectors(&kept)
            }
        }
    }
}

/// Whether a power cut can tear it: it has two sectors, and their content is data.
pub fn can_tear(change: &Change) -> bool {
    change.kind != ChangeKind::Discard && change.range.sectors() >= 2
}

/// Draws the fate of each change from a seed; forced and answered changes survive.
///
/// The shape of the whole draw is drawn first, because uniform coin tosses over a thousand writes
/// would never show the states that break filesystems: all but one, a prefix, nearly none.
pub fn draw(seed: Seed, changes: &[&Change]) -> Vec<Survival> {
    let mut random = ChaCha8Rng::seed_from_u64(seed.0);
    let volatile: Vec<usize> = (0..changes.len()).filter(|&at| !is_safe(changes[at])).collect();
    let mut keeps = vec![true; changes.len()];
    match random.random_range(0..8) {
        0 => volatile.iter().for_each(|&at| keeps[at] = false),
        1 => {
            let lost = random.random_range(1..=3.min(volatile.len().max(1)));
            let mut order = volatile.clone();
            order.shuffle(&mut random);
            order.iter().take(lost).for_each(|&at| keeps[at] = false);
        }
        shape @ (2 | 3) => {
            let split = random.random_range(0..=volatile.len());
            let lost = if shape == 2 { &volatile[split..] } else { &volatile[..split] };
            lost.iter().for_each(|&at| keeps[at] = false);
        }
        _ => {
            let probability = random.random_range(0.05..0.95);
            volatile.iter().for_each(|&at| keeps[at] = random.random_bool(probability));
        }
    }
    let tear_probability = TEAR_PROBABILITIES[random.random_range(0..TEAR_PROBABILITIES.len())];
    changes
        .iter()
        .zip(keeps)
        .map(|(change, keep)| {
            let whole = if keep { Survival::Whole } else { Survival::Lost };
            if is_safe(change) || !can_tear(change) || !random.random_bool(tear_probability) {
                return whole;
            }
            random_tear(&mut random).apply(change.range.sectors())
        })
        .collect()
}

/// Whether no power cut can lose it.
pub fn is_safe(change: &Change) -> bool {
    change.completed && !change.is_volatile()
}

fn random_tear(random: &mut ChaCha8Rng) -> Tear {
    match random.random_range(0..4) {
        0 => Tear::FirstSectorOnly,
        1 => Tear::AllButFirst,
        2 => Tear::AllButLast,
        _ => Tear::Scattered(Seed(random.random())),
    }
}

/// The place of a change in a list, as the value of the sectors that it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index(usize);

impl Segment for Index {
    fn skip(&self, _sectors: u64) -> Self {
        *self
    }
}

/// How many sectors do not hold what the guest last saw completed there.
///
/// A lost write whose sectors a surviving newer one covers does not count: nobody can see its loss.
pub fn count_lost_sectors(changes: &[&Change], fates: &[Survival]) -> u64 {
    let mut seen = ExtentMap::default();
    let mut held = ExtentMap::default();
    for (index, (change, fate)) in changes.iter().zip(fates).enumerate() {
        if change.completed {
            seen.insert(change.range, Index(index));
        }
        for (range, _) in fate.surviving_parts(change) {
            held.insert(range, Index(index));
        }
    }
    let mut lost = 0;
    for (range, newest) in seen.iter() {
        let count = |part: SectorRange, held: Option<Index>| {
            // A newer change that was still in flight is no loss of the older one.
            if held.is_none_or(|held| held.0 < newest.0) {
                lost += part.sectors();
            }
            Ok::<(), Infallible>(())
        };
        let Ok(()) = held.for_each_part(range, count);
    }
    lost
}
