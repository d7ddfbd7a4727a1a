// SPDX-License-Identifier: GPL-2.0

//! The command line: mke2fs' letters where it has one for the purpose.

use cairnfs_core::platform::Platform;
use cairnfs_core::units::BLOCK_BYTES;
use cairnfs_device::{parse_size, SizeError};
use clap::Parser;
use std::path::PathBuf;
use std::str::FromStr;
use uuid::Uuid;

/// Makes a cairnfs filesystem on a block device or in an image file.
#[derive(Debug, Parser)]
#[command(name = "mkfs.cairnfs", version)]
pub(crate) struct Arguments {
    /// Label, at most 64 bytes
    #[arg(short = 'L', long, value_name = "LABEL", value_parser = parse_label, default_value = "", hide_default_value = true)]
    pub(crate) label: [u8; 64],

    /// A UUID, or one of "random", "time" (made from time and random bytes) and "clear" (none)
    #[arg(short = 'U', long, value_name = "UUID", default_value = "random")]
    pub(crate) uuid: UuidChoice,

    /// Block size; there is one only
    #[arg(short = 'b', long, value_name = "BYTES", value_parser = parse_block_size, default_value = "4096")]
    pub(crate) block_bytes: u64,

    /// Journal size: "size=SIZE", a multiple of 4k; a bare number counts MiB. Default: 1/64 of the device, 4M to 64M
    #[arg(short = 'J', long = "journal", value_name = "size=SIZE", value_parser = parse_journal)]
    pub(crate) journal_bytes: Option<u64>,

    /// Group size: 128M, 256M, 512M or 1G; a bare number counts blocks. Default: the smallest that makes at most 512 groups
    #[arg(short = 'g', long = "group-size", value_name = "SIZE", value_parser = parse_blocks)]
    pub(crate) group_bytes: Option<u64>,

    /// Bytes of the device for each inode. Default: 16384, on devices below 512 MiB 8192
    #[arg(short = 'i', long = "bytes-per-inode", value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) bytes_per_inode: Option<u64>,

    /// Physical block size: 512, 1024, 2048 or 4096. Default: what the device says; for an image file 4096
    #[arg(long = "physical-block", value_name = "BYTES", value_parser = parse_physical_block)]
    pub(crate) physical_block_bytes: Option<u32>,

    /// Copy this directory's contents into the new filesystem
    #[arg(short = 'd', long, value_name = "DIR")]
    pub(crate) directory: Option<PathBuf>,

    /// Key of the directory hash, 32 hexadecimal digits. Default: random, so that nobody can prepare colliding names
    #[arg(long, value_name = "HEX", value_parser = parse_key)]
    pub(crate) hash_key: Option<[u8; 16]>,

    /// Overwrite what the device holds already
    #[arg(short, long)]
    pub(crate) force: bool,

    /// Do not discard the device's blocks first
    #[arg(short = 'K', long = "nodiscard")]
    pub(crate) no_discard: bool,

    /// Say what would be made, and write nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,

    /// Say nothing but errors
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,

    /// Block device or image file
    pub(crate) device: PathBuf,

    /// Size of the filesystem; a bare number counts blocks. Makes or extends an image file. Default: all of the device
    #[arg(value_name = "SIZE", value_parser = parse_blocks)]
    pub(crate) size_bytes: Option<u64>,
}

/// What to take as UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UuidChoice {
    Random,
    Time,
    Given(Uuid),
}

impl FromStr for UuidChoice {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "random" => Self::Random,
            "time" => Self::Time,
            "clear" => Self::Given(Uuid::nil()),
            _ => Self::Given(Uuid::try_parse(text)?),
        })
    }
}

impl UuidChoice {
    pub(crate) fn bytes(self, platform: &dyn Platform) -> [u8; 16] {
        let mut random = [0; 16];
        platform.random(&mut random);
        match self {
            Self::Random => uuid::Builder::from_random_bytes(random).into_uuid(),
            Self::Time => {
                let [first, second, third, fourth, fifth, sixth, clock @ ..] = random;
                // RFC 9562, 6.10: a node without an address sets the multicast bit of a random one.
                let node = [first | 1, second, third, fourth, fifth, sixth];
                let clock = u16::from_le_bytes([clock[0], clock[1]]);
                let now_ns = platform.now_ns();
                let (seconds, nanoseconds) = (now_ns / 1_000_000_000, (now_ns % 1_000_000_000) as u32);
                Uuid::new_v1(
                    uuid::Timestamp::from_unix_time(seconds, nanoseconds, u128::from(clock), 14),
                    &node,
                )
            }
            Self::Given(uuid) => uuid,
        }
        .into_bytes()
    }
}

fn parse_label(text: &str) -> Result<[u8; 64], String> {
    let mut label = [0; 64];
    let place = label
        .get_mut(..text.len())
        .ok_or_else(|| format!("the label has {} bytes, 64 are allowed", text.len()))?;
    place.copy_from_slice(text.as_bytes());
    Ok(label)
}

fn parse_block_size(text: &str) -> Result<u64, String> {
    match parse_size(text, 1) {
        Ok(bytes) if bytes == BLOCK_BYTES as u64 => Ok(bytes),
        Ok(bytes) => Err(format!("the block size must be {BLOCK_BYTES} bytes, not {bytes}")),
        Err(error) => Err(error.to_string()),
    }
}

fn parse_journal(text: &str) -> Result<u64, String> {
    let size = text.strip_prefix("size=").ok_or_else(|| "\"size=SIZE\" is wanted".to_owned())?;
    parse_size(size, 1 << 20).map_err(|error| error.to_string())
}

fn parse_blocks(text: &str) -> Result<u64, SizeError> {
    parse_size(text, BLOCK_BYTES as u64)
}

fn parse_bytes(text: &str) -> Result<u64, SizeError> {
    parse_size(text, 1)
}

fn parse_physical_block(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text, 1).map_err(|error| error.to_string())?;
    u32::try_from(bytes).map_err(|_| "it must be 512, 1024, 2048 or 4096".to_owned())
}

fn parse_key(text: &str) -> Result<[u8; 16], String> {
    let key = (text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten();
    key.map(u128::to_be_bytes).ok_or_else(|| "32 hexadecimal digits are wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairnfs_device::StdPlatform;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn uuids_by_their_kind() {
        let version = |text: &str| {
            let choice: UuidChoice = text.parse().unwrap();
            Uuid::from_bytes(choice.bytes(&StdPlatform::new())).get_version_num()
        };
        assert_eq!((version("random"), version("time"), version("clear")), (4, 1, 0));
        assert!("4f0ad3c4".parse::<UuidChoice>().is_err());
    }

    #[test]
    fn keys_read_from_left_to_right() {
        let key = parse_key("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(key, core::array::from_fn(|n| n as u8));
        assert!(parse_key("+00102030405060708090a0b0c0d0e0f").is_err());
    }
}
