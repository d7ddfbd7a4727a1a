// SPDX-License-Identifier: GPL-2.0

//! What a device holds already: the magic numbers by which filesystems, volume managers and partition tables are known.
//!
//! The offsets and values are facts of those formats, as their own headers and specifications state them. They all lie
//! in the first or the last mebibyte, so zeroing both makes a device anonymous.

use cairnfs_core::device::Device;
use cairnfs_core::error::Result;
use cairnfs_core::format::block_header::MAGIC;
use cairnfs_core::units::{BlockNo, BLOCK_BYTES};

/// Something that was recognised.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Signature {
    /// What it is.
    pub name: &'static str,
    /// Where its magic number stands, in bytes from the start of the device.
    pub offset: u64,
}

/// What [`probe`] looks at, at either end.
const END_BYTES: u64 = 1 << 20;

/// Magic numbers at fixed places from the start.
const AT_START: &[(&str, usize, &[u8])] = &[
    ("cairnfs", 0, &MAGIC.to_le_bytes()),
    ("xfs", 0, b"XFSB"),
    ("btrfs", 65536 + 64, b"_BHRfS_M"),
    ("f2fs", 1024, &0xF2F5_2010_u32.to_le_bytes()),
    ("erofs", 1024, &0xE0F5_E1E2_u32.to_le_bytes()),
    ("squashfs", 0, b"hsqs"),
    ("jfs", 32768, b"JFS1"),
    ("reiserfs", 65536 + 52, b"ReIsEr"),
    ("iso9660", 32768 + 1, b"CD001"),
    ("ntfs", 3, b"NTFS    "),
    ("exfat", 3, b"EXFAT   "),
    ("vfat", 54, b"FAT12   "),
    ("vfat", 54, b"FAT16   "),
    ("vfat", 82, b"FAT32   "),
    ("swap", 4096 - 10, b"SWAPSPACE2"),
    ("swap", 8192 - 10, b"SWAPSPACE2"),
    ("swap", 16384 - 10, b"SWAPSPACE2"),
    ("swap", 65536 - 10, b"SWAPSPACE2"),
    ("swap", 4096 - 10, b"SWAP-SPACE"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM2", 0, b"LABELONE"),
    ("LVM2", 512, b"LABELONE"),
    ("LVM2", 1024, b"LABELONE"),
    ("LVM2", 1536, b"LABELONE"),
    ("Linux RAID", 0, &RAID_MAGIC),
    ("Linux RAID", 4096, &RAID_MAGIC),
    ("GPT", 512, b"EFI PART"),
    ("GPT", 4096, b"EFI PART"),
];

const RAID_MAGIC: [u8; 4] = 0xA92B_4EFC_u32.to_le_bytes();

/// Magic numbers at fixed places before the end.
const BEFORE_END: &[(&str, usize, &[u8])] = &[
    ("GPT", 512, b"EFI PART"),
    ("GPT", 4096, b"EFI PART"),
    ("Linux RAID", 8192, &RAID_MAGIC),
    ("Linux RAID", 65536, &RAID_MAGIC),
];

/// Everything that is recognised on the device, in the order of the tables above, each name once.
pub fn probe(device: &dyn Device) -> Result<Vec<Signature>> {
    let device_bytes = device.blocks() * BLOCK_BYTES as u64;
    let window = END_BYTES.min(device_bytes);
    let mut start = vec![0; window as usize];
    device.read(BlockNo(0), &mut start)?;
    let end_offset = device_bytes - window;
    let mut end = vec![0; window as usize];
    device.read(BlockNo(end_offset / BLOCK_BYTES as u64), &mut end)?;

    let mut found: Vec<Signature> = Vec::new();
    let mut add = |name, offset: u64| {
        if found.iter().all(|signature| signature.name != name) {
            found.push(Signature { name, offset });
        }
    };
    for (name, offset, magic) in AT_START {
        if stands_at(&start, *offset, magic) {
            add(*name, *offset as u64);
        }
    }
    if is_ext(&start) {
        add("ext2/3/4", 1024 + 56);
    }
    if let Some(offset) = zfs_uberblock(&start) {
        add("zfs", offset as u64);
    }
    if is_mbr(&start) {
        add("MBR partition table", 510);
    }
    for (name, before_end, magic) in BEFORE_END {
        if let Some(offset) = end.len().checked_sub(*before_end) {
            if stands_at(&end, offset, magic) {
                add(*name, end_offset + offset as u64);
            }
        }
    }
    Ok(found)
}

fn stands_at(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic))
}

