//! What a medium holds: a file or nothing at all, under layers of changes kept in memory.
//!
//! A snapshot is cheap (the layers are shared), which is what makes thousands of crash states
//! affordable: each is the same few layers with one small layer of its own on top. A disk that
//! keeps no snapshot writes straight into its file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{fallocate, FallocateFlags};

use crate::extent_map::{Content, ExtentMap};
use crate::units::SectorRange;

/// How much of an image is copied at a time.
const COPY_BYTES: u64 = 1 << 20;
/// Runs of zeroes are found, and left out of copies, in this unit.
const HOLE_BYTES: usize = 4096;

#[derive(Debug)]
enum Root {
    Zeroes,
    File { file: File, writable: bool },
}

/// The content of a medium at one moment.
#[derive(Debug)]
pub struct Image {
    size_bytes: u64,
    root: Arc<Root>,
    /// Shared layers, oldest first.
    frozen: Vec<Arc<ExtentMap<Content>>>,
    top: ExtentMap<Content>,
}

impl Image {
    /// A medium of zeroes that lives in memory.
    pub fn zeroes(size_bytes: u64) -> Self {
        Self::over(Root::Zeroes, size_bytes)
    }

    /// A medium that is a file, which is created or grown if a size is given.
    pub fn open_file(path: &Path, size_bytes: Option<u64>) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(size_bytes.is_some())
            .truncate(false)
            .open(path)?;
        if let Some(size_bytes) = size_bytes {
            file.set_len(size_bytes)?;
        }
        let size_bytes = file.metadata()?.len();
        Ok(Self::over(Root::File { file, writable: true }, size_bytes))
    }

    /// A medium that begins as a file's content and never changes the file.
    pub fn open_file_copy_on_write(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        Ok(Self::over(Root::File { file, writable: false }, size_bytes))
    }

    fn over(root: Root, size_bytes: u64) -> Self {
        Self { size_bytes, root: Arc::new(root), frozen: Vec::new(), top: ExtentMap::default() }
    }

    /// The medium's size.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Reads a range that must lie within the medium.
    pub fn read(&self, range: SectorRange, buffer: &mut [u8]) -> io::Result<()> {
        let mut layers: Vec<&ExtentMap<Content>> = vec![&self.top];
        layers.extend(self.frozen.iter().rev().map(AsRef::as_ref));
        self.read_below(&layers, range, buffer)
    }

    /// Reads `range` as it appears with `over` on top of this image.
    pub fn read_under(
        &self,
        over: &ExtentMap<Content>,
        range: SectorRange,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut layers: Vec<&ExtentMap<Content>> = vec![over, &self.top];
        layers.extend(self.frozen.iter().rev().map(AsRef::as_ref));
        self.read_below(&layers, range, buffer)
    }

    fn read_below(
        &self,
        layers: &[&ExtentMap<Content>],
        range: SectorRange,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let Some((layer, below)) = layers.split_first() else {
            return self.root.read(range, buffer);
        };
        layer.for_each_part(range, |part, content| {
            let from = (part.offset_bytes() - range.offset_bytes()) as usize;
            let target = &mut buffer[from..from + part.length_bytes() as usize];
            match content {
                Some(content) => content.copy_to(target),
                None => self.read_below(below, part, target)?,
            }
            Ok(())
        })
    }

    /// Changes a range that must lie within the medium.
    pub fn write(&mut self, range: SectorRange, content: Content) -> io::Result<()> {
        let in_place = self.frozen.is_empty() && self.top.is_empty();
        match Arc::get_mut(&mut self.root) {
            Some(Root::File { file, writable: true }) if in_place => write_file(file, range, &content),
            _ => {
                self.top.insert(range, content);
                Ok(())
            }
        }
    }

    /// An image of the same content; later changes of either do not show in the other.
    pub fn snapshot(&mut self) -> Self {
        if !self.top.is_empty() {
            let top = std::mem::take(&mut self.top);
            self.frozen.push(Arc::new(top));
            self.merge_layers();
        }
        self.share()
    }

    /// Merges the newest layers for as long as no other image shares them, so that an image from
    /// which many snapshots came and went does not grow deep.
    fn merge_layers(&mut self) {
        while let [.., older, newer] = &mut self.frozen[..] {
            let (Some(older), Some(newer)) = (Arc::get_mut(older), Arc::get_mut(newer)) else {
                return;
            };
            older.insert_all(std::mem::take(newer));
            self.frozen.pop();
        }
    }

    /// A copy that shares the layers; for an image whose top layer is already frozen.
    fn share(&self) -> Self {
        Self {
            size_bytes: self.size_bytes,
            root: Arc::clone(&self.root),
            frozen: self.frozen.clone(),
            top: self.top.clone(),
        }
    }

    /// Brings a disk's own file up to what the image holds; nothing to do for other images.
    ///
    /// Snapshots taken before lose their meaning: this is for the end of a disk's life.
    pub fn write_back(&mut self) -> io::Result<()> {
        let Root::File { file, writable: true } = self.root.as_ref() else { return Ok(()) };
        let layers = self.frozen.iter().map(AsRef::as_ref).chain(std::iter::once(&self.top));
        for (range, content) in layers.flat_map(ExtentMap::iter) {
            write_file(file, range, content)?;
        }
        self.frozen.clear();
        self.top.clear();
        file.sync_data()
    }

    /// Calls `visit` with every run of the image that is not zero, in order.
    pub fn for_each_data(&self, mut visit: impl FnMut(u64, &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES as usize];
        let mut at_bytes = 0;
        while at_bytes < self.size_bytes {
            let length_bytes = COPY_BYTES.min(self.size_bytes - at_bytes);
            let range = SectorRange::from_bytes(at_bytes, length_bytes)
                .ok_or_else(|| io::Error::other("the image is no multiple of a sector"))?;
            if self.may_hold_data(range)? {
                let chunk = &mut buffer[..length_bytes as usize];
                self.read(range, chunk)?;
                for (index, block) in chunk.chunks(HOLE_BYTES).enumerate() {
                    if block.iter().any(|byte| *byte != 0) {
                        visit(at_bytes + (index * HOLE_BYTES) as u64, block)?;
                    }
                }
            }
            at_bytes += length_bytes;
        }
        Ok(())
    }

    /// Whether reading `range` could yield anything but zeroes; cheap, for sparse media.
    fn may_hold_data(&self, range: SectorRange) -> io::Result<bool> {
        let mut in_layers = false;
        for layer in self.frozen.iter().map(AsRef::as_ref).chain(std::iter::once(&self.top)) {
            layer.for_each_part(range, |_, content| {
                in_layers |= matches!(content, Some(Content::Bytes { .. }));
                Ok::<(), io::Error>(())
            })?;
        }
        Ok(in_layers || self.root.may_hold_data(range)?)
    }

    /// Writes the image to a new sparse file.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let file = File::create(path)?;
        file.set_len(self.size_bytes)?;
        self.for_each_data(|offset_bytes, bytes| file.write_all_at(bytes, offset_bytes))
    }
}

