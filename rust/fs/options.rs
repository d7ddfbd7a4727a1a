// SPDX-License-Identifier: GPL-2.0

//! Mount options: what they are, what they are when nobody gives them, and what may be changed while mounted.
//!
//! Only options that work are in the table: VFS refuses all others by name.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use crate::mounted::Mounted;
use cairnfs_linux::fs_context;
use cairnfs_linux::fs_parser::{EnumValue, Parameter, Parameters};
use cairnfs_linux::seq_file::SeqFile;
use cairnfs_linux::super_block::SuperBlock;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use kernel::c_str;
use kernel::prelude::*;

/// What was given to a mount, or to a remount; `None`: nothing, so it stays as it is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    /// A journal that is not clean is left alone: what is read may be older than what was acknowledged, and contradictory.
    pub(crate) no_recovery: bool,
    commit_interval_s: Option<u64>,
    checkpoint_interval_s: Option<u64>,
    group_delay_us: Option<u64>,
    group_max_ops: Option<u64>,
    journal_high_water_pct: Option<u64>,
    shuts_down_on_errors: Option<bool>,
}

const NO_RECOVERY: u8 = 1;
const COMMIT_INTERVAL: u8 = 2;
const CHECKPOINT_INTERVAL: u8 = 3;
const GROUP_DELAY: u8 = 4;
const GROUP_MAX: u8 = 5;
const HIGH_WATER: u8 = 6;
const ERRORS: u8 = 7;

const ERRORS_CONTINUE: u32 = 0;
const ERRORS_REMOUNT_RO: u32 = 1;

const ERRORS_VALUES: &[EnumValue] = &[
    EnumValue::new(c_str!("continue"), ERRORS_CONTINUE),
    EnumValue::new(c_str!("remount-ro"), ERRORS_REMOUNT_RO),
    EnumValue::end(),
];

const TABLE: &[Parameter] = &[
    Parameter::flag(c_str!("norecovery"), NO_RECOVERY),
    Parameter::u32(c_str!("commit_interval_s"), COMMIT_INTERVAL),
    Parameter::u32(c_str!("checkpoint_interval_s"), CHECKPOINT_INTERVAL),
    Parameter::u32(c_str!("group_delay_us"), GROUP_DELAY),
    Parameter::u32(c_str!("group_max_ops"), GROUP_MAX),
    Parameter::u32(c_str!("journal_high_water_pct"), HIGH_WATER),
    Parameter::enumeration(c_str!("errors"), ERRORS, ERRORS_VALUES),
    Parameter::end(),
];

/// The longest interval: an hour.
const INTERVAL_MAX_S: u64 = 3600;
/// The longest that a leader waits for others: a tenth of a second.
const GROUP_DELAY_MAX_US: u64 = 100_000;

/// What is given must lie in the range.
fn within(name: &str, value: u64, least: u64, most: u64) -> Result<Option<u64>> {
    if value < least || value > most {
        pr_err!("{name}={value}: it is from {least} to {most}\n");
        return Err(EINVAL);
    }
    Ok(Some(value))
}

impl fs_context::Operations for Cairnfs {
    const PARAMETERS: Parameters = Parameters::new(TABLE);

