// SPDX-License-Identifier: GPL-2.0

//! The threads of a filesystem that is mounted for writing: one commits, one checkpoints, one removes orphans.
//!
//! Threads, not works in a queue: they exist from the mount on, so they make progress when there is no memory to start anything.
//! Each sleeps on its event, and wakes at the latest when its interval is over. The flag that ends them is set before their event
//! is signalled, and they look at it after they have looked at the event: no wake-up is lost.

#![forbid(unsafe_code)]

use crate::mounted::Mounted;
use cairnfs_linux::event::Event;
use cairnfs_linux::thread::Thread;
use core::sync::atomic::Ordering;
use kernel::c_str;
use kernel::prelude::*;
use kernel::sync::Arc;

/// The threads; dropping them waits for their end.
pub(crate) struct Workers {
    _commit: Thread,
    _checkpoint: Thread,
    _orphans: Thread,
}

/// Without anything to do, the orphan thread looks again so seldom.
const ORPHANS_INTERVAL_S: u64 = 60;

fn start(
    mounted: &Arc<Mounted>,
    name: &CStr,
    event: fn(&Mounted) -> &Event,
    interval_s: fn(&Mounted) -> u64,
    work: fn(&Mounted),
) -> Result<Thread> {
    let mounted = mounted.clone();
    let body = KBox::new(
        move || {
            while !mounted.stopping.load(Ordering::Acquire) {
                let seen = event(&mounted).now();
                work(&mounted);
                if mounted.stopping.load(Ordering::Acquire) {
                    break;
                }
                event(&mounted).wait_ms(seen, interval_s(&mounted).saturating_mul(1000));
            }
        },
        GFP_KERNEL,
    )?;
    Thread::run(name, body)
}

impl Mounted {
    /// Starts the threads.
    pub(crate) fn start_workers(this: &Arc<Self>) -> Result {
        this.stopping.store(false, Ordering::Release);
        let workers = Workers {
            _commit: start(
                this,
                c_str!("cairnfs-commit"),
                |mounted| &mounted.journaling.commit_wanted,
                |mounted| mounted.settings.commit_interval_s(),
                Self::commit_unasked,
            )?,
            _checkpoint: start(
                this,
                c_str!("cairnfs-home"),
                |mounted| &mounted.journaling.checkpoint_wanted,
                |mounted| mounted.settings.checkpoint_interval_s(),
                Self::checkpoint_unasked,
            )?,
            _orphans: start(
                this,
                c_str!("cairnfs-orphans"),
                |mounted| &mounted.journaling.orphans_wanted,
                |_| ORPHANS_INTERVAL_S,
                Self::remove_orphans_unasked,
            )?,
        };
        let before = this.workers.lock().replace(workers);
        drop(before);
        Ok(())
    }

    /// Ends the threads, if there are any, and waits for that.
    pub(crate) fn stop_workers(&self) {
        self.stopping.store(true, Ordering::Release);
        self.journaling.commit_wanted.signal();
        self.journaling.checkpoint_wanted.signal();
        self.journaling.orphans_wanted.signal();
        let workers = self.workers.lock().take();
        drop(workers);
    }

    /// What goes wrong is latched, and reported by who did it; without memory the next round tries again.
    fn commit_unasked(&self) {
        let _ = self.commit();
    }

    fn checkpoint_unasked(&self) {
        if self.journaling.locked(|state| state.journal.error().is_none()) {
            let _ = self.checkpoint();
        }
    }

    fn remove_orphans_unasked(&self) {
        if let Err(error) = self.remove_orphans() {
            pr_warn!("{}: an orphan cannot be removed: {error}\n", self.name());
        }
    }
}
