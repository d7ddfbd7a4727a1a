//! `cairnfs-disk`: serve disks, give them commands, look at recordings.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{bail, Context, Result};
use cairnfs_disk::crash_state::Examiner;
use cairnfs_disk::disk::{Disk, DiskOptions};
use cairnfs_disk::image::Image;
use cairnfs_disk::prices::Prices;
use cairnfs_disk::recording_file;
use cairnfs_disk::server::Server;
use cairnfs_disk::units::{Seed, SizeBytes, StateNumber, SECTOR_BYTES};
use clap::{Args, Parser, Subcommand};

/// An NBD disk with a volatile cache that can lose power.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Serve disks until the standard input ends; then write back what is volatile.
    Serve(ServeArguments),
    /// Send command lines to a server's control socket and print the answers, one line of JSON each.
    Command {
        /// The control socket.
        socket: PathBuf,
        /// The commands; see the manual page docs/disk.md.
        #[arg(required = true)]
        lines: Vec<String>,
    },
    /// Print how many crash states a recording has, epoch by epoch, as JSON.
    States {
        /// The recording.
        recording: PathBuf,
    },
    /// Write one crash state of a recording to an image file.
    State {
        /// The recording.
        recording: PathBuf,
        /// The number of the state.
        state: u64,
        /// The image to write.
        image: PathBuf,
    },
}

#[derive(Args)]
struct ServeArguments {
    /// A disk: NAME=mem:SIZE, or NAME=FILE with options `,cow` (the file never changes), `,ro`,
    /// `,size=SIZE` (make the file or set its size). May be given several times.
    #[arg(long = "disk", required = true, value_name = "NAME=BACKING[,OPTION...]")]
    disks: Vec<DiskArgument>,
    /// Serve NBD on this unix socket.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve NBD on this loopback address; port 0 lets the system choose, and the choice is printed.
    #[arg(long, value_name = "ADDRESS:PORT")]
    tcp: Option<SocketAddr>,
    /// Take commands on this unix socket.
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// Do not advertise FUA.
    #[arg(long)]
    no_fua: bool,
    /// The block size to advertise.
    #[arg(long, default_value_t = 512, value_name = "BYTES")]
    block_bytes: u32,
    /// Written bytes after which the cache empties itself.
    #[arg(long, default_value = "1G", value_name = "SIZE")]
    cache: SizeBytes,
    /// Record every disk from the start.
    #[arg(long)]
    record: bool,
    /// Price of each write, in nanoseconds.
    #[arg(long, default_value_t = 0, value_name = "NS")]
    write_ns: u64,
    /// Price of each KiB written, in nanoseconds.
    #[arg(long, default_value_t = 0, value_name = "NS")]
    kib_ns: u64,
    /// Price of each flush, in nanoseconds.
    #[arg(long, default_value_t = 0, value_name = "NS")]
    flush_ns: u64,
    /// Price of each read, in nanoseconds.
    #[arg(long, default_value_t = 0, value_name = "NS")]
    read_ns: u64,
}

/// A disk as the command line describes it.
#[derive(Clone, Debug)]
struct DiskArgument {
    name: String,
    backing: Backing,
    read_only: bool,
}

#[derive(Clone, Debug)]
enum Backing {
    Memory(SizeBytes),
    File { path: PathBuf, size: Option<SizeBytes> },
    CopyOnWrite(PathBuf),
}

impl FromStr for DiskArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("a disk is NAME=BACKING")?;
        if name.is_empty() || name == cairnfs_disk::control_export::CONTROL_EXPORT {
            return Err(format!("`{name}` cannot be a disk's name"));
        }
        let mut words = rest.split(',');
        let backing = words.next().unwrap_or_default();
        let (mut read_only, mut copy_on_write, mut size) = (false, false, None);
        for word in words {
            match word.split_once('=') {
                None if word == "ro" => read_only = true,
                None if word == "cow" => copy_on_write = true,
                Some(("size", text)) => size = Some(text.parse()?),
                _ => return Err(format!("a disk has no option `{word}`")),
            }
        }
        let backing = match (backing.strip_prefix("mem:"), copy_on_write, size) {
            (Some(text), false, None) => Backing::Memory(text.parse()?),
            (None, true, None) => Backing::CopyOnWrite(backing.into()),
            (None, false, size) => Backing::File { path: backing.into(), size },
            _ => return Err(format!("the options of `{text}` exclude each other")),
        };
        Ok(Self { name: name.to_owned(), backing, read_only })
    }
}

