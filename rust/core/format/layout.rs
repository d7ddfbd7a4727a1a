// SPDX-License-Identifier: GPL-2.0

//! Declaring structures of bytes: the `layout!` macro and the types a field may have.

use crate::error::{Error, Result};
use crate::units::{
    BlockNo, DirectoryKey, FileBlock, Generation, GroupNo, InodeGeneration, InodeNo, OrphanSlot, Position,
    Sequence, TransactionId,
};

/// A type that can stand in a structure on the device.
pub trait Field: Sized {
    /// Bytes it takes.
    const BYTES: usize;

    /// Reads it from the start of `bytes`; `None` when there are too few.
    fn load(bytes: &[u8]) -> Option<Self>;

    /// Writes it to the start of `bytes`; `None` when there are too few, and then nothing is written.
    fn store(&self, bytes: &mut [u8]) -> Option<()>;
}

macro_rules! integer_field {
    ($($integer:ty),*) => {$(
        impl Field for $integer {
            const BYTES: usize = core::mem::size_of::<$integer>();

            fn load(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|chunk| <$integer>::from_le_bytes(*chunk))
            }

            fn store(&self, bytes: &mut [u8]) -> Option<()> {
                *bytes.first_chunk_mut()? = self.to_le_bytes();
                Some(())
            }
        }
    )*};
}

integer_field!(u8, u16, u32, u64, i64);

macro_rules! number_field {
    ($($number:ident($inner:ty)),*) => {$(
        impl Field for $number {
            const BYTES: usize = <$inner as Field>::BYTES;

            fn load(bytes: &[u8]) -> Option<Self> {
                <$inner>::load(bytes).map(Self)
            }

            fn store(&self, bytes: &mut [u8]) -> Option<()> {
                self.0.store(bytes)
            }
        }
    )*};
}

number_field!(
    BlockNo(u64),
    GroupNo(u32),
    InodeNo(u64),
    FileBlock(u64),
    Sequence(u64),
    TransactionId(u64),
    Position(u64),
    Generation(u32),
    InodeGeneration(u32),
    DirectoryKey(u64),
    OrphanSlot(u32)
);

impl<const N: usize> Field for [u8; N] {
    const BYTES: usize = N;

    fn load(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk().copied()
    }

    fn store(&self, bytes: &mut [u8]) -> Option<()> {
        *bytes.first_chunk_mut()? = *self;
        Some(())
    }
}

/// Reads a field at `offset`. Running out of bytes is a mistake of the caller's, not of the device's: what comes from
/// the device is checked for its length before.
pub fn get<F: Field>(bytes: &[u8], offset: usize) -> Result<F> {
    bytes.get(offset..).and_then(F::load).ok_or(Error::InvalidArgument)
}

/// Writes a field at `offset`.
#[expect(clippy::needless_pass_by_value, reason = "a field is a number or a few bytes")]
pub fn put<F: Field>(bytes: &mut [u8], offset: usize, value: F) -> Result {
    bytes.get_mut(offset..).and_then(|place| value.store(place)).ok_or(Error::InvalidArgument)
}

/// Copies `bytes` to `place`, like `copy_from_slice`, but without its panic: another length is the caller's mistake and an
/// error.
pub(crate) fn copy_to(place: &mut [u8], bytes: &[u8]) -> Result {
    if place.len() != bytes.len() {
        return Err(Error::InvalidArgument);
    }
    place.copy_from_slice(bytes);
    Ok(())
}

/// Moves the bytes from `start` up to `end` to `to`, like `copy_within`, but without its panic: ranges that do not fit are the
/// caller's mistake and an error.
pub(crate) fn move_within(bytes: &mut [u8], start: usize, end: usize, to: usize) -> Result {
    let room = end.checked_sub(start).and_then(|len| bytes.len().checked_sub(len));
    if end > bytes.len() || room.is_none_or(|room| to > room) {
        return Err(Error::InvalidArgument);
    }
    bytes.copy_within(start..end, to);
    Ok(())
}

