// SPDX-License-Identifier: GPL-2.0

//! An inode in memory: the fixed fields, decoded, and the area as it stands on the device.
//!
//! The area's parts lie one behind the other: map, then attributes (`docs/format.md`). Changing a part's length moves the one
//! behind it; what lies behind both stays zero, so that an image can be cut after its last byte that is not.

use crate::error::{Error, Result};
use crate::format::inode::{self, InodeCore, MapKind, AREA_BYTES, INODE_BYTES};
use crate::format::layout::{copy_to, move_within};
use crate::memory::{Buffer, Owned};
use crate::platform::Platform;
use crate::units::{BlockNo, InodeGeneration, InodeNo};

/// An inode.
#[derive(Debug)]
pub struct Inode {
    /// The fixed fields; the lengths of the area's parts are changed by the methods here only.
    pub core: InodeCore,
    area: Buffer,
}

/// What a new inode begins with.
#[derive(Clone, Copy, Debug)]
pub struct NewInode {
    /// Type and permissions.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for device nodes.
    pub device: u32,
    /// `inode::FLAG_*` bits, as inherited.
    pub flags: u32,
    /// Project, as inherited.
    pub project: u32,
    /// Now.
    pub now_ns: i64,
}

impl Inode {
    /// An inode of its own, with an empty map of the kind that fits its type, and no links yet.
    pub fn new(number: InodeNo, generation: InodeGeneration, new: &NewInode) -> Result<Owned<Self>> {
        let map_kind = match new.mode & inode::MODE_TYPE {
            inode::MODE_REGULAR => MapKind::Extents,
            inode::MODE_DIRECTORY => MapKind::InlineDirectory,
            inode::MODE_SYMLINK => MapKind::Symlink,
            _ => MapKind::None,
        };
        let core = InodeCore {
            magic: inode::INODE_MAGIC,
            crc: 0,
            number,
            generation,
            mode: new.mode,
            map_kind: map_kind as u8,
            reserved0: 0,
            uid: new.uid,
            gid: new.gid,
            links: 0,
            flags: new.flags,
            project: new.project,
            device: new.device,
            size_bytes: 0,
            blocks: 0,
            change_counter: 1,
            accessed_ns: new.now_ns,
            modified_ns: new.now_ns,
            changed_ns: new.now_ns,
            born_ns: new.now_ns,
            attribute_block: BlockNo(0),
            parent: InodeNo(0),
            map_bytes: 0,
            extension_bytes: 0,
            attribute_bytes: 0,
            reserved1: 0,
        };
        Ok(Owned::try_new(Self { core, area: Buffer::zeroed(AREA_BYTES)? })?)
    }

    /// Reads an inode from its 512 bytes, which were verified when they came from the device (`format::inode::verify`).
    pub fn decode(bytes: &[u8]) -> Result<Owned<Self>> {
        let core = InodeCore::decode(bytes, 0)?;
        let area = bytes.get(InodeCore::SIZE..INODE_BYTES).ok_or(Error::InvalidArgument)?;
        Ok(Owned::try_new(Self { core, area: Buffer::copy_of(area)? })?)
    }

    /// Makes this inode what [`Inode::decode`] would give, without memory of its own.
    pub fn decode_over(&mut self, bytes: &[u8]) -> Result {
        let area = bytes.get(InodeCore::SIZE..INODE_BYTES).ok_or(Error::InvalidArgument)?;
        self.core = InodeCore::decode(bytes, 0)?;
        copy_to(&mut self.area, area)
    }

    /// Writes the 512 bytes, the CRC as zero: how the log keeps an inode.
    pub fn encode_unsealed(&self, bytes: &mut [u8]) -> Result {
        let core = InodeCore { crc: 0, ..self.core };
        core.encode(bytes, 0)?;
        let area = bytes.get_mut(InodeCore::SIZE..INODE_BYTES).ok_or(Error::InvalidArgument)?;
        for (place, byte) in area.iter_mut().zip(self.area.iter()) {
            *place = *byte;
        }
        Ok(())
    }

