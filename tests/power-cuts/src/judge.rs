//! The oracle: whether what a cut left is what may be there.
//!
//! The contract (docs/crash-contract.md) gives it three rules.
//!
//! * Order: the journal is one line, so names and attributes of each thread are those after some number k of its
//!   operations, and no operation of another thread survives that began when one that did not had returned.
//! * Promises: k is not below what fsync, fdatasync and syncs had promised when they returned.
//! * Contents: for that k each file holds what its history allows (`content`).
//!
//! Several k may fit, because many operations change no name; one that fits is enough.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::content::{FileId, Knowledge, Zeroing};
use crate::marks::{Progress, Record};
use crate::operation::{Operation, WriteWay};
use crate::plan::Plan;
use crate::survey::{survey, Found};
use crate::tree::{Kind, Tree};

/// The name of a thread's folder.
pub(crate) fn folder_of(thread: usize) -> String {
    format!("t{thread}")
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How many promises had been made.
    pub(crate) promises: usize,
    /// How many operations had begun, and how many of them survived at least.
    pub(crate) begun: usize,
    pub(crate) survived: usize,
    /// What is wrong, in words.
    pub(crate) faults: Vec<String>,
}

/// Judges what is below `root` by what was known.
pub(crate) fn judge(root: &Path, record: &Record, zeroing: Zeroing) -> Result<Verdict> {
    let mut verdict = Verdict { promises: record.promises(), ..Verdict::default() };
    if !record.is_ready {
        survey(root)?;
        return Ok(verdict);
    }
    let cases: Vec<Case<'_>> =
        (0..record.threads.len()).map(|thread| Case::new(record, thread, zeroing)).collect();
    let mut possible = Vec::new();
    for case in &cases {
        let whole_syncs = whole_syncs_for(&cases, case.thread);
        verdict.begun += case.progress.begun;
        match survey(&root.join(folder_of(case.thread))) {
            Err(error) => verdict.faults.push(format!("{error:#}")),
            Ok(found) => match case.possible(&whole_syncs, &found) {
                Ok(counts) => {
                    verdict.survived += counts.first().copied().unwrap_or(0);
                    possible.push((case, counts));
                }
                Err(faults) => {
                    let folder = folder_of(case.thread);
                    verdict.faults.extend(faults.into_iter().map(|fault| format!("{folder}: {fault}")));
                }
            },
        }
    }
    verdict.faults.extend(order_faults(&possible));
    Ok(verdict)
}

