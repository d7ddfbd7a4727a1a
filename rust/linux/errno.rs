// SPDX-License-Identifier: GPL-2.0

//! Error numbers that filesystems return and for which the `kernel` crate has no constant.

use cairnfs_bindings as bindings;
use kernel::error::Error;
use kernel::ffi::c_int;

/// An error number, negative as the kernel returns it, to be turned `into()` an [`Error`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(c_int);

macro_rules! errno {
    ($($name:ident, $doc:literal;)*) => {
        impl Errno {
            $(
                #[doc = $doc]
                pub const $name: Self = Self(-(bindings::$name as c_int));
            )*
        }
    };
}

errno! {
    EOPNOTSUPP, "Operation not supported.";
    EUCLEAN, "Structure needs cleaning: what was read is not what the format allows.";
    EBADMSG, "A checksum does not match.";
    ENOTEMPTY, "Directory not empty.";
    ENAMETOOLONG, "File name too long.";
    ENODATA, "No such attribute.";
    ERANGE, "The caller's buffer is too small.";
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::from_errno(errno.0)
    }
}