    fn parse_param(options: &mut Options, number: u8, value: u64) -> Result {
        match number {
            NO_RECOVERY => options.no_recovery = true,
            COMMIT_INTERVAL => {
                options.commit_interval_s = within("commit_interval_s", value, 1, INTERVAL_MAX_S)?
            }
            CHECKPOINT_INTERVAL => {
                options.checkpoint_interval_s = within("checkpoint_interval_s", value, 1, INTERVAL_MAX_S)?;
            }
            GROUP_DELAY => options.group_delay_us = within("group_delay_us", value, 0, GROUP_DELAY_MAX_US)?,
            GROUP_MAX => options.group_max_ops = within("group_max_ops", value, 1, u64::from(u32::MAX))?,
            HIGH_WATER => {
                options.journal_high_water_pct = within("journal_high_water_pct", value, 5, 90)?;
            }
            ERRORS => options.shuts_down_on_errors = Some(value == u64::from(ERRORS_REMOUNT_RO)),
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn check_flag(name: &'static str) -> Result {
        pr_err!("Unknown parameter '{name}'\n");
        Err(EINVAL)
    }

    fn check_new_mount(options: &Options, read_only: bool) -> Result {
        if options.no_recovery && !read_only {
            pr_err!("norecovery needs ro: a journal that was left alone must not be written to\n");
            return Err(EINVAL);
        }
        Ok(())
    }

    fn reconfigure(super_block: &SuperBlock<Self>, options: &Options, read_only: bool) -> Result {
        let mounted = super_block.data_arc();
        if options.no_recovery && !mounted.no_recovery {
            pr_err!("norecovery is for new mounts: recovery has been done\n");
            return Err(EINVAL);
        }
        if read_only && !super_block.is_read_only() {
            // VFS leaves that to us. What is dirty now could not be written afterwards.
            super_block.sync_for_remount()?;
        }
        Mounted::remount(&mounted, super_block, read_only)?;
        mounted.settings.set(options);
        // The threads sleep for as long as was said before.
        mounted.journaling.commit_wanted.signal();
        mounted.journaling.checkpoint_wanted.signal();
        Ok(())
    }
}

/// The options that hold.
pub(crate) struct Settings {
    commit_interval_s: AtomicU64,
    checkpoint_interval_s: AtomicU64,
    group_delay_us: AtomicU64,
    group_max_ops: AtomicU64,
    journal_high_water_pct: AtomicU64,
    shuts_down_on_errors: AtomicBool,
}

const COMMIT_INTERVAL_S: u64 = 5;
const CHECKPOINT_INTERVAL_S: u64 = 30;
/// As long as ten of the fastest commits take, and unnoticed beside one of the slow ones.
const GROUP_DELAY_US: u64 = 1000;
const GROUP_MAX_OPS: u64 = 64;
const JOURNAL_HIGH_WATER_PCT: u64 = 50;

impl Settings {
    /// What holds when nothing is given, and what is given.
    pub(crate) fn new(options: &Options) -> Self {
        let settings = Self {
            commit_interval_s: AtomicU64::new(COMMIT_INTERVAL_S),
            checkpoint_interval_s: AtomicU64::new(CHECKPOINT_INTERVAL_S),
            group_delay_us: AtomicU64::new(GROUP_DELAY_US),
            group_max_ops: AtomicU64::new(GROUP_MAX_OPS),
            journal_high_water_pct: AtomicU64::new(JOURNAL_HIGH_WATER_PCT),
            shuts_down_on_errors: AtomicBool::new(false),
        };
        settings.set(options);
        settings
    }

    fn set(&self, options: &Options) {
        let numbers = [
            (&self.commit_interval_s, options.commit_interval_s),
            (&self.checkpoint_interval_s, options.checkpoint_interval_s),
            (&self.group_delay_us, options.group_delay_us),
            (&self.group_max_ops, options.group_max_ops),
            (&self.journal_high_water_pct, options.journal_high_water_pct),
        ];
        for (setting, given) in numbers {
            if let Some(value) = given {
                setting.store(value, Ordering::Relaxed);
            }
        }
        if let Some(value) = options.shuts_down_on_errors {
            self.shuts_down_on_errors.store(value, Ordering::Relaxed);
        }
    }

    /// What is running is committed at the latest after so long.
    pub(crate) fn commit_interval_s(&self) -> u64 {
        self.commit_interval_s.load(Ordering::Relaxed)
    }

    /// What is committed goes home at the latest after so long.
    pub(crate) fn checkpoint_interval_s(&self) -> u64 {
        self.checkpoint_interval_s.load(Ordering::Relaxed)
    }

    /// A leader waits so long at the most for others to join.
    pub(crate) fn group_delay_us(&self) -> u64 {
        self.group_delay_us.load(Ordering::Relaxed)
    }

    /// A leader waits for so many at the most.
    pub(crate) fn group_max_ops(&self) -> u64 {
        self.group_max_ops.load(Ordering::Relaxed)
    }

    /// From this part of the ring on a checkpoint begins.
    pub(crate) fn journal_high_water_pct(&self) -> u64 {
        self.journal_high_water_pct.load(Ordering::Relaxed)
    }

    /// `errors=remount-ro`: also an error of a single object ends all writing.
    pub(crate) fn shuts_down_on_errors(&self) -> bool {
        self.shuts_down_on_errors.load(Ordering::Relaxed)
    }

    /// Shows what differs from what holds when nothing is given.
    pub(crate) fn show(&self, text: &mut SeqFile<'_>) {
        let numbers = [
            ("commit_interval_s", self.commit_interval_s(), COMMIT_INTERVAL_S),
            ("checkpoint_interval_s", self.checkpoint_interval_s(), CHECKPOINT_INTERVAL_S),
            ("group_delay_us", self.group_delay_us(), GROUP_DELAY_US),
            ("group_max_ops", self.group_max_ops(), GROUP_MAX_OPS),
            ("journal_high_water_pct", self.journal_high_water_pct(), JOURNAL_HIGH_WATER_PCT),
        ];
        for (name, value, default) in numbers {
            if value != default {
                text.print(format_args!(",{name}={value}"));
            }
        }
        if self.shuts_down_on_errors() {
            text.print(format_args!(",errors=remount-ro"));
        }
    }
}
