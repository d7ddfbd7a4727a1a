//! The export named `control`: a guest writes a command into one sector and reads the answer.
//!
//! It is a disk because a disk is what every guest can open, in a first boot, in a second one, and
//! from a shell with nothing but `dd`. Both the write and the read must be direct: an answer in a
//! guest's page cache is an old one.

use std::sync::{Mutex, PoisonError};

use crate::machine::{Machine, Origin};
use crate::units::{SectorRange, SECTOR_BYTES};

/// The name of the export.
pub const CONTROL_EXPORT: &str = "control";
/// Its size, and so the longest answer.
pub const CONTROL_BYTES: u64 = 4 << 20;

/// The export.
#[derive(Debug, Default)]
pub struct ControlExport {
    answer: Mutex<Vec<u8>>,
}

impl ControlExport {
    /// Does what the sector says; false if that failed, and then the answer says why.
    pub fn write(&self, machine: &Machine, range: SectorRange, data: &[u8]) -> bool {
        let result = match std::str::from_utf8(data) {
            _ if range.sectors() != 1 => Err("a command is one sector of 512 bytes".to_owned()),
            Err(_) => Err("a command is text".to_owned()),
            Ok(text) => {
                let line = text.trim_end_matches('\0');
                machine.command(line, Origin::Guest).map_err(|error| error.to_string())
            }
        };
        let is_done = result.is_ok();
        let text = match result {
            Ok(answer) => format!("ok\n{answer}"),
            Err(error) => format!("error: {error}\n"),
        };
        let text = if text.len() as u64 > CONTROL_BYTES {
            format!("error: the answer has {} bytes; ask on the control socket\n", text.len())
        } else {
            text
        };
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = text.into_bytes();
        is_done
    }

    /// The answer to the last command, with zeroes behind it.
    pub fn read(&self, range: SectorRange) -> Vec<u8> {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        let from = range.offset_bytes() as usize;
        let wanted = answer.iter().skip(from).copied().chain(std::iter::repeat(0));
        wanted.take(range.length_bytes() as usize).collect()
    }

    /// Whether a range lies within the export.
    pub fn holds(range: SectorRange) -> bool {
        range.end() * SECTOR_BYTES <= CONTROL_BYTES
    }
}
