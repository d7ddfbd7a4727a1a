//! The part of the NBD protocol that the disk speaks: fixed newstyle handshake, simple replies.
//!
//! Names and numbers are those of the protocol's own document (doc/proto.md of the NetworkBlockDevice
//! project). All integers are big endian.

use std::io::{self, Read, Write};

/// "NBDMAGIC", the first bytes from a server.
pub const NBDMAGIC: u64 = 0x4e42_444d_4147_4943;
/// "IHAVEOPT", the second ones, and the first of each option.
pub const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
/// The first bytes of each reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
/// The first bytes of each request.
pub const REQUEST_MAGIC: u32 = 0x2560_9513;
/// The first bytes of each simple reply.
pub const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flag, both ways: options may follow each other.
pub const FLAG_FIXED_NEWSTYLE: u16 = 1;
/// Handshake flag, both ways: no 124 zeroes after NBD_OPT_EXPORT_NAME.
pub const FLAG_NO_ZEROES: u16 = 2;

/// Options of the handshake.
pub mod option {
    /// Choose an export, without an answer if it does not exist.
    pub const EXPORT_NAME: u32 = 1;
    /// End the handshake.
    pub const ABORT: u32 = 2;
    /// List the exports.
    pub const LIST: u32 = 3;
    /// Describe an export.
    pub const INFO: u32 = 6;
    /// Choose an export.
    pub const GO: u32 = 7;
}

/// Types of replies to options.
pub mod reply {
    /// The option is done.
    pub const ACK: u32 = 1;
    /// One export.
    pub const SERVER: u32 = 2;
    /// One piece of information.
    pub const INFO: u32 = 3;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = 0x8000_0001;
    /// The option is malformed.
    pub const ERR_INVALID: u32 = 0x8000_0003;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = 0x8000_0006;
}

/// Types of information about an export.
pub mod info {
    /// Size and transmission flags.
    pub const EXPORT: u16 = 0;
    /// Block sizes.
    pub const BLOCK_SIZE: u16 = 3;
}

/// What an export can do.
pub mod transmission {
    /// Always set.
    pub const HAS_FLAGS: u16 = 1 << 0;
    /// Writes are refused.
    pub const READ_ONLY: u16 = 1 << 1;
    /// It knows flushes.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// It knows forced unit access.
    pub const SEND_FUA: u16 = 1 << 3;
    /// It knows discards.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// It knows requests to write zeroes.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
}

/// Request types.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write.
    pub const WRITE: u16 = 1;
    /// Disconnect.
    pub const DISC: u16 = 2;
    /// Flush.
    pub const FLUSH: u16 = 3;
    /// Discard.
    pub const TRIM: u16 = 4;
    /// Write zeroes.
    pub const WRITE_ZEROES: u16 = 6;
    /// Request flag: durable when answered.
    pub const FLAG_FUA: u16 = 1 << 0;
    /// Request flag: the zeroes shall be allocated.
    pub const FLAG_NO_HOLE: u16 = 1 << 1;
}

/// Errors in replies.
pub mod errno {
    /// Not permitted.
    pub const EPERM: u32 = 1;
    /// The medium failed.
    pub const EIO: u32 = 5;
    /// The request is malformed.
    pub const EINVAL: u32 = 22;
    /// It reaches past the end.
    pub const ENOSPC: u32 = 28;
    /// The request's type is not known.
    pub const ENOTSUP: u32 = 95;
}

/// Length of a request's header.
const REQUEST_HEADER_BYTES: usize = 28;
/// The largest read or write that the server takes.
pub const MAX_DATA_BYTES: u32 = 64 << 20;
/// The largest option that the server takes.
pub const MAX_OPTION_BYTES: u32 = 64 << 10;

/// The header of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Request flags.
    pub flags: u16,
    /// Request type.
    pub command: u16,
    /// Returned in the reply.
    pub cookie: u64,
    /// Where.
    pub offset_bytes: u64,
    /// How much.
    pub length_bytes: u32,
}

impl RequestHeader {
    /// Reads one; `None` if the peer closed the connection before its first byte.
    pub fn read(stream: &mut impl Read) -> io::Result<Option<Self>> {
        let mut bytes = [0; REQUEST_HEADER_BYTES];
        // Nearly always all of it: a header is one packet or the start of one.
        let first_read = stream.read(&mut bytes)?;
        if first_read == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut bytes[first_read..])?;
        let mut fields = &bytes[..];
        if read_u32(&mut fields)? != REQUEST_MAGIC {
            return Err(invalid("a request without its magic"));
        }
        Ok(Some(Self {
            flags: read_u16(&mut fields)?,
            command: read_u16(&mut fields)?,
            cookie: read_u64(&mut fields)?,
            offset_bytes: read_u64(&mut fields)?,
            length_bytes: read_u32(&mut fields)?,
        }))
    }

    /// The bytes on the wire.
    pub fn to_bytes(self) -> Vec<u8> {
        let mut bytes = REQUEST_MAGIC.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.command.to_be_bytes());
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(self.offset_bytes.to_be_bytes());
        bytes.extend(self.length_bytes.to_be_bytes());
        bytes
    }
}

/// The bytes of a simple reply, without the data of a read.
pub fn simple_reply(error: u32, cookie: u64) -> Vec<u8> {
    let mut bytes = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(error.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes
}

/// Sends an option of the handshake.
pub fn write_option(stream: &mut impl Write, option: u32, payload: &[u8]) -> io::Result<()> {
    let mut bytes = IHAVEOPT.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    stream.write_all(&bytes)
}

/// Sends a reply to an option.
pub fn write_option_reply(stream: &mut impl Write, option: u32, kind: u32, payload: &[u8]) -> io::Result<()> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend((payload.len() as u32).to_be_bytes());
    bytes.extend(payload);
    stream.write_all(&bytes)
}

/// Reads a number of 16 bits.
pub fn read_u16(stream: &mut impl Read) -> io::Result<u16> {
    let mut bytes = [0; 2];
    stream.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Reads a number of 32 bits.
pub fn read_u32(stream: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Reads a number of 64 bits.
pub fn read_u64(stream: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    stream.read_exact(&mut bytes)?;
    Ok(u64::from_be_bytes(bytes))
}

/// Reads so many bytes.
pub fn read_bytes(stream: &mut impl Read, length_bytes: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length_bytes as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The error of a peer that does not keep to the protocol.
pub fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
