// SPDX-License-Identifier: GPL-2.0

//! The threads of a filesystem that is mounted for writing: one commits, one checkpoints, one removes orphans.
//!
//! Threads, not works in a queue: they exist from the mount on, so they make progress when there is no memory to start anything.
//! Each sleeps on its event, and wakes at the latest when its interval is over. The flag that ends them is set before their event
//! is signalled, and they look at it after they have looked at the event: no wake-up is lost.
//!
//! The orphan thread ends first. The others go on until nothing can need room in the journal any more: VFS writes data back in an
//! unmount, and whoever waits for room then waits for them.

#![forbid(unsafe_code)]

use crate::memory;
use crate::mounted::Mounted;
use cairnfs_core::error::Error;
use cairnfs_linux::event::Event;
use cairnfs_linux::thread::Thread;
use core::sync::atomic::{AtomicBool, Ordering};
use kernel::c_str;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The threads; dropping one waits for its end.
#[derive(Default)]
pub(crate) struct Workers {
    commit: Option<Thread>,
    checkpoint: Option<Thread>,
    orphans: Option<Thread>,
}

/// Without anything to do, the orphan thread looks again so seldom.
const ORPHANS_INTERVAL_S: u64 = 60;

/// What a thread does.
struct Duty {
    name: &'static CStr,
    event: fn(&Mounted) -> &Event,
    ends: fn(&Mounted) -> &AtomicBool,
    interval_s: fn(&Mounted) -> u64,
    work: fn(&Mounted),
}

static COMMIT: Duty = Duty {
    name: c_str!("cairnfs-commit"),
    event: |mounted| &mounted.journaling.commit_wanted,
    ends: |mounted| &mounted.stopping,
    interval_s: |mounted| mounted.settings.commit_interval_s(),
    work: Mounted::commit_unasked,
};

static CHECKPOINT: Duty = Duty {
    name: c_str!("cairnfs-home"),
    event: |mounted| &mounted.journaling.checkpoint_wanted,
    ends: |mounted| &mounted.stopping,
    interval_s: |mounted| mounted.settings.checkpoint_interval_s(),
    work: Mounted::checkpoint_unasked,
};

static ORPHANS: Duty = Duty {
    name: c_str!("cairnfs-orphans"),
    event: |mounted| &mounted.journaling.orphans_wanted,
    ends: |mounted| &mounted.stopping_orphans,
    interval_s: |_| ORPHANS_INTERVAL_S,
    work: Mounted::remove_orphans_unasked,
};

fn start(mounted: &Arc<Mounted>, duty: &'static Duty) -> Result<Thread> {
    let mounted = mounted.clone();
    let body = KBox::new(
        move || {
            let (event, ends) = ((duty.event)(&mounted), (duty.ends)(&mounted));
            while !ends.load(Ordering::Acquire) {
                let seen = event.now();
                (duty.work)(&mounted);
                if ends.load(Ordering::Acquire) {
                    break;
                }
                event.wait_ms(seen, (duty.interval_s)(&mounted).saturating_mul(1000));
            }
        },
        GFP_KERNEL,
    )?;
    Thread::run(duty.name, body)
}

/// Who waits for room asks again at once: a thread that has found no memory takes its time.
fn wait_for_memory(outcome: cairnfs_core::error::Result) {
    if outcome == Err(Error::OutOfMemory) {
        memory::pause();
    }
}

impl Mounted {
    /// Starts the threads; all of them or none.
    pub(crate) fn start_workers(this: &Arc<Self>) -> Result {
        this.stopping.store(false, Ordering::Release);
        this.stopping_orphans.store(false, Ordering::Release);
        let started = Self::start_each(this);
        if started.is_err() {
            this.stop_workers();
        }
        started
    }

    fn start_each(this: &Arc<Self>) -> Result {
        // Not under the lock, and each kept at once: what has been started is stopped when the next one fails.
        let commit = start(this, &COMMIT)?;
        this.workers.lock().commit = Some(commit);
        let checkpoint = start(this, &CHECKPOINT)?;
        this.workers.lock().checkpoint = Some(checkpoint);
        let orphans = start(this, &ORPHANS)?;
        this.workers.lock().orphans = Some(orphans);
        Ok(())
    }

    /// Ends the orphan thread, if there is one, and waits for that.
    pub(crate) fn stop_orphan_worker(&self) {
        self.stopping_orphans.store(true, Ordering::Release);
        self.journaling.orphans_wanted.signal();
        let orphans = self.workers.lock().orphans.take();
        drop(orphans);
    }

    /// Ends all threads, if there are any, and waits for that. Nobody needs room in the journal any more.
    pub(crate) fn stop_workers(&self) {
        self.stop_orphan_worker();
        self.stopping.store(true, Ordering::Release);
        self.journaling.commit_wanted.signal();
        self.journaling.checkpoint_wanted.signal();
        let workers = core::mem::take(&mut *self.workers.lock());
        drop(workers);
    }

    /// What goes wrong is latched, and reported by who did it; without memory the next round tries again.
    fn commit_unasked(&self) {
        wait_for_memory(self.commit());
    }

    fn checkpoint_unasked(&self) {
        if self.journaling.locked(|state| state.journal.error().is_none()) {
            wait_for_memory(self.checkpoint());
        }
    }

    fn remove_orphans_unasked(&self) {
        if let Err(error) = self.remove_orphans(Some(&self.stopping_orphans)) {
            pr_warn!("{}: an orphan cannot be removed: {error}\n", self.name());
            // Nobody is told; but the mount may want to end at errors.
            let _ = self.errno(error);
        }
    }
}