/// One row of a structure's table: the field's name, offset and length in bytes.
pub type FieldRow = (&'static str, usize, usize);

/// Declares a structure on the device: `struct Name: SIZE { offset => field: Type, ... }`.
///
/// Generates the struct with public fields, `SIZE`, `FIELDS` (for the test against the document), `decode`, `encode` and
/// an implementation of [`Field`], so that one structure may stand in another. Offsets and size are asserted at
/// compile time.
macro_rules! layout {
    ($(#[$doc:meta])* pub struct $name:ident: $size:literal {
        $($(#[$field_doc:meta])* $offset:literal => $field:ident: $kind:ty,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $kind,)*
        }

        impl $name {
            /// Bytes on the device.
            pub const SIZE: usize = $size;

            /// Name, offset and length of each field.
            pub const FIELDS: &'static [$crate::format::layout::FieldRow] = &[
                $((stringify!($field), $offset, <$kind as $crate::format::layout::Field>::BYTES),)*
            ];

            /// Reads the structure at `offset` of `bytes`.
            pub fn decode(bytes: &[u8], offset: usize) -> $crate::error::Result<Self> {
                // Not by way of `load`: a large structure would stand on the stack once more.
                let rest = bytes.get(offset..).ok_or($crate::error::Error::InvalidArgument)?;
                let bytes = rest.get(..$size).ok_or($crate::error::Error::InvalidArgument)?;
                Ok(Self { $($field: $crate::format::layout::get(bytes, $offset)?,)* })
            }

            /// Writes the structure at `offset` of `bytes`.
            pub fn encode(&self, bytes: &mut [u8], offset: usize) -> $crate::error::Result {
                bytes
                    .get_mut(offset..)
                    .and_then(|place| $crate::format::layout::Field::store(self, place))
                    .ok_or($crate::error::Error::InvalidArgument)
            }
        }

        #[allow(clippy::arithmetic_side_effects, reason = "computed by the compiler, which refuses overflow")]
        const _: () = {
            let mut expected = 0;
            $(
                assert!($offset == expected, "a field does not begin where the one before it ends");
                expected += <$kind as $crate::format::layout::Field>::BYTES;
            )*
            assert!(expected == $size, "the fields do not fill the structure");
        };

        impl $crate::format::layout::Field for $name {
            const BYTES: usize = $size;

            fn load(bytes: &[u8]) -> Option<Self> {
                let bytes = bytes.get(..$size)?;
                Some(Self {
                    $($field: <$kind as $crate::format::layout::Field>::load(bytes.get($offset..)?)?,)*
                })
            }

            fn store(&self, bytes: &mut [u8]) -> Option<()> {
                let bytes = bytes.get_mut(..$size)?;
                $($crate::format::layout::Field::store(&self.$field, bytes.get_mut($offset..)?)?;)*
                Some(())
            }
        }
    };
}

pub(crate) use layout;

#[cfg(test)]
#[allow(dead_code, unreachable_pub, reason = "the macro makes more than the test needs")]
mod tests {
    use super::*;

    layout! {
        /// For the test.
        pub struct Pair: 12 {
            /// First.
            0 => first: u32,
            /// Second.
            4 => second: BlockNo,
        }
    }

    #[test]
    fn round_trip_and_bounds() {
        let pair = Pair { first: 0x0102_0304, second: BlockNo(0x0A0B) };
        let mut bytes = [0u8; 13];
        pair.encode(&mut bytes, 1).unwrap();
        assert_eq!(bytes[1..9], [4, 3, 2, 1, 0x0B, 0x0A, 0, 0]);
        assert_eq!(Pair::decode(&bytes, 1).unwrap(), pair);
        assert_eq!(Pair::decode(&bytes, 2), Err(Error::InvalidArgument));
        assert_eq!(pair.encode(&mut bytes, 2), Err(Error::InvalidArgument));
    }
}
