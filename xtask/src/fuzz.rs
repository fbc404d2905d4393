//! `cargo xtask fuzz`: the fuzz targets, built by the stable toolchain and run for a bounded time.
//!
//! libFuzzer needs LLVM's coverage instrumentation, which stable rustc has as code generation
//! options; so neither `cargo fuzz` nor a nightly toolchain has to be installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::inventory::fuzz_targets;
use crate::process;
use crate::workspace::{Workspace, cargo, host_triple};

/// What `cargo fuzz` passes too: counters at every edge, comparisons reported to the fuzzer.
const INSTRUMENT: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing";

/// A run that tried fewer inputs than this has tested nothing.
const FEWEST_RUNS: u64 = 1000;

#[derive(clap::Args)]
pub struct Args {
    /// The target: a file's name in fuzz/fuzz_targets; all of them in turn if left out
    target: Option<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The fuzzer's seed; 0 takes another one each time
    #[arg(long, default_value_t = 0)]
    seed: u32,
}

/// Fuzzes with a corpus that is kept, so that the next run starts where this one ended.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let all = fuzz_targets(&workspace.root.join("fuzz"))?;
    let targets = match &args.target {
        Some(target) if all.contains(target) => vec![target.clone()],
        Some(target) => bail!("there is no fuzz target {target}; there are: {}", all.join(", ")),
        None if all.is_empty() => bail!("there are no fuzz targets in fuzz/fuzz_targets"),
        None => all,
    };
    let corpus = workspace.root.join("fuzz/corpus");
    let built = Built::new(&workspace)?;
    for target in &targets {
        println!("{target}: {}", built.fuzz(target, &corpus, args.seconds, args.seed)?);
    }
    Ok(())
}

/// Every target for `seconds`, from the committed seeds alone, so that a run can be repeated.
pub fn bounded(workspace: &Workspace, seconds: u64) -> Result<String> {
    let targets = fuzz_targets(&workspace.root.join("fuzz"))?;
    if targets.is_empty() {
        bail!("there are no fuzz targets in fuzz/fuzz_targets");
    }
    let corpus = workspace.target.join("fuzz/bounded-corpus");
    if corpus.exists() {
        fs::remove_dir_all(&corpus)?;
    }
    let built = Built::new(workspace)?;
    for target in &targets {
        println!("{target}: {}", built.fuzz(target, &corpus, seconds, 1)?);
    }
    Ok(format!("{} targets for {seconds} s each", targets.len()))
}

/// The instrumented programs.
struct Built {
    programs: PathBuf,
    /// The `fuzz` folder, with seeds and artifacts.
    folder: PathBuf,
    logs: PathBuf,
}

impl Built {
    fn new(workspace: &Workspace) -> Result<Built> {
        let folder = workspace.root.join("fuzz");
        let target = workspace.target.join("fuzz");
        // Naming the host keeps the instrumentation out of build scripts and macros.
        let host = host_triple()?;
        let mut build = cargo();
        build.current_dir(&folder).args(["build", "--release", "--bins", "--target", &host]);
        build.env("RUSTFLAGS", INSTRUMENT).env("CARGO_TARGET_DIR", &target);
        process::run(&mut build, Duration::from_secs(600))?;
        Ok(Built { programs: target.join(host).join("release"), folder, logs: target })
    }

    fn fuzz(&self, target: &str, corpus: &Path, seconds: u64, seed: u32) -> Result<String> {
        let corpus = corpus.join(target);
        let artifacts = self.folder.join("artifacts").join(target);
        let seeds = self.folder.join("seeds").join(target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&artifacts)?;
        let log = self.logs.join(format!("{target}.log"));
        let mut fuzzer = Command::new(self.programs.join(target));
        fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-seed={seed}"));
        // An input that takes longer is an endless loop, which a peer must not be able to cause.
        fuzzer.args(["-timeout=5", "-rss_limit_mb=2048", "-print_final_stats=1"]);
        fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display())).arg(&corpus);
        if seeds.is_dir() {
            fuzzer.arg(&seeds);
        }
        fuzzer.stderr(File::create(&log)?);
        let outcome = process::run(&mut fuzzer, Duration::from_secs(seconds + 60));
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        if let Err(error) = outcome {
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
            bail!(
                "fuzz target {target} found an input that fails, kept in {}: {error}",
                artifacts.display()
            );
        }
        verdict(&text).with_context(|| format!("fuzz target {target} ran but tested nothing"))
    }
}

/// Whether a run that found nothing has looked: it was instrumented and it tried inputs.
fn verdict(log: &str) -> Result<String> {
    let counters = log.lines().find_map(|line| {
        let (_, counters) = line.split_once(" modules ")?;
        counters
            .trim_start()
            .strip_prefix('(')?
            .split_once(" inline 8-bit counters")?
            .0
            .parse::<u64>()
            .ok()
    });
    let runs = log.lines().find_map(|line| {
        line.strip_prefix("stat::number_of_executed_units:")?.trim().parse::<u64>().ok()
    });
    match (counters.unwrap_or(0), runs.unwrap_or(0)) {
        (0, _) => bail!("its program has no coverage counters, so the fuzzer was blind"),
        (_, runs) if runs < FEWEST_RUNS => bail!("it tried only {runs} inputs"),
        (counters, runs) => Ok(format!("{runs} inputs, {counters} places to reach, no failure")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOADED: &str =
        "INFO: Loaded 1 modules   (158 inline 8-bit counters): 158 [0x55, 0x66), \n";

    #[test]
    fn a_run_that_looked_is_accepted() {
        let log = format!("{LOADED}stat::number_of_executed_units: 250000\n");
        assert_eq!(
            verdict(&log).expect("it looked"),
            "250000 inputs, 158 places to reach, no failure"
        );
    }

    #[test]
    fn a_run_that_was_blind_or_tried_nothing_is_refused() {
        let blind = verdict("stat::number_of_executed_units: 250000\n").expect_err("no counters");
        assert!(blind.to_string().contains("blind"));
        let idle =
            verdict(&format!("{LOADED}stat::number_of_executed_units: 2\n")).expect_err("2 inputs");
        assert!(idle.to_string().contains("only 2 inputs"));
        assert!(verdict("").is_err());
    }
}
