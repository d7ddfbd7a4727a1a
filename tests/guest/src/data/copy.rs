//! Copies within the kernel: sendfile, splice and copy_file_range.

use std::fs::{self, File};

use anyhow::{ensure, Result};
use rustix::fs::{copy_file_range, sendfile};
use rustix::pipe::{pipe, splice, SpliceFlags};

use super::pattern::{bytes, file_holds};
use crate::cases::{equal, Case, Scene};
use crate::filesystem::drop_caches;

pub(super) const CASES: &[Case] = &[
    Case::new("sendfile", by_sendfile),
    Case::new("splice through a pipe", by_splice),
    Case::new("copy_file_range", by_copy_file_range),
    Case::new("a copy of a file onto another filesystem and back", there_and_back),
];

const BYTES: usize = 777_777;

fn prepare(scene: &Scene<'_>) -> Result<(File, File, Vec<u8>)> {
    let content = bytes(1, 0, BYTES);
    fs::write(scene.path("from"), &content)?;
    drop_caches()?;
    Ok((File::open(scene.path("from"))?, File::create(scene.path("to"))?, content))
}

fn has_arrived(scene: &Scene<'_>, content: &[u8]) -> Result<()> {
    file_holds("from memory", &scene.path("to"), content)?;
    drop_caches()?;
    file_holds("from the disk", &scene.path("to"), content)
}

fn by_sendfile(scene: &Scene<'_>) -> Result<()> {
    let (from, to, content) = prepare(scene)?;
    let mut offset = 0;
    while sendfile(&to, &from, Some(&mut offset), 100_000)? > 0 {}
    equal("offset", offset, BYTES as u64)?;
    has_arrived(scene, &content)
}

fn by_splice(scene: &Scene<'_>) -> Result<()> {
    let (from, to, content) = prepare(scene)?;
    let (reader, writer) = pipe()?;
    loop {
        let mut left = splice(&from, None, &writer, None, 50_000, SpliceFlags::empty())?;
        if left == 0 {
            break;
        }
        while left > 0 {
            let count = splice(&reader, None, &to, None, left, SpliceFlags::MOVE)?;
            ensure!(count > 0, "the pipe is empty with {left} bytes left");
            left -= count;
        }
    }
    has_arrived(scene, &content)
}

fn by_copy_file_range(scene: &Scene<'_>) -> Result<()> {
    let (from, to, content) = prepare(scene)?;
    let (mut here, mut there) = (0, 0);
    while copy_file_range(&from, Some(&mut here), &to, Some(&mut there), 99_999)? > 0 {}
    equal("offsets", (here, there), (BYTES as u64, BYTES as u64))?;
    has_arrived(scene, &content)
}

fn there_and_back(scene: &Scene<'_>) -> Result<()> {
    let (_, _, content) = prepare(scene)?;
    let other = format!("/tmp/copy-{}", std::process::id());
    fs::copy(scene.path("from"), &other)?;
    let copied = fs::copy(&other, scene.path("to"));
    fs::remove_file(&other)?;
    equal("bytes", copied?, BYTES as u64)?;
    has_arrived(scene, &content)
}
