//! Want of memory, at every place where a call asks for it: the kernel's fault injection refuses the first allocation of this
//! thread's next call, then in another round the second, and so on until a round gets through (`fail-nth`,
//! Documentation/fault-injection). What a call answers then is success or ENOMEM; behind ENOMEM nothing has changed and the same call goes
//! well; the filesystem is sound behind all of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{symlink, FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{fsync, syncfs};
use rustix::io::Errno;
use rustix::mount::{mount, mount_remount, unmount, MountFlags, UnmountFlags};

use super::pattern::{bytes, file_holds, same};
use crate::cases::{equal, refused, share, Case, Scene, Skip};
use crate::filesystem::{drop_caches, truncate, Kind};
use crate::shutdown::{shut_down, Mode};
use crate::status::{names_in, open_directory};

pub(super) const CASES: &[Case] = &[
    Case::new("calls that change names do so or say ENOMEM, and have done nothing", names),
    Case::new("calls that only look find what is there or say ENOMEM", looks),
    Case::new("what was synced is there, what was refused can be written again", contents),
    Case::new("a mount and an unmount", mounts),
    Case::new("a mount that recovers", recovery),
    Case::new("a mount becomes one for writing", remounts),
    Case::new("the threads of a mount do later what they cannot do now", threads),
];

const BLOCK: usize = 4096;
/// A call that asks for memory more often than this has a loop in it.
const ROUNDS_MAX: u32 = 20_000;
/// A kernel that checks every access tries one of so many: of calls that take a moment, of whole mounts, and of those below.
const CALLS_STEP: u32 = 10;
const MOUNTS_STEP: u32 = 50;
const THREADS_STEP: u32 = 3;
/// Of a thread that works by itself these allocations are refused: each takes until it works again.
const THREADS_NTH: &[u32] = &[1, 2, 3, 5, 8, 13, 21, 34];
/// A thread that has not met its allocation by then asks less often.
const THREAD_PATIENCE: Duration = Duration::from_secs(4);
const FAULT_FOLDERS: [&str; 2] = ["/sys/kernel/debug/failslab", "/sys/kernel/debug/fail_page_alloc"];

/// Which allocation of a thread is to be refused.
struct Switch(File);

impl Switch {
    /// Of the thread whose folder in /proc this is.
    fn of(thread: &Path) -> Result<Self> {
        Ok(Self(File::options().read(true).write(true).open(thread.join("fail-nth"))?))
    }

    /// The thread's allocation number `nth` from now on is refused; none when it is 0.
    fn set(&self, nth: u32) -> io::Result<()> {
        self.0.write_all_at(nth.to_string().as_bytes(), 0)
    }

    /// Whether the allocation was asked for, and refused.
    fn has_hit(&self) -> io::Result<bool> {
        let rest = &mut [0; 16];
        let length = self.0.read_at(rest, 0)?;
        Ok(rest[..length].starts_with(b"0"))
    }
}

/// Every allocation where the kernel is fast enough for that, else one of `slow`.
fn step(slow: u32) -> u32 {
    if share(CALLS_STEP) == CALLS_STEP {
        1
    } else {
        slow
    }
}

/// Refuses allocations of this thread.
struct Fault {
    switch: Switch,
}

impl Fault {
    fn new(scene: &Scene<'_>) -> Result<Self> {
        if scene.filesystem.kind != Kind::Cairnfs {
            return Err(Skip("what others answer without memory is their own affair").into());
        }
        for folder in FAULT_FOLDERS {
            let folder = Path::new(folder);
            fs::write(folder.join("verbose"), "0").with_context(|| folder.display().to_string())?;
            // By themselves they spare what may wait for memory, which is nearly all.
            fs::write(folder.join("ignore-gfp-wait"), "N")?;
            if folder.join("min-order").exists() {
                fs::write(folder.join("min-order"), "0")?;
            }
        }
        Ok(Self { switch: Switch::of(Path::new("/proc/thread-self"))? })
    }

    /// Makes the call with allocation `nth` of this thread refused. The answer, and whether it asked for so many.
    fn strike<T>(&self, nth: u32, call: impl FnOnce() -> T) -> Result<(T, bool)> {
        self.switch.set(nth)?;
        let answer = call();
        let has_hit = self.switch.has_hit()?;
        self.switch.set(0)?;
        Ok((answer, has_hit))
    }

    /// Has `round` make its call with each allocation refused in turn, or one of `slow` on a slow kernel; it says whether one was.
    /// Returns how many were.
    fn each(&self, slow: u32, mut round: impl FnMut(u32) -> Result<bool>) -> Result<u32> {
        for nth in (1..ROUNDS_MAX).step_by(step(slow) as usize) {
            if !round(nth).with_context(|| format!("allocation {nth} refused"))? {
                ensure!(nth > 1, "the call asks for no memory, or faults are not injected");
                return Ok(nth - 1);
            }
        }
        anyhow::bail!("more than {ROUNDS_MAX} allocations in one call")
    }
}

