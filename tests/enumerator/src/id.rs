// SPDX-License-Identifier: GPL-2.0

//! Names of crash states: base32 of a seed, the actions that were left, and what was kept of the writes.

use crate::states::Choice;
use crate::workload::Workload;
use anyhow::{ensure, Context as _, Result};
use data_encoding::BASE32_NOPAD;

/// The first byte: what the rest means.
const VERSION: u8 = 1;

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
        .map(|action| left.next_if(|next| next.choices == action.choices).is_some())
        .collect();
    let mut bytes = vec![VERSION];
    put_number(&mut bytes, workload.seed);
    put_bits(&mut bytes, &kept);
    if let Some(choice) = choice {
        put_number(&mut bytes, choice.events as u64);
        put_bits(&mut bytes, &choice.kept);
        put_number(&mut bytes, choice.torn.len() as u64);
        for (index, seed) in &choice.torn {
            put_number(&mut bytes, *index as u64);
            put_number(&mut bytes, *seed);
        }
    }
    BASE32_NOPAD.encode(&bytes).to_lowercase()
}

/// The workload and the state that an id names.
pub fn decode(id: &str) -> Result<(Workload, Option<Choice>)> {
    let bytes = BASE32_NOPAD.decode(id.trim().to_uppercase().as_bytes()).context("the id is not base32")?;
    let mut reader = Reader(&bytes);
    ensure!(reader.byte()? == VERSION, "the id is of another version");
    let mut workload = Workload::from_seed(reader.number()?);
    let kept = reader.bits()?;
    ensure!(kept.len() == workload.actions.len(), "the id's workload is another one by now");
    let mut keep = kept.iter();
    workload.actions.retain(|_| keep.next().copied().unwrap_or(false));
    if reader.0.is_empty() {
        return Ok((workload, None));
    }
    let events = reader.number()? as usize;
    let kept = reader.bits()?;
    let mut torn = Vec::new();
    for _ in 0..reader.number()? {
        torn.push((reader.number()? as usize, reader.number()?));
    }
    Ok((workload, Some(Choice { events, kept, torn })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_what_it_was_made_of() {
        let mut workload = Workload::from_seed(77);
        workload.actions.remove(3);
        workload.actions.truncate(8);
        let choice = Choice { events: 300, kept: vec![true, false, true], torn: vec![(2, u64::MAX)] };
        let (again, found) = decode(&encode(&workload, Some(&choice))).unwrap();
        assert_eq!(found, Some(choice));
        let choices =
            |workload: &Workload| workload.actions.iter().map(|action| action.choices).collect::<Vec<_>>();
        assert_eq!(choices(&again), choices(&workload));
        assert!(decode("aaaa").is_err());
    }
}
