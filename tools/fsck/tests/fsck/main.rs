// SPDX-License-Identifier: GPL-2.0

//! The checker on whole filesystems, sound, broken and hostile, and the command around it.

mod command_line;
mod findings;
mod hostile;
mod image;
mod random_use;