/// The magic is only two bytes, so the block size (1 KiB << 0..6) must be possible too.
fn is_ext(start: &[u8]) -> bool {
    let block_shift = start.get(1024 + 24..1024 + 28);
    stands_at(start, 1024 + 56, &0xEF53_u16.to_le_bytes())
        && block_shift.is_some_and(|shift| shift[0] <= 6 && shift[1..] == [0; 3])
}

/// The first label's array of uberblocks: from 128 KiB on, at multiples of 1 KiB, in either byte order.
fn zfs_uberblock(start: &[u8]) -> Option<usize> {
    const UBERBLOCK_MAGIC: u64 = 0x00BA_B10C;
    (128..256).map(|kib| kib * 1024).find(|offset| {
        stands_at(start, *offset, &UBERBLOCK_MAGIC.to_le_bytes())
            || stands_at(start, *offset, &UBERBLOCK_MAGIC.to_be_bytes())
    })
}

/// A boot sector's mark alone is also in FAT and NTFS; a partition table has an entry with a type, and each entry's first byte
/// is 0 or 0x80.
fn is_mbr(start: &[u8]) -> bool {
    let Some(entries) = start.get(446..510) else {
        return false;
    };
    stands_at(start, 510, &[0x55, 0xAA])
        && entries.chunks_exact(16).all(|entry| entry[0] & 0x7F == 0)
        && entries.chunks_exact(16).any(|entry| entry[4] != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDevice;

    const BLOCKS: u64 = 4096;

    fn device_with(pieces: &[(u64, &[u8])]) -> MemoryDevice {
        let device = MemoryDevice::new(BLOCKS);
        for (offset, bytes) in pieces {
            let block = BlockNo(offset / BLOCK_BYTES as u64);
            let mut content = vec![0; 2 * BLOCK_BYTES];
            let blocks = 2.min(BLOCKS - block.0) as usize;
            device.read(block, &mut content[..blocks * BLOCK_BYTES]).unwrap();
            let at = (offset % BLOCK_BYTES as u64) as usize;
            content[at..at + bytes.len()].copy_from_slice(bytes);
            device.write(block, &content[..blocks * BLOCK_BYTES]).unwrap();
        }
        device
    }

    fn names(device: &MemoryDevice) -> Vec<&'static str> {
        probe(device).unwrap().iter().map(|signature| signature.name).collect()
    }

    #[test]
    fn each_of_the_tables_is_found_and_nothing_in_zeros() {
        assert_eq!(names(&MemoryDevice::new(BLOCKS)), [""; 0]);
        assert_eq!(names(&MemoryDevice::new(1)), [""; 0]);
        for (name, offset, magic) in AT_START {
            assert_eq!(names(&device_with(&[(*offset as u64, magic)])), [*name], "{offset}");
        }
        for (name, before_end, magic) in BEFORE_END {
            let offset = BLOCKS * BLOCK_BYTES as u64 - *before_end as u64;
            let found = probe(&device_with(&[(offset, magic)])).unwrap();
            assert_eq!(found, [Signature { name, offset }]);
        }
    }

    #[test]
    fn weak_magic_numbers_need_more_than_themselves() {
        assert_eq!(names(&device_with(&[(1080, &[0x53, 0xEF])])), ["ext2/3/4"]);
        assert_eq!(names(&device_with(&[(1080, &[0x53, 0xEF]), (1048, &[7])])), [""; 0]);
        assert_eq!(names(&device_with(&[(510, &[0x55, 0xAA])])), [""; 0]);
        assert_eq!(
            names(&device_with(&[(510, &[0x55, 0xAA]), (446 + 20, &[0x83])])),
            ["MBR partition table"]
        );
        assert_eq!(names(&device_with(&[(510, &[0x55, 0xAA]), (450, &[0x83]), (462, b"text")])), [""; 0]);
        assert_eq!(names(&device_with(&[(131_072 + 8192, &0x00BA_B10C_u64.to_le_bytes())])), ["zfs"]);
    }
}