/// Success, or ENOMEM: then `false`.
fn is_done(answer: io::Result<()>) -> Result<bool> {
    match answer {
        Ok(()) => Ok(true),
        Err(error) => refused("the call", Errno::NOMEM, Err::<(), _>(error)).map(|()| false),
    }
}

/// A call that changes something, in a folder of its own.
struct Change {
    name: &'static str,
    prepare: fn(&Path) -> io::Result<()>,
    call: fn(&Path) -> io::Result<()>,
    /// Whether its effect shows.
    shows: fn(&Path) -> bool,
}

fn nothing(_: &Path) -> io::Result<()> {
    Ok(())
}

fn file(at: &Path) -> io::Result<()> {
    fs::write(at.join("file"), "content")
}

fn two_files(at: &Path) -> io::Result<()> {
    file(at)?;
    fs::write(at.join("other"), "other")
}

/// More names than an inode holds, in more than one block.
fn many_names(at: &Path) -> io::Result<()> {
    (0..150)
        .try_for_each(|number| fs::write(at.join(format!("a longer name than most, number {number}")), ""))
}

fn is_there(at: &Path) -> bool {
    at.join("new").symlink_metadata().is_ok()
}

fn file_is(at: &Path, wanted: &str) -> bool {
    fs::read_to_string(at.join("file")).is_ok_and(|found| found == wanted)
}

const CHANGES: &[Change] = &[
    Change {
        name: "create",
        prepare: nothing,
        call: |at| File::options().write(true).create_new(true).open(at.join("new")).map(drop),
        shows: is_there,
    },
    Change {
        name: "create in a large directory",
        prepare: many_names,
        call: |at| File::options().write(true).create_new(true).open(at.join("new")).map(drop),
        shows: is_there,
    },
    Change { name: "mkdir", prepare: nothing, call: |at| fs::create_dir(at.join("new")), shows: is_there },
    Change {
        name: "symlink",
        prepare: nothing,
        call: |at| symlink("short", at.join("new")),
        shows: is_there,
    },
    Change {
        name: "long symlink",
        prepare: nothing,
        call: |at| symlink("long".repeat(500), at.join("new")),
        shows: is_there,
    },
    Change {
        name: "link",
        prepare: file,
        call: |at| fs::hard_link(at.join("file"), at.join("new")),
        shows: is_there,
    },
    Change {
        name: "unlink",
        prepare: file,
        call: |at| fs::remove_file(at.join("file")),
        shows: |at| !at.join("file").exists(),
    },
    Change {
        name: "rmdir",
        prepare: |at| fs::create_dir(at.join("folder")),
        call: |at| fs::remove_dir(at.join("folder")),
        shows: |at| !at.join("folder").exists(),
    },
    Change {
        name: "rename",
        prepare: file,
        call: |at| fs::rename(at.join("file"), at.join("new")),
        shows: |at| is_there(at) && !at.join("file").exists(),
    },
    Change {
        name: "rename over",
        prepare: two_files,
        call: |at| fs::rename(at.join("other"), at.join("file")),
        shows: |at| file_is(at, "other") && !at.join("other").exists(),
    },
    Change {
        name: "chmod",
        prepare: file,
        call: |at| fs::set_permissions(at.join("file"), fs::Permissions::from_mode(0o600)),
        shows: |at| at.join("file").metadata().is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600),
    },
    Change {
        name: "truncate within a block",
        prepare: file,
        call: |at| truncate(at.join("file"), 3),
        shows: |at| file_is(at, "con"),
    },
];

fn names(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    for change in CHANGES {
        let at = scene.path(change.name);
        fs::create_dir(&at)?;
        let refusals =
            fault.each(CALLS_STEP, |nth| try_change(&fault, change, &at.join(nth.to_string()), nth));
        let refusals = refusals.with_context(|| change.name)?;
        println!("# {}: {refusals} allocations", change.name);
    }
    scene.filesystem.check_and_mount_again()?;
    for change in CHANGES {
        for name in fs::read_dir(scene.path(change.name))? {
            let folder = name?.path();
            ensure!((change.shows)(&folder), "{}: it was undone in {}", change.name, folder.display());
        }
    }
    Ok(())
}

fn try_change(fault: &Fault, change: &Change, folder: &Path, nth: u32) -> Result<bool> {
    fs::create_dir(folder)?;
    (change.prepare)(folder)?;
    let (answer, has_hit) = fault.strike(nth, || (change.call)(folder))?;
    let done = is_done(answer)?;
    ensure!(has_hit || done, "ENOMEM, and nothing was refused");
    ensure!((change.shows)(folder) == done, "it answered {done}, and what shows is otherwise");
    if !done {
        (change.call)(folder).context("tried again")?;
        ensure!((change.shows)(folder), "tried again it succeeded, and nothing shows");
    }
    Ok(has_hit)
}

