// SPDX-License-Identifier: GPL-2.0

//! Property tests: the index against one boolean for each block, with allocations that fail.

use super::*;
use crate::memory::failure;
use proptest::prelude::*;

/// Blocks of the model.
const BLOCKS: u32 = 160;
/// Not aligned to anything, so that alignment counts on the device, not in the group.
const ORIGIN: BlockNo = BlockNo(1_000_003);

type Model = Vec<bool>;

fn run(start: u32, blocks: u32) -> GroupRun {
    GroupRun { start, blocks }
}

/// The maximal runs of free blocks.
fn model_extents(model: &Model) -> Vec<GroupRun> {
    let mut extents: Vec<GroupRun> = Vec::new();
    for (block, _) in (0..).zip(model).filter(|(_, free)| **free) {
        match extents.last_mut().filter(|last| last.end() == block) {
            Some(last) => last.blocks += 1,
            None => extents.push(run(block, 1)),
        }
    }
    extents
}

/// The longest aligned run that begins in `extent` at or behind `from`.
fn model_part(extent: GroupRun, from: u32, alignment: u32) -> Option<GroupRun> {
    let start = (extent.start.max(from)..extent.end())
        .find(|block| (ORIGIN.0 + u64::from(*block)).is_multiple_of(u64::from(alignment)))?;
    Some(run(start, extent.end() - start))
}

fn same(index: &mut FreeExtents, model: &Model) {
    index.check().unwrap();
    let extents = model_extents(model);
    assert_eq!(index.iter().collect::<Vec<_>>(), extents);
    assert_eq!(index.extents(), extents.len());
    assert_eq!(index.total_blocks() as usize, model.iter().filter(|free| **free).count());
    assert_eq!(index.largest(), extents.into_iter().max_by_key(|extent| (extent.blocks, extent.start)));
}

