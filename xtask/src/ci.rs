//! `cargo xtask ci`: what `test` checks, with nothing skipped, and what takes longer.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::steps::{Context, Done, Step, run as run_steps};
use crate::{fuzz, process, test};

const EXTRA: &[Step] = &[
    Step {
        name: "features",
        what: "every crate with every feature it has, and with none",
        check: features,
    },
    Step { name: "lock", what: "Cargo.lock is what the manifests ask for", check: lock },
    Step { name: "fuzz-long", what: "each fuzz target for a minute", check: fuzz_long },
];

/// Runs the checks of `test` and then those above, as a CI machine.
pub fn run() -> Result<()> {
    let context = Context { ci: true, ..Context::load()? };
    let steps: Vec<&Step> = test::STEPS.iter().chain(EXTRA).collect();
    run_steps("ci", &context, &steps)
}

fn features(context: &Context) -> Result<Done> {
    let limit = Duration::from_secs(900);
    for flags in ["--no-default-features", "--all-features"] {
        let mut clippy = context.workspace.cargo(["clippy", "--workspace", "--all-targets", flags]);
        process::run(clippy.args(["--", "-D", "warnings"]), limit)?;
    }
    let all: usize = context.workspace.crates.iter().map(|krate| krate.features.len()).sum();
    Ok(Done::Passed(format!("{all} features")))
}

fn lock(context: &Context) -> Result<Done> {
    let mut git = context.workspace.cargo(["metadata", "--locked", "--format-version=1"]);
    process::capture(&mut git, Duration::from_secs(60))?;
    let mut status = std::process::Command::new("git");
    status.current_dir(&context.workspace.root).args([
        "status",
        "--porcelain",
        "--",
        "Cargo.lock",
        "fuzz/Cargo.lock",
    ]);
    let said = process::capture(&mut status, Duration::from_secs(60))?;
    if !said.stdout.is_empty() {
        bail!("the build changed a lock file; commit it with the manifest:\n{}", said.stdout);
    }
    Ok(Done::Passed(String::new()))
}

fn fuzz_long(context: &Context) -> Result<Done> {
    Ok(Done::Passed(fuzz::bounded(&context.workspace, 60)?))
}
