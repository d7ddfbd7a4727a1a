//! Power cuts: when they come and what they decide.
//!
//! A cut that loses nothing the guest saw completed tests nothing that killing the virtual machine
//! would not, so it is drawn again with the next seed, and the report says how often.

use serde::Serialize;

use crate::epoch_log::{Change, ChangeKind};
use crate::survival::{count_lost_sectors, draw, is_safe, Survival};
use crate::units::Seed;

/// Draws before a cut accepts that it loses nothing.
const DRAWS: u64 = 64;

/// When an armed cut comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CutMoment {
    /// Instead of answering the n-th change from now on.
    AtChange(u64),
    /// Instead of doing the n-th flush from now on.
    AtFlush(u64),
    /// Instead of doing the first honest flush after one that was a lie.
    AfterLie,
}

/// A cut that waits for its moment. It waits on past it until there is something to lose.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ArmedCut {
    #[serde(skip)]
    /// What it will be drawn from.
    pub seed: Seed,
    moment: CutMoment,
}

impl ArmedCut {
    /// Arms a cut.
    pub fn new(seed: Seed, moment: CutMoment) -> Self {
        Self { seed, moment }
    }

    /// Whether the power goes at this change.
    pub fn is_due_at_change(&mut self, can_lose: bool) -> bool {
        let CutMoment::AtChange(left) = &mut self.moment else { return false };
        *left = left.saturating_sub(1);
        *left == 0 && can_lose
    }

    /// Whether the power goes at this flush, which is a lie or not, as one before it was or not.
    pub fn is_due_at_flush(&mut self, is_lie: bool, lied_before: bool, can_lose: bool) -> bool {
        match &mut self.moment {
            CutMoment::AtChange(_) => false,
            CutMoment::AtFlush(left) => {
                *left = left.saturating_sub(1);
                *left == 0 && can_lose
            }
            CutMoment::AfterLie => !is_lie && lied_before && can_lose,
        }
    }
}

/// What a cut did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CutReport {
    /// The seed that was asked for.
    pub seed: u64,
    /// How many draws were thrown away because they lost nothing.
    pub redraws: u64,
    /// Changes that the guest saw completed and no flush had made durable.
    pub completed_volatile: u64,
    /// Completed writes lost as a whole.
    pub dropped_writes: u64,
    /// Completed writes lost in part.
    pub torn_writes: u64,
    /// Completed discards lost.
    pub dropped_discards: u64,
    /// Sectors that do not hold what the guest saw completed.
    pub lost_sectors: u64,
    /// Changes that were still unanswered; they may have survived all the same.
    pub in_flight: u64,
}

/// Decides the fate of each pending change, in order.
pub fn decide(seed: Seed, changes: &[&Change]) -> (Vec<Survival>, CutReport) {
    let at_risk = |change: &&&Change| change.completed && !is_safe(change);
    let completed_volatile = changes.iter().filter(at_risk).count() as u64;
    let mut redraws = 0;
    loop {
        let drawn_from = if redraws == 0 { seed } else { seed.derive(redraws) };
        let fates = draw(drawn_from, changes);
        let lost_sectors = count_lost_sectors(changes, &fates);
        if lost_sectors > 0 || completed_volatile == 0 || redraws + 1 == DRAWS {
            let report = CutReport {
                seed: seed.0,
                redraws,
                completed_volatile,
                lost_sectors,
                in_flight: changes.iter().filter(|change| !change.completed).count() as u64,
                ..count_fates(changes, &fates)
            };
            return (fates, report);
        }
        redraws += 1;
    }
}

fn count_fates(changes: &[&Change], fates: &[Survival]) -> CutReport {
    let mut report = CutReport::default();
    for (change, fate) in changes.iter().zip(fates).filter(|(change, _)| change.completed) {
        match (change.kind, fate) {
            (_, Survival::Whole) => {}
            (ChangeKind::Discard, _) => report.dropped_discards += 1,
            (_, Survival::Lost) => report.dropped_writes += 1,
            (_, Survival::Torn(_)) => report.torn_writes += 1,
        }
    }
    report
}