/// How many operations of a thread had returned before each sync of the whole filesystem that returned.
fn whole_syncs_for(cases: &[Case<'_>], thread: usize) -> Vec<usize> {
    let syncs = cases.iter().flat_map(|case| {
        case.whole_syncs
            .iter()
            .filter_map(|sync| case.progress.returned_at_begin.get(*sync)?.get(thread).copied())
    });
    let mut before: Vec<usize> = syncs.collect();
    before.sort_unstable();
    before
}

/// Operations that survived although one of another thread did not, which had returned before they began.
fn order_faults(possible: &[(&Case<'_>, Vec<usize>)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (case, counts) in possible {
        let Some(last) = counts.first().and_then(|least| least.checked_sub(1)) else { continue };
        let Some(returned) = case.progress.returned_at_begin.get(last) else { continue };
        for (other, counts) in possible.iter().filter(|(other, _)| other.thread != case.thread) {
            let most = counts.last().copied().unwrap_or(0);
            if let Some(before) = returned.get(other.thread).filter(|before| **before > most) {
                faults.push(format!(
                    "order: operation {last} of thread {} survived, operation {most} of thread {} did not, \
                     although {before} had returned before",
                    case.thread, other.thread
                ));
            }
        }
    }
    faults
}

/// One thread of a load that was cut.
struct Case<'a> {
    record: &'a Record,
    thread: usize,
    zeroing: Zeroing,
    progress: &'a Progress,
    /// The tree after all operations that had begun; its histories are complete.
    end: Tree,
    /// The smallest number of operations that its own promises allow.
    least: usize,
    /// Operations that synced the whole filesystem and returned.
    whole_syncs: Vec<usize>,
}

impl<'a> Case<'a> {
    fn new(record: &'a Record, thread: usize, zeroing: Zeroing) -> Self {
        let progress = &record.threads[thread];
        let mut plan = Plan::new(record.load, record.seed, thread);
        let (mut least, mut whole_syncs) = (0, Vec::new());
        while plan.given() < progress.begun {
            let number = plan.given();
            let operation = plan.take();
            if progress.ended.contains(&number) {
                least = least.max(promised_by(plan.tree(), &operation));
                if operation == Operation::SyncFilesystem {
                    whole_syncs.push(number);
                }
            }
        }
        Self { record, thread, zeroing, progress, end: plan.into_tree(), least, whole_syncs }
    }

    /// How many operations may have survived, in rising order; else what is wrong.
    fn possible(&self, whole_syncs: &[usize], found: &Found) -> Result<Vec<usize>, Vec<String>> {
        let least = whole_syncs.last().copied().unwrap_or(0).max(self.least);
        let mut plan = Plan::new(self.record.load, self.record.seed, self.thread);
        let mut possible = Vec::new();
        // Of each number that fits the names: the fault that counts may be that of any of them.
        let mut wrong_contents = Vec::new();
        loop {
            let survived = plan.given();
            if survived >= least && differences(plan.tree(), found, 1).is_empty() {
                let faults = self.content_faults(plan.tree(), survived, whole_syncs, found);
                match faults.is_empty() {
                    true => possible.push(survived),
                    false => wrong_contents.extend(faults),
                }
            }
            if survived >= self.progress.begun {
                break;
            }
            plan.take();
        }
        match (possible.is_empty(), wrong_contents.is_empty()) {
            (false, _) => Ok(possible),
            (true, false) => Err(wrong_contents),
            (true, true) => Err(self.name_faults(least, found)),
        }
    }

    /// Why no number of operations fits the names.
    fn name_faults(&self, least: usize, found: &Found) -> Vec<String> {
        let mut plan = Plan::new(self.record.load, self.record.seed, self.thread);
        let (mut nearest, mut at) = (differences(plan.tree(), found, usize::MAX), 0);
        while plan.given() < self.progress.begun && !nearest.is_empty() {
            plan.take();
            let here = differences(plan.tree(), found, usize::MAX);
            if here.len() < nearest.len() {
                (nearest, at) = (here, plan.given());
            }
        }
        let begun = self.progress.begun;
        if nearest.is_empty() {
            return vec![format!("{at} operations survived of {begun}, {least} were promised")];
        }
        let count = nearest.len();
        let mut faults = vec![format!(
            "is nearest to {at} operations of {begun} ({least} promised), with {count} differences"
        )];
        faults.extend(nearest.into_iter().take(3));
        faults
    }

    fn content_faults(
        &self,
        tree: &Tree,
        survived: usize,
        whole_syncs: &[usize],
        found: &Found,
    ) -> Vec<String> {
        let returned = |operation| self.progress.ended.contains(&operation);
        let knowledge = Knowledge {
            begun: self.progress.begun,
            returned: &returned,
            whole_syncs,
            survived,
            zeroing: self.zeroing,
        };
        let files = tree.names().iter().filter_map(|(path, node)| {
            let entry = found.get(path).filter(|entry| entry.kind == Kind::File)?;
            let file = FileId::new(self.record.seed, self.thread, *node);
            let fault = self.end.history(*node)?.fault(file, &entry.bytes, &knowledge)?;
            Some(format!("{path} ({survived} operations survived): {fault}"))
        });
        files.collect()
    }
}

/// How many operations a call has promised by returning.
fn promised_by(tree: &Tree, operation: &Operation) -> usize {
    match operation {
        Operation::Fsync { path } | Operation::Write { path, way: WriteWay::Synchronous, .. } => {
            tree.at(path).map_or(0, |node| node.changed_by)
        }
        Operation::Fdatasync { path } | Operation::Write { path, .. } => {
            tree.at(path).map_or(0, |node| node.data_changed_by)
        }
        _ => 0,
    }
}

/// Where names and attributes differ, at most so many.
fn differences(tree: &Tree, found: &Found, most: usize) -> Vec<String> {
    let mut inodes = BTreeMap::new();
    let mut nodes = BTreeMap::new();
    let missing_or_wrong = tree.names().iter().filter_map(|(path, number)| {
        let node = tree.at(path)?;
        let Some(entry) = found.get(path) else { return Some(format!("{path} is missing")) };
        let wanted = (&node.kind, node.mode, node.owner, u64::from(node.links));
        let is = (&entry.kind, entry.mode, entry.owner, entry.links);
        // A symbolic link's mode is the kernel's affair.
        let is_same = match node.kind {
            Kind::Symlink(_) => (wanted.0, wanted.2, wanted.3) == (is.0, is.2, is.3),
            _ => wanted == is,
        };
        if !is_same {
            return Some(format!("{path} is {is:?}, not {wanted:?} (kind, mode, owner, links)"));
        }
        if let Some(seconds) = node.modified_s.filter(|seconds| *seconds != entry.modified_s) {
            return Some(format!("{path} was modified at {} s, not {seconds}", entry.modified_s));
        }
        let same_inode = *inodes.entry(*number).or_insert(entry.inode) == entry.inode;
        let same_node = *nodes.entry(entry.inode).or_insert(*number) == *number;
        (!same_inode || !same_node).then(|| format!("{path} is another file (inode {})", entry.inode))
    });
    let extra = found.keys().filter(|path| tree.at(path).is_none()).map(|path| format!("{path} is there"));
    missing_or_wrong.chain(extra).take(most).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::DirBuilderExt;
    use std::path::PathBuf;

    use super::*;
    use crate::execute::Executor;
    use crate::marks::Mark;
    use crate::plan::Load;
    use crate::tree::ROOT_MODE;

    const SEED: u64 = 11;

    /// A folder in which the first `count` operations of each thread of a load were done, and the marks of a run in
    /// which thread 0 did its operations before thread 1.
    fn done(load: Load, counts: [usize; 2]) -> (PathBuf, Vec<Mark>) {
        let name = format!("cairnfs-judge-{}-{load}-{}-{}", std::process::id(), counts[0], counts[1]);
        let root = std::env::temp_dir().join(name);
        rustix::process::umask(rustix::fs::Mode::empty());
        let mut marks = vec![Mark::Run { load, seed: SEED, threads: 2 }, Mark::Ready];
        for (thread, count) in counts.into_iter().enumerate() {
            let folder = root.join(folder_of(thread));
            fs::DirBuilder::new().mode(ROOT_MODE).recursive(true).create(&folder).unwrap();
            let mut executor = Executor::new(folder);
            let mut plan = Plan::new(load, SEED, thread);
            for operation in 0..count {
                marks.push(Mark::Begin { thread, operation });
                let (next, file) = plan.next_with_file(SEED, thread);
                // The program of the tests has no `store` for mappings.
                let next = match next {
                    Operation::Write { path, units, .. } => {
                        Operation::Write { path, units, way: WriteWay::Buffered }
                    }
                    next => next,
                };
                executor.execute(operation, &next, file).unwrap_or_else(|error| panic!("{next:?}: {error}"));
                if next.promises() {
                    marks.push(Mark::End { thread, operation });
                }
            }
        }
        (root, marks)
    }

    fn verdict(root: &Path, marks: &[Mark]) -> Verdict {
        let texts: Vec<String> = marks.iter().map(Mark::to_string).collect();
        let record = Record::from_marks(texts.iter().map(String::as_str)).unwrap().unwrap();
        judge(root, &record, Zeroing::WithSize).unwrap()
    }

    #[test]
    fn what_was_done_is_accepted_and_what_was_lost_is_not() {
        // Only root may give files away.
        let loads =
            if rustix::process::geteuid().is_root() { &[Load::Data, Load::Names][..] } else { &[Load::Data] };
        for load in loads.iter().copied() {
            let (root, marks) = done(load, [150, 150]);
            let complete = verdict(&root, &marks);
            assert_eq!(complete.faults, Vec::<String>::new());
            assert!(complete.promises > 10, "{complete:?}");

            // The state of an earlier moment, with the promises of a later one.
            let (early, _) = done(load, [75, 150]);
            assert!(!verdict(&early, &marks).faults.is_empty());

            // Thread 1 survived in full, so nothing of thread 0 may be missing: it had returned before.
            let order_only: Vec<Mark> =
                marks.iter().copied().filter(|mark| !matches!(mark, Mark::End { .. })).collect();
            let faults = verdict(&early, &order_only).faults;
            assert!(faults.iter().any(|fault| fault.starts_with("order:")), "{faults:?}");
            for folder in [root, early] {
                fs::remove_dir_all(folder).unwrap();
            }
        }
    }
}
