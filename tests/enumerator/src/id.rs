// SPDX-License-Identifier: GPL-2.0

//! Names of crash states: base32 of a seed and the actions that were left, or of a script and its steps, and what was kept of
//! the writes; and of mutated journals.

use crate::interleave::{Schedule, Step};
use crate::states::Choice;
use crate::workload::Workload;
use anyhow::{ensure, Context as _, Result};
use data_encoding::BASE32_NOPAD;

/// The first byte: what the rest means. A state of a workload,
const VERSION: u8 = 1;
/// or of a schedule.
const SCHEDULE: u8 = 2;
/// or of a mutation of a workload's journal.
const MUTATION: u8 = 3;

/// What an id names.
#[derive(Debug)]
pub enum Named {
    /// A state of a workload; `None`: the workload without a cut.
    State(Workload, Option<Choice>),
    /// A schedule.
    Schedule(Schedule),
    /// A mutated journal: the workload's seed, and which mutation of it.
    Mutation(u64, u64),
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_bits(bytes: &mut Vec<u8>, bits: &[bool]) {
    put_number(bytes, bits.len() as u64);
    for eight in bits.chunks(8) {
        bytes.push(eight.iter().enumerate().map(|(bit, set)| u8::from(*set) << bit).sum());
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.0.split_first().context("the id is too short")?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        anyhow::bail!("a number in the id is too long")
    }

    fn bits(&mut self) -> Result<Vec<bool>> {
        let count = self.number()? as usize;
        ensure!(count / 8 <= self.0.len(), "the id is too short");
        let mut bits = Vec::with_capacity(count);
        for index in 0..count {
            let byte = self.0[index / 8];
            bits.push(byte >> (index % 8) & 1 != 0);
        }
        self.0 = &self.0[count.div_ceil(8)..];
        Ok(bits)
    }
}

/// The id of a state of a workload, which is a part of its seed's; `None`: of the workload without a cut.
pub fn encode(workload: &Workload, choice: Option<&Choice>) -> String {
    let whole = Workload::from_seed(workload.seed);
    let mut left = workload.actions.iter().peekable();
    let kept: Vec<bool> = whole
        .actions
        .iter()
        .map(|action| {
            left.next_if(|next| (next.kind, next.choices) == (action.kind, action.choices)).is_some()
        })
        .collect();
    let mut bytes = vec![VERSION];
    put_number(&mut bytes, workload.seed);
    put_bits(&mut bytes, &kept);
    put_choice(&mut bytes, choice);
    BASE32_NOPAD.encode(&bytes).to_lowercase()
}

/// The id of a schedule and its cut.
pub fn encode_schedule(schedule: &Schedule) -> String {
    let mut bytes = vec![SCHEDULE];
    put_number(&mut bytes, schedule.script as u64);
    bytes.push(u8::from(schedule.force_unit_access));
    put_number(&mut bytes, schedule.steps.len() as u64);
    bytes.extend(schedule.steps.iter().map(|step| step.encode()));
    put_choice(&mut bytes, schedule.cut.as_ref());
    BASE32_NOPAD.encode(&bytes).to_lowercase()
}

/// The id of a mutated journal.
pub fn encode_mutation(seed: u64, number: u64) -> String {
    let mut bytes = vec![MUTATION];
    put_number(&mut bytes, seed);
    put_number(&mut bytes, number);
    BASE32_NOPAD.encode(&bytes).to_lowercase()
}

fn put_choice(bytes: &mut Vec<u8>, choice: Option<&Choice>) {
    if let Some(choice) = choice {
        put_number(bytes, choice.events as u64);
        put_bits(bytes, &choice.kept);
        put_number(bytes, choice.torn.len() as u64);
        for (index, seed) in &choice.torn {
            put_number(bytes, *index as u64);
            put_number(bytes, *seed);
        }
    }
}

/// What an id names.
pub fn decode(id: &str) -> Result<Named> {
    let bytes = BASE32_NOPAD.decode(id.trim().to_uppercase().as_bytes()).context("the id is not base32")?;
    let mut reader = Reader(&bytes);
    match reader.byte()? {
        VERSION => {
            let (workload, choice) = decode_state(&mut reader)?;
            Ok(Named::State(workload, choice))
        }
        SCHEDULE => Ok(Named::Schedule(decode_schedule(&mut reader)?)),
        MUTATION => Ok(Named::Mutation(reader.number()?, reader.number()?)),
        _ => anyhow::bail!("the id is of another version"),
    }
}

fn decode_schedule(reader: &mut Reader<'_>) -> Result<Schedule> {
    let script = reader.number()? as usize;
    let force_unit_access = reader.byte()? != 0;
    let mut steps = Vec::new();
    for _ in 0..reader.number()? {
        steps.push(Step::decode(reader.byte()?).context("a step in the id is unknown")?);
    }
    Ok(Schedule { script, force_unit_access, steps, cut: decode_choice(reader)? })
}

fn decode_state(reader: &mut Reader<'_>) -> Result<(Workload, Option<Choice>)> {
    let mut workload = Workload::from_seed(reader.number()?);
    let kept = reader.bits()?;
    ensure!(kept.len() == workload.actions.len(), "the id's workload is another one by now");
    let mut keep = kept.iter();
    workload.actions.retain(|_| keep.next().copied().unwrap_or(false));
    Ok((workload, decode_choice(reader)?))
}

fn decode_choice(reader: &mut Reader<'_>) -> Result<Option<Choice>> {
    if reader.0.is_empty() {
        return Ok(None);
    }
    let events = reader.number()? as usize;
    let kept = reader.bits()?;
    let mut torn = Vec::new();
    for _ in 0..reader.number()? {
        torn.push((reader.number()? as usize, reader.number()?));
    }
    Ok(Some(Choice { events, kept, torn }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interleave::Request;

    #[test]
    fn an_id_names_what_it_was_made_of() {
        let mut workload = Workload::from_seed(77);
        workload.actions.remove(3);
        workload.actions.truncate(8);
        let choice = Choice { events: 300, kept: vec![true, false, true], torn: vec![(2, u64::MAX)] };
        let Named::State(again, found) = decode(&encode(&workload, Some(&choice))).unwrap() else {
            panic!("it names a state of a workload");
        };
        assert_eq!(found, Some(choice));
        let choices =
            |workload: &Workload| workload.actions.iter().map(|action| action.choices).collect::<Vec<_>>();
        assert_eq!(choices(&again), choices(&workload));
        assert!(decode("aaaa").is_err());
    }

    #[test]
    fn a_mutation_has_an_id() {
        let Named::Mutation(seed, number) = decode(&encode_mutation(u64::MAX, 99)).unwrap() else {
            panic!("it names a mutation");
        };
        assert_eq!((seed, number), (u64::MAX, 99));
    }

    #[test]
    fn a_schedule_has_an_id() {
        let steps = vec![Step::Thread(1), Step::Swap, Step::Complete(Request::Home(3)), Step::Evict];
        let cut = Some(Choice { events: 4, kept: vec![true, false], torn: vec![(1, 3)] });
        let schedule = Schedule { script: 2, force_unit_access: true, steps, cut };
        let Named::Schedule(again) = decode(&encode_schedule(&schedule)).unwrap() else {
            panic!("it names a schedule");
        };
        assert_eq!(again, schedule);
    }
}