/// Checks what a search has found against all that could have been found.
fn check_found(model: &Model, request: &Request, found: Option<GroupRun>) {
    let extents = model_extents(model);
    let parts: Vec<GroupRun> =
        extents.iter().filter_map(|extent| model_part(*extent, 0, request.alignment_blocks)).collect();
    let longest = parts.iter().map(|part| part.blocks).max().unwrap_or(0);
    let at_goal = extents
        .iter()
        .filter(|extent| extent.covers(run(request.goal, 1)))
        .find_map(|extent| model_part(*extent, request.goal, request.alignment_blocks))
        .filter(|part| part.start == request.goal && part.blocks >= request.min_blocks);
    let cut = |part: GroupRun| run(part.start, part.blocks.min(request.max_blocks));
    let best = || {
        let smallest = parts
            .iter()
            .filter(|part| part.blocks >= request.max_blocks)
            .filter_map(|part| extents.iter().find(|extent| extent.covers(*part)))
            .map(|extent| extent.blocks)
            .min();
        let found = found.unwrap();
        assert!(
            parts.iter().any(|part| cut(*part) == found),
            "{found:?} is not free, or does not begin a part"
        );
        match smallest {
            Some(smallest) => {
                let extent = extents.iter().find(|extent| extent.covers(found)).unwrap();
                assert_eq!((found.blocks, extent.blocks), (request.max_blocks, smallest));
            }
            None => assert_eq!(found.blocks, longest),
        }
    };
    match request.fit {
        Fit::AtGoal => assert_eq!(found, at_goal.map(cut)),
        _ if longest < request.min_blocks && at_goal.is_none() => assert_eq!(found, None),
        Fit::Best => best(),
        Fit::First => {
            // Fewer extents than a first fit looks at, so that it must find the first.
            let behind = extents
                .iter()
                .filter_map(|extent| model_part(*extent, request.goal, request.alignment_blocks));
            let behind = behind.chain(parts.iter().copied()).find(|part| part.blocks >= request.max_blocks);
            match at_goal.or(behind) {
                Some(part) => assert_eq!(found, Some(cut(part))),
                None => best(),
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Insert(GroupRun),
    InsertReserved(GroupRun),
    Take(GroupRun),
    Find(Request),
    FindAndTake(Request),
}

fn request() -> impl Strategy<Value = Request> {
    let fit = prop_oneof![Just(Fit::AtGoal), Just(Fit::First), Just(Fit::Best)];
    (0..BLOCKS + 10, 1..12_u32, 0..30_u32, 0..5_u32, fit).prop_map(|(goal, min_blocks, more, shift, fit)| {
        Request { goal, min_blocks, max_blocks: min_blocks + more, alignment_blocks: 1 << shift, fit }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let any_run =
        || (0..BLOCKS, 0..20_u32).prop_map(|(start, blocks)| run(start, blocks.min(BLOCKS - start)));
    prop_oneof![
        4 => any_run().prop_map(Step::Insert),
        4 => any_run().prop_map(Step::InsertReserved),
        4 => any_run().prop_map(Step::Take),
        2 => request().prop_map(Step::Find),
        4 => request().prop_map(Step::FindAndTake),
    ]
}

/// Sets the blocks of a run if all of them are the opposite; what the index has to do, too.
fn model_write(model: &mut Model, run: GroupRun, free: bool) -> bool {
    let blocks = &mut model[run.start as usize..run.end() as usize];
    if blocks.is_empty() || blocks.contains(&free) {
        return false;
    }
    blocks.fill(free);
    true
}

/// Does the step to both; returns whether the index failed for want of memory, and then the model has not changed.
fn apply(index: &mut FreeExtents, model: &mut Model, step: &Step) -> bool {
    let (result, run, free) = match step {
        Step::Insert(run) => (index.insert(*run), *run, true),
        Step::Take(run) => (index.take(*run), *run, false),
        Step::InsertReserved(run) => match FreeExtents::reserve_insert() {
            Err(error) => (Err(error), *run, true),
            Ok(reservation) => {
                let nothing_left = failure::fail_after(0);
                let result = index.insert_reserved(*run, reservation);
                assert!(!nothing_left.happened(), "an insertion with a reservation has allocated");
                (result, *run, true)
            }
        },
        Step::Find(request) | Step::FindAndTake(request) => {
            let found = index.find(request);
            check_found(model, request, found);
            match found.filter(|_| matches!(step, Step::FindAndTake(_))) {
                Some(run) => (index.take(run), run, false),
                None => return false,
            }
        }
    };
    if result == Err(Error::OutOfMemory) {
        return true;
    }
    assert_eq!(result.is_ok(), model_write(model, run, free), "{step:?}: {result:?}");
    false
}

proptest! {
    #[test]
    fn index_is_a_set_of_blocks(steps in prop::collection::vec(step(), 1..80)) {
        let (mut index, mut model) = (FreeExtents::new(ORIGIN), vec![false; BLOCKS as usize]);
        for step in steps {
            // Each allocation of the step fails in turn, until the step needs none that is left to fail.
            for successes in 0.. {
                let before = model.clone();
                let armed = failure::fail_after(successes);
                let failed = apply(&mut index, &mut model, &step);
                // The step with a reservation ends the plan itself.
                let happened = armed.happened();
                drop(armed);
                prop_assert!(!happened || failed, "an allocation failed, and the step has not");
                same(&mut index, &model);
                if !failed {
                    break;
                }
                prop_assert_eq!(&before, &model);
            }
        }
    }
}

#[test]
fn runs_that_are_no_runs_are_refused() {
    let mut index = FreeExtents::new(ORIGIN);
    assert_eq!(index.insert(run(3, 0)), Err(Error::InvalidArgument));
    assert_eq!(index.insert(run(u32::MAX, 2)), Err(Error::InvalidArgument));
    assert!(matches!(index.take(run(3, 0)), Err(Error::Corrupt(_))));
    assert_eq!(index.extents(), 0);
}

#[test]
fn a_first_fit_among_crumbs_goes_on_by_size() {
    let mut index = FreeExtents::new(ORIGIN);
    for crumb in 0..200 {
        index.insert(run(crumb * 2, 1)).unwrap();
    }
    index.insert(run(1000, 50)).unwrap();
    index.insert(run(2000, 20)).unwrap();
    let request = Request { goal: 1, min_blocks: 1, max_blocks: 15, alignment_blocks: 1, fit: Fit::First };
    // Out of a first fit's sight the smallest extent that is long enough counts, not the nearest.
    assert_eq!(index.find(&request), Some(run(2000, 15)));
    assert_eq!(index.find(&Request { goal: 900, ..request }), Some(run(1000, 15)));
    assert_eq!(index.find(&Request { goal: 2, ..request }), Some(run(2, 1)));
}
