// SPDX-License-Identifier: GPL-2.0

//! The parts that need no filesystem. Whole filesystems, sound and broken, are checked in `tools/fsck/tests`.

use super::bitmaps::{differences, Difference};
use super::{Finding, Severity};
use crate::error::Check;
use crate::units::{BlockNo, InodeNo};

#[test]
fn differences_are_runs() {
    let (mut left, mut right) = ([0_u8; 32], [0_u8; 32]);
    // Set on the left: 5 to 9, over a byte's end; on the right: 10; both: 60 to 63; left again: 64 to 66, over a word's end.
    left[0] = 0b1110_0000;
    left[1] = 0b0000_0011;
    right[1] = 0b0000_0100;
    (left[7], right[7]) = (0xF0, 0xF0);
    left[8] = 0b0000_0111;
    left[7] |= 0b0000_1000;
    let mut runs = Vec::new();
    differences(&left, &right, &mut |run| {
        runs.push(run);
        Ok(())
    })
    .unwrap();
    let run = |start, bits, is_set| Difference { start, bits, is_set };
    assert_eq!(runs, [run(5, 5, true), run(10, 1, false), run(59, 1, true), run(64, 3, true)]);
    let mut none = 0;
    differences(&left, &left, &mut |_| {
        none += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(none, 0);
}

#[test]
fn findings_are_sentences() {
    let finding = |check, severity, inode, expected, found| {
        Finding { check, severity, inode: InodeNo(inode), block: BlockNo(700), expected, found }.to_string()
    };
    let cases = [
        (
            finding(Check::Bitmap, Severity::Leak, 0, 0, 3),
            "block 700: bitmap: blocks 700 to 702 are marked used, but nothing uses them",
        ),
        (
            finding(Check::Bitmap, Severity::Damage, 0, 1, 0),
            "block 700: bitmap: blocks 700 to 700 are in use, but marked free",
        ),
        (
            finding(Check::Bitmap, Severity::Damage, 20, 1, 0),
            "inode 20: block 700: bitmap: marked free, but the inode is in use",
        ),
        (
            finding(Check::Shared, Severity::Damage, 20, 19, 20),
            "inode 20: block 700: shared: inode 19 claims the block too",
        ),
        (
            finding(Check::Shared, Severity::Damage, 20, 20, 20),
            "inode 20: block 700: shared: the inode claims the block twice",
        ),
        (
            finding(Check::Reachable, Severity::Damage, 20, 1, 0),
            "inode 20: block 700: reachable: in use, but no directory names it",
        ),
        (
            finding(Check::Reachable, Severity::Damage, 20, 2, 18),
            "inode 20: block 700: reachable: directories 2 and 18 both name this directory",
        ),
        (
            finding(Check::Reachable, Severity::Damage, 20, 0, 18),
            "inode 20: block 700: reachable: the directory is its own ancestor, through directory 18",
        ),
        (finding(Check::Magic, Severity::Damage, 0, 1, 255), "block 700: magic: expected 0x1, found 0xff"),
    ];
    for (sentence, expected) in cases {
        assert_eq!(sentence, expected);
    }
}