fn looks(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    many_names(&scene.folder)?;
    fs::write(scene.path("file"), bytes(1, 0, 3 * BLOCK))?;
    let wanted = names_in(&scene.folder)?;
    let file = scene.path("file");
    let calls: [(&str, &dyn Fn() -> Result<()>); 3] = [
        ("stat", &|| Ok(file.metadata().map(drop)?)),
        ("read", &|| same("the file", &fs::read(&file)?, &bytes(1, 0, 3 * BLOCK))),
        ("readdir", &|| {
            let found = names_in(&scene.folder)?;
            ensure!(found == wanted, "{} names, wanted {}", found.len(), wanted.len());
            Ok(())
        }),
    ];
    for (name, call) in calls {
        let refusals = fault.each(CALLS_STEP, |nth| {
            drop_caches()?;
            let (answer, has_hit) = fault.strike(nth, call)?;
            if let Err(error) = answer {
                let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
                let number = number.or(error.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()));
                ensure!(number == Some(Errno::NOMEM.raw_os_error()), "{error:#}");
                ensure!(has_hit, "ENOMEM, and nothing was refused");
                call().context("tried again")?;
            }
            Ok(has_hit)
        });
        println!("# {name}: {} allocations", refusals.with_context(|| name)?);
    }
    Ok(())
}

/// Writes over the first block and behind the end, in one file each time, and makes it durable.
fn write_durably(at: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(at)?;
    file.write_all_at(&bytes(2, 0, BLOCK), 0)?;
    file.write_all_at(&bytes(3, 8 * BLOCK as u64, 2 * BLOCK), 8 * BLOCK as u64)?;
    file.sync_all()
}

fn contents(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    let refusals = fault.each(CALLS_STEP, |nth| {
        let file = scene.path(nth.to_string());
        fs::write(&file, bytes(1, 0, 3 * BLOCK))?;
        fsync(File::open(&file)?)?;
        let (answer, has_hit) = fault.strike(nth, || write_durably(&file))?;
        if let Err(error) = answer {
            let number = error.raw_os_error();
            let usual = [Errno::NOMEM, Errno::IO].map(|errno| Some(errno.raw_os_error()));
            ensure!(has_hit && usual.contains(&number), "{error}");
            write_durably(&file).context("tried again")?;
        }
        Ok(has_hit)
    })?;
    println!("# {refusals} allocations");
    let directory = open_directory(&scene.folder)?;
    let mut synced = 0;
    let refusals = fault.each(CALLS_STEP, |nth| {
        synced = nth;
        fs::write(scene.path("synced"), nth.to_string())?;
        let (answer, has_hit) = fault.strike(nth, || syncfs(&directory))?;
        if !is_done(answer.map_err(Into::into))? {
            syncfs(&directory).context("tried again")?;
        }
        Ok(has_hit)
    })?;
    println!("# syncfs: {refusals} allocations");
    drop(directory);
    shut_down(scene.filesystem.root(), Mode::Nothing)?;
    scene.filesystem.mount_again()?;
    scene.filesystem.check_and_mount_again()?;
    file_holds("synced", &scene.path("synced"), synced.to_string().as_bytes())?;
    let wanted = [
        bytes(2, 0, BLOCK),
        bytes(1, BLOCK as u64, 2 * BLOCK),
        vec![0; 5 * BLOCK],
        bytes(3, 8 * BLOCK as u64, 2 * BLOCK),
    ];
    let wanted = wanted.concat();
    for name in fs::read_dir(&scene.folder)? {
        let path = name?.path();
        if !path.ends_with("synced") {
            file_holds("a file", &path, &wanted)?;
        }
    }
    Ok(())
}

/// A mount with one allocation refused, and if that gets through, an unmount with one refused. Says whether it got through, and
/// whether anything was refused.
fn try_mount(scene: &Scene<'_>, fault: &Fault, nth: u32) -> Result<(bool, bool)> {
    let filesystem = scene.filesystem;
    let call =
        || mount(filesystem.device(), filesystem.root(), filesystem.kind.name(), MountFlags::empty(), c"");
    let (answer, has_hit) = fault.strike(nth, call)?;
    if !is_done(answer.map_err(Into::into)).context("mount")? {
        ensure!(has_hit, "ENOMEM, and nothing was refused");
        return Ok((false, true));
    }
    let (answer, has_hit_unmount) =
        fault.strike(nth, || unmount(filesystem.root(), UnmountFlags::empty()))?;
    if !is_done(answer.map_err(Into::into)).context("unmount")? {
        filesystem.unmount()?;
    }
    Ok((true, has_hit || has_hit_unmount))
}

