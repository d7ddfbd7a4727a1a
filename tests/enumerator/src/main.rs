// SPDX-License-Identifier: GPL-2.0

//! `enumerate`: power cuts at every write of seeded workloads, in process; and mutated journals.
//!
//! Exit code 0: nothing wrong, and as much tried as was asked for; 1 otherwise; 2 for a wrong command line.

use anyhow::Result;
use cairnfs_enumerator::coverage::Coverage;
use cairnfs_enumerator::explore::{self, Known, Violation};
use cairnfs_enumerator::workload::{Workload, SWEEP, SWEEP_PLACES};
use cairnfs_enumerator::{id, mutate};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Crash states of one workload at the most: many workloads say more than one whole.
const STATES_OF_A_WORKLOAD: u64 = 1200;
/// And of one of the sweep.
const STATES_OF_A_PLACE: u64 = 120;
/// What making a failure small may take.
const SHRINK_TIME: Duration = Duration::from_secs(15);
/// Violations after which a run ends.
const VIOLATIONS_MAX: usize = 5;

#[derive(Parser)]
#[command(about = "Enumerates crash states of the shared core")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enumerate crash states
    Run {
        /// Distinct states to reach
        #[arg(long, default_value_t = 50_000)]
        states: u64,
        /// The first workload
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop after so many seconds, whatever has been reached
        #[arg(long, default_value_t = 3600)]
        budget_seconds: u64,
        /// Fail when an action, item or branch has not occurred
        #[arg(long)]
        complete: bool,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Mutate journals
    Mutate {
        /// Journals to mutate
        #[arg(long, default_value_t = 10_000)]
        journals: u64,
        /// The first workload
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop after so many seconds, whatever has been reached
        #[arg(long, default_value_t = 3600)]
        budget_seconds: u64,
    },
    /// Judge one state again
    Replay {
        /// Its id, as a run printed it
        id: String,
    },
}

/// A number with separators.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn report(workload: &Workload, violation: &Violation) -> String {
    println!("violation: seed {}: {}", workload.seed, violation.what);
    let (small, found) = explore::shrink(workload, violation, SHRINK_TIME);
    let id = id::encode(&small, found.choice.as_ref());
    println!("  smaller: {} actions: {}", small.actions.len(), found.what);
    for action in &small.actions {
        println!("    {action:?}");
    }
    println!("  {:?}", found.choice);
    println!("  enumerate replay {id}");
    id
}

fn enumerate(states: u64, seed: u64, budget: Duration, complete: bool, json: bool) -> ExitCode {
    let began = Instant::now();
    let deadline = began + budget;
    let (mut known, mut coverage) = (Known::default(), Coverage::default());
    let mut ids = Vec::new();
    for place in SWEEP..SWEEP + SWEEP_PLACES {
        if ids.len() >= VIOLATIONS_MAX {
            break;
        }
        let workload = Workload::from_seed(place);
        if let Err(violation) =
            explore::explore(&workload, STATES_OF_A_PLACE, deadline, &mut known, &mut coverage)
        {
            ids.push(report(&workload, &violation));
        }
    }
    let mut next = seed;
    while (known.media.len() as u64) < states && Instant::now() < deadline && ids.len() < VIOLATIONS_MAX {
        let workload = Workload::from_seed(next);
        if let Err(violation) =
            explore::explore(&workload, STATES_OF_A_WORKLOAD, deadline, &mut known, &mut coverage)
        {
            ids.push(report(&workload, &violation));
        }
        next += 1;
    }
    let seconds = began.elapsed().as_secs();
    let distinct = known.media.len() as u64;
    coverage.print(known.media.len());
    let missing = coverage.missing();
    if !missing.is_empty() {
        println!("has not occurred: {}", missing.join(", "));
    }
    let is_enough = distinct >= states;
    let failed =
        u32::from(!ids.is_empty()) + u32::from(!is_enough) + u32::from(complete && !missing.is_empty());
    if json {
        let result = serde_json::json!({
            "states": coverage.states, "distinct": distinct, "violations": ids, "seconds": seconds,
            "workloads": coverage.workloads, "missing": missing, "items": coverage.items,
        });
        println!("{result}");
    }
    println!("crash enumerator: {} states, {} violations, {seconds} s", grouped(distinct), ids.len());
    println!(
        "tier: {} passed, {failed} failed: {} states, {} violations",
        3 - failed,
        grouped(distinct),
        ids.len()
    );
    ExitCode::from(u8::from(failed > 0))
}

fn mutate_journals(journals: u64, seed: u64, budget: Duration) -> ExitCode {
    let began = Instant::now();
    let outcome = mutate::mutate(seed, journals, began + budget);
    for (answer, count) in &outcome.answers {
        println!("  {answer:<40}{count:>10}");
    }
    for violation in outcome.violations.iter().take(20) {
        println!("violation: {violation}");
    }
    let is_enough = outcome.journals >= journals;
    let failed = u32::from(!outcome.violations.is_empty()) + u32::from(!is_enough);
    let (journals, violations) = (grouped(outcome.journals), outcome.violations.len());
    println!(
        "mutated journals: {journals} journals, {violations} violations, {} s",
        began.elapsed().as_secs()
    );
    println!("tier: {} passed, {failed} failed: {journals} journals, {violations} violations", 2 - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn replay(name: &str) -> Result<ExitCode> {
    let (workload, choice) = id::decode(name)?;
    println!("{workload:#?}\n{choice:?}");
    match explore::judge_again(&workload, choice.as_ref()) {
        Ok(()) => {
            println!("nothing is wrong");
            Ok(ExitCode::SUCCESS)
        }
        Err(violation) => {
            println!("violation: {}", violation.what);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { states, seed, budget_seconds, complete, json } => {
            Ok(enumerate(states, seed, Duration::from_secs(budget_seconds), complete, json))
        }
        Command::Mutate { journals, seed, budget_seconds } => {
            Ok(mutate_journals(journals, seed, Duration::from_secs(budget_seconds)))
        }
        Command::Replay { id } => replay(&id),
    }
}
