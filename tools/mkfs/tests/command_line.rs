// SPDX-License-Identifier: GPL-2.0

//! mkfs.cairnfs as its users call it: what it makes, what it refuses and with which words, and how it exits.

use cairnfs_device::{load_superblock, Access, FileDevice, StdPlatform};
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

const FIXED: [&str; 4] =
    ["-U", "4f0ad3c4-6f3b-4c5e-9d8a-0123456789ab", "--hash-key", "000102030405060708090a0b0c0d0e0f"];

fn mkfs(arguments: &[&str], image: &Path, size: Option<&str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs"))
        .args(arguments)
        .arg(image)
        .args(size)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .output()
        .unwrap()
}

fn made(arguments: &[&str], image: &Path, size: Option<&str>) -> String {
    let output = mkfs(arguments, image, size);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Must exit with 1 and say this, and nothing on standard output.
fn refused(arguments: &[&str], image: &Path, size: Option<&str>, message: &str) {
    let output = mkfs(arguments, image, size);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(said.contains(message), "{arguments:?}: {said:?} does not say {message:?}");
    assert!(output.stdout.is_empty());
}

struct Images(tempfile::TempDir);

impl Images {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sparse(&self, name: &str, bytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(bytes).unwrap();
        path
    }
}

fn content(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn makes_an_image_file_of_the_size_asked_for() {
    let images = Images::new();
    for (size, bytes) in [("32M", 32 << 20), ("8192", 32 << 20), ("65536s", 32 << 20), ("32768k", 32 << 20)] {
        let image = images.path(size);
        let said = made(&["-L", "data"], &image, Some(size));
        assert_eq!(fs::metadata(&image).unwrap().len(), bytes, "{size}");
        assert!(
            said.contains("8192 blocks of 4096 bytes, 32 MiB") && said.contains("label    \"data\""),
            "{said}"
        );
        let device = FileDevice::open(&image, Access::Read).unwrap();
        let superblock = load_superblock(&device, &StdPlatform::new()).unwrap().superblock;
        assert_eq!((superblock.device_blocks, superblock.physical_block_bytes), (8192, 4096));
        assert_eq!(&superblock.label[..5], b"data\0");
        assert_eq!(superblock.created_ns, 1_700_000_000_000_000_000);
    }
}

#[test]
fn a_terabyte_takes_less_than_a_second_and_next_to_no_space() {
    let images = Images::new();
    let image = images.path("large");
    let begin = Instant::now();
    made(&["-q"], &image, Some("1T"));
    let took = begin.elapsed();
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() * 512 < 1 << 20, "{} KiB on disk", metadata.blocks() / 2);
    assert!(took < Duration::from_secs(1), "{took:?}");
    // A second time over an existing filesystem, discard included.
    let begin = Instant::now();
    made(&["-q", "-f"], &image, None);
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn with_everything_fixed_the_bytes_are_the_same() {
    let images = Images::new();
    let (first, second, third) = (images.path("1"), images.path("2"), images.path("3"));
    made(&FIXED, &first, Some("32M"));
    made(&FIXED, &second, Some("32M"));
    assert!(content(&first) == content(&second));
    // Over junk, with discard and without.
    for option in ["-f", "-fK"] {
        fs::write(&third, vec![0x5A; 32 << 20]).unwrap();
        let mut arguments = FIXED.to_vec();
        arguments.push(option);
        made(&arguments, &third, None);
        let (got, wanted) = (content(&third), content(&first));
        if option == "-f" {
            assert!(got == wanted, "what is discarded is zero");
        } else {
            let strange =
                got.iter().zip(&wanted).filter(|(got, wanted)| got != wanted && **got != 0x5A).count();
            assert_eq!(strange, 0, "what is not written stays");
        }
    }
    made(&[], &images.path("4"), Some("32M"));
    assert!(content(&images.path("4")) != content(&first), "identities are random unless given");
}

#[test]
fn dry_run_says_what_it_would_do_and_writes_nothing() {
    let images = Images::new();
    let image = images.path("absent");
    let said = made(&["-n"], &image, Some("32M"));
    assert!(
        said.starts_with("would be made on") && said.contains("journal  1024 blocks at block 2"),
        "{said}"
    );
    assert!(!image.exists());
    let image = images.sparse("ext", 32 << 20);
    OpenOptions::new().write(true).open(&image).unwrap().write_all_at(&[0x53, 0xEF], 1080).unwrap();
    let before = content(&image);
    let said = made(&["--dry-run", "--json"], &image, None);
    assert!(content(&image) == before);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["dry_run"], true);
    assert_eq!(json["signatures"], serde_json::json!([{ "name": "ext2/3/4", "offset": 1080 }]));
}

#[test]
fn json_has_the_numbers() {
    let images = Images::new();
    let mut arguments = FIXED.to_vec();
    arguments.extend([
        "--json",
        "-J",
        "size=8M",
        "-g",
        "128M",
        "-i",
        "65536",
        "--physical-block",
        "512",
        "-b",
        "4k",
    ]);
    let json: serde_json::Value =
        serde_json::from_str(&made(&arguments, &images.path("image"), Some("1G"))).unwrap();
    let expected = [
        ("device_blocks", 262_144),
        ("journal_start", 2),
        ("journal_blocks", 2048),
        ("first_group_block", 2304),
        ("group_blocks", 32768),
        ("group_count", 8),
        ("inodes_per_group", 2048),
        ("inodes", 16384),
        ("free_inodes", 16368),
        ("free_blocks", 262_144 - 2304 - 8 * (2 + 1 + 1 + 256) - 16),
        ("physical_block_bytes", 512),
        ("reserve_blocks", 262),
    ];
    for (key, value) in expected {
        assert_eq!(json[key], value, "{key}");
    }
    assert_eq!(json["uuid"], FIXED[1]);
    assert_eq!(json["label"], "");
}

#[test]
fn foreign_contents_are_refused_and_with_force_wiped() {
    let images = Images::new();
    let cases: [(&str, u64, &[u8], &str); 3] = [
        ("ext2/3/4", 1080, &[0x53, 0xEF], "contains ext2/3/4 (at byte 1080); use -f to overwrite it"),
        ("xfs", 0, b"XFSB", "contains xfs (at byte 0); use -f"),
        ("GPT", (32 << 20) - 512, b"EFI PART", "contains GPT (at byte 33553920); use -f"),
    ];
    for (name, offset, magic, message) in cases {
        let image = images.sparse("image", 32 << 20);
        OpenOptions::new().write(true).open(&image).unwrap().write_all_at(magic, offset).unwrap();
        let before = content(&image);
        refused(&[], &image, None, message);
        assert!(content(&image) == before, "{name} was refused and changed");
        made(&["-fK"], &image, None);
        let device = FileDevice::open(&image, Access::Read).unwrap();
        let left: Vec<_> =
            cairnfs_device::probe(&device).unwrap().iter().map(|signature| signature.name).collect();
        assert_eq!(left, ["cairnfs"], "{name}");
        refused(&[], &image, None, "contains cairnfs (at byte 0); use -f");
    }
}

#[test]
fn devices_that_do_not_fit_are_refused() {
    let images = Images::new();
    let smallest = "the device is too small: at least 4396 KiB are needed";
    let image = images.path("tiny");
    refused(&[], &image, Some("4395k"), smallest);
    assert!(!image.exists(), "nothing is left of what was refused");
    made(&[], &image, Some("4396k"));
    refused(&[], &images.path("absent"), None, "does not exist; with a size behind it an image file is made");
    refused(&[], images.0.path(), None, "is neither a block device nor a regular file");
    refused(&[], Path::new("/dev/null"), None, "is neither a block device nor a regular file");
    // A file that is there grows, or is used in part.
    let image = images.sparse("grows", 8 << 20);
    made(&[], &image, Some("64M"));
    assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 20);
    let said = made(&["-f"], &image, Some("16M"));
    assert!(said.contains("4096 blocks of 4096 bytes, 16 MiB"), "{said}");
    assert_eq!(fs::metadata(&image).unwrap().len(), 64 << 20);
}

