//! A map from runs of sectors to what they hold, in which the newest insertion wins.
//!
//! It stands for "these changes, in this order, over something older" without copying a byte: the
//! volatile cache, a crash state and the copy-on-write layer of an offered state are all such maps.
//! A run costs the same whether it covers one sector or a terabyte, so that a discard of a whole
//! disk is one node.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::units::{SectorRange, SECTOR_BYTES};

/// A value that holds for a run of sectors and can be cut shorter from the front.
pub trait Segment: Clone {
    /// The value for the same run without its first `sectors` sectors.
    fn skip(&self, sectors: u64) -> Self;
}

/// What a run of sectors holds.
#[derive(Clone, Debug)]
pub enum Content {
    /// Zeroes: written as such, or discarded.
    Zeroes,
    /// Bytes of a write, from `offset_bytes` on; the write's other bytes belong to other runs.
    Bytes {
        /// The data of the whole write.
        data: Arc<[u8]>,
        /// Where this run begins in it.
        offset_bytes: usize,
    },
}

impl Content {
    /// The content of a whole write.
    pub fn of_write(data: Vec<u8>) -> Self {
        Self::Bytes { data: data.into(), offset_bytes: 0 }
    }

    /// Copies as many bytes as `target` takes.
    pub fn copy_to(&self, target: &mut [u8]) {
        match self {
            Self::Zeroes => target.fill(0),
            Self::Bytes { data, offset_bytes } => {
                target.copy_from_slice(&data[*offset_bytes..*offset_bytes + target.len()]);
            }
        }
    }
}

impl Segment for Content {
    fn skip(&self, sectors: u64) -> Self {
        match self {
            Self::Zeroes => Self::Zeroes,
            Self::Bytes { data, offset_bytes } => Self::Bytes {
                data: Arc::clone(data),
                offset_bytes: offset_bytes + (sectors * SECTOR_BYTES) as usize,
            },
        }
    }
}

/// The map. Runs never overlap; neighbours are not merged.
#[derive(Clone, Debug)]
pub struct ExtentMap<T> {
    /// First sector of a run to its end (exclusive) and value.
    runs: BTreeMap<u64, (u64, T)>,
}

impl<T> Default for ExtentMap<T> {
    fn default() -> Self {
        Self { runs: BTreeMap::new() }
    }
}

impl<T: Segment> ExtentMap<T> {
    /// Whether no sector is mapped.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Unmaps everything.
    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// Maps `range` to `value`, over whatever was there.
    pub fn insert(&mut self, range: SectorRange, value: T) {
        self.remove(range);
        self.runs.insert(range.start(), (range.end(), value));
    }

    /// Unmaps `range`, cutting runs that reach into it.
    pub fn remove(&mut self, range: SectorRange) {
        let before = self.runs.range_mut(..range.start()).next_back();
        if let Some((&start, (end, value))) = before {
            if *end > range.end() {
                let rest = (*end, value.skip(range.end() - start));
                *end = range.start();
                self.runs.insert(range.end(), rest);
                return;
            }
            *end = (*end).min(range.start());
        }
        while let Some((&start, _)) = self.runs.range(range.start()..range.end()).next() {
            let Some((end, value)) = self.runs.remove(&start) else { break };
            if end > range.end() {
                self.runs.insert(range.end(), (end, value.skip(range.end() - start)));
            }
        }
    }

    /// Calls `visit` for each part of `range` in order: mapped parts with their value, gaps with
    /// `None`.
    pub fn for_each_part<E>(
        &self,
        range: SectorRange,
        mut visit: impl FnMut(SectorRange, Option<T>) -> Result<(), E>,
    ) -> Result<(), E> {
        let first = self
            .runs
            .range(..=range.start())
            .next_back()
            .filter(|(_, (end, _))| *end > range.start())
            .map_or(range.start(), |(&start, _)| start);
        let mut at = range.start();
        for (&start, (end, value)) in self.runs.range(first..range.end()) {
            if let Some(gap) = SectorRange::new(at, start) {
                visit(gap, None)?;
            }
            let part_start = start.max(range.start());
            if let Some(part) = SectorRange::new(part_start, (*end).min(range.end())) {
                visit(part, Some(value.skip(part_start - start)))?;
                at = part.end();
            }
        }
        match SectorRange::new(at, range.end()) {
            Some(gap) => visit(gap, None),
            None => Ok(()),
        }
    }

    /// The mapped runs in order of their sectors.
    pub fn iter(&self) -> impl Iterator<Item = (SectorRange, &T)> {
        self.runs
            .iter()
            .filter_map(|(&start, (end, value))| SectorRange::new(start, *end).map(|range| (range, value)))
    }

    /// Puts everything that `newer` maps over this map.
    pub fn insert_all(&mut self, newer: Self) {
        for (start, (end, value)) in newer.runs {
            if let Some(range) = SectorRange::new(start, end) {
                self.insert(range, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The value of a run names its insertion and the sector's index within it.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Origin {
        insertion: usize,
        index: u64,
    }

    impl Segment for Origin {
        fn skip(&self, sectors: u64) -> Self {
            Self { insertion: self.insertion, index: self.index + sectors }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_an_array(
            changes in prop::collection::vec((0_u64..64, 1_u64..20, any::<bool>()), 0..60),
            (from, length) in (0_u64..70, 1_u64..30),
        ) {
            let mut map = ExtentMap::default();
            let mut naive = [None; 100];
            for (insertion, &(start, sectors, insert)) in changes.iter().enumerate() {
                let range = SectorRange::new(start, start + sectors).unwrap();
                if insert {
                    map.insert(range, Origin { insertion, index: 0 });
                } else {
                    map.remove(range);
                }
                for index in 0..sectors {
                    naive[(start + index) as usize] = insert.then_some(Origin { insertion, index });
                }
            }
            let mut seen = Vec::new();
            map.for_each_part(SectorRange::new(from, from + length).unwrap(), |part, value| {
                for index in 0..part.sectors() {
                    seen.push(value.map(|origin: Origin| origin.skip(index)));
                }
                Ok::<(), ()>(())
            }).unwrap();
            prop_assert_eq!(&seen[..], &naive[from as usize..(from + length) as usize]);
            let mapped: u64 = map.iter().map(|(range, _)| range.sectors()).sum();
            prop_assert_eq!(mapped as usize, naive.iter().flatten().count());
        }
    }
}
