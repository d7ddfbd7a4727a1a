// SPDX-License-Identifier: GPL-2.0

//! A block device, or an image file, as core's device.
//!
//! Writing is exclusive: O_EXCL keeps a block device from being mounted meanwhile and refuses one that is; image files
//! are looked for behind loop devices. Reading takes no claim: a block device is then read with O_DIRECT, because
//! the page cache of a device that is mounted does not see what the filesystem writes.
//!
//! Zeros and discards are fallocate(2), which block devices answer since Linux 4.9: punching a hole deallocates where
//! the device can do so and promises zeros; where it cannot, the kernel writes zeros.

use crate::in_use::{users_of, User};
use cairnfs_core::device::{check_run, run_of, Device};
use cairnfs_core::error::{Error, Result};
use cairnfs_core::units::{BlockNo, BlockRun, BLOCK_BYTES};
use rustix::fs::{fallocate, FallocateFlags, OFlags};
use rustix::io::Errno;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IoSliceMut, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What will be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only, whoever else uses it.
    Read,
    /// Read and write, and nobody else.
    Exclusive,
}

/// Why it cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refused.
    #[error("cannot open {}: {source}", path.display())]
    Io {
        /// What was to be opened.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is used by somebody who can be named.
    #[error("{} {user}", path.display())]
    InUse {
        /// What was to be opened.
        path: PathBuf,
        /// By whom.
        user: User,
    },
    /// The kernel says that it is claimed.
    #[error("{} is in use by the system", path.display())]
    Claimed {
        /// What was to be opened.
        path: PathBuf,
    },
    /// A directory, a pipe, a character device.
    #[error("{} is neither a block device nor a regular file", path.display())]
    WrongKind {
        /// What was to be opened.
        path: PathBuf,
    },
}

/// An open device or image file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    bytes: u64,
    is_block_device: bool,
    reads_directly: bool,
    physical_block_bytes: u32,
    /// The system's word on the last failure: core's errors only name the block.
    cause: Mutex<Option<io::Error>>,
}

/// Image files may come to lie on any disk, so records in them are padded for the largest physical block.
const IMAGE_PHYSICAL_BLOCK_BYTES: u32 = BLOCK_BYTES as u32;
/// Bytes that the fallback of zeroing writes at a time.
const ZERO_WRITE_BYTES: usize = 1 << 20;
/// Vectors of one read; the system's limit is 1024.
const READ_VECTORS: usize = 256;

impl FileDevice {
    /// Opens what is there.
    pub fn open(path: &Path, access: Access) -> std::result::Result<Self, OpenError> {
        let failed = |source| OpenError::Io { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let is_block_device = metadata.file_type().is_block_device();
        if !is_block_device && !metadata.is_file() {
            return Err(OpenError::WrongKind { path: path.to_owned() });
        }
        let reads_directly = is_block_device && access == Access::Read;
        let file = match access {
            Access::Read => open_for_reading(path, reads_directly).map_err(failed)?,
            Access::Exclusive => open_exclusively(path, is_block_device)?,
        };
        Self::new(file, path, &metadata, reads_directly).map_err(failed)
    }

    /// Makes an image file of `bytes`, all hole; fails if there is something of that name.
    pub fn create(path: &Path, bytes: u64) -> std::result::Result<Self, OpenError> {
        let create = || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            file.set_len(bytes)?;
            let metadata = file.metadata()?;
            Self::new(file, path, &metadata, false)
        };
        create().map_err(|source| OpenError::Io { path: path.to_owned(), source })
    }

    fn new(mut file: File, path: &Path, metadata: &Metadata, reads_directly: bool) -> io::Result<Self> {
        let is_block_device = metadata.file_type().is_block_device();
        let (bytes, physical_block_bytes) = if is_block_device {
            (file.seek(SeekFrom::End(0))?, rustix::fs::ioctl_blkpbszget(&file)?)
        } else {
            (metadata.len(), IMAGE_PHYSICAL_BLOCK_BYTES)
        };
        Ok(Self {
            file,
            path: path.to_owned(),
            bytes,
            is_block_device,
            reads_directly,
            physical_block_bytes: physical_block_bytes.clamp(512, BLOCK_BYTES as u32),
            cause: Mutex::new(None),
        })
    }

