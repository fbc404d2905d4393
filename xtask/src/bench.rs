//! `cargo xtask bench`: the Speed tables, measured.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};

use crate::speed::{
    Along, CALLS, DPDK, FAILED, HOST, Invocation, NETWORK, Round, Row, Set, Turn, adapter, judge,
};
use crate::workspace::Workspace;
use crate::{instructions, lab, process};

const LIMIT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub struct Args {
    /// What runs across a network, between the hosts of a private lab; needs root
    #[arg(long)]
    network: bool,
    /// What calls cost; what runs between hosts needs root, what others are compared with the feature `peers`
    #[arg(long, conflicts_with_all = ["network", "instructions"])]
    calls: bool,
    /// What runs over ports of DPDK, which has to be installed; needs no root
    #[arg(long, conflicts_with_all = ["network", "calls", "instructions"])]
    dpdk: bool,
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
    /// Measure the rows only that have one of these in their names
    #[arg(long, value_name = "TEXT", value_delimiter = ',')]
    rows: Vec<String>,
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
        args.extend(self.rows.iter().flat_map(|text| ["--rows".into(), text.into()]));
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
    /// Whose instructions are counted, where they are in the table
    instructions: PathBuf,
}

impl Programs {
    /// Where they are given as arguments, in order.
    pub fn paths(&self) -> [&Path; 3] {
        [&self.bench, &self.adapter, &self.instructions]
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
    let mut build = workspace.cargo(["build", "--release", "--bin", "unet-bench"]);
    if args.dpdk {
        let words = ["build", "--release", "-p", "unet-bench", "--bins", "--features", "dpdk"];
        process::run(&mut workspace.cargo(words), LIMIT)?;
    } else if args.calls {
        // What lacks them says so.
        let words = ["build", "--release", "-p", "unet-bench", "--bins", "--features", "peers"];
        let mut whole = workspace.cargo(words);
        build.args(["--bin", "instructions"]);
        process::run(&mut whole, LIMIT).or_else(|_| process::run(&mut build, LIMIT))?;
    } else {
        process::run(&mut build, LIMIT)?;
    }
    let release = workspace.target.join("release");
    let programs = Programs {
        bench: release.join("unet-bench"),
        adapter: release.join("examples").join(adapter::EXAMPLE),
        instructions: release.join("instructions"),
    };
    // A part of these is between the lab's hosts.
    let in_part = |table, set| match lab::can_bench() {
        Ok(()) => lab::bench(table, &programs, &args.how),
        Err(why) => measure(set, &programs, &args.how, Some(&format!("{why:#}"))),
    };
    match (args.calls, args.network) {
        _ if args.dpdk => in_part("dpdk", &DPDK),
        (true, _) => in_part("calls", &CALLS),
        (false, true) => {
            build_adapter(&workspace)?;
            lab::bench("networks", &programs, &args.how)
        }
        (false, false) => measure(&HOST, &programs, &args.how, None),
    }
}

/// Builds the example that measures the adapter.
pub fn build_adapter(workspace: &Workspace) -> Result<()> {
    let example = ["build", "--release", "-p", "unet", "--example", adapter::EXAMPLE];
    process::run(&mut workspace.cargo(example), LIMIT).map(drop)
}

/// Measures one of the tables inside the lab: of `networks`, of `calls`, or of `dpdk`.
pub fn between_hosts(table: &str, programs: &Programs, how: &How) -> Result<()> {
    let set = match table {
        "calls" => &CALLS,
        "dpdk" => &DPDK,
        _ => &NETWORK,
    };
    measure(set, programs, how, None)
}

/// Measures a table; `no_lab` says why there are no hosts between which to measure, where there are none.
fn measure(set: &Set, programs: &Programs, how: &How, no_lab: Option<&str>) -> Result<()> {
    let rows = chosen(set, &how.rows)?;
    let needed = |run: &str| rows.iter().any(|row| row.figure.runs().contains(&run));
    if let Some(folder) = &how.out {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let duration = how.duration.as_deref().unwrap_or(set.duration);
    let mut rounds: Vec<Round> = Vec::new();
    for number in 1..=how.rounds {
        // What is measured once is a part of every turn.
        let mut once = Turn::new();
        if let Some(along) = set.along.filter(|along| needed(along.run())) {
            println!("round {number} of {}: {}", how.rounds, along.run());
            let found = match along {
                Along::Adapter => adapter::measure(&programs.adapter),
                Along::Stub => instructions::stub(&programs.instructions),
            };
            once.push((along.run(), excuse(set, found)?));
        }
        let mut turns = Round::new();
        let runs: Vec<&Invocation> =
            set.invocations.iter().filter(|run| needed(run.name)).collect();
        let repeats = runs.iter().any(|run| !run.once);
        for turn in 0..if repeats { set.turns } else { 1 } {
            let mut found = Turn::new();
            for run in runs.iter().filter(|run| turn == 0 || !run.once) {
                let args = run.args(turn);
                let at =
                    format!("round {number} of {}, turn {} of {}", how.rounds, turn + 1, set.turns);
                println!("{at}: unet-bench {}", args.join(" "));
                let mut command = Command::new(&programs.bench);
                command.args(&args).args(["--format", "json"]);
                if !args.iter().any(|arg| arg == "--duration") {
                    command.args(["--duration", duration]);
                }
                let ran = match no_lab.filter(|_| run.needs_lab()) {
                    Some(why) => Err(anyhow!("{why}")),
                    None => print(&mut command, set.lenient),
                };
                let printed = excuse(set, ran)?;
                if no_lab.is_none() && run.leaves_a_program() {
                    lab::detach()?;
                }
                if let Some(folder) = &how.out {
                    let name = run.name.replace(' ', "-");
                    let file = folder.join(format!("{number}-{turn}-{name}.json"));
                    fs::write(file, printed.to_string())?;
                }
                if run.once { &mut once } else { &mut found }.push((run.name, printed));
            }
            turns.push(found);
        }
        turns.iter_mut().for_each(|turn| turn.extend(once.iter().cloned()));
        rounds.push(turns);
    }
    let cores = std::thread::available_parallelism().context("the cores cannot be counted")?;
    let missed = table(&rows, &rounds, cores.get());
    if how.check && !missed.is_empty() {
        bail!(
            "{} of {} rows miss what they must reach: {}",
            missed.len(),
            rows.len(),
            missed.join("; ")
        );
    }
    Ok(())
}

/// The rows that have one of the texts in their names; without any, all.
fn chosen(set: &Set, texts: &[String]) -> Result<Vec<&'static Row>> {
    let fits =
        |row: &&Row| texts.is_empty() || texts.iter().any(|text| row.what.contains(text.as_str()));
    let rows: Vec<_> = set.rows.iter().filter(fits).collect();
    if rows.is_empty() { bail!("no row has {} in its name", texts.join(" or ")) } else { Ok(rows) }
}

/// Runs `unet-bench`. Where its failure is only a row's, its own sentence is the reason.
fn print(command: &mut Command, keeps_reason: bool) -> Result<Value> {
    let mut notes = None;
    if keeps_reason {
        let file = File::from(memfd_create("notes", MemfdFlags::CLOEXEC)?);
        command.stderr(file.try_clone()?);
        notes = Some(file);
    }
    let said = process::capture(command, LIMIT);
    let said = said.map_err(|error| match notes.and_then(last_of) {
        Some(sentence) => anyhow!(sentence),
        None => error,
    })?;
    serde_json::from_str(&said.stdout)
        .with_context(|| format!("`{}` did not print one JSON object", process::show(command)))
}

/// The last line that was written there.
fn last_of(mut notes: File) -> Option<String> {
    let mut text = String::new();
    notes.rewind().ok()?;
    notes.read_to_string(&mut text).ok()?;
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    Some(last.trim_start_matches("unet-bench: ").to_owned())
}

/// What stands in place of a run that could not be made, where the rows without it are measured all the same.
fn excuse(set: &Set, ran: Result<Value>) -> Result<Value> {
    match ran {
        Err(why) if set.lenient => Ok(json!({ FAILED: format!("{why:#}") })),
        ran => ran,
    }
}

/// Prints the table and returns the rows that miss, or lack a figure, which is no better.
fn table(rows: &[&Row], rounds: &[Round], cores: usize) -> Vec<&'static str> {
    let mut missed = Vec::new();
    let heads: String =
        (1..=rounds.len()).map(|round| format!("{:>8}", format!("run {round}"))).collect();
    println!("\n{:<41} {:<17} {:>7} {:>7} {heads}", "what", "unit", "aim", "must");
    for row in rows {
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
        for set in [HOST, NETWORK, CALLS, DPDK] {
            let rows = chosen(&set, &[]).expect("there are rows");
            assert_eq!(table(&rows, &[vec![Turn::new()]], 2).len(), set.rows.len());
        }
    }

