//! Results in the Test Anything Protocol (version 14), as the kernel's own self-tests print them.
//!
//! A test announces its plan, reports each case as it ends, and says at the end whether all went well. The runner on
//! the host counts: a case that was planned and not reported is a failure there, so a test that dies half-way can not
//! pass.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Prints results to `output` and remembers whether one was bad.
pub struct Tap<W: Write> {
    output: W,
    planned: usize,
    reported: usize,
    failed: usize,
}

impl Tap<io::Stdout> {
    /// Begins a test of `planned` cases on standard output.
    ///
    /// # Errors
    /// Those of standard output.
    pub fn begin(planned: usize) -> io::Result<Self> {
        Self::begin_on(io::stdout(), planned)
    }
}

impl<W: Write> Tap<W> {
    /// Begins a test of `planned` cases on `output`.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn begin_on(mut output: W, planned: usize) -> io::Result<Self> {
        writeln!(output, "TAP version 14\n1..{planned}")?;
        output.flush()?;
        Ok(Self { output, planned, reported: 0, failed: 0 })
    }

    /// Reports one case; the error of a failed one is shown as a comment.
    ///
    /// # Errors
    /// Those of the output, not that of the case.
    pub fn case<E: Display>(&mut self, name: &str, result: Result<(), E>) -> io::Result<()> {
        self.reported += 1;
        match result {
            Ok(()) => writeln!(self.output, "ok {} - {name}", self.reported)?,
            Err(error) => {
                self.failed += 1;
                writeln!(self.output, "not ok {} - {name}", self.reported)?;
                for line in format!("{error:#}").lines() {
                    writeln!(self.output, "# {line}")?;
                }
            }
        }
        self.output.flush()
    }

    /// Reports one case as skipped, and why.
    ///
    /// # Errors
    /// Those of the output.
    pub fn skip(&mut self, name: &str, reason: &str) -> io::Result<()> {
        self.reported += 1;
        writeln!(self.output, "ok {} - {name} # SKIP {reason}", self.reported)?;
        self.output.flush()
    }

    /// Ends the test: success only when every planned case was reported and none was bad.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if self.failed == 0 && self.reported == self.planned {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_the_runner_parses() {
        let mut text = Vec::new();
        let mut tap = Tap::begin_on(&mut text, 3).unwrap();
        tap.case("good", Ok::<(), String>(())).unwrap();
        tap.case("bad", Err("first\nsecond")).unwrap();
        tap.skip("absent", "no such device").unwrap();
        assert_eq!(format!("{:?}", tap.finish()), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "TAP version 14\n1..3\nok 1 - good\nnot ok 2 - bad\n# first\n# second\nok 3 - absent # SKIP no such device\n"
        );
    }

    #[test]
    fn a_missing_case_is_a_failure() {
        let mut tap = Tap::begin_on(io::sink(), 2).unwrap();
        tap.case("good", Ok::<(), String>(())).unwrap();
        assert_eq!(format!("{:?}", tap.finish()), format!("{:?}", ExitCode::FAILURE));
    }
}
