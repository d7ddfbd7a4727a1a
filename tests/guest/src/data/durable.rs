//! What is promised about data when the filesystem stops at once: fsync and its kin, the rename rule, no stale bytes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{ensure, Result};
use rustix::fs::OFlags;
use rustix::mount::MountFlags;
use vmap::Map;

use super::pattern::{bytes, file_holds};
use crate::cases::{needs_a_disk, share, Case, Scene};
use crate::shutdown::{shut_down, shut_down_and_recover, Mode};

pub(super) const CASES: &[Case] = &[
    Case::new("fsync, fdatasync, O_SYNC, O_DSYNC", synced),
    Case::new("fdatasync of appends and of overwrites", appends_and_overwrites),
    Case::new("fsync of truncations", truncations),
    Case::new("the rename rule", rename_rule),
    Case::new("a file that is emptied and written anew", written_anew),
    Case::new("4096, 100, 8192: no old bytes after a recovery", cut_and_grown),
    Case::new("cut, and appended to: no old bytes after a recovery", cut_and_appended),
    Case::new("cut, recovered, and appended to: no old bytes either", cut_recovered_and_appended),
    Case::new("cut, recovered, and mapped: zeroes behind the end", cut_recovered_and_mapped),
    Case::new("no bytes of other files, ever", no_foreign_bytes),
];

fn sync_folder(folder: &Path) -> Result<()> {
    Ok(File::open(folder)?.sync_all()?)
}

fn synced(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let content = |number: u64| bytes(number, 0, 30_000 + number as usize * 777);
    for number in 0..24 {
        let flags = match number % 4 {
            0 => OFlags::SYNC,
            1 => OFlags::DSYNC,
            _ => OFlags::empty(),
        };
        let mut options = File::options();
        options.write(true).create_new(true).custom_flags(flags.bits() as i32);
        let mut file = options.open(scene.path(number.to_string()))?;
        file.write_all(&content(number))?;
        match number % 4 {
            2 => file.sync_all()?,
            3 => file.sync_data()?,
            // The call itself was to wait.
            _ => {}
        }
    }
    // The data were promised; the names of files that were not fsynced, by this.
    sync_folder(&scene.folder)?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    for number in 0..24 {
        file_holds(&format!("way {}", number % 4), &scene.path(number.to_string()), &content(number))?;
    }
    Ok(())
}

fn appends_and_overwrites(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let (appended, overwritten) = (scene.path("appended"), scene.path("overwritten"));
    fs::write(&overwritten, bytes(1, 0, 100_000))?;
    fs::write(&appended, "")?;
    rustix::fs::sync();
    let mut file = File::options().append(true).open(&appended)?;
    let over = File::options().write(true).open(&overwritten)?;
    let (mut first, mut second) = (Vec::new(), bytes(1, 0, 100_000));
    for round in 0..20_u64 {
        let piece = bytes(round + 10, 0, 3_333);
        file.write_all(&piece)?;
        file.sync_data()?;
        first.extend(&piece);
        let place = round as usize * 4_500;
        over.write_all_at(&piece, place as u64)?;
        over.sync_data()?;
        second[place..place + 3_333].copy_from_slice(&piece);
    }
    drop((file, over));
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    file_holds("appended", &appended, &first)?;
    file_holds("overwritten", &overwritten, &second)
}

fn truncations(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    const SIZES: [usize; 6] = [0, 1, 4_096, 5_000, 49_999, 200_000];
    for size in SIZES {
        fs::write(scene.path(size.to_string()), bytes(3, 0, 50_000))?;
    }
    rustix::fs::sync();
    for size in SIZES {
        let file = File::options().write(true).open(scene.path(size.to_string()))?;
        file.set_len(size as u64)?;
        file.sync_all()?;
    }
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    for size in SIZES {
        let mut wanted = bytes(3, 0, 50_000);
        wanted.resize(size, 0);
        file_holds(&format!("cut to {size}"), &scene.path(size.to_string()), &wanted)?;
    }
    Ok(())
}

/// Replaces a file by a new one, without an fsync, as careless programs do.
fn replace(scene: &Scene<'_>, name: &str, seed: u64) -> Result<()> {
    let temporary = scene.path(format!("{name}.new"));
    fs::write(&temporary, bytes(seed, 0, 60_000))?;
    Ok(fs::rename(&temporary, scene.path(name))?)
}

