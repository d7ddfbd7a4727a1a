// SPDX-License-Identifier: GPL-2.0

//! Extent maps against a map of single blocks.

use super::*;
use crate::blocks::testing::{geometry, MapBlocks};
use crate::blocks::{BlockGuard, ChangeBlocks};
use crate::format::extent::EXTENT_UNWRITTEN;
use crate::format::group::Geometry;
use crate::format::inode::AREA_BYTES;
use crate::format::BlockKind;
use crate::inode::NewInode;
use crate::memory::Owned;
use crate::units::{BlockRun, GroupNo, InodeGeneration, InodeNo};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

mod failures;
mod hostile;
mod large;

/// Blocks that pass on to a [`MapBlocks`] and keep count of what an operation does.
struct Counting {
    inner: MapBlocks,
    changed: BTreeSet<BlockNo>,
    allocated: u32,
    freed: u32,
    freed_data: Vec<BlockRun>,
}

impl Counting {
    fn new() -> Self {
        Self {
            inner: MapBlocks::new(),
            changed: BTreeSet::new(),
            allocated: 0,
            freed: 0,
            freed_data: Vec::new(),
        }
    }

    /// Forgets what was counted, and returns it: a block that was changed and then freed is freed only.
    fn taken(&mut self) -> Worst {
        let changed = std::mem::take(&mut self.changed).len() as u32;
        let taken = Worst { changed, allocated: self.allocated, freed: self.freed };
        (self.allocated, self.freed) = (0, 0);
        taken
    }
}

impl ReadBlocks for Counting {
    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn read(&self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<BlockGuard<'_>> {
        self.inner.read(kind, owner, block)
    }
}

impl ChangeBlocks for Counting {
    fn change(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result<&mut [u8]> {
        self.changed.insert(block);
        self.inner.change(kind, owner, block)
    }

    fn allocate(&mut self, kind: BlockKind, owner: InodeNo, goal: BlockNo) -> Result<BlockNo> {
        let block = self.inner.allocate(kind, owner, goal)?;
        self.changed.insert(block);
        self.allocated += 1;
        Ok(block)
    }

    fn free(&mut self, kind: BlockKind, owner: InodeNo, block: BlockNo) -> Result {
        self.changed.remove(&block);
        self.freed += 1;
        self.inner.free(kind, owner, block)
    }

    fn free_data(&mut self, run: BlockRun) -> Result {
        self.freed_data.push(run);
        Ok(())
    }
}

const NO_LIMIT: Limit = Limit { extents: u32::MAX, blocks: u32::MAX };

fn new_inode() -> Owned<Inode> {
    let new = NewInode { mode: 0o100_644, uid: 1, gid: 2, device: 0, flags: 0, project: 0, now_ns: 5 };
    Inode::new(InodeNo(20), InodeGeneration(3), &new).unwrap()
}

/// A block of the device that continues those of the file's neighbours.
fn continuing(offset: u64) -> BlockNo {
    BlockNo(geometry().start_of(GroupNo(600)).0 + 10_000 + offset)
}

/// One that continues no other; each `n` has its own.
fn scattered(n: u64) -> BlockNo {
    BlockNo(geometry().start_of(GroupNo(700 + (n / 100_000) as u32)).0 + 10_000 + 2 * (n % 100_000))
}

/// A file, and a model of its map that knows every block.
struct File {
    blocks: Counting,
    inode: Owned<Inode>,
    model: BTreeMap<u64, (u64, u32)>,
    /// Where the test's offsets begin in the file.
    origin: u64,
    scattered: u64,
}

impl File {
    fn new(origin: u64) -> Self {
        Self { blocks: Counting::new(), inode: new_inode(), model: BTreeMap::new(), origin, scattered: 0 }
    }

    fn level(&self) -> u16 {
        level(&self.inode).unwrap()
    }

    fn extent(&mut self, offset: u64, blocks: u32, continues: bool, flags: u32) -> Extent {
        let block = if continues {
            continuing(offset)
        } else {
            self.scattered += u64::from(blocks);
            scattered(self.scattered - u64::from(blocks))
        };
        Extent { file_block: FileBlock(self.origin + offset), block, blocks, flags }
    }

