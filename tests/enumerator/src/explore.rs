// SPDX-License-Identifier: GPL-2.0

//! Exploring the crash states of one workload, and making a failing one small.

use crate::checker;
use crate::coverage::Coverage;
use crate::disk::Event;
use crate::judge::{Judge, Thoroughness};
use crate::run::{self, Record};
use crate::states::{self, Choice, Epoch};
use crate::workload::Workload;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Something is wrong.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The crash state; `None`: core and model disagreed without one.
    pub choice: Option<Choice>,
    /// What is wrong.
    pub what: String,
}

/// States that have been judged, over all workloads.
#[derive(Default)]
pub struct Known {
    /// Media, by hash.
    pub media: HashSet<u128>,
    judged: HashSet<(u128, usize)>,
}

/// Every so many states recovery is cut.
const CUT_RECOVERY_EVERY: u64 = 48;
/// Every so many states work goes on.
const GO_ON_EVERY: u64 = 16;

/// How much a state is to be examined, by its number.
pub const fn thoroughness(state: u64) -> Thoroughness {
    Thoroughness { cut_recovery: state % CUT_RECOVERY_EVERY == 7, go_on: state % GO_ON_EVERY == 1 }
}

/// Runs the workload and judges some `limit` of its crash states, spread evenly, of each cut one at least, until `deadline`.
pub fn explore(
    workload: &Workload,
    limit: u64,
    deadline: Instant,
    known: &mut Known,
    coverage: &mut Coverage,
) -> Result<(), Violation> {
    let record = run::run(workload).map_err(|disagreement| Violation {
        choice: None,
        what: format!("action {}: {}", disagreement.action, disagreement.what),
    })?;
    coverage.record(workload, &record);
    let total: u64 = each_choice(workload, &record, &mut |_, choices| Ok(choices.len() as u64))?;
    let judge = Judge::new(&record, workload.force_unit_access);
    let mut random = ChaCha8Rng::seed_from_u64(workload.seed);
    let mut number = 0_u64;
    each_choice(workload, &record, &mut |epoch, choices| {
        let is_drawn = |_: &&Choice| total <= limit || random.random_range(0..total) < limit;
        let mut drawn: Vec<&Choice> = choices.iter().filter(is_drawn).collect();
        if drawn.is_empty() {
            drawn.extend(choices.get(coverage.cuts as usize % choices.len().max(1)));
        }
        coverage.cuts += u64::from(!drawn.is_empty() && Instant::now() <= deadline);
        for choice in drawn {
            if Instant::now() > deadline {
                return Ok(0);
            }
            let image = epoch.image(choice);
            coverage.states += 1;
            known.media.insert(image.hash());
            if !known
                .judged
                .insert((image.hash(), judge.promises_at(choice) + (workload.seed as usize) * 10_000))
            {
                continue;
            }
            number += 1;
            let judged = judge.judge(&image, choice, thoroughness(number), &mut coverage.seen);
            let judged = judged.and_then(|()| coverage.examine(&image));
            judged.map_err(|what| Violation { choice: Some(choice.clone()), what })?;
        }
        Ok(0)
    })?;
    Ok(())
}

type EachChoices<'c> = dyn FnMut(&Epoch<'_>, &[Choice]) -> Result<u64, Violation> + 'c;

/// Shows the choices of each cut, and adds up what `visit` says.
fn each_choice(workload: &Workload, record: &Record, visit: &mut EachChoices<'_>) -> Result<u64, Violation> {
    let mut epoch = Epoch { base: record.base.clone(), writes: Vec::new() };
    let mut sum = 0;
    for (index, event) in record.log.iter().enumerate() {
        states::advance(&mut epoch, event);
        if matches!(event, Event::Write(_)) {
            sum += visit(&epoch, &states::choices(&epoch, index + 1, workload.seed))?;
        }
        // What was promised without a flush must hold although nothing new has been written.
        let is_volatile = epoch.writes.iter().any(|write| !write.durable);
        if is_volatile && record.promises.iter().any(|promise| promise.events == index + 1) {
            sum += visit(&epoch, &states::subsets(&epoch, index + 1, None, workload.seed))?;
        }
    }
    Ok(sum)
}

/// Judges one state of a workload again, as thoroughly as can be.
pub fn judge_again(workload: &Workload, choice: Option<&Choice>) -> Result<(), Violation> {
    let record = run::run(workload).map_err(|disagreement| Violation {
        choice: None,
        what: format!("action {}: {}", disagreement.action, disagreement.what),
    })?;
    let Some(choice) = choice else { return Ok(()) };
    let judge = Judge::new(&record, workload.force_unit_access);
    let events = choice.events.min(record.log.len());
    let epoch = states::epoch_at(&record.base, &record.log, events);
    let choice = &epoch.possible(&Choice { events, ..choice.clone() });
    let image = epoch.image(choice);
    for (cut_recovery, go_on) in [(false, false), (true, false), (false, true)] {
        let thoroughness = Thoroughness { cut_recovery, go_on };
        let judged = judge.judge(&image, choice, thoroughness, &mut crate::judge::Seen::default());
        judged.map_err(|what| Violation { choice: Some(choice.clone()), what })?;
    }
    checker::check(&image).map_err(|what| Violation { choice: Some(choice.clone()), what })
}

/// Makes a failing workload smaller while it fails, and then the choice; as far as `time` allows.
pub fn shrink(workload: &Workload, violation: &Violation, time: Duration) -> (Workload, Violation) {
    let deadline = Instant::now() + time;
    let (mut small, mut found) = (workload.clone(), violation.clone());
    let mut piece = small.actions.len().div_ceil(2).max(1);
    while Instant::now() < deadline {
        let mut at = 0;
        let mut has_shrunk = false;
        while at < small.actions.len() && Instant::now() < deadline {
            let mut candidate = small.clone();
            let end = (at + piece).min(candidate.actions.len());
            candidate.actions.drain(at..end);
            match explore(&candidate, 1500, deadline, &mut Known::default(), &mut Coverage::default()) {
                Err(violation) => (small, found, has_shrunk) = (candidate, violation, true),
                Ok(()) => at += piece,
            }
        }
        if piece == 1 && !has_shrunk {
            break;
        }
        piece = (piece / 2).max(1);
    }
    if let Some(choice) = found.choice.clone() {
        found = shrink_choice(&small, choice, found.clone());
    }
    (small, found)
}

/// Loses as little as fails.
fn shrink_choice(workload: &Workload, mut choice: Choice, mut found: Violation) -> Violation {
    let mut attempts = Vec::new();
    for index in 0..choice.torn.len() {
        attempts.push((true, index));
    }
    attempts.extend((0..choice.kept.len()).map(|index| (false, index)));
    for (is_torn, index) in attempts.into_iter().rev() {
        let mut candidate = choice.clone();
        if is_torn {
            candidate.torn.remove(index);
        } else if candidate.kept[index] {
            continue;
        } else {
            candidate.kept[index] = true;
        }
        if let Err(violation) = judge_again(workload, Some(&candidate)) {
            (choice, found) = (candidate, violation);
        }
    }
    Violation { choice: Some(choice), what: found.what }
}