    /// Makes an image file as long as `bytes`, if it is shorter. A block device stays as it is.
    pub fn extend(&mut self, bytes: u64) -> io::Result<()> {
        if !self.is_block_device && bytes > self.bytes {
            self.file.set_len(bytes)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is a block device and not a file.
    pub const fn is_block_device(&self) -> bool {
        self.is_block_device
    }

    /// Its size, which need not be whole blocks.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The unit in which the device writes, 512 to 4096.
    pub const fn physical_block_bytes(&self) -> u32 {
        self.physical_block_bytes
    }

    /// Tells the device that `run` holds nothing of worth. `Ok(false)`: it cannot make use of that.
    pub fn discard(&self, run: BlockRun) -> io::Result<bool> {
        match self.punch(run.start.0 * BLOCK_BYTES as u64, run.blocks * BLOCK_BYTES as u64) {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Zeroes the first and the last `bytes` bytes, partial blocks at the end included: where other formats keep what they are
    /// known by.
    pub fn zero_ends(&self, bytes: u64) -> io::Result<()> {
        let zeros = vec![0; bytes.min(self.bytes) as usize];
        self.file.write_all_at(&zeros, 0)?;
        self.file.write_all_at(&zeros, self.bytes - zeros.len() as u64)
    }

    /// `error` in words, with the system's reason where there is one.
    pub fn explain(&self, error: Error) -> String {
        match (error, self.cause.lock().unwrap_or_else(PoisonError::into_inner).as_ref()) {
            (Error::Io(_), Some(cause)) => format!("{}: {error}: {cause}", self.path.display()),
            _ => format!("{}: {error}", self.path.display()),
        }
    }

    fn fail<T>(&self, block: BlockNo, cause: io::Error) -> Result<T> {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        Err(Error::Io(block))
    }

    fn punch(&self, start_byte: u64, bytes: u64) -> rustix::io::Result<()> {
        fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, start_byte, bytes)
    }

    fn zero_bytes(&self, start_byte: u64, bytes: u64) -> io::Result<()> {
        let zero_range = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        if self
            .punch(start_byte, bytes)
            .or_else(|_| fallocate(&self.file, zero_range, start_byte, bytes))
            .is_ok()
        {
            return Ok(());
        }
        let zeros = vec![0; bytes.min(ZERO_WRITE_BYTES as u64) as usize];
        let mut done = 0;
        while done < bytes {
            let piece = &zeros[..(bytes - done).min(ZERO_WRITE_BYTES as u64) as usize];
            self.file.write_all_at(piece, start_byte + done)?;
            done += piece.len() as u64;
        }
        Ok(())
    }
}

fn open_for_reading(path: &Path, directly: bool) -> io::Result<File> {
    let flags = if directly { OFlags::DIRECT } else { OFlags::empty() };
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

fn open_exclusively(path: &Path, is_block_device: bool) -> std::result::Result<File, OpenError> {
    let flags = if is_block_device { OFlags::EXCL } else { OFlags::empty() };
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags.bits() as i32).open(path);
    if let Some(user) = users_of(path).into_iter().next() {
        return Err(OpenError::InUse { path: path.to_owned(), user });
    }
    opened.map_err(|source| match Errno::from_io_error(&source) {
        Some(Errno::BUSY) => OpenError::Claimed { path: path.to_owned() },
        _ => OpenError::Io { path: path.to_owned(), source },
    })
}

/// Memory as O_DIRECT wants it.
#[repr(align(4096))]
#[derive(Clone, Copy)]
struct Page([u8; BLOCK_BYTES]);

/// Reads whole blocks through aligned memory.
fn read_aligned(file: &File, out: &mut [u8], start_byte: u64) -> io::Result<()> {
    let mut offset = start_byte;
    for piece in out.chunks_mut(READ_VECTORS * BLOCK_BYTES) {
        let mut pages = vec![Page([0; BLOCK_BYTES]); piece.len() / BLOCK_BYTES];
        let mut vectors: Vec<_> = pages.iter_mut().map(|page| IoSliceMut::new(&mut page.0)).collect();
        if rustix::io::preadv(file, &mut vectors, offset)? != piece.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (place, page) in piece.chunks_exact_mut(BLOCK_BYTES).zip(&pages) {
            place.copy_from_slice(&page.0);
        }
        offset += piece.len() as u64;
    }
    Ok(())
}

impl Device for FileDevice {
    fn blocks(&self) -> u64 {
        self.bytes / BLOCK_BYTES as u64
    }

    fn read(&self, start: BlockNo, out: &mut [u8]) -> Result {
        run_of(start, out.len(), self.blocks())?;
        let start_byte = start.0 * BLOCK_BYTES as u64;
        let read = if self.reads_directly {
            read_aligned(&self.file, out, start_byte)
        } else {
            self.file.read_exact_at(out, start_byte)
        };
        read.or_else(|cause| self.fail(start, cause))
    }

    fn write(&self, start: BlockNo, bytes: &[u8]) -> Result {
        run_of(start, bytes.len(), self.blocks())?;
        let written = self.file.write_all_at(bytes, start.0 * BLOCK_BYTES as u64);
        written.or_else(|cause| self.fail(start, cause))
    }

    fn write_durably(&self, start: BlockNo, bytes: &[u8]) -> Result {
        self.write(start, bytes)?;
        self.flush()
    }

    fn flush(&self) -> Result {
        self.file.sync_data().or_else(|cause| self.fail(BlockNo(0), cause))
    }

    fn zero(&self, run: BlockRun) -> Result {
        check_run(run, self.blocks())?;
        if run.blocks == 0 {
            return Ok(());
        }
        let unit = BLOCK_BYTES as u64;
        self.zero_bytes(run.start.0 * unit, run.blocks * unit).or_else(|cause| self.fail(run.start, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_file_reads_back_and_keeps_its_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        let device = FileDevice::create(&path, 10 * 4096 + 100).unwrap();
        assert_eq!((device.blocks(), device.physical_block_bytes()), (10, 4096));
        let content: Vec<u8> = (0..2 * BLOCK_BYTES).map(|n| n as u8 | 1).collect();
        device.write_durably(BlockNo(8), &content).unwrap();
        let mut read = vec![0; 2 * BLOCK_BYTES];
        device.read(BlockNo(8), &mut read).unwrap();
        assert_eq!(read, content);
        device.zero(BlockRun { start: BlockNo(8), blocks: 1 }).unwrap();
        device.read(BlockNo(8), &mut read).unwrap();
        assert!(
            read[..BLOCK_BYTES].iter().all(|byte| *byte == 0)
                && read[BLOCK_BYTES..] == content[BLOCK_BYTES..]
        );
        assert_eq!(device.read(BlockNo(9), &mut read), Err(Error::Io(BlockNo(10))));
        assert!(matches!(FileDevice::create(&path, 1), Err(OpenError::Io { .. })));
    }

    #[test]
    fn reads_through_aligned_memory_equal_plain_ones() {
        let file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..(READ_VECTORS + 3) * BLOCK_BYTES).map(|n| (n / 7) as u8).collect();
        file.write_all_at(&content, 0).unwrap();
        let mut read = vec![0; content.len() - BLOCK_BYTES];
        read_aligned(&file, &mut read, BLOCK_BYTES as u64).unwrap();
        assert_eq!(read, content[BLOCK_BYTES..]);
        assert!(read_aligned(&file, &mut read, 2 * BLOCK_BYTES as u64).is_err());
    }

    #[test]
    fn errors_carry_the_systems_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image");
        drop(FileDevice::create(&path, 8192).unwrap());
        let device = FileDevice::open(&path, Access::Read).unwrap();
        let error = device.write(BlockNo(0), &[1; BLOCK_BYTES]).unwrap_err();
        assert!(device.explain(error).contains("Bad file descriptor"), "{}", device.explain(error));
        assert!(matches!(FileDevice::open(directory.path(), Access::Read), Err(OpenError::WrongKind { .. })));
    }
}