fn mounts(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    fs::write(scene.path("file"), "content")?;
    scene.filesystem.unmount()?;
    let refusals =
        fault.each(MOUNTS_STEP, |nth| try_mount(scene, &fault, nth).map(|(_, has_hit)| has_hit))?;
    println!("# {refusals} allocations");
    scene.filesystem.check()?;
    scene.filesystem.mount()?;
    file_holds("the file", &scene.path("file"), b"content")
}

/// A mount that was refused leaves the journal to the next; one that got through, empty, and something is put into it again.
fn recovery(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    let mut files = 0_u32;
    let mut has_records = false;
    scene.filesystem.unmount()?;
    let refusals = fault.each(MOUNTS_STEP, |nth| {
        if !has_records {
            scene.filesystem.mount()?;
            files += 1;
            let path = scene.path(files.to_string());
            fs::write(&path, files.to_string())?;
            File::open(&path)?.sync_all()?;
            shut_down(scene.filesystem.root(), Mode::Nothing)?;
            scene.filesystem.unmount()?;
        }
        let (is_done, has_hit) = try_mount(scene, &fault, nth)?;
        has_records = !is_done;
        Ok(has_hit)
    })?;
    println!("# {refusals} allocations, {files} of them spared the mount");
    scene.filesystem.check()?;
    scene.filesystem.mount()?;
    (1..=files).try_for_each(|number| {
        file_holds("a file", &scene.path(number.to_string()), number.to_string().as_bytes())
    })
}

fn remounts(scene: &Scene<'_>) -> Result<()> {
    let fault = Fault::new(scene)?;
    let filesystem = scene.filesystem;
    let for_writing = || mount_remount(filesystem.root(), MountFlags::empty(), c"");
    let refusals = fault.each(MOUNTS_STEP, |nth| {
        filesystem.unmount()?;
        filesystem.mount_with(MountFlags::RDONLY, "")?;
        let (answer, has_hit) = fault.strike(nth, for_writing)?;
        if !is_done(answer.map_err(Into::into))? {
            for_writing().context("tried again")?;
        }
        fs::write(scene.path("file"), nth.to_string())?;
        Ok(has_hit)
    })?;
    println!("# {refusals} allocations");
    filesystem.check_and_mount_again()
}

/// The switch of a thread of the kernel.
fn switch_of(name: &str) -> Result<Switch> {
    for process in fs::read_dir("/proc")? {
        let folder = process?.path();
        if fs::read_to_string(folder.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            return Switch::of(&folder);
        }
    }
    anyhow::bail!("there is no thread {name}")
}

/// Waits until the thread has met its refusal; whether it has.
fn has_struck(switch: &Switch) -> Result<bool> {
    let began = Instant::now();
    while began.elapsed() < THREAD_PATIENCE {
        if switch.has_hit()? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    switch.set(0)?;
    Ok(false)
}

fn threads(scene: &Scene<'_>) -> Result<()> {
    let _prepared = Fault::new(scene)?;
    let filesystem = scene.filesystem;
    let mut paths = Vec::new();
    // Who brings home commits before; the orphans' thread is woken when there are some.
    let (commits, goes_home) =
        ("commit_interval_s=1,checkpoint_interval_s=3600", "commit_interval_s=3600,checkpoint_interval_s=1");
    for (name, options) in
        [("cairnfs-commit", commits), ("cairnfs-home", goes_home), ("cairnfs-orphans", commits)]
    {
        filesystem.unmount()?;
        filesystem.mount_with(MountFlags::empty(), options)?;
        let switch = switch_of(name)?;
        let mut refused = 0;
        for nth in THREADS_NTH.iter().step_by(step(THREADS_STEP) as usize) {
            // Something to commit, to bring home, and to remove.
            switch.set(*nth)?;
            let path = scene.path(format!("{name} {nth}"));
            fs::write(&path, nth.to_string())?;
            let orphan = File::create(scene.path("orphan"))?;
            fs::remove_file(scene.path("orphan"))?;
            drop(orphan);
            paths.push((path, nth.to_string()));
            if !has_struck(&switch)? {
                break;
            }
            refused += 1;
        }
        let device = filesystem.device().trim_start_matches("/dev/");
        let error = fs::read_to_string(format!("/sys/fs/cairnfs/{device}/error"))?;
        equal("the error of the filesystem", error.trim(), "none")?;
        ensure!(refused > 0, "{name} asks for no memory, or faults are not injected");
        println!("# {name}: {refused} allocations");
    }
    syncfs(open_directory(&scene.folder)?)?;
    shut_down(filesystem.root(), Mode::Nothing)?;
    filesystem.mount_again()?;
    filesystem.check_and_mount_again()?;
    paths.iter().try_for_each(|(path, content)| file_holds("a file", path, content.as_bytes()))
}
