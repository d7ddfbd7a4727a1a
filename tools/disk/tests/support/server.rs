//! A server in this process, and connections to it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use cairnfs_disk::client::{Client, Handshake};
use cairnfs_disk::disk::{Disk, DiskOptions};
use cairnfs_disk::server::{Server, Stream};

/// The size of the disks here.
pub(crate) const SIZE_BYTES: u64 = 1 << 20;

/// A server with one disk in memory.
pub(crate) fn server(options: DiskOptions) -> Arc<Server> {
    Server::new(vec![("disk0".to_owned(), Disk::in_memory(SIZE_BYTES, options))], 512)
}

/// A raw connection, and the thread that serves it: its end says whether that went well.
pub(crate) fn raw(server: &Arc<Server>) -> (UnixStream, JoinHandle<io::Result<()>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = Arc::clone(server);
    (ours, std::thread::spawn(move || server.serve(Stream::Unix(theirs))))
}

/// A connection to an export.
pub(crate) fn connect(server: &Arc<Server>, export: &str) -> Client<UnixStream> {
    Handshake::begin(raw(server).0).unwrap().go(export).unwrap()
}
