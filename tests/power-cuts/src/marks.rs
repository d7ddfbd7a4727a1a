//! What the load writes into the disk's log, and what can be known from it about the moment of a cut.
//!
//! * `run load=L seed=S threads=N`: a load begins;
//! * `ready`: the folders of its threads are there, durably;
//! * `begin T N`: thread T calls its operation N, so its operations before N have returned;
//! * `end T N`: its operation N, which promises something, has returned.
//!
//! Other marks are somebody else's.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{bail, Context, Result};
use clap::ValueEnum;

use crate::plan::Load;

/// A mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Run { load: Load, seed: u64, threads: usize },
    Ready,
    Begin { thread: usize, operation: usize },
    End { thread: usize, operation: usize },
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { load, seed, threads } => write!(f, "run load={load} seed={seed} threads={threads}"),
            Self::Ready => f.write_str("ready"),
            Self::Begin { thread, operation } => write!(f, "begin {thread} {operation}"),
            Self::End { thread, operation } => write!(f, "end {thread} {operation}"),
        }
    }
}

impl Mark {
    fn parse(text: &str) -> Result<Option<Self>> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(Some(match words[..] {
            ["run", load, seed, threads] => {
                let value = |word: &str, key: &str| -> Result<String> {
                    let value = word.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
                    value.map(str::to_owned).with_context(|| format!("no {key} in `{text}`"))
                };
                let load = Load::from_str(&value(load, "load")?, false).map_err(anyhow::Error::msg)?;
                Self::Run {
                    load,
                    seed: value(seed, "seed")?.parse()?,
                    threads: value(threads, "threads")?.parse()?,
                }
            }
            ["ready"] => Self::Ready,
            ["begin", thread, operation] => {
                Self::Begin { thread: thread.parse()?, operation: operation.parse()? }
            }
            ["end", thread, operation] => {
                Self::End { thread: thread.parse()?, operation: operation.parse()? }
            }
            _ => return Ok(None),
        }))
    }
}

/// How far one thread had come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// So many operations had begun.
    pub(crate) begun: usize,
    /// So many of the first ones had returned.
    returned: usize,
    /// Those with a promise that had returned.
    pub(crate) ended: BTreeSet<usize>,
    /// For each operation that had begun: how many of each thread had returned by then.
    pub(crate) returned_at_begin: Vec<Vec<usize>>,
}

/// What was known when the power went.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) load: Load,
    pub(crate) seed: u64,
    /// Whether the folders of the threads are promised.
    pub(crate) is_ready: bool,
    pub(crate) threads: Vec<Progress>,
}

impl Record {
    /// Reads marks in their order; nothing if no load had begun.
    pub(crate) fn from_marks<'a>(marks: impl Iterator<Item = &'a str>) -> Result<Option<Self>> {
        let mut record: Option<Self> = None;
        for text in marks {
            let Some(mark) = Mark::parse(text)? else { continue };
            match (mark, &mut record) {
                (Mark::Run { load, seed, threads }, record) => {
                    let threads = vec![Progress::default(); threads];
                    *record = Some(Self { load, seed, is_ready: false, threads });
                }
                (_, None) => bail!("the mark `{text}` comes before a load"),
                (mark, Some(record)) => record.take(mark).with_context(|| format!("the mark `{text}`"))?,
            }
        }
        Ok(record)
    }

    fn take(&mut self, mark: Mark) -> Result<()> {
        match mark {
            Mark::Run { .. } => {}
            Mark::Ready => self.is_ready = true,
            Mark::Begin { thread, operation } => {
                let progress = self.threads.get_mut(thread).context("no such thread")?;
                if operation != progress.begun {
                    bail!("operation {} was due", progress.begun);
                }
                (progress.begun, progress.returned) = (operation + 1, operation);
                let returned = self.threads.iter().map(|progress| progress.returned).collect();
                self.threads[thread].returned_at_begin.push(returned);
            }
            Mark::End { thread, operation } => {
                let progress = self.threads.get_mut(thread).context("no such thread")?;
                if operation + 1 != progress.begun {
                    bail!("it is not operation {operation} that runs");
                }
                progress.returned = operation + 1;
                progress.ended.insert(operation);
            }
        }
        Ok(())
    }

    /// How many promises were made.
    pub(crate) fn promises(&self) -> usize {
        self.threads.iter().map(|progress| progress.ended.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_say_what_had_returned() {
        let marks = [
            "begun long ago",
            "run load=names seed=7 threads=2",
            "ready",
            "begin 0 0",
            "begin 1 0",
            "end 1 0",
            "begin 0 1",
            "begin 1 1",
        ];
        let record = Record::from_marks(marks.into_iter()).unwrap().unwrap();
        assert_eq!((record.load, record.seed, record.is_ready, record.promises()), (Load::Names, 7, true, 1));
        assert_eq!((record.threads[0].begun, record.threads[1].begun), (2, 2));
        assert_eq!(record.threads[0].returned_at_begin, [vec![0, 0], vec![1, 1]]);
        assert!(Record::from_marks(["ready"].into_iter()).is_err());
        assert!(Record::from_marks(["run load=data seed=1 threads=1", "end 0 0"].into_iter()).is_err());
        assert!(Record::from_marks(["something else"].into_iter()).unwrap().is_none());
    }
}