    /// Inserts into map and model; a range that is mapped in part must be refused.
    fn insert(&mut self, extent: &Extent) {
        let range = extent.file_block.0..extent.end().0;
        let worst = insert_blocks(self.level());
        self.blocks.taken();
        let result = insert(&mut self.blocks, &mut self.inode, extent);
        if self.model.range(range.clone()).next().is_some() {
            assert_eq!(result, Err(Error::InvalidArgument));
            assert_eq!(self.blocks.taken(), Worst::default());
            return;
        }
        assert_eq!(result, Ok(()));
        let taken = self.blocks.taken();
        assert!(taken.changed <= worst.changed && taken.allocated <= worst.allocated, "{taken:?} {worst:?}");
        assert!(taken.freed <= worst.freed, "{taken:?} {worst:?}");
        for (index, file_block) in range.enumerate() {
            self.model.insert(file_block, (extent.block.0 + index as u64, extent.flags));
        }
    }

    /// Removes from map and model in as many steps as the limit makes of it.
    fn remove(&mut self, from: u64, to: u64, limit: Limit) {
        let (from, mut to) = (self.origin + from, (self.origin + to).min(FILE_BLOCKS_MAX));
        while to > from {
            let least = remove_blocks_min(self.level());
            self.blocks.taken();
            let done =
                remove(&mut self.blocks, &mut self.inode, FileBlock(from), FileBlock(to), limit).unwrap();
            let taken = self.blocks.taken();
            assert!(taken.changed + taken.freed <= limit.blocks.max(least), "{taken:?} {limit:?} {least}");
            assert!(done.extents <= limit.extents.max(1));
            assert!(done.down_to.0 < to && done.down_to.0 >= from);
            assert!(done.extents > 0 || done.down_to.0 == from);
            let gone = self.model.split_off(&done.down_to.0);
            let (gone, mut behind): (BTreeMap<_, _>, BTreeMap<_, _>) =
                gone.into_iter().partition(|(file_block, _)| *file_block < to);
            self.model.append(&mut behind);
            let freed = self.blocks.freed_data.drain(..);
            let mut freed: Vec<u64> = freed.flat_map(|run| run.start.0..run.start.0 + run.blocks).collect();
            freed.sort_unstable();
            let mut wanted: Vec<u64> = gone.values().map(|(block, _)| *block).collect();
            wanted.sort_unstable();
            assert_eq!(freed, wanted, "other blocks were freed than were unmapped");
            assert_eq!(done.data_blocks, wanted.len() as u64);
            to = done.down_to.0;
        }
    }

    /// The model's extents, joined where they continue one another.
    fn model_extents(&self) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for (file_block, (block, flags)) in &self.model {
            match extents.last_mut() {
                Some(last)
                    if last.end().0 == *file_block
                        && last.run().end().0 == *block
                        && last.flags == *flags =>
                {
                    last.blocks += 1;
                }
                _ => extents.push(Extent {
                    file_block: FileBlock(*file_block),
                    block: BlockNo(*block),
                    blocks: 1,
                    flags: *flags,
                }),
            }
        }
        extents
    }

    /// Whether the map is the model's, in valid form, and no block of its tree is lost.
    fn is_like_model(&self) {
        check(&self.blocks, &self.inode).unwrap();
        let mut extents = Vec::new();
        visit(&self.blocks, &self.inode, &mut |extent| {
            extents.push(*extent);
            Ok(())
        })
        .unwrap();
        assert_eq!(extents, self.model_extents());
        let mut tree = BTreeSet::new();
        visit_blocks(&self.blocks, &self.inode, &mut |block, _| {
            assert!(tree.insert(block), "a block is visited twice");
            Ok(())
        })
        .unwrap();
        assert!(self.blocks.inner.blocks.keys().eq(tree.iter()), "a block of the tree is lost");
        assert_eq!(self.inode.core.blocks, (self.model.len() + tree.len()) as u64);
        assert_eq!(last(&self.blocks, &self.inode).unwrap(), extents.last().copied());
    }

