//! The agent as a daemon.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use unetd::{Agent, Policy};

/// Lends network devices to processes that distrust each other, by a policy.
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  unetd --config /etc/unetd.toml --check     say whether the policy is valid, and where not
  unetd --config /etc/unetd.toml             run; the log goes to standard error
  kill -HUP $(pidof unetd)                   read the policy anew; a bad one changes nothing

Exit codes: 0 done, 1 it could not start, 2 bad arguments or a bad policy."
)]
struct Arguments {
    /// The policy.
    #[arg(long, value_name = "FILE", default_value = "/etc/unetd.toml")]
    config: PathBuf,
    /// Read the policy, say what is wrong with it, and end.
    #[arg(long)]
    check: bool,
    /// Stay in the foreground, which it does anyway: for unit files that say so.
    #[arg(long)]
    foreground: bool,
    /// Log refusals and the like too.
    #[arg(long, short)]
    verbose: bool,
}

/// How long a turn waits where nothing happens: signals are looked at in between.
const TURN: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let policy = match read(&arguments.config) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("unetd: {error}");
            return ExitCode::from(2);
        }
    };
    if arguments.check {
        println!("{} is valid", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    log(arguments.verbose);
    match run(&arguments, policy) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn log(verbose: bool) {
    let level = if verbose { tracing::Level::DEBUG } else { tracing::Level::INFO };
    // The journal has a clock of its own.
    let log = tracing_subscriber::fmt().with_max_level(level).without_time();
    log.with_ansi(false).with_writer(std::io::stderr).init();
}

fn read(path: &PathBuf) -> Result<Policy, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    Policy::parse(&text).map_err(|error| format!("{shown}: {error}"))
}

fn run(arguments: &Arguments, policy: Policy) -> Result<(), Box<dyn std::error::Error>> {
    let (stop, reload) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    signal_hook::flag::register(SIGHUP, reload.clone())?;
    let names = policy.names.join(", ");
    let mut agent = Agent::start(policy, drivers::linked())?;
    tracing::info!(%names, config = %arguments.config.display(), "ready");
    while !stop.load(Ordering::Relaxed) {
        if reload.swap(false, Ordering::Relaxed) {
            match read(&arguments.config) {
                Ok(policy) => {
                    let closed = agent.reload(policy);
                    tracing::info!(closed, "the new policy is in force");
                }
                Err(error) => tracing::error!("the old policy stays in force: {error}"),
            }
        }
        agent.turn(TURN);
    }
    tracing::info!("told to stop: every channel is closed");
    Ok(())
}
