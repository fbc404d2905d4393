//! `cargo xtask lab`: our protocols and drivers against the Linux kernel and the usual tools, in
//! network namespaces of their own.
//!
//! The check runs this program again inside new namespaces, where nothing is but what it makes, and
//! which are gone with the last process in them. Every process there is killed by the kernel when the
//! one that started it ends, however that comes: so nothing is left even after Ctrl-C. Whoever is root
//! gets such namespaces at once, everybody else inside a user namespace, where they may make devices,
//! but not use BPF; what needs that is left out, with the reason, and a CI machine must not leave
//! anything out.
//!
//! # The hosts
//! `lab-a` with the device `lab-a0`, 10.77.0.1, fd77::1 and fe80::ff:fe4d:1; `lab-b` with `lab-b0`,
//! 10.77.0.2, fd77::2 and fe80::ff:fe4d:2; and so on. Link addresses are 02:00:00:4d:00:01, …02.
//! Addresses can be used at once; nobody is told his neighbours. A test that requires the feature
//! `lab` (see [`programs`]) finds a new lab around it, which it may damage as it likes, and is root
//! there. `ip netns exec lab-a …` runs a program in a host. A thread enters one by
//! `rustix::thread::move_into_link_name_space` with the file `/run/netns/lab-a`; let it be a thread
//! made for that, since it does not come back, and the tests all run on one. A socket belongs to the
//! host in which it was made, whoever uses it afterwards: to make it there is all that the thread must
//! do.

mod by_hand;
mod capture;
mod hosts;
mod private;
mod programs;
mod shape;
mod soak;
mod tap;
mod tools;
mod trial;
mod world;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::bench::{How, Programs};
use crate::process::{self, Said};
use crate::steps::{Context, Done};
use private::Entrance;
use shape::Shape;
pub use soak::{Args as SoakArgs, run as soak};

/// How long the measurements of all rounds may take.
const BENCH_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Make all the checks, as without any word; needs no root, but does less without
    Check {
        /// Make this part's only: `protocols`, `hosts`, `soak`, or the name of a driver's crate
        #[arg(long, value_name = "PART")]
        only: Option<String>,
    },
    /// Make the lab's hosts, to try something by hand; a lab that is there is kept if it is the same
    Up(Shape),
    /// Remove the lab's hosts
    Down,
    /// Say which hosts there are
    Status,
    /// Run a command in a host
    Exec {
        /// `a` or `lab-a`
        host: String,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Inside the namespaces
    #[command(subcommand, hide = true)]
    Inside(Inside),
}

/// What a check does inside its namespaces.
#[derive(clap::Subcommand)]
enum Inside {
    Protocols {
        program: PathBuf,
        captures: PathBuf,
    },
    Hosts,
    Bench {
        /// Which table
        table: String,
        #[command(flatten)]
        how: How,
        #[command(flatten)]
        programs: Programs,
    },
    Program {
        #[command(flatten)]
        shape: Shape,
        program: PathBuf,
    },
    Soak {
        program: PathBuf,
        transport: String,
        seconds: u64,
        seed: u64,
    },
}

/// Does what was asked for, which is the check if it was nothing.
pub fn run(args: &Args) -> Result<()> {
    match &args.task {
        None => check_by_hand(None),
        Some(Task::Check { only }) => check_by_hand(only.as_deref()),
        Some(Task::Up(shape)) => by_hand::up(shape),
        Some(Task::Down) => by_hand::down(),
        Some(Task::Status) => by_hand::status(),
        Some(Task::Exec { host, command }) => by_hand::exec(host, command),
        Some(Task::Inside(Inside::Protocols { program, captures })) => {
            tap::inside(program, captures)
        }
        Some(Task::Inside(Inside::Hosts)) => trial::inside(),
        Some(Task::Inside(Inside::Bench { table, how, programs })) => {
            bench_inside(table, programs, how)
        }
        Some(Task::Inside(Inside::Program { shape, program })) => programs::inside(shape, program),
        Some(Task::Inside(Inside::Soak { program, transport, seconds, seed })) => {
            soak::inside(program, transport, *seconds, *seed)
        }
    }
}

fn check_by_hand(only: Option<&str>) -> Result<()> {
    crate::packages::provide()?;
    match check_parts(&Context::load()?, only)? {
        Done::Passed(note) => println!("{note}"),
        Done::Skipped(why) => bail!("{why}"),
    }
    Ok(())
}

/// Whether there can be hosts to measure between.
///
/// # Errors
/// Where this process is not root, whom BPF needs.
pub fn can_bench() -> Result<()> {
    if !Entrance::find()?.root {
        bail!("AF_XDP is measured along, for which one must be root: run this with sudo");
    }
    Ok(())
}

/// Measures one of the Speed tables between the hosts of a lab of its own.
///
/// # Errors
/// Those of [`can_bench`].
pub fn bench(table: &str, programs: &Programs, how: &How) -> Result<()> {
    can_bench()?;
    let mut command = Entrance::find()?.inside()?;
    command.args(["bench", table]).args(how.args()).args(programs.paths());
    process::run(&mut command, BENCH_LIMIT).map(drop)
}

