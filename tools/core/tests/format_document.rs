// SPDX-License-Identifier: GPL-2.0

//! `docs/format.md` and the code agree: every structure's fields in both directions, the constants, the numbers of kinds,
//! items, operations and checks, all other numbers and flags, and the rows of its hexdump.

use cairnfs_core::error::Check;
use cairnfs_core::format::layout::FieldRow;
use cairnfs_core::format::{
    block_header, directory, group, inode, item, journal, orphan, superblock, tree, BlockKind,
};
use cairnfs_core::units::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn document() -> String {
    fs::read_to_string(checkout().join("docs/format.md")).unwrap()
}

/// Bytes and fields by name.
type Structures = BTreeMap<&'static str, (usize, &'static [FieldRow])>;
/// Names with their numbers.
type Numbers = BTreeSet<(String, u64)>;

macro_rules! structures {
    ($($module:ident { $($name:ident),* })*) => {
        BTreeMap::from([$($((
            stringify!($name),
            (cairnfs_core::format::$module::$name::SIZE, cairnfs_core::format::$module::$name::FIELDS),
        ),)*)*])
    };
}

fn structures() -> Structures {
    structures! {
        attribute { AttributeHeader, AttributesHeader }
        block_header { BlockHeader }
        directory { EntryHeader, LeafHeader }
        extent { Extent }
        group { BitmapEntry, GroupHeader }
        inode { InodeCore }
        item {
            ItemHeader, BlockItem, ByteRange, BitmapItem, RevokeItem, FileDataItem, DigestItem, OrphanItem, GroupItem,
            TableZeroItem, OperationItem, Who
        }
        journal { Totals, Tail, JournalHeader, RecordHeader }
        orphan { Slot }
        superblock { ErrorRecord, RecoveryReport, Superblock }
        tree { TreeHeader, NodeEntry }
    }
}

/// The cells of a table row, or `None` for other lines and for the line below a head.
fn cells(line: &str) -> Option<Vec<&str>> {
    let inner = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(inner.split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
}

/// The rows of every table whose head begins with these cells, table by table.
fn tables<'a>(document: &'a str, head: &[&str]) -> Vec<Vec<Vec<&'a str>>> {
    let mut found: Vec<Vec<Vec<&str>>> = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        match cells(line) {
            Some(row) if row.starts_with(head) => {
                inside = true;
                found.push(Vec::new());
            }
            Some(row) if inside => found.last_mut().unwrap().push(row),
            _ => inside &= line.starts_with("|-"),
        }
    }
    found
}

/// Names and numbers, from the one table with this head.
fn numbers(document: &str, head: &[&str], name: usize, number: usize) -> Numbers {
    let table = tables(document, head);
    assert_eq!(table.len(), 1, "tables headed {head:?}");
    let value = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    };
    table[0].iter().map(|row| (row[name].to_owned(), value(row[number]))).collect()
}

#[track_caller]
fn same(document: &Numbers, code: &Numbers) {
    let only_document: Vec<_> = document.difference(code).collect();
    let only_code: Vec<_> = code.difference(document).collect();
    assert!(
        only_document.is_empty() && only_code.is_empty(),
        "document: {only_document:?}, code: {only_code:?}"
    );
}

fn bytes_of(kind: &str, structures: &Structures) -> usize {
    match kind {
        "u8" => 1,
        "u16" => 2,
        "u32" => 4,
        "u64" | "i64" => 8,
        _ => match kind.strip_prefix("u8[").and_then(|rest| rest.strip_suffix(']')) {
            Some(count) => count.parse().unwrap(),
            None => structures.get(kind).unwrap_or_else(|| panic!("no type {kind}")).0,
        },
    }
}

/// "`Name`, N bytes": how the document announces a structure's table, which is the next one that is not taken yet.
fn announcements(document: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    for (at, _) in document.match_indices(" bytes") {
        let Some((before, size)) = document[..at].rsplit_once("`, ") else { continue };
        let (Ok(size), Some((_, name))) = (size.parse(), before.rsplit_once('`')) else { continue };
        found.push((name, size));
    }
    found
}

