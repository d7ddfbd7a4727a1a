//! A small NBD client: one request at a time.
//!
//! The tests drive the server with it, and guests shake hands with it before they give the socket
//! to their kernel.

use std::io::{self, Read, Write};

use crate::handshake::ExportInfo;
use crate::protocol::{
    command, info, invalid, option, read_bytes, read_u16, read_u32, read_u64, reply, write_option,
    RequestHeader, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, IHAVEOPT, MAX_OPTION_BYTES, NBDMAGIC,
    OPTION_REPLY_MAGIC, SIMPLE_REPLY_MAGIC,
};

/// A connection on which options are negotiated.
#[derive(Debug)]
pub struct Handshake<S> {
    stream: S,
}

/// A connection to an export.
#[derive(Debug)]
pub struct Client<S> {
    stream: S,
    export: ExportInfo,
    next_cookie: u64,
}

impl<S: Read + Write> Handshake<S> {
    /// Greets the server.
    pub fn begin(mut stream: S) -> io::Result<Self> {
        if read_u64(&mut stream)? != NBDMAGIC || read_u64(&mut stream)? != IHAVEOPT {
            return Err(invalid("the peer is no NBD server"));
        }
        if read_u16(&mut stream)? & FLAG_FIXED_NEWSTYLE == 0 {
            return Err(invalid("the server does not speak the fixed newstyle handshake"));
        }
        let flags = u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        stream.write_all(&flags.to_be_bytes())?;
        Ok(Self { stream })
    }

    /// Sends an option and collects the replies up to the last one: their types and payloads.
    pub fn option(&mut self, number: u32, payload: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        write_option(&mut self.stream, number, payload)?;
        let mut replies = Vec::new();
        loop {
            if read_u64(&mut self.stream)? != OPTION_REPLY_MAGIC || read_u32(&mut self.stream)? != number {
                return Err(invalid("a reply to an option that was not sent"));
            }
            let kind = read_u32(&mut self.stream)?;
            let length_bytes = read_u32(&mut self.stream)?;
            if length_bytes > MAX_OPTION_BYTES {
                return Err(invalid("a reply longer than any that makes sense"));
            }
            replies.push((kind, read_bytes(&mut self.stream, length_bytes)?));
            if kind != reply::SERVER && kind != reply::INFO {
                return Ok(replies);
            }
        }
    }

    /// The names of the exports.
    pub fn list(&mut self) -> io::Result<Vec<String>> {
        let servers = self.option(option::LIST, &[])?;
        let name = |(_, payload): &(u32, Vec<u8>)| {
            String::from_utf8_lossy(payload.get(4..).unwrap_or_default()).into_owned()
        };
        Ok(servers.iter().filter(|(kind, _)| *kind == reply::SERVER).map(name).collect())
    }

    /// Chooses an export.
    pub fn go(mut self, name: &str) -> io::Result<Client<S>> {
        let mut payload = (name.len() as u32).to_be_bytes().to_vec();
        payload.extend(name.as_bytes());
        payload.extend([0, 0]);
        let replies = self.option(option::GO, &payload)?;
        if let Some((kind, message)) = replies.last().filter(|(kind, _)| *kind != reply::ACK) {
            let message = String::from_utf8_lossy(message);
            return Err(io::Error::other(format!("the server refused: {kind:#x} {message}")));
        }
        let mut export = ExportInfo {
            size_bytes: 0,
            flags: 0,
            minimum_block_bytes: 1,
            preferred_block_bytes: 4096,
            maximum_block_bytes: u32::MAX,
        };
        for payload in replies.iter().filter(|(kind, _)| *kind == reply::INFO).map(|(_, p)| p) {
            let mut payload = &payload[..];
            match read_u16(&mut payload)? {
                info::EXPORT => {
                    export.size_bytes = read_u64(&mut payload)?;
                    export.flags = read_u16(&mut payload)?;
                }
                info::BLOCK_SIZE => {
                    export.minimum_block_bytes = read_u32(&mut payload)?;
                    export.preferred_block_bytes = read_u32(&mut payload)?;
                    export.maximum_block_bytes = read_u32(&mut payload)?;
                }
                _ => {}
            }
        }
        Ok(Client { stream: self.stream, export, next_cookie: 0 })
    }

    /// Ends the handshake.
    pub fn abort(mut self) -> io::Result<()> {
        self.option(option::ABORT, &[]).map(drop)
    }
}

impl<S: Read + Write> Client<S> {
    /// What the server said about the export.
    pub fn export(&self) -> ExportInfo {
        self.export
    }

    /// The connection itself, ready for requests.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Sends a request without waiting for its reply; returns its cookie.
    pub fn send(
        &mut self,
        command: u16,
        flags: u16,
        (offset_bytes, length_bytes): (u64, u32),
        data: &[u8],
    ) -> io::Result<u64> {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        let header = RequestHeader { flags, command, cookie, offset_bytes, length_bytes };
        let mut bytes = header.to_bytes();
        bytes.extend(data);
        self.stream.write_all(&bytes)?;
        Ok(cookie)
    }

    /// Waits for a reply: the request's cookie and its error.
    pub fn receive(&mut self) -> io::Result<(u64, Result<(), NbdError>)> {
        if read_u32(&mut self.stream)? != SIMPLE_REPLY_MAGIC {
            return Err(invalid("a reply without its magic"));
        }
        let error = read_u32(&mut self.stream)?;
        let cookie = read_u64(&mut self.stream)?;
        Ok((cookie, if error == 0 { Ok(()) } else { Err(NbdError(error)) }))
    }

    fn request(&mut self, command: u16, flags: u16, range: (u64, u32), data: &[u8]) -> io::Result<()> {
        let cookie = self.send(command, flags, range, data)?;
        let (answered, result) = self.receive()?;
        if answered != cookie {
            return Err(invalid("a reply to a request that was not sent"));
        }
        result.map_err(io::Error::other)
    }

    /// Reads.
    pub fn read(&mut self, offset_bytes: u64, length_bytes: u32) -> io::Result<Vec<u8>> {
        self.request(command::READ, 0, (offset_bytes, length_bytes), &[])?;
        read_bytes(&mut self.stream, length_bytes)
    }

    /// Writes, forced or not.
    pub fn write(&mut self, offset_bytes: u64, data: &[u8], forced: bool) -> io::Result<()> {
        let flags = if forced { command::FLAG_FUA } else { 0 };
        self.request(command::WRITE, flags, (offset_bytes, data.len() as u32), data)
    }

    /// Flushes.
    pub fn flush(&mut self) -> io::Result<()> {
        self.request(command::FLUSH, 0, (0, 0), &[])
    }

    /// Discards.
    pub fn trim(&mut self, offset_bytes: u64, length_bytes: u32) -> io::Result<()> {
        self.request(command::TRIM, 0, (offset_bytes, length_bytes), &[])
    }

    /// Writes zeroes.
    pub fn write_zeroes(&mut self, offset_bytes: u64, length_bytes: u32) -> io::Result<()> {
        self.request(command::WRITE_ZEROES, 0, (offset_bytes, length_bytes), &[])
    }

    /// Says goodbye.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.send(command::DISC, 0, (0, 0), &[]).map(drop)
    }
}

/// An error number of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server answered with error {0}")]
pub struct NbdError(pub u32);
