// SPDX-License-Identifier: GPL-2.0

//! The crash enumerator: power cuts at every write of a workload on the shared core, in memory, by the thousand.
//!
//! A [`workload`] runs on core, through the user-space mount, over a [`disk`] with a volatile cache; a [`model`] runs beside it.
//! Then the [`states`] that a cut could have left are built from what had reached the disk, each is recovered by core's own
//! replay, walked and checked ([`survey`], and core's [`checker`]), and judged by what had been promised ([`judge`]).
//! Beside that, [`interleave`] tries all orders of a few steps.

pub mod checker;
pub mod coverage;
pub mod disk;
pub mod explore;
pub mod id;
pub mod interleave;
pub mod judge;
pub mod model;
pub mod mutate;
pub mod platform;
pub mod run;
pub mod scenes;
pub mod scripted;
pub mod states;
pub mod survey;
pub mod workload;
