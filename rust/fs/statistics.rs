// SPDX-License-Identifier: GPL-2.0

//! `/sys/fs/cairnfs/<device>/`: one value a file.
//!
//! Locks: the journal mutex for a moment, for what it guards.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_core::journal::Journal;
use cairnfs_linux::kobject::{Attribute, Directory, Group, Text};
use cairnfs_linux::super_block::SuperBlock;
use kernel::c_str;
use kernel::prelude::*;

/// Makes the directory of a mount.
pub(crate) fn publish(super_block: &SuperBlock<Cairnfs>) -> Result<Directory<Mounted>> {
    Directory::new(&super_block.sysfs(), super_block.name(), super_block.data_arc(), GROUPS)
}

const GROUPS: &[Group<Mounted>] = &[
    Group::new(None, COUNTERS),
    Group::new(Some(c_str!("journal")), JOURNAL),
    Group::new(Some(c_str!("recovery")), RECOVERY),
];

fn number(text: &mut Text<'_>, value: u64) -> Result {
    text.print(format_args!("{value}\n"));
    Ok(())
}

/// A number that the journal knows.
fn of_journal(mounted: &Mounted, text: &mut Text<'_>, value: fn(&mut Journal) -> u64) -> Result {
    number(text, mounted.journaling.locked(|state| value(&mut state.journal)))
}

macro_rules! attributes {
    ($($name:literal: $show:expr;)*) => { &[$(Attribute::new(c_str!($name), $show),)*] };
}

const COUNTERS: &[Attribute<Mounted>] = attributes! {
    "handles": |mounted, text| number(text, mounted.counters.handles.get());
    "checkpoints": |mounted, text| number(text, mounted.counters.checkpoints.get());
    "home_blocks_written": |mounted, text| number(text, mounted.counters.home_blocks.get());
    "orphan_steps": |mounted, text| number(text, mounted.counters.orphan_steps.get());
    "orphans": |mounted, text| number(text, mounted.orphans.lock().len() as u64);
    "available_blocks": |mounted, text| number(text, mounted.ledger.lock().available_blocks());
    "cached_blocks": |mounted, text| number(text, mounted.metadata.cached_blocks() as u64);
    "error": |mounted, text| {
        match mounted.journaling.locked(|state| state.journal.error()) {
            Some(error) => text.print(format_args!("{error}\n")),
            None => text.print(format_args!("none\n")),
        }
        Ok(())
    };
};

const JOURNAL: &[Attribute<Mounted>] = attributes! {
    "size_bytes": |mounted, text| of_journal(mounted, text, |journal| journal.ring().bytes());
    "used_bytes": |mounted, text| of_journal(mounted, text, |journal| journal.ring().used_bytes());
    "head_position": |mounted, text| of_journal(mounted, text, |journal| journal.ring().head().tail.position.0);
    "tail_position": |mounted, text| of_journal(mounted, text, |journal| journal.tail().tail.position.0);
    "generation": |mounted, text| of_journal(mounted, text, |journal| journal.ring().generation().0.into());
    "next_sequence": |mounted, text| of_journal(mounted, text, |journal| journal.ring().head().tail.sequence.0);
    "stable_sequence": |mounted, text| of_journal(mounted, text, |journal| journal.stable_sequence().0);
    "running_transaction": |mounted, text| of_journal(mounted, text, |journal| journal.running_transaction().0);
    "stable_transaction": |mounted, text| of_journal(mounted, text, |journal| journal.stable_transaction().0);
    "commits": |mounted, text| number(text, mounted.counters.commits.get());
    "bytes_written": |mounted, text| number(text, mounted.counters.journal_bytes.get());
    "flushes": |mounted, text| number(text, mounted.counters.flushes.get());
    "room_waits": |mounted, text| number(text, mounted.counters.room_waits.get());
};

const RECOVERY: &[Attribute<Mounted>] = attributes! {
    "time_ns": |mounted, text| number(text, mounted.recovery.time_ns);
    "duration_ns": |mounted, text| number(text, mounted.recovery.duration_ns);
    "first_sequence": |mounted, text| number(text, mounted.recovery.first_sequence.0);
    "end_sequence": |mounted, text| number(text, mounted.recovery.end_sequence.0);
    "transactions": |mounted, text| number(text, mounted.recovery.transactions);
    "items": |mounted, text| number(text, mounted.recovery.items);
    "discarded_records": |mounted, text| number(text, mounted.recovery.discarded_records);
    "orphans": |mounted, text| number(text, mounted.recovery.orphans.into());
    "stop_reason": |mounted, text| number(text, mounted.recovery.stop.into());
};
