//! What a load does: one operation is one system call, or the few that make one thing.
//!
//! Paths are relative to the folder of the thread that does it; the empty path is that folder itself.

use std::ops::Range;

/// How bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteWay {
    /// By write(2).
    Buffered,
    /// By write(2) to a file opened with O_DSYNC.
    DataSynchronous,
    /// By write(2) to a file opened with O_SYNC.
    Synchronous,
    /// By storing into a shared mapping.
    Mapped,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A new empty file.
    Create { path: String, mode: u32 },
    /// mkdir.
    MakeDirectory { path: String, mode: u32 },
    /// symlink.
    MakeSymlink { path: String, target: String },
    /// link.
    Link { old: String, new: String },
    /// unlink, of a file that stays open for a while or not.
    Unlink { path: String, stays_open: bool },
    /// Closes all files that are open without a name.
    CloseUnlinked,
    /// rmdir of an empty directory.
    RemoveDirectory { path: String },
    /// rename; what was at the new path is replaced.
    Rename { old: String, new: String },
    /// chmod.
    SetMode { path: String, mode: u32 },
    /// chown.
    SetOwner { path: String, owner: u32 },
    /// utimensat: the modification time.
    SetTime { path: String, seconds: i64 },
    /// A range of a file is written, in units of `content::UNIT_BYTES`.
    Write { path: String, units: Range<u32>, way: WriteWay },
    /// truncate, to a smaller or a larger size.
    Truncate { path: String, units: u32 },
    /// Writeback begins, and nobody waits for it: data on its way that no flush covers.
    StartWriteback { path: String },
    /// fsync of a file or a directory.
    Fsync { path: String },
    /// fdatasync of a file.
    Fdatasync { path: String },
    /// syncfs.
    SyncFilesystem,
}

impl Operation {
    /// Whether its return is a promise.
    pub(crate) fn promises(&self) -> bool {
        match self {
            Self::Fsync { .. } | Self::Fdatasync { .. } | Self::SyncFilesystem => true,
            Self::Write { way, .. } => matches!(way, WriteWay::DataSynchronous | WriteWay::Synchronous),
            _ => false,
        }
    }
}
