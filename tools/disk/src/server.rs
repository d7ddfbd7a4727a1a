//! The server: sockets, connections, and the order in which requests and answers meet.
//!
//! Each connection has a thread that serves one request at a time. Before it sends an answer it
//! takes in every request that has arrived meanwhile and notes which entries had been answered by
//! then: so a flush that a guest sent without waiting for a write does not cover that write, as on
//! a real disk. When the power goes, the requests taken in and not served are in flight: the cut
//! may have let them through.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use serde_json::json;

use crate::control_export::{ControlExport, CONTROL_BYTES, CONTROL_EXPORT};
use crate::disk::{Disk, DiskError, Outcome, Request};
use crate::epoch_log::{Change, ChangeKind, Durability};
use crate::extent_map::Content;
use crate::handshake::{self, ExportInfo, Exports};
use crate::machine::{Hangup, Machine, Origin};
use crate::protocol::{
    command, errno, invalid, read_bytes, simple_reply, transmission, RequestHeader, MAX_DATA_BYTES,
};
use crate::units::{EntryNumber, SectorRange};

/// Requests taken in ahead of the one being served.
const READ_AHEAD_REQUESTS: usize = 256;

/// A connection of either kind.
#[derive(Debug)]
pub enum Stream {
    /// A unix socket.
    Unix(UnixStream),
    /// A TCP socket.
    Tcp(TcpStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }

    fn hang_up(&self) {
        // It may have been closed by the peer, and then there is nothing to do.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }

    /// Whether a read would not block.
    fn has_input(&self) -> io::Result<bool> {
        let mut poll_fds = [PollFd::new(self, PollFlags::IN)];
        let no_wait = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut poll_fds, Some(&no_wait))? > 0)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.read(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The open connections to disks, so that a power cut can close them.
#[derive(Debug, Default)]
pub struct Connections {
    open: Mutex<Vec<(u64, usize, Stream)>>,
}

impl Connections {
    fn add(&self, disk: usize, stream: &Stream) -> io::Result<OpenConnection<'_>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let id = open.iter().map(|(id, ..)| id + 1).max().unwrap_or(0);
        open.push((id, disk, stream.try_clone()?));
        Ok(OpenConnection { all: self, id })
    }
}

/// One of them; it is so no more when this is dropped.
struct OpenConnection<'a> {
    all: &'a Connections,
    id: u64,
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|(other, ..)| *other != self.id);
    }
}

/// Hangs up on the connections of a disk.
#[derive(Clone, Debug, Default)]
pub struct ConnectionHangup(pub Arc<Connections>);

impl Hangup for ConnectionHangup {
    fn hang_up(&self, disk: usize) {
        let open = self.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().filter(|(_, other, _)| *other == disk).for_each(|(_, _, stream)| stream.hang_up());
    }
}

/// What an export is.
#[derive(Clone, Copy, Debug)]
enum Target {
    Disk(usize),
    Control,
}

/// The server.
pub struct Server {
    machine: Machine,
    control: ControlExport,
    connections: Arc<Connections>,
    block_bytes: u32,
}

impl Server {
    /// A server for these disks, which advertises this block size.
    pub fn new(disks: Vec<(String, Disk)>, block_bytes: u32) -> Arc<Self> {
        let hangup = ConnectionHangup::default();
        let connections = Arc::clone(&hangup.0);
        let machine = Machine::new(disks, Box::new(hangup));
        Arc::new(Self { machine, control: ControlExport::default(), connections, block_bytes })
    }

