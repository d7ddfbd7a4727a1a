// SPDX-License-Identifier: GPL-2.0

//! Golden images: what mkfs made once with everything fixed, it makes for ever, unless the format was changed on purpose
//! (`docs/format.md`, "Changing the format").
//!
//! `tests/golden/*.dump` hold, for one image each, the options, the SHA-256 of all of its bytes, and those that are not
//! zero in rows of 16; a star stands for rows equal to the one before. `CAIRNFS_BLESS=1` writes them anew.

use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGES: [(&str, &[&str], &str); 3] = [
    ("smallest", &[], "4396k"),
    ("32M", &["-L", "golden", "--physical-block", "512"], "32M"),
    ("300M", &["-J", "size=8M", "-i", "65536", "-L", "three groups"], "300M"),
];
const UUID: &str = "4f0ad3c4-6f3b-4c5e-9d8a-0123456789ab";
const HASH_KEY: &str = "000102030405060708090a0b0c0d0e0f";

fn golden_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(format!("{name}.dump"))
}

/// The rows of a block that is not all zero.
fn dump(rows: &mut String, offset: usize, piece: &[u8]) {
    let mut last = None;
    for (number, row) in piece.chunks_exact(16).enumerate() {
        let bytes: [u8; 16] = row.try_into().unwrap();
        if last == Some(bytes) {
            if !rows.ends_with("*\n") {
                rows.push_str("*\n");
            }
            continue;
        }
        last = Some(bytes);
        write!(rows, "{:08x} ", offset + number * 16).unwrap();
        for (column, byte) in row.iter().enumerate() {
            write!(rows, "{}{byte:02x}", if column == 8 { "  " } else { " " }).unwrap();
        }
        let text = row.iter().map(|byte| if (0x20..0x7F).contains(byte) { char::from(*byte) } else { '.' });
        writeln!(rows, "  |{}|", text.collect::<String>()).unwrap();
    }
}

fn describe(name: &str, options: &[&str], size: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join(name);
    let made = Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs"))
        .args(["-q", "-U", UUID, "--hash-key", HASH_KEY])
        .args(options)
        .arg(&image)
        .arg(size)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .status()
        .unwrap();
    assert!(made.success());
    let mut bytes = Vec::new();
    File::open(&image).unwrap().read_to_end(&mut bytes).unwrap();
    let mut rows = String::new();
    for (block, piece) in bytes.chunks(4096).enumerate() {
        if piece.iter().any(|byte| *byte != 0) {
            dump(&mut rows, block * 4096, piece);
        }
    }
    let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("options {options:?} size {size}\nsha256 {digest}\n{rows}")
}

#[test]
fn images_are_what_they_were() {
    for (name, options, size) in IMAGES {
        let now = describe(name, options, size);
        let path = golden_path(name);
        if std::env::var_os("CAIRNFS_BLESS").is_some() {
            std::fs::write(&path, &now).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        let difference = golden.lines().zip(now.lines()).find(|(golden, now)| golden != now);
        assert!(golden == now, "{name}: the first difference: {difference:?}");
    }
}
