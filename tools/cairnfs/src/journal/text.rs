// SPDX-License-Identifier: GPL-2.0

//! The same for people.

use super::gather::{EndInfo, HeaderContent, HeaderInfo, RecordInfo, TotalsInfo};
use super::items::{ItemContent, ItemInfo, RunInfo};
use super::list::Listing;
use super::verify::{Outcome, Report};
use cairnfs_core::format::inode::{
    MODE_BLOCK_DEVICE, MODE_CHARACTER_DEVICE, MODE_DIRECTORY, MODE_FIFO, MODE_REGULAR, MODE_SOCKET,
    MODE_SYMLINK, MODE_TYPE,
};
use cairnfs_device::format_bytes;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

/// The line above the records.
pub(super) const RECORD_COLUMNS: &str =
    "    position   sequence transaction  part             bytes   items     stable  flags";

fn line(out: &mut dyn Write, name: &str, value: impl Display) -> io::Result<()> {
    writeln!(out, "{name:<24}{value}")
}

/// One of something, or several.
fn count(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

impl Listing {
    /// Device, headers and ring.
    pub(super) fn write_heading(&self, out: &mut dyn Write) -> io::Result<()> {
        line(out, "device", &self.device)?;
        self.headers.iter().try_for_each(|header| line(out, "journal header", header))?;
        let ring = &self.ring;
        let (size, start) = (format_bytes(ring.bytes), ring.start_block);
        let unit = ring.physical_block_bytes;
        line(out, "ring", format!("{size} from block {start} on, records padded to {unit} bytes"))
    }

    /// Where the records end, and what is of use of them.
    pub(super) fn write_end(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(end) = &self.end else {
            return line(out, "end", "not reached: see the errors");
        };
        line(out, "end", end)?;
        if end.stop == "clean" {
            return Ok(());
        }
        let transactions = count(self.transactions, "whole transaction");
        line(out, "to be replayed", format!("{transactions}, {}", count(self.items, "item")))?;
        line(
            out,
            "discarded",
            format!("{} without the end of the transaction", count(self.discarded_records, "record")),
        )
    }
}

/// A record in a line; with `verbose`, its other fields and its items below.
pub(super) fn write_record(out: &mut dyn Write, record: &RecordInfo, verbose: bool) -> io::Result<()> {
    let part = match record.part {
        "whole" | "wrap" => record.part.to_owned(),
        part => format!("{part} {}/{}", u32::from(record.fragment) + 1, record.fragments),
    };
    let flags = if record.flags.is_empty() { "-".to_owned() } else { record.flags.join(",") };
    writeln!(
        out,
        "{:>12} {:>10} {:>11}  {part:<15} {:>7} {:>7} {:>10}  {flags}",
        record.position,
        record.sequence,
        record.transaction,
        record.bytes,
        record.items.len(),
        record.stable_sequence,
    )?;
    if verbose {
        writeln!(
            out,
            "      block {}, {}, generation {}, tail then at position {}, sequence {}",
            record.block,
            humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(record.timestamp_ns)),
            record.generation,
            record.tail_position,
            record.tail_sequence
        )?;
        record.items.iter().try_for_each(|item| writeln!(out, "      {item}"))?;
    }
    // Without this line nobody would know why the items end here.
    record.item_error.iter().try_for_each(|error| writeln!(out, "      the next item: {error}"))
}

impl HeaderInfo {
    /// What is wrong with it.
    pub(super) fn damage(&self) -> Option<String> {
        let error = self.error.as_ref()?;
        Some(format!("journal header in block {}: {error}", self.block))
    }
}

impl Display for HeaderInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "block {}", self.block)?;
        match (&self.content, &self.error) {
            (Some(content), _) => {
                let newer = if self.is_newer { " (newer)" } else { "" };
                write!(f, ", update {}{newer}: {content}", content.counter)
            }
            (None, error) => write!(f, ": {}", error.as_deref().unwrap_or("cannot be read")),
        }
    }
}

impl Display for HeaderContent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, tail at position {}, sequence {}, generation {}; stable up to sequence {}",
            if self.clean { "clean" } else { "dirty" },
            self.tail_position,
            self.tail_sequence,
            self.tail_generation,
            self.stable_sequence
        )
    }
}

impl Display for TotalsInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} and {} free, {} in use, {}",
            count(self.free_blocks, "block"),
            count(self.free_inodes, "inode"),
            count(u64::from(self.initialised_groups), "group"),
            count(u64::from(self.orphans), "orphan")
        )
    }
}

impl Display for EndInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { position, sequence, generation, reason, .. } = self;
        write!(f, "position {position}, sequence {sequence}, generation {generation}: {reason}")
    }
}

