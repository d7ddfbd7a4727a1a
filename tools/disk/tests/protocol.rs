//! The server as a client sees it: handshake, requests, errors, power cuts, the control export.

#[path = "support/server.rs"]
mod support;

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use cairnfs_disk::client::{Client, Handshake, NbdError};
use cairnfs_disk::control_export::CONTROL_BYTES;
use cairnfs_disk::disk::DiskOptions;
use cairnfs_disk::protocol::{command, errno, option, reply, transmission, RequestHeader, IHAVEOPT};
use cairnfs_disk::server::Server;
use proptest::prelude::*;
use support::{connect, raw, server, SIZE_BYTES};

type Connection = Client<UnixStream>;

fn error_of(result: std::io::Result<()>) -> u32 {
    let error = result.expect_err("it must fail");
    error.get_ref().and_then(|inner| inner.downcast_ref::<NbdError>()).expect("an NBD error").0
}

fn ask(control: &mut Connection, line: &str) -> Result<String, String> {
    let mut sector = line.as_bytes().to_vec();
    sector.resize(512, 0);
    let result = control.write(0, &sector, false);
    let answer = control.read(0, 4096).unwrap();
    let text = String::from_utf8(answer).unwrap().trim_end_matches('\0').to_owned();
    result.map(|()| text.clone()).map_err(|_| text)
}

#[test]
fn options_are_answered_one_by_one() {
    let server = server(DiskOptions::default());
    let (stream, _) = raw(&server);
    let mut handshake = Handshake::begin(stream).unwrap();
    assert_eq!(handshake.list().unwrap(), ["disk0", "control"]);
    let structured_replies = 8;
    assert_eq!(handshake.option(structured_replies, &[]).unwrap()[0].0, reply::ERR_UNSUP);
    let unknown = [&[0, 0, 0, 4][..], b"nope", &[0, 0]].concat();
    assert_eq!(handshake.option(option::INFO, &unknown).unwrap()[0].0, reply::ERR_UNKNOWN);
    assert_eq!(handshake.option(option::GO, &[0, 0, 0, 9, 1]).unwrap()[0].0, reply::ERR_INVALID);
    handshake.abort().unwrap();
}

#[test]
fn the_oldest_way_to_choose_an_export_works() {
    let server = server(DiskOptions::default());
    for (flags, zeroes) in [(1_u32, 124), (3, 0)] {
        let (mut stream, _) = raw(&server);
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        stream.write_all(&flags.to_be_bytes()).unwrap();
        stream.write_all(&IHAVEOPT.to_be_bytes()).unwrap();
        stream.write_all(&option::EXPORT_NAME.to_be_bytes()).unwrap();
        stream.write_all(&5_u32.to_be_bytes()).unwrap();
        stream.write_all(b"disk0").unwrap();
        let mut about = vec![0; 10 + zeroes];
        stream.read_exact(&mut about).unwrap();
        assert_eq!(about[..8], SIZE_BYTES.to_be_bytes());
    }
}

#[test]
fn flags_say_what_the_disk_can_do() {
    let flags = |options| connect(&server(options), "disk0").export().flags;
    let all = flags(DiskOptions::default());
    assert_ne!(all & transmission::SEND_FLUSH, 0);
    assert_ne!(all & transmission::SEND_FUA, 0);
    let fewer = flags(DiskOptions { advertises_fua: false, ..DiskOptions::default() });
    assert_eq!(all ^ fewer, transmission::SEND_FUA);
    let read_only = flags(DiskOptions { read_only: true, ..DiskOptions::default() });
    assert_eq!(all ^ read_only, transmission::READ_ONLY);
}

#[test]
fn what_was_written_reads_back() {
    let server = server(DiskOptions::default());
    let mut disk = connect(&server, "disk0");
    assert_eq!(disk.export().size_bytes, SIZE_BYTES);
    disk.write(4096, &[1; 2048], false).unwrap();
    disk.write(4608, &[2; 512], true).unwrap();
    disk.trim(5120, 512).unwrap();
    disk.write_zeroes(5632, 512).unwrap();
    for _ in 0..2 {
        let bytes = disk.read(4096, 2048).unwrap();
        let fills: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert_eq!(fills, [1, 2, 0, 0]);
        disk.flush().unwrap();
    }
    disk.disconnect().unwrap();
}

