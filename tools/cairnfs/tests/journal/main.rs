// SPDX-License-Identifier: GPL-2.0

//! `cairnfs journal` on clean, dirty, torn and damaged journals; what a mount does with the same image is the judge.

mod image;

use cairnfs_core::error::{Check, Corruption, Error};
use cairnfs_core::format::item::{ItemHeader, ITEM_OPTIONAL};
use cairnfs_core::format::layout::put;
use cairnfs_core::units::BLOCK_BYTES;
use cairnfs_volume::Volume;
use image::{new_inode, records, run, said, Image, PLATFORM, ROOT};
use serde_json::{json, Value};

/// The first bytes of both journal headers.
const HEADERS: [u64; 2] = [2 * BLOCK_BYTES as u64, 3 * BLOCK_BYTES as u64];

/// The field of each record.
fn each<'v>(listing: &'v Value, field: &str) -> Vec<&'v Value> {
    records(listing).iter().map(|record| &record[field]).collect()
}

/// That verify says of an image what a mount does with it, and the code that it ends with says so too.
fn assert_as_mounted(image: &Image) -> Value {
    match image.recovery() {
        Ok(report) => {
            let verified = image.json("verify", 0);
            assert_eq!(
                verified["outcome"],
                if report.time_ns == 0 { "nothing-to-replay" } else { "replays" }
            );
            for (field, counted) in [
                ("transactions", report.transactions),
                ("items", report.items),
                ("discarded_records", report.discarded_records),
            ] {
                assert_eq!(verified[field], counted, "{field}");
            }
            verified
        }
        Err(Error::Corrupt(corruption)) => {
            let verified = image.json("verify", 4);
            assert_eq!(verified["outcome"], "refused");
            let damage = verified["damage"].as_array().unwrap().last().unwrap().as_str().unwrap();
            assert!(damage.contains(&corruption.to_string()), "{damage:?}: {corruption}");
            verified
        }
        Err(error) => panic!("{error}"),
    }
}

fn check_of_mount(image: &Image) -> Check {
    match image.recovery() {
        Err(Error::Corrupt(Corruption { check, .. })) => check,
        other => panic!("{other:?}"),
    }
}

/// Where in the payload the body of the item begins that is the first of its type.
fn body_of(record: &Value, wanted: &str) -> usize {
    let mut at = ItemHeader::SIZE;
    for item in record["items"].as_array().unwrap() {
        if item["type"] == wanted {
            return at;
        }
        let body_bytes = item["body_bytes"].as_u64().unwrap() as usize;
        at += ItemHeader::SIZE + body_bytes.next_multiple_of(8);
    }
    panic!("no {wanted} in {record}");
}

#[test]
fn a_clean_journal_has_no_records() {
    let image = Image::new(4 << 20);
    let text = image.text(&["list"], 0);
    let expected = [
        "journal header          block 2, update 1 (newer): clean, tail at position 0, sequence 1, generation 1;",
        "journal header          block 3, update 1: clean, ",
        "ring                    3.99 MiB from block 4 on, records padded to 512 bytes\n",
        "end                     position 0, sequence 1, generation 1: the journal is clean: nothing has to be replayed\n",
    ];
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(!text.contains("position   sequence"), "{text}");
    let listing = image.json("list", 0);
    assert_eq!((records(&listing).len(), &listing["end"]["stop"]), (0, &json!("clean")));
    assert!(image.text(&["verify"], 0).ends_with("image: the journal is clean, nothing to replay\n"));
    assert_as_mounted(&image);
    // The same after it has been used.
    let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
    volume.create(ROOT, b"file", &new_inode(0o100_644), None).unwrap();
    volume.unmount().unwrap();
    assert_eq!(records(&image.json("list", 0)).len(), 0);
    assert_eq!(assert_as_mounted(&image)["outcome"], "nothing-to-replay");
}

#[test]
fn a_dirty_journal_is_listed_as_it_will_be_replayed() {
    let image = Image::dirty();
    let listing = image.json("list", 0);
    assert_eq!(each(&listing, "sequence"), [1, 2, 3, 4]);
    assert_eq!(each(&listing, "transaction"), [1, 2, 3, 4]);
    assert_eq!(each(&listing, "stable_sequence"), [0, 1, 2, 3]);
    assert_eq!(each(&listing, "part"), ["whole"; 4]);
    assert_eq!(each(&listing, "flags"), [&json!(["last"]); 4]);
    assert_eq!(listing["end"]["sequence"], 5);
    assert_eq!(listing["end"]["stop"], "end");
    let newer: Vec<_> = listing["headers"].as_array().unwrap().iter().map(|it| &it["is_newer"]).collect();
    assert_eq!(newer, [false, true]);
    let report = image.recovery().unwrap();
    assert_eq!(
        (&listing["transactions"], &listing["items"]),
        (&json!(report.transactions), &json!(report.items))
    );
    let verified = assert_as_mounted(&image);
    assert_eq!((&verified["records"], &verified["bytes"]), (&json!(4), &listing["end"]["position"]));
    let text = image.text(&["verify"], 0);
    assert!(text.ends_with("image: the journal is dirty, and can be replayed\n"), "{text}");
}