fn rename_rule(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    const FILES: u64 = 12;
    for mode in [Mode::Journal, Mode::Nothing] {
        for number in 0..FILES {
            fs::write(scene.path(number.to_string()), bytes(1_000 + number, 0, 40_000))?;
        }
        rustix::fs::sync();
        (0..FILES).try_for_each(|number| replace(scene, &number.to_string(), 2_000 + number))?;
        shut_down_and_recover(scene.filesystem, mode)?;
        for number in 0..FILES {
            let path = scene.path(number.to_string());
            let what = format!("file {number}, shut down with {mode:?}");
            let (old, new) = (bytes(1_000 + number, 0, 40_000), bytes(2_000 + number, 0, 60_000));
            // The rename is in the journal; where the journal did not reach the disk, the old file is there, whole.
            if mode == Mode::Nothing && fs::read(&path)? == old {
                continue;
            }
            file_holds(&what, &path, &new)?;
        }
    }
    Ok(())
}

fn written_anew(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    let path = scene.path("file");
    fs::write(&path, bytes(5, 0, 30_000))?;
    rustix::fs::sync();
    // The file is closed before the journal is written: by then its new bytes are on their way.
    fs::write(&path, bytes(6, 0, 50_000))?;
    shut_down_and_recover(scene.filesystem, Mode::Journal)?;
    file_holds("after the recovery", &path, &bytes(6, 0, 50_000))
}

/// A file of a block, which was durable, cut to 100 bytes.
fn cut_file(scene: &Scene<'_>) -> Result<PathBuf> {
    needs_a_disk(scene)?;
    let path = scene.path("file");
    let file = File::create_new(&path)?;
    file.write_all_at(&bytes(7, 0, 4_096), 0)?;
    file.sync_all()?;
    sync_folder(&scene.folder)?;
    file.set_len(100)?;
    Ok(path)
}

/// Such a file is filled again, and then appended to with O_DSYNC: that write alone is durable, and with it the size. What it has
/// skipped may read as zeroes.
pub(super) fn append_in_two_blocks(path: &Path) -> Result<()> {
    let file = File::options().write(true).open(path)?;
    file.write_all_at(&bytes(8, 100, 3_996), 100)?;
    let synced = File::options().write(true).custom_flags(OFlags::DSYNC.bits() as i32).open(path)?;
    synced.write_all_at(&bytes(9, 4_096, 4_096), 4_096)?;
    Ok(())
}

pub(super) fn is_appended(path: &Path) -> Result<()> {
    let found = fs::read(path)?;
    ensure!(found.len() == 8_192, "{} bytes", found.len());
    let between = &found[100..4_096];
    let allowed = between.iter().all(|byte| *byte == 0) || between == bytes(8, 100, 3_996);
    ensure!(allowed, "what was cut off is back: {:02x?}", &between[..8]);
    ensure!(found[..100] == bytes(7, 0, 100), "what was not cut off has other bytes");
    ensure!(found[4_096..] == bytes(9, 4_096, 4_096), "what was synced has other bytes");
    Ok(())
}

fn cut_and_appended(scene: &Scene<'_>) -> Result<()> {
    let path = cut_file(scene)?;
    append_in_two_blocks(&path)?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    is_appended(&path)
}

/// Such a file behind a crash: the new size was durable, the zeroes behind it were not.
fn cut_and_recovered(scene: &Scene<'_>) -> Result<PathBuf> {
    let path = cut_file(scene)?;
    fs::write(scene.path("other"), "")?;
    File::open(scene.path("other"))?.sync_all()?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    file_holds("the file that was cut", &path, &bytes(7, 0, 100))?;
    Ok(path)
}

/// What a program that maps the file sees behind its end, up to the end of the page.
fn mapped_behind_the_end(path: &Path) -> Result<Vec<u8>> {
    let map = Map::with_options().map(&File::open(path)?)?;
    ensure!(map[..] == bytes(7, 0, 100), "what is mapped has other bytes");
    // No slice reaches there.
    let place = map.as_ptr() as u64 + map.len() as u64;
    let mut found = vec![1; 4_096 - map.len()];
    File::open("/proc/self/mem")?.read_exact_at(&mut found, place)?;
    Ok(found)
}

