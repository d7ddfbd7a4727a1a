//! The frames that host and guest exchange over the virtio port `cairnfs.guest`.
//!
//! A frame is a header of 12 bytes, little endian: magic (u16), kind (u8), zero (u8), request id (u32), payload
//! bytes (u32), and then the payload. The port is a reliable ordered byte stream, so there is no checksum; the magic
//! is there to stop at once when an end lost its place. `scripts/vmlib/channel.py` is the other half: a change here
//! is a change there, and [`VERSION`] tells the two apart.

use std::io::{self, Read, Write};

/// Sent in [`Kind::Hello`]; the host refuses a guest of another version.
pub const VERSION: u32 = 1;

/// The name under which QEMU offers the port.
pub const PORT_NAME: &str = "cairnfs.guest";

const MAGIC: u16 = 0xca12;
const HEADER_BYTES: usize = 12;

/// Largest payload that is accepted: the input of a program travels in one frame.
pub const PAYLOAD_MAX_BYTES: usize = 64 << 20;

/// What a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Guest to host, once: version (u32), then the kernel's release.
    Hello = 1,
    /// Host to guest: run a program, see [`RunRequest`].
    Run = 2,
    /// Guest to host: bytes from the program's standard output.
    Output = 3,
    /// Guest to host: bytes from the program's standard error.
    ErrorOutput = 4,
    /// Guest to host: the program ended; exit code (i32), or 128 plus the signal's number.
    Exit = 5,
    /// Host to guest: one letter for `/proc/sysrq-trigger`.
    Sysrq = 6,
    /// Host to guest: sync and power off.
    PowerOff = 7,
    /// Guest to host: the request could not be started; the reason in words.
    Refused = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Hello,
            2 => Self::Run,
            3 => Self::Output,
            4 => Self::ErrorOutput,
            5 => Self::Exit,
            6 => Self::Sysrq,
            7 => Self::PowerOff,
            8 => Self::Refused,
            _ => return None,
        })
    }
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it means.
    pub kind: Kind,
    /// The request that it belongs to; 0 where it belongs to none.
    pub request: u32,
    /// Its contents.
    pub payload: Vec<u8>,
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Writes one frame.
///
/// # Errors
/// Those of `output`, and a payload over [`PAYLOAD_MAX_BYTES`].
pub fn write_frame(output: &mut impl Write, kind: Kind, request: u32, payload: &[u8]) -> io::Result<()> {
    if payload.len() > PAYLOAD_MAX_BYTES {
        return Err(invalid(format!("a payload of {} bytes is too long", payload.len())));
    }
    let length = u32::try_from(payload.len()).map_err(|error| invalid(error.to_string()))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&MAGIC.to_le_bytes());
    bytes.extend_from_slice(&[kind as u8, 0]);
    bytes.extend_from_slice(&request.to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(payload);
    output.write_all(&bytes)?;
    output.flush()
}

/// Reads one frame; `None` when the other end has closed the stream between two frames.
///
/// # Errors
/// Those of `input`, and whatever is not a frame.
pub fn read_frame(input: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut header = [0_u8; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match input.read(&mut header[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    let [magic_0, magic_1, kind, _, id_0, id_1, id_2, id_3, len_0, len_1, len_2, len_3] = header;
    if u16::from_le_bytes([magic_0, magic_1]) != MAGIC {
        return Err(invalid("a frame begins with a wrong magic".to_owned()));
    }
    let kind = Kind::from_byte(kind).ok_or_else(|| invalid(format!("unknown frame kind {kind}")))?;
    let length = u32::from_le_bytes([len_0, len_1, len_2, len_3]) as usize;
    if length > PAYLOAD_MAX_BYTES {
        return Err(invalid(format!("a payload of {length} bytes is too long")));
    }
    let mut payload = vec![0; length];
    input.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, request: u32::from_le_bytes([id_0, id_1, id_2, id_3]), payload }))
}