impl Root {
    fn read(&self, range: SectorRange, buffer: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Zeroes => {
                buffer.fill(0);
                Ok(())
            }
            Self::File { file, .. } => file.read_exact_at(buffer, range.offset_bytes()),
        }
    }

    fn may_hold_data(&self, range: SectorRange) -> io::Result<bool> {
        let Self::File { file, .. } = self else { return Ok(false) };
        match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(range.offset_bytes())) {
            Ok(data_bytes) => Ok(data_bytes < range.offset_bytes() + range.length_bytes()),
            // No data from here to the end of the file.
            Err(rustix::io::Errno::NXIO) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn write_file(file: &File, range: SectorRange, content: &Content) -> io::Result<()> {
    let length_bytes = range.length_bytes();
    match content {
        Content::Zeroes => {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            Ok(fallocate(file, flags, range.offset_bytes(), length_bytes)?)
        }
        Content::Bytes { data, offset_bytes } => {
            let bytes = &data[*offset_bytes..*offset_bytes + length_bytes as usize];
            file.write_all_at(bytes, range.offset_bytes())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> SectorRange {
        SectorRange::new(start, end).unwrap()
    }

    fn sectors(fill: u8, count: usize) -> Content {
        Content::of_write(vec![fill; count * 512])
    }

    fn byte_at(image: &Image, sector: u64) -> u8 {
        let mut buffer = [0; 512];
        image.read(range(sector, sector + 1), &mut buffer).unwrap();
        assert!(buffer.iter().all(|byte| *byte == buffer[0]));
        buffer[0]
    }

    #[test]
    fn snapshots_do_not_see_each_other() {
        let mut live = Image::zeroes(1 << 20);
        live.write(range(0, 4), sectors(1, 4)).unwrap();
        let mut early = live.snapshot();
        live.write(range(1, 2), sectors(2, 1)).unwrap();
        early.write(range(2, 3), Content::Zeroes).unwrap();
        let late = live.snapshot();
        live.write(range(1, 2), sectors(3, 1)).unwrap();
        let bytes = |image: &Image| [0, 1, 2, 3].map(|sector| byte_at(image, sector));
        assert_eq!(bytes(&live), [1, 3, 1, 1]);
        assert_eq!(bytes(&late), [1, 2, 1, 1]);
        assert_eq!(bytes(&early), [1, 1, 0, 1]);
    }

    #[test]
    fn a_file_is_written_in_place_until_a_snapshot_exists() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("medium");
        let mut image = Image::open_file(&path, Some(1 << 20)).unwrap();
        image.write(range(5, 6), sectors(7, 1)).unwrap();
        assert_eq!(byte_at(&Image::open_file_copy_on_write(&path).unwrap(), 5), 7);

        let old = image.snapshot();
        image.write(range(5, 6), sectors(8, 1)).unwrap();
        assert_eq!((byte_at(&old, 5), byte_at(&image, 5)), (7, 8));
        assert_eq!(byte_at(&Image::open_file_copy_on_write(&path).unwrap(), 5), 7);
        drop(old);
        image.write_back().unwrap();
        assert_eq!(byte_at(&Image::open_file_copy_on_write(&path).unwrap(), 5), 8);
    }

    #[test]
    fn a_saved_image_is_sparse_and_equal() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy");
        let mut image = Image::zeroes(1 << 40);
        image.write(range(1 << 20, (1 << 20) + 3), sectors(9, 3)).unwrap();
        let mut runs = 0;
        image
            .for_each_data(|_, _| {
                runs += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(runs, 1);
        let mut small = Image::zeroes(8 << 20);
        small.write(range(4096, 4099), sectors(9, 3)).unwrap();
        small.save(&path).unwrap();
        let copy = Image::open_file_copy_on_write(&path).unwrap();
        assert_eq!([4095, 4096, 4098, 4099].map(|sector| byte_at(&copy, sector)), [0, 9, 9, 0]);
        assert_eq!(copy.size_bytes(), 8 << 20);
    }
}
