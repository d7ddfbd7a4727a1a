// SPDX-License-Identifier: GPL-2.0

//! The bytes on the device. `docs/format.md` legislates them; the modules here agree with it field by field.
//!
//! Every structure is declared once, by [`layout!`]: name, offset and type of each field. The macro checks at compile
//! time that the fields follow one another without gap or overlap and fill the declared size, and generates the plain
//! struct, its `decode` and `encode`, and a table of the fields that a test compares with the document. So
//! there are no casts from bytes to structs, and a field cannot move without the build or that test noticing.
//!
//! All numbers are little endian. Decoding never trusts a byte: what it returns are numbers, and the verifiers of
//! each module say whether they can be true.

pub mod attribute;
pub mod block_header;
pub mod directory;
pub mod extent;
pub mod group;
pub mod inode;
pub mod item;
pub mod journal;
pub mod layout;
pub mod orphan;
pub mod superblock;
pub mod tree;

pub use block_header::{BlockHeader, BlockKind, Stamp};
pub use superblock::Superblock;
