//! Which times and link counts each call moves, and which it leaves: a table.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};
use rustix::fs::{chmod, chown, mknodat, open, FileType, Mode, OFlags, Uid, CWD};

use crate::cases::{equal, Case, Scene, Skip};
use crate::filesystem::{drop_caches, truncate};
use crate::status::{status_of, Status};

pub(super) const CASES: &[Case] = &[
    Case::new("each call moves the times and link counts that it should", table),
    Case::new("calls that fail move nothing", failures),
    Case::new("all times of a new inode are the same", new_inodes),
    Case::new("a birth time stays", birth_time),
    Case::new("relatime: a read moves atime once after each change", relatime),
    Case::new("O_NOATIME", no_access_time),
];

/// Longer than a step of the clock that inodes get their times from.
const STEP: Duration = Duration::from_millis(20);

/// What a call does to a name that is there before and after: which of a, m and c move, and by how much links change.
struct Effect {
    name: &'static str,
    moved: &'static str,
    links: i64,
}

const fn effect(name: &'static str, moved: &'static str, links: i64) -> Effect {
    Effect { name, moved, links }
}

/// A call within a folder that has: `file` (also as `d/file-too`), `empty`, `d`, `d/sub`, `e`, `link` to `file`.
struct Call {
    name: &'static str,
    run: fn(&Path) -> Result<()>,
    effects: &'static [Effect],
}

const NOTHING: Effect = effect("file", "", 0);