    /// The disks.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Serves each connection to a unix socket in a thread of its own; never returns.
    pub fn listen_unix(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            self.spawn(Stream::Unix(stream));
        }
    }

    /// Serves each connection to a TCP socket in a thread of its own; never returns.
    pub fn listen_tcp(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().flatten() {
            // An answer is one small packet: waiting to fill it would cost 40 ms.
            if stream.set_nodelay(true).is_ok() {
                self.spawn(Stream::Tcp(stream));
            }
        }
    }

    /// Serves the host's control socket: a line in, a line of JSON out; never returns.
    pub fn listen_control(self: &Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming().flatten() {
            let server = Arc::clone(self);
            std::thread::spawn(move || {
                if let Err(error) = server.serve_control(&stream) {
                    eprintln!("cairnfs-disk: control connection: {error}");
                }
            });
        }
    }

    fn serve_control(&self, stream: &UnixStream) -> io::Result<()> {
        let mut writer = stream;
        for line in BufReader::new(stream).lines() {
            let reply = match self.machine.command(&line?, Origin::Host) {
                Ok(answer) => json!({ "ok": true, "answer": answer }),
                Err(error) => json!({ "ok": false, "error": error.to_string() }),
            };
            writeln!(writer, "{reply}")?;
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, stream: Stream) {
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            if let Err(error) = server.serve(stream) {
                // A guest that vanishes in the middle of a request is daily business here.
                if !matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
                ) {
                    eprintln!("cairnfs-disk: connection: {error}");
                }
            }
        });
    }

    /// Serves one connection until it ends.
    pub fn serve(&self, mut stream: Stream) -> io::Result<()> {
        let Some(name) = handshake::serve(&mut stream, self)? else { return Ok(()) };
        match self.target(&name) {
            None => Ok(()),
            Some(Target::Control) => self.serve_control_export(&mut stream),
            Some(Target::Disk(index)) => {
                let _open = self.connections.add(index, &stream)?;
                let Some(life) = self.machine.disk(index).connect() else { return Ok(()) };
                let mut connection =
                    DiskConnection { server: self, index, life, stream, queue: VecDeque::new() };
                let result = connection.serve();
                connection.stream.hang_up();
                result
            }
        }
    }

    fn target(&self, name: &str) -> Option<Target> {
        match name {
            CONTROL_EXPORT => Some(Target::Control),
            "" => Some(Target::Disk(0)),
            name => self.machine.find(name).map(Target::Disk),
        }
    }

    fn serve_control_export(&self, stream: &mut Stream) -> io::Result<()> {
        while let Some(header) = RequestHeader::read(stream)? {
            let data = read_data(stream, &header)?;
            let range = SectorRange::from_bytes(header.offset_bytes, u64::from(header.length_bytes))
                .filter(|range| ControlExport::holds(*range));
            let reply = match (header.command, range) {
                (command::DISC, _) => return Ok(()),
                (command::FLUSH, _) => simple_reply(0, header.cookie),
                (command::READ, Some(range)) => {
                    let mut reply = simple_reply(0, header.cookie);
                    reply.extend(self.control.read(range));
                    reply
                }
                (command::WRITE, Some(range)) => {
                    let is_done = self.control.write(&self.machine, range, &data);
                    simple_reply(if is_done { 0 } else { errno::EINVAL }, header.cookie)
                }
                _ => simple_reply(errno::EINVAL, header.cookie),
            };
            stream.write_all(&reply)?;
        }
        Ok(())
    }
}

impl Exports for Server {
    fn names(&self) -> Vec<String> {
        self.machine.names().chain([CONTROL_EXPORT]).map(str::to_owned).collect()
    }

    fn info(&self, name: &str) -> Option<ExportInfo> {
        let always = transmission::HAS_FLAGS | transmission::SEND_FLUSH;
        let (size_bytes, flags, block_bytes) = match self.target(name)? {
            Target::Control => (CONTROL_BYTES, always, 512),
            Target::Disk(index) => {
                let disk = self.machine.disk(index);
                let mut flags = always | transmission::SEND_TRIM | transmission::SEND_WRITE_ZEROES;
                if disk.options().advertises_fua {
                    flags |= transmission::SEND_FUA;
                }
                if disk.options().read_only {
                    flags |= transmission::READ_ONLY;
                }
                (disk.size_bytes(), flags, self.block_bytes)
            }
        };
        Some(ExportInfo {
            size_bytes,
            flags,
            minimum_block_bytes: block_bytes,
            preferred_block_bytes: block_bytes.max(4096),
            maximum_block_bytes: MAX_DATA_BYTES / 2,
        })
    }
}

/// A request that has arrived.
struct Arrived {
    header: RequestHeader,
    data: Vec<u8>,
    /// Log entries before this one had been answered when it arrived.
    answered_before: EntryNumber,
}

/// A connection to a disk.
struct DiskConnection<'a> {
    server: &'a Server,
    index: usize,
    life: u64,
    stream: Stream,
    queue: VecDeque<Arrived>,
}

