// SPDX-License-Identifier: GPL-2.0

//! A heap buffer of bytes.
//!
//! Whatever is as large as a block lives in one: the kernel's stack has 16 KiB, for all its callers together,
//! so no block ever lies on it.

use super::backend::Array;
use super::OutOfMemory;
use core::fmt;
use core::ops::{Deref, DerefMut};

/// The source of zeros, copied piece by piece: a vector cannot be filled in place without a panic path.
static ZEROS: [u8; 4096] = [0; 4096];

/// A heap buffer of bytes, whose length is fixed when it is made.
///
/// It dereferences to a byte slice. A buffer whose length is a power of two up to a page is aligned to it in
/// the kernel.
pub struct Buffer {
    bytes: Array<u8>,
}

impl Buffer {
    /// A buffer of `len_bytes` zeros.
    pub fn zeroed(len_bytes: usize) -> Result<Self, OutOfMemory> {
        let mut bytes = Array::new();
        bytes.reserve(len_bytes)?;
        let mut left_bytes = len_bytes;
        while left_bytes > 0 {
            let piece = ZEROS.get(..left_bytes).unwrap_or(&ZEROS);
            bytes.extend_from_slice(piece)?;
            left_bytes = left_bytes.saturating_sub(piece.len());
        }
        Ok(Self { bytes })
    }

    /// A buffer with the bytes of `source`.
    pub fn copy_of(source: &[u8]) -> Result<Self, OutOfMemory> {
        let mut bytes = Array::new();
        bytes.extend_from_slice(source)?;
        Ok(Self { bytes })
    }

    /// A copy of this buffer.
    pub fn try_clone(&self) -> Result<Self, OutOfMemory> {
        Self::copy_of(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(formatter)
    }
}
