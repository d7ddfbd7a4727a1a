//! The first process of a lean guest; `cairnfs-guest-init serve` is the server alone, for a guest that has an init of
//! its own (virtme-ng).

use std::process::ExitCode;

use cairnfs_guest::{boot, serve};

fn main() -> ExitCode {
    // The kernel hands its first process whatever it did not understand on its command line: no arguments to heed.
    if std::process::id() == 1 {
        boot::run();
        return ExitCode::FAILURE;
    }
    if std::env::args().skip(1).ne(["serve".to_owned()]) {
        eprintln!(
            "usage: cairnfs-guest-init serve\nWithout an argument it must be the first process of a machine."
        );
        return ExitCode::from(2);
    }
    match serve::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cairnfs-guest-init: {error:#}");
            ExitCode::FAILURE
        }
    }
}
