//! Lies: the disk answers a flush or a forced write as done and does nothing of the kind.
//!
//! A crash test that passes on a lying disk tests nothing; this is how that is found out.

use serde::Serialize;

use crate::units::Seed;

/// What the disk lies about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lie {
    /// Nothing.
    #[default]
    None,
    /// Every flush; forced writes are honest.
    Flush,
    /// Every forced write; flushes are honest.
    ForcedWrite,
    /// Both.
    All,
    /// One flush, after so many honest ones, that has something to make durable; afterwards nothing.
    OneFlushAfter(u64),
}

impl Lie {
    /// A lie about one flush among the next `among`, which the seed picks.
    pub fn one_flush(seed: Seed, among: u64) -> Self {
        Self::OneFlushAfter(seed.derive(0).0 % among.max(1))
    }

    /// Whether the flush being served is a lie. Counts it. The one flush is not wasted on one that has nothing to do.
    pub fn tells_of_flush(&mut self, can_lose: bool) -> bool {
        match self {
            Self::None | Self::ForcedWrite => false,
            Self::Flush | Self::All => true,
            Self::OneFlushAfter(0) => {
                if can_lose {
                    *self = Self::None;
                }
                can_lose
            }
            Self::OneFlushAfter(left) => {
                *left -= 1;
                false
            }
        }
    }

    /// Whether the forced write being served is a lie.
    pub fn tells_of_forced_write(self) -> bool {
        matches!(self, Self::ForcedWrite | Self::All)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seeded_flush_is_dropped_and_only_one() {
        let mut dropped_at = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut lie = Lie::one_flush(Seed(seed), 7);
            let told: Vec<bool> = (0..20).map(|_| lie.tells_of_flush(true)).collect();
            assert_eq!(told.iter().filter(|told| **told).count(), 1);
            dropped_at.insert(told.iter().position(|told| *told));
            assert!(!lie.tells_of_forced_write());
        }
        assert_eq!(dropped_at, (0..7).map(Some).collect());
    }

    #[test]
    fn a_flush_with_nothing_to_do_is_not_worth_the_lie() {
        let mut lie = Lie::one_flush(Seed(1), 1);
        let told = [false, false, true, true].map(|can_lose| lie.tells_of_flush(can_lose));
        assert_eq!(told, [false, false, true, false]);
    }
}