    /// Writes the 512 bytes, CRC included: how an inode stands in its table.
    pub fn encode(&self, platform: &dyn Platform, bytes: &mut [u8]) -> Result {
        let bytes = bytes.get_mut(..INODE_BYTES).ok_or(Error::InvalidArgument)?;
        self.encode_unsealed(bytes)?;
        inode::seal(platform, bytes)
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Owned<Self>> {
        Ok(Owned::try_new(Self { core: self.core, area: self.area.try_clone()? })?)
    }

    /// Its number.
    pub const fn number(&self) -> InodeNo {
        self.core.number
    }

    /// The kind of its map; what no verified inode can have reads as none.
    pub const fn map_kind(&self) -> MapKind {
        match MapKind::from_number(self.core.map_kind) {
            Some(kind) => kind,
            None => MapKind::None,
        }
    }

    /// The bytes of the map.
    pub fn map(&self) -> &[u8] {
        self.area.get(..usize::from(self.core.map_bytes)).unwrap_or(&[])
    }

    /// The bytes of the map, to be changed in place.
    pub fn map_mut(&mut self) -> &mut [u8] {
        self.area.get_mut(..usize::from(self.core.map_bytes)).unwrap_or(&mut [])
    }

    /// The bytes of the attributes.
    pub fn attributes(&self) -> &[u8] {
        let start = usize::from(self.core.map_bytes);
        let end = start.saturating_add(usize::from(self.core.attribute_bytes));
        self.area.get(start..end).unwrap_or(&[])
    }

    /// The bytes of the attributes, to be changed in place.
    pub fn attributes_mut(&mut self) -> &mut [u8] {
        let start = usize::from(self.core.map_bytes);
        let end = start.saturating_add(usize::from(self.core.attribute_bytes));
        self.area.get_mut(start..end).unwrap_or(&mut [])
    }

    /// Bytes of the area that neither part uses.
    pub fn spare_bytes(&self) -> usize {
        let used = usize::from(self.core.map_bytes).saturating_add(usize::from(self.core.attribute_bytes));
        AREA_BYTES.saturating_sub(used)
    }

    /// Changes the length of the map: new bytes are zero, the attributes move. Fails with [`Error::NoSpace`], and changes
    /// nothing, when both do not fit.
    pub fn resize_map(&mut self, map_bytes: usize) -> Result {
        let old = usize::from(self.core.map_bytes);
        let attributes = usize::from(self.core.attribute_bytes);
        let end = map_bytes.checked_add(attributes).filter(|end| *end <= AREA_BYTES).ok_or(Error::NoSpace)?;
        let old_end = old.saturating_add(attributes);
        move_within(&mut self.area, old, old_end, map_bytes)?;
        self.zero(old, map_bytes);
        self.zero(end, old_end);
        self.core.map_bytes = map_bytes as u16;
        Ok(())
    }

    /// Changes the length of the attributes, which come last: new bytes are zero. Fails with [`Error::NoSpace`], and changes
    /// nothing, when they do not fit.
    pub fn resize_attributes(&mut self, attribute_bytes: usize) -> Result {
        let start = usize::from(self.core.map_bytes);
        let old_end = start.saturating_add(usize::from(self.core.attribute_bytes));
        let end =
            start.checked_add(attribute_bytes).filter(|end| *end <= AREA_BYTES).ok_or(Error::NoSpace)?;
        self.zero(end, old_end);
        self.core.attribute_bytes = attribute_bytes as u16;
        Ok(())
    }

    fn zero(&mut self, from: usize, to: usize) {
        if let Some(bytes) = self.area.get_mut(from..to) {
            bytes.fill(0);
        }
    }

    /// Makes it a free slot, which keeps number and generation.
    pub fn make_free(&mut self) {
        let (number, generation) = (self.core.number, self.core.generation);
        self.area.fill(0);
        self.core = InodeCore {
            magic: inode::INODE_MAGIC,
            crc: 0,
            number,
            generation,
            mode: 0,
            map_kind: MapKind::None as u8,
            reserved0: 0,
            uid: 0,
            gid: 0,
            links: 0,
            flags: 0,
            project: 0,
            device: 0,
            size_bytes: 0,
            blocks: 0,
            change_counter: 0,
            accessed_ns: 0,
            modified_ns: 0,
            changed_ns: 0,
            born_ns: 0,
            attribute_block: BlockNo(0),
            parent: InodeNo(0),
            map_bytes: 0,
            extension_bytes: 0,
            attribute_bytes: 0,
            reserved1: 0,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular() -> Owned<Inode> {
        let new = NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 };
        Inode::new(InodeNo(20), InodeGeneration(3), &new).unwrap()
    }

    #[test]
    fn parts_of_the_area_move_and_leave_zeros() {
        let mut inode = regular();
        inode.resize_map(100).unwrap();
        inode.map_mut().fill(1);
        inode.resize_attributes(60).unwrap();
        inode.attributes_mut().fill(2);
        inode.resize_map(124).unwrap();
        assert!(
            inode.map()[..100].iter().all(|byte| *byte == 1)
                && inode.map()[100..].iter().all(|byte| *byte == 0)
        );
        assert_eq!(inode.attributes(), [2; 60]);
        inode.resize_map(40).unwrap();
        assert_eq!(inode.attributes(), [2; 60]);
        assert!(inode.area[100..].iter().all(|byte| *byte == 0));
        assert_eq!(inode.resize_map(AREA_BYTES - 59), Err(Error::NoSpace));
        assert_eq!(inode.attributes(), [2; 60]);
    }

    #[test]
    fn encoded_inodes_verify_and_read_back() {
        struct Bitwise;
        impl Platform for Bitwise {
            fn crc32c(&self, crc: u32, bytes: &[u8]) -> u32 {
                crate::platform::crc32c_bitwise(crc, bytes)
            }
            fn now_ns(&self) -> u64 {
                0
            }
            fn random(&self, out: &mut [u8]) {
                out.fill(0);
            }
        }
        let mut inode = regular();
        inode.resize_map(32).unwrap();
        inode.map_mut().fill(9);
        let mut bytes = [0u8; INODE_BYTES];
        inode.encode(&Bitwise, &mut bytes).unwrap();
        let core = inode::verify(&Bitwise, &bytes, InodeNo(20), BlockNo(9)).unwrap();
        assert_eq!(core.map_bytes, 32);
        assert_eq!(Inode::decode(&bytes).unwrap().map(), [9; 32]);
        bytes[300] ^= 1;
        assert!(inode::verify(&Bitwise, &bytes, InodeNo(20), BlockNo(9)).is_err());
    }
}
