//! `cargo xtask bench`: the Speed table, measured.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::speed::{INVOCATIONS, ROWS, Round, judge};
use crate::workspace::Workspace;
use crate::{instructions, process};

const LIMIT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub struct Args {
    /// Fail when a row misses what it must reach
    #[arg(long)]
    check: bool,
    /// How often everything is measured; a row is judged by the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// How long each measurement runs, as unet-bench takes it
    #[arg(long, default_value = "2s")]
    duration: String,
    /// Keep what unet-bench printed, one file a run, in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Count instructions in place of time, under valgrind
    #[arg(long, conflicts_with_all = ["check", "rounds", "duration", "out"])]
    instructions: bool,
}

/// Builds the release, measures, prints the table.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    if args.instructions {
        return instructions::run(&workspace);
    }
    process::run(&mut workspace.cargo(["build", "--release", "--bin", "unet-bench"]), LIMIT)?;
    let bench = workspace.target.join("release/unet-bench");
    if let Some(folder) = &args.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let mut rounds: Vec<Round> = Vec::new();
    for number in 1..=args.rounds {
        let mut round = Round::new();
        for run in INVOCATIONS {
            println!("round {number} of {}: unet-bench {}", args.rounds, run.args.join(" "));
            let mut command = Command::new(&bench);
            command.args(run.args).args(["--duration", &args.duration, "--format", "json"]);
            let said = process::capture(&mut command, LIMIT)?;
            if let Some(folder) = &args.out {
                fs::write(
                    folder.join(format!("{number}-{}.json", run.name.replace(' ', "-"))),
                    &said.stdout,
                )?;
            }
            let printed = serde_json::from_str(&said.stdout).with_context(|| {
                format!("`{}` did not print one JSON object", process::show(&command))
            })?;
            round.push((run.name, printed));
        }
        rounds.push(round);
    }
    let missed = table(&rounds);
    if args.check && !missed.is_empty() {
        bail!(
            "{} of {} rows miss what they must reach: {}",
            missed.len(),
            ROWS.len(),
            missed.join("; ")
        );
    }
    Ok(())
}

/// Prints the table and returns the rows that miss, or lack a figure, which is no better.
fn table(rounds: &[Round]) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let heads: String =
        (1..=rounds.len()).map(|round| format!("{:>8}", format!("run {round}"))).collect();
    println!("\n{:<41} {:<17} {:>7} {:>7} {heads}", "what", "unit", "aim", "must");
    for row in ROWS {
        let figures: Result<Vec<f64>> = rounds.iter().map(|round| row.figure.read(round)).collect();
        let met = match figures {
            Ok(figures) => {
                let (line, met) = judge(row, &figures);
                println!("{line}");
                met
            }
            Err(error) => {
                println!("{:<41} not measured: {error:#}", row.what);
                false
            }
        };
        if !met {
            missed.push(row.what);
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_records_count_as_missed() {
        assert_eq!(table(&[Round::new()]).len(), ROWS.len());
    }
}
