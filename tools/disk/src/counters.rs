//! Exact counts of what a guest asked of a disk: in total and by epoch.
//!
//! Every request is counted when it is served, lies included: the counters say what was asked, and
//! separately what was not done.

use std::collections::VecDeque;

use serde::Serialize;

/// Epochs whose counts are remembered; older ones are dropped first.
const EPOCHS_KEPT: usize = 1 << 16;

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counts.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds `other` to each count.
            fn add(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }

            /// Each count with its name, in order.
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name)),*]
            }
        }
    };
}

counts! {
    /// Writes, forced ones included.
    writes,
    /// Their bytes.
    write_bytes,
    /// Forced writes (FUA).
    fua_writes,
    /// Their bytes.
    fua_bytes,
    /// Flushes.
    flushes,
    /// Discards.
    discards,
    /// Their bytes.
    discard_bytes,
    /// Requests to write zeroes.
    write_zeroes,
    /// Their bytes.
    write_zeroes_bytes,
    /// Reads.
    reads,
    /// Their bytes.
    read_bytes,
    /// Flushes that were answered and not done.
    lied_flushes,
    /// Forced writes that were answered and not made durable.
    lied_fua_writes,
    /// Changes sent while another change of the same sectors was unanswered: their order is
    /// nobody's promise.
    overlapping_in_flight,
    /// Times that the disk emptied its cache unasked, because it was full.
    cache_full,
    /// What the price list charged, in nanoseconds.
    charged_ns,
}

/// Counts in total and by epoch.
#[derive(Debug, Default)]
pub struct Counters {
    total: Counts,
    epochs: VecDeque<Counts>,
    epochs_dropped: u64,
}

impl Counters {
    /// Counts what one request added.
    pub fn add(&mut self, counts: &Counts) {
        self.total.add(counts);
        if self.epochs.is_empty() {
            self.epochs.push_back(Counts::default());
        }
        if let Some(epoch) = self.epochs.back_mut() {
            epoch.add(counts);
        }
    }

    /// A flush has completed: what follows counts for the next epoch.
    pub fn end_epoch(&mut self) {
        self.epochs.push_back(Counts::default());
        if self.epochs.len() > EPOCHS_KEPT {
            self.epochs.pop_front();
            self.epochs_dropped += 1;
        }
    }

    /// All counts since the last reset.
    pub fn total(&self) -> Counts {
        self.total
    }

    /// The number of the first epoch that is remembered, and the counts from it on.
    pub fn epochs(&self) -> (u64, impl Iterator<Item = &Counts>) {
        (self.epochs_dropped, self.epochs.iter())
    }

    /// Starts again from zero, in epoch 0.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}