#[test]
fn items_are_shown_in_words_and_all_of_them_in_json() {
    let image = Image::dirty();
    let text = image.text(&["list", "--verbose"], 0);
    let expected = [
        "mkdir of inode 16, \"directory\" in directory 2\n",
        "create of inode 17, \"old \\u{1b} name\" in directory 16\n",
        "rename of inode 17, \"old \\u{1b} name\" in directory 16 to \"new name\", other inode 2\n",
        "inode 17: regular file, mode 0640, owner 1000:100, 1 link, size 12\n",
        "inode 17: regular file, mode 0640, owner 1000:100, 0 links, size 12\n",
        "bitmap of blocks, group 0, index 0: 1 used, 0 free in 1 run\n",
        "block 1032: new inode table of group 0, zero\n",
        "orphan slot 0: inode 17, to be freed, after unlink\n",
        "1 group in use, 1 orphan\n",
    ];
    for part in expected {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let listing = image.json("list", 0);
    let (first, third) = (&records(&listing)[0], &records(&listing)[2]);
    let types: Vec<_> = first["items"].as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(types, ["table-zero", "group", "bitmap", "inode", "inode", "totals", "operation"]);
    assert_eq!(first["items"][3]["inode"], 2);
    let rename = third["items"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&rename["operation"], &rename["name"], &rename["other_name"], &rename["parent"]),
        (&json!("rename"), &json!("old \u{1b} name"), &json!("new name"), &json!(16))
    );
    // Blocks that a tree has and gives up.
    let image = Image::with_fragments();
    let text = image.text(&["list", "-v"], 0);
    assert!(text.contains(": new directory leaf of inode 2, "), "{text}");
    let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
    for number in 0..3000 {
        let name = format!("name number {number}, long enough to take some room in the journal");
        volume.unlink(ROOT, name.as_bytes()).unwrap();
    }
    volume.commit().unwrap();
    drop(volume);
    let text = image.text(&["list", "-v"], 0);
    assert!(text.contains(" bytes  revoke of block "), "{text}");
    assert_as_mounted(&image);
}

