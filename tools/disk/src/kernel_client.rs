//! The guest kernel's own NBD client, configured over generic netlink.
//!
//! A connection made here and shaken hands on is handed to the kernel, which then owns it: no
//! process is needed for the data path. Netlink is preferred to the older ioctls because of that, and
//! because it needs no `unsafe`. One thing the kernel does not do by itself: when a connection dies,
//! requests that were sent and not answered wait for ever (or for a timeout, which a slow disk would
//! hit too). So somebody watches the connection and detaches it when the server hangs up; only then
//! does the guest see what a power cut is to it, errors. The watcher is also the only one that ever
//! detaches, so that a late one cannot end the connection after its own. Command and attribute numbers are those of the kernel's
//! include/uapi/linux/nbd-netlink.h and genetlink.h.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use rustix::event::{poll, PollFd, PollFlags};
use rustix::net::{netlink, recv, send, socket, AddressFamily, RecvFlags, SendFlags, SocketType};

use crate::handshake::ExportInfo;

const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLA_F_NESTED: u16 = 1 << 15;
const NLA_TYPE_MASK: u16 = !(NLA_F_NESTED | 1 << 14);
const MESSAGE_HEADER_BYTES: usize = 16;
const GENERIC_HEADER_BYTES: usize = 4;
const ATTRIBUTE_HEADER_BYTES: usize = 4;

const CONTROL_FAMILY: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;

const NBD_CONNECT: u8 = 1;
const NBD_DISCONNECT: u8 = 2;
const NBD_INDEX: u16 = 1;
const NBD_SIZE_BYTES: u16 = 2;
const NBD_BLOCK_SIZE_BYTES: u16 = 3;
const NBD_SERVER_FLAGS: u16 = 5;
const NBD_SOCKETS: u16 = 7;
const NBD_SOCKET_ITEM: u16 = 1;
const NBD_SOCKET_FD: u16 = 1;

/// Attributes of a netlink message, as bytes.
#[derive(Default)]
struct Attributes(Vec<u8>);

impl Attributes {
    fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        let length = (ATTRIBUTE_HEADER_BYTES + payload.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }
}

