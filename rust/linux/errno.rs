// SPDX-License-Identifier: GPL-2.0

//! Error numbers that filesystems return, by the names and in the sense that they have for filesystems.

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
    ENOTTY, "No such ioctl.";
    EMLINK, "Too many links.";
    EXDEV, "Not within one filesystem, or not within one project.";
    EDQUOT, "Quota exceeded.";
    ESTALE, "What a file handle or a number names is not there any more.";
    EOVERFLOW, "A value does not fit its type.";
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::from_errno(errno.0)
    }
}
