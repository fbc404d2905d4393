//! `cargo xtask bench`: the Speed tables, measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::speed::{HOST, NETWORK, Round, Set, Turn, adapter, judge};
use crate::workspace::Workspace;
use crate::{instructions, lab, process};

const LIMIT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub struct Args {
    /// What runs across a network, between the hosts of a private lab; needs root
    #[arg(long)]
    network: bool,
    #[command(flatten)]
    how: How,
    /// Count instructions in place of time, under valgrind; with --network those of the adapter
    #[arg(long, conflicts_with_all = ["check", "rounds", "duration", "out"])]
    instructions: bool,
}

/// How a table is measured.
#[derive(clap::Args)]
pub struct How {
    /// Fail when a row misses what it must reach
    #[arg(long)]
    check: bool,
    /// How often everything is measured; a row is judged by the median
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// How long each measurement runs, as unet-bench takes it: 2s, or 300ms for each of the turns across a
    /// network, unless it is said
    #[arg(long)]
    duration: Option<String>,
    /// Keep what unet-bench printed, one file a run, in this folder
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

impl How {
    /// The arguments that say so.
    pub fn args(&self) -> Vec<std::ffi::OsString> {
        let mut args = vec!["--rounds".into(), self.rounds.to_string().into()];
        if let Some(duration) = &self.duration {
            args.extend(["--duration".into(), duration.into()]);
        }
        args.extend(self.check.then(|| "--check".into()));
        if let Some(folder) = &self.out {
            args.extend(["--out".into(), folder.into()]);
        }
        args
    }
}

/// The programs that measure.
#[derive(clap::Args)]
pub struct Programs {
    bench: PathBuf,
    /// What measures the adapter's cost, where that is in the table
    adapter: PathBuf,
}

impl Programs {
    /// Where they are given as arguments, in order.
    pub fn paths(&self) -> [&Path; 2] {
        [&self.bench, &self.adapter]
    }
}

/// Builds the release, measures, prints the table.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    match (args.instructions, args.network) {
        (true, true) => return instructions::adapter(&workspace),
        (true, false) => return instructions::run(&workspace),
        _ => {}
    }
    process::run(&mut workspace.cargo(["build", "--release", "--bin", "unet-bench"]), LIMIT)?;
    let release = workspace.target.join("release");
    let programs = Programs {
        bench: release.join("unet-bench"),
        adapter: release.join("examples").join(adapter::EXAMPLE),
    };
    if !args.network {
        return measure(&HOST, &programs, &args.how);
    }
    build_adapter(&workspace)?;
    lab::bench(&programs, &args.how)
}

/// Builds the example that measures the adapter.
pub fn build_adapter(workspace: &Workspace) -> Result<()> {
    let example = ["build", "--release", "-p", "unet", "--example", adapter::EXAMPLE];
    process::run(&mut workspace.cargo(example), LIMIT).map(drop)
}

/// Measures what crosses a network, inside the lab.
pub fn between_hosts(programs: &Programs, how: &How) -> Result<()> {
    measure(&NETWORK, programs, how)
}

fn measure(set: &Set, programs: &Programs, how: &How) -> Result<()> {
    if let Some(folder) = &how.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let duration = how.duration.as_deref().unwrap_or(set.duration);
    let mut rounds: Vec<Round> = Vec::new();
    for number in 1..=how.rounds {
        // What is measured once is a part of every turn.
        let mut once = Turn::new();
        if set.adapter {
            println!("round {number} of {}: {}", how.rounds, adapter::EXAMPLE);
            once.push((adapter::RUN, adapter::measure(&programs.adapter)?));
        }
        let mut turns = Round::new();
        for turn in 0..set.turns {
            let mut found = Turn::new();
            for run in set.invocations.iter().filter(|run| turn == 0 || !run.once) {
                let args = run.args(turn);
                let at =
                    format!("round {number} of {}, turn {} of {}", how.rounds, turn + 1, set.turns);
                println!("{at}: unet-bench {}", args.join(" "));
                let mut command = Command::new(&programs.bench);
                command.args(args).args(["--duration", duration, "--format", "json"]);
                let said = process::capture(&mut command, LIMIT)?;
                if let Some(folder) = &how.out {
                    let name = run.name.replace(' ', "-");
                    fs::write(folder.join(format!("{number}-{turn}-{name}.json")), &said.stdout)?;
                }
                let printed = serde_json::from_str(&said.stdout).with_context(|| {
                    format!("`{}` did not print one JSON object", process::show(&command))
                })?;
                if run.once { &mut once } else { &mut found }.push((run.name, printed));
            }
            turns.push(found);
        }
        turns.iter_mut().for_each(|turn| turn.extend(once.iter().cloned()));
        rounds.push(turns);
    }
    let cores = std::thread::available_parallelism().context("the cores cannot be counted")?;
    let missed = table(set, &rounds, cores.get());
    if how.check && !missed.is_empty() {
        bail!(
            "{} of {} rows miss what they must reach: {}",
            missed.len(),
            set.rows.len(),
            missed.join("; ")
        );
    }
    Ok(())
}

/// Prints the table and returns the rows that miss, or lack a figure, which is no better.
fn table(set: &Set, rounds: &[Round], cores: usize) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let heads: String =
        (1..=rounds.len()).map(|round| format!("{:>8}", format!("run {round}"))).collect();
    println!("\n{:<41} {:<17} {:>7} {:>7} {heads}", "what", "unit", "aim", "must");
    for row in set.rows {
        let figures: Result<Vec<f64>> = rounds.iter().map(|round| row.figure.of(round)).collect();
        let met = match figures {
            Ok(figures) => {
                let (line, met) = judge(row, &figures, cores);
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
        for set in [HOST, NETWORK] {
            assert_eq!(table(&set, &[vec![Turn::new()]], 2).len(), set.rows.len());
        }
    }
}