/// The file type of a mode, as find(1) and debugfs(8) call it.
fn file_type(mode: u16) -> &'static str {
    match mode & MODE_TYPE {
        MODE_REGULAR => "regular file",
        MODE_DIRECTORY => "directory",
        MODE_SYMLINK => "symbolic link",
        MODE_BLOCK_DEVICE => "block device",
        MODE_CHARACTER_DEVICE => "character device",
        MODE_FIFO => "pipe",
        MODE_SOCKET => "socket",
        _ => "free",
    }
}

fn bits(runs: &[RunInfo]) -> String {
    let of =
        |used: bool| runs.iter().filter(|run| run.used == used).map(|run| u64::from(run.bits)).sum::<u64>();
    format!("{} used, {} free in {}", of(true), of(false), count(runs.len() as u64, "run"))
}

const fn new(fresh: bool) -> &'static str {
    if fresh {
        "new "
    } else {
        ""
    }
}

impl Display for ItemInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} bytes  {}", self.body_bytes, self.content)
    }
}

impl Display for ItemContent {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { block, block_kind, owner, fresh, ranges } => {
                let changed: usize = ranges.iter().map(|range| range.bytes).sum();
                let ranges = count(ranges.len() as u64, "range");
                let new = new(*fresh);
                write!(f, "block {block}: {new}{block_kind} of inode {owner}, {changed} changed in {ranges}")
            }
            Self::Inode { inode, mode, uid, gid, links, size_bytes, .. } => write!(
                f,
                "inode {inode}: {}, mode {:04o}, owner {uid}:{gid}, {}, size {size_bytes}",
                file_type(*mode),
                mode & !MODE_TYPE,
                count(u64::from(*links), "link")
            ),
            Self::Bitmap { group, of, index, fresh, whole, runs } => {
                let content = if *whole { "all of it".to_owned() } else { bits(runs) };
                write!(f, "bitmap of {of}, group {group}, index {index}: {}{content}", new(*fresh))
            }
            Self::Revoke { block, .. } => write!(f, "revoke of block {block}"),
            Self::Orphan { slot, inode: None, .. } => write!(f, "orphan slot {slot}: empty"),
            Self::Orphan { slot, inode: Some(inode), kind, cause } => {
                let todo = match kind {
                    Some("inode") => "to be freed",
                    Some("truncate") => "to be cut to its size",
                    _ => "of an unknown kind",
                };
                let cause = cause.unwrap_or("an unknown cause");
                write!(f, "orphan slot {slot}: inode {inode}, {todo}, after {cause}")
            }
            Self::Group { group, table_mark } => {
                write!(f, "group {group}: its inode table is initialised up to slot {table_mark}")
            }
            Self::TableZero { group, block, .. } => {
                write!(f, "block {block}: new inode table of group {group}, zero")
            }
            Self::Totals(totals) => write!(f, "totals: {totals}"),
            Self::Operation { .. } => self.write_operation(f),
            Self::Note { text } => write!(f, "note {text:?}"),
            Self::Unknown { kind } => write!(f, "item of unknown kind {kind}, passed over"),
        }
    }
}

impl ItemContent {
    /// As a shell user would say it: `rename of inode 12: "a" in inode 2 to "b", other inode 3`.
    fn write_operation(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self::Operation { operation, inode, parent, other, name, other_name, who } = self else {
            return Ok(());
        };
        write!(f, "{operation} of inode {inode}")?;
        if !name.is_empty() {
            write!(f, ", {name:?}")?;
        }
        if *parent != 0 {
            write!(f, " in directory {parent}")?;
        }
        if !other_name.is_empty() {
            write!(f, " to {other_name:?}")?;
        }
        if *other != 0 {
            write!(f, ", other inode {other}")?;
        }
        match who {
            Some(who) => write!(f, ", by user {}, process {}, {:?}", who.uid, who.pid, who.label),
            None => Ok(()),
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let device = &self.device;
        if let (Some(position), Some(sequence), true) =
            (self.tail_position, self.tail_sequence, self.outcome != Outcome::NothingToReplay)
        {
            writeln!(
                f,
                "{device}: {}, {} bytes, from position {position}, sequence {sequence} on: {}, {}, {} to be discarded",
                count(self.records, "record"),
                self.bytes,
                count(self.transactions, "whole transaction"),
                count(self.items, "item"),
                count(self.discarded_records, "record"),
            )?;
        }
        if let Some(end) = self.end.as_ref().filter(|end| end.stop != "clean") {
            writeln!(f, "{device}: ends at {end}")?;
        }
        for line in &self.damage {
            writeln!(f, "{device}: damage: {line}")?;
        }
        let outcome = match self.outcome {
            Outcome::NothingToReplay => "clean, nothing to replay",
            Outcome::Replays => "dirty, and can be replayed",
            Outcome::Refused => "damaged: a mount would refuse it",
        };
        writeln!(f, "{device}: the journal is {outcome}")
    }
}
