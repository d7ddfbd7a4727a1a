// SPDX-License-Identifier: GPL-2.0

//! The search: depth first through all orders of steps, and what is judged on the way.

use super::machine::{Digests, Machine};
use super::medium::{Medium, Request};
use super::prepared::Prepared;
use super::scripts::Begun;
use super::step::Step;
use super::Counts;
use crate::checker;
use crate::judge::{Judge, Seen, Thoroughness};
use crate::states::{self, Choice, Epoch};
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Up to so many volatile writes, all subsets are tried.
const EXHAUSTIVE_MAX: usize = 9;
/// Of one crash state in so many, by its hash, work goes on afterwards.
const GO_ON_ONE_IN: u128 = 64;

/// Steps, a cut behind them, and what is wrong.
pub(super) type Found = (Vec<Step>, Option<Choice>, String);

/// A search through one script.
pub(super) struct Search {
    depth: usize,
    deadline: Instant,
    /// States that were met, and after how many steps.
    met: HashMap<u128, usize>,
    judged: HashSet<(u128, u64)>,
    digests: Digests,
    counts: Counts,
}

/// Where a path goes on: the steps that were possible, and which is taken.
struct Fork {
    steps: Vec<Step>,
    taken: usize,
}

impl Search {
    /// A search up to `depth` steps.
    pub(super) fn new(depth: usize, deadline: Instant) -> Self {
        Self {
            depth,
            deadline,
            met: HashMap::new(),
            judged: HashSet::new(),
            digests: Digests::new(),
            counts: Counts::default(),
        }
    }

    /// What was met.
    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes all orders; `false`: the time was too short.
    pub(super) fn explore(&mut self, prepared: &Prepared) -> Result<bool, Found> {
        let mut path: Vec<Fork> = Vec::new();
        loop {
            self.execute(prepared, &mut path)?;
            self.counts.schedules += 1;
            while path.last().is_some_and(|fork| fork.taken + 1 == fork.steps.len()) {
                path.pop();
            }
            let Some(fork) = path.last_mut() else { return Ok(true) };
            fork.taken += 1;
            if Instant::now() > self.deadline {
                return Ok(false);
            }
        }
    }

    /// Executes the path, and goes on from its end, always with the first step that is possible, as far as there is anything
    /// new.
    fn execute(&mut self, prepared: &Prepared, path: &mut Vec<Fork>) -> Result<(), Found> {
        let mut digests = std::mem::take(&mut self.digests);
        let medium = Medium::new(&prepared.image, prepared.device_blocks);
        let volume = prepared.mount(&medium).map_err(|what| (Vec::new(), None, what))?;
        let mut machine = Machine::new(prepared, &volume, &medium, &mut digests)
            .map_err(|what| (Vec::new(), None, what))?;
        begin(&mut machine)?;
        let begun = machine.taken.len();
        let mut promises = machine.record.promises.len();
        for fork in path.iter() {
            promises = machine.record.promises.len();
            take(&mut machine, fork.steps[fork.taken])?;
        }
        loop {
            let steps = machine.taken.len() - begun;
            self.counts.longest = self.counts.longest.max(steps);
            match self.met.entry(machine.key()) {
                Entry::Occupied(before) if *before.get() <= steps => break,
                Entry::Occupied(mut before) => _ = before.insert(steps),
                Entry::Vacant(new) => {
                    new.insert(steps);
                    self.counts.states += 1;
                    let has_promised = machine.record.promises.len() > promises;
                    self.judge(&machine, has_promised)
                        .map_err(|(cut, what)| (machine.taken.clone(), Some(cut), what))?;
                }
            }
            if steps >= self.depth {
                break;
            }
            let enabled = machine.enabled();
            let Some(first) = enabled.first().copied() else {
                self.counts.ended += 1;
                break;
            };
            path.push(Fork { steps: enabled, taken: 0 });
            promises = machine.record.promises.len();
            take(&mut machine, first)?;
        }
        drop(machine);
        self.digests = digests;
        Ok(())
    }

    /// Takes these steps, and judges behind each of them.
    pub(super) fn judge_all(&mut self, prepared: &Prepared, steps: &[Step]) -> Result<(), Found> {
        let failed = |what| (Vec::new(), None, what);
        let mut digests = Digests::new();
        let medium = Medium::new(&prepared.image, prepared.device_blocks);
        let volume = prepared.mount(&medium).map_err(failed)?;
        let mut machine = Machine::new(prepared, &volume, &medium, &mut digests).map_err(failed)?;
        for step in steps {
            if !machine.enabled().contains(step) {
                return Ok(());
            }
            let promises = machine.record.promises.len();
            take(&mut machine, *step)?;
            let has_promised = machine.record.promises.len() > promises;
            self.judge(&machine, has_promised)
                .map_err(|(cut, what)| (machine.taken.clone(), Some(cut), what))?;
        }
        Ok(())
    }