    #[test]
    fn rows_are_chosen_by_a_part_of_their_names() {
        let names = |text: &str| chosen(&CALLS, &[text.to_owned()]).map(|rows| rows.len());
        assert_eq!(names("raw LRPC").ok(), None);
        assert!(names("stub over LRPC").is_ok_and(|rows| rows == 2));
    }

    #[test]
    fn a_run_that_fails_gives_its_last_sentence_as_the_reason() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            print(&mut command, true)
        };
        let failed = "echo 'unet-bench: note' >&2; echo 'unet-bench: No server.' >&2; exit 1";
        let why = shell(failed).expect_err("it failed");
        assert_eq!(format!("{why:#}"), "No server.");
        let excused = excuse(&CALLS, Err(why)).expect("other rows are measured");
        let turn: Turn = vec![("rate", excused)];
        let figure = &CALLS.rows.iter().find(|row| row.figure.runs() == ["rate"]);
        let figure = &figure.expect("a row of the rate").figure;
        let told = figure.of(&vec![turn]).expect_err("nothing was measured");
        assert_eq!(format!("{told:#}"), "No server.");
        assert_eq!(shell("echo '{\"a\": 1}'").expect("an object"), json!({"a": 1}));
        assert!(excuse(&NETWORK, Err(anyhow!("no"))).is_err());
    }
}
