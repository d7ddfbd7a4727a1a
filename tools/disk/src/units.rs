//! The kinds of number that the disk deals in, each a type of its own.
//!
//! A sector is 512 bytes whatever block size an export advertises: it is the unit in which a real
//! medium is written atomically, so the unit of tears.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The unit of a tear, and the alignment of every request.
pub const SECTOR_BYTES: u64 = 512;

/// A non-empty run of sectors, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SectorRange {
    start_sector: u64,
    end_sector: u64,
}

impl SectorRange {
    /// The sectors from `start_sector` up to `end_sector`; `None` if that is none.
    pub fn new(start_sector: u64, end_sector: u64) -> Option<Self> {
        (start_sector < end_sector).then_some(Self { start_sector, end_sector })
    }

    /// The sectors of a request in bytes; `None` if it is empty, unaligned or overflows.
    pub fn from_bytes(offset_bytes: u64, length_bytes: u64) -> Option<Self> {
        let end_bytes = offset_bytes.checked_add(length_bytes)?;
        if !offset_bytes.is_multiple_of(SECTOR_BYTES) || !length_bytes.is_multiple_of(SECTOR_BYTES) {
            return None;
        }
        Self::new(offset_bytes / SECTOR_BYTES, end_bytes / SECTOR_BYTES)
    }

    /// First sector.
    pub fn start(self) -> u64 {
        self.start_sector
    }

    /// One past the last sector.
    pub fn end(self) -> u64 {
        self.end_sector
    }

    /// How many sectors.
    pub fn sectors(self) -> u64 {
        self.end_sector - self.start_sector
    }

    /// Where the first sector begins.
    pub fn offset_bytes(self) -> u64 {
        self.start_sector * SECTOR_BYTES
    }

    /// How many bytes.
    pub fn length_bytes(self) -> u64 {
        self.sectors() * SECTOR_BYTES
    }

    /// What two ranges share.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.start_sector.max(other.start_sector), self.end_sector.min(other.end_sector))
    }
}

/// The place of an entry in a disk's log; later entries have larger numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryNumber(pub u64);

impl EntryNumber {
    /// The number after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for EntryNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The index of a crash state in a recording's enumeration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StateNumber(pub u64);

impl fmt::Display for StateNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What every random decision is drawn from: the same seed gives the same decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// An independent seed for a second use of this one; `salt` tells the uses apart.
    ///
    /// This is the output function of the SplitMix64 generator, which is a bijection: two seeds
    /// never derive to one.
    pub fn derive(self, salt: u64) -> Self {
        let mut z = self.0.wrapping_add(salt.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(z ^ (z >> 31))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A size as people write it: a number with an optional binary suffix K, M, G or T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeBytes(pub u64);

impl FromStr for SizeBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, shift) = match text.as_bytes().last() {
            Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
            Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
            Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
            Some(b'T' | b't') => (&text[..text.len() - 1], 40),
            _ => (text, 0),
        };
        let number: u64 = digits.parse().map_err(|_| format!("`{text}` is not a size"))?;
        let bytes =
            number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is more than 64 bits hold"))?;
        if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) {
            return Err(format!("`{text}` is not a positive multiple of {SECTOR_BYTES} bytes"));
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!("64M".parse(), Ok(SizeBytes(64 << 20)));
        assert_eq!("4096".parse(), Ok(SizeBytes(4096)));
        assert_eq!("1t".parse(), Ok(SizeBytes(1 << 40)));
        for wrong in ["", "0", "511", "x", "M", "16777216T"] {
            assert!(wrong.parse::<SizeBytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn unaligned_or_overflowing_requests_are_no_range() {
        assert_eq!(SectorRange::from_bytes(512, 1024), SectorRange::new(1, 3));
        for (offset, length) in [(1, 512), (512, 5), (0, 0), (u64::MAX - 511, 512)] {
            assert_eq!(SectorRange::from_bytes(offset, length), None);
        }
    }
}