#[test]
fn bad_requests_get_errors_and_the_connection_lives() {
    let server = server(DiskOptions::default());
    let mut disk = connect(&server, "disk0");
    assert_eq!(error_of(disk.write(SIZE_BYTES, &[0; 512], false)), errno::ENOSPC);
    assert_eq!(error_of(disk.trim(SIZE_BYTES - 512, 1024)), errno::ENOSPC);
    assert_eq!(error_of(disk.write(1, &[0; 512], false)), errno::EINVAL);
    assert_eq!(error_of(disk.write_zeroes(0, 0)), errno::EINVAL);
    disk.send(99, 0, (0, 512), &[]).unwrap();
    assert_eq!(disk.receive().unwrap().1, Err(NbdError(errno::ENOTSUP)));
    disk.send(command::WRITE, 1 << 9, (0, 512), &[0; 512]).unwrap();
    assert_eq!(disk.receive().unwrap().1, Err(NbdError(errno::EINVAL)));
    disk.flush().unwrap();

    let read_only = support::server(DiskOptions { read_only: true, ..DiskOptions::default() });
    let mut disk = connect(&read_only, "disk0");
    assert_eq!(error_of(disk.write(0, &[0; 512], false)), errno::EPERM);
    disk.read(0, 512).unwrap();
}

proptest! {
    #[test]
    fn no_bytes_make_the_server_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), chosen: bool) {
        let server = server(DiskOptions::default());
        let (mut stream, thread) = raw(&server);
        if chosen {
            stream = Handshake::begin(stream).unwrap().go("disk0").unwrap().into_stream();
            // A valid magic, so that some requests get past it.
            stream.write_all(&0x2560_9513_u32.to_be_bytes()).unwrap();
            stream.write_all(&[0, 0, 0, bytes.len() as u8 % 8]).unwrap();
        } else {
            stream.write_all(&1_u32.to_be_bytes()).unwrap();
            stream.write_all(&IHAVEOPT.to_be_bytes()).unwrap();
        }
        // The server may have hung up already.
        let _ = stream.write_all(&bytes);
        drop(stream);
        prop_assert!(thread.join().is_ok());
    }
}

#[test]
fn a_power_cut_ends_the_connection_and_the_next_one_sees_what_is_left() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    let mut disk = connect(&server, "disk0");
    disk.write(0, &[1; 512], false).unwrap();
    disk.flush().unwrap();
    disk.write(512, &[2; 512], true).unwrap();
    disk.write(1024, &[3; 512], false).unwrap();
    let answer = ask(&mut control, "cut seed=1").unwrap();
    assert!(answer.contains("disk0.dropped_writes=1\n"), "{answer}");
    assert!(disk.read(0, 512).is_err());

    let mut disk = connect(&server, "disk0");
    let fills: Vec<u8> = disk.read(0, 1536).unwrap().chunks(512).map(|sector| sector[0]).collect();
    assert_eq!(fills, [1, 2, 0]);
}

#[test]
fn with_the_power_held_nobody_is_served_after_a_cut() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    ask(&mut control, "power held").unwrap();
    let mut disk = connect(&server, "disk0");
    disk.write(0, &[1; 512], true).unwrap();
    ask(&mut control, "cut seed=1").unwrap();

    let mut stubborn = connect(&server, "disk0");
    assert!(stubborn.write(0, &[2; 512], true).is_err());
    ask(&mut control, "mark in the dark").unwrap();
    assert!(connect(&server, "disk0").read(0, 512).is_err());

    ask(&mut control, "power on").unwrap();
    assert_eq!(connect(&server, "disk0").read(0, 512).unwrap(), [1; 512]);
    assert!(!ask(&mut control, "marks").unwrap().contains("dark"));
    ask(&mut control, "cut seed=2").unwrap();
    assert!(connect(&server, "disk0").read(0, 512).is_ok(), "the power is not held any more");
}

#[test]
fn an_armed_cut_leaves_its_request_unanswered() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    let mut disk = connect(&server, "disk0");
    ask(&mut control, "cut seed=1 change=3").unwrap();
    disk.write(0, &[1; 512], false).unwrap();
    disk.write(512, &[1; 512], false).unwrap();
    assert!(disk.write(1024, &[1; 512], true).is_err());
    let status = ask(&mut control, "status").unwrap();
    assert!(status.contains("last_cut.in_flight=1\n"), "{status}");
    assert!(status.contains("cut_armed=false\n"), "{status}");
}

/// Sends requests in one piece, so that all have arrived when the first is answered, and takes the replies.
fn send_at_once(server: &Arc<Server>, requests: &[(u16, u64, &[u8])]) {
    let mut stream = connect(server, "disk0").into_stream();
    let mut bytes = Vec::new();
    for &(command, offset_bytes, data) in requests {
        let length_bytes = data.len() as u32;
        let header = RequestHeader { flags: 0, command, cookie: 0, offset_bytes, length_bytes };
        bytes.extend(header.to_bytes());
        bytes.extend(data);
    }
    stream.write_all(&bytes).unwrap();
    for _ in requests {
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[4..8], [0; 4]);
    }
}

