// SPDX-License-Identifier: GPL-2.0

//! A bar on the terminal. Nothing is drawn when standard error is no terminal, or when the user asked for quiet.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for one piece of work; it is removed when this is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins `what`, of `total` units.
    pub fn begin(what: &'static str, total: u64, quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(total) };
        let style = ProgressStyle::with_template("{msg:>20} {bar:40} {percent:>3}% {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_message(what);
        Self(bar)
    }

    /// `done` more units are done.
    pub fn advance(&self, done: u64) {
        self.0.inc(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