#[test]
fn every_structure_has_its_table_and_every_table_its_structure() {
    let (document, structures) = (document(), structures());
    let announced = announcements(&document);
    let tables = tables(&document, &["Offset", "Type", "Name"]);
    assert_eq!(announced.len(), tables.len(), "{announced:?}");
    let names: BTreeSet<_> = announced.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, structures.keys().copied().collect());
    assert_eq!(names.len(), announced.len(), "each once");
    for ((name, size), table) in announced.iter().zip(tables) {
        let (code_size, fields) = structures[name];
        assert_eq!(*size, code_size, "{name}");
        let rows: Vec<FieldRow> = table
            .iter()
            .map(|row| {
                (
                    fields
                        .iter()
                        .find(|field| field.0 == row[2])
                        .map_or("unknown to the code", |field| field.0),
                    row,
                )
            })
            .map(|(name, row)| (name, row[0].parse().unwrap(), bytes_of(row[1], &structures)))
            .collect();
        assert_eq!(rows, fields, "{name}");
        assert!(
            table.iter().all(|row| row.len() == 4 && !row[3].is_empty()),
            "{name}: a field without a meaning"
        );
        assert_eq!(rows.iter().map(|(_, _, bytes)| bytes).sum::<usize>(), code_size, "{name}: a gap");
    }
}

/// The list above is complete: it names every `layout!` structure of the sources.
#[test]
fn no_structure_is_left_out() {
    let mut declared = Numbers::new();
    for entry in fs::read_dir(checkout().join("rust/core/format")).unwrap() {
        let path = entry.unwrap().path();
        // The macro's own file declares one for its test.
        if path.file_name().unwrap() == "layout.rs" {
            continue;
        }
        for line in fs::read_to_string(&path).unwrap().lines() {
            let declaration =
                line.trim().strip_prefix("pub struct ").and_then(|rest| rest.strip_suffix(" {"));
            if let Some((name, size)) = declaration.and_then(|rest| rest.split_once(": ")) {
                declared.insert((name.to_owned(), size.parse().unwrap()));
            }
        }
    }
    let listed = structures().iter().map(|(name, (size, _))| ((*name).to_owned(), *size as u64)).collect();
    same(&declared, &listed);
}

macro_rules! constants {
    ($($module:ident::$name:ident),* $(,)?) => {
        Numbers::from([$((stringify!($name).to_owned(), $module::$name as u64)),*])
    };
}

#[test]
fn constants_are_those_of_the_code() {
    let mut code = constants![
        block_header::MAGIC,
        inode::INODE_MAGIC,
        journal::RECORD_MAGIC,
        superblock::FORMAT_VERSION,
        journal::RECORD_VERSION,
        inode::INODE_BYTES,
        inode::AREA_BYTES,
        inode::NAME_BYTES_MAX,
        inode::SYMLINK_BYTES_MAX,
        inode::LINKS_MAX,
        group::BITMAP_BITS,
        group::BITMAPS_MAX,
        group::DATA_BLOCKS_MIN,
        journal::HEADER_BLOCKS,
        journal::JOURNAL_BLOCKS_MIN,
        journal::JOURNAL_BLOCKS_MAX,
        journal::PAYLOAD_BYTES_MAX,
        item::ITEM_ALIGNMENT,
        tree::LEVEL_MAX,
        directory::KEY_WINDOW,
        orphan::SLOTS_PER_BLOCK,
    ];
    code.extend([
        ("BLOCK_BYTES".to_owned(), BLOCK_BYTES as u64),
        ("FIRST_FREE".to_owned(), inode::FIRST_FREE.0),
        ("KEY_FIRST".to_owned(), directory::KEY_FIRST.0),
        ("KEY_LAST".to_owned(), directory::KEY_LAST.0),
    ]);
    same(&numbers(&document(), &["Name", "Value"], 0, 1), &code);
}

