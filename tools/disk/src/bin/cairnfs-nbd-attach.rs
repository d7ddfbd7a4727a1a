//! `cairnfs-nbd-attach`: in a guest, attach an export to the kernel's NBD client, detach it, or send
//! a command to the control export. Linked statically, it runs in an initramfs with nothing else.
//!
//! `attach` leaves a process behind, which detaches the device when the server hangs up (see
//! `kernel_client`) or when `detach` asks it to over an abstract unix socket.

use std::io::{self, BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use cairnfs_disk::client::Handshake;
use cairnfs_disk::control_client::ControlClient;
use cairnfs_disk::kernel_client::KernelClient;
use cairnfs_disk::protocol::transmission;
use clap::{Args, Parser, Subcommand};

/// A device is busy for a moment after its holder has been told to let it go.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Attach exports of cairnfs-disk to this kernel.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Connect to a server and hand the connection to the kernel.
    Attach(AttachArguments),
    /// Attach, and stay until the server hangs up or `detach` comes.
    #[command(hide = true)]
    Hold(AttachArguments),
    /// End the connection of /dev/nbdN.
    Detach {
        /// Which one.
        index: u32,
    },
    /// Give a command and print the answer.
    Command {
        /// The block device of the control export.
        device: PathBuf,
        /// The command's words.
        #[arg(required = true, trailing_var_arg = true)]
        words: Vec<String>,
    },
}

#[derive(Args)]
struct AttachArguments {
    /// The server; 10.0.2.2 is the host on QEMU's user network.
    address: String,
    /// The export's name.
    export: String,
    /// Which /dev/nbdN.
    index: u32,
    /// Have the kernel follow forced writes with a flush, as if the server knew no FUA.
    #[arg(long)]
    no_fua: bool,
}

fn main() -> ExitCode {
    let result = match Arguments::parse().action {
        Action::Attach(_) => attach(),
        Action::Hold(arguments) => hold(&arguments),
        Action::Detach { index } => detach(index),
        Action::Command { device, words } => command(&device, &words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairnfs-nbd-attach: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `hold` with the same arguments, and returns when it has attached the device.
fn attach() -> Result<()> {
    let arguments = std::env::args_os().skip(2);
    let mut holder = Command::new(std::env::current_exe()?)
        .arg("hold")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It must not keep the caller's pipes open.
        .stderr(Stdio::null())
        // Nor die with whatever group of processes the caller belongs to.
        .process_group(0)
        .spawn()?;
    let output = holder.stdout.take().context("no pipe from the holder")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    match line.trim() {
        "attached" => Ok(()),
        "" => bail!("the holder died: {}", holder.wait()?),
        error => bail!("{error}"),
    }
}

fn holder_address(index: u32) -> Result<SocketAddr> {
    Ok(SocketAddr::from_abstract_name(format!("cairnfs-nbd-{index}"))?)
}

fn hold(arguments: &AttachArguments) -> Result<()> {
    let (kernel, stream, listener) = match connect_patiently(arguments) {
        Ok(connected) => connected,
        Err(error) => {
            println!("{error:#}");
            return Ok(());
        }
    };
    println!("attached");
    kernel.detach_after(arguments.index, stream.as_fd(), listener.as_fd())?;
    Ok(())
}

/// Connects; a device that is just being let go is waited for.
fn connect_patiently(arguments: &AttachArguments) -> Result<(KernelClient, TcpStream, UnixListener)> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        match connect(arguments) {
            Err(error) if is_in_use(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::AddrInUse | io::ErrorKind::ResourceBusy))
}

fn connect(arguments: &AttachArguments) -> Result<(KernelClient, TcpStream, UnixListener)> {
    let AttachArguments { address, export, index, no_fua } = arguments;
    let device = format!("/dev/nbd{index}");
    let listener = UnixListener::bind_addr(&holder_address(*index)?)
        .with_context(|| format!("{device} is attached already"))?;
    let stream = TcpStream::connect(address).with_context(|| address.clone())?;
    stream.set_nodelay(true)?;
    let client = Handshake::begin(stream)?.go(export)?;
    let mut about = client.export();
    if *no_fua {
        about.flags &= !transmission::SEND_FUA;
    }
    let kernel = KernelClient::open().context("this kernel's NBD client")?;
    let stream = client.into_stream();
    kernel.attach(*index, stream.as_fd(), about).context(device)?;
    Ok((kernel, stream, listener))
}

fn detach(index: u32) -> Result<()> {
    let mut holder = UnixStream::connect_addr(&holder_address(index)?)
        .with_context(|| format!("/dev/nbd{index} is not attached"))?;
    // It closes its socket when it is done.
    let mut nothing = Vec::new();
    let _ = holder.read_to_end(&mut nothing);
    Ok(())
}

fn command(device: &std::path::Path, words: &[String]) -> Result<()> {
    let mut control = ControlClient::open(device).with_context(|| device.display().to_string())?;
    print!("{}", control.ask(&words.join(" "))?);
    Ok(())
}