fn cut_recovered_and_mapped(scene: &Scene<'_>) -> Result<()> {
    let path = cut_and_recovered(scene)?;
    for way in ["read-write", "read-only"] {
        let found = mapped_behind_the_end(&path)?;
        ensure!(found.iter().all(|byte| *byte == 0), "{way}: what was cut off is seen: {:02x?}", &found[..8]);
        scene.filesystem.unmount()?;
        scene.filesystem.mount_with(MountFlags::RDONLY, "")?;
    }
    scene.filesystem.mount_again()
}

fn cut_recovered_and_appended(scene: &Scene<'_>) -> Result<()> {
    let path = cut_and_recovered(scene)?;
    append_in_two_blocks(&path)?;
    shut_down_and_recover(scene.filesystem, Mode::Nothing)?;
    is_appended(&path)
}

fn cut_and_grown(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    for (number, mode) in
        [Mode::Nothing, Mode::Journal, Mode::Everything, Mode::Nothing].into_iter().enumerate()
    {
        let path = scene.path(number.to_string());
        let old = bytes(7, 0, 4_096);
        let file = File::options().write(true).create_new(true).open(&path)?;
        file.write_all_at(&old, 0)?;
        file.sync_all()?;
        sync_folder(&scene.folder)?;
        file.set_len(100)?;
        if number == 3 {
            file.sync_all()?;
        }
        file.set_len(8_192)?;
        drop(file);
        shut_down_and_recover(scene.filesystem, mode)?;
        let found = fs::read(&path)?;
        let mut grown = old[..100].to_vec();
        grown.resize(8_192, 0);
        // Before, in between, or after: never the old size with zeros in it.
        let allowed = found == old || found == old[..100] || found == grown;
        ensure!(
            allowed,
            "{mode:?}: {} bytes, of them behind the first 100: {:02x?}",
            found.len(),
            found.get(100..108)
        );
        ensure!(mode == Mode::Nothing || found == grown, "{mode:?}: {} bytes", found.len());
    }
    Ok(())
}

fn no_foreign_bytes(scene: &Scene<'_>) -> Result<()> {
    needs_a_disk(scene)?;
    const FOREIGN: u8 = 0xA6;
    for round in 0..share(4_u64).max(2) {
        // Blocks that are free and full of what must not be seen again.
        for number in 0..24 {
            fs::write(scene.path(format!("old {number}")), vec![FOREIGN; 1 << 20])?;
        }
        rustix::fs::sync();
        for number in 0..24 {
            fs::remove_file(scene.path(format!("old {number}")))?;
        }
        rustix::fs::sync();
        let wanted = |number: u64| bytes(round * 100 + number, 0, 90_000 + number as usize * 1_111);
        for number in 0..40_u64 {
            let file = File::create(scene.path(number.to_string()))?;
            // Some with holes, some extended by truncation, some partly synced.
            let content = wanted(number);
            let (first, second) = content.split_at(content.len() / 2);
            file.write_all_at(first, 0)?;
            if number % 5 == 0 {
                file.sync_data()?;
            }
            file.set_len(content.len() as u64)?;
            if number % 3 != 0 {
                file.write_all_at(second, first.len() as u64)?;
            }
        }
        // Some of it is on its way when the filesystem stops.
        let mode = if round % 2 == 0 { Mode::Nothing } else { Mode::Journal };
        std::thread::scope(|scope| {
            scope.spawn(rustix::fs::sync);
            std::thread::sleep(std::time::Duration::from_millis(round * 15));
            shut_down(scene.filesystem.root(), mode)
        })?;
        crate::shutdown::recover(scene.filesystem)?;
        // Every fifth was synced, and with it whatever had been made before.
        let synced = 36;
        for number in 0..40_u64 {
            let path = scene.path(number.to_string());
            let found = match fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && number >= synced => continue,
                found => found?,
            };
            let content = wanted(number);
            ensure!(found.len() <= content.len(), "round {round}, file {number}: {} bytes", found.len());
            let wrong = found.iter().zip(&content).position(|(found, wanted)| *found != 0 && found != wanted);
            ensure!(wrong.is_none(), "round {round}, file {number}: another byte at {wrong:?}");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}