#[test]
fn wishes_that_cannot_be_met_are_refused_with_their_limits() {
    let images = Images::new();
    let journal = "the journal must have at least 4096 KiB and, on this device, at most 16384 KiB";
    let cases: [(&[&str], &str); 13] = [
        (&["-J", "size=4092k"], journal),
        (&["-J", "size=17M"], journal),
        (&["-J", "size=17"], journal),
        (&["-J", "size=9001s"], "the journal size must be a multiple of 4096 bytes"),
        (&["-J", "8M"], "\"size=SIZE\" is wanted"),
        (&["-J", "size=8Q"], "\"8Q\" is not a size"),
        (&["-g", "100M"], "the group size must be 128M, 256M, 512M or 1G"),
        (&["-i", "1024"], "the bytes for each inode must be from 4096 to 67108864"),
        (&["-b", "1024"], "the block size must be 4096 bytes, not 1024"),
        (&["--physical-block", "8192"], "the physical block size must be 512, 1024, 2048 or 4096 bytes"),
        (&["-U", "no-uuid"], "invalid value 'no-uuid' for '--uuid <UUID>'"),
        (&["-L", &"x".repeat(65)], "the label has 65 bytes, 64 are allowed"),
        (&["--hash-key", "12"], "32 hexadecimal digits are wanted"),
    ];
    for (arguments, message) in cases {
        let image = images.path("image");
        refused(arguments, &image, Some("32M"), message);
        assert!(!image.exists(), "{arguments:?}");
    }
    made(&["-L", &"x".repeat(64)], &images.path("image"), Some("32M"));
}

#[test]
fn version_help_and_wrong_dates() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs")).args(arguments).output().unwrap()
    };
    let version = run(&["-V"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&version.stdout).starts_with("mkfs.cairnfs 0."));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&[]).status.code(), Some(1));
    let images = Images::new();
    let output = Command::new(env!("CARGO_BIN_EXE_mkfs-cairnfs"))
        .arg(images.path("image"))
        .arg("32M")
        .env("SOURCE_DATE_EPOCH", "yesterday")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SOURCE_DATE_EPOCH is \"yesterday\""));
}

/// What it shows on a terminal of that type; `script` (bsdutils) is one.
fn on_a_terminal(terminal: &str, arguments: &str, image: &Path) -> String {
    let words = format!("{} -f {arguments} {} 64M", env!("CARGO_BIN_EXE_mkfs-cairnfs"), image.display());
    let output =
        Command::new("script").args(["-qec", &words, "/dev/null"]).env("TERM", terminal).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn progress_is_shown_on_a_terminal_and_nowhere_else() {
    let images = Images::new();
    let image = images.path("image");
    let shown = on_a_terminal("xterm", "", &image);
    assert!(shown.contains("writing ") && shown.contains('%'), "{shown:?}");
    assert!(!on_a_terminal("xterm", "-q", &image).contains('%'));
    // One that cannot go back in its line gets no bar.
    assert!(!on_a_terminal("dumb", "", &image).contains('%'));
    // `made` refuses any word on standard error.
    assert!(!made(&["-f"], &image, Some("64M")).contains('%'));
}