/// Numbers that stand in 16 bits, with the names that the code has for them.
fn named<T>(from_number: impl Fn(u16) -> Option<T>, name: impl Fn(T) -> &'static str) -> Numbers {
    (0..=u16::MAX)
        .filter_map(|number| Some((name(from_number(number)?).to_owned(), u64::from(number))))
        .collect()
}

#[test]
fn numbers_of_kinds_items_operations_and_checks_are_those_of_the_code() {
    let document = document();
    let kinds = numbers(&document, &["Kind", "Name", "Owner"], 1, 0);
    same(&kinds, &named(BlockKind::from_number, BlockKind::name));
    for row in &tables(&document, &["Kind", "Name", "Owner"])[0] {
        let kind = BlockKind::from_number(row[0].parse().unwrap()).unwrap();
        assert_eq!(kind.describes_itself(), row[2] != "no header", "{}", row[1]);
    }
    let items = numbers(&document, &["Kind", "Name", "Body"], 1, 0);
    same(&items, &named(item::ItemKind::from_number, item::ItemKind::name));
    let operations = numbers(&document, &["Operation", "Name"], 1, 0);
    same(&operations, &named(item::Operation::from_number, item::Operation::name));
    let checks = Check::ALL.iter().map(|check| (check.name().to_owned(), *check as u64)).collect();
    same(&numbers(&document, &["Number", "Name"], 1, 0), &checks);
}

/// These have tables of their own, with names for people.
const ENUMS_WITH_NAMES: [&str; 3] = ["BlockKind", "ItemKind", "Operation"];

/// Flags, `pub const NAME: u8 = 1 << 0;` of at most 32 bits, and variants of enums, `Name = 1,`, as they stand in a source.
fn flags_and_variants(source: &str) -> Numbers {
    let mut found = Numbers::new();
    let mut of_enum = None;
    for line in source.lines() {
        let constant = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": "));
        if let Some((name, value)) = constant {
            let shift = value.split_once(" = 1 << ").filter(|(kind, _)| *kind != "u64");
            if let Some(shift) = shift.and_then(|(_, rest)| rest.strip_suffix(';')) {
                found.insert((name.to_owned(), 1 << shift.parse::<u32>().unwrap()));
            }
        }
        if let Some(name) = line.strip_prefix("pub enum ").and_then(|rest| rest.strip_suffix(" {")) {
            of_enum = Some(name);
        } else if line == "}" {
            of_enum = None;
        }
        let variant = line.trim().strip_suffix(',').and_then(|rest| rest.split_once(" = "));
        if let (Some(of_enum), Some((name, number))) = (of_enum, variant) {
            if !ENUMS_WITH_NAMES.contains(&of_enum) {
                found.insert((format!("{of_enum}::{name}"), number.parse().unwrap()));
            }
        }
    }
    found
}

#[test]
fn flags_and_numbers_are_those_of_the_code() {
    let document = document();
    let rows = tables(&document, &["Number", "Constant", "Meaning"]).concat();
    let listed: Numbers = rows.iter().map(|row| (row[1].to_owned(), row[0].parse().unwrap())).collect();
    assert_eq!(listed.len(), rows.len(), "each once");
    let mut code = Numbers::new();
    let folder = fs::read_dir(checkout().join("rust/core/format")).unwrap();
    let formats = folder.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    for path in formats.chain([checkout().join("rust/core/journal/replay/chain.rs")]) {
        code.extend(flags_and_variants(&fs::read_to_string(path).unwrap()));
    }
    same(&listed, &code);
}

/// The annotated rows are rows of the golden image, in its order.
#[test]
fn the_hexdump_is_the_golden_images() {
    let document = document();
    let golden = fs::read_to_string(checkout().join("tests/golden/32M.dump")).unwrap();
    let dump = document.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let rows = dump.lines().filter_map(|line| line.split("  ;").next()).map(str::trim_end);
    let rows: Vec<&str> = rows.filter(|row| !row.is_empty()).collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    let mut lines = golden.lines();
    for row in rows {
        assert!(
            lines.any(|line| line.starts_with(row)),
            "{row} is not in the golden image, or not in this order"
        );
    }
}
