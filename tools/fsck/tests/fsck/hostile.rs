// SPDX-License-Identifier: GPL-2.0

//! Images that somebody broke on purpose: random bytes in blocks of metadata, checksums made right afterwards. The checker must come
//! to an end, without a panic and without giving up, and nearly always with a finding.

use crate::image::{Image, DEVICE_BLOCKS, PLATFORM};
use cairnfs_core::check::{self, Options, Subject};
use cairnfs_core::error::Error;
use cairnfs_core::format::group::Geometry;
use cairnfs_core::units::BlockNo;
use cairnfs_device::load_superblock;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const CASES: u64 = 600;
/// No image of this size has more to say.
const FINDINGS_MAX: u64 = 200_000;
/// Blocks of file contents consist of one of these; changing them is nobody's fault.
const CONTENTS: [u8; 2] = [1, 2];

/// One to eight bytes of the block become something: random, an extreme, or one more or less.
fn spoil(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    // Most of a block's structure stands in front; in a leaf also at the end.
    let reach = *[64, 256, bytes.len()].choose(rng).unwrap();
    let from_end = rng.random_bool(0.2);
    for _ in 0..rng.random_range(1..=8) {
        let place = rng.random_range(0..reach);
        let place = if from_end { bytes.len() - 1 - place } else { place };
        bytes[place] = match rng.random_range(0..5) {
            0 => 0,
            1 => 0xFF,
            2 => bytes[place].wrapping_add(1),
            3 => bytes[place].wrapping_sub(1),
            _ => rng.random(),
        };
    }
}

/// Checks what can be mounted; how many findings there were, and none when the superblock itself is refused.
fn outcome(image: &Image) -> Option<u64> {
    let superblock = load_superblock(&image.device, &PLATFORM).ok()?.superblock;
    let geometry = Geometry::new(&superblock, DEVICE_BLOCKS).ok()?;
    let subject =
        Subject { device: &image.device, platform: &PLATFORM, superblock: &superblock, geometry: &geometry };
    let mut findings = 0;
    let mut sink = |finding: &check::Finding| {
        assert!(!finding.to_string().is_empty());
        findings += 1;
        assert!(findings < FINDINGS_MAX, "{finding}");
        Ok(())
    };
    match check::run(&subject, Options::default(), &mut sink, &mut |_, done, total| assert!(done <= total)) {
        Ok(summary) => {
            assert_eq!(summary.findings(), findings);
            assert!(findings > 0 || summary.is_complete);
        }
        // A number may lead outside of the device.
        Err(Error::Io(_)) => return None,
        Err(error) => panic!("the check gave up: {error}"),
    }
    Some(findings)
}

/// The blocks that are not zero and hold no file's contents.
fn metadata(image: &Image) -> Vec<u64> {
    let is_contents =
        |bytes: &[u8]| CONTENTS.contains(&bytes[0]) && bytes[..64].iter().all(|byte| *byte == bytes[0]);
    image.device.contents().iter().filter(|(_, bytes)| !is_contents(bytes)).map(|(block, _)| *block).collect()
}

#[test]
fn spoiled_metadata_is_checked_to_the_end() {
    let sound = Image::new();
    let orphaned = sound.with_orphans();
    let bases = [(metadata(&sound), sound), (metadata(&orphaned), orphaned)];
    let (mut checked, mut found) = (0, 0);
    for seed in 0..CASES {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (blocks, base) = &bases[usize::from(seed % 4 == 0)];
        let image = base.clone();
        for _ in 0..rng.random_range(1..=4) {
            let block = BlockNo(*blocks.choose(&mut rng).unwrap());
            // A table block is eight inodes: each is as likely as a block of something else.
            image.edit_raw(block, |bytes| {
                let piece = bytes.len() / *[1, 8].choose(&mut rng).unwrap();
                let start = rng.random_range(0..bytes.len() / piece) * piece;
                spoil(&mut rng, &mut bytes[start..start + piece]);
            });
            image.reseal(block);
        }
        if let Some(findings) = outcome(&image) {
            checked += 1;
            found += u64::from(findings > 0);
        }
    }
    println!("{CASES} spoiled images: {checked} checked, {found} with findings");
    assert!(checked > CASES / 2 && found > checked / 2, "{checked} checked, {found} with findings");
}
