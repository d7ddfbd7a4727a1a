//! The guest's end of the channel: runs the programs that the host asks for, several at a time.
//!
//! Every program runs in a process group of its own. When it ends the rest of its group is killed, so that nothing is
//! left running under the next request; a program that wants to outlive its request leaves the group.
//! Start and end of each stand in the kernel's log, which is how the host knows which message came during which.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{kill_process_group, Pid, Signal};

use crate::channel::{read_frame, write_frame, Kind, RunRequest, PORT_NAME, VERSION};

const PORT_WAIT: Duration = Duration::from_secs(30);
const OUTPUT_CHUNK_BYTES: usize = 16 << 10;

/// The host, as several threads write to it.
#[derive(Clone)]
struct Host {
    port: Arc<Mutex<File>>,
}

impl Host {
    fn send(&self, kind: Kind, request: u32, payload: &[u8]) -> io::Result<()> {
        let mut port = self.port.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *port, kind, request, payload)
    }
}

/// The device of the port that QEMU offers under [`PORT_NAME`]; ports appear some time after the kernel started init.
fn find_port() -> Result<String> {
    let deadline = Instant::now() + PORT_WAIT;
    loop {
        for entry in fs::read_dir("/sys/class/virtio-ports").into_iter().flatten().flatten() {
            let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
            if name.trim() == PORT_NAME {
                return Ok(format!("/dev/{}", entry.file_name().to_string_lossy()));
            }
        }
        anyhow::ensure!(Instant::now() < deadline, "no virtio port is named {PORT_NAME}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Notes in the kernel's log what the guest is about to do; the log is the only place that has both in order.
fn note(text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open("/dev/kmsg")?
        .write_all(format!("<6>cairnfs-guest: {text}\n").as_bytes())
}

fn forward(mut source: impl Read + Send + 'static, host: Host, kind: Kind, request: u32) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut chunk = vec![0; OUTPUT_CHUNK_BYTES];
        while let Ok(count @ 1..) = source.read(&mut chunk) {
            if host.send(kind, request, &chunk[..count]).is_err() {
                return;
            }
        }
    })
}

fn spawn(request: &RunRequest) -> io::Result<Child> {
    let [program, arguments @ ..] = request.arguments.as_slice() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Command::new(program)
        .args(arguments)
        .envs(request.environment.iter().map(|(name, value)| (name, value)))
        .stdin(if request.input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
}

/// Runs one program to its end and reports it.
fn run(host: &Host, id: u32, request: RunRequest) -> Result<()> {
    note(&format!("begin {id} {}", request.arguments.join(" ")))?;
    let mut child = match spawn(&request) {
        Ok(child) => child,
        Err(error) => {
            note(&format!("end {id}"))?;
            let reason = format!("cannot run {}: {error}", request.arguments.join(" "));
            return Ok(host.send(Kind::Refused, id, reason.as_bytes())?);
        }
    };
    let mut forwarders = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        forwarders.push(forward(stdout, host.clone(), Kind::Output, id));
    }
    if let Some(stderr) = child.stderr.take() {
        forwarders.push(forward(stderr, host.clone(), Kind::ErrorOutput, id));
    }
    if let Some(mut stdin) = child.stdin.take() {
        let input = request.input;
        // A program may end without having read all of its input: that is its affair.
        thread::spawn(move || stdin.write_all(&input));
    }
    let status = child.wait().context("cannot wait for the program")?;
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Nothing is left in the group in the usual case, and the call then fails.
        let _ = kill_process_group(group, Signal::KILL);
    }
    for forwarder in forwarders {
        forwarder.join().ok().context("a forwarder of output failed")?;
    }
    note(&format!("end {id}"))?;
    let code = status.code().or_else(|| status.signal().map(|number| 128 + number)).unwrap_or(-1);
    Ok(host.send(Kind::Exit, id, &code.to_le_bytes())?)
}

/// Serves the host until it asks for power off or closes the channel.
///
/// # Errors
/// The port is missing or broken, or the host does not speak the protocol.
pub fn serve() -> Result<()> {
    let path = find_port()?;
    let mut input = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {path}"))?;
    let host = Host { port: Arc::new(Mutex::new(input.try_clone()?)) };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut hello = VERSION.to_le_bytes().to_vec();
    hello.extend_from_slice(release.trim().as_bytes());
    host.send(Kind::Hello, 0, &hello)?;
    while let Some(frame) = read_frame(&mut input)? {
        match frame.kind {
            Kind::Run => {
                let request = RunRequest::parse(&frame.payload)?;
                let host = host.clone();
                thread::spawn(move || {
                    if let Err(error) = run(&host, frame.request, request) {
                        let _ = host.send(Kind::Refused, frame.request, format!("{error:#}").as_bytes());
                    }
                });
            }
            Kind::Sysrq => fs::write("/proc/sysrq-trigger", &frame.payload)?,
            Kind::PowerOff => return Ok(()),
            other => anyhow::bail!("the host sent {other:?}, which only a guest sends"),
        }
    }
    Ok(())
}