const CALLS: &[Call] = &[
    Call {
        name: "create",
        run: |f| Ok(fs::write(f.join("d/new"), "")?),
        effects: &[effect("d", "mc", 0), effect(".", "", 0), NOTHING],
    },
    Call {
        name: "open of what is there with O_CREAT",
        run: |f| {
            File::options().write(true).create(true).truncate(false).open(f.join("d/file-too"))?;
            Ok(())
        },
        effects: &[effect("d", "", 0), NOTHING],
    },
    Call {
        name: "mkdir",
        run: |f| Ok(fs::create_dir(f.join("d/new"))?),
        effects: &[effect("d", "mc", 1), effect(".", "", 0)],
    },
    Call { name: "symlink", run: |f| Ok(symlink("x", f.join("d/new"))?), effects: &[effect("d", "mc", 0)] },
    Call {
        name: "mknod",
        run: |f| Ok(mknodat(CWD, f.join("d/new"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)?),
        effects: &[effect("d", "mc", 0)],
    },
    Call {
        name: "link",
        run: |f| Ok(fs::hard_link(f.join("file"), f.join("e/new"))?),
        effects: &[effect("e", "mc", 0), effect("file", "c", 1), effect(".", "", 0)],
    },
    Call {
        name: "unlink of one of two names",
        run: |f| Ok(fs::remove_file(f.join("d/file-too"))?),
        effects: &[effect("d", "mc", 0), effect("file", "c", -1)],
    },
    Call {
        name: "rmdir",
        run: |f| Ok(fs::remove_dir(f.join("d/sub"))?),
        effects: &[effect("d", "mc", -1), effect(".", "", 0)],
    },
    Call {
        name: "rename within a directory",
        run: |f| Ok(fs::rename(f.join("d/file-too"), f.join("d/other"))?),
        effects: &[effect("d", "mc", 0), effect("file", "c", 0)],
    },
    Call {
        name: "rename of a file across directories",
        run: |f| Ok(fs::rename(f.join("d/file-too"), f.join("e/other"))?),
        effects: &[effect("d", "mc", 0), effect("e", "mc", 0), effect("file", "c", 0)],
    },
    Call {
        name: "rename of a directory across directories",
        run: |f| Ok(fs::rename(f.join("d/sub"), f.join("e/sub"))?),
        effects: &[effect("d", "mc", -1), effect("e", "mc", 1)],
    },
    Call {
        name: "rename over one of two names",
        run: |f| Ok(fs::rename(f.join("empty"), f.join("d/file-too"))?),
        effects: &[effect("d", "mc", 0), effect(".", "mc", 0), effect("file", "c", -1)],
    },
    Call {
        name: "rename of a directory over an empty one",
        run: |f| Ok(fs::rename(f.join("e"), f.join("d/sub"))?),
        effects: &[effect("d", "mc", 0), effect(".", "mc", -1)],
    },
    Call {
        name: "rename of a name onto another of the same file",
        run: |f| Ok(fs::rename(f.join("file"), f.join("d/file-too"))?),
        effects: &[effect("d", "", 0), effect(".", "", 0), NOTHING],
    },
    Call {
        name: "chmod",
        run: |f| Ok(chmod(f.join("file"), Mode::from_raw_mode(0o600))?),
        effects: &[effect("file", "c", 0), effect(".", "", 0)],
    },
    Call {
        name: "chmod of a directory",
        run: |f| Ok(chmod(f.join("d"), Mode::from_raw_mode(0o700))?),
        effects: &[effect("d", "c", 0)],
    },
    Call {
        name: "chown",
        run: |f| Ok(chown(f.join("file"), Some(Uid::from_raw(5)), None)?),
        effects: &[effect("file", "c", 0)],
    },
    Call {
        name: "truncate to a smaller size",
        run: |f| Ok(truncate(f.join("file"), 3)?),
        effects: &[effect("file", "mc", 0), effect(".", "", 0)],
    },
    Call {
        name: "truncate to a larger size",
        run: |f| Ok(truncate(f.join("file"), 9000)?),
        effects: &[effect("file", "mc", 0)],
    },
    Call {
        name: "open with O_TRUNC",
        run: |f| Ok(File::create(f.join("file")).map(drop)?),
        effects: &[effect("file", "mc", 0)],
    },
    Call {
        name: "open with O_TRUNC of an empty file",
        run: |f| Ok(File::create(f.join("empty")).map(drop)?),
        effects: &[effect("empty", "mc", 0)],
    },
    Call {
        name: "write",
        run: |f| Ok(File::options().append(true).open(f.join("file"))?.write_all(b"more")?),
        effects: &[effect("file", "mc", 0), effect(".", "", 0)],
    },
    Call {
        name: "write of nothing",
        run: |f| {
            rustix::io::write(File::options().append(true).open(f.join("file"))?, b"")?;
            Ok(())
        },
        effects: &[NOTHING],
    },
    Call {
        name: "read",
        run: |f| {
            fs::read(f.join("file"))?;
            Ok(())
        },
        effects: &[effect("file", "a", 0), effect(".", "", 0)],
    },
    Call {
        name: "readdir",
        run: |f| {
            fs::read_dir(f.join("d"))?.for_each(drop);
            Ok(())
        },
        effects: &[effect("d", "a", 0), NOTHING],
    },
    Call {
        name: "readlink",
        run: |f| Ok(fs::read_link(f.join("link")).map(drop)?),
        effects: &[effect("link", "a", 0), NOTHING],
    },
    Call {
        name: "stat",
        run: |f| {
            fs::metadata(f.join("d/file-too"))?;
            Ok(())
        },
        effects: &[effect("d", "", 0), NOTHING],
    },
    Call { name: "fsync", run: |f| Ok(File::open(f.join("file"))?.sync_all()?), effects: &[NOTHING] },
];

/// A call that fails, and what it tries.
type Failure = (&'static str, fn(&Path) -> std::io::Result<()>);

/// All in the same folder.
const FAILURES: &[Failure] = &[
    ("mkdir over a file", |f| fs::create_dir(f.join("file"))),
    ("link over a file", |f| fs::hard_link(f.join("file"), f.join("empty"))),
    ("unlink of a directory", |f| fs::remove_file(f.join("d"))),
    ("rmdir of a full directory", |f| fs::remove_dir(f.join("d"))),
    ("rename over a full directory", |f| fs::rename(f.join("e"), f.join("d"))),
    ("rename into itself", |f| fs::rename(f.join("d"), f.join("d/sub/new"))),
    ("symlink over a link", |f| symlink("x", f.join("link"))),
    ("O_EXCL over a file", |f| File::options().write(true).create_new(true).open(f.join("file")).map(drop)),
];

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("d/sub"))?;
    fs::create_dir(folder.join("e"))?;
    fs::write(folder.join("file"), "some content")?;
    fs::write(folder.join("empty"), "")?;
    fs::hard_link(folder.join("file"), folder.join("d/file-too"))?;
    symlink("file", folder.join("link"))?;
    Ok(())
}

fn moved(before: &Status, after: &Status) -> String {
    let times = [
        ('a', before.atime, after.atime),
        ('m', before.mtime, after.mtime),
        ('c', before.ctime, after.ctime),
    ];
    times.into_iter().filter(|(_, before, after)| before != after).map(|(letter, ..)| letter).collect()
}

/// The names of the effects are there before and after the call, and lead to the same inodes.
fn look(folder: &Path, effects: &[Effect]) -> Result<Vec<Status>> {
    effects.iter().map(|effect| status_of(&folder.join(effect.name))).collect()
}