fn bench_inside(table: &str, programs: &Programs, how: &How) -> Result<()> {
    private::furnish()?;
    hosts::up(&Shape::read([])?)?;
    // Simulated networks are made of Unix sockets here, whose queues are to be as long as a network's.
    fs::write("/proc/sys/net/unix/max_dgram_qlen", "1024").context("a queue cannot be longer")?;
    crate::bench::between_hosts(table, programs, how)
}

/// Takes XDP programs away that a run has left at the first two hosts' interfaces.
pub fn detach() -> Result<()> {
    for host in ["lab-a", "lab-b"] {
        hosts::run(&format!("ip -n {host} link set {host}0 xdp off"))?;
    }
    Ok(())
}

/// The check `lab`.
pub fn check(context: &Context) -> Result<Done> {
    check_parts(context, None)
}

fn check_parts(context: &Context, only: Option<&str>) -> Result<Done> {
    let workspace = &context.workspace;
    let crates = programs::find(workspace)?;
    if crates.is_empty() {
        bail!("no crate has a feature `lab`: the drivers' tests in the lab got lost");
    }
    let mut parts = vec!["protocols", "hosts", "soak"];
    parts.extend(crates.iter().map(|krate| krate.name.as_str()));
    if let Some(unknown) = only.filter(|only| !parts.contains(only)) {
        bail!("the lab has no part {unknown}; it has {}", parts.join(", "));
    }
    parts.retain(|part| only.is_none_or(|only| only == *part));
    let entrance = match Entrance::find() {
        Ok(entrance) => entrance,
        Err(why) => return Ok(Done::Skipped(format!("{why:#}"))),
    };
    let (mut made, features) = (Vec::new(), programs::features(&crates));
    for part in parts {
        println!("--> {part}");
        let done = match part {
            "protocols" => tap::check(workspace, &entrance)?,
            "hosts" => trial::check(&entrance)?,
            "soak" => soak::check(workspace, &entrance)?,
            name => match crates.iter().find(|krate| krate.name == name) {
                Some(krate) => krate.check(workspace, &features, &entrance)?,
                None => bail!("there is no part {name}"),
            },
        };
        made.push((part, done));
    }
    Ok(sum(&made, context.ci))
}

/// What the parts come to. Where nothing may be left out, something left out is the result.
fn sum(parts: &[(&str, Done)], ci: bool) -> Done {
    let (mut held, mut left_out) = (Vec::new(), Vec::new());
    for (part, done) in parts {
        match done {
            Done::Passed(note) => held.push(format!("{part}: {note}")),
            Done::Skipped(why) => left_out.push(format!("LEFT OUT {part}: {why}")),
        }
    }
    if held.is_empty() || (ci && !left_out.is_empty()) {
        return Done::Skipped(left_out.join("; "));
    }
    held.extend(left_out);
    Done::Passed(held.join("; "))
}

/// How many checks a part made, which prints a line for each.
///
/// # Errors
/// When they are fewer than they should be.
fn count(said: &Said, fewest: usize) -> Result<usize> {
    let checks = said.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    if checks < fewest {
        bail!("only {checks} checks of {fewest} were made");
    }
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &str) -> Option<Task> {
        Cli::try_parse_from(line.split(' ').filter(|word| !word.is_empty())).ok()?.args.task
    }

    #[test]
    fn no_word_asks_for_the_check_and_a_command_begins_behind_dashes() {
        assert!(Cli::try_parse_from([] as [&str; 0]).is_ok_and(|cli| cli.args.task.is_none()));
        let up = parsed("up --hosts 3 --mtu 9000");
        assert!(matches!(up, Some(Task::Up(Shape { hosts: 3, queues: 2, mtu: 9000, .. }))));
        let exec = parsed("exec b -- ping -c 1 10.77.0.1");
        assert!(
            matches!(exec, Some(Task::Exec { host, command }) if host == "b" && command.len() == 4)
        );
        for wrong in ["exec b", "exec b ping", "up --hosts 1", "check --only", "nothing"] {
            assert!(parsed(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn what_is_left_out_is_said_and_not_allowed_in_ci() {
        let parts = |other| [("hosts", Done::Passed("9 checks".into())), ("xdp", other)];
        let skipped = || parts(Done::Skipped("no root".into()));
        let passed = || parts(Done::Passed("3 passed".into()));
        let note = |done| match done {
            Done::Passed(note) => (true, note),
            Done::Skipped(why) => (false, why),
        };
        assert_eq!(
            note(sum(&skipped(), false)),
            (true, "hosts: 9 checks; LEFT OUT xdp: no root".into())
        );
        assert_eq!(note(sum(&skipped(), true)), (false, "LEFT OUT xdp: no root".into()));
        assert_eq!(note(sum(&passed(), true)), (true, "hosts: 9 checks; xdp: 3 passed".into()));
        assert!(!note(sum(&skipped()[1..], false)).0);
    }

    #[test]
    fn a_part_that_made_too_few_checks_is_refused() {
        let said = |stdout: &str| Said { tally: Default::default(), stdout: stdout.into() };
        assert_eq!(count(&said("ok one\nnot ok\nok two\n"), 2).expect("two"), 2);
        assert!(count(&said("ok one\n"), 2).is_err());
    }
}