/// The payload of [`Kind::Run`]: a list of arguments, a list of `NAME=value`, and what the program reads from its
/// standard input. Each list is a count (u32) and then strings, each with its length (u32) before it; the input is
/// all the rest.
#[derive(Debug, PartialEq, Eq)]
pub struct RunRequest {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Additions to the environment.
    pub environment: Vec<(String, String)>,
    /// The program's standard input.
    pub input: Vec<u8>,
}

impl RunRequest {
    /// Reads the payload of a frame.
    ///
    /// # Errors
    /// A payload that is too short, is not UTF-8, or names no program.
    pub fn parse(payload: &[u8]) -> io::Result<Self> {
        let mut rest = payload;
        let arguments = take_strings(&mut rest)?;
        let environment = take_strings(&mut rest)?
            .into_iter()
            .map(|entry| match entry.split_once('=') {
                Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
                None => Err(invalid(format!("'{entry}' is not NAME=value"))),
            })
            .collect::<io::Result<_>>()?;
        if arguments.is_empty() {
            return Err(invalid("no program is named".to_owned()));
        }
        Ok(Self { arguments, environment, input: rest.to_vec() })
    }
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> io::Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count).ok_or(io::ErrorKind::UnexpectedEof)?;
    *rest = tail;
    Ok(head)
}

fn take_u32(rest: &mut &[u8]) -> io::Result<u32> {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(take(rest, 4)?);
    Ok(u32::from_le_bytes(bytes))
}

fn take_strings(rest: &mut &[u8]) -> io::Result<Vec<String>> {
    let count = take_u32(rest)?;
    (0..count)
        .map(|_| {
            let length = take_u32(rest)? as usize;
            String::from_utf8(take(rest, length)?.to_vec()).map_err(|error| invalid(error.to_string()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<u8> {
        let mut bytes = u32::try_from(list.len()).unwrap().to_le_bytes().to_vec();
        for entry in list {
            bytes.extend_from_slice(&u32::try_from(entry.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes
    }

    #[test]
    fn frames_survive_the_stream() {
        let mut stream = Vec::new();
        write_frame(&mut stream, Kind::Output, 7, b"abc").unwrap();
        write_frame(&mut stream, Kind::Exit, 7, &0_i32.to_le_bytes()).unwrap();
        let mut input = stream.as_slice();
        let first = read_frame(&mut input).unwrap().unwrap();
        assert_eq!(first, Frame { kind: Kind::Output, request: 7, payload: b"abc".to_vec() });
        assert_eq!(read_frame(&mut input).unwrap().unwrap().kind, Kind::Exit);
        assert!(read_frame(&mut input).unwrap().is_none());
    }

    #[test]
    fn a_torn_or_foreign_frame_is_an_error() {
        let mut stream = Vec::new();
        write_frame(&mut stream, Kind::Output, 7, b"abc").unwrap();
        for cut in 1..stream.len() {
            assert!(read_frame(&mut &stream[..cut]).is_err(), "cut at {cut}");
        }
        stream[0] ^= 1;
        assert!(read_frame(&mut stream.as_slice()).is_err());
        stream[0] ^= 1;
        stream[2] = 99;
        assert!(read_frame(&mut stream.as_slice()).is_err());
    }

    #[test]
    fn a_request_names_a_program() {
        let mut payload = strings(&["/bin/cat", "-u"]);
        payload.extend(strings(&["A=1=2"]));
        payload.extend_from_slice(b"input");
        let request = RunRequest::parse(&payload).unwrap();
        assert_eq!(request.arguments, ["/bin/cat", "-u"]);
        assert_eq!(request.environment, [("A".to_owned(), "1=2".to_owned())]);
        assert_eq!(request.input, b"input");

        let mut empty = strings(&[]);
        empty.extend(strings(&[]));
        assert!(RunRequest::parse(&empty).is_err());
        assert!(RunRequest::parse(&payload[..6]).is_err());
    }
}