#[test]
fn the_text_says_of_each_record_what_the_json_says() {
    for image in [Image::dirty(), Image::with_fragments(), Image::wrapped()] {
        let listing = image.json("list", 0);
        let text = image.text(&["list"], 0);
        let rows = text.lines().skip_while(|line| !line.contains("position   sequence")).skip(1);
        let rows: Vec<_> = rows.take_while(|line| !line.is_empty()).collect();
        assert_eq!(rows.len(), records(&listing).len());
        for (row, record) in rows.iter().zip(records(&listing)) {
            let mut words: Vec<_> = row.split_whitespace().collect();
            if words.len() == 9 {
                let fragment = record["fragment"].as_u64().unwrap() + 1;
                assert_eq!(words.remove(4), format!("{fragment}/{}", record["fragments"]));
            }
            let flags: Vec<_> =
                record["flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            let items = record["items"].as_array().unwrap().len().to_string();
            let expected = [
                record["position"].to_string(),
                record["sequence"].to_string(),
                record["transaction"].to_string(),
                record["part"].as_str().unwrap().to_owned(),
                record["bytes"].to_string(),
                items,
                record["stable_sequence"].to_string(),
                if flags.is_empty() { "-".to_owned() } else { flags.join(",") },
            ];
            assert_eq!(words, expected);
        }
        let replayed = format!(
            "to be replayed          {} whole transaction{}, {} items\n",
            listing["transactions"],
            if listing["transactions"] == 1 { "" } else { "s" },
            listing["items"]
        );
        assert!(text.contains(&replayed), "{replayed:?} is not in\n{text}");
    }
}

#[test]
fn a_torn_last_record_ends_the_journal_and_is_no_damage() {
    let image = Image::dirty();
    image.flip_in_record(&records(&image.json("list", 0))[3]);
    let listing = image.json("list", 0);
    assert_eq!(each(&listing, "sequence"), [1, 2, 3]);
    assert_eq!((&listing["end"]["stop"], &listing["end"]["sequence"]), (&json!("torn"), &json!(4)));
    let text = image.text(&["list"], 0);
    assert!(
        text.contains("sequence 4, generation 3: that record stands there, but its CRC is wrong"),
        "{text}"
    );
    let verified = assert_as_mounted(&image);
    assert_eq!((&verified["transactions"], &verified["discarded_records"]), (&json!(3), &json!(0)));
}

#[test]
fn fragments_without_their_end_are_discarded() {
    let image = Image::with_fragments();
    let listing = image.json("list", 0);
    assert_eq!(each(&listing, "part"), ["first", "continued", "last"]);
    assert_eq!(each(&listing, "transaction"), [1, 1, 1]);
    assert_as_mounted(&image);
    image.flip_in_record(&records(&listing)[2]);
    let listing = image.json("list", 0);
    assert_eq!(each(&listing, "part"), ["first", "continued"]);
    assert_eq!((&listing["transactions"], &listing["discarded_records"]), (&json!(0), &json!(2)));
    let verified = assert_as_mounted(&image);
    assert_eq!((&verified["records"], &verified["discarded_records"]), (&json!(2), &json!(2)));
}

#[test]
fn a_damaged_record_that_was_acknowledged_is_damage() {
    let image = Image::dirty();
    image.flip_in_record(&records(&image.json("list", 0))[1]);
    assert_eq!(check_of_mount(&image), Check::JournalDamage);
    let verified = assert_as_mounted(&image);
    assert_eq!(verified["records"], 1);
    let text = image.text(&["verify"], 4);
    assert!(text.contains("damage: record 2 is lost, though all records up to "), "{text}");
    assert!(text.ends_with("image: the journal is damaged: a mount would refuse it\n"), "{text}");
    let listing = image.json("list", 4);
    assert_eq!((each(&listing, "sequence"), &listing["end"]["stop"]), (vec![&json!(1)], &json!("torn")));
    let output = image.run(&["list"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(said(&output).contains("cairnfs: record 2 is lost, "), "{}", said(&output));
}

#[test]
fn damage_is_told_by_a_header_alone() {
    let image = Image::new(4 << 20);
    let volume = Volume::mount(&image.device, &PLATFORM).unwrap();
    for name in [b"a", b"b"] {
        volume.create(ROOT, name, &new_inode(0o100_644), None).unwrap();
        volume.commit().unwrap();
    }
    volume.write_header(false).unwrap();
    drop(volume);
    assert_as_mounted(&image);
    image.flip_in_record(&records(&image.json("list", 0))[1]);
    assert_eq!(check_of_mount(&image), Check::JournalDamage);
    let verified = assert_as_mounted(&image);
    assert!(verified["damage"][0].as_str().unwrap().starts_with("record 2 is lost, "), "{verified}");
    image.json("list", 4);
}

#[test]
fn a_wrapped_ring_is_followed_across_its_end() {
    let image = Image::wrapped();
    let listing = image.json("list", 0);
    let numbers =
        |field| each(&listing, field).into_iter().map(|value| value.as_u64().unwrap()).collect::<Vec<_>>();
    let (positions, sequences, generations) =
        (numbers("position"), numbers("sequence"), numbers("generation"));
    let first_behind = positions.windows(2).position(|pair| pair[1] < pair[0]).expect("a wrap") + 1;
    assert!(positions[..first_behind].is_sorted() && positions[first_behind..].is_sorted(), "{positions:?}");
    assert_eq!(positions[first_behind], 0);
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
    assert!(generations[..first_behind].iter().all(|it| *it == generations[0]), "{generations:?}");
    assert!(generations[first_behind..].iter().all(|it| *it == generations[0] + 1), "{generations:?}");
    let before = &records(&listing)[first_behind - 1];
    let end = before["position"].as_u64().unwrap() + before["bytes"].as_u64().unwrap();
    assert!(before["part"] == "wrap" || end == listing["ring"]["bytes"], "{before}");
    assert_eq!(assert_as_mounted(&image)["records"], sequences.len());
    // Damage before the end is told by records behind it.
    image.flip_in_record(&records(&listing)[first_behind - 2]);
    assert_eq!(check_of_mount(&image), Check::JournalDamage);
    assert_as_mounted(&image);
}

#[test]
fn a_broken_header_is_damage_even_if_the_other_one_serves() {
    let image = Image::dirty();
    image.flip(HEADERS[1] + 60);
    let text = image.text(&["verify"], 4);
    assert!(text.contains("damage: journal header in block 3: corrupt: crc: block 3: "), "{text}");
    assert!(text.ends_with("image: the journal is dirty, and can be replayed\n"), "{text}");
    let listing = image.json("list", 4);
    assert_eq!(records(&listing).len(), 4);
    assert_eq!(listing["headers"][0]["is_newer"], true);
    assert_eq!(listing["headers"][1]["content"], Value::Null);
    image.flip(HEADERS[0] + 60);
    let verified = assert_as_mounted(&image);
    assert_eq!(verified["damage"].as_array().unwrap().len(), 2);
    let listing = image.json("list", 4);
    assert_eq!((&listing["end"], listing["damage"].as_array().unwrap().len()), (&Value::Null, 2));
}

#[test]
fn an_item_that_contradicts_the_filesystem_is_damage() {
    let image = Image::dirty();
    let listing = image.json("list", 0);
    let last = &records(&listing)[3];
    let inode = body_of(last, "inode");
    // The inode's own number.
    image.forge(last, &mut |payload| payload[inode + 8..inode + 16].fill(0x77));
    assert_eq!(check_of_mount(&image), Check::JournalItem);
    assert_eq!(assert_as_mounted(&image)["records"], 4);
    let text = String::from_utf8(image.run(&["list"]).stdout).unwrap();
    assert!(text.contains("\n      the next item: corrupt: journal-item: block "), "{text}");
    let listing = image.json("list", 4);
    assert_eq!((records(&listing).len(), &listing["end"]), (4, &Value::Null));
    assert_eq!(records(&listing)[3]["items"].as_array().unwrap().len(), 1);
}

#[test]
fn what_cannot_be_replayed_is_found_by_replaying_it() {
    let image = Image::dirty();
    let listing = image.json("list", 0);
    let last = &records(&listing)[3];
    let inode = body_of(last, "inode");
    // The names in the root directory, which stand behind the inode's fixed part: no item by itself is wrong.
    image.forge(last, &mut |payload| payload[inode + 128..inode + 155].fill(0xFF));
    assert_eq!(records(&image.json("list", 0)).len(), 4);
    assert_ne!(check_of_mount(&image), Check::JournalItem);
    let verified = assert_as_mounted(&image);
    assert_eq!((&verified["records"], &verified["end"]["stop"]), (&json!(4), &json!("end")));
}

#[test]
fn an_unknown_item_is_passed_over_or_cannot_be_judged() {
    for (flags, code) in [(ITEM_OPTIONAL, 0), (0, 8)] {
        let image = Image::dirty();
        let listing = image.json("list", 0);
        let last = &records(&listing)[3];
        let operation = body_of(last, "operation") - ItemHeader::SIZE;
        image.forge(last, &mut |payload| {
            put(payload, operation, 99_u16).unwrap();
            put(payload, operation + 2, flags).unwrap();
        });
        assert_eq!(image.recovery().is_ok(), code == 0);
        let output = image.run(&["list", "-v"]);
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let output_text = String::from_utf8(output.stdout).unwrap();
        let expected = if code == 0 {
            "item of unknown kind 99, passed over"
        } else {
            "unsupported: journal item of type 99"
        };
        assert!(output_text.contains(expected), "{output_text}");
        let output = image.run(&["verify"]);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(said(&output).contains("unsupported: journal item of type 99"), code == 8);
    }
}

#[test]
fn what_is_no_filesystem_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros");
    std::fs::write(&path, vec![0; 16 << 20]).unwrap();
    for command in ["list", "verify"] {
        for (path, reason) in
            [(path.clone(), "no superblock: "), (directory.path().join("absent"), "cannot open ")]
        {
            let output = run(&[command], &path);
            assert_eq!(output.status.code(), Some(8), "{command}: {}", said(&output));
            assert!(said(&output).contains(reason), "{command}: {}", said(&output));
            assert!(output.stdout.is_empty(), "{command}");
        }
    }
}

#[test]
fn with_the_superblock_lost_its_copy_serves() {
    let image = Image::dirty();
    for block in [0, 1] {
        image.flip(block * BLOCK_BYTES as u64 + 60);
    }
    let output = image.run(&["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("the copy in block 1026 is used"), "{}", said(&output));
}

#[test]
fn wrong_usage_and_help() {
    let exit = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_cairnfs")).args(words).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for words in [
        &["journal"][..],
        &["journal", "list"],
        &["journal", "verify"],
        &["journal", "verify", "--frobnicate", "image"],
        &["journal", "replay", "image"],
    ] {
        assert_eq!(exit(words).0, 16, "{words:?}");
    }
    // The rest of the tool keeps its own.
    assert_eq!(exit(&["info"]).0, 1);
    for command in ["list", "verify"] {
        let (code, help) = exit(&["journal", command, "--help"]);
        assert_eq!(code, 0);
        for part in ["--json", "Exit status:\n   0  ", "\n   4  ", "\n   8  ", "\n  16  wrong usage"] {
            assert!(help.contains(part), "{part:?} is not in\n{help}");
        }
    }
}
