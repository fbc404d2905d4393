//! `cargo xtask soak`: channels between the lab's hosts under kills, and whether every packet is accounted
//! for. What is done and how it is counted stands in `drivers/examples/soak`. A short one is a part of the
//! lab's check.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::hosts::up;
use super::private::{Entrance, furnish};
use super::shape::Shape;
use crate::process::run as run_to_end;
use crate::steps::Done;
use crate::test::{LIMIT, passed};
use crate::workspace::Workspace;

const NAME: &str = "soak";
/// Of the short one, for each transport.
const SECONDS: u64 = 6;
const SHORT_LIMIT: Duration = Duration::from_secs(60);
const TRANSPORTS: [&str; 3] = ["udp", "xdp", "xdp-native"];

#[derive(clap::Args)]
pub struct Args {
    /// How long, for each transport
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// What carries the channels: `udp`, `xdp` (behind the generic hook) or `xdp-native`; all in turn if
    /// none is named
    #[arg(long, value_parser = TRANSPORTS)]
    transport: Option<String>,
    /// What happens when is determined by it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// As long as one likes, by hand.
pub fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::load()?;
    let entrance = Entrance::find()?;
    if !entrance.root {
        bail!("it uses AF_XDP and BPF, which want the rights of root: run it with sudo");
    }
    let program = build(&workspace)?;
    let chosen = args.transport.as_deref();
    for transport in TRANSPORTS.into_iter().filter(|one| chosen.is_none_or(|it| it == *one)) {
        println!("{transport}, seed {}", args.seed);
        let mut command = command(&entrance, &program, transport, args.minutes * 60, args.seed)?;
        // On the terminal itself, for the bar.
        let status = command.status().context("the lab could not be entered")?;
        if !status.success() {
            bail!("the accounts of {transport} with seed {} do not add up", args.seed);
        }
    }
    Ok(())
}

/// The part of the lab's check.
pub fn check(workspace: &Workspace, entrance: &Entrance) -> Result<Done> {
    if !entrance.root {
        return Ok(Done::Skipped(
            "it wants the rights of root outside any user namespace, which AF_XDP and BPF need: run \
             this as root"
                .into(),
        ));
    }
    let program = build(workspace)?;
    for transport in TRANSPORTS {
        let said =
            run_to_end(&mut command(entrance, &program, transport, SECONDS, 1)?, SHORT_LIMIT)?;
        if !said.stdout.contains(", adds up") {
            bail!("{transport}: no round was made");
        }
    }
    passed(format!("{} transports add up under kills", TRANSPORTS.len()))
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut build = workspace.cargo(["build", "--release", "-p", "drivers", "--example", NAME]);
    run_to_end(&mut build, LIMIT)?;
    Ok(workspace.target.join("release/examples").join(NAME))
}

fn command(
    entrance: &Entrance,
    program: &Path,
    transport: &str,
    seconds: u64,
    seed: u64,
) -> Result<Command> {
    let mut command = entrance.inside()?;
    command.arg(NAME).arg(program).arg(transport);
    command.args([seconds, seed].map(|number| number.to_string()));
    Ok(command)
}

/// Inside the namespaces: makes the lab, and becomes the judge.
pub fn inside(program: &Path, transport: &str, seconds: u64, seed: u64) -> Result<()> {
    furnish()?;
    up(&Shape::read([])?)?;
    let words = [transport.to_owned(), seconds.to_string(), seed.to_string()];
    let error = Command::new(program).arg("judge").args(words).exec();
    Err(error).with_context(|| format!("{} could not be started", program.display()))
}
