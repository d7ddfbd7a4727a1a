//! Bytes that say where they belong, and files to be compared with what they should hold.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{ensure, Context as _, Result};

/// One step of SplitMix64: well mixed, and known from its input alone.
fn mixed(input: u64) -> u64 {
    let mut value = input.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

/// `length` bytes as they stand from `offset` on in the file that `seed` means; none is zero, which is what holes are.
pub(super) fn bytes(seed: u64, offset: u64, length: usize) -> Vec<u8> {
    let mut found = Vec::with_capacity(length + 16);
    for word in offset / 8..=(offset + length as u64) / 8 {
        found.extend(mixed(seed << 40 ^ word).to_le_bytes().map(|byte| byte | 1));
    }
    let first = (offset % 8) as usize;
    found[first..first + length].to_vec()
}

/// `found` must be `wanted`; the place of the first difference is said.
pub(super) fn same(what: &str, found: &[u8], wanted: &[u8]) -> Result<()> {
    ensure!(found.len() == wanted.len(), "{what}: {} bytes, wanted {}", found.len(), wanted.len());
    let differs = found.iter().zip(wanted).position(|(one, other)| one != other);
    let shown = |bytes: &[u8], place: usize| bytes[place..].iter().take(8).copied().collect::<Vec<_>>();
    if let Some(place) = differs {
        anyhow::bail!(
            "{what}: from byte {place} on {:02x?}, wanted {:02x?}",
            shown(found, place),
            shown(wanted, place)
        );
    }
    Ok(())
}

/// A file and what it should hold.
pub(super) struct Model {
    pub(super) file: File,
    pub(super) content: Vec<u8>,
    seed: u64,
}

impl Model {
    pub(super) fn create(path: &Path, seed: u64) -> Result<Self> {
        let file = File::options().read(true).write(true).create_new(true).open(path);
        Ok(Self { file: file.with_context(|| path.display().to_string())?, content: Vec::new(), seed })
    }

    /// Writes other bytes than before: each call has a pattern of its own.
    pub(super) fn write(&mut self, offset: usize, length: usize) -> Result<()> {
        self.seed += 1;
        let new = bytes(self.seed, offset as u64, length);
        self.file.write_all_at(&new, offset as u64)?;
        if self.content.len() < offset + length {
            self.content.resize(offset + length, 0);
        }
        self.content[offset..offset + length].copy_from_slice(&new);
        Ok(())
    }

    pub(super) fn truncate(&mut self, length: usize) -> Result<()> {
        self.file.set_len(length as u64)?;
        self.content.resize(length, 0);
        Ok(())
    }

    pub(super) fn compare(&self, what: &str) -> Result<()> {
        let mut found = vec![0; self.content.len() + 1];
        let mut length = 0;
        loop {
            let count = self.file.read_at(&mut found[length..], length as u64)?;
            length += count;
            if count == 0 || length == found.len() {
                break;
            }
        }
        same(what, &found[..length], &self.content)?;
        ensure!(self.file.metadata()?.len() == self.content.len() as u64, "{what}: another size");
        Ok(())
    }
}

/// The file must hold `wanted`.
pub(super) fn file_holds(what: &str, path: &Path, wanted: &[u8]) -> Result<()> {
    same(what, &fs::read(path).with_context(|| path.display().to_string())?, wanted)
}
