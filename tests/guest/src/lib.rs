//! What runs inside the virtual machines of the tests.
//!
//! * [`channel`]: the frames that host and guest exchange over a virtio port.
//! * [`serve`]: the guest's end of it: runs the programs that the host asks for.
//! * [`boot`]: the first process of a lean guest, which has no other user space.
//! * [`tap`]: results in the Test Anything Protocol, for guest tests in Rust.
//! * [`cases`], [`filesystem`], [`shutdown`], [`status`]: what the tests of a mounted filesystem share.
//! * [`names`], [`data`]: their cases.
//! * [`dirty`], [`large_directory`], [`shapes`]: filesystems that are made on the host, and what must be seen of them.
//!
//! The host's end is `scripts/vmlib` (`channel.py`, `guest.py`).

pub mod boot;
pub mod cases;
pub mod channel;
pub mod data;
pub mod dirty;
pub mod filesystem;
pub mod large_directory;
pub mod names;
pub mod serve;
pub mod shapes;
pub mod shutdown;
pub mod status;
pub mod tap;
