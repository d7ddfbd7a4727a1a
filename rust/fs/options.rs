// SPDX-License-Identifier: GPL-2.0

//! Mount options, and what may be mounted with them.
//!
//! Only options that work are in the table: VFS refuses all others by name.

#![forbid(unsafe_code)]

use crate::module::Cairnfs;
use cairnfs_linux::fs_context;
use cairnfs_linux::fs_parser::{Parameter, Parameters};
use cairnfs_linux::super_block::SuperBlock;
use kernel::c_str;
use kernel::prelude::*;

/// The options of a mount.
#[derive(Default)]
pub(crate) struct Options {
    /// A journal that is not clean is left alone: what is read may be older than what was acknowledged, and contradictory.
    pub(crate) no_recovery: bool,
}

const NO_RECOVERY: u8 = 1;

const TABLE: &[Parameter] = &[Parameter::flag(c_str!("norecovery"), NO_RECOVERY), Parameter::end()];

impl fs_context::Operations for Cairnfs {
    const PARAMETERS: Parameters = Parameters::new(TABLE);

    fn parse_param(options: &mut Options, number: u8) -> Result {
        match number {
            NO_RECOVERY => options.no_recovery = true,
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    fn check_new_mount(_options: &Options, read_only: bool) -> Result {
        check_read_only(read_only)
    }

    fn reconfigure(super_block: &SuperBlock<Self>, options: &Options, read_only: bool) -> Result {
        if options.no_recovery && !super_block.data().no_recovery() {
            pr_err!("norecovery is for new mounts: recovery has been done\n");
            return Err(EINVAL);
        }
        check_read_only(read_only)
    }
}

/// EROFS is what mount(8) takes as the advice to try again with `ro`.
fn check_read_only(read_only: bool) -> Result {
    if !read_only {
        pr_err!("this version of the module mounts read-only: use -o ro\n");
        return Err(EROFS);
    }
    Ok(())
}
