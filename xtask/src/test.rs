//! `cargo xtask test`: the README's second command, and what CI runs.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::inventory::Inventory;
use crate::process::{Said, Tally, capture, run as run_process};
use crate::steps::{Context, Done, Step, run as run_steps};
use crate::workspace::cargo;
use crate::{asan, failpoints, fuzz, lab, layers, loom, packages};

/// Long enough for any step on two slow cores; a step that needs more hangs.
pub const LIMIT: Duration = Duration::from_secs(900);

/// How long each fuzz target runs here. `cargo xtask fuzz` runs for longer.
const FUZZ_SECONDS: u64 = 10;

/// The failure tests kill processes at named steps, which only this feature compiles in.
pub const FAILPOINTS: [&str; 2] = ["--features", "segment/failpoints"];

/// The checks, the quick ones first.
pub const STEPS: &[Step] = &[
    Step { name: "packages", what: "what the other checks need is installed", check: provide },
    Step { name: "fmt", what: "the source is formatted", check: fmt },
    Step {
        name: "layers",
        what: "dependencies point down, `unsafe` stays in its room",
        check: in_order,
    },
    Step {
        name: "inventory",
        what: "no list of models, property tests or fuzz targets is empty",
        check: inventory,
    },
    Step { name: "clippy", what: "no warning in any target", check: clippy },
    Step { name: "peers", what: "unet-bench builds with what it is compared with", check: peers },
    Step {
        name: "tests",
        what: "unit, integration and documentation tests, with failpoints",
        check: tests,
    },
    Step {
        name: "dpdk",
        what: "unet-bench with ports of DPDK, where DPDK is installed",
        check: dpdk,
    },
    Step {
        name: "lab",
        what: "the kernel and the usual tools are content with our protocols and drivers",
        check: lab::check,
    },
    Step { name: "loom", what: "every interleaving of the models", check: loom::check },
    Step {
        name: "fuzz",
        what: "each fuzz target for a bounded time, from a fixed seed",
        check: bounded_fuzz,
    },
    Step { name: "asan", what: "the hostile-peer test under AddressSanitizer", check: asan::check },
    Step { name: "doc", what: "the documentation builds without a warning", check: doc },
    Step { name: "release", what: "the release build", check: release },
    Step { name: "smoke", what: "unet-bench measures this machine's floors", check: smoke },
    Step {
        name: "failpoints",
        what: "failpoints are in debug programs and not in the release one",
        check: failpoints::check,
    },
];

#[derive(clap::Args)]
pub struct Args {
    /// Run these checks only; may be repeated
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// Name the checks and stop
    #[arg(long)]
    list: bool,
}

/// Runs the checks in order, up to the first that fails.
pub fn run(args: &Args) -> Result<()> {
    if args.list {
        STEPS.iter().for_each(|step| println!("{:<11} {}", step.name, step.what));
        return Ok(());
    }
    if let Some(unknown) =
        args.only.iter().find(|only| STEPS.iter().all(|step| step.name != **only))
    {
        bail!("there is no check {unknown}; `cargo xtask test --list` names them");
    }
    let chosen =
        |step: &&Step| args.only.is_empty() || args.only.iter().any(|only| only == step.name);
    run_steps("test", &Context::load()?, &STEPS.iter().filter(chosen).collect::<Vec<_>>())
}

/// A check held; the note says how much was looked at.
pub fn passed(note: impl Into<String>) -> Result<Done> {
    Ok(Done::Passed(note.into()))
}

/// A test run that ran no test is a failure: a filter or a feature has lost them.
pub fn some_tests(said: &Said) -> Result<Tally> {
    if said.tally.passed == 0 {
        bail!("no test ran");
    }
    Ok(said.tally)
}

fn provide(_: &Context) -> Result<Done> {
    passed(packages::provide()?)
}

fn fmt(context: &Context) -> Result<Done> {
    run_process(&mut context.workspace.cargo(["fmt", "--all", "--check"]), LIMIT)
        .context("`cargo fmt --all` formats it")?;
    let mut fuzz = cargo();
    fuzz.current_dir(context.workspace.root.join("fuzz")).args(["fmt", "--check"]);
    run_process(&mut fuzz, LIMIT).context("`cargo fmt` in fuzz/ formats it")?;
    passed("")
}

fn in_order(context: &Context) -> Result<Done> {
    passed(layers::check(&context.workspace)?)
}

fn inventory(context: &Context) -> Result<Done> {
    passed(Inventory::take(&context.workspace)?.check()?)
}

fn clippy(context: &Context) -> Result<Done> {
    let mut clippy = context.workspace.cargo(["clippy", "--workspace", "--all-targets"]);
    run_process(clippy.args(FAILPOINTS).args(["--", "-D", "warnings"]), LIMIT)?;
    passed("")
}

fn peers(context: &Context) -> Result<Done> {
    let mut clippy = context.workspace.cargo(["clippy", "-p", "unet-bench", "--features", "peers"]);
    run_process(clippy.args(["--bin", "unet-bench", "--", "-D", "warnings"]), LIMIT)?;
    passed("")
}