#[test]
fn a_flush_does_not_cover_a_write_that_nobody_waited_for() {
    for waits in [false, true] {
        let server = server(DiskOptions::default());
        let mut control = connect(&server, "control");
        let (write, flush) = ((command::WRITE, 0, &[7; 512][..]), (command::FLUSH, 0, &[][..]));
        if waits {
            send_at_once(&server, &[write]);
            send_at_once(&server, &[flush]);
        } else {
            send_at_once(&server, &[write, flush]);
        }
        let answer = ask(&mut control, "cut seed=1").unwrap();
        assert_eq!(answer.contains("dropped_writes=1\n"), !waits, "{answer}");
    }
}

#[test]
fn overlapping_writes_in_flight_are_counted() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    send_at_once(&server, &[0, 512, 0].map(|offset| (command::WRITE, offset, &[7; 512][..])));
    send_at_once(&server, &[(command::WRITE, 0, &[8; 512])]);
    let counters = ask(&mut control, "counters").unwrap();
    assert!(counters.contains("\noverlapping_in_flight=1\n"), "{counters}");
}

#[test]
fn marks_stand_between_the_writes_and_survive_with_the_state() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    ask(&mut control, "record on").unwrap();
    let mut disk = connect(&server, "disk0");
    for index in 0..3_u64 {
        disk.write(index * 512, &[1; 512], false).unwrap();
        disk.flush().unwrap();
        ask(&mut control, &format!("mark fsync {index} a/b")).unwrap();
    }
    ask(&mut control, "record off").unwrap();
    let states = ask(&mut control, "states").unwrap();
    // Three epochs with one write each, and the empty one after the last flush.
    assert!(states.contains("\nstates=7\n"), "{states}");
    for (state, marks) in [(0, 0), (1, 0), (2, 1), (4, 2), (6, 3)] {
        ask(&mut control, &format!("offer state={state}")).unwrap();
        let answer = ask(&mut control, "marks").unwrap();
        assert_eq!(answer.matches("mark=fsync ").count(), marks, "state {state}: {answer}");
        let mut disk = connect(&server, "disk0");
        let written = disk.read(0, 1536).unwrap().chunks(512).filter(|sector| sector[0] == 1).count();
        assert!(written >= marks, "state {state}");
    }
}

#[test]
fn a_guest_is_told_why_its_command_failed_and_cannot_touch_files() {
    let server = server(DiskOptions::default());
    let mut control = connect(&server, "control");
    let error = ask(&mut control, "frobnicate").unwrap_err();
    assert!(error.starts_with("error: unknown command"), "{error}");
    let error = ask(&mut control, "image /tmp/x").unwrap_err();
    assert!(error.contains("only the host"), "{error}");
    assert!(ask(&mut control, "offer state=0").unwrap_err().contains("no recording"));
    assert_eq!(error_of(control.write(0, &[0; 1024], false)), errno::EINVAL);
    assert_eq!(error_of(control.write(CONTROL_BYTES, &[0; 512], false)), errno::EINVAL);
    assert!(ask(&mut control, "status disk=disk9").unwrap_err().contains("disk9"));
    assert_eq!(ask(&mut control, "keep").unwrap(), "ok\nkept=0\n");
}

#[test]
fn two_disks_of_a_machine_lose_power_together() {
    let disks = ["disk0", "disk1"].map(|name| {
        (name.to_owned(), cairnfs_disk::disk::Disk::in_memory(SIZE_BYTES, DiskOptions::default()))
    });
    let server = Server::new(disks.into(), 4096);
    let mut control = connect(&server, "control");
    let mut first = connect(&server, "disk0");
    let mut second = connect(&server, "disk1");
    assert_eq!(first.export().minimum_block_bytes, 4096);
    ask(&mut control, "cut seed=3 change=2").unwrap();
    second.write(0, &[1; 4096], false).unwrap();
    first.write(0, &[1; 4096], false).unwrap();
    assert!(first.write(4096, &[1; 4096], false).is_err());
    assert!(second.read(0, 4096).is_err());
    let status = ask(&mut control, "status disk=disk1").unwrap();
    assert!(status.contains("last_cut.completed_volatile=1\n"), "{status}");
}

#[test]
fn the_host_speaks_lines_and_hears_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let image = folder.path().join("image");
    let server = server(DiskOptions::default());
    let mut disk = connect(&server, "disk0");
    disk.write(512, &[5; 512], true).unwrap();
    disk.flush().unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let listening = Arc::clone(&server);
    std::thread::spawn(move || listening.listen_control(&listener));
    let mut stream = UnixStream::connect(&path).unwrap();
    writeln!(stream, "counters\nimage {}\nnonsense", image.display()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let replies: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(replies[0]["answer"]["fua_writes"], 1);
    assert_eq!(replies[1]["ok"], true);
    assert_eq!(replies[2]["ok"], false);
    let bytes = std::fs::read(&image).unwrap();
    assert_eq!((bytes.len() as u64, bytes[511], bytes[512]), (SIZE_BYTES, 0, 5));
}
