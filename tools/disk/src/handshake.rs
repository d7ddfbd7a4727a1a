//! The server's side of the handshake: options until one chooses an export.

use std::io::{self, Read, Write};

use crate::protocol::{
    info, invalid, option, read_bytes, read_u32, read_u64, reply, write_option_reply, FLAG_FIXED_NEWSTYLE,
    FLAG_NO_ZEROES, IHAVEOPT, MAX_OPTION_BYTES, NBDMAGIC,
};

/// What a client is told about an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportInfo {
    /// Its size.
    pub size_bytes: u64,
    /// Its transmission flags.
    pub flags: u16,
    /// The smallest unit of a request.
    pub minimum_block_bytes: u32,
    /// The unit that it likes best.
    pub preferred_block_bytes: u32,
    /// The largest read or write.
    pub maximum_block_bytes: u32,
}

/// The exports that can be chosen.
pub trait Exports {
    /// Their names.
    fn names(&self) -> Vec<String>;
    /// One of them; the empty name is the default one.
    fn info(&self, name: &str) -> Option<ExportInfo>;
}

/// Shakes hands; `None` if the client left without choosing an export.
pub fn serve(stream: &mut (impl Read + Write), exports: &impl Exports) -> io::Result<Option<String>> {
    stream.write_all(&NBDMAGIC.to_be_bytes())?;
    stream.write_all(&IHAVEOPT.to_be_bytes())?;
    stream.write_all(&(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES).to_be_bytes())?;
    let client_flags = read_u32(stream)?;
    if client_flags & u32::from(FLAG_FIXED_NEWSTYLE) == 0 {
        return Err(invalid("the client does not speak the fixed newstyle handshake"));
    }
    loop {
        if read_u64(stream)? != IHAVEOPT {
            return Err(invalid("an option without its magic"));
        }
        let option = read_u32(stream)?;
        let length_bytes = read_u32(stream)?;
        if length_bytes > MAX_OPTION_BYTES {
            return Err(invalid("an option longer than any that makes sense"));
        }
        let payload = read_bytes(stream, length_bytes)?;
        match option {
            option::EXPORT_NAME => {
                let name = String::from_utf8_lossy(&payload).into_owned();
                let Some(info) = exports.info(&name) else { return Ok(None) };
                stream.write_all(&info.size_bytes.to_be_bytes())?;
                stream.write_all(&info.flags.to_be_bytes())?;
                if client_flags & u32::from(FLAG_NO_ZEROES) == 0 {
                    stream.write_all(&[0; 124])?;
                }
                return Ok(Some(name));
            }
            option::ABORT => {
                write_option_reply(stream, option, reply::ACK, &[])?;
                return Ok(None);
            }
            option::LIST => {
                for name in exports.names() {
                    let mut server = (name.len() as u32).to_be_bytes().to_vec();
                    server.extend(name.as_bytes());
                    write_option_reply(stream, option, reply::SERVER, &server)?;
                }
                write_option_reply(stream, option, reply::ACK, &[])?;
            }
            option::INFO | option::GO => {
                let chosen = describe(stream, exports, option, &payload)?;
                if option == option::GO && chosen.is_some() {
                    return Ok(chosen);
                }
            }
            _ => write_option_reply(stream, option, reply::ERR_UNSUP, &[])?,
        }
    }
}

/// Answers NBD_OPT_INFO or NBD_OPT_GO; the name if the export exists.
fn describe(
    stream: &mut impl Write,
    exports: &impl Exports,
    option: u32,
    payload: &[u8],
) -> io::Result<Option<String>> {
    let Some(name) = name_in(payload) else {
        write_option_reply(stream, option, reply::ERR_INVALID, &[])?;
        return Ok(None);
    };
    let Some(export) = exports.info(&name) else {
        let message = format!("there is no export `{name}`");
        write_option_reply(stream, option, reply::ERR_UNKNOWN, message.as_bytes())?;
        return Ok(None);
    };
    let mut about = info::EXPORT.to_be_bytes().to_vec();
    about.extend(export.size_bytes.to_be_bytes());
    about.extend(export.flags.to_be_bytes());
    write_option_reply(stream, option, reply::INFO, &about)?;
    let mut blocks = info::BLOCK_SIZE.to_be_bytes().to_vec();
    blocks.extend(export.minimum_block_bytes.to_be_bytes());
    blocks.extend(export.preferred_block_bytes.to_be_bytes());
    blocks.extend(export.maximum_block_bytes.to_be_bytes());
    write_option_reply(stream, option, reply::INFO, &blocks)?;
    write_option_reply(stream, option, reply::ACK, &[])?;
    Ok(Some(name))
}

/// The export's name in the payload of NBD_OPT_INFO or NBD_OPT_GO; the list of wanted information
/// behind it is checked for its length only, because everything is sent anyway.
fn name_in(payload: &[u8]) -> Option<String> {
    let (length, rest) = payload.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (count, wanted) = rest.split_first_chunk::<2>()?;
    if wanted.len() != usize::from(u16::from_be_bytes(*count)) * 2 {
        return None;
    }
    String::from_utf8(name.to_vec()).ok()
}
