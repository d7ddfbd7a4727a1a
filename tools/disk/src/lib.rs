//! The project's own disk: an NBD server whose medium sits behind a volatile cache, so that power
//! can be cut, crash states enumerated, writes and flushes counted and priced, all exactly.
//!
//! From the inside out: `units`, `extent_map` and `image` hold bytes; `epoch_log` knows what
//! happened in which order; `survival`, `power_cut` and `crash_state` know what a cut may leave of
//! it; `prices`, `lies` and `counters` are what else a disk can do; `disk` is all of these together
//! and `machine` the disks of one machine with the commands of `command`; `protocol`, `handshake`,
//! `control_export` and `server` bring them to a guest. On the guest's side `client` speaks the
//! protocol, `kernel_client` hands a connection to the guest's kernel, and `control_client` gives
//! commands. docs/disk.md is the manual.

pub mod client;
pub mod command;
pub mod control_client;
pub mod control_export;
pub mod counters;
pub mod crash_state;
pub mod disk;
pub mod epoch_log;
pub mod extent_map;
pub mod handshake;
pub mod image;
pub mod kernel_client;
pub mod lies;
pub mod machine;
pub mod power_cut;
pub mod prices;
pub mod protocol;
pub mod recording_file;
pub mod server;
pub mod survival;
pub mod units;
pub mod volatile_cache;