impl DiskConnection<'_> {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if self.queue.is_empty() {
                let Some(header) = RequestHeader::read(&mut self.stream)? else { return Ok(()) };
                let answered_before = self.server.machine.disk(self.index).next_entry();
                self.take_in(header, answered_before)?;
            }
            let Some(Arrived { header, data, answered_before }) = self.queue.pop_front() else {
                continue;
            };
            if header.command == command::DISC {
                return Ok(());
            }
            let request = match to_request(&header, data) {
                Ok(request) => request,
                Err(error) => {
                    self.stream.write_all(&simple_reply(error, header.cookie))?;
                    continue;
                }
            };
            let mut disk = self.server.machine.disk(self.index);
            if disk.life() != self.life {
                return Ok(());
            }
            let unanswered_from = disk.next_entry();
            let outcome = disk.serve(request, answered_before);
            drop(disk);
            self.read_ahead(unanswered_from)?;
            let (error, data) = match outcome {
                Ok(Outcome::Done) => (0, Vec::new()),
                Ok(Outcome::Data(data)) => (0, data),
                Ok(Outcome::PowerGoes(seed)) => return self.cut(seed),
                Err(error) => (error_number(&error), Vec::new()),
            };
            let mut reply = simple_reply(error, header.cookie);
            reply.extend(data);
            self.stream.write_all(&reply)?;
        }
    }

    /// Takes in what has arrived, before the answer to the request being served is sent.
    fn read_ahead(&mut self, answered_before: EntryNumber) -> io::Result<()> {
        while self.queue.len() < READ_AHEAD_REQUESTS && self.stream.has_input()? {
            let Some(header) = RequestHeader::read(&mut self.stream)? else { break };
            self.take_in(header, answered_before)?;
        }
        Ok(())
    }

    fn take_in(&mut self, header: RequestHeader, answered_before: EntryNumber) -> io::Result<()> {
        let data = read_data(&mut self.stream, &header)?;
        self.queue.push_back(Arrived { header, data, answered_before });
        Ok(())
    }

    fn cut(&mut self, seed: crate::units::Seed) -> io::Result<()> {
        let in_flight =
            self.queue.drain(..).filter_map(|arrived| match to_request(&arrived.header, arrived.data) {
                Ok(Request::Change { kind, range, content, .. }) => {
                    let durability = Durability::Volatile;
                    Some(Change { range, content, kind, durability, completed: false })
                }
                _ => None,
            });
        let in_flight = in_flight.collect();
        let cut = self.server.machine.cut(seed, Some((self.index, in_flight)));
        cut.map(drop).map_err(io::Error::other)
    }
}

/// The data behind a request's header, if the command has any.
fn read_data(stream: &mut impl Read, header: &RequestHeader) -> io::Result<Vec<u8>> {
    if header.command != command::WRITE {
        return Ok(Vec::new());
    }
    if header.length_bytes > MAX_DATA_BYTES {
        return Err(invalid("a write larger than the server takes"));
    }
    read_bytes(stream, header.length_bytes)
}

/// The request of a header, or the error that answers it.
fn to_request(header: &RequestHeader, data: Vec<u8>) -> Result<Request, u32> {
    if header.command == command::FLUSH {
        return Ok(Request::Flush);
    }
    let range =
        SectorRange::from_bytes(header.offset_bytes, u64::from(header.length_bytes)).ok_or(errno::EINVAL)?;
    let (kind, content) = match header.command {
        command::READ if header.length_bytes > MAX_DATA_BYTES => return Err(errno::EINVAL),
        command::READ => return Ok(Request::Read(range)),
        command::WRITE => (ChangeKind::Write, Content::of_write(data)),
        command::WRITE_ZEROES => (ChangeKind::WriteZeroes, Content::Zeroes),
        command::TRIM => (ChangeKind::Discard, Content::Zeroes),
        _ => return Err(errno::ENOTSUP),
    };
    let known = match kind {
        ChangeKind::WriteZeroes => command::FLAG_FUA | command::FLAG_NO_HOLE,
        ChangeKind::Write | ChangeKind::Discard => command::FLAG_FUA,
    };
    if header.flags & !known != 0 {
        return Err(errno::EINVAL);
    }
    Ok(Request::Change { kind, range, content, forced: header.flags & command::FLAG_FUA != 0 })
}

fn error_number(error: &DiskError) -> u32 {
    match error {
        DiskError::OutOfRange => errno::ENOSPC,
        DiskError::ReadOnly => errno::EPERM,
        _ => {
            eprintln!("cairnfs-disk: {error}");
            errno::EIO
        }
    }
}
