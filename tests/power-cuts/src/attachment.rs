//! How the disk and its control export reach this guest: over the kernel's own NBD client, which can
//! be attached anew for each state, or as disks that the virtual machine brought along.

use std::ffi::CString;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use cairnfs_disk::client::Handshake;
use cairnfs_disk::control_client::ControlClient;
use cairnfs_disk::kernel_client::AttachedDevice;
use clap::Args;
use rustix::io::Errno;
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

const DISK_INDEX: u32 = 0;
const CONTROL_INDEX: u32 = 1;
const MOUNT_POINT: &str = "/mnt";
/// A device stays busy for a moment after its last user has gone.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the disk is.
#[derive(Args)]
pub(crate) struct AttachmentArguments {
    /// Attach over the network: ADDRESS:PORT of the server.
    #[arg(long, conflicts_with_all = ["device", "control"])]
    server: Option<String>,
    /// The disk, as a device that is there already.
    #[arg(long, requires = "control")]
    device: Option<PathBuf>,
    /// The control export, as a device that is there already.
    #[arg(long, requires = "device")]
    control: Option<PathBuf>,
}

/// What is on the disk.
#[derive(Args)]
pub(crate) struct FilesystemArguments {
    /// The filesystem.
    #[arg(long)]
    kind: String,
    /// Mount options.
    #[arg(long, default_value = "")]
    options: String,
}

impl AttachmentArguments {
    /// Opens the control export.
    pub(crate) fn open(self) -> Result<Attachment> {
        let (network, device, control) = match (self.server, self.device, self.control) {
            (Some(server), ..) => {
                // The control connection is for as long as this process runs.
                let control_device = attach(&server, "control", CONTROL_INDEX)?;
                let network = Network { server, control_device, disk: None };
                let device = PathBuf::from(format!("/dev/nbd{DISK_INDEX}"));
                (Some(network), device, format!("/dev/nbd{CONTROL_INDEX}").into())
            }
            (None, Some(device), Some(control)) => (None, device, control),
            _ => bail!("give --server, or --device and --control"),
        };
        let control = ControlClient::open(&control).with_context(|| control.display().to_string())?;
        Ok(Attachment { network, device, control })
    }
}

/// Connects to an export and hands the connection to the kernel.
fn attach(server: &str, export: &str, index: u32) -> Result<AttachedDevice> {
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    loop {
        let stream = TcpStream::connect(server).with_context(|| server.to_owned())?;
        stream.set_nodelay(true)?;
        let client = Handshake::begin(stream)?.go(export)?;
        let about = client.export();
        match AttachedDevice::attach(index, client.into_stream().into(), about) {
            Err(error)
                if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.with_context(|| format!("cannot attach {export}")),
        }
    }
}

/// What is attached over the network.
struct Network {
    server: String,
    control_device: AttachedDevice,
    disk: Option<AttachedDevice>,
}

/// The disk's control, and the way to the disk.
pub(crate) struct Attachment {
    network: Option<Network>,
    device: PathBuf,
    /// The control export.
    pub(crate) control: ControlClient,
}

impl Attachment {
    /// Whether states can be changed while the guest runs.
    pub(crate) fn is_changeable(&self) -> bool {
        self.network.is_some()
    }

    /// Attaches the disk, if it does not come with the machine.
    pub(crate) fn attach(&mut self) -> Result<()> {
        if let Some(network) = &mut self.network {
            network.disk = Some(attach(&network.server, "disk0", DISK_INDEX)?);
        }
        Ok(())
    }

    /// Lets the disk go.
    pub(crate) fn detach(&mut self) -> Result<()> {
        match self.network.as_mut().and_then(|network| network.disk.take()) {
            Some(disk) => disk.detach().context("cannot detach the disk"),
            None => Ok(()),
        }
    }

    /// Lets everything go: the kernel would keep the devices when this process has ended.
    pub(crate) fn close(mut self) -> Result<()> {
        self.detach()?;
        let Self { network, control, .. } = self;
        drop(control);
        network
            .map_or(Ok(()), |network| network.control_device.detach())
            .context("cannot detach the control export")
    }

    /// Mounts the disk.
    pub(crate) fn mount(&self, filesystem: &FilesystemArguments) -> Result<Mounted, Errno> {
        let options = CString::new(filesystem.options.as_str()).unwrap_or_default();
        let kind = filesystem.kind.as_str();
        mount(&self.device, MOUNT_POINT, kind, MountFlags::empty(), options.as_c_str())?;
        Ok(Mounted)
    }

    /// Sets the medium's present state aside; its number.
    pub(crate) fn keep(&mut self) -> Result<usize> {
        let answer = self.control.ask("keep")?;
        let number = answer.lines().find_map(|line| line.strip_prefix("kept=")).context("keep: no number")?;
        Ok(number.parse()?)
    }
}

/// A mounted filesystem.
pub(crate) struct Mounted;

impl Mounted {
    /// Its root.
    pub(crate) fn root(&self) -> &'static Path {
        Path::new(MOUNT_POINT)
    }

    /// Unmounts it; a filesystem that lost its disk is unmounted all the same.
    pub(crate) fn unmount(self) -> Result<()> {
        unmount(MOUNT_POINT, UnmountFlags::empty()).context("cannot unmount")
    }
}