fn tests(context: &Context) -> Result<Done> {
    // Building takes as long as the tests do: each has the limit for itself.
    let mut build = context.workspace.cargo(["test", "--workspace", "--no-run"]);
    run_process(build.args(FAILPOINTS), LIMIT)?;
    let mut tests = context.workspace.cargo(["test", "--workspace"]);
    passed(some_tests(&run_process(tests.args(FAILPOINTS), LIMIT)?)?.to_string())
}

fn dpdk(context: &Context) -> Result<Done> {
    let of_bench = ["-p", "unet-bench", "--features", "dpdk"];
    let mut clippy = context.workspace.cargo(["clippy", "--all-targets"]);
    run_process(clippy.args(of_bench).args(["--", "-D", "warnings"]), LIMIT)?;
    let mut tests = context.workspace.cargo(["test", "--test", "cli"]);
    let said = run_process(tests.args(of_bench).args(["--", "--nocapture", "dpdk::"]), LIMIT)?;
    let tally = some_tests(&said)?;
    match said.stdout.lines().find_map(|line| line.split_once("left out: ")) {
        Some((_, missing)) => passed(format!("left out: {missing}")),
        None => passed(tally.to_string()),
    }
}

fn bounded_fuzz(context: &Context) -> Result<Done> {
    passed(fuzz::bounded(&context.workspace, FUZZ_SECONDS)?)
}

fn doc(context: &Context) -> Result<Done> {
    let mut doc = context.workspace.cargo(["doc", "--no-deps", "--workspace"]);
    run_process(doc.env("RUSTDOCFLAGS", "-D warnings"), LIMIT)?;
    passed("")
}

fn release(context: &Context) -> Result<Done> {
    let mut build =
        context.workspace.cargo(["build", "--release", "--workspace", "--exclude", "xtask"]);
    run_process(&mut build, LIMIT)?;
    passed("")
}

fn smoke(context: &Context) -> Result<Done> {
    let mut bench = context.workspace.cargo(["run", "--quiet", "--release", "--bin", "unet-bench"]);
    bench.args(["--", "null-rpc", "--system", "lrpc,unet", "--wait", "spin,adaptive,park"]);
    bench.args(["--duration", "100ms", "--format", "json"]);
    let said = capture(&mut bench, LIMIT)?;
    expect(6, &said.stdout)?;
    let mut fbuf = context.workspace.cargo(["run", "--quiet", "--release", "--bin", "unet-bench"]);
    fbuf.args(["--", "fbuf", "--system", "unet,fbuf/volatile,fbuf/read,fbuf/secured,layers"]);
    fbuf.args(["--domains", "1,2,3", "--size", "4K,1M", "--duration", "100ms"]);
    fbuf.args(["--format", "json"]);
    // One of slots, six hand-offs, four pipelines, two secured, four stacks of layers.
    expect(17, &capture(&mut fbuf, LIMIT)?.stdout)?;
    let mut kv = context.workspace.cargo(["run", "--quiet", "--release", "--bin", "unet-bench"]);
    kv.args(["--", "kv", "--system", "kv/lrpc,kv/channels", "--mix", "A", "--size", "100,4K"]);
    kv.args(["--keys", "1000", "--window", "8", "--duration", "100ms", "--format", "json"]);
    expect(4, &capture(&mut kv, LIMIT)?.stdout)?;
    passed("27 records of 27")
}

fn expect(records: usize, stdout: &str) -> Result<()> {
    match count_records(stdout)? {
        found if found == records => Ok(()),
        other => {
            bail!("unet-bench printed {other} records of {records}: run it by hand to see why")
        }
    }
}

/// Checks that the benchmark printed one object with facts of the machine, and counts its records.
fn count_records(stdout: &str) -> Result<usize> {
    let printed: serde_json::Value = serde_json::from_str(stdout)
        .context("unet-bench did not print one JSON object on its standard output")?;
    let facts = printed["host"].as_object().map_or(0, |host| host.len());
    match printed["records"].as_array() {
        Some(records) if facts > 0 => Ok(records.len()),
        _ => {
            bail!("unet-bench printed no facts of the machine or no list of records; it needs both")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_tests_is_refused() {
        let said =
            |passed| Said { tally: Tally { passed, ..Tally::default() }, stdout: String::new() };
        assert!(some_tests(&said(0)).is_err());
        assert!(some_tests(&said(1)).is_ok());
    }

    #[test]
    fn a_benchmark_that_prints_no_facts_is_refused() {
        let printed = r#"{"host": {"cores": 2}, "records": [{"bench": "rtt"}]}"#;
        assert_eq!(count_records(printed).expect("facts and a record"), 1);
        assert!(count_records(r#"{"host": {}, "records": []}"#).is_err());
        assert!(count_records(r#"{"host": {"cores": 2}}"#).is_err());
        assert!(count_records("").is_err());
    }
}
