// SPDX-License-Identifier: GPL-2.0

//! `enumerate`: power cuts at every write of seeded workloads, in process; and mutated journals.
//!
//! Exit code 0: nothing wrong, and as much tried as was asked for; 1 otherwise; 2 for a wrong command line.

use anyhow::Result;
use cairnfs_enumerator::coverage::Coverage;
use cairnfs_enumerator::explore::{self, Known, Violation};
use cairnfs_enumerator::id::{self, Named};
use cairnfs_enumerator::workload::{Workload, SWEEP, SWEEP_PLACES};
use cairnfs_enumerator::{interleave, mutate, scripted};
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Crash states of one workload at the most: many workloads say more than one whole.
const STATES_OF_A_WORKLOAD: u64 = 1200;
/// And of one of the sweep, or one that is written down.
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
        /// End after so many violations
        #[arg(long, default_value_t = VIOLATIONS_MAX)]
        violations: usize,
        /// What making one small may take
        #[arg(long, default_value_t = SHRINK_TIME.as_secs())]
        shrink_seconds: u64,
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
    /// Try all orders of a few steps of handles, commits and checkpoints
    Interleave {
        /// Steps of an order at the most; of some scripts a few more
        #[arg(long, default_value_t = 12)]
        depth: usize,
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

fn report(workload: &Workload, violation: &Violation, shrink_time: Duration) -> String {
    println!("violation: seed {}: {}", workload.seed, violation.what);
    let (small, found) = explore::shrink(workload, violation, shrink_time);
    let id = id::encode(&small, found.choice.as_ref());
    println!("  smaller: {} actions: {}", small.actions.len(), found.what);
    for action in &small.actions {
        println!("    {action:?}");
    }
    println!("  {:?}", found.choice);
    println!("  enumerate replay {id}");
    id
}

fn enumerate(
    (states, violations): (u64, usize),
    seed: u64,
    (budget, shrink_time): (Duration, Duration),
    complete: bool,
    json: bool,
) -> ExitCode {
    let began = Instant::now();
    let deadline = began + budget;
    let (mut known, mut coverage) = (Known::default(), Coverage::default());
    let mut ids = Vec::new();
    for place in scripted::seeds().chain(SWEEP..SWEEP + SWEEP_PLACES) {
        if ids.len() >= violations {
            break;
        }
        let workload = Workload::from_seed(place);
        if let Err(violation) =
            explore::explore(&workload, STATES_OF_A_PLACE, deadline, &mut known, &mut coverage)
        {
            ids.push(report(&workload, &violation, shrink_time));
        }
    }
    let mut next = seed;
    while (known.media.len() as u64) < states && Instant::now() < deadline && ids.len() < violations {
        let workload = Workload::from_seed(next);
        if let Err(violation) =
            explore::explore(&workload, STATES_OF_A_WORKLOAD, deadline, &mut known, &mut coverage)
        {
            ids.push(report(&workload, &violation, shrink_time));
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
    let missing: Vec<&str> = outcome.missing().collect();
    if !missing.is_empty() {
        println!("never seen: {}", missing.join(", "));
    }
    let is_enough = outcome.journals >= journals && missing.is_empty();
    let failed = u32::from(!outcome.violations.is_empty()) + u32::from(!is_enough);
    let (journals, violations) = (grouped(outcome.journals), outcome.violations.len());
    println!(
        "mutated journals: {journals} journals, {violations} violations, {} s",
        began.elapsed().as_secs()
    );
    println!("tier: {} passed, {failed} failed: {journals} journals, {violations} violations", 2 - failed);
    ExitCode::from(u8::from(failed > 0))
}

fn report_schedule(violation: &interleave::Violation) {
    println!("violation: {}", violation.what);
    let small = interleave::shrink(violation, SHRINK_TIME);
    println!("  smaller: {} steps: {}", small.schedule.steps.len(), small.what);
    for step in &small.schedule.steps {
        println!("    {step:?}");
    }
    println!("  {:?}", small.schedule.cut);
    println!("  enumerate replay {}", id::encode_schedule(&small.schedule));
}

fn interleave_steps(depth: usize, budget: Duration) -> ExitCode {
    let began = Instant::now();
    let (mut passed, mut violations, mut unfinished) = (0, 0, 0);
    let (mut schedules, mut states, mut crash_states) = (0, 0, 0);
    interleave::explore(depth, began + budget, &mut |explored| {
        let counts = &explored.counts;
        println!(
            "  {:<52}{:<6}{:>9} schedules{:>9} states{:>9} crash states{:>7} to the end, {} steps at most",
            interleave::SCRIPTS[explored.script].name,
            if explored.force_unit_access { "FUA" } else { "flush" },
            grouped(counts.schedules),
            grouped(counts.states),
            grouped(counts.crash_states),
            grouped(counts.ended),
            counts.longest,
        );
        schedules += counts.schedules;
        states += counts.states;
        crash_states += counts.crash_states;
        match &explored.violation {
            Some(violation) => {
                violations += 1;
                report_schedule(violation);
            }
            None if !explored.is_whole => {
                unfinished += 1;
                println!("  the time was too short for all orders");
            }
            None => passed += 1,
        }
    });
    let what = format!(
        "interleavings: depth {depth}, {} schedules, {} states, {} crash states, {violations} violations",
        grouped(schedules),
        grouped(states),
        grouped(crash_states)
    );
    println!("{what}, {} s", began.elapsed().as_secs());
    let failed = violations + unfinished;
    println!("tier: {passed} passed, {failed} failed: {what}");
    ExitCode::from(u8::from(failed > 0))
}

fn replay(name: &str) -> Result<ExitCode> {
    let judged = match id::decode(name)? {
        Named::State(workload, choice) => {
            println!("{workload:#?}\n{choice:?}");
            explore::judge_again(&workload, choice.as_ref()).map_err(|violation| violation.what)
        }
        Named::Schedule(schedule) => {
            println!("{schedule:#?}");
            interleave::judge_again(&schedule)
        }
        Named::Mutation(seed, number) => {
            println!("mutation {number} of the journal of workload {seed}");
            mutate::judge_again(seed, number).map(|answer| println!("{answer}"))
        }
    };
    match judged {
        Ok(()) => {
            println!("nothing is wrong");
            Ok(ExitCode::SUCCESS)
        }
        Err(what) => {
            println!("violation: {what}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::Run { states, seed, budget_seconds, violations, shrink_seconds, complete, json } => {
            let (budget, shrink_time) =
                (Duration::from_secs(budget_seconds), Duration::from_secs(shrink_seconds));
            Ok(enumerate((states, violations), seed, (budget, shrink_time), complete, json))
        }
        Command::Mutate { journals, seed, budget_seconds } => {
            Ok(mutate_journals(journals, seed, Duration::from_secs(budget_seconds)))
        }
        Command::Interleave { depth, budget_seconds } => {
            Ok(interleave_steps(depth, Duration::from_secs(budget_seconds)))
        }
        Command::Replay { id } => replay(&id),
    }
}