/// The payload of the first attribute of a kind.
fn find_attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some((header, _)) = attributes.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let this = u16::from_ne_bytes([header[2], header[3]]) & NLA_TYPE_MASK;
        let payload = attributes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        if this == kind {
            return Some(payload);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The kernel's NBD client.
#[derive(Debug)]
pub struct KernelClient {
    netlink: OwnedFd,
    family: u16,
}

impl KernelClient {
    /// Finds it; fails if the kernel has none.
    pub fn open() -> io::Result<Self> {
        let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::GENERIC))?;
        let mut client = Self { netlink, family: CONTROL_FAMILY };
        let name = Attributes::default().with(CONTROL_FAMILY_NAME, b"nbd\0");
        let reply = client.request(CONTROL_GET_FAMILY, name)?;
        let id = find_attribute(&reply, CONTROL_FAMILY_ID)
            .and_then(|id| id.first_chunk::<2>())
            .ok_or_else(|| io::Error::other("the kernel did not say which family nbd is"))?;
        client.family = u16::from_ne_bytes(*id);
        Ok(client)
    }

    /// Hands a connection to the kernel as `/dev/nbd<index>`. The transmission flags may differ from
    /// what the server said: without SEND_FUA the kernel follows each forced write with a flush.
    pub fn attach(&self, index: u32, socket: BorrowedFd<'_>, export: ExportInfo) -> io::Result<()> {
        let fd = (socket.as_raw_fd() as u32).to_ne_bytes();
        let item = Attributes::default().with(NBD_SOCKET_FD, &fd);
        let items = Attributes::default().with(NBD_SOCKET_ITEM | NLA_F_NESTED, &item.0);
        let block_bytes = u64::from(export.minimum_block_bytes.max(512));
        let attributes = Attributes::default()
            .with(NBD_INDEX, &index.to_ne_bytes())
            .with(NBD_SIZE_BYTES, &export.size_bytes.to_ne_bytes())
            .with(NBD_BLOCK_SIZE_BYTES, &block_bytes.to_ne_bytes())
            .with(NBD_SERVER_FLAGS, &u64::from(export.flags).to_ne_bytes())
            .with(NBD_SOCKETS | NLA_F_NESTED, &items.0);
        self.request(NBD_CONNECT, attributes).map(drop)
    }

    /// Waits until `stop` has input or is closed, or the server hangs up; then ends the connection of
    /// `/dev/nbd<index>`, which fails what is not answered. The device is free once nobody has it open.
    pub fn detach_after(&self, index: u32, socket: BorrowedFd<'_>, stop: BorrowedFd<'_>) -> io::Result<()> {
        // Replies are the kernel's to read: their arrival is no event here.
        let mut fds = [
            PollFd::from_borrowed_fd(socket, PollFlags::RDHUP),
            PollFd::from_borrowed_fd(stop, PollFlags::IN),
        ];
        while let Err(error) = poll(&mut fds, None) {
            if error != rustix::io::Errno::INTR {
                return Err(error.into());
            }
        }
        self.detach(index)
    }

    fn detach(&self, index: u32) -> io::Result<()> {
        let attributes = Attributes::default().with(NBD_INDEX, &index.to_ne_bytes());
        self.request(NBD_DISCONNECT, attributes).map(drop)
    }

    /// Sends a command and waits for its acknowledgement; returns the attributes of a reply that
    /// came before it.
    fn request(&self, command: u8, attributes: Attributes) -> io::Result<Vec<u8>> {
        let length = MESSAGE_HEADER_BYTES + GENERIC_HEADER_BYTES + attributes.0.len();
        let mut message = (length as u32).to_ne_bytes().to_vec();
        message.extend(self.family.to_ne_bytes());
        message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        // Sequence and port: one request at a time, and the kernel fills the port in.
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes.0);
        send(&self.netlink, &message, SendFlags::empty())?;

        let mut answer = Vec::new();
        let mut buffer = vec![0; 16 << 10];
        loop {
            let (length, _) = recv(&self.netlink, &mut buffer[..], RecvFlags::empty())?;
            if let Some(result) = take_messages(&buffer[..length], &mut answer)? {
                return result.map(|()| answer);
            }
        }
    }
}

/// Walks the messages of one datagram; the outcome, if the acknowledgement is among them.
fn take_messages(mut bytes: &[u8], answer: &mut Vec<u8>) -> io::Result<Option<io::Result<()>>> {
    let cut_short = || io::Error::other("a netlink message is cut short");
    while let Some((header, _)) = bytes.split_first_chunk::<MESSAGE_HEADER_BYTES>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let payload = bytes.get(MESSAGE_HEADER_BYTES..length).ok_or_else(cut_short)?;
        if kind == NLMSG_ERROR {
            let code = i32::from_ne_bytes(*payload.first_chunk::<4>().ok_or_else(cut_short)?);
            let failed = || Err(io::Error::from_raw_os_error(-code));
            return Ok(Some(if code == 0 { Ok(()) } else { failed() }));
        }
        *answer = payload.get(GENERIC_HEADER_BYTES..).ok_or_else(cut_short)?.to_vec();
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// An attached device with its watcher, as long as this process lives.
#[derive(Debug)]
pub struct AttachedDevice {
    watcher: JoinHandle<io::Result<()>>,
    stop: UnixStream,
}

impl AttachedDevice {
    /// Hands a connection to the kernel and begins to watch it.
    pub fn attach(index: u32, socket: OwnedFd, export: ExportInfo) -> io::Result<Self> {
        let kernel = KernelClient::open()?;
        kernel.attach(index, socket.as_fd(), export)?;
        let (stop, stopped) = UnixStream::pair()?;
        let watcher = std::thread::spawn(move || kernel.detach_after(index, socket.as_fd(), stopped.as_fd()));
        Ok(Self { watcher, stop })
    }

    /// Detaches it, unless the server has hung up before.
    pub fn detach(self) -> io::Result<()> {
        drop(self.stop);
        self.watcher.join().unwrap_or_else(|_| Err(io::Error::other("the watcher panicked")))
    }
}