    /// Takes these steps, and judges one cut behind them.
    pub(super) fn replay(
        &mut self,
        prepared: &Prepared,
        steps: &[Step],
        cut: Option<&Choice>,
    ) -> Result<(), String> {
        let mut digests = Digests::new();
        let medium = Medium::new(&prepared.image, prepared.device_blocks);
        let volume = prepared.mount(&medium)?;
        let mut machine = Machine::new(prepared, &volume, &medium, &mut digests)?;
        for step in steps {
            if !machine.enabled().contains(step) {
                return Err(format!("{step:?} is not possible any more: the schedule is of another version"));
            }
            machine.take(*step)?;
        }
        let Some(cut) = cut else { return Ok(()) };
        let judge = Judge::new(&machine.record, prepared.force_unit_access);
        let image = medium.at_cut(|epoch, _| epoch.image(cut));
        for go_on in [false, true] {
            let thoroughness = Thoroughness { cut_recovery: false, go_on };
            judge.judge(&image, cut, thoroughness, &mut Seen::default())?;
        }
        checker::check(&image)
    }

    /// Cuts the power in all ways that are new behind the last step.
    fn judge(&mut self, machine: &Machine<'_>, has_promised: bool) -> Result<(), (Choice, String)> {
        let submitted = machine.medium.newly_submitted();
        if submitted.is_empty() && !has_promised {
            return Ok(());
        }
        let judge = Judge::new(&machine.record, machine.prepared.force_unit_access);
        let promised = machine.promised();
        let events = machine.taken.len();
        machine.medium.at_cut(|epoch, requests| {
            let is_new =
                |index: &usize| requests[*index].is_some_and(|request: Request| submitted.contains(&request));
            let new: Vec<usize> = (0..epoch.writes.len()).filter(is_new).collect();
            let mut choices = subsets(epoch, events);
            if !has_promised {
                choices.retain(|choice| new.iter().any(|index| choice.kept[*index]));
            }
            add_tears(epoch, &new, &mut choices);
            for choice in choices {
                let image = epoch.image(&choice);
                if !self.judged.insert((image.hash(), promised)) {
                    continue;
                }
                self.counts.crash_states += 1;
                let go_on = image.hash().is_multiple_of(GO_ON_ONE_IN);
                let thoroughness = Thoroughness { cut_recovery: false, go_on };
                let judged = judge.judge(&image, &choice, thoroughness, &mut Seen::default());
                let judged = judged.and_then(|()| checker::check(&image));
                judged.map_err(|what| (choice, what))?;
            }
            Ok(())
        })
    }
}

fn take(machine: &mut Machine<'_>, step: Step) -> Result<(), Found> {
    machine.medium.begin_step();
    machine.take(step).map_err(|what| (machine.taken.clone(), None, what))
}

/// Takes the steps that every schedule of the script begins with.
fn begin(machine: &mut Machine<'_>) -> Result<(), Found> {
    for begun in machine.prepared.script.begun {
        match begun {
            Begun::Step(step) => take(machine, *step)?,
            Begun::Commit => {
                take(machine, Step::Swap)?;
                while let Some(next) = machine.next_of_commit() {
                    take(machine, next)?;
                }
            }
        }
    }
    Ok(())
}

/// All subsets of what may be lost; of very many, those of [`states::subsets`].
fn subsets(epoch: &Epoch<'_>, events: usize) -> Vec<Choice> {
    let volatile: Vec<usize> =
        (0..epoch.writes.len()).filter(|index| !epoch.writes[*index].durable).collect();
    if volatile.len() > EXHAUSTIVE_MAX {
        return states::subsets(epoch, events, None, events as u64);
    }
    (0..1_u32 << volatile.len())
        .map(|mask| {
            let mut kept = vec![true; epoch.writes.len()];
            for (bit, index) in volatile.iter().enumerate() {
                kept[*index] = mask >> bit & 1 == 0;
            }
            Choice { events, kept, torn: Vec::new() }
        })
        .collect()
}

/// New writes torn, with all others there and with none.
fn add_tears(epoch: &Epoch<'_>, new: &[usize], choices: &mut Vec<Choice>) {
    let (Some(all), Some(none)) = (choices.first().cloned(), choices.last().cloned()) else { return };
    for index in new.iter().filter(|index| epoch.writes[**index].sectors() > 1) {
        for seed in 0..4 {
            for others in [&all, &none] {
                choices.push(Choice { torn: vec![(*index, seed)], ..others.clone() });
            }
        }
    }
}