impl DiskArgument {
    fn open(&self, arguments: &ServeArguments) -> Result<Disk> {
        let options = DiskOptions {
            read_only: self.read_only,
            advertises_fua: !arguments.no_fua,
            cache_bytes: arguments.cache.0,
        };
        let named = |path: &Path| path.display().to_string();
        let mut disk = match &self.backing {
            Backing::Memory(size) => Disk::in_memory(size.0, options),
            Backing::File { path, size } => {
                let medium = Image::open_file(path, size.map(|size| size.0));
                Disk::new(medium.with_context(|| named(path))?, None, options)
            }
            Backing::CopyOnWrite(path) => {
                let open = || Image::open_file_copy_on_write(path).with_context(|| named(path));
                Disk::new(open()?, Some(open()?), options)
            }
        };
        if disk.size_bytes() == 0 || !disk.size_bytes().is_multiple_of(SECTOR_BYTES) {
            bail!("disk {}: {} bytes is no size for a disk", self.name, disk.size_bytes());
        }
        *disk.prices_mut() = Prices {
            write_ns: arguments.write_ns,
            kib_ns: arguments.kib_ns,
            flush_ns: arguments.flush_ns,
            read_ns: arguments.read_ns,
        };
        if arguments.record {
            disk.start_recording();
        }
        Ok(disk)
    }
}

fn main() -> ExitCode {
    let result = match Arguments::parse().action {
        Action::Serve(arguments) => serve(&arguments),
        Action::Command { socket, lines } => return command(&socket, &lines),
        Action::States { recording } => states(&recording),
        Action::State { recording, state, image } => write_state(&recording, state, &image),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairnfs-disk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &ServeArguments) -> Result<()> {
    if !(512..=4096).contains(&arguments.block_bytes) || !arguments.block_bytes.is_power_of_two() {
        bail!("the block size is a power of two from 512 to 4096");
    }
    if arguments.tcp.is_some_and(|address| !address.ip().is_loopback()) {
        bail!("the disk is for this machine only: give a loopback address");
    }
    let mut disks = Vec::new();
    for disk in &arguments.disks {
        if disks.iter().any(|(name, _)| name == &disk.name) {
            bail!("two disks are named {}", disk.name);
        }
        disks.push((disk.name.clone(), disk.open(arguments)?));
    }
    let server = Server::new(disks, arguments.block_bytes);

    if let Some(path) = &arguments.socket {
        let (listener, server) = (bind(path)?, Arc::clone(&server));
        std::thread::spawn(move || server.listen_unix(&listener));
    }
    if let Some(path) = &arguments.control_socket {
        let (listener, server) = (bind(path)?, Arc::clone(&server));
        std::thread::spawn(move || server.listen_control(&listener));
    }
    let mut ready = String::from("ready");
    if let Some(address) = arguments.tcp {
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        ready = format!("ready tcp={}", listener.local_addr()?);
        let server = Arc::clone(&server);
        std::thread::spawn(move || server.listen_tcp(&listener));
    }
    println!("{ready}");
    // Whoever started the server holds its input open: it never outlives a test that was killed.
    let mut line = String::new();
    while std::io::stdin().lock().read_line(&mut line)? > 0 {
        line.clear();
    }
    Ok(server.machine().shut_down()?)
}

/// Binds a unix socket; one that a dead server left behind is replaced.
fn bind(path: &Path) -> Result<UnixListener> {
    if path.exists() && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).with_context(|| path.display().to_string())?;
    }
    UnixListener::bind(path).with_context(|| path.display().to_string())
}

/// Exit code 1 if a command was refused, 2 if there is no server.
fn command(socket: &Path, lines: &[String]) -> ExitCode {
    match send(socket, lines) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("cairnfs-disk: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn send(socket: &Path, lines: &[String]) -> Result<bool> {
    let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
    let mut answers = BufReader::new(&stream).lines();
    for line in lines {
        writeln!(&stream, "{line}")?;
        let answer = answers.next().context("the server hung up")??;
        println!("{answer}");
        let answer: serde_json::Value = serde_json::from_str(&answer)?;
        if answer["ok"] != true {
            return Ok(false);
        }
    }
    Ok(true)
}

fn examine(recording: &Path) -> Result<Examiner> {
    let loaded = recording_file::load(recording);
    Ok(Examiner::new(loaded.with_context(|| recording.display().to_string())?, Seed(0)))
}

fn states(recording: &Path) -> Result<()> {
    let examiner = examine(recording)?;
    let all = serde_json::json!({ "states": examiner.states(), "epochs": examiner.epochs() });
    println!("{all}");
    Ok(())
}

fn write_state(recording: &Path, state: u64, image: &Path) -> Result<()> {
    let mut examiner = examine(recording)?;
    let state = StateNumber(state);
    let description = examiner.describe(state).context("there is no such state")?;
    let built = examiner.build(state)?.context("there is no such state")?;
    built.save(image).with_context(|| image.display().to_string())?;
    println!("{}", serde_json::to_string(&description)?);
    Ok(())
}
