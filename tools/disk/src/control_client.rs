//! The guest's side of the control export: a block device to write commands to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use crate::control_export::CONTROL_BYTES;
use crate::units::SECTOR_BYTES;

/// Direct I/O wants its memory aligned to the device's block size.
const ALIGNMENT_BYTES: usize = 4096;
/// Answers are read in pieces of this size until one holds a zero byte.
const PIECE_BYTES: usize = 64 << 10;

/// The control export, opened as a block device.
#[derive(Debug)]
pub struct ControlClient {
    device: File,
    buffer: Vec<u8>,
}

impl ControlClient {
    /// Opens the device.
    pub fn open(device: &Path) -> io::Result<Self> {
        let direct = OFlags::DIRECT.bits() as i32;
        let device = OpenOptions::new().read(true).write(true).custom_flags(direct).open(device)?;
        Ok(Self { device, buffer: vec![0; PIECE_BYTES + ALIGNMENT_BYTES] })
    }

    /// Gives a command; an error says why it was refused.
    pub fn command(&mut self, line: &str) -> io::Result<()> {
        if line.len() > SECTOR_BYTES as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a command is one sector"));
        }
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT_BYTES);
        let sector = &mut self.buffer[start..start + SECTOR_BYTES as usize];
        sector.fill(0);
        sector[..line.len()].copy_from_slice(line.as_bytes());
        match self.device.write_all_at(sector, 0) {
            Ok(()) => Ok(()),
            Err(error) => {
                let answer = self.answer()?;
                Err(io::Error::other(format!("`{line}`: {error}: {}", answer.trim_end())))
            }
        }
    }

    /// The answer to the last command, its first line `ok` or `error: ...`.
    pub fn answer(&mut self) -> io::Result<String> {
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT_BYTES);
        let mut answer = Vec::new();
        while (answer.len() as u64) < CONTROL_BYTES {
            let piece = &mut self.buffer[start..start + PIECE_BYTES];
            self.device.read_exact_at(piece, answer.len() as u64)?;
            let length = piece.iter().position(|byte| *byte == 0);
            answer.extend(&piece[..length.unwrap_or(PIECE_BYTES)]);
            if length.is_some() {
                break;
            }
        }
        String::from_utf8(answer).map_err(io::Error::other)
    }

    /// Gives a command and returns its answer.
    pub fn ask(&mut self, line: &str) -> io::Result<String> {
        self.command(line)?;
        self.answer()
    }
}