    /// Whether one block is mapped as the model has it.
    fn finds(&self, offset: u64) {
        let at = FileBlock(self.origin + offset);
        let found = find(&self.blocks, &self.inode, at).unwrap();
        let next = next_from(&self.blocks, &self.inode, at).unwrap();
        let following = self.model.range(at.0..).next();
        match (found, self.model.get(&at.0)) {
            (Mapping::Extent(extent), Some((block, flags))) => {
                assert_eq!(extent.block.0 + (at.0 - extent.file_block.0), *block);
                assert_eq!(extent.flags, *flags);
                assert_eq!(next, Some(extent));
            }
            (Mapping::Hole { start, blocks }, None) => {
                let end = following.map_or(FILE_BLOCKS_MAX, |(file_block, _)| *file_block);
                assert_eq!((start, start.0 + blocks), (at, end));
                assert_eq!(next.map(|extent| extent.file_block.0), following.map(|(block, _)| *block));
            }
            (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { offset: u64, blocks: u32, continues: bool, flags: u32 },
    Comb { offset: u64, count: u64, stride: u64, descending: bool },
    Remove { from: u64, blocks: u64, limit: Limit },
    Attributes(usize),
}

/// Offsets that steps use: enough for trees of three levels when every second block is an extent.
const OFFSETS: u64 = 6000;

fn step() -> impl Strategy<Value = Step> {
    let limit = prop_oneof![
        Just(NO_LIMIT),
        (1..9_u32, 0..60_u32).prop_map(|(extents, blocks)| Limit { extents, blocks }),
        (0..40_u32).prop_map(|blocks| Limit { extents: u32::MAX, blocks }),
    ];
    let removed = prop_oneof![2 => 1..20_u64, 2 => 1..600_u64, 1 => 1..OFFSETS];
    prop_oneof![
        6 => (0..OFFSETS, 1..40_u32, any::<bool>(), 0..=EXTENT_UNWRITTEN)
            .prop_map(|(offset, blocks, continues, flags)| Step::Insert { offset, blocks, continues, flags }),
        3 => (0..OFFSETS, 1..900_u64, 1..4_u64, any::<bool>())
            .prop_map(|(offset, count, stride, descending)| Step::Comb { offset, count, stride, descending }),
        6 => (0..OFFSETS, removed, limit).prop_map(|(from, blocks, limit)| Step::Remove { from, blocks, limit }),
        1 => (0..=160_usize).prop_map(Step::Attributes),
    ]
}

fn apply(file: &mut File, step: &Step) {
    match *step {
        Step::Insert { offset, blocks, continues, flags } => {
            let blocks = u64::from(blocks).min(OFFSETS - offset) as u32;
            let extent = file.extent(offset, blocks, continues, flags);
            file.insert(&extent);
        }
        Step::Comb { offset, count, stride, descending } => {
            let mut offsets: Vec<u64> =
                (0..count).map(|n| offset + n * stride).filter(|offset| *offset < OFFSETS).collect();
            if descending {
                offsets.reverse();
            }
            for offset in offsets {
                let extent = file.extent(offset, 1, false, 0);
                file.insert(&extent);
            }
        }
        Step::Remove { from, blocks, limit } => file.remove(from, from + blocks, limit),
        Step::Attributes(bytes) => {
            // Only what the map leaves free, as attributes do.
            let bytes = bytes.min(AREA_BYTES - file.inode.map().len());
            file.inode.resize_attributes(bytes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_map_is_its_blocks(
        at_the_end in any::<bool>(),
        steps in prop::collection::vec(step(), 1..40),
        probes in prop::collection::vec(0..OFFSETS, 8),
    ) {
        let mut file = File::new(if at_the_end { FILE_BLOCKS_MAX - OFFSETS } else { 0 });
        for step in &steps {
            apply(&mut file, step);
            file.is_like_model();
            for probe in &probes {
                file.finds(*probe);
            }
        }
        file.remove(0, OFFSETS, Limit { extents: 50, blocks: 30 });
        file.is_like_model();
        prop_assert_eq!((file.inode.core.blocks, file.inode.map().len()), (0, 0));
        prop_assert!(file.blocks.inner.blocks.is_empty());
    }
}

#[test]
fn neighbours_join_on_both_sides_and_across_leaves() {
    let mut file = File::new(0);
    for offset in (0..1200).step_by(2) {
        let extent = file.extent(offset, 1, true, 0);
        file.insert(&extent);
    }
    assert_eq!(file.level(), 1);
    for offset in (1..1200).step_by(2) {
        let extent = file.extent(offset, 1, true, 0);
        file.insert(&extent);
        file.is_like_model();
    }
    let whole = last(&file.blocks, &file.inode).unwrap().unwrap();
    assert_eq!((whole.file_block, whole.blocks), (FileBlock(0), 1200));
}

#[test]
fn extents_cross_the_bounds_of_leaves() {
    let mut file = File::new(0);
    for offset in (0..800).step_by(4) {
        let extent = file.extent(offset, 2, true, 0);
        file.insert(&extent);
    }
    let bound = tree::find(&file.blocks, EXTENTS, &file.inode, 0).unwrap().end();
    assert!(file.model.contains_key(&bound), "the second leaf begins with an extent");
    let is_right = |file: &File| {
        file.is_like_model();
        (bound - 8..bound + 8).for_each(|offset| file.finds(offset));
    };
    // Begins in the first leaf, continues in what was the second one's first extent.
    let extent = file.extent(bound - 1, 1, true, 0);
    file.insert(&extent);
    is_right(&file);
    // Its start is cut off, so it belongs to the second leaf again.
    file.remove(bound - 1, bound + 1, NO_LIMIT);
    is_right(&file);
    let extent = file.extent(bound - 1, 2, true, 0);
    file.insert(&extent);
    is_right(&file);
    // Its middle is cut out: one half for each leaf.
    file.remove(bound, bound + 1, NO_LIMIT);
    is_right(&file);
    assert_eq!(file.model_extents().iter().filter(|extent| extent.blocks == 1).count(), 2);
}

#[test]
fn a_small_leaf_goes_back_into_the_area() {
    let mut file = File::new(0);
    for offset in 0..20 {
        let extent = file.extent(offset, 1, false, 0);
        file.insert(&extent);
    }
    assert_eq!(file.level(), 1);
    // Eight fill more than half of the area, seven do not.
    file.remove(8, 20, NO_LIMIT);
    assert_eq!(file.level(), 1);
    file.remove(7, 8, NO_LIMIT);
    assert_eq!((file.level(), file.inode.map().len()), (0, leaf::bytes_of(7)));
    file.is_like_model();
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let mut file = File::new(0);
    let good = file.extent(5, 10, true, 0);
    let refused = [
        (Extent { blocks: 0, ..good }, Error::InvalidArgument),
        (Extent { flags: 2, ..good }, Error::InvalidArgument),
        (Extent { block: BlockNo(5), ..good }, Error::InvalidArgument),
        (Extent { blocks: 1 << 18, ..good }, Error::InvalidArgument),
        (Extent { file_block: FileBlock(FILE_BLOCKS_MAX - 9), ..good }, Error::FileTooLarge),
    ];
    for (extent, error) in refused {
        assert_eq!(insert(&mut file.blocks, &mut file.inode, &extent), Err(error));
    }
    let at_the_end = Extent { file_block: FileBlock(FILE_BLOCKS_MAX - 10), ..good };
    file.insert(&at_the_end);
    file.is_like_model();
    let end = FileBlock(FILE_BLOCKS_MAX);
    assert_eq!(find(&file.blocks, &file.inode, end), Err(Error::FileTooLarge));
    assert_eq!(next_from(&file.blocks, &file.inode, end), Ok(None));
    file.inode.core.map_kind = crate::format::inode::MapKind::Symlink as u8;
    assert_eq!(find(&file.blocks, &file.inode, FileBlock(0)), Err(Error::InvalidArgument));
}

#[test]
fn the_largest_attributes_leave_room_for_a_root() {
    let mut file = File::new(0);
    file.inode.resize_attributes(crate::attributes::INLINE_BYTES_MAX).unwrap();
    file.inode.attributes_mut().fill(7);
    for offset in 0..4000 {
        let extent = file.extent(offset, 1, false, 0);
        file.insert(&extent);
    }
    file.is_like_model();
    assert_eq!(file.level(), 2);
    assert!(file.inode.attributes().iter().all(|byte| *byte == 7));
    file.remove(0, 4000, Limit { extents: 7, blocks: 0 });
    file.is_like_model();
    assert!(file.inode.map().is_empty() && file.blocks.inner.blocks.is_empty());
}

#[test]
fn a_map_without_the_smallest_root_has_no_space() {
    let mut file = File::new(0);
    // Attributes beyond their rule, as a damaged inode may claim.
    file.inode.resize_attributes(AREA_BYTES).unwrap();
    let extent = file.extent(0, 1, false, 0);
    assert_eq!(insert(&mut file.blocks, &mut file.inode, &extent), Err(Error::NoSpace));
}