fn table(scene: &Scene<'_>) -> Result<()> {
    for (number, call) in CALLS.iter().enumerate() {
        let folder = scene.path(number.to_string());
        fs::create_dir(&folder)?;
        make_folder(&folder)?;
        sleep(STEP);
        let before = look(&folder, call.effects)?;
        (call.run)(&folder).with_context(|| call.name)?;
        // What was written is on its way to the disk: that must not move anything either.
        let written = look(&folder, call.effects)?;
        drop_caches()?;
        let after = look(&folder, call.effects)?;
        for (((effect, before), written), after) in call.effects.iter().zip(&before).zip(&written).zip(&after)
        {
            let what = format!("{}: {}", call.name, effect.name);
            equal(&what, moved(before, after).as_str(), effect.moved)?;
            equal(&format!("{what}, links"), i64::from(after.links) - i64::from(before.links), effect.links)?;
            equal(&format!("{what}, from memory and from the disk"), moved(written, after).as_str(), "")?;
            ensure!(after.ctime >= before.ctime && after.mtime >= before.mtime, "{what}: a time went back");
        }
    }
    Ok(())
}

fn failures(scene: &Scene<'_>) -> Result<()> {
    make_folder(&scene.folder)?;
    sleep(STEP);
    let names: Vec<Effect> =
        [".", "file", "empty", "d", "e", "d/sub", "link"].map(|name| effect(name, "", 0)).into();
    let before = look(&scene.folder, &names)?;
    for (what, call) in FAILURES {
        ensure!(call(&scene.folder).is_err(), "{what} succeeded");
        equal(what, &look(&scene.folder, &names)?, &before)?;
    }
    Ok(())
}

fn new_inodes(scene: &Scene<'_>) -> Result<()> {
    make_folder(&scene.folder)?;
    for name in ["empty", "e", "link", "d/sub"] {
        let found = status_of(&scene.path(name))?;
        ensure!(found.mtime.seconds > 1_000_000_000, "{name}: {found:?}");
        equal(name, (found.atime, found.mtime), (found.mtime, found.ctime))?;
        if found.btime.seconds != 0 {
            equal(name, found.btime, found.mtime)?;
        }
    }
    Ok(())
}

fn birth_time(scene: &Scene<'_>) -> Result<()> {
    make_folder(&scene.folder)?;
    for name in ["file", "d", "link"] {
        let born = status_of(&scene.path(name))?.btime;
        if born.seconds == 0 {
            return Err(Skip("this filesystem keeps no birth time").into());
        }
        sleep(STEP);
        fs::rename(scene.path(name), scene.path("other"))?;
        rustix::fs::chownat(
            CWD,
            scene.path("other"),
            Some(Uid::from_raw(3)),
            None,
            rustix::fs::AtFlags::SYMLINK_NOFOLLOW,
        )?;
        fs::rename(scene.path("other"), scene.path(name))?;
        drop_caches()?;
        let found = status_of(&scene.path(name))?;
        equal(name, found.btime, born)?;
        ensure!(found.ctime > born, "{name}: changed when it was born");
    }
    Ok(())
}

fn relatime(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "content")?;
    let read_moves = |wanted: bool, when: &str| -> Result<()> {
        sleep(STEP);
        let before = status_of(&path)?;
        fs::read(&path)?;
        let after = status_of(&path)?;
        equal(when, moved(&before, &after).as_str(), if wanted { "a" } else { "" })
    };
    read_moves(true, "the first read")?;
    read_moves(false, "the second read")?;
    sleep(STEP);
    fs::write(&path, "other")?;
    read_moves(true, "the first read after a write")?;
    read_moves(false, "the second read after a write")?;
    sleep(STEP);
    chmod(&path, Mode::from_raw_mode(0o600))?;
    read_moves(true, "the first read after a chmod")?;
    let atime = status_of(&path)?.atime;
    drop_caches()?;
    equal("atime from the disk", status_of(&path)?.atime, atime)
}

fn no_access_time(scene: &Scene<'_>) -> Result<()> {
    let path = scene.path("file");
    fs::write(&path, "content")?;
    sleep(STEP);
    let before = status_of(&path)?;
    let file = open(&path, OFlags::RDONLY | OFlags::NOATIME, Mode::empty())?;
    equal("bytes read", rustix::io::read(&file, &mut [0; 16])?, 7)?;
    equal("status", status_of(&path)?, before)
}
