//! A recording in one file, so that one boot records and a later one examines.
//!
//! Layout: 16 bytes of magic and version, the index's length in bytes (8, little endian), the index
//! (JSON), then the data of the base image and of all writes, at offsets that the index gives. The
//! file is a test artefact: it is read by the version of the tool that wrote it.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::crash_state::Recording;
use crate::epoch_log::{Change, ChangeKind, Durability, Entry, Event};
use crate::extent_map::Content;
use crate::image::Image;
use crate::units::{EntryNumber, SectorRange};

const MAGIC: &[u8; 16] = b"cairnfs-record-1";

#[derive(Serialize, Deserialize)]
struct Index {
    size_bytes: u64,
    earlier_marks: Vec<String>,
    /// Non-zero runs of the base image; their data comes first.
    base: Vec<SectorRange>,
    entries: Vec<IndexEntry>,
}

#[derive(Serialize, Deserialize)]
struct IndexEntry {
    number: EntryNumber,
    event: IndexEvent,
}

#[derive(Serialize, Deserialize)]
enum IndexEvent {
    Write { range: SectorRange, forced: bool, completed: bool },
    WriteZeroes { range: SectorRange, forced: bool, completed: bool },
    Discard { range: SectorRange, forced: bool, completed: bool },
    Flush { covers_before: EntryNumber, honest: bool },
    Mark(String),
}

/// Writes a recording to a new file.
pub fn save(recording: &Recording, path: &Path) -> io::Result<()> {
    let mut base = Vec::new();
    recording.base.for_each_data(|offset_bytes, bytes| {
        base.extend(SectorRange::from_bytes(offset_bytes, bytes.len() as u64));
        Ok(())
    })?;
    let entries = recording.entries.iter().map(IndexEntry::of).collect();
    let earlier_marks = recording.earlier_marks.iter().map(ToString::to_string).collect();
    let index = Index { size_bytes: recording.base.size_bytes(), earlier_marks, base, entries };
    let index = serde_json::to_vec(&index)?;

    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(MAGIC)?;
    file.write_all(&(index.len() as u64).to_le_bytes())?;
    file.write_all(&index)?;
    recording.base.for_each_data(|_, bytes| file.write_all(bytes))?;
    for change in recording.entries.iter().filter_map(Entry::change) {
        if change.kind == ChangeKind::Write {
            let mut bytes = vec![0; change.range.length_bytes() as usize];
            change.content.copy_to(&mut bytes);
            file.write_all(&bytes)?;
        }
    }
    file.into_inner()?.sync_all()
}

/// Reads a recording.
pub fn load(path: &Path) -> io::Result<Recording> {
    let mut file = io::BufReader::new(File::open(path)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if &magic != MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a recording of this version"));
    }
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut index = Vec::new();
    file.by_ref().take(u64::from_le_bytes(length)).read_to_end(&mut index)?;
    let index: Index = serde_json::from_slice(&index)?;

    let mut base = Image::zeroes(index.size_bytes);
    for range in index.base {
        check_range(range, index.size_bytes)?;
        base.write(range, read_content(&mut file, range)?)?;
    }
    let mut entries = Vec::with_capacity(index.entries.len());
    for entry in index.entries {
        let event = entry.event.read(&mut file, index.size_bytes)?;
        entries.push(Entry { number: entry.number, event });
    }
    let earlier_marks = index.earlier_marks.into_iter().map(Arc::from).collect();
    Ok(Recording { base, earlier_marks, entries })
}

fn check_range(range: SectorRange, size_bytes: u64) -> io::Result<()> {
    if range.start() >= range.end() || range.end() > size_bytes / crate::units::SECTOR_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a range lies outside the medium"));
    }
    Ok(())
}

fn read_content(file: &mut impl Read, range: SectorRange) -> io::Result<Content> {
    let mut bytes = vec![0; range.length_bytes() as usize];
    file.read_exact(&mut bytes)?;
    Ok(Content::of_write(bytes))
}

impl IndexEntry {
    fn of(entry: &Entry) -> Self {
        let event = match &entry.event {
            Event::Flush { covers_before, honest } => {
                IndexEvent::Flush { covers_before: *covers_before, honest: *honest }
            }
            Event::Mark(text) => IndexEvent::Mark(text.to_string()),
            Event::Change(change) => {
                let Change { range, completed, .. } = *change;
                let forced = change.durability == Durability::Forced;
                match change.kind {
                    ChangeKind::Write => IndexEvent::Write { range, forced, completed },
                    ChangeKind::WriteZeroes => IndexEvent::WriteZeroes { range, forced, completed },
                    ChangeKind::Discard => IndexEvent::Discard { range, forced, completed },
                }
            }
        };
        Self { number: entry.number, event }
    }
}

impl IndexEvent {
    fn read(self, file: &mut impl Read, size_bytes: u64) -> io::Result<Event> {
        let (kind, range, forced, completed) = match self {
            Self::Flush { covers_before, honest } => {
                return Ok(Event::Flush { covers_before, honest });
            }
            Self::Mark(text) => return Ok(Event::Mark(Arc::from(text))),
            Self::Write { range, forced, completed } => (ChangeKind::Write, range, forced, completed),
            Self::WriteZeroes { range, forced, completed } => {
                (ChangeKind::WriteZeroes, range, forced, completed)
            }
            Self::Discard { range, forced, completed } => (ChangeKind::Discard, range, forced, completed),
        };
        check_range(range, size_bytes)?;
        let content = match kind {
            ChangeKind::Write => read_content(file, range)?,
            ChangeKind::WriteZeroes | ChangeKind::Discard => Content::Zeroes,
        };
        let durability = if forced { Durability::Forced } else { Durability::Volatile };
        Ok(Event::Change(Change { range, content, kind, durability, completed }))
    }
}
